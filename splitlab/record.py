"""Recorded runs: what took longer than a chapter may, kept in `book/runs/`.

A record of one run is `NAME.json` (configuration, versions, times, metrics, report) and, where the
run was watched, `NAME.safetensors` (snapshots): `write` makes it and `replay` reads it. A table of
many runs is one JSON file of rows, each with its own configuration, versions and times:
`write_row` makes it, `recorded` and `ranges` read it.

A record has a key: the hash of its configuration, its data, the source of the modules that
computed it, and `NUMERICS`. It is stale, and `replay` refuses it, when configuration, data or
`NUMERICS` are not those asked for. So is a row, and `recorded` refuses it, when its configuration
is no longer what `splitlab.experiments` defines, or its `NUMERICS` are others. A change of
the source alone makes no record stale, for most changes leave the results alone, but the record's
label then says so: whoever changes the mathematics raises `NUMERICS`. A stale record that is worth
keeping is marked by hand: a reason as "historical" in its JSON file (in the row, in a table). It is
then replayed, and its label gives the reason.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from splitlab import checkpoint
from splitlab.data import ImageData
from splitlab.protocols import Log
from splitlab.referee import Report, Snapshots
from splitlab.tables import Spread, Table

# Raised by hand when the mathematics changes: then older records no longer hold.
# 2: SSIM of pixels that are shifted to start at 0, as its definition wants.
NUMERICS = 2

# What computes a run; files and folders of splitlab/.
MODULES = (
    *("messages.py", "parties.py", "protocols.py", "aggregation.py", "randomness.py"),
    *("attacks", "defenses", "nets"),
    *("data", "settings.py", "schedules.py", "referee.py", "label_referee.py"),
    *("property_referee.py", "metrics.py", "baselines.py", "disguises.py", "priors.py"),
    *("decoding.py",),
)
RUNS = Path("book") / "runs"
FORMAT = 1
DIGITS = 6  # significant ones, in metrics and reports


class StaleRecord(ValueError):
    """A recorded run that is not of the present configuration, data or mathematics."""


@dataclass(frozen=True)
class Record:
    """One recorded run.

    Attributes:
        name: Its name in `book/runs/`.
        config: What the run is a function of: profile, seeds, steps.
        data: Hashes of the data, by part.
        log: The metrics of every step, to six significant digits, as `train` returned them.
        report: The referee's figures (`Report.to_dict`), or None.
        snapshots: The snapshots, to 256 levels, or None. `plot.frames(snapshots, log)` draws them.
        versions: Of splitlab, torch, numpy and Python.
        device: Where it was computed.
        made: The day, as YYYY-MM-DD.
        command: What makes the record anew.
        numerics: `NUMERICS` of that day.
        source: Hash of the modules that computed it.
        historical: Why a stale record is shown all the same; empty for a record that is not.
    """

    name: str
    config: dict[str, Any]
    data: dict[str, str]
    log: Log
    report: dict[str, Any] | None
    snapshots: Snapshots | None
    versions: dict[str, str]
    device: str
    made: str
    command: str
    numerics: int
    source: str
    historical: str = ""

    @property
    def key(self) -> str:
        """Hash of configuration, data, source and numerics."""
        what = [self.config, self.data, self.source, self.numerics]
        return hashlib.blake2b(json.dumps(what, sort_keys=True).encode(), digest_size=8).hexdigest()

    @property
    def label(self) -> str:
        """What a figure drawn from this record says of it: `plot.show(..., record=run.label)`."""
        return _label(self.name, [{field: getattr(self, field) for field in _PLAIN}])

    def __repr__(self) -> str:
        return f"Record({self.label}: {self.log!r})"


class Runs(list[dict[str, Any]]):
    """Recorded runs of one table, in a fixed order.

    Args:
        name: The table's name in `book/runs/`.
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
        return _label(self.name, self)


def write(
    name: str,
    *,
    config: Mapping[str, Any],
    data: Mapping[str, ImageData],
    log: Log,
    report: Report | None = None,
    snapshots: Snapshots | None = None,
    device: torch.device | str = "cpu",
    command: str = "",
    folder: Path | None = None,
) -> Record:
    """Record a run in `book/runs/`; an earlier record of that name is replaced.

    Args:
        name: The record's name: letters, digits, "-" and "_".
        config: What the run is a function of, ready for JSON.
        data: The data it used, by part: {"private": ..., "public": ...}.
        log: What `train` returned.
        report: What `evaluate` returned.
        snapshots: The observer that watched.
        device: Where the run was computed.
        command: What makes the record anew; the default is `benchmarks/records.py NAME`.
        folder: Where to write; the default is the nearest `book/runs`.

    Returns:
        The record, as `replay` gives it.

    Raises:
        ValueError: If the name cannot be a file's name.
        FileNotFoundError: If there is no folder `book/runs` near by.
    """
    folder = _folder_for(name, folder)
    record = Record(
        name=name,
        config=json.loads(json.dumps(config)),
        data={part: checkpoint.fingerprint(images) for part, images in data.items()},
        log=log,
        report=None if report is None else report.to_dict(),
        snapshots=snapshots,
        command=command or _command(name),
        **_provenance(device),
    )
    pictures = folder / f"{name}.safetensors"
    if snapshots is not None:
        checkpoint.save(_small(snapshots), pictures)
    content = {
        "format": FORMAT,
        "key": record.key,
        **{field: getattr(record, field) for field in _PLAIN},
        "pictures": None if snapshots is None else _hash(pictures.read_bytes()),
        "report": _rounded(record.report),
        "log": _rounded(log.state_dict()),
    }
    # One line for each entry: a metric of a thousand steps is not a thousand lines.
    lines = [f" {json.dumps(k)}: {json.dumps(v, allow_nan=False)}" for k, v in content.items()]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    # Last: with the pictures' hash in it, a pair of which only one half is new is found out.
    checkpoint.write_atomically(folder / f"{name}.json", text.encode())
    if snapshots is None:
        pictures.unlink(missing_ok=True)
    return _read(folder / f"{name}.json")


