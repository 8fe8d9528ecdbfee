"""Downloads from a local server: what comes is checked, what fails says so, nothing is cut short.

No test here names an address outside this machine.
"""

import contextlib
import dataclasses
import errno
import gzip
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import data_sets
import pytest
from data_sets import BY_HAND

import splitlab as sl
from splitlab.course import cli, data_command
from splitlab.data import PUBLISHED, DataError, download, published
from splitlab.data.download import fetch
from splitlab.data.idx import IdxFiles, load_idx
from splitlab.data.published import Pin, Published

ROOT = os.environ.get(published.DATA)  # before tests change it
IMAGES = "train-images-idx3-ubyte.gz"  # the first file that is asked for
LABELS = "train-labels-idx1-ubyte.gz"


def contents():
    """Four files, smaller than those of `data_sets`; the images come in several chunks."""
    arrays = {name: array[: len(array) // 15] for name, array in data_sets.idx_arrays().items()}
    return {f"{n}.gz": gzip.compress(data_sets.idx_bytes(a), mtime=0) for n, a in arrays.items()}


FILES = contents()
DOWNLOADED = {name: small for name, small in data_sets.SMALL.items() if name not in BY_HAND}


class Server(ThreadingHTTPServer):
    """Serves `files` at any folder; `answers` replaces what single paths send."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = FILES
        self.answers = {}
        self.requests = []
        self.encodings = set()
        self.release = threading.Event()

    def mirror(self, folder):
        return f"http://127.0.0.1:{self.server_address[1]}/{folder}/"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        self.server.encodings.add(self.headers["Accept-Encoding"])
        body = self.server.files[self.path.rsplit("/", 1)[1]]
        with contextlib.suppress(ConnectionError):  # a client that was killed
            self.server.answers.get(self.path, good)(self, body)

    def log_message(self, *args):
        """Say nothing."""


def send(handler, body, status=200, length=None):
    handler.send_response(status)
    if length is not None:
        handler.send_header("Content-Length", str(length))
    handler.end_headers()
    handler.wfile.write(body)
    handler.wfile.flush()


def good(handler, body):
    send(handler, body, length=len(body))


def not_found(handler, body):
    send(handler, b"<html>no such file</html>", status=404)


def web_page(handler, body):
    page = b"\n<!DOCTYPE html><html>Please log in to this network.</html>"
    send(handler, page, length=len(page))


def cut(handler, body):
    send(handler, body[: len(body) // 2], length=len(body))


def cut_silently(handler, body):
    send(handler, body[: len(body) // 2])


def other(handler, body):
    send(handler, bytes(len(body)), length=len(body))


def stall(handler, body):
    send(handler, body[: len(body) // 2], length=len(body))
    handler.server.release.wait(120)


def silent(handler, body):
    handler.server.release.wait(120)


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.release.set()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def online(tmp_path, monkeypatch):
    """Downloads are allowed, and go to tmp_path/cache; a file of CIFAR-10 is small."""
    for name in (download.OFFLINE, published.DATA):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(published.CACHE, str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(sys.modules["splitlab.data.cifar10"], "PER_FILE", data_sets.PER_FILE)


@pytest.fixture
def files(server):
    """The smaller MNIST, at the server's folders a and b."""
    return IdxFiles(
        name="mnist",
        folder="MNIST/raw",
        mirrors=(server.mirror("a"), server.mirror("b")),
        files={n: Pin(len(b), hashlib.sha256(b).hexdigest()) for n, b in FILES.items()},
        terms="free for tests.",
        classes=tuple("0123456789"),
        md5={
            n.removesuffix(".gz"): hashlib.md5(gzip.decompress(b)).hexdigest()
            for n, b in FILES.items()
        },
    )


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache" / "MNIST" / "raw"


def held(folder):
    """Everything in a folder: name -> content."""
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


# --- what should happen ---------------------------------------------------------------------


def test_a_download_shows_progress_and_terms_and_is_complete(
    files, server, cache, capsys, monkeypatch
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert fetch(files) == cache
    assert held(cache) == FILES
    assert server.requests == [f"/a/{name}" for name in FILES]
    assert server.encodings == {"identity"}
    err = capsys.readouterr().err
    for name in FILES:
        assert f"{name}: 100%" in err
    assert err.count("free for tests.") == 1
    assert str(cache) in err


def test_where_stderr_is_no_terminal_there_is_no_bar(files, capsys):
    fetch(files)
    err = capsys.readouterr().err
    assert "free for tests." in err and "%" not in err and "\r" not in err


def test_the_cache_spares_the_network_and_says_nothing(files, server, cache, capsys):
    fetch(files)
    server.requests.clear()
    capsys.readouterr()
    assert fetch(files) == cache
    assert server.requests == []
    assert capsys.readouterr() == ("", "")


def test_only_what_is_missing_is_downloaded(files, server, cache):
    fetch(files)
    server.requests.clear()
    (cache / LABELS).unlink()
    fetch(files)
    assert server.requests == [f"/a/{LABELS}"]
    assert held(cache) == FILES


@pytest.mark.parametrize("small", DOWNLOADED.values(), ids=DOWNLOADED)
def test_every_loader_downloads_what_it_lacks(small, server, tmp_path, monkeypatch, capsys):
    server.files = small.content()
    first = next(iter(server.files))
    described = data_sets.publish(small, (server.mirror("a"), server.mirror("b")))
    data_sets.install(small, described, monkeypatch)
    cache = tmp_path / "cache" / small.folder
    for answer, reason in ((web_page, "sent a web page"), (other, "sent another file")):
        server.answers = {f"/{folder}/{first}": answer for folder in "ab"}
        with pytest.raises(DataError, match=f"{first} could not be downloaded .*{reason}") as error:
            small.load(size=8)
        one_sentence(error)
        assert held(cache) == {}
    server.answers.clear()
    capsys.readouterr()
    assert small.load(size=8).y.tolist() == small.labels
    assert capsys.readouterr().err.count("free for tests.") == len(described)
    assert held(cache) == server.files
    server.requests.clear()
    damage(cache / first)
    for _ in range(2):
        assert len(small.load(size=8, verify=False)) == len(small.labels)
        assert server.requests == [f"/a/{first}"] and held(cache) == server.files
    err = capsys.readouterr().err
    assert err.count(f"{cache / first} is damaged: downloading it again") == 1


def test_the_cache_follows_the_variable_and_the_platform(monkeypatch, tmp_path):
    monkeypatch.setenv(published.CACHE, str(tmp_path))
    assert published.cache_folder() == tmp_path
    monkeypatch.setenv(published.CACHE, "~/here")
    assert published.cache_folder() == Path.home() / "here"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(published.CACHE, "below/../here")
    assert published.cache_folder() == tmp_path / "here"
    monkeypatch.delenv(published.CACHE)
    assert published.cache_folder().is_absolute()
    assert "splitlab" in published.cache_folder().parts


def test_files_can_be_read_by_those_whom_the_umask_allows(files, cache):
    before = os.umask(0o022)
    try:
        fetch(files)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in cache.iterdir()} == {0o644}


# --- mirrors that fail ----------------------------------------------------------------------

FAILURES = {
    "404": (not_found, "answered 404"),
    "web page": (web_page, "sent a web page"),
    "cut short": (cut, "broke off after|sent only"),  # older urllib3 does not count the bytes
    "cut short, no length": (cut_silently, "sent only [0-9,]+ of [0-9,]+ bytes"),
    "another file": (other, "sent another file"),
    "stalled": (stall, "broke off after [0-9,]+ of"),
    "silent": (silent, "did not answer in time"),
    "refused": (None, "cannot be reached"),
}


def closed_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}/"


@pytest.fixture(params=FAILURES.values(), ids=FAILURES)
def failing(request, files, server, monkeypatch):
    """(data set, what the message should say): the mirror a, or both by `both=True`, fails."""
    answer, reason = request.param
    if answer in (stall, silent):
        monkeypatch.setattr(download, "TIMEOUT", (5.0, 1.5))

    def fail(both):
        if answer is None:
            mirrors = (closed_port(), closed_port() if both else files.mirrors[1])
            return dataclasses.replace(files, mirrors=mirrors)
        for folder in "ab" if both else "a":
            server.answers[f"/{folder}/{IMAGES}"] = answer
        return files

    return fail, reason


def test_the_next_mirror_is_asked(failing, server, cache, capsys):
    fail, reason = failing
    fetch(fail(both=False))
    assert held(cache) == FILES
    # The mirror that worked is asked first for the other files.
    assert [p for p in server.requests if p != f"/a/{IMAGES}"] == [f"/b/{n}" for n in FILES]
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mnist:")]
    assert len(lines) == 2
    assert re.search(reason, lines[1])


def test_when_all_mirrors_fail_one_sentence_says_so(failing, server, cache):
    fail, reason = failing
    files = fail(both=True)
    with pytest.raises(DataError, match=f"({reason}).*({reason})") as error:
        fetch(files)
    text = one_sentence(error)
    assert IMAGES in text
    assert all(mirror in text for mirror in files.mirrors)
    assert "SPLITLAB_DATA" in text and "digits" in text
    assert held(cache) == {}


def test_what_was_complete_stays_when_a_later_file_fails(files, server, cache):
    server.answers |= {f"/{folder}/{LABELS}": not_found for folder in "ab"}
    with pytest.raises(DataError, match=LABELS):
        fetch(files)
    assert held(cache) == {IMAGES: FILES[IMAGES]}
    server.answers.clear()
    server.requests.clear()
    fetch(files)
    assert f"/a/{IMAGES}" not in server.requests
    assert held(cache) == FILES


# --- killed, and two at once ----------------------------------------------------------------

CHILD = """
import json, sys
from splitlab.data import download, published
download.TIMEOUT = (60, 300)
fields = json.loads(sys.argv[1])
fields["files"] = {name: published.Pin(*pin) for name, pin in fields["files"].items()}
download.fetch(published.Published(**fields))
"""


def start(files):
    names = [field.name for field in dataclasses.fields(Published)]
    fields = json.dumps({name: getattr(files, name) for name in names})
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, fields], stderr=subprocess.PIPE, text=True
    )


