"""Exercise 1: the gradient that hijacks."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splitlab.course.checks.judge import exercise
from splitlab.course.checks.worlds import small_critic


def _of(loss: Callable[[Tensor], Tensor]) -> Callable[[nn.Module, Tensor], Tensor]:
    """An answer with another loss of the scores."""

    def answer(critic: nn.Module, z: Tensor) -> Tensor:
        z = z.detach().requires_grad_()
        return torch.autograd.grad(loss(critic(z)), z)[0]

    return answer


@exercise(
    cases=[
        lambda: (small_critic(24), torch.randn(5, 2, 3, 4)),
        lambda: (small_critic(12).eval(), torch.randn(1, 3, 2, 2)),
        lambda: (small_critic(6), torch.randn(4, 6)),
    ],
    returns="dz",
    praise="the server returns a gradient that serves no task, and f will follow it.",
    otherwise="dz is not the gradient of the mean score with respect to z: score z with the "
    "critic, take the mean, and ask autograd for its gradient at z",
    slips={
        "dz has the wrong sign: f descends along dz, so it climbs away from the public side, which "
        "this critic gives low scores": _of(lambda scores: -scores.mean()),
        "dz is too large by the batch size: equation (3) is the mean of the scores, not their "
        "sum": _of(lambda scores: scores.sum()),
        "dz is the gradient of a cross-entropy: in the Wasserstein form of (3) the scores are used "
        "as they are": _of(lambda scores: F.softplus(-scores).mean()),
        "there is a sigmoid on the scores: in the Wasserstein form of (3) they are used as they "
        "are": _of(lambda scores: scores.sigmoid().mean()),
    },
)
def hijack_gradient(critic: nn.Module, z: Tensor) -> Tensor:
    return _of(lambda scores: scores.mean())(critic, z)
