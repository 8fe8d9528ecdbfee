"""How long the chapters take on this machine: recorded seconds, and timed steps to scale them by.

The minutes come from two measurements. `make seconds` runs every notebook and stores in
`splitlab/course/runs/` how much CPU time it took, and how long a step of the tiny hijack took
there. `splitlab doctor` times the same steps here and scales. The fastest step gives the lower end,
the median the upper one, each with a margin: what else the machine does while a chapter runs,
nobody knows.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch

import splitlab as sl
from splitlab.core.tables import Table
from splitlab.course.record_files import SECONDS, add_rows

STEPS_TIMED = 5  # at least
TIME_LIMIT = 0.8  # seconds of timed steps; the first step, not timed, may take as long again
MARGIN = 1.25  # beyond the fastest and the usual step: 9 of 10 runs on a busy machine fell inside


class Expected(NamedTuple):
    """How long a chapter may take here, in seconds."""

    chapter: str
    low: float
    high: float


def step_seconds() -> list[float]:
    """Time steps of the tiny hijack on one CPU core, on random images.

    Returns:
        Seconds of each timed step; nothing else is changed, the random state neither.
    """
    setting = sl.tiny
    generator = torch.Generator().manual_seed(0)

    def images() -> sl.ImageData:
        x = 2 * torch.rand(320, 1, setting.size, setting.size, generator=generator) - 1
        return sl.ImageData(x, torch.arange(320) % 10, tuple("0123456789"), "digits")

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        client = sl.Client(setting.client_net(), images(), **setting.client())
        server = sl.FSHA.at(setting, images())
        send = sl.Wire()
        sl.vanilla(client, server, send)  # torch does much for the first time
        seconds: list[float] = []
        while len(seconds) < STEPS_TIMED or sum(seconds) < TIME_LIMIT:
            start = time.perf_counter()
            sl.vanilla(client, server, send)
            seconds.append(time.perf_counter() - start)
        return seconds
    finally:
        torch.set_num_threads(threads)


def store_seconds(folder: Path, profile: str, seconds: Mapping[str, float], step: float) -> Path:
    """Record how long the notebooks took, for `doctor` to scale.

    Args:
        folder: The folder of recorded runs.
        profile: What the notebooks ran at; an earlier table of it is replaced.
        seconds: The CPU seconds of each notebook.
        step: The shortest of `step_seconds` at that time, on the same machine.

    Returns:
        The file, a table of runs (`splitlab.course.records`).
    """
    rows = [
        {"run": name, "cpu_seconds": round(value, 1), "step_seconds": round(step, 4)}
        for name, value in seconds.items()
    ]
    path = folder / f"{SECONDS}{profile}.json"
    add_rows(path, rows, anew=True)
    return path


def recorded_seconds(profile: str) -> sl.records.Runs:
    """Return the recorded seconds of the notebooks at a profile; one run is one notebook.

    They are never stale: another `NUMERICS` makes a chapter neither faster nor slower.

    Raises:
        FileNotFoundError: If none are recorded for this profile.
        ValueError: If the table is damaged.
    """
    name = f"{SECONDS}{profile}"
    return sl.records.Runs(name, sl.records.rows_of(sl.records.path_of(name)).values())


def by_chapter(profile: str = "tiny") -> Table:
    """Return what each chapter and its solutions take, with totals for each part of the book.

    Notebooks were timed on days when the machine was fast or slow. All seconds here are scaled to
    the median of the timed steps.

    Args:
        profile: What the notebooks ran at.

    Returns:
        CPU seconds, as a table; the part is the first digit of a chapter's name.

    Raises:
        FileNotFoundError: If no seconds are recorded for this profile.
        ValueError: If the table of recorded seconds is damaged.
    """
    runs = recorded_seconds(profile)
    step = median(run["step_seconds"] for run in runs)
    seconds = {run["run"]: step * run["cpu_seconds"] / run["step_seconds"] for run in runs}
    chapters = [name for name in seconds if "/" not in name]

    def row(title: str, names: Sequence[str]) -> tuple[str, int, int | str]:
        solved = [seconds[f"solutions/{n}"] for n in names if f"solutions/{n}" in seconds]
        return title, round(sum(seconds[n] for n in names)), round(sum(solved)) if solved else "-"

    rows = []
    for part, group in itertools.groupby(chapters, key=lambda name: name[0]):
        names = list(group)
        rows += [row(name, [name]) for name in names]
        rows.append(row(f"part {part} in all", names))
    rows.append(row("the whole course", chapters))
    caption = f"CPU seconds where a step of the tiny hijack takes {1000 * step:.0f} ms"
    head = ("notebook", "chapter", "solutions")
    return Table(head, rows, caption=f"{caption} ({runs.label})", strong=len(rows) - 1)


def by_profile() -> Table:
    """Return for which profiles the notebooks were timed, and on what device."""
    rows = []
    for profile in sl.PROFILES:
        try:
            runs = recorded_seconds(profile)
        except FileNotFoundError:
            rows.append((profile, 0, "no times are recorded"))
        else:
            devices = dict.fromkeys(run["device"].partition(",")[0] for run in runs)
            rows.append((profile, len(runs), " and ".join(devices)))
    return Table(("profile", "notebooks timed", "device"), rows, caption="Recorded times")


def scaled(steps: Mapping[str, float], timed: Sequence[float]) -> list[Expected]:
    """Scale what was recorded to this machine.

    Args:
        steps: For each chapter, how many steps of the tiny hijack would have taken as long.
        timed: What `step_seconds` returned here.

    Returns:
        What to expect of each chapter.
    """
    fast, usual = min(timed) / MARGIN, median(timed) * MARGIN
    return [Expected(run, round(n * fast, 1), round(n * usual, 1)) for run, n in steps.items()]


def about(low: float, high: float) -> str:
    """Write a range of seconds as a range in words, rounded outwards.

    Examples: "20 to 40 s", "under 10 s", "3 to 6 min".
    """
    size, unit = (10, "s") if high < 120 else (60, "min")
    number = 10 if unit == "s" else 1
    first, last = int(low // size) * number, -int(-high // size) * number
    return f"{first} to {last} {unit}" if first else f"under {last} {unit}"
