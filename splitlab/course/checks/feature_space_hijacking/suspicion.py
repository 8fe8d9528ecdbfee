"""How the open exercise of chapter 32 is scored: an alarm, compared with simple ones."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from splitlab import Client, HonestServer, Observer, Server, settings, train
from splitlab.attacks import FSHA
from splitlab.core.messages import Gradient, Message, SmashedData
from splitlab.core.tables import Table
from splitlab.course.checks.guard import CheckFailed, NotWrittenYet, secret, wrong
from splitlab.course.checks.scored import Answer, expect_number, scored
from splitlab.course.checks.verdict import Score


@scored(praise="your alarm keeps to the rules, and the table shows how well it works.", seconds=60)
def suspicion(answer: Answer) -> Score:
    """`suspicion(dz, labels)`: one number from one batch's gradient, higher for a hijack."""
    for what, dz, labels in _unusual_looks():
        try:
            first, second = (expect_number(answer(dz, labels), "the suspicion") for _ in range(2))
        except NotWrittenYet:
            raise
        except CheckFailed as error:
            raise CheckFailed(f"with {what}, {error}") from error
        if first != second:
            wrong(
                "suspicion gives another number for the same gradient the second time: it "
                "should depend on this gradient alone, without memory, counters or random "
                "numbers"
            )
    values = _values(answer)
    yours, reversed_ = _alarm(values), _alarm([-run for run in values])
    if yours.points < 5 and reversed_.points > 50:
        wrong(
            "suspicion is higher for honest servers than for the hijacks: reverse its sign, "
            "because the alarm rings when it is high"
        )
    rows = [("your alarm", *yours.row()), *_beside()]
    head = (
        "alarm",
        "alarms on hijacks, %",
        "first alarm, median step",
        "false alarms, per 1000",
        "points",
    )
    return Score(yours.points, Table(head, rows, caption=CAPTION, strong=0))


SETTING = settings.tiny
HONEST_STEPS, HIJACK_STEPS = 50, 30
IMAGES = 3  # in one look; a batch is dealt to as many watchers as there are such groups in it
CAPTION = (
    f"A look covers {IMAGES} images. The threshold is the largest suspicion on other honest runs. "
    "Points: alarms on hijacks in % minus false alarms per 1000 honest looks"
)
Look = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class _Run:
    """The gradients that the watchers of one training run see.

    Attributes:
        part: What the run is for: it sets the threshold, counts false alarms, or is to be caught.
        looks: (dz, labels) by step and watcher.
    """

    part: Literal["threshold", "honest", "hijack"]
    looks: list[list[Look]]


class _Watchers(Observer):
    """Splits every gradient and its labels into looks."""

    def __init__(self) -> None:
        self.looks: list[list[Look]] = []

    def message(self, message: Message) -> None:
        if isinstance(message, SmashedData):
            self.labels = message.labels.clone()
        elif isinstance(message, Gradient):
            pairs = zip(message.dz.clone().split(IMAGES), self.labels.split(IMAGES), strict=True)
            self.looks.append([(dz, labels) for dz, labels in pairs if len(dz) == IMAGES])


def _honest(public: Any, seed: int) -> Server:
    return HonestServer(SETTING.server_net(seed=seed), seed=seed)


def _always(factor: float, step: int) -> float:
    return factor


def _hijack(design: Literal["fast", "paper"], factor: float) -> Callable[[Any, int], Server]:
    def make(public: Any, seed: int) -> Server:
        scale = functools.partial(_always, factor)
        return FSHA.at(SETTING, public, design=design, gradient_scale=scale, seed=seed)

    return make


# One hijack as it is; and two that shrink their gradient to an honest one's size, which a client
# with Adam hardly notices.
SERVERS: dict[int, tuple[Literal["threshold", "honest", "hijack"], Callable[..., Server]]] = {
    101: ("threshold", _honest),
    102: ("threshold", _honest),
    103: ("threshold", _honest),
    104: ("honest", _honest),
    105: ("honest", _honest),
    106: ("hijack", _hijack("fast", 1.0)),
    107: ("hijack", _hijack("fast", 0.1)),
    108: ("hijack", _hijack("paper", 0.1)),
}


@secret
@functools.cache
def _runs() -> tuple[_Run, ...]:
    """The training runs behind the table, each with a split and a seed of its own."""
    runs = []
    for seed, (part, server) in SERVERS.items():
        private, public, _ = SETTING.split("digits", seed)
        client = Client(SETTING.client_net(seed=seed), private, **SETTING.client(seed=seed))
        watchers = _Watchers()
        steps = HIJACK_STEPS if part == "hijack" else HONEST_STEPS
        train([client], server(public, seed), steps, observers=[watchers])
        runs.append(_Run(part, watchers.looks))
    return tuple(runs)


