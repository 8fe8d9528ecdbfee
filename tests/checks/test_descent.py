"""What the exercise "Invert by descent" is compared with."""

import dataclasses

import pytest
import torch

from splitlab.course.checks.what_the_cut_leaks import descent


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def test_the_descent_follows_its_formula_where_f_only_mixes_pixels():
    case = descent.mixing_case()
    a = case.net[1].weight.detach()
    once = torch.eye(6, dtype=torch.float64) - 2 * case.rate * a.T @ a
    for steps in (1, 2, 7):
        found = dataclasses.replace(case, steps=steps).descend()
        left = torch.linalg.matrix_power(once, steps) @ (case.start - case.private).flatten(1).T
        torch.testing.assert_close(found, case.private + left.T.reshape(found.shape))


def test_an_f_that_only_mixes_pixels_gives_the_images_away():
    case = descent.mixing_case()
    torch.testing.assert_close(case.descend(), case.private, atol=1e-5, rtol=0)
    assert (case.start - case.private).abs().max() > 0.1


def test_no_image_of_a_batch_moves_another():
    case = descent._case(4, 6, 0.3, (-0.8, 0.9))
    alone = [
        dataclasses.replace(case, private=x[None], start=start[None]).descend()
        for x, start in zip(case.private, case.start, strict=True)
    ]
    torch.testing.assert_close(case.descend(), torch.cat(alone))


def test_total_variation_is_weighed_and_the_range_is_kept():
    case = descent._case(3, 5, 2.0, (0.0, 0.7))
    found = case.descend()
    assert found.min() >= 0
    assert found.max() <= 0.7
    assert not torch.allclose(found, dataclasses.replace(case, weight=0.0).descend())
