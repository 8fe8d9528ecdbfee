"""Exercise 3: one round of UnSplit, images and surrogate by turns."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from splitlab.attacks.priors import total_variation
from splitlab.course.checks.base import Answer, check, expect_right, same, wrong
from splitlab.course.checks.training import ONLY_SGD, RATE, weights
from splitlab.course.checks.unsplit.common import expect_unchanged

ROUNDS = 2  # one after the other, so that what a round leaves behind shows in the next
BOTH = ("images", "surrogate")


@dataclass
class _Scene:
    """What the attacker works on.

    Attributes:
        images: A leaf, (B, 1, H, W).
        surrogate: Images -> features in the shape of z.
        z: The target.
        optimizers: "images": of the images; "surrogate": of the surrogate's weights.
        steps: Of each half.
        weight: Of the total variation.
        images_grad: What the images' own last step left, once by the book.
    """

    images: Tensor
    surrogate: nn.Module
    z: Tensor
    optimizers: dict[str, Optimizer]
    steps: int
    weight: float
    images_grad: Tensor | None = None

    def copy(self) -> _Scene:
        """A scene that shares nothing: its optimizers step on its own tensors."""
        return copy.deepcopy(self)

    def state(self) -> Tensor:
        """All that learns, in one vector."""
        return torch.cat([self.images.detach().flatten(), weights(self.surrogate)])


@check("images and surrogate learned by turns, each from its own loss and its own gradients.")
def take_turns(answer: Answer) -> None:
    """`take_turns(images, surrogate, z, image_optimizer, surrogate_optimizer, steps, weight)`."""
    plain = functools.partial(SGD, lr=RATE)
    adam = functools.partial(Adam, lr=RATE / 2, amsgrad=True)
    cases = [
        (_scene(plain, steps=3, weight=0.7, batch=3),),
        (_scene(plain, steps=1, weight=0.4, batch=2),),
        (_scene(adam, steps=2, weight=0.6, batch=4),),
    ]
    values = [_asked(answer, *case) for case in cases]
    right = [same(value, _played(*case)) for value, case in zip(values, cases, strict=True)]
    if right == [True, True, False]:
        wrong(ONLY_SGD.format(net="what learns"))
    expect_right(
        values,
        cases,
        _played,
        _mistakes(),
        "images and surrogate are not where one round takes them: the given number of steps of "
        "the images on the feature error plus weight times their mean total variation, and then as "
        "many of the surrogate on the feature error alone",
    )


def _asked(answer: Answer, scene: _Scene) -> Tensor:
    """Let the student's function play the rounds, and return where they lead.

    Raises:
        CheckFailed: If something else has changed, or is left behind.
    """
    mine, book = scene.copy(), scene.copy()
    for number in range(ROUNDS):
        before = mine.state()
        answer.act(
            mine.images,
            mine.surrogate,
            mine.z,
            mine.optimizers["images"],
            mine.optimizers["surrogate"],
            mine.steps,
            mine.weight,
        )
        expect_unchanged("take_turns", z=(mine.z, scene.z))
        if not mine.images.requires_grad:
            wrong("the images no longer require a gradient: the next round could not move them")
        if not all(p.requires_grad for p in mine.surrogate.parameters()):
            wrong(
                "the surrogate's weights no longer require gradients: while its optimizer does not "
                "step it is fixed anyway, and the next round must move it"
            )
        if not mine.state().isfinite().all():
            wrong("images or weights are no longer finite")
        _play(book)
        if same(mine.state(), book.state()):  # else the steps themselves are wrong
            _check_left_behind(mine, book)
        elif not number and same(mine.state(), before):
            wrong("neither images nor surrogate have moved: zero_grad, backward, step, for each")
    return mine.state()


def _check_left_behind(mine: _Scene, book: _Scene) -> None:
    left = mine.images.grad
    if left is None or not left.any() or book.images_grad is None:
        return
    if not same(left, book.images_grad):
        wrong(
            "the images' .grad is left with gradients of the surrogate's half: there the images "
            "are fixed, so give the surrogate images.detach()"
        )


# --- One round, right or with a slip -----------------------------------------------------------

Loss = Callable[[_Scene], Tensor]


@dataclass(frozen=True)
class _Clear:
    """Whose old gradients are cleared before backward, and whether all are after the step."""

    before: tuple[str, ...] = BOTH
    after: bool = False


CLEARED = _Clear()


def _error(scene: _Scene) -> Tensor:
    """Mean squared feature error."""
    return (scene.surrogate(scene.images) - scene.z).square().mean()


def _with_prior(scene: _Scene) -> Tensor:
    return _error(scene) + scene.weight * total_variation(scene.images).mean()


def _step(
    scene: _Scene, loss: Tensor, move: tuple[str, ...], reach: tuple[str, ...], clear: _Clear
) -> None:
    """Take one step of what moves; the gradients of what is reached, and not cleared, add up."""
    moving = [scene.optimizers[name] for name in move]
    for name, optimizer in zip(move, moving, strict=True):
        if name in clear.before:
            optimizer.zero_grad()
    reached = [scene.optimizers[name].param_groups for name in {*move, *reach}]
    loss.backward(inputs=[p for groups in reached for group in groups for p in group["params"]])
    if "images" in move and scene.images.grad is not None:
        scene.images_grad = scene.images.grad.clone()
    for optimizer in moving:
        optimizer.step()
        if clear.after:
            optimizer.zero_grad()


def _play(
    scene: _Scene,
    *,
    image_loss: Loss = _with_prior,
    surrogate_loss: Loss = _error,
    image_steps: int | None = None,
    surrogate_steps: int | None = None,
    first: tuple[str, ...] = ("images",),
    second: tuple[str, ...] = ("surrogate",),
    reach: tuple[tuple[str, ...], tuple[str, ...]] = ((), ()),
    clear: _Clear = CLEARED,
    swapped: bool = False,
    interleaved: bool = False,
) -> None:
    """Play one round.

    Args:
        scene: What moves.
        image_loss: Of the images' half.
        surrogate_loss: Of the surrogate's half.
        image_steps: If other than the scene's.
        surrogate_steps: Likewise.
        first: What moves in the images' half.
        second: What moves in the surrogate's half.
        reach: In each half, whose gradients are filled besides.
        clear: When old gradients are cleared.
        swapped: Whether the surrogate comes first.
        interleaved: Whether the halves change places after every step.
    """
    steps = [scene.steps if n is None else n for n in (image_steps, surrogate_steps)]
    halves = list(zip((image_loss, surrogate_loss), (first, second), reach, steps, strict=True))
    if swapped:
        halves.reverse()
    order = (
        halves * scene.steps if interleaved else [half for half in halves for _ in range(half[3])]
    )
    for loss, move, reached, _ in order:
        _step(scene, loss(scene), move, reached, clear)


def _played(scene: _Scene, **slip: Any) -> Tensor:
    """Where all rounds lead; the scene stays as it is."""
    one = scene.copy()
    for _ in range(ROUNDS):
        _play(one, **slip)
    return one.state()


def _by_first_images(scene: _Scene) -> Tensor:
    """Where the surrogate learns from the images as they were before the round."""
    one = scene.copy()
    for _ in range(ROUNDS):
        old = one.images.detach().clone()
        _play(
            one,
            surrogate_loss=lambda s, old=old: (s.surrogate(old) - s.z).square().mean(),
        )
    return one.state()


def _mistakes() -> Iterator[tuple[str, Callable[[_Scene], Tensor]]]:
    """Yield (message, what it gives) of likely slips."""
    yield (
        "the surrogate learns from the images as they were before the round: take them as their "
        "own half has left them",
        _by_first_images,
    )
    slips: dict[str, dict[str, Any]] = {
        "both move at once, in one half: one of the two is fixed while the other learns, or the "
        "surrogate chases images that are still running away": {
            "first": BOTH,
            "surrogate_steps": 0,
        },
        "the surrogate moves in the images' half, too: there it is fixed": {"first": BOTH},
        "the images move in the surrogate's half, too: there they are fixed": {"second": BOTH},
        "both move in both halves: one of the two is fixed while the other learns": {
            "first": BOTH,
            "second": BOTH,
        },
        "images and surrogate change places after every step: let one take all of its steps "
        "first": {"interleaved": True},
        "the surrogate's half comes first here: the images go first": {"swapped": True},
        "the images have not moved: their half needs backward and a step of their optimizer": {
            "image_steps": 0
        },
        "the surrogate has not moved: its half needs backward and a step of its optimizer": {
            "surrogate_steps": 0
        },
        "the images move by the prior alone: the feature error does not reach them, so let the "
        "surrogate see the images themselves, not a detached copy": {
            "image_loss": lambda s: s.weight * total_variation(s.images).mean()
        },
        "the total variation is missing from the images' loss": {"image_loss": _error},
        "the total variation is not weighted: multiply it by weight": {
            "image_loss": lambda s: _error(s) + total_variation(s.images).mean()
        },
        "the total variation has the wrong sign: images would become as rough as they can": {
            "image_loss": lambda s: _error(s) - s.weight * total_variation(s.images).mean()
        },
        "the total variation is summed over the images: take its mean, as the feature error's": {
            "image_loss": lambda s: _error(s) + s.weight * total_variation(s.images).sum()
        },
        "the weight multiplies the feature error: it belongs to the total variation": {
            "image_loss": lambda s: s.weight * _error(s) + total_variation(s.images).mean()
        },
        "both climb the feature error: it has the wrong sign": {
            "image_loss": lambda s: _with_prior(s) - 2 * _error(s),
            "surrogate_loss": lambda s: -_error(s),
        },
        "the images climb the feature error: it has the wrong sign": {
            "image_loss": lambda s: _with_prior(s) - 2 * _error(s)
        },
        "the surrogate climbs the feature error: it has the wrong sign": {
            "surrogate_loss": lambda s: -_error(s)
        },
        "the images' half adds z to the features, or their sign is turned: subtract z": {
            "image_loss": lambda s: (
                (s.surrogate(s.images) + s.z).square().mean()
                + s.weight * total_variation(s.images).mean()
            )
        },
        "in the images' half the feature error is a sum: take the mean of the squares": {
            "image_loss": lambda s: _with_prior(s) + (s.z.numel() - 1) * _error(s)
        },
        "in the surrogate's half the feature error is a sum: take the mean of the squares": {
            "surrogate_loss": lambda s: s.z.numel() * _error(s)
        },
        "in both halves the feature error is a sum: take the mean of the squares": {
            "image_loss": lambda s: _with_prior(s) + (s.z.numel() - 1) * _error(s),
            "surrogate_loss": lambda s: s.z.numel() * _error(s),
        },
        "in both halves the feature error is a sum over the numbers of an image: take the mean of "
        "the squares": {
            "image_loss": lambda s: _with_prior(s) + (s.z[0].numel() - 1) * _error(s),
            "surrogate_loss": lambda s: s.z[0].numel() * _error(s),
        },
        "each half takes one step, whatever steps says": {"image_steps": 1, "surrogate_steps": 1},
    }
    for message, slip in slips.items():
        yield message, functools.partial(_played, **slip)
    for name, who in (("image", "the images take"), ("surrogate", "the surrogate takes")):
        for words, more in (("one step more", 1), ("one step fewer", -1)):
            yield (
                f"{who} {words} than steps says",
                lambda s, name=name, more=more: _played(s, **{f"{name}_steps": s.steps + more}),
            )
    # backward() fills the .grad of all that the loss depends on, unless it is detached.
    for reach in REACHES:
        for message, clear in UNCLEARED.items():
            yield message, functools.partial(_played, clear=clear, reach=reach)


REACHES = ((("surrogate",), ()), (("surrogate",), ("images",)), ((), ()), ((), ("images",)))
UNCLEARED = {
    "the images' old gradients are still in .grad and are added: call image_optimizer.zero_grad() "
    "before backward": _Clear(("surrogate",)),
    "the surrogate's old gradients, those of the images' half among them, are still in .grad and "
    "are added: call surrogate_optimizer.zero_grad() before backward": _Clear(("images",)),
    "old gradients are still in .grad and are added, in both halves: call zero_grad() before "
    "backward": _Clear(()),
    "gradients are cleared after the step and not before backward: what an earlier round or the "
    "other half has left is added": _Clear((), after=True),
}


def _scene(optimizer: Callable[..., Optimizer], *, steps: int, weight: float, batch: int) -> _Scene:
    """Make a scene in which an earlier round has left its gradients."""
    images = (torch.rand(batch, 1, 4, 6, dtype=torch.float64) * 2 - 1).requires_grad_()
    surrogate = nn.Sequential(nn.Conv2d(1, 3, 3, 2, 1), nn.Tanh()).double()
    for tensor in (images, *surrogate.parameters()):
        tensor.grad = torch.randn_like(tensor)
    return _Scene(
        images,
        surrogate,
        torch.randn(batch, 3, 2, 3, dtype=torch.float64),
        {"images": optimizer([images]), "surrogate": optimizer(surrogate.parameters())},
        steps,
        weight,
    )
