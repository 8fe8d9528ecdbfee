"""Pictures with alt text: figures for the pages, frames for the scrubber, one colour per party."""

import base64
import html
import io
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from splitlab.core.observers import Log
    from splitlab.referee.watching import Snapshots

# Okabe and Ito's colours, told apart by readers with the common (red-green) deficiencies, and
# dark enough for lines on white; the line styles tell the parties apart in black and white, too.
# Use: ax.plot(x, y, **PARTY["attacker"], label="attacker").
PARTY: Final[dict[str, dict[str, str]]] = {
    "client": {"color": "#0072B2", "linestyle": "-"},
    "server": {"color": "#404040", "linestyle": "--"},
    "attacker": {"color": "#D55E00", "linestyle": "-."},
    "defender": {"color": "#009E73", "linestyle": ":"},
}

_MARKERS: Final = ("o", "s", "x", "^", "D", "+")
_LINES: Final = ("-", "--", ":", "-.")

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CSS_DPI = 96  # a CSS pixel is 1/96 inch by definition
_DPI = 144  # one and a half times that: sharp on dense screens, small in the page


def _check_alt(alt: str) -> None:
    if not alt.strip():
        raise ValueError("A picture needs alt text: say in one sentence what it shows.")


def _check_png(png: bytes) -> None:
    if not png.startswith(_SIGNATURE):
        raise ValueError("A picture must be PNG bytes; figures.png(figure) makes them.")


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a scrubber.

    Attributes:
        png: the picture, as PNG bytes (see `png`).
        alt: what it shows, for readers who do not see it; not empty.
        label: where in the sequence it stands, such as the step's number.
    """

    png: bytes
    alt: str
    label: str

    def __post_init__(self) -> None:
        _check_png(self.png)
        _check_alt(self.alt)


def png(fig: "Figure", *, colours: int = 64) -> bytes:
    """Draw a matplotlib figure as a PNG with a palette, a quarter of the usual size.

    The same figure gives the same bytes. The figure stays open. A figure without a layout engine
    gets the constrained one, so that no label is cut off.

    Args:
        fig: the figure.
        colours: the size of the palette, 2 to 256.
    """
    if not 2 <= colours <= 256:
        raise ValueError(f"A PNG palette has 2 to 256 colours, not {colours}.")
    if fig.get_layout_engine() is None:
        fig.set_layout_engine("constrained")
    drawn = io.BytesIO()
    # White even where the style asks for none: pages have a dark mode, axes labels do not.
    fig.savefig(drawn, format="png", dpi=_DPI, facecolor="white")
    picture = Image.open(drawn).convert("RGB")
    # No dithering: it would put noise into flat areas and make the file larger.
    small = picture.quantize(colours, dither=Image.Dither.NONE)
    out = io.BytesIO()
    small.save(out, format="PNG", optimize=True, dpi=(_DPI, _DPI))
    return out.getvalue()


def img(png: bytes, alt: str) -> str:
    """An HTML image that carries its own bytes, its size on the page, and its alt text."""
    _check_png(png)
    _check_alt(alt)
    picture = Image.open(io.BytesIO(png))
    dpi = float(picture.info.get("dpi", (_CSS_DPI, _CSS_DPI))[0])
    width, height = (round(side * _CSS_DPI / dpi) for side in picture.size)
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<img alt="{html.escape(alt, quote=True)}" width="{width}" height="{height}" '
        f'style="max-width:100%;height:auto" src="data:image/png;base64,{data}">'
    )


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture for a page: PNG bytes, alt text, and optionally a caption and its run record."""

    png: bytes
    alt: str
    caption: str = ""
    record: str = ""

    def __post_init__(self) -> None:
        _check_png(self.png)
        _check_alt(self.alt)

    def _repr_html_(self) -> str:
        parts = [html.escape(self.caption)] if self.caption else []
        if self.record:
            parts.append(f"<small>(run {html.escape(self.record)})</small>")
        caption = f"<figcaption>{' '.join(parts)}</figcaption>" if parts else ""
        return f'<figure class="splitlab">{img(self.png, self.alt)}{caption}</figure>'

    def __repr__(self) -> str:
        return f"<picture: {self.alt}>"


