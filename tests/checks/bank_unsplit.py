"""Answers to the exercises of chapter 22: right ones, and what students may well write."""

import numpy as np
import torch
from bank import Bank
from torch.nn import functional as F

from splitlab.attacks.priors import total_variation
from splitlab.course.checks import unsplit

bank = Bank("22_unsplit", unsplit)


def mistakes(exercise, given):
    """Register short mistakes: (message, function) pairs."""
    for message, function in given:
        function.__name__ = message
        bank.mistake(exercise, message)(function)


# --- best_restart -----------------------------------------------------------------------------


@bank.also_right("best_restart")
def with_a_running_minimum(restarts, z):
    best, smallest = None, float("inf")
    for number, (images, surrogate) in enumerate(restarts):
        with torch.no_grad():
            error = F.mse_loss(surrogate(images), z).item()
        if error < smallest:
            best, smallest = number, error
    return best


@bank.also_right("best_restart")
def by_the_distance(restarts, z):
    return min(
        range(len(restarts)), key=lambda n: (restarts[n][1](restarts[n][0]) - z).norm().item()
    )


@bank.also_right("best_restart")
def by_numpy(restarts, z):
    features = np.stack([net(images).detach().numpy() for images, net in restarts])
    return ((features - z.numpy()) ** 2).mean(axis=(1, 2, 3, 4)).argmin()


@bank.also_right("best_restart")
def a_tensor_without_axes(restarts, z):
    return torch.stack([F.mse_loss(net(images), z) for images, net in restarts]).argmin()


def smallest(cost):
    """The restart that costs least: cost(images, features, z)."""

    def choose(restarts, z):
        costs = [float(cost(images, net(images).detach(), z)) for images, net in restarts]
        return costs.index(min(costs))

    return choose


def mse(images, features, z):
    return (features - z).square().mean()


def trains_on(restarts, z):
    for images, net in restarts:
        step = torch.optim.SGD(net.parameters(), lr=0.1)
        F.mse_loss(net(images), z).backward()
        step.step()
    return smallest(mse)(restarts, z)


def with_backward(restarts, z):
    for images, net in restarts:
        F.mse_loss(net(images), z).backward()
    return smallest(mse)(restarts, z)


def frozen(restarts, z):
    for _, net in restarts:
        net.requires_grad_(False)
    return smallest(mse)(restarts, z)


def sorts(restarts, z):
    restarts.sort(key=lambda pair: mse(None, pair[1](pair[0]), z).item())
    return 0


def clamps(restarts, z):
    for images, _ in restarts:
        images.clamp_(-0.5, 0.5)
    return smallest(mse)(restarts, z)


mistakes(
    "best_restart",
    [
        ("this is the last restart", lambda restarts, z: len(restarts) - 1),
        ("this is the first restart", lambda restarts, z: 0),
        ("with the largest error", smallest(lambda x, a, z: -mse(x, a, z))),
        ("counted from 1", lambda restarts, z: smallest(mse)(restarts, z) + 1),
        ("with the smoothest images", smallest(lambda x, a, z: total_variation(x).mean())),
        ("with the smallest features", smallest(lambda x, a, z: a.square().mean())),
        (
            "with the z of all images",
            smallest(
                lambda x, a, z: (a.flatten(1)[:, None] - z.flatten(1)[None]).square().sum(2).mean()
            ),
        ),
        ("the absolute error decides", smallest(lambda x, a, z: (a - z).abs().mean())),
        ("the largest single error", smallest(lambda x, a, z: (a - z).abs().max())),
        ("the errors are not squared", smallest(lambda x, a, z: (a - z).mean())),
        ("before they lose their sign", smallest(lambda x, a, z: (a - z).mean() ** 2)),
        (
            "the angle between",
            smallest(lambda x, a, z: -F.normalize(a.flatten(), dim=0) @ z.flatten()),
        ),
        ("only the first image", smallest(lambda x, a, z: mse(x, a[:1], z[:1]))),
        ("has shape", lambda restarts, z: mse(None, restarts[0][1](restarts[0][0]), z)[None]),
        ("return the restart's number", lambda restarts, z: restarts[smallest(mse)(restarts, z)]),
        ("not its error", lambda restarts, z: 0.004),
        ("not its error", lambda restarts, z: min(mse(None, n(x), z) for x, n in restarts)),
        ("the weights of a surrogate have changed", trains_on),
        ("the .grad of a surrogate's weights", with_backward),
        ("no longer require gradients", frozen),
        ("changes the list", sorts),
        ("changes images", clamps),
        ("changes z", lambda restarts, z: smallest(mse)(restarts, z.sub_(z.mean()))),
        ("not the restart whose features", smallest(lambda x, a, z: (a - z).square().median())),
    ],
)

