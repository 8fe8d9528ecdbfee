"""Somebody's own arrays as data: their values and labels, a copy, and what cannot be used."""

import numpy as np
import pytest
import torch

import splitlab as sl
from splitlab.data import DataError, ImageData

BYTES = np.arange(160, dtype=np.uint8).reshape(10, 4, 4)
LABELS = [0, 1] * 5


def made(x=BYTES, y=LABELS, value_range=(0, 255), **options):
    return ImageData.from_arrays(x, y, value_range=value_range, **options)


IMAGES = {
    "bytes": BYTES,
    "lists": BYTES.tolist(),
    "a tensor": torch.from_numpy(BYTES),
    "a tensor with a gradient": torch.tensor(BYTES, dtype=torch.float32, requires_grad=True),
    "bfloat16": torch.from_numpy(BYTES).bfloat16(),
    "a list of tensors": list(torch.from_numpy(BYTES)),
    "a list of arrays": list(BYTES),
    "big-endian": BYTES.astype(">f8"),
    "backwards": BYTES[::-1, ::-1].copy()[::-1, ::-1],
    "one channel": BYTES[:, None],
    **{kind: BYTES.astype(kind) for kind in ("int8", "uint16", "int64", "float16", "float64")},
}


@pytest.mark.parametrize("x", IMAGES.values(), ids=IMAGES)
def test_images_keep_their_values(x):
    value_range = (-128, 255)
    data = made(x, value_range=value_range)
    kept = BYTES.astype("int8") if getattr(x, "dtype", None) == np.int8 else BYTES
    assert data.x.dtype == torch.float32 and data.value_range == value_range
    assert torch.equal(data.x[:, 0], torch.from_numpy(kept).float())
    assert data.y.tolist() == LABELS and data.classes == ("0", "1")
    assert data.block.tolist() == data.row.tolist() == list(range(10))
    assert (data.name, data.part, type(data)) == ("arrays", "all", ImageData)


def test_colors_stay_where_they_are():
    x = np.random.default_rng(0).random((6, 3, 4, 5))
    data = made(x, LABELS[:6], (0, 1), name="mine")
    assert data.shape == (3, 4, 5) and not data.grey and data.name == "mine"
    assert torch.equal(data.x, torch.from_numpy(x).float())


@pytest.mark.parametrize(
    ("y", "classes", "numbers", "names"),
    [
        (["b", "a", "b"], None, [1, 0, 1], ("a", "b")),
        (["b", "a", "b"], ["b", "c", "a"], [0, 2, 0], ("b", "c", "a")),
        (np.array(["b", "a", "b"], object), None, [1, 0, 1], ("a", "b")),
        ([2, 0, 2], None, [2, 0, 2], ("0", "1", "2")),
        ([2.0, 0.0, 1.0], ["x", "y", "z"], [2, 0, 1], ("x", "y", "z")),
        (np.array([1, 0, 1], np.uint64), ("x", "y"), [1, 0, 1], ("x", "y")),
        (torch.tensor([True, False, True]), ["no", "yes"], [1, 0, 1], ("no", "yes")),
    ],
)
def test_labels_are_numbers_or_names(y, classes, numbers, names):
    data = made(BYTES[:3], y, classes=classes)
    assert data.y.tolist() == numbers and data.classes == names


@pytest.mark.parametrize("block", [[7, 7, 3, 3, 5, 5, 2, 2, 9, 9], [*"ggccddbbjj"]])
def test_blocks_stay_whole(block):
    data = made(block=block)
    assert [data.block.tolist().index(b) for b in data.block] == [0, 0, 2, 2, 4, 4, 6, 6, 8, 8]
    assert [len(part) for part in data.split(0)] == [4, 4, 2]


def test_a_later_write_does_not_reach_the_data():
    x, y, block = BYTES.astype(np.float32)[:, None], np.array(LABELS), np.arange(10)
    for arrays in ((x, y, block), tuple(map(torch.from_numpy, (x, y, block)))):
        data = made(*arrays[:2], block=arrays[2])
        before = data.x.clone(), data.y.clone(), data.block.clone()
        for array in arrays:
            array[:] = 1
        now = data.x, data.y, data.block
        assert all(torch.equal(a, b) for a, b in zip(now, before, strict=True))
        x[:], y[:], block[:] = BYTES[:, None], LABELS, np.arange(10)


