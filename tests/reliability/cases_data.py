"""Data sets that cannot be made, and requests that cannot be met."""

import io
import zipfile
from functools import partial

import numpy as np
import torch
from misuse import Misuse
from PIL import Image

import splitlab as sl
from splitlab.data import DataError, foreign, gaussian
from splitlab.data.slant import by_slant, slant

X, Y, NAMES = torch.zeros(4, 1, 16, 16), torch.tensor([0, 1, 0, 1]), ("a", "b")


def images(**options):
    made = {"x": X, "y": Y, "classes": NAMES} | options
    return sl.ImageData(**made)


def drawn(mode):
    """The drawings of an archive whose pictures have another mode."""

    def load(given):
        (given.folder / "omniglot-py").mkdir()
        out = io.BytesIO()
        Image.fromarray(np.full((105, 105), 2**20, np.int32), mode).save(out, "TIFF")
        with zipfile.ZipFile(given.folder / "pictures.zip", "w") as file:
            file.writestr("A/one.tif", out.getvalue())
        with sl.data.archives.Zip(given.folder / "pictures.zip") as archive:
            archive.picture("A/one.tif", (105, 105), "TIFF")

    return load


def of(part, method, *arguments, **options):
    """A case that asks one of the given parts."""
    return lambda given: getattr(getattr(given, part), method)(*arguments, **options)


REFUSED = {
    # Made wrongly
    "x is an array": (partial(images, x=X.numpy()), "x is a numpy array", "ImageData.from_arrays("),
    "x is a list": (partial(images, x=[[1.0]]), "x is [[1.0]] and must be a torch tensor"),
    "NaN": (partial(images, x=X * float("nan")), "x contains NaN; replace it"),
    "labels of text": (partial(images, y=["a", "b", "a", "b"]), "y is", "from_arrays"),
    "labels None": (partial(images, y=None), "y is None, which cannot become a tensor"),
    "labels of halves": (partial(images, y=[0.5, 1, 0, 1]), "y must be int64 of shape (4,)"),
    "too few labels": (partial(images, y=[0, 1]), "y must be int64 of shape (4,)", "shape (2,)"),
    "classes of text": (partial(images, classes="ab"), "classes is 'ab'; pass the names"),
    "classes None": (partial(images, classes=None), "classes is None; pass the names"),
    "a range NaN": (partial(images, value_range=(float("nan"), 1.0)), "value_range is (nan, 1.0)"),
    "a range of one": (partial(images, value_range=1.0), "value_range is 1.0: pass the smallest"),
    "a range upside down": (partial(images, value_range=(1, -1)), "value_range is (1, -1): pass"),
    "a name of number": (partial(images, name=3), "name is 3; pass the data set's name"),
    "attributes": (partial(images, attributes=[1]), "attributes is no dictionary"),
    # Asked wrongly
    "select text": (
        of("private", "select", ["one"]),
        "rows is ['one'], which cannot become a tensor (it holds",
    ),
    "select None": (of("private", "select", None), "cannot become a tensor"),
    "half a subset": (of("private", "subset", 2.5), "a subset of 2.5 images was asked for"),
    "a subset of True": (of("private", "subset", True), "a subset of True images"),
    "without 2.5": (of("private", "without", 2.5), "has no class 2.5; it has 0 '0'"),
    "without None": (of("private", "without", None), "has no class None"),
    "one True against the rest": (of("private", "one_against_rest", True), "has no class True"),
    "labelled None": (of("private", "labelled", None), "has no attribute None"),
    "shares of text": (of("private", "split", 0, "abc"), "shares must be three numbers above 0"),
    "shares NaN": (of("private", "split", 0, (1, float("nan"), 1)), "shares must be three"),
    "a size of half": (partial(sl.data.digits, size=16.5), "size must be a whole number", "16.5"),
    "one True channel": (partial(sl.data.digits, channels=True), "channels must be 1 (gray) or 3"),
    "a face of half": (partial(sl.data.drawn_faces, n=2.5), "n is the number of faces", "2.5"),
    "no archives": (partial(sl.data.omniglot, archives=5), "archives must be a list", "not 5"),
    "noise of half": (partial(gaussian.white_noise, n=2.5), "n is the number of images", "2.5"),
    "like a tensor": (partial(gaussian.gaussian_like, X), "needs at least two gray images, not a"),
    "a seed below 0": (partial(foreign.strokes, seed=-1), "seed must be a whole number, 0 or more"),
    "32 bits": (drawn("I"), "is a picture of the kind I, which cannot be read correctly; convert"),
}
VALUES = {
    "a seed of half": (of("private", "subset", 3, seed=1.5), "seed is 1.5: choose a whole number"),
    "a split's seed": (of("private", "split", "3"), "seed is '3': choose a whole number"),
    "no device": (of("private", "to", "gpu"), "device is 'gpu', which this machine does not have"),
    "a threshold NaN": (lambda given: by_slant(given.private, float("nan")), "threshold is nan"),
    "scaled to nothing": (lambda given: foreign.scaled(given.private.x, 0), "factor is 0: choose"),
    "no set": (lambda given: sl.tiny.split(None, 0), "there is no data set None: choose one of"),
    "a set of lists": (
        lambda given: sl.tiny.split(["digits"], 0),
        "there is no data set ['digits']",
    ),
    "a set for others": (
        lambda given: sl.tiny.split("cifar10", 0),
        *("cifar10 makes no sense at profile tiny", "use profile gpu or paper"),
    ),
    "a set's seed": (lambda given: sl.tiny.split("digits", 1.5), "seed is 1.5: choose"),
}
KINDS = {
    "a hash of a tensor": (lambda given: sl.data.base.fingerprint(X), "data is a tensor"),
    "a slant of data": (
        lambda given: slant(given.private),
        "x is an ImageData: pass a torch tensor",
    ),
    "changed by text": (lambda given: foreign.changed(given.private, "blur"), "change is 'blur'"),
    "changed to nothing": (
        lambda given: foreign.changed(given.private, lambda x: None),
        "what change returns is None: let it return images",
    ),
}
KIND_OF = [(REFUSED, DataError), (VALUES, ValueError), (KINDS, TypeError)]
CASES = [
    Misuse(
        *(
            what,
            (lambda given, do=do: do()) if isinstance(do, partial) else do,
            raises,
            tuple(says),
        ),
        unchanged=lambda given: [given.private, given.public],
    )
    for table, raises in KIND_OF
    for what, (do, *says) in table.items()
]
