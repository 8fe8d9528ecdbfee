"""What every rendered page gets beyond what jupyter-book gives it: a Sphinx extension.

`book/_config.yml` names it. It describes each page for search engines, leaves out a script that
loads code from outside, removes list roles from what is not a list, and offers recorded times to
pages that run no code.
"""

import json
import re
from html import escape
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any, Final

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxRole

from splitlab.course.notebook_files import read
from splitlab.course.record_files import SECONDS
from splitlab.course.records import RUNS

_LONGEST: Final = 160  # letters of a description; a search engine shows no more


class Recorded(SphinxRole):
    """How long the chapters take: {recorded}`reading` in minutes, `median` or `longest` seconds."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Return the number as text."""
        times = chapter_seconds() | {"reading": reading_minutes(Path(self.env.srcdir, "book"))}
        return [nodes.Text(times[self.text])], []


def reading_minutes(book: Path) -> str:
    """What the chapters say that reading them takes: the least and the most, as "10 to 25"."""
    minutes = []
    for chapter in sorted(book.glob("[1-8]*.ipynb")):
        text = " ".join(cell.source for cell in read(chapter).cells)
        if said := re.search(r"Reading takes\s+(\w+)\s+minutes", text):
            minutes.append({"ten": 10}.get(said[1]) or int(said[1]))
    return f"{min(minutes)} to {max(minutes)}"


def chapter_seconds() -> dict[str, str]:
    """The chapters' CPU seconds at profile `tiny`, rounded up to tens: the median, the longest."""
    table = (RUNS / f"{SECONDS}tiny.json").read_text(encoding="utf-8")
    rows = json.loads(table)["rows"]
    # Neither solutions nor appendices are chapters.
    seconds = [row["cpu_seconds"] for name, row in rows.items() if re.match(r"[1-8]\d_", name)]
    return {
        "median": f"{10 * ceil(median(seconds) / 10)}",
        "longest": f"{10 * ceil(max(seconds) / 10)}",
    }


def description(doctree: nodes.document) -> str:
    """The page's first paragraph of words, as far as whole words of it fit."""
    for paragraph in doctree.findall(nodes.paragraph):
        words = [node.astext() for node in paragraph if not isinstance(node, nodes.image)]
        text = " ".join("".join(words).split())
        if isinstance(paragraph.parent, nodes.section) and text:
            break
    else:
        return ""
    if len(text) <= _LONGEST:
        return text
    return text[: _LONGEST - 1].rsplit(" ", 1)[0].rstrip(",;:") + "…"


def _complete(
    app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: nodes.document
) -> None:
    del app, pagename, template
    # Live code from a service: the book has no button for it, and the script is declared twice.
    for files in ("script_files", "css_files"):
        context[files] = [file for file in context[files] if "thebe" not in _text(file)]
    if doctree is None:  # the search page, the index
        return
    if text := description(doctree):
        context["metatags"] += f'<meta name="description" content="{escape(text)}">\n'
    # A list holds items and nothing else, and a screen reader says so where that is not true: the
    # entries of a bibliography have a role of their own, and the lines of a signature no terms.
    body = context["body"].replace('<div role="list" class="citation-list">', "<div>")
    context["body"] = re.sub(r"<dl>\n<dd>.*?</dl>", _no_list, body, flags=re.DOTALL)


def _no_list(lines: re.Match[str]) -> str:
    return re.sub("<(dl|dd)>", r'<\1 role="none">', lines[0])


def _text(file: Any) -> str:
    return f"{getattr(file, 'filename', file)} {getattr(file, 'attributes', {}).get('body', '')}"


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls this."""
    app.add_role("recorded", Recorded())
    app.connect("html-page-context", _complete, priority=900)  # after the theme
    return {"parallel_read_safe": True, "parallel_write_safe": True}
