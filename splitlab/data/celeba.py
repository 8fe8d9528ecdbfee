"""CelebA from its original archive of aligned pictures, which everybody has to get by hand."""

from pathlib import Path

import torch

from splitlab.data.archives import Zip, obtain, spread, stack
from splitlab.data.base import DataError, ImageData, check_size_and_channels
from splitlab.data.download import Pin, Published

ARCHIVE, ATTRIBUTES = "img_align_celeba.zip", "list_attr_celeba.txt"
COUNT = 202_599
NUMBER_OF_ATTRIBUTES = 40
SHAPE = (218, 178)

FILES = Published(
    name="celeba",
    folder="celeba",
    mirrors=(),
    files={
        ARCHIVE: Pin(None, "00d2c5bc6d35e252742224ab0c1e8fcb", "md5"),
        ATTRIBUTES: Pin(None, "75e246fa4810816ffd6ee81facbd244c", "md5"),
    },
    terms="its agreement allows non-commercial research only, and no copy may be passed on.",
    by_hand="from the page of CelebA, https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html, after "
    "agreeing to its terms",
)


def celeba(
    size: int = 64,
    channels: int = 3,
    folder: str | Path | None = None,
    *,
    attribute: str = "Male",
    n: int | None = None,
    verify: bool = True,
) -> ImageData:
    """Load CelebA: 202,599 photographs of faces, aligned, each with 40 properties.

    Source: Z. Liu, P. Luo, X. Wang and X. Tang, "Deep learning face attributes in the wild", 2015.
    Its agreement has to be accepted by whoever uses it, so nothing is downloaded: the files
    `img_align_celeba.zip` (1.4 GB) and `list_attr_celeba.txt` are looked for in `celeba/` of the
    data folder and of the cache, and are read as they are. The middle square of 178 x 178 pixels
    is resized.

    The label is one property, so that it can be inferred. These two files do not say who is on a
    picture, so every picture is a block of its own, and `split` is by picture: one person may be
    in all three parts. Claims about people whom the attacker has never seen cannot rest on it.

    Args:
        size: height and width wanted, in pixels (4 to 256).
        channels: 3, or 1 for grey (by brightness).
        folder: the data folder, and then the only one; None: the folder that the environment
            variable SPLITLAB_DATA names, if a file is there, else the cache.
        attribute: the property, by its name in the list of attributes: "Male", "Smiling",
            "Eyeglasses" and 37 others.
        n: how many pictures, spread evenly over all; only these are read and decoded. None: all,
            which at size 64 takes 10 GB.
        verify: whether there must be 202,599 pictures. The MD5 of 1.4 GB is compared by
            `splitlab data check celeba`, not here.

    Returns:
        Images (channels, size, size) in [-1, 1], by number of the picture; two classes, "not Male"
        and "Male" (with the property's name). `split` deals 3 of 7 pictures to private, 2 to
        public and 2 to referee.

    Raises:
        DataError: if a file is missing (the message says how to get it), damaged or incomplete,
            or if there is no such property.
    """
    check_size_and_channels(size, channels)
    found = obtain(FILES, folder, verify=False)
    labels = _labels(found[ATTRIBUTES], attribute)
    if verify and len(labels) != COUNT:
        raise DataError(
            f"{found[ATTRIBUTES]} lists {len(labels)} of {COUNT} pictures; {FILES.how(ATTRIBUTES)}."
        )
    names = list(labels)
    rows = spread(len(names), n, FILES.name)
    with Zip(found[ARCHIVE]) as archive:
        members = {key[0]: name for key, name in archive.find(r"(\d{6}\.jpg)").items()}
        if lacking := [name for name in names if name not in members]:
            others = f" and {len(lacking) - 1} more are" if len(lacking) > 1 else " is"
            raise DataError(
                f"{found[ARCHIVE]} is incomplete: {lacking[0]}{others} missing of the "
                f"{len(names)} pictures; {FILES.how(ARCHIVE)}."
            )
        pictures = (archive.picture(members[names[row]], SHAPE, "JPEG", "RGB") for row in rows)
        x = stack(pictures, len(rows), size, channels)
    return ImageData(
        x=x,
        y=torch.tensor([labels[names[row]] for row in rows]),
        classes=(f"not {attribute}", attribute),
        name=FILES.name,
        row=torch.tensor(rows),
    )


def _labels(path: Path, attribute: str) -> dict[str, int]:
    """Read one property: for each picture's name, by number, 0 (absent) or 1 (present)."""
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            first = file.readline()
            if first.lstrip()[:1] == "<":
                raise DataError(f"{path} is a web page, not a list; {FILES.how(ATTRIBUTES)}.")
            attributes = file.readline().split()
            if not first.strip().isdigit() or len(attributes) != NUMBER_OF_ATTRIBUTES:
                raise DataError(
                    f"{path} does not start with a number of pictures and the names of "
                    f"{NUMBER_OF_ATTRIBUTES} attributes; {FILES.how(ATTRIBUTES)}."
                )
            if attribute not in attributes:
                raise DataError(
                    f"celeba has no attribute {attribute!r}; it has {', '.join(attributes)}."
                )
            column = attributes.index(attribute)
            labels = {}
            for number, line in enumerate(file, start=3):
                name, *values = line.split() or [""]
                if len(values) != len(attributes) or values[column] not in ("-1", "1"):
                    raise DataError(
                        f"{path}, line {number}: not a picture and {len(attributes)} values -1 or "
                        f"1; {FILES.how(ATTRIBUTES)}."
                    )
                labels[name] = int(values[column] == "1")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the file.") from None
    if len(labels) != int(first):
        raise DataError(
            f"{path} is cut short: it announces {int(first)} pictures and lists {len(labels)}; "
            f"{FILES.how(ATTRIBUTES)}."
        )
    return dict(sorted(labels.items()))
