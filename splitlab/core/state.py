"""State: what a resumed run needs of an object, collected from its attributes.

Nobody writes `state_dict`: networks, optimizers, schedules, random generators and whatever else has
a state of its own are found at any depth, in lists, dictionaries and plain objects too. Plain
values cannot be told from settings, so a class names those that change.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections import deque
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from splitlab.core import kinds
from splitlab.core.loading import Loading, copied, refused
from splitlab.data import Data, ImageData

NOTHING: Any = object()  # the state of what has none; None is a state

# Their objects are looked at from outside: what they hold is theirs, and is no state of ours.
FOREIGN = {*sys.stdlib_module_names, "torch", "numpy", "matplotlib", "tqdm", "PIL", "ipywidgets"}
FOREIGN -= {"types", "argparse"}  # their namespaces are objects of whoever fills them
OF_MODULES = set(vars(nn.Module()))  # parameters, hooks and the like: `nn.Module` keeps them


class Stateful:
    """Base class of parties, defenses, observers and more, whose state is collected for them.

    `state_dict` collects every attribute that has a state, at any depth, and the plain values that
    `STATE` names. A class adds its own names; those of its base classes count as well.

    A party that an observer or a defense holds has a state of its own and is left out, unless
    `STATE` names it.

    To write a class of your own, list plain values that change (a counter, a list of alarms, a
    tensor that is kept) in `STATE`, and override nothing: not `state_dict`, not `load_state_dict`.
    A class lists its own names only. Where something changes that no state holds, `sl.train` with
    `checkpoint=` says what it is and stops.

    Attributes:
        STATE: Plain values (numbers, text, tensors, lists, tuples, dictionaries) that change.
        PASSING: What changes and is not needed in the next step, such as the batch under way.
        LATER: Parts that are None at first and made later, such as a decoder that `prepare`
            trains; `rebuild(name, state)` makes them again, and then their state is loaded.
        PARTICIPANT: Whether it is a party.
        PROTOCOLS: Of an attack or a defense: the protocols in which it takes part. In the other one
            it raises an error that says why not.
    """

    STATE: ClassVar[tuple[str, ...]] = ()
    PASSING: ClassVar[tuple[str, ...]] = ()
    LATER: ClassVar[tuple[str, ...]] = ()
    PARTICIPANT: ClassVar[bool] = False
    PROTOCOLS: ClassVar[tuple[str, ...]] = ("vanilla", "u_shaped")

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example for the tests that run every attack and every defense.

        `pytest --splitlab-attack my_module:MyAttack` runs that list on a class of yours, and
        `--splitlab-defense my_module:MyDefense` on a defense; the plugin comes with the package.

        It fits `sl.tiny.client_net()`, whose z is (32, 4, 4). A server's network ends in ten
        numbers in both protocols (`sl.tiny.server_net()`): logits in vanilla, and the output
        `a` in the U-shaped protocol, where the client's tail is a linear layer from ten to ten. A
        few steps must be enough to prepare it.

        A client's attack has a batch size of 8. It is tried as it was made, so it names its one
        protocol: `PROTOCOLS = ("vanilla",)`, or `("u_shaped",)` if it was made with a tail.

        A detector's example counts its alarms and does not stop the honest runs of the list.

        Args:
            private: A few images with labels, for an attack by the client.
            public: A few other ones, for an attack by the server.

        Raises:
            NotImplementedError: If the class does not say.
        """
        raise NotImplementedError(
            f"{cls.__name__} does not say how to make a small example of itself: give it a "
            "classmethod conformance_example(private, public) that returns one"
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(_settings(self))})"

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs."""
        return self._collected({})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state that `state_dict` returned.

        Raises:
            ValueError: If it is the state of an object with other parts, or if a part of it is of
                another kind, type or shape; names it. Nothing is changed then.
        """
        with Loading() as loading:
            self._loaded(state, type(self).__name__, loading)

    def rebuild(self, name: str, state: Any) -> Any:
        """Return a part that `LATER` names, before its state is loaded.

        Args:
            name: The part's name.
            state: Its state.
        """
        raise NotImplementedError(
            f"{type(self).__name__} names {name!r} in LATER and does not say how to make it: "
            "override rebuild"
        )

    def _parts(self) -> Iterator[tuple[str, Any]]:
        """Yield (name, value) of every attribute whose state may be collected."""
        named = {*names(self, "STATE"), *names(self, "PASSING")}
        for name, value in vars(self).items():
            if name not in named:
                yield name, value

    def _collected(self, seen: dict[int, Any]) -> dict[str, Any]:
        seen[id(self)] = self
        state = {name: copied(getattr(self, name)) for name in names(self, "STATE")}
        for name, value in self._parts():
            if value is None and name in names(self, "LATER"):
                state[name] = None
            elif (part := collected(value, seen, self.PARTICIPANT)) is not NOTHING:
                state[name] = part
        return state

    def _loaded(self, state: Mapping[str, Any], where: str, loading: Loading) -> None:
        loading.seen[id(self)] = self
        plain, later = names(self, "STATE"), names(self, "LATER")
        fresh = self._collected(dict(loading.seen))
        if isinstance(state, Mapping):
            both_may_lack = dict.fromkeys(set(later) & (fresh.keys() ^ state.keys()))
            kinds.have_same_keys(fresh | both_may_lack, {**both_may_lack, **state}, where)
        else:
            kinds.have_same_keys(fresh, state, where)
        for name in later:
            held, value = getattr(self, name), state.get(name)
            if value is None:
                loading.set(self, name, None)
            elif held is None:
                loading.set(self, name, self._rebuilt(name, value, f"{where}.{name}"))
        for name in plain:
            held = getattr(self, name)
            kinds.plain_fits(held, state[name], f"{where}.{name}", strict=False)
            device = getattr(held, "device", getattr(self, "device", None))
            loading.set_plain(self, name, state[name], device)
        for name, value in self._parts():
            if name in state and not (state[name] is None and name in later):
                load(value, state[name], f"{where}.{name}", loading, self.PARTICIPANT)

    def _rebuilt(self, name: str, state: Any, where: str) -> Any:
        try:
            return self.rebuild(name, state)
        except NotImplementedError:
            raise
        except Exception as error:
            raise refused(where, error) from error


