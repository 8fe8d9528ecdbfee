"""Why the hijack reconstructs the right image: clients and data that differ in one thing each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, ClassVar, Self, Unpack

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot
from torch.optim import Adam

import splitlab as sl
from splitlab.attacks.critic import LOSSES, Critic, gradient_penalty, mixed
from splitlab.core.messages import Gradient, SmashedData
from splitlab.core.threat import ThreatModel
from splitlab.course.experiments.base import CpuTime, Device, Keeping
from splitlab.course.experiments.hijacks import Hijack
from splitlab.course.experiments.success_signals import LastMessages, signals
from splitlab.data.base import NOT_KNOWN
from splitlab.data.gaussian import gaussian_like, white_noise
from splitlab.nets.blocks import seeded
from splitlab.referee.classifiers import CNNClassifier, train_cnn_classifier
from splitlab.referee.report import Scores, as_rows

CLIENTS = {
    "convolutional": sl.nets.tiny.client,
    "patches": sl.nets.tiny.patch_client,
    # As many weights as the dense client has: 197,912 and 197,888.
    "patches, many units": partial(sl.nets.tiny.patch_client, units=3880),
    "patches, own weights": partial(sl.nets.tiny.patch_client, shared=False),
    "dense, starts as patches": partial(sl.nets.tiny.dense_client, as_patches=True),
    "dense": sl.nets.tiny.dense_client,
    "shuffled": sl.nets.tiny.shuffled_client,
}
LOOK_AT = 16  # images over which `locality` averages

# The kinds of `why_tiny`; the default is the fast design against the convolutional client.
GAUSSIAN: dict[str, Any] = {"data": "gaussian", "steps": 150}
PAPER: dict[str, Any] = {"design": "paper", "steps": 300}
KINDS: dict[str, dict[str, Any]] = {
    "convolutional": {},
    "patches": {"f": "patches"},
    "patches, many units": {"f": "patches, many units"},
    "patches, own weights": {"f": "patches, own weights"},
    "dense, starts as patches": {"f": "dense, starts as patches"},
    "dense": {"f": "dense"},
    "shuffled": {"f": "shuffled"},
    "convolutional, 100 steps": {"steps": 100},
    "dense, 600 steps": {"f": "dense", "steps": 600},
    "dense, critic knows labels": {"f": "dense", "labelled": True},
    "dense, paper's design": {"f": "dense", **PAPER},
    "shuffled, paper's design": {"f": "shuffled", **PAPER},
    "Gaussian, convolutional": GAUSSIAN,
    "Gaussian, dense": {"f": "dense", **GAUSSIAN},
    "Gaussian, shuffled": {"f": "shuffled", **GAUSSIAN},
    "white noise, convolutional": {"data": "white noise", "steps": 150},
}
# Of the runs on digits with the fast design.
SUCCEED = ("convolutional", "patches", "patches, many units")
FAIL = ("patches, own weights", "dense, starts as patches", "dense", "shuffled")
# The same clients, served honestly.
HONEST: dict[str, dict[str, Any]] = {
    f"{f}, honest": {"f": f, "design": None} for f in ("convolutional", "dense", "shuffled")
}


@dataclass(frozen=True)
class OtherClient(Hijack):
    """A hijack of another client, or of random images; tiny networks only.

    `data` may be "gaussian", images with the digits' mean and covariance, or "white noise", too.

    Attributes:
        f: The client's network, a name in `CLIENTS`.
        labelled: Whether the attack is `LabelledFSHA`.
    """

    steps: int = 200
    f: str = "convolutional"
    labelled: bool = False

    @property
    def config(self) -> dict[str, Any]:
        """Everything that determines the run."""
        return super().config | {"client": self.f, "labelled": self.labelled}

    def split(self) -> sl.data.Split:
        """Return the three parts of the data."""
        if self.data == "gaussian":
            size = self.setting.size
            return gaussian_like(sl.data.digits(size), seed=self.seed).split(self.seed)
        if self.data == "white noise":
            return white_noise(size=self.setting.size, seed=self.seed).split(self.seed)
        return super().split()

    def client(self, split: sl.data.Split, device: Device) -> sl.Client:
        """Return the client under attack."""
        return self._client(split, self.seed, device)

    def attack(self, split: sl.data.Split, device: Device) -> sl.FSHA:
        """Return the hijacking server."""
        return self._attack(split, self.seed, device)

    def measure(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Unpack[Keeping]
    ) -> dict[str, Any]:
        """Train and score.

        Returns:
            `steps` and `cpu_seconds` of the training; `metrics`, `floors` and `ceilings`, by the
            referee, of `n_match` images, without "recognized" where the images have no classes;
            `locality` of f `before` and after; and the `signals` that a server could compute, but
            for a labelled attack.
        """
        clock, heard = CpuTime(), LastMessages(self._epoch())
        local = locality(self.client(self.split(), device))
        client, attack, split = self._train(device, [*observers, clock, heard], **keeping)
        row: dict[str, Any] = {"steps": client.step, "cpu_seconds": clock.seconds}
        row |= scores(client, attack, split, seed=self.seed)
        row["locality"] = {"before": local, "after": locality(client)}
        if not self.labelled:
            own = attackers_classifier(self.data, self.seed)
            row["signals"] = signals(attack, heard.kept, own)
        return row

    def _client(self, split: sl.data.Split, seed: int, device: Device) -> sl.Client:
        options = self.setting.client(seed=seed, rate=self.rate, device=device)
        return sl.Client(CLIENTS[self.f](seed=seed), split.private, **options)

    def _attack(self, split: sl.data.Split, seed: int, device: Device) -> sl.FSHA:
        options: Any = {"design": self.design or "fast", "steps": self.steps, "seed": seed}
        if not self.labelled:
            return sl.FSHA.at(self.setting, split.public, **options, device=device)
        return LabelledFSHA.labelled_at(
            self.setting, split.public, steps=self.steps, seed=seed, device=device
        )

    def _epoch(self) -> int:
        """Batches in one epoch of the private images."""
        return len(self.split().private) // self.setting.batch_size


@dataclass(frozen=True)
class Honest(OtherClient):
    """The same client with an honest server: how the choice of f affects the task."""

    steps: int = 400

    def measure(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Unpack[Keeping]
    ) -> dict[str, Any]:
        """Train the task; return `steps`, `cpu_seconds` and `accuracy` on the referee's part."""
        clock, split = CpuTime(), self.split()
        client, optimizer = self.client(split, device), self.setting.client_optimizer
        net = self.setting.server_net(seed=self.seed)
        server = sl.HonestServer(net, optimizer=optimizer, seed=self.seed, device=device)
        sl.train([client], server, self.steps, observers=[*observers, clock], **keeping)
        accuracy = sl.task_accuracy(client, server, split.referee)
        return {"steps": client.step, "cpu_seconds": clock.seconds, "accuracy": accuracy}


