"""Check of the exercise "What crosses"."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from splitlab.course.checks.base import Answer, check, what, wrong
from splitlab.course.checks.training import memory


@check("what crosses is a copy: the same numbers, in new memory and without a graph.")
def deliver(answer: Answer) -> None:
    """`deliver(tensor)`: the tensor that the receiver gets, and how many bytes cross."""
    images = torch.rand(9, 1, 2, 3, dtype=torch.float64)
    z = torch.tanh(images[2:6].clone().requires_grad_())
    _delivery(answer, z)
    _delivery(answer, torch.rand(1, 5, dtype=torch.float32))
    _delivery(answer, images[4:6].flatten(1))  # the z of a client that only flattens
    _delivery(answer, images.transpose(2, 3))
    _delivery(answer, torch.tensor([3, 0, 7]))  # labels

    first = _delivery(answer, z)
    before = first.clone()
    _delivery(answer, z * 2)
    if not torch.equal(first, before):
        wrong(
            "the second delivery overwrites the first: the receiver still holds that message, so "
            "each needs memory of its own"
        )


def _delivery(answer: Answer, sent: Tensor) -> Tensor:
    """Have one tensor delivered, and look at what arrives and at what stays."""
    before, history = sent.detach().clone(), sent.grad_fn
    pair = answer(sent)
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        wrong(
            f"deliver returns {what(pair)} where two things are expected: the delivered tensor, "
            "and the number of bytes that cross"
        )
    received, nbytes = pair
    if not isinstance(received, Tensor):
        wrong(f"the delivered tensor should be a tensor and is {what(received)}")
    if received.grad_fn is not None:
        wrong(
            "the delivered tensor still has its computation graph: through grad_fn the server "
            "walks back to the images"
        )
    if received.requires_grad:
        wrong(
            "the delivered tensor requires a gradient: the server decides what it differentiates, "
            "and labels cannot require a gradient"
        )
    if memory(received) == memory(sent):
        wrong(
            "the delivered tensor lies in the sender's memory: if the server writes into it, the "
            "client's z changes"
        )
    if received.untyped_storage().nbytes() > received.numel() * received.element_size():
        wrong(
            "the memory of the delivered tensor holds more than its own numbers: z was a slice, "
            "and the rows beside it, images of other patients, crossed with it"
        )
    if received.dtype != sent.dtype:
        wrong(
            f"{sent.dtype} was sent and {received.dtype} arrives: the wire changes no type, "
            "because labels are whole numbers and z must not be rounded"
        )
    if received.shape != sent.shape or not torch.equal(received, before):
        wrong("the delivered tensor holds other numbers than z, or in another shape: send z itself")
    if not torch.equal(sent.detach(), before) or sent.grad_fn is not history:
        wrong("z itself has changed: the client still needs it, with its graph, to go backward")
    _check_bytes(nbytes, sent)
    return received


def _check_bytes(nbytes: Any, sent: Tensor) -> None:
    if isinstance(nbytes, Tensor) and nbytes.numel() == 1:
        nbytes = nbytes.item()
    if not isinstance(nbytes, int | float):
        wrong(f"the bytes that cross should be a whole number and are {what(nbytes)}")
    if nbytes != sent.numel() * sent.element_size():
        wrong(
            f"the count of bytes is {nbytes:g}, but {sent.numel()} numbers of {sent.dtype} cross, "
            f"and each takes {sent.element_size()} bytes"
        )
