"""Detectors for `splitlab attack fsha --watch NAME`, and the hijack's results by the alarm."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import splitlab as sl
from splitlab.core.tables import Table
from splitlab.course.experiments.hijack_settings import LIMIT
from splitlab.course.experiments.watched import OTHER_WEIGHTS
from splitlab.course.options import number
from splitlab.defenses import (
    FeatureTest,
    GradientRank,
    GradientScrutinizer,
    NormAlarm,
    SplitGuard,
    SplitOut,
)
from splitlab.referee.metrics import METRICS
from splitlab.settings import Setting

OFFLINE = (
    "An attacker who keeps the transcript still has every z that crossed, and can go on offline "
    "after the alarm: the first row is no upper bound."
)

MADE: dict[str, Callable[[], sl.Detector]] = {
    "splitguard": SplitGuard,
    "scrutinizer": GradientScrutinizer,
    "features": FeatureTest,
    "rank": GradientRank,
}
DETECTORS = ("splitguard", "norm", "scrutinizer", "splitout", "features", "rank")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --watch and --norm-limit to the parser of `splitlab attack fsha`."""
    parser.add_argument(
        "--watch",
        action="append",
        metavar="NAME",
        help="a detector of the client, which stops at its first alarm: "
        f"{', '.join(DETECTORS)}; can be given several times. The report then says what was lost "
        "by the alarm. An alarm is a result: the exit status is 0 with and without one",
    )
    parser.add_argument(
        "--norm-limit",
        type=number,
        metavar="X",
        help="the highest norm of the gradient that raises no alarm of --watch norm "
        f"({LIMIT:g} at profile tiny, from honest runs on digits; needed at the others)",
    )


def check(names: Sequence[str], limit: float | None, setting: Setting) -> None:
    """Refuse an invalid choice of detectors or limit.

    Args:
        names: What follows each --watch.
        limit: What follows --norm-limit.
        setting: The profile.

    Raises:
        ValueError: Says what is wrong and what to do.
    """
    for name in names:
        if name == "loss":
            raise ValueError(
                "--watch loss needs the U-shaped protocol, and this attack runs in vanilla: choose "
                f"from {', '.join(DETECTORS)}"
            )
        if name not in DETECTORS:
            raise ValueError(
                f"--watch {name or repr(name)}: there is no such detector; choose from "
                f"{', '.join(DETECTORS)}"
            )
    if limit is not None and "norm" not in names:
        raise ValueError("--norm-limit is the limit of --watch norm: add that, or leave it out")
    if limit is not None and not 0 < limit < math.inf:
        raise ValueError(f"--norm-limit is {limit:g}: choose a finite number above 0")
    if limit is None and "norm" in names and setting.name != "tiny":
        raise ValueError(
            f"--watch norm has no limit at profile {setting.name}: give it one with --norm-limit, "
            "such as the highest norm of honest runs"
        )


def detectors(
    names: Sequence[str],
    limit: float | None,
    setting: Setting,
    *,
    cut: int | None,
    classes: int,
    seed: int,
) -> list[sl.Detector]:
    """Make the detectors, which stop the client at the first alarm of any.

    Args:
        names: As in `check`.
        limit: As in `check`.
        setting: The profile.
        cut: Where the network is split; None for the setting's.
        classes: Of the private data, for SplitOut's network.
        seed: Seeds SplitOut's rehearsal.
    """

    def made(name: str) -> sl.Detector:
        if name == "norm":
            return NormAlarm(LIMIT if limit is None else limit)
        if name == "splitout":
            rest = setting.server_net(cut=cut, classes=classes, seed=seed + OTHER_WEIGHTS)
            return SplitOut(rest, seed=seed)
        return MADE[name]()

    return [made(name) for name in names]


@dataclass(frozen=True)
class Outcome:
    """The detectors' verdict on a run, and what the server had by the alarm.

    Attributes:
        names: The detectors' names, as on the command line.
        alarm: Name of the detector, step and evidence of the alarm that stopped the client; None if
            there was none.
        steps: Steps that the run was to take.
        sent: How many of the private images had crossed.
        of: How many private images there are.
        arrived: How many of the scored images had crossed.
        n: How many images are scored.
        received: Figures of the images decoded from the z that the server received.
    """

    names: tuple[str, ...]
    alarm: dict[str, Any] | None
    steps: int
    sent: int
    of: int
    arrived: int
    n: int
    received: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome as an entry of the JSON object."""
        return {
            "detectors": list(self.names),
            "alarm": self.alarm,
            "sent": self.sent,
            "of": self.of,
            "received": self.received,
        }

    def told(self, report: sl.Report) -> str:
        """Return the outcome as text, with the attack's figures for f as it is now."""
        end, when = ("last step", "by the end") if self.alarm is None else ("alarm", "by the alarm")
        rows = {f"the z received {when}": self.received, "new z, of f now": report.attack["attack"]}
        table = Table(
            ("images decoded from", *(report.columns[name] for name in METRICS)),
            [(label, *(figures[name] for name in METRICS)) for label, figures in rows.items()],
        )
        batch = "" if self.alarm is None else ", the batch of that step included"
        lines = [
            self.verdict,
            f"{self.sent} of {self.of} private images had crossed {when}{batch}.",
            "",
            str(table),
            "First row: the last z that the server received of each image, made by f as it was "
            f"then, decoded with the attack's weights at the {end}. {self.arrived} of the {self.n} "
            "scored images had crossed; any other counts as an image of zeros.",
            "Second row: the same images sent through f as it is now; it is the row "
            '"attack" of the report below.',
        ]
        return "\n".join(lines if self.alarm is None else [*lines, OFFLINE])

    @property
    def verdict(self) -> str:
        """The alarm, or that there was none."""
        if self.alarm is None:
            return f"No alarm in {self.steps} steps: {', '.join(self.names)}."
        name, step, evidence = (self.alarm[key] for key in ("detector", "step", "evidence"))
        return (
            f"Alarm of {name} at step {step} of {self.steps} (the first is step 0); the client "
            f"stopped.\nEvidence: {evidence}."
        )


def outcome(
    names: Sequence[str],
    alarm: sl.HijackingDetected | None,
    client: sl.Client,
    attack: sl.FSHA,
    received: sl.ReceivedImages,
    scorer: sl.Scorer,
    *,
    steps: int,
) -> Outcome:
    """Collect the outcome of a run.

    Args:
        names: The detectors' names, in the order of the client's defenses.
        alarm: What stopped the run, if anything did.
        client: The client.
        attack: The server, with its weights of that moment.
        received: The observer of the z that crossed, of the images that the scorer scores.
        scorer: Scores images.
        steps: Steps that the run was to take.
    """
    found = None
    if alarm is not None:
        found = next(
            {"detector": name, "step": detector.alarms[-1], "evidence": str(alarm)}
            for name, detector in zip(names, client.defenses, strict=True)
            if isinstance(detector, sl.Detector) and detector.alarms
        )
    return Outcome(
        names=tuple(names),
        alarm=found,
        steps=steps,
        sent=int(received.sent.sum()),
        of=len(received.sent),
        arrived=int(received.arrived.sum()),
        n=len(received.rows),
        received=scorer.score(received.shown(attack)),
    )
