"""The book's builder on a bad day: a strange environment, a full disk, a broken notebook, Ctrl-C.

Most tests build from executed copies that are written here, so that they start no kernel.
"""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import nbformat
import papermill.engines
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from splitlab.core import files
from splitlab.course import (
    book,
    editions,
    execution,
    kernels,
    notebook_files,
    outputs,
    rendering,
    runner,
)
from splitlab.course.comparisons import Comparison
from splitlab.course.locks import only_one
from splitlab.course.runner import ChapterError

PARAMETERS = {"profile": "tiny", "device": "cpu"}
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def stream(text, name="stdout"):
    return new_output("stream", name=name, text=text)


def cell(source, *tags, shows=()):
    return new_code_cell(source, metadata={"tags": list(tags)}, outputs=list(shows))


def write(path, *cells):
    parameters = cell('profile = "tiny"\nseed = 0\ndevice = "cpu"', "parameters")
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=[parameters, *cells]), path)
    return path


def run(root, *cells, **options):
    """Run a chapter of these cells; return the result and the executed copy."""
    chapter, out = write(root / "book" / "01_one.ipynb", *cells), root / "out" / "01_one.ipynb"
    result = runner.run(chapter, out, parameters=PARAMETERS, root=root, **options)
    return result, nbformat.read(out, as_version=4)


def contents(folder, *stems):
    """Write the table of contents of a book with an intro and these chapters."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "intro.md").write_text("# Intro\n")
    listed = "".join(f"- file: book/{stem}\n" for stem in stems)
    (folder / "_toc.yml").write_text(f"format: jb-book\nroot: book/intro\nchapters:\n{listed}")


def store_copy(chapter, *pieces):
    """Write the copy of a chapter as if it had run, and its last cell had printed the pieces."""
    executed = runner.read(chapter)
    executed.cells[-1].outputs = [stream(piece) for piece in pieces]
    key = runner.key(chapter, PARAMETERS, chapter.parents[1])
    executed.metadata["splitlab"] = {"key": key, "seconds": 0.1}
    copy = chapter.parent / "_build" / "source" / "book" / chapter.name
    copy.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(executed, copy)
    return copy


@pytest.fixture
def folder(tmp_path):
    """A book of two chapters, one of which stores its verdict; both have run."""
    folder = tmp_path / "book"
    contents(folder, "01_one", "02_two")
    for stem, stored in (("01_one", [stream("It holds.\n")]), ("02_two", [])):
        store_copy(write(folder / f"{stem}.ipynb", cell("1", "verdict", shows=stored)), "It holds.")
    return folder


SPHINX = """
import sys
from pathlib import Path

def main():
    if {fails!r}:
        sys.exit({fails!r})
    print("writing output")
    out = Path(sys.argv[sys.argv.index("--path-output") + 1], "_build", "html", "book")
    out.mkdir(parents=True)
    for page in ("../index", "intro", "01_one", "02_two"):
        (out / f"{{page}}.html").write_text("a page")
