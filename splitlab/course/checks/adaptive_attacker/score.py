"""How the open exercise of chapter 54 is scored: a detector, against attackers who know others.

The student's `score(history)` gets a threshold from honest runs. It is scored on malicious servers,
most of which hide, and on honest runs that look unusual.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from splitlab.core.tables import Table
from splitlab.course.checks.adaptive_attacker.watched_runs import (
    CALIBRATION,
    HONEST,
    MALICIOUS,
    STEPS,
    History,
    calibration,
    verdict_runs,
)
from splitlab.course.checks.guard import wrong
from splitlab.course.checks.scored import Answer, expect_number, scored
from splitlab.course.checks.verdict import Score
from splitlab.defenses.detector import alarm_threshold

BUDGET = 0.1  # of honest runs that may alarm
LOOKS = range(10, STEPS + 1, 10)  # steps after which the detector is asked
Looks = list[float]


@scored(
    praise="your detector keeps to the rules, and the table shows what it catches.",
    seconds=60,
)
def score(answer: Answer) -> Score:
    """`score(history)`: how suspicious the server is, from all that the client has seen so far."""
    yours = _scores(_watching(answer))
    found, reversed_ = _alarms(yours), _alarms([[-s for s in looks] for looks in yours])
    value = _value(found)
    if value <= 0 and _value(reversed_) > 0.5:
        wrong(
            "score is higher for honest servers than for malicious ones: reverse its sign, because "
            "a high score is an alarm"
        )
    norm = _norm_alone()
    rows = [
        [name, "honest" if name in HONEST else "malicious", _when(norm[name]), _when(found[name])]
        for name in found
    ]
    rows.append(["score", "", f"{_value(norm):.2f}", f"{value:.2f}"])
    head = ["run", "server", "norm alone", "yours"]
    return Score(value, Table(head, rows, caption=_caption(found), strong=len(rows) - 1))


def _watching(answer: Answer) -> Callable[[History], Looks]:
    """Return a function that gives the answer a whole run and checks that nothing has changed."""
    function = answer.guard.function

    def watch(history: History) -> Looks:
        return [expect_number(function(history[:look]), "the score") for look in LOOKS]

    return Answer(answer.guard, watch, answer.name)


def _scores(watch: Callable[[History], Looks]) -> list[Looks]:
    """Return the scores of all runs: calibration first, then the others.

    The runs come in a shuffled order: counting or remembering calls helps nobody.
    """
    histories = [*calibration(), *verdict_runs().values()]
    order = torch.randperm(len(histories), generator=torch.Generator().manual_seed(1)).tolist()
    found = {number: watch(histories[number]) for number in order}
    return [found[number] for number in range(len(histories))]


def _alarms(scores: list[Looks]) -> dict[str, int | None]:
    """Return by run the step of the first score above the threshold, or None."""
    honest, rest = scores[: len(CALIBRATION)], scores[len(CALIBRATION) :]
    threshold = alarm_threshold([max(looks) for looks in honest], BUDGET)
    return {
        name: next((step for step, s in zip(LOOKS, looks, strict=True) if s > threshold), None)
        for name, looks in zip(verdict_runs(), rest, strict=True)
    }


def _value(found: dict[str, int | None]) -> float:
    """The share of malicious servers that are caught, minus the share of honest runs that alarm."""
    caught = sum(found[name] is not None for name in MALICIOUS)
    alarmed = sum(found[name] is not None for name in HONEST)
    return caught / len(MALICIOUS) - alarmed / len(HONEST)


def _when(step: int | None) -> str:
    return "no alarm" if step is None else f"step {step}"


def _caption(found: dict[str, int | None]) -> str:
    missed = [name for name in MALICIOUS if found[name] is None]
    false = [name for name in HONEST if found[name] is not None]
    return (
        "The first alarm in each run. The threshold is the highest score of "
        f"{len(CALIBRATION)} other honest runs. The score is the share of malicious servers that "
        "are caught, minus the share of honest runs with an alarm. "
        f"Yours misses {_named(missed)}; its false alarms: {_named(false)}."
    )


def _named(names: list[str]) -> str:
    return "; ".join(names) or "none"


@functools.cache
def _norm_alone() -> dict[str, int | None]:
    """The alarms of the simplest detector: the largest norm so far."""
    return _alarms(_scores(lambda history: [_largest(history[:look]) for look in LOOKS]))


def _largest(history: list[Any]) -> float:
    return max(float(seen.dz.norm()) for seen in history)
