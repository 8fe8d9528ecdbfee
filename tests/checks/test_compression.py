"""How the open exercise of chapter 11 is scored."""

import math

import pytest
import torch

from splitlab.course.checks import split_learning_from_scratch as check
from splitlab.course.checks.split_learning_from_scratch import compression

shelf = []


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


def test_the_table_shows_the_answer_beside_simple_ones(monkeypatch):
    monkeypatch.setattr(compression, "_accuracy", lambda codec, seed: 0.9)
    monkeypatch.setattr(compression, "_baseline", compression._baseline.__wrapped__)
    score = check.squeeze(float16)
    names = [row[0] for row in score.table.rows]
    assert names == ["float32", "float16", "8 bits", "2 bits", "sign only", "yours"]
    assert score.table.strong == len(names) - 1
    assert score.table.rows[-1][1:] == score.table.rows[1][1:], "the same way, the same figures"
    assert score.table.rows[-1][-1] == score.value
    assert 1.99 < score.value < 2


def test_no_score_is_shown_as_none(monkeypatch):
    accuracies = iter([0.8, 0.8] + [0.9] * 10)
    monkeypatch.setattr(compression, "_accuracy", lambda codec, seed: next(accuracies))
    monkeypatch.setattr(compression, "_baseline", compression._baseline.__wrapped__)
    score = check.squeeze(float16)
    assert score.value == 0
    assert score.table.rows[-1][-1] == "none"


@pytest.mark.parametrize(
    ("name", "bits", "restores"), [("8 bits", 8, 0.999), ("2 bits", 2, 0.8), ("sign only", 1, 0.3)]
)
def test_the_simple_ways_take_the_bits_that_they_say(name, bits, restores):
    codec, z = compression._Codec(*compression.BASELINES[name]), compression._usual_z()
    message = codec.send(z)
    assert message[0].nbytes == z.numel() * bits // 8
    error = (codec.restore(message, z.shape) - z).square().mean() / z.var()
    assert restores < 1 - error < restores + 0.2


def test_training_goes_on_with_8_bits_and_suffers_from_signs():
    whole, fine, rough = map(compression._baseline, ("float32", "8 bits", "sign only"))
    assert whole.accuracy > 0.85
    assert fine.score(whole) > whole.score(whole)
    assert rough.score(whole) == 0


def test_a_run_is_the_same_each_time():
    first = compression._accuracy(compression._Codec(*float16()), 2)
    assert compression._accuracy(compression._Codec(*float16()), 2) == first


def ping(n, log=shelf, *, also=shelf):
    shelf.append(n)
    log.append(n)
    also.append(n)
    return pong(n - 1) if n else shelf


def pong(n):
    return ping(n - 1) if n else shelf


def test_elsewhere_a_function_has_copies_of_what_it_refers_to():
    assert compression._elsewhere(ping)(2) == [2, 0]
    assert shelf == []


def torch_itself():
    return torch, pytest, Thing


class Thing:
    pass


def test_elsewhere_libraries_and_classes_are_the_same():
    assert compression._elsewhere(torch_itself)() == (torch, pytest, Thing)
