"""The multitask server: what its weight means, and that each of its two ends is what it was."""

import copy

import pytest
import torch
from torch import nn

import splitlab as sl
from splitlab.defenses.gradient_rank import rank_share
from splitlab.nets import LastChannels

BATCH = 16


@pytest.fixture(scope="module")
def faces():
    return sl.data.drawn_faces(600, size=16, channels=1).split(0)


@pytest.fixture(params=["digits", "faces"])
def parts(request, digits, faces):
    return digits if request.param == "digits" else faces


def client(private, tail=None):
    net, optimizer = sl.tiny.client_net(), sl.tiny.client_optimizer
    return sl.Client(net, private, optimizer=optimizer, batch_size=BATCH, tail=tail)


def honest(private, net=None):
    net = sl.tiny.server_net(classes=len(private.classes)) if net is None else net
    return sl.HonestServer(net, optimizer=sl.tiny.client_optimizer)


def fsha(public, design="fast"):
    return sl.FSHA.at(sl.tiny, public, design=design, steps=20, batch_size=BATCH)


def make(parts, weight, net=None, delay=0, **options):
    private, public, _ = parts
    hijack, task = fsha(public, **options), honest(private, net)
    return sl.MultitaskFSHA(hijack, task=task, weight=weight, delay=delay)


def assert_same(one, other):
    for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("design", ["fast", "paper"])
def test_weight_1_is_fsha_bit_for_bit_with_the_task_learned_on_the_side(parts, design):
    private, public, _ = parts
    alone, watched = client(private), client(private)
    plain = fsha(public, design)
    sl.train([alone], plain, 5)
    attack = make(parts, 1.0, design=design)
    before = copy.deepcopy(attack.task.net)
    log = sl.train([watched], attack, 5)
    assert_same(alone.net, watched.net)
    assert_same(plain.critic.net, attack.hijack.critic.net)
    assert (before[1].weight - attack.task.net[1].weight).abs().max() > 0
    assert {"client_loss", "task_loss", "task_accuracy", "task_norm"} <= set(log.names())


def test_weight_0_sends_the_honest_direction_at_the_hijacks_length(parts):
    private, public, _ = parts
    message = client(private).forward().delivered()
    truth = honest(private).reply(message).dz
    length = fsha(public).reply(message).dz.norm()
    attack = make(parts, 0.0)
    dz = attack.reply(message).dz
    torch.testing.assert_close(dz, truth * (length / truth.norm()))
    assert_same(attack.task.net, _after_one_step(private, message).net)


def _after_one_step(private, message):
    server = honest(private)
    server.reply(message)
    return server


def test_the_mixture_has_its_hand_value(digits):
    """(3, 4) has length 5 and (0, 2) becomes (0, 5): a quarter and three quarters of them."""
    attack = make(digits, 0.25)
    mixed = attack.mix(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 2.0]]))
    torch.testing.assert_close(mixed, torch.tensor([[0.75, 4.75]]))
    nothing = attack.mix(torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2))
    torch.testing.assert_close(nothing, torch.tensor([[0.75, 1.0]]))


def test_between_0_and_1_both_gradients_are_in_what_is_sent(parts):
    private, public, _ = parts
    message = client(private).forward().delivered()
    hijack = fsha(public).reply(message).dz
    task = honest(private).reply(message).dz
    attack = make(parts, 0.4)
    dz = attack.reply(message).dz
    torch.testing.assert_close(dz, 0.4 * hijack + 0.6 * task * (hijack.norm() / task.norm()))
    assert attack.metrics["dz_norm"] == dz.norm()
    torch.testing.assert_close(attack.metrics["task_norm"], task.norm())


def test_u_shaped_the_tail_sees_a_body_that_learns(digits):
    """f moves as under plain FSHA, while s and the tail take the steps of honest training."""
    body, tail = sl.tiny.server_net()[:-1], sl.tiny.server_net()[-1:]
    attack = make(digits, 1.0, net=copy.deepcopy(body))
    victim, alone = client(digits[0], copy.deepcopy(tail)), client(digits[0])
    log = sl.train([victim], attack, 4, protocol=sl.u_shaped)
    sl.train([alone], fsha(digits[1]), 4)
    assert_same(alone.net, victim.net)
    assert (attack.task.net[1].weight - body[1].weight).abs().max() > 0
    assert (victim.tail[0].weight - tail[0].weight).abs().max() > 0
    assert {"client_loss", "task_loss"} <= set(log.names())
    assert 0 <= sl.task_accuracy(victim, attack, digits[1]) <= 1


def test_u_shaped_weight_0_is_the_honest_direction(digits):
    body, tail = sl.tiny.server_net()[:-1], sl.tiny.server_net()[-1:]

    def step(server):
        one = client(digits[0], copy.deepcopy(tail))
        output = server.forward(one.forward().delivered()).delivered()
        return server.backward(one.finish(output).delivered()).dz

    truth = step(honest(digits[0], copy.deepcopy(body)))
    dz = step(make(digits, 0.0, net=copy.deepcopy(body)))
    similarity = nn.functional.cosine_similarity(dz.flatten(), truth.flatten(), dim=0)
    assert float(similarity) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("which", ["digits", "faces"])
def test_at_one_half_the_task_is_learned_and_the_attack_has_set_out(which, digits):
    """After 60 steps the loss has fallen and the pictures have come nearer."""
    private, public, _ = sl.tiny.split("drawn_faces", 3) if which == "faces" else digits
    victim = sl.Client(sl.tiny.client_net(seed=3), private, **sl.tiny.client(seed=3))
    hijack = sl.FSHA.at(sl.tiny, public, steps=60, seed=3)
    attack = sl.MultitaskFSHA(hijack, task=honest(private), weight=0.5)
    watched = sl.Snapshots(every=60, images=64)
    log = sl.train([victim], attack, 60, observers=[watched])
    first, last = (sum(part) / 10 for part in (log["task_loss"][:10], log["task_loss"][-10:]))
    loss, error = (0.8, 0.6) if which == "digits" else (1.0, 0.95)  # faces take longer, in both
    assert last < loss * first
    start, end = (taken.mse for taken in watched.taken)
    assert end < error * start


