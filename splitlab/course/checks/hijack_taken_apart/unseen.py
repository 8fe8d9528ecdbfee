"""Exercise 1: the error on a class that the attacker never saw, beside retrieval's."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from splitlab.course.checks.base import Answer, check, expect_number, expect_right, what, wrong
from splitlab.course.checks.hijack_taken_apart.common import expect_kept

# (reconstructions, private, labels, public, public_labels, missing)
Case = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, int]
CLASSES = 3


@check("both figures are of the unseen class, and retrieval had what the attacker had.")
def unseen_errors(answer: Answer) -> None:
    """`unseen_errors(...)`: the attack's and retrieval's mean squared error on one class."""
    cases = [_case(shape, missing) for shape in ((2, 3, 4), (1, 5, 2)) for missing in range(3)]
    pairs = [_asked(answer, case) for case in cases]
    if all(_is_swapped(pair, case) for pair, case in zip(pairs, cases, strict=True)):
        wrong(
            "the two figures have changed places: the reconstructions' error comes first, then "
            "retrieval's"
        )
    attack, retrieval = zip(*pairs, strict=True)
    expect_right(
        attack,
        cases,
        _attack,
        _attack_mistakes(),
        "the first figure is not the reconstructions' error: the mean of the squared differences "
        "to the private images of the missing class",
        TOLERANCE,
    )
    expect_right(
        retrieval,
        cases,
        _retrieval,
        _retrieval_mistakes(),
        "the second figure is not retrieval's error: for each private image of the missing class "
        "take the smallest mean squared error to a public image of another class, then the mean "
        "of these",
        TOLERANCE,
    )


TOLERANCE = 1e-6  # a matrix of distances may come with so much rounding


def _asked(answer: Answer, case: Case) -> tuple[Tensor, Tensor]:
    """Return the student's two figures.

    Raises:
        CheckFailed: If they are not two numbers, or if an argument has changed.
    """
    given = [part.clone() if isinstance(part, Tensor) else part for part in case]
    pair = answer(*given)
    names = ("reconstructions", "private", "labels", "public", "public_labels")
    for name, now, before in zip(names, given, case, strict=False):
        assert isinstance(now, Tensor)
        assert isinstance(before, Tensor)
        expect_kept("unseen_errors", **{name: (now, before)})
    two = len(pair) == 2 if isinstance(pair, tuple | list) else False
    if not two and not (isinstance(pair, Tensor) and pair.shape == (2,)):
        wrong(
            f"unseen_errors returns {what(pair)}: return two numbers, the reconstructions' error "
            "and retrieval's"
        )
    first = expect_number(pair[0], "the reconstructions' error")
    second = expect_number(pair[1], "retrieval's error")
    return torch.tensor(first).double(), torch.tensor(second).double()


def _is_swapped(pair: tuple[Tensor, Tensor], case: Case) -> bool:
    due = _retrieval(*case), _attack(*case)
    return all(abs(a - b) < TOLERANCE for a, b in zip(pair, due, strict=True))


# --- The two figures, right or with a slip -----------------------------------------------------

Choose = Callable[[Tensor, int], Tensor]  # (labels, missing) -> mask


def _missing(labels: Tensor, missing: int) -> Tensor:
    return labels == missing


def _others(labels: Tensor, missing: int) -> Tensor:
    return labels != missing


def _all(labels: Tensor, missing: int) -> Tensor:
    return torch.ones_like(labels, dtype=torch.bool)


def _errors(one: Tensor, other: Tensor) -> Tensor:
    """Mean squared errors of all pairs: (N, ...), (M, ...) -> (N, M)."""
    return torch.stack([(one - each).square().flatten(1).mean(1) for each in other], dim=1)


def _attack(
    reconstructions: Tensor,
    private: Tensor,
    labels: Tensor,
    public: Tensor,
    public_labels: Tensor,
    missing: int,
    *,
    of: Choose = _missing,
    figure: Callable[[Tensor], Tensor] = lambda difference: difference.square().mean(),
) -> Tensor:
    chosen = of(labels, missing)
    return figure(reconstructions[chosen] - private[chosen])


def _retrieval(
    reconstructions: Tensor,
    private: Tensor,
    labels: Tensor,
    public: Tensor,
    public_labels: Tensor,
    missing: int,
    *,
    of: Choose = _missing,
    among: Choose = _others,
    figure: Callable[[Tensor], Tensor] = lambda errors: errors.amin(1).mean(),
) -> Tensor:
    return figure(_errors(private[of(labels, missing)], public[among(public_labels, missing)]))


def _attack_mistakes() -> Iterator[tuple[str, Callable[..., Tensor]]]:
    """Yield (message, what it gives) of likely slips in the first figure."""
    slips = {
        "the first figure is of all classes, and those that were seen flatter it: choose the "
        "images whose label is the missing class": {"of": _all},
        "the first figure is of the classes that were seen: choose the images whose label is the "
        "missing class": {"of": _others},
        "the first figure is a root: a mean squared error has none": {
            "figure": lambda difference: difference.square().mean().sqrt()
        },
        "the first figure is an absolute error: square the differences": {
            "figure": lambda difference: difference.abs().mean()
        },
        "the first figure is a sum over all pixels: take the mean over images and pixels": {
            "figure": lambda difference: difference.square().sum()
        },
        "the first figure is a sum over the pixels of an image: take the mean over images and "
        "pixels": {"figure": lambda difference: difference.square().flatten(1).sum(1).mean()},
    }
    for message, slip in slips.items():
        yield message, lambda *case, slip=slip: _attack(*case, **slip)
    yield (
        "the first figure compares the reconstructions with the nearest public images: compare "
        "them with the private images themselves",
        lambda x, private, labels, public, public_labels, missing: _retrieval(
            x, x, labels, public, public_labels, missing
        ),
    )


def _retrieval_mistakes() -> Iterator[tuple[str, Callable[..., Tensor]]]:
    """Yield (message, what it gives) of likely slips in the second figure."""
    slips = {
        "retrieval finds public images of the missing class: the attacker never had those, so "
        "leave them out": {"among": _all},
        "retrieval searches the missing class alone: that is just what the attacker never had": {
            "among": _missing
        },
        "the second figure is of all private images: retrieval, too, is scored on the missing "
        "class": {"of": _all},
        "the second figure is of the classes that were seen: retrieval, too, is scored on the "
        "missing class": {"of": _others},
        "the second figure is of all private images and all public ones: score the missing class, "
        "and search the others": {"of": _all, "among": _all},
        "the nearest is taken along the wrong axis: for each private image look for the nearest "
        "public one, not for each public image the nearest private one": {
            "figure": lambda errors: errors.amin(0).mean()
        },
        "the second figure is a mean over all public images: the nearest one is meant": {
            "figure": torch.mean
        },
        "the farthest public image is taken for the nearest: the smallest error counts": {
            "figure": lambda errors: errors.amax(1).mean()
        },
        "one public image is taken for all private images: each has a nearest one of its own": {
            "figure": lambda errors: errors.mean(0).amin()
        },
        "the second figure is the one smallest error: take the mean over the private images": {
            "figure": torch.min
        },
        "the second figure is a sum over the images: take the mean": {
            "figure": lambda errors: errors.amin(1).sum()
        },
        "the second figure is a root: a mean squared error has none": {
            "figure": lambda errors: errors.amin(1).sqrt().mean()
        },
    }
    for message, slip in slips.items():
        yield message, lambda *case, slip=slip: _retrieval(*case, **slip)
    yield (
        "the second figure is a sum over the pixels of an image: take the mean, as in the first",
        lambda *case: _retrieval(*case) * case[1][0].numel(),
    )
    yield (
        "retrieval begins at the reconstructions here: it knows nothing of the attack, so begin "
        "at the private images",
        lambda x, private, labels, public, public_labels, missing: _retrieval(
            x, x, labels, public, public_labels, missing
        ),
    )
    for choose in (_all, _missing, _others):
        yield (
            "retrieval searches the private images here: the nearest public image is meant",
            lambda x, private, labels, public, public_labels, missing, choose=choose: _retrieval(
                x, private, labels, private, labels, missing, among=choose
            ),
        )


def _case(shape: tuple[int, ...], missing: int) -> Case:
    """Random images, with all classes on both sides, in no order."""
    labels, public_labels = (
        torch.randperm(count) % CLASSES for count in (4 * CLASSES + 1, 3 * CLASSES + 2)
    )
    private = torch.rand(len(labels), *shape, dtype=torch.float64) * 2 - 1
    public = torch.rand(len(public_labels), *shape, dtype=torch.float64) * 2 - 1
    reconstructions = private + 0.3 * torch.randn_like(private)
    return reconstructions, private, labels, public, public_labels, missing
