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

# The kinds of `faces_tiny`. With "the sign rule" the server looks after two fifths of the steps.
FACES_KINDS: dict[str, dict[str, Any]] = {
    "grey": {},
    "grey, sign rule": {"rule": True},
    "colour": {"channels": 3},
    "ORL, grey": {"data": "orl_faces"},
    "ORL, grey, sign rule": {"data": "orl_faces", "rule": True},
}
SCORED = 1000  # private images, where there are so many
LOOK = 0.4  # of the steps
PATCH, WIDTH = 4, 48  # a patch of three channels needs so many channels of z


@dataclass(frozen=True)
class Faces(Hijack):
    """The fast hijack of faces, in grey or in colour, and of the pictures' negatives.

    They are drawn, or photographs of forty people (`data="orl_faces"`, which are grey).
    In colour z has more channels than the tiny client's: a patch of the image would not fit into
    them.

    Attributes:
        channels: 1 for grey, 3 for colour.
        rule: Whether the server looks for negatives, and turns them over.
    """

    channels: int = 1
    rule: bool = False

    @property
    def config(self) -> dict[str, Any]:
        """What the run is a function of."""
        return super().config | {"channels": self.channels, "rule": self.rule}

    def measure(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Unpack[Keeping]
    ) -> dict[str, Any]:
        """Train and score.

        Returns:
            `metrics`: mean squared error and matched, 1 of `n_match`, of the pictures; `negatives`:
            the same of their negatives; `floors`; `error`, in parts of the nearest public images';
            `upright`, 1 where the pictures err less than their negatives, else 0; `agreement`,
            the rule's figure at the end, for all private images; `sign`, -1 where the server has
            turned its pictures over; `steps` and `cpu_seconds`.
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
            "agreement": sl.attacks.signed.skewness_agreement(pictures, public.x),
            "sign": getattr(attack, "sign", 1),
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
        hijack = sl.FSHA.at(self.setting, public, **options)
        if self.rule:
            return sl.SignedFSHA(hijack, look_at=round(LOOK * self.steps))
        return hijack


def negatives(pictures: Tensor, public: sl.ImageData) -> Tensor:
    """Return pictures (N, C, H, W) light for dark: mirrored at the mean public image, clamped."""
    return (2 * public.x.mean(0) - pictures).clamp(*public.value_range)
