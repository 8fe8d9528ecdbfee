"""The training loop."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch

from splitlab.core import setup
from splitlab.core.audit import audit
from splitlab.core.checkpoint import Checkpoint
from splitlab.core.client import Client
from splitlab.core.observers import Log, Observer, look, watched_by
from splitlab.core.protocols import Protocol, Wire, vanilla
from splitlab.core.rounds import Rounds
from splitlab.core.server import Server


def train(
    clients: Sequence[Client],
    server: Server,
    steps: int,
    *,
    protocol: Protocol = vanilla,
    observers: Sequence[Observer] = (),
    autocast: torch.dtype | None = None,
    checkpoint: Path | str | None = None,
    every: int = 100,
) -> Log:
    """Train for a number of steps; by default, several clients take turns of one step each.

    Clients keep their own weights unless the protocol hands them on (`Sequential`).

    Observers look and do not touch: the run is bit for bit the same without them. The audit of
    `splitlab.core.audit` runs at the start, after the first step and at the end.

    With `checkpoint`, a run that was killed goes on from its last checkpoint when the same lines
    run again, and ends where it would have ended (bit for bit on one thread). A run that is
    complete gives its parties, observers and log their final states, and trains no further.

    Args:
        clients: One client or more.
        server: The server.
        steps: Number of steps, at least 1.
        protocol: What one step is.
        observers: Told of the start, each message, each step and the end.
        autocast: A lower precision (torch.bfloat16) for both sides' matrix work; None for full.
        checkpoint: A file for the run's state, where `~` is the home folder; None for none.
        every: Steps between two checkpoints; there is one after the last step, too.

    Returns:
        The server's metrics of every step, and the client's where it has a tail.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If there is no client or no step; or if a party refuses what it is sent, which
            names the party and the step.
        ThreatModelViolation: If parties share memory, a defense or a name, or an observer changes a
            network.
        HijackingDetected: If a client's defense stops the training.
        CheckpointError: If the checkpoint is damaged, belongs to another run, is past `steps`, or
            cannot be written, which is found before the first step; or if something changes that no
            state holds.
    """
    kinds = (Client, Server, Observer)
    setup.run(clients, server, steps, protocol, observers, autocast, every, kinds=kinds)
    rounds = protocol if isinstance(protocol, Rounds) else Rounds(protocol)
    log = Log()
    send = Wire(observers)
    audit(clients, server, rounds.parties)
    keep = None
    if checkpoint is not None:
        keep = Checkpoint(
            checkpoint,
            clients,
            server,
            observers,
            log,
            steps=steps,
            protocol=protocol,
            others=rounds.parties,
            autocast=autocast,
        )
        keep.read()
    with watched_by(observers, clients, server, steps):
        # After start, which is the same in every run and would wipe what observers had.
        first = keep.resume() if keep else 0
        started = time.perf_counter() - log.seconds
        for step in range(first, steps):
            client = rounds.whose_turn(step, clients)
            # No cache: it would hold the weights of before an optimizer step inside the same turn.
            with torch.autocast(
                client.device.type, autocast, enabled=autocast is not None, cache_enabled=False
            ):
                rounds(client, server, send)
            rounds.after(step, clients, server, send)
            log.append(server.metrics | client.metrics)
            log.seconds = time.perf_counter() - started
            look(observers, step, client, server, [*clients, *rounds.parties])
            if step == first:
                audit(clients, server, rounds.parties)
            if keep and ((step + 1) % every == 0 or step + 1 == steps):
                keep.write(step + 1)
    audit(clients, server, rounds.parties)
    return log
