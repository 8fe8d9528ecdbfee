"""The repository's address: written once, repeated by one command, and followed by Colab."""

import contextlib
import re
import shlex
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook

from splitlab.course import address, editions, runner

ROOT = Path(__file__).parents[2]
REPOSITORY = address.repository(ROOT)
HERE, VERSION = REPOSITORY.url, REPOSITORY.version
FORK = "https://github.com/some-university-security-lab/split-learning-in-spring-2027"
NOTEBOOKS = (
    "book/10_start_here.ipynb",
    "book/52_noise_and_other_blur.ipynb",
    "book/11_split_learning_from_scratch.ipynb",
    "exercises/11_split_learning_from_scratch.ipynb",
    "solutions/11_split_learning_from_scratch.ipynb",
)


@pytest.fixture
def copied(tmp_path):
    """A copy of the files that name the address, with five of the notebooks."""
    for name in ("pyproject.toml", "book/ruff.toml", *address.LINES, *NOTEBOOKS):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    set_address(tmp_path, HERE)  # without an ending such as .git
    return tmp_path


def run(root, *options):
    return address.main(["--root", str(root), *options])


def replace(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, (path, text.count(old))
    path.write_text(text.replace(old, new), encoding="utf-8")


def set_address(root, url):
    """Change the one line that a fork changes."""
    path = root / "pyproject.toml"
    text, lines = re.subn(
        r'^Repository = ".*"$', f'Repository = "{url}"', path.read_text(), flags=re.M
    )
    assert lines == 1
    path.write_text(text)


def contents(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def install_cell(path):
    return runner.code_cells(runner.read(path))[0].source


# The address, here and in a fork.


def test_every_place_of_this_repository_says_the_same(capsys):
    assert run(ROOT, "--check") == 0, capsys.readouterr().err


def test_no_other_file_names_the_address():
    places = {"pyproject.toml", "book/_config.yml", "CITATION.cff"}
    places |= {path.relative_to(ROOT).as_posix() for path in notebooks()}
    git = ["git", "grep", "-lF", HERE.removeprefix("https://")]
    try:
        done = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        pytest.skip("there is no git")
    if done.returncode == 128:
        pytest.skip("this is not a git repository")
    assert set(done.stdout.splitlines()) <= places


def notebooks():
    return [path for folder in address.FOLDERS for path in (ROOT / folder).glob("*.ipynb")]


def test_a_fork_changes_one_line_and_runs_one_command(copied, capsys):
    untouched = contents(copied)
    set_address(copied, FORK)
    assert run(copied, "--check") == 1
    assert capsys.readouterr().err.count("run `make address`.\n") == 2 + len(NOTEBOOKS)
    assert run(copied) == 0
    assert run(copied, "--check") == 0
    for path, before in untouched.items():
        after = path.read_text(encoding="utf-8")
        assert HERE not in after, path
        assert after.replace(FORK, HERE).encode() == before, f"{path}: nothing else has changed"


def test_exercises_still_are_what_their_masters_give(copied):
    set_address(copied, FORK)
    run(copied)
    assert list(editions.differences(copied)) == []


@pytest.mark.parametrize(
    "name", ["a", "of-78", "lab-of-79", "the-lab-of-81", "a-very-long-name-" * 4]
)
def test_an_address_of_any_length_is_formatted_as_the_lint_has_it(copied, name):
    set_address(copied, f"https://github.com/some-security-l/{name}")
    run(copied)
    for command in (["check", "--select", "E501"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache", *address.FOLDERS],
            cwd=copied,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_colab_button_of_a_fork_opens_its_notebook_which_installs_the_fork(copied):
    set_address(copied, FORK)
    run(copied)
    book, page = copied / "book", NOTEBOOKS[2].removesuffix(".ipynb")
    (book / "intro.md").write_text("# A book of one chapter\n")
    (book / "_toc.yml").write_text(
        f"format: jb-book\nroot: book/intro\nchapters:\n  - file: {page}\n"
    )
    start = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", start, "build", "-q", str(copied)]
    files = ["--config", str(book / "_config.yml"), "--toc", str(book / "_toc.yml")]
    subprocess.run([*command, *files], capture_output=True, check=True)
    html = (copied / "_build" / "html" / f"{page}.html").read_text(encoding="utf-8")
    assert set(re.findall(r'href="(https://colab\.[^"]+)"', html)) == {
        f"https://colab.research.google.com/github/{FORK.removeprefix('https://github.com/')}"
        f"/blob/{REPOSITORY.branch}/{page}.ipynb"
    }
    assert f'git+{FORK}@{REPOSITORY.ref}"' in install_cell(copied / f"{page}.ipynb")


# What differs is found.

OLD = "https://github.com/somebody/else"


@pytest.mark.parametrize(
    ("name", "old", "new", "sentence"),
    [
        (NOTEBOOKS[0], HERE, OLD, f"book/10_start_here.ipynb does not install {HERE}@"),
        (NOTEBOOKS[3], HERE, OLD, "exercises/11_split_learning_from_scratch.ipynb does not"),
        (
            NOTEBOOKS[4],
            "if _exit_code",
            "if not _exit_code",
            "solutions/11_split_learning_from_scratch.ipynb",
        ),
        ("book/_config.yml", HERE, OLD, f"book/_config.yml has {OLD}, not {HERE}: run"),
        ("CITATION.cff", HERE, OLD, f"CITATION.cff has {OLD}, not {HERE}: run"),
        (
            "CITATION.cff",
            "\nversion: ",
            "\nversion: 9.",
            f"CITATION.cff has 9.{VERSION}, not {VERSION}: run",
        ),
        (
            "splitlab/__init__.py",
            '__version__ = "',
            '__version__ = "9.',
            f"__init__.py has 9.{VERSION}",
        ),
    ],
)
def test_a_planted_difference_is_found_and_repaired(copied, capsys, name, old, new, sentence):
    right = contents(copied)
    replace(copied / name, old, new)
    assert run(copied, "--check") == 1
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1
    assert run(copied) == 0
    assert capsys.readouterr().out == f"wrote {name}\n"
    assert contents(copied) == right


@pytest.mark.parametrize(
    ("name", "old", "new", "sentence"),
    [
        (
            "pyproject.toml",
            HERE,
            "git@github.com:me/splitlab",
            "write https://github.com/OWNER/NAME",
        ),
        ("pyproject.toml", HERE, f"{FORK}/tree/main", "write https://github.com/OWNER/NAME"),
        ("pyproject.toml", "Repository =", "Source =", "has Repository = None"),
        ("pyproject.toml", "[project.urls]", "[project.urls", "pyproject.toml is not TOML"),
        ("pyproject.toml", '\nversion = "', '\nversion = "v', f"has the version 'v{VERSION}'"),
        ("CITATION.cff", "repository-code", "url", "CITATION.cff has no line"),
        (
            "book/_config.yml",
            f"  branch: {REPOSITORY.branch}\n",
            "",
            "book/_config.yml has no line",
        ),
        (NOTEBOOKS[4], "google.colab", "google.drive", "copy it from another notebook"),
    ],
)
def test_what_cannot_be_repaired_is_a_sentence_and_nothing_is_written(
    copied, capsys, name, old, new, sentence
):
    replace(copied / "book" / "10_start_here.ipynb", HERE, OLD)  # which would be rewritten
    replace(copied / name, old, new)
    before = contents(copied)
    assert run(copied) == 1
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1 and len(said) < 400
    assert contents(copied) == before


def test_a_folder_that_is_no_repository_is_a_sentence(tmp_path, capsys):
    assert run(tmp_path) == 1
    assert "There is no pyproject.toml in " in capsys.readouterr().err


@pytest.mark.parametrize("ending", ["/", ".git", ".git/"])
def test_an_address_as_it_is_copied_from_the_browser_or_the_clone_button(copied, ending):
    set_address(copied, HERE + ending)
    assert run(copied, "--check") == 0


# The cell that installs the library in Colab.


@pytest.mark.parametrize(
    ("version", "ref"), [("1.2.0", "v1.2.0"), ("1.3.0.dev0", REPOSITORY.branch)]
)
def test_a_release_installs_its_tag_and_a_version_in_development_the_branch(copied, version, ref):
    replace(copied / "pyproject.toml", f'\nversion = "{VERSION}"', f'\nversion = "{version}"')
    assert run(copied) == 0
    assert f'"splitlab @ git+{HERE}@{ref}"\n' in install_cell(copied / NOTEBOOKS[0])
    assert f"\nversion: {version}\n" in (copied / "CITATION.cff").read_text()


def test_each_notebook_has_the_same_cell_but_for_further_packages():
    cells = {}
    for path in notebooks():
        first, *others = runner.code_cells(runner.read(path))
        assert not any("google.colab" in cell.source for cell in others)
        cells.setdefault(first.source, []).append(path.stem)
    usual, other = sorted(cells, key=lambda cell: len(cells[cell]), reverse=True)
    assert cells[other] == ["52_noise_and_other_blur"]
    assert other.replace("opacus opt-einsum ", "") == usual


class FakeShell:
    """What a cell's magics run in, with a pip that ends with a given status."""

    def __init__(self, status):
        self.names, self.status, self.lines = {"get_ipython": lambda: self}, status, []

    def run_line_magic(self, name, line):
        self.lines.append((name, shlex.split(line)))
        self.names["_exit_code"] = self.status

    def run(self, cell):
        exec(TransformerManager().transform_cell(cell), self.names)


@pytest.fixture
def colab(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))


@pytest.mark.usefixtures("colab")
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_in_colab_the_release_is_installed_and_nothing_that_it_depends_on(name):
    shell = FakeShell(0)
    shell.run(install_cell(ROOT / name))
    ((magic, words),) = shell.lines
    more = ["opacus", "opt-einsum"] if "52_" in name else []
    release = f"splitlab @ git+{HERE}@{REPOSITORY.ref}"
    assert (magic, words) == ("pip", ["install", "-q", "--no-deps", *more, release])


@pytest.mark.usefixtures("colab")
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_where_pip_fails_the_cell_ends_with_a_sentence(name):
    with pytest.raises(SystemExit, match=r"^splitlab is not installed: check .+\.$"):
        FakeShell(1).run(install_cell(ROOT / name))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_elsewhere_nothing_is_installed(monkeypatch, name):
    monkeypatch.delitem(sys.modules, "google.colab", raising=False)
    shell = FakeShell(1)
    shell.run(install_cell(ROOT / name))
    assert shell.lines == []


@pytest.mark.parametrize(("status", "ran"), [(0, "ran on\n"), (1, "")])
def test_a_notebook_runs_on_only_if_pip_did_not_fail(tmp_path, status, ran):
    pip = tmp_path / "python"
    pip.write_text(f"#!/bin/sh\necho no such tag\nexit {status}\n")
    pip.chmod(0o700)
    as_in_colab = (
        "import sys, types\n"
        'sys.modules["google.colab"] = types.ModuleType("google.colab")\n'
        f"sys.executable = {str(pip)!r}"
    )
    sources = (as_in_colab, install_cell(ROOT / NOTEBOOKS[0]), "print('ran on')")
    notebook = new_notebook(cells=[new_code_cell(source) for source in sources])
    client = NotebookClient(notebook, kernel_name="python3", extra_arguments=["--log-level=ERROR"])
    with contextlib.suppress(CellExecutionError):
        client.execute()
    assert "".join(output.text for output in notebook.cells[2].outputs) == ran
    shown = str(notebook.cells[1].outputs)
    assert "no such tag" in shown and "Traceback" not in shown
    assert ("splitlab is not installed: check" in shown) == (status == 1)
