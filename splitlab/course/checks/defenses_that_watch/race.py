"""Exercise 4: when a run alarms, and what the server has by then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from splitlab.course.checks.guard import wrong
from splitlab.course.checks.judge import exercise
from splitlab.course.checks.sight import what

Scores = list[tuple[int, float]]
Given = tuple[Scores, float, list[float]]
EVERY = 10  # steps from one look to the next


def _case(
    steps: range, threshold: float, *, above: tuple[int, ...] = (), at: tuple[int, ...] = ()
) -> Callable[[], Given]:
    """A run with scores at these steps: above the threshold at `above`, equal to it at `at`.

    Every second one of those above is higher, and the share falls now and then.
    """

    def case() -> Given:
        low = (threshold - 0.1 - torch.rand(len(steps))).tolist()
        high = {s: threshold + 0.1 * (1 + n % 2) for n, s in enumerate(above)}
        known = high | dict.fromkeys(at, threshold)
        scores = [(s, known.get(s, score)) for s, score in zip(steps, low, strict=True)]
        looks = -(-(steps[-1] + 1) // EVERY)
        shares = [look + (2, -1, -1)[look % 3] + float(torch.rand(())) for look in range(looks)]
        return scores, threshold, [share / (looks + 1) for share in shares]

    return case


def _said(result: Any, scores: Scores, threshold: float, shares: list[float]) -> Any:
    """Replace a step that is None by its name: the judge cannot compare None."""
    if not isinstance(result, tuple | list) or len(result) != 2:
        return result
    alarm, share = result
    there = any(score > threshold for _, score in scores)
    if alarm is None and there:
        wrong(
            "the alarm step is None, and a score is above the threshold: return the step of the "
            "first one (compare with None: `if alarm` is false for step 0, too)"
        )
    if alarm is not None and not isinstance(alarm, int):
        wrong(f"the alarm step should be a whole number or None and is {what(alarm)}")
    if alarm is not None and not there:
        wrong(f"the alarm step is {alarm}, and no score is above the threshold: return None there")
    return ("None" if alarm is None else alarm), share


def _at(alarm: int, shares: list[float]) -> float:
    looks = alarm // EVERY
    return shares[looks - 1] if looks else 0.0


def _with(
    *,
    suspicious: Callable[[float, float], bool] = lambda score, threshold: score > threshold,
    chosen: Callable[[list[int]], int] = min,
    named: Callable[[int], int] = lambda alarm: alarm,
    lost: Callable[[int, list[float]], float] = _at,
    without: Callable[[list[float]], float] = lambda shares: shares[-1],
    index: bool = False,
) -> Callable[[Scores, float, list[float]], Any]:
    """An answer that has one part wrong.

    Args:
        suspicious: (score, threshold) -> whether that is an alarm.
        chosen: The steps of all alarms -> the one that counts.
        named: What the step is called.
        lost: (the alarm's step, the shares) -> the share that is returned.
        without: The same, for a run without an alarm.
        index: Whether places in the list are taken for steps.
    """

    def answer(scores: Scores, threshold: float, shares: list[float]) -> Any:
        pairs = enumerate(scores)
        alarms = [n if index else s for n, (s, score) in pairs if suspicious(score, threshold)]
        if not alarms:
            return None, without(shares)
        alarm = chosen(alarms)
        return named(alarm), lost(alarm, shares)

    return answer


def _highest(scores: Scores, threshold: float, shares: list[float]) -> Any:
    step, score = max(scores, key=lambda pair: pair[1])
    return (step, _at(step, shares)) if score > threshold else (None, shares[-1])


@exercise(
    cases=[
        _case(range(50), 0.5, above=(29, 38, 44)),
        _case(range(5, 60, 4), -0.2, above=(33, 41)),
        _case(range(40), 0.9, above=(20, 38), at=(12,)),
        _case(range(40), 0.3, above=(7, 25)),
        _case(range(30), 0.5, above=(0,)),
        _case(range(0, 60, 2), 1.5, at=(30,)),
        _case(range(8, 45), 0.1),
        lambda: ([], 0.5, torch.rand(3).tolist()),  # a run in which no step was judged
    ],
    returns=("the alarm step", "the share matched"),
    use=_said,
    praise="an early alarm limits the loss, and an alarm that comes late stops nothing.",
    otherwise="step or share is not right: return the step of the first score above the "
    "threshold and the share at the last look by then, or None and the last entry of shares",
    slips={
        "this is the first look after the alarm: nothing is lost after it, so take the last look "
        "at or before it": _with(lost=lambda alarm, shares: shares[alarm // EVERY]),
        "a look at the very step of the alarm does not count here: when step 20 begins, 20 steps "
        "are finished, and the look after them, too": _with(
            lost=lambda alarm, shares: _at(alarm - 1, shares) if alarm else 0.0
        ),
        "the look after the alarm's own step counts here: steps are counted from 0, and an alarm "
        "at step s comes when s steps are finished": _with(
            lost=lambda alarm, shares: _at(alarm + 1, shares)
        ),
        "the alarm's step is counted from 1: return the step that scores gives": _with(
            named=lambda alarm: alarm + 1
        ),
        "the alarm's step and its look are counted from 1: use the step that scores gives": (
            _with(
                named=lambda alarm: alarm + 1,
                lost=lambda alarm, shares: _at(alarm + 1, shares),
            )
        ),
        "the look is one too early: after 10 * (i + 1) steps it has the index i": _with(
            lost=lambda alarm, shares: _at(alarm - EVERY, shares) if alarm >= EVERY else 0.0
        ),
        "an alarm before the first look gets the last entry of shares, by the index -1: the share "
        "is 0.0 then": _with(lost=lambda alarm, shares: shares[alarm // EVERY - 1]),
        "an alarm before the first look gets the share of that look: it is 0.0 then": _with(
            lost=lambda alarm, shares: shares[max(alarm // EVERY - 1, 0)]
        ),
        "a score at the threshold is an alarm here: it has to be above": _with(
            suspicious=lambda score, threshold: score >= threshold
        ),
        "scores below the threshold are alarms here: high ones are suspicious": _with(
            suspicious=lambda score, threshold: score < threshold
        ),
        "this is the last alarm: the first one stops the run": _with(chosen=max),
        "this is the highest score: the first alarm stops the run": _highest,
        "this is the place in the list: scores may begin late and leave steps out, so take the "
        "step from the pair": _with(index=True),
        "the share at the end of the run is returned: the alarm stops it, so take the last look by "
        "then": _with(lost=lambda alarm, shares: shares[-1]),
        "this is the largest share by then: take that of the last look": _with(
            lost=lambda alarm, shares: max([0.0, *shares[: alarm // EVERY]])
        ),
        "nothing is lost in a run without an alarm here: nobody stops it, so return the last entry "
        "of shares": _with(without=lambda shares: 0.0),
        "the share is looked up by the step itself: there is one entry for 10 steps": _with(
            lost=lambda alarm, shares: shares[alarm]
        ),
        "an alarm at step 0 is taken for none: compare with None, for 0 is false, too": (
            lambda scores, threshold, shares: (
                _with()(scores, threshold, shares)
                if _with()(scores, threshold, shares)[0]
                else (None, shares[-1])
            )
        ),
    },
)
def race(scores: Scores, threshold: float, shares: list[float]) -> Any:
    return _with()(scores, threshold, shares)
