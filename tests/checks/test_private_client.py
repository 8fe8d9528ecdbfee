"""How the open exercise of chapter 21 is scored."""

import sys

import pytest
import torch
from torch import nn

from splitlab import nets
from splitlab.course.checks import what_the_cut_leaks as check
from splitlab.course.checks.guard import Guard
from splitlab.course.checks.scored import Answer

# The module; its package has the check itself under this name.
scorer = sys.modules[f"{check.__name__}.make_client"]
SEED = scorer.SEEDS[0]
CLIENTS = {
    "random projection": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(256, 64, bias=False).requires_grad_(False)
    )
} | {f"tiny client, cut {cut}": lambda cut=cut: nets.tiny.client(cut=cut) for cut in (1, 2, 4)}


def pixels():
    """Loses nothing: z is the image."""
    return nn.Flatten()


def silence():
    """Loses everything: z is 2, whatever the image, and nothing is trained."""
    return nn.Sequential(nn.Flatten(), nn.Hardtanh(2.0, 3.0))


def answer(make):
    return Answer(Guard(make, "make_client", 60))


def decoded(f):
    parts = scorer._parts(SEED)
    with torch.no_grad():
        return scorer._decoded(f(parts.public.x), f(parts.new.x), parts)


@pytest.mark.parametrize("seed", scorer.SEEDS)
def test_nobody_has_seen_the_new_images(seed):
    assert seed != 0, "0 is the notebook's seed"
    parts = scorer._parts(seed)
    rows = [{row.numpy().tobytes() for row in part.x} for part in vars(parts).values()]
    private, public, new = rows
    assert not new & private
    assert not new & public
    assert not private & public


@pytest.mark.parametrize("name", scorer.BESIDE)
def test_the_figures_beside_are_what_these_clients_get(name):
    found, noted = scorer._measure(answer(CLIENTS[name])), scorer.BESIDE[name]
    assert found.size == noted.size
    assert found.accuracy == pytest.approx(noted.accuracy, abs=0.02)
    assert found.explained == pytest.approx(noted.explained, abs=0.01)


def test_the_score_is_what_is_not_explained_or_none():
    assert scorer._Figures(16, scorer.LEAST, 0.4).score() == pytest.approx(0.6)
    assert scorer._Figures(16, scorer.LEAST - 0.001, 0.4).score() == 0
    assert scorer._Figures(16, 0.99, 0.4).score() == pytest.approx(0.6), "no more for more"


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
    monkeypatch.setattr(scorer, "_gaussian", scorer._linear)
    assert best > decoded(bend) + 0.1


def test_from_nothing_the_decoders_know_the_mean_image_at_best():
    assert -0.1 < decoded(lambda x: torch.zeros(len(x), 3)) < 0.01


def test_a_number_that_is_dead_on_public_images_does_no_harm():
    """It wakes up on one private image, and is divided by no tiny standard deviation."""
    parts = scorer._parts(SEED)
    z_public, z = (part.x.flatten(1).clone() for part in (parts.public, parts.new))
    z_public[:, 0], z[:, 0] = 0, 0
    z[0, 0] = 1
    assert scorer._decoded(z_public, z, parts) > 0.99


def test_labels_tell_what_they_tell_even_where_z_is_silent():
    _, accuracy, explained = scorer._one_split(answer(silence), SEED)
    assert accuracy < 0.3
    assert explained == scorer._told_by_label(SEED)
    assert 0.2 < explained < 0.5


def test_the_accuracy_is_of_new_images_and_training_raises_it():
    size, accuracy, explained = scorer._one_split(answer(pixels), SEED)
    assert size == 256
    assert 0.8 < accuracy < 1
    assert explained > 0.99


def test_f_learns_and_stays_in_training_mode():
    torch.manual_seed(0)
    f = nn.Sequential(nn.Flatten(), nn.Linear(256, 8))
    before, new = f[1].weight.detach().clone(), scorer._parts(SEED).new
    scorer._train(f, 8, [(new.x[:32], new.y[:32])] * scorer.STEPS, new)
    assert (f[1].weight - before).abs().mean() > 1e-2
    assert f.training


def test_a_run_is_the_same_whatever_was_drawn_before():
    def make():
        features = nets.tiny.client(cut=1, seed=int(torch.randint(99, ())))
        return nn.Sequential(features, nn.Flatten(), nn.Linear(512, 4))

    first = scorer._one_split(answer(make), SEED)
    torch.manual_seed(5)
    assert scorer._one_split(answer(make), SEED) == first


def test_the_table_shows_the_answer_beside_others():
    score = check.make_client(CLIENTS[scorer.USUAL]).score
    names = [row[0] for row in score.table.rows]
    assert names == [*scorer.BESIDE, "nothing but the labels", "yours"]
    assert score.table.strong == len(names) - 1
    labels, yours = score.table.rows[-2:]
    assert yours[-1] == score.value == pytest.approx(1 - yours[3])
    assert labels[-1] == pytest.approx(1 - labels[3])
    for row in score.table.rows[:-2]:
        assert row[-1] == "none" or 0 <= row[-1] < 0.1, "none of them hides the images"


def test_no_score_is_shown_as_none():
    score = check.make_client(silence).score
    assert score.value == 0
    assert score.table.rows[-1][-1] == "none"
