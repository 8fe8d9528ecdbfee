"""Check of the exercise "The penalty that keeps a critic useful"."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from splitlab.course.checks.base import Answer, check, expect_tensor, same, wrong
from splitlab.course.checks.critic import (
    expect_same_critic,
    score_gradient,
    small_critic,
    state_of,
    tell,
)


@check("the penalty pulls the critic's slope towards 1 between the two sides, and it trains it.")
def gradient_penalty(answer: Answer) -> None:
    """`gradient_penalty(critic, z, z_public)`: mean (norm of the gradient at the mixture - 1)^2."""
    for shape in ((4, 2, 3, 5), (3, 3, 1, 2), (1, 3, 2, 4)):
        _penalty_once(answer, shape)
    drawn = torch.stack([_penalty_mixture(answer) for _ in range(30)])
    if same(drawn[0], drawn[1], 1e-6):
        wrong("epsilon is the same at every call: draw it anew each time")
    middle = ((drawn > 0.25) & (drawn < 0.75)).double().mean()
    if not (
        0.4 < drawn.mean() < 0.6 and 0.3 < middle < 0.7 and drawn.min() < 0.1 and drawn.max() > 0.9
    ):
        wrong(
            "epsilon is not spread evenly from 0 to 1: the penalty should be taken anywhere "
            "between the two sides, so draw it with torch.rand"
        )


class _Noting(nn.Module):
    """A critic that notes where it is asked for scores."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.asked: list[Tensor] = []

    def forward(self, z: Tensor) -> Tensor:
        self.asked.append(z.detach().clone())
        return self.net(z)


