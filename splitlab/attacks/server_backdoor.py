"""A backdoor by a server that never sees a private image: it trains with a surrogate client.

Tajalli, Ersoy, Picek: "On Feasibility of Server-side Backdoor Attacks on Split Learning", IEEE
Security and Privacy Workshops 2023. That server trains a surrogate of the client's network on
images of its own; here it does so while the client trains.
"""

from __future__ import annotations

from typing import ClassVar, Self, Unpack

import torch
from torch import Tensor, nn

from splitlab.arguments import IMAGES, NETWORK, count, instance
from splitlab.arguments import optimizer as made_optimizer
from splitlab.attacks.critic import Critic
from splitlab.attacks.triggers import Trigger, checked, triggered, triggered_set
from splitlab.core import returned, setup, turns
from splitlab.core.curious import Honest
from splitlab.core.messages import Gradient, Message, ServerOutput, SmashedData
from splitlab.core.party import OptimizerFactory
from splitlab.core.randomness import Sampler, with_own_randomness
from splitlab.core.server import HonestServer
from splitlab.core.threat import ThreatModel
from splitlab.data import ImageData
from splitlab.nets.shapes import output_of
from splitlab.settings import tiny


class ServerBackdoor(HonestServer):
    """Serve honestly, and train a trigger into the server's layers s with a surrogate client.

    Each step it trains on a public batch twice. First the surrogate learns to classify together
    with s, as the client does; s stays. Then s learns to take what the surrogate makes of triggered
    images for the target, beside the batch as it is, so that it keeps its accuracy; the surrogate
    stays.

    The trigger works on the client's images as far as the client's f does to it what the surrogate
    does.

    Args:
        net: The server's network s: z -> logits (B, K).
        public: Labeled images of its own.
        surrogate: A network of the client's architecture: images -> z.
        target: The class that triggered images are to be taken for, a number in `public.classes`.
        trigger: Images -> images with the trigger; a `Patch` by default.
        surrogate_optimizer: Makes the surrogate's optimizer.
        critic: Tells the surrogate's z from the client's; the surrogate descends its score, too.
            None for a surrogate that learns by the task alone.
        rehearsals: Public batches in each step, at least 1.
        batch_size: Images in a public batch.
        seed: As in `Server`; seeds the public batches, too.
        honest: Further arguments of `HonestServer`.

    Attributes:
        metrics: Those of `HonestServer`, with the loss on triggered public images
            ("backdoor_loss") and the surrogate's ("surrogate_loss").

    Raises:
        TypeError: If an argument is of another kind, such as a tensor where images are needed.
        ValueError: If there is no such target, or no rehearsal; if the surrogate does not take the
            public images, net not what it makes of them, or the trigger does not fit; in training,
            if the surrogate makes z of another shape than the client.
    """

    threat: ClassVar[ThreatModel] = ThreatModel(
        who="server, malicious (active)",
        goal="take every image with a trigger for the target class",
        sees=("z and labels, once a step",),
        knows=(
            "labeled public images of the same kind as the private ones",
            "the architecture of f",
            "its own network s",
        ),
        does_not_know=("the private images", "the weights of f"),
        source="Tajalli, Ersoy, Picek, IEEE SPW 2023",
    )
    PROTOCOLS = ("vanilla",)

    def __init__(
        self,
        net: nn.Module,
        public: ImageData,
        *,
        surrogate: nn.Module,
        target: int,
        surrogate_optimizer: OptimizerFactory,
        critic: Critic | None = None,
        trigger: Trigger | None = None,
        rehearsals: int = 1,
        batch_size: int = 64,
        seed: int = 0,
        **honest: Unpack[Honest],
    ) -> None:
        instance("public", public, ImageData, IMAGES)
        instance("surrogate", surrogate, nn.Module, NETWORK)
        if critic is not None:
            instance("critic", critic, Critic, "pass sl.Critic(net), or leave it out")
        target = setup.class_number(target, len(public.classes), name="target")
        rehearsals = count("rehearsals", rehearsals, least=1)
        trigger = checked(trigger, public)
        super().__init__(net, seed=seed, **honest)
        self.public = public.to(self.device)
        self.sampler = Sampler(len(public), batch_size, owner="public", seed=seed)
        self.surrogate = surrogate.to(self.device)
        self.target, self.rehearsals, self.critic = target, rehearsals, critic
        self.trigger = trigger
        do = "give it the architecture of the client's network, and s for its z"
        z = output_of("surrogate", surrogate, self.public.x[:1], what="public images", do=do)
        logits = output_of("net", self.net, z, what="the surrogate's z", do=do)
        if logits.dim() != 2 or logits.shape[1] < len(public.classes):
            raise ValueError(
                f"net ends in {tuple(logits.shape[1:])} numbers and the public images have "
                f"{len(public.classes)} classes: give the server one output for each class"
            )
        if critic is not None:
            critic.net.to(self.device)
            output_of("the critic's net", critic.net, z, what="the surrogate's z", do=do)
        self.surrogate_optimizer = made_optimizer(
            *(surrogate_optimizer, self.surrogate.parameters()),
            who="the surrogate",
            name="surrogate_optimizer",
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}, target {self.target}, {self.trigger!r})"

    def check(self, message: Message) -> None:
        """Refuse a z whose shape differs from the surrogate's."""
        super().check(message)
        if isinstance(message, SmashedData):
            images = {"name": "the surrogate", "given": "public images"}
            made = returned.row_of(self.surrogate, self.public.x, **images)
            if message.z.shape[1:] != made:
                sent = tuple(message.z.shape[1:])
                raise ValueError(
                    f"the surrogate makes z of shape {made} and the client sends {sent}: give it "
                    "the architecture of the client's network"
                )

    @with_own_randomness
    def reply(self, message: SmashedData) -> Gradient:
        """Answer as an honest server does, then rehearse the backdoor."""
        answer = super().reply(message)
        for _ in range(self.rehearsals):
            self.rehearse(message.z)
        return answer

    @with_own_randomness
    def rehearse(self, z_private: Tensor | None = None) -> None:
        """Train the surrogate with s, then s on the surrogate's z of triggered images.

        Args:
            z_private: The client's z of this step, to which a critic pulls the surrogate's.
        """
        index = self.sampler.next().to(self.device)
        x, y = self.public.x[index], self.public.y[index]
        x_triggered = triggered(self.trigger, x, self.public.value_range)
        wanted = y.new_full((len(y),), self.target)
        self.surrogate.train()
        z = self.surrogate(x)
        loss = self.loss(self.net(z), y)
        if self.critic is not None and z_private is not None:
            self.critic.learn(z.detach(), z_private)
            loss = loss + self.critic.pull(z, z_private)
        self.surrogate_optimizer.zero_grad()
        loss.backward()
        self.surrogate_optimizer.step()
        with torch.no_grad():
            z, z_triggered = self.surrogate(x), self.surrogate(x_triggered)
        backdoor = self.loss(self.net(z_triggered), wanted)
        both = self.loss(self.net(z), y) + backdoor
        self.optimizer.zero_grad()
        both.backward()
        self.optimizer.step()
        self.metrics |= {"surrogate_loss": loss.detach(), "backdoor_loss": backdoor.detach()}

    def forward(self, message: SmashedData) -> ServerOutput:
        """Raise NotImplementedError: in the U-shaped protocol, it has no labels for training."""
        raise turns.only_vanilla(self, "forward")

    def attack_set(self, data: ImageData) -> tuple[Tensor, Tensor, Tensor]:
        """Return the test images that are attacked, as in `triggered_set`; see `sl.evaluate`."""
        return triggered_set(self.trigger, self.target, data)

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example whose surrogate learns."""
        return cls(
            tiny.server_net(),
            public,
            surrogate=tiny.client_net(seed=1),
            target=1,
            surrogate_optimizer=tiny.client_optimizer,
            batch_size=8,
        )
