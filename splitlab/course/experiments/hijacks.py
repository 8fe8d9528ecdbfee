"""Hijacks, and the same decoder behind an honest server, scored by the referee."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Unpack

import torch

import splitlab as sl
from splitlab.course.experiments.base import CpuTime, Device, Experiment, Keeping


@dataclass(frozen=True)
class Hijack(Experiment):
    """A hijack, or the same decoder behind an honest server, scored by the referee.

    Attributes:
        design: "fast" or "paper"; None for the honest server.
        rate: The client's learning rate; None for the profile's.
        budget: The most CPU seconds, where there is no GPU; None for any number.
    """

    design: sl.settings.Design | None = "fast"
    rate: float | None = None
    budget: float | None = None

    @property
    def config(self) -> dict[str, Any]:
        """Everything that determines the run."""
        own = {"design": self.design, "cpu_budget": self.budget}
        rate = {"client_rate": self.rate} if self.rate else {}
        return super().config | own | rate

    def measure(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Unpack[Keeping]
    ) -> dict[str, Any]:
        """Train and score; return steps taken, CPU seconds of the training, and the report."""
        clock = CpuTime(self.budget if torch.device(device).type == "cpu" else None)
        received = sl.ReceivedError()
        # Rows at tiny scale keep no curve of each step, and looking takes time.
        curve = [received] if self.profile == "paper" else []
        client, attack, split = self._train(device, [*observers, clock, *curve], **keeping)
        row: dict[str, Any] = {"steps": client.step, "cpu_seconds": clock.seconds}
        if curve:
            row["received_mse"] = [round(value, 4) for value in received.mse]
        return row | sl.evaluate(client, attack, split.referee).to_dict()

    def split(self) -> sl.data.Split:
        """Return the three parts of the data."""
        return self.setting.split(self.data, self.seed)

    def client(self, split: sl.data.Split, device: Device) -> sl.Client:
        """Return the client under attack."""
        setting, seed = self.setting, self.seed
        net = setting.client_net(seed=seed)
        arguments = setting.client(seed=seed, rate=self.rate, device=device)
        return sl.Client(net, split.private, **arguments)

    def attack(self, split: sl.data.Split, device: Device) -> Any:
        """Return the server: it hijacks, or it is honest and has the same decoder."""
        setting, seed = self.setting, self.seed
        design = self.design or "fast"
        options: Any = {"design": design, "steps": self.steps, "seed": seed, "device": device}
        attack = sl.FSHA.at(setting, split.public, **options)
        if self.design is not None:
            return attack
        net = setting.server_net(seed=seed)
        optimizer = setting.client_optimizer
        return sl.NoHijack(net, attack, optimizer=optimizer, seed=seed, device=device)

    def _train(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Unpack[Keeping]
    ) -> tuple[sl.Client, Any, sl.data.Split]:
        """Train; return client, attack and split, also where the budget cuts the run short."""
        split = self.split()
        client, attack = self.client(split, device), self.attack(split, device)
        with suppress(TimeoutError):  # from CpuTime: the run is cut short on purpose
            sl.train(
                [client],
                attack,
                self.steps,
                observers=observers,
                autocast=self.setting.precision(device),
                **keeping,
            )
        return client, attack, split
