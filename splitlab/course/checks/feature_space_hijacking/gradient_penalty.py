"""Exercise 3: the penalty that keeps a critic useful."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from splitlab.course.checks.guard import wrong
from splitlab.course.checks.judge import exercise
from splitlab.course.checks.sight import same
from splitlab.course.checks.worlds import small_critic


class _Noting(nn.Module):
    """A critic that records its inputs."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.net = small_critic(features)
        self.asked: list[Tensor] = []

    def forward(self, z: Tensor) -> Tensor:
        self.asked.append(z.detach().clone())
        scores: Tensor = self.net(z)
        return scores


def _case(*shape: int, calls: int = 1) -> Callable[[], Iterator[tuple[nn.Module, Tensor, Tensor]]]:
    """Two sides that differ in every number, so that a mixture reveals epsilon."""

    def case() -> Iterator[tuple[nn.Module, Tensor, Tensor]]:
        pilot = torch.ones((), requires_grad=True)
        for _ in range(calls):
            critic = _Noting(torch.Size(shape[1:]).numel())
            yield critic, 1 + torch.rand(shape), pilot * (-1 - torch.rand(shape))

    return case


def _epsilon(penalty: Tensor, critic: _Noting, z: Tensor, z_public: Tensor) -> Tensor:
    """Return the epsilons (B,) of the mixture that the critic scored.

    Raises:
        CheckFailed: If it is no mixture, or epsilon is not one for each sample, from 0 to 1.
    """
    asked, z_public = torch.cat([z[:0], *critic.asked]), z_public.detach()
    if asked.shape != z.shape:
        wrong(
            f"the critic is asked for {len(asked)} scores where {len(z)} are enough: one for each "
            "sample, at its mixture"
        )
    epsilon = (asked - z_public) / (z - z_public)
    for name, value in (("z_public", 0.0), ("z", 1.0)):
        if same(epsilon, torch.full_like(epsilon, value), 1e-6):
            wrong(f"the gradient is taken at {name}: take it at a mixture of z and z_public")
    rows, channels = epsilon.flatten(1), epsilon.flatten(2)
    if not same(rows, rows[:, :1].expand_as(rows), 1e-5):
        for mixed, one, other in zip(
            asked.flatten(1), z.flatten(1), z_public.flatten(1), strict=True
        ):
            sides = torch.stack([one, other], dim=1)
            weights = torch.linalg.lstsq(sides, mixed[:, None]).solution
            if same(sides @ weights, mixed[:, None], 1e-4) and abs(weights.sum() - 1) > 1e-4:
                a, b = weights.flatten().tolist()
                wrong(
                    "the mixture does not lie between z and z_public: their weights are "
                    f"{a:.2f} and {b:.2f} in one sample, and should be epsilon and 1 - epsilon"
                )
        if same(channels, channels[..., :1].expand_as(channels), 1e-5):
            wrong("epsilon is drawn for each channel: draw one for each sample")
        wrong(
            "the mixture does not lie on the straight line between z and z_public of its sample: "
            "draw one epsilon for each sample, not for each number, and mix a sample with its own "
            "partner"
        )
    if (epsilon < 0).any() or (epsilon > 1 - 1e-12).any():
        wrong("the mixture lies outside of z and z_public: epsilon goes from 0 to 1")
    if len(z) > 1 and rows[:, 0].std() < 1e-6:
        wrong("there is one epsilon for the whole batch: draw one for each sample")
    return rows[:, 0]


def _spread(draws: list[Tensor]) -> None:
    """Check that epsilon is uniform, and drawn anew for each sample at each call.

    Raises:
        CheckFailed: If it is not.
    """
    many = torch.stack([draw for draw in draws if len(draw) == 8])
    if same(many[0], many[1], 1e-6):
        wrong("epsilon is the same at every call: draw it anew each time")
    if (many[:, 0::2] - many[:, 1::2]).abs().max() < 1e-6:
        wrong("neighboring samples share an epsilon: draw one for each sample")
    middle = ((many > 0.25) & (many < 0.75)).double().mean()
    if not (
        0.4 < many.mean() < 0.6 and 0.4 < middle < 0.6 and many.min() < 0.05 < 0.95 < many.max()
    ):
        wrong(
            "epsilon is not spread evenly from 0 to 1: the penalty should be taken anywhere "
            "between the two sides, so draw it with torch.rand"
        )


