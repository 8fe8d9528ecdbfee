"""Private images, changed so that a person still recognizes them, but not every metric does.

No attack makes these. They are for judging metrics: a party that holds one of them holds the image.
"""

from collections.abc import Callable
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor


def moved(x: Tensor, value_range: tuple[float, float], pixels: int = 1) -> Tensor:
    """Move images to the right; new pixels repeat the border.

    Args:
        x: Images, shape (N, C, H, W), values inside `value_range`.
        value_range: The smallest and largest value that a pixel can take (here without effect).
        pixels: How far, from 1 to W - 1.

    Returns:
        Images of the same shape.

    Raises:
        ValueError: If nothing of the image would be left, or nothing would move.
    """
    width = x.shape[-1]
    if not 1 <= pixels < width:
        raise ValueError(
            f"images {width} pixels wide can be moved by 1 to {width - 1} of them, not {pixels}."
        )
    border = x[..., :1].expand(*x.shape[:-1], pixels)
    return torch.cat([border, x[..., :-pixels]], dim=-1)


def brighter(x: Tensor, value_range: tuple[float, float], share: float = 0.15) -> Tensor:
    """Add a share of the value range to every pixel; what exceeds the range is cut off.

    Args:
        x: Images, shape (N, C, H, W), values inside `value_range`.
        value_range: The smallest and largest value that a pixel can take.
        share: What is added, as a share of the range, from 0 to 1: .15 is .3 on [-1, 1].

    Returns:
        Images of the same shape.

    Raises:
        ValueError: If `share` is not between 0 and 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share is a share of the value range, from 0 to 1, not {share}.")
    low, high = value_range
    return (x + share * (high - low)).clamp(low, high)


def inverted(x: Tensor, value_range: tuple[float, float]) -> Tensor:
    """Turn images into their negatives: dark becomes light.

    Args:
        x: Images, shape (N, C, H, W), values inside `value_range`.
        value_range: The smallest and largest value that a pixel can take.

    Returns:
        Images of the same shape.
    """
    low, high = value_range
    return low + high - x


def blurred(x: Tensor, value_range: tuple[float, float]) -> Tensor:
    """Replace every pixel by the mean of the 3x3 pixels around it; the border repeats outward.

    Args:
        x: Images, shape (N, C, H, W), values inside `value_range`.
        value_range: The smallest and largest value that a pixel can take (here without effect).

    Returns:
        Images of the same shape.
    """
    return F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)


# Each takes images and their value range.
DISGUISES: MappingProxyType[str, Callable[[Tensor, tuple[float, float]], Tensor]] = (
    MappingProxyType(
        {
            "moved by a pixel": moved,
            "brighter": brighter,
            "inverted": inverted,
            "blurred": blurred,
        }
    )
)
