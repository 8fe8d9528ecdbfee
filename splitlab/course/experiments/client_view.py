"""What the client sees during a hijack: the loss and the accuracy of its task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import torch
from torch import nn

import splitlab as sl
from splitlab.course.experiments.base import CpuTime, Device, Keeping
from splitlab.course.experiments.hijacks import Hijack
from splitlab.referee.floors import nearest_public
from splitlab.referee.report import as_rows

WINDOW = 5  # steps over which the last loss is averaged
TURN = 5  # steps of a clinic's turn, where there are several

# The kinds of `client_view_tiny`. "On the side": the server trains the task's network and sends
# none of its gradient. "U-shaped": it shows the tail a network that never learns.
CLIENT_VIEWS: dict[str, dict[str, Any]] = {
    "honest": {"server": "honest"},
    "on the side": {"weight": 1.0},
    "lambda 0.5": {"weight": 0.5},
    "U-shaped": {"server": "hijack", "u_shaped": True},
    "ten clinics, honest": {"server": "honest", "clinics": 10},
    "ten clinics": {"weight": 1.0, "clinics": 10},
    "lambda 0.2": {"weight": 0.2},
    "lambda 0": {"weight": 0.0},
    "lambda 0.8": {"weight": 0.8},
    "U-shaped, on the side": {"weight": 1.0, "u_shaped": True},
}


@dataclass(frozen=True)
class ClientView(Hijack):
    """A hijack by the fast design, and what the client sees of its task.

    Attributes:
        server: "multitask"; "hijack", which trains nothing for the task; or "honest".
        weight: The hijack's share of a multitask server's gradient.
        clinics: How many clinics take turns. They share the private rows, each has a run of them,
            and they hand on weights and the optimizer's state.
        u_shaped: Whether the labels stay at home, with the last layer.
    """

    server: str = "multitask"
    weight: float = 1.0
    clinics: int = 1
    u_shaped: bool = False

    @property
    def config(self) -> dict[str, Any]:
        """Everything that determines the run."""
        return super().config | {
            "server": self.server,
            "weight": self.weight if self.server == "multitask" else None,
            "clinics": self.clinics,
            "u_shaped": self.u_shaped,
        }

    def measure(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Unpack[Keeping]
    ) -> dict[str, Any]:
        """Train and score.

        Returns:
            `task_accuracy` on public images; `last_task_loss`, which is reported to the client or
            computed by its tail, a mean over the last `WINDOW` steps; where the server attacks, the
            `metrics` of all pictures, and the `floors` and `ceilings`; `steps` and `cpu_seconds`.
        """
        split, clock = self.split(), CpuTime()
        clients, server = self.clients(split, device), self.attack(split, device)
        step = sl.u_shaped if self.u_shaped else sl.vanilla
        protocol = step if self.clinics == 1 else sl.Sequential(step, turn=TURN)
        log = sl.train(
            clients, server, self.steps, protocol=protocol, observers=[*observers, clock], **keeping
        )
        # The clinic whose turn it would be has been handed the weights.
        client = clients[self.steps // TURN % self.clinics]
        row = {
            "steps": log.steps,
            "cpu_seconds": clock.seconds,
            "task_accuracy": sl.task_accuracy(client, server, split.public),
        }
        if "task_loss" in log.names():
            row["last_task_loss"] = sl.records.window_means(log["task_loss"], WINDOW)[1][-1]
        return row if self.server == "honest" else row | scores(client, server, split)

    def clients(self, split: sl.data.Split, device: Device) -> list[sl.Client]:
        """Return the clients: each has an equal run of the private rows."""
        size = len(split.private) // self.clinics
        return [
            sl.Client(
                self.setting.client_net(seed=self.seed),
                split.private.select(torch.arange(number * size, (number + 1) * size)),
                tail=self._halves()[1] if self.u_shaped else None,
                **self.setting.client(seed=self.seed, device=device),
                name=f"clinic {number}" if self.clinics > 1 else "client",
            )
            for number in range(self.clinics)
        ]

    def attack(self, split: sl.data.Split, device: Device) -> Any:
        """Return the server."""
        net = self._halves()[0] if self.u_shaped else self.setting.server_net(seed=self.seed)
        options: Any = {"steps": self.steps, "seed": self.seed, "device": device}
        if self.server == "hijack":
            return sl.FSHA.at(self.setting, split.public, body=net, **options)
        optimizer = self.setting.client_optimizer
        honest = sl.HonestServer(net, optimizer=optimizer, seed=self.seed, device=device)
        if self.server == "honest":
            return honest
        hijack = sl.FSHA.at(self.setting, split.public, **options)
        return sl.MultitaskFSHA(hijack, task=honest, weight=self.weight)

    def _halves(self) -> tuple[nn.Module, nn.Module]:
        """The server's network without its last layer, and that layer, the client's tail."""
        net: Any = self.setting.server_net(seed=self.seed)
        return net[:-1], net[-1:]


def scores(client: sl.Client, attack: Any, split: sl.data.Split) -> dict[str, Any]:
    """Return the referee's figures of an attack on all private images, and its floor and ceiling.

    Args:
        client: A client, with the network as it is after training.
        attack: The attack.
        split: The parts of the data.

    Returns:
        `rows` and `n`, as in `Report`; `error`, the mean squared error, divided by that of the
        nearest public images.
    """
    scorer = sl.Scorer(split.private, split.referee)
    x = scorer.images.x.to(client.device)
    metrics = scorer.score(attack.reconstruct(client.smash(x)).cpu())
    floor = scorer.score(nearest_public(scorer.images.x, split.public.x))
    return {
        "n": len(x),
        "error": metrics["mse"] / floor["mse"],
        "rows": as_rows(
            floor={"nearest_public": floor},
            attack={"attack": metrics},
            ceiling={"own_autoencoder": scorer.score(attack.autoencode(x).cpu())},
        ),
    }
