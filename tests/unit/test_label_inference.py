"""The attacks on labels: by hand, on a logistic toy, on digits and on drawn faces."""

import dataclasses

import pytest
import torch
from torch import nn

import splitlab as sl
from splitlab.attacks import Received


def received(dz, steps=None, rows=None):
    """Gradients as if they had arrived, each a row of its own."""
    count = torch.arange(len(dz))
    return Received(count if steps is None else torch.tensor(steps), count, torch.tensor(dz))


@pytest.fixture
def make(digits):
    """Make an attack on the private digits; arguments go to it."""

    def make(kind, **options):
        options = sl.tiny.client() | options
        return kind(sl.tiny.client_net(), digits[0].without_labels(), **options)

    return make


def told(attack, dz, rows=None):
    """Let an attack see one batch."""
    rows = torch.arange(len(dz)) if rows is None else torch.tensor(rows)
    attack.observe(sl.Gradient(dz=torch.tensor(dz), sender="server", step=attack.step), rows)
    attack.step += 1


def test_the_norm_by_hand(make):
    attack = make(sl.GradientNorm, share=0.3)
    some = received([[3.0, 4.0], [0.0, 0.0], [0.0, -6.0]])
    assert attack.score(some).tolist() == [5, 0, 6]
    assert attack.infer_labels(some).tolist() == [0, 0, 1]
    # Too short for the squares of single precision.
    assert attack.score(received([[3e-30, 4e-30]])).item() == pytest.approx(5e-30)


