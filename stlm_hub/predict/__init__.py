"""From untrusted bytes to a verdict."""
