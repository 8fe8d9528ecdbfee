"""Loading a state: all of it, or nothing if a part does not fit."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from splitlab.core.kinds import Misfit


class Loading:
    """The loading of several states, which is undone if a later one does not fit.

    A context manager: an error inside leaves every object as it was.

    Attributes:
        seen: What has been loaded, by id.
    """

    def __init__(self) -> None:
        self.seen: dict[int, Any] = {}
        self._undo: list[Callable[[], Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        while kind and self._undo:
            with suppress(Exception):  # the others must be undone all the same
                self._undo.pop()()

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute."""
        held = getattr(owner, name)
        self._undo.append(lambda: setattr(owner, name, held))
        setattr(owner, name, value)

    def set_plain(self, owner: Any, name: str, value: Any, device: Any) -> None:
        """Set an attribute to a copy of a plain value, its tensors on a device."""
        held = getattr(owner, name)
        before = copied(held)
        self._undo.append(lambda: restored(held, before, None))  # into what keeps its memory
        self.set(owner, name, restored(held, value, device))

    def put(self, state: Any, load: Callable[[Any], Any], given: Any, where: str) -> None:
        """Load a state into an object by the object's own method.

        Args:
            state: Its state as it is now.
            load: The function.
            given: The state to load.
            where: Its path.

        Raises:
            Misfit: If the function raises an error.
        """
        before = _deep(state)
        self._undo.append(lambda: load(before))
        try:
            # A copy: an optimizer keeps the very tensors that it loads, and steps write into them.
            load(_deep(given))
        except Exception as error:
            owner = type(getattr(load, "__self__", None)).__name__
            raise refused(where, error, owner) from error


def refused(where: str, error: Exception, owner: str = "") -> Misfit:
    """Return the error for a part that refused its state with its own error.

    Args:
        where: The part's path.
        error: The error.
        owner: How the error calls the part, if it is a `Misfit`: by its class.
    """
    if isinstance(error, Misfit):
        return Misfit(error.what.replace(owner, where, 1))
    lines = str(error).splitlines() or [""]
    kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
    return Misfit(f"{where} refuses its state ({kind}{lines[0][:160]})")


def _deep(state: Any) -> Any:
    try:
        return copy.deepcopy(state)
    except Exception:  # a tensor with a graph, or what cannot be copied and so is kept
        return copied(state)


def copied(value: Any, device: Any = None) -> Any:
    """Return a copy of a plain value, with its tensors on a device if one is given."""
    if isinstance(value, Tensor):
        return value.detach().clone() if device is None else value.detach().clone().to(device)
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, Mapping):
        return {key: copied(item, device) for key, item in value.items()}
    if isinstance(value, deque):
        return deque((copied(item, device) for item in value), value.maxlen)
    if isinstance(value, list | tuple | set | frozenset):
        make = getattr(type(value), "_make", type(value))  # a named tuple's
        return make(copied(item, device) for item in value)
    return value


def restored(held: Any, value: Any, device: Any) -> Any:
    """Return a copy of a saved value to replace the current one.

    A tensor that is learned keeps its memory, for an optimizer has that very tensor.
    """
    if isinstance(held, Tensor) and held.requires_grad and held.is_leaf:
        if isinstance(value, Tensor) and held.shape == value.shape:
            with torch.no_grad():
                held.copy_(value)
            return held
    elif isinstance(held, dict) and isinstance(value, dict):
        return {key: restored(held.get(key), item, device) for key, item in value.items()}
    elif isinstance(held, list) and isinstance(value, list) and len(held) == len(value):
        return [restored(one, item, device) for one, item in zip(held, value, strict=True)]
    return copied(value, device)
