"""The shell: `splitlab attack fsha ...`."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from typing import Any

import torch

import splitlab as sl
from splitlab.settings import LOADERS, Setting


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status (0 done, 2 a request that cannot be met)."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, TypeError) as error:
        print(f"splitlab: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nsplitlab: stopped before the end; nothing was written.", file=sys.stderr)
        return 130
    return 0


def attack_fsha(options: argparse.Namespace) -> None:
    """Hijack a client, score the reconstructions, and print the report."""
    setting = sl.PROFILES[options.profile]
    device = _device(options.device, setting)
    steps = options.steps
    if steps is not None and steps < 1:
        raise ValueError(f"--steps is {steps}: a hijack needs at least one step")
    rate = setting.client_rate if options.client_rate is None else options.client_rate
    if rate <= 0:
        raise ValueError(f"--client-rate is {rate:g}: a learning rate is above 0")
    private, public, referee = setting.split(options.data, options.seed)
    steps = steps or setting.default_steps(options.data, options.design)
    client = sl.Client(
        setting.client_net(cut=options.cut, seed=options.seed),
        private,
        **setting.client(seed=options.seed, device=device, rate=rate),
    )
    attack = sl.FSHA(
        **setting.fsha(
            public, design=options.design, cut=options.cut, steps=steps, seed=options.seed
        ),
        device=device,
    )
    log = sl.train(
        [client],
        attack,
        steps,
        observers=[sl.Progress("hijacking")],
        autocast=setting.precision(device),
    )
    print("scoring: training the referee's classifiers and decoder ...", file=sys.stderr)
    report = sl.evaluate(client, attack, referee)
    if options.json:
        result = {
            "attack": "fsha",
            "data": options.data,
            "profile": setting.name,
            "seed": options.seed,
            "steps": steps,
            "seconds": round(log.seconds, 2),
            "device": str(device),
            **report.to_dict(),
            "design": options.design,
            "cut": options.cut or setting.cut,
            "client_rate": rate,
            "images": {"private": len(private), "public": len(public)},
        }
        print(json.dumps(_finite(result), allow_nan=False))
        return
    print(attack.threat, end="\n\n")
    print(
        f"{options.data} at profile {setting.name}, {options.design} design, "
        f"cut {options.cut or setting.cut}, seed {options.seed}: {steps} steps in "
        f"{log.seconds:.1f} s on {device}; client: Adam at {rate:g}.\n"
        f"{len(private)} private and {len(public)} public images.\n"
    )
    print(report)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="splitlab", description=sl.__doc__)
    parser.add_argument("--version", action="version", version=f"splitlab {sl.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    attack = commands.add_parser("attack", help="run an attack and score it")
    attacks = attack.add_subparsers(title="attacks", required=True, metavar="ATTACK")
    fsha = attacks.add_parser("fsha", help="feature-space hijacking: reconstruct private images")
    fsha.set_defaults(run=attack_fsha)
    fsha.add_argument("--data", choices=LOADERS, default="digits", help="data set (digits)")
    fsha.add_argument(
        "--profile",
        choices=sl.PROFILES,
        default="tiny",
        help="tiny: tiny networks, 16x16, seconds on a CPU core (the default); gpu: the paper's "
        "client on 20,000 private images; paper: on all 60,000",
    )
    fsha.add_argument(
        "--design",
        choices=("fast", "paper"),
        default="fast",
        help="fast: a fixed pilot and a critic on the decoded image (the default); paper: a "
        "learned pilot and decoder and a critic on z",
    )
    fsha.add_argument("--cut", type=int, choices=(1, 2, 3, 4), help="where the network is split")
    fsha.add_argument("--steps", type=int, help="training steps (the profile's)")
    fsha.add_argument("--seed", type=int, default=0, help="seeds split, networks and batches (0)")
    fsha.add_argument("--client-rate", type=float, help="the client's Adam rate (the profile's)")
    fsha.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (auto)")
    fsha.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    return parser


def _device(name: str, setting: Setting) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() and setting.name != "tiny" else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"there is no device {name!r}: choose auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device {name}: this machine has no usable GPU; use --device cpu")
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"--device {name} is not supported: choose auto, cpu, cuda or cuda:N")
    return device


def _finite(value: Any) -> Any:
    """Replace what JSON cannot say (the PSNR of a perfect copy is infinite) by null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    sys.exit(main())
