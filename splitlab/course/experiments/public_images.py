"""The fast hijack with other public images than those of the private kind, and with fewer."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor

import splitlab as sl
from splitlab.course.experiments.base import CpuTime, Device, Keeping
from splitlab.course.experiments.hijacks import Hijack
from splitlab.data import ImageData, foreign
from splitlab.referee.floors import mean_public, nearest_public
from splitlab.referee.metrics import image_metrics, matched, mse
from splitlab.referee.report import as_rows

STEPS = 200  # fewer than chapter 32 takes: they show nearly all that there is to see
FEW_STEPS = 120  # enough to compare levels of a dial
OMNIGLOT = 4840  # drawings in its two small archives
SHOWN = 6  # pictures that a row keeps

# By name, with an amount: images of the private kind, changed.
CHANGES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "thickness": foreign.thickened,
    "slant": foreign.slanted,
    "scale": foreign.scaled,
    "negatives": lambda x, amount: -x,
}
# By name, with a number and a seed: images that have nothing to do with the private ones.
PICTURES: dict[str, Callable[[int, int], ImageData]] = {
    "photographs": lambda n, seed: foreign.photographs(n, sl.tiny.size, seed=seed),
    "strokes": lambda n, seed: foreign.strokes(n, sl.tiny.size, seed=seed),
    "omniglot": lambda n, seed: sl.data.omniglot(sl.tiny.size, n=min(n, OMNIGLOT)),
}


@dataclass(frozen=True)
class PublicImages(Hijack):
    """A hijack by a server whose public images differ from those of the other experiments.

    Attributes:
        missing: A class that they lack, by its name; "" for none.
        few: How many of them there are; None for all.
        change: How they were changed, a name of `CHANGES`, or "".
        amount: By how much.
        foreign: What there is in their place, a name of `PICTURES`, or "".
    """

    missing: str = ""
    few: int | None = None
    change: str = ""
    amount: float = 0.0
    foreign: str = ""

    @property
    def config(self) -> dict[str, Any]:
        """Everything that determines the run."""
        own = {"missing": self.missing, "few": self.few, "change": self.change}
        return super().config | own | {"amount": self.amount, "foreign": self.foreign}

    def split(self) -> sl.data.Split:
        """Return the three parts of the data, the public one as this attacker has it."""
        split = super().split()
        return split._replace(public=self.public(split.public))

    def public(self, related: ImageData) -> ImageData:
        """Return the attacker's images.

        Args:
            related: Those that it would have otherwise, of the private kind.
        """
        if self.foreign:
            return PICTURES[self.foreign](len(related), self.seed)
        if self.missing:
            related = related.without(self.missing)
        if self.few is not None:
            related = foreign.few(related, self.few, self.seed, rows=self.setting.batch_size)
        return foreign.changed(related, self.restyled) if self.change else related

    def restyled(self, x: Tensor) -> Tensor:
        """Return images (N, C, H, W) changed as the public ones were."""
        return CHANGES[self.change](x, self.amount).clamp(-1, 1)

    def measure(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Unpack[Keeping]
    ) -> dict[str, Any]:
        """Train and score, with f in evaluation mode.

        Returns:
            The figures of the reconstructions (`metrics`), of the mean and the nearest of the
            attacker's public images and the nearest of those that were not changed (`floors`), and
            of what its own pilot and decoder make of private images (`ceilings`). Where the public
            images were changed, the figures against private images changed alike
            (`in_its_style`), for the reconstructions, the private images as they are, and the
            nearest of the attacker's. Where none was changed or foreign, the figures of each class,
            with how many images it has (`n`) and the error of the nearest public ones (`classes`).
            What is drawn of the first private images, as text (`drawn`; see `unpacked`).
        """
        clock = CpuTime()
        client, attack, split = self._train(device, [*observers, clock], **keeping)

        def drawn(images: Tensor) -> Tensor:
            return attack.reconstruct(client.smash(images))

        images, score = self.scored(split)
        x = images.x
        pictures = drawn(x)
        nearest = nearest_public(x, split.public.x)
        floors = {"mean_public": mean_public(split.public, len(x)), "nearest_public": nearest}
        if self.change or self.foreign:
            floors["nearest_related"] = nearest_public(x, super().split().public.x)
        row: dict[str, Any] = {
            "steps": client.step,
            "cpu_seconds": clock.seconds,
            "n": len(x),
            "rows": as_rows(
                floor={name: score(floor) for name, floor in floors.items()},
                attack={"attack": score(pictures)},
                ceiling={"own_autoencoder": score(attack.autoencode(x))},
            ),
            "drawn": packed(drawn(split.private.x[:SHOWN])),
        }
        if self.change:
            target = self.restyled(x)
            nearest = nearest_public(target, split.public.x)
            shown = {"reconstructed": pictures, "private": x, "nearest_public": nearest}
            row["in_its_style"] = {name: _errs(images, target) for name, images in shown.items()}
        elif self.classifies and not self.foreign:
            row["classes"] = {
                name: score(pictures[rows], rows)
                | {"n": len(rows), "nearest_public_mse": mse(nearest[rows], x[rows])}
                for name, rows in rows_of_classes(images).items()
            }
        return row

    @property
    def classifies(self) -> bool:
        """Whether a classifier judges the pictures; in short runs it does not, to save time."""
        return self.steps >= STEPS

    def scored(self, split: sl.data.Split) -> tuple[ImageData, Callable[..., dict[str, float]]]:
        """Return the private images that `evaluate` would score, and what scores pictures of them.

        The latter takes pictures, and which of the images they are of (all, by default).
        """
        if self.classifies:
            scorer = sl.Scorer(split.private, split.referee)
            return scorer.images, scorer.score
        n = 1000 if len(split.private) >= 1000 else 500
        images = split.private.subset(n)
        return images, partial(image_metrics, true=images.x, value_range=images.value_range)


def packed(images: Tensor) -> str:
    """Return gray images (n, 1, 16, 16) in [-1, 1] as text, in 256 levels."""
    levels = ((images + 1) * 127.5).round().to(torch.uint8).cpu()
    return base64.b64encode(levels.numpy().tobytes()).decode("ascii")


def unpacked(text: str) -> Tensor:
    """Return the images (n, 1, 16, 16) in [-1, 1] that a row keeps as text."""
    levels = torch.from_numpy(np.frombuffer(base64.b64decode(text), np.uint8).copy())
    return levels.view(-1, 1, sl.tiny.size, sl.tiny.size) / 127.5 - 1


def rows_of_classes(images: ImageData) -> dict[str, Tensor]:
    """Return the row numbers, int64, of the images of each class, by its name."""
    rows = {name: (images.y == k).nonzero().flatten() for k, name in enumerate(images.classes)}
    return {name: numbers for name, numbers in rows.items() if len(numbers)}


def error(run: dict[str, Any]) -> float:
    """Return a row's error, divided by that of the nearest unchanged image of the private kind."""
    rows = run["rows"]
    floor = rows.get("nearest_related", rows["nearest_public"])
    return float(rows["attack"]["mse"] / floor["mse"])


