"""Run one chapter, strictly: a wrong parameter, a failing cell or a hanging cell is an error.

papermill executes; this module adds what papermill only warns about (parameters a chapter does not
have), names the line that failed in one sentence, and keeps the executed copy keyed by everything
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
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import nbformat
import papermill
import torch
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError

from splitlab.course import kernels
from splitlab.course.comparisons import Comparison
from splitlab.course.kernels import LIBRARY, Kernel
from splitlab.course.kernels import ONE_THREAD as ONE_THREAD
from splitlab.course.notebook_files import (
    ChapterError,
    code_cells,
    name_of,
    one_line,
    read,
    storage_fault,
    tags,
    without_outputs,
)
from splitlab.course.outputs import settle, verdict_of
from splitlab.course.timing import SECONDS

PARAMETERS = ("profile", "seed", "device")

# Packages whose version can change a chapter's numbers or pictures. scikit-learn stands for the
# bundled digits, which are part of it.
PACKAGES = ("torch", "numpy", "scikit-learn", "pillow", "matplotlib", "ipywidgets", "ipykernel")

# Environment variables that can change what Python, torch or numpy computes.
NUMERICAL = re.compile(
    r"PYTHONHASHSEED|(ATEN|TORCH|PYTORCH|CUDA|CUDNN|CUBLAS|NVIDIA|MKL|KMP|OMP|DNNL|ONEDNN)_\w+"
)


@dataclass(frozen=True, slots=True)
class Result:
    """What running one chapter gave.

    Attributes:
        chapter: The notebook's name, as `name_of` has it.
        seconds: How long the run took, also when it is an earlier run's (``cached``).
        cached: True when nothing had changed and the earlier executed copy was kept.
        verdict: The chapter's verdict line, "" when it prints none.
        error: None, or one sentence saying what failed and how.
        warnings: The lines that this run printed on stderr, which the copy does not hold.
        cpu_seconds: The CPU seconds of the kernel; None where they are not known.
        memory: The most memory that the kernel had, in bytes; None where it is not known.
        figures: What the asserts of the verdict compare.
    """

    chapter: str
    seconds: float
    cached: bool
    verdict: str
    error: str | None = None
    warnings: tuple[str, ...] = ()
    cpu_seconds: float | None = None
    memory: int | None = None
    figures: tuple[Comparison, ...] = ()


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


def key(notebook: Path, parameters: Mapping[str, Any], root: Path) -> str:
    """A hash of everything that an executed copy depends on.

    That is: the notebook without its outputs, the library's files, the recorded runs,
    constraints.txt, the kind of machine, the versions of Python and of the packages that compute,
    the environment variables that change what they compute, the parameters, and, except at the
    profile `tiny` (which reads bundled data only), the names, sizes and times of the files under
    SPLITLAB_DATA. The recorded seconds of the chapters count only for a chapter that shows them:
    storing them again does not make the others run again.

    Args:
        notebook: The notebook.
        parameters: Those that it runs with.
        root: The repository's folder (for constraints.txt).

    Raises:
        ChapterError: If the notebook cannot be read.
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
    add("python", f"{platform.python_implementation()} {platform.python_version()}".encode())
    add("machine", f"{platform.system()} {platform.machine()}".encode())
    if str(parameters.get("device")).startswith("cuda") and torch.cuda.is_available():
        add("gpu", torch.cuda.get_device_name().encode())
    for package in PACKAGES:
        try:
            add(package, version(package).encode())
        except PackageNotFoundError:
            add(package, b"none")
    variables = kernels.environment()
    add("path", os.pathsep.join(kernels.further_path()).encode())
    for name in sorted(filter(NUMERICAL.fullmatch, variables)):
        add(name, variables[name].encode())
    data = variables.get("SPLITLAB_DATA")
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
    try:
        check_parameters(read(notebook), chapter, parameters)
        run_key = key(notebook, parameters, root)
        if earlier := cached(notebook, out, run_key):
            return earlier
        return _run(notebook, out, parameters, run_key, timeout, on_cell)
    except OSError as error:
        raise ChapterError(f"{chapter} did not run: {storage_fault(error, out.parent)}") from error