def test_a_killed_download_leaves_nothing_that_is_taken_for_the_file(files, server, cache):
    server.answers[f"/a/{IMAGES}"] = stall
    child = start(files)
    try:
        deadline = time.monotonic() + 120
        while not any(held(cache).values()):
            assert child.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        child.kill()
        child.communicate()
    (left,) = held(cache)
    assert left.endswith(".part")
    assert published.locate(files) is None

    server.answers.clear()
    fetch(files)
    assert {name: held(cache)[name] for name in FILES} == FILES


def test_what_killed_downloads_left_goes_when_it_is_old(files, cache):
    cache.mkdir(parents=True)
    old, new = cache / f".{IMAGES}.1-a.part", cache / f".{IMAGES}.2-b.part"
    old.touch()
    new.touch()  # it may belong to another run that is downloading now
    os.utime(old, (0, 0))
    fetch(files)
    assert set(held(cache)) == {*FILES, new.name}


def test_two_processes_at_once_both_succeed(files, server, cache):
    seen = []
    # Nobody gets a whole file before both have half of it.
    both = threading.Barrier(2, action=lambda: seen.extend(held(cache)))

    def slow(handler, body):
        half = len(body) // 2
        send(handler, body[:half], length=len(body))
        both.wait(120)
        handler.wfile.write(body[half:])

    server.answers[f"/a/{IMAGES}"] = slow
    children = [start(files), start(files)]
    errors = [child.communicate(timeout=240)[1] for child in children]
    assert [child.returncode for child in children] == [0, 0], errors
    assert len(seen) == 2 and all(name.endswith(".part") for name in seen)
    assert server.requests.count(f"/a/{IMAGES}") == 2
    assert held(cache) == FILES


