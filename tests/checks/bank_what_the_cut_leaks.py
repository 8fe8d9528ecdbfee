"""Answers to the exercises of chapter 21: right ones, and what students may well write."""

import copy

import numpy as np
import torch
from bank import Bank
from torch import nn
from torch.nn import functional as F

from splitlab import nets
from splitlab.attacks import priors
from splitlab.course.checks import what_the_cut_leaks
from splitlab.course.checks.what_the_cut_leaks.invert import _loss, _with
from splitlab.nets.evaluation import evaluating

bank = Bank("21_what_the_cut_leaks", what_the_cut_leaks)


def mistakes(exercise, given):
    """Register short mistakes: (message, function) pairs."""
    for message, function in given:
        function.__name__ = message
        bank.mistake(exercise, message)(function)


# --- total_variation --------------------------------------------------------------------------


@bank.also_right("total_variation")
def as_the_library(x):
    return priors.total_variation(x)


@bank.also_right("total_variation")
def one_image_after_the_other(x):
    return torch.stack([one.diff(dim=1).pow(2).mean() + one.diff(dim=2).pow(2).mean() for one in x])


@bank.also_right("total_variation")
def sums_over_counts(x):
    channels, height, width = x.shape[1:]
    down = (x[..., :-1, :] - x[..., 1:, :]).pow(2).flatten(1).sum(1)
    right = (x[..., :-1] - x[..., 1:]).pow(2).flatten(1).sum(1)
    return down / (channels * (height - 1) * width) + right / (channels * height * (width - 1))


@bank.also_right("total_variation")
def with_loops(x):
    _, channels, height, width = x.shape
    below = [(i, j) for i in range(height - 1) for j in range(width)]
    beside = [(i, j) for i in range(height) for j in range(width - 1)]
    down = sum((x[:, :, i + 1, j] - x[:, :, i, j]) ** 2 for i, j in below).sum(1) / len(below)
    right = sum((x[:, :, i, j + 1] - x[:, :, i, j]) ** 2 for i, j in beside).sum(1) / len(beside)
    return (down + right) / channels


def in_numpy(x):
    images = x.detach().numpy()
    parts = [(np.diff(images, axis=axis) ** 2).mean((1, 2, 3)) for axis in (2, 3)]
    return torch.from_numpy(parts[0] + parts[1])


def in_half_precision(x):
    return priors.total_variation(x.half()).to(x.dtype)


BUFFERS = {}


def into_a_buffer(x):
    """Keeps its graph, where there is one, and its memory, where there is none."""
    value = priors.total_variation(x)
    if value.requires_grad:
        return value
    return BUFFERS.setdefault(value.shape, torch.zeros_like(value)).copy_(value)


mistakes(
    "total_variation",
    [
        ("has shape", lambda x: priors.total_variation(x)[:, None]),
        ("should be a tensor", lambda x: priors.total_variation(x).tolist()),
        ("has no graph", in_numpy),
        ("the right value and the wrong gradient", lambda x: as_the_library(x.detach() + 0 * x)),
        ("this is not the total variation", lambda x: x.diff(dim=2).square().mean((1, 2, 3)) * 2),
        ("this is not the total variation", in_half_precision),
        ("changes at the next call", into_a_buffer),
    ],
)


# --- invert -----------------------------------------------------------------------------------


@bank.also_right("invert")
def one_image_at_a_time(net, z, start, steps, rate, weight, limits):
    found = []
    for target, x in zip(z.detach().split(1), start.clone().split(1), strict=True):
        for _ in range(steps):
            x = x.detach().requires_grad_()
            loss = F.mse_loss(net(x), target, reduction="sum")
            loss = loss + weight * priors.total_variation(x)[0]
            x = x - rate * torch.autograd.grad(loss, x)[0]
            x = x.clamp(*limits).detach()
        found.append(x)
    return torch.cat(found)


