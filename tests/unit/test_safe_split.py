"""SafeSplit: its two measures by hand, which turns it rolls back, and what it goes back to."""

import math
from functools import partial

import pytest
import torch
from states import plain
from torch import nn
from torch.optim import SGD, Adam

import splitlab as sl
from splitlab.defenses.safe_split import low_frequencies, rotation, scores

NETS = sl.tiny.nets
BY_SERVER = sl.Sequential(sl.u_shaped, turn=2, through_server=True)


# The measures


@pytest.mark.parametrize("n", [1, 2, 7, 30])
def test_low_frequencies_are_the_first_of_the_dct(n):
    x = torch.randn(n, generator=torch.Generator().manual_seed(n))
    wanted = []
    for k in range(n):
        total = 0.0
        for i in range(n):
            total += float(x[i]) * math.cos(math.pi * k * (2 * i + 1) / (2 * n))
        wanted.append(math.sqrt((2 if k else 1) / n) * total)
    assert low_frequencies(x, 1.0).tolist() == pytest.approx(wanted, abs=1e-12)
    kept = {1: 1, 2: 1, 7: 2, 30: 9}[n]
    assert low_frequencies(x, 0.3).tolist() == pytest.approx(wanted[:kept], abs=1e-12)


def test_the_rotation_is_the_difference_of_arctangents_as_a_share_of_a_full_turn():
    before, after = torch.tensor([0.5, -3.0, 2.0]), torch.tensor([0.25, 4.0, 2.0])
    pairs = zip(before.tolist(), after.tolist(), strict=True)
    wanted = [(math.atan(b) - math.atan(a)) / (2 * math.pi) for a, b in pairs]
    assert rotation(before, after).tolist() == pytest.approx(wanted, abs=1e-12)


def test_with_arccos_as_first_published_a_weight_of_2_has_no_rotation():
    assert torch.tensor(2.0).arccos().isnan()
    assert rotation(torch.tensor([2.0]), torch.tensor([-5.0])).isfinite().all()


