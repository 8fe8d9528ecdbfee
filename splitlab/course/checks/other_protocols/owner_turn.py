"""Exercise 1: the label owner's turn."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from splitlab.course.checks.guard import wrong
from splitlab.course.checks.judge import exercise
from splitlab.course.checks.loss_turn import LossTurn, add_slips, message, take, turns
from splitlab.course.checks.sight import tensors


def _crossing(result: Any, tail: nn.Module, optimizer: Optimizer, a: Tensor, labels: Tensor) -> Any:
    """Check everything that would leave the clinic.

    Raises:
        CheckFailed: If there is more than da.
    """
    for part in tensors(result):
        if part.shape == labels.shape and (part == labels).all():
            wrong("the labels leave the clinic: in this protocol da is all that crosses")
        if part.untyped_storage().nbytes() > part.numel() * part.element_size():
            wrong(
                "the memory of da holds more than its own numbers: it is a slice, and what lies "
                "beside it, such as the tail's own gradients, would cross, too"
            )
    return result


@exercise(
    cases=turns(message, 4, 4, 1, 3),
    returns="da",
    use=_crossing,
    praise="the tail learns, the server gets what it needs to learn, and no label has left the "
    "clinic.",
    otherwise={
        "": "da is not the gradient of the mean cross-entropy with respect to a, at the weights "
        "before the step",
        "tail": "the step of the tail is not the optimizer's step on the mean cross-entropy",
    },
)
def owner_turn(tail: nn.Module, optimizer: Optimizer, a: Tensor, labels: Tensor) -> Any:
    return take(LossTurn, tail, optimizer, a, labels)


@owner_turn.slip(
    "da is right, but the tail is left in evaluation mode: leave it in training mode, as it ran"
)
def _left(tail: nn.Module, optimizer: Optimizer, a: Tensor, labels: Tensor) -> Any:
    da = take(LossTurn, tail, optimizer, a, labels)
    tail.eval()
    return da


add_slips(owner_turn, dz="da", net="the tail", sender="the server")
