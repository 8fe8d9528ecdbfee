"""Run one chapter, strictly: a wrong parameter, a failing cell or a hanging cell is an error.

papermill executes; this module adds what papermill only warns about (parameters a chapter does not
have), names the cell that failed in one sentence, and keeps the executed copy keyed by everything
that can change its outputs, so that an unchanged chapter is not run again.
"""

import ast
import hashlib
import json
import os
import platform
import re
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import nbformat
import papermill
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError

from splitlab.course.timing import SECONDS

LIBRARY = Path(__file__).resolve().parents[1]
PARAMETERS = ("profile", "seed", "device")

# Packages whose version can change a chapter's numbers or pictures. scikit-learn stands for the
# bundled digits, which are part of it.
PACKAGES = ("torch", "numpy", "scikit-learn", "pillow", "matplotlib", "ipywidgets", "ipykernel")

# One thread per kernel: sums come out in one order, and two kernels do not fight for two cores.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
}


class ChapterError(Exception):
    """A chapter that cannot be run, or did not run to its end; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Result:
    """What running one chapter gave.

    Attributes:
        chapter: The notebook's name, as `name_of` has it.
        seconds: How long the run took, also when it is an earlier run's (``cached``).
        cached: True when nothing had changed and the earlier executed copy was kept.
        verdict: The chapter's verdict line, "" when it prints none.
        error: None, or one sentence saying which cell failed and how.
    """

    chapter: str
    seconds: float
    cached: bool
    verdict: str
    error: str | None = None


def name_of(notebook: Path) -> str:
    """What a notebook is called in tables and messages: a chapter's name, `solutions/NAME`."""
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
    """Read a notebook, or say in one sentence why it cannot be read."""
    try:
        return nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise ChapterError(
            f"There is no notebook {path}; check the name in the table of contents."
        ) from None
    except Exception as error:  # nbformat raises half a dozen types for a broken file
        raise ChapterError(
            f"{path} is not a notebook that can be read ({error}); "
            "save it again from Jupyter or restore it."
        ) from error


def parameters_of(notebook: NotebookNode, chapter: str) -> tuple[str, ...]:
    """The names assigned in the chapter's one cell tagged `parameters`.

    Raises:
        ChapterError: If the chapter does not have exactly one such cell.
    """
    cells = code_cells(notebook, "parameters")
    if len(cells) != 1:
        raise ChapterError(
            f"{chapter} has {len(cells)} code cells tagged 'parameters'; tag exactly one, "
            f"the one that assigns {', '.join(PARAMETERS)}."
        )
    try:
        statements = ast.parse(cells[0].source).body
    except SyntaxError as error:
        raise ChapterError(
            f"The 'parameters' cell of {chapter} is not plain Python ({error.msg}); "
            "leave only assignments in it."
        ) from None
    names = []
    for statement in statements:
        if isinstance(statement, ast.Assign):
            targets = statement.targets
        elif isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        else:
            continue
        for target in targets:
            elements = target.elts if isinstance(target, ast.Tuple) else [target]
            names += [element.id for element in elements if isinstance(element, ast.Name)]
    return tuple(names)


def check_parameters(notebook: NotebookNode, chapter: str, given: Mapping[str, Any]) -> None:
    """Refuse parameters that the chapter does not have.

    Raises:
        ChapterError: Naming the unknown parameters and those the chapter has.
    """
    known = parameters_of(notebook, chapter)
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ChapterError(
            f"{chapter} has no parameter {', '.join(map(repr, unknown))}; "
            f"it has {', '.join(known) or 'none'}."
        )


def verdict_of(notebook: NotebookNode) -> str:
    """The last line that the last cell tagged `verdict` printed, "" if there is none."""
    for cell in reversed(code_cells(notebook, "verdict")):
        text = "".join(
            output.text
            for output in cell.outputs
            if output.output_type == "stream" and output.name == "stdout"
        )
        return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
    return ""


def without_outputs(notebook: NotebookNode) -> NotebookNode:
    """A copy of the notebook as it was written: no outputs, no counts."""
    bare = nbformat.from_dict(json.loads(nbformat.writes(notebook)))
    for cell in code_cells(bare):
        cell.outputs, cell.execution_count = [], None
    return bare


def key(notebook: Path, parameters: Mapping[str, Any], root: Path) -> str:
    """A hash of everything that an executed copy depends on.

    That is: the notebook without its outputs, the library's files, the recorded runs,
    constraints.txt, the versions of Python and of the packages that compute, the
    parameters, and, except at the profile `tiny` (which reads bundled data only), the names, sizes
    and times of the files under SPLITLAB_DATA. The recorded seconds of the chapters count only for
    a chapter that shows them: storing them again does not make the others run again.
    """
    digest = hashlib.sha256()
    written = read(notebook)
    shows_times = any("doctor" in cell.source for cell in code_cells(written))

    def add(label: str, content: bytes) -> None:
        digest.update(f"{label} {len(content)}\n".encode())
        digest.update(content)

    add("notebook", nbformat.writes(without_outputs(written)).encode())
    add("parameters", json.dumps(dict(parameters), sort_keys=True).encode())
    for path in sorted(LIBRARY.rglob("*")):  # the recorded runs are in it
        if path.name.startswith(SECONDS) and not shows_times:
            continue
        if path.is_file() and "__pycache__" not in path.parts:
            add(path.relative_to(LIBRARY).as_posix(), path.read_bytes())
    constraints = root / "constraints.txt"
    add("constraints", constraints.read_bytes() if constraints.exists() else b"")
    add("python", platform.python_version().encode())
    for package in PACKAGES:
        try:
            add(package, version(package).encode())
        except PackageNotFoundError:
            add(package, b"none")
    data = os.environ.get("SPLITLAB_DATA")
    if data and parameters.get("profile") != "tiny":
        for path in sorted(Path(data).rglob("*")):
            if path.is_file():
                stat = path.stat()
                name = path.relative_to(data).as_posix()
                add(name, f"{stat.st_size} {stat.st_mtime_ns}".encode())
    return digest.hexdigest()


