"""FSHA: losses, signs, penalty, order of the updates. Numbers are checked against slow truths."""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy, mse_loss

import splitlab as sl
from splitlab.attacks import fsha
from splitlab.attacks.fsha import LOSSES, gradient_penalty


def smashed(client):
    return client.forward().delivered()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("design", ["fast", "paper"])
def test_dz_is_the_gradient_of_the_client_loss_and_stays_so(make_client, make_attack, loss, design):
    """Even a penalty of weight 0, and the attacker's own later updates, leave dz as it was."""
    attack = make_attack(design, loss=loss, penalty_weight=0.0, critic_first=False)
    message = smashed(make_client())
    z = message.z.clone().requires_grad_()
    (expected,) = torch.autograd.grad(attack.client_loss(z), z)
    reply = attack.reply(message)
    assert expected.abs().max() > 0
    assert torch.equal(reply.dz, expected)
    for step in range(3):
        attack.reply(sl.SmashedData(z=torch.randn_like(z), sender="client", step=step + 1))
    assert torch.equal(reply.dz, expected)


def test_float64_is_kept(digits):
    """The loss, and so dz, is not rounded to float32 on the way."""
    attack = sl.FSHA.at(sl.tiny, digits[1], design="paper")
    attack.critic.double()
    z = torch.randn(4, 32, 4, 4, dtype=torch.float64)
    assert torch.equal(attack.score(z), attack.critic(z))
    assert attack.client_loss(z).dtype == torch.float64


def test_critic_first_takes_the_gradient_after_the_critics_steps(make_client, make_attack):
    attack = make_attack("fast", critic_first=True)
    message = smashed(make_client())
    z = message.z.clone().requires_grad_()
    (before,) = torch.autograd.grad(attack.client_loss(z), z)
    dz = attack.reply(message).dz
    (after,) = torch.autograd.grad(attack.client_loss(z), z)
    assert torch.equal(dz, after)
    assert not torch.equal(dz, before)


def test_one_turn_equals_the_papers_algorithm_written_out(make_client, make_attack):
    """All gradients at the old parameters, then the steps: the public code's order."""
    # SGD: Adam's first step has the size of the rate even where a gradient is nothing but rounding.
    sgd = partial(torch.optim.SGD, lr=0.1)
    attack = make_attack(
        "paper", penalty_weight=0.0, autoencoder_optimizer=sgd, critic_optimizer=sgd
    )
    twin = copy.deepcopy(attack)
    message = smashed(make_client())
    attack.reply(message)
    rows = twin.sampler.next()
    x = twin.public.x[rows]
    z_public = twin.pilot(x)
    autoencoder_loss = mse_loss(twin.decoder(z_public), x)
    critic_loss = twin.critic(z_public.detach()).mean() - twin.critic(message.z).mean()
    twin.autoencoder_optimizer.zero_grad()
    autoencoder_loss.backward()
    twin.critic_optimizer.zero_grad()
    critic_loss.backward()
    twin.autoencoder_optimizer.step()
    twin.critic_optimizer.step()
    for one, two in ((attack.pilot, twin.pilot), (attack.decoder, twin.decoder)):
        for a, b in zip(one.parameters(), two.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-7)
    for a, b in zip(attack.critic.parameters(), twin.critic.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_losses_are_the_formulas_on_probabilities():
    public, private = torch.randn(50, 1).double(), torch.randn(50, 1).double()
    d_public, d_private = torch.sigmoid(public), torch.sigmoid(private)
    ones, zeros = torch.ones_like(private), torch.zeros_like(private)
    client, critic = LOSSES["log"]
    torch.testing.assert_close(client(private), (1 - d_private).log().mean())
    torch.testing.assert_close(
        critic(public, private), (1 - d_public).log().mean() + d_private.log().mean()
    )
    client, critic = LOSSES["bce"]
    torch.testing.assert_close(client(private), binary_cross_entropy(d_private, ones))
    torch.testing.assert_close(
        critic(public, private),
        (binary_cross_entropy(d_public, ones) + binary_cross_entropy(d_private, zeros)) / 2,
    )
    client, critic = LOSSES["wgan-gp"]
    torch.testing.assert_close(client(private), private.mean())
    torch.testing.assert_close(critic(public, private), public.mean() - private.mean())


@pytest.mark.parametrize("loss", LOSSES)
def test_client_and_critic_pull_in_opposite_directions(loss):
    """Descending the client's loss must raise the critic's: else f climbs away from the target."""
    private = torch.zeros(5, 1, requires_grad=True)
    public = torch.zeros(5, 1)
    client, critic = LOSSES[loss]
    (down,) = torch.autograd.grad(client(private), private)
    (critics,) = torch.autograd.grad(critic(public, private), private)
    assert ((-down) * critics > 0).all()


@pytest.mark.parametrize("norm", ["sample", "channel"])
def test_penalty_on_a_linear_critic_is_the_hand_value(norm):
    weight = torch.randn(3, 4, 4).double()
    z = torch.randn(6, 3, 4, 4).double()
    norms = weight.flatten().norm()[None] if norm == "sample" else weight.flatten(1).norm(dim=1)
    penalty = gradient_penalty(lambda z: (z * weight).sum((1, 2, 3)), z, norm)
    torch.testing.assert_close(penalty, (norms - 1).square().mean())


@pytest.mark.parametrize("norm", ["sample", "channel"])
def test_penalty_trains_the_critic_and_agrees_with_finite_differences(norm):
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 1)).double()
    z = torch.randn(4, 2, 4, 4).double()
    weight = critic[0].weight
    (gradient,) = torch.autograd.grad(gradient_penalty(critic, z, norm), weight)
    assert gradient.abs().max() > 0
    step = 1e-6
    for index in [(0, 0, 0, 0), (1, 1, 2, 0), (2, 0, 1, 1)]:
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight[index] += sign * step
            values.append(gradient_penalty(critic, z, norm).item())
            with torch.no_grad():
                weight[index] -= sign * step
        assert gradient[index].item() == pytest.approx(
            (values[0] - values[1]) / (2 * step), rel=1e-5
        )


