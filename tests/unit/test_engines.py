"""One notebook at a time on each GPU: the locks, on a machine that seems to have two of them."""

from threading import Thread

import pytest

from splitlab.course.batch import engines


@pytest.fixture
def two_gpus(monkeypatch, tmp_path):
    monkeypatch.setattr(engines.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(engines.torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(engines.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_two_notebooks_get_two_gpus_and_a_third_one_waits(two_gpus):
    seen = []

    def third():
        with engines._gpu("cuda") as environment:
            seen.append(environment)

    with engines._gpu("cuda") as one:
        with engines._gpu("cuda") as other:
            waiting = Thread(target=third)
            waiting.start()
            waiting.join(0.5)
            assert not seen
        waiting.join(60)
        assert one == {"CUDA_VISIBLE_DEVICES": "0"}
        assert other == {"CUDA_VISIBLE_DEVICES": "1"}
        assert seen == [other], "the first one is still in use"


def test_only_the_gpus_that_may_be_seen_are_used(two_gpus, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    with engines._gpu("cuda:1") as numbered, engines._gpu("cuda") as first:
        assert numbered == {}, "the notebook counts the GPUs itself"
        assert first == {"CUDA_VISIBLE_DEVICES": "5"}


def test_a_notebook_that_fails_gives_its_gpu_back(two_gpus):
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), engines._gpu("cuda:0"):
            raise ZeroDivisionError


def test_the_cpu_is_not_held(two_gpus, tmp_path):
    with engines._gpu("cpu") as environment:
        assert environment == {}
    assert not list(tmp_path.iterdir())
