"""The rendered book as artefacts: what is in the pages, and what a broken chapter does."""

import re
import shutil
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import in_turn
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from page_size import FIGURES, SECTIONS, TABLES, WORDS, numbers_of_figures, sizes

from splitlab.course import book, editions, runner

ROOT = Path(__file__).parents[2]
CHAPTERS = book.chapters(ROOT / "book")
NOTEBOOKS = book.notebooks(ROOT / "book")
SOLUTIONS = [path for path in NOTEBOOKS if path not in CHAPTERS]
CHECK = "# NBVAL_CHECK_OUTPUT"

# The attributes through which a page loads something by itself. A link to follow (<a href>) may
# lead outside.
LOADING = {
    ("script", "src"),
    ("img", "src"),
    ("img", "srcset"),
    ("iframe", "src"),
    ("embed", "src"),
    ("object", "data"),
    ("audio", "src"),
    ("video", "src"),
    ("video", "poster"),
    ("source", "src"),
    ("source", "srcset"),
    ("track", "src"),
    ("input", "src"),
}
LOADING_LINKS = {"stylesheet", "preload", "modulepreload", "prefetch", "icon", "manifest"}
LOADING_LINKS |= {"preconnect", "dns-prefetch", "apple-touch-icon", "mask-icon"}


class Page(HTMLParser):
    """The images of a page, the addresses it loads, its text, and its inline style."""

    def __init__(self, path):
        super().__init__()
        self.images, self.loaded, self.styles, self.inside = [], [], [], None
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.inside = tag
        if tag == "img":
            self.images.append(values)
        self.loaded += [v for name, v in attributes if (tag, name) in LOADING and v]
        if tag == "link" and LOADING_LINKS & set((values.get("rel") or "").lower().split()):
            self.loaded.append(values["href"])
        self.styles.append(values.get("style") or "")

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside == "style":
            self.styles.append(data)


def outside(addresses):
    return [address for address in addresses if urlsplit(address).netloc]


def urls_in(css):
    return re.findall(r"""(?:url\(|@import)\s*["']?([^"')\s;]+)""", css)


@pytest.fixture
def page(request, pages):
    return Page(pages[request.param])


ALL_PAGES = pytest.mark.parametrize("page", book.toc_files(ROOT / "book"), indirect=True)


def test_every_page_of_the_contents_is_there_and_no_other(html, pages):
    exercises = len(list((ROOT / "exercises").glob("*.ipynb")))
    assert len(SOLUTIONS) == exercises == len(editions.masters(ROOT)) >= 2
    texts = list((ROOT / "book").glob("*.md"))
    assert len(pages) == len(CHAPTERS) + 2 * exercises + len(texts) >= 8
    assert {path for path in html.glob("*/*.html") if path.parent.name != "_static"} == set(
        pages.values()
    )
    assert "book/intro.html" in (html / "index.html").read_text()


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_page_shows_an_executed_chapter(chapter, built, pages):
    executed = nbformat.read(built / "source" / "book" / chapter.name, as_version=4)
    written = [cell for cell in runner.code_cells(runner.read(chapter)) if cell.source.strip()]
    ran = [cell for cell in runner.code_cells(executed) if cell.execution_count]
    assert len(ran) == len(written) + 1  # the injected parameters
    page = unescape(pages[f"book/{chapter.stem}"].read_text(encoding="utf-8"))
    assert runner.verdict_of(executed)
    assert runner.verdict_of(executed) in page
    assert "# Parameters" not in page, "the injected cell is not for readers"


@pytest.mark.parametrize(
    "chapter", [c for c in CHAPTERS if not c.stem.startswith("9")], ids=lambda path: path.stem
)
def test_a_page_is_as_long_as_a_page_should_be(chapter, built):
    executed = runner.read(built / "source" / "book" / chapter.name)
    size = sizes(executed)
    assert size["words"] <= WORDS
    assert size["sections"] <= SECTIONS
    assert size["figures"] <= FIGURES
    assert size["tables"] <= TABLES
    assert numbers_of_figures(executed) == list(range(1, size["figures"] + 1))


def outputs_of(cell):
    """What a cell prints, by stream, and what else it shows."""
    streams, others = {}, []
    for output in cell.outputs:
        if output.output_type == "stream":  # a busy machine hands it over in several pieces
            streams[output.name] = streams.get(output.name, "") + output.text
        else:
            others.append(output.get("data", output))
    return streams, others


