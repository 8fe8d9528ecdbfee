"""White-box inversion: optimize an image until the client's own network maps it to the same z.

He, Zhang, Lee: "Model Inversion Attacks Against Collaborative Inference", ACSAC 2019, whose
regularized maximum likelihood estimation this is. There it meets inference; here it follows honest
training.
"""

from __future__ import annotations

from typing import ClassVar, Self, Unpack

import torch
from torch import Tensor, nn

from splitlab.arguments import IMAGES, NETWORK, TENSOR, count, described, ends, instance, number
from splitlab.attacks.priors import total_variation
from splitlab.core.curious import Honest, PassiveServer
from splitlab.core.grants import Granted, refused
from splitlab.core.messages import SmashedData, Weights
from splitlab.core.threat import ThreatModel
from splitlab.data import ImageData
from splitlab.nets import tiny
from splitlab.nets.evaluation import EVALUATION_BATCH, evaluating
from splitlab.nets.shapes import output_of


class WhiteBoxInversion(PassiveServer):
    """Serve honestly, then invert f by gradient descent, with f's weights from a colluding client.

    Call `prepare` with the weights before `reconstruct`. The defaults for the descent were chosen
    on digits at tiny scale (`benchmarks/choose_inversion.py`).

    Args:
        net: The honest server's network s.
        f: A network of the client's architecture, for the attack alone; its weights do not matter.
        start: The image from which every descent starts, (C, H, W). By default the mean of
            `public`; one or the other is needed, for z does not say what shape an image has.
        public: The attacker's own images, or None: the attack itself needs none of them.
        value_range: The smallest and largest value of a pixel; that of `public` where there is one.
        steps: Steps of the descent.
        rate: Adam's learning rate at the first step, in pixel values.
        weight: Weight of the total variation.
        honest: Further arguments of `HonestServer`.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If there is neither a start nor public images, f does not take the start, or a
            number is out of range.
    """

    threat: ClassVar[ThreatModel] = ThreatModel(
        who="server, honest but curious (passive), with a client that colludes",
        goal="reconstruct the private images from z",
        sees=("z and labels, once a step",),
        knows=("its own network s", "the shape of an image, and one image to start from"),
        does_not_know=("the private images",),
        grants=("the architecture of f", "the weights of f after training"),
        source="He, Zhang, Lee, ACSAC 2019",
    )
    STATE = ("colluded",)
    GRANTED: ClassVar[Granted] = "the client's weights"

    def __init__(
        self,
        net: nn.Module,
        *,
        f: nn.Module,
        start: Tensor | None = None,
        public: ImageData | None = None,
        value_range: tuple[float, float] = (-1.0, 1.0),
        steps: int = 200,
        rate: float = 0.2,
        weight: float = 0.03,
        seed: int = 0,
        **honest: Unpack[Honest],
    ) -> None:
        super().__init__(net, seed=seed, **honest)
        instance("f", f, nn.Module, NETWORK)
        self.steps, self.rate = count("steps", steps, least=1), number("rate", rate, above=True)
        self.weight = number("weight", weight)
        if public is not None:
            instance("public", public, ImageData, IMAGES)
        if start is None and public is None:
            raise ValueError(
                "the descent has no image to start from: pass start=, of shape (C, H, W), or "
                "public="
            )
        self.public = None if public is None else public.to(self.device)
        self.f = f.to(self.device)
        if start is None:
            assert public is not None
            start = public.x.mean(0)
        self.start = instance("start", start, Tensor, TENSOR).detach().clone().to(self.device)
        self.value_range = ends(value_range) if public is None else public.value_range
        one = self.start.dim() == 3 or (self.start.dim() == 4 and len(self.start) == 1)
        if not one or not self.start.is_floating_point() or not self.start.isfinite().all():
            raise ValueError(
                f"start is {described(start)}, {start.dtype}: pass one image, (C, H, W), of finite "
                "floating-point numbers"
            )
        do = "give the attack the client's architecture, and an image as the client has them"
        first = self.start.view(-1, *self.start.shape[-3:])[:1]
        output_of("f", self.f, first, what="images", do=do)
        self.colluded = False

    def prepare(self, grant: Weights) -> None:
        """Load the weights of f, and BatchNorm's statistics, that a client sends.

        Args:
            grant: `client.weights()`. Of a client with a tail, f's part is used.

        Raises:
            TypeError: If it is no such message.
            ValueError: If the weights are not those of the architecture that the attack was given.
        """
        if not isinstance(grant, Weights):
            raise refused(self, grant)
        state = grant.delivered().state
        if any(name.startswith("tail.") for name in state):
            state = {n.removeprefix("net."): t for n, t in state.items() if n.startswith("net.")}
        try:
            self.f.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(
                f"the weights that {grant.sender} sends are not of the network f= that the "
                "attack was given: give it the client's architecture, cut at the same layer"
            ) from error
        self.colluded = True

    def reconstruct(self, message: SmashedData) -> Tensor:
        """Return images (N, C, H, W) in the value range that f maps to nearly this z.

        Raises:
            RuntimeError: If no client has sent its weights.
            ValueError: If z has another shape than f's output.
        """
        if not self.colluded:
            raise RuntimeError(
                "the attack has not been granted the weights of f: call "
                "attack.prepare(client.weights()) after training"
            )
        return invert(
            self.f,
            message.z,
            self.start,
            value_range=self.value_range,
            steps=self.steps,
            rate=self.rate,
            weight=self.weight,
        )

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example whose descent takes three steps."""
        return cls(tiny.server(), f=tiny.client(seed=1), public=public, steps=3)


def invert(
    f: nn.Module,
    z: Tensor,
    start: Tensor,
    *,
    value_range: tuple[float, float],
    steps: int,
    rate: float,
    weight: float,
) -> Tensor:
    """Find images that f maps to nearly z: argmin |f(x) - z|^2 + weight * TV(x).

    The squared error is divided by |z|^2, so that one weight serves every cut. Each image has its
    own loss, and losses are summed: f is in evaluation mode and Adam works number by number, so
    what else is in the batch makes no difference. The learning rate falls linearly to a tenth.

    Args:
        f: x -> z; its weights and mode are left as they were.
        z: What to explain, (N, ...).
        start: The first image, (C, H, W), or one for each z, (N, C, H, W).
        value_range: Pixels are clamped to it after every step.
        steps: How many.
        rate: Adam's learning rate at the first step.
        weight: Weight of the total variation, `priors.total_variation`.

    Returns:
        Images, (N, C, H, W).

    Raises:
        ValueError: If f makes another shape than z's of the start image.
    """
    x = start.expand(len(z), *start.shape[-3:])
    with evaluating(f):
        made = f(x[:1]).shape[1:]
        if made != z.shape[1:]:
            raise ValueError(
                f"z has shape {tuple(z.shape[1:])} and the attack's network makes {tuple(made)}: "
                "give the attack the client's architecture, cut at the same layer"
            )
        parts = zip(z.split(EVALUATION_BATCH), x.split(EVALUATION_BATCH), strict=True)
        with torch.enable_grad():
            found = [descend(f, z, x, value_range, steps, rate, weight) for z, x in parts]
    return torch.cat(found)


def descend(
    f: nn.Module,
    z: Tensor,
    start: Tensor,
    value_range: tuple[float, float],
    steps: int,
    rate: float,
    weight: float,
) -> Tensor:
    """Take the steps of `invert`, for an f in evaluation mode, with one start for each z."""
    x = start.detach().clone().requires_grad_()
    size = z.square().flatten(1).mean(1).clamp_min(torch.finfo(z.dtype).tiny)
    optimizer = torch.optim.Adam([x], lr=rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - 0.9 * step / steps)
    for _ in range(steps):
        error = (f(x) - z).square().flatten(1).mean(1) / size
        loss = (error + weight * total_variation(x)).sum()
        (x.grad,) = torch.autograd.grad(loss, x)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            x.clamp_(*value_range)
    return x.detach()
