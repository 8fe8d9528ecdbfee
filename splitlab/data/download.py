"""Finding the published files of a data set, and downloading them into the cache.

A file is looked for in the folder that the caller names, then in the one that the environment
variable SPLITLAB_DATA names, then in the cache; only what none of them has is downloaded, into the
cache. Folders that somebody has named are read and never written.

A file in the cache is complete or absent. A download goes into a file of its own beside it, is
compared with its checksum and renamed, which is one step: a run that is killed leaves at most a
`.part` file, which nothing reads, and two runs that download at once write the same bytes twice.
"""

import contextlib
import hashlib
import os
import secrets
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from splitlab.data.base import DataError

DATA = "SPLITLAB_DATA"
CACHE = "SPLITLAB_CACHE"
OFFLINE = "SPLITLAB_OFFLINE"

TIMEOUT = (10.0, 30.0)  # seconds to connect, and to wait for more bytes
CHUNK = 2**16
BAR = "{l_bar}{bar}| {n_fmt}B/{total_fmt}B"  # no speed: pooch restarts the bar's clock at the end
STALE = 3600  # seconds without a write after which a .part file belongs to nobody any more


class Pin(NamedTuple):
    """What a file must be.

    Attributes:
        size: its size in bytes; None where it is not published.
        digest: its checksum, in hexadecimal.
        algorithm: the checksum's algorithm, "sha256" or "md5". An MD5 tells damaged or mistaken
            files from the originals; it does not stop a forger.
    """

    size: int | None
    digest: str
    algorithm: str = "sha256"


@dataclass(frozen=True)
class Published:
    """The published files of a data set.

    Attributes:
        name: the name of the data set.
        folder: the folder of its files below the data folder and below the cache.
        mirrors: where the files are published, each with a slash at the end; tried in this order.
        files: for each file name, what the file must be.
        terms: the terms of use in one line, shown when the files are downloaded.
        by_hand: how to get the files where a program may not fetch them, the end of a sentence
            that begins with "get them"; empty where it may.
        optional: more files, which the data set can be used without.
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
        """Tell what is wrong with a file.

        Args:
            name: the file's name in `files` or `optional`.
            path: where the file is.

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
        """Compare all files with the originals, optional ones where they are there.

        Args:
            folder: the data set's own folder.

        Returns:
            A sentence for each file that is missing or not the original; none if all is well.
        """
        faults = [
            self.fault(name, folder / name)
            if (folder / name).exists()
            else f"{folder / name} is missing; {self.how(name)} and put it there."
            for name in (*self.files, *self.optional)
            if name in self.files or (folder / name).exists()
        ]
        return [fault for fault in faults if fault]


class Found(NamedTuple):
    """Where the files of a data set are: whose folder it is, and the folder."""

    owner: str
    folder: Path


def cache_folder() -> Path:
    """Return the folder for downloads: SPLITLAB_CACHE, else `splitlab` in the user's cache.

    Returns:
        The folder, which need not exist; on Linux, without the variable, `~/.cache/splitlab`.
    """
    named = os.environ.get(CACHE)
    if named:
        return Path(named).expanduser()
    import pooch

    return Path(pooch.os_cache("splitlab"))


def named_folder(published: Published, folder: str | Path | None) -> Path | None:
    """Find the folder of a data set's files below a data folder that somebody has named.

    Args:
        published: the data set.
        folder: the data folder; None: the one that SPLITLAB_DATA names, if it is set.

    Returns:
        The data set's own folder; None if no data folder is named, or if the one that
        SPLITLAB_DATA names has no file of this data set (it may hold others).

    Raises:
        DataError: if `folder` lacks the data set, or if SPLITLAB_DATA names no folder.
    """
    if folder is not None:
        found = Path(folder).expanduser() / published.folder
        if not os.path.isdir(found):
            origin = f"from {published.mirrors[0]} " if published.mirrors else ""
            how = f"; get them {published.by_hand}" if published.by_hand else ""
            raise DataError(
                f"the folder {found} does not exist; make it, and put the "
                f"{_count(published)} {origin}into it{how}."
            )
        return found
    root = os.environ.get(DATA)
    if not root:
        return None
    if not os.path.isdir(Path(root).expanduser()):
        raise DataError(
            f"{DATA} names {root}, which is not a folder; correct it, or unset it to have "
            f"{published.name} downloaded."
        )
    found = Path(root).expanduser() / published.folder
    return found if any(_present(found, name) for name in published.files) else None


