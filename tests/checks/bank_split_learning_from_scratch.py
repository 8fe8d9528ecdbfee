"""Answers to the exercises of chapter 11: right ones, and what students may well write."""

import copy

import torch
from bank import Bank
from torch import nn
from torch.nn import functional as F

from splitlab.course.checks import split_learning_from_scratch

bank = Bank("11_split_learning_from_scratch", split_learning_from_scratch)


def size(tensor):
    return tensor.numel() * tensor.element_size()


# --- deliver ----------------------------------------------------------------------------------


@bank.also_right("deliver")
def by_hand(tensor):
    received = torch.empty(tensor.shape, dtype=tensor.dtype)
    received[...] = tensor.detach()
    return received, received.nbytes


@bank.also_right("deliver")
def through_numpy(tensor):
    array = tensor.detach().numpy().copy()
    return torch.from_numpy(array), array.nbytes


@bank.mistake("deliver", "two things are expected")
def without_the_bytes(tensor):
    return tensor.detach().clone()


@bank.mistake("deliver", "should be a tensor")
def an_array(tensor):
    array = tensor.detach().numpy().copy()
    return array, array.nbytes


@bank.mistake("deliver", "should be a whole number")
def a_text_for_the_bytes(tensor):
    return tensor.detach().clone(), f"{tensor.nbytes} bytes"


@bank.mistake("deliver", "still has its computation graph")
def the_tensor_itself(tensor):
    return tensor, size(tensor)


@bank.mistake("deliver", "still has its computation graph")
def clone_alone(tensor):
    return tensor.clone(), size(tensor)


@bank.mistake("deliver", "in the sender's memory")
def detach_alone(tensor):
    return tensor.detach(), size(tensor)


@bank.mistake("deliver", "in the sender's memory")
def a_view_of_the_data(tensor):
    return tensor.data.view(tensor.shape), size(tensor)


@bank.mistake("deliver", "requires a gradient")
def ready_for_the_server(tensor):
    received = tensor.detach().clone()
    return received.requires_grad_(received.is_floating_point()), size(tensor)


@bank.mistake("deliver", "holds more than its own numbers")
def deepcopy(tensor):
    received = copy.deepcopy(tensor.detach())
    return received, size(received)


@bank.mistake("deliver", "changes no type")
def half_precision(tensor):
    received = tensor.detach().clone().half()
    return received, size(received)


@bank.mistake("deliver", "changes no type")
def through_lists(tensor):
    received = torch.tensor(tensor.tolist())
    return received, size(received)


@bank.mistake("deliver", "holds other numbers than z")
def rounded(tensor):
    received = (tensor.detach() * 255).round() / 255
    return received.to(tensor.dtype), size(tensor)


@bank.mistake("deliver", "holds other numbers than z")
def flattened(tensor):
    return tensor.detach().clone().flatten(), size(tensor)


@bank.mistake("deliver", "holds other numbers than z")
def transposed(tensor):
    received = torch.empty(tensor.shape, dtype=tensor.dtype)
    received.copy_(tensor.detach().flatten().flip(0).reshape(tensor.shape))
    return received, size(tensor)


@bank.mistake("deliver", "z itself has changed")
def in_place(tensor):
    tensor.detach_()
    return tensor.clone(), size(tensor)


@bank.mistake("deliver", "z itself has changed")
def clears_what_was_sent(tensor):
    received = tensor.detach().clone()
    tensor.detach().zero_()
    return received, size(tensor)


@bank.mistake("deliver", "the count of bytes")
def counts_numbers(tensor):
    return tensor.detach().clone(), tensor.numel()


@bank.mistake("deliver", "the count of bytes")
def four_bytes_each(tensor):
    return tensor.detach().clone(), 4 * tensor.numel()


@bank.mistake("deliver", "the count of bytes")
def the_memory_behind(tensor):
    return tensor.detach().clone(), tensor.untyped_storage().nbytes()


buffers = {}


@bank.mistake("deliver", "overwrites the first")
def a_buffer_for_each_shape(tensor):
    key = tensor.shape, tensor.dtype
    buffer = buffers.setdefault(key, torch.empty(tensor.shape, dtype=tensor.dtype))
    return buffer.copy_(tensor.detach()), size(tensor)


# --- client_turn ------------------------------------------------------------------------------


