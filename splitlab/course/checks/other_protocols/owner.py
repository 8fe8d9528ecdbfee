"""Check of the exercise "The label owner's turn"."""

from __future__ import annotations

import functools
from typing import Any

from torch import Tensor
from torch.optim import SGD, Adam

from splitlab.course.checks.base import Answer, check, wrong
from splitlab.course.checks.loss_side import LossSide, LossTurn, Words
from splitlab.course.checks.training import RATE

U_SHAPED = Words(
    z="a",
    dz="da",
    net="the tail",
    holder="the clinic",
    sender="the server",
    walks="the tail, and to the labels",
)


@check("the tail learns, the server gets what it needs to learn, and no label has left the clinic.")
def owner_turn(answer: Answer) -> None:
    """`owner_turn(tail, optimizer, a, labels)`: the label owner's turn; returns da."""
    for optimizer in (SGD, Adam):
        side = LossSide(functools.partial(optimizer, lr=RATE), words=U_SHAPED)
        for size in (4, 4, 1, 3):
            turn = side.turn_of_one(answer, size)
            _check_labels(turn)
            side.judge(turn, answer.name)
            _check_slice(turn.result)


def _check_labels(turn: LossTurn) -> None:
    (labels,) = turn.labels
    parts: Any = turn.result if isinstance(turn.result, tuple | list) else [turn.result]
    for part in parts:
        if isinstance(part, Tensor) and part.shape == labels.shape and (part == labels).all():
            wrong("the labels leave the clinic: in this protocol da is all that crosses")


def _check_slice(da: Tensor) -> None:
    if da.untyped_storage().nbytes() > da.numel() * da.element_size():
        wrong(
            "the memory of da holds more than its own numbers: it is a slice, and what lies beside "
            "it, such as the tail's own gradients, would cross too"
        )
