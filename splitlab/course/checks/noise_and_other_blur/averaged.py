"""Exercise 3: the mean of several messages about each image, which has less noise."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from splitlab.course.checks.guard import wrong
from splitlab.course.checks.judge import exercise

Smash = Callable[[Tensor], Tensor]
SPARE = 3  # times as many messages as are asked for have noise of their own


def _case(
    count: int, channels: int, side: int, repeats: int, *shape: int
) -> Callable[[], tuple[Smash, Tensor, int]]:
    """A client's network with noise that is drawn anew for each message.

    The noise depends on the image and on how often it was asked about before, so the same mean is
    right however the images are asked about.
    """

    def case() -> tuple[Smash, Tensor, int]:
        x = torch.randn(count, channels, side, side)
        weights = torch.randn(x[0].numel(), torch.Size(shape).numel())
        noise = 3 * torch.randn(count, SPARE * repeats, *shape)
        asked = [0] * count

        def smash(images: Tensor) -> Tensor:
            if images.shape[1:] != x.shape[1:]:
                wrong(
                    f"smash is asked about images of shape {tuple(images.shape)}: pass images "
                    f"(N, {', '.join(map(str, x.shape[1:]))}), as many as you like"
                )
            rows, messages = images.detach().flatten(1), []
            for row in rows:
                distances = (x.detach().flatten(1) - row).norm(dim=1)
                place = int(distances.argmin())
                if distances[place] > 0:
                    wrong("smash is asked about an image that is not in x: ask about these alone")
                number = asked[place] % noise.shape[1]
                asked[place] += 1
                messages.append((row @ weights).tanh().view(shape) + noise[place, number])
            return torch.stack(messages) if messages else noise.new_zeros(0, *shape)

        return smash, x.clone(), repeats

    return case


def _messages(smash: Smash, x: Tensor, repeats: int) -> Tensor:
    """All of them, (repeats, N, ...)."""
    return torch.stack([smash(x) for _ in range(repeats)])


def _halved(smash: Smash, x: Tensor, repeats: int) -> Tensor:
    mean = smash(x)
    for _ in range(repeats - 1):
        mean = (mean + smash(x)) / 2
    return mean


def _first_image(smash: Smash, x: Tensor, repeats: int) -> Tensor:
    return torch.stack([smash(x[:1].expand(repeats, *x.shape[1:])).mean(0) for _ in x])


@exercise(
    cases=[
        _case(4, 1, 3, 6, 5),
        _case(3, 2, 2, 5, 2, 2, 2),
        _case(6, 1, 4, 3, 3, 2, 2),
        _case(5, 1, 2, 1, 4),
    ],
    returns="the mean z",
    praise="with k messages about an image, the noise is smaller by the root of k.",
    otherwise="the mean z is not right: collect repeats messages about each image, and return the "
    "mean of these, one row for each image, in the images' order",
    slips={
        "this is one message about each image: ask repeats times, for copies of one message have "
        "the same noise": lambda smash, x, repeats: smash(x),
        "the messages are mixed up: x.repeat(...) lays whole batches one after another, and the "
        "rows are grouped as if each image came several times in a row": (
            lambda smash, x, repeats: (
                smash(x.repeat(repeats, 1, 1, 1)).unflatten(0, (len(x), repeats)).mean(1)
            )
        ),
        "the messages are mixed up: x.repeat_interleave(...) has each image several times in a "
        "row, and the rows are grouped as if whole batches came one after another": (
            lambda smash, x, repeats: (
                smash(x.repeat_interleave(repeats, 0)).unflatten(0, (repeats, len(x))).mean(0)
            )
        ),
        "the mean is over the images: there should be one row for each image, so take the mean "
        "over the messages": lambda smash, x, repeats: _messages(smash, x, repeats).mean(1),
        "all images get the same mean z: keep the images apart, and take the mean over the "
        "messages alone": lambda smash, x, repeats: (
            _messages(smash, x, repeats).mean((0, 1), keepdim=True)[0].expand(len(x), -1).clone()
            if smash(x).dim() == 2
            else _messages(smash, x, repeats).mean((0, 1))[None].repeat(len(x), 1, 1, 1)
        ),
        "this is the sum of the messages: divide by repeats": lambda smash, x, repeats: _messages(
            smash, x, repeats
        ).sum(0),
        "this is the median of the messages: return their mean": lambda smash, x, repeats: (
            _messages(smash, x, repeats).median(0).values
        ),
        "this is the last message about each image: return the mean of all": (
            lambda smash, x, repeats: _messages(smash, x, repeats)[-1]
        ),
        "there is one message too many: ask repeats times, the first time included": (
            lambda smash, x, repeats: _messages(smash, x, repeats + 1).mean(0)
        ),
        "there is one message too many in the sum: divide by as many as there are": (
            lambda smash, x, repeats: _messages(smash, x, repeats + 1).sum(0) / repeats
        ),
        "there is one message too few in the sum: ask repeats times, the first time included": (
            lambda smash, x, repeats: _messages(smash, x, repeats)[1:].sum(0) / repeats
        ),
        "the first message is asked for and left out: average all of them": (
            lambda smash, x, repeats: _messages(smash, x, repeats + 1)[1:].mean(0)
        ),
        "each new message counts as much as all before it: add all messages, and divide by "
        "repeats at the end": _halved,
        "the sum is divided by the root of repeats: divide by repeats": (
            lambda smash, x, repeats: _messages(smash, x, repeats).sum(0) / repeats**0.5
        ),
        "all messages are about the first image: ask about each of them": _first_image,
    },
)
def averaged(smash: Smash, x: Tensor, repeats: int) -> Tensor:
    return _messages(smash, x, repeats).mean(0)
