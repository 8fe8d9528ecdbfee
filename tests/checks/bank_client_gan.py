"""Right and wrong answers to the exercises of chapter 41."""

import torch
import torch.nn.functional as F
from bank import Bank

from splitlab.course.checks import client_gan

bank = Bank("41_client_gan", client_gan)

# 1. prototype_distance


@bank.also_right("prototype_distance")
def with_loops(generated, real):
    nearest = [min(float(F.mse_loss(one, other)) for other in real) for one in generated]
    return sum(nearest) / len(nearest)


@bank.also_right("prototype_distance")
def with_cdist(generated, real):
    distance = torch.cdist(generated.flatten(1), real.flatten(1)).min(dim=1).values
    return distance.square().mean() / real[0].numel()


@bank.also_right("prototype_distance")
def by_index(generated, real):
    rows = ((generated[:, None] - real[None]) ** 2).sum(dim=(2, 3, 4)).argmin(1)
    return F.mse_loss(generated, real[rows]).item()


@bank.mistake("prototype_distance", "return one number")
def one_for_each_image(generated, real):
    return (generated[:, None] - real[None]).square().flatten(2).mean(2).amin(1)


@bank.mistake("prototype_distance", "should be a number")
def with_the_rows(generated, real):
    lowest = (generated[:, None] - real[None]).square().flatten(2).mean(2).min(1)
    return lowest.values.mean(), lowest.indices


@bank.mistake("prototype_distance", "the distance is not right")
def of_the_two_nearest(generated, real):
    error = (generated[:, None] - real[None]).square().flatten(2).mean(2)
    return error.topk(min(2, len(real)), largest=False).values.mean()


@bank.mistake("prototype_distance", "the distance is not right")
def nearest_by_the_angle(generated, real):
    rows = (F.normalize(generated.flatten(1)) @ F.normalize(real.flatten(1)).T).argmax(1)
    return F.mse_loss(generated, real[rows])


# 2. poison_turn


def labels(a, label):
    return torch.full((len(a),), label)


@bank.also_right("poison_turn")
def one_backward_pass(generator, net, tail, optimizer, noise, server, poison):
    z = net(generator(noise).detach())
    a = server.forward(torch.empty_like(z).copy_(z).detach())
    a = a.clone().requires_grad_()
    loss = -tail(a).log_softmax(dim=1)[:, poison].mean()
    (da,) = torch.autograd.grad(loss, a, retain_graph=True)
    optimizer.zero_grad()
    (loss + (z * server.backward(da)).sum()).backward()
    optimizer.step()


@bank.also_right("poison_turn")
def gradients_by_hand(generator, net, tail, optimizer, noise, server, poison):
    with torch.no_grad():
        x = generator(noise)
    z = net(x)
    a = server.forward(z.detach().clone()).requires_grad_()
    theirs = [weight for weight in tail.parameters() if weight.requires_grad]
    mine = [weight for weight in net.parameters() if weight.requires_grad]
    loss = F.cross_entropy(tail(a), labels(a, poison))
    da, *gradients = torch.autograd.grad(loss, [a, *theirs])
    gradients += torch.autograd.grad(z, mine, server.backward(da.clone()))
    for weight, gradient in zip([*theirs, *mine], gradients, strict=True):
        weight.grad = gradient
    optimizer.step()


def poison_with(
    images=lambda generator, noise: generator(noise).detach(),
    send=lambda z: z.detach().clone(),
    loss=lambda logits, poison: F.cross_entropy(logits, labels(logits, poison)),
    da=lambda da: da,
    answer=lambda server, da: server.backward(da),
    before=lambda net, tail: None,
):
    def turn(generator, net, tail, optimizer, noise, server, poison):
        before(net, tail)
        z = net(images(generator, noise))
        a = server.forward(send(z)).requires_grad_()
        optimizer.zero_grad()
        loss(tail(a), poison).backward()
        z.backward(answer(server, da(a.grad)))
        optimizer.step()

    return turn