@pytest.mark.parametrize("n", [3, 4, 10])
def test_scores_are_sums_over_the_nearest_of_the_others(n):
    points = list(torch.randn(n, 6, generator=torch.Generator().manual_seed(n)).double())
    points[1] = points[0].clone()  # two turns may be equal
    wanted = []
    for one in range(n):
        others = [math.dist(points[one], points[k]) for k in range(n) if k != one]
        wanted.append(sum(sorted(others)[: n // 2 + 1]))
    assert scores(points).tolist() == pytest.approx(wanted, abs=1e-12)


# Verdicts by hand: one weight, from 0 on, and the change of each turn


def server(window):
    """One weight, with Adam and the running statistics of a BatchNorm."""
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1, affine=False))
    nn.init.zeros_(net[0].weight)
    return sl.SafeSplit(net, window=window, optimizer=partial(Adam, lr=0.1))


def take_turn(defense, change, number):
    """What the server passes on at the end of a turn, and its state before it judged the turn."""
    weight = defense.net[0].weight
    end = weight.item() + change
    weight.grad = torch.full_like(weight, change)
    defense.optimizer.step()
    with torch.no_grad():
        weight.fill_(end)
    defense.net[1].running_mean.fill_(number)
    state = plain([defense.net.state_dict(), defense.optimizer.state_dict()])
    message = sl.Weights(
        state={"f": torch.tensor([float(number)])},
        optimizer={"state": {0: {"momentum": torch.tensor([-float(number)])}}},
        samples=number + 1,
        sender=f"client {number}",
        step=number,
    )
    return defense.relay(message), state


def judged(window, *changes):
    """Whether each turn was rolled back."""
    defense = server(window)
    for number, change in enumerate(changes):
        take_turn(defense, change, number)
    assert [name for name, _ in defense.verdicts] == [f"client {n}" for n in range(len(changes))]
    return [rolled_back for _, rolled_back in defense.verdicts]


def test_the_odd_turn_is_rolled_back_and_one_between_the_others_is_not():
    assert judged(3, 0.1, 0.11, -1.0) == [False, False, True]
    assert judged(3, 0.1, 0.11, 0.105) == [False] * 3
    assert judged(5, 0.1, 0.11, 0.105, 0.107, -1.0, 0.106) == [*[False] * 4, True, False]


def test_nothing_is_rolled_back_before_the_window_is_full():
    assert judged(4, 0.1, 0.1, -5.0) == [False] * 3


def test_a_turn_is_benign_only_by_both_measures():
    """Far out, the others' change is no rotation."""
    defense = server(5)
    for number, change in enumerate([0.01, 0.011, 0.009, 0.0105]):
        take_turn(defense, change, number)
    defense.began["layers"].fill_(40.0)  # as if this turn had begun far out
    with torch.no_grad():
        defense.net[0].weight.fill_(40.0)
    take_turn(defense, 0.01, 4)
    by = {w: scores([t[w] for t in defense.turns]) for w in ("low_frequencies", "rotation")}
    assert 4 in by["low_frequencies"].argsort()[:3]
    assert by["rotation"].argmax() == 4
    assert defense.verdicts[-1] == ("client 4", True)


def test_it_goes_back_to_the_newest_benign_turn_bit_for_bit():
    """Not to the fourth, which is odd too: the server's layers and optimizer, f and tail."""
    defense, ends = server(5), []
    for number, change in enumerate([0.1, 0.102, 0.101, 0.3, -1.0]):
        passed_on, state = take_turn(defense, change, number)
        ends.append(state)
    assert defense.verdicts[-1] == ("client 4", True)
    assert plain([defense.net.state_dict(), defense.optimizer.state_dict()]) == ends[2]
    assert (passed_on.sender, passed_on.step, passed_on.samples) == ("server", 4, 3)
    assert passed_on.state["f"].tolist() == [2.0]
    assert passed_on.optimizer["state"][0]["momentum"].tolist() == [-2.0]


def test_it_goes_back_again_and_not_to_a_turn_that_it_had_rolled_back():
    """Though by then that turn counts as benign; and training on from a turn does not change it."""
    defense = server(3)
    _, _ = take_turn(defense, 0.1, 0)
    _, end = take_turn(defense, 0.11, 1)
    for number, change in ((2, -1.0), (3, 5.0)):
        passed_on, _ = take_turn(defense, change, number)
        assert defense.verdicts[-1] == (f"client {number}", True)
        assert plain([defense.net.state_dict(), defense.optimizer.state_dict()]) == end
        assert passed_on.state["f"].tolist() == [1.0]
    assert defense.benign() == [0, 1] and defense.turns[1]["rolled_back"]


def test_where_every_benign_turn_was_rolled_back_it_goes_back_to_where_the_turn_began():
    defense = server(3)
    for number, change in enumerate([0.1, 0.11, -1.0, -3.0]):
        passed_on, _ = take_turn(defense, change, number)
    assert defense.benign() == [1] and defense.turns[1]["rolled_back"]
    assert defense.net[0].weight.item() == pytest.approx(0.21)
    assert passed_on.state["f"].tolist() == [1.0]


def test_a_turn_that_ends_in_nan_is_rolled_back_and_the_next_is_not():
    assert judged(5, 0.1, 0.11, 0.105, 0.107, math.nan, 0.106) == [*[False] * 4, True, False]


def test_before_any_turn_none_is_benign():
    assert server(3).benign() == []


# Training


def parties(digits, n=4, *, attackers=1, window=4, make=sl.SafeSplit, rate=0.05):
    """n clients, the first of them attackers, and a server."""
    clients = []
    for number in range(n):
        part = digits[0].select(torch.arange(number, 120, n))
        options = {"tail": NETS.shallow_server()[-1], "seed": number, "name": f"client {number}"}
        options |= {"optimizer": partial(Adam, lr=1e-3), "batch_size": 8}
        kind = sl.Client
        if number < attackers:
            kind = partial(sl.Backdoor, target=1, share=1.0)
        clients.append(kind(NETS.shallow_client(), part, **options))
    options = {"window": window} if make is sl.SafeSplit else {}
    options |= {"optimizer": partial(SGD, lr=rate, momentum=0.9)}
    return clients, make(NETS.shallow_server()[:-1], **options)


def ends(clients, server):
    """What must be equal after equal training."""
    nets = [net for client in clients for net in (client.net, client.tail)]
    optimizers = [client.optimizer for client in clients] + [server.optimizer]
    return plain([one.state_dict() for one in (*nets, server.net, *optimizers)])


class Dies(sl.Observer):
    def step(self, step, client, server):
        if step == 21:
            raise KeyboardInterrupt


def test_a_run_that_is_killed_goes_on_bit_for_bit_verdicts_included(digits, tmp_path):
    """In the middle of a turn, with turns rolled back before and after."""
    steps, saved = 32, {"checkpoint": tmp_path / "run", "every": 5}
    whole = parties(digits)
    sl.train(*whole, steps, protocol=BY_SERVER)
    with pytest.raises(KeyboardInterrupt):
        sl.train(*parties(digits), steps, protocol=BY_SERVER, observers=[Dies()], **saved)
    resumed = parties(digits)
    sl.train(*resumed, steps, protocol=BY_SERVER, **saved)
    assert ends(*resumed) == ends(*whole)
    assert resumed[1].verdicts == whole[1].verdicts and len(whole[1].verdicts) == steps // 2
    assert plain(resumed[1].state_dict()) == plain(whole[1].state_dict())
    rolled_back = [rolled_back for _, rolled_back in whole[1].verdicts]
    assert {*rolled_back[3:10]} == {*rolled_back[10:]} == {True, False}


def test_after_rollbacks_nobody_shares_memory(digits):
    clients, defense = parties(digits)
    sl.train(clients, defense, 24, protocol=BY_SERVER)
    assert any(rolled_back for _, rolled_back in defense.verdicts)
    sl.audit(clients, defense)
    for number, client in enumerate(clients):
        sl.audit(clients[:number], client)


@pytest.mark.parametrize(
    "protocol",
    [sl.Sequential(sl.u_shaped), sl.SplitFed(protocol=sl.u_shaped), sl.Rounds(sl.u_shaped)],
    ids=["sequential", "splitfed", "rounds"],
)
def test_where_no_weights_pass_through_it_it_says_so(digits, protocol):
    clients, defense = parties(digits)
    sentence = (
        r"client \d follows client \d and no weights passed through the server, so it could not "
        r"roll back: use sl\.Sequential\(\.\.\., through_server=True\)"
    )
    with pytest.raises(ValueError, match=sentence):
        sl.train(clients, defense, 8, protocol=protocol)


def test_after_a_resume_it_knows_whose_turn_is_under_way(digits):
    clients, defense = parties(digits)
    sl.train(clients, defense, 2, protocol=sl.Sequential(sl.u_shaped, turn=2))
    again = parties(digits)[1]
    again.load_state_dict(defense.state_dict())
    with pytest.raises(ValueError, match="client 1 follows client 0 and no weights passed"):
        sl.u_shaped(clients[1], again, sl.Wire())


@pytest.mark.parametrize(
    ("n", "window"), [(1, 3), (3, 7)], ids=["alone", "the window is never full"]
)
def test_where_nothing_is_rolled_back_it_trains_as_an_honest_server_does(digits, n, window):
    found = []
    for make in (sl.HonestServer, sl.SafeSplit):
        clients, server = parties(digits, n, attackers=0, window=window, make=make)
        sl.train(clients, server, 12, protocol=BY_SERVER)
        found.append(ends(clients, server))
    assert found[0] == found[1]
    assert len(server.verdicts) == (6 if n > 1 else 0)


def test_in_the_vanilla_protocol_it_judges_turns_too(digits):
    part = [digits[0].select(torch.arange(k, 60, 2)) for k in range(2)]
    clients = [
        sl.Client(NETS.shallow_client(), p, batch_size=8, name=f"client {k}")
        for k, p in enumerate(part)
    ]
    defense = sl.SafeSplit(NETS.shallow_server(), window=3)
    sl.train(clients, defense, 10, protocol=sl.Sequential(through_server=True))
    assert [name for name, _ in defense.verdicts] == ["client 0", "client 1"] * 5
    assert len(defense.turns) == 3


def test_weights_that_arrive_twice_are_answered_and_not_judged_twice(digits):
    clients, defense = parties(digits, 3, window=3)
    for turn in range(6):
        giver, receiver = clients[turn % 3], clients[(turn + 1) % 3]
        sl.u_shaped(giver, defense, sl.Wire())
        message = giver.weights().delivered(to="server")
        answers = [defense.handle(message) for _ in range(2)]
        one, other = (plain([a.state, a.optimizer, a.samples, a.to]) for a in answers)
        assert one == other
        assert len(defense.verdicts) == turn + 1
        receiver.load(answers[0].delivered(to=receiver.name))
    assert any(rolled_back for _, rolled_back in defense.verdicts)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"window": 2}, "window is 2: choose a whole number of at least 3"),
        ({"window": 3.5}, r"window is 3\.5: choose a whole number of at least 3"),
        ({"share": 0.0}, r"share is 0\.0: choose a share above 0 and at most 1"),
        ({"share": 1.2}, r"share is 1\.2: choose a share above 0 and at most 1"),
    ],
)
def test_what_makes_no_sense_gets_a_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        sl.SafeSplit(nn.Linear(2, 2), **options)
