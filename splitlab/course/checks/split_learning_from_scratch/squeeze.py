"""How the open exercise of chapter 11 is scored: bytes, the restored share of z, and accuracy.

The answer's `squeeze()` returns two functions. `pack(z)` makes the message at the client, and
`unpack(message, shape)` restores z at the server. Nothing else may link the two.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Adam

from splitlab import data, nets
from splitlab.core.randomness import Sampler
from splitlab.core.tables import Table
from splitlab.course.checks.guard import CheckFailed, secret, wrong
from splitlab.course.checks.scored import Answer, expect_tensor, scored
from splitlab.course.checks.sight import PLAIN, same, what
from splitlab.course.checks.verdict import Score, seed_all
from splitlab.data import Split
from splitlab.nets.evaluation import evaluating

CUT = 1  # z is (B, 8, 8, 8) there, and never below 0
IMAGES = 32  # in a batch
RATE = 3e-3
STEPS = 100
SCORED = (80, 90, 100)  # steps after which the accuracy is taken
SEEDS = (2, 3)
MAY_LOSE = 0.02  # of the accuracy that float32 reaches
MAY_MISS = 0.99  # of the variance of z, which is what its mean alone misses
HEADER = 8  # bytes for each tensor, and for each of its dimensions
CAPTION = (
    f"{STEPS} steps of {IMAGES} images, {len(SEEDS)} times. The score is times smaller x z "
    f"restored, and none where the accuracy is more than {MAY_LOSE} below float32's."
)

Message = Tensor | tuple[Tensor, ...]
Function = Callable[..., Any]


@scored(
    praise="your two functions use the wire alone, and the table shows what they save.", seconds=60
)
def squeeze(answer: Answer) -> Score:
    """`squeeze()`: two functions, `pack(z)` for the client and `unpack(message, shape)`.

    The value is bytes of float32 / bytes, times the part of z's variance that is restored; 0 if the
    accuracy is more than `MAY_LOSE` below float32's.
    """
    yours = _measure("yours", _checked(answer))
    figures = [*map(_baseline, BASELINES), yours]
    rows = [figure.row(figures[0]) for figure in figures]
    head = ["what crosses", "bytes a step", "times smaller", "z restored", "accuracy", "score"]
    return Score(yours.score(figures[0]), Table(head, rows, caption=CAPTION, strong=len(rows) - 1))


class _Codec:
    """pack at the client, unpack at the server, with separate random numbers.

    One stream for both would be a way around the message: what the client seeds, the server draws.
    """

    def __init__(self, pack: Function, unpack: Function) -> None:
        self.pack, self.unpack = pack, unpack
        self.calls = itertools.count()

    def send(self, z: Tensor) -> Message:
        seed_all(next(self.calls))
        return _delivered(self.pack(z.detach().clone()))

    def restore(self, message: Message, shape: torch.Size) -> Tensor:
        seed_all(0)
        restored = self.unpack(_delivered(message), shape)
        restored = expect_tensor(restored, "the z that unpack restores", shape)
        return restored.detach().to(torch.float32, copy=True)


def _parts(answer: Answer) -> list[Function]:
    """Call squeeze as on a separate computer: pack and unpack, for the guard to run."""
    parts = answer()
    if not isinstance(parts, tuple | list) or len(parts) != 2 or not all(map(callable, parts)):
        wrong(
            f"squeeze returns {what(parts)} where two functions are expected: end it with "
            "`return pack, unpack`"
        )
    return [functools.partial(answer.guard.run, part) for part in parts]


def _delivered(message: Any) -> Message:
    """Return copies of the tensors that pack returned, with their numbers alone."""
    several = isinstance(message, tuple | list)
    copies = []
    for tensor in message if several else [message]:
        if not isinstance(tensor, Tensor):
            wrong(
                f"only tensors cross, and there is {what(tensor)} in what pack returns: make it a "
                "tensor, so that its bytes count; the server knows the shape of z anyway"
            )
        if (
            type(tensor) not in PLAIN
            or tensor.layout is not torch.strided
            or tensor.is_quantized
            or any(getattr(tensor, "names", ()))  # older versions of torch have them
        ):
            wrong(
                "only plain tensors cross: one that is sparse, quantized, named, or of a class of "
                "its own hides something that counts"
            )
        copies.append(tensor.detach().clone(memory_format=torch.contiguous_format))
    return tuple(copies) if several else copies[0]


def _nbytes(message: Message) -> int:
    """Bytes that cross. A shape can carry information, too, so it counts."""
    return sum(
        tensor.nbytes + HEADER * (1 + tensor.dim())
        for tensor in (message if isinstance(message, tuple) else (message,))
    )


def _checked(answer: Answer) -> _Codec:
    """Return the answer on two computers, after checking that unpack knows only the message.

    Raises:
        CheckFailed: If it is not.
    """
    pack, beside = _parts(answer)
    together, codec = _Codec(pack, beside), _Codec(pack, _parts(answer)[1])
    sent = []
    some, other = torch.rand(4, 8, 8, 8).square(), torch.rand(1, 8, 8, 8).square()
    some[:, 2] = 0  # a dead channel
    for z in (some, other, 3 * some):  # the last is told from the first by its scale alone
        message = codec.send(z)
        restored = together.restore(message, z.shape)
        sent.append((message, restored))
        _expect_again(
            codec,
            *sent[-1],
            "unpack works beside pack, but not on a computer of its own: there it has the message, "
            "but no variable that pack has set",
        )
    for message, restored in reversed(sent):
        _expect_again(
            codec,
            message,
            restored,
            "unpack makes a different z of the same message later on: each message must be enough "
            "by itself, whatever was sent in between",
        )
    z = torch.rand(IMAGES, 8, 8, 8)
    message = codec.send(z)
    error = (codec.restore(message, z.shape) - z).square().mean().item()
    if error < 0.9 * _least_error(_nbytes(message) * 8 / z.numel()):
        wrong(
            f"unpack knows more of z than {_nbytes(message):,} bytes can say, so something goes "
            "around the message, such as a variable, a file or an object in memory: the server's "
            "computer has none of them, so put what it needs into the message"
        )
    return codec


def _expect_again(codec: _Codec, message: Message, z: Tensor, otherwise: str) -> None:
    """Check that a message still gives the same z.

    Raises:
        CheckFailed: If it does not.
    """
    try:
        alike, why = same(codec.restore(message, z.shape), z, 1e-5), ""
    except CheckFailed as failure:
        alike, why = False, f" ({failure})"
    if not alike:
        wrong(f"{otherwise}{why}")


def _least_error(bits: float) -> float:
    """Shannon's lower bound of the mean squared error of uniform numbers, at so many bits each.

    It holds for real numbers; those of float32 are few enough to be sent without any error.
    """
    return 2 ** (-2 * bits) / (2 * math.pi * math.e) if bits < 20 else 0.0


@dataclass(frozen=True)
class _Figures:
    """Costs and results of one way of sending z, means over the training steps.

    Attributes:
        name: As in the table.
        nbytes: Bytes of smashed data a step.
        restored: 1 - mean squared error / variance of z.
        accuracy: On images that were not trained on, 0 to 1.
    """

    name: str
    nbytes: int
    restored: float
    accuracy: float

    def score(self, whole: _Figures) -> float:
        if self.accuracy < whole.accuracy - MAY_LOSE:
            return 0.0
        return whole.nbytes / self.nbytes * self.restored

    def row(self, whole: _Figures) -> list[Any]:
        smaller, score = whole.nbytes / self.nbytes, self.score(whole) or "none"
        return [self.name, f"{self.nbytes:,}", smaller, self.restored, self.accuracy, score]


def _measure(name: str, codec: _Codec) -> _Figures:
    runs = [figures for seed in SEEDS for figures in _train(codec, seed)]
    nbytes, restored, accuracy = torch.tensor(runs, dtype=torch.float64).nanmean(0).tolist()
    return _Figures(name, round(nbytes), restored, accuracy)


@secret
def _train(codec: _Codec, seed: int) -> list[tuple[float, float, float]]:
    """Train f and s on squeezed z; return bytes, part restored, and accuracy (or nan), by step.

    The server differentiates with respect to the z that it restored; the client takes that dz as if
    it were the gradient with respect to the z that it had (a straight-through estimate).
    """
    private, public, referee = _split(seed)
    x, y = torch.cat([public.x, referee.x]), torch.cat([public.y, referee.y])
    f, s = nets.tiny.client(cut=CUT, seed=seed), nets.tiny.server(cut=CUT, seed=seed)
    optimizers = [Adam(net.parameters(), lr=RATE) for net in (f, s)]
    sampler = Sampler(len(private), IMAGES, owner="client", seed=seed)
    figures = []
    for step in range(1, STEPS + 1):
        rows = sampler.next()
        z = f(private.x[rows])
        message = codec.send(z)
        restored = codec.restore(message, z.shape).requires_grad_()
        error = ((restored - z).square().mean() / z.var(correction=0)).item()
        if error > MAY_MISS:
            wrong(
                "what unpack restores is no nearer to z than the mean of z would be: it should "
                "undo what pack did, scale and order included"
            )
        for optimizer in optimizers:
            optimizer.zero_grad()
        F.cross_entropy(s(restored), private.y[rows]).backward()
        z.backward(restored.grad)
        for optimizer in optimizers:
            optimizer.step()
        accuracy = math.nan
        if step in SCORED:
            with evaluating(f, s):
                z = f(x)
                classes = s(codec.restore(codec.send(z), z.shape)).argmax(1)
            accuracy = (classes == y).double().mean().item()
        figures.append((_nbytes(message), 1 - error, accuracy))
    return figures


@functools.cache
def _split(seed: int) -> Split:
    return data.digits().split(seed)


@functools.cache
def _baseline(name: str) -> _Figures:
    return _measure(name, _Codec(*BASELINES[name]))


def _evenly(bits: int) -> tuple[Function, Function]:
    """Round to 2**bits evenly spaced values, from 0 to the largest number of the batch."""
    top = 2**bits - 1

    def pack(z: Tensor) -> tuple[Tensor, Tensor]:
        largest = z.amax()
        return _bits((z / largest * top).round(), bits), largest

    def unpack(message: tuple[Tensor, Tensor], shape: torch.Size) -> Tensor:
        packed, largest = message
        return _numbers(packed, bits, shape) * largest / top

    return pack, unpack


def _sign() -> tuple[Function, Function]:
    """Send for each number whether it is above 0, and once the mean of the positive ones."""

    def pack(z: Tensor) -> tuple[Tensor, Tensor]:
        return _bits(z > 0, 1), z[z > 0].mean()

    def unpack(message: tuple[Tensor, Tensor], shape: torch.Size) -> Tensor:
        packed, mean = message
        return _numbers(packed, 1, shape) * mean

    return pack, unpack


def _bits(numbers: Tensor, bits: int) -> Tensor:
    """Return whole numbers below 2**bits as bytes, with no bit unused."""
    planes = torch.stack([numbers.to(torch.uint8) >> bit & 1 for bit in range(bits)])
    return torch.from_numpy(np.packbits(planes.numpy()))


def _numbers(packed: Tensor, bits: int, shape: torch.Size) -> Tensor:
    """Undo `_bits`."""
    planes = np.unpackbits(packed.numpy(), count=bits * shape.numel()).reshape(bits, *shape)
    return sum(torch.from_numpy(plane).float() * 2**bit for bit, plane in enumerate(planes))


BASELINES = {
    "float32": (lambda z: z, lambda message, shape: message),
    "8 bits": _evenly(8),
    "2 bits": _evenly(2),
    "sign only": _sign(),
}