def test_a_pixel_at_the_end_of_the_range_is_inside_in_either_precision():
    for kind in (np.float32, np.float64):
        data = made(np.linspace(0.1, 0.7, 160).reshape(10, 4, 4).astype(kind), LABELS, (0.1, 0.7))
        assert data.value_range == pytest.approx((0.1, 0.7))


NAN, HUGE = (np.full((10, 4, 4), value) for value in (np.nan, np.inf))
BAD = {
    "one image": ({"x": BYTES[0]}, r"x has the shape \(4, 4\); pass at least one image"),
    "no images": ({"x": BYTES[:0], "y": []}, "pass at least one image"),
    "no pixels": ({"x": BYTES[:, :0]}, "pass at least one image"),
    "channels last": ({"x": np.zeros((10, 8, 8, 3))}, r"pass x.transpose\(0, 3, 1, 2\)"),
    "ragged": ({"x": [[[1, 2], [3]]], "y": [0]}, "x cannot be made into one array"),
    "no numbers": ({"x": BYTES.astype(str)}, "x must be numbers, not <U"),
    "complex": ({"x": BYTES * 1j}, "x must be numbers, not complex128"),
    "nothing": ({"x": None}, "x must be numbers, not object"),
    "NaN": ({"x": NAN}, "x contains NaN"),
    "infinite": ({"x": HUGE}, "pixels run from inf to inf, outside"),
    "outside": ({"value_range": (0, 1)}, "pixels run from 0 to 159, outside the value range 0 to"),
    "a range upside down": ({"value_range": (1, 0)}, r"value_range must be .*not \(1, 0\)"),
    "half a range": ({"value_range": 255}, "value_range must be the smallest and the largest"),
    "an endless range": ({"value_range": (0, np.inf)}, "value_range must be"),
    "a label less": ({"y": LABELS[1:]}, r"y has the shape \(9,\) and there are 10 images"),
    "a column of labels": ({"y": [[0]] * 10}, r"y has the shape \(10, 1\)"),
    "ragged labels": ({"y": [[0], [0, 1]]}, "y cannot be made into one array"),
    "negative": ({"y": [-1] * 10}, "labels run from -1 to -1; number the classes from 0"),
    "not whole": ({"y": [0.5] * 10}, "y must be whole numbers or strings, not 0.5"),
    "unknown": ({"y": [np.nan] * 10}, "y must be whole numbers or strings, not nan"),
    "too large": ({"y": [1e30] * 10}, "y must be whole numbers or strings, not 1e"),
    "identifiers": ({"y": [10**9] * 10}, "labels run from 1000000000"),
    "none": ({"y": [None] * 10}, "y must be whole numbers or strings, not None"),
    "no such name": ({"y": ["a"] * 10, "classes": ["b"]}, "'a', which is not in classes"),
    "no such number": ({"classes": ["b"]}, "labels run from 0 to 1, but classes has the length 1"),
    "a number of classes": ({"classes": 2}, "classes must be a list of different strings"),
    "one string": ({"classes": "ab"}, "classes must be a list of different strings"),
    "a class twice": ({"classes": ["a", "a"]}, "classes must be a list of different strings"),
    "a block less": ({"block": [0] * 9}, r"block has the shape \(9,\)"),
    "half a block": ({"block": [0.5] * 10}, "block must be whole numbers or strings"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD)
def test_what_cannot_be_used_gets_one_sentence(changes, message):
    with pytest.raises(DataError, match=message) as error:
        made(**changes, name="mine")
    text = str(error.value)
    assert text.startswith("mine: ") and text.endswith(".") and "\n" not in text


def test_a_client_and_an_attack_take_them():
    private, public, _ = made(BYTES.repeat(8, 0) / 127.5 - 1, LABELS * 8, (-1, 1)).split(0)
    client = sl.Client(torch.nn.Conv2d(1, 2, 3), private, batch_size=4)
    assert client.smash(public.x).z.shape == (len(public), 2, 2, 2)
