"""Figures for the pages: rows of images, curves, bands and dots.

Notebooks find all drawings here: those of `splitlab.show.pictures` and `splitlab.show.sequences`
are offered, too.
"""

import itertools
from collections.abc import Collection, Mapping, Sequence
from math import isfinite
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from torch import Tensor

from splitlab.arguments import described, ends, reals
from splitlab.show.pictures import (
    PARTY,
    WIDTH,
    Frame,
    Picture,
    check_images,
    color_of,
    draw_row,
    img,
    png,
    show,
)
from splitlab.show.sequences import frames, planes, thresholds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "PARTY",
    "Frame",
    "Picture",
    "bands",
    "curves",
    "dots",
    "frames",
    "img",
    "planes",
    "png",
    "show",
    "strip",
    "strips",
    "thresholds",
]

_MARKERS: Final = ("o", "s", "x", "^", "D", "+")
_LINES: Final = ("-", "--", ":", "-.")


def strip(
    rows: Mapping[str, Tensor], *, value_range: tuple[float, float] | None = None
) -> "Figure":
    """Draw rows of small images, one row for each label.

    Args:
        rows: Label -> images (n, C, H, W) with one or three channels; the same n in every row.
            Blanks at the end of a label are not drawn: they let two rows read the same.
        value_range: The smallest and largest value that a pixel can take; None for rows that are
            no images (channels of z, say): each is then drawn from its own smallest value, black,
            to its largest.

    Raises:
        TypeError: If `rows` is no dictionary of tensors.
        ValueError: If it is empty, or a row has other images than (n, C, H, W) of one n.
    """
    import matplotlib.pyplot as plt

    _check_labeled("rows", rows)
    if not rows:
        raise ValueError("rows is empty: pass at least one label with its images")
    for label, images in rows.items():
        check_images(f"row {label!r}", images)
    if len({len(images) for images in rows.values()}) > 1:
        counts = ", ".join(f"{label.strip()} {len(images)}" for label, images in rows.items())
        raise ValueError(f"rows have different numbers of images, {counts}: pass the same number")
    if value_range is not None:
        value_range = ends(value_range)
    first = next(iter(rows.values()))
    count = len(first)
    label = 0.08 * max(len(label.strip()) for label in rows)  # about as wide, in inches
    row = min(0.85, (WIDTH - label) * first.shape[-2] / (count * (first.shape[-1] + 2)))
    size = (WIDTH, (row + 0.06) * len(rows) + 0.1)
    figure, axes = plt.subplots(
        len(rows), 1, figsize=size, squeeze=False, layout="compressed"
    )  # compressed: constrained, and room for the labels of axes that keep the images square
    for axis, (label, images) in zip(axes[:, 0], rows.items(), strict=True):
        low, high = value_range or (float(v) for v in images[:count].aminmax())
        draw_row(axis, images[:count], (low, high))
        axis.set_ylabel(label.rstrip(), rotation=0, ha="right", va="center", fontsize=9)
    return figure


def strips(
    views: Mapping[str, Mapping[str, Tensor]],
    *,
    alts: Mapping[str, str],
    value_range: tuple[float, float] | None = None,
) -> list[Frame]:
    """Draw one frame of a scrubber for each view, each a `strip`.

    Args:
        views: The slider's label -> rows of images, as `strip` takes them.
        alts: The slider's label -> what that frame shows, for readers who do not see it.
        value_range: As in `strip`.

    Raises:
        ValueError: If a view has no alt text.
    """
    import matplotlib.pyplot as plt

    frames = []
    for label, rows in views.items():
        figure = strip(rows, value_range=value_range)
        drawn = png(figure)
        plt.close(figure)
        frames.append(Frame(drawn, alts.get(label, ""), label))
    return frames


