"""Public images unlike the private ones: photographs, strokes, and digits that were altered.

What an attacker may hold in place of images of the private kind. Some are made here from nothing or
from two photographs; the others are images of the private kind, changed by a known amount.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from splitlab.arguments import (
    IMAGES,
    TENSOR,
    call,
    count,
    described,
    finite,
    function,
    images,
    instance,
    whole,
    within,
)
from splitlab.data.errors import DataError
from splitlab.data.images import ImageData
from splitlab.data.pixels import check_size_and_channels, resize, stored_channels

REDUCTIONS = (2, 3, 4)  # a crop of a photograph is so many times as wide as the image made of it
SEGMENTS = (2, 3, 4)  # lines in a drawing of strokes
CANVAS = 64  # side of the square on which strokes are drawn before they are reduced
PEN = 9.0  # width of a stroke there: about that of a digit's
FINE = 4  # parts of a pixel in which strokes are made thicker


def photographs(n: int = 640, size: int = 16, channels: int = 1, seed: int = 0) -> ImageData:
    """Cut gray patches from the two photographs in scikit-learn, of a temple and of a flower.

    A patch is a square crop at a random place, 2, 3 or 4 times as wide as `size`, reduced by taking
    means of squares of pixels. Source: `sklearn.datasets.load_sample_images`, 427 x 640 pixels;
    gray is the mean of red, green and blue.

    Args:
        n: How many patches, at least 1.
        size: Height and width wanted, in pixels (4 to 106: four times that must fit a photograph).
        channels: 1, or 3 for a view that repeats the gray channel without copying it.
        seed: Decides every patch; the same on every machine.

    Returns:
        n images (channels, size, size) in [-1, 1], of one class; each row is a block of its own.

    Raises:
        DataError: For a number, a size or a number of channels that cannot be had.
    """
    from sklearn.datasets import load_sample_images

    check_size_and_channels(size, channels)
    pictures = [picture.mean(2) / 127.5 - 1 for picture in load_sample_images().images]
    most = min(pictures[0].shape) // max(REDUCTIONS)
    if size > most:
        raise DataError(f"patches of the photographs are at most {most} pixels wide, not {size}.")
    patches = np.empty((_number(n), 1, size, size))
    random = _random(seed)
    for patch in patches:
        picture = pictures[random.integers(len(pictures))]
        factor = int(random.choice(REDUCTIONS))
        top, left = (random.integers(side - size * factor + 1) for side in picture.shape)
        crop = picture[top : top + size * factor, left : left + size * factor]
        patch[0] = crop.reshape(size, factor, size, factor).mean((1, 3))
    return _grey(torch.from_numpy(patches), channels, "photographs", "patch")


def strokes(n: int = 640, size: int = 16, channels: int = 1, seed: int = 0) -> ImageData:
    """Draw two to four straight lines, light on dark, at random in each image.

    They are drawn at 64 x 64 pixels, reduced to 8 x 8 by means of squares of pixels and enlarged
    bilinearly: the way of scikit-learn's digits, so that sharpness is not what tells them apart.

    Args:
        n: How many drawings, at least 1.
        size: Height and width wanted, in pixels (4 to 256).
        channels: 1, or 3 for a view that repeats the gray channel without copying it.
        seed: Decides every drawing; the same on every machine.

    Returns:
        n images (channels, size, size) in [-1, 1], of one class; each row is a block of its own.

    Raises:
        DataError: For a number, a size or a number of channels that cannot be had.
    """
    check_size_and_channels(size, channels)
    random = _random(seed)
    # Drawn before the lines are counted out, so that a drawing depends on the seed and its number.
    ends = torch.from_numpy(random.uniform(0.0, 1.0, (_number(n), max(SEGMENTS), 2, 2))) * CANVAS
    lines = torch.from_numpy(random.choice(SEGMENTS, n))
    middle = torch.arange(CANVAS) + 0.5
    at = torch.stack(torch.meshgrid(middle, middle, indexing="ij"), dim=-1).double()
    drawn = torch.zeros(n, CANVAS, CANVAS, dtype=torch.float64)
    for number in range(max(SEGMENTS)):
        a, b = (end[:, None, None] for end in ends[:, number].unbind(1))
        along = ((at - a) * (b - a)).sum(-1) / (b - a).square().sum(-1)
        distance = (at - a - along.clamp(0, 1)[..., None] * (b - a)).norm(dim=-1)
        ink = (PEN / 2 + 0.5 - distance).clamp(0, 1) * (number < lines)[:, None, None]
        drawn = torch.maximum(drawn, ink)
    coarse = F.avg_pool2d(drawn[:, None], CANVAS // 8)
    x = resize(2 * coarse.float() - 1, size)
    return _grey(x, channels, "strokes", "strokes")


def changed(data: ImageData, change: Callable[[Tensor], Tensor]) -> ImageData:
    """Copy a data set with changed images and everything else unchanged.

    Args:
        data: Images of any kind.
        change: Images (N, C, H, W) to images of the same shape; its results are clamped to the
            value range of the data.

    Returns:
        A data set that shares no image with `data`, but its labels and row numbers.

    Raises:
        TypeError: If the data are no images, or `change` returns none.
        DataError: If it returns images of another shape, or NaN.
    """
    instance("data", data, ImageData, IMAGES)
    stored = stored_channels(data.x)
    do = "pass a function of images"
    made = call("change", partial(function("change", change, do), stored), do)
    instance("what change returns", made, Tensor, "let it return images of the same shape")
    if made.shape != stored.shape:
        raise DataError(
            f"change makes {described(made)} of images of shape {tuple(stored.shape)}; let it "
            "return the same shape."
        )
    x = made.clamp(*data.value_range)
    return replace(data, x=x.expand(-1, data.shape[0], -1, -1))


def thickened(x: Tensor, pixels: float) -> Tensor:
    """Make light strokes thicker or thinner, as if drawn with a square pen.

    Args:
        x: Images, shape (N, C, H, W); light strokes on dark.
        pixels: By how much every edge moves outward, in quarters of a pixel: 0.5 is half a pixel on
            either side of a stroke. Below 0 the dark grows instead, and strokes become thinner.

    Returns:
        Images of the same shape; 0 returns them as they are.

    Raises:
        ValueError: If `pixels` is no multiple of a quarter, or the pen wider than the image.
    """
    instance("x", x, Tensor, TENSOR)
    pixels = finite("pixels", pixels)
    reach = round(abs(pixels) * FINE)
    if reach != abs(pixels) * FINE or 2 * reach >= x.shape[-1] * FINE:
        raise ValueError(
            f"pixels must be a multiple of 0.25 below half of the image's width, not {pixels}."
        )
    if reach == 0:
        return x.clone()
    sign = 1 if pixels > 0 else -1
    fine = F.interpolate(sign * x, scale_factor=FINE, mode="bilinear", align_corners=False)
    return sign * F.avg_pool2d(F.max_pool2d(fine, 2 * reach + 1, 1, reach), FINE)


def slanted(x: Tensor, shear: float) -> Tensor:
    """Slant images to the right, about their middle.

    Args:
        x: Images, shape (N, C, H, W).
        shear: The tangent of the angle: a stroke that went straight up leans to the right by this
            much of its height; to the left where it is below 0.

    Returns:
        Images of the same shape. What comes in from outside has the median value of the image's own
        border.

    Raises:
        TypeError: If `x` is no tensor.
        ValueError: If the shear is no finite number.
    """
    return _mapped(x, torch.tensor([[1.0, finite("shear", shear)], [0.0, 1.0]]))


def scaled(x: Tensor, factor: float) -> Tensor:
    """Enlarge or shrink the content of images about their middle; their size stays the same.

    Args:
        x: Images, shape (N, C, H, W).
        factor: Of heights and widths, from a quarter to 4.

    Returns:
        Images of the same shape. What comes in from outside has the median value of the image's own
        border.

    Raises:
        ValueError: If the factor is out of its range.
    """
    factor = within("factor", factor, 0.25, 4)
    return _mapped(x, torch.eye(2) / factor)


def few(data: ImageData, n: int, seed: int = 0, *, rows: int = 64) -> ImageData:
    """Keep `n` images, and repeat them until they fill batches.

    An attacker with ten images has batches of as many images as the client's all the same.

    Args:
        data: Images of any kind.
        n: How many different rows are kept, from 1 to N, chosen at random.
        seed: Decides which; the same on every machine.
        rows: How many rows there are to be at the least.

    Returns:
        A data set of `n` rows, or of several copies of them in turn, at least `rows` in all.

    Raises:
        DataError: If `n` is not between 1 and N.
    """
    instance("data", data, ImageData, IMAGES)
    rows = count("rows", rows, least=1)
    kept = data.subset(n, seed)
    return kept.select(torch.arange(n).repeat(max(1, -(-rows // n))))


def _mapped(x: Tensor, linear: Tensor) -> Tensor:
    """Resample images: each place shows what `linear`, (2, 2), maps it to, about the middle."""
    images("x", x)
    border = torch.cat([x[..., [0, -1], :].flatten(2), x[..., 1:-1, [0, -1]].flatten(2)], dim=2)
    outside = border.median(dim=2).values[..., None, None]
    maps = torch.cat([linear, torch.zeros(2, 1)], dim=1).to(x).expand(len(x), 2, 3)
    grid = F.affine_grid(maps, list(x.shape), align_corners=False)
    # What lies outside counts as 0 there, so the background is made 0 for a while.
    return F.grid_sample(x - outside, grid, align_corners=False) + outside


def _number(n: int) -> int:
    if whole(n) is None or n < 1:
        raise DataError(f"n is the number of images to make, at least 1, not {described(n)}.")
    return n


def _random(seed: int) -> np.random.Generator:
    if whole(seed) is None or seed < 0:
        raise DataError(f"seed must be a whole number, 0 or more, not {described(seed)}.")
    return np.random.default_rng(seed)


def _grey(x: Tensor, channels: int, name: str, kind: str) -> ImageData:
    """Return images (N, 1, H, W) on [-1, 1] as a data set of one class."""
    x = x.float().clamp(-1, 1).expand(-1, channels, -1, -1)
    y = torch.zeros(len(x), dtype=torch.int64)
    return ImageData(x=x, y=y, classes=(kind,), name=name, part="public")
