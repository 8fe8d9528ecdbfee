"""States in files without pickle, and the training run that is killed and goes on.

One file holds a whole state: its tensors as safetensors, and what is around them as JSON in the
same file's header, so that one `os.replace` swaps everything. A file is the old state or the new
one, whenever the process dies.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from splitlab.data import ImageData

if TYPE_CHECKING:
    from splitlab.observers import Observer
    from splitlab.parties import Client, Server
    from splitlab.protocols import Log

FORMAT = "splitlab state 1"
HEADER = "state"
HASH_CHUNK = 4096  # images


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or that belongs to another run."""


def save(state: Any, path: Path | str) -> None:
    """Write a state to a file, which is replaced at once or not at all.

    Args:
        state: Dictionaries (keys: text, numbers, tuples), lists, tuples, tensors, numbers, text,
            True, False and None, nested at will. They come back as they were, with these
            exceptions: subclasses come back as the plain type (an OrderedDict as a dict), tensors
            on the CPU and without gradients. A tensor that occurs twice is stored once and comes
            back as one tensor.
        path: The file. Its folder is made where there is none.

    Raises:
        TypeError: If the state holds anything else; the file is left as it was.
    """
    tensors = _Tensors()
    structure = json.dumps(_encode(state, "state", tensors), allow_nan=False)
    # One entry: safetensors writes several in any order, and equal states must give equal files.
    header = {HEADER: f"{FORMAT}\n{_checksum(structure, tensors.by_name)}\n{structure}"}
    write_atomically(Path(path), to_safetensors(tensors.by_name, header))


def load(path: Path | str) -> Any:
    """Read a state that `save` wrote; every tensor has memory of its own, on the CPU.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If the file is damaged, or not a state of splitlab.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no checkpoint {path}: check the name")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            # Copies: the originals share the memory of the whole file, which the audit of
            # splitlab.threat would rightly report.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise _unreadable(path, "it is not a whole safetensors file") from error
    kind, _, rest = header.get(HEADER, "").partition("\n")
    checksum, _, structure = rest.partition("\n")
    if kind != FORMAT:
        raise _unreadable(path, f"its format is {kind or 'unknown'}, not {FORMAT}")
    if checksum != _checksum(structure, tensors):
        raise _unreadable(path, "its checksum is wrong")
    return _decode(json.loads(structure), tensors)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file's content; whenever the process dies, the old or the new one is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:  # a full disk, or Ctrl-C: leave no half of a file behind
        part.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # elsewhere a folder cannot be opened, nor needs to be
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def fingerprint(data: ImageData) -> str:
    """Return a hash of the images (to 256 levels), the labels and the value range."""
    from splitlab.data.base import stored_channels

    low, high = data.value_range
    about = (tuple(data.x.shape), low, high, data.classes)
    digest = hashlib.blake2b(repr(about).encode(), digest_size=8)
    digest.update(data.y.cpu().numpy().tobytes())
    for images in stored_channels(data.x).split(HASH_CHUNK):
        levels = ((images - low) * (255 / (high - low))).round().to(torch.uint8).cpu()
        digest.update(levels.contiguous().numpy().tobytes())
    return digest.hexdigest()


class Checkpoint:
    """A training run's state in a file: the parties', the observers', the log and the step.

    Made before the first step. What it notes of the run then, its outline, is written with every
    state: parties' classes, shapes, optimizers' settings, batch sizes, seeds, data, the
    server's labels, protocol, precision and observers. A run whose outline differs is refused.
    Functions (schedules, losses) cannot be compared.

    Args:
        path: The file.
        clients: The clients.
        server: The server.
        observers: Those that keep nothing (`state_dict` is empty) may come and go between runs.
        log: The run's log.
        protocol: What one step is; known by its name.
        autocast: The precision of the matrix work.
    """

    def __init__(
        self,
        path: Path | str,
        clients: Sequence[Client],
        server: Server,
        observers: Sequence[Observer],
        log: Log,
        *,
        protocol: Callable[..., None],
        autocast: torch.dtype | None,
    ) -> None:
        self.path = Path(path)
        self.clients, self.server, self.log = clients, server, log
        self.observers = [observer for observer in observers if observer.state_dict()]
        kinds = [type(observer).__name__ for observer in self.observers]
        self.outline = {
            "clients": str(len(clients)),
            "observers": ", ".join(kinds) or "none",
            "protocol": _name(protocol),
            "autocast": str(autocast),
        }
        for number, client in enumerate(clients):
            self.outline |= _outline_of_party(client, f"clients[{number}]")
        self.outline |= _outline_of_party(server, "server")
        self._saved: dict[str, Any] | None = None

    def read(self, steps: int) -> None:
        """Read the saved state, if there is one, and check that it belongs to this run.

        Args:
            steps: How many steps the run is to have in all.

        Raises:
            CheckpointError: If the file is damaged, belongs to another run, or is past `steps`.
        """
        if not self.path.exists():
            return
        saved = load(self.path)
        if not isinstance(saved, dict) or "outline" not in saved:
            raise _unreadable(self.path, "it holds no training run")
        self._check(saved["outline"])
        if saved["step"] > steps:
            raise CheckpointError(
                f"{self.path} is at step {saved['step']}, past the {steps} asked for: ask for "
                "more steps, or delete the file to begin anew"
            )
        self._saved = saved

    def resume(self) -> int:
        """Put back the state that `read` found, and return its step; 0 if there was none."""
        if self._saved is None:
            return 0
        saved, self._saved = self._saved, None
        # Observers first: one that refuses its state leaves the parties as they are.
        for observer, state in zip(self.observers, saved["observers"], strict=True):
            observer.load_state_dict(state)
        for client, state in zip(self.clients, saved["clients"], strict=True):
            client.load_state_dict(state)
        self.server.load_state_dict(saved["server"])
        self.log.load_state_dict(saved["log"])
        return saved["step"]

    def write(self, step: int) -> None:
        """Write the state after `step` steps.

        Raises:
            RuntimeError: If the protocol has left a client in the middle of a turn.
        """
        waiting = [client.name for client in self.clients if client.turn is not None]
        if waiting:
            raise RuntimeError(
                f"{waiting[0]} still waits for a gradient, which a checkpoint cannot hold: "
                "let the protocol end every step with the gradient, or train without checkpoint"
            )
        state = {
            "outline": self.outline,
            "step": step,
            "clients": [client.state_dict() for client in self.clients],
            "server": self.server.state_dict(),
            "observers": [observer.state_dict() for observer in self.observers],
            "log": self.log.state_dict(),
        }
        save(state, self.path)

    def _check(self, saved: dict[str, str]) -> None:
        for name in [*self.outline, *saved]:
            there, here = saved.get(name, "nothing"), self.outline.get(name, "nothing")
            if there != here:
                raise CheckpointError(
                    f"{self.path} belongs to another run ({name}: {there} there, {here} here): "
                    "train as that run did, or choose another file"
                )


def _name(protocol: Callable[..., None]) -> str:
    """A function's name; what a `splitlab.protocols.Rounds` calls itself, with its settings."""
    for attribute in ("__qualname__", "name"):
        if hasattr(protocol, attribute):
            return getattr(protocol, attribute)
    return type(protocol).__name__


