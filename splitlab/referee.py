"""The referee: the only place where private images and reconstructions meet.

Nothing here reaches a party, and looking changes nothing: training with `Snapshots` is bit for bit
the training without.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from splitlab.baselines import (
    Classifier,
    class_mean_public,
    mean_public,
    nearest_public,
    train_cnn_classifier,
    train_svm_classifier,
)
from splitlab.checkpoint import fingerprint
from splitlab.data import ImageData
from splitlab.decoding import train_decoder
from splitlab.messages import Message, SmashedData
from splitlab.metrics import METRICS, image_metrics, matched_by_correlation, mse, recognised
from splitlab.observers import Observer
from splitlab.parties import Client, Server, in_parts
from splitlab.tables import Table

Scores = dict[str, float]

ORACLE_PAIRS = 4000
ORACLE_STEPS = 400
PICTURES = 8


class Reconstructor(Protocol):
    """What the referee needs of an attack that reconstructs images.

    It may have `public` images of its own, and an `autoencode` that sends images (N, C, H, W)
    through the networks it decodes with: then what those could show at best is a ceiling.
    """

    def reconstruct(self, message: SmashedData) -> Tensor:
        """Decode smashed data into images (N, C, H, W)."""


@dataclass(frozen=True)
class Report:
    """What an attack reached, between floors that it should beat and ceilings that it cannot.

    Attributes:
        metrics: Scores of the reconstructions: f in evaluation mode, active defenses on.
        received: The same for what the server truly receives during training (BatchNorm and
            Dropout in training mode); None when f has no such layer.
        floors: Scores that need no attack.
        ceilings: Scores with more than the attacker has.
        n_match: Number of private images scored, and of candidates when matching.
        other: Further figures: matching by correlation, a second classifier, the real images.
        notes: What a reader must know to read the figures.
        pictures: A few rows of images (label -> (n, C, H, W)).
        value_range: The range of the pixels.
    """

    metrics: Scores
    received: Scores | None
    floors: dict[str, Scores]
    ceilings: dict[str, Scores]
    n_match: int
    other: Scores
    notes: tuple[str, ...] = ()
    pictures: dict[str, Tensor] = field(default_factory=dict, repr=False)
    value_range: tuple[float, float] = (-1.0, 1.0)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures, without the pictures, ready for JSON."""
        return {
            "n_match": self.n_match,
            "metrics": self.metrics,
            "received": self.received,
            "floors": self.floors,
            "ceilings": self.ceilings,
            "other": self.other,
            "notes": list(self.notes),
        }

    def rows(self) -> list[tuple[str, Scores]]:
        """Return (what, scores): floors first, then the attack, then the ceilings."""
        attack = [("attack", self.metrics)]
        if self.received is not None:
            attack.append(("attack, as received in training", self.received))
        return [
            *[(f"floor: {_words(name)}", scores) for name, scores in self.floors.items()],
            *attack,
            *[(f"ceiling: {_words(name)}", scores) for name, scores in self.ceilings.items()],
        ]

    def table(self) -> Table:
        """Return the scores as a table: floors, attack, ceilings."""
        rows = [(what, *(scores[name] for name in METRICS)) for what, scores in self.rows()]
        head = ("", *(_words(name) for name in METRICS))
        return Table(head, rows, strong=len(self.floors))

    def remarks(self) -> list[str]:
        """Return the notes and the further figures as sentences."""
        other = "; ".join(f"{_words(name)} {value:.3f}" for name, value in self.other.items())
        return [*self.notes, f"Also: {other}."]

    def __str__(self) -> str:
        return "\n".join([str(self.table()), *self.remarks()])

    def _repr_html_(self) -> str:
        remarks = "".join(f"<li>{html.escape(remark)}</li>" for remark in self.remarks())
        return f"{self.table()._repr_html_()}<ul>{remarks}</ul>{self._strip()}"

    def _strip(self) -> str:
        from splitlab import plot  # only whoever looks needs matplotlib

        alt = f"Rows of {PICTURES} small images each: " + "; ".join(self.pictures) + "."
        figure = plot.strip(self.pictures, value_range=self.value_range)
        return plot.show(figure, alt=alt)._repr_html_()


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
    reconstructed = attack.reconstruct(_message(client, z))
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
        received = score(attack.reconstruct(_message(client, z_received)))
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
    output = server.output(_message(client, client.smash(x)))
    return output if client.tail is None else in_parts(client.tail, output)


