"""The doctor's card: what it says of a machine that has everything, and of one that lacks it."""

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import nbformat
import pytest
import torch
from nbformat.v4 import new_code_cell, new_notebook

import splitlab as sl
from splitlab.course import book, cli, runner, timing
from splitlab.course import doctor as module
from splitlab.course.doctor import doctor
from splitlab.course.timing import about

ROOT = Path(__file__).parents[2]
REAL_STEPS = timing.step_seconds
STEPS = [0.2, 0.1, 0.4]  # seconds; the fastest and the median differ


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch):
    """No test waits for steps that it does not look at, and none sees this machine's data."""
    for place in (module, timing):
        monkeypatch.setattr(place, "step_seconds", lambda: list(STEPS))
    monkeypatch.delenv("SPLITLAB_DATA", raising=False)


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """An empty folder of recorded runs in place of the package's."""
    folder = tmp_path / "runs"
    folder.mkdir()
    monkeypatch.setattr(sl.records, "RUNS", folder)
    return folder


def line(card, what):
    """The card's one line about something: its state and text."""
    (found,) = [finding for finding in card.findings if finding.what == what]
    return found.state, found.text


def problems(card):
    return [finding.what for finding in card.findings if finding.state == "problem"]


def with_versions(monkeypatch, **versions):
    """Pretend that packages have other versions; None: that they are missing."""
    real = importlib.metadata.version

    def version(name):
        if name in versions and versions[name] is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions.get(name) or real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)


# What is there.


def test_a_machine_that_has_everything():
    card = doctor()
    assert card.ok and problems(card) == []
    assert line(card, "Python")[0] == "ok"
    assert f"torch {torch.__version__}" in line(card, "packages")[1]
    assert "1 thread" in line(card, "machine")[1]
    assert line(card, "device cpu") == ("ok", "works")
    assert "digits at 16x16" in line(card, "profile tiny")[1]
    assert line(card, "digits") == ("ok", "bundled with scikit-learn")
    assert line(card, "recorded runs")[0] == "ok"


def test_the_card_is_tables_in_a_notebook_and_text_in_the_shell():
    card = doctor()
    page, text = card._repr_html_(), str(card)
    assert page.count("<table") == page.count("</table>") == 2
    for what in ("packages", "device cpu", "recorded runs", "10_start_here", "the whole course"):
        assert f">{what}</th>" in page
        assert f"\n{what} " in text
    assert repr(card) == text


def test_every_core_package_is_looked_at_and_no_other():
    text = line(doctor(), "packages")[1]
    names = [entry.split()[0] for entry in text.split(", ")]
    core = [r for r in importlib.metadata.requires("splitlab") if ";" not in r]
    assert names == [requirement.partition(">=")[0] for requirement in core]
    assert {"torch", "ipywidgets", "scikit-learn"} <= set(names)
    assert not {"papermill", "nbformat", "pytest"} & set(names)


# What is missing, old or out of reach.


def test_a_missing_package_is_a_problem_with_its_remedy(monkeypatch):
    with_versions(monkeypatch, matplotlib=None)
    card = doctor()
    assert problems(card) == ["matplotlib"] and not card.ok
    assert 'pip install "matplotlib>=3.9"' in line(card, "matplotlib")[1]
    assert "matplotlib" not in line(card, "packages")[1]


def test_an_old_package_is_a_problem_and_its_floor_is_not(monkeypatch):
    with_versions(monkeypatch, ipywidgets="7.6.5", pooch="1.8")
    card = doctor()
    assert problems(card) == ["ipywidgets"]
    assert "7.6.5 is older than 7.7" in line(card, "ipywidgets")[1]


def test_an_old_python_is_a_problem(monkeypatch):
    monkeypatch.setattr(module.platform, "python_version", lambda: "3.10.14")
    assert line(doctor(), "Python")[0] == "problem"


