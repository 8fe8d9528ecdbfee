"""The settings of the profiles, and the attacker's schedules."""

import dataclasses
import os
from pathlib import Path

import pytest
import torch

import splitlab as sl
from splitlab.attacks.schedules import falling, half_at
from splitlab.data.published import missing
from splitlab.settings import LOADERS


@pytest.mark.parametrize("cut", [1, 2, 3, 4])
@pytest.mark.parametrize("design", ["fast", "paper"])
def test_both_designs_run_at_every_cut(digits, cut, design):
    private, public, _ = digits
    client = sl.Client(sl.tiny.client_net(cut=cut), private, **sl.tiny.client())
    attack = sl.FSHA.at(sl.tiny, public, design=design, cut=cut)
    log = sl.train([client], attack, 2)
    assert all(torch.tensor(log[name]).isfinite().all() for name in log)


def test_the_papers_scale_uses_the_papers_defaults(digits):
    public = digits[1]
    grey = sl.data.digits(size=32, channels=3)
    critic = sl.FSHA.at(sl.paper, grey, design="paper", steps=10).critic
    assert critic.penalty == "channel"
    assert critic.optimizer.param_groups[0]["lr"] == 1e-4
    assert sl.nets.parameter_count(critic.net) == 8_262_145
    assert sl.nets.parameter_count(sl.FSHA.at(sl.paper, grey, steps=10).critic.net) == 427_361
    assert public.shape == (1, 16, 16)


def test_one_client_optimizer_per_setting_honest_or_hijacked():
    for setting in sl.PROFILES.values():
        options = setting.client()
        optimizer = options["optimizer"]([torch.nn.Parameter(torch.zeros(1))])
        group = optimizer.param_groups[0]
        assert isinstance(optimizer, torch.optim.Adam)
        assert (group["lr"], group["betas"]) == (setting.client_rate, (0.9, 0.999))
    other = sl.tiny.client(rate=0.5)["optimizer"]([torch.nn.Parameter(torch.zeros(1))])
    assert other.param_groups[0]["lr"] == 0.5


def test_unknown_and_senseless_data_get_a_sentence():
    with pytest.raises(ValueError, match="there is no data set 'cifar'"):
        sl.tiny.split("cifar", 0)
    with pytest.raises(ValueError, match="digits makes no sense at profile paper"):
        sl.paper.split("digits", 0)


@pytest.mark.parametrize("name", ["orl_faces", "omniglot", "cifar10", "celeba", "tiny_imagenet"])
def test_photographs_and_alphabets_make_no_sense_at_tiny_scale(name):
    with pytest.raises(
        ValueError, match=f"{name} makes no sense at profile tiny: use profile gpu or paper, or ch"
    ):
        sl.tiny.split(name, 0)


def test_every_set_has_a_profile_and_every_step_count_a_set():
    assert set(LOADERS) == set(sl.data_cards.CARDS)
    assert set(sl.tiny.steps) | set(sl.gpu.steps) == set(LOADERS)
    for setting in sl.PROFILES.values():
        assert set(setting.steps) <= set(LOADERS)
        assert set(setting.private) | set(setting.loader_options) <= set(setting.steps)
        for name in setting.steps:
            assert setting.default_steps(name) > 0


@pytest.mark.parametrize(
    "profile, shape, counts",
    [
        ("tiny", (1, 16, 16), (4286, 2857, 2857)),
        ("gpu", (3, 32, 32), (4286, 2857, 2857)),
        ("paper", (3, 32, 32), (4286, 2857, 2857)),
    ],
)
def test_drawn_faces_at_every_profile(profile, shape, counts):
    parts = sl.PROFILES[profile].split("drawn_faces", 0)
    assert tuple(map(len, parts)) == counts
    assert {part.shape for part in parts} == {shape}
    assert set(parts.public.attributes) == set(sl.data_cards.card("drawn_faces").attributes)


@pytest.mark.parametrize(
    "name, counts, blocks",
    [("orl_faces", (200, 160, 40), (20, 16, 4)), ("omniglot", None, (3, 3, 2))],
)
def test_the_original_files_at_the_profile_gpu(name, counts, blocks):
    root = os.environ.get("SPLITLAB_DATA") or "nowhere"
    for files in sl.data_cards.card(name).files[:2]:
        if missing(files, Path(root) / files.folder):
            pytest.skip(f"SPLITLAB_DATA does not hold the original files of {files.name}")
    parts = sl.gpu.split(name, 0)
    assert {part.shape for part in parts} == {(3, 32, 32)}
    assert tuple(len(part.block.unique()) for part in parts) == blocks
    assert not counts or tuple(map(len, parts)) == counts


@pytest.fixture
def asked(monkeypatch):
    """Loaders that make 70 random images, and what each was asked for."""
    calls = {}

    def loader(name):
        def load(**options):
            calls[name] = options
            x = torch.rand(70, 3, 4, 4)
            rows = None if name in ("omniglot", "celeba") else 60
            return sl.ImageData(x, torch.zeros(70).long(), ("a",), name, train_rows=rows)

        return load

    for name in ("omniglot", "cifar10", "celeba", "tiny_imagenet"):
        monkeypatch.setitem(LOADERS, name, loader(name))
    return calls