bank.equivalent(
    "best_restart",
    "`errors.append((features - z).square().mean())` becomes "
    "`errors.append((features - z).square().sum())`",
    "all features have the shape of z, so the sums are in the order of the means",
)

# --- upright ----------------------------------------------------------------------------------


@bank.also_right("upright")
def with_a_mask(images):
    border = torch.zeros(16, 16, dtype=torch.bool)
    border[:, [0, 1, 14, 15]] = True
    center = torch.zeros(16, 16, dtype=torch.bool)
    center[4:12, 5:11] = True
    if images[..., border].mean() > images[..., center].mean():
        return images * -1
    return images.clone()


@bank.also_right("upright")
def with_plain_numbers(images):
    border = (images[..., :2].mean().item() + images[..., 14:].mean().item()) / 2
    center = images[:, :, 4:-4, 5:-5].sum().item() / (48 * images.shape[0] * images.shape[1])
    sign = -1 if border - center > 1e-12 else 1
    return sign * images


@bank.also_right("upright")
def with_where(images):
    border = images.unfold(3, 2, 14).mean()  # columns 0 and 1, 14 and 15
    return torch.where(border > images[..., 4:12, 5:11].mean(), -images, images)


def edge(x):
    return torch.cat([x[..., :2], x[..., -2:]], dim=-1)


def middle(x):
    return x[..., 4:12, 5:11]


def turning(is_negative, negative=torch.neg):
    return lambda images: negative(images) if is_negative(images) else images


def is_negative(x):
    return edge(x).mean() > middle(x).mean()


def frame(x):
    return x.sum((2, 3)).mean() - x[..., 2:-2, 2:-2].sum((2, 3)).mean()


def rescaled(x):
    low = x.amin((1, 2, 3), keepdim=True)
    span = (x.amax((1, 2, 3), keepdim=True) - low).clamp(min=1e-9)
    return turning(is_negative)((x - low) / span * 2 - 1)


def each_by_itself(images):
    sign = 1 - 2 * (edge(images).mean((1, 2, 3)) > middle(images).mean((1, 2, 3))).double()
    return images * sign[:, None, None, None]


mistakes(
    "upright",
    [
        ("each image is judged by itself", each_by_itself),
        ("no image is ever negated", lambda x: x.clone()),
        ("every batch is negated", lambda x: -x),
        ("turned the wrong way", turning(lambda x: middle(x).mean() > edge(x).mean())),
        ("are equally bright", turning(lambda x: edge(x).mean() >= middle(x).mean())),
        ("that is for pixels from 0 to 1", turning(is_negative, lambda x: 1 - x)),
        ("a mirror image", turning(is_negative, lambda x: x.flip(-1))),
        ("the absolute value", turning(is_negative, torch.abs)),
        ("rescaled as well", rescaled),
        ("sums are compared", turning(lambda x: edge(x).sum() > middle(x).sum())),
        ("only one column", turning(lambda x: x[..., ::15].mean() > middle(x).mean())),
        ("only the left", turning(lambda x: x[..., :2].mean() > middle(x).mean())),
        ("only the right", turning(lambda x: x[..., -2:].mean() > middle(x).mean())),
        ("rows here", turning(lambda x: edge(x.mT).mean() > middle(x).mean())),
        ("the whole frame", turning(lambda x: frame(x) / 112 > middle(x).mean())),
        ("6 rows by 8 columns", turning(lambda x: edge(x).mean() > middle(x.mT).mean())),
        ("with the whole image", turning(lambda x: edge(x).mean() > x.mean())),
        ("with the whole image", turning(lambda x: edge(x).mean() > x[..., 2:-2].mean())),
        ("the mean brightness decides", turning(lambda x: x.mean() > 0)),
        ("the border's brightness alone", turning(lambda x: edge(x).mean() > 0)),
        ("changes images", lambda x: x.neg_() if is_negative(x) else x),
        ("should be a tensor", lambda x: bool(is_negative(x))),
        ("has shape", lambda x: turning(is_negative)(x)[:1]),
        (
            "what upright returns requires",
            lambda x: turning(is_negative)(x).clone().requires_grad_(),
        ),
        ("these are not the images", turning(lambda x: edge(x).median() > middle(x).median())),
    ],
)

