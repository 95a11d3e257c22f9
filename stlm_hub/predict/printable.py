"""Text from outside, made safe to print in an error."""

from __future__ import annotations


def printable(text: str) -> str:
    """Text from outside made safe to print: one line, no control characters, at most 200 characters."""
    return "".join(char if char.isprintable() else "?" for char in text[:200])


def reason(error: Exception) -> str:
    """The message of an error, safe to print."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return printable(text or type(error).__name__).rstrip(".")
