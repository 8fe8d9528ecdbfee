"""The pictures that the gallery takes out of executed notebooks."""

import base64
import io
from pathlib import Path

import ipywidgets
import pytest
from ipywidgets.embed import dependency_state
from PIL import Image
from synthetic_batch import notebook, outcome, png

from splitlab.course.batch import reconstructions
from splitlab.course.notebook_files import code_cells, read
from splitlab.show.pictures import Frame, Picture
from splitlab.show.scrubber import Choice, Scrubber

BOOK = Path(__file__).parents[2] / "book"


def scrubber(*colors):
    return Scrubber([Frame(png(one), f"In {one}.", one) for one in colors], caption="Watch.")


def state_of(widget):
    return dependency_state([widget], drop_defaults=False)


def shows(widget):
    return {reconstructions.VIEW: {"model_id": widget.model_id, "version_major": 2}}


def images_in(tmp_path, *data, **given):
    return reconstructions.images(outcome(tmp_path, copy=notebook(*data, **given)).job.out)


def color(image):
    return Image.open(io.BytesIO(base64.b64decode(image.png))).getpixel((0, 0))


def test_a_picture_of_the_library_is_taken_with_its_alt_text_and_caption(tmp_path):
    html = Picture(png("red"), 'Eight "zeros" & more.', "Figure 1. Zeros.")._repr_html_()
    (image,) = images_in(tmp_path, {"text/html": html, "text/plain": "a picture"})
    assert (image.alt, image.caption) == ('Eight "zeros" & more.', "Figure 1. Zeros.")
    assert color(image) == (255, 0, 0)


def test_a_png_of_another_kind_is_taken_too(tmp_path):
    text = base64.encodebytes(png("blue")).decode()
    (image,) = images_in(tmp_path, {"image/png": text, "text/plain": "<Figure>"})
    assert image.alt == "" and color(image) == (0, 0, 255)


@pytest.mark.skipif(not hasattr(ipywidgets, "Stack"), reason="ipywidgets 7 has no Stack")
def test_a_slider_gives_its_last_frame(tmp_path):
    one, other = scrubber("red", "lime"), scrubber("red", "blue")
    (image,) = images_in(tmp_path, shows(one), widgets=state_of(one) | state_of(other))
    assert (image.alt, image.caption) == ("In lime.", "Watch. (step lime)")
    assert color(image) == (0, 255, 0)
    choice = Choice({"one": one, "other": other})
    (image,) = images_in(tmp_path, shows(choice), widgets=state_of(choice))
    assert image.alt == "In blue."


@pytest.mark.parametrize(
    "data",
    [
        {"text/plain": "nothing"},
        {"text/html": '<img alt="far" src="https://example.org/a.png">'},
        {"text/html": '<img alt="not" src="data:image/png;base64,AAAA">'},
        {"text/html": '<img alt="bad" src="data:image/png;base64,%%%">'},
        {reconstructions.VIEW: {"model_id": "gone"}},
    ],
)
def test_what_is_no_picture_is_left_out(tmp_path, data):
    assert images_in(tmp_path, data) == ()


def test_only_the_tagged_cell_counts_and_a_broken_copy_has_no_picture(tmp_path):
    data = {"text/html": Picture(png(), "Digits.")._repr_html_()}
    assert images_in(tmp_path, data, tags=["hide-input"]) == ()
    made = outcome(tmp_path, copy=notebook(data))
    assert len(reconstructions.images(made.job.out)) == 1
    made.job.out.write_text("{", encoding="utf-8")
    assert reconstructions.images(made.job.out) == ()


def test_chapters_tag_one_cell_that_shows_a_live_run():
    tagged = {
        path.stem: code_cells(read(path), reconstructions.TAG) for path in BOOK.glob("*.ipynb")
    }
    assert sum(map(len, tagged.values())) >= 10
    for name, cells in tagged.items():
        assert len(cells) <= 1, name
        assert all("record" not in cell.source for cell in cells), name
