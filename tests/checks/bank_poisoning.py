"""Right and wrong answers to the exercises of chapter 42."""

import numpy as np
import torch
import torch.nn.functional as F
from bank import Bank
from scipy.fft import dct

from splitlab.attacks.triggers import Patch
from splitlab.course.checks import poisoning
from splitlab.defenses.safe_split import low_frequencies, scores

bank = Bank("42_poisoning", poisoning)

# 1. poison_batch


@bank.also_right("poison_batch")
def with_the_library(x, y, target, rows, size):
    images = torch.cat([Patch(size)(x[:rows]), x[rows:]])
    return images, torch.cat([torch.full_like(y[:rows], target), y[rows:]])


@bank.also_right("poison_batch")
def with_masks(x, y, target, rows, size):
    chosen = torch.arange(len(x)) < rows
    square = torch.zeros(x.shape[2:], dtype=torch.bool)
    square[x.shape[2] - size :, x.shape[3] - size :] = True
    images = torch.where(chosen[:, None, None, None] & square, torch.ones_like(x), x)
    return [images, y.where(~chosen, torch.tensor(target))]


@bank.mistake("poison_batch", "x has changed: leave it as it was")
def into_the_given_images(x, y, target, rows, size):
    x[:rows, :, -size:, -size:] = 1
    y = y.clone()
    y[:rows] = target
    return x.clone(), y


@bank.mistake("poison_batch", "y has changed: leave it as it was")
def into_the_given_labels(x, y, target, rows, size):
    images, labels = with_the_library(x, y, target, rows, size)
    y.copy_(labels)
    return images, labels


@bank.mistake("poison_batch", "should have 2 parts")
def without_the_labels(x, y, target, rows, size):
    return with_the_library(x, y, target, rows, size)[:1]


@bank.mistake("poison_batch", "the batch is not right")
def a_pixel_too_large(x, y, target, rows, size):
    return with_the_library(x, y, target, rows, size + 1 if size < x.shape[2] else size - 1)


@bank.mistake("poison_batch", "should hold torch.int64")
def labels_as_floating_point(x, y, target, rows, size):
    images, labels = with_the_library(x, y, target, rows, size)
    return images, labels.double()


# 2. attack_success


@bank.also_right("attack_success")
def one_by_one(predict, x, y, trigger, target):
    found = [
        int(predict(trigger(image[None]))[0]) == target
        for image, label in zip(x, y, strict=True)
        if label != target
    ]
    return sum(found) / len(found)


@bank.also_right("attack_success")
def in_single_precision(predict, x, y, trigger, target):
    hit = (predict(trigger(x)) == target).float()
    return hit[y != target].mean().item()


@bank.also_right("attack_success")
def by_counts(predict, x, y, trigger, target):
    others = y != target
    return ((predict(trigger(x)) == target) & others).sum() / others.sum()


@bank.mistake("attack_success", "return one number")
def for_each_image(predict, x, y, trigger, target):
    return (predict(trigger(x)) == target)[y != target].double()


@bank.mistake("attack_success", "the attack success is not right")
def as_a_percentage(predict, x, y, trigger, target):
    return 100 * one_by_one(predict, x, y, trigger, target)


@bank.mistake("attack_success", "the attack success is not right")
def beyond_what_the_clean_images_reach(predict, x, y, trigger, target):
    clean = (predict(x) == target)[y != target].double().mean()
    return one_by_one(predict, x, y, trigger, target) - clean


@bank.mistake("attack_success", "the attack success is not right")
def with_the_trigger_twice(predict, x, y, trigger, target):
    return one_by_one(predict, trigger(x), y, trigger, target)


# 3. benign


