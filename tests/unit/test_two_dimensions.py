"""The hijack in the plane: its clouds, its clients, its figures, and what a row holds."""

import json
import math
from dataclasses import replace

import pytest
import torch

import splitlab as sl
from splitlab.course import experiments
from splitlab.course.experiments import two_dimensions as plane

RUN = replace(experiments.find("two_dimensions", "lopsided", 7), steps=5)


def points(*rows):
    return torch.tensor(rows).view(-1, 1, 1, 2)


@pytest.mark.parametrize("shape", ["lopsided", "round"])
def test_a_cloud_is_a_function_of_its_seed(shape):
    one = plane.cloud(shape, seed=3)
    assert one.shape == (1, 1, 2)
    assert torch.equal(one.x, plane.cloud(shape, seed=3).x)
    assert not torch.equal(one.x, plane.cloud(shape, seed=4).x)


def test_the_lopsided_cloud_has_three_heaps_of_unlike_sizes_and_the_round_one_has_one():
    lopsided = plane.cloud("lopsided")
    shares = lopsided.y.bincount() / len(lopsided)
    assert torch.allclose(shares, torch.tensor(plane.SHARES), atol=0.04)
    for number, middle in enumerate(plane.BLOBS):
        heap = lopsided.x[lopsided.y == number].flatten(1)
        assert torch.allclose(heap.mean(0), torch.tensor(middle), atol=0.1)
    ball = plane.cloud("round").x.flatten(1)
    assert torch.allclose(ball.T.cov(), 0.81 * torch.eye(2), atol=0.06)
    assert torch.allclose(ball.mean(0), torch.zeros(2), atol=0.06)


def test_half_a_turn_shows_in_the_lopsided_cloud_alone():
    lopsided, ball = (plane.cloud(shape).x[:600] for shape in ("lopsided", "round"))
    turned = [2 * x.mean(0) - x for x in (lopsided, ball)]
    assert plane.apart(turned[0], lopsided) > 0.3
    assert plane.apart(turned[1], ball) < 0.02


def test_an_unknown_cloud_is_refused():
    with pytest.raises(ValueError, match="there is no cloud 'square': choose"):
        plane.cloud("square")


def test_a_client_that_turns_cannot_mirror_and_an_affine_one_can():
    x = torch.randn(4, 1, 1, 2)
    for seed in range(8):
        net = plane.Turn(seed=seed)
        a, b = net.ab.tolist()
        expected = torch.tensor([[a, -b], [b, a]])
        torch.testing.assert_close(plane.matrix(net), expected)
        flat = x.flatten(1) @ expected.T + net.shift
        torch.testing.assert_close(net(x).flatten(1), flat)
        assert torch.linalg.det(plane.matrix(net)) > 0
    nets = [plane.affine(seed=seed) for seed in range(8)]
    for net in nets:
        torch.testing.assert_close(plane.matrix(net), net.weight.detach())
    assert {bool(torch.linalg.det(net.weight) > 0) for net in nets} == {True, False}


@pytest.mark.parametrize("degrees", [0.0, 30.0, -100.0, 179.0])
def test_the_angle_is_that_of_the_rotation(degrees):
    net = plane.Turn()
    angle = math.radians(degrees)
    net.ab.data = 3 * torch.tensor([math.cos(angle), math.sin(angle)])
    assert plane.turned(net) == pytest.approx(degrees, abs=1e-3)


@pytest.mark.parametrize(
    ("one", "other", "angle"), [(10, 350, 20), (-179, 179, 2), (90, -90, 180), (5, 5, 0)]
)
def test_the_angle_between_is_the_smaller_one(one, other, angle):
    assert plane.between(one, other) == angle == plane.between(other, one)


def test_clouds_are_compared_whichever_point_is_whose():
    one = torch.randn(50, 1, 1, 2)
    assert plane.apart(one, one[torch.randperm(50)]) == pytest.approx(0, abs=1e-5)
    pair, single = points([0.0, 0.0], [3.0, 4.0]), points([0.0, 0.0])
    # 2 * (0 + 5)/2 - (0 + 5 + 5 + 0)/4 - 0
    assert plane.apart(pair, single) == pytest.approx(2.5)


def test_the_parties_share_nothing_and_the_settings_arrive():
    client, attack = RUN.parties()
    sl.audit([client], attack)
    rows = [
        {tuple(row) for row in data.x.flatten(1).tolist()} for data in (client.data, attack.public)
    ]
    assert not rows[0] & rows[1]
    assert attack.critic.penalty_weight == plane.PENALTY_WEIGHT > 0
    free = experiments.find("two_dimensions", "lopsided, no penalty", 7)
    assert free.parties()[1].critic.penalty_weight == 0
    mirroring = experiments.find("two_dimensions", "lopsided, f can mirror", 7)
    assert isinstance(mirroring.parties()[0].net, torch.nn.Linear)
    assert torch.equal(attack.autoencode(attack.public.x), attack.public.x)


def test_a_row_is_a_function_of_its_configuration():
    figures = ("error", "apart", "gap", "slope")
    one, same = ([row[name] for name in figures] for row in (RUN.row(), RUN.row()))
    assert one == same
    for change in (
        {"seed": 8},
        {"steps": 6},
        {"data": "round"},
        {"penalty_weight": 0.0},
        {"mirrors": True},
    ):
        other = replace(RUN, **change)
        assert other.config != RUN.config
        assert [other.row()[name] for name in figures] != one, change


def test_the_figures_are_what_they_say():
    client, attack = RUN.parties()
    with torch.no_grad():  # f made to be half a turn about the middle of the public points
        client.net.ab.copy_(torch.tensor([-1.0, 0.0]))
        client.net.shift.copy_(2 * attack.public.x.mean((0, 1, 2)))
    row = RUN.scores(client, attack)
    json.dumps(row)
    assert abs(row["turned"]) == pytest.approx(180)
    assert row["determinant"] == pytest.approx(1)
    assert row["error"] == pytest.approx(4, abs=0.3)
    assert row["apart"] > 0.3
    # Turned by another half, all of it is at home.
    assert row["half_turn"]["error"] == pytest.approx(0, abs=1e-5)
    assert row["half_turn"]["apart"] == pytest.approx(row["apart_at_best"], abs=1e-4)
    assert row["apart_at_best"] < 0.05
    floors = row["floors"]
    assert floors["mean_public"]["error"] == pytest.approx(1, abs=0.05)
    assert floors["nearest_public"]["error"] < 0.05 < floors["nearest_public"]["matched"]


def test_the_gap_is_positive_where_the_client_has_the_higher_scores():
    client, attack = RUN.parties()
    attack.critic.net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2, 1))
    with torch.no_grad():
        attack.critic.net[1].weight.copy_(torch.tensor([[3.0, 4.0]]))
        client.net.ab.copy_(torch.tensor([1.0, 0.0]))
        client.net.shift.copy_(torch.tensor([1.0, 0.0]))
    row = RUN.scores(client, attack)
    assert row["slope"] == pytest.approx(5)
    assert row["gap"] == pytest.approx(3, abs=0.4)


def test_the_hijack_brings_the_lopsided_cloud_home_and_without_its_penalty_it_does_not():
    whole = experiments.find("two_dimensions", "lopsided", 7).row()
    assert whole["turned_by_hijack"] > 45, "this seed begins far from home"
    assert whole["error"] <= 0.05 and whole["apart"] <= 0.05
    assert experiments.find("two_dimensions", "lopsided, no penalty", 7).row()["apart"] > 0.1
