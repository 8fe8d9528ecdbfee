"""One job of a batch: a notebook with its parameters, and where its results go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splitlab.course.notebook_files import name_of
from splitlab.course.runner import Result


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A notebook to run with some parameters.

    Attributes:
        notebook: The notebook, as an absolute path.
        parameters: The values of its parameters: profile, seed, device, and those of ``--set``.
        out: Where the executed copy goes; it is there once the job has succeeded.
        timeout: The most seconds that one cell may take.
    """

    notebook: Path
    parameters: Mapping[str, Any]
    out: Path
    timeout: int = 600

    @property
    def chapter(self) -> str:
        """The notebook's name: a chapter's, or ``solutions/NAME``."""
        return name_of(self.notebook)

    @property
    def values(self) -> str:
        """The parameters in words, such as "tiny, seed 3, steps 60"; the device is left out."""
        words = [str(self.parameters["profile"])] if "profile" in self.parameters else []
        rest = {k: v for k, v in self.parameters.items() if k not in ("profile", "device")}
        return ", ".join([*words, *(f"{name} {value}" for name, value in rest.items())])

    @property
    def name(self) -> str:
        """What the job is called: "32_feature_space_hijacking, tiny, seed 3"."""
        return ", ".join(filter(None, (self.chapter, self.values)))

    @property
    def log(self) -> Path:
        """The job's log: when it began, each cell, and how it ended."""
        return self.out.with_suffix(".log")

    @property
    def failed(self) -> Path:
        """The copy with the traceback, there once the job has failed."""
        return self.out.with_suffix(".failed.ipynb")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a job.

    Attributes:
        job: The job.
        result: What running it gave; None if it did not run (the batch was stopped).
    """

    job: Job
    result: Result | None

    @property
    def status(self) -> str:
        """``done``, ``failed`` or ``not run``."""
        if self.result is None:
            return "not run"
        return "failed" if self.result.error else "done"
