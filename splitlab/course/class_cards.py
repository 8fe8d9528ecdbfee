"""Cards of attacks and defenses, made only from the classes' own docstrings and attributes.

An attack carries a threat-model card. A defense has none: its docstring says what it does, its base
class whose defense it is, its module's docstring which paper it comes from, and the methods that it
overrides say where it takes part. A class is on the lists once its package exports it.
"""

from __future__ import annotations

import html
import inspect
import re
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import splitlab as sl
from splitlab.core.tables import Table

PROTOCOLS = {"vanilla": "vanilla", "u_shaped": "U-shaped"}
# What a defense can override, in the order of a step, and what it then watches or changes.
HOOKS = {
    "begin": "the batch",
    "smash": "z",
    "outgoing": "the gradient that is sent",
    "incoming": "the gradient that arrives",
    "local_loss": "the client's loss",
    "grads": "the gradient of f's weights",
    "relay": "weights that pass through the server",
    "scores": "class scores",
}
# The first base class that fits says whose defense it is.
OWNERS = {
    sl.Detector: "client (detector)",
    sl.Defense: "client",
    sl.LabelDefense: "server with the labels",
    sl.Server: "server",
}


class Overview(Table):
    """A table whose cells may name settings, in backticks."""

    def _repr_html_(self) -> str:
        return _names_as_code(super()._repr_html_())


@dataclass(frozen=True)
class Card:
    """A class's description of itself.

    Attributes:
        name: The class's name.
        title: The first sentence of its docstring.
        rows: (heading, text) of all else; no text is empty.
    """

    name: str
    title: str
    rows: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return str(Table((), self.rows, f"{self.name}: {self.title}"))

    def _repr_html_(self) -> str:
        summary = _names_as_code(f"`{self.name}`: {html.escape(self.title)}")
        table = Overview((), self.rows)._repr_html_()
        return f"<details><summary>{summary}</summary>{table}</details>"


class Cards(tuple[Card, ...]):
    """Several cards, folded on a page, one below the other."""

    def __str__(self) -> str:
        return "\n\n".join(map(str, self))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return "".join(card._repr_html_() for card in self)


def attacks() -> list[type[sl.Party]]:
    """Return all attacks: those of servers, then those of clients, the passive ones first."""
    kinds = _exported(sl.attacks, (sl.Server, sl.Client))
    passive = sl.PassiveServer | sl.PassiveClient
    return sorted(
        kinds, key=lambda k: (issubclass(k, sl.Client), not issubclass(k, passive), k.__name__)
    )


def defenses() -> list[type[sl.Stateful]]:
    """Return all defenses: those of a client, its detectors, and those of a server."""
    kinds = _exported(sl.defenses, tuple(OWNERS))
    return sorted(kinds, key=lambda k: (list(OWNERS.values()).index(_owner(k)), k.__name__))


def attack_table() -> Table:
    """Return all attacks at a glance."""
    rows = [(k.__name__, k.threat.who, k.threat.goal, _protocols(k)) for k in attacks()]
    return Overview(("attack", "who", "goal", "protocols"), rows)


def defense_table() -> Table:
    """Return all defenses at a glance."""
    rows = [(k.__name__, _owner(k), _title(k), _works_on(k), _protocols(k)) for k in defenses()]
    return Overview(("defense", "whose", "what it does", "works on", "protocols"), rows)


def attack_cards() -> Cards:
    """Return the threat-model cards of all attacks, with the protocols they take part in."""
    return Cards(
        Card(k.__name__, _title(k), _said([*k.threat.lines(), ("protocols", _protocols(k))]))
        for k in attacks()
    )


def defense_cards() -> Cards:
    """Return a card of each defense."""
    return Cards(Card(k.__name__, _title(k), _said(_defense_lines(k))) for k in defenses())


def _defense_lines(kind: type[sl.Stateful]) -> list[tuple[str, str]]:
    needs = kind.NEEDS if issubclass(kind, sl.Detector) else ()
    subject, _, notes = inspect.getdoc(inspect.getmodule(kind)).partition("\n\n")
    return [
        ("whose", _owner(kind)),
        ("works on", _works_on(kind)),
        ("needs", "; ".join(needs)),
        ("settings", _settings(kind)),
        ("protocols", _protocols(kind)),
        ("idea", _line(subject)),
        ("source and notes", _line(notes)),
    ]


def _exported(package: ModuleType, bases: tuple[type, ...]) -> list[Any]:
    values = [getattr(package, name) for name in package.__all__]
    kinds = [value for value in values if inspect.isclass(value) and issubclass(value, bases)]
    return [kind for kind in kinds if not inspect.isabstract(kind)]


def _owner(kind: type) -> str:
    return next(owner for base, owner in OWNERS.items() if issubclass(kind, base))


def _title(kind: type) -> str:
    return _line((inspect.getdoc(kind) or "").partition("\n\n")[0])


def _works_on(kind: type) -> str:
    """Which hooks a defense overrides, itself or in a base class of its own, in words."""
    own = [c for c in kind.__mro__ if c.__module__.startswith("splitlab.defenses")]
    return "; ".join(words for hook, words in HOOKS.items() if any(hook in vars(c) for c in own))


def _settings(kind: type) -> str:
    parameters = inspect.signature(kind).parameters.values()
    return ", ".join(str(p.replace(annotation=p.empty)) for p in parameters)


def _protocols(kind: type[sl.Stateful]) -> str:
    return ", ".join(PROTOCOLS[name] for name in kind.PROTOCOLS)


def _said(lines: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple(line for line in lines if line[1])


def _line(text: str) -> str:
    """A text on one line; a word that was broken at its hyphen is whole."""
    return " ".join(re.sub(r"(?<=\w-)\n(?=\w)", "", text).split())


def _names_as_code(page: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", page)
