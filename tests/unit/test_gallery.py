"""The page of a batch, from results that nobody had to compute."""

import re
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest
from synthetic_batch import compare, notebook, outcome, png, seeds

from splitlab.course.batch import gallery, table
from splitlab.show.pictures import Picture

ODD = 'a&b "c" <i>é</i> #1? 50%'  # what names and values may hold


class Parsed(HTMLParser):
    """The text of a page, its tags and the values of its attributes."""

    def __init__(self, text):
        super().__init__()
        self.text, self.tags, self.cells = "", [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("td", "th"):
            self.cells.append((dict(attrs).get("class"), ""))

    def handle_data(self, data):
        self.text += data
        if self.cells:
            kind, text = self.cells[-1]
            self.cells[-1] = (kind, text + data)

    def handle_endtag(self, tag):
        if tag == "table":
            self.grid = [(kind, text.strip()) for kind, text in self.cells]
            self.cells = []

    def all(self, tag, name):
        return [attrs[name] for found, attrs in self.tags if found == tag and name in attrs]


def page(out, outcomes, **given):
    path = gallery.write(out, outcomes, **given)
    assert path == out / "gallery.html"
    return Parsed(path.read_text(encoding="utf-8"))


def test_the_headline_counts_and_adds_up(tmp_path):
    done = outcome(tmp_path, seconds=100.0, cpu_seconds=80.0, cached=True)
    failed = outcome(tmp_path, "10_start_here", error="It failed.", seconds=50.0, cpu_seconds=None)
    left = outcome(tmp_path, "22_unsplit", ran=False)
    text = page(tmp_path, [done, failed, left], seconds=7300.0).text
    assert "splitlab run: 3 notebooks, 3 runs" in text
    for name, value in {
        "done": "✓ 1",
        "failed": "✗ 1",
        "not run": "– 1",
        "wall time of the batch": "2 h 1 min",
        "wall time, all runs": "2 min 30 s",
        "CPU time, all runs": "1 min 20 s",
    }.items():
        assert f"{name}{value}" in text
    assert "1 had been done before" in text


def test_the_grid_has_notebooks_in_the_order_of_the_book_and_says_what_came_of_each(tmp_path):
    made = []
    for name in ("solutions/11_split_learning_from_scratch", "32_feature_space_hijacking"):
        made += seeds(tmp_path, 2, chapter=name)
    made += seeds(tmp_path, 2, chapter="11_split_learning_from_scratch")
    made[2] = outcome(tmp_path, error="It failed.", parameters=made[2].job.parameters)
    made[3] = outcome(tmp_path, ran=False, parameters=made[3].job.parameters)
    grid = page(tmp_path, made).grid
    assert [text for _, text in grid] == [
        *("notebook", "tiny, seed 0", "tiny, seed 1"),
        *("11_split_learning_from_scratch", *["✓ done12.5 s · log"] * 2),
        *("solutions/11_split_learning_from_scratch", *["✓ done12.5 s · log"] * 2),
        *("32_feature_space_hijacking", "✗ failed12.5 s · log", "– not run"),
    ]
    kinds = [kind for kind, text in grid if kind]
    assert kinds == [*["done"] * 4, "failed", "idle"]


def test_a_parameter_that_only_one_notebook_has_leaves_a_cell_empty(tmp_path):
    swept = outcome(tmp_path, parameters={"profile": "tiny", "seed": 0, "steps": 60})
    grid = page(tmp_path, [outcome(tmp_path, "10_start_here"), swept]).grid
    assert [text for _, text in grid[1:3]] == ["tiny, seed 0", "tiny, seed 0, steps 60"]
    assert [bool(text) for _, text in grid[4:6]] == [True, False]
    assert [bool(text) for _, text in grid[7:9]] == [False, True]


def test_devices_are_told_apart_where_there_are_several(tmp_path):
    made = [
        outcome(tmp_path, parameters={"profile": "tiny", "seed": 0, "device": device}, file=device)
        for device in ("cpu", "cuda")
    ]
    assert "cpu" not in page(tmp_path, made[:1]).grid[1][1]
    assert [text for _, text in page(tmp_path, made).grid[1:3]] == [
        *("tiny, seed 0, cpu", "tiny, seed 0, cuda"),
    ]


def test_every_link_leads_to_a_file_or_a_place_on_the_page(tmp_path):
    odd = ODD.replace("/", "|")
    made = [
        outcome(tmp_path, odd, file=odd),
        outcome(tmp_path, error="It failed.", parameters={"profile": "tiny", "seed": 1}),
        outcome(tmp_path, ran=False, parameters={"profile": "tiny", "seed": 2}),
    ]
    table.write(tmp_path, made)
    parsed = page(tmp_path, made)
    links = parsed.all("a", "href")
    places = {link[1:] for link in links if link.startswith("#")}
    assert places == set(parsed.all("h2", "id")) and len(places) == 2
    files = {link for link in links if not link.startswith("#")}
    assert all(re.fullmatch(r"[\w./%~-]+", link, re.ASCII) for link in files)
    assert not any(link.startswith("/") for link in files)  # the folder may move
    files = {tmp_path / unquote(link) for link in files}
    assert files == {
        *(tmp_path / "jobs.csv", made[0].job.out, made[0].job.log),
        *(made[1].job.failed, made[1].job.log),
    }
    assert all(path.is_file() for path in files)


def test_a_copy_or_log_that_is_not_there_is_not_linked(tmp_path):
    made = outcome(tmp_path, error="The kernel died.")
    made.job.failed.unlink()
    made.job.log.unlink()
    links = page(tmp_path, [made]).all("a", "href")
    assert {link for link in links if not link.startswith("#")} == {"jobs.csv"}


def test_no_value_becomes_markup(tmp_path):
    plain = page(tmp_path / "plain", [outcome(tmp_path / "plain", figures=(compare(1.0),))])
    odd = f"</title></style><script>alert(1)</script>{ODD}"
    image = Picture(png(), odd, odd)._repr_html_()
    parameters = {"profile": odd, "seed": 0, odd: odd}
    comparison = compare(0.9, figure=odd, bar_text=odd)
    name = odd.replace("/", "|")
    given = {"parameters": parameters, "file": "odd", "figures": (comparison,)}
    made = [
        outcome(tmp_path, name, notebook({"text/html": image}), verdict=odd, **given),
        outcome(tmp_path, name, error=odd, parameters={"profile": "tiny"}),
    ]
    parsed = page(tmp_path, made)
    expected = {tag for tag, _ in plain.tags} | {"img", "path", "ul", "li", "wbr"}
    assert {tag for tag, _ in parsed.tags} <= expected
    assert parsed.text.count("<script>alert(1)") >= 6
    assert any(odd in alt for alt in parsed.all("img", "alt"))
    assert any(odd in label for label in parsed.all("svg", "aria-label"))


def test_the_page_asks_for_nothing_and_runs_nothing(tmp_path):
    image = Picture(png(), "Digits.")._repr_html_()
    parsed = page(tmp_path, [outcome(tmp_path, copy=notebook({"text/html": image}))])
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in parsed.tags}
    assert all(source.startswith("data:image/png;base64,") for source in parsed.all("img", "src"))
    (policy,) = [a["content"] for _, a in parsed.tags if "Security" in a.get("http-equiv", "")]
    assert policy.startswith("default-src 'none'")


