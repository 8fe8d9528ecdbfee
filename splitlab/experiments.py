"""The experiments behind the recorded runs and the claims: whoever has the package can rerun them.

An experiment is one run, a function of its `config`. Experiments that differ by the seed alone are
of one kind: they share a table in `book/runs/` and a `run`, the name of the kind. Every seed will
do; those in `experiments()` are the recorded ones, and they chose no setting.
"""

from __future__ import annotations

import copy
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam

import splitlab as sl
from splitlab.parties import OptimizerFactory, evaluating
from splitlab.randomness import Sampler

DIGITS_SEEDS = tuple(range(100, 106))
SPLIT_SEEDS = tuple(range(100, 105))
METRICS_SEEDS = tuple(range(100, 110))
MNIST_SEEDS = (1, 2, 3)
SGD_RATE = 0.05  # where a protocol is compared under plain SGD
CPU_BUDGET = 600.0  # seconds, for the paper's own design at its own scale
SNAPSHOTS = 30

Device = torch.device | str


class CpuTime(sl.Observer):
    """Adds up the CPU seconds of a run, and ends it when they reach a budget.

    Args:
        budget: The most CPU seconds; None for any number.
    """

    def __init__(self, budget: float | None = None) -> None:
        self.budget, self.seconds = budget, 0.0

    def start(self, clients: Any, server: Any, steps: int) -> None:
        """Start the clock."""
        self.last = time.process_time()

    def step(self, step: int, client: Any, server: Any) -> None:
        """Add the time since the last step."""
        now = time.process_time()
        self.seconds, self.last = self.seconds + now - self.last, now
        if self.budget is not None and self.seconds > self.budget:
            raise TimeoutError

    def state_dict(self) -> dict[str, Any]:
        """Return the seconds so far."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned."""
        self.seconds, self.last = state["seconds"], time.process_time()


@dataclass(frozen=True)
class Experiment(ABC):
    """One run, and the row of a table that it gives.

    Attributes:
        table: The file in `book/runs/`, without its ending.
        run: The name of the kind of run, which rows with different seeds share.
        seed: Seeds split, networks and batches.
        steps: How many.
        data: The data set.
        profile: "tiny" or "paper".
    """

    table: str
    run: str
    seed: int
    steps: int
    data: str = "digits"
    profile: str = "tiny"

    @property
    def name(self) -> str:
        """The experiment's name in messages."""
        return f"{self.table}: {self.run}/{self.seed}" if self.run else self.table

    @property
    def setting(self) -> sl.settings.Setting:
        """The networks, sizes and rates of its profile."""
        return sl.PROFILES[self.profile]

    @property
    def config(self) -> dict[str, Any]:
        """What the run is a function of."""
        return {
            "profile": self.profile,
            "data": self.data,
            "seed": self.seed,
            "steps": self.steps,
            "cut": self.setting.cut,
            "batch_size": self.setting.batch_size,
            "client_rate": self.setting.client_rate,
        }

    @abstractmethod
    def measure(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Any
    ) -> dict[str, Any]:
        """Run the experiment and return its figures; arguments as in `row`."""

    def row(
        self, device: Device = "cpu", observers: Sequence[sl.Observer] = (), **keeping: Any
    ) -> dict[str, Any]:
        """Run the experiment and return its row: run, seed, config and figures.

        Args:
            device: Where to compute.
            observers: More observers of the training, such as a progress bar.
            keeping: `checkpoint` and `every`, as `train` takes them.
        """
        about = {"run": self.run, "seed": self.seed, "config": self.config}
        return about | self.measure(device, observers, **keeping)

    def make(
        self,
        device: Device = "cpu",
        observers: Sequence[sl.Observer] = (),
        *,
        folder: Path | None = None,
        **keeping: Any,
    ) -> dict[str, float]:
        """Run the experiment, record it, and return the scores worth printing.

        Args:
            device: As in `row`.
            observers: As in `row`.
            folder: Where to write; the default is the nearest `book/runs`.
            keeping: As in `row`.
        """
        row = self.row(device, observers, **keeping)
        sl.record.write_row(self.table, row, device=device, folder=folder)
        return row.get("received") or row.get("metrics") or _numbers(row)


