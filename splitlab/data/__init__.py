"""Data sets, cut by whole blocks of rows into a private, a public and a referee's part."""

from splitlab.data.base import DataError, ImageData, Split
from splitlab.data.digits import digits
from splitlab.data.drawn_faces import drawn_faces
from splitlab.data.fashion_mnist import FILES as _FASHION_MNIST
from splitlab.data.fashion_mnist import fashion_mnist
from splitlab.data.mnist import FILES as _MNIST
from splitlab.data.mnist import mnist

__all__ = [
    "BUILT_IN",
    "PUBLISHED",
    "DataError",
    "ImageData",
    "Split",
    "digits",
    "drawn_faces",
    "fashion_mnist",
    "mnist",
]

# The data sets that come as files and are downloaded where these are missing.
PUBLISHED = {files.name: files for files in (_MNIST, _FASHION_MNIST)}

# The others, which are always here, and where they come from.
BUILT_IN = {"digits": "bundled with scikit-learn", "drawn_faces": "made by the program"}