def test_penalty_is_finite_where_the_gradient_is_zero():
    """Channels that the critic does not look at have norm 0; the penalty must not become NaN."""
    weight = torch.zeros(2, 3, 3, requires_grad=True)
    penalty = gradient_penalty(
        lambda z: (z * weight).sum((1, 2, 3)), torch.randn(2, 2, 3, 3), "channel"
    )
    (gradient,) = torch.autograd.grad(penalty, weight)
    assert penalty.item() == 1
    assert gradient.isfinite().all()


def test_the_penalty_is_taken_between_private_and_public(make_attack, monkeypatch):
    """At one random point per sample on the line from z_public to z, the same for all of z."""
    points = []
    monkeypatch.setattr(
        fsha, "gradient_penalty", lambda score, z, norm: points.append(z) or z.sum() * 0
    )
    z, z_public = torch.ones(50, 32, 4, 4), torch.full((50, 32, 4, 4), 3.0)
    make_attack().critic_loss(z, z_public)
    weights = (3 - points[0]) / 2  # 1 at z, 0 at z_public
    assert torch.allclose(weights, weights[:, :1, :1, :1].expand_as(weights), atol=1e-6)
    drawn = weights[:, 0, 0, 0]
    assert 0 <= drawn.min() < 0.2
    assert 0.8 < drawn.max() <= 1
    assert len(drawn.unique()) > 40


def test_channel_penalty_needs_positions():
    with pytest.raises(ValueError, match='use penalty="sample"'):
        gradient_penalty(lambda z: z.sum(1), torch.randn(3, 5), "channel")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"loss": "wgan"}, "loss is 'wgan': choose one of 'log', 'bce', 'wgan-gp'"),
        ({"penalty": "pixel"}, "penalty is 'pixel'"),
        ({"critic_sees": "z"}, "critic_sees is 'z'"),
        ({"critic_steps": 0}, "at least one step"),
        ({"batch_size": 10_000}, "cannot draw batches of 10000"),
    ],
)
def test_wrong_arguments_get_a_sentence(make_attack, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        make_attack(**options)


@pytest.mark.parametrize("design", ["fast", "paper"])
def test_networks_of_another_cut_get_a_sentence(make_client, make_attack, design):
    client = make_client(sl.tiny.client_net(cut=4))
    attack = make_attack(design)
    with pytest.raises(ValueError, match=r"sends z of shape \(64, 2, 2\) and the pilot makes"):
        attack.reply(smashed(client))


def test_defaults_are_the_papers(digits):
    attack = sl.FSHA(
        digits[1],
        pilot=sl.nets.tiny.pilot(),
        decoder=sl.nets.tiny.decoder(),
        critic=sl.nets.tiny.critic(),
    )
    assert attack.critic_optimizer.param_groups[0]["lr"] == 1e-4
    assert attack.autoencoder_optimizer.param_groups[0]["lr"] == 1e-5
    assert (attack.loss, attack.penalty, attack.penalty_weight) == ("wgan-gp", "channel", 500.0)
    assert (attack.critic_sees, attack.critic_steps, attack.sampler.batch_size) == (
        "features",
        1,
        64,
    )


def test_a_fixed_pilot_needs_no_optimizer_and_inverts_exactly(make_attack):
    attack = make_attack("fast")
    assert attack.autoencoder_optimizer is None
    x = attack.public.x[:10]
    torch.testing.assert_close(attack.autoencode(x), x, rtol=0, atol=1e-6)


def test_critic_steps_leave_the_decoder_alone(make_client, make_attack):
    """A critic that looks through the decoder must not train it."""
    attack = make_attack("paper", critic_sees="image", critic=sl.nets.tiny.image_critic())
    attack.autoencoder_optimizer.param_groups[0]["lr"] = 0.0
    before = [p.clone() for p in attack.decoder.parameters()]
    attack.reply(smashed(make_client()))
    assert all(torch.equal(a, b) for a, b in zip(before, attack.decoder.parameters(), strict=True))


def test_schedules_scale_the_gradient_and_the_critics_rate(make_client, make_attack):
    plain, scaled = make_attack(), make_attack(gradient_scale=lambda step: 0.25)
    message = smashed(make_client())
    torch.testing.assert_close(scaled.reply(message).dz, 0.25 * plain.reply(message).dz)
    attack = make_attack(critic_rate=lambda step: 0.5**step)
    for step in range(3):
        attack.reply(sl.SmashedData(z=message.z, sender="client", step=step))
    assert attack.critic_optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 * 0.125)


def test_reconstructions_lie_in_the_range_of_the_data(make_attack):
    z = 50 * torch.randn(300, 32, 4, 4)
    images = make_attack().reconstruct(sl.SmashedData(z=z, sender="client", step=0))
    assert images.shape == (300, 1, 16, 16)
    assert images.min() == -1
    assert images.max() == 1


def test_the_attack_ignores_labels(make_client, make_attack):
    message = smashed(make_client())
    without = sl.SmashedData(z=message.z, sender="client", step=0)
    assert torch.equal(make_attack().reply(message).dz, make_attack().reply(without).dz)
