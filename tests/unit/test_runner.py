"""The strict runner, on notebooks of a few lines that import nothing heavy."""

import os
from pathlib import Path

import nbformat
import pytest
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from splitlab.course import book, outputs, rendering, runner
from splitlab.course.runner import ChapterError

PARAMETERS_CELL = 'profile = "tiny"\nseed = 0\ndevice: str = "cpu"'


def code(source, *tags):
    return new_code_cell(source, metadata={"tags": list(tags)})


def write(path, *cells, parameters=PARAMETERS_CELL):
    notebook = new_notebook(cells=[new_markdown_cell("# A page"), *cells])
    if parameters is not None:
        notebook.cells.insert(1, code(parameters, "parameters"))
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


def run(chapter: Path, root: Path, **options):
    options.setdefault("parameters", {"profile": "tiny"})
    return runner.run(chapter, root / "out" / chapter.name, root=root, **options)


VERDICT = code("# NBVAL_CHECK_OUTPUT\nprint('noise\\n')\nprint('It holds.', seed)\n", "verdict")


def test_a_run_has_parameters_verdict_and_a_clean_complete_copy(tmp_path):
    chapter = write(tmp_path / "book" / "01_one.ipynb", code("assert profile == 'tiny'"), VERDICT)
    cells = []
    result = run(
        chapter,
        tmp_path,
        parameters={"profile": "tiny", "seed": 7},
        on_cell=lambda: cells.append(1),
    )
    assert (result.chapter, result.cached, result.verdict) == ("01_one", False, "It holds. 7")
    assert len(cells) == 4  # parameters, injected parameters, assert, verdict
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["01_one.ipynb"]
    executed = nbformat.read(tmp_path / "out" / "01_one.ipynb", as_version=4)
    (injected,) = runner.code_cells(executed, "injected-parameters")
    assert "remove-cell" in runner.tags(injected)
    assert str(tmp_path) not in nbformat.writes(executed)


def test_an_unchanged_chapter_is_not_run_again_and_a_changed_one_is(tmp_path):
    chapter = write(tmp_path / "book" / "01_one.ipynb", VERDICT)
    first = run(chapter, tmp_path)
    second = run(chapter, tmp_path)
    assert (first.cached, second.cached) == (False, True)
    assert second.verdict == first.verdict == "It holds. 0"
    assert not run(chapter, tmp_path, parameters={"profile": "tiny", "seed": 1}).cached


def test_the_key_follows_what_matters_and_nothing_else(tmp_path, monkeypatch):
    chapter = write(tmp_path / "book" / "01_one.ipynb", VERDICT)
    library = tmp_path / "library"
    library.mkdir()
    (library / "core.py").write_text("x = 1\n")
    monkeypatch.setattr(runner, "LIBRARY", library)
    monkeypatch.setenv("SPLITLAB_DATA", str(tmp_path / "data"))
    seen = []

    def changed(parameters=None):
        seen.append(runner.key(chapter, parameters or {"profile": "tiny"}, tmp_path))
        return len(seen) < 2 or seen[-1] != seen[-2]

    changed()
    assert not changed()

    notebook = nbformat.read(chapter, as_version=4)
    notebook.cells[-1].outputs = [nbformat.v4.new_output("stream", text="It holds.\n")]
    notebook.cells[-1].execution_count = 1
    nbformat.write(notebook, chapter)
    assert not changed(), "a stored output is not a cause of the run's outputs"
    notebook.cells[-1].source += "\n# more"
    nbformat.write(notebook, chapter)
    assert changed()

    (library / "core.py").write_text("x = 2\n")
    assert changed(), "the cache must not outlive the library that computed it"
    (tmp_path / "constraints.txt").write_text("numpy==2.0\n")
    assert changed()
    (library / "course" / "runs").mkdir(parents=True)
    (library / "course" / "runs" / "a.json").write_text("{}")
    assert changed()
    monkeypatch.setattr(runner, "version", lambda package: "0.0-other")
    assert changed()

    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert not changed(), "a kernel has one thread in any case"
    for name in ("ATEN_CPU_CAPABILITY", "PYTHONPATH"):
        monkeypatch.setenv(name, "/other")
        assert changed()

    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "images").write_bytes(b"1")
    assert not changed(), "`tiny` reads bundled data only"
    changed({"profile": "gpu"})
    (tmp_path / "data" / "images").write_bytes(b"12")
    assert changed({"profile": "gpu"})
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SPLITLAB_DATA", "~/data")
    assert not changed({"profile": "gpu"}), "it is the same folder"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPLITLAB_DATA", "data")
    assert not changed({"profile": "gpu"}), "it is still the same folder"


