"""What every experiment is, and a clock for its training."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

import torch

import splitlab as sl

Device = torch.device | str


class Keeping(TypedDict, total=False):
    """The options of `train` for saving a run and resuming it."""

    checkpoint: Path | str | None
    every: int


@dataclass(frozen=True)
class Experiment(ABC):
    """One run, and the row of a table that it gives.

    Attributes:
        table: The file in `splitlab/course/runs/`, without its ending.
        run: The name of the kind of run, which rows with different seeds share.
        seed: Seeds split, networks and batches.
        steps: How many.
        data: The data set.
        profile: "tiny" or "paper".
    """

    table: str
    run: str
    seed: int
    steps: int
    data: str = "digits"
    profile: str = "tiny"

    @property
    def name(self) -> str:
        """The experiment's name in messages."""
        return f"{self.table}: {self.run}/{self.seed}"

    @property
    def setting(self) -> sl.settings.Setting:
        """The networks, sizes and rates of its profile."""
        return sl.PROFILES[self.profile]

    @property
    def config(self) -> dict[str, Any]:
        """Everything that determines the run."""
        return {
            "profile": self.profile,
            "data": self.data,
            "seed": self.seed,
            "steps": self.steps,
            "cut": self.setting.cut,
            "batch_size": self.setting.batch_size,
            "client_rate": self.setting.client_rate,
        }

    @abstractmethod
    def measure(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Unpack[Keeping]
    ) -> dict[str, Any]:
        """Run the experiment and return its figures; arguments as in `row`."""

    def row(
        self,
        device: Device = "cpu",
        observers: Sequence[sl.Observer] = (),
        **keeping: Unpack[Keeping],
    ) -> dict[str, Any]:
        """Run the experiment and return its row: run, seed, config and figures.

        Args:
            device: Where to compute.
            observers: More observers of the training, such as a progress bar.
            keeping: `checkpoint` and `every`, as `train` takes them.
        """
        about = {"run": self.run, "seed": self.seed, "config": self.config}
        return about | self.measure(device, observers, **keeping)

    def make(
        self,
        device: Device = "cpu",
        observers: Sequence[sl.Observer] = (),
        *,
        folder: Path | None = None,
        **keeping: Unpack[Keeping],
    ) -> dict[str, float]:
        """Run the experiment, record it, and return the scores worth printing.

        Args:
            device: As in `row`.
            observers: As in `row`.
            folder: Where to write; the default is the package's own folder.
            keeping: As in `row`.
        """
        row = self.row(device, observers, **keeping)
        sl.records.write_row(self.table, row, device=device, folder=folder)
        rows = row.get("rows", {})
        return _numbers(rows.get("as_received") or rows.get("attack") or row)


def _numbers(row: dict[str, Any]) -> dict[str, float]:
    return {
        name: value
        for name, value in row.items()
        if isinstance(value, int | float) and name not in ("seed", "steps")
    }


class CpuTime(sl.Observer):
    """Adds up the CPU seconds of a run, and ends it when they reach a budget.

    Args:
        budget: The most CPU seconds; None for any number.
    """

    STATE = ("seconds",)
    PASSING = ("last", "budget")  # a run may go on with more time than it began with

    def __init__(self, budget: float | None = None) -> None:
        self.budget, self.seconds = budget, 0.0

    def start(self, clients: Any, server: Any, steps: int) -> None:
        """Start the clock."""
        self.last = time.process_time()

    def step(self, step: int, client: Any, server: Any) -> None:
        """Add the time since the last step."""
        now = time.process_time()
        self.seconds, self.last = self.seconds + now - self.last, now
        if self.budget is not None and self.seconds > self.budget:
            raise TimeoutError
