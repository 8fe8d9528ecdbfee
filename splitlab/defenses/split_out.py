"""SplitOut: rehearse the training locally, and look for gradients unlike the rehearsed ones.

Erdogan, Teksen, Celiktenyildiz, Kupcu, Cicek: "SplitOut: Out-of-the-Box Training-Hijacking
Detection in Split Learning via Outlier Detection", CANS 2024, arXiv 2302.08618.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from splitlab import arguments
from splitlab.arguments import NETWORK, count, instance
from splitlab.core.client import Turn
from splitlab.core.randomness import RandomState, Sampler
from splitlab.data import ImageData
from splitlab.defenses.detector import Detector, first_parameter_learns
from splitlab.nets import tiny
from splitlab.nets.evaluation import duplicate

if TYPE_CHECKING:
    from splitlab.core.client import Client


class SplitOut(Detector):
    """Detect a hijack when most of the last gradients are outliers among rehearsed ones.

    When the client is made, it trains a copy of the whole network on a share of its own data, and
    keeps the gradient of f's first parameter of every step. The local outlier factor (Breunig,
    Kriegel, Ng, Sander, SIGMOD 2000; scikit-learn's, with n - 1 neighbors) is about 1 for a
    gradient that lies as close to the rehearsed ones as these to each other. The score is the
    median factor of the last gradients, which is above the threshold if most of the factors are.

    Args:
        server_net: The rest of the network as the client imagines it: f's z -> logits, or with a
            tail, what the tail takes. Its weights are copied. The client must know the whole
            architecture.
        threshold: A score above it is an alarm; 1.5 is scikit-learn's.
        share: The share of the client's data that it rehearses on, above 0 and at most 1.
        steps: Of the rehearsal, at least 2; optimizer and batch size are the client's.
        window: Gradients in the majority, at least 1; there is no alarm before so many.
        seed: Seeds the choice of the data and the batches.
        stop: As in `Detector`.

    Raises:
        ValueError: If a number is out of range; when the client is made, if the server's network
            does not fit it.
    """

    STATE = ("factors",)
    NEEDS = (
        "the gradient of f's first layer",
        "labels",
        "the whole architecture, and the compute to train it for some steps",
    )

    def __init__(
        self,
        server_net: nn.Module,
        threshold: float = 1.5,
        *,
        share: float = 0.25,
        steps: int = 50,
        window: int = 10,
        seed: int = 0,
        stop: bool = True,
    ) -> None:
        super().__init__(threshold, stop=stop)
        instance("server_net", server_net, nn.Module, NETWORK)
        self.share, self.steps = arguments.share("share", share), count("steps", steps, least=2)
        self.window, self.seed = count("window", window, least=1), arguments.seed(seed)
        self.server_net = duplicate(server_net, server_net)
        self.factors: list[float] = []

    def prepare(self, client: Client) -> None:
        """Rehearse the training, and fit the outlier detector to the gradients.

        Raises:
            ValueError: If `server_net` does not fit, or f's first parameter does not learn.
        """
        first_parameter_learns("SplitOut", client.net)
        randomness = RandomState("SplitOut", self.seed, client.device)
        with randomness.lent():
            self.fit(self._rehearse(client))

    def fit(self, rehearsed: Tensor) -> None:
        """Keep the gradients of the rehearsal, (steps, n), and fit the outlier detector to them."""
        from sklearn.neighbors import LocalOutlierFactor  # takes a second to import

        self.rehearsed = rehearsed
        self.model = LocalOutlierFactor(n_neighbors=len(rehearsed) - 1, novelty=True)
        self.model.fit(rehearsed.numpy())

    def grads(self, client: Client, turn: Turn) -> None:
        """Score the gradient of f's first parameter.

        Raises:
            HijackingDetected: As in `Detector.see`.
        """
        if turn.fake:
            return
        self.factors.append(self.factor(_first_gradient(client.net)))
        if len(self.factors) >= self.window:
            score = statistics.median(self.factors[-self.window :])
            self.see(
                client,
                score,
                f"the last {self.window} gradients have a median outlier factor of {score:.2f} "
                "among those of the rehearsal",
            )

    def factor(self, gradient: Tensor) -> float:
        """Return the local outlier factor of a gradient, (n,), among the rehearsed ones."""
        if not gradient.isfinite().all():
            return float("inf")
        row = gradient.double().cpu().numpy()[None]
        return -float(self.model.score_samples(row)[0])

    def _rehearse(self, client: Client) -> Tensor:
        """Train a copy of the whole network, and return the gradients, (steps, n)."""
        net = duplicate(client.net, client.net)
        rest = nn.Sequential(duplicate(self.server_net, self.server_net).to(client.device))
        if client.tail is not None:
            rest.append(duplicate(client.tail, client.tail))
        parameters = [*net.parameters(), *rest.parameters()]
        kind = type(client.optimizer)
        optimizer = kind(parameters, **client.optimizer.defaults)
        size = client.sampler.batch_size
        few = client.data.subset(max(size, round(self.share * len(client.data))), seed=self.seed)
        sampler = Sampler(len(few), size, owner="the rehearsal", seed=self.seed)
        rows = []
        whole = nn.Sequential(net, rest).train()
        for _ in range(self.steps):
            index = sampler.next().to(client.device)
            loss = _loss(client, whole, few.x[index], few.y[index])
            optimizer.zero_grad()
            loss.backward()
            rows.append(_first_gradient(net).double().cpu())
            optimizer.step()
        return torch.stack(rows)

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example with a short rehearsal that counts alarms."""
        return cls(tiny.server(), share=1.0, steps=4, window=1, stop=False)


def _loss(client: Client, whole: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return the loss of the whole network; a ValueError if its parts do not fit together."""
    try:
        logits = whole(x)
    except RuntimeError as error:
        raise ValueError(
            "SplitOut's server_net does not follow the client's network: give it the rest of the "
            "network from the client's cut"
        ) from error
    if logits.ndim != 2 or len(logits) != len(x):
        raise ValueError(
            f"SplitOut's whole network makes {tuple(logits.shape)} of {len(x)} images: give it a "
            "server_net that turns z into one row of logits for each image"
        )
    try:
        return client.loss(logits, y)
    except (IndexError, RuntimeError) as error:
        raise ValueError(
            f"SplitOut's whole network makes {logits.shape[1]} logits of an image, and the labels "
            f"go up to {int(y.max())}: give it a server_net with a logit for each class"
        ) from error


def _first_gradient(net: nn.Module) -> Tensor:
    gradient = next(net.parameters()).grad
    assert gradient is not None
    return gradient.detach().flatten().clone()
