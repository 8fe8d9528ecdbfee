"""Exercise 3: one fixed permutation of the pixels, and its inverse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from splitlab.course.checks.guard import wrong
from splitlab.course.checks.judge import exercise
from splitlab.course.checks.scored import expect_tensor
from splitlab.course.checks.sight import what
from splitlab.course.checks.verdict import randomness

Call = tuple[int, int, int]  # height, width, seed
Found = dict[str, Tensor]  # what the two functions have made of some images
Map = Callable[[Tensor], Tensor]
SEEDS = 25  # of small images, in each of two worlds
ORDERS = 14  # of four pixels that come up then, at least: about 21 of the 24 do by chance, and no
# more than 12 where only some kinds of orders are drawn
_streams: list[Any] = []  # where the global random numbers were before the call


def _calls(*calls: Call) -> Callable[[], Iterator[Call]]:
    def case() -> Iterator[Call]:
        for call in calls:
            _streams[:] = [randomness()]
            yield call

    return case


def _small() -> Iterator[Call]:
    return _calls(*((2, 2, seed) for seed in torch.randint(10**6, (SEEDS,)).tolist()))()


def _images(height: int, width: int, batch: int, channels: int, start: int = 0) -> Tensor:
    """Images without two equal pixels, so that each can be found again."""
    count = batch * channels * height * width
    return (start + torch.arange(count)).view(batch, channels, height, width) / 7


def _used(pair: Any, height: int, width: int, seed: int) -> Found:
    """Return the results of shuffle and restore.

    Raises:
        CheckFailed: If they are no such functions, or if a global stream has moved.
    """
    if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(map(callable, pair)):
        wrong(f"make_shuffle returns {what(pair)}: return two functions, shuffle and restore")

    def ask(name: str, x: Tensor, *, training: bool = True) -> Tensor:
        function, given = pair[name == "restore"], x.clone()
        if isinstance(function, nn.Module):
            function.train(training)
        result = expect_tensor(function(given), f"what {name} returns", x.shape)
        if not torch.equal(given, x):
            wrong(f"{name} changes the images that it is given: work on a copy")
        return result.clone()

    x, other = (_images(height, width, 3, 2, start) for start in (0, 1))
    found = {"shuffled": ask("shuffle", x), "again": ask("shuffle", x, training=False)}
    found["next"] = ask("shuffle", _images(height, width, 5, 3))
    ask("shuffle", other)  # what restore has remembered now is not x
    found["restored"] = ask("restore", found["shuffled"], training=False)
    found["there"] = ask("shuffle", ask("restore", other))
    if randomness() != _streams[0]:
        wrong(
            "the state of torch's global random numbers has changed, which changes other "
            "parties' batches: draw from a torch.Generator of your own, and do not call "
            "torch.manual_seed"
        )
    return found


def _order(found: Found, height: int, width: int, seed: int) -> tuple[Call, tuple[int, ...]]:
    """Return the call and, for each place, the place that its pixel comes from.

    Raises:
        CheckFailed: If pixels are lost or changed, if there is more than one order, or a poor one.
    """
    if not torch.equal(found["shuffled"], found["again"]):
        wrong(
            "the same images come out differently at the second call, or in evaluation mode: the "
            "order is drawn once, in make_shuffle, and not at each call"
        )
    places = [
        _places(found["shuffled"], _images(height, width, 3, 2)),
        _places(found["next"], _images(height, width, 5, 3)),
    ]
    for one in places:
        if (one != one[:, :1]).any():
            wrong(
                "each channel is shuffled in an order of its own: the channels of a pixel stay "
                "together"
            )
        if (one != one[:1]).any():
            wrong(
                "each image is shuffled in an order of its own: f could learn nothing from that, "
                "so all images share one"
            )
    order = places[0][0, 0]
    if not torch.equal(order, places[1][0, 0]):
        wrong(
            "the next batch is shuffled in another order: the order is drawn once, in make_shuffle"
        )
    if min(height, width) > 2:  # of so many orders, none of these comes up by chance
        _tell_a_poor_order(order.view(height, width))
    return (height, width, seed), tuple(order.tolist())


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


def _tell_a_poor_order(places: Tensor) -> None:
    height, width = places.shape
    rows, columns = places // width, places % width
    stay_in_rows = (rows == torch.arange(height)[:, None]).all()
    stay_in_columns = (columns == torch.arange(width)).all()
    if stay_in_rows and stay_in_columns:
        wrong("nothing moves: every pixel comes out where it was")
    if (rows == rows[:, :1]).all() and (columns == columns[:1]).all():
        wrong(
            "whole rows or columns are moved: neighbors stay neighbors, and a convolution still "
            "finds its way; every pixel moves by itself"
        )
    if stay_in_rows:
        wrong("pixels stay in their rows: draw one order of all height * width places")
    if stay_in_columns:
        wrong("pixels stay in their columns: draw one order of all height * width places")


def _by_seed(draws: list[tuple[Call, tuple[int, ...]]]) -> None:
    """Check that the seed alone determines the order.

    Raises:
        CheckFailed: If it does not.
    """
    orders: dict[Call, tuple[int, ...]] = {}
    for call, order in draws:
        if orders.setdefault(call, order) != order:
            wrong(
                "the same seed gives another order the second time: restoring the images takes "
                "the same order, so seed your generator with seed"
            )
    large = [order for call, order in orders.items() if min(call[:2]) > 2]
    if len(set(large)) < len(large):
        wrong("other seeds give the same order: seed your generator with the seed that comes in")
    small = {order for call, order in orders.items() if call[:2] == (2, 2)}
    if len(small) < ORDERS:
        wrong(
            f"over {2 * SEEDS} seeds only {len(small)} of the 24 orders of four pixels come up: "
            "let every order be possible, as torch.randperm does"
        )


def _moved(x: Tensor, order: Tensor) -> Tensor:
    return x.flatten(2)[..., order].view_as(x)


def _given(height: int, width: int, seed: int, draws: Any) -> Tensor:
    """The answer's order, or one of our own."""
    if draws is not None:
        return torch.tensor(draws[1])
    return torch.randperm(height * width, generator=torch.Generator().manual_seed(seed))


