"""The gradients that clients received in short runs, honest and hijacked.

The runs are those of the chapter's experiment, with one critic step a client step, so that they are
quick. Each is made once in a process. Kinds, settings and seeds are here and not in the notebook.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import Tensor

from splitlab import Client, Defense, Turn, settings, train
from splitlab.course.checks.guard import secret
from splitlab.course.experiments.watched import Watched

STEPS = 60
QUICK = replace(settings.tiny, critic_steps=1)
SMALL: dict[str, Any] = {"factor": 0.15}  # the hijack's gradient is no longer than honest ones
MIXED = SMALL | {"server": "multitask"}


class Seen(NamedTuple):
    """What the client has seen at one step.

    Attributes:
        dz: The gradient that arrived, (B, C, H, W).
        labels: The classes of the batch's images, int64 (B,).
    """

    dz: Tensor
    labels: Tensor


History = list[Seen]


class _Listener(Defense):
    """Keeps the gradients that arrive, and changes nothing."""

    def __init__(self) -> None:
        self.history: History = []

    def incoming(self, client: Client, turn: Turn, dz: Tensor) -> Tensor:
        """Return dz as it is."""
        assert turn.labels is not None
        self.history.append(Seen(dz.detach().clone(), turn.labels.clone()))
        return dz


@dataclass(frozen=True)
class _Overheard(Watched):
    """A short run whose client only records the gradients."""

    @property
    def setting(self) -> settings.Setting:
        """The tiny setting, with fewer critic steps."""
        return QUICK

    def detectors(self) -> list[Defense]:
        """Return the listener."""
        return [_Listener()]

    def history(self) -> History:
        """Train, and return what the client has seen."""
        (client,), server = self.parties(self.split(), "cpu")
        train([client], server, self.steps)
        (listener,) = client.defenses
        assert isinstance(listener, _Listener)
        return listener.history


# Honest runs that set the threshold: as the client usually trains, a little faster and slower.
CALIBRATION: list[dict[str, Any]] = [
    *({}, {}, {}, {}),
    *({"batch": 64}, {"batch": 16}),
    *({"rate": 5e-4}, {"rate": 2e-3}, {"rate": 3e-3}),
]
HONEST: dict[str, dict[str, Any]] = {
    "fine-tuning": {"change": "fine-tuning"},
    "wrong labels": {"change": "40 % wrong labels"},
    "two classes": {"change": "two classes"},
    "SGD": {"change": "SGD"},
}
MALICIOUS: dict[str, dict[str, Any]] = {
    "hijack, small gradient": {"server": "fast"} | SMALL,
    "hijack, the paper's design": {"server": "paper"},
    "task mixed in": MIXED | {"weight": 0.4},
    "task mixed in, mostly task": MIXED | {"weight": 0.1},
    "task on spare channels": MIXED | {"weight": 0.3, "spare": True},
    "late start": MIXED | {"delay": 35, "weight": 0.6},
    "late start, mostly task": MIXED | {"delay": 30, "weight": 0.2},
    "random labels": {"server": "random labels"},
}
PRACTICE: dict[str, dict[str, Any]] = {
    "honest": {},
    "hijack": {"server": "fast"} | SMALL,
    "task mixed in": MIXED | {"weight": 0.5},
}


def _made(name: str, seed: int, options: dict[str, Any]) -> History:
    return _Overheard("", name, seed, STEPS, **options).history()


@secret
@functools.cache
def calibration() -> list[History]:
    """Honest runs that set the threshold."""
    return [_made("", 80 + place, options) for place, options in enumerate(CALIBRATION)]


@secret
@functools.cache
def verdict_runs() -> dict[str, History]:
    """The runs that a detector is scored on."""
    return {name: _made(name, 70, options) for name, options in (MALICIOUS | HONEST).items()}


def practice() -> dict[str, History]:
    """Return three runs to try a detector on: honest, hijack, and task mixed in."""
    return {name: list(history) for name, history in _practice().items()}


@functools.cache
def _practice() -> dict[str, History]:
    return {name: _made(name, 90, options) for name, options in PRACTICE.items()}
