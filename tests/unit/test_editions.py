"""Masters and the exercises made from them."""

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from splitlab.course import editions

ROOT = Path(__file__).parents[2]

CARD = """\
## 1. What crosses

★☆☆☆ · 5 minutes

**Why it matters.** Memory leaks.

**Task.** Write `deliver`."""
EXERCISE = '''\
def deliver(z):
    """Return a copy of z, of any shape."""
    ### BEGIN SOLUTION
    z = z.detach()
    return z.clone()
    ### END SOLUTION'''
HELP = """\
<details><summary>Hint 1</summary>

One.

</details>
<details><summary>Hint 2</summary>

Two.

</details>

**I am getting ...**

- "its computation graph": detach it."""


def cell(kind, source, tag, **metadata):
    make = new_markdown_cell if kind == "markdown" else new_code_cell
    made = make(source, metadata={"tags": [tag], **metadata})
    made["id"] = f"c-{tag}"
    return made


def master(**changed):
    texts = {"card": CARD, "exercise": EXERCISE, "check": "check.deliver(deliver)", "help": HELP}
    texts |= changed
    cells = [
        cell("markdown", "# Solutions: the wire", "title"),
        cell("markdown", "Unfold each solution.", "solutions-only"),
        cell("markdown", texts["card"], "card"),
        cell("code", texts["exercise"], "exercise"),
        cell("code", texts["check"], "check"),
        cell("markdown", texts["help"], "help"),
    ]
    cells[3].metadata.tags.append("hide-input")
    cells[4].outputs, cells[4].execution_count = [], 3
    return new_notebook(cells=cells)


def test_an_exercise_is_read_off_its_four_cells():
    (exercise,) = editions.exercises(master(), "m")
    assert (exercise.name, exercise.title) == ("deliver", "What crosses")
    assert (exercise.stars, exercise.minutes) == (1, 5)
    assert exercise.keys == ("its computation graph",)


def test_the_edition_has_stubs_and_no_solutions():
    made = editions.edition(master(), "m")
    by_tag = {cell.metadata.tags[0]: cell for cell in made.cells}
    assert by_tag["title"].source == "# Exercises: the wire"
    assert "solutions-only" not in by_tag
    assert by_tag["exercise"].source == (
        'def deliver(z):\n    """Return a copy of z, of any shape."""\n'
        "    # Your code here, instead of the next line.\n"
        '    raise NotImplementedError("deliver is not written yet")'
    )
    assert by_tag["exercise"].metadata.tags == ["exercise"]
    assert by_tag["check"].metadata.tags == ["check"]
    assert by_tag["check"].execution_count is None
    assert (by_tag["card"].source, by_tag["help"].source) == (CARD, HELP)


def test_the_master_is_left_as_it_is():
    one = master()
    before = nbformat.writes(one)
    editions.edition(one, "m")
    assert nbformat.writes(one) == before


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"card": CARD.replace("## 1", "## 2")}, "does not carry the number 1"),
        ({"card": CARD.replace("★☆☆☆", "★☆☆")}, "needs 4 stars"),
        ({"card": CARD.replace("**Why it matters.**", "Why:")}, "its card must read"),
        ({"card": CARD.replace("5 minutes", "quick")}, "its card must read"),
        ({"exercise": "x = 1"}, "must hold one function"),
        (
            {"exercise": EXERCISE.replace('"""Return a copy of z, of any shape."""', "pass")},
            "docstring",
        ),
        ({"exercise": EXERCISE.replace("### END SOLUTION", "")}, "one pair of BEGIN SOLUTION"),
        ({"exercise": EXERCISE.replace("return z", "return return")}, "is not Python"),
        ({"check": "check.deliver()"}, "must call check.deliver(deliver)"),
        ({"help": HELP.replace("Hint 2", "A hint")}, "two hints"),
        ({"help": HELP.split("**I am")[0]}, "items that begin with a part of a message"),
    ],
)
def test_a_master_that_is_not_as_it_should_be(changed, sentence):
    with pytest.raises(editions.EditionError, match="m, exercise 1") as caught:
        editions.edition(master(**changed), "m")
    assert sentence in str(caught.value)


def test_cells_out_of_order_and_no_cells():
    one = master()
    one.cells[4], one.cells[5] = one.cells[5], one.cells[4]
    with pytest.raises(editions.EditionError, match="card, exercise, help, check"):
        editions.exercises(one, "m")
    with pytest.raises(editions.EditionError, match="no exercise"):
        editions.exercises(new_notebook(), "m")


def test_a_master_needs_its_title():
    one = master()
    one.cells[0].source = "# The wire"
    with pytest.raises(editions.EditionError, match="one heading"):
        editions.edition(one, "m")


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "solutions").mkdir()
    nbformat.write(master(), tmp_path / "solutions" / "01_wire.ipynb")
    return tmp_path


def test_what_is_made_is_what_is_checked(repository, capsys):
    here = ["--root", str(repository)]
    assert editions.main([*here, "--check"]) == 1
    assert "exercises/01_wire.ipynb differs from what its master gives" in capsys.readouterr().err
    assert editions.main(here) == 0
    path = repository / "exercises" / "01_wire.ipynb"
    first = path.read_bytes()
    assert editions.main(here) == 0
    assert path.read_bytes() == first, "the same master gives the same bytes"
    assert editions.main([*here, "--check"]) == 0
    path.write_text(path.read_text().replace("Your code", "My code"))
    assert editions.main([*here, "--check"]) == 1


def test_an_exercise_without_a_master_is_found(repository, capsys):
    editions.main(["--root", str(repository)])
    (repository / "exercises" / "02_old.ipynb").write_text("{}")
    assert editions.main(["--root", str(repository), "--check"]) == 1
    assert "02_old.ipynb has no master" in capsys.readouterr().err


def test_a_broken_master_is_one_sentence(repository, capsys):
    nbformat.write(master(exercise="x = 1"), repository / "solutions" / "01_wire.ipynb")
    assert editions.main(["--root", str(repository)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_the_committed_exercises_are_what_the_masters_give():
    assert list(editions.differences(ROOT)) == []
