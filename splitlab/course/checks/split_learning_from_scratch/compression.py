"""How the open exercise of chapter 11 is scored: bytes, what is restored of z, and accuracy.

The student's `squeeze()` returns two functions. `pack(z)` makes the message at the client, and
`unpack(message, shape)` restores z at the server. Nothing else may link the two.
"""

from __future__ import annotations

import builtins
import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam

from splitlab import data, nets
from splitlab.core.randomness import RandomState, Sampler
from splitlab.core.tables import Table
from splitlab.course.checks.base import (
    Answer,
    CheckFailed,
    Score,
    check,
    expect_tensor,
    same,
    what,
    wrong,
)
from splitlab.data import Split
from splitlab.nets.evaluation import evaluating

CUT = 1  # z is (B, 8, 8, 8) there, and never below 0
IMAGES = 32  # in a batch
RATE = 3e-3
STEPS = 120
SCORED = (100, 110, 120)  # steps after which the accuracy is taken
SEEDS = (2, 3)
MAY_LOSE = 0.02  # of the accuracy that float32 reaches
MAY_MISS = 0.99  # of the variance of z, which is what its mean alone misses
HEADER = 8  # bytes for each tensor, and for each of its dimensions

Message = Tensor | tuple[Tensor, ...]
Function = Callable[..., Any]


@check()
def squeeze(answer: Answer) -> Score:
    """`squeeze()`: two functions, `pack(z)` for the client and `unpack(message, shape)`."""
    return score(answer)


def score(answer: Answer) -> Score:
    """Train with the student's pack and unpack, and with simple ones.

    Args:
        answer: The student's `squeeze`.

    Returns:
        Value: bytes of float32 / bytes, times the part of z's variance that is restored; 0 if the
        accuracy is more than `MAY_LOSE` below float32's.

    Raises:
        CheckFailed: If the functions keep to no wire.
    """
    if not isinstance(answer.function, FunctionType):
        wrong("squeeze should be a function that is written with def")
    _check_apart(answer)
    yours = _measure("yours", lambda: _Codec(_parts(answer)[0], _far_unpack(answer)))
    figures = [*(_baseline(name) for name in BASELINES), yours]
    whole = figures[0]
    rows = [
        [
            each.name,
            f"{each.nbytes:,}",
            whole.nbytes / each.nbytes,
            each.restored,
            each.accuracy,
            each.score(whole) or "none",
        ]
        for each in figures
    ]
    table = Table(
        ["what crosses", "bytes a step", "times smaller", "z restored", "accuracy", "score"],
        rows,
        caption=(
            f"{STEPS} steps of {IMAGES} images, {len(SEEDS)} times. The score is times smaller x z "
            f"restored, and none where the accuracy is more than {MAY_LOSE} below float32's."
        ),
        strong=len(rows) - 1,
    )
    return Score(yours.score(whole), table)


# --- The two functions, and the wire between them ---------------------------------------------


class _Codec:
    """pack at the client and unpack at the server, each with random numbers of its own.

    One stream for both would be a way around the message: what the client seeds, the server draws.
    """

    def __init__(self, pack: Function, unpack: Function) -> None:
        self.pack, self.unpack = pack, unpack
        self.client, self.server = RandomState("client", 0), RandomState("server", 0)

    def send(self, z: Tensor) -> Message:
        with self.client.lent():
            return _delivered(self.pack(z.detach().clone()))

    def restore(self, message: Message, shape: torch.Size) -> Tensor:
        with self.server.lent():
            restored = self.unpack(_delivered(message), shape)
        restored = expect_tensor(restored, "the z that unpack restores", shape)
        return restored.detach().to(torch.float32).clone()


