"""Answers to the exercises of chapter 22: right ones, and what students may well write."""

import contextlib
from importlib import import_module

import numpy as np
import torch
from bank import Bank
from torch.nn import functional as F

from splitlab.attacks.priors import total_variation
from splitlab.course.checks import unsplit
from splitlab.course.checks.unsplit.take_turns import Round, play

bank = Bank("22_unsplit", unsplit)


def mistakes(exercise, given):
    """Register short mistakes: (message, function) pairs."""
    for message, function in given:
        function.__name__ = message
        bank.mistake(exercise, message)(function)


# --- best_restart -----------------------------------------------------------------------------


@bank.also_right("best_restart")
def with_a_running_minimum(restarts, z):
    best, smallest = None, float("inf")
    for number, (images, surrogate) in enumerate(restarts):
        with torch.no_grad():
            error = F.mse_loss(surrogate(images), z).item()
        if error < smallest:
            best, smallest = number, error
    return best


@bank.also_right("best_restart")
def by_the_distance(restarts, z):
    return min(
        range(len(restarts)), key=lambda n: (restarts[n][1](restarts[n][0]) - z).norm().item()
    )


@bank.also_right("best_restart")
def by_numpy(restarts, z):
    features = np.stack([net(images).detach().numpy() for images, net in restarts])
    return ((features - z.numpy()) ** 2).reshape(len(restarts), -1).mean(axis=1).argmin()


@bank.also_right("best_restart")
def a_tensor_without_axes(restarts, z):
    return torch.stack([F.mse_loss(net(images), z) for images, net in restarts]).argmin()


def smallest(cost):
    """The restart that costs least: cost(images, features, z)."""

    def choose(restarts, z):
        costs = [float(cost(images, net(images).detach(), z)) for images, net in restarts]
        return costs.index(min(costs))

    return choose


def mse(images, features, z):
    return (features - z).square().mean()


def after(act):
    """The right number, and something done to the restarts and z on the way."""

    def choose(restarts, z):
        number = smallest(mse)(restarts, z)
        for images, net in restarts:
            act(images, net, z)
        return number

    return choose


def trains(images, net, z):
    step = torch.optim.SGD(net.parameters(), lr=0.1)
    F.mse_loss(net(images), z).backward()
    step.step()


def by_a_margin(restarts, z):
    best = 0
    for number, (images, net) in enumerate(restarts):
        images_of_best, best_net = restarts[best]
        if mse(images, net(images), z) < 0.99 * mse(None, best_net(images_of_best), z):
            best = number
    return best


def below_a_limit(restarts, z):
    best, lowest = 0, 100.0
    for number, (images, net) in enumerate(restarts):
        if mse(images, net(images), z) < lowest:
            best, lowest = number, mse(images, net(images), z)
    return best


mistakes(
    "best_restart",
    [
        ("has shape", lambda restarts, z: mse(None, restarts[0][1](restarts[0][0]), z)[None]),
        ("not the restart itself", lambda restarts, z: restarts[smallest(mse)(restarts, z)]),
        ("or its error", lambda restarts, z: 0.004),
        ("or its error", lambda restarts, z: min(mse(None, n(x), z) for x, n in restarts)),
        ("or its error", lambda restarts, z: float(smallest(mse)(restarts, z))),
        ("weights have changed", after(trains)),
        ("frozen parameters", after(lambda images, net, z: net.requires_grad_(True))),
        ("left in training mode", after(lambda images, net, z: net.train())),
        ("restarts[0][0] has changed", after(lambda images, net, z: images.clamp_(-0.5, 0.5))),
        ("z has changed", after(lambda images, net, z: z.sub_(z.mean()))),
        ("not the restart whose features", smallest(lambda x, a, z: (a - z).square().median())),
        (
            "not the restart whose features",
            smallest(lambda x, a, z: mse(x, a, z).round(decimals=3)),
        ),
        ("not the restart whose features", smallest(lambda x, a, z: mse(x, a.half(), z.half()))),
        ("not the restart whose features", smallest(lambda x, a, z: mse(x, a, z) + (a - z).amax())),
        ("not the restart whose features", by_a_margin),
        ("not the restart whose features", below_a_limit),
        ("not the restart whose features", smallest(lambda x, a, z: mse(x, a[:-1], z[:-1]))),
        ("not the restart whose features", lambda r, z: smallest(mse)(r, z) - len(r)),
    ],
)

