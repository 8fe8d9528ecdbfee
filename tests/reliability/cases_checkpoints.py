"""Checkpoints, states, samplers and records: what cannot be read, written or loaded."""

import errno
import os
from functools import partial
from unittest import mock

import torch
from filelock import FileLock
from misuse import Given, Misuse
from torch import nn

import splitlab as sl
from splitlab.core.randomness import RandomState
from splitlab.course import record_files, records


def client(given: Given) -> sl.Client:
    """One client, the same in every call."""
    if not hasattr(given, "client"):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = nn.Sequential(nn.Conv2d(1, 2, 8, 8), nn.BatchNorm2d(2))
            server = nn.Sequential(nn.Flatten(), nn.Linear(8, 10))
        given.client = sl.Client(net, given.private, batch_size=4)
        given.server = sl.HonestServer(server)
    return given.client


def both(given: Given) -> object:
    client(given)
    return given.client, given.server


def train(given: Given, checkpoint: object, steps: int = 2, **options: object) -> sl.Log:
    """Train with a checkpoint."""
    return sl.train([client(given)], given.server, steps, checkpoint=checkpoint, **options)


def below_a_file(given: Given) -> None:
    (given.folder / "file").write_text("")
    train(given, given.folder / "file" / "run.ckpt")


def full_disk(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def on_a_full_disk(given: Given) -> None:
    with mock.patch("os.fsync", full_disk):
        train(given, given.folder / "run.ckpt")


def in_a_read_only_folder(given: Given) -> None:
    def refused(*arguments: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with mock.patch("pathlib.Path.open", refused):  # root may write anywhere
        train(given, given.folder / "run.ckpt")


def resumed(given: Given, change: object) -> None:
    """Resume a run whose checkpoint was changed and saved again."""
    path = given.folder / "run.ckpt"
    other = Given(given.folder)
    train(other, path)
    state = sl.files.load(path)
    change(state)  # type: ignore[operator]
    sl.files.save(state, path)
    train(given, path, 3)


def set_entry(*path: object) -> object:
    """A change: the last argument in place of what is at the path of the others."""

    def change(state: dict) -> None:
        *where, last, value = path
        for key in where:
            state = state[key]
        state[last] = value

    return change


def without(name: str) -> object:
    """A change: an entry less."""
    return lambda state: state.pop(name)


def loads(given: Given, *path: object) -> None:
    """Load a client's own state with one thing in it changed."""
    state = client(given).state_dict()
    set_entry(*path)(state)  # type: ignore[operator]
    given.client.load_state_dict(state)


EDITS = {
    "step is -1": (set_entry("step", -1), "it is at step -1 of 2"),
    "step is 2.5": (set_entry("step", 2.5), "step is float and should be int"),
    "step is text": (set_entry("step", "3"), "step is str and should be int"),
    "step is None": (set_entry("step", None), "step is None and should be int"),
    "outline is a list": (set_entry("outline", ["a"]), "outline is list of 1 items and should be"),
    "observers are missing": (without("observers"), "lacks 'observers'"),
    "kinds are missing": (
        without("kinds"),
        "lacks 'kinds', so it is from another version of splitlab",
    ),
    "one more part": (set_entry("more", 1), "has an unknown part 'more'"),
    "parties are a list": (set_entry("parties", []), "parties is list of 0 items and should be"),
    "a metric is None": (
        set_entry("log", "metrics", "task_loss", 0, None),
        "log['metrics']['task_loss'] is list of 2 items (1 None, 1 float) and was list of 2 items",
    ),
    "a shorter log": (
        set_entry("log", "metrics", "task_loss", [0.5]),
        "is list of 1 items (1 float) and was list of 2 items (2 float)",
    ),
    "a weight of another type": (
        set_entry("parties", "server", "net", "weights", "1.bias", torch.zeros(10).double()),
        "['1.bias'] is float64 tensor of shape (10,) and was float32 tensor of shape (10,)",
    ),
    "a counter as text": (
        set_entry("parties", "clients[0]", "step", "2"),
        "parties['clients[0]']['step'] is str and was int",
    ),
}
STATES = {
    "a shorter order": (("sampler", "permutation", torch.arange(5)), "draws from 16 rows and the"),
    "an order with rows twice": (
        ("sampler", "permutation", torch.zeros(16, dtype=torch.int64)),
        "client.sampler.permutation is no order of 16 rows",
    ),
    "an order of floats": (
        ("sampler", "permutation", torch.zeros(16)),
        "client.sampler.permutation is float32 tensor of shape (16,) and should be row numbers",
    ),
    "a place past the end": (("sampler", "position", 17), "position is 17 and should be from 0 to"),
    "a place of None": (("sampler", "position", None), "position is None and should be from 0"),
    "a short random state": (
        ("randomness", "cpu", torch.zeros(3, dtype=torch.uint8)),
        "randomness['cpu'] is uint8 tensor of shape (3,) and should be uint8 tensor of shape (5056",
    ),
    "a random state of floats": (("randomness", "cpu", torch.zeros(5056)), "should be uint8"),
    "no random state": (("randomness", {}), "the state of client.randomness lacks 'cpu'"),
    "a generator's state of zeros": (
        ("sampler", "generator", torch.zeros(5056, dtype=torch.uint8)),
        "sampler.generator is no state of a random generator",
    ),
    "a counter that is None": (("step", None), "client.step is None and should be int"),
    "a net that is a list": (("net", []), "the state of client.net is list of 0 items and should"),
    "a statistic of another shape": (
        ("net", "weights", "1.running_var", torch.ones(3)),
        "net['1.running_var'] is float32 tensor of shape (3,) and should be float32 tensor of shap",
    ),
    "an optimizer's setting is text": (
        ("optimizer", "param_groups", 0, "lr", "fast"),
        "optimizer['param_groups'][0]['lr'] is str and should be float",
    ),
    "one more part": (("more", 1), "the state of Client has an unknown part 'more'"),
}


def recorded(given: Given, content: str | bytes) -> None:
    """Read a table of recorded runs with this content."""
    path = given.folder / "table.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    records.rows_of(path)


def signed(given: Given, **row: object) -> None:
    """Read a table with one row whose hash is right."""
    finished = {"run": "a", "seed": 0} | row
    finished |= {"hash": records.row_hash(finished)}
    record_files.write_table(given.folder / "table.json", "", {"a/0": finished})
    records.rows_of(given.folder / "table.json")


def write(given: Given, name: object = "table", row: object = None) -> None:
    row = {"run": "a", "seed": 0} if row is None else row
    records.write_row(name, row, folder=given.folder / "runs")  # type: ignore[arg-type]


def locked(given: Given) -> None:
    lock = FileLock(given.folder / "table.lock")  # another object: as another process has it
    with lock, mock.patch.object(record_files, "PATIENCE", 0):
        record_files.add_rows(given.folder / "table.json", [{"run": "a"}])


def below_a_file_too(given: Given) -> None:
    (given.folder / "runs").write_text("")
    write(given)


def a_folder_as_table(given: Given) -> None:
    (given.folder / "table.json").mkdir()
    records.rows_of(given.folder / "table.json")


TABLES = {
    "empty": "",
    "truncated": '{"table": "table", "command": "", "rows": {"a": {"run": "a"',
    "binary": b"\x89PNG\r\n\x1a\n\xff\xfe",
    "a list": "[1, 2]",
    "a number": "3",
    "rows are a list": '{"table": "table", "command": "", "rows": [1]}',
    "a row is a number": '{"table": "table", "command": "", "rows": {"a": 1}}',
    "no rows": '{"table": "table", "command": ""}',
    "nested too deeply": '{"table": ' + "[" * 100_000,
}

CASES = [
    *(
        Misuse(f"a checkpoint whose {what}", partial(resumed, change=change), sl.CheckpointError,
               ("run.ckpt cannot be read as a checkpoint (", says, "delete it to start over"), both)
        for what, (change, says) in EDITS.items()
    ),
    *(
        Misuse(f"a client's state: {what}", lambda given, path=path: loads(given, *path),
               ValueError, (says.replace("client.", "Client."),), both)
        for what, (path, says) in STATES.items()
    ),
    Misuse("a client's state is a list", lambda given: client(given).load_state_dict([]),
           ValueError, ("the state of Client is list of 0 items and should be dict",), both),
    Misuse("a checkpoint is a number", lambda given: train(given, 3), TypeError,
           ("a checkpoint is a file's path, such as 'run.ckpt', not 3",), both),
    Misuse("a checkpoint is a folder", lambda given: train(given, given.folder),
           sl.CheckpointError, ("is a folder: choose the path of a file",), both),
    Misuse("a checkpoint is a device", lambda given: train(given, "/dev/null"),
           sl.CheckpointError, ("/dev/null is not a regular file: choose",), both),
    Misuse("a checkpoint in the home of nobody", lambda given: train(given, "~nobody-here/run"),
           sl.CheckpointError, ("~nobody-here/run cannot be a checkpoint", "another file"), both),
    Misuse("a checkpoint with a name that is too long",
           lambda given: train(given, given.folder / ("a" * 256)[:250]),
           sl.CheckpointError, ("cannot be written (File name too long): choose",), both),
    Misuse("a checkpoint with a zero in its name", lambda given: train(given, "run\0.ckpt"),
           sl.CheckpointError, ("cannot be written", "choose a file in a folder"), both),
    Misuse("a checkpoint below a file", below_a_file, sl.CheckpointError,
           ("run.ckpt cannot be written (Not a directory): choose a file in a folder",), both),
    Misuse("a checkpoint on a full disk", on_a_full_disk, sl.CheckpointError,
           ("run.ckpt cannot be written (No space left on device): free some space",), both),
    Misuse("a checkpoint in a read-only folder", in_a_read_only_folder, sl.CheckpointError,
           ("run.ckpt cannot be written (Permission denied): choose a file in a folder",), both),
    *(
        Misuse(f"a record's table is {what}", partial(recorded, content=content), ValueError,
               ("table.json is not a complete table of runs: restore it with git",))
        for what, content in TABLES.items()
    ),
    *(
        Misuse(f"a record's row says {row}", lambda given, row=row: signed(given, **row),
               ValueError, ("table.json has a row, a/0, that lacks entries about its run:",))
        for row in ({"config": [1]}, {"made": "2026-01-01"}, {"historical": 1})
    ),
    Misuse("a record's table is a folder", a_folder_as_table, ValueError,
           ("table.json cannot be read (Is a directory): make it readable",)),
    Misuse("a record's folder is a file", below_a_file_too, ValueError,
           ("table.json cannot be written (File exists): make its folder writable",)),
    Misuse("a record is locked by another process", locked, ValueError,
           ("table.json is locked by another process: wait", "delete", "table.lock if there is")),
    Misuse("a record's name is a number", lambda given: write(given, 3), TypeError,
           ("a record's name is 3: pass text",)),
    Misuse("a record's row is a list", lambda given: write(given, row=[1]), TypeError,
           ("a row is [1]: pass a dictionary",)),
    Misuse("a record's row has no run", lambda given: write(given, row={"seed": 3}), ValueError,
           ("a row has seed: give it a run",)),
    Misuse("a record's row holds a tensor",
           lambda given: write(given, row={"run": "a", "mse": torch.ones(2)}), TypeError,
           ("row a cannot be written (Object of type Tensor is not JSON", "make its figures")),
    Misuse("a figure that a run does not have",
           lambda given: records.ranges([{"run": "a", "mse": {"b": 1}}], {"x": "mse.c"}), KeyError,
           ("no figure 'mse.c' in run 'a': at 'c' it has b",)),
    *(
        Misuse(f"a sampler with {what}", lambda given, o=options: sl.Sampler(
               **{"n": 16, "batch_size": 4, "owner": "me", "seed": 0} | o), ValueError, (says,))
        for what, options, says in (
            ("a batch of 17 of 16", {"batch_size": 17}, "batches of 17 from 16 rows: choose a bat"),
            ("a batch of 0", {"batch_size": 0}, "batch_size is 0: choose a whole number"),
            ("a batch of -1", {"batch_size": -1}, "batch_size is -1: choose a whole number"),
            ("a batch of 2.5", {"batch_size": 2.5}, "batch_size is 2.5: choose a whole number"),
            ("a batch of True", {"batch_size": True}, "batch_size is True: choose a whole number"),
            ("2.5 rows", {"n": 2.5}, "n is 2.5: choose a whole number"),
            ("a seed of 1.5", {"seed": 1.5}, "seed is 1.5: choose a whole number"),
            ("a seed of None", {"seed": None}, "seed is None: choose a whole number"),
        )
    ),
    Misuse("a random state with a seed of 1.5", lambda given: RandomState("me", 1.5), ValueError,
           ("seed is 1.5: choose a whole number",)),
]  # fmt: skip
