"""Networks: `paper` (the paper's, 32x32 color) and `tiny` (16x16 gray, seconds on a CPU)."""

from splitlab.nets import paper, tiny
from splitlab.nets.blocks import (
    DepthToSpace,
    FreeImages,
    LastChannels,
    ResBlock,
    Shuffle,
    SpaceToDepth,
    parameter_count,
    upsampling_decoder,
)
from splitlab.nets.evaluation import EVALUATION_BATCH, evaluating, in_parts
from splitlab.nets.pair_decoder import PairDecoder, fit_linear_decoder, train_decoder

__all__ = [
    "EVALUATION_BATCH",
    "DepthToSpace",
    "FreeImages",
    "LastChannels",
    "PairDecoder",
    "ResBlock",
    "Shuffle",
    "SpaceToDepth",
    "evaluating",
    "fit_linear_decoder",
    "in_parts",
    "paper",
    "parameter_count",
    "tiny",
    "train_decoder",
    "upsampling_decoder",
]
