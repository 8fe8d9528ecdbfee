"""A decoder trained on pairs of smashed data and images.

The referee trains one on true pairs, as a ceiling; an attack trains one on pairs that it was given
or made itself.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from splitlab.arguments import TENSOR, count, ends, generator, instance, number
from splitlab.nets.blocks import upsampling_decoder
from splitlab.nets.evaluation import in_parts
from splitlab.nets.shapes import check_shape, output_of


class PairDecoder(nn.Module):
    """A decoder that standardizes z first.

    Made by `train_decoder` or `fit_linear_decoder`.

    Args:
        decoder: Standardized z -> images (B, C, H, W).
        mean: Mean of z over the training pairs, (...).
        std: Standard deviation of z over the training pairs, (...), or one for all; above 0.
        value_range: The smallest and largest value that a pixel can take.
    """

    def __init__(
        self, decoder: nn.Module, mean: Tensor, std: Tensor, value_range: tuple[float, float]
    ) -> None:
        super().__init__()
        self.decoder, self.value_range = decoder, ends(value_range)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    @classmethod
    def like(
        cls, state: dict[str, Tensor], decoder: nn.Module, value_range: tuple[float, float]
    ) -> Self:
        """Return a decoder with the state that another one's `state_dict` returned.

        Args:
            state: That state.
            decoder: A network of the other's architecture; its weights become the other's.
            value_range: As above.
        """
        both = cls(decoder, state["mean"].clone(), state["std"].clone(), value_range)
        both.to(next(decoder.parameters()).device, state["mean"].dtype).load_state_dict(state)
        return both

    def forward(self, z: Tensor) -> Tensor:
        """Return the decoder's output for z, (B, C, H, W), not clamped."""
        return self.decoder((z - self.mean) / self.std)

    def images(self, z: Tensor) -> Tensor:
        """Return images for z, (N, C, H, W), in evaluation mode, clamped to the value range."""
        return in_parts(self, z).clamp(*self.value_range)


def train_decoder(
    z: Tensor,
    x: Tensor,
    *,
    value_range: tuple[float, float],
    decoder: nn.Module | None = None,
    parameters: int | None = None,
    steps: int = 400,
    rate: float = 2e-3,
    batch_size: int = 64,
    seed: int = 0,
) -> PairDecoder:
    """Train a decoder on pairs with the mean squared error and Adam.

    Args:
        z: Smashed data, (N, ...).
        x: The images that they come from, (N, C, H, W), in the same order.
        value_range: The smallest and largest value that a pixel can take.
        decoder: Standardized z -> images; trained in place. By default an upsampling decoder that
            fits z and x.
        parameters: About how many parameters the default decoder has; see `upsampling_decoder`.
        steps: How many.
        rate: Adam's learning rate.
        batch_size: Pairs in a batch, drawn with replacement.
        seed: Seeds the default decoder's weights and the batches.

    Returns:
        The trained decoder.

    Raises:
        TypeError: If z or x is no tensor, or `decoder` no network.
        ValueError: If there are not as many z as images, or fewer than two pairs; if the decoder
            does not fit; or if a number is out of range.
    """
    _check_pairs(z, x)
    if decoder is None:
        channels, height, width = x.shape[1:]
        shapes = tuple(z.shape[1:]), (channels, height, width)
        decoder = upsampling_decoder(*shapes, parameters=parameters, seed=seed)
    steps, rate = count("steps", steps, least=0), number("rate", rate, above=True)
    batch_size, drawn = count("batch_size", batch_size, least=1), generator(seed)
    both = PairDecoder(decoder, z.mean(0), z.std(0).clamp_min(1e-6), value_range).to(z)
    do = "give it a decoder from the z of this cut to these images"
    made = output_of("decoder", both.decoder, z[:1], what="z", do=do)
    check_shape("decoder", made, x.shape[1:], what="the images have", do=do)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=rate)
    both.train()
    for _ in range(steps):
        rows = torch.randint(len(x), (batch_size,), generator=drawn).to(z.device)
        loss = nn.functional.mse_loss(both(z[rows]), x[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return both


@torch.no_grad()
def fit_linear_decoder(
    z: Tensor, x: Tensor, *, value_range: tuple[float, float], ridge: float = 1e-3
) -> PairDecoder:
    """Fit a linear decoder to pairs by least squares, in closed form: no steps and no seed.

    The weights W minimize the sum over all pairs of |W z - (x - mean of x)|^2, plus the number of
    values in z times `ridge` times |W|^2 (ridge regression). z is centered and divided by one
    standard deviation for all its numbers. With one for each, a number that hardly varies over the
    pairs, and does for another image, would outweigh all others.

    Args:
        z: Smashed data, (N, ...).
        x: The images that they come from, (N, C, H, W), in the same order.
        value_range: The smallest and largest value that a pixel can take.
        ridge: Keeps the weights small where there are few pairs; above 0.

    Returns:
        The fitted decoder.

    Raises:
        ValueError: If there are not as many z as images, or fewer than two pairs.
    """
    _check_pairs(z, x)
    ridge = number("ridge", ridge, above=True)
    mean = z.mean(0)
    std = (z - mean).square().mean().sqrt().clamp_min(1e-6)
    features, images = ((z - mean) / std).flatten(1).double(), x.flatten(1).double()
    size = features.shape[1]
    penalty = ridge * size * torch.eye(size, dtype=torch.float64, device=z.device)
    around = images.mean(0)
    weights = torch.linalg.solve(features.T @ features + penalty, features.T @ (images - around))
    place = {"dtype": torch.float64, "device": z.device}
    linear = nn.utils.skip_init(nn.Linear, size, images.shape[1], **place)  # draws no lots
    linear.weight.copy_(weights.T)
    linear.bias.copy_(around)
    decoder = nn.Sequential(nn.Flatten(), linear, nn.Unflatten(1, x.shape[1:]))
    return PairDecoder(decoder, mean, std, value_range).to(z)


def _check_pairs(z: Tensor, x: Tensor) -> None:
    """Raise an error unless there is one z for each image and at least two pairs."""
    for name, value in {"z": z, "x": x}.items():
        instance(name, value, Tensor, TENSOR)
    if len(z) != len(x) or len(x) < 2:
        raise ValueError(
            f"a decoder needs at least two pairs and was given {len(z)} z and {len(x)} images: "
            "pass one z for each image"
        )
