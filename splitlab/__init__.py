"""splitlab: the security of split learning, as a course on a small PyTorch library."""

from __future__ import annotations

import importlib
from typing import Any

from splitlab import (
    attacks,
    baselines,
    checkpoint,
    costs,
    data,
    decoding,
    defenses,
    disguises,
    intervals,
    metrics,
    nets,
    priors,
    record,
    schedules,
    settings,
    tables,
)
from splitlab.aggregation import Aggregator, ServerCopies
from splitlab.attacks import (
    FSHA,
    BlackBoxInversion,
    GradientClustering,
    GradientCosine,
    GradientNorm,
    MultitaskFSHA,
    NoHijack,
    PropertyInference,
    QueryFreeInversion,
    SignedFSHA,
    UnSplit,
    UnSplitBrightOnDark,
    UnSplitLabels,
    UnSplitLabelsKnownStart,
    WhiteBoxInversion,
)
from splitlab.checkpoint import CheckpointError
from splitlab.data import DataError, ImageData
from splitlab.defenses import Defense, HijackingDetected, Turn
from splitlab.label_referee import LabelReport, accuracy_after_matching, evaluate_labels, leak_auc
from splitlab.messages import (
    Gradient,
    Message,
    OutputGradient,
    ServerOutput,
    SmashedData,
    Weights,
)
from splitlab.observers import Observer, Progress, Wiretap
from splitlab.parties import Client, HonestServer, PassiveClient, PassiveServer, Server
from splitlab.property_referee import PropertyReport, accuracies, evaluate_property
from splitlab.protocols import Log, Rounds, Sequential, SplitFed, Wire, train, u_shaped, vanilla
from splitlab.record import NUMERICS, Record, StaleRecord, replay
from splitlab.referee import (
    ReceivedError,
    Report,
    Scorer,
    Snapshots,
    evaluate,
    logits,
    task_accuracy,
)
from splitlab.settings import PROFILES, gpu, paper, tiny
from splitlab.threat import ThreatModel, ThreatModelViolation, audit

__version__ = "0.1.0"

__all__ = [
    "FSHA",
    "NUMERICS",
    "PROFILES",
    "Aggregator",
    "BlackBoxInversion",
    "CheckpointError",
    "Client",
    "DataError",
    "Defense",
    "Gradient",
    "GradientClustering",
    "GradientCosine",
    "GradientNorm",
    "HijackingDetected",
    "HonestServer",
    "ImageData",
    "LabelReport",
    "Log",
    "Message",
    "MultitaskFSHA",
    "NoHijack",
    "Observer",
    "OutputGradient",
    "PassiveClient",
    "PassiveServer",
    "Progress",
    "PropertyInference",
    "PropertyReport",
    "QueryFreeInversion",
    "ReceivedError",
    "Record",
    "Report",
    "Rounds",
    "Scorer",
    "Sequential",
    "Server",
    "ServerCopies",
    "ServerOutput",
    "SignedFSHA",
    "SmashedData",
    "Snapshots",
    "SplitFed",
    "StaleRecord",
    "ThreatModel",
    "ThreatModelViolation",
    "Turn",
    "UnSplit",
    "UnSplitBrightOnDark",
    "UnSplitLabels",
    "UnSplitLabelsKnownStart",
    "Weights",
    "WhiteBoxInversion",
    "Wire",
    "Wiretap",
    "accuracies",
    "accuracy_after_matching",
    "attacks",
    "audit",
    "baselines",
    "checkpoint",
    "costs",
    "data",
    "decoding",
    "defenses",
    "disguises",
    "evaluate",
    "evaluate_labels",
    "evaluate_property",
    "gpu",
    "intervals",
    "leak_auc",
    "logits",
    "metrics",
    "nets",
    "paper",
    "priors",
    "record",
    "replay",
    "schedules",
    "settings",
    "tables",
    "task_accuracy",
    "tiny",
    "train",
    "u_shaped",
    "vanilla",
]

_ON_DEMAND = (
    "plot",
    "stepper",
    "widgets",
    "course",
    "checks",
    "experiments",
)  # they import matplotlib, ipywidgets and more


def __getattr__(name: str) -> Any:
    if name in _ON_DEMAND:
        return importlib.import_module(f"splitlab.{name}")
    raise AttributeError(f"module 'splitlab' has no attribute {name!r}")
