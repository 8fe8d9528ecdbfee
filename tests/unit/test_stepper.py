"""The stepper: what crosses, to whom, and what each party holds by then."""

import dataclasses
import io
import re

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

import splitlab as sl
from splitlab.show import stepper
from splitlab.show.figures import PARTY
from splitlab.show.stepper import Transcript

PAIR = "client", "server"


@pytest.fixture(scope="module")
def step(digits):
    """The messages of one real step, what each party held before it, and the frames of it all."""
    client = sl.Client(sl.tiny.client_net(), digits[0], batch_size=16)
    server, kept = sl.HonestServer(sl.tiny.server_net()), stepper.Transcript()
    sl.train([client], server, 1, observers=[kept])
    smashed, gradient = kept.messages
    holds = {"client": {"x": digits[0].x[:16], "f": client.net}, "server": {"s": server.net}}
    events = [("client", "runs f"), smashed, ("server", "runs s"), gradient]
    events += [("client", "updates f")]
    return smashed, gradient, holds, stepper.frames(events, holds=holds)


def test_messages_are_described_by_themselves(step):
    smashed, gradient, _, frames = step
    assert [frame.label for frame in frames] == [f"{number} of 5" for number in range(6)]
    shape = tuple(smashed.z.shape)
    assert [frame.alt.split(" By then ")[0] for frame in frames] == [
        "Moment 0 of 5: before anything happens.",
        "Moment 1 of 5: client runs f.",
        f"Moment 2 of 5: client to server: SmashedData, {smashed.nbytes:,} bytes, "
        f"with z {shape}, labels (16,).",
        "Moment 3 of 5: server runs s.",
        f"Moment 4 of 5: server to client: Gradient, {gradient.nbytes:,} bytes, with dz {shape}.",
        "Moment 5 of 5: client updates f.",
    ]


def test_parties_gain_what_they_work_out_and_what_they_receive(step):
    _, _, holds, frames = step
    held = []
    for frame in frames:
        sides = frame.alt.split(" By then ")[1].rstrip(".").split("; ")
        held.append(dict(side.split(" holds ") for side in sides))
    weights = sl.nets.parameter_count(holds["client"]["f"])
    assert held[0]["client"] == f"x (16, 1, 16, 16), f {weights:,} weights"

    def tensors(party):
        return [re.findall(r"(\w+) \(", side[party]) for side in held]

    before, after = ["x"], ["x", "z", "labels"]
    assert tensors("client") == [before, after, after, after, [*after, "dz"], [*after, "dz"]]
    received = ["z", "labels"]
    assert tensors("server") == [[], [], received, *[[*received, "dz"]] * 3]


def pixels(frame):
    return np.asarray(Image.open(io.BytesIO(frame.png)).convert("RGB")).astype(int)


def below_the_boxes(picture):
    """The part with the events: it begins under the last row that both boxes' edges share."""
    blue = np.array([round(255 * part) for part in to_rgb(PARTY["client"]["color"])])
    blue_rows = (np.abs(picture - blue).max(axis=2) <= 12).sum(axis=1)
    long_edges = np.flatnonzero(blue_rows > 0.3 * picture.shape[1])
    return picture[long_edges[long_edges < 0.5 * len(picture)].max() + 3 :]


def test_what_happens_has_the_color_of_the_party_that_does_it(step):
    pictures = [pixels(frame) for frame in step[-1]]
    assert len({picture.shape for picture in pictures}) == 1, "the pictures must not jump"
    found = []
    for picture in pictures:
        events, here = below_the_boxes(picture), ""
        for party in ("client", "server"):
            color = 255 * np.array(to_rgb(PARTY[party]["color"]))
            if (np.abs(events - color).max(axis=2) <= 12).sum() > 20:
                here += party
        found.append(here)
    assert found == ["", "client", "client", "server", "server", "client"]


def test_a_diagram_has_all_events_in_the_colors_of_their_parties(step):
    smashed, gradient, holds, _ = step
    events = [("client", "runs f"), smashed, gradient]
    drawn = stepper.diagram(events, holds=holds, caption="Look at the arrows.")
    picture = below_the_boxes(pixels(drawn))
    for party in PAIR:
        color = 255 * np.array(to_rgb(PARTY[party]["color"]))
        assert (np.abs(picture - color).max(axis=2) <= 12).sum() > 20, party
    assert drawn.alt.startswith("3 events in order: client runs f; client to server: SmashedData")
    assert "server to client: Gradient" in drawn.alt
    assert drawn.alt.endswith(f"dz {tuple(gradient.dz.shape)}.")
    assert drawn.caption == "Look at the arrows."
    with pytest.raises(ValueError, match="at least one event"):
        stepper.diagram([])


