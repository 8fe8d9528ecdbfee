"""A folder that one process at a time works in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def only_one(lock: Path, refusal: Exception) -> Iterator[None]:
    """Hold a lock, which ends with the process.

    Args:
        lock: Its file; the folder is made.
        refusal: What to raise if another process holds it.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock)
    try:
        with suppress(NotImplementedError):  # a file system without locks
            held.acquire(timeout=0)
    except Timeout:
        raise refusal from None
    try:
        yield
    finally:
        held.release()
