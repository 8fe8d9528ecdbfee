"""Checks of what a constructor or a function is called with: one sentence for what does not fit."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

T = TypeVar("T")


def number(name: str, value: object, *, above: bool = False) -> float:
    """Return a finite number of at least 0, or above 0; else raise a ValueError."""
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not 0 <= value < float("inf")
        or (above and value == 0)
    ):
        raise ValueError(
            f"{name} is {value!r}: choose a finite number {'above 0' if above else 'of at least 0'}"
        )
    return float(value)


def count(name: str, value: Any, *, least: int) -> int:
    """Return a whole number (of Python's or numpy's) of at least `least`; else a ValueError."""
    whole = _whole(value)
    if whole is None or whole < least:
        raise ValueError(f"{name} is {value!r}: choose a whole number of at least {least}")
    return whole


def chance(name: str, value: object) -> float:
    """Return a number between 0 and 1, without these two; else raise a ValueError."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1:
        raise ValueError(f"{name} is {value!r}: choose a chance between 0 and 1, such as 1e-5")
    return float(value)


def seed(value: Any, name: str = "seed") -> int:
    """Return a whole number, of either sign; else raise a ValueError."""
    whole = _whole(value)
    if whole is None:
        raise ValueError(f"{name} is {value!r}: choose a whole number, such as 0")
    return whole


def instance(name: str, value: Any, kind: type[T] | tuple[type, ...], do: str) -> T:
    """Return what is an instance of a class.

    Args:
        name: The argument's name.
        value: What was passed.
        kind: The class, or several.
        do: What to pass, such as "pass a network, such as sl.tiny.client_net()".

    Raises:
        TypeError: If it is a class itself, or an instance of another one.
    """
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if isinstance(value, kinds):
        return value  # type: ignore[return-value]
    if inspect.isclass(value) and issubclass(value, kinds):
        raise TypeError(
            f"{name} is the class {value.__name__}, and not one of its objects: call it, as in "
            f"{value.__name__}(...)"
        )
    raise TypeError(f"{name} is {described(value)}: {do}")


def instances(name: str, values: Any, kind: type[T], do: str) -> list[T]:
    """Return a list of instances of a class; arguments as in `instance`.

    Raises:
        TypeError: If it is no list or tuple of them, or holds another class's.
    """
    if isinstance(values, str | Tensor | nn.Module | dict) or not isinstance(values, Iterable):
        raise TypeError(f"{name} is {described(values)}: write {name}=[...], a list; {do}")
    return [instance(f"{name}[{n}]", value, kind, do) for n, value in enumerate(values)]


def function(name: str, value: Any, do: str) -> Any:
    """Return what can be called; else raise a TypeError. `do` as in `instance`."""
    if inspect.isclass(value) or not callable(value):
        raise TypeError(f"{name} is {described(value)}: {do}")
    return value


def device(value: torch.device | str) -> torch.device:
    """Return a device that this machine has.

    Raises:
        ValueError: If there is no such device, or no usable GPU.
    """
    try:
        found = torch.device(value)
        if found.type != "meta":
            torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise ValueError(
            f"device is {value!r}, which this machine does not have: choose 'cpu', or 'cuda' where "
            "torch.cuda.is_available() is True"
        ) from error
    return found


def optimizer(make: Any, parameters: Iterable[nn.Parameter], *, who: str) -> Optimizer:
    """Make an optimizer, or say why it cannot be made.

    Args:
        make: Takes parameters and returns the optimizer.
        parameters: What it trains.
        who: The name of what is trained, such as "client" or "the critic".

    Raises:
        TypeError: If `make` makes no optimizer, or is one already.
        ValueError: If there is nothing to train.
    """
    if not callable(make):
        raise TypeError(
            f"optimizer is {described(make)}: pass what makes one from parameters, such as "
            "partial(torch.optim.Adam, lr=1e-3)"
        )
    held = list(parameters)
    if not held:
        raise ValueError(
            f"{who} has a network without parameters, and so nothing to train: give it a layer "
            "that learns, such as nn.Conv2d"
        )
    made = make(held)
    if not isinstance(made, Optimizer):
        raise TypeError(
            f"optimizer makes {described(made)}: pass what makes a torch optimizer from "
            "parameters, such as partial(torch.optim.Adam, lr=1e-3)"
        )
    return made


def described(value: Any) -> str:
    """Say what a value is in a few words: its class, and its shape or itself where it is short."""
    if inspect.isclass(value):
        return f"the class {value.__name__}"
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    shown = repr(value) if isinstance(value, str | int | float | None) else ""
    if shown and len(shown) < 60:
        return shown
    kind = type(value).__name__
    return f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}"


def _whole(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None
