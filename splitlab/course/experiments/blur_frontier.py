"""The points of chapter 52's two frontiers, from the recorded runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from splitlab.course.experiments.blurs import STRENGTHS
from splitlab.course.experiments.catalogue import recorded
from splitlab.course.experiments.no_peek import ALPHAS, DUEL_ALPHAS
from splitlab.show.frontier import Point

Row = dict[str, Any]
Figures = dict[str, dict[str, float]]  # name of an attacker -> {"mse", "matched"}

# In the order of the legend. Those without a hijack come last, so that both plots have one mark for
# each defense.
GROUPS = (
    "bottleneck",
    "Gaussian noise",
    "Laplace noise",
    "top-k",
    "ResSFL",
    "NoPeek",
    "DP-SGD",
    "label permutation",
    "projection",
    "shuffle",
    "noise and NoPeek",
    "Shredder",
)


def passive_points() -> list[Point]:
    """Return a point for each defense at each strength: accuracy and what decoders reconstruct.

    The height is the mean squared error of the best decoder, divided by that of the nearest public
    image: of the static decoders, and of all of them. Figures are medians over the recorded seeds.
    """
    runs, points = recorded("blurs_tiny"), [_undefended()]
    for group in GROUPS:
        if group == "NoPeek":
            points += [_no_peek(alpha) for alpha in ALPHAS if alpha]
            continue
        for strength in STRENGTHS[group]:
            name = f"{group} {strength:g}"
            rows = runs.of(name)
            static = _best(rows, lambda row: row["static"])
            adaptive = _best(rows, lambda row: row["static"] | row["adaptive"])
            points.append(_point(group, name, rows, rows, static, adaptive))
    return points


def hijack_points() -> list[Point]:
    """Return the same for hijacks; the accuracy is that of honest runs with the same defense.

    There are none of Shredder, which does nothing before the training is over, nor of noise beside
    NoPeek; and one of the label permutation, since a hijack reads no labels.
    """
    runs, points = recorded("blurs_tiny"), [_undefended(hijack=True)]
    for group in GROUPS:
        if group == "NoPeek":
            points += [_no_peek_hijack(alpha) for alpha in DUEL_ALPHAS if alpha]
            continue
        for strength in STRENGTHS[group]:
            name = f"{group} {strength:g}"
            static = [row for row in runs if row["run"] == f"static, {name}"]
            if not static:
                continue
            known = [row for row in runs if row["run"] == f"adaptive, {name}"]
            first = _best(static, lambda row: row["readings"])
            second = _best(known, lambda row: row["readings"]) if known else first
            both = min(first, second, key=lambda found: found[1])
            points.append(_point(group, name, runs.of(name), static, first, both))
    return points


Found = tuple[str, float, float]  # attacker, relative error, matched; medians


def _best(rows: Sequence[Row], figures: Callable[[Row], Figures]) -> Found:
    """The attacker with the smallest median error over the rows."""

    def of(name: str) -> Found:
        both = [(figures(row)[name], row["nearest"]) for row in rows]
        error = median(found["mse"] / nearest for found, nearest in both)
        return name, error, median(found["matched"] for found, _ in both)

    return min((of(name) for name in figures(rows[0])), key=lambda found: found[1])


def _point(
    group: str,
    label: str,
    honest: Sequence[Row],
    attacked: Sequence[Row],
    static: Found,
    adaptive: Found,
) -> Point:
    record = {
        "accuracy": _range(honest),
        "static attacker": _said(static),
        "adaptive attacker": _said(adaptive),
        "numbers sent": f"{median(row['sent'] for row in honest):.0f}",
        "CPU seconds of training": f"{median(row['cpu_seconds'] for row in honest):.1f}",
        "runs": _source("blurs_tiny", attacked),
    }
    for of, epsilon in honest[0]["epsilon"].items():
        record[f"epsilon of the {of}"] = f"{epsilon:.3g}"
    x = median(row["accuracy"] for row in honest)
    return Point(group, label, x, (static[1], adaptive[1]), record)


def _undefended(*, hijack: bool = False) -> Point:
    runs = recorded("blurs_tiny")
    rows = runs.of("static, none") if hijack else runs.of("none")
    best = _best(rows, lambda row: row["readings"] if hijack else row["adaptive"])
    return _point("none", "no defense", runs.of("none"), rows, best, best)


def _no_peek(alpha: float) -> Point:
    """NoPeek's point, from chapter 51's runs: a decoder network, and the best of three decoders."""
    rows = recorded("no_peek_tiny").of(f"passive, alpha {alpha:g}")
    names = ("black_box", "linear", "white_box")
    static = _best([_as_found(row, names[:1]) for row in rows], lambda row: row["found"])
    adaptive = _best([_as_found(row, names) for row in rows], lambda row: row["found"])
    return _no_peek_point(alpha, rows, rows, static, adaptive)


def _no_peek_hijack(alpha: float) -> Point:
    runs = recorded("no_peek_tiny")
    honest, kinds = runs.of(f"passive, alpha {alpha:g}"), (f"static, alpha {alpha:g}",)
    kinds += (f"outbidding, alpha {alpha:g}",)
    found = [
        _best([_as_found(row, ("attack",)) for row in runs.of(kind)], lambda row: row["found"])
        for kind in kinds
    ]
    return _no_peek_point(
        alpha, honest, runs.of(kinds[0]), found[0], min(found, key=lambda f: f[1])
    )


def _no_peek_point(
    alpha: float, honest: Sequence[Row], attacked: Sequence[Row], static: Found, adaptive: Found
) -> Point:
    record = {
        "accuracy": _range(honest),
        "static attacker": _said(static),
        "adaptive attacker": _said(adaptive),
        "CPU seconds of training": f"{median(row['cpu_seconds'] for row in honest):.1f}",
        "runs": _source("no_peek_tiny", attacked),
    }
    x = median(row["accuracy"] for row in honest)
    return Point("NoPeek", f"NoPeek {alpha:g}", x, (static[1], adaptive[1]), record)


def _as_found(row: Row, names: Sequence[str]) -> Row:
    found = {name: row["rows"][name] for name in names}
    return {"found": found, "nearest": row["rows"]["nearest_public"]["mse"]}


def _range(rows: Sequence[Row]) -> str:
    values = sorted(row["accuracy"] for row in rows)
    return f"{median(values):.3f} ({values[0]:.3f} to {values[-1]:.3f})"


def _said(found: Found) -> str:
    name, error, share = found
    return f"{name.replace('_', ' ')}: error {error:.2f}, matched {share:.2f}"


def _source(table: str, rows: Sequence[Row]) -> str:
    seeds = ", ".join(str(row["seed"]) for row in rows)
    return f"{table}/{rows[0]['run']}, seeds {seeds}"
