"""Exercise 1: the accuracy of always guessing the most common public class."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from splitlab.course.checks.judge import exercise

Figures = tuple[Tensor, Tensor]


def _commonest(labels: Tensor) -> Tensor:
    """The most common class; of equally common ones, the lowest."""
    return labels.bincount().argmax()


def _first(labels: Tensor) -> Tensor:
    """The most common class; of equally common ones, the one that comes first."""
    return labels[labels.bincount()[labels].argmax()]


def _with(
    guess: Callable[[Tensor], Tensor | int] = _commonest,
    learn_on: Callable[[Tensor, Tensor], Tensor] = lambda public, private: public,
    score_on: Callable[[Tensor, Tensor], Tensor] = lambda public, private: private,
    classes: Callable[[Tensor, Tensor], Tensor] = lambda public, scored: scored.unique(),
    result: Callable[[Tensor, Tensor], Figures] = lambda right, shares: (
        right.mean(),
        shares.mean(),
    ),
    *,
    empty: float = 0.0,
) -> Callable[[Tensor, Tensor], Figures]:
    """An answer with another guess or another count; `empty` is the share of an empty class."""

    def answer(public: Tensor, private: Tensor) -> Figures:
        scored = score_on(public, private)
        right = (scored == guess(learn_on(public, private))).double()
        shares = [right[scored == c].mean().nan_to_num(empty) for c in classes(public, scored)]
        return result(right, torch.stack(shares))

    return answer


def _figures(result: Callable[[Tensor, Tensor], Figures]) -> Callable[[Tensor, Tensor], Figures]:
    return _with(result=result)


def _up_to_the_highest(public: Tensor, private: Tensor) -> Tensor:
    return torch.arange(int(private.max()) + 1)


def _in_proportion(public: Tensor, private: Tensor) -> Figures:
    shares = public.bincount(minlength=int(private.max()) + 1) / len(public)
    return shares[private].mean(), shares[private.unique()].mean()


def _chance(public: Tensor, private: Tensor) -> Figures:
    chance = torch.tensor(1 / len(public.unique()))
    return chance, chance


def _case(public: list[int], private: list[int]) -> Callable[[], Figures]:
    return lambda: (torch.tensor(public), torch.tensor(private))


@exercise(
    cases=[
        _case([2, 5, 1, 4, 0, 5, 1, 2, 4], [2, 1, 4, 1, 5, 2, 1, 4, 2, 1]),  # four equally common
        _case([1, 2, 2, 3, 2, 1], [3, 3, 3, 2, 1, 3, 2]),  # each side has a commonest of its own
        _case([5, 5, 2, 0], [2, 1, 1, 2, 4]),  # the guess is right for nobody
        _case([2, 2, 12, 0, 5, 5, 2], [5, 2, 2, 6, 2]),  # 0 and 12 do not occur, and 6 is new
        _case([13, 11, 13, 11, 0], [11, 13, 13, 0, 13, 13, 11]),
        _case([1, 1, 0], [1, 1, 1, 1]),
        _case([3], [3]),
        lambda: (torch.randint(3, 9, (500,)), torch.randint(3, 9, (3001,))),
    ],
    returns=("the accuracy", "the balanced accuracy"),
    tolerance=1e-6,
    praise="an attacker who knows the public labels gets this far without looking at an image.",
    otherwise="the two figures are not right: guess the most common public class for every private "
    "image; then take the share of images that are right, and the mean of that share over the "
    "classes",
    slips={
        "the guess is the most common class of the private labels: the attacker does not have "
        "them, so it has to learn its guess on the public ones": _with(
            learn_on=lambda public, private: private
        ),
        "the guess is learned on the private labels and scored on the public ones: it is the other "
        "way round": lambda public, private: _with()(private, public),
        "the guess is scored on the public labels, on which it was learned: score it on the "
        "private ones": _with(score_on=lambda public, private: public),
        "of equally common classes the highest number is guessed: take the lowest, so that "
        "everybody gets the same bar": _with(
            lambda labels: len(labels.bincount()) - 1 - labels.bincount().flip(0).argmax()
        ),
        "of equally common classes the one that comes first in the list is guessed: take the "
        "lowest number, so that the order of the rows does not matter": _with(_first),
        "of equally common classes the one that comes last in the list is guessed: take the lowest "
        "number, so that the order of the rows does not matter": _with(
            lambda labels: _first(labels.flip(0))
        ),
        "the guess is the rarest class": _with(
            lambda labels: labels.unique()[labels.unique(return_counts=True)[1].argmin()]
        ),
        "the guess is the mean of the class numbers: they are names, and there is no class between "
        "two others": _with(lambda labels: labels.double().mean().round()),
        "the guess is the median of the class numbers: they are names, without an order": _with(
            torch.median
        ),
        "the guess is how often the most common class occurs, and not its number": _with(
            lambda labels: labels.bincount().max()
        ),
        "the guess is the place of the most common class among those that occur, and not its "
        "number": _with(lambda labels: labels.unique(return_counts=True)[1].argmax()),
        "the guess is class 0, whatever the labels are": _with(lambda labels: 0),
        "the two figures are in the wrong order": _figures(
            lambda right, shares: (shares.mean(), right.mean())
        ),
        "these are percentages: return shares, from 0 to 1": _figures(
            lambda right, shares: (100 * right.mean(), 100 * shares.mean())
        ),
        "these are the shares of wrong guesses": _figures(
            lambda right, shares: (1 - right.mean(), 1 - shares.mean())
        ),
        "the first figure counts the right guesses: divide them by the number of private images": (
            _figures(lambda right, shares: (right.sum(), shares.mean()))
        ),
        "the balanced accuracy is the accuracy again: take the share of right guesses for each "
        "class by itself, and the mean of these shares, in which a rare class counts as much as a "
        "common one": _figures(lambda right, shares: (right.mean(), right.mean())),
        "the balanced accuracy is a mean over the public classes: a class without a private image "
        "has no share of right guesses": _with(classes=lambda public, private: public.unique()),
        "the balanced accuracy is a mean over all numbers up to the highest class: a class without "
        "a private image has no share of right guesses": _with(classes=_up_to_the_highest),
        "the balanced accuracy is a mean over ten classes, however many there are: take it over "
        "those that occur among the private labels": _with(
            classes=lambda public, private: torch.arange(10)
        ),
        "the balanced accuracy is nan: a class without a private image has no share of right "
        "guesses, so leave it out of the mean": _with(classes=_up_to_the_highest, empty=torch.nan),
        "the balanced accuracy is a sum over the classes: take their mean": _figures(
            lambda right, shares: (right.mean(), shares.sum())
        ),
        "the balanced accuracy is 1 over the number of private classes: it is 0 where the guess is "
        "none of them": _figures(
            lambda right, shares: (right.mean(), torch.tensor(1 / len(shares)))
        ),
        "this is chance, 1 over the number of classes: always guessing the most common class needs "
        "no image either, and is right more often where the classes are unequal": _chance,
        "this is guessing each class as often as it occurs: always guessing the most common one is "
        "right more often": _in_proportion,
    },
)
def bar_to_beat(public: Tensor, private: Tensor) -> Figures:
    return _with()(public, private)