# --- a cache that cannot be written ---------------------------------------------------------


def forbid(monkeypatch, where):
    """Make one step of a download fail as on a read-only or full disk (root ignores modes)."""
    if where == "mkdir":

        def mkdir(self, *args, **kwargs):
            raise OSError(errno.EROFS, "Read-only file system")

        monkeypatch.setattr(Path, "mkdir", mkdir)
    elif where == "open":
        usual = Path.open

        def opened(self, mode="r", *args, **kwargs):
            if "x" in mode:
                raise PermissionError(errno.EACCES, "Permission denied")
            return usual(self, mode, *args, **kwargs)

        monkeypatch.setattr(Path, "open", opened)
    elif where == "write":
        usual = Path.open

        def onto_full_disk(self, mode="r", *args, **kwargs):
            if "x" not in mode:
                return usual(self, mode, *args, **kwargs)
            usual(self, mode).close()
            return open("/dev/full", "wb")

        monkeypatch.setattr(Path, "open", onto_full_disk)
    elif where == "fsync":

        def fsync(descriptor):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", fsync)
    else:

        def replace(source, target):
            raise PermissionError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "replace", replace)


STEPS = {
    "mkdir": "Read-only file system",
    "open": "Permission denied",
    "write": "No space left on device.*make room, or set SPLITLAB_CACHE to a folder that has room",
    "fsync": "No space left on device",
    "replace": "Operation not permitted",
}


