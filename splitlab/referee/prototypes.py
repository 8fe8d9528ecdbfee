"""The scorer of prototypes: compares images generated for a class with real ones of all classes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from splitlab.arguments import described, generator
from splitlab.core import setup
from splitlab.data import ImageData
from splitlab.referee.attacked import AttackedClients
from splitlab.referee.classifiers import Classifier
from splitlab.referee.floors import nearest_public
from splitlab.referee.images import two_classifiers
from splitlab.referee.metrics import recognized, squared_distances
from splitlab.referee.report import PICTURES, Report, Scores

GENERATED = 500  # images, asked of the attack
REAL = 1000  # real images of each class, at most
SAME = 1e-9  # MSE below which two images are one, but for rounding
COLUMNS = {
    "distance": "MSE to nearest of the target",
    "share": "taken for the target",
    "nearest_is_target": "nearest is of the target",
    "diversity": "mean pairwise MSE",
}


def score_prototypes(
    attacked: AttackedClients, attack: Any, referee: ImageData | None, *, seed: int = 0
) -> Report:
    """Score generated images of a class; arguments and errors as in `evaluate`.

    "distance": MSE to the nearest real image of the target, on average. Only the attacked clients'
    images count, equally many of each class. "share": how many of the generated images the
    referee's classifier takes for the target. "nearest_is_target": how many have their nearest real
    image in the target class. Noise can be high in either share, so neither says much alone.
    "diversity": mean MSE between two of the images.

    The floors: "gray": the middle of the value range everywhere, with which a generator begins.
    "other_classes": real images that are not of the target. "global_mean": the mean of the real
    images. "class_mean": the mean of those of the target, which shows no single image, and which a
    prototype resembles. The ceiling, "real_images": those of the target, each compared with the
    others.

    `further` has the "distance_by_class", to the nearest real image of each class, and the
    "nearest_class" by that; the notes say at which rank the target is.
    """
    private = attacked.data
    number = getattr(attack, "target", None)
    target = setup.class_number(number, len(private.classes), name="the attack's target")
    _refuse(private, referee, target, type(attack).__name__)
    assert referee is not None
    real = _real(private, seed)
    classifier, second = two_classifiers(referee, seed)
    generated = attack.generate(GENERATED)
    if not isinstance(generated, Tensor) or generated.dim() == 0:
        raise TypeError(
            f"{type(attack).__name__}.generate returns {described(generated)}: let it return a "
            "tensor of images, (n, C, H, W)"
        )
    if generated.shape[1:] != private.x.shape[1:]:
        raise ValueError(
            f"{type(attack).__name__} generates images of shape {tuple(generated.shape[1:])} and "
            f"the clients' are {private.shape}: both must have one shape"
        )
    own = real.pop(target)
    of_others = torch.cat(list(real.values()))
    order = torch.randperm(len(of_others), generator=generator(seed))
    others = of_others[order[:GENERATED].to(of_others.device)]
    means = {"global_mean": torch.cat([own, of_others]), "class_mean": own}
    gray = torch.full_like(own[:1], sum(private.value_range) / 2)

    def score(pictures: Tensor, *, among_real: bool = False) -> Scores:
        near = nearest_by_class(pictures, {target: own} | real, among_real=among_real)
        return {
            "distance": float(near[target].mean()),
            "share": share_taken_for(classifier, pictures, target),
            "nearest_is_target": _share_nearest(near, target),
            "diversity": diversity(pictures),
        }

    by_class = {
        private.classes[label]: float(near.mean())
        for label, near in sorted(nearest_by_class(generated, {target: own} | real).items())
    }
    ranked = sorted(by_class, key=lambda name: by_class[name])
    name = private.classes[target]
    return Report(
        goal="prototypes",
        n=len(generated),
        columns=COLUMNS,
        leading="distance",
        lower_is_better=True,
        floors={
            "gray": score(gray),
            "other_classes": score(others, among_real=True),
            **{what: score(x.mean(0, keepdim=True)) for what, x in means.items()},
        },
        attack={"attack": score(generated)},
        ceilings={"real_images": score(own, among_real=True)},
        further={
            "taken_for_the_target_by_second_classifier": share_taken_for(second, generated, target),
            "distance_by_class": by_class,
            "nearest_class": ranked[0],
        },
        notes=(
            f"Target: {name}. By the mean distance to the nearest real image, class {ranked[0]} is "
            f"nearest; the target is number {ranked.index(name) + 1} of {len(ranked)}.",
            f"{len(generated)} generated images; {len(own)} real images of each of {len(ranked)} "
            "classes.",
            "The class mean and the global mean are of the clients' images: no attacker has them.",
        ),
        pictures={
            "generated": generated[:PICTURES].cpu(),
            "nearest real": nearest_public(generated[:PICTURES], own).cpu(),
            "mean of the class": own.mean(0, keepdim=True).cpu(),
        },
        value_range=private.value_range,
    )


def share_taken_for(classifier: Classifier, pictures: Tensor, target: int) -> float:
    """Return the share of images (n, C, H, W) that a classifier assigns to a class."""
    return recognized(classifier, pictures, torch.full((len(pictures),), target))


@torch.no_grad()
def nearest_by_class(
    pictures: Tensor, real: dict[int, Tensor], *, among_real: bool = False
) -> dict[int, Tensor]:
    """Return the MSE of each picture to the nearest real image of each class.

    Args:
        pictures: Images, (n, C, H, W).
        real: Class number -> its real images, (m, C, H, W).
        among_real: Whether the pictures are real images themselves: none is then compared with
            itself, nor with one that is equal.

    Returns:
        Class number -> MSE, float64 (n,).
    """
    rows, found = pictures.flatten(1).double(), {}
    for label, images in real.items():
        mse = squared_distances(rows, images.flatten(1).double().to(rows.device)) / rows.shape[1]
        if among_real:
            mse[mse < SAME] = torch.inf
        found[label] = mse.min(1).values
    return found


@torch.no_grad()
def diversity(pictures: Tensor) -> float:
    """Return the mean MSE between two different ones of the images (n, C, H, W); 0 for one image.

    It is twice the sample variance of a pixel, averaged over the pixels.
    """
    if len(pictures) == 1:
        return 0.0
    return 2 * float(pictures.flatten(1).double().var(0).mean())


def _share_nearest(near: dict[int, Tensor], target: int) -> float:
    """The share of pictures whose nearest image is of the target; k classes equally near: 1/k."""
    distances = torch.stack(list(near.values()))
    nearest = (distances == distances.min(0).values).double()
    return float((nearest[list(near).index(target)] / nearest.sum(0)).mean())


def _real(private: ImageData, seed: int) -> dict[int, Tensor]:
    """Equally many real images of each class that occurs, chosen at random."""
    counts = torch.bincount(private.y)
    m = min(int(counts[counts > 0].min()), REAL)
    order = torch.randperm(len(private), generator=generator(seed))
    y = private.y.cpu()[order]
    return {int(label): private.select(order[y == label][:m]).x for label in y.unique()}


def _refuse(private: ImageData, referee: ImageData | None, target: int, name: str) -> None:
    """Raise a ValueError where prototypes of the target cannot be scored."""
    if referee is None:
        raise ValueError(
            "the referee needs images that its classifiers train on: pass referee=, a part of the "
            "split that no client holds"
        )
    if shared := private.row_hashes() & referee.row_hashes():
        raise ValueError(
            f"{len(shared)} of the clients' images are in the referee's part, too: pass a part "
            "that no client holds"
        )
    held = int((private.y == target).sum())
    if held < 2:
        raise ValueError(
            f"the clients hold {held} images of class {target}, which {name} generates: at least "
            "two are needed to compare with"
        )
