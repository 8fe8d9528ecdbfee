"""Checks of the exercises to chapter 06, Feature-space hijacking."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splitlab import Client, HonestServer, Observer, Server, settings, train
from splitlab.attacks import FSHA
from splitlab.checks.base import (
    Answer,
    CheckFailed,
    NotWrittenYet,
    Score,
    check,
    expect_number,
    expect_tensor,
    same,
    twin,
    wrong,
)
from splitlab.messages import Gradient, Message, SmashedData
from splitlab.tables import Table


@check("the server returns a gradient that no task asked for, and f will follow it.")
def hijack_gradient(answer: Answer) -> None:
    """`hijack_gradient(critic, z)`: the gradient of mean critic(z) with respect to z."""
    kept = []
    for shape in ((5, 2, 3, 4), (1, 3, 2, 2), (4, 6)):
        critic = _critic(math.prod(shape[1:]))
        for parameter in critic.parameters():  # as the critic's last step left them
            parameter.grad = torch.rand_like(parameter)
        z = torch.randn(shape, dtype=torch.float64)
        before, state = z.clone(), _state(critic)
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
        _expect_same_critic(state, _state(critic))
        truth = torch.stack([_score_gradient(critic, one) for one in z]) / len(z)
        score = critic(z).detach().view(-1, *[1] * (z.dim() - 1))
        _tell(
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


@check("only the very image counts, and a picture that fits all of them equally well is no match.")
def matched(answer: Answer) -> None:
    """`matched(reconstructions, private)`: how often the nearest private image is the right one."""
    cases = []
    for shape, noise in (((30, 2, 3, 4), 1.3), ((17, 1, 5, 2), 0.9), ((24, 3, 2, 3), 1.1)):
        private = torch.rand(shape, dtype=torch.float64) * 2 - 1
        contrast = 0.3 + torch.rand(shape[0], 1, 1, 1, dtype=torch.float64)
        reconstructions = contrast * private + noise * torch.randn_like(private) * contrast
        cases.append((reconstructions + 0.3, private))
    cases.append((-private, private))  # negatives: the right image is the farthest one
    shares = []
    for reconstructions, private in cases:
        before = reconstructions.clone(), private.clone()
        shares.append(expect_number(answer(reconstructions, private), "the share"))
        if not all(map(torch.equal, (reconstructions, private), before)):
            wrong("matched changes the images that it is given: work on copies")
    for message, share in SHARES.items():
        if all(abs(a - share(*case)) < 1e-6 for a, case in zip(shares, cases, strict=True)):
            if message:
                wrong(message)
            break
    else:
        wrong(
            "the share is not right: compare every reconstruction with every private image, over "
            "all channels and pixels, and count where the nearest one has the same number"
        )
    one = torch.rand(1, 1, 2, 3)
    if expect_number(answer(1 - one, one), "the share") != 1:
        wrong("of one private image the nearest is always the right one: the share should be 1")
    # Black and white pictures, one in all of 2^6: a grey one is equally far from all of them.
    corners = torch.tensor(
        [[1.0 - 2 * (number >> bit & 1) for bit in range(6)] for number in range(64)]
    ).reshape(64, 1, 2, 3)
    grey = expect_number(answer(torch.zeros_like(corners), corners), "the share")
    if grey > 1 / len(corners) + 1e-6:
        wrong(
            f"a constant grey picture for every image scores {grey:.2f}: it is equally near to all "
            f"{len(corners)} private images, and to be equally near is no match, or at most "
            "1 match among so many"
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


@check("three networks moved, each by its own loss, and dz was taken before any of them did.")
def turn(answer: Answer) -> None:
    """`turn(client_z, x_public, ...)`: one turn of Algorithm 1; returns dz."""
    nets = _attacker()
    optimizers = (
        torch.optim.SGD([*nets.pilot.parameters(), *nets.decoder.parameters()], lr=RATE),
        torch.optim.SGD(nets.critic.parameters(), lr=RATE),
    )
    kept, last = [], None
    for size, public in ((4, 4), (5, 3), (1, 2)):
        z = torch.randn(size, 2, 2, 3, dtype=torch.float64)
        x = torch.rand(public, 1, 4, 6, dtype=torch.float64) * 2 - 1
        old = twin(nets)
        given = z.clone(), x.clone()
        dz = answer(z, x, nets.pilot, nets.decoder, nets.critic, *optimizers)
        dz = expect_tensor(dz, "dz", z.shape)
        if dz.requires_grad:
            wrong("dz still carries a computation graph: what crosses to the client is numbers")
        if z.requires_grad or z.grad is not None:
            wrong(
                "client_z itself now requires a gradient: let a detached client_z require it, so "
                "that nothing else is recorded there"
            )
        if not (torch.equal(z, given[0]) and torch.equal(x, given[1])):
            wrong("turn changes client_z or x_public: work on copies")
        if [m.training for m in nets.modules()] != [m.training for m in old.modules()]:
            wrong("turn leaves a network in another mode than before, training or evaluation")
        if any(not torch.equal(one, copy) for one, copy in kept):
            wrong(
                "a dz that was returned earlier changes in a later turn: the client would receive "
                "something else than the attacker meant, so return a tensor of its own"
            )
        right = _Gradients(old, z, x)
        _tell_dz(dz, right, nets.critic)
        _tell_critic(_moved(old.critic, nets.critic), right, last)
        _tell_autoencoder(_moved(old.autoencoder, nets.autoencoder), right, last)
        kept.append((dz, dz.clone()))
        last = right


@check("your alarm keeps to the rules, and the table says what it is good for.")
def suspicion(answer: Answer) -> Score:
    """`suspicion(dz, labels)`: one number from one batch's gradient, higher for a hijack."""
    for what, dz, labels in _unusual_looks():
        before = dz.clone(), labels.clone()
        try:
            first, second = (expect_number(answer(dz, labels), "the suspicion") for _ in range(2))
        except NotWrittenYet:
            raise
        except CheckFailed as error:
            raise CheckFailed(f"with {what}, {error}") from error
        if not (torch.equal(dz, before[0]) and torch.equal(labels, before[1])):
            wrong("suspicion changes dz or labels: the client still has to use that gradient")
        if first != second:
            wrong(
                "suspicion gives another number for the same gradient the second time: it should "
                "look at one gradient, and neither remember, nor count, nor draw lots"
            )
    values = _values(answer)
    yours, reversed_ = _alarm(values), _alarm([-run for run in values])
    if yours.points < 5 and reversed_.points > 50:
        wrong(
            "suspicion is higher for honest servers than for the hijacks: turn its sign, for the "
            "alarm rings when it is high"
        )
    rows = [("your alarm", *yours.row()), *_beside()]
    head = (
        "alarm",
        "hijack rings, %",
        "first ring, median step",
        "false rings, per 1000",
        "points",
    )
    return Score(yours.points, Table(head, rows, caption=CAPTION, strong=0))


