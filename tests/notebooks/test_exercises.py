"""The exercises as a student opens them: they fail at the stubs alone, and in a friendly way.

A third of the notebooks run, others at each commit, and all where SPLITLAB_ALL is set (see
`rotation`). What a check says of a stub is tried for every exercise in `tests/checks`.
"""

import os
from pathlib import Path

import nbformat
import pytest
import rotation
from nbclient import NotebookClient

from splitlab.course import editions, runner

ROOT = Path(__file__).parents[2]
MASTERS = editions.masters(ROOT)
PARTS = 3
TURN = rotation.share(MASTERS, PARTS)
rotation.chosen["exercises that run as they are handed out"] = [path.stem for path in TURN]


def run(path):
    notebook = nbformat.read(path, as_version=4)
    for cell in runner.code_cells(notebook):  # every error is to be seen, not only those foreseen
        cell.metadata.tags = [tag for tag in runner.tags(cell) if tag != "raises-exception"]
    resources = {"metadata": {"path": str(path.parent)}}
    return NotebookClient(
        notebook,
        timeout=120,
        allow_errors=True,
        resources=resources,
        extra_arguments=["--log-level=ERROR"],
    ).execute()


@pytest.fixture(scope="module", params=TURN, ids=lambda path: path.stem)
def attempted(request):
    """(the exercises, the exercises notebook after a run of all its cells)."""
    os.environ.update(runner.ONE_THREAD)
    master = request.param
    wanted = editions.exercises(runner.read(master), master.stem)
    return wanted, run(ROOT / "exercises" / master.name)


def errors(cell):
    return [output for output in cell.outputs if output.output_type == "error"]


def test_only_the_checks_of_the_stubs_fail(attempted):
    exercises, notebook = attempted
    failing = [cell for cell in runner.code_cells(notebook) if errors(cell)]
    assert [runner.tags(cell)[0] for cell in failing] == ["check"] * len(exercises)


def test_each_stub_says_what_to_do_without_a_traceback(attempted):
    exercises, notebook = attempted
    for exercise, cell in zip(exercises, runner.code_cells(notebook, "check"), strict=True):
        (error,) = errors(cell)
        assert error.ename == "NotWrittenYet"
        sentence = f"{exercise.name} is not written yet; put your code where it says so"
        assert error.evalue.startswith(sentence)
        assert len(error.traceback) == 1
        assert sentence in error.traceback[0]


@pytest.mark.parametrize("master", MASTERS, ids=lambda path: path.stem)
def test_the_chapter_lists_its_exercises_by_their_titles(master):
    chapter = runner.read(ROOT / "book" / master.name)
    (section,) = [cell.source for cell in chapter.cells if "## Exercises\n" in cell.source]
    titles = [e.title for e in editions.exercises(runner.read(master), master.stem)]
    positions = [section.find(f"- **{title}**") for title in titles]
    assert -1 not in positions, f"the chapter does not list {titles[positions.index(-1)]!r}"
    assert positions == sorted(positions)


def test_there_are_exercises():
    assert len(MASTERS) >= PARTS
