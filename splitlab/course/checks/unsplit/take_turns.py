"""Exercise 3: one round of UnSplit, images and surrogate in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from splitlab.attacks.priors import total_variation
from splitlab.course.checks.judge import exercise
from splitlab.course.checks.sight import leaves, same

RATE = 0.1  # of plain descent, so that a step is in proportion to its gradient
IMAGES, SURROGATE = BOTH = (0, 1)  # the halves, and the optimizers that step in them


class Round:
    """A correct round. A slip overrides one part."""

    images: Tensor
    surrogate: nn.Module
    z: Tensor
    optimizers: Sequence[Optimizer]
    steps: int
    weight: float

    def play(self) -> None:
        """Go through both halves."""
        for half in BOTH:
            self.play_half(half)

    def play_half(self, half: int) -> None:
        """Take all steps of a half."""
        for number in range(self.count(half)):
            self.step(half, number)

    def step(self, half: int, number: int = 0) -> None:
        """Take one step."""
        loss = self.surrogate_loss() if half else self.image_loss()
        self.clear(half, number)
        loss.backward()
        self.move(half)

    def count(self, half: int) -> int:
        """How many steps a half has."""
        return self.steps

    def moving(self, half: int) -> tuple[int, ...]:
        """Whose optimizers step in a half."""
        return (half,)

    def clear(self, half: int, number: int) -> None:
        """Clear old gradients before the backward pass of this half's step."""
        for one in self.moving(half):
            self.optimizers[one].zero_grad()

    def move(self, half: int) -> None:
        """Let the optimizers step."""
        for one in self.moving(half):
            self.optimizers[one].step()

    def error(self, images: Tensor) -> Tensor:
        """Mean squared feature error."""
        return (self.surrogate(images) - self.z).square().mean()

    def prior(self) -> Tensor:
        """What is added to the images' loss."""
        return self.weight * total_variation(self.images).mean()

    def image_loss(self) -> Tensor:
        """Of the images' half."""
        return self.error(self.images) + self.prior()

    def surrogate_loss(self) -> Tensor:
        """Of the surrogate's half."""
        return self.error(self.images.detach())


def play(round_: Round, images: Tensor, surrogate: nn.Module, z: Tensor, *rest: Any) -> None:
    """Play a round on the exercise's arguments."""
    round_.images, round_.surrogate, round_.z = images, surrogate, z
    *round_.optimizers, round_.steps, round_.weight = rest
    round_.play()


def _noting(kind: type[Optimizer]) -> type[Any]:
    """An optimizer that records the gradient of its one parameter at its last step."""

    class Noting(kind):  # type: ignore[misc, valid-type]
        last: Tensor | None = None

        def step(self, closure: Any = None) -> Any:
            (weight,) = self.param_groups[0]["params"]
            self.last = None if weight.grad is None else weight.grad.clone()
            return super().step(closure)

    return Noting


def _case(
    kind: type[Optimizer],
    steps: int,
    weight: float,
    surrogate: Callable[[], nn.Sequential],
    *shape: int,
    **options: Any,
) -> Callable[[], Iterator[tuple[Any, ...]]]:
    """Two rounds on the same images, so that side effects of the first show in the second."""

    def case() -> Iterator[tuple[Any, ...]]:
        images, net = (2 * torch.rand(shape) - 1).requires_grad_(), surrogate()
        z = torch.randn_like(net(images.detach()))
        for tensor in leaves([images, net]):
            tensor.grad = torch.randn_like(tensor)
        groups = [{"params": [each]} for each in net.parameters()]
        groups[-1]["lr"] = RATE / 2
        own = _noting(kind)([images], lr=RATE, **options)
        other = kind(groups, lr=RATE, **options)
        for _ in range(2):
            yield images, net, z, own, other, steps, weight

    return case


def _convolution() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 3, 3, 2, 1), nn.Tanh())


def _dense() -> nn.Sequential:
    """Of two-row images with two channels; it is in evaluation mode."""
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.Tanh()).eval()


def _outcome(
    result: Any, images: Tensor, surrogate: nn.Module, z: Tensor, optimizer: Any, *rest: Any
) -> list[Tensor]:
    """Return images and weights after the round, and foreign gradients in the images' .grad."""
    weights = torch.cat([weight.detach().flatten() for weight in surrogate.parameters()])
    left, own = images.grad, optimizer.last
    if left is None or own is None or same(left, own, 1e-6):
        left = torch.zeros_like(images)
    return [images.detach().clone(), weights, left.clone()]


