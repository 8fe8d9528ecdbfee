"""Recorded runs: found, summarised, and complete enough for what the chapters say."""

import datetime
import json
import shutil
import threading
import tomllib
from pathlib import Path

import pytest

import splitlab as sl
from splitlab import course
from splitlab.course import experiments, record_files, records

ROOT = Path(__file__).parents[2]


def test_records_are_found_from_below_and_from_elsewhere(monkeypatch, tmp_path):
    for folder in (ROOT / "book", tmp_path):
        monkeypatch.chdir(folder)
        assert experiments.recorded("digits_tiny")


def test_a_missing_record_says_how_to_get_it():
    with pytest.raises(
        FileNotFoundError, match=r"no recorded run 'moon'.*benchmarks/records\.py moon"
    ):
        experiments.recorded("moon")


def test_ranges_take_paths_and_functions():
    runs = [
        {"run": "b", "steps": 300, "metrics": {"mse": value}} for value in (0.25, 0.75, 0.5)
    ] + [{"run": "a", "steps": 300, "metrics": {"mse": 1.0}}]
    columns = {"steps": "steps", "mse": "metrics.mse", "double": lambda r: 2 * r["metrics"]["mse"]}
    assert [[str(cell) for cell in row] for row in records.ranges(runs, columns).rows] == [
        ["b", "3", "300", "0.500 (0.250 to 0.750)", "1.000 (0.500 to 1.500)"],
        ["a", "1", "300", "1.000", "2.000"],
    ]


def test_window_means_drop_the_last_partial_window():
    assert records.window_means([1, 3, 5, 7, 100], width=2) == ([2, 4], [2.0, 6.0])
    assert records.window_means([1.0], width=2) == ([], [])


def test_the_digits_record_has_every_design_on_at_least_five_seeds():
    seeds = {}
    for run in experiments.recorded("digits_tiny"):
        seeds.setdefault(run["run"], set()).add(run["seed"])
    assert set(seeds) == {"fast", "paper", "paper, ten times the steps", "no hijack"}
    assert len(seeds["fast"]) >= 5
    assert all(others == seeds["fast"] for others in seeds.values())


def test_the_mnist_record_has_what_the_chapter_compares():
    runs = experiments.recorded("mnist_paper_scale")
    assert sum(run["run"] == "fast" for run in runs) >= 3
    rates = {(run["run"].split(",")[0], run["config"]["client_rate"]) for run in runs}
    assert rates == {("fast", 1e-5), ("fast", 3e-4), ("paper", 1e-5), ("paper", 3e-4)}
    assert all(len(run["received_mse"]) == run["steps"] for run in runs)


def test_recorded_hijacks_hold_what_the_chapter_says_beside_its_claims():
    """Every seed, not the mean. The claims themselves: claims.yml and tests/claims."""
    digits = experiments.recorded("digits_tiny")
    for fast, slow in zip(digits.of("fast"), digits.of("paper, ten times the steps"), strict=True):
        assert fast["seed"] == slow["seed"]
        scores = fast["rows"]["attack"]
        assert scores["mse"] <= 0.75 * fast["rows"]["nearest_public"]["mse"]
        assert scores["recognized"] >= 0.88
        assert scores["matched"] > slow["rows"]["attack"]["matched"]
    mnist = experiments.recorded("mnist_paper_scale")
    assert all(run["n"] == 1000 for run in mnist)
    for run in mnist.of("fast"):
        assert run["rows"]["as_received"]["mse"] <= 0.030
        assert run["rows"]["as_received"]["matched"] >= 0.99


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder of recorded runs in place of the package's."""
    folder = tmp_path / "runs"
    folder.mkdir()
    monkeypatch.setattr(records, "RUNS", folder)
    return folder


@pytest.fixture
def table(folder):
    """A function that writes rows of the table split_tiny into a folder of its own."""

    def write(run="vanilla", seed=7, config=None, **figures):
        defined = experiments.find("split_tiny", "vanilla", seed).config
        row = {"run": run, "seed": seed, "config": defined | (config or {})}
        records.write_row("split_tiny", row | figures)

    return write


