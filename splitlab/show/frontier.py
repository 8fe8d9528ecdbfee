"""A privacy-utility frontier: a scatter plot with a switch, whose points open their records.

It is plain HTML with one drawing and one script, so it needs no kernel and no network. Without
JavaScript, and in print, it shows the second setting of the switch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from html import escape
from itertools import cycle, product
from math import isfinite, log10
from numbers import Real
from typing import Final

from splitlab.arguments import instances

# Four of Okabe and Ito's colors, the blue lightened, stand out from white and from dark pages.
_COLORS: Final = ("#1F83C0", "#D55E00", "#009E73", "#CC79A7", "currentColor")
_SHAPES: Final = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",  # circle
    "M-3.6-3.6h7.2v7.2h-7.2z",  # square
    "M0-4.8L4.6 3.4H-4.6z",  # triangle
    "M0-5L5 0L0 5L-5 0z",  # diamond
    "M0 4.8L4.6-3.4H-4.6z",  # triangle on its tip
    "M-1.4-4.6h2.8v3.2h3.2v2.8h-3.2v3.2h-2.8v-3.2h-3.2v-2.8h3.2z",  # plus
    "M0-2L2.6-4.6L4.6-2.6L2 0L4.6 2.6L2.6 4.6L0 2L-2.6 4.6L-4.6 2.6L-2 0L-4.6-2.6L-2.6-4.6z",  # x
)
# A narrow drawing: a phone shows it at about its own size, so that its letters stay readable. A
# wide page enlarges it, and its letters and marks are then made smaller again.
_WIDTH, _TOP, _FOOT, _HEIGHT = 360, 8, 248, 270
# "&" stands for the plot's class: no rule reaches beyond the plot.
_STYLE: Final = """
& { container-type: inline-size; max-width: 600px; overflow-wrap: anywhere; }
& figure { margin: 0; } & p { margin: 0.2em 0; font-size: 0.9em; }
& svg { overflow: visible; stroke: currentColor; fill: none; }
& .plot { display: block; width: 100%; height: auto; } & .dashed { stroke-dasharray: 5 4; }
& text { font-size: 12px; stroke: none; fill: currentColor; } & .grid { stroke-opacity: 0.15; }
& .group { stroke-width: 1.5; } & .ring { stroke: currentColor; stroke-width: 2; }
& .line { stroke-width: 1; stroke-opacity: 0.6; } & .first, & .ring { opacity: 0; }
& .line, & .ring { fill: none; pointer-events: none; }
& .point { cursor: pointer; outline: none; pointer-events: all; }
& .point * { transform: translateY(var(--move, 0)) scale(var(--size, 1)); }
& [aria-current] .ring { opacity: 1; } & :focus-visible .ring { opacity: 1; stroke-dasharray: 3; }
& .legend { display: flex; flex-wrap: wrap; gap: 0.1em 1em; margin: 0.4em 0; font-size: 0.85em; }
& .legend svg { width: 1.1em; height: 1.1em; vertical-align: -0.15em; }
& button { font: inherit; font-size: 0.9em; color: inherit; background: none; cursor: pointer;
  border: 1px solid; border-radius: 4px; padding: 0.3em 0.7em; margin: 0 0.4em 0.4em 0; }
