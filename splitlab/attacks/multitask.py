"""A hijack that also trains the agreed task, so that the client sees its loss fall.

The hijack is that of Pasquini, Ateniese, Bernaschi (CCS 2021). Servers that keep the task beside it
are known: SplitSpy (Fu et al., NDSS 2023) trains a network for the task to deceive a detector, and
SplitOut (Erdogan et al., CANS 2024) is evaluated against multitask servers. How the two gradients
are weighed here is this library's.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Self

import torch
from torch import Tensor

from splitlab.arguments import count, instance, within
from splitlab.attacks.fsha import FSHA
from splitlab.core.messages import Gradient, Message, OutputGradient, ServerOutput, SmashedData
from splitlab.core.server import HonestServer, Server
from splitlab.core.threat import ThreatModel
from splitlab.data import ImageData
from splitlab.nets import tiny
from splitlab.nets.shapes import output_of


class MultitaskFSHA(Server):
    """Hijack the client, and train the task's network s on the same z.

    What it sends is

        weight * hijack + (1 - weight) * task * |hijack| / |task|

    where `hijack` is FSHA's gradient of this step, with its `gradient_scale`, `task` the honest
    server's, and |.| the norm over the whole batch. The two differ in length by a factor that
    changes during the run: the task's fades as it is learned, the hijack's does not. Without the
    scaling the weight would mean something else at each step. So weight 1 is FSHA, bit for bit,
    with s trained on the side. Weight 0 has the honest direction at every step, and the hijack's
    length: no hijack, but no honest server either, for an honest gradient fades.

    It takes part in the vanilla protocol, where labels reach it, and in the U-shaped one, where s
    is trained with the gradient that the client's tail sends.

    Args:
        hijack: The attack beside the task. Its gradient is what `weight` 1 sends.
        task: An honest server with the task's network, its optimizer, and labels if it holds any.
            It takes the steps that it would take for itself.
        weight: The hijack's share of the gradient, lambda, from 0 to 1.
        delay: Steps at the beginning in which it is the honest server, bit for bit, and pilot and
            decoder are trained on public images alone. A `gradient_scale` counts these steps, too.

    Raises:
        TypeError: If `hijack` is no FSHA, or `task` no honest server.
        ValueError: If the weight is not from 0 to 1, the delay is no whole number from 0, or the
            task's network does not take the z that the hijack asks for.
    """

    threat: ClassVar[ThreatModel] = ThreatModel(
        who="server, malicious (active)",
        goal="reconstruct the private images from z while the client's task is learned as agreed",
        sees=("z, once a step", "labels, or the gradient that the client's tail sends"),
        knows=(
            "public images of the same kind as the private ones",
            "the shape of z",
            "the task's network s, which it trains",
        ),
        does_not_know=("the private images", "the client's network f: neither weights nor layers"),
        source="Pasquini, Ateniese, Bernaschi, CCS 2021; with the task beside it: Fu et al., NDSS "
        "2023, and Erdogan, Kupcu, Cicek, CANS 2024",
    )

    def __init__(
        self, hijack: FSHA, *, task: HonestServer, weight: float = 1.0, delay: int = 0
    ) -> None:
        instance("hijack", hijack, FSHA, "pass an sl.FSHA, such as sl.FSHA.at(sl.tiny, public)")
        instance("task", task, HonestServer, "pass sl.HonestServer(net), with the task's network")
        super().__init__(seed=hijack.sampler.seed, device=hijack.device)
        self.hijack, self.task = hijack, task
        self.weight = within("weight", weight, 0, 1, "a share of the hijack")
        self.delay = count("delay", delay, least=0)
        z = torch.zeros(1, *hijack.z_shape, device=task.device)
        do = "give hijack and task the networks of one cut"
        output_of("the task's net", task.net, z, what="the pilot's codes", do=do)
        self.public = hijack.public

    def __repr__(self) -> str:
        return f"{type(self).__name__}(weight {self.weight:g}, {self.hijack!r})"

    def check(self, message: Message) -> None:
        """Refuse messages that the hijack or the task cannot use."""
        if isinstance(message, SmashedData):
            self.hijack.check(message)
        self.task.check(message)

    def reply(self, message: SmashedData) -> Gradient:
        """Take a step of the hijack and one of the task, and answer with the mixture.

        Raises:
            ValueError: As in `FSHA` and in `HonestServer`.
        """
        return self._mixed(message, self.task.reply(message))

    def forward(self, message: SmashedData) -> ServerOutput:
        """Send the client's tail the output of s for z (U-shaped protocol)."""
        return self.task.forward(message)

    def backward(self, message: OutputGradient) -> Gradient:
        """Train s with the tail's gradient, and answer with the mixture (U-shaped protocol)."""
        asked = self.task.asked(message)
        return self._mixed(asked, self.task.backward(message))

    def output(self, message: SmashedData) -> Tensor:
        """Return s(z) in evaluation mode: logits (N, K), or in the U-shaped protocol a."""
        return self.task.output(message)

    def reconstruct(self, message: SmashedData) -> Tensor:
        """Decode smashed data into images (N, C, H, W), as the hijack does."""
        return self.hijack.reconstruct(message)

    def autoencode(self, x: Tensor) -> Tensor:
        """Return decoder(pilot(x)): the best that the attacker's networks could show."""
        return self.hijack.autoencode(x)

    def mix(self, hijack: Tensor, task: Tensor) -> Tensor:
        """Return the mixture of the two gradients, which is sent.

        Args:
            hijack: The hijack's gradient, (B, ...).
            task: The task's, of the same shape; where it is zero throughout, it adds nothing.
        """
        if self.weight == 1:  # to the last bit, whatever the task's gradient is
            return hijack
        length = task.norm()
        scaled = task * (hijack.norm() / length) if length > 0 else task
        return self.weight * hijack + (1 - self.weight) * scaled

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example that weighs hijack and task alike."""
        hijack = FSHA.conformance_example(private, public)
        return cls(hijack, task=HonestServer(tiny.server()), weight=0.5)

    def _mixed(self, message: SmashedData, honest: Gradient) -> Gradient:
        if message.step < self.delay:
            with self.hijack.randomness.lent():
                self.hijack.rehearse()
            dz, self.metrics = honest.dz, dict(self.task.metrics)
        else:
            asked = dataclasses.replace(message, asks="gradient")
            dz = self.mix(self.hijack.reply(asked).dz, honest.dz)
            self.metrics = self.hijack.metrics | self.task.metrics
        self.metrics |= {"dz_norm": dz.norm(), "task_norm": honest.dz.norm()}
        return self.gradient(message, dz)
