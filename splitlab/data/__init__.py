"""Data sets, cut by whole blocks of rows into a private, a public and a referee's part."""

from splitlab.data.base import DataError, ImageData, Split
from splitlab.data.digits import digits
from splitlab.data.fashion_mnist import fashion_mnist
from splitlab.data.mnist import mnist

__all__ = ["DataError", "ImageData", "Split", "digits", "fashion_mnist", "mnist"]
