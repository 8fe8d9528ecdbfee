"""Exercise 3: the public image nearest to each private one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from splitlab.course.checks.judge import exercise


def _case(
    count: int, public: int, *shape: int, shift: float = 0.5, scale: float = 1
) -> Callable[[], tuple[Tensor, Tensor]]:
    """Private and public images that differ in brightness and contrast, some of them twice.

    The last public image is the nearest to the last private one; the two before, nearly the same,
    are near the private one before.
    """

    def some(count: int) -> Tensor:
        contrast = 0.4 + torch.rand(count, 1, 1, 1)
        pixels = contrast * torch.randn(count, *shape)
        return scale * (shift + pixels + 0.4 * torch.randn(count, 1, 1, 1))

    def case() -> tuple[Tensor, Tensor]:
        private, others = some(count), some(public)
        private[:2] = private[0].clone()
        near = others[-2:] + 0.01 * scale * torch.randn(shape)
        private[-2:] = near[-count:]
        others[-3:-2] = others[-2:-1] + 1e-4 * scale * torch.randn(shape)
        others[:-3:9] = others[0].clone()
        return private, others

    return case


def _distance(a: Tensor, b: Tensor) -> Tensor:
    return (a[:, None] - b[None]).square().flatten(2).sum(2)


def _rows(private: Tensor, public: Tensor) -> Tensor:
    return _distance(private, public).argmin(1)


def _by(distance: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """An answer with another distance between rows, (n, D) and (N, D) -> (n, N)."""
    return lambda private, public: public[distance(private.flatten(1), public.flatten(1)).argmin(1)]


def _normal(rows: Tensor) -> Tensor:
    return F.normalize(rows - rows.mean(1, keepdim=True))


def _piecewise(*axes: int) -> Callable[[Tensor, Tensor], Tensor]:
    """An answer that searches for each channel, or each pixel, separately."""

    def answer(private: Tensor, public: Tensor) -> Tensor:
        apart = (private[:, None] - public[None]).square()
        if axes:
            apart = apart.sum(axes, keepdim=True).expand_as(apart)
        return public.gather(0, apart.argmin(1))

    return answer


def _each_once(private: Tensor, public: Tensor) -> Tensor:
    distance, rows = _distance(private, public), []
    for one in distance:
        rows.append(int(one.argmin()))
        distance[:, rows[-1]] = torch.inf
    return public[rows]


@exercise(
    cases=[
        _case(12, 24, 2, 3, 4),
        _case(9, 25, 3, 4, 2),
        _case(8, 3, 1, 3, 3),
        _case(7, 20, 2, 2, 3, shift=-9, scale=100),
        _case(1, 1, 1, 2, 2),
        _case(2, 300, 1, 1, 2),
    ],
    returns="the batch of nearest images",
    praise="each private image has its nearest public image, and no private image was "
    "reconstructed.",
    otherwise="these are not the nearest public images: distance is the root of the summed squared "
    "differences, over all channels and pixels, and one public image may be the nearest to several "
    "private ones, however many there are of both",
    slips={
        "these are the rows of the nearest images: return the images, public[rows]": _rows,
        "the minimum is taken over the wrong axis: there is one image for each public image": (
            lambda private, public: public[_distance(private, public).argmin(0)]
        ),
        "there is one private image for each public one: the two sets are swapped": (
            lambda private, public: private[_rows(public, private)]
        ),
        "these are the farthest public images: argmin, not argmax": _by(
            lambda a, b: -_distance(a, b)
        ),
        "these are the right images in another order: row i is the image nearest to private[i]": (
            lambda private, public: public[_rows(private, public).sort().values]
        ),
        "each image stands one row after the nearest: rows are counted from 0": (
            lambda private, public: public.roll(-1, 0)[_rows(private, public)]
        ),
        "each image stands one row before the nearest: rows are counted from 0": (
            lambda private, public: public.roll(1, 0)[_rows(private, public)]
        ),
        "the last public image is never looked at: mind where the loop or the slice ends": (
            lambda private, public: public[_rows(private, public[: max(1, len(public) - 1)])]
        ),
        "the first public image is never looked at: Python counts from 0": (
            lambda private, public: public[1:][_rows(private, public[1:])]
        ),
        "the nearest image is chosen by the angle, which ignores brightness: use the distance": _by(
            lambda a, b: -F.normalize(a) @ F.normalize(b).T
        ),
        "the nearest image is chosen by correlation, which ignores brightness and contrast: use "
        "the distance": _by(lambda a, b: -_normal(a) @ _normal(b).T),
        "the nearest image is chosen by the product of the images, which favors bright ones: "
        "use the distance": _by(lambda a, b: -a @ b.T),
        "the nearest image is chosen by absolute differences: square them before you sum them": _by(
            lambda a, b: torch.cdist(a, b, p=1)
        ),
        "the nearest image is chosen by the largest difference at any pixel: sum the squares of "
        "all differences": _by(lambda a, b: torch.cdist(a, b, p=torch.inf)),
        "the nearest image is chosen by the mean gray value: compare pixel by pixel": _by(
            lambda a, b: _distance(a.mean(1, keepdim=True), b.mean(1, keepdim=True))
        ),
        "only the first channel is compared: the distance runs over all of an image's numbers": (
            lambda private, public: public[_rows(private[:, :1], public[:, :1])]
        ),
        "only as many public images as there are private ones are looked at: look at all": (
            lambda private, public: public[_rows(private, public[: len(private)])]
        ),
        "no public image is used twice: one public image may be the nearest to several private "
        "images": _each_once,
        "these are not public images, because each channel is chosen separately: choose one "
        "image by its distance over all channels and pixels": _piecewise(3, 4),
        "these are not public images, because each pixel is chosen separately: choose one image "
        "by its distance over all channels and pixels": _piecewise(),
        "these are means of the two nearest public images: return the nearest, whole and "
        "unchanged": lambda private, public: public[
            _distance(private, public).topk(min(2, len(public)), largest=False).indices
        ].mean(1),
    },
)
def nearest_public(private: Tensor, public: Tensor) -> Tensor:
    return public[_rows(private, public)]
