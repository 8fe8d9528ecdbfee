"""FSHA: losses, signs, penalty, order of the updates. Numbers are checked against slow truths."""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy, mse_loss

import splitlab as sl
from splitlab.attacks import critic as critics
from splitlab.attacks.critic import LOSSES, Critic, gradient_penalty


def smashed(client):
    return client.forward().delivered()


def pulled(attack, z):
    """What the client descends, and its gradient with respect to z. No loss here needs z_public."""
    z = z.clone().requires_grad_()
    loss = attack.critic.pull(z, torch.zeros_like(z))
    return loss, torch.autograd.grad(loss, z)[0]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("design", ["fast", "paper"])
def test_dz_is_the_gradient_of_the_client_loss_and_stays_so(
    make_client, make_attack, change_critic, loss, design
):
    """Even a penalty of weight 0, and the attacker's own later updates, leave dz as it was."""
    attack = change_critic(make_attack(design, critic_first=False), loss=loss, penalty_weight=0.0)
    message = smashed(make_client())
    _, expected = pulled(attack, message.z)
    reply = attack.reply(message)
    assert expected.abs().max() > 0
    assert torch.equal(reply.dz, expected)
    for step in range(3):
        attack.reply(sl.SmashedData(z=torch.randn_like(expected), sender="client", step=step + 1))
    assert torch.equal(reply.dz, expected)


@pytest.mark.parametrize("critic_first", [False, True])
def test_another_way_to_pull_gets_the_codes_of_the_public_batch(
    make_client, make_attack, critic_first
):
    """Those of the last public batch before the client's gradient is taken, without a graph."""

    class Means(Critic):
        def pull(self, z, z_public):
            assert not z_public.requires_grad
            return (z.mean(0) - z_public.mean(0)).square().sum()

    options = {"critic_steps": 2, "critic_first": critic_first}
    attack = make_attack("fast", critic=Means(sl.nets.tiny.critic()), **options)
    message = smashed(make_client())
    sampler = copy.deepcopy(attack.sampler)
    batches = [attack.pilot(attack.public.x[sampler.next()]) for _ in range(2)]
    away = message.z.mean(0) - batches[-1 if critic_first else 0].mean(0)
    dz = attack.reply(sl.SmashedData(z=message.z, sender="client", step=0)).dz
    torch.testing.assert_close(dz, (2 * away / len(message.z)).expand_as(dz))


def test_float64_is_kept(digits):
    """The loss, and so dz, is not rounded to float32 on the way."""
    attack = sl.FSHA.at(sl.tiny, digits[1], design="paper")
    attack.critic.net.double()
    z = torch.randn(4, 32, 4, 4, dtype=torch.float64)
    assert torch.equal(attack.critic.score(z), attack.critic.net(z))
    loss, gradient = pulled(attack, z)
    assert loss.dtype == gradient.dtype == torch.float64


def test_critic_first_takes_the_gradient_after_the_critics_steps(make_client, make_attack):
    attack = make_attack("fast", critic_first=True)
    message = smashed(make_client())
    _, before = pulled(attack, message.z)
    dz = attack.reply(message).dz
    _, after = pulled(attack, message.z)
    assert torch.equal(dz, after)
    assert not torch.equal(dz, before)


