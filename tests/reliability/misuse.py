"""What the suite of misuse is made of; the cases are in `cases_*.py`, by who must complain."""

import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import splitlab as sl


@dataclass(frozen=True)
class Misuse:
    """One thing done wrongly, and the sentence that must answer it.

    Attributes:
        what: What is done, in a few words; the test's name.
        do: Does it, with a `Given`.
        raises: The type of the error.
        says: What its sentence must contain: who complains, what was wrong, what to do.
        unchanged: Takes a `Given` and returns objects that must be the same to the last bit
            afterwards; None where nothing exists yet that could change.
    """

    what: str
    do: Callable[["Given"], object]
    raises: type[Exception]
    says: tuple[str, ...]
    unchanged: Callable[["Given"], object] | None = None


class Given(types.SimpleNamespace):
    """What a case may use: a few images of each part, a folder, and what it keeps here itself.

    Attributes:
        private: 16 private digits.
        public: 16 public ones.
        referee: 16 of the referee's.
        folder: An empty folder.
    """

    def __init__(self, folder: Path) -> None:
        parts = sl.tiny.split("digits", 0)
        private, public, referee = (part.subset(16, seed=0) for part in parts)
        super().__init__(private=private, public=public, referee=referee, folder=folder)
