"""Counts and shares as people read them, the same everywhere: "1 photograph", "2 photographs", "36 %"."""

from __future__ import annotations


def number_of(n: int, one: str, several: str = "") -> str:
    """A count and what is counted.

    Args:
        n: 0 or more.
        one: the noun for one, e.g. "photograph".
        several: the noun for any other number; "": `one` with an s.
    """
    return f"{n} {one if n == 1 else several or one + 's'}"


def percent(fraction: float) -> str:
    """A share in [0, 1] with two digits, or with all that stand before the point: "0.53 %", "36 %", "100 %"."""
    value = 100 * fraction
    return f"{value:.2g} %" if value < 10 else f"{value:.0f} %"
