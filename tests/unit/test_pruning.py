"""Pruning keeps the largest numbers of each row."""

import pytest
import torch

from splitlab.defenses import TopK


def test_the_largest_numbers_of_each_row_stay_whatever_their_sign():
    z = torch.tensor([[[3.0, -5.0], [1.0, 2.0]], [[-1.0, 0.5], [4.0, -2.0]]])
    expected = torch.tensor([[[3.0, -5.0], [0, 0]], [[0, 0], [4.0, -2.0]]])
    assert torch.equal(TopK(2).pruned(z), expected)


def test_ties_do_not_let_more_through():
    assert int((TopK(3).pruned(torch.ones(2, 8)) != 0).sum()) == 6


def test_all_stay_where_there_are_not_more():
    z = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(TopK(9).pruned(z), z)


def test_the_gradient_reaches_what_is_kept_alone():
    z = torch.tensor([[3.0, -5.0, 1.0]], requires_grad=True)
    TopK(2).pruned(z).sum().backward()
    assert z.grad.tolist() == [[1.0, 1.0, 0.0]]


@pytest.mark.parametrize("keep", [0, -1, 1.5, True, "all"])
def test_bad_numbers_are_refused(keep):
    with pytest.raises(ValueError, match=r"^keep is .*: choose a whole number of at least 1$"):
        TopK(keep)
