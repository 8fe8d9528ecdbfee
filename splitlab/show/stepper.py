"""A stepper through a protocol: who sends what to whom, and what each party holds by then.

`Transcript` keeps the messages of a run. `frames` draws them for `splitlab.show.scrubber.Scrubber`,
one moment at a time, and `diagram` draws them all in one picture.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from splitlab.core.messages import Message, Weights
from splitlab.show.pictures import PARTY, Frame, Picture, png
from splitlab.show.transcript import Transcript, contents, describe

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def frames(
    events: Transcript | Sequence[Message | tuple[str, str]],
    *,
    holds: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Frame]:
    """Draw one frame of a scrubber for each event between parties, and one for before them all.

    A frame shows the parties side by side with what each holds by then. Below, from top to bottom,
    it shows what has happened and, as faint arrows without words, what is to cross. Kind, shapes
    and bytes are read from the messages. A party that works and then sends holds what it sends from
    the work on, and every party keeps what it holds.

    Args:
        events: A transcript, or what happens, in order: a message that crosses, or (party, what it
            does).
        holds: Party -> name -> tensor, network or description of what it holds at the start; None
            for what the transcript says. The parties are in this order; those not named here
            follow as they appear. A party whose name begins with a word of `figures.PARTY`
            ("client 2") has that party's color, any other one is gray.

    Returns:
        Frames with the labels "0 of n" to "n of n", all of one size.

    Raises:
        ValueError: If there are no events, or a message has no receiver.
        TypeError: If an event is neither a message nor a pair of texts.
    """
    moments = _followed(events, holds)
    return [_moment_frame(moments, number) for number in range(len(moments))]


def diagram(
    events: Transcript | Sequence[Message | tuple[str, str]],
    *,
    holds: Mapping[str, Mapping[str, Any]] | None = None,
    caption: str = "",
) -> Picture:
    """Draw all events in one picture, below what the parties hold after the last one.

    Args:
        events: As in `frames`.
        holds: As in `frames`.
        caption: A sentence or two under the picture: what to look at.

    Raises:
        ValueError: As in `frames`.
        TypeError: As in `frames`.
    """
    moments = _followed(events, holds)
    frame = _moment_frame(moments, len(moments) - 1, whole=True)
    return Picture(frame.png, frame.alt, caption)


def _followed(
    events: Transcript | Sequence[Message | tuple[str, str]],
    holds: Mapping[str, Mapping[str, Any]] | None,
) -> "list[_Moment]":
    """Return the moment before all events, and one for each of them."""
    if isinstance(events, Transcript):
        holds = events.holds if holds is None else holds
        events = events.messages
    start = {
        party: {name: describe(value) for name, value in things.items()}
        for party, things in (holds or {}).items()
    }
    if not events:
        raise ValueError("there is nothing to draw: pass at least one event")
    return _moments(events, start)


@dataclass(frozen=True, slots=True)
class _Moment:
    """What happened at one moment, and what every party holds after it."""

    party: str  # who sends or works; "" at the start
    receiver: str  # "" for work
    head: str  # the message's kind and bytes, or the work
    parts: dict[str, str]  # what the message carries: name -> description
    holdings: dict[str, dict[str, str]]  # party -> name -> description
    new: dict[str, dict[str, str]]  # of these, what it brought

    @property
    def sentence(self) -> str:
        if not self.party:
            return "before anything happens"
        if not self.receiver:
            return f"{self.party} {self.head}"
        return f"{self.party} to {self.receiver}: {self.head}, with {_listed(self.parts)}"


def _moments(
    events: Sequence[Message | tuple[str, str]],
    start: dict[str, dict[str, str]],
) -> list[_Moment]:
    """Follow what each party holds through the events."""
    actors = [_actor(event) for event in events]
    receivers = [_receiver(event) for event in events if isinstance(event, Message)]
    parties = list(dict.fromkeys([*start, *actors, *receivers]))
    holdings = {party: start.get(party, {}) for party in parties}
    moments = [_Moment("", "", "", {}, holdings, {})]
    for actor, event, following in zip(actors, events, [*events[1:], None], strict=True):
        if isinstance(event, Message):
            receiver, parts = event.to, contents(event)
            head = f"{type(event).__name__}, {event.nbytes:,} bytes"
            gained, worked_out = {receiver: parts}, event
        else:
            receiver, parts, head = "", {}, event[1]
            sends = isinstance(following, Message) and following.sender == actor
            gained, worked_out = {}, following if sends else None
        # Weights are no news to their sender; nor are labels, of which it has more than a batch.
        if worked_out is not None and not isinstance(worked_out, Weights):
            had = holdings[actor]
            gained[actor] = {k: v for k, v in contents(worked_out).items() if k not in had}
        holdings = {party: held | gained.get(party, {}) for party, held in holdings.items()}
        moments.append(_Moment(actor, receiver, head, parts, holdings, gained))
    return moments


def _actor(event: Message | tuple[str, str]) -> str:
    if isinstance(event, Message):
        return event.sender
    if isinstance(event, tuple) and [type(part) for part in event] == [str, str]:
        return event[0]
    raise TypeError(f"an event is a message or a pair (party, what it does), not {event!r:.60}")


def _receiver(message: Message) -> str:
    if not message.to:
        raise ValueError(
            f"the {type(message).__name__} of {message.sender} has no receiver: draw messages that "
            "were sent (send(message, receiver) says to whom), or set to="
        )
    return message.to


def _listed(things: Mapping[str, str], space: str = " ") -> str:
    return ", ".join(f"{name}{space}{what}" for name, what in things.items())


# Inches. The columns are narrow, so that a phone need not shrink the letters much.
_LINE, _GAP, _FONT = 0.2, 0.12, 10
_PAST = "#6b6b6b"  # gray, and dark enough to be read on white
_FUTURE = "#cccccc"
_NO_BREAK = "\u00a0"  # a space at which no line ends


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the parties stand, and how many letters fit where.

    Attributes:
        places: Party -> its place from the left, from 0.
        column: a party's width in inches.
        note: Letters in a line of its box, and of a note on it.
        message: Letters in a line beside an arrow; it may be wider than a column.
    """

    places: dict[str, int]
    column: float
    note: int
    message: int

    @classmethod
    def of(cls, parties: Sequence[str]) -> "_Layout":
        places = {party: place for place, party in enumerate(parties)}
        return cls(places, 2.4, 28, 32) if len(parties) <= 2 else cls(places, 1.56, 16, 30)

    def x(self, party: str) -> float:
        return self.column * (self.places[party] + 0.5)

    @property
    def width(self) -> float:
        return self.column * len(self.places)