def printed(notebook):
    """The marked cells of a notebook, each with its outputs."""
    return [
        (cell.source, *outputs_of(cell))
        for cell in runner.code_cells(notebook)
        if CHECK in cell.source
    ]


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_prints_what_is_stored(chapter, built):
    stored = printed(runner.read(chapter))
    assert len(stored) >= 1, "no cell is marked; nothing is compared"
    assert all(streams or others for _, streams, others in stored), "run `make verdicts`"
    assert printed(runner.read(built / "source" / "book" / chapter.name)) == stored


def test_only_what_marked_cells_print_is_compared():
    def notebook(*pieces, source=f"{CHECK}\nverdict()"):
        outputs = [new_output("stream", name="stdout", text=piece) for piece in pieces]
        cells = [new_code_cell("1", outputs=outputs), new_code_cell(source, outputs=outputs)]
        return new_notebook(cells=cells)

    stored = printed(notebook("It holds.\n"))
    assert len(stored) == 1
    assert printed(notebook("It ", "holds.\n")) == stored
    assert printed(notebook("It does not.\n")) != stored
    assert printed(notebook()) != stored
    assert printed(notebook("It holds.\n", source="verdict()")) != stored


@pytest.mark.parametrize("master", in_turn.RUN, ids=lambda path: path.stem)
def test_a_page_of_solutions_shows_checks_that_pass_and_folds_the_solutions(master, built, pages):
    executed = nbformat.read(built / "source" / "solutions" / master.name, as_version=4)
    checks = [cell for cell in executed.cells if "check" in runner.tags(cell)]
    exercises = editions.exercises(runner.read(master), master.stem)
    for cell, exercise in zip(checks, exercises, strict=True):
        streams, others = outputs_of(cell)
        if exercise.stars == editions.STARS:  # open: a table with a score
            assert not streams
            (shown,) = others
            assert "<table" in shown["text/html"]
        else:
            assert not streams
            (shown,) = others
            assert shown["text/plain"].startswith("Passed: ")
    page = pages[f"solutions/{master.stem}"].read_text(encoding="utf-8")
    assert page.count("Show code cell source") == len(checks)


@pytest.mark.parametrize("master", SOLUTIONS, ids=lambda path: path.stem)
def test_a_page_of_exercises_shows_stubs_and_no_solution(master, pages):
    text = unescape(re.sub(r"<[^>]+>", "", pages[f"exercises/{master.stem}"].read_text()))
    for exercise in editions.exercises(runner.read(master), master.stem):
        assert f"{exercise.name} is not written yet" in text
        solution = editions.REGION.search(exercise.source)[0].splitlines()[1:-1]
        code = "\n".join(line.strip() for line in solution)
        assert code not in "\n".join(line.strip() for line in text.splitlines())


def test_only_solutions_without_a_turn_are_left_out(built):
    """An executed copy that nobody ran would show a page without what it prints."""
    ran = [path for path in NOTEBOOKS if _ran(built / "source" / path.relative_to(ROOT))]
    assert ran == [path for path in NOTEBOOKS if path in CHAPTERS or path in in_turn.RUN]
    assert sorted(in_turn.SOLUTIONS) == sorted(SOLUTIONS)


def _ran(path):
    return any(cell.execution_count for cell in runner.code_cells(runner.read(path)))


@ALL_PAGES
def test_every_picture_has_alt_text(page):
    for image in page.images:
        assert (image.get("alt") or "").strip(), image.get("src", "")[:80]


def test_pictures_inside_widgets_have_alt_text(built):
    seen = 0
    for chapter in CHAPTERS:
        text = (built / "source" / "book" / chapter.name).read_text(encoding="utf-8")
        images = re.findall(r"<img\b[^>]*", text)
        seen += len(images)
        for image in images:
            assert re.search(r'alt=\\"[^"\\]*\w', image), image[:120]
    assert seen, "no chapter has a picture"


def test_what_a_page_would_load_from_outside_is_found(tmp_path):
    path = tmp_path / "page.html"
    path.write_text(
        '<link rel="preload stylesheet" href="https://a.example/a.css"><script src="//b.example/b">'
        '</script><style>@import "https://c.example/c"; p {background: url(//d.example/d)}</style>'
        '<p style="background: url(\'https://e.example\')"><a href="https://f.example">go</a>'
    )
    page = Page(path)
    assert outside(page.loaded) == ["https://a.example/a.css", "//b.example/b"]
    assert outside(urls_in("\n".join(page.styles))) == [
        "https://c.example/c",
        "//d.example/d",
        "https://e.example",
    ]


@ALL_PAGES
def test_a_page_loads_nothing_from_outside(page):
    assert page.loaded, "a page without a single script or style sheet is not a page of this book"
    assert not outside(page.loaded)
    assert not outside(urls_in("\n".join(page.styles)))


