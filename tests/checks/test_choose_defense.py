"""How the last exercise of chapter 51 is scored: a number of trainings, and three attackers."""

import math
from importlib import import_module

import pytest
import torch
from bank_no_peek import asks_the_attackers, without_a_training

from splitlab.course.checks import CheckFailed
from splitlab.course.checks import no_peek as check
from splitlab.course.checks.no_peek import defended_runs

checks = import_module("splitlab.course.checks.no_peek.choose_defense")


@pytest.fixture
def asked(monkeypatch):
    """The trainings that are asked for, none of which takes place."""
    found = []

    def honest(alpha, clip, seed):
        found.append((alpha, clip, seed))
        return 0.9 - 0.01 * alpha, None, None

    monkeypatch.setattr(defended_runs, "honest", honest)
    monkeypatch.setattr(checks, "honest", honest)
    monkeypatch.setattr(checks, "explained_by_each", lambda alpha, clip: [0.5, 0.6 / (1 + alpha)])
    return found


def test_what_is_tried_is_trained_at_one_seed_and_scored_at_others(asked):
    def answer(accuracy, most):
        assert most == 0.02
        assert accuracy() == accuracy(0, None) == accuracy(0.0, math.inf) == 0.9
        assert accuracy(alpha=2, clip=0.03) == pytest.approx(0.88)
        return 2, 0.03

    assert check.choose_defense(answer).passed
    tried, scored = asked[:4], asked[4:]
    assert tried == [(0.0, math.inf, defended_runs.TRIAL)] * 3 + [(2.0, 0.03, defended_runs.TRIAL)]
    assert {seed for *_, seed in scored} == set(defended_runs.SEEDS)
    assert defended_runs.TRIAL not in defended_runs.SEEDS


def test_eight_trainings_are_allowed_and_a_ninth_is_not():
    accuracy, spent = check.budget()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "honest", lambda *_: (0.9, None, None))
        for _ in range(8):
            accuracy()
        for _ in range(2):  # who catches the first refusal meets the next one
            with pytest.raises(CheckFailed, match="more than 8 times"):
                accuracy()
    assert spent() == 10


@pytest.mark.parametrize("alpha", [0.0, 3.4])
def test_a_loss_up_to_the_noise_passes(asked, alpha):
    verdict = check.choose_defense(lambda accuracy, most: (alpha, math.inf))
    assert verdict.passed
    assert verdict.score.value == pytest.approx(1 - max(0.5, 0.6 / (1 + alpha)))


def test_a_larger_loss_is_refused_with_both_accuracies(asked):
    verdict = check.choose_defense(lambda accuracy, most: (4.0, None))
    assert "from 0.900 to 0.860, means over 3 seeds" in verdict.message


def test_of_two_equal_choices_the_cheaper_one_is_better(asked):
    def after_a_look(accuracy, most):
        accuracy()
        return 2.0, 0.01

    cheap, dear = check.choose_defense(without_a_training), check.choose_defense(after_a_look)
    assert 0 < cheap.score.value - dear.score.value < 0.01


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        ((1.0, 0.1, 2), "returns a tuple of 3: return two numbers"),
        (torch.ones(2), "returns a Tensor: return two numbers"),
        ((math.nan, 0.1), "alpha is nan"),
        ((math.inf, 0.1), "alpha is inf"),
        ((1.0, math.nan), "clip is nan"),
        ((1.0, -0.1), "clip is -0.1"),
        ((1.0, "none"), "clip should be a number and is a str"),
        ((None, 0.1), "alpha should be a number and is nothing"),
    ],
)
def test_what_is_no_choice_is_refused(asked, chosen, sentence):
    verdict = check.choose_defense(lambda accuracy, most: chosen)
    assert sentence in verdict.message
    assert not asked


def test_the_attackers_are_hidden():
    assert "a part of its own check" in check.choose_defense(asks_the_attackers).message


def test_defenses_are_as_chosen():
    assert defended_runs._client(0.0, math.inf, 0).defenses == []
    assert repr(defended_runs._client(2.0, 0.03, 0).defenses) == (
        "[NoPeek(2, distance_correlation), ClipGradient(0.03)]"
    )


def test_the_table_shows_that_alpha_alone_is_outbid_and_that_both_together_help():
    score = check.choose_defense(without_a_training).score
    rows = {row[0]: row[1:] for row in score.table.rows}
    assert list(rows) == ["no defense", "alpha 8 without a clip", "yours"]
    assert score.table.strong == 2
    none, alone, yours = rows.values()
    for row in rows.values():
        assert row[-1] == max(row[1:-1])
    assert score.value == 1 - yours[-1]
    assert none[0] > 0.9, "the task is learned"
    assert alone[1] < none[1] - 0.03, "a hijack that does not adapt is slowed"
    assert alone[2] == pytest.approx(none[2], abs=0.05), "one that outbids is not"
    assert yours[2] == pytest.approx(yours[1], abs=0.05), "under a clip they are one attack"
    assert none[0] - yours[0] <= 0.035
    assert 0.5 < yours[-1] < none[-1] - 0.1, "as the solution says"
