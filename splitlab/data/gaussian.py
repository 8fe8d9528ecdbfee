"""Images without content: Gaussian noise, white or with the moments of another data set."""

import math

import torch
from torch import Tensor

from splitlab.arguments import described, generator, whole
from splitlab.data.base import NOT_KNOWN
from splitlab.data.errors import DataError
from splitlab.data.images import ImageData
from splitlab.data.pixels import check_size_and_channels

ROWS = 1800


def gaussian_like(data: ImageData, n: int = ROWS, *, seed: int = 0) -> ImageData:
    """Draw images from the normal distribution with the mean and covariance of other images.

    Neighboring pixels go together as they do there, some places are lighter than others, and
    there is no stroke and no class. Each image is the mean plus a random combination of the
    deviations of `data`, whose weights are independent normal numbers: over many images that
    gives mean and covariance of `data` exactly.

    Args:
        data: Images of one stored channel, at least two of them.
        n: How many images to draw, at least 1.
        seed: Draws the weights.

    Returns:
        n images of the same shape, each a block of its own, of the one class "not known". A normal
        distribution has no bounds, so their value range is the smallest whole one about 0 that
        holds all of them. `split` deals them 5:5:4 to private, public and referee.

    Raises:
        DataError: If there is nothing to take the moments of, or the images have colors.
    """
    if not isinstance(data, ImageData) or len(data) < 2 or not data.grey:
        given = repr(data) if isinstance(data, ImageData) else described(data)
        raise DataError(f"gaussian_like needs at least two gray images, not {given}.")
    _check(n)
    rows = data.x[:, 0].flatten(1).double()
    mean = rows.mean(0)
    weights = _normal(n, len(rows), seed).to(rows.device)
    x = mean + weights @ (rows - mean) / math.sqrt(len(rows))
    channels, height, width = data.shape
    x = x.float().view(n, 1, height, width).expand(-1, channels, -1, -1)
    return _images(x, f"Gaussian like {data.name}")


def white_noise(n: int = ROWS, size: int = 16, channels: int = 1, *, seed: int = 0) -> ImageData:
    """Draw images whose pixels are independent normal numbers of mean 0 and variance 1.

    Every order of the pixels has the same distribution, and so has every rotation of them.

    Args:
        n: How many images to draw, at least 1.
        size: Height and width wanted, in pixels (4 to 256).
        channels: 1, or 3 for a view that repeats the gray channel without copying it.
        seed: Draws the pixels.

    Returns:
        n images, otherwise as from `gaussian_like`.

    Raises:
        DataError: For a size, a number of channels or of images that cannot be had.
    """
    check_size_and_channels(size, channels)
    _check(n)
    x = _normal(n, size * size, seed).float().view(n, 1, size, size)
    return _images(x.expand(-1, channels, -1, -1), "white noise")


def _check(n: int) -> None:
    if whole(n) is None or n < 1:
        raise DataError(f"n is the number of images to draw, at least 1, not {described(n)}.")


def _normal(rows: int, columns: int, seed: int) -> Tensor:
    return torch.randn(rows, columns, generator=generator(seed), dtype=torch.float64)


def _images(x: Tensor, name: str) -> ImageData:
    bound = float(math.ceil(x[:, :1].abs().max()))
    y = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    about = {"name": name, "value_range": (-bound, bound), "shares": (5, 5, 4)}
    return ImageData(x=x, y=y, classes=(NOT_KNOWN,), **about)
