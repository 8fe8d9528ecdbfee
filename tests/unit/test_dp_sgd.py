"""DP-SGD against a slow loop over images, opacus' accountant, and what it refuses."""

import copy
import sys
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam

import splitlab as sl
from splitlab.course.conformance.examples import assert_same, everything, killed_run
from splitlab.defenses import DPSGD, ClipGradient, NoPeek, NormAlarm, SetNorm
from splitlab.defenses.per_image import clipped_sums

pytest.importorskip("opacus")
ROWS, BATCH = 64, 16


@pytest.fixture(scope="module")
def data():
    return sl.tiny.split("digits", 0).private.subset(ROWS, seed=0)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def conv_net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, 2, 1), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(256, 6)
    )


def client_with(data, *defenses, net=None, optimizer=partial(SGD, lr=1.0), **options):
    net = conv_net() if net is None else net
    options = {"batch_size": BATCH, "seed": 0} | options
    return sl.Client(net, data, optimizer=optimizer, defenses=defenses, **options)


def answered(client, dz=None):
    """(turn, dz, what the weights moved by) of one turn of a client."""
    message, turn = client.forward(), client.turn
    if dz is None:
        dz = torch.randn(message.z.shape, generator=torch.Generator().manual_seed(1))
    before = [one.detach().clone() for one in client.net.parameters()]
    client.backward(sl.Gradient(dz=dz, sender="server", step=client.step))
    moved = [old - new.detach() for old, new in zip(before, client.net.parameters(), strict=True)]
    return turn, dz, moved


def by_loop(net, x, dz, clip):
    """The clipped sum, image by image, and the images' norms."""
    sums, norms = [torch.zeros_like(one) for one in net.parameters()], []
    for image, answer in zip(x, dz, strict=True):
        gradients = torch.autograd.grad(
            (net(image[None]) * answer[None]).sum() * len(x), list(net.parameters())
        )
        norm = float(sum((one**2).sum() for one in gradients).sqrt())
        norms.append(norm)
        for total, one in zip(sums, gradients, strict=True):
            total += one * min(1.0, clip / norm)
    return sums, norms


@pytest.mark.parametrize("poisson", [False, True])
@pytest.mark.parametrize("clip", [1e-3, 500.0, 1e6])
def test_without_noise_a_step_is_the_clipped_sum_of_a_loop_over_images(data, clip, poisson):
    rate = max(1.0, 1 / clip)  # a short step would vanish in the weights' rounding
    defense = DPSGD(0.0, clip=clip, poisson=poisson)
    client = client_with(data, defense, optimizer=partial(SGD, lr=rate))
    net = copy.deepcopy(client.net)
    turn, dz, moved = answered(client)
    sums, norms = by_loop(net, turn.x.detach(), dz, clip)
    clipped = {1e-3: len(turn.x), 500.0: sum(norm > 500 for norm in norms), 1e6: 0}[clip]
    assert clip != 500 or 0 < clipped < len(turn.x)
    for mine, theirs in zip(moved, sums, strict=True):
        expected = rate * theirs / BATCH  # the expected size, whatever the sample's
        torch.testing.assert_close(mine, expected, rtol=1e-3, atol=1e-5 * float(expected.norm()))


def test_a_client_without_clipping_and_noise_learns_what_it_learns_without_the_defense(data):
    moved = [
        answered(client_with(data, *defenses))[2]
        for defenses in ([], [DPSGD(0.0, clip=1e9, poisson=False)])
    ]
    for plain, defended in zip(*moved, strict=True):
        torch.testing.assert_close(defended, plain, rtol=1e-3, atol=1e-6)