def test_an_unknown_parameter_is_refused_before_anything_runs(tmp_path):
    chapter = write(tmp_path / "book" / "01_one.ipynb", VERDICT)
    with pytest.raises(ChapterError, match="no parameter 'sede'; it has profile, seed, device"):
        run(chapter, tmp_path, parameters={"sede": 1})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("cells", "parameters", "message"),
    [
        ([], None, "has 0 code cells tagged 'parameters'"),
        ([code("seed = 1", "parameters")], PARAMETERS_CELL, "has 2 code cells tagged"),
        ([], "%matplotlib inline", "not plain Python"),
    ],
)
def test_a_chapter_needs_one_parameters_cell(tmp_path, cells, parameters, message):
    chapter = write(tmp_path / "book" / "01_one.ipynb", *cells, parameters=parameters)
    with pytest.raises(ChapterError, match=f"01_one.*{message}|{message}.*"):
        run(chapter, tmp_path)


def test_a_failing_cell_is_named(tmp_path):
    chapter = write(
        tmp_path / "book" / "01_one.ipynb",
        code("x = 1"),
        code("\nraise ValueError('the claim\\ndoes not hold.')"),
        code("x = 2"),
    )
    with pytest.raises(ChapterError) as caught:
        run(chapter, tmp_path)
    assert str(caught.value) == (
        "01_one, code cell 3 (`raise ValueError('the claim\\ndoes not hold.')`): "
        "ValueError: the claim does not hold."
    )
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["01_one.failed.ipynb"]


def test_a_failure_takes_the_stale_copy_away(tmp_path):
    chapter = write(tmp_path / "book" / "01_one.ipynb", code("x = 1"))
    run(chapter, tmp_path)
    write(chapter, code("1 / 0"))
    with pytest.raises(ChapterError, match="ZeroDivisionError"):
        run(chapter, tmp_path)
    assert not (tmp_path / "out" / "01_one.ipynb").exists()


def test_a_hanging_cell_is_named(tmp_path):
    # The first cell: on a busy machine, every other might be preceded by one that takes a second.
    sleeps = f"{PARAMETERS_CELL}\nimport time; time.sleep(600)"
    chapter = write(tmp_path / "book" / "01_one.ipynb", parameters=sleeps)
    with pytest.raises(ChapterError, match=r"01_one, code cell 1 .*took longer than 1 seconds"):
        run(chapter, tmp_path, timeout=1)


def test_a_dying_kernel_is_named(tmp_path):
    chapter = write(tmp_path / "book" / "01_one.ipynb", code("import os; os._exit(1)"))
    with pytest.raises(ChapterError, match=r"01_one, code cell 2 .*the kernel died"):
        run(chapter, tmp_path)


def test_the_kernel_has_one_thread_and_starts_beside_the_chapter(tmp_path):
    chapter = write(
        tmp_path / "book" / "01_one.ipynb",
        code("import os\nassert os.environ['OMP_NUM_THREADS'] == '1'\nprint(os.getcwd())"),
    )
    run(chapter, tmp_path)
    executed = nbformat.read(tmp_path / "out" / "01_one.ipynb", as_version=4)
    assert outputs.printed(executed.cells[-1]).strip() == str(tmp_path / "book")


def test_widget_state_survives(tmp_path):
    chapter = write(
        tmp_path / "book" / "01_one.ipynb",
        code("import ipywidgets\nipywidgets.IntSlider(description='seven', value=7)"),
    )
    run(chapter, tmp_path)
    executed = nbformat.read(tmp_path / "out" / "01_one.ipynb", as_version=4)
    state = executed.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    assert any(model["state"].get("description") == "seven" for model in state.values())


