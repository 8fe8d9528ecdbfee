"""What a client, a server, an aggregator or a run is made with, and what a defense returns."""

from functools import partial

import torch
from misuse import Misuse
from torch import nn
from torch.optim import SGD, Adam

import splitlab as sl


def client(given, net=None, *, data=None, **options):
    settings = {"optimizer": partial(Adam, lr=1e-3), "batch_size": 8} | options
    net = sl.tiny.client_net() if net is None else net
    return sl.Client(net, given.private if data is None else data, **settings)


def server(**options):
    return sl.HonestServer(sl.tiny.server_net(), **options)


def train(given, *, clients=None, at=None, steps=2, **options):
    """Run two parties that are kept in `given`."""
    given.clients = [client(given)] if clients is None else clients
    given.server = server() if at is None else at
    return sl.train(given.clients, given.server, steps, **options)


def returning(hook, value):
    """A defense one of whose hooks returns something odd."""
    return type("Mine", (sl.Defense,), {hook: lambda self, client, turn, *rest: value(*rest)})()


def defended(hook, value):
    return lambda given: train(given, clients=[client(given, defenses=[returning(hook, value)])])


def guarding(value):
    guard = type("Mine", (sl.LabelDefense,), {"outgoing": lambda self, dz, labels: value(dz)})()
    return lambda given: train(
        given,
        clients=[client(given, sends_index=True)],
        at=server(labels=given.private.y, defenses=[guard]),
    )


def another(given, **options):
    """Two clients, of which the second is made with an option of the caller's."""
    given.net, given.defense = sl.tiny.client_net(), sl.Defense()
    made = {"net": given.net, "defense": [given.defense]}
    one = client(given, made["net"], name="one", defenses=made["defense"])
    net = made["net"] if options.get("net") else None
    defenses = made["defense"] if options.get("defense") else []
    return [one, client(given, net, name=options.get("name", "two"), defenses=defenses)]