def _with(
    of: Callable[[Tensor], Tensor] = lambda slope: (_norms(slope) - 1).square().mean(),
    total: Callable[[Tensor], Tensor] = torch.sum,
    *,
    graph: bool = True,
    detach: bool = True,
) -> Callable[..., Tensor]:
    """An answer with another penalty of the slopes (B, C, H, W)."""

    def answer(
        critic: nn.Module, z: Tensor, z_public: Tensor, draws: Tensor | None = None
    ) -> Tensor:
        epsilon = (torch.rand(len(z)) if draws is None else draws).view(-1, 1, 1, 1)
        mixture = epsilon * z + (1 - epsilon) * z_public
        mixture = mixture.detach().requires_grad_() if detach else mixture
        (slope,) = torch.autograd.grad(total(critic(mixture)), mixture, create_graph=graph)
        return of(slope)

    return answer


def _norms(slope: Tensor) -> Tensor:
    return slope.flatten(1).norm(dim=1)


@exercise(
    cases=[_case(4, 2, 3, 5), _case(3, 3, 1, 2), _case(1, 3, 2, 4), _case(8, 2, 1, 1, calls=20)],
    returns="the penalty",
    draws=_epsilon,
    spread=_spread,
    praise="the penalty trains the critic to have a slope of 1 between the two sides.",
    otherwise="the penalty is not the mean of (norm - 1)^2 at the mixture: one gradient for each "
    "sample, its Euclidean norm over all axes, minus 1, squared, mean",
    slips={
        "the norm is taken for each channel: take it over all of a sample's axes (the public "
        "code's is per channel, and another penalty)": _with(
            lambda slope: (slope.flatten(2).norm(dim=2) - 1).square().mean()
        ),
        "the norm is taken for each position, over the channels alone: take it over all of a "
        "sample's axes": _with(lambda slope: (slope.norm(dim=1) - 1).square().mean()),
        "the norm is taken over the whole batch: take one for each sample": _with(
            lambda slope: (slope.norm() - 1).square()
        ),
        "this squares the norm before 1 is subtracted: it is (norm - 1)^2": _with(
            lambda slope: (_norms(slope).square() - 1).square().mean()
        ),
        "the 1 is not subtracted: this penalty pulls the slope to 0, where the critic says "
        "nothing, instead of 1": _with(lambda slope: _norms(slope).square().mean()),
        "the difference norm - 1 is not squared": _with(lambda slope: (_norms(slope) - 1).mean()),
        "norm - 1 is not squared: its absolute value is taken": _with(
            lambda slope: (_norms(slope) - 1).abs().mean()
        ),
        "this is the sum over the samples: take the mean, or its weight depends on the batch "
        "size": _with(lambda slope: (_norms(slope) - 1).square().sum()),
        "the gradient is too small by the batch size: sum the scores before taking it, so that "
        "each sample keeps its own slope": _with(total=torch.mean),
        "the mean is taken before the square: square each sample's difference first": _with(
            lambda slope: (_norms(slope).mean() - 1).square()
        ),
        "only slopes above 1 are punished here: this penalty punishes those below, too": _with(
            lambda slope: (_norms(slope) - 1).relu().square().mean()
        ),
        "the penalty has no graph to the critic, so it trains nothing: take the gradient with "
        "create_graph=True": _with(graph=False),
        "the penalty has the right value, and its gradient with respect to the critic's parameters "
        "is wrong: nothing between the critic and the mean may be detached": _with(
            lambda slope: ((_norms(slope) - 1) * (_norms(slope) - 1).detach()).mean()
        ),
        "the mixture is still attached to the pilot: the penalty trains the critic alone, and its "
        "backward pass would leave gradients in the pilot": _with(detach=False),
    },
)
def gradient_penalty(
    critic: nn.Module, z: Tensor, z_public: Tensor, draws: Tensor | None = None
) -> Tensor:
    return _with()(critic, z, z_public, draws)
