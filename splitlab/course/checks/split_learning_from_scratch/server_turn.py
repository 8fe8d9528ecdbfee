"""Exercise 3: the server's turn."""

from __future__ import annotations

from torch import Tensor, nn
from torch.optim import Optimizer

from splitlab.course.checks.judge import exercise
from splitlab.course.checks.loss_turn import LossTurn, add_slips, message, take, train_on, turns


@exercise(
    cases=turns(message, 4, 4, 1, 3),
    returns="dz",
    use=train_on,
    praise="s learns the task, and dz is what the client needs to learn it too.",
    otherwise={
        "dz": "dz is not the gradient of the mean cross-entropy with respect to z",
        "": "dz is right, but the step of s is not: take one step on the mean loss of the batch",
    },
)
def server_turn(net: nn.Module, optimizer: Optimizer, z: Tensor, labels: Tensor) -> Tensor:
    dz: Tensor = take(LossTurn, net, optimizer, z, labels)
    return dz


add_slips(server_turn)