@bank.also_right("benign")
def by_the_library(updates, share):
    order = scores([low_frequencies(update, share) for update in updates]).argsort(stable=True)
    return sorted(order[: len(updates) // 2 + 1].tolist())


@bank.also_right("benign")
def with_loops_and_a_basis(updates, share):
    count, size = updates.shape
    kept = round(share * size)
    angles = torch.outer(torch.arange(kept), 2 * torch.arange(size) + 1) * torch.pi / (2 * size)
    basis = angles.to(updates).cos() * (2 / size) ** 0.5
    basis[0] /= 2**0.5
    low = updates @ basis.T
    sums = []
    for one in range(count):
        others = [(low[one] - low[k]).norm().item() for k in range(count) if k != one]
        sums.append(sum(sorted(others)[: count // 2 + 1]))
    return sorted(np.argsort(sums)[: count // 2 + 1].tolist())


def benign_with(
    transform=lambda rows: dct(rows, norm="ortho"),
    size=round,
    order=2,
    neighbors=lambda count: count // 2 + 1,
    last=sorted,
):
    def answer(updates, share):
        low = torch.from_numpy(transform(updates.numpy()))[:, : size(share * updates.shape[1])]
        nearest = torch.cdist(low, low, p=order).sort(1).values[:, 1 : neighbors(len(low)) + 1]
        return last(nearest.sum(1).argsort()[: len(low) // 2 + 1].tolist())

    return answer


for parts in (
    {"transform": lambda rows: dct(rows, type=4, norm="ortho")},
    {"transform": lambda rows: dct(rows, norm="ortho")[:, 1:]},
    {"size": lambda size: int(size) + 1},
    {"order": 1},
    {"neighbors": lambda count: count // 2 + 2},
    {"last": list},
):
    bank.mistake("benign", "these are not the places of the majority")(benign_with(**parts))


@bank.mistake("benign", "the places should have 13 parts")
def one_too_many(updates, share):
    return [*by_the_library(updates, share), 0]


bank.equivalent(
    "benign",
    "`low = torch.from_numpy(dct(updates.detach().numpy(), norm='ortho'))[:, :size]` becomes "
    "`low = torch.from_numpy(dct(updates.numpy(), norm='ortho'))[:, :size]`",
    "updates come without a graph, so there is nothing to detach",
)
bank.equivalent(
    "benign",
    "`low = torch.from_numpy(dct(updates.detach().numpy(), norm='ortho'))[:, :size]` becomes "
    "`low = torch.from_numpy(dct(updates.detach(), norm='ortho'))[:, :size]`",
    "scipy makes an array of a tensor by itself",
)
bank.equivalent(
    "benign",
    "`scores = distances.topk(majority + 1, largest=False).values.sum(1)` becomes "
    "`scores = distances.topk(majority + 1, largest=False).values.mean(1)`",
    "every mean is over the same number of distances, so the order stays",
)

# 4. scaled_turn


@bank.also_right("scaled_turn")
def with_a_column_of_factors(net, tail, optimizer, x, y, server, rows, scale):
    z = net(x)
    a = server.forward(torch.empty_like(z).copy_(z).detach())
    a = a.clone().requires_grad_()
    loss = F.cross_entropy(tail(a), y)
    (da,) = torch.autograd.grad(loss, a, retain_graph=True)
    factors = torch.ones(len(x), *[1] * (z.dim() - 1), dtype=z.dtype)
    factors[:rows] = scale
    dz = server.backward(da * factors.view(len(x), *[1] * (da.dim() - 1))) / factors
    optimizer.zero_grad()
    (loss + (z * dz).sum()).backward()
    optimizer.step()


@bank.also_right("scaled_turn")
def with_two_losses_and_gradients_by_hand(net, tail, optimizer, x, y, server, rows, scale):
    z = net(x)
    a = server.forward(z.detach().clone()).requires_grad_()
    losses = F.cross_entropy(tail(a), y, reduction="none") / len(y)
    theirs = [weight for weight in tail.parameters() if weight.requires_grad]
    mine = [weight for weight in net.parameters() if weight.requires_grad]
    gradients = torch.autograd.grad(losses.sum(), theirs, retain_graph=True)
    hidden, honest = losses[:rows].sum(), losses[rows:].sum()
    (da,) = torch.autograd.grad(scale * hidden + honest, a)
    dz = server.backward(da)
    dz = torch.cat([dz[:rows] / scale, dz[rows:]])
    gradients += torch.autograd.grad(z, mine, dz)
    for weight, gradient in zip([*theirs, *mine], gradients, strict=True):
        weight.grad = gradient
    optimizer.step()


def scaled_with(
    loss=F.cross_entropy,
    send=lambda z: z.detach().clone(),
    answer=lambda server, da: server.backward(da),
    receive=lambda dz, rows, scale: torch.cat([dz[:rows] / scale, dz[rows:]]),
    before=lambda net, tail: None,
):
    def turn(net, tail, optimizer, x, y, server, rows, scale):
        before(net, tail)
        z = net(x)
        a = server.forward(send(z)).requires_grad_()
        optimizer.zero_grad()
        loss(tail(a), y).backward()
        da = torch.cat([a.grad[:rows] * scale, a.grad[rows:]])
        z.backward(receive(answer(server, da), rows, scale))
        optimizer.step()

    return turn


SCALED_MISTAKES = {
    "z was sent with its computation graph": {"send": lambda z: z.clone()},
    "lies in the client's memory": {"send": lambda z: z.detach()},
    "a message is missing": {"answer": lambda server, da: server.z.detach()},
    "server.backward is called once": {
        "answer": lambda server, da: server.backward(da) + server.backward(da)
    },
    "what was sent is not z and da": {"loss": lambda logits, y: F.cross_entropy(logits[1:], y[1:])},
    "ran in training mode": {"before": lambda net, tail: net.train()},
    "tail is left in evaluation mode": {"before": lambda net, tail: tail.eval()},
    "the step does not follow": {"receive": lambda dz, rows, scale: dz / dz.norm()},
}
for message, parts in SCALED_MISTAKES.items():
    bank.mistake("scaled_turn", message)(scaled_with(**parts))
