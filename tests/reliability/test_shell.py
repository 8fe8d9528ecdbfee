"""The shell: how commands end, whatever happens while they run."""

import argparse
import errno
import importlib.util
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import splitlab as sl
from splitlab.course import claims_command, cli, exits, reruns

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def parsers(parser):
    """Return a parser and those of all its commands."""
    found = [parser]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                found += parsers(one)
    return found


PARSERS = {parser.prog: parser for parser in parsers(cli._parser())}


@pytest.mark.parametrize("prog", PARSERS)
def test_every_help_ends_with_the_exit_statuses(prog):
    assert "Exit status: 0 done" in " ".join(PARSERS[prog].format_help().split())


def test_the_statuses_are_those_that_are_documented():
    stopped = [exits.stopped_status(error) for error in (KeyboardInterrupt(), exits.Terminated())]
    readme = (BENCHMARKS.parent / "README.md").read_text()
    for status in (0, 1, 2, *stopped, exits.CLOSED_PIPE):
        assert f" {status} " in exits.STATUSES
        assert f"`{status}`" in readme
    assert stopped == [130, 143] and exits.CLOSED_PIPE == 141


# --- nobody reads the output, or it cannot be written ---------------------------------------


def closed_pipe():
    """Return the writing end of a pipe whose reader has gone."""
    read, write = os.pipe()
    os.close(read)
    return open(write, "w")


@pytest.mark.parametrize(
    "arguments",
    [
        ["claims"],
        ["data", "list"],
        ["data", "card", "celeba"],
        ["doctor"],
        ["--help"],
        ["--version"],
    ],
    ids=" ".join,
)
def test_a_closed_pipe_ends_every_command_quietly(monkeypatch, capsys, arguments):
    claims = claims_command.load()[:3]
    monkeypatch.setattr(claims_command, "load", lambda: claims)
    with closed_pipe() as pipe, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", pipe)
        assert cli.main(arguments) == exits.CLOSED_PIPE
    assert capsys.readouterr().err == ""


def test_nothing_is_said_after_the_end_either():
    command = [sys.executable, "-m", "splitlab.course.cli", "data", "list"]
    with closed_pipe() as pipe:
        ended = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (exits.CLOSED_PIPE, "")


def test_a_full_disk_below_the_output_is_one_sentence(monkeypatch, capsys):
    with open("/dev/full", "w") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        assert cli.main(["data", "list"]) == 2
    err = capsys.readouterr().err
    assert err == "splitlab: a write has failed (No space left on device): make room\n"


def test_what_goes_to_a_closed_stderr_does_not_get_among_the_results(monkeypatch, capfd):
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setenv("SPLITLAB_DATA", "/nowhere")
    assert cli.main(["attack", "fsha", "--data", "mnist", "--json"]) == 2
    assert capfd.readouterr().out == ""


# --- stopped --------------------------------------------------------------------------------


