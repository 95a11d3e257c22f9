"""Synthetic defects on photographs of good parts."""
