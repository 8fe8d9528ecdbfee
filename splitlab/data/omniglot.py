"""Omniglot, from its original zip archives."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch

from splitlab.arguments import described
from splitlab.data.archives import Zip, obtain, spread, stack
from splitlab.data.errors import DataError
from splitlab.data.images import ImageData
from splitlab.data.pixels import check_size_and_channels
from splitlab.data.published import Pin, Published

SHAPE = (105, 105)
DRAWERS = 20  # drawings of each character


@dataclass(frozen=True)
class OmniglotFiles(Published):
    """One published archive, and the number of drawings in it."""

    images: int

    @property
    def archive(self) -> str:
        """The name of the only file."""
        return next(iter(self.files))

    def fault(self, name: str, path: Path) -> str | None:
        """Say what is wrong with the archive; see `Published.fault`.

        Args:
            name: The archive's name.
            path: Where it is.

        Returns:
            A sentence, which names what is missing from a partial copy; None if all is well.
        """
        try:
            with Zip(path) as archive:
                count = len(_drawings(archive))
        except DataError as error:
            return str(error)
        if count != self.images:
            return (
                f"{path} is incomplete: it holds {count} of {self.images} drawings, and lacks "
                f"whole characters; {self.how(name)}."
            )
        return super().fault(name, path)


def _published(name: str, pin: Pin, images: int) -> OmniglotFiles:
    return OmniglotFiles(
        name=f"omniglot_{name.removeprefix('background_')}",
        folder="omniglot-py",
        mirrors=("https://raw.githubusercontent.com/brendenlake/omniglot/master/python/",),
        files={f"images_{name}.zip": pin},
        terms="MIT license, copyright 2015 Brenden Lake.",
        images=images,
    )


ARCHIVES = {
    "small1": _published(
        "background_small1",
        Pin(1_319_022, "f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4"),
        2720,
    ),
    "small2": _published(
        "background_small2",
        Pin(1_580_917, "3ccaa407515a8778e5d0861875af38b17e418f301ad5bb3b5a6b65d901a41c7f"),
        3120,
    ),
    # Of these two only the MD5 is published.
    "background": _published(
        "background", Pin(None, "68d2efa1b9178cc56df9314c21c6e718", "md5"), 19_280
    ),
    "evaluation": _published(
        "evaluation", Pin(None, "6b91aef0f799c5bb55b94e3f2daec811", "md5"), 13_180
    ),
}


def omniglot(
    size: int = 32,
    channels: int = 1,
    folder: str | Path | None = None,
    *,
    archives: Sequence[str] = ("small1", "small2"),
    n: int | None = None,
    verify: bool = True,
) -> ImageData:
    """Load Omniglot: characters of many alphabets, each drawn once by 20 people.

    Source: B. Lake, R. Salakhutdinov and J. Tenenbaum, "Human-level concept learning through
    probabilistic program induction", Science 350, 2015. The archives are looked for in
    `omniglot-py/` of the data folder, are downloaded (3 MB for the two small ones, once) where
    there are none, and are read as they are. Drawings are 105 x 105 pixels of black on white; they
    are inverted, so that strokes are light on dark as in MNIST, and then resized.

    The label is the character of an alphabet; `block` is the alphabet, so `split` is by alphabet:
    no character of a private drawing is in the public part. The archives number the 20 people for
    each character and do not name them: one person may have drawn for two alphabets, and so be in
    two parts. As alphabets differ in size, so do parts of as many alphabets. Where small1 and
    small2 (or a small one and background) hold the same drawing, it is taken once.

    Args:
        size: Height and width wanted, in pixels (4 to 256).
        channels: 1, or 3 for a view that repeats the gray channel without copying it.
        folder: The data folder, and then the only one; None: for each archive, the folder that
            the environment variable SPLITLAB_DATA names, if it is there, else the cache, after a
            download where needed.
        archives: Which ones, of "small1" and "small2" (5 alphabets each, of the background),
            "background" (30 alphabets) and "evaluation" (20 others).
        n: How many drawings, spread evenly over all of them; only these are decoded. None: all.
        verify: Whether the archives must be the original ones (by checksum).

    Returns:
        Images (channels, size, size) in [-1, 1], in the order of alphabet, character and drawing;
        the classes are called "Greek/character01". The two small archives give 4,840 images of
        242 characters and 8 alphabets, of which `split` deals 3 to private, 3 to public and 2 to
        referee.

    Raises:
        DataError: If an archive is unknown; if one in a named folder is missing, damaged,
            incomplete or not what it should be (it is never replaced); or if it cannot be
            downloaded.
    """
    check_size_and_channels(size, channels)
    listed = isinstance(archives, Sequence) and not isinstance(archives, str)
    if not listed or not archives or not all(name in [*ARCHIVES] for name in archives):
        raise DataError(
            f"omniglot: archives must be a list of some of {', '.join(ARCHIVES)}, "
            f"not {described(archives)}."
        )
    with ExitStack() as opened:
        drawings = {}
        for name in archives:
            files = ARCHIVES[name]
            path = obtain(files, folder, verify)[files.archive]
            archive = opened.enter_context(Zip(path))
            for key, member in _drawings(archive).items():
                drawings.setdefault(key, (archive, member))
        keys = sorted(drawings)
        row = torch.tensor(spread(len(keys), n, "omniglot"))
        chosen = [keys[i] for i in row.tolist()]
        pictures = (
            255 - archive.picture(member, SHAPE, "PNG")
            for archive, member in (drawings[key] for key in chosen)
        )
        x = stack(pictures, len(chosen), size, channels)
    classes = sorted({f"{alphabet}/{character}" for alphabet, character, _ in keys})
    alphabets = sorted({alphabet for alphabet, _, _ in keys})
    label = {name: number for number, name in enumerate(classes)}
    block = {name: number for number, name in enumerate(alphabets)}
    return ImageData(
        x=x,
        y=torch.tensor([label[f"{alphabet}/{character}"] for alphabet, character, _ in chosen]),
        classes=tuple(classes),
        name="omniglot",
        block=torch.tensor([block[alphabet] for alphabet, _, _ in chosen]),
        row=row,
    )


def _drawings(archive: Zip) -> dict[tuple[str, str, str], str]:
    """Return the archive member of each (alphabet, character, drawing)."""
    drawings = archive.find(r"([^/]+)/(character\d+)/(\d+_\d+)\.png")
    if not drawings:
        raise DataError(
            f"{archive.path} holds no drawings of Omniglot (Alphabet/characterNN/NNNN_NN.png); "
            f"download the original archive."
        )
    counts: dict[tuple[str, str], int] = {}
    for alphabet, character, _ in drawings:
        counts[alphabet, character] = counts.get((alphabet, character), 0) + 1
    for (alphabet, character), count in counts.items():
        if count != DRAWERS:
            raise DataError(
                f"{archive.path} is incomplete: {alphabet}/{character} has {count} drawings "
                f"instead of {DRAWERS}; download the original archive."
            )
    return drawings
