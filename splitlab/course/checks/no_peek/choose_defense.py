"""How the open exercise of chapter 51 is scored: alpha and a clip, against hidden attackers.

The student's `choose_defense(accuracy, most)` may train an honest pair a few times. Its choice is
scored at other seeds: by the accuracy on other images, and by the best of three attackers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from splitlab.core.tables import Table
from splitlab.course.checks.guard import wrong
from splitlab.course.checks.no_peek.defended_runs import (
    IMAGES,
    SEEDS,
    TRIAL,
    accuracy,
    explained_by_each,
    honest,
)
from splitlab.course.checks.scored import Answer, expect_number, scored
from splitlab.course.checks.sight import what
from splitlab.course.checks.verdict import Score

CALLS, MOST = 8, 0.02
NOISE = 0.015  # of a difference of means over `SEEDS`: about two standard errors
COST = 1e-3  # of a call of accuracy(): of two equally good choices, the cheaper one is better
BESIDE = {"no defense": (0.0, math.inf), "alpha 8 without a clip": (8.0, math.inf)}


@scored(
    praise="your defense keeps enough accuracy, and the table shows the success of the best of "
    "three attackers.",
    seconds=120,
)
def choose_defense(answer: Answer) -> Score:
    """`choose_defense(accuracy, most)`: alpha, and the clip's greatest norm."""
    tried, spent = budget()
    yours = _checked(answer(tried, MOST))
    _refuse_debts(spent())  # the answer may have caught the first refusal
    before, after = accuracy(*BESIDE["no defense"]), accuracy(*yours)
    if before - after > MOST + NOISE:
        wrong(
            f"the accuracy falls from {before:.3f} to {after:.3f}, means over {len(SEEDS)} seeds "
            f"that accuracy() does not use: at most {MOST:g} may be lost, and {NOISE:g} more is "
            "allowed for noise, so choose a smaller alpha or a larger clip"
        )
    rows = []
    for name, choice in (BESIDE | {"yours": yours}).items():
        explained = explained_by_each(*choice)
        rows.append([name, accuracy(*choice), *explained, max(explained)])
    caption = (
        f"Accuracy on digits: means over {len(SEEDS)} seeds. Then the share of the variance of "
        f"{IMAGES} private digits that each attacker explains, and the largest of the three, which "
        f"should be small. Yours: alpha {yours[0]:g} and a clip of {yours[1]:g}."
    )
    head = ["defense", "accuracy", "hijack", "outbidding hijack", "oracle", "best attacker"]
    table = Table(head, rows, caption=caption, strong=len(rows) - 1)
    return Score(1 - rows[-1][-1] - COST * spent(), table)


def _checked(chosen: Any) -> tuple[float, float]:
    """Return alpha and the clip, checked; a clip of None is no clip."""
    if not isinstance(chosen, tuple | list) or len(chosen) != 2:
        wrong(f"choose_defense returns {what(chosen)}: return two numbers, alpha and clip")
    alpha = expect_number(chosen[0], "alpha")
    clip = math.inf if chosen[1] is None else expect_number(chosen[1], "clip", finite=False)
    if alpha < 0:
        wrong(f"alpha is {alpha:g}: the weight of the client's own loss is at least 0")
    if not clip > 0:
        wrong(f"clip is {clip:g}: the greatest norm is above 0, and math.inf for no clip")
    return alpha, clip


def budget() -> tuple[Callable[..., float], Callable[[], int]]:
    """Return accuracy(alpha, clip), which refuses too many calls, and a counter of its calls."""
    calls: list[tuple[float, float]] = []

    def trial(alpha: float = 0.0, clip: float | None = None) -> float:
        calls.append((float(alpha), math.inf if clip is None else float(clip)))
        _refuse_debts(len(calls))
        return honest(*calls[-1], TRIAL)[0]

    return trial, lambda: len(calls)


def _refuse_debts(calls: int) -> None:
    if calls > CALLS:
        wrong(
            f"choose_defense calls accuracy more than {CALLS} times: each call trains a network, "
            "so keep what it returned, and try values that are further apart"
        )
