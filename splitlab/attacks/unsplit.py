"""UnSplit: reconstruct images and clone the client's network, from z and an architecture alone.

Erdogan, Kupcu, Cicek: "UnSplit: Data-Oblivious Model Inversion, Model Stealing, and Label Inference
Attacks Against Split Learning", WPES 2022, arXiv 2108.09033, Algorithm 1. The labels of the
U-shaped protocol are in `unsplit_labels.py`. The paper minimizes the feature error and the total
variation of the images. The public code adds the squared distance to black, and starts at 0.5. This
module adds several starts, one clone for all images of a batch, and the value of the background.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Self, TypedDict, Unpack

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.optim import Adam

from splitlab.arguments import count, ends, instance, number, within
from splitlab.arguments import images as check_images
from splitlab.attacks.priors import total_variation
from splitlab.core.curious import Honest, PassiveServer
from splitlab.core.messages import SmashedData
from splitlab.core.threat import ThreatModel
from splitlab.data import ImageData
from splitlab.nets import tiny
from splitlab.nets.shapes import check_factory, shape_of_images
from splitlab.settings import Setting

SHARE = "a share of the range"


class Search(TypedDict, total=False):
    """Arguments of `UnSplit` that say how it searches."""

    rounds: int
    image_steps: int
    clone_steps: int
    image_rate: float
    clone_rate: float
    tv_weight: float
    background_weight: float
    start: float


# Chosen on public digits at tiny scale.
TINY: Search = {
    "rounds": 40,
    "image_steps": 20,
    "clone_steps": 20,
    "image_rate": 0.02,
    "clone_rate": 0.01,
    "tv_weight": 0.3,
    "background_weight": 0.03,
}


@dataclass(frozen=True, eq=False)
class Moment:
    """The state of an attempt after some rounds.

    Attributes:
        round: Rounds so far.
        images: The images x^ of then, (N, C, H, W), in the range of the data.
        z: What the clone makes of them, in z's shape; of the images before they are clamped to
            the range of the data, or inverted.
        error: The mean squared difference between that and the z that was sent: all that the
            attacker can see.
    """

    round: int
    images: Tensor
    z: Tensor
    error: float


@dataclass(frozen=True, eq=False)
class Attempt:
    """One start of the search, and its result.

    Attributes:
        moments: The kept moments, in order; the last one is the end.
        clone: The clone f^, in evaluation mode, without gradients.
    """

    moments: tuple[Moment, ...]
    clone: nn.Module

    @property
    def images(self) -> Tensor:
        """The images at the end, (N, C, H, W)."""
        return self.moments[-1].images

    @property
    def error(self) -> float:
        """The feature error at the end, 0 or more, in squared units of z."""
        return self.moments[-1].error


class UnSplit(PassiveServer):
    """Serve honestly, and search for images and a network that together reproduce z.

    It takes turns: some steps on the images x^ with the clone f^ held still, some on the clone with
    the images held still, so that f^(x^) comes close to z. Both are unknown, so the search can end
    at other images with another network, for example at negatives, or stall. It starts several
    times, and keeps the start with the smallest feature error.

    Every call makes fresh clones, and the images of one call are found together, with one clone for
    all of them. (The public code takes one image after the other and goes on with the same clone.)
    The defaults are the public code's, of one start, for pixels from 0 to 1.

    Args:
        net: The honest server's network s.
        architecture: Makes a fresh network of the client's layers; called with `seed=`.
        image_shape: Of one private image, (C, H, W).
        value_range: The smallest and the largest value of a pixel.
        rounds: How many times it takes turns.
        image_steps: Steps on the images in a round.
        clone_steps: Steps on the clone in a round.
        image_rate: Learning rate of the images (Adam with amsgrad).
        clone_rate: Learning rate of the clone (Adam with amsgrad).
        tv_weight: Weight of the images' total variation: neighboring pixels are alike.
        background_weight: Weight of the mean squared distance of the pixels to the background.
        background: The value of most pixels, as a share of the range: 0 the smallest, 1 the
            largest.
        start: The value of all pixels at the start, as a share of the range.
        starts: How many starts, each with a clone of its own.
        seed: Seeds the clones, and as in `Server`.
        honest: Further arguments of `HonestServer`.

    Raises:
        TypeError: If `architecture` makes no network.
        ValueError: If a number of steps or starts is less than 1, a share is not from 0 to 1, the
            range is empty, or the architecture does not take images of this shape.
    """

    threat: ClassVar[ThreatModel] = ThreatModel(
        who="server, honest but curious (passive)",
        goal="reconstruct the private images from z, and imitate the client's network f",
        sees=("z and labels, once a step; it ignores the labels",),
        knows=(
            "the architecture of f",
            "the shape and the range of the images",
            "that neighboring pixels are alike, and the background's value",
            "its own network s",
        ),
        does_not_know=("the private images, or any other images", "the weights of f"),
        source="Erdogan, Kupcu, Cicek, WPES 2022",
    )

    def __init__(
        self,
        net: nn.Module,
        *,
        architecture: Callable[..., nn.Module],
        image_shape: tuple[int, int, int],
        value_range: tuple[float, float] = (0.0, 1.0),
        rounds: int = 1000,
        image_steps: int = 100,
        clone_steps: int = 100,
        image_rate: float = 1e-3,
        clone_rate: float = 1e-3,
        tv_weight: float = 0.1,
        background_weight: float = 1.0,
        background: float = 0.0,
        start: float = 0.5,
        starts: int = 1,
        seed: int = 0,
        **honest: Unpack[Honest],
    ) -> None:
        super().__init__(net, seed=seed, **honest)
        self.value_range = low, high = ends(value_range)
        self.rounds, self.starts = (
            count("rounds", rounds, least=1),
            count("starts", starts, least=1),
        )
        self.image_steps = count("image_steps", image_steps, least=1)
        self.clone_steps = count("clone_steps", clone_steps, least=1)
        self.image_rate = number("image_rate", image_rate, above=True)
        self.clone_rate = number("clone_rate", clone_rate, above=True)
        self.tv_weight = number("tv_weight", tv_weight)
        self.background_weight = number("background_weight", background_weight)
        self.background = low + within("background", background, 0, 1, SHARE) * (high - low)
        self.start = low + within("start", start, 0, 1, SHARE) * (high - low)
        self.architecture, self.image_shape = architecture, shape_of_images(image_shape)
        do = "pass a function that makes the client's layers, such as sl.nets.tiny.shallow_client"
        check_factory("architecture", architecture, torch.zeros(1, *self.image_shape), do=do)

    def reconstruct(self, message: SmashedData) -> Tensor:
        """Search, and return the images (N, C, H, W) of the start that `choose` keeps."""
        return self.choose(self.search(message.z)).images

    def search(self, z: Tensor, *, every: int | None = None) -> list[Attempt]:
        """Search from every start.

        The same z, settings and seed give the same attempts, whatever was searched for before.

        Args:
            z: Smashed data, (N, ...).
            every: Rounds between two kept moments; None keeps the end only.

        Returns:
            The attempts, in the order of the starts.

        Raises:
            ValueError: If the architecture makes a z of another shape.
        """
        with self.attacker_randomness.lent(keep=False):
            # Drawn, and not counted up from the attack's seed, with which a client may have begun.
            seeds = torch.randint(2**31, (self.starts,)).tolist()
            return [self.attempt(z, seed, every) for seed in seeds]

    def attempt(self, z: Tensor, seed: int, every: int | None = None) -> Attempt:
        """Search from one start; arguments and errors as in `search`.

        Args:
            z: Smashed data, (N, ...).
            seed: Of the clone's initial weights.
            every: Rounds between two kept moments; None keeps the end only.
        """
        every = self.rounds if every is None else count("every", every, least=1)
        z = z.detach()
        clone = self.architecture(seed=seed).to(z).eval()
        x = torch.full((len(z), *self.image_shape), self.start, dtype=z.dtype, device=z.device)
        with torch.no_grad():
            made = tuple(clone(x[:1]).shape[1:])
        if made != z.shape[1:]:
            raise ValueError(
                f"the client sends z of shape {tuple(z.shape[1:])} and the architecture makes "
                f"{made}: give the attack the client's own layers and image_shape"
            )
        images = Adam([x.requires_grad_()], lr=self.image_rate, amsgrad=True)
        weights = Adam(clone.parameters(), lr=self.clone_rate, amsgrad=True)
        moments = []
        with torch.enable_grad():
            for number in range(1, self.rounds + 1):
                clone.requires_grad_(False)
                for _ in range(self.image_steps):
                    _descend(images, self.image_loss(clone, x, z))
                clone.requires_grad_(True)
                for _ in range(self.clone_steps):
                    _descend(weights, self.clone_loss(clone, x.detach(), z))
                if number % every == 0 or number == self.rounds:
                    moments.append(self._moment(number, clone, x.detach(), z))
        return Attempt(tuple(moments), clone.requires_grad_(False))

    def image_loss(self, clone: nn.Module, x: Tensor, z: Tensor) -> Tensor:
        """Return the loss of the images x with the clone fixed: feature error and two priors."""
        smooth = total_variation(x).mean()
        dark = (x - self.background).square().mean()
        return mse_loss(clone(x), z) + self.tv_weight * smooth + self.background_weight * dark

    def clone_loss(self, clone: nn.Module, x: Tensor, z: Tensor) -> Tensor:
        """Return the loss of the clone with the images x fixed: the feature error."""
        return mse_loss(clone(x), z)

    def choose(self, attempts: list[Attempt]) -> Attempt:
        """Return the attempt with the smallest feature error, all that the attacker can compare."""
        return min(attempts, key=lambda attempt: attempt.error)

    def sign(self, images: Tensor) -> Tensor:
        """Return the images (N, C, H, W) unchanged: z does not distinguish them from negatives."""
        return images

    @classmethod
    def at(
        cls,
        setting: Setting,
        net: nn.Module,
        *,
        architecture: Callable[..., nn.Module] | None = None,
        background: float = 0.0,
        starts: int = 3,
        seed: int = 0,
        device: torch.device | str = "cpu",
        **search: Unpack[Search],
    ) -> Self:
        """Make the attack with a setting's values, which were chosen at "tiny".

        Args:
            setting: `sl.tiny`, `sl.gpu` or `sl.paper`.
            net: As in the constructor.
            architecture: As in the constructor; `nets.tiny.shallow_client` by default.
            background: As in the constructor; the search starts a little above it, unless `search`
                says otherwise.
            starts: As in the constructor.
            seed: As in the constructor.
            device: As in the constructor.
            search: Numbers of steps, rates, weights and a start in place of the setting's.
        """
        instance("setting", setting, Setting, "pass sl.tiny, sl.gpu or sl.paper")
        background = within("background", background, 0, 1, SHARE)
        ours: Search = {**TINY, "start": background + 0.05}
        shallow = partial(tiny.shallow_client, channels=setting.channels)
        return cls(
            net,
            architecture=shallow if architecture is None else architecture,
            image_shape=(setting.channels, setting.size, setting.size),
            value_range=(-1.0, 1.0),
            background=background,
            starts=starts,
            optimizer=setting.client_optimizer,
            seed=seed,
            device=device,
            **ours | search,
        )

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example with two rounds, from two starts."""
        return cls(
            tiny.server(),
            architecture=tiny.client,
            image_shape=private.shape,
            value_range=private.value_range,
            rounds=2,
            image_steps=2,
            clone_steps=2,
            starts=2,
        )

    def _moment(self, number: int, clone: nn.Module, x: Tensor, z: Tensor) -> Moment:
        with torch.no_grad():
            made = clone(x)
        images = self.sign(x.clone().clamp(*self.value_range))
        return Moment(number, images, made, float(mse_loss(made, z)))


