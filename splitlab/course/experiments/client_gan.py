"""A malicious client that trains a GAN through split learning, and runs to compare it with."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector
from torch.optim import SGD, Adam

import splitlab as sl
from splitlab.core.party import OptimizerFactory
from splitlab.course.experiments.base import CpuTime, Device, Experiment, Keeping
from splitlab.referee.prototypes import nearest_by_class

SERVER_SGD = 0.1  # learning rate of a server with plain SGD
PIXEL_RATE = 0.01  # Adam's, where the generator is a set of free images
LOOKS = 5  # how often the generator is looked at

# The kinds of `client_gan_tiny`: both targets, then one thing changed at a time.
CLIENT_GANS: dict[str, dict[str, Any]] = {
    "target 0": {},
    "target 1": {"target": 1},
    "no attacker": {"attack": "none"},
    "no poison class, target 0": {"attack": "no poison"},
    "no poison class, target 1": {"attack": "no poison", "target": 1},
    "no scaling": {"scale": 1.0},
    "SGD server": {"server_optimizer": "SGD"},
    "model inversion": {"attack": "inversion"},
}
# In the same table, for the appendix: other groups of honest clients, servers whose steps depend
# on the gradient's length in another way, and another data set.
MORE_CLIENT_GANS: dict[str, dict[str, Any]] = {
    "1 honest client": {"honest": 1},
    "10 honest clients": {"honest": 10},
    "target at one client": {"at_one": True},
    "fresh Adam": {"server_optimizer": "fresh Adam"},
    "fresh Adam, no scaling": {"server_optimizer": "fresh Adam", "scale": 1.0},
    "Adam per client": {"server_optimizer": "Adam per client"},
    "normalizing server": {"server_optimizer": "Adam, normalizing"},
    "normalizing SGD server": {"server_optimizer": "SGD, normalizing"},
    # Two controls: these servers' steps in generator turns are short again.
    "fresh Adam, scale 1e-10": {"server_optimizer": "fresh Adam", "scale": 1e-10},
    "normalizing server, above 1e-4": {"server_optimizer": "Adam, normalizing above 1e-4"},
}
NORMALIZING = {  # server -> the norm above which it normalizes gradients
    "Adam, normalizing": 0.0,
    "SGD, normalizing": 0.0,
    "Adam, normalizing above 1e-4": 1e-4,
}


class FreshAdam(Adam):
    """Adam that forgets its moments before every step.

    A step is then the learning rate in each coordinate, with the gradient's sign, as long as the
    gradient is well above Adam's epsilon.
    """

    def step(self, closure: Any = None) -> Any:
        """Forget the moments, and take one step."""
        self.state.clear()
        return super().step(closure)


class ServerOptimizerPerClient(sl.HonestServer):
    """Has an optimizer, with a state of its own, for each client.

    Args:
        net: As in `HonestServer`.
        clients: The names of the clients.
        optimizer: Makes each optimizer.
        options: Further arguments of `HonestServer`.
    """

    PASSING = ("optimizer",)  # one of `optimizers`

    def __init__(
        self,
        net: nn.Module,
        clients: Sequence[str],
        *,
        optimizer: OptimizerFactory,
        **options: Any,
    ) -> None:
        super().__init__(net, optimizer=optimizer, **options)
        self.optimizers = {name: optimizer(self.net.parameters()) for name in clients}

    def backward(self, message: sl.OutputGradient) -> sl.Gradient:
        """Take the step with the sender's optimizer."""
        self.optimizer = self.optimizers[message.sender]
        return super().backward(message)


class NormalizingServer(sl.HonestServer):
    """Gives each gradient that it receives the norm `LENGTH`, for its own step alone.

    Args:
        net: As in `HonestServer`.
        above: Gradients of at most this norm stay as they are.
        options: Further arguments of `HonestServer`.
    """

    LENGTH = 0.05  # about the mean norm of an honest gradient

    def __init__(self, net: nn.Module, *, above: float = 0.0, **options: Any) -> None:
        super().__init__(net, **options)
        self.above = above

    def backward(self, message: sl.OutputGradient) -> sl.Gradient:
        """Step along the normalized gradient, and return the gradient of z as it is."""
        norm = message.da.norm()
        if norm <= self.above:
            return super().backward(message)
        factor = self.LENGTH / norm
        answer = super().backward(dataclasses.replace(message, da=message.da * factor))
        return dataclasses.replace(answer, dz=answer.dz / factor)


