"""Hijacks of a client whose defense blurs z: static, and by a server that knows the defense."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

import splitlab as sl
from splitlab.core.randomness import with_own_randomness
from splitlab.course.experiments.alignment import matched_places, rotated_back
from splitlab.course.experiments.base import Device
from splitlab.course.experiments.blurs import (
    CHOSEN,
    DEFENSES,
    RANDOM,
    REPEATS,
    RIDGES,
    SCREENED,
    averaged,
    linear,
    undefended,
)
from splitlab.course.experiments.hijack_settings import HijackSetting
from splitlab.course.experiments.public_images import SHOWN, packed
from splitlab.defenses import TopK
from splitlab.defenses.noise import ClippedNoise
from splitlab.nets import tiny
from splitlab.nets.blocks import seeded
from splitlab.referee.metrics import matched, mse

REHEARSALS = 300  # public batches, before the client is met
SCORED = 500
OTHER_WEIGHTS = 2000  # added to the seed: a network with the client's layers and other weights


class Through(nn.Module):
    """A pilot whose codes pass through the client's defense, without its secrets.

    Args:
        pilot: x -> z.
        blur: z -> what would be sent.
    """

    def __init__(self, pilot: nn.Module, blur: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.pilot, self.blur = pilot, blur

    def forward(self, x: Tensor) -> Tensor:
        """Return the blurred codes of images x."""
        return self.blur(self.pilot(x))


class UndoingFSHA(sl.FSHA):
    """A hijack that estimates and undoes a secret orthogonal transform of z.

    It turns every z back before it looks at it, and every gradient forth again. With `watch` it
    answers with zeros at first, which leave f as it was made, and then matches the places of z to
    those of a network of its own, with the same layers and other weights.

    Attributes:
        back: What turns z back, orthogonal, (n, n), for z with n numbers; None until it is known.
        watched: Steps in which it only watches.
        own: A network as the attacker imagines f.
    """

    STATE = ("seen", "back")
    back: Tensor | None = None
    watched: int = 0
    own: nn.Module | None = None
    seen: tuple[Tensor, ...] = ()

    def watch(self, steps: int, own: nn.Module) -> None:
        """Infer the order of the places of z in the first steps."""
        self.watched, self.own = steps, own.to(self.device)

    @with_own_randomness
    def reply(self, message: sl.SmashedData) -> sl.Gradient:
        """Watch, or hijack z turned back."""
        if self.back is None:
            self.seen = (*self.seen, message.z)
            if len(self.seen) == self.watched:
                self.back, self.seen = self._order(torch.cat(self.seen)), ()
            return self.gradient(message, torch.zeros_like(message.z))
        answer = super().reply(self.turned(message))
        dz = answer.dz.flatten(1) @ self.back.to(answer.dz).T
        return self.gradient(message, dz.view_as(message.z))

    def turned(self, message: sl.SmashedData) -> sl.SmashedData:
        """Return the message with z turned back."""
        assert self.back is not None
        z = (message.z.flatten(1) @ self.back.to(message.z)).view_as(message.z)
        return sl.SmashedData(z=z, sender=message.sender, step=message.step, to=message.to)

    def reconstruct(self, message: sl.SmashedData) -> Tensor:
        """Decode z turned back."""
        return super().reconstruct(self.turned(message))

    def _order(self, sent: Tensor) -> Tensor:
        """The matrix that puts the places of z where they belong."""
        assert self.own is not None
        with torch.no_grad():
            own = torch.cat([self.own(x) for x in self.public.x.split(32)])
        order = matched_places(sent, own)
        n = sent[0].numel()
        rows = torch.arange(n).view(sent[0].flatten(1).shape)[:, order].flatten()
        return torch.eye(n)[rows].T.to(sent)


@seeded
def narrow(channels: int, *, seed: int = 0) -> nn.Sequential:
    """Return layers that pass z, (32, H, W), through this number of channels."""
    return nn.Sequential(nn.Conv2d(32, channels, 1), nn.Conv2d(channels, 32, 1))


def _within(projection: Tensor, z: Tensor) -> Tensor:
    return (z.flatten(1) @ projection.to(z)).view_as(z)


@dataclass(frozen=True)
class BlurHijack(HijackSetting):
    """A hijack of a client with one defense of `blurs.DEFENSES`.

    Attributes:
        defense: A name, or "none".
        strength: What the defense is made with.
        adaptive: What the attacker does about it: "through" blurs the pilot's codes as the client
            does, and learns a decoder of such codes; "align" undoes a shuffle; "pairs" undoes a
            projection, whose results it knows for some public images under f's first weights, as a
            client with the same secret would tell; "narrow" has a pilot as narrow as f.
        known: Steps that "align" watches, pairs that "pairs" knows, or channels of "narrow".
    """

    defense: str = "none"
    strength: float = 0.0
    adaptive: Literal["", "through", "align", "pairs", "narrow"] = ""
    known: int = 0

    @property
    def config(self) -> dict[str, Any]:
        """Everything that determines the run."""
        return super().config | ({} if self.adaptive else {"ridges": list(RIDGES)})

    def defenses(self) -> list[sl.Defense]:
        """Return the client's defenses, made anew; the first one is the alarm."""
        made = super().defenses()
        if self.defense != "none":
            made.append(DEFENSES[self.defense](self.strength, self.seed, self.steps))
        return made

    def attack(self, split: sl.data.Split, device: Device) -> Any:
        """Return the server."""
        plain = super().attack(split, device)
        if not self.adaptive:
            return plain
        options: dict[str, Any] = {"design": self.design, "seed": self.seed, "device": device}
        options |= {"steps": self.steps, "gradient_scale": self.schedule()}
        learned: dict[str, Any] = {"decoder": tiny.decoder(seed=self.seed)}
        if self.adaptive == "align":
            attack = UndoingFSHA.at(self.setting, split.public, **options)
            attack.watch(self.known, self.setting.client_net(seed=self.seed + OTHER_WEIGHTS))
            return attack
        if self.adaptive == "pairs":
            back, seen = self._rotation_back(split.public.x[: self.known])
            if seen is not None:  # less than z: the pilot keeps to what comes through
                options |= {"pilot": Through(plain.pilot, partial(_within, seen))} | learned
            attack = UndoingFSHA.at(self.setting, split.public, **options)
            attack.back = back.to(attack.device)
            return self._rehearsed(attack)
        if self.adaptive == "narrow":
            pilot: nn.Module = nn.Sequential(plain.pilot, *narrow(self.known, seed=self.seed))
        else:
            defense = DEFENSES[self.defense](self.strength, 0, self.steps)
            assert isinstance(defense, ClippedNoise | TopK)
            blur = defense.noisy if isinstance(defense, ClippedNoise) else defense.pruned
            pilot = Through(plain.pilot, blur)
        options |= {"pilot": pilot} | learned
        return self._rehearsed(sl.FSHA.at(self.setting, split.public, **options))

    def _rehearsed(self, attack: sl.FSHA) -> sl.FSHA:
        """Train what the attack can train before it meets the client."""
        with attack.randomness.lent():
            for _ in range(REHEARSALS):
                attack.rehearse()
        return attack

    def _rotation_back(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The inverse transform, (n, n), estimated from pairs; and the part of z that is sent.

        The second is a projection on the directions that are sent, (n, n); None if all are sent.
        """
        client = self.client(self.split(), "cpu")
        plain, sent = undefended(client, x), client.smash(x).z
        n = plain[0].numel()
        back = rotated_back(sent, plain, torch.eye(n).view(n, *plain.shape[1:])).flatten(1)
        used = sent.flatten(1).abs().sum(0) > 0
        return back, None if used.all() else back[used].T @ back[used]

    def further(self, client: sl.Client, attack: Any, split: sl.data.Split) -> dict[str, Any]:
        """Return how well the attacker decodes in further ways, knowing the defense.

        Returns:
            `nearest`, the mean squared error of the nearest public image; and `drawn`, what the
            best reading shows of the first of these images (see `public_images.unpacked`), and
            `readings`: name of a reading -> {"mse", "matched"} over `SCORED` images. A reading
            averages several messages about each image, and decodes by the attack's own decoder, or
            by a linear one that is fitted to the pilot's codes of public images.
        """
        x = split.private.subset(SCORED, self.seed).x
        found: dict[str, Tensor] = {}
        repeats = REPEATS if self.defense in RANDOM else (1,)
        for k in repeats if self.adaptive == "through" else (1,):
            z = averaged(client, x, k)
            message = sl.SmashedData(z=z, sender=client.name, step=client.step)
            found[f"own decoder, {k} repeats"] = attack.reconstruct(message)
            if self.adaptive in ("", "through"):
                several = split.public.x.repeat(4, 1, 1, 1)
                with torch.no_grad(), attack.randomness.lent(keep=False):
                    codes = attack.pilot(several.repeat_interleave(k, 0).to(z.device))
                codes = codes.view(len(several), k, *z.shape[1:]).mean(1)
                found[f"linear decoder, {k} repeats"] = linear(codes, several, z, x).images(z)
        best = min(found.values(), key=lambda images: mse(images, x))
        return {
            "readings": {
                name: {"mse": mse(images, x), "matched": matched(images, x)}
                for name, images in found.items()
            },
            "drawn": packed(best[:SHOWN]),
            "nearest": mse(sl.floors.nearest_public(x, split.public.x), x),
        }


def _kind(name: str, **more: Any) -> dict[str, Any]:
    defense, strength = (CHOSEN | SCREENED)[name]
    return {"defense": defense, "strength": strength} | more


# What an attacker does about each defense; `PATIENCE` where there is nothing but to wait.
PATIENCE: dict[str, Any] = {"steps": 600}
THROUGH: dict[str, Any] = {"adaptive": "through"}
ALIGNED: dict[str, Any] = {"adaptive": "align", "known": 5}
PAIRED: dict[str, Any] = {"adaptive": "pairs", "known": 512}
NARROW: dict[str, Any] = {"adaptive": "narrow", "known": 2}
ANSWERS: dict[str, dict[str, Any]] = {
    "Gaussian noise 0.5": THROUGH,
    "Gaussian noise 1": THROUGH,
    "DP-SGD 2": PATIENCE,
    "top-k 128": THROUGH,
    "projection 512": PAIRED,
    "shuffle 1": ALIGNED,
}
PAPER: dict[str, Any] = {"design": "paper", "steps": 900}
STATIC = {f"static, {name}": _kind(name) for name in CHOSEN}
ADAPTIVE = {f"adaptive, {name}": _kind(name, **answer) for name, answer in ANSWERS.items()}
PAPERS = {
    "paper, static, none": _kind("none", **PAPER),
    **{f"paper, static, {n}": _kind(n, **PAPER) for n in ("Gaussian noise 0.5", "DP-SGD 2")},
    **{
        f"paper, adaptive, {n}": _kind(n, **a | PAPER)
        for n, a in ANSWERS.items()
        if n != "DP-SGD 2"
    },
}
CONFIRMED = STATIC | ADAPTIVE | PAPERS
_HIJACKED = {
    name: made
    for name, made in SCREENED.items()
    if made[0] not in ("label permutation", "Shredder", "noise and NoPeek")  # see `blur_frontier`
}
_THROUGH = {n: made for n, made in _HIJACKED.items() if "noise" in n or "top-k" in n}
_WAIT = {n: made for n, made in _HIJACKED.items() if "DP-SGD" in n}
FURTHER = {
    **{f"static, {n}": _kind(n) for n in _HIJACKED},
    **{f"adaptive, {n}": _kind(n, **THROUGH) for n in _THROUGH},
    **{f"adaptive, {n}": _kind(n, **PATIENCE) for n in _WAIT},
    **{f"adaptive, {n}": _kind(n, **NARROW | PAPER) for n in _HIJACKED if "ResSFL" in n},
    **{
        f"adaptive, bottleneck {k}": _kind(f"bottleneck {k}", **NARROW | PAPER | {"known": k})
        for k in (16, 4, 2, 1)
    },
    "adaptive, shuffle 2": _kind("shuffle 2", **ALIGNED),
    **{f"adaptive, projection {k}": _kind(f"projection {k}", **PAIRED) for k in (128, 32, 8)},
    # Sweeps.
    **{
        f"watched {n}, shuffle 1": _kind("shuffle 1", **ALIGNED | {"known": n}) for n in (1, 10, 20)
    },
    **{
        f"{n} pairs, projection 512": _kind("projection 512", **PAIRED | {"known": n})
        for n in (32, 128, 256)
    },
    **{f"factor {f:g}, DP-SGD 8": _kind("DP-SGD 8", factor=f) for f in (10.0, 100.0, 1000.0)},
    **{
        f"{n} steps, top-k {k}": _kind(f"top-k {k}", **THROUGH, steps=n)
        for n in (400, 600)
        for k in (128, 32)
    },
    **{f"{n} steps, ResSFL 10": _kind("ResSFL 10", **NARROW, steps=n) for n in (200, 400, 600)},
    "static, label permutation 10": _kind("label permutation 10"),
}
