"""The rendered pages in a real browser, offline: every slider moves its picture.

Every page of the book is opened once from a server on this machine, and a few from disk, too: what
differs between the two is the same on all pages. Of the pages of exercises and solutions, which are
alike, a third has its turn (see `rotation`).
"""

import re
from pathlib import Path

import in_browser
import pytest
import rotation

from splitlab.course import book

pytest.importorskip("playwright", reason="the Python package playwright is not installed")
from playwright.sync_api import expect

pytestmark = in_browser.NEEDS_CHROMIUM
# jupyter-book loads sphinx-thebe twice; nothing comes of it.
HARMLESS = "Identifier 'THEBE_JS_URL' has already been declared"
PAGES = book.toc_files(Path(__file__).parents[2] / "book")
BUTTONS = "book/12_other_protocols"  # its scrubbers stand behind buttons
# What a page can hold, and a page that is opened from disk because it does.
FROM_DISK = {
    "text": "book/intro",
    "a scrubber": "book/10_start_here",
    "buttons": BUTTONS,
    "equations": "book/32_feature_space_hijacking",
    "exercises": "exercises/32_feature_space_hijacking",
}
PARTS = 3
ALIKE = [name for name in PAGES if not name.startswith("book/")]
TURN = [*(name for name in PAGES if name not in ALIKE), *rotation.share(ALIKE, PARTS)]
rotation.chosen["exercises and solutions opened in a browser"] = rotation.share(ALIKE, PARTS)
VISITS = [*(("http", name) for name in TURN), *(("file", name) for name in FROM_DISK.values())]
PICTURE = ".jupyter-widgets img:visible"
HANDLE = ".jupyter-widgets .noUi-handle"


@pytest.fixture(scope="module")
def addresses(html):
    """The book's address on a server on this machine, and as a folder on disk."""
    with in_browser.served(html) as address:
        yield {"http": address, "file": html.as_uri()}


@pytest.fixture
def page(request, browser, addresses):
    """An opened page; in the end, no request may have left and no script have failed."""
    kind, name = request.param
    with in_browser.opened(browser, addresses[kind], f"{name}.html", HARMLESS) as page:
        yield page


def visiting(visits):
    return pytest.mark.parametrize("page", visits, indirect=True, ids=lambda visit: " ".join(visit))


@pytest.fixture
def text(page, pages):
    """The source of the page that is open."""
    (name,) = [name for name in pages if page.url.endswith(f"/{name}.html")]
    return pages[name].read_text(encoding="utf-8")


def scrubbers_in(text):
    return text.count("widget-view+json")


def has_equations(text):
    return re.search(r'class="math', text) is not None


def shown(output):
    """The alt text and the bytes of the one picture that a scrubber shows."""
    image = output.locator(PICTURE)
    image.first.wait_for()
    assert image.count() == 1
    alt = image.get_attribute("alt")
    assert alt and alt.strip()
    assert image.evaluate("image => image.complete && image.naturalWidth > 0")
    return alt, image.get_attribute("src")


def wait_for_change(output, before):
    output.page.wait_for_function(
        """([output, before]) => [...output.querySelectorAll(".jupyter-widgets img")]
             .filter(image => image.checkVisibility()).some(image => image.alt !== before)""",
        arg=[output.element_handle(), before[0]],
    )


@visiting(VISITS)
def test_a_page_opens_and_all_that_moves_moves(page, text):
    assert page.locator("h1").count() >= 1
    if has_equations(text):
        equations_are_drawn(page)
    if scrubbers_in(text):
        outputs = page.locator(".cell_output:has(.jupyter-widgets img)")
        expect(outputs).to_have_count(scrubbers_in(text), timeout=60_000)
        for output in outputs.all():
            the_arrow_keys_change_the_picture_and_the_readout_names_the_frame(output)
            dragging_the_slider_changes_the_picture(output)
            play_changes_the_picture(output)


def equations_are_drawn(page):
    # Attached, not visible: the first one may stand in a folded admonition.
    page.locator("mjx-container svg").first.wait_for(state="attached")
    assert page.locator(".math:not(:has(mjx-container))").count() == 0


def the_arrow_keys_change_the_picture_and_the_readout_names_the_frame(output):
    first = shown(output)
    for key in ("ArrowRight", "ArrowLeft"):
        before = shown(output)
        output.locator(HANDLE).first.focus()
        output.page.keyboard.press(key)
        wait_for_change(output, before)
        readout = output.locator(".jupyter-widgets .widget-readout").first.inner_text()
        caption = output.locator(".jupyter-widgets figcaption:visible").inner_text()
        assert caption.endswith(f"{readout.strip()})")
        assert readout.strip()
    assert shown(output) == first


def dragging_the_slider_changes_the_picture(output):
    handle = output.locator(HANDLE).first
    handle.scroll_into_view_if_needed()
    before = shown(output)
    box = handle.bounding_box()
    track = output.locator(".jupyter-widgets .noUi-base").first.bounding_box()
    y = box["y"] + box["height"] / 2
    mouse = output.page.mouse
    mouse.move(box["x"] + box["width"] / 2, y)
    mouse.down()
    mouse.move(track["x"] + track["width"] / 2, y, steps=8)
    mouse.up()
    wait_for_change(output, before)
    after = shown(output)
    assert after[0] != before[0]
    assert after[1] != before[1]


def play_changes_the_picture(output):
    before = shown(output)
    output.locator(".jupyter-widgets .widget-play button").first.click()
    wait_for_change(output, before)


@visiting([(kind, BUTTONS) for kind in ("http", "file")])
def test_a_choice_shows_another_scrubber_whose_slider_works(page):
    """One page has several scrubbers behind buttons: one shows at a time, and each one moves."""
    output = page.locator(".cell_output:has(.widget-toggle-button)")
    buttons = output.locator(".jupyter-widgets .widget-toggle-button")
    buttons.first.wait_for()
    assert buttons.count() >= 5
    seen = {shown(output)[0]}
    for number in range(1, buttons.count()):
        before = shown(output)
        buttons.nth(number).click()
        wait_for_change(output, before)
        before = shown(output)
        output.locator(f"{HANDLE}:visible").focus()
        output.page.keyboard.press("ArrowRight")
        wait_for_change(output, before)
        seen |= {before[0], shown(output)[0]}
    assert len(seen) == 2 * buttons.count() - 1


def test_the_pages_that_open_from_disk_hold_all_that_a_page_can_hold(pages):
    texts = {what: pages[name].read_text(encoding="utf-8") for what, name in FROM_DISK.items()}
    assert scrubbers_in(texts["a scrubber"])
    assert "ToggleButtonsModel" in texts["buttons"]
    assert has_equations(texts["equations"])
    assert "is not written yet" in texts["exercises"]
    assert not scrubbers_in(texts["text"])


@pytest.mark.parametrize("number", range(PARTS))
def test_exercises_and_solutions_are_opened_in_every_turn(number):
    opened = rotation.share(ALIKE, PARTS, number)
    assert {name.split("/")[0] for name in opened} == {"exercises", "solutions"}
