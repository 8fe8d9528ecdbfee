"""The rendered pages in a real browser, offline: every slider moves its picture."""

import functools
import http.server
import re
import shutil
import threading

import pytest

pytest.importorskip("playwright", reason="the Python package playwright is not installed")
from playwright.sync_api import expect, sync_playwright

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine (see .ci/run for Debian)"
)
FLAGS = [
    "--no-sandbox",
    "--headless",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
# jupyter-book loads sphinx-thebe twice; nothing comes of it.
HARMLESS = "Identifier 'THEBE_JS_URL' has already been declared"
PICTURE = ".jupyter-widgets img:visible"
HANDLE = ".jupyter-widgets .noUi-handle"


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module", params=["file", "http"])
def base(request, html):
    """The book's address, as a folder on disk and from a server on this machine."""
    if request.param == "file":
        yield html.as_uri()
        return
    handler = functools.partial(Quiet, directory=str(html))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def visit(browser, base):
    """Open a page by its name; in the end, no request may have left and no script have failed."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(60_000)  # a busy machine is slow, not wrong
    left, missing, errors = [], [], []

    def watch(route):
        address = route.request.url
        if address.startswith((f"{base}/", "data:", "blob:")):
            route.continue_()
        else:
            left.append(address)
            route.abort()

    context.route("**/*", watch)

    def open_page(name):
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("response", lambda answer: answer.ok or missing.append(answer.url))
        page.goto(f"{base}/{name}.html")
        return page

    yield open_page
    context.close()
    assert not left, "the pages need nothing from outside"
    assert not missing, "every file that the pages ask for is there"
    assert [error for error in errors if HARMLESS not in error] == []


@pytest.fixture
def scrubbers(visit, pages):
    """Every scrubber of every page, opened and showing: the output of a cell that has widgets."""
    views = {name: path.read_text().count("widget-view+json") for name, path in pages.items()}
    opened = []
    for name, count in views.items():
        if count:
            outputs = visit(name).locator(".cell_output:has(.jupyter-widgets img)")
            expect(outputs).to_have_count(count, timeout=60_000)
            opened += outputs.all()
    assert opened, "no page has a scrubber"
    return opened


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


def test_dragging_the_slider_changes_the_picture(scrubbers):
    for output in scrubbers:
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


def test_the_arrow_keys_change_the_picture_and_the_readout_names_the_frame(scrubbers):
    for output in scrubbers:
        before = shown(output)
        output.locator(HANDLE).first.focus()
        output.page.keyboard.press("ArrowRight")
        wait_for_change(output, before)
        readout = output.locator(".jupyter-widgets .widget-readout").first.inner_text()
        caption = output.locator(".jupyter-widgets figcaption:visible").inner_text()
        assert caption.endswith(readout.strip())
        assert readout.strip()


def test_a_choice_shows_another_scrubber_whose_slider_works(visit, pages):
    """One page has several scrubbers behind buttons: one shows at a time, and each one moves."""
    output = visit("book/12_other_protocols").locator(".cell_output:has(.widget-toggle-button)")
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


def test_play_changes_the_picture(scrubbers):
    for output in scrubbers:
        before = shown(output)
        output.locator(".jupyter-widgets .widget-play button").first.click()
        wait_for_change(output, before)


def test_equations_are_drawn(visit, pages):
    names = [name for name, path in pages.items() if re.search(r'class="math', path.read_text())]
    assert names
    for name in names:
        page = visit(name)
        page.locator("mjx-container svg").first.wait_for()
        assert page.locator(".math:not(:has(mjx-container))").count() == 0


def test_every_page_opens_offline(visit, pages):
    for name in pages:
        page = visit(name)
        assert page.locator("h1").count() >= 1
        page.wait_for_timeout(1000)  # time for what scripts ask for once the page is there
