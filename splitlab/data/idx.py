"""Reading idx files, the format of MNIST and Fashion-MNIST, and making data sets from them.

An idx file holds two zero bytes, a byte for the type (8: unsigned bytes), a byte for the number
of dimensions, each dimension as a big-endian 32-bit number, and then the values, row by row.
"""

import contextlib
import gzip
import hashlib
import math
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from splitlab.data.download import fetch
from splitlab.data.errors import DataError
from splitlab.data.images import ImageData
from splitlab.data.pixels import RESIZE_CHUNK, check_size_and_channels, resize
from splitlab.data.published import Published, named_folder, paths
from splitlab.data.splits import Split

UNSIGNED_BYTES = 8
MAX_DIMENSIONS = 4
MAX_BYTES = 2**30  # a header that announces more is damaged: refuse before making room for it
BLOCK_ROWS = 1000
SIDE = 28


@dataclass(frozen=True)
class IdxFiles(Published):
    """The published files of an idx data set, and what they contain once unpacked.

    Attributes:
        classes: The names of the ten classes.
        md5: For each file name (without .gz), the MD5 of its unpacked content. It tells damaged
            or mistaken files from the originals; it does not stop a forger.
    """

    classes: tuple[str, ...]
    md5: dict[str, str]

    def check(self, folder: Path) -> list[str]:
        """Compare the unpacked content of the files with the originals' (by MD5).

        Args:
            folder: The data set's own folder.

        Returns:
            A sentence for each file that is missing, unreadable or not the original; none if all
            is well.
        """
        complaints = []
        for name, md5 in self.md5.items():
            packed = folder / f"{name}.gz"
            try:
                read_idx(packed if packed.exists() else folder / name, md5)
            except DataError as error:
                complaints.append(str(error))
        return complaints


PAIRS = (
    ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
)


def read_idx(path: str | Path, md5: str | None = None) -> np.ndarray:
    """Read one idx file of unsigned bytes, packed with gzip or not.

    Args:
        path: The file; whether it is packed is read from its content, not from its name.
        md5: The MD5 that the unpacked content must have; None: any.

    Returns:
        A read-only uint8 array with the dimensions that the header states.

    Raises:
        DataError: If the file is missing, unreadable, a web page, damaged, cut short, too long,
            not idx, or not the original.
    """
    path = Path(path)
    try:
        with _unpacked(path) as file:
            header, dimensions = _read_header(file, path)
            size = math.prod(dimensions)
            # One byte more than announced: shows a file that is too long, and reaching the end
            # makes gzip compare its own checksum.
            payload = file.read(size + 1)
    except FileNotFoundError:
        raise DataError(f"{path} is missing; download it and put it there.") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is damaged or cut short ({error}); download it again.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the file.") from None
    if len(payload) != size:
        state = "is cut short" if len(payload) < size else "is longer than it should be"
        raise DataError(f"{path} {state}: its header announces {size} values; download it again.")
    if md5 is not None and _md5(header, payload) != md5:
        raise DataError(
            f"{path} is not the original file (its MD5 is not {md5}); download it again."
        )
    return np.frombuffer(payload, dtype=np.uint8).reshape(dimensions)


