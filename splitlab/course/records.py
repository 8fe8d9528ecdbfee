"""Recorded runs, which take longer than a chapter may, kept in `splitlab/course/runs/`.

A table is one JSON file of rows (`splitlab.course.record_files`), and a row is one run: "run" (the
kind), "seed", "config" (what the run is a function of), its figures, and when, where and with what
it was made. `write_row` writes; `recorded` and `ranges` read.

A row is stale when its configuration is not what the caller says, or when it was made with other
`NUMERICS`, a number that is raised by hand when the mathematics changes. `recorded` refuses a stale
row. The chapters call `splitlab.course.experiments.recorded`, which knows the configurations. A
stale row that is worth keeping is marked by hand, with a reason as "historical": it is then
accepted, and the label gives the reason.
"""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from splitlab.arguments import described
from splitlab.core.identity import NUMERICS
from splitlab.core.tables import Spread, Table, numbers
from splitlab.course.record_files import add_rows, command_of, row_hash, rows_of

# fmt: off
__all__ = [
    "RUNS", "Runs", "StaleRecord", "command_of", "path_of", "ranges", "recorded", "row_hash",
    "rows_of", "why_stale", "window_means", "write_row",
]
# fmt: on

# The package's own folder: it is installed with the package, wherever that is put.
RUNS = Path(str(importlib.resources.files("splitlab.course"))) / "runs"


class StaleRecord(ValueError):
    """A recorded run of another configuration, or of earlier mathematics."""


class Runs(list[dict[str, Any]]):
    """Recorded runs of one table, in a fixed order.

    Args:
        name: The table's name in `splitlab/course/runs/`.
        rows: The runs.
    """

    def __init__(self, name: str, rows: Iterable[dict[str, Any]]) -> None:
        super().__init__(rows)
        self.name = name

    def of(self, *kinds: str) -> Runs:
        """Return the runs of one kind, or of several, in the order in which they are named.

        Raises:
            KeyError: If there is none of a kind; names the kinds.
        """
        chosen = []
        for kind in kinds:
            found = [row for row in self if row["run"] == kind]
            if not found:
                known = "; ".join(dict.fromkeys(row["run"] for row in self))
                raise KeyError(f"no run of {self.name} is called {kind!r}: choose from {known}")
            chosen += found
        return Runs(self.name, chosen)

    @property
    def label(self) -> str:
        """When and on what device they ran: a table's caption, or a figure's `record=`."""
        dated = [run for run in self if "made" in run]  # not those quoted from elsewhere
        parts = [self.name]
        if dated:
            days = sorted(run["made"] for run in dated)
            when = " to ".join(dict.fromkeys([days[0], days[-1]]))
            devices = " and ".join(dict.fromkeys(run["device"] for run in dated))
            parts = [f"{self.name}, recorded {when} on {devices}"]
        reasons = dict.fromkeys(run["historical"] for run in self if run.get("historical"))
        return "; ".join([*parts, *(f"historical: {reason}" for reason in reasons)])


def write_row(
    name: str,
    row: Mapping[str, Any],
    *,
    device: torch.device | str = "cpu",
    folder: Path | None = None,
) -> None:
    """Add one run to a recorded table; an earlier row of that run and seed is replaced.

    Args:
        name: The table's name: letters, digits, "-" and "_".
        row: "run" (the name of the kind), "seed", "config" (what the run is a function of) and the
            figures, ready for JSON.
        device: Where the run was computed.
        folder: Where to write; the default is the package's own folder.

    Raises:
        TypeError: If the row is no dictionary, or holds what JSON cannot.
        ValueError: If the name cannot be a file's name, or the file there is damaged or cannot be
            written.
    """
    if not isinstance(name, str):
        raise TypeError(f"a record's name is {described(name)}: pass text, such as 'digits_tiny'")
    if not name.replace("-", "").replace("_", "").isalnum():
        raise ValueError(f"a record cannot be called {name!r}: use letters, digits, - and _")
    add_rows((folder or RUNS) / f"{name}.json", [row], device=device)


