"""Data of any kind, images and the digits: what they hold, and parts that share nothing."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from splitlab.data import Data, DataError, ImageData, digits, drawn_faces
from splitlab.data.base import NOT_KNOWN, fingerprint
from splitlab.data.digits import FORM_STARTS
from splitlab.data.pixels import resize


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


def test_hashes_and_fingerprints_are_the_same_on_every_machine():
    data = digits(size=8)
    parts = [fingerprint(part) for part in data.split(3)]
    assert parts == ["24a8ea87336e8abd", "e9e0403779cf6d4a", "d0c572fd00422213"]
    assert fingerprint(data.subset(50, seed=3)) == "57872c46a6d21edc"
    assert fingerprint(drawn_faces(20, size=16)) == "66f3918f191ae0f0"
    assert hashlib.sha256(b"".join(sorted(data.row_hashes()))).hexdigest()[:16] == (
        "578ce29fddacf8a5"
    )


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


def test_one_class_against_the_rest(data):
    for wanted in (3, "3"):
        three = data.one_against_rest(wanted)
        assert torch.equal(three.y, (data.y == 3).long())
        assert three.classes == ("not 3", "3")
        assert three.x is data.x
    with pytest.raises(DataError, match="has no class 'cat'"):
        data.one_against_rest("cat")


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
    ({"x": torch.full((12, 1, 4, 4), float("nan"))}, "x contains NaN"),
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


# --- rows that are not images ---------------------------------------------------------------

TOKENS = torch.randint(0, 50, (12, 5), generator=torch.Generator().manual_seed(0))


def sequences(x=TOKENS, **changes):
    """Sequences of five tokens, in six blocks of two."""
    fields = {"y": torch.arange(12) % 3, "classes": ("a", "b", "c"), "name": "tokens"}
    fields |= {"block": torch.arange(12) // 2, "attributes": {"long": torch.arange(12) > 6}}
    return Data(x=x, **fields | changes)


@pytest.mark.parametrize(
    "x", [TOKENS, TOKENS.int(), TOKENS[:, 0], TOKENS / 50, TOKENS.view(12, 5, 1, 1).half()]
)
def test_sequences_are_selected_split_and_relabeled(x):
    data = sequences(x)
    assert len(data) == 12 and data.shape == x.shape[1:]
    parts = data.split(0)
    official = sequences(x, train_rows=8).official_split()
    assert [len(part) for part in (*parts, *official[:2])] == [6, 2, 4, 8, 4]
    assert sorted(torch.cat([part.row for part in parts]).tolist()) == list(range(12))
    assert len(torch.cat([part.block.unique() for part in parts]).unique()) == 6
    assert [part.part for part in parts] == ["private", "public", "referee"]
    chosen = [data.select([5, 2, 2]), data.subset(4, seed=1), data.without("b"), *parts]
    for part in chosen:
        assert type(part) is Data and part.x.dtype == x.dtype
        assert torch.equal(part.x, x[part.row]) and torch.equal(part.y, data.y[part.row])
        assert torch.equal(part.attributes["long"], part.row > 6)
    blank = data.without_labels()
    assert blank.classes == (NOT_KNOWN,) and not blank.y.any() and not blank.attributes
    assert torch.equal(blank.x, x) and blank.block.tolist() == list(range(12))
    pointers = [p for owner in (data, blank, *chosen) for p in storages(owner)]
    assert len(set(pointers)) == len(pointers)
    assert data.labelled("long").y.tolist() == [0] * 7 + [1] * 5
    assert data.one_against_rest("b").classes == ("not b", "b")


def test_sequences_move_to_another_device(monkeypatch):
    data = sequences()
    assert data.to("cpu") is data
    monkeypatch.setattr(Data, "_check_values", lambda data: None)  # needs values; meta has none
    moved = data.to("meta")
    assert type(moved) is Data and moved.x.shape == (12, 5)
    tensors = (moved.x, moved.y, moved.block, moved.row, moved.attributes["long"])
    assert all(tensor.is_meta for tensor in tensors)


def test_sequences_are_hashed_by_their_numbers():
    data = sequences()
    assert len(data.row_hashes()) == 12
    assert sequences(TOKENS.int()).row_hashes() == data.row_hashes()
    assert data.select([0, 3]).row_hashes() < data.row_hashes()
    assert not sequences(TOKENS + 1).row_hashes() & data.row_hashes()
    others = data.select(range(11, -1, -1)), data.one_against_rest(0), sequences(TOKENS + 1)
    assert len({fingerprint(other) for other in (data, *others)}) == 4
    assert fingerprint(sequences(TOKENS.int())) == fingerprint(data)


def test_sequences_describe_themselves():
    assert repr(sequences().select([0, 1, 3])) == (
        "Data(tokens, all: 3 rows of torch.int64 (5,), 2 of 3 classes, 2 blocks, cpu)"
    )


BAD_SEQUENCES = [
    ({"x": TOKENS[0, 0]}, r"x must have the shape \(N, ...\) with at least one row"),
    ({"x": TOKENS[:0]}, "with at least one row"),
    ({"y": torch.zeros(11).long()}, r"y must be int64 of shape \(12,\), one for each row"),
    ({"y": torch.full((12,), 3)}, "labels run from 3 to 3, but there are 3 classes"),
    ({"attributes": {"long": torch.ones(12)}}, "the attribute long must be bool"),
]


@pytest.mark.parametrize("changes, message", BAD_SEQUENCES)
def test_contradictory_sequences_are_refused(changes, message):
    with pytest.raises(DataError, match=message) as error:
        sequences(**changes)
    one_sentence(error)
    with pytest.raises(DataError, match="a subset of 13 rows was asked for"):
        sequences().subset(13)
