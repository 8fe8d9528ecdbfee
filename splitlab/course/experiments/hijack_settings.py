"""Hijacks with one setting changed, of the attacker's or of the client's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal, Unpack, get_args

from torch import nn
from torch.optim import SGD

import splitlab as sl
from splitlab.attacks.schedules import Schedule, falling, growing
from splitlab.course.experiments.base import CpuTime, Device, Keeping
from splitlab.course.experiments.hijacks import Hijack
from splitlab.defenses import ClipGradient, NormAlarm, SetNorm
from splitlab.nets import tiny
from splitlab.nets.blocks import seeded
from splitlab.referee.report import as_rows

Pilot = Literal["", "the client's layers", "dense"]
Critic = Literal["", "half", "double", "no convolution"]


@dataclass(frozen=True)
class HijackSetting(Hijack):
    """A hijack with one setting changed; networks and other settings are those of "tiny".

    Attributes:
        cut_at: Where the network is split; None for the setting's.
        relu: Whether the client's first block has its ReLU. At cut 1, z has no negative values with
            it.
        pilot: The paper's design: another network in the pilot's place, the decoder being the same.
        critic: The fast design: another critic.
        optimizer: The client's; "SGD" has momentum .9.
        factor: A constant factor on the gradient sent.
        growth: Growth of that factor from each step to the next.
        steady: Whether the fast design's gradient does not fall towards the end.
        clip: The client clips the incoming gradient's norm at this; None for not at all.
        same_norm: Whether the client gives every incoming gradient the same norm.
    """

    cut_at: int | None = None
    relu: bool = True
    pilot: Pilot = ""
    critic: Critic = ""
    optimizer: Literal["Adam", "SGD"] = "Adam"
    factor: float = 1.0
    growth: float = 1.0
    steady: bool = False
    clip: float | None = None
    same_norm: bool = False

    @property
    def config(self) -> dict[str, Any]:
        """Everything that determines the run; of this class's settings, the changed ones."""
        base = {f.name for f in fields(Hijack)}
        own = [f for f in fields(self) if f.name not in base]
        values = {f.name: getattr(self, f.name) for f in own}
        changed = {f.name: values[f.name] for f in own if values[f.name] != f.default}
        return super().config | changed | {"cut": self.cut_at or self.setting.cut}

    def client(self, split: sl.data.Split, device: Device) -> sl.Client:
        """Return the client under attack, with its defenses on."""
        seed, rate = self.seed, self.rate or self.setting.client_rate
        arguments = self.setting.client(seed=seed, rate=rate, device=device)
        if self.optimizer == "SGD":
            arguments["optimizer"] = partial(SGD, lr=rate, momentum=0.9)
        net: Any = self.setting.client_net(cut=self.cut_at, seed=seed)
        if not self.relu:  # convolution, BatchNorm, ReLU, pooling
            net[0][2] = nn.Identity()
        return sl.Client(net, split.private, defenses=self.defenses(), **arguments)

    def defenses(self) -> list[sl.Defense]:
        """Return the client's defenses, made anew; the first one is the alarm."""
        defenses: list[sl.Defense] = [NormAlarm(LIMIT, stop=False)]
        defenses += [ClipGradient(self.clip)] if self.clip else []
        return defenses + ([SetNorm()] if self.same_norm else [])

    def attack(self, split: sl.data.Split, device: Device) -> Any:
        """Return the server."""
        if self.design is None:
            return super().attack(split, device)
        seed, cut, public = self.seed, self.cut_at, split.public
        options: dict[str, Any] = {"design": self.design, "cut": cut, "steps": self.steps}
        options |= {"gradient_scale": self.schedule(), "seed": seed, "device": device}
        if self.pilot:
            options["pilot"] = _pilot(self.pilot, seed=seed)
        if self.critic:
            options["critic"] = image_critic(self.critic, seed=seed)
        return sl.FSHA.at(self.setting, public, **options)

    def schedule(self) -> Schedule:
        """Return the factor on the gradient sent, by step; the paper's design alone sets none."""
        falls = self.design == "fast" and not self.steady
        always = falling(self.steps) if falls else growing(1.0)
        grows = growing(self.growth, start=self.factor)
        return lambda step: always(step) * grows(step)

    def measure(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Unpack[Keeping]
    ) -> dict[str, Any]:
        """Train and score, with f in evaluation mode.

        Returns:
            `cpu_seconds`; `alarms`, the steps at which the norm of the gradient was above `LIMIT`;
            `highest_norm` of a gradient that arrived; and the scores of the reconstructions, also
            as received during training, of the nearest public images and of the attacker's own
            pilot and decoder.
        """
        clock, seen = CpuTime(), HighestNorm()
        client, attack, split = self._train(device, [*observers, clock, seen], **keeping)
        row: dict[str, Any] = {"steps": client.step, "cpu_seconds": round(clock.seconds, 1)}
        row |= {"alarms": len(client.defenses[0].alarms), "highest_norm": seen.highest}
        scorer = sl.Scorer(split.private, split.referee, n_match=min(500, len(split.private)))
        x = scorer.images.x
        decoded = attack.reconstruct(client.smash(x))
        received = attack.reconstruct(client.smash(x, training_mode=True))
        nearest = sl.floors.nearest_public(x, split.public.x)
        return row | {
            "n": len(x),
            "rows": as_rows(
                floor={"nearest_public": scorer.score(nearest)},
                attack={"attack": scorer.score(decoded), "as_received": scorer.score(received)},
                ceiling={"own_autoencoder": scorer.score(attack.autoencode(x))},
            ),
            **self.further(client, attack, split),
        }

    def further(self, client: sl.Client, attack: Any, split: sl.data.Split) -> dict[str, Any]:
        """Return additional figures of a kind of run; none here."""
        return {}


