"""Poisoning: what triggers change, which labels are false, and what the server receives."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import SGD

import splitlab as sl
from splitlab.attacks.triggers import triggered

NETS = sl.tiny.nets


def parts(dtype=torch.float32):
    """(f, body, tail) without Dropout and BatchNorm: each row by itself."""
    net, server = NETS.shallow_client(), NETS.shallow_server()
    return net.to(dtype), server[:-1].to(dtype), server[-1].to(dtype)


def attacker(kind, data, *, dtype=torch.float32, batch_size=8, **options):
    net, _, tail = parts(dtype)
    options = {"optimizer": partial(SGD, lr=0.1)} | options
    return kind(net, data, tail=tail, batch_size=batch_size, **options)


backdoor = partial(attacker, sl.Backdoor, target=1)


def held(*nets):
    """Copies of all parameters."""
    return [p.detach().clone() for net in nets for p in net.parameters()]


def same(one, other):
    return all(map(torch.equal, one, other))


@pytest.fixture
def private(digits):
    return digits[0].select(range(64))


@pytest.fixture
def unit(private):
    """The same images, with values from 0 to 1."""
    return sl.ImageData(private.x / 2 + 0.5, private.y, private.classes, value_range=(0.0, 1.0))


# Triggers


@pytest.mark.parametrize("channels", [1, 3])
def test_a_patch_changes_the_lower_right_corner_alone(channels):
    x = torch.rand(4, channels, 8, 6) - 0.5
    before = x.clone()
    made = sl.Patch(2)(x)
    assert (made[..., 6:, 4:] == 1).all()
    inside = torch.ones(8, 6, dtype=torch.bool)
    inside[6:, 4:] = False
    assert torch.equal(made[..., inside], x[..., inside])
    assert torch.equal(x, before)


def test_a_blend_mixes_one_pattern_of_its_seed_into_every_image():
    x = torch.rand(5, 3, 8, 8) * 1.8 - 0.9
    before = x.clone()
    made = sl.Blend(0.2, seed=3)(x)
    pattern = (made - 0.8 * x) / 0.2
    assert torch.allclose(pattern.abs(), torch.ones(()), atol=1e-5)
    assert torch.allclose(pattern, pattern[:1].expand_as(pattern), atol=1e-5)
    assert 0.3 < (pattern > 0).float().mean() < 0.7
    assert torch.equal(x, before)
    assert torch.equal(sl.Blend(0.2, seed=3)(x[2:3]), made[2:3])
    assert not torch.equal(sl.Blend(0.2, seed=4)(x), made)


@pytest.mark.parametrize("trigger", [sl.Patch(), sl.Blend(1.0)], ids=repr)
def test_a_trigger_reaches_the_ends_of_the_images_range_and_stays_inside(trigger, unit):
    """The attack passes its data's range; alone, a trigger takes -1 to 1."""
    attack = backdoor(unit, trigger=trigger, share=1.0)
    for images in (attack.next_turn().x, attack.attack_set(unit)[1]):
        corner = images[..., -3:, -3:]
        assert corner.max() == 1 and images.min() == 0
        assert isinstance(trigger, sl.Patch) or corner.unique().tolist() == [0, 1]
    assert trigger(unit.x)[..., -3:, -3:].min() == (1 if isinstance(trigger, sl.Patch) else -1)


def test_a_patch_may_be_dark(unit):
    assert (sl.Patch(value=0.25)(unit.x, (0.0, 1.0))[..., -3:, -3:] == 0.25).all()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: sl.Patch(0), "size is 0: choose a whole number of at least 1"),
        (lambda: sl.Patch(2.5), r"size is 2\.5: choose a whole number of at least 1"),
        (lambda: sl.Patch(9), r"size is 9 and the images are \(8, 8\) pixels: choose a smaller"),
        (lambda: sl.Patch(value=1.5), r"value is 1\.5 and pixels run from -1 to 1: choose a value"),
        (lambda: sl.Patch(value=float("nan")), "value is nan: choose a finite number"),
        (lambda: sl.Blend(0.0), r"strength is 0\.0: choose a share above 0 and at most 1"),
        (lambda: sl.Blend(1.1), r"strength is 1\.1: choose a share above 0 and at most 1"),
    ],
)
def test_a_trigger_that_makes_no_sense_gets_a_sentence(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()(torch.zeros(2, 1, 8, 8))


class Mine(sl.attacks.Trigger):
    """A user's trigger: any function."""

    def __init__(self, function):
        self.function = function

    def __call__(self, x, value_range=(-1.0, 1.0)):
        return self.function(x)


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (lambda x: x[..., :8], r"Mine\(\) turns images of shape .* let it return the same shape"),
        (lambda x: x[:1], r"Mine\(\) turns images of shape"),
        (lambda x: x + 0.5, r"Mine\(\) makes pixels outside of -1 to 1, .*: clamp them"),
        (lambda x: x * float("nan"), r"Mine\(\) makes pixels outside of -1 to 1"),
    ],
    ids=["narrow", "one image", "bright", "NaN"],
)
def test_a_trigger_that_makes_no_images_of_the_kind_gets_a_sentence(private, function, sentence):
    with pytest.raises(ValueError, match=sentence):
        backdoor(private, trigger=Mine(function))
    attack = backdoor(private, share=1.0)
    attack.trigger = Mine(function)  # one that was right for the images it was tried on
    with pytest.raises(ValueError, match=sentence):
        attack.forward()
    with pytest.raises(ValueError, match=sentence):
        attack.attack_set(private)


