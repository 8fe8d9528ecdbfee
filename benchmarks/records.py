"""Makes the records in `splitlab/course/runs/`, over seeds that chose no setting.

    python benchmarks/records.py                         # digits at tiny scale, on the CPU
    python benchmarks/records.py --minutes 10            # as much of that as ten minutes allow
    python benchmarks/records.py --profile paper         # MNIST at the paper's scale
    python benchmarks/records.py digits_tiny --list      # what is there of one file, and what not

The experiments are those of `splitlab.course.experiments`. Run this in a copy of the repository;
MNIST's files are read from SPLITLAB_DATA. What is there already is not made again, unless its
configuration or the library's `NUMERICS` have changed since. What is worth most comes first. A run
that was stopped, by --minutes, Ctrl-C or a power cut, goes on from its last checkpoint (in
build/records/) when the command is given again. One thread; on a GPU, --device cuda. Where the
library is not installed, set PYTHONPATH to the repository's folder.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import splitlab as sl
from splitlab.course import exits
from splitlab.course.experiments import Experiment, experiments
from splitlab.course.options import Parser, chosen, number

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "splitlab" / "course" / "runs"
CHECKPOINTS = ROOT / "build" / "records"


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


def checkpoint(job: Experiment) -> Path:
    """Return where an interrupted run waits."""
    # A sign counts: the runs "thickness +1" and "thickness -1" are two.
    name = re.sub(r"[^A-Za-z0-9+]", "-", f"{job.table}-{job.run}-{job.seed}")
    return CHECKPOINTS / f"{name}.checkpoint"


def every(job: Experiment) -> int:
    """Return the steps between two checkpoints: some seconds on one core."""
    return 100 if job.profile == "tiny" else 10


def done(job: Experiment) -> bool:
    """Whether the row is there, of the present configuration and mathematics."""
    row = sl.records.rows_of(RUNS / f"{job.table}.json").get(f"{job.run}/{job.seed}")
    return row is not None and not sl.records.why_stale(row, job.config)


def make(job: Experiment, device: torch.device, stop_at: float) -> str:
    """Run an experiment, from its last checkpoint if there is one, and record it.

    Returns:
        The scores, for printing.

    Raises:
        OutOfTime: If the time was over before the end.
    """
    scores = job.make(
        device,
        [sl.Progress(job.name), Stop(stop_at, every(job))],
        folder=RUNS,
        checkpoint=checkpoint(job),
        every=every(job),
    )
    checkpoint(job).unlink(missing_ok=True)
    return ", ".join(f"{name} {score:.4f}" for name, score in scores.items())


def main(arguments: Sequence[str] | None = None) -> int:
    """Make what is missing, and return the exit status.

    Returns:
        0 when all of it is there, 1 when something is left to do; the others are those of
        `splitlab.course.exits.STATUSES`.
    """
    stopped = "the same command goes on from the last checkpoint"
    return exits.run("records.py", lambda: _main(arguments), stopped=stopped)


def _main(arguments: Sequence[str] | None) -> int:
    everything = experiments()
    files = list(dict.fromkeys(job.table for job in everything))
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="*", help=f"{', '.join(files)} (default: the profile's)")
    parser.add_argument("--profile", choices=("tiny", "paper"), default="tiny")
    parser.add_argument("--minutes", type=number, default=float("inf"), help="stop after so many")
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda or cuda:N (cpu)")
    parser.add_argument("--list", action="store_true", help="only say what is there")
    options = parser.parse_args(arguments)
    if unknown := set(options.file) - set(files):
        parser.error(f"no record is called {min(unknown)!r}: choose from {', '.join(files)}")
    if not options.minutes >= 0:  # NaN is not, either
        parser.error(f"--minutes is {options.minutes:g}: choose a number of at least 0")
    device = chosen(options.device, options.profile)
    torch.set_num_threads(1)
    stop_at = time.monotonic() + 60 * options.minutes
    left = []
    for job in everything:
        if job.table not in options.file and (options.file or job.profile != options.profile):
            continue
        try:
            if done(job):
                print(f"{job.name}: is there")
            elif options.list or time.monotonic() > stop_at:
                left.append(job.name)
            else:
                print(f"{job.name}: {make(job, device, stop_at)}", flush=True)
        except OutOfTime:
            left.append(f"{job.name} (begun)")
        except ValueError as error:  # missing data, a damaged file, a checkpoint of another run
            left.append(job.name)
            print(f"{job.name}: {error}", file=sys.stderr)
    for name in left:
        print(f"{name}: still to do")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
