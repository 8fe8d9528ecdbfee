"""How well client and server perform their agreed task."""

from __future__ import annotations

from torch import Tensor

from splitlab.arguments import IMAGES, TENSOR, instance
from splitlab.core.client import Client
from splitlab.core.server import Server
from splitlab.data import Data, ImageData
from splitlab.nets.evaluation import in_parts


def logits(client: Client, server: Server, x: Tensor) -> Tensor:
    """Return the class scores that a client's images get in its protocol; changes nothing.

    f, the server's layers and, in the U-shaped protocol, the tail are in evaluation mode, with the
    client's defenses on. Of `ServerCopies` it is this client's copy.

    Args:
        client: The client.
        server: The server.
        x: Images, (N, C, H, W).

    Returns:
        Logits, (N, K), as the client reads them: a defense that renames classes names them back.

    Raises:
        NotImplementedError: If the server has no layers that work on the task.
        TypeError: If an argument is of another kind.
        ValueError: If it is an `FSHA` without a body.
    """
    instance("client", client, Client, "pass the client first, then the server")
    instance("server", server, Server, "pass the client first, then the server")
    instance("x", x, Tensor, TENSOR)
    output = server.output(client.smash(x))
    scores = output if client.tail is None else in_parts(client.tail, output)
    for defense in reversed(client.defenses):
        scores = defense.scores(client, scores)
    return scores


def task_accuracy(client: Client, server: Server, data: ImageData) -> float:
    """Return the share of images that client and server classify correctly; as in `logits`."""
    instance("data", data, Data, IMAGES)
    classes = logits(client, server, data.x).argmax(1)
    return float((classes == data.y.to(classes.device)).double().mean())
