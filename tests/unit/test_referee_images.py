"""Evaluation: floors, ceilings, modes, and what it refuses."""

import base64
import dataclasses
import io
import json
import re

import numpy as np
import PIL.Image
import pytest
import torch

import splitlab as sl
from splitlab.referee.attacked import AttackedClients
from splitlab.referee.metrics import METRICS


@pytest.fixture(autouse=True)
def short_oracle(request, monkeypatch):
    """The oracle decoder trains a few steps, but for the test that asks how good it is."""
    if request.node.name != "test_hijack_report_has_floors_and_ceilings":
        monkeypatch.setattr(sl.referee.images, "ORACLE_STEPS", 20)


class Oracle:
    """An "attack" that was handed the client: it knows every answer."""

    def __init__(self, public, private):
        self.public, self.private = public, private

    def reconstruct(self, message):
        return self.images

    def autoencode(self, x):
        return x


def test_hijack_report_has_floors_and_ceilings(hijack, digits):
    client, attack, _, _ = hijack
    report = sl.evaluate(client, attack, digits[2])
    assert report.n == 500
    assert set(report.floors) == {"mean_public", "nearest_public", "class_mean_public"}
    assert set(report.ceilings) == {"own_autoencoder", "oracle_decoder"}
    for scores in (*report.floors.values(), *report.attack.values(), *report.ceilings.values()):
        assert tuple(scores) == METRICS
    # The hijack of the chapter: better than the best public image, and pictures of one's own.
    assert report["attack"]["matched"] >= 0.95
    assert report["attack"]["mse"] <= 0.75 * report.floors["nearest_public"]["mse"]
    assert report["attack"]["recognized"] >= 0.88
    # Floors are where they belong.
    assert report.floors["mean_public"]["matched"] <= 0.01
    assert abs(report.floors["mean_public"]["explained_variance"]) < 0.1
    assert report.floors["class_mean_public"]["recognized"] >= 0.98
    assert report.floors["class_mean_public"]["matched"] < 0.1
    assert 0.2 < report.floors["nearest_public"]["matched"] < 0.6
    # Ceilings are above the attack.
    assert report.ceilings["oracle_decoder"]["mse"] < report["attack"]["mse"]
    assert report.ceilings["own_autoencoder"]["mse"] < 1e-6


def test_report_can_be_printed_shown_and_stored(hijack, digits):
    client, attack, _, _ = hijack
    report = sl.evaluate(client, attack, digits[2])
    assert "ceiling: oracle decoder" in str(report)
    page = report._repr_html_()
    assert '<table class="splitlab">' in page
    assert page.count("<img") == len(report.pictures) > 2
    for label, images in report.pictures.items():
        alt = f"8 small images in a row: {label}"
        found = re.search(rf'src="data:image/png;base64,(\S+)" alt="{alt}"', page)
        picture = PIL.Image.open(io.BytesIO(base64.b64decode(found[1])))
        assert picture.size == (8 * 18, 18)  # with a margin of one pixel
        red = torch.from_numpy(np.array(picture))[1:17, 19:35, 0]  # of the second one
        torch.testing.assert_close(red.float(), 127.5 * (images[1, 0] + 1), rtol=0, atol=0.51)
    assert json.loads(json.dumps(report.to_dict()))["n"] == 500


def test_evaluation_is_repeatable(hijack, digits):
    client, attack, _, _ = hijack
    one, two = (sl.evaluate(client, attack, digits[2]).to_dict() for _ in range(2))
    assert one == two


def test_an_attack_without_public_images_is_scored_against_given_ones(make_client, digits):
    class Blank:
        """Knows nothing and has no networks."""

        def reconstruct(self, message):
            return torch.zeros(len(message.z), 1, 16, 16)

    private, public, referee = digits
    report = sl.evaluate(make_client(), Blank(), referee, public=public, n_match=20)
    assert report.n == 20 and set(report.ceilings) == {"oracle_decoder"}
    assert report["nearest_public"]["mse"] < report["attack"]["mse"]
    with pytest.raises(ValueError, match="pass public= to evaluate"):
        sl.evaluate(make_client(), Blank(), referee)
    with pytest.raises(ValueError, match="both private and public"):
        sl.evaluate(make_client(), Blank(), referee, public=private)


