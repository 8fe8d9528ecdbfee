"""The package as Colab installs it: away from the repository, and without its other files."""

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell
from packaging.version import Version

from splitlab.course import claims, outputs, records, runner

ROOT = Path(__file__).parents[2]
CHAPTER = ROOT / "book" / "92_data_sets.ipynb"  # the cheapest one that quotes recorded runs
SETUPTOOLS = "77"  # the first that reads `license = "MIT"`

if importlib.util.find_spec("setuptools") is None or importlib.util.find_spec("pip") is None:
    pytest.skip(
        "the wheel is built with pip and setuptools; one is missing", allow_module_level=True
    )
if Version(version("setuptools")) < Version(SETUPTOOLS):
    pytest.skip(
        f"the wheel is built with setuptools {SETUPTOOLS} or newer", allow_module_level=True
    )


def run(*command, **options):
    done = subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def project_files():
    """What belongs to the repository, new files too, but nothing that was built."""
    git = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        shown = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        kept = [p for p in (ROOT / "splitlab").rglob("*") if "__pycache__" not in p.parts]
        others = ("pyproject.toml", "README.md", "LICENSE", "splitlab_pytest.py")
        return [*kept, *(ROOT / name for name in others)]
    return [ROOT / line for line in shown.splitlines()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy: a build leaves folders behind."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for file in project_files():
        if file.is_file() and file.parts[len(ROOT.parts)] not in ("book", "tests"):
            target = source / file.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    offline = ("--no-deps", "--no-index", "--disable-pip-version-check")
    run("-m", "pip", "wheel", *offline, "--no-build-isolation", "-w", out, source)
    (made,) = out.glob("splitlab-*.whl")
    return made


@pytest.fixture(scope="module")
def away(wheel, tmp_path_factory):
    """(environment, folder) of a process that has the installed package and no repository."""
    folder, packages = tmp_path_factory.mktemp("away"), tmp_path_factory.mktemp("packages")
    offline = ("--no-deps", "--no-index", "--disable-pip-version-check")
    run("-m", "pip", "install", *offline, "--target", packages, wheel)
    environment = {**os.environ, **runner.ONE_THREAD, "PYTHONPATH": str(packages)}
    return environment, folder


def is_installed(path, environment):
    return Path(path.strip()).is_relative_to(environment["PYTHONPATH"])


def test_the_wheel_has_the_records_and_the_mark_of_a_typed_package(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    runs = {path.name for path in records.RUNS.iterdir() if path.suffix != ".lock"}
    assert {f"splitlab/course/runs/{name}" for name in runs} <= names
    assert any(name.endswith(".json") for name in runs)
    assert "splitlab/py.typed" in names
    top = {name.split("/")[0].split("-")[0] for name in names}
    assert top == {"splitlab", "splitlab_pytest.py"}, "and no tests of its own"


def test_recorded_runs_are_read(away):
    environment, folder = away
    code = "import splitlab as sl; sl.experiments.recorded('digits_tiny'); print(sl.__file__)"
    *_, path = run("-c", code, cwd=folder, env=environment).splitlines()
    assert is_installed(path, environment), "this test is of the installed package"


def test_the_claims_are_listed(away):
    environment, folder = away
    listed = run("-m", "splitlab.course.cli", "claims", cwd=folder, env=environment)
    for claim in claims.load():
        assert f"{claim.name}: holds " in listed


MINE = """
import splitlab as sl

class Halve(sl.Defense):
    def smash(self, client, turn, z):
        return z / 2

    @classmethod
    def conformance_example(cls, private, public):
        return cls()
"""


def test_the_plugin_tries_a_class_of_somebody_else(away, tmp_path):
    environment, _ = away
    (tmp_path / "mine.py").write_text(MINE)
    command = ("-m", "pytest", "-p", "no:cacheprovider", "--splitlab-defense", "mine:Halve")
    shown = run(*command, cwd=tmp_path, env={**environment, "PYTEST_ADDOPTS": ""})
    assert " passed, 2 skipped" in shown  # it takes part in every protocol, and is no server
    code = "import splitlab_pytest; print(splitlab_pytest.__file__)"
    path = run("-c", code, cwd=tmp_path, env=environment)
    assert is_installed(path, environment), "this test is of the installed plugin"


def test_a_chapter_runs(away):
    environment, folder = away
    notebook = nbformat.read(CHAPTER, as_version=4)
    assert any("sl.experiments.recorded(" in cell.source for cell in notebook.cells)
    notebook.cells.append(new_code_cell("import splitlab\nprint(splitlab.__file__)"))
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--log-level=ERROR"],
    )
    finished = client.execute(env=environment)
    assert runner.verdict_of(finished) == runner.verdict_of(nbformat.read(CHAPTER, as_version=4))
    assert is_installed(outputs.printed(finished.cells[-1]), environment)