POISON_MISTAKES = {
    "z was sent with its computation graph": {"send": lambda z: z.clone()},
    "lies in the client's memory": {"send": lambda z: z.detach()},
    "is not z, a tensor of shape": {"send": lambda z: z.detach().flatten(1)},
    "what the server was sent is not z": {"send": lambda z: z.tolist()},
    "a message is missing": {"answer": lambda server, da: server.z.detach()},
    "server.backward is called once": {
        "answer": lambda server, da: server.backward(da) + server.backward(da)
    },
    "what was sent is not z and da": {"loss": lambda p, k: F.cross_entropy(p, labels(p, k - 1))},
    "ran in training mode": {"before": lambda net, tail: net.train()},
    "tail is left in evaluation mode": {"before": lambda net, tail: tail.eval()},
    "the step does not follow": {"answer": lambda server, da: server.backward(da).clamp(min=0)},
}
for message, parts in POISON_MISTAKES.items():
    bank.mistake("poison_turn", message)(poison_with(**parts))


@bank.mistake("poison_turn", "net ran a second time")
def runs_net_again(generator, net, tail, optimizer, noise, server, poison):
    def again(generator, noise):
        x = generator(noise).detach()
        net(x)
        return x

    poison_with(images=again)(generator, net, tail, optimizer, noise, server, poison)


# 3. generator_turn


@bank.also_right("generator_turn")
def only_the_generators_inputs(g, g_optimizer, net, tail, noise, server, target, scale):
    z = net(g(noise))
    a = server.forward(z.detach().clone()).requires_grad_()
    F.cross_entropy(tail(a) * 1, labels(a, target)).backward(inputs=[a])
    dz = server.backward(scale * a.grad) / scale
    g_optimizer.zero_grad()
    z.backward(dz, inputs=[weight for weight in g.parameters() if weight.requires_grad])
    g_optimizer.step()


@bank.also_right("generator_turn")
def with_the_rest_frozen(g, g_optimizer, net, tail, noise, server, target, scale):
    rest = [weight for part in (net, tail) for weight in part.parameters() if weight.requires_grad]
    for weight in rest:
        weight.requires_grad_(False)
    z = net(g(noise))
    a = server.forward(z.detach().clone()).requires_grad_()
    loss = -scale * tail(a).log_softmax(dim=1)[:, target].mean()
    loss.backward()
    g_optimizer.zero_grad()
    (z * (server.backward(a.grad) / scale)).sum().backward()
    g_optimizer.step()
    for weight in rest:
        weight.requires_grad_()


def generate_with(
    images=lambda generator, noise: generator(noise),
    loss=lambda logits, target: F.cross_entropy(logits, labels(logits, target)),
    da=lambda loss, a: torch.autograd.grad(loss, a)[0],
    answer=lambda dz: dz,
    back=lambda x, z, dz: x.backward(torch.autograd.grad(z, x, dz)[0]),
    after=lambda net, tail: None,
):
    def turn(generator, optimizer, net, tail, noise, server, target, scale):
        x = images(generator, noise)
        z = net(x)
        a = server.forward(z.detach().clone()).requires_grad_()
        dz = server.backward(scale * da(loss(tail(a), target), a)) / scale
        optimizer.zero_grad()
        back(x, z, answer(dz))
        optimizer.step()
        after(net, tail)

    return turn


def filling_the_tail(loss, a):
    loss.backward()
    return a.grad


GENERATOR_MISTAKES = {
    "the .grad of net has changed": {"back": lambda x, z, dz: z.backward(dz)},
    "the .grad of tail has changed": {"da": filling_the_tail},
    "the .grad of net has changed, and": {"after": lambda net, tail: net.zero_grad()},
    "frozen parameters of net require gradients now": {
        "after": lambda net, tail: net.requires_grad_()
    },
    "net's parameters no longer require gradients": {
        "after": lambda net, tail: net.requires_grad_(False)
    },
    "the generator has not moved": {
        "images": lambda generator, noise: generator(noise).detach(),
        "back": lambda x, z, dz: z.backward(dz),
    },
    "what was sent is not z and da": {"images": lambda generator, noise: -generator(noise)},
    "da was sent with its computation graph": {
        "da": lambda loss, a: torch.autograd.grad(loss, a, create_graph=True)[0]
    },
    "the generator's step does not follow": {"answer": lambda dz: dz / dz.norm()},
}
for message, parts in GENERATOR_MISTAKES.items():
    bank.mistake("generator_turn", message)(generate_with(**parts))
