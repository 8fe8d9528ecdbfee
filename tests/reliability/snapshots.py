"""All that some objects hold, bit by bit, fast enough to be compared thousands of times."""

import dataclasses
from collections import OrderedDict, deque
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.device, torch.dtype, np.generic)
NUMPY = {torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool}
CONTAINERS = (dict, OrderedDict, list, tuple)


def snapshot(*values):
    """Path -> what is there, of all numbers, texts, tensors, gradients and random states.

    It knows nothing of the library's own idea of a state, and looks into messages as well, which
    have slots. None and empty containers are left out, for networks have many.
    """
    found, seen = {"torch's random state": _bits(torch.get_rng_state())}, {}
    for number, value in enumerate(values):
        _look(value, str(number), found, seen)
    return found


def differences(before, after):
    """The paths at which two snapshots differ."""
    if before == after:
        return []
    return [path for path in {**before, **after} if before.get(path) != after.get(path)]


def not_finite(found):
    """The paths of tensors with a NaN or an infinity."""
    floats = {torch.float32: np.float32, torch.float64: np.float64}
    return [
        path
        for path, value in found.items()
        if isinstance(value, tuple)
        and value[0] in floats
        and not np.isfinite(np.frombuffer(value[2], floats[value[0]])).all()
    ]


def _look(value, path, found, seen):
    if isinstance(value, PLAIN):
        found[path] = repr(value)
        return
    if isinstance(value, torch.Tensor):
        found[path] = _bits(value)
        if value.is_leaf and value.grad is not None:
            found[f"{path}.grad"] = _bits(value.grad)
        return
    if callable(value) and not isinstance(value, nn.Module):
        return
    if id(value) in seen:
        found[path] = f"the same as {seen[id(value)]}"
        return
    seen[id(value)] = path
    if isinstance(value, np.ndarray):
        found[path] = (value.dtype, value.shape, value.tobytes())
        return
    if isinstance(value, torch.Generator):
        found[path] = _bits(value.get_state())
        return
    if isinstance(value, Mapping):
        # The keys of an optimizer's state are tensors: their order is that of the parameters.
        parts = [
            (key if isinstance(key, str | int) else number, part)
            for number, (key, part) in enumerate(value.items())
        ]
    elif isinstance(value, list | tuple | deque):
        parts = list(enumerate(value))
    elif isinstance(value, set | frozenset):
        parts = [("items", repr(sorted(value, key=repr)))]
    elif dataclasses.is_dataclass(value):
        parts = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    else:
        parts = list(getattr(value, "__dict__", {}).items())
    if parts:
        found[path] = f"{type(value).__name__} of {len(parts)}"
    for name, part in parts:
        kind = type(part)
        if part is None:
            continue
        if kind in PLAIN:
            found[f"{path}.{name}"] = part if kind is not float else repr(part)  # NaN is itself
        elif kind not in CONTAINERS or part:
            _look(part, f"{path}.{name}", found, seen)


def _bits(tensor):
    held = tensor.detach()
    if held.layout != torch.strided or held.device.type == "meta":
        return repr(held)
    if held.dtype in NUMPY:
        return held.dtype, held.shape, held.numpy().tobytes()
    return held.dtype, held.shape, held.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