def recorded(name: str, config: Callable[[str, int], Mapping[str, Any] | None]) -> Runs:
    """Return the runs recorded in `splitlab/course/runs/NAME.json`, in a fixed order.

    Args:
        name: The table's name.
        config: Kind of run and seed -> what such a run should be a function of; None accepts any.

    Raises:
        FileNotFoundError: Saying where the record can be had.
        ValueError: As `rows_of`.
        StaleRecord: If a row is stale.
    """
    rows = rows_of(path_of(name))
    stale = {}
    for key, row in rows.items():
        if reasons := why_stale(row, config(row["run"], row.get("seed"))):
            stale[key] = "; ".join(reasons)
    if stale:
        key = next(iter(stale))
        others = f"; and {len(stale) - 1} more" if len(stale) > 1 else ""
        raise StaleRecord(
            f"the recorded runs {name!r} are stale ({key}: {stale[key]}{others}): record them "
            f'again with `{command_of(name)}`, or give a reason as "historical" in each such row'
        )
    return Runs(name, rows.values())


def why_stale(row: Mapping[str, Any], config: Mapping[str, Any] | None = None) -> list[str]:
    """Return why a row of a table is stale; nothing if it is not, or is marked historical.

    Args:
        row: The row.
        config: What the run should be a function of; None accepts any.
    """
    if row.get("historical"):
        return []
    reasons = []
    if row.get("numerics") != NUMERICS:
        reasons.append(f"made with NUMERICS {row.get('numerics')}, now {NUMERICS}")
    if config is not None:
        there, here = row.get("config", {}), json.loads(json.dumps(config))
        for name in dict.fromkeys([*here, *there]):
            old, new = (side.get(name, "absent") for side in (there, here))
            if old != new:
                reasons.append(f"{name}: {old} recorded, {new} asked for")
    return reasons


def ranges(
    runs: Sequence[dict[str, Any]],
    columns: dict[str, str | Callable[[dict[str, Any]], float | None]],
    *,
    caption: str = "",
) -> Table:
    """Return a table of median and range over the seeds, one row for each kind of run.

    The kinds are in the order of their first runs.

    Args:
        runs: Recorded runs; those with the same "run" share a row.
        columns: Heading -> where a run keeps the figure ("metrics.matched"), or a function of the
            run, which returns None where the figure makes no sense.
        caption: One line of text.

    Raises:
        KeyError: If a run does not keep a figure there; names the figures that it has.
    """
    rows = []
    for kind in dict.fromkeys(run["run"] for run in runs):
        chosen = [run for run in runs if run["run"] == kind]
        cells = [_range([_figure(run, where) for run in chosen]) for where in columns.values()]
        rows.append([kind, str(len(chosen)), *cells])
    return Table(["run", "seeds", *columns], rows, caption=caption)


def window_means(values: Sequence[float], width: int = 100) -> tuple[list[float], list[float]]:
    """Return (last steps, means) of consecutive windows; a last partial window is dropped."""
    ends = range(width, len(values) + 1, width)
    return list(ends), [sum(values[end - width : end]) / width for end in ends]


def path_of(name: str) -> Path:
    """Return the JSON file of a table.

    Raises:
        FileNotFoundError: Saying where the record can be had.
    """
    path = RUNS / f"{name}.json"
    if path.exists():
        return path
    raise FileNotFoundError(
        f"there is no recorded run {name!r} in {RUNS}: check the name, or make it in a copy of the "
        f"repository with `{command_of(name)}`"
    )


def _figure(
    run: dict[str, Any], where: str | Callable[[dict[str, Any]], float | None]
) -> float | None:
    if callable(where):
        return where(run)
    value: Any = run
    for name in where.split("."):
        if not isinstance(value, Mapping) or name not in value:
            known = ", ".join(map(str, value)) if isinstance(value, Mapping) else "nothing below it"
            raise KeyError(f"no figure {where!r} in run {run['run']!r}: at {name!r} it has {known}")
        value = value[name]
    return value


def _range(values: Sequence[float | None]) -> str | Spread:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "-"
    return _spread(known)


def _spread(values: Sequence[float]) -> str | Spread:
    middle = median(values)
    if all(isinstance(value, int) for value in values):
        middle = round(middle)  # of an even number of counts, it lies between two
    low, figure, high = numbers(min(values), middle, max(values))
    return figure if low == high else Spread(figure, low, high)
