"""Heatmaps, outlines and panels."""
