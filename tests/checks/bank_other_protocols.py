"""Answers to the exercises of the page Other protocols: right ones, and what students may write."""

import copy

import torch
from bank import Bank
from torch import nn
from torch.nn import functional as F

from splitlab.core import rounds
from splitlab.course.checks import other_protocols

bank = Bank("12_other_protocols", other_protocols)


# --- owner_turn -------------------------------------------------------------------------------


@bank.also_right("owner_turn")
def one_call_of_grad(tail, optimizer, a, labels):
    tail.train()
    leaf = a.clone().requires_grad_()
    loss = F.cross_entropy(tail(leaf), labels)
    weights = [weight for weight in tail.parameters() if weight.requires_grad]
    da, *gradients = torch.autograd.grad(loss, [leaf, *weights])
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient
    optimizer.step()
    return da


@bank.also_right("owner_turn")
def negative_log_likelihood(tail, optimizer, a, labels):
    received = a.detach().clone().requires_grad_()
    optimizer.zero_grad(set_to_none=False)
    F.nll_loss(tail.train()(received).log_softmax(1), labels).backward()
    da = received.grad.detach().clone()
    optimizer.step()
    return da


@bank.mistake("owner_turn", "the labels leave the clinic")
def sends_the_labels_along(tail, optimizer, a, labels):
    return da_of(tail, optimizer, a, labels), labels


@bank.mistake("owner_turn", "da should be a tensor")
def sends_the_loss_along(tail, optimizer, a, labels):
    return da_of(tail, optimizer, a, labels), 0.3


@bank.mistake("owner_turn", "a itself comes back")
def sends_a_back(tail, optimizer, a, labels):
    da_of(tail, optimizer, a, labels)
    return a


@bank.mistake("owner_turn", "da has shape")
def flattens(tail, optimizer, a, labels):
    return da_of(tail, optimizer, a, labels).flatten(1)


