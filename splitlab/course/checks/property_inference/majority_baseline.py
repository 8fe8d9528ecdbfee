"""Exercise 1: the accuracy of always guessing the class that is commonest in public."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from splitlab.course.checks.base import Answer, check, expect_number, expect_right, what, wrong

Formula = Callable[[Tensor, Tensor], Tensor]
Guess = Callable[[Tensor], int]
ROUNDING = 1e-6  # an answer may count in float32

CASES = (  # (public labels, private labels)
    ([0, 1, 1, 2, 1, 0], [2, 2, 2, 1, 0, 2, 1]),  # each side has a commonest class of its own
    ([1, 0, 0, 0], [1, 1, 1, 0, 0, 1, 1, 0, 1]),
    ([2, 5, 1, 4, 0, 5, 1, 2, 4], [2, 1, 4, 1, 5, 2, 1, 4, 2, 1]),  # four are equally common
    ([3, 1, 3, 1, 0], [1, 3, 3, 0, 3, 3, 1]),
    ([5, 5, 2, 0], [2, 0, 0, 2, 2]),  # the commonest class is not among the private ones
    ([2, 2, 7, 0, 5, 5, 2], [5, 2, 2, 6, 2]),  # 0 and 7 are not, and 6 is new there
    ([1, 1, 0], [1, 1, 1, 1]),
)


@check("an attacker who knows the public labels gets this far without looking at an image.")
def bar_to_beat(answer: Answer) -> None:
    """`bar_to_beat(public, private)`: accuracy and balanced accuracy of one guess for all."""
    cases = [(torch.tensor(public), torch.tensor(private)) for public, private in CASES]
    values = [_asked(answer, *case) for case in cases]
    expect_right(
        values,
        cases,
        _bar,
        _mistakes(),
        "the two figures are not right: guess the commonest public class for every private image; "
        "then take the share of images that are right, and the mean of that share over the classes",
        ROUNDING,
    )


def _asked(answer: Answer, public: Tensor, private: Tensor) -> Tensor:
    before = public.clone(), private.clone()
    pair = answer(public, private)
    if not (torch.equal(public, before[0]) and torch.equal(private, before[1])):
        wrong("bar_to_beat changes the labels that it is given: work on copies")
    if not isinstance(pair, tuple | list | Tensor) or len(pair) != 2:
        wrong(
            f"bar_to_beat returns {what(pair)}: return two numbers, the accuracy and the balanced "
            "accuracy"
        )
    names = ("the accuracy", "the balanced accuracy")
    numbers = [expect_number(one, name) for one, name in zip(pair, names, strict=True)]
    return torch.tensor(numbers, dtype=torch.float64)


def _lowest(labels: Tensor) -> int:
    """The commonest class; of equally common ones the lowest."""
    return int(torch.bincount(labels).argmax())


def _highest(labels: Tensor) -> int:
    counts = torch.bincount(labels)
    return int((counts == counts.max()).nonzero().max())


def _first(labels: Tensor) -> int:
    counts = torch.bincount(labels)
    return next(one for one in labels.tolist() if counts[one] == counts.max())


def _last(labels: Tensor) -> int:
    return _first(labels.flip(0))


def _rarest(labels: Tensor) -> int:
    counts = torch.bincount(labels).tolist()
    return min((n for n, count in enumerate(counts) if count), key=lambda n: counts[n])


def _figures(guess: int, labels: Tensor, classes: Tensor | None = None) -> Tensor:
    """Accuracy and balanced accuracy of one guess; the latter over the classes that occur."""
    right = (labels == guess).double()
    occurring = labels.unique() if classes is None else classes
    shares = [right[labels == c].mean().nan_to_num() for c in occurring]
    return torch.stack([right.mean(), torch.stack(shares).mean()])


def _bar(public: Tensor, private: Tensor, guess: Guess = _lowest) -> Tensor:
    return _figures(guess(public), private)


def _mistakes() -> Iterator[tuple[str, Formula]]:
    """Yield (message, what it gives) of likely slips."""
    yield (
        "the guess is the commonest class of the private labels: the attacker does not have them, "
        "so it has to learn its guess on the public ones",
        lambda public, private: _bar(private, private),
    )
    yield (
        "the guess is learned on the private labels and scored on the public ones: it is the other "
        "way round",
        lambda public, private: _bar(private, public),
    )
    yield (
        "the guess is scored on the public labels, on which it was learned: score it on the "
        "private ones",
        lambda public, private: _bar(public, public),
    )
    guesses: dict[str, Guess] = {
        "of equally common classes the highest number is guessed: take the lowest, so that "
        "everybody gets the same bar": _highest,
        "of equally common classes the one that comes first in the list is guessed: take the "
        "lowest number, so that the order of the rows does not matter": _first,
        "of equally common classes the one that comes last in the list is guessed: take the "
        "lowest number, so that the order of the rows does not matter": _last,
        "the guess is the rarest class": _rarest,
        "the guess is the mean of the class numbers: they are names, and there is no class between "
        "two others": lambda public: int(public.double().mean().round()),
        "the guess is the median of the class numbers: they are names, without an order": (
            lambda public: int(public.median())
        ),
        "the guess is how often the commonest class occurs, and not its number": (
            lambda public: int(torch.bincount(public).max())
        ),
        "the guess is class 0, whatever the labels are": lambda public: 0,
    }
    for message, guess in guesses.items():
        yield message, lambda public, private, guess=guess: _bar(public, private, guess)
    yield from _figure_mistakes()
    yield (
        "this is chance, 1 over the number of classes: always guessing the commonest class needs "
        "no image either, and is right more often where the classes are unequal",
        lambda public, private: torch.full((2,), 1 / len(public.unique()), dtype=torch.float64),
    )
    yield (
        "this is guessing each class as often as it occurs: always guessing the commonest one is "
        "right more often",
        _in_proportion,
    )


def _figure_mistakes() -> Iterator[tuple[str, Formula]]:
    yield "the two figures are in the wrong order", lambda *labels: _bar(*labels).flip(0)
    yield "these are percentages: return shares, from 0 to 1", lambda *labels: 100 * _bar(*labels)
    yield "these are the shares of wrong guesses", lambda *labels: 1 - _bar(*labels)
    yield (
        "the first figure counts the right guesses: divide them by the number of private images",
        lambda public, private: _bar(public, private) * torch.tensor([len(private), 1]),
    )
    yield (
        "the balanced accuracy is the accuracy again: take the share of right guesses for each "
        "class by itself, and the mean of these shares, in which a rare class counts as much as a "
        "common one",
        lambda public, private: _bar(public, private)[:1].expand(2),
    )
    yield (
        "the balanced accuracy is a mean over the public classes: a class without a private image "
        "has no share of right guesses",
        lambda public, private: _figures(_lowest(public), private, public.unique()),
    )
    yield (
        "the balanced accuracy is a mean over all numbers up to the highest class: a class without "
        "a private image has no share of right guesses",
        lambda public, private: _figures(
            _lowest(public), private, torch.arange(int(private.max()) + 1)
        ),
    )
    yield (
        "the balanced accuracy is a sum over the classes: take their mean",
        lambda public, private: _bar(public, private) * torch.tensor([1, len(private.unique())]),
    )
    yield (
        "the balanced accuracy is 1 over the number of private classes: it is 0 where the guess is "
        "none of them",
        lambda public, private: torch.stack(
            [_bar(public, private)[0], torch.tensor(1 / len(private.unique())).double()]
        ),
    )


def _in_proportion(public: Tensor, private: Tensor) -> Tensor:
    count = int(max(public.max(), private.max())) + 1
    guessed = torch.bincount(public, minlength=count).double() / len(public)
    return torch.stack([guessed[private].mean(), guessed[private.unique()].mean()])
