"""UnSplit: what it descends, where it begins, what it keeps, and what it does to real pictures."""

import pytest
import torch
from torch import nn

import splitlab as sl
from splitlab.attacks.unsplit import Attempt, Moment, brighter_sides, negatives, stretched
from splitlab.course import experiments
from splitlab.course.experiments import Inversion, TailLabels, correlations

QUICK = {"rounds": 2, "image_steps": 2, "clone_steps": 2}


def doubling(*, seed=0):
    """A client of one weight, 2: z is twice the image."""
    net = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.constant_(net.weight, 2.0)
    return net


def attack(architecture=sl.nets.tiny.shallow_client, *, kind=sl.UnSplit, size=16, **options):
    settings = {"image_shape": (1, size, size), "value_range": (-1.0, 1.0)} | QUICK | options
    return kind(nn.Linear(1, 1), architecture=architecture, **settings)


@pytest.fixture(scope="module")
def some_z():
    net = sl.nets.tiny.shallow_client(seed=5)
    with torch.no_grad():
        return net(torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(1)))


def still(**options):
    """An attack whose clone is the client itself and does not move, on images of 4x4."""
    priors = {"tv_weight": 0.0, "background_weight": 0.0} | options
    steps = {"rounds": 1, "image_steps": 250, "image_rate": 0.05, "clone_rate": 1e-9}
    return attack(doubling, size=4, **steps, **priors)


def test_a_linear_client_with_known_weights_is_inverted():
    x = torch.linspace(-0.9, 0.9, 16).view(1, 1, 4, 4)
    (found,) = still().search(2 * x)
    torch.testing.assert_close(found.images, x, atol=1e-3, rtol=0)
    assert found.error < 1e-5


def test_the_background_pulls_as_far_as_its_weight_says():
    """(2x - z)^2 + w (x - b)^2 is least at (2z + wb) / (4 + w)."""
    x = torch.linspace(-0.5, 0.9, 16).view(1, 1, 4, 4)
    (found,) = still(background_weight=1.0, background=0.0).search(2 * x)
    torch.testing.assert_close(found.images, (4 * x - 1) / 5, atol=1e-3, rtol=0)


def test_total_variation_smooths():
    x = torch.tensor([-0.5, 0.5]).repeat(8).view(1, 1, 4, 4)
    (rough,), (smooth,) = (still(tv_weight=weight).search(2 * x) for weight in (0.0, 5.0))
    assert smooth.images.std() < 0.8 * rough.images.std()


def test_the_clone_descends_while_the_images_are_held_still():
    """From the true images, with the images' rate next to nothing, the clone finds the weight."""

    def one(*, seed):
        net = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.constant_(net.weight, 0.5)
        return net

    slow = {"image_rate": 1e-9, "clone_rate": 0.05, "clone_steps": 200, "start": 0.75}
    server = attack(one, size=4, **slow | {"background_weight": 0.0})
    (found,) = server.search(torch.ones(2, 1, 4, 4))  # of images of 0.5, a weight of 2
    torch.testing.assert_close(found.clone.weight.view(()), torch.tensor(2.0), atol=1e-3, rtol=0)
    torch.testing.assert_close(found.images, torch.full((2, 1, 4, 4), 0.5), atol=1e-6, rtol=0)


def test_the_start_with_the_smallest_error_is_kept(some_z):
    def ended(error):
        images = torch.full((1, 1, 2, 2), error)
        return Attempt((Moment(1, images, images, error),), nn.Identity())

    attempts = [ended(0.3), ended(0.1), ended(0.2)]
    server = attack(starts=4)
    assert server.choose(attempts) is attempts[1]
    searched = server.search(some_z)
    best = min(searched, key=lambda attempt: attempt.error)
    message = sl.SmashedData(z=some_z, sender="client", step=0)
    assert torch.equal(server.reconstruct(message), best.images)
    assert len({attempt.error for attempt in searched}) == 4, "each has a clone of its own"


def test_every_batch_gets_fresh_clones_and_the_seed_decides(some_z):
    server = attack()
    (first,) = server.search(some_z)
    server.search(some_z.flip(0))
    (again,) = server.search(some_z)
    assert torch.equal(first.images, again.images) and first.error == again.error
    (other,) = attack(seed=1).search(some_z)
    assert not torch.equal(first.images, other.images)


def test_a_search_leaves_the_random_stream_and_z_alone(some_z):
    server = attack(starts=2)
    before, z = torch.get_rng_state(), some_z.clone()
    with torch.no_grad():  # as a referee may call it
        server.search(z)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(z, some_z)


