"""Labels that one party keeps secret, and what the other infers of them from gradients."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Unpack

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim import SGD

import splitlab as sl
from splitlab.attacks.gradient_clustering import clusters
from splitlab.attacks.label_inference import directions
from splitlab.course.experiments.base import CpuTime, Device, Experiment, Keeping
from splitlab.referee.labels import WINDOWS

MORE = 10  # known rows, for the attack that knows more
DEFENSES = {
    "": lambda strength: (),
    "noise": lambda strength: (sl.defenses.GradientNoise(strength),),
    "max norm": lambda strength: (sl.defenses.MaxNorm(),),
    "Marvell": lambda strength: (sl.defenses.Marvell(strength),),
}


@dataclass(frozen=True)
class LabelLeak(Experiment):
    """Vertical split learning with a curious client; all attacks use the same gradients.

    An attack that only looks changes nothing, so one training serves all attacks. "cosine" knows
    the first row of each class, or, of two classes, the first of label 1; "cosine, ten known" the
    first ten of label 1.

    Attributes:
        label: A class (label 1 is whether a row is of it), an attribute, or "" for all classes.
        at: The cut; None for the setting's.
        defense: "", "noise", "max norm" or "Marvell".
        strength: The defense's.
        learns: False keeps f as it was drawn: what the server reaches on its own.
    """

    label: str = ""
    at: int | None = None
    defense: str = ""
    strength: float = 0.0
    learns: bool = True

    @property
    def cut(self) -> int:
        """Where the network is split."""
        return self.setting.cut if self.at is None else self.at

    @property
    def config(self) -> dict[str, Any]:
        """Everything that determines the run."""
        return super().config | {
            "cut": self.cut,
            "label": self.label,
            "defense": self.defense,
            "strength": self.strength,
            "learns": self.learns,
        }

    def measure(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Unpack[Keeping]
    ) -> dict[str, Any]:
        """Train, and run each attack on the gradients that arrived.

        Returns:
            `attacks`: name -> its `Report`;
            `task_accuracy` of f and s on public images; `noise`, the mean over the steps of the
            noise's norm divided by the gradients' (0 without a defense); and `cpu_seconds`.
        """
        started = time.process_time()
        split = self.setting.split(self.data, self.seed)
        private, public = (self._labelled(part).to(device) for part in split[:2])
        attacks = self._attacks(private, device)
        client = attacks["clustering"]
        server = sl.HonestServer(
            self.setting.server_net(cut=self.cut, classes=len(private.classes), seed=self.seed),
            optimizer=self.setting.client_optimizer,
            labels=private.y,
            defenses=DEFENSES[self.defense](self.strength),
            seed=self.seed,
            device=device,
        )
        log = sl.train([client], server, self.steps, observers=observers, **keeping)
        state = client.state_dict()
        reports = {}
        for name, attack in attacks.items():
            attack.load_state_dict(state)
            reports[name] = sl.evaluate(attack, attack, truth=private)
        noise = log["noise"] if "noise" in log.names() else [0.0]
        return {
            "steps": log.steps,
            "attacks": {name: report.to_dict() for name, report in reports.items()},
            "task_accuracy": sl.task_accuracy(client, server, public),
            "noise": sum(noise) / len(noise),
            "cpu_seconds": time.process_time() - started,
        }

    def _labelled(self, part: sl.ImageData) -> sl.ImageData:
        """The part of the data with the secret label."""
        if not self.label:
            return part
        if self.label in part.attributes:
            return part.labelled(self.label)
        return part.one_against_rest(self.label)

    def _attacks(self, private: sl.ImageData, device: Device) -> dict[str, Any]:
        """The attacks, each a client with the same f and the same batches."""
        classes = len(private.classes)
        of_one = (private.y == 1).nonzero()[:MORE].flatten().tolist()
        each = {int((private.y == label).nonzero()[0]): label for label in range(classes)}
        options = self.setting.client(seed=self.seed, device=device) | {"classes": classes}
        if not self.learns:
            options["optimizer"] = partial(SGD, lr=0.0)
        kinds: dict[str, Any] = {
            "cosine": partial(sl.GradientCosine, known=each),
            "clustering": sl.GradientClustering,
        }
        if classes == 2:
            kinds["norm"] = sl.GradientNorm
            kinds["cosine"] = partial(sl.GradientCosine, known={of_one[0]: 1})
            kinds["cosine, ten known"] = partial(sl.GradientCosine, known=dict.fromkeys(of_one, 1))
        return {
            name: kind(
                self.setting.client_net(cut=self.cut, seed=self.seed),
                private.without_labels(),
                **options,
            )
            for name, kind in kinds.items()
        }


def worst_auc(row: Mapping[str, Any]) -> float:
    """Return the largest leak AUC of a row, over its attacks and windows, averaging included."""
    rows = [one for attack in row["attacks"].values() for one in attack["rows"].values()]
    attacks = [one for one in rows if one["kind"] == "attack"]
    return max(one["auc"] for one in attacks if one.get("auc") is not None)


class TrueLabels(sl.Observer):
    """The labels that the referee keeps to score label inference.

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
        """Everything that determines the run."""
        own = {"cut": 0, "protocol": "U-shaped", "layers": self.layers, "known": self.known}
        return super().config | own

    def measure(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Unpack[Keeping]
    ) -> dict[str, Any]:
        """Train honestly while the labels are inferred, and score the guesses.

        Returns:
            The share of labels guessed correctly in the referee's `WINDOWS` of batches, by their
            own names (`early`, `late`), and after the referee has matched guessed to true classes
            as well as possible (`early_matched`, `late_matched`); the same for k-means on the
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
        for name, part in ((name, slice(*steps)) for name, steps in WINDOWS.items()):
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
    """The share of 100 private images whose label the tail's own gradient reveals."""
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
