"""What a state leaves out: parts that are not collected, and plain values that no class names.

A checkpoint refuses a party that holds either, for the run that it resumes would be another one.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from splitlab.core.audit import neighbors
from splitlab.core.loading import copied
from splitlab.core.messages import tensors_in
from splitlab.core.state import (
    OF_MODULES,
    Stateful,
    collected,
    fields,
    is_foreign,
    is_plain,
    names,
)

# Their states are not collected anywhere.
GENERATORS = np.random.Generator, np.random.RandomState, random.Random


def left_out(root: Any, name: str, participants: Mapping[int, str]) -> Iterator[str]:
    """Yield the path to every object whose state the root's state leaves out.

    Args:
        root: A party, a defense or an observer.
        name: Its name, with which the paths begin.
        participants: The parties of the run, by id; what they hold is theirs.
    """
    kept: dict[int, Any] = {}
    collected(root, kept)
    for one in [one for one in kept.values() if isinstance(one, nn.Module)]:
        kept |= {id(module): module for module in one.modules()}
    held: dict[int, Any] = {}
    plain = [value for _, value in _plain(root, name, held, root.PARTICIPANT, named=True)]
    tensors = {id(tensor) for tensor in tensors_in(plain)} | _of_networks(held)
    seen, queue = {id(root): root}, [(root, name)]
    while queue:
        value, path = queue.pop()
        if isinstance(value, GENERATORS):
            yield path
        elif id(value) in kept:
            for group in value.param_groups if isinstance(value, Optimizer) else ():
                if any(id(tensor) not in tensors for tensor in group["params"]):
                    yield f"a tensor that {path} changes"
            if _speaks_for_itself(value):
                continue
        elif _has_state(value):
            yield path
            continue
        if isinstance(value, Stateful):
            passing = [getattr(value, name, None) for name in names(value, "PASSING")]
            seen |= {id(one): one for one in passing}
        for item, where in neighbors(value, path):
            if id(item) not in seen and id(item) not in participants:
                seen[id(item)] = item
                queue.append((item, where))


def _speaks_for_itself(value: Any) -> bool:
    """Return whether an object defines its own state, parts included."""
    if isinstance(value, Stateful):
        return type(value).state_dict is not Stateful.state_dict
    return hasattr(value, "state_dict") and not isinstance(value, nn.Module)


def _has_state(value: Any) -> bool:
    if isinstance(value, type):
        return False
    if isinstance(value, nn.Module | Stateful):
        return bool(value.state_dict())
    if isinstance(value, torch.Generator):
        return True
    return hasattr(value, "state_dict") and hasattr(value, "load_state_dict")


def plain_values(root: Any, name: str) -> dict[str, Any]:
    """Return the plain values that no class names, by path, as copies.

    If one of them changes during a run, a run that is resumed goes on with another value. A
    network's own tensors, wherever else they are held, are saved with the network and left out.
    """
    held: dict[int, Any] = {}
    plain = list(_plain(root, name, held, root.PARTICIPANT))
    saved = _of_networks(held)

    def is_saved(value: Any) -> bool:
        tensors = list(tensors_in(value))
        return bool(tensors) and all(id(tensor) in saved for tensor in tensors)

    return {path: copied(value) for path, value in plain if not is_saved(value)}


def _plain(
    value: Any, path: str, held: dict[int, Any], parties: bool, *, named: bool = False
) -> Iterator[tuple[str, Any]]:
    """Yield (path, plain value), at any depth.

    Args:
        value: Where to begin.
        path: Its path.
        held: The objects on the way, by id; it is added to.
        parties: Whether to go into parties.
        named: Whether to go into what `STATE`, `PASSING` and `LATER` name, too.
    """
    if is_plain(value):
        yield path, value
        return
    if id(value) in held or (held and getattr(value, "PARTICIPANT", False) and not parties):
        return
    held[id(value)] = value
    if isinstance(value, Mapping):
        parts = [(f"{path}[{key}]", item) for key, item in value.items()]
    elif isinstance(value, list | tuple | set | frozenset | deque):
        parts = [(f"{path}[{number}]", item) for number, item in enumerate(value)]
    elif isinstance(value, nn.Module):
        own = {} if is_foreign(value) else fields(value)
        own = {name: item for name, item in own.items() if name not in OF_MODULES}
        parts = [(f"{path}.{name}", item) for name, item in (own | value._modules).items()]
    elif _speaks_for_itself(value) or is_foreign(value):
        return
    else:
        parts = [(f"{path}.{name}", item) for name, item in fields(value).items()]
    known = [name for which in ("STATE", "PASSING", "LATER") for name in names(value, which)]
    for where, item in parts:
        if named or where.removeprefix(f"{path}.") not in known:
            yield from _plain(item, where, held, parties, named=named)


def _of_networks(held: Mapping[int, Any]) -> set[int]:
    """Return the ids of the parameters and buffers of all networks among some objects."""
    nets = [one for one in held.values() if isinstance(one, nn.Module)]
    return {id(t) for net in nets for t in (*net._parameters.values(), *net._buffers.values())}


def same(one: Any, other: Any) -> bool:
    """Return whether two plain values are equal, tensors bit for bit; NaN is equal to NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        if one.shape != other.shape or one.dtype != other.dtype:
            return False
        return bool(((one == other) | ((one != one) & (other != other))).all())
    if isinstance(one, np.ndarray):
        return bool(one.shape == other.shape and one.tobytes() == other.tobytes())
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(v, other[k]) for k, v in one.items())
    if isinstance(one, list | tuple | deque):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other or (one != one and other != other))
