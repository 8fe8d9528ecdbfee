"""`make notebooks` turns red: on a book of one chapter and its solutions, spoiled in turn."""

import csv

import every_notebook
import nbformat
import pytest
from every_notebook import CHECK
from nbformat.v4 import new_code_cell, new_notebook, new_output

PARAMETERS = 'profile = "tiny"\nseed = 0\ndevice = "cpu"'
NAMES = ["10_one", "solutions/10_one"]


def verdict(source="print('It holds.')", stored="It holds.\n", mark=CHECK):
    """A verdict cell, with what it stores; stripped where that is nothing."""
    cell = new_code_cell(f"{mark}\n{source}", metadata={"tags": ["verdict", "keep_output"]})
    if stored:
        cell.outputs, cell.execution_count = [new_output("stream", text=stored)], 1
    return cell


def write(path, *cells):
    parameters = new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    notebook = new_notebook(cells=[parameters, *cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


@pytest.fixture
def book(tmp_path):
    folder = tmp_path / "book"
    write(folder / "10_one.ipynb", verdict())
    write(tmp_path / "solutions" / "10_one.ipynb", new_code_cell("1"))
    (folder / "intro.md").write_text("# A small book\n")
    (folder / "_toc.yml").write_text(
        "format: jb-book\nroot: book/intro\nchapters:\n"
        "  - file: book/10_one\n    sections:\n      - file: solutions/10_one\n"
    )
    return folder


def run(book, capfd):
    """Run the command on a book; return its exit status, what it counts, and its sentences."""
    status = every_notebook.main(["--book", str(book)])
    said = capfd.readouterr()
    counts = [line for line in said.out.splitlines() if line.startswith(("nbval c", "papermill"))]
    return status, counts, [e for e in said.err.splitlines() if e.startswith("error: ")]


def test_it_is_green_where_all_was_compared_and_executed(book, capfd):
    assert run(book, capfd) == (
        0,
        ["nbval compared 1 of 1 marked cells in 1 chapters", "papermill executed 2 of 2 notebooks"],
        [],
    )
    assert (book / "_build" / "batch" / "gallery.html").is_file()


def test_a_chapter_that_raises_turns_it_red(book, capfd):
    write(book / "10_one.ipynb", verdict("assert 1 > 2"))
    status, counts, errors = run(book, capfd)
    assert status == 1
    assert counts[1] == "papermill executed 1 of 2 notebooks"
    for sentence in (
        "error: nbval fails at 10_one.ipynb::Cell 1: its output above says why",
        "error: nbval compared 0 cells, and 1 are marked: it must compare all",
        "error: splitlab run ends with status 1: it says why above",
        "error: no job of 10_one is done in",
        "error: no executed copy of 10_one is in",
    ):
        assert any(error.startswith(sentence) for error in errors), errors


def test_another_verdict_than_the_stored_one_turns_it_red(book, capfd):
    chapters = [write(book / "10_one.ipynb", verdict(stored="It does not hold.\n"))]
    faults = every_notebook.faults_of_verdicts(chapters)
    assert faults == ["nbval fails at 10_one.ipynb::Cell 1: its output above says why"]
    assert "Cell outputs differ" in capfd.readouterr().err


def test_chapters_of_which_nothing_is_compared_turn_it_red(tmp_path):
    """nbval itself passes them all."""
    chapters = [
        write(tmp_path / "10_stripped.ipynb", verdict(stored="")),
        write(tmp_path / "11_unmarked.ipynb", verdict(mark="# -")),
        write(tmp_path / "12_skipped.ipynb", verdict(f"# NBVAL_SKIP\nprint()  # {CHECK}")),
    ]
    assert every_notebook.nbval(*chapters).returncode == 0
    assert every_notebook.faults_of_verdicts(chapters) == [
        "10_stripped stores no output for a marked cell: run `make verdicts`",
        f"11_unmarked has no cell with {CHECK}: mark its verdict with it",
        "nbval left out 1 cells: let it run every cell of a chapter",
        "nbval compared 0 cells, and 2 are marked: it must compare all",
    ]


def test_a_book_without_chapters_turns_it_red(book, capfd):
    assert every_notebook.faults_of_verdicts([]) == [
        "nbval compared 0 cells, and 0 are marked: it must compare all"
    ]
    (book / "_toc.yml").unlink()
    assert run(book, capfd)[0] == 1


@pytest.mark.parametrize("name", ["book/11_two.ipynb", "solutions/11_two.ipynb"])
def test_a_notebook_that_the_contents_lack_turns_it_red(book, name):
    assert every_notebook.faults_of_contents(book) == []
    write(book.parent / name)
    (fault,) = every_notebook.faults_of_contents(book)
    assert fault == f"{name} is not in book/_toc.yml: add it, or remove it"


@pytest.fixture
def out(book):
    """What a batch of the book leaves, without running it."""
    folder = book / "_build" / "batch"
    for name in NAMES:
        executed = write(folder / "notebooks" / name / "tiny, seed 0.ipynb", new_code_cell("1"))
        notebook = nbformat.read(executed, as_version=4)
        for number, cell in enumerate(notebook.cells):
            cell.execution_count = number + 1
        nbformat.write(notebook, executed)
    jobs(folder, *((name, "done") for name in NAMES))
    return folder


def jobs(folder, *rows):
    with (folder / "jobs.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("notebook", "status"), *rows])


def faults(book, out):
    notebooks = [book / "10_one.ipynb", book.parent / "solutions" / "10_one.ipynb"]
    return every_notebook.faults_of_results(notebooks, out)


def test_a_whole_batch_has_no_fault(book, out, capfd):
    assert faults(book, out) == []
    assert capfd.readouterr().out == "papermill executed 2 of 2 notebooks\n"


def test_a_job_that_is_missing_or_failed_turns_it_red(book, out):
    for rows in ([(NAMES[0], "done")], [(NAMES[0], "done"), (NAMES[1], "failed")]):
        jobs(out, *rows)
        assert faults(book, out) == [
            f"no job of solutions/10_one is done in {out / 'jobs.csv'}: see its log"
        ]
    (out / "jobs.csv").unlink()
    assert len(faults(book, out)) == 2


def test_a_copy_that_is_missing_or_was_not_executed_turns_it_red(book, out):
    copy = out / "notebooks" / "solutions" / "10_one" / "tiny, seed 0.ipynb"
    failed = copy.rename(copy.with_suffix(".failed.ipynb"))
    sentence = f"no executed copy of solutions/10_one is in {out / 'notebooks'}: see its log"
    assert faults(book, out) == [sentence]
    failed.unlink()
    write(copy, new_code_cell("1"))  # not executed
    assert faults(book, out) == [sentence]


def test_copies_of_an_earlier_batch_turn_it_red(book, out):
    there = out / "notebooks" / "10_one" / "tiny, seed 0.ipynb"
    there.with_name("tiny, seed 1.ipynb").write_bytes(there.read_bytes())
    (fault,) = faults(book, out)
    assert fault.endswith("notebooks: remove the folder and run this again")