def test_messages_between_three_parties_go_to_whom_they_say(step):
    smashed, gradient, *_ = step
    state = {"w": torch.zeros(3), "b": torch.zeros(1)}
    weights = sl.Weights(state=state, samples=7, sender="client 1", to="client 2", step=0)
    first, second = (dataclasses.replace(smashed, sender=f"client {n}") for n in (1, 2))
    events = [first, dataclasses.replace(gradient, to="client 1"), weights, second]
    frames = stepper.frames(events)
    assert "client 1 holds z (16, 32, 4, 4), labels (16,), dz" in frames[3].alt, "nothing new"
    assert (
        "client 1 to client 2: Weights, 16 bytes, with state 4 numbers, samples 7" in frames[3].alt
    )
    assert "client 2 holds nothing" in frames[2].alt
    assert "client 2 holds state 4 numbers, samples 7." in frames[3].alt


def test_messages_of_the_u_shaped_protocol():
    numbers = torch.zeros(4, 2)
    up, down = ({"sender": a, "to": b, "step": 0} for a, b in (PAIR, PAIR[::-1]))
    events = [
        sl.SmashedData(z=numbers, **up),
        sl.ServerOutput(a=numbers, **down),
        sl.OutputGradient(da=numbers, **up),
        sl.Gradient(dz=numbers, **down),
    ]
    last = stepper.frames(events)[-1]
    for party in ("client", "server"):
        assert f"{party} holds z (4, 2), a (4, 2), da (4, 2), dz (4, 2)" in last.alt
    assert "labels" not in last.alt, "labels that were not sent are nobody's"


def test_who_works_while_another_party_sends_does_not_hold_what_is_sent(step):
    waits = stepper.frames([("server", "waits"), step[0]])[1]
    assert waits.alt.endswith("By then server holds nothing; client holds nothing.")


def test_messages_refuse_what_they_cannot_draw(step):
    smashed = step[0]
    with pytest.raises(ValueError, match="at least one event"):
        stepper.frames([])
    with pytest.raises(ValueError, match="the SmashedData of client has no receiver"):
        stepper.frames([dataclasses.replace(smashed, to="")])
    for wrong in ("client", ("client",), ("client", 3), smashed.z[0, 0, 0]):
        with pytest.raises(TypeError, match="a message or a pair"):
            stepper.frames([smashed, wrong])


def test_a_party_without_a_role_is_grey():
    assert stepper._style("client 2") == PARTY["client"]
    assert stepper._style("clinic")["color"] not in {style["color"] for style in PARTY.values()}


# --- the transcript ---


def parties(private, n, *, tail=False, index=False):
    """n clients with a part of the images each, and a server for them."""
    clients = []
    for k in range(n):
        net = sl.tiny.server_net()
        data = private.select(torch.arange(k, len(private), n))
        options = {"batch_size": 16, "tail": net[3:] if tail else None, "sends_index": index}
        clients.append(sl.Client(sl.tiny.client_net(), data, name=f"client {k + 1}", **options))
    labels = private.y[: len(clients[0].data)] if index else None
    return clients, sl.HonestServer(net[:3] if tail else net, labels=labels)


PROTOCOLS = {
    "vanilla": (1, sl.vanilla),
    "U-shaped": (1, sl.u_shaped),
    "each on its own": (3, sl.vanilla),
    "in turn": (3, sl.Sequential()),
    "in turn, long turns": (2, sl.Sequential(turn=2)),
    "in turn, U-shaped": (3, sl.Sequential(sl.u_shaped)),
    "in turn, through the server": (3, sl.Sequential(through_server=True)),
    "SplitFed": (3, sl.SplitFed(sl.Aggregator(name="mean"))),
    "SplitFed, long turns": (2, sl.SplitFed(turn=2)),
    "SplitFed, U-shaped": (2, sl.SplitFed(protocol=sl.u_shaped)),
}


@pytest.mark.parametrize("case", PROTOCOLS)
def test_the_receiver_is_who_gets_the_message(digits, monkeypatch, case):
    """Every method that takes a message notes whose it is, in the order in which they are sent."""
    n, protocol = PROTOCOLS[case]
    got = []

    def spied(method):
        def method_that_notes(self, message):
            got.append(self.name)
            return method(self, message)

        return method_that_notes

    for party, methods in (
        (sl.Client, ("backward", "finish", "load")),
        (sl.HonestServer, ("reply", "forward", "backward", "relay")),
        (sl.Aggregator, ("collect",)),
    ):
        for name in methods:
            monkeypatch.setattr(party, name, spied(getattr(party, name)))

    clients, server = parties(digits[0], n, tail="u_shaped" in str(protocol))
    kept = Transcript()
    sl.train(clients, server, 8, protocol=protocol, observers=[kept])
    assert len(got) >= 16
    assert [message.to for message in kept.messages] == got


