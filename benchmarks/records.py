"""Makes the records in `book/runs/`: what the chapters quote, over seeds that chose no setting.

    python benchmarks/records.py                         # digits at tiny scale, on the CPU
    python benchmarks/records.py --minutes 10            # as much of that as ten minutes allow
    python benchmarks/records.py --profile paper         # MNIST at the paper's scale
    python benchmarks/records.py digits_tiny --list      # what is there of one file, and what not

Run it in a copy of the repository; MNIST's files are read from SPLITLAB_DATA. What is there already
is not made again, unless the library's `NUMERICS` have been raised since. What is worth most comes
first. A run that was stopped, by --minutes, Ctrl-C or a power cut, goes on from its last checkpoint
(in build/records/) when the command is given again. One thread; on a GPU, --device cuda.
Where the library is not installed, set PYTHONPATH to the repository's folder.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import splitlab as sl
from splitlab.checkpoint import write_atomically
from splitlab.record import NUMERICS

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "book" / "runs"
CHECKPOINTS = ROOT / "build" / "records"
DIGITS_SEEDS = range(100, 106)
MNIST_SEEDS = (1, 2, 3)
CPU_BUDGET = 600.0  # seconds, for the paper's own design at its own scale
SNAPSHOTS = 30


class OutOfTime(Exception):
    """The minutes that were granted are over."""


class Stop(sl.Observer):
    """Ends the session, right after a checkpoint, when its time is over."""

    def __init__(self, at: float, every: int) -> None:
        self.at, self.every = at, every

    def step(self, step: int, client: Any, server: Any) -> None:
        """Raise in the first step after a checkpoint."""
        if step and step % self.every == 0 and time.monotonic() > self.at:
            raise OutOfTime


class CpuTime(sl.Observer):
    """Adds up the CPU seconds of a run, and ends it when they reach a budget.

    Args:
        budget: The most CPU seconds; None for any number.
    """

    def __init__(self, budget: float | None) -> None:
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

    def state_dict(self) -> dict[str, Any]:
        """Return the seconds so far."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned."""
        self.seconds, self.last = state["seconds"], time.process_time()