def test_a_trigger_that_writes_into_its_argument_harms_nobody(private):
    before = private.x.clone()
    made = triggered(Mine(lambda x: x.zero_()), private.x, (-1.0, 1.0))
    assert not made.any() and torch.equal(private.x, before)


# Label flipping


def test_labels_are_exchanged_at_once(private):
    attack = attacker(sl.LabelFlipping, private, flips={0: 1, 1: 0, 2: 5})
    wanted = {0: 1, 1: 0, 2: 5}
    for _ in range(8):
        turn = attack.next_turn()
        true = private.y[turn.index].tolist()
        assert turn.labels.tolist() == [wanted.get(label, label) for label in true]
    assert attack.flip(torch.tensor([1, 0, 2, 5])).tolist() == [0, 1, 5, 5]


def test_it_is_an_honest_client_on_relabeled_images_to_the_last_bit(private):
    before = private.y.clone()
    attack = attacker(sl.LabelFlipping, private, flips={0: 1, 1: 0})
    relabeled = sl.ImageData(private.x, attack.flip(private.y), private.classes)
    assert not torch.equal(relabeled.y, private.y)
    weights = []
    for client in (attack, attacker(sl.Client, relabeled)):
        server = sl.HonestServer(parts()[1])
        sl.train([client], server, 10, protocol=sl.u_shaped)
        weights.append(held(client.net, client.tail, server.net))
    assert same(*weights)
    assert torch.equal(attack.data.y, before)


def test_the_flipped_classes_are_attacked_as_they_are(private):
    rows, images, wanted = attacker(sl.LabelFlipping, private, flips={3: 7}).attack_set(private)
    assert torch.equal(rows, (private.y == 3).nonzero()[:, 0])
    assert torch.equal(images, private.x[rows]) and set(wanted.tolist()) == {7}


@pytest.mark.parametrize(
    ("flips", "sentence"),
    [
        ({}, r"flips is empty: name at least one class and its false label, as \{0: 6\}"),
        ({10: 1}, "a class in flips is 10: choose a class from 0 to 9"),
        ({1: -1}, "the false label of 1 in flips is -1: choose a class from 0 to 9"),
        ({4: 4}, "flips has 4: 4, which changes nothing: choose another label"),
        ({"4": 5}, "a class in flips is '4': pass the number of a class, from 0 to 9"),
        ({4: "5"}, "the false label of 4 in flips is '5': pass the number of a class"),
    ],
)
def test_flips_that_make_no_sense_get_a_sentence(private, flips, sentence):
    with pytest.raises(ValueError, match=sentence):
        attacker(sl.LabelFlipping, private, flips=flips)


# A client's backdoor


@pytest.mark.parametrize(
    ("share", "batch_size", "n"), [(0.5, 8, 4), (0.3, 8, 2), (0.01, 8, 1), (1.0, 8, 8), (0.5, 1, 1)]
)
def test_the_first_rows_get_the_trigger_and_the_target_and_the_others_stay(
    private, share, batch_size, n
):
    turn = backdoor(private, share=share, batch_size=batch_size).next_turn()
    x, y = private.x[turn.index], private.y[turn.index]
    assert torch.equal(turn.x[:n], sl.Patch()(x[:n])) and torch.equal(turn.x[n:], x[n:])
    assert turn.labels[:n].tolist() == [1] * n and torch.equal(turn.labels[n:], y[n:])


def test_private_images_and_labels_stay_as_they_are(private):
    """Of gray images, too, whose three channels are one in memory."""
    colors = sl.ImageData(private.x.expand(-1, 3, -1, -1), private.y, private.classes)
    client, body, tail = NETS.shallow_client(channels=3), *parts()[1:]
    attack = sl.Backdoor(client, colors, target=1, tail=tail, batch_size=8)
    x, y = colors.x.clone(), colors.y.clone()
    sl.train([attack], sl.HonestServer(body), 3, protocol=sl.u_shaped)
    assert torch.equal(attack.data.x, x) and torch.equal(attack.data.y, y)


