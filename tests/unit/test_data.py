"""Data sets: content, parts that share nothing, and files that are not what they should be."""

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
from hypothesis import given
from hypothesis import strategies as st

import splitlab as sl
from splitlab.data import DataError, ImageData, digits, fashion_mnist, mnist
from splitlab.data.digits import FORM_STARTS
from splitlab.data.idx import MAX_BYTES, read_idx
from splitlab.data.pixels import resize

real_files = pytest.mark.skipif(
    not os.environ.get("SPLITLAB_DATA"),
    reason="SPLITLAB_DATA is not set: the original MNIST and Fashion-MNIST files are not here",
)
LOADERS = {"MNIST": mnist, "FashionMNIST": fashion_mnist}


@pytest.fixture(scope="module")
def data():
    return digits()


def storages(data):
    return [t.untyped_storage().data_ptr() for t in (data.x, data.y, data.block, data.row)]


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    assert len(text) < 400
    return text


def small(n=12, channels=1, **changes):
    x = torch.linspace(-1, 1, n * 16).reshape(n, 1, 4, 4).expand(-1, channels, -1, -1)
    fields = {"x": x, "y": torch.arange(n) % 3, "classes": ("a", "b", "c"), **changes}
    return ImageData(**fields)


# --- importing ------------------------------------------------------------------------------


def test_importing_the_data_package_imports_no_heavy_library():
    code = (
        "import sys, splitlab.data\n"
        "print([m for m in ('sklearn', 'matplotlib', 'torchvision') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


# --- digits ---------------------------------------------------------------------------------


def test_digits_are_scikit_learns_at_their_own_size():
    from sklearn.datasets import load_digits

    bundle = load_digits()
    data = digits(size=8)
    assert torch.equal((data.x[:, 0] + 1) * 8, torch.from_numpy(bundle.images).float())
    assert data.y.tolist() == bundle.target.tolist()
    assert data.value_range == (-1.0, 1.0)
    assert data.classes == tuple("0123456789")


def test_digits_are_enlarged_bilinearly_with_half_pixel_centres(data):
    assert data.shape == (1, 16, 16)
    source, large = digits(size=8).x[:, 0], data.x[:, 0]
    # Pixel 2i + 1 of the large image lies a quarter pixel beyond pixel i: weights 3/4 and 1/4.
    rows = 0.75 * source[:, :-1] + 0.25 * source[:, 1:]
    expected = 0.75 * rows[:, :, :-1] + 0.25 * rows[:, :, 1:]
    assert torch.allclose(large[:, 1:-1:2, 1:-1:2], expected, atol=1e-6)


def test_each_form_starts_with_the_run_of_digits_that_forms_ask_for(data):
    run = [k % 10 for k in range(30)]
    after = [0, 9, 5, 5, 6, 5, 0, 9, 8, 9]
    for form, start in enumerate(FORM_STARTS):
        labels = data.y[start : start + 40].tolist()
        if form == 7:  # its first 0 is missing
            assert labels[:39] == run[1:] + after
        elif form == 12:  # the 7 and 8 of its second run are missing
            assert labels[:38] == run[:17] + run[19:] + after
        else:
            assert labels == run + after
        if start:
            assert data.y[start - 2 : start].tolist() in ([9, 8], [9, 3], [0, 8])


def test_blocks_of_digits_are_the_forms(data):
    assert len(FORM_STARTS) == 14
    sizes = torch.bincount(data.block)
    assert sizes.tolist() == np.diff([*FORM_STARTS, 1797]).tolist()
    assert (data.block.diff() >= 0).all()


# --- splits ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(60))
def test_split_deals_every_form_to_one_part(data, seed):
    parts = data.split(seed)
    assert [len(p.block.unique()) for p in parts] == [5, 5, 4]
    assert [p.part for p in parts] == ["private", "public", "referee"]
    rows = torch.cat([p.row for p in parts])
    assert rows.sort().values.tolist() == list(range(len(data)))
    assert len(torch.cat([p.block.unique() for p in parts]).unique()) == 14
    assert len(parts.private) >= 500
    for part in parts:
        assert (part.row.diff() > 0).all()
        assert torch.equal(part.x, data.x[part.row])
        assert torch.equal(part.y, data.y[part.row])
        assert len(part.y.unique()) == 10


def test_split_depends_on_the_seed_alone(data):
    torch.manual_seed(1)
    first = data.split(3)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again = data.split(3)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a.row, b.row) for a, b in zip(first, again, strict=True))
    assert len({tuple(data.split(s).private.block.unique().tolist()) for s in range(30)}) > 20


