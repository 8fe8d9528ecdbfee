"""SplitGuard: its score by hand, its false batches, and the servers that it cannot judge."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import splitlab as sl
from splitlab.core.client import Turn
from splitlab.defenses import SplitGuard
from splitlab.defenses.split_guard import raw_score, squashed

# The score


def by_hand(fake, first, second):
    """S of three lists of gradients, term by term."""
    r1, r2 = np.mean(first, 0), np.mean(second, 0)
    f, r = np.mean(fake, 0), (r1 + r2) / 2
    length = {
        name: np.mean([np.sqrt(np.sum(g**2)) for g in gradients])
        for name, gradients in (("f", fake), ("1", first), ("2", second))
    }

    def angle(a, b):
        return math.acos(np.sum(a * b) / math.sqrt(np.sum(a * a) * np.sum(b * b)))

    apart = abs(length["f"] - (length["1"] + length["2"]) / 2)
    within = abs(length["1"] - length["2"])
    return (angle(f, r) * apart - angle(r1, r2) * within) / (apart + within)


def measured(*kinds):
    """S as the detector has it, of the means."""
    means = torch.stack([torch.tensor(np.mean(kind, 0)) for kind in kinds])
    lengths = torch.tensor([np.linalg.norm(kind, axis=1).mean() for kind in kinds])
    return float(raw_score(means, lengths))


@pytest.mark.parametrize("seed", range(5))
def test_the_score_is_that_of_the_formula(seed):
    rng = np.random.default_rng(seed)
    kinds = [rng.normal(size=(n, 7)) * scale + 0.3 for n, scale in ((3, 2.0), (5, 1.0), (4, 1.1))]
    assert measured(*kinds) == pytest.approx(by_hand(*kinds), abs=1e-12)
    fake, first, second = kinds
    assert measured(fake, second, first) == pytest.approx(measured(*kinds), abs=1e-12)


X, Y = [1.0, 0.0], [0.0, 1.0]


@pytest.mark.parametrize(
    ("fake", "first", "second", "lengths", "expected"),
    [
        (Y, X, X, (3, 1, 1), math.pi / 2),  # the regular halves agree; false batches turn away
        ([-1.0, 0.0], X, X, (3, 1, 1), math.pi),
        ([2.0, 2.0], X, X, (0, 1, 1), math.pi / 4),  # shorter is a difference as well
        (X, X, Y, (1, 2, 0), -math.pi / 2),  # only the halves differ
        (X, X, X, (3, 1, 1), 0.0),  # the direction of a true batch
        (Y, X, X, (1, 1, 1), 0.0),  # the norm of a true batch
        ([1.0, 1.0], X, Y, (3, 1, 1), 0.0),  # R is the mean of R1 and R2
        (Y, X, [1.0, 1.0], (4, 1, 3), (2 * math.acos(5**-0.5) - 2 * math.pi / 4) / 4),
        ([0.0, 0.0], X, X, (3, 1, 1), 0.0),
        ([0.0, 0.0], [0.0, 0.0], [0.0, 0.0], (0, 0, 0), 0.0),
    ],
)
def test_scores_that_can_be_worked_out(fake, first, second, lengths, expected):
    means = torch.tensor([fake, first, second], dtype=torch.float64)
    score = float(raw_score(means, torch.tensor(lengths, dtype=torch.float64)))
    assert score == pytest.approx(expected, abs=1e-7)


def test_the_score_of_what_is_no_number_is_none():
    means, lengths = torch.ones(3, 2).double(), torch.tensor([2.0, 1.0, 1.0]).double()
    for broken in (means * math.nan, means * math.inf):
        assert raw_score(broken, broken.norm(dim=1)).isnan()
    assert raw_score(means, lengths * math.nan).isnan()


def test_squashing_has_its_hand_values():
    assert squashed(0.0) == 0.25
    assert squashed(math.log(3) / 5) == pytest.approx(0.75**2)
    assert squashed(math.log(3) / 2, alpha=2.0, beta=3.0) == pytest.approx(0.75**3)
    assert math.isnan(squashed(math.nan))


def test_in_degrees_as_in_one_published_file_every_server_looks_honest():
    """The squashing saturates: an angle of 4 degrees passes as well as one of 100."""
    threshold = SplitGuard().threshold
    hijacked, honest = 4.0, 100.0
    assert squashed(math.radians(hijacked)) < 0.4 < threshold < squashed(math.radians(honest))
    assert threshold < 0.9999 < squashed(hijacked) <= squashed(honest)
    means = torch.tensor([[math.cos(math.radians(100)), math.sin(math.radians(100))], X, X])
    assert float(raw_score(means, torch.tensor([2.0, 1.0, 1.0]))) == pytest.approx(1.745, abs=1e-3)


# Which batches are false


def stands_for_a_client(classes=4, n=2):
    """What the hooks look at: a step, classes, and a first parameter."""
    data = SimpleNamespace(classes=tuple("abcdefghijkl"[:classes]))
    return SimpleNamespace(step=0, data=data, net=nn.Linear(n, 1, bias=False))


def begun(guard, client, steps, labels):
    """The turns of so many steps, as the guard leaves them."""
    turns = []
    for client.step in range(steps):
        turns.append(Turn(x=torch.zeros(len(labels), 1), labels=labels.clone()))
        guard.begin(client, turns[-1])
    return turns


@pytest.mark.parametrize("classes", [2, 10])
def test_false_labels_are_all_shifted_by_one_number_and_every_number_occurs(classes):
    torch.manual_seed(0)
    labels = torch.arange(3 * classes) % classes
    guard = SplitGuard(false_share=0.9, after=0)
    shifts = set()
    for turn in begun(guard, stands_for_a_client(classes), 200, labels):
        shift = (turn.labels - labels) % classes
        assert shift.unique().numel() == 1
        assert int(turn.labels.min()) >= 0 and int(turn.labels.max()) < classes
        assert turn.fake == (int(shift[0]) != 0) and turn.update != turn.fake
        shifts.add(int(shift[0]))
    assert shifts == set(range(classes))  # classes - 1, too, which the published code never draws


def test_batches_are_false_at_their_rate_and_none_before_after():
    torch.manual_seed(0)
    guard = SplitGuard(false_share=0.1, after=20)
    turns = begun(guard, stands_for_a_client(), 3020, torch.tensor([0, 1, 2]))
    fake = [turn.fake for turn in turns]
    assert not any(fake[:20])
    assert sum(fake[20:]) / 3000 == pytest.approx(0.1, abs=4 * (0.1 * 0.9 / 3000) ** 0.5)
    assert [turn.update for turn in turns] == [not one for one in fake]


def test_without_labels_no_batch_is_false():
    turn = Turn(x=torch.zeros(2, 1))
    SplitGuard(false_share=0.999, after=0).begin(stands_for_a_client(), turn)
    assert not turn.fake and turn.update


def weights(net):
    return torch.cat([weight.detach().flatten() for weight in net.parameters()])


@pytest.mark.parametrize("u_shaped", [False, True])
def test_the_client_learns_from_true_batches_alone_and_the_server_from_all(
    make_client, u_shaped, digits
):
    torch.manual_seed(0)
    tail = nn.Linear(10, 10) if u_shaped else None
    guard = SplitGuard(false_share=0.5, after=2, stop=False)
    client, server = make_client(tail=tail, defenses=[guard]), sl.HonestServer(sl.tiny.server_net())
    shown = []

    def note(message, receiver):
        if isinstance(message, sl.SmashedData):
            shown.append(message.labels)
        return message.delivered()

    protocol, falsified = sl.u_shaped if u_shaped else sl.vanilla, []
    for step in range(12):
        parts = [client.net, server.net, *([tail] if u_shaped else [])]
        before, count = [weights(part) for part in parts], guard.counts[0]
        protocol(client, server, note)
        moved = [not torch.equal(weights(p), b) for p, b in zip(parts, before, strict=True)]
        fake = guard.counts[0] > count
        falsified.append(fake)
        assert moved == [not fake, True, not fake][: len(parts)], step
        if not u_shaped:
            end = client.sampler.position
            truth = digits[0].y[client.sampler.permutation[end - 16 : end]]
            assert torch.equal(shown[-1], truth) != fake
    assert not any(falsified[:2]) and 2 <= sum(falsified) <= 8


# What is kept, and what is seen


def feed(guard, client, gradients, fakes):
    """Show gradients of the first parameter, as `backward` would."""
    for step, (gradient, fake) in enumerate(zip(gradients, fakes, strict=True), start=client.step):
        client.step = step
        client.net.weight.grad = torch.tensor(gradient)[None]
        guard.grads(client, Turn(x=torch.zeros(1, 1), fake=fake))
    client.step += 1


def fed(steps, seed=0, scale=1.0, **options):
    """A guard after random gradients, with the kinds that it put them to."""
    rng = np.random.default_rng(seed)
    gradients = (scale * rng.normal(size=(steps, 5)) + 1).astype(np.float32)
    fakes = (rng.random(steps) < 0.3).tolist()
    guard, client = SplitGuard(stop=False, **options), stands_for_a_client(n=5)
    kinds, before = [], [0, 0, 0]
    torch.manual_seed(seed)
    for gradient, fake in zip(gradients.tolist(), fakes, strict=True):
        feed(guard, client, [gradient], [fake])
        if guard.counts != before:
            kinds.append([now - then for now, then in zip(guard.counts, before, strict=True)])
        before = list(guard.counts)
    return guard, gradients.astype(np.float64), fakes, [kind.index(1) for kind in kinds]


def test_each_score_is_that_of_all_gradients_so_far():
    guard, gradients, fakes, kinds = fed(60, after=0)
    assert [kind == 0 for kind in kinds] == fakes
    assert kinds.count(1) > 10 and kinds.count(2) > 10  # random halves
    expected, steps = [], []
    for step in range(60):
        by_kind = [gradients[: step + 1][np.array(kinds[: step + 1]) == k] for k in range(3)]
        if fakes[step] and all(len(kind) for kind in by_kind):
            expected.append(squashed(by_hand(*by_kind)))
            steps.append(step)
    assert [step for step, _ in guard.seen] == steps
    assert [score for _, score in guard.seen] == pytest.approx(expected, abs=1e-9)
    assert guard.alarms == [s for s, one in zip(steps, expected, strict=True) if one < 0.9]


def test_steps_before_after_are_not_looked_at():
    guard, _, fakes, kinds = fed(40, after=15)
    assert [kind == 0 for kind in kinds] == fakes[15:]
    assert min(step for step, _ in guard.seen) > 15


@pytest.mark.parametrize("window", [2, 20])
def test_a_window_averages_the_last_scores_and_waits_for_them(window):
    single, averaged = (fed(120, after=0, window=size)[0] for size in (1, window))
    scores = [score for _, score in single.seen]
    assert averaged.raw == single.raw and len(scores) > 22
    expected = [sum(scores[n - window : n]) / window for n in range(window, len(scores) + 1)]
    assert [score for _, score in averaged.seen] == pytest.approx(expected, abs=1e-12)
    assert [step for step, _ in averaged.seen] == [step for step, _ in single.seen[window - 1 :]]


def test_equal_gradients_score_zero_and_alarm():
    guard = SplitGuard(after=0, stop=False)
    fakes = [False] * 8 + [True, False, True]
    feed(guard, stands_for_a_client(n=4), [[0.5, 1.0, -2.0, 4.0]] * 11, fakes)
    assert guard.raw == pytest.approx([0.0, 0.0], abs=1e-6)
    assert guard.alarms == [8, 10]


def test_a_server_that_answers_with_zeros_scores_zero(make_client):
    class Zeros(sl.Server):
        def reply(self, message):
            return self.gradient(message, torch.zeros_like(message.z))

    client = make_client(defenses=[SplitGuard(false_share=0.5, after=0, stop=False)])
    sl.train([client], Zeros(), 10)
    guard = client.defenses[0]
    assert guard.raw and set(guard.raw) == {0.0}
    assert {score for _, score in guard.seen} == {0.25}


def test_the_sentence_says_how_many_false_batches_there_were():
    guard, client = SplitGuard(after=0), stands_for_a_client(n=2)
    with pytest.raises(sl.HijackingDetected) as caught:
        feed(guard, client, [X, X, X, X, X, X, X], [True] + [False] * 5 + [True])
    assert str(caught.value).startswith(
        "step 6: false batches so far: 2; the score is 0.25, because"
    )
