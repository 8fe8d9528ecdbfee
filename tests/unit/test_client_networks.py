"""Other clients, images by chance, what a server could compute, and the rows of `why_tiny`."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

import splitlab as sl
from splitlab.course import experiments
from splitlab.course.experiments import client_networks
from splitlab.course.experiments import success_signals as seen
from splitlab.data.gaussian import gaussian_like, white_noise
from splitlab.nets import Shuffle, tiny
from splitlab.nets.blocks import Patches, Unpatch

pytestmark = pytest.mark.usefixtures("short_referee")


def images(*values):
    """Images of one pixel."""
    return torch.tensor(values).view(-1, 1, 1, 1)


# Networks


def test_a_shuffle_moves_the_pixels_of_all_images_alike_and_loses_none():
    x = torch.arange(32.0).view(2, 1, 4, 4)
    shuffle = Shuffle(4, seed=3)
    one, other = shuffle(x).flatten(1)
    assert torch.equal(one.sort().values, x[0].flatten())
    assert torch.equal(one, x[0].flatten()[shuffle.order])
    assert torch.equal(other, one + 16)
    assert not torch.equal(one, x[0].flatten())


def test_a_shuffles_order_is_its_seeds_and_travels_with_the_state():
    one, same, other = (Shuffle(16, seed=s) for s in (1, 1, 2))
    assert torch.equal(one.order, same.order)
    assert not torch.equal(one.order, other.order)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.order, other.order)
    assert not list(one.parameters())


def test_a_shuffle_refuses_images_of_another_size():
    with pytest.raises(ValueError, match="has 256 pixels and the images have 64"):
        Shuffle(16)(torch.zeros(1, 1, 8, 8))


def test_a_shuffled_client_is_the_client_behind_a_shuffle():
    x = torch.randn(3, 1, 16, 16)
    net = tiny.shuffled_client(seed=5).eval()
    expected = tiny.client(seed=5).eval()(Shuffle(16, seed=5)(x))
    assert torch.equal(net(x), expected)


def test_patches_are_laid_out_place_after_place_and_back():
    x = torch.arange(64.0).view(1, 1, 8, 8)
    pixels = Patches(4)(x)
    assert pixels.shape == (1, 64, 1)
    assert torch.equal(pixels[0, 16:32, 0], x[0, 0, :4, 4:].flatten())
    z = Unpatch(2)(pixels)
    assert z.shape == (1, 16, 2, 2)
    assert torch.equal(z[0, :, 0, 1], pixels[0, 16:32, 0])
    assert torch.equal(z[0, :, 1, 0], pixels[0, 32:48, 0])


@pytest.mark.parametrize("name", client_networks.CLIENTS)
def test_every_client_sends_z_of_the_same_shape_and_is_its_seeds(name):
    make = client_networks.CLIENTS[name]
    x = torch.randn(2, 1, 16, 16)
    one, same, other = (make(seed=s).eval()(x) for s in (1, 1, 2))
    assert one.shape == (2, *tiny.Z_SHAPE[2])
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_the_number_of_weights_is_one_thing_and_sharing_them_another():
    sizes = {
        name: sum(weight.numel() for weight in make().parameters())
        for name, make in client_networks.CLIENTS.items()
    }
    assert sizes["patches, many units"] == pytest.approx(sizes["dense"], rel=1e-3)
    assert sizes["patches, own weights"] == pytest.approx(sizes["convolutional"], rel=0.05)


@pytest.mark.parametrize("shared", [True, False])
def test_a_patch_client_looks_at_one_patch_for_each_place(shared):
    net = tiny.patch_client(shared=shared, seed=1).eval()
    x = torch.randn(1, 1, 16, 16)
    touched = x.clone()
    touched[:, :, 4:8, 8:12] += 1  # the place in row 1, column 2
    changed = (net(touched) != net(x)).any(1)[0]
    assert changed.nonzero().tolist() == [[1, 2]]


def test_only_shared_weights_do_the_same_at_every_place():
    x = torch.randn(1, 1, 4, 4).repeat(1, 1, 4, 4)
    z = tiny.patch_client(seed=1).eval()(x)
    assert torch.allclose(z, z[:, :, :1, :1].expand_as(z), atol=1e-6)
    own = tiny.patch_client(shared=False, seed=1).eval()(x)
    assert (own[:, :, 0, 0] - own[:, :, 3, 3]).abs().max() > 0.01


def test_a_dense_client_can_start_as_patches_and_is_free_to_leave_them():
    x = torch.randn(8, 1, 16, 16)
    net = tiny.dense_client(as_patches=True, seed=4)
    expected = tiny.patch_client(seed=4).eval()(x)
    torch.testing.assert_close(net.eval()(x), expected)
    between = net[2].weight == 0
    assert between.float().mean() == 15 / 16
    net.train()(x).square().sum().backward()
    assert (net[2].weight.grad[between] != 0).float().mean() > 0.9


# Images by chance


def test_gaussian_images_have_the_mean_and_the_covariance_of_the_others():
    digits = sl.data.digits(size=8)
    drawn = gaussian_like(digits, 20_000, seed=1).x.flatten(1)
    real = digits.x.flatten(1)
    assert (drawn.mean(0) - real.mean(0)).abs().max() < 0.03
    assert (drawn.T.cov() - real.T.cov()).abs().max() < 0.03
    assert real.T.cov().max() > 0.5


def test_gaussian_images_are_normal_and_the_digits_are_not():
    digits = sl.data.digits(size=8)
    wide = digits.x.flatten(1).std(0) > 0.3

    def off(x):
        """How far the fourth moments of single pixels are from a normal distribution's 3."""
        rows = x.flatten(1).double()[:, wide]
        return (((rows - rows.mean(0)) / rows.std(0)).pow(4).mean(0) - 3).abs().mean()

    assert off(gaussian_like(digits, 20_000).x) < 0.1
    assert off(digits.x) > 0.5


