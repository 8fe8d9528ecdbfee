"""What every attack must do, whoever wrote it; its class says how to make a small example.

A new attack joins by being exported from `splitlab.attacks`.
"""

import copy

import pytest
import torch
from examples import (
    BATCH,
    PROTOCOLS,
    assert_same,
    classes_of,
    few,
    in_float64,
    killed_run,
    made,
    put_back,
    run,
    take_steps,
)
from torch import nn

import splitlab as sl

ATTACKS = classes_of(sl.attacks, sl.Server, sl.Client)
PASSIVE = [one for one in ATTACKS if issubclass(one, sl.PassiveServer | sl.PassiveClient)]
HIJACKS = [sl.FSHA, sl.MultitaskFSHA, sl.PropertyInference, sl.SignedFSHA]
FLOORS = [sl.NoHijack]  # published by nobody


def each(attacks=ATTACKS):
    return pytest.mark.parametrize("kind", attacks, ids=lambda kind: kind.__name__)


def each_run(attacks=ATTACKS, *, takes_part=True):
    """Every attack in every protocol in which it takes part, or in which it does not."""
    runs = [
        pytest.param(kind, protocol, id=f"{kind.__name__}-{protocol}")
        for kind in attacks
        for protocol in PROTOCOLS
        if (protocol in kind.PROTOCOLS) == takes_part
    ]
    return pytest.mark.parametrize(("kind", "protocol"), runs)


@pytest.fixture
def data(digits):
    return few(digits)


def answers(attack, client, rows=BATCH):
    """What the attack finds out in the end, after it was given what its card grants."""
    message = sl.grant(attack, client) and client.smash(client.data.x[:rows])
    found = {
        name: getattr(attack, name)(message)
        for name in ("reconstruct", "infer_property")
        if hasattr(attack, name)
    }
    if isinstance(attack, sl.attacks.LabelInference):
        found["labels"] = attack.infer_labels(attack.received())
    if getattr(attack, "guesses", []):
        found["labels"] = torch.cat(attack.guesses)
    assert found, f"{type(attack).__name__} finds out nothing: give it reconstruct or infer_..."
    return found


@each_run()
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


@each()
def test_it_wrote_no_state_method(kind):
    for cls in kind.__mro__:
        if not cls.__module__.startswith("splitlab.core."):
            assert not {"state_dict", "load_state_dict"} & vars(cls).keys(), cls


@each_run(takes_part=False)
def test_where_it_takes_no_part_it_says_why(kind, protocol, data):
    attack, client, server = made(kind, data, protocol)
    with pytest.raises((ValueError, NotImplementedError, RuntimeError, TypeError)) as caught:
        run(client, server, PROTOCOLS[protocol], steps=2)
        answers(attack, client)
    # A sentence of this library, and not the end of a torch traceback.
    text = str(caught.value)
    assert "protocol" in text and ": " in text and "\n" not in text


def honest_twin(attack):
    """The honest party that an attack claims to be, in the same state."""
    one = nn.Linear(1, 1)
    if isinstance(attack, sl.Client):
        like = sl.Client(one, attack.data, batch_size=1)
    else:
        like = sl.HonestServer(one)
    twin = object.__new__(type(like))
    twin.__dict__ |= copy.deepcopy({name: vars(attack)[name] for name in vars(like)})
    return twin


@each_run(PASSIVE)
def test_a_passive_one_leaves_every_bit_as_an_honest_one_does(kind, protocol, data):
    """Asked for its answers in mid-training, too."""
    states, gradients = [], []
    for honest in (True, False):
        attack, client, server = made(kind, data, protocol)
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


@each()
def test_its_card_is_complete(kind):
    card = kind.threat
    assert card not in [base.threat for base in (sl.PassiveServer, sl.PassiveClient)]
    assert card.who and card.goal and card.sees and card.does_not_know
    assert card.knows or card.grants
    assert card.source or kind in FLOORS
    assert ("passive" in card.who) == (kind in PASSIVE)
    assert card.who.startswith("client" if issubclass(kind, sl.Client) else "server")


@each()
def test_its_repr_is_a_line_that_names_it(kind, data):
    shown = repr(made(kind, data)[0])
    assert shown.startswith(f"{kind.__name__}(") and shown.endswith(")")
    assert "\n" not in shown and " at 0x" not in shown
    assert len(shown) < 250


@each_run()
def test_it_answers_one_row_and_a_short_last_batch(kind, protocol, data):
    attack, client, server = made(kind, data, protocol)
    sizes = BATCH, BATCH, 1, 3
    gradients = take_steps(client, server, protocol, *sizes)
    assert [tuple(dz.shape) for dz in gradients] == [(size, 32, 4, 4) for size in sizes]
    assert {dz.dtype for dz in gradients} == {torch.float32}
    for name, answer in answers(attack, client, rows=1).items():
        assert answer.isfinite().all()
        assert name == "labels" or len(answer) == 1


@each_run()
def test_it_computes_in_the_precision_of_z(kind, protocol, data, monkeypatch):
    """The default stays float32, so that what an attack makes late follows z or fails."""
    attack, client, server = in_float64(lambda data: made(kind, data, protocol), data, monkeypatch)
    gradients = take_steps(client, server, protocol, BATCH, BATCH)
    assert {dz.dtype for dz in gradients} == {torch.float64}
    for name, answer in answers(attack, client).items():
        assert answer.dtype == (torch.int64 if name == "labels" else torch.float64), name


def test_a_class_that_gives_no_example_is_asked_for_one(data):
    kind = type("Mute", (sl.Server,), {"reply": lambda self, message: None})
    with pytest.raises(NotImplementedError, match=r"Mute does not say .* give it a classmethod"):
        made(kind, data)


def test_the_list_holds_every_attack_and_no_base_class():
    names = {kind.__name__ for kind in ATTACKS}
    assert names == set(sl.attacks.__all__) - {"LabelInference", "Received"}
    assert len(PASSIVE) == len(ATTACKS) - len(HIJACKS)
