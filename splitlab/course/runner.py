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
from copy import deepcopy
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import nbformat
import torch
from nbformat import NotebookNode

from splitlab.course import kernels
from splitlab.course.comparisons import Comparison
from splitlab.course.execution import Execution, traceback_of
from splitlab.course.kernels import LIBRARY
from splitlab.course.kernels import ONE_THREAD as ONE_THREAD
from splitlab.course.notebook_files import (
    ChapterError,
    code_cells,
    name_of,
    read,
    storage_fault,
    tags,
    without_outputs,
)
from splitlab.course.outputs import settle, verdict_of
from splitlab.course.run_log import RunLog
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
    """The result of running one chapter.

    Attributes:
        chapter: The notebook's name, as `name_of` has it.
        seconds: How long the run took, also when it is an earlier run's (``cached``).
        cached: True when nothing had changed and the earlier executed copy was kept.
        verdict: The chapter's verdict line, "" when it prints none.
        error: None, or one sentence saying what failed and how.
        warnings: The lines that this run printed on stderr, which the copy does not hold.
        cpu_seconds: The CPU seconds of the kernel; None where they are not known, as when it died.
        memory: The most memory that the kernel had, in bytes; None where it is not known, as when
            the kernel died.
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


def result_of(notebook: Path, out: Path) -> Result | None:
    """The result of an earlier run, from its executed copy or the copy with the traceback.

    Args:
        notebook: The notebook.
        out: Where the executed copy goes, as in `run`.

    Returns:
        The result; None if no run has ended there.
    """
    for path in (out, failed_copy(out)):
        if (copy := _copy(path)) is not None:
            return _result(notebook, copy, cached=True)
    return None


def cached(notebook: Path, out: Path, run_key: str) -> Result | None:
    """The earlier run's result if its executed copy was made with the same key, else None."""
    copy = _copy(out)
    if copy is None or copy.metadata["splitlab"].get("key") != run_key:
        return None
    return _result(notebook, copy, cached=True)


def failed_copy(out: Path) -> Path:
    """Where the copy with the traceback goes when a run fails."""
    return out.with_suffix(".failed.ipynb")


def forget(out: Path) -> None:
    """Remove the files that failed or killed runs to the same `out` have left."""
    pattern = re.compile(rf"\.{re.escape(out.stem)}\.[a-z0-9_]{{8}}\.ipynb")
    partial = [path for path in out.parent.iterdir() if pattern.fullmatch(path.name)]
    for path in (failed_copy(out), *partial):
        path.unlink(missing_ok=True)


def _copy(path: Path) -> NotebookNode | None:
    """The copy of a notebook that a run has left; None if there is none."""
    try:
        copy = nbformat.read(path, as_version=4)
    except Exception:  # absent, or not a notebook: then there is no earlier run
        return None
    return copy if "splitlab" in copy.metadata else None


def _result(notebook: Path, copy: NotebookNode, **rest: Any) -> Result:
    """The result that a copy holds."""
    record = copy.metadata["splitlab"]
    error = record.get("error")
    return Result(
        chapter=name_of(notebook),
        seconds=float(record["seconds"]),
        verdict="" if error else verdict_of(copy),
        error=error,
        cpu_seconds=record.get("cpu_seconds"),
        memory=record.get("memory"),
        figures=tuple(Comparison(**row) for row in record.get("figures", ())),
        **rest,
    )


def run(
    notebook: Path,
    out: Path,
    *,
    parameters: Mapping[str, Any],
    root: Path,
    timeout: int = 600,
    environment: Mapping[str, str] | None = None,
    log: Path | None = None,
    on_cell: Callable[[], None] = lambda: None,
) -> Result:
    """Run a chapter unless an executed copy with the same key is already there.

    Args:
        notebook: The chapter.
        out: Where the executed copy goes; it appears only when the run was complete.
        parameters: Values for the chapter's `parameters` cell; unknown names are refused.
        root: The repository's folder (for constraints.txt).
        timeout: The most seconds that one cell may take.
        environment: Further environment variables of the kernel, such as those that choose its GPU;
            another value does not make the chapter run again.
        log: A file to which lines are appended as things happen; none if an earlier copy is kept.
        on_cell: Called after each code cell, for a progress bar.

    Raises:
        ChapterError: One sentence with chapter, cell and error. The copy with the traceback is
            then left beside `out` as ``NAME.failed.ipynb``.
    """
    chapter, lines = name_of(notebook), RunLog(log)
    try:
        check_parameters(read(notebook), chapter, parameters)
        run_key = key(notebook, parameters, root)
        if earlier := cached(notebook, out, run_key):
            return earlier
        values = ", ".join(f"{name}={value}" for name, value in parameters.items())
        lines.write(f"began: {chapter}, {values or 'no parameters'}")
        execution = Execution(
            notebook,
            parameters,
            timeout=timeout,
            variables=environment or {},
            on_cell=on_cell,
            log=lines,
        )
        return _run(execution, out, run_key)
    except OSError as error:
        fault = f"{chapter} did not run: {storage_fault(error, out.parent)}"
        with suppress(OSError):
            lines.write(f"failed: {fault}")
        raise ChapterError(fault) from error


def _run(execution: Execution, out: Path, run_key: str) -> Result:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.unlink(missing_ok=True)
    forget(out)
    handle, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.stem}.", suffix=".ipynb")
    os.close(handle)
    partial = Path(name)
    start = time.perf_counter()
    try:
        failure = None
        try:
            copy = execution.run(partial)
        except ChapterError as error:
            failure, copy = error, nbformat.read(partial, as_version=4)
        seconds = time.perf_counter() - start
        # A failed copy keeps all that its cells printed; the warnings are taken out of another.
        warnings = settle(copy if failure is None else deepcopy(copy))
        if failure is None:
            _tidy(copy)
        copy.metadata["splitlab"] = {
            "key": run_key,
            "seconds": round(seconds, 1),
            "cpu_seconds": execution.kernel.cpu_seconds,
            "memory": execution.kernel.memory,
            "figures": [asdict(figure) for figure in execution.figures],
            "error": None if failure is None else str(failure),
        }
        nbformat.write(copy, partial)
        os.replace(partial, out if failure is None else failed_copy(out))
    finally:
        partial.unlink(missing_ok=True)
    if warnings:
        execution.log.write("printed on stderr:", warnings)
    if failure is not None:
        execution.log.write(f"failed: {failure}", traceback_of(failure))
        raise failure
    result = _result(execution.notebook, copy, cached=False, warnings=warnings)
    execution.log.write(f"done after {seconds:.1f} s: {result.verdict or 'no verdict line'}")
    return result


def _tidy(finished: NotebookNode) -> None:
    """Make the executed copy a page of the book."""
    for cell in code_cells(finished, "injected-parameters"):
        cell.metadata.tags = [*tags(cell), "remove-cell"]
    # papermill notes file names and times; they say nothing about the chapter, and leaving
    # them out makes two equal runs give equal files but for what was measured.
    finished.metadata.pop("papermill", None)
    for cell in finished.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