class ServersView(sl.Observer):
    """What a server could record of each kind of turn: "generator", "poison" or "honest".

    Attributes:
        gradients: Kind of turn -> the norms of the gradients that it received, in order.
        steps: Kind of turn -> the lengths of its own steps.
    """

    STATE = ("gradients", "steps", "norm", "weights")

    def __init__(self) -> None:
        self.gradients: dict[str, list[float]] = {}
        self.steps: dict[str, list[float]] = {}
        self.norm, self.weights = 0.0, torch.zeros(0)

    def start(self, clients: Sequence[sl.Client], server: Any, steps: int) -> None:
        """Keep the server's weights."""
        self.weights = _weights(server)

    def message(self, message: sl.Message) -> None:
        """Keep the norm of the gradient that the server receives."""
        if isinstance(message, sl.OutputGradient):
            self.norm = float(message.da.norm())

    def step(self, step: int, client: sl.Client, server: Any) -> None:
        """Note the turn's norms."""
        kind, now = kind_of_turn(client), _weights(server)
        length, self.weights = float((now - self.weights).norm()), now
        self.gradients.setdefault(kind, []).append(self.norm)
        self.steps.setdefault(kind, []).append(length)

    def summary(self) -> dict[str, dict[str, float]]:
        """Return, by kind of turn, the mean length of the server's "step" and three gradients.

        These are the mean norm ("gradient"), the "smallest" and the "largest".
        """
        return {
            kind: {
                "gradient": sum(norms) / len(norms),
                "smallest": min(norms),
                "largest": max(norms),
                "step": sum(self.steps[kind]) / len(norms),
            }
            for kind, norms in self.gradients.items()
        }


class Looks(sl.Observer):
    """The distance of generated images to the target's nearest real one, at some rounds.

    Args:
        attack: The attack.
        real: Real images of the target.
        steps: At which steps, counted from 1.
    """

    STATE = ("distances",)
    PASSING = ("attack",)

    def __init__(self, attack: sl.ClientGAN, real: Tensor, steps: dict[int, int]) -> None:
        self.attack, self.real, self.at = attack, real, steps
        self.distances: dict[str, float] = {}

    def step(self, step: int, client: sl.Client, server: Any) -> None:
        """Measure, if it is time."""
        if (step + 1) in self.at:
            name = str(self.at[step + 1])
            self.distances[name] = distance(self.attack.generate(200), self.real)


