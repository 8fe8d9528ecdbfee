"""Argument checks: each returns the checked value, or raises an error that says what to pass."""

from __future__ import annotations

import hashlib
import inspect
import math
import numbers
import operator
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

T = TypeVar("T")

IMAGES = (
    "pass ImageData, such as a part of sl.tiny.split('digits', seed=0), or "
    "ImageData.from_arrays(x, y, value_range=(-1, 1))"
)
NETWORK = "pass a network, an nn.Module such as sl.tiny.client_net()"
TENSOR = "pass a torch tensor, such as torch.as_tensor(...)"
SHORT = 60  # characters of a value that a sentence quotes


def number(name: str, value: object, *, above: bool = False) -> float:
    """Return a finite number of at least 0, or above 0; else raise a ValueError."""
    real = _real(value)
    if real is None or not 0 <= real < math.inf or (above and real == 0):
        raise ValueError(
            f"{name} is {described(value)}: choose a finite number "
            f"{'above 0' if above else 'of at least 0'}"
        )
    return real


def finite(name: str, value: object) -> float:
    """Return a finite number, of either sign; else raise a ValueError."""
    real = _real(value)
    if real is None or not math.isfinite(real):
        raise ValueError(f"{name} is {described(value)}: choose a finite number")
    return real


def within(name: str, value: object, low: float, high: float, what: str = "a number") -> float:
    """Return a number from `low` to `high`, both included; else raise a ValueError."""
    real = _real(value)
    if real is None or not low <= real <= high:
        raise ValueError(f"{name} is {described(value)}: choose {what} from {low:g} to {high:g}")
    return real


def share(name: str, value: object) -> float:
    """Return a number above 0 and at most 1; else raise a ValueError."""
    real = _real(value)
    if real is None or not 0 < real <= 1:
        raise ValueError(f"{name} is {described(value)}: choose a share above 0 and at most 1")
    return real


def chance(name: str, value: object, *, such_as: str = "0.1") -> float:
    """Return a number between 0 and 1, both excluded; else raise a ValueError."""
    real = _real(value)
    if real is None or not 0 < real < 1:
        raise ValueError(
            f"{name} is {described(value)}: choose a number between 0 and 1, such as {such_as}"
        )
    return real


def ends(value: Any, name: str = "value_range") -> tuple[float, float]:
    """Return the smallest and the largest value of a range; else raise a ValueError."""
    pair = tuple(value) if isinstance(value, Sequence | Tensor | np.ndarray) else ()
    low, high = (_real(end) for end in pair) if len(pair) == 2 else (None, None)
    if low is None or high is None or not -math.inf < low < high < math.inf:
        raise ValueError(
            f"{name} is {described(value)}: pass the smallest value that a pixel can take, then "
            "the largest, such as (-1.0, 1.0)"
        )
    return low, high


def whole(value: Any) -> int | None:
    """Return an integer of Python, numpy or torch as an int; None for anything else."""
    if isinstance(value, bool) or (isinstance(value, Tensor) and value.dtype == torch.bool):
        return None
    try:
        return operator.index(value)
    except (TypeError, ValueError, RuntimeError):  # of a tensor with several numbers, too
        return None


def count(name: str, value: Any, *, least: int) -> int:
    """Return a whole number of at least `least`; else raise a ValueError."""
    number = whole(value)
    if number is None or number < least:
        raise ValueError(f"{name} is {described(value)}: choose a whole number of at least {least}")
    if number > sys.maxsize:
        raise ValueError(f"{name} is {described(value)}: choose a number that fits into 64 bits")
    return number


def seed(value: Any, name: str = "seed") -> int:
    """Return a whole number, of either sign; else raise a ValueError."""
    number = whole(value)
    if number is None:
        raise ValueError(f"{name} is {described(value)}: choose a whole number, such as 0")
    return number


def torch_seed(value: Any, name: str = "seed") -> int:
    """Return a seed that torch accepts: the number itself, or its hash if it exceeds 64 bits.

    Raises:
        ValueError: If it is no whole number.
    """
    number = seed(value, name)
    if -(2**63) <= number < 2**64:
        return number
    return int.from_bytes(hashlib.sha256(hex(number).encode()).digest()[:8])


def generator(value: Any, name: str = "seed") -> torch.Generator:
    """Return a CPU generator with this seed; arguments and errors as in `torch_seed`."""
    return torch.Generator().manual_seed(torch_seed(value, name))


def tensor_of(name: str, values: Any) -> Tensor:
    """Return a tensor as it is, or convert an array or list of numbers; else raise a TypeError."""
    if isinstance(values, Tensor):
        return values
    if isinstance(values, np.ndarray | Sequence) and not isinstance(values, str):
        try:
            return torch.as_tensor(values)
        except (TypeError, ValueError, RuntimeError) as error:
            why = reason(error)
            raise TypeError(f"{name} is not a list of numbers ({why}): {TENSOR}") from error
    raise TypeError(f"{name} is {described(values)}: {TENSOR}")


def reals(name: str, values: Any) -> list[float]:
    """Return a list of numbers, which may be NaN or infinite.

    Raises:
        TypeError: If it is no list of them.
    """
    listed = not isinstance(values, str | dict) and isinstance(values, Iterable)
    found = [_real(value) for value in values] if listed else [None]
    checked = [value for value in found if value is not None]
    if len(checked) < len(found):
        raise TypeError(f"{name} is {described(values)}: pass a list of numbers")
    return checked


