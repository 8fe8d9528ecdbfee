"""The client-side GAN: who moves in which turn, what the server receives, and what is refused."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam

import splitlab as sl
from splitlab.settings import client_side

NETS = sl.tiny.nets


def parameters(*nets):
    return [p.detach().clone() for net in nets for p in net.parameters()]


def moved(before, *nets):
    """Whether each parameter of some networks has moved."""
    return [
        not torch.equal(one, other) for one, other in zip(before, parameters(*nets), strict=True)
    ]


def served(optimizer=partial(SGD, lr=0.1), seed=0, dtype=torch.float32):
    return sl.HonestServer(NETS.strided_server(seed=seed).to(dtype), optimizer=optimizer, seed=seed)


def honest(part, seed=0, name="client", **options):
    options = {"optimizer": sl.tiny.client_optimizer, "batch_size": 16} | options
    net, tail = NETS.strided_client(seed=seed), NETS.strided_tail(seed=seed)
    return sl.Client(net, part, tail=tail, seed=seed, name=name, **options)


def step(attack, server, observers=()):
    sl.u_shaped(attack, server, sl.Wire(observers))


class Heard(sl.Observer):
    """Keeps what crosses."""

    def __init__(self):
        self.messages = []

    def message(self, message):
        self.messages.append(message)


@pytest.fixture
def like(digits):
    return digits[0]


@pytest.fixture
def attack(like):
    return sl.ClientGAN.at(sl.tiny, like, target=1, batch_size=16)


def test_only_the_generator_moves_in_a_generator_turn(attack):
    assert attack.generator_turn
    before, made = parameters(attack.net, attack.tail), parameters(attack.generator)
    state = {k: v.clone() for k, v in attack._networks().state_dict().items()}
    step(attack, served())
    assert not any(moved(before, attack.net, attack.tail))
    assert all(torch.equal(v, state[k]) for k, v in attack._networks().state_dict().items())
    assert all(moved(made, attack.generator))


def test_f_tail_and_server_move_in_a_poison_turn_and_the_generator_does_not(attack):
    server = served()
    step(attack, server)
    assert not attack.generator_turn
    before, made = parameters(attack.net, attack.tail, server.net), parameters(attack.generator)
    step(attack, server)
    assert all(moved(before, attack.net, attack.tail, server.net))
    assert not any(moved(made, attack.generator))
    assert attack.generator_turn


@pytest.mark.parametrize("scale", [2.0**-17, 1e-5])
def test_the_server_steps_scale_times_as_far_and_the_generator_as_far_as_unscaled(like, scale):
    """With SGD, in float64; a power of two scales without rounding."""
    found = []
    for factor in (1.0, scale):
        kinds = {
            "net": NETS.strided_client().double(),
            "tail": NETS.strided_tail().double(),
            "generator": NETS.generator().double(),
        }
        attack = sl.ClientGAN.at(sl.tiny, like, target=1, batch_size=16, scale=factor, **kinds)
        server, heard = served(dtype=torch.float64), Heard()
        before = parameters(server.net)
        step(attack, server, [heard])
        taken = [now - then for now, then in zip(parameters(server.net), before, strict=True)]
        gradients = [p.grad for p in server.net.parameters()]
        da = heard.messages[2].da
        found.append((taken, gradients, [da], parameters(attack.generator)))
    whole, scaled = found
    exact = scale == 2.0**-17
    for one, other in zip(whole[1] + whole[2], scaled[1] + scaled[2], strict=True):
        assert other.abs().max() > 0
        torch.testing.assert_close(
            other, one * scale, rtol=0 if exact else 1e-9, atol=0 if exact else 1e-20
        )
    for one, other in zip(
        whole[0], scaled[0], strict=True
    ):  # what is left of a step after rounding
        torch.testing.assert_close(other, one * scale, rtol=0, atol=1e-15)
    for one, other in zip(whole[3], scaled[3], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0 if exact else 1e-9)


def test_adam_with_fresh_moments_undoes_most_of_the_scaling(like):
    """Where SGD's step is 1e-5 times as long."""
    lengths = []
    for scale in (1.0, 1e-5):
        attack = sl.ClientGAN.at(sl.tiny, like, target=1, batch_size=16, scale=scale)
        server = served(partial(Adam, lr=1e-3))
        before = parameters(server.net)
        step(attack, server)
        pairs = zip(parameters(server.net), before, strict=True)
        lengths.append(torch.cat([(now - then).flatten() for now, then in pairs]).norm())
    assert lengths[1] > 0.1 * lengths[0]


def test_poison_turns_are_not_scaled(like):
    das = []
    for scale in (1.0, 2.0**-17):
        attack, heard = (
            sl.ClientGAN.at(sl.tiny, like, target=1, batch_size=16, scale=scale),
            Heard(),
        )
        server = served(partial(SGD, lr=0.0))
        step(attack, server)
        step(attack, server, [heard])
        das.append(heard.messages[2].da)
    assert torch.equal(*das)


