"""Right and wrong answers to the exercises of chapter 52."""

import math

import torch
from bank import Bank
from scipy import stats

from splitlab.course.checks import noise_and_other_blur
from splitlab.course.checks.noise_and_other_blur.blurred_runs import explained_by_each
from splitlab.referee.intervals import epsilon_lower_bound

bank = Bank("52_noise_and_other_blur", noise_and_other_blur)

# 1. worst_distance


@bank.also_right("worst_distance")
def from_the_noise_of_the_mean(norm, sigma, releases):
    return (norm + norm) / (sigma / releases**0.5)


@bank.also_right("worst_distance")
def of_two_long_vectors(norm, sigma, releases):
    pair = torch.tensor([norm, -norm]).repeat(releases, 1) / sigma
    return (pair[:, 0] - pair[:, 1]).norm()


@bank.mistake("worst_distance", "should be a number")
def with_its_noise(norm, sigma, releases):
    return 2 * norm, sigma / math.sqrt(releases)


@bank.mistake("worst_distance", "the worst distance is not right")
def for_a_standard_error(norm, sigma, releases):
    return 2 * norm * math.sqrt(releases + 1) / sigma


@bank.mistake("worst_distance", "draws random numbers")
def with_a_simulation(norm, sigma, releases):
    torch.randn(releases)
    return from_the_noise_of_the_mean(norm, sigma, releases)


# 2. private_release


@bank.also_right("private_release")
def with_renorm(z, norm, sigma):
    return torch.renorm(z, 2, 0, norm) + sigma * torch.randn_like(z)


@bank.also_right("private_release")
def with_a_where(z, norm, sigma):
    rows = z.reshape(len(z), -1)
    lengths = (rows.square().sum(1, keepdim=True) + 1e-30).sqrt()
    clipped = torch.where(lengths > norm, rows * norm / lengths, rows)
    return sigma * torch.randn(z.shape, dtype=z.dtype) + clipped.view_as(z)


@bank.also_right("private_release")
def noise_before_anything_else(z, norm, sigma):
    noise = torch.randn_like(z) * sigma
    lengths = torch.linalg.vector_norm(z, dim=tuple(range(1, z.dim())), keepdim=True)
    return noise + z * (norm / lengths.clamp_min(norm))


@bank.mistake("private_release", "z has changed: leave it as it was")
def in_place(z, norm, sigma):
    clipped = torch.renorm(z.detach(), 2, 0, norm)
    z.data.copy_(clipped)
    return z + sigma * torch.randn_like(z)


@bank.mistake("private_release", "has no graph")
def of_a_detached_z(z, norm, sigma):
    return with_renorm(z.detach(), norm, sigma)


@bank.mistake("private_release", "the right value and the wrong gradient")
def drawn_around_the_clipped_z(z, norm, sigma):
    return torch.normal(torch.renorm(z, 2, 0, norm), sigma)


@bank.mistake("private_release", "the release is not right")
def clipped_again(z, norm, sigma):
    return torch.renorm(with_renorm(z, norm, sigma), 2, 0, norm)


@bank.mistake("private_release", "has shape")
def flattened(z, norm, sigma):
    return with_renorm(z, norm, sigma).flatten()


# 3. averaged


@bank.also_right("averaged")
def in_a_loop(smash, x, repeats):
    total = 0
    for _ in range(repeats):
        total = total + smash(x)
    return total / repeats


@bank.also_right("averaged")
def image_by_image(smash, x, repeats):
    return torch.stack([smash(one.expand(repeats, *one.shape)).mean(0) for one in x])


@bank.also_right("averaged")
def in_whole_batches(smash, x, repeats):
    messages = smash(torch.cat([x] * repeats))
    return torch.stack(messages.split(len(x))).mean(0)


@bank.mistake("averaged", "smash is asked about images of shape")
def without_an_axis(smash, x, repeats):
    return torch.stack([smash(one.repeat(repeats, 1, 1)).mean(0) for one in x.flatten(2)])


@bank.mistake("averaged", "an image that is not in x")
def about_a_mean_image(smash, x, repeats):
    return in_a_loop(smash, (x + x.mean(0)) / 2, repeats)


