"""One turn of a malicious client (U-shaped), in parts, and the mistakes possible in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, Optimizer

from splitlab.course.checks.guard import Function, wrong
from splitlab.course.checks.judge import Exercise
from splitlab.course.checks.loss_turn import RATE
from splitlab.course.checks.sight import PLAIN

NOISE, FEATURES, CLASSES = 3, 6, 5


class Server:
    """The server of one turn. It records f's output and checks what it is sent.

    It has no attributes that the judge would look at: what it notes are the client's affairs.
    """

    __slots__ = ("a", "layers", "outputs", "sent", "z")
    a: Tensor
    z: Tensor

    def __init__(self, net: nn.Sequential, layers: nn.Module) -> None:
        self.layers = layers
        self.outputs: list[Tensor] = []  # of f
        self.sent: list[Tensor] = []  # z, then da
        net[-1].register_forward_hook(lambda *call: self.outputs.append(call[-1]))

    def forward(self, z: Tensor) -> Tensor:
        """Take z, and return a."""
        if self.sent or not self.outputs:
            wrong("server.forward is called once in a turn, after net has run: it takes z = net(x)")
        self._take("z", z, self.outputs[-1])
        memories = [output.untyped_storage().data_ptr() for output in self.outputs]
        if z.untyped_storage().data_ptr() in memories:
            wrong(
                "the z that was sent lies in the client's memory: detach alone shares it with the "
                "server, so send a copy"
            )
        self.z = z.detach().clone().requires_grad_()
        with torch.enable_grad():  # the answer may ask from inside a no_grad
            self.a = self.layers(self.z)
        return self.a.detach().clone()

    def backward(self, da: Tensor) -> Tensor:
        """Take da, and return dz."""
        if len(self.sent) != 1:
            wrong("server.backward is called once in a turn, after server.forward: it takes da")
        self._take("da", da, self.a)
        return torch.autograd.grad(self.a, self.z, da.detach())[0]

    def _take(self, name: str, sent: Any, due: Tensor) -> None:
        if type(sent) not in PLAIN or sent.shape != due.shape:
            wrong(f"what the server was sent is not {name}, a tensor of shape {tuple(due.shape)}")
        if sent.grad_fn is not None:
            wrong(
                f"{name} was sent with its computation graph, in which the server finds the "
                "client's networks: send a detached copy"
            )
        self.sent.append(sent.detach().clone())

    def received(self) -> list[Tensor]:
        """Return z and da.

        Raises:
            CheckFailed: If one was not sent, or f ran more than once.
        """
        if len(self.sent) < 2:
            wrong("a message is missing: send z with server.forward, and da with server.backward")
        if len(self.outputs) > 1:
            wrong(
                "net ran a second time in one turn, which moves BatchNorm's running statistics "
                "twice: keep z from the first run"
            )
        return self.sent


class Turn:
    """A correct turn, except for `images`, `labels` and `back`. A slip overrides one part."""

    net: nn.Module
    tail: nn.Module
    optimizer: Optimizer
    server: Server

    def take(self) -> None:
        """Let one side learn."""
        x = self.images()
        z = self.net(x)
        a = self.server.forward(z.detach().clone()).requires_grad_()
        self.clear()
        dz = self.server.backward(self.send(self.da(a)))
        self.back(x, z, self.receive(dz))
        self.step()

    def images(self) -> Tensor:
        """The images of the turn."""
        raise NotImplementedError

    def labels(self) -> Tensor:
        """Their labels."""
        raise NotImplementedError

    def clear(self) -> None:
        """Clear the gradients of the previous turn."""
        self.optimizer.zero_grad()

    def loss(self, logits: Tensor) -> Tensor:
        """The mean cross-entropy."""
        return F.cross_entropy(logits, self.labels())

    def da(self, a: Tensor) -> Tensor:
        """The gradient with respect to the server's output."""
        return torch.autograd.grad(self.loss(self.tail(a)), a)[0]

    def send(self, da: Tensor) -> Tensor:
        """The gradient that the server receives."""
        return da

    def receive(self, dz: Tensor) -> Tensor:
        """The gradient that the client follows."""
        return dz

    def back(self, x: Tensor, z: Tensor, dz: Tensor) -> None:
        """Fill the gradients."""
        raise NotImplementedError

    def step(self) -> None:
        """Take the step."""
        self.optimizer.step()


class SharedTurn(Turn):
    """A turn in which f and tail learn, without `images` and `labels`."""

    def da(self, a: Tensor) -> Tensor:
        """The gradient that the loss leaves at a, while it fills the tail's."""
        self.loss(self.tail(a)).backward()
        assert a.grad is not None
        return a.grad

    def back(self, x: Tensor, z: Tensor, dz: Tensor) -> None:
        """Fill f's gradients."""
        z.backward(dz)


def shared_slips(slip: Callable[..., Function]) -> dict[str, Function]:
    """Mistakes that are possible only in such a turn: message -> a wrong answer.

    Args:
        slip: Parts of a turn -> an answer with these parts, and right ones for the rest.
    """
    return {
        "nothing has moved: end the turn with optimizer.step(), after the gradients are there": (
            slip(step=lambda turn: None)
        ),
        "only net has moved: the tail learns from the loss itself, so call loss.backward(), and no "
        "zero_grad after it": slip(da=Turn.da),
        "only the tail has moved: net learns from dz, so start backward at the z that has its "
        "graph": slip(back=lambda turn, x, z, dz: None),
    }