"""


@pytest.fixture
def sphinx(tmp_path, monkeypatch):
    """Replace what renders by something that writes empty pages, or fails with a message."""

    def becomes(fails=""):
        path = tmp_path / "elsewhere" / "jupyter_book" / "cli" / "main.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        for package in path.parents[:2]:
            (package / "__init__.py").touch()
        path.write_text(SPHINX.format(fails=fails))
        monkeypatch.chdir(tmp_path / "elsewhere")  # where `python -c` looks first

    becomes()
    return becomes


def build(folder, *options):
    return book.main(["--book", str(folder), "--jobs", "1", *options])


def only_sentence(capsys):
    """The one line on stderr."""
    (line,) = capsys.readouterr().err.splitlines()
    assert len(line) < 400
    return line


# What the kernels run, and what they see of the machine


FACTS = """
import importlib.util, json, os, sys
facts = {name: os.environ.get(name) for name in ("SPLITLAB_DATA", "SPLITLAB_CACHE")}
facts |= {"asserts": __debug__, "python": sys.executable, "started": "started" in globals()}
facts |= {"library": importlib.util.find_spec("splitlab").origin}
facts |= {"figures": os.environ["MPLBACKEND"]}
print(json.dumps(facts))
"""


def test_a_kernel_is_this_interpreter_with_this_library_on_any_machine(tmp_path, monkeypatch):
    other = tmp_path / "other"
    (other / "splitlab").mkdir(parents=True)
    (other / "splitlab" / "__init__.py").write_text("")
    spec = tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec.write_text(
        json.dumps({"argv": command, "display_name": "x", "env": {"PYTHONPATH": str(other)}})
    )
    start = tmp_path / "home" / ".ipython" / "profile_default" / "startup" / "start.py"
    start.parent.mkdir(parents=True)
    start.write_text("started = True\n")
    for name, value in {
        "HOME": str(tmp_path / "home"),
        "IPYTHONDIR": str(tmp_path / "home" / ".ipython"),
        "JUPYTER_PATH": str(tmp_path / "jupyter"),
        "PYTHONSTARTUP": str(start),
        "PYTHONPATH": "other",  # as it is named here, and not in the notebook's folder
        "PYTHONOPTIMIZE": "1",
        "MPLBACKEND": "agg",
        "SPLITLAB_DATA": "~/data",
        "SPLITLAB_CACHE": "cache",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    _, executed = run(tmp_path, cell(FACTS))
    facts = json.loads(outputs.printed(executed.cells[-1]))
    assert "inline" in facts.pop("figures")
    assert facts == {
        "SPLITLAB_DATA": str(tmp_path / "home" / "data"),
        "SPLITLAB_CACHE": str(tmp_path / "cache"),
        "asserts": True,
        "python": sys.executable,
        "started": False,
        "library": str(kernels.LIBRARY / "__init__.py"),
    }
    path = kernels.environment()["PYTHONPATH"].split(os.pathsep)
    assert path == [str(kernels.LIBRARY.parent), str(other)]


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ([sys.executable, "-c", "1"], "did not run, because its kernel did not start"),
        (["/nowhere/python"], "did not run: No such file or directory"),
    ],
)
def test_a_kernel_that_does_not_start_is_one_sentence(tmp_path, monkeypatch, capfd, command, says):
    spec = kernels.KernelSpec(argv=command, language="python")
    monkeypatch.setattr(kernels.Kernel, "kernel_spec", property(lambda self: spec))
    with pytest.raises(ChapterError, match=f"^01_one {says}"):
        run(tmp_path, cell("1"))
    assert "Traceback" not in capfd.readouterr().err
    assert not kernels._running


# What is said of a verdict


def test_a_failing_verdict_quotes_the_line_that_failed(tmp_path):
    source = "# The claim.\n\nfound = 0\nassert (\n    found  # of 3\n    == 3\n), 'too few'\n"
    with pytest.raises(ChapterError) as caught:
        run(tmp_path, cell(source, "verdict"))
    assert str(caught.value) == (
        "01_one, code cell 2 (`assert found == 3, 'too few'`): AssertionError: too few."
    )


def test_without_a_line_the_first_one_that_is_code_is_quoted():
    assert execution.quoted("# A comment.\n\n%time\nx = 1", None) == "%time"
    assert execution.quoted("%time\nx = 1\n", 2) == "x = 1"
    assert execution.quoted("for x in y:\n    f(\n        x)", 1) == "for x in y"


def test_another_verdict_than_the_stored_one_turns_the_build_red(folder, sphinx, capsys):
    store_copy(folder / "01_one.ipynb", "It does ", "not.\n")
    assert build(folder) == 1
    out, err = capsys.readouterr()
    assert (
        "error: 01_one: its verdict is now `It does not.`, and the chapter stores `It holds.`; "
        "correct the chapter, or, if the new verdict is right, store it with `make verdicts`.\n"
    ) in err
    assert "tracebacks" not in err, "there are none"
    assert "01_one   0.1 (cached)  FAILED" in out
    assert "02_two   0.1 (cached)  It holds." in out, "it stores no verdict, and is not red"
    assert build(folder, "--store-verdicts") == 0
    assert "stored the verdict of 01_one" in capsys.readouterr().out
    assert build(folder) == 0


def test_only_what_tiny_prints_is_compared_and_stored(folder, sphinx, monkeypatch, capsys):
    store_copy(folder / "01_one.ipynb", "It does not.")
    results = [runner.Result("01_one", 0.1, True, "It does not.")]
    monkeypatch.setattr(book, "run_notebooks", lambda *arguments, **options: results)
    assert build(folder, "--profile", "gpu") == 0
    assert build(folder) == 1
    with pytest.raises(SystemExit) as caught:
        build(folder, "--profile", "gpu", "--store-verdicts")
    assert caught.value.code == 2
    assert "--store-verdicts needs --profile tiny" in capsys.readouterr().err


# What is printed in pieces, and what is printed on stderr


def test_pieces_are_joined_and_stderr_leaves_the_page():
    shown = new_output("display_data", data={"text/plain": "a figure"})
    notebook = new_notebook(
        cells=[
            cell(
                "1",
                shows=[
                    stream("It "),
                    stream("/a/b.py:3: UserWarning: wa", "stderr"),
                    stream("holds.\n"),
                    stream("tch out\n\r 50%|#  |\r100%|###|\n", "stderr"),
                    shown,
                    stream("More.\n"),
                ],
            ),
            cell("2", shows=[stream("tch out", "stderr")]),
        ]
    )
    assert outputs.settle(notebook) == ("/a/b.py:3: UserWarning: watch out", "tch out")
    assert notebook.cells[0].outputs == [stream("It holds.\n"), shown, stream("More.\n")]
    assert notebook.cells[1].outputs == []
    assert outputs.settle(notebook) == ()


def test_a_warning_is_for_the_author_and_not_for_the_page(tmp_path, sphinx, capsys):
    source = (
        "import sys, warnings\n"
        "print('It ', flush=True, end='')\nprint('[W] a slow machine', file=sys.stderr)\n"
        "warnings.warn('mind the gap')\nprint('holds.')"
    )
    folder = tmp_path / "book"
    contents(folder, "01_one")
    write(folder / "01_one.ipynb", cell(source, "verdict"))
    for text in ("It holds.", "(cached)"):
        assert build(folder) == 0
        out, err = capsys.readouterr()
        assert text in out
        assert "%|" not in err, "there is no terminal for a progress bar"
        said = "01_one printed a warning, which its page leaves out:\n  [W] a slow machine\n"
        assert (said in err and "UserWarning: mind the gap" in err) == (text == "It holds.")
    executed = nbformat.read(folder / "_build" / "source" / "book" / "01_one.ipynb", as_version=4)
    assert executed.cells[-1].outputs == [stream("It holds.\n")]


# A broken notebook, a broken table of contents


def test_a_broken_notebook_does_not_hide_the_others(folder, capsys):
    contents(folder, "00_torn", "01_one", "02_two", "03_bare")
    (folder / "00_torn.ipynb").write_text('{"cells": [')
    nbformat.write(new_notebook(), folder / "03_bare.ipynb")
    assert build(folder) == 1
    out, err = capsys.readouterr()
    assert [line.split()[-1] for line in out.splitlines()[2:]] == [
        "FAILED",
        "holds.",
        "holds.",
        "FAILED",
    ]
    assert "00_torn.ipynb is not a notebook that can be read" in err
    assert "03_bare has 0 code cells tagged 'parameters'" in err
    assert err.count("error: ") == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [(b"root: [", "is not YAML"), (b"\xff", "is not YAML"), (b"format: jb-book", "names no page")],
)
def test_a_broken_table_of_contents_is_one_sentence(folder, capsys, text, says):
    (folder / "_toc.yml").write_bytes(text)
    assert build(folder) == 1
    assert says in only_sentence(capsys)


# A disk that takes nothing more


def fail(*arguments, **options):
    raise FULL


def fails_after(calls, function):
    """The function, which fails when it has been called so many times."""
    left = iter(range(calls))

    def limited(*arguments, **options):
        if next(left, None) is None:
            raise FULL
        return function(*arguments, **options)

    return limited


@pytest.mark.parametrize(
    ("where", "name", "calls"),
    [
        (runner.tempfile, "mkstemp", 0),
        (papermill.engines, "write_ipynb", 0),
        (papermill.engines, "write_ipynb", 4),
        (nbformat, "write", 0),
        (runner.os, "replace", 0),
        (kernels.tempfile, "TemporaryDirectory", 0),
    ],
)
def test_a_full_disk_fails_the_chapter_in_one_sentence(tmp_path, monkeypatch, where, name, calls):
    chapter, out = (
        write(tmp_path / "book" / "01_one.ipynb", cell("1")),
        tmp_path / "out" / "a.ipynb",
    )
    monkeypatch.setattr(where, name, fails_after(calls, getattr(where, name)))
    with pytest.raises(ChapterError) as caught:
        runner.run(chapter, out, parameters=PARAMETERS, root=tmp_path)
    assert str(caught.value) == (
        f"01_one did not run: No space left on device ({out.parent}): "
        "free some space, and try again."
    )
    assert not list(out.parent.glob("*")), "half a copy would be taken for one"
    assert not kernels._running


@pytest.mark.parametrize(
    ("where", "name"),
    [(rendering.shutil, "copyfile"), (rendering.shutil, "copytree"), (Path, "write_text")],
)
def test_a_full_disk_stops_the_rendering_in_one_sentence(
    folder, sphinx, monkeypatch, capsys, where, name
):
    (folder / "_vendor").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(where, name, fail)
        assert build(folder) == 1
    says = f"error: The book was not built: No space left on device ({folder}): free some space"
    assert says in only_sentence(capsys)
    assert build(folder) == 0, "nothing is lost"


def test_a_full_disk_while_sphinx_writes_is_one_sentence(folder, sphinx, capsys):
    sphinx(fails="OSError: [Errno 28] No space left on device: 'page.html'")
    assert build(folder) == 1
    assert "The pages were not rendered: No space left on device" in only_sentence(capsys)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_log_on_a_full_disk_is_one_sentence(folder, sphinx, capsys):
    (folder / "_build" / "render.log").symlink_to("/dev/full")
    assert build(folder) == 1
    assert "No space left on device" in only_sentence(capsys)


def test_a_full_disk_leaves_the_chapter_that_gets_its_verdict_as_it_was(
    folder, monkeypatch, capsys
):
    store_copy(folder / "01_one.ipynb", "It does not.")
    before = (folder / "01_one.ipynb").read_bytes()
    monkeypatch.setattr(files.os, "fsync", fail)
    assert build(folder, "--store-verdicts") == 1
    assert "No space left on device" in only_sentence(capsys)
    assert (folder / "01_one.ipynb").read_bytes() == before
    assert not list(folder.glob(".*"))


def test_a_full_disk_leaves_the_exercises_as_they_were(tmp_path, monkeypatch, capsys):
    root = Path(book.__file__).parents[2]
    master = min((root / "solutions").glob("*.ipynb"), key=lambda path: path.stat().st_size)
    for folder in ("solutions", "exercises"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / master.name).write_bytes(master.read_bytes())
    monkeypatch.setattr(files.os, "fsync", fail)
    assert editions.main(["--root", str(tmp_path)]) == 1
    says = "The exercises were not written: No space left on device"
    assert says in only_sentence(capsys)
    assert (tmp_path / "exercises" / master.name).read_bytes() == master.read_bytes()


def test_an_output_folder_that_is_none_is_one_sentence(folder, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert build(folder, "--out", str(tmp_path / "file")) == 1
    says = f"Not a directory ({tmp_path / 'file' / '_build'}): fix that, and try again."
    assert says in only_sentence(capsys)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_folder_that_is_read_only_asks_for_another_one(number):
    error = OSError(number, os.strerror(number), "/book/_build")
    sentence = notebook_files.storage_fault(error, Path("/book"))
    assert "(/book/_build): make it writable, or use another folder, and try again." in sentence


# Two builds, and builds that are stopped


def test_two_builds_do_not_share_a_folder(folder, sphinx, tmp_path, capsys):
    with only_one(folder / "_build" / "build.lock", AssertionError()):
        assert build(folder) == 1
        sentence = only_sentence(capsys)
        assert f"Another build is running in {folder / '_build'}: wait until it ends" in sentence
        shutil.copytree(folder / "_build" / "source", tmp_path / "out" / "_build" / "source")
        assert build(folder, "--out", str(tmp_path / "out")) == 0
    assert build(folder) == 0


def test_a_build_that_was_killed_holds_no_lock(folder):
    lock = folder / "_build" / "build.lock"
    script = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from splitlab.course.locks import only_one\n"
        "with only_one(Path(sys.argv[1]), AssertionError()):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run(
        [sys.executable, "-c", script, lock], env=kernels.environment(), check=False
    )
    assert killed.returncode == -signal.SIGKILL
    with only_one(lock, AssertionError()):
        pass


WAITS = """
import os, time
from pathlib import Path
while not Path("_build/source/book/01_one.ipynb").exists():
    time.sleep(0.05)
