"""State: what a resumed run needs of an object, collected from what the object holds.

Nobody writes `state_dict`: networks, optimizers, schedules, random generators and whatever else has
a state of its own are found at any depth, in lists, dictionaries and plain objects too. Plain
values cannot be told from settings, so a class names those that change.
"""

from __future__ import annotations

import copy
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from splitlab.core.audit import neighbors
from splitlab.data import ImageData

NOTHING: Any = object()  # the state of what has none; None is a state

# Their objects are looked at from outside: what they hold is theirs, and is no state of ours.
FOREIGN = {*sys.stdlib_module_names, "torch", "numpy", "matplotlib", "tqdm", "PIL", "ipywidgets"}
_OF_MODULES = set(vars(nn.Module()))  # parameters, hooks and the like: `nn.Module` keeps them


class Stateful:
    """Base of parties, defenses, observers, critics and samplers: has a state without writing it.

    `state_dict` collects every attribute that has a state, at any depth, and the plain values that
    `STATE` names. A class adds its own names; those of its base classes count as well.

    A party that an observer or a defense holds has a state of its own and is left out, unless
    `STATE` names it.

    Attributes:
        STATE: Plain values (numbers, text, tensors, lists, tuples, dictionaries) that change.
        PASSING: What changes and is not needed in the next step, such as the batch under way.
        LATER: Parts that are None until something makes them; `rebuild` makes them again.
        PARTICIPANT: Whether it is a party.
    """

    STATE: ClassVar[tuple[str, ...]] = ()
    PASSING: ClassVar[tuple[str, ...]] = ()
    LATER: ClassVar[tuple[str, ...]] = ()
    PARTICIPANT: ClassVar[bool] = False

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs."""
        return self._collected({})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state that `state_dict` returned.

        Raises:
            ValueError: If it is the state of an object with other parts.
        """
        self._loaded(state, {})

    def rebuild(self, name: str, state: Any) -> Any:
        """Return a part that `LATER` names, as it was made before its state is loaded.

        Args:
            name: The part's name.
            state: Its state.
        """
        raise NotImplementedError(
            f"{type(self).__name__} names {name!r} in LATER and does not say how to make it: "
            "override rebuild"
        )

    def _names(self, which: str) -> tuple[str, ...]:
        """All names that the class and its base classes list, base classes first."""
        classes = reversed(type(self).__mro__)
        return tuple(name for cls in classes for name in vars(cls).get(which, ()))

    def _parts(self) -> Iterator[tuple[str, Any]]:
        """Yield (name, value) of whatever may have a state that is collected."""
        named = {*self._names("STATE"), *self._names("PASSING")}
        for name, value in vars(self).items():
            if name not in named:
                yield name, value

    def _collected(self, seen: dict[int, Any]) -> dict[str, Any]:
        seen[id(self)] = self
        state = {name: _copied(getattr(self, name)) for name in self._names("STATE")}
        for name, value in self._parts():
            if value is None and name in self._names("LATER"):
                state[name] = None
            elif (part := collected(value, seen, self.PARTICIPANT)) is not NOTHING:
                state[name] = part
        return state

    def _loaded(self, state: Mapping[str, Any], seen: dict[int, Any]) -> None:
        seen[id(self)] = self
        plain, later = self._names("STATE"), self._names("LATER")
        if odd := (self._collected(dict(seen)).keys() ^ state.keys()) - set(later):
            raise ValueError(
                f"{type(self).__name__} and the state do not fit, for only one of them has "
                f"{min(odd)!r}: load the state of an object that was made in the same way"
            )
        for name in later:
            if state.get(name) is None:
                setattr(self, name, None)
            elif getattr(self, name) is None:
                setattr(self, name, self.rebuild(name, state[name]))
        for name in plain:
            device = getattr(getattr(self, name), "device", getattr(self, "device", None))
            setattr(self, name, _copied(state[name], device))
        for name, value in self._parts():
            if state.get(name) is not None:
                load(value, state[name], seen)


def collected(value: Any, seen: dict[int, Any], parties: bool = True) -> Any:
    """Return the state of a value and of all that it holds, or `NOTHING`.

    Args:
        value: Anything.
        seen: What has been collected already, by id; it is added to.
        parties: Whether a party in it is to be collected.
    """
    if id(value) in seen or isinstance(value, Tensor | str | int | float | type | type(None)):
        return NOTHING
    if isinstance(value, Stateful):
        if value.PARTICIPANT and not parties:
            return NOTHING
        if type(value).state_dict is not Stateful.state_dict:
            seen[id(value)] = value
            return value.state_dict()
        return value._collected(seen) or NOTHING
    seen[id(value)] = value
    if isinstance(value, torch.Generator):
        return value.get_state()
    if isinstance(value, nn.Module):
        parts = {
            name: state
            for name, part in _held_by_module(value, seen)
            if (state := collected(part, seen, parties)) is not NOTHING
        }
        return {"weights": value.state_dict()} | ({"parts": parts} if parts else {})
    if hasattr(value, "state_dict") and hasattr(value, "load_state_dict"):
        return value.state_dict()
    states = {}
    for name, item in _items(value):
        if (state := collected(item, seen, parties)) is not NOTHING:
            states[name] = state
    return states or NOTHING