@pytest.mark.parametrize("where", STEPS)
def test_a_cache_that_cannot_be_written_is_named(files, cache, monkeypatch, where):
    with monkeypatch.context() as patch:
        forbid(patch, where)
        with pytest.raises(DataError, match=STEPS[where]) as error:
            fetch(files)
    text = one_sentence(error)
    assert str(cache) in text and "set SPLITLAB_CACHE" in text
    assert held(cache) == {}
    fetch(files)
    assert held(cache) == FILES


def test_a_cache_below_a_file_is_named(files, server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv(published.CACHE, str(tmp_path / "file" / "cache"))
    with pytest.raises(DataError, match=r"cannot be saved in .*set SPLITLAB_CACHE") as error:
        fetch(files)
    one_sentence(error)
    assert (tmp_path / "file").read_text() == "mine"
    assert server.requests == []


def test_a_complete_cache_is_only_read(files, cache, monkeypatch):
    fetch(files)
    for where in STEPS:
        forbid(monkeypatch, where)
    assert len(load_idx(files, 28, 1, None, True)) == 466


# --- what the environment says wrongly ------------------------------------------------------


@pytest.mark.parametrize("variable", download.BUNDLES)
def test_certificates_that_are_not_there_are_named(
    files, server, cache, tmp_path, monkeypatch, variable
):
    secure = [mirror.replace("http:", "https:") for mirror in files.mirrors]
    for other in download.BUNDLES:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(variable, "/no/such/company.pem")
    with pytest.raises(DataError, match=f"{variable} names the certificates /no/such/") as error:
        fetch(dataclasses.replace(files, mirrors=tuple(secure)))
    assert "SPLITLAB_CACHE" not in one_sentence(error)
    assert not cache.exists() and server.requests == []
    stale = tmp_path / "stale.pem"
    stale.write_text("no certificate")
    monkeypatch.setenv(variable, str(stale))
    with pytest.raises(DataError, match=rf"no certificate that {stale} \({variable}\) trusts"):
        fetch(dataclasses.replace(files, mirrors=tuple(secure)))
    monkeypatch.setenv(variable, "/no/such/company.pem")
    fetch(files)  # without https nobody looks at it


@pytest.mark.parametrize(
    ("variable", "proxy"),
    [
        ("http_proxy", "http://me:secret@{closed}"),
        ("HTTP_PROXY", "{closed}"),
        ("all_proxy", "http://"),
        ("http_proxy", "http://[::1"),
        ("http_proxy", "socks9://x:1"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_named_with_its_variable(
    files, server, monkeypatch, variable, proxy
):
    for low in ("http_proxy", "all_proxy", "no_proxy"):
        for name in (low, low.upper()):
            monkeypatch.delenv(name, raising=False)
    closed = closed_port().split("/")[2]
    monkeypatch.setenv(variable, proxy.format(closed=closed))
    with pytest.raises(DataError, match=rf"the network and the proxy .*\({variable}\)") as error:
        fetch(files)
    text = one_sentence(error)
    assert "secret" not in text
    assert (closed in text) == ("closed" in proxy)
    assert server.requests == []


@pytest.mark.parametrize(
    ("named", "shown"),
    [
        ("/nowhere", "SPLITLAB_DATA names /nowhere, which is not a folder; "),
        (
            "data",
            r"SPLITLAB_DATA names data, which is not a folder \(looked for at {here}/data\); ",
        ),
        (
            "~no.one/data",
            r"names ~no.one/data, which is not a folder \(looked for at {here}/~no.one",
        ),
    ],
)
def test_a_data_folder_that_is_none_is_named_with_where_it_was_looked_for(
    files, cache, tmp_path, monkeypatch, named, shown
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(published.DATA, named)
    end = "correct it, or unset it to have mnist downloaded."
    with pytest.raises(DataError, match=f"{shown.format(here=tmp_path)}.*{end}"):
        load_idx(files, 28, 1, None, True)
    cache.mkdir(parents=True)
    (cache / IMAGES).write_bytes(b"")
    with pytest.raises(DataError, match=f"correct it, or unset it to use {cache}"):
        load_idx(files, 28, 1, None, True)


def test_a_relative_data_folder_is_looked_for_from_here(files, tmp_path, monkeypatch):
    folder = tmp_path / "mine" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(published.DATA, "mine")
    assert published.folder_from(published.DATA) == tmp_path / "mine"
    assert published.locate(files) == (published.DATA, folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(published.DATA, "~/mine")
    assert published.locate(files) == (published.DATA, folder)
    monkeypatch.setenv(published.DATA, "")
    assert published.folder_from(published.DATA) is None


# --- offline --------------------------------------------------------------------------------


def test_offline_asks_nobody_and_says_what_to_do(files, server, cache, monkeypatch, capsys):
    monkeypatch.setenv(download.OFFLINE, "1")
    with pytest.raises(DataError, match=f"{IMAGES} is missing.*SPLITLAB_OFFLINE forbids") as error:
        fetch(files)
    text = one_sentence(error)
    assert "SPLITLAB_DATA" in text and "digits" in text
    assert server.requests == []
    assert not cache.exists()
    assert capsys.readouterr().err == ""


def test_offline_is_content_with_the_cache(files, cache, monkeypatch):
    monkeypatch.setenv(download.OFFLINE, "0")  # not a yes
    fetch(files)
    monkeypatch.setenv(download.OFFLINE, "1")
    assert fetch(files) == cache
    (cache / LABELS).write_bytes(b"damaged")
    with pytest.raises(DataError, match=f"{LABELS} is damaged") as error:
        fetch(files)
    one_sentence(error)
    assert held(cache) == FILES | {LABELS: b"damaged"}


# --- damaged files --------------------------------------------------------------------------


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return bytes(content)


def test_a_damaged_file_in_the_cache_is_never_used(files, server, cache):
    fetch(files)
    damage(cache / IMAGES)
    server.answers |= {f"/{folder}/{IMAGES}": not_found for folder in "ab"}
    with pytest.raises(DataError, match="could not be downloaded"):
        load_idx(files, 28, 1, None, False)


@pytest.mark.parametrize("how", ["argument", "variable"])
def test_a_damaged_file_in_a_named_folder_is_an_error_and_stays(
    files, server, cache, tmp_path, monkeypatch, how
):
    folder = tmp_path / "mine" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    monkeypatch.setenv(published.DATA, str(tmp_path / "mine"))
    argument = tmp_path / "mine" if how == "argument" else None
    assert len(load_idx(files, 28, 1, argument, True)) == 466
    damaged = damage(folder / IMAGES)
    with pytest.raises(DataError, match=r"damaged|not the original") as error:
        load_idx(files, 28, 1, argument, True)
    assert str(folder / IMAGES) in one_sentence(error)
    (folder / LABELS).unlink()
    with pytest.raises(DataError, match="is missing") as error:
        load_idx(files, 28, 1, argument, True)
    assert str(folder / LABELS) in one_sentence(error)
    assert held(folder) == {n: b for n, b in FILES.items() if n != LABELS} | {IMAGES: damaged}
    assert server.requests == []
    assert not cache.exists()


def test_a_data_folder_with_other_sets_does_not_stand_in_the_way(
    files, cache, tmp_path, monkeypatch, capsys
):
    other_set = tmp_path / "mine" / "FashionMNIST"
    other_set.mkdir(parents=True)
    monkeypatch.setenv(published.DATA, str(tmp_path / "mine"))
    assert len(load_idx(files, 28, 1, None, True)) == 466
    assert held(cache) == FILES
    assert list((tmp_path / "mine").iterdir()) == [other_set]
    assert f"{tmp_path / 'mine'} (SPLITLAB_DATA) does not hold it" in capsys.readouterr().err


def test_the_folder_argument_is_the_only_place_that_is_looked_at(files, server, tmp_path):
    fetch(files)
    server.requests.clear()
    with pytest.raises(DataError, match="put the four files from") as error:
        load_idx(files, 28, 1, tmp_path, True)
    one_sentence(error)
    assert server.requests == []


# --- the shell ------------------------------------------------------------------------------


@pytest.fixture
def shell(files, monkeypatch, capsys):
    """Run `splitlab data ...` on the small data set; return status, stdout and stderr."""
    monkeypatch.setitem(sl.data.PUBLISHED, "mnist", files)

    def run(*arguments):
        status = cli.main(["data", *arguments])
        return status, *capsys.readouterr()

    return run


def line_of(out, name):
    (line,) = [line for line in out.splitlines() if line.split()[0] == name]
    return line


def test_list_says_where_each_set_is(shell, cache, tmp_path, monkeypatch):
    status, out, err = shell("list")
    assert (status, err) == (0, "")
    assert "bundled with scikit-learn" in line_of(out, "digits")
    assert "not here; `splitlab data get mnist` downloads 0.4 MB" in line_of(out, "mnist")
    assert "downloads 30.9 MB" in line_of(out, "fashion_mnist")

    status, out, err = shell("get", "mnist")
    assert status == 0 and held(cache) == FILES
    assert out.count("\n") == 1 and f"cache: {cache}" in out and "Terms:" in err
    assert f"cache: {cache}" in line_of(shell("list")[1], "mnist")
    (cache / LABELS).unlink()
    assert f"(incomplete: {LABELS} missing)" in line_of(shell("list")[1], "mnist")

    folder = tmp_path / "mine" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name.removesuffix(".gz")).write_bytes(gzip.decompress(content))
    monkeypatch.setenv(published.DATA, str(tmp_path / "mine"))
    assert line_of(shell("list")[1], "mnist").endswith(f"SPLITLAB_DATA: {folder}")


def test_list_and_check_go_on_where_the_data_folder_is_none(shell, monkeypatch):
    monkeypatch.setenv(published.DATA, "/nowhere")
    for action, expected in (("list", 0), ("check", 1)):
        status, out, err = shell(action)
        assert (status, err) == (expected, "")
        assert "bundled with scikit-learn" in line_of(out, "digits")
        assert "made by the program" in line_of(out, "drawn_faces")
        for name in sl.data.PUBLISHED:
            assert "SPLITLAB_DATA names /nowhere, which is not a folder" in line_of(out, name)
        assert out.count("\n") == len(data_command.DATA_SETS)
    status, out, err = shell("check", "mnist")
    assert (status, out) == (2, "") and err.count("\n") == 1


def test_get_downloads_nothing_that_is_here(shell, server, tmp_path, monkeypatch):
    assert shell("get", "digits")[:2] == (0, f"{'digits':<20} bundled with scikit-learn\n")
    folder = tmp_path / "mine" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    monkeypatch.setenv(published.DATA, str(tmp_path / "mine"))
    status, out, _ = shell("get", "mnist")
    assert status == 0 and f"SPLITLAB_DATA: {folder}" in out
    assert server.requests == []
    (folder / LABELS).unlink()
    status, out, err = shell("get", "mnist")
    assert (status, out) == (2, "") and f"{LABELS} is missing" in err


def test_check_says_what_is_wrong(shell, server, cache):
    status, out, err = shell("check", "mnist")
    assert (status, out) == (2, "") and "`splitlab data get mnist`" in err
    status, out, err = shell("check")
    assert (status, err) == (0, "") and "not here" in line_of(out, "mnist")

    shell("get", "mnist")
    status, out, _ = shell("check")
    assert status == 0 and line_of(out, "mnist").endswith(f"{cache}: the original files")

    damaged = damage(cache / IMAGES)
    (cache / LABELS).unlink()
    server.requests.clear()
    status, out, _ = shell("check", "mnist")
    assert status == 1
    assert f"{cache / IMAGES} " in out and "train-labels-idx1-ubyte is missing" in out
    assert "the original files" not in out
    assert "downloads these files again" in out
    assert (cache / IMAGES).read_bytes() == damaged and server.requests == []

    assert shell("get", "mnist")[0] == 0
    assert shell("check", "mnist")[0] == 0


def test_get_without_a_network_is_one_sentence(shell, files, server):
    server.answers |= {f"/{folder}/{IMAGES}": not_found for folder in "ab"}
    status, out, err = shell("get", "mnist")
    assert (status, out) == (2, "")
    assert err.splitlines()[-1].startswith("splitlab: mnist: ")
    assert "Traceback" not in err


def test_an_unknown_set_shows_the_known_ones(capsys):
    with pytest.raises(SystemExit) as status:
        cli.main(["data", "get", "faces"])
    assert status.value.code == 2
    assert "fashion_mnist" in capsys.readouterr().err


# --- what is published ----------------------------------------------------------------------


IDX = {name: files for name, files in PUBLISHED.items() if isinstance(files, IdxFiles)}


@pytest.mark.parametrize("published", IDX.values(), ids=IDX)
def test_each_idx_set_has_two_mirrors_and_a_folder_of_its_own(published):
    hosts = {mirror.split("/")[2] for mirror in published.mirrors}
    assert len(hosts) == len(published.mirrors) == 2
    assert {name.removesuffix(".gz") for name in published.files} == set(published.md5)
    assert [other.folder for other in PUBLISHED.values()].count(published.folder) == 1


@pytest.mark.parametrize("published", PUBLISHED.values(), ids=PUBLISHED)
def test_each_set_says_where_it_is_published_and_its_terms(published):
    assert bool(published.mirrors) != bool(published.by_hand)
    assert all(mirror.endswith("/") for mirror in published.mirrors)
    assert published.terms.endswith(".") and not published.by_hand.endswith(".")
    assert data_command.DATA_SETS[0] == "digits" and published.name in data_command.DATA_SETS


def test_no_two_sets_share_a_file():
    places = [(files.folder, name) for files in PUBLISHED.values() for name in files.files]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("published", PUBLISHED.values(), ids=PUBLISHED)
def test_the_pins_are_those_of_the_original_files(published):
    folder = Path(ROOT or "nowhere") / published.folder
    if missing := [name for name in published.files if not (folder / name).is_file()]:
        pytest.skip(f"SPLITLAB_DATA has no {', '.join(missing)}: the originals are not here")
    faults = [published.fault(name, folder / name) for name in published.files]
    assert faults == [None] * len(faults)
