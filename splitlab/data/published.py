"""The published files of a data set: how to verify each, and where to find them.

A file is looked for in the folder that the caller names, then in the one that the environment
variable SPLITLAB_DATA names, then in the cache. Nothing is downloaded or written here.
"""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from splitlab.data.errors import DataError

DATA = "SPLITLAB_DATA"
CACHE = "SPLITLAB_CACHE"


class Pin(NamedTuple):
    """The size and the checksum that identify a file.

    Attributes:
        size: Its size in bytes; None where it is not published.
        digest: Its checksum, in hexadecimal.
        algorithm: The checksum's algorithm, "sha256" or "md5". An MD5 tells damaged or mistaken
            files from the originals; it does not stop a forger.
    """

    size: int | None
    digest: str
    algorithm: str = "sha256"


@dataclass(frozen=True)
class Published:
    """The published files of a data set.

    Attributes:
        name: The name of the data set.
        folder: The folder of its files below the data folder and below the cache.
        mirrors: Where the files are published, each with a slash at the end; tried in this order.
        files: For each file name, what the file must be.
        terms: The terms of use in one line, shown when the files are downloaded.
        by_hand: How to get the files where a program may not fetch them, the end of a sentence
            that begins with "get them"; empty where it may.
        optional: More files, which the data set can be used without.
    """

    name: str
    folder: str
    mirrors: tuple[str, ...]
    files: dict[str, Pin]
    terms: str
    by_hand: str = field(default="", kw_only=True)
    optional: dict[str, Pin] = field(default_factory=dict, kw_only=True)

    def how(self, name: str) -> str:
        """Say in a few words how to get one of the files, without the full stop."""
        return f"get it {self.by_hand}" if self.by_hand else f"download {self.mirrors[0]}{name}"

    def fault(self, name: str, path: Path) -> str | None:
        """Say what is wrong with a file.

        Args:
            name: The file's name in `files` or `optional`.
            path: Where the file is.

        Returns:
            A sentence; None if the file is the published one.
        """
        pin = (self.files | self.optional)[name]
        try:
            with path.open("rb") as file:
                if pin.size in (None, os.fstat(file.fileno()).st_size):
                    digest = hashlib.file_digest(
                        file, lambda: hashlib.new(pin.algorithm, usedforsecurity=False)
                    ).hexdigest()
                    if digest == pin.digest:
                        return None
        except OSError as error:
            return f"{path} cannot be read ({error.strerror}); check the file."
        kind = {"sha256": "SHA-256", "md5": "MD5"}[pin.algorithm]
        return (
            f"{path} is not the original file (its {kind} is not {pin.digest}); {self.how(name)}."
        )

    def check(self, folder: Path) -> list[str]:
        """Compare all files with the originals, optional ones only if they exist.

        Args:
            folder: The data set's own folder.

        Returns:
            A sentence for each file that is missing or not the original; none if all is well.
        """
        faults = [
            self.fault(name, folder / name)
            if os.path.exists(folder / name)
            else f"{folder / name} is missing; {self.how(name)} and put it there."
            for name in (*self.files, *self.optional)
            if name in self.files or os.path.exists(folder / name)
        ]
        return [fault for fault in faults if fault]


class Found(NamedTuple):
    """Where the files of a data set are: the owner of the folder, and the folder."""

    owner: str
    folder: Path


def absolute(folder: str | Path) -> Path:
    """Return a folder's absolute path; `~` stands for the home folder."""
    return Path(os.path.abspath(os.path.expanduser(folder)))


def folder_from(variable: str) -> Path | None:
    """Return the folder that SPLITLAB_DATA or SPLITLAB_CACHE names, as an absolute path.

    To start processes in another folder, give them the variables as this returns them.

    Args:
        variable: `DATA` or `CACHE`.

    Returns:
        The folder, which need not exist; None where the variable is unset or empty.
    """
    named = os.environ.get(variable)
    return absolute(named) if named else None


