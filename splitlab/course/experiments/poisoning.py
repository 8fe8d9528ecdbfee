"""Clients that poison the shared network, and the rollback that should stop them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Unpack

import torch
from torch import Tensor

import splitlab as sl
from splitlab.course.experiments.base import CpuTime, Device, Experiment, Keeping
from splitlab.nets.evaluation import duplicate

MEMBERS, TURN = 5, 10  # clinics, the attackers among them; steps in a turn
FLIPS = {4: 9}
TARGET = 0
TRIGGERS: dict[str, sl.Trigger] = {"patch": sl.Patch(), "blend": sl.Blend()}
RELAYS = 5  # calls over which a relay's seconds are averaged

# The kinds of `poisoning_tiny`. First what an attack does without a defense.
SAFE = {"window": MEMBERS}
ADAPTS = {"attack": "patch", "scale": 1e-5}
POISONINGS: dict[str, dict[str, Any]] = {
    "no attacker": {},
    **{f"flip, {k} of 5": {"attack": "flip", "attackers": k} for k in (1, 2, 3, 4)},
    "flip, Adam's state stays": {"attack": "flip", "optimizer_state": False},
    "flip, first": {"attack": "flip", "first": 0},
    "patch": {"attack": "patch"},
    "patch, first": {"attack": "patch", "first": 0},
    "patch, 1 in 10": {"attack": "patch", "share": 0.1},
    "patch, 1 in 30": {"attack": "patch", "share": 0.03},
    "blend": {"attack": "blend"},
    "patch, then alone": {"attack": "patch", "alone": 40},
    "blend, then alone": {"attack": "blend", "alone": 40},
    "flip, then alone": {"attack": "flip", "alone": 40},
    "adapted": ADAPTS,
    # Then with the rollback.
    "SafeSplit, no attacker": SAFE,
    "SafeSplit, flip": {"attack": "flip"} | SAFE,
    "SafeSplit, patch": {"attack": "patch"} | SAFE,
    "SafeSplit, blend": {"attack": "blend"} | SAFE,
    "SafeSplit, patch, 1 in 30": {"attack": "patch", "share": 0.03} | SAFE,
    **{f"SafeSplit, patch, {k} of 5": {"attack": "patch", "attackers": k} | SAFE for k in (2, 3)},
    **{f"SafeSplit, patch, window {n}": {"attack": "patch", "window": n} for n in (3, 10, 20)},
    **{
        f"SafeSplit, patch, DCT {share:g}": {"attack": "patch", "frequencies": share} | SAFE
        for share in (0.01, 1.0)
    },
    "non-IID, no attacker": {"skew": 0.8},
    "non-IID, patch": {"attack": "patch", "skew": 0.8},
    "SafeSplit, non-IID, no attacker": {"skew": 0.8} | SAFE,
    "SafeSplit, non-IID, patch": {"attack": "patch", "skew": 0.8} | SAFE,
    "SafeSplit, adapted": ADAPTS | SAFE,
    "SafeSplit, adapted, 1 in 10": ADAPTS | {"share": 0.1} | SAFE,
    **{
        f"SafeSplit, adapted, scale {scale:g}": ADAPTS | {"scale": scale} | SAFE
        for scale in (0.1, 0.01)
    },
    "adapted, rest 0.05": ADAPTS | {"scale_rest": 0.05},
    **{
        f"SafeSplit, adapted, rest {rest:g}": ADAPTS | {"scale_rest": rest} | SAFE
        for rest in (2.0, 0.2, 0.05)
    },
}


class Effect(sl.Observer):
    """The attack success and the accuracy of the shared network, after whole turns.

    Args:
        members: All clients, in the order of their turns.
        attack: What has the `attack_set`; it need not take part.
        test: Images that no client holds.
        from_turn: The first turn after which every turn is looked at; before it, whole rounds are.

    Attributes:
        by_round: Round -> "success" and "accuracy" after it.
        by_turn: Name of the member whose turn has ended -> the same, after its last turn.
    """

    STATE = ("by_round", "by_turn")
    PASSING = ("members", "attack", "test", "from_turn")

    def __init__(
        self,
        members: Sequence[sl.Client],
        attack: Any,
        test: sl.ImageData,
        *,
        from_turn: int,
    ) -> None:
        self.members, self.attack, self.test, self.from_turn = members, attack, test, from_turn
        self.by_round: dict[str, dict[str, float]] = {}
        self.by_turn: dict[str, dict[str, float]] = {}

    def step(self, step: int, client: sl.Client, server: Any) -> None:
        """Measure, if a turn has ended and it is time."""
        turns, within = divmod(step + 1, TURN)
        if within:
            return
        rounds, place = divmod(turns, len(self.members))
        if place and turns <= self.from_turn:
            return
        found = effect(self.members[place], server, self.attack, self.test)
        if not place:
            self.by_round[str(rounds)] = found
        if turns > self.from_turn:
            self.by_turn[client.name] = found


@dataclass(frozen=True)
class PoisoningRun(Experiment):
    """Clinics that train in turn, in the U-shaped protocol; some poison what they hand on.

    `steps` counts rounds, in each of which every clinic takes `TURN` steps.

    Attributes:
        attack: "flip", labels of 4 made 9; "patch" or "blend", a backdoor; or "none".
        attackers: How many of the `MEMBERS`.
        first: The place of the first attacker in the order of the turns; by default they are last.
        share: Share of a batch that gets the trigger.
        scale: Factor on the server's gradient for triggered images.
        scale_rest: The same for the attacker's other images.
        window: Turns that `SafeSplit` compares; 0 for an honest server without it.
        frequencies: Share of DCT coefficients that it compares.
        skew: Share of the images that are dealt out by class; the others are dealt at random.
        optimizer_state: Whether Adam's state is handed on with the weights.
        alone: Rounds that the honest clinics train on when the attackers have left.
    """

    attack: str = "none"
    attackers: int = 1
    first: int | None = None
    share: float = 0.5
    scale: float = 1.0
    scale_rest: float = 1.0
    window: int = 0
    frequencies: float = 0.1
    skew: float = 0.0
    optimizer_state: bool = True
    alone: int = 0

    @property
    def config(self) -> dict[str, Any]:
        """Everything that determines the run."""
        attacked, backdoor = self.attack != "none", self.attack in TRIGGERS
        return super().config | {
            "attack": self.attack,
            "places": sorted(self.places),
            "share": self.share if backdoor else None,
            "scale": self.scale if backdoor else None,
            **({} if self.scale_rest == 1 else {"scale_rest": self.scale_rest}),
            "target": TARGET if backdoor else None,
            "flips": [[a, b] for a, b in FLIPS.items()] if self.attack == "flip" else None,
            "members": MEMBERS,
            "turn": TURN,
            "window": self.window,
            "frequencies": self.frequencies if self.window else None,
            "skew": self.skew,
            "optimizer_state": self.optimizer_state,
            "alone": self.alone if attacked else 0,
        }

    @property
    def places(self) -> set[int]:
        """The attackers' places in the order of the turns."""
        if self.attack == "none":
            return set()
        first = MEMBERS - self.attackers if self.first is None else self.first
        return set(range(first, first + self.attackers))

    def measure(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Unpack[Keeping]
    ) -> dict[str, Any]:
        """Train and score.

        Returns:
            The report; `rounds`; `cpu_seconds` of the training; in the last round, `by_turn`, as
            `Effect` has it; without an attacker, `unattacked`: the success of each attack's images;
            with the rollback, what `rollbacks` returns, and `relay`: the time of a relay relative
            to a turn's; and with `alone`,
            `by_round` and `afterwards`: rounds without attackers -> as in `by_round`.
        """
        split, clock = self.split(), CpuTime()
        members, server = self.members(split, device), self.server(device)
        attack = next((m for m in members if hasattr(m, "attack_set")), None)
        scored = attack or self.attacker(split, device, "patch")
        test = split.referee.to(device)
        effects = Effect(members, scored, test, from_turn=(self.steps - 1) * MEMBERS)
        watching = [*observers, clock, effects]
        protocol = self.protocol()
        turns = self.steps * MEMBERS
        sl.train(members, server, turns * TURN, protocol=protocol, observers=watching, **keeping)
        report = sl.evaluate(members, scored, split.referee, server=server)
        row: dict[str, Any] = report.to_dict() | {
            "rounds": self.steps,
            "cpu_seconds": clock.seconds,
            "by_turn": effects.by_turn,
        }
        if attack is None:
            row["unattacked"] = {
                kind: effect(members[0], server, self.attacker(split, device, kind), test)[
                    "success"
                ]
                for kind in ("flip", *TRIGGERS)
            }
        if isinstance(server, sl.SafeSplit):
            row |= rollbacks(server, [members[place].name for place in self.places])
            row["relay"] = _relay_seconds(server, members[0]) / (clock.seconds / turns)
        if self.alone and attack is not None:
            row["by_round"] = effects.by_round
            row["afterwards"] = self._afterwards(members, server, attack, test)
        return row

    def _afterwards(
        self, members: Sequence[sl.Client], server: Any, attack: Any, test: sl.ImageData
    ) -> dict[str, dict[str, float]]:
        """Let the honest clinics train on; the first one holds the newest weights."""
        honest = [m for place, m in enumerate(members) if place not in self.places]
        alone = Effect(honest, attack, test, from_turn=self.alone * len(honest))
        before = effect(honest[0], server, attack, test)
        turns = self.alone * len(honest)
        sl.train(honest, server, turns * TURN, protocol=self.protocol(), observers=[alone])
        return {"0": before} | alone.by_round

    def protocol(self) -> sl.Sequential:
        """Return the protocol: in turn, through the server where it may roll back."""
        return sl.Sequential(
            sl.u_shaped,
            turn=TURN,
            optimizer_state=self.optimizer_state,
            through_server=bool(self.window),
        )

    def split(self) -> sl.data.Split:
        """Return the three parts of the data."""
        return self.setting.split(self.data, self.seed)

    def members(self, split: sl.data.Split, device: Device) -> list[sl.Client]:
        """Return all clients in the order of their turns, with about as many images each."""
        parts = self._parts(split.private)
        return [
            self.attacker(split, device, self.attack, own, number)
            if number in self.places
            else sl.Client(
                self.setting.nets.strided_client(seed=self.seed),
                split.private.select(own),
                tail=self.setting.nets.strided_tail(classes=10, seed=self.seed),
                **self.setting.client(seed=self.seed + number, device=device),
                name=f"clinic {number}",
            )
            for number, own in enumerate(parts)
        ]

    def attacker(
        self,
        split: sl.data.Split,
        device: Device,
        kind: str,
        rows: Tensor | None = None,
        number: int = 0,
    ) -> sl.Backdoor | sl.LabelFlipping:
        """Return a malicious client.

        Args:
            split: The data.
            device: Where it computes.
            kind: As `attack`.
            rows: Its rows of the private part; all by default, for one that takes no part.
            number: Its place.
        """
        private = split.private if rows is None else split.private.select(rows)
        net = self.setting.nets.strided_client(seed=self.seed)
        options: dict[str, Any] = {
            "tail": self.setting.nets.strided_tail(classes=10, seed=self.seed),
            "name": f"attacker {number}",
            **self.setting.client(seed=self.seed + number, device=device),
        }
        if kind == "flip":
            return sl.LabelFlipping(net, private, flips=FLIPS, **options)
        options |= {"trigger": TRIGGERS[kind], "share": self.share}
        options |= {"scale": self.scale, "scale_rest": self.scale_rest}
        return sl.Backdoor(net, private, target=TARGET, **options)

    def server(self, device: Device) -> sl.HonestServer:
        """Return the server, which is honest."""
        net = self.setting.nets.strided_server(seed=self.seed)
        rate = self.setting.client_optimizer
        if not self.window:
            return sl.HonestServer(net, optimizer=rate, seed=self.seed, device=device)
        return sl.SafeSplit(
            net,
            window=self.window,
            share=self.frequencies,
            optimizer=rate,
            seed=self.seed,
            device=device,
        )

    def _parts(self, private: sl.ImageData) -> list[Tensor]:
        rows = torch.arange(len(private))
        if not self.skew:
            return [rows[k::MEMBERS] for k in range(MEMBERS)]
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(self.seed))
        by_class, rest = order.split([n := int(self.skew * len(rows)), len(rows) - n])
        by_class = by_class[private.y[by_class].argsort(stable=True)]
        parts = zip(by_class.chunk(MEMBERS), rest.chunk(MEMBERS), strict=True)
        return [torch.cat(both) for both in parts]


