"""Scores of good photographs to a threshold and scales."""
