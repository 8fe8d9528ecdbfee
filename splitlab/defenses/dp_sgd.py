"""DP-SGD at the client: each image's gradient is clipped, and noise is added to their sum.

Abadi, Chu, Goodfellow, McMahan, Mironov, Talwar, Zhang: "Deep Learning with Differential Privacy",
CCS 2016, arXiv 1607.00133. The gradients per image and the accountant are those of opacus.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from splitlab.arguments import chance, count, flag, number
from splitlab.core.client import Defense, Turn
from splitlab.data import ImageData
from splitlab.defenses.norms import ClipGradient, SetNorm
from splitlab.defenses.per_image import (
    check_layers,
    clipped_sums,
    hook,
    learned,
    opacus,
    unhook,
    without_batch_norm,
)
from splitlab.nets.evaluation import duplicate

if TYPE_CHECKING:
    from splitlab.core.client import Client


class DPSGD(Defense):
    """Clip the gradient of each image, add noise to their sum, and count the steps.

    In a batch of any size, image i has the gradient of <f(x_i), dz_i> with respect to all weights
    of f, times the number of rows, since the server sends the gradient of a mean. Each of them is
    clipped to the norm `clip`. Normal noise of standard deviation noise * clip is added to every
    number of their sum, and the sum is divided by the expected batch size. The client's own
    optimizer takes the step.

    With `poisson`, every image is in a batch with probability batch_size / len(data), independently
    of all others, so that batches differ in size. Where no image is drawn, the step is taken with
    noise alone, nothing is sent, and the next batch is drawn.

    What `epsilon()` bounds:

    - of what: the sequence of f's weights, after every step;
    - for whom: one image of this client's, whose gradient is added to the sum or left out. The
      number of images is not protected;
    - against whom: an attacker who sees the weights alone.

    It does not cover z, which is sent in the clear. It does not hold against a server whose later
    gradients depend on earlier z, since the clipped gradients of the other images then depend on
    the one image, too. That includes an honest server that trains its own layers. Nor does it hold
    if the gradient for one row depends on other rows of the batch, as with BatchNorm in the
    server's layers.

    It needs opacus: `pip install "splitlab[dp]"`. If the client has other defenses that change
    batches in `begin`, list this one first.

    Args:
        noise: The noise multiplier sigma, at least 0: the noise's standard deviation / `clip`.
        clip: The largest norm of one image's gradient, above 0.
        delta: The delta of `epsilon()`, between 0 and 1; below 1 / the number of images.
        poisson: Whether batches are Poisson samples. The client's own shuffled batches are not
            what the accountant assumes, and epsilon is then nominal.
        replace_batch_norm: Whether each BatchNorm of the client's network is replaced by a
            GroupNorm with new weights, which the client's optimizer trains instead. Groups are as
            many as possible, up to 32, of at least 4 channels.

    Attributes:
        steps: Steps taken, those with noise alone included.
        empty: Steps with noise alone.

    Raises:
        ValueError: If an argument is out of range; when the client is made, if it has a tail, a
            network that mixes the images of a batch, or a defense with a loss of its own.
        ImportError: When the client is made, if opacus is not installed.
    """

    PROTOCOLS: ClassVar[tuple[str, ...]] = ("vanilla",)
    STATE = ("steps", "empty")
    PASSING = ("hooked",)

    def __init__(
        self,
        noise: float,
        *,
        clip: float = 1.0,
        delta: float = 1e-5,
        poisson: bool = True,
        replace_batch_norm: bool = False,
    ) -> None:
        self.noise, self.clip = number("noise", noise), number("clip", clip, above=True)
        self.delta = chance("delta", delta, such_as="1e-5")
        self.poisson = flag("poisson", poisson)
        self.replace_batch_norm = flag("replace_batch_norm", replace_batch_norm)
        self.rows, self.expected = 0, 0  # of the data, and of a batch; known once there is a client
        self.steps, self.empty = 0, 0
        self.hooked: Any = None  # opacus' hooks, between the forward pass and the step

    def __repr__(self) -> str:
        nominal = ", nominal" if self.nominal else ""
        return f"DPSGD({self.noise:g}, clip={self.clip:g}, delta={self.delta:g}{nominal})"

    @property
    def nominal(self) -> bool:
        """Whether the batches are not the Poisson samples that epsilon is computed for."""
        return not self.poisson

    @property
    def rate(self) -> float:
        """The probability that an image is in a batch.

        Raises:
            RuntimeError: If there is no client yet.
        """
        if not self.rows:
            raise RuntimeError(
                f"{self!r} has no client yet: pass it in sl.Client(..., defenses=[...]) first"
            )
        return self.expected / self.rows

    def epsilon(self, steps: int | None = None) -> float:
        """Return the epsilon at `delta`, as bounded by opacus' RDP accountant.

        Args:
            steps: After how many steps, those with noise alone included; None for those taken.

        Raises:
            ValueError: If `steps` is negative.
            RuntimeError: If there is no client yet.
        """
        steps = self.steps if steps is None else count("steps", steps, least=0)
        rate = self.rate
        if steps == 0 or self.noise == 0:
            return float("inf") if steps else 0.0
        accountant = opacus("accountants").RDPAccountant()
        accountant.history = [(self.noise, rate, steps)]
        with warnings.catch_warnings():  # of a loose bound: it tries a fixed list of orders
            warnings.simplefilter("ignore", UserWarning)
            return float(accountant.get_epsilon(self.delta))

    def prepare(self, client: Client) -> None:
        """Check that every image has its own gradient, and replace BatchNorm if requested."""
        opacus("grad_sample")
        if client.tail is not None:
            raise ValueError(
                f"DPSGD protects the weights of f alone, and {client.name} trains a tail on its "
                "images as well: leave out the tail, and use protocol=vanilla"
            )
        self._check_other_defenses(client)
        net = duplicate(client.net, client.net)  # the client stays as it is if this one fails
        if self.replace_batch_norm:
            net, _ = without_batch_norm(net)
        rows = torch.arange(4) % len(client.data)
        with client.randomness.lent(keep=False):
            check_layers(net, client.data.x[rows.to(client.device)])
        if self.replace_batch_norm:
            client.net, replaced = without_batch_norm(client.net)
            for group in client.optimizer.param_groups:
                group["params"] = [replaced.get(id(one), one) for one in group["params"]]
        self.rows, self.expected = len(client.data), client.sampler.batch_size

    def begin(self, client: Client, turn: Turn) -> None:
        """Draw the batch, and prepare for gradients per image."""
        if self.poisson:
            while not len(rows := (torch.rand(self.rows) < self.rate).nonzero().flatten()):
                self._set_gradients(client)
                client.optimizer.step()
                self.steps, self.empty = self.steps + 1, self.empty + 1
            rows = rows.to(client.device)
            turn.x, turn.index = client.data.x[rows], rows
            turn.labels = None if turn.labels is None else client.data.y[rows]
        if self.hooked is not None:  # a turn that was given up
            unhook(self.hooked)
        # Torch warns of a hook on the first layer if nothing before it needs a gradient.
        turn.x = turn.x.detach().requires_grad_()
        # For this turn alone: copies and other uses of the network meet no hooks.
        self.hooked = hook(client.net)

    def grads(self, client: Client, turn: Turn) -> None:
        """Replace the plain gradients with the clipped ones plus noise."""
        per_image = [getattr(one, "grad_sample", None) for one in learned(client.net)]
        unhook(self.hooked)
        self.hooked = None
        self._set_gradients(client, per_image)
        self.steps += turn.update

    def _set_gradients(self, client: Client, per_image: list[Tensor | None] | None = None) -> None:
        """Set (clipped sum + noise) / expected batch size; without images, noise alone.

        Args:
            client: The client.
            per_image: For each weight that is learned, (B, *its shape), or None if it has no part
                in z.
        """
        weights = learned(client.net)
        sums = clipped_sums(weights, per_image or [None] * len(weights), self.clip)
        for weight, total in zip(weights, sums, strict=True):
            noise = self.noise * self.clip * torch.randn_like(weight)
            weight.grad = (total + noise) / self.expected

    def _check_other_defenses(self, client: Client) -> None:
        first = True
        for other in client.defenses:
            if other is self:
                first = False
            elif _overrides(other, "local_loss") or _overrides(other, "grads"):
                raise ValueError(
                    f"{other!r} adds gradients that DPSGD does not clip for each image, so no "
                    "epsilon would hold: leave out one of the two"
                )
            elif isinstance(other, ClipGradient | SetNorm):
                raise ValueError(
                    f"{other!r} makes an image's gradient depend on the others, so no "
                    "epsilon would hold: leave it out, since DPSGD clips each image's gradient"
                )
            elif first and self.poisson and _overrides(other, "begin"):
                raise ValueError(
                    f"{other!r} changes a batch that DPSGD then replaces: list DPSGD before it"
                )

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example with the batch sizes that the tests set."""
        return cls(1.0, poisson=False, replace_batch_norm=True)


def _overrides(defense: Defense, hook: str) -> bool:
    return getattr(type(defense), hook) is not getattr(Defense, hook)
