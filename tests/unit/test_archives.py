"""Data sets in their original archives: what is read, and archives that are not what they should.

The small archives made here have the original layout; the original ones are read where they are.
"""

import dataclasses
import functools
import gzip
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import splitlab as sl
from splitlab.course import cli
from splitlab.data import (
    PUBLISHED,
    DataError,
    archives,
    celeba,
    cifar10,
    download,
    omniglot,
    orl_faces,
    published,
    tiny_imagenet,
)
from splitlab.data.archives import Zip, spread, stack
from splitlab.data.published import Pin

ORL = sys.modules["splitlab.data.orl"]
OMNIGLOT = sys.modules["splitlab.data.omniglot"]
CELEBA = sys.modules["splitlab.data.celeba"]
CIFAR10 = sys.modules["splitlab.data.cifar10"]


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


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Terms that one test has shown are new to the next one."""
    monkeypatch.setenv(published.CACHE, str(tmp_path / "cache"))


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


def write_zip(path, members):
    """Write a zip archive of (name, content) pairs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def encoded(pixels, kind, mode=None):
    """Encode a uint8 array as a picture file."""
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, kind)
    return buffer.getvalue()


def held(root):
    """Every file below a folder: path -> content."""
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


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
    path = write_zip(tmp_path / "in" / "a.zip", [("good.txt", b"good"), (name, b"bad")])
    before = held(tmp_path)
    with pytest.raises(DataError, match="which leads out of the archive") as error:
        Zip(path)
    one_sentence(error)
    assert held(tmp_path) == before


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


# --- ORL faces ------------------------------------------------------------------------------


def face(person, picture):
    """A picture of 112 x 92 whose top left says who and which, and whose middle is one value."""
    pixels = np.full((112, 92), 5 * person, np.uint8)
    pixels[:10] = 255 - picture  # cut off: not in the middle square
    return pixels


def orl_members(leave_out=(), top=""):
    return [
        (f"{top}s{p}/{i}.pgm", encoded(face(p, i), "PPM"))
        for p in range(40, 0, -1)  # not in order, as in many copies
        for i in range(1, 11)
        if (p, i) not in leave_out
    ]


@functools.cache
def orl_bytes(top=""):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in [*orl_members(top=top), ("README", b"who took them")]:
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def orl(tmp_path):
    path = tmp_path / "data" / "ATT" / "att_faces.zip"
    path.parent.mkdir(parents=True)
    path.write_bytes(orl_bytes())
    return path