@pytest.mark.parametrize(
    ("version", "floor", "older"),
    [
        ("2.13.0+cpu", "2.6", False),  # by number, not by letter
        ("2.5.1+cu121", "2.6", True),
        ("2.6", "2.6.0", False),
        ("10", "10.0", False),
        ("1.9.9", "2", True),
        ("3.9.0rc1", "3.9", False),
        ("7.7.1", "", False),
    ],
)
def test_versions_compare_as_numbers(version, floor, older):
    assert module._older(version, floor) is older


def test_a_library_that_is_not_installed_is_a_note(monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "metadata", absent)
    card = doctor()
    assert card.ok
    assert line(card, "packages")[0] == "note"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_a_problem():
    card = doctor("gpu", "cuda")
    assert "device cuda" in problems(card)
    assert line(card, "device cuda")[1].endswith(': set device to "cpu"')
    assert "none that torch can use" in line(card, "GPU")[1]


@pytest.mark.parametrize("device", ["toaster", "meta", "cuda:99"])
def test_a_device_that_does_not_compute_is_a_problem_in_one_line(device):
    card = doctor(device=device)
    assert problems(card) == [f"device {device}"]
    assert "\n" not in line(card, f"device {device}")[1]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("no kernel image.\nCompile with"), "(no kernel image)"),
        (OSError(), "(OSError)"),
    ],
)
def test_a_long_or_an_empty_error_of_torch_is_one_line(monkeypatch, error, words):
    def ones(*shape, device):
        raise error

    monkeypatch.setattr(torch, "ones", ones)
    state, text = line(doctor(), "device cpu")
    assert state == "problem"
    assert text.startswith(f"does not work here {words}: ")


def test_a_gpu_whose_driver_does_not_work_counts_as_none(monkeypatch):
    def fail(number):
        raise RuntimeError("driver")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", fail)
    assert "none that torch can use" in line(doctor(), "GPU")[1]


def test_a_gpu_is_named_and_changes_the_advice(monkeypatch):
    gpu = SimpleNamespace(name="Big One", total_memory=15 * 2**30)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: gpu)
    card = doctor()
    assert line(card, "GPU") == ("ok", "Big One, 15 GiB")
    assert 'profile "gpu"' in line(card, "profile tiny")[1]
    state, text = line(doctor("gpu"), "profile gpu")
    assert state == "note" and "20,000 private images" in text
    assert text.endswith('set device to "cuda"')
    assert line(doctor("gpu", "cuda:0"), "profile gpu")[0] == "ok"


