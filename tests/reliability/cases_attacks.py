"""Attacks that meet a client or a server that does not fit them, in the middle of a run."""

from collections.abc import Callable
from functools import partial

import torch
from misuse import Given, Misuse
from torch import Tensor, nn

import splitlab as sl
from splitlab.attacks.critic import Critic

NETS = sl.nets.tiny
Servers = dict[str, Callable[[Given], sl.Server]]


def client(given: Given, **options: object) -> sl.Client:
    """A client of cut 2, with labels from 0 to 9."""
    options = {"optimizer": sl.tiny.client_optimizer, "batch_size": 8} | options
    return sl.Client(sl.tiny.client_net(), given.private, **options)


def hijack(given: Given, cut: int) -> sl.FSHA:
    return sl.FSHA.at(sl.tiny, given.public, cut=cut, batch_size=8, body=NETS.server(cut=cut))


def honest(*, cut: int = 2, classes: int = 10) -> sl.HonestServer:
    return sl.HonestServer(NETS.server(cut=cut, classes=classes))


def backdoor(given: Given, *, cut: int, critic: bool = False) -> sl.Server:
    """A backdoor by a server whose surrogate is of a cut, and whose layers take z of both."""
    options = {"surrogate_optimizer": sl.tiny.client_optimizer, "batch_size": 8, "target": 1}
    if critic:
        options["critic"] = Critic(NETS.critic(cut=cut), penalty="sample")
    net, surrogate = nn.Sequential(nn.Flatten(), nn.Linear(512, 10)), NETS.client(cut=cut)
    return sl.ServerBackdoor(net, given.public, surrogate=surrogate, **options)


# Cut 1 makes z of (8, 8, 8), and the client sends (32, 4, 4).
OF_ANOTHER_CUT: Servers = {
    "FSHA": lambda g: hijack(g, 1),
    "PropertyInference": lambda g: sl.PropertyInference.at(sl.tiny, g.public, cut=1, batch_size=8),
    "MultitaskFSHA": lambda g: sl.MultitaskFSHA(hijack(g, 1), task=honest(cut=1)),
    "GuardAwareFSHA": lambda g: sl.GuardAwareFSHA(hijack(g, 1), task=honest(cut=1)),
    "NoHijack": lambda g: sl.NoHijack(NETS.server(cut=1), hijack(g, 1)),
    "ServerBackdoor, by its surrogate": lambda g: backdoor(g, cut=1),
    "ServerBackdoor, by its critic": lambda g: backdoor(g, cut=1, critic=True),
}
OF_FIVE_CLASSES: Servers = {
    "MultitaskFSHA": lambda g: sl.MultitaskFSHA(hijack(g, 2), task=honest(classes=5)),
    "GuardAwareFSHA": lambda g: sl.GuardAwareFSHA(hijack(g, 2), task=honest(classes=5)),
    "NoHijack": lambda g: sl.NoHijack(NETS.server(classes=5), hijack(g, 2)),
}


def server_of(make: Callable[[Given], sl.Server], given: Given) -> sl.Server:
    """The server of a case, made when it is first asked for."""
    if not hasattr(given, "server"):
        given.server = make(given)
    return given.server


def trained(what: str, make: Callable[[Given], sl.Server], *says: str, **options: object) -> Misuse:
    """A run that the server must stop at its first message."""
    return Misuse(
        what,
        lambda given: sl.train([client(given, **options)], server_of(make, given), 2),
        ValueError,
        says,
        unchanged=partial(server_of, make),
    )


def attacker(kind: type[sl.Client], given: Given) -> sl.Client:
    """A client's attack that has begun a turn, and waits for the server's answer."""
    if not hasattr(given, "attacker"):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            given.attacker = kind.conformance_example(given.private, given.public)
        given.sent = given.attacker.forward()
        if given.attacker.tail is not None:
            given.z = given.sent.z.detach()
            output = sl.ServerOutput(a=torch.zeros(8, 10), sender="server", step=0)
            given.attacker.finish(output)
    return given.attacker


