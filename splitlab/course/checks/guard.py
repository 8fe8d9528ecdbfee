"""Run a student's function in a separate thread, with a time limit and watched.

The thread shows no frame of the check and can be given up, on every platform. What is noticed
besides: patched libraries, files, printed verdicts, calls of the check's own reference. It all
happens in the student's process, so this keeps people honest; it is no security boundary.
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import functools
import io
import linecache
import math
import operator
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import numpy as np
import torch

Function = Callable[..., Any]
SPYING = ("gc.get_objects", "gc.get_referrers", "gc.get_referents", "sys._current_frames")
WRITING = frozenset("wax+")
_CHECKS = str(Path(__file__).parent)


class CheckFailed(AssertionError):
    """One sentence about a mistake in an answer; Jupyter shows it without a traceback."""

    def _render_traceback_(self) -> list[str]:  # IPython asks for this instead of a traceback
        return [f"Not yet: {self}"]


class NotWrittenYet(CheckFailed):
    """The function still is the exercise's stub."""


def wrong(message: str) -> None:
    """Say what is wrong with the answer.

    Raises:
        CheckFailed: Always.
    """
    raise CheckFailed(message)


class _Running:
    """The thread that runs an answer now, and the forbidden things that it has tried."""

    thread: int | None = None
    seen: list[str] = []  # noqa: RUF012 - there is one of these

    @classmethod
    def note(cls, message: str) -> None:
        """Fail with a message if the answer's own thread calls this."""
        if threading.get_ident() == cls.thread:
            cls.seen.append(message)
            wrong(message)


def secret(function: Function) -> Function:
    """Make a function that refuses to run for an answer: a reference, or hidden cases."""

    @functools.wraps(function)
    def run(*arguments: Any, **options: Any) -> Any:
        _Running.note("your function calls a part of its own check: write the answer yourself")
        return function(*arguments, **options)

    del run.__wrapped__
    return run


@functools.cache
def _listen() -> None:
    """Watch for opened files and memory searches; Python cannot remove such a hook."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if _Running.thread is None or threading.get_ident() != _Running.thread:
            return
        if event in SPYING:
            _Running.note(
                "your function searches the interpreter's memory: it needs no more than "
                "its arguments"
            )
        if event == "open":
            path, mode = str(arguments[0]), arguments[1]
            if isinstance(mode, str) and WRITING & set(mode) and "__pycache__" not in path:
                _Running.note("your function writes a file: keep to arguments and results")
            if _is_check(path) and not _torch_asks():
                _Running.note("your function reads its own check: write the answer yourself")

    sys.addaudithook(hook)


class Guard:
    """Calls an answer, and watches its time, its output and all shared state.

    Args:
        function: The student's function.
        name: What the exercise calls it.
        seconds: What all calls together may take.

    """

    def __init__(self, function: Function, name: str, seconds: float) -> None:
        _listen()
        self.function, self.name, self.seconds = function, name, seconds
        self.left = seconds
        self.output = io.StringIO()
        self.shared = [(holder, dict(vars(holder))) for holder in _holders()]

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Return what the function returns.

        Raises:
            CheckFailed: If it is no function; if it raises, and what it raised is the cause; if it
                does what no answer needs.
        """
        return self.run(self.function, *arguments, **options)

    def run(self, function: Function, *arguments: Any, **options: Any) -> Any:
        """Like a call, for a function that an answer has returned."""
        if not callable(self.function):
            wrong(
                f"the check wants the function itself, not a {type(self.function).__name__}: write "
                f"check.{self.name}({self.name}), without parentheses after the second {self.name}"
            )
        outcome: list[Any] = []

        def body() -> None:
            _Running.thread = threading.get_ident()
            try:
                outcome.append((function(*arguments, **options), None))
            except BaseException as error:
                outcome.append((None, error))

        _Running.seen.clear()
        for path in filter(_is_check, list(linecache.cache)):  # so that reading it opens the file
            del linecache.cache[path]
        thread = threading.Thread(target=body, daemon=True)
        start = time.monotonic()
        with contextlib.redirect_stdout(self.output), contextlib.redirect_stderr(self.output):
            thread.start()
            try:
                thread.join(max(self.left, 0.01))
            finally:
                late = thread.is_alive()
                if late:
                    _stop(thread)
                _Running.thread = None
        self.left -= time.monotonic() - start
        self._look_around()
        if late or self.left < 0:
            wrong(
                f"{self.name} takes more than {self.seconds:g} s, and the check has stopped it: "
                "look for a loop that does not end, or for work that one tensor operation does"
            )
        result, error = outcome[0]
        if error is not None:
            self._explain(error)
        return result

    def _look_around(self) -> None:
        """Refuse actions that no answer needs, and undo patches.

        Raises:
            CheckFailed: Naming it.
        """
        patched = [name for holder, before in self.shared for name in _restored(holder, before)]
        if patched:
            wrong(
                f"{self.name} changes {patched[0]}, which other code uses, too (it has been "
                "restored): keep to the function's arguments and its result"
            )
        if _Running.seen:
            wrong(_Running.seen[0])
        if "passed" in self.output.getvalue().lower():
            wrong(f"{self.name} prints a verdict of its own: leave that to the check")

    def _explain(self, error: BaseException) -> None:
        if isinstance(error, CheckFailed):  # from a helper that the check handed to the function
            raise error
        if not isinstance(error, Exception):
            raise CheckFailed(
                f"{self.name} ends with {type(error).__name__} instead of a result: return one"
            ) from error
        # torch raises NotImplementedError, too, for operations that a type does not have.
        if isinstance(error, NotImplementedError) and "not written yet" in str(error):
            raise NotWrittenYet(
                f"{self.name} is not written yet; put your code at 'Your code here', run "
                "that cell, and then this one again"
            ) from error
        raise CheckFailed(
            f"{self.name} stopped with {type(error).__name__}: {_one_line(error)}"
            f"{_where(error, self.function)}"
        ) from error


