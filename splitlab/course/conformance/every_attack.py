"""What every attack must do; its class says how to make a small example."""

import copy

import pytest
import torch
from torch import nn

import splitlab as sl
from splitlab.course.conformance.every_class import (
    data,
    is_passive,
    kinds_of,
    lay_over,
    one_thread,
    test_it_wrote_no_state_method,
    test_its_repr_is_a_line_that_names_it,
)
from splitlab.course.conformance.examples import (
    BATCH,
    PROTOCOLS,
    assert_same,
    in_float64,
    killed_run,
    made,
    put_back,
    run,
    take_steps,
)

RAISED = ValueError, NotImplementedError, RuntimeError, TypeError


def pytest_generate_tests(metafunc):
    lay_over(metafunc, kinds_of(metafunc, "attack", "ATTACKS"))


def answers(attack, client, rows=BATCH):
    """The attack's final answers, after it was given what its card grants."""
    message = sl.grant(attack, client) and client.smash(client.data.x[:rows])
    found = {
        name: getattr(attack, name)(message)
        for name in ("reconstruct", "infer_property")
        if hasattr(attack, name)
    }
    if hasattr(attack, "inferred"):
        found["labels"] = attack.inferred().labels
    if hasattr(attack, "generate"):
        found["generated"] = attack.generate(rows)
    if hasattr(attack, "attack_set"):
        found["attacked"] = attack.attack_set(client.data)[1][:rows]
    assert found, (
        f"{type(attack).__name__} has nothing that can be scored: give it reconstruct, "
        "infer_property, generate or attack_set, or for labels derive from "
        "sl.attacks.LabelInference"
    )
    return found


def test_it_resumes_to_the_last_bit_and_shares_no_memory(kind, protocol, data, tmp_path):
    whole = made(kind, data, protocol)
    log = run(*whole[1:], PROTOCOLS[protocol])
    killed, killed_log = killed_run(
        lambda: made(kind, data, protocol), tmp_path / "run", PROTOCOLS[protocol]
    )
    assert_same(whole, killed)
    assert {name: log[name] for name in log} == {name: killed_log[name] for name in killed_log}
    again = put_back(made(kind, data, protocol), whole)
    found = answers(*whole[:2])
    assert_same(found, answers(*killed[:2]))
    assert_same(found, answers(*again[:2]))
    assert_same(whole, killed)
    sl.audit([killed[1]], killed[2])


def test_where_it_takes_no_part_it_says_why(kind, other_protocol, data):
    attack, client, server = made(kind, data, other_protocol)
    with pytest.raises(RAISED) as caught:
        run(client, server, PROTOCOLS[other_protocol], steps=2)
        answers(attack, client)
    # A sentence of this library, and not the end of a torch traceback.
    text = str(caught.value)
    assert "protocol" in text and ": " in text and "\n" not in text


def honest_twin(attack):
    """The honest party that an attack claims to be, in the same state."""
    one = nn.Sequential(nn.Flatten(), nn.LazyLinear(1))
    one(attack.data.x if isinstance(attack, sl.Client) else torch.zeros(1, 1))
    if isinstance(attack, sl.Client):
        like = sl.Client(one, attack.data, batch_size=1)
    else:
        like = sl.HonestServer(one)
    twin = object.__new__(type(like))
    twin.__dict__ |= copy.deepcopy({name: vars(attack)[name] for name in vars(like)})
    return twin


def test_a_passive_one_leaves_every_bit_as_an_honest_one_does(passive, protocol, data):
    """Asked for its answers in mid-training, too."""
    states, gradients = [], []
    for honest in (True, False):
        attack, client, server = made(passive, data, protocol)
        if honest:
            twin = honest_twin(attack)
            client, server = (twin if party is attack else party for party in (client, server))
        replies = take_steps(client, server, protocol, BATCH, BATCH)
        if not honest:
            answers(attack, client)
        replies += take_steps(client, server, protocol, BATCH, BATCH)
        nets = {"f": client.net, "tail": client.tail, "s": server.net}
        states.append({**nets, "randomness": (client.randomness, server.randomness)})
        gradients.append(replies)
    assert len(gradients[0]) == 4
    assert_same(*gradients)
    assert_same(*states)


def test_its_card_is_complete(kind):
    card = getattr(kind, "threat", None)
    bases = [sl.HonestServer, sl.Client, sl.PassiveServer, sl.PassiveClient]
    own = "give {} a card of its own, threat = sl.ThreatModel(who=..., goal=..., ...)"
    assert card is not None and card not in [base.threat for base in bases], own.format(kind)
    assert card.who and card.goal and card.sees and card.does_not_know, card
    assert card.knows or card.grants, card
    assert ("passive" in card.who) == is_passive(kind), card.who
    assert card.who.startswith("client" if issubclass(kind, sl.Client) else "server"), card.who


def test_it_answers_one_row_and_a_short_last_batch(kind, protocol, data):
    attack, client, server = made(kind, data, protocol)
    sizes = BATCH, BATCH, 1, 3
    gradients = take_steps(client, server, protocol, *sizes)
    assert [tuple(dz.shape) for dz in gradients] == [(size, 32, 4, 4) for size in sizes]
    assert {dz.dtype for dz in gradients} == {torch.float32}
    for name, answer in answers(attack, client, rows=1).items():
        assert answer.isfinite().all()
        assert name == "labels" or len(answer) == 1


def test_it_computes_in_the_precision_of_z(kind, protocol, data, monkeypatch):
    """The default stays float32, so that what an attack makes late follows z or fails."""
    attack, client, server = in_float64(lambda data: made(kind, data, protocol), data, monkeypatch)
    gradients = take_steps(client, server, protocol, BATCH, BATCH)
    assert {dz.dtype for dz in gradients} == {torch.float64}
    for name, answer in answers(attack, client).items():
        assert answer.dtype == (torch.int64 if name == "labels" else torch.float64), name
