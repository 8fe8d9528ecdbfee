"""Exercise 5, open: a pilot whose z looks like no image.

The student's `make_pilot(public)` returns a pilot and its inverse. What the score looks at is what
a client could look at first: whether a channel of z is a small copy of the image.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from splitlab import Client, HonestServer, data, nets, settings, train
from splitlab.core.tables import Table
from splitlab.course.checks.base import Answer, Score, check, expect_tensor, same, what, wrong
from splitlab.data import ImageData
from splitlab.referee import metrics

Map = Callable[[Tensor], Tensor]
Make = Callable[[Tensor], tuple[Map, Map]]  # public images -> (pilot, decoder)

SETTING = settings.tiny
Z_SHAPE = nets.tiny.Z_SHAPE[2]  # 32 channels at 4x4 positions
PATCH = 4
SEEDS = (71, 72, 73)  # of the splits, the honest clients and the noise
STEPS = 100  # that a client is trained honestly
EXACT = 1e-5  # root mean square error of an image that was coded and decoded
NOISE = 0.1  # of z's standard deviation
MUST_EXPLAIN = 0.95  # of the images' variance, from z with that noise
LIVELY = 0.1  # the least standard deviation of a channel, as a part of z's
USUAL_SIZE = (0.1, 10.0)  # of z's standard deviation


@check()
def make_pilot(answer: Answer) -> Score:
    """`make_pilot(public)`: (pilot, decoder), images (B, 1, 16, 16) to z (B, 32, 4, 4) and back."""
    yours = _measure("yours", _checked(answer))
    if yours.explained < MUST_EXPLAIN:
        wrong(
            f"with noise of {NOISE:g} of its standard deviation on z the decoder explains only "
            f"{yours.explained:.2f} of the images' variance, and {MUST_EXPLAIN:g} is the least: f "
            "comes near to the pilot's z and no nearer, so nothing in z may be a whisper"
        )
    figures = [*_beside(), yours]
    table = Table(
        ["whose z", "largest correlation", "all channels", "weakest channel", "explained", "score"],
        [each.row() for each in figures],
        caption=(
            "Of any channel with the image at 4x4 pixels, over the private digits of "
            f"{len(SEEDS)} splits; all channels: the correlation of their best linear mixture. "
            "Weakest channel: its standard deviation, as a part of z's. Explained: the part of the "
            f"images' variance that comes out of z with noise of {NOISE:g} of its standard "
            "deviation. The score is 1 minus the largest correlation."
        ),
        strong=len(figures) - 1,
    )
    return Score(yours.score, table)


@dataclass(frozen=True)
class _Figures:
    """What z shows, means over the splits.

    Attributes:
        name: As in the table.
        largest: The largest absolute correlation of a channel with the small image.
        together: The correlation of the best linear mixture of all channels.
        weakest: The least standard deviation of a channel, as a part of z's.
        explained: What the decoder explains behind noise; None where there is no decoder.
    """

    name: str
    largest: float
    together: float
    weakest: float
    explained: float | None

    @property
    def score(self) -> float:
        return round(1 - self.largest, 4)  # beyond that it is rounding in z, or luck

    def row(self) -> list[Any]:
        explained: Any = "-" if self.explained is None else self.explained
        return [
            self.name,
            self.largest,
            self.together,
            self.weakest,
            explained,
            self.score if self.weakest >= LIVELY else "none",
        ]


# --- What a pilot must keep to -----------------------------------------------------------------


def _checked(answer: Answer) -> Make:
    """Return `make_pilot` with every pair that it makes looked at."""

    def make(public: Tensor) -> tuple[Map, Map]:
        before = public.clone()
        pair = answer(public)
        if not torch.equal(public, before):
            wrong("make_pilot changes the public images: work on a copy")
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(map(callable, pair)):
            wrong(f"make_pilot returns {what(pair)}: return two functions, pilot and decoder")
        pilot, decoder = (
            functools.partial(_ask, Answer(function, name), z, shape)
            for function, name, z, shape in (
                (pair[0], "pilot", "z", Z_SHAPE),
                (pair[1], "decoder", "what decoder returns", (1, 16, 16)),
            )
        )
        _check_places(pilot)
        _check_inverse(pilot, decoder)
        return pilot, decoder

    return make


def _ask(answer: Answer, name: str, shape: tuple[int, ...], given: Tensor) -> Tensor:
    """Return what the pilot or the decoder gives for a batch."""
    copy = given.clone()
    with torch.no_grad():
        result = expect_tensor(answer(copy), name, (len(given), *shape)).float()
    if not torch.equal(copy, given):
        wrong(f"{answer.name} changes what it is given: work on a copy")
    return result


def _check_places(pilot: Map) -> None:
    """See that a position of z tells of its own patch, and of every patch in the same way."""
    x = torch.rand(6, 1, 16, 16) * 2 - 1
    z = pilot(x)
    if not same(pilot(x), z, 0):
        wrong("the pilot gives another z the second time: it may neither draw lots nor remember")
    if not same(pilot(x[:1]), z[:1], 1e-4):
        wrong("the z of an image depends on the other images of the batch: code each by itself")
    order = torch.randperm(16)
    patches = F.unfold(x, PATCH, stride=PATCH)[..., order]
    mixed = F.fold(patches, (16, 16), PATCH, stride=PATCH)
    if not same(pilot(mixed).flatten(2), z.flatten(2)[..., order], 1e-4):
        wrong(
            "z at a position is not made from its own patch of the image alone, or not in the same "
            "way at all positions: when the 4x4 patches change places, the columns of z should "
            "change places with them and stay as they are, for f has to follow the pilot, and its "
            "convolutions keep places"
        )


def _check_inverse(pilot: Map, decoder: Map) -> None:
    """See that the decoder takes back what the pilot does, on images that nobody has seen."""
    private, _ = _split(SEEDS[0])
    digits = _error(pilot, decoder, private.x)
    other = _error(pilot, decoder, torch.rand(20, 1, 16, 16) * 2 - 1)
    if not max(digits, other) <= EXACT:
        wrong(
            "the decoder is not the pilot's inverse: the root mean square error of an image is up "
            f"to {digits:.2g} on digits and {other:.2g} on random pixels, and {EXACT:g} would be "
            "rounding; code all of a patch, also what hardly varies among digits, and let z alone "
            "decide what comes out"
        )


def _error(pilot: Map, decoder: Map, x: Tensor) -> float:
    """The root mean square error of the worst image that was coded and decoded."""
    z = pilot(x)
    pilot(x.flip(0))  # what a decoder has remembered now is not x
    return (decoder(z) - x).flatten(1).square().mean(1).sqrt().max().item()


def _check_size(z: Tensor, weakest: float) -> None:
    """See that no channel is dead, and that f can reach numbers of this size."""
    low, high = USUAL_SIZE
    if not low <= z.std() <= high:
        wrong(
            f"z has a standard deviation of {z.std():.2g}: f gives numbers of about 1, so stay "
            f"between {low:g} and {high:g}"
        )
    if weakest < LIVELY:
        wrong(
            f"a channel of z has {weakest:.2g} of the standard deviation of all of z, and "
            f"{LIVELY:g} is the least: the gradient of a channel that says nothing is nearly 0, "
            "which a client can see"
        )


# --- Figures ----------------------------------------------------------------------------------


@functools.cache
def _split(seed: int) -> tuple[ImageData, ImageData]:
    """(private, public) digits."""
    private, public, _ = data.digits().split(seed)
    return private, public


def _measure(name: str, make: Make, *, rules: bool = True) -> _Figures:
    """Measure what a pilot's z shows of private images.

    Args:
        name: As in the table.
        make: Makes the pilot and its inverse.
        rules: Whether z must have a usual size and no dead channel.
    """
    rows = []
    for seed in SEEDS:
        private, public = _split(seed)
        pilot, decoder = make(public.x.clone())
        z = pilot(private.x)
        largest, together, weakest = _seen(z, private.x)
        if rules:
            _check_size(z, weakest)
        draw = torch.randn(z.shape, generator=torch.Generator().manual_seed(seed))
        decoded = decoder(z + NOISE * z.std() * draw)
        explained = metrics.explained_variance(decoded, private.x)
        rows.append((largest, together, weakest, explained))
    return _Figures(name, *(sum(column) / len(rows) for column in zip(*rows, strict=True)))


def _seen(z: Tensor, x: Tensor) -> tuple[float, float, float]:
    """Return what z shows of images x.

    Returns:
        The largest absolute correlation of a channel with the image at 4x4 pixels, over images and
        positions; that of the best mixture of all channels; and the least standard deviation of a
        channel, as a part of z's.
    """
    small = F.avg_pool2d(x, PATCH).double().flatten()
    channels = z.double().transpose(0, 1).flatten(1)
    small, channels = small - small.mean(), channels - channels.mean(1, keepdim=True)
    sizes = channels.norm(dim=1)
    alive = sizes > 1e-6 * sizes.max()
    correlations = channels[alive] @ small / (sizes[alive] * small.norm())
    mixture = torch.linalg.lstsq(channels.T, small[:, None], driver="gelsd").solution
    together = (mixture.T @ channels).norm() / small.norm()  # a projection: the cosine of its angle
    weakest = channels.std(1).min() / channels.square().mean().sqrt()
    return correlations.abs().max().item(), together.item(), weakest.item()


# --- Other z ----------------------------------------------------------------------------------


def _plain(public: Tensor) -> tuple[Map, Map]:
    """The chapter's pilot, as the server has it."""
    std, mean = (float(figure) for figure in torch.std_mean(public))
    channels, _, _ = Z_SHAPE
    return (
        nets.SpaceToDepth(PATCH, channels, mean=mean, std=std),
        nets.DepthToSpace(PATCH, 1, mean=mean, std=std),
    )