def test_a_big_profile_without_a_gpu_is_advised_against(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    state, text = line(doctor("paper"), "profile paper")
    assert state == "note"
    assert "all private images" in text and 'profile "tiny"' in text


def test_an_unknown_profile_is_refused():
    with pytest.raises(ValueError, match="no profile 'huge': choose one of tiny, gpu, paper"):
        doctor("huge")


@pytest.fixture
def mnist(tmp_path, monkeypatch):
    """The folder MNIST/raw below SPLITLAB_DATA with the names of the four files, and no content."""
    folder = tmp_path / "data" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name in sl.data.PUBLISHED["mnist"].files:
        (folder / name).touch()
    monkeypatch.setenv("SPLITLAB_DATA", str(tmp_path / "data"))
    return folder


def test_a_data_set_that_is_here_says_where(mnist):
    assert line(doctor("gpu"), "mnist") == ("ok", f"SPLITLAB_DATA: {mnist}")


def test_the_name_of_whoever_builds_the_page_stays_out_of_it(mnist, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert line(doctor("gpu"), "mnist")[1] == "SPLITLAB_DATA: ~/data/MNIST/raw"


@pytest.mark.parametrize("offline", [True, False])
def test_an_absent_data_set_is_a_problem_where_it_is_needed_and_cannot_be_had(monkeypatch, offline):
    monkeypatch.setenv("SPLITLAB_OFFLINE", str(int(offline)))
    assert line(doctor(), "mnist")[0] == "note"
    assert "does not need it" in line(doctor(), "mnist")[1]
    state, text = line(doctor("gpu"), "mnist")
    assert state == ("problem" if offline else "note")
    assert "`splitlab data get mnist` downloads 11.6 MB" in text
    assert ("SPLITLAB_OFFLINE" in text) == offline


def test_each_archive_is_listed_where_the_profile_knows_the_set(monkeypatch):
    monkeypatch.setenv("SPLITLAB_OFFLINE", "1")
    card = doctor("gpu")
    for archive in ("small1", "small2", "background", "evaluation"):
        state, text = line(card, f"omniglot_{archive}")
        assert state == "note" and "SPLITLAB_OFFLINE forbids it" in text
    # What everybody has to get by hand needs no download.
    assert line(card, "celeba") == (
        "note",
        "not here; `splitlab data get celeba` explains how to get it",
    )
    assert "omniglot_small1" not in {finding.what for finding in doctor().findings}


def test_a_data_folder_that_is_none_stops_only_who_needs_it(tmp_path, monkeypatch):
    monkeypatch.setenv("SPLITLAB_DATA", str(tmp_path / "nowhere"))
    assert doctor().ok
    card = doctor("gpu")
    assert "mnist" in problems(card)
    assert "which is not a folder; correct it" in line(card, "mnist")[1]


def test_an_incomplete_data_set_is_a_problem_where_somebody_named_the_folder(mnist):
    name = next(iter(sl.data.PUBLISHED["mnist"].files))
    (mnist / name).unlink()
    state, text = line(doctor("gpu"), "mnist")
    assert state == "problem"
    assert f"{name} missing" in text and "unset SPLITLAB_DATA" in text


def test_an_incomplete_cache_is_filled_when_it_is_needed(tmp_path, monkeypatch):
    monkeypatch.setenv("SPLITLAB_OFFLINE", "0")
    monkeypatch.setenv("SPLITLAB_CACHE", str(tmp_path))
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    (tmp_path / "MNIST" / "raw" / next(iter(sl.data.PUBLISHED["mnist"].files))).touch()
    state, text = line(doctor("gpu"), "mnist")
    assert state == "note" and "downloads the rest" in text


def test_files_that_cannot_be_read_are_a_problem_and_listed_as_such(mnist, monkeypatch, capsys):
    name = next(iter(sl.data.PUBLISHED["mnist"].files))
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != name)
    state, text = line(doctor("gpu"), "mnist")
    assert state == "problem" and text.endswith(f"get the right to read {name}")
    assert cli.main(["data", "list"]) == 0
    assert text in capsys.readouterr().out


def test_without_recorded_runs_the_chapters_stop(runs):
    card = doctor()
    assert problems(card) == ["recorded runs"]
    assert line(card, "recorded runs")[1].endswith("reinstall splitlab")
    assert line(card, "minutes")[0] == "note"


def test_problems_come_first_and_then_notes(monkeypatch):
    with_versions(monkeypatch, pooch=None)
    states = [finding.state for finding in doctor("gpu").findings]
    assert set(states) == {"problem", "note", "ok"}
    assert states == sorted(states, key=["problem", "note", "ok"].index)


# How long it takes.


def test_recorded_seconds_are_scaled_to_this_machine(runs):
    timing.store_seconds(runs, "tiny", {"00_a": 30.0, "solutions/00_a": 60.0}, step=0.05)
    card = doctor()
    # 600 and 1,200 steps' worth: at the fastest step here, and at the median one.
    low, high = min(STEPS) / timing.MARGIN, median(STEPS) * timing.MARGIN
    assert [tuple(e) for e in card.expected] == [
        ("00_a", pytest.approx(600 * low, abs=0.1), pytest.approx(600 * high, abs=0.1)),
        ("solutions/00_a", pytest.approx(1200 * low, abs=0.1), pytest.approx(1200 * high, abs=0.1)),
    ]
    assert card.whole[1:] == (pytest.approx(1800 * low, abs=0.1), pytest.approx(1800 * high))
    assert "2 to 8 min" in str(card)
    assert f"splitlab {sl.__version__}" in str(card)


def test_where_nothing_is_recorded_the_card_says_so_and_gives_no_times(runs):
    card = doctor("gpu")
    assert line(card, "minutes")[0] == "note"
    assert "nothing is recorded for profile gpu" in line(card, "minutes")[1]
    assert card.expected == () and card.whole is None
    assert card._repr_html_().count("<table") == 1


def test_seconds_of_the_cpu_say_nothing_of_another_device(runs):
    timing.store_seconds(runs, "tiny", {"00_a": 30.0}, step=0.05)
    card = doctor(device="cuda")
    assert card.expected == ()
    assert "recorded on cpu only" in line(card, "minutes")[1]


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"rows": {}}', '{"rows": {"00_a": {"run": "00_a"}}}']
)
def test_a_damaged_record_is_a_note(runs, content):
    (runs / "chapter_seconds_tiny.json").write_text(content)
    card = doctor()
    assert card.ok and card.expected == ()
    assert "restore it with git" in line(card, "minutes")[1]


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (23.0, 36.0, "20 to 40 s"),
        (20.0, 40.0, "20 to 40 s"),
        (3.0, 8.0, "under 10 s"),
        (80.0, 119.0, "80 to 120 s"),
        (80.0, 121.0, "1 to 3 min"),
        (50.0, 125.0, "under 3 min"),
        (600.0, 960.0, "10 to 16 min"),
    ],
)
def test_times_are_rounded_outwards(low, high, words):
    assert about(low, high) == words