bank.equivalent(
    "best_restart",
    "`errors.append((features - z).square().mean())` becomes "
    "`errors.append((features - z).square().sum())`",
    "all features have the shape of z, so the sums are in the order of the means",
)

# --- upright ----------------------------------------------------------------------------------


@bank.also_right("upright")
def with_a_mask(images):
    border = torch.zeros(16, 16, dtype=torch.bool)
    border[:, [0, 1, 14, 15]] = True
    center = torch.zeros(16, 16, dtype=torch.bool)
    center[4:12, 5:11] = True
    if images[..., border].mean() > images[..., center].mean():
        return images * -1
    return images.clone()


@bank.also_right("upright")
def with_plain_numbers(images):
    border = (images[..., :2].mean().item() + images[..., 14:].mean().item()) / 2
    center = images[:, :, 4:-4, 5:-5].sum().item() / (48 * images.shape[0] * images.shape[1])
    sign = -1 if border - center > 1e-12 else 1
    return sign * images


@bank.also_right("upright")
def with_where(images):
    border = images.unfold(3, 2, 14).mean()  # columns 0 and 1, 14 and 15
    return torch.where(border > images[..., 4:12, 5:11].mean(), -images, images)


@bank.also_right("upright")
def by_numpy_sums(images):
    pixels = images.numpy()
    border = pixels[..., np.r_[0, 1, 14, 15]].sum() * 3
    center = pixels[..., 4:12, 5:11].sum() * 4  # 48 pixels, and the border has 64
    return torch.from_numpy(pixels * (-1 if border > center else 1))


def edge(x):
    return torch.cat([x[..., :2], x[..., -2:]], dim=-1)


def middle(x):
    return x[..., 4:12, 5:11]


def turning(is_negative, negative=torch.neg):
    return lambda images: negative(images) if is_negative(images) else images


def is_negative(x):
    return edge(x).mean() > middle(x).mean()


def pixel_by_pixel_in_half(x):
    return edge(x).half().mean() > middle(x).half().mean()


BUFFERS = {}


def into_one_buffer(x):
    return BUFFERS.setdefault((x.shape, x.dtype), torch.empty_like(x)).copy_(
        turning(is_negative)(x)
    )


mistakes(
    "upright",
    [
        ("images has changed", lambda x: x.neg_() if is_negative(x) else x),
        ("should be a tensor", lambda x: bool(is_negative(x))),
        ("has shape", lambda x: turning(is_negative)(x)[:1]),
        ("computation graph", lambda x: turning(is_negative)(x).clone().requires_grad_()),
        ("is None", lambda x: None),
        ("rounded to torch.float", lambda x: turning(is_negative)(x).half()),
        ("changes at the next call", into_one_buffer),
        ("these are not the images", turning(lambda x: edge(x).median() > middle(x).median())),
        ("these are not the images", turning(pixel_by_pixel_in_half)),
        ("these are not the images", turning(lambda x: edge(x).mean() > middle(x).mean() + 1e-3)),
        ("these are not the images", turning(lambda x: edge(x).mean() > 0 > middle(x).mean())),
        (
            "these are not the images",
            turning(lambda x: edge(x).abs().mean() > middle(x).abs().mean()),
        ),
        ("these are not the images", turning(lambda x: edge(x).mean() > x[..., 4:11, 5:11].mean())),
        ("these are not the images", turning(is_negative, lambda x: -x.flip(0))),
        ("these are not the images", turning(is_negative, lambda x: 2 * x.mean() - x)),
        ("these are not the images", lambda x: turning(is_negative)(x).clamp(min=-0.5)),
    ],
)

# --- take_turns -------------------------------------------------------------------------------


@bank.also_right("take_turns")
def with_gradients_asked_for(images, surrogate, z, image_step, surrogate_step, steps, weight):
    for optimizer, moving in ((image_step, [images]), (surrogate_step, [*surrogate.parameters()])):
        for _ in range(steps):
            loss = F.mse_loss(surrogate(images), z)
            if optimizer is image_step:
                loss = loss + weight * total_variation(images).mean()
            for tensor, gradient in zip(moving, torch.autograd.grad(loss, moving), strict=True):
                tensor.grad = gradient
            optimizer.step()


