"""Exercise 2: an image whose features match those that crossed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splitlab.attacks.priors import total_variation
from splitlab.course.checks.guard import wrong
from splitlab.course.checks.judge import exercise

Limits = tuple[float, float]
Arguments = tuple[nn.Module, Tensor, Tensor, int, float, float, Limits]
ANYWHERE = (-100.0, 100.0)  # a range whose ends nothing reaches


def _no_gradient(_: Tensor) -> None:
    wrong(
        "a gradient has run through z into the private images: z is what was received, and only x "
        "is to be moved, so ask for the gradient with respect to x alone"
    )


def _case(
    size: int,
    steps: int,
    weight: float,
    limits: Limits,
    *,
    rate: float = 0.05,
    with_graph: bool = False,
    shape: tuple[int, int, int] = (2, 4, 5),
) -> Callable[[], Arguments]:
    """An f with BatchNorm, whose statistics are not those of the batch; one parameter is frozen.

    It holds gradients of an earlier use, which must stay.
    """

    def case() -> Arguments:
        conv, norm = nn.Conv2d(shape[0], 3, 3, padding=1), nn.BatchNorm2d(3)
        nn.init.normal_(norm.running_mean, 0, 0.3)  # type: ignore[arg-type]
        nn.init.uniform_(norm.running_var, 0.5, 2)  # type: ignore[arg-type]
        net = nn.Sequential(conv, norm, nn.Softplus()).eval()
        for parameter in net.parameters():
            parameter.grad = torch.randn_like(parameter)
        norm.bias.requires_grad_(False)
        low, high = limits if limits != ANYWHERE else (-1.0, 1.0)
        private, start = low + (high - low) * torch.rand(2, size, *shape)
        z = net(private)
        if with_graph:
            z.register_hook(_no_gradient)
        return net, z if with_graph else z.detach(), start, steps, rate, weight, limits

    return case


def _loss(net: nn.Module, x: Tensor, z: Tensor, weight: float) -> Tensor:
    return _apart(net, x, z).sum() + weight * total_variation(x).sum()


def _apart(net: nn.Module, x: Tensor, z: Tensor) -> Tensor:
    """Squared differences of each image, (B,)."""
    return (net(x) - z).square().flatten(1).sum(1)


def _with(
    loss: Callable[[nn.Module, Tensor, Tensor, float], Tensor] = _loss,
    update: Callable[[Tensor, list[Tensor]], Tensor] = lambda x, gradients: gradients[-1],
    *,
    more: int = 0,
    limits: Limits | None = None,
    clamped: str = "after",
    first: Callable[[Tensor], Tensor] = torch.clone,
    at_start: bool = False,
    training: bool = False,
) -> Callable[..., Tensor]:
    """A descent by another loss or otherwise.

    Args:
        loss: (net, x, z, weight) -> of all images at once.
        update: (x, the gradients so far) -> what is multiplied by the rate.
        more: Steps beyond those asked for.
        limits: Another range.
        clamped: When x is brought into it: "after" each step, "before" it, at the "end", "never".
        first: Where to begin, from `start`.
        at_start: Whether each step is taken from there.
        training: Whether f is in training mode.
    """

    def answer(*case: Any) -> Tensor:
        net, z, start, steps, rate, weight, given = case
        low, high = limits or given
        net.train(training)
        x, gradients = first(start.detach()), list[Tensor]()
        for _ in range(steps + more):
            x = (x.clamp(low, high) if clamped == "before" else x).requires_grad_()
            gradients += torch.autograd.grad(loss(net, x, z, weight), x)
            x = (start if at_start else x).detach() - rate * update(x.detach(), gradients)
            x = x.clamp(low, high) if clamped == "after" else x
        return x.clamp(low, high) if clamped == "end" else x

    return answer


def _by(make: Callable[..., torch.optim.Optimizer], **options: Any) -> Callable[..., Tensor]:
    """The direction of an optimizer's step."""

    def update(x: Tensor, gradients: list[Tensor]) -> Tensor:
        moved = torch.zeros_like(x)
        optimizer = make([moved], lr=1.0, **options)
        for gradient in gradients:
            before, moved.grad = moved.clone(), gradient
            optimizer.step()
        return before - moved

    return update


