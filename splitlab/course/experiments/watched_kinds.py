"""The kinds of watched runs: those that set the thresholds, and those that test them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from splitlab.course.experiments.watched import Watched
from splitlab.defenses.gradient_scrutinizer import LAST

STEPS, LONG = 200, 1000
GUARD = "SplitGuard"
SMALL: dict[str, Any] = {"factor": 0.15}  # keeps the hijack's gradient at the norm of honest ones
LAMBDAS = (1.0, 0.8, 0.6, 0.4, 0.2, 0.1)
DELAYS = (25, 50, 100, 150)
FACTORS = (0.5, 0.25, 0.15, 0.05)
BUDGET = 0.05  # of honest runs that may alarm, by each detector alone

# Honest runs from which the thresholds follow: kinds and seeds that no evaluation uses.
CALIBRATION: dict[str, tuple[range, dict[str, Any]]] = {
    "calibration": (range(20), {}),
    "calibration, batch 64": (range(10), {"batch": 64}),
    "calibration, Adam 5e-4": (range(9), {"rate": 5e-4}),
    "calibration, U-shaped": (range(20), {"u_shaped": True}),
}
# Honest runs on which the false alarms are counted.
HARD: dict[str, dict[str, Any]] = {
    "one class": {"change": "one class"},
    "two classes": {"change": "two classes"},
    "64 images": {"change": "64 images"},
    "20 % wrong labels": {"change": "20 % wrong labels"},
    "40 % wrong labels": {"change": "40 % wrong labels"},
    "fine-tuning": {"change": "fine-tuning"},
    "1,000 steps": {"steps": LONG},
    "SGD": {"change": "SGD"},
    "Adam 3e-3": {"rate": 3e-3},
    "Adam 1e-4": {"rate": 1e-4},
    "three clinics": {"change": "three clinics"},
    "drawn faces": {"data": "drawn_faces"},
}
MULTITASK: dict[str, Any] = {"server": "multitask"}
ATTACKS: dict[str, dict[str, Any]] = {
    "fast": {"server": "fast"},
    "paper": {"server": "paper"},
    "fast, Adam 1e-4": {"server": "fast", "rate": 1e-4},
    "paper, Adam 1e-4": {"server": "paper", "rate": 1e-4},
    "property": {"server": "property"},
    "random labels": {"server": "random labels"},
}
# No hijack: a passive attack, and the honest run on the same batches.
UNSEEN: dict[str, dict[str, Any]] = {"plain": {}, "passive": {"server": "passive"}}
# The hijacker that knows the detectors. In the first two sweeps it mixes in the task; in the second
# the task has channels of its own, and false labels are answered honestly, too.
MIXED = {f"mixed, {w:g}": MULTITASK | SMALL | {"weight": w} for w in LAMBDAS}
APART = {
    f"apart, {w:g}": MULTITASK | SMALL | {"weight": w, "spare": True, "aware": True}
    for w in LAMBDAS
}
AWARE = {f"aware, {w:g}": MULTITASK | SMALL | {"weight": w, "aware": True} for w in LAMBDAS}
DELAYED = {
    f"delay {d}": MULTITASK | SMALL | {"delay": d, "aware": True, "steps": d + STEPS}
    for d in DELAYS
}
# The hijack begins when Gradients Scrutinizer has stopped looking; false labels are answered.
LATE: dict[str, Any] = {"delay": LAST + 1, "steps": LAST + 1 + STEPS}
BEGUN_LATE = {
    f"late, {w:g}": MULTITASK | SMALL | LATE | {"weight": w, "aware": True} for w in (0.4, 0.2)
}
SHRUNK = {f"factor {f:g}": {"server": "fast", "factor": f} for f in FACTORS}
U_SHAPED: dict[str, dict[str, Any]] = {
    "U-shaped, honest": {"u_shaped": True},
    "U-shaped, task not trained": {"server": "fast", "u_shaped": True},
    "U-shaped, task trained": MULTITASK | {"u_shaped": True},
    "U-shaped, mixed 0.6": MULTITASK | {"u_shaped": True, "weight": 0.6},
    "U-shaped, mixed 0.2": MULTITASK | {"u_shaped": True, "weight": 0.2},
    "U-shaped, late, 0.4": MULTITASK | SMALL | LATE | {"u_shaped": True, "weight": 0.4},
}
ADAPTIVE = MIXED | APART | BEGUN_LATE
SCREENED = AWARE | DELAYED | SHRUNK


def watched(name: str, seed: int, options: Mapping[str, Any]) -> list[Watched]:
    """Return two runs of a kind: one that all detectors but SplitGuard watch, and one with it."""
    options = {"steps": STEPS} | dict(options)
    pair = [Watched("watched_tiny", name, seed, **options)]
    return [*pair, Watched("watched_tiny", f"{name}, {GUARD}", seed, **options, guard=True)]


def all_watched(seeds: Sequence[int]) -> list[Watched]:
    """Return all recorded runs: the calibration, then seed by seed the others."""
    made: list[Watched] = []
    for name, (own, options) in CALIBRATION.items():
        for seed in own:
            made += watched(name, seed, options)[: 1 if "U-shaped" in name else 2]
    for place, seed in enumerate(seeds):
        kinds = HARD | ATTACKS | UNSEEN | U_SHAPED | ADAPTIVE | (SCREENED if place < 2 else {})
        for name, options in kinds.items():
            made += watched(name, seed, options)[: 1 if name in U_SHAPED else 2]
    return made
