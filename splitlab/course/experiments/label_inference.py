"""Labels that stay at the server, and what the client learns of them from its gradients."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Unpack

from torch.optim import SGD

import splitlab as sl
from splitlab.course.experiments.base import Device, Experiment, Keeping

MORE = 10  # rows that are known to the better informed of the attacks
DEFENSES = {
    "": lambda strength: (),
    "noise": lambda strength: (sl.defenses.GradientNoise(strength),),
    "max norm": lambda strength: (sl.defenses.MaxNorm(),),
    "Marvell": lambda strength: (sl.defenses.Marvell(strength),),
}


@dataclass(frozen=True)
class LabelLeak(Experiment):
    """Vertical split learning with a curious client, all attacks on labels on the same gradients.

    Looking changes nothing, so one training serves all attacks. "cosine" knows the first row of
    each class, or, of two classes, the first of label 1; "cosine, ten known" the first ten of it.

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
        """What the run is a function of."""
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
        """Train, and let each attack look at what arrived.

        Returns:
            `attacks`: name -> its `Report`;
            `task_accuracy` of f and s on public images; `noise`, the mean over the steps of the
            noise's length in parts of the gradients' (0 without a defense); and `cpu_seconds`.
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
        """The part with the label that is to stay secret."""
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
