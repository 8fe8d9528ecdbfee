"""Right and wrong answers to the exercises of chapter 51."""

import copy
import math

import torch
from bank import Bank

from splitlab.course.checks import no_peek
from splitlab.course.checks.no_peek.defended_runs import explained_by_each
from splitlab.defenses import distance_correlation as by_the_library

bank = Bank("51_no_peek", no_peek)

# 1. double_centered


@bank.also_right("double_centered")
def with_a_projection(distances):
    n = len(distances)
    middle = torch.eye(n, dtype=distances.dtype) - 1 / n
    return middle @ distances @ middle


@bank.also_right("double_centered")
def one_axis_after_the_other(distances):
    centered = distances - distances.mean(0)
    return centered - centered.mean(1, keepdim=True)


@bank.mistake("double_centered", "should be a tensor")
def as_numbers(distances):
    return with_a_projection(distances).tolist()


@bank.mistake("double_centered", "distances has changed: leave it as it was")
def in_place(distances):
    centered = with_a_projection(distances)
    with torch.no_grad():
        distances.copy_(centered)
    return centered.clone()


@bank.mistake("double_centered", "has no graph")
def without_a_graph(distances):
    return with_a_projection(distances.detach())


@bank.mistake("double_centered", "these are not the double-centered distances")
def of_medians(distances):
    columns = distances.median(0, keepdim=True).values
    return distances - columns - columns.T + distances.median()


# 2. distance_correlation


@bank.also_right("distance_correlation")
def with_inner_products_of_the_centered(x, z):
    a, b = (
        with_a_projection(torch.cdist(rows.flatten(1), rows.flatten(1))).flatten()
        for rows in (x, z)
    )
    return ((a @ b) / (a.norm() * b.norm())).sqrt()


bank.also_right("distance_correlation")(by_the_library)


def roots(squares):
    """The roots, with slope 0 at 0."""
    positive = squares > 0
    return squares.where(positive, torch.ones_like(squares)).sqrt() * positive


@bank.also_right("distance_correlation")
def in_loops(x, z):
    def centered(sample):
        rows = sample.reshape(len(sample), -1)
        squares = [[(a - b).square().sum() for a in rows] for b in rows]
        return with_a_projection(roots(torch.stack([torch.stack(line) for line in squares])))

    a, b = centered(x), centered(z)
    return torch.sqrt((a * b).sum() / torch.sqrt((a * a).sum() * (b * b).sum()))


@bank.mistake("distance_correlation", "has no graph")
def of_a_detached_z(x, z):
    return by_the_library(x, z.detach())


@bank.mistake("distance_correlation", "has no graph")
def as_a_number(x, z):
    return by_the_library(x, z).item()


@bank.mistake("distance_correlation", "the right value and the wrong gradient")
def with_half_of_z_detached(x, z):
    return by_the_library(x, (z + z.detach()) / 2)


@bank.mistake("distance_correlation", "return one number")
def number_by_number(x, z):
    return by_the_library(x, z).expand(3)


@bank.mistake("distance_correlation", "the distance correlation is not right")
def of_the_images_alone(x, z):
    return by_the_library(x, x) + 0 * z.sum()


@bank.mistake("distance_correlation", "the distance correlation is not right")
def of_the_largest_differences(x, z):
    a, b = (
        with_a_projection(torch.cdist(rows.flatten(1), rows.flatten(1), p=math.inf))
        for rows in (x, z)
    )
    return ((a * b).sum() / (a.norm() * b.norm())).sqrt()


@bank.mistake("distance_correlation", "distance_correlation stopped with")
def without_flattening(x, z):
    return (torch.cdist(x, x) * torch.cdist(z, z)).mean().sqrt()


for axis in (1, -1):
    bank.equivalent(
        "distance_correlation",
        "`return d - d.mean(1, keepdim=True) - d.mean(0) + d.mean()` becomes "
        f"`return d - d.mean(1, keepdim=True) - d.mean({axis}) + d.mean()`",
        "distances are symmetric, so the means of the rows are those of the columns",
    )

# 3. permuted_value


@bank.also_right("permuted_value")
def in_a_sum_of_numbers(statistic, x, z, orders):
    return sum(float(statistic(x, z[order])) for order in orders.tolist()) / len(orders)


@bank.also_right("permuted_value")
def with_index_select(statistic, x, z, orders):
    mean = 0.0
    for number, order in enumerate(orders, 1):
        mean += (statistic(x, z.index_select(0, order)) - mean) / number
    return mean


@bank.mistake("permuted_value", "return one number")
def for_each_order(statistic, x, z, orders):
    return torch.stack([statistic(x, z[order]) for order in orders])


@bank.mistake("permuted_value", "draws random numbers")
def with_a_look_at_other_orders(statistic, x, z, orders):
    torch.randperm(len(z))
    return in_a_sum_of_numbers(statistic, x, z, orders)


@bank.mistake("permuted_value", "the mean is not right")
def with_other_orders(statistic, x, z, orders):
    return in_a_sum_of_numbers(statistic, x, z, orders.flip(1))


@bank.mistake("permuted_value", "z has changed: leave it as it was")
def into_the_given_z(statistic, x, z, orders):
    mean = in_a_sum_of_numbers(statistic, x, z, orders)
    z.copy_(z[orders[-1]] + 1)
    return mean


# 4. outbidding_factor


