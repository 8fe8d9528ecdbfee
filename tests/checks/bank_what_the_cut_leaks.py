"""Answers to the exercises of chapter 21: right ones, and what students may well write."""

import copy
import functools

import numpy as np
import torch
from bank import Bank
from torch import nn
from torch.nn import functional as F

from splitlab import nets
from splitlab.attacks import priors
from splitlab.course.checks import what_the_cut_leaks
from splitlab.course.checks.what_the_cut_leaks.ask_oracle import _with as attack
from splitlab.course.checks.what_the_cut_leaks.invert import _loss, _with
from splitlab.course.checks.what_the_cut_leaks.surrogate_step import _with as imitation
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
        (
            "not where the descent leads",
            _with(lambda *given: _loss(*given) + given[1].square().sum()),
        ),
        ("not where the descent leads", _with(first=lambda start: torch.rand_like(start) - 0.5)),
        ("not where the descent leads", lambda *given: descent(*given).half().to(given[2].dtype)),
        ("not where the descent leads", lambda *given: descent(*given[:-1], (given[-1][0], 0.8))),
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


learn = attack()


def usual(z):
    return z.mean(0), z.std(0).clamp(min=1e-6)


def then(change):
    """An answer whose function z -> images is changed."""
    return lambda *given: change(learn(*given), *given)


def with_first_group_only(optimizer):
    return type(optimizer)(optimizer.param_groups[:1])


CALLS = {}


def into_one_buffer(decode, *_):
    def run(z):
        images = decode(z)
        return CALLS.setdefault(images.shape, torch.zeros_like(images)).copy_(images)

    return run


