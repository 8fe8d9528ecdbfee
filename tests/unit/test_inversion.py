"""The passive inversions: known answers on toys, what each is granted, and what it refuses."""

import copy
import gc
import weakref

import pytest
import torch
from torch import nn

import splitlab as sl
from splitlab.attacks.white_box import invert
from splitlab.nets.pair_decoder import fit_linear_decoder, train_decoder

WIDE = (-10.0, 10.0)


def linear(n=9, m=12, seed=0):
    """A linear f on 3x3 images that loses nothing: (N, 1, 3, 3) -> (N, 12), float64."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(n, m)).double()


def images(n=3, seed=1, side=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 1, side, side, dtype=torch.float64, generator=generator) * 2 - 1


def objective(f, x, z, weight):
    error = (f(x) - z).square().flatten(1).mean(1) / z.square().flatten(1).mean(1)
    return error + weight * sl.attacks.priors.total_variation(x)


def best(f, z, weight):
    """The exact minimum for a linear f, one image: the objective is quadratic, so one Newton step.

    Built from Hessian and gradient at 0, not from the attack's own steps.
    """
    zero = torch.zeros(9, dtype=torch.float64)

    def loss(x):
        return objective(f, x.view(1, 1, 3, 3), z, weight).sum()

    gradient = torch.autograd.functional.jacobian(loss, zero)
    hessian = torch.autograd.functional.hessian(loss, zero)
    return torch.linalg.solve(hessian, -gradient).view(1, 1, 3, 3)


@pytest.mark.parametrize("weight", [0.0, 0.05])
def test_descent_finds_the_known_minimum_of_a_linear_f(weight):
    f, x = linear(), images(1)
    z = f(x).detach()
    found = invert(f, z, x[0] * 0, value_range=WIDE, steps=1500, rate=0.05, weight=weight)
    wanted = best(f, z, weight)
    assert torch.allclose(found, wanted, atol=1e-3)
    assert torch.allclose(wanted, x, atol=1e-6) == (weight == 0)  # the prior has its price


def test_the_first_step_goes_against_the_gradient():
    f, x = linear(), images(2)
    z, start = f(x).detach(), images(2, seed=5)
    moved = invert(f, z, start, value_range=WIDE, steps=1, rate=0.3, weight=0.2)
    at = start.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(objective(f, at, z, 0.2).sum(), at)
    assert torch.allclose(moved, start - 0.3 * gradient.sign(), atol=1e-5)  # Adam's first step


def test_images_of_a_batch_do_not_influence_one_another():
    net = sl.nets.tiny.client(cut=2).double()  # with BatchNorm, which would mix them in training
    x = images(4, side=16)
    net.train()(x)
    net.eval()
    z = net(x).detach()
    options = {"value_range": (-1.0, 1.0), "steps": 20, "rate": 0.1, "weight": 0.1}
    start = torch.zeros(1, 16, 16, dtype=torch.float64)
    together = invert(net, z, start, **options)
    alone = torch.cat([invert(net, part, start, **options) for part in z.split(1)])
    assert torch.allclose(together, alone, atol=1e-9)
    others = invert(net, torch.cat([z[:1], 50 * z[1:]]), start, **options)
    assert torch.allclose(together[:1], others[:1], atol=1e-9)


def test_descent_keeps_to_the_range_and_leaves_f_alone():
    f = linear().train()
    before = {name: value.clone() for name, value in f.state_dict().items()}
    z = f(5 * images()).detach()
    found = invert(f, z, images(1)[0], value_range=(-0.5, 0.5), steps=30, rate=0.2, weight=0.0)
    assert found.min() >= -0.5 and found.max() <= 0.5 and not found.requires_grad
    assert f.training and all(p.requires_grad and p.grad is None for p in f.parameters())
    assert all(torch.equal(value, before[name]) for name, value in f.state_dict().items())


@pytest.fixture
def trained(make_client):
    """(client, honest server): a few honest steps at cut 1."""
    client = make_client(sl.tiny.client_net(cut=1))
    server = sl.HonestServer(sl.tiny.server_net(cut=1), optimizer=sl.tiny.client_optimizer)
    sl.train([client], server, 5)
    return client, server


def net(**options):
    return sl.tiny.server_net(cut=1, **options)


def own(seed=9):
    return sl.tiny.client_net(cut=1, seed=seed)


def smashed(client, n=4):
    return client.smash(client.data.x[:n])


class TestWhiteBox:
    def test_takes_the_weights_of_a_message_and_shares_none(self, trained):
        client, _ = trained
        attack = sl.WhiteBoxInversion(net(), f=own(), start=torch.zeros(1, 16, 16))
        attack.prepare(client.weights())
        sl.audit([client], attack)
        x = client.data.x[:4]
        with torch.no_grad():
            assert torch.equal(attack.f.eval()(x), client.smash(x).z)  # BatchNorm's buffers, too

    def test_takes_f_out_of_the_weights_of_a_client_with_a_tail(self, make_client):
        client = make_client(own(seed=3), tail=nn.Linear(10, 10))
        attack = sl.WhiteBoxInversion(net(), f=own(), start=torch.zeros(1, 16, 16))
        attack.prepare(client.weights())
        assert torch.equal(attack.f[0][0].weight, client.net[0][0].weight)

    def test_starts_from_the_public_mean_and_takes_its_range(self, trained, digits):
        client, _ = trained
        attack = sl.WhiteBoxInversion(net(), f=own(), public=digits[1], steps=1, rate=1e-6)
        attack.prepare(client.weights())
        mean = digits[1].x.mean(0).expand(4, -1, -1, -1)
        assert torch.allclose(attack.reconstruct(smashed(client)), mean, atol=1e-5)
        assert attack.value_range == digits[1].value_range

    def test_says_what_is_missing(self, trained, make_client):
        client, _ = trained
        with pytest.raises(ValueError, match=r"no image to start from: pass start=.* or public="):
            sl.WhiteBoxInversion(net(), f=own())
        with pytest.raises(ValueError, match="steps is 0: choose a whole number of at least 1"):
            sl.WhiteBoxInversion(net(), f=own(), start=torch.zeros(1, 16, 16), steps=0)
        attack = sl.WhiteBoxInversion(net(), f=own(), start=torch.zeros(1, 16, 16))
        with pytest.raises(RuntimeError, match=r"call attack\.prepare\(client\.weights\(\)\)"):
            attack.reconstruct(smashed(client))
        deeper = make_client()  # cut 2
        with pytest.raises(ValueError, match=r"not of the network f=.* cut at the same layer"):
            attack.prepare(deeper.weights())
        attack.prepare(client.weights())
        with pytest.raises(ValueError, match=r"z has shape \(32, 4, 4\) .* makes \(8, 8, 8\)"):
            attack.reconstruct(smashed(deeper))


class TestBlackBox:
    def test_counts_its_queries_and_keeps_no_oracle(self, trained, digits):
        client, _ = trained

        class Oracle:
            def __init__(self):
                self.asked = 0

            def __call__(self, x):
                self.asked += len(x)
                return client.smash(x)

        oracle = Oracle()
        attack = sl.BlackBoxInversion(net(), public=digits[1], steps=2, questions=20)
        attack.prepare(oracle)
        attack.prepare(oracle)
        assert attack.queries == oracle.asked == 40
        attack.prepare(client.smash)  # a bound method leads to all that the client has
        sl.audit([client], attack)
        gone = weakref.ref(oracle)
        del oracle
        gc.collect()
        assert gone() is None

    def test_learns_the_way_back_from_an_oracle(self):
        """A lossless linear f and a linear decoder: new images come back nearly as they were."""
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(400, 1, 8, 8, generator=generator) * 2 - 1
        public = sl.ImageData(x[:300], torch.zeros(300, dtype=torch.int64), ("noise",))

        def oracle(x):
            z = 3 * nn.functional.pixel_unshuffle(x, 4) + 7
            return sl.SmashedData(z=z, sender="client", step=0)

        decoder = nn.ConvTranspose2d(16, 1, 4, 4)
        attack = sl.BlackBoxInversion(net(), public=public, decoder=decoder, rate=0.03)
        attack.prepare(oracle)
        shown = attack.reconstruct(oracle(x[300:]))
        assert sl.metrics.mse(shown, x[300:]) < 0.01  # their variance is 1/3
        assert shown.min() >= -1 and shown.max() <= 1

    def test_says_what_is_missing(self, trained, digits):
        client, _ = trained
        attack = sl.BlackBoxInversion(net(), public=digits[1])
        with pytest.raises(RuntimeError, match=r"call attack\.prepare\(client\.smash\)"):
            attack.reconstruct(smashed(client))
        with pytest.raises(ValueError, match=r"questions is 100000 and .* choose from 2"):
            sl.BlackBoxInversion(net(), public=digits[1], questions=100_000)
        with pytest.raises(ValueError, match=r"pass one z for each image"):
            attack.prepare(lambda x: client.smash(x[1:]))
        with pytest.raises(TypeError, match=r"an oracle, not Weights: call prepare\(client"):
            attack.prepare(client.weights())
        with pytest.raises(TypeError, match="an oracle, not nothing: call"):
            attack.prepare(None)

    def test_a_second_query_trains_from_scratch(self, trained, digits):
        client, _ = trained
        decoder = sl.nets.tiny.decoder(cut=1)
        once, twice = (
            sl.BlackBoxInversion(net(), public=digits[1], steps=3, decoder=decoder)
            for _ in range(2)
        )
        once.prepare(client.smash)
        twice.prepare(client.smash)
        twice.prepare(client.smash)
        message = smashed(client)
        assert torch.equal(once.reconstruct(message), twice.reconstruct(message))


class TestQueryFree:
    def make(self, digits, **options):
        options = {"surrogate": own(), "surrogate_steps": 5, "steps": 3} | options
        return sl.QueryFreeInversion(net(), public=digits[1], **options)

    def test_trains_the_surrogate_and_nothing_else(self, digits, make_client):
        attack = self.make(digits, surrogate_steps=100)
        sl.train([make_client(own(seed=3))], attack, 100)
        s = {name: value.clone() for name, value in attack.net.state_dict().items()}
        f = {name: value.clone() for name, value in attack.surrogate.state_dict().items()}
        for parameter in attack.net.parameters():
            parameter.grad = None
        attack.prepare()
        losses = attack.losses
        assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
        assert all(torch.equal(value, s[name]) for name, value in attack.net.state_dict().items())
        assert all(p.grad is None for p in attack.net.parameters())
        moved = attack.surrogate.state_dict()
        assert not any(torch.equal(moved[n], f[n]) for n in f if moved[n].is_floating_point())

    @pytest.mark.parametrize("inversion", ["descent", "decoder"])
    def test_shows_images_and_resumes(self, trained, digits, inversion):
        client, _ = trained
        one = self.make(digits, inversion=inversion)
        two = self.make(digits, inversion=inversion, surrogate=own(2))
        one.prepare()
        two.load_state_dict(copy.deepcopy(one.state_dict()))  # as if it came from a file
        message = smashed(client)
        shown = one.reconstruct(message)
        assert shown.shape == (4, 1, 16, 16) and shown.min() >= -1 and shown.max() <= 1
        assert torch.equal(shown, two.reconstruct(message))
        one.prepare()
        two.prepare()
        assert one.losses == two.losses  # batches and Adam's state, too
        assert torch.equal(one.reconstruct(message), two.reconstruct(message))

    def test_says_what_is_missing(self, trained, digits):
        client, _ = trained
        with pytest.raises(ValueError, match="choose one of 'descent', 'decoder'"):
            self.make(digits, inversion="magic")
        attack = self.make(digits)
        with pytest.raises(RuntimeError, match=r"call attack\.prepare\(\)"):
            attack.reconstruct(smashed(client))
        middle = net()[:-2]  # the tail is the client's
        attack = sl.QueryFreeInversion(middle, public=digits[1], surrogate=own())
        with pytest.raises(ValueError, match="this attack needs the vanilla protocol"):
            attack.prepare()


def test_the_cards_name_every_grant():
    white, black, free = (
        sl.WhiteBoxInversion.threat,
        sl.BlackBoxInversion.threat,
        sl.QueryFreeInversion.threat,
    )
    assert white.grants == ("the architecture of f", "the weights of f after training")
    assert len(black.grants) == 1 and "oracle" in black.grants[0]
    assert free.grants == ("the architecture of f",)
    assert "the weights of f" in free.does_not_know
    for card in (white, black, free):
        assert "passive" in card.who and "the private images" in card.does_not_know


def test_a_decoder_standardizes_number_by_number():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(40, 1, 8, 8, generator=generator)
    z = nn.functional.pixel_unshuffle(x, 2)
    scaled = z * torch.linspace(0.1, 900, z[0].numel()).view(z.shape[1:]) - 40
    options = {"value_range": (0.0, 1.0), "steps": 5, "seed": 3}
    one, two = train_decoder(z, x, **options), train_decoder(scaled, x, **options)
    assert torch.allclose(one.images(z), two.images(scaled), atol=1e-3)


def test_a_linear_decoder_takes_back_a_linear_f():
    f, x = linear(), images(60)
    with torch.no_grad():
        z = 100 * f(x) + 7
    decoder = fit_linear_decoder(z[:50], x[:50], value_range=WIDE, ridge=1e-12)
    torch.testing.assert_close(decoder.images(z[50:]), x[50:], atol=1e-6, rtol=0)
    assert decoder.images(z).dtype == torch.float64
    clamped = fit_linear_decoder(z[:50], x[:50], value_range=(-0.1, 0.1)).images(z)
    assert clamped.min() == -0.1 and clamped.max() == 0.1


def test_a_number_that_wakes_up_after_the_fit_does_no_harm_to_a_linear_decoder():
    x = images(60)
    z = torch.cat([x.flatten(1), torch.zeros(60, 1)], 1)
    z[0, -1] = 1e-3  # hardly varies over the pairs
    decoder = fit_linear_decoder(z[:50], x[:50], value_range=WIDE)
    z[50:, -1] = 1
    assert sl.metrics.explained_variance(decoder.images(z[50:]), x[50:]) > 0.9


@pytest.mark.parametrize("ridge", [0.01, 3.0])
def test_a_linear_decoder_minimizes_what_its_docstring_says(ridge):
    x, z = images(20), images(20, seed=4).flatten(1) ** 2
    decoder = fit_linear_decoder(z, x, value_range=WIDE, ridge=ridge)
    weight = decoder.decoder[1].weight.detach().T.clone().requires_grad_()
    standardized = (z - z.mean(0)) / (z - z.mean(0)).square().mean().sqrt()
    error = (standardized @ weight - (x - x.mean(0)).flatten(1)).square().sum()
    (error + z.shape[1] * ridge * weight.square().sum()).backward()
    assert weight.grad.abs().max() < 1e-9
    torch.testing.assert_close(decoder.decoder[1].bias, x.mean(0).flatten())


def test_a_decoder_needs_pairs():
    with pytest.raises(ValueError, match="given 3 z and 4 images"):
        train_decoder(torch.zeros(3, 2), torch.zeros(4, 1, 8, 8), value_range=(0.0, 1.0))
    with pytest.raises(ValueError, match="at least two pairs"):
        fit_linear_decoder(torch.zeros(1, 2), torch.zeros(1, 1, 8, 8), value_range=(0.0, 1.0))
