"""The hijacker that knows SplitGuard: which batches it suspects, and what it answers to them."""

import copy
from dataclasses import replace

import pytest
import torch
from states import plain
from torch import nn

import splitlab as sl
from splitlab.defenses import SplitGuard

BATCH = 16
RATE = 1e-2


def task():
    return sl.HonestServer(
        sl.tiny.server_net(), optimizer=lambda weights: torch.optim.Adam(weights, lr=RATE)
    )


@pytest.fixture
def make(make_attack):
    """Make one of the paper's design, in which pilot, decoder and critic all learn."""

    def made(kind=sl.GuardAwareFSHA, design="paper", **options):
        return kind(make_attack(design, steps=20), task=task(), **options)

    return made


@pytest.fixture
def message(make_client):
    return make_client().forward().delivered()


def at(message, step, labels=None):
    return replace(message, step=step, labels=message.labels if labels is None else labels)


def shifted(message, shift=3):
    return (message.labels + shift) % 10


def learned(attack, message, steps=12):
    """s has seen this batch often, and knows it."""
    for step in range(steps):
        attack.reply(at(message, step))
    assert attack.accuracies[-1] > 0.9
    return steps


def test_a_false_batch_is_answered_with_the_honest_gradient_and_nobody_learns(make, message):
    attack = make()
    step = learned(attack, message)
    before = plain(attack.state_dict())
    net = copy.deepcopy(attack.task.net)
    answer = attack.reply(at(message, step, shifted(message)))
    z = message.z.clone().requires_grad_()
    nn.functional.cross_entropy(net(z), shifted(message)).backward()
    assert torch.equal(answer.dz, z.grad) and z.grad.abs().max() > 0
    assert (answer.step, attack.suspected) == (step, [step])
    assert attack.metrics["dz_norm"] == attack.metrics["task_norm"] == z.grad.norm()
    after = plain(attack.state_dict())
    assert before.pop("suspected") == [] and after.pop("suspected") == [step]
    assert after == before  # s, critic, pilot, decoder, optimizers, batches, random states


def test_what_it_answers_is_what_an_honest_server_would(make, message):
    """Such a server at the same weights takes a step, and this one does not."""
    attack = make()
    step = learned(attack, message)
    honest = copy.deepcopy(attack.task)
    false = at(message, step, shifted(message))
    assert torch.equal(attack.reply(false).dz, honest.reply(false).dz)
    weight = honest.net[1].weight
    assert not torch.equal(attack.task.net[1].weight, weight)


def test_before_s_has_learned_false_labels_are_answered_as_any(make, message):
    attack, other = make(), make(sl.MultitaskFSHA)
    for step in range(2):
        false = at(message, step, shifted(message))
        assert torch.equal(attack.reply(false).dz, other.reply(false).dz)
    assert attack.suspected == [] and len(attack.accuracies) == 2
    assert plain(attack.task.state_dict()) == plain(other.task.state_dict())
    assert plain(attack.hijack.state_dict()) == plain(other.hijack.state_dict())


@pytest.mark.parametrize("options", [{}, {"weight": 0.5}, {"weight": 0.5, "delay": 3}])
def test_batches_with_true_labels_are_answered_as_by_the_multitask_server(make, message, options):
    attack, other = make(**options), make(sl.MultitaskFSHA, **options)
    for step in range(8):
        true = at(message, step)
        assert torch.equal(attack.reply(true).dz, other.reply(true).dz)
    assert attack.suspected == []
    assert attack.metrics == other.metrics
    assert plain(attack.hijack.state_dict()) == plain(other.hijack.state_dict())


@pytest.mark.parametrize(
    ("usual", "right", "suspects"),
    [
        ([0.75], 6, False),  # 6 of 16 are exactly half of 12
        ([0.75], 5, True),
        ([0.75], 0, True),
        ([0.5], 4, False),
        ([0.5], 3, True),
        ([0.49], 0, False),  # s does not know enough
        ([1.0, 0.5], 5, True),  # the mean of what it remembers is usual
        ([], 0, False),
    ],
)
def test_a_batch_is_suspected_below_half_of_the_usual_accuracy(
    make, message, usual, right, suspects
):
    attack = make(design="fast")
    guess = attack.task.predict(message.z)
    labels = (guess + 1) % 10
    labels[:right] = guess[:right]
    attack.accuracies = list(usual)
    attack.reply(at(message, 7, labels))
    assert attack.suspected == [7] * suspects
    assert attack.accuracies == usual + [right / BATCH] * (not suspects)