def test_white_noise_knows_no_neighbours():
    x = white_noise(20_000, size=4, seed=2).x.flatten(1)
    assert torch.allclose(x.T.cov(), torch.eye(16), atol=0.05)
    assert x.mean(0).abs().max() < 0.03


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: gaussian_like(sl.data.digits(), 50, seed=seed),
        lambda s: white_noise(50, seed=s),
    ],
    ids=["gaussian", "white"],
)
def test_images_by_chance_are_their_seeds_have_no_classes_and_hold_their_range(make):
    one, same, other = make(1), make(1), make(2)
    assert torch.equal(one.x, same.x)
    assert not torch.equal(one.x, other.x)
    assert one.classes == ("not known",)
    assert one.shape == (1, 16, 16)
    assert one.x.abs().max() <= one.value_range[1]
    private, public, _ = one.split(0)
    assert not private.row_hashes() & public.row_hashes()


def test_images_by_chance_refuse_what_they_cannot_draw():
    colour = sl.data.drawn_faces(n=4, size=16, channels=3)
    for wrong in (colour, sl.data.digits().select([0])):
        with pytest.raises(sl.DataError, match="at least two gray images"):
            gaussian_like(wrong)
    for draw in (lambda: gaussian_like(sl.data.digits(), 0), lambda: white_noise(0)):
        with pytest.raises(sl.DataError, match="n is the number of images"):
            draw()


# What the server could compute


def message(z, step=0, labels=None):
    return sl.SmashedData(z=z, labels=labels, sender="client", step=step)


def test_the_last_messages_are_kept_and_are_the_servers_own_copies():
    heard, z = seen.LastMessages(2), torch.zeros(1)
    for step in range(3):
        heard.message(message(z + step, step, torch.tensor([step])))
        heard.message(sl.Gradient(dz=z, sender="server", step=step))
    z += 9
    assert [(int(m.z), int(m.labels), m.step) for m in heard.kept] == [(1, 1, 1), (2, 2, 2)]
    again = seen.LastMessages(2)
    again.load_state_dict(heard.state_dict())
    assert [m.step for m in again.kept] == [1, 2]
    with pytest.raises(ValueError, match="keep is 0"):
        seen.LastMessages(0)


@pytest.fixture(scope="module")
def trained():
    """An attack that has not begun, and a classifier of its public images."""
    public = sl.tiny.split("digits", 0).public
    attack = sl.FSHA.at(sl.tiny, public, seed=0)
    return attack, sl.classifiers.train_cnn_classifier(public, steps=200)


def test_a_server_that_is_sent_its_own_code_finds_nothing_amiss(trained):
    attack, classifier = trained
    public = attack.public
    sent = message(attack.pilot(public.x), labels=public.y)
    figures = seen.signals(attack, [sent], classifier)
    assert set(figures) == set(seen.SIGNALS)
    assert [figures["gap"], figures["apart"]] == pytest.approx([0, 0], abs=1e-3)
    assert figures["labels"] >= 0.9
    assert figures["sure"] >= 0.7


def test_the_labels_reveal_pictures_of_other_patients(trained):
    attack, classifier = trained
    public = attack.public
    order = torch.randperm(len(public), generator=torch.Generator().manual_seed(0))
    right = message(attack.pilot(public.x), labels=public.y)
    wrong = message(attack.pilot(public.x[order]), labels=public.y)
    figures, mixed = (seen.signals(attack, [m], classifier) for m in (right, wrong))
    for name in set(seen.SIGNALS) - {"labels"}:
        assert mixed[name] == pytest.approx(figures[name], abs=1e-4), name
    assert mixed["labels"] < 0.3 < 0.9 < figures["labels"]


def test_signals_leave_out_what_they_cannot_know(trained):
    attack, classifier = trained
    sent = message(attack.pilot(attack.public.x[:64]))
    assert set(seen.signals(attack, [sent], classifier)) == set(seen.SIGNALS) - {"labels"}
    assert set(seen.signals(attack, [sent])) == {"gap", "apart"}