# What several checks use.


def _critic(features: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(features, 7), nn.Softplus(), nn.Linear(7, 1)
    ).double()


def _state(net: nn.Module) -> dict[str, list[Any]]:
    """What a function must not change in a network that it only asks."""
    return {
        "grads": [None if p.grad is None else p.grad.clone() for p in net.parameters()],
        "weights": [p.detach().clone() for p in net.parameters()],
        "frozen": [p.requires_grad for p in net.parameters()],
        "modes": [module.training for module in net.modules()],
    }


def _expect_same_critic(before: dict[str, list[Any]], after: dict[str, list[Any]]) -> None:
    grads = zip(before["grads"], after["grads"], strict=True)
    if any(
        (a is None) != (b is None) or (a is not None and not torch.equal(a, b)) for a, b in grads
    ):
        wrong(
            "the .grad of the critic's parameters has changed, and the critic's own next step "
            "would be polluted by it: ask torch.autograd.grad for the one gradient you want"
        )
    if not all(map(torch.equal, before["weights"], after["weights"])):
        wrong("the critic's weights have changed: here it is only asked for scores")
    if before["frozen"] != after["frozen"]:
        wrong("the critic's parameters no longer require gradients: it could not learn any more")
    if before["modes"] != after["modes"]:
        wrong("the critic is left in another mode than before, training or evaluation")


