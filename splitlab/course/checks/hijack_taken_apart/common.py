"""What the checks of several exercises to chapter 34 use."""

from __future__ import annotations

import torch
from torch import Tensor

from splitlab.course.checks.base import wrong


def expect_kept(function: str, **given: tuple[Tensor, Tensor]) -> None:
    """Compare what a function was given with copies from before.

    Args:
        function: Its name.
        given: By argument, the tensor now and its copy.

    Raises:
        CheckFailed: If one is not what it was.
    """
    for name, (now, before) in given.items():
        if not torch.equal(now, before):
            wrong(f"{function} changes {name}: others use the same tensor, so work on a copy")
