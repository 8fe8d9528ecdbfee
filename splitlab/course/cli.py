"""The shell: `splitlab attack fsha|client-gan`, `data ...`, `claims`, `run` and `doctor`."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

import splitlab as sl
from splitlab.course import claims_command, data_command, exits, watch
from splitlab.course.batch import command as batch_command
from splitlab.course.doctor import chosen_device, doctor
from splitlab.course.options import Parser, chosen, number, whole
from splitlab.settings import LOADERS, Setting, client_side

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}
HIGHEST_RATE = 1000  # far above any that trains; float32 cannot hold all that Python can


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: What follows the command's name; None: those of the process.

    Returns:
        The exit status, as `splitlab.course.exits.STATUSES` has it.
    """

    def command() -> int | None:
        options = _parser().parse_args(arguments)
        return options.run(options)

    return exits.run("splitlab", command)


def attack_fsha(options: argparse.Namespace) -> None:
    """Hijack a client, score the reconstructions, and print the report."""
    names = list(dict.fromkeys(options.watch or ()))
    watch.check(names, options.norm_limit, sl.PROFILES[options.profile])
    setting = _setting(options, sl.PROFILES)
    device = chosen(options.device, setting.name)
    precision = PRECISIONS.get(options.precision, setting.precision(device))
    steps = options.steps
    if steps is not None and steps < 1:
        raise ValueError(f"--steps is {steps}: a hijack needs at least one step")
    rate = setting.client_rate if options.client_rate is None else options.client_rate
    if not 0 < rate <= HIGHEST_RATE:
        raise ValueError(
            f"--client-rate is {rate:g}: a learning rate is above 0 and at most {HIGHEST_RATE}"
        )
    private, public, referee = setting.split(options.data, options.seed)
    steps = steps or setting.default_steps(options.data, options.design)
    few = len(private) if len(private) < 500 else None  # 200 of the ORL faces
    if names:
        print("scoring: training the referee's classifiers ...", file=sys.stderr)
        scorer = sl.Scorer(private, referee, n_match=few)
        received = sl.ReceivedImages(scorer.order[: len(scorer.images)])
    client = sl.Client(
        setting.client_net(cut=options.cut, seed=options.seed),
        private,
        defenses=watch.detectors(
            names,
            options.norm_limit,
            setting,
            cut=options.cut,
            classes=len(private.classes),
            seed=options.seed,
        ),
        **setting.client(seed=options.seed, device=device, rate=rate),
    )
    attack = sl.FSHA.at(
        setting,
        public,
        design=options.design,
        cut=options.cut,
        steps=steps,
        seed=options.seed,
        device=device,
    )
    alarm, started = None, time.perf_counter()
    try:
        log = sl.train(
            [client],
            attack,
            steps,
            observers=[sl.Progress("hijacking"), *([received] if names else [])],
            autocast=precision,
        )
        seconds, ran = log.seconds, f"{steps} steps in"
    except sl.HijackingDetected as error:
        alarm, seconds = error, time.perf_counter() - started
        ran = f"stopped at step {client.step} of {steps} after"
    print("scoring: training the referee's classifiers and decoder ...", file=sys.stderr)
    report = sl.evaluate(client, attack, referee, n_match=few)
    computed = str(precision or torch.float32).removeprefix("torch.")
    result = {
        "attack": "fsha",
        "data": options.data,
        "profile": setting.name,
        "seed": options.seed,
        "steps": steps,
        "seconds": round(seconds, 2),
        "device": str(device),
        "precision": computed,
        **report.to_dict(),
        "design": options.design,
        "cut": options.cut or setting.cut,
        "client_rate": rate,
        "images": {"private": len(private), "public": len(public)},
    }
    text = (
        f"{options.data} at profile {setting.name}, {options.design} design, "
        f"cut {options.cut or setting.cut}, seed {options.seed}: {ran} "
        f"{seconds:.1f} s on {device} in {computed}; client: Adam at {rate:g}.\n"
        f"{len(private)} private and {len(public)} public images.\n"
    )
    if names:
        found = watch.outcome(names, alarm, client, attack, received, scorer, steps=steps)
        result["watch"] = found.to_dict()
        text += f"\n{found.told(report)}\n"
    _show(result if options.json else None, attack, text, report)