def _score_gradient(critic: nn.Module, one: Tensor) -> Tensor:
    """The gradient of one sample's score with respect to that sample."""
    one = one.detach().unsqueeze(0).requires_grad_()
    score = critic(one).squeeze()
    return torch.autograd.grad(score, one, create_graph=True)[0].squeeze(0)


def _tell(
    name: str, value: Tensor, truth: Tensor, mistakes: Mapping[str, Tensor], otherwise: str
) -> None:
    """Accept the truth; say which mistake gives this value, or by how much it is too long.

    Raises:
        CheckFailed: Unless the value is the truth.
    """
    value = value.detach()
    if same(value, truth):
        return
    for message, mistake in mistakes.items():
        if same(value, mistake):
            wrong(message)
    factor = (value * truth).sum() / truth.square().sum()
    if truth.dim() and same(value, factor * truth):
        wrong(f"{name} has the right direction, and {factor:.3g} times the right size")
    wrong(otherwise)


# Matched.


def _squares(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().sum()


def _unlike(a: Tensor, b: Tensor) -> Tensor:
    return -torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1]


def _matched(
    answers: Tensor, candidates: Tensor, distance: Callable[[Tensor, Tensor], Tensor] = _squares
) -> float:
    """The share of answers whose nearest candidate has their own number, one pair at a time."""
    hits = 0
    for number, one in enumerate(answers):
        distances = [float(distance(one, other)) for other in candidates]
        hits += distances.index(min(distances)) == number
    return hits / len(answers)


# What the share would be: right, and with each mistake.
SHARES: dict[str, Callable[[Tensor, Tensor], float]] = {
    "": _matched,
    "the share is taken over the wrong axis: for each reconstruction look for the nearest private "
    "image, not for each private image the nearest reconstruction": lambda a, b: _matched(b, a),
    "the farthest private image is taken for the nearest: the smallest distance counts": (
        lambda a, b: _matched(a, b, lambda a, b: -_squares(a, b))
    ),
    "this is a percentage: return the share, from 0 to 1": lambda a, b: 100 * _matched(a, b),
    "this is the number of matches: divide it by the number of reconstructions": (
        lambda a, b: len(a) * _matched(a, b)
    ),
    "this is the share of reconstructions that are not matched": lambda a, b: 1 - _matched(a, b),
    "nearest goes by correlation here, which is blind to brightness and contrast: take the squared "
    "error": lambda a, b: _matched(a, b, _unlike),
    "nearest goes by the absolute error here: take the squared error": (
        lambda a, b: _matched(a, b, lambda a, b: (a - b).abs().sum())
    ),
    "only the first pixel is compared: the distance runs over all of an image's numbers": (
        lambda a, b: _matched(a[:, :1, :1, :1], b[:, :1, :1, :1])
    ),
    "only the first channel is compared: the distance runs over all of an image's numbers": (
        lambda a, b: _matched(a[:, :1], b[:, :1])
    ),
}


# Gradient penalty.


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
    critic = _Noting(_critic(2))
    z, z_public, _ = _two_sides((8, 2, 1, 1))
    answer(critic, z, z_public)
    return _epsilon(critic, z, z_public)[0]


