"""Sample photographs anyone may use."""
