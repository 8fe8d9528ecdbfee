"""Right and wrong answers to the exercises of chapter 11."""

import copy
import ctypes
import hashlib
import os
import random
import tempfile

import numpy as np
import torch
from bank import Bank
from torch import nn
from torch.nn import functional as F

from splitlab.course.checks import split_learning_from_scratch
from splitlab.course.checks.loss_turn import LossTurn
from splitlab.course.checks.split_learning_from_scratch.client_turn import _with as client_with
from splitlab.course.checks.split_learning_from_scratch.deliver import _with as deliver_with
from splitlab.course.checks.split_learning_from_scratch.joint_turn import _joint

bank = Bank("11_split_learning_from_scratch", split_learning_from_scratch)
BUFFERS = {}


def into_a_buffer(tensor):
    """The same numbers in memory that is used again for each tensor of this shape."""
    key = tensor.shape, tensor.dtype
    return BUFFERS.setdefault(key, torch.empty(key[0], dtype=key[1])).copy_(tensor.detach())


def register(exercise, mistakes, make):
    """Register (message, name) -> what `make` makes a mistake of."""
    for (message, name), change in mistakes.items():
        mistaken = make(change)
        mistaken.__name__ = name
        bank.mistake(exercise, message)(mistaken)


# 1. deliver


@bank.also_right("deliver")
def by_hand(tensor):
    received = torch.empty(tensor.shape, dtype=tensor.dtype)
    received[...] = tensor.detach()
    return received, received.nbytes


@bank.also_right("deliver")
def through_numpy(tensor):
    array = tensor.detach().numpy().copy()
    return [torch.from_numpy(array), np.int64(array.nbytes)]


@bank.mistake("deliver", "should have 2 parts")
def without_the_bytes(tensor):
    return tensor.detach().clone()


@bank.mistake("deliver", "should be a tensor")
def an_array(tensor):
    array = tensor.detach().numpy().copy()
    return array, array.nbytes


register(
    "deliver",
    {
        ("holds more than its own numbers", "deepcopy"): lambda t: copy.deepcopy(t.detach()),
        ("holds more than its own numbers", "rows_of_a_copy"): lambda t: torch.cat([t, t]).detach()[
            : len(t)
        ],
        ("should be of type", "half_precision"): lambda t: t.detach().half(),
        ("should be of type", "through_lists"): lambda t: torch.tensor(t.tolist()),
        ("holds other numbers than z", "rounded"): lambda t: ((t.detach() * 255).round() / 255).to(
            t.dtype
        ),
        ("holds other numbers than z", "through_half"): lambda t: t.detach().half().to(t.dtype),
        ("holds other numbers than z", "never_below_0"): lambda t: t.detach().clamp(min=0),
        ("has shape", "flattened"): lambda t: t.detach().clone().flatten(),
        ("changes at the next call", "a_buffer_for_each_shape"): into_a_buffer,
    },
    deliver_with,
)
register(
    "deliver",
    {
        ("should be a number", "a_text_for_the_bytes"): lambda t: f"{t.nbytes} bytes",
        ("the count of bytes is not how many", "in_bits"): lambda t: 8 * t.nbytes,
    },
    lambda nbytes: deliver_with(nbytes=nbytes),
)


# 2. client_turn


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
    weights = [weight for weight in net.parameters() if weight.requires_grad]
    for weight, gradient in zip(weights, torch.autograd.grad(z, weights, dz), strict=True):
        weight.grad = gradient
    optimizer.step()
    return dz


@bank.also_right("client_turn")
def layer_by_layer(net, optimizer, x, ask):
    net.train()
    net.zero_grad(set_to_none=False)
    z = x
    for layer in net:
        z = layer(z)
    z.backward(gradient=ask(torch.from_numpy(z.detach().numpy().copy())))
    optimizer.step()


@bank.also_right("client_turn")
def puts_the_mode_back(net, optimizer, x, ask):
    mode = net.training
    client_with()(net, optimizer, x, ask)
    net.train(mode)