def test_a_clipped_image_has_the_norm_and_one_that_is_not_finite_adds_nothing():
    weights = [
        nn.Parameter(torch.zeros(2)),
        nn.Parameter(torch.zeros(1)),
        nn.Parameter(torch.ones(3)),
    ]
    first = torch.tensor([[3.0, 0.0], [0.3, 0.0], [float("nan"), 1.0], [0.0, 0.0]])
    second = torch.tensor([[4.0], [0.4], [1.0], [0.0]])
    sums = clipped_sums(weights, [first, second, None], 1.0)
    torch.testing.assert_close(sums[0], torch.tensor([0.6 + 0.3, 0.0]))
    torch.testing.assert_close(sums[1], torch.tensor([0.8 + 0.4]))
    assert not sums[2].any()


def test_the_noise_is_normal_at_noise_times_clip_and_from_the_clients_own_state(data):
    moved = []
    for seed in (0, 1, 1):
        client = client_with(data, DPSGD(1.5, clip=0.2, poisson=False), seed=seed)
        moved.append(answered(client, dz=torch.zeros(BATCH, 6))[2])
        torch.rand(3)  # of the global stream, which is another one
    flat = [torch.cat([one.flatten() for one in each]) * BATCH for each in moved]
    assert float(flat[0].std()) == pytest.approx(1.5 * 0.2, rel=0.05)
    assert abs(float(flat[0].mean())) < 4 * 0.3 / len(flat[0]) ** 0.5
    assert torch.equal(flat[1], flat[2]) and not torch.equal(flat[0], flat[1])


@pytest.mark.parametrize(
    ("batch", "rows", "steps", "known"), [(32, 896, 400, 1.70), (32, 896, 60, 0.669)]
)
def test_epsilon_is_that_of_the_accountant(data, batch, rows, steps, known):
    from opacus.accountants import RDPAccountant

    large = data.select(torch.arange(rows) % ROWS)
    defense = DPSGD(2.0)
    client_with(large, defense, batch_size=batch)
    accountant = RDPAccountant()
    for _ in range(steps):
        accountant.step(noise_multiplier=2.0, sample_rate=batch / rows)
    assert defense.epsilon(steps) == accountant.get_epsilon(1e-5)
    assert defense.epsilon(steps) == pytest.approx(known, abs=0.005)
    assert defense.epsilon() == defense.epsilon(0) == 0
    assert not defense.nominal and DPSGD(2.0, poisson=False).nominal


def test_without_noise_epsilon_is_infinite(data):
    client = client_with(data, defense := DPSGD(0.0))
    assert defense.epsilon() == 0
    answered(client)
    assert defense.epsilon() == float("inf")


def test_poisson_samples_have_binomial_sizes_and_rows_that_fit(data):
    client = client_with(data, defense := DPSGD(1.0))
    turns = [answered(client)[0] for _ in range(300)]
    sizes = torch.tensor([float(len(turn.x)) for turn in turns])
    variance = ROWS * 0.25 * 0.75
    assert float(sizes.mean()) == pytest.approx(BATCH, abs=4 * (variance / 300) ** 0.5)
    assert float(sizes.var()) == pytest.approx(variance, rel=0.4)
    counts = torch.bincount(torch.cat([turn.index for turn in turns]), minlength=ROWS)
    assert counts.min() > 300 * 0.25 - 5 * 7.5 and counts.max() < 300 * 0.25 + 5 * 7.5
    for turn in turns[:5]:
        assert torch.equal(turn.x.detach(), data.x[turn.index])
        assert torch.equal(turn.labels, data.y[turn.index])
    assert defense.steps == 300 + defense.empty == client.step + defense.empty


def test_an_empty_sample_is_a_step_with_noise_alone_and_sends_nothing(data):
    client = client_with(data.subset(20, seed=0), defense := DPSGD(1.0, clip=0.5), batch_size=1)
    seen, empty_before = [], 0
    for _ in range(60):
        before = [one.detach().clone() for one in client.net.parameters()]
        message = client.forward()
        moved = any(
            not torch.equal(old, new)
            for old, new in zip(before, client.net.parameters(), strict=True)
        )
        assert moved == (defense.empty > empty_before)
        empty_before = defense.empty
        seen.append(len(message.z))
        client.backward(
            sl.Gradient(dz=torch.zeros_like(message.z), sender="server", step=client.step)
        )
    assert min(seen) == 1
    # A sample is empty with probability .95 ** 20 = .358: 33 such samples among 60 others.
    assert 12 < defense.empty < 66
    assert defense.steps == 60 + defense.empty
    assert defense.epsilon() == defense.epsilon(defense.steps) > defense.epsilon(60)


