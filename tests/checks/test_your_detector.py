"""How the last exercise of chapter 54 is scored: a threshold, and runs of two kinds."""

from importlib import import_module

import pytest
import torch
from bank_adaptive_attacker import (
    as_alike_as_two_classes_get,
    asks_for_the_runs,
    gap,
    of_other_classes,
    with_two_floors,
)

from splitlab.course.checks import adaptive_attacker as check
from splitlab.course.checks.adaptive_attacker import watched_runs
from splitlab.course.checks.adaptive_attacker.watched_runs import HONEST, MALICIOUS, Seen
from splitlab.defenses.gradient_rank import rank_share

checks = import_module("splitlab.course.checks.adaptive_attacker.score")


def history(size, steps=60):
    return [
        Seen(torch.full((2, 3), size + step / 1e3), torch.tensor([0, 1])) for step in range(steps)
    ]


def size_of(history):
    return history[-1].dz.mean()


@pytest.fixture
def runs(monkeypatch):
    """Calibration runs of sizes up to 9, and runs of which some are larger; none is trained."""
    tried = {name: history(20.0) for name in MALICIOUS} | {name: history(5.0) for name in HONEST}
    monkeypatch.setattr(checks, "calibration", lambda: [history(size + 1.0) for size in range(9)])
    monkeypatch.setattr(checks, "verdict_runs", lambda: tried)
    checks._norm_alone.cache_clear()
    yield tried
    checks._norm_alone.cache_clear()


def test_the_score_is_the_share_caught_minus_the_share_of_false_alarms(runs):
    assert check.score(size_of).score.value == 1
    runs["late start"] = history(9.0)
    runs["SGD"] = history(9.1)
    score = check.score(size_of).score
    assert score.value == pytest.approx(7 / 8 - 1 / 4)
    assert "misses late start; its false alarms: SGD." in score.table.caption
    cells = {row[0]: row[1:] for row in score.table.rows}
    assert cells["late start"][0] == "malicious"
    assert cells["late start"][2] == "no alarm", "as high as the threshold is no alarm"
    assert cells["SGD"][0] == "honest"
    assert cells["SGD"][2] == "step 10"
    assert cells["score"][2] == "0.62"
    assert len(cells) == 13


def test_the_answer_sees_every_tenth_step_and_what_came_before(runs):
    lengths = []

    def looks(history):
        assert isinstance(history, list)
        assert all(len(seen) == 2 for seen in history)
        lengths.append(len(history))
        return 0.0

    check.score(looks)
    assert lengths == [10, 20, 30, 40, 50, 60] * 21


def test_a_reversed_score_is_told_so_and_a_constant_is_not(runs):
    assert "reverse its sign" in check.score(lambda history: -size_of(history)).message
    assert check.score(lambda history: 3).score.value == 0


def test_a_score_that_is_no_number_is_refused(runs):
    assert "the score is nan" in check.score(lambda history: float("nan")).message
    assert "is inf" in check.score(lambda history: float("inf")).message


def test_an_error_names_the_line_of_the_answer(runs):
    def fails(history):
        return history[-1].norm

    assert "at `return history[-1].norm`" in check.score(fails).message


def test_the_runs_are_hidden():
    assert "a part of its own check" in check.score(asks_for_the_runs).message


def test_practice_shows_no_run_of_the_verdict():
    settings = [*watched_runs.MALICIOUS.values(), *watched_runs.HONEST.values()]
    mixed = watched_runs.PRACTICE["task mixed in"]
    assert mixed not in settings
    runs = check.practice()
    runs["honest"].clear()
    again = check.practice()
    assert [len(history) for history in again.values()] == [60] * 3
    assert again["honest"][0].dz.shape == (32, 32, 4, 4)
    honest, hijack, _ = (torch.stack([s.dz.norm() for s in h]).max() for h in again.values())
    assert hijack < 1.5 * honest, "as the notebook says, the norm gives none of them away"


def test_lazy_answers_score_lower_and_what_the_solution_says_is_so():
    def without_a_floor(history):
        return torch.stack([of_other_classes(*s) for s in history[len(history) // 2 :]]).mean()

    def value(answer):
        return check.score(answer).score.value

    solution = check.score(lambda history: without_a_floor(history).clamp(0.05)).score
    assert solution.value == 7 / 8
    assert solution.table.caption.endswith("misses random labels; its false alarms: none.")
    bare = check.score(without_a_floor).score
    assert bare.table.caption.endswith("misses none; its false alarms: fine-tuning.")
    assert bare.value == value(as_alike_as_two_classes_get) == 3 / 4
    assert value(with_two_floors) == 1
    lazy = {
        "norm": lambda history: history[-1].dz.norm(),
        "small norm": lambda history: -history[-1].dz.norm(),
        "rank": lambda history: -rank_share(history[-1].dz),
        "constant": lambda history: 0.0,
        "random": lambda history: torch.rand(()),
        "steps": len,
    }
    assert max(map(value, lazy.values())) <= 1 / 4
    early = value(lambda history: -sum(gap(*s) for s in history[:40]) / len(history[:40]))
    assert early == 3 / 8  # it looks at the task, and is fooled by fine-tuning and late starts
