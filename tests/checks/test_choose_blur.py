"""How the last exercise of chapter 52 is scored: a number of trainings, and three attackers."""

import math
from importlib import import_module

import pytest
import torch
from bank_noise_and_other_blur import asks_the_attackers, without_a_training

from splitlab.course.checks import CheckFailed
from splitlab.course.checks import noise_and_other_blur as check
from splitlab.course.checks.noise_and_other_blur import blurred_runs

checks = import_module("splitlab.course.checks.noise_and_other_blur.choose_blur")


@pytest.fixture
def asked(monkeypatch):
    """The trainings that are asked for, none of which takes place."""
    found = []

    def honest(sigma, keep, seed):
        found.append((sigma, keep, seed))
        return 0.9 - 0.01 * sigma, None

    monkeypatch.setattr(blurred_runs, "honest", honest)
    monkeypatch.setattr(checks, "honest", honest)
    monkeypatch.setattr(checks, "explained_by_each", lambda sigma, keep: [0.5, 0.6 / (1 + sigma)])
    return found


def test_what_is_tried_is_trained_at_one_seed_and_scored_at_others(asked):
    def answer(accuracy, most):
        assert most == 0.02
        assert accuracy() == accuracy(0, None) == accuracy(0.0, 1) == 0.9
        assert accuracy(sigma=2, keep=0.5) == pytest.approx(0.88)
        return 2, 0.5

    assert check.choose_blur(answer).passed
    tried, scored = asked[:4], asked[4:]
    assert tried == [(0.0, 1.0, blurred_runs.TRIAL)] * 3 + [(2.0, 0.5, blurred_runs.TRIAL)]
    assert {seed for *_, seed in scored} == set(blurred_runs.SEEDS)
    assert blurred_runs.TRIAL not in blurred_runs.SEEDS


def test_eight_trainings_are_allowed_and_a_ninth_is_not(asked):
    accuracy, spent = check.budget()
    for _ in range(8):
        accuracy()
    for _ in range(2):  # who catches the first refusal meets the next one
        with pytest.raises(CheckFailed, match="more than 8 times"):
            accuracy()
    assert spent() == 10


@pytest.mark.parametrize("sigma", [0.0, 3.4])
def test_a_loss_up_to_the_noise_passes(asked, sigma):
    verdict = check.choose_blur(lambda accuracy, most: (sigma, None))
    assert verdict.passed
    assert verdict.score.value == pytest.approx(1 - max(0.5, 0.6 / (1 + sigma)))


def test_the_caption_says_what_the_noise_proves(asked):
    captions = [
        check.choose_blur(lambda accuracy, most, s=sigma: (s, 0.5)).score.table.caption
        for sigma in (0.0, checks.LEAST, 1.0)
    ]
    assert captions[0].endswith(
        "256 of 512 numbers of z are kept; without noise there is no epsilon."
    )
    assert "the epsilon of one message is 128,0" in captions[1]
    assert captions[2].endswith("the epsilon of one message is 195 at delta 1e-05.")


def test_a_larger_loss_is_refused_with_both_accuracies(asked):
    verdict = check.choose_blur(lambda accuracy, most: (4.0, None))
    assert "from 0.900 to 0.860, means over 5 seeds" in verdict.message


def test_of_two_equal_choices_the_cheaper_one_is_better(asked):
    def after_a_look(accuracy, most):
        accuracy()
        return without_a_training(accuracy, most)

    cheap, dear = check.choose_blur(without_a_training), check.choose_blur(after_a_look)
    assert 0 < cheap.score.value - dear.score.value < 0.01


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        ((1.0, 0.1, 2), "returns a tuple of 3: return two numbers"),
        (torch.ones(2), "returns a Tensor: return two numbers"),
        ((math.nan, 0.1), "sigma is nan"),
        ((math.inf, 0.1), "sigma is inf"),
        ((1e-300, 0.1), "sigma is 1e-300: choose 0 for no noise"),
        ((1.0, math.nan), "keep is nan"),
        ((1.0, -0.1), "keep is -0.1"),
        ((1.0, 64), "keep is 64: it is a share of z"),
        ((1.0, "all"), "keep should be a number and is a str"),
        ((None, 0.1), "sigma should be a number and is nothing"),
    ],
)
def test_what_is_no_choice_is_refused(asked, chosen, sentence):
    verdict = check.choose_blur(lambda accuracy, most: chosen)
    assert sentence in verdict.message
    assert not asked


def test_the_attackers_are_hidden():
    assert "a part of its own check" in check.choose_blur(asks_the_attackers).message


def test_defenses_are_as_chosen():
    assert blurred_runs.defenses(0.0, 1.0) == []
    assert repr(blurred_runs.defenses(0.5, 1.0)) == "[GaussianNoise(0.5, norm=8)]"
    assert repr(blurred_runs.defenses(0.25, 1 / 32)) == "[TopK(16), GaussianNoise(0.25, norm=8)]"
    assert repr(blurred_runs.defenses(0.0, 1e-9)) == "[TopK(1)]"


def test_z_has_as_many_numbers_as_pruning_takes_it_to_have():
    _, client = blurred_runs.honest(0.0, 1.0, blurred_runs.TRIAL)
    assert client.smash(client.data.x[:2]).z[0].numel() == blurred_runs.NUMBERS


def test_a_training_does_not_depend_on_what_was_drawn_before():
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        train = blurred_runs.honest.__wrapped__  # around what is kept of trainings
        found.append(train(0.5, 1.0, blurred_runs.TRIAL)[0])
    assert found[0] == found[1]


def test_the_table_shows_that_averaging_undoes_noise_and_that_both_blurs_together_help():
    score = check.choose_blur(without_a_training).score
    rows = {row[0]: row[1:] for row in score.table.rows}
    assert list(rows) == ["no defense", "noise of 0.5 alone", "yours"]
    assert score.table.strong == 2
    none, alone, yours = rows.values()
    for row in rows.values():
        assert row[-1] == max(row[1:-1])
    assert score.value == 1 - yours[-1]
    assert none[0] > 0.88, "the task is learned"
    assert none[1] > 0.95, "without a defense one message is enough"
    assert alone[1] < none[1] - 0.15, "noise hides something from who sees one message"
    assert alone[2] > alone[1] + 0.08, "and less from who averages"
    assert none[0] - yours[0] <= 0.035
    assert 0.6 < yours[-1] < alone[-1] - 0.08, "as the solution says"
    assert "the epsilon of one message is 2,320" in score.table.caption
