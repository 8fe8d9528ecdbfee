"""The scorer of poisoning: what the shared network takes images for, as an attacker wants it to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

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

    The network is that of the client whose turn is next, which holds the newest weights when whole
    turns were taken.
    """
    server = attack if server is None and isinstance(attack, Server) else server
    _refuse(clients, attack, server, test)
    assert server is not None and test is not None
    newest = min(clients, key=lambda client: client.step)
    test = test.to(newest.device)
    rows, images, wanted = attack.attack_set(test)
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
    if server is None:
        raise TypeError(
            f"{name} poisons a network whose middle layers are the server's: pass server="
        )
    if test is None:
        raise ValueError(
            "poisoning is scored on images that no client trained on: pass referee=, a part of "
            "the split that no client holds"
        )
    for client in clients:
        held = client.data
        if isinstance(held, ImageData) and (shared := held.row_hashes() & test.row_hashes()):
            raise ValueError(
                f"{len(shared)} of the test images are {client.name}'s: pass a part that no "
                "client holds"
            )
    if not len(attack.attack_set(test)[0]):
        raise ValueError(f"{name} attacks none of the {len(test)} test images: pass others")
