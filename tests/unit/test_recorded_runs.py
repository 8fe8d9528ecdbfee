"""Recorded runs: found, summarised, and complete enough for what the chapters say."""

import dataclasses
import datetime
import json
import shutil
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import splitlab as sl
from splitlab import course
from splitlab.course import experiments, records, watched_runs

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
    with pytest.raises(
        FileNotFoundError, match=r"no recorded run 'moon'.*benchmarks/records\.py moon"
    ):
        sl.replay("moon")


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
        scores = fast["metrics"]
        assert scores["mse"] <= 0.75 * fast["floors"]["nearest_public"]["mse"]
        assert scores["recognized"] >= 0.88
        assert scores["matched"] > slow["metrics"]["matched"]
    mnist = experiments.recorded("mnist_paper_scale")
    assert all(run["n_match"] == 1000 for run in mnist)
    for run in mnist.of("fast"):
        assert run["received"]["mse"] <= 0.030
        assert run["received"]["matched"] >= 0.99


CONFIG = {"profile": "tiny", "data": "digits", "seed": 0, "betas": (0.5, 0.9)}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder of recorded runs in place of the package's."""
    folder = tmp_path / "runs"
    folder.mkdir()
    monkeypatch.setattr(records, "RUNS", folder)
    return folder


@pytest.fixture
def run(make_client, make_attack, digits, folder):
    """A watched run of four steps, and a function that records it in a folder of its own."""
    client, attack, snapshots = make_client(), make_attack("paper"), sl.Snapshots(2, images=3)
    log = sl.train([client], attack, 4, observers=[snapshots])
    data = {"private": digits[0], "public": digits[1]}

    def write(name="hijack", **changes):
        arguments = {"config": CONFIG, "data": data, "log": log, "snapshots": snapshots}
        return watched_runs.write(name, **arguments | changes)

    return SimpleNamespace(
        write=write, log=log, snapshots=snapshots, data=data, client=client, attack=attack
    )


def edit(**changes):
    """Change entries of the record's JSON file."""
    path = records.RUNS / "hijack.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_record_gives_back_what_was_recorded(run, digits):
    report = sl.evaluate(run.client, run.attack, digits[2], n_match=100)
    run.write(report=report)
    replayed = sl.replay("hijack", CONFIG, data=run.data)
    assert replayed.log.steps == 4
    assert replayed.log.names() == run.log.names()
    for name in run.log:
        assert replayed.log[name] == pytest.approx(run.log[name], rel=1e-5)
    assert replayed.report["metrics"] == pytest.approx(report.metrics, rel=1e-5)
    assert replayed.report["notes"] == list(report.notes)
    step = 1 / 255  # half of one of 256 levels of -1..1
    for before, after in zip(run.snapshots.taken, replayed.snapshots.taken, strict=True):
        assert after.step == before.step
        assert after.mse == pytest.approx(before.mse, rel=1e-5)
        torch.testing.assert_close(after.images, before.images, rtol=0, atol=step + 1e-6)
    torch.testing.assert_close(
        replayed.snapshots.private, run.snapshots.private, rtol=0, atol=step + 1e-6
    )
    assert replayed.versions["torch"] == torch.__version__
    assert "hijack" in replayed.label
    assert "cpu, 1 thread" in replayed.label
    assert "earlier source" not in replayed.label


def test_figures_and_the_scrubber_take_a_record(run):
    replayed = run.write()
    frames = sl.figures.frames(replayed.snapshots, replayed.log)
    assert [frame.label for frame in frames] == ["0", "2", "4"]
    assert len(sl.scrubber.Scrubber(frames, label="step").children) > 0
    figure = sl.figures.strip({"taken": replayed.snapshots.taken[-1].images}, value_range=(-1, 1))
    assert (
        replayed.label
        in sl.figures.show(figure, alt="A strip.", record=replayed.label)._repr_html_()
    )


def test_a_record_is_small_and_rounded(run):
    run.write()
    files = sorted(path.name for path in records.RUNS.iterdir())
    assert files == ["hijack.json", "hijack.safetensors"]
    pictures = 4 * 3 * 16 * 16  # private and three snapshots, one byte a pixel
    assert (records.RUNS / "hijack.safetensors").stat().st_size < pictures + 3000
    losses = json.loads((records.RUNS / "hijack.json").read_text())["log"]["metrics"]["client_loss"]
    assert all(float(f"{loss:.6g}") == loss for loss in losses)


def test_grey_images_of_three_channels_are_stored_as_one(run):
    def thrice(images):
        return images.expand(-1, 3, -1, -1)

    snapshots = sl.Snapshots(2, images=3)
    snapshots.private = thrice(run.snapshots.private)
    for taken in run.snapshots.taken:
        snapshots.taken.append(dataclasses.replace(taken, images=thrice(taken.images)))
    back = run.write(snapshots=snapshots).snapshots
    assert back.private.shape == back.taken[0].images.shape == (3, 3, 16, 16)
    assert (records.RUNS / "hijack.safetensors").stat().st_size < 4 * 3 * 16 * 16 + 3000