class UnSplitBrightOnDark(UnSplit):
    """Search as `UnSplit` does, and invert negatives: images are known to be bright on dark.

    A clone can explain the same z with negatives, so z does not show which of the two was sent.
    This is knowledge of the data; it holds for digits and would be false for faces.
    """

    threat: ClassVar[ThreatModel] = replace(
        UnSplit.threat, grants=("that the images are bright in the middle and dark at the sides",)
    )

    def sign(self, images: Tensor) -> Tensor:
        """Return the negatives of all images if their sides are brighter than their middle."""
        return negatives(images, self.value_range) if brighter_sides(images) else images


def brighter_sides(images: Tensor) -> bool:
    """Return whether images are brighter at the sides than in the middle, on average.

    One answer for all images: they were found with one clone, so all are negatives or none.

    Args:
        images: (N, C, H, W); the outermost eighth of the columns on either side is compared with
            the half of rows and columns in the middle.
    """
    check_images("images", images)
    height, width = images.shape[-2:]
    side, top, left = max(1, width // 8), height // 4, width // 4
    sides = torch.cat([images[..., :side], images[..., width - side :]], dim=-1)
    middle = images[..., top : height - top, left : width - left]
    return bool(sides.mean() > middle.mean())


def negatives(images: Tensor, value_range: tuple[float, float]) -> Tensor:
    """Return the negatives of images of any shape: values mirrored at the middle of the range."""
    low, high = value_range
    return low + high - images


def stretched(images: Tensor, value_range: tuple[float, float]) -> Tensor:
    """Return the images, each stretched to have a black and a white pixel.

    Scoring such images flatters an attack that cannot know brightness and contrast: the public
    code does it for color images. A picture without contrast becomes black.

    Args:
        images: (N, C, H, W).
        value_range: The smallest and the largest value of a pixel.
    """
    check_images("images", images)
    low, high = ends(value_range)
    darkest, brightest = images.flatten(1).aminmax(dim=1)
    shape = (-1, *[1] * (images.dim() - 1))
    contrast = (brightest - darkest).view(shape)
    shares = (images - darkest.view(shape)) / contrast.clamp_min(1e-12)
    return low + (high - low) * shares


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