def test_a_verdict_line_is_said_once_with_its_runs(tmp_path):
    made = seeds(tmp_path, 5)
    made[2] = outcome(tmp_path, verdict="Another.", parameters=made[2].job.parameters)
    swept = {"profile": "gpu", "seed": 7, "steps": 60}
    made.append(outcome(tmp_path, parameters=swept))
    text = page(tmp_path, made).text
    assert "It holds. (tiny, seeds 0, 1, 3, 4; gpu, seed 7, steps 60)" in text
    assert "Another. (tiny, seed 2)" in text
    assert "It holds. (tiny, seeds 0 to 4)" in page(tmp_path, seeds(tmp_path, 5)).text


def test_errors_are_told_in_full_and_failures_are_counted(tmp_path):
    error = "32_feature_space_hijacking, code cell 9 (`assert x`): AssertionError: " + "so " * 100
    made = seeds(tmp_path, 9)
    made.append(outcome(tmp_path, error=error, parameters={"profile": "tiny", "seed": 9}))
    made.append(outcome(tmp_path, ran=False, parameters={"profile": "tiny", "seed": 10}))
    text = page(tmp_path, made).text
    assert f"tiny, seed 9 (log): {error}" in text
    assert "The verdict holds in 9 of 10 runs. Not run: 1." in text


