"""Exercise 3: a decoder, learned from questions about public images."""

from __future__ import annotations

import functools
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from splitlab.course.checks.base import (
    Answer,
    check,
    expect_right,
    expect_tensor,
    same,
    twin,
    what,
    wrong,
)
from splitlab.course.checks.training import ONLY_SGD, RATE, check_statistics, weights
from splitlab.course.checks.what_the_cut_leaks.oracle_client import (
    SHAPE,
    SMALLEST,
    OracleClient,
    random_images,
)

PUBLIC = 11
LIMITS = (-1.2, 1.6)  # a decoder that has learned little leaves them, and [-1, 1] as well

Statistics = Callable[[Tensor], tuple[Tensor, Tensor]]


@check("one question for each public image, and a decoder that no longer needs the oracle.")
def ask_oracle(answer: Answer) -> None:
    """`ask_oracle(oracle, public, decoder, optimizer, batches, limits)`: z -> images."""
    for make in (SGD, Adam):
        batches = [torch.randperm(PUBLIC)[:size] for size in (4, 4, 3, 5, 4)]
        attack = _Attack(functools.partial(make, lr=RATE), batches)
        decode = attack.train(answer)
        attack.check_training()
        attack.check_use(decode)


def _standard(z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each number of z, over the images."""
    return z.mean(0), z.std(0).clamp(min=SMALLEST)


class _Attack:
    """One attack: a client, public images, and a decoder that has learned nothing yet.

    Args:
        optimizer: Makes the decoder's optimizer.
        batches: The rows of each step's batch, int64, (B,).
    """

    def __init__(self, optimizer: Callable[..., Optimizer], batches: list[Tensor]) -> None:
        self.public, self.batches, self.make = random_images(PUBLIC), batches, optimizer
        self.client = OracleClient(self.public)
        self.decoder = nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=1, bias=False),
            nn.BatchNorm2d(3),
            nn.Tanh(),
            nn.Conv2d(3, 2, 1),
        ).double()
        with torch.no_grad():
            self.decoder[-1].weight.mul_(5)
        self.untrained = twin(self.decoder)
        self.optimizer = optimizer(self.decoder.parameters())
        self.z = self.client.public_z()

    # --- the truth, and its variants ---

    def by_the_book(
        self,
        *,
        statistics: Statistics = _standard,
        each_batch: bool = False,
        swapped: bool = False,
        loss: Callable[[Tensor], Tensor] = lambda error: error.square().mean(),
        added_up: bool = False,
        steps: int | None = None,
        rows: Callable[[int, Tensor], Tensor] = lambda number, rows: rows,
        targets: Callable[[Tensor], Tensor] = lambda rows: rows,
        training: bool = True,
    ) -> nn.Module:
        """Train a decoder as it should be, or as a slip would.

        Args:
            statistics: Of z over the public images.
            each_batch: Whether they are those of each batch.
            swapped: Whether images go in, and z is the target.
            loss: Of (decoded - true).
            added_up: Whether gradients are never cleared.
            steps: How many steps; all of them by default.
            rows: Which images are decoded, from the number of the step and its rows.
            targets: Which images they are compared with, from the rows.
            training: Whether the decoder is in training mode.
        """
        decoder = twin(self.untrained).train(training)
        optimizer = self.make(decoder.parameters())
        mean, std = statistics(self.z)
        for number, batch in enumerate(self.batches[:steps]):
            z, x = self.z[rows(number, batch)], self.public[targets(rows(number, batch))]
            if each_batch:
                mean, std = statistics(z)
            z = (z - mean) / std
            error = decoder(x) - z if swapped else decoder(z) - x
            if not added_up:
                optimizer.zero_grad()
            loss(error).backward()
            optimizer.step()
        return decoder

    def train(self, answer: Answer) -> Answer:
        """Let the student's function train, and return the function that it returns.

        Raises:
            CheckFailed: If it asks what it may not, or leaves traces.
        """
        self.decoder.eval()  # as another use of it may have left it
        public, batches = self.public.clone(), [rows.clone() for rows in self.batches]
        decode = answer(self.client.smash, public, self.decoder, self.optimizer, batches, LIMITS)
        if not torch.equal(public, self.public) or public.requires_grad:
            wrong("the public images have changed: they are the target, and only to be read")
        if not self.client.asked.any():
            wrong("the oracle was not asked: without its answers there is nothing to learn from")
        if any(p.grad is not None for p in self.client.net.parameters()):
            wrong(
                "a gradient has run through z into the client's weights: this oracle's answers "
                "come with a graph, so detach them"
            )
        most = int(self.client.asked.max())
        if most > 1:
            wrong(
                f"the oracle was asked {most} times about one image: its answer does not change, "
                "and each question is one that the client can notice, so ask once and keep z"
            )
        if not self.client.asked.all():
            wrong(
                "not all public images were asked about: the mean and the standard deviation are "
                "those of all of them"
            )
        if not callable(decode):
            wrong(
                f"ask_oracle returns {what(decode)}: return a function z -> images, which "
                "normalizes z, decodes it, and brings the images into limits"
            )
        return Answer(decode, "the function that ask_oracle returns")

    def check_training(self) -> None:
        """Compare the decoder with one that was trained by the book, and name the slip."""
        if not weights(self.decoder).isfinite().all():
            wrong(
                "the decoder's weights are not finite: a number of z that is the same for all "
                f"public images has the standard deviation 0, so divide by {SMALLEST:g} where it "
                "is smaller than that"
            )
        right = self.by_the_book()
        if same(weights(self.decoder), weights(right)):
            check_statistics(self.decoder, right)
            return
        if not (weights(self.decoder) - weights(self.untrained)).any():
            wrong("the decoder has not moved: at each step zero_grad, backward, step")
        for message, variant in self._mistakes():
            if same(weights(self.decoder), weights(variant())):
                wrong(message)
        wrong(
            ONLY_SGD.format(net="the decoder")
            if self.make.func is Adam
            else "the decoder was not trained as asked: one step for each entry of batches, on the "
            "mean squared error between the images of these rows and what the decoder makes of "
            "their normalized z"
        )

    def _mistakes(self) -> Iterator[tuple[str, Callable[[], nn.Module]]]:
        """Yield (message, the training that this slip gives)."""

        def of(**variant: Any) -> Callable[[], nn.Module]:
            return functools.partial(self.by_the_book, **variant)

        def raw(z: Tensor) -> tuple[Tensor, Tensor]:
            return torch.zeros_like(z[0]), torch.ones_like(z[0])

        yield (
            "z went into the decoder as it came: some of its numbers are a hundred times as large "
            "as others, so take each less its mean, over its standard deviation",
            of(statistics=raw),
        )
        yield (
            "z is taken less its mean, and not divided by its standard deviation",
            of(statistics=lambda z: (z.mean(0), torch.ones_like(z[0]))),
        )
        yield (
            "z is divided by its standard deviation, and not taken less its mean",
            of(statistics=lambda z: (torch.zeros_like(z[0]), _standard(z)[1])),
        )
        yield (
            "z is divided by its variance: divide by the root of it, the standard deviation",
            of(statistics=lambda z: (z.mean(0), z.var(0).clamp(min=SMALLEST))),
        )
        yield (
            "all of z has one mean and one standard deviation: its numbers are of very unlike "
            "size, so let each have its own, over the images, dim=0",
            of(statistics=lambda z: (z.mean(), z.std())),
        )
        yield (
            "each channel of z has one mean and one standard deviation: let each number have its "
            "own, over the images, dim=0",
            of(
                statistics=lambda z: (
                    z.mean((0, 2, 3), keepdim=True)[0],
                    z.std((0, 2, 3), keepdim=True)[0],
                )
            ),
        )
        yield (
            "the squares are divided by N in the standard deviation: take torch's std as it is",
            of(statistics=lambda z: (z.mean(0), z.std(0, correction=0).clamp(min=SMALLEST))),
        )
        yield (
            f"{SMALLEST:g} is added to every standard deviation: it only stands in for smaller "
            "ones, as clamp(min=...) has it",
            of(statistics=lambda z: (z.mean(0), z.std(0) + SMALLEST)),
        )
        yield (
            "each batch is normalized by its own mean and standard deviation: a single private z "
            "will have none, so take those of all public images",
            of(each_batch=True),
        )
        for statistics in (_standard, raw):
            yield (
                "the decoder learns to turn images into z: z goes in, and the image is the target",
                of(swapped=True, statistics=statistics),
            )
        yield (
            "the decoder climbs its loss: it has the wrong sign",
            of(loss=lambda error: -error.square().mean()),
        )
        yield (
            "the squared errors are summed: take their mean",
            of(loss=lambda error: error.square().sum()),
        )
        yield (
            "the absolute error stands where the squared one is wanted",
            of(loss=lambda error: error.abs().mean()),
        )
        yield (
            "the gradients of earlier steps are still in .grad and are added: call zero_grad",
            of(added_up=True),
        )
        yield (
            "the decoder was trained in evaluation mode: call decoder.train() before the steps",
            of(training=False),
        )
        yield "a step is missing: one for each entry of batches", of(steps=-1)
        yield (
            "every step takes all public images: take the rows of its batch",
            of(rows=lambda number, rows: torch.arange(PUBLIC)),
        )
        yield (
            "every step takes the first rows of public: take the rows that batches names",
            of(rows=lambda number, rows: torch.arange(len(rows))),
        )
        yield (
            "every step takes the first batch",
            of(rows=lambda number, rows: self.batches[0]),
        )
        yield (
            "z and images are not of the same rows: the decoder is shown one image's z, and asked "
            "for another image",
            of(targets=lambda rows: torch.arange(len(rows))),
        )

    # --- the decoder at use ---

    def check_use(self, decode: Answer) -> None:
        """Decode private z, and see what is done besides.

        Raises:
            CheckFailed: If the images are not right, or the oracle is still needed, or kept.
        """
        z = self.client.private_z()
        self.client.trained = True
        given = z.clone()
        images = expect_tensor(decode(given), "what the decoder returns", (len(z), *SHAPE))
        if not torch.equal(given, z):
            wrong("z has changed at use: it is what was received, so write z - mean, not z -= mean")
        if images.requires_grad:
            wrong("the decoded images carry a computation graph: they are a result, so use no_grad")
        expect_right([images], [(z,)], self._decoded(), self._use_mistakes(), _AT_USE)
        one = expect_tensor(decode(z[:1].clone()), "what the decoder returns", (1, *SHAPE))
        if not same(one, images[:1]):
            wrong(
                "a single z is decoded to another image than in a batch: nothing of the others "
                "may count"
            )
        self._check_kept()

    def _decoded(
        self,
        mean: Tensor | None = None,
        std: Tensor | None = None,
        *,
        limits: tuple[float, float] = LIMITS,
        training: bool = False,
    ) -> Callable[[Tensor], Tensor]:
        """What the trained decoder makes of z, or what a slip at use makes of it."""
        decoder, (usual, unit) = twin(self.decoder).train(training), _standard(self.z)
        mean, std = usual if mean is None else mean, unit if std is None else std

        def decode(z: Tensor) -> Tensor:
            with torch.no_grad():
                return decoder((z - mean) / std).clamp(*limits)

        return decode

    def _use_mistakes(self) -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
        """Yield (message, what this slip at use gives)."""
        nothing, one = torch.zeros_like(self.z[0]), torch.ones_like(self.z[0])
        yield (
            "z is normalized in training and not at use: the decoder has learned from normalized "
            "z, so take the same mean and standard deviation there",
            self._decoded(nothing, one),
        )
        yield (
            "at use, z is not taken less its mean",
            self._decoded(nothing),
        )
        yield (
            "at use, z is not divided by its standard deviation",
            self._decoded(None, one),
        )
        for correction in (0, 1):
            yield (
                "at use, z is normalized by its own mean and standard deviation: what an image is "
                "decoded to must not depend on which others have arrived, so take those of the "
                "public images",
                lambda z, c=correction: self._decoded(
                    z.mean(0), z.std(0, correction=c).clamp(min=SMALLEST)
                )(z),
            )
        yield (
            "the decoder is in training mode at use: its BatchNorm goes by the batch that has "
            "arrived, so call decoder.eval() when the training is over",
            self._decoded(training=True),
        )
        yield (
            "the images leave their range: bring them into limits",
            self._decoded(limits=(-torch.inf, torch.inf)),
        )
        for low, high in ((-1.0, 1.0), (0.0, 1.0)):
            yield (
                f"the images are kept between {low:g} and {high:g}, whatever limits say",
                self._decoded(limits=(low, high)),
            )
        for other in (1e-12, 1e-10, 1e-8, 1e-7, 1e-5, 1e-4, 1e-3, 1e-2, 1.0):
            yield (
                f"a number of z that does not vary on public images is divided by {other:g}: take "
                f"{SMALLEST:g} where the standard deviation is smaller than that",
                self._decoded(None, _standard(self.z)[1].masked_fill(self.z.std(0) == 0, other)),
            )

    def _check_kept(self) -> None:
        """See that nothing holds the oracle any more, while the decoder is still in use."""
        held = weakref.ref(self.client)
        del self.client
        gc.collect()
        if held() is not None:
            wrong(
                "the oracle is kept after the training: whoever holds it holds the client and its "
                "images; let the decoder keep two tensors, mean and standard deviation"
            )


_AT_USE = (
    "the training is right, and its use is not: take z less the public mean, over the public "
    "standard deviation, decode it in evaluation mode, and bring the images into limits"
)
