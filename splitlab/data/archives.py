"""Reading pictures from the archives in which data sets are published.

Nothing is unpacked to disk and nothing is written beside an archive: members are read one by one
into memory, decoded, and resized straight into the result. An archive is not trusted. One that
holds a name which leads out of it is refused, though no name here ever becomes a path; a member is
read only up to the size that such a file can have; no picture is decoded that has not the shape
that its data set promises.
"""

import io
import itertools
import re
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from splitlab.arguments import described, whole
from splitlab.data.download import fetch, show_terms
from splitlab.data.errors import DataError
from splitlab.data.pixels import resize
from splitlab.data.published import Published, named_folder, paths

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_MEMBER = 2**23  # bytes: pictures, labels and lists of names that are larger are no originals
CHUNK = 128  # pictures decoded at a time: a few megabytes
PLAIN = ("1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV", "LAB")  # Pillow's names: 8 bits or fewer
DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N")  # 16 bits of gray
TRANSPARENT = ("LA", "La", "PA", "RGBA", "RGBa")
LUMA = (0.299, 0.587, 0.114)  # how bright red, green and blue look (ITU-R BT.601)


def obtain(published: Published, folder: str | Path | None, verify: bool) -> dict[str, Path]:
    """Find the files of a data set, after a download where needed, and show its terms once.

    Args:
        published: The data set.
        folder: The data folder, and then the only one; None: the folder that the environment
            variable SPLITLAB_DATA names, if the files are there, else the cache.
        verify: Whether files in a named folder must be the original ones. Those in the cache are
            compared in any case, except where somebody got them by hand.

    Returns:
        For each name in `published.files`, the file.

    Raises:
        DataError: If a file is missing, is not the original, or cannot be downloaded.
    """
    named = named_folder(published, folder)
    found = paths(published, named or fetch(published))
    if verify and named:
        for name, path in found.items():
            if fault := published.fault(name, path):
                raise DataError(fault)
    show_terms(published)
    return found


def check_start(path: Path, magic: bytes, kind: str) -> None:
    """Refuse a file whose first bytes are not those of its format.

    Args:
        path: The file.
        magic: The bytes that the format starts with.
        kind: What the file should be, for the message: "a zip archive".

    Raises:
        DataError: If the file is missing, cannot be read, is a web page or starts otherwise.
    """
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except FileNotFoundError:
        raise DataError(f"{path} is missing; download it and put it there.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the file.") from None
    if start.startswith(magic):
        return
    if start.lstrip()[:1] == b"<":
        raise DataError(
            f"{path} is a web page, not {kind}: the server sent an error or a confirmation page; "
            f"download it again, in a browser if need be."
        )
    raise DataError(f"{path} is not {kind}; download it again.")


def check_name(path: Path, name: str) -> None:
    """Refuse an archive if one of its members has a name that leads out of it.

    Args:
        path: The archive.
        name: The member's name.

    Raises:
        DataError: If the name is absolute or contains `..`.
    """
    parts = re.split(r"[/\\]", name)
    if ".." in parts or parts[0] == "" or re.match(r"[A-Za-z]:", name):
        raise DataError(
            f"{path} holds the name {name!r}, which leads out of the archive: it is not the "
            f"original; download it again."
        )


class Zip:
    """A read-only zip archive; use it in a `with` statement."""

    def __init__(self, path: Path) -> None:
        """Open an archive.

        Args:
            path: The archive.

        Raises:
            DataError: If it is missing, cut short, no zip archive, or holds a name that leads
                out of it.
        """
        self.path = path
        check_start(path, b"PK", "a zip archive")
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError) as error:
            raise DataError(
                f"{path} is damaged or cut short ({str(error).rstrip('.')}); download it again."
            ) from None
        try:
            self.names = [name for name in self._zip.namelist() if not name.endswith("/")]
            for name in self.names:
                check_name(path, name)
        except DataError:
            self._zip.close()
            raise

    def __enter__(self) -> "Zip":
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def find(self, pattern: str) -> dict[tuple[str, ...], str]:
        """Find members by name.

        Args:
            pattern: a regular expression for the end of a name, from the start of a folder or a
                file; folders before it (a top folder that some copies have) do not matter.

        Returns:
            For the groups of each match, the member's name.
        """
        matcher = re.compile(rf"(?:.*/)?{pattern}")
        matches = ((matcher.fullmatch(name), name) for name in self.names)
        return {match.groups(): name for match, name in matches if match}

    def read(self, name: str) -> bytes:
        """Read one member, and compare its checksum.

        Args:
            name: The member's name.

        Returns:
            Its content, at most MAX_MEMBER bytes.

        Raises:
            DataError: If the member is damaged, locked with a password or far too large.
        """
        size = self._zip.getinfo(name).file_size
        if size > MAX_MEMBER:
            raise DataError(
                f"{self.path}: {name} announces {size:,} bytes, which cannot be right; "
                f"download the archive again."
            )
        try:
            return self._zip.read(name)
        # RuntimeError: a password; NotImplementedError: a packing that is not known.
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError) as error:
            reason = str(error).rstrip(".") or type(error).__name__
            raise DataError(
                f"{self.path}: {name} is damaged ({reason}); download the archive again."
            ) from None

    def picture(self, name: str, shape: tuple[int, int], kind: str, mode: str = "L") -> np.ndarray:
        """Read and decode one picture.

        Args:
            name: The member's name.
            shape: The height and width that it must have, in pixels.
            kind: Its format in Pillow's words: "PNG", "PPM" (also PGM) or "JPEG".
            mode: "L" for gray, "RGB" for color; a picture of another mode is converted. 16 bits
                become 8, and what is transparent shows white.

        Returns:
            Uint8, shape (H, W) or (H, W, 3), values 0..255.

        Raises:
            DataError: If the member is damaged, no picture of that format, of another size, or of
                a kind that has no levels from 0 to 255.
        """
        from PIL import Image

        content = self.read(name)
        try:
            with Image.open(io.BytesIO(content), formats=(kind,)) as image:
                height, width = shape
                # Known from the header: nothing has been decoded yet.
                if image.size != (width, height):
                    raise DataError(
                        f"{self.path}: {name} has {image.height} x {image.width} pixels instead of "
                        f"{height} x {width}; download the original archive."
                    )
                return _levels(image, mode, f"{self.path}: {name}")
        except DataError:
            raise
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError):
            raise DataError(
                f"{self.path}: {name} is not a {kind} picture that can be decoded; "
                f"download the archive again."
            ) from None