@bank.also_right("client_turn")
def through_a_product(net, optimizer, x, ask):
    net.train()
    optimizer.zero_grad()
    z = net(x)
    (z * ask(z.clone().detach())).sum().backward()
    optimizer.step()


@bank.also_right("client_turn")
def through_autograd(net, optimizer, x, ask):
    z = net.train()(x)
    dz = ask(torch.empty_like(z).copy_(z).detach())
    weights = list(net.parameters())
    for weight, gradient in zip(weights, torch.autograd.grad(z, weights, dz), strict=True):
        weight.grad = gradient
    optimizer.step()
    return dz


@bank.mistake("client_turn", "nothing was sent")
def keeps_to_itself(net, optimizer, x, ask):
    net.train()
    z = net(x)
    optimizer.zero_grad()
    z.mean().backward()
    optimizer.step()


@bank.mistake("client_turn", "nothing was sent")
def a_generator(net, optimizer, x, ask):
    z = net(x)
    dz = yield z
    z.backward(dz)


@bank.mistake("client_turn", "ask was called")
def asks_twice(net, optimizer, x, ask):
    net.train()
    z = net(x)
    optimizer.zero_grad()
    if ask(z.detach().clone()) is not None:
        z.backward(ask(z.detach().clone()))
    optimizer.step()


@bank.mistake("client_turn", "ask was given")
def sends_a_pair(net, optimizer, x, ask):
    z = net.train()(x)
    z.backward(ask((z.detach().clone(), 4)))


@bank.mistake("client_turn", "ask was given")
def sends_the_images_along(net, optimizer, x, ask):
    z = net.train()(x)
    z.backward(ask(x, z.detach().clone()))


@bank.mistake("client_turn", "with its computation graph")
def sends_z_itself(net, optimizer, x, ask):
    net.train()
    z = net(x)
    dz = ask(z)
    optimizer.zero_grad()
    z.backward(dz)
    optimizer.step()


@bank.mistake("client_turn", "with its computation graph")
def sends_a_clone(net, optimizer, x, ask):
    net.train()
    z = net(x)
    dz = ask(z.clone())
    optimizer.zero_grad()
    z.backward(dz)
    optimizer.step()


@bank.mistake("client_turn", "in the client's memory")
def sends_a_view(net, optimizer, x, ask):
    net.train()
    z = net(x)
    dz = ask(z.detach())
    optimizer.zero_grad()
    z.backward(dz)
    optimizer.step()


@bank.mistake("client_turn", "the images themselves were sent")
def sends_the_images(net, optimizer, x, ask):
    net.train()
    z = net(x)
    z.backward(ask(x.detach().clone()))


@bank.mistake("client_turn", "what was sent")
def flattens_z(net, optimizer, x, ask):
    net.train()
    z = net(x).flatten(1)
    z.backward(ask(z.detach().clone()))


@bank.mistake("client_turn", "what was sent")
def centres_the_images(net, optimizer, x, ask):
    net.train()
    x -= 0.5
    z = net(x)
    z.backward(ask(z.detach().clone()))


@bank.mistake("client_turn", "the images were changed")
def asks_for_a_gradient_of_x(net, optimizer, x, ask):
    net.train()
    z = net(x.requires_grad_())
    dz = ask(z.detach().clone())
    optimizer.zero_grad()
    z.backward(dz)
    optimizer.step()


@bank.mistake("client_turn", "running statistics are not those")
def starts_the_statistics_anew(net, optimizer, x, ask):
    net.train()
    net[1].reset_running_stats()
    z = net(x)
    dz = ask(z.detach().clone())
    optimizer.zero_grad()
    z.backward(dz)
    optimizer.step()


@bank.mistake("client_turn", "in evaluation mode")
def forgets_train(net, optimizer, x, ask):
    z = net(x)
    dz = ask(z.detach().clone())
    optimizer.zero_grad()
    z.backward(dz)
    optimizer.step()


@bank.mistake("client_turn", "f ran a second time")
def forward_again(net, optimizer, x, ask):
    net.train()
    with torch.no_grad():
        dz = ask(net(x).clone())
    optimizer.zero_grad()
    net(x).backward(dz)
    optimizer.step()


@bank.mistake("client_turn", "f has not moved")
def no_step(net, optimizer, x, ask):
    net.train()
    z = net(x)
    optimizer.zero_grad()
    z.backward(ask(z.detach().clone()))