def show(fig: "Figure", *, alt: str, caption: str = "", record: str = "") -> Picture:
    """Turn a figure into a picture for the page, and close the figure.

    Put it on the last line of a cell. Closing keeps Jupyter from showing the figure a second time.

    Args:
        fig: the matplotlib figure.
        alt: what the picture shows, for readers who do not see it; required.
        caption: a line of text under the picture.
        record: the run record it was drawn from.
    """
    _check_alt(alt)
    import matplotlib.pyplot as plt

    picture = Picture(png(fig), alt, caption, record)
    plt.close(fig)
    return picture


def strip(
    rows: Mapping[str, Tensor], *, value_range: tuple[float, float] | None = None
) -> "Figure":
    """Draw rows of small images, one row for each label.

    Args:
        rows: label -> images (n, C, H, W) with one or three channels; the same n in every row.
            Blanks at the end of a label are not drawn: they let two rows read the same.
        value_range: the smallest and largest value that a pixel can take; None for rows that are
            no images (channels of z, say): each is then drawn from its own smallest value, black,
            to its largest.
    """
    import matplotlib.pyplot as plt

    count = len(next(iter(rows.values())))
    figure, axes = plt.subplots(
        len(rows), 1, figsize=(6.4, 0.85 * len(rows) + 0.1), squeeze=False, layout="compressed"
    )  # compressed: constrained, and room for the labels of axes that keep the images square
    for axis, (label, images) in zip(axes[:, 0], rows.items(), strict=True):
        low, high = value_range or (float(v) for v in images[:count].aminmax())
        _draw_row(axis, images[:count], (low, high))
        axis.set_ylabel(label.rstrip(), rotation=0, ha="right", va="center")
    return figure


def strips(
    views: Mapping[str, Mapping[str, Tensor]],
    *,
    alts: Mapping[str, str],
    value_range: tuple[float, float] | None = None,
) -> list[Frame]:
    """Draw one frame of a scrubber for each view, each a `strip`.

    Args:
        views: the slider's label -> rows of images, as `strip` takes them.
        alts: the slider's label -> what that frame shows, for readers who do not see it.
        value_range: as in `strip`.

    Raises:
        ValueError: if a view has no alt text.
    """
    import matplotlib.pyplot as plt

    frames = []
    for label, rows in views.items():
        figure = strip(rows, value_range=value_range)
        drawn = png(figure)
        plt.close(figure)
        frames.append(Frame(drawn, alts.get(label, ""), label))
    return frames


def _draw_row(axis: "Axes", images: Tensor, value_range: tuple[float, float]) -> None:
    """Draw images (n, C, H, W) side by side, a thin gap between them."""
    low, high = value_range
    padded = F.pad(images.detach().cpu().clamp(low, high), (1, 1, 0, 0), value=high)
    row = torch.cat(list(padded), dim=-1).permute(1, 2, 0)
    scaled = ((row - low) / (high - low)).numpy()
    axis.imshow(scaled if scaled.shape[-1] == 3 else scaled[..., 0], cmap="gray", vmin=0, vmax=1)
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set_visible(False)