def cases(
    groups: Callable[..., tuple[nn.Module, nn.Module]], arguments: Callable[..., tuple[Any, ...]]
) -> list[Callable[[], Iterator[tuple[Any, ...]]]]:
    """Make cases of several turns in a row: plain SGD; Adam; Adam, frozen layers, and no training.

    Args:
        groups: (generator, net, tail) -> the two groups of the optimizer.
        arguments: (generator, net, tail, optimizer, noise, server, number of the turn) -> what the
            function gets.
    """

    def case(make: Callable[..., Optimizer], number: int) -> Iterator[tuple[Any, ...]]:
        generator = nn.Sequential(
            *(nn.Linear(NOISE, 12), nn.Unflatten(1, (2, 2, 3)), nn.BatchNorm2d(2)),
            *(nn.ConvTranspose2d(2, 1, 2, 2), nn.Tanh()),
        )
        conv = nn.Conv2d(1, 2, 3, 2, 1, bias=False)
        net = nn.Sequential(conv, nn.BatchNorm2d(2), nn.Tanh())
        layers = nn.Sequential(nn.Flatten(), nn.Linear(12, FEATURES), nn.Softplus())
        tail = nn.Sequential(nn.Linear(FEATURES, CLASSES))
        one, other = groups(generator, net, tail)
        slower = {"params": other.parameters(), "lr": RATE / 2}
        optimizer = make([{"params": one.parameters()}, slower], lr=RATE)
        mine = {id(p) for group in optimizer.param_groups for p in group["params"]}
        for part in (generator, net, tail):
            part.train(number < 2)
            for weight in part.parameters():
                if number and id(weight) not in mine:
                    weight.grad = torch.randn_like(weight)  # of its own last turn
        if number == 2:
            generator[2].requires_grad_(False)
            net[0].requires_grad_(False)
        for turn, size in enumerate((4, 3, 1)):
            noise, server = torch.randn(size, NOISE), Server(net, layers)
            yield arguments(generator, net, tail, optimizer, noise, server, turn)

    # A large eps, for where a gradient is next to 0 Adam's step hangs on its last digits.
    adam = partial(Adam, eps=1e-3)
    return [partial(case, SGD, 0), partial(case, adam, 1), partial(case, adam, 2)]


def add_slips(
    exercise: Exercise,
    right: type[Turn],
    play: Callable[..., None],
    *,
    label: str = "",
    learner: str,
    stepping: str,
    networks: tuple[str, ...] = ("net",),
) -> None:
    """Register the mistakes that are possible in any such turn.

    Args:
        exercise: What to add them to.
        right: The right turn.
        play: (class of a turn, *arguments) takes the turn on the exercise's arguments.
        label: The name of the argument that is the label of all images, if there is one.
        learner: Whom the messages call the network that follows dz.
        stepping: What they call all that takes a step.
        networks: The arguments that are networks with BatchNorm.
    """
    optimizer = next(name for name in exercise.parameters if "optimizer" in name)

    def slip(message: str, **parts: Callable[..., Any]) -> None:
        exercise.slip(message)(lambda *given: play(type("Slip", (right,), parts), *given))

    def in_mode(part: str, mode: bool) -> Callable[[Turn], None]:
        def play_in_mode(turn: Turn) -> None:
            getattr(turn, part).train(mode)
            right.take(turn)

        return play_in_mode

    @torch.no_grad()
    def by_hand(turn: Turn) -> None:
        for group in turn.optimizer.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    weight.sub_(group["lr"] * weight.grad)

    def step_twice(turn: Turn) -> None:
        turn.optimizer.step()
        turn.optimizer.step()

    def follow(change: Callable[[Tensor], Tensor]) -> Callable[..., None]:
        return lambda turn, x, z, dz: right.back(turn, x, z, change(dz))

    # The steps come first: where only steps are compared, a slip of the loss looks like one.
    slip(
        "from the second turn on, the gradients of earlier turns are still in .grad and are added: "
        f"call {optimizer}.zero_grad() before backward",
        clear=lambda turn: None,
    )
    slip(f"{stepping} took two steps in one turn: take one", step=step_twice)
    slip(
        f"the step of {stepping} is right with plain SGD, and wrong with Adam: leave it to "
        f"{optimizer}.step()",
        step=by_hand,
    )
    slip(
        f"{learner} climbs the loss: its optimizer steps against dz, so do not negate it",
        back=follow(lambda dz: -dz),
    )
    slip(
        f"dz goes unused: {learner} follows the gradient of the sum of z, so start backward at z "
        "with dz as its gradient",
        back=follow(torch.ones_like),
    )
    slip(
        f"the step of {learner} is divided by the batch size: dz already is the gradient of the "
        "mean loss",
        back=follow(lambda dz: dz / len(dz)),
    )
    if label:
        slip(
            f"the rows are labeled 0: label all of them {label}",
            loss=lambda turn, logits: F.cross_entropy(logits, torch.zeros(len(logits)).long()),
        )
    slip(
        "da is too large by the batch size: take the mean cross-entropy, not the sum",
        loss=lambda turn, logits: len(logits) * right.loss(turn, logits),
    )
    slip(
        f"da has the wrong sign: the loss{f' with the label {label}' * bool(label)} should fall",
        loss=lambda turn, logits: -right.loss(turn, logits),
    )
    slip(
        "softmax is taken before the cross-entropy, which takes it itself: hand it the logits",
        loss=lambda turn, logits: right.loss(turn, logits.softmax(1)),
    )
    for part in networks:
        for mode, name, came in (
            (True, "training", "evaluation"),
            (False, "evaluation", "training"),
        ):
            slip(
                f"{part} came in {came} mode and ran in {name} mode, which changes what BatchNorm "
                "does: leave the mode as it is",
                take=in_mode(part, mode),
            )
