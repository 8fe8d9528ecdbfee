"""A short training run for test_resume, and processes that take it and die in it.

    python training.py KIND CHECKPOINT OUT STEPS

One process after the other takes the run up where the one before it died; the last one lives.
Prints what became of each, and at which step the checkpoint was then: [[exit code, step], ...].
"""

import json
import os
import signal
import sys
import traceback

import torch

import splitlab as sl
from splitlab.core.files import load, save

EVERY = 3

# Before the first checkpoint, right after one, between two, while one is written, and right after.
DEATHS = [
    ("step", 1),
    ("step", EVERY),
    ("step", EVERY + 1),
    ("writing", 2 * EVERY),
    ("step", 2 * EVERY),
]

torch.set_num_threads(1)
DIGITS = sl.tiny.split("digits", 0)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


class Die(sl.Observer):
    """Ends the process in one step, when the observers before it have been told."""

    def __init__(self, at):
        self.at = at

    def step(self, step, client, server):
        if step == self.at:
            die()


class Noise(sl.Defense):
    """Noise on z from the client's random state and one of its own, growing with a counter."""

    STATE = ("calls",)

    def __init__(self):
        self.calls = 0
        self.generator = torch.Generator().manual_seed(3)

    def smash(self, client, turn, z):
        own = torch.randn(z.shape, generator=self.generator) if turn.index is not None else 0
        return z + 0.01 * (1 + self.calls) * torch.randn_like(z) + 0.01 * own

    def grads(self, client, turn):
        self.calls += 1


def parties(kind):
    """Return (clients, server, observers) for a kind of run."""
    private, public, _ = DIGITS
    defenses = [Noise()] if kind == "defended" else []
    names = ["first", "second"] if kind == "defended" else ["client"]
    clients = [
        sl.Client(
            sl.tiny.client_net(seed=seed),
            private,
            **sl.tiny.client(seed=seed) | {"batch_size": 16},
            defenses=defenses if seed == 0 else [],
            name=name,
        )
        for seed, name in enumerate(names)
    ]
    design = "fast" if kind == "fast" else "paper"
    # Many public epochs in few steps: the permutation is drawn anew in the run.
    server = sl.FSHA.at(sl.tiny, public.subset(100), design=design, steps=10, batch_size=16)
    if kind == "no hijack":
        server = sl.NoHijack(sl.tiny.server_net(), server, optimizer=sl.tiny.client_optimizer)
    return clients, server, [sl.Wiretap(), sl.Snapshots(every=2), sl.ReceivedError()]


def run(kind, checkpoint, steps, kill=None, at=None):
    """Train, and return every state there is at the end, and the log.

    Args:
        kind: What trains.
        checkpoint: The file, or None.
        steps: How many steps in all.
        kill: "step": die of SIGKILL in step `at` (from 0), when the parties have taken it and
            before any checkpoint. "writing": die while the checkpoint after `at` steps is written,
            between the temporary file and its renaming. None: live.
        at: The step to die at.
    """
    clients, server, observers = parties(kind)
    dying = [Die(at)] if kill == "step" else []
    if kill == "writing":
        replace = os.replace

        def dying_replace(source, target):
            if sum(client.step for client in clients) == at:
                die()
            replace(source, target)

        os.replace = dying_replace
    log = sl.train(
        clients, server, steps, observers=[*observers, *dying], checkpoint=checkpoint, every=EVERY
    )
    states = {
        "clients": [client.state_dict() for client in clients],
        "server": server.state_dict(),
        "observers": [observer.state_dict() for observer in observers],
        "log": log.state_dict() | {"seconds": None},
        "next rows": [client.sampler.next() for client in clients],
    }
    return states, log


def exit_code(out, *arguments):
    """Run in a process of its own and write the final states to `out`; a negative signal if killed.

    Forked, from a process that has imported the library and trained nothing: importing takes
    longer than such a run.
    """
    child = os.fork()
    if child == 0:
        try:
            save(run(*arguments)[0], out)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    kind, checkpoint, out, steps = sys.argv[1:]
    parties(kind)  # the first optimizer makes torch import much more, once for all processes
    results = []
    for death in [*DEATHS, (None, None)]:
        code = exit_code(out, kind, checkpoint, int(steps), *death)
        results.append((code, load(checkpoint)["step"] if os.path.exists(checkpoint) else None))
    print(json.dumps(results))