@bank.mistake("client_turn", "f has not moved")
def steps_too_early(net, optimizer, x, ask):
    net.train()
    z = net(x)
    dz = ask(z.detach().clone())
    optimizer.zero_grad()
    optimizer.step()
    z.backward(dz)


@bank.mistake("client_turn", "f has not moved")
def clears_too_late(net, optimizer, x, ask):
    net.train()
    z = net(x)
    z.backward(ask(z.detach().clone()))
    optimizer.zero_grad()
    optimizer.step()


@bank.mistake("client_turn", "f has not moved")
def backward_through_the_copy(net, optimizer, x, ask):
    net.train()
    z = net(x).detach().clone().requires_grad_()
    dz = ask(z)
    optimizer.zero_grad()
    z.backward(dz)
    optimizer.step()


@bank.mistake("client_turn", "f climbs")
def ascends(net, optimizer, x, ask):
    net.train()
    z = net(x)
    dz = ask(z.detach().clone())
    optimizer.zero_grad()
    z.backward(-dz)
    optimizer.step()


@bank.mistake("client_turn", "dz goes unused")
def ones_for_dz(net, optimizer, x, ask):
    net.train()
    z = net(x)
    ask(z.detach().clone())
    optimizer.zero_grad()
    z.sum().backward()
    optimizer.step()


@bank.mistake("client_turn", "times that of the whole network")
def mean_of_the_product(net, optimizer, x, ask):
    net.train()
    z = net(x)
    dz = ask(z.detach().clone())
    optimizer.zero_grad()
    (z * dz).mean().backward()
    optimizer.step()


@bank.mistake("client_turn", "times that of the whole network")
def mean_over_the_batch(net, optimizer, x, ask):
    net.train()
    z = net(x)
    dz = ask(z.detach().clone())
    optimizer.zero_grad()
    (z * dz).flatten(1).sum(1).mean().backward()
    optimizer.step()


@bank.mistake("client_turn", "are still in .grad")
def forgets_zero_grad(net, optimizer, x, ask):
    net.train()
    z = net(x)
    z.backward(ask(z.detach().clone()))
    optimizer.step()


@bank.mistake("client_turn", "with Adam it does not")
def descends_by_hand(net, optimizer, x, ask):
    net.train()
    z = net(x)
    dz = ask(z.detach().clone())
    optimizer.zero_grad()
    z.backward(dz)
    with torch.no_grad():
        for weight in net.parameters():
            weight -= optimizer.param_groups[0]["lr"] * weight.grad


@bank.mistake("client_turn", "times that of the whole network")
def steps_twice(net, optimizer, x, ask):
    net.train()
    z = net(x)
    dz = ask(z.detach().clone())
    optimizer.zero_grad()
    z.backward(dz)
    optimizer.step()
    optimizer.step()


@bank.mistake("client_turn", "is not that of the whole network")
def clips_dz(net, optimizer, x, ask):
    net.train()
    z = net(x)
    dz = ask(z.detach().clone())
    optimizer.zero_grad()
    z.backward(dz.clamp(-1e-3, 1e-3))
    optimizer.step()


@bank.mistake("client_turn", "does not require grad")
def dz_for_a_loss(net, optimizer, x, ask):
    net.train()
    z = net(x)
    dz = ask(z.detach().clone())
    optimizer.zero_grad()
    dz.sum().backward()
    optimizer.step()


# --- server_turn ------------------------------------------------------------------------------


@bank.also_right("server_turn")
def one_call_of_grad(net, optimizer, z, labels):
    net.train()
    leaf = z.clone().requires_grad_()
    loss = F.cross_entropy(net(leaf), labels)
    dz, *gradients = torch.autograd.grad(loss, [leaf, *net.parameters()])
    for weight, gradient in zip(net.parameters(), gradients, strict=True):
        weight.grad = gradient
    optimizer.step()
    return dz


@bank.also_right("server_turn")
def one_hot_labels(net, optimizer, z, labels):
    net.train()
    received = z.detach().requires_grad_()
    net.zero_grad()
    logits = net(received)
    wanted = F.one_hot(labels, logits.shape[1]).to(logits.dtype)
    (-(wanted * logits.log_softmax(1)).sum(1).mean()).backward()
    dz = received.grad.clone()
    optimizer.step()
    return dz


