"""A hijack that looks, once, whether it draws negatives, and turns them over.

A critic compares clouds of images. Where a cloud and its negative have much in common, as faces do,
f can settle on the negative. The rule here is this library's.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Self

import torch
from torch import Tensor

from splitlab.attacks.fsha import FSHA
from splitlab.core.messages import Gradient, OutputGradient, ServerOutput, SmashedData
from splitlab.core.server import Server
from splitlab.core.threat import ThreatModel
from splitlab.data import ImageData
from splitlab.nets.evaluation import in_parts
from splitlab.settings import tiny

KEPT = 20  # steps whose z the rule looks at


class SignedFSHA(Server):
    """FSHA with a sign: where its pictures look like negatives, it reads z the other way round.

    After `look_at` steps it decodes the z of the last `KEPT` steps and compares them with its
    public images by `skewness_agreement`. Below 0 they are taken for negatives. From then on every
    z is mirrored at the mean code of the public images before anything else happens to it, and the
    gradient that goes back is mirrored, too. Pilot, decoder and critic stay as they are. What was a
    negative is upright at once, and the rest of the run goes into its strokes.

    Args:
        hijack: The attack. Decoder and pilot should be affine, as the fast design's are: only then
            is the mirrored code the negative picture.
        look_at: After how many steps it looks, at least 1. Too early, and there is nothing to see;
            too late, and little of the run is left.

    Attributes:
        sign: 1, or -1 once z is mirrored.
        agreement: What the rule saw; None before it looked.

    Raises:
        ValueError: If `look_at` is below 1.
    """

    threat: ClassVar[ThreatModel] = dataclasses.replace(
        FSHA.threat, source="Pasquini, Ateniese, Bernaschi, CCS 2021; the sign is this library's"
    )

    STATE = ("sign", "agreement", "kept", "center")

    def __init__(self, hijack: FSHA, *, look_at: int) -> None:
        super().__init__(seed=hijack.sampler.seed, device=hijack.device)
        if look_at < 1:
            raise ValueError(f"look_at is {look_at}: there is nothing to see before step 1")
        self.hijack, self.look_at = hijack, look_at
        self.public = hijack.public
        self.sign = 1
        self.agreement: float | None = None
        self.kept: list[Tensor] = []
        self.center: Tensor | None = None

    def __repr__(self) -> str:
        return f"SignedFSHA(looks at step {self.look_at}, {self.hijack!r})"

    def reply(self, message: SmashedData) -> Gradient:
        """Take FSHA's turn on z as this attack reads it; look first, where it is time.

        Raises:
            ValueError: If z has another shape than the pilot's output.
        """
        self.hijack.check_shape(message.z)
        if self.agreement is None:
            self.kept = [*self.kept, message.z][-KEPT:]
            if message.step + 1 >= self.look_at:
                self._look()
        answer = self.hijack.reply(self._upright(message))
        self.metrics = self.hijack.metrics
        return self.gradient(message, self.sign * answer.dz)

    def forward(self, message: SmashedData) -> ServerOutput:
        """Show the client what the hijack shows (U-shaped protocol)."""
        return self.hijack.forward(message)

    def backward(self, message: OutputGradient) -> Gradient:
        """Ignore what the tail asks for, and hijack as in the vanilla protocol."""
        answer = self.reply(self.hijack.asked(message))
        self.hijack.under_way = None
        return answer

    def output(self, message: SmashedData) -> Tensor:
        """Return what the client's tail is shown, in evaluation mode."""
        return self.hijack.output(message)

    def reconstruct(self, message: SmashedData) -> Tensor:
        """Decode smashed data into images (N, C, H, W), upright if the rule is right."""
        return self.hijack.reconstruct(self._upright(message))

    def autoencode(self, x: Tensor) -> Tensor:
        """Return decoder(pilot(x)): what the attacker's networks could show at best."""
        return self.hijack.autoencode(x)

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return one that looks after three steps, and whose images are negatives."""
        negatives = dataclasses.replace(public, x=sum(public.value_range) - public.x)
        body = tiny.nets.server()
        return cls(FSHA.at(tiny, negatives, steps=6, body=body, batch_size=8), look_at=3)

    def _look(self) -> None:
        pictures = in_parts(self.hijack.decoder, torch.cat(self.kept))
        self.agreement = skewness_agreement(pictures, self.public.x)
        if self.agreement < 0:
            self.sign = -1
            self.center = in_parts(self.hijack.pilot, self.public.x).mean(0, keepdim=True)
        self.kept = []

    def _upright(self, message: SmashedData) -> SmashedData:
        if self.center is None:
            return message
        return dataclasses.replace(message, z=2 * self.center - message.z)


def skewness_agreement(pictures: Tensor, public: Tensor) -> float:
    """Return how far pictures are light and dark where public images are: below 0, they are not.

    At each place of the image the values have a skewness: above 0 where most are dark and a few
    light. It changes its sign when light and dark are exchanged, while mean and contrast, which a
    critic sees first, can stay as they were. So it is the correlation, over all places and
    channels, of the pictures' skewness with the public images'.

    Args:
        pictures: Images, (N, C, H, W), two or more. They need not be of the same things.
        public: Images, (M, C, H, W).

    Returns:
        From -1 to 1.
    """
    both = torch.stack([_skewness(pictures), _skewness(public)])
    return float(torch.corrcoef(both)[0, 1])


def _skewness(images: Tensor) -> Tensor:
    """Skewness at each place, (C * H * W,); 0 where all images have one value."""
    centred = images.flatten(1).double()
    centred = centred - centred.mean(0)
    cubes, squares = centred.pow(3).mean(0), centred.square().mean(0)
    return torch.where(squares > 1e-12, cubes / squares.clamp(min=1e-12).pow(1.5), 0.0)
