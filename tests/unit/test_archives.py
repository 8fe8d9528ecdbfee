"""Reading archives and pictures, and the original ORL faces and Omniglot where they are here."""

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from data_sets import encoded, zipped
from PIL import Image

from splitlab.data import DataError, archives, omniglot, orl_faces
from splitlab.data.archives import Zip, spread, stack
from splitlab.data.orl import _pictures


def original(*names):
    """Skip a test where the original archives are not below SPLITLAB_DATA."""
    root = Path(os.environ.get("SPLITLAB_DATA") or "nowhere")
    missing = [name for name in names if not (root / name).is_file()]
    reason = f"SPLITLAB_DATA has no {', '.join(missing)}: the original archive is not here"
    return pytest.mark.skipif(bool(missing), reason=reason)


real_orl = original("ATT/att_faces.zip")
real_omniglot = original(
    "omniglot-py/images_background_small1.zip", "omniglot-py/images_background_small2.zip"
)


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


def write_zip(path, members):
    """Write a zip archive of (name, content) pairs."""
    path.write_bytes(zipped(dict(members)))
    return path


# --- the archives ---------------------------------------------------------------------------


def small_zip(path):
    return write_zip(path, [("a/1.txt", b"one"), ("a/2.txt", b"two" * 100)])


def test_members_are_found_below_any_top_folder(tmp_path):
    members = [
        ("top/s1/2.txt", b"x"),
        ("s2/3.txt", b"y"),
        ("s2/3.txt.bak", b""),
        ("xs2/4.txt", b""),
    ]
    with Zip(write_zip(tmp_path / "a.zip", members)) as archive:
        assert archive.find(r"s(\d)/(\d)\.txt") == {
            ("1", "2"): "top/s1/2.txt",
            ("2", "3"): "s2/3.txt",
        }
        assert archive.read("s2/3.txt") == b"y"


LEADING_OUT = ["../x.txt", "a/../../x.txt", "/etc/x.txt", "..\\x.txt", "C:/x.txt", "C:\\x.txt"]


@pytest.mark.parametrize("name", LEADING_OUT)
def test_an_archive_with_a_name_that_leads_out_of_it_is_refused(tmp_path, name):
    path = write_zip(tmp_path / "a.zip", [("good.txt", b"good"), (name, b"bad")])
    with pytest.raises(DataError, match="which leads out of the archive") as error:
        Zip(path)
    one_sentence(error)
    assert list(tmp_path.iterdir()) == [path]


BAD_STARTS = {
    "empty": (b"", "is not a zip archive"),
    "wrong magic": (b"Rar!" + bytes(600), "is not a zip archive"),
    "web page": (b"\n <!DOCTYPE html><html>Quota exceeded</html>", "is a web page"),
    "only the magic": (b"PK\x03\x04", "damaged or cut short"),
}


@pytest.mark.parametrize("content, message", BAD_STARTS.values(), ids=BAD_STARTS)
def test_what_is_no_zip_archive_is_refused(tmp_path, content, message):
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        Zip(path)
    assert str(path) in one_sentence(error)


@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_zip_archive_that_is_cut_short_is_refused(tmp_path, part):
    path = small_zip(tmp_path / "a.zip")
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(DataError, match="damaged or cut short") as error:
        Zip(path)
    one_sentence(error)


def test_a_missing_archive_and_a_folder_are_refused(tmp_path):
    with pytest.raises(DataError, match="is missing; download it"):
        Zip(tmp_path / "nothing.zip")
    with pytest.raises(DataError, match="cannot be read"):
        Zip(tmp_path)


def test_a_damaged_member_is_refused(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", b"content")
    path.write_bytes(path.read_bytes().replace(b"content", b"c0ntent"))
    with Zip(path) as archive, pytest.raises(DataError, match=r"a\.txt is damaged") as error:
        archive.read("a.txt")
    one_sentence(error)


def test_a_member_locked_with_a_password_is_refused(tmp_path):
    path = small_zip(tmp_path / "a.zip")
    content = bytearray(path.read_bytes())
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flags, set to "locked"
        content[content.index(magic) + offset] |= 1
    path.write_bytes(content)
    with Zip(path) as archive, pytest.raises(DataError, match=r"1\.txt is damaged .*encrypted"):
        archive.read("a/1.txt")


def test_a_member_that_unpacks_to_too_much_is_not_unpacked(tmp_path, monkeypatch):
    path = write_zip(tmp_path / "a.zip", [("a.txt", bytes(archives.MAX_MEMBER + 1))])
    assert path.stat().st_size < 10_000
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("it was unpacked"))
    with Zip(path) as archive, pytest.raises(DataError, match="which cannot be right") as error:
        archive.read("a.txt")
    one_sentence(error)


GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
PICTURES = {
    "another size": (encoded(GREY.T.copy(), "PNG"), "has 4 x 3 pixels instead of 3 x 4"),
    "another format": (encoded(GREY, "PPM"), "is not a PNG picture"),
    "text": (b"404: Not Found", "is not a PNG picture"),
    "cut short": (encoded(GREY, "PNG")[:-30], "is not a PNG picture"),
}


@pytest.mark.parametrize("content, message", PICTURES.values(), ids=PICTURES)
def test_pictures_that_are_not_what_they_should_be_are_refused(tmp_path, content, message):
    path = write_zip(tmp_path / "a.zip", [("a.png", content), ("good.png", encoded(GREY, "PNG"))])
    with Zip(path) as archive:
        assert np.array_equal(archive.picture("good.png", (3, 4), "PNG"), GREY)
        with pytest.raises(DataError, match=message) as error:
            archive.picture("a.png", (3, 4), "PNG")
    assert "a.png" in one_sentence(error)


def test_rows_are_chosen_from_all_over():
    assert spread(5, None, "x") == [0, 1, 2, 3, 4]
    assert spread(10, 5, "x") == [0, 2, 4, 6, 8]
    assert spread(7, 3, "x") == [0, 2, 4]
    assert spread(7, 7, "x") == list(range(7))


@pytest.mark.parametrize("n", [0, -1, 8, 2.0, "2"])
def test_an_impossible_number_of_images_is_refused(n):
    with pytest.raises(DataError, match="x: n must be a whole number of images from 1 to 7") as e:
        spread(7, n, "x")
    one_sentence(e)


def test_pictures_are_stacked_in_order_and_scaled():
    grey = [np.full((6, 6), i % 256, np.uint8) for i in range(300)]  # several chunks
    x = stack(grey, 300, 6, 3)
    assert x.shape == (300, 3, 6, 6) and x.stride(1) == 0
    assert torch.allclose((x[:, 0, 0, 0] + 1) * 127.5, torch.arange(300.0) % 256, atol=1e-3)


def test_only_the_middle_square_is_taken():
    tall = np.zeros((12, 6), np.uint8)
    tall[3:9] = 255
    assert stack([tall], 1, 6, 1).eq(1).all()
    assert stack([tall.T.copy()], 1, 6, 1).eq(1).all()


def test_colour_becomes_grey_by_brightness():
    colour = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert torch.equal(
        (stack([colour], 1, 8, 3)[0] + 1).mul(127.5).round().byte(),
        torch.from_numpy(colour).movedim(-1, 0),
    )
    expected = np.asarray(Image.fromarray(colour).convert("L")).astype(np.float32)
    grey = (stack([colour], 1, 8, 1)[0, 0].numpy() + 1) * 127.5
    assert np.abs(grey - expected).max() < 1


# --- the original archives ------------------------------------------------------------------


RAMP = np.tile(np.array([0, 51, 102, 255], np.uint8), (3, 1))


def pgm(maxval):
    wide = RAMP.astype(np.uint32) * maxval // 255
    kind = np.uint8 if maxval < 256 else np.dtype(">u2")
    return b"P5\n4 3\n%d\n" % maxval + wide.astype(kind).tobytes()


def png(picture, **options):
    out = io.BytesIO()
    picture.save(out, "PNG", **options)
    return out.getvalue()


def black_with_transparency(mode):
    """A black picture that lets through as much of its background as the ramp says."""
    black, ink = Image.new("L", (4, 3)), Image.fromarray(255 - RAMP)
    return Image.merge(mode, [*[black] * (len(mode) - 1), ink])