@exercise(
    cases=[
        _case(3, 1, 0.5, ANYWHERE),
        _case(4, 6, 0.3, (-0.8, 0.9)),
        _case(3, 5, 2.0, (0.0, 0.7), with_graph=True),
        _case(2, 7, 0.0, (-0.5, 0.25), rate=0.2),
        _case(2, 4, 1.0, (2.0, 5.0), shape=(1, 2, 3)),
        _case(1, 2, 0.7, ANYWHERE, with_graph=True, shape=(1, 2, 2)),
    ],
    returns="the result",
    praise="each image was recovered from its own features, and f was not changed.",
    otherwise="the images are not where the descent leads: a step is x - rate * gradient, "
    "brought back into limits, and the loss is the squared differences of net(x) and "
    "z, summed, plus weight times each image's total variation; it begins at start",
    slips={
        "f runs in training mode: there every image of the batch changes what f makes of the "
        "others, and z was made in evaluation mode, so no net.train()": _with(training=True),
        "x climbs: the step goes against the gradient": _with(lambda *given: -_loss(*given)),
        "the total variation has the wrong sign: x is driven to be rough": _with(
            lambda net, x, z, w: _loss(net, x, z, -w)
        ),
        "the total variation is left out": _with(lambda net, x, z, w: _loss(net, x, z, 0)),
        "weight is not used: the total variation counts in full": _with(
            lambda net, x, z, w: _loss(net, x, z, 1)
        ),
        "weight is on the features, and belongs to the total variation": _with(
            lambda net, x, z, w: w * _apart(net, x, z).sum() + total_variation(x).sum()
        ),
        "the features go unused: nothing but the total variation is left": _with(
            lambda net, x, z, w: w * total_variation(x).sum()
        ),
        "the total variation is a mean over the batch: the smoothness of an image depends on how "
        "many others there are, so sum it": _with(
            lambda net, x, z, w: _loss(net, x, z, w / len(x))
        ),
        "the total variation is counted once for each image of the batch again: it is added to "
        "every image's own loss and then summed": _with(
            lambda net, x, z, w: _loss(net, x, z, w * len(x))
        ),
        "the loss is a mean over the batch: each image's step becomes smaller the more images "
        "there are, so sum over the images": _with(
            lambda net, x, z, w: _loss(net, x, z, w) / len(x)
        ),
        "the squared differences are a mean over all numbers of z: the images share a step that "
        "becomes smaller the more of them there are, so sum": _with(
            lambda net, x, z, w: F.mse_loss(net(x), z) + w * total_variation(x).sum()
        ),
        "both parts of the loss are means over the batch: each image's step becomes smaller the "
        "more images there are, so sum": _with(
            lambda net, x, z, w: F.mse_loss(net(x), z) + w * total_variation(x).mean()
        ),
        "the squared differences are a mean over an image's numbers of z: sum them": _with(
            lambda net, x, z, w: _loss(net, x, z, w * z[0].numel()) / z[0].numel()
        ),
        "the absolute differences are used: square the differences": _with(
            lambda net, x, z, w: (net(x) - z).abs().sum() + w * total_variation(x).sum()
        ),
        "this is one distance for the whole batch, with a root: how far one image is off then "
        "decides how far the others go, so sum the squares": _with(
            lambda net, x, z, w: (net(x) - z).norm() + w * total_variation(x).sum()
        ),
        "a root is taken of each image's squared differences: leave them squared": _with(
            lambda net, x, z, w: (_apart(net, x, z).sqrt() + w * total_variation(x)).sum()
        ),
        "the loss has a factor 1/2 on its features": _with(
            lambda net, x, z, w: _loss(net, x, z, 2 * w) / 2
        ),
        "there is one step too few: after the last gradient, too, x moves": _with(more=-1),
        "there is one step too many": _with(more=1),
        "all gradients so far are added up: ask for a new one at each step, or clear x.grad": _with(
            update=lambda x, gradients: torch.stack(gradients).sum(0)
        ),
        "every step takes the gradient at the start: f must look at x again after each step": _with(
            update=lambda x, gradients: gradients[0]
        ),
        "only the last gradient moves x: each step starts where the one before ended": _with(
            at_start=True
        ),
        "each step follows the sign of the gradient: use its size, too": _with(
            update=lambda x, gradients: gradients[-1].sign()
        ),
        "these are steps with momentum: take x - rate * gradient": _with(
            update=_by(torch.optim.SGD, momentum=0.9)
        ),
        "these are steps of Adam, which fits a rate to each pixel: take x - rate * gradient": _with(
            update=_by(torch.optim.Adam)
        ),
        "the images leave their range: bring x back into limits": _with(clamped="never"),
        "x is brought into its range only at the end: do it after each step, so that f only "
        "ever sees images": _with(clamped="end"),
        "x is brought into its range before a step and not after the last one": _with(
            clamped="before"
        ),
        "x is kept between -1 and 1, whatever limits say": _with(limits=(-1, 1)),
        "x is kept between 0 and 1, whatever limits say": _with(limits=(0, 1)),
        "the descent begins at black or gray images of its own: begin at start": _with(
            first=torch.zeros_like
        ),
        "this is the start, not the end: x has not moved": lambda net, z, start, *_: start.clone(),
    },
)
def invert(
    net: nn.Module,
    z: Tensor,
    start: Tensor,
    steps: int,
    rate: float,
    weight: float,
    limits: Limits,
) -> Tensor:
    return _with()(net, z, start, steps, rate, weight, limits)
