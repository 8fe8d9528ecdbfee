"""States in files: exact, whole or not at all, and refused in one sentence when damaged."""

import errno
import os
import subprocess
import sys
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save as to_safetensors
from safetensors.torch import save_file

from splitlab import CheckpointError
from splitlab.core import files
from splitlab.core.files import load, save
from splitlab.data.base import fingerprint

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
)
KEYS = st.one_of(st.integers(), st.text(max_size=3), st.tuples(st.text(max_size=2), st.integers()))
STATES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(KEYS, inner, max_size=3),
    ),
    max_leaves=12,
)


def kinds(value):
    """The types all the way down, for 1 == 1.0 == True."""
    if isinstance(value, dict):
        return {kinds(k): kinds(v) for k, v in value.items()}.__repr__()
    if isinstance(value, list | tuple):
        return repr((type(value), [kinds(item) for item in value]))
    return repr((type(value), value))


@settings(deadline=None)  # a busy machine takes its time
@given(STATES)
def test_states_come_back_as_they_were(tmp_path_factory, state):
    path = tmp_path_factory.getbasetemp() / "state"
    save(state, path)
    assert load(path) == state
    assert kinds(load(path)) == kinds(state)


TENSORS = {
    "scalar": torch.tensor(0.1),
    "number": torch.tensor(7),
    "empty": torch.empty(0, 3),
    "bfloat16": torch.tensor([1.5, -2.25], dtype=torch.bfloat16),
    "half": torch.tensor([[0.1]], dtype=torch.float16),
    "double": torch.tensor([0.1, float("nan"), -0.0], dtype=torch.float64),
    "bytes": torch.arange(5, dtype=torch.uint8),
    "bool": torch.tensor([True, False]),
    "int64": torch.tensor([2**62]),
    "view": torch.arange(12.0).view(3, 4).t()[1:],
    "channels last": torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last),
    "expanded": torch.rand(2, 1, 2).expand(2, 3, 2),
    "parameter": torch.nn.Parameter(torch.rand(2)),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_come_back_to_the_last_bit(tmp_path, name):
    tensor = TENSORS[name]
    save({0: [tensor]}, tmp_path / "state")
    back = load(tmp_path / "state")[0][0]
    assert (back.dtype, back.shape) == (tensor.dtype, tensor.shape)
    bits = [t.detach().contiguous().view(-1).view(torch.uint8) for t in (tensor, back)]
    assert torch.equal(*bits)


def test_not_a_number_comes_back(tmp_path):
    save([float("nan"), float("inf"), float("-inf")], tmp_path / "state")
    nan, *infinities = load(tmp_path / "state")
    assert nan != nan
    assert infinities == [float("inf"), float("-inf")]


def test_shared_tensors_are_stored_once_and_others_share_nothing(tmp_path):
    shared = torch.rand(1000)
    state = [shared, shared, shared.detach(), shared[:500], torch.empty(0), torch.empty(0)]
    save(state, tmp_path / "state")
    one, two, three, part, *empty = load(tmp_path / "state")
    assert one is two is three
    assert torch.equal(part, shared[:500])
    pointers = {t.untyped_storage().data_ptr() for t in (one, part)}
    assert len(pointers) == 2
    assert empty[0] is not empty[1]
    assert (tmp_path / "state").stat().st_size < 2 * 4000 + 1500


def test_equal_states_give_equal_files(tmp_path):
    state = {"weights": [torch.rand(3), torch.zeros(2, dtype=torch.int64)], "step": 3}
    files = set()
    for _ in range(10):
        save(state, tmp_path / "state")
        files.add((tmp_path / "state").read_bytes())
    assert len(files) == 1


def test_an_optimizers_state_comes_back(tmp_path):
    net = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(net.parameters(), betas=(0.5, 0.9))
    net(torch.rand(4, 3)).sum().backward()
    optimizer.step()
    save(optimizer.state_dict(), tmp_path / "state")
    back = load(tmp_path / "state")
    assert list(back["state"]) == [0, 1]
    assert back["param_groups"] == optimizer.state_dict()["param_groups"]
    assert isinstance(back["param_groups"][0]["betas"], tuple)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (object(), r"state\[1\]\['a'\] is of type object"),
        (lambda: 0, r"is of type function.*let state_dict return"),
        (torch.eye(2).to_sparse(), r"state\[1\]\['a'\] is not a plain dense tensor"),
        (torch.zeros(2, dtype=torch.complex128), "complex128, which safetensors cannot hold"),
    ],
    ids=["object", "function", "sparse", "complex"],
)
def test_what_cannot_be_saved_is_named_and_the_file_kept(tmp_path, value, sentence):
    path = tmp_path / "state"
    save("before", path)
    with pytest.raises(TypeError, match=sentence):
        save([1, {"a": value}], path)
    assert load(path) == "before"


