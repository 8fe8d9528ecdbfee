"""Images: rows of pixels with their value range."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any, ClassVar, Self

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from splitlab.arguments import ends
from splitlab.data.arrays import blocks_of, labels_of, pixels_of
from splitlab.data.base import Data
from splitlab.data.errors import DataError
from splitlab.data.pixels import repeats_grey, stored_channels


@dataclass(eq=False, repr=False)
class ImageData(Data):
    """Labeled images with their value range and a record of where each came from.

    All other attributes are those of `Data`.

    To use images of your own, call `ImageData.from_arrays(x, y, value_range=...)`, and then
    `private, public, referee = data.split(seed)`. Give it a block for each image (its writer, its
    patient) where images belong together, for `split` never cuts a block.

    Before images are hashed (`row_hashes`, `fingerprint`), pixels are rounded to 256 levels of the
    value range, and a repeated gray channel counts once: the same picture has the same hash on
    another scale of values, on another device and with another number of channels, though not at
    another size.

    Attributes:
        x: Images, float32, shape (N, C, H, W), values inside `value_range`. Gray images with
            several channels may be an `expand` view of one stored channel (see `grey`).
        value_range: The smallest and largest value that a pixel can take.

    Raises:
        DataError: If shapes, types, labels or pixel values contradict the description above.
    """

    ROW: ClassVar[str] = "image"

    name: str = "images"
    value_range: tuple[float, float] = (-1.0, 1.0)

    @classmethod
    def from_arrays(
        cls,
        x: ArrayLike | Tensor,
        y: ArrayLike | Tensor,
        *,
        value_range: tuple[float, float],
        classes: Sequence[str] | None = None,
        block: ArrayLike | Tensor | None = None,
        name: str = "arrays",
    ) -> Self:
        """Make a data set from your own images: numpy arrays, lists or tensors.

        Pixels keep their values and become float32: nothing is rescaled, and nothing is assumed
        about the range. The networks here are made for values from -1 to 1, so rescale bytes
        first: `from_arrays(x / 127.5 - 1, y, value_range=(-1, 1))`.

        Args:
            x: Images, numbers of any type, shape (N, C, H, W), or (N, H, W) for one channel.
            y: One label for each image, shape (N,): whole numbers that are positions in `classes`,
                or strings that are names of classes.
            value_range: The smallest and largest value that a pixel can take, such as (0, 255)
                for bytes or (0, 1). It is a property of the kind of image, not of these images.
            classes: The names of the classes, in the order of their numbers. None: "0", "1" and so
                on up to the largest number, or all the strings in `y`, sorted.
            block: The block that each image belongs to, such as its writer, as whole numbers or
                strings, shape (N,); `split` never cuts a block. None: each image is a block of
                its own.
            name: The name of the data set.

        Returns:
            N images (C, H, W) on the CPU. Everything is copied: what is later written into the
            arrays does not reach the data set.

        Raises:
            DataError: If an array has another shape or type than described, is empty or ragged, or
                does not have one entry for each image; if a pixel is NaN or outside
                `value_range`; or if a label is negative, no whole number, or not in `classes`.
        """
        pixels, low, high = pixels_of(x, value_range, name)
        labels, names = labels_of(y, len(pixels), classes, name)
        return cls(
            x=pixels,
            y=labels,
            classes=names,
            name=name,
            block=blocks_of(range(len(pixels)) if block is None else block, len(pixels), name),
            value_range=(low, high),
        )

    def _check_x(self) -> None:
        if self.x.ndim != 4 or self.x.dtype != torch.float32 or len(self.x) == 0:
            raise DataError(
                f"{self.name}: x must be float32 of shape (N, C, H, W) with at least one image, "
                f"not {self.x.dtype} of shape {tuple(self.x.shape)}."
            )

    def _check_values(self) -> None:
        try:
            low, high = ends(self.value_range)
        except ValueError as error:
            raise DataError(f"{self.name}: {error}.") from None
        smallest, largest = (float(v) for v in stored_channels(self.x).aminmax())
        if isnan(smallest):
            raise DataError(
                f"{self.name}: x contains NaN; replace it with numbers, or drop those images."
            )
        if not (low <= smallest <= largest <= high):
            raise DataError(
                f"{self.name}: pixels run from {smallest:g} to {largest:g}, outside the value "
                f"range {low:g} to {high:g}; rescale x or pass the right value_range."
            )
        super()._check_values()

    def _stored(self) -> Tensor:
        return stored_channels(self.x)

    def _shown(self, stored: Tensor) -> Tensor:
        return stored.expand(-1, self.shape[0], -1, -1)

    def _describe(self) -> tuple[str, ...]:
        low, high = self.value_range
        shape = "x".join(map(str, self.shape))
        return f"{len(self)} images {shape}", f"values {low:g} to {high:g}"

    def _hashed(self, stored: Tensor) -> Tensor:
        low, high = self.value_range
        return ((stored - low) * (255 / (high - low))).round().to(torch.uint8)

    def _hashed_about(self) -> tuple[Any, ...]:
        return tuple(self.x.shape), *self.value_range, self.classes

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of one image."""
        _, channels, height, width = self.x.shape
        return channels, height, width

    @property
    def grey(self) -> bool:
        """Whether the channels of every image repeat one stored gray channel."""
        return repeats_grey(self.x)