def test_its_card_says_that_it_is_active_and_has_the_tasks_network():
    card = sl.MultitaskFSHA.threat
    assert "active" in card.who
    assert any("s, which it trains" in line for line in card.knows)


@pytest.mark.parametrize("weight", [-0.1, 1.5])
def test_a_weight_that_is_none_gets_a_sentence(digits, weight):
    with pytest.raises(ValueError, match=f"weight is {weight}: choose a share"):
        make(digits, weight)


# A hijack that sets out later


@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_with_a_delay_it_is_the_honest_server_bit_for_bit_and_then_no_more(digits, weight):
    private = digits[0]
    victim, alone = client(private), client(private)
    attack = make(digits, weight, delay=3, design="paper")
    critic = copy.deepcopy(attack.hijack.critic.net)
    pilot = copy.deepcopy(attack.hijack.pilot)
    server = honest(private)
    logs = [sl.train([c], s, 3) for c, s in ((victim, attack), (alone, server))]
    assert_same(victim.net, alone.net)
    assert_same(attack.task.net, server.net)
    assert logs[0]["task_loss"] == logs[1]["task_loss"] and "client_loss" not in logs[0].names()
    assert logs[0]["dz_norm"] == logs[0]["task_norm"]
    assert_same(attack.hijack.critic.net, critic)  # it learns from no z before
    assert (attack.hijack.pilot[0].weight - pilot[0].weight).abs().max() > 0
    for _ in range(2):  # the first hijacked gradient, and what comes of it
        messages = [c.forward().delivered() for c in (victim, alone)]
        truth = server.reply(messages[1])
        dz = attack.reply(messages[0])
        assert not torch.equal(dz.dz, truth.dz)
        assert attack.metrics["dz_norm"] != attack.metrics["task_norm"]
        victim.backward(dz)
        alone.backward(truth)
    assert (victim.net[0][0].weight - alone.net[0][0].weight).abs().max() > 0


def test_after_the_delay_it_hijacks_as_fsha_that_has_rehearsed_as_often(digits):
    private, public, _ = digits
    victim, attack = client(private), make(digits, 1.0, delay=3, design="paper")
    sl.train([victim], attack, 3)
    message = victim.forward().delivered()
    plain = fsha(public, "paper")
    untrained = copy.deepcopy(plain.decoder)
    with plain.randomness.lent():
        for _ in range(3):
            plain.rehearse()
    assert torch.equal(attack.reply(message).dz, plain.reply(message).dz)
    assert_same(attack.hijack.decoder, plain.decoder)
    assert (plain.decoder[0].weight - untrained[0].weight).abs().max() > 2.5e-3  # 4 steps of Adam


def test_u_shaped_a_delay_is_the_honest_server_as_well(digits):
    body, tail = sl.tiny.server_net()[:-1], sl.tiny.server_net()[-1:]
    attack = make(digits, 1.0, net=copy.deepcopy(body), delay=3)
    victim, alone = (client(digits[0], copy.deepcopy(tail)) for _ in range(2))
    server = honest(digits[0], copy.deepcopy(body))
    logs = [
        sl.train([c], s, 3, protocol=sl.u_shaped) for c, s in ((victim, attack), (alone, server))
    ]
    assert logs[0]["task_loss"] == logs[1]["task_loss"]
    for one, other in ((victim.net, alone.net), (victim.tail, alone.tail)):
        assert_same(one, other)
    for c, s in ((victim, attack), (alone, server)):
        sl.train([c], s, 1, protocol=sl.u_shaped)
    assert (victim.net[0][0].weight - alone.net[0][0].weight).abs().max() > 0


# A task on the channels that the hijack leaves alone


def test_on_spare_channels_the_two_gradients_share_no_channel(digits):
    """Fast design, cut 2: the decoder reads 16 of 32 channels, and s the others."""
    private, public, _ = digits
    message = client(private).forward().delivered()
    spare = nn.Sequential(LastChannels(16), sl.tiny.server_net())
    task = honest(private, copy.deepcopy(spare)).reply(message).dz
    hijack = fsha(public).reply(message).dz
    assert not task[:, :16].any() and not hijack[:, 16:].any()
    assert hijack.abs().amax((0, 2, 3))[:16].min() > 0  # every channel that is read is moved
    assert (task.abs().amax((0, 2, 3))[16:] > 0).sum() > 12
    mixed = make(digits, 0.5, net=spare).reply(message).dz
    torch.testing.assert_close(mixed[:, :16], 0.5 * hijack[:, :16])
    scaled = 0.5 * task * (hijack.norm() / task.norm())
    torch.testing.assert_close(mixed[:, 16:], scaled[:, 16:])
    assert rank_share(hijack) == 0.5 and rank_share(mixed) > 0.9


@pytest.mark.parametrize("kept", [1, 3, 5])
def test_the_last_channels_pass_and_the_others_are_zero(kept):
    z = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    passed = LastChannels(kept)(z)
    assert torch.equal(passed[:, 5 - kept :], z[:, 5 - kept :])
    assert not passed[:, : 5 - kept].any()
    passed.sum().backward()
    assert torch.equal(z.grad.amax((0, 2, 3)), torch.tensor([0.0] * (5 - kept) + [1.0] * kept))
