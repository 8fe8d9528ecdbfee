"""Running and copying networks without changing them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

EVALUATION_BATCH = 256

T = TypeVar("T")


@contextmanager
def evaluating(*nets: nn.Module, training: bool = False) -> Iterator[None]:
    """Use evaluation mode without gradients inside, and restore modes and buffers afterwards.

    So are tensors that a layer computes in every forward pass and keeps beside its parameters
    (`torch.nn.utils.weight_norm`).

    Args:
        nets: The networks.
        training: Whether they are in training mode inside, as what a server receives in training
            needs. BatchNorm's statistics then move, and are put back.
    """
    modules = [module for net in nets for module in net.modules()]
    modes = [module.training for module in modules]
    buffers = [(m, name, b) for m in modules for name, b in m.named_buffers(recurse=False)]
    computed = [(m, k, t) for m in modules for k, t in vars(m).items() if isinstance(t, Tensor)]
    copies = {id(buffer): buffer.clone() for _, _, buffer in buffers}
    for module, name, buffer in buffers:
        setattr(module, name, copies[id(buffer)])
    for net in nets:
        net.train(training)
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
        for module, name, buffer in buffers:
            setattr(module, name, buffer)
        for module, name, tensor in computed:
            vars(module)[name] = tensor


def in_parts(net: nn.Module, x: Tensor) -> Tensor:
    """Return net(x), (N, ...), in evaluation mode, computed in parts to save memory."""
    with evaluating(net):
        return torch.cat([net(part) for part in x.split(EVALUATION_BATCH)])


def whole_batches(x: Tensor, size: int) -> tuple[Tensor, ...]:
    """Split x (N, ...) into batches of one size; the last one starts with repeated rows."""
    *batches, last = x.split(size)
    if len(last) < size:
        last = x[torch.arange(len(x) - size, len(x)) % len(x)]
    return *batches, last


def duplicate(value: T, net: nn.Module) -> T:
    """Return a deep copy of a network, or of a party that has one.

    `copy.deepcopy` refuses a tensor with a computation graph, and `torch.nn.utils.weight_norm` and
    `spectral_norm` leave one on each of their layers, computed anew in every forward pass. The
    copy's layers begin without the graph.

    Args:
        value: What to copy.
        net: The network in it, or the network itself.
    """
    held = [tensor for module in net.modules() for tensor in vars(module).values()]
    graphs = [t for t in held if isinstance(t, Tensor) and t.grad_fn is not None]
    return copy.deepcopy(value, {id(t): t.detach().clone() for t in graphs})
