"""Exercise 3: a decoder, learned from questions about public images."""

from __future__ import annotations

import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from splitlab.course.checks.guard import wrong
from splitlab.course.checks.judge import exercise
from splitlab.course.checks.sight import what

SHAPE = (2, 4, 3)  # of images and of z alike: f and its inverse can be confused, as in life
SMALLEST = 1e-6  # standard deviation to divide by
RATE = 0.1
Limits = tuple[float, float]
Statistics = Callable[[Tensor], tuple[Tensor, Any]]


class _Client:
    """The client behind the oracle: it records the questions, and refuses all other access."""

    def __init__(self, public: Tensor) -> None:
        self._public, self._private = public.clone(), _images(6)
        self._net = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.Tanh())
        self._asked = torch.zeros(len(public), dtype=torch.int64)
        self._silent = False

    @property
    def data(self) -> Tensor:
        """The private images, which an attacker may not access.

        Raises:
            CheckFailed: Always.
        """
        return wrong(
            "ask_oracle looks at the client's own data, which the attacker does not have: use "
            "the oracle's answers alone"
        )

    def smash(self, x: Tensor) -> Tensor:
        """Answer: z of these images, with the graph that leads to the client's weights."""
        if self._silent:
            wrong("the oracle is asked again when the decoder is used: keep mean and deviation")
        if not isinstance(x, Tensor) or x.shape[1:] != self._public.shape[1:]:
            about = f"a tensor of shape {tuple(x.shape)}" if isinstance(x, Tensor) else what(x)
            wrong(f"the oracle is asked about {about}: ask about a batch of public images")
        for one in x.detach():
            (rows,) = torch.where((one == self._public).flatten(1).all(1))
            if not len(rows):
                wrong(
                    "the oracle is asked about an image that is not in public: it answers for "
                    "these images alone, exactly as they are"
                )
            self._asked[rows] += 1
        z = self._smash(x)
        if z.requires_grad:
            z.register_hook(_no_gradient)
        return z

    def _smash(self, x: Tensor) -> Tensor:
        """Features of many scales, one of which is 0 on public images."""
        z: Tensor = self._net(x)
        scale = torch.logspace(-1, 1, z[0].numel()).view(z.shape[1:])
        live = torch.ones_like(scale)
        live[0, 0, 0] = 0
        return live * scale * (z + scale.sqrt())

    def private_z(self) -> Tensor:
        """The z of private images; the number that is 0 on public images is tiny here, not 0."""
        self._silent = True
        with torch.no_grad():
            z = self._smash(self._private)
        z[:, 0, 0, 0] = torch.linspace(-3, 3, len(z)) * SMALLEST
        return z

    def review(self, public: Tensor) -> None:
        """Check the public images, and the questions about them.

        Raises:
            CheckFailed: If they have changed, or it was too much, or too little.
        """
        if not torch.equal(public, self._public):
            wrong("the public images have changed: they are the target, and only to be read")
        most = int(self._asked.max())
        if not most:
            wrong("the oracle was not asked: without its answers there is nothing to learn from")
        if most > 1:
            wrong(
                f"the oracle was asked {most} times about one image: its answer does not change, "
                "and each question is one that the client can notice, so ask once and keep z"
            )
        if not self._asked.all():
            wrong(
                "not all public images were asked about: the mean and the standard deviation are "
                "those of all of them"
            )


def _no_gradient(_: Tensor) -> None:
    wrong(
        "a gradient has run through z into the client's weights: this oracle's answers come with a "
        "graph, so detach them"
    )


def _images(count: int) -> Tensor:
    return 3 * torch.rand(count, *SHAPE) - 1


