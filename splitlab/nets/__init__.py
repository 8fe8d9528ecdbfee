"""Networks: `paper` (the paper's, 32x32 colour) and `tiny` (16x16 grey, seconds on a CPU)."""

from splitlab.nets import paper, tiny
from splitlab.nets.blocks import (
    ChannelRotation,
    DepthToSpace,
    ResBlock,
    Shuffle,
    SpaceToDepth,
    parameter_count,
    upsampling_decoder,
)

__all__ = [
    "ChannelRotation",
    "DepthToSpace",
    "ResBlock",
    "Shuffle",
    "SpaceToDepth",
    "paper",
    "parameter_count",
    "tiny",
    "upsampling_decoder",
]
