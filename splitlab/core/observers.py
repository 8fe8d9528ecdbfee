"""Observers: they follow a training run and change nothing.

`Snapshots`, which compares private images with reconstructions, is the referee's
(`splitlab.referee.images`): no other observer holds both.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from torch import Tensor

from splitlab.core.audit import Unchanged
from splitlab.core.client import Client
from splitlab.core.messages import Message
from splitlab.core.server import Server
from splitlab.core.state import Stateful
from splitlab.core.tables import Table


class Observer(Stateful):
    """Base class of observers: every hook does nothing. Use: `train(..., observers=[yours])`.

    To write one of your own, override the hooks it needs, set what it keeps in `start` or in the
    constructor, and name it in `STATE`: a resumed run calls `start` first and then puts it back.
    An observer looks and changes nothing, neither parties nor messages; one that trains or draws
    random numbers keeps networks and a `torch.Generator` of its own, which are saved.
    """

    def start(self, clients: Sequence[Client], server: Server, steps: int) -> None:
        """Called before the first step."""

    def message(self, message: Message) -> None:
        """Called with a copy of every message that is delivered."""

    def step(self, step: int, client: Client, server: Server) -> None:
        """Called after step number `step` (from 0)."""

    def end(self) -> None:
        """Called after the last step, and when the training stops early."""


@contextmanager
def watched_by(
    observers: Sequence[Observer], clients: Sequence[Client], server: Server, steps: int
) -> Iterator[None]:
    """Start observers, and end them when the block ends or fails.

    All that were started are ended, also where one of them raises. The first error is raised; a
    later one is a note of it.
    """
    started: list[Observer] = []
    failure: BaseException | None = None
    try:
        for observer in observers:
            started.append(observer)
            observer.start(clients, server, steps)
        yield
    except BaseException as error:
        failure = error
    for observer in started:
        try:
            observer.end()
        except Exception as error:
            if failure is None:
                failure = error
            else:
                name = f"{type(observer).__name__}.end"
                failure.add_note(f"then {name} raised {type(error).__name__}: {error}")
    if failure is not None:
        raise failure


def look(
    observers: Sequence[Observer], step: int, client: Client, server: Server, others: Sequence[Any]
) -> None:
    """Tell observers that a step has ended.

    Raises:
        ThreatModelViolation: If one of them changes a party's network.
    """
    same = Unchanged([server, *others]) if observers else None
    for observer in observers:
        observer.step(step, client, server)
        assert same is not None
        same.check(f"{type(observer).__name__}.step")


class Log:
    """Metrics of every step of a training run.

    `log["task_loss"]` is the list of one metric's values; `log.steps` counts the steps, and
    `log.seconds` the wall time of the loop, observers included.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._rows: list[dict[str, Tensor | float]] = []
        self._settled = 0  # rows before this one are floats already

    def append(self, metrics: dict[str, Tensor]) -> None:
        """Add one step's scalars; they stay tensors until read, to avoid waiting for a GPU."""
        self._rows.append(dict(metrics))

    @property
    def steps(self) -> int:
        """Number of steps taken."""
        return len(self._rows)

    def names(self) -> list[str]:
        """Return the names of the metrics."""
        return list(self._rows[0]) if self._rows else []

    def __getitem__(self, name: str) -> list[float]:
        if name not in self.names():
            raise KeyError(f"this run logged {', '.join(self.names()) or 'nothing'}; not {name}")
        return [float(row[name]) for row in self._rows]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def state_dict(self) -> dict[str, Any]:
        """Return {"seconds": ..., "metrics": {name: values}}; None where a step lacks a metric."""
        for row in self._rows[self._settled :]:
            row.update({name: float(value) for name, value in row.items()})
        self._settled = len(self._rows)
        names = list(dict.fromkeys(name for row in self._rows for name in row))
        metrics = {name: [row.get(name) for row in self._rows] for name in names}
        return {"seconds": self.seconds, "steps": self.steps, "metrics": metrics}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned.

        Raises:
            ValueError: If it is the state of something else.
        """
        metrics = state.get("metrics") if isinstance(state, dict) else None
        if metrics is None or any(len(values) != state["steps"] for values in metrics.values()):
            raise ValueError("this is no state of a log: pass what log.state_dict() returned")
        self.seconds = state["seconds"]
        self._rows = [{} for _ in range(state["steps"])]
        for name, values in state["metrics"].items():
            for row, value in zip(self._rows, values, strict=True):
                if value is not None:
                    row[name] = value
        self._settled = len(self._rows)

    def __repr__(self) -> str:
        return f"Log({self.steps} steps, {self.seconds:.1f} s: {', '.join(self.names())})"


class Progress(Observer):
    """A progress bar on stderr.

    Args:
        label: Text before the bar.
        file: Where to draw: always, if it is given. By default on stderr if that is a terminal,
            or a notebook's; a log that it is redirected to gets no bars.
    """

    def __init__(self, label: str = "training", file: TextIO | None = None) -> None:
        self.label = label
        self.file = file

    def start(self, clients: Sequence[Client], server: Server, steps: int) -> None:
        """Draw the empty bar."""
        from tqdm import tqdm  # not needed by whoever imports the library alone

        file = self.file or sys.stderr
        notebook = type(file).__module__.startswith("ipykernel")
        hidden = self.file is None and not notebook and not file.isatty()
        self._bar = tqdm(total=steps, desc=self.label, unit="step", file=file, disable=hidden)

    def step(self, step: int, client: Client, server: Server) -> None:
        """Move the bar to this step, which may be far from the last one in a resumed run."""
        self._bar.update(step + 1 - self._bar.n)  # stays at 0 where the bar is hidden

    def end(self) -> None:
        """Close the bar at its current step."""
        self._bar.close()


class Wiretap(Observer):
    """Counts the messages that are sent and their bytes of payload, by sender and kind.

    Attributes:
        counts: (sender, kind) -> number of messages.
        nbytes: (sender, kind) -> bytes of tensor payload (headers are not counted).
        shapes: (sender, kind) -> shapes of the tensors in the latest message.
    """

    STATE = ("counts", "nbytes", "shapes")

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], int] = {}
        self.nbytes: dict[tuple[str, str], int] = {}
        self.shapes: dict[tuple[str, str], list[tuple[int, ...]]] = {}

    def message(self, message: Message) -> None:
        """Count one message."""
        key = (message.sender, type(message).__name__)
        self.counts[key] = self.counts.get(key, 0) + 1
        self.nbytes[key] = self.nbytes.get(key, 0) + message.nbytes
        self.shapes[key] = [tuple(tensor.shape) for tensor in message.tensors()]

    @property
    def total(self) -> int:
        """Total bytes of tensor payload."""
        return sum(self.nbytes.values())

    def rows(self) -> list[tuple[str, str, str, int, int]]:
        """Return (sender, kind, shapes, messages, bytes) for each kind of message.

        Of a message with many tensors, such as a network's weights, it says how many.
        """
        return [
            (
                sender,
                kind,
                _listed(self.shapes[sender, kind]),
                self.counts[sender, kind],
                self.nbytes[sender, kind],
            )
            for sender, kind in self.counts
        ]

    def table(self) -> Table:
        """Return the counts as a table."""
        head = ("sender and message", "shapes", "messages", "bytes")
        rows = [
            (f"{sender}: {kind}", shapes, f"{count:,}", f"{nbytes:,}")
            for sender, kind, shapes, count, nbytes in self.rows()
        ]
        return Table(head, rows)

    def __repr__(self) -> str:
        return str(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def _listed(shapes: Sequence[tuple[int, ...]], most: int = 3) -> str:
    return f"{len(shapes)} tensors" if len(shapes) > most else " + ".join(map(str, shapes))