class OnlyRows(sl.Backdoor):
    """Sends the gradient of some rows alone."""

    rows = slice(None)

    def finish(self, message):
        answer = super().finish(message)
        kept = torch.zeros_like(answer.da)
        kept[self.rows] = answer.da[self.rows]
        return type(answer)(da=kept, sender=answer.sender, step=answer.step)


def server_step(private, **options):
    """What one step of SGD in float64 changes at the server, and the gradients of f and tail."""
    kind, rows = options.pop("kind", sl.Backdoor), options.pop("rows", None)
    attack = attacker(kind, private, target=1, share=0.25, dtype=torch.float64, **options)
    if rows is not None:
        attack.rows = rows
    server = sl.HonestServer(parts(torch.float64)[1], optimizer=partial(SGD, lr=0.1))
    before = held(server.net)
    sl.u_shaped(attack, server, sl.Wire())
    step = [now - then for now, then in zip(held(server.net), before, strict=True)]
    return step, [p.grad for net in (attack.net, attack.tail) for p in net.parameters()]


@pytest.fixture
def in_float64(private, monkeypatch):
    """The private images in double precision; `ImageData` itself knows float32 alone."""
    monkeypatch.setattr(private, "x", private.x.double())
    return private


SCALES = [{"scale": 0.5}, {"scale": 0.01}, {"scale": 0.01, "scale_rest": 2.0}]


@pytest.mark.parametrize("scales", SCALES, ids=str)
def test_the_servers_step_is_that_of_both_kinds_of_row_scaled(in_float64, scales):
    scaled, _ = server_step(in_float64, **scales)
    honest, _ = server_step(in_float64, kind=OnlyRows, rows=slice(2, None))
    poison, _ = server_step(in_float64, kind=OnlyRows, rows=slice(0, 2))
    for found, clean, bad in zip(scaled, honest, poison, strict=True):
        assert bad.abs().max() > 1e-4
        expected = scales.get("scale_rest", 1) * clean + scales["scale"] * bad
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("scales", SCALES, ids=str)
def test_f_and_tail_get_the_same_gradient_whatever_the_scale(in_float64, scales):
    _, expected = server_step(in_float64)
    _, found = server_step(in_float64, **scales)
    for one, other in zip(expected, found, strict=True):
        assert one.abs().max() > 0
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-14)


def test_every_image_of_another_class_is_attacked(private):
    attack = backdoor(private, trigger=sl.Blend())
    rows, images, wanted = attack.attack_set(private)
    assert torch.equal(rows, (private.y != 1).nonzero()[:, 0])
    assert torch.equal(images, sl.Blend()(private.x[rows])) and set(wanted.tolist()) == {1}


def test_the_network_takes_triggered_images_for_the_target(private):
    """And the tail alone was told so; the direction, not a bar."""
    attack, server = backdoor(private, batch_size=32), sl.HonestServer(parts()[1])
    _, images, _ = attack.attack_set(private)

    def share():
        return float((sl.referee.task.logits(attack, server, images).argmax(1) == 1).float().mean())

    before = share()
    sl.train([attack], server, 100, protocol=sl.u_shaped)
    assert share() > max(before, 0.5)