@bank.mistake("averaged", "draws random numbers")
def with_noise_of_its_own(smash, x, repeats):
    return in_a_loop(smash, x, repeats) + 0 * torch.randn(())


@bank.mistake("averaged", "the mean z is not right")
def asks_twice_as_often(smash, x, repeats):
    return in_a_loop(smash, x, 2 * repeats)


@bank.mistake("averaged", "this is one message about each image")
def of_copies(smash, x, repeats):
    return smash(x).repeat_interleave(repeats, 0).unflatten(0, (len(x), repeats)).mean(1)


# 4. epsilon_bound


bank.also_right("epsilon_bound")(epsilon_lower_bound)


@bank.also_right("epsilon_bound")
def with_quantiles(hits, false_alarms, trials, delta):
    low = stats.beta.ppf(0.025, hits, trials - hits + 1) if hits else 0.0
    high = 1.0
    if false_alarms < trials:
        high = stats.beta.ppf(0.975, false_alarms + 1, trials - false_alarms)
    best = 0.0
    for above, below in ((low, high), (1 - high, 1 - low)):
        if above - delta > 0:
            best = max(best, math.log(above - delta) - math.log(below))
    return torch.tensor(best)


@bank.mistake("epsilon_bound", "epsilon_bound stopped with ValueError")
def of_any_numerator(hits, false_alarms, trials, delta):
    low = stats.binomtest(hits, trials).proportion_ci().low
    high = stats.binomtest(false_alarms, trials).proportion_ci().high
    first = math.log((low - delta) / high)
    return max(0.0, first, math.log((1 - high - delta) / (1 - low)))


@bank.mistake("epsilon_bound", "the bound is not right")
def with_wilson_intervals(hits, false_alarms, trials, delta):
    def ends(count):
        return stats.binomtest(count, trials).proportion_ci(method="wilson")

    low, high = ends(hits).low, ends(false_alarms).high
    best = [math.log((low - delta) / high)] if low > delta else []
    if 1 - high > delta:
        best.append(math.log((1 - high - delta) / (1 - low)))
    return max([0.0, *best])


@bank.mistake("epsilon_bound", "should be a number")
def in_both_directions(hits, false_alarms, trials, delta):
    return [epsilon_lower_bound(hits, false_alarms, trials, delta)] * 2


# 5. choose_blur


@bank.also_right("choose_blur")
def from_a_list_of_shares(accuracy, most):
    before = accuracy(0.0, 1.0)
    kept = [keep for keep in (1 / 16, 1 / 8) if before - accuracy(sigma=0.25, keep=keep) <= most]
    return [torch.tensor(0.25), kept[0]]


@bank.also_right("choose_blur")
def without_a_training(accuracy, most):
    return 0.25, 1 / 32


@bank.mistake("choose_blur", "the accuracy falls from 0.9")
def as_strong_as_it_gets(accuracy, most):
    return 4.0, None


@bank.mistake("choose_blur", "more than 8 times")
def trains_and_trains(accuracy, most):
    return max(accuracy() for _ in range(9)), 1.0


@bank.mistake("choose_blur", "more than 8 times")
def hides_the_refusal(accuracy, most):
    try:
        trains_and_trains(accuracy, most)
    except AssertionError:
        return 0.25, 1 / 32


@bank.mistake("choose_blur", "return two numbers")
def noise_alone(accuracy, most):
    return 0.5


@bank.mistake("choose_blur", "sigma is -1")
def less_than_no_noise(accuracy, most):
    return -1.0, 1.0


@bank.mistake("choose_blur", "keep is 16")
def a_count(accuracy, most):
    return 0.25, 16


@bank.mistake("choose_blur", "keep is 0")
def asks_about_nothing(accuracy, most):
    return accuracy(0.25, 0.0), 1.0


@bank.mistake("choose_blur", "sigma should be a number")
def in_words(accuracy, most):
    return "little", 1.0


@bank.mistake("choose_blur", "a part of its own check")
def asks_the_attackers(accuracy, most):
    explained_by_each(0.25, 1 / 32)
    return 0.25, 1 / 32


bank.equivalent(
    "choose_blur",
    "`while accuracy(sigma, keep) < enough:` becomes `while accuracy(sigma, keep) <= enough:`",
    "an accuracy that is exactly enough is rare, and either choice is right then",
)
