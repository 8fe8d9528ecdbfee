"""`splitlab run`: notebooks over a grid of profiles, seeds and parameters."""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from splitlab.course import exits
from splitlab.course.locks import only_one
from splitlab.course.options import whole

if TYPE_CHECKING:
    from splitlab.course.batch.engines import Engine
    from splitlab.course.batch.jobs import Outcome

MEGABYTES = 1.5  # of an executed copy with its pictures, and of its part of the gallery
NEEDED = ("papermill", "nbclient", "nbformat", "ipykernel", "yaml")
SLURM = {
    "--partition": "the partition",
    "--account": "the account (your own)",
    "--walltime": "the longest that a worker lives (04:00:00)",
    "--memory": "the memory of a worker (4GB)",
    "--gpus": "the GPUs of a worker (0)",
}
DESCRIPTION = (
    "Run notebooks over a grid of profiles, seeds and parameters. Into the folder --out go the "
    "executed copies, a log for each job, jobs.csv, and gallery.html, which shows them all. What "
    "an earlier run has done there is not run again unless the notebook, the library, the data or "
    "a parameter has changed: to add seeds, ask for all of them. Ctrl-C lets the running notebooks "
    "finish; a second one stops them."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `splitlab run` to its parser."""
    parser.description = DESCRIPTION
    parser.set_defaults(run=run)
    parser.add_argument(
        "notebooks",
        nargs="+",
        metavar="NOTEBOOK",
        help="a notebook or a folder of notebooks; of the book also 32 or solutions/32, `book` for "
        "all chapters and `solutions` for all solutions",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--profile", help="profiles, such as tiny,gpu (tiny)")
    parser.add_argument("--seeds", help="seeds, such as 3, 0-9 or 0,2,10-12 (0)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE,VALUE",
        help="values of another parameter that the notebooks declare; may be repeated",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (auto)")
    parser.add_argument("--timeout", type=whole, default=600, help="seconds for one cell (600)")
    cores = min(4, os.cpu_count() or 1)
    parser.add_argument(
        "--jobs",
        type=whole,
        default=cores,
        help=f"notebooks run at once, one core each; on a GPU one at a time ({cores})",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="say what would run, and what Slurm would be given, and run nothing",
    )
    where = parser.add_argument_group(
        "where it runs",
        "Dask needs the extra `cluster`: pip install 'splitlab[cluster]'. With it a worker that "
        "was killed is started again, and its notebook runs again.",
    )
    where.add_argument(
        "--cluster",
        choices=("none", "local", "slurm"),
        help="none: threads of this process; local: Dask's workers on this machine (the default "
        "where Dask is installed); slurm: Dask's workers in --jobs Slurm jobs",
    )
    where.add_argument("--scheduler", metavar="ADDRESS", help="a Dask scheduler that is there")
    for name, text in SLURM.items():
        where.add_argument(name, help=f"with --cluster slurm: {text}")


def run(options: argparse.Namespace) -> int:
    """Run `splitlab run`.

    Returns:
        0, 1 if a job failed, or the status of what stopped it.

    Raises:
        ValueError: If the request makes no sense, or something that it needs is missing.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"notebooks are run with {missing[0]}, which is not installed: "
            "pip install 'splitlab[book]'"
        )
    from splitlab.course.batch import grid, launch
    from splitlab.course.contents import BookError
    from splitlab.course.notebook_files import ChapterError

    for name, value in {"--jobs": options.jobs, "--timeout": options.timeout}.items():
        if value < 1:
            raise ValueError(f"{name} is {value}: choose at least 1")
    out: Path = options.out.expanduser().resolve()
    start, about, elsewhere = _engine(options, out)
    try:
        jobs = grid.grid(
            grid.notebooks(options.notebooks),
            out,
            profile=options.profile,
            seed=options.seeds,
            device=options.device,
            sets=options.set,
            timeout=options.timeout,
            elsewhere=elsewhere,
        )
        done = launch.finished(jobs)
        if options.dry_run:
            for job in jobs:
                print(f"{job.name}: {'done before' if job in done else 'to run'}")
            print(about)
            return 0
        _check_room(out, len(jobs) - len(done))
        _check_kernel()
    except (ChapterError, BookError) as error:
        raise ValueError(str(error).rstrip(".")) from None
    refusal = ValueError(
        f"another batch is at work in {out}: wait until it is done, or choose another --out"
    )
    with only_one(out / "batch.lock", refusal):
        began = time.monotonic()
        outcomes, stopped = launch.launch(jobs, done, start)
        with exits.without_interrupts():  # what was done is told
            _report(out, outcomes, time.monotonic() - began)
    if isinstance(stopped, KeyboardInterrupt):
        rest = sum(outcome.result is None for outcome in outcomes)
        print(
            f"splitlab: stopped, {rest} of {len(jobs)} jobs have not run; the same command goes on",
            file=sys.stderr,
        )
        return exits.stopped_status(stopped)
    if stopped is not None:
        raise ValueError(str(stopped).rstrip("."))
    return int(any(outcome.status == "failed" for outcome in outcomes))


