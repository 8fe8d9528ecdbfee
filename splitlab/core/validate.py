"""Checks of messages by their receiver, before anything changes.

`receiving` wraps each receiving method of each party (`Party.RECEIVES`). It looks at the kind of
message, at who sent it and when, and at its numbers; what only the party can know, it asks the
party's `check`. The checks that parties use there are below, those of the order of messages in
`core.turns`. What networks, losses and defenses return is checked in `core.returned`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from splitlab.arguments import described
from splitlab.core import turns, weights
from splitlab.core.messages import Message, SmashedData, Weights, tensors_in
from splitlab.core.returned import loss_takes, row_of

ASKED = ("output", "reconstruct", "infer_property")  # take smashed data beside the training
LARGEST = 1e9  # of a number in z or a gradient; squares of squares still fit in float32
ADVICE = {
    "z": "lower the client's learning rate, and look at its images and its defenses",
    "labels": "send int64 class numbers, one for each row of z",
    "index": "send int64 row numbers, one for each row of z",
}
TO_CLIENT = "lower the server's learning rate or its gradient's factor, or stop taking part"


def wrap(party: Any) -> None:
    """Wrap the methods that a class of parties defines and that need checks."""
    for name, kind in party.RECEIVES.items():
        if name in vars(party):
            setattr(party, name, receiving(vars(party)[name], kind))
    for name in ASKED:
        if name in vars(party):
            setattr(party, name, asked_about(vars(party)[name]))


def receiving(method: Callable[..., Any], kind: type[Message]) -> Callable[..., Any]:
    """Return a party's method, changed to check its message first.

    A method that it calls on the same party takes the message as it is: it was checked.

    Args:
        method: Takes the party and the message.
        kind: The kind of message that it takes.
    """

    @functools.wraps(method)
    def checked(self: Any, message: Any, *rest: Any, **options: Any) -> Any:
        if self.receiving:
            return method(self, message, *rest, **options)
        _kind(message, kind, self, method.__name__)
        header(message, self)
        turns.takes_part(message, self, method.__name__)
        _payload(message, self)
        self.check(message)
        self.receiving = True
        try:
            return method(self, message, *rest, **options)
        finally:
            self.receiving = False

    return checked


def asked_about(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a server's method, changed to check smashed data first and to change nothing.

    Args:
        method: Takes the server and `SmashedData`, such as `reconstruct`.
    """

    @functools.wraps(method)
    def checked(self: Any, message: Any, *rest: Any, **options: Any) -> Any:
        if not isinstance(message, SmashedData):
            raise TypeError(
                f"{type(self).__name__}.{method.__name__} takes smashed data as a message, and "
                f"this is {described(message)}: pass what client.smash(images) returns"
            )
        _payload(message, self)
        return method(self, message, *rest, **options)

    return checked


def _kind(message: Any, kind: type[Message], receiver: Any, method: str) -> None:
    if not isinstance(message, kind):
        raise TypeError(
            f"{receiver.name}.{method} takes {kind.__name__}, and this is {described(message)}: "
            "pass the message that the other party's last call returned"
        )


def header(message: Any, receiver: Any) -> None:
    """Refuse anything but a message that names its sender, its step and this receiver.

    Raises:
        TypeError: If it is no message, or sender, receiver or step are of another kind.
        ValueError: If the sender is missing, the step is below 0, or it is sent to another party.
    """
    who = receiver.name
    if not isinstance(message, Message):
        raise TypeError(
            f"{who} receives messages, and this is {described(message)}: send SmashedData or "
            "another message of splitlab.core.messages"
        )
    if not isinstance(message.sender, str) or not isinstance(message.to, str):
        odd = message.to if isinstance(message.sender, str) else message.sender
        raise TypeError(
            f"{who} is sent a message whose sender or receiver is {described(odd)}: give the "
            "name of a party"
        )
    if isinstance(message.step, bool) or not isinstance(message.step, int):
        raise TypeError(
            f"{who} is sent a message of step {described(message.step)} by {message.sender}: the "
            "step is a whole number, from 0"
        )
    if not message.sender or message.step < 0:
        raise ValueError(
            f"{who} is sent a message of step {message.step} by {message.sender!r}: name the "
            "sender, and count steps from 0"
        )
    if message.to not in ("", who):
        raise ValueError(
            f"{who} is sent a message for {message.to}: give each message to the party that it "
            "names, and each party its own name"
        )


def _payload(message: Message, receiver: Any) -> None:
    """Refuse a payload that the receiver cannot compute with."""
    if isinstance(message, Weights):
        weights.check(message, receiver)
        for name, tensor in message.state.items():
            _tensor(name, tensor, message, receiver, anywhere=True)
            if tensor.is_floating_point():
                _finite(name, _largest(tensor), message, receiver, weights.ADVICE)
        for tensor in tensors_in(message.optimizer):
            _tensor("its optimizer's state", tensor, message, receiver, anywhere=True)
            if not tensor.isfinite().all():  # a square in it may be large
                _finite("its optimizer's state", float("nan"), message, receiver, weights.ADVICE)
        return
    ((name, main),) = (
        (n, getattr(message, n)) for n in ("z", "dz", "a", "da") if hasattr(message, n)
    )
    _tensor(name, main, message, receiver)
    floats = main.dtype in (torch.float32, torch.float64)
    if not floats or not main.numel() or (name in ("z", "a") and main.ndim < 2):
        raise ValueError(
            f"{receiver.name} is sent {name} of {main.dtype} and shape {tuple(main.shape)} by "
            f"{message.sender}: send float32 or float64 of shape (B, ...), at least one row"
        )
    _finite(name, _largest(main), message, receiver, ADVICE.get(name, TO_CLIENT))
    for name in ("labels", "index"):
        rows = getattr(message, name, None)
        if rows is None:
            continue
        _tensor(name, rows, message, receiver)
        if rows.dtype != torch.int64 or rows.shape != main.shape[:1] or rows.min() < 0:
            raise ValueError(
                f"{receiver.name} is sent {name} of {rows.dtype} and shape {tuple(rows.shape)} for "
                f"{len(main)} rows of z by {message.sender}, or numbers below 0: {ADVICE[name]}"
            )


