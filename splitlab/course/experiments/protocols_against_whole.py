"""The other protocols against training the undivided network."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam

import splitlab as sl
from splitlab.core.randomness import Sampler
from splitlab.course.experiments.against_whole import largest_difference, train_on
from splitlab.course.experiments.base import Device, Experiment, Keeping

SGD_RATE = 0.05  # where a protocol is compared under plain SGD


@dataclass(frozen=True)
class ProtocolAgainstWhole(Experiment):
    """Another protocol against training the undivided network, in float64, from the same weights.

    Each of the clinics has an equal share of the private images. The undivided network learns from
    the batches that the clinics draw: from one after the other, or, beside SplitFed, from a round's
    batches joined into one.

    Attributes:
        protocol: "vanilla", "U-shaped", "labels at the server", "sequential", "through the server",
            "SplitFed v1" or "SplitFed v2".
        clinics: How many.
        optimizer: "Adam", "SGD" or "clipped Adam", on both sides.
        optimizer_state: Whether a sequential client hands on its optimizer's state.
        change: Of f: "" or "without BatchNorm".
    """

    protocol: str = "vanilla"
    clinics: int = 1
    optimizer: str = "Adam"
    optimizer_state: bool = True
    change: str = ""

    @property
    def config(self) -> dict[str, Any]:
        """Everything that determines the run."""
        return super().config | {
            "client_rate": self.rate,
            "protocol": self.protocol,
            "clinics": self.clinics,
            "optimizer": self.optimizer,
            "optimizer_state": self.optimizer_state,
            "change": self.change,
            "dtype": "float64",
        }

    @property
    def rate(self) -> float:
        """The learning rate, of both sides."""
        return SGD_RATE if self.optimizer == "SGD" else self.setting.client_rate

    def measure(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Unpack[Keeping]
    ) -> dict[str, Any]:
        """Train both ways.

        Returns:
            The largest absolute differences over all parameters and buffers (`difference`) and over
            the weights alone (`weights`); how far the weights of the undivided network moved at
            most (`moved`), and the `steps`.
        """
        if self.steps % self.clinics:
            raise ValueError(f"{self.steps} steps are not whole rounds of {self.clinics} clinics")
        split = self.setting.split(self.data, self.seed).private.to(device)
        size = len(split) // self.clinics
        shares = [split.select(torch.arange(n * size, (n + 1) * size)) for n in range(self.clinics)]
        net_f, net_s = self._nets(device)
        whole = copy.deepcopy(nn.Sequential(net_f, net_s))
        first = copy.deepcopy(whole.state_dict())

        clients = [self._client(n, share, device) for n, share in enumerate(shares)]
        u_shaped = self.protocol == "U-shaped"
        server: Any = sl.HonestServer(
            net_s[:-1] if u_shaped else net_s,
            optimizer=self._optimizer,
            labels=shares[0].y if self.protocol == "labels at the server" else None,
            device=device,
        )
        if self.protocol == "SplitFed v1":
            server = sl.ServerCopies(server, {client.name: size for client in clients})
        sl.train(
            clients, server, self.steps, protocol=self._protocol(), observers=observers, **keeping
        )
        last = clients[self.steps % self.clinics]  # whose turn it would be
        body = server.copies[last.name].net if self.protocol == "SplitFed v1" else server.net
        parts = nn.Sequential(*body, *last.tail) if last.tail is not None else body
        state = nn.Sequential(last.net, parts).state_dict()

        train_on(whole, self._batches(shares), self._optimizer)
        weights = [name for name, _ in whole.named_parameters()]
        one, other, start = (
            {name: s[name] for name in weights} for s in (state, whole.state_dict(), first)
        )
        return {
            "steps": self.steps,
            "difference": largest_difference(state, whole.state_dict()),
            "weights": largest_difference(one, other),
            "moved": largest_difference(other, start),
        }

    def _optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        kinds: dict[str, Any] = {"Adam": Adam, "SGD": SGD, "clipped Adam": ClippedAdam}
        return kinds[self.optimizer](parameters, lr=self.rate)

    def _nets(self, device: Device) -> tuple[nn.Module, nn.Sequential]:
        """f, which reads the float32 images, and s."""
        net_f = self.setting.client_net(seed=self.seed)
        if self.change == "without BatchNorm":
            net_f = without_norm(net_f)
        net_f = net_f.double().to(device)
        net_f.register_forward_pre_hook(lambda net, inputs: inputs[0].double())
        net_s: Any = self.setting.server_net(seed=self.seed).double().to(device)
        return net_f, net_s

    def _client(self, number: int, share: sl.ImageData, device: Device) -> sl.Client:
        net_f, net_s = self._nets(device)
        return sl.Client(
            net_f,
            share,
            optimizer=self._optimizer,
            batch_size=self.setting.batch_size,
            sends_index=self.protocol == "labels at the server",
            tail=net_s[-1:] if self.protocol == "U-shaped" else None,
            seed=self.seed,
            device=device,
            name=f"client {number}",
        )

    def _protocol(self) -> Any:
        through = self.protocol == "through the server"
        if through or self.protocol == "sequential":
            return sl.Sequential(optimizer_state=self.optimizer_state, through_server=through)
        if self.protocol.startswith("SplitFed"):
            return sl.SplitFed()
        return sl.u_shaped if self.protocol == "U-shaped" else sl.vanilla

    def _batches(self, shares: Sequence[sl.ImageData]) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches that the clients draw: of a SplitFed round together, else one by one."""
        size = self.setting.batch_size
        samplers = [
            Sampler(len(share), size, owner=f"client {number}", seed=self.seed)
            for number, share in enumerate(shares)
        ]
        for _ in range(self.steps // len(shares)):
            drawn = []
            for share, sampler in zip(shares, samplers, strict=True):
                rows = sampler.next().to(share.x.device)
                drawn.append((share.x[rows], share.y[rows]))
            if self.protocol.startswith("SplitFed"):
                x, y = zip(*drawn, strict=True)
                yield torch.cat(x), torch.cat(y)
            else:
                yield from drawn


class ClippedAdam(Adam):
    """Adam on gradients that are scaled down to a norm of 0.1, over all of its weights."""

    def step(self, closure: Any = None) -> Any:
        """Clip, and take a step."""
        nn.utils.clip_grad_norm_(self.param_groups[0]["params"], 0.1)
        return super().step(closure)


def without_norm(net: nn.Module) -> nn.Module:
    """The tiny f; its BatchNorm is in the first block."""
    net[0][1] = nn.Identity()
    return net
