"""What several tests share: one thread, small data, and one hijack trained once."""

import pytest
import torch

import splitlab as sl


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Sums in one order: results are the same bits, and workers do not fight for cores."""
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
    """Make a tiny FSHA on the public digits; keyword arguments go to `FSHA`."""

    def make(design="fast", **options):
        settings = sl.tiny.fsha(digits[1], design=design) | {"batch_size": 16} | options
        return sl.FSHA(**settings)

    return make


@pytest.fixture(scope="session")
def hijack(digits):
    """(client, attack, log, snapshots): the tiny fast hijack, seed 0, as the chapter runs it."""
    private, public, _ = digits
    client = sl.Client(sl.tiny.client_net(), private, **sl.tiny.client())
    attack = sl.FSHA(**sl.tiny.fsha(public))
    snapshots = sl.Snapshots(every=100)
    steps = sl.tiny.default_steps("digits")
    return client, attack, sl.train([client], attack, steps, observers=[snapshots]), snapshots