def test_a_turn_that_takes_no_step_is_not_counted(data):
    class NoStep(sl.Defense):
        def begin(self, client, turn):
            turn.update = False

    client = client_with(data, defense := DPSGD(1.0), NoStep())
    _, _, moved = answered(client)
    assert defense.steps == 0 and not any(one.any() for one in moved)


def test_the_network_has_no_hooks_and_no_leftovers_between_turns(data):
    client = client_with(data, DPSGD(1.0))
    attributes = [dict(vars(layer)).keys() for layer in client.net.modules()]
    client.forward()
    client.smash(data.x[:4], training_mode=True)  # in the middle of a turn
    client.turn = None  # a turn that is given up
    answered(client)
    assert [dict(vars(layer)).keys() for layer in client.net.modules()] == attributes
    assert not any(layer._forward_hooks or layer._backward_hooks for layer in client.net.modules())
    assert not any(vars(weight) for weight in client.net.parameters())
    assert torch.equal(copy.deepcopy(client.net).eval()(data.x), client.smash(data.x).z)


@pytest.mark.filterwarnings("error")
def test_a_run_says_nothing_beside_a_defense_that_looks_at_the_gradient(data):
    watching = NormAlarm(1e-6, stop=False)
    client = client_with(data, DPSGD(1.0), watching, optimizer=partial(Adam, lr=1e-3))
    sl.train([client], sl.HonestServer(nn.Linear(6, 10)), 3)


def with_batch_norm():
    inner = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.1))
    return nn.Sequential(inner, nn.Flatten(), nn.Linear(8 * 14 * 14, 6), nn.BatchNorm1d(6))


def test_batch_norm_is_replaced_and_the_optimizer_trains_what_replaces_it(data):
    net = with_batch_norm()
    defense = DPSGD(1.0, replace_batch_norm=True)
    client = client_with(data, defense, net=net, optimizer=partial(Adam, lr=0.1))
    assert client.net is net
    kinds = [layer.num_groups for layer in net.modules() if isinstance(layer, nn.GroupNorm)]
    assert kinds == [2, 1] and not any("running" in name for name in net.state_dict())
    (group,) = client.optimizer.param_groups
    assert [id(one) for one in group["params"]] == [id(one) for one in net.parameters()]
    _, _, moved = answered(client)
    assert all(one.any() for one in moved)


def test_a_network_that_is_one_batch_norm_is_replaced_too(data):
    client = client_with(data, DPSGD(1.0, replace_batch_norm=True), net=nn.BatchNorm2d(1))
    assert isinstance(client.net, nn.GroupNorm)
    assert all(one.any() for one in answered(client)[2])


@pytest.mark.parametrize("norm", [nn.InstanceNorm2d(2), nn.GroupNorm(2, 2)])
def test_a_bias_whose_gradient_is_0_is_no_reason_to_refuse(data, norm):
    client = client_with(data, DPSGD(1.0), net=nn.Sequential(nn.Conv2d(1, 2, 3), norm))
    assert all(one.any() for one in answered(client)[2])


class Centered(nn.Module):
    """Mixes the images of a batch, and is no BatchNorm."""

    def forward(self, x):
        return x - x.mean(0)


def linear(*layers):
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(256, 4))