def replay(
    name: str,
    config: Mapping[str, Any] | None = None,
    *,
    data: Mapping[str, ImageData] | None = None,
) -> Record:
    """Return a recorded run, as if it had just been trained.

    Args:
        name: The record's name in `book/runs/`.
        config: What the run should be a function of; None accepts any.
        data: The data it should have used, by part; None accepts any.

    Raises:
        FileNotFoundError: If there is no such record; says how to make it.
        ValueError: If the files are damaged, or a table of runs (`recorded` reads those).
        StaleRecord: If configuration, data or `NUMERICS` differ, and it is not marked historical.
    """
    record = _read(path_of(name))
    differing = list(_differences(record, config, data))
    if differing and not record.historical:
        raise StaleRecord(
            f"the recorded run {name!r} is stale ({'; '.join(differing)}): make it anew with "
            f'`{record.command}`, or give a reason as "historical" in its JSON file'
        )
    return record


def source_hash() -> str:
    """Return a hash of the source of `MODULES`."""
    library = Path(__file__).parent
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
    """Add one run to a table in `book/runs/`; an earlier row of that run and seed is replaced.

    Args:
        name: The table's name: letters, digits, "-" and "_".
        row: "run" (the name of the kind), "seed", "config" (what the run is a function of) and the
            figures, ready for JSON.
        device: Where the run was computed.
        folder: Where to write; the default is the nearest `book/runs`.

    Raises:
        ValueError: If the name cannot be a file's name, or the file there is damaged.
        FileNotFoundError: If there is no folder `book/runs` near by.
    """
    path = _folder_for(name, folder) / f"{name}.json"
    rows = rows_of(path)  # read anew, for another process may have added its own
    rows[f"{row['run']}/{row['seed']}"] = {**row, **_provenance(device)}
    content = {"command": _command(name), "rows": dict(sorted(rows.items()))}
    checkpoint.write_atomically(path, f"{json.dumps(content, indent=1)}\n".encode())


def rows_of(path: Path) -> dict[str, Any]:
    """Return the rows of a table by name, stale or not; none where there is no file.

    Raises:
        ValueError: If the file is damaged, or holds no table.
    """
    try:
        return dict(json.loads(path.read_text())["rows"]) if path.exists() else {}
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, "it is no whole table of runs") from error