def answered(
    what: str,
    kind: type[sl.Client],
    change: Callable[[Tensor], Tensor],
    *says: str,
    step: int = 0,
    raises: type[Exception] = ValueError,
) -> Misuse:
    """A gradient that a client's attack must refuse, though it would scale it first."""

    def answer(given: Given) -> None:
        party = attacker(kind, given)
        dz = change(torch.ones_like(given.sent.z).detach())
        party.backward(sl.Gradient(dz=dz, sender="server", step=step))

    name = f"{kind.__name__} receives {what}"
    return Misuse(name, answer, raises, says, unchanged=partial(attacker, kind))


def with_nan(dz: Tensor) -> Tensor:
    dz[3] = torch.nan
    return dz


def without_labels(given: Given) -> sl.Server:
    return sl.GuardAwareFSHA(hijack(given, 2), task=honest())


def tail_of_five(kind: type[sl.Client], given: Given) -> sl.Client:
    """An attack that labels images as the honest clients do, with a tail of five outputs."""
    if not hasattr(given, "attacker"):
        goal = {"flips": {0: 1}} if kind is sl.LabelFlipping else {"target": 1}
        options = {"optimizer": sl.tiny.client_optimizer, "batch_size": 8}
        tail = nn.Linear(10, 5)
        given.attacker = kind(sl.tiny.client_net(), given.private, tail=tail, **goal, **options)
        given.attacker.forward()
    return given.attacker


def finished(kind: type[sl.Client], given: Given) -> None:
    output = sl.ServerOutput(a=torch.zeros(8, 10), sender="server", step=0)
    tail_of_five(kind, given).finish(output)


def asked(method: str, ask: Callable[[Given], object], given: Given) -> None:
    kind = sl.PropertyInference if method == "infer_property" else sl.FSHA
    server = server_of(lambda g: kind.conformance_example(g.private, g.public), given)
    getattr(server, method)(ask(given))


def of_nan(given: Given) -> sl.SmashedData:
    return sl.SmashedData(z=torch.full((2, 32, 4, 4), torch.nan), sender="client", step=0)


ASKED = ("reconstruct", "infer_property", "output")
CLIENTS = (sl.Backdoor, sl.ClientGAN, sl.LabelFlipping, sl.GradientNorm)
CASES = [
    *(
        trained(f"a client of another cut: {what}", make, "shape", "(32, 4, 4)", ": ")
        for what, make in OF_ANOTHER_CUT.items()
    ),
    *(
        trained(f"labels to 9, outputs for five: {what}", make, "labels up to 9", "5 classes")
        for what, make in OF_FIVE_CLASSES.items()
    ),
    trained(
        "a client that keeps its labels, GuardAwareFSHA",
        without_labels,
        "GuardAwareFSHA looks for false labels, and none arrive",
        sends_labels=False,
    ),
    *(
        Misuse(
            f"{method} is asked about images",
            partial(asked, method, lambda given: given.private.x[:2]),
            TypeError,
            (f".{method} takes smashed data as a message", "client.smash(images)"),
        )
        for method in ASKED
    ),
    *(
        Misuse(
            f"{method} is asked about NaN",
            partial(asked, method, of_nan),
            ValueError,
            ("server is sent z with NaN in it at step 0 by client",),
        )
        for method in ASKED
    ),
    *(
        answered("whole numbers", kind, Tensor.long, "is sent dz of torch.int64")
        for kind in CLIENTS
    ),
    *(answered("truth values", kind, Tensor.bool, "is sent dz of torch.bool") for kind in CLIENTS),
    *(answered("NaN", kind, with_nan, "NaN", "step 0", "changes nothing") for kind in CLIENTS),
    *(answered("half a batch", kind, lambda dz: dz[:4], "(4, 32, 4, 4)") for kind in CLIENTS),
    *(
        answered("a step not asked for", kind, lambda dz: dz, "step 7", step=7, raises=RuntimeError)
        for kind in CLIENTS
    ),
    *(
        Misuse(
            f"{kind.__name__} with a tail of five outputs, and labels to 9",
            partial(finished, kind),
            ValueError,
            ("the tail of client has outputs for 5 classes",),
            unchanged=partial(tail_of_five, kind),
        )
        for kind in (sl.Backdoor, sl.LabelFlipping)
    ),
]
