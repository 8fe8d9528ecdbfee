"""Thresholds applied to watched runs: which are caught, at which step, and what is lost by then."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import splitlab as sl
from splitlab.course.experiments.watched import EVERY, judged
from splitlab.course.experiments.watched_kinds import BUDGET, CALIBRATION, GUARD
from splitlab.defenses import alarm_threshold, most_suspicious
from splitlab.defenses.detector import Side

DETECTORS = (
    *("SplitGuard", "GradientScrutinizer", "SplitOut", "NormAlarm", "GradientRank"),
    *("FeatureTest", "LossAlarm"),
)
Row = Mapping[str, Any]


def extreme(row: Row, detector: str) -> float:
    """Return the most suspicious score of a run; without any score, a value that never alarms."""
    return most_suspicious(judged(row["records"][detector], detector), side(detector))


def side(detector: str) -> Side:
    """Return on which side of the threshold a detector alarms."""
    kind: type[sl.Detector] = getattr(sl.defenses, detector)
    return kind.ALARMS


def alarm_step(row: Row, detector: str, threshold: float) -> int | None:
    """Return the step of a run's first alarm, from 0; None if there is none."""
    above = side(detector) == "above"
    for step, score in judged(row["records"][detector], detector):
        if score > threshold if above else score < threshold:
            return step
    return None


def runs_of(rows: Iterable[Row], name: str, detector: str) -> list[Row]:
    """Return the runs of a kind that a detector watched, by seed."""
    run = f"{name}, {GUARD}" if detector == GUARD else name
    return sorted((row for row in rows if row["run"] == run), key=lambda row: row["seed"])


def thresholds(rows: Iterable[Row], budget: float = BUDGET) -> dict[str, float]:
    """Return each detector's threshold from the honest runs that were set aside for it.

    Args:
        rows: Recorded runs of `watched_tiny`.
        budget: The share of honest runs that may alarm.
    """
    rows, found = list(rows), {}
    for detector in DETECTORS:
        extremes = [
            extreme(row, detector)
            for name in CALIBRATION
            if ("U-shaped" in name) == (detector == "LossAlarm")
            for row in runs_of(rows, name, detector)
        ]
        found[detector] = alarm_threshold(extremes, budget, side(detector))
    return found


def lost_by(row: Row, step: int | None) -> float:
    """Return the share of a hijacked run's images that were matched at the last look before a step.

    Args:
        row: A run with `received`.
        step: The step of the alarm; None for the end of the run.
    """
    curve: list[float] = row["received"]
    looks = len(curve) if step is None else step // EVERY
    return curve[looks - 1] if looks else 0.0


def auc(honest: Iterable[float], hijacked: Iterable[float], alarms: Side) -> float:
    """Return the area under the ROC curve over runs, from their most suspicious scores."""
    sign = 1 if alarms == "above" else -1
    pairs = [(sign * a, sign * b) for a in honest for b in hijacked]
    return sum((b > a) + 0.5 * (b == a) for a, b in pairs) / len(pairs)