def test_timing_steps_changes_nothing():
    torch.manual_seed(3)
    torch.set_num_threads(2)
    try:
        before = torch.get_rng_state()
        steps = REAL_STEPS()
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert len(steps) >= timing.STEPS_TIMED
    assert all(seconds > 0 for seconds in steps)


def test_the_stored_seconds_cover_every_notebook_of_the_book():
    stored = sl.records.rows_of(sl.records.path_of("chapter_seconds_tiny"))
    wanted = {runner.name_of(notebook) for notebook in book.notebooks(ROOT / "book")}
    assert set(stored) == wanted, "run `make seconds` on a quiet machine"
    for row in stored.values():
        assert row["cpu_seconds"] > 1  # importing torch alone takes as long
        assert 0 < row["step_seconds"] < row["cpu_seconds"]


@pytest.fixture
def small_book(tmp_path, monkeypatch):
    """A book of three small chapters that is run but not rendered, with a library of its own."""
    library = tmp_path / "splitlab"
    monkeypatch.setattr(runner, "LIBRARY", library)
    monkeypatch.setattr(book, "RUNS", library / "course" / "runs")
    folder = tmp_path / "book"
    folder.mkdir()
    busy = "import time\nend = time.process_time() + 2\nwhile time.process_time() < end:\n    pass"
    for name, source in {"a_idle": "1", "b_busy": busy, "c_card": "doctor = 1"}.items():
        parameters = new_code_cell(
            'profile = "tiny"\nseed = 0\ndevice = "cpu"', metadata={"tags": ["parameters"]}
        )
        notebook = new_notebook(cells=[parameters, new_code_cell(source)])
        nbformat.write(notebook, folder / f"{name}.ipynb")
    (folder / "_toc.yml").write_text(
        "format: jb-book\nroot: book/a_idle\nchapters:\n"
        "  - file: book/b_busy\n  - file: book/c_card\n"
    )
    monkeypatch.setattr(book, "stage", lambda *arguments: None)
    monkeypatch.setattr(book, "render", lambda *arguments: True)
    return folder