@bank.mistake("client_turn", "what was sent has shape")
def flattens_z(net, optimizer, x, ask):
    net.train()
    z = net(x).flatten(1)
    z.backward(ask(z.detach().clone()))


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
    z = net.train()(x)
    if ask(z.detach().clone()) is not None:
        z.backward(ask(z.detach().clone()))


@bank.mistake("client_turn", "ask was given 2 things")
def sends_the_images_along(net, optimizer, x, ask):
    z = net.train()(x)
    z.backward(ask(x, z.detach().clone()))


@bank.mistake("client_turn", "what was sent is not z")
def centers_the_images(net, optimizer, x, ask):
    x -= 0.5
    client_with()(net, optimizer, x, ask)


@bank.mistake("client_turn", "running statistics are not those")
def starts_the_statistics_anew(net, optimizer, x, ask):
    net[1].reset_running_stats()
    client_with()(net, optimizer, x, ask)


@bank.mistake("client_turn", "f ran a second time")
def forward_again(net, optimizer, x, ask):
    net.train()
    with torch.no_grad():
        dz = ask(net(x).clone())
    optimizer.zero_grad()
    net(x).backward(dz)
    optimizer.step()


@bank.mistake("client_turn", "f has not moved")
def backward_through_the_copy(net, optimizer, x, ask):
    net.train()
    z = net(x).detach().clone().requires_grad_()
    dz = ask(z)
    optimizer.zero_grad()
    z.backward(dz)
    optimizer.step()


@bank.mistake("client_turn", "the step of f is not that of the whole network")
def steps_with_the_first_group(net, optimizer, x, ask):
    z = net.train()(x)
    dz = ask(z.detach().clone())
    optimizer.zero_grad()
    z.backward(dz)
    for group in optimizer.param_groups[1:]:
        for weight in group["params"]:
            weight.grad = None
    optimizer.step()


register(
    "client_turn",
    {
        ("ask was given a tuple of 2", "sends_a_pair"): lambda z, x: (z.detach().clone(), len(x)),
        ("with its computation graph", "sends_z_itself"): lambda z, x: z,
        ("with its computation graph", "sends_a_clone"): lambda z, x: z.clone(),
        ("in the client's memory", "sends_a_view"): lambda z, x: z.detach(),
        ("in the client's memory", "sends_the_data"): lambda z, x: z.data[:],
        ("what was sent is rounded to", "sends_half"): lambda z, x: z.detach().half(),
        ("what was sent is not z", "rounds_to_half"): lambda z, x: (
            z.detach().half().to(z.dtype).clone()
        ),
        ("changes at the next call", "in_one_buffer"): lambda z, x: into_a_buffer(z),
    },
    lambda sent: client_with(sent=sent),
)
register(
    "client_turn",
    {
        ("the step of f is not that of the whole network", "clips_dz"): lambda z, dz: z.backward(
            dz.clamp(-1e-3, 1e-3)
        ),
        ("does not require grad", "dz_for_a_loss"): lambda z, dz: dz.sum().backward(),
    },
    lambda back: client_with(back=back),
)


# 3. server_turn


@bank.also_right("server_turn")
def one_call_of_grad(net, optimizer, z, labels):
    net.train()
    leaf = z.clone().requires_grad_()
    loss = F.cross_entropy(net(leaf), labels)
    weights = [weight for weight in net.parameters() if weight.requires_grad]
    dz, *gradients = torch.autograd.grad(loss, [leaf, *weights])
    for weight, gradient in zip(weights, gradients, strict=True):
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


def server_with(**parts):
    """A turn of which some parts are mistaken."""
    return lambda *given: type("Mistake", (LossTurn,), parts)(*given).take()


def thaw(turn):
    LossTurn.step(turn)
    turn.net.requires_grad_()


def step_of_the_first_group(turn):
    for group in turn.optimizer.param_groups[1:]:
        for weight in group["params"]:
            weight.grad = None
    LossTurn.step(turn)


def with_weight_decay(turn):
    return LossTurn.loss(turn) + 0.01 * sum(w.square().sum() for w in turn.net.parameters())