# --- take_turns -------------------------------------------------------------------------------


@bank.also_right("take_turns")
def with_gradients_asked_for(images, surrogate, z, image_step, surrogate_step, steps, weight):
    for optimizer, moving in ((image_step, [images]), (surrogate_step, [*surrogate.parameters()])):
        for _ in range(steps):
            loss = F.mse_loss(surrogate(images), z)
            if optimizer is image_step:
                loss = loss + weight * total_variation(images).mean()
            for tensor, gradient in zip(moving, torch.autograd.grad(loss, moving), strict=True):
                tensor.grad = gradient
            optimizer.step()


@bank.also_right("take_turns")
def with_the_other_frozen(images, surrogate, z, image_step, surrogate_step, steps, weight):
    surrogate.requires_grad_(False)
    for _ in range(steps):
        down = (images[:, :, 1:] - images[:, :, :-1]).square().mean()
        across = (images[:, :, :, 1:] - images[:, :, :, :-1]).square().mean()
        image_step.zero_grad(set_to_none=False)
        (F.mse_loss(surrogate(images), z) + weight * (down + across)).backward()
        image_step.step()
    surrogate.requires_grad_(True)
    images.requires_grad_(False)
    for _ in range(steps):
        surrogate_step.zero_grad()
        F.mse_loss(surrogate(images), z).backward()
        surrogate_step.step()
    images.requires_grad_(True)


@bank.also_right("take_turns")
def with_the_prior_in_both_losses(images, surrogate, z, image_step, surrogate_step, steps, weight):
    """Total variation has no gradient in the surrogate's weights, so this is no mistake."""
    for optimizer in (image_step, surrogate_step):
        for _ in range(steps):
            image_step.zero_grad()
            surrogate_step.zero_grad()
            loss = F.mse_loss(surrogate(images), z) + weight * total_variation(images).mean()
            loss.backward()
            optimizer.step()
    image_step.zero_grad()
    surrogate_step.zero_grad()


class Round:
    """One round in parts, each of which a mistake overrides."""

    def __call__(self, images, surrogate, z, image_step, surrogate_step, steps, weight):
        self.images, self.surrogate, self.z = images, surrogate, z
        self.image_step, self.surrogate_step = image_step, surrogate_step
        self.steps, self.weight = steps, weight
        self.play()

    def play(self):
        for _ in range(self.image_steps()):
            self.move_images()
        for _ in range(self.surrogate_steps()):
            self.move_surrogate()

    def image_steps(self):
        return self.steps

    def surrogate_steps(self):
        return self.steps

    def error(self, images):
        return F.mse_loss(self.surrogate(images), self.z)

    def prior(self):
        return self.weight * total_variation(self.images).mean()

    def image_loss(self):
        return self.error(self.images) + self.prior()

    def surrogate_loss(self):
        return self.error(self.images.detach())

    def move_images(self):
        self.image_step.zero_grad()
        self.image_loss().backward()
        self.image_step.step()

    def move_surrogate(self):
        self.surrogate_step.zero_grad()
        self.surrogate_loss().backward()
        self.surrogate_step.step()

    def move_both(self, loss):
        self.image_step.zero_grad()
        self.surrogate_step.zero_grad()
        loss.backward()
        self.image_step.step()
        self.surrogate_step.step()


