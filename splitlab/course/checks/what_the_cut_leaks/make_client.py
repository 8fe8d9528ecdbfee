"""How the open exercise of chapter 21 is scored: a client whose z serves only the task.

The student's `make_client()` returns f. It is trained here, with a small server, and then read by
decoders from true pairs. New private images, which nobody has trained on, give both figures: a
client cannot be accurate on some images and silent on others.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam

from splitlab import data
from splitlab.core.randomness import Sampler
from splitlab.core.tables import Table
from splitlab.course.checks.guard import CheckFailed, secret, wrong
from splitlab.course.checks.scored import Answer, expect_tensor, scored
from splitlab.course.checks.sight import same, what
from splitlab.course.checks.verdict import Score
from splitlab.data import ImageData
from splitlab.nets.evaluation import evaluating
from splitlab.referee import floors, metrics

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


@dataclass(frozen=True)
class _Figures:
    """The accuracy and the leak of one client, means over the seeds.

    Attributes:
        size: Numbers in the z of an image.
        accuracy: On new private images, 0 to 1.
        explained: The part of their variance that the best guess explains.
    """

    size: int
    accuracy: float
    explained: float

    def score(self) -> float:
        return 0.0 if self.accuracy < LEAST else 1 - self.explained


USUAL = "tiny client, cut 2"
# Measured by what follows, as a test does again: to train them in each check takes far longer than
# to train the student's.
BESIDE = {
    "random projection": _Figures(64, 0.8554, 0.9995),
    "tiny client, cut 1": _Figures(512, 0.9048, 0.9937),
    USUAL: _Figures(512, 0.8830, 0.9897),
    "tiny client, cut 4": _Figures(256, 0.8836, 0.9684),
}
LEAST = BESIDE[USUAL].accuracy - MAY_LOSE


@scored(praise="your client keeps to the rules, and the table shows what it hides.", seconds=60)
def make_client(answer: Answer) -> Score:
    """`make_client()`: f, images (B, 1, 16, 16) -> z of at most 512 numbers an image.

    The score is the part of the variance of new private images that no decoder explains; 0 if the
    accuracy on them is more than `MAY_LOSE` below that of the tiny client at its usual cut.
    """
    _check_network(answer)
    yours = _measure(answer)
    told = sum(map(_told_by_label, SEEDS)) / len(SEEDS)
    rows = [
        *(
            (name, f.size, f.accuracy, f.explained, f.score() or "none")
            for name, f in BESIDE.items()
        ),
        ("nothing but the labels", 0, "-", told, 1 - told),
        ("yours", yours.size, yours.accuracy, yours.explained, yours.score() or "none"),
    ]
    head = ("client", "numbers in z", "accuracy", "explained", "score")
    return Score(yours.score(), Table(head, rows, caption=CAPTION, strong=len(rows) - 1))


CAPTION = (
    f"{STEPS} steps of {IMAGES} digits, {len(SEEDS)} splits. Explained: the part of the variance "
    "of new private images that the best of three guesses explains, namely a linear decoder, a "
    "kernel decoder and the mean image of the label, which crosses anyway. The score is the rest, "
    f"and none where the accuracy is below {LEAST:.3f}, which is {MAY_LOSE} less than with {USUAL}."
)

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
    for training in (False, True):
        z = _ask(answer, net.train(training), x)
    _check_slope(net, z)
    _check_single_images(answer, net.eval(), x)


def _ask(answer: Answer, net: nn.Module, x: Tensor) -> Tensor:
    """Return f's z, after checking it.

    Raises:
        CheckFailed: If it is not, or if f stops.
    """
    try:
        z = Answer(answer.guard, net, "f")(x)
    except CheckFailed as error:
        raise CheckFailed(f"when f is asked about {len(x)} images, {error}") from error
    if isinstance(z, Tensor) and (z.dim() < 2 or len(z) != len(x)):
        wrong(
            f"z has shape {tuple(z.shape)} for {len(x)} images: each image needs a z of its own, "
            f"({len(x)}, ...)"
        )
    z = expect_tensor(z, "z", z.shape if isinstance(z, Tensor) else (len(x),))
    if z[0].numel() > LARGEST:
        wrong(f"z holds {z[0].numel()} numbers an image: at most {LARGEST} may cross")
    return z


def _check_slope(net: nn.Module, z: Tensor) -> None:
    """Check that a gradient at z moves f, if f has parameters to train."""
    trained = [weight for weight in net.parameters() if weight.requires_grad]
    if not trained:
        return  # a fixed f: the server learns alone
    if not z.requires_grad:
        wrong(NO_SLOPE)
    grads = torch.autograd.grad((z * torch.randn_like(z)).sum(), trained, allow_unused=True)
    if not any(grad is not None and grad.any() for grad in grads):
        wrong(NO_SLOPE)


@torch.no_grad()
def _check_single_images(answer: Answer, net: nn.Module, x: Tensor) -> None:
    """Check that in evaluation mode z is a function of its image alone."""
    ask = functools.partial(_ask, answer, net)
    z = ask(x)
    if not torch.equal(ask(x), z):
        wrong(
            "in evaluation mode z is another one the second time: f may neither draw lots nor "
            "remember or count its calls; noise is for a later chapter"
        )
    if not same(ask(x.flip(0)).flip(0), z, 1e-4) or not same(ask(x[:1]), z[:1], 1e-4):
        wrong(
            "in evaluation mode the z of an image depends on the other images of the batch: a "
            "client is asked about single images, too"
        )


# --- Figures ----------------------------------------------------------------------------------


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


@secret
@functools.cache
def _parts(seed: int) -> _Parts:
    return _Parts(*data.digits().split(seed))


def _measure(make: Answer) -> _Figures:
    found = [_one_split(make, seed) for seed in SEEDS]
    size, accuracy, explained = torch.tensor(found, dtype=torch.float64).mean(0).tolist()
    return _Figures(int(size), accuracy, explained)


def _one_split(make: Answer, seed: int) -> tuple[int, float, float]:
    """Return the numbers in z, the accuracy, and the part that the best guess explains."""
    parts = _parts(seed)
    torch.manual_seed(seed)
    f = make()
    with evaluating(f), torch.no_grad():
        size = _ask(make, f, parts.new.x[:2])[0].numel()
    sampler = Sampler(len(parts.private), IMAGES, owner="client", seed=seed)
    rows = [sampler.next() for _ in range(STEPS)]
    batches = [(parts.private.x[of_one], parts.private.y[of_one]) for of_one in rows]
    accuracy = make.guard.run(_train, f, size, batches, parts.new)  # all its steps in one call
    with evaluating(f), torch.no_grad():
        z_public, z = (_ask(make, f, images.x).flatten(1) for images in (parts.public, parts.new))
    return size, accuracy, max(_told_by_label(seed), _decoded(z_public, z, parts))


def _train(
    f: nn.Module, size: int, batches: Iterable[tuple[Tensor, Tensor]], new: ImageData
) -> float:
    """Train f and a server honestly, and return the mean accuracy over the last steps.

    Both step on one loss as one network: chapter 11 shows that split training comes to the same.
    """
    s = nn.Sequential(nn.Flatten(), nn.Linear(size, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES))
    f.train()
    optimizer = Adam(itertools.chain(f.parameters(), s.parameters()), lr=RATE)
    accuracies = []
    for step, (x, labels) in enumerate(batches, 1):
        optimizer.zero_grad()
        F.cross_entropy(s(f(x)), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step in SCORED:
            with evaluating(f, s), torch.no_grad():
                right = s(f(new.x)).argmax(1) == new.y
            accuracies.append(right.double().mean().item())
    return sum(accuracies) / len(accuracies)


# --- Who reads z ------------------------------------------------------------------------------


@secret
@functools.cache
def _told_by_label(seed: int) -> float:
    """The part of the variance that the class means explain: the labels cross in any case."""
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
    """Gaussian kernel of a and b, as wide as the mean squared distance between rows of b."""
    width = 2 * b.var(0, correction=0).sum()
    return (-metrics.squared_distances(a, b) / width.clamp(min=1e-9)).exp()