def test_damage_anywhere_is_found(tmp_path):
    path = tmp_path / "state"
    save({"weights": torch.rand(20), "rows": torch.arange(3), "step": 3}, path)
    whole = path.read_bytes()
    damaged = [whole[:-1], whole[: len(whole) // 2], b"", b"PK\x03\x04 a zip file", whole + b"x"]
    for position, byte in enumerate(whole):
        for bit in range(8):
            flipped = bytes([byte ^ 1 << bit])
            damaged.append(whole[:position] + flipped + whole[position + 1 :])
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
            load(path)
    path.write_bytes(whole)
    assert load(path)["step"] == 3


def test_foreign_and_missing_files_are_refused(tmp_path):
    save_file({"weights": torch.rand(3)}, tmp_path / "foreign", {"format": "pt"})
    with pytest.raises(CheckpointError, match="its format is unknown, not splitlab state 1"):
        load(tmp_path / "foreign")
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint .*moon"):
        load(tmp_path / "moon")


def test_a_state_that_is_no_training_run_is_refused(tmp_path, make_client, make_attack):
    import splitlab as sl

    save({"step": 3}, tmp_path / "state")
    with pytest.raises(CheckpointError, match="it holds no training run"):
        sl.train([make_client()], make_attack(), 1, checkpoint=tmp_path / "state")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "state"
    save("before", path)

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    sentence = r"cannot be written \(No space left on device\) and is as it was before: free some"
    with pytest.raises(CheckpointError, match=sentence):
        save("after", path)
    assert load(path) == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_in_the_middle_of_a_run_keeps_the_last_good_state(
    tmp_path, make_client, make_attack, monkeypatch
):
    import splitlab as sl

    class Fills(sl.Observer):
        """Fills the disk in a step."""

        def step(self, step, client, server):
            if step == 2:
                monkeypatch.setattr(os, "fsync", full)

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    def train(*observers):
        return sl.train([make_client()], make_attack(), 4, observers=observers, **options)

    options = {"checkpoint": tmp_path / "run", "every": 1}
    with pytest.raises(CheckpointError, match="and is as it was before: free some space"):
        train(Fills())
    assert load(tmp_path / "run")["step"] == 2
    assert list(tmp_path.iterdir()) == [tmp_path / "run"]
    monkeypatch.undo()
    assert train().steps == 4


def test_a_run_that_could_not_be_saved_is_not_begun(
    tmp_path, make_client, make_attack, monkeypatch
):
    """And one that is complete needs no room, for it writes nothing."""
    import splitlab as sl

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "run"
    sl.train([make_client()], make_attack(), 1, checkpoint=path)
    monkeypatch.setattr(os, "fsync", full)
    assert sl.train([make_client()], make_attack(), 1, checkpoint=path).steps == 1
    client = make_client()
    with pytest.raises(CheckpointError, match="cannot be written"):
        sl.train([client], make_attack(), 2, checkpoint=path)
    assert client.step == 0
    assert load(path)["step"] == 1


def test_a_home_and_a_relative_path_are_where_they_were_at_the_start(
    tmp_path, make_client, make_attack, monkeypatch
):
    import splitlab as sl

    home, begun, other = (tmp_path / name for name in ("home", "begun", "other"))
    for folder in (home, begun, other):
        folder.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(begun)
    save(1, "~/state")
    assert load("~/state") == load(home / "state") == 1
    monkeypatch.chdir(begun)

    class Moves(sl.Observer):
        """Changes to another folder in the first step."""

        def step(self, step, client, server):
            monkeypatch.chdir(other)

    for path in ("run.ckpt", "~/run.ckpt"):
        monkeypatch.chdir(begun)
        client, attack = make_client(), make_attack()
        sl.train([client], attack, 2, observers=[Moves()], checkpoint=path, every=1)
    assert {*tmp_path.rglob("*.ckpt")} == {begun / "run.ckpt", home / "run.ckpt"}
    assert not list(other.iterdir())


@pytest.mark.parametrize(
    "structure",
    [
        '{"tensor": "9"}', '{"tensor": []}', '{"float": "abc"}', '{"a": 1}', "{}", '{"dict": [1]}',
        '{"dict": [[[1], 2]]}', '{"dict": 3}', '{"tuple": 3}', '{"float": 1, "tuple": []}',
        "[" * 100_000 + "]" * 100_000, "not JSON",
    ],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_a_structure_that_no_writer_makes_is_refused(structure, tmp_path):
    path = tmp_path / "state"
    checksum = files._checksum(structure, {})
    path.write_bytes(to_safetensors({}, {"state": f"{files.FORMAT}\n{checksum}\n{structure}"}))
    with pytest.raises(CheckpointError, match="the data around its tensors is not what splitlab"):
        load(path)


def test_of_writers_at_once_the_file_is_always_one_writers_as_a_whole(tmp_path):
    path = tmp_path / "state"
    states = [{"writer": n, "weights": torch.full((20_000,), float(n))} for n in range(3)]
    save(states[0], path)
    start = threading.Barrier(len(states) + 1)

    def write(state):
        start.wait()
        for _ in range(20):
            save(state, path)

    writers = [threading.Thread(target=write, args=(state,)) for state in states]
    for writer in writers:
        writer.start()
    start.wait()
    while any(writer.is_alive() for writer in writers):
        seen = load(path)
        assert torch.equal(seen["weights"], states[seen["writer"]]["weights"])
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_is_removed_after_a_while(tmp_path):
    path = tmp_path / "state"
    old, new, other = (tmp_path / f".{name}.part" for name in ("state.1-a", "state.2-b", "run.3-c"))
    for part in (old, new, other):
        part.write_bytes(b"half")
    for part in (old, other):
        os.utime(part, (0, 0))
    save("state", path)
    assert {*tmp_path.iterdir()} == {path, new, other}


def test_fingerprints_tell_data_apart(digits):
    private, public, _ = digits
    assert fingerprint(private) == fingerprint(private)
    assert fingerprint(private) != fingerprint(public)
    order = torch.arange(len(private)).flip(0)
    assert fingerprint(private.select(order)) != fingerprint(private)


def test_nothing_is_unpickled(tmp_path):
    """Reading runs no code: a pickle in place of a checkpoint is refused."""
    torch.save({"format": 1}, tmp_path / "pickle")
    code = (
        "import pickle, sys, splitlab.core.checkpoint as c\n"
        "pickle.Unpickler = pickle.load = pickle.loads = None\n"
        "try: c.load(sys.argv[1])\n"
        "except c.CheckpointError as error: print(error)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "pickle"], capture_output=True, text=True
    )
    assert "not a whole safetensors file" in shown.stdout, shown.stderr