def _case(
    make: Callable[..., Optimizer], count: int, sizes: tuple[int, ...], limits: Limits
) -> Callable[[], tuple[Any, ...]]:
    """One attack. A row may be in a batch twice, and one parameter of the decoder is frozen."""

    def case() -> tuple[Any, ...]:
        public = _images(count)
        first, last = nn.Conv2d(2, 3, 3, padding=1, bias=False), nn.Conv2d(3, 2, 1)
        decoder = nn.Sequential(first, norm := nn.BatchNorm2d(3), nn.Tanh(), last).eval()
        last.weight.data *= 5  # its images leave the limits, and [-1, 1] as well
        norm.bias.requires_grad_(False)
        optimizer = make([{"params": [*first.parameters(), *norm.parameters()]}, *_group(last)])
        batches = [torch.randint(count, (size,)) for size in sizes]
        return _Client(public).smash, public, decoder, optimizer, batches, limits

    return case


def _group(net: nn.Module) -> list[dict[str, Any]]:
    return [{"params": net.parameters()}]


def _use(decode: Any, oracle: Any, public: Tensor, decoder: nn.Module, *_: Any) -> list[Any]:
    """Decode private z, several and a single one, and check for side effects.

    Raises:
        CheckFailed: If anything was that should not.
    """
    client: _Client = oracle.__self__
    client.review(public)
    if not callable(decode):
        wrong(
            f"ask_oracle returns {what(decode)}: return a function z -> images, which normalizes "
            "z, decodes it, and brings the images into limits"
        )
    z = client.private_z()
    given = z.clone()
    results = [decode(given)]
    if not torch.equal(given, z):
        wrong("z has changed at use: it is what was received, so write z - mean, not z -= mean")
    decode(z.flip(0))  # another call must not change the first one's result
    results.append(decode(z[:1]))
    with ThreadPoolExecutor(1) as another:  # an answer's own thread may not search memory
        if another.submit(_reaches, decode, client).result():
            wrong(
                "the returned function keeps the oracle, and with it the client and its images: "
                "let it keep only the decoder, the mean and the standard deviation"
            )
    decoder.eval()  # at use it may have been there for each call alone
    return results


def _reaches(function: Any, goal: Any) -> bool:
    """Whether a function keeps an object, directly or indirectly, except in modules' globals."""
    seen: set[int] = set()
    found = [function]
    while found:
        one = found.pop()
        if one is goal:
            return True
        shared = isinstance(one, dict) and not {"__builtins__", "__spec__"}.isdisjoint(one)
        if id(one) not in seen and not shared and not isinstance(one, ModuleType | type):
            seen.add(id(one))
            found += gc.get_referents(one)
    return False


