"""The property hijack: three losses, who follows which, what is inferred, and what is refused."""

import copy
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import splitlab as sl
from splitlab.attacks.critic import Critic

SGD = partial(torch.optim.SGD, lr=0.1)


@pytest.fixture(scope="module")
def parts():
    """The parts of both data sets, by name, labeled with ten digits or with glasses."""
    faces = sl.data.drawn_faces(n=350, size=16, channels=1, labels="glasses").split(0)
    return {"digits": sl.tiny.split("digits", 0), "drawn_faces": faces}


def make(public, design="paper"):
    return sl.PropertyInference.at(sl.tiny, public, design=design, steps=300, batch_size=16)


def build(public, **options):
    """The paper's design from its parts; keyword arguments take the place of any."""
    nets = sl.nets.tiny
    parts = {"pilot": nets.pilot(linear=True), "head": nets.head(classes=len(public.classes))}
    parts |= {"critic": Critic(nets.critic(), penalty_weight=0.0), "batch_size": 16}
    return sl.PropertyInference(public, **parts | options)


def make_client(private, **options):
    options = {"optimizer": sl.tiny.client_optimizer, "batch_size": 16} | options
    return sl.Client(sl.tiny.client_net(), private, **options)


@pytest.mark.parametrize("data", ["digits", "drawn_faces"])
def test_one_turn_is_three_losses_each_with_its_own_networks(parts, data):
    """Pilot and head follow the cross-entropy, the critic its loss, the client the critic."""
    private, public, _ = parts[data]
    critic = Critic(sl.nets.tiny.critic(), penalty_weight=0.0, optimizer=SGD)
    attack = build(public, critic=critic, optimizer=SGD)
    twin = copy.deepcopy(attack).hijack
    critic, head = twin.critic.net, twin.decoder
    message = make_client(private).forward().delivered()
    dz = attack.reply(message).dz

    z = message.z.clone().requires_grad_()
    (expected,) = torch.autograd.grad(critic(z).mean(), z)
    assert torch.equal(dz, expected)
    rows = twin.sampler.next()
    z_public = twin.pilot(twin.public.x[rows])
    loss = cross_entropy(head(z_public), twin.public.y[rows])
    critic_loss = critic(z_public.detach()).mean() - critic(message.z).mean()
    learned = [*twin.pilot.parameters(), *head.parameters()]
    gradients = [
        *torch.autograd.grad(loss, learned),
        *torch.autograd.grad(critic_loss, list(critic.parameters())),
    ]
    before = [*learned, *critic.parameters()]
    trained = (attack.hijack.pilot, attack.head, attack.hijack.critic.net)
    after = [p for net in trained for p in net.parameters()]
    for old, gradient, new in zip(before, gradients, after, strict=True):
        torch.testing.assert_close(new, old - 0.1 * gradient, rtol=0, atol=1e-6)
    firsts = (0, len([*twin.pilot.parameters()]), len(learned))  # of pilot, head and critic
    assert all(gradients[first].abs().max() > 1e-4 for first in firsts)


def test_the_public_loss_by_hand(parts):
    """A head that says nothing has the loss log K; its gradient is 1/K less the label's share."""
    attack = make(parts["digits"][1])
    nn.init.zeros_(attack.head[1].weight)
    nn.init.zeros_(attack.head[1].bias)
    y = torch.tensor([0, 0, 0, 7])
    logits = attack.head(torch.randn(4, 32, 4, 4))
    loss = attack.hijack.public_loss(logits, torch.zeros(4, 1, 16, 16), y)
    assert loss.item() == pytest.approx(torch.log(torch.tensor(10.0)).item())
    (gradient,) = torch.autograd.grad(loss, attack.head[1].bias)
    expected = torch.full((10,), 0.1)
    expected[0] -= 0.75
    expected[7] -= 0.25
    torch.testing.assert_close(gradient, expected)


def test_the_attack_ignores_the_clients_labels(parts):
    private, public, _ = parts["digits"]
    message = make_client(private).forward().delivered()
    others = replace(message, labels=(message.labels + 1) % 10)
    one, two = make(public), make(public)
    assert torch.equal(one.reply(message).dz, two.reply(others).dz)
    assert torch.equal(one.infer_property(message), two.infer_property(message))


def test_what_is_told_are_probabilities_of_the_heads_logits(parts):
    attack = make(parts["digits"][1])
    z = torch.randn(300, 32, 4, 4)
    told = attack.infer_property(sl.SmashedData(z=z, sender="client", step=0))
    assert told.shape == (300, 10)
    with torch.no_grad():
        torch.testing.assert_close(told, attack.head(z).softmax(1))
    x = attack.public.x[:30]
    with torch.no_grad():
        logits = attack.head(attack.hijack.pilot(x))
        torch.testing.assert_close(attack.classify(x), logits.softmax(1))


def test_the_linear_pilot_is_linear_and_the_other_is_not():
    x = torch.rand(3, 1, 16, 16)
    for linear in (True, False):
        pilot = sl.nets.tiny.pilot(linear=linear)
        zero = pilot(torch.zeros(1, 1, 16, 16))
        twice = pilot(2 * x) - zero
        assert torch.allclose(twice, 2 * (pilot(x) - zero), atol=1e-5) == linear
    for cut in (1, 2, 3, 4):
        z = sl.nets.tiny.pilot(cut=cut, linear=True)(x)
        assert sl.nets.tiny.head(cut=cut, classes=3)(z).shape == (3, 3)
    for cut in (1, 4):
        z = torch.zeros(2, *sl.nets.paper.Z_SHAPE[cut])
        assert sl.nets.paper.head(cut=cut)(z).shape == (2, 2)