@bank.mistaken_class("take_turns", "both move at once")
class AtOnce(Round):
    def play(self):
        for _ in range(self.steps):
            self.move_both(self.image_loss())


@bank.mistaken_class("take_turns", "the surrogate moves in the images' half, too")
class SurrogateDrifts(Round):
    def move_images(self):
        self.move_both(self.image_loss())


@bank.mistaken_class("take_turns", "the images move in the surrogate's half, too")
class ImagesDrift(Round):
    def move_surrogate(self):
        self.move_both(self.error(self.images))


@bank.mistaken_class("take_turns", "both move in both halves")
class AllDrift(ImagesDrift, SurrogateDrifts):
    pass


@bank.mistaken_class("take_turns", "after every step")
class StepByStep(Round):
    def play(self):
        for _ in range(self.steps):
            self.move_images()
            self.move_surrogate()


@bank.mistaken_class("take_turns", "the surrogate's half comes first")
class Swapped(Round):
    def play(self):
        for _ in range(self.steps):
            self.move_surrogate()
        for _ in range(self.steps):
            self.move_images()


@bank.mistaken_class("take_turns", "the images have not moved")
class NoImageStep(Round):
    def move_images(self):
        self.image_loss().backward()


@bank.mistaken_class("take_turns", "the images have not moved")
class CopyMoves(Round):
    """An optimizer steps on the tensor that it was made with, and on no copy of it."""

    def move_images(self):
        self.image_step.zero_grad()
        self.images = self.images.detach().clone().requires_grad_()
        self.image_loss().backward()
        self.image_step.step()

    def surrogate_loss(self):
        return self.error(self.images.detach())


@bank.mistaken_class("take_turns", "the surrogate has not moved")
class NoSurrogateStep(Round):
    def move_surrogate(self):
        self.surrogate_loss().backward()


@bank.mistaken_class("take_turns", "neither images nor surrogate have moved")
class NothingMoves(Round):
    def play(self):
        (self.image_loss() + self.surrogate_loss()).backward()


@bank.mistaken_class("take_turns", "by the prior alone")
class DetachedTooSoon(Round):
    def image_loss(self):
        return self.error(self.images.detach()) + self.prior()


@bank.mistaken_class("take_turns", "the total variation is missing")
class NoPrior(Round):
    def prior(self):
        return 0


@bank.mistaken_class("take_turns", "the total variation is not weighted")
class NoWeight(Round):
    def prior(self):
        return total_variation(self.images).mean()


@bank.mistaken_class("take_turns", "the total variation has the wrong sign")
class Rough(Round):
    def image_loss(self):
        return self.error(self.images) - self.prior()


@bank.mistaken_class("take_turns", "the total variation is summed")
class PriorSummed(Round):
    def prior(self):
        return self.weight * total_variation(self.images).sum()


@bank.mistaken_class("take_turns", "the weight multiplies the feature error")
class WeightMisplaced(Round):
    def image_loss(self):
        return self.weight * self.error(self.images) + total_variation(self.images).mean()


@bank.mistaken_class("take_turns", "both climb the feature error")
class Climbing(Round):
    def error(self, images):
        return -F.mse_loss(self.surrogate(images), self.z)


@bank.mistaken_class("take_turns", "the images climb")
class ImagesClimb(Round):
    def image_loss(self):
        return self.prior() - self.error(self.images)


@bank.mistaken_class("take_turns", "the surrogate climbs")
class SurrogateClimbs(Round):
    def surrogate_loss(self):
        return -self.error(self.images.detach())


@bank.mistaken_class("take_turns", "adds z to the features")
class PlusZ(Round):
    def image_loss(self):
        return (self.surrogate(self.images) + self.z).square().mean() + self.prior()


@bank.mistaken_class("take_turns", "in the images' half the feature error is a sum")
class ImageSum(Round):
    def image_loss(self):
        return (self.surrogate(self.images) - self.z).square().sum() + self.prior()


@bank.mistaken_class("take_turns", "in the surrogate's half the feature error is a sum")
class SurrogateSum(Round):
    def surrogate_loss(self):
        return (self.surrogate(self.images.detach()) - self.z).square().sum()


