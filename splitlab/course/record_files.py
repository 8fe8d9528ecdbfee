"""The files of recorded runs: tables of rows that cannot be changed unnoticed.

A table is one file, `{"table": NAME, "command": ..., "rows": {"kind/seed": row}}`; the command
makes it again, and is empty if nothing does. The name is the file's own, and each row has a hash
of itself. So whatever was changed by hand, renamed or damaged is refused. The mark "historical",
which is made by hand, stands outside the hash.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout

from splitlab.arguments import described
from splitlab.core import files
from splitlab.core.identity import NUMERICS

PATIENCE = 60  # seconds to wait for another process that writes to the same table
SECONDS = "chapter_seconds_"  # + a profile: the table of the notebooks' seconds


def rows_of(path: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of a table by name, stale or not; none where there is no file.

    Raises:
        ValueError: If the file is damaged or cannot be read, or holds no table or one of another
            name, or if a row is not as it was recorded.
    """
    if not path.exists():
        return {}
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): make it readable") from error
    except ValueError as error:  # no text at all
        raise _refusal(path, "is not a complete table of runs", command_of(path.stem)) from error
    try:
        content = json.loads(text, parse_float=_as_written, object_pairs_hook=_once_each)
        name, command, rows = (content[entry] for entry in ("table", "command", "rows"))
        changed = [k for k, r in rows.items() if k != _key(r) or r.get("hash") != row_hash(r)]
        odd = [k for k, row in rows.items() if not _is_row(row)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _refusal(path, "is not a complete table of runs", command_of(path.stem)) from error
    if name != path.stem:
        why = f"holds the table {name!r}, under another name"
        raise _refusal(path, why, command_of(path.stem))
    if changed:
        raise _refusal(
            path, f"has a row, {changed[0]}, that was changed since it was recorded", command
        )
    if odd:
        raise _refusal(path, f"has a row, {odd[0]}, that lacks entries about its run", command)
    return dict(rows)


def add_rows(
    path: Path,
    rows: Iterable[Mapping[str, Any]],
    *,
    device: torch.device | str = "cpu",
    anew: bool = False,
) -> None:
    """Add runs to a table under a lock; a run replaces its earlier row.

    Args:
        path: The table's file. Its folder is made where there is none.
        rows: The runs, as `splitlab.course.records.write_row` takes them.
        device: Where they were computed.
        anew: Whether to remove all other rows of the table.

    Raises:
        TypeError: If a row is no dictionary, or holds what JSON cannot.
        ValueError: If the file is there and damaged, if it cannot be written, or if another process
            keeps it locked; or if a row does not say which run it is.
    """
    new = [_finished(row, device) for row in rows]
    with _locked(path):
        before = {} if anew else rows_of(path)
        after = before | {_key(row): row for row in new}
        write_table(path, command_of(path.stem), dict(sorted(after.items())))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep others from writing to a table; the lock of a dead process does not count."""
    lock = path.with_suffix(".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, timeout=PATIENCE):
            yield
    except Timeout as error:
        raise ValueError(
            f"{path} is locked by another process: wait until that one has ended, and delete "
            f"{lock} if there is none"
        ) from error
    except OSError as error:
        raise ValueError(
            f"{path} cannot be written ({error.strerror or error}): make its folder writable, or "
            "choose another one"
        ) from error


def write_table(path: Path, command: str, rows: Mapping[str, Any]) -> None:
    """Write a table's file: one line for each entry, and for each list of plain values."""

    def in_one_line(match: re.Match[str]) -> str:
        return "[" + " ".join(line.strip() for line in match[1].split("\n")) + "]"

    content = {"table": path.stem, "command": command, "rows": rows}
    text = re.sub(r"\[\n([^][{}]*)\n *\]", in_one_line, json.dumps(content, indent=1))
    files.write_atomically(path, f"{text}\n".encode())


def row_hash(row: Mapping[str, Any]) -> str:
    """Return the hash of a row as it is read, "hash" and "historical" left out."""
    hashed = {name: value for name, value in row.items() if name not in ("hash", "historical")}
    text = json.dumps(hashed, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def command_of(name: str) -> str:
    """Return the command that makes a table again."""
    if name.startswith(SECONDS):
        return f"make seconds PROFILE={name.removeprefix(SECONDS)}"
    return f"python benchmarks/records.py {name}"


def _key(row: Mapping[str, Any]) -> str:
    """Return the name of a row in its table, "kind/seed", or "kind" where there is no seed."""
    return f"{row['run']}/{row['seed']}" if "seed" in row else str(row["run"])


def _is_row(row: Mapping[str, Any]) -> bool:
    """Whether a row has the entries that its readers need, with the right types."""
    kinds = {"run": str, "seed": int, "config": dict, "made": str, "device": str, "historical": str}
    right = all(isinstance(row.get(name, kind()), kind) for name, kind in kinds.items())
    return right and ("device" in row or "made" not in row)


def _finished(row: Mapping[str, Any], device: torch.device | str) -> dict[str, Any]:
    """Return a row as it is written: ready for JSON, with its origin and its hash."""
    import splitlab  # its version, known only when all of it is imported

    if not isinstance(row, Mapping):
        raise TypeError(f"a row is {described(row)}: pass a dictionary with run, seed and figures")
    if "run" not in row:
        raise ValueError(f"a row has {', '.join(map(str, row)) or 'nothing'}: give it a run, too")
    finished = dict(row)
    finished |= {
        "made": datetime.date.today().isoformat(),
        "device": _device_name(device),
        "versions": {
            "splitlab": splitlab.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "numerics": NUMERICS,
    }
    try:
        finished = json.loads(json.dumps(finished))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"row {_key(row)} cannot be written ({error}): make its figures numbers, text, lists "
            "and dictionaries"
        ) from error
    return finished | {"hash": row_hash(finished)}


def _refusal(path: Path, why: str, command: str) -> ValueError:
    again = f", or make it again with `{command}`" if command else ""
    return ValueError(f"{path} {why}: restore it with git{again}")


def _as_written(text: str) -> float | str:
    """Read a number; keep it as text, which changes the hash, if a shorter form exists.

    Else a changed digit could go unnoticed: 17 of them are often more than a float can hold.
    """
    value = float(text)
    return value if repr(value) == text else text


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Read an object; refuse a name that occurs twice."""
    if len(entries := dict(pairs)) < len(pairs):
        raise ValueError("two entries of one name")
    return entries


def _device_name(device: torch.device | str) -> str:
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{device.type}, {threads} thread{'s' * (threads != 1)}"