def _outline_of_party(party: Any, name: str) -> dict[str, str]:
    """What must be the same when a run goes on: name -> text."""
    defenses = [type(defense).__name__ for defense in getattr(party, "defenses", ())]
    outline = {
        f"{name} is": type(party).__name__,
        f"{name}.seed": str(party.randomness.seed),
        f"{name}.defenses": ", ".join(defenses) or "none",
    }
    for attribute in ("data", "public"):
        if isinstance(data := getattr(party, attribute, None), ImageData):
            outline[f"{name}.{attribute}"] = f"{data.name}, {len(data)} images, {fingerprint(data)}"
    if isinstance(labels := getattr(party, "labels", None), Tensor):
        digest = hashlib.blake2b(labels.cpu().numpy().tobytes(), digest_size=8).hexdigest()
        outline[f"{name}.labels"] = f"{len(labels)} labels, {digest}"
    if hasattr(party, "sampler"):
        outline[f"{name}.batch_size"] = str(party.sampler.batch_size)
    return outline | dict(_shapes(party.state_dict(), name))


def _shapes(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """Yield (where, shape) for tensors, and (where, setting) for optimizers, in a state."""
    if isinstance(value, Tensor):
        yield name, f"{value.dtype} {tuple(value.shape)}".removeprefix("torch.")
    elif isinstance(value, dict) and value.keys() == {"state", "param_groups"}:
        for number, group in enumerate(value["param_groups"]):
            # A schedule moves "lr" and leaves "initial_lr".
            unset = {"params", "lr"} if "initial_lr" in group else {"params"}
            for setting in group.keys() - unset:
                yield f"{name}[{number}].{setting}", repr(group[setting])
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _shapes(item, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _shapes(item, f"{name}[{number}]")


class _Tensors:
    """The tensors of a state under short names, each memory once."""

    def __init__(self) -> None:
        self.by_name: dict[str, Tensor] = {}
        self._names: dict[Any, str] = {}

    def name(self, tensor: Tensor, where: str) -> str:
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
            raise TypeError(f"{where} is not a plain dense tensor: save its parts instead")
        if tensor.dtype not in _DTYPES:
            raise TypeError(f"{where} has the type {tensor.dtype}, which safetensors cannot hold")
        place = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        key = place if tensor.numel() else id(tensor)  # empty tensors are all at one address
        if key not in self._names:
            name = self._names[key] = str(len(self._names))
            self.by_name[name] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        return self._names[key]


_DTYPES = {
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool, torch.uint8),
    *(torch.int8, torch.int16, torch.int32, torch.int64),
}


def _encode(value: Any, where: str, tensors: _Tensors) -> Any:
    """Say a state in JSON; lists and most leaves as themselves, the rest as {kind: content}."""
    if isinstance(value, Tensor):
        return {"tensor": tensors.name(value, where)}
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": repr(float(value))}
    if isinstance(value, list):
        return [_encode(item, f"{where}[{n}]", tensors) for n, item in enumerate(value)]
    if isinstance(value, tuple):
        return {"tuple": [_encode(item, f"{where}[{n}]", tensors) for n, item in enumerate(value)]}
    if isinstance(value, dict):
        keys = [_encode(key, f"a key of {where}", tensors) for key in value]
        items = [_encode(item, f"{where}[{key!r}]", tensors) for key, item in value.items()]
        return {"dict": [list(pair) for pair in zip(keys, items, strict=True)]}
    raise TypeError(
        f"{where} is of type {type(value).__name__}, and a state holds tensors, numbers, text, "
        "lists, tuples and dictionaries: let state_dict return those"
    )


def _decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "float":
        return float(content)
    if kind == "tuple":
        return tuple(_decode(item, tensors) for item in content)
    return {_decode(key, tensors): _decode(item, tensors) for key, item in content}


def _checksum(structure: str, tensors: dict[str, Tensor]) -> str:
    crc = zlib.crc32(structure.encode())
    for name, tensor in sorted(tensors.items()):
        crc = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), crc)
        crc = zlib.crc32(tensor.flatten().view(torch.uint8).numpy(), crc)
    return f"{crc:08x}"


def _unreadable(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{path} cannot be read as a checkpoint ({why}): delete it to begin anew, or put a whole "
        "copy in its place"
    )