def _penalty_once(answer: Answer, shape: tuple[int, ...]) -> None:
    """Compare value and gradients with those at the mixture that the answer took.

    Raises:
        CheckFailed: If something differs.
    """
    critic = _Noting(_critic(math.prod(shape[1:])))
    z, z_public, weight = _two_sides(shape)
    before, state = (z.clone(), z_public.detach().clone()), _state(critic)
    penalty = expect_tensor(answer(critic, z, z_public), "the penalty", ())
    if not (torch.equal(z, before[0]) and torch.equal(z_public, before[1])):
        wrong("z or z_public has changed: work on copies")
    if z.requires_grad or z.grad is not None:
        wrong("z itself now requires a gradient: let the mixture require it")
    _, mixture = _epsilon(critic, z, z_public)
    gradients = torch.stack([_score_gradient(critic, one) for one in mixture])
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
    _expect_same_critic(state, _state(critic))


def _tell_penalty(penalty: Tensor, truth: Tensor, gradients: Tensor, norms: Tensor) -> None:
    size = len(norms)
    channels = gradients.flatten(2).norm(dim=2)
    _tell(
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


# One turn.

RATE = 0.1  # of plain descent, so that a step says which gradient was used


class _Attacker(nn.Module):
    """The attacker's three networks."""

    def __init__(self, pilot: nn.Module, decoder: nn.Module, critic: nn.Module) -> None:
        super().__init__()
        self.autoencoder = nn.ModuleList([pilot, decoder])
        self.critic = critic

    @property
    def pilot(self) -> nn.Module:
        return self.autoencoder[0]

    @property
    def decoder(self) -> nn.Module:
        return self.autoencoder[1]


def _attacker() -> _Attacker:
    """Networks for images (1, 4, 6) and z (2, 2, 3), in float64."""
    return _Attacker(
        nn.Sequential(nn.Conv2d(1, 2, 3, 2, 1), nn.Tanh()),
        nn.Sequential(nn.ConvTranspose2d(2, 1, 4, 2, 1)),
        _critic(12),
    ).double()


def _flat(gradients: tuple[Tensor | None, ...], like: nn.Module) -> Tensor:
    pairs = zip(gradients, like.parameters(), strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])


def _moved(old: nn.Module, new: nn.Module) -> Tensor:
    """The gradient that a step of plain descent must have used."""
    pairs = zip(old.parameters(), new.parameters(), strict=True)
    return torch.cat([((a - b) / RATE).detach().flatten() for a, b in pairs])


