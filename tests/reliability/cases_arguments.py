"""What attacks, defenses, networks and settings are made with."""

from functools import partial

import numpy as np
import torch
from misuse import Misuse
from torch import nn
from torch.optim import SGD, Adam

import splitlab as sl

NETS = sl.nets.tiny
TENSOR = torch.zeros(4, 1, 16, 16)
ADAM = partial(Adam, lr=1e-3)
COLOR = sl.ImageData(torch.zeros(4, 3, 16, 16), [0, 1, 0, 1], ("a", "b"))
LARGE = sl.ImageData(
    torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(0)), [0, 1, 0, 1], ("a", "b")
)


def hijack(given, **options):
    """The paper's design."""
    made = {"public": given.public, "pilot": NETS.pilot(), "decoder": NETS.decoder()}
    made |= {"batch_size": 2, "critic": sl.Critic(NETS.critic())} | options
    return sl.FSHA(made.pop("public"), **made)


def fast(given, **options):
    return sl.FSHA.at(sl.tiny, options.pop("public", given.public), **{"batch_size": 8} | options)


def backdoor(given, **options):
    honest = {"optimizer": ADAM, "batch_size": 8, "tail": nn.Linear(10, 10)}
    made = {"data": given.private, "target": 1} | honest | options
    return sl.Backdoor(sl.tiny.client_net(), made.pop("data"), **made)


def server_backdoor(given, **options):
    made = {"surrogate": NETS.client(seed=1), "target": 1, "surrogate_optimizer": ADAM}
    return sl.ServerBackdoor(NETS.server(), given.public, **made | {"batch_size": 8} | options)


def black_box(given, **options):
    return sl.BlackBoxInversion(NETS.server(), **{"public": given.public} | options)


def query_free(given, **options):
    made = {"public": given.public, "surrogate": NETS.client(seed=1), "batch_size": 8}
    return sl.QueryFreeInversion(NETS.server(), **made | options)


def white_box(given, **options):
    return sl.WhiteBoxInversion(NETS.server(), **{"f": NETS.client(seed=1)} | options)


def unsplit(given, **options):
    made = {"architecture": NETS.shallow_client, "image_shape": (1, 16, 16)}
    return sl.UnSplit(NETS.shallow_server(), **made | options)


def gan(given, **options):
    return sl.ClientGAN.at(
        sl.tiny, options.pop("like", given.private), **{"target": 1, "batch_size": 8} | options
    )


def label_attack(given, kind=sl.GradientNorm, **options):
    made = {"data": given.private.without_labels(), "optimizer": ADAM, "batch_size": 8}
    return kind(sl.tiny.client_net(), **made | options)


def shuffled(given, defense):
    return sl.Client(
        sl.tiny.client_net(), given.private, optimizer=ADAM, batch_size=8, defenses=[defense]
    )


def case(make, wrong, *says, raises=ValueError, what="", **options):
    """A case that calls `make` with options."""
    return f"{what or make.__name__}: {wrong}", partial(make, **options), raises, says


def plain(what, do, *says, raises=ValueError):
    """A case that needs nothing of `Given`."""
    return what, lambda given: do(), raises, says