def test_it_remembers_the_accuracies_of_20_batches(make, message):
    attack = make(design="fast")
    attack.accuracies = [0.0] * 5 + [0.25] * 15
    attack.reply(message)
    assert len(attack.accuracies) == 20 and attack.accuracies[:5] == [0.0] * 4 + [0.25]


def test_what_it_remembers_is_in_the_state(make):
    attack, again = make(design="fast"), make(design="fast")
    attack.accuracies, attack.suspected = [0.5, 0.75], [4]
    again.load_state_dict(attack.state_dict())
    assert (again.accuracies, again.suspected) == ([0.5, 0.75], [4])


def test_against_splitguard_it_suspects_false_batches_and_hardly_any_other(digits, make_attack):
    """The honest steps at the beginning are enough for s to learn the digits."""

    class Notes(sl.Defense):
        def begin(self, client, turn):
            fakes.extend([client.step] * turn.fake)

    fakes = []
    guard = SplitGuard(false_share=0.25, after=30, stop=False)
    options = sl.tiny.client() | {"batch_size": BATCH, "defenses": [guard, Notes()]}
    client = sl.Client(sl.tiny.client_net(), digits[0], **options)
    attack = sl.GuardAwareFSHA(make_attack(steps=20), task=task(), weight=0.5, delay=30)
    sl.train([client], attack, 54)
    assert len(fakes) >= 4
    assert len(set(attack.suspected) & set(fakes)) >= 0.75 * len(fakes)
    assert len(set(attack.suspected) - set(fakes)) <= 1


def test_in_a_delay_it_is_the_honest_server_for_false_batches_too(make, message):
    attack = make(weight=0.5, delay=15)
    step = learned(attack, message)
    honest = copy.deepcopy(attack.task)
    false = at(message, step, shifted(message))
    assert torch.equal(attack.reply(false).dz, honest.reply(false).dz)
    assert attack.suspected == [step] and attack.accuracies[-1] > 0.9
    assert plain(attack.task.net.state_dict()) == plain(honest.net.state_dict())


def test_without_labels_it_says_which_protocol_and_client_it_needs(make, make_client):
    attack = make(design="fast")
    before = plain(attack.state_dict())
    text = "^GuardAwareFSHA looks for false labels, and none arrive: use protocol=vanilla"
    message = make_client(sends_index=True).forward().delivered()
    for act, asks in {attack.reply: "gradient", attack.forward: "output"}.items():
        with pytest.raises(ValueError, match=text):
            act(replace(message, asks=asks))
    assert plain(attack.state_dict()) == before


def test_a_z_of_another_shape_is_refused_before_anything_changes(make, message):
    attack = make(design="fast")
    before = plain(attack.state_dict())
    with pytest.raises(ValueError, match="give the attack the networks of the client's cut"):
        attack.reply(replace(message, z=message.z[:, :8]))
    assert plain(attack.state_dict()) == before


@pytest.mark.parametrize("kind", [sl.GuardAwareFSHA, sl.MultitaskFSHA])
@pytest.mark.parametrize("delay", [-1, 1.5, True, None, "two"])
def test_a_delay_that_is_none_gets_a_sentence(make, kind, delay):
    with pytest.raises(ValueError, match=f"^delay is {delay!r}: choose a whole number"):
        make(kind, design="fast", delay=delay)


@pytest.mark.parametrize("weight", [-0.1, 1.5, float("nan"), True, None, "half"])
def test_a_weight_that_is_none_gets_a_sentence(make, weight):
    with pytest.raises(ValueError, match=f"^weight is {weight!r}: choose a share"):
        make(design="fast", weight=weight)


def test_its_card_says_that_it_knows_of_false_labels_but_not_which():
    card = sl.GuardAwareFSHA.threat
    assert "that the client may send false labels" in card.knows
    assert "which batches are false" in card.does_not_know
    assert sl.GuardAwareFSHA.PROTOCOLS == ("vanilla",)
