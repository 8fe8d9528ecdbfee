"""The identity of a run: what two runs must share for one to continue where the other ended.

Parties, defenses, the protocol and observers are described attribute by attribute, at any depth, as
they are before the first step. Devices and the parties' names are left out: they change where and
under what name a run is computed, and not what.
"""

from __future__ import annotations

import functools
import hashlib
import os
import types
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from splitlab.core.files import CheckpointError
from splitlab.core.state import OF_MODULES, fields, is_foreign, names
from splitlab.data import Data
from splitlab.data.base import fingerprint

# Raised by hand when the mathematics changes: then older records and checkpoints no longer hold.
# 2: SSIM of pixels that are shifted to start at 0, as its definition wants.
NUMERICS = 2

DIGITS = 6  # significant ones, of a loss on the fixed batch: another machine sums in another order


def outline(objects: Mapping[str, Any], steps: int) -> dict[str, str]:
    """Describe the objects of a run.

    Args:
        objects: What they are ("clients[0]", "server") -> the object.
        steps: The length of the run: a function of the step counts by its values up to there.

    Returns:
        Path -> text. Two runs are one where all of it is equal.

    Raises:
        CheckpointError: If there is a function that nothing can be said of; names its path.
    """
    describe = _Describe(steps, {id(value): f"the {name}" for name, value in objects.items()})
    for name, value in objects.items():
        describe(value, name, root=True)
    return describe.lines


class _Describe:
    """Fills `lines`, path -> text, with one value after another."""

    def __init__(self, steps: int, seen: dict[int, str]) -> None:
        self.steps, self.seen, self.lines = steps, seen, dict[str, str]()
        self.tensors: dict[int, str] = {}  # of networks, by id: where they are
        self.alive: list[Any] = []  # an id must not be used twice

    def __call__(self, value: Any, path: str, *, root: bool = False) -> None:
        if (text := _plain(value)) is not None:
            self.lines[path] = text
            return
        if id(value) in self.seen and not root:
            self.lines[path] = f"the same as {self.seen[id(value)]}"
            return
        self.seen.setdefault(id(value), path)
        self.alive.append(value)
        if isinstance(value, nn.Module):
            self.network(value, path)
        elif isinstance(value, Optimizer):
            self.optimizer(value, path)
        elif isinstance(value, LRScheduler):
            kept = {k: v for k, v in vars(value).items() if not k.startswith("_")}
            self.attributes(value, kept, path)
        elif isinstance(value, Mapping):
            for key, item in value.items():
                self(item, f"{path}[{key!r}]")
        elif isinstance(value, list | tuple | deque):
            for number, item in enumerate(value):
                self(item, f"{path}[{number}]")
            self.lines[f"{path} has"] = f"{len(value)} items"
        elif isinstance(value, types.MethodType) and not is_foreign(value.__self__):
            self.lines[path] = value.__func__.__qualname__
            self(value.__self__, f"{path}'s owner")
        elif isinstance(value, functools.partial):
            self(value.args, f"{path}.args")
            self(value.keywords, f"{path}.keywords")
            self.function(value, path)
        elif callable(value) and is_foreign(value):
            self.function(value, path)
        elif hasattr(value, "identity"):
            self.attributes(value, value.identity(), path)
        elif is_foreign(value):
            self.lines[path] = _shown(value)
        else:
            skipped = {"device", *names(value, "PASSING")}
            if getattr(value, "PARTICIPANT", False):
                skipped.add("name")
            held = {name: item for name, item in fields(value).items() if name not in skipped}
            self.attributes(value, held, path)

    def attributes(self, value: Any, attributes: Mapping[str, Any], path: str) -> None:
        self.lines[f"{path} is"] = _class(value)
        for name, item in attributes.items():
            self(item, f"{path}.{name}")

    def network(self, net: nn.Module, path: str) -> None:
        """Describe its layers with their settings, and its initial weights."""
        layers = [
            (name, _class(layer), layer.extra_repr(), _settings_of(layer))
            for name, layer in net.named_modules()
        ]
        tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
        self.tensors |= {id(tensor): f"{path}.{name}" for name, tensor in tensors.items()}
        self.lines[f"{path} has"] = f"{len(layers)} layers, {digest(repr(layers))}"
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors.values())
        self.lines[f"{path} has weights of"] = shapes or "none"
        self.lines[f"{path} begins with"] = f"weights {digest(*tensors.values())}"
        if frozen := [name for name, one in net.named_parameters() if not one.requires_grad]:
            self.lines[f"{path} does not learn"] = ", ".join(frozen)
        for where, layer in net.named_modules(prefix=path):
            for name, item in ({} if is_foreign(layer) else fields(layer)).items():
                if name not in OF_MODULES and _plain(item) is None:
                    self(item, f"{where}.{name}")

    def optimizer(self, optimizer: Optimizer, path: str) -> None:
        """Describe its kind and settings, and what it has learned."""
        self.lines[f"{path} is"] = _class(optimizer)
        for number, group in enumerate(optimizer.param_groups):
            # A schedule moves "lr" and leaves "initial_lr".
            unset = {"params", "lr"} if "initial_lr" in group else {"params"}
            for setting in sorted(group.keys() - unset):
                self(group[setting], f"{path}[{number}].{setting}")
            learned = [self.tensors.get(id(one), str(tuple(one.shape))) for one in group["params"]]
            count = f"{len(learned)} tensors, {digest(*learned)}"
            self.lines[f"{path}[{number}] steps on"] = count
        state = [t for s in optimizer.state.values() for t in s.values() if isinstance(t, Tensor)]
        if state:
            self.lines[f"{path} begins with"] = f"state {digest(*state)}"

    def function(self, function: Callable[..., Any], path: str) -> None:
        """Describe its values by step, as a loss, or as a network factory; else its name and code.

        Raises:
            CheckpointError: If nothing can be said of it.
        """
        for kind, trial in (("step", self.by_step), ("loss", _as_loss), ("network", _as_maker)):
            try:
                # It may draw random numbers: the same ones, and none of the run's.
                with torch.random.fork_rng(devices=[]), torch.enable_grad():
                    torch.manual_seed(0)
                    values = trial(function)
            except Exception:  # whatever it does not like about these arguments
                continue
            if values is not None:
                self.lines[path] = f"a function of the {kind}, {values}"
                return
        if isinstance(function, functools.partial):
            self(function.func, f"{path}.func")
            return
        name = getattr(function, "__qualname__", "")
        if name and "<" not in name:
            self.lines[path] = f"{function.__module__}.{name}{_code(function)}"
            return
        raise CheckpointError(
            f"{path} is a function without a name, so splitlab cannot check whether a checkpoint "
            "is of the same run: define it with def, outside any other function, or train without "
            "checkpoint"
        )

    def by_step(self, function: Callable[..., Any]) -> str | None:
        """Describe its values at every step of the run."""
        values = [function(step) for step in range(self.steps)]
        if not all(isinstance(value, int | float) for value in values):
            return None
        return digest(repr([float(value) for value in values]))


