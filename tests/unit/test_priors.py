"""Total variation: exact values, a gradient, and images that do not influence one another."""

from __future__ import annotations

import pytest
import torch

from splitlab.attacks.priors import total_variation


def test_each_direction_counts_by_its_mean() -> None:
    # Every vertical difference is 2, every horizontal one 1.
    image = torch.tensor([[0.0, 1.0, 2.0], [2.0, 3.0, 4.0]])[None, None]
    assert total_variation(image).tolist() == [4.0 + 1.0]
    assert total_variation(image.transpose(2, 3)).tolist() == [1.0 + 4.0]


def test_an_even_image_has_none_and_brightness_does_not_matter() -> None:
    even = torch.full((2, 3, 4, 5), 0.7)
    x = torch.rand(2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert total_variation(even).tolist() == [0.0, 0.0]
    assert torch.allclose(total_variation(x), total_variation(x + 3))
    assert torch.allclose(4 * total_variation(x), total_variation(-2 * x))


def test_images_do_not_influence_one_another_and_the_gradient_is_right() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(3, 2, 4, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    assert total_variation(x).shape == (3,)
    (gradient,) = torch.autograd.grad(total_variation(x)[1], x)
    assert gradient[1].abs().sum() > 0
    assert gradient[[0, 2]].abs().sum() == 0
    assert torch.autograd.gradcheck(total_variation, (x,))


@pytest.mark.parametrize(
    "x",
    [torch.zeros(1, 8, 8), torch.zeros(1, 1, 1, 8), torch.zeros(1, 1, 8, 8, dtype=torch.uint8)],
    ids=["no batch", "a single row", "bytes"],
)
def test_refuses_what_is_no_image(x: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"needs floating-point images .* pass x\[None\]"):
        total_variation(x)
