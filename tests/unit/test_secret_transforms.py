"""A secret projection and a shuffle: what they do to z, and how an attacker undoes them."""

import pytest
import torch

import splitlab as sl
from splitlab.course.experiments.alignment import matched_places, rotated_back, sorted_patches
from splitlab.course.experiments.blurs import undefended
from splitlab.defenses import OrthogonalProjection, PatchShuffle
from splitlab.defenses.secret_transforms import orthogonal


def numbers(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def smashed(defense, z):
    return defense.smash(None, None, z)


@pytest.fixture(scope="module")
def split():
    return sl.tiny.split("digits", 0)


def client(split, *defenses):
    return sl.Client(sl.tiny.client_net(), split.private, defenses=defenses, batch_size=32)


def test_the_matrix_is_orthogonal_and_its_seed_makes_it():
    q = orthogonal(40, seed=3)
    torch.testing.assert_close(q @ q.T, torch.eye(40, dtype=torch.float64))
    assert torch.equal(q, orthogonal(40, seed=3))
    assert not torch.allclose(q, orthogonal(40, seed=4))


def test_a_rotation_keeps_distances_and_mixes_all_numbers():
    z = numbers(5, 4, 3, 3)
    sent = smashed(OrthogonalProjection(seed=1), z)
    torch.testing.assert_close(
        torch.cdist(sent.flatten(1), sent.flatten(1)), torch.cdist(z.flatten(1), z.flatten(1))
    )
    assert (sent - z).abs().min() > 0


def test_a_projection_sends_so_many_numbers():
    z = numbers(5, 4, 3, 3)
    sent, whole = (smashed(OrthogonalProjection(k, seed=1), z).flatten(1) for k in (7, None))
    assert torch.equal(sent[:, :7], whole[:, :7])
    assert not sent[:, 7:].any()


def test_a_projection_is_refused_where_z_is_too_small():
    with pytest.raises(ValueError, match="keep is 40 and z has 36 numbers: choose at most 36"):
        smashed(OrthogonalProjection(40, seed=1), numbers(2, 4, 3, 3))


@pytest.mark.parametrize("keep", [0, 1.5, True])
def test_bad_numbers_are_refused(keep):
    with pytest.raises(ValueError, match="keep is"):
        OrthogonalProjection(keep, seed=0)
    with pytest.raises(ValueError, match="patch is"):
        PatchShuffle(keep)


def test_enough_pairs_undo_a_rotation():
    z = numbers(60, 4, 3, 3)
    sent = smashed(OrthogonalProjection(seed=1), z)
    torch.testing.assert_close(rotated_back(sent[:40], z[:40], sent[40:]), z[40:])
    few = rotated_back(sent[:10], z[:10], sent[40:])
    assert float((few - z[40:]).norm() / z[40:].norm()) > 0.3


@pytest.mark.parametrize("patch", [1, 2])
def test_a_shuffle_moves_whole_patches_and_loses_none(patch):
    z = torch.arange(2 * 3 * 4 * 4.0).view(2, 3, 4, 4)
    sent = smashed(PatchShuffle(patch, seed=1), z)
    assert not torch.equal(sent, z)
    assert torch.equal(sent.flatten().sort().values, z.flatten().sort().values)
    corner = sent[0, :, :patch, :patch]
    tiles = z[0].unfold(1, patch, patch).unfold(2, patch, patch).permute(1, 2, 0, 3, 4)
    assert any(torch.equal(corner, tile) for tile in tiles.flatten(0, 1))


def test_one_order_serves_for_all_images_or_each_has_its_own():
    z = torch.arange(16.0).view(1, 1, 4, 4).repeat(8, 1, 1, 1)
    fixed, again = (smashed(PatchShuffle(seed=1), z) for _ in range(2))
    assert torch.equal(fixed, again)
    assert len(fixed.flatten(1).unique(dim=0)) == 1
    torch.manual_seed(0)
    fresh = smashed(PatchShuffle(fresh=True), z)
    assert len(fresh.flatten(1).unique(dim=0)) > 1


@pytest.mark.parametrize("shape", [(2, 12), (2, 3, 6, 4)])
def test_patches_that_do_not_tile_z_are_refused(shape):
    with pytest.raises(ValueError, match="patches of 4 places do not tile it: choose a side"):
        smashed(PatchShuffle(4), torch.zeros(shape))


def test_statistics_of_another_network_undo_a_secret_shuffle(split):
    """No pair is known, and not f: all that is used is that neighbors depend on each other."""
    victim = client(split, PatchShuffle(seed=5))
    images = split.private.x[:160]
    sent, plain = victim.smash(images).z, undefended(victim, images)
    own = client(split)
    own.net.load_state_dict(sl.tiny.client_net(seed=99).state_dict())
    order = matched_places(sent, own.smash(split.public.x).z)
    assert torch.equal(sent.flatten(2)[:, :, order], plain.flatten(2))


def test_patches_are_sorted_by_what_is_usual_in_their_places():
    generator = torch.Generator().manual_seed(0)
    usual = 10 * torch.randn(1, 3, 4, 4, generator=generator)
    own, z = (usual + torch.randn(64, 3, 4, 4, generator=generator) for _ in range(2))
    torch.manual_seed(1)
    for patch in (1, 2):
        sent = smashed(PatchShuffle(patch, fresh=True), z)
        assert torch.equal(sorted_patches(sent, own, patch), z)