@bank.mistaken_class("take_turns", "in both halves the feature error is a sum: ")
class Sums(Round):
    def error(self, images):
        return F.mse_loss(self.surrogate(images), self.z, reduction="sum")


@bank.mistaken_class("take_turns", "over the numbers of an image")
class SumsPerImage(Round):
    def error(self, images):
        return (self.surrogate(images) - self.z).square().flatten(1).sum(1).mean()


@bank.mistaken_class("take_turns", "as they were before the round")
class OldImages(Round):
    def play(self):
        self.old = self.images.detach().clone()
        super().play()

    def surrogate_loss(self):
        return self.error(self.old)


@bank.mistaken_class("take_turns", "one step, whatever steps says")
class OneStep(Round):
    def image_steps(self):
        return 1

    surrogate_steps = image_steps


@bank.mistaken_class("take_turns", "the images take one step more")
class OneMore(Round):
    def image_steps(self):
        return self.steps + 1


@bank.mistaken_class("take_turns", "the surrogate takes one step fewer")
class OneFewer(Round):
    def surrogate_steps(self):
        return self.steps - 1


@bank.mistaken_class("take_turns", "the images' old gradients")
class StaleImages(Round):
    def move_images(self):
        self.image_loss().backward()
        self.image_step.step()


@bank.mistaken_class("take_turns", "the surrogate's old gradients")
class StaleSurrogate(Round):
    def move_surrogate(self):
        self.surrogate_loss().backward()
        self.surrogate_step.step()


@bank.mistaken_class("take_turns", "the surrogate's old gradients")
class StaleSurrogateWithoutDetach(StaleSurrogate):
    def surrogate_loss(self):
        return self.error(self.images)


@bank.mistaken_class("take_turns", "in both halves: call zero_grad")
class StaleBoth(StaleImages, StaleSurrogate):
    pass


@bank.mistaken_class("take_turns", "cleared after the step")
class ClearedLate(Round):
    def move_images(self):
        self.image_loss().backward()
        self.image_step.step()
        self.image_step.zero_grad()

    def move_surrogate(self):
        self.surrogate_loss().backward()
        self.surrogate_step.step()
        self.surrogate_step.zero_grad()


@bank.mistaken_class("take_turns", "the images' .grad is left")
class LeavesGradients(Round):
    def surrogate_loss(self):
        return self.error(self.images)


@bank.mistaken_class("take_turns", "with plain SGD")
class OwnStep(Round):
    def move_images(self):
        self.image_step.zero_grad()
        self.image_loss().backward()
        with torch.no_grad():
            self.images -= 0.1 * self.images.grad


@bank.mistaken_class("take_turns", "changes z")
class ChangesTarget(Round):
    def play(self):
        super().play()
        self.z.sub_(self.z.mean())


@bank.mistaken_class("take_turns", "z itself now requires a gradient")
class TargetLearns(Round):
    def error(self, images):
        return F.mse_loss(self.surrogate(images), self.z.requires_grad_())


@bank.mistaken_class("take_turns", "the images no longer require")
class ImagesFrozen(Round):
    def move_surrogate(self):
        self.images.requires_grad_(False)
        super().move_surrogate()


@bank.mistaken_class("take_turns", "the surrogate's weights no longer require")
class SurrogateFrozen(Round):
    def play(self):
        super().play()
        self.surrogate.requires_grad_(False)


@bank.mistaken_class("take_turns", "does not require grad")
class UnderNoGrad(Round):
    def image_loss(self):
        with torch.no_grad():
            return super().image_loss()


@bank.mistaken_class("take_turns", "no longer finite")
class Diverges(Round):
    def image_loss(self):
        return super().image_loss() / 0


@bank.mistaken_class("take_turns", "are not where one round takes them")
class Absolute(Round):
    def error(self, images):
        return (self.surrogate(images) - self.z).abs().mean()


# --- steal ------------------------------------------------------------------------------------


