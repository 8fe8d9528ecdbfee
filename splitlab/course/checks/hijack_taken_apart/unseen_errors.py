"""Exercise 1: the error on a class that the attacker never saw, compared with retrieval's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from splitlab.course.checks.judge import exercise

Choose = Callable[[Tensor, int], Tensor]  # (labels, missing) -> mask
Case = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, int]
Figure = Callable[..., Tensor]


def _missing(labels: Tensor, missing: int) -> Tensor:
    return labels == missing


def _others(labels: Tensor, missing: int) -> Tensor:
    return labels != missing


def _all(labels: Tensor, missing: int) -> Tensor:
    return torch.ones_like(labels, dtype=torch.bool)


def _attack(
    *case: Any,
    of: Choose = _missing,
    figure: Figure = lambda difference: difference.square().mean(),
) -> Tensor:
    reconstructions, private, labels, *_, missing = case
    chosen = of(labels, missing)
    return figure(reconstructions[chosen] - private[chosen])


def _retrieval(
    *case: Any,
    of: Choose = _missing,
    among: Choose = _others,
    figure: Figure = lambda errors: errors.amin(1).mean(),
    power: int = 2,
) -> Tensor:
    _, private, labels, public, public_labels, missing = case
    sought, had = private[of(labels, missing)], public[among(public_labels, missing)]
    return figure((sought[:, None] - had).abs().pow(power).flatten(2).mean(2))


def _of_reconstructions(reconstructions: Tensor, private: Tensor, *rest: Any) -> Tensor:
    return _retrieval(reconstructions, reconstructions, *rest)


def _among_private(*case: Any, among: Choose) -> Tensor:
    return _retrieval(*case[:3], case[1], case[2], case[5], among=among)


def _pair(
    first: Figure = _attack, second: Figure = _retrieval
) -> Callable[..., tuple[Tensor, Tensor]]:
    return lambda *given: (first(*given), second(*given))


def _case(
    *shape: int, missing: int, classes: tuple[int, ...] = (0, 1, 2), private: int = 13
) -> Callable[[], Case]:
    """Images of all classes on both sides, in no order; some are equal."""

    def case() -> Case:
        numbers = torch.tensor(classes)
        labels, public_labels = (
            numbers[torch.randperm(count) % len(classes)] for count in (private, private + 4)
        )
        images = 2 * torch.rand(private, *shape) - 1
        images[1:3] = images[:1]
        reconstructions = images + 0.3 * torch.randn(images.shape)
        public = 2 * torch.rand(private + 4, *shape) - 1
        return reconstructions, images, labels, public, public_labels, missing

    return case


@exercise(
    cases=[
        _case(2, 3, 4, missing=1),
        _case(1, 5, 2, missing=2),
        _case(2, 3, 4, missing=0),
        _case(1, 2, 2, missing=14, classes=(3, 14), private=60),
        _case(1, 1, 1, missing=7, classes=(5, 6, 7, 8), private=4),
    ],
    returns=("the first figure", "the second figure"),
    praise="both figures are of the unseen class, and retrieval searched what the attacker had.",
    otherwise="the two figures are not right: the first is the mean of the squared differences "
    "between the reconstructions and the private images of the missing class; for the second, "
    "take the smallest mean squared error of each of these private images to a public image of "
    "another class, then the mean of these",
    slips={
        "the two figures have changed places: the reconstructions' error comes first, then "
        "retrieval's": _pair(_retrieval, _attack),
        "both figures are of all classes, and those that were seen flatter the attack: choose the "
        "images whose label is the missing class": _pair(
            partial(_attack, of=_all), partial(_retrieval, of=_all)
        ),
        "both figures are of the classes that were seen: choose the images whose label is the "
        "missing class": _pair(partial(_attack, of=_others), partial(_retrieval, of=_others)),
        "the first figure compares the reconstructions with the nearest public images: compare "
        "them with the private images themselves": _pair(first=_of_reconstructions),
        "retrieval looks for neighbors of the reconstructions: look for neighbors of the "
        "private images": _pair(second=_of_reconstructions),
        "retrieval searches the private images here: the nearest public image is meant": _pair(
            second=partial(_among_private, among=_all)
        ),
        "retrieval searches the private images of the other classes here: the nearest public image "
        "is meant": _pair(second=partial(_among_private, among=_others)),
    },
)
def unseen_errors(
    reconstructions: Tensor,
    private: Tensor,
    labels: Tensor,
    public: Tensor,
    public_labels: Tensor,
    missing: int,
) -> tuple[Tensor, Tensor]:
    given = reconstructions, private, labels, public, public_labels, missing
    return _attack(*given), _retrieval(*given)


FIRST: dict[str, Figure] = {
    "the first figure is of all classes, and those that were seen flatter it: choose the images "
    "whose label is the missing class": partial(_attack, of=_all),
    "the first figure is of the classes that were seen: choose the images whose label is the "
    "missing class": partial(_attack, of=_others),
    "the first figure is a root: a mean squared error has none": partial(
        _attack, figure=lambda difference: difference.square().mean().sqrt()
    ),
    "the first figure is an absolute error: square the differences": partial(
        _attack, figure=lambda difference: difference.abs().mean()
    ),
    "the first figure is a sum over all pixels: take the mean over images and pixels": partial(
        _attack, figure=lambda difference: difference.square().sum()
    ),
    "the first figure is a sum over the pixels of an image: take the mean over images and pixels": (
        partial(_attack, figure=lambda difference: difference.square().sum((1, 2, 3)).mean())
    ),
}
SECOND: dict[str, Figure] = {
    "retrieval finds public images of the missing class: the attacker never had those, so leave "
    "them out": partial(_retrieval, among=_all),
    "retrieval searches the missing class alone, which the attacker never had": (
        partial(_retrieval, among=_missing)
    ),
    "the second figure is of all private images: retrieval, too, is scored on the missing class": (
        partial(_retrieval, of=_all)
    ),
    "the second figure is of the classes that were seen: retrieval, too, is scored on the missing "
    "class": partial(_retrieval, of=_others),
    "the second figure is of all private images and all public ones: score the missing class, and "
    "search the others": partial(_retrieval, of=_all, among=_all),
    "the nearest is taken along the wrong axis: for each private image look for the nearest public "
    "one, not for each public image the nearest private one": partial(
        _retrieval, figure=lambda errors: errors.amin(0).mean()
    ),
    "the second figure is a mean over all public images: the nearest one is meant": partial(
        _retrieval, figure=torch.mean
    ),
    "the farthest public image is taken for the nearest: the smallest error counts": partial(
        _retrieval, figure=lambda errors: errors.amax(1).mean()
    ),
    "one public image is taken for all private images: each has a nearest one of its own": (
        partial(_retrieval, figure=lambda errors: errors.mean(0).amin())
    ),
    "the second figure is the one smallest error: take the mean over the private images": partial(
        _retrieval, figure=torch.min
    ),
    "the second figure is a sum over the images: take the mean": partial(
        _retrieval, figure=lambda errors: errors.amin(1).sum()
    ),
    "the second figure is a root: a mean squared error has none": partial(
        _retrieval, figure=lambda errors: errors.amin(1).sqrt().mean()
    ),
    "the second figure is an absolute error: square the differences": partial(_retrieval, power=1),
    "the second figure is a sum over the pixels of an image: take the mean, as in the first": (
        lambda *given: _retrieval(*given) * given[1][0].numel()
    ),
}
unseen_errors.slips |= {message: _pair(first=figure) for message, figure in FIRST.items()}
unseen_errors.slips |= {message: _pair(second=figure) for message, figure in SECOND.items()}