def _delivered(message: Any) -> Message:
    """Return copies of the tensors that pack returned: numbers in order, and nothing else."""
    for tensor in _tensors(message):
        if not isinstance(tensor, Tensor):
            wrong(
                f"only tensors cross, and there is {what(tensor)} in what pack returns: make it a "
                "tensor, so that its bytes count; the server knows the shape of z anyway"
            )
        if tensor.layout is not torch.strided or tensor.is_quantized:
            wrong("only plain tensors cross: a sparse or quantized one hides numbers that count")
    copies = tuple(
        tensor.detach().clone(memory_format=torch.contiguous_format) for tensor in _tensors(message)
    )
    return copies[0] if isinstance(message, Tensor) else copies


def _tensors(message: Any) -> tuple[Any, ...]:
    return tuple(message) if isinstance(message, tuple | list) else (message,)


def _nbytes(message: Message) -> int:
    """Bytes that cross. A shape can say something, too, so it is paid for."""
    return sum(
        tensor.numel() * tensor.element_size() + HEADER * (1 + tensor.dim())
        for tensor in _tensors(message)
    )


# --- Two computers ----------------------------------------------------------------------------


def _parts(answer: Answer) -> tuple[Answer, Answer]:
    """Call squeeze, and return pack and unpack."""
    parts = answer()
    if not isinstance(parts, tuple | list) or len(parts) != 2 or not all(map(callable, parts)):
        wrong(
            f"squeeze returns {what(parts)} where two functions are expected: end it with "
            "`return pack, unpack`"
        )
    return Answer(parts[0], "pack"), Answer(parts[1], "unpack")


def _far_unpack(answer: Answer) -> Answer:
    """Return unpack as it is on a computer that shares no variable with the client's."""
    return _parts(Answer(_elsewhere(answer.function), answer.name))[1]


def _check_apart(answer: Answer) -> None:
    """Check that unpack does with a message what it does beside pack, and does it again later."""
    far = _far_unpack(answer)
    pack, unpack = _parts(answer)
    together, apart = _Codec(pack, unpack), _Codec(pack, far)
    sent = []
    for size in (4, 1, 4):
        z = torch.rand(size, 8, 8, 8).square()
        z[:, 2] = 0  # a dead channel
        message = together.send(z)
        restored = together.restore(message, z.shape)
        try:
            alone, why = apart.restore(message, z.shape), ""
        except CheckFailed as failure:
            alone, why = None, f" ({failure})"
        if alone is None or not same(alone, restored, 1e-5):
            wrong(
                "unpack works beside pack, but not on a computer of its own: there it has the "
                f"message, but no variable that pack has set{why}"
            )
        sent.append((message, z.shape, alone))
    for message, shape, before in reversed(sent):
        if not same(apart.restore(message, shape), before, 1e-5):
            wrong(
                "unpack makes a different z of the same message later on: each message must be "
                "enough by itself, whatever was sent or drawn in between"
            )


def _elsewhere(function: FunctionType) -> FunctionType:
    """Return the function as another computer would have it: with copies of what it refers to.

    So no variable of the notebook, closure or default is a way around the message. It is a guard
    against mistakes, not a sandbox: Python offers other ways.
    """
    world: dict[str, Any] = {"__builtins__": builtins}

    def moved(value: Any) -> Any:
        if isinstance(value, FunctionType) and value.__globals__ is function.__globals__:
            return moved_function(value)
        if isinstance(value, FunctionType | ModuleType | type):
            return value  # a library's
        try:
            return copy.deepcopy(value)
        except Exception:  # what cannot be copied stays shared
            return value

    def moved_function(value: FunctionType) -> FunctionType:
        for name in _names(value.__code__):
            if name in value.__globals__ and name not in world:
                world[name] = None  # on its way: two functions may call each other
                world[name] = moved(value.__globals__[name])
        cells = tuple(CellType(moved(cell.cell_contents)) for cell in value.__closure__ or ())
        made = FunctionType(value.__code__, world, value.__name__, moved(value.__defaults__), cells)
        made.__kwdefaults__ = moved(value.__kwdefaults__)
        return made

    return moved_function(function)


