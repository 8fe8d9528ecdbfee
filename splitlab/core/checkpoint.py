"""The training run that is killed and goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from splitlab.data import ImageData
from splitlab.data.base import fingerprint

if TYPE_CHECKING:
    from splitlab.core.client import Client
    from splitlab.core.observers import Log, Observer
    from splitlab.core.server import Server
from splitlab.core.files import CheckpointError, _unreadable, load, save


class Checkpoint:
    """A training run's state in a file: the parties', the observers', the log and the step.

    Made before the first step. What it notes of the run then, its outline, is written with every
    state: parties' classes, shapes, optimizers' settings, batch sizes, seeds, data, the
    server's labels, protocol, precision and observers. A run whose outline differs is refused.
    Functions (schedules, losses) cannot be compared.

    Args:
        path: The file.
        clients: The clients.
        server: The server.
        observers: Those that keep nothing (`state_dict` is empty) may come and go between runs.
        log: The run's log.
        protocol: What one step is; known by its name.
        autocast: The precision of the matrix work.
    """

    def __init__(
        self,
        path: Path | str,
        clients: Sequence[Client],
        server: Server,
        observers: Sequence[Observer],
        log: Log,
        *,
        protocol: Callable[..., None],
        autocast: torch.dtype | None,
    ) -> None:
        self.path = Path(path)
        self.clients, self.server, self.log = clients, server, log
        self.observers = [observer for observer in observers if observer.state_dict()]
        kinds = [type(observer).__name__ for observer in self.observers]
        self.outline = {
            "clients": str(len(clients)),
            "observers": ", ".join(kinds) or "none",
            "protocol": _name(protocol),
            "autocast": str(autocast),
        }
        for number, client in enumerate(clients):
            self.outline |= _outline_of_party(client, f"clients[{number}]")
        self.outline |= _outline_of_party(server, "server")
        self._saved: dict[str, Any] | None = None

    def read(self, steps: int) -> None:
        """Read the saved state, if there is one, and check that it belongs to this run.

        Args:
            steps: How many steps the run is to have in all.

        Raises:
            CheckpointError: If the file is damaged, belongs to another run, or is past `steps`.
        """
        if not self.path.exists():
            return
        saved = load(self.path)
        if not isinstance(saved, dict) or "outline" not in saved:
            raise _unreadable(self.path, "it holds no training run")
        self._check(saved["outline"])
        if saved["step"] > steps:
            raise CheckpointError(
                f"{self.path} is at step {saved['step']}, past the {steps} asked for: ask for "
                "more steps, or delete the file to begin anew"
            )
        self._saved = saved

    def resume(self) -> int:
        """Put back the state that `read` found, and return its step; 0 if there was none."""
        if self._saved is None:
            return 0
        saved, self._saved = self._saved, None
        # Observers first: one that refuses its state leaves the parties as they are.
        for observer, state in zip(self.observers, saved["observers"], strict=True):
            observer.load_state_dict(state)
        for client, state in zip(self.clients, saved["clients"], strict=True):
            client.load_state_dict(state)
        self.server.load_state_dict(saved["server"])
        self.log.load_state_dict(saved["log"])
        return saved["step"]

    def write(self, step: int) -> None:
        """Write the state after `step` steps.

        Raises:
            RuntimeError: If the protocol has left a client in the middle of a turn.
        """
        waiting = [client.name for client in self.clients if client.turn is not None]
        if waiting:
            raise RuntimeError(
                f"{waiting[0]} still waits for a gradient, which a checkpoint cannot hold: "
                "let the protocol end every step with the gradient, or train without checkpoint"
            )
        state = {
            "outline": self.outline,
            "step": step,
            "clients": [client.state_dict() for client in self.clients],
            "server": self.server.state_dict(),
            "observers": [observer.state_dict() for observer in self.observers],
            "log": self.log.state_dict(),
        }
        save(state, self.path)

    def _check(self, saved: dict[str, str]) -> None:
        for name in [*self.outline, *saved]:
            there, here = saved.get(name, "nothing"), self.outline.get(name, "nothing")
            if there != here:
                raise CheckpointError(
                    f"{self.path} belongs to another run ({name}: {there} there, {here} here): "
                    "train as that run did, or choose another file"
                )


def _name(protocol: Callable[..., None]) -> str:
    """A function's name; what a `splitlab.core.rounds.Rounds` calls itself, with its settings."""
    for attribute in ("__qualname__", "name"):
        if hasattr(protocol, attribute):
            return getattr(protocol, attribute)
    return type(protocol).__name__


def _outline_of_party(party: Any, name: str) -> dict[str, str]:
    """What must be the same when a run goes on: name -> text."""
    defenses = [type(defense).__name__ for defense in getattr(party, "defenses", ())]
    outline = {
        f"{name} is": type(party).__name__,
        f"{name}.seed": str(party.randomness.seed),
        f"{name}.defenses": ", ".join(defenses) or "none",
    }
    for attribute in ("data", "public"):
        if isinstance(data := getattr(party, attribute, None), ImageData):
            outline[f"{name}.{attribute}"] = f"{data.name}, {len(data)} images, {fingerprint(data)}"
    if isinstance(labels := getattr(party, "labels", None), Tensor):
        digest = hashlib.blake2b(labels.cpu().numpy().tobytes(), digest_size=8).hexdigest()
        outline[f"{name}.labels"] = f"{len(labels)} labels, {digest}"
    if hasattr(party, "sampler"):
        outline[f"{name}.batch_size"] = str(party.sampler.batch_size)
    return outline | dict(_shapes(party.state_dict(), name))


def _shapes(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """Yield (where, shape) for tensors, and (where, setting) for optimizers, in a state."""
    if isinstance(value, Tensor):
        yield name, f"{value.dtype} {tuple(value.shape)}".removeprefix("torch.")
    elif isinstance(value, dict) and value.keys() == {"state", "param_groups"}:
        for number, group in enumerate(value["param_groups"]):
            # A schedule moves "lr" and leaves "initial_lr".
            unset = {"params", "lr"} if "initial_lr" in group else {"params"}
            for setting in group.keys() - unset:
                yield f"{name}[{number}].{setting}", repr(group[setting])
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _shapes(item, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _shapes(item, f"{name}[{number}]")