def cache_folder() -> Path:
    """Return the folder for downloads: SPLITLAB_CACHE, else `splitlab` in the user's cache.

    Returns:
        The folder, which need not exist; on Linux, without the variable, `~/.cache/splitlab`.
    """
    if named := folder_from(CACHE):
        return named
    import pooch

    return absolute(pooch.os_cache("splitlab"))


def named_folder(published: Published, folder: str | Path | None) -> Path | None:
    """Find the folder of a data set's files below a data folder that the user has named.

    Args:
        published: The data set.
        folder: The data folder; None: the one that SPLITLAB_DATA names, if it is set.

    Returns:
        The data set's own folder; None if no data folder is named, or if the one that
        SPLITLAB_DATA names has no file of this data set (it may hold others).

    Raises:
        DataError: If `folder` lacks the data set, or if SPLITLAB_DATA names no folder.
    """
    if folder is not None:
        found = absolute(folder) / published.folder
        if not os.path.isdir(found):
            origin = f"from {published.mirrors[0]} " if published.mirrors else ""
            how = f"; get them {published.by_hand}" if published.by_hand else ""
            raise DataError(
                f"the folder {found} does not exist; make it, and put the "
                f"{count(published)} {origin}into it{how}."
            )
        return found
    root = folder_from(DATA)
    if root is None:
        return None
    if not os.path.isdir(root):
        named = os.environ[DATA]
        whole = "" if named == str(root) else f" (looked for at {root})"
        raise DataError(
            f"{DATA} names {named}, which is not a folder{whole}; correct it, or unset it"
            f"{_without_it(published)}."
        )
    found = root / published.folder
    return found if any(_present(found, name) for name in published.files) else None


def _without_it(published: Published) -> str:
    """Say what unsetting SPLITLAB_DATA achieves; the end of a sentence."""
    cached = cache_folder() / published.folder
    if any(_present(cached, name) for name in published.files):
        return f" to use {cached}"
    return "" if published.by_hand else f" to have {published.name} downloaded"


def locate(published: Published) -> Found | None:
    """Find a data set without downloading or checking anything.

    Args:
        published: The data set.

    Returns:
        Where at least one of its files is; None if nowhere.

    Raises:
        DataError: If SPLITLAB_DATA names no folder.
    """
    named = named_folder(published, None)
    if named is not None:
        return Found(DATA, named)
    cached = cache_folder() / published.folder
    if any(_present(cached, name) for name in published.files):
        return Found("cache", cached)
    return None


def missing(published: Published, folder: Path) -> list[str]:
    """List the files of a data set that a folder holds neither packed (.gz) nor unpacked.

    Args:
        published: The data set.
        folder: The data set's own folder.

    Returns:
        File names, in the order of `published.files`.
    """
    return [name for name in published.files if not _present(folder, name)]


def paths(published: Published, folder: Path) -> dict[str, Path]:
    """Find each file of a data set in its folder, packed (.gz) or not.

    Args:
        published: The data set.
        folder: The data set's own folder.

    Returns:
        For each name in `published.files`, the file.

    Raises:
        DataError: If a file is missing.
    """
    for name in missing(published, folder):
        raise DataError(f"{folder / name} is missing; {published.how(name)} and put it there.")
    return {
        name: next(path for path in _candidates(folder, name) if os.path.exists(path))
        for name in published.files
    }


def megabytes(published: Published, names: Iterable[str]) -> str:
    """Say how large some files of a data set are together, "some files" where nobody says."""
    sizes = [published.files[name].size for name in names]
    return "the files" if None in sizes else f"{sum(sizes) / 1e6:.1f} MB"


def count(published: Published) -> str:
    """Say in words how many files a data set has, without the optional ones."""
    words = {1: "one file", 2: "two files", 3: "three files", 4: "four files"}
    return words.get(len(published.files), f"{len(published.files)} files")


def _candidates(folder: Path, name: str) -> tuple[Path, ...]:
    unpacked = name if name.endswith(".tar.gz") else name.removesuffix(".gz")
    return (folder / name, folder / unpacked)


def _present(folder: Path, name: str) -> bool:
    return any(os.path.exists(path) for path in _candidates(folder, name))
