"""Fashion-MNIST from its four original files."""

from pathlib import Path

from splitlab.data.idx import IdxFiles, load_idx
from splitlab.data.images import ImageData
from splitlab.data.published import Pin

FILES = IdxFiles(
    name="fashion_mnist",
    folder="FashionMNIST/raw",
    mirrors=(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    files={
        "train-images-idx3-ubyte.gz": Pin(
            26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
        ),
        "train-labels-idx1-ubyte.gz": Pin(
            29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"
        ),
        "t10k-images-idx3-ubyte.gz": Pin(
            4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"
        ),
        "t10k-labels-idx1-ubyte.gz": Pin(
            5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"
        ),
    },
    terms="MIT license, copyright 2017 Zalando SE.",
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

    The files are looked for in `FashionMNIST/raw/` of the data folder, packed (.gz) or not, and are
    downloaded (31 MB, once) where there are none; their names are those of MNIST's files, so the
    two need folders of their own. Sizes, scaling and
    blocks are those of `splitlab.data.mnist`.

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
