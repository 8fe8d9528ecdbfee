"""Recorded runs: found, summarised, and complete enough for what the chapters say."""

from pathlib import Path

import pytest

from splitlab import record

ROOT = Path(__file__).parents[2]


def test_records_are_found_from_below_and_from_elsewhere(monkeypatch, tmp_path):
    for folder in (ROOT / "book", tmp_path):
        monkeypatch.chdir(folder)
        assert record.recorded("digits_tiny")


def test_a_missing_record_says_how_to_get_it():
    with pytest.raises(FileNotFoundError, match=r"no recorded run 'moon'.*benchmarks/hijack\.py"):
        record.recorded("moon")


def test_ranges_take_paths_and_functions():
    runs = [
        {"run": "b", "steps": 300, "metrics": {"mse": value}} for value in (0.25, 0.75, 0.5)
    ] + [{"run": "a", "steps": 300, "metrics": {"mse": 1.0}}]
    columns = {"steps": "steps", "mse": "metrics.mse", "double": lambda r: 2 * r["metrics"]["mse"]}
    assert [list(row) for row in record.ranges(runs, columns).rows] == [
        ["a", "1", "300", "1.000", "2.000"],
        ["b", "3", "300", "0.500 (0.250 to 0.750)", "1.000 (0.500 to 1.500)"],
    ]


def test_window_means_drop_the_last_partial_window():
    assert record.window_means([1, 3, 5, 7, 100], width=2) == ([2, 4], [2.0, 6.0])
    assert record.window_means([1.0], width=2) == ([], [])


def test_the_digits_record_has_every_design_on_at_least_five_seeds():
    seeds = {}
    for run in record.recorded("digits_tiny"):
        seeds.setdefault(run["run"], set()).add(run["seed"])
    assert set(seeds) == {"fast", "paper", "paper, ten times the steps", "no hijack"}
    assert len(seeds["fast"]) >= 5
    assert all(others == seeds["fast"] for others in seeds.values())


def test_the_mnist_record_has_what_the_chapter_compares():
    runs = record.recorded("mnist_paper_scale")
    assert sum(run["run"] == "fast" for run in runs) >= 3
    rates = {(run["run"].split(",")[0], run["client_rate"]) for run in runs}
    assert rates == {("fast", 1e-5), ("fast", 3e-4), ("paper", 1e-5), ("paper", 3e-4)}
    assert all(len(run["received_mse"]) == run["steps"] for run in runs)


def test_recorded_hijacks_hold_what_the_chapter_claims():
    """Every seed, not the mean: the claims of chapter 06."""
    for run in record.recorded("digits_tiny"):
        scores, nearest = run["metrics"], run["floors"]["nearest_public"]
        assert run["n_match"] == 500
        if run["run"] == "fast":
            assert scores["matched"] >= 0.95
            assert scores["mse"] <= 0.75 * nearest["mse"]
            assert scores["recognised"] >= 0.88
        if run["run"] == "no hijack":
            assert scores["recognised"] <= 0.3
    runs = {(run["run"], run["seed"]): run["metrics"] for run in record.recorded("digits_tiny")}
    for (name, seed), fast in runs.items():
        if name == "fast":
            slow = runs["paper, ten times the steps", seed]
            assert fast["mse"] < slow["mse"]
            assert fast["matched"] > slow["matched"]
    for run in record.recorded("mnist_paper_scale"):
        assert run["n_match"] == 1000
        if run["run"] == "fast":
            assert run["received"]["mse"] <= 0.030
            assert run["received"]["matched"] >= 0.99
