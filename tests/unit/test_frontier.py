import re
import shutil
from html.parser import HTMLParser

import pytest

from splitlab.show.frontier import Frontier, Point

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
WITHOUT_AN_END = {"meta"}
SETTINGS = ("static attacker", "adaptive attacker")


def points(groups=3, each=4):
    """Points that all differ in both heights and fall when the attacker adapts."""
    return [
        Point(
            f"defense {group}",
            f"level {level}",
            0.95 - 0.05 * level - 0.004 * group,
            (0.02 * (level + 1) + 0.01 * group, 0.01 * (level + 1) + 0.001 * group),
            {"cut": 2, "attack": "white-box inversion", "run": f"frontier-{group}-{level}"},
        )
        for group in range(groups)
        for level in range(each)
    ]


def frontier(given=None, **changes):
    texts = {"x_label": "test accuracy", "y_label": "error (MSE)"}
    texts |= {"caption": "Figure 1. All fall.", "alt": "Error against accuracy."}
    return Frontier(points() if given is None else given, **(texts | changes))


def one(**changes):
    values = {"group": "noise", "label": "sigma 1", "x": 0.9, "y": (0.2, 0.1), "record": {}}
    return Point(**(values | changes))


class Page(HTMLParser):
    """What a page holds; fails where a tag is not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.tables = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        assert len(dict(attributes)) == len(attributes), f"an attribute of {tag} is there twice"
        if tag not in WITHOUT_AN_END:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if "table" in self.open:
            self.tables[-1].append(text)

    def having(self, name):
        return [own for _, own in self.tags if name in own.get("class", "").split()]


def html(plot):
    return plot._repr_html_()


def heights(text):
    """Where the points stand in the second setting, and how far each moves in the first."""
    found = re.findall(r'translate\(([\d.]+) ([\d.]+)\)" style="--rise:([-\d.]+)px"', text)
    return [tuple(map(float, place)) for place in found]


def test_every_point_has_its_record_and_both_values():
    page = Page(html(frontier()))
    marks = page.having("point")
    assert len(marks) == len(page.tables) == 12
    for point, mark, table in zip(points(), marks, page.tables, strict=True):
        assert mark["data-name"] == f"{point.name}: test accuracy {point.x:.3g}, error (MSE) "
        assert mark["data-values"].split() == [f"{y:.3g}" for y in point.y]
        caption, *cells = table
        assert caption == point.name
        rows = dict(zip(cells[::2], cells[1::2], strict=True))
        assert rows == {
            "test accuracy": f"{point.x:.4g}",
            **{f"error (MSE), {s}": f"{y:.4g}" for s, y in zip(SETTINGS, point.y, strict=True)},
            **{name: str(value) for name, value in point.record.items()},
        }


def test_higher_values_stand_higher_and_the_switch_moves_points_vertically():
    places = heights(html(frontier()))
    assert len(places) == 12
    for (x, y, rise), point in zip(places, points(), strict=True):
        assert 0 < x < 360
        assert 0 < y < 270
        assert 0 < y + rise < 270
        assert rise < 0, f"the static attacker has the larger error: {point.name}"
    order = sorted(range(12), key=lambda i: points()[i].y[1])
    assert order == sorted(range(12), key=lambda i: -places[i][1])


def test_nothing_has_an_id_or_comes_from_outside():
    page = Page(html(frontier(reference=(0.05, "nearest public image"))))
    for _, attributes in page.tags:
        assert not {"id", "src", "href", "xlink:href"} & set(attributes)
    assert "http" not in html(frontier())
    assert "@import" not in html(frontier())


def test_the_same_input_gives_the_same_bytes():
    assert html(frontier()) == html(frontier())
    assert html(frontier()) == html(frontier(iter(points())))


def test_a_full_plot_is_small():
    assert len(html(frontier(points(12, 4), reference=(0.05, "chance"))).encode()) < 60_000


def test_no_two_groups_look_alike_even_in_gray():
    text = html(frontier(points(14, 1)))
    (legend,) = re.findall(r'<div class="legend">(.+?)</div>', text)
    marks = re.findall(
        r'style="stroke:(.+?);fill:.+?;fill-opacity:(.+?)" .+?<path d="(.+?)"', legend
    )
    assert len(set(marks)) == len({(fill, shape) for _, fill, shape in marks}) == 14
    for number in range(14):
        assert f"</svg> defense {number}</span>" in legend
    colors = {}
    for color, _, shape in marks:
        assert color not in colors.setdefault(shape, [])
        colors[shape].append(color)


def test_a_line_joins_the_points_of_a_group_in_their_order():
    given = [one(label="c", x=0.5), one(group="alone"), one(label="a", x=0.9), one(label="b")]
    text = html(frontier(given))
    lines = re.findall(r'<path class="line (\w+)" d="M([\d. L]+)"', text)
    assert [name for name, _ in lines] == ["first", "second"]
    assert text.rindex('class="line') < text.index('class="point'), "no line hides a mark"
    xs = [float(place.split()[0]) for place in lines[1][1].split("L")]
    assert xs[0] < xs[1] == xs[2]


def runs(detectors=3, each=100):
    """One point for each run, as a plot of detectors has them; many of them coincide."""
    return [
        one(
            group=f"detector {detector}",
            label=f"{('fast', 'paper')[run % 2]}, seed {100 + run // 2}",
            x=run % 7,
            y=(0.1 + 0.01 * (run % 5), 0.1),
            record={"alarm": f"step {run}"},
        )
        for detector in range(detectors)
        for run in range(each)
    ]


def test_without_lines_every_run_has_its_mark_and_its_record():
    given = runs()
    text = html(frontier(given, joined=False))
    assert 'class="line' not in text
    page = Page(text)
    assert len(page.having("point")) == len(page.tables) == 300
    assert [table[0] for table in page.tables] == [point.name for point in given]
    assert given[1].name == "detector 0, paper, seed 100"
    assert [table[-1] for table in page.tables] == [point.record["alarm"] for point in given]
    assert "All records (300)" in text
    joined = html(frontier(given))
    assert joined.count('class="line') == 6
    assert re.sub(r'<path class="line[^>]*/>', "", joined) == text, "nothing else changes"
    assert len(text.encode()) < 300_000


def test_the_reference_is_a_dashed_line_with_its_name_and_value():
    text = html(frontier(reference=(0.5, "nearest <public> image")))
    assert "</svg> nearest &lt;public&gt; image (0.5)</span>" in text
    (line,) = re.findall(r'<path class="dashed" d="M[\d.]+ ([\d.]+)H350"/>', text)
    assert float(line) < min(y + min(rise, 0) for _, y, rise in heights(text))
    assert 'class="dashed"' not in html(frontier())


@pytest.mark.parametrize(
    ("ys", "ticks"),
    [
        ((0.03, 0.5), ["0.05", "0.1", "0.2", "0.5"]),
        ((0.00001, 1), ["1e-05", "0.0001", "0.001", "0.01", "0.1", "1"]),
        ((0.031, 0.036), ["0.031", "0.032", "0.033", "0.034", "0.035", "0.036"]),
    ],
)
def test_a_logarithmic_axis_is_marked_at_round_values(ys, ticks):
    text = html(frontier([one(y=ys)]))
    assert re.findall(r'<text text-anchor="end"[^>]*>(.+?)</text>', text) == ticks


def test_equal_values_and_a_linear_axis_are_drawn():
    Page(html(frontier([one(y=(0, 0))], log_y=False)))
    text = html(frontier([one(y=(-1, 1))], log_y=False))
    assert "<text" in text
    ((_, y, rise),) = heights(text)
    assert rise == pytest.approx(2 * (8 + 240 / 2 - y), abs=0.2)


def test_what_is_given_cannot_become_markup():
    bad = '<b>&"x"</b></script><script>'
    point = one(group=bad, label=bad, record={bad: bad})
    texts = dict.fromkeys(("x_label", "y_label", "caption", "alt"), bad)
    text = html(frontier([point], **texts, switch=(bad, "other"), reference=(1, bad)))
    page = Page(text)
    assert not [tag for tag, _ in page.tags if tag == "b"]
    assert text.count("<script>") == text.count("</script>") == 1
    (plot,) = page.having("plot")
    assert plot["aria-label"] == bad


def test_the_text_form_is_the_alt_text():
    assert repr(frontier()) == "<frontier: Error against accuracy.>"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: frontier([]), "points is empty"),
        (lambda: frontier([one(), one()]), "two points are named 'noise, sigma 1'"),
        (
            lambda: frontier([one(label="a, b"), one(group="noise, a", label="b")]),
            "two points are named 'noise, a, b'",
        ),
        (lambda: frontier([one(y=(0.1, 0.0))]), "y of 'noise, sigma 1' is 0: a logarithmic"),
        (lambda: frontier(reference=(-1, "floor")), "reference is -1: a logarithmic"),
        (lambda: frontier(reference=(float("inf"), "floor")), "reference is inf: pass a finite"),
        (lambda: frontier(alt=" "), "alt is empty"),
        (lambda: frontier(caption=""), "caption is empty"),
        (lambda: frontier(x_label=""), "x_label is empty"),
        (lambda: frontier(y_label=""), "y_label is empty"),
        (lambda: frontier(switch=("one", "one")), "pass the names of two settings"),
        (lambda: frontier(switch=("one", "")), "pass the names of two settings"),
        (lambda: frontier(points(15, 1)), "points has 15 groups: pass at most 14"),
        (lambda: one(x=float("nan")), "x of 'noise, sigma 1' is nan: pass a finite number"),
        (lambda: one(x=None), "x of 'noise, sigma 1' is None: pass a finite number"),
        (lambda: one(y=(0.1, float("nan"))), "y of 'noise, sigma 1' is nan"),
        (lambda: one(y=(0.1,)), "y of 'noise, sigma 1' needs two values"),
        (lambda: one(group=""), "a point needs a group and a label"),
        (lambda: one(label=" "), "a point needs a group and a label"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(make, message):
    with pytest.raises(ValueError, match=re.escape(message)) as refusal:
        make()
    assert "\n" not in str(refusal.value)


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (see .ci/run for Debian)")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="the Python package playwright is not installed"
    )
    with playwright.sync_playwright() as running:
        flags = ["--no-sandbox", "--headless", "--disable-gpu", "--disable-background-networking"]
        browser = running.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, tmp_path):
    """Opens plots on one page from disk; no script may fail and nothing be asked for."""
    contexts, errors, asked = [], [], []

    def opened(*plots, width=1280, **options):
        head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        body = "".join(map(html, plots))
        path = tmp_path / "page.html"
        path.write_text(f"<!DOCTYPE html>{head}<body>{body}</body>", encoding="utf-8")
        contexts.append(
            browser.new_context(
                viewport={"width": width, "height": 900}, reduced_motion="reduce", **options
            )
        )
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        assert asked.pop() == path.as_uri()
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not errors
    assert not asked


def boxes(root):
    return [mark.bounding_box() for mark in root.locator(".point > path").all()]


def places(root):
    """Where the points stand in the drawing, wherever the page is scrolled to."""
    corner = root.locator(".plot").bounding_box()
    return [box["y"] - corner["y"] for box in boxes(root)]


def middle(box):
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_the_switch_moves_the_points_and_says_so(visit):
    page = visit(frontier())
    static, adaptive = (page.get_by_role("button", name=name) for name in SETTINGS)
    assert adaptive.get_attribute("aria-pressed") == "true"
    before = boxes(page)
    static.click()
    assert static.get_attribute("aria-pressed") == "true"
    assert adaptive.get_attribute("aria-pressed") == "false"
    for old, new in zip(before, boxes(page), strict=True):
        assert new["x"] == pytest.approx(old["x"], abs=0.1)
        assert new["y"] < old["y"] - 3
    name = "defense 0, level 1: test accuracy 0.9, error (MSE) "
    assert page.get_by_role("button", name=f"{name}0.04", exact=True).count() == 1
    adaptive.click()
    assert boxes(page) == before
    assert page.get_by_role("button", name=f"{name}0.02", exact=True).count() == 1


def test_a_click_near_a_point_opens_its_record(visit):
    page = visit(frontier())
    record = page.locator(".record")
    assert record.inner_text().startswith("Click on a point")
    for number in (5, 0):
        x, y = middle(boxes(page)[number])
        page.mouse.click(x + 3, y - 2)
        assert record.locator("caption").inner_text() == points()[number].name
        assert points()[number].record["run"] in record.inner_text()
        assert page.locator(".point[aria-current]").count() == 1


def test_clicks_go_through_points_that_lie_on_one_another(visit):
    names = ("one", "two", "three")
    page = visit(frontier([one(label=name) for name in names] + [one(label="away", x=0.5)]))
    x, y = middle(boxes(page)[1])
    seen = []
    for _ in range(4):
        page.mouse.click(x, y)
        seen.append(page.locator(".record caption").inner_text().removeprefix("noise, "))
    assert sorted(seen[:3]) == sorted(names)
    assert seen[3] == seen[0]


def test_every_run_of_a_large_group_can_be_opened(visit):
    given = runs(detectors=1, each=40)  # 35 places for 40 points: the last five lie on the first
    page = visit(frontier(given, joined=False))
    static = page.get_by_role("button", name=SETTINGS[0])
    static.click()
    opened = set()
    for number in (0, 35, 39):
        x, y = middle(boxes(page)[number])
        for _ in range(2):
            page.mouse.click(x, y)
            opened.add(page.locator(".record caption").inner_text())
    assert opened == {given[number].name for number in (0, 35, 4, 39)}


def test_the_keyboard_does_all(visit):
    page = visit(frontier())
    record = page.locator(".record caption")
    press = page.keyboard.press
    for _ in range(3):  # two buttons, then the plot
        press("Tab")
    press("Enter")
    assert record.inner_text() == "defense 0, level 0"
    press("ArrowRight")
    press(" ")
    assert record.inner_text() == "defense 0, level 1"
    for key in ("ArrowLeft", "ArrowUp", "Enter"):
        press(key)
    assert record.inner_text() == "defense 2, level 3"
    press("Shift+Tab")
    press("Shift+Tab")
    press("Enter")
    assert page.locator('[aria-pressed="true"]').inner_text() == SETTINGS[0]


@pytest.mark.parametrize("width", [1280, 390])
def test_a_page_does_not_scroll_sideways_and_its_letters_can_be_read(visit, width):
    long = one(label="x" * 80, record={"a" * 60: "b" * 90})  # words that no space breaks
    page = visit(frontier([*points(12, 4), long], reference=(0.05, "c " * 60)), width=width)
    page.locator(".point").last.click()
    page.locator("summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    tall = [label.bounding_box()["height"] for label in page.locator(".plot text").all()]
    sizes = page.locator(".plot text").evaluate_all(
        "all => all.map(e => parseFloat(getComputedStyle(e).fontSize) * e.getScreenCTM().a)"
    )
    assert len(tall) == len(sizes) > 6
    assert 10 <= min(sizes) <= max(sizes) < 16


def test_equal_plots_on_one_page_do_not_disturb_each_other(visit):
    page = visit(frontier(), frontier())
    first, second = page.locator(".splitlab-frontier").all()
    before = places(first)
    second.get_by_role("button", name=SETTINGS[0]).click()
    second.locator(".point").nth(4).click()
    assert places(first) == pytest.approx(before, abs=0.1)
    assert min(old - new for old, new in zip(before, places(second), strict=True)) > 3
    assert first.locator(".record table").count() == 0
    assert second.locator(".record table").count() == 1


def test_without_javascript_the_records_are_below_the_plot(visit):
    plain = visit(frontier(), java_script_enabled=False)
    assert plain.locator(".now").inner_text() == "Shown: adaptive attacker"
    assert not plain.locator("button").first.is_visible()
    plain.locator("summary").click()
    assert plain.locator("details table").last.is_visible()
    assert "error (MSE), static attacker" in plain.locator("details table").last.inner_text()


def test_print_shows_the_second_setting(visit):
    page = visit(frontier())
    before = places(page)
    page.get_by_role("button", name=SETTINGS[0]).click()
    assert max(places(page)) < max(before) - 3
    page.emulate_media(media="print", reduced_motion="reduce")
    assert page.locator(".now").is_visible()
    assert not page.locator("button").first.is_visible()
    assert places(page) == pytest.approx(before, abs=0.1)