@bank.also_right("outbidding_factor")
def on_a_copy(net, x, dz, statistic, alpha, ratio):
    own = copy.deepcopy(net)

    def length(backward):
        own.zero_grad()
        backward()
        return math.sqrt(sum(weight.grad.square().sum().item() for weight in own.parameters()))

    server = length(lambda: own(x).backward(dz))
    return ratio * alpha / server * length(lambda: statistic(x, own(x)).backward())


@bank.also_right("outbidding_factor")
def through_z(net, x, dz, statistic, alpha, ratio):
    z = net(x)
    leaf = z.detach().clone().requires_grad_()
    (pull,) = torch.autograd.grad(alpha * statistic(x, leaf), leaf)
    lengths = []
    for gradient in (pull, dz):
        parts = torch.autograd.grad(z, tuple(net.parameters()), gradient, retain_graph=True)
        lengths.append(torch.stack([part.norm() for part in parts]).norm())
    return ratio * lengths[0] / lengths[1]


@bank.mistake("outbidding_factor", "the .grad of net has changed")
def with_backward(net, x, dz, statistic, alpha, ratio):
    lengths = []
    for what, gradient in ((net(x), dz), (alpha * statistic(x, net(x)), None)):
        net.zero_grad()
        what.backward(gradient)
        lengths.append(torch.cat([weight.grad.flatten() for weight in net.parameters()]).norm())
    return ratio * lengths[1] / lengths[0]


@bank.mistake("outbidding_factor", "net is left in evaluation mode")
def in_evaluation_mode(net, x, dz, statistic, alpha, ratio):
    return through_z(net.eval(), x, dz, statistic, alpha, ratio)


@bank.mistake("outbidding_factor", "net is left in training mode")
def in_training_mode(net, x, dz, statistic, alpha, ratio):
    factor = through_z(net, x, dz, statistic, alpha, ratio)
    net.train()
    return factor


@bank.mistake("outbidding_factor", "dz has changed")
def lengthens_what_it_was_given(net, x, dz, statistic, alpha, ratio):
    factor = through_z(net, x, dz, statistic, alpha, ratio)
    dz *= factor
    return factor


@bank.mistake("outbidding_factor", "return one number")
def layer_by_layer(net, x, dz, statistic, alpha, ratio):
    weights = list(net.parameters())
    z = net(x)
    server = torch.autograd.grad(z, weights, dz, retain_graph=True)
    defense = torch.autograd.grad(alpha * statistic(x, z), weights)
    return ratio * torch.stack([d.norm() / s.norm() for d, s in zip(defense, server, strict=True)])


@bank.mistake("outbidding_factor", "the factor is not right")
def of_the_images_in_another_order(net, x, dz, statistic, alpha, ratio):
    return through_z(net, x.flip(0) + 1, dz, statistic, alpha, ratio)


@bank.mistake("outbidding_factor", "the factor is not right")
def of_the_largest_entries(net, x, dz, statistic, alpha, ratio):
    weights = list(net.parameters())
    z = net(x)
    server = torch.autograd.grad(z, weights, dz, retain_graph=True)
    defense = torch.autograd.grad(alpha * statistic(x, z), weights)
    largest = [max(part.abs().max() for part in parts) for parts in (defense, server)]
    return ratio * largest[0] / largest[1]


# 5. choose_defense


@bank.also_right("choose_defense")
def from_a_list_of_weights(accuracy, most):
    before = accuracy(0.0, math.inf)
    kept = [alpha for alpha in (4, 2) if before - accuracy(alpha=alpha, clip=0.01) <= most]
    return [torch.tensor(float(kept[0])), 0.01]


@bank.also_right("choose_defense")
def without_a_training(accuracy, most):
    return 2, 0.01


@bank.mistake("choose_defense", "the accuracy falls from 0.9")
def as_strong_as_it_gets(accuracy, most):
    return 32.0, 0.01


@bank.mistake("choose_defense", "more than 8 times")
def trains_and_trains(accuracy, most):
    return max(accuracy() for _ in range(9)), 0.01


@bank.mistake("choose_defense", "more than 8 times")
def hides_the_refusal(accuracy, most):
    try:
        trains_and_trains(accuracy, most)
    except AssertionError:
        return 2, 0.01


@bank.mistake("choose_defense", "return two numbers")
def without_a_clip(accuracy, most):
    return 2.0


@bank.mistake("choose_defense", "alpha is -2")
def pulls_the_other_way(accuracy, most):
    return -2.0, 0.01


@bank.mistake("choose_defense", "clip is 0")
def lets_nothing_in(accuracy, most):
    return 2.0, 0.0


@bank.mistake("choose_defense", "alpha should be a number")
def in_words(accuracy, most):
    return "two", 0.01


@bank.mistake("choose_defense", "choose_defense stopped with ValueError: alpha is -1")
def asks_for_a_negative_weight(accuracy, most):
    return accuracy(-1.0, 0.01), 0.01


@bank.mistake("choose_defense", "a part of its own check")
def asks_the_attackers(accuracy, most):
    explained_by_each(2.0, 0.01)
    return 2.0, 0.01


bank.equivalent(
    "choose_defense",
    "`while accuracy(alpha, clip) < enough:` becomes `while accuracy(alpha, clip) <= enough:`",
    "an accuracy that is exactly enough is rare, and either choice is right then",
)
