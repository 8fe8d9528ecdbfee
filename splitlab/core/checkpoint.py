"""The training run that is killed and goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from splitlab.core.client import Client
from splitlab.core.files import CheckpointError, load, save, unreadable
from splitlab.core.identity import NUMERICS, outline
from splitlab.core.observers import Log, Observer
from splitlab.core.server import Server
from splitlab.core.unsaved import left_out, plain_values, same


class Checkpoint:
    """A training run's state in a file: the parties', the observers', the log and the step.

    Made before the first step. What the run is a function of is written with every state (see
    `splitlab.core.identity`): a run that differs in any of it is refused, and so is a party,
    a defense or an observer that holds something which its state leaves out. Where two runs are
    given one file at the same time, it holds the state of the last one to write, as a whole.

    Args:
        path: The file.
        clients: The clients.
        server: The server.
        observers: Those that keep nothing (`state_dict` is empty) may come and go between runs.
        log: The run's log.
        steps: How many steps the run is to have in all.
        protocol: What one step is.
        others: Further parties of the protocol, such as an aggregator.
        autocast: The precision of the matrix work.

    Raises:
        CheckpointError: If something is held that the state leaves out, or a function cannot be
            described; names it.
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
        self.path, self.log, self.steps = Path(path), log, steps
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

        Raises:
            CheckpointError: If the file is damaged, belongs to another run, or is past the steps.
        """
        if not self.path.exists():
            return
        saved = load(self.path)
        if not isinstance(saved, dict) or not {"outline", "steps"} <= saved.keys():
            raise unreadable(self.path, "it holds no training run")
        # The saved run may have been shorter or longer: a schedule counts up to its end.
        same_length = saved["steps"] == self.steps
        self._check(
            saved["outline"], self.outline if same_length else self._outline(saved["steps"])
        )
        if saved["step"] > self.steps:
            raise CheckpointError(
                f"{self.path} is at step {saved['step']}, past the {self.steps} asked for: ask for "
                "more steps, or delete the file to begin anew"
            )
        self._saved = saved

    def resume(self) -> int:
        """Put back the state that `read` found, and return its step; 0 if there was none."""
        held = {**self.parties, **self.watching}
        for name, one in held.items():
            self.plain |= plain_values(one, name)
        if self._saved is None:
            return 0
        saved, self._saved = self._saved, None
        # Observers first: one that refuses its state leaves the parties as they are.
        for name, state in {**saved["observers"], **saved["parties"]}.items():
            held[name].load_state_dict(state)
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
                    f"{path} changes during the run, and a resumed run would not know: add "
                    f"{attribute!r} to STATE of its class (a Stateful; a network makes it a "
                    "buffer), to LATER if it is a part that is made during the run, or to PASSING "
                    "if the next step does not need it"
                )
        state = {
            "outline": self.outline,
            "steps": self.steps,
            "step": step,
            "parties": {name: party.state_dict() for name, party in self.parties.items()},
            "observers": {name: one.state_dict() for name, one in self.watching.items()},
            "log": self.log.state_dict(),
        }
        save(state, self.path)

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
                    f"{path} has a state that no checkpoint would hold: keep it in an attribute, a "
                    "list or a dictionary of its owner (random numbers in a torch.Generator), or "
                    "train without checkpoint"
                )
