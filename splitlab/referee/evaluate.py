"""The referee: the only place where private data meet an attack's answers about them.

Read on from here: `evaluate` asks the attack what it infers and hands it to the scorer of that goal
(`images`, `labels`, `properties`, `prototypes`, `poisoning`), which adds the floors and ceilings
and returns a `Report`.
Nothing here reaches a party, and looking changes nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from splitlab.arguments import IMAGES, described, instance
from splitlab.arguments import seed as whole
from splitlab.core.client import Client
from splitlab.core.server import Server
from splitlab.data import ImageData
from splitlab.referee.attacked import AttackedClients
from splitlab.referee.images import score_images
from splitlab.referee.labels import WINDOWS, score_labels
from splitlab.referee.poisoning import score_poisoning
from splitlab.referee.properties import score_property
from splitlab.referee.prototypes import score_prototypes
from splitlab.referee.report import Goal, Report

# What an attack infers is what it has a method for; where it has several, the first one here.
METHODS: dict[Goal, str] = {
    "property": "infer_property",
    "labels": "infer_labels",
    "images": "reconstruct",
    "prototypes": "generate",
    "poisoning": "attack_set",
}


def evaluate(
    clients: Client | Sequence[Client],
    attack: Any,
    referee: ImageData | None = None,
    *,
    goal: Goal | None = None,
    truth: ImageData | None = None,
    public: ImageData | None = None,
    n_match: int | None = None,
    windows: Mapping[str, tuple[int, int]] | None = None,
    server: Server | None = None,
    seed: int = 0,
) -> Report:
    """Score an attack by a server or a client against floors and ceilings.

    The attack says by its methods what it infers: `infer_property`, `infer_labels`,
    `reconstruct`, `generate` or `attack_set`. Trained parties are given, and stay as they are.

    What an attack of your own needs, by goal:

    - "images": `reconstruct(message) -> images` (N, C, H, W) for a `SmashedData` message of N rows,
      in evaluation mode and on the scale of the private images.
    - "property": `public` images labeled with the property, `infer_property(message) -> scores`
      (N, K), and `classify(x) -> scores` for images (N, C, H, W), through networks of its own.
    - "labels": `inferred(first, end)`, which returns what it infers from these steps. A client's
      attack inherits it from `sl.attacks.LabelInference`, and writes `infer_labels` and perhaps
      `score`; for a server's, see `sl.UnSplitLabels`.
    - "prototypes": `generate(n) -> images` (n, C, H, W) of the class whose number is its `target`,
      in evaluation mode and on the scale of the private images.
    - "poisoning": `attack_set(data) -> (rows, images, wanted)`: which rows of test images are
      attacked, int64 (n,); these images as the attacker would present them, (n, C, H, W), with its
      trigger if there is one; and the classes that it wants them to be taken for, int64 (n,).

    Args:
        clients: The client, or all clients, after training. An attacker among them is not
            attacked, unless it infers labels of its own images that lie with the server. Poisoning:
            all that trained to the end, in their order, for the network is that of the one whose
            turn is next.
        attack: The attack: the server, or one of the clients. For images it may have `public`
            images and an `autoencode` that sends images (N, C, H, W) through the networks it
            decodes with: what those could show at best is a ceiling.
        referee: Images: the referee's own part of the data, on which its classifiers train. None
            where the split leaves nothing: it then sets aside private images that it does not
            score. Prototypes cannot do without, nor can poisoning, which is scored on them.
        goal: "images", "labels", "property", "prototypes" or "poisoning", for an attack that has
            several; None for the first of property, labels, images, prototypes, poisoning that it
            has a method for.
        truth: Labels and properties: the attacked clients' images, in their order, with what is
            inferred as their label. It can be left out for labels that these clients hold.
        public: Images: those for the floors. By default the attack's own; an attack that has none
            needs them here, and never sees them.
        n_match: Images: how many private images to score, and to choose among when matching: 500
            where there are fewer than 1000 private images, else 1000.
        windows: Labels: name -> first step, and the step after the last, of the windows that are
            scored. By default the steps 0 to 20 and 100 to 200.
        server: Poisoning: the server that they trained with, where it is not the attacker.
        seed: Seeds the choice of images and the referee's own training.

    Returns:
        The report.

    Raises:
        TypeError: If clients are none, the attack has no method for the goal, or an argument is not
            the goal's or no images.
        ValueError: If there is no such goal, or data are missing, do not fit the clients', or are
            private and public at once.
    """
    everyone = list(clients) if isinstance(clients, Sequence) else [clients]
    if odd := [one for one in everyone if not isinstance(one, Client)]:
        raise TypeError(
            f"clients holds {described(odd[0])}, which is not a Client: write "
            "evaluate(client, attack, referee), or a list of clients first"
        )
    if not everyone:
        raise ValueError("there is no client to evaluate: pass the client, or a list of clients")
    goal = goal_of(attack, goal)
    for name, data in {"referee": referee, "truth": truth, "public": public}.items():
        if data is not None:
            instance(name, data, ImageData, IMAGES)
    seed = whole(seed)
    given: dict[str, Any] = {"truth": truth, "public": public, "n_match": n_match}
    given |= {"windows": windows, "server": server}
    _refuse_others(goal, {name for name, value in given.items() if value is not None})
    if goal == "poisoning":
        return score_poisoning(everyone, attack, server, referee)
    if goal == "labels" and any(client is attack for client in everyone):
        attacked = AttackedClients([attack])
    else:
        attacked = AttackedClients([client for client in everyone if client is not attack])
    if goal == "images":
        return score_images(attacked, attack, referee, public=public, n_match=n_match, seed=seed)
    if goal == "labels":
        return score_labels(
            *(attacked, attack, truth), windows=WINDOWS if windows is None else windows
        )
    if goal == "prototypes":
        return score_prototypes(attacked, attack, referee, seed=seed)
    return score_property(attacked, attack, truth, seed=seed)


def goal_of(attack: Any, goal: Goal | None = None) -> Goal:
    """Return the goal to be scored; arguments and errors as in `evaluate`."""
    if inspect.isclass(attack):
        raise TypeError(
            f"attack is the class {attack.__name__}, and not one of its objects: pass the attack "
            "that was trained"
        )
    able: list[Goal] = [name for name, method in METHODS.items() if hasattr(attack, method)]
    if not able:
        raise TypeError(
            f"{type(attack).__name__} infers nothing that can be scored: give it "
            f"{', '.join(METHODS.values())}, or pass an attack such as sl.FSHA"
        )
    if goal is not None and (not isinstance(goal, str) or goal not in METHODS):
        raise ValueError(f"there is no goal {described(goal)}: choose from {', '.join(METHODS)}")
    if goal is not None and goal not in able:
        raise TypeError(
            f"{type(attack).__name__} cannot be scored on {goal!r}, only on {', '.join(able)}: "
            f"choose one of those as goal, or give it the method {METHODS[goal]}"
        )
    return goal or able[0]


def _refuse_others(goal: Goal, given: set[str]) -> None:
    allowed = {
        "images": {"public", "n_match"},
        "labels": {"truth", "windows"},
        "property": {"truth"},
        "prototypes": set(),
        "poisoning": {"server"},
    }
    if odd := sorted(given - allowed[goal]):
        raise TypeError(
            f"{odd[0]}= has no meaning where the goal is {goal}: leave it out, or choose another "
            "goal="
        )
