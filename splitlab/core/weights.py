"""Checks of weights that are passed on or averaged, by their receiver."""

from __future__ import annotations

import weakref
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from splitlab.arguments import count, described
from splitlab.core import kinds
from splitlab.core.messages import Weights

ADVICE = "leave this party's weights out, and lower its learning rate"
# Optimizer -> the kinds of state that it is known to go on from.
_STEPPED: weakref.WeakKeyDictionary[Optimizer, set[str]] = weakref.WeakKeyDictionary()


def check(message: Weights, receiver: Any) -> None:
    """Refuse anything but the state of a network or an optimizer; tensors are checked later.

    Raises:
        TypeError: If state or optimizer are of another kind.
        ValueError: If the number of images is below 1.
    """
    fits = isinstance(message.state, dict) and message.state
    if not fits or not all(
        isinstance(name, str) and isinstance(t, Tensor) for name, t in message.state.items()
    ):
        raise TypeError(
            f"{receiver.name} is sent a state that does not map names to tensors by "
            f"{message.sender}: send what client.weights() returns"
        )
    if message.samples is not None:
        count("samples", message.samples, least=1)
    if message.optimizer is not None and not isinstance(message.optimizer, dict):
        raise TypeError(
            f"{receiver.name} is sent an optimizer as {described(message.optimizer)} by "
            f"{message.sender}: send its state_dict(), or None"
        )


def fit(state: dict[str, Tensor], own: dict[str, Tensor], *, sender: str, who: str) -> None:
    """Refuse weights of another network.

    Args:
        state: What arrived.
        own: The state that it is to replace, or to be averaged with.
        sender: Who sent it.
        who: The receiver's name.

    Raises:
        ValueError: If names, shapes or types differ; it names the first one that does.
    """
    try:
        kinds.plain_fits(own, state, "the state")
    except kinds.Misfit as error:
        raise ValueError(
            f"{sender} sends weights of another network to {who} ({error.what}): give all clients "
            "networks of one kind"
        ) from error


def optimizer_takes(optimizer: Optimizer, state: dict[str, Any], *, sender: str, who: str) -> None:
    """Refuse the state of an optimizer of another kind, or for other parameters.

    Each new kind of state is looked at once.

    Raises:
        ValueError: If it cannot go on from the state.
    """
    own = optimizer.state_dict()
    kind = str(kinds.kinds(state, ""))
    tried = _STEPPED.setdefault(optimizer, {str(kinds.kinds(own, ""))})
    if kind not in tried:
        try:
            kinds.optimizer_fits(optimizer, state, "the optimizer")
        except kinds.Misfit as error:
            raise ValueError(
                f"{sender} sends the state of an optimizer that {who}, with "
                f"{type(optimizer).__name__}, cannot go on from ({error.what}): give all clients "
                "one kind of optimizer, or use Sequential(optimizer_state=False)"
            ) from error
        tried.add(kind)
    for group in state["param_groups"]:
        if not 0 <= group.get("lr", 0) < float("inf"):
            raise ValueError(
                f"{sender} sends {who} an optimizer's state with the learning rate "
                f"{float(group['lr'])}: {ADVICE}"
            )
