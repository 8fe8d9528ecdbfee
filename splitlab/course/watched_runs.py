"""One recorded run with its log and its snapshots: `write` keeps it, and `replay` gives it back."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from splitlab.core import files
from splitlab.core.observers import Log
from splitlab.course.records import (
    StaleRecord,
    changes,
    command_of,
    damaged,
    folder_for,
    label_of,
    path_of,
    provenance,
)
from splitlab.data import ImageData
from splitlab.data.base import fingerprint
from splitlab.referee.report import Report
from splitlab.referee.watching import Snapshots

FORMAT = 1


DIGITS = 6  # significant ones, in metrics and reports


@dataclass(frozen=True)
class Record:
    """One recorded run.

    Attributes:
        name: Its name in `splitlab/course/runs/`.
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
        return label_of(self.name, [{field: getattr(self, field) for field in _PLAIN}])

    def __repr__(self) -> str:
        return f"Record({self.label}: {self.log!r})"


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
    """Record a run in `splitlab/course/runs/`; an earlier record of that name is replaced.

    Args:
        name: The record's name: letters, digits, "-" and "_".
        config: What the run is a function of, ready for JSON.
        data: The data it used, by part: {"private": ..., "public": ...}.
        log: What `train` returned.
        report: What `evaluate` returned.
        snapshots: The observer that watched.
        device: Where the run was computed.
        command: What makes the record anew; the default is `benchmarks/records.py NAME`.
        folder: Where to write; the default is the package's own folder.

    Returns:
        The record, as `replay` gives it.

    Raises:
        ValueError: If the name cannot be a file's name.
    """
    folder = folder_for(name, folder)
    record = Record(
        name=name,
        config=json.loads(json.dumps(config)),
        data={part: fingerprint(images) for part, images in data.items()},
        log=log,
        report=None if report is None else report.to_dict(),
        snapshots=snapshots,
        command=command or command_of(name),
        **provenance(device),
    )
    pictures = folder / f"{name}.safetensors"
    if snapshots is not None:
        files.save(_small(snapshots), pictures)
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
    files.write_atomically(folder / f"{name}.json", text.encode())
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
        name: The record's name in `splitlab/course/runs/`.
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


_PLAIN = (
    *("name", "historical", "config", "data", "command", "made", "device", "versions"),
    *("numerics", "source"),
)


def _read(path: Path) -> Record:
    def refusal(why: str) -> ValueError:
        return damaged(path, why)

    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise refusal("it is not whole") from error
    if isinstance(content, dict) and "rows" in content:
        raise ValueError(
            f"{path.name} holds a table of runs: read it with "
            f"sl.experiments.recorded({path.stem!r})"
        )
    try:
        if content["format"] != FORMAT:
            raise refusal(f"its format is {content['format']} and not {FORMAT}")
        pictures, snapshots = path.with_suffix(".safetensors"), None
        if content["pictures"] is not None:
            if not pictures.exists() or _hash(pictures.read_bytes()) != content["pictures"]:
                raise refusal(f"{pictures.name} is missing, or of another run")
            snapshots = _full(files.load(pictures))
        log = Log()
        log.load_state_dict(_restored(content["log"]))
        record = Record(
            **{field: content[field] for field in _PLAIN},
            log=log,
            report=_restored(content["report"]),
            snapshots=snapshots,
        )
    except (KeyError, TypeError) as error:
        raise refusal("something is missing in it") from error
    if record.key != content["key"]:
        raise refusal("its key does not belong to its configuration")
    return record


def _differences(
    record: Record, config: Mapping[str, Any] | None, data: Mapping[str, ImageData] | None
) -> Iterator[str]:
    """Say what makes a record stale."""
    yield from changes(record.numerics, record.config, config)
    for part, images in (data or {}).items():
        if record.data.get(part) != fingerprint(images):
            yield f"the {part} data are others"


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