def _as_loss(function: Callable[..., Any]) -> str | None:
    """Return value and gradient of a loss on those fixed batches that it accepts."""
    found = []
    for arguments in _batches():
        try:
            given = [one.clone().requires_grad_(one.is_floating_point()) for one in arguments]
            value = function(*given)
            if not isinstance(value, Tensor):
                continue
            learned = [one for one in given if one.requires_grad]
            moves = torch.autograd.grad(value.sum(), learned, allow_unused=True)
            found.append([_rounded(one) for one in (value, *moves)])
        except Exception:  # another number of classes, or another kind of label
            continue
    return digest(repr(found)) if found else None


def _batches() -> Iterator[list[Tensor]]:
    """Return arguments that losses take: logits and labels, scores, images, z."""
    generator = torch.Generator().manual_seed(1)
    for classes in (10, 2, 5, 3, 1):
        logits = torch.randn(8, classes, generator=generator)
        yield [logits, torch.randint(classes, (8,), generator=generator)]
        yield [logits, torch.rand(8, classes, generator=generator)]
        yield [logits]
    for shape in ((4, 3, 16, 16), (4, 1, 16, 16)):
        yield [torch.rand(shape, generator=generator), torch.rand(shape, generator=generator)]
        yield [torch.rand(shape, generator=generator)]


def _as_maker(function: Callable[..., Any]) -> str | None:
    """Return the weights of the network that it makes from a seed."""
    made = function(seed=0)
    return digest(*made.state_dict().values()) if isinstance(made, nn.Module) else None


def _rounded(value: Tensor | None) -> list[str] | None:
    if value is None:
        return None
    return [f"{number:.{DIGITS}g}" for number in value.detach().flatten().tolist()]


def _plain(value: Any) -> str | None:
    """Describe a plain value; None for any other."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return repr(value)
    if isinstance(value, Tensor | np.ndarray):
        kind = str(value.dtype).removeprefix("torch.")
        return f"{kind} {tuple(value.shape)}, {digest(torch.as_tensor(value))}"
    if isinstance(value, Data):
        return f"{value.name}, {len(value)} rows, {fingerprint(value)}"
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, torch.Generator):
        return f"at {digest(value.get_state())}"
    if isinstance(value, set | frozenset | Enum | torch.dtype | np.generic):
        return repr(sorted(value, key=repr) if isinstance(value, set | frozenset) else value)
    return None


def digest(*values: Tensor | str) -> str:
    """Return a short hash of texts and tensors, on any device."""
    hashed = hashlib.blake2b(digest_size=6)
    for value in values:
        if isinstance(value, Tensor):
            hashed.update(f"{value.dtype} {tuple(value.shape)}".encode())
            value = value.detach().cpu().contiguous()
            hashed.update(value.view(-1).view(torch.uint8).numpy().data if value.numel() else b"")
        else:
            hashed.update(value.encode())
    return hashed.hexdigest()


def _settings_of(layer: nn.Module) -> list[tuple[str, str]]:
    """Return what a layer holds besides parameters, buffers, layers and mode, if it is plain."""
    held = fields(layer).items()
    return [(k, text) for k, v in held if k not in OF_MODULES and (text := _plain(v))]


def _class(value: Any) -> str:
    return type(value).__qualname__


def _shown(value: Any) -> str:
    """Return the repr of another library's object, unless it contains a memory address."""
    text = repr(value)
    if isinstance(value, torch.device | os.PathLike) or text.startswith("<") or " at 0x" in text:
        return _class(value)
    return text if len(text) < 80 else f"{_class(value)}, {digest(text)}"


def _code(function: Any) -> str:
    """Hash the code of a function, unless it is this library's, whose changes `NUMERICS` counts."""
    code = getattr(function, "__code__", None)
    if code is None or function.__module__.partition(".")[0] == "splitlab":
        return ""
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    return f", {digest(repr((_compiled(code), [_plain(one) for one in defaults])))}"


def _compiled(code: types.CodeType) -> tuple[Any, ...]:
    """Return what a function and those inside it do, without their place in a file."""
    constants = [
        _compiled(one) if isinstance(one, types.CodeType) else _plain(one) or repr(one)
        for one in code.co_consts
    ]
    return code.co_code, code.co_names, constants
