"""What several tests share: one thread, small data, and one hijack trained once.

`make test` runs them on two cores, by pytest-xdist.
"""

import os
from collections import Counter
from functools import partial
from itertools import chain

import pytest
import rotation
import torch

import splitlab as sl
from splitlab.attacks.critic import Critic

pytest.register_assert_rewrite("splitlab.course.conformance")  # its lists run here, too

RATES = pytest.StashKey[list[tuple[str, str, int, int]]]()
TOGETHER = ("tests/book", "tests/checks")  # folders of which one worker runs all
SLOWEST = 10  # how many files the output names


def pytest_configure(config):
    config.stash[RATES] = []
    try:
        # Workers inherit it: a commit made while they start would otherwise set them apart.
        os.environ["SPLITLAB_TURN"] = str(rotation.turn())
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_report_header():
    if rotation.everything():
        return "turn: everything (SPLITLAB_ALL)"
    number = rotation.turn()
    return f"turn: {number} (SPLITLAB_TURN={number} repeats it, SPLITLAB_ALL=1 runs everything)"


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config, log):
    """Keep together, in one worker, what shares what takes long: a file; the book; the checks.

    A check that is scored trains networks, and keeps them for its other answers.

    Marks of the kind `xdist_group` would say the same, but pytest-xdist 3.8 does not see them under
    pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFixture(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.split("::")[0]
            return next((name for name in TOGETHER if file.startswith(f"{name}/")), file)

    return ByFixture(config, log)


@pytest.fixture
def rates(request):
    """Note how many mutants passed an exercise's check, and how many right answers did not."""

    def note(stem, name, **counts):
        request.config.stash[RATES].append((stem, name, counts))

    return note


def pytest_sessionfinish(session):
    """Hand what a worker noted to the process that prints."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["rates"] = session.config.stash[RATES]
        session.config.workeroutput["chosen"] = rotation.chosen


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_testnodedown(node):
    """Collect what a worker that is done has noted."""
    output = getattr(node, "workeroutput", {})
    node.config.stash[RATES] += output.get("rates", [])
    rotation.chosen.update(output.get("chosen", {}))


def pytest_terminal_summary(terminalreporter, config):
    """Print the gate's kill rate, what had its turn, and the slowest files."""
    if rates := sorted(config.stash.get(RATES, []), key=lambda rate: rate[0].split("_")[0]):
        print_rates(terminalreporter, rates)
    if rotation.chosen:
        terminalreporter.section(pytest_report_header())
        for kind, names in sorted(rotation.chosen.items()):
            terminalreporter.line(f"{kind}: {', '.join(names)}")
    seconds = Counter()
    for report in chain(*terminalreporter.stats.values()):
        if isinstance(report, pytest.TestReport):  # of a setup, a call or a teardown
            seconds[report.nodeid.split("::")[0]] += report.duration
    if len(seconds) > 1:
        terminalreporter.section(f"slowest of {len(seconds)} files, with what their tests set up")
        for file, taken in seconds.most_common(SLOWEST):
            terminalreporter.line(f"{taken:>6.1f} s  {file}")


def print_rates(terminalreporter, rates):
    terminalreporter.section("checks: mutants that pass, right answers that are refused")
    found = {}
    for stem, name, counts in rates:
        found.setdefault((stem, name), Counter()).update(counts)
    for (stem, name), counts in found.items():
        terminalreporter.line(f"{stem.split('_')[0]:<3} {name:<23} {_rates(counts)}")
    terminalreporter.line(f"all: {_rates(sum(found.values(), Counter()))}")


def _rates(counts):
    return (
        f"{counts['passed']:>3} of {counts['mutants']:>4}, {counts['refused']:>3} of "
        f"{counts['right']:>4}"
    )


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Sums in one order: results are the same bits, and workers do not fight for cores."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def still_one_thread():
    """The compiler that comes with dcor sets the number of threads when it is first used."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def no_downloads(tmp_path_factory):
    """No test reaches the network, nor sees or changes the cache of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPLITLAB_OFFLINE", "1")
        patch.setenv("SPLITLAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def digits():
    """(private, public, referee) of the digits at 16x16, seed 0."""
    return sl.tiny.split("digits", 0)


@pytest.fixture
def make_client(digits):
    """Make a tiny client on the private digits; keyword arguments go to `Client`."""

    def make(net=None, **options):
        options = {"optimizer": sl.tiny.client_optimizer, "batch_size": 16} | options
        net = sl.tiny.client_net(seed=0) if net is None else net
        return sl.Client(net, digits[0], **options)

    return make


@pytest.fixture
def make_attack(digits):
    """Make a tiny FSHA on the public digits; keyword arguments go to `FSHA.at`."""

    def make(design="fast", **options):
        return sl.FSHA.at(sl.tiny, digits[1], design=design, **{"batch_size": 16} | options)

    return make


@pytest.fixture
def change_critic():
    """Make the critic of an FSHA anew, with other options of `Critic`; return the FSHA.

    The network and the options that are not named stay.
    """

    def change(attack, **options):
        critic = attack.critic
        kept = {
            "through": critic.through,
            "loss": critic.loss_name,
            "penalty": critic.penalty,
            "penalty_weight": critic.penalty_weight,
            "optimizer": partial(type(critic.optimizer), **critic.optimizer.defaults),
            "rate": critic.schedule.lr_lambdas[0],
        }
        attack.critic = Critic(critic.net, **kept | options)
        return attack

    return change


@pytest.fixture(scope="module")
def short_referee():
    """The referee trains a few steps: for modules that do not ask how good its figures are."""
    images = sl.referee.images
    with pytest.MonkeyPatch.context() as patch:
        train = partial(images.train_cnn_classifier, steps=20)
        patch.setattr(images, "train_cnn_classifier", train)
        patch.setattr(images, "ORACLE_STEPS", 20)
        patch.setattr(images, "_trained", {})  # no other module meets these classifiers
        yield


@pytest.fixture(scope="session")
def hijack(digits):
    """(client, attack, log, snapshots): the tiny fast hijack, seed 0, as the chapter runs it."""
    private, public, _ = digits
    client = sl.Client(sl.tiny.client_net(), private, **sl.tiny.client())
    attack = sl.FSHA.at(sl.tiny, public)
    snapshots = sl.Snapshots(every=100)
    steps = sl.tiny.default_steps("digits")
    return client, attack, sl.train([client], attack, steps, observers=[snapshots]), snapshots
