"""The notebooks as they are stored: they run, their verdicts are what they print, and no more.

The build of the book runs every notebook, and tests/book compares what the chapters print. Here
some run as a reader runs them, cell by cell without papermill: others at each commit, and all of
them where SPLITLAB_ALL is set (see `rotation`).
"""

import re
import statistics
import subprocess
import sys
from itertools import chain
from pathlib import Path

import nbformat
import pytest
import rotation
from every_notebook import CHECK, compared, nbval
from nbformat.v4 import new_code_cell, new_notebook, new_output

from splitlab.course import book, editions, runner

ROOT = Path(__file__).parents[2]
CHAPTERS = book.chapters(ROOT / "book")
MASTERS = editions.masters(ROOT)
PARTS = 20  # of two dozen notebooks one or two have their turn


def with_a_turn(number=None):
    """Return the notebooks that run: the folders apart, for a folder is one run of nbval."""
    chosen = rotation.share([*CHAPTERS, *MASTERS], PARTS, number)
    return [[path for path in paths if path in chosen] for paths in (CHAPTERS, MASTERS)]


TURN = [paths for paths in with_a_turn() if paths]
rotation.chosen["notebooks that nbval runs"] = [
    runner.name_of(path) for paths in TURN for path in paths
]


@pytest.fixture(params=CHAPTERS, ids=lambda path: path.stem)
def chapter(request):
    return runner.read(request.param)


def test_the_book_has_chapters():
    assert CHAPTERS


@pytest.mark.parametrize("paths", TURN, ids=lambda paths: paths[0].parent.name)
def test_notebooks_run_and_give_their_stored_verdicts(paths):
    result = nbval(*paths)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-1000:]


def test_every_notebook_has_its_turn_once_in_a_round():
    rounds = [list(chain(*with_a_turn(number))) for number in range(PARTS)]
    assert sorted(chain(*rounds)) == sorted([*CHAPTERS, *MASTERS])
    assert all(rounds)


def test_a_chapter_has_a_verdict_that_is_compared(chapter):
    cells = compared(chapter)
    assert len(cells) >= 1, "nothing to compare; run `make verdicts`"
    verdict = runner.code_cells(chapter, "verdict")[-1]
    assert verdict in cells
    assert runner.verdict_of(chapter)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_verdict_asserts_the_claims_that_the_page_makes(path):
    notebook, number = runner.read(path), path.stem.split("_")[0]
    claimed = any("claim" in runner.tags(cell) for cell in notebook.cells)
    verdict = runner.code_cells(notebook, "verdict")[-1]
    assert (f"claims.verify({number})" in verdict.source) == claimed


def test_no_other_output_is_stored(chapter):
    for cell in runner.code_cells(chapter):
        if cell.outputs:
            assert cell.execution_count, "nbval takes a cell without a count for one that never ran"
            assert CHECK in cell.source, cell.source
            assert {"verdict", "keep_output"} <= set(runner.tags(cell)), cell.source


def test_nbstripout_finds_nothing_to_strip():
    stored = [*CHAPTERS, *ROOT.glob("exercises/*.ipynb"), *ROOT.glob("solutions/*.ipynb")]
    result = subprocess.run(
        [sys.executable, "-m", "nbstripout", "--verify", "--keep-count", "--keep-id"]
        + [str(notebook) for notebook in stored],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_chapter_keeps_the_house_rules(chapter):
    assert set(runner.parameters_of(chapter, "the chapter")) == set(runner.PARAMETERS)
    cells = runner.code_cells(chapter)  # a class that a reader would write is shown as a whole
    lengths = [len(c.source.splitlines()) for c in cells if "own-class" not in runner.tags(c)]
    assert max(lengths) <= 15, "a cell of more than 15 lines belongs into the library"
    assert statistics.median(lengths) <= 6


def test_a_numbered_equation_is_one_line(chapter):
    """Sphinx makes several lines a split environment, in which MathJax refuses a number."""
    text = "\n".join(c.source for c in chapter.cells if c.cell_type == "markdown")
    for equation in re.findall(r"\$\$(.+?)\$\$", text, flags=re.S):
        assert not (r"\tag" in equation and r"\\" in equation), equation


def test_nbval_compares_marked_cells_only(tmp_path):
    cells = []
    for stored, marked in (
        ("It holds.\n", True),
        ("It does not.\n", True),
        ("It does not.\n", False),
    ):
        cell = new_code_cell(f"{CHECK if marked else '# -'}\nprint('It holds.')")
        cell.outputs, cell.execution_count = [new_output("stream", text=stored)], len(cells) + 1
        cells.append(cell)
    notebook = new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, tmp_path / "one.ipynb")
    result = nbval(tmp_path / "one.ipynb")
    assert result.returncode == 1, result.stdout
    assert "1 failed, 2 passed" in result.stdout
    assert "FAILED one.ipynb::Cell 1" in result.stdout
    assert compared(notebook) == cells[:2]