class HighestNorm(sl.Observer):
    """Keeps the highest norm, over the whole batch, of the gradients that arrive.

    Attributes:
        highest: The norm; 0 before the first gradient.
    """

    STATE = ("highest",)

    def __init__(self) -> None:
        self.highest = 0.0

    def message(self, message: sl.Message) -> None:
        """Record the norm of a gradient."""
        if isinstance(message, sl.Gradient):
            rows = message.dz.movedim(1, -1).flatten(0, -2)
            self.highest = max(self.highest, float(rows.norm()))


@seeded
def image_critic(kind: Critic, *, seed: int = 0) -> nn.Module:
    """Return another critic on decoded images: (B, 1, 16, 16) -> scores (B, 1).

    Args:
        kind: "half" or "double": the width of `nets.tiny.image_critic`; "no convolution": two
            hidden dense layers.
        seed: Seeds the initial weights.

    Raises:
        ValueError: If there is no such kind.
    """
    last = [nn.LeakyReLU(0.2), nn.Linear(64, 1)]  # first, or the recorded weights would be others
    match kind:
        case "half" | "double":
            a, b = (16, 32) if kind == "half" else (64, 128)
            layers: list[nn.Module] = []
            for width_in, width_out in ((1, a), (a, b), (b, b)):
                layers += [nn.Conv2d(width_in, width_out, 4, 2, 1), nn.LeakyReLU(0.2)]
            return nn.Sequential(*layers, nn.Flatten(), nn.Linear(b * 2 * 2, 1))
        case "no convolution":
            first = [nn.Flatten(), nn.Linear(256, 128), nn.LeakyReLU(0.2)]
            return nn.Sequential(*first, nn.Linear(128, 64), *last)
    known = ", ".join(map(repr, get_args(Critic)[1:]))
    raise ValueError(f"there is no critic {kind!r}: choose one of {known}")


@seeded
def _pilot(kind: Pilot, *, seed: int = 0) -> nn.Module:
    """Another pilot for cut 2: (B, 1, 16, 16) -> z of (32, 4, 4)."""
    match kind:
        case "the client's layers":  # other weights: the seed is not the client's
            return tiny.client(cut=2, seed=seed + 1)
        case "dense":
            first = [nn.Flatten(), nn.Linear(256, 256), nn.SiLU(), nn.Linear(256, 512)]
            return nn.Sequential(*first, nn.Unflatten(1, (32, 4, 4)))
    known = ", ".join(map(repr, get_args(Pilot)[1:]))
    raise ValueError(f"there is no pilot {kind!r}: choose one of {known}")


# The highest norm of ten honest runs at seeds that are not recorded, 0 to 9, rounded up.
LIMIT = 0.06

# A server that makes a slow client faster does not let its gradient fall. "Quiet" growth begins so
# low that it ends below the limit, by the norms of a run at another seed on pseudo-private data,
# which are cut from the public part. At 1.11 it would have to begin where Adam's epsilon counts.
SLOW: dict[str, Any] = {"rate": 1e-4, "steady": True}
GROWTH: dict[str, Any] = SLOW | {"growth": 1.11}
QUIET: dict[str, Any] = SLOW | {"growth": 1.05, "factor": 1.2e-5, "clip": LIMIT}
PAPER: dict[str, Any] = {"design": "paper"}
SGD_SLOW: dict[str, Any] = {"optimizer": "SGD", "rate": 1e-3}

CORE: dict[str, dict[str, Any]] = {
    "fast": {},
    "paper": PAPER,
    "no hijack": {"design": None},
    "Adam 1e-4": SLOW,
    "Adam 1e-4, growing": GROWTH,
    "Adam 1e-4, growing quietly, clipped": QUIET,
    "Adam 1e-4, growing quietly, one norm": QUIET | {"clip": None, "same_norm": True},
    "paper, Adam 1e-4": PAPER | {"rate": 1e-4},
}
MORE: dict[str, dict[str, Any]] = {
    "paper, pilot of the client's layers": PAPER | {"pilot": "the client's layers"},
    "paper, dense pilot": PAPER | {"pilot": "dense"},
    "critic without convolution": {"critic": "no convolution"},
    "a fifth of the gradient": {"factor": 0.2},
}
FURTHER: dict[str, dict[str, Any]] = {
    "cut 1": {"cut_at": 1},
    "cut 1, no ReLU": {"cut_at": 1, "relu": False},
    "cut 3": {"cut_at": 3},
    "cut 4": {"cut_at": 4},
    "paper, cut 1": PAPER | {"cut_at": 1},
    "paper, cut 3": PAPER | {"cut_at": 3},
    "paper, cut 4": PAPER | {"cut_at": 4},
    "critic of half the width": {"critic": "half"},
    "critic of twice the width": {"critic": "double"},
    "Adam 3e-4": SLOW | {"rate": 3e-4},
    "paper, Adam 3e-4": PAPER | {"rate": 3e-4},
    "Adam 1e-5": SLOW | {"rate": 1e-5},
    "paper, Adam 1e-5": PAPER | {"rate": 1e-5},
    "gradient not falling": {"steady": True},
    "SGD": SGD_SLOW,
    "SGD, five times the gradient": SGD_SLOW | {"factor": 5.0},
}
KINDS = CORE | MORE | FURTHER