Path("pid.part").write_text(str(os.getpid()))
os.rename("pid.part", "pid")
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_build_that_is_stopped_keeps_what_is_done_and_leaves_no_kernel(tmp_path, number):
    folder, pid = tmp_path / "book", tmp_path / "book" / "pid"
    contents(folder, "01_one", "02_two")
    write(folder / "01_one.ipynb", cell("print('It holds.')", "verdict"))
    write(folder / "02_two.ipynb", cell(WAITS))
    builder = subprocess.Popen(
        [sys.executable, "-m", "splitlab.course.book", "--book", folder, "--jobs", "2"],
        env=kernels.environment(),
        stderr=subprocess.PIPE,
        text=True,
        # A job in the background of a script ignores Ctrl-C, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        while not pid.exists():
            assert builder.poll() is None, builder.communicate()[1]
            time.sleep(0.05)
        builder.send_signal(number)
        _, err = builder.communicate(timeout=300)
    finally:
        builder.kill()
    assert builder.returncode == 128 + number
    assert err.endswith("\nstopped; finished chapters are kept\n")
    assert "Traceback" not in err
    assert gone(int(pid.read_text()))
    kept = outputs.verdict_of(runner.read(folder / "_build" / "source" / "book" / "01_one.ipynb"))
    assert kept == "It holds."


# What a run measures, and what it writes of itself


CLAIM = """
import sys
print("mind the gap", file=sys.stderr)
found, limit = 0.3, 0.5
assert found <= 0.4
assert found >= limit, "too few"
assert seed == 0
last = 1
assert last < found
"""


def test_a_failed_run_can_be_read_again_with_all_that_it_measured(tmp_path):
    after = cell("print('after')")
    log = tmp_path / "logs" / "a.log"
    with pytest.raises(ChapterError) as caught:
        run(tmp_path, cell(CLAIM, "verdict"), after, environment={"WHICH_GPU": "1"}, log=log)
    chapter, out = tmp_path / "book" / "01_one.ipynb", tmp_path / "out" / "01_one.ipynb"
    sentence = '01_one, code cell 2 (`assert found >= limit, "too few"`): AssertionError: too few.'
    result = runner.result_of(chapter, out)
    assert str(caught.value) == result.error == sentence
    assert result.cached and not result.verdict
    assert result.seconds > result.cpu_seconds > 0
    assert 20e6 < result.memory < 1e9
    # `last` would have been bound after the line that failed.
    assert result.figures == (
        Comparison("found", 0.3, "<=", 0.4, "0.4", True),
        Comparison("found", 0.3, ">=", 0.5, "limit", False),
        Comparison("seed", 0.0, "==", 0.0, "0", True),
    )
    copy = runner.read(runner.failed_copy(out))
    claim, rest = runner.code_cells(copy)[-2:]
    assert [output.output_type for output in claim.outputs] == ["stream", "error"]
    assert rest.execution_count is None, "nothing runs after a failing verdict"
    lines = log.read_text().splitlines()
    for text in (
        'code cell 1 of 3 begins (`profile = "tiny"`)',
        "printed on stderr:",
        f"failed: {sentence}",
    ):
        assert any(line.endswith(f"  {text}") for line in lines), text
    assert "    mind the gap" in lines
    assert any("----> 5 assert found >= limit" in line for line in lines)
    assert "\x1b" not in log.read_text()
    assert any(line.endswith("1 of 3 took 0.0 s") for line in lines)


def test_a_run_that_is_done_keeps_what_it_measured_for_the_next_one(tmp_path):
    log = tmp_path / "a.log"
    source = "import os\nhad = os.environ['WHICH_GPU']\nassert len(had) == 1\nprint('It holds.')"
    options = {"environment": {"WHICH_GPU": "1"}, "log": log}
    first, copy = run(tmp_path, cell(source, "verdict"), cell("'more'"), **options)
    assert first.figures == (Comparison("len(had)", 1.0, "==", 1.0, "1", True),)
    assert first.memory > 0 and first.cpu_seconds > 0
    counts = [each.execution_count for each in runner.code_cells(copy)]
    assert counts == [1, 2, 3, 4], "what is measured is no cell"
    written = log.read_text()
    assert written.endswith(" s: It holds.\n")
    chapter, out = tmp_path / "book" / "01_one.ipynb", tmp_path / "out" / "01_one.ipynb"
    again = replace(first, cached=True)
    options["environment"] = {"WHICH_GPU": "2"}
    assert runner.run(chapter, out, parameters=PARAMETERS, root=tmp_path, **options) == again
    assert log.read_text() == written, "nothing was run"
    assert runner.result_of(chapter, out) == again
    assert runner.result_of(chapter, tmp_path / "nowhere.ipynb") is None


ABORTS = """
import threading
kernel = get_ipython().kernel
kernel._aborting = True
threading.Timer(0.5, lambda: setattr(kernel, "_aborting", False)).start()
assert seed == 0
"""


def test_figures_wait_for_a_kernel_that_aborts_requests_as_after_an_error(tmp_path):
    result, _ = run(tmp_path, cell(ABORTS, "verdict"))
    assert [figure.figure for figure in result.figures] == ["seed"]


def test_of_a_kernel_that_dies_nothing_is_known(tmp_path):
    with pytest.raises(ChapterError):
        run(tmp_path, cell("import os; os._exit(1)"))
    result = runner.result_of(tmp_path / "book/01_one.ipynb", tmp_path / "out/01_one.ipynb")
    assert result.error.endswith("the kernel died (often: out of memory).")
    assert (result.cpu_seconds, result.memory, result.figures) == (None, None, ())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_log_that_cannot_be_written_is_one_sentence(tmp_path):
    with pytest.raises(ChapterError, match=r"^01_one did not run: No space left .*: free some"):
        run(tmp_path, cell("1"), log=Path("/dev/full"))
    assert not (tmp_path / "out").exists()


# Kernels that do not want to end


SAYS_ITS_PROCESS = """
import os, signal, time
with open("{name}.part", "w") as file:
    file.write(str(os.getpid()))
os.rename("{name}.part", "{name}")
"""
SLEEPS, SPINS = "time.sleep(600)", "while True: pass"


def gone(kernel):
    return not psutil.pid_exists(kernel) or psutil.Process(kernel).status() == "zombie"


def wait_until(holds):
    end = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("hangs", [SLEEPS, SPINS])
def test_a_cell_that_ignores_interrupts_is_stopped_all_the_same(tmp_path, hangs):
    source = SAYS_ITS_PROCESS.format(name="pid")
    source += f"signal.signal(signal.SIGINT, signal.SIG_IGN)\n{hangs}"
    with pytest.raises(ChapterError, match=r"code cell 2 .*: took longer than 4 seconds\.$"):
        run(tmp_path, cell(source), timeout=4)
    assert gone(int((tmp_path / "book" / "pid").read_text()))
    assert runner.result_of(tmp_path / "book/01_one.ipynb", tmp_path / "out/01_one.ipynb").memory


RUNS = """
import sys
from pathlib import Path
from threading import Thread
from splitlab.course import runner
root = Path(sys.argv[1])
for name in ("sleeps", "spins"):
    given = {"parameters": {}, "root": root}
    place = root / "book" / f"{name}.ipynb", root / "out" / f"{name}, seed 1.ipynb"
    Thread(target=runner.run, args=place, kwargs=given).start()
"""


def test_kernels_end_with_a_process_that_is_killed_and_the_next_run_clears_up(tmp_path):
    for name, hangs in (("sleeps", SLEEPS), ("spins", SPINS)):
        source = SAYS_ITS_PROCESS.format(name=name) + hangs
        write(tmp_path / "book" / f"{name}.ipynb", cell(source))
    pids = [tmp_path / "book" / name for name in ("sleeps", "spins")]
    # What a killed process leaves in temporary folders goes with this test's.
    variables = dict.fromkeys(("TMPDIR", "JUPYTER_RUNTIME_DIR"), str(tmp_path))
    runs = subprocess.Popen(
        [sys.executable, "-c", RUNS, tmp_path], env=kernels.environment() | variables
    )
    try:
        wait_until(lambda: runs.poll() is not None or all(pid.exists() for pid in pids))
    finally:
        runs.kill()
        runs.wait()
    wait_until(lambda: all(gone(int(pid.read_text())) for pid in pids))
    out = tmp_path / "out"
    left = {path.name for path in out.iterdir()}
    assert len(left) == 2 and all(name.startswith(".") for name in left)
    # Others' partial files stay: of another job, and of one whose name begins in the same way.
    (other,) = (name for name in left if name.startswith(".spins"))
    (out / ".sleeps, seed 1.5.abcdefgh.ipynb").touch()
    chapter = write(tmp_path / "book" / "sleeps.ipynb", cell("1"))
    runner.run(chapter, out / "sleeps, seed 1.ipynb", parameters={}, root=tmp_path)
    assert {path.name for path in out.iterdir()} == {
        "sleeps, seed 1.ipynb",
        ".sleeps, seed 1.5.abcdefgh.ipynb",
        other,
    }


def test_the_help_lists_the_exit_statuses(capsys):
    with pytest.raises(SystemExit):
        book.main(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "0, the book is built; 1, something failed" in shown
    assert "130, stopped by Ctrl-C; 143, stopped by SIGTERM" in shown
