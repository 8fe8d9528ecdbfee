"""Execute the cells of a notebook with papermill, and measure what the verdict compares."""

from __future__ import annotations

import ast
import json
import re
import time
from asyncio import sleep
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty
from typing import Any

import papermill
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError

from splitlab.course import comparisons
from splitlab.course.comparisons import Comparison
from splitlab.course.kernels import KernelRun
from splitlab.course.notebook_files import (
    ChapterError,
    code_cells,
    name_of,
    one_line,
    read,
    tags,
)
from splitlab.course.outputs import VERDICT
from splitlab.course.run_log import RunLog

# Run in the kernel. The file is loaded by its path, for importing splitlab would import torch.
EVALUATE = "__import__('runpy').run_path({path!r})['as_json']({source!r}, {names}, {line!r})"
NAMES = "get_ipython().user_ns"


class Execution:
    """One execution of a notebook.

    Args:
        notebook: The notebook.
        parameters: The values of its parameters.
        timeout: The most seconds that one cell may take.
        variables: Further environment variables of the kernel.
        on_cell: Called after each code cell.
        log: Told of each code cell.

    Attributes:
        figures: What the asserts of the verdict cells that have run compare.
        kernel: What is known of the kernel.
    """

    def __init__(
        self,
        notebook: Path,
        parameters: Mapping[str, Any],
        *,
        timeout: int,
        variables: Mapping[str, str],
        on_cell: Callable[[], None],
        log: RunLog,
    ) -> None:
        self.notebook, self.parameters, self.timeout = notebook, parameters, timeout
        self.on_cell, self.log = on_cell, log
        self.kernel = KernelRun(variables)
        self.figures: list[Comparison] = []
        self._cells = len(code_cells(read(notebook)))
        self._current: list[str] = []  # the sources of the cells that have begun
        self._began = 0.0

    def run(self, partial: Path) -> NotebookNode:
        """Run the cells; the notebook is written to `partial` after each.

        Raises:
            ChapterError: Naming the line that failed.
        """
        try:
            return papermill.execute_notebook(
                _as_format(self.notebook),
                _as_format(partial),
                parameters=dict(self.parameters),
                kernel_name="python3",  # how papermill writes the parameters; `Kernel` is what runs
                language="python",  # also where the notebook does not say
                kernel_manager_class=self.kernel.manager(),
                progress_bar=False,
                execution_timeout=self.timeout,
                on_cell_start=self._started,
                on_cell_executed=self._executed,
                # The folder that Jupyter, too, would start the kernel in.
                resources={"metadata": {"path": str(self.notebook.parent)}},
                # A kernel warns of its unencrypted local port, and calls its own end an error.
                extra_arguments=["--log-level=CRITICAL"],
            )
        except PapermillExecutionError as error:
            what = one_line(f"{error.ename}: {error.evalue}", 240)
            lines = _lines(error.traceback, error.exec_count)
            raise self._failure(what, lines[-1] if lines else None) from error
        except CellTimeoutError as error:
            raise self._failure(f"took longer than {self.timeout} seconds") from error
        except DeadKernelError as error:
            raise self._failure("the kernel died (often: out of memory)") from error
        except RuntimeError as error:  # of jupyter_client, when a kernel does not answer
            raise ChapterError(
                f"{name_of(self.notebook)} did not run, because its kernel did not start "
                f"({one_line(str(error), 160)}): see what `python -m ipykernel_launcher` says here."
            ) from error

    def _started(self, cell: NotebookNode, cell_index: int) -> None:
        if cell.cell_type == "code" and "injected-parameters" not in tags(cell):
            self._current.append(cell.source)
            self._began = time.perf_counter()
            first = one_line(quoted(cell.source, None), 100)
            self.log.write(f"{self._place} begins (`{first}`)")

    async def _executed(
        self, cell: NotebookNode, cell_index: int, execute_reply: dict[str, Any]
    ) -> None:
        if "injected-parameters" not in tags(cell):
            self.log.write(f"{self._place} took {time.perf_counter() - self._began:.1f} s")
        if VERDICT in tags(cell):
            self.figures += await self._figures(cell.source, execute_reply["content"])
        self.on_cell()

    @property
    def _place(self) -> str:
        return f"code cell {len(self._current)} of {self._cells}"

    async def _figures(self, source: str, reply: Mapping[str, Any]) -> list[Comparison]:
        """Evaluate the asserts of a verdict cell that has run, whether or not it has failed."""
        line = None
        if reply["status"] != "ok":
            lines = _lines(reply.get("traceback", ()), reply.get("execution_count"))
            if not lines:
                return []
            line = lines[0]
        values = {
            "path": comparisons.__file__,
            "source": _from_first_line(source),
            "names": NAMES,
            "line": line,
        }
        text = await self._evaluate(EVALUATE.format(**values))
        return [Comparison(**row) for row in json.loads(text)] if text else []

    async def _evaluate(self, expression: str) -> str | None:
        """Evaluate an expression in the kernel, which leaves no trace in the notebook.

        Returns:
            The string that it is; None if it raises an error, or is not there in time.
        """
        client = self.kernel.client
        assert client is not None
        end = time.monotonic() + self.timeout
        sent = None
        while time.monotonic() < end:
            if sent is None:
                sent = client.execute("", silent=True, user_expressions={"it": expression})
            try:
                reply = await client.get_shell_msg(timeout=1)
            except Empty:
                if not await client.is_alive():
                    return None
                continue
            if reply["parent_header"].get("msg_id") != sent:
                continue
            content = reply["content"]
            if content["status"] == "aborted":  # as is all that follows a failing cell closely
                sent = None
                await sleep(0.05)
                continue
            answer = content.get("user_expressions", {}).get("it", {})
            text = answer.get("data", {}).get("text/plain")
            return None if text is None else ast.literal_eval(text)
        return None

    def _failure(self, what: str, line: int | None = None) -> ChapterError:
        chapter = name_of(self.notebook)
        if not self._current:
            return ChapterError(f"{chapter} failed before its first cell: {what}.")
        text = quoted(self._current[-1], line)
        return ChapterError(f"{chapter}, code cell {len(self._current)} (`{text}`): {what}.")


def _as_format(path: Path) -> str:
    """A path escaped for papermill, which takes names in braces for parameters."""
    return str(path).replace("{", "{{").replace("}", "}}")


def traceback_of(error: ChapterError) -> list[str]:
    """The lines of the traceback of the cell that failed, without colors; none if none did."""
    cause = error.__cause__
    if not isinstance(cause, PapermillExecutionError):
        return []
    return _plain(cause.traceback).splitlines()


def _plain(traceback: Sequence[str]) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(traceback))


def _lines(traceback: Sequence[str], count: int | None) -> list[int]:
    """The numbers of the lines, in the cell that failed, through which an error came.

    Args:
        traceback: What the kernel says of the error.
        count: The cell's execution count.
    """
    frames = re.findall(r"\bIn *\[(\d+)\], line (\d+)", _plain(traceback))
    return [int(line) for cell, line in frames if int(cell) == count]


def _from_first_line(source: str) -> str:
    """The source as IPython counts its lines: from the first one with text."""
    return re.sub(r"\A(\s*\n)+", "", source)


def quoted(source: str, line: int | None) -> str:
    """The statement in a cell that covers a line; without one, the first line that is code."""
    source = _from_first_line(source)
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