def test_on_a_logistic_toy_the_norm_is_the_distance_to_the_label():
    """dL/dx of logistic regression is (p - y) w / B."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(20, 1, 1, 3, generator=generator)
    labels = torch.tensor([1, *[0] * 9] * 2)
    toy = sl.ImageData(x=x, y=labels, classes=("0", "1"))
    net = nn.Sequential(nn.Flatten(), nn.Linear(3, 2))
    weight = (net[1].weight[1] - net[1].weight[0]).detach().clone()
    with torch.no_grad():
        p = net(x).softmax(1)[:, 1]
    f = nn.Linear(3, 3, bias=False)  # the identity, but with weights to train
    nn.init.eye_(f.weight)
    attack = sl.GradientNorm(f, toy.without_labels(), batch_size=20)
    sl.train([attack], sl.HonestServer(net, labels=labels), 1)
    got = attack.received()
    y = labels[got.index]
    expected = (p[got.index] - y).abs() * weight.norm() / 20
    torch.testing.assert_close(attack.score(got).float(), expected)


def test_the_cosine_with_one_known_row_of_two_classes(make):
    batch = [[2.0, 0.0], [-3.0, 1.0], [0.0, 0.0], [1e-25, 1e-25]]
    expected = torch.tensor([1, -3 / 10**0.5, 0, 0.5**0.5], dtype=torch.float64)
    for label, sign in ((1, 1), (0, -1)):
        attack = make(sl.GradientCosine, known={0: label})
        told(attack, batch)
        torch.testing.assert_close(attack.score(attack.received()), sign * expected)
        guesses = (sign * expected > 0).long()
        assert torch.equal(attack.infer_labels(attack.received()), guesses)


def test_the_cosine_takes_the_reference_that_is_nearest_in_time(make):
    attack = make(sl.GradientCosine, known={7: 1})
    told(attack, [[1.0, 0.0]], rows=[7])
    for _ in range(3):
        told(attack, [[1.0, 0.0]], rows=[3])
    told(attack, [[-1.0, 0.0]], rows=[7])
    assert attack.score(attack.received(1, 4)).tolist() == [1, 1, -1]


def test_the_cosine_of_more_classes_takes_the_nearest_known_row(make):
    attack = make(sl.GradientCosine, known={0: 0, 1: 1, 2: 2, 3: 2}, classes=3)
    told(attack, [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0], [0.1, -2.0], [-1.0, 0.9]])
    assert attack.score(attack.received()).shape == (6, 3)
    assert attack.infer_labels(attack.received()).tolist() == [0, 1, 2, 2, 2, 2]


def test_what_an_attack_lacks_gets_a_sentence(make, digits):
    for options, sentence in (
        ({"known": {}}, "with at least one row"),
        ({"known": {0: 0, 1: 1}, "classes": 3}, "no row of class 2.*a row of each class"),
        ({"known": {10**6: 0}}, "rows run from 0 to"),
        ({"known": {0: 2}}, "labels from 0 to 1"),
    ):
        with pytest.raises(ValueError, match=sentence):
            make(sl.GradientCosine, **options)
    attack = make(sl.GradientCosine, known={5: 1})
    told(attack, [[1.0]])
    with pytest.raises(ValueError, match="no known row of some class has been in a batch yet"):
        attack.score(attack.received())
    attack = make(sl.GradientCosine, known={0: 0, 1: 1, 2: 2, 3: 2}, classes=3)
    told(attack, [[1.0, 0.0], [0.0, 1.0]])
    with pytest.raises(ValueError, match="no known row of some class"):
        attack.score(attack.received())
    told(attack, [[-1.0, 0.0]], rows=[3])  # one row of each class is enough
    assert attack.infer_labels(attack.received()).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match=r"share is .*: choose a number between 0 and 1"):
        make(sl.GradientNorm, share=1.0)
    with pytest.raises(ValueError, match="cannot distinguish 10 classes"):
        make(sl.GradientNorm, classes=10)
    with pytest.raises(ValueError, match=r"pass data\.without_labels\(\)"):
        sl.GradientNorm(sl.tiny.client_net(), digits[0])
    with pytest.raises(ValueError, match="kept no gradient"):
        make(sl.GradientClustering).received()
    with pytest.raises(TypeError, match="infer_labels"):
        make(sl.attacks.LabelInference)


def test_clusters_of_directions_whatever_their_length(make):
    attack = make(sl.GradientClustering, classes=3)
    angles = torch.tensor([0.0, 0.1, 2.0, 2.1, 4.0, 4.1])
    lengths = torch.tensor([1e-20, 1.0, 1e-3, 5.0, 1e-9, 2.0])
    dz = lengths[:, None] * torch.stack([angles.cos(), angles.sin()], 1)
    clusters = attack.infer_labels(received(dz.tolist()))
    assert sl.accuracy_after_matching(clusters, torch.tensor([0, 0, 1, 1, 2, 2])) == 1
    assert torch.equal(clusters, attack.infer_labels(received(dz.tolist())))
    assert attack.score(received(dz.tolist())) is None
    assert len(attack.infer_labels(received([[0.0, 0.0], [1.0, 0.0]]))) == 2  # fewer than classes


def test_an_attack_keeps_the_first_steps_and_resumes_with_them(make):
    one = make(sl.GradientNorm, keep=2)
    for scale in (1.0, 2.0, 3.0):
        told(one, [[scale, 0.0]], rows=[4])
    assert one.received().dz.flatten().tolist() == [1, 0, 2, 0]
    other = make(sl.GradientCosine, known={4: 1})
    other.load_state_dict(one.state_dict())
    assert torch.equal(other.received().dz, one.received().dz)
    assert other.received(1, 2).step.tolist() == [1]


def trained(part, label, kind, steps=20, **options):
    """An attack after some steps beside an honest server with the labels; and that server."""
    labelled = part.labelled(label) if label in part.attributes else part.one_against_rest(label)
    row = int(labelled.y.nonzero()[0])
    if kind is sl.GradientCosine:
        options["known"] = {row: 1}
    attack = kind(sl.tiny.client_net(), part.without_labels(), **sl.tiny.client(), **options)
    server = sl.HonestServer(
        sl.tiny.server_net(classes=2), labels=labelled.y, optimizer=sl.tiny.client_optimizer
    )
    sl.train([attack], server, steps)
    return attack, server


@pytest.fixture(scope="module")
def faces():
    """Few faces, so that a known row comes up soon."""
    return sl.data.drawn_faces(600, size=16, channels=1)


@pytest.mark.parametrize("data", ["digits", "faces"])
def test_labels_leak_on_digits_and_on_faces(data, digits, faces):
    part, label = (digits[0], "0") if data == "digits" else (faces, "hat")
    windows = {"early": (0, 24)}
    attack, server = trained(part, label, sl.GradientCosine, steps=24)
    truth = dataclasses.replace(part, y=server.labels, classes=("no", "yes"))

    def early(attack, truth=truth):
        return sl.evaluate(attack, attack, truth=truth, windows=windows)["early"]

    cosine = early(attack)
    assert cosine["auc"] > 0.98 and cosine["accuracy"] > 0.95
    state = attack.state_dict()
    options = sl.tiny.client()
    for kind, figure, least in (
        (sl.GradientNorm, "auc", 0.9),
        (sl.GradientClustering, "after_matching", 0.95),
    ):
        other = kind(sl.tiny.client_net(), part.without_labels(), **options)
        other.load_state_dict(state)
        assert early(other)[figure] > least
    # Beside labels of other rows the same scores are worth nothing.
    y = truth.y[torch.randperm(len(part))]
    shuffled = early(attack, dataclasses.replace(truth, y=y))["auc"]
    assert abs(shuffled - 0.5) < 0.25