@dataclass(frozen=True)
class Job:
    """One run to record.

    Attributes:
        file: The file in `book/runs/`, without its ending.
        run: The name of the kind of run, which rows with different seeds share; empty for a record
            of its own, with snapshots.
        data: The data set.
        seed: Seeds split, networks and batches.
        steps: How many.
        design: "fast" or "paper"; None for the honest server.
        profile: "tiny" or "paper".
        rate: The client's learning rate; None for the profile's.
        budget: The most CPU seconds, where there is no GPU; None for any number.
    """

    file: str
    run: str
    data: str
    seed: int
    steps: int
    design: str | None = "fast"
    profile: str = "tiny"
    rate: float | None = None
    budget: float | None = None

    @property
    def name(self) -> str:
        """The job's name in messages."""
        return f"{self.file}: {self.run}/{self.seed}" if self.run else self.file

    @property
    def config(self) -> dict[str, Any]:
        """What the run is a function of."""
        return {
            "profile": self.profile,
            "data": self.data,
            "seed": self.seed,
            "design": self.design,
            "steps": self.steps,
            "client_rate": self.rate or sl.PROFILES[self.profile].client_rate,
        }

    @property
    def checkpoint(self) -> Path:
        """Where an interrupted run waits."""
        name = "".join(c if c.isalnum() else "-" for c in f"{self.file}-{self.run}-{self.seed}")
        return CHECKPOINTS / f"{name}.checkpoint"

    @property
    def every(self) -> int:
        """Steps between two checkpoints: some seconds on one core."""
        return 100 if self.profile == "tiny" else 10

    def done(self) -> bool:
        """Whether the record is there, and of the present mathematics."""
        if self.run:
            row = rows_of(self.file).get(f"{self.run}/{self.seed}")
            return row is not None and row.get("numerics", 1) == NUMERICS
        with suppress(FileNotFoundError, sl.StaleRecord):
            sl.replay(self.file, self.config)
            return True
        return False

    def make(self, device: torch.device, stop_at: float) -> str:
        """Train, score and record; return what to print.

        Raises:
            OutOfTime: If the time was over before the end.
        """
        setting = sl.PROFILES[self.profile]
        private, public, referee = setting.split(self.data, self.seed)
        client = sl.Client(
            setting.client_net(seed=self.seed),
            private,
            **setting.client(seed=self.seed, rate=self.rate, device=device),
        )
        settings = setting.fsha(
            public, design=self.design or "fast", steps=self.steps, seed=self.seed
        )
        attack: Any = sl.FSHA(**settings, device=device)
        if self.design is None:
            attack = sl.NoHijack(
                setting.server_net(seed=self.seed),
                attack,
                optimizer=setting.client_optimizer,
                seed=self.seed,
                device=device,
            )
        budget = self.budget if device.type == "cpu" else None
        clock, received = CpuTime(budget), sl.ReceivedError()
        watched = sl.Snapshots(every=max(1, self.steps // SNAPSHOTS))
        # Rows at tiny scale keep no curve of each step, and looking takes time.
        observers = [clock, *([] if self.run else [watched])]
        observers += [received] if self.run and self.profile == "paper" else []
        log = None
        with suppress(TimeoutError):  # from CpuTime: the run is cut short on purpose
            log = sl.train(
                [client],
                attack,
                self.steps,
                observers=[sl.Progress(self.name), *observers, Stop(stop_at, self.every)],
                autocast=setting.precision(device),
                checkpoint=self.checkpoint,
                every=self.every,
            )
        report = sl.evaluate(client, attack, referee)
        if self.run:
            add_row(self, self._row(client.step, clock, received, report), device)
        else:
            sl.record.write(
                self.file,
                config=self.config,
                data={"private": private, "public": public},
                log=log,
                report=report,
                snapshots=watched,
                device=device,
                folder=RUNS,
            )
        self.checkpoint.unlink(missing_ok=True)
        scores = report.received or report.metrics
        return ", ".join(f"{name} {score:.4f}" for name, score in scores.items())

    def _row(
        self, steps: int, clock: CpuTime, received: sl.ReceivedError, report: sl.Report
    ) -> dict[str, Any]:
        row = {"run": self.run, "seed": self.seed, "design": self.design, "steps": steps}
        if self.profile == "paper":
            row |= {
                "client_rate": self.config["client_rate"],
                "received_mse": [round(value, 4) for value in received.mse],
            }
        return row | {"cpu_seconds": clock.seconds, "numerics": NUMERICS, **report.to_dict()}


def jobs() -> list[Job]:
    """Return all runs, those worth most first."""
    digits = [Job("hijack_digits", "", "digits", 0, 300)]
    for name, design, steps in (
        ("fast", "fast", 300),
        ("no hijack", None, 300),
        ("paper", "paper", 300),
        ("paper, ten times the steps", "paper", 3000),
    ):
        digits += [Job("digits_tiny", name, "digits", s, steps, design) for s in DIGITS_SEEDS]
    mnist = [Job("hijack_mnist", "", "mnist", 0, 240, profile="paper")]
    rate = sl.paper.client_rate
    for name, design, steps, client_rate, seeds in (
        ("fast", "fast", 240, rate, MNIST_SEEDS),
        ("fast, client rate 1e-05", "fast", 480, 1e-5, (1,)),
        ("paper, client rate 1e-05", "paper", sl.paper.paper_steps, 1e-5, (1,)),
        ("paper, client rate 0.0003", "paper", sl.paper.paper_steps, rate, (1,)),
    ):
        budget = CPU_BUDGET if design == "paper" else None
        mnist += [
            Job("mnist_paper_scale", name, "mnist", s, steps, design, "paper", client_rate, budget)
            for s in seeds
        ]
    return digits + mnist


def rows_of(file: str) -> dict[str, Any]:
    """Return the rows of a table of runs, by name."""
    path = RUNS / f"{file}.json"
    return json.loads(path.read_text())["rows"] if path.exists() else {}


def add_row(job: Job, row: dict[str, Any], device: torch.device) -> None:
    """Add a row to a table of runs; read anew, for another process may have added its own."""
    rows = rows_of(job.file) | {f"{job.run}/{job.seed}": row}
    gpu = device.type == "cuda"
    about = {
        "made_by": "benchmarks/records.py",
        "splitlab": sl.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if gpu else "one CPU core",
    }
    text = json.dumps({"about": about, "rows": dict(sorted(rows.items()))}, indent=1)
    write_atomically(RUNS / f"{job.file}.json", f"{text}\n".encode())


def main(arguments: Sequence[str] | None = None) -> int:
    """Make what is missing; return 0 when all of it is there, 1 when something is left to do."""
    everything = jobs()
    files = list(dict.fromkeys(job.file for job in everything))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="*", help=f"{', '.join(files)} (default: the profile's)")
    parser.add_argument("--profile", choices=("tiny", "paper"), default="tiny")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so many")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (cpu)")
    parser.add_argument("--list", action="store_true", help="only say what is there")
    options = parser.parse_args(arguments)
    if unknown := set(options.file) - set(files):
        parser.error(f"no record is called {min(unknown)!r}: choose from {', '.join(files)}")
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("this machine has no usable GPU: use --device cpu")
    torch.set_num_threads(1)
    stop_at = time.monotonic() + 60 * options.minutes
    left = []
    for job in everything:
        if job.file not in options.file and (options.file or job.profile != options.profile):
            continue
        try:
            if job.done():
                print(f"{job.name}: is there")
            elif options.list or time.monotonic() > stop_at:
                left.append(job.name)
            else:
                print(f"{job.name}: {job.make(device, stop_at)}", flush=True)
        except OutOfTime:
            left.append(f"{job.name} (begun)")
        except ValueError as error:  # missing data, a damaged file, a checkpoint of another run
            left.append(job.name)
            print(f"{job.name}: {error}", file=sys.stderr)
    for name in left:
        print(f"{name}: still to do")
    return 1 if left else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(130)
