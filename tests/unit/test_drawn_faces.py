"""Drawn faces: the same on every machine, attributes that are what they say, and enough variety."""

import ast
import hashlib
import inspect
import itertools
import sys

import numpy as np
import pytest
import torch

import splitlab as sl
from splitlab.course import cli
from splitlab.data import DataError, drawn_faces
from splitlab.data.drawn_faces import _draw, render
from splitlab.data.face_parameters import RATES, parameters

MODULES = [sys.modules[f"splitlab.data.{name}"] for name in ("drawn_faces", "face_parameters")]
HASH = "ce092a01bcba3a428724850eaca0919e99b036c9fd0d2b99d0a31be6eb22973c"  # of 24 faces, seed 7
POSE = ("x", "y", "scale", "tilt", "turn", "nod")


@pytest.fixture(scope="module")
def data():
    return drawn_faces(2000)


def upright(n, **changes):
    """Parameters of `n` faces in the middle of the picture that look straight ahead."""
    faces = parameters(n, 0)
    for name in POSE:
        faces[name] = np.full(n, float(name == "scale"), np.float32)
    return faces | {name: np.full(n, value, np.float32) for name, value in changes.items()}


def switched(attribute, size=64, n=40, **pose):
    """Where the pictures change when one attribute alone is switched: bool (n, size, size)."""
    without, present = (
        render(upright(n, **pose) | {attribute: np.full(n, on, np.float32)}, size) for on in (0, 1)
    )
    return (without != present).any(axis=1)


def centres(size):
    return (np.arange(size) + 0.5) * 2 / size - 1


# --- the same everywhere --------------------------------------------------------------------


def test_the_bytes_are_the_same_on_every_machine():
    sheet = render(parameters(24, 7), 32)
    assert hashlib.sha256(sheet.tobytes()).hexdigest() == HASH


@pytest.mark.parametrize("module", MODULES)
def test_pixels_come_from_operations_that_every_machine_rounds_alike(module):
    tree = ast.parse(inspect.getsource(module))
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "np"
    }
    exact = {"abs", "clip", "floor", "maximum", "minimum", "sign", "sqrt", "where"}
    makers = {"arange", "array", "asarray", "empty", "ones_like", "random"}
    types = {"float32", "float64", "int64", "ndarray", "uint8"}
    assert used <= exact | makers | types
    assert not any(isinstance(node, ast.MatMult) for node in ast.walk(tree))


def test_nothing_is_computed_in_another_precision():
    assert {value.dtype for value in parameters(3, 0).values()} == {np.dtype(np.float32)}
    assert {plane.dtype for plane in _draw(parameters(3, 0), 32)} == {np.dtype(np.float32)}


def test_a_face_depends_on_the_seed_and_its_number_alone(data):
    torch.manual_seed(1)
    np.random.seed(1)
    few = drawn_faces(70, labels="hat")
    assert torch.equal(few.x, data.x[:70])
    assert torch.equal(few.attributes["beard"], data.attributes["beard"][:70])
    assert not torch.equal(few.x, drawn_faces(70, seed=1).x)


def test_no_random_stream_of_the_caller_is_moved():
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    drawn_faces(5)
    assert torch.equal(state, torch.get_rng_state())
    assert (numpy_state == np.random.get_state()[1]).all()


# --- what comes back ------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [16, 32, 48, 128])
def test_shapes_and_ranges(size, channels):
    faces = drawn_faces(12, size=size, channels=channels)
    assert faces.x.shape == (12, channels, size, size)
    assert faces.x.dtype == torch.float32
    assert faces.value_range == (-1.0, 1.0)
    assert faces.x.min() >= -1 and faces.x.max() <= 1
    levels = (faces.x + 1) * 127.5
    assert torch.allclose(levels, levels.round(), atol=1e-3)
    assert faces.grey == (channels == 1)


def test_the_pictures_use_the_whole_range_and_are_in_colour(data):
    assert data.x.min() < -0.95 and data.x.max() > 0.95
    assert (data.x[:, 0] - data.x[:, 2]).abs().mean() > 0.1


