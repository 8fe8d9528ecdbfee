"""Split training and training of the undivided network, and functions that compare them."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import torch
from torch import Tensor, nn

import splitlab as sl
from splitlab.core.party import OptimizerFactory
from splitlab.core.randomness import Sampler
from splitlab.course.experiments.base import CpuTime, Device, Experiment, Keeping
from splitlab.nets.evaluation import evaluating


@dataclass(frozen=True)
class SplitAgainstWhole(Experiment):
    """Vanilla split training against training the undivided network, from the same seeds.

    Both use the profile's client optimizer on either side of the cut, and float32.
    """

    @property
    def config(self) -> dict[str, Any]:
        """Everything that determines the run."""
        return super().config | {"server_rate": self.setting.client_rate, "dtype": "float32"}

    def measure(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Unpack[Keeping]
    ) -> dict[str, Any]:
        """Train both ways.

        Returns:
            `difference`, the largest absolute difference over all parameters and buffers;
            `accuracy` of the network trained split and `whole_accuracy` of the other, on the
            referee's part in evaluation mode; `bytes_per_step` over the wire, both directions;
            `steps`; and the `cpu_seconds` of the split training.
        """
        setting, seed = self.setting, self.seed
        split = setting.split(self.data, seed)
        net_f = setting.client_net(seed=seed).to(device)
        net_s = setting.server_net(seed=seed).to(device)
        both, whole = nn.Sequential(net_f, net_s), copy.deepcopy(nn.Sequential(net_f, net_s))
        client = sl.Client(net_f, split.private, **setting.client(seed=seed, device=device))
        server = sl.HonestServer(
            net_s, optimizer=setting.client_optimizer, seed=seed, device=device
        )
        clock, wiretap = CpuTime(), sl.Wiretap()
        watching = [*observers, clock, wiretap]
        sl.train([client], server, self.steps, observers=watching, **keeping)
        train_whole(
            whole,
            client.data,
            self.steps,
            optimizer=setting.client_optimizer,
            batch_size=setting.batch_size,
            seed=seed,
        )
        referee = split.referee
        assert referee is not None, "every split of this project's profiles but the paper's has one"
        return {
            "steps": client.step,
            "cpu_seconds": clock.seconds,
            "difference": largest_difference(both.state_dict(), whole.state_dict()),
            "accuracy": accuracy(both, referee.to(device)),
            "whole_accuracy": accuracy(whole, referee.to(device)),
            "bytes_per_step": wiretap.total // self.steps,
        }


def train_whole(
    net: nn.Module,
    data: sl.ImageData,
    steps: int,
    *,
    optimizer: OptimizerFactory,
    batch_size: int,
    seed: int,
) -> list[float]:
    """Train an undivided network on the same batches that a client with this seed draws.

    Args:
        net: (B, C, H, W) -> logits (B, K); trained in place, in the precision of its parameters.
        data: What the client would hold.
        steps: How many.
        optimizer: Makes the optimizer from the parameters.
        batch_size: The client's.
        seed: The client's.

    Returns:
        The loss of each step.
    """
    sampler = Sampler(len(data), batch_size, owner="client", seed=seed)
    rows = (sampler.next().to(data.x.device) for _ in range(steps))
    return train_on(net, ((data.x[r], data.y[r]) for r in rows), optimizer)


def train_on(
    net: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], optimizer: OptimizerFactory
) -> list[float]:
    """Train an undivided network on batches, one step each.

    Args:
        net: As in `train_whole`.
        batches: Images (B, C, H, W) and labels, int64, shape (B,).
        optimizer: As in `train_whole`.

    Returns:
        The loss of each step.
    """
    net.train()
    dtype = next(net.parameters()).dtype
    stepper = optimizer(net.parameters())
    losses = []
    for x, y in batches:
        loss = nn.functional.cross_entropy(net(x.to(dtype)), y)
        stepper.zero_grad()
        loss.backward()
        stepper.step()
        losses.append(loss.detach())
    return [float(loss) for loss in losses]


def largest_difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Return the largest absolute difference between two states of one network.

    Raises:
        ValueError: If they are states of different networks.
    """
    if one.keys() != other.keys():
        names = sorted(one.keys() ^ other.keys())
        raise ValueError(f"these are not states of one network: only one of them has {names[0]}")
    pairs = [(one[name].double(), other[name].double()) for name in one]
    # Not max(): it drops a nan that does not come first, and a nan is a difference.
    return float(torch.stack([(a - b).abs().max() for a, b in pairs]).max())


def accuracy(net: nn.Module, data: sl.ImageData) -> float:
    """Return the share of images that a network classifies correctly, in evaluation mode."""
    with evaluating(net):
        return float((net(data.x).argmax(1) == data.y).double().mean())