def _run(
    notebook: Path,
    out: Path,
    parameters: Mapping[str, Any],
    run_key: str,
    timeout: int,
    on_cell: Callable[[], None],
) -> Result:
    failed = out.with_suffix(".failed.ipynb")
    for stale in (out, failed):
        stale.unlink(missing_ok=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=out.parent, prefix=f".{notebook.stem}.", suffix=".ipynb")
    os.close(handle)
    partial = Path(name)
    start = time.perf_counter()
    try:
        finished = _execute(notebook, partial, parameters, timeout, on_cell)
        seconds = time.perf_counter() - start
        warnings = settle(finished)
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
    return Result(name_of(notebook), seconds, False, verdict_of(finished), warnings=warnings)


def _execute(
    notebook: Path,
    partial: Path,
    parameters: Mapping[str, Any],
    timeout: int,
    on_cell: Callable[[], None],
) -> NotebookNode:
    """Run the cells with papermill, which writes after each to `partial`.

    Raises:
        ChapterError: Naming the line that failed.
    """
    chapter = name_of(notebook)
    current: list[str] = []  # the source of the cell that is running, for the error's sentence

    def started(cell: NotebookNode, cell_index: int) -> None:
        if cell.cell_type == "code" and "injected-parameters" not in tags(cell):
            current.append(cell.source)

    def executed(**_: Any) -> None:
        on_cell()

    def failure(what: str, line: int | None = None) -> ChapterError:
        if not current:
            return ChapterError(f"{chapter} failed before its first cell: {what}.")
        quoted = _quoted(current[-1], line)
        return ChapterError(f"{chapter}, code cell {len(current)} (`{quoted}`): {what}.")

    try:
        return papermill.execute_notebook(
            notebook,
            partial,
            parameters=dict(parameters),
            kernel_name="python3",  # how papermill writes the parameters; `Kernel` is what runs
            language="python",  # also where the notebook does not say
            kernel_manager_class=Kernel,
            progress_bar=False,
            execution_timeout=timeout,
            on_cell_start=started,
            on_cell_executed=executed,
            # The folder that Jupyter, too, would start the kernel in.
            resources={"metadata": {"path": str(notebook.parent)}},
            # A kernel warns of its unencrypted local port, and calls its own end an error.
            extra_arguments=["--log-level=CRITICAL"],
        )
    except PapermillExecutionError as error:
        what = one_line(f"{error.ename}: {error.evalue}", 240)
        raise failure(what, _failing_line(error)) from error
    except CellTimeoutError as error:
        raise failure(f"took longer than {timeout} seconds") from error
    except DeadKernelError as error:
        raise failure("the kernel died (often: out of memory)") from error
    except RuntimeError as error:  # of jupyter_client, when a kernel does not answer
        raise ChapterError(
            f"{chapter} did not run, for its kernel did not start ({one_line(str(error), 160)}): "
            "see what `python -m ipykernel_launcher` says here."
        ) from error


def _failing_line(error: PapermillExecutionError) -> int | None:
    """The number of the line, in the cell that failed, from which the error came."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error.traceback))
    frames = re.findall(r"\bIn *\[(\d+)\], line (\d+)", text)
    lines = [int(line) for cell, line in frames if int(cell) == error.exec_count]
    return lines[-1] if lines else None


def _quoted(source: str, line: int | None) -> str:
    """The statement in a cell that covers a line; without one, the first line that is code."""
    source = re.sub(r"\A(\s*\n)+", "", source)  # IPython counts from the first line with text
    lines = [line.strip() for line in source.splitlines()]
    if line is None or not 0 < line <= len(lines):
        return next((line for line in lines if line and not line.startswith("#")), "")
    text = lines[line - 1]
    with suppress(SyntaxError):  # of IPython's own commands, such as %time
        nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt)]
        nodes = [node for node in nodes if node.lineno <= line <= (node.end_lineno or line)]
        inner = max(nodes, key=lambda node: (node.lineno, node.col_offset), default=None)
        if inner and inner.lineno != inner.end_lineno and not hasattr(inner, "body"):
            text = ast.unparse(inner)
    return one_line(text, 100)