def _tensor(
    name: str, value: Any, message: Message, receiver: Any, *, anywhere: bool = False
) -> None:
    """Refuse anything but a plain tensor on the receiver's device (`anywhere`: on any device)."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{receiver.name} is sent {name} as {described(value)} by {message.sender}: send a "
            "torch tensor"
        )
    if value.layout is not torch.strided or value.is_quantized:
        raise ValueError(
            f"{receiver.name} is sent {name} as a {value.layout} tensor by {message.sender}: send "
            "a dense one, as to_dense() returns"
        )
    own = receiver.device
    if anywhere and value.device.type != "meta":
        return
    if value.device.type != own.type or own.index not in (None, value.device.index):
        raise ValueError(
            f"{receiver.name} computes on {own} and is sent {name} on {value.device} by "
            f"{message.sender}: give both parties one device="
        )


def _largest(tensor: Tensor) -> float:
    """Return the largest magnitude in a tensor; NaN if it contains one."""
    if not tensor.numel():
        return 0.0
    return float(torch.linalg.vector_norm(tensor.detach(), float("inf")))


def _finite(name: str, size: float, message: Message, receiver: Any, advice: str) -> None:
    if size <= LARGEST:
        return
    bad = (
        "NaN" if size != size else "infinity" if size == float("inf") else f"numbers of {size:.0e}"
    )
    raise ValueError(
        f"{receiver.name} is sent {name} with {bad} in it at step {message.step} by "
        f"{message.sender}, and changes nothing: {advice}"
    )


def gradient_fits(dz: Tensor, of: Tensor, *, name: str, who: str) -> None:
    """Refuse a gradient whose shape or type differs from that of its tensor.

    Raises:
        ValueError: If shapes or types differ.
    """
    if dz.shape != of.shape:
        raise ValueError(
            f"the gradient has shape {tuple(dz.shape)} and {name} {tuple(of.shape)}: "
            f"the {who} must return one number for each number of {name}"
        )
    if dz.dtype != of.dtype:
        raise ValueError(
            f"the gradient is {dz.dtype} and {name} {of.dtype}: the {who} must return it in the "
            f"type of {name}, as .to({of.dtype}) does"
        )


def output_fits(a: Tensor, tail: nn.Module | None, loss: Any, turn: Any, *, who: str) -> None:
    """Refuse an output with which a client's tail cannot finish the forward pass.

    Args:
        a: The output, (B, ...).
        loss: The client's.
        tail: The client's last layers, if it has them.
        turn: The client's turn.
        who: The client's name.

    Raises:
        ValueError: If there is no tail or it cannot compute with the output, the output has another
            number of rows than the batch, or the tail has no output for one of the labels.
    """
    if tail is None:
        raise ValueError(
            f"{who} has no tail to finish the forward pass with: make the client with tail=, or "
            "use protocol=vanilla"
        )
    if len(a) != len(turn.x):
        raise ValueError(
            f"the server's output has {len(a)} rows and the batch {len(turn.x)}: "
            "the server must return one row for each row of z"
        )
    logits = row_of(tail, a, name=f"the tail of {who}", given="an output")
    labels_below(turn.labels, logits, who=f"the tail of {who}", sender=who)
    loss_takes(loss, tail, logits, turn.labels, a.dtype, name=f"the tail of {who}")


def labels_of(message: SmashedData, labels: Tensor | None, who: str) -> Tensor:
    """Return the labels that came with z, or else the server's own at the row numbers sent.

    Args:
        message: What arrived.
        labels: The server's own labels, int64 (N,); None where it holds none.
        who: The server's name.

    Returns:
        Labels, int64 (B,).

    Raises:
        ValueError: If there are none, or it cannot be told which rows these are.
    """
    if message.labels is not None:
        return message.labels
    if labels is None:
        raise ValueError(
            f"{who} needs labels to compute the task's loss: make the client with "
            "sends_labels=True, or use a protocol in which the client keeps its labels"
        )
    if message.index is None:
        raise ValueError(
            f"{who} holds labels but does not know to which rows z belongs: make the client "
            "with sends_index=True, or if it has a tail, use protocol=u_shaped"
        )
    if message.index.max() >= len(labels):
        raise ValueError(
            f"{message.sender} sends row numbers up to {int(message.index.max())} and {who} holds "
            f"{len(labels)} labels: give it a label for each of the client's images, in the same "
            "order"
        )
    return labels[message.index]


def labels_below(labels: Tensor, logits: Sequence[int], *, sender: str, who: str) -> None:
    """Refuse labels of classes for which a network has no output.

    Args:
        labels: int64 (B,).
        logits: Shape of one row of the network's output.
        sender: Whose labels they are.
        who: Whose network it is.

    Raises:
        ValueError: If the network makes no row of scores, or a label is too large for it.
    """
    if len(logits) == 0:
        raise ValueError(f"{who} makes one number for each row: let it return class scores (B, K)")
    classes = logits[0]
    if classes > 1 and labels.max() >= classes:  # a single score is the business of the loss
        raise ValueError(
            f"{sender} has labels up to {int(labels.max())} and {who} has outputs for {classes} "
            f"classes, numbered from 0: give it a network with {int(labels.max()) + 1} outputs"
        )