def test_orl_people_come_by_number(orl, tmp_path):
    before = held(tmp_path / "data")
    data = orl_faces(size=92, folder=tmp_path / "data", verify=False)
    assert len(data) == 400 and data.shape == (1, 92, 92) and data.value_range == (-1.0, 1.0)
    assert data.y.tolist() == [i // 10 for i in range(400)]
    assert data.classes == tuple(f"s{i}" for i in range(1, 41))
    people = ((data.x[:, 0, 46, 46] + 1) * 127.5).round().int()
    assert people.tolist() == [5 * (i // 10 + 1) for i in range(400)]
    assert held(tmp_path / "data") == before


def test_orl_pictures_are_their_middle_square(orl, tmp_path):
    data = orl_faces(size=92, folder=tmp_path / "data", verify=False)
    assert data.x[0].unique().numel() == 1  # rows 10 to 101: the ten odd ones are cut off


@pytest.mark.parametrize("top", ["att_faces/", "orl_faces/"])
def test_orl_with_a_top_folder_is_the_same(orl, tmp_path, top):
    plain = orl_faces(size=16, folder=tmp_path / "data", verify=False)
    orl.write_bytes(orl_bytes(top))
    assert torch.equal(orl_faces(size=16, folder=tmp_path / "data", verify=False).x, plain.x)


def test_orl_is_split_by_person(orl, tmp_path):
    data = orl_faces(size=8, folder=tmp_path / "data", verify=False)
    for seed in range(10):
        parts = data.split(seed)
        people = [set(part.y.tolist()) for part in parts]
        assert [len(p) for p in people] == [20, 16, 4]
        assert len(set.union(*people)) == 40
        assert [len(part) for part in parts] == [200, 160, 40]
    by_picture = dataclasses.replace(data, block=None).split(0)
    assert set(by_picture.private.y.tolist()) & set(by_picture.public.y.tolist())


def test_orl_decodes_only_what_is_asked_for(orl, tmp_path, monkeypatch):
    decoded = []
    usual = Zip.picture

    def picture(self, name, *rest):
        decoded.append(name)
        return usual(self, name, *rest)

    monkeypatch.setattr(Zip, "picture", picture)
    data = orl_faces(size=8, folder=tmp_path / "data", n=40, verify=False)
    assert decoded == [f"s{p}/1.pgm" for p in range(1, 41)]
    assert data.y.tolist() == list(range(40)) and data.row.tolist() == list(range(0, 400, 10))
    with pytest.raises(DataError, match=r"orl_faces: n must be .* from 1 to 400"):
        orl_faces(folder=tmp_path / "data", n=401, verify=False)


@pytest.mark.parametrize("verify", [True, False])
def test_a_partial_copy_of_orl_names_what_is_missing(orl, tmp_path, verify):
    write_zip(orl, orl_members(leave_out={(7, 3)}))
    message = r"is incomplete: s7/3.pgm is missing of the 400 pictures; download http"
    with pytest.raises(DataError, match=message) as error:
        orl_faces(folder=tmp_path / "data", verify=verify)
    assert str(orl) in one_sentence(error)
    write_zip(orl, orl_members(leave_out={(40, 10), (7, 3), (39, 1)}))
    with pytest.raises(DataError, match=r"s7/3.pgm and 2 more are missing"):
        orl_faces(folder=tmp_path / "data", verify=verify)


def test_other_pictures_than_orls_are_refused_unless_asked_for(orl, tmp_path):
    before = held(tmp_path / "data")
    with pytest.raises(DataError, match="does not hold the original pictures") as error:
        orl_faces(folder=tmp_path / "data")
    assert str(orl) in one_sentence(error)
    assert held(tmp_path / "data") == before


def test_an_orl_picture_of_another_kind_is_refused(orl, tmp_path):
    members = dict(orl_members()) | {"s9/9.pgm": encoded(face(9, 9), "PNG")}
    write_zip(orl, members.items())
    with pytest.raises(DataError, match=r"s9/9\.pgm is not a PPM picture") as error:
        orl_faces(folder=tmp_path / "data", verify=False)
    one_sentence(error)


@pytest.mark.parametrize("options", [{"size": 3}, {"channels": 2}])
def test_impossible_requests_are_refused_before_anything_is_read(tmp_path, options):
    for loader in (orl_faces, omniglot, cifar10, celeba, tiny_imagenet):
        with pytest.raises(DataError, match=r"size must be|channels must be"):
            loader(folder=tmp_path / "nowhere", **options)


# --- Omniglot -------------------------------------------------------------------------------

ALPHABETS = {"small1": ("Greek", "Korean", "Latin"), "small2": ("Greek", "Sanskrit", "Tagalog_(x)")}


def drawing(number):
    """105 x 105, white, with a black rectangle whose height is the number."""
    pixels = np.full((105, 105), 255, np.uint8)
    pixels[: number + 1, 20:80] = 0
    return encoded(pixels, "PNG", "1")


def omniglot_members(name, characters=2, drawings=20):
    return [
        (f"images_background_{name}/{alphabet}/character{c:02}/{c:04}_{d:02}.png", drawing(c + d))
        for alphabet in ALPHABETS[name]
        for c in range(1, characters + 1)
        for d in range(1, drawings + 1)
    ]


@pytest.fixture
def letters(tmp_path):
    """The folder of two small archives."""
    folder = tmp_path / "data" / "omniglot-py"
    for name in ALPHABETS:
        write_zip(folder / f"images_background_{name}.zip", omniglot_members(name))
    return folder


def test_omniglot_is_inverted_and_labelled_by_alphabet_and_character(letters, tmp_path):
    before = held(tmp_path / "data")
    data = omniglot(size=105, folder=tmp_path / "data", archives=["small1"], verify=False)
    assert data.shape == (1, 105, 105) and len(data) == 120
    assert data.classes == tuple(
        f"{alphabet}/character0{c}" for alphabet in ALPHABETS["small1"] for c in (1, 2)
    )
    assert data.y.tolist() == [i // 20 for i in range(120)]
    assert set(data.x.unique().tolist()) == {-1.0, 1.0}
    ink = (data.x > 0).sum((1, 2, 3)) // 60
    assert ink.tolist() == [c + d + 1 for _ in range(3) for c in (1, 2) for d in range(1, 21)]
    assert held(tmp_path / "data") == before


def test_a_drawing_in_two_archives_is_taken_once(letters, tmp_path):
    data = omniglot(size=8, folder=tmp_path / "data", verify=False)
    assert len(data) == 200 and len(data.classes) == 10  # Greek is in both
    assert data.row.tolist() == list(range(200))
    again = omniglot(size=8, folder=tmp_path / "data", archives=["small2", "small1"], verify=False)
    assert torch.equal(again.y, data.y) and torch.equal(again.x, data.x)


def test_omniglot_is_split_by_alphabet(letters, tmp_path):
    data = omniglot(size=8, folder=tmp_path / "data", verify=False)
    assert len(data.block.unique()) == 5
    alphabet = [data.classes[y].split("/")[0] for y in data.y]
    assert [sorted(set(alphabet))[b] for b in data.block] == alphabet
    for seed in range(5):
        sets = [{p.classes[y].split("/")[0] for y in p.y} for p in data.split(seed)]
        assert [len(s) for s in sets] == [2, 2, 1] and len(set.union(*sets)) == 5


def test_omniglot_decodes_only_what_is_asked_for(letters, tmp_path, monkeypatch):
    decoded = []
    usual = Zip.picture
    monkeypatch.setattr(
        Zip, "picture", lambda self, name, *rest: decoded.append(name) or usual(self, name, *rest)
    )
    data = omniglot(size=8, folder=tmp_path / "data", n=10, verify=False)
    assert len(decoded) == len(data) == 10
    assert data.y.tolist() == list(range(10)) and len(data.classes) == 10


@pytest.mark.parametrize("chosen", [(), ["small3"], "small1", ["small1", "x"]])
def test_unknown_archives_are_refused(letters, tmp_path, chosen):
    with pytest.raises(DataError, match="some of small1, small2, background, evaluation") as error:
        omniglot(folder=tmp_path / "data", archives=chosen)
    one_sentence(error)


def test_partial_copies_of_omniglot_name_what_is_missing(letters, tmp_path):
    path = letters / "images_background_small1.zip"
    write_zip(path, omniglot_members("small1")[:-1])
    for verify in (True, False):
        with pytest.raises(
            DataError, match="Latin/character02 has 19 drawings instead of 20"
        ) as error:
            omniglot(folder=tmp_path / "data", verify=verify)
        assert str(path) in one_sentence(error)
    write_zip(path, omniglot_members("small1"))
    with pytest.raises(DataError, match="it holds 120 of 2720 drawings") as error:
        omniglot(folder=tmp_path / "data")
    one_sentence(error)
    path.unlink()
    with pytest.raises(DataError, match=r"images_background_small1.zip is missing; download http"):
        omniglot(folder=tmp_path / "data")


def test_an_archive_without_drawings_is_refused(letters, tmp_path):
    small_zip(letters / "images_background_small1.zip")
    with pytest.raises(DataError, match="holds no drawings of Omniglot") as error:
        omniglot(folder=tmp_path / "data", verify=False)
    one_sentence(error)


def test_drawings_that_are_complete_but_others_are_refused(letters, tmp_path, monkeypatch):
    small1 = dataclasses.replace(OMNIGLOT.ARCHIVES["small1"], images=120)
    monkeypatch.setitem(OMNIGLOT.ARCHIVES, "small1", small1)
    with pytest.raises(DataError, match=r"not the original file .its SHA-256 is not") as error:
        omniglot(folder=tmp_path / "data")
    one_sentence(error)


# --- CIFAR-10 -------------------------------------------------------------------------------

PER_FILE = 2000  # two blocks; in the original 10,000
BATCHES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")


def batch(number, per_file=PER_FILE):
    """A file of records: label (number + i) % 10, and pixels that follow from row and colour."""
    records = np.zeros((per_file, 3073), np.uint8)
    row = np.arange(per_file)
    records[:, 0] = (number + row) % 10
    records[:, 1:1025] = (row % 251)[:, None]  # red: the row in the file
    records[:, 1025:2049] = number  # green: the file
    records[:, 2049:] = np.arange(1024) // 32  # blue: the row of pixels
    return records.tobytes()


@functools.cache
def batches():
    return {name: batch(number) for number, name in enumerate(BATCHES)}


def write_tar(path, members):
    """Write a .tar.gz of (name, content) pairs; a content of None makes a link."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content or b""))
    return path


def cifar_members(**changes):
    members = batches() | changes
    return [(f"cifar-10-batches-bin/{name}", members[name]) for name in reversed(BATCHES)]


@pytest.fixture
def photographs(tmp_path, monkeypatch):
    monkeypatch.setattr(CIFAR10, "PER_FILE", PER_FILE)
    path = tmp_path / "data" / "CIFAR10" / "cifar-10-binary.tar.gz"
    return write_tar(path, [*cifar_members(), ("cifar-10-batches-bin/readme.html", b"<html>")])


def test_cifar_records_come_in_order_and_in_colour(photographs, tmp_path):
    before = held(tmp_path / "data")
    data = cifar10(folder=tmp_path / "data", verify=False)
    assert len(data) == 12_000 and data.shape == (3, 32, 32) and not data.grey
    row = torch.arange(12_000)
    number, place = row // PER_FILE, row % PER_FILE
    assert torch.equal(data.y, (number + place) % 10)
    levels = ((data.x + 1) * 127.5).round().int()
    assert torch.equal(levels[:, 0, 5, 5], (place % 251).int())
    assert torch.equal(levels[:, 1, 5, 5], number.int())
    assert torch.equal(levels[77, 2], torch.arange(32).int()[:, None].expand(32, 32))
    assert data.classes[0] == "airplane" and data.classes[9] == "truck"
    assert len(data.block.unique()) == 12
    assert held(tmp_path / "data") == before


def test_cifar_has_an_official_split(photographs, tmp_path):
    private, public, referee = cifar10(
        size=8, folder=tmp_path / "data", verify=False
    ).official_split()
    assert (len(private), len(public), referee) == (10_000, 2_000, None)


def test_cifar_decodes_only_what_is_asked_for(photographs, tmp_path):
    whole = cifar10(size=8, channels=1, folder=tmp_path / "data", verify=False)
    data = cifar10(size=8, channels=1, folder=tmp_path / "data", n=7, verify=False)
    assert data.shape == (1, 8, 8)
    assert data.row.tolist() == [i * 12_000 // 7 for i in range(7)]
    assert torch.equal(data.x, whole.x[data.row]) and torch.equal(data.y, whole.y[data.row])


def test_cifar_that_is_not_the_original_is_refused(photographs, tmp_path):
    with pytest.raises(DataError, match=r"not the original file .its SHA-256") as error:
        cifar10(folder=tmp_path / "data")
    assert str(photographs) in one_sentence(error)


BAD_CIFAR = {
    "a file less": (cifar_members()[1:], r"is incomplete: test_batch.bin is missing"),
    "a link": (cifar_members(**{"test_batch.bin": None}), r"test_batch.bin is missing"),
    "a record less": (
        cifar_members(**{"data_batch_2.bin": batch(1, PER_FILE - 1)}),
        r"data_batch_2.bin has 6,142,927 bytes instead of 6,146,000",
    ),
    "a label": (
        cifar_members(**{"data_batch_3.bin": b"\x0a" + batch(2)[1:]}),
        r"data_batch_3.bin holds the label 10, but there are only 10 classes",
    ),
    "up": ([*cifar_members(), ("../x.bin", b"x")], "which leads out of the archive"),
    "absolute": ([*cifar_members(), ("/etc/x", b"x")], "which leads out of the archive"),
    "nothing": ([], r"data_batch_1.bin is missing"),
}


@pytest.mark.parametrize("members, message", BAD_CIFAR.values(), ids=BAD_CIFAR)
def test_bad_archives_of_cifar_are_refused(photographs, tmp_path, members, message):
    write_tar(photographs, members)
    with pytest.raises(DataError, match=message) as error:
        cifar10(size=8, folder=tmp_path / "data", verify=False)
    one_sentence(error)


BAD_BYTES = {
    "wrong magic": (lambda content: b"PK" + content, "is not a .tar.gz archive"),
    "web page": (lambda content: b"<!DOCTYPE html><html>", "is a web page"),
    "cut in the middle": (lambda content: content[: len(content) // 2], "damaged or cut short"),
    "cut at the end": (lambda content: content[:-9], "damaged or cut short"),
    "only the magic": (lambda content: content[:2], "damaged or cut short"),
    "no tar inside": (lambda content: gzip.compress(bytes(range(256)) * 9), "damaged or cut short"),
}


@pytest.mark.parametrize("change, message", BAD_BYTES.values(), ids=BAD_BYTES)
def test_what_is_no_archive_of_cifar_is_refused(photographs, tmp_path, change, message):
    photographs.write_bytes(change(photographs.read_bytes()))
    with pytest.raises(DataError, match=message) as error:
        cifar10(size=8, folder=tmp_path / "data", verify=False)
    assert str(photographs) in one_sentence(error)


# --- CelebA ---------------------------------------------------------------------------------

PROPERTIES = [f"Property_{i}" for i in range(38)] + ["Male", "Smiling"]


def attributes(count, men=lambda i: i % 2 == 0):
    """The list in its original format: a number, the names, and lines of -1 and 1."""
    lines = [str(count), " ".join(PROPERTIES) + " "]
    for i in range(1, count + 1):
        values = ["-1"] * 38 + [" 1" if men(i) else "-1", "1" if i % 3 == 0 else "-1"]
        lines.append(f"{i:06}.jpg  {' '.join(values)}")
    return "\n".join(lines) + "\n"


def celeba_members(count):
    members = []
    for i in range(count, 0, -1):
        pixels = np.zeros((218, 178, 3), np.uint8)
        pixels[..., 0], pixels[..., 2] = 10 * i, 255 - 10 * i
        members.append((f"img_align_celeba/{i:06}.jpg", encoded(pixels, "JPEG")))
    return members


@pytest.fixture
def faces(tmp_path):
    """The folder celeba/ with 14 pictures and their attributes."""
    folder = tmp_path / "data" / "celeba"
    write_zip(folder / "img_align_celeba.zip", celeba_members(14))
    (folder / "list_attr_celeba.txt").write_text(attributes(14))
    return folder


def test_celeba_has_all_attributes_and_one_of_them_as_its_label(faces, tmp_path):
    before = held(tmp_path / "data")
    data = celeba(folder=tmp_path / "data", verify=False)
    assert data.shape == (3, 64, 64) and len(data) == 14 and not data.grey
    assert data.classes == ("no Male", "Male")
    assert data.y.tolist() == [int(i % 2 == 0) for i in range(1, 15)]
    red = (data.x[:, 0, 32, 32] + 1) * 127.5
    assert torch.allclose(red, torch.arange(10.0, 150, 10), atol=3)  # JPEG loses a little
    assert list(data.attributes) == PROPERTIES
    smiling = data.labelled("Smiling")
    assert smiling.y.tolist() == [int(i % 3 == 0) for i in range(1, 15)]
    assert smiling.classes == ("no Smiling", "Smiling")
    assert not data.attributes["Property_7"].any()
    assert [len(part) for part in data.split(0)] == [6, 4, 4]
    assert held(tmp_path / "data") == before


def write_people(folder, person=lambda i: i // 2, count=14):
    """The third file in its original format: a picture and the number of a person in each line."""
    lines = [f"{i:06}.jpg {person(i)}\n" for i in range(1, count + 1)]
    (folder / "identity_CelebA.txt").write_text("".join(lines))


def test_celeba_without_its_third_file_is_split_by_picture(faces, tmp_path):
    assert celeba(size=8, folder=tmp_path / "data", verify=False).block.tolist() == list(range(14))


def test_celeba_with_its_third_file_is_split_by_person(faces, tmp_path):
    write_people(faces)
    data = celeba(size=8, folder=tmp_path / "data", verify=False)
    assert data.block.tolist() == [i // 2 for i in range(1, 15)]
    for seed in range(5):
        people = [set(part.block.tolist()) for part in data.split(seed)]
        assert len(set.union(*people)) == sum(map(len, people)) == 8
    few = celeba(size=8, folder=tmp_path / "data", n=2, verify=False)
    assert few.row.tolist() == [0, 7] and few.block.tolist() == [0, 4]
    assert few.attributes["Male"].tolist() == [False, True]


BAD_PEOPLE = {
    "web page": ("<html>Quota exceeded</html>", "is a web page, not a list; get it from"),
    "no person": ("000001.jpg 5\n000002.jpg\n", "line 2: not a picture and the number of a person"),
    "a word": ("000001.jpg anna\n", "line 1: not a picture and the number of a person"),
    "too much": ("000001.jpg 5 6\n", "line 1: not a picture and the number of a person"),
    "cut short": ("000001.jpg 5\n", "is cut short: it does not say who is on 000002.jpg"),
    "empty": ("", "is cut short: it does not say who is on 000001.jpg"),
}


@pytest.mark.parametrize("text, message", BAD_PEOPLE.values(), ids=BAD_PEOPLE)
def test_bad_lists_of_people_are_refused(faces, tmp_path, text, message):
    (faces / "identity_CelebA.txt").write_text(text)
    with pytest.raises(DataError, match=message) as error:
        celeba(size=8, folder=tmp_path / "data", verify=False)
    assert str(faces / "identity_CelebA.txt") in one_sentence(error)


def test_the_third_file_of_celeba_is_checked_only_where_it_is(faces):
    complaints = PUBLISHED["celeba"].check(faces)
    assert len(complaints) == 2
    write_people(faces)
    (third,) = set(PUBLISHED["celeba"].check(faces)) - set(complaints)
    assert "identity_CelebA.txt is not the original file (its MD5 is not 32bd1bd6" in third


def test_celeba_reads_only_what_is_asked_for(faces, tmp_path, monkeypatch):
    read = []
    usual = Zip.read
    monkeypatch.setattr(Zip, "read", lambda self, name: read.append(name) or usual(self, name))
    data = celeba(size=8, channels=1, folder=tmp_path / "data", n=2, verify=False)
    assert read == ["img_align_celeba/000001.jpg", "img_align_celeba/000008.jpg"]
    assert data.row.tolist() == [0, 7] and data.shape == (1, 8, 8)


def test_a_partial_copy_of_celeba_names_what_is_missing(faces, tmp_path):
    with pytest.raises(DataError, match="lists 14 of 202599 pictures; get it from the page") as e:
        celeba(folder=tmp_path / "data")
    one_sentence(e)
    members = [m for m in celeba_members(14) if "000003" not in m[0] and "000009" not in m[0]]
    write_zip(faces / "img_align_celeba.zip", members)
    message = r"is incomplete: 000003.jpg and 1 more are missing of the 14 pictures"
    with pytest.raises(DataError, match=message) as error:
        celeba(folder=tmp_path / "data", verify=False)
    one_sentence(error)


def test_celeba_without_its_attributes_says_how_to_get_them(faces, tmp_path):
    (faces / "list_attr_celeba.txt").unlink()
    with pytest.raises(
        DataError, match=r"list_attr_celeba.txt is missing; get it from the page .* put it there"
    ) as error:
        celeba(folder=tmp_path / "data")
    one_sentence(error)


def test_an_unknown_attribute_is_refused(faces, tmp_path):
    data = celeba(size=8, folder=tmp_path / "data", verify=False)
    with pytest.raises(DataError, match=r"no attribute 'Tall'; its attributes are: Property_0, "):
        data.labelled("Tall")


GOOD_LIST = attributes(14)
BAD_LISTS = {
    "empty": ("", "does not start with a number of pictures"),
    "web page": ("<!DOCTYPE html><html>Quota exceeded</html>", "is a web page"),
    "no number": (GOOD_LIST.split("\n", 1)[1], "does not start with a number of pictures"),
    "a name less": (GOOD_LIST.replace("Property_7 ", ""), "the names of 40 attributes"),
    "a name twice": (GOOD_LIST.replace("Property_7 ", "Property_8 "), "the names of 40"),
    "other names": (GOOD_LIST.replace("Male ", "Man "), "the names of 40 attributes"),
    "cut between lines": (GOOD_LIST[: GOOD_LIST.index("000012")], "announces 14 .* and lists 11"),
    "cut in a line": (GOOD_LIST[:-20], "line 16: not a picture and 40 values"),
    "a value": (GOOD_LIST.replace(" 1 ", " 2 "), "line 4: not a picture and 40 values"),
}


@pytest.mark.parametrize("text, message", BAD_LISTS.values(), ids=BAD_LISTS)
def test_bad_lists_of_attributes_are_refused(faces, tmp_path, text, message):
    (faces / "list_attr_celeba.txt").write_text(text)
    with pytest.raises(DataError, match=message) as error:
        celeba(folder=tmp_path / "data", verify=False)
    assert str(faces / "list_attr_celeba.txt") in one_sentence(error)


def test_bad_archives_of_celeba_are_refused(faces, tmp_path):
    path = faces / "img_align_celeba.zip"
    small = np.zeros((64, 64, 3), np.uint8)
    good = dict(celeba_members(14))
    bad = {
        b"<html>Quota exceeded</html>": "is a web page",
        path.read_bytes()[:-100]: "damaged or cut short",
    }
    for content, message in bad.items():
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            celeba(folder=tmp_path / "data", verify=False)
    name = "img_align_celeba/000005.jpg"
    write_zip(path, (good | {name: encoded(small, "JPEG")}).items())
    with pytest.raises(DataError, match=r"has 64 x 64 pixels instead of 218 x 178"):
        celeba(folder=tmp_path / "data", verify=False)


def test_celeba_is_never_downloaded(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv(download.OFFLINE)
    monkeypatch.delenv(published.DATA, raising=False)
    monkeypatch.setattr(download, "_transfer", lambda *_: pytest.fail("it was downloaded"))
    with pytest.raises(DataError, match=r"must be got by hand.*after agreeing to its terms") as e:
        celeba()
    one_sentence(e)
    assert cli.main(["data", "get", "celeba"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "CelebA.html" in err and str(tmp_path / "cache" / "celeba") in err
    assert cli.main(["data", "list"]) == 0
    assert "not here; `splitlab data get celeba` says how to get it" in capsys.readouterr().out
    assert not (tmp_path / "cache").exists()


def test_celeba_put_into_the_cache_by_hand_is_found(faces, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv(published.DATA, raising=False)
    (tmp_path / "cache").mkdir()
    faces.rename(tmp_path / "cache" / "celeba")
    assert len(celeba(size=8, verify=False)) == 14
    assert cli.main(["data", "get", "celeba"]) == 0
    capsys.readouterr()
    assert cli.main(["data", "check", "celeba"]) == 1
    out = capsys.readouterr().out
    assert out.count("is not the original file (its MD5 is not") == 2
    assert "downloads again" not in out
    (tmp_path / "cache" / "celeba" / "img_align_celeba.zip").unlink()
    assert cli.main(["data", "list"]) == 0
    assert "img_align_celeba.zip missing); put that there\n" in capsys.readouterr().out


# --- Tiny-ImageNet --------------------------------------------------------------------------

WNIDS = ["n02", "n01", "n03"]  # not sorted, as in the original


def tiny_members(**changes):
    """3 classes of 11 training pictures, and 6 for validation; some are grey."""

    def picture(level, grey):
        pixels = np.full((64, 64, 3), level, np.uint8)
        return encoded(pixels, "JPEG", "L" if grey else None)

    notes = "".join(f"val_{i}.JPEG\t{WNIDS[i % 3]}\t0\t0\t62\t62\n" for i in range(6))
    texts = {
        "wnids.txt": "\n".join(WNIDS) + "\n",
        "words.txt": "n01\tgoldfish, Carassius auratus\nn02\tcrane\nn03\tcrane\nn99\tother\n",
        "val/val_annotations.txt": notes,
    }
    members = {name: text.encode() for name, text in texts.items()}
    for number, wnid in enumerate(WNIDS):
        for i in reversed(range(11)):
            name = f"train/{wnid}/images/{wnid}_{i}.JPEG"
            members[name] = picture(80 * number + i, grey=i == 3)
        members[f"train/{wnid}/{wnid}_boxes.txt"] = b"x"
    members |= {f"val/images/val_{i}.JPEG": picture(200 + i, grey=False) for i in range(6)}
    members["test/images/test_0.JPEG"] = b"not read"
    members |= changes
    return [(f"tiny-imagenet-200/{name}", c) for name, c in members.items() if c is not None]


@pytest.fixture
def tiny(tmp_path):
    return write_zip(tmp_path / "data" / "TinyImageNet" / "tiny-imagenet-200.zip", tiny_members())


def test_tiny_imagenet_is_numbered_by_its_list_of_classes(tiny, tmp_path):
    before = held(tmp_path / "data")
    data = tiny_imagenet(folder=tmp_path / "data", verify=False)
    assert len(data) == 39 and data.shape == (3, 64, 64)
    assert data.classes == ("n02 crane", "n01 goldfish", "n03 crane")
    assert data.y.tolist() == [0] * 11 + [1] * 11 + [2] * 11 + [0, 1, 2] * 2
    levels = ((data.x[:, 0, 9, 9] + 1) * 127.5).round().int().tolist()
    assert levels == [80 * c + i for c in range(3) for i in range(11)] + list(range(200, 206))
    private, public, _ = data.official_split()
    assert (len(private), len(public)) == (33, 6)
    few = tiny_imagenet(size=8, channels=1, folder=tmp_path / "data", n=4, verify=False)
    assert few.row.tolist() == [0, 9, 19, 29] and few.y.tolist() == [0, 0, 1, 2]
    assert held(tmp_path / "data") == before


ANNOTATED = "val/val_annotations.txt"
BAD_TINY = {
    "no classes": ({"wnids.txt": None}, r"is incomplete: wnids.txt is missing; get it from http"),
    "no annotations": ({ANNOTATED: None}, r"is incomplete: val/val_annotations.txt is missing"),
    "an unknown class": ({"wnids.txt": b"n01\nn02\n"}, r"the class n03 is not in wnids.txt"),
    "a label": ({ANNOTATED: b"val_0.JPEG\tn77\t0\n"}, r"gives val_0.JPEG the class 'n77'"),
    "a broken line": ({ANNOTATED: b"val_0.JPEG\n"}, r"gives val_0.JPEG the class ''"),
    "no label": ({ANNOTATED: b"val_0.JPEG\tn01\n"}, r"does not name val_1.JPEG"),
    "a picture": ({"train/n01/images/n01_0.JPEG": b"x"}, r"n01_0.JPEG is not a JPEG picture"),
    "a name": ({"../../x": b"x"}, "which leads out of the archive"),
}


@pytest.mark.parametrize("changes, message", BAD_TINY.values(), ids=BAD_TINY)
def test_bad_archives_of_tiny_imagenet_are_refused(tiny, tmp_path, changes, message):
    write_zip(tiny, tiny_members(**changes))
    with pytest.raises(DataError, match=message) as error:
        tiny_imagenet(size=8, folder=tmp_path / "data", verify=False)
    assert str(tiny) in one_sentence(error)


def test_a_partial_copy_of_tiny_imagenet_is_refused(tiny, tmp_path):
    with pytest.raises(DataError, match="it holds 33 of 100000 training pictures") as error:
        tiny_imagenet(folder=tmp_path / "data")
    one_sentence(error)
    tiny.write_bytes(tiny.read_bytes()[:-200])
    with pytest.raises(DataError, match="damaged or cut short"):
        tiny_imagenet(folder=tmp_path / "data")
    tiny.write_bytes(b"<html>moved</html>")
    with pytest.raises(DataError, match="is a web page"):
        tiny_imagenet(folder=tmp_path / "data")


def test_tiny_imagenet_is_never_downloaded(monkeypatch, capsys):
    monkeypatch.delenv(download.OFFLINE)
    monkeypatch.delenv(published.DATA, raising=False)
    monkeypatch.setattr(download, "_transfer", lambda *_: pytest.fail("it was downloaded"))
    assert cli.main(["data", "get", "tiny_imagenet"]) == 2
    err = capsys.readouterr().err
    assert "after agreeing to ImageNet's terms" in err and err.count("\n") == 1


# --- terms, downloads, the shell ------------------------------------------------------------


def test_terms_are_shown_once(orl, tmp_path, capsys):
    orl_faces(size=8, folder=tmp_path / "data", verify=False)
    out, err = capsys.readouterr()
    assert out == "" and err.count("give credit to Olivetti Research Laboratory") == 1
    assert err.count("\n") == 1
    orl_faces(size=8, folder=tmp_path / "data", verify=False)
    assert capsys.readouterr() == ("", "")


def test_terms_that_cannot_be_remembered_do_not_stop_anybody(orl, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv(published.CACHE, str(tmp_path / "file" / "cache"))
    for _ in range(2):
        assert len(orl_faces(size=8, folder=tmp_path / "data", verify=False)) == 400
        assert capsys.readouterr().err.count("terms of use") == 1


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Serve the folder tmp_path/served; return (folder, address)."""
    folder = tmp_path / "served"
    folder.mkdir()
    for name in (download.OFFLINE, published.DATA):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            """Say nothing."""

    handler = functools.partial(Handler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def small_orl(address):
    """The description of the small archive, whose pictures have a checksum of their own."""
    digest = hashlib.sha256()
    for p in range(1, 41):
        for i in range(1, 11):
            digest.update(encoded(face(p, i), "PPM"))
    return dataclasses.replace(
        ORL.FILES, mirrors=(address,), files={"att_faces.zip": Pin(None, digest.hexdigest())}
    )


def test_orl_is_downloaded_and_compared_by_content(served, tmp_path, monkeypatch, capsys):
    folder, address = served
    monkeypatch.setattr(ORL, "FILES", small_orl(address))
    cached = tmp_path / "cache" / "ATT" / "att_faces.zip"
    for content, reason in ((b"<html>no</html>", "a web page"), (small_zip, "another file")):
        path = folder / "att_faces.zip"
        content(path) if callable(content) else path.write_bytes(content)
        with pytest.raises(DataError, match=f"att_faces.zip could not be downloaded .*{reason}"):
            orl_faces(size=8)
        assert not cached.exists()
    capsys.readouterr()
    (folder / "att_faces.zip").write_bytes(orl_bytes("att_faces/"))
    assert len(orl_faces(size=8)) == 400
    assert capsys.readouterr().err.count("Olivetti Research Laboratory") == 1
    assert cached.read_bytes() == orl_bytes("att_faces/")
    (folder / "att_faces.zip").unlink()
    assert len(orl_faces(size=8)) == 400


def test_a_download_has_shown_the_terms(served, tmp_path, monkeypatch, capsys):
    folder, address = served
    (folder / "att_faces.zip").write_bytes(orl_bytes())
    monkeypatch.setattr(ORL, "FILES", small_orl(address))
    orl_faces(size=8)
    assert capsys.readouterr().err.count("Olivetti Research Laboratory") == 1


def test_each_archive_of_omniglot_comes_from_where_it_is(letters, tmp_path, monkeypatch):
    monkeypatch.setenv(published.DATA, str(tmp_path / "data"))
    data = omniglot(size=8, archives=["small1"], verify=False)
    assert len(data) == 120
    with pytest.raises(DataError, match=r"images_evaluation.zip is missing in .*forbids") as error:
        omniglot(size=8, archives=["small1", "evaluation"], verify=False)
    one_sentence(error)


def test_the_shell_knows_the_archives(orl, letters, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(published.DATA, str(tmp_path / "data"))
    assert cli.main(["data", "list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert list(lines) == [*sl.data.BUILT_IN, *PUBLISHED]
    assert lines["orl_faces"].endswith(f"SPLITLAB_DATA: {orl.parent}")
    assert "`splitlab data get omniglot_background` downloads" in lines["omniglot_background"]
    assert cli.main(["data", "get", "orl_faces"]) == 0
    assert f"SPLITLAB_DATA: {orl.parent}" in capsys.readouterr().out
    assert cli.main(["data", "get", "omniglot_evaluation"]) == 2
    assert "SPLITLAB_OFFLINE forbids" in capsys.readouterr().err
    assert cli.main(["data", "check", "orl_faces"]) == 1
    assert "does not hold the original pictures" in capsys.readouterr().out
    assert cli.main(["data", "check", "omniglot_small1"]) == 1
    assert "it holds 120 of 2720 drawings" in capsys.readouterr().out


# --- the original archives ------------------------------------------------------------------


@real_orl
def test_the_original_faces(capsys):
    data = orl_faces(channels=3)
    assert repr(data) == (
        "ImageData(orl_faces, all: 400 images 3x64x64, 40 classes, values -1 to 1, 40 blocks, cpu)"
    )
    assert data.grey and len(data.row_hashes()) == 400
    with Zip(Path(os.environ["SPLITLAB_DATA"]) / "ATT" / "att_faces.zip") as archive:
        pixels = np.stack([archive.picture(m, (112, 92), "PPM") for m in ORL._pictures(archive)])
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


@real_orl
@real_omniglot
@pytest.mark.parametrize("name", ["orl_faces", "omniglot_small1", "omniglot_small2"])
def test_the_original_archives_pass_their_own_check(name, capsys):
    assert cli.main(["data", "check", name]) == 0
    assert capsys.readouterr().out.rstrip().endswith(": the original files")


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
