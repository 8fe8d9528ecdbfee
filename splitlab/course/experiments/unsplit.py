"""UnSplit against an honestly trained client, at several cuts and with several searches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, interpolate

import splitlab as sl
from splitlab.attacks.unsplit import TINY, Attempt, Search, brighter_sides, negatives, stretched
from splitlab.course.experiments.against_whole import accuracy
from splitlab.course.experiments.base import CpuTime, Device, Experiment, Keeping
from splitlab.course.experiments.protocols_against_whole import without_norm

STARTS = 2  # of the search, at every cut
N_MATCH = 20  # private images attacked at once, and candidates when matching


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
    """Return the channel of z that varies most, enlarged to the size of the images.

    A floor that needs nothing but z. It may show the images or their negatives.

    Args:
        z: Smashed data with positions, (N, channels, h, w).
        shape: Of one image, (C, H, W).

    Returns:
        Pictures, (N, C, H, W), on the scale of z.
    """
    number = int(z.var(dim=(0, 2, 3)).argmax())
    return interpolate(z[:, [number]], size=shape[1:]).expand(-1, *shape)


class Searches:
    """UnSplit for the referee's `evaluate`: keeps the attempts of every search.

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
        cut: 0 is the shallow client, one convolution without BatchNorm; 1 and 2 the tiny client.
        norm: Whether BatchNorm stays in the tiny client.
        background: The value that the attacker assumes for most pixels, as a share of the range.
        start: The value of all pixels at the start, as a share of the range.
        tv_weight: Weight of the total variation.
        background_weight: Weight of the distance to the background.
    """

    cut: int = 0
    norm: bool = True
    background: float = 0.0
    start: float = 0.05
    tv_weight: float = TINY["tv_weight"]
    background_weight: float = TINY["background_weight"]

    @property
    def search(self) -> Search:
        """The arguments of the attack."""
        return {
            **TINY,
            "start": self.start,
            "tv_weight": self.tv_weight,
            "background_weight": self.background_weight,
        }

    @property
    def config(self) -> dict[str, Any]:
        """Everything that determines the run."""
        own = {"cut": self.cut, "norm": self.norm and self.cut > 0, "n_match": N_MATCH}
        own |= {"background": self.background, "starts": STARTS}
        return super().config | own | self.search

    def measure(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Unpack[Keeping]
    ) -> dict[str, Any]:
        """Train honestly, attack, and score.

        Returns:
            The report, for the pictures as they are; `stretched`, its metrics after each picture
            was given full contrast; of each start, in order, its feature error (`errors`), and the
            mean correlation of its pictures with the private images (`correlations`), and the
            number of the one kept (`chosen`); the mean correlation of the pictures kept (`kept`),
            and of the same after negatives were inverted by knowledge of the data (`signed`); how
            many starts gave negatives (`negatives`); two floors, the absolute mean correlation of
            the channel of z that varies most (`channel`) and that of the mean public image
            (`mean_public`); the variance of z, to compare errors with; the accuracy of client and
            server (`accuracy`), of the clone with the same server (`clone_accuracy`) and of the
            largest class (`majority`) on the referee's images.
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
            starts=STARTS,
            seed=seed,
            device=device,
            **self.search,
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