def cached(notebook: Path, out: Path, run_key: str) -> Result | None:
    """The earlier run's result if its executed copy was made with the same key, else None."""
    try:
        executed = nbformat.read(out, as_version=4)
    except Exception:  # absent, or not a notebook: then there is no earlier run
        return None
    record = executed.metadata.get("splitlab", {})
    if record.get("key") != run_key:
        return None
    return Result(name_of(notebook), float(record["seconds"]), True, verdict_of(executed))


def run(
    notebook: Path,
    out: Path,
    *,
    parameters: Mapping[str, Any],
    root: Path,
    timeout: int = 600,
    on_cell: Callable[[], None] = lambda: None,
) -> Result:
    """Run a chapter unless an executed copy with the same key is already there.

    Args:
        notebook: The chapter.
        out: Where the executed copy goes; it appears only when the run was complete.
        parameters: Values for the chapter's `parameters` cell; unknown names are refused.
        root: The repository's folder (for constraints.txt).
        timeout: The most seconds that one cell may take.
        on_cell: Called after each code cell, for a progress bar.

    Raises:
        ChapterError: One sentence with chapter, cell and error. The copy with the traceback is
            then left beside `out` as ``NAME.failed.ipynb``.
    """
    chapter = name_of(notebook)
    source = read(notebook)
    check_parameters(source, chapter, parameters)
    run_key = key(notebook, parameters, root)
    if earlier := cached(notebook, out, run_key):
        return earlier

    failed = out.with_suffix(".failed.ipynb")
    for stale in (out, failed):
        stale.unlink(missing_ok=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    os.environ.update(ONE_THREAD)

    current: list[str] = []  # the source of the cell that is running, for the error's sentence

    def started(cell: NotebookNode, cell_index: int) -> None:
        if cell.cell_type == "code" and "injected-parameters" not in tags(cell):
            current.append(cell.source)

    def executed(**_: Any) -> None:
        on_cell()

    def failure(what: str) -> ChapterError:
        if not current:
            return ChapterError(f"{chapter} failed before its first cell: {what}.")
        first_line = next((line for line in current[-1].splitlines() if line.strip()), "")
        return ChapterError(f"{chapter}, code cell {len(current)} (`{first_line}`): {what}.")

    handle, name = tempfile.mkstemp(dir=out.parent, prefix=f".{notebook.stem}.", suffix=".ipynb")
    os.close(handle)
    partial = Path(name)
    start = time.perf_counter()
    try:
        try:
            finished = papermill.execute_notebook(
                notebook,
                partial,
                parameters=dict(parameters),
                kernel_name="python3",
                language="python",  # also where the notebook does not say
                progress_bar=False,
                execution_timeout=timeout,
                on_cell_start=started,
                on_cell_executed=executed,
                # The folder that Jupyter, too, would start the kernel in.
                resources={"metadata": {"path": str(notebook.parent)}},
                # A kernel warns about its unencrypted local port, which needs no action here.
                extra_arguments=["--log-level=ERROR"],
            )
        except PapermillExecutionError as error:
            raise failure(_one_line(f"{error.ename}: {error.evalue}")) from error
        except CellTimeoutError as error:
            raise failure(f"took longer than {timeout} seconds") from error
        except DeadKernelError as error:
            raise failure("the kernel died (often: out of memory)") from error
        seconds = time.perf_counter() - start
        for cell in code_cells(finished, "injected-parameters"):
            cell.metadata.tags = [*tags(cell), "remove-cell"]
        # papermill notes file names and times; they say nothing about the chapter, and leaving
        # them out makes two equal runs give equal files but for the seconds.
        finished.metadata.pop("papermill", None)
        for cell in finished.cells:
            cell.metadata.pop("papermill", None)
            cell.metadata.pop("execution", None)
        finished.metadata["splitlab"] = {"key": run_key, "seconds": round(seconds, 1)}
        nbformat.write(finished, partial)
        os.replace(partial, out)
    except ChapterError:
        os.replace(partial, failed)
        raise
    finally:
        partial.unlink(missing_ok=True)
    return Result(chapter, seconds, False, verdict_of(finished))


def store_verdict(notebook: Path, executed: Path) -> bool:
    """Copy the verdict cell's printed output from the executed copy into the chapter.

    Every other output is removed, so that the chapter stores its verdict and nothing else, and
    nbval has a reference to compare with. The notebook is written only when it changes.

    Returns:
        True if the notebook changed.
    """
    chapter = read(notebook)
    before = nbformat.writes(chapter)
    ran = code_cells(nbformat.read(executed, as_version=4), "verdict")
    own = code_cells(chapter, "verdict")
    if len(ran) != len(own) or any(a.source != b.source for a, b in zip(ran, own, strict=True)):
        raise ChapterError(f"{notebook.stem} has changed since it was run; run it again first.")
    for cell in code_cells(chapter):
        cell.outputs, cell.execution_count = [], None
    for cell, done in zip(own, ran, strict=True):
        cell.outputs, cell.execution_count = done.outputs, 1
    after = nbformat.writes(chapter)
    if after != before:
        nbformat.write(chapter, notebook)
    return after != before


def _one_line(text: str, limit: int = 300) -> str:
    """The text on one line, without its final period, cut at `limit` characters."""
    flat = re.sub(r"\s+", " ", text).strip().rstrip(".: ")
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"
