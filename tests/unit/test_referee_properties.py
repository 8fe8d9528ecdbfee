"""The figures of an inferred property: by hand, against scikit-learn, and who may be compared."""

import json

import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from torch import nn

import splitlab as sl
from splitlab.data import ImageData


def images(n, classes, seed, **options):
    """Random images with random labels."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 1, 4, 4, generator=generator)
    y = torch.randint(classes, (n,), generator=generator)
    return ImageData(x, y, tuple(map(str, range(classes))), value_range=(0.0, 1.0), **options)


class Reads:
    """An attack whose z is the image: class 1 where the first pixel is above a half."""

    def __init__(self, public):
        self.public = public

    def infer_property(self, message):
        return nn.functional.one_hot((message.z[:, 0, 0, 0] > 0.5).long(), 2).float()

    def classify(self, x):
        return nn.functional.one_hot((x[:, 0, 0, 0] > 0.5).long(), 2).float().flip(1)


def client_of(data, **options):
    net = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False))
    nn.init.ones_(net[0].weight)
    return sl.Client(net, data, batch_size=2, **options)


@pytest.fixture
def scene():
    """Eight private images, six of them of class 1, and three inferred wrongly; and public ones."""
    x = torch.zeros(8, 1, 4, 4)
    x[:, 0, 0, 0] = torch.tensor([0.9, 0.9, 0.9, 0.9, 0.1, 0.1, 0.9, 0.1])
    x[:, 0, 1, 1] = torch.arange(8) / 8  # no two alike
    truth = ImageData(x, torch.tensor([1, 1, 1, 1, 1, 1, 0, 0]), ("no", "yes"), value_range=(0, 1))
    task = ImageData(x, torch.tensor([0, 0, 0, 0, 1, 1, 2, 2]), ("a", "b", "c"), value_range=(0, 1))
    public = images(5, 2, 1)
    public.y[:] = torch.tensor([0, 0, 0, 1, 1])
    public = ImageData(public.x, public.y, ("no", "yes"), value_range=(0, 1))
    return client_of(task), Reads(public), truth


def test_figures_by_hand(scene):
    client, attack, truth = scene
    report = sl.evaluate(client, attack, truth=truth)
    assert report.n == 8
    assert report["attack"] == {"accuracy": 5 / 8, "balanced": pytest.approx((4 / 6 + 1 / 2) / 2)}
    assert "as_received" not in report.attack
    assert report.further["confusion"] == [[1, 1], [2, 4]]
    assert report.floors["chance"] == {"accuracy": 0.5, "balanced": 0.5}
    # The attacker's majority is "no", that of the private images "yes".
    assert report.floors["public_majority"] == {"accuracy": 0.25, "balanced": 0.5}
    assert report.floors["best_constant"] == {"accuracy": 0.75, "balanced": 0.5}
    assert report.floors["best_from_label"] == {"accuracy": 1.0, "balanced": 1.0}
    assert report["own_networks"]["accuracy"] == 3 / 8


def test_a_label_that_stays_at_home_is_no_floor(scene):
    client, attack, truth = scene
    quiet = client_of(client.data, sends_labels=False)
    floors = sl.evaluate(quiet, attack, truth=truth).floors
    assert "best_from_label" not in floors


def test_accuracies_are_scikit_learns():
    generator = torch.Generator().manual_seed(0)
    told, truth = torch.randint(5, (2, 200), generator=generator)
    figures = sl.accuracies(told, truth)
    assert figures["accuracy"] == pytest.approx(accuracy_score(truth, told))
    assert figures["balanced"] == pytest.approx(balanced_accuracy_score(truth, told))
    # A class that does not occur has no share.
    assert sl.accuracies(torch.tensor([2, 1]), torch.tensor([1, 1])) == {
        "accuracy": 0.5,
        "balanced": 0.5,
    }


def test_true_pairs_learn_on_other_images_than_they_are_scored_on():
    """z says nothing of random labels: a probe scored where it learned would know them."""
    data = images(400, 2, 3)
    report = sl.evaluate(client_of(data), Reads(images(40, 2, 4)), truth=data)
    assert 0.4 < report["true_pairs"]["accuracy"] < 0.6
    easy = ImageData(data.x, (data.x[:, 0, 0, 0] > 0.5).long(), data.classes, value_range=(0, 1))
    report = sl.evaluate(client_of(easy), Reads(images(40, 2, 4)), truth=easy)
    assert report["true_pairs"]["accuracy"] > 0.9
    assert report["attack"]["accuracy"] == 1


def test_training_mode_is_scored_where_it_differs(scene):
    client, attack, truth = scene
    net = nn.Sequential(*client.net, nn.BatchNorm2d(1))
    report = sl.evaluate(sl.Client(net, client.data, batch_size=4), attack, truth=truth)
    assert set(report["as_received"]) == {"accuracy", "balanced"}


def test_scoring_changes_nothing(scene):
    client, attack, truth = scene
    random, state = torch.get_rng_state(), client.sampler.state_dict()
    sl.evaluate(client, attack, truth=truth)
    assert torch.equal(torch.get_rng_state(), random)
    assert str(client.sampler.state_dict()) == str(state)


def test_what_cannot_be_compared_gets_a_sentence(scene):
    client, attack, truth = scene
    shuffled = truth.select(list(range(7, -1, -1)))
    with pytest.raises(ValueError, match="the clients' own images in their order"):
        sl.evaluate(client, attack, truth=shuffled)
    with pytest.raises(ValueError, match="truth has the classes a, b, c and the public images"):
        sl.evaluate(client, attack, truth=client.data)
    with pytest.raises(ValueError, match="8 images are both private and public"):
        sl.evaluate(client, Reads(truth), truth=truth)
    with pytest.raises(ValueError, match="do not hold the property: pass truth="):
        sl.evaluate(client, attack)
    with pytest.raises(TypeError, match="truth= has no meaning where the goal is images"):
        public = sl.tiny.split("digits", 0)[1]
        inside = sl.PropertyInference.at(sl.tiny, public)
        sl.evaluate(client, sl.NoHijack(sl.tiny.server_net(), inside), truth=truth)
    with pytest.raises(ValueError, match="at least one image"):
        sl.accuracies(torch.tensor([1]), torch.tensor([1, 0]))


def test_tables_show_floors_attack_and_ceilings(scene):
    report = sl.evaluate(*scene[:2], truth=scene[2])
    text = str(report)
    assert text.index("floor: best constant") < text.index("attack") < text.index("own networks")
    assert "balanced accuracy 0.583; best floor 1.000 (best from label)." in text
    assert json.loads(report.to_json()) == report.to_dict()
    assert report.to_dict()["rows"]["chance"] == {"kind": "floor", **report["chance"]}
    assert "<table" in report._repr_html_()
