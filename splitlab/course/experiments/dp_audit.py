"""An audit of DP-SGD at the client: what the weights reveal when the server adapts.

The accountant takes each image's clipped gradient to depend on nothing but the weights and that
image. A server that sees z can break this: it recognizes one image and answers other rows
differently. The clipping then bounds one image's gradient, and not what one image changes.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal, Unpack

import torch
from torch import Tensor, nn
from torch.optim import SGD

import splitlab as sl
from splitlab.course.experiments.base import Device, Experiment, Keeping
from splitlab.defenses import DPSGD
from splitlab.nets.blocks import seeded
from splitlab.referee.intervals import epsilon_lower_bound

Pushes = Literal["ever after", "same batch", "target alone"]

FEATURES = 8  # numbers in z
RATE = 1e-3  # small, so that f hardly changes and the target's z stays recognizable
TOLERANCE = 0.05  # of the norm of the target's z
PUSH = 1e4  # makes every gradient that is not zero longer than `clip`


class CanaryServer(sl.Server):
    """Waits for one image, which determines the rows that push f in a fixed direction.

    It recognizes the image by its z, which is sent in the clear: it knows the image and f's first
    weights. A row that pushes gets a long gradient that raises z's first number. All other rows get
    the gradient zero.

    Args:
        target: z of the image under f's first weights, (F,).
        pushes: Which rows push: "ever after", all rows from the batch on in which the image is seen
            first (the server latches); "same batch", all rows of a batch with the image;
            "target alone", the image's row, as if the gradient were of a loss of that row alone.
        device: As in `Server`.

    Attributes:
        seen: Batches in which it recognized the image.
    """

    threat: ClassVar[sl.ThreatModel] = sl.ThreatModel(
        who="server, malicious (active)",
        goal="make f's weights reveal whether one image is in the client's data",
        sees=("z, once a step",),
        knows=("the image", "f's first weights"),
        does_not_know=("whether the client has the image",),
    )
    PROTOCOLS: ClassVar[tuple[str, ...]] = ("vanilla",)
    STATE = ("seen",)

    def __init__(self, target: Tensor, pushes: Pushes, *, device: Device = "cpu") -> None:
        super().__init__(device=device)
        self.target, self.pushes = target.to(self.device), pushes
        self.seen = 0

    def reply(self, message: sl.SmashedData) -> sl.Gradient:
        """Answer with the rows' pushes."""
        z = message.z
        recognized = (z - self.target).norm(dim=1) < TOLERANCE * self.target.norm()
        self.seen += int(recognized.any())
        dz = torch.zeros_like(z)
        if self.pushes == "target alone":
            dz[recognized, 0] = -PUSH
        elif recognized.any() or (self.pushes == "ever after" and self.seen):
            dz[:, 0] = -PUSH
        return self.gradient(message, dz)


@dataclass(frozen=True)
class DPAudit(Experiment):
    """Many runs with and without one image, and an auditor who guesses from f's last weights.

    f is linear, without a bias. In the runs without the image there is an image of zeros in its
    place, which has the gradient zero: it adds nothing, and the number of images stays the same.
    The image is the private one whose nearest neighbor is farthest away.

    The auditor sees f's first and last weights. Its score is how far the weights of z's first
    number moved along the mean public image, or along the image itself where its row alone pushes.
    The threshold is chosen on pilot runs.

    Attributes:
        pushes: As in `CanaryServer`.
        noise: The noise multiplier.
        delta: Of both epsilons.
        batch_size: The expected number of images in a batch.
        trials: Runs with the image that count, and as many without.
        pilots: Runs with the image to choose the threshold on, and as many without.
    """

    pushes: Pushes = "ever after"
    noise: float = 2.0
    delta: float = 1e-5
    batch_size: int = 23
    trials: int = 200
    pilots: int = 50

    @property
    def config(self) -> dict[str, Any]:
        """Everything that determines the run."""
        return super().config | {
            "cut": None,
            "batch_size": self.batch_size,
            "client_rate": RATE,
            "features": FEATURES,
            "pushes": self.pushes,
            "noise": self.noise,
            "delta": self.delta,
            "trials": self.trials,
            "pilots": self.pilots,
        }

    def measure(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Unpack[Keeping]
    ) -> dict[str, Any]:
        """Run all trials, and bound epsilon; nothing is kept between two runs of a second or less.

        Returns:
            `steps`; `epsilon`, the accountant's; `lower_bound`, of epsilon, at 95 % confidence;
            `refuted`, whether the first is below the second; `hits` and `false_alarms` of `trials`;
            `threshold`; `recognized`, in how many of the trials with the image the server saw it,
            and `mistaken`, in how many of those without; and `cpu_seconds`.
        """
        started = time.process_time()
        audit = _Audit(self, device)  # no observers: a progress bar for each run is no help
        pilots = [[audit.run(kind, n)[0] for n in range(self.pilots)] for kind in (True, False)]
        limit = threshold(*pilots, delta=self.delta)
        numbers = range(self.pilots, self.pilots + self.trials)
        inside, outside = ([audit.run(kind, n) for n in numbers] for kind in (True, False))
        hits, false_alarms = (sum(score > limit for score, _ in runs) for runs in (inside, outside))
        nominal = audit.longest.epsilon()
        bound = epsilon_lower_bound(hits, false_alarms, self.trials, self.delta)
        return {
            "steps": self.steps,
            "epsilon": nominal,
            "lower_bound": bound,
            "refuted": nominal < bound,
            "hits": hits,
            "false_alarms": false_alarms,
            "trials": self.trials,
            "threshold": limit,
            "recognized": sum(seen > 0 for _, seen in inside),
            "mistaken": sum(seen > 0 for _, seen in outside),
            "cpu_seconds": time.process_time() - started,
        }


