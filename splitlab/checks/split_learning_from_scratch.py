"""Checks of the exercises to chapter 01, Split learning from scratch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from splitlab.checks import squeezing
from splitlab.checks.base import Answer, Score, check, expect_tensor, same, twin, what, wrong
from splitlab.parties import evaluating

RATE = 0.1  # of plain SGD, whose step shows the gradient that was used
CLASSES = 5

# --- 1. deliver -------------------------------------------------------------------------------


@check("what crosses is a copy: the same numbers, none of the memory, none of the history.")
def deliver(answer: Answer) -> None:
    """`deliver(tensor)`: the tensor that the receiver gets, and how many bytes cross."""
    images = torch.rand(9, 1, 2, 3, dtype=torch.float64)
    z = torch.tanh(images[2:6].clone().requires_grad_())
    _delivery(answer, z)
    _delivery(answer, torch.rand(1, 5, dtype=torch.float32))
    _delivery(answer, images[4:6].flatten(1))  # the z of a client that only flattens
    _delivery(answer, images.transpose(2, 3))
    _delivery(answer, torch.tensor([3, 0, 7]))  # labels

    first = _delivery(answer, z)
    before = first.clone()
    _delivery(answer, z * 2)
    if not torch.equal(first, before):
        wrong(
            "the second delivery overwrites the first: the receiver still holds that message, so "
            "each needs memory of its own"
        )


def _delivery(answer: Answer, sent: Tensor) -> Tensor:
    """Have one tensor delivered, and look at what arrives and at what stays."""
    before, history = sent.detach().clone(), sent.grad_fn
    pair = answer(sent)
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        wrong(
            f"deliver returns {what(pair)} where two things are expected: the delivered tensor, "
            "and the number of bytes that cross"
        )
    received, nbytes = pair
    if not isinstance(received, Tensor):
        wrong(f"the delivered tensor should be a tensor and is {what(received)}")
    if received.grad_fn is not None:
        wrong(
            "the delivered tensor still has its computation graph: through grad_fn the server "
            "walks back to the images"
        )
    if received.requires_grad:
        wrong(
            "the delivered tensor requires a gradient: what the server differentiates is for the "
            "server to say, and labels cannot be"
        )
    if _memory(received) == _memory(sent):
        wrong(
            "the delivered tensor lies in the sender's memory: what the server writes into it, "
            "the client's z becomes"
        )
    if received.untyped_storage().nbytes() > received.numel() * received.element_size():
        wrong(
            "the memory of the delivered tensor holds more than its own numbers: z was a slice, "
            "and the rows beside it, other patients' images, have crossed too"
        )
    if received.dtype != sent.dtype:
        wrong(
            f"{sent.dtype} was sent and {received.dtype} arrives: the wire changes no type, "
            "for labels are whole numbers and z is not to be rounded"
        )
    if received.shape != sent.shape or not torch.equal(received, before):
        wrong("the delivered tensor holds other numbers than z, or in another shape: send z as is")
    if not torch.equal(sent.detach(), before) or sent.grad_fn is not history:
        wrong("z itself has changed: the client still needs it, with its graph, to go backward")
    _check_bytes(nbytes, sent)
    return received


def _check_bytes(nbytes: Any, sent: Tensor) -> None:
    if isinstance(nbytes, Tensor) and nbytes.numel() == 1:
        nbytes = nbytes.item()
    if not isinstance(nbytes, int | float):
        wrong(f"the bytes that cross should be a whole number and are {what(nbytes)}")
    if nbytes != sent.numel() * sent.element_size():
        wrong(
            f"the count of bytes says {nbytes:g} for {sent.numel()} numbers of {sent.dtype}, which "
            f"take {sent.element_size()} bytes each"
        )


# --- 2. client_turn ---------------------------------------------------------------------------


@check("f moves as the whole network would have moved it, and the server has seen z alone.")
def client_turn(answer: Answer) -> None:
    """`client_turn(net, optimizer, x, ask)`: one turn of the client in the vanilla protocol."""
    clinic = _Clinic(functools.partial(SGD, lr=RATE))
    first = clinic.turn(answer, 4)
    first.check_slips()
    clinic.check(first)
    for batch in (3, 1):
        turn = clinic.turn(answer, batch)
        if same(turn.moved, first.due + turn.due):
            wrong(OLD_GRADIENTS)
        clinic.check(turn)
    clinic = _Clinic(functools.partial(Adam, lr=RATE))
    for batch in (2, 3):
        turn = clinic.turn(answer, batch)
        if not same(turn.moved, turn.due):
            wrong(ONLY_SGD.format(net="f"))


OLD_GRADIENTS = (
    "from the second turn on, the gradients of earlier turns are still in .grad and are added: "
    "call optimizer.zero_grad() before backward"
)
ONLY_SGD = (
    "with plain SGD {net} moves as it should, and with Adam it does not: leave the step to "
    "optimizer.step()"
)


@dataclass(frozen=True)
class _ClientTurn:
    """How far the client's weights moved in a turn, and how far they should have.

    Attributes:
        moved: (before - after) / RATE; for plain SGD this is the gradient that was used.
        due: The same for a twin that is trained through the whole network.
        without_dz: The gradient of the sum of z.
    """

    moved: Tensor
    due: Tensor
    without_dz: Tensor

    def check_slips(self) -> None:
        """Name the likely mistakes that the first step of plain SGD shows."""
        if not self.moved.any():
            wrong(
                "f has not moved: dz goes back through the z that still has its graph, and the "
                "order is zero_grad, backward, step"
            )
        if same(self.moved, self.without_dz):
            wrong(
                "dz goes unused: the sum of z pushes all its numbers the same way; backward "
                "starts at z with dz as its gradient"
            )
        times = _factor(self.moved, self.due)
        if times == -1:
            wrong("f climbs: dz is the gradient of the loss, and the step goes against it")
        if times not in (None, 1):
            wrong(
                f"the step of f is {times:.3g} times that of the whole network: dz is the gradient "
                "of the mean loss already, neither averaged again nor scaled, and one step follows"
            )


class _Clinic:
    """A client's network f, beside a twin that is trained through the whole network."""

    def __init__(self, optimizer: Callable[..., Optimizer]) -> None:
        self.net = nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3), nn.Tanh()
        ).double()
        self.rest = nn.Sequential(nn.Flatten(), nn.Linear(3 * 5 * 4, 1), nn.Tanh()).double()
        self.whole = twin(self.net)
        self.optimizer = optimizer(self.net.parameters())
        self.whole_optimizer = optimizer(self.whole.parameters())
        self.forwards: list[Tensor] = []
        self.net[-1].register_forward_hook(lambda *call: self.forwards.append(call[-1]))

    def loss(self, z: Tensor) -> Tensor:
        return (self.rest(z) - 0.5).square().mean()

    def turn(self, answer: Answer, batch: int) -> _ClientTurn:
        """Take a turn through the whole network, and one with the student's function."""
        x = torch.randn(batch, 2, 5, 4, dtype=torch.float64)
        with evaluating(self.whole):
            evaluated = self.whole(x)
        before = _weights(self.whole)
        z = self.whole.train()(x)
        parameters = list(self.whole.parameters())
        without_dz = _flat(torch.autograd.grad(z.sum(), parameters, retain_graph=True))
        self.whole_optimizer.zero_grad()
        self.loss(z).backward()
        self.whole_optimizer.step()

        self.net.eval()  # as an evaluation may have left it
        self.forwards.clear()
        images, asked = x.clone(), []

        def ask(*sent: Any) -> Tensor:
            asked.append(sent)
            self.look_at(sent, x, z.detach(), evaluated)
            return _gradient(self.loss, sent[0])

        answer.act(self.net, self.optimizer, images, ask)
        if not asked:
            wrong("nothing was sent: call ask with a delivered copy of z, and it returns dz")
        if len(asked) > 1:
            wrong(f"ask was called {len(asked)} times: a turn sends z once and receives dz once")
        if not torch.equal(images, x) or images.requires_grad:
            wrong("the images were changed: they are only to be read")
        if len(self.forwards) > 1:
            wrong(
                "f ran a second time in one turn: that costs a forward pass, and moves "
                "BatchNorm's running statistics twice; keep z from the first"
            )
        due, moved = ((before - _weights(net)) / RATE for net in (self.whole, self.net))
        return _ClientTurn(moved, due, without_dz)

    def look_at(self, given: tuple[Any, ...], x: Tensor, z: Tensor, evaluated: Tensor) -> None:
        """Look at what is sent, as the server could."""
        if len(given) != 1:
            wrong(f"ask was given {len(given)} things: send z alone")
        (sent,) = given
        if not isinstance(sent, Tensor):
            wrong(f"ask was given {what(sent)}: send z itself, one tensor")
        if sent.grad_fn is not None:
            wrong(
                "z was sent with its computation graph: through grad_fn the server walks back "
                "to the images and to f; deliver a copy"
            )
        if _memory(sent) in [_memory(output) for output in self.forwards]:
            wrong(
                "the z that was sent lies in the client's memory: detach alone shares it with "
                "the server; deliver a copy"
            )
        if sent.shape == x.shape and same(sent, x):
            wrong("the images themselves were sent: what crosses is z = net(x)")
        if sent.shape != z.shape:
            wrong(f"what was sent has shape {tuple(sent.shape)}, and z has {tuple(z.shape)}")
        if same(sent, evaluated):
            wrong(
                "z was computed in evaluation mode: in training BatchNorm uses the batch's own "
                "mean and variance, so call net.train() first"
            )
        if not same(sent, z):
            wrong("what was sent is not z: send net(x) as it is, from the weights before the step")

    def check(self, turn: _ClientTurn) -> None:
        if not same(turn.moved, turn.due):
            wrong(
                "the step of f is not that of the whole network: backward starts at z, with dz as "
                "its gradient, and one step follows"
            )
        _check_statistics(self.net, self.whole)


