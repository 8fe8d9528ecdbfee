"""Noise on gradients that leave the label party: its law, its budget, and what it is worth."""

import pytest
import torch

import splitlab as sl
from splitlab.core.server import LabelDefense
from splitlab.defenses import GradientNoise, Marvell, MaxNorm
from splitlab.defenses.label_noise import Variances, auc_bound, marvell, sum_kl

SETTINGS = [  # u, v, gap, d, share, budget
    (0.2, 0.5, 3.0, 4, 0.1, 2.0),
    (0.5, 0.2, 3.0, 4, 0.1, 2.0),
    (0.01, 0.4, 0.5, 20, 0.3, 5.0),
    (1.0, 1.0, 1.0, 2, 0.5, 0.3),
    (0.0, 0.0, 1.0, 3, 0.8, 1.0),
]


@pytest.mark.parametrize("setting", SETTINGS)
def test_marvell_finds_the_best_of_a_grid(setting):
    u, v, gap, d, share, budget = setting
    found = marvell(*setting)
    least = sum_kl(found, u, v, gap, d)
    parts = torch.cartesian_prod(*[torch.linspace(0, 1, 25, dtype=torch.float64)] * 4)
    parts = parts[(parts.sum(1) - 1).abs() < 1e-9] * budget
    assert len(parts) > 2000
    weights = torch.tensor([1 - share, share, (1 - share) * (d - 1), share * (d - 1)])
    a, b, across_a, across_b = (parts / weights).T
    best = min(
        sum_kl(Variances(*([float(x), float(y)] for x, y in pair)), u, v, gap, d)
        for pair in zip(zip(a, b, strict=True), zip(across_a, across_b, strict=True), strict=True)
        if u + float(pair[1][0]) > 0 or v + float(pair[1][1]) == 0
    )
    assert least <= best * (1 + 1e-6)
    assert least >= 0.9 * best  # and it is no better than the best: the budget is the same
    assert found.power(share, d) == pytest.approx(budget)


def test_sum_kl_is_that_of_torch():
    noise, u, v, d = Variances((0.3, 0.1), (0.2, 0.0)), 0.5, 0.7, 3
    means = torch.zeros(2, d, dtype=torch.float64)
    means[1, 0] = 1.5
    variances = [
        torch.tensor([u + 0.3, u + 0.2, u + 0.2], dtype=torch.float64),
        torch.tensor([v + 0.1, v, v], dtype=torch.float64),
    ]
    normal = torch.distributions.MultivariateNormal
    zero, one = (normal(m, s.diag()) for m, s in zip(means, variances, strict=True))
    kl = torch.distributions.kl_divergence
    assert sum_kl(noise, u, v, 2.25, d) == pytest.approx(float(kl(zero, one) + kl(one, zero)))


def gradients(n=2000, d=6, share=0.1, seed=0):
    """Gradients of two classes that differ in mean and spread."""
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.arange(n) < share * n).long()
    centre = torch.where(labels[:, None] == 1, 1.0, -0.1) * torch.eye(d)[0]
    spread = torch.where(labels[:, None] == 1, 0.3, 0.05)
    return centre + spread * torch.randn(n, d, generator=generator), labels


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("strength", [0.5, 2.0, 8.0])
def test_marvells_noise_has_its_budget_and_keeps_its_bound(strength):
    dz, labels = gradients()
    defense = Marvell(strength)
    noise = torch.stack([defense.outgoing(dz, labels) - dz for _ in range(20)])
    gap = (dz[labels == 1].mean(0) - dz[labels == 0].mean(0)).square().sum()
    assert noise.square().sum(-1).mean() == pytest.approx(float(strength * gap), rel=0.03)
    assert noise.mean() == pytest.approx(0, abs=0.02)
    sent = torch.cat([defense.outgoing(dz, labels) for _ in range(10)])
    truth = labels.repeat(10)
    bound = auc_bound(defense.eps)
    assert 0.5 < bound < 1
    for score in (sent.norm(dim=1), sent[:, 0], -sent.norm(dim=1)):
        assert sl.leak_auc(score, truth) <= bound + 0.01
    assert sl.leak_auc(dz[:, 0], labels) > 0.99  # what the noise is up against
    if strength <= 2:  # and it was not drowned: something is left
        assert sl.leak_auc(sent[:, 0], truth) > 0.52


def test_with_the_same_power_marvell_leaves_less_than_noise_in_all_directions():
    dz, labels = gradients(d=50)
    defense = Marvell(8.0)
    sent = defense.outgoing(dz, labels)
    power = (sent - dz).square().sum(1).mean()
    plain = dz + (power / 50).sqrt() * torch.randn_like(dz)
    assert sl.leak_auc(plain[:, 0], labels) > sl.leak_auc(sent[:, 0], labels) + 0.1


