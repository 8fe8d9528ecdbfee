"""Property inference: the hijack with a classifier in place of the decoder.

Pasquini, Ateniese, Bernaschi: "Unleashing the Tiger: Inference Attacks on Split Learning",
CCS 2021, the section on property inference; the critic's and the client's losses, and their
equation numbers, are those of `FSHA`.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Self, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Adam

from splitlab.arguments import IMAGES, NETWORK, instance, one_of
from splitlab.attacks.critic import Critic
from splitlab.attacks.fsha import FSHA
from splitlab.attacks.schedules import Schedule, constant, half_at
from splitlab.core.messages import Gradient, Message, OutputGradient, ServerOutput, SmashedData
from splitlab.core.party import OptimizerFactory
from splitlab.core.server import Server
from splitlab.core.threat import ThreatModel
from splitlab.data import ImageData
from splitlab.nets import DepthToSpace
from splitlab.nets.evaluation import in_parts
from splitlab.nets.shapes import check_shape, output_of
from splitlab.settings import Design, Setting, tiny

HEAD = "make one output for each class"
DECODER = "pass the inverse of the pilot, such as nets.DepthToSpace"


def classification_loss(logits: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return the mean cross-entropy of the head on the property y of public images; a scalar.

    It replaces equation (1). A learned pilot is trained on it, too.
    """
    return cross_entropy(logits, y)


