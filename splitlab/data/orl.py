"""The ORL database of faces, from its original zip archive."""

import hashlib
from pathlib import Path

import torch

from splitlab.data.archives import Zip, obtain, spread, stack
from splitlab.data.errors import DataError
from splitlab.data.images import ImageData
from splitlab.data.pixels import check_size_and_channels
from splitlab.data.published import Pin, Published

ARCHIVE = "att_faces.zip"
PEOPLE, PER_PERSON = 40, 10
SHAPE = (112, 92)

# The laboratory publishes no checksum, and copies differ in the order of their files. So the
# content is compared: the SHA-256 of all 400 files, joined in the order s1/1.pgm .. s40/10.pgm.
CONTENT = "d81dc0ce1b7cae73897b46ab3d4d0ee2d1ff72f033819ec7c2a184dbba14a58f"


class OrlFiles(Published):
    """The published archive, verified by its content."""

    def fault(self, name: str, path: Path) -> str | None:
        """Say what is wrong with the archive.

        Args:
            name: The archive's name.
            path: Where it is.

        Returns:
            A sentence; None if it holds the 400 original pictures.
        """
        digest = hashlib.sha256()
        try:
            with Zip(path) as archive:
                for member in _pictures(archive):
                    digest.update(archive.read(member))
        except DataError as error:
            return str(error)
        if digest.hexdigest() == self.files[name].digest:
            return None
        return (
            f"{path} does not hold the original pictures (the SHA-256 of the {PEOPLE * PER_PERSON} "
            f"files is another); {self.how(name)}."
        )


FILES = OrlFiles(
    name="orl_faces",
    folder="ATT",
    mirrors=("https://www.cl.cam.ac.uk/Research/DTG/attarchive/pub/data/",),
    files={ARCHIVE: Pin(None, CONTENT)},
    terms="photographs of real people: keep them to the experiments, and give credit to "
    "Olivetti Research Laboratory.",
)


def orl_faces(
    size: int = 64,
    channels: int = 1,
    folder: str | Path | None = None,
    *,
    n: int | None = None,
    verify: bool = True,
) -> ImageData:
    """Load the ORL (AT&T) faces: 40 people, 10 gray photographs each, of 112 x 92 pixels.

    Source: F. Samaria and A. Harter, "Parameterisation of a stochastic model for human face
    identification", 1994. The archive `att_faces.zip` is looked for in `ATT/` of the data folder,
    is downloaded (4 MB, once) where there is none, and is read as it is. The middle square of
    92 x 92 pixels is resized.

    The label is the person, and so is `block`: `split` is by person. Nobody on a private picture
    is on a public one. So where a reconstruction is matched with its private picture, or with
    another one of the same person, the attacker cannot have got that person from his own data. It
    also means that a classifier of people, trained on the referee's part, knows none of the
    private people: on this split, score by matched person and not by "recognized". To let the
    attacker have other pictures of the same people, split by picture:
    `dataclasses.replace(data, block=None).split(seed)`.

    Args:
        size: Height and width wanted, in pixels (4 to 256).
        channels: 1, or 3 for a view that repeats the gray channel without copying it.
        folder: The data folder, and then the only one; None: the folder that the environment
            variable SPLITLAB_DATA names, if the archive is there, else the cache, after a
            download where needed.
        n: How many pictures, spread evenly over the 400 (40: the first one of every person); only
            these are decoded. None: all.
        verify: Whether the pictures must be the original ones (by SHA-256).

    Returns:
        400 images (channels, size, size) in [-1, 1], person after person, 40 classes "s1" .. "s40",
        40 blocks. `split` deals 20 people to private, 16 to public and 4 to referee.

    Raises:
        DataError: If the archive in a named folder is missing, damaged, incomplete or not what it
            should be (it is never replaced), or if it cannot be downloaded.
    """
    check_size_and_channels(size, channels)
    row = torch.tensor(spread(PEOPLE * PER_PERSON, n, FILES.name))
    with Zip(obtain(FILES, folder, verify)[ARCHIVE]) as archive:
        members = _pictures(archive)
        pictures = (archive.picture(members[i], SHAPE, "PPM") for i in row.tolist())
        x = stack(pictures, len(row), size, channels)
    person = row // PER_PERSON
    return ImageData(
        x=x,
        y=person,
        classes=tuple(f"s{number + 1}" for number in range(PEOPLE)),
        name=FILES.name,
        block=person.clone(),
        row=row,
        shares=(20, 16, 4),
    )


def _pictures(archive: Zip) -> list[str]:
    """Return the names of the 400 pictures, by number of person and picture."""
    found = archive.find(r"s(\d+)/(\d+)\.pgm")
    wanted = [(str(p + 1), str(i + 1)) for p in range(PEOPLE) for i in range(PER_PERSON)]
    if lacking := [key for key in wanted if key not in found]:
        person, picture = lacking[0]
        others = f" and {len(lacking) - 1} more are" if len(lacking) > 1 else " is"
        raise DataError(
            f"{archive.path} is incomplete: s{person}/{picture}.pgm{others} missing of the "
            f"{len(wanted)} pictures; {FILES.how(ARCHIVE)}."
        )
    return [found[key] for key in wanted]