@contextlib.contextmanager
def _unpacked(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading, through gzip if it starts like a gzip file."""
    with path.open("rb") as file:
        start = file.read(512)
        file.seek(0)
        if start[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield unpacked
        elif start[:2] == b"\0\0":
            yield file
        elif start.lstrip()[:1] == b"<":
            raise DataError(
                f"{path} is a web page, not a data file: the server sent an error page; "
                f"download it again from another address."
            )
        else:
            raise DataError(f"{path} is neither a gzip nor an idx file; download it again.")


def _read_header(file: BinaryIO, path: Path) -> tuple[bytes, tuple[int, ...]]:
    """Read and check the header; return its bytes and the dimensions that it states."""
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or not 1 <= magic[3] <= MAX_DIMENSIONS:
        raise DataError(
            f"{path} does not start like an idx file (its first bytes are {magic.hex(' ')!r}); "
            f"download it again."
        )
    if magic[2] != UNSIGNED_BYTES:
        raise DataError(
            f"{path} holds values of type {magic[2]:#04x}, but images and labels are unsigned "
            f"bytes (0x08); download the original file."
        )
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise DataError(f"{path} is cut short inside its header; download it again.")
    dimensions = struct.unpack(f">{magic[3]}I", sizes)
    if math.prod(dimensions) > MAX_BYTES:
        raise DataError(
            f"{path} announces {math.prod(dimensions)} values, which cannot be right; "
            f"download it again."
        )
    return magic + sizes, dimensions


def _md5(*pieces: bytes) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _read_labels(path: Path, files: IdxFiles, md5: str | None) -> Tensor:
    """Read labels, int64 of shape (N,), and check that they are classes of the data set."""
    labels = read_idx(path, md5)
    if labels.ndim != 1 or len(labels) == 0:
        raise DataError(
            f"{path} holds values of shape {labels.shape} instead of labels (N,); "
            f"download the original file."
        )
    if labels.max() >= len(files.classes):
        raise DataError(
            f"{path} holds the label {labels.max()}, but {files.name} has only "
            f"{len(files.classes)} classes; download it again."
        )
    return torch.from_numpy(labels.astype(np.int64))


def _read_images(path: Path, count: int, md5: str | None) -> np.ndarray:
    """Read images, uint8 of shape (count, 28, 28)."""
    images = read_idx(path, md5)
    if images.ndim != 3 or images.shape[1:] != (SIDE, SIDE):
        raise DataError(
            f"{path} holds values of shape {images.shape} instead of (N, {SIDE}, {SIDE}); "
            f"download the original file."
        )
    if len(images) != count:
        raise DataError(
            f"{path} holds {len(images)} images, but its file of labels holds {count} labels; "
            f"download both files again."
        )
    return images


def load_idx(
    files: IdxFiles,
    size: int,
    channels: int,
    folder: str | Path | None,
    verify: bool,
) -> ImageData:
    """Load an idx data set: the training file's rows, then the test file's.

    Args:
        files: The data set.
        size: Height and width wanted, in pixels (4 to 256).
        channels: 1, or 3 for a view that repeats the gray channel without copying it.
        folder: The data folder, and then the only one; None: the folder that the environment
            variable SPLITLAB_DATA names, if the files are there, else the cache, after a
            download where needed.
        verify: Whether the files must be the original ones (by MD5).

    Returns:
        Images (channels, size, size), resized bilinearly and scaled to x / 127.5 - 1, clipped to
        [-1, 1] (at size 32 as in the authors' code for the paper); blocks of 1,000 rows.

    Raises:
        DataError: If a file in a named folder is missing, damaged or not what it should be (it is
            never replaced), or if the files cannot be downloaded.
    """
    (whole,) = _load_dealt(files, size, channels, folder, verify, lambda rows: [rows])
    return whole


def split_idx(
    files: IdxFiles, size: int, channels: int, deal: Callable[[ImageData], Split[ImageData]]
) -> Split[ImageData]:
    """Load an idx data set straight into its parts, without holding all of it in memory.

    To load the whole and then to copy it into parts takes twice the memory. Here the rows are
    dealt first, and each image is resized into the part that it belongs to.

    Args:
        files: The data set; its files are looked for as in `load_idx`.
        size: Height and width wanted, in pixels (4 to 256).
        channels: 1, or 3 for a view that repeats the gray channel without copying it.
        deal: Cuts the whole set into parts. It sees labels, blocks and row numbers, but images
            of a single gray pixel in place of the real ones.

    Returns:
        What `deal` would return for `load_idx(files, size, channels, None, True)`, bit for bit;
        each part has storage of its own.

    Raises:
        DataError: As in `load_idx`.
    """
    return Split(*_load_dealt(files, size, channels, None, True, deal))


def _load_dealt(
    files: IdxFiles,
    size: int,
    channels: int,
    folder: str | Path | None,
    verify: bool,
    deal: Callable[[ImageData], Iterable[ImageData | None]],
) -> list[ImageData | None]:
    """Read the files, and resize each image into the part, or parts, that `deal` chose for it."""
    check_size_and_channels(size, channels)
    found = paths(files, named_folder(files, folder) or fetch(files))
    md5 = files.md5 if verify else dict.fromkeys(files.md5)
    labels = [_read_labels(found[f"{name}.gz"], files, md5[name]) for _, name in PAIRS]
    # The labels are small and tell how many images there are. So room is made once, and one file
    # of raw images is held at a time: the peak stays near the size of the result.
    row = torch.arange(sum(map(len, labels)))
    undrawn = ImageData(
        x=torch.zeros(len(row), 1, 1, 1),
        y=torch.cat(labels),
        classes=files.classes,
        name=files.name,
        block=row // BLOCK_ROWS,
        row=row,
        train_rows=len(labels[0]),
    )
    parts = list(deal(undrawn))  # None where a split has no third part
    images = [torch.empty(len(part or ()), 1, size, size) for part in parts]
    start = 0
    for (name, _), y in zip(PAIRS, labels, strict=True):
        raw = _read_images(found[f"{name}.gz"], len(y), md5[name])
        for part, x in zip(parts, images, strict=True):
            if part is None:
                continue
            here = (part.row >= start) & (part.row < start + len(y))
            _fill(x, here.nonzero().flatten(), raw, part.row[here] - start)
        start += len(y)
    return [
        part and replace(part, x=x.expand(-1, channels, -1, -1))
        for part, x in zip(parts, images, strict=True)
    ]


def _fill(x: Tensor, places: Tensor, raw: np.ndarray, rows: Tensor) -> None:
    """Write raw images, values 0..255, into `x` (N, 1, size, size), chunk by chunk.

    Args:
        x: The images to write.
        places: Which of them, int64, shape (n,).
        raw: All raw images of a file, uint8, shape (M, 28, 28).
        rows: The raw images that belong there, int64, shape (n,).
    """
    chunks = zip(places.split(RESIZE_CHUNK), rows.split(RESIZE_CHUNK), strict=True)
    for place, row in chunks:
        chunk = torch.from_numpy(raw[row.numpy()].astype(np.float32))
        scaled = resize(chunk.unsqueeze(1), x.shape[-1]) / 127.5 - 1
        x[place] = scaled.clamp_(-1, 1)
