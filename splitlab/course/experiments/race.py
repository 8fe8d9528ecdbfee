"""Tables and points of chapters 53 and 54, from the recorded runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from statistics import median
from typing import Any

from splitlab.core.tables import Table
from splitlab.course.experiments.alarms import (
    alarm_step,
    auc,
    extreme,
    lost_by,
    runs_of,
    side,
    thresholds,
)
from splitlab.course.experiments.catalogue import recorded
from splitlab.course.experiments.transcripts import STOPS
from splitlab.course.experiments.watched_kinds import (
    APART,
    BEGUN_LATE,
    BUDGET,
    CALIBRATION,
    HARD,
    LAMBDAS,
    MIXED,
)
from splitlab.course.records import Runs
from splitlab.defenses import alarm_threshold
from splitlab.show.frontier import Point

NAMES = {
    "SplitGuard": "SplitGuard",
    "GradientScrutinizer": "Gradients Scrutinizer",
    "SplitOut": "SplitOut",
    "NormAlarm": "norm",
    "GradientRank": "rank",
    "FeatureTest": "feature test",
}  # LossAlarm takes part in the U-shaped protocol alone
HIJACKS = ("fast", "paper", "fast, Adam 1e-4", "paper, Adam 1e-4", "property")
RACERS = ("fast", "paper")
EVASIONS = {
    "fast": "none",
    "factor 0.15": "factor 0.15",
    "mixed, 0.2": "mixed, lambda 0.2",
    "aware, 0.2": "mixed and aware, 0.2",
    "apart, 0.2": "apart and aware, 0.2",
    "delay 50": "50 honest steps",
    "delay 100": "100 honest steps",
    "late, 0.4": "61, mixed and aware, 0.4",
    "late, 0.2": "61, mixed and aware, 0.2",
}

Row = Mapping[str, Any]


@cache
def watched_runs() -> Runs:
    """Return the recorded runs of `watched_tiny`, which are read only once."""
    return recorded("watched_tiny")


@cache
def calibrated() -> dict[str, float]:
    """Return each detector's threshold at the budget of false alarms."""
    return thresholds(watched_runs())


def alarmed(detector: str, names: Iterable[str]) -> list[int | None]:
    """Return the step of the first alarm of every run of some kinds, None where there is none."""
    rows, threshold = watched_runs(), calibrated()[detector]
    return [
        alarm_step(row, detector, threshold)
        for name in names
        for row in runs_of(rows, name, detector)
    ]


def counted(steps: Sequence[int | None]) -> str:
    """Return how many runs alarmed, of how many."""
    return f"{sum(step is not None for step in steps)} of {len(steps)}"


def overview(caption: str = "") -> Table:
    """Return a row for each detector: false alarms, runs caught, AUC over runs, first alarms."""
    rows, table = watched_runs(), []
    for detector, name in NAMES.items():
        honest = [extreme(row, detector) for kind in HARD for row in runs_of(rows, kind, detector)]
        hijacked = [
            extreme(row, detector) for kind in HIJACKS for row in runs_of(rows, kind, detector)
        ]
        first = [step for step in alarmed(detector, HIJACKS) if step is not None]
        table.append(
            (
                name,
                counted(alarmed(detector, HARD)),
                counted(alarmed(detector, HIJACKS)),
                counted(alarmed(detector, ["random labels"])),
                f"{auc(honest, hijacked, side(detector)):.2f}",
                f"{median(first):.0f} ({min(first)} to {max(first)})" if first else "none",
            )
        )
    head = ("false alarms", "hijacks caught", "random labels", "AUC", "first alarm, step")
    return Table(("detector", *head), table, caption=caption)


def false_alarms(caption: str = "") -> Table:
    """Return the honest runs that alarmed, by kind and detector; the rank's are left out."""
    names = {one: name for one, name in NAMES.items() if one != "GradientRank"}
    rows = [(kind, *(counted(alarmed(one, [kind])) for one in names)) for kind in HARD]
    return Table(("honest runs", *names.values()), rows, caption=caption)


def race_points() -> list[Point]:
    """Return a mark for each recorded hijack and detector: the step of the alarm, and the loss.

    The heights are the share of images matched with the weights of the moment (the last look
    before the alarm), and the share matched afterwards from the transcript as it stood at the next
    recorded stop. Of honest runs, stopped at the same steps, there are the same two.
    """
    watched, transcripts = watched_runs(), recorded("transcripts_tiny")
    later = {(row["run"], row["seed"]): row["matched_later"] for row in transcripts}
    points = []
    for detector, name in NAMES.items():
        for kind in RACERS:
            for row in runs_of(watched, kind, detector):
                step = alarm_step(row, detector, calibrated()[detector])
                stop = next((s for s in STOPS if step is not None and s >= step), None)
                if step is None or stop is None:
                    continue
                now = lost_by(row, step)
                offline = later[f"{kind}, {stop} steps", row["seed"]]
                record = {"evidence": f"score {_score(row, detector, step):.3g}"}
                record["threshold"] = f"{calibrated()[detector]:.3g}"
                record["transcript"] = f"as it stood after {stop} steps"
                label = f"{kind}, seed {row['seed']}"
                points.append(Point(name, label, float(step), (now, offline), record))
    for row in transcripts:
        if row["run"].startswith("passive"):
            stop = row["config"]["stopped"]
            y = (row["matched_now"], row["matched_later"])
            about = {"alarm": "none: the server was honest"}
            points.append(
                Point("honest, no alarm", f"{stop} steps, seed {row['seed']}", stop, y, about)
            )
    return points


