"""Hijacks with one choice changed: that the choice is made, and that nothing else is."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import splitlab as sl
from splitlab.course.experiments import Knob, find, hijack_settings, likeness

DATA = ("digits", "drawn_faces")


def knob(**options):
    return Knob("knobs_tiny", "test", 0, 200, **options)


def test_a_row_is_a_function_of_what_was_changed():
    plain = knob().config
    assert plain["cut"] == 2 and plain["design"] == "fast"
    assert knob(curve=False, growth=1.0).config == plain
    assert knob(growth=1.1, clip=0.5).config == plain | {"growth": 1.1, "clip": 0.5}
    assert knob(cut_at=4).config == plain | {"cut": 4, "cut_at": 4}
    configs = [knob(**options).config for options in hijack_settings.KINDS.values()]
    assert all(configs.count(config) == 1 for config in configs), "two kinds are the same run"


def test_the_schedule_is_the_product_of_its_parts():
    falls = sl.attacks.schedules.falling(200)
    steps = (0, 1, 150, 199)
    assert [knob().schedule()(t) for t in steps] == [falls(t) for t in steps]
    assert {knob(design="paper").schedule()(t) for t in steps} == {1.0}
    many = knob(steady=True, factor=0.5, growth=2.0, spike=3.0).schedule()
    assert [many(t) for t in (0, 1, 3)] == [1.5, 1.0, 4.0]


def test_the_mean_rate_is_the_clients_where_the_factor_is_constant_and_above_where_it_grows():
    assert knob(steady=True, factor=0.2).mean_rate() == pytest.approx(1e-3)
    assert knob(rate=1e-4, steady=True).mean_rate() == pytest.approx(1e-4)
    assert knob().mean_rate() < 1e-3
    assert 1.5e-4 < knob(rate=1e-4, steady=True, growth=1.11).mean_rate() < 3.1e-4


def test_likeness_finds_the_channel_that_is_the_image():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(200, 1, 16, 16, generator=generator)
    noise = torch.randn(200, 3, 4, 4, generator=generator)
    small = nn.functional.avg_pool2d(x, 4)
    assert likeness(noise, x) < 0.1
    assert likeness(torch.cat([noise, 5 - 3 * small], 1), x) == pytest.approx(1.0, abs=1e-6)
    assert likeness(torch.zeros(200, 2, 4, 4), x) == 0
    half = small - small.mean() + small.std() * noise[:, :1]
    assert likeness(half, x) == pytest.approx(0.5**0.5, abs=0.05)


@pytest.mark.parametrize("kind", ["half", "double", "one convolution", "no convolution"])
def test_critics_score_images_and_are_what_they_are_called(kind):
    critic = hijack_settings.image_critic(kind, seed=1)
    assert critic(torch.zeros(3, 1, 16, 16)).shape == (3, 1)
    convolutions = [m for m in critic.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == {"one convolution": 1, "no convolution": 0}.get(kind, 3)
    if kind in ("half", "double"):
        usual = [m for m in sl.nets.tiny.image_critic().modules() if isinstance(m, nn.Conv2d)]
        ratio = convolutions[1].out_channels / usual[1].out_channels
        assert ratio == {"half": 0.5, "double": 2.0}[kind]
    with pytest.raises(ValueError, match="there is no critic 'quarter'"):
        hijack_settings.image_critic("quarter")


def reply(run, z):
    attack = run.attack(run.split(), "cpu")
    return attack.reply(sl.SmashedData(z=z, sender="client", step=0).delivered()).dz


@pytest.mark.parametrize("data", DATA)
def test_a_rotated_pilot_is_the_same_attack_in_turned_coordinates(data):
    plain, rotated = knob(data=data), knob(data=data, rotated=True)
    z = torch.randn(32, 32, 4, 4, generator=torch.Generator().manual_seed(0))
    turn = sl.nets.ChannelRotation(32, seed=0)
    asked, turned = reply(plain, z), reply(rotated, turn(z))
    torch.testing.assert_close(turned, turn(asked), rtol=1e-3, atol=1e-6)
    seen = hijack_settings.Gradients()
    counts = []
    for dz in (asked, turned):
        seen.message(sl.Gradient(dz=dz, sender="server", step=0))
        counts.append((seen.silent, seen.rank))
    assert counts == [(16, 16), (0, 16)], "no silent channel, and no more directions than before"
    assert seen.norms == pytest.approx([float(asked.norm())] * 2, rel=1e-4)


@pytest.mark.parametrize("name", ["the client's layers", "one convolution", "dense"])
def test_pilots_of_the_papers_design_fit_its_decoder_and_learn(name):
    run = knob(design="paper", pilot=name)
    attack = run.attack(run.split(), "cpu")
    before = [p.detach().clone() for p in attack.pilot.parameters()]
    attack.rehearse()
    assert all((p != q).any() for p, q in zip(attack.pilot.parameters(), before, strict=True))
    assert attack.autoencode(attack.public.x[:3]).shape == (3, 1, 16, 16)


def test_another_cut_is_cut_there_on_both_sides():
    run = knob(cut_at=4)
    split = run.split()
    z = run.client(split, "cpu").smash(split.private.x[:2]).z
    assert z.shape[1:] == run.attack(split, "cpu").z_shape == sl.nets.tiny.Z_SHAPE[4]


def test_the_clients_choices_reach_the_client():
    slow = knob(optimizer="SGD", rate=0.5, clip=2.0)
    client = slow.client(slow.split(), "cpu")
    assert isinstance(client.optimizer, torch.optim.SGD)
    (group,) = client.optimizer.param_groups
    assert (group["lr"], group["momentum"]) == (0.5, 0.9)
    assert [repr(d) for d in client.defenses] == ["NormAlarm(0.06, lowest=0)", "ClipGradient(2)"]
    same = knob(same_norm=True)
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
    run = replace(find("knobs_tiny", kind, 0), steps=6, data=data)
    row = run.row()
    assert row["steps"] == 6 and row["n"] <= 500
    assert row["rows"]["nearest_public"]["mse"] < row["rows"]["attack"]["mse"]
    if run.design != "paper":
        assert row["rows"]["own_autoencoder"]["mse"] == pytest.approx(0, abs=1e-10)
    assert 0 <= row["looks"] <= 1 and row["rank"] >= 1
    assert row["alarms"] == 0 or 0 <= row["first_alarm"] < 6
    if run.growth > 1:
        assert row["alarms"] == 0 and row["highest_norm"] < 1e-4


def test_an_interrupted_run_goes_on_with_what_it_saw(tmp_path):
    run = replace(find("knobs_tiny", "no hijack", 0), steps=6)
    path = tmp_path / "run.checkpoint"
    whole = run.row(checkpoint=path, every=3)
    again = run.row(checkpoint=path, every=3)
    for name in ("highest_norm", "silent_channels", "rank", "norms", "rows"):
        assert whole[name] == again[name]
    assert len(again["norms"]) == 6
