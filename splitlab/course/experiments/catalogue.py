"""All recorded experiments, and a lookup by kind and seed."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import splitlab as sl
from splitlab.course import records
from splitlab.course.experiments.against_whole import SplitAgainstWhole
from splitlab.course.experiments.base import Experiment
from splitlab.course.experiments.blur_hijacks import CONFIRMED, BlurHijack
from splitlab.course.experiments.blur_hijacks import FURTHER as FURTHER_BLURS
from splitlab.course.experiments.blurs import CHOSEN, SCREENED, Blur
from splitlab.course.experiments.client_gan import (
    CLIENT_GANS,
    MORE_CLIENT_GANS,
    ClientGANRun,
)
from splitlab.course.experiments.client_gan_faces import CLIENT_GAN_FACES, ClientGANFaces
from splitlab.course.experiments.client_networks import HONEST, Honest, OtherClient
from splitlab.course.experiments.client_networks import KINDS as WHY
from splitlab.course.experiments.client_view import CLIENT_VIEWS, ClientView
from splitlab.course.experiments.dp_audit import AUDITS, MORE_AUDITS, DPAudit
from splitlab.course.experiments.faces import FACES_KINDS, Faces
from splitlab.course.experiments.hijack_settings import CORE, FURTHER, MORE, HijackSetting
from splitlab.course.experiments.hijacks import Hijack
from splitlab.course.experiments.label_inference import LabelLeak, TailLabels
from splitlab.course.experiments.no_peek import (
    AT_SCALE,
    DUELS,
    FACES_INVERSIONS,
    FURTHER_DUELS,
    INVERSIONS,
    NoPeekHijack,
    NoPeekInversions,
    RatioAtScale,
)
from splitlab.course.experiments.passive_inversions import PassiveInversions
from splitlab.course.experiments.poisoning import POISONINGS, PoisoningRun
from splitlab.course.experiments.property_inference import KINDS as PROPERTIES
from splitlab.course.experiments.property_inference import PropertyHijack, SlantAndPicture
from splitlab.course.experiments.property_share import SHARES, PropertyShare
from splitlab.course.experiments.protocols_against_whole import ProtocolAgainstWhole
from splitlab.course.experiments.public_images import KINDS as PUBLIC_IMAGES
from splitlab.course.experiments.public_images import STAGES, PublicImages
from splitlab.course.experiments.server_backdoor import SERVER_BACKDOORS, ServerBackdoorRun
from splitlab.course.experiments.transcripts import transcripts
from splitlab.course.experiments.two_dimensions import TwoDimensions
from splitlab.course.experiments.unsplit import Inversion
from splitlab.course.experiments.watched_kinds import all_watched
from splitlab.course.experiments.without_attack import WithoutAttack
from splitlab.course.records import Runs

DIGITS_SEEDS = tuple(range(100, 106))
SPLIT_SEEDS = tuple(range(100, 105))
METRICS_SEEDS = tuple(range(100, 110))
MNIST_SEEDS = (1, 2, 3)
CPU_BUDGET = 600.0  # seconds, for the paper's own design at its own scale

# The kinds of `protocols_tiny`, in the order in which a table shows them: four that equal whole
# training exactly, one that equals it but for rounding error, and others, each of which changes one
# thing in one of these (or, the last, in the vanilla protocol).
UNION: dict[str, Any] = {
    **{"protocol": "SplitFed v1", "clinics": 3},
    **{"optimizer": "SGD", "change": "without BatchNorm"},
}
PROTOCOLS: dict[str, dict[str, Any]] = {
    "U-shaped": {"protocol": "U-shaped"},
    "labels at the server": {"protocol": "labels at the server"},
    "in turn": {"protocol": "sequential", "clinics": 3},
    "in turn, through the server": {"protocol": "through the server", "clinics": 3},
    "SplitFed v1, SGD, no BatchNorm": UNION,
    "SplitFed v1, SGD": UNION | {"change": ""},
    "SplitFed v1, Adam, no BatchNorm": UNION | {"optimizer": "Adam"},
    "SplitFed v2, SGD, no BatchNorm": UNION | {"protocol": "SplitFed v2"},
    "in turn, Adam's state stays": {
        **{"protocol": "sequential", "clinics": 3, "optimizer_state": False},
    },
    "nothing handed on": {"protocol": "vanilla", "clinics": 3},
    "vanilla, norms clipped": {"protocol": "vanilla", "optimizer": "clipped Adam"},
}

# The kinds of `leaks_tiny`: the cuts, one cut made narrow, and an f that never learns.
LEAKS: dict[str, dict[str, Any]] = {
    "cut 1": {"cut": 1},
    "cut 2": {"cut": 2},
    "cut 3": {"cut": 3},
    "cut 4": {"cut": 4, "longer": True},
    "cut 2, 1 channel": {"cut": 2, "width": 1},
    "cut 2, f never learns": {"cut": 2, "frozen": True},
}
DEPTHS = ("cut 1", "cut 2", "cut 3", "cut 4")
# The kinds of `labels_tiny`: one digit at each cut; two labels of faces, a hat (three in ten) and
# glasses (half), at the deepest cut, where the client has most to learn; and defenses.
HAT: dict[str, Any] = {"data": "drawn_faces", "label": "hat", "at": 4}
LABELS: dict[str, dict[str, Any]] = {
    "is it a 0": {"label": "0"},
    "ten digits": {},
    "hat": HAT,
    "glasses": HAT | {"label": "glasses"},
    "hat, f frozen": HAT | {"learns": False},
    "hat, max norm": HAT | {"defense": "max norm"},
}
for _kind in ("noise", "Marvell"):
    for _strength in (1.0, 4.0, 16.0):
        _defended = {"defense": _kind, "strength": _strength}
        LABELS[f"hat, {_kind} {_strength:g}"] = HAT | _defended
for _cut in (1, 3, 4):  # "is it a 0" is at cut 2
    LABELS[f"is it a 0, cut {_cut}"] = {"label": "0", "at": _cut}
# UnSplit's labels in the U-shaped protocol, in the same table.
TAILS: dict[str, dict[str, Any]] = {
    "labels, one layer": {},
    "labels, one layer, known": {"known": True},
    "labels, two layers": {"layers": 2},
    "labels, two layers, known": {"layers": 2, "known": True},
}
# The kinds of `unsplit_tiny`: the cuts from shallow to deep, then the search changed in one thing.
# Faces are light on gray, not on black, and the attacker knows that.
CUTS: dict[str, dict[str, Any]] = {
    "shallow": {},
    "cut 1, no BatchNorm": {"cut": 1, "norm": False},
    "cut 1": {"cut": 1},
    "cut 2, no BatchNorm": {"cut": 2, "norm": False},
    "cut 2": {"cut": 2},
    "faces, shallow": {"data": "drawn_faces", "background": 0.25, "start": 0.3},
}
SEARCHES: dict[str, dict[str, Any]] = {
    "shallow, no total variation": {"tv_weight": 0.0},
    "shallow, no background term": {"background_weight": 0.0},
    "shallow, bright start": {"start": 0.95},
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
    digits: list[Experiment] = [
        SplitAgainstWhole("split_tiny", "vanilla", seed, 400) for seed in SPLIT_SEEDS
    ]
    for name, options in PROTOCOLS.items():
        digits += [
            ProtocolAgainstWhole("protocols_tiny", name, seed, 30, **options)
            for seed in SPLIT_SEEDS
        ]
    for name, options in LABELS.items():
        digits += [LabelLeak("labels_tiny", name, s, 200, **options) for s in SPLIT_SEEDS]
    for name, options in TAILS.items():
        digits += [TailLabels("labels_tiny", name, s, 200, **options) for s in SPLIT_SEEDS]
    for seed in SPLIT_SEEDS:  # one seed after the other: the kinds share the referee's classifiers
        kinds = CUTS | SEARCHES
        digits += [Inversion("unsplit_tiny", n, seed, 400, **o) for n, o in kinds.items()]
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
        digits += [Honest("why_tiny", n, seed, **o) for n, o in HONEST.items()]
    for stage in STAGES:
        for seed in SPLIT_SEEDS:
            digits += [PublicImages("public_tiny", n, seed, **PUBLIC_IMAGES[n]) for n in stage]
    for kinds in (CORE, MORE, FURTHER):
        for seed in SPLIT_SEEDS:
            digits += [
                HijackSetting("hijack_settings_tiny", n, seed, 200, **o) for n, o in kinds.items()
            ]
    for seed in SPLIT_SEEDS:
        digits += [
            ClientView("client_view_tiny", n, seed, 200, **o) for n, o in CLIENT_VIEWS.items()
        ]
    for kinds in (CLIENT_GANS, MORE_CLIENT_GANS):
        for seed in SPLIT_SEEDS:  # seed by seed, too
            digits += [
                ClientGANRun("client_gan_tiny", n, seed, 1000, **o) for n, o in kinds.items()
            ]
    for name, options in CLIENT_GAN_FACES.items():
        digits += [ClientGANFaces("client_gan_tiny", name, s, **options) for s in SPLIT_SEEDS]
    for seed in SPLIT_SEEDS:
        digits += [PoisoningRun("poisoning_tiny", n, seed, 20, **o) for n, o in POISONINGS.items()]
        digits += [
            ServerBackdoorRun("poisoning_tiny", n, seed, 400, **o)
            for n, o in SERVER_BACKDOORS.items()
        ]
    for seed in SPLIT_SEEDS:  # seed by seed, too
        for name, options in (INVERSIONS | FACES_INVERSIONS).items():
            options = {"steps": 300} | options
            digits.append(NoPeekInversions("no_peek_tiny", name, seed, **options))
        further = FURTHER_DUELS if seed in SPLIT_SEEDS[:2] else {}
        for name, options in (DUELS | further).items():
            options = {"steps": 200} | options
            digits.append(NoPeekHijack("no_peek_tiny", name, seed, **options))
    for seed in SPLIT_SEEDS:
        screened = seed in SPLIT_SEEDS[:2]
        blurs = CHOSEN | (SCREENED if screened else {})
        digits += [
            Blur("blurs_tiny", n, seed, 300, defense=d, strength=s) for n, (d, s) in blurs.items()
        ]
        hijacked = CONFIRMED | (FURTHER_BLURS if screened else {})
        digits += [
            BlurHijack("blurs_tiny", n, seed, **{"steps": 200} | o) for n, o in hijacked.items()
        ]
        audits = AUDITS | (MORE_AUDITS if screened else {})
        digits += [DPAudit("dp_audit_tiny", n, seed, 60, **o) for n, o in audits.items()]
    digits += all_watched(SPLIT_SEEDS)
    for seed in SPLIT_SEEDS:
        digits += transcripts(seed)
    for name, options in FACES_KINDS.items():
        options = {"data": "drawn_faces"} | options
        digits += [Faces("faces_tiny", name, s, 200, **options) for s in SPLIT_SEEDS]
    faces = {"data": "drawn_faces", "size": 32, "label": "glasses"}
    digits += [WithoutAttack("honest_metrics", "digits", s, 0) for s in METRICS_SEEDS]
    digits += [
        WithoutAttack("honest_metrics", "drawn faces", s, 0, **faces) for s in METRICS_SEEDS[:5]
    ]
    at_scale: Any = {"data": "mnist", "profile": "paper"}
    mnist: list[Experiment] = []
    rate = sl.paper.client_rate
    as_digits = {"public": 640, "n_match": 500}  # as many as digits have
    for name, data, fewer in (
        ("MNIST", "mnist", {}),
        ("MNIST, as few as digits", "mnist", as_digits),
        ("Fashion-MNIST", "fashion_mnist", {}),
    ):
        own = {"data": data, "profile": "paper", "size": 32, **fewer}
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
    pair = "pair, the paper's networks"
    mnist += [RatioAtScale("no_peek_tiny", pair, seed, **AT_SCALE) for seed in MNIST_SEEDS]
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
