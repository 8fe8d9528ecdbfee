"""The chapters' claim cells: each claim and its badge, generated."""

from __future__ import annotations

import copy
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from splitlab.course.claims import FILE, ClaimError, Standing, pages

if TYPE_CHECKING:
    from nbformat import NotebookNode

TAG = "claim"

# Both fences of MyST, up to the line that closes the block.
_TYPED_CLAIM = re.compile(
    r"^(?P<fence>:{3,}|`{3,}) *\{admonition\} *The claims?\b.*?^(?P=fence) *$\n*", re.M | re.S
)
_TYPED_BADGE = re.compile(r"\bholds \d+/\d+", re.I)


def cell_text(standings: Sequence[Standing]) -> str:
    """Return the Markdown of a chapter's claim cell: each statement, and below it its badge."""
    items = []
    for standing in standings:
        statement = textwrap.fill(standing.claim.statement, 98, break_on_hyphens=False)
        rerun_it = f"rerun it with `splitlab claims {standing.claim.name}`"
        item = f"{statement}\n\n**{standing.badge}**; {rerun_it}"
        if len(standings) > 1:
            item = "- " + textwrap.indent(item, "  ").lstrip()
        items.append(item)
    body = "\n\n".join(items)
    return f":::{{admonition}} The claim\n:class: tip\n{body}\n:::"


def with_claim_cell(notebook: NotebookNode, chapter: str, text: str) -> NotebookNode:
    """Return a copy of a chapter whose claim cell, right after its title, is `text`.

    An admonition "The claim" that was typed by hand is taken out, and what stands below the title
    in its cell gets a cell of its own. Without a text, there is no claim cell and no other change.

    Args:
        notebook: The chapter.
        chapter: What its name begins with, such as "06" or "01b".
        text: The claim cell's Markdown, or "".

    Raises:
        ClaimError: If no cell begins with a title.
    """
    from nbformat.v4 import new_markdown_cell

    new = copy.deepcopy(notebook)
    new.cells = [cell for cell in new.cells if TAG not in cell.metadata.get("tags", [])]
    if not text:
        return new
    markdown = [cell for cell in new.cells if cell.cell_type == "markdown"]
    for cell in markdown:
        if _TYPED_CLAIM.search(cell.source):
            cell.source = _TYPED_CLAIM.sub("", cell.source).strip()
            if not cell.source:
                new.cells.remove(cell)
    title = next((cell for cell in markdown if cell.source.startswith("# ")), None)
    if title is None:
        raise ClaimError(
            f"chapter {chapter} has no title to put its claims under: begin a Markdown cell "
            "with `# ` and the title"
        )
    title.source, _, below = title.source.partition("\n")
    added = [new_markdown_cell(text, id=f"{chapter}-claim", metadata={"tags": [TAG]})]
    if below.strip():
        name = f"{chapter}-aims"
        taken = any(cell.get("id") == name for cell in new.cells)
        added.append(new_markdown_cell(below.strip(), **({} if taken else {"id": name})))
    at = new.cells.index(title) + 1
    new.cells[at:at] = added
    return new


def update_cells(book: Path, standings: Sequence[Standing], *, write: bool) -> list[str]:
    """Bring the chapters' claim cells up to date.

    Args:
        book: The folder of the chapters.
        standings: How all claims stand.
        write: False only says what is to be done.

    Returns:
        One sentence for each chapter that is not as it should be, and cannot be (or was not to be)
        made so.

    Raises:
        ClaimError: If a chapter cannot be read, or has no title.
    """
    try:
        import nbformat

        from splitlab.course import notebook_files
    except ModuleNotFoundError:
        raise ClaimError("claim cells are in notebooks: pip install 'splitlab[book]'") from None
    sentences = []
    for chapter, path in pages(book).items():
        own = [standing for standing in standings if standing.claim.chapter == chapter]
        try:
            before = nbformat.read(path, as_version=4)
        except Exception as error:  # nbformat raises half a dozen types for a broken file
            raise ClaimError(f"{path} cannot be read as a notebook: {error}") from None
        after = with_claim_cell(before, chapter, cell_text(own) if own else "")
        if nbformat.writes(before) != nbformat.writes(after):
            if write:
                notebook_files.write(after, path)
                print(f"wrote the claim cell of {path.stem}")
            else:
                sentences.append(
                    f"{path.stem}: its claim cell is not what {FILE} and the records say, or was "
                    "typed by hand; `make badges` writes it"
                )
        for cell in after.cells:
            if cell.cell_type != "markdown" or TAG in cell.metadata.get("tags", []):
                continue
            if _TYPED_CLAIM.search(cell.source) or _TYPED_BADGE.search(cell.source):
                sentences.append(
                    f"{path.stem}: cell {cell.id} contains a claim or a badge typed by hand; state "
                    f"the claim in {FILE}, and leave the badge to `make badges`"
                )
    return sentences