& [aria-pressed="true"] { background: #80808050; box-shadow: inset 0 0 0 1.5px currentColor; }
& table { border-collapse: collapse; margin: 0.6em 0; font-size: 0.85em; width: auto; }
& table * { color: inherit; background: none; text-align: left; vertical-align: top; }
& caption { caption-side: top; font-weight: bold; padding: 0; }
& th, & td { font-weight: normal; border: 0; padding: 0.1em 1em 0.1em 0;
  border-top: 1px solid #80808060; }
@container (min-width: 480px) { & text { font-size: 8.5px; } & .point { --size: 0.75; } }
@media screen {
  &[data-shown] .now { display: none; } &[data-shown="0"] .point { --move: var(--rise); }
  &[data-shown] .group * { transition: transform 0.6s, opacity 0.6s; }
  &[data-shown="0"] .first { opacity: 1; } &[data-shown="0"] .second { opacity: 0; }
}
@media print { & .switch, & .hint { display: none; } }
@media (prefers-reduced-motion: reduce) { &[data-shown] .group * { transition: none; } }
""".replace("&", ".splitlab-frontier")

# The script names no plot: it starts every plot of the page that is not yet running. So the same
# input gives the same HTML, and no two plots share an id.
_SCRIPT: Final = """
for (const root of document.querySelectorAll(".splitlab-frontier:not([data-shown])")) {
  const all = what => [...root.querySelectorAll(what)], plot = root.querySelector(".plot");
  const points = all(".point"), tables = all("details table"), buttons = all("button"); let opened;
  const set = shown => {
    root.dataset.shown = shown;
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", i === shown));
    for (const {dataset, firstChild} of points)
      firstChild.textContent = dataset.name + dataset.values.split(" ")[shown];
  };
  const stop = point => points.forEach(p => p.setAttribute("tabindex", p === point ? 0 : -1));
  const focus = point => { stop(point); point.focus({preventScroll: true}); };
  const open = point => {
    opened?.removeAttribute("aria-current");
    (opened = point).setAttribute("aria-current", "true");
    root.querySelector(".record").replaceChildren(tables[points.indexOf(point)].cloneNode(true));
    focus(point);
  };
  plot.onclick = event => {
    const away = point => {
      const {x, y, width, height} = point.lastChild.getBoundingClientRect();
      return Math.hypot(x + width / 2 - event.clientX, y + height / 2 - event.clientY);
    };
    const nearest = Math.min(...points.map(away));
    const pile = points.filter(point => away(point) < nearest + 3);
    // A screen reader's click has no place. Each click opens the next of points in a pile.
    if (!event.detail) open(event.target.closest(".point") ?? points[0]);
    else if (nearest < 16) open(pile[(pile.indexOf(opened) + 1) % pile.length]);
  };
  plot.onkeydown = event => {
    const at = points.indexOf(event.target);
    const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
    if (step) focus(points.at((at + step) % points.length));
    else if (event.key === "Enter" || event.key === " ") open(points[at]);
    else return;
    event.preventDefault();
  };
  buttons.forEach((button, i) => button.onclick = () => set(i));
  plot.setAttribute("role", "group");
  points.forEach(point => point.setAttribute("role", "button"));
  all("[hidden]").forEach(part => part.hidden = false); set(1); stop(points[0]);
}
"""


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a frontier.

    Attributes:
        group: What it is a setting of, such as the name of a defense.
        label: Which setting, such as "sigma 0.5", or which run, such as "fast, seed 100".
        x: The same in both settings of the switch: its utility, say.
        y: Its height in the first and in the second setting: how private it is, say.
        record: Name -> value of what else is known about it.
    """

    group: str
    label: str
    x: float
    y: tuple[float, float]
    record: Mapping[str, object]

    def __post_init__(self) -> None:
        if not self.group.strip() or not self.label.strip():
            raise ValueError(f"a point needs a group and a label, and {self.name!r} lacks one")
        if len(self.y) != 2:
            raise ValueError(f"y of {self.name!r} needs two values, one for each setting")
        for axis, value in (("x", self.x), ("y", self.y[0]), ("y", self.y[1])):
            _check(f"{axis} of {self.name!r}", value)

    @property
    def name(self) -> str:
        """Group and label in one text."""
        return f"{self.group}, {self.label}"


@dataclass(repr=False, eq=False)
class Frontier:
    """A scatter plot whose switch moves each point from one height to another.

    A click on a point, or Enter on a focused one, shows its record below the plot. Each group has a
    color and a mark of its own. A thin line joins its points in the order given, unless they are
    single runs rather than settings of one thing: then pass `joined=False`.

    Attributes:
        points: The points, in at most 14 groups.
        x_label: What x is, with its unit.
        y_label: What y is, with its unit.
        switch: The names of the two settings. The plot opens in the second one.
        caption: A sentence or two under the plot: what to look at.
        alt: What the plot shows, for readers who do not see it.
        log_y: Whether y is on a logarithmic scale.
        reference: Height and name of a dashed horizontal line.
        joined: Whether a line joins the points of a group.

    Raises:
        TypeError: If the points are none.
        ValueError: If points cannot be drawn or told apart, or a text is missing.
    """

    points: Sequence[Point]
    _: KW_ONLY
    x_label: str
    y_label: str
    switch: tuple[str, str] = ("static attacker", "adaptive attacker")
    caption: str
    alt: str
    log_y: bool = True
    reference: tuple[float, str] | None = None
    joined: bool = True

    def __post_init__(self) -> None:
        for name in ("x_label", "y_label", "caption", "alt"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name).strip():
                raise ValueError(f"{name} is empty: a frontier needs one")
        if len({name.strip() for name in self.switch} - {""}) != 2:
            raise ValueError(f"switch is {self.switch!r}: pass the names of two settings")
        do = "pass sl.frontier.Point(group, label, x, y, record)"
        self.points = instances("points", self.points, Point, do)
        if not self.points:
            raise ValueError("points is empty: a frontier needs at least one point")
        self._groups: dict[str, list[Point]] = {}
        names: set[str] = set()
        for point in self.points:
            if point.name in names:  # of another group, too: ("a", "b, c") and ("a, b", "c")
                raise ValueError(f"two points are named {point.name!r}: give each its own label")
            names.add(point.name)
            self._groups.setdefault(point.group, []).append(point)
        if (count := len(self._groups)) > 2 * len(_SHAPES):
            raise ValueError(f"points has {count} groups: pass at most 14, one for each mark")
        heights = [(f"y of {point.name!r}", y) for point in self.points for y in point.y]
        heights += [("reference", self.reference[0])] if self.reference else []
        for name, y in heights:
            _check(name, y, log=self.log_y)
        self._y = _Axis([y for _, y in heights], _FOOT, _TOP, log=self.log_y)
        left = 10 + round(6.8 * max(len(f"{tick:g}") for tick in self._y.ticks))  # 6.8: a digit
        self._x = _Axis([point.x for point in self.points], left, _WIDTH - 10)

    def __repr__(self) -> str:
        return f"<frontier: {self.alt}>"

    def _repr_html_(self) -> str:
        drawn, marks, legend, tables = self._axes(), "", "", ""
        shapes = product((0.75, 0), _SHAPES)  # filled, then open
        looks = zip(self._groups.items(), shapes, cycle(_COLORS), strict=False)
        for (name, group), (opacity, shape), color in looks:
            style = f'class="group" style="stroke:{color};fill:{color};fill-opacity:{opacity}"'
            settings = (0, 1) if self.joined and len(group) > 1 else ()
            lines = "".join(self._line(group, setting) for setting in settings)
            drawn += f"<g {style}>{lines}</g>"  # below the marks of all groups
            marks += f"<g {style}>{''.join(self._mark(point, shape) for point in group)}</g>"
            legend += _entry(name, style, shape)
            tables += "".join(map(self._table, group))
        if self.reference:
            text = f"{self.reference[1]} ({self.reference[0]:.3g})"
            legend += _entry(text, 'class="dashed" style="width:2.2em"', "M-12 0h24")
        buttons = "".join(f'<button type="button">{escape(name)}</button>' for name in self.switch)
        return (
            # Jupyter would take the arrow keys and Enter for its own commands.
            '<div class="splitlab-frontier" data-lm-suppress-shortcuts="true">'
            f"<style>{_STYLE}</style>"
            f'<div class="switch" role="group" aria-label="What is shown" hidden>{buttons}</div>'
            f'<figure class="splitlab"><p class="now">Shown: {escape(self.switch[1])}</p>'
            f'<p>{escape(self.y_label)}</p><svg class="plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
            f'role="img" aria-label="{escape(self.alt)}">{drawn}{marks}</svg>'
            f'<p style="text-align:center">{escape(self.x_label)}</p><div class="legend">'
            f"{legend}</div><figcaption>{escape(self.caption)}</figcaption></figure>"
            '<div class="record" aria-live="polite"><p class="hint" hidden>Click on a point for '
            "its record, or use Tab, the arrow keys and Enter.</p></div>"
            f"<details><summary>All records ({len(self.points)})</summary>{tables}</details>"
            f"<script>{_SCRIPT}</script></div>"
        )

    def _axes(self) -> str:
        left, right = self._x.span
        drawn = f'<path d="M{left} {_TOP}V{_FOOT}H{right}"/>'
        for tick in self._x.ticks:
            place = f'text-anchor="middle" x="{self._x(tick):.1f}" y="{_FOOT + 17}"'
            drawn += f'<path d="M{self._x(tick):.1f} {_FOOT}v4"/><text {place}>{tick:g}</text>'
        for tick in self._y.ticks:
            drawn += f'<path class="grid" d="M{left} {self._y(tick):.1f}H{right}"/>'
            place = f'text-anchor="end" x="{left - 5}" y="{self._y(tick) + 4:.1f}"'
            drawn += f"<text {place}>{tick:g}</text>"
        if self.reference:
            drawn += f'<path class="dashed" d="M{left} {self._y(self.reference[0]):.1f}H{right}"/>'
        return drawn

    def _line(self, points: Sequence[Point], setting: int) -> str:
        way = "L".join(f"{self._x(p.x):.1f} {self._y(p.y[setting]):.1f}" for p in points)
        return f'<path class="line {("first", "second")[setting]}" d="M{way}"/>'

    def _mark(self, point: Point, shape: str) -> str:
        first, second = map(self._y, point.y)
        name = escape(f"{point.name}: {self.x_label} {point.x:.3g}, {self.y_label} ")
        return (
            f'<g class="point" transform="translate({self._x(point.x):.1f} {second:.1f})" '
            f'style="--rise:{first - second:.1f}px" data-name="{name}" '
            f'data-values="{point.y[0]:.3g} {point.y[1]:.3g}"><title>{name}{point.y[1]:.3g}</title>'
            f'<circle class="ring" r="8"/><path d="{shape}"/></g>'
        )

    def _table(self, point: Point) -> str:
        heights = zip(self.switch, point.y, strict=True)
        own = [(self.x_label, point.x), *((f"{self.y_label}, {name}", y) for name, y in heights)]
        rows = ""
        for name, value in [*own, *point.record.items()]:
            shown = f"{value:.4g}" if isinstance(value, float) else str(value)
            rows += f"<tr><th>{escape(name)}</th><td>{escape(shown)}</td></tr>"
        return f"<table><caption>{escape(point.name)}</caption>{rows}</table>"


class _Axis:
    """Maps values to places in the drawing; `ticks` are the values to mark."""

    def __init__(self, values: list[float], start: float, end: float, log: bool = False) -> None:
        from matplotlib.ticker import LogLocator, MaxNLocator

        self.span, self._scale = (start, end), log10 if log else float
        low, high = self._scale(min(values)), self._scale(max(values))
        margin = 0.06 * (high - low) or 0.1 * abs(high) or 1
        self._low, self._high = low - margin, high + margin
        low, high = (10**self._low, 10**self._high) if log else (self._low, self._high)
        subs = (1, 2, 5) if self._high - self._low < 2.5 else (1,)
        self.ticks: list[float] = []
        for locator in [LogLocator(subs=subs)] * log + [MaxNLocator(6, steps=[1, 2, 5, 10])]:
            if len(self.ticks) < 2:  # a short logarithmic axis may have no two round values
                self.ticks = [float(t) for t in locator.tick_values(low, high) if low <= t <= high]

    def __call__(self, value: float) -> float:
        (start, end), share = self.span, (self._scale(value) - self._low)
        return start + (end - start) * share / (self._high - self._low)


def _entry(text: str, style: str, path: str) -> str:
    mark = f'<svg {style} viewBox="-6 -6 12 12" aria-hidden="true"><path d="{path}"/></svg>'
    return f"<span>{mark} {escape(text)}</span>"


def _check(name: str, value: float, *, log: bool = False) -> None:
    if not isinstance(value, Real) or not isfinite(value):
        raise ValueError(f"{name} is {value!r}: pass a finite number")
    if log and value <= 0:
        raise ValueError(f"{name} is {value:g}: a logarithmic scale needs values above 0")
