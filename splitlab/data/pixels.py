"""Pixels of images, (N, C, H, W): repeated gray channels, copies of rows, and resizing."""

import torch.nn.functional as F
from torch import Tensor

from splitlab.arguments import described, whole
from splitlab.data.errors import DataError

RESIZE_CHUNK = 2000  # images resized at a time: keeps the working memory at a few megabytes


def repeats_grey(x: Tensor) -> bool:
    """Return whether the channels of `x` are one stored gray channel.

    Args:
        x: Images, shape (N, C, H, W).

    Returns:
        True for one channel, and for several that are an `expand` view of one (stride 0).
    """
    return x.shape[1] == 1 or x.stride(1) == 0


def stored_channels(x: Tensor) -> Tensor:
    """Return what `x` keeps in memory: one channel of gray images, else all of them.

    Args:
        x: Images, shape (N, C, H, W).

    Returns:
        A view of shape (N, 1, H, W) when the channels repeat one gray channel, else `x`.
    """
    return x[:, :1] if repeats_grey(x) else x


def take_rows(x: Tensor, rows: Tensor) -> Tensor:
    """Copy rows of `x` into their own storage; a repeated gray channel stays one channel.

    Args:
        x: Images, shape (N, C, H, W).
        rows: int64 row numbers, shape (n,), each in 0..N-1.

    Returns:
        Images of shape (n, C, H, W) that share no storage with `x`.
    """
    copy = stored_channels(x).index_select(0, rows.to(x.device))
    return copy.expand(-1, x.shape[1], -1, -1)


def check_size_and_channels(size: int, channels: int) -> None:
    """Refuse image sizes and numbers of channels that the loaders cannot give.

    Args:
        size: Height and width in pixels, from 4 to 256.
        channels: 1, or 3 for networks that expect color.

    Raises:
        DataError: If either is outside what is stated above.
    """
    if whole(size) is None or not 4 <= size <= 256:
        raise DataError(
            f"size must be a whole number of pixels from 4 to 256, not {described(size)}."
        )
    if whole(channels) not in (1, 3):
        raise DataError(f"channels must be 1 (gray) or 3, not {described(channels)}.")


def resize(images: Tensor, size: int) -> Tensor:
    """Resize images bilinearly, with half-pixel centers (`align_corners=False`).

    When shrinking, the filter is widened (`antialias=True`): plain bilinear would look at four
    pixels and skip others, and thin strokes would break up. When enlarging, it is plain bilinear.

    Args:
        images: float32, shape (N, C, H, W).
        size: Height and width wanted, in pixels.

    Returns:
        Images of shape (N, C, size, size) on the same scale of values.
    """
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(
        images,
        size=(size, size),
        mode="bilinear",
        align_corners=False,
        antialias=size < images.shape[-1],
    )