def test_numbers_that_json_lacks_come_back(run):
    log = sl.Log()
    for value in (float("nan"), float("inf"), float("-inf"), 1 / 3):
        log.append({"loss": torch.tensor(value)})
    log.append({})
    nan, *others = run.write(log=log, snapshots=None).log.state_dict()["metrics"]["loss"]
    assert nan != nan
    assert others == [float("inf"), float("-inf"), 0.333333, None]


def test_a_record_without_snapshots_removes_those_of_an_earlier_one(run):
    run.write()
    assert run.write(snapshots=None).snapshots is None
    assert [path.name for path in records.RUNS.iterdir()] == ["hijack.json"]


STALE = {
    "seed": (CONFIG | {"seed": 1}, "seed: 0 recorded, 1 asked for"),
    "new option": (CONFIG | {"cut": 2}, "cut: absent recorded, 2 asked for"),
    "lost option": ({k: v for k, v in CONFIG.items() if k != "data"}, "data: digits recorded"),
}


@pytest.mark.parametrize("case", STALE)
def test_a_record_of_another_configuration_is_refused(run, case):
    run.write(command="make it so")
    config, sentence = STALE[case]
    with pytest.raises(
        sl.StaleRecord, match=rf"stale \({sentence}.*make it anew with `make it so`"
    ):
        sl.replay("hijack", config)
    assert sl.replay("hijack").config["seed"] == 0  # nobody said what it should be


def test_a_record_of_other_data_is_refused(run):
    run.write()
    with pytest.raises(sl.StaleRecord, match="the public data are others"):
        sl.replay("hijack", data=run.data | {"public": run.data["public"].subset(20)})


def test_a_record_of_other_mathematics_is_refused(run, monkeypatch):
    run.write()
    now = records.NUMERICS + 1
    monkeypatch.setattr(records, "NUMERICS", now)
    with pytest.raises(sl.StaleRecord, match=f"made with NUMERICS {now - 1}, now {now}"):
        sl.replay("hijack", CONFIG)


def test_a_stale_record_marked_historical_is_shown_as_such(run, monkeypatch):
    run.write()
    monkeypatch.setattr(records, "NUMERICS", records.NUMERICS + 1)
    edit(historical="")
    with pytest.raises(sl.StaleRecord):
        sl.replay("hijack", CONFIG | {"seed": 1})
    edit(historical="took a week on a machine that is gone")
    replayed = sl.replay("hijack", CONFIG | {"seed": 1})
    assert "historical: took a week on a machine that is gone" in replayed.label


def test_a_record_made_with_another_source_says_so(run, monkeypatch):
    made = run.write()
    monkeypatch.setattr(records, "source_hash", lambda: "another")
    replayed = sl.replay("hijack", CONFIG)
    assert "made with an earlier source" in replayed.label
    assert replayed.key == made.key


