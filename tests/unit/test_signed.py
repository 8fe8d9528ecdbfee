"""The hijack that turns its negatives over: the rule, by hand values, and what follows from it."""

import copy

import pytest
import torch

import splitlab as sl
from splitlab.attacks import signed
from splitlab.attacks.signed import skewness_agreement


@pytest.fixture(scope="module")
def faces():
    return sl.data.drawn_faces(900, size=16, channels=1).split(0)


def fsha(public, **options):
    return sl.FSHA.at(sl.tiny, public, steps=200, **{"batch_size": 16} | options)


def make(public, look_at, **options):
    return sl.SignedFSHA(fsha(public, **options), look_at=look_at)


def client(private):
    net, optimizer = sl.tiny.client_net(), sl.tiny.client_optimizer
    return sl.Client(net, private, optimizer=optimizer, batch_size=16)


def test_skewness_has_its_hand_value():
    """Values 0, 0, 0, 4 deviate by -1 three times and by 3: 24/4 over (12/4)^1.5."""
    images = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [4.0, 1.0]]).reshape(4, 1, 1, 2)
    skewness = signed._skewness(images)
    torch.testing.assert_close(skewness, torch.tensor([6 / 3**1.5, 0.0], dtype=torch.float64))
    torch.testing.assert_close(signed._skewness(-images), -skewness)


@pytest.mark.parametrize("part", ["digits", "faces"])
def test_the_rule_knows_images_from_negatives(part, digits, faces):
    private, public, _ = digits if part == "digits" else faces
    upright = skewness_agreement(private.x, public.x)
    assert upright > 0.5
    assert skewness_agreement(-private.x, public.x) == pytest.approx(-upright)
    # Contrast and brightness do not matter to it.
    assert skewness_agreement(0.2 * private.x + 0.5, public.x) == pytest.approx(upright, abs=1e-3)


def test_until_it_fires_it_is_fsha_bit_for_bit(faces):
    private, public, _ = faces
    plain, signed_one = client(private), client(private)
    sl.train([plain], fsha(public), 6)
    attack = make(public, look_at=7)
    sl.train([signed_one], attack, 6)
    for one, other in zip(plain.net.parameters(), signed_one.net.parameters(), strict=True):
        assert torch.equal(one, other)
    assert attack.sign == 1 and attack.agreement is None


def test_it_looks_once_at_the_step_that_was_asked_for(faces, monkeypatch):
    private, public, _ = faces
    looks = []

    def agreement(pictures, public):
        looks.append(len(pictures))
        return 0.1

    monkeypatch.setattr(signed, "skewness_agreement", agreement)
    attack = make(public, look_at=3)
    sl.train([client(private)], attack, 6)
    assert looks == [3 * 16]  # three batches of 16
    assert attack.sign == 1 and attack.kept == []


@pytest.mark.parametrize("which", ["digits", "faces"])
def test_a_mirrored_code_is_seen_through(which, digits, faces):
    """Sent the code of negatives, it decodes the images, and steers z the other way."""
    _, public, _ = digits if which == "digits" else faces
    changes = {"critic_first": False, "gradient_scale": lambda step: 1.0, "batch_size": 250}
    attack = make(public, look_at=1, **changes)
    twin = copy.deepcopy(attack)
    images = public.x[:250]
    pilot = attack.hijack.pilot
    center = pilot(public.x).mean(0)
    z = 2 * center - pilot(images)
    message = sl.SmashedData(z=z, sender="client", step=0)
    upright = pilot(images).requires_grad_()
    pull = twin.hijack.critic.pull(upright, upright.detach())
    (expected,) = torch.autograd.grad(pull, upright)
    dz = attack.reply(message).dz
    assert attack.sign == -1 and attack.agreement < -0.5
    torch.testing.assert_close(dz, -expected)
    torch.testing.assert_close(attack.reconstruct(message), images, atol=1e-5, rtol=0)


def test_real_codes_are_left_as_they_are(faces):
    _, public, _ = faces
    attack = make(public, look_at=1, batch_size=250)
    message = sl.SmashedData(z=attack.hijack.pilot(public.x[:250]), sender="client", step=0)
    attack.reply(message)
    assert attack.sign == 1 and attack.agreement > 0.5
    torch.testing.assert_close(attack.reconstruct(message), public.x[:250], atol=1e-5, rtol=0)


def test_wrong_arguments_get_a_sentence(digits):
    with pytest.raises(ValueError, match="look_at is 0: there is nothing to see before step 1"):
        make(digits[1], look_at=0)
    attack = make(digits[1], look_at=1)
    with pytest.raises(ValueError, match="give the attack the networks of the client's cut"):
        attack.reply(sl.SmashedData(z=torch.randn(16, 8, 8, 8), sender="client", step=0))
