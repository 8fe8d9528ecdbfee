"""The audit: parties share nothing but messages."""

from __future__ import annotations

import functools
import inspect
import types
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from splitlab.core.threat import ThreatModelViolation


def audit(clients: Iterable[Any], server: Any) -> None:
    """Check that no memory reachable from a client is reachable from the server.

    Walks attributes, containers, modules, optimizers, closures and computation graphs. It is a
    guard against mistakes in teaching code, not a sandbox: a copy made behind its back shares no
    memory, and Python offers other ways round it.

    Args:
        clients: The clients.
        server: The server.

    Raises:
        ThreatModelViolation: Naming both paths to the shared memory.
    """
    servers_memory = {key: path for key, path in _memory(server, "server")}
    for number, client in enumerate(clients):
        for key, path in _memory(client, f"clients[{number}]"):
            if key in servers_memory:
                raise ThreatModelViolation(
                    f"{servers_memory[key]} and {path} are the same memory: "
                    "only messages may cross, so send a message or make a copy"
                )


# Values that hold no tensors, or, like modules and classes, lead to everything there is.
_LEAVES = (
    *(str, bytes, int, float, complex, bool, type(None), type, types.ModuleType),
    *(torch.Generator, torch.device, torch.dtype, torch.Size, np.dtype),
)


def _memory(root: Any, name: str) -> Iterator[tuple[tuple[str, int], str]]:
    """Yield (memory, path) for every tensor and array reachable from `root`."""
    seen: dict[int, Any] = {}  # keeps what it has seen alive, so that an id is not used twice
    queue = deque([(root, name)])
    while queue:
        value, path = queue.popleft()
        if isinstance(value, _LEAVES) or id(value) in seen:
            continue
        seen[id(value)] = value
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
    """Yield (value, path) of whatever one step leads to from `value`."""
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