class _Gradients:
    """All gradients of one turn at the old parameters, and those that mistakes would take.

    Attributes:
        dz: Of equation (3), with respect to z.
        critic: Of equation (2), with respect to the critic.
        autoencoder: Of equation (1), with respect to pilot and decoder.
    """

    def __init__(self, nets: _Attacker, z: Tensor, x: Tensor) -> None:
        self.nets, self.z, self.x = nets, z, x
        self.dz = self.client(nets.critic)
        z_public = nets.pilot(x).detach()
        self.public = self._critic(nets.critic(z_public).mean())
        self.private = self._critic(nets.critic(z).mean())
        self.critic = self.public - self.private
        self.autoencoder = self._autoencoder((nets.decoder(nets.pilot(x)) - x).square().mean())

    def client(self, critic: nn.Module) -> Tensor:
        return torch.stack([_score_gradient(critic, one) for one in self.z]).detach() / len(self.z)

    def _critic(self, loss: Tensor) -> Tensor:
        parameters = list(self.nets.critic.parameters())
        return _flat(torch.autograd.grad(loss, parameters, allow_unused=True), self.nets.critic)

    def _autoencoder(self, loss: Tensor) -> Tensor:
        parameters = list(self.nets.autoencoder.parameters())
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        return _flat(gradients, self.nets.autoencoder)

    def late_pilot(self) -> nn.Module:
        """A copy of the pilot that has taken its step."""
        pilot, start = twin(self.nets.pilot), 0
        with torch.no_grad():
            for parameter in pilot.parameters():  # the pilot's come before the decoder's
                part = self.autoencoder[start : start + parameter.numel()]
                parameter -= RATE * part.view_as(parameter)
                start += parameter.numel()
        return pilot

    def critic_mistakes(self) -> dict[str, Tensor]:
        z_late = self.late_pilot()(self.x).detach()
        late = self._critic(self.nets.critic(z_late).mean()) - self.private
        return {
            "the critic does not move: it needs a backward pass of its loss (2) and a step of its "
            "optimizer": torch.zeros_like(self.critic),
            "the critic's loss has the wrong sign: it would learn to give the public side high "
            "scores, and f, which walks down, would walk away from it": -self.critic,
            "the critic's step has nothing of the private side: either its loss lacks it, or the "
            "gradient of the client's loss (3) was still in its .grad and cancelled it, so clear "
            "that after dz is taken": self.public,
            "the critic's step contains the gradient of the client's loss (3) instead of its "
            "own": self.private,
            "the critic's loss is a sum over the batch: both of its parts are means": (
                len(self.x) * self.public - len(self.z) * self.private
            ),
            "the critic looks at features of the pilot after the pilot's step: take all gradients "
            "at the old parameters": late,
        }

    def autoencoder_mistakes(self) -> dict[str, Tensor]:
        nets, x = self.nets, self.x
        public = nets.pilot(x)
        critic = self._autoencoder(nets.critic(nets.pilot(x)).mean())
        swayed = self.autoencoder + critic
        detached = self._autoencoder((nets.decoder(public.detach()) - x).square().mean())
        mistakes = {
            "pilot and decoder do not move: they need a backward pass of their loss (1) and a step "
            "of their optimizer": torch.zeros_like(swayed),
            "the critic's loss moves the pilot, too: detach z_public before the critic sees "
            "it": swayed,
            "the pilot is moved to please or to tease the critic: its loss is (1) alone": (
                self.autoencoder - critic
            ),
            "only the decoder learns: z_public is detached before the decoder sees it": detached,
            "pilot and decoder climb their loss: it has the wrong sign": -self.autoencoder,
            "the loss of pilot and decoder is a sum: (1) is the mean over images and "
            "pixels": self.autoencoder * x.numel(),
            "the loss of pilot and decoder is a sum over the pixels of an image: (1) is the mean "
            "over images and pixels": self.autoencoder * x[0].numel(),
        }
        if len(self.z) == len(x):
            across = (nets.decoder(self.z) - x).square().mean()
            mistakes[
                "the decoder learns to turn the client's z into public images: (1) compares "
                "decoder(pilot(x_public)) with x_public itself"
            ] = self._autoencoder(across)
        return mistakes


def _tell_dz(dz: Tensor, right: _Gradients, moved_critic: nn.Module) -> None:
    size = len(right.z)
    _tell(
        "dz",
        dz,
        right.dz,
        {
            "dz is 0: the critic's backward pass went on adding to the very tensor that you "
            "return, so take dz with torch.autograd.grad, or clone it": torch.zeros_like(dz),
            "dz has the wrong sign: f descends along dz, so it climbs away from the public "
            "side": -right.dz,
            "dz is too large by the batch size: (3) is the mean of the scores": right.dz * size,
            "dz is taken after the critic's step: in Algorithm 1 all gradients are taken at the "
            "old parameters": right.client(moved_critic),
        },
        "dz is not the gradient of (3), the mean score of client_z under the critic as it was",
    )


def _tell_critic(moved: Tensor, right: _Gradients, last: _Gradients | None) -> None:
    mistakes = right.critic_mistakes()
    if last is not None:
        mistakes["the critic's step contains the last turn's gradient, too: call zero_grad"] = (
            right.critic + last.critic
        )
    _tell(
        "the critic's step",
        moved,
        right.critic,
        mistakes,
        "the critic's step does not follow (2), mean critic(z_public) - mean critic(client_z), at "
        "the old parameters: look at what has been added to its .grad, and how often it steps",
    )