def _levels(image: "Image", mode: str, where: str) -> np.ndarray:
    """Decode a picture into 256 levels, also with 16 bits or transparency.

    Args:
        image: The picture, as Pillow has opened it.
        mode: "L" or "RGB".
        where: The picture's name, for messages.

    Returns:
        Uint8, shape (H, W) or (H, W, 3).

    Raises:
        DataError: If it has more than 16 bits, or 16 bits and transparency.
    """
    from PIL import Image

    transparent = image.mode in TRANSPARENT or "transparency" in image.info
    if image.mode in DEEP and not transparent:
        levels = np.asarray(image).astype(np.float64) / 257  # Pillow scales a PGM to 16 bits
        if levels.min() >= 0 and levels.max() <= 255:
            grey = Image.fromarray(levels.round().astype(np.uint8))
            return np.asarray(grey.convert(mode))
    elif transparent and image.mode not in DEEP:
        picture = image.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return np.asarray(Image.alpha_composite(white, picture).convert(mode))
    elif image.mode in PLAIN:
        return np.asarray(image.convert(mode))
    raise DataError(
        f"{where} is a picture of the kind {image.mode}{' with transparency' * transparent}, which "
        "cannot be read correctly; convert it to 8 bits, or download the original archive."
    )


def spread(count: int, n: int | None, name: str) -> list[int]:
    """Choose `n` of `count` rows, evenly spread over the whole set.

    Args:
        count: How many rows there are.
        n: How many are wanted, from 1 to `count`; None: all.
        name: The name of the data set, for the message.

    Returns:
        Row numbers, rising; the same for the same `count` and `n`.

    Raises:
        DataError: If `n` is not a whole number from 1 to `count`.
    """
    if n is None:
        return list(range(count))
    if whole(n) is None or not 1 <= n <= count:
        raise DataError(
            f"{name}: n must be a whole number of images from 1 to {count}, not {described(n)}."
        )
    return [i * count // n for i in range(n)]


def stack(pictures: Iterable[np.ndarray], count: int, size: int, channels: int) -> Tensor:
    """Make a tensor of decoded pictures, a few at a time, so that memory peaks near its size.

    A picture that is not square gives its middle square, so that a face keeps its proportions.

    Args:
        pictures: uint8, each of shape (H, W) or (H, W, 3), values 0..255; decoded when asked for.
        count: How many there are.
        size: Height and width wanted, in pixels.
        channels: 1, or 3. Color becomes gray by LUMA; gray stays one channel, in an `expand`
            view.

    Returns:
        Float32, shape (count, channels, size, size), resized and scaled to x / 127.5 - 1.
    """
    pictures = iter(pictures)
    x = None
    start = 0
    while chunk := list(itertools.islice(pictures, CHUNK)):
        raw = torch.from_numpy(np.stack(chunk)).float()
        raw = raw.unsqueeze(1) if raw.ndim == 3 else raw.movedim(-1, 1)
        if channels == 1 and raw.shape[1] == 3:
            raw = (raw * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
        scaled = resize(_middle_square(raw), size) / 127.5 - 1
        if x is None:
            x = torch.empty(count, scaled.shape[1], size, size)
        x[start : start + len(chunk)] = scaled.clamp_(-1, 1)
        start += len(chunk)
    return x.expand(-1, channels, -1, -1)


def _middle_square(images: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images[..., top : top + side, left : left + side]