def transcript_curves() -> dict[str, tuple[list[float], list[list[float]], str]]:
    """Return what two attacks match at each recorded stop, as `sl.figures.bands` takes it."""
    rows = recorded("transcripts_tiny")

    def curves(kind: str, figure: str) -> list[list[float]]:
        seeds = sorted({row["seed"] for row in rows})
        found = {(row["run"], row["seed"]): row[figure] for row in rows}
        return [[found[f"{kind}, {stop} steps", seed] for stop in STOPS] for seed in seeds]

    x = [float(stop) for stop in STOPS]
    return {
        "hijack, weights of the moment": (x, curves("fast", "matched_now"), "attacker"),
        "hijack, from the transcript": (x, curves("fast", "matched_later"), "server"),
        "honest run, from the transcript": (x, curves("passive", "matched_later"), "client"),
    }


def sweep(detector: str, kinds: Mapping[str, Any]) -> list[tuple[str, float, float, float]]:
    """Return (kind, share matched, share of runs caught, AUC) of some kinds for a detector."""
    rows, found = watched_runs(), []
    honest = [extreme(row, detector) for kind in HARD for row in runs_of(rows, kind, detector)]
    for kind in kinds:
        runs = runs_of(rows, kind, detector)
        steps = alarmed(detector, [kind])
        caught = sum(step is not None for step in steps) / len(steps)
        scores = [extreme(row, detector) for row in runs]
        leaked = median(row["matched"] for row in runs)
        found.append((kind, leaked, caught, auc(honest, scores, side(detector))))
    return found


def frontier_points() -> list[Point]:
    """Return for each detector and each lambda what is matched, and how many runs are caught."""
    points = []
    for way, kinds in (("mixed", MIXED), ("apart", APART), ("late", BEGUN_LATE)):
        for detector, name in NAMES.items():
            if way == "late" and detector not in ("SplitGuard", "GradientScrutinizer"):
                continue
            for kind, leaked, caught, area in sweep(detector, kinds):
                label = f"lambda {kind.split()[-1]}"
                points.append(Point(f"{name}, {way}", label, leaked, (caught, area), {}))
    return points


def lambda_frames() -> dict[str, dict[str, list[float]]]:
    """Return for each lambda the rows of a picture: what is matched, and the share caught."""
    rows, frames = watched_runs(), {}
    for weight in LAMBDAS:
        drawn: dict[str, list[float]] = {}
        for way in ("mixed", "apart"):
            kind = f"{way}, {weight:g}"
            drawn[f"Task {way}"] = []
            drawn[f"images matched ({way})"] = [
                row["matched"] for row in runs_of(rows, kind, "NormAlarm")
            ]
            for detector, name in NAMES.items():
                steps = alarmed(detector, [kind])
                caught = sum(step is not None for step in steps) / len(steps)
                drawn[f"caught by {name} ({way})"] = [caught]
        frames[f"{weight:g}"] = drawn
    return frames


def spoken(rows: Mapping[str, Sequence[float]]) -> str:
    """Return the rows of a picture as words: medians over the runs."""
    said = [f"{label} {median(values):.2g}" for label, values in rows.items() if values]
    return f"{', '.join(said)}."


def evasions(caption: str = "") -> Table:
    """Return a row for each evasion: images matched, runs caught by detector."""
    rows, table = watched_runs(), []
    columns = [name for name in NAMES if name not in ("GradientRank", "FeatureTest")]
    for kind, name in EVASIONS.items():
        runs = runs_of(rows, kind, "NormAlarm")
        leaked = f"{median(row['matched'] for row in runs):.2f}"
        table.append((name, leaked, *(counted(alarmed(one, [kind])) for one in columns)))
    head = ("evasion", "matched", *(NAMES[name] for name in columns))
    return Table(head, table, caption=caption)


def always_armed(kind: str) -> list[int | None]:
    """Return the first alarms of Gradients Scrutinizer if it judges to the end of the run.

    The threshold is calibrated for that, at the same budget.
    """
    detector, rows = "GradientScrutinizer", list(watched_runs())

    def unbounded(row: Row) -> list[tuple[int, float]]:
        kept = row["records"][detector]
        return list(zip(kept["steps"], kept["scores"], strict=True))

    honest = [kind for kind in CALIBRATION if "U-shaped" not in kind]
    extremes = [unbounded(row)[-1][1] for one in honest for row in runs_of(rows, one, detector)]
    threshold = alarm_threshold(extremes, BUDGET, "below")
    return [
        next((step for step, score in unbounded(row) if score < threshold), None)
        for row in runs_of(rows, kind, detector)
    ]


def any_alarm(caption: str = "") -> Table:
    """Return how many runs alarm at any of the six detectors, by group of kinds."""
    groups = {
        "honest, as calibrated": ("plain",),
        "honest, hard": tuple(HARD),
        "hijacks that know nothing": HIJACKS,
        "mixed": tuple(MIXED),
        "apart and aware": tuple(APART),
        "late, mixed and aware": tuple(BEGUN_LATE),
    }
    table = []
    for group, kinds in groups.items():
        each = zip(*(alarmed(detector, kinds) for detector in NAMES), strict=True)
        seen = [any(step is not None for step in steps) for steps in each]
        table.append((group, str(len(seen)), str(sum(seen))))
    return Table(("runs", "recorded", "with an alarm"), table, caption=caption)


def _score(row: Row, detector: str, step: int) -> float:
    kept = row["records"][detector]
    return float(kept["scores"][kept["steps"].index(step)])
