"""A figure of every run beside its bar: where the dots are, and what is said of them."""

import math
import re
from xml.etree import ElementTree

import pytest
from synthetic_batch import compare

from splitlab.course.batch import dots


def drawings(points):
    """The parts of a drawing, by class."""
    root = ElementTree.fromstring(dots.drawing(points))
    return root, {
        kind: [part for part in root if part.get("class") == kind]
        for kind in ("holds", "misses", "bar", "true")
    }


def points(values, bars=0.95, operator=">="):
    bars = bars if isinstance(bars, list) else [bars] * len(values)
    return [
        dots.Point(f"seed {seed}", compare(value, bar, operator))
        for seed, (value, bar) in enumerate(zip(values, bars, strict=True))
    ]


def center(dot):
    """Where a dot is: a disk's center, or the middle between a diamond's upper and lower corner."""
    if "cx" in dot.attrib:
        return float(dot.get("cx")), float(dot.get("cy"))
    x, top, size = map(float, re.match(r"M(\S+) (\S+?)l(\S+) ", dot.get("d")).groups())
    return x, top + size


def test_dots_are_beside_their_bar_at_the_right_distance():
    root, parts = drawings(points([0.90, 0.97, 0.99]))
    (bar,) = parts["bar"]
    x = {center(dot)[1]: center(dot)[0] for dot in parts["holds"] + parts["misses"]}
    low, middle, high = (x[y] for y in sorted(x))  # one row for each run, in order
    at = float(bar.get("x1"))
    assert (len(parts["holds"]), len(parts["misses"])) == (2, 1)
    assert low < at < middle < high
    assert (middle - at) / (high - at) == pytest.approx(0.5, abs=0.02)
    assert (at - low) / (high - at) == pytest.approx(1.25, abs=0.02)
    ends = [float(text.text) for text in root if text.tag == "text"]
    assert ends[0] <= 0.90 and ends[1] >= 0.99
    ticks = [float(line.get("x1")) for line in root if line.get("class") == "axis"][1:]
    along = (ticks[1] - ticks[0]) / (ends[1] - ends[0])
    assert low == pytest.approx(ticks[0] + (0.90 - ends[0]) * along, abs=0.1)
    assert ticks == [dots.MARGIN, dots.WIDTH - dots.MARGIN]
    (shade,) = parts["true"]
    assert float(shade.get("x")) == at


def test_a_bar_that_differs_by_run_is_a_tick_in_each_row():
    _, parts = drawings(points([0.2, 0.2, 0.2], [0.3, 0.1, 0.3], "<"))
    dots_x = {center(dot)[0] for dot in parts["holds"] + parts["misses"]}
    (x,) = dots_x
    assert [float(bar.get("x1")) > x for bar in parts["bar"]] == [True, False, True]
    for bar, shade in zip(parts["bar"], parts["true"], strict=True):
        assert float(shade.get("x")) == 0
        assert float(shade.get("width")) == float(bar.get("x1"))
    (missed,) = parts["misses"]
    y = center(missed)[1]
    assert float(parts["bar"][1].get("y1")) < y < float(parts["bar"][1].get("y2"))


def test_a_drawing_says_its_numbers():
    root, _ = drawings(points([0.90, 0.97, 0.94999]))
    assert root.get("role") == "img"
    assert root.get("aria-label") == (
        "matched >= 0.95 holds in 1 of 3 runs. Figure 0.9 to 0.97, bar 0.95. It does not hold at "
        "seed 0: 0.9 (bar 0.95); seed 2: 0.94999 (bar 0.95)."
    )


def test_numbers_without_a_place_are_said_and_not_drawn():
    _, parts = drawings(points([math.nan, 0.97, math.inf, 1e200]))
    assert len(parts["holds"]) == 1 and not parts["misses"]
    assert dots.drawing(points([math.nan])) == ""
    assert "seed 0: nan (bar 0.95)" in dots.misses(points([math.nan]))
    assert dots.sentence(points([math.nan, 0.5])) == "Figure 0.5 and nan, bar 0.95."
    _, parts = drawings(points([0.97], math.inf))
    assert not parts["bar"] and len(parts["misses"]) == 1


@pytest.mark.parametrize("scale", [1e-300, 1e-9, 1.0, 1e9, 1e90])
@pytest.mark.parametrize("values", [(0.0, 0.0), (1.0, 1.0), (-3.0, 7.0), (1.0, 1.0 + 1e-15)])
def test_all_dots_are_on_the_axis(values, scale):
    value, bar = (scale * value for value in values)
    _, parts = drawings(points([value], bar))
    (x, _), at = center(*parts["holds"], *parts["misses"]), float(parts["bar"][0].get("x1"))
    assert 0 < x < dots.WIDTH and 0 < at < dots.WIDTH
