"""Shredder: what the noise learns, what is sent and when, and that a frozen client stays frozen."""

import pytest
import torch
from torch import nn

import splitlab as sl
from splitlab.defenses import Shredder
from splitlab.nets.pair_decoder import fit_linear_decoder

AFTER = 2


@pytest.fixture(scope="module")
def data():
    return sl.tiny.split("digits", 0).private.subset(64, seed=0)


def client_with(data, defense, *, tail=None, seed=0):
    """A client whose f has BatchNorm, which moves in training mode, and Dropout, which draws."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(256, 12), nn.BatchNorm1d(12), nn.Dropout(0.3))
    return sl.Client(
        net,
        data,
        optimizer=sl.tiny.client_optimizer,
        batch_size=16,
        defenses=[] if defense is None else [defense],
        tail=tail,
        seed=seed,
    )


def train(client, steps):
    protocol = sl.vanilla if client.tail is None else sl.u_shaped
    torch.manual_seed(1)
    sl.train([client], sl.HonestServer(nn.Linear(12, 10)), steps, protocol=protocol)


def frozen_client(data, weight=0.0, **options):
    defense = Shredder(weight, **{"after": AFTER, "members": 3} | options)
    client = client_with(data, defense)
    train(client, AFTER)
    return client, defense


def copies(net):
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def members_of(client, z, x):
    """Which noise tensor each row got, found by subtraction."""
    (defense,) = client.defenses
    with torch.no_grad():
        gaps = (z.detach() - client.net.eval()(x))[:, None] - defense.noise
    distances, drawn = gaps.flatten(2).norm(dim=2).min(1)
    assert distances.max() < 1e-4
    return drawn


@pytest.mark.parametrize("weight", [0.0, 5.0])
def test_the_noise_takes_adams_step_on_the_gradient_computed_by_hand(data, weight):
    client, defense = frozen_client(data, weight)
    z = client.forward().z
    drawn = members_of(client, z, client.turn.x)
    dz = torch.randn(z.shape, generator=torch.Generator().manual_seed(1))
    before = defense.noise.detach().clone()
    by_hand = torch.zeros_like(before)
    for row, member in zip(dz, drawn.tolist(), strict=True):
        by_hand[member] += row
    by_hand -= weight * before.sign() / before.numel()
    like = before.clone().requires_grad_()
    like.grad = by_hand
    torch.optim.Adam([like], lr=defense.rate).step()
    found = []
    hook = defense.optimizer.register_step_pre_hook(
        lambda *_: found.append(defense.noise.grad.clone())
    )
    client.backward(sl.Gradient(dz=dz, sender="server", step=AFTER))
    hook.remove()
    torch.testing.assert_close(found[0], by_hand)
    torch.testing.assert_close(defense.noise.detach(), like.detach())
    assert (defense.noise != before).any()


def test_before_it_freezes_the_client_trains_as_without_a_defense(data):
    # The noise was drawn from the client's random state, so Dropout would differ: leave it out.
    states = []
    for defense in (None, Shredder(1.0, after=9)):
        client = client_with(data, defense)
        client.net[3].p = 0.0
        before = copies(client.net)
        train(client, 3)
        assert not same(before, client.net.state_dict())
        states.append(copies(client.net))
    assert same(*states)
    assert torch.equal(client.smash(data.x).z, client.net.eval()(data.x))
    torch.testing.assert_close(defense.strength, 1.0, rtol=0.5, atol=0)


def test_a_frozen_client_keeps_weights_and_buffers_and_its_noise_learns(data):
    client, _ = frozen_client(data, 1.0)
    tail = nn.Sequential(nn.Linear(10, 10), nn.BatchNorm1d(10))
    other = client_with(data, Shredder(1.0, after=AFTER), tail=tail)
    train(other, AFTER)
    for one in (client, other):
        networks, noise = one._networks(), one.defenses[0].noise.detach().clone()
        before = copies(networks)
        train(one, 5)
        assert same(before, networks.state_dict())
        assert (one.defenses[0].noise != noise).all()


def test_a_frozen_f_is_one_function_in_training_and_afterwards(data):
    client, _ = frozen_client(data)
    z, x = client.forward().z, client.turn.x
    members_of(client, z, x)  # each row is the f of evaluation mode plus one tensor
    in_training = client.smash(data.x, training_mode=True).z
    torch.testing.assert_close(in_training.mean(0), client.smash(data.x).z.mean(0), atol=1, rtol=0)
    members_of(client, in_training, data.x)


def test_every_row_draws_one_tensor_anew_and_asking_changes_nothing(data):
    client, _ = frozen_client(data, members=4)
    x = data.x[:1].expand(4000, -1, -1, -1)
    asked = client.smash(x).z
    shares = members_of(client, asked, x).bincount(minlength=4) / len(x)
    torch.testing.assert_close(shares, torch.full((4,), 0.25), atol=0.03, rtol=0)
    assert torch.equal(asked, client.smash(x).z)
    draws = []
    for step in range(AFTER, AFTER + 3):
        z = client.forward().z
        draws.append(members_of(client, z, client.turn.x))
        client.backward(sl.Gradient(dz=torch.zeros_like(z), sender="server", step=step))
    assert not torch.equal(draws[0], draws[1]) and not torch.equal(draws[1], draws[2])


def test_a_larger_weight_makes_stronger_noise(data):
    strengths = []
    for weight in (0.0, 1.0, 100.0):
        client, defense = frozen_client(data, weight)
        train(client, 60)
        strengths.append(defense.strength)
    assert strengths[0] < strengths[1] - 0.05 and strengths[1] < strengths[2] - 0.05


@pytest.mark.parametrize("scale", [0.0, 0.5, 4.0])
def test_the_noise_starts_from_a_laplace_distribution(data, scale):
    defense = Shredder(1.0, after=0, members=4000, scale=scale)
    client_with(data, defense)
    noise = defense.noise.detach()
    assert noise.shape == (4000, 12)
    assert defense.strength == pytest.approx(scale, rel=0.03)
    assert float(noise.std()) == pytest.approx(2**0.5 * scale, rel=0.03)


def test_a_state_is_continued_to_the_last_bit(data):
    client, _ = frozen_client(data, 1.0)
    train(client, 2)
    again = client_with(data, Shredder(1.0, after=AFTER, members=3), seed=0)
    again.load_state_dict(client.state_dict())
    for one in (client, again):
        train(one, 3)
    assert torch.equal(client.defenses[0].noise, again.defenses[0].noise)
    assert torch.equal(client.smash(data.x).z, again.smash(data.x).z)


def test_a_linear_decoder_that_knows_pairs_subtracts_the_noise(data):
    """The tensors span a few directions of z, which a decoder learns to ignore."""
    private, public, _ = sl.tiny.split("digits", 0)
    client = sl.Client(
        sl.tiny.client_net(),
        private,
        defenses=[Shredder(0.0, after=0, scale=30.0)],
        **sl.tiny.client(),
    )
    known = client.smash(public.x).z, public.x
    decoder = fit_linear_decoder(*known, value_range=public.value_range, ridge=1e-8)
    x = private.x[:200]
    error = (decoder.images(client.smash(x).z) - x).square().mean()
    assert error < 0.25 * x.var(0).mean()


WRONG = {
    "negative": ({"weight": -1.0}, r"weight is -1\.0: choose a finite number of at least 0"),
    "nan": ({"weight": float("nan")}, "weight is nan: choose a finite number"),
    "infinite": ({"scale": float("inf")}, "scale is inf: choose a finite number of at least 0"),
    "text": ({"weight": "1"}, "weight is '1': choose a finite number"),
    "bool": ({"weight": True}, "weight is True: choose a finite number"),
    "rate": ({"rate": 0.0}, r"rate is 0\.0: choose a finite number above 0"),
    "after": ({"after": -1}, "after is -1: choose a whole number of at least 0"),
    "half": ({"after": 1.5}, r"after is 1\.5: choose a whole number of at least 0"),
    "members": ({"members": 0}, "members is 0: choose a whole number of at least 1"),
}


@pytest.mark.parametrize("options, sentence", WRONG.values(), ids=WRONG.keys())
def test_what_makes_no_sense_gets_a_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        Shredder(**{"weight": 1.0, "after": 0} | options)
