"""What all checks share: they call the student's function, and answer in one sentence."""

from __future__ import annotations

import functools
import linecache
import math
import numbers
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from splitlab.course.checks.guard import CheckFailed, NotWrittenYet, wrong
from splitlab.course.checks.verdict import Score
from splitlab.nets.evaluation import duplicate


class Answer:
    """A student's function. Calling it turns what goes wrong inside into a `CheckFailed`.

    Args:
        function: The function, from the notebook.
        name: What the exercise calls it.

    Raises:
        CheckFailed: If it is not a function.
    """

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        if not callable(function):
            raise CheckFailed(
                f"the check wants the function itself, not a {type(function).__name__}: "
                f"write check.{name}({name}), without parentheses after the second {name}"
            )
        self.function, self.name = function, name

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Return what the function returns.

        Raises:
            NotWrittenYet: If the function still raises what the stub does.
            CheckFailed: If it raises anything else, or returns nothing.
        """
        result = self.act(*arguments, **options)
        if result is None:
            raise CheckFailed(f"{self.name} returns nothing: end it with a return")
        return result

    def act(self, *arguments: Any, **options: Any) -> Any:
        """Return what the function returns, which may be nothing: it is called for what it does.

        Raises:
            NotWrittenYet: If the function still raises what the stub does.
            CheckFailed: If it raises anything else.
        """
        try:
            return self.function(*arguments, **options)
        except CheckFailed:  # from a helper that the check handed to the function
            raise
        except Exception as error:
            # torch raises NotImplementedError, too, for operations that a type does not have.
            if isinstance(error, NotImplementedError) and "not written yet" in str(error):
                raise NotWrittenYet(
                    f"{self.name} is not written yet; put your code where it says so, run that "
                    "cell, and then this one again"
                ) from error
            raise CheckFailed(
                f"{self.name} stopped with {type(error).__name__}: {_one_line(error)}"
                f"{_where(error, self.function)}"
            ) from error


def check(
    praise: str = "",
) -> Callable[[Callable[[Answer], Score | None]], Callable[..., Score | None]]:
    """Make a check of a function that calls the student's `Answer` and raises `CheckFailed`.

    The check runs with random numbers of its own and leaves torch's as they were, so that it says
    the same thing every time.

    Args:
        praise: What a correct answer has shown, to end "Passed: ...". An open exercise's check
            needs none: its `Score` is no verdict.
    """

    def decorate(body: Callable[[Answer], Score | None]) -> Callable[..., Score | None]:
        name = body.__name__

        @functools.wraps(body)
        def run(function: Callable[..., Any]) -> Score | None:
            answer = Answer(function, name)
            with torch.random.fork_rng(devices=[]), torch.enable_grad():
                torch.manual_seed(0)
                score = body(answer)
            if score is None:
                print(f"Passed: {praise}")
            return score

        return run

    return decorate


def expect_tensor(value: Any, name: str, shape: tuple[int, ...] | torch.Size) -> Tensor:
    """Return `value` if it is a float tensor of finite numbers and of this shape.

    Args:
        value: What the student's function returned.
        name: What it should be, in the field's words: "dz".
        shape: The shape it should have; () for a number.

    Raises:
        CheckFailed: If it is anything else.
    """
    if not isinstance(value, Tensor):
        raise CheckFailed(f"{name} should be a tensor and is {what(value)}")
    if value.shape != torch.Size(shape):
        raise CheckFailed(
            f"{name} has shape {tuple(value.shape)} where {tuple(shape)} is expected"
            + (": one number, the mean over the batch" if tuple(shape) == () else "")
        )
    if not value.is_floating_point():
        raise CheckFailed(f"{name} should hold floating-point numbers and holds {value.dtype}")
    if not value.isfinite().all():
        raise CheckFailed(f"{name} is not finite: look for a division by 0 or a root of 0")
    return value


def expect_number(value: Any, name: str, *, finite: bool = True) -> float:
    """Return a number, or a tensor with no axes, as a float.

    Args:
        value: What the student's function returned.
        name: What it should be, in the field's words: "the share".
        finite: Whether infinity is refused, and what is no number at all.

    Raises:
        CheckFailed: If it is anything else.
    """
    if isinstance(value, Tensor):
        if value.dim():
            wrong(f"{name} has shape {tuple(value.shape)}: return one number")
        value = value.item()
    if not isinstance(value, numbers.Real):
        wrong(f"{name} should be a number and is a {type(value).__name__}")
    if finite and not math.isfinite(value):
        wrong(f"{name} is {value}: look for a division by 0 or the mean of nothing")
    return float(value)


def expect_right(
    values: Sequence[Tensor],
    cases: Sequence[tuple[Any, ...]],
    right: Callable[..., Tensor],
    mistakes: Iterable[tuple[str, Callable[..., Tensor]]],
    otherwise: str,
    tolerance: float = 1e-9,
) -> None:
    """Accept the right values; else say which mistake gives these in every case.

    Args:
        values: What the student's function returned, in each case.
        cases: The arguments of each call.
        right: From the arguments, what is right.
        mistakes: (message, what this mistake would return), the likeliest first.
        otherwise: What to say where no mistake explains the values.
        tolerance: As in `same`.

    Raises:
        CheckFailed: If the values are not right.
    """

    def explained(formula: Callable[..., Tensor]) -> bool:
        pairs = zip(values, cases, strict=True)
        return all(same(value, formula(*case), tolerance) for value, case in pairs)

    if not explained(right):
        wrong(next((message for message, formula in mistakes if explained(formula)), otherwise))


def same(a: Tensor, b: Tensor, tolerance: float = 1e-9) -> bool:
    """Return whether two tensors hold the same numbers, up to rounding in float64.

    Args:
        a: Any shape.
        b: The same shape.
        tolerance: Largest difference, relative to the largest number of `b` (or to 1).
    """
    largest = max(1.0, b.abs().max().item()) if b.numel() else 1.0
    return a.shape == b.shape and bool(((a - b).abs() <= tolerance * largest).all())


def what(value: Any) -> str:
    """Name a value in a sentence: "a list of 3", "a float", "nothing"."""
    if value is None:
        return "nothing"
    name = type(value).__name__
    size = f" of {len(value)}" if isinstance(value, tuple | list) else ""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}{size}"


def twin(net: torch.nn.Module) -> torch.nn.Module:
    """Return a copy that shares nothing, for the truth beside the answer."""
    return duplicate(net, net)


def _where(error: Exception, function: Callable[..., Any]) -> str:
    """Name the last line of the student's own code that the error came through."""
    code = getattr(function, "__code__", None)
    place, step = "", error.__traceback__
    while code is not None and step is not None:
        if step.tb_frame.f_code.co_filename == code.co_filename:
            line = linecache.getline(code.co_filename, step.tb_lineno).strip()
            place = f", at `{line}`" if line else place
        step = step.tb_next
    return place


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    return text if len(text) <= 200 else f"{text[:199]}…"
