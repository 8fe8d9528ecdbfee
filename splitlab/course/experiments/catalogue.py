"""All recorded experiments, and how to find one of a kind at any seed."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import splitlab as sl
from splitlab.course import records, watched_runs
from splitlab.course.experiments.against_whole import SplitAgainstWhole
from splitlab.course.experiments.base import Experiment
from splitlab.course.experiments.client_networks import HONEST, TWICE, Honest, OtherClient, Twice
from splitlab.course.experiments.client_networks import KINDS as WHY
from splitlab.course.experiments.client_view import MEANWHILE, Meanwhile
from splitlab.course.experiments.faces import FACES_KINDS, Faces
from splitlab.course.experiments.hijack_settings import CORE, FURTHER, MORE, Knob
from splitlab.course.experiments.hijacks import Hijack, WatchedHijack
from splitlab.course.experiments.label_inference import LabelLeak
from splitlab.course.experiments.passive_inversions import PassiveInversions
from splitlab.course.experiments.property_inference import KINDS as PROPERTIES
from splitlab.course.experiments.property_inference import PropertyHijack, SlantAndPicture
from splitlab.course.experiments.property_share import SHARES, PropertyShare
from splitlab.course.experiments.protocols_against_whole import ProtocolAgainstWhole
from splitlab.course.experiments.public_images import KINDS as PUBLIC_IMAGES
from splitlab.course.experiments.public_images import STAGES, PublicImages
from splitlab.course.experiments.stopping_rule import Stopping
from splitlab.course.experiments.two_dimensions import TwoDimensions
from splitlab.course.experiments.unsplit import Inversion, TailLabels
from splitlab.course.experiments.without_attack import WithoutAttack
from splitlab.course.records import Runs

DIGITS_SEEDS = tuple(range(100, 106))
SPLIT_SEEDS = tuple(range(100, 105))
METRICS_SEEDS = tuple(range(100, 110))
MNIST_SEEDS = (1, 2, 3)
CPU_BUDGET = 600.0  # seconds, for the paper's own design at its own scale

# The kinds of `protocols_tiny`, in the order in which a table shows them: four that are whole
# training, one that is but for rounding, and those that are not.
PROTOCOLS: dict[str, dict[str, Any]] = {
    "U-shaped": {"protocol": "U-shaped"},
    "labels at the server": {"protocol": "labels at the server"},
    "in turn": {"protocol": "sequential", "clinics": 3},
    "in turn, through the server": {"protocol": "through the server", "clinics": 3},
    "SplitFed v1, SGD, no BatchNorm": {
        **{"protocol": "SplitFed v1", "clinics": 3},
        **{"optimizer": "SGD", "change": "without BatchNorm"},
    },
    "SplitFed v1, SGD": {"protocol": "SplitFed v1", "clinics": 3, "optimizer": "SGD"},
    "SplitFed v1": {"protocol": "SplitFed v1", "clinics": 3},
    "SplitFed v2": {"protocol": "SplitFed v2", "clinics": 3},
    "in turn, Adam's state stays": {
        **{"protocol": "sequential", "clinics": 3, "optimizer_state": False},
    },
    "in turn, with Dropout": {"protocol": "sequential", "clinics": 3, "change": "with Dropout"},
    "nothing handed on": {"protocol": "vanilla", "clinics": 3},
    "vanilla, norms clipped": {"protocol": "vanilla", "optimizer": "clipped Adam"},
}

# The kinds of `leaks_tiny`: the cuts, one cut made narrow, an f that never learns, other images.
LEAKS: dict[str, dict[str, Any]] = {
    "cut 1": {"cut": 1},
    "cut 2": {"cut": 2, "as_received": True},
    "cut 3": {"cut": 3},
    "cut 4": {"cut": 4},
    "cut 2, 2 channels": {"cut": 2, "width": 2},
    "cut 2, 1 channel": {"cut": 2, "width": 1},
    "cut 2, f never learns": {"cut": 2, "frozen": True},
    "drawn faces, cut 2": {"cut": 2, "data": "drawn_faces"},
}
DEPTHS = ("cut 1", "cut 2", "cut 3", "cut 4")
# The kinds of `labels_tiny`. "Hats" are faces in three of ten of which there is a hat, cut deeper,
# so that the client has more to learn.
ZERO: dict[str, Any] = {"label": "0"}
HAT: dict[str, Any] = {"data": "drawn_faces", "label": "hat", "at": 4}
LABELS: dict[str, dict[str, Any]] = {
    "is it a 0": ZERO,
    "ten digits": {},
    "glasses": {"data": "drawn_faces", "label": "glasses"},
    "hat": HAT,
}
for _name, _task in (("is it a 0", ZERO), ("hat", HAT)):
    LABELS[f"{_name}, f frozen"] = _task | {"learns": False}
    LABELS[f"{_name}, max norm"] = _task | {"defense": "max norm"}
    for _kind in ("noise", "Marvell"):
        for _strength in (1.0, 4.0, 16.0):
            _defended = {"defense": _kind, "strength": _strength}
            LABELS[f"{_name}, {_kind} {_strength:g}"] = _task | _defended
# The kinds of `unsplit_tiny`: the cuts from shallow to deep, and the U-shaped protocol's labels.
# Faces are light on grey, not on black, and the attacker is told so.
FACES: dict[str, Any] = {"data": "drawn_faces", "background": 0.25}
CUTS: dict[str, dict[str, Any]] = {
    "shallow": {},
    "cut 1, no BatchNorm": {"cut": 1, "norm": False, "starts": 2},
    "cut 1": {"cut": 1, "starts": 2},
    "cut 2, no BatchNorm": {"cut": 2, "norm": False, "starts": 2},
    "cut 2": {"cut": 2, "starts": 1},
    "faces, shallow": FACES,
    "faces, cut 2, no BatchNorm": FACES | {"cut": 2, "norm": False, "starts": 1},
    "cut 3": {"cut": 3, "starts": 1},
}
TAILS: dict[str, dict[str, Any]] = {
    "labels, one layer": {},
    "labels, one layer, known": {"known": True},
    "labels, two layers": {"layers": 2},
    "labels, two layers, known": {"layers": 2, "known": True},
}
# The kinds of `two_dimensions`: a cloud that has one right place, one that has many, the first
# without the critic's penalty, and with an f that can mirror, too.
PLANE: dict[str, dict[str, Any]] = {
    "lopsided": {"data": "lopsided"},
    "round": {"data": "round"},
    "lopsided, no penalty": {"data": "lopsided", "penalty_weight": 0.0},
    "lopsided, f can mirror": {"data": "lopsided", "mirrors": True},
}


@cache
def experiments() -> tuple[Experiment, ...]:
    """Return all recorded experiments, those worth most first."""
    digits: list[Experiment] = [WatchedHijack("hijack_digits", "fast", 0, 300)]
    digits += [SplitAgainstWhole("split_tiny", "vanilla", seed, 400) for seed in SPLIT_SEEDS]
    for name, options in PROTOCOLS.items():
        digits += [
            ProtocolAgainstWhole("protocols_tiny", name, seed, 30, **options)
            for seed in SPLIT_SEEDS
        ]
    for name, options in LABELS.items():
        digits += [LabelLeak("labels_tiny", name, s, 200, **options) for s in SPLIT_SEEDS]
    for seed in SPLIT_SEEDS:  # one seed after the other: the kinds share the referee's classifiers
        digits += [Inversion("unsplit_tiny", n, seed, 400, **o) for n, o in CUTS.items()]
    for name, options in TAILS.items():
        digits += [TailLabels("unsplit_tiny", name, s, 400, **options) for s in SPLIT_SEEDS]
    for name, options in PLANE.items():
        digits += [TwoDimensions("two_dimensions", name, s, 600, **options) for s in SPLIT_SEEDS]
    for name, design, steps in (
        ("fast", "fast", 300),
        ("no hijack", None, 300),
        ("paper", "paper", 300),
        ("paper, ten times the steps", "paper", 3000),
    ):
        digits += [Hijack("digits_tiny", name, s, steps, design=design) for s in DIGITS_SEEDS]
    for seed in SPLIT_SEEDS:  # seed by seed: the referee keeps its classifiers for one split
        digits += [PassiveInversions("leaks_tiny", n, seed, 300, **o) for n, o in LEAKS.items()]
    for seed in SPLIT_SEEDS:
        digits += [
            PropertyHijack("property_tiny", n, seed, 300, **o) for n, o in PROPERTIES.items()
        ]
        digits += [PropertyShare("property_tiny", n, seed, 300, **o) for n, o in SHARES.items()]
        digits.append(SlantAndPicture("property_tiny", "slant and picture", seed, 300))
    for seed in SPLIT_SEEDS:  # seed by seed, too
        digits += [OtherClient("why_tiny", n, seed, **o) for n, o in WHY.items()]
        digits += [Twice("why_tiny", n, seed, **o) for n, o in TWICE.items()]
        digits += [Honest("why_tiny", n, seed, **o) for n, o in HONEST.items()]
    for stage in STAGES:
        for seed in SPLIT_SEEDS:
            digits += [PublicImages("public_tiny", n, seed, **PUBLIC_IMAGES[n]) for n in stage]
    for kinds in (CORE, MORE, FURTHER):
        for seed in SPLIT_SEEDS:
            digits += [Knob("knobs_tiny", n, seed, 200, **o) for n, o in kinds.items()]
    for seed in SPLIT_SEEDS:
        digits += [Meanwhile("meanwhile_tiny", n, seed, 200, **o) for n, o in MEANWHILE.items()]
    long: Any = {"design": "paper"}
    digits += [Stopping("stopping_tiny", "paper", s, 1000, **long) for s in SPLIT_SEEDS]
    for name, options in FACES_KINDS.items():
        options = {"data": "drawn_faces"} | options
        digits += [Faces("faces_tiny", name, s, 200, **options) for s in SPLIT_SEEDS]
    faces = {"data": "drawn_faces", "size": 32, "label": "glasses"}
    digits += [WithoutAttack("honest_metrics", "digits", s, 0) for s in METRICS_SEEDS]
    digits += [
        WithoutAttack("honest_metrics", "drawn faces", s, 0, **faces) for s in METRICS_SEEDS[:5]
    ]
    at_scale: Any = {"data": "mnist", "profile": "paper"}
    mnist: list[Experiment] = [WatchedHijack("hijack_mnist", "fast", 0, 240, **at_scale)]
    rate = sl.paper.client_rate
    for name, data in (("MNIST", "mnist"), ("Fashion-MNIST", "fashion_mnist")):
        own = {"data": data, "profile": "paper", "size": 32}
        mnist += [WithoutAttack("honest_metrics", name, s, 0, **own) for s in METRICS_SEEDS[:5]]
    for name, design, steps, client_rate, seeds in (
        ("fast", "fast", 240, rate, MNIST_SEEDS),
        ("fast, client rate 1e-05", "fast", 480, 1e-5, (1,)),
        ("paper, client rate 1e-05", "paper", sl.paper.paper_steps, 1e-5, (1,)),
        ("paper, client rate 0.0003", "paper", sl.paper.paper_steps, rate, (1,)),
    ):
        own = {"design": design, "rate": client_rate}
        own["budget"] = CPU_BUDGET if design == "paper" else None
        mnist += [Hijack("mnist_paper_scale", name, s, steps, **at_scale, **own) for s in seeds]
    return (*digits, *mnist)


def recorded(table: str) -> Runs:
    """Return the recorded runs of a table, refused where an experiment is defined otherwise by now.

    Args:
        table: Its name in `splitlab/course/runs/`.

    Raises:
        FileNotFoundError: If there is no such table.
        ValueError: If its file is damaged.
        StaleRecord: As in `splitlab.course.records.recorded`.
    """

    def config(run: str, seed: int) -> dict[str, Any] | None:
        try:
            return find(table, run, seed).config
        except ValueError:  # a table of somebody's own
            return None

    return records.recorded(table, config)


def replay(table: str) -> watched_runs.Record:
    """Return the one watched run of a table, as if it had just been trained.

    Args:
        table: Its name in `splitlab/course/runs/`.

    Raises:
        FileNotFoundError: If there is no such table.
        ValueError: If the table has no watched run or several, or a file is damaged.
        StaleRecord: As in `splitlab.course.records.recorded`.
    """
    runs = recorded(table)
    watched = [row for row in runs if "log" in row]
    if len(watched) != 1:
        raise ValueError(
            f"{table} has {len(watched)} watched runs, and replay takes a table of one: read it "
            f"with sl.experiments.recorded({table!r})"
        )
    return watched_runs.replayed(watched[0], records.RUNS, runs.label)


def find(table: str, run: str, seed: int) -> Experiment:
    """Return the experiment of a kind with any seed, recorded or not.

    Raises:
        ValueError: If there is no such kind; names those of the table.
    """
    kinds = {(one.table, one.run): one for one in experiments()}
    if (table, run) not in kinds:
        of_table = [f"{t}/{r}" for t, r in kinds if t == table]
        known = of_table or sorted({t for t, _ in kinds})
        raise ValueError(f"no experiment makes {table}/{run}: choose from {'; '.join(known)}")
    return replace(kinds[table, run], seed=seed)
