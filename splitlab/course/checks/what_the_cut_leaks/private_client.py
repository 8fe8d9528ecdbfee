"""Exercise 5, open: a client whose z says what the server needs, and little else.

The student's `make_client()` returns f. It is trained here, with a small server, and then read by
decoders from true pairs. New private images, which nobody has trained on, give both figures: a
client cannot be accurate on some images and silent on others.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam

from splitlab import data, nets
from splitlab.core.randomness import Sampler
from splitlab.core.tables import Table
from splitlab.course.checks.base import Answer, Score, check, expect_tensor, same, what, wrong
from splitlab.data import ImageData
from splitlab.nets.evaluation import evaluating
from splitlab.referee import floors, metrics

Make = Callable[[], nn.Module]

LARGEST = 512  # numbers in the z of an image
HIDDEN, CLASSES = 64, 10  # of the server
IMAGES = 32  # in a batch
RATE = 3e-3
STEPS = 150
SCORED = (130, 140, 150)  # steps after which the accuracy is taken
SEEDS = (31, 32)  # of the splits, the batches and the initial weights
MAY_LOSE = 0.05  # of the accuracy of the tiny client at its usual cut
RIDGES = (0.003, 0.03, 0.3)  # what the decoders add to the diagonal; the best one counts
NO_SLOPE = (
    "no gradient reaches f's weights, so f stays as it came, whatever the server learns: look for "
    "a detach, a no_grad, or a step without a slope, such as round, sign or argmax"
)


@check()
def make_client(answer: Answer) -> Score:
    """`make_client()`: f, images (B, 1, 16, 16) -> z of at most 512 numbers an image."""
    _check_network(answer)
    return score(answer)


def score(make: Make) -> Score:
    """Train the student's client, read its z, and show it beside others.

    Args:
        make: The student's `make_client`.

    Returns:
        Value: the part of the variance of new private images that no decoder explains; 0 if the
        accuracy on them is more than `MAY_LOSE` below that of the tiny client at its usual cut.

    Raises:
        CheckFailed: If f breaks while it is trained or asked.
    """
    yours = _measure("yours", make)
    figures = [*map(_baseline, BASELINES), yours]
    least = _baseline(USUAL).accuracy - MAY_LOSE
    rows: list[list[Any]] = [
        [each.name, each.size, each.accuracy, each.explained, each.score(least) or "none"]
        for each in figures
    ]
    told = sum(map(_told_by_label, SEEDS)) / len(SEEDS)
    rows.insert(-1, ["nothing but the labels", 0, "-", told, 1 - told])
    table = Table(
        ["client", "numbers in z", "accuracy", "explained", "score"],
        rows,
        caption=(
            f"{STEPS} steps of {IMAGES} digits, {len(SEEDS)} splits. Explained: the part of the "
            "variance of new private images that the best of three guesses explains, namely a "
            "linear decoder, a kernel decoder and the mean image of the label, which crosses "
            "anyway. The score is the rest, and none where the accuracy is below "
            f"{least:.3f}, which is {MAY_LOSE} less than with {USUAL}."
        ),
        strong=len(rows) - 1,
    )
    return Score(yours.score(least), table)


# --- What a client must keep to ---------------------------------------------------------------


def _check_network(answer: Answer) -> None:
    """Look at two networks that make_client returns, in both modes."""
    if isinstance(answer.function, nn.Module):
        wrong(
            "the check wants the function itself, not a network: write "
            "check.make_client(make_client), without parentheses after the second make_client"
        )
    net, other = answer(), answer()
    if not isinstance(net, nn.Module):
        wrong(
            f"make_client returns {what(net)}: return a network, an nn.Module, which takes images"
        )
    places = [{weight.data_ptr() for weight in each.parameters()} for each in (net, other)]
    if net is other or places[0] & places[1]:
        wrong(
            "the second network is the first one, or shares weights with it: every split trains a "
            "client of its own, so make all layers anew at each call"
        )
    x = torch.rand(8, 1, 16, 16) * 2 - 1
    for training in (True, False):
        _ask(net.train(training), x)
    _check_slope(net.train(), x)
    _check_single_images(net.eval(), x)


def _ask(net: nn.Module, x: Tensor) -> Tensor:
    """Return z as f gives it, if it is one.

    Raises:
        CheckFailed: If it is not, or if f stops.
    """
    given = x.clone()
    z = Answer(net, "f")(given)
    if not torch.equal(given, x):
        wrong("f changes the images that it is given: no layer may work in place on its input")
    if isinstance(z, Tensor) and (z.dim() < 2 or len(z) != len(x)):
        wrong(
            f"z has shape {tuple(z.shape)} for {len(x)} images: each image needs a z of its own, "
            f"({len(x)}, ...)"
        )
    z = expect_tensor(z, "z", z.shape if isinstance(z, Tensor) else ())
    if z[0].numel() > LARGEST:
        wrong(f"z holds {z[0].numel()} numbers an image: at most {LARGEST} may cross")
    return z


def _check_slope(net: nn.Module, x: Tensor) -> None:
    """See that a gradient at z moves f, if f has anything that can move."""
    trained = [weight for weight in net.parameters() if weight.requires_grad]
    if not trained:
        return  # a fixed f: the server learns alone
    z = _ask(net, x)
    if not z.requires_grad:
        wrong(NO_SLOPE)
    grads = torch.autograd.grad((z * torch.randn_like(z)).sum(), trained, allow_unused=True)
    if not any(grad is not None and grad.any() for grad in grads):
        wrong(NO_SLOPE)


@torch.no_grad()
def _check_single_images(net: nn.Module, x: Tensor) -> None:
    """See that in evaluation mode z is a function of its image alone."""
    z = _ask(net, x)
    if not torch.equal(_ask(net, x), z):
        wrong(
            "in evaluation mode z is another one the second time: f may neither draw lots nor "
            "remember or count its calls; noise is for a later chapter"
        )
    if not same(_ask(net, x.flip(0)).flip(0), z, 1e-4) or not same(_ask(net, x[:1]), z[:1], 1e-4):
        wrong(
            "in evaluation mode the z of an image depends on the other images of the batch: a "
            "client is asked about single images, too"
        )


# --- Figures ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Figures:
    """What one client is good for and what it gives away, means over the seeds.

    Attributes:
        name: As in the table.
        size: Numbers in the z of an image.
        accuracy: On new private images, 0 to 1.
        explained: The part of their variance that the best guess explains.
    """

    name: str
    size: int
    accuracy: float
    explained: float

    def score(self, least: float) -> float:
        return 0.0 if self.accuracy < least else 1 - self.explained


@dataclass(frozen=True)
class _Parts:
    """Who has which digits.

    Attributes:
        private: The client's, to train on.
        public: The attacker's.
        new: The client's next images, by other writers. Nobody trains on them.
    """

    private: ImageData
    public: ImageData
    new: ImageData


@functools.cache
def _parts(seed: int) -> _Parts:
    private, public, rest = data.digits().split(seed)
    return _Parts(private, public, rest)


def _measure(name: str, make: Make) -> _Figures:
    found = [_one_split(make, seed) for seed in SEEDS]
    sizes, accuracies, explained = zip(*found, strict=True)
    return _Figures(name, sizes[0], sum(accuracies) / len(SEEDS), sum(explained) / len(SEEDS))


def _one_split(make: Make, seed: int) -> tuple[int, float, float]:
    """Return the numbers in z, the accuracy, and the part that the best guess explains."""
    parts = _parts(seed)
    torch.manual_seed(seed)
    f = make()
    accuracy = _train(f, parts, seed)
    with evaluating(f), torch.no_grad():
        z_public, z = (_ask(f, images.x).flatten(1) for images in (parts.public, parts.new))
    return z[0].numel(), accuracy, max(_told_by_label(seed), _decoded(z_public, z, parts))


def _train(f: nn.Module, parts: _Parts, seed: int) -> float:
    """Train f and a server honestly, and return the mean accuracy over the last steps.

    Both step on one loss as one network: chapter 11 shows that split training comes to the same.
    """
    with evaluating(f), torch.no_grad():
        size = _ask(f, parts.new.x[:2])[0].numel()
    s = nn.Sequential(nn.Flatten(), nn.Linear(size, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES))
    f.train()
    optimizer = Adam(itertools.chain(f.parameters(), s.parameters()), lr=RATE)
    sampler = Sampler(len(parts.private), IMAGES, owner="client", seed=seed)
    accuracies = []
    for step in range(1, STEPS + 1):
        rows = sampler.next()
        optimizer.zero_grad()
        F.cross_entropy(s(_ask(f, parts.private.x[rows])), parts.private.y[rows]).backward()
        optimizer.step()
        if step in SCORED:
            with evaluating(f, s), torch.no_grad():
                right = s(_ask(f, parts.new.x)).argmax(1) == parts.new.y
            accuracies.append(right.double().mean().item())
    return sum(accuracies) / len(accuracies)


# --- Who reads z ------------------------------------------------------------------------------


@functools.cache
def _told_by_label(seed: int) -> float:
    """The part of the variance that the class means explain: labels cross, whatever f does."""
    parts = _parts(seed)
    return metrics.explained_variance(
        floors.class_mean_public(parts.public, parts.new.y), parts.new.x
    )


def _decoded(z_public: Tensor, z: Tensor, parts: _Parts) -> float:
    """The part of the variance that the best decoder explains, from true public pairs.

    Ridge regression with two kernels. It has a solution in closed form, and from a few hundred
    pairs it explains about as much as a network that is trained on them, or more.

    Args:
        z_public: The oracle's answers about all public images, (N, D).
        z: What crosses of the new private images, (M, D).
        parts: The images.
    """
    mean, std = z_public.double().mean(0), z_public.double().std(0)
    std = torch.where(std < 1e-6, 1.0, std)
    questions, asked = ((each.double() - mean) / std for each in (z_public, z))
    around = parts.public.x.mean(0, dtype=torch.float64)
    deviations = (parts.public.x - around).flatten(1)
    best = -torch.inf
    for kernel in (_linear, _gaussian):
        within, across = kernel(questions, questions), kernel(asked, questions)
        for ridge in RIDGES:
            diagonal = ridge * torch.eye(len(within), dtype=torch.float64)
            guess = across @ torch.linalg.solve(within + diagonal, deviations)
            images = around + guess.view(len(z), *parts.new.shape)
            images = images.clamp(*parts.new.value_range)
            best = max(best, metrics.explained_variance(images, parts.new.x))
    return best


def _linear(a: Tensor, b: Tensor) -> Tensor:
    return a @ b.T / a.shape[1]


def _gaussian(a: Tensor, b: Tensor) -> Tensor:
    """As wide as b is: its squared distances, which are those of the public pairs, have mean 1."""
    width = 2 * b.var(0, correction=0).sum()
    return (-metrics.squared_distances(a, b) / width.clamp(min=1e-9)).exp()


# --- Other clients ----------------------------------------------------------------------------


@functools.cache
def _baseline(name: str) -> _Figures:
    return _measure(name, BASELINES[name])


def _projection() -> nn.Module:
    """64 random mixtures of all pixels, which nothing trains."""
    return nn.Sequential(nn.Flatten(), nn.Linear(256, 64, bias=False).requires_grad_(False))


USUAL = "tiny client, cut 2"
BASELINES: dict[str, Make] = {
    "random projection": _projection,
    "tiny client, cut 1": lambda: nets.tiny.client(cut=1),
    USUAL: lambda: nets.tiny.client(cut=2),
    "tiny client, cut 4": lambda: nets.tiny.client(cut=4),
}
