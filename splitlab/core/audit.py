"""The audit: checks that parties share nothing but messages."""

from __future__ import annotations

import functools
import inspect
import types
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from splitlab.core.state import Stateful
from splitlab.core.threat import ThreatModelViolation
from splitlab.data import Data


def audit(clients: Iterable[Any], server: Any, others: Sequence[Any] = ()) -> None:
    """Check that parties share no memory, no defense and no name.

    Walks attributes, containers, modules, optimizers, closures and computation graphs. It is a
    guard against mistakes in teaching code, not a sandbox: a copy made behind its back shares no
    memory, and Python offers other ways round it. Two clients may read the same images.

    Args:
        clients: The clients.
        server: The server.
        others: Further parties, such as an aggregator.

    Raises:
        ThreatModelViolation: Naming both paths to what is shared, or the name.
    """
    parties = {"server": server, **{f"others[{n}]": one for n, one in enumerate(others)}}
    parties |= {f"clients[{number}]": client for number, client in enumerate(clients)}
    # Two clients may read the same images: nobody writes to them.
    data = [one.data for one in parties.values() if isinstance(getattr(one, "data", None), Data)]
    images = {key for one in data for key, _ in _memory(one, "data")}
    owners: dict[Any, tuple[str, str]] = {}
    names: dict[Any, str] = {}
    for place, party in parties.items():
        for key, path in _memory(party, place):
            owner, first = owners.setdefault(key, (place, path))
            reads = key in images and all(which.startswith("clients") for which in (owner, place))
            if owner != place and not reads:
                raise ThreatModelViolation(
                    f"{first} and {path} share memory, but parties may share only messages: "
                    "send a message or make a copy"
                )
        name = getattr(party, "name", place)
        if name in names:
            raise ThreatModelViolation(
                f"{names[name]} and {place} are both called {name!r}: give each party its "
                "own name=, because messages identify parties by name"
            )
        names[name] = place


class Unchanged:
    """Detects whether networks were written to, or changed their modes, since it was made.

    Args:
        parties: Whose networks; one that is a network itself counts, too.
    """

    def __init__(self, parties: Iterable[Any]) -> None:
        self.nets = [net for party in parties for net in _networks(party)]
        self.before = self._fingerprint()

    def check(self, who: str) -> None:
        """Raise a ThreatModelViolation that names who did it, if something has changed."""
        if self._fingerprint() != self.before:
            raise ThreatModelViolation(
                f"{who} changed the network of a party: work on a copy, such as frozen_net() of a "
                "server, instead"
            )

    def _fingerprint(self) -> list[tuple[int, bool]]:
        """Version counters and modes: any in-place write or mode switch changes them."""
        tensors = [t for net in self.nets for t in (*net.parameters(), *net.buffers())]
        state = [(tensor._version, tensor.requires_grad) for tensor in tensors]
        return state + [(0, part.training) for net in self.nets for part in net.modules()]


def _networks(value: Any) -> Iterator[nn.Module]:
    """Yield a network, or those of a party and of the parties that it consists of."""
    if isinstance(value, nn.Module):
        yield value
    elif isinstance(value, Stateful):
        for held in vars(value).values():
            yield from _networks(held)


# Values that hold no tensors, or, like modules and classes, lead to everything there is.
_LEAVES = (
    *(str, bytes, int, float, complex, bool, type(None), type, types.ModuleType),
    *(torch.Generator, torch.device, torch.dtype, torch.Size, np.dtype),
)


def _memory(root: Any, name: str) -> Iterator[tuple[tuple[str, int], str]]:
    """Yield (what, path) for every tensor, array and stateful object reachable from `root`."""
    seen: dict[int, Any] = {}  # keeps what it has seen alive, so that an id is not used twice
    queue = deque([(root, name)])
    while queue:
        value, path = queue.popleft()
        if isinstance(value, _LEAVES) or id(value) in seen:
            continue
        seen[id(value)] = value
        if isinstance(value, Stateful):
            yield ("object", id(value)), path
        if isinstance(value, Tensor) and value.layout is torch.strided:
            storage = value.untyped_storage()
            if storage.nbytes():
                yield (str(value.device), storage.data_ptr()), path
        elif isinstance(value, np.ndarray):
            owner = value
            while isinstance(owner.base, np.ndarray):
                owner = owner.base
            if owner.nbytes:
                yield ("cpu", owner.__array_interface__["data"][0]), path
        queue.extend(neighbors(value, path))


def neighbors(value: Any, path: str) -> Iterator[tuple[Any, str]]:
    """Yield (value, path) of everything one step away from `value`."""
    if isinstance(value, Tensor):
        yield value.grad_fn, f"{path}.grad_fn"
        if value.is_leaf:
            yield value.grad, f"{path}.grad"
    elif isinstance(value, Mapping):
        for key, item in list(value.items()):
            yield key, f"a key of {path}"
            yield item, f"{path}[{key!r}]" if isinstance(key, str | int) else f"{path}[...]"
    elif isinstance(value, list | tuple | set | frozenset | deque):
        for number, item in enumerate(value):
            yield item, f"{path}[{number}]"
    elif isinstance(value, np.ndarray):
        yield value.base, f"{path}.base"
    elif isinstance(value, types.FunctionType):
        for variable, cell in zip(
            value.__code__.co_freevars, value.__closure__ or (), strict=False
        ):
            try:
                yield cell.cell_contents, f"{path}'s closure over {variable}"
            except ValueError:  # the cell is still empty
                continue
        yield value.__defaults__, f"{path}'s defaults"
        yield value.__kwdefaults__, f"{path}'s defaults"
    elif isinstance(value, types.MethodType):
        yield value.__self__, f"{path}'s owner"
        yield value.__func__, path
    elif isinstance(value, functools.partial):
        yield value.func, f"{path}.func"
        yield value.args, f"{path}.args"
        yield value.keywords, f"{path}.keywords"
    elif inspect.isgenerator(value) and value.gi_frame is not None:
        yield dict(value.gi_frame.f_locals), f"{path}'s local variables"
    elif isinstance(value, torch.autograd.graph.Node):
        yield from _graph_neighbors(value, path)
    yield getattr(value, "__dict__", None), path
    for name in _slots(type(value)):
        yield getattr(value, name, None), f"{path}.{name}"


def _graph_neighbors(node: Any, path: str) -> Iterator[tuple[Any, str]]:
    yield getattr(node, "variable", None), f"{path}.variable"
    for name in dir(node):
        if name.startswith("_saved_"):
            try:
                yield getattr(node, name), f"{path}.{name}"
            except RuntimeError:  # saved tensors are freed after a backward pass
                continue
    for number, (following, _) in enumerate(node.next_functions):
        yield following, f"{path}.next_functions[{number}]"


def _slots(cls: type) -> list[str]:
    return [
        name
        for base in cls.__mro__
        for name in np.atleast_1d(base.__dict__.get("__slots__", ())).tolist()
        if isinstance(name, str) and not name.startswith("__")
    ]
