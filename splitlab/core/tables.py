"""Small tables that read well in a notebook, in a terminal and with a screen reader."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

LARGE, SMALL = 1e5, 1e-3  # from the one on, and below the other, in scientific notation


@dataclass(frozen=True)
class Spread:
    """A number and its range, which a page shows below the number in small type.

    Attributes:
        middle: The figure, as text.
        low: The smallest, as text.
        high: The largest, as text.
    """

    middle: str
    low: str
    high: str

    def __str__(self) -> str:
        return f"{self.middle} ({self.low} to {self.high})"

    def _repr_html_(self) -> str:
        middle, low, high = map(_unbroken, (self.middle, self.low, self.high))
        return f'{middle}<br><small style="font-size:0.75em">{low} … {high}</small>'


@dataclass(frozen=True)
class Table:
    """A table with column headings; the first cell of a row is its heading.

    Under a head, numbers stand to the right and columns of words to the left.

    Attributes:
        head: Names of the columns; empty for a table of two columns without a head.
        rows: Cells, as many in each row as there are columns. Floats show three decimals,
            or one from 10 on; very large and very small ones show as 1.2e6; a `Spread` shows its
            range, too.
        caption: One line of text.
        strong: Number of the row to emphasize, if any.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    strong: int | None = None

    def __str__(self) -> str:
        lines = [[_text(cell) for cell in row] for row in self.rows]
        if self.head:
            lines.insert(0, list(self.head))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        right = self._right()
        text = "\n".join(
            "  ".join(
                cell.rjust(width) if flush else cell.ljust(width)
                for flush, cell, width in zip(right, line, widths, strict=True)
            ).rstrip()
            for line in lines
        )
        return f"{self.caption}\n{text}" if self.caption else text

    __repr__ = __str__

    def _repr_html_(self) -> str:
        caption = f"<caption>{html.escape(self.caption)}</caption>" if self.caption else ""
        align = ["right" if flush else "left" for flush in self._right()]
        head = "".join(
            f'<th scope="col" style="text-align:{side};'
            f'padding:0.1em 0.4em">{html.escape(name)}</th>'
            for side, name in zip(align, self.head, strict=False)
        )
        head = f"<thead><tr>{head}</tr></thead>" if head else ""
        body = "".join(self._row(number, row, align) for number, row in enumerate(self.rows))
        return f'<table class="splitlab">{caption}{head}<tbody>{body}</tbody></table>'

    def _right(self) -> list[bool]:
        """Return for each column whether its cells are aligned right, as those with digits are."""
        columns = zip(*(self.rows or [self.head]), strict=True)
        figures = [any(map(str.isdigit, "".join(map(_text, column)))) for column in columns]
        return [bool(self.head) and number > 0 and has for number, has in enumerate(figures)]

    def _row(self, number: int, row: Sequence[Any], align: Sequence[str]) -> str:
        first, *others = (
            cell._repr_html_() if isinstance(cell, Spread) else _unbroken(_text(cell))
            for cell in row
        )
        weight = "bold" if number == self.strong else "normal"
        cells = "".join(
            f'<td style="text-align:{side};padding:0.1em 0.4em">{cell}</td>'
            for side, cell in zip(align[1:], others, strict=True)
        )
        return (
            f'<tr style="font-weight:{weight}">'
            f'<th scope="row" style="text-align:left">{first}</th>{cells}</tr>'
        )


def numbers(*values: float) -> list[str]:
    """Format the numbers of one cell, such as a value and its range, all in the same style.

    Where the largest is large, or the middle one small (1e5, 1e-3), all are in scientific notation;
    else they have three decimals, or none where they are counts or from 10 on. Counts are never in
    scientific notation.
    """
    counts = all(isinstance(value, int) for value in values)
    if not counts and _is_scientific(values):
        return [_scientific(value) for value in values]
    decimals = 0 if counts or min(values) >= 10 else 3
    return [f"{value:{_comma(values)}.{decimals}f}" for value in values]


def _unbroken(text: str) -> str:
    """Escape a text for a page, and keep a number such as 1.8e-16 on one line."""
    escaped = html.escape(text)
    is_number = "e-" in text and text.replace("e-", "").replace(".", "").lstrip("-").isdigit()
    return f'<span style="white-space:nowrap">{escaped}</span>' if is_number else escaped


def _text(cell: Any) -> str:
    if isinstance(cell, float):
        if _is_scientific([cell]):
            return _scientific(cell)
        return f"{cell:.3f}" if abs(cell) < 10 else f"{cell:{_comma([cell])}.1f}"
    if isinstance(cell, int) and not isinstance(cell, bool):
        return f"{cell:{_comma([cell])}}"
    return str(cell)


def _is_scientific(values: Sequence[float]) -> bool:
    largest = max(map(abs, values))
    return largest >= LARGE or 0 < (abs(median(values)) or largest) < SMALL


def _scientific(value: float) -> str:
    mantissa, e, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa}e{int(exponent)}" if e and value else f"{value:g}"  # 0, inf and nan


def _comma(values: Sequence[float]) -> str:
    """Return the thousands separator if a number has five digits."""
    return "," if max(map(abs, values)) >= 10_000 else ""
