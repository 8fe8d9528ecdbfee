"""How the open exercise of chapter 35 is scored: twenty labels, and a balanced accuracy."""

import pytest
import torch
from bank_property_inference import a_network, nearest_mean, votes_step_by_step

from splitlab import FSHA, settings
from splitlab.course.checks import property_inference as check
from splitlab.course.checks.property_inference.train_on_few import (
    DRAWS,
    balanced_accuracy,
    cases,
    known_labels,
    linear_head,
)


def draw(y, seed, each):
    return known_labels(y, torch.Generator().manual_seed(seed), each)


def test_two_labels_of_each_class_are_known_and_true():
    y = torch.arange(10).repeat(30)
    labels = draw(y, 3, 2)
    known = labels >= 0
    assert labels[known].bincount().tolist() == [2] * 10
    assert torch.equal(labels[known], y[known])
    assert (labels[~known] == -1).all()
    assert not torch.equal(labels, draw(y, 4, 2))


def test_balanced_accuracy_by_hand():
    truth = torch.tensor([0, 0, 0, 0, 1, 1, 2])
    guesses = torch.tensor([0, 0, 0, 1, 1, 0, 0])
    assert balanced_accuracy(guesses, truth) == pytest.approx((3 / 4 + 1 / 2 + 0) / 3)
    assert balanced_accuracy(torch.zeros(7, dtype=torch.int64), truth) == pytest.approx(1 / 3)


def test_no_answer_is_among_what_the_trainer_gets():
    for case in cases()[::DRAWS]:
        nearest = torch.cdist(case.hidden.flatten(1), case.codes.flatten(1)).amin(1)
        assert (nearest > 0).all()
    for case in cases():
        assert (case.labels >= 0).sum() == 20
        assert not case.codes.requires_grad
        assert not case.hidden.requires_grad


def test_the_table_shows_the_answer_beside_simple_ones():
    score = check.train_on_few(votes_step_by_step).score
    rows = dict(score.table.rows)
    assert list(rows)[-1] == "yours"
    assert score.table.strong == len(rows) - 1
    assert rows["yours"] == score.value
    commonest, nearest, head, everything, yours = rows.values()
    assert commonest == pytest.approx(0.1)
    assert max(nearest, head) + 0.1 < yours < everything, "as the card and the solution say"


def test_a_score_is_the_same_each_time_and_leaves_the_random_stream():
    state = torch.get_rng_state()
    first = check.train_on_few(a_network).score
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert check.train_on_few(a_network).score.value == first.value


def slanted(x):
    ink = x[:, 0] + 1
    ink = ink / ink.sum((1, 2), keepdim=True)
    row, column = torch.arange(16.0)[:, None], torch.arange(16.0)
    rows, columns = ((ink * axis).sum((1, 2)) for axis in (row, column))
    return (ink * row * column).sum((1, 2)) - rows * columns


def test_votes_of_neighbors_do_not_help_with_the_slant():
    """The solution says so: slants form no clusters."""
    figures = {votes_step_by_step: [], linear_head: []}
    for number, seed in enumerate((61, 61, 62, 62, 63, 63)):
        private, public, _ = settings.tiny.split("digits", seed)
        pilot = FSHA.at(settings.tiny, public, seed=seed).pilot
        threshold = slanted(public.x).median()
        truth = (slanted(private.x) < threshold).long()
        labels = draw((slanted(public.x) < threshold).long(), number, 10)
        for train, found in figures.items():
            guesses = train(pilot(public.x), labels)(pilot(private.x))
            found.append(balanced_accuracy(guesses, truth))
    votes, head = (sum(found) / len(found) for found in figures.values())
    assert 0.5 < votes < head - 0.02


def test_a_simple_answer_has_its_score():
    assert 0.6 < check.train_on_few(nearest_mean).score.value < 0.85
