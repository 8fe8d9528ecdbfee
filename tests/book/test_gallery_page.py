"""The gallery of a batch in a real browser: wide and narrow, in light and dark, and read aloud."""

import in_browser
import pytest
import synthetic_batch as batch

from splitlab.course.batch import gallery, reconstructions, table
from splitlab.course.notebook_files import code_cells, read
from splitlab.show.pictures import Picture

pytestmark = in_browser.NEEDS_CHROMIUM
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
VISITS = [("http", WIDE, "light"), ("file", PHONE, "light"), ("file", WIDE, "dark")]
READ = ["body", ".quiet", "main a", "td.done a", "td.failed a", "td.idle", ".miss", "dl .failed dd"]
MEASURE = """element => {
  const color = text => text.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
  let ground = element;
  const of = one => color(getComputedStyle(one).backgroundColor);
  while (ground.parentElement && of(ground)[3] === 0) ground = ground.parentElement;
  const pair = [luminance(color(getComputedStyle(element).color)), luminance(of(ground))];
  return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A batch with everything that a page can hold: two notebooks by twelve seeds."""
    out = tmp_path_factory.mktemp("batch")
    made = []
    for chapter in ("10_start_here", "solutions/11_split_learning_from_scratch"):
        for seed in range(12):
            parameters = {"profile": "tiny", "seed": seed}
            html = Picture(batch.png(), "Eight digits.", "Figure 1. Digits.")._repr_html_()
            comparison = batch.compare(0.94 + 0.002 * seed, figure="report['explained_variance']")
            made.append(
                batch.outcome(
                    out,
                    chapter,
                    batch.notebook({"text/html": html}),
                    parameters=parameters,
                    ran=seed != 11,
                    figures=(comparison, batch.compare(seed, seed + 9, "<", "error", "floor")),
                    error=None if comparison.holds else "It failed at `assert x`: AssertionError.",
                )
            )
    table.write(out, made)
    gallery.write(out, made, seconds=100.0)
    return out


@pytest.fixture(scope="module")
def addresses(folder):
    with in_browser.served(folder) as address:
        yield {"http": address, "file": folder.as_uri()}


@pytest.fixture(params=VISITS, ids=lambda visit: f"{visit[0]} {visit[1]['width']} {visit[2]}")
def page(request, browser, addresses):
    """The page, opened; in the end, no request may have left and no script have failed."""
    kind, viewport, scheme = request.param
    options = {"viewport": viewport, "color_scheme": scheme}
    with in_browser.opened(browser, addresses[kind], gallery.NAME, **options) as page:
        yield page


def test_the_page_can_be_read(page):
    the_page_does_not_scroll_sideways(page)
    what_is_wide_scrolls_by_the_keyboard(page)
    every_picture_is_there_and_has_alt_text(page)
    texts_stand_out_from_their_ground_and_links_from_texts(page)


def the_page_does_not_scroll_sideways(page):
    width, seen = page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert width <= seen


def what_is_wide_scrolls_by_the_keyboard(page):
    regions = page.get_by_role("region")
    assert regions.count() == 3  # the grid, and the pictures of both notebooks
    for region in regions.all():
        if region.evaluate("region => region.scrollWidth > region.clientWidth"):
            region.focus()
            page.keyboard.press("ArrowRight")
            page.wait_for_function("region => region.scrollLeft > 0", arg=region.element_handle())
    narrow = page.viewport_size["width"] == PHONE["width"]
    assert regions.first.evaluate("region => region.scrollLeft > 0") or not narrow


def every_picture_is_there_and_has_alt_text(page):
    pictures = page.locator("img")
    assert pictures.count() == 22
    for picture in pictures.all():
        assert picture.get_attribute("alt").endswith(": Eight digits.")
        assert picture.evaluate("image => image.complete && image.naturalWidth > 0")
    drawings = page.get_by_role("img", name="holds in")
    assert drawings.count() == 4
    for drawing in drawings.all():
        box = drawing.bounding_box()
        assert box["width"] > 200 and box["height"] > 100


def texts_stand_out_from_their_ground_and_links_from_texts(page):
    for selector in READ:
        assert page.locator(selector).first.evaluate(MEASURE) >= 4.5, selector
    link = "link => getComputedStyle(link).textDecorationLine"
    assert {one.evaluate(link) for one in page.get_by_role("link").all()[:9]} == {"underline"}
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    (red, *_) = page.locator("body").evaluate(
        "body => getComputedStyle(body).backgroundColor.match(/\\d+/g).map(Number)"
    )
    assert (red < 128) == dark


def test_axe_finds_nothing(page):
    """The rules of axe-core for accessibility."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright",
        reason="the Python package axe-playwright-python is not installed",
    )
    found = axe.Axe().run(page)
    assert not found.violations_count, found.generate_report()


def test_every_link_is_answered(browser, addresses):
    """Names of files hold commas and spaces, and the browser is to ask for the very file."""
    with in_browser.opened(browser, addresses["http"], gallery.NAME) as page:
        links = page.get_by_role("link").evaluate_all("links => links.map(link => link.href)")
        assert len(set(links)) == 2 * 11 * 2 + 2 + 1  # copies and logs, both sections, the table
        assert all(page.request.get(link).ok for link in sorted(set(links)))


def test_each_tagged_chapter_of_the_book_gives_its_picture(built):
    """From the copies that the book's own build has executed."""
    copies = sorted((built / "source" / "book").glob("*.ipynb"))
    tagged = [copy for copy in copies if code_cells(read(copy), reconstructions.TAG)]
    assert len(tagged) >= 10
    for copy in tagged:
        images = reconstructions.images(copy)
        assert images, copy.stem
        assert all(image.alt and image.caption for image in images), copy.stem