def scores(
    client: sl.Client, attack: sl.FSHA, split: sl.data.Split, *, seed: int = 0
) -> dict[str, Any]:
    """Score the pictures, the floors and a ceiling, by the referee.

    As `evaluate` does, but without an oracle's decoder, and for images without classes, too.

    Returns:
        `rows` and `n`, as in `Report`.
    """
    private, public = split.private, split.public
    classes = private.classes != (NOT_KNOWN,)
    scorer = sl.Scorer(private, split.referee, seed=seed) if classes else None
    order = torch.randperm(len(private), generator=torch.Generator().manual_seed(seed))
    x = scorer.images.x if scorer else private.x[order[:500]]

    def score(pictures: Tensor) -> Scores:
        if scorer is not None:
            return scorer.score(pictures)
        return sl.metrics.image_metrics(pictures, x, value_range=private.value_range)

    drawn = attack.reconstruct(client.smash(x))
    floors = {
        "mean_public": sl.floors.mean_public(public, len(x)),
        "nearest_public": sl.floors.nearest_public(x, public.x),
    }
    return {
        "n": len(x),
        "rows": as_rows(
            floor={name: score(pictures) for name, pictures in floors.items()},
            attack={"attack": score(drawn)},
            ceiling={"own_autoencoder": score(attack.autoencode(x))},
        ),
    }


