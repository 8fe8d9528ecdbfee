"""How the last exercise of chapter 23 is checked: by chance, and not by luck."""

import re
from importlib import import_module

import pytest
import torch
from bank_labels_leak import by_the_formula, column, sigma

from splitlab.course.checks import CheckFailed
from splitlab.course.checks import labels_leak as check
from splitlab.course.checks.guard import Guard
from splitlab.course.checks.scored import Answer

checks = import_module("splitlab.course.checks.labels_leak.max_norm")


def seeded(seed, function):
    """The function, with another seed than the check's."""

    def answer(dz, generator):
        own = torch.Generator().manual_seed(seed * 1000 + generator.initial_seed())
        return function(dz, own)

    return Answer(Guard(answer, "max_norm", 60))


@pytest.mark.parametrize("seed", range(8))
def test_right_noise_passes_whatever_it_draws(seed):
    checks._check_noise(seeded(seed, by_the_formula))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("factor", [0.85, 1.15])
def test_noise_that_is_a_little_off_is_found_whatever_it_draws(seed, factor):
    def off(dz, generator):
        eps = torch.randn(len(dz), generator=generator, dtype=dz.dtype)
        return dz * column(1 + factor * sigma(dz) * eps, dz)

    with pytest.raises(CheckFailed, match="does not equalize"):
        checks._check_noise(seeded(seed, off))


def test_the_figures_in_the_message_are_mean_squared_norms():
    def twice(dz, generator):
        eps = torch.randn(len(dz), generator=generator)
        return dz * column(1 + (sigma(dz) > 0) * 2 * eps, dz)

    with pytest.raises(CheckFailed) as caught:
        checks._check_noise(Answer(Guard(twice, "max_norm", 60)))
    pattern = r"of norm 0\.4 gets the mean squared norm (\S+), .* norm 1 gets (\S+), .* has 16$"
    short, longer = re.search(pattern, str(caught.value)).groups()
    # 1 + 2 squared, times the squared norms: within the luck of thousands of draws
    assert float(short) == pytest.approx(5 * 0.4**2, rel=0.1)
    assert float(longer) == pytest.approx(5, rel=0.1)


def test_batches_have_the_norms_that_they_are_named_for():
    dz = checks._batch(3)
    expected = torch.tensor(checks.NORMS * 3, dtype=torch.float64)
    torch.testing.assert_close(dz.flatten(1).norm(dim=1), expected)
    assert (dz == 0).any()


def test_every_batch_of_the_table_has_a_known_positive_and_another():
    batches = checks._batches()
    assert len(batches) >= 10
    for batch in batches:
        assert batch.positive.sum() >= 2
        assert batch.positive[batch.known]
        assert batch.dz.shape == (32, 32, 4, 4)


def test_the_table_shows_what_noise_along_the_gradient_hides_and_what_it_does_not():
    score = check.max_norm(by_the_formula).score
    table = {row[0]: row[1:] for row in score.table.rows}
    assert list(table) == ["none", "in all directions", "yours"]
    none, everywhere, yours = table.values()
    assert yours[0] < 0.75 < 0.95 < everywhere[0]
    assert none[0] > 0.95
    assert yours[1] < none[1]
    assert yours[2] == pytest.approx(none[2], abs=1e-4), "a row stays on its own line"
    assert score.value == yours[-1] == 1 - 2 * abs(yours[0] - 0.5)
    assert score.table.strong == 2


def test_noise_in_all_directions_has_the_power_of_the_equalizing_one():
    dz = checks._batch(2000)
    added = [
        (noise(dz, torch.Generator().manual_seed(0)) - dz).square().sum() / len(dz)
        for noise in (checks._isotropic, by_the_formula)
    ]
    torch.testing.assert_close(added[0], added[1], rtol=0.05, atol=0)
