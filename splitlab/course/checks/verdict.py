"""The base of all checks: a check judges a function, and returns a verdict."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from splitlab.core.tables import Table
from splitlab.course.checks.guard import CheckFailed, Function, Guard

PRINTED = 1000  # characters of what an answer prints that are shown


@dataclass(frozen=True)
class Score:
    """The result of an open exercise, which has no single right answer.

    Attributes:
        value: The figure to raise; higher is better.
        table: The answer beside simple ones.
    """

    value: float
    table: Table


@dataclass(frozen=True, repr=False)
class Verdict:
    """The result of a check; a notebook shows it.

    Attributes:
        passed: Whether the answer is right, or keeps to the rules of an open exercise.
        message: One sentence: what the answer has shown, or what is wrong with it.
        seconds: What the answer took.
        output: What it printed.
        score: An open exercise's, if it passed.
    """

    passed: bool
    message: str
    seconds: float
    output: str = ""
    score: Score | None = None

    def __repr__(self) -> str:
        table = f"{self.score.table}\n" if self.score else ""
        return f"{self._printed()}{table}{self._sentence()}"

    def _repr_html_(self) -> str | None:
        if self.score is None:
            return None  # the sentence alone, as text
        return f"{self.score.table._repr_html_()}<p>{self._sentence()}</p>"

    def _sentence(self) -> str:
        if self.passed:
            return f"Passed: {self.message} ({self.seconds:.1f} s)"
        return f"Not yet: {self.message}"

    def _printed(self) -> str:
        text = self.output if len(self.output) <= PRINTED else f"{self.output[:PRINTED]}…\n"
        return "" if self.passed else text


@dataclass(kw_only=True)
class Check:
    """Judges the answers to one exercise.

    `check.name(answer)` in a notebook is the same as `check.name.verdict(answer)`. The answer runs
    in this process, so a pass helps the student, and proves nothing to a grader.

    Attributes:
        name: What the exercise calls the function.
        praise: What a right answer has shown, to end "Passed: ...".
        seconds: What the answer may take, all calls together.
    """

    name: str = field(init=False)
    praise: str
    seconds: float

    def __call__(self, answer: Function) -> Verdict:
        """Judge an answer."""
        return self.verdict(answer)

    def verdict(self, answer: Function, dtype: torch.dtype = torch.float64) -> Verdict:
        """Judge an answer. Nothing is printed, and nothing raised.

        Args:
            answer: The student's function.
            dtype: Of all floating-point numbers that the check draws.
        """
        with _lent_randomness(dtype):
            guard, score, message = Guard(answer, self.name, self.seconds), None, self.praise
            try:
                score, passed = self.judge(guard, dtype), True
            except CheckFailed as failure:
                passed, message = False, str(failure)
        spent, output = guard.seconds - guard.left, guard.output.getvalue()
        return Verdict(passed, message, spent, output, score)

    def judge(self, answer: Guard, dtype: torch.dtype) -> Score | None:
        """Judge an answer.

        Raises:
            CheckFailed: Saying what is wrong with it.
        """
        raise NotImplementedError


def seed_all(seed: int) -> None:
    """Seed the global random numbers of torch, numpy and Python.

    Of torch those of the CPU alone, where the checks draw: `torch.manual_seed` would write down its
    own callers for each kind of accelerator that is not there, which takes longer than most calls.
    """
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)


def randomness() -> tuple[Any, ...]:
    """The state of these random numbers, to be compared."""
    _, key, place, *_ = np.random.get_state()
    return torch.get_rng_state().numpy().tobytes(), random.getstate(), key.tobytes(), place


@contextmanager
def _lent_randomness(dtype: torch.dtype) -> Iterator[None]:
    """Lend the global random numbers and the default type to a check, and put them back."""
    python, numpy, default = random.getstate(), np.random.get_state(), torch.get_default_dtype()
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.set_default_dtype(dtype)
            yield
    finally:
        torch.set_default_dtype(default)
        random.setstate(python)
        np.random.set_state(numpy)
