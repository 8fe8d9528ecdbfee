"""Hijacks of faces, whose negatives look like faces, too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

from torch import Tensor

import splitlab as sl
from splitlab import nets
from splitlab.course.experiments.base import CpuTime, Device, Keeping
from splitlab.course.experiments.hijacks import Hijack
from splitlab.referee.metrics import matched, mse
from splitlab.referee.report import as_rows

# The kinds of `faces_tiny`.
FACES_KINDS: dict[str, dict[str, Any]] = {
    "gray": {},
    "color": {"channels": 3},
    "ORL, gray": {"data": "orl_faces"},
}
SCORED = 1000  # private images, where there are so many
PATCH, WIDTH = 4, 48  # a patch of three channels needs so many channels of z


@dataclass(frozen=True)
class Faces(Hijack):
    """The fast hijack of faces, in gray or in color, and of the pictures' negatives.

    They are drawn, or photographs of forty people (`data="orl_faces"`, which are gray).
    In color z has more channels than the tiny client's: a patch of the image would not fit into
    them.

    Attributes:
        channels: 1 for gray, 3 for color.
    """

    channels: int = 1

    @property
    def config(self) -> dict[str, Any]:
        """Everything that determines the run."""
        return super().config | {"channels": self.channels}

    def measure(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Unpack[Keeping]
    ) -> dict[str, Any]:
        """Train and score.

        Returns:
            `metrics`: mean squared error and matched, 1 of `n_match`, of the pictures; `negatives`:
            the same of their negatives; `floors`; `error`, divided by the nearest public images';
            `upright`, 1 where the pictures have a smaller error than their negatives, else 0;
            `steps` and `cpu_seconds`.
        """
        split, clock = self.split(), CpuTime()
        client, attack = self.client(split, device), self.attack(split, device)
        log = sl.train([client], attack, self.steps, observers=[*observers, clock], **keeping)
        public = split.public
        x = split.private.subset(min(SCORED, len(split.private)), seed=0).x
        pictures = attack.reconstruct(client.smash(x)).cpu()
        kinds = {"pictures": pictures, "negatives": negatives(pictures, public)}
        kinds["nearest"] = sl.floors.nearest_public(x, public.x)
        figures = {kind: {"mse": mse(p, x), "matched": matched(p, x)} for kind, p in kinds.items()}
        shown, turned = figures["pictures"]["mse"], figures["negatives"]["mse"]
        return {
            "steps": log.steps,
            "cpu_seconds": clock.seconds,
            "n": len(x),
            "rows": as_rows(
                floor={"nearest_public": figures["nearest"]},
                attack={"attack": figures["pictures"], "negatives": figures["negatives"]},
            ),
            "error": shown / figures["nearest"]["mse"],
            "upright": int(shown < turned),
        }

    def split(self) -> sl.data.Split:
        """Return the three parts of the faces."""
        load = sl.settings.LOADERS[self.data]
        return load(size=self.setting.size, channels=self.channels).split(self.seed)

    def client(self, split: sl.data.Split, device: Device) -> sl.Client:
        """Return the client under attack."""
        width = WIDTH if self.channels == 3 else None
        net = nets.tiny.client(channels=self.channels, width=width, seed=self.seed)
        arguments = self.setting.client(seed=self.seed, device=device)
        return sl.Client(net, split.private, **arguments)

    def attack(self, split: sl.data.Split, device: Device) -> Any:
        """Return the server."""
        public = split.public
        options: Any = {"steps": self.steps, "seed": self.seed, "device": device}
        if self.channels == 3:
            code: Any = {"mean": float(public.x.mean()), "std": float(public.x.std())}
            options["pilot"] = nets.SpaceToDepth(PATCH, WIDTH, **code, grey=False)
            options["decoder"] = nets.DepthToSpace(PATCH, 3, **code, grey=False)
        return sl.FSHA.at(self.setting, public, **options)


def negatives(pictures: Tensor, public: sl.ImageData) -> Tensor:
    """Return the negatives of pictures (N, C, H, W), about the mean public image, clamped."""
    return (2 * public.x.mean(0) - pictures).clamp(*public.value_range)
