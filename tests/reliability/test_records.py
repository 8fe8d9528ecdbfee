"""`make records`: resumes what was stopped, makes nothing twice, and says what is left."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

import splitlab as sl
from splitlab.course import record_files
from splitlab.course.experiments import CpuTime, Hijack, SplitAgainstWhole

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "records.py"


def script():
    spec = importlib.util.spec_from_file_location("records", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def records(tmp_path, monkeypatch, short_referee):
    """The script, in an empty folder, with a record and two rows of twelve steps to make."""
    module = script()
    runs = tmp_path / "runs"
    runs.mkdir()
    monkeypatch.setattr(module, "RUNS", runs)
    monkeypatch.setattr(sl.records, "RUNS", runs)
    monkeypatch.setattr(module, "CHECKPOINTS", tmp_path / "build")
    jobs = [
        Hijack("short", "fast", 0, 12),
        Hijack("table", "no hijack", 5, 12, design=None),
        SplitAgainstWhole("table", "vanilla", 5, 12),
        Hijack("at_scale", "fast", 1, 12, data="mnist", profile="paper"),
    ]
    monkeypatch.setattr(module, "experiments", lambda: jobs)
    return module


def test_records_are_made_once_and_can_be_read(records, capsys):
    assert records.main(["--list"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "short: fast/0: still to do",
        "table: no hijack/5: still to do",
        "table: vanilla/5: still to do",
    ]
    assert records.main([]) == 0
    short = sl.experiments.recorded("short")
    (attacked,) = short
    assert attacked["config"] == records.experiments()[0].config
    table = sl.experiments.recorded("table")
    (row,) = table.of("no hijack")
    assert (row["run"], row["seed"], row["steps"]) == ("no hijack", 5, 12)
    assert row["config"] == records.experiments()[1].config
    assert row["cpu_seconds"] > 0
    assert set(row["rows"]) == set(attacked["rows"])
    (row,) = table.of("vanilla")
    assert row["difference"] <= 1e-6
    assert row["accuracy"] == pytest.approx(row["whole_accuracy"], abs=0.01)
    z, labels = 32 * 32 * 4 * 4 * 4, 32 * 8  # float32 and int64
    assert row["bytes_per_step"] == 2 * z + labels
    assert table.label == short.label.replace("short", "table")
    assert not list(records.CHECKPOINTS.glob("*"))

    before = {path: path.read_bytes() for path in records.RUNS.iterdir()}
    capsys.readouterr()
    assert records.main([]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "short: fast/0: is there",
        "table: no hijack/5: is there",
        "table: vanilla/5: is there",
    ]
    assert before == {path: path.read_bytes() for path in records.RUNS.iterdir()}


def test_a_stopped_run_goes_on_and_gives_the_same_record(records, capsys, monkeypatch):
    job = records.experiments()[0]
    assert records.main(["short"]) == 0
    (uninterrupted,) = sl.records.rows_of(records.RUNS / "short.json").values()
    (records.RUNS / "short.json").unlink()

    monkeypatch.setattr(records, "every", lambda job: 5)
    with pytest.raises(records.OutOfTime):
        records.make(job, records.torch.device("cpu"), stop_at=0.0)
    assert list(records.CHECKPOINTS.iterdir()) == [records.checkpoint(job)]
    assert sl.files.load(records.checkpoint(job))["step"] == 5
    assert records.main(["short"]) == 0
    (resumed,) = sl.records.rows_of(records.RUNS / "short.json").values()
    for row in (resumed, uninterrupted):
        del row["cpu_seconds"], row["hash"]
    assert resumed == uninterrupted


def test_without_time_nothing_is_begun(records, capsys):
    assert records.main(["--minutes", "0"]) == 1
    assert "short: fast/0: still to do" in capsys.readouterr().out
    assert not list(records.RUNS.iterdir())


def test_stale_rows_are_made_anew(records, monkeypatch, capsys):
    job = records.experiments()[2]
    name, path = f"{job.run}/{job.seed}", records.RUNS / "table.json"

    def left(row):
        row = row | {"run": job.run, "seed": job.seed}
        row["hash"] = sl.records.row_hash(row)
        record_files.write_table(path, "", {name: row})
        records.main(["table", "--list"])
        return "vanilla/5: still to do" in capsys.readouterr().out

    row = {"numerics": sl.NUMERICS, "config": job.config}
    assert not left(row)
    assert left(row | {"config": job.config | {"cut": 3}})
    assert not left(row | {"config": {}, "historical": "it took a week"})
    monkeypatch.setattr(sl.records, "NUMERICS", sl.NUMERICS + 1)
    assert left(row)


def test_missing_data_is_said_and_the_rest_is_tried(records, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("SPLITLAB_DATA", str(tmp_path))
    assert records.main(["--profile", "paper"]) == 1
    shown = capsys.readouterr()
    assert "at_scale: fast/1: still to do" in shown.out
    assert "mnist" in shown.err.lower()


def test_the_cpu_budget_counts_across_resumes(records, make_client, make_attack, tmp_path):
    def train(budget, steps):
        clock = CpuTime(budget)
        path = tmp_path / "run.ckpt"
        sl.train([make_client()], make_attack(), steps, observers=[clock], checkpoint=path)
        return clock.seconds

    first = train(None, 2)
    assert train(None, 2) == first > 0
    assert train(None, 3) > first
    with pytest.raises(TimeoutError):
        train(first, 4)


def test_a_damaged_checkpoint_is_said_and_kept(records, capsys):
    job = records.experiments()[0]
    checkpoint = records.checkpoint(job)
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"not whole")
    assert records.main(["short"]) == 1
    assert "delete it to start over" in capsys.readouterr().err
    assert checkpoint.read_bytes() == b"not whole"


def test_unknown_names_are_refused(records, capsys):
    with pytest.raises(SystemExit):
        records.main(["moon"])
    assert (
        "no record is called 'moon': choose from short, table, at_scale" in capsys.readouterr().err
    )


def test_the_real_experiments_cover_the_tables_that_chapters_read():
    records = script()
    for table in ("digits_tiny", "leaks_tiny", "mnist_paper_scale", "split_tiny"):
        jobs = [job for job in records.experiments() if job.table == table]
        rows = sl.records.rows_of(records.RUNS / f"{table}.json")
        assert {f"{job.run}/{job.seed}" for job in jobs} == set(rows)
        assert all(records.done(job) for job in jobs)
    checkpoints = [records.checkpoint(job) for job in records.experiments()]
    assert len(set(checkpoints)) == len(checkpoints)
    job = records.experiments()[0]
    assert records.checkpoint(replace(job, seed=7)) != records.checkpoint(job)
