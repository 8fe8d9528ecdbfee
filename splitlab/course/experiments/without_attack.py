"""Pictures that no attack made, and their figures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

from torch import Tensor

import splitlab as sl
from splitlab.course.experiments.base import Device, Experiment, Keeping


@dataclass(frozen=True)
class WithoutAttack(Experiment):
    """The figures of pictures that no attack made: floors, and private images in disguise.

    They say what a figure is worth. Nothing is trained but the referee's classifiers.

    Attributes:
        size: Side of the images in pixels.
        channels: 1, or 3 for color.
        label: The attribute that is the label; "" for the label that the data set comes with.
        public: How many public images there are, drawn at random; None for all of them.
        n_match: How many private images are scored and matched among; None for the scorer's own
            choice.
    """

    size: int = 16
    channels: int = 1
    label: str = ""
    public: int | None = None
    n_match: int | None = None

    @property
    def config(self) -> dict[str, Any]:
        """Everything that determines the figures."""
        own = {
            "data": self.data,
            "size": self.size,
            "channels": self.channels,
            "label": self.label,
            "seed": self.seed,
        }
        fewer = {"public": self.public, "n_match": self.n_match}
        return own | {name: number for name, number in fewer.items() if number is not None}

    def measure(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Unpack[Keeping]
    ) -> dict[str, Any]:
        """Score the pictures; nothing can be observed, or kept halfway.

        Returns:
            `n`; the referee's figures of each kind of picture (`pictures`) and of the real images
            (`further`); and the `cpu_seconds`.
        """
        started = time.process_time()
        whole = sl.settings.LOADERS[self.data](size=self.size, channels=self.channels).to(device)
        labelled = whole.labelled(self.label) if self.label else whole
        private, public, referee = labelled.split(self.seed)
        if self.public is not None:
            public = public.subset(self.public, seed=self.seed)
        scorer = sl.Scorer(private, referee, n_match=self.n_match, seed=self.seed)
        pictures = {
            name: scorer.score(images) | scorer.further(images)
            for name, images in unattacked(scorer.images, public).items()
        }
        figures = {"n": len(scorer.images), "pictures": pictures, "further": scorer.real()}
        return figures | {"cpu_seconds": time.process_time() - started}


def unattacked(scored: sl.ImageData, public: sl.ImageData) -> dict[str, Tensor]:
    """Return pictures of private images that no attack made.

    Args:
        scored: The private images, n of them.
        public: The attacker's images.

    Returns:
        The floors by name ("mean_public", "class_mean_public", "nearest_public") and the private
        images in each of the disguises ("moved_by_a_pixel" and so on), each (n, C, H, W).
    """
    floors = {
        "mean_public": sl.floors.mean_public(public, len(scored)),
        "class_mean_public": sl.floors.class_mean_public(public, scored.y),
        "nearest_public": sl.floors.nearest_public(scored.x, public.x),
    }
    disguised = {
        name.replace(" ", "_"): disguise(scored.x, scored.value_range)
        for name, disguise in sl.disguises.DISGUISES.items()
    }
    return floors | disguised
