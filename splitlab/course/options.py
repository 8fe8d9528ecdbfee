"""A parser for the shell's options, and types whose errors say what they accept."""

from __future__ import annotations

import argparse
import sys
from typing import Any, NoReturn

import torch

from splitlab.course.doctor import chosen_device
from splitlab.course.exits import STATUSES

DIGITS = 18  # of the largest whole number: torch takes no seed of over 19


class Parser(argparse.ArgumentParser):
    """A parser whose help ends with the exit statuses, and that refuses in one line.

    Where a command is missing or unknown, it lists the commands first.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"epilog": STATUSES, **options})
        self._has_commands = False

    def add_subparsers(self, **options: Any) -> Any:
        """Add subparsers as argparse does; each shows its help before an error."""
        self._has_commands = True
        return super().add_subparsers(**options)

    def error(self, message: str) -> NoReturn:
        """Print what is wrong on stderr and exit with status 2."""
        more = f"; `{self.prog} --help` lists the options"
        if self._has_commands and not message.startswith("unrecognized"):
            self.print_help(sys.stderr)
            more = ""
        self.exit(2, f"{self.prog}: {message}{more}\n")


def whole(text: str) -> int:
    """Read a whole number.

    Raises:
        ArgumentTypeError: If it is none, or has too many digits.
    """
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{_short(text)} is not a whole number") from None
    if abs(number) >= 10**DIGITS:
        raise argparse.ArgumentTypeError(
            f"{_short(text)} is too large: choose a whole number of at most {DIGITS} digits"
        )
    return number


def number(text: str) -> float:
    """Read a number; the caller checks for NaN and infinity.

    Raises:
        ArgumentTypeError: If it is none.
    """
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{_short(text)} is not a number") from None


def chosen(name: str, profile: str) -> torch.device:
    """Return the device that --device names; at "auto", the profile's.

    Raises:
        ValueError: If there is no such device, or this machine has none.
    """
    name = chosen_device(name, profile)
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"there is no device {name!r}: choose auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device {name}: this machine has no usable GPU; use --device cpu")
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"--device {name} is not supported: choose auto, cpu, cuda or cuda:N")
    if (device.index or 0) >= (torch.cuda.device_count() if device.type == "cuda" else 1):
        raise ValueError(f"--device {name}: this machine has no such device; leave out the number")
    return device


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:20]}...{text[-10:]}")