def _two_sides(shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Return z, z_public with a graph to a pilot, and that pilot's one weight."""
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    # Apart in every number, so that the mixture says what epsilon was.
    z = 1 + torch.rand(shape, dtype=torch.float64)
    return z, weight * (-1 - torch.rand(shape, dtype=torch.float64)), weight


def _epsilon(critic: _Noting, z: Tensor, z_public: Tensor) -> tuple[Tensor, Tensor]:
    """Return epsilon (B,) and the mixture that the critic was asked about.

    Raises:
        CheckFailed: If it is no mixture, or epsilon is not one for each sample, from 0 to 1.
    """
    asked = torch.cat(critic.asked) if critic.asked else z[:0]
    if asked.shape != z.shape:
        wrong(
            f"the critic is asked for {len(asked)} scores where {len(z)} are enough: one for each "
            "sample, at its mixture"
        )
    z_public = z_public.detach()
    epsilon = (asked - z_public) / (z - z_public)
    if same(epsilon, torch.ones_like(epsilon)):
        wrong("the gradient is taken at z: take it at a mixture of z and z_public")
    if same(epsilon, torch.zeros_like(epsilon)):
        wrong("the gradient is taken at z_public: take it at a mixture of z and z_public")
    for mixed, one, other in zip(*(t.flatten(1) for t in (asked, z, z_public)), strict=True):
        sides = torch.stack([one, other], dim=1)
        weights = torch.linalg.lstsq(sides, mixed[:, None]).solution
        if same(sides @ weights, mixed[:, None]) and abs(weights.sum() - 1) > 1e-6:
            wrong(
                f"the mixture does not lie between z and z_public: their weights are "
                f"{weights[0].item():.2f} and {weights[1].item():.2f} in one sample, and should be "
                "epsilon and 1 - epsilon"
            )
    # An epsilon in float32 is rounded: the sides' weights then sum to 1 up to 1e-7.
    rows, channels = epsilon.flatten(1), epsilon.flatten(2)
    if not same(rows, rows[:, :1].expand_as(rows), 1e-6):
        if same(channels, channels[..., :1].expand_as(channels), 1e-6):
            wrong("epsilon is drawn for each channel: draw one for each sample")
        wrong(
            "the mixture does not lie on the straight line between z and z_public of its sample: "
            "draw one epsilon for each sample, not for each number, and mix a sample with its own "
            "partner"
        )
    if (epsilon < 0).any() or (epsilon > 1 - 1e-12).any():
        wrong("the mixture lies outside of z and z_public: epsilon goes from 0 to 1")
    if len(z) > 1 and same(rows[:, 0], rows[:1, 0].expand(len(z))):
        wrong("there is one epsilon for the whole batch: draw one for each sample")
    return rows[:, 0], asked


def _penalty_mixture(answer: Answer) -> Tensor:
    """Return the epsilons of one call."""
    critic = _Noting(small_critic(2))
    z, z_public, _ = _two_sides((8, 2, 1, 1))
    answer(critic, z, z_public)
    return _epsilon(critic, z, z_public)[0]


def _penalty_once(answer: Answer, shape: tuple[int, ...]) -> None:
    """Compare value and gradients with those at the mixture that the answer took.

    Raises:
        CheckFailed: If something differs.
    """
    critic = _Noting(small_critic(math.prod(shape[1:])))
    z, z_public, weight = _two_sides(shape)
    before, state = (z.clone(), z_public.detach().clone()), state_of(critic)
    penalty = expect_tensor(answer(critic, z, z_public), "the penalty", ())
    if not (torch.equal(z, before[0]) and torch.equal(z_public, before[1])):
        wrong("z or z_public has changed: work on copies")
    if z.requires_grad or z.grad is not None:
        wrong("z itself now requires a gradient: let the mixture require it")
    _, mixture = _epsilon(critic, z, z_public)
    gradients = torch.stack([score_gradient(critic, one) for one in mixture])
    norms = torch.stack([one.square().sum().sqrt() for one in gradients])
    truth = sum((norm - 1) ** 2 for norm in norms) / len(norms)
    _tell_penalty(penalty, truth, gradients.detach(), norms.detach())
    if not penalty.requires_grad:
        wrong(
            "the penalty has no graph to the critic, so it trains nothing: take the gradient with "
            "create_graph=True"
        )
    parameters = list(critic.parameters())
    asked = torch.autograd.grad(
        penalty, [*parameters, weight], retain_graph=True, allow_unused=True
    )
    *slopes, pull = [torch.zeros(()) if one is None else one for one in asked]
    if pull != 0:
        wrong(
            "the mixture is still attached to the pilot: the penalty is the critic's affair, and "
            "its backward pass would leave gradients in the pilot"
        )
    expected = torch.autograd.grad(truth, parameters, allow_unused=True)
    for slope, other in zip(slopes, expected, strict=True):
        other = torch.zeros(()) if other is None else other
        if not same(slope.expand_as(other), other):
            wrong(
                "the penalty has the right value, and its gradient with respect to the critic's "
                "parameters is wrong: nothing between the critic and the mean may be detached"
            )
    expect_same_critic(state, state_of(critic))


def _tell_penalty(penalty: Tensor, truth: Tensor, gradients: Tensor, norms: Tensor) -> None:
    size = len(norms)
    channels = gradients.flatten(2).norm(dim=2)
    tell(
        "the penalty",
        penalty,
        truth.detach(),
        {
            "the norm is taken for each channel: take it over all of a sample's axes (the public "
            "code's is per channel, and another penalty)": (channels - 1).square().mean(),
            "the norm is taken for each position, over the channels alone: take it over all of a "
            "sample's axes": (gradients.norm(dim=1) - 1).square().mean(),
            "the norm is taken over the whole batch: take one for each sample": (
                gradients.norm() - 1
            ).square(),
            "this squares the norm before 1 is subtracted: it is (norm - 1)^2": (norms.square() - 1)
            .square()
            .mean(),
            "the 1 is not subtracted: this penalty pulls the slope to 0, where the critic says "
            "nothing, instead of 1": norms.square().mean(),
            "the difference norm - 1 is not squared": (norms - 1).mean(),
            "norm - 1 is not squared: its absolute value is taken": (norms - 1).abs().mean(),
            "this is the sum over the samples: take the mean, or its weight depends on the batch "
            "size": (norms - 1).square().sum(),
            "the gradient is too small by the batch size: sum the scores before taking it, so "
            "that each sample keeps its own slope": (norms / size - 1).square().mean(),
            "the mean is taken before the square: square each sample's difference first": (
                norms.mean() - 1
            ).square(),
            "only slopes above 1 are punished here: this penalty punishes those below, too": (
                norms - 1
            )
            .clamp(min=0)
            .square()
            .mean(),
        },
        "the penalty is not the mean of (norm - 1)^2 at the mixture: one gradient for each "
        "sample, its Euclidean norm over all axes, minus 1, squared, mean",
    )
