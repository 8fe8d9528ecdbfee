"""Labels at the server (vertical split learning): row numbers cross, labels do not."""

import pytest
import torch

import splitlab as sl
from splitlab.course.experiments import largest_difference


def server(labels=None):
    return sl.HonestServer(sl.tiny.server_net(), labels=labels)


def test_it_equals_vanilla_exactly(make_client):
    """The same labels reach the same rows, whichever side they come from."""

    def states(client, server):
        log = sl.train([client], server, 6)
        return client.net.state_dict(), server.net.state_dict(), log

    client = make_client(sends_index=True)
    vertical = states(client, server(client.data.y))
    vanilla = states(make_client(), server())
    assert largest_difference(vertical[0], vanilla[0]) == 0
    assert largest_difference(vertical[1], vanilla[1]) == 0
    assert vertical[2]["task_loss"] == vanilla[2]["task_loss"]
    # It is the row numbers that find the labels: shifted by a row, the run is another one.
    client = make_client(sends_index=True)
    shifted = states(client, server(client.data.y.roll(1)))
    assert largest_difference(shifted[0], vanilla[0]) > 1e-4


def test_row_numbers_cross_and_no_labels(make_client):
    seen = []

    class Look(sl.Observer):
        def message(self, message):
            if isinstance(message, sl.SmashedData):
                seen.append((message.labels, message.index, client.turn.index))

    client = make_client(sends_index=True)
    sl.train([client], server(client.data.y), 2, observers=[Look()])
    assert [labels for labels, _, _ in seen] == [None, None]
    assert all(torch.equal(index, rows) for _, index, rows in seen)
    assert make_client().forward().index is None


def test_the_servers_labels_are_its_own(make_client):
    client = make_client(sends_index=True)
    honest = server(client.data.y)
    sl.audit([client], honest)
    assert torch.equal(honest.labels, client.data.y)


@pytest.mark.parametrize("design", ["fast", "paper"])
def test_fsha_needs_neither_labels_nor_row_numbers(make_client, make_attack, design):
    one, other = make_client(sends_index=True), make_client()
    sl.train([one], make_attack(design), 3)
    sl.train([other], make_attack(design), 3)
    assert largest_difference(one.net.state_dict(), other.net.state_dict()) == 0


def test_what_is_missing_gets_a_sentence(make_client):
    with pytest.raises(ValueError, match="sends_index=True"):
        sl.train([make_client(sends_labels=False)], server(torch.zeros(9, dtype=torch.int64)), 1)
    with pytest.raises(ValueError, match="holds 9 labels: give it a label for each"):
        sl.train([make_client(sends_index=True)], server(torch.zeros(9, dtype=torch.int64)), 1)
    with pytest.raises(ValueError, match="sends_labels=True"):
        sl.train([make_client(sends_index=True)], server(), 1)
