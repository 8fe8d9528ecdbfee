"""The figures of a verdict: what its asserts compare, and with which values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Comparison:
    """One comparison of two numbers in an assert of a verdict cell, as it came out in a run.

    Attributes:
        figure: The expression whose value is the figure, such as ``matched``.
        value: The figure.
        operator: One of ``<``, ``<=``, ``>``, ``>=``, ``==``, ``!=``.
        bar: What the figure is compared with.
        bar_text: The expression for that, such as ``0.95``.
        holds: Whether the comparison is true.
    """

    figure: str
    value: float
    operator: str
    bar: float
    bar_text: str
    holds: bool
