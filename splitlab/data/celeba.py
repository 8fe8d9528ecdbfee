"""CelebA from its original archive of aligned pictures, which must be downloaded by hand."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from splitlab.data.archives import Zip, obtain, spread, stack
from splitlab.data.errors import DataError
from splitlab.data.images import ImageData
from splitlab.data.pixels import check_size_and_channels
from splitlab.data.published import Pin, Published

ARCHIVE, ATTRIBUTES = "img_align_celeba.zip", "list_attr_celeba.txt"
IDENTITIES = "identity_CelebA.txt"
COUNT = 202_599
NUMBER_OF_ATTRIBUTES = 40
LABEL = "Male"  # the first label; any other attribute can become it
SHAPE = (218, 178)

FILES = Published(
    name="celeba",
    folder="celeba",
    mirrors=(),
    files={
        ARCHIVE: Pin(None, "00d2c5bc6d35e252742224ab0c1e8fcb", "md5"),
        ATTRIBUTES: Pin(None, "75e246fa4810816ffd6ee81facbd244c", "md5"),
    },
    optional={IDENTITIES: Pin(None, "32bd1bd63d3c78cd57e08160ec5ed1e2", "md5")},
    terms="its agreement allows non-commercial research only, and no copy may be passed on.",
    by_hand="from the page of CelebA, https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html, after "
    "agreeing to its terms",
)


def celeba(
    size: int = 64,
    channels: int = 3,
    folder: str | Path | None = None,
    *,
    n: int | None = None,
    verify: bool = True,
) -> ImageData:
    """Load CelebA: 202,599 photographs of faces, aligned, each with 40 attributes.

    Source: Z. Liu, P. Luo, X. Wang and X. Tang, "Deep learning face attributes in the wild", 2015.
    Its agreement has to be accepted by each user, so nothing is downloaded: the files
    `img_align_celeba.zip` (1.4 GB) and `list_attr_celeba.txt` are looked for in `celeba/` of the
    data folder and of the cache, and are read as they are. The middle square of 178 x 178 pixels
    is resized.

    Who is on a picture stands in a third file, `identity_CelebA.txt`, which not everybody has.
    Where it lies beside the two, `block` is the person, and `split` keeps people apart. Where it
    does not, every picture is a block of its own: one person may be in all three parts, and claims
    about people whom the attacker has never seen cannot rest on such a split. The number of blocks
    in the `repr` tells which of the two holds.

    Args:
        size: Height and width wanted, in pixels (4 to 256).
        channels: 3, or 1 for gray (by brightness).
        folder: The data folder, and then the only one; None: the folder that the environment
            variable SPLITLAB_DATA names, if a file is there, else the cache.
        n: How many pictures, spread evenly over all; only these are read and decoded. None: all,
            which at size 64 takes 10 GB.
        verify: Whether there must be 202,599 pictures. The MD5 of 1.4 GB is compared by
            `splitlab data check celeba`, not here.

    Returns:
        Images (channels, size, size) in [-1, 1], by number of the picture, and all 40
        `attributes`, each bool of shape (N,). The label is "Male", with two classes, "no Male" and
        "Male"; `labelled("Smiling")` makes another one the label. `split` deals 3 of 7 people (or
        pictures, see above) to private, 2 to public and 2 to referee.

    Raises:
        DataError: If a file is missing (the message says how to get it), damaged or incomplete.
    """
    check_size_and_channels(size, channels)
    found = obtain(FILES, folder, verify=False)
    names, attributes = _attributes(found[ATTRIBUTES])
    if verify and len(names) != COUNT:
        raise DataError(
            f"{found[ATTRIBUTES]} lists {len(names)} of {COUNT} pictures; {FILES.how(ATTRIBUTES)}."
        )
    people = _people(found[ATTRIBUTES].with_name(IDENTITIES), names)
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
    row = torch.tensor(rows)
    data = ImageData(
        x=x,
        y=torch.zeros_like(row),
        classes=("unlabelled",),
        name=FILES.name,
        block=row.clone() if people is None else people[row],
        row=row,
        attributes={name: present[row] for name, present in attributes.items()},
    )
    return data.labelled(LABEL)


def _attributes(path: Path) -> tuple[list[str], dict[str, Tensor]]:
    """Read the names of the pictures, by number, and which pictures have each attribute."""
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            first = file.readline()
            if first.lstrip()[:1] == "<":
                raise DataError(f"{path} is a web page, not a list; {FILES.how(ATTRIBUTES)}.")
            attributes = file.readline().split()
            if (
                not first.strip().isdigit()
                or len(set(attributes)) != NUMBER_OF_ATTRIBUTES
                or LABEL not in attributes
            ):
                raise DataError(
                    f"{path} does not start with a number of pictures and the names of "
                    f"{NUMBER_OF_ATTRIBUTES} attributes; {FILES.how(ATTRIBUTES)}."
                )
            lines = {}
            for number, line in enumerate(file, start=3):
                name, *values = line.split() or [""]
                if len(values) != len(attributes) or not {"-1", "1"}.issuperset(values):
                    raise DataError(
                        f"{path}, line {number}: not a picture and {len(attributes)} values -1 or "
                        f"1; {FILES.how(ATTRIBUTES)}."
                    )
                lines[name] = bytes(value == "1" for value in values)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the file.") from None
    if len(lines) != int(first):
        raise DataError(
            f"{path} is cut short: it announces {int(first)} pictures and lists {len(lines)}; "
            f"{FILES.how(ATTRIBUTES)}."
        )
    names = sorted(lines)
    table = np.frombuffer(b"".join(lines[name] for name in names), np.bool_)
    columns = table.reshape(len(names), len(attributes)).T
    return names, {
        name: torch.from_numpy(column.copy())
        for name, column in zip(attributes, columns, strict=True)
    }


def _people(path: Path, names: list[str]) -> Tensor | None:
    """Read who is on each picture: int64, shape (N,); None if there is no such file."""
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the file.") from None
    if text.lstrip()[:1] == "<":
        raise DataError(f"{path} is a web page, not a list; {FILES.how(IDENTITIES)}.")
    people = {}
    for number, line in enumerate(text.splitlines(), start=1):
        name, person, *rest = [*line.split(), "", ""]
        if not person.isdigit() or any(rest):
            raise DataError(
                f"{path}, line {number}: not a picture and the number of a person; "
                f"{FILES.how(IDENTITIES)}."
            )
        people[name] = int(person)
    if lacking := [name for name in names if name not in people]:
        raise DataError(
            f"{path} is cut short: it does not say who is on {lacking[0]}; "
            f"{FILES.how(IDENTITIES)}, or remove it to do without."
        )
    return torch.tensor([people[name] for name in names])
