"""Helpers of the lists: small runs of any class, killed runs, and bitwise comparison of states."""

import dataclasses
import inspect
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import nn

import splitlab as sl

ROWS, BATCH = 16, 8  # two batches in an epoch
STEPS, EVERY, KILLED_IN = 4, 2, 3  # of all runs; between two checkpoints; steps count from 0
PROTOCOLS = {"vanilla": sl.vanilla, "u_shaped": sl.u_shaped}


def classes_of(package, *kinds):
    """All classes of some kinds that a package exports, without the abstract ones."""
    exported = [getattr(package, name) for name in package.__all__]
    found = [one for one in exported if inspect.isclass(one) and issubclass(one, kinds)]
    return [one for one in found if not inspect.isabstract(one)]


def few(split):
    """A few private and a few public images of a split."""
    return tuple(part.subset(ROWS, seed=0) for part in split[:2])


def made(kind, data, protocol="vanilla"):
    """(example, client, server): a class's example among honest parties, the same every time.

    Honest networks have Dropout and BatchNorm, which a careless attacker would disturb.
    """
    private, public = data
    with torch.random.fork_rng():
        torch.manual_seed(0)
        example = kind.conformance_example(private, public)
        client = server = example
        if not isinstance(example, sl.Client):
            client = sl.Client(
                sl.tiny.client_net().append(nn.Dropout(0.2)),
                private,
                optimizer=sl.tiny.client_optimizer,
                batch_size=BATCH,
                defenses=[example] if isinstance(example, sl.Defense) else [],
                sends_index=isinstance(example, sl.LabelDefense),
                tail=nn.Linear(10, 10) if protocol == "u_shaped" else None,
            )
        if not isinstance(example, sl.Server):
            guards = isinstance(example, sl.LabelDefense)
            server = sl.HonestServer(
                sl.tiny.server_net(),
                labels=private.y % getattr(example, "classes", 2),
                defenses=[example] if guards else [],
            )
        if isinstance(server, sl.HonestServer):
            first = nn.BatchNorm2d(32, affine=False)  # nothing that an optimizer would miss
            server.net = nn.Sequential(nn.Dropout(0.2), first, server.net)
    return example, client, server


class Killed(Exception):
    """Stands for the end of the process."""


class Kill(sl.Observer):
    """Kills a run in the middle of a step, at its first message."""

    def message(self, message):
        if message.step == KILLED_IN:
            raise Killed


class KillInStep(sl.Observer):
    """Kills a run of several clients at the end of a step, before anything is written."""

    def __init__(self, step):
        self.kill_in = step

    def step(self, step, client, server):
        if step == self.kill_in:
            raise Killed


class Replies(sl.Observer):
    """Keeps copies of all gradients."""

    def __init__(self):
        self.dz = []

    def message(self, message):
        if isinstance(message, sl.Gradient):
            self.dz.append(message.dz.clone())


def killed_run(make, path, protocol=sl.vanilla):
    """(what `make` returned last, log): a run that was killed between checkpoints, then resumed.

    Everything is made anew for the second part, as another process would.

    Args:
        make: Returns a tuple that ends in a client and a server.
        path: The checkpoint.
        protocol: What one step is.
    """
    with pytest.raises(Killed):
        run(*make()[-2:], protocol, [Kill()], checkpoint=path, every=EVERY)
    parties, replies = make(), Replies()
    log = run(*parties[-2:], protocol, [replies], checkpoint=path, every=EVERY)
    assert len(replies.dz) == STEPS - EVERY, "it did not go on from its checkpoint"
    return parties, log


def in_turn(kind, data, protocol):
    """(clients, server): a server's example, and three clients for it, the same every time."""
    parties = [made(kind, data, protocol) for _ in range(3)]
    clients = [client for _, client, _ in parties]
    for number, client in enumerate(clients):
        client.name = f"client {number}"
        client.sampler.next()  # the same rows in another order
    return clients, parties[0][2]


def put_back(parties, trained):
    """Load the state of trained parties into new ones; return the new ones."""
    for party, like in zip(parties[-2:], trained[-2:], strict=True):
        party.load_state_dict(like.state_dict())
    return parties


def run(client, server, protocol=sl.vanilla, observers=(), steps=STEPS, **options):
    return sl.train([client], server, steps, protocol=protocol, observers=observers, **options)


def take_steps(client, server, protocol, *sizes):
    """The gradients of steps on batches of these sizes, without the loop around them."""
    replies = Replies()
    for size in sizes:
        client.sampler.batch_size = size
        PROTOCOLS[protocol](client, server, sl.Wire([replies]))
    return replies.dz


def in_float64(make, data, monkeypatch):
    """What `make` makes of the data in double precision; `ImageData` itself knows float32 alone."""
    check = sl.ImageData.__post_init__

    def tolerant(self):
        x = self.x
        object.__setattr__(self, "x", x.float())
        check(self)
        object.__setattr__(self, "x", x)

    monkeypatch.setattr(sl.ImageData, "__post_init__", tolerant)
    torch.set_default_dtype(torch.float64)
    try:
        return make(tuple(dataclasses.replace(part, x=part.x.double()) for part in data))
    finally:
        torch.set_default_dtype(torch.float32)


def everything(value, path="", seen=None):
    """All numbers, texts, tensors and random states reachable from an object, as path -> value.

    It knows nothing of the library's own idea of a state.
    """
    seen = {} if seen is None else seen
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return {path: repr(value)}
    if callable(value) and not isinstance(value, nn.Module):
        return {}
    if not isinstance(value, tuple | torch.Tensor):
        if id(value) in seen:
            return {path: f"the same as {seen[id(value)][1]}"}
        seen[id(value)] = value, path
    if isinstance(value, torch.Tensor):
        bits = value.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        return {path: (value.dtype, tuple(value.shape), bits)} | everything(
            value.grad if value.is_leaf else None, f"{path}.grad", seen
        )
    if isinstance(value, np.ndarray):
        return {path: (value.dtype, value.shape, value.tobytes())}
    if isinstance(value, torch.Generator):
        return everything(value.get_state(), path, seen)
    if isinstance(value, Mapping):
        keys = [key if isinstance(key, str | int) else n for n, key in enumerate(value)]
        parts = list(zip(keys, value.values(), strict=True))
    elif isinstance(value, list | tuple):
        parts = list(enumerate(value))
    else:
        parts = list(getattr(value, "__dict__", {}).items())
    found = {path: f"{type(value).__name__} of {len(parts)}"}
    for name, part in parts:
        found |= everything(part, f"{path}.{name}", seen)
    return found


def assert_same(one, other):
    """Assert that two objects, or mappings of objects, are equal to the last bit."""
    one, other = everything(one), everything(other)
    differ = [path for path in {**one, **other} if one.get(path) != other.get(path)]
    assert not differ, differ
