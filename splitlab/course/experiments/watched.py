"""Runs that detectors watch: honest ones, hijacks, and hijacks that know the detectors."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Unpack

import torch
from torch import nn
from torch.optim import SGD

import splitlab as sl
from splitlab.attacks.schedules import falling
from splitlab.core.randomness import with_own_randomness
from splitlab.course.experiments.base import CpuTime, Device, Keeping
from splitlab.course.experiments.hijacks import Hijack
from splitlab.course.experiments.property_inference import with_property
from splitlab.defenses import (
    FeatureTest,
    GradientRank,
    GradientScrutinizer,
    LossAlarm,
    NormAlarm,
    SplitGuard,
    SplitOut,
)
from splitlab.defenses.gradient_scrutinizer import LAST
from splitlab.nets import LastChannels
from splitlab.referee.metrics import matched, mse

ServerKind = Literal["honest", "passive", "random labels", "fast", "paper", "property", "multitask"]

SCORED = 500  # private images
EVERY = 10  # steps between two looks at what has been lost
SPARE = 16  # channels of z that the fast design's decoder does not read
OTHER_WEIGHTS = 500  # added to the seed: a rehearsal does not know the server's weights
TRAINED = 300  # steps before a run that fine-tunes
TURN = 5  # steps of a clinic's turn


class RandomLabels(sl.HonestServer):
    """Trains on random labels, so that the client's accuracy is chance."""

    @with_own_randomness
    def reply(self, message: sl.SmashedData) -> sl.Gradient:
        """Take a step on random labels."""
        labels = torch.randint(10, (len(message.z),), device=message.z.device)
        return super().reply(replace(message, labels=labels))


