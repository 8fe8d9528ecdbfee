"""Check of the exercise "The gradient that hijacks"."""

from __future__ import annotations

import math

import torch

from splitlab.course.checks.base import Answer, check, expect_tensor, wrong
from splitlab.course.checks.critic import (
    expect_same_critic,
    score_gradient,
    small_critic,
    state_of,
    tell,
)


@check("the server returns a gradient that no task asked for, and f will follow it.")
def hijack_gradient(answer: Answer) -> None:
    """`hijack_gradient(critic, z)`: the gradient of mean critic(z) with respect to z."""
    kept = []
    for shape in ((5, 2, 3, 4), (1, 3, 2, 2), (4, 6)):
        critic = small_critic(math.prod(shape[1:]))
        for parameter in critic.parameters():  # as the critic's last step left them
            parameter.grad = torch.rand_like(parameter)
        z = torch.randn(shape, dtype=torch.float64)
        before, state = z.clone(), state_of(critic)
        dz = expect_tensor(answer(critic, z), "dz", shape)
        if dz.requires_grad:
            wrong(
                "dz still carries a computation graph: what crosses to the client should be "
                "numbers alone"
            )
        if not torch.equal(z.detach(), before):
            wrong("z itself has changed: work on a copy, for the critic's own step needs z, too")
        if z.requires_grad or z.grad is not None:
            wrong(
                "z itself now requires a gradient: let a detached z require it, so that nothing "
                "is recorded on the message that came in"
            )
        expect_same_critic(state, state_of(critic))
        truth = torch.stack([score_gradient(critic, one) for one in z]) / len(z)
        score = critic(z).detach().view(-1, *[1] * (z.dim() - 1))
        tell(
            "dz",
            dz,
            truth,
            {
                "dz has the wrong sign: f descends along dz, so it climbs away from the public "
                "side, which this critic gives low scores": -truth,
                "dz is too large by the batch size: equation (3) is the mean of the scores, not "
                "their sum": truth * len(z),
                "dz is the gradient of a cross-entropy: in the Wasserstein form of (3) the scores "
                "are used as they are": -truth * torch.sigmoid(-score),
                "there is a sigmoid on the scores: in the Wasserstein form of (3) they are used "
                "as they are": truth * torch.sigmoid(score) * torch.sigmoid(-score),
            },
            "dz is not the gradient of the mean score with respect to z: score z with the critic, "
            "take the mean, and ask autograd for its gradient at z",
        )
        kept.append((dz, dz.clone()))
    if any(not torch.equal(dz, copy) for dz, copy in kept):
        wrong(
            "a dz that was returned earlier changes at the next call: return a tensor of its "
            "own, not a buffer that is used again"
        )
