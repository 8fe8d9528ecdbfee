"""Exercise 3: the loss of a pilot with a head in the decoder's place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from splitlab.course.checks.base import Answer, check, expect_right, expect_tensor, same, wrong
from splitlab.course.checks.critic import state_of

THRESHOLD = 0.5  # of the slants; some images lie on it exactly
TOLERANCE = 1e-6


@check("pilot and head learn the property together, and the digits play no part.")
def property_loss(answer: Answer) -> None:
    """`property_loss(x_public, y, slants, threshold, pilot, head)`: mean cross-entropy."""
    cases = [_Case.draw(size) for size in (8, 5, 1, 12)]
    values = [_asked(answer, case) for case in cases]
    expect_right(
        [value.detach() for value in values],
        [(case,) for case in cases],
        _loss,
        _mistakes(),
        "the loss is not the mean cross-entropy of head(pilot(x_public)) with the property: 1 "
        "where an image's slant is below the threshold, else 0",
        TOLERANCE,
    )
    for value, case in zip(values, cases, strict=True):
        _check_graph(value, case)


@dataclass(frozen=True)
class _Case:
    """What one call gets.

    Attributes:
        x: Images, (P, 1, 4, 6).
        y: Labels of the task, which the head could have as its labels, too.
        slants: (P,).
        pilot: x -> z.
        head: z -> (P, 2).
    """

    x: Tensor
    y: Tensor
    slants: Tensor
    pilot: nn.Module
    head: nn.Module

    @classmethod
    def draw(cls, size: int) -> _Case:
        slants = THRESHOLD + torch.randn(size, dtype=torch.float64)
        slants[::4] = THRESHOLD
        pilot = nn.Sequential(nn.Conv2d(1, 2, 3, 2, 1), nn.Tanh()).double()
        head = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).double()
        for parameter in [*pilot.parameters(), *head.parameters()]:  # as the last step left them
            parameter.grad = torch.rand_like(parameter)
        x = torch.rand(size, 1, 4, 6, dtype=torch.float64) * 2 - 1
        return cls(x, torch.randint(2, (size,)), slants, pilot, head)

    def scores(self) -> Tensor:
        return self.head(self.pilot(self.x))

    def labels(self) -> Tensor:
        return (self.slants < THRESHOLD).long()


def _asked(answer: Answer, case: _Case) -> Tensor:
    """Return the student's loss, with its graph, if nothing else has happened.

    Raises:
        CheckFailed: If the loss is no number, or something has changed.
    """
    nets = nn.ModuleList([case.pilot, case.head])
    given = [one.clone() for one in (case.x, case.y, case.slants)]
    before = state_of(nets)
    value = answer(*given, THRESHOLD, case.pilot, case.head)
    value = expect_tensor(value, "the loss", ())
    if not all(map(torch.equal, given, (case.x, case.y, case.slants))):
        wrong("property_loss changes the images, the labels or the slants: work on copies")
    after = state_of(nets)
    if not all(map(torch.equal, before["weights"], after["weights"])):
        wrong("the weights have changed: return the loss, the step comes later")
    grads = zip(before["grads"], after["grads"], strict=True)
    if any(grad is None or not torch.equal(a, grad) for a, grad in grads):
        wrong("the .grad of the weights has changed: return the loss, backward comes later")
    if before["modes"] != after["modes"] or before["frozen"] != after["frozen"]:
        wrong("property_loss leaves a network in another mode than before, or frozen")
    return value


def _check_graph(value: Tensor, case: _Case) -> None:
    """See that both networks learn from the loss, what they should."""
    if not value.requires_grad:
        wrong("the loss has no graph, so nothing learns from it: no detach, no no_grad, no item()")
    slopes = {}
    for net, name in ((case.pilot, "the pilot"), (case.head, "the head")):
        weights = list(net.parameters())
        got = torch.autograd.grad(value, weights, retain_graph=True, allow_unused=True)
        due = torch.autograd.grad(_loss(case), weights)
        if all(slope is None or not slope.any() for slope in got):
            wrong(
                f"{name} learns nothing: the loss has the right value, and its graph does not lead "
                f"to {name}; detach nothing, for z has to become what the head can read"
            )
        slopes[name] = [
            slope is not None and same(slope, right) for slope, right in zip(got, due, strict=True)
        ]
    for name, fits in slopes.items():
        if not all(fits):
            wrong(
                f"the loss has the right value, and its gradient with respect to {name} is wrong: "
                "no part of it may be detached"
            )


def _loss(case: _Case, labels: Tensor | None = None) -> Tensor:
    return _mean(case.scores(), case.labels() if labels is None else labels)


def _mean(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy, written out."""
    return (scores.exp().sum(1).log() - scores[torch.arange(len(scores)), labels]).mean()


