import os
from pathlib import Path

import in_browser
import in_turn
import pytest

from splitlab.course import book

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The folder of a book's build, with warnings as errors; see `in_turn` for what runs."""
    if "PYTEST_XDIST_WORKER" in os.environ:  # two workers that both build it would cost minutes
        (tmp_path_factory.getbasetemp().parent / "one worker has the book").touch(exist_ok=False)
    out = tmp_path_factory.mktemp("built")
    assert in_turn.build(out) == 0, "the book does not build; the sentence above says why"
    return out / "_build"


@pytest.fixture(scope="module")
def browser():
    """Chromium, without its window."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="the Python package playwright is not installed"
    )
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=in_browser.CHROMIUM, args=in_browser.FLAGS
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def html(built):
    return built / "html"


@pytest.fixture(scope="session")
def pages(html):
    """The pages of the table of contents, by name."""
    return {file: html / f"{file}.html" for file in book.toc_files(ROOT / "book")}
