"""A property of each private image, inferred by a hijack's head or visible in its pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Unpack

import torch

import splitlab as sl
from splitlab.course.experiments.base import CpuTime, Device, Keeping
from splitlab.course.experiments.hijacks import Hijack
from splitlab.course.experiments.unsplit import correlations

MARKS = (25, 50, 75, 100, 150, 200, 250, 300)  # steps after which the referee scores
LOOPS = (0, 6, 8, 9)  # digits with a closed loop
HEAD_STEPS = 600  # of a head that learns on a fixed pilot's codes, before the hijack

Curves = dict[str, dict[str, float]]


def with_property(part: sl.ImageData, name: str, public: sl.ImageData) -> sl.ImageData:
    """Label a part of the data with a property.

    Args:
        part: The images.
        name: "digit", "slant", "loop", or an attribute of the images.
        public: The attacker's images: half of them are on either side of the slant's threshold.
    """
    if name == "digit":
        return part
    if name == "slant":
        return sl.data.by_slant(part, float(sl.data.slant(public.x, public.value_range).median()))
    if name == "loop":
        has = torch.isin(part.y, torch.tensor(LOOPS, device=part.y.device))
        return replace(part, y=has.long(), classes=("no loop", "loop"))
    return part.labelled(name)


@dataclass(frozen=True)
class PropertyHijack(Hijack):
    """A property hijack, or its head behind an honest server, scored by the referee.

    Attributes:
        secret: The property, as `with_property` takes it.
        task: What the client trains, likewise.
    """

    design: sl.settings.Design | None = "paper"
    secret: str = "digit"
    task: str = "slant"

    @property
    def config(self) -> dict[str, Any]:
        """Everything that determines the run."""
        return super().config | {"secret": self.secret, "task": self.task}

    def measure(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Unpack[Keeping]
    ) -> dict[str, Any]:
        """Train and score.

        Returns:
            `steps`; the `cpu_seconds` of the training, the scoring at every mark included;
            `accuracy`, by property and by the step after which it was scored; the `Report`; and for
            a hijack that has pictures their mean `correlation` with the private images, each minus
            the mean image: below 0 for negatives.
        """
        split = self.split()
        truth = with_property(split.private, self.secret, split.public).to(device)

        def score(client: sl.Client, server: Any) -> dict[str, float]:
            """Return the head's accuracy at this moment, on all private images."""
            guess = inferrer(server).infer_property(client.smash(client.data.x)).argmax(1)
            return {self.secret: sl.accuracies(guess, truth.y)["accuracy"]}

        clock, curves = CpuTime(), Marks(score)
        client, server, _ = self._train(device, [*observers, clock, curves], **keeping)
        row = {"steps": client.step, "cpu_seconds": clock.seconds, "accuracy": curves.accuracy}
        if self.design == "fast":
            x = client.data.x
            pictures = server.reconstruct(client.smash(x))
            alike = correlations(pictures - pictures.mean(0), x - x.mean(0))
            row["correlation"] = float(alike.mean())
        report = sl.evaluate(client, inferrer(server), truth=truth, seed=self.seed)
        return row | report.to_dict()

    def client(self, split: sl.data.Split, device: Device) -> sl.Client:
        """Return the client under attack, which trains its task."""
        own = with_property(split.private, self.task, split.public)
        return super().client(split._replace(private=own), device)

    def known(self, split: sl.data.Split) -> sl.ImageData:
        """Return the public images, labeled with the property."""
        return with_property(split.public, self.secret, split.public)

    def attack(self, split: sl.data.Split, device: Device) -> Any:
        """Return the server: it hijacks, or it is honest and has the same head."""
        setting, seed = self.setting, self.seed
        attack = sl.PropertyInference.at(
            setting,
            self.known(split),
            design=self.design or "paper",
            steps=self.steps,
            seed=seed,
            device=device,
        )
        if self.design is not None:
            return attack
        classes = len(with_property(split.public, self.task, split.public).classes)
        net = setting.server_net(classes=classes, seed=seed)
        optimizer = setting.client_optimizer
        return sl.NoHijack(net, attack, optimizer=optimizer, seed=seed, device=device)