def test_large_sets_are_loaded_in_part_and_limited_at_the_profile_gpu(asked, monkeypatch):
    monkeypatch.setitem(sl.gpu.private, "celeba", 20)
    private, public, referee = sl.gpu.split("celeba", 0)
    assert asked["celeba"] == {"size": 32, "channels": 3, "n": 70_000}
    assert (len(private), len(public), len(referee)) == (20, 20, 20)


def test_the_papers_scale_splits_by_published_file_where_there_is_one(asked):
    assert sl.paper.split("cifar10", 0).referee is None
    assert tuple(map(len, sl.paper.split("tiny_imagenet", 0)[:2])) == (60, 10)
    assert [len(part) for part in sl.paper.split("celeba", 0)] == [30, 20, 20]
    assert [len(part) for part in sl.paper.split("omniglot", 0)] == [30, 20, 20]
    archives = ("background", "evaluation")
    assert asked["omniglot"] == {"size": 32, "channels": 3, "archives": archives}
    assert asked["celeba"] == {"size": 32, "channels": 3}


def test_an_honest_server_has_as_many_classes_as_asked_for(digits):
    z = sl.tiny.client_net()(digits[0].x[:3])
    assert sl.tiny.server_net(classes=2)(z).shape == (3, 2)
    assert sl.tiny.server_net()(z).shape == (3, 10)


def test_data_of_ones_own_need_a_step_count(digits):
    mine = dataclasses.replace(digits[1], name="mine")
    with pytest.raises(ValueError, match="no step count for 'mine': pass steps"):
        sl.FSHA.at(sl.tiny, mine)
    (rate,) = sl.FSHA.at(sl.tiny, mine, steps=10).critic.schedule.lr_lambdas
    assert rate(10) == 0.5
    part = digits[1].split(0)[1]
    assert "(public)" in part.name
    assert sl.FSHA.at(sl.tiny, part).critic_steps == 3


@pytest.fixture
def cpu(monkeypatch):
    """Pretend that torch finds these capabilities; an older torch has only the private question."""

    def has(*names, torch_version="2.11", onednn=True):
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: onednn)
        monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
        monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
        if torch_version == "2.11":
            found = {"architecture": "x86_64"} | dict.fromkeys(names, True)
            monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
        elif torch_version == "2.6":
            answer = "avx512_bf16" in names
            monkeypatch.setattr(
                torch.cpu, "_is_avx512_bf16_supported", lambda: answer, raising=False
            )

    return has


@pytest.mark.parametrize("torch_version", ["2.11", "2.6"])
@pytest.mark.parametrize("profile", ["gpu", "paper"])
@pytest.mark.parametrize(
    "names, precision",
    [
        (("avx2",), None),
        (("avx2", "avx512_f", "avx512_vnni"), None),
        (("avx2", "avx512_f", "avx512_bf16"), torch.bfloat16),
        (("avx512_f", "avx512_bf16", "amx_tile", "amx_bf16"), torch.bfloat16),
        (("neon", "bf16"), None),  # oneDNN has no bfloat16 kernels for its backward pass
    ],
)
def test_a_cpu_computes_in_bfloat16_only_with_the_instructions(
    cpu, torch_version, profile, names, precision
):
    cpu(*names, torch_version=torch_version)
    assert sl.PROFILES[profile].precision("cpu") is precision
    assert sl.PROFILES[profile].precision(torch.device("cpu")) is precision


def test_a_cpu_of_which_torch_cannot_tell_computes_in_full_precision(cpu):
    cpu("avx512_bf16", torch_version="some other")
    assert sl.paper.precision("cpu") is None
    cpu("avx512_bf16", onednn=False)
    assert sl.paper.precision("cpu") is None
    cpu("avx512_bf16")
    assert sl.paper.precision("meta") is None


@pytest.mark.parametrize(
    "capability, precision", [((7, 5), None), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)]
)
def test_a_gpu_computes_in_bfloat16_from_8_0_on(cpu, monkeypatch, capability, precision):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    cpu("avx2")
    assert sl.gpu.precision("cuda") is precision
    assert sl.paper.precision("cuda:1") is precision


def test_tiny_always_computes_in_full_precision(cpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    cpu("avx512_bf16", "amx_bf16")
    assert sl.tiny.precision("cpu") is None
    assert sl.tiny.precision("cuda") is None


def test_schedules():
    factor = falling(240)
    assert factor(0) == factor(140) == 1
    assert factor(190) == pytest.approx(0.2**0.5)
    assert factor(240) == factor(500) == pytest.approx(0.2)
    assert [half_at(100)(step) for step in (0, 50, 100, 200)] == [1, 0.75, 0.5, 0.5]
