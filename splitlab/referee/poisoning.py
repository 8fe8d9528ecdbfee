"""The scorer of poisoning: how often the shared network predicts what an attacker wants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from splitlab.arguments import described
from splitlab.core.client import Client
from splitlab.core.server import Server
from splitlab.data import ImageData
from splitlab.referee.report import PICTURES, Report
from splitlab.referee.task import logits

COLUMNS = {"success": "attack success", "accuracy": "accuracy on clean images"}


def score_poisoning(
    clients: Sequence[Client],
    attack: Any,
    server: Server | None,
    test: ImageData | None,
) -> Report:
    """Score a network that somebody poisoned; arguments and errors as in `evaluate`.

    "success": the share of the attacked images that are taken for what the attacker wants.
    "accuracy": on the test images as they are.

    The floors: "without_trigger": the attacked images as they are, taken for what the attacker
    wants; the row is left out where the attack changes no image. "other_images": images of classes
    that are neither attacked nor wanted, taken for a wanted class. The ceiling, "wanted_classes":
    real images of the wanted classes, taken for one.

    The network is that of the client with the fewest steps, the first of them in the list: the one
    whose turn is next, which holds the newest weights when whole turns were taken. A client that
    has left the training must not be in the list.
    """
    server = attack if server is None and isinstance(attack, Server) else server
    newest = min(clients, key=lambda client: client.step)
    _refuse(clients, attack, server, test)
    assert server is not None and test is not None
    test = test.to(newest.device)
    rows, images, wanted = _attack_set(attack, test)
    predicted = logits(newest, server, test.x).argmax(1)
    of_attacked = logits(newest, server, images).argmax(1)
    hit, is_wanted = torch.isin(predicted, wanted), torch.isin(test.y, wanted)
    others = ~is_wanted
    others[rows] = False
    floors: dict[str, dict[str, float | None]] = {}
    if not torch.equal(images, test.x[rows]):
        floors["without_trigger"] = _row(predicted[rows] == wanted)
    if others.any():
        floors["other_images"] = _row(hit[others])
    name = type(attack).__name__
    classes = ", ".join(test.classes[label] for label in wanted.unique().tolist())
    return Report(
        goal="poisoning",
        n=len(rows),
        columns=COLUMNS,
        leading="success",
        floors=floors,
        attack={
            "attack": {
                "success": _share(of_attacked == wanted),
                "accuracy": _share(predicted == test.y),
            }
        },
        ceilings={"wanted_classes": _row(hit[is_wanted])} if is_wanted.any() else {},
        notes=(
            f"{len(rows)} of {len(test)} test images are attacked; {name} wants them to be taken "
            f"for {classes}.",
            f"The network is the one that {newest.name} holds.",
        ),
        pictures={"clean": test.x[rows[:PICTURES]].cpu(), "attacked": images[:PICTURES].cpu()},
        value_range=test.value_range,
    )


def _share(right: Tensor) -> float:
    return float(right.double().mean())


def _row(right: Tensor) -> dict[str, float | None]:
    return {"success": _share(right), "accuracy": None}


def _refuse(
    clients: Sequence[Client], attack: Any, server: Server | None, test: ImageData | None
) -> None:
    """Raise an error where the attack cannot be scored."""
    name = type(attack).__name__
    if not isinstance(server, Server):
        given = "" if server is None else f", not {type(server).__name__}"
        raise TypeError(
            f"{name} poisons a network whose middle layers are the server's: pass server=, the "
            f"server that the clients trained with{given}"
        )
    if test is None:
        raise ValueError(
            "poisoning is scored on images that no client trained on: pass referee=, a part of "
            "the split that no client holds"
        )
    if len({client.step for client in clients}) > 2:
        steps = ", ".join(str(client.step) for client in clients)
        raise ValueError(
            f"the clients have taken {steps} steps, so no turn is next: train for whole turns, and "
            "leave out clients that have left"
        )
    held: list[tuple[str, Any]] = [(client.name, client.data) for client in clients]
    held += [(name, getattr(attack, what, None)) for what in ("data", "public")]
    hashes = test.row_hashes()
    for holder, data in held:
        if not isinstance(data, ImageData):
            continue
        if (data.shape, data.classes, data.value_range) != (
            test.shape,
            test.classes,
            test.value_range,
        ):
            raise ValueError(
                f"the test images differ from {holder}'s in shape, classes or value range: pass a "
                "part of the same split"
            )
        if shared := data.row_hashes() & hashes:
            raise ValueError(
                f"{len(shared)} of the test images are {holder}'s: pass a part that nobody "
                "trained on"
            )


def _attack_set(attack: Any, test: ImageData) -> tuple[Tensor, Tensor, Tensor]:
    """Ask the attack which images it attacks; an error if there are none or they do not fit."""
    name, answer = type(attack).__name__, attack.attack_set(test)
    if (
        not isinstance(answer, tuple)
        or len(answer) != 3
        or not all(isinstance(part, Tensor) for part in answer)
    ):
        raise TypeError(
            f"{name}.attack_set returns {described(answer)}: return three tensors, rows, images "
            "and wanted classes"
        )
    rows, images, wanted = answer
    if not len(rows):
        raise ValueError(f"{name} attacks none of the {len(test)} test images: pass others")
    if not len(rows) == len(images) == len(wanted):
        raise ValueError(
            f"{name}.attack_set returns {len(rows)} rows, {len(images)} images and {len(wanted)} "
            "wanted classes: return one image and one class for each row"
        )
    return rows, images, wanted