def _statistics(z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each number of z, over the images; torch warns of only one."""
    deviations = z - z.mean(0)
    return z.mean(0), (deviations.square().sum(0) / (len(z) - 1)).sqrt().clamp(min=SMALLEST)


def _square(guess: Tensor, x: Tensor) -> Tensor:
    return (guess - x).square().mean()


def _by_hand(optimizer: Optimizer) -> Optimizer:
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    return SGD(weights, lr=optimizer.param_groups[0]["lr"])


def _with(
    statistics: Statistics = _statistics,
    loss: Callable[[Tensor, Tensor], Tensor] = _square,
    *,
    at_use: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Any]] = lambda z, mean, std: (
        mean,
        std,
    ),
    each_batch: bool = False,
    swapped: bool = False,
    added_up: bool = False,
    training: bool = True,
    trained_at_use: bool = False,
    limits: Limits | None = None,
    steps: Callable[[list[Tensor]], list[Tensor]] = lambda batches: batches,
    rows_of: Callable[[Tensor, Tensor], Tensor] = lambda rows, public: rows,
    targets_of: Callable[[Tensor], Tensor] = lambda rows: rows,
    optimizer_of: Callable[[Optimizer], Optimizer] = lambda optimizer: optimizer,
) -> Callable[..., Callable[[Tensor], Tensor]]:
    """An answer that trains or decodes otherwise.

    Args:
        statistics: Of z over the public images.
        loss: Of what is decoded and what is true.
        at_use: (z, mean, std) -> the statistics by which a private z is normalized.
        each_batch: Whether they are those of each batch, and at use those of the last one.
        swapped: Whether images go in, and z is the target.
        added_up: Whether gradients are never cleared.
        training: Whether the decoder is trained in training mode.
        trained_at_use: Whether it is in training mode at use.
        limits: Another range.
        steps: The batches that are taken.
        rows_of: (rows, public) -> the rows that a step takes.
        targets_of: The rows that these are compared with.
        optimizer_of: What takes the steps.
    """

    def answer(
        oracle: Callable[[Tensor], Tensor],
        public: Tensor,
        decoder: nn.Module,
        optimizer: Optimizer,
        batches: list[Tensor],
        given: Limits,
    ) -> Callable[[Tensor], Tensor]:
        answers = oracle(public).detach()
        mean, std = statistics(answers)
        optimizer = optimizer_of(optimizer)
        decoder.train(training)
        for rows in steps(batches):
            rows = rows_of(rows, public)
            z, x = answers[rows], public[targets_of(rows)]
            if each_batch:
                mean, std = statistics(z)
            z = (z - mean) / std
            if not added_up:
                optimizer.zero_grad()
            (loss(decoder(x), z) if swapped else loss(decoder(z), x)).backward()
            optimizer.step()
        low, high = limits or given

        def decode(z: Tensor) -> Tensor:
            by = at_use(z, mean, std)
            with torch.no_grad():
                images: Tensor = decoder.train(trained_at_use)((z - by[0]) / by[1])
            return images.clamp(low, high)

        return decode

    return answer


@exercise(
    cases=[
        _case(partial(SGD, lr=RATE), 11, (4, 4, 3, 5, 4), (-1.2, 1.6)),
        _case(partial(SGD, lr=RATE, momentum=0.5), 7, (3, 4, 2), (0.1, 0.8)),
        _case(partial(Adam, lr=RATE), 11, (4, 3), (-3.0, -0.2)),
        _case(partial(SGD, lr=RATE), 2, (2, 1), (1.0, 3.0)),
    ],
    returns=("the result for several z", "the result for a single z"),
    use=_use,
    praise="one question for each public image, and a decoder that no longer needs the oracle.",
    otherwise="z is not decoded as asked: train with one step for each entry of batches, on the "
    "mean squared error between the images of these rows and what the decoder makes "
    "of their normalized z; at use, subtract the public mean from z, divide by the "
    "public standard deviation, decode in evaluation mode, and bring the images into "
    "limits",
    slips={
        "z is not normalized: some of its numbers are a hundred times as large as others, so "
        "subtract each number's mean and divide by its standard deviation": _with(
            lambda z: (torch.zeros_like(z[0]), 1.0)
        ),
        "the mean of z is subtracted, but z is not divided by its standard deviation": _with(
            lambda z: (z.mean(0), 1.0)
        ),
        "z is divided by its standard deviation, but its mean is not subtracted": _with(
            lambda z: (torch.zeros_like(z[0]), _statistics(z)[1])
        ),
        "z is divided by its variance: divide by the root of it, the standard deviation": _with(
            lambda z: (z.mean(0), z.var(0).clamp(min=SMALLEST))
        ),
        "all of z has one mean and one standard deviation: its numbers differ widely in size, "
        "so let each have its own, over the images, dim=0": _with(lambda z: (z.mean(), z.std())),
        "each channel of z has one mean and one standard deviation: let each number have its own, "
        "over the images, dim=0": _with(
            lambda z: (z.mean((0, 2, 3), keepdim=True), z.std((0, 2, 3), keepdim=True))
        ),
        "the squares are divided by N in the standard deviation: take torch's std as it is": _with(
            lambda z: (z.mean(0), z.std(0, correction=0).clamp(min=SMALLEST))
        ),
        f"{SMALLEST:g} is added to every standard deviation: use it only in place of smaller ones, "
        "as clamp(min=...) does": _with(lambda z: (z.mean(0), z.std(0) + SMALLEST)),
        "the decoder's weights are not finite: a number of z that is the same for all public "
        f"images has the standard deviation 0, so divide by {SMALLEST:g} where it is smaller than "
        "that": _with(lambda z: (z.mean(0), z.std(0))),
        "each batch is normalized by its own mean and standard deviation: a single private z will "
        "have none, so take those of all public images": _with(each_batch=True),
        "the decoder learns to turn images into z: z goes in, and the image is the target": _with(
            swapped=True
        ),
        "the decoder climbs its loss: it has the wrong sign": _with(
            loss=lambda guess, x: -_square(guess, x)
        ),
        "the squared errors are summed: take their mean": _with(
            loss=lambda guess, x: (guess - x).square().sum()
        ),
        "the absolute error is used: take the squared error": _with(
            loss=lambda guess, x: (guess - x).abs().mean()
        ),
        "the gradients of earlier steps are still in .grad and are added: call zero_grad": _with(
            added_up=True
        ),
        "the decoder was trained in evaluation mode: call decoder.train() before the steps": _with(
            training=False
        ),
        "the decoder has not moved: at each step zero_grad, backward, step": _with(
            steps=lambda batches: []
        ),
        "a step is missing: one for each entry of batches": _with(
            steps=lambda batches: batches[:-1]
        ),
        "every step takes all public images: take the rows of its batch": _with(
            rows_of=lambda rows, public: torch.arange(len(public))
        ),
        "every step takes the first rows of public: take the rows that batches names": _with(
            rows_of=lambda rows, public: torch.arange(len(rows))
        ),
        "every step takes the first batch": _with(steps=lambda batches: batches[:1] * len(batches)),
        "rows are counted from 1: an index starts at 0": _with(
            rows_of=lambda rows, public: rows - 1
        ),
        "a row that is in a batch twice counts once: take the rows as they come": _with(
            rows_of=lambda rows, public: rows.unique()
        ),
        "z and images come from different rows: the decoder gets one image's z and is asked for "
        "another image": _with(targets_of=lambda rows: torch.arange(len(rows))),
        "with plain SGD the decoder moves as it should, and with another optimizer it does not: "
        "leave the step to optimizer.step()": _with(optimizer_of=_by_hand),
        "z is normalized in training and not at use: the decoder has learned from normalized z, so "
        "take the same mean and standard deviation there": _with(
            at_use=lambda z, mean, std: (torch.zeros_like(mean), 1.0)
        ),
        "at use, the mean of z is not subtracted": _with(
            at_use=lambda z, mean, std: (torch.zeros_like(mean), std)
        ),
        "at use, z is not divided by its standard deviation": _with(
            at_use=lambda z, mean, std: (mean, 1.0)
        ),
        "at use, z is normalized by its own mean and standard deviation: what an image is decoded "
        "to must not depend on which others have arrived, so take those of the public images": (
            _with(at_use=lambda z, mean, std: _statistics(z))
        ),
        "the decoder is in training mode at use: its BatchNorm uses the statistics of the batch "
        "that arrives, so call decoder.eval() when the training is over": _with(
            trained_at_use=True
        ),
        "the images leave their range: bring them into limits": _with(
            limits=(-torch.inf, torch.inf)
        ),
        "the images are kept between -1 and 1, whatever limits say": _with(limits=(-1, 1)),
        "the images are kept between 0 and 1, whatever limits say": _with(limits=(0, 1)),
    }
    | {
        f"a number of z that is constant on public images is divided by about {other:g}: take "
        f"{SMALLEST:g} where the standard deviation is smaller than that": _with(
            lambda z, other=other: (z.mean(0), z.std(0).masked_fill(z.std(0) == 0, other))  # type: ignore[misc]
        )
        for other in (1e-12, 1e-8, 1e-5, 1.0)
    },
)
def ask_oracle(
    oracle: Callable[[Tensor], Tensor],
    public: Tensor,
    decoder: nn.Module,
    optimizer: Optimizer,
    batches: list[Tensor],
    limits: Limits,
) -> Callable[[Tensor], Tensor]:
    return _with()(oracle, public, decoder, optimizer, batches, limits)
