"""A server that plants a backdoor: by the cut, the trigger, and the network it rehearses on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Unpack

from torch.optim import SGD, Adam

import splitlab as sl
from splitlab.course.experiments.base import CpuTime, Device, Experiment, Keeping
from splitlab.course.experiments.poisoning import TARGET, effect
from splitlab.nets.evaluation import duplicate

# The kinds of `poisoning_tiny` where the server attacks.
SERVER_BACKDOORS: dict[str, dict[str, Any]] = {
    **{f"server, cut {cut}": {"at": cut} for cut in (1, 2, 3, 4)},
    **{f"server, cut {cut}, large patch": {"at": cut, "patch": 6} for cut in (1, 2, 3, 4)},
    "server, cut 2, known start": {"surrogate": "known start"},
    **{f"server, cut {cut}, critic": {"at": cut, "surrogate": "critic"} for cut in (1, 2, 3, 4)},
    **{f"server, cut {cut}, f known": {"at": cut, "surrogate": "f"} for cut in (1, 2, 3, 4)},
}


@dataclass(frozen=True)
class ServerBackdoorRun(Experiment):
    """One client and a server that plants a backdoor, in the vanilla protocol.

    Attributes:
        at: The cut.
        patch: Side of the trigger in pixels.
        surrogate: What the server rehearses on: "own", a surrogate of its own; "critic", one that
            a critic pulls to the client's z besides; "known start", one that starts with f's first
            weights; or "f", the trained f itself, on which it rehearses as many batches after the
            training. No server knows f: that is the ceiling.
    """

    at: int = 2
    patch: int = 3
    surrogate: str = "own"

    @property
    def config(self) -> dict[str, Any]:
        """Everything that determines the run."""
        return super().config | {
            "cut": self.at,
            "patch": self.patch,
            "surrogate": self.surrogate,
            "target": TARGET,
        }

    def measure(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Unpack[Keeping]
    ) -> dict[str, Any]:
        """Train and score.

        Returns:
            The report; `cpu_seconds` of the training; and `on_surrogate`, the success on the
            network that the server rehearsed on.
        """
        setting, clock, seed = self.setting, CpuTime(), self.seed
        split = setting.split(self.data, seed)
        f = setting.client_net(cut=self.at, seed=seed)
        client = sl.Client(f, split.private, **setting.client(seed=seed, device=device))
        s = setting.server_net(cut=self.at, seed=seed)
        other = self.surrogate in ("own", "critic")
        own = setting.client_net(cut=self.at, seed=seed + other)
        options: dict[str, Any] = {"optimizer": setting.client_optimizer, "seed": seed}
        options["device"] = device
        watching = [*observers, clock]
        rate = setting.client_optimizer
        if self.surrogate == "f":
            honest = sl.HonestServer(s, **options)
            sl.train([client], honest, self.steps, observers=watching, **keeping)
            own, rate = duplicate(client.net, client.net), partial(SGD, lr=0.0)
        server = sl.ServerBackdoor(
            s,
            split.public,
            surrogate=own,
            surrogate_optimizer=rate,
            critic=self._critic() if self.surrogate == "critic" else None,
            target=TARGET,
            trigger=sl.Patch(self.patch),
            batch_size=setting.batch_size,
            **options,
        )
        if self.surrogate == "f":
            for _ in range(self.steps):
                server.rehearse()
        else:
            sl.train([client], server, self.steps, observers=watching, **keeping)
        report = sl.evaluate(client, server, split.referee)
        stand_in = sl.Client(own, split.public, device=device)
        test = split.referee.to(device)
        return report.to_dict() | {
            "cpu_seconds": clock.seconds,
            "on_surrogate": effect(stand_in, server, server, test)["success"],
        }

    def _critic(self) -> sl.Critic:
        """The critic of SDAR, a passive attack that trains a surrogate with one."""
        net = self.setting.nets.critic(cut=self.at, seed=self.seed)
        return sl.Critic(net, loss="bce", optimizer=partial(Adam, lr=2e-4, betas=(0.5, 0.99)))
