"""The page "Write your own": its classes are short, and pass the list that comes with the package.

A reader saves the page's classes in a file of an empty folder and runs the plugin there.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from splitlab.course import kernels, runner

ROOT = Path(__file__).parents[2]
PAGE = runner.read(ROOT / "book" / "97_write_your_own.ipynb")
OWN = runner.code_cells(PAGE, "own-class")
KINDS = {
    "drawings": "def",
    "LinearProbe": "sl.PassiveServer",
    "MomentMatching": "sl.Server",
    "NoiseOnZ": "sl.Defense",
    "LabelGap": "sl.Defense",
    "ByShare": "sl.Rounds",
}


def lines(source):
    return [line for line in source.splitlines() if line.strip()]


def name_and_kind(source):
    if found := re.match(r"class (\w+)\((.+)\):", source):
        return found.groups()
    return re.match(r"def (\w+)\(", source)[1], "def"


def test_the_page_has_six_things_of_at_most_40_lines():
    assert dict(name_and_kind(cell.source) for cell in OWN) == KINDS
    assert max(len(lines(cell.source)) for cell in OWN) <= 40


def test_the_page_is_as_short_as_a_page_should_be():
    text = [cell.source for cell in PAGE.cells if cell.cell_type == "markdown"]
    assert 1200 <= sum(len(source.split()) for source in text) <= 1800
    assert sum(line.startswith("## ") for source in text for line in source.splitlines()) <= 6
    code = [cell.source for cell in runner.code_cells(PAGE) if "google.colab" not in cell.source]
    assert max(len(line) for source in code for line in source.splitlines()) <= 78


@pytest.fixture
def folder(tmp_path):
    """A folder that holds what a reader saves: the imports and the classes of the page."""
    (imports,) = (
        cell for cell in runner.code_cells(PAGE) if "import splitlab as sl" in cell.source
    )
    head = [line for line in imports.source.splitlines() if "import" in line]
    (tmp_path / "mine.py").write_text("\n\n".join(["\n".join(head), *(c.source for c in OWN)]))
    return tmp_path


def options_of_the_page():
    """The command that the page shows, without the name of the program."""
    (command,) = re.findall(
        r"```sh\n(pytest .+?)```", "\n".join(c.source for c in PAGE.cells), re.S
    )
    return command.replace("\\\n", " ").split()[1:]


def test_the_classes_pass_the_list_in_an_empty_folder(folder):
    options = options_of_the_page()
    named = [f"mine:{name}" for name in KINDS if name not in ("drawings", "ByShare")]
    assert options[1::2] == named
    command = [sys.executable, "-m", "pytest", "-p", "splitlab_pytest", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *options],
        env={**os.environ, **kernels.ONE_THREAD, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert re.search(r"^=+ \d\d passed, \d skipped", done.stdout, flags=re.M), done.stdout