def edit_rows(signed=True, **changes):
    """Change the rows of the table, and their hashes unless told otherwise."""
    path = records.RUNS / "split_tiny.json"
    rows = {key: row | changes for key, row in records.rows_of(path).items()}
    if signed:
        rows = {key: row | {"hash": records.row_hash(row)} for key, row in rows.items()}
    record_files.write_table(path, "make it so", rows)


def test_a_table_gives_back_its_rows_and_says_where_they_come_from(table):
    table(seed=8, difference=0.5)
    table(seed=7, difference=0.25)
    table("other", seed=7, difference=0.125)
    table(seed=8, difference=1.0)
    runs = experiments.recorded("split_tiny")
    assert [(run["run"], run["seed"], run["difference"]) for run in runs] == [
        ("other", 7, 0.125),
        ("vanilla", 7, 0.25),
        ("vanilla", 8, 1.0),
    ]
    some = runs.of("vanilla")
    assert [run["seed"] for run in some] == [7, 8]
    both = runs.of("vanilla", "other")
    assert [(run["run"], run["seed"]) for run in both] == [
        ("vanilla", 7),
        ("vanilla", 8),
        ("other", 7),
    ]
    with pytest.raises(KeyError, match=r"no run of split_tiny is called 'moon'.*other; vanilla"):
        runs.of("vanilla", "moon")
    today = datetime.date.today().isoformat()
    assert runs.label == some.label == f"split_tiny, recorded {today} on cpu, 1 thread"


def test_the_label_of_a_table_says_when_its_rows_differ(table):
    table(seed=8)
    edit_rows(made="2025-01-02", device="a big one")
    table(seed=7)  # comes first, and was made last
    label = experiments.recorded("split_tiny").label
    assert f"recorded 2025-01-02 to {datetime.date.today().isoformat()}" in label
    assert label.endswith("on cpu, 1 thread and a big one")


STALE = {
    "steps": ({"steps": 3}, "steps: 3 recorded, 400 asked for"),
    "lost option": ({"old": 2}, "old: 2 recorded, absent asked for"),
}


@pytest.mark.parametrize("case", STALE)
def test_a_row_of_another_configuration_is_refused(table, case):
    table()
    config, sentence = STALE[case]
    table(seed=8, config=config)
    with pytest.raises(
        sl.StaleRecord,
        match=rf"vanilla/8: {sentence}\).*`python benchmarks/records\.py split_tiny`",
    ):
        experiments.recorded("split_tiny")


def test_rows_of_other_mathematics_are_refused(table, monkeypatch):
    table()
    table(seed=8)
    now = records.NUMERICS + 1
    monkeypatch.setattr(records, "NUMERICS", now)
    sentence = rf"stale \(vanilla/7: made with NUMERICS {now - 1}, now {now}; and 1 more\)"
    with pytest.raises(sl.StaleRecord, match=sentence):
        experiments.recorded("split_tiny")


def test_a_stale_row_that_is_marked_by_hand_is_shown_as_such(table):
    table(config={"steps": 3})
    edit_rows(signed=False, historical="")
    with pytest.raises(sl.StaleRecord):
        experiments.recorded("split_tiny")
    edit_rows(signed=False, historical="it took a week")
    assert "; historical: it took a week" in experiments.recorded("split_tiny").label


def test_rows_that_do_not_say_how_they_were_made_are_refused(folder):
    row = {"run": "a", "seed": 1}
    row["hash"] = records.row_hash(row)
    record_files.write_table(folder / "own.json", "", {"a/1": row})
    with pytest.raises(sl.StaleRecord, match="made with NUMERICS None"):
        experiments.recorded("own")
    row["historical"] = "from a paper"
    record_files.write_table(folder / "own.json", "", {"a/1": row})
    assert experiments.recorded("own").label == "own; historical: from a paper"


@pytest.mark.parametrize(
    "text", ['{"rows": {', "[]", '{"format": 1}', '{"table": "a", "command": "", "rows": [1]}']
)
def test_a_damaged_table_is_refused_in_one_sentence(table, text):
    (records.RUNS / "split_tiny.json").write_text(text)
    for touch in (lambda: experiments.recorded("split_tiny"), table):
        with pytest.raises(ValueError, match="not a complete table of runs: restore it with git"):
            touch()
    assert (records.RUNS / "split_tiny.json").read_text() == text