def curves(
    series: Mapping[str, tuple[Sequence[float], Sequence[float], str]],
    *,
    xlabel: str,
    ylabel: str,
    log: bool = False,
    log_x: bool = False,
    points: Collection[str] = (),
) -> "Figure":
    """Draw one line for each label.

    Args:
        series: Label -> (x values, y values, party); the party gives color and line style, and
            each further line of the same party is drawn thinner. The party "" means none: such
            lines are gray and differ in their markers.
        xlabel: What x is, with its unit.
        ylabel: What y is, with its unit.
        log: Whether y is on a logarithmic scale.
        log_x: Whether x is, too.
        points: Labels drawn as open circles without a line, which hide no line that they lie on.

    Raises:
        ValueError: If `points` names a label that is not in `series`, there is no such party, or
            a line has another number of x than of y values.
    """
    import matplotlib.pyplot as plt

    _check_labeled("series", series)
    for label, (x, y, _) in series.items():
        if len(reals(f"x of {label!r}", x)) != len(reals(f"y of {label!r}", y)):
            raise ValueError(f"{label!r} has {len(x)} x and {len(y)} y values: pass one y for each")
    listed = isinstance(points, list | tuple | set | frozenset | dict)
    if not listed or not all(isinstance(point, str) for point in points):
        raise TypeError(f"points is {described(points)}: pass a list of labels")
    if unknown := set(points) - set(series):
        raise ValueError(f"points names {min(unknown)!r}, which is none of {', '.join(series)}")
    figure, axis = plt.subplots(figsize=(WIDTH, 3.4), layout="constrained")
    drawn: dict[str, int] = {}
    for label, (x, y, party) in series.items():
        color, width = color_of(party), 2.0 / (1 + drawn.get(party, 0))
        drawn[party] = drawn.get(party, 0) + 1
        if label in points:
            axis.plot(x, y, "o", label=label, color=color, fillstyle="none", zorder=3)
        elif party:
            axis.plot(x, y, label=label, linewidth=width, **PARTY[party])
        else:
            marker = _MARKERS[(drawn[party] - 1) % len(_MARKERS)]
            axis.plot(x, y, label=label, linewidth=1, color="#707070", marker=marker)
    scales = {"xscale": "log" if log_x else "linear", "yscale": "log" if log else "linear"}
    axis.set(xlabel=xlabel, ylabel=ylabel, **scales)
    _legend(figure)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def bands(
    series: Mapping[str, tuple[Sequence[float], Sequence[Sequence[float]], str]],
    *,
    xlabel: str,
    ylabel: str,
    floors: Mapping[str, float] | None = None,
) -> "Figure":
    """Draw the median of several runs for each label, and a band from the lowest to the highest.

    Args:
        series: Label -> (x values, one row of y values for each run, party); the party is as in
            `curves`, and medians of the party "" have markers.
        xlabel: What x is, with its unit.
        ylabel: What y is, with its unit.
        floors: Label -> height of a thin dotted line.

    Raises:
        ValueError: If a label has no run, or a run another number of values than there are x; or
            if there is no such party.
    """
    import matplotlib.pyplot as plt

    _check_labeled("series", series)
    if floors is not None:
        _check_labeled("floors", floors)
    for label, (x, runs, party) in series.items():
        color_of(party)
        if not runs or any(len(y) != len(x) for y in runs):
            raise ValueError(f"{label!r} needs at least one run, each with {len(x)} values")
    figure, axis = plt.subplots(figsize=(WIDTH, 3.4), layout="constrained")
    for number, (label, (x, runs, party)) in enumerate(series.items()):
        columns = list(zip(*runs, strict=True))
        no_party = {"color": "#707070", "marker": _MARKERS[number % len(_MARKERS)]}
        style: Mapping[str, Any] = PARTY[party] if party else no_party
        axis.plot(x, [median(column) for column in columns], label=label, **style)
        lowest, highest = map(min, columns), map(max, columns)
        axis.fill_between(
            x, list(lowest), list(highest), color=style["color"], alpha=0.18, linewidth=0
        )
    for label, height in (floors or {}).items():
        axis.axhline(height, color="#a0a0a0", linewidth=1, linestyle=":")
        axis.annotate(
            label, (1, height), xycoords=("axes fraction", "data"), fontsize=8, ha="right"
        )
    axis.set(xlabel=xlabel, ylabel=ylabel)
    _legend(figure)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def dots(
    rows: Mapping[str, Sequence[float]],
    *,
    xlabel: str,
    lines: Mapping[str, float] | None = None,
    parties: Mapping[str, str] | None = None,
    log: bool = False,
) -> "Figure":
    """Draw one row of open circles for each label, with their range and their median.

    Args:
        rows: Label -> one figure for each run, from the top down. A label without figures is a
            heading for the rows below it.
        xlabel: What the figures are, with their unit.
        lines: Label -> where to draw a vertical line, a floor or a reference; they differ in their
            line styles.
        parties: Label -> the party that gives a row its color; gray where it names none.
        log: Whether x is on a logarithmic scale.

    Raises:
        ValueError: If no row has figures, one is not finite or does not fit a logarithmic scale,
            or `parties` names a label that is not in `rows`, or no party.
    """
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter

    _check_labeled("rows", rows)
    for name, labeled in {"lines": lines, "parties": parties}.items():
        if labeled is not None:
            _check_labeled(name, labeled)
    parties = parties or {}
    if unknown := set(parties) - set(rows):
        raise ValueError(f"parties names {min(unknown)!r}, which is none of {', '.join(rows)}")
    for label, values in rows.items():
        color_of(parties.get(label, ""))
        if not all(isfinite(value) and (value > 0 or not log) for value in reals(label, values)):
            raise ValueError(
                f"row {label!r} has a figure that is not finite"
                f"{' and above 0' if log else ''}: leave it out, and say so in the text"
            )
    if not any(len(values) for values in rows.values()):
        raise ValueError("no row has figures: pass label -> the figures of its runs")
    figure, axis = plt.subplots(figsize=(WIDTH, 0.19 * len(rows) + 0.9), layout="constrained")
    for (label, x), style in zip((lines or {}).items(), itertools.cycle(_LINES), strict=False):
        axis.axvline(x, label=label, color="#b0b0b0", linewidth=1, linestyle=style, zorder=1)
    for place, (label, values) in enumerate(rows.items()):
        if not len(values):
            continue
        color = color_of(parties.get(label, ""))
        axis.plot([min(values), max(values)], [place] * 2, color=color, linewidth=1, zorder=2)
        axis.plot(values, [place] * len(values), "o", color=color, fillstyle="none", markersize=4)
        axis.plot(median(values), place, "|", color="black", markersize=9, zorder=4)
    ticks = axis.set_yticks(range(len(rows)), list(rows))
    for tick, values in zip(ticks, rows.values(), strict=True):
        if not len(values):
            tick.label1.set_fontweight("bold")
            tick.tick1line.set_visible(False)
    axis.set(xlabel=xlabel, xscale="log" if log else "linear", ylim=(len(rows) - 0.5, -0.5))
    if log:
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter(NullFormatter())
    axis.tick_params("y", labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    if lines:
        _legend(figure)
    return figure


def _legend(figure: "Figure") -> None:
    """Write a legend below the axes, in two columns where they fit."""
    for columns in (2, 1):
        legend = figure.legend(
            loc="outside lower center", ncols=columns, frameon=False, fontsize=9, columnspacing=1
        )
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def _check_labeled(name: str, labeled: Any) -> None:
    """Refuse what is no dictionary."""
    if not isinstance(labeled, Mapping):
        raise TypeError(
            f"{name} is {described(labeled)}: pass a dictionary, label -> what is drawn"
        )
