"""ResSFL: what the preparation does to f, what the bottleneck leaves of z, and what is refused."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam

import splitlab as sl
from splitlab.defenses import ResSFL
from splitlab.nets.pair_decoder import fit_linear_decoder, train_decoder

Z = (8, 8, 8)  # at cut 1


@pytest.fixture(scope="module")
def split():
    return sl.tiny.split("digits", 0)


@pytest.fixture(scope="module")
def data(split):
    return split.private.subset(64, seed=0)


def client_with(data, *defenses, net=None, optimizer=sl.tiny.client_optimizer, **options):
    return sl.Client(
        sl.tiny.client_net(cut=1) if net is None else net,
        data,
        optimizer=optimizer,
        batch_size=16,
        defenses=defenses,
        **options,
    )


def copies(net):
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def train(client, steps=3):
    torch.manual_seed(1)
    server = nn.Sequential(nn.Flatten(), nn.Linear(512, 10))
    sl.train([client], sl.HonestServer(server), steps)


def relative_error(decoder, client, x):
    """The decoder's error on new images, divided by their variance."""
    error = (decoder.images(client.smash(x).z) - x).square().mean()
    return float(error / (x - x.mean(0)).square().mean())


def test_decoders_trained_afterwards_have_a_larger_error_than_without_the_adversary(split):
    private, x, new = split.private.subset(300, seed=0), split.public.x, split.private.x[:200]
    linear, trained = [], []
    for weight in (0.0, 10.0):
        defense = ResSFL(weight, bottleneck=2, steps=100)
        client = client_with(private, defense, net=sl.tiny.client_net(cut=2))
        z, known = client.smash(x).z, {"value_range": split.public.value_range}
        linear.append(relative_error(fit_linear_decoder(z, x, **known), client, new))
        decoder = train_decoder(z, x, steps=100, parameters=32_000, **known)
        trained.append(relative_error(decoder, client, new))
    assert linear[1] > 1.3 * linear[0]
    assert trained[1] > 1.3 * trained[0]


def test_the_preparation_trains_f_for_the_task(split):
    """Sixteen random numbers of an image do not say its class; sixteen that were trained do."""
    private, found = split.private.subset(300, seed=0), []
    for steps in (0, 60):
        defense = ResSFL(0.0, bottleneck=1, steps=steps)
        client = client_with(private, defense, net=sl.tiny.client_net(cut=2))
        with torch.no_grad():  # not z, whose 512 numbers have rank 16
            narrow = nn.Sequential(client.net[0], client.net[1][0]).eval()(private.x).flatten(1)
        targets = nn.functional.one_hot(private.y).float()
        fitted = torch.linalg.lstsq(narrow[:200], targets[:200]).solution
        right = (narrow[200:] @ fitted).argmax(1) == private.y[200:]
        found.append(float(right.float().mean()))
    assert found[1] > found[0] + 0.1, found


def test_no_steps_leave_f_as_it_was_made(data):
    untouched = copies(sl.tiny.client_net(cut=1))
    assert same(untouched, copies(client_with(data, ResSFL(1.0, steps=0)).net))
    assert not same(untouched, copies(client_with(data, ResSFL(1.0, steps=1)).net))


@pytest.mark.parametrize("k", [1, 3])
def test_a_bottleneck_leaves_z_its_shape_and_k_dimensions_at_each_place(data, k):
    client = client_with(data, ResSFL(1.0, bottleneck=k, steps=2))
    train(client)
    z = client.smash(data.x).z
    assert z.shape == (64, *Z)
    rows = z.movedim(1, -1).reshape(-1, Z[0]).double()
    values = torch.linalg.svdvals(rows - rows.mean(0))
    assert int((values > 1e-5 * values[0]).sum()) == k


def test_the_clients_optimizer_trains_the_bottleneck(data):
    client = client_with(data, ResSFL(1.0, bottleneck=2, steps=0), optimizer=partial(SGD, lr=0.1))
    before = copies(client.net)
    train(client)
    after = client.net.state_dict()
    learned = [name for name, _ in client.net.named_parameters()]
    assert len(learned) == 8  # f's convolution and BatchNorm, and two convolutions
    assert not any(torch.equal(before[name], after[name]) for name in learned)
    assert {group["lr"] for group in client.optimizer.param_groups} == {0.1}


def test_the_hinge_is_its_formula_and_has_no_slope_above_the_limit(data):
    x = data.x[:16]
    z = torch.randn(16, *Z, generator=torch.Generator().manual_seed(0)).requires_grad_()
    defense = ResSFL(1.0, keep=1.0, steps=1, limit=1e4)
    client_with(data, defense)
    centered = z - z.mean(0)
    decoded = defense.decoder(centered / centered.square().mean().sqrt())
    variance = (data.x - data.x.mean(0)).square().mean()
    error = (decoded - x).square().mean() / variance
    term = defense._hinge(z, x)
    torch.testing.assert_close(term, 1e4 - error)
    assert torch.autograd.grad(term, z)[0].any()
    torch.testing.assert_close(defense._hinge(1e-3 * z, x), term)  # a small z gains nothing
    defense.limit = error.item() / 2
    low = defense._hinge(z, x)
    assert low == 0 and not torch.autograd.grad(low, z)[0].any()