mistakes(
    "ask_oracle",
    [
        (
            "is not decoded as asked",
            attack(loss=lambda guess, x: (guess - x).pow(2).mean() + x.mean() * guess.mean()),
        ),
        ("is not decoded as asked", attack(at_use=lambda z, mean, std: (mean, -std))),
        ("is not decoded as asked", attack(optimizer_of=with_first_group_only)),
        ("is not decoded as asked", then(lambda decode, *_: lambda z: decode(z) * len(z) ** 0.1)),
        (
            "is not decoded as asked",
            then(lambda decode, *_: lambda z: decode(z).half().to(z.dtype)),
        ),
        ("is not decoded as asked", then(into_one_buffer)),
        (
            "z has changed at use",
            then(lambda decode, *_: lambda z: decode(z.mul_(1)) + 0 * z.zero_()),
        ),
        ("ask_oracle returns a Tensor: return a function", then(lambda decode, *given: given[1])),
        (
            "still carries its computation graph",
            then(lambda decode, *_: lambda z: decode(z).requires_grad_()),
        ),
        ("has shape", then(lambda decode, *_: lambda z: decode(z)[:1])),
        ("stopped with TypeError", then(lambda decode, *_: lambda z, limits: decode(z))),
        ("is None", then(lambda decode, *_: lambda z: None)),
        (
            "keeps the oracle",
            then(lambda decode, oracle, *_: lambda z: decode(z) if oracle else z),
        ),
        (
            "keeps the oracle",
            then(lambda decode, oracle, *_: functools.partial(lambda o, z: decode(z), [oracle])),
        ),
        (
            "the oracle was not asked",
            lambda oracle, public, *rest: learn(lambda x: x, public, *rest),
        ),
        (
            "require gradients now",
            then(lambda decode, o, p, decoder, *_: decoder.requires_grad_() and decode),
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
    return learn(lambda x: torch.stack([oracle(one) for one in x]), public, *rest)


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
    return learn(lambda x: answers, public, decoder, optimizer, batches, limits)


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


@bank.mistake("ask_oracle", "the public images have changed")
def normalizes_images_in_place(oracle, public, *rest):
    answers = oracle(public).detach()
    public -= public.mean(0)
    return learn(lambda x: answers, public, *rest)


@bank.mistake("ask_oracle", "z is not decoded as asked")
def looks_at_its_pictures(oracle, public, decoder, optimizer, batches, limits):
    """A look at what it draws, in training mode, moves its statistics."""
    decode = learn(oracle, public, decoder, optimizer, batches, limits)
    decoder.train()(torch.randn_like(public))
    decoder.eval()
    return decode


@bank.mistake("ask_oracle", "the oracle is asked again")
def asks_at_use(oracle, public, decoder, optimizer, batches, limits):
    learn(oracle, public, decoder, optimizer, batches, limits)

    def decode(z):
        mean, std = usual(oracle(public).detach())
        return decoder((z - mean) / std).detach().clamp(*limits)

    return decode


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


imitate = imitation()


def no_graph(scores, labels):
    with torch.no_grad():
        return F.cross_entropy(scores, labels)


def smoothed(scores, labels):
    return F.cross_entropy(scores, labels, label_smoothing=0.1)


def goes_backward_through_s(surrogate, optimizer, server, x, labels):
    with evaluating(server), torch.enable_grad():
        loss = F.cross_entropy(server(surrogate.train()(x)), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def with_its_graph(surrogate, optimizer, server, x, labels):
    loss = F.cross_entropy(copy.deepcopy(server).eval()(surrogate.train()(x)), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def trains_s_as_well(surrogate, optimizer, server, *rest):
    loss = imitate(surrogate, optimizer, server, *rest)
    torch.optim.SGD(server.parameters(), lr=0.1).step()
    return loss


def runs_twice(surrogate, optimizer, server, x, labels):
    surrogate.train()(x)
    return imitate(surrogate, optimizer, server, x, labels)


def first_group_alone(f, optimizer, *rest):
    return imitate(f, type(optimizer)(optimizer.param_groups[:1], lr=0.1), *rest)


mistakes(
    "surrogate_step",
    [
        ("the surrogate's step is not one", imitation(factor=0.5)),
        ("the surrogate's step is not one", first_group_alone),
        ("the number that is returned is not", imitation(smoothed)),
        ("the number that is returned is not", lambda *given: 2 * imitate(*given)),
        ("the number that is returned is not", lambda *given: imitate(*given).half()),
        ("the loss should be a number", lambda *given: (imitate(*given), 0.5)),
        ("the loss should be a number", lambda *given: str(imitate(*given).item())),
        ("the loss is None", lambda *given: (imitate(*given), None)[1]),
        ("carries its computation graph", with_its_graph),
        ("does not require grad", imitation(no_graph)),
        ("x itself now requires", lambda f, o, s, x, y: imitate(f, o, s, x.requires_grad_(), y)),
        ("x has changed", lambda f, o, s, x, y: (imitate(f, o, s, x, y), x.mul_(0.9))[0]),
        ("server's weights have changed", trains_s_as_well),
        ("server is left in evaluation mode", lambda f, o, s, *r: imitate(f, o, s.eval(), *r)),
        ("server is left in training mode", lambda f, o, s, *r: imitate(f, o, s.train(), *r)),
        ("the surrogate learned in evaluation mode", imitation(f_training=False)),
        ("surrogate is left in evaluation mode", lambda f, *r: (imitate(f, *r), f.eval())[0]),
        ("the .grad of server has changed", goes_backward_through_s),
        (
            "the .grad of server has changed",
            lambda f, o, s, *r: (imitate(f, o, s, *r), s.zero_grad())[0],
        ),
        (
            "no longer require gradients",
            lambda f, o, s, *r: imitate(f, o, s.requires_grad_(False), *r),
        ),
        ("require gradients now", lambda f, o, s, *r: imitate(f, o, s.requires_grad_(), *r)),
        ("surrogate's running statistics", runs_twice),
    ],
)


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
        (
            "when f is asked about 8 images, make_client stopped with",
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 8)),
        ),
        ("when f is asked about 8 images, make_client stopped with", nn.Module),
        ("f changes its argument 1", lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Flatten())),
        ("each image needs a z of its own", layer(lambda z, _: z.mean(0))),
        ("each image needs a z of its own", layer(lambda z, _: z.mean(0, keepdim=True))),
        ("each image needs a z of its own", layer(lambda z, _: z.mean())),
        ("z should be a tensor", Twice),
        ("z should hold floating-point numbers", layer(lambda z, _: z > 0)),
        ("z should hold floating-point numbers", layer(lambda z, _: z.argmax(1, keepdim=True))),
        ("z holds nan or infinity", layer(lambda z, _: (z - 100).log())),
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