REFUSED = {
    "target": ({"target": 10}, "target is 10: choose a class from 0 to 9"),
    "target below": ({"target": -1}, "target is -1: choose a class from 0 to 9"),
    "target by name": ({"target": "1"}, "target is '1': pass the number of a class, from 0 to 9"),
    "target between": ({"target": 0.5}, r"target is 0\.5: pass the number of a class"),
    "share 0": ({"share": 0.0}, r"share is 0\.0: choose a share above 0 and at most 1"),
    "share above": ({"share": 1.5}, r"share is 1\.5: choose a share above 0 and at most 1"),
    "scale": ({"scale": 0.0}, r"scale is 0\.0: choose a finite number above 0"),
    "other scale": ({"scale_rest": -1.0}, r"scale_rest is -1\.0: choose a finite number above 0"),
    "batch": ({"batch_size": 0}, "batch_size is 0: choose a whole number of at least 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_backdoor_that_makes_no_sense_gets_a_sentence(private, name):
    options, sentence = REFUSED[name]
    with pytest.raises(ValueError, match=sentence):
        backdoor(private, **options)


@pytest.mark.parametrize(
    ("kind", "options"), [(sl.Backdoor, {"target": 1}), (sl.LabelFlipping, {"flips": {0: 1}})]
)
def test_without_a_tail_it_could_not_choose_labels(private, kind, options):
    with pytest.raises(ValueError, match="needs a tail to choose its labels: give it tail="):
        kind(parts()[0], private, batch_size=8, **options)


# The server's backdoor


def serving(data, net=None, **options):
    options = {"target": 1, "batch_size": 8, "surrogate_optimizer": partial(SGD, lr=0.1)} | options
    options = {"optimizer": partial(SGD, lr=0.1)} | options
    net = NETS.shallow_server() if net is None else net
    surrogate = options.pop("surrogate", NETS.shallow_client(seed=1))
    return sl.ServerBackdoor(net, data, surrogate=surrogate, **options)


def vanilla_client(private):
    return sl.Client(NETS.shallow_client(), private, optimizer=partial(SGD, lr=0.1), batch_size=8)


def test_its_first_answer_is_an_honest_servers_to_the_last_bit(private, digits):
    message = vanilla_client(private).forward().delivered()
    honest = sl.HonestServer(NETS.shallow_server(), optimizer=partial(SGD, lr=0.1))
    attack = serving(digits[1])
    assert torch.equal(attack.reply(message).dz, honest.reply(message).dz)
    assert not same(held(attack.net), held(honest.net))  # by then it has rehearsed


def test_the_surrogate_and_s_learn_one_after_the_other(private, digits):
    """Each optimizer's step moves its own network, and the other one stays."""
    attack, moved = serving(digits[1], rehearsals=2), []
    for name, optimizer in (("surrogate", attack.surrogate_optimizer), ("s", attack.optimizer)):

        def step(name=name, take=optimizer.step):
            before = held(attack.surrogate), held(attack.net)
            take()
            stayed = map(same, before, (held(attack.surrogate), held(attack.net)))
            moved.append((name, *(not one for one in stayed)))

        optimizer.step = step
    attack.reply(vanilla_client(private).forward().delivered())
    rehearsal = [("surrogate", True, False), ("s", False, True)]
    assert moved == [("s", False, True), *rehearsal, *rehearsal]


def test_a_rehearsal_by_hand(private, digits):
    """The surrogate's step on plain images, then that of s on plain and on triggered ones."""
    message = vanilla_client(private).forward().delivered()
    attack, again = serving(digits[1]), serving(digits[1])
    attack.reply(message)
    sl.HonestServer.reply(again, message)
    index, loss = again.sampler.next(), nn.functional.cross_entropy
    x, y = digits[1].x[index], digits[1].y[index]

    def descend(net, value):
        parameters = list(net.parameters())
        for p, gradient in zip(parameters, torch.autograd.grad(value, parameters), strict=True):
            p.data -= 0.1 * gradient

    descend(again.surrogate, loss(again.net(again.surrogate(x)), y))
    plain, poisoned = again.surrogate(x).detach(), again.surrogate(sl.Patch()(x)).detach()
    wanted = torch.ones_like(y)
    descend(again.net, loss(again.net(plain), y) + loss(again.net(poisoned), wanted))
    for one, other in zip(
        held(attack.surrogate, attack.net), held(again.surrogate, again.net), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-7)


def test_it_takes_no_part_in_the_u_shaped_protocol(private, digits):
    attack, client = serving(digits[1]), attacker(sl.Client, private)
    before = held(attack.net, attack.surrogate, client.net)
    with pytest.raises(NotImplementedError, match="use protocol=vanilla"):
        sl.train([client], attack, 1, protocol=sl.u_shaped)
    assert same(before, held(attack.net, attack.surrogate, client.net))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"target": 10}, "target is 10: choose a class from 0 to 9"),
        ({"target": "1"}, "target is '1': pass the number of a class"),
        ({"rehearsals": 0}, "rehearsals is 0: choose a whole number of at least 1"),
        ({"batch_size": 9999}, "cannot draw batches of 9999 from .* rows: choose a batch_size"),
    ],
)
def test_a_servers_backdoor_that_makes_no_sense_gets_a_sentence(digits, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        serving(digits[1], **options)


def test_a_surrogate_of_another_architecture_gets_a_sentence(private, digits):
    surrogate = nn.Sequential(NETS.shallow_client(), nn.AvgPool2d(2))
    with pytest.raises(ValueError, match=r"net does not take the surrogate's z of shape \(8, 4, 4"):
        serving(digits[1], surrogate=surrogate)
    attack = serving(digits[1])
    attack.surrogate = surrogate
    with pytest.raises(ValueError, match=r"z of shape \(8, 4, 4\) and the client sends \(8, 8, 8"):
        sl.train([vanilla_client(private)], attack, 1)