def _moment_frame(moments: Sequence[_Moment], number: int, *, whole: bool = False) -> Frame:
    """Draw the holdings at one moment, below them what has happened and, faintly, what will.

    With `whole`, all events are drawn in the colors of their parties, and nothing stands out.
    """
    import matplotlib.pyplot as plt

    now = moments[number]
    layout = _Layout.of(list(now.holdings))
    lines = max(len(_box(things, layout)) for things in moments[-1].holdings.values())
    foot = _GAP + _LINE * (lines + 1.7)  # of the holdings; the events stand below
    width = layout.width
    height = foot + _GAP + sum(_height(moment, layout) for moment in moments[1:])

    figure, axis = plt.subplots(figsize=(width, height))
    figure.set_layout_engine("constrained", w_pad=0, h_pad=0)  # the axes fill the figure, and so
    axis.set(xlim=(0, width), ylim=(height, 0))  # count inches from its top left corner
    axis.axis("off")
    for party, held in now.holdings.items():
        x = layout.x(party)
        axis.plot([x, x], [foot, height - 0.5 * _GAP], color="#bbbbbb", linewidth=1, zorder=0)
        _draw_holdings(axis, party, layout, foot, held, {} if whole else now.new.get(party, {}))
    top = foot + _GAP
    for place, moment in enumerate(moments[1:], start=1):
        if whole or place == number:
            color, bold = _style(moment.party)["color"], not whole
        else:
            color, bold = _PAST if place < number else _FUTURE, False
        _draw_event(axis, moment, layout, top, color, bold)
        top += _height(moment, layout)

    last = len(moments) - 1
    held = "; ".join(
        f"{party} holds {_listed(things) or 'nothing'}" for party, things in now.holdings.items()
    )
    if whole:
        told = "; ".join(moment.sentence for moment in moments[1:])
        alt = f"{last} events in order: {told}. After them {held}."
    else:
        alt = f"Moment {number} of {last}: {now.sentence}. By then {held}."
    # Text needs few colors, and a page may have many frames.
    frame = Frame(png(figure, colors=20, dpi=120), alt, f"{number} of {last}")
    plt.close(figure)
    return frame