def test_a_renamed_or_copied_table_is_refused(table):
    table()
    shutil.copy(records.RUNS / "split_tiny.json", records.RUNS / "digits_tiny.json")
    with pytest.raises(ValueError, match=r"holds the table 'split_tiny'.* digits_tiny`"):
        experiments.recorded("digits_tiny")


def test_a_row_under_another_rows_name_is_refused(table):
    table(seed=7)
    table(seed=8)
    path = records.RUNS / "split_tiny.json"
    text = path.read_text()
    path.write_text(text.replace("vanilla/7", "vanilla/9"))
    with pytest.raises(ValueError, match="vanilla/9, that was changed since it was recorded"):
        experiments.recorded("split_tiny")
    path.write_text(text.replace("vanilla/7", "vanilla/8"))  # one would hide the other
    with pytest.raises(ValueError, match="not a complete table"):
        experiments.recorded("split_tiny")


@pytest.mark.parametrize("name", ["split_tiny", "two_dimensions", "mnist_public_code"])
def test_no_digit_can_be_changed_unnoticed(name, tmp_path):
    """Every digit of a small table, or one in so many of a larger one, one at a time."""
    path = tmp_path / f"{name}.json"
    text = records.path_of(name).read_text()
    path.write_text(text)
    assert records.rows_of(path)
    digits = [place for place, letter in enumerate(text) if letter.isdigit()]
    digits = digits[:: max(1, len(digits) // 400)]
    assert len(digits) > 70
    for place in digits:
        other = str((int(text[place]) + 1) % 10)
        path.write_text(text[:place] + other + text[place + 1 :])
        with pytest.raises(ValueError, match=r"restore it with git") as error:
            records.rows_of(path)
        assert path.name in str(error.value)


def test_a_changed_row_is_named_and_its_table_is_not_written(table):
    table(difference=0.25)
    path = records.RUNS / "split_tiny.json"
    text = path.read_text().replace("0.25", "0.35")
    path.write_text(text)
    for touch in (lambda: experiments.recorded("split_tiny"), lambda: table(seed=8)):
        with pytest.raises(ValueError, match=r"has a row, vanilla/7, that was changed since"):
            touch()
    assert path.read_text() == text


def test_every_recorded_table_is_whole_and_in_the_one_layout(tmp_path):
    for path in records.RUNS.glob("*.json"):
        rows = records.rows_of(path)
        assert "source" not in next(iter(rows.values()))
        again = tmp_path / path.name
        record_files.write_table(again, json.loads(path.read_text())["command"], rows)
        assert again.read_bytes() == path.read_bytes()


def test_rows_that_are_written_at_once_are_all_there(folder):
    start = threading.Barrier(3)

    def write(run):
        start.wait()
        for seed in range(10):
            records.write_row("shared", {"run": run, "seed": seed, "config": {}})

    writers = [threading.Thread(target=write, args=(run,)) for run in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    keys = {f"{run}/{seed}" for run in "abc" for seed in range(10)}
    assert records.rows_of(folder / "shared.json").keys() == keys
    assert {path.name for path in folder.iterdir()} <= {"shared.json", "shared.lock"}


def test_quoted_curves_are_marked_as_such():
    quoted = experiments.recorded("mnist_public_code")
    assert "historical: quoted from the log in the authors' public notebook" in quoted.label
    logs = [run for run in quoted if "log" in run["run"]]
    assert [run["mse"][-1] for run in logs] == [0.0256, 0.0267]  # both began at the first step


def test_what_cannot_be_recorded_is_refused(folder):
    with pytest.raises(ValueError, match="a record cannot be called"):
        records.write_row("../elsewhere", {"run": "a", "seed": 1})
    assert list(folder.iterdir()) == []


def test_an_installed_package_brings_the_records():
    """In Colab there is no repository: the records are files of the package."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    package = Path(course.__file__).parent
    assert records.RUNS.parent == package
    patterns = settings["package-data"]["splitlab.course"]
    brought = {path for pattern in patterns for path in package.glob(pattern)}
    assert brought >= {path for path in records.RUNS.iterdir() if path.suffix != ".lock"}
    assert {path.name for path in brought} >= {
        "digits_tiny.json",
        "mnist_paper_scale.json",
        "mnist_public_code.json",
        "split_tiny.json",
    }
