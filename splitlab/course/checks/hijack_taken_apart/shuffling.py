"""Exercise 3: one fixed permutation of the pixels, and the way back."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from splitlab.course.checks.base import Answer, check, expect_tensor, what, wrong

SIZES = ((4, 5), (3, 7))
SEEDS = 400  # enough that all 24 orders of four pixels come up


@check("one secret order for every image, every call and both modes, and a way back.")
def make_shuffle(answer: Answer) -> None:
    """`make_shuffle(height, width, seed)`: (shuffle, restore), functions of images."""
    for height, width in SIZES:
        shuffle, restore = _asked(answer, height, width, 7)
        order = _order(shuffle, height, width)
        _check_the_order(order, height, width)
        _check_the_way_back(shuffle, restore, order, height, width)
        _check_the_seed(answer, order, height, width)
    orders = {tuple(_order(_asked(answer, 2, 2, seed)[0], 2, 2).tolist()) for seed in range(SEEDS)}
    if len(orders) < 24:
        wrong(
            f"over {SEEDS} seeds only {len(orders)} of the 24 orders of four pixels come up: let "
            "every order be possible, as torch.randperm does"
        )


class _Map:
    """One of the two functions, asked with its input guarded.

    Args:
        function: What the student returned.
        name: "shuffle" or "restore".
    """

    def __init__(self, function: Any, name: str) -> None:
        self.ask, self.function, self.name = Answer(function, name), function, name

    def __call__(self, x: Tensor) -> Tensor:
        """Return what becomes of images x, the same in both modes.

        Raises:
            CheckFailed: If it is no tensor like x, or if x has changed.
        """
        found = []
        for training in (True, False):
            if isinstance(self.function, nn.Module):
                self.function.train(training)
            given = x.clone()
            found.append(expect_tensor(self.ask(given), f"what {self.name} returns", x.shape))
            if not torch.equal(given, x):
                wrong(f"{self.name} changes the images that it is given: work on a copy")
        if not torch.equal(*found):
            if isinstance(self.function, nn.Module):
                wrong(
                    f"{self.name} gives the same images twice, in training and in evaluation mode, "
                    "and they come out differently: the order is fixed once, in make_shuffle"
                )
            wrong(
                f"{self.name} gives other images at the second call: the order is drawn once, in "
                "make_shuffle, and not at each call"
            )
        return found[0]


def _asked(answer: Answer, height: int, width: int, seed: int) -> tuple[_Map, _Map]:
    """Return the student's two functions.

    Raises:
        CheckFailed: If there are not two, or if a global stream of random numbers has moved.
    """
    x = _numbered(1, 1, height, width)
    before = _streams()
    pair = answer(height, width, seed)
    if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(map(callable, pair)):
        wrong(f"make_shuffle returns {what(pair)}: return two functions, shuffle and restore")
    maps = _Map(pair[0], "shuffle"), _Map(pair[1], "restore")
    for each in maps:
        each(x)
    if _streams() != before:
        wrong(
            "the global stream of random numbers is not where it was, and everybody else's batches "
            "change with it: draw from a torch.Generator of your own, and call no manual_seed of "
            "torch itself"
        )
    return maps


def _streams() -> tuple[Any, ...]:
    """Where the global streams are."""
    state = np.random.get_state(legacy=False)  # the one that a student may move
    assert isinstance(state, dict)
    numbers = state["state"]["key"].tobytes(), state["state"]["pos"]
    return torch.get_rng_state().numpy().tobytes(), numbers, random.getstate()


def _numbered(batch: int, channels: int, height: int, width: int) -> Tensor:
    """Images without two equal pixels, so that each can be found again."""
    count = batch * channels * height * width
    return torch.randperm(count).double().view(batch, channels, height, width)


def _order(shuffle: _Map, height: int, width: int) -> Tensor:
    """Return, for each place, where its pixel comes from: (H*W,), the same for all images.

    Raises:
        CheckFailed: If pixels are lost or changed, or if there is more than one order.
    """
    batches = [_numbered(3, 2, height, width), _numbered(5, 3, height, width)]
    found = [_places(shuffle(x), x) for x in batches]
    for places in found:
        if (places != places[:, :1]).any():
            wrong(
                "each channel is shuffled in an order of its own: the channels of a pixel stay "
                "together"
            )
        if (places != places[:1]).any():
            wrong(
                "each image is shuffled in an order of its own: f could learn nothing from that, "
                "so all images share one"
            )
    if not torch.equal(found[0][0, 0], found[1][0, 0]):
        wrong(
            "the next batch is shuffled in another order: the order is drawn once, in make_shuffle"
        )
    return found[0][0, 0]


def _places(shuffled: Tensor, x: Tensor) -> Tensor:
    """Return from where each pixel comes, (B, C, H*W)."""
    after, before = shuffled.flatten(2), x.flatten(2)
    if torch.equal(after.sort(2).values, before.sort(2).values):
        return (after[..., :, None] == before[..., None, :]).long().argmax(3)
    if torch.equal(*(each.flatten(1).sort(1).values for each in (after, before))):
        wrong("pixels move from one channel to another: only their places in the image may change")
    if torch.equal(*(each.flatten().sort().values for each in (after, before))):
        wrong("pixels move from one image to another: shuffle within each image, not the batch")
    wrong("the pixels' values have changed: each must come out once, as it is, at another place")
    raise AssertionError


def _check_the_order(order: Tensor, height: int, width: int) -> None:
    """See that pixels move, and each on its own."""
    places = order.view(height, width)
    rows, columns = places // width, places % width
    if torch.equal(order, torch.arange(len(order))):
        wrong("nothing moves: every pixel comes out where it was")
    if (rows == rows[:, :1]).all() and (columns == columns[:1]).all():
        wrong(
            "whole rows or columns are moved: neighbours stay neighbours, and a convolution still "
            "finds its way; every pixel moves by itself"
        )
    if (rows == torch.arange(height)[:, None]).all():
        wrong("pixels stay in their rows: draw one order of all height * width places")
    if (columns == torch.arange(width)).all():
        wrong("pixels stay in their columns: draw one order of all height * width places")


def _check_the_way_back(
    shuffle: _Map, restore: _Map, order: Tensor, height: int, width: int
) -> None:
    """See that restore takes back what shuffle does, to whatever images."""
    x, other = (_numbered(batch, 2, height, width) for batch in (4, 2))
    shuffled = shuffle(x)
    shuffle(other)  # what restore has remembered now is not x
    back = restore(shuffled)
    if torch.equal(back, x) and torch.equal(shuffle(restore(other)), other):
        return
    if torch.equal(restore(shuffle(x)), x):
        wrong(
            "restore remembers the batch that was shuffled last: it should know the order alone, "
            "and so take back any batch"
        )
    mistakes: dict[str, Tensor] = {
        "restore does nothing: what was shuffled stays shuffled": shuffled,
        "restore shuffles once more in the same order: the way back is the order's inverse, which "
        "argsort gives": shuffle(shuffled),
        "restore goes through the order backwards: to reverse the list is not to invert it, and "
        "argsort does that": shuffled.flatten(2)[..., order.flip(0)].view_as(x),
    }
    for message, mistake in mistakes.items():
        if torch.equal(back, mistake):
            wrong(message)
    wrong("restore does not bring the pixels back: restore(shuffle(x)) should be x, bit for bit")


def _check_the_seed(answer: Answer, order: Tensor, height: int, width: int) -> None:
    """See that the seed, and nothing else, decides the order."""

    def is_the_same(seed: int) -> bool:
        shuffle, _ = _asked(answer, height, width, seed)
        return torch.equal(_order(shuffle, height, width), order)

    torch.rand(3)  # the global stream is elsewhere now
    if not is_the_same(7):
        wrong(
            "the same seed gives another order the second time: whoever restores the images must "
            "draw the same one, so seed your generator with it"
        )
    if all(is_the_same(seed) for seed in (8, 9)):
        wrong("every seed gives the same order: seed your generator with the seed that comes in")
