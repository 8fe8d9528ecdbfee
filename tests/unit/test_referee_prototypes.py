"""The figures of generated images: by hand, and what cannot be scored."""

import json

import pytest
import torch
from torch import nn

import splitlab as sl
from splitlab.referee import prototypes
from splitlab.referee.prototypes import diversity, nearest_by_class

pytestmark = pytest.mark.usefixtures("short_referee")
CLASSES = ("dark", "bright")


def images(*values):
    """Images of 4x4 pixels, each of one value but for the first pixel, which is 0."""
    x = torch.tensor(values, dtype=torch.float32).view(-1, 1, 1, 1).repeat(1, 1, 4, 4)
    x[:, :, 0, 0] = 0
    return x


def data(dark, bright):
    y = torch.tensor([0] * len(dark) + [1] * len(bright))
    return sl.ImageData(images(*dark, *bright), y, CLASSES, value_range=(0.0, 1.0))


REFEREE = data([0.01 * k for k in range(20)], [0.8 + 0.01 * k for k in range(20)])
PRIVATE = data([0.105, 0.305], [0.505, 0.905, 0.705])  # two of each class are compared with
UNIT = 15 / 16  # share of the pixels that differ


class Draws:
    """An attack that draws the same images again and again."""

    target = 1

    def __init__(self, pictures):
        self.pictures = pictures

    def generate(self, n):
        return self.pictures.repeat(-(-n // len(self.pictures)), 1, 1, 1)[:n]


def client_of(part):
    return sl.Client(nn.Conv2d(1, 1, 1), part, batch_size=2)


@pytest.fixture
def bright_or_dark(monkeypatch):
    """Both classifiers see the last pixel."""
    sees = [lambda x: (x[:, 0, 3, 3] > 0.5).long()] * 2
    monkeypatch.setattr(prototypes, "two_classifiers", lambda referee, seed: sees)


def test_figures_by_hand(bright_or_dark):
    attack = Draws(images(0.205, 0.505, 0.605, 0.905))
    same = data([0.105, 0.305], [0.505, 0.905])
    report = sl.evaluate([client_of(same)], attack, REFEREE)
    assert report.goal == "prototypes" and report.n == 500
    row = report["attack"]
    assert row["share"] == 0.75  # all but the first
    assert row["nearest_is_target"] == 0.75
    wanted = UNIT * (0.3**2 + 0 + 0.1**2 + 0) / 4
    assert row["distance"] == pytest.approx(wanted, rel=1e-5)
    pairs = [0.3, 0.4, 0.7, 0.1, 0.4, 0.3]
    squares = 2 * 125**2 * UNIT * sum(d**2 for d in pairs)  # of ordered pairs of 500 images
    assert row["diversity"] == pytest.approx(squares / (500 * 499), rel=1e-5)

    gray = report["gray"]  # .5, in the first pixel, too
    assert gray["distance"] == pytest.approx(UNIT * 0.005**2 + 0.5**2 / 16, rel=1e-5)
    assert (gray["share"], gray["nearest_is_target"], gray["diversity"]) == (0, 1, 0)

    others = report["other_classes"]  # .105 and .305
    assert (others["share"], others["nearest_is_target"]) == (0, 0.5)  # .305 has two at .2
    assert others["distance"] == pytest.approx(UNIT * (0.4**2 + 0.2**2) / 2, rel=1e-5)
    assert others["diversity"] == pytest.approx(UNIT * 0.2**2, rel=1e-5)

    mean = report["class_mean"]  # .705
    assert mean["distance"] == pytest.approx(UNIT * 0.2**2, rel=1e-5)
    assert (mean["share"], mean["nearest_is_target"], mean["diversity"]) == (1, 1, 0)
    everything = report["global_mean"]  # .455
    assert everything["distance"] == pytest.approx(UNIT * 0.05**2, rel=1e-4)
    assert everything["share"] == 0

    real = report["real_images"]  # .505 and .905, each compared with the other
    assert real["distance"] == real["diversity"] == pytest.approx(UNIT * 0.4**2, rel=1e-5)
    assert (real["share"], real["nearest_is_target"]) == (1, 0.5)

    near = report.further["distance_by_class"]
    assert near["bright"] == pytest.approx(wanted, rel=1e-5)
    assert near["dark"] == pytest.approx(UNIT * (0.1**2 + 0.2**2 + 0.3**2 + 0.6**2) / 4, rel=1e-5)
    assert report.further["nearest_class"] == "bright"
    assert "the target is number 1 of 2" in report.notes[0]
    assert "2 real images of each of 2 classes" in report.notes[1]


def test_a_target_that_is_not_the_nearest_class_is_said(bright_or_dark):
    report = sl.evaluate([client_of(PRIVATE)], Draws(images(0.105, 0.205)), REFEREE)
    assert report["attack"]["nearest_is_target"] == 0
    assert report.further["nearest_class"] == "dark"
    assert "Target: bright." in report.notes[0] and "number 2 of 2" in report.notes[0]


def test_an_image_is_not_compared_with_itself_only_where_it_is_real():
    x = images(0.2, 0.6)
    assert nearest_by_class(x, {7: x})[7].tolist() == [0, 0]
    among = nearest_by_class(x, {7: x}, among_real=True)[7]
    assert among.tolist() == pytest.approx([UNIT * 0.4**2] * 2)


def test_diversity_is_the_mean_over_all_pairs():
    x = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    pairs = [float((x[i] - x[j]).square().mean()) for i in range(6) for j in range(6) if i != j]
    assert diversity(x) == pytest.approx(sum(pairs) / len(pairs), rel=1e-5)
    assert diversity(x[:1]) == 0


def test_the_images_are_those_of_the_honest_clients(bright_or_dark):
    """Of several clients; those of an attacker among them do not count."""
    digits = sl.tiny.split("digits", 0)
    private, referee = digits[0], digits[2]
    parts = [private.select(torch.arange(k, 120, 2)) for k in range(2)]
    clients = [
        sl.Client(sl.tiny.client_net(), p, batch_size=8, name=f"{k}") for k, p in enumerate(parts)
    ]
    attack = sl.ClientGAN.at(sl.tiny, private, target=1)
    alone = sl.evaluate(clients, attack, referee)
    assert alone.to_dict() == sl.evaluate([attack, *clients], attack, referee).to_dict()
    counts = torch.bincount(torch.cat([part.y for part in parts]))
    assert f"{int(counts.min())} real images of each of 10 classes" in alone.notes[1]


def test_scoring_changes_nothing_and_the_seed_chooses():
    digits = sl.tiny.split("digits", 0)
    client, attack = client_of(digits[0]), sl.ClientGAN.at(sl.tiny, digits[0], target=1)
    random, before = torch.get_rng_state(), str(attack.state_dict())
    one, other = (sl.evaluate([attack, client], attack, digits[2], seed=0) for _ in range(2))
    assert one.to_dict() == other.to_dict()
    assert torch.equal(torch.get_rng_state(), random)
    assert str(attack.state_dict()) == before


def test_it_shows_floors_attack_and_ceiling(bright_or_dark):
    report = sl.evaluate([client_of(PRIVATE)], Draws(images(0.6, 0.8)), REFEREE)
    text = str(report)
    assert text.index("floor: class mean") < text.index("attack") < text.index("ceiling: real")
    best = min(floors["distance"] for floors in report.floors.values())
    attack = report["attack"]["distance"]
    assert f"MSE to nearest of the target {attack:.3f}; best floor {best:.3f} (" in text
    assert json.loads(report.to_json()) == report.to_dict()
    assert report._repr_html_().count("<img") == 3


def test_what_cannot_be_scored_gets_a_sentence(bright_or_dark):
    client, attack = client_of(PRIVATE), Draws(images(0.6))
    with pytest.raises(ValueError, match="pass referee=, a part of the split"):
        sl.evaluate([client], attack)
    with pytest.raises(ValueError, match="5 of the clients' images are in the referee's part"):
        sl.evaluate([client], attack, PRIVATE)
    with pytest.raises(ValueError, match="hold 0 images of class 1, which Draws generates"):
        sl.evaluate([client_of(PRIVATE.without("bright"))], attack, REFEREE)
    with pytest.raises(ValueError, match=r"shape \(1, 2, 2\) and the clients' are \(1, 4, 4\)"):
        sl.evaluate([client], Draws(torch.zeros(1, 1, 2, 2)), REFEREE)
    with pytest.raises(TypeError, match="truth= has no meaning where the goal is prototypes"):
        sl.evaluate([client], attack, REFEREE, truth=PRIVATE)
    with pytest.raises(TypeError, match="cannot be scored on 'labels', only on prototypes"):
        sl.evaluate([client], attack, REFEREE, goal="labels")
    with pytest.raises(ValueError, match="the only client is the attacker"):
        gan = sl.ClientGAN.at(sl.tiny, sl.tiny.split("digits", 0)[0], target=1)
        sl.evaluate([gan], gan, REFEREE)