def da_of(tail, optimizer, a, labels, *, sign=1):
    """The right turn, or one uphill."""
    tail.train()
    leaf = a.detach().requires_grad_()
    loss = sign * F.cross_entropy(tail(leaf), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return leaf.grad


@bank.mistake("owner_turn", "da has the wrong sign")
def climbs(tail, optimizer, a, labels):
    return da_of(tail, optimizer, a, labels, sign=-1)


@bank.mistake("owner_turn", "times the right size")
def normalized(tail, optimizer, a, labels):
    da = da_of(tail, optimizer, a, labels)
    return da / da.norm()


@bank.mistake("owner_turn", "da is not the gradient")
def clamps(tail, optimizer, a, labels):
    return da_of(tail, optimizer, a, labels).clamp(-1e-3, 1e-3)


@bank.mistake("owner_turn", "tail has not moved")
def no_step(tail, optimizer, a, labels):
    tail.train()
    leaf = a.detach().requires_grad_()
    optimizer.zero_grad()
    F.cross_entropy(tail(leaf), labels).backward()
    return leaf.grad


@bank.mistake("owner_turn", "the step of the tail is not")
def decays(tail, optimizer, a, labels):
    tail.train()
    leaf = a.detach().requires_grad_()
    loss = F.cross_entropy(tail(leaf), labels)
    loss = loss + sum(weight.square().sum() for weight in tail.parameters())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return leaf.grad


@bank.mistake("owner_turn", "holds more than its own numbers")
def all_gradients_in_one_vector(tail, optimizer, a, labels):
    """One vector for all gradients is handy for clipping; its first part is da."""
    tail.train()
    leaf = a.detach().requires_grad_()
    optimizer.zero_grad()
    F.cross_entropy(tail(leaf), labels).backward()
    optimizer.step()
    together = torch.cat([leaf.grad.flatten(), *[w.grad.flatten() for w in tail.parameters()]])
    return together[: a.numel()].view(a.shape)


@bank.mistake("owner_turn", "tail is left in evaluation mode")
def evaluates_in_the_end(tail, optimizer, a, labels):
    da = da_of(tail, optimizer, a, labels)
    tail.eval()
    return da


@bank.mistake("owner_turn", "the step of the tail is not")
def first_group_alone(tail, optimizer, a, labels):
    second, optimizer.param_groups[1:] = optimizer.param_groups[1:], []
    da = da_of(tail, optimizer, a, labels)
    optimizer.param_groups.extend(second)
    return da


@bank.mistake("owner_turn", "da is not the gradient")
def rounded(tail, optimizer, a, labels):
    return da_of(tail, optimizer, a, labels).half().to(a.dtype)


# --- average ----------------------------------------------------------------------------------


@bank.also_right("average")
def as_the_library(states, samples):
    return rounds.average(states, samples)


@bank.also_right("average")
def running_sums(states, samples):
    averaged = {name: torch.zeros_like(first).double() for name, first in states[0].items()}
    for state, n in zip(states, samples, strict=True):
        for name, value in state.items():
            averaged[name] += n * value.double()
    for name, value in states[0].items():
        mean = averaged[name] / sum(samples)
        averaged[name] = (mean if value.is_floating_point() else (mean + 0.5).floor()).to(
            value.dtype
        )
    return averaged


@bank.also_right("average")
def lengths_by_hand(states, samples):
    if len(states) != len(samples):
        raise ValueError("one number of images for each state")
    rows = [s for s, n in zip(states, samples, strict=True) for _ in range(n)]
    stacks = {name: torch.stack([row[name] for row in rows]) for name in states[0]}
    return {
        name: stack.mean(0) if stack.is_floating_point() else stack.double().mean(0).round().long()
        for name, stack in stacks.items()
    }


def mean_of(states, weights, *, names=None, whole=torch.round):
    """The average with these weights, of these names, and what becomes of whole numbers."""
    averaged = {}
    for name, first in states[0].items():
        if names is None or names(name):
            parts = [w * state[name] for w, state in zip(weights, states, strict=True)]
            mean = torch.stack(parts).sum(0)
            if not first.is_floating_point():
                mean = whole(mean)
            averaged[name] = mean.to(first.dtype)
    return averaged


def shares(samples):
    return [n / sum(samples) for n in samples]


@bank.mistake("average", "a dictionary with the keys")
def with_the_total(states, samples):
    return mean_of(states, shares(samples)) | {"samples": torch.tensor(sum(samples))}


@bank.mistake("average", "should be a tensor and is")
def python_numbers(states, samples):
    averaged = mean_of(states, shares(samples))
    return averaged | {n: v.item() for n, v in averaged.items() if v.dim() == 0}


@bank.mistake("average", "where (")
def over_the_wrong_axis(states, samples):
    averaged = mean_of(states, shares(samples))
    return {n: v.mean(0) if v.dim() > 1 else v for n, v in averaged.items()}


@bank.mistake("average", "should hold torch.int64")
def counts_stay_floats(states, samples):
    pairs = list(zip(states, shares(samples), strict=True))
    return {name: sum(state[name] * share for state, share in pairs) for name in states[0]}


@bank.mistake("average", "should be of type")
def all_in_float64(states, samples):
    averaged = mean_of(states, shares(samples))
    return {n: v.double() if v.is_floating_point() else v for n, v in averaged.items()}


@bank.mistake("average", "these are not the means")
def pairwise(states, samples):
    """The mean of the mean so far and the next one: the later ones count more."""
    averaged = mean_of(states[:1], [1])
    for state in states[1:]:
        averaged = mean_of([averaged, state], [0.5, 0.5])
    return averaged if len(states) > 2 else mean_of(states, shares(samples))


@bank.mistake("average", "the average lies in the memory of")
def one_clinic_is_its_own_mean(states, samples):
    return dict(states[0]) if len(states) == 1 else mean_of(states, shares(samples))


@bank.mistake("average", "these are not the means")
def by_number_of_images(states, samples):
    """Clinics with as many images as another one fall under the table."""
    clinics = dict(zip(samples, states, strict=True))
    return mean_of(list(clinics.values()), shares(list(clinics)))


@bank.mistake("average", "these are not the means")
def in_single_precision(states, samples):
    floats = [{n: v.float() for n, v in state.items()} for state in states]
    averaged = mean_of(floats, shares(samples))
    return {
        n: averaged[n].round().to(v.dtype) if "num" in n else averaged[n].to(v.dtype)
        for n, v in states[0].items()
    }


@bank.mistake("average", "average should raise a ValueError here")
def other_error(states, samples):
    if len(states) != len(samples):
        raise IndexError("one number of images for each state")
    return mean_of(states, shares(samples))


@bank.mistake("average", "could not infer output dtype")
def mean_of_whole_numbers(states, samples):
    rows = [s for s, n in zip(states, samples, strict=True) for _ in range(n)]
    return {name: torch.stack([row[name] for row in rows]).mean(0) for name in states[0]}


bank.equivalent(
    "average",
    "`for name, first in states[0].items():` becomes `for name, first in states[-1].items():`",
    "names, shapes and types are the same in all states",
)


# --- hand_over --------------------------------------------------------------------------------


@bank.also_right("hand_over")
def all_in_one_copy(giver, giver_optimizer, receiver, receiver_optimizer):
    states = copy.deepcopy((giver.state_dict(), giver_optimizer.state_dict()))
    receiver.load_state_dict(states[0])
    receiver_optimizer.load_state_dict(states[1])


@bank.also_right("hand_over")
def tensor_by_tensor(giver, giver_optimizer, receiver, receiver_optimizer):
    with torch.no_grad():
        for name, value in giver.state_dict().items():
            receiver.state_dict()[name].copy_(value)
    groups = zip(giver_optimizer.param_groups, receiver_optimizer.param_groups, strict=True)
    for ours, theirs in groups:
        theirs.update({name: value for name, value in ours.items() if name != "params"})
        for one, other in zip(ours["params"], theirs["params"], strict=True):
            receiver_optimizer.state[other] = copy.deepcopy(dict(giver_optimizer.state[one]))


def optimizers(giver_optimizer, receiver_optimizer):
    receiver_optimizer.load_state_dict(copy.deepcopy(giver_optimizer.state_dict()))


@bank.mistake("hand_over", "the state of giver_optimizer")
def clears_the_giver(giver, giver_optimizer, receiver, receiver_optimizer):
    receiver.load_state_dict(giver.state_dict())
    optimizers(giver_optimizer, receiver_optimizer)
    giver_optimizer.state.clear()


@bank.mistake("hand_over", "the weights arrived in part")
def convolutions_alone(giver, giver_optimizer, receiver, receiver_optimizer):
    receiver[0].load_state_dict(giver[0].state_dict())
    optimizers(giver_optimizer, receiver_optimizer)


@bank.mistake("hand_over", "does not step on the receiver's weights")
def new_parameters(giver, giver_optimizer, receiver, receiver_optimizer):
    for number, layer in enumerate(giver):
        receiver[number] = copy.deepcopy(layer)
    optimizers(giver_optimizer, receiver_optimizer)


@bank.mistake("hand_over", "does not step on the receiver's weights")
def the_optimizer_as_a_whole(giver, giver_optimizer, receiver, receiver_optimizer):
    receiver.load_state_dict(giver.state_dict())
    receiver_optimizer.__dict__.update(copy.deepcopy(giver_optimizer.__dict__))


@bank.mistake("hand_over", "no longer require gradients")
def frozen(giver, giver_optimizer, receiver, receiver_optimizer):
    receiver.requires_grad_(False).load_state_dict(giver.state_dict())
    optimizers(giver_optimizer, receiver_optimizer)


@bank.mistake("hand_over", "share their memory now")
def shares_the_data(giver, giver_optimizer, receiver, receiver_optimizer):
    receiver.load_state_dict(giver.state_dict())
    for one, other in zip(giver.parameters(), receiver.parameters(), strict=True):
        other.data = one.data
    optimizers(giver_optimizer, receiver_optimizer)


@bank.mistake("hand_over", "share their memory now")
def shares_the_buffers(giver, giver_optimizer, receiver, receiver_optimizer):
    receiver.load_state_dict(giver.state_dict())
    for one, other in zip(giver.modules(), receiver.modules(), strict=True):
        if isinstance(one, nn.BatchNorm2d):
            other.running_mean = one.running_mean
    optimizers(giver_optimizer, receiver_optimizer)


@bank.mistake("hand_over", "KeyError")
def into_what_is_there(giver, giver_optimizer, receiver, receiver_optimizer):
    receiver.load_state_dict(giver.state_dict())
    for one, other in zip(giver.parameters(), receiver.parameters(), strict=True):
        for name, value in giver_optimizer.state[one].items():
            receiver_optimizer.state[other][name].copy_(value)


@bank.mistake("hand_over", "the state of receiver_optimizer is not")
def the_first_group(giver, giver_optimizer, receiver, receiver_optimizer):
    receiver.load_state_dict(giver.state_dict())
    rate = receiver_optimizer.param_groups[1]["lr"]
    optimizers(giver_optimizer, receiver_optimizer)
    receiver_optimizer.param_groups[1]["lr"] = rate


@bank.mistake("hand_over", "the weights arrived in part")
def in_half(giver, giver_optimizer, receiver, receiver_optimizer):
    receiver.load_state_dict({n: v.half() for n, v in giver.state_dict().items()})
    optimizers(giver_optimizer, receiver_optimizer)
