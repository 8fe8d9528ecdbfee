"""How a shell command ends: its exit status, and one sentence if it ends early."""

from __future__ import annotations

import errno
import linecache
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import torch

PACKAGE = Path(__file__).parents[1]
CLOSED_PIPE = 128 + 13  # what a shell reports of a program that SIGPIPE has ended
FULL = (errno.ENOSPC, errno.EDQUOT)
STATUSES = (
    "Exit status: 0 done; 1 a check found something wrong, such as a claim that does not hold; "
    "2 wrong use, or something that cannot be done here; 130 stopped by Ctrl-C; 143 stopped by "
    "SIGTERM; 141 the reader of the output has closed it, as `| head` does. Results go to stdout, "
    "everything else to stderr."
)


class Terminated(KeyboardInterrupt):
    """SIGTERM has arrived: it stops a command as Ctrl-C does."""


def stopped_status(error: KeyboardInterrupt) -> int:
    """Return the exit status of what was stopped: 143 by SIGTERM, 130 by Ctrl-C."""
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)


@contextmanager
def terminable() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM raise inside, once, so that the cleanup is not interrupted.

    A signal that this process was told to ignore stays ignored, as below nohup. Only the main
    thread may set what a signal does; in another one nothing changes.
    """
    before: dict[signal.Signals, Any] = {}

    def stop(number: int, frame: FrameType | None) -> None:
        for which in before:
            signal.signal(which, signal.SIG_IGN)
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    for which in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(which) is not signal.SIG_IGN:
            with suppress(ValueError):  # not in the main thread
                before[which] = signal.signal(which, stop)
    try:
        yield
    finally:
        for which, handler in before.items():
            signal.signal(which, handler or signal.SIG_DFL)


@contextmanager
def patient() -> Iterator[list[KeyboardInterrupt]]:
    """Note the first Ctrl-C, and let the second one raise, within `terminable`.

    Yields:
        A list that gets the interrupt that the first Ctrl-C would have raised.
    """
    asked: list[KeyboardInterrupt] = []
    before: Any = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(KeyboardInterrupt())
        signal.signal(signal.SIGINT, before)

    watched = before is not signal.SIG_IGN and threading.current_thread() is threading.main_thread()
    if watched:
        signal.signal(signal.SIGINT, note)
    try:
        yield asked
    finally:
        if watched:
            signal.signal(signal.SIGINT, before)


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Start processes inside that ignore Ctrl-C: the process that started them ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def run(
    name: str,
    command: Callable[[], int | None],
    *,
    stopped: str = "nothing is left half-written",
) -> int:
    """Run a command; where it ends early, say in one sentence on stderr why.

    An error that nobody has foreseen keeps its traceback.

    Args:
        name: What the sentence begins with.
        command: Returns the exit status, or None for 0.
        stopped: What the user may rely on after Ctrl-C; the end of a sentence.

    Returns:
        The exit status, as `STATUSES` has it.
    """
    for stream in ("stdout", "stderr"):
        if getattr(sys, stream) is None:  # closed by the shell; print would take the other one
            setattr(sys, stream, open(os.devnull, "w"))  # noqa: SIM115 as long as the process
    try:
        with terminable():
            try:
                status = command() or 0
            finally:
                sys.stdout.flush()  # a closed pipe or a full disk shows here, not after the end
    except KeyboardInterrupt as error:
        _say(f"\n{name}: stopped before the end; {stopped}.")
        status = stopped_status(error)
    except BrokenPipeError:
        status = CLOSED_PIPE
    except (ValueError, OSError, MemoryError, torch.OutOfMemoryError) as error:
        if not foreseen(error):
            raise
        _say(f"{name}: {sentence(error)}")
        status = 2
    let_go()
    return status


def foreseen(error: BaseException) -> bool:
    """Whether an error is expected: raised by the system or by splitlab, not by a bug.

    Other ValueErrors, of torch, numpy or Python itself, are faults of splitlab, which called these.
    """
    if not isinstance(error, ValueError) or type(error).__module__.startswith("splitlab."):
        return True
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return False
    file = traceback.tb_frame.f_code.co_filename
    line = linecache.getline(file, traceback.tb_lineno).strip()
    return PACKAGE in Path(file).parents and (not line or line.startswith("raise"))


def sentence(error: BaseException) -> str:
    """Return an expected error as one line."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return "there is too little memory: use --device cpu, a smaller --profile or fewer --jobs"
    if not isinstance(error, OSError) or error.strerror is None:
        return " ".join(str(error).split())
    what = f"{error.filename} cannot be used" if error.filename else "a write has failed"
    do = "make room" if error.errno in FULL else "check the path and your right to use it"
    return f"{what} ({error.strerror}): {do}"


def _say(text: str) -> None:
    with suppress(OSError):
        print(text, file=sys.stderr)


def let_go() -> None:
    """Drop output that cannot be written, so that Python does not report it at exit."""
    stream: Any
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
