"""Exercise 2: an image whose features are those that crossed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from splitlab.attacks import priors
from splitlab.course.checks.base import Answer, check, expect_right, expect_tensor, twin, wrong
from splitlab.course.checks.training import gradient

Limits = tuple[float, float]
Loss = Callable[[nn.Module, Tensor, Tensor, float], Tensor]
Update = Callable[[Tensor, list[Tensor], float], Tensor]
ANYWHERE = (-100.0, 100.0)  # a range whose ends nothing reaches
GIVEN_AWAY = 1e-3  # how far a pixel may be off, where f loses nothing


@check("f gives these images away, each by its own features, and did not move for it.")
def invert(answer: Answer) -> None:
    """`invert(net, z, start, steps, rate, weight, limits)`: descent on the images."""
    cases = [
        _case(4, 6, 0.3, (-0.8, 0.9)),
        _case(1, 1, 0.7, ANYWHERE, with_graph=True),
        _case(3, 5, 2.0, (0.0, 0.7), with_graph=True),
        _case(2, 7, 0.0, (-0.5, 0.25), rate=2.0),
        mixing_case(),
    ]
    found = [case.asked(answer) for case in cases]
    off = (found[-1] - cases[-1].private).abs().max().item()
    consequence = (
        "an f that only mixes pixels gives the very images away, and here they are off by up to "
        f"{off:.2g}"
        if off > GIVEN_AWAY
        else "it begins at start"
    )
    expect_right(
        found,
        [(case,) for case in cases],
        Case.descend,
        _mistakes(),
        "the descent does not lead there: a step is x - rate * gradient, brought back into limits, "
        "and the loss is the squared differences of net(x) and z, summed, plus weight times each "
        f"image's total variation; {consequence}",
    )


# --- the truth, and its variants --------------------------------------------------------------


def _loss(net: nn.Module, x: Tensor, z: Tensor, weight: float) -> Tensor:
    return (net(x) - z).square().sum() + weight * priors.total_variation(x).sum()


def _step(x: Tensor, gradients: list[Tensor], rate: float) -> Tensor:
    """Plain descent: one step from x, by the last of the gradients so far."""
    return x - rate * gradients[-1]


@dataclass(frozen=True)
class Case:
    """What `invert` is called with, and the images behind it.

    Attributes:
        net: f, in evaluation mode.
        private: The images that have crossed as z, (B, C, H, W).
        start: Where to begin, in their shape.
        steps: How many steps to take.
        rate: What a gradient is multiplied by.
        weight: Of the total variation.
        limits: The ends of the pixels' range.
        with_graph: Whether z comes with the graph that leads to the private images.
    """

    net: nn.Module
    private: Tensor
    start: Tensor
    steps: int
    rate: float
    weight: float
    limits: Limits
    with_graph: bool = False

    def descend(
        self,
        loss: Loss = _loss,
        *,
        update: Update = _step,
        more: int = 0,
        limits: Limits | None = None,
        clamped: str = "after",
        start: Tensor | None = None,
        training: bool = False,
    ) -> Tensor:
        """Return the images that the descent leads to, or a variant of it.

        Args:
            loss: Of all images at once.
            update: From x, the gradients so far and the rate, the next x.
            more: Steps beyond those asked for.
            limits: Another range.
            clamped: When x is brought into it: "after" each step, "before" it, at the "end" or
                "never".
            start: Another start.
            training: Whether f is in training mode.
        """
        low, high = self.limits if limits is None else limits
        net = twin(self.net).train(training)
        with torch.no_grad():
            z = self.net(self.private)
        x = self.start if start is None else start
        gradients: list[Tensor] = []
        for _ in range(self.steps + more):
            x = x.clamp(low, high) if clamped == "before" else x
            gradients.append(gradient(lambda x: loss(net, x, z, self.weight), x))
            x = update(x, gradients, self.rate)
            x = x.clamp(low, high) if clamped == "after" else x
        return x.clamp(low, high) if clamped == "end" else x

    def asked(self, answer: Answer) -> Tensor:
        """Return what the function finds, if it leaves everything else as it was.

        Raises:
            CheckFailed: If it does not.
        """
        private = self.private.clone().requires_grad_(self.with_graph)
        z = self.net(private)
        z = z if self.with_graph else z.detach()
        before = twin(self.net)
        numbers, start = z.detach().clone(), self.start.clone()
        given = [self.steps, self.rate, self.weight, self.limits]
        found = answer(self.net, z, start, *given)
        _check_net(self.net, before)
        if private.grad is not None:
            wrong(
                "a gradient has run through z into the private images: z is what was received, and "
                "only x is to be moved, so ask for the gradient with respect to x alone"
            )
        if start.requires_grad or not torch.equal(start, self.start):
            wrong(
                "start has changed, or requires a gradient now: it is only where x begins, so let "
                "x be a tensor of its own"
            )
        if z.requires_grad != self.with_graph or not torch.equal(z, numbers):
            wrong("z has changed, or requires a gradient now: it is what was received")
        found = expect_tensor(found, "what invert returns", self.private.shape)
        if found.requires_grad:
            wrong("the images still carry a computation graph: return numbers, x.detach()")
        return found


def _check_net(net: nn.Module, before: nn.Module) -> None:
    """Look whether f is as it was."""
    if [m.training for m in net.modules()] != [m.training for m in before.modules()]:
        wrong("f is left in another mode than before: it comes in evaluation mode, so leave it")
    if not all(map(torch.equal, net.buffers(), before.buffers())):
        wrong(
            "BatchNorm's running statistics have moved: f ran in training mode, in which every "
            "image of the batch changes what f makes of the others"
        )
    pairs = list(zip(net.parameters(), before.parameters(), strict=True))
    if not all(torch.equal(one, other) for one, other in pairs):
        wrong("f's weights have moved: they are known, and it is x that is to be found")
    if any(one.requires_grad != other.requires_grad for one, other in pairs):
        wrong("f's weights no longer require gradients: put back what you change")
    if any(one.grad is not None for one, _ in pairs):
        wrong(
            "gradients are left in the .grad of f's weights: backward() walks to all of them, so "
            "ask torch.autograd.grad for the gradient with respect to x alone"
        )


# --- cases ------------------------------------------------------------------------------------


def _case(
    size: int,
    steps: int,
    weight: float,
    limits: Limits,
    *,
    rate: float = 0.05,
    with_graph: bool = False,
) -> Case:
    """A small convolutional f with BatchNorm, whose statistics are not those of the batch."""
    net = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Tanh()).double()
    with torch.no_grad():
        net[1].running_mean.normal_(0, 0.3)
        net[1].running_var.uniform_(0.5, 2)
    low, high = max(limits[0], -1), min(limits[1], 1)

    def images() -> Tensor:
        return low + (high - low) * torch.rand(size, 2, 4, 5, dtype=torch.float64)

    return Case(net.eval(), images(), images(), steps, rate, weight, limits, with_graph)


def mixing_case() -> Case:
    """An f that only mixes pixels, f(x) = A x, and loses none: it gives the images away.

    The error after k steps has a formula: (1 - 2 rate A^T A)^k times the first one.
    """
    mixing = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))[0]
    mixing = mixing * torch.linspace(0.8, 1.2, 6, dtype=torch.float64)
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 6, bias=False)).double()
    with torch.no_grad():
        net[1].weight.copy_(mixing)
    private = torch.rand(3, 1, 2, 3, dtype=torch.float64) * 2 - 1
    return Case(net.eval(), private, torch.zeros_like(private), 40, 0.25, 0.0, ANYWHERE)


# --- likely slips -----------------------------------------------------------------------------


def _mistakes() -> Iterator[tuple[str, Callable[[Case], Tensor]]]:
    """Yield (message, what it gives) of likely slips."""
    for message, loss in _losses().items():
        yield message, functools.partial(Case.descend, loss=loss)
    yield (
        "there is one step too few: after the last gradient, too, x moves",
        functools.partial(Case.descend, more=-1),
    )
    yield "there is one step too many", functools.partial(Case.descend, more=1)
    yield (
        "all gradients so far are added up: ask for a new one at each step, or clear x.grad",
        functools.partial(Case.descend, update=lambda x, g, rate: x - rate * sum(g)),
    )
    yield (
        "every step takes the gradient at the start: f must look at x again after each step",
        functools.partial(Case.descend, update=lambda x, g, rate: x - rate * g[0]),
    )
    yield (
        "only the last gradient moves x: each step starts where the one before ended",
        lambda case: case.descend(update=lambda x, g, rate: case.start - rate * g[-1]),
    )
    yield (
        "the steps go by the gradient's sign: its length counts, too",
        functools.partial(Case.descend, update=lambda x, g, rate: x - rate * g[-1].sign()),
    )
    yield (
        "these are steps with momentum: take x - rate * gradient",
        functools.partial(Case.descend, update=_momentum),
    )
    yield (
        "these are steps of Adam, which fits a rate to each pixel: take x - rate * gradient",
        functools.partial(Case.descend, update=_adam),
    )
    for message, clamped in {
        "the images leave their range: bring x back into limits": "never",
        "x is brought into its range at the end alone: do it after each step, so that f is asked "
        "about images only": "end",
        "x is brought into its range before a step and not after the last one": "before",
    }.items():
        yield message, functools.partial(Case.descend, clamped=clamped)
    for low, high in ((-1.0, 1.0), (0.0, 1.0)):
        yield (
            f"x is kept between {low:g} and {high:g}, whatever limits say",
            functools.partial(Case.descend, limits=(low, high)),
        )
    yield (
        "the descent begins at black or gray images of its own: begin at start",
        lambda case: case.descend(start=torch.zeros_like(case.start)),
    )
    yield (
        "f runs in training mode: there every image of the batch changes what f makes of the "
        "others, and z was made in evaluation mode",
        functools.partial(Case.descend, training=True),
    )
    yield "this is the start, not the end: x has not moved", lambda case: case.start


def _losses() -> dict[str, Loss]:
    """Other losses: message -> loss."""

    def features(net: nn.Module, x: Tensor, z: Tensor) -> Tensor:
        return (net(x) - z).square().flatten(1).sum(1)

    def rough(x: Tensor) -> Tensor:
        return priors.total_variation(x)

    return {
        "x climbs: the step goes against the gradient": lambda net, x, z, w: -_loss(net, x, z, w),
        "the total variation has the wrong sign: x is driven to be rough": (
            lambda net, x, z, w: features(net, x, z).sum() - w * rough(x).sum()
        ),
        "the total variation is left out": lambda net, x, z, w: features(net, x, z).sum(),
        "weight is not used: the total variation counts in full": (
            lambda net, x, z, w: features(net, x, z).sum() + rough(x).sum()
        ),
        "weight is on the features, and belongs to the total variation": (
            lambda net, x, z, w: w * features(net, x, z).sum() + rough(x).sum()
        ),
        "the features go unused: nothing but the total variation is left": (
            lambda net, x, z, w: w * rough(x).sum()
        ),
        "the total variation is a mean over the batch: the smoothness of an image depends on how "
        "many others there are, so sum it": (
            lambda net, x, z, w: features(net, x, z).sum() + w * rough(x).mean()
        ),
        "the total variation is counted once for each image of the batch again: it is added to "
        "every image's own loss and then summed": (
            lambda net, x, z, w: (features(net, x, z) + w * rough(x).sum()).sum()
        ),
        "the loss is a mean over the batch: each image's step becomes smaller the more images "
        "there are, so sum over the images": (
            lambda net, x, z, w: (features(net, x, z) + w * rough(x)).mean()
        ),
        "the squared differences are a mean over all numbers of z: the images share a step that "
        "becomes smaller the more of them there are, so sum": (
            lambda net, x, z, w: (net(x) - z).square().mean() + w * rough(x).sum()
        ),
        "both parts of the loss are means over the batch: each image's step becomes smaller the "
        "more images there are, so sum": (
            lambda net, x, z, w: (net(x) - z).square().mean() + w * rough(x).mean()
        ),
        "the squared differences are a mean over an image's numbers of z: sum them": (
            lambda net, x, z, w: (net(x) - z).square().flatten(1).mean(1).sum() + w * rough(x).sum()
        ),
        "the differences are absolute where they should be squared": (
            lambda net, x, z, w: (net(x) - z).abs().sum() + w * rough(x).sum()
        ),
        "this is one distance for the whole batch, with a root: how far one image is off then "
        "decides how far the others go, so sum the squares": (
            lambda net, x, z, w: features(net, x, z).sum().sqrt() + w * rough(x).sum()
        ),
        "a root is taken of each image's squared differences: leave them squared": (
            lambda net, x, z, w: features(net, x, z).sqrt().sum() + w * rough(x).sum()
        ),
        "the loss has a factor 1/2 on its features": (
            lambda net, x, z, w: features(net, x, z).sum() / 2 + w * rough(x).sum()
        ),
    }


def _momentum(x: Tensor, gradients: Sequence[Tensor], rate: float) -> Tensor:
    velocity = torch.zeros_like(x)
    for one in gradients:
        velocity = 0.9 * velocity + one
    return x - rate * velocity


def _adam(x: Tensor, gradients: Sequence[Tensor], rate: float) -> Tensor:
    first, second = torch.zeros_like(x), torch.zeros_like(x)
    for one in gradients:
        first = 0.9 * first + 0.1 * one
        second = 0.999 * second + 0.001 * one.square()
    first = first / (1 - 0.9 ** len(gradients))
    second = second / (1 - 0.999 ** len(gradients))
    return x - rate * first / (second.sqrt() + 1e-8)