REFUSED = {
    "BatchNorm": (with_batch_norm, [], "has BatchNorm, .*: use GroupNorm, or pass replace_batch"),
    "mixing": (lambda: linear(Centered()), [], "depends on the other images .*: use layers that"),
    "statistics": (
        lambda: linear(nn.InstanceNorm2d(1, track_running_stats=True)),
        [],
        "keeps statistics of its images in 0.running_mean, .*: use layers without",
    ),
    "in place": (
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True)),
        [],
        "no gradients per image .*: use layers .* without inplace=True",
    ),
    "padding": (
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3, padding=2, padding_mode="circular")),
        [],
        "wrong gradients per image for 0.weight .*: use plain layers",
    ),
    "own loss": (conv_net, [NoPeek(1.0)], r"NoPeek\(1, .*\) adds gradients .*: leave out one"),
    "a clip": (conv_net, [ClipGradient(0.1)], r"depend on the others.*: leave it out"),
    "one norm": (conv_net, [SetNorm()], r"depend on the others.*: leave it out"),
    "twice": (conv_net, [DPSGD(1.0)], r"DPSGD\(1, .*\) adds gradients .*: leave out one"),
}


@pytest.mark.parametrize("net, others, sentence", REFUSED.values(), ids=REFUSED.keys())
def test_what_it_refuses_stays_as_it_was(data, net, others, sentence):
    net, defense = net(), DPSGD(1.0)
    before, own = everything(net), everything(defense)
    with pytest.raises(ValueError, match=sentence) as caught:
        client_with(data, defense, *others, net=net)
    assert "\n" not in str(caught.value)
    assert everything(net) == before and everything(defense) == own


def test_a_defense_before_it_that_changes_batches_is_refused(data):
    class Begins(sl.Defense):
        def begin(self, client, turn):
            turn.fake = True

    with pytest.raises(ValueError, match=r"changes a batch .*: list DPSGD before it"):
        client_with(data, Begins(), DPSGD(1.0))
    client_with(data, Begins(), DPSGD(1.0, poisson=False))
    client_with(data, DPSGD(1.0), Begins())


def test_a_tail_is_refused(data):
    with pytest.raises(ValueError, match=r"trains a tail .*: leave out the tail, and use protocol"):
        client_with(data, DPSGD(1.0), tail=nn.Linear(10, 10))


def test_without_opacus_it_says_what_to_install(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "opacus", None)
    with pytest.raises(ImportError, match=r'run pip install "splitlab\[dp\]"'):
        client_with(data, DPSGD(1.0))


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: DPSGD(-1.0), ValueError, r"noise is -1\.0: choose"),
        (lambda: DPSGD(float("nan")), ValueError, "noise is nan: choose"),
        (lambda: DPSGD(1.0, clip=0), ValueError, "clip is 0: choose a finite number above 0"),
        (lambda: DPSGD(1.0, delta=1), ValueError, "delta is 1: choose"),
        (lambda: DPSGD("a lot"), ValueError, "noise is 'a lot': choose"),
        (lambda: DPSGD(1.0).epsilon("two"), ValueError, "steps is 'two': choose"),
        (lambda: DPSGD(1.0).epsilon(), RuntimeError, "has no client yet: pass it in"),
        (lambda: DPSGD(1.0).epsilon(-1), ValueError, "steps is -1: choose"),
    ],
)
def test_what_makes_no_sense_gets_a_sentence(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call()


@pytest.mark.parametrize("batch", [1, BATCH])
def test_poisson_samples_and_noise_resume_to_the_last_bit(data, batch, tmp_path):
    def make():
        net = with_batch_norm()
        defense = DPSGD(1.0, replace_batch_norm=True)
        adam = partial(Adam, lr=1e-2)
        few = data.subset(BATCH, seed=0)
        client = client_with(few, defense, net=net, optimizer=adam, batch_size=batch)
        return client, sl.HonestServer(nn.Linear(6, 10))

    def seeded():
        torch.manual_seed(0)
        return make()

    whole = seeded()
    sl.train([whole[0]], whole[1], 4)
    killed, _ = killed_run(seeded, tmp_path / "run")
    assert_same(whole, killed)
    assert batch > 1 or whole[0].defenses[0].empty > 0
