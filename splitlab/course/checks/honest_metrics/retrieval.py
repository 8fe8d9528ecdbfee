"""Exercise 3: the public image nearest to each private one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from splitlab.course.checks.base import Answer, check, expect_right, expect_tensor, same, wrong

Pair = tuple[Tensor, Tensor]


@check("each private image has its nearest public one, and nobody's image was reconstructed.")
def nearest_public(answer: Answer) -> None:
    """`nearest_public(private, public)`: for each private image the nearest public one."""
    cases = [_images(shape, public) for shape, public in (((12, 2, 3, 4), 30), ((9, 3, 4, 2), 50))]
    found = [_asked(answer, *case) for case in cases]
    expect_right(
        found,
        cases,
        _nearest,
        _mistakes(),
        "these are public images, and not the nearest ones: distance is the root of the summed "
        "squared differences, over all channels and pixels",
    )
    few = _images((8, 1, 3, 3), 3)  # fewer public images than private ones
    if not same(_asked(answer, *few), _nearest(*few)):
        wrong(
            "where there are 8 private images and 3 public ones the result is not right: look at "
            "all public images, and let one be the nearest to several private ones"
        )


def _asked(answer: Answer, private: Tensor, public: Tensor) -> Tensor:
    """Return what the function finds, if it is a batch of public images.

    Raises:
        CheckFailed: If it is anything else.
    """
    before = private.clone(), public.clone()
    found = answer(private, public)
    if not (torch.equal(private, before[0]) and torch.equal(public, before[1])):
        wrong("nearest_public changes the images that it is given: work on copies")
    if isinstance(found, Tensor):
        if found.shape == (len(private),) and not found.is_floating_point():
            wrong("these are the rows of the nearest images: return the images, public[rows]")
        if found.shape == public.shape:
            wrong(
                "there is one image for each public image: the minimum is taken over the wrong "
                "axis, or the two sets are swapped"
            )
    found = expect_tensor(found, "what nearest_public returns", private.shape)
    if same(found, private):
        wrong("these are the private images themselves: return public ones")
    if not all((one == public).flatten(1).all(1).any() for one in found):
        wrong(
            "not all of these are public images: choose one public image by its distance over all "
            "channels and pixels, and return it whole and unchanged"
        )
    return found


def _mistakes() -> Iterator[tuple[str, Callable[[Tensor, Tensor], Tensor]]]:
    """Yield (message, what it gives) of likely slips."""
    yield (
        "these are the farthest public images: argmin, not argmax",
        _taking(lambda a, b: -_cdist(a, b)),
    )
    yield (
        "these are the right images in another order: row i is the image nearest to private[i]",
        lambda private, public: public[_cdist(private, public).argmin(1).sort().values],
    )
    yield (
        "near goes by the angle here, which is blind to how bright an image is: take the distance",
        _taking(lambda a, b: -F.normalize(a) @ F.normalize(b).T),
    )
    yield (
        "near goes by the correlation here, which is blind to brightness and contrast: take the "
        "distance",
        _taking(lambda a, b: -F.normalize(_centered(a)) @ F.normalize(_centered(b)).T),
    )
    yield (
        "near goes by the product of the images here, which a bright image always wins: take the "
        "distance",
        _taking(lambda a, b: -a @ b.T),
    )
    yield (
        "near goes by the absolute differences here: square them before you sum them",
        _taking(lambda a, b: torch.cdist(a, b, p=1)),
    )
    yield (
        "near goes by the largest difference of a pixel here: sum the squares of all",
        _taking(lambda a, b: torch.cdist(a, b, p=torch.inf)),
    )
    yield (
        "near goes by the mean gray value here: compare pixel with pixel",
        _taking(lambda a, b: (a.mean(1)[:, None] - b.mean(1)).abs()),
    )
    yield (
        "only the first channel is compared: the distance runs over all of an image's numbers",
        lambda private, public: public[
            _cdist(private[:, 0].flatten(1), public[:, 0].flatten(1)).argmin(1)
        ],
    )
    yield (
        "only as many public images as there are private ones are looked at: look at all",
        lambda private, public: _nearest(private, public[: len(private)]),
    )
    yield (
        "no public image is handed out twice: this is no lottery, and one may be the nearest to "
        "several private images",
        lambda private, public: public[_without_replacement(private, public)],
    )


def _taking(distance: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Retrieval by a distance between rows, (n, D) and (N, D) -> (n, N)."""
    return lambda private, public: public[distance(private.flatten(1), public.flatten(1)).argmin(1)]


def _cdist(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances between rows, one pair at a time."""
    a, b = a.flatten(1), b.flatten(1)
    return (a[:, None] - b[None]).square().sum(2)


def _nearest(private: Tensor, public: Tensor) -> Tensor:
    return public[_cdist(private, public).argmin(1)]


def _centered(rows: Tensor) -> Tensor:
    return rows - rows.mean(1, keepdim=True)


def _without_replacement(private: Tensor, public: Tensor) -> Tensor:
    """Rows of the nearest public image that no earlier private image has got."""
    distance, rows = _cdist(private, public), []
    for one in distance:
        rows.append(int(one.argmin()))
        distance[:, rows[-1]] = torch.inf
    return torch.tensor(rows)


def _images(shape: tuple[int, int, int, int], public: int) -> Pair:
    """Make private and public images, float64, of unlike brightness and contrast."""

    def some(count: int) -> Tensor:
        contrast = 0.4 + torch.rand(count, 1, 1, 1, dtype=torch.float64)
        pixels = contrast * torch.randn(count, *shape[1:], dtype=torch.float64)
        return 0.5 + pixels + 0.4 * torch.randn(count, 1, 1, 1, dtype=torch.float64)

    return some(shape[0]), some(public)