# --- 3. server_turn ---------------------------------------------------------------------------


@check("s learns the task, and dz is what the client needs to learn it too.")
def server_turn(answer: Answer) -> None:
    """`server_turn(net, optimizer, z, labels)`: the honest server's turn; returns dz."""
    kept: list[tuple[Tensor, Tensor]] = []
    for optimizer in (SGD, Adam):
        cloud = _Cloud(functools.partial(optimizer, lr=RATE), normalised=True)
        for size in (4, 4, 1, 3):
            turn = cloud.turn(lambda zs, labels: (zs[0], labels[0]), answer, [size])
            dz = _server_dz(turn)
            _check_message(turn)
            _check_memory(turn, [dz])
            cloud.check_step(turn)
            if turn.forwards > 1:
                wrong(
                    "s ran a second time in one turn: one forward pass gives the loss, dz and the "
                    "step, and BatchNorm's running statistics move once"
                )
            _check_statistics(cloud.net, cloud.whole)
            kept.append((dz, dz.clone()))
            if not all(torch.equal(now, then) for now, then in kept):
                wrong(
                    "the dz of an earlier turn has changed: it lies in memory that the server "
                    "uses again, so the client finds another gradient than was sent"
                )


def _server_dz(turn: _ServerTurn) -> Tensor:
    """Return the student's dz, if it is right."""
    if turn.result is None:
        wrong(
            "server_turn returns None: end it with a return, and mind that .grad is filled only "
            "for a tensor that required a gradient before the forward pass"
        )
    (z,), (labels,), (due,) = turn.zs, turn.labels, turn.due_dz
    dz = expect_tensor(turn.result, "dz", z.shape)
    if same(dz, z):
        wrong("z itself comes back where its gradient is expected")
    if dz.requires_grad:
        wrong(
            "dz still has its computation graph: through grad_fn the client walks into the "
            "server's network"
        )
    if same(dz, due):
        return dz
    times = _factor(dz, due)
    if times == -1:
        wrong("dz has the wrong sign: the client goes against it, and would climb the loss")
    if times == len(z):
        wrong(
            "dz is too large by the batch size: it is of the sum of the losses, and the task's "
            "loss is their mean"
        )
    if times is not None:
        wrong(f"dz is {times:.3g} times the gradient of the mean loss: send it unscaled")
    if same(dz, _gradient(lambda z: _task_loss(turn.after.train(), z, labels), z)):
        wrong(
            "dz was computed after the step: this z met the weights before it, and dz belongs to "
            "those"
        )
    if same(dz, _gradient(lambda z: _task_loss(turn.before.eval(), z, labels), z)):
        wrong(
            "dz was computed in evaluation mode: in training BatchNorm uses the batch's own mean "
            "and variance, so call net.train() first"
        )
    wrong("dz is not the gradient of the mean cross-entropy with respect to z")


