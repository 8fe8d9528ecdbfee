"""What an attacker assumes about images in advance: neighboring pixels are alike."""

from __future__ import annotations

from torch import Tensor

from splitlab.arguments import TENSOR, instance


def total_variation(x: Tensor) -> Tensor:
    """Return the total variation of each image.

    The mean squared difference between vertical neighbors, plus that between horizontal ones.
    A mean and not a sum, so that a weight on it serves images of any size. It has a gradient.

    Args:
        x: Images, (N, C, H, W), floating point.

    Returns:
        Total variation of each image, (N,), 0 or more, in squared pixel values; 0 for an image
        in which each channel has one value throughout.

    Raises:
        TypeError: If x is no tensor.
        ValueError: If x does not hold images of at least 2x2 pixels.
    """
    instance("x", x, Tensor, TENSOR)
    if x.dim() != 4 or min(x.shape[-2:]) < 2 or not x.is_floating_point():
        raise ValueError(
            f"total variation needs floating-point images (N, C, H, W) of at least 2x2 pixels and "
            f"was given {x.dtype} of shape {tuple(x.shape)}: for a single image pass x[None]"
        )
    down = (x[..., 1:, :] - x[..., :-1, :]).square().flatten(1).mean(1)
    across = (x[..., 1:] - x[..., :-1]).square().flatten(1).mean(1)
    return down + across
