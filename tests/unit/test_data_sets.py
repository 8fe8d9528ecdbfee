"""The published data sets, from small copies of their files: what is read, and what is refused."""

import dataclasses
import gzip
import re
import sys

import data_sets
import numpy as np
import pytest
import torch
from data_sets import BATCH, BATCHES, BY_HAND, LINK, PER_FILE, PROPERTIES, SMALL, encoded, zipped

from splitlab.course import cli
from splitlab.data import BUILT_IN, PUBLISHED, DataError, download, omniglot, published
from splitlab.data.archives import Zip

TINY = "tiny-imagenet-200/"
WITH_N = [name for name in SMALL if name not in ("mnist", "fashion_mnist")]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Terms that one test has shown are new to the next one; a file of CIFAR-10 is small."""
    monkeypatch.setenv(published.CACHE, str(tmp_path / "cache"))
    monkeypatch.setattr(sys.modules["splitlab.data.cifar10"], "PER_FILE", PER_FILE)


@pytest.fixture
def root(tmp_path):
    """The data folder."""
    return tmp_path / "data"


@pytest.fixture
def small(request, root):
    """A small copy, by the test's parameter, written below the data folder."""
    SMALL[request.param].write(root)
    return SMALL[request.param]


each = pytest.mark.parametrize("small", SMALL, indirect=True)
each_with_n = pytest.mark.parametrize("small", WITH_N, indirect=True)


def one(name):
    return pytest.mark.parametrize("small", [name], indirect=True)


def held(root):
    """Every file below a folder: path -> content."""
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def refused(message, call, *arguments, **options):
    """Check that a call raises a DataError of one sentence; return it."""
    with pytest.raises(DataError, match=message) as error:
        call(*arguments, **options)
    text = str(error.value)
    assert "\n" not in text and text.endswith(".")
    return text


# --- every data set -------------------------------------------------------------------------


@each
def test_a_copy_is_read_as_it_is_and_left_alone(small, root):
    before = held(root)
    pixels = torch.from_numpy(small.pixels()).float()
    data = small.read(root, size=pixels.shape[-1], channels=pixels.shape[1])
    assert data.shape == pixels.shape[1:]
    assert torch.allclose((data.x + 1) * 127.5, pixels, atol=small.tolerance)
    assert data.y.tolist() == small.labels and data.classes == small.classes
    assert data.block.tolist() == small.blocks and data.row.tolist() == [*range(len(data))]
    assert data.value_range == (-1.0, 1.0) and data.part == "all"
    assert held(root) == before


@each
def test_every_size_and_both_numbers_of_channels_can_be_had(small, root):
    grey, wide = small.read(root, size=8, channels=1), small.read(root, size=8, channels=3)
    assert grey.shape == (1, 8, 8) and wide.shape == (3, 8, 8)
    assert wide.grey == (small.pixels().shape[1] == 1)
    assert small.read(root).shape[0] == small.pixels().shape[1]


@each
def test_blocks_are_dealt_whole(small, root):
    data = small.read(root, size=8)
    for seed in range(5):
        blocks = [set(part.block.tolist()) for part in data.split(seed)]
        assert tuple(map(len, blocks)) == small.parts
        assert len(set.union(*blocks)) == sum(small.parts)


@each
def test_the_official_split_is_by_file(small, root):
    data = small.read(root, size=8, channels=3)
    if small.train_rows is None:
        refused("no official split", data.official_split)
        return
    private, public, referee = data.official_split()
    assert private.row.tolist() == [*range(small.train_rows)] and referee is None
    assert public.row.tolist() == [*range(small.train_rows, len(data))]
    assert (private.part, public.part) == ("private", "public")
    tensors = [t for d in (data, private, public) for t in (d.x, d.y, d.block, d.row)]
    assert len({t.untyped_storage().data_ptr() for t in tensors}) == 12
    assert private.grey == data.grey
    refused("call official_split on the whole data set", private.official_split)


