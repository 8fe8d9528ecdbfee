"""Recorded runs: figures that took longer than a chapter may, kept in `book/runs/`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from splitlab.tables import Table

RUNS = Path("book") / "runs"


def recorded(name: str) -> list[dict[str, Any]]:
    """Return the runs recorded in `book/runs/NAME.json`, in a fixed order.

    Looks in the folders above the working directory, then beside the library's source.

    Raises:
        FileNotFoundError: Saying where the record can be had.
    """
    here, source = Path.cwd(), Path(__file__).resolve()
    for folder in [here, *here.parents, *source.parents]:
        path = folder / RUNS / f"{name}.json"
        if path.exists():
            return list(json.loads(path.read_text())["rows"].values())
    raise FileNotFoundError(
        f"no recorded run {name!r} here: open the notebook in a copy of the repository, which has "
        f"it as {RUNS / name}.json, or make it with benchmarks/hijack.py"
    )


def ranges(
    runs: Sequence[dict[str, Any]],
    columns: dict[str, str | Callable[[dict[str, Any]], float]],
    *,
    caption: str = "",
) -> Table:
    """Return a table of median and range over the seeds, one row for each kind of run.

    Args:
        runs: Recorded runs; those with the same "run" share a row.
        columns: Heading -> where a run keeps the figure ("metrics.matched"), or a function of the
            run.
        caption: One line of text.
    """
    kinds = sorted({run["run"] for run in runs})
    rows = []
    for kind in kinds:
        chosen = [run for run in runs if run["run"] == kind]
        cells = [_range([_figure(run, where) for run in chosen]) for where in columns.values()]
        rows.append([kind, str(len(chosen)), *cells])
    return Table(["run", "seeds", *columns], rows, caption=caption)


def window_means(values: Sequence[float], width: int = 100) -> tuple[list[float], list[float]]:
    """Return (last steps, means) of consecutive windows; a last partial window is dropped."""
    ends = range(width, len(values) + 1, width)
    return list(ends), [sum(values[end - width : end]) / width for end in ends]


def _figure(run: dict[str, Any], where: str | Callable[[dict[str, Any]], float]) -> float:
    if callable(where):
        return where(run)
    value: Any = run
    for name in where.split("."):
        value = value[name]
    return value


def _range(values: Sequence[float]) -> str:
    whole = all(isinstance(value, int) for value in values)
    digits = 0 if whole or min(values) >= 10 else 3
    low, middle, high = (f"{v:.{digits}f}" for v in (min(values), median(values), max(values)))
    return middle if low == high else f"{middle} ({low} to {high})"
