"""The experiments behind the recorded runs and the claims; the package alone can rerun them.

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
    SEARCHES,
    SPLIT_SEEDS,
    TAILS,
    experiments,
    find,
    recorded,
)
from splitlab.course.experiments.client_gan import CLIENT_GANS, ClientGANRun, ServersView
from splitlab.course.experiments.client_networks import (
    CLIENTS,
    FAIL,
    SUCCEED,
    OtherClient,
    attackers_classifier,
    locality,
)
from splitlab.course.experiments.client_view import CLIENT_VIEWS, ClientView
from splitlab.course.experiments.faces import FACES_KINDS, Faces
from splitlab.course.experiments.hijack_settings import HijackSetting
from splitlab.course.experiments.hijacks import Hijack
from splitlab.course.experiments.label_inference import LabelLeak, TailLabels, worst_auc
from splitlab.course.experiments.no_peek import NoPeekHijack, NoPeekInversions
from splitlab.course.experiments.passive_inversions import PassiveInversions
from splitlab.course.experiments.poisoning import POISONINGS, Effect, PoisoningRun
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
from splitlab.course.experiments.server_backdoor import SERVER_BACKDOORS, ServerBackdoorRun
from splitlab.course.experiments.success_signals import (
    SIGNALS,
    LastMessages,
    decoded,
    probabilities,
    signals,
)
from splitlab.course.experiments.two_dimensions import TwoDimensions, apart, cloud
from splitlab.course.experiments.unsplit import Inversion, correlations, widest_channel
from splitlab.course.experiments.without_attack import WithoutAttack, unattacked

__all__ = [
    "CLIENTS",
    "CLIENT_GANS",
    "CLIENT_VIEWS",
    "CPU_BUDGET",
    "CUTS",
    "DEPTHS",
    "DIGITS_SEEDS",
    "FACES_KINDS",
    "FAIL",
    "LABELS",
    "LEAKS",
    "METRICS_SEEDS",
    "MNIST_SEEDS",
    "PLANE",
    "POISONINGS",
    "PROTOCOLS",
    "SEARCHES",
    "SERVER_BACKDOORS",
    "SGD_RATE",
    "SIGNALS",
    "SPLIT_SEEDS",
    "SUCCEED",
    "TAILS",
    "ClientGANRun",
    "ClientView",
    "ClippedAdam",
    "CpuTime",
    "Device",
    "Effect",
    "Experiment",
    "Faces",
    "Hijack",
    "HijackSetting",
    "Inversion",
    "LabelLeak",
    "LastMessages",
    "NoPeekHijack",
    "NoPeekInversions",
    "OtherClient",
    "PassiveInversions",
    "PoisoningRun",
    "PropertyHijack",
    "PropertyShare",
    "ProtocolAgainstWhole",
    "PublicImages",
    "ServerBackdoorRun",
    "ServersView",
    "SlantAndPicture",
    "SplitAgainstWhole",
    "Stopping",
    "TailLabels",
    "TwoDimensions",
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
    "locality",
    "probabilities",
    "recorded",
    "signals",
    "train_whole",
    "unattacked",
    "widest_channel",
    "with_property",
    "worst_auc",
]