def test_a_clone_does_not_begin_as_the_client_of_the_same_seed_does(some_z):
    begun = []

    def spy(*, seed):
        begun.append(sl.nets.tiny.shallow_client(seed=seed))
        begun[-1][0].register_parameter("first", nn.Parameter(begun[-1][0].weight.clone()))
        return begun[-1]

    server = attack(spy, starts=2, seed=0)
    begun.clear()  # one was made to see whether it takes the images
    server.search(some_z)
    true = sl.nets.tiny.shallow_client(seed=0)[0].weight
    firsts = [net[0].first for net in begun]
    assert not any(torch.equal(first, true) for first in firsts)
    assert not torch.equal(*firsts)


def test_moments_are_kept_as_often_as_asked_and_at_the_end(some_z):
    server = attack(rounds=5)
    (kept,) = server.search(some_z, every=2)
    assert [moment.round for moment in kept.moments] == [2, 4, 5]
    (end,) = server.search(some_z)
    assert [moment.round for moment in end.moments] == [5]
    assert torch.equal(kept.images, end.images), "looking changes nothing"
    assert kept.images.shape == (3, 1, 16, 16)
    assert kept.images.abs().max() <= 1
    torch.testing.assert_close(kept.moments[-1].z, kept.clone(kept.images))
    error = (kept.moments[-1].z - some_z).square().mean()
    torch.testing.assert_close(torch.tensor(kept.error), error)


def test_a_clone_is_left_as_a_network_to_use(some_z):
    (found,) = attack().search(some_z)
    assert not found.clone.training
    assert not any(p.requires_grad for p in found.clone.parameters())


def digit_like():
    x = -torch.ones(4, 1, 16, 16)
    x[..., 4:12, 6:10] = 1.0
    return x


def test_only_who_is_granted_the_sign_turns_negatives_round():
    x = digit_like()
    assert brighter_sides(-x) and not brighter_sides(x)
    plain, granted = attack(), attack(kind=sl.UnSplitBrightOnDark)
    assert torch.equal(granted.sign(-x), x) and torch.equal(granted.sign(x), x)
    assert torch.equal(plain.sign(-x), -x)
    assert sl.UnSplitBrightOnDark.threat.grants and not sl.UnSplit.threat.grants


def test_the_sign_is_one_for_all_images():
    x = torch.cat([digit_like(), -digit_like()[:1]])
    assert torch.equal(attack(kind=sl.UnSplitBrightOnDark).sign(x), x)


def test_a_network_of_negated_weights_makes_the_same_z_of_negatives():
    """Why z cannot tell. Exact where the padding, 0, is the middle of the range."""
    net, mirror = (sl.nets.tiny.shallow_client(seed=2) for _ in range(2))
    with torch.no_grad():
        mirror[0].weight.neg_()
        assert torch.equal(net(digit_like()), mirror(negatives(digit_like(), (-1.0, 1.0))))


def test_negatives_are_mirrored_at_the_middle_of_the_range():
    x = torch.tensor([0.0, 0.2, 1.0])
    torch.testing.assert_close(negatives(x, (0.0, 1.0)), torch.tensor([1.0, 0.8, 0.0]))


def test_stretched_pictures_use_the_whole_range_each():
    x = torch.tensor([[0.1, 0.2], [0.5, 0.4]]).view(2, 1, 1, 2).expand(2, 1, 2, 2)
    full = stretched(x, (-1.0, 1.0))
    torch.testing.assert_close(full[:, 0, 0], torch.tensor([[-1.0, 1.0], [1.0, -1.0]]))
    flat = stretched(torch.full((1, 1, 2, 2), 0.3), (-1.0, 1.0))
    assert torch.equal(flat, -torch.ones(1, 1, 2, 2))


def test_correlations_are_of_each_picture():
    x = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    pictures = torch.stack([2 * x[0] + 1, -x[1], torch.zeros(1, 4, 4)])
    found = correlations(pictures, x)
    torch.testing.assert_close(found, torch.tensor([1.0, -1.0, 0.0], dtype=torch.float64))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"rounds": 0}, "rounds is 0: choose a whole number of at least 1"),
        ({"starts": 0}, "starts is 0"),
        ({"image_steps": 0}, "image_steps is 0"),
        ({"clone_steps": -1}, "clone_steps is -1"),
        ({"start": -0.9}, "start is -0.9: choose a share of the range from 0 to 1"),
        ({"background": 1.5}, "background is 1.5"),
        ({"value_range": (1.0, -1.0)}, "value_range"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, why):
    with pytest.raises(ValueError, match=why):
        attack(**options)


