"""How the open exercise of chapter 22 is scored: passes that are counted, and a correlation."""

import copy

import pytest
import torch
from bank_unsplit import one_channel, with_one_optimizer

from splitlab.course.checks import CheckFailed
from splitlab.course.checks import unsplit as check
from splitlab.course.checks.unsplit.steal import (
    PASSES,
    SEEDS,
    _case,
    _likeness,
    _whole,
    make_surrogate,
)

Z = torch.zeros(20, 8, 8, 8)
X = torch.linspace(-1, 1, 20 * 256).view(20, 1, 16, 16)


def spent(use):
    with check.Budget(Z) as budget:
        use(make_surrogate())
    return budget.spent


def in_parts(net):
    for rows in X.split(5):
        net(rows)


def without_gradients(net):
    with torch.no_grad():
        net(X)
    with torch.inference_mode():
        net(X)


def many_at_once(net):
    """Three networks' weights in one call: no cheaper than three calls."""
    weights = {name: torch.stack([p] * 3) for name, p in net.named_parameters()}
    torch.func.vmap(lambda own: torch.func.functional_call(net, own, (X,)))(weights)


@pytest.mark.parametrize(
    ("use", "passes"),
    [
        (lambda net: net(X), 1),
        (lambda net: net(X[:10]), 0.5),
        (in_parts, 1),
        (lambda net: net(X).sum().backward(), 2),
        (lambda net: net(X.clone().requires_grad_()).sum().backward(), 2),
        (lambda net: torch.func.grad(lambda x: net(x).sum())(X), 2),
        (without_gradients, 2),
        (lambda net: copy.deepcopy(net)(X), 1),
        (lambda net: torch.conv2d(X, net[0].weight, padding=1), 1),
        (many_at_once, 3),
        (lambda net: net.state_dict(), 0),
    ],
)
def test_every_pass_is_counted_whoever_makes_it(use, passes):
    assert spent(use) == passes


def test_what_is_left_goes_down_to_nothing_and_then_it_is_told():
    net = make_surrogate()
    with check.Budget(Z, 3) as budget:
        assert budget.left == 3
        net(X).sum().backward()
        assert budget.left == 1
        net(X)
        assert budget.left == 0
        for _ in range(2):  # who catches the first refusal meets the next one
            with pytest.raises(CheckFailed, match="more than its budget of 3 passes"):
                net(X[:1])
    net(X)
    assert budget.left == 0, "outside of it nothing is counted, or refused"
    assert budget.spent == 3.1


def test_the_correlation_is_blind_to_sign_and_brightness_and_not_to_order():
    private = _case(51).private
    for pictures in (private, -private, 0.2 * private + 0.5):
        assert _likeness(pictures, private) == pytest.approx(1, abs=1e-6)
    assert _likeness(private.roll(1, 0), private) < 0.9
    assert _likeness(torch.full_like(private, 0.3), private) == 0


def test_the_sign_is_one_for_all_of_a_clients_pictures():
    private = _case(51).private
    signs = torch.ones(20, 1, 1, 1)
    signs[:10] = -1
    assert _likeness(signs * private, private) < 0.2


def test_clients_are_trained_and_images_are_their_private_ones():
    for seed in SEEDS:
        case = _case(seed)
        assert case.z.shape == (20, 8, 8, 8)
        assert case.private.shape == case.mean.shape == (20, 1, 16, 16)
        assert not case.z.requires_grad
    untrained = _whole(seed=51)[0](_case(51).private)
    assert not torch.allclose(untrained, _case(51).z, atol=0.05)


def test_the_table_shows_the_answer_beside_simple_ones():
    score = check.steal(one_channel).score
    rows = {row[0]: row[1:] for row in score.table.rows}
    assert list(rows)[-1] == "yours"
    assert score.table.strong == len(rows) - 1
    assert rows["yours"] == ["0", score.value]
    assert rows["one value everywhere"] == ["0", 0.0]
    assert rows["taking turns"][0] == str(PASSES)
    assert rows["taking turns, four times as long"][0] == str(4 * PASSES)
    names = (
        "mean public digit (not the attacker's)",
        "taking turns",
        "one channel of z, enlarged",
        "taking turns, four times as long",
    )
    mean, turns, channel, longer = (rows[name][1] for name in names)
    assert 0.5 < mean < turns < channel < longer < 1, "as the card and the solution say"


def test_a_score_is_the_same_each_time_and_leaves_the_random_stream():
    state = torch.get_rng_state()
    first = check.steal(with_one_optimizer).score
    assert torch.equal(torch.get_rng_state(), state)
    assert first.table.rows[-1][1] == str(PASSES)
    torch.rand(3)
    assert check.steal(with_one_optimizer).score.value == first.value


def test_an_answer_that_fails_is_asked_once():
    asked = []

    def refused(z, make_surrogate, budget):
        asked.append(len(z))
        return z

    assert not check.steal(refused).passed
    assert asked == [20]
