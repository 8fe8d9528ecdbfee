"""Check of the exercise "One whole turn"."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from splitlab.checks.base import Answer, check, expect_tensor, twin, wrong
from splitlab.checks.feature_space_hijacking.common import score_gradient, small_critic, tell


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
        small_critic(12),
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
        return torch.stack([score_gradient(critic, one) for one in self.z]).detach() / len(self.z)

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
    tell(
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
    tell(
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
    tell(
        "the step of pilot and decoder",
        moved,
        right.autoencoder,
        mistakes,
        "the step of pilot and decoder does not follow (1), the mean squared error of "
        "decoder(pilot(x_public)), at the old parameters: look at what has been added to their "
        ".grad",
    )