def test_the_fast_design_moves_nothing_but_the_head_and_reads_its_own_picture(parts):
    """Numbers of z that the decoder does not look at must not change what is told."""
    private, public, _ = parts["digits"]
    attack, twin = make(public, "fast"), sl.FSHA.at(sl.tiny, public, batch_size=16)
    message = make_client(private).forward().delivered()
    assert torch.equal(attack.reply(message).dz, twin.reply(message).dz)
    assert torch.equal(attack.reconstruct(message), twin.reconstruct(message))
    noisy = message.z.clone()
    noisy[:, 16:] += 100.0
    told = attack.infer_property(message)
    assert torch.equal(attack.infer_property(replace(message, z=noisy)), told)
    torch.testing.assert_close(told, attack.classify(attack.reconstruct(message)))


def test_without_a_decoder_there_are_no_pictures(parts):
    attack = make(parts["digits"][1])
    with pytest.raises(ValueError, match="makes no pictures: call infer_property"):
        attack.reconstruct(sl.SmashedData(z=torch.zeros(1, 32, 4, 4), sender="client", step=0))
    with pytest.raises(ValueError, match="makes no pictures"):
        attack.autoencode(attack.public.x[:1])


def test_wrong_arguments_get_a_sentence(parts):
    _, public, _ = parts["digits"]
    with pytest.raises(ValueError, match=r"images have the label 'not known': label them with"):
        make(public.without_labels())
    threes = public.select(public.y == 3)
    with pytest.raises(ValueError, match=f"all {len(threes)} public images have the label '3'"):
        make(threes)
    with pytest.raises(ValueError, match="the head has 2 outputs and the public images have 10"):
        build(public, head=sl.nets.tiny.head(classes=2))
    through = Critic(sl.nets.tiny.image_critic(), through=make(public, "fast").decoder)
    with pytest.raises(ValueError, match="a decoder that the attack does not have: pass the same"):
        build(public, critic=through)
    with pytest.raises(ValueError, match="the decoder has parameters"):
        build(public, decoder=sl.nets.tiny.decoder())
    with pytest.raises(ValueError, match="choose one of 'log', 'bce', 'wgan-gp'"):
        build(public, critic=Critic(sl.nets.tiny.critic(), loss="wgan"))


def test_defaults_are_the_papers(parts):
    nets = sl.nets.tiny
    own = {"pilot": nets.pilot(), "head": nets.head(classes=10), "critic": Critic(nets.critic())}
    hijack = sl.PropertyInference(parts["digits"][1], **own).hijack
    groups = hijack.optimizer.param_groups
    assert groups[0]["lr"] == 1e-5
    assert len(groups[0]["params"]) == 8
    assert (hijack.critic.loss_name, hijack.critic.penalty_weight) == ("wgan-gp", 500.0)
    assert (hijack.critic_steps, hijack.critic_first, hijack.sampler.batch_size) == (1, False, 64)


def test_training_is_audited_and_stealing_is_found(parts):
    private, public, _ = parts["digits"]
    client, attack = make_client(private), make(public)
    sl.train([client], attack, 1)
    attack.loot = client.data.y
    with pytest.raises(sl.ThreatModelViolation, match="loot"):
        sl.audit([client], attack)


def test_the_card_says_what_is_granted():
    card = sl.PropertyInference.threat
    assert "the property of each public image" in card.knows
    assert "property" in card.goal
    assert any("property" in line for line in card.does_not_know)


def test_it_works_in_the_u_shaped_protocol(parts):
    private, public, _ = parts["digits"]
    body, tail = sl.nets.tiny.server(classes=10), nn.Linear(10, 10)
    client = make_client(private, tail=tail)
    attack = build(public, body=body)
    sl.train([client], attack, 2, protocol=sl.u_shaped)
    assert client.step == 2


@pytest.mark.parametrize("design", ["paper", "fast"])
def test_the_networks_of_the_papers_size_fit(design):
    x = torch.rand(70, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    public = sl.ImageData(x.expand(-1, 3, -1, -1), torch.arange(70) % 3, ("a", "b", "c"))
    attack = sl.PropertyInference.at(sl.gpu, public, design=design, steps=10)
    assert attack.classify(public.x[:5]).shape == (5, 3)
    assert tuple(attack.hijack.z_shape) == sl.nets.paper.Z_SHAPE[4]


def test_behind_an_honest_server_the_head_learns_and_the_gradient_is_honest(parts):
    private, public, _ = parts["digits"]
    message = make_client(private).forward().delivered()
    net = sl.nets.tiny.server()
    inside = make(public)
    before = inside.head[1].weight.clone()
    server = sl.NoHijack(copy.deepcopy(net), inside, optimizer=sl.tiny.client_optimizer)
    honest = sl.HonestServer(copy.deepcopy(net), optimizer=sl.tiny.client_optimizer)
    assert torch.equal(server.reply(message).dz, honest.reply(message).dz)
    assert not torch.equal(inside.head[1].weight, before)


@pytest.mark.parametrize("seed", [11, 12])
def test_the_hijack_infers_the_slant(seed):
    """Far above the most common answer, and above what the label gives away."""
    private, public, _ = sl.tiny.split("digits", seed)
    threshold = float(sl.data.slant(public.x).median())
    truth, own = (sl.data.by_slant(part, threshold) for part in (private, public))
    client = sl.Client(sl.tiny.client_net(seed=seed), private, **sl.tiny.client(seed=seed))
    attack = sl.PropertyInference.at(sl.tiny, own, steps=150, seed=seed)
    before = sl.evaluate(client, attack, truth=truth)
    sl.train([client], attack, 150)
    report = sl.evaluate(client, attack, truth=truth)
    floor = max(figures["accuracy"] for figures in report.floors.values())
    assert report["attack"]["balanced"] > 0.8 > before["attack"]["balanced"]
    assert report["attack"]["accuracy"] > floor