@bank.mistake("server_turn", "server_turn returns None")
def z_requires_nothing(net, optimizer, z, labels):
    net.train()
    loss = F.cross_entropy(net(z), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return z.grad


@bank.mistake("server_turn", "dz should be a tensor")
def the_loss_with_it(net, optimizer, z, labels):
    net.train()
    z = z.detach().requires_grad_()
    loss = F.cross_entropy(net(z), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item(), z.grad


@bank.mistake("server_turn", "dz has the wrong sign")
def downhill_already(net, optimizer, z, labels):
    net.train()
    z = z.detach().requires_grad_()
    loss = F.cross_entropy(net(z), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return -z.grad


@bank.mistake("server_turn", "dz is too large by the batch size")
def sum_of_the_losses(net, optimizer, z, labels):
    net.train()
    z = z.detach().requires_grad_()
    loss = F.cross_entropy(net(z), labels, reduction="sum")
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return z.grad


@bank.mistake("server_turn", "times the gradient of the mean loss")
def normalized_dz(net, optimizer, z, labels):
    net.train()
    z = z.detach().requires_grad_()
    loss = F.cross_entropy(net(z), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return z.grad / z.grad.norm()


@bank.mistake("server_turn", "z itself comes back")
def returns_z(net, optimizer, z, labels):
    net.train()
    z = z.detach().requires_grad_()
    loss = F.cross_entropy(net(z), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return z


@bank.mistake("server_turn", "dz was computed after the step")
def dz_from_new_weights(net, optimizer, z, labels):
    net.train()
    loss = F.cross_entropy(net(z), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    leaf = z.clone().requires_grad_()
    return torch.autograd.grad(F.cross_entropy(net(leaf), labels), leaf)[0]


@bank.mistake("server_turn", "dz was computed in evaluation mode")
def never_trains(net, optimizer, z, labels):
    z = z.detach().requires_grad_()
    loss = F.cross_entropy(net(z), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return z.grad


@bank.mistake("server_turn", "dz still has its computation graph")
def keeps_the_graph(net, optimizer, z, labels):
    net.train()
    leaf = z.clone().requires_grad_()
    loss = F.cross_entropy(net(leaf), labels)
    (dz,) = torch.autograd.grad(loss, leaf, create_graph=True)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return dz


@bank.mistake("server_turn", "dz is not the gradient")
def softmax_twice(net, optimizer, z, labels):
    net.train()
    z = z.detach().requires_grad_()
    loss = F.cross_entropy(net(z).softmax(1), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return z.grad


@bank.mistake("server_turn", "dz is not the gradient")
def its_own_guess_for_labels(net, optimizer, z, labels):
    net.train()
    z = z.detach().requires_grad_()
    logits = net(z)
    loss = F.cross_entropy(logits, logits.argmax(1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return z.grad


@bank.mistake("server_turn", "the message has changed")
def asks_z_itself(net, optimizer, z, labels):
    net.train()
    z.requires_grad_()
    loss = F.cross_entropy(net(z), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return z.grad


@bank.mistake("server_turn", "the message has changed")
def tidies_up_z(net, optimizer, z, labels):
    net.train()
    leaf = z.clone().requires_grad_()
    loss = F.cross_entropy(net(leaf), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    z.zero_()
    return leaf.grad


inbox = {}


@bank.mistake("server_turn", "it lies in memory that the server uses again")
def one_leaf_for_ever(net, optimizer, z, labels):
    net.train()
    leaf = inbox.setdefault(z.shape, torch.zeros_like(z).requires_grad_())
    with torch.no_grad():
        leaf.copy_(z)
        if leaf.grad is not None:
            leaf.grad.zero_()
    loss = F.cross_entropy(net(leaf), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return leaf.grad


@bank.mistake("server_turn", "s has not moved")
def answers_only(net, optimizer, z, labels):
    net.train()
    leaf = z.clone().requires_grad_()
    return torch.autograd.grad(F.cross_entropy(net(leaf), labels), leaf)[0]


@bank.mistake("server_turn", "s has not moved")
def clears_before_the_step(net, optimizer, z, labels):
    net.train()
    z = z.detach().requires_grad_()
    F.cross_entropy(net(z), labels).backward()
    optimizer.zero_grad()
    optimizer.step()
    return z.grad


@bank.mistake("server_turn", "are still in .grad")
def never_clears(net, optimizer, z, labels):
    net.train()
    z = z.detach().requires_grad_()
    F.cross_entropy(net(z), labels).backward()
    optimizer.step()
    return z.grad


@bank.mistake("server_turn", "s ran a second time")
def a_pass_for_each(net, optimizer, z, labels):
    net.train()
    leaf = z.clone().requires_grad_()
    (dz,) = torch.autograd.grad(F.cross_entropy(net(leaf), labels), leaf)
    optimizer.zero_grad()
    F.cross_entropy(net(z), labels).backward()
    optimizer.step()
    return dz


@bank.mistake("server_turn", "the step of s is not")
def weight_decay_on_the_side(net, optimizer, z, labels):
    net.train()
    z = z.detach().requires_grad_()
    loss = F.cross_entropy(net(z), labels)
    loss = loss + 0.01 * sum(weight.square().sum() for weight in net.parameters())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return z.grad


@bank.mistake("server_turn", "with Adam it does not")
def server_by_hand(net, optimizer, z, labels):
    net.train()
    z = z.detach().requires_grad_()
    optimizer.zero_grad()
    F.cross_entropy(net(z), labels).backward()
    with torch.no_grad():
        for weight in net.parameters():
            weight -= optimizer.param_groups[0]["lr"] * weight.grad
    return z.grad


# --- joint_turn -------------------------------------------------------------------------------


@bank.also_right("joint_turn")
def leaves_first(net, optimizer, zs, labels):
    net.train()
    leaves = [z.clone().requires_grad_() for z in zs]
    optimizer.zero_grad()
    F.cross_entropy(net(torch.cat(leaves)), torch.cat(labels)).backward()
    optimizer.step()
    return [leaf.grad.clone() for leaf in leaves]


@bank.also_right("joint_turn")
def weighted_means(net, optimizer, zs, labels):
    net.train()
    leaves = [z.detach().requires_grad_() for z in zs]
    rows = sum(map(len, zs))
    parts = net(torch.cat(leaves)).split([len(z) for z in zs])
    losses = [
        F.cross_entropy(logits, own, reduction="sum") / rows
        for logits, own in zip(parts, labels, strict=True)
    ]
    net.zero_grad()
    sum(losses).backward()
    optimizer.step()
    return tuple(leaf.grad.clone() for leaf in leaves)


def joint(net, optimizer, zs, labels, loss_of=F.cross_entropy):
    """The solution, with another loss."""
    net.train()
    leaves = [z.clone().requires_grad_() for z in zs]
    loss = loss_of(net(torch.cat(leaves)), torch.cat(labels))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return [leaf.grad.clone() for leaf in leaves]


@bank.mistake("joint_turn", "should return a list")
def one_dz_for_all(net, optimizer, zs, labels):
    return torch.cat(joint(net, optimizer, zs, labels))


@bank.mistake("joint_turn", "gradients for")
def the_last_clinic_only(net, optimizer, zs, labels):
    return joint(net, optimizer, zs, labels)[-1:]


@bank.mistake("joint_turn", "the dz of clinic")
def in_the_reverse_order(net, optimizer, zs, labels):
    return joint(net, optimizer, zs, labels)[::-1]


@bank.mistake("joint_turn", "the dz of clinic")
def cut_in_equal_parts(net, optimizer, zs, labels):
    dz = torch.cat(joint(net, optimizer, zs, labels))
    return [part.clone() for part in dz.chunk(len(zs))]


@bank.mistake("joint_turn", "the clinics' mean losses were averaged")
def mean_of_means(net, optimizer, zs, labels):
    net.train()
    leaves = [z.clone().requires_grad_() for z in zs]
    parts = net(torch.cat(leaves)).split([len(z) for z in zs])
    losses = [F.cross_entropy(logits, own) for logits, own in zip(parts, labels, strict=True)]
    optimizer.zero_grad()
    torch.stack(losses).mean().backward()
    optimizer.step()
    return [leaf.grad.clone() for leaf in leaves]


@bank.mistake("joint_turn", "each dz belongs to the mean of its own clinic's rows")
def sum_of_means(net, optimizer, zs, labels):
    net.train()
    optimizer.zero_grad()
    leaves = [z.clone().requires_grad_() for z in zs]
    for leaf, own in zip(leaves, labels, strict=True):
        F.cross_entropy(net(leaf), own).backward()
    optimizer.step()
    return [leaf.grad.clone() for leaf in leaves]


@bank.mistake("joint_turn", "each dz is too large by the number of rows")
def joint_sum(net, optimizer, zs, labels):
    return joint(net, optimizer, zs, labels, nn.CrossEntropyLoss(reduction="sum"))


@bank.mistake("joint_turn", "joined in different orders")
def labels_the_other_way_round(net, optimizer, zs, labels):
    return joint(net, optimizer, zs, labels[::-1])


@bank.mistake("joint_turn", "dz is not the gradient")
def smoothed_labels(net, optimizer, zs, labels):
    return joint(net, optimizer, zs, labels, nn.CrossEntropyLoss(label_smoothing=0.1))


@bank.mistake("joint_turn", "s took a step for each clinic")
def one_after_the_other(net, optimizer, zs, labels):
    return [joint(net, optimizer, [z], [own])[0] for z, own in zip(zs, labels, strict=True)]


@bank.mistake("joint_turn", "each clinic's z went through s by itself")
def adds_up_gradients(net, optimizer, zs, labels):
    net.train()
    rows = sum(map(len, zs))
    optimizer.zero_grad()
    leaves = [z.clone().requires_grad_() for z in zs]
    for leaf, own in zip(leaves, labels, strict=True):
        (F.cross_entropy(net(leaf), own) * len(own) / rows).backward()
    optimizer.step()
    return [leaf.grad.clone() for leaf in leaves]


@bank.mistake("joint_turn", "memory that it shares")
def views_of_one_memory(net, optimizer, zs, labels):
    dz = torch.cat(joint(net, optimizer, zs, labels))
    return list(dz.split([len(z) for z in zs]))


@bank.mistake("joint_turn", "the message has changed")
def asks_the_messages(net, optimizer, zs, labels):
    net.train()
    for z in zs:
        z.requires_grad_()
    optimizer.zero_grad()
    F.cross_entropy(net(torch.cat(zs)), torch.cat(labels)).backward()
    optimizer.step()
    return [z.grad for z in zs]


@bank.mistake("joint_turn", "the message has changed")
def empties_the_list(net, optimizer, zs, labels):
    dzs = joint(net, optimizer, zs, labels)
    zs.clear()
    return dzs


@bank.mistake("joint_turn", "'NoneType' object has no attribute")
def joined_without_asking(net, optimizer, zs, labels):
    net.train()
    z = torch.cat(zs)
    optimizer.zero_grad()
    F.cross_entropy(net(z), torch.cat(labels)).backward()
    optimizer.step()
    return [dz.clone() for dz in z.grad.split([len(part) for part in zs])]


@bank.mistake("joint_turn", "s has not moved")
def joint_without_a_step(net, optimizer, zs, labels):
    net.train()
    leaves = [z.clone().requires_grad_() for z in zs]
    optimizer.zero_grad()
    F.cross_entropy(net(torch.cat(leaves)), torch.cat(labels)).backward()
    return [leaf.grad.clone() for leaf in leaves]


@bank.mistake("joint_turn", "are still in .grad")
def joint_never_clears(net, optimizer, zs, labels):
    net.train()
    leaves = [z.clone().requires_grad_() for z in zs]
    F.cross_entropy(net(torch.cat(leaves)), torch.cat(labels)).backward()
    optimizer.step()
    return [leaf.grad.clone() for leaf in leaves]


# --- squeeze ----------------------------------------------------------------------------------


@bank.also_right("squeeze")
def eight_bits_a_channel():
    def pack(z):
        top = z.amax((0, 2, 3), keepdim=True).clamp(min=1e-6)
        return [(z / top * 255).round().byte(), top.half()]

    def unpack(message, shape):
        codes, top = message
        return codes * top.float() / 255

    return pack, unpack


@bank.also_right("squeeze")
def one_tensor_with_noise():
    def unpack(message, shape):
        return message.double()

    return lambda z: (z + torch.rand(z.shape) / 100).bfloat16(), unpack


@bank.mistake("squeeze", "two functions are expected")
def the_message_itself():
    return torch.zeros(4)


@bank.mistake("squeeze", "written with def")
class Codec:
    """Two methods, where two functions are asked for."""

    def __iter__(self):
        return iter((lambda z: z, lambda message, shape: message))


@bank.mistake("squeeze", "only tensors cross")
def sends_the_shape():
    def pack(z):
        return z.half().flatten(), z.shape

    def unpack(message, shape):
        return message[0].reshape(message[1]).float()

    return pack, unpack


@bank.mistake("squeeze", "only tensors cross")
def sends_a_number():
    def pack(z):
        top = z.amax().item()
        return (z / top * 255).byte(), top

    def unpack(message, shape):
        codes, top = message
        return codes * top / 255

    return pack, unpack


@bank.mistake("squeeze", "only plain tensors cross")
def sends_a_sparse_tensor():
    return lambda z: z.half().to_sparse(), lambda message, shape: message.to_dense().float()


@bank.mistake("squeeze", "not on a computer of its own")
def remembers_the_scale():
    top = torch.ones(())

    def pack(z):
        nonlocal top
        top = z.amax()
        return (z / top * 255).round().byte()

    def unpack(message, shape):
        return message * top / 255

    return pack, unpack


cupboard = []


@bank.mistake("squeeze", "not on a computer of its own")
def leaves_z_in_a_cupboard():
    def pack(z):
        cupboard.append(z)
        return torch.tensor(len(cupboard) - 1)

    def unpack(message, shape):
        return cupboard[int(message)]

    return pack, unpack


def put_away(z):
    cupboard[:] = [z]


def fetch():
    return cupboard[0]


@bank.mistake("squeeze", "not on a computer of its own")
def has_it_put_away_and_fetched():
    def pack(z):
        put_away(z)
        return torch.zeros(1, dtype=torch.uint8)

    return pack, lambda message, shape: fetch()


def with_a_drawer():
    drawer = []

    def squeeze():
        def pack(z):
            drawer.append(z)
            return torch.tensor(len(drawer) - 1)

        return pack, lambda message, shape: drawer[int(message)]

    return squeeze


bank.mistake("squeeze", "not on a computer of its own")(with_a_drawer())


@bank.mistake("squeeze", "no nearer to z")
def talks_through_the_random_stream():
    def pack(z):
        torch.manual_seed(int(z.sum()))
        return torch.zeros(1, dtype=torch.uint8)

    def unpack(message, shape):
        return torch.full(shape, torch.initial_seed() / shape.numel())

    return pack, unpack


class Shelf:
    z = None


@bank.mistake("squeeze", "makes a different z of the same message")
def leaves_z_on_a_shelf():
    def pack(z):
        Shelf.z = z
        return torch.zeros(1, dtype=torch.uint8)

    return pack, lambda message, shape: Shelf.z[:1].expand(shape)


@bank.mistake("squeeze", "the z that unpack restores has shape")
def forgets_to_enlarge():
    return lambda z: F.avg_pool2d(z, 2).half(), lambda message, shape: message.float()


@bank.mistake("squeeze", "the z that unpack restores is not finite")
def divides_by_a_dead_channel():
    def pack(z):
        top = z.amax((0, 2, 3), keepdim=True)
        return (z / top).half(), top.half()

    def unpack(message, shape):
        codes, top = message
        return codes.float() * top.float()

    return pack, unpack


@bank.mistake("squeeze", "should hold floating-point numbers")
def forgets_the_scale():
    return lambda z: (z * 50).byte(), lambda message, shape: message


@bank.mistake("squeeze", "no nearer to z")
def scales_once_more():
    def pack(z):
        return (z * 50).byte()

    return pack, lambda message, shape: message * 50.0


@bank.mistake("squeeze", "no nearer to z")
def unpacks_in_another_order():
    def pack(z):
        return z.half().flatten()

    def unpack(message, shape):
        return message.float().reshape(shape[1:] + shape[:1]).permute(3, 0, 1, 2)

    return pack, unpack


@bank.mistake("squeeze", "stopped with")
def counts_on_a_batch_of_32():
    def pack(z):
        return z.half().reshape(32, 8, 8, 8)

    return pack, lambda message, shape: message.reshape(shape).float()


for other in (">=", "<"):
    bank.equivalent(
        "squeeze",
        f"`high = z > z.mean()` becomes `high = z {other} z.mean()`",
        "no number of z equals the mean, and it does not matter which of the two bits is high",
    )