@exercise(
    cases=[
        _case(SGD, 3, 0.7, _convolution, 3, 1, 4, 6),
        _case(SGD, 1, 0.4, _convolution, 2, 1, 4, 6),
        _case(Adam, 2, 0.6, _convolution, 4, 1, 4, 6, amsgrad=True),
        _case(SGD, 2, 0.0, _convolution, 1, 1, 2, 2, momentum=0.5),
        _case(SGD, 2, 1.5, _dense, 2, 2, 2, 3),
    ],
    returns=("the batch of images", "the surrogate", "the .grad of images"),
    use=_outcome,
    praise="images and surrogate learned in turn, each from its own loss and its own gradients.",
    otherwise="images and surrogate are not where one round takes them: the given number of steps "
    "of the images on the feature error plus weight times their mean total variation, and then as "
    "many of the surrogate on the feature error alone",
)
def take_turns(
    images: Tensor,
    surrogate: nn.Module,
    z: Tensor,
    image_optimizer: Optimizer,
    surrogate_optimizer: Optimizer,
    steps: int,
    weight: float,
) -> None:
    play(Round(), images, surrogate, z, image_optimizer, surrogate_optimizer, steps, weight)


def _slip(message: str, **parts: Callable[..., Any]) -> None:
    take_turns.slip(message)(lambda *given: play(type("Slip", (Round,), parts)(), *given))


def _attached(turn: Round) -> Tensor:
    return turn.error(turn.images)


def _steps_but(half: int, count: Callable[[int], int]) -> Callable[[Round, int], int]:
    """A round with another number of steps in one half."""
    return lambda turn, now: count(turn.steps) if now == half else turn.steps


def _from_old_images(turn: Round) -> None:
    old = turn.images.detach().clone()
    turn.surrogate_loss = lambda: turn.error(old)  # type: ignore[method-assign]
    Round.play(turn)


def _interleaved(turn: Round) -> None:
    for _ in range(turn.steps):
        for half in BOTH:
            turn.step(half)


def _swapped(turn: Round) -> None:
    for half in reversed(BOTH):
        turn.play_half(half)


_slip(
    "the surrogate learns from the images as they were before the round: take them as their own "
    "half has left them",
    play=_from_old_images,
)
_slip(
    "both move at once, in one half: one of the two is fixed while the other learns, or the "
    "surrogate chases images that are still running away",
    moving=lambda turn, half: BOTH,
    count=_steps_but(SURROGATE, lambda steps: 0),
)
_slip(
    "the surrogate moves in the images' half, too: there it is fixed",
    moving=lambda turn, half: BOTH[half:],
)
_slip(
    "the images move in the surrogate's half, too: there they are fixed",
    moving=lambda turn, half: BOTH[: half + 1],
    surrogate_loss=_attached,
)
_slip(
    "both move in both halves: one of the two is fixed while the other learns",
    moving=lambda turn, half: BOTH,
    surrogate_loss=_attached,
)
_slip(
    "images and surrogate alternate after every step: let one take all of its steps first",
    play=_interleaved,
)
_slip("the surrogate's half comes first here: the images go first", play=_swapped)
_slip(
    "neither images nor surrogate have moved: zero_grad, backward, step, for each",
    count=lambda turn, half: 0,
)
_slip(
    "the images have not moved: their half needs backward and a step of their optimizer",
    count=_steps_but(IMAGES, lambda steps: 0),
)
_slip(
    "the surrogate has not moved: its half needs backward and a step of its optimizer",
    count=_steps_but(SURROGATE, lambda steps: 0),
)
_slip(
    "the images move by the prior alone: the feature error does not reach them, so let the "
    "surrogate see the images themselves, not a detached copy",
    image_loss=lambda turn: Round.surrogate_loss(turn) + turn.prior(),
)
_slip(
    "the total variation is missing from the images' loss",
    image_loss=_attached,
)
_slip(
    "the total variation is not weighted: multiply it by weight",
    prior=lambda turn: total_variation(turn.images).mean(),
)
_slip(
    "the total variation has the wrong sign: images would become as rough as they can",
    prior=lambda turn: -Round.prior(turn),
)
_slip(
    "the total variation is summed over the images: take its mean, as of the feature error",
    prior=lambda turn: turn.weight * total_variation(turn.images).sum(),
)
_slip(
    "the weight multiplies the feature error: it belongs to the total variation",
    image_loss=lambda turn: (
        turn.weight * turn.error(turn.images) + total_variation(turn.images).mean()
    ),
)
_slip(
    "both climb the feature error: it has the wrong sign",
    error=lambda turn, images: -Round.error(turn, images),
)
_slip(
    "the images climb the feature error: it has the wrong sign",
    image_loss=lambda turn: turn.prior() - turn.error(turn.images),
)
_slip(
    "the surrogate climbs the feature error: it has the wrong sign",
    surrogate_loss=lambda turn: -Round.surrogate_loss(turn),
)
_slip(
    "the images' half adds z to the features, or their sign is turned: subtract z",
    image_loss=lambda turn: (turn.surrogate(turn.images) + turn.z).square().mean() + turn.prior(),
)
_slip(
    "in the images' half the feature error is a sum: take the mean of the squares",
    image_loss=lambda turn: turn.z.numel() * turn.error(turn.images) + turn.prior(),
)
_slip(
    "in the surrogate's half the feature error is a sum: take the mean of the squares",
    surrogate_loss=lambda turn: turn.z.numel() * Round.surrogate_loss(turn),
)
_slip(
    "in both halves the feature error is a sum: take the mean of the squares",
    error=lambda turn, images: turn.z.numel() * Round.error(turn, images),
)
_slip(
    "in both halves the feature error is a sum over the numbers of an image: take the mean of the "
    "squares",
    error=lambda turn, images: turn.z[0].numel() * Round.error(turn, images),
)
_slip("each half takes one step, whatever steps says", count=lambda turn, half: 1)
for _half, _who in enumerate(("the images take", "the surrogate takes")):
    _slip(f"{_who} one step more than steps says", count=_steps_but(_half, lambda n: n + 1))
    _slip(f"{_who} one step fewer than steps says", count=_steps_but(_half, lambda n: n - 1))


