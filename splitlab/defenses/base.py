"""The hooks through which a defense takes part in a client's turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from splitlab.parties import Client


class HijackingDetected(RuntimeError):
    """A defense has seen enough: the client stops taking part."""


@dataclass(eq=False)
class Turn:
    """One batch at the client, as its defenses see it. They may change it in `Defense.begin`.

    Attributes:
        x: Private images, (B, C, H, W).
        labels: Class numbers that will be sent, int64 (B,), or None.
        index: Row numbers of the images in the private data, int64 (B,), or None.
        z: Smashed data with its graph; None until the forward pass.
        update: Whether the client's optimizer steps on this batch.
        fake: Whether a defense made the batch up (false labels, say).
    """

    x: Tensor
    labels: Tensor | None = None
    index: Tensor | None = None
    z: Tensor | None = None
    update: bool = True
    fake: bool = False


class Defense:
    """Base of all defenses: every hook does nothing. One instance serves one client."""

    def prepare(self, client: Client) -> None:
        """Called once, when the client is made: wrap the model, train a reference."""

    def begin(self, client: Client, turn: Turn) -> None:
        """Called before the forward pass: may change labels, `fake` and `update`."""

    def smash(self, client: Client, turn: Turn, z: Tensor) -> Tensor:
        """Return what is sent in place of `z`, same shape, differentiable (noise, clipping)."""
        return z

    def local_loss(self, client: Client, turn: Turn) -> Tensor | None:
        """Return a scalar that the client minimises beside the server's gradient, or None."""
        return None

    def incoming(self, client: Client, turn: Turn, dz: Tensor) -> Tensor:
        """Return the gradient to use in place of `dz`, same shape.

        Raises:
            HijackingDetected: If the defense decides to stop the training.
        """
        return dz

    def grads(self, client: Client, turn: Turn) -> None:
        """Called after the backward pass and before the optimizer's step."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs; nothing by default."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned."""