def _engine(options: argparse.Namespace, out: Path) -> tuple[Callable[[], Engine], str, bool]:
    """Where the jobs run.

    Returns:
        What makes the engine; what --dry-run says of it; whether it is on other machines.

    Raises:
        ValueError: If the options contradict one another, or Dask is needed and not installed.
    """
    from splitlab.course.batch import cluster
    from splitlab.course.batch.engines import Threads, run_job

    name, jobs = options.cluster, options.jobs
    slurm = {key.lstrip("-"): getattr(options, key.lstrip("-")) for key in SLURM}
    slurm = {key: value for key, value in slurm.items() if value is not None}
    if options.scheduler is not None and name is not None:
        raise ValueError(
            f"--scheduler and --cluster {name} are two places: leave out one of the two"
        )
    if slurm and name != "slurm":
        raise ValueError(f"--{next(iter(slurm))} goes with --cluster slurm: add that")
    if options.scheduler is not None:
        there = cluster.Connected(run_job, options.scheduler)
        return lambda: there, there.about, True
    if name == "slurm":
        from splitlab.course.batch.slurm import Allocation, Slurm, script

        if "partition" not in slurm:
            raise ValueError("--cluster slurm needs --partition: `sinfo` lists them")
        if "gpus" in slurm:
            slurm["gpus"] = _gpus(slurm["gpus"])
        allocation = Allocation(logs=out / "slurm", **slurm)
        workers = Slurm(run_job, jobs, allocation)
        return lambda: workers, f"{workers.about}, each with\n\n{script(allocation)}", True
    if name == "local" or (name is None and cluster.available()):
        local = cluster.Local(run_job, jobs)
        return lambda: local, local.about, False
    threads = Threads(jobs)
    return lambda: threads, threads.about, False


def _gpus(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"--gpus is {text!r}: write how many GPUs each worker gets")
    return int(text)


def _check_room(out: Path, jobs: int) -> None:
    """Refuse a folder that cannot be written to, or has too little room."""
    there = next(path for path in (out, *out.parents) if path.exists())
    if not there.is_dir():
        raise ValueError(f"--out {out}: {there} is a file; name a folder")
    if not os.access(there, os.W_OK):
        raise ValueError(f"--out {out} cannot be written to: make it writable, or choose another")
    needed, free = jobs * MEGABYTES, shutil.disk_usage(there).free / 1e6
    if free < needed:
        raise ValueError(
            f"{jobs} jobs need about {needed:,.0f} MB, and {there} has {free:,.0f} MB free: make "
            "room, or choose another --out"
        )


def _check_kernel() -> None:
    from splitlab.course import kernels

    if said := kernels.fault():
        raise ValueError(
            f"no kernel starts here ({said}): see what `python -m ipykernel_launcher` says, or "
            "pip install 'splitlab[book]' again"
        )


def _report(out: Path, outcomes: Sequence[Outcome], seconds: float) -> None:
    """Write the table and the gallery, and print what they sum up."""
    from splitlab.course.batch import gallery, table

    table.write(out, outcomes)
    gallery.write(out, outcomes, seconds=seconds)
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    counts = {
        "done": sum(outcome.status == "done" for outcome in outcomes),
        "failed": len(failed),
        "not run": sum(outcome.status == "not run" for outcome in outcomes),
    }
    for outcome in failed:
        print(f"FAILED {outcome.job.name}: {outcome.result and outcome.result.error}")
        print(f"       log: {outcome.job.log}")
    print(", ".join(f"{count} {what}" for what, count in counts.items() if count or what == "done"))
    print(f"gallery: {out / 'gallery.html'}")
    print(f"table:   {out / 'jobs.csv'}")
