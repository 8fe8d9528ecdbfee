"""What the referee is asked to score, and what an attack of one's own returns to it."""

from functools import partial

import numpy as np
import torch
from misuse import Misuse

import splitlab as sl
from splitlab.referee import fisher
from splitlab.show import figures

X, Y = torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(0)), torch.arange(8)


def client(given, data=None):
    options = {"optimizer": sl.tiny.client_optimizer, "batch_size": 8}
    return sl.Client(sl.tiny.client_net(), given.private if data is None else data, **options)


def hijack(given):
    return sl.FSHA.at(sl.tiny, given.public, batch_size=8)


def server():
    return sl.HonestServer(sl.tiny.server_net())


def scored(given, **options):
    """Score a hijack of 16 images."""
    given.client, given.attack = client(given), hijack(given)
    made = {"clients": given.client, "attack": given.attack, "referee": given.referee}
    made |= {"n_match": 8} | options
    for name in PARTIES:
        if callable(made.get(name)):
            made[name] = made[name](given)
    return sl.evaluate(**made)


PARTIES = ("clients", "attack", "referee", "public")


def returning(method, value, **attributes):
    """An attack one of whose methods returns something odd."""
    attributes |= {method: lambda self, *arguments: value}
    return lambda given: type("Mine", (), {"public": given.public} | attributes)()


def windowed(given, windows):
    options = {"optimizer": sl.tiny.client_optimizer, "batch_size": 8}
    own = given.private.without_labels()
    attack = sl.GradientNorm(sl.tiny.client_net(), own, **options)
    return sl.evaluate(attack, attack, truth=given.private.one_against_rest(1), windows=windows)


def inferring(value):
    attack = returning("infer_property", value, classify=lambda self, x: value)
    return lambda given: scored(
        given, attack=attack, truth=given.private, n_match=None, referee=None
    )