@bank.also_right("invert")
def with_an_optimizer(net, z, start, steps, rate, weight, limits):
    x = start.clone().requires_grad_()
    optimizer = torch.optim.SGD([x], lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (net(x) - z.detach()).square().sum() + weight * priors.total_variation(x).sum()
        loss.backward(inputs=[x])
        optimizer.step()
        with torch.no_grad():
            x.clamp_(min=limits[0], max=limits[1])
    return x.detach()


@bank.also_right("invert")
def on_a_copy_of_f(net, z, start, steps, rate, weight, limits):
    net, z, x = copy.deepcopy(net), z.detach(), start.clone()
    for _ in range(steps):
        x.requires_grad_()
        loss = (z - net(x)).pow(2).sum() + weight * priors.total_variation(x).sum()
        loss.backward()
        x = (x - rate * x.grad).detach().clip(*limits)
    return x


descent = _with()

mistakes(
    "invert",
    [
        ("does not lead there", _with(lambda *given: _loss(*given) + given[1].square().sum())),
        ("does not lead there", _with(first=lambda start: torch.rand_like(start) - 0.5)),
        ("does not lead there", lambda *given: descent(*given).half().to(given[2].dtype)),
        ("does not lead there", lambda *given: descent(*given[:-1], (given[-1][0], 0.8))),
        ("has shape", lambda *given: descent(*given).flatten(1)),
        ("requires a gradient", lambda net, z, *rest: descent(net, z.requires_grad_(), *rest)),
        ("carries its computation graph", lambda *given: descent(*given).requires_grad_()),
        ("no longer require gradients", lambda n, *rest: descent(n.requires_grad_(False), *rest)),
        ("require gradients now", lambda net, *rest: descent(net.requires_grad_(), *rest)),
        ("start has changed", lambda n, z, start, *rest: start.copy_(descent(n, z, start, *rest))),
        ("f runs in training mode", lambda net, *rest: descent_in_training_mode(net, *rest)),
    ],
)


def descent_in_training_mode(net, *rest):
    """And back: only f's running statistics tell."""
    found = _with(training=True)(net, *rest)
    net.eval()
    return found


@bank.mistake("invert", "does not require grad")
def x_requires_nothing(net, z, start, steps, rate, weight, limits):
    x = start.clone()
    for _ in range(steps):
        with torch.no_grad():
            loss = _loss(net, x, z, weight)
        x = x - rate * torch.autograd.grad(loss, x)[0]
    return x


@bank.mistake("invert", "the .grad of net has changed")
def goes_backward_through_f(net, z, start, steps, rate, weight, limits):
    x = start.clone().requires_grad_()
    for _ in range(steps):
        x.grad = None
        _loss(net, x, z.detach(), weight).backward()
        with torch.no_grad():
            x -= rate * x.grad
            x.clamp_(*limits)
    return x.detach()


@bank.mistake("invert", "net's weights have changed")
def trains_f_as_well(net, z, start, steps, rate, weight, limits):
    x = start.clone().requires_grad_()
    optimizer = torch.optim.SGD([x, *net.parameters()], lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        _loss(net, x, z.detach(), weight).backward()
        optimizer.step()
    net.zero_grad()
    return x.detach().clamp(*limits)


@bank.mistake("invert", "a gradient has run through z into the private images")
def goes_backward_through_z(net, z, start, steps, rate, weight, limits):
    """It leaves nothing in f, of which it has a copy, and does not see what lies behind z."""
    net, x = copy.deepcopy(net), start.clone().requires_grad_()
    for _ in range(steps):
        x.grad = None
        _loss(net, x, z, weight).backward(retain_graph=True)
        with torch.no_grad():
            x -= rate * x.grad
            x.clamp_(*limits)
    return x.detach()


@bank.mistake("invert", "start itself now requires a gradient")
def moves_start_itself(net, z, start, steps, rate, weight, limits):
    x = start.requires_grad_()
    for _ in range(steps):
        (gradient,) = torch.autograd.grad(_loss(net, x, z, weight), x)
        with torch.no_grad():
            x -= rate * gradient
            x.clamp_(*limits)
    return x.detach()


# --- ask_oracle -------------------------------------------------------------------------------


@bank.also_right("ask_oracle")
def in_small_calls(oracle, public, decoder, optimizer, batches, limits):
    with torch.no_grad():
        z = torch.cat([oracle(part) for part in public.split(3)])
        mean, std = z.mean(0, keepdim=True), z.std(0, keepdim=True)
        std = torch.maximum(std, torch.full_like(std, 1e-6))
        z = (z - mean) / std
    for rows in batches:
        optimizer.zero_grad(set_to_none=False)
        F.mse_loss(decoder.train()(z[rows]), public[rows]).backward()
        optimizer.step()

    def decode(z):
        return F.hardtanh(decoder.eval()((z - mean) / std).detach(), *limits)

    return decode


class Decode:
    """A decoder that is an object."""

    def __init__(self, decoder, z, limits):
        self.decoder, self.limits = decoder, limits
        self.variance, self.mean = torch.var_mean(z, dim=0)

    def normal(self, z):
        return (z - self.mean) / self.variance.sqrt().clamp_min(1e-6)

    def __call__(self, z):
        with evaluating(self.decoder):
            return self.decoder(self.normal(z)).clamp(*self.limits)


@bank.also_right("ask_oracle")
def as_an_object(oracle, public, decoder, optimizer, batches, limits):
    z = oracle(public).detach().clone()
    decode = Decode(decoder, z, limits)
    decoder.train()
    for rows in batches:
        loss = (decoder(decode.normal(z[rows])) - public[rows]).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return decode


def usual(z):
    return z.mean(0), z.std(0).clamp(min=1e-6)


def learn(
    oracle,
    public,
    decoder,
    optimizer,
    batches,
    limits,
    *,
    statistics=usual,
    at_use=None,
    loss=lambda guess, x: (guess - x).square().mean(),
    training=True,
    eval_after=True,
    clamp=True,
    clear=True,
    rows_of=lambda rows: rows,
    targets_of=lambda rows: rows,
    answers=None,
):
    """The right attack, and what one option or another makes of it."""
    z = oracle(public).detach() if answers is None else answers
    mean, std = statistics(z)
    decoder.train(training)
    for rows in batches:
        guess = decoder((z[rows_of(rows)] - mean) / std)
        value = loss(guess, public[targets_of(rows_of(rows))])
        if clear:
            optimizer.zero_grad()
        value.backward()
        optimizer.step()
    decoder.train(not eval_after)

    def decode(z):
        normal = (z - mean) / std if at_use is None else at_use(z, mean, std)
        with torch.no_grad():
            images = decoder(normal)
        return images.clamp(*limits) if clamp else images

    return decode


def learns(**options):
    return lambda *given: learn(*given, **options)


def nothing(z):
    return torch.zeros_like(z[0])


def one(z):
    return torch.ones_like(z[0])


mistakes(
    "ask_oracle",
    [
        (
            "z went into the decoder as it came",
            learns(statistics=lambda z: (nothing(z), one(z))),
        ),
        (
            "and not divided by its standard deviation",
            learns(statistics=lambda z: (z.mean(0), one(z))),
        ),
        (
            "and not taken less its mean",
            learns(statistics=lambda z: (nothing(z), usual(z)[1])),
        ),
        (
            "divided by its variance",
            learns(statistics=lambda z: (z.mean(0), z.var(0).clamp(min=1e-6))),
        ),
        ("all of z has one mean", learns(statistics=lambda z: (z.mean(), z.std()))),
        (
            "each channel of z has one mean",
            learns(
                statistics=lambda z: (
                    z.mean((0, 2, 3), keepdim=True),
                    z.std((0, 2, 3), keepdim=True),
                )
            ),
        ),
        (
            "divided by N in the standard deviation",
            learns(statistics=lambda z: (z.mean(0), z.std(0, correction=0).clamp(min=1e-6))),
        ),
        (
            "is added to every standard deviation",
            learns(statistics=lambda z: (z.mean(0), z.std(0) + 1e-6)),
        ),
        ("are not finite", learns(statistics=lambda z: (z.mean(0), z.std(0)))),
        (
            "the decoder climbs its loss",
            learns(loss=lambda guess, x: -(guess - x).square().mean()),
        ),
        (
            "the squared errors are summed",
            learns(loss=lambda guess, x: (guess - x).square().sum()),
        ),
        ("the absolute error", learns(loss=F.l1_loss)),
        ("are still in .grad", learns(clear=False)),
        ("was trained in evaluation mode", learns(training=False)),
        (
            "a step is missing",
            lambda o, p, d, opt, batches, li: learn(o, p, d, opt, batches[:-1], li),
        ),
        ("takes all public images", learns(rows_of=lambda rows: torch.arange(11))),
        ("the first rows of public", learns(rows_of=lambda rows: torch.arange(len(rows)))),
        (
            "every step takes the first batch",
            lambda o, p, d, opt, batches, li: learn(o, p, d, opt, batches[:1] * len(batches), li),
        ),
        ("not of the same rows", learns(targets_of=lambda rows: torch.arange(len(rows)))),
        (
            "was not trained as asked",
            learns(loss=lambda guess, x: (guess - x).square().mean() + guess.square().mean()),
        ),
        ("z is normalized in training and not at use", learns(at_use=lambda z, mean, std: z)),
        ("at use, z is not taken less its mean", learns(at_use=lambda z, mean, std: z / std)),
        ("at use, z is not divided", learns(at_use=lambda z, mean, std: z - mean)),
        (
            "at use, z is normalized by its own mean",
            learns(at_use=lambda z, mean, std: (z - z.mean(0)) / usual(z)[1]),
        ),
        ("in training mode at use", learns(eval_after=False)),
        ("the images leave their range", learns(clamp=False)),
        (
            "between -1 and 1, whatever limits say",
            lambda *given: learn(*given[:-1], (-1, 1)),
        ),
        ("between 0 and 1, whatever limits say", lambda *given: learn(*given[:-1], (0, 1))),
        (
            "does not vary on public images",
            learns(statistics=lambda z: (z.mean(0), torch.where(z.std(0) == 0, 1.0, z.std(0)))),
        ),
        (
            "does not vary on public images",
            learns(statistics=lambda z: (z.mean(0), z.std(0).clamp(min=1e-8))),
        ),
        ("and its use is not", learns(at_use=lambda z, mean, std: (mean - z) / std)),
        ("z has changed at use", learns(at_use=lambda z, mean, std: z.sub_(mean).div_(std))),
        ("ask_oracle returns a Tensor: return a function", lambda *given: learn(*given)(given[1])),
        (
            "the oracle was not asked",
            lambda *given: learn(*given, answers=torch.randn_like(given[1])),
        ),
    ],
)


@bank.mistake("ask_oracle", "the client's own data")
def looks_behind_the_oracle(oracle, public, *rest):
    return learn(oracle, oracle.__self__.data, *rest)


@bank.mistake("ask_oracle", "an image that is not in public")
def asks_about_noise(oracle, public, *rest):
    return learn(oracle, public + 0.01 * torch.randn_like(public), *rest)


@bank.mistake("ask_oracle", "an image that is not in public")
def asks_about_private_images(oracle, public, *rest):
    """They are at hand in a notebook, and in no attacker's."""
    return learn(oracle, oracle.__self__._private, *rest)


@bank.mistake("ask_oracle", "ask about a batch of public images")
def asks_about_one_image(oracle, public, *rest):
    return learn(oracle, public, *rest, answers=torch.stack([oracle(x) for x in public]))


@bank.mistake("ask_oracle", "times about one image")
def asks_at_each_step(oracle, public, decoder, optimizer, batches, limits):
    mean, std = usual(oracle(public).detach())
    for rows in batches:
        z = (oracle(public[rows]).detach() - mean) / std
        optimizer.zero_grad()
        (decoder.train()(z) - public[rows]).square().mean().backward()
        optimizer.step()
    return lambda z: decoder.eval()((z - mean) / std).detach().clamp(*limits)


@bank.mistake("ask_oracle", "not all public images were asked about")
def asks_about_some(oracle, public, decoder, optimizer, batches, limits):
    rows = torch.cat(batches[:2]).unique()
    answers = torch.zeros_like(public)
    answers[rows] = oracle(public[rows]).detach()
    return learn(oracle, public, decoder, optimizer, batches, limits, answers=answers)


@bank.mistake("ask_oracle", "into the client's weights")
def keeps_the_graph(oracle, public, decoder, optimizer, batches, limits):
    z = oracle(public)
    mean, std = usual(z.detach())
    for rows in batches:
        loss = (decoder.train()((z[rows] - mean) / std) - public[rows]).square().mean()
        optimizer.zero_grad()
        loss.backward(retain_graph=True)
        optimizer.step()
    return lambda z: decoder.eval()((z - mean) / std).detach().clamp(*limits)


@bank.mistake("ask_oracle", "a second time")
def keeps_the_graph_and_goes_on(oracle, public, *rest):
    return learn(oracle, public, *rest, answers=oracle(public))


@bank.mistake("ask_oracle", "the public images have changed")
def normalizes_images_in_place(oracle, public, *rest):
    answers = oracle(public).detach()
    public -= public.mean(0)
    return learn(oracle, public, *rest, answers=answers)


@bank.mistake("ask_oracle", "each batch is normalized by its own mean")
def statistics_of_the_batch(oracle, public, decoder, optimizer, batches, limits):
    answers = oracle(public).detach()
    for rows in batches:
        mean, std = usual(answers[rows])
        loss = (decoder.train()((answers[rows] - mean) / std) - public[rows]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return lambda z: decoder.eval()((z - mean) / std).detach().clamp(*limits)


@bank.mistake("ask_oracle", "the decoder learns to turn images into z")
def target_and_input_swapped(oracle, public, decoder, optimizer, batches, limits):
    z = oracle(public).detach()
    mean, std = usual(z)
    return learn(
        oracle,
        (z - mean) / std,
        decoder,
        optimizer,
        batches,
        limits,
        answers=public,
        statistics=lambda z: (nothing(z), one(z)),
    )


@bank.mistake("ask_oracle", "the decoder learns to turn images into z")
def target_and_input_swapped_and_raw(oracle, public, *rest):
    z = oracle(public).detach()
    return learn(oracle, z, *rest, answers=public, statistics=lambda z: (nothing(z), one(z)))


@bank.mistake("ask_oracle", "BatchNorm's running statistics are not those")
def looks_at_its_pictures(oracle, public, decoder, optimizer, batches, limits):
    """A look at what it draws, in training mode, moves its statistics."""
    decode = learn(oracle, public, decoder, optimizer, batches, limits)
    decoder.train()(torch.randn_like(public))
    decoder.eval()
    return decode


@bank.mistake("ask_oracle", "the decoder has not moved")
def no_step(oracle, public, decoder, optimizer, batches, limits):
    return learn(oracle, public, decoder, optimizer, [], limits)


@bank.mistake("ask_oracle", "with Adam it does not")
def descends_by_hand(oracle, public, decoder, optimizer, batches, limits):
    plain = torch.optim.SGD(decoder.parameters(), lr=optimizer.param_groups[0]["lr"])
    return learn(oracle, public, decoder, plain, batches, limits)


@bank.mistake("ask_oracle", "the decoded images carry a computation graph")
def with_a_graph(*given):
    decode = learn(*given)
    return lambda z: decode(z).requires_grad_()


@bank.mistake("ask_oracle", "what the decoder returns has shape")
def one_image_alone(*given):
    decode = learn(*given)
    return lambda z: decode(z)[:1]


@bank.mistake("ask_oracle", "the function that ask_oracle returns stopped with TypeError")
def takes_two_arguments(*given):
    decode = learn(*given)
    return lambda z, limits: decode(z).clamp(*limits)


@bank.mistake("ask_oracle", "a single z is decoded to another image")
def brightens_a_single_one(*given):
    decode = learn(*given)
    return lambda z: decode(z) if len(z) > 1 else decode(z) - decode(z).mean()


@bank.mistake("ask_oracle", "the oracle is asked again")
def asks_at_use(oracle, public, decoder, optimizer, batches, limits):
    learn(oracle, public, decoder, optimizer, batches, limits)

    def decode(z):
        mean, std = usual(oracle(public).detach())
        return decoder((z - mean) / std).detach().clamp(*limits)

    return decode


@bank.mistake("ask_oracle", "the oracle is kept")
def keeps_the_oracle(oracle, *rest):
    decode = learn(oracle, *rest)
    return lambda z: decode(z) if oracle else z


# --- surrogate_step ---------------------------------------------------------------------------


@bank.also_right("surrogate_step")
def modes_noted_and_put_back(surrogate, optimizer, server, x, labels):
    modes = [module.training for module in server.modules()]
    server.eval()
    loss = F.cross_entropy(server(surrogate.train()(x)), labels)
    optimizer.zero_grad()
    loss.backward(inputs=list(surrogate.parameters()))
    optimizer.step()
    for module, mode in zip(server.modules(), modes, strict=True):
        module.training = mode
    return loss.detach()


@bank.also_right("surrogate_step")
def gradients_asked_for(surrogate, optimizer, server, x, labels):
    frozen = copy.deepcopy(server).requires_grad_(False).eval()
    scores = frozen(surrogate.train()(x)).log_softmax(1)
    loss = F.nll_loss(scores, labels)
    own = list(surrogate.parameters())
    for weight, gradient in zip(own, torch.autograd.grad(loss, own), strict=True):
        weight.grad = gradient
    optimizer.step()
    return float(loss.detach())


@bank.also_right("surrogate_step")
def functional(surrogate, optimizer, server, x, labels):
    modes = {module: module.training for module in server.modules()}
    held = {n: t.detach() for n, t in [*server.named_parameters(), *server.named_buffers()]}
    z = surrogate.train()(x)
    server.eval()
    loss = F.cross_entropy(torch.func.functional_call(server, held, (z,)), labels)
    for module, mode in modes.items():
        module.training = mode
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def imitate(
    surrogate,
    optimizer,
    server,
    x,
    labels,
    *,
    frozen=True,
    s_training=False,
    f_training=True,
    loss=F.cross_entropy,
    cut=lambda z: z,
    clear=True,
    scale=1,
    returns=lambda loss: loss.item(),
):
    """The right step, and what one option or another makes of it."""
    s = (copy.deepcopy(server) if frozen else server).train(s_training)
    value = loss(s(cut(surrogate.train(f_training)(x))), labels)
    if clear:
        optimizer.zero_grad()
    (scale * value).backward()
    optimizer.step()
    return returns(value)


def imitates(**options):
    return lambda *given: imitate(*given, **options)


mistakes(
    "surrogate_step",
    [
        ("s ran in training mode", imitates(s_training=True)),
        ("the surrogate learned in evaluation mode", imitates(f_training=False)),
        ("the wrong way round", imitates(s_training=True, f_training=False)),
        ("running statistics in s have moved", imitates(frozen=False, s_training=True)),
        ("s is left in another mode", imitates(frozen=False)),
        ("the surrogate climbs", imitates(scale=-1)),
        (
            "summed over the images",
            imitates(loss=lambda s, y: F.cross_entropy(s, y, reduction="sum")),
        ),
        ("times that of the mean cross-entropy", imitates(scale=0.5)),
        ("the labels are shifted", imitates(loss=lambda s, y: F.cross_entropy(s, (y + 1) % 5))),
        ("the labels are shifted", imitates(loss=lambda s, y: F.cross_entropy(s, (y - 1) % 5))),
        ("are moved along the batch", imitates(loss=lambda s, y: F.cross_entropy(s, y.roll(1)))),
        (
            "between scores and labels",
            imitates(loss=lambda s, y: F.mse_loss(s, F.one_hot(y, 5).double())),
        ),
        (
            "between probabilities and labels",
            imitates(loss=lambda s, y: F.mse_loss(s.softmax(1), F.one_hot(y, 5).double())),
        ),
        (
            "is taken of probabilities",
            imitates(loss=lambda s, y: F.cross_entropy(s.softmax(1), y)),
        ),
        ("the logarithm is missing", imitates(loss=F.nll_loss)),
        (
            "the labels go unused",
            imitates(loss=lambda s, y: F.cross_entropy(s, s.argmax(1))),
        ),
        ("the surrogate has not moved", imitates(cut=lambda z: z.detach())),
        ("are still in .grad", imitates(clear=False)),
        (
            "is not one on the mean cross-entropy",
            imitates(loss=lambda s, y: F.cross_entropy(s, y, label_smoothing=0.1)),
        ),
        ("carries its graph", imitates(returns=lambda loss: loss)),
        ("return the loss alone", imitates(returns=lambda loss: (loss.item(), 0.5))),
        (
            "the loss should be a number and is a str",
            imitates(returns=lambda loss: str(loss.item())),
        ),
        ("surrogate_step returns nothing", imitates(returns=lambda loss: None)),
        ("the number that is returned is not", imitates(returns=lambda loss: 2 * loss.item())),
        (
            "does not require grad",
            lambda f, o, s, x, y: imitate(f, o, s, x, y, loss=no_graph),
        ),
        (
            "the images or the labels have changed",
            lambda f, o, s, x, y: imitate(f, o, s, x.mul_(0.9), y),
        ),
        (
            "the images require a gradient",
            lambda f, o, s, x, y: imitate(f, o, s, x.requires_grad_(), y),
        ),
    ],
)


def no_graph(scores, labels):
    with torch.no_grad():
        return F.cross_entropy(scores, labels)


@bank.mistake("surrogate_step", "s has moved")
def trains_s_as_well(surrogate, optimizer, server, x, labels):
    both = torch.optim.SGD([*surrogate.parameters(), *server.parameters()], lr=0.1)
    return imitate(surrogate, both, server, x, labels, frozen=False)


@bank.mistake("surrogate_step", "s is left in another mode")
def back_into_training_mode(surrogate, optimizer, server, x, labels):
    """All of it, the layer too that was held still."""
    loss = F.cross_entropy(server.eval()(surrogate.train()(x)), labels)
    optimizer.zero_grad()
    loss.backward(inputs=list(surrogate.parameters()))
    optimizer.step()
    server.train()
    return loss.item()


def with_modes_put_back(step):
    """Let a step have its own server back in the modes that it had."""

    def run(surrogate, optimizer, server, x, labels):
        with evaluating(server), torch.enable_grad():
            return step(surrogate, optimizer, server, x, labels)

    return run


@bank.mistake("surrogate_step", "the .grad of the weights of s")
@with_modes_put_back
def goes_backward_through_s(surrogate, optimizer, server, x, labels):
    return imitate(surrogate, optimizer, server, x, labels, frozen=False)


@bank.mistake("surrogate_step", "the .grad of the weights of s")
@with_modes_put_back
def clears_what_it_left(surrogate, optimizer, server, x, labels):
    loss = imitate(surrogate, optimizer, server, x, labels, frozen=False)
    server.zero_grad()
    return loss


@bank.mistake("surrogate_step", "the weights of s no longer require")
@with_modes_put_back
def freezes_for_good(surrogate, optimizer, server, x, labels):
    server.requires_grad_(False)
    return imitate(surrogate, optimizer, server, x, labels, frozen=False)


@bank.mistake("surrogate_step", "does not require grad")
def s_without_a_graph(surrogate, optimizer, server, x, labels):
    with evaluating(server):
        loss = F.cross_entropy(server(surrogate.train()(x)), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@bank.mistake("surrogate_step", "with Adam it does not")
def steps_by_hand(surrogate, optimizer, server, x, labels):
    plain = torch.optim.SGD(surrogate.parameters(), lr=optimizer.param_groups[0]["lr"])
    return imitate(surrogate, plain, server, x, labels)


@bank.mistake("surrogate_step", "BatchNorm's running statistics are not those")
def runs_twice(surrogate, optimizer, server, x, labels):
    surrogate.train()(x)
    return imitate(surrogate, optimizer, server, x, labels)


@bank.mistake("surrogate_step", "the loss was computed after the step")
def looks_again(surrogate, optimizer, server, x, labels):
    imitate(surrogate, optimizer, server, x, labels)
    state = copy.deepcopy(surrogate)
    return F.cross_entropy(copy.deepcopy(server).eval()(state.train()(x)), labels).item()


# --- make_client ------------------------------------------------------------------------------


@bank.also_right("make_client")
def six_numbers():
    return nn.Sequential(nn.Flatten(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 6))


@bank.also_right("make_client")
def nothing_to_train():
    return nn.Sequential(nn.AvgPool2d(2), nn.Dropout(0.1))


@bank.also_right("make_client")
def deep_and_narrow():
    return nn.Sequential(nets.tiny.client(cut=2), nn.Flatten(), nn.Linear(512, 6))


class Layer(nn.Module):
    """A trained layer, and then any function of its result.

    Args:
        function: (z, layer) -> z; the layer knows how often it was called.
        size: Numbers that the trained layer gives an image.
    """

    def __init__(self, function, size=8):
        super().__init__()
        self.function = function
        self.linear = nn.Linear(256, size)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.function(self.linear(x.flatten(1)), self)


def layer(function):
    return lambda: Layer(function)


everybodys = nn.Linear(256, 8)


class Twice(nn.Module):
    """Gives z in two parts."""

    def forward(self, x):
        return x, x


mistakes(
    "make_client",
    [
        ("the function itself, not a network", nn.Sequential(nn.Flatten(), nn.Linear(256, 8))),
        ("return a network", lambda: nn.Sequential),
        ("return a network", lambda: [nn.Flatten(), nn.Linear(256, 8)]),
        ("or shares weights with it", lambda: everybodys),
        ("or shares weights with it", lambda: nn.Sequential(nn.Flatten(), everybodys)),
        ("f stopped with", lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 8))),
        ("f stopped with", nn.Module),
        ("f changes the images", lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Flatten())),
        ("each image needs a z of its own", layer(lambda z, _: z.mean(0))),
        ("each image needs a z of its own", layer(lambda z, _: z.mean(0, keepdim=True))),
        ("each image needs a z of its own", layer(lambda z, _: z.mean())),
        ("z should be a tensor", Twice),
        ("z should hold floating-point numbers", layer(lambda z, _: z > 0)),
        ("z should hold floating-point numbers", layer(lambda z, _: z.argmax(1, keepdim=True))),
        ("z is not finite", layer(lambda z, _: (z - 100).log())),
        ("at most 512 may cross", lambda: nn.Conv2d(1, 3, 3)),
        ("at most 512 may cross", lambda: Layer(lambda z, _: z, 513)),
        ("no gradient reaches f's weights", layer(lambda z, _: z.round())),
        ("no gradient reaches f's weights", layer(lambda z, _: z.detach())),
        ("no gradient reaches f's weights", layer(lambda z, _: z.sigmoid().round() + z - z)),
        ("another one the second time", layer(lambda z, _: z + torch.rand_like(z))),
        ("another one the second time", layer(lambda z, f: z + f.calls)),
        ("another one the second time", layer(lambda z, f: F.dropout(z, training=True))),
        ("the other images of the batch", layer(lambda z, _: z - z.mean(0))),
        (
            "the other images of the batch",
            lambda: nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), nn.Flatten()),
        ),
    ],
)