def locate(published: Published) -> Found | None:
    """Find a data set without downloading or checking anything.

    Args:
        published: the data set.

    Returns:
        Where at least one of its files is; None if nowhere.

    Raises:
        DataError: if SPLITLAB_DATA names no folder.
    """
    named = named_folder(published, None)
    if named is not None:
        return Found(DATA, named)
    cached = cache_folder() / published.folder
    if any(_present(cached, name) for name in published.files):
        return Found("cache", cached)
    return None


def missing(published: Published, folder: Path) -> list[str]:
    """List the files of a data set that a folder has neither packed (.gz) nor unpacked.

    Args:
        published: the data set.
        folder: the data set's own folder.

    Returns:
        File names, in the order of `published.files`.
    """
    return [name for name in published.files if not _present(folder, name)]


def paths(published: Published, folder: Path) -> dict[str, Path]:
    """Find each file of a data set in its folder, packed (.gz) or not.

    Args:
        published: the data set.
        folder: the data set's own folder.

    Returns:
        For each name in `published.files`, the file.

    Raises:
        DataError: if a file is missing.
    """
    for name in missing(published, folder):
        raise DataError(f"{folder / name} is missing; {published.how(name)} and put it there.")
    return {
        name: next(path for path in _candidates(folder, name) if path.exists())
        for name in published.files
    }


def fetch(published: Published) -> Path:
    """Make sure that the cache holds a data set, downloading the files that it lacks.

    Files that are there are compared with their checksum, and a damaged one is downloaded again;
    where all are right, nothing is written and nothing is asked of the network. What happens is
    told on stderr, with the terms of use. Files that a program may not fetch are only looked for.

    Args:
        published: the data set.

    Returns:
        The data set's folder in the cache; every file that was downloaded has its checksum.

    Raises:
        DataError: if no mirror gave the right file, if the cache cannot be written, if
            SPLITLAB_OFFLINE is set and a file is missing or damaged, or if a file is missing that
            somebody has to get by hand; the message then says how.
    """
    folder = cache_folder() / published.folder
    if published.by_hand:
        if lacking := missing(published, folder):
            raise DataError(
                f"{published.name}: {', '.join(lacking)} must be got by hand, for "
                f"{published.terms.rstrip('.')}; get them {published.by_hand}, and put them into "
                f"{folder}, or set {DATA} to a folder that holds them in {published.folder}/."
            )
        return folder
    wanted = [name for name in published.files if published.fault(name, folder / name)]
    if not wanted:
        return folder
    damaged = [name for name in wanted if os.path.lexists(folder / name)]
    if os.environ.get(OFFLINE, "0") not in ("", "0"):
        raise DataError(
            f"{published.name}: {wanted[0]} is {'damaged' if damaged else 'missing'} in {folder}, "
            f"and {OFFLINE} forbids to download it; unset it, or {_elsewhere(published)}"
        )
    _make_ready(folder, published)
    for name in damaged:
        _tell(published, f"{folder / name} is damaged and is downloaded again.")
    root = os.environ.get(DATA)
    _tell(
        published,
        f"downloading {megabytes(published, wanted)} to {folder}"
        f"{f', for {root} ({DATA}) does not hold it' if root else ''}. Terms: {published.terms}",
    )
    _remember_terms(published)
    mirrors = list(published.mirrors)
    for name in wanted:
        worked = _fetch_file(name, mirrors, folder, published)
        # A mirror that cannot be reached costs a wait: the next file asks the one that worked.
        mirrors.sort(key=lambda mirror: mirror != worked)
    return folder


def megabytes(published: Published, names: Iterable[str]) -> str:
    """Say how large some files of a data set are together, "some files" where nobody says."""
    sizes = [published.files[name].size for name in names]
    return "the files" if None in sizes else f"{sum(sizes) / 1e6:.1f} MB"


def show_terms(published: Published) -> None:
    """Show the terms of use of a data set on stderr, once for each cache folder.

    Where the cache cannot be written, they are shown again next time.

    Args:
        published: the data set.
    """
    if not _terms_file(published).exists():
        _tell(published, f"terms of use: {published.terms}")
        _remember_terms(published)


def _terms_file(published: Published) -> Path:
    return cache_folder() / "terms" / published.name


def _remember_terms(published: Published) -> None:
    file = _terms_file(published)
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{published.terms}\n")