@each_with_n
def test_only_what_is_asked_for_is_decoded(small, root, monkeypatch):
    whole = small.read(root, size=8)
    decoded, usual = [], Zip.picture

    def picture(self, name, *rest):
        decoded.append(name)
        return usual(self, name, *rest)

    monkeypatch.setattr(Zip, "picture", picture)
    data = small.read(root, size=8, n=7)
    assert len(decoded) == (0 if small is SMALL["cifar10"] else 7)
    assert data.row.tolist() == [i * len(whole) // 7 for i in range(7)]
    assert torch.equal(data.x, whole.x[data.row]) and torch.equal(data.y, whole.y[data.row])
    assert torch.equal(data.block, whole.block[data.row]) and data.classes == whole.classes
    message = f"n must be a whole number of images from 1 to {len(whole)}"
    refused(message, small.read, root, n=len(whole) + 1)


@each
def test_a_copy_that_is_not_the_original_is_refused_unless_asked_for(small, root):
    before = held(root)
    assert str(root / small.folder) in refused(small.unlike, small.read, root, verify=True)
    assert held(root) == before


@each
def test_a_missing_file_or_folder_is_named(small, root):
    for path in sorted((root / small.folder).iterdir()):
        content = path.read_bytes()
        path.unlink()
        wanted = rf"{re.escape(str(path))} is missing; (download http|get it from) ?\S+"
        refused(wanted, small.read, root)
        path.write_bytes(content)
    message = r"does not exist; make it, and put the (one file|two files|four files) "
    refused(message, small.read, root / "nowhere")


@pytest.mark.parametrize("small", SMALL.values(), ids=SMALL)
@pytest.mark.parametrize("options", [{"size": 3}, {"channels": 2}])
def test_impossible_requests_are_refused_before_anything_is_read(small, tmp_path, options):
    refused("size must be|channels must be", small.read, tmp_path / "nowhere", **options)


DAMAGES = {
    "empty": (lambda content: b"", "is not a|is neither a gzip nor"),
    "wrong magic": (lambda content: b"Rar!" + content, "is not a|is neither a gzip nor"),
    "web page": (lambda content: b"\n <!DOCTYPE html><html>Quota exceeded", "is a web page"),
    "only the magic": (lambda content: content[:4], "damaged or cut short"),
    "cut in the middle": (lambda content: content[: len(content) // 2], "damaged or cut short"),
    "cut at the end": (lambda content: content[:-9], "damaged or cut short"),
}


@each
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused(small, root, damage):
    change, message = DAMAGES[damage]
    path = root / small.folder / next(iter(small.members()))
    path.write_bytes(change(path.read_bytes()))
    assert str(path) in refused(message, small.read, root, size=8)


def changed_list(old, new):
    return {"list_attr_celeba.txt": data_sets.attributes().replace(old, new).encode()}


def idx(name, change):
    return {f"{name}-ubyte": data_sets.idx_bytes(change(data_sets.idx_arrays()[f"{name}-ubyte"]))}


GOOD_LIST = data_sets.attributes()
NOTES = f"{TINY}val/val_annotations.txt"
LABEL_10 = b"\x0a" + data_sets.records(2).tobytes()[1:]
SHORT = data_sets.records(1).tobytes()[3073:]
UNIQUE = "images_background_small1/Latin/character02/0002_20.png"
CHANGES = [
    ("mnist", idx("train-labels-idx1", lambda a: a[:-1]), "6000 images, .* labels holds 5999"),
    ("mnist", idx("t10k-labels-idx1", lambda a: a + 1), "t10k-labels.*label 10, but mnist has on"),
    ("fashion_mnist", idx("train-images-idx3", lambda a: a[:, :27]), "holds values of shape"),
    ("fashion_mnist", idx("train-labels-idx1", lambda a: a[:, None]), "holds values of shape"),
    ("orl_faces", {"s7/3.pgm": None}, r": s7/3.pgm is missing of the 400 pictures; download http"),
    ("orl_faces", {"s40/10.pgm": None, "s7/3.pgm": None, "s39/1.pgm": None}, "7/3.pgm and 2 more"),
    ("orl_faces", {"s9/9.pgm": encoded(data_sets.face(9, 9), "PNG")}, "9.pgm is not a PPM picture"),
    ("omniglot", {UNIQUE: None}, "Latin/character02 has 19 drawings instead of 20"),
    ("cifar10", {f"{BATCH}test_batch.bin": None}, "is incomplete: test_batch.bin is missing"),
    ("cifar10", {f"{BATCH}test_batch.bin": LINK}, "is incomplete: test_batch.bin is missing"),
    ("cifar10", {f"{BATCH}data_batch_2.bin": SHORT}, "has 6,142,927 bytes instead of 6,146,000"),
    ("cifar10", {f"{BATCH}data_batch_3.bin": LABEL_10}, "label 10, but there are only 10 classes"),
    ("cifar10", {f"{BATCH}{name}": None for name in BATCHES}, "data_batch_1.bin is missing"),
    ("cifar10", {"../x.bin": b"x"}, "which leads out of the archive"),
    ("cifar10", {"/etc/x": b"x"}, "which leads out of the archive"),
    (
        "celeba",
        {f"img_align_celeba/00000{i}.jpg": None for i in (3, 9)},
        "000003.jpg and 1 more are missing of the 14 pictures",
    ),
    (
        "celeba",
        {"img_align_celeba/000005.jpg": encoded(np.zeros((64, 64, 3), np.uint8), "JPEG")},
        "has 64 x 64 pixels instead of 218 x 178",
    ),
    ("celeba", {"list_attr_celeba.txt": b""}, "does not start with a number of pictures"),
    ("celeba", {"list_attr_celeba.txt": b"<html>Quota exceeded</html>"}, "is a web page"),
    ("celeba", changed_list("14\n", ""), "does not start with a number of pictures"),
    ("celeba", changed_list("Property_7 ", ""), "the names of 40 attributes"),
    ("celeba", changed_list("Property_7 ", "Property_8 "), "the names of 40 attributes"),
    ("celeba", changed_list("Male ", "Man "), "the names of 40 attributes"),
    ("celeba", changed_list(GOOD_LIST.partition("000012")[2], ""), "line 14: not a picture and 40"),
    ("celeba", changed_list(GOOD_LIST[GOOD_LIST.index("000012") :], ""), "14 .* and lists 11"),
    ("celeba", changed_list(" 1 ", " 2 "), "line 4: not a picture and 40 values"),
    ("tiny_imagenet", {f"{TINY}wnids.txt": None}, "wnids.txt is missing; get it from http"),
    ("tiny_imagenet", {NOTES: None}, "val/val_annotations.txt is missing"),
    ("tiny_imagenet", {f"{TINY}wnids.txt": b"n01\nn02\n"}, "class n03 is not in wnids.txt"),
    ("tiny_imagenet", {NOTES: b"val_0.JPEG\tn77\t0\n"}, "gives val_0.JPEG the class 'n77'"),
    ("tiny_imagenet", {NOTES: b"val_0.JPEG\n"}, "gives val_0.JPEG the class ''"),
    ("tiny_imagenet", {NOTES: b"val_0.JPEG\tn01\n"}, "does not name val_1.JPEG"),
    (
        "tiny_imagenet",
        {f"{TINY}train/n01/images/n01_0.JPEG": b"x"},
        "n01_0.JPEG is not a JPEG picture",
    ),
    ("tiny_imagenet", {f"{TINY}../../x": b"x"}, "which leads out of the archive"),
]


@pytest.mark.parametrize("name, changes, message", CHANGES)
def test_a_copy_with_other_contents_is_refused(root, name, changes, message):
    folder = SMALL[name].write(root, changes)
    before = held(root)
    assert str(folder) in refused(message, SMALL[name].read, root, size=8)
    assert held(root) == before


@pytest.mark.parametrize(
    "name, member, message",
    [
        ("orl_faces", "s7/3.pgm", "s7/3.pgm is missing of the 400"),
        ("omniglot", UNIQUE, "Latin/character02 has 19 drawings"),
    ],
)
def test_a_partial_copy_is_told_from_another_one(root, name, member, message):
    SMALL[name].write(root, {member: None})
    refused(message, SMALL[name].read, root, verify=True)


@one("cifar10")
def test_a_packed_file_that_is_no_archive_is_refused(small, root):
    path = root / small.folder / "cifar-10-binary.tar.gz"
    path.write_bytes(gzip.compress(bytes(range(256)) * 9))
    assert str(path) in refused("damaged or cut short", small.read, root)


@each
def test_terms_are_shown_once(small, root, capsys):
    """Those of MNIST and Fashion-MNIST are shown by their download alone."""
    shown = {"mnist": 0, "fashion_mnist": 0, "omniglot": 2}
    small.read(root, size=8)
    out, err = capsys.readouterr()
    (name,) = [name for name in SMALL if SMALL[name] is small]
    assert out == "" and err.count("terms of use") == err.count("\n") == shown.get(name, 1)
    small.read(root, size=8)
    assert capsys.readouterr() == ("", "")


@one("orl_faces")
def test_terms_that_cannot_be_remembered_do_not_stop_anybody(
    small, root, tmp_path, monkeypatch, capsys
):
    (tmp_path / "file").touch()
    monkeypatch.setenv(published.CACHE, str(tmp_path / "file" / "cache"))
    for _ in range(2):
        assert len(small.read(root, size=8)) == 400
        assert capsys.readouterr().err.count("terms of use") == 1


@pytest.mark.parametrize("name", SMALL)
def test_without_files_and_offline_the_loader_says_what_to_do(name, tmp_path, monkeypatch):
    monkeypatch.delenv(published.DATA, raising=False)
    message = r"set SPLITLAB_DATA .*digits, which needs nothing"
    if name in BY_HAND:
        message = r"must be downloaded by hand.*after agreeing to .*terms.*or set SPLITLAB_DATA"
    refused(message, SMALL[name].load)
    monkeypatch.setenv(published.DATA, str(tmp_path / "none"))
    refused(r"SPLITLAB_DATA names .*none, which is not a folder", SMALL[name].load)


@pytest.mark.parametrize("name", BY_HAND)
def test_what_must_be_got_by_hand_is_never_downloaded(name, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv(download.OFFLINE)
    monkeypatch.delenv(published.DATA, raising=False)
    monkeypatch.setattr(download, "_transfer", lambda *_: pytest.fail("it was downloaded"))
    assert cli.main(["data", "get", name]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "terms, and put them into" in err
    assert str(tmp_path / "cache" / SMALL[name].folder) in err
    assert cli.main(["data", "list"]) == 0
    assert f"not here; `splitlab data get {name}` explains how to get it" in capsys.readouterr().out
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", BY_HAND)
def test_what_was_put_into_the_cache_by_hand_is_found(name, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv(published.DATA, raising=False)
    small = SMALL[name]
    folder = small.write(tmp_path / "cache")
    assert len(small.load(size=8, verify=False)) == len(small.labels)
    assert cli.main(["data", "get", name]) == 0
    capsys.readouterr()
    assert cli.main(["data", "check", name]) == 1
    out = capsys.readouterr().out
    assert out.count("is not the original file (its MD5 is not") == len(small.members())
    assert "downloads these files again" not in out
    (folder / next(iter(small.members()))).unlink()
    assert cli.main(["data", "list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    incomplete = len(small.members()) > 1  # without its only file, nothing is there
    assert ("missing); put that there" if incomplete else "explains how to get it") in lines[name]


def test_the_folder_argument_goes_before_the_environment(tmp_path, monkeypatch):
    small = SMALL["orl_faces"]
    small.write(tmp_path / "argument", {"s1/1.pgm": encoded(np.zeros((112, 92), np.uint8), "PPM")})
    small.write(tmp_path / "environment")
    monkeypatch.setenv(published.DATA, str(tmp_path / "environment"))
    assert small.load(size=8, verify=False).x[0].min() > -1
    assert small.read(tmp_path / "argument", size=8).x[0].max() == -1


@pytest.mark.parametrize("small", ["mnist", "fashion_mnist"], indirect=True)
def test_idx_files_may_be_unpacked(small, root):
    for path in list((root / small.folder).iterdir()):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert small.read(root, size=8).y.tolist() == small.labels


def test_fashion_mnist_in_mnists_folder_is_refused(root):
    SMALL["fashion_mnist"].write(root)
    (root / "MNIST").mkdir()
    (root / "FashionMNIST" / "raw").rename(root / "MNIST" / "raw")
    refused("not the original file", SMALL["mnist"].read, root, verify=True)


# --- what one data set alone has ------------------------------------------------------------


@one("orl_faces")
@pytest.mark.parametrize("top", ["att_faces/", "orl_faces/"])
def test_orl_may_have_a_top_folder(small, root, top):
    plain = small.read(root, size=16)
    members = {f"{top}{n}": c for n, c in small.members()["att_faces.zip"].items()}
    (root / "ATT" / "att_faces.zip").write_bytes(zipped(members))
    assert torch.equal(small.read(root, size=16).x, plain.x)


@one("orl_faces")
def test_orl_can_be_split_by_picture(small, root):
    by_picture = dataclasses.replace(small.read(root, size=8), block=None).split(0)
    assert set(by_picture.private.y.tolist()) & set(by_picture.public.y.tolist())


@one("omniglot")
def test_archives_of_omniglot_can_be_chosen_in_any_order(small, root):
    data = small.read(root, size=8)
    again = small.read(root, size=8, archives=["small2", "small1"])
    assert torch.equal(again.y, data.y) and torch.equal(again.x, data.x)
    first = small.read(root, size=8, archives=["small1"])
    assert len(first) == 120 and first.classes[-1] == "Latin/character02"


@pytest.mark.parametrize("chosen", [(), ["small3"], "small1", ["small1", "x"]])
def test_unknown_archives_are_refused(root, chosen):
    message = "some of small1, small2, background, evaluation"
    refused(message, omniglot, folder=root, archives=chosen)


@one("omniglot")
def test_each_archive_of_omniglot_comes_from_where_it_is(small, root, monkeypatch):
    monkeypatch.setenv(published.DATA, str(root))
    assert len(omniglot(size=8, archives=["small1"], verify=False)) == 120
    chosen = {"archives": ["small1", "evaluation"], "verify": False}
    refused(r"images_evaluation.zip is missing in .*forbids", omniglot, size=8, **chosen)


@one("omniglot")
def test_an_archive_without_drawings_is_refused(small, root):
    (root / small.folder / "images_background_small1.zip").write_bytes(zipped({"a.txt": b""}))
    refused("holds no drawings of Omniglot", small.read, root)


@one("omniglot")
def test_drawings_that_are_complete_but_others_are_refused(small, root, monkeypatch):
    small1 = dataclasses.replace(small.module.ARCHIVES["small1"], images=120)
    monkeypatch.setitem(small.module.ARCHIVES, "small1", small1)
    refused(r"not the original file .its SHA-256 is not", small.read, root, verify=True)


@one("celeba")
def test_celeba_has_all_attributes(small, root):
    data = small.read(root, size=8)
    assert list(data.attributes) == PROPERTIES and not data.attributes["Property_7"].any()
    smiling = data.labelled("Smiling")
    assert smiling.y.tolist() == [int(i % 3 == 0) for i in range(1, 15)]
    assert smiling.classes == ("no Smiling", "Smiling")
    refused("no attribute 'Tall'; its attributes are: Property_0, ", data.labelled, "Tall")
    few = small.read(root, size=8, n=2)
    assert few.attributes["Male"].tolist() == [False, True]


PEOPLE = "".join(f"{i:06}.jpg {i // 2}\n" for i in range(1, 15))


def write_people(root, lines=PEOPLE):
    """Write CelebA's third file: a picture and the number of a person in each line."""
    path = root / "celeba" / "identity_CelebA.txt"
    path.write_text(lines)
    return path


@one("celeba")
def test_celeba_with_its_third_file_is_split_by_person(small, root):
    write_people(root)
    data = small.read(root, size=8)
    assert data.block.tolist() == [i // 2 for i in range(1, 15)]
    people = [set(part.block.tolist()) for part in data.split(0)]
    assert len(set.union(*people)) == sum(map(len, people)) == 8
    assert small.read(root, size=8, n=2).block.tolist() == [0, 4]


BAD_PEOPLE = {
    "web page": ("<html>Quota exceeded</html>", "is a web page, not a list; get it from"),
    "no person": ("000001.jpg 5\n000002.jpg\n", "line 2: not a picture and the number of a person"),
    "a word": ("000001.jpg anna\n", "line 1: not a picture and the number of a person"),
    "too much": ("000001.jpg 5 6\n", "line 1: not a picture and the number of a person"),
    "cut short": ("000001.jpg 5\n", "is cut short: it does not say who is on 000002.jpg"),
    "empty": ("", "is cut short: it does not say who is on 000001.jpg"),
}


@one("celeba")
@pytest.mark.parametrize("text, message", BAD_PEOPLE.values(), ids=BAD_PEOPLE)
def test_bad_lists_of_people_are_refused(small, root, text, message):
    path = write_people(root, text)
    assert str(path) in refused(message, small.read, root, size=8)


@one("celeba")
def test_the_third_file_of_celeba_is_checked_only_where_it_is(small, root):
    complaints = PUBLISHED["celeba"].check(root / "celeba")
    assert len(complaints) == 2
    write_people(root)
    (third,) = set(PUBLISHED["celeba"].check(root / "celeba")) - set(complaints)
    assert "identity_CelebA.txt is not the original file (its MD5 is not 32bd1bd6" in third


def test_the_shell_knows_every_data_set(root, monkeypatch, capsys):
    for small in SMALL.values():
        small.write(root)
    monkeypatch.setenv(published.DATA, str(root))
    assert cli.main(["data", "list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert list(lines) == [*BUILT_IN, *PUBLISHED]
    absent = ("omniglot_background", "omniglot_evaluation")
    for name, files in PUBLISHED.items():
        if name in absent:
            assert f"`splitlab data get {name}` downloads" in lines[name]
            assert cli.main(["data", "get", name]) == 2
            assert "SPLITLAB_OFFLINE forbids" in capsys.readouterr().err
            continue
        assert lines[name].endswith(f"SPLITLAB_DATA: {root / files.folder}")
        assert cli.main(["data", "get", name]) == 0
        assert f"SPLITLAB_DATA: {root / files.folder}" in capsys.readouterr().out
        assert cli.main(["data", "check", name]) == 1
        assert re.search("original|it holds [0-9]+ of [0-9]+ drawings", capsys.readouterr().out)
