"""How the open exercise of chapter 13 is scored: a figure's values on disguises and on floors.

The student's `figure(pictures, private)` is asked about private images in disguise, which give
everything away, and about pictures that show nobody's image. The digits are split as no cell of
the notebook splits them.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from splitlab import data
from splitlab.core.tables import Table
from splitlab.course.checks.guard import CheckFailed, NotWrittenYet, secret, wrong
from splitlab.course.checks.scored import Answer, expect_number, scored
from splitlab.course.checks.verdict import Score
from splitlab.course.disguises import DISGUISES, moved
from splitlab.referee import floors, metrics


@scored(praise="your figure keeps to the rules, and the table shows what fools it.", seconds=60)
def figure(answer: Answer) -> Score:
    """`figure(pictures, private)`: how much of the private images the pictures show, 0 to 1."""
    for what, pictures, private in _other_images():
        try:
            _share(answer(pictures, private))
        except NotWrittenYet:
            raise
        except CheckFailed as error:
            raise CheckFailed(f"{what}, {error}") from error
    values = _values(answer)
    _check_rules(values)
    yours, known = _points(values), _points(_beside("matched by correlation"))
    if yours <= known:
        weakest = min(DISGUISES, key=values.__getitem__)
        strongest = max(FLOORS, key=values.__getitem__)
        wrong(
            f"this figure scores {yours:.2f}, no more than matching by correlation with "
            f"{known:.2f}: private images that are {weakest} get {values[weakest]:.2f}, "
            f"and the {strongest} image gets {values[strongest]:.2f}"
        )
    columns = [*DISGUISES, *FLOORS]
    rows = [
        [name, *(of[column] for column in columns), _points(of)]
        for name, of in ({name: _beside(name) for name in BESIDE} | {"yours": values}).items()
    ]
    caption = (
        f"{IMAGES} private images of the digits, {len(SEEDS)} splits. The score is the smallest "
        "value over the disguises minus the largest over the floors (the last three)."
    )
    table = Table(["figure", *columns, "score"], rows, caption=caption, strong=len(rows) - 1)
    return Score(yours, table)


Figure = Callable[[Tensor, Tensor], Any]

IMAGES = 200
SEEDS = (21, 22)  # of the splits
PIXELS = (-1.0, 1.0)  # the range of the digits
NOISE = 0.02  # its standard deviation on every picture, as a share of the value range
FLOORS = ("mean public", "class mean", "nearest public")
ITSELF, ANOTHERS = "private itself", "another's image"
SHARES = {"a quarter": 0.25, "half": 0.5, "three quarters": 0.75}
LEAST_RISE = 0.05  # of the whole rise, with each quarter of the pictures that is put right


@dataclass(frozen=True)
class _Case:
    """One input of the figure.

    Attributes:
        name: A disguise, a floor, or what a rule needs.
        pictures: Images, (N, C, H, W).
        private: The images that they claim to show, same shape.
    """

    name: str
    pictures: Tensor
    private: Tensor


def _points(values: dict[str, float]) -> float:
    return min(values[name] for name in DISGUISES) - max(values[name] for name in FLOORS)


# --- The pictures -----------------------------------------------------------------------------


@secret
@functools.cache
def _cases(seed: int) -> tuple[_Case, ...]:
    """Return the figure's inputs on one split of the digits."""
    private, public, _ = data.digits().split(seed)
    private = private.subset(IMAGES, seed)
    x, limits = private.x, private.value_range
    nearest = floors.nearest_public(x, public.x)
    pictures = {name: disguise(x, limits) for name, disguise in DISGUISES.items()}
    pictures |= {
        "moved by a pixel": _moved_any_way(x, limits),
        "mean public": floors.mean_public(public, IMAGES),
        "class mean": floors.class_mean_public(public, private.y),
        "nearest public": nearest,
        ITSELF: x,
        ANOTHERS: x.roll(1, dims=0),
    }
    order = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(seed))
    for name, share in SHARES.items():
        shown = order < share * IMAGES
        pictures[name] = torch.where(shown.view(-1, 1, 1, 1), x, nearest)
    noise = torch.Generator().manual_seed(seed)
    span = limits[1] - limits[0]
    return tuple(
        _Case(
            name,
            (some + NOISE * span * torch.randn(x.shape, generator=noise)).clamp(*limits),
            x,
        )
        for name, some in pictures.items()
    )


