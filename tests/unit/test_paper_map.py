"""The map of the paper: every row has a result, and what it says stands behind it is there."""

import re
from pathlib import Path

import pytest

import splitlab as sl

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "book" / "90_paper_map.md"
HEADER = ["In the paper", "Chapter", "Behind it", "Result"]
RESULTS = ("reproduced", "scaled", "later", "not here")


def rows_of(page):
    """Return the rows of all list-tables on a page, each as the texts of its cells."""
    rows = []
    for table in re.findall(r"```\{list-table\}\n(.*?)```", page, flags=re.DOTALL):
        for row in re.split(r"^\* - ", table, flags=re.MULTILINE)[1:]:
            cells = re.split(r"^  - ", row, flags=re.MULTILINE)
            rows.append([" ".join(cell.split()) for cell in cells])
    return rows


ROWS = rows_of(PAGE.read_text(encoding="utf-8"))
PIECES = [row for row in ROWS if row != HEADER]
each_piece = pytest.mark.parametrize("row", PIECES, ids=lambda row: row[0][:40])


def test_the_page_has_tables_with_the_same_header():
    assert ROWS.count(HEADER) >= 2
    assert len(PIECES) >= 15
    assert len({row[0] for row in PIECES}) == len(PIECES)


@each_piece
def test_a_piece_has_a_result_and_the_chapter_is_there(row):
    _, chapter, behind, result = row
    assert result.startswith(tuple(f"**{word}**" for word in RESULTS))
    pages = re.findall(r"\{doc\}`([^`]+)`", chapter)
    assert all((ROOT / "book" / f"{page}.ipynb").exists() for page in pages)
    if result.startswith(("**reproduced**", "**scaled**")):
        assert pages and "`" in behind


@each_piece
def test_what_stands_behind_a_piece_is_there(row):
    for name in re.findall(r"`([^`]+)`", row[2]):
        if name.startswith("tests/"):
            assert (ROOT / name).exists(), name
        else:
            table, kind = name.split("/", 1)
            assert sl.experiments.recorded(table).of(kind), name


def test_a_row_that_names_nothing_real_would_be_found():
    with pytest.raises(KeyError, match="no such kind"):
        test_what_stands_behind_a_piece_is_there(["", "", "`digits_tiny/no such kind`", ""])


def test_every_reference_is_cited_on_a_page():
    pages = [path.read_text(encoding="utf-8") for path in (ROOT / "book").glob("*_*.*")]
    cited = re.findall(r"\{cite\}`([^`]+)`", "".join(pages))
    references = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    assert set(re.findall(r"^@\w+\{(.+),$", references, flags=re.M)) == set(cited)