class _Audit:
    """The parts that all trials share.

    Args:
        experiment: Its settings.
        device: Where to compute.

    Attributes:
        longest: The defense that has taken the most steps, which differ by empty batches.
    """

    def __init__(self, experiment: DPAudit, device: Device) -> None:
        self.experiment, self.device = experiment, device
        self.longest = DPSGD(experiment.noise)
        split = experiment.setting.split(experiment.data, experiment.seed)
        pixels = split.private.x.flatten(1)
        apart = torch.cdist(pixels, pixels).fill_diagonal_(torch.inf)
        row = int(apart.min(1).values.argmax())
        without = split.private.x.clone()
        without[row] = 0
        self.data = {True: split.private, False: replace(split.private, x=without)}
        self.net = linear(pixels.shape[1], seed=experiment.seed)
        with torch.no_grad():
            self.target = self.net(split.private.x[row : row + 1])[0]
        # Where all rows push, the weights move along the mean of their directions.
        alone = experiment.pushes == "target alone"
        pushed = pixels[row] if alone else split.public.x.mean(0).flatten()
        self.direction = pushed / pushed.norm()

    def run(self, inside: bool, number: int) -> tuple[float, int]:
        """Return the auditor's score of one run, and in how many batches the image was recognized.

        Args:
            inside: Whether the image is in the data.
            number: Of the run, which together with `inside` seeds it.
        """
        of, defense = self.experiment, DPSGD(self.experiment.noise, delta=self.experiment.delta)
        client = sl.Client(
            copy.deepcopy(self.net),
            self.data[inside],
            optimizer=partial(SGD, lr=RATE),
            batch_size=of.batch_size,
            defenses=[defense],
            sends_labels=False,
            seed=2 * (of.seed * (of.pilots + of.trials) + number) + inside,
            device=self.device,
        )
        server = CanaryServer(self.target.clone(), of.pushes, device=self.device)
        sl.train([client], server, of.steps)
        self.longest = max(self.longest, defense, key=lambda one: one.steps)
        moved = (client.net[1].weight.detach().cpu() - self.net[1].weight.detach())[0]
        return float(moved @ self.direction) * of.batch_size / RATE, server.seen


@seeded
def linear(pixels: int, *, seed: int = 0) -> nn.Sequential:
    """Return f: images -> z (B, FEATURES), without a bias."""
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, FEATURES, bias=False))


def threshold(inside: Sequence[float], outside: Sequence[float], *, delta: float) -> float:
    """Return the threshold above which to guess that the image was in the data.

    It lies in the middle between two neighboring scores, and gives the largest bound on epsilon on
    these runs; among equals, the largest difference of hits and false alarms, and then the largest
    gap.

    Args:
        inside: Scores of runs with the image, at least one.
        outside: As many of runs without it.
        delta: Of the bound.
    """
    scores = sorted([*inside, *outside])

    def quality(place: int) -> tuple[float, ...]:
        low, high = scores[place : place + 2]
        hits, false_alarms = (sum(one >= high for one in runs) for runs in (inside, outside))
        bound = epsilon_lower_bound(hits, false_alarms, len(inside), delta)
        return bound, hits - false_alarms, high - low

    best = max(range(len(scores) - 1), key=quality)
    return math.fsum(scores[best : best + 2]) / 2


# Kinds of run.
AUDITS: dict[str, dict[str, Any]] = {
    "latching": {"pushes": "ever after"},
    "not latching": {"pushes": "target alone"},
}
MORE_AUDITS: dict[str, dict[str, Any]] = {"not latching, whole batch": {"pushes": "same batch"}}
