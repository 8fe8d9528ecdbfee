"""How the open exercise of chapter 11 is scored."""

import math
from importlib import import_module

import pytest
import torch

from splitlab.course.checks import split_learning_from_scratch as check

compression = import_module("splitlab.course.checks.split_learning_from_scratch.squeeze")


def float16():
    def pack(z):
        return z.half()

    def unpack(message, shape):
        return message.float()

    return pack, unpack


def test_bytes_are_those_of_the_numbers_and_of_the_shapes():
    codes, scale = torch.zeros(4, 2, dtype=torch.uint8), torch.ones((), dtype=torch.float16)
    assert compression._nbytes((codes, scale)) == (8 + 3 * 8) + (2 + 8)
    assert compression._nbytes(codes) == 8 + 3 * 8
    assert compression._nbytes(torch.zeros(10**6, 0)) == 3 * 8, (
        "an empty tensor's shape is a number"
    )


def test_bytes_of_an_expanded_tensor_are_those_that_cross():
    message = compression._delivered(torch.ones(1, dtype=torch.uint8).expand(100))
    assert message.untyped_storage().nbytes() == 100


def test_the_score_is_times_smaller_times_restored_or_none():
    whole = compression._Figures("float32", 1000, 1.0, 0.93)
    assert whole.score(whole) == 1
    assert math.isclose(compression._Figures("a", 100, 0.5, 0.92).score(whole), 5)
    assert compression._Figures("b", 100, 0.5, 0.93 - compression.MAY_LOSE - 1e-6).score(whole) == 0
    assert compression._Figures("c", 100, 0.5, 0.99).score(whole) == 5, "no more for more accuracy"


def steps(accuracy):
    """Stand in for a training: a step of figures, whatever the codec."""

    def train(codec, seed):
        z = torch.rand(4, 8, 8, 8)
        return [(compression._nbytes(codec.send(z)), 1.0, accuracy(seed))]

    return train


def test_the_table_shows_the_answer_beside_simple_ones(monkeypatch):
    monkeypatch.setattr(compression, "_train", steps(lambda seed: 0.9))
    monkeypatch.setattr(compression, "_baseline", compression._baseline.__wrapped__)
    score = check.squeeze(float16).score
    names = [row[0] for row in score.table.rows]
    assert names == ["float32", "8 bits", "2 bits", "sign only", "yours"]
    assert score.table.strong == len(names) - 1
    assert score.table.rows[-1][-1] == score.value
    assert 1.9 < score.value < 2


def test_no_score_is_shown_as_none(monkeypatch):
    accuracies = iter([0.8, 0.8] + [0.9] * 8)  # the answer is measured first
    monkeypatch.setattr(compression, "_train", steps(lambda seed: next(accuracies)))
    monkeypatch.setattr(compression, "_baseline", compression._baseline.__wrapped__)
    verdict = check.squeeze(float16)
    assert verdict.passed
    assert verdict.score.value == 0
    assert verdict.score.table.rows[-1][-1] == "none"


@pytest.mark.parametrize(
    ("name", "bits", "restores"), [("8 bits", 8, 0.999), ("2 bits", 2, 0.8), ("sign only", 1, 0.3)]
)
def test_the_simple_ways_take_the_bits_that_they_say(name, bits, restores):
    codec, z = compression._Codec(*compression.BASELINES[name]), torch.zeros(4, 8, 8, 8)
    assert codec.send(z + 1)[0].nbytes == z.numel() * bits // 8
    assert restores < compression._baseline(name).restored < restores + 0.2


def test_training_goes_on_with_8_bits_and_suffers_from_signs():
    whole, fine, rough = map(compression._baseline, ("float32", "8 bits", "sign only"))
    assert whole.accuracy > 0.85
    assert fine.score(whole) > whole.score(whole)
    assert rough.score(whole) == 0


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_no_rounding_beats_the_least_error(bits):
    z, top = torch.rand(10**5, dtype=torch.float64), 2**bits
    error = ((z * top).floor().add(0.5) / top - z).square().mean().item()
    least = compression._least_error(bits)
    assert least < error < 1.5 * least


def test_without_a_bit_the_least_error_is_not_above_the_variance():
    assert compression._least_error(0) < 1 / 12


def test_float32_may_be_sent_without_error():
    assert compression._least_error(32) == 0
