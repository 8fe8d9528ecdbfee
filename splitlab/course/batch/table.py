"""The table of a batch: one row for each job, as comma-separated values."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from splitlab.core.files import write_atomically
from splitlab.course.batch.jobs import Outcome
from splitlab.course.comparisons import Comparison

NAME = "jobs.csv"
FIRST = ("job", "notebook")
LAST = (
    *("status", "verdict", "seconds", "cpu_seconds", "memory_mb"),
    *("error", "figures", "copy"),
)


def write(out: Path, outcomes: Sequence[Outcome]) -> Path:
    """Write ``jobs.csv`` into the folder of a batch.

    The columns: ``job`` (its name); ``notebook``; one for each parameter that a job has; ``status``
    (done, failed, not run); ``verdict`` (its line); ``seconds``; ``cpu_seconds``; ``memory_mb``
    (the peak, in 10^6 bytes); ``error``; ``figures`` (JSON, see `figures_of`); ``copy`` (the
    executed notebook, relative to the folder). What is not known is empty.

    Args:
        out: The folder.
        outcomes: What came of each job.

    Returns:
        The file's path.

    Raises:
        OSError: If the file cannot be written; an earlier one is then as it was.
    """
    parameters = tuple(dict.fromkeys(name for o in outcomes for name in o.job.parameters))
    columns = {name: _column(name) for name in parameters}
    text = io.StringIO(newline="")
    rows = csv.DictWriter(text, (*FIRST, *columns.values(), *LAST), restval="", lineterminator="\n")
    rows.writeheader()
    for outcome in outcomes:
        given = {columns[name]: value for name, value in outcome.job.parameters.items()}
        rows.writerow(given | _row(out, outcome))
    path = out / NAME
    write_atomically(path, text.getvalue().encode(errors="replace"))
    return path


def copy_of(outcome: Outcome) -> Path | None:
    """The notebook that a job left behind: the executed one, or the one with the traceback."""
    copies = {"done": outcome.job.out, "failed": outcome.job.failed}
    copy = copies.get(outcome.status)
    return copy if copy is not None and copy.is_file() else None


def figures_of(figures: Sequence[Comparison]) -> str:
    """What a verdict compared, as a JSON list of objects with the fields of `Comparison`.

    ``pandas.json_normalize(json.loads(row.figures))`` makes a table of it. A number that JSON does
    not have is its name as text, such as "nan", which ``float`` reads.
    """
    return json.dumps([{k: _plain(v) for k, v in asdict(one).items()} for one in figures])


def _column(parameter: str) -> str:
    """A parameter's column: its own name, unless that is one of the other columns."""
    return f"parameter {parameter}" if parameter in (*FIRST, *LAST) else parameter


def _row(out: Path, outcome: Outcome) -> dict[str, Any]:
    row: dict[str, Any] = {
        "job": outcome.job.name,
        "notebook": outcome.job.chapter,
        "status": outcome.status,
    }
    if copy := copy_of(outcome):
        row["copy"] = copy.relative_to(out).as_posix()
    if (result := outcome.result) is not None:
        row |= {
            "verdict": result.verdict,
            "seconds": round(result.seconds, 3),
            "cpu_seconds": None if result.cpu_seconds is None else round(result.cpu_seconds, 3),
            "memory_mb": None if result.memory is None else round(result.memory / 1e6, 1),
            "error": result.error,
            "figures": figures_of(result.figures),
        }
    return row


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
