"""What defenses that blur z cost, and what a colluding client's decoder still reconstructs.

Each defense has four strengths, chosen by the accuracy of honest runs at a seed that is not
recorded: from no cost to one that nobody would pay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Unpack

import torch
from torch import Tensor

import splitlab as sl
from splitlab.course.experiments.alignment import matched_places, rotated_back, sorted_patches
from splitlab.course.experiments.base import CpuTime, Device, Experiment, Keeping
from splitlab.data.pixels import resize
from splitlab.defenses import (
    DPSGD,
    GaussianNoise,
    LabelPermutation,
    LaplaceNoise,
    NoPeek,
    OrthogonalProjection,
    PatchShuffle,
    ResSFL,
    Shredder,
    TopK,
)
from splitlab.nets.evaluation import evaluating
from splitlab.nets.pair_decoder import PairDecoder, fit_linear_decoder, train_decoder
from splitlab.referee.fisher import cramer_rao_bound, dfil_bound, fisher_information
from splitlab.referee.metrics import matched, mse

GAUSSIAN_NORM, LAPLACE_NORM = 8.0, 128.0
ALPHA = 8.0  # NoPeek's, beside noise
SECRET = 1000  # added to the seed: the client's secret is not the attacker's
SCORED, BOUNDED, INVERTED = 500, 64, 100  # private images
ASKED = (1, 2, 5, 10)  # public images of each class
REPEATS = (1, 4, 16, 64)  # messages about one image that an attacker averages
DRAWS = 4  # of the noise, for each public image, when a decoder is fitted
PAIRS = (32, 128, 256, 512)  # of images and z that an attacker knows
BATCHES = (1, 5, 10, 20)  # of z, of unknown images, that an attacker aligns by
RIDGES = (1e-3, 1e-2, 1e-1, 1.0)
PARAMETERS, STEPS, PATIENT = 32_000, 200, 600  # of a decoder network

Make = Callable[[Any, int, int], sl.Defense]  # of strength, seed, and honest steps
DEFENSES: dict[str, Make] = {
    "Gaussian noise": lambda s, seed, n: GaussianNoise(s, norm=GAUSSIAN_NORM),
    "noise and NoPeek": lambda s, seed, n: GaussianNoise(s, norm=GAUSSIAN_NORM),
    "Laplace noise": lambda s, seed, n: LaplaceNoise(s, norm=LAPLACE_NORM),
    "DP-SGD": lambda s, seed, n: DPSGD(s, replace_batch_norm=True),
    "top-k": lambda s, seed, n: TopK(s),
    "projection": lambda s, seed, n: OrthogonalProjection(s, seed=SECRET + seed),
    "shuffle": lambda s, seed, n: PatchShuffle(abs(s), fresh=s < 0, seed=SECRET + seed),
    "Shredder": lambda s, seed, n: Shredder(1.0, after=n // 2, scale=s),
    "ResSFL": lambda s, seed, n: ResSFL(s, bottleneck=2, seed=seed),
    "bottleneck": lambda s, seed, n: ResSFL(0.0, bottleneck=s, seed=seed),
    "label permutation": lambda s, seed, n: LabelPermutation(10, renamed=s, seed=SECRET + seed),
}
# A negative strength of the shuffle: each image gets an order of its own.
STRENGTHS: dict[str, tuple[float, ...]] = {
    "Gaussian noise": (0.25, 0.5, 1.0, 2.0),
    "noise and NoPeek": (0.25, 0.5, 1.0, 2.0),
    "Laplace noise": (0.2, 0.4, 0.8, 1.6),
    "DP-SGD": (0.5, 2.0, 8.0, 32.0),
    "top-k": (128, 32, 8, 2),
    "projection": (512, 128, 32, 8),
    "shuffle": (2, 1, -2, -1),
    "label permutation": (2, 4, 7, 10),
    "Shredder": (0.3, 3.0, 10.0, 30.0),
    "ResSFL": (1.0, 3.0, 10.0, 30.0),
    "bottleneck": (16, 4, 2, 1),  # of 32 channels, without ResSFL's adversary
}
RANDOM = ("Gaussian noise", "noise and NoPeek", "Laplace noise", "Shredder")  # averaging helps
LEARNED = ("none", "ResSFL", "bottleneck", "top-k")  # patience may help


@dataclass(frozen=True)
class Blur(Experiment):
    """Honest training with one defense, and then decoders of equal capacity behind it.

    All are trained on answers of a colluding client, which has the same f. The *static* ones are
    trained as if there were no defense at the cut; the *adaptive* ones know how it works, and not
    what it keeps secret.

    Attributes:
        defense: A name of `DEFENSES`, or "none".
        strength: What the defense is made with.
    """

    defense: str = "none"
    strength: float = 0.0

    @property
    def config(self) -> dict[str, Any]:
        """Everything that determines the run."""
        own = {"defense": self.defense, "strength": self.strength, "ridges": list(RIDGES)}
        return super().config | own

    def defenses(self) -> list[sl.Defense]:
        """Return the client's defenses, made anew."""
        if self.defense == "none":
            return []
        own = [DEFENSES[self.defense](self.strength, self.seed, self.steps)]
        return [*own, NoPeek(ALPHA)] if self.defense == "noise and NoPeek" else own

    def measure(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Unpack[Keeping]
    ) -> dict[str, Any]:
        """Train, attack and score.

        Returns:
            `accuracy` on the referee's part; `cpu_seconds` of the training; `nearest`, the mean
            squared error of the nearest public image; `sent`, how many numbers of an image's z are
            not zero; `epsilon` where the defense has one: of one release and of the run; and
            `static` and `adaptive`: name of a decoder -> {"mse", "matched"} over `SCORED` images;
            for Gaussian noise `bounds`, and for the label permutation what `names` returns.
        """
        split = self.setting.split(self.data, self.seed)
        client, server, clock = self.train(split, device, observers, **keeping)
        x = split.private.subset(SCORED, self.seed).x
        z = client.smash(x).z
        return {
            "steps": client.step,
            "cpu_seconds": round(clock.seconds, 2),
            "accuracy": sl.task_accuracy(client, server, split.referee),
            "nearest": mse(sl.floors.nearest_public(x, split.public.x), x),
            "sent": float((z != 0).flatten(1).sum(1).double().mean()),
            "epsilon": self.epsilon(client),
            "static": self.static(client, split.public, x),
            "adaptive": self.adaptive(client, split, x),
            **self.bounds(client, split.public, x),
            **self.names(client, server, split),
        }

    def train(
        self,
        split: sl.data.Split,
        device: Device = "cpu",
        observers: Sequence[sl.Observer] = (),
        **keeping: Unpack[Keeping],
    ) -> tuple[sl.Client, sl.HonestServer, CpuTime]:
        """Train honestly; return client, server and the clock."""
        setting, seed = self.setting, self.seed
        f, options = setting.client_net(seed=seed), setting.client(seed=seed, device=device)
        client = sl.Client(f, split.private, defenses=self.defenses(), **options)
        s, optimizer = setting.server_net(seed=seed), setting.client_optimizer
        server = sl.HonestServer(s, optimizer=optimizer, seed=seed, device=device)
        clock = CpuTime()
        sl.train([client], server, self.steps, observers=[*observers, clock], **keeping)
        return client, server, clock

    def epsilon(self, client: sl.Client) -> dict[str, float]:
        """Return the defense's epsilons at delta 1e-5, by what they protect; empty without any."""
        defense = client.defenses[0] if client.defenses else None
        if isinstance(defense, GaussianNoise | LaplaceNoise):
            epochs = -(-client.step * client.sampler.batch_size // len(client.data))
            return {"release": defense.epsilon(), "run": defense.epsilon(epochs)}
        return {"weights": defense.epsilon()} if isinstance(defense, DPSGD) else {}

    def bounds(self, client: sl.Client, public: sl.ImageData, x: Tensor) -> dict[str, Any]:
        """Return lower bounds on an unbiased attacker's error, and a linear decoder's error.

        Returns:
            For Gaussian noise `bounds`: "8x8" and "16x16", the coordinates of an image, -> means
            over `BOUNDED` images: `dfil` and `cramer_rao`, the bounds, and the mean squared errors
            of the linear decoder (`attack`) and of the mean public image (`mean`), in the same
            coordinates; empty for other defenses.
        """
        defense = client.defenses[0] if client.defenses else None
        if not isinstance(defense, GaussianNoise):
            return {}
        x = x[:BOUNDED]
        z = client.smash(x).z
        drawn = linear(client.smash(public.x).z, public.x, z, x).images(z)
        mean = public.x.mean(0, keepdim=True).expand_as(x)
        enlarge = resize(torch.eye(64).view(64, 1, 8, 8), 16).flatten(1)  # (64, 256)
        found = {}
        for name, basis in (("8x8", enlarge), ("16x16", torch.eye(256))):
            reduce = torch.linalg.pinv(basis)
            u, attack, aside = (one.flatten(1) @ reduce for one in (x, drawn, mean))

            def encode(u: Tensor, basis: Tensor = basis) -> Tensor:
                return defense.clipped(client.net((u @ basis).view(-1, *x.shape[1:])))

            with evaluating(client.net):
                information = fisher_information(encode, u, scale=defense.scale)
            found[name] = {
                "dfil": float(dfil_bound(information).mean()),
                "cramer_rao": float(cramer_rao_bound(information).mean()),
                "attack": float((attack - u).square().mean()),
                "mean": float((aside - u).square().mean()),
            }
        return {"bounds": found}

    def names(
        self, client: sl.Client, server: sl.HonestServer, split: sl.data.Split
    ) -> dict[str, Any]:
        """Infer the permuted class names, and attack with and without them.

        Returns:
            For a label permutation `names`: number of public images of each class that the attacker
            asks the oracle about -> share of the classes that it names rightly, by a vote; and
            `query_free`: the figures of the query-free inversion, "static" with the classes' own
            numbers, and "adaptive" with the names found by the longest list. Empty for other
            defenses.
        """
        defense = client.defenses[0] if client.defenses else None
        if not isinstance(defense, LabelPermutation):
            return {}
        public = split.public
        votes = server.output(client.smash(public.x)).argmax(1)
        found = {
            n: torch.tensor([int(votes[public.y == c][:n].mode().values) for c in range(10)])
            for n in ASKED
        }
        shares = {str(n): float((f == defense.names).double().mean()) for n, f in found.items()}
        x = split.private.subset(SCORED, self.seed).x
        figures = {}
        for name, names in (("static", torch.arange(10)), ("adaptive", found[ASKED[-1]])):
            s = self.setting.server_net(seed=self.seed + SECRET)
            s.load_state_dict(server.net.state_dict())
            attack = sl.QueryFreeInversion(
                s,
                public=replace(public, y=names[public.y]),
                surrogate=self.setting.client_net(seed=self.seed + SECRET),
                seed=self.seed,
            )
            attack.prepare()
            drawn = attack.reconstruct(client.smash(x[:INVERTED]))
            figures[name] = _figures(drawn, x[:INVERTED])
        return {"names": shares, "query_free": figures}

    def static(self, client: sl.Client, public: sl.ImageData, x: Tensor) -> dict[str, Any]:
        """Decode images x as an attacker does who knows of no defense at the cut."""
        plain, z = undefended(client, public.x), client.smash(x).z
        return {
            "linear, least ridge": _figures(linear(plain, public.x).images(z), x),
            "linear": _figures(linear(plain, public.x, z, x).images(z), x),
            "network": _figures(network(plain, public.x, self.seed).images(z), x),
        }

    def adaptive(self, client: sl.Client, split: sl.data.Split, x: Tensor) -> dict[str, Any]:
        """Decode images x as attackers do who know the defense."""
        if self.defense in ("projection", "shuffle"):  # pairs of the same secret are not theirs
            return {n: _figures(images, x) for n, images in self.undone(client, split, x).items()}
        public, seed = split.public.x, self.seed
        pairs, z = client.smash(public).z, client.smash(x).z
        found = {
            "linear": linear(pairs, public, z, x).images(z),
            "network": network(pairs, public, seed).images(z),
        }
        if self.defense in LEARNED:
            found["patient network"] = network(pairs, public, seed, steps=PATIENT).images(z)
        if self.defense in RANDOM:
            for k in REPEATS:
                several = public.repeat(DRAWS, 1, 1, 1)
                known, read = averaged(client, several, k), averaged(client, x, k)
                decoder = linear(known, several, read, x)
                found[f"linear, {k} repeats"] = decoder.images(read)
        return {name: _figures(images, x) for name, images in found.items()}

    def undone(self, client: sl.Client, split: sl.data.Split, x: Tensor) -> dict[str, Tensor]:
        """Undo a secret transform, and decode with what was learned without it."""
        public, z = split.public.x, client.smash(x).z
        plain = undefended(client, public)
        decoder = linear(plain, public)
        if self.defense == "projection":
            known = client.smash(public).z
            found = {}
            for n in PAIRS:
                back = rotated_back(known[:n], plain[:n], z)
                found[f"{n} pairs, rotated back"] = decoder.images(back)
                found[f"{n} pairs, linear"] = linear(known[:n], public[:n], z, x).images(z)
            return found
        if self.strength < 0:
            patch = int(abs(self.strength))
            return {"patches sorted": decoder.images(sorted_patches(z, plain, patch))}
        size, sent = client.sampler.batch_size, client.smash(split.private.x).z
        orders = {n: matched_places(sent[: n * size], plain) for n in BATCHES}
        return {
            f"{n} batches aligned": decoder.images(z.flatten(2)[:, :, order].view_as(z))
            for n, order in orders.items()
        }


def undefended(client: sl.Client, x: Tensor) -> Tensor:
    """Return f(x), (N, ...), without the client's defenses."""
    defenses, client.defenses = client.defenses, []
    try:
        return client.smash(x).z
    finally:
        client.defenses = defenses


def averaged(client: sl.Client, x: Tensor, repeats: int) -> Tensor:
    """Return the mean z, (N, ...), of several messages about each image."""
    z = client.smash(x.repeat_interleave(repeats, 0)).z
    return z.view(len(x), repeats, *z.shape[1:]).mean(1)


def linear(
    z: Tensor, x: Tensor, tried: Tensor | None = None, truth: Tensor | None = None
) -> PairDecoder:
    """Fit a linear decoder to pairs; where private ones are given, with the best of four ridges."""
    ridges = RIDGES[:1] if tried is None else RIDGES
    fitted = [fit_linear_decoder(z, x, value_range=(-1, 1), ridge=ridge) for ridge in ridges]
    if tried is None or truth is None:
        return fitted[0]
    return min(fitted, key=lambda decoder: mse(decoder.images(tried), truth))


def network(z: Tensor, x: Tensor, seed: int, *, steps: int = STEPS) -> PairDecoder:
    """Train a decoder network on pairs."""
    about: dict[str, Any] = {"value_range": (-1, 1), "parameters": PARAMETERS}
    return train_decoder(z, x, steps=steps, seed=seed, **about)


def _figures(images: Tensor, x: Tensor) -> dict[str, float]:
    return {"mse": mse(images, x), "matched": matched(images, x)}


# Every defense at every strength, and what has no defense. DP-SGD at 0 only clips, with GroupNorm.
CHOSEN: dict[str, tuple[str, float]] = {
    "none": ("none", 0.0),
    "Gaussian noise 0.5": ("Gaussian noise", 0.5),
    "Gaussian noise 1": ("Gaussian noise", 1.0),
    "DP-SGD 2": ("DP-SGD", 2.0),
    "top-k 128": ("top-k", 128),
    "projection 512": ("projection", 512),
    "shuffle 1": ("shuffle", 1),
}
SCREENED: dict[str, tuple[str, float]] = {
    "DP-SGD 0": ("DP-SGD", 0.0),
    **{
        f"{name} {strength:g}": (name, strength)
        for name, strengths in STRENGTHS.items()
        for strength in strengths
        if f"{name} {strength:g}" not in CHOSEN
    },
}