VIOLATION = sl.ThreatModelViolation
CONSTRUCTED = {
    "a class as network": (
        *(lambda g: client(g, nn.ReLU), TypeError),
        *("net is the class ReLU", "call it"),
    ),
    "no network": (lambda g: client(g, "tiny"), TypeError, "net is 'tiny'", "sl.tiny.client_net()"),
    "a bare tensor as data": (
        *(lambda g: client(g, data=g.private.x), TypeError),
        *("data is a tensor of shape (16, 1, 16, 16)", "ImageData.from_arrays"),
    ),
    "a whole split as data": (
        *(lambda g: client(g, data=sl.tiny.split("digits", 0)), TypeError),
        *("data is a Split", "one part of a split"),
    ),
    "a parameterless network": (
        *(lambda g: client(g, nn.Flatten()), ValueError),
        *("client has a network without parameters", "nn.Conv2d"),
    ),
    "an optimizer in place of its maker": (
        *(lambda g: client(g, optimizer=Adam(sl.tiny.client_net().parameters())), TypeError),
        *("optimizer is an Adam", "partial(torch.optim.Adam, lr=1e-3)"),
    ),
    "a maker of no optimizer": (
        *(lambda g: client(g, optimizer=lambda p: None), TypeError),
        *("optimizer makes None, not an optimizer"),
    ),
    "images of other channels": (
        *(lambda g: client(g, nn.Conv2d(3, 8, 3)), ValueError),
        *("the network of client does not take images", "(1, 16, 16)"),
    ),
    "a batch that is too large": (
        *(lambda g: client(g, batch_size=17), ValueError),
        *("17", "batch_size from 1 to 16"),
    ),
    "half an image in a batch": (lambda g: client(g, batch_size=2.5), ValueError, "batch_size"),
    "a GPU that is not there": (
        *(lambda g: client(g, device="cuda:63"), ValueError),
        *("device is 'cuda:63'", "choose 'cpu'"),
    ),
    "a device of no kind": (lambda g: server(device="gpu"), ValueError, "device is 'gpu'", "'cpu'"),
    "no name": (lambda g: client(g, name=""), ValueError, "name is empty", "'client 1'"),
    "a number as name": (lambda g: server(name=3), TypeError, "name is 3", "give the party a name"),
    "a server's defense at a client": (
        *(lambda g: client(g, defenses=[sl.defenses.MaxNorm()]), TypeError),
        *("which is not a Defense", "cannot defend a client", "the other party"),
    ),
    "a client's defense at a server": (
        *(lambda g: server(defenses=[sl.Defense()]), TypeError),
        *("which is not a LabelDefense", "cannot defend a server"),
    ),
    "a defense without a list": (
        *(lambda g: client(g, defenses=sl.Defense()), TypeError),
        *("defenses is a Defense", "defenses=[...]"),
    ),
    "a defense's class": (
        *(lambda g: client(g, defenses=[sl.Defense]), TypeError),
        *("defenses[0] is the class Defense", "Defense(...)"),
    ),
    "a loss that is no function": (
        *(lambda g: server(loss="mse"), TypeError),
        *("loss is 'mse'", "cross_entropy"),
    ),
    "labels as a list": (
        lambda g: server(labels=[1, 2]),
        TypeError,
        "labels is [1, 2]",
        "private.y",
    ),
    "labels as floats": (
        *(lambda g: server(labels=g.private.y.float()), ValueError),
        *("labels is torch.float32", "int64 class numbers"),
    ),
    "labels sent in spite of a tail": (
        *(lambda g: client(g, tail=nn.Linear(10, 10), sends_labels=True), ValueError),
        *("keeps its labels", "leave out tail"),
    ),
    "a turn of no steps": (lambda g: sl.Sequential(turn=0), ValueError, "turn is 0", "at least 1"),
    "a protocol's name": (
        *(lambda g: sl.SplitFed(protocol="vanilla"), TypeError),
        *("protocol is 'vanilla'", "sl.u_shaped"),
    ),
    "an aggregator's class": (
        *(lambda g: sl.SplitFed(sl.Aggregator), TypeError),
        *("aggregator is the class Aggregator", "Aggregator(...)"),
    ),
    "copies of no server": (
        *(lambda g: sl.ServerCopies(sl.tiny.server_net(), {"client": 1}), TypeError),
        *("server is a ", "the honest server"),
    ),
    "copies for a list": (
        *(lambda g: sl.ServerCopies(server(), ["client"]), TypeError),
        *("samples is ['client']", "{'client': 100}"),
    ),
}
RUNS = {
    "a client without a list": (
        *(lambda g: sl.train(client(g), server(), 2), TypeError),
        *("clients is a list", "train([client], server, steps)"),
    ),
    "no client": (lambda g: train(g, clients=[]), ValueError, "clients is empty"),
    "parties swapped": (
        *(lambda g: sl.train([server()], client(g), 2), TypeError),
        *("clients[0] is a HonestServer", "sl.Client"),
    ),
    "a network as server": (
        *(lambda g: train(g, at=sl.tiny.server_net()), TypeError),
        *("server is a ", "sl.HonestServer"),
    ),
    "two steps and a half": (lambda g: train(g, steps=2.5), ValueError, "steps is 2.5", "whole"),
    "a checkpoint every 0": (lambda g: train(g, every=0), ValueError, "every is 0", "at least 1"),
    "the name of a protocol": (
        *(lambda g: train(g, protocol="u_shaped"), TypeError),
        *("protocol is 'u_shaped'", "the function itself, such as sl.u_shaped"),
    ),
    "the class of a protocol": (
        *(lambda g: train(g, protocol=sl.Sequential), TypeError),
        *("protocol is the class Sequential", "sl.Sequential()"),
    ),
    "an observer without a list": (
        *(lambda g: train(g, observers=sl.Wiretap()), TypeError),
        *("observers is a Wiretap", "observers=[sl.Wiretap()]"),
    ),
    "an observer's class": (
        *(lambda g: train(g, observers=[sl.Wiretap]), TypeError),
        *("observers[0] is the class Wiretap", "Wiretap(...)"),
    ),
    "a precision's name": (
        *(lambda g: train(g, autocast="bfloat16"), TypeError),
        *("autocast is 'bfloat16'", "torch.bfloat16"),
    ),
    "two clients on one network": (
        *(lambda g: train(g, clients=another(g, net=True)), VIOLATION),
        *("clients[0]", "clients[1]", "share memory", "make a copy"),
    ),
    "the same client twice": (
        *(lambda g: train(g, clients=[client(g)] * 2), VIOLATION),
        *("clients[0] and clients[1] share memory",),
    ),
    "one defense at two clients": (
        *(lambda g: train(g, clients=another(g, defense=True)), VIOLATION),
        *("clients[0]['defenses'][0] and clients[1]['defenses'][0] share memory",),
    ),
    "two clients of one name": (
        *(lambda g: train(g, clients=another(g, name="one")), VIOLATION),
        *("both called 'one'", "name="),
    ),
    "a client called as the server": (
        *(lambda g: train(g, clients=[client(g, name="server")]), VIOLATION),
        *("both called 'server'",),
    ),
    "a client with a tail in vanilla": (
        *(lambda g: train(g, clients=[client(g, tail=nn.Linear(10, 10))]), ValueError),
        *("client has a tail", "protocol=u_shaped"),
    ),
    "a client without a tail in u_shaped": (
        *(lambda g: train(g, protocol=sl.u_shaped), ValueError),
        *("client has no tail", "protocol=vanilla"),
    ),
    "a server of another cut": (
        *(lambda g: train(g, at=sl.HonestServer(sl.tiny.server_net(cut=1))), ValueError),
        *("the network of server does not take z", "(32, 4, 4)"),
    ),
    "five outputs for labels up to 9": (
        *(lambda g: train(g, at=sl.HonestServer(sl.tiny.server_net(classes=5))), ValueError),
        *("client has labels up to", "the network of server has outputs for 5 classes"),
    ),
    "a loss for each image": (
        *(lambda g: train(g, at=server(loss=nn.CrossEntropyLoss(reduction="none"))), ValueError),
        *("the loss of server has shape (8,)", "such as a mean"),
    ),
    "a loss of NaN": (
        *(lambda g: train(g, at=server(loss=lambda a, y: a.sum() * torch.nan)), ValueError),
        *("the loss of server is nan at step 0", "no step is taken"),
    ),
    "optimizers of two kinds in turn": (
        lambda g: train(
            g,
            clients=[
                client(g, name="one"),
                client(g, name="two", optimizer=partial(SGD, lr=0.1)),
            ],
            protocol=sl.Sequential(),
        ),
        *(ValueError, "one sends the state of an optimizer that two, with SGD, cannot go on from"),
        "Sequential(optimizer_state=False)",
    ),
    "networks of two kinds averaged": (
        lambda g: train(
            g,
            clients=[
                client(g, name="one"),
                client(g, nn.Sequential(sl.tiny.client_net(), nn.BatchNorm2d(32)), name="two"),
            ],
            protocol=sl.SplitFed(seed=None),
        ),
        *(ValueError, "two sends weights of another network to aggregator"),
    ),
    "an image without its batch": (
        *(lambda g: client(g).smash(g.private.x[0]), ValueError),
        *("x is torch.float32 of shape (1, 16, 16)", "(N, 1, 16, 16)"),
    ),
    "images with channels last": (
        *(lambda g: client(g).smash(g.private.x.permute(0, 2, 3, 1)), ValueError),
        *("x is torch.float32 of shape (16, 16, 16, 1)",),
    ),
    "images as bytes": (
        *(lambda g: client(g).smash(g.private.x.byte()), ValueError),
        *("x is torch.uint8", "torch.float32"),
    ),
    "images as an array": (
        *(lambda g: client(g).smash(g.private.x.numpy()), TypeError),
        *("x is a numpy array", "private.x[:8]"),
    ),
}
DEFENDED = {
    "smash returns nothing": (
        *(defended("smash", lambda z: None), TypeError),
        *("Mine.smash returns None in place of z", "(8, 32, 4, 4)"),
    ),
    "smash returns another shape": (
        *(defended("smash", lambda z: z.flatten(1)), ValueError),
        *("Mine.smash returns torch.float32 of shape (8, 512)", "the same shape and type"),
    ),
    "smash detaches z": (
        *(defended("smash", lambda z: z.detach() + 1), ValueError),
        *("Mine.smash returns z without its graph", "without detach()"),
    ),
    "smash returns NaN": (
        *(defended("smash", lambda z: z / 0 * 0), ValueError),
        *("at step 0 of client, Mine.smash returns z with NaN", "division by zero"),
    ),
    "incoming returns nothing": (
        *(defended("incoming", lambda dz: None), TypeError),
        *("Mine.incoming returns None in place of the gradient",),
    ),
    "incoming returns a number": (
        *(defended("incoming", lambda dz: 0.0), TypeError),
        *("Mine.incoming returns 0.0 in place of the gradient",),
    ),
    "incoming returns another type": (
        *(defended("incoming", lambda dz: dz.double()), ValueError),
        *("Mine.incoming returns torch.float64",),
    ),
    "incoming returns infinity": (
        *(defended("incoming", lambda dz: dz * torch.inf), ValueError),
        *("at step 0 of client, Mine.incoming returns the gradient with NaN or infinity",),
    ),
    "a local loss for each image": (
        *(defended("local_loss", lambda: torch.ones(8, requires_grad=True)), ValueError),
        *("the loss of Mine at client has shape (8,)",),
    ),
    "a local loss without a graph": (
        *(defended("local_loss", lambda: torch.ones(())), ValueError),
        *("the loss of Mine at client has shape () and no graph",),
    ),
    "a local loss that is a number": (
        *(defended("local_loss", lambda: 0.5), TypeError),
        *("the loss of Mine at client is 0.5", "scalar tensor"),
    ),
    "a local loss of NaN": (
        defended("local_loss", lambda: torch.full((), torch.nan, requires_grad=True)),
        *(ValueError, "the loss of Mine at client is nan at step 0"),
    ),
    "outgoing returns nothing": (
        *(guarding(lambda dz: None), TypeError),
        *("Mine.outgoing returns None in place of the gradient",),
    ),
    "outgoing returns NaN": (
        *(guarding(lambda dz: dz * torch.nan), ValueError),
        *("at step 0 of server, Mine.outgoing returns the gradient with NaN",),
    ),
}
CASES = [
    Misuse(what, do, raises, says)
    for table in (CONSTRUCTED, RUNS, DEFENDED)
    for what, (do, raises, *says) in table.items()
]