def test_split_of_a_seed_is_the_same_on_every_machine(data):
    private, public, referee = data.split(0)
    assert private.block.unique().tolist() == [2, 3, 4, 6, 7]
    assert public.block.unique().tolist() == [1, 9, 10, 11, 12]
    assert referee.block.unique().tolist() == [0, 5, 8, 13]


def test_attributes_go_with_their_rows(monkeypatch):
    odd = torch.arange(12) % 2 == 1
    data = small(attributes={"odd": odd})
    assert data.select([3, 4]).attributes["odd"].tolist() == [True, False]
    assert torch.equal(data.subset(5, seed=1).attributes["odd"], data.subset(5, seed=1).row % 2 > 0)
    for part in data.split(0):
        assert torch.equal(part.attributes["odd"], odd[part.row])
        assert part.attributes["odd"].untyped_storage().data_ptr() != odd.data_ptr()
    monkeypatch.setattr(
        ImageData, "_check_values", lambda data: None
    )  # needs values; meta has none
    moved = data.to("meta")
    assert moved.attributes["odd"].is_meta


def test_an_attribute_becomes_the_label():
    data = small(attributes={"odd_one": torch.arange(12) % 2 == 1})
    relabelled = data.labelled("odd_one")
    assert relabelled.y.tolist() == [0, 1] * 6
    assert relabelled.classes == ("no odd one", "odd one")
    assert data.classes == ("a", "b", "c")
    with pytest.raises(
        DataError, match="no attribute 'even'; its attributes are: odd_one"
    ) as error:
        data.labelled("even")
    one_sentence(error)
    with pytest.raises(DataError, match="its attributes are: none"):
        small().labelled("odd_one")


@pytest.mark.parametrize("wrong", [torch.ones(11) > 0, torch.ones(12)])
def test_attributes_are_one_bool_for_each_image(wrong):
    with pytest.raises(
        DataError, match=r"the attribute odd must be bool of shape \(12,\)"
    ) as error:
        small(attributes={"odd": wrong})
    one_sentence(error)


@pytest.mark.parametrize("channels", [1, 3])
def test_no_two_parts_share_storage(channels):
    data = digits(channels=channels)
    private, public, referee = data.split(0)
    owners = [data, private, public, referee, private.subset(20), private.without(3)]
    owners += [data.subset(len(data)), data.select(torch.arange(len(data)))]
    pointers = [p for owner in owners for p in storages(owner)]
    assert len(set(pointers)) == len(pointers)
    for owner in owners[1:]:
        assert owner.x.untyped_storage().nbytes() == len(owner) * 16 * 16 * 4
        assert owner.y.untyped_storage().nbytes() == len(owner) * 8


def test_a_change_to_one_part_does_not_reach_another(data):
    private, public, _ = data.split(0)
    kept = data.x.clone(), public.x.clone()
    private.x.fill_(0)
    assert torch.equal(kept[0], data.x)
    assert torch.equal(kept[1], public.x)


def test_a_part_can_be_split_again_and_says_so(data):
    public = data.split(0).public
    parts = public.split(1)
    assert sum(map(len, parts)) == len(public)
    assert set(parts.private.block.tolist()) < set(public.block.tolist())
    assert parts.private.part == "private"
    assert parts.private.name == "digits (public)"


