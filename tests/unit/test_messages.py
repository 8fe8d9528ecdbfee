"""Messages and the wire."""

import pytest
import torch
from torch import nn

import splitlab as sl

SERVER = sl.HonestServer(nn.Linear(1, 1))


def example_messages():
    z = torch.randn(4, 3, requires_grad=True)
    header = {"sender": "client", "step": 3}
    return [
        sl.SmashedData(z=z * 2, labels=torch.arange(4), **header),
        sl.Gradient(dz=z * 2, **header),
        sl.ServerOutput(a=z * 2, **header),
        sl.OutputGradient(da=z * 2, **header),
        sl.Weights(
            state={"w": z * 2},
            optimizer={"state": {0: {"m": z}}, "groups": [(0.1, "adam")]},
            **header,
        ),
    ]


@pytest.mark.parametrize("message", example_messages(), ids=lambda m: type(m).__name__)
def test_delivery_keeps_values_and_shares_nothing(message):
    delivered = sl.Wire()(message, SERVER)
    sent, received = list(message.tensors()), list(delivered.tensors())
    assert type(delivered) is type(message)
    assert (delivered.sender, delivered.step, delivered.to) == ("client", 3, "server")
    assert message.to == "", "the sender keeps what it had"
    assert len(sent) == len(received) > 0
    for a, b in zip(sent, received, strict=True):
        assert torch.equal(a, b)
        assert a.untyped_storage().data_ptr() != b.untyped_storage().data_ptr()
        assert b.grad_fn is None
        assert not b.requires_grad


def test_a_flatten_client_leaks_its_rows_through_detach_but_not_through_the_wire():
    x = torch.randn(10, 1, 2, 2)
    z = nn.Flatten()(x[3:4])
    assert z.detach().untyped_storage().nbytes() == x.untyped_storage().nbytes()  # all ten rows
    delivered = sl.Wire()(sl.SmashedData(z=z, sender="client", step=0), SERVER)
    assert delivered.z.untyped_storage().nbytes() == 4 * x.element_size()


def test_nbytes_counts_payload():
    message = sl.SmashedData(
        z=torch.zeros(8, 5), labels=torch.zeros(8, dtype=torch.int64), sender="c", step=0
    )
    assert message.nbytes == 8 * 5 * 4 + 8 * 8


def test_messages_are_frozen():
    message = sl.Gradient(dz=torch.zeros(1), sender="server", step=0)
    with pytest.raises(AttributeError):
        message.dz = torch.ones(1)


def test_the_wire_refuses_what_is_no_message():
    with pytest.raises(TypeError, match="only messages can be sent, not a tensor"):
        sl.Wire()(torch.zeros(3), SERVER)
    message = sl.Gradient(dz=torch.zeros(1), sender="server", step=0)
    with pytest.raises(TypeError, match=r"a party, not to 'client': write send\(message, server"):
        sl.Wire()(message, "client")


def test_a_message_refuses_objects():
    message = sl.Weights(state={"w": object()}, sender="client", step=0)
    with pytest.raises(TypeError, match="not object"):
        sl.Wire()(message, SERVER)