def curves(
    series: Mapping[str, tuple[Sequence[float], Sequence[float], str]],
    *,
    xlabel: str,
    ylabel: str,
    log: bool = False,
    points: Collection[str] = (),
) -> "Figure":
    """Draw one line for each label.

    Args:
        series: label -> (x values, y values, party); the party gives colour and line style, and
            each further line of the same party is drawn thinner. The party "" is nobody: such
            lines are grey and told apart by their markers.
        xlabel: what x is, with its unit.
        ylabel: what y is, with its unit.
        log: whether y is on a logarithmic scale.
        points: labels drawn as open circles without a line, which hide no line that they lie on.

    Raises:
        ValueError: if `points` names a label that is not in `series`.
    """
    import matplotlib.pyplot as plt

    if unknown := set(points) - set(series):
        raise ValueError(f"points names {min(unknown)!r}, which is none of {', '.join(series)}")
    figure, axis = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    drawn: dict[str, int] = {}
    for label, (x, y, party) in series.items():
        width = 2.0 / (1 + drawn.get(party, 0))
        drawn[party] = drawn.get(party, 0) + 1
        if label in points:
            colour = PARTY[party]["color"] if party else "#707070"
            axis.plot(x, y, "o", label=label, color=colour, fillstyle="none", zorder=3)
        elif party:
            axis.plot(x, y, label=label, linewidth=width, **PARTY[party])
        else:
            marker = _MARKERS[(drawn[party] - 1) % len(_MARKERS)]
            axis.plot(x, y, label=label, linewidth=1, color="#707070", marker=marker)
    axis.set(xlabel=xlabel, ylabel=ylabel, yscale="log" if log else "linear")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
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
        series: label -> (x values, one row of y values for each run, party); the party is as in
            `curves`, and medians of the party "" have markers.
        xlabel: what x is, with its unit.
        ylabel: what y is, with its unit.
        floors: label -> height of a thin dotted line.

    Raises:
        ValueError: if a label has no run, or a run another number of values than there are x.
    """
    import matplotlib.pyplot as plt

    for label, (x, runs, _) in series.items():
        if not runs or any(len(y) != len(x) for y in runs):
            raise ValueError(f"{label!r} needs at least one run, each with {len(x)} values")
    figure, axis = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for number, (label, (x, runs, party)) in enumerate(series.items()):
        columns = list(zip(*runs, strict=True))
        nobody = {"color": "#707070", "marker": _MARKERS[number % len(_MARKERS)]}
        style: Mapping[str, Any] = PARTY[party] if party else nobody
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
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
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
        rows: label -> one figure for each run, from the top down. A label without figures is a
            heading for the rows below it.
        xlabel: what the figures are, with their unit.
        lines: label -> where a vertical line stands, a floor or a reference; told apart by their
            line styles.
        parties: label -> the party that gives a row its colour; grey where it names none.
        log: whether x is on a logarithmic scale.

    Raises:
        ValueError: if no row has figures, one is not finite or does not fit a logarithmic scale,
            or `parties` names a label that is not in `rows`.
    """
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter

    parties = parties or {}
    if unknown := set(parties) - set(rows):
        raise ValueError(f"parties names {min(unknown)!r}, which is none of {', '.join(rows)}")
    for label, values in rows.items():
        if not all(isfinite(value) and (value > 0 or not log) for value in values):
            raise ValueError(
                f"row {label!r} has a figure that is not finite"
                f"{' and above 0' if log else ''}: leave it out, and say so in the text"
            )
    if not any(len(values) for values in rows.values()):
        raise ValueError("no row has figures: pass label -> the figures of its runs")
    figure, axis = plt.subplots(figsize=(6.4, 0.19 * len(rows) + 0.9), layout="constrained")
    for (label, x), style in zip((lines or {}).items(), itertools.cycle(_LINES), strict=False):
        axis.axvline(x, label=label, color="#b0b0b0", linewidth=1, linestyle=style, zorder=1)
    for place, (label, values) in enumerate(rows.items()):
        if not len(values):
            continue
        colour = PARTY[parties[label]]["color"] if label in parties else "#707070"
        axis.plot([min(values), max(values)], [place] * 2, color=colour, linewidth=1, zorder=2)
        axis.plot(values, [place] * len(values), "o", color=colour, fillstyle="none", markersize=4)
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
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def frames(snapshots: "Snapshots", log: "Log") -> list[Frame]:
    """Draw one frame of a scrubber for each snapshot of a run.

    Each shows the private images, what the attacker has of them at that step, and how far the
    losses, the error and the gradient that the client receives have come.

    Args:
        snapshots: the observer that watched the run.
        log: what `train` returned.
    """
    import matplotlib.pyplot as plt

    errors = [(taken.step, taken.mse) for taken in snapshots.taken]
    drawn = []
    for taken in snapshots.taken:
        figure, (top, middle, error, norm) = plt.subplots(
            4, 1, figsize=(6.4, 4.6), layout="constrained", height_ratios=[1, 1, 1.2, 1.2]
        )
        _draw_row(top, snapshots.private, snapshots.value_range)
        top.set_title("the client's private images", fontsize=9, loc="left")
        _draw_row(middle, taken.images, snapshots.value_range)
        middle.set_title("what the server decodes", fontsize=9, loc="left")
        _draw_progress(error, errors, taken.step, "error of the pictures\n(MSE)", "attacker")
        received = list(enumerate(log["dz_norm"], start=1)) if "dz_norm" in log.names() else []
        _draw_progress(norm, received, taken.step, "gradient norm,\nall that f sees", "client")
        norm.set_xlabel("step")
        alt = (
            f"After {taken.step} steps: {len(taken.images)} private images above what the server "
            f"decodes of them; mean squared error {taken.mse:.3f}. Below, the error and the norm "
            "of the gradient that the client receives, up to this step."
        )
        drawn.append(Frame(png(figure), alt, str(taken.step)))
        plt.close(figure)
    return drawn