def _fetch_file(name: str, mirrors: list[str], folder: Path, published: Published) -> str:
    """Download one file into `folder`; return the mirror that had it."""
    failures = []
    for mirror in mirrors:
        # Not tempfile: its files can be read by their owner alone, and a cache may be shared.
        part = folder / f".{name}.{os.getpid()}-{secrets.token_hex(4)}.part"
        try:
            reason = _transfer(mirror + name, part, name, published)
            if reason is None:
                os.replace(part, folder / name)
                return mirror
        except OSError as error:
            raise _not_writable(folder, error, published) from None
        finally:
            with contextlib.suppress(OSError):
                part.unlink()
        failures.append(f"{mirror} {reason}")
        _tell(published, f"{failures[-1]} ({name}).")
    raise DataError(
        f"{published.name}: {name} could not be downloaded ({'; '.join(failures)}); "
        f"check the network, or {_elsewhere(published)}"
    )


def _transfer(url: str, part: Path, name: str, published: Published) -> str | None:
    """Download `url` to `part`; return what was wrong with the mirror's answer, if anything.

    Raises:
        OSError: if `part` cannot be written.
    """
    import pooch
    import requests
    from tqdm import tqdm

    pin = published.files[name]
    with (
        part.open("xb") as file,
        # Never None: pooch asks whether there is a bar, and tqdm without a total cannot
        # answer. pooch then puts the size that the server states in its place.
        tqdm(desc=name, total=pin.size or 1, unit="B", unit_scale=True, bar_format=BAR) as bar,
    ):
        download = pooch.HTTPDownloader(
            progressbar=bar,
            chunk_size=CHUNK,
            timeout=TIMEOUT,
            # The file as it is, not packed once more on the way: the bar counts its own bytes.
            headers={"Accept-Encoding": "identity"},
        )
        try:
            download(url, file, None)
        except requests.RequestException as error:
            return _reason(error, file.tell(), pin)
        file.flush()
        # The name must never come to stand for content that a power cut can still take away.
        os.fsync(file.fileno())
    size = part.stat().st_size
    with part.open("rb") as file:
        if file.read(512).lstrip()[:1] == b"<":
            return "sent a web page instead of the file"
    if pin.size is not None and size < pin.size:
        return f"sent only {size:,} of {pin.size:,} bytes"
    return "sent another file (its checksum is wrong)" if published.fault(name, part) else None


def _reason(error: Exception, received: int, pin: Pin) -> str:
    """Say in a few words why a transfer failed after `received` bytes."""
    import requests

    if isinstance(error, requests.HTTPError):
        return f"answered {error.response.status_code}"
    if received or isinstance(error, requests.exceptions.ChunkedEncodingError):
        whole = "" if pin.size is None else f" of {pin.size:,}"
        return f"broke off after {received:,}{whole} bytes"
    if isinstance(error, requests.Timeout):
        return "did not answer in time"
    if isinstance(error, requests.exceptions.SSLError):
        return "has no certificate that this machine trusts"
    if isinstance(error, requests.ConnectionError):
        return "cannot be reached"
    return f"failed with {type(error).__name__}"


def _make_ready(folder: Path, published: Published) -> None:
    """Make the folder, and remove what killed downloads left in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(folder, error, published) from None
    for part in folder.glob(".*.part"):
        with contextlib.suppress(OSError):  # another run may have removed it
            if time.time() - part.stat().st_mtime > STALE:
                part.unlink()


def _not_writable(folder: Path, error: OSError, published: Published) -> DataError:
    return DataError(
        f"{published.name} cannot be saved in {folder} ({error.strerror or error}); set {CACHE} "
        f"to a folder where you may write, or {_elsewhere(published)}"
    )


def _elsewhere(published: Published) -> str:
    """Say how to do without a download; the end of a sentence."""
    return (
        f"set {DATA} to a folder that holds {published.folder}/ with the {_count(published)}, "
        f"or use digits, which needs nothing."
    )


def _count(published: Published) -> str:
    words = {1: "one file", 2: "two files", 3: "three files", 4: "four files"}
    return words.get(len(published.files), f"{len(published.files)} files")


def _tell(published: Published, text: str) -> None:
    print(f"{published.name}: {text}", file=sys.stderr)


def _candidates(folder: Path, name: str) -> tuple[Path, ...]:
    unpacked = name if name.endswith(".tar.gz") else name.removesuffix(".gz")
    return (folder / name, folder / unpacked)


def _present(folder: Path, name: str) -> bool:
    return any(os.path.exists(path) for path in _candidates(folder, name))
