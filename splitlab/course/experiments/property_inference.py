"""A property of the private images, told by a hijack's head, and read off a hijack's pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Unpack

import torch

import splitlab as sl
from splitlab.course.experiments.base import CpuTime, Device, Keeping
from splitlab.course.experiments.hijacks import Hijack

MARKS = (25, 50, 75, 100, 150, 200, 250, 300)  # steps after which the referee looks
LOOPS = (0, 6, 8, 9)  # digits with a closed loop
HEAD_STEPS = 600  # of a head that learns on codes that stand still, before the hijack
CRITIC_STEPS = 3  # a client step, for the eager server

Curves = dict[str, dict[str, float]]


def labelled(part: sl.ImageData, name: str, public: sl.ImageData) -> sl.ImageData:
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
        secret: The property, as `labelled` takes it.
        task: What the client trains, likewise.
        critic_steps: Of an eager server, which also takes the client's gradient after them; None
            for the design's own.
    """

    design: sl.settings.Design | None = "paper"
    secret: str = "digit"
    task: str = "slant"
    critic_steps: int | None = None

    @property
    def config(self) -> dict[str, Any]:
        """What the run is a function of."""
        own = {"secret": self.secret, "task": self.task, "critic_steps": self.critic_steps}
        return super().config | own

    def measure(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Unpack[Keeping]
    ) -> dict[str, Any]:
        """Train and score.

        Returns:
            `steps`; the `cpu_seconds` of the training, with a look of the referee at every mark;
            `accuracy`, by property and by the step after which it looked; and the `Report`.
        """
        split = self.split()
        truth = labelled(split.private, self.secret, split.public).to(device)

        def told(client: sl.Client, server: Any) -> dict[str, float]:
            """How often the head is right at this moment, about all private images."""
            guess = _inferrer(server).infer_property(client.smash(client.data.x)).argmax(1)
            return {self.secret: sl.accuracies(guess, truth.y)["accuracy"]}

        clock, curves = CpuTime(), Marks(told)
        client, server, _, _ = self._train(device, [*observers, clock, curves], **keeping)
        report = sl.evaluate(client, _inferrer(server), truth=truth, seed=self.seed)
        about = {"steps": client.step, "cpu_seconds": clock.seconds}
        return about | {"accuracy": curves.accuracy} | report.to_dict()

    def client(self, split: sl.data.Split, device: Device) -> sl.Client:
        """Return the client under attack, which trains its task."""
        own = labelled(split.private, self.task, split.public)
        return super().client(split._replace(private=own), device)

    def attack(self, split: sl.data.Split, device: Device) -> Any:
        """Return the server: it hijacks, or it is honest and has the same head."""
        setting, seed = self.setting, self.seed
        public = labelled(split.public, self.secret, split.public)
        attack = sl.PropertyInference.at(
            setting,
            public,
            design=self.design or "paper",
            steps=self.steps,
            critic_steps=self.critic_steps,
            critic_first=None if self.critic_steps is None else True,
            seed=seed,
            device=device,
        )
        if self.design is not None:
            return attack
        classes = len(labelled(split.public, self.task, split.public).classes)
        net = setting.server_net(classes=classes, seed=seed)
        optimizer = setting.client_optimizer
        return sl.NoHijack(net, attack, optimizer=optimizer, seed=seed, device=device)


