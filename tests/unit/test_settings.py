"""The settings of the profiles, and the attacker's schedules."""

import dataclasses

import pytest
import torch

import splitlab as sl
from splitlab.settings import falling, half_at


@pytest.mark.parametrize("cut", [1, 2, 3, 4])
@pytest.mark.parametrize("design", ["fast", "paper"])
def test_both_designs_run_at_every_cut(digits, cut, design):
    private, public, _ = digits
    client = sl.Client(sl.tiny.client_net(cut=cut), private, **sl.tiny.client())
    attack = sl.FSHA(**sl.tiny.fsha(public, design=design, cut=cut))
    log = sl.train([client], attack, 2)
    assert all(torch.tensor(log[name]).isfinite().all() for name in log)


def test_the_papers_scale_uses_the_papers_defaults(digits):
    public = digits[1]
    grey = sl.data.digits(size=32, channels=3)
    arguments = sl.paper.fsha(grey, design="paper", steps=10)
    attack = sl.FSHA(**arguments)
    assert attack.penalty == "channel"
    assert attack.critic_optimizer.param_groups[0]["lr"] == 1e-4
    assert sl.nets.parameter_count(attack.critic) == 8_262_145
    assert sl.nets.parameter_count(sl.FSHA(**sl.paper.fsha(grey, steps=10)).critic) == 427_361
    assert public.shape == (1, 16, 16)


def test_one_client_optimizer_per_setting_honest_or_hijacked():
    for setting in sl.PROFILES.values():
        options = setting.client()
        optimizer = options["optimizer"]([torch.nn.Parameter(torch.zeros(1))])
        group = optimizer.param_groups[0]
        assert isinstance(optimizer, torch.optim.Adam)
        assert (group["lr"], group["betas"]) == (setting.client_rate, (0.9, 0.999))
    other = sl.tiny.client(rate=0.5)["optimizer"]([torch.nn.Parameter(torch.zeros(1))])
    assert other.param_groups[0]["lr"] == 0.5


def test_unknown_and_senseless_data_get_a_sentence():
    with pytest.raises(ValueError, match="there is no data set 'cifar'"):
        sl.tiny.split("cifar", 0)
    with pytest.raises(ValueError, match="digits makes no sense at profile paper"):
        sl.paper.split("digits", 0)


def test_data_of_ones_own_need_a_step_count(digits):
    mine = dataclasses.replace(digits[1], name="mine")
    with pytest.raises(ValueError, match="no step count for 'mine': pass steps"):
        sl.tiny.fsha(mine)
    assert sl.tiny.fsha(mine, steps=10)["critic_rate"](10) == 0.5
    part = digits[1].split(0)[1]
    assert "(public)" in part.name
    assert sl.tiny.fsha(part)["critic_steps"] == 3


def test_schedules():
    factor = falling(240)
    assert factor(0) == factor(140) == 1
    assert factor(190) == pytest.approx(0.2**0.5)
    assert factor(240) == factor(500) == pytest.approx(0.2)
    assert [half_at(100)(step) for step in (0, 50, 100, 200)] == [1, 0.75, 0.5, 0.5]
