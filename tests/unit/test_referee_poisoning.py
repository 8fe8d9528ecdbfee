"""The figures of a poisoned network: by hand, whose network it is, and what cannot be scored."""

import json

import pytest
import torch
from torch import nn

import splitlab as sl

CLASSES = ("black", "gray", "white")
VALUES = {0: -0.9, 1: 0.0, 2: 0.9}


def data(*labels, first=0):
    """Images of 2x2 pixels: their class is their value, and the first pixel numbers them."""
    y = torch.tensor(labels)
    x = torch.tensor([VALUES[label] for label in labels]).view(-1, 1, 1, 1).repeat(1, 1, 2, 2)
    x[:, 0, 0, 0] = (torch.arange(len(y)) + first) / 127.5 - 1
    return sl.ImageData(x, y, CLASSES)


class Sees(nn.Module):
    """A network that takes an image for the class of its last pixel, and knows some classes."""

    def __init__(self, knows=(0, 1, 2)):
        super().__init__()
        self.knows, self.weight = knows, nn.Parameter(torch.ones(()))

    def forward(self, x):
        values = torch.tensor([VALUES[label] for label in self.knows])
        near = (x.flatten(1)[:, -1:] - values).abs().argmin(1)
        return nn.functional.one_hot(torch.tensor(self.knows)[near], 3) * self.weight


def client(knows=(0, 1, 2), part=None, steps=0, name="client", cls=sl.Client, **options):
    part = data(0, 1, 2, first=100) if part is None else part
    made = cls(Sees(knows), part, tail=nn.Linear(3, 3), batch_size=1, name=name, **options)
    nn.init.eye_(made.tail.weight)
    nn.init.zeros_(made.tail.bias)
    made.step = steps
    return made


def server():
    net = nn.Linear(3, 3, bias=False)
    nn.init.eye_(net.weight)
    return sl.HonestServer(net)


class Attack:
    """Makes some rows look as it likes, and wants them to be taken for a class."""

    def __init__(self, rows, values, wanted):
        self.rows, self.wanted = (torch.tensor(one, dtype=torch.int64) for one in (rows, wanted))
        self.values = torch.tensor(values)

    def attack_set(self, test):
        images = test.x[self.rows].clone()
        if len(self.values):
            images[:, 0, -1, -1] = self.values
        return self.rows, images, self.wanted


TEST = data(0, 0, 0, 1, 1, 1, 1, 2)
# The network knows no gray, and takes it for black. Of four gray images three get a white pixel.
WHITE = Attack([3, 4, 5, 6], [0.9, 0.9, 0.9, 0.0], [2, 2, 2, 2])


def test_figures_by_hand():
    test = data(0, 0, 0, 1, 1, 1, 1, 2)
    test.x[[1, 4], 0, -1, -1] = 0.9  # one black and one gray image look white already
    report = sl.evaluate([client((0, 2))], WHITE, test, server=server())
    assert report.goal == "poisoning" and report.n == 4
    assert report["attack"] == {"success": 3 / 4, "accuracy": 3 / 8}
    assert report["without_trigger"] == {"success": 1 / 4, "accuracy": None}
    assert report["other_images"] == {"success": 1 / 3, "accuracy": None}
    assert report["wanted_classes"] == {"success": 1, "accuracy": None}
    assert set(report.floors) == {"without_trigger", "other_images"}
    assert set(report.ceilings) == {"wanted_classes"}
    assert report.notes[0] == "4 of 8 test images are attacked; Attack wants them to be taken " + (
        "for white."
    )


def test_success_is_being_taken_for_what_is_wanted_of_this_very_image():
    """Two images that are taken for each other's wanted class are no success."""
    attack = Attack([0, 7], [0.9, -0.9], [0, 2])
    report = sl.evaluate([client()], attack, TEST, server=server())
    assert report["attack"] == {"success": 0, "accuracy": 1}
    assert report["without_trigger"]["success"] == 1


def test_an_attack_that_changes_no_image_has_no_row_without_trigger():
    report = sl.evaluate([client()], Attack([3, 4], [], [0, 0]), TEST, server=server())
    assert set(report.floors) == {"other_images"}
    assert report["attack"]["success"] == report["other_images"]["success"] == 0


def test_without_any_floor_and_ceiling_it_still_renders():
    """All classes are attacked and wanted, or no image is of a wanted class."""
    attack = Attack([*range(7)], [], [1, 1, 1, 0, 0, 0, 0])
    report = sl.evaluate([client((0, 1))], attack, TEST.without("white"), server=server())
    assert report.floors == {}
    assert "attack success 0.000; there is no floor." in str(report)
    report = sl.evaluate([client()], WHITE, TEST.without("white"), server=server())
    assert report.ceilings == {} and "ceiling" not in str(report)


