"""The experiments behind the recorded runs and the claims: whoever has the package can rerun them.

An experiment is one run, a function of its `config`. Experiments that differ by the seed alone are
of one kind: they share a table in `book/runs/` and a `run`, the name of the kind. Every seed will
do; those in `experiments()` are the recorded ones, and they chose no setting.
"""

from splitlab.experiments.against_whole import (
    SplitAgainstWhole,
    accuracy,
    largest_difference,
    train_whole,
)
from splitlab.experiments.base import CpuTime, Device, Experiment
from splitlab.experiments.catalogue import (
    CPU_BUDGET,
    CUTS,
    DEPTHS,
    DIGITS_SEEDS,
    LABELS,
    LEAKS,
    METRICS_SEEDS,
    MNIST_SEEDS,
    PLANE,
    PROTOCOLS,
    SPLIT_SEEDS,
    TAILS,
    experiments,
    find,
)
from splitlab.experiments.faces import FACES_KINDS, Faces
from splitlab.experiments.hijacks import SNAPSHOTS, Hijack, WatchedHijack
from splitlab.experiments.knobs import Knob, likeness
from splitlab.experiments.label_leak import LabelLeak, worst_auc
from splitlab.experiments.leaks import PassiveInversions, grant
from splitlab.experiments.meanwhile import MEANWHILE, Meanwhile
from splitlab.experiments.properties import PropertiesInPictures, PropertyHijack, labelled
from splitlab.experiments.protocols_against_whole import (
    SGD_RATE,
    ClippedAdam,
    ProtocolAgainstWhole,
)
from splitlab.experiments.public_images import PublicImages
from splitlab.experiments.stopping import Stopping
from splitlab.experiments.telling import (
    SIGNALS,
    LastMessages,
    decoded,
    probabilities,
    separation,
    signals,
)
from splitlab.experiments.two_dimensions import TwoDimensions, apart, cloud
from splitlab.experiments.unsplit import (
    Inversion,
    TailLabels,
    correlations,
    widest_channel,
)
from splitlab.experiments.why import FAIL, SUCCEED, OtherClient, attackers_classifier, locality
from splitlab.experiments.without_attack import WithoutAttack, unattacked

__all__ = [
    "CPU_BUDGET",
    "CUTS",
    "DEPTHS",
    "DIGITS_SEEDS",
    "FACES_KINDS",
    "FAIL",
    "LABELS",
    "LEAKS",
    "MEANWHILE",
    "METRICS_SEEDS",
    "MNIST_SEEDS",
    "PLANE",
    "PROTOCOLS",
    "SGD_RATE",
    "SIGNALS",
    "SNAPSHOTS",
    "SPLIT_SEEDS",
    "SUCCEED",
    "TAILS",
    "ClippedAdam",
    "CpuTime",
    "Device",
    "Experiment",
    "Faces",
    "Hijack",
    "Inversion",
    "Knob",
    "LabelLeak",
    "LastMessages",
    "Meanwhile",
    "OtherClient",
    "PassiveInversions",
    "PropertiesInPictures",
    "PropertyHijack",
    "ProtocolAgainstWhole",
    "PublicImages",
    "SplitAgainstWhole",
    "Stopping",
    "TailLabels",
    "TwoDimensions",
    "WatchedHijack",
    "WithoutAttack",
    "accuracy",
    "apart",
    "attackers_classifier",
    "cloud",
    "correlations",
    "decoded",
    "experiments",
    "find",
    "grant",
    "labelled",
    "largest_difference",
    "likeness",
    "locality",
    "probabilities",
    "separation",
    "signals",
    "train_whole",
    "unattacked",
    "widest_channel",
    "worst_auc",
]