def error_in_its_style(run: dict[str, Any]) -> float:
    """Return a row's error against private images changed as the attacker's own were.

    As a multiple of that of the nearest of the attacker's own; where they were not changed, it is
    the row's `error`.
    """
    style = run.get("in_its_style")
    if style is None:
        return error(run)
    return float(style["reconstructed"]["mse"] / style["nearest_public"]["mse"])


def unseen(run: dict[str, Any]) -> dict[str, float | int]:
    """Return the figures of the class that a row's public images lack."""
    return dict(run["classes"][run["config"]["missing"]])


def error_of_unseen(run: dict[str, Any]) -> float:
    """Return the error of the missing class, divided by the nearest public image's."""
    return unseen(run)["mse"] / unseen(run)["nearest_public_mse"]


def matched_in_its_style(run: dict[str, Any]) -> float:
    """Return the share matched with private images changed as the attacker's own were.

    Where they were not changed, the row's `matched`.
    """
    style = run.get("in_its_style")
    shown = run["rows"]["attack"] if style is None else style["reconstructed"]
    return float(shown["matched"])


def _errs(images: Tensor, target: Tensor) -> dict[str, float]:
    return {"mse": mse(images, target), "matched": matched(images, target)}


def _dial(change: str, *amounts: float) -> dict[str, dict[str, Any]]:
    form = "{} {:g}" if change == "scale" else "{} {:+g}"  # a factor, or so much more
    return {
        form.format(change, a): {"change": change, "amount": a, "steps": FEW_STEPS} for a in amounts
    }


# The kinds of `public_tiny`, in the order in which they are worth most: the whole public part,
# three that lack a class, foreign images and negatives; then, with few steps, fewer images and a
# dial from related to foreign, its far ends first.
STAGES: tuple[dict[str, dict[str, Any]], ...] = (
    {
        "all": {},
        "no 0": {"missing": "0"},
        "no 1": {"missing": "1"},
        "no 7": {"missing": "7"},
        "photographs": {"foreign": "photographs"},
        "strokes": {"foreign": "strokes"},
        "negatives": {"change": "negatives"},
    },
    {
        "all, few steps": {"steps": FEW_STEPS},
        **_dial("thickness", 1.0),
        **_dial("slant", 0.4),
    },
    {**_dial("scale", 0.7), "10 images": {"few": 10, "steps": FEW_STEPS}},
    {**_dial("thickness", -1.0), **_dial("slant", 0.2)},
    {"omniglot": {"foreign": "omniglot", "steps": FEW_STEPS}},
    {"100 images": {"few": 100, "steps": FEW_STEPS}, **_dial("scale", 1.4)},
    {"MNIST": {"data": "mnist"}, "MNIST by omniglot": {"data": "mnist", "foreign": "omniglot"}},
)
KINDS: dict[str, dict[str, Any]] = {
    name: {"steps": STEPS} | options for stage in STAGES for name, options in stage.items()
}