def test_the_network_is_that_of_the_client_whose_turn_is_next():
    """The first of those with the fewest steps; that of the attacker, too."""
    blind, sees = client((0, 2), steps=6, name="before"), client(steps=4, name="next")
    last = client((0, 2), steps=4, name="after", cls=sl.LabelFlipping, flips={0: 1})
    found = sl.evaluate([blind, sees, last], WHITE, TEST, server=server())
    assert found["attack"]["accuracy"] == 1 and "that next holds" in found.notes[1]
    alone = sl.evaluate([last], last, TEST, server=server())
    assert alone["attack"] == {"success": 0, "accuracy": 0.5} and "after holds" in alone.notes[1]


@pytest.mark.parametrize(("steps", "newest"), [(2, 1), (4, 2), (6, 0), (8, 1)])
def test_after_whole_turns_it_holds_the_newest_weights(digits, steps, newest):
    nets, clients = sl.tiny.nets, []
    for k in range(3):
        part = digits[0].select(torch.arange(k, 60, 3))
        net, tail = nets.shallow_client(seed=k), nets.shallow_tail(seed=k)
        clients.append(sl.Client(net, part, tail=tail, batch_size=8, name=f"client {k}"))
    serving = sl.HonestServer(nets.shallow_server()[:-1])
    sl.train(clients, serving, steps, protocol=sl.Sequential(sl.u_shaped, turn=2))
    report = sl.evaluate(clients, Attack([0], [], [1]), digits[2], server=serving)
    assert f"that client {newest} holds" in report.notes[1]
    given, held = (clients[k].weights().state for k in (newest - 1, newest))
    assert all(torch.equal(given[name], held[name]) for name in held)


def test_before_training_it_scores_the_untrained_network():
    attack = client((0, 2), cls=sl.Backdoor, target=2, trigger=sl.Patch(1))
    report = sl.evaluate([attack], attack, TEST, server=server())
    assert report["attack"]["success"] == 1 and report["without_trigger"]["success"] == 0


def test_a_server_that_attacks_need_not_be_named():
    attack = sl.ServerBackdoor(
        nn.Linear(3, 3, bias=False),
        data(0, 1, 2, first=50),
        surrogate=Sees(),
        target=2,
        surrogate_optimizer=torch.optim.Adam,
        trigger=sl.Patch(1),
        batch_size=1,
    )
    nn.init.eye_(attack.net.weight)
    victim = sl.Client(Sees(), data(0, 1, 2, first=100), batch_size=1)
    assert sl.evaluate(victim, attack, TEST)["attack"] == {"success": 1, "accuracy": 1}
    with pytest.raises(ValueError, match="3 of the test images are ServerBackdoor's: pass a part"):
        sl.evaluate(victim, attack, attack.public)


def test_it_renders_and_changes_nothing():
    one, serving = client((0, 2)), server()
    before, random = str([one.state_dict(), serving.state_dict()]), torch.get_rng_state()
    report = sl.evaluate([one], WHITE, TEST, server=serving)
    text = str(report)
    assert text.index("floor: without trigger") < text.index("attack  ") < text.index("ceiling:")
    assert "attack success 0.750; best floor 0.000 (" in text
    assert json.loads(report.to_json()) == report.to_dict()
    assert report._repr_html_().count("<img") == 2
    assert str([one.state_dict(), serving.state_dict()]) == before
    assert torch.equal(torch.get_rng_state(), random)


def refused(error, sentence, clients=None, attack=WHITE, test=TEST, **options):
    options = {"server": server()} | options
    with pytest.raises(error, match=sentence):
        sl.evaluate([client()] if clients is None else clients, attack, test, **options)


def test_what_cannot_be_scored_gets_a_sentence():
    needs = "Attack poisons a network whose middle layers are the server's: pass server="
    refused(TypeError, needs, server=None)
    refused(TypeError, f"{needs}.*, not Client$", server=client())
    refused(ValueError, "pass referee=, a part of the split that no client holds", test=None)
    shares = [client(), client(part=data(0, 0, 2), name="other")]
    refused(ValueError, "2 of the test images are other's: pass a part that nobody", shares)
    nothing = Attack([], [], [])
    refused(ValueError, "Attack attacks none of the 8 test images: pass others", attack=nothing)
    short = Attack([3, 4], [], [2])
    refused(ValueError, "returns 2 rows, 2 images and 1 wanted classes: return one", attack=short)
    steps = [client(steps=n) for n in (2, 1, 0)]
    refused(ValueError, "have taken 2, 1, 0 steps, so no turn is next: train for whole", steps)
    wide = sl.ImageData(torch.zeros(2, 1, 2, 3), torch.tensor([0, 1]), CLASSES)
    refused(ValueError, "differ from client's in shape, classes or value range: pass", test=wide)
    names = sl.ImageData(TEST.x, TEST.y, ("a", "b", "c"))
    refused(ValueError, "differ from client's in shape, classes or value range", test=names)
    refused(TypeError, "n_match= has no meaning where the goal is poisoning", n_match=3)


def test_a_server_has_no_meaning_for_another_goal(digits):
    gan = sl.ClientGAN.at(sl.tiny, digits[0], target=1)
    refused(
        TypeError, "server= has no meaning where the goal is prototypes: leave it out", [gan], gan
    )
