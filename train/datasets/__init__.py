"""Readers of the paper's data sets and their official splits."""