class PropertyInference(Server):
    """Hijack the client until the server's classifier infers a property of images from z.

    The property is the label of the public images; the client's own labels and task may be
    anything. By default the paper's design: a learned pilot, and the head in the decoder's place.
    The fast design has the fixed pilot, the decoder and the critic of `FSHA`'s: the head learns on
    the pilot's codes, changes no other network, and there are pictures as well.

    Args:
        public: The attacker's own images, labeled with the property, with at least two classes
            among them.
        pilot: f~, (B, C, H, W) -> z. May have nothing to learn.
        head: C, z -> logits (B, K), one for each class of the public images.
        critic: D; in the fast design it looks through `decoder`.
        decoder: z -> (B, C, H, W) with nothing to learn, where the critic sees images; None for no
            pictures.
        optimizer: Makes the optimizer of pilot and head.
        critic_steps: As in `FSHA`, and so are the arguments below.
        critic_first: Whether the client's gradient is taken after the critic's steps.
        gradient_scale: Factor on the gradient sent, as a function of the step.
        body: The network it shows in the U-shaped protocol, z -> a.
        batch_size: Public images in a batch.
        seed: Seeds the order of the public batches and the server's random state.
        device: Where the server computes.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If all public images are of one class, the head has another number of outputs
            than there are classes, the decoder has something to learn or is not the one that the
            critic looks through, or an argument is wrong for `FSHA`.
    """

    threat: ClassVar[ThreatModel] = ThreatModel(
        who="server, malicious (active)",
        goal="infer a property of each private image from z",
        sees=("z, once a step", "labels of the client's task, which it ignores"),
        knows=(
            "public images of the same kind as the private ones",
            "the property of each public image",
            "the shape of z",
        ),
        does_not_know=(
            "the private images and their property",
            "the client's network f: neither weights nor layers",
        ),
        source="Pasquini, Ateniese, Bernaschi, CCS 2021",
    )

    def __init__(
        self,
        public: ImageData,
        *,
        pilot: nn.Module,
        head: nn.Module,
        critic: Critic,
        decoder: nn.Module | None = None,
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
        instance("public", public, ImageData, IMAGES)
        instance("head", head, nn.Module, NETWORK)
        instance("critic", critic, Critic, "pass sl.Critic(net), around a network of its own")
        if decoder is not None:
            instance("decoder", decoder, nn.Module, "pass a decoder, or leave it out")
        if len(public.y.unique()) < 2:
            raise ValueError(
                f"all {len(public)} public images have the label {public.classes[public.y[0]]!r}: "
                "label them with the property, and give the attack images of at least two classes"
            )
        if critic.through not in (None, decoder):
            raise ValueError(
                "the critic looks through a decoder that the attack does not have: pass the same "
                "one as decoder"
            )
        if decoder is not None and any(True for _ in decoder.parameters()):
            raise ValueError(
                "the decoder has parameters, which this attack does not train: pass one that is "
                "the inverse of a fixed pilot, such as nets.DepthToSpace"
            )
        self.hijack = FSHA(
            public,
            pilot=pilot,
            decoder=head,
            critic=critic,
            public_loss=classification_loss,
            optimizer=optimizer,
            critic_steps=critic_steps,
            critic_first=critic_first,
            gradient_scale=gradient_scale,
            body=body,
            batch_size=batch_size,
            seed=seed,
            device=device,
        )
        self.public, self.head = self.hijack.public, head
        self.decoder = None if decoder is None else decoder.to(self.device)
        made = output_of("head", head, self._code(), what="the pilot's codes", do=HEAD)
        if tuple(made.shape[1:]) != (len(public.classes),):
            raise ValueError(
                f"the head has {', '.join(map(str, made.shape[1:]))} outputs and the public images "
                f"have {len(public.classes)} classes: {HEAD}"
            )
        if self.decoder is not None:
            drawn = output_of("decoder", self.decoder, self._code(), what="codes", do=DECODER)
            check_shape("decoder", drawn, public.shape, what="the public images have", do=DECODER)

    def __repr__(self) -> str:
        return f"PropertyInference({', '.join(self.public.classes)}; {self.hijack!r})"

    def check(self, message: Message) -> None:
        """Refuse messages that the hijack cannot use."""
        self.hijack.check(message)

    def reply(self, message: SmashedData) -> Gradient:
        """Hijack as `FSHA` does, with the head in place of the decoder.

        Raises:
            ValueError: If z has another shape than the pilot's output.
        """
        answer = self.hijack.reply(message)
        self.metrics = self.hijack.metrics
        return answer

    def forward(self, message: SmashedData) -> ServerOutput:
        """Send the client the hijack's output (U-shaped protocol)."""
        return self.hijack.forward(message)

    def backward(self, message: OutputGradient) -> Gradient:
        """Ignore the tail's gradient, and hijack as in the vanilla protocol."""
        answer = self.hijack.backward(message)
        self.metrics = self.hijack.metrics
        return answer

    def output(self, message: SmashedData) -> Tensor:
        """Return the output for the client's tail, in evaluation mode."""
        return self.hijack.output(message)

    def rehearse(self) -> Tensor:
        """Train pilot and head on one public batch, without a client; return the loss."""
        return self.hijack.rehearse()

    def infer_property(self, message: SmashedData) -> Tensor:
        """Return the probability of each class of the property, (N, K), for smashed data.

        Where there is a decoder, the head is applied to the code of the decoded picture: the critic
        sees nothing else of z.
        """
        if self.decoder is not None:
            return self.classify(self.reconstruct(message))
        return in_parts(self.head, message.z).softmax(1)

    def classify(self, x: Tensor) -> Tensor:
        """Return the class probabilities of images, (N, K), by head(pilot(x))."""
        return in_parts(self.head, in_parts(self.hijack.pilot, x)).softmax(1)

    def reconstruct(self, message: SmashedData) -> Tensor:
        """Decode smashed data into images (N, C, H, W), if there is a decoder.

        Raises:
            ValueError: If there is none.
        """
        return in_parts(self._needed_decoder(), message.z).clamp(*self.public.value_range)

    def autoencode(self, x: Tensor) -> Tensor:
        """Return decoder(pilot(x)), if there is a decoder.

        Raises:
            ValueError: If there is none.
        """
        decoder = self._needed_decoder()
        return in_parts(decoder, in_parts(self.hijack.pilot, x)).clamp(*self.public.value_range)

    def _code(self) -> Tensor:
        """Return the code of one public image, (1, ...)."""
        return in_parts(self.hijack.pilot, self.public.x[:1])

    def _needed_decoder(self) -> nn.Module:
        if self.decoder is None:
            raise ValueError(
                "this attack has a head in the decoder's place and makes no pictures: call "
                "infer_property, or run sl.FSHA"
            )
        return self.decoder

    @classmethod
    def at(
        cls,
        setting: Setting,
        public: ImageData,
        *,
        design: Design = "paper",
        cut: int | None = None,
        steps: int | None = None,
        critic_steps: int | None = None,
        critic_first: bool | None = None,
        gradient_scale: Schedule | None = None,
        batch_size: int | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> Self:
        """Make the attack with the values of a setting.

        Args:
            setting: `sl.tiny`, `sl.gpu` or `sl.paper`.
            public: The attacker's images, labeled with the property.
            design: "paper" (learned pilot and head, critic on z) or "fast" (fixed pilot, critic on
                the decoded image; the head learns on the pilot's codes).
            cut: Where the network is split; the setting's by default.
            steps: Length of the run, as in `FSHA.at`.
            critic_steps: As in the constructor, in place of the design's.
            critic_first: As in the constructor, in place of the design's.
            gradient_scale: As in the constructor, in place of the design's.
            batch_size: As in the constructor; the setting's by default.
            seed: Seeds the networks and the attack.
            device: As in the constructor.

        Raises:
            TypeError: If an argument is of another kind.
            ValueError: As in `FSHA.at`, and as in the constructor.
        """
        instance("setting", setting, Setting, "pass sl.tiny, sl.gpu or sl.paper")
        instance("public", public, ImageData, IMAGES)
        one_of("design", design, get_args(Design))
        cut, nets = setting.cut if cut is None else cut, setting.nets
        fast = design == "fast"
        pilot = None
        if not fast:
            linear = {"linear": True} if setting.name == "tiny" else {}  # the paper's always is
            pilot = nets.pilot(cut=cut, channels=setting.channels, seed=seed, **linear)
        like = FSHA.at(
            setting,
            public,
            design=design,
            cut=cut,
            steps=steps,
            pilot=pilot,
            critic_steps=critic_steps,
            critic_first=critic_first,
            gradient_scale=gradient_scale,
            batch_size=batch_size,
            seed=seed,
        )
        learns = fast or setting.name == "tiny"  # fast: the pilot does not, the head does
        return cls(
            public,
            pilot=like.pilot,
            head=nets.head(cut=cut, classes=len(public.classes), seed=seed),
            critic=like.critic,
            decoder=like.decoder if fast else None,
            optimizer=partial(Adam, lr=1e-3 if learns else 1e-5),
            critic_steps=like.critic_steps,
            critic_first=like.critic_first,
            gradient_scale=like.gradient_scale,
            batch_size=like.sampler.batch_size,
            seed=seed,
            device=device,
        )

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example with a decoder; pilot, head and critic learn."""
        nets, decoder = tiny.nets, DepthToSpace(4, 1, mean=0.0, std=1.0)
        return cls(
            public,
            pilot=nets.pilot(linear=True),
            head=nets.head(classes=len(public.classes)),
            critic=Critic(nets.image_critic(), through=decoder, penalty="sample", rate=half_at(6)),
            decoder=decoder,
            optimizer=partial(Adam, lr=1e-3),
            critic_steps=2,
            body=nets.server(),
            batch_size=8,
        )
