"""The classes that the command line of pytest names."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import pytest

import splitlab as sl
from splitlab.core.state import Stateful

CHOSEN = pytest.StashKey[dict[str, list[type]]]()  # "attack" and "defense" -> classes
KINDS: dict[str, tuple[type, ...]] = {
    "attack": (sl.Server, sl.Client),
    "defense": (sl.Defense, sl.LabelDefense, sl.HonestServer),
}


def chosen(what: str, path: str) -> Any:
    """Return the class that an option names.

    Args:
        what: "attack" or "defense".
        path: "module:Class".

    Raises:
        ValueError: If there is no such class, or it is none that the list can try; in one sentence.
    """
    option = f"--splitlab-{what} {path}"
    module, colon, name = path.partition(":")
    if not (module and colon and name):
        raise ValueError(f"{option} names no class: write module:Class, such as my_module:Mine")
    kind = getattr(_imported(module, option), name, None)
    if not inspect.isclass(kind):
        raise ValueError(f"{option}: {module} has no class {name}; check the spelling")
    if not _is(kind, what):
        raise ValueError(f"{option}: {_other_base(kind, what)}")
    if missing := sorted(getattr(kind, "__abstractmethods__", ())):
        raise ValueError(f"{option}: {name} does not override {', '.join(missing)}; write it first")
    if kind.conformance_example.__func__ is Stateful.conformance_example.__func__:
        raise ValueError(
            f"{option}: {name} does not say how to make a small example of itself; give it a "
            "classmethod conformance_example(private, public) that returns one"
        )
    return kind


def _imported(module: str, option: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            raise ValueError(
                f"{option}: there is no module {error.name} here; run pytest in the folder that "
                "holds it, or install it"
            ) from error
        problem: Exception = error
    except Exception as error:
        problem = error
    raise ValueError(
        f"{option}: importing {module} raises {type(problem).__name__}: {problem}"
    ) from problem


def _other_base(kind: type, what: str) -> str:
    """Say what a class of another kind should be."""
    for other in KINDS:
        if _is(kind, other):
            return f"{kind.__name__} is {_a(other)}; name it with --splitlab-{other}"
    *bases, last = (f"sl.{base.__name__}" for base in KINDS[what])
    wanted = f"{', '.join(bases)} or {last}"
    return f"{kind.__name__} is not {_a(what)}; {_a(what)} is a subclass of {wanted}"


def _is(kind: type, what: str) -> bool:
    """Whether a class can be tried as an attack, or as a defense."""
    # A server that looks on answers honestly, and defends nothing.
    looks = what == "defense" and issubclass(kind, sl.PassiveServer)
    return issubclass(kind, KINDS[what]) and not looks


def _a(what: str) -> str:
    return f"an {what}" if what == "attack" else f"a {what}"
