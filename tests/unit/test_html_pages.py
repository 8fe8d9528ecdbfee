"""What a page's head says of it, and the times that a page without code can quote."""

import json

import nbformat
import pytest
from docutils import nodes
from nbformat.v4 import new_markdown_cell, new_notebook

from splitlab.course import html_pages
from splitlab.course.records import RUNS


def page(*parts):
    section = nodes.section("", nodes.title("", "A title"), *parts)
    document = nodes.document(None, None)
    document += section
    return document


def test_a_page_is_described_by_its_first_paragraph_of_words():
    picture = nodes.paragraph("", "", nodes.image(alt="Eight digits."))
    boxed = nodes.note("", nodes.paragraph("", "A claim."))
    first = nodes.paragraph("", "You will\nread  the attack.")
    assert html_pages.description(page(picture, boxed, first)) == "You will read the attack."
    assert html_pages.description(page(picture)) == ""


def test_a_long_description_ends_after_a_whole_word():
    long = nodes.paragraph("", "A server, " * 40)
    text = html_pages.description(page(long))
    assert 140 < len(text) <= 160
    assert text.endswith(("server…", "A…"))


def test_recorded_times_are_those_of_the_chapters_alone():
    times = html_pages.chapter_seconds()
    rows = json.loads((RUNS / "chapter_seconds_tiny.json").read_text())["rows"]
    longest = max(row["cpu_seconds"] for name, row in rows.items() if name[0] in "12345678")
    assert longest <= int(times["longest"]) < longest + 10
    assert int(times["median"]) <= int(times["longest"])


def test_minutes_of_reading_are_what_the_chapters_say(tmp_path):
    texts = {
        "10_a": "Reading takes ten\nminutes, running one.",
        "21_b": "Reading takes 25 minutes.",
    }
    texts |= {"96_c": "Reading takes 90 minutes.", "31_d": "Nothing."}
    for name, text in texts.items():
        notebook = new_notebook(cells=[new_markdown_cell(text)])
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
    assert html_pages.reading_minutes(tmp_path) == "10 to 25"


@pytest.mark.parametrize(
    ("written", "rendered"),
    [
        ("<dl>\n<dd>x</dd>\n<dd>y</dd>\n</dl>", '<dl role="none">\n<dd role="none">x</dd>\n'),
        ("<dl>\n<dt>x</dt><dd>y</dd>\n</dl>", "<dl>\n<dt>x</dt><dd>y</dd>"),
        ('<div role="list" class="citation-list">', "<div>"),
    ],
)
def test_what_is_no_list_is_not_called_one(written, rendered):
    context = {"script_files": [], "css_files": [], "metatags": "", "body": written}
    html_pages._complete(None, "page", "page.html", context, page(nodes.paragraph("", "Words.")))
    assert context["body"].startswith(rendered)
    assert context["metatags"] == '<meta name="description" content="Words.">\n'
