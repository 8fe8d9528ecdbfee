"""What an executed chapter printed: what its page shows, and its verdict."""

from __future__ import annotations

import itertools
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from splitlab.course.notebook_files import ChapterError, code_cells, read, write

VERDICT = "verdict"


def settle(notebook: NotebookNode) -> tuple[str, ...]:
    """Join outputs that were printed in pieces, and remove what was printed on stderr.

    A busy machine hands over one print in several pieces. What is on stderr is for the author and
    not for readers: warnings of the machine and of libraries, with paths, and progress bars.

    Returns:
        The lines from stderr, each once, without progress bars.
    """
    warnings: list[str] = []
    for cell in code_cells(notebook):
        kept: list[NotebookNode] = []
        for output in cell.outputs:
            if output.output_type != "stream":
                kept.append(output)
            elif output.name == "stderr":
                warnings.append(output.text)
            elif kept and kept[-1].output_type == "stream":
                kept[-1].text += output.text
            else:
                kept.append(output)
        cell.outputs = kept
        warnings.append("\n")  # the next cell begins a line
    lines = [line.rstrip() for line in "".join(warnings).replace("\r\n", "\n").split("\n")]
    # A progress bar returns to the start of its line.
    return tuple(dict.fromkeys(line for line in lines if line and "\r" not in line))


def printed(cell: NotebookNode) -> str:
    """What a cell printed on stdout."""
    return "".join(
        output.text
        for output in cell.outputs
        if output.output_type == "stream" and output.name == "stdout"
    )


def verdict_of(notebook: NotebookNode) -> str:
    """The last line that the last cell tagged `verdict` printed, "" if there is none."""
    cells = code_cells(notebook, VERDICT)
    lines = _lines(printed(cells[-1])) if cells else []
    return lines[-1] if lines else ""


def verdict_change(notebook: NotebookNode, executed: NotebookNode) -> tuple[str, str] | None:
    """Return the first line where a chapter's verdict differs from the stored one.

    Returns:
        What is stored, and what was printed now ("" for nothing); None if all lines are the same,
        or if the chapter stores no verdict.
    """
    old, new = (
        _lines("".join(map(printed, code_cells(which, VERDICT)))) for which in (notebook, executed)
    )
    if not old:
        return None
    pairs = itertools.zip_longest(old, new, fillvalue="")
    return next(((before, after) for before, after in pairs if before != after), None)


def store_verdict(notebook: Path, executed: Path) -> bool:
    """Copy the verdict cell's printed output from the executed copy into the chapter.

    Every other output is removed, so that the chapter stores its verdict and nothing else, and
    nbval has a reference to compare with. The notebook is written only when it changes.

    Returns:
        True if the notebook changed.

    Raises:
        ChapterError: If the chapter is no longer what was run.
    """
    chapter = read(notebook)
    before = nbformat.writes(chapter)
    done = read(executed)
    settle(done)
    ran, own = code_cells(done, VERDICT), code_cells(chapter, VERDICT)
    if len(ran) != len(own) or any(a.source != b.source for a, b in zip(ran, own, strict=True)):
        raise ChapterError(f"{notebook.stem} has changed since it was run; run it again first.")
    for cell in code_cells(chapter):
        cell.outputs, cell.execution_count = [], None
    for cell, copy in zip(own, ran, strict=True):
        cell.outputs, cell.execution_count = copy.outputs, 1
    after = nbformat.writes(chapter)
    if after != before:
        write(chapter, notebook)
    return after != before


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]