def planes(
    snapshots: "Snapshots", scores: Sequence[Callable[[Tensor], Tensor]], public: Tensor
) -> list[Frame]:
    """Draw one frame of a scrubber for each snapshot of a hijack in the plane.

    Left is what the server sees: its own points z_public, the client's z, level lines of the
    critic's score, and arrows down the score, the way that the client is told to go. Right is what
    only the referee sees: lines from private points to what is decoded of them.

    Args:
        snapshots: the observer that watched a run whose images are points, (N, 1, 1, 2), and whose
            decoder is the identity.
        scores: the critic at each snapshot: points (N, 1, 1, 2) -> scores (N, 1).
        public: z_public, (N, 1, 1, 2).
    """
    import matplotlib.pyplot as plt

    side = torch.linspace(-3, 3, 41)
    across, up = torch.meshgrid(side, side, indexing="xy")
    grid = torch.stack([across, up], dim=-1)
    few = grid[2::4, 2::4]
    drawn = []
    for taken, score in zip(snapshots.taken, scores, strict=True):
        with torch.no_grad():
            levels = score(grid.view(-1, 1, 1, 2)).view(41, 41)
        points = few.reshape(-1, 1, 1, 2).requires_grad_()
        (up_the_score,) = torch.autograd.grad(score(points).sum(), points)
        arrows = -F.normalize(up_the_score.flatten(1))  # the client's Adam takes their way only
        figure, (left, right) = plt.subplots(1, 2, figsize=(6.4, 3.5), layout="constrained")
        left.contour(across, up, levels, levels=12, colors="#b0b0b0", linewidths=0.7)
        left.quiver(*few.reshape(-1, 2).T, *arrows.T, color="#707070", scale=22, width=0.004)
        for where, party, marker, label in (
            (public, "attacker", "x", "z_public, the server's"),
            (taken.images, "client", "o", "z, the client's"),
        ):
            style = {"color": PARTY[party]["color"], "marker": marker, "label": label}
            left.scatter(*where[:150].flatten(1).T, s=9, linewidths=0.8, **style)
        left.set_title("what the server sees", fontsize=9, loc="left")
        private = snapshots.private.cpu().flatten(1)[:60]
        ends = torch.stack([private, taken.images.flatten(1)[:60]])
        right.plot(*ends.movedim(-1, 0), color="#b0b0b0", linewidth=0.6)
        right.scatter(*ends[0].T, s=9, color="black", marker="s", label="private")
        decoded = {"color": PARTY["attacker"]["color"], "marker": "^", "label": "decoded"}
        right.scatter(*ends[1].T, s=9, **decoded)
        right.set_title("what the referee sees", fontsize=9, loc="left")
        for axis in (left, right):
            axis.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal", xticks=[], yticks=[])
            axis.legend(loc="upper right", fontsize=6.5)
        alt = (
            f"After {taken.step} steps, two planes. Left: the server's points, the client's z, and "
            "arrows down the critic's score. Right: lines from private points to what is decoded "
            f"of them; mean squared error {taken.mse:.3f}."
        )
        drawn.append(Frame(png(figure), alt, str(taken.step)))
        plt.close(figure)
    return drawn


