"""How the open exercise of chapter 34 is scored: what a channel of z shows of the image."""

import pytest
import torch
from bank_hijack_taken_apart import a_random_matrix, linear, random_columns, whitened
from torch.nn import functional as F

from splitlab import data
from splitlab.course.checks import CheckFailed
from splitlab.course.checks import hijack_taken_apart as check
from splitlab.course.checks.hijack_taken_apart import hidden_image

X = torch.rand(40, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
SMALL = F.avg_pool2d(X, 4)


def noise(channels, seed=1):
    return torch.randn(40, channels, 4, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("factor", [1.0, -3.0])
def test_a_small_copy_of_the_image_is_seen_whatever_its_scale_and_sign(factor):
    z = torch.cat([noise(3), factor * SMALL + 5], dim=1)
    largest, together, _ = hidden_image._seen(z, X)
    assert largest == pytest.approx(1)
    assert together == pytest.approx(1)


def test_in_noise_no_channel_shows_the_image():
    largest, together, weakest = hidden_image._seen(noise(4), X)
    # One over the root of 640 numbers is chance; four channels together have twice that.
    assert largest < 0.15
    assert largest <= together < 0.2
    assert weakest > 0.8


def test_half_of_the_image_in_a_channel_has_the_correlation_that_it_should():
    small = SMALL / SMALL.std()
    other = noise(1)
    largest, _, _ = hidden_image._seen(0.6 * small + 0.8 * other, X)
    assert largest == pytest.approx(0.6, abs=0.05)


def test_what_no_channel_shows_alone_all_may_show_together():
    hidden = 10 * noise(1)
    largest, together, _ = hidden_image._seen(torch.cat([SMALL + hidden, SMALL - hidden], dim=1), X)
    assert largest < 0.2
    assert together == pytest.approx(1)


def test_a_dead_channel_shows_nothing_and_is_the_weakest():
    z = torch.cat([noise(2), torch.full((40, 1, 4, 4), 2.5)], dim=1)
    largest, _, weakest = hidden_image._seen(z, X)
    assert largest < 0.15
    assert weakest == 0


@pytest.mark.parametrize("images", ["digits", "drawn faces"])
def test_the_image_itself_as_channels_is_seen_on_digits_and_on_faces(images):
    x = data.digits().x[:60] if images == "digits" else data.drawn_faces(60, 16, 1).x
    pilot, decoder = hidden_image._plain(x)
    largest, together, weakest = hidden_image._seen(pilot(x), x)
    assert largest > 0.8
    assert together == pytest.approx(1)
    assert weakest == 0
    assert hidden_image._error(pilot, decoder, x) < 1e-6


def test_the_rotated_pilot_has_an_exact_inverse_and_no_dead_channel():
    pilot, decoder = hidden_image._rotated(X)
    assert hidden_image._error(pilot, decoder, X) < 1e-5
    assert hidden_image._seen(pilot(X), X)[2] > hidden_image.LIVELY


@pytest.mark.parametrize("seed", hidden_image.SEEDS)
def test_the_private_images_are_none_of_the_public_ones_and_not_the_notebooks(seed):
    assert seed != 0, "0 is the notebook's seed"
    private, public = (
        {row.numpy().tobytes() for row in part.x} for part in hidden_image._split(seed)
    )
    assert not private & public


def test_the_table_has_the_answer_beside_three_others():
    score = check.make_pilot(a_random_matrix)
    plain, rotated, honest, yours = score.table.rows
    assert yours[0] == "yours"
    assert score.table.strong == 3
    assert score.value == yours[-1] == pytest.approx(1 - yours[1], abs=1e-4)
    assert plain[3] == 0
    assert plain[-1] == "none", "its dead channels break a rule"
    assert rotated[-1] == pytest.approx(1 - rotated[1], abs=1e-4)
    assert min(plain[1], rotated[1]) > 0.9, "a random rotation hides nothing"
    assert 0.5 < honest[1] < plain[1]
    assert 0.9 < honest[2] < 1, "an honest z keeps the picture, too"


def test_whitening_hides_more_than_a_rotation_and_a_weak_mean_hides_more_still():
    """The order of the ladder that the solution describes."""
    scores = [
        check.make_pilot(
            lambda public, w=weight: linear(whitened(public, w) @ HADAMARD[:16], public.mean())
        ).value
        for weight in (1.0, 0.6)
    ]
    assert check.make_pilot(a_random_matrix).value < 0.2 < 0.6 < scores[0] < scores[1] - 0.03


HADAMARD = torch.ones(1, 1)
while len(HADAMARD) < 32:
    HADAMARD = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), HADAMARD)


def test_a_whisper_is_refused_with_the_part_that_is_explained():
    def make(public):
        pilot, decoder = linear(whitened(public, 0.2).double() @ random_columns(16, 32).double())
        return (lambda x: pilot(x.double())), (lambda z: decoder(z.double()))

    with pytest.raises(CheckFailed, match=r"explains only 0\.\d+ of the images' variance"):
        check.make_pilot(make)


def test_the_score_is_the_same_again_and_leaves_the_random_numbers_alone():
    before = torch.get_rng_state()
    first, second = (check.make_pilot(a_random_matrix).value for _ in range(2))
    assert first == second
    assert torch.equal(torch.get_rng_state(), before)
