"""The rows of `no_peek_tiny`: what is compared, and that looking changes nothing."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.optim import SGD

import splitlab as sl
from splitlab.course import experiments
from splitlab.course.experiments.no_peek import (
    GradientRatio,
    NoPeekHijack,
    NoPeekInversions,
    dependence,
    noisy,
)
from splitlab.course.experiments.passive_inversions import linear_pictures
from splitlab.course.experiments.public_images import unpacked
from splitlab.defenses import ClipGradient, NoPeek, distance_correlation
from splitlab.referee.metrics import mse


@pytest.fixture(scope="module")
def split():
    return sl.tiny.split("digits", 7)


def trained(split, defenses, steps=3, factor=1.0):
    arguments = sl.tiny.client(seed=0) | {"optimizer": partial(SGD, lr=1e-4)}
    client = sl.Client(sl.tiny.client_net(), split.private, defenses=defenses, **arguments)
    scale = {"gradient_scale": lambda step: factor}
    sl.train([client], sl.FSHA.at(sl.tiny, split.public, steps=steps, **scale), steps)
    return client


def looked(split, alpha, factor=1.0, *before):
    no_peek = NoPeek(alpha)
    look = GradientRatio(no_peek)
    trained(split, [*before, no_peek, look], steps=1, factor=factor)
    return look.ratios[0]


def test_the_ratio_is_that_of_the_two_gradients_in_the_weights(split):
    client = trained(split, [], steps=1)
    fresh = sl.Client(sl.tiny.client_net(), split.private, **sl.tiny.client(seed=0))
    message = fresh.forward()
    dz = sl.FSHA.at(sl.tiny, split.public, steps=1).reply(message).dz
    moved = [
        (old - new).detach()
        for old, new in zip(fresh.net.parameters(), client.net.parameters(), strict=True)
    ]
    servers = torch.cat([one.flatten() for one in moved]).norm() / 1e-4
    own = 3 * distance_correlation(fresh.turn.x, fresh.turn.z)
    gradients = torch.autograd.grad(own, list(fresh.net.parameters()))
    defenses = torch.cat([one.flatten() for one in gradients]).norm()
    assert dz.norm() > 0
    assert looked(split, 3.0) == pytest.approx(float(defenses / servers), rel=1e-2)


def test_the_ratio_follows_alpha_the_factor_and_the_clip(split):
    one = looked(split, 2.0)
    assert looked(split, 6.0) == pytest.approx(3 * one, rel=1e-3)
    assert looked(split, 2.0, 50.0) == pytest.approx(one / 50, rel=1e-3)
    clip = ClipGradient(1e-3)  # below the norm of either gradient
    assert looked(split, 2.0, 50.0, clip) == pytest.approx(looked(split, 2.0, 1.0, clip), rel=1e-3)


def test_looking_changes_nothing(split):
    no_peek = NoPeek(2.0)
    plain, watched = (
        trained(split, [NoPeek(2.0)]),
        trained(split, [no_peek, GradientRatio(no_peek)]),
    )
    weights = plain.net.state_dict()
    assert all(torch.equal(weights[name], w) for name, w in watched.net.state_dict().items())


def test_the_dependence_is_a_mean_over_batches(split):
    client = trained(split, [], steps=1)
    x = split.private.x[:64]
    found = dependence(client, x)
    halves = [distance_correlation(part, client.smash(part).z) for part in x.split(32)]
    assert found["distance_correlation"] == pytest.approx(float(sum(halves)) / 2, rel=1e-4)
    assert found["permuted"] < found["distance_correlation"]
    assert found["bias_corrected"] < found["squared_distances"]


def test_noise_is_added_to_every_z_and_the_best_ridge_counts(split, monkeypatch):
    client = trained(split, [], steps=1)
    x, found = split.private.x[:100], []
    for noise in (0.0, 0.1, 1.0):
        monkeypatch.setattr("splitlab.course.experiments.no_peek.NOISE", noise)
        found.append(noisy(client, split.public, x)["mse"])
    assert found[0] < found[1] < found[2]
    pictures = linear_pictures(client, split.public, client.smash(x).z)
    assert found[0] == pytest.approx(mse(pictures, x), rel=1e-3)


def test_the_first_steps_at_scale_keep_every_ratio():
    run = experiments.find("no_peek_tiny", "pair, the paper's networks", 7)
    assert run.config["profile"] == "paper" and run.config["factor"] == 50
    row = replace(run, profile="tiny", data="digits", steps=3).row()
    assert len(row["ratios"]) == row["steps"] == 3
    assert all(ratio > 0 for ratio in row["ratios"])


def test_defenses_are_on_in_the_order_that_the_row_says():
    run = NoPeekHijack("no_peek_tiny", "", 7, 2, alpha=8.0, clip=0.5, same_norm=True)
    kinds = [type(one).__name__ for one in run.defenses()]
    assert kinds == ["NormAlarm", "ClipGradient", "SetNorm", "NoPeek", "GradientRatio"]
    changed = {"alpha": 8.0, "clip": 0.5, "same_norm": True}
    assert {name: run.config[name] for name in changed} == changed
    assert "own_step" not in run.config
    honest = NoPeekInversions("no_peek_tiny", "", 7, 2, alpha=8.0, dropout=0.5, clip=0.5)
    kinds = [type(one).__name__ for one in honest.defenses()]
    assert kinds == ["CutDropout", "ClipGradient", "NoPeek"]
    assert NoPeekInversions("no_peek_tiny", "", 7, 2).defenses() == []


@pytest.fixture(scope="module")
def short():
    """A short row of some kinds, at a seed that is not recorded."""
    kinds = (
        "passive, alpha 8",
        "static, alpha 8",
        "pair, own step",
        "honest, clip, alpha 8",
    )
    return {
        kind: replace(experiments.find("no_peek_tiny", kind, 7), steps=2).row() for kind in kinds
    }


def test_a_row_has_what_the_page_needs(short):
    for row in short.values():
        json.dumps(row)
    hijack, passive = short["static, alpha 8"], short["passive, alpha 8"]
    assert hijack["ratio"] > 0 and unpacked(hijack["drawn"]).shape == (6, 1, 16, 16)
    assert {"linear", "black_box", "white_box"} <= passive["rows"].keys()
    assert "query_free" not in passive["rows"]
    assert passive["dependence"].keys() == hijack["dependence"].keys()
    assert set(short["honest, clip, alpha 8"]) >= {"accuracy", "cpu_seconds"}