@dataclass(frozen=True)
class _ServerTurn:
    """One turn of a server with one client or more.

    Attributes:
        result: What the student's function returned.
        zs: Smashed data, one tensor a client, as they arrived.
        labels: Labels, likewise.
        given: The tensors that the function was given; they may have changed.
        left: What it has left in the lists that they came in.
        due_dz: The right gradients, one for each client.
        moved: (before - after) / RATE; for plain SGD this is the gradient that was used.
        due: The same for a twin that is trained by the book.
        before: The network before the turn.
        after: The student's network after the turn.
        forwards: How often the network ran.
    """

    result: Any
    zs: list[Tensor]
    labels: list[Tensor]
    given: list[Tensor]
    left: list[Any]
    due_dz: list[Tensor]
    moved: Tensor
    due: Tensor
    before: nn.Module
    after: nn.Module
    forwards: int


class _Cloud:
    """An honest server's network s, beside a twin that is trained by the book.

    z has the shape (B, 3, 2, 4): no axis stands for another by accident.
    """

    def __init__(self, optimizer: Callable[..., Optimizer], *, normalised: bool) -> None:
        self.net = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4) if normalised else nn.Identity(),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(4 * 2 * 4, CLASSES),
        ).double()
        self.whole = twin(self.net)
        self.optimizer = optimizer(self.net.parameters())
        self.whole_optimizer = optimizer(self.whole.parameters())
        self.forwards = 0
        self.net[-1].register_forward_hook(self._count)
        self.earlier = torch.zeros_like(_weights(self.net))  # what earlier turns were due

    def _count(self, *_: Any) -> None:
        self.forwards += 1

    def turn(
        self,
        arguments: Callable[[list[Tensor], list[Tensor]], tuple[Any, Any]],
        answer: Answer,
        sizes: Sequence[int],
    ) -> _ServerTurn:
        """Take a turn by the book, and one with the student's function."""
        zs = [torch.randn(size, 3, 2, 4, dtype=torch.float64) for size in sizes]
        labels = [torch.randint(CLASSES, (size,)) for size in sizes]
        start, before = _weights(self.whole), twin(self.whole)
        leaves = [z.clone().requires_grad_() for z in zs]
        self.whole_optimizer.zero_grad()
        _task_loss(self.whole.train(), torch.cat(leaves), torch.cat(labels)).backward()
        self.whole_optimizer.step()

        self.net.eval()  # as an evaluation may have left it
        self.forwards = 0
        given_zs, given_labels = [z.clone() for z in zs], [part.clone() for part in labels]
        given = [*given_zs, *given_labels]
        result = answer.act(self.net, self.optimizer, *arguments(given_zs, given_labels))
        after = twin(self.whole)
        after.load_state_dict(self.net.state_dict())
        return _ServerTurn(
            result=result,
            zs=zs,
            labels=labels,
            given=given,
            left=[*given_zs, *given_labels],
            due_dz=[leaf.grad for leaf in leaves],
            moved=(start - _weights(self.net)) / RATE,
            due=(start - _weights(self.whole)) / RATE,
            before=before,
            after=after,
            forwards=self.forwards,
        )

    def check_step(self, turn: _ServerTurn) -> None:
        """Compare the server's step with the twin's, once dz is right."""
        if not turn.moved.any():
            wrong(
                "dz is right, and s has not moved: the order is zero_grad, backward, step, and "
                "then the server learns, too"
            )
        plain = isinstance(self.optimizer, SGD)
        if plain and self.earlier.any() and same(turn.moved, self.earlier + turn.due):
            wrong(OLD_GRADIENTS)
        self.earlier += turn.due
        if not same(turn.moved, turn.due):
            wrong(
                "dz is right, and the step of s is not: one step on the mean loss of the batch"
                if plain
                else ONLY_SGD.format(net="s")
            )


