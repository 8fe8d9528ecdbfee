"""A figure of every run as a dot beside its bar, drawn as SVG, and the same in words."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from splitlab.course.comparisons import Comparison

WIDTH, MARGIN = 320, 12  # in the units of the drawing, about a pixel each
ROW, LEAST_ROW, MOST_HEIGHT = 14.0, 4.0, 240.0
AXIS = 20  # the height of the axis with its labels
LARGEST = 1e100  # figures beyond it are said, not drawn


@dataclass(frozen=True, slots=True)
class Point:
    """The comparison as it came out in one run.

    Attributes:
        run: The run, in words.
        comparison: What was compared.
    """

    run: str
    comparison: Comparison


def title(comparison: Comparison) -> str:
    """What is compared, such as ``matched >= 0.95``."""
    return f"{comparison.figure} {comparison.operator} {comparison.bar_text}"


def held(points: Sequence[Point]) -> tuple[int, int]:
    """In how many runs the comparison is true, and in how many it was made.

    A run that makes it several times, in a loop, counts once, and only if it is true each time.
    """
    runs = {point.run for point in points}
    return len(runs - {point.run for point in points if not point.comparison.holds}), len(runs)


def sentence(points: Sequence[Point]) -> str:
    """The numbers of the drawing: the range of the figure, and of the bar."""
    values = _range([point.comparison.value for point in points])
    bars = _range([point.comparison.bar for point in points])
    return f"Figure {values}, bar {bars}."


def misses(points: Sequence[Point]) -> str:
    """The runs in which the comparison is false, with their numbers; "" if there are none."""
    return "; ".join(_told(point) for point in points if not point.comparison.holds)


def drawing(points: Sequence[Point]) -> str:
    """Draw one row for each run: its figure as a dot, and the bar as a vertical line.

    A filled disk is a figure whose comparison is true, a hollow diamond one whose is false. Where
    it would be true, the ground is shaded.

    Returns:
        An ``svg`` element, "" if no figure has a place on an axis, such as those that are nan.
    """
    drawn = [p for p in points if _has_place(p.comparison.value)]
    if not drawn:
        return ""
    bars = [p.comparison.bar for p in drawn if _has_place(p.comparison.bar)]
    low, high, digits = _axis([p.comparison.value for p in drawn] + bars)
    row = min(ROW, max(LEAST_ROW, MOST_HEIGHT / len(drawn)))
    height = row * len(drawn)

    def x(value: float) -> float:
        return MARGIN + (value - low) / (high - low) * (WIDTH - 2 * MARGIN)

    parts, top = [], 0.0
    for bar, rows in itertools.groupby(drawn, lambda point: point.comparison.bar):
        below = top + row * len(list(rows))
        if _has_place(bar):
            parts += _bar(x(bar), top, below, drawn[0].comparison.operator)
        top = below
    for number, point in enumerate(drawn):
        parts.append(_dot(point, x(point.comparison.value), (number + 0.5) * row, row))
    parts.append(_element("line", "axis", x1=0, x2=WIDTH, y1=height, y2=height))
    for value, at, anchor in ((low, 0, "start"), (high, WIDTH, "end")):
        tick = x(value)
        parts.append(_element("line", "axis", x1=tick, x2=tick, y1=height, y2=height + 4))
        parts.append(
            f'<text x="{at}" y="{height + AXIS - 4:.4g}" text-anchor="{anchor}">'
            f"{number_text(value, digits)}</text>"
        )
    return (
        f'<svg viewBox="0 0 {WIDTH} {height + AXIS:.4g}" role="img" '
        f'aria-label="{escape(_spoken(points))}">{"".join(parts)}</svg>'
    )


def number_text(value: float, digits: int = 3) -> str:
    """A number with at least three digits, such as 0.95, 12,345 or 1e-05."""
    if not math.isfinite(value):
        return str(value)
    if float(value).is_integer() and abs(value) < 1e7:
        return f"{int(value):,}"
    return f"{float(f'{value:.{digits}g}'):,}".removesuffix(".0")


def _told(point: Point) -> str:
    """A run with its numbers, with so many digits that figure and bar differ where they do."""
    one = point.comparison
    for digits in range(3, 18):
        value, bar = number_text(one.value, digits), number_text(one.bar, digits)
        if value != bar or one.value == one.bar:
            break
    return f"{point.run}: {value} (bar {bar})"


def _range(values: Sequence[float]) -> str:
    finite = sorted(value for value in values if math.isfinite(value))
    texts = list(dict.fromkeys(number_text(value) for value in (*finite[:1], *finite[-1:])))
    others = sorted({str(value) for value in values if not math.isfinite(value)})
    return " and ".join(filter(None, (" to ".join(texts), *others)))


def _spoken(points: Sequence[Point]) -> str:
    """What a drawing shows, for those who do not see it."""
    true, made = held(points)
    text = f"{title(points[0].comparison)} holds in {true} of {made} runs. {sentence(points)}"
    missed = misses(points)
    return f"{text} It does not hold at {missed}." if missed else text


def _has_place(value: float) -> bool:
    """Whether an axis can show a number: nan and inf have no place, nor has what is near inf."""
    return abs(value) < LARGEST


def _axis(values: Sequence[float]) -> tuple[float, float, int]:
    """The ends of an axis, round numbers with all values between them; the digits they need."""
    low, high = min(values), max(values)
    size = max(abs(low), abs(high))
    span = high - low
    if span <= 1e-9 * size or span < 1 / LARGEST:  # as good as equal
        span = size if size > 1 / LARGEST else 1.0
    step = 10.0 ** math.floor(math.log10(span / 2))
    low, high = (
        step * math.floor((low - span / 20) / step),
        step * math.ceil((high + span / 20) / step),
    )
    return low, high, max(3, math.ceil(math.log10(max(abs(low), abs(high)) / step)) + 1)


def _bar(at: float, top: float, below: float, operator: str) -> list[str]:
    """The bar of some rows, over the shaded side on which the comparison is true."""
    sides = {"<": (0.0, at), ">": (at, WIDTH - at)}
    parts = []
    if operator[0] in sides:
        left, width = sides[operator[0]]
        parts.append(_element("rect", "true", x=left, y=top, width=width, height=below - top))
    return [*parts, _element("line", "bar", x1=at, x2=at, y1=top, y2=below)]


def _dot(point: Point, at: float, middle: float, row: float) -> str:
    told = f"<title>{escape(_told(point))}</title>"  # shown where the pointer rests on it
    if point.comparison.holds:
        return _element("circle", "holds", told, cx=at, cy=middle, r=min(4.0, row / 2))
    size = min(5.5, row)
    corners = f"M{at:.4g} {middle - size:.4g}l{size} {size} {-size} {size} {-size} {-size}z"
    return f'<path class="misses" d="{corners}">{told}</path>'


def _element(tag: str, kind: str, inside: str = "", **numbers: float) -> str:
    given = " ".join(f'{name}="{value:.4g}"' for name, value in numbers.items())
    return f'<{tag} class="{kind}" {given}>{inside}</{tag}>'