@dataclass(frozen=True)
class Hijack(Experiment):
    """A hijack, or the same decoder behind an honest server, scored by the referee.

    Attributes:
        design: "fast" or "paper"; None for the honest server.
        rate: The client's learning rate; None for the profile's.
        budget: The most CPU seconds, where there is no GPU; None for any number.
    """

    design: sl.settings.Design | None = "fast"
    rate: float | None = None
    budget: float | None = None

    @property
    def config(self) -> dict[str, Any]:
        """What the run is a function of."""
        own = {"design": self.design, "cpu_budget": self.budget}
        rate = {"client_rate": self.rate} if self.rate else {}
        return super().config | own | rate

    def measure(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Any
    ) -> dict[str, Any]:
        """Train and score; return steps taken, CPU seconds of the training, and the report."""
        clock = CpuTime(self.budget if torch.device(device).type == "cpu" else None)
        received = sl.ReceivedError()
        # Rows at tiny scale keep no curve of each step, and looking takes time.
        curve = [received] if self.profile == "paper" else []
        client, attack, split, _ = self._train(device, [*observers, clock, *curve], **keeping)
        row: dict[str, Any] = {"steps": client.step, "cpu_seconds": clock.seconds}
        if curve:
            row["received_mse"] = [round(value, 4) for value in received.mse]
        return row | sl.evaluate(client, attack, split.referee).to_dict()

    def _train(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Any
    ) -> tuple[sl.Client, Any, sl.data.Split, sl.Log | None]:
        """Return client, attack, split and log; no log where the budget cut the run short."""
        setting, seed = self.setting, self.seed
        split = setting.split(self.data, seed)
        client = sl.Client(
            setting.client_net(seed=seed),
            split.private,
            **setting.client(seed=seed, rate=self.rate, device=device),
        )
        settings = setting.fsha(
            split.public, design=self.design or "fast", steps=self.steps, seed=seed
        )
        attack: Any = sl.FSHA(**settings, device=device)
        if self.design is None:
            attack = sl.NoHijack(
                setting.server_net(seed=seed),
                attack,
                optimizer=setting.client_optimizer,
                seed=seed,
                device=device,
            )
        log = None
        with suppress(TimeoutError):  # from CpuTime: the run is cut short on purpose
            log = sl.train(
                [client],
                attack,
                self.steps,
                observers=observers,
                autocast=setting.precision(device),
                **keeping,
            )
        return client, attack, split, log


