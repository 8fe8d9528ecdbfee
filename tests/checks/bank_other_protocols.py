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
    da, *gradients = torch.autograd.grad(loss, [leaf, *tail.parameters()])
    for weight, gradient in zip(tail.parameters(), gradients, strict=True):
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


@bank.mistake("owner_turn", "the labels leave the clinic")
def sends_the_labels_alone(tail, optimizer, a, labels):
    return labels


@bank.mistake("owner_turn", "owner_turn returns None")
def a_requires_nothing(tail, optimizer, a, labels):
    tail.train()
    loss = F.cross_entropy(tail(a), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return a.grad


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


def da_of(tail, optimizer, a, labels, *, create_graph=False, reduction="mean", sign=1):
    """The right turn, and what one option or another makes of it."""
    tail.train()
    leaf = a.detach().requires_grad_()
    loss = sign * F.cross_entropy(tail(leaf), labels, reduction=reduction)
    da, *gradients = torch.autograd.grad(
        loss, [leaf, *tail.parameters()], create_graph=create_graph
    )
    for weight, gradient in zip(tail.parameters(), gradients, strict=True):
        weight.grad = gradient.detach()
    optimizer.step()
    return da


@bank.mistake("owner_turn", "da still has its computation graph")
def with_history(tail, optimizer, a, labels):
    return da_of(tail, optimizer, a, labels, create_graph=True)


@bank.mistake("owner_turn", "da has the wrong sign")
def the_direction_of_the_step(tail, optimizer, a, labels):
    return -da_of(tail, optimizer, a, labels)


@bank.mistake("owner_turn", "da has the wrong sign")
def climbs(tail, optimizer, a, labels):
    return da_of(tail, optimizer, a, labels, sign=-1)


@bank.mistake("owner_turn", "da is too large by the batch size")
def sums(tail, optimizer, a, labels):
    return da_of(tail, optimizer, a, labels, reduction="sum")


@bank.mistake("owner_turn", "times the gradient of the mean loss")
def normalized(tail, optimizer, a, labels):
    da = da_of(tail, optimizer, a, labels)
    return da / da.norm()


@bank.mistake("owner_turn", "da was computed after the step")
def steps_first(tail, optimizer, a, labels):
    da_of(tail, optimizer, a, labels)
    leaf = a.detach().requires_grad_()
    return torch.autograd.grad(F.cross_entropy(tail(leaf), labels), leaf)[0]


@bank.mistake("owner_turn", "da was computed in evaluation mode")
def forgets_train(tail, optimizer, a, labels):
    leaf = a.detach().requires_grad_()
    loss = F.cross_entropy(tail(leaf), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return leaf.grad


@bank.mistake("owner_turn", "da is not the gradient")
def clamps(tail, optimizer, a, labels):
    return da_of(tail, optimizer, a, labels).clamp(-1e-3, 1e-3)


@bank.mistake("owner_turn", "the message has changed")
def in_place(tail, optimizer, a, labels):
    tail.train()
    loss = F.cross_entropy(tail(a.requires_grad_()), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return a.grad


@bank.mistake("owner_turn", "the tail has not moved")
def no_step(tail, optimizer, a, labels):
    tail.train()
    leaf = a.detach().requires_grad_()
    optimizer.zero_grad()
    F.cross_entropy(tail(leaf), labels).backward()
    return leaf.grad


@bank.mistake("owner_turn", "are still in .grad")
def forgets_zero_grad(tail, optimizer, a, labels):
    tail.train()
    leaf = a.detach().requires_grad_()
    F.cross_entropy(tail(leaf), labels).backward()
    optimizer.step()
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


@bank.mistake("owner_turn", "with Adam it does not")
def descends_by_hand(tail, optimizer, a, labels):
    tail.train()
    leaf = a.detach().requires_grad_()
    optimizer.zero_grad()
    F.cross_entropy(tail(leaf), labels).backward()
    with torch.no_grad():
        for weight in tail.parameters():
            weight -= optimizer.param_groups[0]["lr"] * weight.grad
    return leaf.grad


@bank.mistake("owner_turn", "the tail ran a second time")
def once_for_each(tail, optimizer, a, labels):
    tail.train()
    leaf = a.detach().requires_grad_()
    (da,) = torch.autograd.grad(F.cross_entropy(tail(leaf), labels), leaf)
    optimizer.zero_grad()
    F.cross_entropy(tail(a), labels).backward()
    optimizer.step()
    return da


buffers = {}


@bank.mistake("owner_turn", "it lies in memory that the clinic uses again")
def one_buffer(tail, optimizer, a, labels):
    buffer = buffers.setdefault(a.shape, torch.empty_like(a))
    return buffer.copy_(da_of(tail, optimizer, a, labels))


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


@bank.mistake("average", "should return a dictionary")
def a_list(states, samples):
    return list(mean_of(states, shares(samples)).values())


@bank.mistake("average", "the average lacks")
def parameters_alone(states, samples):
    return mean_of(states, shares(samples), names=lambda name: "running" not in name)


@bank.mistake("average", "the average lacks")
def floats_alone(states, samples):
    return mean_of(states, shares(samples), names=lambda name: "num_batches" not in name)


@bank.mistake("average", "is no entry of the clinics' states")
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


@bank.mistake("average", "is a count and arrives as")
def counts_stay_floats(states, samples):
    pairs = list(zip(states, shares(samples), strict=True))
    return {name: sum(state[name] * share for state, share in pairs) for name in states[0]}


@bank.mistake("average", "keep its type")
def all_in_float64(states, samples):
    averaged = mean_of(states, shares(samples))
    return {n: v.double() if v.is_floating_point() else v for n, v in averaged.items()}


@bank.mistake("average", "requires a gradient")
def to_be_trained(states, samples):
    averaged = mean_of(states, shares(samples))
    return {n: v.requires_grad_(v.is_floating_point()) for n, v in averaged.items()}


@bank.mistake("average", "every clinic counts the same")
def plain_mean(states, samples):
    return mean_of(states, [1 / len(states)] * len(states))


@bank.mistake("average", "divide by the number of all images")
def weighted_sum(states, samples):
    return mean_of(states, samples)


@bank.mistake("average", "an average has weights that sum to 1")
def plain_sum(states, samples):
    return mean_of(states, [1] * len(states))


@bank.mistake("average", "went to the wrong clinics")
def sorted_numbers(states, samples):
    return mean_of(states, shares(sorted(samples)))


@bank.mistake("average", "the weights are upside down")
def upside_down(states, samples):
    weights = [sum(samples) / n for n in samples]
    return mean_of(states, [w / sum(weights) for w in weights])


@bank.mistake("average", "counts: average over all of them")
def the_last_one(states, samples):
    averaged = {}
    for state in states:
        for name, value in state.items():
            averaged[name] = value.clone()
    return averaged


@bank.mistake("average", "these are not the means")
def pairwise(states, samples):
    """The mean of the mean so far and the next one: the later ones count more."""
    averaged = mean_of(states[:1], [1])
    for state in states[1:]:
        averaged = mean_of([averaged, state], [0.5, 0.5])
    return averaged if len(states) > 2 else mean_of(states, shares(samples))


@bank.mistake("average", "is truncated")
def cut_off(states, samples):
    return mean_of(states, shares(samples), whole=torch.floor)


@bank.mistake("average", "not the rounded mean")
def counts_of_the_first(states, samples):
    averaged = mean_of(states, shares(samples))
    return averaged | {n: states[0][n].clone() for n in averaged if "num_batches" in n}


@bank.mistake("average", "not the rounded mean")
def counts_added_up(states, samples):
    averaged = mean_of(states, shares(samples))
    return averaged | {n: sum(s[n] for s in states) for n in averaged if "num_batches" in n}


@bank.mistake("average", "a clinic's state has changed")
def into_the_first_dictionary(states, samples):
    averaged = mean_of(states, shares(samples))
    states[0].update(averaged)
    return states[0]


@bank.mistake("average", "a clinic's weights have changed")
def adds_in_place(states, samples):
    averaged = dict(states[0])
    for name, first in averaged.items():
        if first.is_floating_point():
            first *= samples[0] / sum(samples)
            for state, n in zip(states[1:], samples[1:], strict=True):
                first += state[name] * (n / sum(samples))
    return averaged


@bank.mistake("average", "a clinic's weights have changed")
def loads_it_at_once(states, samples):
    averaged = mean_of(states, shares(samples))
    for state in states:
        for name, value in state.items():
            value.copy_(averaged[name])
    return averaged


@bank.mistake("average", "the list of numbers of images has changed")
def shares_in_place(states, samples):
    total = sum(samples)
    for number, n in enumerate(samples):
        samples[number] = n / total
    return mean_of(states, samples)


@bank.mistake("average", "shares its memory with a clinic's own")
def one_clinic_is_its_own_mean(states, samples):
    return dict(states[0]) if len(states) == 1 else mean_of(states, shares(samples))


@bank.mistake("average", "a clinic would be left out silently")
def pairs_as_far_as_they_go(states, samples):
    """`zip` stops at the end of the shorter list."""
    n = min(len(states), len(samples))
    return mean_of(states[:n], shares(samples[:n]))


@bank.mistake("average", "where a ValueError is asked for")
def by_number(states, samples):
    weights = [samples[number] / sum(samples) for number in range(len(states))]
    return mean_of(states, weights)


before = {}


@bank.mistake("average", "an earlier average has changed")
def one_dictionary_for_ever(states, samples):
    for name, value in mean_of(states, shares(samples)).items():
        if name in before and before[name].dtype == value.dtype:
            before[name].copy_(value)
        else:
            before[name] = value
    return dict(before)


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


@bank.mistake("hand_over", "it went the wrong way")
def backwards(giver, giver_optimizer, receiver, receiver_optimizer):
    giver.load_state_dict(receiver.state_dict())
    optimizers(receiver_optimizer, giver_optimizer)


@bank.mistake("hand_over", "the giver has changed")
def clears_the_giver(giver, giver_optimizer, receiver, receiver_optimizer):
    receiver.load_state_dict(giver.state_dict())
    optimizers(giver_optimizer, receiver_optimizer)
    giver_optimizer.state.clear()


@bank.mistake("hand_over", "the giver has changed")
def averages_both(giver, giver_optimizer, receiver, receiver_optimizer):
    mean = {n: (v + receiver.state_dict()[n]) / 2 for n, v in giver.state_dict().items()}
    for net in (giver, receiver):
        net.load_state_dict(mean)


@bank.mistake("hand_over", "no weights arrived")
def sets_names(giver, giver_optimizer, receiver, receiver_optimizer):
    receiver, receiver_optimizer = copy.deepcopy((giver, giver_optimizer))
    return receiver, receiver_optimizer


@bank.mistake("hand_over", "no weights arrived")
def the_optimizer_alone(giver, giver_optimizer, receiver, receiver_optimizer):
    optimizers(giver_optimizer, receiver_optimizer)


@bank.mistake("hand_over", "the mean of both networks'")
def averages(giver, giver_optimizer, receiver, receiver_optimizer):
    theirs = receiver.state_dict()
    receiver.load_state_dict({n: (v + theirs[n]) / 2 for n, v in giver.state_dict().items()})


@bank.mistake("hand_over", "the weights arrived in part")
def convolutions_alone(giver, giver_optimizer, receiver, receiver_optimizer):
    receiver[0].load_state_dict(giver[0].state_dict())
    optimizers(giver_optimizer, receiver_optimizer)


@bank.mistake("hand_over", "stayed behind: in evaluation mode")
def parameters(giver, giver_optimizer, receiver, receiver_optimizer):
    with torch.no_grad():
        for one, other in zip(giver.parameters(), receiver.parameters(), strict=True):
            other.copy_(one)
    optimizers(giver_optimizer, receiver_optimizer)


@bank.mistake("hand_over", "its count of batches is part of the network")
def without_the_count_of_batches(giver, giver_optimizer, receiver, receiver_optimizer):
    count = receiver[1].num_batches_tracked.clone()
    receiver.load_state_dict(giver.state_dict())
    receiver[1].num_batches_tracked.copy_(count)
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


@bank.mistake("hand_over", "the weights lie in memory that giver and receiver share")
def shares_the_data(giver, giver_optimizer, receiver, receiver_optimizer):
    receiver.load_state_dict(giver.state_dict())
    for one, other in zip(giver.parameters(), receiver.parameters(), strict=True):
        other.data = one.data
    optimizers(giver_optimizer, receiver_optimizer)


@bank.mistake("hand_over", "running statistics lie in memory that giver and receiver share")
def shares_the_buffers(giver, giver_optimizer, receiver, receiver_optimizer):
    receiver.load_state_dict(giver.state_dict())
    for one, other in zip(giver.modules(), receiver.modules(), strict=True):
        if isinstance(one, nn.BatchNorm2d):
            other.running_mean = one.running_mean
    optimizers(giver_optimizer, receiver_optimizer)


@bank.mistake("hand_over", "the learning rate stayed behind")
def averages_without_the_rate(giver, giver_optimizer, receiver, receiver_optimizer):
    receiver.load_state_dict(giver.state_dict())
    pairs = zip(giver.parameters(), receiver.parameters(), strict=True)
    for one, other in pairs:
        receiver_optimizer.state[other] = copy.deepcopy(dict(giver_optimizer.state[one]))


@bank.mistake("hand_over", "Adam starts anew")
def weights_alone(giver, giver_optimizer, receiver, receiver_optimizer):
    receiver.load_state_dict(giver.state_dict())


@bank.mistake("hand_over", "Adam starts anew")
def under_the_givers_keys(giver, giver_optimizer, receiver, receiver_optimizer):
    receiver.load_state_dict(giver.state_dict())
    receiver_optimizer.state = copy.deepcopy(giver_optimizer.state)


@bank.mistake("hand_over", "SGD with momentum starts anew")
def adam_alone(giver, giver_optimizer, receiver, receiver_optimizer):
    """Knows the state of Adam, and no other's."""
    receiver.load_state_dict(giver.state_dict())
    if "betas" in giver_optimizer.defaults:
        optimizers(giver_optimizer, receiver_optimizer)


@bank.mistake("hand_over", "what the receiver's own last turn left")
def the_first_time_alone(giver, giver_optimizer, receiver, receiver_optimizer):
    receiver.load_state_dict(giver.state_dict())
    if receiver_optimizer.state:
        for ours, theirs in zip(
            giver_optimizer.param_groups, receiver_optimizer.param_groups, strict=True
        ):
            theirs["lr"] = ours["lr"]
    else:
        optimizers(giver_optimizer, receiver_optimizer)


@bank.mistake("hand_over", "only a part of the state of Adam")
def averages_without_the_count(giver, giver_optimizer, receiver, receiver_optimizer):
    receiver.load_state_dict(giver.state_dict())
    optimizers(giver_optimizer, receiver_optimizer)
    for state in receiver_optimizer.state.values():
        if "step" in state:
            state["step"].zero_()


@bank.mistake("hand_over", "the optimizer's state lies in memory")
def the_state_as_it_is(giver, giver_optimizer, receiver, receiver_optimizer):
    receiver.load_state_dict(giver.state_dict())
    receiver_optimizer.load_state_dict(giver_optimizer.state_dict())


@bank.mistake("hand_over", "KeyError")
def into_what_is_there(giver, giver_optimizer, receiver, receiver_optimizer):
    receiver.load_state_dict(giver.state_dict())
    for one, other in zip(giver.parameters(), receiver.parameters(), strict=True):
        for name, value in giver_optimizer.state[one].items():
            receiver_optimizer.state[other][name].copy_(value)
