"""The exercises as a student opens them: papermill runs them, and each stub is told kindly.

A fifth of the notebooks run, others at each commit, and all where SPLITLAB_ALL is set (see
`rotation`). What a check says of a stub is tried for every exercise in `tests/checks`.
"""

from pathlib import Path

import papermill
import pytest
import rotation

from splitlab.course import editions, kernels, outputs, runner

ROOT = Path(__file__).parents[2]
MASTERS = editions.masters(ROOT)
PARTS = 5
TURN = rotation.share(MASTERS, PARTS)
rotation.chosen["exercises that run as they are handed out"] = [path.stem for path in TURN]


@pytest.fixture(scope="module", params=TURN, ids=lambda path: path.stem)
def attempted(request, tmp_path_factory):
    """(the exercises, the exercises notebook after a run of all its cells)."""
    master = request.param
    wanted = editions.exercises(runner.read(master), master.stem)
    source, target = ROOT / "exercises" / master.name, tmp_path_factory.mktemp("run") / master.name
    done = papermill.execute_notebook(
        source,
        target,
        cwd=str(source.parent),
        progress_bar=False,
        kernel_manager_class=kernels.Kernel,
    )
    outputs.settle(done)
    return wanted, done


def test_each_check_says_that_its_stub_is_not_written_yet(attempted):
    exercises, notebook = attempted
    for exercise, cell in zip(exercises, runner.code_cells(notebook, "check"), strict=True):
        (output,) = cell.outputs
        sentence = f"Not yet: {exercise.name} is not written yet; put your code at 'Your code here'"
        assert output.data["text/plain"].startswith(sentence)


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
