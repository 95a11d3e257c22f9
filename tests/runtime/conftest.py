"""Tests of this room share an export of the toy model."""

from exported import exported

__all__ = ["exported"]