@pytest.mark.parametrize("width", [1, 16, 32])
def test_what_as_many_numbers_could_carry_is_a_floor_where_z_has_fewer_than_the_image(
    make_client, digits, width
):
    class Blank:
        def reconstruct(self, message):
            return torch.zeros(len(message.z), 1, 16, 16)

    private, public, referee = digits
    client = make_client(sl.nets.tiny.client(width=width))
    report = sl.evaluate(client, Blank(), referee, public=public, n_match=20)
    assert ("pca_public" in report.floors) == (width == 1)
    if width == 1:
        x = sl.Scorer(private, referee, n_match=20).images.x
        shown = sl.floors.pca_public(x, public.x, 16)
        assert report["pca_public"]["mse"] == pytest.approx(sl.metrics.mse(shown, x))
        assert any("16 components" in note for note in report.notes)


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        (lambda d: {"referee": d}, TypeError, "referee is a Split: pass ImageData, such as a part"),
        (lambda d: {"referee": d[0]}, ValueError, "scored images are in the referee's part, too"),
        (lambda d: {"referee": d[2], "goal": "image"}, ValueError, "no goal 'image': choose from"),
    ],
    ids=["the split", "the private part", "an unknown goal"],
)
def test_a_wrong_argument_gets_a_sentence(
    make_client, make_attack, digits, arguments, error, sentence
):
    with pytest.raises(error, match=sentence):
        sl.evaluate(make_client(), make_attack(), **arguments(digits))


def test_several_clients_are_scored_as_one_set_of_images(make_attack, digits):
    """As if their rows lay with one client: same images chosen, each drawn from its client's z."""
    private, _, referee = digits
    net, attack = sl.tiny.client_net(), make_attack()
    whole = sl.Client(net, private, **sl.tiny.client())
    parts = [private.select(range(0, 300)), private.select(range(300, len(private)))]
    clients = [
        sl.Client(net, part, **sl.tiny.client(), name=f"client {number}")
        for number, part in enumerate(parts)
    ]
    one, several = (sl.evaluate(c, attack, referee, n_match=60) for c in (whole, clients))
    for name in one.to_dict()["rows"].keys() - {"as_received"}:  # whose batches are others
        assert several[name] == pytest.approx(one[name])
    assert one.n == several.n == 60
    odd = sl.Client(net, digits[1].one_against_rest(0), **sl.tiny.client())
    with pytest.raises(ValueError, match="which cannot be scored together: evaluate them one by"):
        sl.evaluate([clients[0], odd], attack, referee)


def test_an_attacker_among_the_clients_is_not_attacked(digits):
    class Spy(sl.PassiveClient):
        public = digits[1]

        def reconstruct(self, message):
            return torch.zeros(len(message.z), 1, 16, 16)

    private, _, referee = digits
    parts = [private.select(range(0, 300)), private.select(range(300, len(private)))]
    spy, victim = (
        kind(sl.tiny.client_net(), part, **sl.tiny.client())
        for kind, part in zip((Spy, sl.Client), parts, strict=True)
    )
    report = sl.evaluate([spy, victim], spy, referee, n_match=30)
    assert any(f"of {len(victim.data)} private images" in note for note in report.notes)
    with pytest.raises(ValueError, match="the only client is the attacker"):
        sl.evaluate(spy, spy, referee)


def test_public_data_that_overlap_private_data_are_refused(make_client, digits):
    client = make_client()
    public = digits[1]
    stolen = dataclasses.replace(
        public,
        x=torch.cat([public.x, digits[0].x[:1]]),
        y=torch.cat([public.y, digits[0].y[:1]]),
        block=None,
        row=None,
    )
    attack = sl.FSHA.at(sl.tiny, stolen)
    with pytest.raises(ValueError, match="1 images are both private and public"):
        sl.evaluate(client, attack, digits[2])


def test_too_few_private_images_are_refused(make_client, make_attack, digits):
    with pytest.raises(ValueError, match="lower it"):
        sl.evaluate(make_client(), make_attack(), digits[2], n_match=5000)


