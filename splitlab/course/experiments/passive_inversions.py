"""What an honest client's smashed data reveal, at three levels of knowledge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import torch
from torch import Tensor

import splitlab as sl
from splitlab.course.experiments.base import CpuTime, Device, Experiment, Keeping
from splitlab.nets.blocks import parameter_count
from splitlab.nets.pair_decoder import fit_linear_decoder
from splitlab.referee.report import as_rows

Inversions = dict[str, sl.WhiteBoxInversion | sl.BlackBoxInversion | sl.QueryFreeInversion]

DECODER_PARAMETERS = 32_000  # about as many at every cut and width
LONGER_STEPS = 600  # three times the descent's own
OTHER_WEIGHTS = 1000  # added to the seed: the attacker's own first weights are not the client's


@dataclass(frozen=True)
class PassiveInversions(Experiment):
    """Honest training, and then the three inversions of the same smashed data.

    Attributes:
        cut: Where the network is split; None for the profile's cut.
        width: Channels of z; None for the cut's own. Tiny networks alone can be narrow.
        images: How many private images to reconstruct, of the 500 or 1000 to match among.
        frozen: Whether f stays as it was made, and s alone learns.
        longer: Whether the white-box attack also runs for three times the steps.
    """

    cut: int | None = None
    width: int | None = None
    images: int = 100
    frozen: bool = False
    longer: bool = False

    @property
    def config(self) -> dict[str, Any]:
        """Everything that determines the run."""
        own = {"cut": self.cut or self.setting.cut, "width": self.width, "images": self.images}
        own["decoder_parameters"] = DECODER_PARAMETERS
        own |= {"longer_steps": LONGER_STEPS} if self.longer else {}
        return super().config | own | ({"client_rate": 0.0} if self.frozen else {})

    def measure(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Unpack[Keeping]
    ) -> dict[str, Any]:
        """Train, attack and score.

        Returns:
            `accuracy` of client and server on the referee's part; the numbers in one image's z
            (`numbers`) and in x (`pixels`); how many parameters the black-box attack's decoder has
            (`decoder_parameters`); `rows` with the figures of the attacks, floors and a ceiling
            ("linear" is the black-box attack with a linear decoder, and "true_pairs" a linear
            decoder fitted to private images that are not scored); how often the real images are
            recognized (`further`); `n_match`, the number of candidates when matching; and the
            `cpu_seconds` of the training.
        """
        split = self.setting.split(self.data, self.seed)
        client, server, clock = self.train(split, device, observers, **keeping)
        attacks = self.granted(server, split.public, client, longer=self.longer)
        scorer = sl.Scorer(client.data, split.referee, seed=self.seed)
        rows = torch.arange(min(self.images, len(scorer.images)), device=client.device)
        x, y = scorer.images.x[rows], scorer.images.y[rows]

        message = client.smash(x)
        z = message.z
        floors = {
            "mean_public": sl.floors.mean_public(split.public, len(x)),
            "class_mean_public": sl.floors.class_mean_public(split.public, y),
            "nearest_public": sl.floors.nearest_public(x, split.public.x),
            "pca_public": sl.floors.pca_public(x, split.public.x, z[0].numel()),
        }
        reached = {n: scorer.score(a.reconstruct(message), rows) for n, a in attacks.items()}
        public = linear_pictures(client, split.public, z)
        reached["linear"] = scorer.score(public, rows)
        true = linear_pictures(client, client.data.select(scorer.order[len(z) :]), z)
        black_box = attacks["black_box"]
        assert isinstance(black_box, sl.BlackBoxInversion) and black_box.decoder is not None
        return {
            "steps": client.step,
            "cpu_seconds": clock.seconds,
            "accuracy": sl.task_accuracy(client, server, split.referee),
            "numbers": z[0].numel(),
            "decoder_parameters": parameter_count(black_box.decoder),
            "pixels": x[0].numel(),
            "n_match": len(scorer.images),
            "rows": as_rows(
                floor={name: scorer.score(images, rows) for name, images in floors.items()},
                attack=reached,
                ceiling={"true_pairs": scorer.score(true, rows)},
            ),
            "further": scorer.real(),
            **self.about(client, attacks, split),
        }

    def about(self, client: sl.Client, attacks: Inversions, split: sl.data.Split) -> dict[str, Any]:
        """Return additional figures of a kind of run; none here."""
        return {}

    def defenses(self) -> list[sl.Defense]:
        """Return the client's defenses, made anew; none here."""
        return []

    def train(
        self,
        split: sl.data.Split,
        device: Device = "cpu",
        observers: Sequence[sl.Observer] = (),
        **keeping: Unpack[Keeping],
    ) -> tuple[sl.Client, sl.HonestServer, CpuTime]:
        """Train honestly; return client, server and the clock."""
        f, s = self.networks(self.seed, len(split.private.classes))
        rate = 0.0 if self.frozen else None
        options = self.setting.client(seed=self.seed, rate=rate, device=device)
        client = sl.Client(f, split.private, defenses=self.defenses(), **options)
        server = sl.HonestServer(
            s, optimizer=self.setting.client_optimizer, seed=self.seed, device=device
        )
        clock = CpuTime()
        sl.train([client], server, self.steps, observers=[*observers, clock], **keeping)
        return client, server, clock

    def networks(self, seed: int, classes: int) -> tuple[torch.nn.Module, torch.nn.Module]:
        """Return f and s of this cut and width, untrained."""
        cut = self.cut or self.setting.cut
        if self.width is None:
            f = self.setting.client_net(cut=cut, seed=seed)
            return f, self.setting.server_net(cut=cut, classes=classes, seed=seed)
        options: Any = {"cut": cut, "width": self.width, "seed": seed}
        nets: Any = self.setting.nets
        return nets.client(**options), nets.server(**options, classes=classes)

    def granted(
        self,
        server: sl.HonestServer,
        public: sl.ImageData,
        client: sl.Client,
        *,
        longer: bool = False,
    ) -> Inversions:
        """Return the attacks behind the trained server, each with the knowledge it is granted.

        Args:
            server: The honest server, after training.
            public: The attacker's images.
            client: The client that grants.
            longer: As in `attacks`.
        """
        made = self.attacks(server, public, client.device, longer=longer)
        return {name: sl.grant(attack, client) for name, attack in made.items()}

    def attacks(
        self,
        server: sl.HonestServer,
        public: sl.ImageData,
        device: Device,
        *,
        longer: bool = False,
    ) -> Inversions:
        """Return the attacks behind the trained server, before they are granted anything.

        Args:
            server: The honest server, after training.
            public: The attacker's images.
            device: Where they compute.
            longer: Whether to add "white_box_longer", which takes more steps.
        """
        classes = len(public.classes)
        own: Any = {"public": public, "seed": self.seed, "device": device}
        weights = server.net.state_dict()
        other = self.seed + OTHER_WEIGHTS

        def s() -> torch.nn.Module:
            net = self.networks(other, classes)[1]
            net.load_state_dict(weights)
            return net

        def white_box(**more: Any) -> sl.WhiteBoxInversion:
            return sl.WhiteBoxInversion(s(), f=self.networks(other, classes)[0], **own, **more)

        attacks: Inversions = {
            "query_free": sl.QueryFreeInversion(
                s(), surrogate=self.networks(other, classes)[0], **own
            ),
            "black_box": sl.BlackBoxInversion(s(), parameters=DECODER_PARAMETERS, **own),
            "white_box": white_box(),
        }
        if longer:
            attacks["white_box_longer"] = white_box(steps=LONGER_STEPS)
        return attacks

    def drawn(self, split: sl.data.Split, x: Tensor, device: Device = "cpu") -> dict[str, Tensor]:
        """Train honestly, attack, and return each attack's pictures of private images x, (n, ...).

        The images themselves are there, too, as "private".
        """
        client, server, _ = self.train(split, device)
        attacks = self.granted(server, split.public, client)
        message = client.smash(x)
        drawn = {name: attack.reconstruct(message).cpu() for name, attack in attacks.items()}
        return {"private": x.cpu()} | drawn


def linear_pictures(client: sl.Client, known: sl.ImageData, z: Tensor) -> Tensor:
    """Decode z with a linear decoder fitted to known images and the client's answers."""
    pairs = client.smash(known.x).z, known.x.to(z.device)
    return fit_linear_decoder(*pairs, value_range=known.value_range).images(z)