def test_shares_can_be_chosen(data):
    parts = data.split(0, shares=(10, 2, 2))
    assert [len(p.block.unique()) for p in parts] == [10, 2, 2]


def test_too_few_blocks_to_split_is_refused(data):
    one_form = data.select(data.block == 0)
    with pytest.raises(DataError, match="1 blocks of rows are too few") as error:
        one_form.split(0)
    one_sentence(error)
    with pytest.raises(DataError, match="three numbers above 0"):
        data.split(0, shares=(1, 0, 1))


def test_digits_have_no_official_split(data):
    with pytest.raises(DataError, match=r"no official split; use split\(seed\)") as error:
        data.official_split()
    one_sentence(error)


# --- one data set ---------------------------------------------------------------------------


def test_repr_is_one_informative_line(data):
    private = data.split(0).private.without([0, 1])
    text = repr(private)
    assert text == (
        f"ImageData(digits, private: {len(private)} images 1x16x16, 8 of 10 classes, "
        f"values -1 to 1, 5 blocks, cpu)"
    )


def test_without_drops_classes_by_number_and_by_name(data):
    left = data.without([3, "7"])
    assert set(left.y.tolist()) == set(range(10)) - {3, 7}
    assert len(left) == int(((data.y != 3) & (data.y != 7)).sum())
    assert torch.equal(left.x, data.x[left.row])
    assert left.classes == data.classes
    assert torch.equal(data.without("3").row, data.without(3).row)


@pytest.mark.parametrize("unknown", [10, -1, "ten", [1, "x"]])
def test_without_refuses_unknown_classes(data, unknown):
    with pytest.raises(DataError, match=r"digits has no class .*it has 0 '0', 1 '1'") as error:
        data.without(unknown)
    one_sentence(error)


def test_without_refuses_to_leave_nothing(data):
    with pytest.raises(DataError, match="nothing is left"):
        data.without(range(10))


def test_subset_is_seeded_and_keeps_the_order(data):
    part = data.subset(100, seed=4)
    assert len(part) == len(set(part.row.tolist())) == 100
    assert (part.row.diff() > 0).all()
    assert torch.equal(part.x, data.x[part.row])
    assert torch.equal(part.row, data.subset(100, seed=4).row)
    assert not torch.equal(part.row, data.subset(100, seed=5).row)


@pytest.mark.parametrize("n", [0, -1, 1798])
def test_subset_of_an_impossible_size_is_refused(data, n):
    with pytest.raises(DataError, match="choose n from 1 to 1797") as error:
        data.subset(n)
    one_sentence(error)


def test_select_takes_rows_in_the_order_given(data):
    part = data.select([5, 2, 2])
    assert part.row.tolist() == [5, 2, 2]
    assert torch.equal(part.x[0], data.x[5])
    with pytest.raises(DataError, match="from 0 to 1796"):
        data.select([1797])
    with pytest.raises(DataError, match="from 0 to 1796"):
        data.select([-1])
    with pytest.raises(DataError, match="at least one row"):
        data.select([])
    with pytest.raises(DataError, match="mask of 1797 values"):
        data.select([True, False])


def test_grey_images_for_three_channels_keep_one(data):
    grey = digits(channels=3)
    assert grey.shape == (3, 16, 16)
    assert torch.equal(grey.x[:, 2], data.x[:, 0])
    private, _, _ = grey.split(0)
    for part in (private, private.subset(9), private.without(1), private.select([0])):
        assert part.grey
        assert part.x.stride(1) == 0
        assert part.x.untyped_storage().nbytes() == len(part) * 16 * 16 * 4


def test_colour_images_are_not_grey():
    colour = ImageData(torch.rand(4, 3, 8, 8), torch.zeros(4).long(), ("a",), "colour")
    assert not colour.grey
    assert not colour.select([0, 1]).grey
    assert torch.equal(colour.select([2]).x, colour.x[2:3])


