"""FSHA, the feature-space hijacking attack: image reconstruction by a malicious server.

Pasquini, Ateniese, Bernaschi: "Unleashing the Tiger: Inference Attacks on Split Learning",
CCS 2021, section 3 and Algorithm 1; equation numbers below are the paper's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar, Self, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.optim import Adam

from splitlab.arguments import IMAGES, NETWORK, count, flag, function, instance, one_of
from splitlab.arguments import optimizer as made_optimizer
from splitlab.attacks.critic import Critic, descend
from splitlab.attacks.schedules import Schedule, constant, factor_of, falling, half_at
from splitlab.core import validate
from splitlab.core.messages import Gradient, Message, OutputGradient, ServerOutput, SmashedData
from splitlab.core.party import OptimizerFactory
from splitlab.core.randomness import Sampler, with_own_randomness
from splitlab.core.server import Server
from splitlab.core.threat import ThreatModel
from splitlab.data import ImageData
from splitlab.nets import DepthToSpace, SpaceToDepth
from splitlab.nets.blocks import check_cut
from splitlab.nets.evaluation import evaluating, in_parts
from splitlab.nets.shapes import check_shape, output_of
from splitlab.settings import Design, Setting, tiny


def reconstruction_loss(decoded: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return equation (1): the decoder's error in inverting the pilot on public images x."""
    return mse_loss(decoded, x)


