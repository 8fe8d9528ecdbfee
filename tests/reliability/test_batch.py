"""A batch on a bad day: failing cells, hanging ones, dying kernels, Ctrl-C, a killed launcher.

The notebooks are written here, and note each run of theirs, with the kernel's process, in a file.
"""

import csv
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from splitlab.course import cli, kernels, locks
from splitlab.course.batch import command

PATIENCE = 60  # seconds for what takes a few
ENGINES = ("none", "local")


@pytest.fixture
def batch(tmp_path):
    """Write notebooks that note their runs, and run them as a batch."""
    notes = tmp_path / "notes"
    notes.mkdir()
    out = tmp_path / "the {out} folder"

    def write(name, *sources, folder="{in}"):
        note = (
            "import os, time\nfrom pathlib import Path\n"
            f"notes = Path({str(notes)!r})\n"
            f"with open(notes / f'{name} {{seed}}', 'a') as file:\n"
            "    file.write(f'{os.getpid()}\\n')"
        )
        cells = [new_code_cell("seed = 0", metadata={"tags": ["parameters"]})]
        cells += [new_code_cell(source) for source in (note, *sources)]
        path = tmp_path / folder / f"{name}.ipynb"
        path.parent.mkdir(exist_ok=True)
        nbformat.write(new_notebook(cells=cells), path)
        return path

    def ran():
        """(notebook and seed) -> how often it has begun to run."""
        return {path.name: len(path.read_text().split()) for path in notes.iterdir()}

    def alive():
        """The kernels that noted a run and are still there."""
        noted = [int(pid) for path in notes.iterdir() for pid in path.read_text().split()]
        return [pid for pid in noted if psutil.pid_exists(pid) and not zombie(pid)]

    def arguments(*more):
        fixed = ["run", str(tmp_path / "{in}"), "--out", str(out), "--jobs", "2"]
        return [*fixed, *([] if "--cluster" in more else ["--cluster", "none"]), *more]

    def rows():
        with (out / "jobs.csv").open(newline="", encoding="utf-8") as file:
            return {row["job"]: row for row in csv.DictReader(file)}

    def process(*more, stderr=subprocess.PIPE):
        return subprocess.Popen(
            [sys.executable, "-m", "splitlab.course.cli", *arguments(*more)],
            env=kernels.environment(),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            preexec_fn=hears_signals,
        )

    yield SimpleNamespace(
        write=write,
        run=lambda *more: cli.main(arguments(*more)),
        process=process,
        ran=ran,
        alive=alive,
        rows=rows,
        out=out,
        notes=notes,
    )
    left = alive()
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, "kernels were left behind"


