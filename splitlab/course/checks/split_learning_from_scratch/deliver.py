"""Exercise 1: the tensor that crosses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from splitlab.course.checks.guard import wrong
from splitlab.course.checks.judge import exercise
from splitlab.course.checks.sight import tensors


def _slices() -> Iterator[tuple[Tensor]]:
    """Slices of larger tensors, whose other rows must not reach the receiver."""
    images = torch.randn(9, 1, 2, 3)
    yield (images[4:6].flatten(1),)  # the z of a client that only flattens
    yield (images.transpose(2, 3)[1:],)
    yield (torch.arange(9)[2:5],)  # labels


def _learned(*shape: int) -> Tensor:
    return torch.tanh(torch.randn(shape, requires_grad=True))


def _alone(result: Any, sent: Tensor) -> Any:
    """Check the memory behind the delivered tensor.

    Raises:
        CheckFailed: If it holds anything else, unless it is the sender's own.
    """
    for tensor in tensors(result):
        memory = tensor.untyped_storage()
        shared = memory.data_ptr() == sent.untyped_storage().data_ptr()
        if memory.nbytes() > tensor.numel() * tensor.element_size() and not shared:
            wrong(
                "the memory of the delivered tensor holds more than its own numbers: z was a "
                "slice, and the rows beside it, images of other patients, crossed with it"
            )
    return result


def _with(
    received: Callable[[Tensor], Tensor] = lambda tensor: tensor.detach().clone(),
    nbytes: Callable[[Tensor], int] = lambda tensor: tensor.numel() * tensor.element_size(),
) -> Callable[[Tensor], tuple[Tensor, int]]:
    return lambda tensor: (received(tensor), nbytes(tensor))


@exercise(
    cases=[
        lambda: (_learned(4, 1, 2, 3),),
        lambda: [(_learned(2, 3),) for _ in range(2)],
        _slices,
        lambda: (torch.randn(1, 5).half(),),
    ],
    returns=("the delivered tensor", "the count of bytes"),
    types=True,
    use=_alone,
    praise="what crosses is a copy: the same numbers, in new memory and without a graph.",
    otherwise="the delivered tensor holds other numbers than z, or the count of bytes is not how "
    "many there are times the bytes of each: send z itself, and count what is sent",
    slips={
        "the delivered tensor still has its computation graph: through grad_fn the server walks "
        "back to the images": _with(lambda tensor: tensor.clone()),
        "the delivered tensor requires a gradient: the server decides what it differentiates, and "
        "labels cannot require a gradient": _with(
            lambda tensor: tensor.detach().clone().requires_grad_(tensor.is_floating_point())
        ),
        "the delivered tensor lies in the sender's memory: if the server writes into it, the "
        "client's z changes": _with(lambda tensor: tensor.detach()),
        "z itself has changed: the client still needs it, with its graph, to go backward": _with(
            lambda tensor: tensor.detach_().clone()
        ),
        "this is a count of numbers, and not yet of bytes: each takes element_size() of "
        "them": _with(nbytes=lambda tensor: tensor.numel()),
        "the count of bytes takes 4 for each number, but that depends on the type": _with(
            nbytes=lambda tensor: 4 * tensor.numel()
        ),
        "the count of bytes is that of the memory behind a slice: only its own numbers "
        "cross": _with(nbytes=lambda tensor: tensor.untyped_storage().nbytes()),
    },
)
def deliver(tensor: Tensor) -> tuple[Tensor, int]:
    return _with()(tensor)