@dataclass(frozen=True)
class ClientGANRun(Experiment):
    """A malicious client among honest ones, who hand on f and tail in turn.

    `steps` counts rounds, in each of which every client has one turn.

    Attributes:
        target: The class to draw.
        attack: "gan"; "no poison", the same without poison turns; "inversion", which changes the
            pixels of a batch of images in place of a generator's weights, without poison turns; or
            "none", the honest clients alone.
        scale: Factor on the gradient that the server receives in a generator turn.
        server_optimizer: "Adam", as at the clients, or "SGD"; a key of `NORMALIZING`, for a server
            that gives gradients one length; "fresh Adam", which forgets its moments before every
            step; or "Adam per client", which has moments for each client.
        honest: Number of honest clients, who share the private rows.
        at_one: Whether one of them holds all images of the target.
    """

    target: int = 0
    attack: str = "gan"
    scale: float = 1e-5
    server_optimizer: str = "Adam"
    honest: int = 3
    at_one: bool = False

    @property
    def config(self) -> dict[str, Any]:
        """Everything that determines the run."""
        attacked = self.attack != "none"
        return super().config | {
            "attack": self.attack,
            "target": self.target if attacked else None,
            "scale": self.scale if attacked else None,
            "server_optimizer": self.server_optimizer,
            "server_rate": SERVER_SGD if self.server_optimizer.startswith("SGD") else None,
            "pixel_rate": PIXEL_RATE if self.attack == "inversion" else None,
            "honest": self.honest,
            "at_one": self.at_one,
        }

    def measure(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Unpack[Keeping]
    ) -> dict[str, Any]:
        """Train and score.

        Returns:
            `rounds`; `cpu_seconds` of the training; `accuracy` of the honest clients' task on
            public images; `server`: what `ServersView.summary` returns; and, where there is an
            attacker: the report; `nearest`, as `nearest_of` returns it; and `by_round`: round ->
            mean distance of generated images to the nearest of the clients' ones of the target.
        """
        split, clock, view = self.split(), CpuTime(), ServersView()
        clients = self.clients(split, device)
        attack = self.attacker(split, device)
        everyone = [*([attack] if attack else []), *clients]
        watching: list[sl.Observer] = [*observers, clock, view]
        steps = self.steps * len(everyone)
        if attack:
            own = split.private.x[split.private.y == self.target].to(device)
            rounds = range(self.steps, 0, -max(1, self.steps // LOOKS))
            watching.append(Looks(attack, own, {n * len(everyone): n for n in rounds}))
        server = self.server(device)
        protocol = sl.Sequential(sl.u_shaped)
        sl.train(everyone, server, steps, protocol=protocol, observers=watching, **keeping)
        row: dict[str, Any] = {
            "rounds": self.steps,
            "cpu_seconds": clock.seconds,
            # The last client's f and tail are those that were trained last.
            "accuracy": sl.task_accuracy(clients[-1], server, split.public.to(device)),
            "server": view.summary(),
        }
        if attack is None:
            return row
        report = sl.evaluate(everyone, attack, split.referee, seed=self.seed).to_dict()
        looks = watching[-1]
        assert isinstance(looks, Looks)
        return report | row | self.scores(attack, split) | {"by_round": looks.distances}

    def scores(self, attack: sl.ClientGAN, split: sl.data.Split) -> dict[str, Any]:
        """Return the measurements of the generated images that the report does not have."""
        return {"nearest": nearest_of(attack, split)}

    def split(self) -> sl.data.Split:
        """Return the three parts of the data."""
        return self.setting.split(self.data, self.seed)

    def clients(self, split: sl.data.Split, device: Device) -> list[sl.Client]:
        """Return the honest clients, with about equally many images each."""
        nets, private = self.setting.nets, split.private
        of_tail = {"classes": len(private.classes) + 1, "size": private.shape[1]}
        rows = torch.arange(len(private))
        if self.at_one:
            rows = torch.cat([rows[private.y == self.target], rows[private.y != self.target]])
            parts = list(rows.chunk(self.honest))
        else:
            parts = [rows[k :: self.honest] for k in range(self.honest)]
        return [
            sl.Client(
                nets.strided_client(seed=self.seed),
                private.select(own),
                tail=nets.strided_tail(**of_tail, seed=self.seed),
                **self.setting.client(seed=self.seed + number, device=device),
                name=clinic(number),
            )
            for number, own in enumerate(parts)
        ]

    def server(self, device: Device) -> sl.HonestServer:
        """Return the server, which is honest."""
        optimizer: OptimizerFactory = self.setting.client_optimizer
        if self.server_optimizer.startswith("SGD"):
            optimizer = partial(SGD, lr=SERVER_SGD)
        if self.server_optimizer == "fresh Adam":
            optimizer = partial(FreshAdam, lr=self.setting.client_rate)
        net = self.setting.nets.strided_server(seed=self.seed)
        options: Any = {"optimizer": optimizer, "seed": self.seed, "device": device}
        if self.server_optimizer == "Adam per client":
            names = ["attacker", *map(clinic, range(self.honest))]
            return ServerOptimizerPerClient(net, names, **options)
        if self.server_optimizer in NORMALIZING:
            return NormalizingServer(net, above=NORMALIZING[self.server_optimizer], **options)
        return sl.HonestServer(net, **options)

    def attacker(self, split: sl.data.Split, device: Device) -> sl.ClientGAN | None:
        """Return the malicious client, if there is one."""
        if self.attack == "none":
            return None
        options: dict[str, Any] = {} if self.attack == "gan" else {"poison": None}
        if self.attack == "inversion":
            shape, size = split.private.shape, self.setting.batch_size
            options["generator"] = sl.nets.FreeImages(size, shape, seed=self.seed)
            options["generator_optimizer"] = partial(Adam, lr=PIXEL_RATE)
        return sl.ClientGAN.at(
            self.setting,
            split.private,
            target=self.target,
            scale=self.scale,
            seed=self.seed,
            device=device,
            **options,
        )


def clinic(number: int) -> str:
    """Return the name of an honest client."""
    return f"clinic {number}"


def kind_of_turn(client: sl.Client) -> str:
    """Return the kind of a client's turn that has just ended: "generator", "poison" or "honest"."""
    if not isinstance(client, sl.ClientGAN):
        return "honest"
    return "generator" if client.poison is None or client.step % 2 else "poison"


def distance(pictures: Tensor, real: Tensor) -> float:
    """Return the mean MSE of pictures (n, C, H, W) to the nearest of real images (m, C, H, W)."""
    return float(nearest_by_class(pictures, {0: real})[0].mean())


def nearest_of(attack: sl.ClientGAN, split: sl.data.Split) -> dict[str, dict[str, float]]:
    """Return distances to the nearest image of the target among two groups of equal size.

    The groups are images of the "clients" and of "strangers", which nobody trained on.

    Returns:
        Of the "generated" images, and of the referee's "real" ones, which are in neither group: the
        mean MSE by group.
    """
    made = attack.generate(500)
    groups = {"clients": split.private, "strangers": split.public, "real": split.referee}
    own = {name: part.x[part.y == attack.target].to(made.device) for name, part in groups.items()}
    real = own.pop("real")
    size = min(map(len, own.values()))
    return {
        name: {group: distance(pictures, x[:size]) for group, x in own.items()}
        for name, pictures in {"generated": made, "real": real}.items()
    }


def _weights(server: Any) -> Tensor:
    return parameters_to_vector(server.net.parameters()).detach().clone()
