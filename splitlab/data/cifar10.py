"""CIFAR-10 from its original archive, the binary version, without pickle."""

import tarfile
import zlib
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from splitlab.data.archives import check_name, check_start, obtain, spread, stack
from splitlab.data.errors import DataError
from splitlab.data.images import ImageData
from splitlab.data.pixels import check_size_and_channels
from splitlab.data.published import Pin, Published

ARCHIVE = "cifar-10-binary.tar.gz"
NAMES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
PER_FILE = 10_000
SHAPE = (3, 32, 32)
RECORD = 1 + 3 * 32 * 32  # a label, then red, green and blue, each row by row
BLOCK_ROWS = 1000
DAMAGED = (tarfile.TarError, EOFError, zlib.error, OSError)  # what reading a bad archive raises

FILES = Published(
    name="cifar10",
    folder="CIFAR10",
    mirrors=("https://www.cs.toronto.edu/~kriz/",),
    files={
        ARCHIVE: Pin(
            170_052_171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
        )
    },
    terms="its authors state none; cite A. Krizhevsky, Learning Multiple Layers of Features from "
    "Tiny Images, 2009.",
)
CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


def cifar10(
    size: int = 32,
    channels: int = 3,
    folder: str | Path | None = None,
    *,
    n: int | None = None,
    verify: bool = True,
) -> ImageData:
    """Load CIFAR-10 (A. Krizhevsky, 2009): 60,000 color photographs of 32 x 32 pixels.

    The archive `cifar-10-binary.tar.gz` is looked for in `CIFAR10/` of the data folder, is
    downloaded (170 MB, once) where there is none, and is read as it is. It is not the archive for
    Python, whose files are pickles: reading those would run whatever they contain.

    The archive does not tell which photographs belong together (the same scene, the same
    photographer), so `block` is a stretch of 1,000 rows, and no more than that is claimed.

    Args:
        size: Height and width wanted, in pixels (4 to 256).
        channels: 3, or 1 for gray (by brightness).
        folder: The data folder, and then the only one; None: the folder that the environment
            variable SPLITLAB_DATA names, if the archive is there, else the cache, after a
            download where needed.
        n: How many images, spread evenly over the 60,000; only these are decoded. None: all.
        verify: Whether the archive must be the original one (by SHA-256).

    Returns:
        60,000 images (channels, size, size) in [-1, 1], training files first, 10 classes,
        60 blocks. `split` deals 26 blocks to private, 17 to public and 17 to referee;
        `official_split` puts the training files into private and the test file into public.

    Raises:
        DataError: If the archive in a named folder is missing, damaged, incomplete or not what it
            should be (it is never replaced), or if it cannot be downloaded.
    """
    check_size_and_channels(size, channels)
    rows = spread(PER_FILE * len(NAMES), n, FILES.name)
    with _Batches(obtain(FILES, folder, verify)[ARCHIVE]) as batches:
        labels = []
        x = stack(batches.pictures(rows, labels), len(rows), size, channels)
    row = torch.tensor(rows)
    return ImageData(
        x=x,
        y=torch.tensor(labels),
        classes=CLASSES,
        name=FILES.name,
        block=row // BLOCK_ROWS,
        row=row,
        train_rows=PER_FILE * (len(NAMES) - 1),
    )


class _Batches:
    """The six files of records in a read-only archive."""

    def __init__(self, path: Path) -> None:
        self.path = path
        check_start(path, b"\x1f\x8b", "a .tar.gz archive")
        try:
            self._tar = tarfile.open(path, "r:gz")  # noqa: SIM115
            members = self._tar.getmembers()
            # To the very end, where gzip compares its own checksum.
            while self._tar.fileobj.read(2**20):
                pass
        except DAMAGED as error:
            raise self._damaged(error) from None
        for member in members:
            check_name(path, member.name)
        # By the last part of the name: some copies have another top folder. Links are not followed.
        self._members = {m.name.rsplit("/", 1)[-1]: m for m in members if m.isfile()}
        for name in NAMES:
            if name not in self._members:
                raise DataError(f"{path} is incomplete: {name} is missing; {FILES.how(ARCHIVE)}.")
            if self._members[name].size != PER_FILE * RECORD:
                raise DataError(
                    f"{path}: {name} has {self._members[name].size:,} bytes instead of "
                    f"{PER_FILE * RECORD:,}; {FILES.how(ARCHIVE)}."
                )

    def __enter__(self) -> "_Batches":
        return self

    def __exit__(self, *_: object) -> None:
        self._tar.close()

    def pictures(self, rows: list[int], labels: list[int]) -> Iterator[np.ndarray]:
        """Read the pictures of some rows, in ascending order; append their labels to `labels`."""
        for number, name in enumerate(NAMES):
            first = number * PER_FILE
            try:
                with self._tar.extractfile(self._members[name]) as file:
                    for row in rows[bisect_left(rows, first) : bisect_left(rows, first + PER_FILE)]:
                        file.seek((row - first) * RECORD)
                        record = np.frombuffer(file.read(RECORD), np.uint8)
                        if record[0] >= len(CLASSES):
                            raise DataError(
                                f"{self.path}: {name} holds the label {record[0]}, but there are "
                                f"only {len(CLASSES)} classes; {FILES.how(ARCHIVE)}."
                            )
                        labels.append(int(record[0]))
                        yield record[1:].reshape(SHAPE).transpose(1, 2, 0)
            except DAMAGED as error:
                raise self._damaged(error) from None

    def _damaged(self, error: Exception) -> DataError:
        reason = str(error).rstrip(".") or type(error).__name__
        return DataError(f"{self.path} is damaged or cut short ({reason}); download it again.")
