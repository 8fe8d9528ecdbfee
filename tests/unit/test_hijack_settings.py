"""Hijacks with one setting changed: that it is changed, and that nothing else is."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import splitlab as sl
from splitlab.course.experiments import HijackSetting, find, hijack_settings


def changed(**options):
    return HijackSetting("hijack_settings_tiny", "test", 0, 200, **options)


def test_a_row_is_a_function_of_what_was_changed():
    plain = changed().config
    assert plain["cut"] == 2 and plain["design"] == "fast"
    assert changed(steady=False, growth=1.0).config == plain
    assert changed(growth=1.1, clip=0.5).config == plain | {"growth": 1.1, "clip": 0.5}
    assert changed(cut_at=4).config == plain | {"cut": 4, "cut_at": 4}
    configs = [changed(**options).config for options in hijack_settings.KINDS.values()]
    assert all(configs.count(config) == 1 for config in configs), "two kinds are the same run"


def test_the_schedule_is_the_product_of_its_parts():
    falls = sl.attacks.schedules.falling(200)
    steps = (0, 1, 150, 199)
    assert [changed().schedule()(t) for t in steps] == [falls(t) for t in steps]
    assert {changed(design="paper").schedule()(t) for t in steps} == {1.0}
    many = changed(steady=True, factor=0.5, growth=2.0).schedule()
    assert [many(t) for t in (0, 1, 3)] == [0.5, 1.0, 4.0]


@pytest.mark.parametrize("kind", ["half", "double", "no convolution"])
def test_critics_score_images_and_are_what_they_are_called(kind):
    critic = hijack_settings.image_critic(kind, seed=1)
    assert critic(torch.zeros(3, 1, 16, 16)).shape == (3, 1)
    convolutions = [m for m in critic.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == (0 if kind == "no convolution" else 3)
    if kind in ("half", "double"):
        usual = [m for m in sl.nets.tiny.image_critic().modules() if isinstance(m, nn.Conv2d)]
        ratio = convolutions[1].out_channels / usual[1].out_channels
        assert ratio == {"half": 0.5, "double": 2.0}[kind]
    with pytest.raises(ValueError, match="there is no critic 'quarter'"):
        hijack_settings.image_critic("quarter")


@pytest.mark.parametrize("name", ["the client's layers", "dense"])
def test_pilots_of_the_papers_design_fit_its_decoder_and_learn(name):
    run = changed(design="paper", pilot=name)
    attack = run.attack(run.split(), "cpu")
    before = [p.detach().clone() for p in attack.pilot.parameters()]
    attack.rehearse()
    assert all((p != q).any() for p, q in zip(attack.pilot.parameters(), before, strict=True))
    assert attack.autoencode(attack.public.x[:3]).shape == (3, 1, 16, 16)


def test_another_cut_is_cut_there_on_both_sides():
    run = changed(cut_at=4)
    split = run.split()
    z = run.client(split, "cpu").smash(split.private.x[:2]).z
    assert z.shape[1:] == run.attack(split, "cpu").z_shape == sl.nets.tiny.Z_SHAPE[4]


def test_the_clients_choices_reach_the_client():
    slow = changed(optimizer="SGD", rate=0.5, clip=2.0)
    client = slow.client(slow.split(), "cpu")
    assert isinstance(client.optimizer, torch.optim.SGD)
    (group,) = client.optimizer.param_groups
    assert (group["lr"], group["momentum"]) == (0.5, 0.9)
    assert [repr(d) for d in client.defenses] == ["NormAlarm(0.06, lowest=0)", "ClipGradient(2)"]
    same = changed(same_norm=True)
    assert repr(same.client(same.split(), "cpu").defenses[1]) == "SetNorm(1)"


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("no hijack", "digits"),
        ("Adam 1e-4, growing quietly, clipped", "digits"),
        ("paper, dense pilot", "drawn_faces"),
    ],
)
def test_a_short_run_gives_a_row_with_floor_and_ceiling(kind, data):
    run = replace(find("hijack_settings_tiny", kind, 0), steps=6, data=data)
    row = run.row()
    assert row["steps"] == 6 and row["n"] <= 500
    assert row["rows"]["nearest_public"]["mse"] < row["rows"]["attack"]["mse"]
    if run.design != "paper":
        assert row["rows"]["own_autoencoder"]["mse"] == pytest.approx(0, abs=1e-10)
    assert 0 <= row["alarms"] <= 6
    assert (row["highest_norm"] > hijack_settings.LIMIT) == (row["alarms"] > 0)
    if run.growth > 1:
        assert row["alarms"] == 0 and row["highest_norm"] < 1e-4


def test_an_interrupted_run_goes_on_with_what_it_saw(tmp_path):
    run = replace(find("hijack_settings_tiny", "no hijack", 0), steps=6)
    path = tmp_path / "run.checkpoint"
    whole = run.row(checkpoint=path, every=3)
    again = run.row(checkpoint=path, every=3)
    for name in ("highest_norm", "rows"):
        assert whole[name] == again[name]