@bank.also_right("take_turns")
def with_the_other_frozen(images, surrogate, z, image_step, surrogate_step, steps, weight):
    surrogate.requires_grad_(False)
    for _ in range(steps):
        down = (images[:, :, 1:] - images[:, :, :-1]).square().mean()
        across = (images[:, :, :, 1:] - images[:, :, :, :-1]).square().mean()
        image_step.zero_grad(set_to_none=False)
        (F.mse_loss(surrogate(images), z) + weight * (down + across)).backward()
        image_step.step()
    surrogate.requires_grad_(True)
    images.requires_grad_(False)
    for _ in range(steps):
        surrogate_step.zero_grad()
        F.mse_loss(surrogate(images), z).backward()
        surrogate_step.step()
    images.requires_grad_(True)


@bank.also_right("take_turns")
def with_the_prior_in_both_losses(images, surrogate, z, image_step, surrogate_step, steps, weight):
    """Total variation has no gradient in the surrogate's weights, so this is no mistake."""
    for optimizer in (image_step, surrogate_step):
        for _ in range(steps):
            image_step.zero_grad()
            surrogate_step.zero_grad()
            loss = F.mse_loss(surrogate(images), z) + weight * total_variation(images).mean()
            loss.backward()
            optimizer.step()
    image_step.zero_grad()
    surrogate_step.zero_grad()


def round_with(**parts):
    return lambda *given: play(type("Mistake", (Round,), parts)(), *given)


def after_the_round(act):
    def run(turn):
        Round.play(turn)
        act(turn)

    return round_with(play=run)


def without_graph(turn):
    with torch.no_grad():
        return Round.image_loss(turn)


def of_copies(turn):
    """An optimizer steps on the tensor that it was made with, and on no copy of it."""
    turn.images = turn.images.detach().clone().requires_grad_()
    return Round.image_loss(turn)


def of_fixed_images(turn):
    return turn.error(turn.images.requires_grad_(False))


def freezes(turn):
    turn.surrogate.requires_grad_(False)


def clears_first_images_once(turn, half, number):
    if half or number == 0:
        turn.optimizers[half].zero_grad()


def first_group_alone(turn, half):
    optimizer = turn.optimizers[half]
    groups = optimizer.param_groups
    optimizer.param_groups = groups[:1]
    optimizer.step()
    optimizer.param_groups = groups


mistakes(
    "take_turns",
    [
        ("the images have not moved", round_with(image_loss=of_copies)),
        ("z has changed", after_the_round(lambda turn: turn.z.sub_(turn.z.mean()))),
        ("z itself now requires", after_the_round(lambda turn: turn.z.requires_grad_())),
        ("images no longer requires", round_with(surrogate_loss=of_fixed_images)),
        (
            "no longer require gradients",
            after_the_round(freezes),
        ),
        ("left in evaluation mode", after_the_round(lambda turn: turn.surrogate.eval())),
        ("left in training mode", after_the_round(lambda turn: turn.surrogate.train())),
        ("does not require grad", round_with(image_loss=without_graph)),
        ("nan or infinity", round_with(prior=lambda turn: Round.prior(turn) / 0)),
        (
            "are not where one round takes them",
            round_with(error=lambda turn, images: F.l1_loss(turn.surrogate(images), turn.z)),
        ),
        ("are not where one round takes them", round_with(clear=clears_first_images_once)),
        ("are not where one round takes them", round_with(move=first_group_alone)),
        ("are not where one round takes them", round_with(count=lambda turn, half: 3)),
        (
            "are not where one round takes them",
            round_with(error=lambda turn, x: Round.error(turn, x.half().to(x.dtype))),
        ),
        (
            "are not where one round takes them",
            after_the_round(lambda turn: turn.images.data.clamp_(-1, 1)),
        ),
    ],
)


# --- steal ------------------------------------------------------------------------------------


def searched(budget, images, net, z, step):
    """Let `step(error)` move what it moves until the budget is used up."""
    while budget.left >= 2:
        step((net(images) - z).square().mean())
    return images.detach()


def at_once(images, net):
    adam = torch.optim.Adam(
        [{"params": [images], "lr": 0.2}, {"params": net.parameters(), "lr": 0.1}]
    )

    def step(error):
        adam.zero_grad()
        (error + 0.1 * total_variation(images).mean()).backward()
        adam.step()

    return step


def dark(z):
    return torch.full((len(z), 1, 16, 16), -0.9).requires_grad_()


@bank.also_right("steal")
def with_one_optimizer(z, make_surrogate, budget):
    images, net = dark(z), make_surrogate()
    return searched(budget, images, net, z, at_once(images, net))