def task_accuracy(client: Client, server: Server, data: ImageData) -> float:
    """Return the share of images that client and server classify rightly; as in `logits`."""
    classes = logits(client, server, data.x).argmax(1)
    return float((classes == data.y.to(classes.device)).double().mean())


@dataclass(frozen=True)
class Snapshot:
    """What the attack could show after some steps.

    Attributes:
        step: Steps taken so far.
        images: Reconstructions of the observed private images, (n, C, H, W).
        mse: Their mean squared error, on the data's own scale.
    """

    step: int
    images: Tensor
    mse: float


class Snapshots(Observer):
    """Watches a few private images being reconstructed while the training runs.

    f is in evaluation mode, with the client's defenses on. A snapshot shows current weights on
    images that may have been sent earlier: it overstates what a server that keeps nothing else
    would hold from those earlier messages.

    Args:
        every: Steps between two snapshots; there is one before the first step, too.
        images: How many private images to watch (the first ones of the first client).

    Attributes:
        private: The watched private images, (n, C, H, W).
        taken: The snapshots, in order.
        value_range: The range of the pixels.
    """

    def __init__(self, every: int = 10, *, images: int = 8) -> None:
        if every < 1 or images < 1:
            raise ValueError(f"Snapshots(every={every}, images={images}): both must be at least 1")
        self.every, self.images = every, images
        self.taken: list[Snapshot] = []
        self.private = torch.empty(0)
        self.value_range = (-1.0, 1.0)

    def start(self, clients: Sequence[Client], server: Server, steps: int) -> None:
        """Choose the private images, and take the first snapshot.

        Raises:
            TypeError: If the server has no `reconstruct`.
        """
        if not hasattr(server, "reconstruct"):
            raise TypeError(
                f"Snapshots watches reconstructions, and {type(server).__name__} makes none: "
                "leave it out of observers"
            )
        data = clients[0].data
        self.private, self.value_range = data.x[: self.images], data.value_range
        self.taken = []
        self._take(0, clients[0], server)

    def step(self, step: int, client: Client, server: Server) -> None:
        """Take a snapshot after every `every` steps."""
        if (step + 1) % self.every == 0:
            self._take(step + 1, client, server)

    def state_dict(self) -> dict[str, Any]:
        """Return the settings, the watched images and the snapshots."""
        return {
            "settings": (self.every, self.images),
            "private": self.private,
            "value_range": self.value_range,
            "taken": [{"step": t.step, "images": t.images, "mse": t.mse} for t in self.taken],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned.

        Raises:
            ValueError: If it comes from snapshots of another frequency or number of images.
        """
        if state["settings"] != (self.every, self.images):
            every, images = state["settings"]
            raise ValueError(
                f"these snapshots were taken with Snapshots(every={every}, images={images}), not "
                f"with every={self.every}, images={self.images}: use the former, or begin anew"
            )
        self.private = state["private"].to(self.private.device)
        self.value_range = state["value_range"]
        self.taken = [Snapshot(**taken) for taken in state["taken"]]

    def _take(self, step: int, client: Client, server: Any) -> None:
        images = server.reconstruct(_message(client, client.smash(self.private)))
        self.taken.append(Snapshot(step, images.cpu(), mse(images, self.private)))


class ReceivedError(Observer):
    """The error of every batch as the server received it: f in training mode, at that very step.

    Attributes:
        mse: Mean squared error of each step's batch, on the data's own scale.
    """

    def __init__(self) -> None:
        self.mse: list[float] = []

    def start(self, clients: Sequence[Client], server: Server, steps: int) -> None:
        """Remember who takes part."""
        self._clients = {client.name: client for client in clients}
        self._server: Any = server
        self.mse = []

    def message(self, message: Message) -> None:
        """Decode smashed data with the decoder of this moment, and compare with its batch."""
        turn = self._clients[message.sender].turn if message.sender in self._clients else None
        if isinstance(message, SmashedData) and turn is not None:
            self.mse.append(mse(self._server.reconstruct(message), turn.x))

    def state_dict(self) -> dict[str, Any]:
        """Return the errors so far."""
        return {"mse": list(self.mse)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned."""
        self.mse = list(state["mse"])


def _message(client: Client, z: Tensor) -> SmashedData:
    return SmashedData(z=z, sender=client.name, step=client.step).delivered()


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
    shared = private.image_hashes() & public.image_hashes()
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


def _words(name: str) -> str:
    return name.replace("_", " ")
