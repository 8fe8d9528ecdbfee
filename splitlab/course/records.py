"""Recorded runs: what took longer than a chapter may, kept in `splitlab/course/runs/`.

A record of one run is `NAME.json` (configuration, versions, times, metrics, report) and, where the
run was watched, `NAME.safetensors` (snapshots): `write` makes it and `replay` reads it. A table of
many runs is one JSON file of rows, each with its own configuration, versions and times:
`write_row` makes it, `recorded` and `ranges` read it.

A record has a key: the hash of its configuration, its data, the source of the modules that
computed it, and `NUMERICS`. It is stale, and `replay` refuses it, when configuration, data or
`NUMERICS` are not those asked for. So is a row, and `recorded` refuses it, when its `NUMERICS` are
others, or its configuration is not what the caller says: `splitlab.course.experiments.recorded`,
which the chapters call, hands over the configurations that are defined by now. A change of
the source alone makes no record stale, for most changes leave the results alone, but the record's
label then says so: whoever changes the mathematics raises `NUMERICS`. A stale record that is worth
keeping is marked by hand: a reason as "historical" in its JSON file (in the row, in a table). It is
then replayed, and its label gives the reason.
"""

from __future__ import annotations

import datetime
import hashlib
import importlib.resources
import json
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from splitlab.core import files
from splitlab.core.identity import NUMERICS
from splitlab.core.tables import Spread, Table

# What computes a run: folders of splitlab/, and one file.
MODULES = ("core", "attacks", "defenses", "nets", "data", "referee", "settings.py")


# The package's own folder: it is installed with the package, wherever that is put.
RUNS = Path(str(importlib.resources.files("splitlab.course"))) / "runs"


class StaleRecord(ValueError):
    """A recorded run that is not of the present configuration, data or mathematics."""


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
        """What a table or figure made of these runs says of them: a caption, or `record=`."""
        return label_of(self.name, self)