WRONG = [
    # The hijack
    case(
        hijack, "a tensor", "public is a tensor", "pass ImageData", public=TENSOR, raises=TypeError
    ),
    case(hijack, "a class as pilot", "pilot is the class", pilot=nn.Conv2d, raises=TypeError),
    case(hijack, "no pilot", "pilot is None: pass a network", pilot=None, raises=TypeError),
    case(hijack, "a critic's class", "critic is the class", critic=sl.Critic, raises=TypeError),
    case(
        *(hijack, "a network as critic", "critic is a Sequential: pass sl.Critic(net)"),
        **{"critic": NETS.critic(), "raises": TypeError},
    ),
    case(hijack, "2.5 critic steps", "critic_steps is 2.5: choose a whole", critic_steps=2.5),
    case(hijack, "True critic steps", "critic_steps is True: choose", critic_steps=True),
    case(hijack, "no critic step", "critic_steps is 0: choose", critic_steps=0),
    case(hijack, "critic first", "critic_first is 'no': choose True or False", critic_first="no"),
    case(
        *(hijack, "colour images", "pilot does not take public images of shape (3, 16, 16)"),
        public=COLOR,
    ),
    case(
        *(
            hijack,
            "a large decoder",
            "decoder makes rows of shape (1, 32, 32)",
            "(1, 16, 16): give",
        ),
        decoder=nn.Sequential(NETS.decoder(), nn.Upsample(scale_factor=2)),
    ),
    case(
        *(hijack, "another cut's decoder", "decoder does not take the pilot's codes", "(32, 4, 4)"),
        decoder=NETS.decoder(cut=4),
    ),
    case(
        *(hijack, "another cut's critic", "the critic's net does not take the pilot's codes"),
        critic=sl.Critic(NETS.critic(cut=4)),
    ),
    case(
        *(hijack, "many scores", "the critic's net makes rows of shape (5,) and", "(1,)"),
        critic=sl.Critic(nn.Sequential(nn.Flatten(), nn.Linear(512, 5))),
    ),
    case(hijack, "another cut's body", "body does not take", body=NETS.server(cut=4)),
    case(
        *(hijack, "a schedule of text", "gradient_scale(0) is 'fast': choose a finite number"),
        gradient_scale=lambda step: "fast",
    ),
    case(
        *(
            hijack,
            "an optimizer",
            "optimizer is",
            "pass a function of the parameters",
            "partial(torch.optim.Adam",
        ),
        **{"optimizer": SGD([torch.zeros(1)], lr=0.1), "raises": TypeError},
    ),
    case(
        *(
            hijack,
            "a wrong rate",
            "optimizer cannot make an optimizer (Invalid learning rate: -1",
            "lr",
        ),
        optimizer=partial(Adam, lr=-1.0),
    ),
    case(fast, "a tensor", "public is a tensor", public=TENSOR, raises=TypeError),
    case(
        fast, "another design", "design is 'quick': choose one of 'fast', 'paper'", design="quick"
    ),
    case(fast, "2.5 steps", "steps is 2.5: choose a whole number", steps=2.5),
    case(fast, "cut 9", "there is no cut 9: choose 1", cut=9),
    case(fast, "cut True", "there is no cut True: choose 1", cut=True),
    case(fast, "large images", "does not take", public=LARGE, steps=5, batch_size=2),
    plain(
        "setting by name: FSHA.at",
        lambda: sl.FSHA.at("tiny", COLOR),
        "setting is 'tiny': pass sl.tiny",
        raises=TypeError,
    ),
    plain(
        "critic without weights",
        lambda: sl.Critic(nn.Flatten()),
        "the critic has a network without parameters",
    ),
    plain(
        "critic: weight NaN", lambda: sl.Critic(NETS.critic(), penalty_weight=float("nan")), "nan"
    ),
    plain("critic: another loss", lambda: sl.Critic(NETS.critic(), loss="mse"), "loss is 'mse'"),
    plain("schedule of no step", lambda: sl.attacks.schedules.half_at(0), "steps is 0: choose"),
    case(
        *(lambda given, **o: sl.NoHijack(NETS.server(), sl.FSHA), "a class", "attack is the class"),
        **{"what": "NoHijack", "raises": TypeError},
    ),
    case(
        *(
            lambda given, **o: sl.NoHijack(NETS.server(), given.public),
            "images",
            "no method rehearse",
        ),
        **{"what": "NoHijack", "raises": TypeError},
    ),
    case(
        *(lambda given: sl.MultitaskFSHA(fast(given), task=NETS.server()), "a network as task"),
        *("task is a Sequential: pass sl.HonestServer(net)",),
        **{"what": "MultitaskFSHA", "raises": TypeError},
    ),
    case(
        lambda given: sl.MultitaskFSHA(fast(given), task=sl.HonestServer(NETS.server(cut=1))),
        *("another cut's task", "the task's net does not take", "of one cut"),
        what="MultitaskFSHA",
    ),
    # Backdoors
    case(backdoor, "a tensor", "data is a tensor", data=TENSOR, raises=TypeError),
    case(backdoor, "a share above 1", "share is 1.5: choose a share", share=1.5),
    case(backdoor, "a scale NaN", "scale is nan: choose a finite number", scale=float("nan")),
    case(
        backdoor, "a large patch", "Patch(99) on an image fails (size is 99", trigger=sl.Patch(99)
    ),
    case(backdoor, "a trigger's class", "trigger is the class", trigger=sl.Patch, raises=TypeError),
    case(
        backdoor,
        "colour images",
        "the network of client does not take images",
        data=COLOR,
        batch_size=2,
    ),
    case(
        server_backdoor,
        "another cut",
        "net does not take the surrogate's z",
        surrogate=NETS.client(cut=1),
    ),
    case(server_backdoor, "2.5 rehearsals", "rehearsals is 2.5: choose", rehearsals=2.5),
    case(
        *(
            server_backdoor,
            "an optimizer",
            "surrogate_optimizer is",
            "pass a function of the parameters",
        ),
        **{"surrogate_optimizer": SGD([torch.zeros(1)], lr=0.1), "raises": TypeError},
    ),
    # Inversion
    case(black_box, "a tensor", "public is a tensor", public=TENSOR, raises=TypeError),
    case(black_box, "2.5 questions", "questions is 2.5: choose", questions=2.5),
    case(black_box, "no steps", "steps is '3': choose a whole number", steps="3"),
    case(query_free, "a class", "surrogate is the class", surrogate=nn.Conv2d, raises=TypeError),
    case(
        query_free,
        "colour images",
        "surrogate does not take public images",
        public=COLOR,
        batch_size=2,
    ),
    case(query_free, "a rate NaN", "rate is nan: choose", rate=float("nan")),
    case(
        white_box,
        "a large image",
        "f does not take images",
        f=NETS.dense_client(),
        start=torch.zeros(1, 9, 9),
    ),
    case(
        white_box,
        "an array",
        "start is a numpy array",
        start=np.zeros((1, 16, 16)),
        raises=TypeError,
    ),
    case(white_box, "a batch", "start is a tensor of shape (4, 1, 16, 16)", start=TENSOR),
    case(
        *(unsplit, "a network", "architecture is a Sequential, a network: pass a function"),
        **{"architecture": NETS.shallow_client(), "raises": TypeError},
    ),
    case(unsplit, "no seed", "architecture(seed=0) fails", architecture=lambda: NETS.client()),
    case(unsplit, "one number", "image_shape is 16: pass channels, height", image_shape=16),
    case(unsplit, "colour", "the network of architecture does not take", image_shape=(3, 16, 16)),
    case(
        unsplit, "a range NaN", "value_range is (nan, 1.0): pass", value_range=(float("nan"), 1.0)
    ),
    # Clients that attack
    case(gan, "a tensor", "like is a tensor", like=TENSOR, raises=TypeError),
    case(gan, "poison of text", "poison is 'x': choose a whole number", poison="x"),
    case(gan, "no batch", "batch_size is 2.5: choose a whole number", batch_size=2.5),
    case(
        gan,
        "not an optimizer",
        "generator_optimizer is 0: pass",
        generator_optimizer=0,
        raises=TypeError,
    ),
    case(label_attack, "a tensor", "data is a tensor", data=TENSOR, raises=TypeError),
    case(label_attack, "2.5 classes", "classes is 2.5: choose", classes=2.5),
    case(
        *(label_attack, "a list", "known is [1, 2]: pass a dictionary"),
        **{"kind": sl.GradientCosine, "known": [1, 2], "raises": TypeError},
    ),
    case(
        *(label_attack, "an unknown row", "row 99 is known to be 1, but rows run from 0 to 15"),
        **{"kind": sl.GradientCosine, "known": {99: 1}},
    ),
    # Defenses
    plain(
        "NoPeek of text", lambda: sl.defenses.NoPeek("a lot"), "alpha is 'a lot': choose a finite"
    ),
    plain(
        "NoPeek of no function",
        lambda: sl.defenses.NoPeek(1, statistic=3),
        "statistic",
        raises=TypeError,
    ),
    plain("ClipGradient NaN", lambda: sl.defenses.ClipGradient(float("nan")), "max_norm is nan"),
    plain("CutDropout of text", lambda: sl.defenses.CutDropout("half"), "p is 'half'"),
    plain("dropout of all", lambda: sl.defenses.CutDropout(1.0), "choose a probability"),
    plain("Marvell of None", lambda: sl.defenses.Marvell(None), "strength is None"),
    plain(
        "SplitGuard of all",
        lambda: sl.defenses.SplitGuard(false_share=1.0),
        "false_share is 1.0: choose a number between 0 and 1, such as 0.1",
    ),
    plain("a detector's stop", lambda: sl.defenses.LossAlarm(1.0, stop="never"), "stop is 'never'"),
    plain("SafeSplit's window", lambda: sl.SafeSplit(NETS.server(), window=3.5), "window is 3.5"),
    plain(
        "SplitOut of a class",
        lambda: sl.defenses.SplitOut(nn.Linear),
        "server_net is the class Linear",
        raises=TypeError,
    ),
    plain(
        "a secret of half",
        lambda: sl.defenses.PatchShuffle(seed=1.5),
        "seed is 1.5: choose a whole",
    ),
    case(
        *(shuffled, "patches of 3", "patches of 3 places do not tile it: choose a side"),
        defense=sl.defenses.PatchShuffle(3),
    ),
    case(
        *(shuffled, "9999 directions", "keep is 9999 and z has 512 numbers"),
        defense=sl.defenses.OrthogonalProjection(9999, seed=1),
    ),
    # Networks and settings
    plain("LastChannels of half", lambda: sl.nets.LastChannels(0.5), "kept is 0.5: choose a whole"),
    plain("LastChannels of none", lambda: sl.nets.LastChannels(0), "kept is 0: choose"),
    plain(
        "a seed of half", lambda: sl.tiny.client_net(seed=1.5), "seed is 1.5: choose a whole number"
    ),
    plain(
        "a seed of text", lambda: sl.tiny.client_net(seed="3"), "seed is '3': choose a whole number"
    ),
    plain("no classes", lambda: sl.tiny.server_net(classes=0), "classes is 0: choose"),
    plain("channels None", lambda: NETS.client(channels=None), "channels is None: choose"),
    plain("a size of 18", lambda: NETS.generator(size=18), "size is 18: choose a multiple of 4"),
    plain(
        "linear of text", lambda: NETS.pilot(linear="no"), "linear is 'no': choose True or False"
    ),
    plain("std of 0", lambda: sl.nets.SpaceToDepth(4, 32, mean=0, std=0), "std is 0: choose"),
    plain(
        "z of two sizes", lambda: sl.nets.upsampling_decoder((8, 8), (1, 16, 16)), "shape (8, 8)"
    ),
    plain(
        "a decoder of other images",
        lambda: sl.nets.train_decoder(
            torch.zeros(4, 32, 4, 4), TENSOR, value_range=(-1, 1), decoder=nn.Flatten(), steps=1
        ),
        "decoder makes rows of shape (512,) and the images have (1, 16, 16)",
    ),
    plain("precision of no device", lambda: sl.paper.precision("gpu"), "device is 'gpu'"),
    plain(
        "another design's steps",
        lambda: sl.tiny.default_steps("digits", "slow"),
        "design is 'slow'",
    ),
    plain("a rate of text", lambda: sl.tiny.client(rate="fast"), "rate is 'fast'"),
]
CASES = [
    Misuse(what, do, raises, says, lambda given: [given.private, given.public])
    for what, do, raises, says in WRONG
]
