"""The slant of handwriting: a property of the writer, and partly of what is written."""

from dataclasses import replace

import torch
from torch import Tensor

from splitlab.arguments import IMAGES, TENSOR, ends, finite, instance
from splitlab.data.images import ImageData
from splitlab.data.pixels import stored_channels


def slant(x: Tensor, value_range: tuple[float, float] = (-1.0, 1.0)) -> Tensor:
    """Measure the slant of each image: the covariance of its ink's columns and rows.

    Every pixel counts by its ink, the pixel's value above the smallest possible one; the ink of an
    image sums to 1. Columns and rows are counted in pixels from the ink's own center, columns to
    the right and rows down. Strokes like a backslash are above 0, strokes like a slash below 0, and
    a symmetric cross is at 0. Twice the size gives four times the slant.

    Args:
        x: Light ink on dark paper, shape (N, C, H, W); of several channels the mean counts.
        value_range: The smallest and largest value that a pixel can take.

    Returns:
        The covariance in squared pixels, shape (N,). A blank image has none: 0.

    Raises:
        TypeError: If `x` is no tensor.
        ValueError: If `x` is not of four dimensions.
    """
    instance("x", x, Tensor, TENSOR)
    if x.ndim != 4:
        raise ValueError(f"x must be images of shape (N, C, H, W), not {tuple(x.shape)}.")
    low, _ = ends(value_range)
    ink = stored_channels(x).mean(1) - low
    total = ink.sum((1, 2), keepdim=True)
    ink = torch.where(total > 0, ink / total.clamp_min(torch.finfo(ink.dtype).tiny), 0)
    rows = torch.arange(ink.shape[1], dtype=ink.dtype, device=ink.device)
    columns = torch.arange(ink.shape[2], dtype=ink.dtype, device=ink.device)
    mean_row = (ink.sum(2) * rows).sum(1)
    mean_column = (ink.sum(1) * columns).sum(1)
    from_row = rows - mean_row[:, None]
    from_column = columns - mean_column[:, None]
    return torch.einsum("nij,ni,nj->n", ink, from_row, from_column)


def by_slant(data: ImageData, threshold: float) -> ImageData:
    """Relabel handwriting by the side of a threshold on which its slant lies.

    Args:
        data: Images of handwriting, light on dark.
        threshold: 1 is for a slant below it, in squared pixels. An attacker takes the median of its
            own images, `slant(public.x).median()`.

    Returns:
        A data set of two classes, 0 "falling" (more like a backslash) and 1 "rising" (more like a
        slash). It shares images and attributes with this one.

    Raises:
        TypeError: If the data are no images.
        ValueError: If the threshold is no finite number.
    """
    instance("data", data, ImageData, IMAGES)
    threshold = finite("threshold", threshold)
    label = (slant(data.x, data.value_range) < threshold).long()
    return replace(data, y=label, classes=("falling", "rising"))
