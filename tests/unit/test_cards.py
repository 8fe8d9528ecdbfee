"""Data cards: what they state is what the loaded data hold, and they read well."""

import os
from inspect import signature
from pathlib import Path

import pytest
import torch

import splitlab as sl
from splitlab.course import cli
from splitlab.course.data_cards import CARDS, WIDTH, card
from splitlab.data import PUBLISHED, DataError
from splitlab.data.pixels import stored_channels
from splitlab.data.published import missing

NATIVE = {"orl_faces": 92, "celeba": 178}  # the middle square; the others are square
PART = {"celeba": 2000, "tiny_imagenet": 2000}  # of sets that would fill the memory


def is_here(name):
    """Whether SPLITLAB_DATA holds the files that the loader reads by default."""
    root = os.environ.get("SPLITLAB_DATA")
    if not card(name).files:
        return True
    files = card(name).files[:2] if name == "omniglot" else card(name).files
    return bool(root) and not any(missing(one, Path(root) / one.folder) for one in files)


def loaded(name, **options):
    if not is_here(name):
        pytest.skip(f"SPLITLAB_DATA does not hold the original files of {name}")
    return getattr(sl.data, name)(**options)


@pytest.fixture(scope="module", params=CARDS)
def stated(request):
    """(a card, its data at their published size)."""
    one = card(request.param)
    size = NATIVE.get(one.name, one.shape[0])
    options = {"size": size, "channels": one.channels}
    if one.name in PART:
        options["n"] = PART[one.name]
    return one, loaded(one.name, **options)


def test_every_loader_has_a_card_and_every_card_a_loader():
    functions = {name: getattr(sl.data, name) for name in sl.data.__all__ if name.islower()}
    loaders = {name for name, one in functions.items() if "size" in signature(one).parameters}
    assert set(CARDS) == loaders
    assert [one for c in CARDS.values() for one in c.files] == list(PUBLISHED.values())
    for name in CARDS:
        assert card(name).name == name


def test_what_a_card_states_is_what_the_data_hold(stated):
    one, data = stated
    assert len(data) == PART.get(one.name, one.images)  # the loader itself counts the whole
    assert data.name == one.name
    assert len(data.classes) == one.classes == len(data.y.unique())
    # Which blocks CelebA has depends on its third file.
    assert len(data.block.unique()) == one.blocks or one.name in PART
    assert data.shares == one.shares
    assert data.train_rows == one.train_rows
    assert tuple(data.attributes) == one.attributes


def test_the_pixels_of_a_card_are_those_of_the_data(stated):
    one, data = stated
    assert data.shape[0] == one.channels
    assert data.grey == (one.channels == 1)
    # Undo the loader's scaling: the published values are whole numbers again, and span the range.
    low, high = one.levels
    full = 255 if high > 16 else high
    levels = (stored_channels(data.x) + 1) * (full / 2)
    assert torch.allclose(levels, levels.round(), atol=1e-3)
    assert (int(levels.min().round()), int(levels.max().round())) == (low, high)


def test_what_a_card_says_of_people_is_true(stated):
    one, data = stated
    apart = one.name == "orl_faces"
    assert apart == torch.equal(data.block, data.y)
    if one.name != "celeba":  # where it depends on the third file, and the card says so
        assert ("keeps them apart" in one.people) == apart


def test_the_middle_square_of_a_portrait_is_as_wide_as_the_card_says():
    for name in CARDS:
        assert NATIVE.get(name, card(name).shape[0]) == min(card(name).shape)


def test_celeba_has_forty_attributes_and_its_label_is_one():
    assert len(set(card("celeba").attributes)) == 40
    assert "Male" in card("celeba").attributes


@pytest.mark.parametrize("name", CARDS)
def test_a_card_says_all_that_it_should(name):
    one = card(name)
    said = dict(one.rows())
    for heading in ("what", "source", "images", "values", "labels", "people", "split", "terms"):
        assert said[heading]
    for heading in ("to get it", "watch out", "used for"):
        assert said[heading]
    assert f"{one.images:,}" in said["images"]
    for files in one.files:
        assert files.terms == said["terms"]
        assert all(file in said["files"] for file in (*files.files, *files.optional))
        assert all(mirror in said["to get it"] for mirror in files.mirrors)
        assert files.by_hand in said["to get it"]
        assert files.by_hand or f"{files.name}" in said["to get it"]


@pytest.mark.parametrize("name", ["orl_faces", "celeba", "drawn_faces"])
def test_where_faces_are_shown_the_card_speaks_of_ethics(name):
    assert dict(card(name).rows())["ethics"]


@pytest.mark.parametrize("name", CARDS)
def test_a_card_is_a_table_in_a_notebook_and_lines_in_a_shell(name, capsys):
    one = card(name)
    page = one._repr_html_()
    assert f"<caption>{name}: data card</caption>" in page
    assert page.count("<tr") == len(one.rows())
    assert cli.main(["data", "card", name]) == 0
    out = capsys.readouterr().out
    assert out == f"{one}\n" == f"{one!r}\n"
    assert max(map(len, out.splitlines())) <= WIDTH
    for _, text in one.rows():
        assert " ".join(text.split()[:3]) in out


def test_no_word_of_a_card_is_lost_in_the_shell():
    for one in CARDS.values():
        said = " ".join(f"{heading} {text}" for heading, text in one.rows())
        assert " ".join(str(one).split()[3:]) == " ".join(said.split())


def test_an_unknown_set_gets_one_sentence(capsys):
    with pytest.raises(
        DataError, match="there is no data set 'cifar': choose one of digits, "
    ) as e:
        card("cifar")
    assert "\n" not in str(e.value)
    with pytest.raises(SystemExit):
        cli.main(["data", "card", "cifar"])
    assert "invalid choice: 'cifar'" in capsys.readouterr().err