def test_grey_faces_are_the_luma_of_the_same_faces(data):
    grey = drawn_faces(50, channels=1)
    luma = (data.x[:50] * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    # Beyond the brightest level, colour is clipped in each channel and luma is clipped once.
    inside = (data.x[:50] < 1).all(1, keepdim=True)
    assert (grey.x - luma)[inside].abs().max() < 2.1 / 127.5


def test_another_size_shows_the_same_faces(data):
    large = torch.nn.functional.avg_pool2d(drawn_faces(50, size=96).x, 3)
    assert (large - data.x[:50]).square().mean() < 0.05 * data.x[:50].var(0).mean()


def test_the_label_is_the_attribute_asked_for(data):
    assert data.classes == ("no smile", "smile")
    assert set(data.attributes) == set(RATES)
    for name, present in data.attributes.items():
        assert torch.equal(data.labelled(name).y, present.long())
    hats = drawn_faces(60, labels="long_hair")
    assert hats.classes == ("no long hair", "long hair")
    assert torch.equal(hats.y.bool(), data.attributes["long_hair"][:60])


def test_split_deals_single_faces_with_their_attributes(data):
    parts = data.split(3)
    assert sum(map(len, parts)) == len(data) == len(data.block.unique())
    for part in parts:
        assert torch.equal(part.attributes["hat"], data.attributes["hat"][part.row])
    pointers = {
        tensor.untyped_storage().data_ptr()
        for part in (data, *parts)
        for tensor in (part.x, part.y, *part.attributes.values())
    }
    assert len(pointers) == 4 * (2 + len(RATES))
    assert len(set().union(*(part.row_hashes() for part in parts))) == len(data)


# --- attributes -----------------------------------------------------------------------------


def test_attributes_are_as_frequent_as_stated():
    faces = parameters(20_000, 0)
    for name, rate in RATES.items():
        assert set(np.unique(faces[name])) == {0, 1}
        assert faces[name].mean() == pytest.approx(rate, abs=0.015)


@pytest.mark.parametrize("seed", [0, 1])
def test_attributes_pose_and_all_other_numbers_are_independent(seed):
    faces = parameters(20_000, seed)
    names = [name for name, value in faces.items() if value.ndim == 1]
    assert set(RATES) | set(POSE) <= set(names)
    table = np.stack([faces[name] for name in names]).astype(np.float64)
    correlation = np.corrcoef(table) - np.eye(len(names))
    assert np.abs(correlation).max() < 0.04  # standard error .007
    colours = {n: v for n, v in faces.items() if v.ndim == 2 and n != "hair"}
    assert "skin" in colours
    for attribute, (name, colour) in itertools.product(RATES, colours.items()):
        for channel in colour.T:
            assert abs(np.corrcoef(faces[attribute], channel)[0, 1]) < 0.04, (attribute, name)


def test_dark_hair_is_dark():
    faces = parameters(500, 0)
    dark = faces["dark_hair"] > 0
    assert faces["hair"][dark].mean(1).max() < faces["hair"][~dark].mean(1).min()


def test_glasses_are_where_the_eyes_are():
    changed = switched("glasses")
    across, down = np.abs(centres(64))[None, None, :], np.abs(centres(64) + 0.045)[None, :, None]
    near = (across < 0.55) & (down < 0.21)
    assert not (changed & ~near).any()
    left = changed[:, :, :32].any(axis=(1, 2))
    right = changed[:, :, 32:].any(axis=(1, 2))
    assert left.all() and right.all()
    # The frame goes around the eye: it does not cover its middle, though the lens tints it.
    frame = upright(40, glasses=1, gaze=0) | {"frame_colour": np.ones((40, 3), np.float32)}
    dark = render(frame | {"frame_colour": np.zeros((40, 3), np.float32)}, 64)
    moved = (render(frame, 64) != dark).any(axis=1)
    middle = (np.abs(across - frame["apart"][:, None, None]) < 0.04) & (down < 0.04)
    assert middle.any(axis=(1, 2)).all() and not (moved & middle).any()


@pytest.mark.parametrize("attribute, low, high", [("smile", 0.15, 0.55), ("hat", -1.0, -0.1)])
def test_an_attribute_changes_its_own_part_of_the_face_alone(attribute, low, high):
    changed = switched(attribute)
    there = (centres(64) > low) & (centres(64) < high)
    assert not changed[:, ~there].any()
    assert changed.any(axis=(1, 2)).all()


@pytest.mark.parametrize("attribute", RATES)
def test_every_attribute_can_be_seen_in_every_face(attribute):
    if attribute == "dark_hair":
        hair = np.array([0.1, 0.7], np.float32)[:, None, None] * np.ones((1, 40, 3), np.float32)
        one, other = (render(upright(40) | {"hair": colour}, 32) for colour in hair)
        assert (one != other).any(axis=(1, 2, 3)).all()
    else:
        assert (switched(attribute, size=32).sum(axis=(1, 2)) >= 4).all()


def test_glasses_move_with_the_head():
    def middle(**pose):
        changed = switched("glasses", **pose)
        rows, columns = np.nonzero(changed.any(axis=0))
        return np.array([columns.mean(), rows.mean()])

    assert middle(x=0.25) - middle() == pytest.approx([8, 0], abs=0.5)
    assert middle(y=0.25) - middle() == pytest.approx([0, 8], abs=0.5)
    assert middle(turn=-0.09)[0] < middle()[0] - 1
    tilted, level = (np.ptp(np.nonzero(switched("glasses", tilt=t).any(0))[0]) for t in (0.13, 0))
    assert tilted > level + 2


def test_a_small_network_reads_hats(data):
    train, test = data.select(range(1600)), data.select(range(1600, 2000))
    classifier = sl.classifiers.train_cnn_classifier(
        train.labelled("hat"), steps=120, batch_size=32, learning_rate=2e-3
    )
    hats = test.labelled("hat").y
    majority = 1 - float(hats.float().mean())
    assert sl.metrics.recognized(classifier, test.x, hats) > majority + 0.1


# --- variety --------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_the_nearest_public_face_rarely_gives_a_private_one_away(channels):
    faces = drawn_faces(2000, channels=channels, seed=5)
    private, public = faces.x[:200], faces.x[200:]
    nearest = sl.floors.nearest_public(private, public)
    assert sl.metrics.matched(nearest, private) < 0.45
    # Nor is it a good reconstruction, though it beats the mean image.
    explained = sl.metrics.explained_variance(nearest, private)
    assert 0 < explained < 0.4


# --- requests that cannot be met ------------------------------------------------------------


@pytest.mark.parametrize(
    "request_, message",
    [
        ({"n": 0}, "n is the number of faces to draw, from 1 to 200,000, not 0"),
        ({"n": 200_001}, "not 200001"),
        ({"n": 2.5}, "not 2.5"),
        ({"n": True}, "not True"),
        ({"size": 33}, "size must be a multiple of 16 pixels from 16 to 128, not 33"),
        ({"size": 144}, "not 144"),
        ({"size": 32.0}, "not 32.0"),
        ({"channels": 2}, r"channels must be 1 \(gray\) or 3 \(color\), not 2"),
        ({"seed": -1}, "seed must be a whole number, 0 or more, not -1"),
        ({"seed": None}, "not None"),
        ({"labels": "gender"}, "no attribute 'gender'; its attributes are: smile, glasses, hat"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_sentence(request_, message):
    with pytest.raises(DataError, match=message) as error:
        drawn_faces(**{"n": 2} | request_)
    text = str(error.value)
    assert "\n" not in text and text.endswith(".") and len(text) < 200


# --- the shell ------------------------------------------------------------------------------


def test_the_shell_shows_that_the_program_makes_them(capsys):
    for command in ("list", "get", "check"):
        assert cli.main(["data", command, *["drawn_faces"] * (command != "list")]) == 0
        (line,) = [li for li in capsys.readouterr().out.splitlines() if "drawn_faces" in li]
        assert line == f"{'drawn_faces':<20} made by the program"
