"""The handwritten digits bundled with scikit-learn, of real writers, without a download."""

import torch

from splitlab.data.errors import DataError
from splitlab.data.images import ImageData
from splitlab.data.pixels import check_size_and_channels, resize

ROWS = 1797

# Where each of the 14 filled-in forms starts. A form asks for 0..9 three times and then for a
# fixed sequence of digits (0 9 5 5 6 5 0 9 8 9 ...), so the labels show where forms begin. Row 905
# still ends the seventh form; the eighth has lost its first 0 and begins with a 1.
FORM_STARTS = (0, 130, 256, 386, 516, 646, 776, 906, 1029, 1157, 1287, 1415, 1545, 1667)


def digits(size: int = 16, channels: int = 1) -> ImageData:
    """Load the 1,797 handwritten digits bundled with scikit-learn; works offline.

    They are the test file of "Optical Recognition of Handwritten Digits" (E. Alpaydin and
    C. Kaynak, UCI machine learning repository, 1998): 8x8 pixels with values 0..16, scaled to
    x / 8 - 1 and enlarged bilinearly, which adds no information. Its authors speak of 13 writers;
    the rows come as 14 forms. `block` is the form, so no form is split; should one person have
    filled in two forms, those two may still fall into different parts.

    Args:
        size: Height and width wanted, in pixels (4 to 256).
        channels: 1, or 3 for a view that repeats the gray channel without copying it.

    Returns:
        1,797 images (channels, size, size) in [-1, 1], 10 classes, 14 blocks.
        `split` deals 5 forms to private, 5 to public and 4 to referee.

    Raises:
        DataError: For a size or a number of channels that cannot be had, or if scikit-learn's
            file is not the one that the forms were found in.
    """
    from sklearn.datasets import load_digits

    check_size_and_channels(size, channels)
    bundle = load_digits()
    if bundle.images.shape != (ROWS, 8, 8):
        raise DataError(
            f"scikit-learn's digits have the shape {bundle.images.shape} instead of "
            f"({ROWS}, 8, 8); install another version of scikit-learn."
        )
    x = torch.from_numpy(bundle.images).float().unsqueeze(1) / 8 - 1
    row = torch.arange(ROWS)
    return ImageData(
        x=resize(x, size).clamp_(-1, 1).expand(-1, channels, -1, -1),
        y=torch.from_numpy(bundle.target).long(),
        classes=tuple("0123456789"),
        name="digits",
        block=torch.bucketize(row, torch.tensor(FORM_STARTS), right=True) - 1,
        row=row,
        shares=(5, 5, 4),
    )
