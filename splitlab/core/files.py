"""Saving and loading states as files, without pickle.

One file holds a whole state: its tensors as safetensors, and what is around them as JSON in the
same file's header, so that one `os.replace` swaps everything. A file is the old state or the new
one, whenever the process dies.
"""

from __future__ import annotations

import errno
import glob
import json
import math
import os
import secrets
import time
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor

from splitlab.arguments import described

FORMAT = "splitlab state 1"
HEADER = "state"
ABANDONED = 3600  # seconds after which a temporary file is one that a killed process left


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or written, or that belongs to another run."""


def save(state: Any, path: Path | str) -> None:
    """Write a state to a file, which is replaced as a whole or not at all.

    Args:
        state: Dictionaries (keys: text, numbers, tuples), lists, tuples, tensors, numbers, text,
            True, False and None, nested at will. They come back as they were, with these
            exceptions: subclasses come back as the plain type (an OrderedDict as a dict), tensors
            on the CPU and without gradients. A tensor that occurs twice is stored once and comes
            back as one tensor.
        path: The file; "~" is the home folder. Its folder is made where there is none.

    Raises:
        TypeError: If the state holds anything else; the file is left as it was.
        CheckpointError: If the file cannot be written; it is left as it was.
    """
    _write(located(path), to_bytes(state))


def rehearse(state: Any, path: Path | str) -> None:
    """Write a state beside a file and remove it again, to find errors before a run starts.

    Raises:
        TypeError: As `save`.
        CheckpointError: As `save`.
    """
    _write(located(path), to_bytes(state), rehearsal=True)


def located(path: Path | str) -> Path:
    """Return the absolute path of a checkpoint, which stays valid if the process changes folder.

    Args:
        path: As the user wrote it: "~" is the home folder, and what is relative begins in the
            folder where the process is now.

    Raises:
        TypeError: If it is no path.
        CheckpointError: If it is a folder or a device, or if there is no such home.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"a checkpoint is a file's path, such as 'run.ckpt', not {described(path)}")
    try:
        full = Path(path).expanduser().absolute()
        is_other = full.exists() and not full.is_file()
    except (OSError, RuntimeError) as error:  # a name that is too long; a home of nobody
        raise CheckpointError(
            f"{_short(path)} cannot be a checkpoint ({_reason(error)}): choose another file"
        ) from error
    if is_other:
        kind = "a folder" if full.is_dir() else "not a regular file"
        raise CheckpointError(f"{full} is {kind}: choose the path of a file, such as run.ckpt")
    return full


def to_bytes(state: Any) -> bytes:
    """Return the content of the file that `save` writes; equal states give equal bytes."""
    tensors = _Tensors()
    structure = json.dumps(_encode(state, "state", tensors), allow_nan=False)
    # One entry: safetensors writes several in any order, and equal states must give equal files.
    header = {HEADER: f"{FORMAT}\n{_checksum(structure, tensors.by_name)}\n{structure}"}
    return to_safetensors(tensors.by_name, header)


def load(path: Path | str) -> Any:
    """Read a state that `save` wrote; every tensor has its own memory, on the CPU.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If the file is damaged, or not a state of splitlab, or cannot be read.
    """
    path = located(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no checkpoint {path}: check the name")
    try:
        content = path.read_bytes()  # once: the file may be replaced while it is being read
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({_reason(error)}): make it readable, or choose another file"
        ) from error
    try:
        tensors = from_safetensors(content)
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    except (SafetensorError, ValueError, KeyError) as error:
        raise unreadable(path, "it is not a whole safetensors file") from error
    kind, _, rest = header.get(HEADER, "").partition("\n")
    checksum, _, structure = rest.partition("\n")
    if kind != FORMAT:
        raise unreadable(path, f"its format is {kind or 'unknown'}, not {FORMAT}")
    if checksum != _checksum(structure, tensors):
        raise unreadable(path, "its checksum is wrong")
    try:
        return _decode(json.loads(structure), tensors)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise unreadable(path, "the data around its tensors is not what splitlab writes") from error


def _write(path: Path, content: bytes, *, rehearsal: bool = False) -> None:
    try:
        write_atomically(path, content, rehearsal=rehearsal)
    except (OSError, ValueError) as error:  # a ValueError: a path with a zero in it
        do = "choose a file in a folder that you can write to"
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            do = "free some space and run the same lines again"
        kept = " and is as it was before" if path.exists() else ""
        raise CheckpointError(
            f"{_short(path)} cannot be written ({_reason(error)}){kept}: {do}"
        ) from error


def write_atomically(path: Path, content: bytes, *, rehearsal: bool = False) -> None:
    """Replace a file's content; a process killed meanwhile leaves the old or the new content.

    Of several that write at once, each writes a temporary file of its own: the last one to finish
    decides what the file holds, and the file is always one of the contents as a whole.

    Args:
        path: The file. Its folder is made where there is none.
        content: What it is to hold.
        rehearsal: Whether to leave the file as it is, once the content is on the disk.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:  # says too little of what is wrong
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path.parent) from error
    # Not tempfile: its files can be read by their owner alone, and a folder may be shared.
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if rehearsal:
            part.unlink()
            return
        os.replace(part, path)
    except BaseException:  # a full disk, or Ctrl-C: leave no half of a file behind
        part.unlink(missing_ok=True)
        raise
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with suppress(OSError):  # another process may have removed it
            if time.time() - left.stat().st_mtime > ABANDONED:
                left.unlink()
    if os.name == "posix":  # elsewhere a folder cannot be opened, nor needs to be
        with suppress(OSError):  # the file is there; some file systems refuse this
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


class _Tensors:
    """The tensors of a state under short names; each block of memory is stored once."""

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
    """Encode a state as JSON: lists and most leaves as themselves, the rest as {kind: content}."""
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
    if kind == "dict":
        return {_decode(key, tensors): _decode(item, tensors) for key, item in content}
    raise ValueError(f"no state has a {kind!r}")


def _short(path: Path | str | os.PathLike[str]) -> str:
    """Shorten a path so that it fits in a sentence; a name may be too long for any file."""
    text = str(path)
    return text if len(text) < 200 else f"{text[:100]}...{text[-40:]}"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _checksum(structure: str, tensors: dict[str, Tensor]) -> str:
    crc = zlib.crc32(structure.encode())
    for name, tensor in sorted(tensors.items()):
        crc = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), crc)
        crc = zlib.crc32(tensor.flatten().view(torch.uint8).numpy().data, crc)
    return f"{crc:08x}"


def unreadable(path: Path, why: str) -> CheckpointError:
    """Return the error for a file that cannot be read."""
    return CheckpointError(
        f"{path} cannot be read as a checkpoint ({why}): delete it to start over, or replace it "
        "with a complete copy"
    )
