"""Exercise 2: how often a trigger makes a network predict the attacker's class."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor

from splitlab.course.checks.judge import exercise

Images = Callable[[Tensor], Tensor]


def _case(count: int, classes: int, *shape: int, target: int) -> Callable[[], tuple[Any, ...]]:
    """A linear classifier that is right about most images, and a trigger that fools it at times."""

    def case() -> tuple[Any, ...]:
        weights, pattern = torch.randn(prod(shape), classes), torch.randn(shape)

        def predict(images: Tensor) -> Tensor:
            return (images.flatten(1) @ weights).argmax(1)

        def trigger(images: Tensor) -> Tensor:
            return 0.8 * images + 0.2 * (pattern + weights[:, target].view(shape))

        x = torch.randn(count, *shape)
        y = torch.where(torch.rand(count) < 0.6, predict(x), torch.randint(classes, (count,)))
        y[0], y[1], y[2] = target, (target + 1) % classes, target
        return predict, x, y, trigger, target

    return case


def _share(right: Tensor) -> Tensor:
    return right.double().mean()


def _of_others(measure: Callable[[Images, Tensor, Tensor, Images, int], Tensor]) -> Any:
    """Take the share over the images that are not of the target class."""
    return lambda predict, x, y, trigger, target: _share(
        measure(predict, x, y, trigger, target)[y != target]
    )


@exercise(
    cases=[
        _case(40, 6, 3, 2, 2, target=1),
        _case(60, 5, 2, 3, 4, target=3),
        _case(50, 4, 1, 5, 3, target=0),
        _case(9, 3, 1, 3, 3, target=2),
    ],
    returns="the attack success",
    tolerance=1e-6,  # an answer may take the mean in float32
    praise="it counts the images of the other classes that the trigger turns into the target.",
    otherwise="the attack success is not right: of the images whose label is not the target, take "
    "the share that predict assigns to the target after trigger has changed them",
    slips={
        "images of the target class are counted, which need no trigger to be predicted: leave "
        "them out": lambda p, x, y, trigger, target: _share(p(trigger(x)) == target),
        "this is measured without the trigger: predict trigger(x)": _of_others(
            lambda p, x, y, trigger, target: p(x) == target
        ),
        "this is how often the prediction stays the same under the trigger: compare it with the "
        "target": _of_others(lambda p, x, y, trigger, target: p(trigger(x)) == p(x)),
        "this is the accuracy on images with the trigger: compare the predictions with the target, "
        "not with y": _of_others(lambda p, x, y, trigger, target: p(trigger(x)) == y),
        "every wrong prediction counts as a success: count only those of the target": _of_others(
            lambda p, x, y, trigger, target: p(trigger(x)) != y
        ),
        "the images are chosen by their prediction: leave out those whose label y is the target": (
            lambda p, x, y, trigger, target: _share((p(trigger(x)) == target)[p(x) != target])
        ),
        "the count is divided by the number of all images: divide it by the number of images that "
        "are not of the target class": lambda p, x, y, trigger, target: _share(
            (p(trigger(x)) == target) & (y != target)
        ),
        "this is the share of the images of the target class: take those of the other classes": (
            lambda p, x, y, trigger, target: _share((p(trigger(x)) == target)[y == target])
        ),
    },
)
def attack_success(predict: Images, x: Tensor, y: Tensor, trigger: Images, target: int) -> Tensor:
    return _share((predict(trigger(x)) == target)[y != target])
