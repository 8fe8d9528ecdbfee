"""How the open exercise of chapter 52 is scored: noise and pruning, against hidden attackers.

The student's `choose_blur(accuracy, most)` may train an honest pair a few times. Its choice is
scored at other seeds: by the accuracy on other images, and by the best of three attackers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from splitlab.core.tables import Table
from splitlab.course.checks.guard import wrong
from splitlab.course.checks.noise_and_other_blur.blurred_runs import (
    IMAGES,
    NORM,
    NUMBERS,
    REPEATS,
    SEEDS,
    TRIAL,
    accuracy,
    explained_by_each,
    honest,
    numbers,
)
from splitlab.course.checks.scored import Answer, expect_number, scored
from splitlab.course.checks.sight import what
from splitlab.course.checks.verdict import Score
from splitlab.defenses.noise import gaussian_epsilon

CALLS, MOST = 8, 0.02
NOISE = 0.015  # of a difference of means over `SEEDS`: about two standard errors
COST = 1e-3  # of a call of accuracy(): of two equally good choices, the cheaper one is better
DELTA = 1e-5
LEAST = 1e-3  # the smallest sigma of which an epsilon is computed
BESIDE = {"no defense": (0.0, 1.0), "noise of 0.5 alone": (0.5, 1.0)}


@scored(
    praise="your defense keeps enough accuracy, and the table shows the success of the best of "
    "three attackers.",
    seconds=90,
)
def choose_blur(answer: Answer) -> Score:
    """`choose_blur(accuracy, most)`: the noise, and the share of z that is kept."""
    tried, spent = budget()
    yours = _checked(answer(tried, MOST))
    _refuse_debts(spent())  # the answer may have caught the first refusal
    before, after = accuracy(*BESIDE["no defense"]), accuracy(*yours)
    if before - after > MOST + NOISE:
        wrong(
            f"the accuracy falls from {before:.3f} to {after:.3f}, means over {len(SEEDS)} seeds "
            f"that accuracy() does not use: at most {MOST:g} may be lost, and {NOISE:g} more is "
            "allowed for noise, so choose a smaller sigma or keep more of z"
        )
    rows = []
    for name, choice in (BESIDE | {"yours": yours}).items():
        explained = explained_by_each(*choice)
        rows.append([name, accuracy(*choice), *explained, max(explained)])
    caption = (
        f"Accuracy on digits: means over {len(SEEDS)} seeds. Then the share of the variance of "
        f"{IMAGES} private digits that each attacker explains, and the largest of the three, which "
        f"should be small. Yours: sigma {yours[0]:g}, and {numbers(yours[1])} of {NUMBERS} numbers "
        f"of z are kept; {_epsilon(yours[0])}."
    )
    head = ["defense", "accuracy", "one message", f"{REPEATS} messages", "network", "best attacker"]
    table = Table(head, rows, caption=caption, strong=len(rows) - 1)
    return Score(1 - rows[-1][-1] - COST * spent(), table)


def _epsilon(sigma: float) -> str:
    if not sigma:
        return "without noise there is no epsilon"
    epsilon = gaussian_epsilon(2 * NORM / sigma, DELTA)
    return f"the epsilon of one message is {epsilon:,.0f} at delta {DELTA:g}"


def _checked(chosen: Any) -> tuple[float, float]:
    """Return sigma and keep, checked; None for keep is 1, which is all of z."""
    if not isinstance(chosen, tuple | list) or len(chosen) != 2:
        wrong(f"choose_blur returns {what(chosen)}: return two numbers, sigma and keep")
    keep = 1.0 if chosen[1] is None else expect_number(chosen[1], "keep")
    return _in_range(expect_number(chosen[0], "sigma"), keep)


def _in_range(sigma: float, keep: float) -> tuple[float, float]:
    if sigma < 0:
        wrong(f"sigma is {sigma:g}: a standard deviation is at least 0, and 0 is no noise")
    if 0 < sigma < LEAST:
        wrong(f"sigma is {sigma:g}: choose 0 for no noise, or at least {LEAST:g}")
    if not 0 < keep <= 1:
        wrong(f"keep is {keep:g}: it is a share of z, above 0, and 1 for all of it")
    return sigma, keep


def budget() -> tuple[Callable[..., float], Callable[[], int]]:
    """Return accuracy(sigma, keep), which refuses too many calls, and a counter of its calls."""
    calls: list[tuple[float, float]] = []

    def trial(sigma: float = 0.0, keep: float | None = None) -> float:
        calls.append(_in_range(float(sigma), 1.0 if keep is None else float(keep)))
        _refuse_debts(len(calls))
        return honest(*calls[-1], TRIAL)[0]

    return trial, lambda: len(calls)


def _refuse_debts(calls: int) -> None:
    if calls > CALLS:
        wrong(
            f"choose_blur calls accuracy more than {CALLS} times: each call trains a network, "
            "so keep what it returned, and try values that are further apart"
        )