def _back(restore: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., tuple[Map, Map]]:
    """An answer with another inverse, (x, order) -> x."""

    def answer(height: int, width: int, seed: int, draws: Any = None) -> tuple[Map, Map]:
        order = _given(height, width, seed, draws)
        return lambda x: _moved(x, order), lambda x: restore(x, order)

    return answer


def _remembering(height: int, width: int, seed: int, draws: Any = None) -> tuple[Map, Map]:
    order, kept = _given(height, width, seed, draws), [torch.empty(0)]

    def shuffle(x: Tensor) -> Tensor:
        kept[:] = [x]
        return _moved(x, order)

    return shuffle, lambda x: kept[0].clone()


@exercise(
    cases=[
        _calls((4, 5, 7), (4, 5, 7), (4, 5, 8), (3, 7, 0), (3, 7, 123456)),
        _calls((4, 5, 9), (1, 6, 3), (5, 1, 3), (1, 1, 3), (16, 16, 5)),
        _small,
    ],
    returns="the result",
    use=_used,
    draws=_order,
    spread=_by_seed,
    praise="one secret order for every image, every call and both modes, and its inverse.",
    otherwise="restore does not bring the pixels back: restore(shuffle(x)) should be x, bit for "
    "bit, and so should shuffle(restore(x))",
    slips={
        "restore does nothing: what was shuffled stays shuffled": _back(lambda x, order: x.clone()),
        "restore shuffles once more in the same order: the way back is the order's inverse, which "
        "argsort gives": _back(_moved),
        "restore goes through the order backward: reversing a permutation does not invert it, "
        "and argsort does": _back(lambda x, order: _moved(x, order.flip(0))),
        "restore remembers the batch that was shuffled last: it should know the order alone, and "
        "so take back any batch": _remembering,
    },
)
def make_shuffle(height: int, width: int, seed: int, draws: Any = None) -> tuple[Map, Map]:
    return _back(lambda x, order: _moved(x, order.argsort()))(height, width, seed, draws)