@dataclass(frozen=True)
class Watched(Hijack):
    """A run that detectors watch and do not stop.

    Attributes:
        server: What the server does.
        guard: Whether SplitGuard watches, which sends false batches; else all others watch.
        change: What is hard about an honest run, as in `watched_kinds.HARD`, or "".
        batch: The client's batch size; None for the profile's.
        u_shaped: Whether the labels stay at home, with the last layer.
        weight: Of a multitask server's hijack, lambda.
        spare: Whether the task's network reads only the channels that the hijack leaves alone.
        aware: Whether the server looks for false labels, and answers them honestly.
        delay: Steps of honest answers before the hijack.
        factor: On the hijack's gradient.
    """

    design: sl.settings.Design | None = None
    server: ServerKind = "honest"
    guard: bool = False
    change: str = ""
    batch: int | None = None
    u_shaped: bool = False
    weight: float = 1.0
    spare: bool = False
    aware: bool = False
    delay: int = 0
    factor: float = 1.0

    @property
    def config(self) -> dict[str, Any]:
        """Everything that determines the run."""
        own = {"server": self.server, "guard": self.guard}
        names = ("change", "batch", "u_shaped", "weight", "spare", "aware", "delay", "factor")
        default = Watched("", "", 0, 1)
        changed = {
            name: value
            for name in names
            if (value := getattr(self, name)) != getattr(default, name)
        }
        return super().config | own | changed

    def measure(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Unpack[Keeping]
    ) -> dict[str, Any]:
        """Train while the detectors watch.

        Returns:
            `steps`, `cpu_seconds`; `records`, as the function of that name returns them, and by
            detector the last of them, `worst`; the client's `task_accuracy`, where its labels are
            the task's; and of a hijack the share `matched` at the end, its `error` relative to the
            nearest public image, and the curve `received`, as in `sl.ReceivedImages`.
        """
        split, clock = self.split(), CpuTime()
        clients, server = self.parties(split, device)
        private = clients[0].data
        rows = torch.randperm(len(private), generator=torch.Generator().manual_seed(self.seed))[
            :SCORED
        ]
        hijacks = self.server in ("fast", "paper", "multitask")
        received = [sl.ReceivedImages(rows, every=EVERY)] if hijacks and len(clients) == 1 else []
        step = sl.u_shaped if self.u_shaped else sl.vanilla
        protocol = step if len(clients) == 1 else sl.Sequential(step, turn=TURN)
        watching = [*observers, clock, *received]
        sl.train(clients, server, self.steps, protocol=protocol, observers=watching, **keeping)
        row: dict[str, Any] = {"steps": self.steps, "cpu_seconds": round(clock.seconds, 1)}
        row["records"] = records(clients)
        seen = {name: judged(kept, name) for name, kept in row["records"].items()}
        row["worst"] = {name: scores[-1][1] if scores else None for name, scores in seen.items()}
        trains = self.server in ("honest", "passive", "multitask")
        if trains and self.change not in CLASSES:
            public = self.changed(split.public) if self.data == "drawn_faces" else split.public
            row["task_accuracy"] = round(sl.task_accuracy(clients[0], server, public), 4)
        if received:
            x = private.x[rows]
            images = server.reconstruct(clients[0].smash(x)).cpu()
            nearest = mse(sl.floors.nearest_public(x, split.public.x), x)
            row |= {"matched": round(matched(images, x), 4), "received": received[0].curve}
            row["error"] = round(mse(images, x) / nearest, 4)
        return row

    def parties(self, split: sl.data.Split, device: Device) -> tuple[list[sl.Client], Any]:
        """Return clients, with their detectors, and server."""
        private, seed = self.changed(split.private), self.seed
        net: Any = self.setting.client_net(seed=seed)
        classes = len(private.classes)
        task: Any = self.setting.server_net(seed=seed, classes=classes)
        if self.change == "fine-tuning":
            net, task = self._trained(split, net, task)
        tail = task[-1:] if self.u_shaped else None
        body = task[:-1] if self.u_shaped else task
        if self.spare:
            body = nn.Sequential(LastChannels(SPARE), body)
        arguments = self.setting.client(seed=seed, rate=self.rate, device=device)
        arguments |= {"batch_size": self.batch} if self.batch else {}
        if self.change == "SGD":
            arguments["optimizer"] = partial(SGD, lr=0.05, momentum=0.9)
        clinics = 3 if self.change == "three clinics" else 1
        share = len(private) // clinics
        rows = torch.arange(clinics * share).split(share)
        clients = [
            sl.Client(
                copy.deepcopy(net),
                private.select(own),
                tail=copy.deepcopy(tail),
                defenses=self.detectors(),
                name=f"clinic {n}" if clinics > 1 else "client",
                **arguments,
            )
            for n, own in enumerate(rows)
        ]
        return clients, self.opponent(split, body, device)

    def detectors(self) -> list[sl.Defense]:
        """Return the detectors, which only count; scores alone are of interest."""
        if self.guard:
            return [SplitGuard(stop=False)]
        rest: Any = self.setting.server_net(
            seed=self.seed + OTHER_WEIGHTS, classes=2 if self.data == "drawn_faces" else 10
        )
        rest = rest[:-1] if self.u_shaped else rest
        made: list[sl.Defense] = [
            NormAlarm(1.0, stop=False),
            GradientScrutinizer(last=self.steps, stop=False),
            SplitOut(rest, seed=self.seed, stop=False),
            FeatureTest(stop=False),
            GradientRank(stop=False),
        ]
        return [*made, LossAlarm(1.0, stop=False)] if self.u_shaped else made

    def opponent(self, split: sl.data.Split, task: nn.Module, device: Device) -> Any:
        """Return the server."""
        seed, setting, public = self.seed, self.setting, split.public
        options: dict[str, Any] = {"seed": seed, "device": device}
        optimizer = setting.client_optimizer
        if self.server == "random labels":
            return RandomLabels(task, optimizer=optimizer, **options)
        honest = sl.HonestServer(task, optimizer=optimizer, **options)
        if self.server == "honest":
            return honest
        hijacked = max(self.steps - self.delay, 1)
        options |= {"steps": hijacked}
        if self.server == "property":
            known = with_property(public, "slant", public)
            return sl.PropertyInference.at(setting, known, design="paper", **options)
        design = "paper" if self.server == "paper" else "fast"
        always = falling(hijacked) if design == "fast" else _one

        def scale(step: int) -> float:
            return self.factor * always(step - self.delay)

        body = task if self.u_shaped else None
        options |= {"design": design, "gradient_scale": scale, "body": body}
        hijack = sl.FSHA.at(setting, public, **options)
        if self.server == "passive":
            return sl.NoHijack(task, hijack, optimizer=optimizer, seed=seed, device=device)
        if self.server != "multitask":
            return hijack
        kind = sl.GuardAwareFSHA if self.aware else sl.MultitaskFSHA
        return kind(hijack, task=honest, weight=self.weight, delay=self.delay)

    def changed(self, part: sl.ImageData) -> sl.ImageData:
        """Return a part of the data as the client holds it."""
        generator = torch.Generator().manual_seed(self.seed)
        if self.data == "drawn_faces":
            return part.labelled("glasses")
        if self.change in CLASSES:
            chosen = torch.randperm(10, generator=generator)[: CLASSES[self.change]]
            return part.select(torch.isin(part.y, chosen).nonzero().flatten())
        if self.change == "64 images":
            return part.subset(64, seed=self.seed)
        if self.change in NOISE:
            wrong = torch.rand(len(part), generator=generator) < NOISE[self.change]
            others = (part.y + torch.randint(1, 10, (len(part),), generator=generator)) % 10
            return replace(part, y=torch.where(wrong, others, part.y))
        return part

    def _trained(
        self, split: sl.data.Split, net: nn.Module, task: nn.Module
    ) -> tuple[nn.Module, nn.Module]:
        """Both halves after an honest training on the same data."""
        arguments = self.setting.client(seed=self.seed + OTHER_WEIGHTS)
        client = sl.Client(net, split.private, **arguments)
        server = sl.HonestServer(task, optimizer=self.setting.client_optimizer, seed=self.seed)
        sl.train([client], server, TRAINED)
        return client.net, server.net


def records(clients: Sequence[sl.Client]) -> dict[str, dict[str, list[float]]]:
    """Return by detector the `scores` more suspicious than all before them, and their `steps`.

    Several clients' steps are put in one order by their own numbers.
    """
    found = {}
    for of_kind in zip(*(client.defenses for client in clients), strict=True):
        first = of_kind[0]
        assert isinstance(first, sl.Detector)
        sign = 1 if first.ALARMS == "above" else -1
        seen = sorted(pair for one in of_kind for pair in one.seen)  # type: ignore[attr-defined]
        highest = -float("inf")
        steps: list[float] = []
        scores: list[float] = []
        for step, score in seen:
            if sign * score > highest:
                highest = sign * score
                steps.append(step)
                scores.append(float(f"{score:.4g}"))
        found[type(first).__name__] = {"steps": steps, "scores": scores}
    return found


def judged(kept: Mapping[str, Sequence[float]], detector: str) -> list[tuple[int, float]]:
    """Return a detector's entry of `records` as (step, score), without steps it is not armed in."""
    last = LAST if detector == GradientScrutinizer.__name__ else float("inf")
    pairs = zip(kept["steps"], kept["scores"], strict=True)
    return [(int(step), score) for step, score in pairs if step <= last]


def _one(step: int) -> float:
    return 1.0


CLASSES = {"one class": 1, "two classes": 2}
NOISE = {"20 % wrong labels": 0.2, "40 % wrong labels": 0.4}