def test_to_the_same_device_is_the_same_object(data):
    assert data.to("cpu") is data


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_to_another_device_keeps_one_grey_channel():
    moved = digits(channels=3).to("cuda")
    assert moved.x.device.type == moved.y.device.type == moved.row.device.type == "cuda"
    assert moved.x.stride(1) == 0
    assert moved.row_hashes() == digits().row_hashes()
    cpu = digits().split(0)
    assert all(torch.equal(a.row.cpu(), b.row) for a, b in zip(moved.split(0), cpu, strict=True))


def test_hashes_name_pictures_not_scales_or_channels(data):
    hashes = data.row_hashes()
    assert len(hashes) == 1797
    assert digits(channels=3).row_hashes() == hashes
    other_scale = ImageData(
        (data.x + 1) / 2, data.y, data.classes, "digits", value_range=(0.0, 1.0)
    )
    assert other_scale.row_hashes() == hashes
    private, public, _ = data.split(0)
    assert not private.row_hashes() & public.row_hashes()
    assert len(private.row_hashes() & data.subset(900).row_hashes()) > 100


BAD_FIELDS = [
    ({"x": torch.zeros(12, 4, 4)}, "float32 of shape"),
    ({"x": torch.zeros(12, 1, 4, 4, dtype=torch.float64)}, "float32 of shape"),
    ({"x": torch.zeros(0, 1, 4, 4), "y": torch.zeros(0).long()}, "at least one image"),
    ({"y": torch.zeros(11).long()}, r"y must be int64 of shape \(12,\)"),
    ({"y": torch.zeros(12)}, "y must be int64"),
    ({"block": torch.zeros(3).long()}, "block must be int64"),
    ({"y": torch.full((12,), 3)}, "labels run from 3 to 3, but there are 3 classes"),
    ({"y": torch.full((12,), -1)}, "labels run from -1"),
    ({"x": torch.full((12, 1, 4, 4), 1.5)}, "outside the value range -1 to 1"),
    ({"x": torch.full((12, 1, 4, 4), float("nan"))}, "nan"),
    ({"value_range": (0.0, 1.0)}, "outside the value range 0 to 1"),
]


@pytest.mark.parametrize("changes, message", BAD_FIELDS)
def test_contradictory_data_are_refused(changes, message):
    assert len(small()) == 12
    with pytest.raises(DataError, match=message) as error:
        small(**changes)
    one_sentence(error)


def test_rows_without_known_blocks_are_blocks_of_their_own():
    data = small(14)
    assert data.block.tolist() == data.row.tolist() == list(range(14))
    assert [len(p) for p in data.split(0)] == [6, 4, 4]


@given(st.integers(3, 60), st.integers(1, 9), st.integers(0, 2**40))
def test_split_is_a_partition_by_blocks(n, blocks, seed):
    data = small(n, block=torch.arange(n) % blocks)
    try:
        parts = data.split(seed)
    except DataError:
        assert min(n, blocks) < 5
        return
    rows = torch.cat([p.row for p in parts])
    assert sorted(rows.tolist()) == list(range(n))
    sets = [set(p.block.tolist()) for p in parts]
    assert not (sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2])


@pytest.mark.parametrize("size", [0, 3, 257, 16.0, "16"])
def test_impossible_sizes_are_refused(size):
    with pytest.raises(DataError, match="whole number of pixels from 4 to 256") as error:
        digits(size=size)
    one_sentence(error)


def test_impossible_channels_are_refused():
    with pytest.raises(DataError, match="channels must be 1"):
        digits(channels=2)


def test_shrinking_looks_at_every_pixel():
    dot = torch.zeros(1, 1, 28, 28)
    for column in range(28):
        dot.zero_()[0, 0, 14, column] = 1
        assert resize(dot, 7).sum() > 0.01


# --- idx files ------------------------------------------------------------------------------


def idx_bytes(array, kind=8):
    head = bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