def _task_loss(net: nn.Module, z: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy, written out."""
    scores = net(z)
    return (scores.exp().sum(1).log() - scores[torch.arange(len(z)), labels]).mean()


def _check_message(turn: _ServerTurn) -> None:
    if [id(tensor) for tensor in turn.left] != [id(tensor) for tensor in turn.given]:
        wrong("the message has changed: the lists zs and labels hold other tensors than before")
    for given, sent in zip(turn.given, [*turn.zs, *turn.labels], strict=True):
        if given.requires_grad or given.grad is not None:
            wrong(
                "the message has changed: z now requires a gradient, and a turn that is repeated "
                "would add to it; work on z.detach()"
            )
        if given.shape != sent.shape or not torch.equal(given, sent):
            wrong("the message has changed: z or the labels are not what arrived")


def _check_memory(turn: _ServerTurn, dzs: list[Tensor]) -> None:
    taken = {_memory(tensor) for tensor in turn.given}
    for dz in dzs:
        if _memory(dz) in taken:
            wrong(
                "a dz lies in memory that it shares, with z or with another clinic's dz: its "
                "receiver reads along; give each dz memory of its own"
            )
        taken.add(_memory(dz))


def _check_statistics(net: nn.Module, whole: nn.Module) -> None:
    pairs = zip(net.buffers(), whole.buffers(), strict=True)
    if not all(same(buffer.double(), due.double()) for buffer, due in pairs):
        wrong("BatchNorm's running statistics are not those of one forward pass in training mode")


# --- 4. joint_turn ----------------------------------------------------------------------------


@check("several clinics, one step: as if all their rows had come in one batch.")
def joint_turn(answer: Answer) -> None:
    """`joint_turn(net, optimizer, zs, labels)`: one server step for several clinics' batches."""
    for normalised, optimizer in ((False, SGD), (True, SGD), (True, Adam)):
        cloud = _Cloud(functools.partial(optimizer, lr=RATE), normalised=normalised)
        for sizes in ([3, 1, 2], [2, 2], [4]):
            turn = cloud.turn(lambda zs, labels: (zs, labels), answer, sizes)
            if normalised and turn.forwards > 1:
                wrong(
                    "each clinic's z went through s by itself: BatchNorm then uses each clinic's "
                    "own mean and variance, and the batch of all rows has others"
                )
            dzs = _joint_dzs(turn)
            _check_message(turn)
            _check_memory(turn, dzs)
            cloud.check_step(turn)
            _check_statistics(cloud.net, cloud.whole)


def _joint_dzs(turn: _ServerTurn) -> list[Tensor]:
    """Return the student's list of dz, if it is right."""
    if not isinstance(turn.result, list | tuple):
        wrong(
            "joint_turn should return a list, one dz for each clinic, and returns "
            f"{what(turn.result)}"
        )
    if len(turn.result) != len(turn.zs):
        wrong(f"joint_turn returns {len(turn.result)} gradients for {len(turn.zs)} clinics")
    dzs = [
        expect_tensor(dz, f"the dz of clinic {number} of {len(turn.zs)}", z.shape)
        for number, (dz, z) in enumerate(zip(turn.result, turn.zs, strict=True), 1)
    ]
    if any(dz.requires_grad for dz in dzs):
        wrong(
            "dz still has its computation graph: through grad_fn a clinic walks into the server's "
            "network, and to the other clinics' z"
        )
    if _all_same(dzs, turn.due_dz):
        return dzs
    sizes = [len(z) for z in turn.zs]
    rows = sum(sizes)
    due = list(zip(turn.due_dz, sizes, strict=True))
    slips = {
        "the clinics' mean losses were averaged, whatever their size: a row of a small batch then "
        "counts more than a row of a large one": [
            dz * rows / (len(sizes) * size) for dz, size in due
        ],
        "each dz belongs to the mean of its own clinic's rows: the mean is over the rows of all": [
            dz * rows / size for dz, size in due
        ],
        "each dz is too large by the number of rows: it is of the sum of the losses, and the "
        "task's loss is their mean": [dz * rows for dz, _ in due],
        "z and labels were joined in different orders: each row needs its own label": list(
            _gradient(
                lambda z: _task_loss(turn.before.train(), z, torch.cat(turn.labels[::-1])),
                torch.cat(turn.zs),
            ).split(sizes)
        ),
        "s took a step for each clinic: the later ones met other weights, and their dz depend on "
        "who came first": list(_one_by_one(turn)),
    }
    for message, gradients in slips.items():
        if _all_same(dzs, gradients):
            wrong(message)
    wrong("dz is not the gradient of the mean loss over the rows of all clinics")


def _one_by_one(turn: _ServerTurn) -> Iterator[Tensor]:
    """What the clinics would receive if plain SGD took a step for each of them."""
    net = twin(turn.before).train()
    optimizer = SGD(net.parameters(), lr=RATE)
    for z, labels in zip(turn.zs, turn.labels, strict=True):
        leaf = z.clone().requires_grad_()
        optimizer.zero_grad()
        _task_loss(net, leaf, labels).backward()
        optimizer.step()
        yield leaf.grad


def _all_same(dzs: list[Tensor], others: list[Tensor]) -> bool:
    return all(same(dz, other) for dz, other in zip(dzs, others, strict=True))


# --- 5. squeeze -------------------------------------------------------------------------------


@check()
def squeeze(answer: Answer) -> Score:
    """`squeeze()`: two functions, `pack(z)` for the client and `unpack(message, shape)`."""
    return squeezing.score(answer)


# --- helpers ----------------------------------------------------------------------------------


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def _weights(net: nn.Module) -> Tensor:
    """All weights in one vector of its own."""
    return _flat([weight.detach() for weight in net.parameters()])


def _factor(a: Tensor, b: Tensor) -> float | None:
    """Return k, rounded a little, if a is k times b, and else None."""
    k = ((a * b).sum() / b.square().sum()).item()
    return round(k, 9) if k and same(a / k, b) else None


def _gradient(loss: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """The gradient of a loss with respect to z, which is left as it is."""
    leaf = z.detach().clone().requires_grad_()
    with torch.enable_grad():  # the student's code may ask from inside a no_grad
        return torch.autograd.grad(loss(leaf), leaf)[0]
