"""Checks of the exercises to chapter 01, Split learning from scratch."""

from __future__ import annotations

import torch

from splitlab.checks.base import Answer, check, expect_tensor, wrong


@check("what crosses is a copy: the same numbers, none of the memory, none of the history.")
def deliver(answer: Answer) -> None:
    """`deliver(z)`: the tensor that the receiver gets for the tensor z that is sent."""
    x = torch.rand(4, 3, dtype=torch.float64, requires_grad=True)
    z = x * 2
    before = z.detach().clone()
    received = expect_tensor(answer(z), "the delivered tensor", z.shape)
    if received.grad_fn is not None or received.requires_grad:
        wrong(
            "the delivered tensor still has its computation graph: through grad_fn the server "
            "walks back to the images"
        )
    if received.untyped_storage().data_ptr() == z.untyped_storage().data_ptr():
        wrong(
            "the delivered tensor lies in the sender's memory: what the server writes into it, "
            "the client's z becomes"
        )
    if received.dtype != z.dtype or not torch.equal(received, before):
        wrong("the delivered tensor holds other numbers than z: send z as it is")
    if not torch.equal(z.detach(), before) or z.grad_fn is None:
        wrong("z itself has changed: the client still needs it, with its graph, to go backward")
