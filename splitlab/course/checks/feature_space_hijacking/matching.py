"""Check of the exercise "Is it this very image?"."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from splitlab.course.checks.base import Answer, check, expect_number, wrong


@check("only the right image counts, and an image equally near to all of them is no match.")
def matched(answer: Answer) -> None:
    """`matched(reconstructions, private)`: how often the nearest private image is the right one."""
    cases = []
    for shape, noise in (((30, 2, 3, 4), 1.3), ((17, 1, 5, 2), 0.9), ((24, 3, 2, 3), 1.1)):
        private = torch.rand(shape, dtype=torch.float64) * 2 - 1
        contrast = 0.3 + torch.rand(shape[0], 1, 1, 1, dtype=torch.float64)
        reconstructions = contrast * private + noise * torch.randn_like(private) * contrast
        cases.append((reconstructions + 0.3, private))
    cases.append((-private, private))  # negatives: the right image is the farthest one
    shares = []
    for reconstructions, private in cases:
        before = reconstructions.clone(), private.clone()
        shares.append(expect_number(answer(reconstructions, private), "the share"))
        if not all(map(torch.equal, (reconstructions, private), before)):
            wrong("matched changes the images that it is given: work on copies")
    for message, share in SHARES.items():
        if all(abs(a - share(*case)) < 1e-6 for a, case in zip(shares, cases, strict=True)):
            if message:
                wrong(message)
            break
    else:
        wrong(
            "the share is not right: compare every reconstruction with every private image, over "
            "all channels and pixels, and count where the nearest one has the same index"
        )
    one = torch.rand(1, 1, 2, 3)
    if expect_number(answer(1 - one, one), "the share") != 1:
        wrong("of one private image the nearest is always the right one: the share should be 1")
    # Black and white images, all 2^6 of them: a gray one is equally far from all of them.
    corners = torch.tensor(
        [[1.0 - 2 * (number >> bit & 1) for bit in range(6)] for number in range(64)]
    ).reshape(64, 1, 2, 3)
    gray = expect_number(answer(torch.zeros_like(corners), corners), "the share")
    if gray > 1 / len(corners) + 1e-6:
        wrong(
            f"a constant gray image for every image scores {gray:.2f}: it is equally near to all "
            f"{len(corners)} private images, which counts as no match, or as one match in all"
        )


def _squares(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().sum()


def _unlike(a: Tensor, b: Tensor) -> Tensor:
    return -torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1]


def _matched(
    answers: Tensor, candidates: Tensor, distance: Callable[[Tensor, Tensor], Tensor] = _squares
) -> float:
    """The share of answers whose nearest candidate has their own number, one pair at a time."""
    hits = 0
    for number, one in enumerate(answers):
        distances = [float(distance(one, other)) for other in candidates]
        hits += distances.index(min(distances)) == number
    return hits / len(answers)


# What the share would be: right, and with each mistake.
SHARES: dict[str, Callable[[Tensor, Tensor], float]] = {
    "": _matched,
    "the share is taken over the wrong axis: for each reconstruction look for the nearest private "
    "image, not for each private image the nearest reconstruction": lambda a, b: _matched(b, a),
    "the farthest private image is taken for the nearest: the smallest distance counts": (
        lambda a, b: _matched(a, b, lambda a, b: -_squares(a, b))
    ),
    "this is a percentage: return the share, from 0 to 1": lambda a, b: 100 * _matched(a, b),
    "this is the number of matches: divide it by the number of reconstructions": (
        lambda a, b: len(a) * _matched(a, b)
    ),
    "this is the share of reconstructions that are not matched": lambda a, b: 1 - _matched(a, b),
    "nearest goes by correlation here, which is blind to brightness and contrast: take the squared "
    "error": lambda a, b: _matched(a, b, _unlike),
    "nearest goes by the absolute error here: take the squared error": (
        lambda a, b: _matched(a, b, lambda a, b: (a - b).abs().sum())
    ),
    "only the first pixel is compared: the distance runs over all of an image's numbers": (
        lambda a, b: _matched(a[:, :1, :1, :1], b[:, :1, :1, :1])
    ),
    "only the first channel is compared: the distance runs over all of an image's numbers": (
        lambda a, b: _matched(a[:, :1], b[:, :1])
    ),
}