def thresholds(
    scores: Tensor,
    labels: Tensor,
    *,
    xlabel: str,
    names: tuple[str, str],
    log: bool = False,
    count: int = 13,
) -> list[Frame]:
    """Draw one frame of a scrubber for each threshold on a score of two classes.

    Each shows how the scores of either class are spread, where the threshold is, and which shares
    of either class lie above it; beside it, these two shares for all thresholds (the ROC curve).

    Args:
        scores: One score for each row, (n,).
        labels: 0 or 1, (n,); both occur.
        xlabel: What the score is.
        names: What label 0 and label 1 mean.
        log: Whether scores are on a logarithmic scale, those of 0 at its lower end.
        count: How many thresholds, evenly from the lowest score to the highest.

    Raises:
        ValueError: If one of the labels does not occur.
    """
    import matplotlib.pyplot as plt

    if labels.min() == labels.max():
        raise ValueError(
            f"all labels are {int(labels[0])}: a threshold needs rows of both to tell apart"
        )
    scores, labels = scores.double().cpu(), labels.cpu()
    if log:
        scores = scores.clamp_min(float(scores[scores > 0].min())).log10()
    groups = [scores[labels == label] for label in (0, 1)]
    ends = [float(v) for v in scores.aminmax()]
    shown = (lambda value: 10**value) if log else (lambda value: value)
    edges = shown(torch.linspace(*ends, 31, dtype=torch.float64)).tolist()
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(6.4, 2.8), layout="constrained", width_ratios=[2, 1]
    )
    for group, name, party, hatch in zip(
        groups, names, ("client", "attacker"), ("", "//"), strict=True
    ):
        style = {"color": PARTY[party]["color"], "alpha": 0.55, "hatch": hatch}
        share = [1 / len(group)] * len(group)
        left.hist(shown(group).tolist(), bins=edges, weights=share, label=name, **style)
    line = left.axvline(edges[0], color="black", linewidth=1.5)
    left.set(xlabel=xlabel, ylabel="share of its class", xscale="log" if log else "linear")
    left.legend(frameon=False, fontsize=8)
    every = torch.cat([torch.tensor([-torch.inf]), scores.sort().values])
    roc = [1 - torch.searchsorted(g.sort().values, every, right=True) / len(g) for g in groups]
    right.plot(*roc, color=PARTY["attacker"]["color"])
    right.plot([0, 1], [0, 1], color="#707070", linewidth=0.8, linestyle=":")
    (dot,) = right.plot([0], [0], "o", color="black")
    right.set(xlabel=f"share of '{names[0]}' above", ylabel=f"share of '{names[1]}' above")
    right.set(xticks=[0, 0.5, 1], yticks=[0, 0.5, 1], xlim=(-0.04, 1.04), ylim=(-0.04, 1.04))
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # nothing moves from here on but a line and a dot
    drawn = []
    for threshold in torch.linspace(*ends, count, dtype=torch.float64):
        wrong, found = (float((group > threshold).double().mean()) for group in groups)
        line.set_xdata([float(shown(threshold))] * 2)
        dot.set_data([wrong], [found])
        label = f"{float(shown(threshold)):.3g}"
        alt = (
            f"Two histograms of the {xlabel} with a threshold at {label}: above it lie "
            f"{found:.0%} of the rows '{names[1]}' and {wrong:.0%} of the rows '{names[0]}'. "
            "Beside them the curve of these two shares for all thresholds, with this one marked."
        )
        drawn.append(Frame(png(figure), alt, f"{label} ({found:.0%} against {wrong:.0%} above)"))
    plt.close(figure)
    return drawn


def _draw_progress(
    axis: "Axes", points: Sequence[tuple[int, float]], now: int, label: str, party: str
) -> None:
    """Draw a line up to `now`, on axes that fit the whole run."""
    if points:
        steps, values = zip(*points, strict=True)
        axis.set(xlim=(0, steps[-1]), ylim=(0, 1.05 * max(values)))
        shown = [(step, value) for step, value in points if step <= now]
        if shown:
            axis.plot(*zip(*shown, strict=True), **PARTY[party])
            axis.plot(*shown[-1], marker="o", markersize=4, color=PARTY[party]["color"])
    axis.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)