def images(name: str, value: Any, *, finite: bool = False) -> Tensor:
    """Return images unchanged after checking their type and shape.

    Args:
        name: The argument's name.
        value: What was passed.
        finite: Whether NaN and infinity are refused, too.

    Raises:
        TypeError: If it is no tensor.
        ValueError: If it is no floating-point tensor (N, C, H, W) with N at least 1.
    """
    x = instance(name, value, Tensor, TENSOR)
    if x.ndim != 4 or x.numel() == 0 or not x.is_floating_point():
        raise ValueError(
            f"{name} must be floating-point images of shape (N, C, H, W) with N at least 1, "
            f"not {x.dtype} of shape {tuple(x.shape)}."
        )
    if finite and not x.isfinite().all():
        raise ValueError(f"{name} contains NaN or infinity; check what produced these images.")
    return x


def flag(name: str, value: Any) -> bool:
    """Return True or False, also from numpy or from 0 and 1; else raise a ValueError."""
    if isinstance(value, bool | np.bool_) or whole(value) in (0, 1):
        return bool(value)
    raise ValueError(f"{name} is {described(value)}: choose True or False")


def one_of(name: str, value: Any, known: Sequence[Any]) -> None:
    """Raise a ValueError unless a value is one of those known."""
    if type(value) not in {type(one) for one in known} or value not in known:
        raise ValueError(
            f"{name} is {described(value)}: choose one of {', '.join(map(repr, known))}"
        )


def instance(name: str, value: Any, kind: type[T] | tuple[type, ...], do: str) -> T:
    """Return the value if it is an instance of a class; else raise a TypeError.

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
            f"{name} is the class {value.__name__}, not an instance of it: call it, as in "
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


def able(name: str, value: Any, methods: Iterable[str], do: str) -> None:
    """Raise a TypeError unless an object, not a class, has all of these methods.

    Args:
        name: The argument's name.
        value: What was passed; any class of object will do.
        methods: The methods' names.
        do: As in `instance`.
    """
    if inspect.isclass(value):
        raise TypeError(f"{name} is the class {value.__name__}, not an instance of it: {do}")
    if lacking := [method for method in methods if not callable(getattr(value, method, None))]:
        raise TypeError(f"{name} is {described(value)}, which has no method {lacking[0]}: {do}")


def function(name: str, value: Any, do: str) -> Any:
    """Return the value if it can be called; else raise a TypeError. `do` as in `instance`."""
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
    except (RuntimeError, AssertionError, NotImplementedError, TypeError, ValueError) as error:
        raise ValueError(
            f"device is {described(value)}, which this machine does not have: choose 'cpu', or "
            "'cuda' where torch.cuda.is_available() is True"
        ) from error
    return found


def optimizer(
    make: Any, parameters: Iterable[nn.Parameter], *, who: str, name: str = "optimizer"
) -> Optimizer:
    """Make an optimizer, or raise an error that says why it cannot be made.

    Args:
        make: Takes parameters and returns the optimizer.
        parameters: What it trains.
        who: The name of what is trained, such as "client" or "the critic".
        name: The argument's name.

    Raises:
        TypeError: If `make` makes no optimizer, or is one already.
        ValueError: If there is nothing to train, or a setting such as the rate is wrong.
    """
    do = f"pass a function of the parameters, such as {name}=partial(torch.optim.Adam, lr=1e-3)"
    if not callable(make) or isinstance(make, nn.Module):
        raise TypeError(f"{name} is {described(make)}: {do}")
    held = list(parameters)
    if not held:
        raise ValueError(
            f"{who} has a network without parameters, so nothing to train: give it a layer "
            "that learns, such as nn.Conv2d"
        )
    try:
        made = make(held)
    except Exception as error:
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"{name} cannot make an optimizer ({reason(error)}): {do}") from error
    if not isinstance(made, Optimizer):
        raise TypeError(f"{name} makes {described(made)}, not an optimizer: {do}")
    return made


def call(name: str, what: Callable[[], T], do: str) -> T:
    """Call a function that the user passed, and return its result.

    Args:
        name: Whose function it is and what it does, such as "the trigger on an image".
        what: The call.
        do: What to do where it fails.

    Raises:
        ValueError: If it raises an error, which is quoted.
    """
    try:
        return what()
    except Exception as error:
        raise ValueError(f"{name} fails ({reason(error)}): {do}") from error


def reason(error: BaseException) -> str:
    """Return the first line of an error's text, shortened so that a sentence can quote it."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0].strip().rstrip(".:")
    return line if len(line) <= 2 * SHORT else f"{line[: 2 * SHORT]}..."


def described(value: Any) -> str:
    """Describe a value in a few words: the value if it is short, else its class and shape."""
    if inspect.isclass(value):
        return f"the class {value.__name__}"
    if isinstance(value, Tensor | np.ndarray) and value.ndim:
        kind = "a tensor" if isinstance(value, Tensor) else "a numpy array"
        return f"{kind} of shape {tuple(value.shape)}"
    shown = _shown(value)
    if shown:
        return shown
    kind = type(value).__name__
    return f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}"


def _shown(value: Any) -> str:
    """Return a value as it is written if that is plain and short; else an empty string."""
    plain = str | bytes | int | float | complex | np.generic | Tensor | torch.device | range | None
    if isinstance(value, tuple | list | set | dict):
        if len(value) > SHORT or not all(_shown(item) for item in value):
            return ""
    elif not isinstance(value, plain) or (isinstance(value, Tensor) and value.ndim):
        return ""
    if isinstance(value, int) and abs(value) >= 10**SHORT:  # Python refuses to write the longest
        return ""
    shown = repr(value)
    return shown if len(shown) < SHORT and "\n" not in shown else ""


def _real(value: Any) -> float | None:
    """Return a real number of any library as a float; None for anything else, also for a bool."""
    if isinstance(value, Tensor | np.ndarray) and value.ndim == 0:
        value = value.item()
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:
        return None
