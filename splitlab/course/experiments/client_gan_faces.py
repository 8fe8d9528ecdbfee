"""The client-side GAN on faces: drawn ones, and photographs where a class is one person."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch

import splitlab as sl
from splitlab.course.experiments.client_gan import ClientGANRun, distance
from splitlab.data.orl import PEOPLE
from splitlab.data.orl import PER_PERSON as PHOTOGRAPHS

# The kinds of faces in `client_gan_tiny`, and their rounds.
CLIENT_GAN_FACES: dict[str, dict[str, Any]] = {
    "drawn faces": {"data": "drawn_faces", "label": "dark_hair", "target": 1, "steps": 1000},
    "one person": {"data": "orl_faces", "label": "person", "steps": 3000},
}
SHARES = (5, 2, 3)  # of a person's ten photographs: private, public and referee


@dataclass(frozen=True)
class ClientGANFaces(ClientGANRun):
    """The attack on drawn faces (`data="drawn_faces"`) or on photographs ("orl_faces").

    Attributes:
        label: What the classes are: an attribute of drawn faces, or "person". Where a class is a
            person, all parts have the same people and no photograph in common, and the target is
            the person with the seed's number (modulo 40), whatever `target` is.
    """

    label: str = ""

    def __post_init__(self) -> None:
        if self.label == "person":
            object.__setattr__(self, "target", self.seed % PEOPLE)

    @property
    def config(self) -> dict[str, Any]:
        """Everything that determines the run."""
        return super().config | {"label": self.label}

    def split(self) -> sl.data.Split:
        """Return the three parts of the faces."""
        load = sl.settings.LOADERS[self.data]
        whole = load(size=self.setting.size, channels=1)
        if self.label == "person":
            number = whole.row % PHOTOGRAPHS
            whole = dataclasses.replace(whole, block=number, shares=SHARES)
        else:
            whole = whole.labelled(self.label)
        return whole.split(self.seed)

    def scores(self, attack: sl.ClientGAN, split: sl.data.Split) -> dict[str, Any]:
        """Return what `ClientGANRun.scores` does, and `among_own` where a class is a person."""
        scores = super().scores(attack, split)
        return scores | ({"among_own": among_own(attack, split)} if self.label == "person" else {})


def among_own(attack: sl.ClientGAN, split: sl.data.Split) -> dict[str, Any]:
    """Return distances to the nearest photograph of the target among two groups of equal size.

    The groups are the "clients" photographs, and the "others" of the same person, on which nobody
    trained.

    Returns:
        By group, the mean MSE of the "generated" pictures, of the "mean" of the clients'
        photographs, and of the "others" themselves (to those of the clients alone); and "nearest":
        how many of the clients' photographs are nearest to some picture.
    """
    made = attack.generate(500)
    private, *rest = (part.x[part.y == attack.target].to(made.device) for part in split)
    groups = {"clients": private, "others": torch.cat(rest)}
    assert len(groups["others"]) == len(private)
    pictures = {"generated": made, "mean": private.mean(0, keepdim=True)}
    found: dict[str, Any] = {
        name: {group: distance(x, real) for group, real in groups.items()}
        for name, x in pictures.items()
    }
    found["others"] = {"clients": distance(groups["others"], private)}
    apart = torch.cdist(made.flatten(1), private.flatten(1))
    return found | {"nearest": len(apart.argmin(1).unique())}