def test_keep_goes_on_in_training_and_its_gradient_is_added(data):
    nets = [sl.tiny.client_net(cut=1) for _ in range(2)]
    defense = ResSFL(0.0, keep=3.0, steps=1)
    client = client_with(data, defense, net=nets[0], optimizer=partial(SGD, lr=1.0))
    nets[1].load_state_dict(nets[0].state_dict())
    decoder = copies(defense.decoder)
    message = client.forward()
    dz = torch.randn(message.z.shape, generator=torch.Generator().manual_seed(1)) / 100
    x = client.turn.x
    client.backward(sl.Gradient(dz=dz, sender="server", step=0))
    assert not same(decoder, copies(defense.decoder))
    assert all(weight.grad is None for weight in defense.decoder.parameters())
    z = nets[1].train()(x)  # at the old weights, with the decoder after its steps
    ((dz * z).sum() + 3.0 * defense._hinge(z, x)).backward()
    with torch.no_grad():
        for weight in nets[1].parameters():
            weight -= weight.grad
    for mine, client_s in zip(nets[1].parameters(), nets[0].parameters(), strict=True):
        torch.testing.assert_close(client_s, mine, rtol=1e-4, atol=1e-6)


def test_without_keep_nothing_is_left_but_f(data):
    client = client_with(data, defense := ResSFL(1.0, steps=2))
    assert defense.decoder is None and defense.optimizer is None
    assert all(weight.grad is None for weight in client.net.parameters())
    assert not client.optimizer.state


def test_it_goes_on_from_a_state_to_the_last_bit(data):
    defenses = [ResSFL(1.0, bottleneck=2, keep=1.0, steps=2) for _ in range(2)]
    whole, again = (client_with(data, defense) for defense in defenses)
    train(whole)
    again.load_state_dict(whole.state_dict())
    train(whole)
    train(again)
    assert same(whole.net.state_dict(), again.net.state_dict())


def test_weights_pass_from_client_to_client_with_the_bottleneck(data):
    defenses = [ResSFL(1.0, bottleneck=2, steps=2, seed=seed) for seed in (0, 1)]
    one, other = (client_with(data, defense) for defense in defenses)
    assert not same(one.net.state_dict(), other.net.state_dict())
    train(one)
    other.load(one.weights())
    assert same(one.net.state_dict(), other.net.state_dict())
    train(other)


def test_the_seed_alone_fixes_the_preparation_and_the_global_stream_stays(data):
    def prepared(seed):
        net = sl.tiny.client_net(cut=1).append(nn.Dropout(0.5))
        return copies(client_with(data, ResSFL(1.0, steps=3, seed=seed), net=net).net)

    before = torch.get_rng_state()
    first = prepared(0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert same(first, prepared(0)) and not same(first, prepared(1))


def no_labels(data):
    return replace(data, y=torch.zeros_like(data.y), classes=("not known",))


def of_one(weights):
    return Adam(list(weights)[:1])


def flat():
    return nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten())


REFUSED = {
    "labels": ({}, {}, no_labels, "has the one class 'not known': give client images with labels"),
    "flat": ({"bottleneck": 2}, {"net": flat}, None, r"has the shape \(256,\): choose"),
    "equal": ({}, {}, lambda data: data.select([0] * 16), "all images of digits are equal"),
    "wide": ({"bottleneck": 9}, {}, None, r"has the shape \(8, 8, 8\): choose at most"),
    "left out": ({}, {"optimizer": of_one}, None, "leaves out .*: make the client with an"),
    "no decoder": (
        {},
        {"net": lambda: nn.Sequential(nn.Conv2d(1, 2, 1), nn.Upsample(None, 2))},
        None,
        "no decoder from a z of .* to images of 16x16: make f return",
    ),
}


@pytest.mark.parametrize("options, parts, change, sentence", REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_fit_is_refused_and_the_client_stays(data, options, parts, change, sentence):
    parts = dict(parts)
    net = parts.pop("net", partial(sl.tiny.client_net, cut=1))()
    data = data if change is None else change(data)
    client, before = client_with(data, net=net, **parts), copies(net)
    with pytest.raises(ValueError, match=sentence) as caught:
        ResSFL(1.0, steps=2, **options).prepare(client)
    assert "\n" not in str(caught.value)
    assert client.net is net and same(before, net.state_dict())
    assert len(client.optimizer.param_groups) == 1


WRONG = {
    "negative": ({"weight": -1.0}, r"weight is -1\.0: choose a finite number of at least 0"),
    "nan": ({"weight": float("nan")}, "weight is nan: choose a finite number"),
    "text": ({"weight": "1"}, "weight is '1': choose a finite number"),
    "keep": ({"keep": float("inf")}, "keep is inf: choose a finite number"),
    "limit": ({"limit": 0}, "limit is 0: choose a finite number above 0"),
    "rate": ({"rate": True}, "rate is True: choose a finite number above 0"),
    "steps": ({"steps": 1.5}, r"steps is 1\.5: choose a whole number of at least 0"),
    "bottleneck": ({"bottleneck": 0}, "bottleneck is 0: choose a whole number of at least 1"),
    "seed": ({"seed": 0.5}, r"seed is 0\.5: choose a whole number"),
}


@pytest.mark.parametrize("options, sentence", WRONG.values(), ids=WRONG.keys())
def test_what_makes_no_sense_gets_a_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        ResSFL(**{"weight": 1.0} | options)
