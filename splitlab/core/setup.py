"""Checks of the arguments of parties and training runs, before anything is made."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from splitlab.arguments import count, described, function, instance, instances, whole
from splitlab.core.state import Stateful
from splitlab.data import Data

A_NETWORK = "pass a network, such as sl.tiny.client_net()"
A_LOSS = "pass a function of logits and labels, such as torch.nn.functional.cross_entropy"
A_PROTOCOL = "pass the function itself, such as sl.u_shaped, or an object such as sl.Sequential()"


def name_of_party(name: Any) -> str:
    """Return a party's name, a text that is not empty; else raise a TypeError or ValueError."""
    if not isinstance(name, str):
        raise TypeError(f"name is {described(name)}: give the party a name, such as 'client 1'")
    if not name:
        raise ValueError("name is empty: give the party a name, such as 'client 1'")
    return name


def client(
    net: Any, data: Any, *, tail: Any, loss: Any, sends_labels: Any, defenses: Any, kind: type
) -> None:
    """Refuse arguments from which no client can be made; they are as in `Client`.

    `kind` is the class of its defenses.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If a client with a tail is to send its labels.
    """
    instance("net", net, nn.Module, A_NETWORK)
    instance("data", data, Data, "pass one part of a split, or sl.data.ImageData.from_arrays(...)")
    if tail is not None:
        instance("tail", tail, nn.Module, "pass the last layers, a network")
    function("loss", loss, A_LOSS)
    if sends_labels and tail is not None:
        raise ValueError(
            "a client with a tail keeps its labels: leave out sends_labels=True, or leave out tail"
        )
    _defenses(defenses, kind, "client")


def server(net: Any, *, loss: Any, labels: Any, defenses: Any, kind: type) -> None:
    """Refuse arguments from which no honest server can be made; they are as in `HonestServer`.

    `kind` is the class of its defenses.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If the labels are no class numbers.
    """
    instance("net", net, nn.Module, A_NETWORK.replace("client", "server"))
    function("loss", loss, A_LOSS)
    if labels is not None:
        instance("labels", labels, Tensor, "pass a tensor, such as private.y")
        if labels.dtype != torch.int64 or labels.ndim != 1 or not len(labels) or labels.min() < 0:
            raise ValueError(
                f"labels is {labels.dtype} of shape {tuple(labels.shape)}: pass int64 class "
                "numbers from 0, one for each of the client's images, such as private.y"
            )
    _defenses(defenses, kind, "server")


def _defenses(defenses: Any, kind: type, side: str) -> None:
    for one in defenses if isinstance(defenses, list | tuple) else ():
        if isinstance(one, Stateful) and not isinstance(one, kind):
            raise TypeError(
                f"defenses holds {described(one)}, which is not a {kind.__name__} and cannot "
                f"defend a {side}: give it to the other party, or leave it out"
            )
    instances("defenses", defenses, kind, f"each one a {kind.__name__} of splitlab.defenses")


def run(
    clients: Any,
    server: Any,
    steps: Any,
    protocol: Any,
    observers: Any,
    autocast: Any,
    every: Any,
    *,
    kinds: tuple[type, type, type],
) -> None:
    """Refuse arguments with which no training run can start; they are as in `train`.

    `kinds` are the classes of clients, servers and observers.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If there is no client or no step.
    """
    client, honest_or_not, observer = kinds
    if isinstance(clients, client):
        raise TypeError("clients is a list: write train([client], server, steps)")
    instances("clients", clients, client, "each one an sl.Client")
    if not clients:
        raise ValueError("clients is empty: write train([client], server, steps)")
    instance("server", server, honest_or_not, "pass a server, such as sl.HonestServer or sl.FSHA")
    count("steps", steps, least=1)
    count("every", every, least=1)
    function("protocol", protocol, A_PROTOCOL)
    instances("observers", observers, observer, "such as observers=[sl.Wiretap()]")
    if autocast is not None:
        instance("autocast", autocast, torch.dtype, "pass torch.bfloat16, or None")


def rows_like(x: Any, like: Data) -> None:
    """Refuse anything but rows like those of a client's data.

    Raises:
        TypeError: If it is no tensor.
        ValueError: If it has another shape or type, or no row.
    """
    instance("x", x, Tensor, "pass images as a tensor, such as private.x[:8]")
    if x.shape[1:] != like.x.shape[1:] or x.dtype != like.x.dtype or not len(x):
        raise ValueError(
            f"x is {x.dtype} of shape {tuple(x.shape)}: pass rows like the client's own, "
            f"{like.x.dtype} of shape (N, {', '.join(map(str, like.shape))})"
        )


def can_label(tail: nn.Module | None) -> nn.Module:
    """Return the tail of a client that chooses its labels; a ValueError if there is none."""
    if tail is None:
        raise ValueError(
            "the attacker needs a tail to choose its labels: give it tail=, as the honest clients "
            "have it, and use protocol=u_shaped"
        )
    return tail


def class_number(value: Any, classes: int, *, name: str) -> int:
    """Return the class number passed as the argument `name`, after checking it.

    Raises:
        ValueError: If there is no such class among 0 to `classes` - 1.
    """
    number = whole(value)
    if number is None:
        raise ValueError(
            f"{name} is {described(value)}: pass the number of a class, from 0 to {classes - 1}"
        )
    if not 0 <= number < classes:
        raise ValueError(f"{name} is {number}: choose a class from 0 to {classes - 1}")
    return number
