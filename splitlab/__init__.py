"""splitlab: the security of split learning, as a course on a small PyTorch library."""

from __future__ import annotations

import importlib
from typing import Any

from splitlab import attacks, core, data, defenses, nets, referee, settings
from splitlab.attacks import (
    FSHA,
    Backdoor,
    BlackBoxInversion,
    Blend,
    ClientGAN,
    GradientClustering,
    GradientCosine,
    GradientNorm,
    GuardAwareFSHA,
    LabelFlipping,
    MultitaskFSHA,
    NoHijack,
    Patch,
    PropertyInference,
    QueryFreeInversion,
    ServerBackdoor,
    Trigger,
    UnSplit,
    UnSplitBrightOnDark,
    UnSplitLabels,
    UnSplitLabelsKnownStart,
    WhiteBoxInversion,
)
from splitlab.attacks.critic import Critic
from splitlab.core import costs, files, tables, threat
from splitlab.core.audit import audit
from splitlab.core.client import Client, Defense, HijackingDetected, Turn
from splitlab.core.curious import PassiveClient, PassiveServer
from splitlab.core.files import CheckpointError
from splitlab.core.grants import grant
from splitlab.core.identity import NUMERICS
from splitlab.core.messages import (
    Gradient,
    Message,
    OutputGradient,
    ServerOutput,
    SmashedData,
    Weights,
)
from splitlab.core.observers import Log, Observer, Progress, Wiretap
from splitlab.core.party import Party
from splitlab.core.protocols import Wire, u_shaped, vanilla
from splitlab.core.randomness import Sampler, with_own_randomness
from splitlab.core.rounds import Aggregator, Rounds, Sequential, ServerCopies, SplitFed
from splitlab.core.server import HonestServer, LabelDefense, Server
from splitlab.core.state import Stateful
from splitlab.core.threat import ThreatModel, ThreatModelViolation
from splitlab.core.train import train
from splitlab.data import Data, DataError, ImageData
from splitlab.defenses import SafeSplit
from splitlab.defenses.detector import Detector
from splitlab.referee import classifiers, floors, intervals, metrics
from splitlab.referee.evaluate import evaluate
from splitlab.referee.images import Scorer
from splitlab.referee.labels import accuracy_after_matching, leak_auc
from splitlab.referee.properties import accuracies
from splitlab.referee.report import Report
from splitlab.referee.task import logits, task_accuracy
from splitlab.referee.watching import ReceivedError, ReceivedImages, Snapshots
from splitlab.settings import PROFILES, gpu, paper, tiny

__version__ = "0.1.0"

# Drawing (matplotlib, ipywidgets) and the course are loaded on first use: these modules, and a few
# of their names.
_MODULES = {
    **dict.fromkeys(("figures", "frontier", "scrubber", "stepper"), "splitlab.show"),
    **dict.fromkeys(
        ("checks", "claims", "data_cards", "disguises", "experiments"), "splitlab.course"
    ),
    "records": "splitlab.course",
}
_NAMES = {"StaleRecord": "splitlab.course.records"}

# fmt: off
__all__ = [
    "FSHA", "NUMERICS", "PROFILES", "Aggregator", "Backdoor", "BlackBoxInversion", "Blend",
    "CheckpointError", "Client", "ClientGAN", "Critic", "Data", "DataError", "Defense", "Detector",
    "Gradient", "GradientClustering", "GradientCosine", "GradientNorm", "GuardAwareFSHA",
    "HijackingDetected", "HonestServer", "ImageData", "LabelDefense", "LabelFlipping", "Log",
    "Message", "MultitaskFSHA", "NoHijack", "Observer", "OutputGradient", "Party", "PassiveClient",
    "PassiveServer", "Patch", "Progress", "PropertyInference", "QueryFreeInversion",
    "ReceivedError", "ReceivedImages", "Report", "Rounds", "SafeSplit", "Sampler", "Scorer",
    "Sequential", "Server", "ServerBackdoor", "ServerCopies", "ServerOutput", "SmashedData",
    "Snapshots", "SplitFed", "Stateful", "ThreatModel", "ThreatModelViolation", "Trigger", "Turn",
    "UnSplit", "UnSplitBrightOnDark", "UnSplitLabels", "UnSplitLabelsKnownStart", "Weights",
    "WhiteBoxInversion", "Wire", "Wiretap", "accuracies", "accuracy_after_matching", "attacks",
    "audit", "classifiers", "core", "costs", "data", "defenses", "evaluate", "files", "floors",
    "gpu", "grant", "intervals", "leak_auc", "logits", "metrics", "nets", "paper", "referee",
    "settings", "tables", "task_accuracy", "threat", "tiny", "train", "u_shaped", "vanilla",
    "with_own_randomness",
]
# fmt: on


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{_MODULES[name]}.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'splitlab' has no attribute {name!r}")
