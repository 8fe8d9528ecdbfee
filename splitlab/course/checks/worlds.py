"""Small networks for the cases of several exercises."""

from __future__ import annotations

import torch
from torch import nn


def small_critic(features: int) -> nn.Module:
    """Make a critic of z with this many numbers, z -> scores (B, 1), between two of its steps."""
    critic = nn.Sequential(nn.Flatten(), nn.Linear(features, 7), nn.Softplus(), nn.Linear(7, 1))
    for parameter in critic.parameters():
        parameter.grad = torch.randn_like(parameter)
    return critic
