"""Downloading the published files of a data set into the cache.

What neither a named folder nor the cache has (`splitlab.data.published`) is downloaded, into the
cache. Folders that somebody has named are read and never written.

A file in the cache is complete or absent. A download goes into a file of its own beside it, is
compared with its checksum and renamed, which is one step: a run that is killed leaves at most a
`.part` file, which nothing reads, and two runs that download at once write the same bytes twice.
"""

import contextlib
import errno
import os
import secrets
import sys
import time
from pathlib import Path
from typing import BinaryIO

from splitlab.data.errors import DataError
from splitlab.data.published import (
    CACHE,
    DATA,
    Pin,
    Published,
    cache_folder,
    count,
    folder_from,
    megabytes,
    missing,
)

OFFLINE = "SPLITLAB_OFFLINE"
BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")  # as requests reads them, the first one first

TIMEOUT = (10.0, 30.0)  # seconds to connect, and to wait for more bytes
CHUNK = 2**16
BAR = "{l_bar}{bar}| {n_fmt}B/{total_fmt}B"  # no speed: pooch restarts the bar's clock at the end
STALE = 3600  # seconds without a write after which a .part file belongs to nobody any more


def fetch(published: Published) -> Path:
    """Make sure that the cache holds a data set, and download the files that are missing.

    Files that are there are compared with their checksum, and a damaged one is downloaded again;
    where all are right, nothing is written and nothing is asked of the network. What happens is
    told on stderr, with the terms of use. Files that a program may not fetch are only looked for.

    Args:
        published: The data set.

    Returns:
        The data set's folder in the cache; every file that was downloaded has its checksum.

    Raises:
        DataError: If no mirror gave the right file, if the cache cannot be written, if
            SPLITLAB_OFFLINE is set and a file is missing or damaged, if a variable names a file of
            certificates that is not there, or if a file is missing that somebody has to get by
            hand; the message then says how.
    """
    folder = cache_folder() / published.folder
    if published.by_hand:
        if lacking := missing(published, folder):
            raise DataError(
                f"{published.name}: {', '.join(lacking)} must be downloaded by hand: "
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
            f"and {OFFLINE} forbids downloading it; unset it, or {_elsewhere(published)}"
        )
    _have_certificates(published)
    _make_ready(folder, published)
    for name in damaged:
        _tell(published, f"{folder / name} is damaged: downloading it again.")
    root = folder_from(DATA)
    _tell(
        published,
        f"downloading {megabytes(published, wanted)} to {folder}"
        f"{f', because {root} ({DATA}) does not hold it' if root else ''}. "
        f"Terms: {published.terms}",
    )
    _remember_terms(published)
    mirrors = list(published.mirrors)
    for name in wanted:
        worked = _fetch_file(name, mirrors, folder, published)
        # A mirror that cannot be reached costs a wait: the next file asks the one that worked.
        mirrors.sort(key=lambda mirror: mirror != worked)
    return folder


def show_terms(published: Published) -> None:
    """Show the terms of use of a data set on stderr, once for each cache folder.

    Where the cache cannot be written, they are shown again next time.

    Args:
        published: The data set.
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
        f"check the network{_and_proxy(mirrors[0])}, or {_elsewhere(published)}"
    )


def _transfer(url: str, part: Path, name: str, published: Published) -> str | None:
    """Download `url` to `part`; return what was wrong with the mirror's answer, or None.

    Raises:
        OSError: If `part` cannot be written.
    """
    import pooch
    from tqdm import tqdm

    pin = published.files[name]
    with (
        part.open("xb") as file,
        # Never None: pooch asks whether there is a bar, and tqdm without a total cannot
        # answer. pooch then puts the size that the server states in its place.
        tqdm(
            desc=name,
            total=pin.size or 1,
            unit="B",
            unit_scale=True,
            bar_format=BAR,
            disable=None,  # where stderr is no terminal
        ) as bar,
    ):
        download = pooch.HTTPDownloader(
            progressbar=bar,
            chunk_size=CHUNK,
            timeout=TIMEOUT,
            # The file as it is, not packed once more on the way: the bar counts its own bytes.
            headers={"Accept-Encoding": "identity"},
        )
        try:
            download(url, _Written(file), None)
        except _WriteFailed as error:
            raise error.cause from None
        except (OSError, ValueError) as error:  # ValueError: urllib3 cannot read a proxy's address
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
        bundle = _bundle()
        trusting = f"{os.environ[bundle]} ({bundle})" if bundle else "this machine"
        return f"has no certificate that {trusting} trusts"
    if isinstance(error, requests.ConnectionError):
        return "cannot be reached"
    return f"failed with {type(error).__name__}"


class _WriteFailed(Exception):
    """An OSError from the disk; requests raises other OSErrors, from the network."""

    def __init__(self, cause: OSError) -> None:
        self.cause = cause


class _Written:
    """A file whose write errors can be distinguished from transfer errors."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def write(self, content: bytes) -> None:
        try:
            self.file.write(content)
        except OSError as error:
            raise _WriteFailed(error) from error

    def flush(self) -> None:
        """Do nothing: the file is flushed once, when it is complete."""


def _bundle() -> str | None:
    """Return the variable that names the certificates to trust; None where there is none."""
    return next((variable for variable in BUNDLES if os.environ.get(variable)), None)


def _have_certificates(published: Published) -> None:
    """Refuse to contact a mirror if a variable names certificates that do not exist."""
    variable = _bundle()
    if variable is None or not any(url.startswith("https:") for url in published.mirrors):
        return
    if not os.path.exists(os.environ[variable]):
        raise DataError(
            f"{published.name} cannot be downloaded: {variable} names the certificates "
            f"{os.environ[variable]}, which are not there; correct it or unset it, or "
            f"{_elsewhere(published)}"
        )


def _and_proxy(url: str) -> str:
    """Name the proxy of a request to `url`, if any, as part of a sentence.

    Its address is shown without the password that it may hold.
    """
    import requests

    proxy = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
    if not proxy:
        return ""
    host = proxy.rpartition("@")[2].rpartition("://")[2]
    names = [f"{url.partition(':')[0]}_proxy", "all_proxy"]
    known = [name for low in names for name in (low, low.upper()) if os.environ.get(name) == proxy]
    source = known[0] if known else "the system's settings"
    return f" and the proxy {host} ({source})"


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
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    do, with_ = ("make room, or set", "has room") if full else ("set", "you may write to")
    return DataError(
        f"{published.name} cannot be saved in {folder} ({error.strerror or error}); {do} {CACHE} "
        f"to a folder that {with_}, or {_elsewhere(published)}"
    )


def _elsewhere(published: Published) -> str:
    """Say how to do without a download; the end of a sentence."""
    return (
        f"set {DATA} to a folder that holds {published.folder}/ with the {count(published)}, "
        f"or use digits, which needs nothing."
    )


def _tell(published: Published, text: str) -> None:
    print(f"{published.name}: {text}", file=sys.stderr)
