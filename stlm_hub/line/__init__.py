"""On the line: photographs from a folder, a camera or a video -> one row each, sinks, and a word when they drift."""
