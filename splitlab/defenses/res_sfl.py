"""ResSFL: f starts from weights that were trained against an inversion network.

Li, Rakin, Chen, He, Fan, Chakrabarti: "ResSFL: A Resistance Transfer Framework for Defending Model
Inversion Attack in Split Federated Learning", CVPR 2022, arXiv 2205.04007.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from splitlab.arguments import count, number
from splitlab.arguments import seed as whole
from splitlab.core.client import Defense, Turn
from splitlab.core.randomness import RandomState, Sampler
from splitlab.data import ImageData
from splitlab.nets.blocks import upsampling_decoder
from splitlab.nets.evaluation import evaluating

if TYPE_CHECKING:
    from splitlab.core.client import Client

HIDDEN = 64  # units of the task head
DECODER_STEPS = 2  # a decoder that lags behind f is easy to fool


class ResSFL(Defense):
    """Train f against a decoder before split training begins, with a bottleneck at the cut.

    When the client is made, two parties play against each other on the client's own images:

    - a decoder minimizes the mean squared error of the images that it makes of z;
    - f and a task head minimize the cross-entropy of the labels plus `weight` times
      relu(`limit` - error), where error is the decoder's mean squared error divided by the images'
      variance. It is 1 for a decoder that returns the mean image. Beyond `limit` nothing is gained.

    Decoder and head are then given up, unless `keep` is above 0. What remains is f, from which the
    client trains as usual, at its optimizer's own rate. That training can undo the resistance; the
    paper lowers the rate, and `keep` goes on with the second term.

    Differences from the paper: its term is a hinge on the structural similarity (SSIM), above 0.5;
    its expert trains on other data, once, for all clients, where here each client prepares its own
    f. Where weights travel, one client's preparation replaces another's, or all are averaged. The
    decoder sees z centered by the batch's mean and divided by one standard deviation, so that f
    gains nothing by a small z. Other defenses take no part in the preparation.

    Args:
        weight: Of the decoder's error, at least 0. At 0 f is prepared for the task alone.
        bottleneck: Channels k, from 1 to those of z: 1x1 convolutions C -> k -> C, without an
            activation between them, are appended to `client.net`. z keeps its shape (C, H, W), and
            at each of its places lies in a k-dimensional space. The client's optimizer gets their
            parameters as a group with its default settings. None for no bottleneck.
        limit: The error up to which f is pushed, divided by the images' variance; above 0.
        keep: The weight of the same term in split training, at least 0. Then the decoder takes its
            steps in every turn.
        steps: Of the preparation, at least 0. In each of them the decoder takes two.
        rate: Adam's learning rate, of decoder, f and head, above 0.
        seed: Seeds decoder, head, bottleneck, the batches and Dropout.

    Raises:
        ValueError: If a number is out of range or not finite. When the client is made: if its data
            are no images with labels, z does not fit, or its optimizer leaves out weights of f.
    """

    def __init__(
        self,
        weight: float,
        *,
        bottleneck: int | None = None,
        limit: float = 1.0,
        keep: float = 0.0,
        steps: int = 200,
        rate: float = 2e-3,
        seed: int = 0,
    ) -> None:
        self.weight, self.keep = number("weight", weight), number("keep", keep)
        self.limit = number("limit", limit, above=True)
        self.rate = number("rate", rate, above=True)
        self.steps = count("steps", steps, least=0)
        self.bottleneck = None if bottleneck is None else count("bottleneck", bottleneck, least=1)
        self.seed = whole(seed)
        self.variance = 1.0
        self.decoder: nn.Module | None = None
        self.optimizer: Optimizer | None = None

    def __repr__(self) -> str:
        k = "" if self.bottleneck is None else f", bottleneck {self.bottleneck}"
        return f"ResSFL({self.weight:g}{k}{f', keep {self.keep:g}' if self.keep else ''})"

    def prepare(self, client: Client) -> None:
        """Append the bottleneck and train f against a decoder.

        Raises:
            ValueError: If the client does not fit. It is then as it was.
        """
        randomness = RandomState("ResSFL", self.seed, client.device)
        with randomness.lent():
            z = self._checked(client)
            x, y = client.data.x, client.data.y
            self.variance = float((x - x.mean(0)).square().mean())
            self.decoder = _decoder(z, x, seed=self.seed).to(z)
            self.optimizer = Adam(self.decoder.parameters(), lr=self.rate)
            if self.bottleneck is not None:
                c, k = z.shape[1], self.bottleneck
                narrow = nn.Sequential(nn.Conv2d(c, k, 1), nn.Conv2d(k, c, 1)).to(z)
                client.net = nn.Sequential(client.net, narrow)
                client.optimizer.add_param_group({"params": list(narrow.parameters())})
            head = nn.Sequential(
                *(nn.ReLU(), nn.Flatten(), nn.Linear(z[0].numel(), HIDDEN)),
                *(nn.ReLU(), nn.Linear(HIDDEN, len(client.data.classes))),
            ).to(z)
            self._train(client, head, x, y)
        if self.keep == 0:
            self.decoder = self.optimizer = None

    def local_loss(self, client: Client, turn: Turn) -> Tensor | None:
        """Return the decoder's term, weighted by `keep`, after the decoder's steps; else None."""
        if self.decoder is None:
            return None
        assert turn.z is not None
        self._decoder_steps(turn.z.detach(), turn.x)
        term: Tensor = self.keep * self._hinge(turn.z, turn.x)
        return term

    def grads(self, client: Client, turn: Turn) -> None:
        """Discard the decoder's gradients of the client's loss, which must not train it."""
        if self.optimizer is not None:
            self.optimizer.zero_grad()

    def _train(self, client: Client, head: nn.Module, x: Tensor, y: Tensor) -> None:
        """Train f against the decoder, before split training."""
        net, size = client.net, client.sampler.batch_size
        learned = [*net.parameters(), *head.parameters()]
        optimizer = Adam([one for one in learned if one.requires_grad], lr=self.rate)
        batches = Sampler(len(x), size, owner="ResSFL", seed=self.seed)
        net.train()
        for _ in range(self.steps):
            rows = batches.next().to(x.device)
            z = net(x[rows])
            self._decoder_steps(z.detach(), x[rows])
            task = nn.functional.cross_entropy(head(z), y[rows])
            optimizer.zero_grad()
            (task + self.weight * self._hinge(z, x[rows])).backward()
            optimizer.step()
        optimizer.zero_grad()  # the client's optimizer is to find none of these gradients

    def _decoder_steps(self, z: Tensor, x: Tensor) -> None:
        """Train the decoder on these pairs."""
        assert self.optimizer is not None
        for _ in range(DECODER_STEPS):
            self.optimizer.zero_grad()
            self._error(z, x).backward()
            self.optimizer.step()

    def _hinge(self, z: Tensor, x: Tensor) -> Tensor:
        """Return how far the decoder's error is below the limit; 0 above it."""
        return (self.limit - self._error(z, x)).relu()

    def _error(self, z: Tensor, x: Tensor) -> Tensor:
        """Return the decoder's squared error on standardized z, divided by the images' variance."""
        assert self.decoder is not None
        centered = z - z.mean(0)
        standardized = centered / centered.square().mean().add(1e-12).sqrt()
        error: Tensor = nn.functional.mse_loss(self.decoder(standardized), x) / self.variance
        return error

    def _checked(self, client: Client) -> Tensor:
        """Return the z of one image, (1, ...), or raise a ValueError; changes nothing."""
        x, classes = client.data.x, len(client.data.classes)
        if x.ndim != 4 or not x.is_floating_point():
            raise ValueError(
                f"ResSFL trains a decoder of images, and one row of {client.data.name} is "
                f"{tuple(x.shape[1:])} of {x.dtype}: give {client.name} images (C, H, W)"
            )
        if classes < 2:
            raise ValueError(
                f"ResSFL trains f for a task, and {client.data.name} has the one class "
                f"{client.data.classes[0]!r}: give {client.name} images with labels"
            )
        if bool((x == x[:1]).all()):
            raise ValueError(
                f"all images of {client.data.name} are equal, so a decoder has nothing to learn: "
                f"give {client.name} different images"
            )
        trained = {id(w) for group in client.optimizer.param_groups for w in group["params"]}
        learned = {n: w for n, w in client.net.named_parameters() if w.requires_grad}
        left = [name for name, weight in learned.items() if id(weight) not in trained]
        if left or not learned:
            what = f"leaves out {left[0]}" if left else "has no weight of f to train"
            raise ValueError(
                f"ResSFL prepares f for the training, and {client.name}'s optimizer {what}: "
                "make the client with an optimizer of all of f's parameters"
            )
        with evaluating(client.net):
            z: Tensor = client.net(x[:1])
        k = self.bottleneck
        if k is not None and (z.ndim != 4 or k > z.shape[1]):
            raise ValueError(
                f"bottleneck is {k} and one z has the shape {tuple(z.shape[1:])}: choose at most "
                "as many channels as a z of (C, H, W) has, or None"
            )
        _decoder(z, x, seed=self.seed)  # raises an error if none fits
        return z.to(torch.promote_types(z.dtype, torch.float32))

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example with a bottleneck, which also acts during training."""
        return cls(1.0, bottleneck=4, keep=1.0, steps=2)


def _decoder(z: Tensor, x: Tensor, *, seed: int) -> nn.Module:
    """Return an untrained decoder of z (B, ...) for images (N, C, H, W).

    Raises:
        ValueError: If none fits.
    """
    shape, (channels, height, width) = tuple(z.shape[1:]), x.shape[1:]
    if len(shape) not in (1, 3) or any(a > b for a, b in zip(shape[1:], x.shape[2:], strict=False)):
        raise ValueError(
            f"ResSFL has no decoder from a z of {shape} to images of {height}x{width}: make f "
            "return a z of (D,), or of (C, H, W) no larger than the images"
        )
    return upsampling_decoder(shape, (channels, height, width), seed=seed)
