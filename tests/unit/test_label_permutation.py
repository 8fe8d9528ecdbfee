"""The server trains on other names of the classes, and the client reads its scores by them."""

import pytest
import torch
from torch import nn

import splitlab as sl
from splitlab.defenses import LabelPermutation


@pytest.fixture(scope="module")
def split():
    return sl.tiny.split("digits", 0)


def client(split, *defenses, **options):
    return sl.Client(
        sl.tiny.client_net(), split.private, defenses=defenses, **sl.tiny.client() | options
    )


@pytest.mark.parametrize("renamed", [2, 5, 10])
def test_so_many_classes_get_another_name_and_no_two_the_same(renamed):
    names = LabelPermutation(10, renamed=renamed, seed=3).names
    assert int((names != torch.arange(10)).sum()) == renamed
    assert names.sort().values.tolist() == list(range(10))


def test_the_seed_makes_it():
    names = [LabelPermutation(10, seed=seed).names.tolist() for seed in (1, 1, 2)]
    assert names[0] == names[1] != names[2]


def test_what_is_sent_is_renamed_and_the_data_are_not(split):
    defense = LabelPermutation(10, seed=3)
    guarded, plain = client(split, defense), client(split)
    sent, true = guarded.forward().labels, plain.forward().labels
    assert torch.equal(sent, defense.names[true])
    assert torch.equal(guarded.data.y, split.private.y)


def test_the_task_is_learned_as_well_and_read_by_the_secret_alone(split):
    accuracies = {}
    for name, defenses in {"plain": [], "renamed": [LabelPermutation(10, seed=3)]}.items():
        trained = client(split, *defenses)
        server = sl.HonestServer(sl.tiny.server_net(), optimizer=sl.tiny.client_optimizer)
        sl.train([trained], server, 100)
        accuracies[name] = sl.task_accuracy(trained, server, split.referee)
    trained.defenses = []
    accuracies["server"] = sl.task_accuracy(trained, server, split.referee)
    assert abs(accuracies["plain"] - accuracies["renamed"]) < 0.08
    assert accuracies["renamed"] > 0.7
    assert accuracies["server"] < 0.15


def test_a_hijack_reads_no_label_so_that_nothing_changes_for_it(split):
    weights = []
    for defenses in ([], [LabelPermutation(10, seed=3)]):
        victim = client(split, *defenses)
        sl.train([victim], sl.FSHA.at(sl.tiny, split.public, steps=5), 5)
        weights.append(nn.utils.parameters_to_vector(victim.net.parameters()))
    assert torch.equal(*weights)


@pytest.mark.parametrize("renamed", [0, 1, 11])
def test_a_wrong_number_of_classes_is_refused(renamed):
    with pytest.raises(ValueError, match="choose a number of classes from 2 to 10"):
        LabelPermutation(10, renamed=renamed, seed=0)


def test_classes_that_are_no_number_are_refused():
    with pytest.raises(ValueError, match="classes is 'ten': choose a whole number of at least 2"):
        LabelPermutation("ten", seed=0)


def test_it_is_refused_where_no_label_is_sent_or_the_classes_do_not_fit(split):
    with pytest.raises(ValueError, match="sends no labels in its protocol"):
        client(split, LabelPermutation(10, seed=0), sends_index=True)
    with pytest.raises(ValueError, match="there is a label 9 and LabelPermutation has 5 classes"):
        client(split, LabelPermutation(5, seed=0))