def test_the_source_hash_covers_what_computes_and_not_what_draws(tmp_path, monkeypatch):
    library = tmp_path / "splitlab"
    shutil.copytree(ROOT / "splitlab", library, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(records, "__file__", str(library / "course" / "records.py"))
    before = records.source_hash()

    def after_a_change(path):
        original = (library / path).read_text()
        (library / path).write_text(original + "# changed\n")
        changed = records.source_hash()
        (library / path).write_text(original)
        return changed

    computing = ("attacks/fsha.py", "nets/paper.py", "data/mnist.py", "core/party.py")
    for path in (*computing, "defenses/norms.py", "referee/metrics.py", "settings.py"):
        assert after_a_change(path) != before, path
    for path in ("show/figures.py", "course/records.py"):
        assert after_a_change(path) == before, path
    assert records.source_hash() == before


def damage_json(text):
    (records.RUNS / "hijack.json").write_text(text)


DAMAGES = {
    "half a file": (lambda: damage_json('{"format": 1, '), "it is not whole"),
    "not a record": (lambda: damage_json("[]"), "something is missing"),
    "another format": (lambda: edit(format=2), "its format is 2"),
    "edited": (lambda: edit(config=CONFIG | {"seed": 5}), "key does not belong"),
    "no pictures": (
        lambda: (records.RUNS / "hijack.safetensors").unlink(),
        "hijack.safetensors is missing, or of another run",
    ),
    "other pictures": (
        lambda: (records.RUNS / "hijack.safetensors").write_bytes(b"other"),
        "hijack.safetensors is missing, or of another run",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_is_refused_in_one_sentence(run, damage):
    run.write()
    do, sentence = DAMAGES[damage]
    do()
    with pytest.raises(ValueError, match=sentence) as error:
        sl.replay("hijack")
    assert "restore it with git" in str(error.value)


def test_the_recorded_hijack_is_of_the_present_data_and_mathematics(digits):
    data = {"private": digits[0], "public": digits[1]}
    replayed = sl.replay("hijack_digits", data=data)
    steps = sl.tiny.default_steps("digits")
    assert replayed.log.steps == steps == replayed.config["steps"]
    assert replayed.config["client_rate"] == sl.tiny.client_rate
    assert replayed.report["metrics"]["matched"] >= 0.95
    errors = [taken.mse for taken in replayed.snapshots.taken]
    assert errors[-1] < 0.3 * errors[0]


def test_a_table_of_runs_is_no_record_of_one():
    with pytest.raises(
        ValueError, match=r"table of runs.*sl\.experiments\.recorded\('digits_tiny'\)"
    ):
        sl.replay("digits_tiny")


@pytest.fixture
def table(folder):
    """A function that writes rows of the table split_tiny into a folder of its own."""

    def write(run="vanilla", seed=7, config=None, **figures):
        defined = experiments.find("split_tiny", "vanilla", seed).config
        row = {"run": run, "seed": seed, "config": defined | (config or {})}
        records.write_row("split_tiny", row | figures)

    return write


def edit_rows(**changes):
    path = records.RUNS / "split_tiny.json"
    content = json.loads(path.read_text())
    content["rows"] = {key: row | changes for key, row in content["rows"].items()}
    path.write_text(json.dumps(content))


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
    expected = f"split_tiny, recorded {today} on cpu, 1 thread, splitlab {sl.__version__}"
    assert runs.label == some.label == expected


def test_the_label_of_a_table_says_when_its_rows_differ(table, monkeypatch):
    table(seed=8)
    edit_rows(made="2025-01-02", device="a big one")
    table(seed=7)  # comes first, and was made last
    label = experiments.recorded("split_tiny").label
    assert f"recorded 2025-01-02 to {datetime.date.today().isoformat()}" in label
    assert "on cpu, 1 thread and a big one, splitlab" in label
    assert "earlier source" not in label
    monkeypatch.setattr(records, "source_hash", lambda: "another")
    table(seed=9)
    assert "made with an earlier source" in experiments.recorded("split_tiny").label


def test_a_table_with_a_row_of_another_configuration_is_refused(table):
    table()
    table(seed=8, config={"steps": 3})
    with pytest.raises(
        sl.StaleRecord,
        match=r"vanilla/8: steps: 3 recorded, 400 asked for\).*`python benchmarks/records\.py "
        "split_tiny`",
    ):
        experiments.recorded("split_tiny")
    edit_rows(historical="it took a week")
    assert "historical: it took a week" in experiments.recorded("split_tiny").label


def test_a_table_of_other_mathematics_is_refused(table, monkeypatch):
    table()
    table(seed=8)
    now = records.NUMERICS + 1
    monkeypatch.setattr(records, "NUMERICS", now)
    sentence = rf"stale \(vanilla/7: made with NUMERICS {now - 1}, now {now}; and 1 more\)"
    with pytest.raises(sl.StaleRecord, match=sentence):
        experiments.recorded("split_tiny")


def test_rows_that_do_not_say_how_they_were_made_are_refused(folder):
    path = folder / "own.json"
    path.write_text('{"rows": {"a/1": {"run": "a", "seed": 1}}}')
    with pytest.raises(sl.StaleRecord, match="made with NUMERICS None"):
        experiments.recorded("own")
    path.write_text('{"rows": {"a/1": {"run": "a", "seed": 1, "historical": "from a paper"}}}')
    assert experiments.recorded("own").label == "own; historical: from a paper"


@pytest.mark.parametrize("text", ['{"rows": {', "[]", '{"format": 1}'])
def test_a_damaged_table_is_refused_in_one_sentence(table, text):
    (records.RUNS / "split_tiny.json").write_text(text)
    for touch in (lambda: experiments.recorded("split_tiny"), table):
        with pytest.raises(ValueError, match=r"no whole table of runs.*restore it with git"):
            touch()
    assert (records.RUNS / "split_tiny.json").read_text() == text


def test_quoted_curves_are_marked_as_such():
    assert "historical: measured once" in experiments.recorded("mnist_public_code").label


def test_what_cannot_be_recorded_is_refused(run, folder):
    with pytest.raises(ValueError, match="a record cannot be called"):
        run.write("../elsewhere")
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
    assert brought >= {*records.RUNS.iterdir()}
    assert {path.name for path in brought} >= {
        "digits_tiny.json",
        "mnist_paper_scale.json",
        "mnist_public_code.json",
        "split_tiny.json",
    }