def test_ranges_of_time_and_memory(tmp_path):
    made = [
        outcome(tmp_path, seconds=9.0, cpu_seconds=3.0, memory=400_000_000),
        outcome(tmp_path, seconds=90.0, cpu_seconds=None, memory=1_234_000_000),
    ]
    text = page(tmp_path, made).text
    assert "wall time 9.0 s to 1 min 30 s; CPU time 3.0 s; peak memory 400 to 1,234 MB." in text


@pytest.mark.parametrize("number", [0, 1])
def test_a_batch_may_hold_next_to_nothing(tmp_path, number):
    assert f"{number} run" in page(tmp_path, seeds(tmp_path, number)).text
    left = [outcome(tmp_path, ran=False)] * number
    assert f"not run– {number}" in page(tmp_path, left).text
    unknown = [outcome(tmp_path, cpu_seconds=None, memory=None, verdict="")] * number
    assert "CPU" not in page(tmp_path, unknown).text


def test_comparisons_are_counted_by_runs(tmp_path):
    given = [
        (compare(0.99), compare(0.1, 0.5, "<", "error")),
        (compare(0.99), compare(0.97)),  # in a loop
        (compare(0.99), compare(0.90)),
        (),
    ]
    made = [
        outcome(tmp_path, figures=one, parameters={"profile": "tiny", "seed": seed})
        for seed, one in enumerate(given)
    ]
    parsed = page(tmp_path, made)
    assert "matched >= 0.95 holds in 2 of 3 runs" in parsed.text
    assert "error < 0.5 holds in 1 of 1 run" in parsed.text
    assert "Not reached in 1 run." in parsed.text
    assert "Not reached in 3 runs." in parsed.text
    assert "Does not hold at tiny, seed 2: 0.9 (bar 0.95)." in parsed.text
    assert [tag for tag, _ in parsed.tags].count("circle") == 5


def test_without_figures_there_is_no_drawing(tmp_path):
    parsed = page(tmp_path, seeds(tmp_path, 2))
    assert "svg" not in {tag for tag, _ in parsed.tags}
    assert "Figures of the verdict" not in parsed.text


def test_the_page_shows_each_runs_picture_under_its_name(tmp_path):
    made = []
    for seed, name in enumerate(["red", "lime", "blue"]):
        html = Picture(png(name), f"In {name}.", "Figure 2. Digits.")._repr_html_()
        error = "It failed." if seed == 1 else None
        parameters = {"profile": "tiny", "seed": seed}
        copy = notebook({"text/html": html})
        made.append(outcome(tmp_path, copy=copy, parameters=parameters, error=error))
    made.append(outcome(tmp_path, parameters={"profile": "tiny", "seed": 3}))
    parsed = page(tmp_path, made)
    assert parsed.all("img", "alt") == [
        *("tiny, seed 0: In red.", "tiny, seed 1: In lime.", "tiny, seed 2: In blue."),
    ]
    assert "tiny, seed 1 ✗ failed" in parsed.text
    assert "No picture of tiny, seed 3." in parsed.text
    assert parsed.text.count("Digits.") == 1 and "Figure 2" not in parsed.text


def test_without_pictures_the_page_does_not_speak_of_them(tmp_path):
    assert "Reconstructions" not in page(tmp_path, seeds(tmp_path, 2)).text


def test_an_earlier_page_and_table_are_replaced(tmp_path):
    for number in (3, 1):
        made = seeds(tmp_path, number)
        table.write(tmp_path, made)
        assert f"{number} run" in page(tmp_path, made).text
    assert {path.name for path in tmp_path.iterdir()} == {"notebooks", "jobs.csv", "gallery.html"}