def attack_client_gan(options: argparse.Namespace) -> None:
    """Train with a malicious client among honest ones, score its images, and print the report."""
    setting = _setting(options, {"tiny": sl.tiny, "paper": client_side})
    device, seed = chosen(options.device, setting.name), options.seed
    rounds = options.rounds or (500 if setting.name == "tiny" else 5000)
    for name, value in {"--rounds": options.rounds, "--honest": options.honest}.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}: choose at least 1")
    private, public, referee = setting.split(options.data, seed)
    most = len(private) // setting.batch_size
    if options.honest > most:
        raise ValueError(
            f"--honest is {options.honest}: {options.data} has {len(private):,} private images, "
            f"and each client needs a batch of {setting.batch_size}: "
            f"{f'choose at most {most}' if most else 'choose another --data'}"
        )
    parts = [
        private.select(torch.arange(k, len(private), options.honest)) for k in range(options.honest)
    ]
    classes, (channels, size, _) = len(private.classes) + 1, private.shape
    clients = [
        sl.Client(
            setting.nets.strided_client(channels=channels, seed=seed),
            part,
            tail=setting.nets.strided_tail(classes=classes, size=size, seed=seed),
            **setting.client(seed=seed, device=device),
            name=f"client {number}",
        )
        for number, part in enumerate(parts)
    ]
    attack = sl.ClientGAN.at(
        setting,
        private,
        target=options.target,
        poison=None if options.no_poison else "extra",
        scale=options.scale,
        seed=seed,
        device=device,
    )
    server = sl.HonestServer(
        setting.nets.strided_server(seed=seed),
        optimizer=setting.client_optimizer,
        seed=seed,
        device=device,
    )
    everyone = [attack, *clients]
    log = sl.train(
        everyone,
        server,
        rounds * len(everyone),
        protocol=sl.Sequential(sl.u_shaped),
        observers=[sl.Progress("training")],
    )
    print("scoring: training the referee's classifiers ...", file=sys.stderr)
    judge = public if referee is None else referee  # the attacker has no public images
    report = sl.evaluate(everyone, attack, judge)
    accuracy = sl.task_accuracy(clients[0], server, judge)
    result = {
        "attack": "client-gan",
        "data": options.data,
        "profile": setting.name,
        "seed": seed,
        "steps": log.steps,
        "seconds": round(log.seconds, 2),
        "device": str(device),
        **report.to_dict(),
        "target": options.target,
        "poison": attack.poison,
        "scale": options.scale,
        "clients": len(everyone),
        "task_accuracy": accuracy,
        "images": {"private": len(private)},
    }
    text = (
        f"{options.data} at profile {setting.name}, seed {seed}: {log.steps} steps of the attacker "
        f"and {options.honest} honest clients in {log.seconds:.1f} s on {device}.\n"
        f"Poison class: {attack.poison}; gradients to the server scaled by {options.scale:g} in "
        f"generator turns.\nThe honest clients' task accuracy: {accuracy:.3f}.\n"
    )
    _show(result if options.json else None, attack, text, report)


def _show(result: dict[str, Any] | None, attack: sl.Party, text: str, report: sl.Report) -> None:
    """Print the result as JSON if there is one, else as text for a person."""
    if result is not None:
        print(json.dumps(_finite(result), allow_nan=False))
        return
    print(attack.threat, end="\n\n")
    print(text)
    print(report)


def run_doctor(options: argparse.Namespace) -> int:
    """Print whether this machine can run the course; return 1 if it cannot."""
    setting = sl.PROFILES[options.profile]
    card = doctor(setting.name, chosen_device(options.device, setting.name))
    print(json.dumps(card.to_dict()) if options.json else card)
    return int(not card.ok)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="splitlab", description=sl.__doc__)
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
    fsha.add_argument("--cut", type=whole, choices=(1, 2, 3, 4), help="where the network is split")
    fsha.add_argument("--steps", type=whole, help="training steps (the profile's)")
    fsha.add_argument("--seed", type=whole, default=0, help="seeds split, networks and batches (0)")
    fsha.add_argument("--client-rate", type=number, help="the client's Adam rate (the profile's)")
    fsha.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (auto)")
    fsha.add_argument(
        "--precision",
        choices=("auto", *PRECISIONS),
        default="auto",
        help="precision of the matrix work in training; auto: the profile's where the device is "
        "fast at it, else float32 (auto)",
    )
    fsha.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    watch.add_arguments(fsha)
    _add_client_gan(attacks)
    data_command.add_arguments(
        commands.add_parser("data", help="list, describe, download and check the data sets")
    )
    claims_command.add_arguments(
        commands.add_parser("claims", help="list the chapters' claims, or rerun them")
    )
    batch_command.add_arguments(
        commands.add_parser("run", help="run notebooks over a grid of profiles and seeds")
    )
    look = commands.add_parser("doctor", help="check whether this machine can run the course")
    look.set_defaults(run=run_doctor)
    look.add_argument("--profile", choices=sl.PROFILES, default="tiny", help="as in the chapters")
    look.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (auto)")
    look.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    return parser


def _add_client_gan(attacks: Any) -> None:
    gan = attacks.add_parser("client-gan", help="client-side GAN: generate images of a class")
    gan.set_defaults(run=attack_client_gan)
    names = dict.fromkeys((*sl.tiny.steps, *client_side.steps))
    gan.add_argument("--data", choices=names, default="digits", help="data set (digits)")
    gan.add_argument(
        "--profile",
        choices=("tiny", "paper"),
        default="tiny",
        help="tiny: tiny networks, 16x16, seconds on a CPU core (the default); paper: the public "
        "code's networks and 28x28 pixels",
    )
    gan.add_argument("--target", type=whole, default=0, help="the class to draw (0)")
    gan.add_argument("--honest", type=whole, default=3, help="number of honest clients (3)")
    gan.add_argument("--rounds", type=whole, help="turns of each client (500; paper: 5000)")
    gan.add_argument(
        "--scale",
        type=number,
        default=1e-5,
        help="factor on the gradient that the server receives in a generator turn (1e-5)",
    )
    gan.add_argument("--no-poison", action="store_true", help="train the generator in every turn")
    gan.add_argument("--seed", type=whole, default=0, help="seeds split, networks and batches (0)")
    gan.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (auto)")
    gan.add_argument("--json", action="store_true", help="print one JSON object on stdout")


def _setting(options: argparse.Namespace, profiles: Mapping[str, Setting]) -> Setting:
    """Return the requested profile; refuse one that does not fit the requested data set.

    Raises:
        ValueError: Names the profiles that have the data set, and the profile's other sets.
    """
    setting, data = profiles[options.profile], options.data
    if data not in setting.steps:
        others = [name for name, other in profiles.items() if data in other.steps]
        raise ValueError(
            f"{data} makes no sense at profile {options.profile}: add --profile "
            f"{' or '.join(others)}, or choose --data from {', '.join(setting.steps)}"
        )
    return setting


def _finite(value: Any) -> Any:
    """Replace what JSON cannot represent (the PSNR of a perfect copy is infinite) by null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    sys.exit(main())
