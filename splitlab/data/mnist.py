"""MNIST from its four original files."""

from pathlib import Path

from splitlab.data.idx import IdxFiles, load_idx
from splitlab.data.images import ImageData
from splitlab.data.published import Pin

FILES = IdxFiles(
    name="mnist",
    folder="MNIST/raw",
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    files={
        "train-images-idx3-ubyte.gz": Pin(
            9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
        ),
        "train-labels-idx1-ubyte.gz": Pin(
            28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
        ),
        "t10k-images-idx3-ubyte.gz": Pin(
            1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
        ),
        "t10k-labels-idx1-ubyte.gz": Pin(
            4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
        ),
    },
    terms="copyright Yann LeCun and Corinna Cortes, usually given as CC BY-SA 3.0.",
    classes=tuple("0123456789"),
    md5={
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
)


def mnist(
    size: int = 32,
    channels: int = 1,
    folder: str | Path | None = None,
    *,
    verify: bool = True,
) -> ImageData:
    """Load MNIST (Y. LeCun, C. Cortes and C. Burges): 60,000 training and 10,000 test digits.

    The files are looked for in `MNIST/raw/` of the data folder, packed (.gz) or not, and are
    downloaded (12 MB, once) where there are none. Size 32 is what the authors of "Unleashing the
    Tiger" used: bilinear from 28x28, then x / 127.5 - 1 clipped to [-1, 1]. Smaller sizes use an
    anti-aliased bilinear filter.

    The files do not name the writers, so `block` is a stretch of 1,000 rows: neighbors in the
    file stay together, and no more than that is claimed.

    Args:
        size: Height and width wanted, in pixels (4 to 256).
        channels: 1, or 3 for a view that repeats the gray channel without copying it.
        folder: The data folder, and then the only one; None: the folder that the environment
            variable SPLITLAB_DATA names, if the files are there, else the cache, after a
            download where needed.
        verify: Whether the files must be the original ones (by MD5).

    Returns:
        70,000 images (channels, size, size) in [-1, 1], training file first, 10 classes,
        70 blocks. `split` deals 30 blocks to private, 20 to public and 20 to referee;
        `official_split` is the paper's.

    Raises:
        DataError: If a file in a named folder is missing, damaged or not what it should be (it is
            never replaced), or if the files cannot be downloaded.
    """
    return load_idx(FILES, size, channels, folder, verify)
