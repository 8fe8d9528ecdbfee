"""Wrong answers made of a right one: what it returns is right, and something else is not.

Each says whether it has done its harm, for not every exercise has what it spoils.
"""

import torch
from torch import nn
from torch.optim import Optimizer
from variants import mapped


class Spoiler:
    """A right answer that does harm after it has computed its result.

    Args:
        function: The right answer.
        harm: (result, arguments) -> (result, whether something was spoiled).
    """

    def __init__(self, function, harm):
        self.function, self.harm, self.done = function, harm, False

    def __call__(self, *arguments):
        result, done = self.harm(self.function(*arguments), arguments)
        self.done |= done
        return result


def floats(arguments):
    return [a for a in tensors_in(arguments) if a.is_floating_point() and a.numel() > 1]


def nets(arguments):
    return [a for a in arguments if isinstance(a, nn.Module)]


def tensors_in(value):
    found = []
    mapped(lambda t: found.append(t) or t, value)
    return found


def tensors(result):
    given = tensors_in(result)
    return [t for t in given if t.is_floating_point() and t.dim() and not t.requires_grad]


def in_half_precision(result, arguments):
    changed = any((t.half() != t).any() for t in tensors(result))
    return mapped(lambda t: t.half().to(t.dtype) if t.is_floating_point() else t, result), changed


def in_a_buffer_that_is_used_again(buffers):
    def harm(result, arguments):
        def kept(t):
            if not t.is_floating_point() or t.requires_grad or not t.dim():
                return t
            return buffers.setdefault((t.shape, t.dtype), t.clone()).copy_(t)

        return mapped(kept, result), bool(tensors(result))

    return harm


def with_a_graph(result, arguments):
    leaf = torch.zeros((), requires_grad=True)
    return mapped(lambda t: t + leaf if t.is_floating_point() else t, result), bool(tensors(result))


def as_nothing(result, arguments):
    return None, result is not None


def with_a_random_draw(result, arguments):
    torch.rand(3)
    return result, True


def with_changed_arguments(result, arguments):
    for tensor in floats(arguments):
        tensor.data.add_(0.125)
    return result, bool(floats(arguments))


def with_arguments_that_require_gradients(result, arguments):
    spoiled = [a.requires_grad_() for a in floats(arguments) if a.is_leaf and not a.requires_grad]
    return result, bool(spoiled)


def with_networks_in_the_other_mode(result, arguments):
    for net in nets(arguments):
        net.train(not net.training)
    return result, bool(nets(arguments))


def with_frozen_networks(result, arguments):
    learning = [p for net in nets(arguments) for p in net.parameters() if p.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    return result, bool(learning)


def with_thawed_networks(result, arguments):
    frozen = [p for net in nets(arguments) for p in net.parameters() if not p.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_()
    return result, bool(frozen)


def with_polluted_gradients(result, arguments):
    if any(isinstance(a, Optimizer) for a in arguments):  # which clears them
        return result, False
    for net in nets(arguments):
        for parameter in net.parameters():
            parameter.grad = torch.ones_like(parameter)
    return result, any(list(net.parameters()) for net in nets(arguments))


def with_moved_weights(result, arguments):
    for net in nets(arguments):
        for parameter in net.parameters():
            parameter.data.mul_(1.01)
    return result, any(list(net.parameters()) for net in nets(arguments))


def spoilers(function):
    """Yield (name, wrong answer)."""
    harms = [
        in_half_precision,
        in_a_buffer_that_is_used_again({}),
        with_a_graph,
        as_nothing,
        with_a_random_draw,
        with_changed_arguments,
        with_arguments_that_require_gradients,
        with_networks_in_the_other_mode,
        with_frozen_networks,
        with_thawed_networks,
        with_polluted_gradients,
        with_moved_weights,
    ]
    for harm in harms:
        yield harm.__qualname__.split(".")[0], Spoiler(function, harm)