def _tell_autoencoder(moved: Tensor, right: _Gradients, last: _Gradients | None) -> None:
    mistakes = right.autoencoder_mistakes()
    if last is not None:
        mistakes[
            "the step of pilot and decoder contains the last turn's gradient, too: call zero_grad"
        ] = right.autoencoder + last.autoencoder
    _tell(
        "the step of pilot and decoder",
        moved,
        right.autoencoder,
        mistakes,
        "the step of pilot and decoder does not follow (1), the mean squared error of "
        "decoder(pilot(x_public)), at the old parameters: look at what has been added to their "
        ".grad",
    )


# The alarm.

SETTING = settings.tiny
HONEST_STEPS, HIJACK_STEPS = 50, 30
IMAGES = 3  # in one look; a batch is dealt to as many watchers as there are such groups in it
CAPTION = (
    f"A look is at {IMAGES} images. The threshold is the largest suspicion on other honest runs. "
    "Points: rings on hijacks in % minus false alarms per 1000 honest looks"
)
Look = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class _Run:
    """What the watchers of one training run see.

    Attributes:
        part: What the run is for: it sets the threshold, counts false alarms, or is to be caught.
        looks: (dz, labels) by step and watcher.
    """

    part: Literal["threshold", "honest", "hijack"]
    looks: list[list[Look]]


class _Watchers(Observer):
    """Deals every gradient, and the labels it belongs to, into looks."""

    def __init__(self) -> None:
        self.looks: list[list[Look]] = []

    def message(self, message: Message) -> None:
        if isinstance(message, SmashedData):
            self.labels = message.labels.clone()
        elif isinstance(message, Gradient):
            pairs = zip(message.dz.clone().split(IMAGES), self.labels.split(IMAGES), strict=True)
            self.looks.append([(dz, labels) for dz, labels in pairs if len(dz) == IMAGES])


def _honest(public: Any, seed: int) -> Server:
    return HonestServer(SETTING.server_net(seed=seed), seed=seed)


def _hijack(design: Literal["fast", "paper"], factor: float) -> Callable[[Any, int], Server]:
    def make(public: Any, seed: int) -> Server:
        arguments = SETTING.fsha(public, design=design, seed=seed)
        return FSHA(**arguments | {"gradient_scale": lambda step: factor})

    return make


# One hijack as it is; and two that shrink their gradient to an honest one's size, which a client
# with Adam hardly notices.
SERVERS: dict[int, tuple[Literal["threshold", "honest", "hijack"], Callable[..., Server]]] = {
    101: ("threshold", _honest),
    102: ("threshold", _honest),
    103: ("threshold", _honest),
    104: ("honest", _honest),
    105: ("honest", _honest),
    106: ("hijack", _hijack("fast", 1.0)),
    107: ("hijack", _hijack("fast", 0.1)),
    108: ("hijack", _hijack("paper", 0.1)),
}


@functools.cache
def _runs() -> tuple[_Run, ...]:
    """The training runs behind the table, each with a split and a seed of its own."""
    runs = []
    for seed, (part, server) in SERVERS.items():
        private, public, _ = SETTING.split("digits", seed)
        client = Client(SETTING.client_net(seed=seed), private, **SETTING.client(seed=seed))
        watchers = _Watchers()
        steps = HIJACK_STEPS if part == "hijack" else HONEST_STEPS
        train([client], server(public, seed), steps, observers=[watchers])
        runs.append(_Run(part, watchers.looks))
    return tuple(runs)


def _values(alarm: Callable[[Tensor, Tensor], Any]) -> list[Tensor]:
    """Return the suspicion of every look, for each run (steps, watchers).

    The looks come in a shuffled order, all runs mixed: counting or remembering calls helps nobody.
    """
    runs = _runs()
    values = [torch.empty(len(r.looks), len(r.looks[0]), dtype=torch.float64) for r in runs]
    places = [
        (n, *place)
        for n, of_run in enumerate(values)
        for place in torch.ones_like(of_run).nonzero().tolist()
    ]
    generator = torch.Generator().manual_seed(1)
    for number in torch.randperm(len(places), generator=generator).tolist():
        run, step, watcher = places[number]
        dz, labels = runs[run].looks[step][watcher]
        value = expect_number(alarm(dz.clone(), labels.clone()), "the suspicion")
        values[run][step, watcher] = value
    return values


