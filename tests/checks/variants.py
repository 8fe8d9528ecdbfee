"""Right answers made of a right answer, in other styles. A check that refuses one is wrong."""

import functools

import torch
from torch import Tensor


class Callable:
    """An answer that is an object."""

    def __init__(self, function):
        self.function = function

    def __call__(self, *arguments):
        return self.function(*arguments)

    def method(self, *arguments, verbose=False):
        return self.function(*arguments)


def mapped(change, value):
    """Change all tensors of a result."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, list | tuple):
        return type(value)(mapped(change, part) for part in value)
    if isinstance(value, dict):
        return {key: mapped(change, part) for key, part in value.items()}
    return value


def through_numpy(tensor):
    if tensor.requires_grad:
        return tensor
    return torch.from_numpy(tensor.numpy().copy())


def elsewhere(tensor):
    """The same numbers in another order in memory, where there is more than one axis."""
    if tensor.requires_grad or tensor.dim() < 2:
        return tensor
    return tensor.transpose(0, -1).contiguous().transpose(0, -1)


def variants(function):
    """Yield (name, right answer)."""

    def of_copies(change):
        def answer(*arguments):
            copies = [change(a) if isinstance(a, Tensor) else a for a in arguments]
            return function(*copies)

        return answer

    def with_gradients(*arguments):
        learns = [getattr(a, "requires_grad", False) for a in arguments]
        result = of_copies(
            lambda t: (
                t if t.requires_grad or not t.is_floating_point() else t.clone().requires_grad_()
            )
        )(*arguments)  # what learns is in an optimizer, which knows no copies
        networks = [a for a in arguments if isinstance(a, torch.nn.Module)]
        alone = not networks and not any(learns)
        return mapped(lambda t: t.detach() if alone and t.requires_grad else t, result)

    yield "as it is", function
    yield "a lambda", lambda *arguments: function(*arguments)
    yield "a partial", functools.partial(function)
    yield "an object", Callable(function)
    yield "a method with an option", Callable(function).method
    yield "numpy inside", lambda *arguments: mapped(through_numpy, function(*arguments))
    yield "numbers in another order in memory", of_copies(elsewhere)
    yield "copies that require gradients", with_gradients