def locality(client: sl.Client, patch: int = 4) -> float:
    """Return how far each place of z depends on the pixels at its own place, and not on others.

    The derivatives of all of z by all pixels, squared and added up over `LOOK_AT` private images:
    the share of those that join a place of z to a pixel of its own patch. Only who holds f and
    the images can compute it.

    Args:
        client: A client whose z has (C, H/patch, W/patch) for images (1, H, W).
        patch: Side of a patch.

    Returns:
        From 0 to 1; one over the number of places where z depends on all pixels alike.
    """
    x = client.data.x[:LOOK_AT]

    def smashed(one: Tensor) -> Tensor:
        z: Tensor = client.net(one[None])[0]
        return z

    modes = {module: module.training for module in client.net.modules()}
    client.net.eval()
    slopes = torch.func.vmap(torch.func.jacrev(smashed), chunk_size=2)(x).detach()
    slopes = slopes.square().sum((0, 1, 4))
    for module, mode in modes.items():
        module.training = mode
    down, across, height, width = slopes.shape
    by_patch = slopes.reshape(down, across, height // patch, patch, width // patch, patch)
    places = by_patch.sum((3, 5)).reshape(down * across, -1)
    return float(places.diagonal().sum() / places.sum())


@lru_cache(maxsize=1)
def attackers_classifier(data: str, seed: int) -> CNNClassifier | None:
    """Return a classifier that the attacker trains on the public images of a split.

    None where the images have no classes. It is kept for the experiments that follow with the same
    split.
    """
    public = OtherClient("", "", seed, data=data).split().public
    return None if public.classes == (NOT_KNOWN,) else train_cnn_classifier(public, seed)


@seeded
def labelled_critic(*, classes: int = 10, seed: int = 0) -> nn.Module:
    """Return a critic of images with a plane for each class: (B, 1 + classes, 16, 16) -> (B, 1)."""
    layers = list(sl.nets.tiny.image_critic(seed=seed))[1:]
    return nn.Sequential(nn.Conv2d(1 + classes, 32, 4, 2, 1), *layers[1:])


class LabelledCritic(Critic):
    """A critic of images that sees their classes, with a network as from `labelled_critic`.

    Attributes:
        sent: The classes of the images that z stands for, int64 (B,).
        own: Those of the public images, int64 (P,).
    """

    PASSING = ("sent", "own")
    sent: Tensor
    own: Tensor

    def judge(self, z: Tensor, y: Tensor) -> Tensor:
        """Return the scores (B, 1) of z as images of the classes y, int64 (B,)."""
        assert self.through is not None
        images = self.through(z)[:, :1]
        classes = self.net[0].in_channels - 1
        planes = one_hot(y, classes).to(images.dtype)[:, :, None, None]
        return self.net(torch.cat([images, planes.expand(-1, -1, *images.shape[2:])], 1))

    def loss(self, z: Tensor, z_public: Tensor) -> Tensor:
        """Equation (2), class by class; between two classes the penalty takes that of z."""
        loss = LOSSES["wgan-gp"][1](self.judge(z_public, self.own), self.judge(z, self.sent))
        score = partial(self.judge, y=self.sent)
        penalty = gradient_penalty(score, mixed(z, z_public), self.penalty)
        return loss + self.penalty_weight * penalty

    def pull(self, z: Tensor, z_public: Tensor) -> Tensor:
        """Equation (3), class by class."""
        return LOSSES["wgan-gp"][0](self.judge(z, self.sent))


class LabelledFSHA(sl.FSHA):
    """The fast design with a critic that sees the labels.

    Not the paper's. Of z the label that came with it, of public images their own. It needs the
    vanilla protocol, and a `LabelledCritic`.
    """

    threat: ClassVar[ThreatModel] = replace(
        sl.FSHA.threat, sees=("z and labels, once a step",), source="this course"
    )
    critic: LabelledCritic

    @classmethod
    def labelled_at(
        cls,
        setting: sl.settings.Setting,
        public: sl.ImageData,
        *,
        steps: int,
        seed: int = 0,
        device: Device = "cpu",
    ) -> Self:
        """Make the attack as a setting has it; arguments as in `FSHA.at`."""
        plain = sl.FSHA.at(setting, public, steps=steps, seed=seed)
        critic = LabelledCritic(
            labelled_critic(classes=len(public.classes), seed=seed),
            through=plain.decoder,
            penalty="sample",
            penalty_weight=plain.critic.penalty_weight,
            optimizer=partial(Adam, lr=1e-3, betas=(0.5, 0.9)),
            rate=sl.attacks.schedules.half_at(steps),
        )
        own: Any = {"steps": steps, "seed": seed, "device": device}
        return cls.at(setting, public, decoder=plain.decoder, critic=critic, **own)

    def reply(self, message: SmashedData) -> Gradient:
        """Hijack as FSHA does, with the labels at hand.

        Raises:
            ValueError: If no labels came with z.
        """
        if message.labels is None:
            raise ValueError(
                "this critic needs labels and none came with z: use the vanilla protocol, or FSHA"
            )
        self.critic.sent = message.labels
        return super().reply(message)

    def public_batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """As in FSHA; the labels of the batch are kept for the critic."""
        x, self.critic.own, z_public = super().public_batch()
        return x, self.critic.own, z_public
