"""Small copies of the published data sets, in their original layout: one list for all tests.

A copy is files, a file is packed members, and a test can change any of them.
"""

import dataclasses
import functools
import gzip
import hashlib
import io
import struct
import sys
import tarfile
import zipfile
from collections.abc import Callable

import numpy as np
from PIL import Image

from splitlab import data
from splitlab.data.published import Pin, Published


@dataclasses.dataclass(frozen=True, eq=False)
class Small:
    """A small copy, and what should be read from it.

    The pixels are the levels 0..255 of all images at their own size, which is what `load` should
    return for `size=side`; they may be off by `tolerance` where the format loses a little.
    """

    load: Callable[..., data.ImageData]
    folder: str
    members: Callable[[], dict[str, dict[str, bytes]]]  # file name -> name in it -> content
    pack: Callable[[dict[str, bytes]], bytes]
    pixels: Callable[[], np.ndarray]  # (N, C, side, side)
    labels: list[int]
    classes: tuple[str, ...]
    blocks: list[int]
    parts: tuple[int, int, int]  # blocks for private, public and referee
    unlike: str  # what is said of a copy that is not the original
    train_rows: int | None = None
    tolerance: float = 1e-3

    @property
    def module(self):
        """The module of the loader."""
        return sys.modules[self.load.__module__]

    def content(self, changes=None):
        """File name -> content, with changed members: a new content each, None to leave one out.

        A member that no file has joins the first one.
        """
        if not changes:
            return unchanged(self)
        files = self.members()
        known = {member for members in files.values() for member in members}
        first = next(iter(files))
        changed = {}
        for name, members in files.items():
            own = members.keys() | (changes.keys() - known if name == first else set())
            members = members | {member: new for member, new in changes.items() if member in own}
            changed[name] = self.pack({n: c for n, c in members.items() if c is not None})
        return changed

    def write(self, root, changes=None):
        """Write the copy below the data folder `root`; return the data set's own folder."""
        folder = root / self.folder
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.content(changes).items():
            (folder / name).write_bytes(content)
        return folder

    def read(self, root, **options):
        """Load what `write` wrote, original or not."""
        return self.load(folder=root, **{"verify": False} | options)


@functools.cache
def unchanged(small):
    return {name: small.pack(members) for name, members in small.members().items()}