def test_a_transcript_keeps_copies(digits):
    clients, server = parties(digits[0], 1)
    seen = []

    class Spoil(sl.Observer):
        def message(self, message):
            seen.append({name: t.clone() for name, t in zip("zy", message.tensors(), strict=False)})
            next(message.tensors()).zero_()

    kept = Transcript()
    sl.train(clients, server, 1, observers=[kept, Spoil()])
    assert torch.equal(kept.messages[0].z, seen[0]["z"])
    assert kept.messages[0].z.any()


def test_a_transcript_knows_what_each_party_held_and_what_reached_it(digits):
    clients, server = parties(digits[0], 2, index=True)
    kept = Transcript()
    sl.train(clients, server, 2, protocol=sl.SplitFed(), observers=[kept])
    count = len(clients[0].data)
    weights = f"{sl.nets.parameter_count(server.net):,} weights"
    assert list(kept.holds) == ["client 1", "client 2", "server"]
    assert list(kept.holds["client 1"]) == ["x", "labels", "f"]
    assert kept.holds["client 1"]["x"] == f"({count}, 1, 16, 16)"
    assert kept.holds["server"] == {"s": weights, "labels": f"({count},)"}
    assert kept.got("server") == ["z", "index"]
    assert kept.got("client 2") == ["dz", "state", "samples"]
    assert kept.got("aggregator") == ["state", "samples"]
    copies = sl.ServerCopies(server, {client.name: 1 for client in clients})
    sl.train(clients, copies, 1, observers=[kept := Transcript()])
    assert kept.holds["server"] == {f"s for {client.name}": weights for client in clients}


def test_the_frames_of_a_transcript_need_nothing_else(digits):
    kept, relayed = Transcript(), sl.Sequential(sl.u_shaped, through_server=True)
    sl.train(*parties(digits[0], 2, tail=True), 1, protocol=relayed, observers=[kept])
    frames = stepper.frames(kept)
    assert len(frames) == 7
    before, *_, last = (frame.alt for frame in frames)
    f, tail = (kept.holds["client 1"][name] for name in ("f", "tail"))
    assert f"client 2 holds x {kept.holds['client 2']['x']}, labels" in before
    assert f"f {f}, tail {tail}; server holds s " in before
    assert "server to client 2: Weights, " in last
    server = last.split("server holds ")[1]
    assert re.findall(r"(\w+) [(\d]", server) == ["s", "z", "a", "da", "dz", "state", *SENT]
    client = last.split("client 1 holds ")[1].split(";")[0]
    assert "state" not in client, "its own weights are no news to it"


SENT = ["optimizer", "samples"]


def test_many_parties_stand_closer(digits):
    """Four columns on a phone: no more than half as wide again as two."""
    kept = Transcript()
    sl.train(*parties(digits[0], 2), 2, protocol=sl.SplitFed(), observers=[kept])
    four = pixels(stepper.frames(kept)[0])
    two = pixels(stepper.frames(kept.messages[:2])[0])
    assert two.shape[1] < four.shape[1] < 1.5 * two.shape[1]


def test_a_transcript_goes_on_where_a_killed_run_stopped(digits, tmp_path):
    def run(steps, path):
        kept = Transcript()
        clients, server = parties(digits[0], 2)
        options = {"protocol": sl.Sequential(), "observers": [kept], "checkpoint": path, "every": 1}
        sl.train(clients, server, steps, **options)
        return kept

    run(1, tmp_path / "run")
    resumed, whole = run(3, tmp_path / "run"), run(3, tmp_path / "whole")
    assert resumed.holds == whole.holds
    for one, other in zip(resumed.messages, whole.messages, strict=True):
        assert type(one) is type(other)
        assert (one.sender, one.to, one.step) == (other.sender, other.to, other.step)
        assert all(map(torch.equal, one.tensors(), other.tensors()))


def test_a_transcript_needs_parties_of_different_names(digits):
    clients, server = parties(digits[0], 2)
    clients[1].name = "client 1"
    with pytest.raises(sl.ThreatModelViolation, match="both called 'client 1'"):
        sl.train(clients, server, 1, observers=[Transcript()])