def test_without_a_third_part_the_classifier_trains_on_images_that_are_not_scored(
    make_client, make_attack, monkeypatch
):
    trained_on = []
    monkeypatch.setattr(sl.referee.images, "_trained", {})
    real = sl.referee.images.train_cnn_classifier
    monkeypatch.setattr(
        sl.referee.images,
        "train_cnn_classifier",
        lambda data, seed: (trained_on.append(data), real(data, seed, steps=1))[1],
    )
    client = make_client()
    report = sl.evaluate(client, make_attack(), None, n_match=100)
    order = torch.randperm(len(client.data), generator=torch.Generator().manual_seed(0))
    scored = client.data.select(order[:100])
    assert not (scored.row_hashes() & trained_on[0].row_hashes())
    assert len(trained_on[0]) == len(client.data) - 100
    assert any("no third part" in note for note in report.notes)


def test_the_same_images_with_other_labels_get_classifiers_of_their_own(digits, monkeypatch):
    monkeypatch.setattr(sl.referee.images, "train_cnn_classifier", lambda data, seed: data.y)
    monkeypatch.setattr(sl.referee.images, "train_svm_classifier", lambda data, seed: data.y)
    monkeypatch.setattr(sl.referee.images, "_trained", {})
    part = dataclasses.replace(digits[2], attributes={"large": digits[2].y > 4})
    first, second = (
        sl.referee.images.two_classifiers(data, 0)[0] for data in (part, part.labelled("large"))
    )
    assert torch.equal(first, part.y)
    assert torch.equal(second, part.labelled("large").y)


def test_the_oracle_decoder_is_not_scored_on_its_own_training_images(make_client, monkeypatch):
    attacked, n = AttackedClients([make_client()]), 40
    scorer = sl.Scorer(attacked.data, None, n_match=n)
    order = scorer.order
    taken = []
    real = sl.ImageData.select
    monkeypatch.setattr(
        sl.ImageData, "select", lambda data, rows: (taken.append(rows), real(data, rows))[1]
    )
    monkeypatch.setattr(sl.referee.images, "ORACLE_STEPS", 1)
    _, scored = sl.referee.images._oracle_decoder(attacked, scorer, 0)
    trained_on = taken[1]  # first their z, then they themselves, then z of the scored images
    assert len(scored) == n // 2
    assert not set(order[:n][scored].tolist()) & set(trained_on.tolist())


def test_what_the_server_received_is_scored_apart(make_client, make_attack, digits):
    """BatchNorm's running statistics lag at first: the two modes must not be mixed up."""
    client, attack = make_client(), make_attack()
    sl.train([client], attack, 5)
    report = sl.evaluate(client, attack, digits[2], n_match=100)
    assert report["as_received"]["mse"] != report["attack"]["mse"]
    assert any("momentum 0.1" in note for note in report.notes)
    flat = make_client(torch.nn.Conv2d(1, 32, 4, stride=4))
    assert set(sl.evaluate(flat, make_attack(), digits[2], n_match=100).attack) == {"attack"}


@pytest.mark.parametrize(
    ("sent", "known"),
    [({}, True), ({"sends_index": True}, True), ({"sends_labels": False}, False)],
)
def test_the_class_mean_is_a_floor_wherever_the_server_can_know_the_labels(
    make_client, make_attack, digits, sent, known
):
    report = sl.evaluate(make_client(**sent), make_attack(), digits[2], n_match=50)
    assert ("class_mean_public" in report.floors) == known


def test_a_scorer_gives_the_figures_of_evaluate(hijack, digits):
    client, attack, _, _ = hijack
    private, public, referee = digits
    report, scorer = sl.evaluate(client, attack, referee), sl.Scorer(private, referee)
    nearest = sl.floors.nearest_public(scorer.images.x, public.x)
    assert scorer.score(nearest) == report.floors["nearest_public"]
    z = client.smash(scorer.images.x)
    assert scorer.further(attack.reconstruct(z)) | scorer.real() == report.further
    perfect = scorer.table({"the images": scorer.images.x, "retrieval": nearest})
    assert perfect.head[-2:] == ("matched by correlation", "recognized by second classifier")
    assert [row[0] for row in perfect.rows] == ["the images", "retrieval"]
    assert perfect.rows[0][1] == 0
    assert perfect.rows[0][6] == perfect.rows[0][7] == 1
    assert tuple(perfect.rows[1][1:7]) == tuple(scorer.score(nearest).values())
    assert "500 of" in perfect.caption


