"""What the checks of training steps share: messages, and measurements of tensors and networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from splitlab.course.checks.base import same, wrong

RATE = 0.1  # of plain SGD, whose step shows the gradient that was used

OLD_GRADIENTS = (
    "from the second turn on, the gradients of earlier turns are still in .grad and are added: "
    "call optimizer.zero_grad() before backward"
)
ONLY_SGD = (
    "with plain SGD {net} moves as it should, and with Adam it does not: leave the step to "
    "optimizer.step()"
)


def memory(tensor: Tensor) -> int:
    """Where a tensor's storage begins: the same for two that share it."""
    return tensor.untyped_storage().data_ptr()


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """All numbers in one vector of its own."""
    return torch.cat([tensor.flatten() for tensor in tensors])


def weights(net: nn.Module) -> Tensor:
    """All weights in one vector of its own."""
    return flat([weight.detach() for weight in net.parameters()])


def factor(a: Tensor, b: Tensor) -> float | None:
    """Return k, rounded a little, if a is k times b, and else None."""
    k = ((a * b).sum() / b.square().sum()).item()
    return round(k, 9) if k and same(a / k, b) else None


def gradient(loss: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """The gradient of a loss with respect to z, which is left as it is."""
    leaf = z.detach().clone().requires_grad_()
    with torch.enable_grad():  # the student's code may ask from inside a no_grad
        return torch.autograd.grad(loss(leaf), leaf)[0]


def task_loss(net: nn.Module, z: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy, written out."""
    scores = net(z)
    return (scores.exp().sum(1).log() - scores[torch.arange(len(z)), labels]).mean()


def check_statistics(net: nn.Module, whole: nn.Module) -> None:
    """Compare a network's buffers with those of its twin.

    Raises:
        CheckFailed: If they differ.
    """
    pairs = zip(net.buffers(), whole.buffers(), strict=True)
    if not all(same(buffer.double(), due.double()) for buffer, due in pairs):
        wrong("BatchNorm's running statistics are not those of one forward pass in training mode")
