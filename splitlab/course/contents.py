"""The book's table of contents: its pages, and those of them that are run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from splitlab.course.notebook_files import one_line


class BookError(Exception):
    """A book that cannot be built; the message is one sentence."""


def toc_files(book: Path) -> list[str]:
    """The pages of the table of contents in order, as paths without ending from the root.

    Raises:
        BookError: If the table of contents is absent, cannot be read, or is empty.
    """

    def walk(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            for name in ("root", "file"):
                if name in node:
                    yield str(node[name])
            for name in ("parts", "chapters", "sections"):
                yield from walk(node.get(name))
        elif isinstance(node, list):
            for child in node:
                yield from walk(child)

    toc = book / "_toc.yml"
    if not toc.exists():
        raise BookError(f"There is no {toc}; --book must name the folder that holds _toc.yml.")
    try:
        files = list(walk(yaml.safe_load(toc.read_text(encoding="utf-8"))))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = one_line(str(error), 160)
        raise BookError(f"{toc} is not YAML that can be read ({reason}); correct it.") from None
    if not files:
        raise BookError(f"{toc} names no page; write the first one as `root: NAME`.")
    return files


def page_of(root: Path, file: str) -> Path:
    """The source of a page of the table of contents.

    Raises:
        BookError: If there is no such file.
    """
    for ending in (".ipynb", ".md", ""):
        path = root / f"{file}{ending}"
        if path.is_file():
            return path
    raise BookError(f"_toc.yml names {file!r}, but there is no {file}.ipynb or {file}.md.")


def chapters(book: Path) -> list[Path]:
    """The notebooks of the book's own folder, in the order of the table of contents."""
    pages = [page_of(book.parent, file) for file in toc_files(book)]
    return [page for page in pages if page.suffix == ".ipynb" and page.parent == book]


def notebooks(book: Path) -> list[Path]:
    """The notebooks that are run for the book: the chapters, and the solutions to the exercises.

    The exercises are pages, too, but they are shown as they are: their stubs would fail.
    """
    pages = [page_of(book.parent, file) for file in toc_files(book)]
    folders = (book, book.parent / "solutions")
    return [page for page in pages if page.suffix == ".ipynb" and page.parent in folders]