def _style(party: str) -> dict[str, str]:
    """Color and line style: those of the party whose role begins the name, else gray."""
    return PARTY.get(party.split(" ")[0], {"color": "#707070", "linestyle": "-"})


def _wrapped(moment: _Moment, layout: _Layout) -> tuple[str, str]:
    """Return head and parts in lines that fit the columns."""
    head = textwrap.fill(moment.head, layout.message if moment.receiver else layout.note)
    parts = {name: what.replace(" ", _NO_BREAK) for name, what in moment.parts.items()}
    return head, textwrap.fill(_listed(parts, _NO_BREAK), layout.message)


def _height(moment: _Moment, layout: _Layout) -> float:
    lines = sum(len(text.splitlines()) for text in _wrapped(moment, layout))
    return _LINE * (lines + 0.5) + _GAP + (0.08 if moment.receiver else 0)


def _box(held: Mapping[str, str], layout: _Layout) -> list[tuple[str, str]]:
    """Return the lines of a box, each with the name of what it describes."""
    wide = len(layout.places) <= 2
    lines = []
    for name, what in held.items():
        text = f"{name}  {what}" if wide else f"{name} {what.replace(', ', ',')}"
        whole = len(text) <= layout.note
        lines += [(name, text)] if whole else [(name, name), (name, text[len(name) :].strip())]
    return lines


def _draw_holdings(
    axis: "Axes",
    party: str,
    layout: _Layout,
    foot: float,
    held: Mapping[str, str],
    new: Mapping[str, str],
) -> None:
    """Draw a party's box: its name, and what it holds, in bold what is new."""
    from matplotlib.patches import FancyBboxPatch

    color, half, x = _style(party)["color"], 0.5 * layout.column - 0.05, layout.x(party)
    corner, size = (x - half, 0.5 * _GAP), (2 * half, foot - 0.5 * _GAP)
    rounded = "round,pad=0,rounding_size=0.08"
    axis.add_patch(
        FancyBboxPatch(corner, *size, boxstyle=rounded, facecolor="white", edgecolor=color, lw=1.5)
    )
    left, top = x - half + 0.1, 0.5 * _GAP + 0.7 * _LINE
    text = {"va": "center", "fontsize": _FONT}
    title = f"{party} holds" if len(party) < layout.note - 6 else party  # bold letters are wider
    axis.text(left, top, title, color=color, weight="bold", **text)
    for number, (name, line) in enumerate(_box(held, layout), start=1):
        weight = "bold" if name in new else "normal"
        axis.text(left, top + _LINE * (number + 0.1), line, weight=weight, **text)


def _draw_event(
    axis: "Axes",
    moment: _Moment,
    layout: _Layout,
    top: float,
    color: str,
    bold: bool,
) -> None:
    """Draw a message as an arrow between two columns, or work as a note on one.

    What is to come has no words yet: a page may have many frames, and they would be most of it.
    """
    x, worded = layout.x(moment.party), color != _FUTURE
    head, parts = _wrapped(moment, layout)
    text = {"ha": "center", "va": "top", "fontsize": _FONT, "linespacing": 1.3, "color": color}
    text |= {"backgroundcolor": "white", "weight": "bold" if bold else "normal"}
    if not moment.receiver:
        note = {"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": color}
        if worded:
            axis.text(x, top + 0.06, head, **(text | {"bbox": note}))
        return
    end = layout.x(moment.receiver)
    middle, y = (x + end) / 2, top + 1.25 * _LINE
    if worded:
        axis.text(middle, top, head, **text)
        axis.text(middle, y + 0.06, parts, **(text | {"weight": "normal"}))
    # Shaft and head apart: a dashed head would be in pieces. Both lie above the texts' white.
    width, neck = 2.2 if bold else 1.2, end - 0.1 if end > x else end + 0.1
    style = _style(moment.party) | {"color": color}
    axis.plot([x, neck], [y, y], **style, linewidth=width, zorder=4)
    tip = {"arrowstyle": "-|>", "color": color, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 15}
    axis.annotate("", xy=(end, y), xytext=(neck, y), arrowprops=tip, zorder=4)