CASES_OF = {
    ValueError: {
        "n_match 0": (partial(scored, n_match=0), "n_match is 0: choose a whole number"),
        "n_match 2.5": (partial(scored, n_match=2.5), "n_match is 2.5: choose a whole number"),
        "n_match True": (partial(scored, n_match=True), "n_match is True: choose"),
        "too many": (partial(scored, n_match=99), "n_match is 99 and there are 16 private images"),
        "nothing left": (
            *(partial(scored, n_match=16, referee=None), "n_match is 16, which is all private"),
            "lower it, or pass referee=",
        ),
        "no client": (partial(scored, clients=[]), "there is no client to evaluate"),
        "no such goal": (partial(scored, goal=["images"]), "there is no goal ['images']: choose"),
        "a seed of half": (partial(scored, seed=1.5), "seed is 1.5: choose a whole number"),
        "the private part as referee": (
            partial(scored, referee=lambda given: given.private),
            "of the scored images are in the referee's part, too",
        ),
        "a referee of other images": (
            partial(scored, referee=sl.ImageData(torch.zeros(4, 1, 32, 32), [0] * 4, ("a",))),
            *("the referee's images are (1, 32, 32)", "pass a part of the same split"),
        ),
        "public images of another size": (
            partial(scored, public=sl.ImageData(torch.zeros(4, 1, 32, 32), [0] * 4, ("a",))),
            *("the public images have the shape (1, 32, 32)", "pass public images of the clients'"),
        ),
        "too few scores": (inferring(torch.zeros(16, 3)), "of shape (16, 3) for 16 images and 10"),
        "images of two shapes": (
            lambda given: sl.metrics.mse(X, X[:, :, :8]),
            "the reconstructions have the shape (8, 1, 16, 16)",
        ),
        "NaN": (lambda given: sl.metrics.mse(X * float("nan"), X), "reconstructed contains NaN"),
        "no images": (lambda given: sl.metrics.mse(X[:0], X[:0]), "with N at least 1"),
        "a range NaN": (
            lambda given: sl.metrics.psnr(X, X, (float("nan"), 1.0)),
            "value_range is (nan, 1.0): pass the smallest",
        ),
        "a range of three": (
            lambda given: sl.metrics.ssim(X, X, (0, 1, 2)),
            "value_range is (0, 1",
        ),
        "nearest to NaN": (
            lambda given: sl.floors.nearest_public(X * float("nan"), X),
            "private_x contains NaN",
        ),
        "half a component": (lambda given: sl.floors.pca_public(X, X, 2.5), "k is 2.5: choose"),
        "half an image": (lambda given: sl.floors.mean_public(given.public, 2.5), "n is 2.5"),
        "labels of halves": (
            lambda given: sl.floors.class_mean_public(given.public, [0.5, 1.0]),
            "labels are torch.float32 of shape (2,): pass one whole number",
        ),
        "confidence": (lambda given: sl.intervals.mean([1, 2], 95), "confidence is 95: choose a"),
        "half a success": (lambda given: sl.intervals.proportion(0.5, 2), "successes is 0.5"),
        "half a run": (lambda given: sl.intervals.failure_bound(2.5), "runs is 2.5: choose"),
        "noise of text": (
            lambda given: fisher.fisher_information(lambda u: u, X.flatten(1), scale="much"),
            "scale is 'much': choose a finite number above 0",
        ),
        "a mixing encoder": (
            lambda given: fisher.fisher_information(lambda u: u @ X, X.flatten(1), scale=1.0),
            "encode fails",
        ),
        "half a step": (lambda given: sl.Snapshots(every=2.5), "every is 2.5: choose"),
        "rows twice": (lambda given: sl.ReceivedImages([1, 1]), "pass different row numbers"),
        "no training": (
            lambda given: sl.classifiers.train_cnn_classifier(given.referee, steps=0),
            "steps is 0: choose",
        ),
        "clusters of halves": (
            lambda given: sl.accuracy_after_matching(torch.rand(8), Y),
            "clusters are torch.float32: pass whole numbers",
        ),
        "rows of two lengths": (
            lambda given: figures.strip({"a": X, "b": X[:3]}),
            "rows have different numbers of images, a 8, b 3",
        ),
        "two channels": (
            lambda given: figures.strip({"a": torch.zeros(2, 2, 4, 4)}),
            "row 'a' has",
        ),
        "nothing to draw": (lambda given: figures.strip({}), "rows is empty: pass at least one"),
        "an unknown party": (
            lambda given: figures.curves({"a": ([1], [2], "spy")}, xlabel="x", ylabel="y"),
            "party is 'spy': choose one of '', 'client'",
        ),
        "more x than y": (
            lambda given: figures.curves({"a": ([1, 2], [2], "client")}, xlabel="x", ylabel="y"),
            "'a' has 2 x and 1 y values",
        ),
    },
    TypeError: {
        "swapped": (
            lambda given: sl.evaluate(hijack(given), client(given), given.referee),
            *("clients holds", "FSHA", "write evaluate(client, attack, referee)"),
        ),
        "a class": (partial(scored, attack=lambda given: sl.FSHA), "attack is the class FSHA"),
        "no goal": (
            partial(scored, attack=lambda given: server()),
            "HonestServer infers nothing that can be scored: give it infer_property",
        ),
        "a tensor as referee": (partial(scored, referee=X), "referee is a tensor of shape", "pass"),
        "the split as referee": (
            partial(scored, referee=sl.tiny.split("digits", 0)),
            "referee is a Split: pass ImageData, such as a part of",
        ),
        "windows of numbers": (
            lambda given: windowed(given, {"early": 20}),
            "the window 'early' is 20: pass name -> first step",
        ),
        "an attack that returns a list": (
            partial(scored, attack=returning("reconstruct", [1, 2])),
            "the attack returns [1, 2] for smashed data of 8 images: let it return a tensor",
        ),
        "a task of one argument": (
            lambda given: sl.task_accuracy(server(), client(given), given.referee),
            "client is",
            "pass the client first, then the server",
        ),
        "a task on a tensor": (
            lambda given: sl.task_accuracy(client(given), server(), X),
            "data is a tensor of shape (8, 1, 16, 16): pass ImageData",
        ),
        "arrays as images": (
            lambda given: sl.metrics.mse(np.zeros((8, 1, 16, 16)), X),
            "reconstructed is a numpy array of shape (8, 1, 16, 16): pass a torch tensor",
        ),
        "values of text": (lambda given: sl.intervals.mean("12"), "values is '12': pass a list"),
        "rows of text": (lambda given: sl.ReceivedImages("all"), "rows is 'all': pass a torch"),
        "a row of text": (lambda given: figures.strip({"a": "b"}), "row 'a' is 'b': pass a torch"),
        "rows of a tensor": (
            lambda given: figures.strip(X),
            "rows is a tensor",
            "pass a dictionary",
        ),
    },
}
CASES = [
    Misuse(
        what, do, raises, tuple(says), lambda given: [given.private, given.public, given.referee]
    )
    for raises, table in CASES_OF.items()
    for what, (do, *says) in table.items()
]
