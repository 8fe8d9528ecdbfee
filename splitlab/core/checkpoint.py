"""Checkpoints: a training run that was killed can resume from one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from splitlab.core.client import Client
from splitlab.core.files import CheckpointError, load, located, rehearse, save, unreadable
from splitlab.core.identity import NUMERICS, outline
from splitlab.core.kinds import Misfit, kind_of, kinds
from splitlab.core.loading import Loading
from splitlab.core.observers import Log, Observer
from splitlab.core.server import Server
from splitlab.core.state import load as load_into
from splitlab.core.unsaved import left_out, plain_values, same

STATES = ("parties", "observers", "log")
# What is in the file, and of what kind each is.
ENTRIES = {"outline": dict, "steps": int, "step": int, "kinds": dict} | dict.fromkeys(STATES, dict)


class Checkpoint:
    """A file with the state of a training run: the parties, the observers, the log and the step.

    Made before the first step. What the run is a function of is written with every state (see
    `splitlab.core.identity`): a run that differs in any of it is refused, and so is a party,
    a defense or an observer that holds something which its state leaves out. Where two runs are
    given one file at the same time, it holds the state of the last one to write, as a whole.

    Args:
        path: The file; "~" is the home folder, and a relative path stays where it is when the
            process changes to another folder.
        clients: The clients.
        server: The server.
        observers: Those that keep nothing (`state_dict` is empty) may come and go between runs.
        log: The run's log.
        steps: How many steps the run is to have in all.
        protocol: What one step is.
        others: Further parties of the protocol, such as an aggregator.
        autocast: The precision of the matrix work.

    Raises:
        TypeError: If `path` is no path.
        CheckpointError: If the path cannot be a file's, if something is held that the state leaves
            out, or a function cannot be described; names it.
    """

    def __init__(
        self,
        path: Path | str,
        clients: Sequence[Client],
        server: Server,
        observers: Sequence[Observer],
        log: Log,
        *,
        steps: int,
        protocol: Callable[..., None],
        others: Sequence[Any] = (),
        autocast: torch.dtype | None = None,
    ) -> None:
        self.path, self.log, self.steps = located(path), log, steps
        self.clients, self.server = clients, server
        self.observers = [observer for observer in observers if observer.state_dict()]
        self.parties: dict[str, Any] = {f"clients[{n}]": one for n, one in enumerate(clients)}
        self.parties |= {"server": server} | {f"others[{n}]": one for n, one in enumerate(others)}
        self.watching = {f"observers[{n}]": one for n, one in enumerate(self.observers)}
        self.plain: dict[str, Any] = {}
        self._refuse_left_out()
        self._settings = {"protocol": protocol, "autocast": autocast, "numerics": NUMERICS}
        self.outline = self._outline(steps)
        self._saved: dict[str, Any] | None = None

    def read(self) -> None:
        """Read the saved state, if there is one, and check that it belongs to this run.

        If steps are left to be trained, writing is tried out, too: a run that could not be saved
        is not begun.

        Raises:
            TypeError: If a state holds what no file can hold; names it.
            CheckpointError: If the file is damaged, was changed after it was written, belongs to
                another run, or is past the steps; or if it cannot be written.
        """
        saved = self._read() if self.path.exists() else None
        if saved is None or saved["step"] < self.steps:
            rehearse(self._state(0), self.path)
        self._saved = saved

    def resume(self) -> int:
        """Load the state that `read` found, and return its step; 0 if there was none.

        Raises:
            CheckpointError: If a part of it does not fit. Nothing is changed then.
        """
        held = {**self.parties, **self.watching}
        for name, one in held.items():
            self.plain |= plain_values(one, name)
        if self._saved is None:
            return 0
        saved, self._saved = self._saved, None
        states = {**saved["parties"], **saved["observers"]}
        try:
            with Loading() as loading:
                for name, one in held.items():
                    loading.seen.clear()  # each has a state of its own
                    load_into(one, states[name], name, loading)
        except Misfit as error:
            raise CheckpointError(
                f"{self.path} cannot be resumed ({error.what}): resume it with the version of "
                "splitlab that wrote it, or delete it to start over"
            ) from error
        self.log.load_state_dict(saved["log"])
        return int(saved["step"])

    def write(self, step: int) -> None:
        """Write the state after `step` steps.

        Raises:
            RuntimeError: If the protocol has left a client in the middle of a turn.
            CheckpointError: If a plain value has changed that no state names.
        """
        waiting = [client.name for client in self.clients if client.turn is not None]
        if waiting:
            raise RuntimeError(
                f"{waiting[0]} still waits for a gradient, which a checkpoint cannot hold: "
                "let the protocol end every step with the gradient, or train without checkpoint"
            )
        self._refuse_left_out()
        for name, one in {**self.parties, **self.watching}.items():
            now = plain_values(one, name)
            before = {p: v for p, v in self.plain.items() if p.startswith((f"{name}.", f"{name}["))}
            for path in [*now, *before]:
                if path in now and path in before and same(now[path], before[path]):
                    continue
                attribute = path.rpartition(".")[2].partition("[")[0]
                raise CheckpointError(
                    f"{path} changes during the run, and a resumed run would lose it: add "
                    f"{attribute!r} to STATE of its class (a Stateful; a network makes it a "
                    "buffer), to LATER if it is a part that is made during the run, or to PASSING "
                    "if the next step does not need it"
                )
        save(self._state(step), self.path)

    def _state(self, step: int) -> dict[str, Any]:
        states = {
            "parties": {name: party.state_dict() for name, party in self.parties.items()},
            "observers": {name: one.state_dict() for name, one in self.watching.items()},
            "log": self.log.state_dict(),
        }
        about = {"outline": self.outline, "steps": self.steps, "step": step}
        return about | states | {"kinds": _kinds(states)}

    def _read(self) -> dict[str, Any]:
        saved = load(self.path)
        if not isinstance(saved, dict) or "outline" not in saved:
            raise unreadable(self.path, "it holds no training run")
        if (wrong := _not_written(saved)) is not None:
            raise unreadable(self.path, wrong)
        # The saved run may have been shorter or longer: a schedule counts up to its end.
        same_length = saved["steps"] == self.steps
        self._check(
            saved["outline"], self.outline if same_length else self._outline(saved["steps"])
        )
        if saved["step"] > self.steps:
            raise CheckpointError(
                f"{self.path} is at step {saved['step']}, past the {self.steps} asked for: ask for "
                "more steps, or delete the file to start over"
            )
        for name, mine in (("parties", self.parties), ("observers", self.watching)):
            if odd := saved[name].keys() ^ mine.keys():
                raise unreadable(self.path, f"only one of the two runs has {min(odd, key=str)}")
        return saved

    def _outline(self, steps: int) -> dict[str, str]:
        kinds = [type(observer).__name__ for observer in self.observers]
        counts = {"clients": str(len(self.clients)), "observers": ", ".join(kinds) or "none"}
        return counts | outline({**self.parties, **self.watching, **self._settings}, steps)

    def _check(self, saved: dict[str, str], mine: dict[str, str]) -> None:
        for name in [*mine, *saved]:
            there, here = saved.get(name, "nothing"), mine.get(name, "nothing")
            if there != here:
                raise CheckpointError(
                    f"{self.path} belongs to another run ({name}: {there} there, {here} here): "
                    "train as that run did, or choose another file"
                )

    def _refuse_left_out(self) -> None:
        participants = {id(party): name for name, party in self.parties.items()}
        for name, one in {**self.parties, **self.watching}.items():
            for path in left_out(one, name, participants):
                raise CheckpointError(
                    f"{path} has a state that no checkpoint saves: keep it in an attribute, a "
                    "list or a dictionary of its owner (random numbers in a torch.Generator), or "
                    "train without checkpoint"
                )


def _kinds(states: Mapping[str, Any]) -> dict[str, str]:
    """Return the kinds of all parts of the states in a checkpoint, by path."""
    found: dict[str, str] = {}
    for name in STATES:
        found |= kinds(states[name], name)
    return found


def _not_written(saved: dict[Any, Any]) -> str | None:
    """Return what in a file's content `Checkpoint` cannot have written; None if all is well.

    A checksum finds damage. What is loaded, changed and saved again has a right one, and a part
    of another kind would be noticed in the middle of a step, or never.
    """
    if odd := saved.keys() ^ ENTRIES.keys():
        name = min(odd, key=str)
        what = "lacks" if name in ENTRIES else "has an unknown part"
        return f"it {what} {name!r}, so it is from another version of splitlab or was changed"
    for name, kind in ENTRIES.items():
        if type(saved[name]) is not kind:
            return f"{name} is {kind_of(saved[name])} and should be {kind.__name__}"
    for name, texts in (("outline", saved["outline"]), ("kinds", saved["kinds"])):
        if not all(isinstance(text, str) for pair in texts.items() for text in pair):
            return f"{name} holds something other than text"
    now, written = _kinds(saved), saved["kinds"]
    for name in [*written, *now]:
        there, then = now.get(name, "nothing"), written.get(name, "nothing")
        if there != then:
            return f"it was changed after it was written: {name} is {there} and was {then}"
    step, steps, log = saved["step"], saved["steps"], saved["log"]
    if not 1 <= step <= steps:
        return f"it is at step {step} of {steps}"
    if log.keys() != {"seconds", "steps", "metrics"} or not isinstance(log["metrics"], dict):
        return "its log is not a log of splitlab"
    if type(log["seconds"]) is not float or not 0 <= log["seconds"] < math.inf:
        return f"its log says that {step} steps took {log['seconds']!r} seconds"
    columns = log["metrics"].values()
    if type(log["steps"]) is not int or log["steps"] != step:
        return f"it is at step {step} and its log has {kind_of(log['steps'])} for steps"
    if not all(_is_column(column, step) for column in columns):
        return f"its log does not have one number for each of {step} steps"
    return None


def _is_column(values: Any, steps: int) -> bool:
    """Return whether this holds a number or None for each step, as a log does."""
    if not isinstance(values, list) or len(values) != steps:
        return False
    return all(isinstance(value, float | None) for value in values)
