"""The log of a run: events with their times, written as they happen."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path


class RunLog:
    """Appends lines with the local time to a file; without a file, it writes nothing.

    An earlier run's lines stay: they say where that run was if it was killed.

    Args:
        path: The file; None for no log.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def write(self, line: str, more: Iterable[str] = ()) -> None:
        """Append a line with the time, and further lines of the same event, indented.

        Raises:
            OSError: If they cannot be written.
        """
        if self.path is None:
            return
        time = datetime.now().astimezone().isoformat(timespec="seconds")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Closed each time, so that all is on file should this process be killed.
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n    ".join([f"{time}  {line}", *more]) + "\n")