def effect(client: sl.Client, server: Any, attack: Any, test: sl.ImageData) -> dict[str, float]:
    """Return the attack's "success" and the "accuracy" of client and server on test images."""
    _, images, wanted = attack.attack_set(test)
    taken = sl.logits(client, server, images).argmax(1)
    return {
        "success": float((taken == wanted).double().mean()),
        "accuracy": sl.task_accuracy(client, server, test),
    }


def rollbacks(server: sl.SafeSplit, attackers: Sequence[str]) -> dict[str, Any]:
    """Return how often turns were rolled back, of those that could be.

    Returns:
        "rolled_back": client -> share of its turns; "honest" and, where there are some,
        "attackers": the shares of all turns of these; and then "movement": the length of the last
        attacker's last update, in low frequencies, divided by the median of the honest ones of that
        window.
    """
    judged = server.verdicts[server.window - 1 :]
    turns: dict[str, list[bool]] = {}
    for name, back in judged:
        turns.setdefault(name, []).append(back)

    def share(verdicts: Sequence[bool]) -> float:
        return sum(verdicts) / len(verdicts)

    found: dict[str, Any] = {"rolled_back": {name: share(v) for name, v in turns.items()}}
    found["honest"] = share([back for name, back in judged if name not in attackers])
    if attackers:
        found["attackers"] = share([back for name, back in judged if name in attackers])
        names = [name for name, _ in server.verdicts[-len(server.turns) :]]
        lengths = [float(turn["low_frequencies"].norm()) for turn in server.turns]
        moved = dict(zip(names, lengths, strict=True))
        others = [length for name, length in moved.items() if name not in attackers]
        found["movement"] = moved[attackers[-1]] / median(others)
    return found


def _relay_seconds(server: sl.SafeSplit, client: sl.Client) -> float:
    """CPU seconds of one relay; a copy of the server is asked."""
    copy, weights = duplicate(server, server.net), client.weights()
    began = time.process_time()
    for _ in range(RELAYS):
        copy.relay(weights)
    return (time.process_time() - began) / RELAYS