def zombie(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def hears_signals():
    signal.signal(signal.SIGINT, signal.default_int_handler)


def until(true):
    """Wait for something that takes a few seconds."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


def lines(text):
    return [line for line in text.splitlines() if line]


# What fails, and what runs again


def test_a_failing_job_leaves_the_others_and_a_second_run_does_what_is_missing(batch, capfd):
    batch.write("good")
    batch.write("odd", "assert seed != 1, 'an odd seed'")
    assert batch.run("--seeds", "0-1") == 1
    out, err = capfd.readouterr()
    sentence = "odd, code cell 3 (`assert seed != 1, 'an odd seed'`): AssertionError: an odd seed."
    assert f"odd, seed 1: FAILED: {sentence}" in err, "at once"
    assert f"FAILED odd, seed 1: {sentence}" in out
    assert "3 done, 1 failed" in out
    assert {name: row["status"] for name, row in batch.rows().items()} == {
        "good, seed 0": "done",
        "good, seed 1": "done",
        "odd, seed 0": "done",
        "odd, seed 1": "failed",
    }
    assert batch.rows()["odd, seed 1"]["error"] == sentence
    folder = batch.out / "notebooks" / "odd"
    assert "AssertionError" in (folder / "seed 1.log").read_text()
    assert (folder / "seed 1.failed.ipynb").exists()
    assert (batch.out / "gallery.html").exists()
    once = {"good 0": 1, "good 1": 1, "odd 0": 1, "odd 1": 1}
    assert batch.ran() == once

    assert batch.run("--seeds", "0-1") == 1
    assert batch.ran() == once | {"odd 1": 2}, "what has failed runs again, and nothing else"
    batch.write("odd", "seed")
    assert batch.run("--seeds", "0-2") == 0
    assert batch.ran() == {
        "good 0": 1,
        "good 1": 1,
        "good 2": 1,
        "odd 0": 2,
        "odd 1": 3,
        "odd 2": 1,
    }
    assert not (folder / "seed 1.failed.ipynb").exists()
    assert {row["status"] for row in batch.rows().values()} == {"done"}


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("time.sleep(600)", "took longer than 2 seconds"),
        ("import signal\nos.kill(os.getpid(), signal.SIGKILL)", "the kernel died"),
    ],
    ids=["hangs", "dies"],
)
def test_a_cell_that_hangs_and_a_kernel_that_dies_are_failures_like_others(batch, source, says):
    batch.write("bad", source)
    batch.write("good")
    assert batch.run("--timeout", "2") == 1
    rows = batch.rows()
    assert rows["good, seed 0"]["status"] == "done"
    assert says in rows["bad, seed 0"]["error"]
    assert batch.ran() == {"bad 0": 1, "good 0": 1}
    assert not batch.alive()


def test_a_terminal_shows_what_is_done_what_failed_what_runs_and_the_time_left(batch):
    batch.write("odd", "assert seed != 1", "time.sleep(0.6)")
    terminal, own = pty.openpty()
    fcntl.ioctl(own, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    launcher = batch.process("--seeds", "0-3", stderr=own)
    os.close(own)
    shown = b""
    with suppress(OSError):  # of a terminal that is closed
        while piece := os.read(terminal, 65536):
            shown += piece
    os.close(terminal)
    launcher.communicate(timeout=PATIENCE)
    said = shown.decode()
    assert "4 jobs to run, 0 done before; 2 at a time.\r\n" in said
    assert re.search(r"batch: 3 of 4 jobs, 2 done, 1 failed, 1 running \|.+\| \d\d:\d\d left", said)
    assert "odd, seed 1: FAILED: odd, code cell 3 (`assert seed != 1`)" in said
    assert "odd, seed 0: done" not in said, "the bar says that"


# The launcher is stopped


SLOW = "Path(notes, f'slow {seed} is running').touch()\nwhile not Path(notes, 'go').exists():\n"
SLOW += "    time.sleep(0.05)"


def running(batch):
    return len(list(batch.notes.glob("* is running")))


def noted(batch):
    return {name: count for name, count in batch.ran().items() if "running" not in name}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_killed_launcher_leaves_no_kernel_and_the_next_one_goes_on(batch, engine):
    batch.write("slow", f"if seed > 0:\n    {SLOW.replace(chr(10), chr(10) + '    ')}")
    launcher = batch.process("--seeds", "0-2", "--cluster", engine)
    until(lambda: running(batch) == 2)
    launcher.kill()
    launcher.communicate()
    until(lambda: not batch.alive())
    assert noted(batch) == {"slow 0": 1, "slow 1": 1, "slow 2": 1}
    (batch.notes / "go").touch()
    again = batch.process("--seeds", "0-2")
    _, err = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0
    assert "2 jobs to run, 1 done before" in err
    ran = noted(batch)
    del ran["go"]
    assert ran == {"slow 0": 1, "slow 1": 2, "slow 2": 2}
    names = {path.name for path in (batch.out / "notebooks" / "slow").iterdir()}
    assert names == {f"seed {n}.{end}" for n in range(3) for end in ("ipynb", "log")}


@pytest.mark.parametrize("engine", ENGINES)
def test_ctrl_c_once_lets_the_running_jobs_finish(batch, engine):
    batch.write("slow", SLOW)
    launcher = batch.process("--seeds", "0-3", "--cluster", engine)
    until(lambda: running(batch) == 2)
    launcher.send_signal(signal.SIGINT)
    first = launcher.stderr.readline()
    while "stopping" not in first:
        first = launcher.stderr.readline()
    assert "2 running jobs finish first; Ctrl-C again" in first
    (batch.notes / "go").touch()
    out, err = launcher.communicate(timeout=PATIENCE)
    assert launcher.returncode == 130
    assert "stopped, 2 of 4 jobs have not run; the same command goes on" in err
    assert "2 done, 2 not run" in out
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("signals", "status", "engine"),
    [
        ((signal.SIGINT, signal.SIGINT), 130, "none"),
        ((signal.SIGTERM,), 143, "none"),
        ((signal.SIGINT, signal.SIGINT), 130, "local"),
    ],
    ids=["Ctrl-C twice", "SIGTERM", "Ctrl-C twice on Dask"],
)
def test_a_batch_that_is_stopped_at_once_leaves_nothing_running(batch, signals, status, engine):
    batch.write("slow", SLOW)
    launcher = batch.process("--seeds", "0-3", "--cluster", engine)
    until(lambda: running(batch) == 2)
    for number in signals:
        launcher.send_signal(number)
        time.sleep(1)  # or the two would be one
    out, err = launcher.communicate(timeout=PATIENCE)
    assert launcher.returncode == status
    assert "stopped, 4 of 4 jobs have not run" in err
    assert "0 done, 4 not run" in out
    assert "Traceback" not in err
    assert not batch.alive()
    assert not list(batch.out.glob("notebooks/*/*.ipynb"))


# What is refused before anything starts


def refused(batch, capfd, *more):
    """The sentence."""
    assert batch.run(*more) == 2
    assert not batch.ran()
    assert not batch.out.exists(), "a refused batch leaves nothing"
    (line,) = lines(capfd.readouterr().err)
    return line


def test_a_full_disk(batch, capfd, monkeypatch):
    batch.write("good")
    monkeypatch.setattr(command.shutil, "disk_usage", lambda path: SimpleNamespace(free=2_000_000))
    assert "10 jobs need about 15 MB, and" in refused(batch, capfd, "--seeds", "0-9")
    assert batch.run("--seeds", "0") == 0


def test_a_folder_that_cannot_be_written_to(batch, capfd, monkeypatch, tmp_path):
    batch.write("good")
    monkeypatch.setattr(command.os, "access", lambda path, how: False)
    assert "cannot be written to: make it writable" in refused(batch, capfd)
    monkeypatch.undo()
    batch.out.write_text("a file")
    assert batch.run() == 2
    assert f"{batch.out} is a file; name a folder" in capfd.readouterr().err


def test_a_missing_kernel_or_package(batch, capfd, monkeypatch):
    batch.write("good")
    monkeypatch.setattr(kernels, "fault", lambda: "No module named ipykernel_launcher")
    assert "no kernel starts here (No module named ipykernel_l" in refused(batch, capfd)
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    assert "papermill, which is not installed: pip install" in refused(batch, capfd)


def test_a_kernel_that_does_not_start_is_found(monkeypatch):
    assert kernels.fault() == ""
    monkeypatch.setattr(kernels.sys, "executable", "/bin/false")
    assert kernels.fault() == "exit status 1"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--jobs", "0"), "--jobs is 0: choose at least 1"),
        (("--timeout", "0"), "--timeout is 0: choose at least 1"),
        (("--seeds", "9-0"), "9-0 holds no seed; write 0-9"),
        (("--profile", "huge"), "no profile 'huge'"),
        (("--set", "sede=1"), "good has no parameter 'sede'; it has seed"),
        (("--profile", "tiny"), "good has no parameter 'profile'"),
    ],
)
def test_words_that_make_no_batch(batch, capfd, more, says):
    batch.write("good")
    assert says in refused(batch, capfd, *more)


def test_a_notebook_that_cannot_be_read(batch, capfd):
    path = batch.write("good")
    Path(path.parent, "torn.ipynb").write_text("{")
    assert "torn.ipynb is not a notebook that can be read" in refused(batch, capfd)


def test_two_batches_do_not_share_a_folder(batch, capfd):
    batch.write("good")
    with locks.only_one(batch.out / "batch.lock", AssertionError()):
        assert batch.run() == 2
    assert f"another batch is at work in {batch.out}: wait until" in capfd.readouterr().err
    assert not batch.ran()


def test_a_dry_run_runs_nothing(batch, capfd):
    batch.write("good")
    assert batch.run("--seeds", "0-1", "--dry-run") == 0
    assert lines(capfd.readouterr().out)[:2] == ["good, seed 0: to run", "good, seed 1: to run"]
    assert not batch.ran()
    assert not batch.out.exists()