def collected(value: Any, seen: dict[int, Any], parties: bool = True) -> Any:
    """Return the state of a value and of everything in it, or `NOTHING`.

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


def load(value: Any, state: Any, where: str, loading: Loading, parties: bool = True) -> None:
    """Load a state that `collected` returned, in the same order.

    Args:
        value: What it is loaded into.
        state: The state.
        where: The value's path.
        loading: What has been loaded so far.
        parties: As in `collected`.

    Raises:
        Misfit: If it does not fit.
    """
    seen = loading.seen
    own = hasattr(value, "state_dict") and hasattr(value, "load_state_dict")
    if isinstance(value, Stateful) and type(value).load_state_dict is Stateful.load_state_dict:
        value._loaded(state, where, loading)
    elif isinstance(value, torch.Generator):
        kinds.generator_fits(value, state, where)
        loading.put(value.get_state(), value.set_state, state, where)
    elif isinstance(value, nn.Module):
        _has_parts_of(value, state, where, loading, parties)
        kinds.weights_fit(value, state["weights"], where)
        loading.put(value.state_dict(), value.load_state_dict, state["weights"], where)
        parts = {name: part for name, part in _held_by_module(value, seen)}
        for name in state.get("parts", {}):
            load(parts[name], state["parts"][name], f"{where}.{name}", loading, parties)
    elif own:
        if isinstance(value, Optimizer):
            kinds.optimizer_fits(value, state, where)
        elif isinstance(value, LRScheduler):
            kinds.have_same_keys(value.state_dict(), state, where)
            kinds.plain_fits(value.state_dict(), state, where, strict=False)
        loading.put(value.state_dict(), value.load_state_dict, state, where)
    else:
        _has_parts_of(value, state, where, loading, parties)
        seen[id(value)] = value
        for name, item in _items(value):
            if name in state:
                load(item, state[name], f"{where}[{name!r}]", loading, parties)
    seen[id(value)] = value


def _has_parts_of(value: Any, state: Any, where: str, loading: Loading, parties: bool) -> None:
    now = collected(value, dict(loading.seen), parties)
    kinds.have_same_keys({} if now is NOTHING else now, state, where)


def names(value: Any, which: str) -> tuple[str, ...]:
    """Return all names that an object's class and its base classes list, base classes first."""
    classes = reversed(type(value).__mro__)
    return tuple(name for cls in classes for name in vars(cls).get(which, ()))


def fields(value: Any) -> dict[str, Any]:
    """Return all attributes of an object, also those in slots."""
    slots = [vars(cls).get("__slots__", ()) for cls in type(value).__mro__]
    found = [name for some in slots for name in ([some] if isinstance(some, str) else some)]
    kept = {name: getattr(value, name) for name in found if hasattr(value, name)}
    kept.pop("__dict__", None)
    return getattr(value, "__dict__", {}) | kept


def is_plain(value: Any) -> bool:
    """Return whether a value is a number, text, a tensor, an array, or a container of these."""
    if isinstance(value, Mapping):
        return all(is_plain(key) and is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple | set | frozenset | deque):
        return all(is_plain(item) for item in value)
    numbers = bool | int | float | complex | np.generic | Enum
    return isinstance(value, numbers | str | bytes | None | Tensor | np.ndarray)


def is_foreign(value: Any) -> bool:
    """Return whether not to look inside a value: a function, data, another library's object."""
    if isinstance(value, type | types.ModuleType | Data):
        return True
    if isinstance(value, Stateful):  # whatever module its class says that it is of
        return False
    return type(value).__module__.partition(".")[0] in FOREIGN


def _settings(value: Any) -> Iterator[str]:
    """Yield "name=value" for each number or text that was not left at its default."""
    for name, parameter in inspect.signature(type(value)).parameters.items():
        held = vars(value).get(name)
        if isinstance(held, bool | int | float | str) and held != parameter.default:
            yield f"{name}={held:g}" if isinstance(held, float) else f"{name}={held!r}"


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (name, item) of a container, or of an object of a class of this library or the user."""
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, list | tuple):
        yield from ((str(number), item) for number, item in enumerate(value))
    elif not is_foreign(value):
        yield from fields(value).items()


def _held_by_module(net: nn.Module, seen: dict[int, Any]) -> Iterator[tuple[str, Any]]:
    """Yield (path, value) of what a network holds besides parameters, buffers and layers."""
    modules = list(net.named_modules())
    seen |= {id(module): module for _, module in modules}
    for path, module in modules:
        for name, value in vars(module).items():
            if name not in OF_MODULES:
                yield f"{path}.{name}", value
