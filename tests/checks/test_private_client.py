"""How the open exercise of chapter 21 is scored."""

import pytest
import torch
from torch import nn

from splitlab import nets
from splitlab.course.checks import what_the_cut_leaks as check
from splitlab.course.checks.what_the_cut_leaks import private_client


def pixels():
    """Loses nothing: z is the image."""
    return nn.Flatten()


def silence():
    """Loses everything: z is 2, whatever the image, and nothing is trained."""
    return nn.Sequential(nn.Flatten(), nn.Hardtanh(2.0, 3.0))


def decoded(f, seed=private_client.SEEDS[0]):
    parts = private_client._parts(seed)
    with torch.no_grad():
        return private_client._decoded(f(parts.public.x), f(parts.new.x), parts)


@pytest.mark.parametrize("seed", private_client.SEEDS)
def test_nobody_has_seen_the_new_images(seed):
    assert seed != 0, "0 is the notebook's seed"
    parts = private_client._parts(seed)
    rows = [{row.numpy().tobytes() for row in part.x} for part in vars(parts).values()]
    private, public, new = rows
    assert not new & private
    assert not new & public
    assert not private & public


def test_the_score_is_what_is_not_explained_or_none():
    figures = private_client._Figures("a", 16, 0.87, 0.4)
    assert figures.score(0.87) == pytest.approx(0.6)
    assert figures.score(0.871) == 0
    assert private_client._Figures("b", 16, 0.99, 0.4).score(0.87) == pytest.approx(0.6), (
        "no more for more"
    )


def mixing(count):
    """Random mixtures of the pixels, (256, count); as many as 256 are a rotation."""
    return torch.linalg.qr(torch.randn(256, count, generator=torch.Generator().manual_seed(0)))[0]


def test_a_decoder_takes_back_what_only_mixes_pixels():
    assert decoded(lambda x: 1000 * x.flatten(1) @ mixing(256)) > 0.99


def test_a_decoder_takes_back_what_is_bent(monkeypatch):
    """Without the second kernel much of it would be lost."""

    def bend(x):
        return (x.flatten(1) @ mixing(20)).abs()

    best = decoded(bend)
    monkeypatch.setattr(private_client, "_gaussian", private_client._linear)
    assert best > decoded(bend) + 0.1


def test_from_nothing_the_decoders_know_the_mean_image_at_best():
    assert -0.1 < decoded(lambda x: torch.zeros(len(x), 3)) < 0.01


def test_a_number_that_is_dead_on_public_images_does_no_harm():
    """It wakes up on one private image, and is divided by no tiny standard deviation."""
    parts = private_client._parts(private_client.SEEDS[0])
    z_public, z = (part.x.flatten(1).clone() for part in (parts.public, parts.new))
    z_public[:, 0], z[:, 0] = 0, 0
    z[0, 0] = 1
    assert private_client._decoded(z_public, z, parts) > 0.99


def test_labels_tell_what_they_tell_even_where_z_is_silent():
    _, accuracy, explained = private_client._one_split(silence, private_client.SEEDS[0])
    assert accuracy < 0.3
    assert explained == private_client._told_by_label(private_client.SEEDS[0])
    assert 0.2 < explained < 0.5


def test_the_accuracy_is_of_new_images_and_training_raises_it():
    size, accuracy, explained = private_client._one_split(pixels, private_client.SEEDS[0])
    assert size == 256
    assert 0.8 < accuracy < 1
    assert explained > 0.99


def test_f_learns_and_stays_in_training_mode():
    torch.manual_seed(0)
    f = nn.Sequential(nn.Flatten(), nn.Linear(256, 8))
    before = f[1].weight.detach().clone()
    private_client._train(f, private_client._parts(private_client.SEEDS[0]), 0)
    assert (f[1].weight - before).abs().mean() > 1e-2
    assert f.training


def test_a_run_is_the_same_whatever_was_drawn_before():
    def make():
        features = nets.tiny.client(cut=1, seed=int(torch.randint(99, ())))
        return nn.Sequential(features, nn.Flatten(), nn.Linear(512, 4))

    first = private_client._one_split(make, private_client.SEEDS[1])
    torch.manual_seed(5)
    assert private_client._one_split(make, private_client.SEEDS[1]) == first


def test_the_table_shows_the_answer_beside_others():
    score = check.make_client(lambda: nets.tiny.client(cut=2))
    names = [row[0] for row in score.table.rows]
    assert names == [*private_client.BASELINES, "nothing but the labels", "yours"]
    assert score.table.strong == len(names) - 1
    usual, labels, yours = (score.table.rows[number] for number in (2, -2, -1))
    assert usual[0] == private_client.USUAL
    assert yours[1:] == usual[1:], "the same client, the same figures"
    assert yours[-1] == score.value == pytest.approx(1 - yours[3])
    assert labels[-1] == pytest.approx(1 - labels[3])
    for row in score.table.rows[:-2]:
        assert row[-1] == "none" or 0 <= row[-1] < 0.1, "none of them hides the images"


def test_no_score_is_shown_as_none():
    score = check.make_client(silence)
    assert score.value == 0
    assert score.table.rows[-1][-1] == "none"


def test_the_cell_s_random_numbers_stay_as_they_were():
    before = torch.get_rng_state()
    check.make_client(pixels)
    assert torch.equal(torch.get_rng_state(), before)
