"""Threat-model cards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from splitlab.core.tables import Table


class ThreatModelViolation(RuntimeError):
    """Raised when a party can reach something that the threat model does not grant."""


@dataclass(frozen=True)
class ThreatModel:
    """The threat-model card of a party: its goal, what it sees and what it knows.

    Attributes:
        who: Role and behavior, such as "server, malicious".
        goal: What it is after.
        sees: What reaches it in messages.
        knows: What it holds from the start.
        does_not_know: What the claim rests on its not having.
        grants: What it was given beyond messages (an oracle, the client's weights); empty for most.
        source: The paper.
    """

    who: str
    goal: str
    sees: tuple[str, ...] = ()
    knows: tuple[str, ...] = ()
    does_not_know: tuple[str, ...] = ()
    grants: tuple[str, ...] = ()
    source: str = ""

    def lines(self) -> list[tuple[str, str]]:
        """Return every line of the card: its name and its text, which may be empty."""
        return [
            ("who", self.who),
            ("goal", self.goal),
            ("sees", "; ".join(self.sees)),
            ("knows", "; ".join(self.knows)),
            ("does not know", "; ".join(self.does_not_know)),
            ("granted beyond messages", "; ".join(self.grants) or "nothing"),
            ("source", self.source),
        ]

    def table(self) -> Table:
        """Return the card as a table, without empty lines; the grants always have a line."""
        return Table((), [line for line in self.lines() if line[1]], caption="Threat model")

    def __str__(self) -> str:
        return str(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def side_by_side(cards: Mapping[str, ThreatModel]) -> Table:
    """Return several cards as one table, one column each, with the lines in which they differ.

    Args:
        cards: Heading -> card.

    Raises:
        ValueError: If there is nothing to compare.
    """
    if len(cards) < 2:
        raise ValueError(f"cards holds {len(cards)}: pass at least two cards to compare")
    lines = [dict(card.lines()) for card in cards.values()]
    names = [name for name, _ in next(iter(cards.values())).lines()]
    rows = [(name, *(line[name] for line in lines)) for name in names]
    return Table(("", *cards), [row for row in rows if len(set(row[1:])) > 1])