def _torch_asks() -> bool:
    """Whether torch looks at the frames that called it, as its compiler does."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("torch."):
            return True
        frame = frame.f_back
    return False


def _is_check(path: str) -> bool:
    return path.endswith(".py") and path.startswith(_CHECKS)


def _holders() -> list[Any]:
    """Modules and classes that an answer uses and must leave as they are."""
    ours = [module for name, module in sorted(sys.modules.items()) if name.startswith("splitlab")]
    names = ("", ".nn", ".nn.functional", ".autograd", ".optim")
    torchs = [sys.modules[f"torch{name}"] for name in names]
    classes = [torch.Tensor, torch.nn.Module, torch.optim.Optimizer]
    return [*ours, *torchs, *classes, builtins, math, random, np, np.random]


def _restored(holder: Any, before: dict[str, Any]) -> list[str]:
    """Undo what was set in a module or class since; return the names."""
    now = vars(holder)
    if len(now) == len(before) and all(map(operator.is_, now.values(), before.values())):
        return []
    now, changed = dict(now), []
    for name in {**now, **before}:
        old, new = before.get(name), now.get(name)
        if old is new or isinstance(old, ModuleType) or isinstance(new, ModuleType):
            continue  # a module may be imported late
        if not callable(old) if name in before else name.startswith("_"):
            continue  # a library's own cache
        if str(getattr(new, "__module__", "")).startswith("torch."):
            continue  # torch wraps some of its own functions when it first compiles
        changed.append(f"{holder.__name__}.{name}")
        if name in before:
            setattr(holder, name, old)
        else:
            delattr(holder, name)
    return changed


def _stop(thread: threading.Thread) -> None:
    """Raise SystemExit in a thread; one that sleeps is left to itself, as a daemon."""
    for _ in range(20):
        identity = ctypes.c_ulong(thread.ident or 0)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(identity, ctypes.py_object(SystemExit))
        thread.join(0.05)
        if not thread.is_alive():
            return


def _where(error: BaseException, function: Function) -> str:
    """Name the last line of the student's own code that the error came through."""
    code = getattr(function, "__code__", None)
    place, step = "", error.__traceback__
    while code is not None and step is not None:
        if step.tb_frame.f_code.co_filename == code.co_filename:
            line = linecache.getline(code.co_filename, step.tb_lineno).strip()
            place = f", at `{line}`" if line else place
        step = step.tb_next
    return place


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    return text if len(text) <= 200 else f"{text[:199]}…"
