"""The scorer of images: compares an attack's reconstructions with the private images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from splitlab.arguments import IMAGES, count, generator, instance
from splitlab.arguments import seed as whole
from splitlab.core.messages import SmashedData
from splitlab.core.tables import Table
from splitlab.data import ImageData
from splitlab.data.base import fingerprint
from splitlab.data.pixels import stored_channels
from splitlab.nets.pair_decoder import train_decoder
from splitlab.referee.attacked import AttackedClients
from splitlab.referee.classifiers import Classifier, train_cnn_classifier, train_svm_classifier
from splitlab.referee.floors import (
    class_mean_public,
    mean_public,
    nearest_public,
    pca_public,
    refuse_overlap,
)
from splitlab.referee.metrics import METRICS, image_metrics, matched_by_correlation, recognized
from splitlab.referee.report import AS_RECEIVED, PICTURES, Report, Scores, _words

ORACLE_PAIRS = 4000
ORACLE_STEPS = 400


def score_images(
    attacked: AttackedClients,
    attack: Any,
    referee: ImageData | None,
    *,
    public: ImageData | None = None,
    n_match: int | None = None,
    seed: int = 0,
) -> Report:
    """Score an attack that reconstructs images; arguments and errors as in `evaluate`."""
    private = attacked.data
    public = getattr(attack, "public", None) if public is None else public
    if public is None:
        raise ValueError(
            f"{type(attack).__name__} has no public images for the floors: pass public= to evaluate"
        )
    instance("public", public, ImageData, IMAGES)
    if public.shape != private.shape:
        raise ValueError(
            f"the public images have the shape {public.shape} and the private ones {private.shape}:"
            " pass public images of the clients' shape"
        )
    refuse_overlap(private, public)
    if n_match is not None:  # the oracle decoder is scored on half of them
        n_match = count("n_match", n_match, least=4)
    scorer = Scorer(private, referee, n_match=n_match, seed=seed)
    x, y, n, score = scorer.images.x, scorer.images.y, len(scorer.images), scorer.score
    rows, notes = scorer.order[:n], list(scorer.notes)

    reconstructed = attacked.ask(attack.reconstruct, rows)
    nearest = nearest_public(x, public.x)
    floors = {"mean_public": score(mean_public(public, n)), "nearest_public": score(nearest)}
    if attacked.labels_reach_the_server:
        floors["class_mean_public"] = score(class_mean_public(public, y))
    k = attacked.ask(_z, rows[:1])[0].numel()
    if k < stored_channels(x)[0].numel():
        floors["pca_public"] = score(pca_public(x, public.x, k))
        notes.append(f"pca public: {k} components of each image, as many as z has numbers.")
    oracle, half = _oracle_decoder(attacked, scorer, seed)
    ceilings = {"oracle_decoder": score(oracle, half)}
    if hasattr(attack, "autoencode"):
        ceilings = {"own_autoencoder": score(attack.autoencode(x))} | ceilings
    scores = {"attack": score(reconstructed)}
    if layers := attacked.look_different_in_training():
        scores[AS_RECEIVED] = score(attacked.ask(attack.reconstruct, rows, training_mode=True))
        momenta = {layer.momentum for layer in layers if hasattr(layer, "momentum")}
        notes.append(
            "The attack's row: f in evaluation mode. As received: in training mode"
            + "".join(f", BatchNorm momentum {momentum:g}." for momentum in momenta)
        )
    return Report(
        goal="images",
        n=n,
        columns={name: _words(name) for name in METRICS},
        leading="matched",
        floors=floors,
        attack=scores,
        ceilings=ceilings,
        further=scorer.further(reconstructed) | scorer.real(),
        notes=tuple(notes),
        pictures={
            "private": x[:PICTURES].cpu(),
            "reconstructed": reconstructed[:PICTURES].cpu(),
            "nearest public": nearest[:PICTURES].cpu(),
        },
        value_range=private.value_range,
    )


class Scorer:
    """Scores pictures of the same private images by the same figures, whatever their source.

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
        TypeError: If private or referee are no images.
        ValueError: If there are too few private images, or the referee's part holds some of them or
            is of another shape or value range.
    """

    def __init__(
        self,
        private: ImageData,
        referee: ImageData | None,
        *,
        n_match: int | None = None,
        seed: int = 0,
    ) -> None:
        instance("private", private, ImageData, IMAGES)
        n = 1000 if len(private) >= 1000 else 500
        if n_match is not None:
            n = count("n_match", n_match, least=2)
        if n > len(private):
            raise ValueError(
                f"n_match is {n} and there are {len(private)} private images: lower it"
            )
        if referee is None and n == len(private):
            raise ValueError(
                f"n_match is {n}, which is all private images, so none is left to train the "
                "classifiers on: lower it, or pass referee="
            )
        if referee is not None:
            instance("referee", referee, ImageData, IMAGES)
            if (referee.shape, referee.value_range) != (private.shape, private.value_range):
                raise ValueError(
                    f"the referee's images are {referee.shape} from {referee.value_range} and the "
                    f"private ones {private.shape} from {private.value_range}: pass a part of the "
                    "same split"
                )
        seed = whole(seed)
        self.order = torch.randperm(len(private), generator=generator(seed))
        self.images = private.select(self.order[:n])
        notes = [f"{n} of {len(private)} private images scored; matched is 1 of {n}."]
        if referee is None:
            referee = private.select(self.order[n : n + 10_000])
            notes.append(
                f"The classifiers trained on {len(referee)} private images that are not scored: "
                "this split has no third part."
            )
        elif shared := self.images.row_hashes() & referee.row_hashes():
            raise ValueError(
                f"{len(shared)} of the scored images are in the referee's part, too: a classifier "
                "that was trained on them also recognizes poor reconstructions of them, so pass "
                "a part with other images"
            )
        self.notes = tuple(notes)
        self._classifier, self._second = two_classifiers(referee, seed)

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
            "recognized_by_second_classifier": recognized(self._second, pictures, y),
        }

    def real(self) -> Scores:
        """Return how often the real images are recognized, by either classifier."""
        x, y = self.images.x, self.images.y
        return {
            "real_images_recognized": recognized(self._classifier, x, y),
            "real_images_recognized_by_second_classifier": recognized(self._second, x, y),
        }

    def table(self, pictures: Mapping[str, Tensor]) -> Table:
        """Return all figures of several sets of pictures.

        Args:
            pictures: What they are -> one image for each that is scored, (n, C, H, W).
        """
        scores = {what: self.score(p) | self.further(p) for what, p in pictures.items()}
        names = [*METRICS, "matched_by_correlation", "recognized_by_second_classifier"]
        rows = [(what, *(figures[name] for name in names)) for what, figures in scores.items()]
        return Table(("", *map(_words, names)), rows, caption=self.notes[0])


_trained: dict[tuple[str, int], tuple[Classifier, Classifier]] = {}


def two_classifiers(referee: ImageData, seed: int) -> tuple[Classifier, Classifier]:
    """Return the two classifiers for these labelled images and this seed, trained once.

    Only the latest pair is kept: a chapter scores several attacks with one referee.
    """
    key = (fingerprint(referee), seed)  # of the labels, too: the same faces can have others
    if key not in _trained:
        _trained.clear()
        _trained[key] = train_cnn_classifier(referee, seed), train_svm_classifier(referee, seed)
    return _trained[key]


def _oracle_decoder(attacked: AttackedClients, scorer: Scorer, seed: int) -> tuple[Tensor, Tensor]:
    """Train a decoder on true pairs (z, x); return its pictures, and of which scored images.

    Half of the scored images stay out of its training; other private images join it.
    """
    half = len(scorer.images) // 2
    pairs = scorer.order[half : half + ORACLE_PAIRS]
    decoder = train_decoder(
        attacked.ask(_z, pairs),
        attacked.data.select(pairs).x,
        value_range=attacked.data.value_range,
        steps=ORACLE_STEPS,
        seed=seed,
    )
    drawn = decoder.images(attacked.ask(_z, scorer.order[: len(scorer.images)])[:half])
    return drawn, torch.arange(half, device=drawn.device)


def _z(message: SmashedData) -> Tensor:
    return message.z