def searched(budget, images, net, z, step):
    """Let `step(error)` move what it moves until the budget is used up."""
    while budget.left >= 2:
        step((net(images) - z).square().mean())
    return images.detach()


def at_once(images, net):
    adam = torch.optim.Adam(
        [{"params": [images], "lr": 0.2}, {"params": net.parameters(), "lr": 0.1}]
    )

    def step(error):
        adam.zero_grad()
        (error + 0.1 * total_variation(images).mean()).backward()
        adam.step()

    return step


def dark(z):
    return torch.full((len(z), 1, 16, 16), -0.9).requires_grad_()


@bank.also_right("steal")
def with_one_optimizer(z, make_surrogate, budget):
    images, net = dark(z), make_surrogate()
    return searched(budget, images, net, z, at_once(images, net))


@bank.also_right("steal")
def one_channel(z, make_surrogate, budget):
    return F.interpolate(z[:, [z.var((0, 2, 3)).argmax()]], size=(16, 16))


@bank.also_right("steal")
def from_a_channel(z, make_surrogate, budget):
    channel = one_channel(z, make_surrogate, budget)
    images = (2 * channel / channel.max() - 1).requires_grad_()
    net = make_surrogate()
    return searched(budget, images, net, z, at_once(images, net))


@bank.also_right("steal")
def negatives(z, make_surrogate, budget):
    return -with_one_optimizer(z, make_surrogate, budget)


@bank.also_right("steal")
def halves(z, make_surrogate, budget):
    images, net = dark(z), make_surrogate()
    step = at_once(images, net)
    while budget.left >= 2:
        for rows in (slice(10), slice(10, None)):
            step((net(images[rows]) - z[rows]).square().mean())
    return images.detach()


def too_long(z, make_surrogate, budget):
    images, net = dark(z), make_surrogate()
    step = at_once(images, net)
    for _ in range(100):
        step((net(images) - z).square().mean())
    return images


def looks_once_more(z, make_surrogate, budget):
    images, net = dark(z), make_surrogate()
    searched(budget, images, net, z, at_once(images, net))
    print("feature error", (net(images) - z).square().mean())
    return images


def diverges(z, make_surrogate, budget):
    images, net = dark(z), make_surrogate()
    both = torch.optim.SGD([images, *net.parameters()], lr=1e6)

    def step(error):
        both.zero_grad()
        error.backward()
        both.step()

    return searched(budget, images, net, z, step)


def moves_no_images(z, make_surrogate, budget):
    images, net = dark(z), make_surrogate()
    adam = torch.optim.Adam(net.parameters(), 0.1)

    def step(error):
        adam.zero_grad()
        error.backward()
        adam.step()

    return searched(budget, images, net, z, step)


def with_its_graph(z, make_surrogate, budget):
    images, net = dark(z), make_surrogate()
    searched(budget, images, net, z, at_once(images, net))
    return images


def noise(z, make_surrogate, budget):
    return torch.randn(len(z), 1, 16, 16, generator=torch.Generator().manual_seed(0))


def target_requires_grad(z, make_surrogate, budget):
    z.requires_grad_()
    return with_one_optimizer(z, make_surrogate, budget)


def rescales_z(z, make_surrogate, budget):
    z /= z.std()
    return with_one_optimizer(z, make_surrogate, budget)


mistakes(
    "steal",
    [
        ("more than its budget", too_long),
        ("more than its budget", looks_once_more),
        ("should be a tensor", lambda z, make, budget: (one_channel(z, make, budget), make())),
        ("has shape", lambda z, make, budget: one_channel(z, make, budget)[:, 0]),
        ("has shape", lambda z, make, budget: z),
        ("is not finite", diverges),
        ("one value throughout", moves_no_images),
        ("is no nearer", noise),
        ("what steal returns requires", with_its_graph),
        ("changes z", rescales_z),
        ("z itself now requires", target_requires_grad),
        ("stopped with", lambda z, make, budget: make(z)),
    ],
)

bank.equivalent(
    "steal",
    "`while budget.left >= 2:` becomes `while budget.left >= 1:`",
    "every step takes two passes of an even number, so one pass is never left",
)