def test_a_batch_of_one_class_gets_the_noise_of_the_batch_before():
    dz, labels = gradients(n=100)
    defense = Marvell(4.0)
    alone = dz[labels == 0]
    assert torch.equal(defense.outgoing(alone, torch.zeros(len(alone)).long()), alone)
    defense.outgoing(dz, labels)
    noise = defense.noise
    sent = defense.outgoing(alone, torch.zeros(len(alone)).long())
    assert defense.noise == noise and (sent - alone).norm() > 0.1
    # One row of a class, or of both: finite noise all the same.
    for rows in ([0, 50, 51], [0, 99]):
        few = defense.outgoing(dz[rows], labels[rows])
        assert few.isfinite().all() and not torch.equal(few, dz[rows])


def test_marvell_does_not_lose_short_gradients():
    dz, labels = gradients()
    defense = Marvell(4.0)
    sent = defense.outgoing(dz * 1e-22, labels)
    assert sl.leak_auc(sent[:, 0].double(), labels) < 0.75


def test_max_norm_gives_all_rows_one_mean_square_length():
    dz = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 1e-20], [0.0, 0.0]])
    defense, labels = MaxNorm(), torch.tensor([0, 1, 0, 1])
    sent = torch.stack([defense.outgoing(dz, labels) for _ in range(4000)]).double()
    assert torch.equal(sent[:, 0], dz[0].double().expand(4000, 2)), "the longest stays"
    squares = sent.square().sum(-1).mean(0)
    assert squares[1:3].tolist() == pytest.approx([25, 25], rel=0.1)
    assert squares[3] == 0
    cross = sent[:, 1, 0] * 0.4 - sent[:, 1, 1] * 0.3
    assert cross.abs().max() < 1e-5, "its noise lies along the gradient"
    assert (sent[:, 1, 0] < 0).double().mean() == pytest.approx(0.46, abs=0.05)


def test_plain_noise_is_as_long_as_it_says_in_every_direction():
    dz, labels = gradients(n=4000, d=4)
    noise = GradientNoise(2.0).outgoing(dz, labels) - dz
    longest = float(dz.norm(dim=1).max())
    assert noise.square().sum(1).mean().sqrt() == pytest.approx(2 * longest, rel=0.05)
    assert noise.var(0).tolist() == pytest.approx([longest**2] * 4, rel=0.1)
    assert torch.equal(GradientNoise(0.0).outgoing(dz, labels), dz)


def test_what_a_defense_cannot_do_gets_a_sentence(make_client):
    for kind in (GradientNoise, Marvell):
        with pytest.raises(
            ValueError, match=r"strength is -1.0: choose a finite number of at least 0"
        ):
            kind(-1.0)
    with pytest.raises(ValueError, match="use GradientNoise for more classes"):
        Marvell(1.0).outgoing(torch.rand(2, 3), torch.tensor([0, 2]))
    server = sl.HonestServer(sl.tiny.server_net()[:-1], defenses=[MaxNorm()])
    with pytest.raises(ValueError, match="in the U-shaped protocol the client has the labels"):
        client = make_client(tail=sl.tiny.server_net()[-1:])
        sl.train([client], server, 1, protocol=sl.u_shaped)


def defended(make_client, steps=6, defenses=(), server=None):
    client = make_client(sends_index=True)
    labels = (client.data.y == 0).long()
    server = sl.HonestServer(
        sl.tiny.server_net(classes=2), labels=labels, defenses=defenses, seed=1
    )
    log = sl.train([client], server, steps)
    return client, server, log


def test_a_defense_changes_what_is_sent_and_not_the_servers_own_step(make_client):
    """The first step of s is the same with noise, and that of f is not."""
    plain, plain_server, log = defended(make_client, 1)
    noisy, noisy_server, noisy_log = defended(make_client, 1, [GradientNoise(1.0)])
    for key, value in plain_server.net.state_dict().items():
        assert torch.equal(value, noisy_server.net.state_dict()[key])
    states = plain.net.state_dict(), noisy.net.state_dict()
    assert any(not torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert "noise" not in log.names()
    assert noisy_log["noise"][0] > 0.5


def test_a_defense_that_does_nothing_leaves_every_bit(make_client):
    one, one_server, _ = defended(make_client)
    other, other_server, log = defended(make_client, defenses=[LabelDefense()])
    for a, b in ((one.net, other.net), (one_server.net, other_server.net)):
        assert all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())
    assert log["noise"] == [0.0] * 6


def test_the_class_that_varies_less_gets_the_noise_across():
    dz, labels = gradients()
    for flipped in (labels, 1 - labels):
        defense = Marvell(4.0)
        defense.outgoing(dz, flipped)
        rare = int(flipped[0])  # the first rows vary more
        assert defense.noise.across[rare] == 0 < defense.noise.across[1 - rare]


def test_defenses_work_one_after_the_other(make_client):
    class AddOne(LabelDefense):
        def outgoing(self, dz, labels):
            return dz + 1

    class Double(LabelDefense):
        def outgoing(self, dz, labels):
            return 2 * dz

    message = make_client(sends_index=True).forward()
    labels = torch.zeros(700, dtype=torch.int64)

    def reply(*defenses):
        net = sl.tiny.server_net(classes=2)
        return sl.HonestServer(net, labels=labels, defenses=defenses).reply(message.delivered()).dz

    torch.testing.assert_close(reply(AddOne(), Double()), 2 * (reply() + 1))
