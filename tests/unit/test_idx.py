"""Reading idx files, and the original MNIST and Fashion-MNIST where they are here."""

import gzip
import hashlib
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from data_sets import idx_bytes

import splitlab as sl
from splitlab.data import PUBLISHED, DataError, mnist
from splitlab.data.idx import MAX_BYTES, read_idx

NAMES = ("mnist", "fashion_mnist")
real_files = pytest.mark.skipif(
    not os.environ.get("SPLITLAB_DATA"),
    reason="SPLITLAB_DATA is not set: the original MNIST and Fashion-MNIST files are not here",
)


def storages(data):
    return [t.untyped_storage().data_ptr() for t in (data.x, data.y, data.block, data.row)]


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text and text.endswith(".")
    return text


@pytest.mark.parametrize("packed", [True, False])
def test_read_idx_reads_packed_and_unpacked_files(tmp_path, packed):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    path = tmp_path / ("a.gz" if packed else "a")
    path.write_bytes(gzip.compress(idx_bytes(array)) if packed else idx_bytes(array))
    assert np.array_equal(read_idx(path), array)
    digest = hashlib.md5(idx_bytes(array), usedforsecurity=False).hexdigest()
    assert np.array_equal(read_idx(path, md5=digest), array)


GOOD = idx_bytes(np.arange(2000) % 256)
PACKED = gzip.compress(GOOD)
FLIPPED = PACKED[:-6] + bytes([PACKED[-6] ^ 1]) + PACKED[-5:]  # in the stored checksum
HUGE = bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**31, 2**31, 2**31)
BAD_FILES = {
    "empty": (b"", "neither a gzip nor an idx file"),
    "cut short, packed": (PACKED[: len(PACKED) // 2], "damaged or cut short"),
    "cut before the checksum": (PACKED[:-4], "damaged or cut short"),
    "checksum": (FLIPPED, "damaged or cut short"),
    "bit flip": (PACKED[:15] + bytes([PACKED[15] ^ 255]) + PACKED[16:], "damaged|MD5|start like"),
    "cut short, unpacked": (GOOD[:-1], "is cut short"),
    "cut in the header": (GOOD[:6], "inside its header"),
    "cut in the magic": (GOOD[:3], "does not start like an idx file"),
    "too long": (GOOD + b"x", "longer than it should be"),
    "too long, packed": (gzip.compress(GOOD + b"x"), "longer than it should be"),
    "web page": (b"\n<!DOCTYPE html><html>Not found</html>", "is a web page"),
    "text": (b"404: Not Found", "neither a gzip nor an idx file"),
    "packed text": (gzip.compress(b"404: Not Found"), "does not start like an idx file"),
    "floats": (idx_bytes(np.zeros(4), kind=13), "values of type 0x0d"),
    "no dimensions": (b"\0\0\x08\0", "does not start like an idx file"),
    "huge": (HUGE, "which cannot be right"),
    "huge, packed": (gzip.compress(HUGE), "which cannot be right"),
}


@pytest.mark.parametrize("content, message", BAD_FILES.values(), ids=BAD_FILES)
def test_bad_files_are_refused_in_one_sentence(tmp_path, content, message):
    path = tmp_path / "train-labels-idx1-ubyte.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read_idx(path, md5="0" * 32)
    text = one_sentence(error)
    assert str(path) in text
    assert "download" in text


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(DataError, match="is missing; download it"):
        read_idx(tmp_path / "nothing.gz")
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path)


def test_content_that_parses_but_is_not_the_original_is_refused(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(GOOD)
    with pytest.raises(DataError, match=r"not the original file .*download it again") as error:
        read_idx(path, md5="0" * 32)
    one_sentence(error)


def test_no_header_makes_the_reader_take_more_than_its_limit(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(bytes([0, 0, 8, 1]) + struct.pack(">I", MAX_BYTES + 1))
    with pytest.raises(DataError, match="cannot be right"):
        read_idx(path)


# --- the original files ---------------------------------------------------------------------


def raw_folder(name):
    return Path(os.environ["SPLITLAB_DATA"]) / PUBLISHED[name].folder


@pytest.fixture(scope="module")
def original():
    return {name: getattr(sl.data, name)(channels=3) for name in NAMES}


TRAIN_COUNTS = {
    "mnist": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
    "fashion_mnist": [6000] * 10,
}
FIRST_LABELS = {
    "mnist": ([5, 0, 4, 1, 9, 2, 1, 3, 1, 4], [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]),
    "fashion_mnist": ([9, 0, 0, 3, 0, 2, 7, 2, 5, 5], [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]),
}


@real_files
@pytest.mark.parametrize("name", NAMES)
def test_original_files_have_their_published_labels(original, name):
    data = original[name]
    assert len(data) == 70_000
    assert data.shape == (3, 32, 32)
    assert torch.bincount(data.y[:60_000]).tolist() == TRAIN_COUNTS[name]
    assert data.y[:10].tolist() == FIRST_LABELS[name][0]
    assert data.y[60_000:60_010].tolist() == FIRST_LABELS[name][1]
    assert float(data.x[:, 0].min()) == -1.0
    assert float(data.x[:, 0].max()) == 1.0


@real_files
@pytest.mark.parametrize(
    "name, mean, sd", [("mnist", 0.1307, 0.3081), ("fashion_mnist", 0.2860, 0.3530)]
)
def test_original_pixels_have_their_published_mean(name, mean, sd):
    pixels = read_idx(raw_folder(name) / "train-images-idx3-ubyte.gz") / 255.0
    assert pixels.mean() == pytest.approx(mean, abs=5e-5)
    assert pixels.std() == pytest.approx(sd, abs=5e-5)


@real_files
@pytest.mark.parametrize("name", NAMES)
def test_original_images_are_resized_as_in_the_paper(original, name):
    raw = read_idx(raw_folder(name) / "t10k-images-idx3-ubyte.gz")[7].astype(np.float64)
    # Bilinear by hand: the centre of pixel i of 32 lies at (i + 1/2) 28/32 - 1/2 of the 28.
    at = np.clip((np.arange(32) + 0.5) * 28 / 32 - 0.5, 0, 27)
    low, weight = np.floor(at).astype(int), at - np.floor(at)
    high = np.minimum(low + 1, 27)
    rows = raw[low] * (1 - weight)[:, None] + raw[high] * weight[:, None]
    wanted = rows[:, low] * (1 - weight) + rows[:, high] * weight
    wanted = np.clip(wanted / 127.5 - 1, -1, 1)
    assert np.allclose(original[name].x[60_007].numpy(), wanted, atol=1e-5)


@real_files
@pytest.mark.parametrize("name", NAMES)
def test_original_parts_hold_no_picture_twice(original, name):
    private, public, referee = original[name].split(0)
    assert [len(p) for p in (private, public, referee)] == [30_000, 20_000, 20_000]
    hashes = [p.row_hashes() for p in (private, public, referee)]
    assert len(set().union(*hashes)) == 70_000
    private, public, _ = original[name].official_split()
    assert (len(private), len(public)) == (60_000, 10_000)


@real_files
def test_size_16_is_an_antialiased_reduction():
    data = mnist(size=16)
    assert data.shape == (1, 16, 16)
    full = mnist(size=28)
    # A reduction that looks at every pixel keeps the mean brightness of an image.
    means = [(d.x[:500].flatten(1).mean(1) + 1) for d in (data, full)]
    assert torch.allclose(*means, rtol=0.03)


PEAK = """
import re, torch, splitlab as sl
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
torch.nn.functional.interpolate(torch.rand(9, 1, 8, 8), size=16, mode="bilinear")
before = peak()
kept = {code}
print((peak() - before) / (70_000 * 32 * 32 * 4))
"""


@real_files
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak from /proc")
@pytest.mark.parametrize(
    "code",
    ["sl.data.mnist(channels=3)", "sl.paper.split('mnist', 0)", "sl.gpu.split('mnist', 0)"],
)
def test_the_peak_of_memory_is_little_more_than_one_copy(code):
    # Not getrusage: its peak starts from that of the process which started this one.
    result = subprocess.run(
        [sys.executable, "-c", PEAK.format(code=code)], capture_output=True, text=True, check=True
    )
    assert 0.85 <= float(result.stdout) < 1.5


@real_files
@pytest.mark.parametrize("profile", ["paper", "gpu", "tiny"])
@pytest.mark.parametrize("name", NAMES)
def test_parts_dealt_before_they_are_drawn_are_those_of_the_whole(profile, name):
    setting = sl.PROFILES[profile]
    whole = getattr(sl.data, name)(size=setting.size, channels=setting.channels)
    expected = whole.official_split() if profile == "paper" else whole.split(1)
    if limit := setting.private.get(name):
        expected = expected._replace(private=expected.private.subset(limit, seed=1))
    parts = setting.split(name, 1)
    assert len({p for part in parts if part for p in storages(part)}) == 4 * sum(map(bool, parts))
    for part, wanted in zip(parts, expected, strict=True):
        if wanted is None:
            assert part is None
            continue
        assert repr(part) == repr(wanted)
        assert part.x.stride() == wanted.x.stride()
        for field in ("x", "y", "block", "row"):
            assert torch.equal(getattr(part, field), getattr(wanted, field))