def load(value: Any, state: Any, seen: dict[int, Any]) -> None:
    """Put back a state that `collected` returned, in the same order."""
    seen[id(value)] = value
    if isinstance(value, Stateful):
        if type(value).load_state_dict is not Stateful.load_state_dict:
            value.load_state_dict(state)
        else:
            value._loaded(state, seen)
    elif isinstance(value, torch.Generator):
        value.set_state(state)
    elif isinstance(value, nn.Module):
        value.load_state_dict(state["weights"])
        for name, part in _held_by_module(value, seen):
            if name in state.get("parts", {}):
                load(part, state["parts"][name], seen)
    elif hasattr(value, "state_dict") and hasattr(value, "load_state_dict"):
        # A copy: an optimizer keeps the very tensors that it loads, and steps write into them.
        value.load_state_dict(copy.deepcopy(state))
    else:
        for name, item in _items(value):
            if name in state:
                load(item, state[name], seen)


def left_out(root: Any, name: str, participants: Mapping[int, str]) -> Iterator[str]:
    """Yield the path to each network, optimizer, schedule or generator that the state leaves out.

    Args:
        root: A party, a defense or an observer.
        name: Its name, with which the paths begin.
        participants: The parties of the run, by id; what they hold is theirs.
    """
    kept: dict[int, Any] = {}
    collected(root, kept)
    for one in [one for one in kept.values() if isinstance(one, nn.Module)]:
        kept |= {id(module): module for module in one.modules()}
    kinds = (nn.Module, Optimizer, LRScheduler, torch.Generator)
    seen, queue = {id(root): root}, [(root, name)]
    while queue:
        value, path = queue.pop()
        empty = isinstance(value, nn.Module) and not value.state_dict()
        if isinstance(value, kinds) and id(value) not in kept and not empty:
            yield path
            continue
        for item, where in neighbors(value, path):
            if id(item) not in seen and id(item) not in participants:
                seen[id(item)] = item
                queue.append((item, where))


def plain_values(root: Any, name: str) -> dict[str, Any]:
    """Return the plain values that neither `STATE` nor `PASSING` names, by path, as copies.

    If one of them changes during a run, a run that is resumed goes on with another value.
    """
    found: dict[str, Any] = {}
    seen: set[int] = set()

    def walk(value: Any, path: str) -> None:
        if isinstance(value, Stateful):
            skipped = {*value._names("STATE"), *value._names("PASSING")}
            if type(value).state_dict is not Stateful.state_dict:
                return
        elif is_foreign(value) or hasattr(value, "state_dict"):
            return
        else:
            skipped = set()
        if id(value) in seen:
            return
        seen.add(id(value))
        for attribute, item in vars(value).items():
            if attribute in skipped:
                continue
            if is_plain(item):
                found[f"{path}.{attribute}"] = _copied(item)
            elif isinstance(item, list | tuple | dict):
                for key, one in _items(item):
                    walk(one, f"{path}.{attribute}[{key}]")
            else:
                walk(item, f"{path}.{attribute}")

    walk(root, name)
    return found


def is_plain(value: Any) -> bool:
    """Whether a value is a number, text, a tensor, an array, or a container of such."""
    if isinstance(value, dict):
        return all(is_plain(key) and is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return all(is_plain(item) for item in value)
    return isinstance(
        value, bool | int | float | complex | str | bytes | None | Tensor | np.ndarray
    )


def same(one: Any, other: Any) -> bool:
    """Whether two plain values are equal, tensors to the last bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return one.shape == other.shape and torch.equal(one.nan_to_num(), other.nan_to_num())
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(v, other[k]) for k, v in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other or one != one)  # NaN is as NaN was


def is_foreign(value: Any) -> bool:
    """Whether a value is not ours to look into: a function, data, another library's object."""
    if isinstance(value, type | types.ModuleType | ImageData) or not hasattr(value, "__dict__"):
        return True
    return type(value).__module__.partition(".")[0] in FOREIGN


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (name, item) of a container, or of an object of a class of ours or the user's."""
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, list | tuple):
        yield from ((str(number), item) for number, item in enumerate(value))
    elif not is_foreign(value):
        yield from vars(value).items()


def _held_by_module(net: nn.Module, seen: dict[int, Any]) -> Iterator[tuple[str, Any]]:
    """Yield (path, value) of what a network holds beside parameters, buffers and layers."""
    modules = list(net.named_modules())
    seen |= {id(module): module for _, module in modules}
    for path, module in modules:
        for name, value in vars(module).items():
            if name not in _OF_MODULES:
                yield f"{path}.{name}", value


def _copied(value: Any, device: Any = None) -> Any:
    """A copy of a plain value; tensors on a device, where one is given."""
    if isinstance(value, Tensor):
        return value.detach().clone() if device is None else value.detach().clone().to(device)
    if isinstance(value, dict):
        return {key: _copied(item, device) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return type(value)(_copied(item, device) for item in value)
    return value