def keyed(mode):
    """The ramp, of which the darkest level is transparent, and so white."""
    return png(Image.fromarray(RAMP).convert(mode), transparency=0 if mode == "L" else (0, 0, 0))


PICTURES = {
    "8 bits": (pgm(255), "PPM", RAMP),
    "4 bits": (pgm(15), "PPM", RAMP),
    "10 bits": (pgm(1023), "PPM", RAMP),
    "16 bits": (pgm(65535), "PPM", RAMP),
    "16 bits, PNG": (png(Image.fromarray(RAMP.astype(np.uint16) * 257)), "PNG", RAMP),
    "gray and alpha": (png(black_with_transparency("LA")), "PNG", RAMP),
    "color and alpha": (png(black_with_transparency("RGBA")), "PNG", RAMP),
    "a level as key": (keyed("L"), "PNG", np.where(RAMP == 0, 255, RAMP)),
    "a color as key": (keyed("RGB"), "PNG", np.where(RAMP == 0, 255, RAMP)),
}


@pytest.mark.parametrize("what", PICTURES)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_deep_pictures_are_scaled_and_transparent_ones_lie_on_white(tmp_path, what, mode):
    content, kind, wanted = PICTURES[what]
    with Zip(write_zip(tmp_path / "a.zip", [("a", content)])) as archive:
        found = archive.picture("a", (3, 4), kind, mode)
    assert found.dtype == np.uint8
    wanted = wanted if mode == "L" else np.stack([wanted] * 3, axis=-1)
    assert np.abs(found.astype(int) - wanted).max() <= 1  # rounding to the picture's own levels


@real_orl
def test_the_original_faces(capsys):
    data = orl_faces(channels=3)
    assert repr(data) == (
        "ImageData(orl_faces, all: 400 images 3x64x64, 40 classes, values -1 to 1, 40 blocks, cpu)"
    )
    assert data.grey and len(data.row_hashes()) == 400
    with Zip(Path(os.environ["SPLITLAB_DATA"]) / "ATT" / "att_faces.zip") as archive:
        pixels = np.stack([archive.picture(m, (112, 92), "PPM") for m in _pictures(archive)])
        raw = archive.read("s2/10.pgm")
    assert pixels.shape == (400, 112, 92)
    assert (pixels.min(), pixels.max()) == (0, 251)
    assert pixels.mean() == pytest.approx(112.63, abs=0.005)
    assert pixels[19].tobytes() == raw[14:]
    whole = orl_faces(size=92)
    assert torch.allclose(
        (whole.x[19, 0] + 1) * 127.5, torch.from_numpy(pixels[19, 10:102]).float(), atol=1e-4
    )


@real_omniglot
def test_the_original_drawings(capsys):
    data = omniglot()
    assert len(data) == 4840 and len(data.classes) == 242
    alphabets = {}
    for name in data.classes:
        alphabet = name.split("/")[0]
        alphabets[alphabet] = alphabets.get(alphabet, 0) + 1
    assert alphabets == {
        **{"Balinese": 24, "Early_Aramaic": 22, "Greek": 24, "Japanese_(katakana)": 47},
        **{"Korean": 40, "Latin": 26, "Sanskrit": 42, "Tagalog": 17},
    }
    assert torch.bincount(data.y).tolist() == [20] * 242
    ink = float((omniglot(size=105, n=484).x > 0).float().mean())
    assert ink == pytest.approx(0.08, abs=0.02)
    private, public, referee = data.split(0)
    assert [len(part.block.unique()) for part in (private, public, referee)] == [3, 3, 2]
    assert len(omniglot(size=8, archives=["small1"])) == 2720
    assert len(omniglot(size=8, archives=["small2"])) == 3120


@real_omniglot
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak from /proc")
def test_archives_are_never_held_several_times_in_memory():
    code = (
        "import re, torch, splitlab.data as d\n"
        "def peak():\n"
        "    return int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
        "d.omniglot(size=80, n=200)\n"
        "before = peak()\n"
        "data = d.omniglot(size=105, channels=3)\n"
        "print((peak() - before) / (data.x.untyped_storage().nbytes() / 1024))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert 0.8 <= float(result.stdout) < 1.3
