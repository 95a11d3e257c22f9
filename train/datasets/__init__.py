"""Readers of the paper's data sets and their splits; each gives back a `category.Category`."""
