"""Exercise 3: the loss of a pilot with a head instead of a decoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from splitlab.course.checks.judge import exercise


def _property(y: Tensor, slants: Tensor, threshold: float | Tensor) -> Tensor:
    return (slants < threshold).long()


def _with(
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    labels: Callable[[Tensor, Tensor, float], Tensor] = _property,
    between: Callable[[Tensor], Tensor] = lambda z: z,
    weights: Callable[[Tensor], Tensor] = lambda weight: weight,
) -> Callable[..., Tensor]:
    """An answer with another loss or other labels, or with something detached."""

    def answer(*case: Any) -> Tensor:
        x_public, y, slants, threshold, pilot, head = case
        own = {name: weights(weight) for name, weight in head.named_parameters()}
        scores = torch.func.functional_call(head, own, (between(pilot(x_public)),))
        return loss(scores, labels(y, slants, threshold))

    return answer


def _labels(of: Callable[[Tensor, Tensor, float], Tensor]) -> Callable[..., Tensor]:
    return _with(labels=of)


def _one_hot(labels: Tensor) -> Tensor:
    return F.one_hot(labels, 2).to(torch.get_default_dtype())


def _case(
    threshold: float, *sizes: int, prepare: Callable[[nn.Module, Any], Any] | None = None
) -> Callable[[], Iterator[tuple[Any, ...]]]:
    """Losses of one pilot and head, with old gradients; some slants lie on the threshold."""

    def case() -> Iterator[tuple[Any, ...]]:
        pilot = nn.Sequential(nn.Conv2d(1, 2, 3, 2, 1), nn.Tanh())
        head = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
        for weight in [*pilot.parameters(), *head.parameters()]:
            weight.grad = torch.rand_like(weight)
        if prepare:
            prepare(pilot, head)
        for size in sizes:
            slants = threshold + torch.randn(size)
            slants[::4] = threshold
            x = 2 * torch.rand(size, 1, 4, 6) - 1
            yield x, torch.randint(2, (size,)), slants, threshold, pilot, head

    return case


@exercise(
    cases=[
        _case(0.5, 8, 5),
        _case(-0.7, 12, 2),
        _case(1.5, 1),
        _case(
            0.2, 6, prepare=lambda pilot, head: (pilot.eval(), head[1].bias.requires_grad_(False))
        ),
    ],
    returns="the loss",
    praise="pilot and head learn the property together, and the digits have no effect.",
    otherwise="the loss is not the mean cross-entropy of head(pilot(x_public)) with the property: "
    "1 where an image's slant is below the threshold, else 0",
    slips={
        "the head learns the labels of the task: the property is what the attacker wants to know, "
        "and y has no part in it": _labels(lambda y, slants, threshold: y),
        "the property is the wrong way round: it is 1 where the slant is below the threshold": (
            _labels(lambda *given: 1 - _property(*given))
        ),
        "an image whose slant is the threshold is not below it: its property is 0": _labels(
            lambda y, slants, threshold: (slants <= threshold).long()
        ),
        "the property is the wrong way round: it is 1 where the slant is below the threshold, and "
        "an image on the threshold has 0": _labels(
            lambda y, slants, threshold: (slants > threshold).long()
        ),
        "the property is cut at these images' own median, which is another one in the next batch: "
        "use the threshold": _labels(
            lambda y, slants, threshold: _property(y, slants, slants.median())
        ),
        "the property is cut at these images' own mean, which is another one in the next batch: "
        "use the threshold": _labels(
            lambda y, slants, threshold: _property(y, slants, slants.mean())
        ),
        "the property is cut at 0, and not at the threshold": _labels(
            lambda y, slants, threshold: _property(y, slants, 0)
        ),
        "the scores go through a softmax before the cross-entropy, which has one of its own: "
        "twice, and the loss can hardly fall": _with(
            lambda scores, labels: F.cross_entropy(scores.softmax(1), labels)
        ),
        "the scores go through a sigmoid before the cross-entropy, which takes raw scores": _with(
            lambda scores, labels: F.cross_entropy(scores.sigmoid(), labels)
        ),
        "this is the sum over the images: take the mean, or the step depends on the batch size": (
            _with(lambda scores, labels: F.cross_entropy(scores, labels, reduction="sum"))
        ),
        "this is a squared error of the probabilities: take the cross-entropy": _with(
            lambda scores, labels: F.mse_loss(scores.softmax(1), _one_hot(labels))
        ),
        "this is a squared error of the scores: take the cross-entropy": _with(
            lambda scores, labels: F.mse_loss(scores, _one_hot(labels))
        ),
        "the logarithm is missing: this is minus the mean probability of the right class": _with(
            lambda scores, labels: F.nll_loss(scores.softmax(1), labels)
        ),
        "the softmax is missing: this is minus the mean score of the right class": _with(
            F.nll_loss
        ),
        "the loss has the wrong sign: pilot and head would unlearn the property": _with(
            lambda scores, labels: -F.cross_entropy(scores, labels)
        ),
        "this is a cross-entropy of each score by itself: one image has one label, so the scores "
        "go through a softmax together": _with(
            lambda scores, labels: F.binary_cross_entropy_with_logits(scores, _one_hot(labels))
        ),
        "this is the share of wrong answers, which has no slope: take the cross-entropy": _with(
            lambda scores, labels: (scores.argmax(1) != labels).to(scores).mean()
        ),
        "the pilot learns nothing: the loss has the right value, and its graph does not lead to "
        "the pilot; detach nothing, for z has to become what the head can read": _with(
            between=torch.detach
        ),
        "the head learns nothing: the loss has the right value, and its graph does not lead to "
        "the head; use its weights as they are": _with(weights=torch.detach),
    },
)
def property_loss(
    x_public: Tensor,
    y: Tensor,
    slants: Tensor,
    threshold: float,
    pilot: nn.Module,
    head: nn.Module,
) -> Tensor:
    return _with()(x_public, y, slants, threshold, pilot, head)