@bank.also_right("steal")
def one_channel(z, make_surrogate, budget):
    return F.interpolate(z[:, [z.var((0, 2, 3)).argmax()]], size=(16, 16))


@bank.also_right("steal")
def from_a_channel(z, make_surrogate, budget):
    channel = one_channel(z, make_surrogate, budget)
    images = (2 * channel / channel.max() - 1).requires_grad_()
    net = make_surrogate()
    return searched(budget, images, net, z, at_once(images, net))


@bank.also_right("steal")
def negatives(z, make_surrogate, budget):
    return -with_one_optimizer(z, make_surrogate, budget)


@bank.also_right("steal")
def halves(z, make_surrogate, budget):
    images, net = dark(z), make_surrogate()
    step = at_once(images, net)
    while budget.left >= 2:
        for rows in (slice(10), slice(10, None)):
            step((net(images[rows]) - z[rows]).square().mean())
    return images.detach()


def too_long(z, make_surrogate, budget):
    images, net = dark(z), make_surrogate()
    step = at_once(images, net)
    for _ in range(100):
        step((net(images) - z).square().mean())
    return images


def looks_once_more(z, make_surrogate, budget):
    images, net = dark(z), make_surrogate()
    searched(budget, images, net, z, at_once(images, net))
    print("feature error", (net(images) - z).square().mean())
    return images


def diverges(z, make_surrogate, budget):
    images, net = dark(z), make_surrogate()
    both = torch.optim.SGD([images, *net.parameters()], lr=1e6)

    def step(error):
        both.zero_grad()
        error.backward()
        both.step()

    return searched(budget, images, net, z, step)


def moves_no_images(z, make_surrogate, budget):
    images, net = dark(z), make_surrogate()
    adam = torch.optim.Adam(net.parameters(), 0.1)

    def step(error):
        adam.zero_grad()
        error.backward()
        adam.step()

    return searched(budget, images, net, z, step)


def with_its_graph(z, make_surrogate, budget):
    images, net = dark(z), make_surrogate()
    searched(budget, images, net, z, at_once(images, net))
    return images


def noise(z, make_surrogate, budget):
    return torch.randn(len(z), 1, 16, 16, generator=torch.Generator().manual_seed(0))


def target_requires_grad(z, make_surrogate, budget):
    z.requires_grad_()
    return with_one_optimizer(z, make_surrogate, budget)


def rescales_z(z, make_surrogate, budget):
    z /= z.std()
    return with_one_optimizer(z, make_surrogate, budget)


def catches_the_refusal(z, make_surrogate, budget):
    with contextlib.suppress(AssertionError):
        too_long(z, make_surrogate, budget)
    return one_channel(z, make_surrogate, budget)


def refills_the_budget(z, make_surrogate, budget):
    budget.passes, budget._numbers = 10**6, -(10**9)
    return too_long(z, make_surrogate, budget).detach()


def takes_the_private_images(z, make_surrogate, budget):
    return import_module("splitlab.course.checks.unsplit.steal")._case(51).private


def takes_them_by_way_of_the_surrogate(z, make_surrogate, budget):
    return make_surrogate.__globals__["_case"](51).private


def tries_them_and_thinks_better(z, make_surrogate, budget):
    with contextlib.suppress(Exception):
        takes_the_private_images(z, make_surrogate, budget)
    return one_channel(z, make_surrogate, budget)


mistakes(
    "steal",
    [
        ("more than its budget", too_long),
        ("more than its budget", looks_once_more),
        ("more than its budget", catches_the_refusal),
        ("more than its budget", refills_the_budget),
        ("calls a part of its own check", takes_the_private_images),
        ("calls a part of its own check", takes_them_by_way_of_the_surrogate),
        ("calls a part of its own check", tries_them_and_thinks_better),
        ("should be a tensor", lambda z, make, budget: (one_channel(z, make, budget), make())),
        ("has shape", lambda z, make, budget: one_channel(z, make, budget)[:, 0]),
        ("has shape", lambda z, make, budget: z),
        ("nan or infinity", diverges),
        ("one value throughout", moves_no_images),
        ("is no nearer", noise),
        ("what steal returns requires", with_its_graph),
        ("steal changes its argument 1", rescales_z),
        ("steal changes its argument 1", target_requires_grad),
        ("stopped with", lambda z, make, budget: make(z)),
    ],
)

bank.equivalent(
    "steal",
    "`while budget.left >= 2:` becomes `while budget.left >= 1:`",
    "every step takes two passes of an even number, so one pass is never left",
)
