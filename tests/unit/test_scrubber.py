import io
import subprocess
import sys

import ipywidgets
import pytest
from PIL import Image

from splitlab.show.figures import Frame
from splitlab.show.scrubber import Choice, Scrubber


def frames(count=3):
    made = []
    for number in range(count):
        out = io.BytesIO()
        Image.new("L", (4, 4), 40 * number).save(out, format="PNG")
        made.append(
            Frame(out.getvalue(), f"A grey <square> at step {number * 10}.", f"{number * 10}")
        )
    return made


def parts(scrubber):
    bar, view = scrubber.children
    play, slider = bar.children
    return play, slider, view


def links(scrubber):
    """(source, trait, target, trait) of the links that the browser follows by itself."""
    own, found = parts(scrubber) if isinstance(scrubber, Scrubber) else scrubber.children, set()
    for widget in ipywidgets.widget._instances.values():
        if isinstance(widget, ipywidgets.widget_link.Link):
            (source, one), (target, other) = widget.source, widget.target
            if source in own:
                found.add((source, one, target, other))
    return found


def test_every_frame_is_in_the_page_and_the_browser_links_them():
    scrubber = Scrubber(frames(), caption="Figure 1. Noise < digits.")
    play, slider, view = parts(scrubber)
    assert isinstance(view, ipywidgets.Stack)
    for number, child in enumerate(view.children):
        assert f">Figure 1. Noise &lt; digits. (step {number * 10})<" in child.value
    assert links(scrubber) == {
        (play, "value", slider, "index"),
        (slider, "index", view, "selected_index"),
    }
    assert (play.min, play.max, play.interval) == (0, 2, 400)
    assert view.selected_index == slider.index == play.value == 0


def test_the_slider_shows_the_frames_labels():
    _, slider, _ = parts(Scrubber(frames(), label="epoch"))
    assert slider._options_labels == ("0", "10", "20")
    assert slider.description == "epoch"


def test_equal_labels_are_still_different_frames():
    same = [Frame(frame.png, frame.alt, "start") for frame in frames()]
    _, slider, view = parts(Scrubber(same))
    slider.index = 2
    assert slider.value == 2
    assert len(view.children) == 3


def test_every_picture_has_escaped_alt_text():
    *_, view = parts(Scrubber(frames()))
    for number, child in enumerate(view.children):
        assert child.value.count("<img") == 1
        assert f'alt="A grey &lt;square&gt; at step {number * 10}."' in child.value


def test_without_stack_python_swaps_the_pictures(monkeypatch):
    monkeypatch.delattr(ipywidgets, "Stack")  # as in ipywidgets 7
    scrubber = Scrubber(frames())
    play, slider, view = parts(scrubber)
    assert isinstance(view, ipywidgets.HTML)
    assert not links(scrubber), "Colab has had its browser-side links broken"
    slider.index = 1
    assert "at step 10." in view.value
    assert play.value == 1
    play.value = 2
    assert slider.index == 2
    assert "at step 20." in view.value


def test_one_frame_is_enough_and_none_is_refused():
    Scrubber(frames(1))
    with pytest.raises(ValueError, match="at least one frame"):
        Scrubber([])
    with pytest.raises(ValueError, match="interval is 0: choose a whole number"):
        Scrubber(frames(), interval=0)


@pytest.mark.parametrize(("start", "shown"), [(-1, 2), (1, 1), (-3, 0)])
def test_a_scrubber_opens_where_it_is_told(start, shown, monkeypatch):
    play, slider, view = parts(Scrubber(frames(), start=start))
    assert play.value == slider.index == view.selected_index == shown
    monkeypatch.delattr(ipywidgets, "Stack")  # as in ipywidgets 7
    play, slider, view = parts(Scrubber(frames(), start=start))
    assert play.value == slider.index == shown
    assert f"at step {shown * 10}." in view.value


@pytest.mark.parametrize("start", [3, -4, 1.5, True, "last"])
def test_a_frame_that_is_not_there_is_refused(start):
    with pytest.raises(ValueError, match=r"there are 3 frames: pass the number"):
        Scrubber(frames(), start=start)


def test_the_frames_share_their_layout_and_style():
    """A page has many frames, and each layout of its own would take a kilobyte."""
    *_, view = parts(Scrubber(frames()))
    assert len({child.layout for child in view.children}) == 1
    assert len({child.style for child in view.children}) == 1


def test_a_choice_shows_one_scrubber_and_the_browser_links_them():
    scrubbers = {"one": Scrubber(frames(2)), "other": Scrubber(frames(3))}
    choice = Choice(scrubbers)
    buttons, view = choice.children
    assert isinstance(view, ipywidgets.Stack)
    assert list(view.children) == list(scrubbers.values())
    assert buttons._options_labels == ("one", "other")
    assert buttons.index == view.selected_index == 0
    assert links(choice) == {(buttons, "index", view, "selected_index")}
    with pytest.raises(ValueError, match="at least one scrubber"):
        Choice({})


def test_without_stack_python_swaps_the_scrubbers(monkeypatch):
    monkeypatch.delattr(ipywidgets, "Stack")  # as in ipywidgets 7
    scrubbers = [Scrubber(frames(2)), Scrubber(frames(3))]
    choice = Choice(dict(zip(("one", "other"), scrubbers, strict=True)))
    buttons, view = choice.children
    assert list(view.children) == scrubbers[:1]
    assert not links(choice)
    buttons.index = 1
    assert list(view.children) == scrubbers[1:]


def test_the_library_alone_imports_neither_widgets_nor_matplotlib():
    program = (
        "import sys, splitlab; sys.exit(bool({'ipywidgets', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
