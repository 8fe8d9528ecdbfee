"""UnSplit against an honestly trained client, at several cuts; and its label inference."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy, interpolate

import splitlab as sl
from splitlab.attacks.gradient_clustering import clusters
from splitlab.attacks.label_inference import directions
from splitlab.attacks.unsplit import TINY, Attempt, brighter_sides, negatives, stretched
from splitlab.course.experiments.against_whole import accuracy
from splitlab.course.experiments.base import CpuTime, Device, Experiment, Keeping
from splitlab.course.experiments.protocols_against_whole import without_norm

N_MATCH = 20  # private images attacked at once, and candidates when matching
EARLY, LATE = 20, 100  # batches at the start and at the end over which labels are counted


def correlations(pictures: Tensor, true: Tensor) -> Tensor:
    """Return the correlation of each picture's pixels with those of the true image.

    Args:
        pictures: Images, (N, C, H, W).
        true: The images that they should be, of the same shape.

    Returns:
        From -1, an exact negative, to 1; (N,). 0 for a picture of one value throughout.
    """
    a, b = (images.flatten(1).double() for images in (pictures, true))
    return cosine_similarity(a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True))


def widest_channel(z: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Return the channel of z that varies most, enlarged to the images' size: no attack at all.

    A floor that needs nothing but z. Whether it shows the images or their negatives is left open.

    Args:
        z: Smashed data with positions, (N, channels, h, w).
        shape: Of one image, (C, H, W).

    Returns:
        Pictures, (N, C, H, W), on the scale of z.
    """
    number = int(z.var(dim=(0, 2, 3)).argmax())
    return interpolate(z[:, [number]], size=shape[1:]).expand(-1, *shape)


class Searches:
    """UnSplit as the referee's `evaluate` wants it: keeps the attempts of every search.

    Args:
        attack: The attack.
    """

    def __init__(self, attack: sl.UnSplit) -> None:
        self.attack = attack
        self.kept: list[list[Attempt]] = []

    def reconstruct(self, message: sl.SmashedData) -> Tensor:
        """Search, and return the images (N, C, H, W) that the attack keeps."""
        self.kept.append(self.attack.search(message.z))
        return self.attack.choose(self.kept[-1]).images


@dataclass(frozen=True)
class Inversion(Experiment):
    """UnSplit on the smashed data of some private images, after honest training.

    Attributes:
        cut: 0 is the shallow client, one convolution without BatchNorm; 1 to 3 the tiny client.
        norm: Whether BatchNorm stays in the tiny client.
        background: What the attacker takes for the background, as a share of the range.
        starts: How many starts.
    """

    cut: int = 0
    norm: bool = True
    background: float = 0.0
    starts: int = 3

    @property
    def config(self) -> dict[str, Any]:
        """What the run is a function of."""
        attack = TINY | {"background": self.background, "start": self.background + 0.05}
        attack |= {"starts": self.starts}
        own = {"cut": self.cut, "norm": self.norm and self.cut > 0, "n_match": N_MATCH}
        return super().config | own | attack

    def measure(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Unpack[Keeping]
    ) -> dict[str, Any]:
        """Train honestly, attack, and score.

        Returns:
            The report, for the pictures as they are; `stretched`, its metrics after each picture
            was given full contrast; of each start, in order, its feature error (`errors`), and the
            mean correlation of its pictures with the private images (`correlations`), and the
            number of the one kept (`chosen`); the mean correlation of the pictures kept (`kept`),
            and where negatives were turned round by knowledge of the data (`signed`); how many
            starts gave negatives (`negatives`); the mean correlation, whatever its sign, of the
            channel of z that varies most (`channel`), and of the mean public image (`mean_public`),
            which are floors; the variance of z, beside which errors are small or
            not; the accuracy of client and server (`accuracy`), of the clone with the same server
            (`clone_accuracy`) and of the largest class (`majority`) on the referee's images.
        """
        setting, seed = self.setting, self.seed
        split = setting.split(self.data, seed)
        assert split.referee is not None, "at tiny scale every split has one"
        referee = split.referee.to(device)
        client = sl.Client(
            self.client_net(seed=seed), split.private, **setting.client(seed=seed, device=device)
        )
        attack = sl.UnSplit.at(
            setting,
            self._server_net(),
            architecture=self.client_net,
            background=self.background,
            starts=self.starts,
            seed=seed,
            device=device,
        )
        clock = CpuTime()
        sl.train([client], attack, self.steps, observers=[*observers, clock], **keeping)
        searches = Searches(attack)
        report = sl.evaluate(
            client, searches, split.referee, public=split.public, n_match=N_MATCH, seed=seed
        )
        attempts = searches.kept[0]
        kept = attack.choose(attempts)
        # Of the same seed as the report's, so of the same images in the same order.
        scorer = sl.Scorer(client.data, split.referee, n_match=N_MATCH, seed=seed)
        x, span = scorer.images.x, scorer.images.value_range
        fit = [float(correlations(attempt.images, x).mean()) for attempt in attempts]
        turned = kept.images
        if brighter_sides(turned):
            turned = negatives(turned, span)
        classes = referee.y.bincount()
        z = client.smash(x).z
        channel = correlations(widest_channel(z, client.data.shape), x).mean()
        average = sl.floors.mean_public(split.public, len(x)).to(x.device)
        return report.to_dict() | {
            "stretched": scorer.score(stretched(kept.images, span)),
            "errors": [attempt.error for attempt in attempts],
            "correlations": fit,
            "chosen": attempts.index(kept),
            "kept": fit[attempts.index(kept)],
            "signed": float(correlations(turned, x).mean()),
            "negatives": sum(one < 0 for one in fit),
            "channel": float(channel.abs()),
            "mean_public": float(correlations(average, x).mean()),
            "z_variance": float(z.var()),
            "accuracy": sl.task_accuracy(client, attack, referee),
            "clone_accuracy": accuracy(nn.Sequential(kept.clone, attack.net), referee),
            "majority": int(classes.max()) / int(classes.sum()),
            "steps": client.step,
            "cpu_seconds": clock.seconds,
        }

    def client_net(self, *, seed: int) -> nn.Module:
        """Return a fresh network of the client's layers."""
        if self.cut == 0:
            return sl.nets.tiny.shallow_client(seed=seed)
        net = self.setting.client_net(cut=self.cut, seed=seed)
        return net if self.norm else without_norm(net)

    def _server_net(self) -> nn.Module:
        if self.cut == 0:
            return sl.nets.tiny.shallow_server(seed=self.seed)
        return self.setting.server_net(cut=self.cut, seed=self.seed)


