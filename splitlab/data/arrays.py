"""Conversion of a user's arrays and lists to pixels, labels and blocks, all of them copied."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from splitlab.arguments import described, reason
from splitlab.data.errors import DataError

MOST_CLASSES = 100_000  # a larger label without names is a mistake, such as a time or an identifier
NUMBERS = "biuf"  # numpy's kinds: bool, signed, unsigned, float


def pixels_of(
    x: ArrayLike | Tensor, value_range: tuple[float, float], name: str
) -> tuple[Tensor, float, float]:
    """Copy images into a tensor.

    Args:
        x: Numbers, shape (N, C, H, W) or (N, H, W).
        value_range: The smallest and largest value that a pixel can take.
        name: The name of the data set, for messages.

    Returns:
        Float32 of shape (N, C, H, W), and the value range, rounded to float32 too, so that a pixel
        at an end of the range stays inside.

    Raises:
        DataError: If this is not a set of images with values inside the range.
    """
    low, high = _ends(value_range, name)
    images = _array(x, "x", name)
    if images.dtype.kind not in NUMBERS:
        raise DataError(f"{name}: x must be numbers, not {images.dtype}; convert the images first.")
    if images.ndim not in (3, 4) or images.size == 0:
        raise DataError(
            f"{name}: x has the shape {images.shape}; pass at least one image, in the shape "
            f"(N, H, W) or (N, C, H, W)."
        )
    if images.ndim == 4 and images.shape[3] in (1, 3) and images.shape[1] not in (1, 3):
        raise DataError(
            f"{name}: x has the shape {images.shape}, which looks like (N, H, W, C); pass "
            f"x.transpose(0, 3, 1, 2), because channels come before height and width."
        )
    smallest, largest = _single(images.min()), _single(images.max())
    if np.isnan(smallest):
        raise DataError(f"{name}: x contains NaN; replace it with numbers, or drop those images.")
    if not low <= smallest <= largest <= high:
        raise DataError(
            f"{name}: pixels run from {smallest:g} to {largest:g}, outside the value range "
            f"{low:g} to {high:g}; rescale x or pass the right value_range."
        )
    copy = torch.from_numpy(np.array(images, np.float32, order="C"))
    return copy.unsqueeze(1) if copy.ndim == 3 else copy, low, high


def labels_of(
    y: ArrayLike | Tensor, count: int, classes: Sequence[str] | None, name: str
) -> tuple[Tensor, tuple[str, ...]]:
    """Copy labels into a tensor, and name their classes.

    Args:
        y: Whole numbers or strings, shape (count,).
        count: How many images there are.
        classes: The names of the classes; None: the numbers or the strings themselves.
        name: The name of the data set, for messages.

    Returns:
        Int64 of shape (count,), and the names of the classes.

    Raises:
        DataError: If these are not `count` labels of the classes.
    """
    if classes is not None:
        listed = isinstance(classes, Iterable) and not isinstance(classes, str)
        names = tuple(str(n) for n in classes if isinstance(n, str)) if listed else ()
        if not names or len(set(names)) < len(list(classes)):
            raise DataError(
                f"{name}: classes must be a list of different strings, one for each class, "
                f"not {described(classes)}."
            )
    numbers, found = _whole_or_words(y, "y", count, name)
    if found is not None:
        names = tuple(found) if classes is None else names
        place = {word: number for number, word in enumerate(names)}
        if unknown := [word for word in found if word not in place]:
            raise DataError(
                f"{name}: y contains {unknown[0]!r}, which is not in classes; add it there, or "
                f"leave classes out to have all strings in y become classes."
            )
        return torch.tensor([place[word] for word in found])[numbers], names
    first, last = int(numbers.min()), int(numbers.max())
    if classes is not None and not 0 <= first <= last < len(names):
        raise DataError(
            f"{name}: labels run from {first} to {last}, but classes has the length {len(names)}; "
            f"number them from 0, or add the classes that are missing."
        )
    if not 0 <= first <= last < MOST_CLASSES:
        raise DataError(
            f"{name}: labels run from {first} to {last}; number the classes from 0, or pass their "
            f"names as y."
        )
    return numbers, tuple(map(str, range(last + 1))) if classes is None else names


def blocks_of(block: ArrayLike | Tensor, count: int, name: str) -> Tensor:
    """Copy the blocks of images into a tensor.

    Args:
        block: Whole numbers, or strings, which are numbered in their sorted order; shape (count,).
        count: How many images there are.
        name: The name of the data set, for messages.

    Returns:
        Int64 of shape (count,).

    Raises:
        DataError: If these are not `count` blocks.
    """
    return _whole_or_words(block, "block", count, name)[0]


def tensor_of(values: Any, what: str, device: torch.device) -> Tensor:
    """Return a tensor as it is, and a list or an array as a copy.

    Args:
        values: Numbers, as a tensor, a list or an array.
        what: What they are, for messages.
        device: Where a new tensor lives.

    Raises:
        DataError: If no tensor can be made of them.
    """
    if isinstance(values, Tensor):
        return values
    try:
        array = np.array(values)
        if array.dtype.kind not in NUMBERS:
            raise TypeError(f"it holds {array.dtype}, not numbers")
        array = array.astype(np.int64) if array.dtype.kind in "iu" else array
        return torch.from_numpy(array).to(device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{what} is {described(values)}, which cannot become a tensor ({reason(error)}); "
            "pass whole numbers, or for images of your own call ImageData.from_arrays."
        ) from None


def names_of(classes: Any, name: str) -> tuple[str, ...]:
    """Return the names of the classes as a tuple; a DataError if they are not names."""
    if not isinstance(classes, tuple | list) or not all(isinstance(one, str) for one in classes):
        raise DataError(
            f"{name}: classes is {described(classes)}; pass the names of the classes, such as "
            "('no', 'yes')."
        )
    return tuple(classes)


def _single(value: Any) -> float:
    """Round a number to float32, as pixels are."""
    return float(torch.tensor(float(value), dtype=torch.float32))


def _ends(value_range: tuple[float, float], name: str) -> tuple[float, float]:
    """Return the smallest and the largest value as floats."""
    try:
        low, high = (_single(end) for end in value_range)
        if -math.inf < low < high < math.inf:
            return low, high
    except (TypeError, ValueError):
        pass
    raise DataError(
        f"{name}: value_range must be the smallest and the largest value that a pixel can take, "
        f"such as (0, 255), not {described(value_range)}."
    )


def _array(values: ArrayLike | Tensor, what: str, name: str) -> NDArray[Any]:
    """Return an array of the values, which may share their storage."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        ragged = isinstance(error, ValueError)
        reason = "its rows have different shapes" if ragged else str(error).split(". ")[0]
        raise DataError(
            f"{name}: {what} cannot be made into one array ({reason}); pass a numpy array."
        ) from None


def _whole_or_words(
    values: ArrayLike | Tensor, what: str, count: int, name: str
) -> tuple[Tensor, list[str] | None]:
    """Return one whole number for each image; for strings, positions in their sorted list."""
    array = _array(values, what, name)
    if array.shape != (count,):
        raise DataError(
            f"{name}: {what} has the shape {array.shape} and there are {count} images; pass one "
            f"entry of {what} for each image, in the shape ({count},)."
        )
    if array.dtype.kind in NUMBERS:
        with np.errstate(invalid="ignore"):  # NaN becomes a number, which is not equal to it
            whole = array.astype(np.int64)
        wrong = array[whole != array].tolist()
        if not wrong:
            return torch.from_numpy(whole), None
    else:
        words = array.tolist()
        wrong = [word for word in words if not isinstance(word, str)]
        if not wrong:
            found = sorted(set(words))
            place = {word: number for number, word in enumerate(found)}
            return torch.tensor([place[word] for word in words]), found
    raise DataError(
        f"{name}: {what} must be whole numbers or strings, not {wrong[0]!r}; convert it first."
    )