def test_a_scorer_takes_pictures_of_some_of_the_images(digits):
    scorer = sl.Scorer(digits[0], digits[2], n_match=60)
    rows = torch.arange(10, 20)
    assert scorer.score(scorer.images.x[rows], rows)["matched"] == 1
    assert scorer.score(scorer.images.x[rows.flip(0)], rows)["matched"] == 0


def test_snapshots_cover_the_run(hijack):
    client, _, log, snapshots = hijack
    assert [s.step for s in snapshots.taken] == list(range(0, log.steps + 1, 100))
    assert snapshots.taken[-1].mse < 0.3 * snapshots.taken[0].mse
    assert torch.equal(snapshots.private, client.data.x[:8])
    assert snapshots.taken[0].images.shape == (8, 1, 16, 16)


def test_snapshots_need_an_attack_that_reconstructs(make_client):
    with pytest.raises(TypeError, match="HonestServer makes none"):
        sl.train(
            [make_client()], sl.HonestServer(sl.nets.tiny.server()), 1, observers=[sl.Snapshots()]
        )
    with pytest.raises(ValueError, match="at least 1"):
        sl.Snapshots(every=0)


def test_received_error_is_the_error_of_each_batch(make_client, make_attack):
    client, attack, received = make_client(), make_attack(), sl.ReceivedError()

    class Keep(sl.Observer):
        def message(self, message):
            if isinstance(message, sl.SmashedData):
                truth = client.turn.x
                self.last = sl.metrics.mse(attack.reconstruct(message), truth)

    keep = Keep()
    sl.train([client], attack, 3, observers=[received, keep])
    assert len(received.mse) == 3
    assert received.mse[-1] == keep.last


@pytest.mark.parametrize("steps", [3, 50])
def test_received_images_are_decoded_from_the_last_z_of_each(make_client, make_attack, steps):
    client, attack = make_client(), make_attack()
    rows = torch.randperm(len(client.data), generator=torch.Generator().manual_seed(1))[:100]
    received = sl.ReceivedImages(rows, every=2)
    last, curve = {}, []

    class Keep(sl.Observer):
        def message(self, message):
            if isinstance(message, sl.SmashedData):
                last.update(zip(client.turn.index.tolist(), message.z.clone(), strict=True))

        def shown(self):
            images = torch.zeros_like(client.data.x[rows])
            for place, row in enumerate(rows.tolist()):
                if row in last:
                    message = sl.SmashedData(z=last[row][None], sender="client", step=0)
                    images[place] = attack.reconstruct(message)[0]
            return images

        def step(self, step, client, server):
            if step % 2:
                truth = client.data.x[rows]
                curve.append(round(sl.metrics.matched(self.shown(), truth), 4))

    keep = Keep()
    sl.train([client], attack, steps, observers=[received, keep])
    assert torch.allclose(received.shown(attack), keep.shown(), atol=1e-6)
    assert received.curve == curve
    assert len(curve) == steps // 2
    assert received.sent.nonzero().flatten().tolist() == sorted(last)
    assert received.arrived.tolist() == [row in last for row in rows.tolist()]
    now = attack.reconstruct(client.smash(client.data.x[rows]))
    assert not torch.allclose(received.shown(attack), now), "f was another then"


def test_received_images_need_images_an_attack_and_a_step(make_client, make_attack):
    with pytest.raises(ValueError, match="every is 0: choose a whole number of at least 1"):
        sl.ReceivedImages(torch.arange(3), every=0)
    received, honest = sl.ReceivedImages(torch.arange(3)), sl.HonestServer(sl.tiny.server_net())
    with pytest.raises(TypeError, match="HonestServer makes none"):
        sl.train([make_client()], honest, 1, observers=[received])
    attack = make_attack()
    with pytest.raises(ValueError, match="no z has been sent yet"):
        received.shown(attack)
    sl.train([make_client()], attack, 2, observers=[received])
    assert received.curve == []


def split_in_three(digits, defenses=()):
    """(f, body, tail) of the tiny networks, and a client that holds the first and the last."""
    net, rest = sl.tiny.client_net(), sl.tiny.server_net()
    tail = torch.nn.Sequential(*rest[3:], torch.nn.Dropout(0.5))
    client = sl.Client(net, digits[0], tail=tail, defenses=defenses, **sl.tiny.client())
    return client, rest[:3]