def recorded(name: str) -> Runs:
    """Return the runs recorded in `book/runs/NAME.json`, in a fixed order.

    Looks in the folders above the working directory, beside the library's source, and where an
    installation without the repository puts them.

    Raises:
        FileNotFoundError: Saying where the record can be had.
        ValueError: If the file is damaged.
        StaleRecord: If the configuration of a run is not the one that is defined by now, or it was
            made with other `NUMERICS`, and it is not marked historical.
    """
    from splitlab import experiments  # only whoever reads a table needs the definitions

    rows = rows_of(path_of(name))
    stale = {}
    for key, row in rows.items():
        try:
            config = experiments.find(name, row.get("run"), row.get("seed")).config
        except ValueError:  # a table of somebody's own
            config = None
        if reasons := why_stale(row, config):
            stale[key] = "; ".join(reasons)
    if stale:
        key = next(iter(stale))
        others = f"; and {len(stale) - 1} more" if len(stale) > 1 else ""
        raise StaleRecord(
            f"the recorded runs {name!r} are stale ({key}: {stale[key]}{others}): make them anew "
            f'with `{_command(name)}`, or give a reason as "historical" in each such row'
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
    return list(_changes(row.get("numerics"), row.get("config", {}), config))


def nearest_folder() -> Path | None:
    """Return the nearest folder of recorded runs, in the order of `recorded`; None for none."""
    return next((folder for folder in folders() if folder.is_dir()), None)


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


_PLAIN = (
    *("name", "historical", "config", "data", "command", "made", "device", "versions"),
    *("numerics", "source"),
)


def folders() -> list[Path]:
    """Where records may be: above the working directory, beside the source, with the package."""
    here, source = Path.cwd(), Path(__file__).resolve()
    copies = [folder / RUNS for folder in [here, *here.parents, *source.parents]]
    return [*copies, Path(sys.prefix) / "share" / "splitlab" / "runs"]


def path_of(name: str) -> Path:
    """Return the JSON file of a record.

    Raises:
        FileNotFoundError: Saying where the record can be had.
    """
    for folder in folders():
        path = folder / f"{name}.json"
        if path.exists():
            return path
    raise FileNotFoundError(
        f"no recorded run {name!r} here: open the notebook in a copy of the repository, which has "
        f"it as {RUNS / name}.json, or make it with `{_command(name)}`"
    )


def _command(name: str) -> str:
    return f"python benchmarks/records.py {name}"


def _folder_for(name: str, folder: Path | None) -> Path:
    """Return where to write a record of this name."""
    if not name.replace("-", "").replace("_", "").isalnum():
        raise ValueError(f"a record cannot be called {name!r}: use letters, digits, - and _")
    folder = folder or nearest_folder()
    if folder is None:
        raise FileNotFoundError(
            f"there is no folder {RUNS} here: run this in a copy of the repository, or pass folder"
        )
    return folder


def _provenance(device: torch.device | str) -> dict[str, Any]:
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


def _label(name: str, runs: Sequence[Mapping[str, Any]]) -> str:
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


def _damaged(path: Path, why: str) -> ValueError:
    return ValueError(
        f"{path} cannot be read ({why}): restore it with git, or make it anew with "
        f"`{_command(path.stem)}`"
    )


def _read(path: Path) -> Record:
    def damaged(why: str) -> ValueError:
        return _damaged(path, why)

    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise damaged("it is not whole") from error
    if isinstance(content, dict) and "rows" in content:
        raise ValueError(
            f"{path.name} holds a table of runs: read it with sl.record.recorded({path.stem!r})"
        )
    try:
        if content["format"] != FORMAT:
            raise damaged(f"its format is {content['format']} and not {FORMAT}")
        pictures, snapshots = path.with_suffix(".safetensors"), None
        if content["pictures"] is not None:
            if not pictures.exists() or _hash(pictures.read_bytes()) != content["pictures"]:
                raise damaged(f"{pictures.name} is missing, or of another run")
            snapshots = _full(checkpoint.load(pictures))
        log = Log()
        log.load_state_dict(_restored(content["log"]))
        record = Record(
            **{field: content[field] for field in _PLAIN},
            log=log,
            report=_restored(content["report"]),
            snapshots=snapshots,
        )
    except (KeyError, TypeError) as error:
        raise damaged("something is missing in it") from error
    if record.key != content["key"]:
        raise damaged("its key does not belong to its configuration")
    return record


def _differences(
    record: Record, config: Mapping[str, Any] | None, data: Mapping[str, ImageData] | None
) -> Iterator[str]:
    """Say what makes a record stale."""
    yield from _changes(record.numerics, record.config, config)
    for part, images in (data or {}).items():
        if record.data.get(part) != checkpoint.fingerprint(images):
            yield f"the {part} data are others"


def _changes(
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


def _small(snapshots: Snapshots) -> dict[str, Any]:
    """Return the state of snapshots with images as bytes, and grey images in one channel."""
    low, high = snapshots.value_range

    def levels(images: Tensor) -> Tensor:
        images = ((images.cpu() - low) * (255 / (high - low))).round().clamp(0, 255)
        images = images.to(torch.uint8)
        return images[:, :1] if (images == images[:, :1]).all() else images

    state = snapshots.state_dict()
    state["taken"] = [
        {"step": t.step, "images": levels(t.images), "mse": _rounded(t.mse)}
        for t in snapshots.taken
    ]
    channels = snapshots.private.shape[1]
    return state | {"private": levels(snapshots.private), "channels": channels}


def _full(state: dict[str, Any]) -> Snapshots:
    """Return snapshots from the state that `_small` made."""
    low, high = state["value_range"]

    def images(levels: Tensor) -> Tensor:
        return (levels / 255 * (high - low) + low).expand(-1, state["channels"], -1, -1)

    every, count = state["settings"]
    snapshots = Snapshots(every=every, images=count)
    taken = [
        taken | {"images": images(taken["images"]), "mse": _restored(taken["mse"])}
        for taken in state["taken"]
    ]
    snapshots.load_state_dict(state | {"private": images(state["private"]), "taken": taken})
    return snapshots


def _rounded(value: Any) -> Any:
    """Round every float to `DIGITS` significant digits; those that JSON lacks become text."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else repr(value)
    return value


def _restored(value: Any) -> Any:
    """Undo what `_rounded` did to infinite numbers and to those that are none."""
    if isinstance(value, dict):
        return {key: _restored(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_restored(item) for item in value]
    return float(value) if value in ("nan", "inf", "-inf") else value


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


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
