"""Checks of the numbers that a defense is made with."""

from __future__ import annotations


def number(name: str, value: object, *, above: bool = False) -> float:
    """Return a finite number of at least 0, or above 0; else raise a ValueError."""
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not 0 <= value < float("inf")
        or (above and value == 0)
    ):
        raise ValueError(
            f"{name} is {value!r}: choose a finite number {'above 0' if above else 'of at least 0'}"
        )
    return float(value)


def count(name: str, value: object, *, least: int) -> int:
    """Return a whole number of at least `least`; else raise a ValueError."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} is {value!r}: choose a whole number of at least {least}")
    return value


def chance(name: str, value: object) -> float:
    """Return a number between 0 and 1, without these two; else raise a ValueError."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1:
        raise ValueError(f"{name} is {value!r}: choose a chance between 0 and 1, such as 1e-5")
    return float(value)