def test_storing_seconds_measures_every_chapter_and_lets_the_next_build_rest(small_book, capsys):
    def build(*options):
        assert book.main(["--book", str(small_book), *options]) == 0
        out = capsys.readouterr().out
        return [row.split()[0] for row in out.splitlines() if "(cached)" in row]

    build()
    assert build("--store-seconds") == [], "an earlier run's time is not this build's"
    path = book.RUNS / "chapter_seconds_tiny.json"
    rows = json.loads(path.read_text())["rows"]
    assert list(rows) == ["a_idle", "b_busy", "c_card"]
    idle, busy, card = (row["cpu_seconds"] for row in rows.values())
    assert idle < busy > card, "each has the time of its own kernel, and no other's"
    assert {row["step_seconds"] for row in rows.values()} == {min(STEPS)}
    assert build() == ["a_idle", "b_busy"], "only the chapter that shows the times runs again"
    assert build() == ["a_idle", "b_busy", "c_card"]


def test_a_build_that_fails_stores_no_seconds(small_book, capsys):
    nbformat.write(new_notebook(), small_book / "b_busy.ipynb")
    assert book.main(["--book", str(small_book), "--store-seconds"]) == 1
    assert not book.RUNS.exists()


# The shell, and Colab.


def test_the_shell_prints_the_card(capsys):
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("This machine, at profile tiny\n")
    assert "the whole course" in out


def test_json_is_one_object(capsys):
    assert cli.main(["doctor", "--json"]) == 0
    out = capsys.readouterr().out
    card = json.loads(out)
    assert out.count("\n") == 1
    assert card["ok"] is True and card["profile"] == "tiny" and card["device"] == "cpu"
    assert {"state": "ok", "what": "device cpu", "text": "works"} in card["findings"]
    assert [e["chapter"] for e in card["expected"]] == [e.chapter for e in doctor().expected]
    assert card["whole"]["low"] < card["whole"]["high"]


def test_json_without_recorded_seconds_says_null(capsys):
    cli.main(["doctor", "--profile", "paper", "--device", "cpu", "--json"])
    card = json.loads(capsys.readouterr().out)
    assert card["expected"] == [] and card["whole"] is None


def test_the_exit_status_tells_of_a_problem(capsys):
    assert cli.main(["doctor", "--device", "toaster"]) == 1
    first = capsys.readouterr().out.splitlines()[1]
    assert first.split()[:3] == ["device", "toaster", "problem"]


@pytest.mark.parametrize(
    ("profile", "has_gpu", "device"),
    [("tiny", True, "cpu"), ("gpu", True, "cuda"), ("gpu", False, "cpu")],
)
def test_auto_chooses_the_device_that_an_attack_would_get(monkeypatch, profile, has_gpu, device):
    asked = []
    card = module.Card("", "", ())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr(cli, "doctor", lambda *arguments: asked.append(arguments) or card)
    assert cli.main(["doctor", "--profile", profile]) == 0
    assert asked == [(profile, device)]


AS_IN_COLAB = """
import json, sys

blocked = {"papermill", "nbformat", "nbclient", "yaml", "jupyter_book", "nbval", "playwright"}


class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Blocker())
import splitlab as sl

sl.tiny.steps["digits"] = 15  # the packages are in question here, not the hijack
shown = {}
for cell in json.load(open(sys.argv[1]))["cells"]:
    tags = cell["metadata"].get("tags", [])
    if cell["cell_type"] == "code" and not {"remove-cell", "verdict"} & set(tags):
        *body, last = "".join(cell["source"]).split("\\n")
        try:
            value = compile(last, cell["id"], "eval")
        except SyntaxError:
            body, value = [*body, last], None
        exec("\\n".join(body), globals())
        shown[cell["id"]] = value and eval(value)
assert shown["10-09"]._repr_mimebundle_() and shown["10-11"]._repr_html_()
card = shown["10-13"]
assert "<table" in card._repr_html_()
print(json.dumps(card.to_dict()))
"""


def test_the_first_chapter_needs_nothing_that_colab_lacks():
    result = subprocess.run(
        [sys.executable, "-c", AS_IN_COLAB, str(ROOT / "book" / "10_start_here.ipynb")],
        env={**os.environ, **runner.ONE_THREAD},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    card = json.loads(result.stdout)
    assert card["ok"], card
    assert card["expected"][0]["chapter"] == "10_start_here"
