"""The client-side GAN on faces: drawn ones, and photographs where a class is one person."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import splitlab as sl
from splitlab.course.experiments.base import Device, Keeping
from splitlab.course.experiments.client_gan import ClientGANRun

# The kinds of faces in `client_gan_tiny`.
CLIENT_GAN_FACES: dict[str, dict[str, Any]] = {
    "drawn faces": {"data": "drawn_faces", "label": "dark_hair", "target": 1},
    "one person": {"data": "orl_faces", "label": "person"},
}
PHOTOGRAPHS = 10  # of each person
SHARES = (5, 2, 3)  # of these: private, public and referee


@dataclass(frozen=True)
class ClientGANFaces(ClientGANRun):
    """The attack on drawn faces (`data="drawn_faces"`) or on photographs ("orl_faces").

    Attributes:
        label: What the classes are: an attribute of drawn faces, or "person". Where a class is a
            person, all parts have the same people, and no part has a photograph of another's.
        size: Side of the images in pixels.
    """

    label: str = ""
    size: int = 16

    @property
    def config(self) -> dict[str, Any]:
        """What the run is a function of."""
        return super().config | {"label": self.label, "size": self.size}

    def split(self) -> sl.data.Split:
        """Return the three parts of the faces."""
        load = sl.settings.LOADERS[self.data]
        whole = load(size=self.size, channels=1)
        if self.label == "person":
            number = whole.row % PHOTOGRAPHS
            whole = dataclasses.replace(whole, block=number, shares=SHARES)
        else:
            whole = whole.labelled(self.label)
        return whole.split(self.seed)

    def measure(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Unpack[Keeping]
    ) -> dict[str, Any]:
        """Train and score, and add the target's `rank` among the classes, by the mean distance."""
        row = super().measure(device, observers, **keeping)
        near = row["further"]["distance_by_class"]
        own = near[self.split().private.classes[self.target]]
        return row | {"rank": 1 + sum(other < own for other in near.values()), "classes": len(near)}
