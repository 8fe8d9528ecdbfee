"""The parts of a saved state: their keys, types and shapes, and whether they fit an object.

A state is checked here before it is loaded: torch copies float64 into float32 without a word, takes
an optimizer's state that its next step cannot use, and stops in the middle of a network.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

NUMBERS = int | float | complex | np.number


class Misfit(ValueError):
    """A part of a state that does not fit the object that is to load it.

    Args:
        what: Which part, and what is wrong with it.
    """

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: load the state of an object that was made in the same way")
        self.what = what


def kind_of(value: Any) -> str:
    """Describe a value of a state in a few words, which are the same after saving and loading."""
    if isinstance(value, Tensor | np.ndarray):
        name = "tensor" if isinstance(value, Tensor) else "array"
        return f"{str(value.dtype).removeprefix('torch.')} {name} of shape {tuple(value.shape)}"
    for kind in (bool, str, int, float, list, tuple, dict):  # a file has no subclasses of these
        if isinstance(value, kind):
            many = f" of {len(value)} items" if isinstance(value, list | tuple) else ""
            return f"{kind.__name__}{many}"
    return "None" if value is None else type(value).__name__


def kinds(state: Any, where: str) -> dict[str, str]:
    """Return path -> kind for every part of a state; a list without tensors is one part."""
    found = {where: kind_of(state)}
    if isinstance(state, Mapping):
        for key, item in state.items():
            found |= kinds(item, f"{where}[{key!r}]")
    elif isinstance(state, list | tuple):
        if any(isinstance(item, Mapping | list | tuple | Tensor) for item in state):
            for number, item in enumerate(state):
                found |= kinds(item, f"{where}[{number}]")
        else:
            counts = Counter(kind_of(item) for item in state)
            listed = ", ".join(f"{counts[kind]} {kind}" for kind in sorted(counts))
            found[where] += f" ({listed})" if listed else ""
    return found


def have_same_keys(held: Any, given: Any, where: str) -> None:
    """Refuse anything but a dictionary with the same keys.

    Raises:
        Misfit: Naming the key.
    """
    if not isinstance(given, Mapping):
        raise Misfit(f"the state of {where} is {kind_of(given)} and should be dict")
    if odd := held.keys() ^ given.keys():
        name = min(odd, key=str)
        what = "lacks" if name in held else "has an unknown part"
        raise Misfit(f"the state of {where} {what} {name!r}")


def plain_fits(held: Any, given: Any, where: str, *, strict: bool = True) -> None:
    """Refuse a plain value of another kind than the current one.

    Args:
        held: What the object holds now.
        given: What is to be put in its place.
        where: Its path.
        strict: Whether keys, lengths, shapes and types of numbers must be the same, too. Where it
            is False, what changes during a run may have grown: a number may have become a tensor,
            and None something, or a tensor or a container None.

    Raises:
        Misfit: If the kinds differ.
    """
    if not strict and (held is None or (given is None and not isinstance(held, str | NUMBERS))):
        return
    if isinstance(held, bool) or isinstance(given, bool):
        fits = isinstance(held, bool) and isinstance(given, bool)
    elif isinstance(held, NUMBERS):
        fits = isinstance(given, NUMBERS) or (isinstance(given, Tensor) and not strict)
    elif isinstance(held, Tensor | np.ndarray):
        fits = isinstance(given, Tensor if isinstance(held, Tensor) else np.ndarray)
        if fits and (strict or _is_learned(held)):
            fits = (held.dtype, held.shape) == (given.dtype, given.shape)
    elif isinstance(held, Mapping):
        if strict or not isinstance(given, Mapping):
            have_same_keys(held, given, where)
        fits = True
        for key in held.keys() & given.keys():
            plain_fits(held[key], given[key], f"{where}[{key!r}]", strict=strict)
    elif isinstance(held, list | tuple):
        fits = isinstance(given, list if isinstance(held, list) else tuple)
        if fits := fits and (len(held) == len(given) or not strict):
            for n, (one, other) in enumerate(zip(held, given, strict=False)):
                plain_fits(one, other, f"{where}[{n}]", strict=strict)
    else:
        fits = isinstance(given, str) if isinstance(held, str) else type(held) is type(given)
    if not fits:
        raise Misfit(f"{where} is {kind_of(given)} and should be {kind_of(held)}")


def generator_fits(held: torch.Generator, given: Any, where: str) -> None:
    """Refuse anything but the state of such a generator.

    Raises:
        Misfit: If it is none.
    """
    plain_fits(held.get_state(), given, where)
    try:
        torch.Generator(held.device).set_state(given)
    except RuntimeError as error:
        raise Misfit(f"{where} is no state of a random generator") from error


def weights_fit(net: nn.Module, given: Any, where: str) -> None:
    """Refuse weights of another network.

    Raises:
        Misfit: If a tensor is missing, unknown, or of another type or shape.
    """
    held = net.state_dict()
    have_same_keys(held, given, where)
    for name, value in held.items():
        if isinstance(value, Tensor) and not is_lazy(value):
            plain_fits(value, given[name], f"{where}[{name!r}]")


def optimizer_fits(optimizer: Optimizer, given: Any, where: str) -> None:
    """Refuse the state of an optimizer of another kind, or for other tensors.

    Raises:
        Misfit: If a setting or a tensor is missing, unknown, or of another type or shape.
    """
    held = optimizer.state_dict()
    have_same_keys(held, given, where)
    groups = f"{where}['param_groups']"
    plain_fits(held["param_groups"], given["param_groups"], groups)
    for number, (one, other) in enumerate(
        zip(held["param_groups"], given["param_groups"], strict=True)
    ):
        if one["params"] != other["params"]:
            raise Misfit(f"{groups}[{number}]['params'] are not the tensors of this optimizer")
    if not isinstance(given["state"], Mapping):
        raise Misfit(f"{where}['state'] is {kind_of(given['state'])} and should be dict")
    after_a_step = _after_a_step(optimizer)
    if after_a_step is None:
        return
    for number, state in given["state"].items():
        if number not in after_a_step:
            raise Misfit(f"{where}['state'] has an unknown part {number!r}")
        plain_fits(after_a_step[number], state, f"{where}['state'][{number!r}]")


def _after_a_step(optimizer: Optimizer) -> dict[Any, Any] | None:
    """Return what a copy of an optimizer remembers of each tensor after one step.

    None where that says nothing of later steps, or it takes no step without a closure. torch's own
    optimizers remember the same things after every step; others are not asked.
    """
    if not type(optimizer).__module__.startswith("torch.optim"):
        return None
    try:
        twin = copy.deepcopy(optimizer)
        for group in twin.param_groups:
            for tensor in group["params"]:
                tensor.grad = torch.zeros_like(tensor)
        twin.step()
        found: dict[Any, Any] = twin.state_dict()["state"]
    except Exception:  # it wants a closure, or sparse gradients, or its tensors cannot be copied
        return None
    return found


def _is_learned(value: Any) -> bool:
    """Return whether an optimizer may hold this tensor, so that its memory and shape must stay."""
    return isinstance(value, Tensor) and value.requires_grad and value.is_leaf