def test_without_the_poison_class_every_turn_is_the_generators(like):
    attack = sl.ClientGAN.at(sl.tiny, like, target=1, batch_size=16, poison=None)
    before, server = parameters(attack.net, attack.tail), served()
    for _ in range(3):
        assert attack.generator_turn
        step(attack, server)
    assert not any(moved(before, attack.net, attack.tail))


def test_labels_are_the_targets_and_the_poison_class_and_no_image_is_its_own(attack):
    labels = [attack.next_turn().labels.unique().tolist()]
    step(attack, served())
    turn = attack.next_turn()
    labels.append(turn.labels.unique().tolist())
    assert labels == [[1], [10]]
    assert turn.index is None and not turn.x.requires_grad


def test_it_keeps_no_pixel_of_what_it_is_made_like(like):
    """Other pixels give the same run; what it holds is blank."""
    other = sl.ImageData(like.x.flip(0), like.y.flip(0), like.classes)
    made = []
    for images in (like, other):
        attack, server = sl.ClientGAN.at(sl.tiny, images, target=1), served()
        sl.train([attack], server, 3, protocol=sl.u_shaped)
        made.append(attack.generate(4))
        assert attack.data.x.unique().tolist() == [-1.0]
        assert attack.weights().samples == len(like)
    assert torch.equal(*made)


@pytest.mark.parametrize("make", [sl.Sequential, sl.SplitFed], ids=["sequential", "splitfed"])
def test_it_resumes_beside_honest_clients_who_take_ordinary_steps(digits, tmp_path, make):
    """With weights handed on and averaged, after a kill, to the last bit."""

    def parties():
        parts = [digits[0].select(torch.arange(k, 64, 2)) for k in range(2)]
        clients = [honest(part, name=f"client {k}") for k, part in enumerate(parts)]
        attack = sl.ClientGAN.at(sl.tiny, digits[0], target=1, batch_size=16)
        return [attack, *clients], served(sl.tiny.client_optimizer)

    def trained(steps, **options):
        clients, server = parties()
        protocol = make(protocol=sl.u_shaped)
        log = sl.train(clients, server, steps, protocol=protocol, **options)
        return clients, server, log

    whole = trained(12)
    trained(7, checkpoint=tmp_path / "run", every=7)
    again = trained(12, checkpoint=tmp_path / "run", every=7)
    for one, other in zip([*whole[0], whole[1]], [*again[0], again[1]], strict=True):
        one, other = one.state_dict(), other.state_dict()
        assert str(one) == str(other)
    assert torch.equal(whole[0][0].generate(3), again[0][0].generate(3))
    sl.audit(again[0], again[1])
    assert all(client.step == 4 for client in whole[0])


def test_honest_clients_sample_and_draw_as_they_do_without_the_attacker(digits):
    """The attacker's turns leave their batches and their Dropout alone."""
    sent = []
    for attacked in (False, True):
        client = honest(digits[0].select(range(64)))
        clients = [client]
        if attacked:
            clients.insert(0, sl.ClientGAN.at(sl.tiny, digits[0], target=1, batch_size=16))
        sl.train(clients, served(), 3 * len(clients), protocol=sl.Rounds(sl.u_shaped))
        sent.append((client.sampler.position, client.randomness.state_dict()["cpu"]))
    assert sent[0][0] == sent[1][0] and torch.equal(sent[0][1], sent[1][1])


def test_generate_is_a_function_of_the_state_or_of_a_seed_and_changes_nothing(like, attack):
    step(attack, served())
    before, random = str(attack.state_dict()), torch.get_rng_state()
    modes = [m.training for m in attack.generator.modules()]
    images = attack.generate(300)
    assert images.shape == (300, 1, 16, 16) and not images.requires_grad
    assert images.min() >= -1 and images.max() <= 1
    assert torch.equal(attack.generate(300), images)
    assert torch.equal(attack.generate(300, seed=4), attack.generate(300, seed=4))
    assert not torch.equal(attack.generate(300, seed=4), attack.generate(300, seed=5))
    assert str(attack.state_dict()) == before
    assert torch.equal(torch.get_rng_state(), random)
    assert [m.training for m in attack.generator.modules()] == modes
    same, other = (sl.ClientGAN.at(sl.tiny, like, target=1, batch_size=16, seed=s) for s in (0, 1))
    step(same, served())
    assert torch.equal(same.generate(300), images)
    assert not torch.equal(other.generate(300), images)


def test_generated_images_come_nearer_to_the_target_class(digits):
    """Nearer to real images of the target than before; the direction, not a bar."""
    private, _, _ = digits
    parts = [private.select(torch.arange(k, len(private), 3)) for k in range(3)]
    clients = [honest(part, name=f"client {k}", batch_size=32) for k, part in enumerate(parts)]
    attack = sl.ClientGAN.at(sl.tiny, private, target=0)
    real = {0: private.x[private.y == 0]}

    def distance():
        near = sl.referee.prototypes.nearest_by_class(attack.generate(200), real)
        return float(near[0].mean())

    start = distance()
    server = served(sl.tiny.client_optimizer)
    sl.train([attack, *clients], server, 4 * 150, protocol=sl.Sequential(sl.u_shaped))
    assert distance() < start