@dataclass(frozen=True)
class _Alarm:
    """How well an alarm does.

    Attributes:
        rings: Of 100 looks at a hijack.
        first: Median, over hijacks and watchers, of the first step with a ring; from 1.
        false: Rings of 1000 looks at honest servers that did not set the threshold.
    """

    rings: float
    first: float
    false: float

    @property
    def points(self) -> float:
        return self.rings - self.false

    def row(self) -> tuple[float, str, float, float]:
        first = f"{self.first:g}" if math.isfinite(self.first) else "never"
        return self.rings, first, self.false, self.points


def _alarm(values: list[Tensor]) -> _Alarm:
    runs = _runs()

    def of(part: str) -> list[Tensor]:
        return [value for value, run in zip(values, runs, strict=True) if run.part == part]

    threshold = max(value.max() for value in of("threshold"))
    rings = [value > threshold for value in of("hijack")]
    false = [value > threshold for value in of("honest")]
    firsts = [
        rung.index(True) + 1 if any(rung) else math.inf
        for ring in rings
        for rung in ring.T.tolist()
    ]
    return _Alarm(
        100 * torch.cat(rings).double().mean().item(),
        statistics.median(firsts),
        1000 * torch.cat(false).double().mean().item(),
    )


def _cosines(dz: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines between the gradients of images with one label, and with different labels."""
    directions = F.normalize(dz.flatten(1))
    cosine = directions @ directions.T
    same_label = labels[:, None] == labels[None]
    pair = ~torch.eye(len(labels), dtype=torch.bool)
    return cosine[same_label & pair], cosine[~same_label]


def _gap(dz: Tensor, labels: Tensor) -> Tensor:
    """Gradient scrutiny's idea (Fu et al., NDSS 2023): labels should matter for the direction."""
    one, other = _cosines(dz, labels)
    return (other.mean() if len(other) else 0.0) - (one.mean() if len(one) else torch.tensor(0.0))


def _reference(dz: Tensor, labels: Tensor) -> Tensor:
    _, other = _cosines(dz, labels)
    return other.mean() if len(other) else torch.tensor(-1.0)


@functools.cache
def _beside() -> tuple[tuple[Any, ...], ...]:
    """The rows beside the answer's."""
    alarms: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "gradient norm, if large": lambda dz, labels: dz.norm(),
        "gradient norm, if small": lambda dz, labels: -dz.norm(),
        "gradient scrutiny: gap of cosines": _gap,
        "reference solution": _reference,
    }
    return tuple((name, *_alarm(_values(alarm)).row()) for name, alarm in alarms.items())


def _unusual_looks() -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield (what it is, dz, labels): what a real client will meet one day."""
    yield "a batch of 32", torch.randn(32, 32, 4, 4), torch.randint(10, (32,))
    yield "images with different labels", torch.randn(3, 4, 2, 2), torch.tensor([1, 7, 0])
    yield "images that all have one label", torch.randn(3, 4, 2, 2), torch.tensor([7, 7, 7])
    yield "a batch of one image", torch.randn(1, 4, 2, 2), torch.tensor([3])
    yield "a z without positions", torch.randn(5, 6), torch.tensor([2, 2, 3, 4, 4])
    learned = torch.randn(4, 3, 2, 2)
    learned[1] = 0
    yield "an image whose gradient is 0", learned, torch.tensor([5, 5, 1, 1])
    yield "a gradient of 0", torch.zeros(4, 3, 2, 2), torch.tensor([5, 5, 1, 1])
