"""The rendered pages as files: where links lead, what downloads give, how large a page is."""

import functools
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from splitlab.course import book, contents

ROOT = Path(__file__).parents[2]
PAGES = book.toc_files(ROOT / "book")
LARGEST = 1_000_000  # bytes of a page


class Page(HTMLParser):
    """What a page links to, what can be linked to in it, and what its head says of it."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors, self.head, self.downloads = [], {"", "top"}, [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.anchors.add(values.get("id") or values.get("name") or "")
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if "download-source-button" in (values.get("class") or ""):
            self.downloads.append(values["href"])
        if tag in ("meta", "link"):
            self.head.append(values)


@functools.cache
def parsed(path):
    return Page(path)


def broken(path, links):
    """Those of a page's links inside the book that lead to no file, or to no place in it."""
    found = []
    for link in links:
        to = urlsplit(link)
        if to.scheme or to.netloc:
            continue
        target = (path.parent / unquote(to.path)).resolve() if to.path else path
        missing = not target.is_file()
        if missing or (
            target.suffix == ".html" and unquote(to.fragment) not in parsed(target).anchors
        ):
            found.append(link)
    return found


@pytest.mark.parametrize("name", [*PAGES, "index"])
def test_every_link_inside_the_book_leads_somewhere(name, html):
    path = html / f"{name}.html"
    links = parsed(path).links
    assert len(links) > 20 or name == "index"
    assert broken(path, links) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path):
    path = tmp_path / "page.html"
    (tmp_path / "other.html").write_text('<p id="here">')
    path.write_text("<h1 id=top>")
    links = ["other.html#here", "#top", "https://a.example/x"]
    assert broken(path, [*links, "gone.html", "other.html#gone", "#gone", "a.ipynb"]) == [
        "gone.html",
        "other.html#gone",
        "#gone",
        "a.ipynb",
    ]


@pytest.mark.parametrize("name", PAGES)
def test_the_download_button_gives_the_page_s_own_source(name, pages):
    source = contents.page_of(ROOT, name)
    (link,) = parsed(pages[name]).downloads
    given = (pages[name].parent / unquote(link)).resolve()
    assert given.name == source.name
    assert given.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_at_most_one_megabyte(name, pages):
    assert pages[name].stat().st_size <= LARGEST


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_what_it_is_about_and_has_an_icon(name, pages):
    head = parsed(pages[name]).head
    (description,) = [one["content"] for one in head if one.get("name") == "description"]
    assert 40 <= len(description) <= 160
    (icon,) = [one["href"] for one in head if one.get("rel") == "icon"]
    assert (pages[name].parent / icon).resolve().is_file()