class FSHA(Server):
    """Hijack the client: train f until the server's decoder can decode its z.

    The defaults are the paper's design: a learned pilot and decoder, a critic on z, one critic step
    a client step, all gradients taken at the old parameters. The fast design (not the paper's) is
    the same class with a critic that looks through the decoder, `critic_steps=2`,
    `critic_first=True`, a fixed pilot and its inverse, and a `gradient_scale`; `at` makes either.

    Args:
        public: The attacker's own images, of the private ones' shape and value range.
        pilot: f~, (B, C, H, W) -> z. Pilot and decoder may have nothing to learn, or be frozen.
        decoder: f~^-1, z -> (B, C, H, W).
        critic: D, with its loss, penalty and optimizer.
        public_loss: What pilot and decoder descend, of decoder(z_public) and a public batch's
            images and labels; equation (1) by default.
        optimizer: Makes the optimizer of pilot and decoder.
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
        TypeError: If an argument is of another kind, such as a tensor where images are needed.
        ValueError: If there is no critic step, the batch is larger than the public data, or pilot,
            decoder, critic and body do not take what they are shown.
    """

    threat: ClassVar[ThreatModel] = ThreatModel(
        who="server, malicious (active)",
        goal="reconstruct the private images from z",
        sees=("z, once a step", "labels, which it ignores"),
        knows=("public images of the same kind as the private ones", "the shape of z"),
        does_not_know=("the private images", "the client's network f: neither weights nor layers"),
        source="Pasquini, Ateniese, Bernaschi, CCS 2021",
    )
    PASSING = ("_shown_as",)

    def __init__(
        self,
        public: ImageData,
        *,
        pilot: nn.Module,
        decoder: nn.Module,
        critic: Critic,
        public_loss: Callable[[Tensor, Tensor, Tensor], Tensor] = reconstruction_loss,
        optimizer: OptimizerFactory = partial(Adam, lr=1e-5),
        critic_steps: int = 1,
        critic_first: bool = False,
        gradient_scale: Schedule = constant,
        body: nn.Module | None = None,
        batch_size: int = 64,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(seed=seed, device=device)
        self._shown_as: Tensor | None = None  # U-shaped: the output that is under way
        instance("public", public, ImageData, IMAGES)
        shown = {} if body is None else {"body": body}
        for name, net in ({"pilot": pilot, "decoder": decoder} | shown).items():
            instance(name, net, nn.Module, NETWORK)
        instance("critic", critic, Critic, "pass sl.Critic(net), around a network of its own")
        function("public_loss", public_loss, "pass a function of (decoded, x, y)")
        factor_of("gradient_scale", gradient_scale)
        self.critic_steps = count("critic_steps", critic_steps, least=1)
        self.public = public.to(self.device)
        self.sampler = Sampler(len(public), batch_size, owner="public", seed=seed)
        self.pilot, self.decoder = pilot.to(self.device), decoder.to(self.device)
        self.critic, self.public_loss, self.gradient_scale = critic, public_loss, gradient_scale
        self.critic.net.to(self.device)
        self.body = None if body is None else body.to(self.device)
        self.critic_first = flag("critic_first", critic_first)
        self.z_shape = self._shape_of_z()
        learned = [w for net in (pilot, decoder) for w in net.parameters() if w.requires_grad]
        self.optimizer = made_optimizer(optimizer, learned, who="the attack") if learned else None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.critic!r}, {self.public!r})"

    def check(self, message: Message) -> None:
        """Refuse a z unlike the pilot's output, and a gradient unlike the output that was sent."""
        super().check(message)
        if isinstance(message, OutputGradient) and self._shown_as is not None:
            validate.gradient_fits(message.da, self._shown_as, name="the output", who="client")
        own, z = (self.z_shape, self.public.x.dtype), getattr(message, "z", None)
        if z is not None and (z.shape[1:], z.dtype) != own:
            raise ValueError(
                f"the client sends z of shape {tuple(z.shape[1:])} and the pilot makes "
                f"{tuple(own[0])}, in {z.dtype} and {own[1]}: give the attack the networks of the "
                "client's cut, in its type"
            )

    @with_own_randomness
    def reply(self, message: SmashedData) -> Gradient:
        """Run one turn of Algorithm 1: train pilot, decoder and critic, and answer with dz.

        Raises:
            ValueError: If z has another shape than the pilot's output.
        """
        z = message.z.detach()
        for net in (self.pilot, self.decoder, self.critic.net):
            net.train()
        for number in range(self.critic_steps):
            x, y, z_public = self.public_batch()
            if number == 0 and not self.critic_first:
                client_loss, dz = self.hijack(z, z_public.detach())
            public_loss = self.learn(x, y, z_public)
            critic_loss = self.critic.learn(z, z_public.detach())
        self.critic.schedule.step()
        if self.critic_first:
            client_loss, dz = self.hijack(z, z_public.detach())
        dz = dz * self.gradient_scale(message.step)
        losses = {"client": client_loss, "public": public_loss, "critic": critic_loss}
        self.metrics = {f"{name}_loss": loss for name, loss in losses.items()}
        self.metrics["dz_norm"] = dz.norm()
        return self.gradient(message, dz)

    def public_batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the next public images, their labels, and the pilot's codes, with their graph."""
        rows = self.sampler.next().to(self.device)
        x, y = self.public.x[rows], self.public.y[rows]
        return x, y, self.pilot(x)

    def learn(self, x: Tensor, y: Tensor, z_public: Tensor) -> Tensor:
        """Train pilot and decoder on a public batch by equation (1), and return the loss."""
        loss = self.public_loss(self.decoder(z_public), x, y)
        if self.optimizer is not None:
            descend(self.optimizer, loss)
        return loss.detach()

    def rehearse(self) -> Tensor:
        """Train pilot and decoder on one public batch, without a client; return the loss."""
        return self.learn(*self.public_batch())

    def hijack(self, z: Tensor, z_public: Tensor) -> tuple[Tensor, Tensor]:
        """Return the client's loss, equation (3), and dz, its gradient with respect to z."""
        z = z.clone().requires_grad_()
        loss = self.critic.pull(z, z_public)
        (dz,) = torch.autograd.grad(loss, z)
        return loss.detach(), dz

    def reconstruct(self, message: SmashedData) -> Tensor:
        """Return equation (4), decoder(z): images (N, C, H, W), in the public value range."""
        return in_parts(self.decoder, message.z).clamp(*self.public.value_range)

    def autoencode(self, x: Tensor) -> Tensor:
        """Return decoder(pilot(x)): the best that the attacker's networks could show."""
        return in_parts(self.decoder, in_parts(self.pilot, x)).clamp(*self.public.value_range)

    @with_own_randomness
    def forward(self, message: SmashedData) -> ServerOutput:
        """Send the client an output to work on (U-shaped protocol); the attack does not use it.

        Raises:
            ValueError: If there is no network to show.
        """
        body = self._shown()
        with evaluating(body):
            a = body(message.z)
        a = a.to(torch.promote_types(a.dtype, torch.float32))  # autocast may leave bfloat16
        self.under_way, self._shown_as = message, a
        return ServerOutput(a=a, sender=self.name, step=message.step)

    @with_own_randomness
    def backward(self, message: OutputGradient) -> Gradient:
        """Ignore the tail's gradient, and hijack as in the vanilla protocol."""
        answer = self.reply(self.asked(message))
        self.under_way = self._shown_as = None
        return answer

    def output(self, message: SmashedData) -> Tensor:
        """Return body(z), the output for the client's tail, in evaluation mode.

        Raises:
            ValueError: If there is no network to show.
        """
        return in_parts(self._shown(), message.z)

    def _shape_of_z(self) -> torch.Size:
        """Run each network on one public image or its code, check the shapes, and return that of z.

        Raises:
            ValueError: If a network does not take what it is shown, or makes another shape of it.
        """
        images, do = self.public.shape, "give the attack networks for these images, of one cut"
        z = output_of("pilot", self.pilot, self.public.x[:1], what="public images", do=do)
        decoded = output_of("decoder", self.decoder, z, what="the pilot's codes", do=do)
        if self.public_loss is reconstruction_loss:
            check_shape("decoder", decoded, images, what="the public images have", do=do)
        if type(self.critic).pull is Critic.pull and type(self.critic).score is Critic.score:
            shown, what = z, "the pilot's codes"
            if self.critic.through is not None:
                self.critic.through.to(self.device)
                shown = output_of("through", self.critic.through, z, what=what, do=do)
                what = "decoded images"
            scores = output_of("the critic's net", self.critic.net, shown, what=what, do=do)
            check_shape("the critic's net", scores, (1,), what="a score has", do=do)
        if self.body is not None:
            output_of("body", self.body, z, what="the pilot's codes", do=do)
        return z.shape[1:]

    def _shown(self) -> nn.Module:
        if self.body is None:
            raise ValueError(
                "FSHA has no network to show in the U-shaped protocol: give it body=, of the "
                "shapes that the client's tail expects"
            )
        return self.body

    @classmethod
    def at(
        cls,
        setting: Setting,
        public: ImageData,
        *,
        design: Design = "fast",
        cut: int | None = None,
        steps: int | None = None,
        pilot: nn.Module | None = None,
        decoder: nn.Module | None = None,
        critic: Critic | nn.Module | None = None,
        critic_steps: int | None = None,
        critic_first: bool | None = None,
        gradient_scale: Schedule | None = None,
        body: nn.Module | None = None,
        batch_size: int | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> Self:
        """Make the attack with a setting's values, which were chosen on pseudo-private data.

        Args:
            setting: `sl.tiny`, `sl.gpu` or `sl.paper`.
            public: The attacker's images.
            design: "fast" (fixed pilot, critic on the decoded image) or "paper" (learned pilot and
                decoder, critic on z).
            cut: Where the network is split; the setting's by default.
            steps: Length of the run, which the fast design's schedules are laid over.
            pilot: A pilot in place of the design's.
            decoder: A decoder in place of the design's.
            critic: A critic in place of the design's, or a network for it.
            critic_steps: As in the constructor, in place of the design's.
            critic_first: As in the constructor, in place of the design's.
            gradient_scale: As in the constructor, in place of the design's.
            body: As in the constructor.
            batch_size: As in the constructor; the setting's by default.
            seed: Seeds the networks and the attack.
            device: As in the constructor.

        Raises:
            TypeError: If an argument is of another kind.
            ValueError: If there is no such design, or no step count for these images; and as in the
                constructor.
        """
        instance("setting", setting, Setting, "pass sl.tiny, sl.gpu or sl.paper")
        instance("public", public, ImageData, IMAGES)
        one_of("design", design, get_args(Design))
        for name, net in {"pilot": pilot, "decoder": decoder, "critic": critic}.items():
            if net is not None:
                instance(name, net, (Critic, nn.Module), "pass a network, or sl.Critic(net)")
        cut = setting.cut if cut is None else cut
        if steps is None:  # a part of a part is called "digits (public)"
            steps = setting.default_steps([*public.name.split(), ""][0], design)
        steps = count("steps", steps, least=1)
        own_pilot, own_decoder, net = _networks(setting, public, design, cut, seed)
        pilot = own_pilot if pilot is None else pilot
        decoder = own_decoder if decoder is None else decoder
        if not isinstance(critic, Critic):
            net = net if critic is None else critic
            critic = critic_at(setting, net, design=design, steps=steps, decoder=decoder)
        fast = design == "fast"
        if critic_steps is None:
            critic_steps = setting.critic_steps if fast else 1
        if critic_first is None:
            critic_first = fast
        if gradient_scale is None:
            gradient_scale = falling(steps) if fast else constant
        return cls(
            public,
            pilot=pilot,
            decoder=decoder,
            critic=critic,
            optimizer=partial(Adam, lr=1e-3 if setting.name == "tiny" else 1e-5),
            critic_steps=critic_steps,
            critic_first=critic_first,
            gradient_scale=gradient_scale,
            body=body,
            batch_size=setting.batch_size if batch_size is None else batch_size,
            seed=seed,
            device=device,
        )

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example: all networks learn; rate and gradient fall."""
        nets = tiny.nets
        return cls.at(
            tiny,
            public,
            steps=6,
            pilot=nets.pilot(),
            decoder=nets.decoder(),
            critic_steps=2,
            body=nets.server(),
            batch_size=8,
        )


def critic_at(
    setting: Setting, net: nn.Module, *, design: Design, steps: int, decoder: nn.Module
) -> Critic:
    """Return the critic of a design, around a network.

    Args:
        setting: As in `FSHA.at`.
        net: Images or codes -> scores (B, 1).
        design: As in `FSHA.at`.
        steps: Length of the run, which the fast design's rate falls over.
        decoder: z -> images, through which the fast design's critic looks.
    """
    if design == "fast":
        return Critic(
            net,
            through=decoder,
            penalty="sample",
            penalty_weight=10.0,
            optimizer=partial(Adam, lr=1e-3, betas=(0.5, 0.9)),
            rate=half_at(steps),
        )
    if setting.name == "tiny":
        optimizer = partial(Adam, lr=1e-3, betas=(0.5, 0.9))
        return Critic(net, penalty="sample", penalty_weight=10.0, optimizer=optimizer)
    return Critic(net)  # the defaults are the public code's


def _networks(
    setting: Setting, public: ImageData, design: Design, cut: int, seed: int
) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Return the pilot, the decoder and the critic's network of a design."""
    nets = setting.nets
    check_cut(cut)
    if design == "paper":
        return (
            nets.pilot(cut=cut, channels=setting.channels, seed=seed),
            nets.decoder(cut=cut, channels=setting.channels, seed=seed),
            nets.critic(cut=cut, seed=seed),
        )
    grey, patch = public.grey, setting.patch[cut]
    std, mean = (float(s) for s in torch.std_mean(public.x[:, :1] if grey else public.x))
    return (
        SpaceToDepth(patch, nets.Z_SHAPE[cut][0], mean=mean, std=std, grey=grey),
        DepthToSpace(patch, setting.channels, mean=mean, std=std, grey=grey),
        nets.image_critic(grey=grey, seed=seed),
    )