def _moved_any_way(x: Tensor, limits: tuple[float, float]) -> Tensor:
    """Move images by a pixel: the first to the right, the next down, left, up, and so on."""
    ways = [torch.rot90(moved(torch.rot90(x, k, (2, 3)), limits), -k, (2, 3)) for k in range(4)]
    return torch.stack([ways[number % 4][number] for number in range(len(x))])


def _other_images() -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield (description, pictures, private) of images that are not like the digits."""
    color, gray = torch.rand(6, 3, 12, 10), torch.rand(5, 1, 9, 9) * 2 - 1
    yield "with color images of 12x10 pixels", color + 0.1 * torch.rand_like(color), color
    yield "with pictures that are one gray value", torch.full_like(gray, 0.2), gray
    yield "with two images", gray[:2] + 0.1, gray[:2]


# --- Asking -----------------------------------------------------------------------------------


def _values(function: Figure) -> dict[str, float]:
    """Return the figure for each kind of pictures, averaged over the splits.

    The calls come in a shuffled order, and those of the first split come twice: a figure that
    counts its calls, or draws lots, is found out.
    """
    cases = [(seed, case) for seed in SEEDS for case in _cases(seed)]
    calls = cases + cases[: len(_cases(SEEDS[0]))]
    order = torch.randperm(len(calls), generator=torch.Generator().manual_seed(1)).tolist()
    found: dict[tuple[int, str], float] = {}
    for seed, case in (calls[number] for number in order):
        value = _share(function(case.pictures.clone(), case.private.clone()))
        if found.setdefault((seed, case.name), value) != value:
            wrong(
                "figure gives another number for the same pictures the second time: it should "
                "depend on its arguments alone, without memory, counters or random numbers"
            )
    names = [case.name for case in _cases(SEEDS[0])]
    return {name: sum(found[seed, name] for seed in SEEDS) / len(SEEDS) for name in names}


def _share(value: Any) -> float:
    share = expect_number(value, "the figure")
    if not -1e-6 <= share <= 1 + 1e-6:
        wrong(f"the figure is {share:.3g}: it should be a share, from 0 to 1")
    return share


def _check_rules(values: dict[str, float]) -> None:
    """Check that the figure depends on the private images, and that it is a share.

    Raises:
        CheckFailed: If it is not.
    """
    if max(values.values()) - min(values.values()) < 1e-6:
        wrong(
            f"the figure is {values[ITSELF]:.2f} whatever the pictures show: compare them with "
            "the private images"
        )
    low, high = values["nearest public"], values[ITSELF]
    if high <= low:
        wrong(
            f"the figure is {high:.2f} for the private images themselves and {low:.2f} for the "
            "nearest public ones: it should be high where a picture shows its private image"
        )
    if values[ANOTHERS] > (low + high) / 2:
        wrong(
            f"the figure is {values[ANOTHERS]:.2f} where each picture shows another's image: "
            "picture i claims to show private[i], and what can be seen in the pictures alone, or "
            "in the two sets as a whole, does not say whether it does"
        )
    steps = [low, *(values[name] for name in SHARES), high]
    rises = [after - before for before, after in itertools.pairwise(steps)]
    if min(rises) < LEAST_RISE * (high - low):
        wrong(
            "the figure is no share: with none, a quarter, half, three quarters and all of the "
            f"pictures put right it is {', '.join(f'{step:.2f}' for step in steps)}; let every "
            "picture count"
        )


# --- Simple figures ---------------------------------------------------------------------------


@functools.cache
def _beside(name: str) -> dict[str, float]:
    return _values(BESIDE[name])


def _reference(pictures: Tensor, private: Tensor) -> float:
    """Match by the largest absolute correlation over moves of up to one pixel."""
    candidates = _unit(private)
    sides = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    likeness = torch.stack(
        [(_unit(pictures.roll(side, (2, 3))) @ candidates.T).abs() for side in sides]
    ).amax(0)
    own = torch.arange(len(private))
    return float((likeness.argmax(1) == own).double().mean())


def _unit(images: Tensor) -> Tensor:
    rows = images.flatten(1)
    return F.normalize(rows - rows.mean(1, keepdim=True))


BESIDE: dict[str, Figure] = {
    "explained variance, from 0 up": lambda a, b: max(0.0, metrics.explained_variance(a, b)),
    "SSIM, from 0 up": lambda a, b: max(0.0, metrics.ssim(a, b, PIXELS)),
    "matched": metrics.matched,
    "matched by correlation": metrics.matched_by_correlation,
    "reference solution": _reference,
}
