"""Tiny-ImageNet from its original zip archive, which must be downloaded by hand."""

from pathlib import Path

import torch

from splitlab.data.archives import Zip, obtain, spread, stack
from splitlab.data.errors import DataError
from splitlab.data.images import ImageData
from splitlab.data.pixels import check_size_and_channels
from splitlab.data.published import Pin, Published

ARCHIVE = "tiny-imagenet-200.zip"
TRAIN, VALIDATION = 100_000, 10_000
SHAPE = (64, 64)

FILES = Published(
    name="tiny_imagenet",
    folder="TinyImageNet",
    mirrors=(),
    files={ARCHIVE: Pin(248_100_043, "90528d7ca1a48142e341f4ef8d21d0de", "md5")},
    terms="ImageNet's terms allow non-commercial research and education only.",
    by_hand="from http://cs231n.stanford.edu/tiny-imagenet-200.zip, after agreeing to ImageNet's "
    "terms",
)


def tiny_imagenet(
    size: int = 64,
    channels: int = 3,
    folder: str | Path | None = None,
    *,
    n: int | None = None,
    verify: bool = True,
) -> ImageData:
    """Load Tiny-ImageNet: 110,000 labeled photographs of 64 x 64 pixels, 200 classes.

    Source: the course CS231n at Stanford, from ImageNet (J. Deng et al., 2009). ImageNet's terms
    have to be accepted by each user, so nothing is downloaded: `tiny-imagenet-200.zip`
    (248 MB) is looked for in `TinyImageNet/` of the data folder and of the cache, and is read as
    it is. The 10,000 test pictures have no labels and are not read.

    A class has the number of its line in `wnids.txt`; some libraries number the sorted names, and
    their order is another one. Nothing tells which pictures belong together, so every picture is a
    block of its own, and `split` is by picture.

    Args:
        size: Height and width wanted, in pixels (4 to 256).
        channels: 3, or 1 for gray (by brightness); some of the originals are gray.
        folder: The data folder, and then the only one; None: the folder that the environment
            variable SPLITLAB_DATA names, if the archive is there, else the cache.
        n: How many pictures, spread evenly over all; only these are read and decoded. None: all,
            which at size 64 takes 5.4 GB.
        verify: Whether there must be 100,000 and 10,000 pictures. The MD5 is compared by
            `splitlab data check tiny_imagenet`, not here.

    Returns:
        110,000 images (channels, size, size) in [-1, 1]: the training pictures, class after class,
        then those for validation; classes such as "n01443537 goldfish". `split` deals 3 of 7
        pictures to private, 2 to public and 2 to referee; `official_split` puts the training
        pictures into private and those for validation into public.

    Raises:
        DataError: If the archive is missing (the message says how to get it), damaged or
            incomplete.
    """
    check_size_and_channels(size, channels)
    with Zip(obtain(FILES, folder, verify=False)[ARCHIVE]) as archive:
        wnids = _lines(archive, "wnids.txt")
        words = dict(line.split("\t", 1) for line in _lines(archive, "words.txt") if "\t" in line)
        label = {wnid: number for number, wnid in enumerate(wnids)}
        train = _training(archive, label)
        validation = _validation(archive, label)
        for what, found, wanted in (
            ("training", train, TRAIN),
            ("validation", validation, VALIDATION),
        ):
            if not found or (verify and len(found) != wanted):
                raise DataError(
                    f"{archive.path} is incomplete: it holds {len(found)} of {wanted} {what} "
                    f"pictures; {FILES.how(ARCHIVE)}."
                )
        labelled = train + validation
        rows = spread(len(labelled), n, FILES.name)
        x = stack(
            (archive.picture(labelled[row][0], SHAPE, "JPEG", "RGB") for row in rows),
            len(rows),
            size,
            channels,
        )
    return ImageData(
        x=x,
        y=torch.tensor([labelled[row][1] for row in rows]),
        # Several words are one class ("goldfish, Carassius auratus"), and some words are two.
        classes=tuple(f"{wnid} {words.get(wnid, '').split(',')[0]}".strip() for wnid in wnids),
        name=FILES.name,
        row=torch.tensor(rows),
        train_rows=len(train),
    )


def _training(archive: Zip, label: dict[str, int]) -> list[tuple[str, int]]:
    """Return (member, class) of the training pictures, by class and number."""
    found = archive.find(r"train/([^/]+)/images/\1_(\d+)\.JPEG")
    if unknown := sorted({wnid for wnid, _ in found} - label.keys()):
        raise DataError(
            f"{archive.path}: the class {unknown[0]} is not in wnids.txt; {FILES.how(ARCHIVE)}."
        )
    numbered = sorted((label[wnid], int(i), member) for (wnid, i), member in found.items())
    return [(member, number) for number, _, member in numbered]


def _validation(archive: Zip, label: dict[str, int]) -> list[tuple[str, int]]:
    """Return (member, class) of the validation pictures, by number; the classes are in a list."""
    found = archive.find(r"val/images/(val_(\d+)\.JPEG)")
    labels = {}
    for line in _lines(archive, "val/val_annotations.txt"):
        name, wnid, *_ = [*line.split("\t"), ""]
        if wnid not in label:
            raise DataError(
                f"{archive.path}: val_annotations.txt gives {name} the class {wnid!r}, which is "
                f"not in wnids.txt; {FILES.how(ARCHIVE)}."
            )
        labels[name] = label[wnid]
    numbered = sorted((int(i), name, member) for (name, i), member in found.items())
    for _, name, _ in numbered:
        if name not in labels:
            raise DataError(
                f"{archive.path}: val_annotations.txt does not name {name}; {FILES.how(ARCHIVE)}."
            )
    return [(member, labels[name]) for _, name, member in numbered]


def _lines(archive: Zip, name: str) -> list[str]:
    """Return the lines of a text in the archive, without empty ones."""
    found = archive.find(f"({name})")
    if not found:
        raise DataError(f"{archive.path} is incomplete: {name} is missing; {FILES.how(ARCHIVE)}.")
    text = archive.read(next(iter(found.values()))).decode("utf-8", errors="replace")
    return [line.strip() for line in text.splitlines() if line.strip()]