# Locality


def test_locality_is_the_share_of_slopes_at_home():
    data = sl.tiny.split("digits", 0).private

    def of(net):
        return client_networks.locality(sl.Client(net, data))

    assert of(tiny.patch_client()) == pytest.approx(1)
    assert of(tiny.dense_client()) == pytest.approx(1 / 16, abs=0.02)
    assert of(tiny.shuffled_client()) == pytest.approx(1 / 16, abs=0.04)
    assert 0.2 < of(tiny.client()) < 0.8
    # Each place is the mean of its own patch, plus half of that of the patch to the left.
    mean = nn.Conv2d(1, 1, (4, 8), 4, (0, 4), bias=False)
    mean.weight.data[:] = torch.tensor([0.5] * 4 + [1.0] * 4)
    left_edge = nn.Sequential(mean, nn.ZeroPad2d((0, -1, 0, 0)))
    assert of(left_edge) == pytest.approx(16 / (16 + 12 / 4))


def test_locality_leaves_the_client_as_it_was():
    client = sl.Client(tiny.client(), sl.tiny.split("digits", 0).private)
    client.net.train()
    client.net[0][1].eval()
    before = {name: tensor.clone() for name, tensor in client.net.state_dict().items()}
    client_networks.locality(client)
    assert client.net.training and not client.net[0][1].training
    assert all(torch.equal(before[n], tensor) for n, tensor in client.net.state_dict().items())


# The critic that is told the labels


def labelled(public):
    return client_networks.LabelledFSHA.labelled_at(sl.tiny, public, steps=5)


def test_a_labelled_critic_asks_for_the_class():
    private, public, _ = sl.tiny.split("digits", 0)
    attack = labelled(public)
    z = attack.pilot(public.x[:4])
    three, four = (attack.critic.judge(z, torch.full((4,), label)) for label in (3, 4))
    assert (three - four).abs().max() > 1e-4
    client = sl.Client(tiny.dense_client(), private, **sl.tiny.client())
    log = sl.train([client], attack, 3)
    assert log.steps == 3
    with pytest.raises(ValueError, match="needs labels and none came"):
        attack.reply(message(z))


def test_the_client_of_a_labelled_critic_is_told_where_its_own_class_is():
    attack = labelled(sl.tiny.split("digits", 0).public)
    z, y = attack.pilot(attack.public.x[:4]), attack.public.y[:4]
    attack.critic.sent = y
    pull = attack.critic.pull(z, z.detach())
    assert pull.item() == pytest.approx(attack.critic.judge(z, y).mean().item())


# Rows


def short(name, **changes):
    return replace(experiments.find("why_tiny", name, 7), **changes)


@pytest.mark.parametrize(
    "name", ["dense", "Gaussian, shuffled", "white noise, convolutional", "dense, paper's design"]
)
def test_a_row_scores_what_can_be_scored(name):
    row = short(name, steps=4).row()
    json.dumps(row, allow_nan=False)
    by_chance = "dense" not in name
    assert row["n"] == 500
    for scored in row["rows"].values():
        assert ("recognized" in scored) != by_chance
        assert 0 <= scored["matched"] <= 1
    assert ("labels" in row["signals"]) != by_chance
    assert row["rows"]["mean_public"]["matched"] == pytest.approx(1 / 500)


def test_a_labelled_row_has_no_signals_and_an_honest_one_an_accuracy():
    assert "signals" not in short("dense, critic knows labels", steps=2).row()
    assert short("dense, honest", steps=100).row()["accuracy"] > 0.5


def test_the_gaussian_halves_are_of_one_law():
    private, public, _ = short("Gaussian, dense").split()
    digits = sl.data.digits().x.flatten(1)
    for part in (private, public):
        rows = part.x.flatten(1)
        assert (rows.mean(0) - digits.mean(0)).abs().max() < 0.15
        assert rows.var(0).sum() == pytest.approx(float(digits.var(0).sum()), rel=0.05)


@pytest.mark.parametrize("data", ["digits", "drawn_faces"])
def test_a_dense_client_is_drawn_wrongly_and_the_convolution_rightly(data):
    def hijacked(f):
        run = client_networks.OtherClient("", "", 3, 60, data=data, f=f)
        split = run.split()
        client, attack = run.client(split, "cpu"), run.attack(split, "cpu")
        x = split.private.x[:300]

        def drawn():
            return attack.reconstruct(client.smash(x))

        before = experiments.apart(drawn(), attack.public.x)
        sl.train([client], attack, run.steps)
        after = experiments.apart(drawn(), attack.public.x)
        assert after < 0.7 * before  # either way the pictures come nearer to the public ones
        return sl.metrics.matched(drawn(), x)

    assert hijacked("dense") < 0.05
    if data == "digits":  # on faces it may settle on the negatives
        assert hijacked("convolutional") > 0.3
