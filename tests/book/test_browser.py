"""The rendered pages in a real browser, offline: sliders move, and all can be read everywhere.

Every page of the book is opened once, in light, from a server on this machine, and looked at on a
wide screen, on a phone and on paper. A few are opened from disk, too, in dark: what differs between
the two is the same on all pages. Of the pages of exercises and solutions, which are alike, a third
has its turn (see `rotation`), and so has a third of all pages with axe, which looks for what a
screen reader cannot read.
"""

import json
import re
from html import unescape
from pathlib import Path

import in_browser
import pytest
import rotation

from splitlab.course import book

pytest.importorskip("playwright", reason="the Python package playwright is not installed")
from playwright.sync_api import expect

pytestmark = in_browser.NEEDS_CHROMIUM
try:
    from axe_playwright_python.sync_playwright import Axe
except ImportError:
    Axe = None
NEEDS_AXE = pytest.mark.skipif(
    Axe is None, reason="the Python package axe-playwright-python is not installed: no page is read"
)
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
rotation.chosen["pages read by axe"] = rotation.share(TURN, PARTS)
# Reading a page as axe does takes as long as all the rest.
READ = tuple(f"/{name}.html" for name in rotation.share(TURN, PARTS))
VISITS = [*(("http", name) for name in TURN), *(("file", name) for name in FROM_DISK.values())]
PHONE, PAPER = {"width": 390, "height": 844}, {"width": 718, "height": 1000}  # CSS pixels; A4
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
    scheme = {"http": "light", "file": "dark"}[kind]
    with in_browser.opened(browser, addresses[kind], f"{name}.html", color_scheme=scheme) as page:
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
def test_a_page_can_be_read_and_all_that_moves_moves(page, text):
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
    for folded in page.locator(".admonition.dropdown").all():
        a_fold_opens_by_mouse_and_keyboard(folded)
    assert wide_tables(page) == [], "no table is wider than the page"
    if Axe and (page.url.startswith("file") or page.url.endswith(READ)):
        assert serious(page) == []
    page.set_viewport_size(PHONE)
    assert cut_or_scrolling(page) == []
    page.emulate_media(media="print")
    page.set_viewport_size(PAPER)
    assert wide_tables(page) == [], "no column is lost on paper"
    assert cut_or_scrolling(page) == []
    paper_shows_the_last_frame_of_each_scrubber(page, text)


def a_fold_opens_by_mouse_and_keyboard(folded):
    button, inside = folded.locator(".toggle-button"), folded.locator("p:not(.admonition-title)")
    expect(inside.first).to_be_hidden()
    folded.locator(".admonition-title").click()
    expect(inside.first).to_be_visible()
    for pressed, visible in (("Enter", False), ("Space", True)):
        button.focus()
        button.press(pressed)
        expect(inside.first).to_be_visible(visible=visible)
    expect(inside.first).to_have_css("opacity", "1")  # it fades in, and axe measures the contrast


def wide_tables(page):
    """The text of tables that are wider than the place where they stand."""
    return page.evaluate(
        """() => [...document.querySelectorAll("article table")]
             .filter(table => table.checkVisibility())
             .filter(table => table.offsetWidth > table.parentElement.clientWidth + 1)
             .map(table => table.textContent.slice(0, 60))"""
    )


def cut_or_scrolling(page):
    """What scrolls the page sideways, and what loses its beginning or its end."""
    return page.evaluate(
        """() => {
          const wide = all => [...document.querySelectorAll(all)]
            .filter(one => one.scrollWidth > one.clientWidth + 1);
          const frames = wide("html, body, main, .bd-article-container, article, article p, "
            + "article li, .widget-readout, figcaption").filter(one => one.checkVisibility());
          const below = [...document.querySelectorAll(".widget-readout")].filter(one =>
            one.getBoundingClientRect().bottom
              > one.closest(".widget-slider").parentElement.getBoundingClientRect().bottom + 1);
          const equations = [...document.querySelectorAll("div.math")].filter(one => {
            const drawn = one.querySelector("svg").getBoundingClientRect();
            const { left, right } = one.getBoundingClientRect();
            const scrolls = getComputedStyle(one).overflowX === "auto";
            return drawn.width && (drawn.left < left - 1 || drawn.right > right + 1 && !scrolls);
          });
          return [...frames, ...below, ...equations]
            .map(one => one.tagName + one.textContent.slice(0, 60));
        }"""
    )


def paper_shows_the_last_frame_of_each_scrubber(page, text):
    shown = page.locator(".cell_output figure img:visible")
    alts = {image.get_attribute("alt") for image in shown.all()}
    assert set(last_frames(text)) <= alts
    assert page.locator(".jupyter-widgets:visible").count() == 0