def _clears(*halves: int) -> Callable[[Round, int, int], None]:
    """Clear old gradients in these halves alone."""
    return lambda turn, half, number: turn.optimizers[half].zero_grad() if half in halves else None


def _clears_once(turn: Round, half: int, number: int) -> None:
    if number == 0:
        turn.optimizers[half].zero_grad()


def _clears_late(turn: Round, half: int) -> None:
    turn.optimizers[half].step()
    turn.optimizers[half].zero_grad()


_UNCLEARED: dict[str, dict[str, Callable[..., Any]]] = {
    "the images' old gradients are still in .grad and are added: call image_optimizer.zero_grad() "
    "before backward": {"clear": _clears(SURROGATE)},
    "the surrogate's old gradients, those of the images' half among them, are still in .grad and "
    "are added: call surrogate_optimizer.zero_grad() before backward": {"clear": _clears(IMAGES)},
    "old gradients are still in .grad and are added, in both halves: call zero_grad() before "
    "backward": {"clear": _clears()},
    "gradients are cleared after the step and not before backward: what an earlier round or the "
    "other half has left is added": {"clear": _clears(), "move": _clears_late},
    "gradients are cleared once for each loop, so those of its earlier steps are added: call "
    "zero_grad() before every backward": {"clear": _clears_once},
}
for _message, _parts in _UNCLEARED.items():
    _slip(_message, **_parts)
    _slip(f"{_message}; and give the surrogate images.detach()", **_parts, surrogate_loss=_attached)
_slip(
    "the .grad of images is left with gradients of the surrogate's half: there the images are "
    "fixed, so give the surrogate images.detach()",
    surrogate_loss=_attached,
)


def _by_hand(*halves: int) -> Callable[[Round, int], None]:
    """Take the step of these halves by hand, as plain SGD would."""

    def move(turn: Round, half: int) -> None:
        if half not in halves:
            turn.optimizers[half].step()
            return
        with torch.no_grad():
            for group in turn.optimizers[half].param_groups:
                for weight in leaves(group["params"]):
                    weight -= group["lr"] * weight.grad

    return move


for _halves, _who in (
    ((0,), "the images move"),
    ((1,), "the surrogate moves"),
    (BOTH, "both move"),
):
    _slip(
        f"with plain SGD {_who} correctly, and with Adam not: leave the step to the optimizer",
        move=_by_hand(*_halves),
    )