@dataclass(frozen=True)
class SlantAndPicture(Hijack):
    """A hijack of the fast design: when the slant can be inferred, and when pictures match.

    A head that learned on the fixed pilot's codes before the hijack infers the slant ("head"), and
    the slant is measured in the pictures ("measured"). "matched" is the referee's figure.
    """

    @property
    def config(self) -> dict[str, Any]:
        """Everything that determines the run."""
        return super().config | {"head_steps": HEAD_STEPS}

    def measure(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Unpack[Keeping]
    ) -> dict[str, Any]:
        """Train and score.

        Returns:
            `steps`, `cpu_seconds`, and `accuracy` by name and step; and `best_from_label`, the
            slant's floor for the images that are scored.
        """
        split = self.split()
        scorer = sl.Scorer(split.private, split.referee, seed=self.seed)
        order, public = scorer.order[: len(scorer.images)], split.public
        truth = with_property(scorer.images, "slant", public)
        known = with_property(public, "slant", public)
        options: Any = {"design": "fast", "steps": self.steps, "seed": self.seed}
        head = sl.PropertyInference.at(self.setting, known, **options, device=device)
        for _ in range(HEAD_STEPS):
            head.rehearse()

        def score(client: sl.Client, server: Any) -> dict[str, float]:
            z = client.smash(client.data.x[order.to(client.device)])
            pictures = server.reconstruct(z).cpu()
            inferred = {
                "head": head.infer_property(z).argmax(1).cpu(),
                "measured": with_property(replace(truth, x=pictures), "slant", public).y,
            }
            figures = {n: sl.accuracies(y, truth.y.cpu())["accuracy"] for n, y in inferred.items()}
            return figures | {"matched": sl.metrics.matched(pictures, scorer.images.x.cpu())}

        clock, curves = CpuTime(), Marks(score)
        client, _, _ = self._train(device, [*observers, clock, curves], **keeping)
        pairs = torch.bincount(scorer.images.y.cpu() * 2 + truth.y.cpu(), minlength=20).view(10, 2)
        floor = float(pairs.max(1).values.sum()) / len(truth)
        about = {"steps": client.step, "cpu_seconds": clock.seconds}
        return about | {"accuracy": curves.accuracy, "best_from_label": floor}


class Marks(sl.Observer):
    """Lets the referee score after some steps.

    Args:
        score: Client and server -> figures by name.

    Attributes:
        accuracy: By name, and by the number of steps taken.
    """

    STATE = ("accuracy",)
    PASSING = ("score",)  # it only watches

    def __init__(self, score: Callable[[sl.Client, Any], dict[str, float]]) -> None:
        self.score = score
        self.accuracy: Curves = {}

    def step(self, step: int, client: sl.Client, server: Any) -> None:
        """Score after every step of `MARKS`."""
        if step + 1 in MARKS:
            for name, value in self.score(client, server).items():
                self.accuracy.setdefault(name, {})[str(step + 1)] = round(value, 4)


def inferrer(server: Any) -> sl.PropertyInference:
    """Return the attack of a server, which may be honest and attack on the side."""
    return server.attack if isinstance(server, sl.NoHijack) else server


DARK_HAIR: dict[str, Any] = {"data": "drawn_faces", "task": "smile", "secret": "dark_hair"}
# Kinds of `property_tiny`: properties of digits and of drawn faces, and the same heads behind an
# honest server.
KINDS: dict[str, dict[str, Any]] = {
    "slant": {"secret": "slant", "task": "digit"},
    "slant, no hijack": {"design": None, "secret": "slant", "task": "digit"},
    "digit": {},
    "digit, no hijack": {"design": None},
    "loop": {"secret": "loop"},
    "dark hair": DARK_HAIR,
    "dark hair, no hijack": DARK_HAIR | {"design": None},
    "dark hair, fast design": DARK_HAIR | {"design": "fast"},
}