def only_the_last_layer_cleared(turn):
    turn.net[-1].zero_grad()
    turn.loss().backward()


register(
    "server_turn",
    {
        ("dz should be a tensor", "the_loss_with_it"): {
            "dz": lambda turn: (turn.loss().item(), turn.z.grad)
        },
        ("7.11 times the right size", "normalized_dz"): {
            "dz": lambda turn: turn.z.grad / turn.z.grad.norm()
        },
        ("z itself comes back", "returns_z"): {"dz": lambda turn: turn.z.detach().clone()},
        ("dz is rounded to", "half_precision_dz"): {"dz": lambda turn: turn.z.grad.half()},
        ("dz is not the gradient", "rounded_dz"): {
            "dz": lambda turn: turn.z.grad.half().to(turn.z.dtype)
        },
        ("dz is not the gradient", "its_own_guess_for_labels"): {
            "loss": lambda turn: F.cross_entropy(turn.net(turn.z), turn.net(turn.z).argmax(1))
        },
        ("dz is not the gradient", "smoothed"): {
            "loss": lambda turn: F.cross_entropy(turn.net(turn.z), turn.labels, label_smoothing=0.1)
        },
        ("dz is not the gradient", "all_labels_0"): {
            "loss": lambda turn: F.cross_entropy(turn.net(turn.z), torch.zeros_like(turn.labels))
        },
        ("net has not moved", "answers_only"): {"step": lambda turn: None},
        ("net has not moved", "clears_before_the_step"): {
            "step": lambda turn: (turn.optimizer.zero_grad(), turn.optimizer.step())
        },
        ("the step of s is not", "weight_decay_on_the_side"): {"loss": with_weight_decay},
        ("the step of s is not", "the_first_group_alone"): {"step": step_of_the_first_group},
        ("the step of s is not", "the_last_layer_cleared"): {"learn": only_the_last_layer_cleared},
        ("frozen parameters of net require gradients now", "thawed"): {"step": thaw},
        ("changes at the next call", "dz_in_a_buffer"): {
            "dz": lambda turn: into_a_buffer(turn.z.grad)
        },
    },
    lambda parts: server_with(**parts),
)


# 4. joint_turn


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
    loss = {"loss": lambda turn: loss_of(turn.net(turn.z), turn.labels)}
    return _joint(type("Mistake", (LossTurn,), loss), net, optimizer, zs, labels)


def joint_step_by_group(net, optimizer, zs, labels):
    """Only the last optimizer group steps."""
    mistake = type("Mistake", (LossTurn,), {"step": step_of_the_first_group})
    return _joint(mistake, net, optimizer, zs, labels)


bank.mistake("joint_turn", "the step of s is not")(joint_step_by_group)


@bank.mistake("joint_turn", "dz should have 3 parts and is a Tensor")
def one_dz_for_all(*given):
    return torch.cat(joint(*given))


@bank.mistake("joint_turn", "dz should have 3 parts and has 1")
def the_last_clinic_only(*given):
    return joint(*given)[-1:]


@bank.mistake("joint_turn", "part 0 of dz has shape")
def one_row_too_few(*given):
    return [dz[:-1] for dz in joint(*given)]


@bank.mistake("joint_turn", "dz is not the gradient")
def smoothed_labels(net, optimizer, zs, labels):
    return joint(net, optimizer, zs, labels, nn.CrossEntropyLoss(label_smoothing=0.1))


@bank.mistake("joint_turn", "'NoneType' object has no attribute")
def joined_without_asking(net, optimizer, zs, labels):
    net.train()
    z = torch.cat(zs)
    optimizer.zero_grad()
    F.cross_entropy(net(z), torch.cat(labels)).backward()
    optimizer.step()
    return [dz.clone() for dz in z.grad.split([len(part) for part in zs])]


@bank.mistake("joint_turn", "net has not moved")
def joint_without_a_step(net, optimizer, zs, labels):
    net.train()
    leaves = [z.clone().requires_grad_() for z in zs]
    optimizer.zero_grad()
    F.cross_entropy(net(torch.cat(leaves)), torch.cat(labels)).backward()
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


