"""Masks as sharp as Segment Anything draws them, and detectors that need few photographs of good parts or none."""
