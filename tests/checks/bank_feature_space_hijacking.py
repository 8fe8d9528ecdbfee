"""Right and wrong answers to the exercises of chapter 32."""

import random

import torch
import torch.nn.functional as F
from bank import Bank

from splitlab.course.checks import feature_space_hijacking
from splitlab.course.checks.feature_space_hijacking.turn import _take, _Turn
from splitlab.course.checks.hijack_turn import variant

bank = Bank("32_feature_space_hijacking", feature_space_hijacking)

# 1. hijack_gradient


@bank.also_right("hijack_gradient")
def through_the_clones_grad(critic, z):
    leaf = z.clone().requires_grad_()
    critic(leaf).mean().backward(inputs=[leaf])
    return leaf.grad


@bank.also_right("hijack_gradient")
def sample_by_sample(critic, z):
    rows = []
    for one in z.detach().clone():
        one = one[None].requires_grad_()
        rows.append(torch.autograd.grad(critic(one).squeeze(), one)[0] / len(z))
    return torch.cat(rows)


@bank.mistake("hijack_gradient", "does not require grad")
def nothing_requires_it(critic, z):
    z = z.detach()
    return torch.autograd.grad(critic(z).mean(), z)[0]


@bank.mistake("hijack_gradient", "not the gradient of the mean score")
def of_the_squared_score(critic, z):
    z = z.detach().requires_grad_()
    return torch.autograd.grad(critic(z).square().mean(), z)[0]


@bank.mistake("hijack_gradient", "right direction")
def of_length_one(critic, z):
    z = z.detach().requires_grad_()
    (dz,) = torch.autograd.grad(critic(z).mean(), z)
    return dz / dz.norm()


BUFFERS = {}


# 2. matched


@bank.also_right("matched")
def with_loops(reconstructions, private):
    hits = 0
    for number, one in enumerate(reconstructions):
        errors = [float(((one - other) ** 2).sum()) for other in private]
        hits += min(range(len(private)), key=errors.__getitem__) == number
    return hits / len(private)


@bank.also_right("matched")
def ties_share_a_hit(reconstructions, private):
    error = (reconstructions[:, None] - private[None]).square().mean(dim=(2, 3, 4))
    nearest = error == error.amin(dim=1, keepdim=True)
    return (nearest.diagonal() / nearest.sum(1)).mean()


@bank.also_right("matched")
def a_tie_is_no_hit(reconstructions, private):
    error = (reconstructions[:, None] - private[None]).square().sum(dim=(2, 3, 4))
    nearest = error == error.amin(dim=1, keepdim=True)
    return (nearest.diagonal() & (nearest.sum(1) == 1)).double().mean().item()


def errors(a, b):
    return (a[:, None] - b[None]).square().sum(dim=(2, 3, 4))


def hits(nearest):
    return nearest == torch.arange(len(nearest))


@bank.mistake("matched", "should be a number")
def share_and_matrix(reconstructions, private):
    error = errors(reconstructions, private)
    return hits(error.argmin(dim=1)).double().mean(), error


@bank.mistake("matched", "the share is not right")
def below_a_limit(reconstructions, private):
    error = errors(reconstructions, private)
    return (error.diagonal() < error.mean()).double().mean()


# 3. gradient_penalty


@bank.also_right("gradient_penalty")
def penalty_by_loops(critic, z, z_public):
    total = 0
    for one, other in zip(z, z_public.detach(), strict=True):
        epsilon = random.random()
        mixture = ((1 - epsilon) * one + epsilon * other)[None].requires_grad_()
        (slope,) = torch.autograd.grad(critic(mixture).squeeze(), mixture, create_graph=True)
        total = total + (slope.square().sum().sqrt() - 1) ** 2
    return total / len(z)


@bank.also_right("gradient_penalty")
def penalty_in_one_line_each(critic, z, z_public):
    epsilon = torch.rand_like(z[:, :1, :1, :1])
    mixture = torch.lerp(z_public.detach(), z, epsilon.expand_as(z)).requires_grad_()
    scores = critic(mixture)
    slope = torch.autograd.grad(scores, mixture, torch.ones_like(scores), create_graph=True)[0]
    return F.mse_loss(torch.linalg.vector_norm(slope, dim=(1, 2, 3)), torch.ones(len(z)).double())


def penalty_with(
    critic,
    z,
    z_public,
    epsilon=lambda z: torch.rand(len(z), 1, 1, 1),
    mix=lambda e, z, z_public: e * z + (1 - e) * z_public,
    total=torch.sum,
    graph=True,
    of=lambda slope: (slope.flatten(1).norm(dim=1) - 1).square().mean(),
):
    mixture = mix(epsilon(z), z, z_public).detach().requires_grad_()
    (slope,) = torch.autograd.grad(total(critic(mixture)), mixture, create_graph=graph)
    return of(slope)


