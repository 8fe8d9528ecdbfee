"""The referee: the only place where private images and reconstructions meet.

Nothing here reaches a party, and looking changes nothing: training with `Snapshots` is bit for bit
the training without.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from splitlab.core.client import Client, sent
from splitlab.core.messages import SmashedData
from splitlab.core.server import Server
from splitlab.core.tables import Table
from splitlab.data import ImageData
from splitlab.data.base import fingerprint
from splitlab.nets.evaluation import in_parts
from splitlab.nets.pair_decoder import train_decoder
from splitlab.referee.classifiers import Classifier, train_cnn_classifier, train_svm_classifier
from splitlab.referee.floors import class_mean_public, mean_public, nearest_public
from splitlab.referee.metrics import METRICS, image_metrics, matched_by_correlation, recognised
from splitlab.referee.report import PICTURES, Report, Scores, _words

ORACLE_PAIRS = 4000


ORACLE_STEPS = 400


class Reconstructor(Protocol):
    """What the referee needs of an attack that reconstructs images.

    It may have `public` images of its own, and an `autoencode` that sends images (N, C, H, W)
    through the networks it decodes with: then what those could show at best is a ceiling.
    """

    def reconstruct(self, message: SmashedData) -> Tensor:
        """Decode smashed data into images (N, C, H, W)."""


class Scorer:
    """Scores pictures of the same private images, whoever made the pictures, by the same figures.

    `evaluate` scores an attack with it, and its floors and ceilings.

    Args:
        private: The private images, of which some are scored.
        referee: The referee's own part of the data, on which its classifiers train. None where the
            split leaves nothing: it then sets aside private images that it does not score.
        n_match: How many private images to score, and to choose among when matching: 500 where
            there are fewer than 1000 of them, else 1000.
        seed: Seeds the choice of images and the training of the classifiers.

    Attributes:
        images: The scored images. Pictures of them come in their order.
        order: All rows of the private images, those scored first.
        notes: What a reader must know to read the figures.

    Raises:
        ValueError: If there are too few private images.
    """

    def __init__(
        self,
        private: ImageData,
        referee: ImageData | None,
        *,
        n_match: int | None = None,
        seed: int = 0,
    ) -> None:
        n = n_match or (1000 if len(private) >= 1000 else 500)
        if n > len(private):
            raise ValueError(
                f"n_match is {n} and there are {len(private)} private images: lower it"
            )
        self.order = torch.randperm(len(private), generator=torch.Generator().manual_seed(seed))
        self.images = private.select(self.order[:n])
        notes = [f"{n} of {len(private)} private images scored; matched is 1 of {n}."]
        if referee is None:
            referee = private.select(self.order[n : n + 10_000])
            notes.append(
                f"The classifiers trained on {len(referee)} private images that are not scored: "
                "this split has no third part."
            )
        self.notes = tuple(notes)
        self._classifier, self._second = _classifiers(referee, seed)

    def score(self, pictures: Tensor, rows: Tensor | None = None) -> Scores:
        """Return the figures of `METRICS`.

        Args:
            pictures: Images (m, C, H, W), on the scale of the private ones.
            rows: Which of the scored images they are of, int64, shape (m,); None for all of them.
        """
        x, y = self.images.x, self.images.y
        rows = torch.arange(len(x), device=x.device) if rows is None else rows
        return image_metrics(
            pictures,
            x[rows],
            value_range=self.images.value_range,
            candidates=x,
            ids=rows,
            classifier=self._classifier,
            labels=y[rows],
        )

    def classify(self, pictures: Tensor) -> Tensor:
        """Return the class that the first classifier sees in each picture (m, C, H, W), int64 (m,).

        Always on the CPU.
        """
        return self._classifier(pictures)

    def further(self, pictures: Tensor) -> Scores:
        """Return the second opinions: matching by correlation, and another classifier.

        Args:
            pictures: One image for each that is scored, (n, C, H, W).
        """
        x, y = self.images.x, self.images.y
        return {
            "matched_by_correlation": matched_by_correlation(pictures, x),
            "recognised_by_second_classifier": recognised(self._second, pictures, y),
        }

    def real(self) -> Scores:
        """Return how often the real images are recognised, by either classifier."""
        x, y = self.images.x, self.images.y
        return {
            "real_images_recognised": recognised(self._classifier, x, y),
            "real_images_recognised_by_second_classifier": recognised(self._second, x, y),
        }

    def table(self, pictures: Mapping[str, Tensor]) -> Table:
        """Return all figures of several sets of pictures.

        Args:
            pictures: What they are -> one image for each that is scored, (n, C, H, W).
        """
        scores = {what: self.score(p) | self.further(p) for what, p in pictures.items()}
        names = [*METRICS, "matched_by_correlation", "recognised_by_second_classifier"]
        rows = [(what, *(figures[name] for name in names)) for what, figures in scores.items()]
        return Table(("", *map(_words, names)), rows, caption=self.notes[0])


def evaluate(
    client: Client,
    attack: Reconstructor,
    referee: ImageData | None,
    *,
    public: ImageData | None = None,
    n_match: int | None = None,
    seed: int = 0,
) -> Report:
    """Score an attack that reconstructs images.

    Args:
        client: The client, after training.
        attack: The attack: `reconstruct` and, where it has them, `public` and `autoencode`.
        referee: The referee's own part of the data, on which its classifiers train. None where the
            split leaves nothing: it then sets aside private images that it does not score.
        public: Images for the floors. By default the attack's own; an attack that has none needs
            them here, and never sees them.
        n_match: How many private images to score, and to choose among when matching: 500 where
            the private data have fewer than 1000 images, else 1000.
        seed: Seeds the choice of images and the referee's own training.

    Returns:
        The report.

    Raises:
        ValueError: If there are no public images, if they overlap the private ones, or if there
            are too few private images.
    """
    private = client.data
    public = getattr(attack, "public", None) if public is None else public
    if public is None:
        raise ValueError(
            f"{type(attack).__name__} has no public images for the floors: pass public= to evaluate"
        )
    refuse_overlap(private, public)
    scorer = Scorer(private, referee, n_match=n_match, seed=seed)
    x, y, n, score = scorer.images.x, scorer.images.y, len(scorer.images), scorer.score
    notes = list(scorer.notes)

    z = client.smash(x)
    reconstructed = attack.reconstruct(sent(client, z))
    nearest = nearest_public(x, public.x)
    floors = {"mean_public": score(mean_public(public, n)), "nearest_public": score(nearest)}
    if client.sends_labels or client.sends_index:  # row numbers: the server holds the labels
        floors["class_mean_public"] = score(class_mean_public(public, y))
    oracle, rows = _oracle_decoder(client, private, scorer.order, n, seed)
    ceilings = {"oracle_decoder": score(oracle(z[rows]), rows)}
    if hasattr(attack, "autoencode"):
        ceilings = {"own_autoencoder": score(attack.autoencode(x))} | ceilings
    received = None
    if any(
        isinstance(m, nn.modules.batchnorm._BatchNorm | nn.Dropout) for m in client.net.modules()
    ):
        z_received = client.smash(x, training_mode=True)
        received = score(attack.reconstruct(sent(client, z_received)))
        momenta = {m.momentum for m in client.net.modules() if hasattr(m, "momentum")}
        notes.append(
            "The attack's row: f in evaluation mode. As received: in training mode"
            + "".join(f", BatchNorm momentum {momentum:g}." for momentum in momenta)
        )
    return Report(
        metrics=score(reconstructed),
        received=received,
        floors=floors,
        ceilings=ceilings,
        n_match=n,
        other=scorer.further(reconstructed) | scorer.real(),
        notes=tuple(notes),
        pictures={
            "private": x[:PICTURES].cpu(),
            "reconstructed": reconstructed[:PICTURES].cpu(),
            "nearest public": nearest[:PICTURES].cpu(),
        },
        value_range=private.value_range,
    )


def logits(client: Client, server: Server, x: Tensor) -> Tensor:
    """Return the class scores that a client's images get in its protocol; changes nothing.

    f, the server's layers and, in the U-shaped protocol, the tail are in evaluation mode, with the
    client's defenses on. Of `ServerCopies` it is this client's copy.

    Args:
        client: The client.
        server: The server.
        x: Images, (N, C, H, W).

    Returns:
        Logits, (N, K).

    Raises:
        NotImplementedError: If the server has no layers that work on the task.
        ValueError: If it is an `FSHA` without a body.
    """
    output = server.output(sent(client, client.smash(x)))
    return output if client.tail is None else in_parts(client.tail, output)


def task_accuracy(client: Client, server: Server, data: ImageData) -> float:
    """Return the share of images that client and server classify rightly; as in `logits`."""
    classes = logits(client, server, data.x).argmax(1)
    return float((classes == data.y.to(classes.device)).double().mean())


_trained: dict[tuple[str, int], tuple[Classifier, Classifier]] = {}


def _classifiers(referee: ImageData, seed: int) -> tuple[Classifier, Classifier]:
    """Return the two classifiers for these labelled images and this seed, trained once.

    Only the latest pair is kept: a chapter scores several attacks with one referee.
    """
    key = (fingerprint(referee), seed)  # of the labels, too: the same faces can have others
    if key not in _trained:
        _trained.clear()
        _trained[key] = train_cnn_classifier(referee, seed), train_svm_classifier(referee, seed)
    return _trained[key]


def refuse_overlap(private: ImageData, public: ImageData) -> None:
    """Raise a ValueError where the same image is both private and public."""
    shared = private.row_hashes() & public.row_hashes()
    if shared:
        raise ValueError(
            f"{len(shared)} images are both private and public: an attack that already holds what "
            "it is after proves nothing, so split the data with .split(seed)"
        )


def _oracle_decoder(
    client: Client, private: ImageData, order: Tensor, n: int, seed: int
) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """Train a decoder on true pairs (z, x), and say which of the scored images may score it.

    Half of the n scored images stay out of its training; other private images join it.
    """
    half = n // 2
    pairs = private.select(order[half : half + ORACLE_PAIRS])
    decoder = train_decoder(
        client.smash(pairs.x),
        pairs.x,
        value_range=private.value_range,
        steps=ORACLE_STEPS,
        seed=seed,
    )
    return decoder.images, torch.arange(half, device=pairs.x.device)
