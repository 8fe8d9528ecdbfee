"""Grants: what an attack is given beyond messages, once, after training, as its card says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor

from splitlab.core.client import Client
from splitlab.core.messages import SmashedData, Weights

Oracle = Callable[[Tensor], SmashedData]  # images (n, C, H, W) -> what the client makes of them
Grant = Oracle | Weights | None
Granted = Literal["nothing", "an oracle", "the client's weights"]


def grant(attack: Any, client: Client) -> Any:
    """Prepare an attack with what its `GRANTED` names and nothing more.

    Args:
        attack: Any attack. One without `prepare` needs none.
        client: The client after training: it answers as the oracle, or sends its weights.

    Returns:
        The attack.
    """
    if hasattr(attack, "prepare"):
        grants: dict[Granted, Grant] = {
            "nothing": None,
            "an oracle": client.smash,
            "the client's weights": client.weights(),
        }
        attack.prepare(grants[getattr(attack, "GRANTED", "nothing")])
    return attack


def refused(attack: Any, given: Any) -> TypeError:
    """Return the error for a grant of a kind that the attack's card does not name."""
    calls: dict[Granted, str] = {
        "nothing": "prepare()",
        "an oracle": "prepare(client.smash)",
        "the client's weights": "prepare(client.weights())",
    }
    what = "nothing" if given is None else type(given).__name__
    return TypeError(
        f"{type(attack).__name__} is granted {attack.GRANTED}, not {what}: call "
        f"{calls[attack.GRANTED]}"
    )