def test_store_verdict_keeps_the_verdict_and_nothing_else(tmp_path):
    chapter = write(tmp_path / "book" / "01_one.ipynb", code("print('noise')"), VERDICT)
    run(chapter, tmp_path)
    executed = tmp_path / "out" / chapter.name
    assert outputs.store_verdict(chapter, executed)
    assert not outputs.store_verdict(chapter, executed), "the second time nothing changes"
    stored = nbformat.read(chapter, as_version=4)
    assert [bool(cell.outputs) for cell in runner.code_cells(stored)] == [False, False, True]
    assert "It holds. 0" in outputs.printed(stored.cells[-1])
    write(chapter, code("x = 1", "verdict"))
    with pytest.raises(ChapterError, match="run it again"):
        outputs.store_verdict(chapter, executed)


@pytest.fixture
def tiny_book(tmp_path):
    """A book of two chapters whose second fails."""
    folder = tmp_path / "book"
    write(folder / "01_good.ipynb", VERDICT)
    write(folder / "02_bad.ipynb", code("1 / 0"))
    (folder / "intro.md").write_text("# Intro\n")
    (folder / "_toc.yml").write_text(
        "format: jb-book\nroot: book/intro\nparts:\n"
        "- caption: One\n  chapters:\n  - file: book/01_good\n"
        "    sections:\n    - file: book/02_bad\n"
    )
    return folder


def test_one_failing_chapter_turns_the_build_red_and_the_others_are_kept(tiny_book, capsys):
    assert book.main(["--book", str(tiny_book)]) == 1
    out, err = capsys.readouterr()
    assert "error: 02_bad, code cell 2 (`1 / 0`): ZeroDivisionError" in err
    rows = {line.split()[0]: line for line in out.splitlines() if line.startswith("0")}
    assert rows["01_good"].endswith("It holds. 0")
    assert rows["02_bad"].endswith("FAILED")
    assert (tiny_book / "_build" / "source" / "book" / "01_good.ipynb").exists()
    assert not (tiny_book / "_build" / "html").exists()


def test_chapters_are_run_in_the_order_of_the_contents(tiny_book):
    assert [path.stem for path in book.chapters(tiny_book)] == ["01_good", "02_bad"]


def test_a_missing_page_or_table_of_contents_is_one_sentence(tiny_book, capsys):
    (tiny_book / "02_bad.ipynb").unlink()
    assert book.main(["--book", str(tiny_book)]) == 1
    assert "_toc.yml names 'book/02_bad'" in capsys.readouterr().err
    assert book.main(["--book", str(tiny_book / "nowhere")]) == 1
    assert "--book must name the folder" in capsys.readouterr().err


def test_the_staged_tree_mirrors_the_repository_and_forgets_old_pages(tiny_book):
    source = tiny_book / "_build" / "source"
    for name in ("01_good", "02_bad", "99_gone"):
        write(source / "book" / f"{name}.ipynb")
    before = None
    for moment, text in enumerate(("# Intro\n", "# Intro\n", "# Another\n")):
        (tiny_book / "intro.md").write_text(text)
        rendering.stage(tiny_book, source)
        for path in source.rglob("*"):
            os.utime(path, (moment, moment))  # a hash of times, not of contents, would differ
        after = rendering.tree_hash(source)
        assert (after == before) == (before is not None and text == "# Intro\n")
        before = after
    names = sorted(path.name for path in (source / "book").iterdir())
    assert names == ["01_good.ipynb", "02_bad.ipynb", "_toc.yml", "intro.md"]


@pytest.mark.parametrize(
    ("profile", "has_gpu", "device"),
    [("tiny", True, "cpu"), ("gpu", True, "cuda"), ("gpu", False, "cpu")],
)
def test_a_big_profile_computes_on_the_gpu_that_is_there(
    tiny_book, monkeypatch, profile, has_gpu, device
):
    given, failed = [], runner.Result("01_good", 1.0, False, "", "stopped here")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr(
        book,
        "run_notebooks",
        lambda *arguments, parameters, **options: given.append(parameters) or [failed],
    )
    assert book.main(["--book", str(tiny_book), "--profile", profile]) == 1
    assert given == [{"profile": profile, "device": device}]