def last_frames(text):
    """The alt text of the last frame of every scrubber in a page's source."""
    found = re.search(r'application/vnd.jupyter.widget-state\+json">(.*?)</script>', text, re.S)
    models = json.loads(found[1])["state"] if found else {}
    lasts = []
    for model in models.values():
        if model["model_name"] == "StackModel":
            last = models[model["state"]["children"][-1].removeprefix("IPY_MODEL_")]["state"]
            lasts += re.findall(r'alt="([^"]*)"', last.get("value", ""))
    assert len(lasts) >= scrubbers_in(text)
    return [unescape(alt) for alt in lasts]


def serious(page):
    """What axe finds serious or critical."""
    # It need not ask for the style sheets, which are on this machine.
    options = {"resultTypes": ["violations"], "preload": False}
    found = Axe().run(page, options=options).response["violations"]
    return [
        (rule["id"], node["html"][:200])
        for rule in found
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


@NEEDS_AXE
def test_axe_finds_what_has_no_name(browser):
    page = browser.new_page()
    page.set_content('<html lang="en"><title>A page</title><main><button></button></main></html>')
    assert [rule for rule, _ in serious(page)] == ["button-name"]
    page.close()


def equations_are_drawn(page):
    # Attached, not visible: the first one may stand in a folded admonition.
    page.locator("mjx-container svg").first.wait_for(state="attached")
    assert page.locator(".math:not(:has(mjx-container))").count() == 0


def the_arrow_keys_change_the_picture_and_the_readout_names_the_frame(output):
    first = shown(output)
    handle = output.locator(HANDLE).first
    keys = ["ArrowRight", "ArrowLeft"]
    if handle.get_attribute("aria-valuenow") == handle.get_attribute("aria-valuemax"):
        keys.reverse()  # this one opens on its last frame
    for key in keys:
        before = shown(output)
        handle.focus()
        output.page.keyboard.press(key)
        wait_for_change(output, before)
        readout = output.locator(".jupyter-widgets .widget-readout").first.inner_text()
        caption = output.locator(".jupyter-widgets figcaption:visible").inner_text()
        assert caption.endswith(f"{readout.strip()})")
        assert readout.strip()
        expect(handle).to_have_attribute("aria-valuetext", readout.strip())
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
        expect(buttons.nth(number)).to_have_attribute("aria-pressed", "false")
        buttons.nth(number).click()
        wait_for_change(output, before)
        expect(buttons.nth(number)).to_have_attribute("aria-pressed", "true")
        before = shown(output)
        output.locator(f"{HANDLE}:visible").focus()
        output.page.keyboard.press("ArrowRight")
        wait_for_change(output, before)
        seen |= {before[0], shown(output)[0]}
    assert len(seen) == 2 * buttons.count() - 1


def test_the_first_page_plays_the_hijack_above_the_fold(browser, addresses):
    for viewport in ({"width": 1280, "height": 800}, PHONE):
        for motion in ("no-preference", "reduce"):
            options = {"viewport": viewport, "reduced_motion": motion}
            with in_browser.opened(
                browser, addresses["http"], "book/intro.html", **options
            ) as page:
                (picture,) = page.locator("article img:visible").all()
                moves = picture.get_attribute("src").endswith(".gif")
                assert moves == (motion == "no-preference")
                assert picture.evaluate("image => image.complete && image.naturalWidth > 0")
                box = picture.bounding_box()
                assert box["y"] + box["height"] < viewport["height"]
                assert page.locator("article ul").first.locator("a").count() == 4


def test_the_download_button_downloads_the_notebook(browser, addresses):
    name = FROM_DISK["equations"]
    with in_browser.opened(browser, addresses["http"], f"{name}.html") as page:
        page.get_by_role("button", name="Download this page").click()
        with page.expect_download() as downloading:
            page.locator(".btn-download-source-button").click()
        source = Path(__file__).parents[2] / f"{name}.ipynb"
        assert downloading.value.suggested_filename == source.name
        assert Path(downloading.value.path()).read_bytes() == source.read_bytes()


def test_the_pages_that_open_from_disk_hold_all_that_a_page_can_hold(pages):
    texts = {what: pages[name].read_text(encoding="utf-8") for what, name in FROM_DISK.items()}
    assert scrubbers_in(texts["a scrubber"])
    assert "ToggleButtonsModel" in texts["buttons"]
    assert has_equations(texts["equations"])
    assert re.search(r'class="[^"]*dropdown[^"]*admonition', texts["equations"])
    assert "is not written yet" in texts["exercises"]
    assert not scrubbers_in(texts["text"])


@pytest.mark.parametrize("number", range(PARTS))
def test_exercises_and_solutions_are_opened_in_every_turn(number):
    opened = rotation.share(ALIKE, PARTS, number)
    assert {name.split("/")[0] for name in opened} == {"exercises", "solutions"}