def source_hash() -> str:
    """Return a hash of the source of `MODULES`."""
    library = Path(__file__).parents[1]
    digest = hashlib.blake2b(digest_size=8)
    for module in MODULES:
        path = library / module
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            text = file.read_text(encoding="utf-8")  # line ends as "\n" everywhere
            digest.update(f"{file.relative_to(library).as_posix()} {len(text)}\n{text}".encode())
    return digest.hexdigest()


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
        ValueError: If the name cannot be a file's name, or the file there is damaged.
    """
    path = folder_for(name, folder) / f"{name}.json"
    rows = rows_of(path)  # read anew, for another process may have added its own
    rows[f"{row['run']}/{row['seed']}"] = {**row, **provenance(device)}
    content = {"command": command_of(name), "rows": dict(sorted(rows.items()))}
    files.write_atomically(path, f"{json.dumps(content, indent=1)}\n".encode())


def rows_of(path: Path) -> dict[str, Any]:
    """Return the rows of a table by name, stale or not; none where there is no file.

    Raises:
        ValueError: If the file is damaged, or holds no table.
    """
    try:
        return dict(json.loads(path.read_text())["rows"]) if path.exists() else {}
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(path, "it is no whole table of runs") from error


def recorded(name: str, config: Callable[[str, int], Mapping[str, Any] | None]) -> Runs:
    """Return the runs recorded in `splitlab/course/runs/NAME.json`, in a fixed order.

    Args:
        name: The table's name.
        config: Kind of run and seed -> what such a run should be a function of; None accepts any.

    Raises:
        FileNotFoundError: Saying where the record can be had.
        ValueError: If the file is damaged.
        StaleRecord: If the configuration of a run is not that of `config`, or it was made with
            other `NUMERICS`, and it is not marked historical.
    """
    rows = rows_of(path_of(name))
    stale = {}
    for key, row in rows.items():
        if reasons := why_stale(row, config(row.get("run"), row.get("seed"))):
            stale[key] = "; ".join(reasons)
    if stale:
        key = next(iter(stale))
        others = f"; and {len(stale) - 1} more" if len(stale) > 1 else ""
        raise StaleRecord(
            f"the recorded runs {name!r} are stale ({key}: {stale[key]}{others}): make them anew "
            f'with `{command_of(name)}`, or give a reason as "historical" in each such row'
        )
    return Runs(name, rows.values())


def why_stale(row: Mapping[str, Any], config: Mapping[str, Any] | None = None) -> list[str]:
    """Say what makes a row of a table stale; nothing where it is not, or is marked historical.

    Args:
        row: The row.
        config: What the run should be a function of; None accepts any.
    """
    if row.get("historical"):
        return []
    return list(changes(row.get("numerics"), row.get("config", {}), config))


def ranges(
    runs: Sequence[dict[str, Any]],
    columns: dict[str, str | Callable[[dict[str, Any]], float]],
    *,
    caption: str = "",
) -> Table:
    """Return a table of median and range over the seeds, one row for each kind of run.

    The kinds stand in the order in which their first runs come.

    Args:
        runs: Recorded runs; those with the same "run" share a row.
        columns: Heading -> where a run keeps the figure ("metrics.matched"), or a function of the
            run.
        caption: One line of text.
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
    """Return the JSON file of a record.

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


def command_of(name: str) -> str:
    """Return what makes a record anew."""
    return f"python benchmarks/records.py {name}"


def folder_for(name: str, folder: Path | None) -> Path:
    """Return where to write a record of this name."""
    if not name.replace("-", "").replace("_", "").isalnum():
        raise ValueError(f"a record cannot be called {name!r}: use letters, digits, - and _")
    return folder or RUNS


def provenance(device: torch.device | str) -> dict[str, Any]:
    """Return when, where and with what a run is being recorded."""
    import splitlab  # its version, known only when all of it is imported

    return {
        "made": datetime.date.today().isoformat(),
        "device": _device_name(device),
        "versions": {
            "splitlab": splitlab.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "numerics": NUMERICS,
        "source": source_hash(),
    }


def label_of(name: str, runs: Sequence[Mapping[str, Any]]) -> str:
    """Say when, where and with what one run or several were made, each thing once."""
    dated = [run for run in runs if "made" in run]  # not those quoted from elsewhere
    parts = [name]
    if dated:
        days = sorted(run["made"] for run in dated)
        when = " to ".join(dict.fromkeys([days[0], days[-1]]))
        devices = " and ".join(dict.fromkeys(run["device"] for run in dated))
        versions = " and ".join(dict.fromkeys(run["versions"]["splitlab"] for run in dated))
        parts = [f"{name}, recorded {when} on {devices}, splitlab {versions}"]
        if {run["source"] for run in dated} != {source_hash()}:
            parts.append("made with an earlier source")
    reasons = dict.fromkeys(run["historical"] for run in runs if run.get("historical"))
    return "; ".join([*parts, *(f"historical: {reason}" for reason in reasons)])


def damaged(path: Path, why: str) -> ValueError:
    """Return the error for a file that cannot be read."""
    return ValueError(
        f"{path} cannot be read ({why}): restore it with git, or make it anew with "
        f"`{command_of(path.stem)}`"
    )


def changes(
    numerics: int | None, recorded: Mapping[str, Any], config: Mapping[str, Any] | None
) -> Iterator[str]:
    """Say in what mathematics and configuration are others than asked for."""
    if numerics != NUMERICS:
        yield f"made with NUMERICS {numerics}, now {NUMERICS}"
    if config is not None:
        wanted = json.loads(json.dumps(config))
        for name in dict.fromkeys([*wanted, *recorded]):
            there, here = (side.get(name, "absent") for side in (recorded, wanted))
            if there != here:
                yield f"{name}: {there} recorded, {here} asked for"


def _device_name(device: torch.device | str) -> str:
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{device.type}, {threads} thread{'s' * (threads != 1)}"


def _figure(run: dict[str, Any], where: str | Callable[[dict[str, Any]], float]) -> float:
    if callable(where):
        return where(run)
    value: Any = run
    for name in where.split("."):
        value = value[name]
    return value


def _range(values: Sequence[float]) -> str | Spread:
    whole = all(isinstance(value, int) for value in values)
    digits = 0 if whole or min(values) >= 10 else 3
    low, middle, high = (f"{v:.{digits}f}" for v in (min(values), median(values), max(values)))
    return middle if low == high else Spread(middle, low, high)
