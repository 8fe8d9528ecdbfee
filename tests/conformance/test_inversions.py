"""The passive inversions change nothing of the training, and still draw the private images."""

import pytest
import torch

import splitlab as sl
from splitlab.course.conformance.examples import Replies
from splitlab.course.experiments import PassiveInversions

NAMES = ("query_free", "black_box", "white_box")
PREPARING = {
    "query_free": {"surrogate_steps": 3, "steps": 3},
    "black_box": {"steps": 3},
    "white_box": {"steps": 3},
}


def attack_on(name, public):
    """An attack of this name at cut 2, from the honest server's first weights, quickly prepared."""
    net = sl.tiny.server_net()
    options = {"public": public, "optimizer": sl.tiny.client_optimizer} | PREPARING[name]
    other = sl.tiny.client_net(seed=77)
    if name == "white_box":
        return sl.WhiteBoxInversion(net, f=other, **options)
    if name == "query_free":
        return sl.QueryFreeInversion(net, surrogate=other, **options)
    return sl.BlackBoxInversion(net, **options)


def trained(make_client, server, attack=None):
    """Four steps, the attack, four steps; gradients and weights."""
    client, replies = make_client(), Replies()
    sl.train([client], server, 4, observers=[replies])
    if attack is not None:
        sl.grant(attack, client)
        attack.reconstruct(client.smash(client.data.x[:3]))
        sl.audit([client], attack)
    sl.train([client], server, 4, observers=[replies])
    return replies.dz, client.net.state_dict() | {
        f"s.{name}": value for name, value in server.net.state_dict().items()
    }


@pytest.fixture(scope="module", params=["digits", "drawn_faces"])
def attacked(request):
    """(client, split, attacks): honest training at cut 1, and what was granted afterwards."""
    run = PassiveInversions("", "", 0, 150, data=request.param, cut=1)
    split = run.setting.split(request.param, 0)
    client, server, _ = run.train(split)
    return client, split, run.granted(server, split.public, client)


@pytest.mark.parametrize("name", ["black_box", "white_box"])
def test_with_a_grant_the_very_images_come_back(attacked, name):
    client, split, attacks = attacked
    x = split.private.x[:200]
    message = client.smash(x[:25])
    shown = attacks[name].reconstruct(message)
    rows = torch.arange(25)
    public = sl.floors.nearest_public(x[:25], split.public.x)
    assert sl.metrics.matched(shown, x, rows) >= 0.9
    assert sl.metrics.matched(shown, x, rows) > sl.metrics.matched(public, x, rows)
    assert sl.metrics.mse(shown, x[:25]) < sl.metrics.mse(public, x[:25])


def test_without_a_grant_of_f_retrieval_errs_less(attacked):
    client, split, attacks = attacked
    x = split.private.x[:25]
    message = client.smash(x)
    shown = attacks["query_free"].reconstruct(message)
    public = sl.floors.nearest_public(x, split.public.x)
    assert sl.metrics.mse(shown, x) > sl.metrics.mse(public, x)
