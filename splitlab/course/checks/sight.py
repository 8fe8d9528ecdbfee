"""Plain facts about a function's arguments and result, for comparison."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, allclose, equal, nn
from torch.optim import Optimizer

Fact = tuple[str, str]  # what kind of fact, and about what: ("modes", "critic.0")
SIMPLE = (numbers.Number, str, bytes, bool, np.generic, type(None))
PLAIN = (Tensor, nn.Parameter)
RESULT = "result "  # what the tensors of a result are called among those that share memory


def same(a: Tensor, b: Tensor, tolerance: float = 1e-9) -> bool:
    """Return whether two tensors hold the same numbers.

    Args:
        a: Any shape.
        b: The right one.
        tolerance: Largest difference, relative to the largest finite number of `b`.
    """
    if a.shape != b.shape:
        return False
    if not (a.is_floating_point() or b.is_floating_point()):
        return equal(a.long(), b.long())
    a, b = a.detach().double(), b.detach().double()
    if equal(a, b):  # most are, and the rest takes ten times as long
        return True
    finite = b[b.isfinite()]
    size = finite.abs().max().item() if finite.numel() else 0.0
    return allclose(a, b, rtol=0, atol=tolerance * size + 1e-15, equal_nan=True)


def alike(a: Any, b: Any, tolerance: float) -> bool:
    """Return whether two facts are the same, numbers up to a tolerance."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and same(a, b, tolerance)
    return type(a) is type(b) and a == b


def facts(named: Mapping[str, Any], result: Any = None) -> dict[Fact, Any]:
    """Return all facts about some named values, copied.

    Tensors show their values, whether they require a gradient, and the one they hold; networks
    their weights, buffers, modes, frozen parameters and gradients; optimizers their settings and
    state; anything else what it consists of. The one fact "memory" is which tensors share theirs,
    with each other or with a result.
    """
    look = _Look()
    for name, value in named.items():
        look.at(name, value)
    for number, tensor in enumerate(tensors(result)):
        look.remember(f"{RESULT}{number}", tensor)
    look.facts["memory", ""] = frozenset(_pairs(look.memory.values()))
    return look.facts


class _Look:
    def __init__(self) -> None:
        self.facts: dict[Fact, Any] = {}
        self.memory: dict[int, list[str]] = {}
        self.seen: set[int] = set()

    def at(self, name: str, value: Any) -> None:
        """Note the facts about a value, and about all that it holds."""
        if isinstance(value, SIMPLE):
            self.facts["values", name] = value
            return
        if id(value) in self.seen or isinstance(value, type):
            return
        self.seen.add(id(value))
        match value:
            case Tensor():
                self.tensor("values", name, value)
                self.facts["requires", name] = value.requires_grad
                self.facts["grads", name] = _copy(value.grad) if value.is_leaf else None
            case nn.Module():
                self.net(name, value)
            case Optimizer():
                self.optimizer(name, value)
            case torch.Generator():
                self.facts["generators", name] = value.get_state()
            case Mapping() | list() | tuple():
                self.facts["lengths", name] = len(value)
                pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
                for key, part in pairs:
                    self.at(f"{name}[{key!r}]", part)
            case _ if dataclasses.is_dataclass(value):
                for field in dataclasses.fields(value):
                    self.at(f"{name}.{field.name}", getattr(value, field.name))
            case _ if hasattr(value, "__dict__"):
                for key, part in vars(value).items():
                    self.at(f"{name}.{key}", part)

    def tensor(self, kind: str, name: str, value: Tensor) -> None:
        self.facts[kind, name] = _copy(value)
        self.remember(name, value)

    def remember(self, name: str, value: Tensor) -> None:
        if value.numel():
            self.memory.setdefault(value.untyped_storage().data_ptr(), []).append(name)

    def net(self, name: str, net: nn.Module) -> None:
        for part, module in net.named_modules():
            self.facts["modes", f"{name}.{part}".rstrip(".")] = module.training
        for part, weight in net.named_parameters():
            self.seen.add(id(weight))
            self.tensor("weights", f"{name}.{part}", weight)
            self.facts["frozen", f"{name}.{part}"] = not weight.requires_grad
            self.facts["grads", f"{name}.{part}"] = _copy(weight.grad)
        for part, buffer in net.named_buffers():
            self.tensor("buffers", f"{name}.{part}", buffer)

    def optimizer(self, name: str, optimizer: Optimizer) -> None:
        for number, group in enumerate(optimizer.param_groups):
            for key, value in group.items():
                if key != "params":
                    self.facts["optimizers", f"{name} group {number} {key}"] = value
            for place, weight in enumerate(group["params"]):
                for key, value in optimizer.state.get(weight, {}).items():
                    where = f"{name} group {number} {place} {key}"
                    if isinstance(value, Tensor):
                        self.tensor("optimizers", where, value)
                    else:
                        self.facts["optimizers", where] = value


def tensors(value: Any) -> Iterator[Tensor]:
    """Go through the tensors of a result."""
    match value:
        case Tensor():
            yield value
        case Mapping():
            yield from tensors(list(value.values()))
        case list() | tuple():
            for part in value:
                yield from tensors(part)


def leaves(value: Any) -> Iterator[Tensor]:
    """Go through the tensors that require gradients in some values and their networks."""
    match value:
        case Tensor():
            if value.requires_grad:
                yield value
        case nn.Module():
            yield from (weight for weight in value.parameters() if weight.requires_grad)
        case Mapping():
            yield from leaves(tuple(value.values()))
        case list() | tuple():
            for part in value:
                yield from leaves(part)


def plain(value: Any) -> Any:
    """Return a result with its tensors copied, and all numbers as Python's."""
    match value:
        case Tensor() if type(value) in PLAIN:
            return _copy(value)
        case Mapping() if type(value).__module__ in ("builtins", "collections"):
            return {key: plain(part) for key, part in value.items()}
        case list() | tuple():
            return [plain(part) for part in value]
        case np.generic():
            return value.item()
    return value


def graph(result: Any, named: Mapping[str, Any]) -> list[Tensor]:
    """Return a result's gradients with respect to all such tensors; none without a graph.

    Raises:
        RuntimeError: If the graph is used up, or a step has changed it in place.
    """
    parts = [tensor for tensor in tensors(result) if tensor.requires_grad]
    inputs = list({id(leaf): leaf for leaf in leaves(list(named.values()))}.values())
    if not parts or not inputs:
        return [torch.zeros(())] * len(parts)
    generator = torch.Generator().manual_seed(0)
    total = torch.stack(
        [
            (part * torch.randn(part.shape, generator=generator, dtype=part.dtype)).sum()
            for part in parts
        ]
    ).sum()
    return list(
        torch.autograd.grad(
            total, inputs, retain_graph=True, allow_unused=True, materialize_grads=True
        )
    )


def what(value: Any) -> str:
    """Name a value in a sentence: "a list of 3", "a float", "nothing"."""
    if value is None:
        return "nothing"
    name = type(value).__name__
    size = f" of {len(value)}" if type(value) in (tuple, list) else ""
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}{size}"


def _copy(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.detach().clone()


def _pairs(groups: Iterable[list[str]]) -> Iterator[tuple[str, str]]:
    for names in groups:
        yield from ((a, b) for a in names for b in names if a < b)