@dataclass(frozen=True)
class WatchedHijack(Hijack):
    """A hijack with snapshots: a record of its own, which has no `run`."""

    def make(
        self,
        device: Device = "cpu",
        observers: Sequence[sl.Observer] = (),
        *,
        folder: Path | None = None,
        **keeping: Any,
    ) -> dict[str, float]:
        """Run the experiment, record it, and return the scores; arguments as in `Experiment`."""
        watched = sl.Snapshots(every=max(1, self.steps // SNAPSHOTS))
        client, attack, split, log = self._train(device, [*observers, watched], **keeping)
        assert log is not None, "a record of its own has no budget"
        report = sl.evaluate(client, attack, split.referee)
        sl.record.write(
            self.table,
            config=self.config,
            data={"private": split.private, "public": split.public},
            log=log,
            report=report,
            snapshots=watched,
            device=device,
            folder=folder,
        )
        return report.received or report.metrics


@dataclass(frozen=True)
class SplitAgainstWhole(Experiment):
    """Vanilla split training against training the undivided network, from the same seeds.

    Both use the profile's client optimizer on either side of the cut, and float32.
    """

    @property
    def config(self) -> dict[str, Any]:
        """What the run is a function of."""
        return super().config | {"server_rate": self.setting.client_rate, "dtype": "float32"}

    def measure(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Any
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


@dataclass(frozen=True)
class WithoutAttack(Experiment):
    """The figures of pictures that no attack made: floors, and private images in disguise.

    They say what a figure is worth. Nothing is trained but the referee's classifiers.

    Attributes:
        size: Side of the images in pixels.
        channels: 1, or 3 for colour.
        label: The attribute that is the label; "" for the label that the data set comes with.
    """

    size: int = 16
    channels: int = 1
    label: str = ""

    @property
    def config(self) -> dict[str, Any]:
        """What the figures are a function of."""
        return {
            "data": self.data,
            "size": self.size,
            "channels": self.channels,
            "label": self.label,
            "seed": self.seed,
        }

    def measure(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Any
    ) -> dict[str, Any]:
        """Score the pictures; nothing can be observed, or kept halfway.

        Returns:
            `n_match`; the referee's figures of each kind of picture (`pictures`) and of the real
            images (`other`); and the `cpu_seconds`.
        """
        started = time.process_time()
        whole = sl.settings.LOADERS[self.data](size=self.size, channels=self.channels).to(device)
        labelled = whole.labelled(self.label) if self.label else whole
        private, public, referee = labelled.split(self.seed)
        scorer = sl.Scorer(private, referee, seed=self.seed)
        pictures = {
            name: scorer.score(images) | scorer.further(images)
            for name, images in unattacked(scorer.images, public).items()
        }
        figures = {"n_match": len(scorer.images), "pictures": pictures, "other": scorer.real()}
        return figures | {"cpu_seconds": time.process_time() - started}


def unattacked(scored: sl.ImageData, public: sl.ImageData) -> dict[str, Tensor]:
    """Return pictures of private images that no attack made.

    Args:
        scored: The private images, n of them.
        public: The attacker's images.

    Returns:
        The floors by name ("mean_public", "class_mean_public", "nearest_public") and the private
        images in each of the disguises ("moved_by_a_pixel" and so on), each (n, C, H, W).
    """
    floors = {
        "mean_public": sl.baselines.mean_public(public, len(scored)),
        "class_mean_public": sl.baselines.class_mean_public(public, scored.y),
        "nearest_public": sl.baselines.nearest_public(scored.x, public.x),
    }
    disguised = {
        name.replace(" ", "_"): disguise(scored.x, scored.value_range)
        for name, disguise in sl.disguises.DISGUISES.items()
    }
    return floors | disguised


class ClippedAdam(Adam):
    """Adam on gradients that are scaled down to a norm of 0.1, over all weights that it sees."""

    def step(self, closure: Any = None) -> Any:
        """Clip, and take a step."""
        nn.utils.clip_grad_norm_(self.param_groups[0]["params"], 0.1)
        return super().step(closure)


def _as_is(net: nn.Module) -> nn.Module:
    return net


def _without_norm(net: nn.Module) -> nn.Module:
    """The tiny f; its BatchNorm is in the first block."""
    net[0][1] = nn.Identity()
    return net


def _with_dropout(net: nn.Module) -> nn.Module:
    return nn.Sequential(net, nn.Dropout(0.5))


@dataclass(frozen=True)
class ProtocolAgainstWhole(Experiment):
    """Another protocol against training the undivided network, in float64, from the same weights.

    Each of the clinics has an equal share of the private images. The undivided network learns from
    the very batches that the clinics draw: from one after the other, or, beside SplitFed, from a
    round's batches as one.

    Attributes:
        protocol: "vanilla", "U-shaped", "labels at the server", "sequential", "through the server",
            "SplitFed v1" or "SplitFed v2".
        clinics: How many.
        optimizer: "Adam", "SGD" or "clipped Adam", on both sides.
        optimizer_state: Whether a sequential client hands on its optimizer's state.
        change: Of f: "", "without BatchNorm", or "with Dropout".
    """

    protocol: str = "vanilla"
    clinics: int = 1
    optimizer: str = "Adam"
    optimizer_state: bool = True
    change: str = ""

    @property
    def config(self) -> dict[str, Any]:
        """What the run is a function of."""
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
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Any
    ) -> dict[str, Any]:
        """Train both ways.

        Returns:
            The largest absolute differences over all parameters and buffers (`difference`) and over
            the weights alone (`weights`); how far the weights of the undivided network moved at
            most (`moved`), and the `steps`.
        """
        if self.steps % self.clinics:
            raise ValueError(f"{self.steps} steps are no whole rounds of {self.clinics} clinics")
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

        with torch.random.fork_rng():  # for Dropout: one stream, where each client has its own
            torch.manual_seed(self.seed)
            _train_on(whole, self._batches(shares), self._optimizer)
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
        change = {"": _as_is, "without BatchNorm": _without_norm, "with Dropout": _with_dropout}
        net_f = change[self.change](self.setting.client_net(seed=self.seed)).double().to(device)
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


def train_whole(
    net: nn.Module,
    data: sl.ImageData,
    steps: int,
    *,
    optimizer: OptimizerFactory,
    batch_size: int,
    seed: int,
) -> list[float]:
    """Train an undivided network on the very batches that a client with this seed draws.

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
    return _train_on(net, ((data.x[r], data.y[r]) for r in rows), optimizer)


def _train_on(
    net: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], optimizer: OptimizerFactory
) -> list[float]:
    """Train an undivided network on batches of images and labels; return their losses."""
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
    """Return the share of images that a network classifies rightly, in evaluation mode."""
    with evaluating(net):
        return float((net(data.x).argmax(1) == data.y).double().mean())


# The kinds of `protocols_tiny`, in the order in which a table shows them: four that are whole
# training, one that is but for rounding, and those that are not.
PROTOCOLS: dict[str, dict[str, Any]] = {
    "U-shaped": {"protocol": "U-shaped"},
    "labels at the server": {"protocol": "labels at the server"},
    "in turn": {"protocol": "sequential", "clinics": 3},
    "in turn, through the server": {"protocol": "through the server", "clinics": 3},
    "SplitFed v1, SGD, no BatchNorm": {
        **{"protocol": "SplitFed v1", "clinics": 3},
        **{"optimizer": "SGD", "change": "without BatchNorm"},
    },
    "SplitFed v1, SGD": {"protocol": "SplitFed v1", "clinics": 3, "optimizer": "SGD"},
    "SplitFed v1": {"protocol": "SplitFed v1", "clinics": 3},
    "SplitFed v2": {"protocol": "SplitFed v2", "clinics": 3},
    "in turn, Adam's state stays": {
        **{"protocol": "sequential", "clinics": 3, "optimizer_state": False},
    },
    "in turn, with Dropout": {"protocol": "sequential", "clinics": 3, "change": "with Dropout"},
    "nothing handed on": {"protocol": "vanilla", "clinics": 3},
    "vanilla, norms clipped": {"protocol": "vanilla", "optimizer": "clipped Adam"},
}


@cache
def experiments() -> tuple[Experiment, ...]:
    """Return all recorded experiments, those worth most first."""
    digits: list[Experiment] = [WatchedHijack("hijack_digits", "", 0, 300)]
    digits += [SplitAgainstWhole("split_tiny", "vanilla", seed, 400) for seed in SPLIT_SEEDS]
    for name, options in PROTOCOLS.items():
        digits += [
            ProtocolAgainstWhole("protocols_tiny", name, seed, 30, **options)
            for seed in SPLIT_SEEDS
        ]
    for name, design, steps in (
        ("fast", "fast", 300),
        ("no hijack", None, 300),
        ("paper", "paper", 300),
        ("paper, ten times the steps", "paper", 3000),
    ):
        digits += [Hijack("digits_tiny", name, s, steps, design=design) for s in DIGITS_SEEDS]
    faces = {"data": "drawn_faces", "size": 32, "label": "glasses"}
    digits += [WithoutAttack("honest_metrics", "digits", s, 0) for s in METRICS_SEEDS]
    digits += [
        WithoutAttack("honest_metrics", "drawn faces", s, 0, **faces) for s in METRICS_SEEDS[:5]
    ]
    at_scale: Any = {"data": "mnist", "profile": "paper"}
    mnist: list[Experiment] = [WatchedHijack("hijack_mnist", "", 0, 240, **at_scale)]
    rate = sl.paper.client_rate
    for name, data in (("MNIST", "mnist"), ("Fashion-MNIST", "fashion_mnist")):
        own = {"data": data, "profile": "paper", "size": 32}
        mnist += [WithoutAttack("honest_metrics", name, s, 0, **own) for s in METRICS_SEEDS[:5]]
    for name, design, steps, client_rate, seeds in (
        ("fast", "fast", 240, rate, MNIST_SEEDS),
        ("fast, client rate 1e-05", "fast", 480, 1e-5, (1,)),
        ("paper, client rate 1e-05", "paper", sl.paper.paper_steps, 1e-5, (1,)),
        ("paper, client rate 0.0003", "paper", sl.paper.paper_steps, rate, (1,)),
    ):
        own = {"design": design, "rate": client_rate}
        own["budget"] = CPU_BUDGET if design == "paper" else None
        mnist += [Hijack("mnist_paper_scale", name, s, steps, **at_scale, **own) for s in seeds]
    return (*digits, *mnist)


def find(table: str, run: str, seed: int) -> Experiment:
    """Return the experiment of a kind with any seed, recorded or not.

    Raises:
        ValueError: If there is no such kind; names those of the table.
    """
    kinds = {(one.table, one.run): one for one in experiments()}
    if (table, run) not in kinds:
        of_table = [f"{t}/{r}" for t, r in kinds if t == table]
        known = of_table or sorted({t for t, r in kinds if r})
        raise ValueError(f"no experiment makes {table}/{run}: choose from {'; '.join(known)}")
    return replace(kinds[table, run], seed=seed)


def _numbers(row: dict[str, Any]) -> dict[str, float]:
    return {
        name: value
        for name, value in row.items()
        if isinstance(value, int | float) and name not in ("seed", "steps")
    }