@dataclass(frozen=True)
class PropertiesInPictures(Hijack):
    """A hijack that draws, and whose pictures and codes are read for properties of digits.

    "digit" is what the referee's classifier sees in a picture, "slant" is measured in it, and
    "loop" follows from the digit. With the fast design's fixed pilot, heads that learned on public
    codes before the hijack tell them, too: "digit, head" and so on. "matched" is the referee's.
    """

    @property
    def config(self) -> dict[str, Any]:
        """What the run is a function of."""
        return super().config | {"head_steps": HEAD_STEPS if self.design == "fast" else None}

    def measure(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Unpack[Keeping]
    ) -> dict[str, Any]:
        """Train and score; return `steps`, `cpu_seconds` and `accuracy`, as above."""
        split = self.split()
        read = self._reader(split, device)
        clock, curves = CpuTime(), Marks(read)
        client, _, _, _ = self._train(device, [*observers, clock, curves], **keeping)
        about = {"steps": client.step, "cpu_seconds": clock.seconds}
        return about | {"accuracy": curves.accuracy}

    def _reader(
        self, split: sl.data.Split, device: Device
    ) -> Callable[[sl.Client, Any], dict[str, float]]:
        """Return what reads all properties off z and its pictures, and scores itself."""
        scorer = sl.Scorer(split.private, split.referee, seed=self.seed)
        order, public = scorer.order[: len(scorer.images)], split.public
        images = {
            name: labelled(scorer.images, name, public) for name in ("digit", "slant", "loop")
        }
        heads = self._heads(public, device) if self.design == "fast" else {}
        threshold = sl.data.slant(public.x, public.value_range).median()

        def read(client: sl.Client, server: Any) -> dict[str, float]:
            z = client.smash(client.data.x[order.to(client.device)])
            pictures = server.reconstruct(z).cpu()
            digit = scorer.classify(pictures)
            told = {
                "digit": digit,
                "slant": (sl.data.slant(pictures, public.value_range) < threshold).long(),
                "loop": torch.isin(digit, torch.tensor(LOOPS)).long(),
            }
            told |= {
                f"{name}, head": head.infer_property(z).argmax(1).cpu()
                for name, head in heads.items()
            }
            figures = {
                name: sl.accuracies(guess, images[name.split(",")[0]].y.cpu())["accuracy"]
                for name, guess in told.items()
            }
            return figures | {"matched": sl.metrics.matched(pictures, scorer.images.x.cpu())}

        return read

    def _heads(self, public: sl.ImageData, device: Device) -> dict[str, sl.PropertyInference]:
        """Return a head for each property, trained on the codes of a fixed pilot."""
        setting, heads = self.setting, {}
        for name in ("digit", "slant", "loop"):
            part = labelled(public, name, public)
            options: Any = {"design": "fast", "steps": self.steps, "seed": self.seed}
            heads[name] = sl.PropertyInference.at(setting, part, **options, device=device)
            for _ in range(HEAD_STEPS):
                heads[name].rehearse()
        return heads


class Marks(sl.Observer):
    """Lets the referee look after some steps.

    Args:
        look: Client and server -> accuracy by property.

    Attributes:
        accuracy: By property, and by the number of steps taken.
    """

    STATE = ("accuracy",)

    def __init__(self, look: Callable[[sl.Client, Any], dict[str, float]]) -> None:
        self.look = look
        self.accuracy: Curves = {}

    def step(self, step: int, client: sl.Client, server: Any) -> None:
        """Look after every step of `MARKS`."""
        if step + 1 in MARKS:
            for name, value in self.look(client, server).items():
                self.accuracy.setdefault(name, {})[str(step + 1)] = round(value, 4)


def _inferrer(server: Any) -> sl.PropertyInference:
    return server.attack if isinstance(server, sl.NoHijack) else server


FACES: dict[str, Any] = {"data": "drawn_faces", "task": "smile"}
DARK_HAIR = FACES | {"secret": "dark_hair"}
# The kinds of `property_tiny`: properties of digits and of drawn faces, a server that hurries, the
# same heads behind an honest server, and two hijacks whose pictures are read.
KINDS: dict[str, dict[str, Any]] = {
    "digit": {},
    "slant": {"secret": "slant", "task": "digit"},
    "loop": {"secret": "loop"},
    "digit, three critic steps": {"critic_steps": CRITIC_STEPS},
    "dark hair": DARK_HAIR,
    "hat": FACES | {"secret": "hat"},
    "digit, no hijack": {"design": None},
    "slant, no hijack": {"design": None, "secret": "slant", "task": "digit"},
    "dark hair, fast design": DARK_HAIR | {"design": "fast"},
    "dark hair, no hijack": DARK_HAIR | {"design": None},
}
PICTURES: dict[str, dict[str, Any]] = {
    "pictures, paper's design": {"design": "paper"},
    "pictures, fast design": {"design": "fast"},
}
