"""Networks asked without being changed: evaluation mode, no gradients, some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

EVALUATION_BATCH = 256


@contextmanager
def evaluating(*nets: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients inside; each module's own mode is restored afterwards."""
    modules = [module for net in nets for module in net.modules()]
    modes = [module.training for module in modules]
    for net in nets:
        net.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


def in_parts(net: nn.Module, x: Tensor) -> Tensor:
    """Return net(x), (N, ...), in evaluation mode, some rows at a time to save memory."""
    with evaluating(net):
        return torch.cat([net(part) for part in x.split(EVALUATION_BATCH)])