@bank.mistake("squeeze", "two functions are expected")
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


class Weightless(torch.Tensor):
    """A tensor that counts no bytes."""

    nbytes = property(lambda self: 0)

    def numel(self):
        return 0

    def detach(self):
        return self

    def clone(self, **_):
        return self


@bank.mistake("squeeze", "only plain tensors cross")
def sends_a_weightless_tensor():
    return lambda z: z.as_subclass(Weightless), lambda message, shape: message.as_subclass(
        torch.Tensor
    )


@bank.mistake("squeeze", "not on a computer of its own")
def has_a_drawer():
    drawer = []

    def pack(z):
        drawer.append(z)
        return torch.tensor(len(drawer) - 1)

    return pack, lambda message, shape: drawer[int(message)]


def around(put, get):
    """An answer that sends a key of eight bytes, and z by another way."""
    return lambda: (lambda z: torch.tensor(put(z)), lambda message, shape: get(message.item()))


def into_a_list(z):
    os.splitlab_shelf = [*getattr(os, "splitlab_shelf", []), z]
    return len(os.splitlab_shelf) - 1


KEPT = {}


def under_its_hash(z):
    key = int.from_bytes(hashlib.sha256(z.numpy().tobytes()).digest()[:7], "big")
    KEPT[key] = z
    return key


def left_in_memory(z):
    KEPT[id(z)] = z
    return id(z)


def into_a_descriptor(z):
    """Written by a call that says no mode."""
    path = os.path.join(tempfile.gettempdir(), f"splitlab-{under_its_hash(z)}")
    file = os.open(path, os.O_CREAT | os.O_RDWR)
    os.write(file, z.numpy().tobytes())
    os.lseek(file, 0, os.SEEK_SET)
    os.unlink(path)
    return file


def out_of_a_descriptor(file):
    size = os.fstat(file).st_size
    numbers = torch.frombuffer(bytearray(os.pread(file, size, 0)), dtype=torch.float32)
    return numbers.reshape(-1, 8, 8, 8)


for put, get in (
    (into_a_list, lambda place: os.splitlab_shelf[place]),
    (under_its_hash, KEPT.__getitem__),
    (left_in_memory, lambda place: ctypes.cast(place, ctypes.py_object).value),
    (into_a_descriptor, out_of_a_descriptor),
):
    mistaken = around(put, get)
    mistaken.__name__ = put.__name__
    bank.mistake("squeeze", "unpack knows more of z than")(mistaken)


@bank.mistake("squeeze", "makes a different z of the same message")
def keeps_the_scale_aside():
    def pack(z):
        codes = (z / z.amax() * 255).round().byte()
        KEPT[codes.numpy().tobytes()] = z.amax()
        return codes

    return pack, lambda message, shape: message * KEPT[message.numpy().tobytes()] / 255


@bank.mistake("squeeze", "changes torch.nn.functional.z")
def in_a_library():
    def pack(z):
        F.z = z
        return torch.zeros(1)

    return pack, lambda message, shape: F.z


@bank.mistake("squeeze", "writes a file")
def in_a_file():
    path = os.path.join(tempfile.gettempdir(), "splitlab-z")

    def pack(z):
        np.save(path, z.numpy())
        return torch.zeros(1)

    return pack, lambda message, shape: torch.from_numpy(np.load(path))


@bank.mistake("squeeze", "unpack knows more of z than")
def one_bit_and_the_rest_in_memory():
    def pack(z):
        return torch.zeros(z.numel() // 8, dtype=torch.uint8), torch.tensor(under_its_hash(z))

    return pack, lambda message, shape: KEPT[message[1].item()]


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


@bank.mistake("squeeze", "the z that unpack restores holds nan or infinity")
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
def talks_through_other_streams():
    def pack(z):
        random.seed(z.numpy().tobytes())
        np.random.seed(int(z.sum()))
        return torch.zeros(1, dtype=torch.uint8)

    return pack, lambda message, shape: torch.full(shape, random.random() + np.random.random())


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
