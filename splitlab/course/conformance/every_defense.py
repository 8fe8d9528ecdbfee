"""What every defense must do: of a client, of a server that holds labels, or of a server itself."""

import pytest
import torch

import splitlab as sl
from splitlab.course.conformance.every_class import (
    data,
    kinds_of,
    lay_over,
    one_thread,
    test_it_wrote_no_state_method,
    test_its_repr_is_a_line_that_names_it,
)
from splitlab.course.conformance.examples import (
    BATCH,
    PROTOCOLS,
    Killed,
    KillInStep,
    assert_same,
    in_float64,
    in_turn,
    killed_run,
    made,
    put_back,
    run,
    take_steps,
)


def pytest_generate_tests(metafunc):
    lay_over(metafunc, kinds_of(metafunc, "defense", "DEFENSES"))


def test_it_resumes_to_the_last_bit_and_shares_no_memory(kind, protocol, data, tmp_path):
    whole = made(kind, data, protocol)
    log = run(*whole[1:], PROTOCOLS[protocol])
    killed, killed_log = killed_run(
        lambda: made(kind, data, protocol), tmp_path / "run", PROTOCOLS[protocol]
    )
    assert_same(whole, killed)
    assert {name: log[name] for name in log} == {name: killed_log[name] for name in killed_log}
    sl.audit([killed[1]], killed[2])
    # A batch of one row has one class, which Marvell treats as it did the batch before.
    again = put_back(made(kind, data, protocol), whole)
    following = [take_steps(*parties[1:], protocol, 1, BATCH) for parties in (whole, again)]
    assert_same(*following)


def test_clients_in_turn_resume_through_it_to_the_last_bit_and_share_no_memory(
    serving, protocol, data, tmp_path
):
    """Their weights pass through the server, which may keep them."""
    options = {"protocol": sl.Sequential(PROTOCOLS[protocol], through_server=True)}
    whole = in_turn(serving, data, protocol)
    sl.train(*whole, 12, **options)
    options |= {"checkpoint": tmp_path / "run", "every": 5}
    with pytest.raises(Killed):
        sl.train(*in_turn(serving, data, protocol), 12, observers=[KillInStep(7)], **options)
    killed = in_turn(serving, data, protocol)
    sl.train(*killed, 12, **options)
    assert_same(whole, killed)
    sl.audit(*killed)


def test_where_it_takes_no_part_it_says_why(kind, other_protocol, data):
    with pytest.raises((ValueError, NotImplementedError)) as caught:
        run(*made(kind, data, other_protocol)[1:], PROTOCOLS[other_protocol], steps=1)
    text = str(caught.value)
    assert "protocol" in text and ": " in text and "\n" not in text


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_keeps_shape_and_precision_and_changes_no_message(
    kind, protocol, dtype, data, monkeypatch
):
    """Also for one row and a short last batch. Messages and true gradients do not change."""

    def make(data):
        return made(kind, data, protocol)

    double = dtype == torch.float64
    defense, client, server = in_float64(make, data, monkeypatch) if double else make(data)
    if isinstance(defense, sl.Server):  # it acts between turns, and answers as it would without
        gradients = take_steps(client, server, protocol, BATCH, BATCH, 1, 3)
        assert [len(dz) for dz in gradients] == [BATCH, BATCH, 1, 3]
        assert {dz.dtype for dz in gradients} == {dtype}
        return
    hook = "outgoing" if isinstance(defense, sl.LabelDefense) else "incoming"
    defend, calls = getattr(defense, hook), []

    def watched(*arguments):
        given = [one.clone() for one in arguments if isinstance(one, torch.Tensor)]
        calls.append(returned := defend(*arguments))
        after = [one for one in arguments if isinstance(one, torch.Tensor)]
        assert all(map(torch.equal, given, after))
        assert (returned.shape, returned.dtype) == (given[0].shape, given[0].dtype)
        assert returned.isfinite().all()
        return returned

    monkeypatch.setattr(defense, hook, watched)
    take_steps(client, server, protocol, BATCH, BATCH, 1, 3)
    assert [len(dz) for dz in calls] == [BATCH, BATCH, 1, 3]
    assert {dz.dtype for dz in calls} == {dtype}
