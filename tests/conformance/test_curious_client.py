"""Attacks on labels by the client: they change nothing, and hold no label."""

import dataclasses

import pytest
import torch

import splitlab as sl
from splitlab.course.conformance.examples import Replies

KINDS = {
    "norm": lambda *args, **options: sl.GradientNorm(*args, **options),
    "cosine": lambda *args, **options: sl.GradientCosine(*args, known={3: 1}, **options),
    "clustering": lambda *args, **options: sl.GradientClustering(*args, **options),
}


def run(kind, digits, steps=45, **server):
    """Train, with a look in the middle where the client is curious; return all that moved."""
    private = digits[0].one_against_rest(0)
    client = kind(
        sl.tiny.client_net(),
        private.without_labels(),
        sends_index=True,
        **sl.tiny.client() | {"batch_size": 16},
    )
    server = sl.HonestServer(sl.tiny.server_net(classes=2), labels=private.y, **server)
    replies = Replies()
    for half in (steps, 5):
        sl.train([client], server, half, observers=[replies])
        if hasattr(client, "infer_labels"):
            client.infer_labels(client.received())
    return client, server, replies.dz


@pytest.mark.parametrize("name", KINDS)
def test_the_client_trains_as_an_honest_one(name, digits):
    honest, honest_server, dz = run(sl.Client, digits)
    client, server, seen = run(KINDS[name], digits)
    assert len(dz) == len(seen) == 50
    assert all(torch.equal(a, b) for a, b in zip(dz, seen, strict=True))
    for one, other in ((honest.net, client.net), (honest_server.net, server.net)):
        states = one.state_dict(), other.state_dict()  # BatchNorm's buffers, too
        assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    truth = dataclasses.replace(digits[0], y=server.labels, classes=("no", "yes"))
    sl.evaluate(client, client, truth=truth, windows={"all": (0, 50)})
    assert all(
        torch.equal(v, client.net.state_dict()[k]) for k, v in honest.net.state_dict().items()
    )
    # What it kept is what arrived, row for row.
    assert torch.equal(client.received().dz, torch.cat(dz).flatten(1))


@pytest.mark.parametrize("name", KINDS)
def test_what_it_infers_does_not_depend_on_labels_it_should_not_hold(name, digits):
    client, _, _ = run(KINDS[name], digits)
    other, _, _ = run(KINDS[name], digits)
    y = torch.arange(len(other.data)) % 2
    other.data = dataclasses.replace(other.data, y=y, classes=("a", "b"))
    guesses = [attack.infer_labels(attack.received()) for attack in (client, other)]
    assert torch.equal(*guesses)


def test_images_without_labels_tell_none(digits):
    faces = sl.data.drawn_faces(50, size=16, channels=1)
    for data in (digits[0], faces):
        blank = data.without_labels()
        assert torch.equal(blank.x, data.x)
        assert blank.x.untyped_storage().data_ptr() != data.x.untyped_storage().data_ptr()
        assert not blank.y.any() and blank.classes == ("not known",)
        assert not blank.attributes
        assert torch.equal(blank.row, torch.arange(len(data)))
        assert torch.equal(blank.block, blank.row)
    colour = sl.data.drawn_faces(20, size=16).without_labels()
    assert colour.shape == (3, 16, 16)


@pytest.mark.parametrize("name", KINDS)
def test_its_card_says_what_it_was_granted(name):
    card = {
        "norm": sl.GradientNorm,
        "cosine": sl.GradientCosine,
        "clustering": sl.GradientClustering,
    }[name].threat
    assert "passive" in card.who and "client" in card.who
    assert bool(card.grants) == (name == "cosine")
