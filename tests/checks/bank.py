"""The bank of answers that every check is tested with: right ones, and likely mistakes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

Function = Callable[..., Any]


@dataclass
class Bank:
    """Right and wrong answers to one chapter's exercises.

    Attributes:
        chapter: The notebook's name without its ending, as in `solutions/`.
        checks: The module of its checks.
        right: (exercise, function) of answers written otherwise than the solution.
        mistakes: (exercise, function, part of the message that it must get).
        equivalents: (exercise, mutant) -> why this mutant is right, or cannot be told from right.
    """

    chapter: str
    checks: ModuleType
    right: list[tuple[str, Function]] = field(default_factory=list)
    mistakes: list[tuple[str, Function, str]] = field(default_factory=list)
    equivalents: dict[tuple[str, str], str] = field(default_factory=dict)

    def also_right(self, exercise: str) -> Callable[[Function], Function]:
        """Register the decorated function as another right answer."""

        def register(function: Function) -> Function:
            self.right.append((exercise, function))
            return function

        return register

    def mistake(self, exercise: str, message: str) -> Callable[[Function], Function]:
        """Register the decorated function as a mistake that must get this message."""

        def register(function: Function) -> Function:
            self.mistakes.append((exercise, function, message))
            return function

        return register

    def mistaken_class(self, exercise: str, message: str) -> Callable[[type], type]:
        """Register the decorated class, like `mistake`: each call goes to a fresh object of it.

        For mistakes that differ from a right answer by one method.
        """

        def register(kind: type) -> type:
            def mistaken(*arguments: Any) -> Any:
                return kind()(*arguments)

            mistaken.__name__ = kind.__name__
            self.mistakes.append((exercise, mistaken, message))
            return kind

        return register

    def equivalent(self, exercise: str, mutant: str, reason: str) -> None:
        """List a mutant that passes, with the reason why that is no fault of the check."""
        self.equivalents[exercise, mutant] = reason