def _rotated(public: Tensor) -> tuple[Map, Map]:
    """The same, its channels turned by a random rotation."""
    pilot, decoder = _plain(public)
    channels, _, _ = Z_SHAPE
    draw = torch.randn(channels, channels, generator=torch.Generator().manual_seed(0))
    rotation = torch.linalg.qr(draw).Q

    def turned(matrix: Tensor, z: Tensor) -> Tensor:
        return torch.einsum("kc,bchw->bkhw", matrix, z)

    return lambda x: turned(rotation, pilot(x)), lambda z: decoder(turned(rotation.T, z))


@functools.cache
def _beside() -> tuple[_Figures, ...]:
    """The rows above the answer's."""
    return (
        _measure("plain pilot: the patch as channels", _plain, rules=False),
        _measure("the same, channels rotated at random", _rotated, rules=False),
        _honest(),
    )


def _honest() -> _Figures:
    """What an honest client's z shows without anybody's doing."""
    rows = []
    for seed in SEEDS:
        private, _ = _split(seed)
        client = Client(SETTING.client_net(seed=seed), private, **SETTING.client(seed=seed))
        train([client], HonestServer(SETTING.server_net(seed=seed), seed=seed), STEPS)
        rows.append(_seen(client.smash(private.x).z, private.x))
    largest, together, weakest = (sum(column) / len(rows) for column in zip(*rows, strict=True))
    return _Figures("an honest client", largest, together, weakest, None)
