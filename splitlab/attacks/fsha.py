"""FSHA, the feature-space hijacking attack: image reconstruction by a malicious server.

Pasquini, Ateniese, Bernaschi: "Unleashing the Tiger: Inference Attacks on Split Learning",
CCS 2021, section 3 and Algorithm 1; equation numbers below are the paper's. Where the paper and
its public code differ, both are offered.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, mse_loss, softplus
from torch.optim import Adam, Optimizer

from splitlab.core.messages import Gradient, OutputGradient, ServerOutput, SmashedData
from splitlab.core.party import OptimizerFactory
from splitlab.core.randomness import Sampler, with_own_randomness
from splitlab.core.server import Server
from splitlab.core.threat import ThreatModel
from splitlab.data import ImageData
from splitlab.nets.evaluation import EVALUATION_BATCH, evaluating, in_parts

# Losses of the client (of the scores of z) and of the critic (of the scores of z_public and of z).
# A score has no sigmoid on it yet: D = sigmoid(score) in "log" and "bce".
LOSSES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    # Equations (2) and (3) as printed, both minimised: the client drives D(z) to 1, and the critic
    # D(z_public) to 1 and D(z) to 0. log(1 - D) is logsigmoid(-score). Unbounded below.
    "log": (
        lambda score: logsigmoid(-score).mean(),
        lambda public, private: logsigmoid(-public).mean() + logsigmoid(private).mean(),
    ),
    # The public code without its WGAN flag: binary cross-entropy, 1 for the public side.
    "bce": (
        lambda score: softplus(-score).mean(),
        lambda public, private: (softplus(-public).mean() + softplus(private).mean()) / 2,
    ),
    # The public code as run. The sign: the critic gives the public side LOW scores, and the client
    # descends the score. (The usual WGAN writes it the other way round.)
    "wgan-gp": (
        lambda score: score.mean(),
        lambda public, private: public.mean() - private.mean(),
    ),
}


class FSHA(Server):
    """Hijack the client: train f until its z can be decoded by the server's decoder.

    The defaults are the paper's design: a learned pilot and decoder, a critic on z, one critic step
    a client step, all gradients taken at the old parameters. The fast design (not the paper's) is
    the same class with `critic_sees="image"`, `critic_steps=2`, `critic_first=True`, a fixed pilot
    and its inverse (`nets.SpaceToDepth`, `nets.DepthToSpace`), and a `gradient_scale`.

    Args:
        public: The attacker's own images, of the private ones' shape and value range.
        pilot: f~, (B, C, H, W) -> z. May have nothing to learn.
        decoder: f~^-1, z -> (B, C, H, W).
        critic: D, (B, ...) -> (B, 1) scores, without a sigmoid.
        loss: "wgan-gp", "bce" or "log"; see `LOSSES`.
        penalty: Norm in the gradient penalty, over the whole "sample", or per "channel" (the public
            code's). Used by "wgan-gp" alone.
        penalty_weight: Weight of the gradient penalty; the public code's 500 belongs to "channel".
        autoencoder_optimizer: Makes the optimizer of pilot and decoder.
        critic_optimizer: Makes the critic's optimizer.
        critic_rate: Factor on the critic's learning rate as a function of the step (from 0).
        critic_sees: Whether the critic scores z itself ("features") or decoder(z) ("image").
        critic_steps: Critic steps a client step, each on a fresh public batch.
        critic_first: Whether the client's gradient is taken after the critic's steps.
        gradient_scale: Factor on the gradient sent, as a function of the step. Adam at the client
            is blind to a constant factor, but not to one that changes.
        body: The network it shows in the U-shaped protocol, z -> a, which it never trains. Not
            needed where the protocol is vanilla.
        batch_size: Public images in a batch.
        seed: Seeds the order of the public batches and the server's random state.
        device: Where the server computes.

    Raises:
        ValueError: If a name is unknown, or the batch larger than the public data.
    """

    threat: ClassVar[ThreatModel] = ThreatModel(
        who="server, malicious (active)",
        goal="reconstruct the private images from z",
        sees=("z, once a step", "labels, which it ignores"),
        knows=("public images of the same kind as the private ones", "the shape of z"),
        does_not_know=("the private images", "the client's network f: neither weights nor layers"),
        source="Pasquini, Ateniese, Bernaschi, CCS 2021",
    )

    def __init__(
        self,
        public: ImageData,
        *,
        pilot: nn.Module,
        decoder: nn.Module,
        critic: nn.Module,
        loss: Literal["log", "bce", "wgan-gp"] = "wgan-gp",
        penalty: Literal["channel", "sample"] = "channel",
        penalty_weight: float = 500.0,
        autoencoder_optimizer: OptimizerFactory = partial(Adam, lr=1e-5),
        critic_optimizer: OptimizerFactory = partial(Adam, lr=1e-4),
        critic_rate: Callable[[int], float] = lambda step: 1.0,
        critic_sees: Literal["features", "image"] = "features",
        critic_steps: int = 1,
        critic_first: bool = False,
        gradient_scale: Callable[[int], float] = lambda step: 1.0,
        body: nn.Module | None = None,
        batch_size: int = 64,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(seed=seed, device=device, name="server")
        _check("loss", loss, tuple(LOSSES))
        _check("penalty", penalty, ("channel", "sample"))
        _check("critic_sees", critic_sees, ("features", "image"))
        if critic_steps < 1:
            raise ValueError(f"critic_steps is {critic_steps}: the critic needs at least one step")
        self.public = public.to(self.device)
        self.pilot = pilot.to(self.device)
        self.decoder = decoder.to(self.device)
        self.critic = critic.to(self.device)
        self.body = None if body is None else body.to(self.device)
        with evaluating(self.pilot):
            self.z_shape = self.pilot(self.public.x[:1]).shape[1:]
        self.loss, self.penalty, self.penalty_weight = loss, penalty, penalty_weight
        self.critic_sees, self.critic_steps = critic_sees, critic_steps
        self.critic_first = critic_first
        self.gradient_scale = gradient_scale
        learned = [*self.pilot.parameters(), *self.decoder.parameters()]
        self.autoencoder_optimizer = autoencoder_optimizer(learned) if learned else None
        self.critic_optimizer = critic_optimizer(self.critic.parameters())
        self.critic_schedule = torch.optim.lr_scheduler.LambdaLR(self.critic_optimizer, critic_rate)
        self.sampler = Sampler(len(public), batch_size, owner="public", seed=seed)

    def __repr__(self) -> str:
        return f"FSHA({self.loss}, critic sees {self.critic_sees}, {self.public!r})"

    @with_own_randomness
    def reply(self, message: SmashedData) -> Gradient:
        """One turn of Algorithm 1: train the pilot's side and the critic, answer with dz.

        Raises:
            ValueError: If z has another shape than the pilot's output.
        """
        if message.z.shape[1:] != self.z_shape:
            raise ValueError(
                f"the client sends z of shape {tuple(message.z.shape[1:])} and the pilot makes "
                f"{tuple(self.z_shape)}: give the attack the networks of the client's cut"
            )
        z = message.z.detach()
        for net in (self.pilot, self.decoder, self.critic):
            net.train()
        if not self.critic_first:
            client_loss, dz = self._client_gradient(z)
        for _ in range(self.critic_steps):
            z_public, public_loss = self.learn_public_batch()
            critic_loss = self.critic_loss(z, z_public)
            _descend(self.critic_optimizer, critic_loss)
        self.critic_schedule.step()
        if self.critic_first:
            client_loss, dz = self._client_gradient(z)
        dz = dz * self.gradient_scale(message.step)
        self.metrics = {
            "client_loss": client_loss,
            "public_loss": public_loss,
            "critic_loss": critic_loss.detach(),
            "dz_norm": dz.norm(),
        }
        return self.gradient(message, dz)

    @with_own_randomness
    def forward(self, message: SmashedData) -> ServerOutput:
        """Show the client an output to work on (U-shaped protocol); the attack does not use it.

        Raises:
            ValueError: If there is no network to show.
        """
        body = self._shown()
        self.under_way = message
        with evaluating(body):
            a = body(message.z)
        a = a.to(torch.promote_types(a.dtype, torch.float32))  # autocast may leave bfloat16
        return ServerOutput(a=a, sender=self.name, step=message.step)

    @with_own_randomness
    def backward(self, message: OutputGradient) -> Gradient:
        """Ignore what the tail asks for, and hijack as in the vanilla protocol."""
        answer = self.reply(self.asked(message))
        self.under_way = None
        return answer

    def output(self, message: SmashedData) -> Tensor:
        """Return what the client's tail is shown: body(z), in evaluation mode.

        Raises:
            ValueError: If there is no network to show.
        """
        return in_parts(self._shown(), message.z)

    def learn_public_batch(self) -> tuple[Tensor, Tensor]:
        """Train pilot and decoder on the next public batch.

        Returns:
            z_public of that batch, from the pilot before its step, and the public loss; no graphs.
        """
        rows = self.sampler.next().to(self.device)
        x, y = self.public.x[rows], self.public.y[rows]
        z_public = self.pilot(x)
        loss = self.public_loss(x, y, z_public)
        if self.autoencoder_optimizer is not None:
            _descend(self.autoencoder_optimizer, loss)
        return z_public.detach(), loss.detach()

    def public_loss(self, x: Tensor, y: Tensor, z_public: Tensor) -> Tensor:
        """Equation (1): how badly the decoder inverts the pilot on public images x; a scalar."""
        return mse_loss(self.decoder(z_public), x)

    def critic_loss(self, z: Tensor, z_public: Tensor) -> Tensor:
        """Equation (2): how badly the critic tells z from z_public; a scalar."""
        public, private = self.score(torch.cat([z_public, z])).split([len(z_public), len(z)])
        loss = LOSSES[self.loss][1](public, private)
        if self.loss != "wgan-gp" or self.penalty_weight == 0:
            return loss
        epsilon = torch.rand(len(z), *[1] * (z.dim() - 1), device=z.device)
        between = epsilon * z + (1 - epsilon) * z_public
        return loss + self.penalty_weight * gradient_penalty(self.score, between, self.penalty)

    def client_loss(self, z: Tensor) -> Tensor:
        """Equation (3): how far z is from the public side, as the critic sees it; a scalar."""
        return LOSSES[self.loss][0](self.score(z))

    def reconstruct(self, message: SmashedData) -> Tensor:
        """Equation (4): decode smashed data into images (N, C, H, W), in the public value range."""
        return decode(self.decoder, message.z, self.public.value_range)

    def autoencode(self, x: Tensor) -> Tensor:
        """Return decoder(pilot(x)): what the attacker's networks could show at best."""
        with evaluating(self.pilot):
            z = torch.cat([self.pilot(part) for part in x.split(EVALUATION_BATCH)])
        return decode(self.decoder, z, self.public.value_range)

    def score(self, z: Tensor) -> Tensor:
        """Return the critic's scores (B, 1) of z, looking through the decoder if it sees images."""
        seen = self.decoder(z) if self.critic_sees == "image" else z
        scores = self.critic(seen)
        # Autocast may leave bfloat16; float64 stays float64.
        return scores.to(torch.promote_types(scores.dtype, torch.float32))

    def _shown(self) -> nn.Module:
        if self.body is None:
            raise ValueError(
                "FSHA has no network to show in the U-shaped protocol: give it body=, of the "
                "shapes that the client's tail expects"
            )
        return self.body

    def _client_gradient(self, z: Tensor) -> tuple[Tensor, Tensor]:
        z = z.clone().requires_grad_()
        loss = self.client_loss(z)
        (dz,) = torch.autograd.grad(loss, z)
        return loss.detach(), dz

    def state_dict(self) -> dict[str, Any]:
        """Return the random state, networks, optimizers, schedule and sampler."""
        return super().state_dict() | {
            name: getattr(self, name).state_dict() for name in self._stateful()
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned."""
        super().load_state_dict(state)
        for name in self._stateful():
            getattr(self, name).load_state_dict(state[name])

    def _stateful(self) -> list[str]:
        names = ["pilot", "decoder", "critic", "critic_optimizer", "critic_schedule", "sampler"]
        names += ["autoencoder_optimizer"] if self.autoencoder_optimizer else []
        return names + (["body"] if self.body is not None else [])


def gradient_penalty(
    score: Callable[[Tensor], Tensor], z: Tensor, norm: Literal["channel", "sample"]
) -> Tensor:
    """Return the mean of (|gradient of the score at z| - 1)^2, with a graph to the critic.

    Args:
        score: z -> scores (B, 1).
        z: Where to take the gradient, (B, C, H, W), or (B, F) with "sample".
        norm: "sample": one norm per sample, over all of z. "channel": one norm per sample and
            channel, over the positions, as the public code has it.

    Raises:
        ValueError: If "channel" meets a z without positions.
    """
    if norm == "channel" and z.dim() < 3:
        raise ValueError(
            f'penalty="channel" needs z with positions and this z has shape {tuple(z.shape)}: '
            'use penalty="sample"'
        )
    z = z.detach().requires_grad_()
    # create_graph, or the penalty would train nothing.
    (gradient,) = torch.autograd.grad(score(z).sum(), z, create_graph=True)
    norms = gradient.flatten(2 if norm == "channel" else 1).norm(dim=-1)
    return (norms - 1).square().mean()


def decode(decoder: nn.Module, z: Tensor, value_range: tuple[float, float]) -> Tensor:
    """Return decoder(z) in evaluation mode, (N, C, H, W), clamped to the range of the data."""
    with evaluating(decoder):
        images = torch.cat([decoder(part) for part in z.split(EVALUATION_BATCH)])
    return images.clamp(*value_range)


def _descend(optimizer: Optimizer, loss: Tensor) -> None:
    """One step on `loss` for this optimizer's parameters, and for no others."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.grad = gradient
    optimizer.step()


def _check(argument: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{argument} is {value!r}: choose one of {', '.join(map(repr, known))}")
