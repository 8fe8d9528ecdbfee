"""Open exercises: no right answer, but a score, and rules that the answer must keep."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from splitlab.course.checks.comparison import unlike
from splitlab.course.checks.guard import Function, Guard, wrong
from splitlab.course.checks.sight import PLAIN, alike, facts, plain, what
from splitlab.course.checks.verdict import Check, Score, Verdict


class Answer:
    """A student's function, or one that it has returned. It must leave its arguments as they are.

    Args:
        guard: Calls it.
        function: If it was returned by another one.
        name: What the exercise calls it.
    """

    def __init__(self, guard: Guard, function: Function | None = None, name: str = "") -> None:
        self.guard = guard
        self.function = guard.function if function is None else function
        self.name = name or guard.name

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Return what the function returns.

        Raises:
            CheckFailed: If it raises, returns nothing, changes an argument, takes too long, or does
                what no answer needs.
        """
        named = {f"argument {number}": value for number, value in enumerate(arguments, 1)}
        before = facts(named)
        result = self.guard.run(self.function, *arguments, **options)
        if result is None:
            wrong(f"{self.name} returns nothing: end it with a return")
        after = facts(named)
        for kind in ("values", "requires", "modes", "weights"):
            for fact in (fact for fact in before if fact[0] == kind):
                if not alike(before[fact], after.get(fact), 0):
                    wrong(f"{self.name} changes its {fact[1]}: leave it as it is, work on a copy")
        return result


@dataclass(kw_only=True)
class Open(Check):
    """An open exercise; see `scored`."""

    body: Callable[[Answer], Score]

    def __post_init__(self) -> None:
        self.name = self.body.__name__

    def verdict(self, answer: Function, dtype: torch.dtype = torch.float32) -> Verdict:
        """Judge an answer; see `Check`. The course's data and networks are float32."""
        return super().verdict(answer, dtype)

    def judge(self, answer: Guard, dtype: torch.dtype) -> Score:
        """Score an answer.

        Raises:
            CheckFailed: If it breaks the rules.
        """
        torch.manual_seed(0)
        return self.body(Answer(answer))


def scored(*, praise: str, seconds: float) -> Callable[[Callable[[Answer], Score]], Open]:
    """Make an open exercise of a function that calls the `Answer` and returns its `Score`.

    Args:
        praise: What an answer that keeps the rules has shown.
        seconds: What the answer may take in all.
    """
    return lambda body: Open(praise=praise, seconds=seconds, body=body)


def expect_tensor(value: Any, name: str, shape: tuple[int, ...] | torch.Size) -> Tensor:
    """Return a value if it is a plain float tensor of finite numbers and of this shape.

    Raises:
        CheckFailed: If it is anything else.
    """
    if text := unlike(plain(value), torch.zeros(shape, dtype=torch.float16), name, 0, types=False):
        wrong(text)
    tensor: Tensor = value
    return tensor


def expect_number(value: Any, name: str, *, finite: bool = True) -> float:
    """Return a number, or a plain tensor without axes, as a float.

    Raises:
        CheckFailed: If it is anything else; if it is not finite, unless that is allowed.
    """
    if type(value) in PLAIN and value.dim():
        wrong(f"{name} has shape {tuple(value.shape)}: return one number")
    value = plain(value.item() if type(value) in PLAIN else value)
    if type(value) not in (bool, int, float):
        wrong(f"{name} should be a number and is {what(value)}")
    if finite and not math.isfinite(value):
        wrong(f"{name} is {value}: look for a division by 0 or the mean of nothing")
    return float(value)