def _mistakes() -> Iterator[tuple[str, Callable[[_Case], Tensor]]]:
    """Yield (message, what it gives) of likely slips."""
    labels: dict[str, Callable[[_Case], Tensor]] = {
        "the head learns the labels of the task: the property is what the attacker wants to know, "
        "and y has no part in it": lambda case: case.y,
        "the property is the wrong way round: it is 1 where the slant is below the threshold": (
            lambda case: 1 - case.labels()
        ),
        "an image whose slant is the threshold is not below it: its property is 0": (
            lambda case: (case.slants <= THRESHOLD).long()
        ),
        "the property is the wrong way round: it is 1 where the slant is below the threshold, and "
        "an image on the threshold has 0": lambda case: (case.slants > THRESHOLD).long(),
        "the property is cut at these images' own median, which is another one in the next batch: "
        "use the threshold": lambda case: (case.slants < case.slants.median()).long(),
        "the property is cut at these images' own mean, which is another one in the next batch: "
        "use the threshold": lambda case: (case.slants < case.slants.mean()).long(),
        "the property is cut at 0, and not at the threshold": (
            lambda case: (case.slants < 0).long()
        ),
    }
    for message, of in labels.items():
        yield message, lambda case, of=of: _loss(case, of(case))
    losses: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "the scores go through a softmax before the cross-entropy, which has one of its own: "
        "twice, and the loss can hardly fall": (
            lambda scores, labels: _mean(scores.softmax(1), labels)
        ),
        "the scores go through a sigmoid before the cross-entropy, which takes raw scores": (
            lambda scores, labels: _mean(scores.sigmoid(), labels)
        ),
        "this is the sum over the images: take the mean, or the step depends on the batch size": (
            lambda scores, labels: _mean(scores, labels) * len(labels)
        ),
        "this is a squared error of the probabilities: take the cross-entropy": (
            lambda scores, labels: F.mse_loss(scores.softmax(1), _one_hot(labels))
        ),
        "this is a squared error of the scores: take the cross-entropy": (
            lambda scores, labels: F.mse_loss(scores, _one_hot(labels))
        ),
        "the logarithm is missing: this is minus the mean probability of the right class": (
            lambda scores, labels: -(scores.softmax(1) * _one_hot(labels)).sum(1).mean()
        ),
        "the softmax is missing: this is minus the mean score of the right class": (
            lambda scores, labels: -(scores * _one_hot(labels)).sum(1).mean()
        ),
        "the loss has the wrong sign: pilot and head would unlearn the property": (
            lambda scores, labels: -_mean(scores, labels)
        ),
        "this is a cross-entropy of each score by itself: one image has one label, so the scores "
        "go through a softmax together": lambda scores, labels: F.binary_cross_entropy_with_logits(
            scores, _one_hot(labels)
        ),
        "this is the share of wrong answers, which has no slope: take the cross-entropy": (
            lambda scores, labels: (scores.argmax(1) != labels).double().mean()
        ),
    }
    for message, loss in losses.items():
        yield message, lambda case, loss=loss: loss(case.scores(), case.labels())


def _one_hot(labels: Tensor) -> Tensor:
    return F.one_hot(labels, 2).double()