@pytest.fixture
def heeds_ctrl_c():
    """Ctrl-C is not ignored, as it is in what a shell starts in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_ctrl_c")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_a_command_with_a_sentence(monkeypatch, capsys, number, status):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(sl, "train", lambda *args, **options: signal.raise_signal(number))
    assert cli.main(["attack", "fsha", "--steps", "1", "--json"]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.strip() == "splitlab: stopped before the end; nothing is left half-written."
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_that_is_to_be_ignored_stays_so():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with exits.terminable():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_thread_may_run_a_command():
    statuses = []
    thread = threading.Thread(target=lambda: statuses.append(exits.run("it", lambda: 1)))
    thread.start()
    thread.join()
    assert statuses == [1]


@dataclass(frozen=True)
class Job:
    """What a process of `measured` runs in place of an experiment."""

    name: str
    does: str
    folder: Path
    steps: int = 1

    def row(self):
        ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        (self.folder / self.name).write_text("ignores Ctrl-C" if ignored else "heeds Ctrl-C")
        if self.does == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(600)


def jobs(folder, does):
    return [Job(f"{does} {n}", does, folder) for n in range(2)]


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_a_signal_ends_the_processes_that_rerun_experiments(tmp_path):
    def stop():
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.02)
        processes.extend(multiprocessing.active_children())
        signal.pthread_kill(main.ident, signal.SIGTERM)

    processes, main = [], threading.main_thread()
    thread = threading.Thread(target=stop, daemon=True)
    thread.start()
    with pytest.raises(exits.Terminated), exits.terminable():
        reruns.measured(jobs(tmp_path, "waits"), jobs=2)
    thread.join()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [-signal.SIGTERM] * 2
    # Ctrl-C is for the process that started them: it ends them.
    assert {file.read_text() for file in tmp_path.iterdir()} == {"ignores Ctrl-C"}
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN


def test_a_process_that_is_killed_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"was killed.*use fewer --jobs than 2") as caught:
        reruns.measured(jobs(tmp_path, "dies"), jobs=2)
    assert exits.foreseen(caught.value)


# --- errors ---------------------------------------------------------------------------------


def failing(error):
    def fail(*args, **options):
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/some/run.ckpt"),
            "/some/run.ckpt cannot be used (No space left on device): make room",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/some/run.ckpt"),
            "/some/run.ckpt cannot be used (Permission denied): check the path and your right",
        ),
        (FileNotFoundError("there is no recorded run: make it"), "there is no recorded run: make"),
        (sl.DataError("mnist:\nis damaged"), "mnist: is damaged"),
        (torch.OutOfMemoryError("CUDA out of memory.\nTried"), "there is too little memory: use"),
        (MemoryError(), "there is too little memory: use --device cpu"),
    ],
)
def test_an_error_that_was_foreseen_is_one_sentence(monkeypatch, capsys, error, sentence):
    monkeypatch.setattr(sl, "train", failing(error))
    assert cli.main(["attack", "fsha", "--steps", "1", "--json"]) == 2
    out, err = capsys.readouterr()
    last = err.splitlines()[-1]
    assert out == "" and last.startswith("splitlab: ") and sentence in last and len(last) < 400


@pytest.mark.parametrize(
    "error", [ValueError("not ours"), TypeError("a bug"), RuntimeError("of torch"), KeyError("x")]
)
def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch, error):
    monkeypatch.setattr(sl, "train", failing(error))
    with pytest.raises(type(error)):
        cli.main(["attack", "fsha", "--steps", "1"])


def test_an_error_that_python_raises_in_our_code_is_a_fault_of_the_program():
    inside = compile("int('x')", str(exits.PACKAGE / "settings.py"), "exec")
    with pytest.raises(ValueError, match="invalid literal") as caught:
        exec(inside)
    assert not exits.foreseen(caught.value)


# --- the scripts in benchmarks/ -------------------------------------------------------------


def script(name):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("records", ["--minutes", "nan"], "--minutes is nan: choose a number of at least 0"),
        ("records", ["--minutes", "-1"], "--minutes is -1: choose a number of at least 0"),
        ("records", ["--minutes", "soon"], "argument --minutes: 'soon' is not a number"),
        ("records", ["--profile", "gpu"], "invalid choice: 'gpu'"),
        ("choose_tiny", ["--data", "celeba"], "invalid choice: 'celeba'"),
        ("choose_inversion", ["--cut", "9"], "invalid choice: 9"),
        ("picture", ["x"], "unrecognized arguments: x"),
    ],
)
def test_a_script_refuses_in_one_line(monkeypatch, capsys, name, arguments, sentence):
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        script(name).main()
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert sentence in err and err.count("\n") == 1


def test_records_refuses_a_device_that_is_none(capsys):
    assert script("records").main(["--device", "toaster", "--list"]) == 2
    assert capsys.readouterr() == (
        "",
        "records.py: there is no device 'toaster': choose auto, cpu, cuda or cuda:N\n",
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nosuch", "--seed", "1"], "no claim is called 'nosuch': `splitlab claims` lists them"),
        (["hijack-draws-digit"], "did you mean hijack-draws-digits? "),
        (["hijack-draws-digits", "--seed", "-1"], "choose a whole number from 0 to 4294967295"),
        (["hijack-draws-digits", "--seed", str(2**32)], "--seed is 4294967296: choose a whole"),
        (["--jobs", "0"], "--jobs is 0: use at least one process"),
    ],
)
def test_wrong_requests_to_claims_get_one_sentence(capsys, arguments, sentence):
    assert cli.main(["claims", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and sentence in err and err.count("\n") == 1 and len(err) < 400
