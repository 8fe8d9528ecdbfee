"""Data sets, split by whole blocks of rows into a private, a public and a referee's part."""

from splitlab.data.base import Data
from splitlab.data.celeba import FILES as _CELEBA
from splitlab.data.celeba import celeba
from splitlab.data.cifar10 import FILES as _CIFAR10
from splitlab.data.cifar10 import cifar10
from splitlab.data.digits import digits
from splitlab.data.drawn_faces import drawn_faces
from splitlab.data.errors import DataError
from splitlab.data.fashion_mnist import FILES as _FASHION_MNIST
from splitlab.data.fashion_mnist import fashion_mnist
from splitlab.data.images import ImageData
from splitlab.data.mnist import FILES as _MNIST
from splitlab.data.mnist import mnist
from splitlab.data.omniglot import ARCHIVES as _OMNIGLOT
from splitlab.data.omniglot import omniglot
from splitlab.data.orl import FILES as _ORL
from splitlab.data.orl import orl_faces
from splitlab.data.slant import by_slant, slant
from splitlab.data.splits import Split
from splitlab.data.tiny_imagenet import FILES as _TINY_IMAGENET
from splitlab.data.tiny_imagenet import tiny_imagenet

__all__ = [
    "BUILT_IN",
    "PUBLISHED",
    "Data",
    "DataError",
    "ImageData",
    "Split",
    "by_slant",
    "celeba",
    "cifar10",
    "digits",
    "drawn_faces",
    "fashion_mnist",
    "mnist",
    "omniglot",
    "orl_faces",
    "slant",
    "tiny_imagenet",
]

# The data sets that come as files, which are downloaded where they are missing and a program may
# fetch them. Of Omniglot each archive is one, for each can be had without the others.
PUBLISHED = {
    files.name: files
    for files in (
        _MNIST,
        _FASHION_MNIST,
        _ORL,
        *_OMNIGLOT.values(),
        _CIFAR10,
        _CELEBA,
        _TINY_IMAGENET,
    )
}

# The others, which are always here, and where they come from.
BUILT_IN = {"digits": "bundled with scikit-learn", "drawn_faces": "made by the program"}
