"""Fashion-MNIST from its four original files."""

from pathlib import Path

from splitlab.data.base import ImageData
from splitlab.data.idx import IdxFiles, load_idx

FILES = IdxFiles(
    name="fashion_mnist",
    folder="FashionMNIST/raw",
    url="https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    classes=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    md5={
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
)


def fashion_mnist(
    size: int = 32,
    channels: int = 1,
    folder: str | Path | None = None,
    *,
    verify: bool = True,
) -> ImageData:
    """Load Fashion-MNIST (H. Xiao, K. Rasul and R. Vollgraf, 2017): 70,000 pieces of clothing.

    The files are looked for in `FashionMNIST/raw/` of the data folder, packed (.gz) or not; their
    names are those of MNIST's files, so the two need folders of their own. Sizes, scaling and
    blocks are those of `splitlab.data.mnist`.

    Args:
        size: height and width wanted, in pixels (4 to 256).
        channels: 1, or 3 for a view that repeats the grey channel without copying it.
        folder: the data folder; None: the environment variable SPLITLAB_DATA.
        verify: whether the files must be the original ones (by MD5).

    Returns:
        70,000 images (channels, size, size) in [-1, 1], training file first, 10 classes,
        70 blocks. `split` deals 30 blocks to private, 20 to public and 20 to referee;
        `official_split` is the paper's.

    Raises:
        DataError: if a file is missing, damaged, or not what it should be.
    """
    return load_idx(FILES, size, channels, folder, verify)
