"""What the exercise "Invert by descent" is compared with."""

import torch
from torch import nn

from splitlab.course.checks.what_the_cut_leaks import invert


def test_the_descent_gives_the_images_away_where_f_only_mixes_pixels():
    """Its error after k steps has a formula: (1 - 2 rate A^T A)^k times the first one."""
    torch.manual_seed(0)
    a = torch.linalg.qr(torch.randn(6, 6))[0] * torch.linspace(0.8, 1.2, 6)
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 6, bias=False)).eval()
    net[1].weight.data = a
    private, start = torch.rand(3, 1, 2, 3), torch.zeros(3, 1, 2, 3)
    z = net(private).detach()
    once = torch.eye(6) - 0.5 * a.T @ a
    for steps in (1, 2, 7, 60):
        found = invert.reference(net, z, start, steps, 0.25, 0.0, (-100.0, 100.0))
        left = torch.linalg.matrix_power(once, steps) @ (start - private).flatten(1).T
        torch.testing.assert_close(found, private + left.T.reshape(found.shape))
    torch.testing.assert_close(found, private, atol=1e-5, rtol=0)


def test_no_image_of_a_batch_moves_another():
    torch.manual_seed(0)
    net, z, start, *rest = invert.cases[1]()
    alone = [
        invert.reference(net, of_one, first, *rest)
        for of_one, first in zip(z.split(1), start.split(1), strict=True)
    ]
    torch.testing.assert_close(invert.reference(net, z, start, *rest), torch.cat(alone))
