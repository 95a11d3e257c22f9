"""On the line: photographs of a folder, camera or video get one row each, in a journal and sinks; drift is reported."""
