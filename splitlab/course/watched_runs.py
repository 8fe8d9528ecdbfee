"""What a watched run keeps beside its figures: a log, in its row, and snapshots, in a file.

The file is beside the table. Its name, which is in the row, ends with a hash of its content.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from splitlab.core import files
from splitlab.core.observers import Log
from splitlab.referee.watching import Snapshots

DIGITS = 6  # significant ones, of the metrics in a log and of a snapshot's error


@dataclass(frozen=True)
class Record:
    """A watched run, as if it had just been trained.

    Attributes:
        row: Its row: configuration, figures, versions, device and day.
        log: The metrics of every step, to six significant digits, as `train` returned them.
        snapshots: The snapshots, to 256 levels, or None; `figures.frames(snapshots, log)` draws
            them.
        label: What a figure drawn from it says of it: `figures.show(..., record=run.label)`.
    """

    row: dict[str, Any]
    log: Log
    snapshots: Snapshots | None
    label: str

    def __repr__(self) -> str:
        return f"Record({self.label}: {self.log!r})"


def log_to_json(log: Log) -> dict[str, Any]:
    """Return the state of a log, rounded."""
    state = log.state_dict()
    metrics = {
        name: [None if value is None else _rounded(value) for value in values]
        for name, values in state["metrics"].items()
    }
    return state | {"seconds": _rounded(state["seconds"]), "metrics": metrics}


def replayed(row: dict[str, Any], folder: Path, label: str) -> Record:
    """Return a watched run from its row, and from the file beside its table.

    Raises:
        ValueError: If that file is missing or damaged.
    """
    log = Log()
    log.load_state_dict(row["log"])
    snapshots = load_snapshots(folder / row["snapshots"]) if "snapshots" in row else None
    return Record(row, log, snapshots, label)


def save_snapshots(snapshots: Snapshots, table: Path) -> str:
    """Write snapshots beside their table, with images as bytes and grey ones in one channel.

    Returns:
        The file's name.
    """
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
    content = files.to_bytes(state | {"private": levels(snapshots.private), "channels": channels})
    path = table.with_name(f"{table.stem}-{_hash(content)}.safetensors")
    files.write_atomically(path, content)
    return path.name


def load_snapshots(path: Path) -> Snapshots:
    """Read snapshots that `save_snapshots` wrote.

    Raises:
        ValueError: If the file is missing, or its content is not what its name says.
    """
    if not path.exists() or not path.stem.endswith(f"-{_hash(path.read_bytes())}"):
        raise ValueError(
            f"{path} is missing or damaged: restore it with git, or record its run again"
        )
    state = files.load(path)
    low, high = state["value_range"]

    def images(levels: Tensor) -> Tensor:
        return (levels / 255 * (high - low) + low).expand(-1, state["channels"], -1, -1)

    every, count = state["settings"]
    snapshots = Snapshots(every=every, images=count)
    taken = [taken | {"images": images(taken["images"])} for taken in state["taken"]]
    snapshots.load_state_dict(state | {"private": images(state["private"]), "taken": taken})
    return snapshots


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()