def in_evaluation(x, *nets):
    """The truth: the networks one after the other."""
    with torch.no_grad():
        for net in nets:
            x = net.eval()(x)
    return x


def test_logits_and_accuracy_of_each_protocol(digits):
    referee = digits[2]
    client = sl.Client(sl.tiny.client_net(), digits[0], **sl.tiny.client())
    vanilla = sl.HonestServer(sl.tiny.server_net(), optimizer=sl.tiny.client_optimizer)
    sl.train([client], vanilla, 30)
    u_client, body = split_in_three(digits)
    u_server = sl.HonestServer(body, optimizer=sl.tiny.client_optimizer)
    sl.train([u_client], u_server, 30, protocol=sl.u_shaped)
    hijacked, _ = split_in_three(digits)
    attack = sl.FSHA.at(sl.tiny, digits[1], body=body)
    sl.train([hijacked], attack, 2, protocol=sl.u_shaped)
    for one, server, nets in (
        (client, vanilla, (client.net, vanilla.net)),
        (u_client, u_server, (u_client.net, u_server.net, u_client.tail)),
        (hijacked, attack, (hijacked.net, attack.body, hijacked.tail)),
    ):
        before = [net.training for net in nets]
        scores = sl.logits(one, server, referee.x)
        assert [net.training for net in nets] == before
        torch.testing.assert_close(scores, in_evaluation(referee.x, *nets))
        right = (in_evaluation(referee.x, *nets).argmax(1) == referee.y).double().mean()
        assert sl.task_accuracy(one, server, referee) == pytest.approx(float(right))
    assert sl.task_accuracy(u_client, u_server, referee) > 0.5, "the tail takes part"
    assert torch.equal(
        vanilla.predict(client.smash(referee.x).z),
        in_evaluation(referee.x, client.net, vanilla.net).argmax(1),
    )


def test_logits_between_two_rounds_are_those_of_the_clients_own_copy(digits):
    clients = [
        sl.Client(sl.tiny.client_net(), part, name=name, **sl.tiny.client())
        for name, part in (("one", digits[0]), ("other", digits[1]))
    ]
    server = sl.ServerCopies(sl.HonestServer(sl.tiny.server_net()), {"one": 1, "other": 1})
    sl.train(clients, server, 2, protocol=sl.SplitFed(turn=2, seed=None))  # "one" alone
    x = digits[2].x[:5]
    for client in clients:
        own = in_evaluation(x, client.net, server.copies[client.name].net)
        torch.testing.assert_close(sl.logits(client, server, x), own)
    copies = [copy.net for copy in server.copies.values()]
    first, second = (in_evaluation(x, clients[0].net, net) for net in copies)
    assert not torch.allclose(first, second)


def test_asking_for_logits_changes_no_training(digits):
    def states(asks):
        class Ask(sl.Observer):
            def step(self, step, client, server):
                if asks:
                    sl.task_accuracy(client, server, digits[2].subset(20))

        client, body = split_in_three(digits)
        server = sl.HonestServer(body)
        sl.train([client], server, 4, protocol=sl.u_shaped, observers=[Ask()])
        return [*client.net.state_dict().values(), *server.net.state_dict().values()]

    for with_it, without in zip(states(True), states(False), strict=True):
        assert torch.equal(with_it, without)


def test_logits_count_the_defenses_in(digits):
    class Silence(sl.Defense):
        def smash(self, client, turn, z):
            return z * 0

    client, body = split_in_three(digits, [Silence()])
    scores = sl.logits(client, sl.HonestServer(body), digits[2].x[:3])
    assert torch.equal(scores, scores[:1].expand(3, -1))


def test_a_server_without_layers_for_the_task_has_no_logits(make_client, make_attack, digits):
    class Silent(sl.Server):
        threat = sl.HonestServer.threat

        def reply(self, message):
            return self.gradient(message, message.z)

    with pytest.raises(NotImplementedError, match="Silent has no layers for the task"):
        sl.logits(make_client(), Silent(), digits[2].x[:3])
    with pytest.raises(ValueError, match="give it body="):
        sl.logits(make_client(), make_attack(), digits[2].x[:3])
