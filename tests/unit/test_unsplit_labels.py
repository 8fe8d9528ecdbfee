"""UnSplit's label inference: the gradient of every label, the nearest one, and whose names."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import splitlab as sl
from splitlab.attacks.gradient_clustering import clusters
from splitlab.attacks.label_inference import directions
from splitlab.course.experiments.label_inference import TrueLabels


def body(seed=0):
    return sl.nets.tiny.shallow_server(seed=seed)[:-1]


def server(clone, **options):
    options = {"clone_optimizer": sl.tiny.client_optimizer} | options
    return sl.UnSplitLabels(body(), clone=clone, **options)


@pytest.fixture(scope="module")
def turn():
    """(a, labels, tail, da): a batch, its labels, a tail, and the gradient that it sends."""
    generator = torch.Generator().manual_seed(4)
    a = torch.rand(12, 256, generator=generator, requires_grad=True)
    labels = torch.arange(12) % 10
    tail = sl.nets.tiny.shallow_tail(seed=1)
    (da,) = torch.autograd.grad(cross_entropy(tail(a), labels), a)
    return a.detach(), labels, tail, da


@pytest.mark.parametrize("layers", [1, 2])
def test_a_clone_with_the_tails_weights_finds_every_label(turn, layers):
    a, labels, _, _ = turn
    tail = sl.nets.tiny.shallow_tail(layers=layers, seed=1)
    x = a.clone().requires_grad_()
    (da,) = torch.autograd.grad(cross_entropy(tail(x), labels), x)
    assert torch.equal(server(tail).infer_labels(a, da), labels)


def test_names_are_the_tails_own(turn):
    """A clone whose classes are numbered otherwise guesses the same groups under other names."""
    a, labels, tail, da = turn
    order = torch.randperm(10, generator=torch.Generator().manual_seed(2))
    renamed = sl.nets.tiny.shallow_tail(seed=1)
    with torch.no_grad():
        renamed.weight.copy_(tail.weight[order])
        renamed.bias.copy_(tail.bias[order])
    assert torch.equal(order[server(renamed).infer_labels(a, da)], labels)


def test_da_says_nothing_of_names(turn):
    """Number the classes otherwise, in the labels and in the tail, and da stays the same."""
    a, labels, tail, da = turn
    order = torch.randperm(10, generator=torch.Generator().manual_seed(2))
    renamed = sl.nets.tiny.shallow_tail(seed=1)
    with torch.no_grad():
        renamed.weight.copy_(tail.weight[order])
        renamed.bias.copy_(tail.bias[order])
    x = a.clone().requires_grad_()
    (other,) = torch.autograd.grad(cross_entropy(renamed(x), order.argsort()[labels]), x)
    torch.testing.assert_close(other, da)


def test_the_gradient_of_the_tails_weights_names_its_class(turn):
    """With any clone: the class's own row is the one that points the other way."""
    a, labels, tail, _ = turn
    stranger = server(sl.nets.tiny.shallow_tail(seed=77))
    for row, label in zip(a.split(1), labels.split(1), strict=True):
        parts = torch.autograd.grad(cross_entropy(tail(row), label), list(tail.parameters()))
        gradient = torch.cat([part.flatten() for part in parts])
        assert stranger.infer_from_weights(row, gradient) == int(label)


def test_a_and_da_must_fit(turn):
    a, _, tail, da = turn
    with pytest.raises(ValueError, match=r"a has shape \(5, 256\) and da \(12, 256\)"):
        server(tail).infer_labels(a[:5], da)


def run(make_client, steps=6, *, clone_seed=1, layers=1):
    tail = sl.nets.tiny.shallow_tail(layers=layers, seed=1)
    client = make_client(sl.nets.tiny.shallow_client(seed=1), tail=tail)
    clone = sl.nets.tiny.shallow_tail(layers=layers, seed=clone_seed)
    attack, truth = server(clone), TrueLabels()
    sl.train([client], attack, steps, protocol=sl.u_shaped, observers=[truth])
    return client, attack, truth


@pytest.mark.parametrize("layers", [1, 2])
def test_in_training_a_known_start_stays_with_the_tail(make_client, layers):
    """The output is the one that da answers, from before the server's step; so all is right.

    The clone then takes the tail's own steps: it ends with its weights.
    """
    client, attack, truth = run(make_client, layers=layers)
    assert len(attack.guesses) == 6
    assert torch.equal(torch.cat(attack.guesses), torch.cat(truth.labels))
    for mine, theirs in zip(attack.clone.parameters(), client.tail.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_an_unknown_start_is_often_wrong(make_client):
    _, attack, truth = run(make_client, clone_seed=50)
    right = (torch.cat(attack.guesses) == torch.cat(truth.labels)).float().mean()
    assert right <= 0.5


def test_directions_of_da_form_clusters(make_client):
    _, _, truth = run(make_client, 10)
    found = clusters(directions(torch.cat(truth.da)), 10)
    assert sl.accuracy_after_matching(found, torch.cat(truth.labels)) >= 0.95


def test_a_known_start_is_a_grant_on_its_card():
    assert sl.UnSplitLabelsKnownStart.threat.grants and not sl.UnSplitLabels.threat.grants
    assert "the weights of the tail" in sl.UnSplitLabels.threat.does_not_know
    assert "the weights of the tail" not in sl.UnSplitLabelsKnownStart.threat.does_not_know


def test_a_tail_has_one_layer_or_two():
    assert isinstance(sl.nets.tiny.shallow_tail(), nn.Linear)
    assert len(sl.nets.tiny.shallow_tail(layers=2)) == 3
    with pytest.raises(ValueError, match="no tail of 3 layers: choose 1 or 2"):
        sl.nets.tiny.shallow_tail(layers=3)