def test_another_architecture_is_refused(some_z):
    with pytest.raises(ValueError, match=r"z of shape \(8, 8, 8\) and the architecture makes \(32"):
        attack(sl.nets.tiny.client).search(some_z)
    with pytest.raises(ValueError, match="every is 0"):
        attack().search(some_z, every=0)


@pytest.mark.parametrize(("name", "background"), [("digits", 0.0), ("drawn_faces", 0.25)])
def test_it_draws_private_images_behind_one_convolution(name, background):
    """Digits and faces, a quarter of the setting's length; correlation, up to its sign."""
    split = sl.tiny.split(name, 3)
    client = sl.Client(sl.nets.tiny.shallow_client(seed=3), split.private, **sl.tiny.client(seed=3))
    options = {"background": background, "seed": 3, "rounds": 10, "starts": 1}
    server = sl.UnSplit.at(sl.tiny, sl.nets.tiny.shallow_server(seed=3), **options)
    sl.train([client], server, 100)
    x = split.private.x[:10]
    (found,) = server.search(client.smash(x).z)
    fit = correlations(found.images, x)
    assert fit.mean().abs() >= 0.5
    assert len(fit.sign().unique()) == 1, "one clone, so all are negatives or none"
    pictures = found.images if fit.mean() > 0 else negatives(found.images, (-1.0, 1.0))
    assert sl.metrics.matched_by_correlation(pictures, x) >= 0.7


@pytest.fixture
def quick(monkeypatch):
    """A search of two rounds, and a referee whose classifiers know one answer."""

    def zeros(images):
        return torch.zeros(len(images), dtype=torch.int64)

    monkeypatch.setattr(sl.course.experiments.unsplit, "TINY", sl.attacks.unsplit.TINY | QUICK)
    monkeypatch.setattr(sl.referee.images, "two_classifiers", lambda referee, seed: (zeros, zeros))
    monkeypatch.setattr(sl.referee.images, "ORACLE_STEPS", 2)


@pytest.mark.parametrize("options", [{}, {"cut": 2, "norm": False}, {"cut": 1}])
def test_an_inversion_says_what_each_start_came_to(quick, options):
    row = Inversion("table", "kind", 5, 3, **options).row()
    assert len(row["errors"]) == len(row["correlations"]) == row["config"]["starts"] == 2
    assert row["errors"][row["chosen"]] == min(row["errors"])
    assert row["kept"] == row["correlations"][row["chosen"]]
    assert row["negatives"] == sum(fit < 0 for fit in row["correlations"])
    assert abs(row["signed"]) == pytest.approx(abs(row["kept"]))
    assert ("as_received" in row["rows"]) == (options.get("cut") == 1), "BatchNorm is in cut 1"
    floors = {name for name, figures in row["rows"].items() if figures["kind"] == "floor"}
    assert floors == {"class_mean_public", "mean_public", "nearest_public"}
    assert row["stretched"]["mse"] != row["rows"]["attack"]["mse"]
    assert row["n"] == 20
    assert 0 <= row["clone_accuracy"] <= 1 and 0 < row["majority"] < 0.2
    assert row["config"]["background"] == 0.0 and row["config"]["tv_weight"] > 0


def test_the_catalogue_has_cuts_from_shallow_to_deep():
    first, *deeper = [experiments.find("unsplit_tiny", name, 7) for name in experiments.CUTS]
    assert first.cut == 0
    assert {one.cut for one in deeper} == {0, 1, 2}
    assert {one.data for one in deeper} == {"digits", "drawn_faces"}
    for one in (first, *deeper):
        begun = [type(m) for m in one.client_net(seed=1).modules()]
        assert (nn.BatchNorm2d in begun) == one.config["norm"], one.run
        assert one.config["starts"] == first.config["starts"], "equal effort at all cuts"
    for name in experiments.SEARCHES:
        changed = experiments.find("unsplit_tiny", name, 7).config
        assert sum(changed[key] != first.config[key] for key in changed) == 1, name


def test_label_inference_is_scored_early_and_late():
    row = TailLabels("table", "kind", 5, 102, known=True).row()
    assert row["early"] == row["late"] == row["early_matched"] == row["late_matched"] == 1.0
    assert row["from_weights"] == 1.0
    assert row["config"]["protocol"] == "U-shaped"