def write_set(root, name="MNIST", train=6000, test=1000, packed=True, change=None):
    """Write a small data set of random images in the original layout; return its folder."""
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for prefix, count in (("train", train), ("t10k", test)):
        arrays = {
            f"{prefix}-images-idx3-ubyte": generator.integers(0, 256, (count, 28, 28)),
            f"{prefix}-labels-idx1-ubyte": np.arange(count) % 10,
        }
        for file_name, array in arrays.items():
            array = change(file_name, array) if change else array
            content = idx_bytes(array)
            if packed:
                file_name, content = f"{file_name}.gz", gzip.compress(content, 1)
            (folder / file_name).write_bytes(content)
    return folder


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


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("packed", [True, False])
def test_loaders_read_their_own_folder(tmp_path, name, packed):
    write_set(tmp_path, name, packed=packed)
    data = LOADERS[name](size=28, folder=tmp_path, verify=False)
    assert data.shape == (1, 28, 28)
    assert len(data) == 7000
    assert data.block.tolist() == [row // 1000 for row in range(7000)]
    raw = np.random.default_rng(0).integers(0, 256, (6000, 28, 28))
    assert torch.allclose((data.x[:6000, 0] + 1) * 127.5, torch.from_numpy(raw).float(), atol=1e-4)
    private, public, referee = data.split(0)
    assert [len(p) for p in (private, public, referee)] == [3000, 2000, 2000]


def test_the_folder_argument_goes_before_the_environment(tmp_path, monkeypatch):
    write_set(tmp_path / "argument", train=20, test=10)
    write_set(tmp_path / "environment", train=30, test=10)
    monkeypatch.setenv("SPLITLAB_DATA", str(tmp_path / "environment"))
    assert len(mnist(verify=False)) == 40
    assert len(mnist(folder=tmp_path / "argument", verify=False)) == 30


def test_official_split_is_by_file(tmp_path):
    write_set(tmp_path, train=20, test=10)
    data = mnist(size=28, channels=3, folder=tmp_path, verify=False)
    private, public, referee = data.official_split()
    assert private.row.tolist() == list(range(20))
    assert public.row.tolist() == list(range(20, 30))
    assert referee is None
    assert private.part, public.part == ("private", "public")
    assert len({p for d in (data, private, public) for p in storages(d)}) == 12
    assert private.x.stride(1) == public.x.stride(1) == 0
    with pytest.raises(DataError, match="call official_split on the whole data set") as error:
        private.official_split()
    one_sentence(error)


def test_files_of_someones_own_making_are_refused_unless_asked_for(tmp_path):
    write_set(tmp_path, train=20, test=10)
    with pytest.raises(DataError, match="not the original file"):
        mnist(folder=tmp_path)


def test_fashion_mnist_in_mnists_folder_is_refused(tmp_path):
    folder = write_set(tmp_path, "FashionMNIST", train=20, test=10)
    (tmp_path / "MNIST").mkdir()
    folder.rename(tmp_path / "MNIST" / "raw")
    with pytest.raises(DataError, match="not the original file"):
        mnist(folder=tmp_path)


def test_images_and_labels_must_be_as_many(tmp_path):
    def change(name, array):
        return array[:-1] if name == "train-labels-idx1-ubyte" else array

    write_set(tmp_path, train=20, test=10, change=change)
    with pytest.raises(DataError, match="20 images, but its file of labels holds 19") as error:
        mnist(folder=tmp_path, verify=False)
    one_sentence(error)


def test_labels_out_of_range_are_refused(tmp_path):
    def change(name, array):
        return array + 1 if name == "t10k-labels-idx1-ubyte" else array

    write_set(tmp_path, train=20, test=10, change=change)
    with pytest.raises(DataError, match=r"t10k-labels.*label 10, but mnist has only 10") as error:
        mnist(folder=tmp_path, verify=False)
    one_sentence(error)


@pytest.mark.parametrize("which", ["images", "labels"])
def test_arrays_of_the_wrong_shape_are_refused(tmp_path, which):
    def change(name, array):
        if which not in name:
            return array
        return array[:, :27] if which == "images" else array[:, None]

    write_set(tmp_path, train=20, test=10, change=change)
    with pytest.raises(DataError, match="holds values of shape") as error:
        mnist(folder=tmp_path, verify=False)
    one_sentence(error)


def test_a_missing_folder_or_file_is_named(tmp_path):
    with pytest.raises(DataError, match="does not exist; make it, and put the four files"):
        mnist(folder=tmp_path)
    folder = write_set(tmp_path, train=20, test=10)
    (folder / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte.gz is missing; download http"):
        mnist(folder=tmp_path, verify=False)


@pytest.mark.parametrize("loader", LOADERS.values())
def test_without_data_and_offline_the_loader_says_what_to_set(monkeypatch, loader):
    monkeypatch.delenv("SPLITLAB_DATA", raising=False)
    with pytest.raises(
        DataError, match=r"set SPLITLAB_DATA .*digits, which needs nothing"
    ) as error:
        loader()
    one_sentence(error)


def test_a_data_folder_that_is_none_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SPLITLAB_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(
        DataError, match=r"SPLITLAB_DATA names .*nowhere, which is not a fol"
    ) as error:
        mnist()
    one_sentence(error)


# --- the original files ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def original():
    return {name: loader(channels=3) for name, loader in LOADERS.items()}


TRAIN_COUNTS = {
    "MNIST": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
    "FashionMNIST": [6000] * 10,
}
FIRST_LABELS = {
    "MNIST": ([5, 0, 4, 1, 9, 2, 1, 3, 1, 4], [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]),
    "FashionMNIST": ([9, 0, 0, 3, 0, 2, 7, 2, 5, 5], [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]),
}


@real_files
@pytest.mark.parametrize("name", LOADERS)
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
    "name, mean, sd", [("MNIST", 0.1307, 0.3081), ("FashionMNIST", 0.2860, 0.3530)]
)
def test_original_pixels_have_their_published_mean(name, mean, sd):
    folder = Path(os.environ["SPLITLAB_DATA"]) / name / "raw"
    pixels = read_idx(folder / "train-images-idx3-ubyte.gz") / 255.0
    assert pixels.mean() == pytest.approx(mean, abs=5e-5)
    assert pixels.std() == pytest.approx(sd, abs=5e-5)


@real_files
@pytest.mark.parametrize("name", LOADERS)
def test_original_images_are_resized_as_in_the_paper(original, name):
    folder = Path(os.environ["SPLITLAB_DATA"]) / name / "raw"
    raw = read_idx(folder / "t10k-images-idx3-ubyte.gz")[7].astype(np.float64)
    # Bilinear by hand: the centre of pixel i of 32 lies at (i + 1/2) 28/32 - 1/2 of the 28.
    at = np.clip((np.arange(32) + 0.5) * 28 / 32 - 0.5, 0, 27)
    low, weight = np.floor(at).astype(int), at - np.floor(at)
    high = np.minimum(low + 1, 27)
    rows = raw[low] * (1 - weight)[:, None] + raw[high] * weight[:, None]
    wanted = rows[:, low] * (1 - weight) + rows[:, high] * weight
    wanted = np.clip(wanted / 127.5 - 1, -1, 1)
    assert np.allclose(original[name].x[60_007].numpy(), wanted, atol=1e-5)


@real_files
@pytest.mark.parametrize("name", LOADERS)
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
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
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


def test_one_class_against_the_rest(data):
    for wanted in (3, "3"):
        three = data.one_against_rest(wanted)
        assert torch.equal(three.y, (data.y == 3).long())
        assert three.classes == ("not 3", "3")
        assert three.x is data.x
    with pytest.raises(DataError, match="has no class 'cat'"):
        data.one_against_rest("cat")
