"""The Makefile, with a stand-in for Python that only writes down what it is asked to do."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

import splitlab as sl

ROOT = Path(__file__).parents[2]

# `fake -m venv --clear DIR` makes DIR/bin/python another copy of itself.
FAKE_PYTHON = """\
#!/bin/sh
echo "$*" >> "{log}"
case "$*" in *"$FAIL_ON"*) [ -n "$FAIL_ON" ] && exit 1 ;; esac
for last; do :; done
if [ "$1 $2" = "-m venv" ]; then
  rm -rf "$last"; mkdir -p "$last/bin"; cp "$0" "$last/bin/python"; : > "$last/pyvenv.cfg"
fi
"""


@pytest.fixture
def project(tmp_path):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    fake = tmp_path / "fake"
    fake.write_text(FAKE_PYTHON.format(log=tmp_path / "log"))
    fake.chmod(0o755)
    return tmp_path


def make(project, *arguments, **variables):
    """Run make; return its result and the calls of Python that it made."""
    log = project / "log"
    log.write_text("")
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name
        not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES"}
        | {"PYTHON", "TORCH", "VENV", "PROFILE", "ARGS"}
    }
    result = subprocess.run(
        ["make", f"PYTHON={project / 'fake'}", *arguments],
        cwd=project,
        env={**inherited, "FAIL_ON": "", **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    return result, log.read_text().splitlines()


def test_make_alone_lists_every_target_and_does_nothing(project):
    result, calls = make(project)
    assert result.returncode == 0
    assert calls == []
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    listed = dict(re.findall(r"^  make (\w+) +(.+)$", result.stdout, flags=re.M))
    assert set(listed) == targets
    assert {"book", "test", "lint", "clean", "setup"} <= targets


def test_the_workflows_run_what_there_is():
    asked = {}
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        jobs = yaml.safe_load(path.read_text())["jobs"].values()
        commands = [step.get("run", "") for job in jobs for step in job["steps"]]
        matrices = [job.get("strategy", {}).get("matrix", {}) for job in jobs]
        commands += [run for matrix in matrices for run in matrix.get("run", [])]
        asked[path.stem] = set(re.findall(r"\bmake (\w+)", " ".join(commands)))
    assert {"lint", "test", "book", "notebooks"} <= asked["ci"]
    assert {"test", "claims"} <= asked["nightly"]
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    assert set().union(*asked.values()) <= targets


def test_setup_installs_torch_first_and_alone(project):
    result, calls = make(project, "setup")
    assert result.returncode == 0, result.stderr
    check, modules, venv, torch, rest = calls
    assert "version_info" in check and "ensurepip" in modules
    assert venv == "-m venv --clear .venv"
    assert torch == "-m pip install torch==2.13.0"
    assert rest == "-m pip install -c constraints.txt torch==2.13.0 -e .[book,test,dp,cluster]"


def test_a_finished_environment_is_not_made_again(project):
    make(project, "setup")
    assert make(project, "setup")[1] == []


@pytest.mark.parametrize("change", ["TORCH", "pyproject.toml", "constraints.txt"])
def test_a_change_updates_the_environment(project, change):
    make(project, "setup")
    arguments = ["setup"]
    if change == "TORCH":
        arguments.append("TORCH=torch>=2.6")
    else:
        with (project / change).open("a") as file:
            file.write("# a change\n")
    _, calls = make(project, *arguments)
    torch = "torch>=2.6" if change == "TORCH" else "torch==2.13.0"
    assert calls == [
        f"-m pip install {torch}",
        f"-m pip install -c constraints.txt {torch} -e .[book,test,dp,cluster]",
    ]
    assert make(project, *arguments)[1] == []


@pytest.mark.parametrize("interrupted", ["pip install torch", "constraints.txt"])
def test_a_half_made_environment_is_made_from_nothing(project, interrupted):
    result, _ = make(project, "setup", FAIL_ON=interrupted)
    assert result.returncode != 0
    _, calls = make(project, "setup")
    assert "-m venv --clear .venv" in calls


def test_an_interrupted_update_is_not_taken_for_finished(project):
    make(project, "setup")
    with (project / "constraints.txt").open("a") as file:
        file.write("# a change\n")
    assert make(project, "setup", FAIL_ON="constraints.txt")[0].returncode != 0
    assert make(project, "setup")[1][-1].startswith("-m pip install -c constraints.txt")


@pytest.mark.parametrize(
    ("arguments", "fails", "sentence"),
    [
        ([], "version_info", "is no Python 3.11 or newer: name one, as in make PYTHON="),
        ([], "ensurepip", "has no venv or no ensurepip: install python3-venv"),
        (["PYTHON=nopython"], "", "there is no program nopython: name a Python 3.11 or newer"),
        (["PYTHON="], "", "there is no program in PYTHON: name a Python 3.11 or newer"),
        (["VENV=mine"], "", "VENV=mine holds something else, which would be lost"),
        (["VENV=Makefile"], "", "VENV=Makefile holds something else, which would be lost"),
        ([], "-m venv", "the environment .venv cannot be made: name a folder where you may write"),
        (["PROFILE=huge"], "", "PROFILE is huge: choose tiny, gpu or paper"),
    ],
)
def test_what_cannot_be_set_up_is_refused_in_one_sentence(project, arguments, fails, sentence):
    mine = project / "mine" / "thesis"
    mine.parent.mkdir()
    mine.write_text("years of work")
    result, calls = make(project, "setup", *arguments, FAIL_ON=fails)
    assert result.returncode != 0
    said, *stop = result.stderr.splitlines()
    assert sentence in said
    assert all(line.startswith("make: *** [") for line in stop), result.stderr
    assert not any("pip" in call and "-m pip" in call for call in calls)
    assert not (project / ".venv").exists()
    assert mine.read_text() == "years of work"


def test_the_profiles_are_those_of_the_library(project):
    for profile in sl.PROFILES:
        assert make(project, "help", f"PROFILE={profile}")[0].returncode == 0


def test_the_environment_may_be_in_a_folder_with_spaces(project):
    for _ in range(2):  # the second time, it is there
        result, calls = make(project, "test", "VENV=my environment/of python")
        assert result.returncode == 0, result.stderr
    assert len(calls) == 1 and calls[0].startswith("-m pytest")
    assert (project / "my environment" / "of python" / "made-from").exists()


def test_an_environment_whose_python_is_gone_is_made_anew(project):
    make(project, "setup")
    (project / ".venv" / "bin" / "python").unlink()
    result, calls = make(project, "setup")
    assert result.returncode == 0 and "-m venv --clear .venv" in calls


@pytest.mark.parametrize(
    ("target", "call"),
    [
        (
            "test",
            "-m pytest -n auto --maxprocesses 2 --dist loadfile --no-loadscope-reorder -k wire",
        ),
        ("book", "-m splitlab.course.book --profile tiny -k wire"),
        ("notebooks", "tests/notebooks/every_notebook.py -k wire"),
        ("verdicts", "-m splitlab.course.book --profile tiny --store-verdicts -k wire"),
        ("seconds", "-m splitlab.course.book --profile tiny --store-seconds -k wire"),
        ("records", "benchmarks/records.py --profile tiny -k wire"),
        ("claims", "-m splitlab.course.cli claims --rerun -k wire"),
        ("badges", "-m splitlab.course.cli claims --badges -k wire"),
    ],
)
def test_targets_make_the_environment_and_pass_the_exit_status_on(project, target, call):
    result, calls = make(project, target, "ARGS=-k wire")
    assert result.returncode == 0
    assert "-m venv --clear .venv" in calls
    assert calls[-1] == call
    failing, _ = make(project, target, "ARGS=-k wire", FAIL_ON=call.split()[1])
    assert failing.returncode != 0


def test_kernels_and_tests_have_one_thread(project):
    (project / "fake").write_text('#!/bin/sh\necho "threads $OMP_NUM_THREADS" >> log\n')
    venv = project / ".venv" / "bin"
    venv.mkdir(parents=True)
    (venv.parent / "pyvenv.cfg").touch()
    shutil.copy(project / "fake", venv / "python")
    (project / ".venv" / "made-from").write_text("")
    _, calls = make(project, "test", OMP_NUM_THREADS="7")
    assert set(calls) == {"threads 1"}
