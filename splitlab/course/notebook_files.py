"""The book's notebooks as files: reading and writing them, and finding cells by their tags."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from splitlab.core.files import write_atomically

NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS}


class ChapterError(Exception):
    """A chapter that cannot be run, or did not run to its end; the message is one sentence."""


def name_of(notebook: Path) -> str:
    """The name of a notebook in tables and messages: a chapter's name, or `solutions/NAME`."""
    return notebook.stem if notebook.parent.name != "solutions" else f"solutions/{notebook.stem}"


def tags(cell: NotebookNode) -> list[str]:
    """The tags of a notebook cell."""
    return list(cell.metadata.get("tags", []))


def code_cells(notebook: NotebookNode, tag: str | None = None) -> list[NotebookNode]:
    """The code cells of a notebook in order, only those that carry `tag` when one is given."""
    return [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code" and (tag is None or tag in tags(cell))
    ]


def read(path: Path) -> NotebookNode:
    """Read a notebook.

    Raises:
        ChapterError: Saying why it cannot be read.
    """
    try:
        return nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise ChapterError(
            f"There is no notebook {path}; check the name in the table of contents."
        ) from None
    except Exception as error:  # nbformat raises half a dozen types for a broken file
        raise ChapterError(
            f"{path} is not a notebook that can be read ({one_line(str(error), 160)}); "
            "save it again from Jupyter or restore it."
        ) from error


def write(notebook: NotebookNode, path: Path) -> None:
    """Replace a notebook's file; on a full disk, the file stays as it was."""
    write_atomically(path, f"{nbformat.writes(notebook)}\n".encode())


def without_outputs(notebook: NotebookNode) -> NotebookNode:
    """A copy of the notebook as it was written: no outputs, no counts."""
    bare = nbformat.from_dict(json.loads(nbformat.writes(notebook)))
    for cell in code_cells(bare):
        cell.outputs, cell.execution_count = [], None
    return bare


def one_line(text: str, limit: int) -> str:
    """The text on one line, without its final period, cut at `limit` characters."""
    flat = " ".join(text.split()).rstrip(".: ")
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def storage_fault(error: OSError, where: Path) -> str:
    """Return a sentence about what the system refused, and what to do.

    Args:
        error: What the system said.
        where: The folder that was being written to, for an error that names no file.
    """
    if error.errno in NO_SPACE:
        advice = "free some space"
    elif error.errno in NOT_ALLOWED:
        advice = "make it writable, or use another folder"
    else:
        advice = "fix that"
    return f"{error.strerror or error} ({error.filename or where}): {advice}, and try again."