PENALTY_MISTAKES = {
    "one epsilon for the whole batch": {"epsilon": lambda z: torch.rand(())},
    "epsilon is drawn for each channel": {"epsilon": lambda z: torch.rand_like(z[:, :, :1, :1])},
    "not for each number": {"epsilon": torch.rand_like},
    "does not lie between": {"mix": lambda e, z, z_public: e * z + z_public},
    "mix a sample with its own partner": {
        "mix": lambda e, z, z_public: e * z + (1 - e) * z_public.flip(0)
    },
    "lies outside": {"epsilon": lambda z: torch.randn(len(z), 1, 1, 1)},
    "not spread evenly": {"epsilon": lambda z: torch.rand(len(z), 1, 1, 1) ** 4},
    "the gradient is taken at z:": {"mix": lambda e, z, z_public: z},
    "the gradient is taken at z_public": {"mix": lambda e, z, z_public: z_public},
    "the penalty has shape": {"of": lambda slope: (slope.flatten(1).norm(dim=1) - 1).square()},
    "the penalty is not the mean": {
        "of": lambda slope: (slope.flatten(1).abs().amax(dim=1) - 1).square().mean()
    },
}
for message, change in PENALTY_MISTAKES.items():

    def mistaken(critic, z, z_public, change=change):
        return penalty_with(critic, z, z_public, **change)

    mistaken.__name__ = message
    bank.mistake("gradient_penalty", message)(mistaken)


@bank.mistake("gradient_penalty", "the same at every call")
def seeded(critic, z, z_public):
    torch.manual_seed(1)
    return penalty_with(critic, z, z_public)


@bank.mistake("gradient_penalty", "scores where")
def both_sides(critic, z, z_public):
    critic(torch.cat([z, z_public]))
    return penalty_with(critic, z, z_public)


# 4. turn


@bank.also_right("turn")
def gradients_first(client_z, x_public, pilot, decoder, critic, autoencoder_step, critic_step):
    z = client_z.clone().requires_grad_()
    (dz,) = torch.autograd.grad(critic(z).mean(), z)
    z_public = pilot(x_public)
    autoencoder_loss = (decoder(z_public) - x_public).pow(2).mean()
    critic_loss = critic(z_public).mean() - critic(client_z).mean()
    for loss, optimizer in ((autoencoder_loss, autoencoder_step), (critic_loss, critic_step)):
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
    autoencoder_step.step()
    critic_step.step()
    return dz


@bank.also_right("turn")
def autoencoder_steps_early(x, x_public, pilot, decoder, critic, autoencoder_step, critic_step):
    z = x.detach().clone().requires_grad_()
    critic(z).mean().backward()
    dz = z.grad.clone()
    z_public = pilot(x_public)
    autoencoder_step.zero_grad()
    F.mse_loss(decoder(z_public), x_public).backward()
    autoencoder_step.step()
    critic_step.zero_grad()
    scores = critic(torch.cat([z_public.detach(), x]))
    (scores[: len(x_public)].mean() - scores[len(x_public) :].mean()).backward()
    critic_step.step()
    return dz


@bank.mistake("turn", "the step of pilot and decoder does not follow")
def of_absolute_errors(*given):
    absolute = {"own_loss": lambda turn: F.l1_loss(turn.behind(turn.z_public), turn.x)}
    return variant(_Turn, _take, **absolute)(*given)


# 5. suspicion


@bank.also_right("suspicion")
def label_blind(dz, labels):
    directions = F.normalize(dz.flatten(1))
    return directions.mean(0).norm()


@bank.also_right("suspicion")
def same_length_too(dz, labels):
    lengths = dz.flatten(1).norm(dim=1)
    uneven = lengths.std(correction=0) / lengths.mean().clamp(min=1e-12)
    return float(label_blind(dz, labels) - uneven)


@bank.mistake("suspicion", "the mean of nothing")
def no_pair_forgotten(dz, labels):
    directions = F.normalize(dz.flatten(1))
    return (directions @ directions.T)[labels[:, None] != labels[None]].mean()


@bank.mistake("suspicion", "the mean of nothing")
def divided_by_zero(dz, labels):
    directions = dz.flatten(1) / dz.flatten(1).norm(dim=1, keepdim=True)
    return (directions @ directions.T).mean()


@bank.mistake("suspicion", "reverse its sign")
def higher_for_honest(dz, labels):
    return -label_blind(dz, labels)


CALLS = []


@bank.mistake("suspicion", "for the same gradient the second time")
def counter(dz, labels):
    CALLS.append(len(CALLS))
    return -float(len(CALLS))


@bank.mistake("suspicion", "for the same gradient the second time")
def lots(dz, labels):
    return torch.rand(())


@bank.mistake("suspicion", "suspicion changes its argument 1")
def in_place(dz, labels):
    flat = dz.flatten(1)
    flat -= flat.mean(0)
    return flat.norm()


@bank.mistake("suspicion", "return one number")
def one_for_each_image(dz, labels):
    return dz.flatten(1).norm(dim=1)


@bank.mistake("suspicion", "with a batch of one image")
def two_images_at_least(dz, labels):
    return F.cosine_similarity(dz[0].flatten(), dz[1].flatten(), dim=0)


@bank.mistake("suspicion", "should be a number")
def word(dz, labels):
    return "hijack" if dz.norm() > 0.1 else "honest"


bank.equivalent(
    "suspicion",
    "`return -1.0` becomes `return -2.0`",
    "no cosine is below -1, so neither number ever rings, and only the order matters",
)