def _values(alarm: Callable[[Tensor, Tensor], Any]) -> list[Tensor]:
    """Return the suspicion of every look, for each run (steps, watchers).

    The looks come in a shuffled order, all runs mixed: counting or remembering calls helps nobody.
    """
    runs = _runs()
    values = [torch.empty(len(r.looks), len(r.looks[0]), dtype=torch.float64) for r in runs]
    places = [
        (n, *place)
        for n, of_run in enumerate(values)
        for place in torch.ones_like(of_run).nonzero().tolist()
    ]
    generator = torch.Generator().manual_seed(1)
    for number in torch.randperm(len(places), generator=generator).tolist():
        run, step, watcher = places[number]
        dz, labels = runs[run].looks[step][watcher]
        value = expect_number(alarm(dz.clone(), labels.clone()), "the suspicion")
        values[run][step, watcher] = value
    return values


@dataclass(frozen=True)
class _Alarm:
    """The performance of an alarm.

    Attributes:
        rings: Of 100 looks at a hijack.
        first: Median, over hijacks and watchers, of the first step with a ring; from 1.
        false: Rings of 1000 looks at honest servers that did not set the threshold.
    """

    rings: float
    first: float
    false: float

    @property
    def points(self) -> float:
        return self.rings - self.false

    def row(self) -> tuple[float, str, float, float]:
        first = f"{self.first:g}" if math.isfinite(self.first) else "never"
        return self.rings, first, self.false, self.points


def _alarm(values: list[Tensor]) -> _Alarm:
    runs = _runs()

    def of(part: str) -> list[Tensor]:
        return [value for value, run in zip(values, runs, strict=True) if run.part == part]

    threshold = max(value.max() for value in of("threshold"))
    rings = [value > threshold for value in of("hijack")]
    false = [value > threshold for value in of("honest")]
    firsts = [
        rung.index(True) + 1 if any(rung) else math.inf
        for ring in rings
        for rung in ring.T.tolist()
    ]
    return _Alarm(
        100 * torch.cat(rings).double().mean().item(),
        statistics.median(firsts),
        1000 * torch.cat(false).double().mean().item(),
    )


def _cosines(dz: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines between the gradients of images with one label, and with different labels."""
    directions = F.normalize(dz.flatten(1))
    cosine = directions @ directions.T
    same_label = labels[:, None] == labels[None]
    pair = ~torch.eye(len(labels), dtype=torch.bool)
    return cosine[same_label & pair], cosine[~same_label]


def _gap(dz: Tensor, labels: Tensor) -> Tensor:
    """Gradient scrutiny's idea (Fu et al., NDSS 2023): labels should matter for the direction."""
    one, other = _cosines(dz, labels)
    return (other.mean() if len(other) else 0.0) - (one.mean() if len(one) else torch.tensor(0.0))


def _reference(dz: Tensor, labels: Tensor) -> Tensor:
    _, other = _cosines(dz, labels)
    return other.mean() if len(other) else torch.tensor(-1.0)


@functools.cache
def _beside() -> tuple[tuple[Any, ...], ...]:
    """The rows that the answer is compared with."""
    alarms: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "gradient norm, if large": lambda dz, labels: dz.norm(),
        "gradient norm, if small": lambda dz, labels: -dz.norm(),
        "gradient scrutiny: gap of cosines": _gap,
        "reference solution": _reference,
    }
    return tuple((name, *_alarm(_values(alarm)).row()) for name, alarm in alarms.items())


def _unusual_looks() -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield (description, dz, labels) of unusual batches that a real client can meet."""
    yield "a batch of 32", torch.randn(32, 32, 4, 4), torch.randint(10, (32,))
    yield "images with different labels", torch.randn(3, 4, 2, 2), torch.tensor([1, 7, 0])
    yield "images that all have one label", torch.randn(3, 4, 2, 2), torch.tensor([7, 7, 7])
    yield "a batch of one image", torch.randn(1, 4, 2, 2), torch.tensor([3])
    yield "a z without positions", torch.randn(5, 6), torch.tensor([2, 2, 3, 4, 4])
    learned = torch.randn(4, 3, 2, 2)
    learned[1] = 0
    yield "an image whose gradient is 0", learned, torch.tensor([5, 5, 1, 1])
    yield "a gradient of 0", torch.zeros(4, 3, 2, 2), torch.tensor([5, 5, 1, 1])
