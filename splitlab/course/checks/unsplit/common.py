"""What the checks of several exercises to chapter 23 use."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from splitlab.course.checks.base import wrong


class Untouched:
    """A network that the student's function is only to ask, as it was before.

    The parameters' .grad is filled first, as an earlier step would leave it.

    Args:
        net: The network.
        name: What the exercise calls it, with its article: "the tail".
    """

    def __init__(self, net: nn.Module, name: str) -> None:
        self.net, self.name = net, name
        for parameter in net.parameters():
            parameter.grad = torch.rand_like(parameter)
        self.weights = [p.detach().clone() for p in net.parameters()]
        self.grads = [p.grad.clone() for p in net.parameters() if p.grad is not None]

    def check(self) -> None:
        """Compare with what it was.

        Raises:
            CheckFailed: If something has changed.
        """
        parameters = list(self.net.parameters())
        if not all(map(torch.equal, parameters, self.weights)):
            wrong(f"the weights of {self.name} have changed: here it is only asked")
        if any(p.grad is None for p in parameters) or not all(
            torch.equal(p.grad, grad)
            for p, grad in zip(parameters, self.grads, strict=True)
            if p.grad is not None
        ):
            wrong(
                f"the .grad of {self.name}'s weights has changed, and would be added to the next "
                "training step: ask torch.autograd.grad for the one gradient you want"
            )
        if not all(p.requires_grad for p in parameters):
            wrong(f"the weights of {self.name} no longer require gradients: it could not learn")


def expect_unchanged(function: str, **given: tuple[Tensor, Tensor]) -> None:
    """Compare what a function was given with copies from before.

    Args:
        function: Its name.
        given: By argument, the tensor now and its copy.

    Raises:
        CheckFailed: If one has other numbers, or requires a gradient.
    """
    for name, (now, before) in given.items():
        if now.requires_grad or now.grad is not None:
            wrong(
                f"{name} itself now requires a gradient: it is a message that came in, so let "
                f"{name}.detach() require one"
            )
        if now.shape != before.shape or not torch.equal(now, before):
            wrong(f"{function} changes {name}: work on a copy")