def _names(code: CodeType) -> set[str]:
    """Names that the code, and that of the functions inside it, may look up."""
    inside = [_names(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return set(code.co_names).union(*inside)


# --- Figures ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Figures:
    """What one way of sending z costs and brings.

    Attributes:
        name: As in the table.
        nbytes: Bytes of smashed data a step.
        restored: 1 - mean squared error / variance, on the z of a trained client.
        accuracy: On images that were not trained on, mean over the seeds; 0 to 1.
    """

    name: str
    nbytes: int
    restored: float
    accuracy: float

    def score(self, whole: _Figures) -> float:
        if self.accuracy < whole.accuracy - MAY_LOSE:
            return 0.0
        return whole.nbytes / self.nbytes * self.restored


def _measure(name: str, make: Callable[[], _Codec]) -> _Figures:
    z, codec = _usual_z(), make()
    message = codec.send(z)
    error = (codec.restore(message, z.shape) - z).square().mean() / z.var(correction=0)
    if error > MAY_MISS:
        wrong(
            "what unpack restores is no nearer to z than the mean of z would be: it should undo "
            "what pack did, scale and order included"
        )
    accuracy = sum(_accuracy(make(), seed) for seed in SEEDS) / len(SEEDS)
    return _Figures(name, _nbytes(message), 1 - error.item(), accuracy)


def _accuracy(codec: _Codec, seed: int) -> float:
    """Train f and s on squeezed z, and return the mean accuracy over the last steps.

    The server differentiates with respect to the z that it restored; the client takes that dz as if
    it were the gradient with respect to the z that it had (a straight-through estimate).
    """
    private, public, referee = _split(seed)
    x, y = torch.cat([public.x, referee.x]), torch.cat([public.y, referee.y])
    f, s = nets.tiny.client(cut=CUT, seed=seed), nets.tiny.server(cut=CUT, seed=seed)
    optimizers = [Adam(net.parameters(), lr=RATE) for net in (f, s)]
    sampler = Sampler(len(private), IMAGES, owner="client", seed=seed)
    accuracies = []
    for step in range(1, STEPS + 1):
        rows = sampler.next()
        z = f(private.x[rows])
        restored = codec.restore(codec.send(z), z.shape).requires_grad_()
        for optimizer in optimizers:
            optimizer.zero_grad()
        F.cross_entropy(s(restored), private.y[rows]).backward()
        z.backward(restored.grad)
        for optimizer in optimizers:
            optimizer.step()
        if step in SCORED:
            with evaluating(f, s):
                z = f(x)
                classes = s(codec.restore(codec.send(z), z.shape)).argmax(1)
            accuracies.append((classes == y).double().mean().item())
    return sum(accuracies) / len(accuracies)


@functools.cache
def _usual_z() -> Tensor:
    """A batch of z from a client that was trained with nothing squeezed."""
    private = _split(SEEDS[0]).private
    net = nn.Sequential(nets.tiny.client(cut=CUT), nets.tiny.server(cut=CUT))
    optimizer = Adam(net.parameters(), lr=RATE)
    sampler = Sampler(len(private), IMAGES, owner="client", seed=0)
    for _ in range(STEPS):
        rows = sampler.next()
        optimizer.zero_grad()
        F.cross_entropy(net(private.x[rows]), private.y[rows]).backward()
        optimizer.step()
    return net[0](private.x[sampler.next()]).detach()


@functools.cache
def _split(seed: int) -> Split:
    return data.digits().split(seed)


# --- Simple ways ------------------------------------------------------------------------------


@functools.cache
def _baseline(name: str) -> _Figures:
    return _measure(name, lambda: _Codec(*BASELINES[name]))


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
    """Say of each number whether it is above 0, and once the mean of those that are."""

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
    "float16": (lambda z: z.half(), lambda message, shape: message.float()),
    "8 bits": _evenly(8),
    "2 bits": _evenly(2),
    "sign only": _sign(),
}
