"""Communication costs of the protocols: bytes of tensor payload, in closed form.

Each function returns what `splitlab.Wiretap` counts in `steps` steps, to the byte; headers are not
counted. `z` and `a` are the numbers that one image becomes at the cuts, such as 32 * 4 * 4.
Training in turns, or averaging, costs its weights beside the steps' messages: add them.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

LABEL = 8  # bytes of an int64: a class number, or a row number


def vanilla(batch_size: int, z: int, *, steps: int = 1, number: int = 4, labels: int = 1) -> int:
    """Return the bytes of z and labels sent up, and of dz sent down.

    Args:
        batch_size: Images in a batch.
        z: Numbers that an image becomes at the cut.
        steps: How many.
        number: Bytes of a number: 4 in float32, 8 in float64.
        labels: Whole numbers beside each image's z: 1 for its label, or its row number where the
            server holds the labels; 0 for neither.
    """
    return steps * batch_size * (2 * z * number + labels * LABEL)


def u_shaped(batch_size: int, z: int, a: int, *, steps: int = 1, number: int = 4) -> int:
    """Return the bytes of z and da sent up, and of a and dz sent down; no labels.

    Args:
        batch_size: Images in a batch.
        z: Numbers that an image becomes at the first cut.
        a: Numbers that an image becomes at the second cut.
        steps: How many.
        number: Bytes of a number: 4 in float32, 8 in float64.
    """
    return steps * batch_size * 2 * (z + a) * number


def sequential(
    state: int, *, clients: int, steps: int, turn: int = 1, through_server: bool = False
) -> int:
    """Return the bytes of weights passed on in `steps` steps, without the steps' own messages.

    Args:
        state: Bytes of what is handed on: `state_bytes`, and `adam_bytes` where it goes with them.
        clients: How many; one alone hands nothing on.
        steps: How many, of all clients together.
        turn: Steps in a client's turn.
        through_server: Whether each goes up and down again.
    """
    return 0 if clients == 1 else steps // turn * state * (2 if through_server else 1)


def splitfed(state: int, *, clients: int, steps: int, turn: int = 1) -> int:
    """Return the bytes of weights to and from the aggregator, without the steps' own messages.

    Args:
        state: Bytes of one client's weights (`state_bytes`).
        clients: How many.
        steps: How many, of all clients together.
        turn: Steps of each client in a round.
    """
    return steps // (clients * turn) * clients * 2 * state


def state_bytes(*nets: nn.Module) -> int:
    """Return the bytes of the networks' states: parameters, and buffers such as BatchNorm's."""
    tensors = [tensor for net in nets for tensor in net.state_dict().values()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def adam_bytes(parameters: Iterable[Tensor]) -> int:
    """Return the bytes of Adam's state: two numbers per learned weight, one count per tensor."""
    return sum(2 * p.numel() * p.element_size() + 4 for p in parameters)