def zipped(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


LINK = b"link"  # a member that becomes a symbolic link


def tarred(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if content is LINK:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def encoded(pixels, kind, mode=None):
    """Encode a uint8 array as a picture file."""
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, kind)
    return buffer.getvalue()


def only(members):
    """The content of a file that is no archive."""
    (content,) = members.values()
    return content


# --- MNIST and Fashion-MNIST ----------------------------------------------------------------


def idx_bytes(array, kind=8):
    head = bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


@functools.cache
def idx_arrays():
    arrays, random = {}, np.random.default_rng(0)
    for prefix, count in (("train", 6000), ("t10k", 1000)):
        arrays[f"{prefix}-images-idx3-ubyte"] = random.integers(0, 256, (count, 28, 28), np.uint8)
        arrays[f"{prefix}-labels-idx1-ubyte"] = np.arange(count) % 10
    return arrays


def idx_members():
    return {f"{name}.gz": {name: idx_bytes(array)} for name, array in idx_arrays().items()}


def idx(load, folder, classes):
    return Small(
        load=load,
        folder=folder,
        members=idx_members,
        pack=lambda members: gzip.compress(only(members), 1, mtime=0),
        pixels=lambda: np.concatenate([a for n, a in idx_arrays().items() if "im" in n])[:, None],
        labels=[*range(10)] * 700,
        classes=classes,
        blocks=[row // 1000 for row in range(7000)],
        parts=(3, 2, 2),
        unlike="not the original file .its MD5",
        train_rows=6000,
    )


# --- ORL faces ------------------------------------------------------------------------------


def face(person, picture):
    """112 x 92: one value for a person, under ten rows that say which picture, to be cut off."""
    pixels = np.full((112, 92), 5 * person, np.uint8)
    pixels[:10] = 255 - picture
    return pixels


@functools.cache
def orl_members():
    """Not in order, as in many copies."""
    people = {
        f"s{p}/{i}.pgm": encoded(face(p, i), "PPM") for p in range(40, 0, -1) for i in range(1, 11)
    }
    return {"att_faces.zip": people | {"README": b"who took them"}}


# --- Omniglot -------------------------------------------------------------------------------

ALPHABETS = {"small1": ("Greek", "Korean", "Latin"), "small2": ("Greek", "Sanskrit", "Tagalog_(x)")}
LETTERS = sorted({alphabet for alphabets in ALPHABETS.values() for alphabet in alphabets})


def drawing(number):
    """105 x 105, black on white: a rectangle whose height is one more than the number."""
    pixels = np.full((105, 105), 255, np.uint8)
    pixels[: number + 1, 20:80] = 0
    return pixels


@functools.cache
def omniglot_members():
    return {
        f"images_background_{name}.zip": {
            f"images_background_{name}/{alphabet}/character{c:02}/{c:04}_{d:02}.png": encoded(
                drawing(c + d), "PNG", "1"
            )
            for alphabet in alphabets
            for c in (1, 2)
            for d in range(1, 21)
        }
        for name, alphabets in ALPHABETS.items()
    }


# --- CIFAR-10 -------------------------------------------------------------------------------

PER_FILE = 2000  # two blocks; in the original 10,000
BATCHES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
BATCH = "cifar-10-batches-bin/"


@functools.cache
def records(number):
    """A file of records: label (number + i) % 10, and pixels that follow from row and color."""
    records = np.zeros((PER_FILE, 3073), np.uint8)
    row = np.arange(PER_FILE)
    records[:, 0] = (number + row) % 10
    records[:, 1:1025] = (row % 251)[:, None]  # red: the row in the file
    records[:, 1025:2049] = number  # green: the file
    records[:, 2049:] = np.arange(1024) // 32  # blue: the row of pixels
    return records


def cifar_members():
    batches = {f"{BATCH}{name}": records(n).tobytes() for n, name in enumerate(BATCHES)}
    return {"cifar-10-binary.tar.gz": {f"{BATCH}readme.html": b"<html>"} | batches}


# --- CelebA ---------------------------------------------------------------------------------

PROPERTIES = [f"Property_{i}" for i in range(38)] + ["Male", "Smiling"]


def attributes(count=14):
    """The list in its original format: a number, the names, and lines of -1 and 1."""
    lines = [str(count), " ".join(PROPERTIES) + " "]
    for i in range(1, count + 1):
        values = ["-1"] * 38 + [" 1" if i % 2 == 0 else "-1", "1" if i % 3 == 0 else "-1"]
        lines.append(f"{i:06}.jpg  {' '.join(values)}")
    return "\n".join(lines) + "\n"


def celebrity(i, height=218):
    """Red that says which picture, and no green."""
    return np.full((height, 178, 3), (10 * i, 0, 255 - 10 * i), np.uint8)


@functools.cache
def celeba_members():
    faces = {
        f"img_align_celeba/{i:06}.jpg": encoded(celebrity(i), "JPEG") for i in range(14, 0, -1)
    }
    lists = {"list_attr_celeba.txt": attributes().encode()}
    return {"img_align_celeba.zip": faces, "list_attr_celeba.txt": lists}


def celeba_pack(members):
    return only(members) if "list_attr_celeba.txt" in members else zipped(members)


# --- Tiny-ImageNet --------------------------------------------------------------------------

WNIDS = ["n02", "n01", "n03"]  # not sorted, as in the original
LEVELS = [*(80 * c + i for c in range(3) for i in range(11)), *range(200, 206)]


@functools.cache
def tiny_members():
    """3 classes of 11 training pictures, and 6 for validation; some are grey."""

    def picture(level, grey=False):
        return encoded(np.full((64, 64, 3), level, np.uint8), "JPEG", "L" if grey else None)

    notes = "".join(f"val_{i}.JPEG\t{WNIDS[i % 3]}\t0\t0\t62\t62\n" for i in range(6))
    members = {
        "wnids.txt": "\n".join(WNIDS).encode(),
        "words.txt": b"n01\tgoldfish, Carassius auratus\nn02\tcrane\nn03\tcrane\nn99\tother\n",
        "val/val_annotations.txt": notes.encode(),
        "test/images/test_0.JPEG": b"not read",
    }
    for number, wnid in enumerate(WNIDS):
        for i in reversed(range(11)):
            name = f"train/{wnid}/images/{wnid}_{i}.JPEG"
            members[name] = picture(80 * number + i, grey=i == 3)
        members[f"train/{wnid}/{wnid}_boxes.txt"] = b"x"
    members |= {f"val/images/val_{i}.JPEG": picture(200 + i) for i in range(6)}
    return {"tiny-imagenet-200.zip": {f"tiny-imagenet-200/{n}": c for n, c in members.items()}}


# --- all of them ----------------------------------------------------------------------------

SMALL = {
    "mnist": idx(data.mnist, "MNIST/raw", tuple("0123456789")),
    "fashion_mnist": idx(
        data.fashion_mnist, "FashionMNIST/raw", data.PUBLISHED["fashion_mnist"].classes
    ),
    "orl_faces": Small(
        load=data.orl_faces,
        folder="ATT",
        members=orl_members,
        pack=zipped,
        pixels=lambda: np.stack([face(i // 10 + 1, 0)[10:102] for i in range(400)])[:, None],
        labels=[i // 10 for i in range(400)],
        classes=tuple(f"s{i}" for i in range(1, 41)),
        blocks=[i // 10 for i in range(400)],
        parts=(20, 16, 4),
        unlike="does not hold the original pictures",
    ),
    "omniglot": Small(
        load=data.omniglot,
        folder="omniglot-py",
        members=omniglot_members,
        pack=zipped,
        pixels=lambda: np.stack(
            [255 - drawing(c + d) for _ in LETTERS for c in (1, 2) for d in range(1, 21)]
        )[:, None],
        labels=[i // 20 for i in range(200)],  # Greek is in both archives, and taken once
        classes=tuple(f"{letters}/character0{c}" for letters in LETTERS for c in (1, 2)),
        blocks=[i // 40 for i in range(200)],
        parts=(2, 2, 1),
        unlike="is incomplete: it holds 120 of 2720 drawings",
    ),
    "cifar10": Small(
        load=data.cifar10,
        folder="CIFAR10",
        members=cifar_members,
        pack=tarred,
        pixels=lambda: np.concatenate([records(n)[:, 1:].reshape(-1, 3, 32, 32) for n in range(6)]),
        labels=[(n + i) % 10 for n in range(6) for i in range(PER_FILE)],
        classes=(
            *("airplane", "automobile", "bird", "cat", "deer"),
            *("dog", "frog", "horse", "ship", "truck"),
        ),
        blocks=[row // 1000 for row in range(12_000)],
        parts=(5, 4, 3),
        unlike="not the original file .its SHA-256",
        train_rows=10_000,
    ),
    "celeba": Small(
        load=data.celeba,
        folder="celeba",
        members=celeba_members,
        pack=celeba_pack,
        pixels=lambda: np.stack([celebrity(i, 178) for i in range(1, 15)]).transpose(0, 3, 1, 2),
        labels=[int(i % 2 == 0) for i in range(1, 15)],
        classes=("no Male", "Male"),
        blocks=[*range(14)],
        parts=(6, 4, 4),
        unlike="lists 14 of 202599 pictures; get it from the page",
        tolerance=3,  # JPEG loses a little
    ),
    "tiny_imagenet": Small(
        load=data.tiny_imagenet,
        folder="TinyImageNet",
        members=tiny_members,
        pack=zipped,
        pixels=lambda: np.array(LEVELS)[:, None, None, None] * np.ones((3, 64, 64)),
        labels=[0] * 11 + [1] * 11 + [2] * 11 + [0, 1, 2] * 2,
        classes=("n02 crane", "n01 goldfish", "n03 crane"),
        blocks=[*range(39)],
        parts=(17, 11, 11),
        unlike="it holds 33 of 100000 training pictures",
        train_rows=33,
        tolerance=1,
    ),
}
BY_HAND = ("celeba", "tiny_imagenet")


def publish(small, mirrors):
    """Describe the copy as if it were the original, published at `mirrors`; a list of these."""
    contents = small.content()
    pins = {n: Pin(len(c), hashlib.sha256(c).hexdigest()) for n, c in contents.items()}
    changes = {"mirrors": mirrors, "terms": "free for tests."}
    if small.load is data.omniglot:
        changes["images"] = 120
        archives = [files for name, files in small.module.ARCHIVES.items() if name in ALPHABETS]
        return [
            dataclasses.replace(files, files={n: pins[n] for n in files.files}, **changes)
            for files in archives
        ]
    if small.load is data.orl_faces:
        pictures = orl_members()["att_faces.zip"]
        joined = b"".join(pictures[f"s{p}/{i}.pgm"] for p in range(1, 41) for i in range(1, 11))
        pins = {"att_faces.zip": Pin(None, hashlib.sha256(joined).hexdigest())}
    if "md5" in {field.name for field in dataclasses.fields(small.module.FILES)}:
        changes["md5"] = {
            name: hashlib.md5(content, usedforsecurity=False).hexdigest()
            for members in small.members().values()
            for name, content in members.items()
        }
    return [dataclasses.replace(small.module.FILES, files=pins, **changes)]


def install(small, published: list[Published], monkeypatch):
    """Have the loader and the shell take these descriptions for the originals'."""
    for files in published:
        monkeypatch.setitem(data.PUBLISHED, files.name, files)
        if small.load is data.omniglot:
            monkeypatch.setitem(small.module.ARCHIVES, files.name.removeprefix("omniglot_"), files)
        else:
            monkeypatch.setattr(small.module, "FILES", files)
