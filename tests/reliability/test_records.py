"""`make records`: resumes what was stopped, makes nothing twice, and says what is left."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import splitlab as sl

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "records.py"


@pytest.fixture
def records(tmp_path, monkeypatch):
    """The script, in an empty folder, with a row and a record of twelve steps to make."""
    spec = importlib.util.spec_from_file_location("records", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "records", module)
    spec.loader.exec_module(module)
    runs = tmp_path / "book" / "runs"
    runs.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "RUNS", runs)
    monkeypatch.setattr(module, "CHECKPOINTS", tmp_path / "build")
    jobs = [
        module.Job("short", "", "digits", 0, 12),
        module.Job("table", "no hijack", "digits", 5, 12, None),
        module.Job("at_scale", "fast", "mnist", 1, 12, profile="paper"),
    ]
    monkeypatch.setattr(module, "jobs", lambda: jobs)
    return module


def test_records_are_made_once_and_can_be_read(records, capsys):
    assert records.main(["--list"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "short: still to do",
        "table: no hijack/5: still to do",
    ]
    assert records.main([]) == 0
    job = records.jobs()[0]
    replayed = sl.replay("short", job.config)
    assert replayed.log.steps == 12
    assert replayed.command == "python benchmarks/records.py short"
    assert len(replayed.snapshots.taken) == 13
    (row,) = sl.record.recorded("table")
    assert (row["run"], row["seed"], row["steps"]) == ("no hijack", 5, 12)
    assert row["cpu_seconds"] > 0
    assert set(row["metrics"]) == set(replayed.report["metrics"])
    assert not list(records.CHECKPOINTS.glob("*"))

    before = {path: path.read_bytes() for path in records.RUNS.iterdir()}
    capsys.readouterr()
    assert records.main([]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "short: is there",
        "table: no hijack/5: is there",
    ]
    assert before == {path: path.read_bytes() for path in records.RUNS.iterdir()}


def test_a_stopped_run_goes_on_and_gives_the_same_record(records, capsys, monkeypatch):
    job = records.jobs()[0]
    assert records.main(["short"]) == 0
    uninterrupted = json.loads((records.RUNS / "short.json").read_text())
    (records.RUNS / "short.json").unlink()

    monkeypatch.setattr(records.Job, "every", 5)
    with pytest.raises(records.OutOfTime):
        job.make(records.torch.device("cpu"), stop_at=0.0)
    assert [path.name for path in records.CHECKPOINTS.iterdir()] == [job.checkpoint.name]
    assert sl.checkpoint.load(job.checkpoint)["step"] == 5
    assert records.main(["short"]) == 0
    resumed = json.loads((records.RUNS / "short.json").read_text())
    for name in ("key", "report", "pictures"):
        assert resumed[name] == uninterrupted[name]
    assert resumed["log"]["metrics"] == uninterrupted["log"]["metrics"]


def test_without_time_nothing_is_begun(records, capsys):
    assert records.main(["--minutes", "0"]) == 1
    assert "short: still to do" in capsys.readouterr().out
    assert not list(records.RUNS.iterdir())


def test_raised_numerics_make_records_anew(records, monkeypatch, capsys):
    (records.RUNS / "table.json").write_text('{"rows": {"no hijack/5": {"numerics": 1}}}')
    assert records.main(["table", "--list"]) == 0
    monkeypatch.setattr(records, "NUMERICS", 2)
    assert records.main(["table", "--list"]) == 1


def test_missing_data_is_said_and_the_rest_is_tried(records, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("SPLITLAB_DATA", str(tmp_path))
    assert records.main(["--profile", "paper"]) == 1
    shown = capsys.readouterr()
    assert "at_scale: fast/1: still to do" in shown.out
    assert "mnist" in shown.err.lower()


def test_the_cpu_budget_counts_across_resumes(records, make_client, make_attack, tmp_path):
    def train(budget, steps):
        clock = records.CpuTime(budget)
        path = tmp_path / "run.ckpt"
        sl.train([make_client()], make_attack(), steps, observers=[clock], checkpoint=path)
        return clock.seconds

    first = train(None, 2)
    assert train(None, 2) == first > 0
    assert train(None, 3) > first
    with pytest.raises(TimeoutError):
        train(first, 4)


def test_a_damaged_checkpoint_is_said_and_kept(records, capsys):
    job = records.jobs()[0]
    job.checkpoint.parent.mkdir()
    job.checkpoint.write_bytes(b"not whole")
    assert records.main(["short"]) == 1
    assert "delete it to begin anew" in capsys.readouterr().err
    assert job.checkpoint.read_bytes() == b"not whole"


def test_unknown_names_are_refused(records, capsys):
    with pytest.raises(SystemExit):
        records.main(["moon"])
    assert (
        "no record is called 'moon': choose from short, table, at_scale" in capsys.readouterr().err
    )


def test_the_real_jobs_cover_the_tables_that_chapters_read():
    spec = importlib.util.spec_from_file_location("real_records", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["real_records"] = module
    spec.loader.exec_module(module)
    for file in ("digits_tiny", "mnist_paper_scale"):
        made = {f"{job.run}/{job.seed}" for job in module.jobs() if job.file == file}
        assert made == set(module.rows_of(file))
    checkpoints = [job.checkpoint for job in module.jobs()]
    assert len(set(checkpoints)) == len(checkpoints)
    job = module.jobs()[0]
    assert replace(job, seed=7).checkpoint != job.checkpoint