def test_free_images_are_model_inversion(like):
    """The generator is its images: noise is ignored, and the pixels are what learns."""
    images = sl.nets.FreeImages(4, (1, 16, 16), seed=1)
    made = images(torch.randn(6, 32))
    assert torch.equal(made[4:], made[:2])
    assert torch.equal(made, images(torch.zeros(6, 32)))
    assert torch.equal(made, sl.nets.FreeImages(4, (1, 16, 16), seed=1)(torch.zeros(6, 32)))
    attack = sl.ClientGAN.at(
        sl.tiny,
        like,
        target=1,
        poison=None,
        generator=images,
        batch_size=4,
        generator_optimizer=partial(Adam, lr=0.1),
    )
    server, losses = served(partial(SGD, lr=0.0)), []
    for _ in range(30):
        step(attack, server)
        losses.append(float(attack.metrics["task_loss"]))
    assert sum(losses[-5:]) < sum(losses[:5])


def test_the_public_codes_networks_and_settings_are_the_defaults():
    nets = client_side.nets
    x = torch.zeros(2, 1, 28, 28)
    z = nets.strided_client()(x)
    a = nets.strided_server()(z)
    assert (z.shape[1:], a.shape[1:]) == ((64, 14, 14), (128, 7, 7))
    assert nets.strided_tail()(a).shape == (2, 11)
    generator = nets.generator()
    assert generator.eval()(torch.zeros(2, nets.NOISE)).shape == x.shape
    assert sum(p.numel() for p in generator.parameters()) == 2_305_472
    y = torch.arange(300) % 10
    like = sl.ImageData(torch.zeros(300, 1, 28, 28), y, tuple("0123456789"), name="mnist")
    attack = sl.ClientGAN.at(client_side, like, target=1)
    plain = sl.ClientGAN(
        nets.strided_client(), like, tail=nets.strided_tail(), generator=generator, target=1
    )
    for one in (attack, plain):
        assert (one.noise, one.poison, one.scale, one.sampler.batch_size) == (100, 10, 1e-5, 256)
        rates = {o.param_groups[0]["lr"] for o in (one.optimizer, one.generator_optimizer)}
        assert rates == {1e-4}
    assert str(attack.state_dict()["generator"]) == str(plain.state_dict()["generator"])


def test_the_card_says_what_all_agreed_to():
    card = sl.ClientGAN.threat
    assert "one more class" in card.grants[0]
    assert "any image of the target class" in card.does_not_know


REFUSED = {
    "no target": ({"target": 10}, "target is 10: choose a class from 0 to 9"),
    "target below": ({"target": -1}, "target is -1: choose"),
    "poison is the target": ({"poison": 1}, "poison is 1 and target 1: choose another class"),
    "no output": (
        {"tail": NETS.strided_tail(classes=10)},
        "the tail has 10 outputs and the attack needs 11: give all heads one more class",
    ),
    "poison beyond": ({"poison": 12}, "the tail has 11 outputs and the attack needs 13"),
    "scale": ({"scale": 0.0}, "scale is 0.0: choose a finite number above 0"),
    "shape": (
        {"generator": NETS.generator(size=20)},
        r"makes rows of shape \(1, 20, 20\) and the task's images have \(1, 16, 16\)",
    ),
    "noise": ({"generator": nn.Linear(3, 4)}, r"does not take noise of shape \(32,\)"),
    "nothing to learn": ({"generator": nn.Tanh()}, "the generator has no weights to train"),
    "one image": ({"batch_size": 1}, "batch_size is 1 and the generator has a BatchNorm1d"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_sense_gets_a_sentence(like, name):
    options, sentence = REFUSED[name]
    with pytest.raises(ValueError, match=sentence):
        sl.ClientGAN.at(sl.tiny, like, **{"target": 1} | options)


def test_it_needs_a_tail_and_the_u_shaped_protocol(like, attack):
    with pytest.raises(ValueError, match="needs a tail to choose its labels: give it tail="):
        net, generator = NETS.strided_client(), NETS.generator()
        sl.ClientGAN(net, like, tail=None, generator=generator, target=1, noise=32)
    server = served()
    before = parameters(server.net, attack.net, attack.generator)
    with pytest.raises(
        ValueError, match="attacker has a tail, and keeps its labels: use protocol=u_shaped"
    ):
        sl.train([attack], server, 1)
    assert not any(moved(before, server.net, attack.net, attack.generator))
    with pytest.raises(ValueError, match="n is 0: choose a whole number of at least 1"):
        attack.generate(0)


def test_without_poison_ten_classes_are_enough(like):
    tail = NETS.strided_tail(classes=10)
    attack = sl.ClientGAN.at(sl.tiny, like, target=1, tail=tail, poison=None)
    assert repr(attack) == "ClientGAN(attacker, step 0, target 1, poison None, scale 1e-05)"
