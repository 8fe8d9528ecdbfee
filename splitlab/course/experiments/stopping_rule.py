"""A long hijack of the paper's design, and the moment at which the server would have stopped it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import splitlab as sl
from splitlab.attacks.stopping_rule import StoppingRule
from splitlab.course.experiments.base import CpuTime, Device, Keeping
from splitlab.course.experiments.hijacks import Hijack
from splitlab.referee.floors import nearest_public
from splitlab.referee.metrics import matched, mse
from splitlab.referee.report import as_rows

WINDOW = 20  # steps: an epoch of the private digits, or nearly


@dataclass(frozen=True)
class Stopping(Hijack):
    """A hijack that goes on for long, with the referee and the stopping rule looking on."""

    @property
    def config(self) -> dict[str, Any]:
        """What the run is a function of."""
        return super().config | {"window": WINDOW}

    def measure(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Unpack[Keeping]
    ) -> dict[str, Any]:
        """Train, and look at every batch as the server received it.

        Returns:
            By window of steps, `step`, the last of it; `distance`, what the rule sees; `errors`,
            mean squared errors in parts of the nearest public images'. Out of these, `at_rule`, the
            error of the window that the rule chose; `at_end`, of the last; `at_best`, the smallest;
            `on_average`, over the second half; and `rules_step`. Then the `metrics` of all private
            images after the last step, `floors`, `steps` and `cpu_seconds`.
        """
        split, clock = self.split(), CpuTime()
        client, attack = self.client(split, device), self.attack(split, device)
        received, rule = sl.ReceivedError(), StoppingRule(split.public, window=WINDOW)
        watching = [*observers, clock, received, rule]
        log = sl.train([client], attack, self.steps, observers=watching, **keeping)
        x = split.private.subset(500, seed=0).x
        nearest = nearest_public(x, split.public.x)
        floor = mse(nearest, x)
        errors = [e / floor for e in sl.records.window_means(received.mse, WINDOW)[1]]
        half = errors[len(errors) // 2 :]
        pictures = attack.reconstruct(client.smash(x)).cpu()
        return {
            "steps": log.steps,
            "cpu_seconds": clock.seconds,
            "step": rule.steps,
            "distance": [round(distance, 3) for distance in rule.distances],
            "errors": [round(error, 4) for error in errors],
            "at_rule": errors[rule.best],
            "at_end": errors[-1],
            "at_best": min(errors),
            "on_average": sum(half) / len(half),
            "rules_step": rule.steps[rule.best],
            "n": len(x),
            "rows": as_rows(
                floor={"nearest_public": {"mse": floor, "matched": matched(nearest, x)}},
                attack={"attack": {"mse": mse(pictures, x), "matched": matched(pictures, x)}},
            ),
        }