def test_one_turn_equals_the_papers_algorithm_written_out(make_client, digits):
    """All gradients at the old parameters, then the steps: the public code's order."""
    # SGD: Adam's first step has the size of the rate even where a gradient is nothing but rounding.
    sgd = partial(torch.optim.SGD, lr=0.1)
    attack = sl.FSHA(
        digits[1],
        pilot=sl.nets.tiny.pilot(),
        decoder=sl.nets.tiny.decoder(),
        critic=Critic(sl.nets.tiny.critic(), penalty_weight=0.0, optimizer=sgd),
        optimizer=sgd,
        batch_size=16,
    )
    twin = copy.deepcopy(attack)
    message = smashed(make_client())
    attack.reply(message)
    rows = twin.sampler.next()
    x = twin.public.x[rows]
    z_public = twin.pilot(x)
    autoencoder_loss = mse_loss(twin.decoder(z_public), x)
    critic = twin.critic.net
    critic_loss = critic(z_public.detach()).mean() - critic(message.z).mean()
    twin.optimizer.zero_grad()
    autoencoder_loss.backward()
    twin.critic.optimizer.zero_grad()
    critic_loss.backward()
    twin.optimizer.step()
    twin.critic.optimizer.step()
    for one, two in ((attack.pilot, twin.pilot), (attack.decoder, twin.decoder)):
        for a, b in zip(one.parameters(), two.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-7)
    for a, b in zip(attack.critic.net.parameters(), critic.parameters(), strict=True):
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
        critics, "gradient_penalty", lambda score, z, norm: points.append(z) or z.sum() * 0
    )
    z, z_public = torch.ones(50, 32, 4, 4), torch.full((50, 32, 4, 4), 3.0)
    make_attack().critic.loss(z, z_public)
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
        ({"penalty": "pixel"}, "penalty is 'pixel': choose one of 'channel', 'sample'"),
    ],
)
def test_a_critics_wrong_arguments_get_a_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        Critic(sl.nets.tiny.critic(), **options)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"critic_steps": 0}, "critic_steps is 0: choose a whole number of at least 1"),
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
        critic=Critic(sl.nets.tiny.critic()),
    )
    critic = attack.critic
    assert critic.optimizer.param_groups[0]["lr"] == 1e-4
    assert attack.optimizer.param_groups[0]["lr"] == 1e-5
    assert (critic.loss_name, critic.penalty, critic.penalty_weight) == (
        "wgan-gp",
        "channel",
        500.0,
    )
    assert critic.through is None
    assert (attack.critic_steps, attack.sampler.batch_size) == (1, 64)


def test_a_fixed_pilot_needs_no_optimizer_and_inverts_exactly(make_attack):
    attack = make_attack("fast")
    assert attack.optimizer is None
    x = attack.public.x[:10]
    torch.testing.assert_close(attack.autoencode(x), x, rtol=0, atol=1e-6)


def test_a_frozen_pilot_stays_and_the_decoder_learns(make_client, make_attack):
    pilot, decoder = sl.nets.tiny.pilot(), sl.nets.tiny.decoder()
    pilot.requires_grad_(False)
    before = copy.deepcopy((pilot.state_dict(), decoder.state_dict()))
    attack = make_attack("paper", pilot=pilot, decoder=decoder)
    attack.reply(smashed(make_client()))
    assert all(torch.equal(before[0][n], p) for n, p in pilot.named_parameters())
    assert not any(torch.equal(before[1][n], p) for n, p in decoder.named_parameters())
    decoder.requires_grad_(False)
    attack = make_attack("paper", pilot=pilot, decoder=decoder)
    assert attack.optimizer is None
    attack.reply(smashed(make_client()))


def test_critic_steps_leave_the_decoder_alone(make_client, make_attack):
    """A critic that looks through the decoder must not train it."""
    decoder = sl.nets.tiny.decoder()
    critic = Critic(sl.nets.tiny.image_critic(), through=decoder)
    attack = make_attack("paper", decoder=decoder, critic=critic)
    attack.optimizer.param_groups[0]["lr"] = 0.0
    decoder_before, critic_before = copy.deepcopy((decoder.state_dict(), critic.net.state_dict()))
    attack.reply(smashed(make_client()))
    assert all(torch.equal(decoder_before[n], p) for n, p in decoder.named_parameters())
    assert not all(torch.equal(critic_before[n], p) for n, p in critic.net.named_parameters())


def test_schedules_scale_the_gradient_and_the_critics_rate(make_client, make_attack, change_critic):
    plain, scaled = make_attack(), make_attack(gradient_scale=lambda step: 0.25)
    message = smashed(make_client())
    torch.testing.assert_close(scaled.reply(message).dz, 0.25 * plain.reply(message).dz)
    attack = change_critic(make_attack(), rate=lambda step: 0.5**step)
    for step in range(3):
        attack.reply(sl.SmashedData(z=message.z, sender="client", step=step))
    assert attack.critic.optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 * 0.125)


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
