"""The tables of recorded seconds, for a page that says what to expect."""

import pytest

import splitlab as sl
from splitlab.course import timing
from splitlab.course.record_files import add_rows


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """An empty folder of recorded runs in place of the package's."""
    monkeypatch.setattr(sl.records, "RUNS", tmp_path)
    return tmp_path


def test_each_part_and_the_whole_are_sums(runs):
    seconds = {"10_a": 1.4, "11_b": 2.4, "solutions/11_b": 3.0, "21_c": 5.0}
    timing.store_seconds(runs, "tiny", seconds, step=0.05)
    table = timing.by_chapter()
    assert [tuple(row) for row in table.rows] == [
        ("10_a", 1, "-"),
        ("11_b", 2, 3),
        ("part 1 in all", 4, 3),  # of what was recorded, not of what is shown
        ("21_c", 5, "-"),
        ("part 2 in all", 5, "-"),
        ("the whole course", 9, 3),
    ]
    assert table.strong == 5
    assert "a step of the tiny hijack takes 50 ms (chapter_seconds_tiny, recorded" in table.caption


def test_a_day_on_which_the_machine_was_slow_is_scaled(runs):
    timing.store_seconds(runs, "tiny", {"10_a": 30.0, "11_b": 30.0}, step=0.05)
    slow = {"run": "12_c", "cpu_seconds": 60.0, "step_seconds": 0.1}
    add_rows(runs / "chapter_seconds_tiny.json", [slow])
    assert [row[1] for row in timing.by_chapter().rows] == [30, 30, 30, 90, 90]


def test_a_profile_that_nobody_timed_is_said_to_be_one(runs):
    timing.store_seconds(runs, "tiny", {"10_a": 30.0, "11_b": 30.0}, step=0.05)
    assert timing.by_profile().rows == [
        ("tiny", 2, "cpu"),
        ("gpu", 0, "no times are recorded"),
        ("paper", 0, "no times are recorded"),
    ]
    with pytest.raises(FileNotFoundError, match="make seconds PROFILE=gpu"):
        timing.by_chapter("gpu")
