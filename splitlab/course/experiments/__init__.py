"""The experiments behind the recorded runs and the claims: whoever has the package can rerun them.

An experiment is one run, a function of its `config`. Experiments that differ by the seed alone are
of one kind: they share a table in `splitlab/course/runs/` and a `run`, the name of the kind. Every
seed will do; those in `experiments()` are the recorded ones, and they chose no setting.
"""

from splitlab.course.experiments.against_whole import (
    SplitAgainstWhole,
    accuracy,
    largest_difference,
    train_whole,
)
from splitlab.course.experiments.base import CpuTime, Device, Experiment
from splitlab.course.experiments.catalogue import (
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
    recorded,
    replay,
)
from splitlab.course.experiments.client_networks import (
    FAIL,
    SUCCEED,
    OtherClient,
    attackers_classifier,
    locality,
)
from splitlab.course.experiments.client_view import MEANWHILE, Meanwhile
from splitlab.course.experiments.faces import FACES_KINDS, Faces
from splitlab.course.experiments.hijack_settings import Knob, likeness
from splitlab.course.experiments.hijacks import SNAPSHOTS, Hijack, WatchedHijack
from splitlab.course.experiments.label_inference import LabelLeak, worst_auc
from splitlab.course.experiments.passive_inversions import PassiveInversions
from splitlab.course.experiments.property_inference import (
    PropertyHijack,
    SlantAndPicture,
    with_property,
)
from splitlab.course.experiments.property_share import PropertyShare
from splitlab.course.experiments.protocols_against_whole import (
    SGD_RATE,
    ClippedAdam,
    ProtocolAgainstWhole,
)
from splitlab.course.experiments.public_images import PublicImages
from splitlab.course.experiments.stopping_rule import Stopping
from splitlab.course.experiments.success_signals import (
    SIGNALS,
    LastMessages,
    decoded,
    probabilities,
    separation,
    signals,
)
from splitlab.course.experiments.two_dimensions import TwoDimensions, apart, cloud
from splitlab.course.experiments.unsplit import Inversion, TailLabels, correlations, widest_channel
from splitlab.course.experiments.without_attack import WithoutAttack, unattacked

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
    "PropertyHijack",
    "PropertyShare",
    "ProtocolAgainstWhole",
    "PublicImages",
    "SlantAndPicture",
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
    "largest_difference",
    "likeness",
    "locality",
    "probabilities",
    "recorded",
    "replay",
    "separation",
    "signals",
    "train_whole",
    "unattacked",
    "widest_channel",
    "with_property",
    "worst_auc",
]