class TrueLabels(sl.Observer):
    """What the referee keeps to score label inference.

    Attributes:
        labels: The labels of each batch, int64 (B,).
        da: The gradients of the server's output that crossed, (B, F).
    """

    def start(self, clients: Sequence[sl.Client], server: sl.Server, steps: int) -> None:
        """Remember the client."""
        self._client = clients[0]
        self.labels: list[Tensor] = []
        self.da: list[Tensor] = []

    def message(self, message: sl.Message) -> None:
        """Keep the gradient that crosses, and the labels that do not."""
        if isinstance(message, sl.OutputGradient):
            turn = self._client.turn
            assert turn is not None, "it crosses within a turn"
            self.labels.append(turn.labels.clone())
            self.da.append(message.da.clone())


@dataclass(frozen=True)
class TailLabels(Experiment):
    """UnSplit's label inference in the U-shaped protocol, against the shallow client.

    Attributes:
        layers: Of the tail, 1 or 2.
        known: Whether the server's clone starts from the tail's own first weights.
    """

    layers: int = 1
    known: bool = False

    @property
    def config(self) -> dict[str, Any]:
        """What the run is a function of."""
        own = {"cut": 0, "protocol": "U-shaped", "layers": self.layers, "known": self.known}
        return super().config | own

    def measure(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Unpack[Keeping]
    ) -> dict[str, Any]:
        """Train honestly while the labels are inferred, and score the guesses.

        Returns:
            The share of labels guessed rightly in the first `EARLY` and the last `LATE` batches,
            by their own names (`early`, `late`), and after the referee has named the guessed
            classes as well as can be (`early_matched`, `late_matched`); the same for k-means on the
            directions of da, without a clone (`early_clusters`, `late_clusters`); before the
            training, the share guessed from the gradient of the tail's own weights, which the
            protocol does not carry (`from_weights`); the share of the largest class (`majority`),
            and the network's `accuracy` on the referee's images.
        """
        setting, seed = self.setting, self.seed
        split = setting.split(self.data, seed)
        body: Any = sl.nets.tiny.shallow_server(seed=seed)
        tail = partial(sl.nets.tiny.shallow_tail, layers=self.layers)
        client = sl.Client(
            sl.nets.tiny.shallow_client(seed=seed),
            split.private,
            tail=tail(seed=seed),
            **setting.client(seed=seed, device=device),
        )
        kind = sl.UnSplitLabelsKnownStart if self.known else sl.UnSplitLabels
        attack = kind(
            body[:-1],
            clone=tail(seed=seed if self.known else seed + 10_000),
            clone_optimizer=setting.client_optimizer,
            optimizer=setting.client_optimizer,
            seed=seed,
            device=device,
        )
        clock, truth = CpuTime(), TrueLabels()
        row: dict[str, Any] = {"from_weights": _from_weights(client, attack)}
        watching = [*observers, clock, truth]
        sl.train([client], attack, self.steps, protocol=sl.u_shaped, observers=watching, **keeping)
        for name, part in (("early", slice(EARLY)), ("late", slice(-LATE, None))):
            labels, guesses = (torch.cat(kept[part]) for kept in (truth.labels, attack.guesses))
            row[name] = float((guesses == labels).double().mean())
            row[f"{name}_matched"] = sl.accuracy_after_matching(guesses, labels)
            found = directions(torch.cat(truth.da[part]))
            found = clusters(found, len(client.data.classes), seed=seed)
            row[f"{name}_clusters"] = sl.accuracy_after_matching(found, labels)
        classes = client.data.y.bincount()
        assert split.referee is not None, "at tiny scale every split has one"
        return row | {
            "majority": int(classes.max()) / int(classes.sum()),
            "accuracy": sl.task_accuracy(client, attack, split.referee),
            "steps": client.step,
            "cpu_seconds": clock.seconds,
        }


def _from_weights(client: sl.Client, attack: sl.UnSplitLabels) -> float:
    """The share of 100 private images whose label the tail's own gradient gives away."""
    x, y = client.data.x[:100], client.data.y[:100]
    outputs = attack.output(client.smash(x))
    tail: Any = copy.deepcopy(client.tail)
    right = 0
    for a, label in zip(outputs.split(1), y.split(1), strict=True):
        loss = cross_entropy(tail(a), label)
        parts = torch.autograd.grad(loss, list(tail.parameters()))
        gradient = torch.cat([part.flatten() for part in parts])
        right += attack.infer_from_weights(a, gradient) == int(label)
    return right / len(x)