def test_style_sheets_load_nothing_from_outside(html):
    sheets = list(html.rglob("*.css"))
    assert sheets
    for sheet in sheets:
        assert not outside(urls_in(sheet.read_text(encoding="utf-8"))), sheet


@ALL_PAGES
def test_everything_that_a_page_loads_is_there(page, html):
    for address in page.loaded:
        if not address.startswith("data:"):
            path = unquote(urlsplit(address).path)
            assert (html / "book" / path).resolve().is_file(), address


def test_equations_and_widgets_are_drawn_by_vendored_scripts(pages):
    loaded = {name: " ".join(Page(path).loaded) for name, path in pages.items()}
    texts = {name: path.read_text(encoding="utf-8") for name, path in pages.items()}
    with_maths = [name for name, text in texts.items() if 'class="math' in text]
    with_widgets = [name for name, text in texts.items() if "widget-view+json" in text]
    assert with_maths and with_widgets
    assert all("_static/mathjax/tex-svg.js" in loaded[name] for name in with_maths)
    assert all("_static/widgets/embed.js" in loaded[name] for name in with_widgets)


@pytest.mark.parametrize(
    "file", [file for file in book.toc_files(ROOT / "book") if (ROOT / f"{file}.ipynb").exists()]
)
def test_the_colab_button_opens_the_notebook_itself(file, pages):
    page = pages[file].read_text(encoding="utf-8")
    (link,) = set(re.findall(r'href="(https://colab\.research\.google\.com[^"]+)"', page))
    assert link.endswith(f"/blob/main/{file}.ipynb")


# What a build does on a change: on a book of three pages, for each case renders it anew.


@pytest.fixture(scope="module")
def first_build(tmp_path_factory):
    """A small book that is built: an intro, and two chapters that print a line each."""
    root = tmp_path_factory.mktemp("small")
    folder = root / "book"
    shutil.copytree(ROOT / "book" / "_vendor", folder / "_vendor")
    for name in ("_config.yml", "references.bib"):
        shutil.copy(ROOT / "book" / name, folder)
    (folder / "intro.md").write_text("# A small book\n")
    (folder / "_toc.yml").write_text(
        "format: jb-book\nroot: book/intro\nchapters:\n"
        "  - file: book/10_first\n  - file: book/11_second\n"
    )
    for stem in ("10_first", "11_second"):
        cells = [
            new_markdown_cell(f"# {stem}"),
            new_code_cell(
                'profile = "tiny"\nseed = 0\ndevice = "cpu"', metadata=tagged("parameters")
            ),
            new_code_cell("print('It holds.')", metadata=tagged("verdict")),
        ]
        nbformat.write(new_notebook(cells=cells), folder / f"{stem}.ipynb")
    assert book.main(["--book", str(folder)]) == 0
    return root


def tagged(tag):
    return {"tags": [tag]}


@pytest.fixture
def small(first_build, tmp_path):
    """A copy of the small book, with its build, to spoil."""
    shutil.copytree(first_build, tmp_path, dirs_exist_ok=True)
    return tmp_path / "book"


def test_a_second_build_does_nothing_again(small, capsys):
    index = small / "_build" / "html" / "index.html"
    before = index.stat().st_mtime_ns
    assert book.main(["--book", str(small)]) == 0
    out = capsys.readouterr().out
    assert out.count("(cached)") == 2
    assert out.count("It holds.") == 2
    assert "(unchanged)" in out
    assert index.stat().st_mtime_ns == before


def test_a_broken_chapter_turns_the_build_red(small, capsys):
    chapter = small / "11_second.ipynb"
    notebook = nbformat.read(chapter, as_version=4)
    notebook.cells.insert(2, new_code_cell("raise RuntimeError('broken on purpose')"))
    nbformat.write(notebook, chapter)

    assert book.main(["--book", str(small)]) == 1
    out, err = capsys.readouterr()
    assert "error: 11_second, code cell 2 (`raise RuntimeError(" in err
    assert "broken on purpose" in err
    assert re.search(r"^11_second .*FAILED$", out, flags=re.M)
    assert re.search(r"^10_first .*\(cached\)  It holds\.$", out, flags=re.M), "its result is kept"


def test_a_page_with_a_warning_turns_the_build_red(small, capsys):
    with (small / "intro.md").open("a") as file:
        file.write("\nSee {cite}`nobody1999nothing`.\n")
    assert book.main(["--book", str(small)]) == 1
    assert "nobody1999nothing" in capsys.readouterr().err
    assert book.main(["--book", str(small)]) == 1, "and stays red without a change"
