"""The experiments: every seed has one, what it is a function of is said, unknown ones are not."""

import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch

import splitlab as sl
from splitlab.course import experiments
from splitlab.course.experiments import (
    CpuTime,
    Hijack,
    SplitAgainstWhole,
    WithoutAttack,
    unattacked,
)
from splitlab.referee.report import as_rows


def test_an_experiment_is_found_at_any_seed():
    recorded = next(one for one in experiments.experiments() if one.run == "no hijack")
    fresh = experiments.find("digits_tiny", "no hijack", 7)
    assert fresh == replace(recorded, seed=7) != recorded
    assert fresh.name == "digits_tiny: no hijack/7"


@pytest.mark.parametrize(
    ("table", "run", "known"),
    [
        ("digits_tiny", "fst", "choose from digits_tiny/fast; digits_tiny/no hijack"),
        (
            *("digits", "fast"),
            "choose from blurs_tiny; client_gan_tiny; client_view_tiny; digits_tiny; "
            "dp_audit_tiny; faces_tiny; hijack_settings_tiny; honest_metrics; labels_tiny; "
            "leaks_tiny; mnist_paper_scale; no_peek_tiny; poisoning_tiny; property_tiny; "
            "protocols_tiny; public_tiny; split_tiny; transcripts_tiny; two_dimensions; "
            "unsplit_tiny; watched_tiny; why_tiny",
        ),
    ],
)
def test_what_no_experiment_makes_is_refused(table, run, known):
    with pytest.raises(ValueError, match=f"no experiment makes {table}/{run}: {known}"):
        experiments.find(table, run, 7)


def test_no_two_experiments_have_one_configuration():
    configs = [(one.table, json.dumps(one.config)) for one in experiments.experiments()]
    assert len(set(configs)) == len(configs)
    for one in experiments.experiments():
        assert {"data", "seed"} <= one.config.keys()
        assert isinstance(one, WithoutAttack) == (one.steps == 0)
        if one.steps:  # it trains
            assert {"profile", "steps", "cut", "batch_size", "client_rate"} <= one.config.keys()


def test_the_configuration_says_what_the_run_does():
    slow = experiments.find("mnist_paper_scale", "paper, client rate 1e-05", 1)
    assert slow.config["client_rate"] == 1e-5
    assert slow.config["cpu_budget"] == experiments.CPU_BUDGET
    assert slow.config["design"] == "paper"
    fast = experiments.find("digits_tiny", "fast", 1)
    assert fast.config["client_rate"] == sl.tiny.client_rate
    assert fast.config["cpu_budget"] is None


@pytest.fixture
def quick_referee(monkeypatch):
    """A referee that measures the error alone: its classifiers are not what is tested here."""

    def evaluate(client, attack, referee):
        x = client.data.x
        images = attack.reconstruct(client.smash(x))
        report = {"rows": {"attack": {"mse": sl.metrics.mse(images, x)}}}
        return SimpleNamespace(to_dict=lambda: report)

    monkeypatch.setattr(sl, "evaluate", evaluate)


def test_a_run_is_a_function_of_its_configuration(quick_referee):
    same = Hijack("table", "fast", 5, 4)
    one, other = (same.row(), same.row())
    assert one["rows"]["attack"] == other["rows"]["attack"]
    for change in ({"rate": 1e-4}, {"seed": 6}, {"steps": 5}, {"design": "paper"}):
        assert replace(same, **change).row()["rows"]["attack"] != one["rows"]["attack"], change
    assert one["steps"] == 4
    assert one["config"] == same.config


def test_a_budget_cuts_a_run_short_and_the_row_says_so(quick_referee):
    row = Hijack("table", "paper", 5, 10_000, design="paper", budget=0.05).row()
    assert 1 <= row["steps"] < 10_000
    assert row["config"]["steps"] == 10_000


def test_split_against_whole_notices_a_client_that_trains_otherwise(monkeypatch):
    """The difference is measured, not assumed: with another client optimizer it is there."""
    experiment = SplitAgainstWhole("table", "vanilla", 5, 6)
    assert experiment.row()["difference"] <= 1e-6
    client = sl.settings.Setting.client

    def slower(self, **options):
        return client(self, **options | {"rate": 1e-4})

    monkeypatch.setattr(sl.settings.Setting, "client", slower)
    assert experiment.row()["difference"] > 1e-4


EXACT = ["U-shaped", "labels at the server", "in turn", "in turn, through the server"]
ROUNDED = "SplitFed v1, SGD, no BatchNorm"
KINDS = list(experiments.PROTOCOLS)


@pytest.fixture(scope="module")
def against_whole():
    """A row of each kind of protocol after six steps, at a seed that is not recorded."""
    return {
        kind: replace(experiments.find("protocols_tiny", kind, 7), steps=6).row() for kind in KINDS
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_protocol_is_whole_training_or_another_training(against_whole, kind):
    row = against_whole[kind]
    assert row["weights"] <= row["difference"]
    assert row["moved"] > 1e-3, "whole training has moved the weights"
    if kind in EXACT:
        assert row["difference"] == 0
    elif kind == ROUNDED:
        assert 0 < row["difference"] < 1e-14
    else:
        assert row["weights"] > 1e-5, "far more than rounding"


def test_a_protocol_against_whole_takes_whole_rounds():
    with pytest.raises(ValueError, match="7 steps are not whole rounds of 3 clinics"):
        replace(experiments.find("protocols_tiny", "in turn", 7), steps=7).row()


def test_clipped_adam_clips():
    """Adam cannot tell a constant factor, so the first step alone shows nothing; .grad does."""
    weight = torch.nn.Parameter(torch.tensor([0.0, 0.0]))
    weight.grad = torch.tensor([3.0, 4.0])
    experiments.ClippedAdam([weight], lr=0.1).step()
    torch.testing.assert_close(weight.grad, torch.tensor([0.06, 0.08]))
    weight.grad = torch.tensor([0.03, 0.04])
    experiments.ClippedAdam([weight], lr=0.1).step()
    torch.testing.assert_close(weight.grad, torch.tensor([0.03, 0.04]))


def test_whole_training_returns_its_losses(digits):
    net = torch.nn.Sequential(sl.tiny.client_net(), sl.tiny.server_net())
    options = {"optimizer": sl.tiny.client_optimizer, "batch_size": 16, "seed": 3}
    losses = experiments.train_whole(net, digits[0], 4, **options)
    client = sl.Client(
        sl.tiny.client_net(), digits[0], batch_size=16, seed=3, optimizer=sl.tiny.client_optimizer
    )
    server = sl.HonestServer(sl.tiny.server_net(), optimizer=sl.tiny.client_optimizer)
    assert losses == sl.train([client], server, 4)["task_loss"]


def test_the_largest_difference_overlooks_nothing():
    one = {"weight": torch.tensor([1.0, 2.0]), "count": torch.tensor(3)}
    assert experiments.largest_difference(one, one) == 0
    assert experiments.largest_difference(one, one | {"count": torch.tensor(5)}) == 2
    nan = {"weight": torch.tensor([1.0, float("nan")])}
    assert experiments.largest_difference(one, one | nan) != 0
    assert not experiments.largest_difference(one, one | nan) <= 1e-6
    with pytest.raises(ValueError, match="only one of them has count"):
        experiments.largest_difference(one, {"weight": one["weight"]})


def test_accuracy_is_of_the_evaluation_mode_and_leaves_the_mode_alone(digits):
    net = torch.nn.Sequential(sl.tiny.client_net(), sl.tiny.server_net()).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    score = experiments.accuracy(net, digits[2])
    assert net.training
    assert experiments.largest_difference(before, net.state_dict()) == 0
    predicted = net.eval()(digits[2].x).argmax(1)
    assert score == (predicted == digits[2].y).double().mean().item()


def test_the_clock_stops_a_run_at_its_budget(make_client, make_attack):
    clock = CpuTime(1e-9)
    with pytest.raises(TimeoutError):
        sl.train([make_client()], make_attack(), 3, observers=[clock])
    assert clock.seconds > 0


FLOORS = ["mean_public", "class_mean_public", "nearest_public"]
DISGUISED = ["moved_by_a_pixel", "brighter", "inverted", "blurred"]


def test_pictures_that_no_attack_made_have_names_and_one_for_each_image(digits):
    scored, public = digits[0].subset(30), digits[1]
    pictures = unattacked(scored, public)
    assert list(pictures) == FLOORS + DISGUISED
    for images in pictures.values():
        assert images.shape == scored.x.shape
        assert not torch.equal(images, scored.x)


def test_the_floors_are_made_of_public_images(digits):
    scored, public = digits[0].subset(30), digits[1]
    pictures = unattacked(scored, public)
    torch.testing.assert_close(pictures["mean_public"], public.x.mean(0).expand_as(scored.x))
    means = torch.stack([public.x[public.y == label].mean(0) for label in scored.y])
    torch.testing.assert_close(pictures["class_mean_public"], means)
    nearest = torch.cdist(scored.x.flatten(1), public.x.flatten(1)).argmin(1)
    assert torch.equal(pictures["nearest_public"], public.x[nearest])


def test_the_disguises_are_the_librarys(digits):
    scored = replace(digits[0].subset(30), x=digits[0].subset(30).x / 2 + 0.5, value_range=(0, 1))
    pictures = unattacked(scored, replace(digits[1], value_range=(0, 1), x=digits[1].x / 2 + 0.5))
    assert len(sl.disguises.DISGUISES) == len(DISGUISED)
    for name, disguise in sl.disguises.DISGUISES.items():
        disguised = disguise(scored.x, scored.value_range)
        assert torch.equal(pictures[name.replace(" ", "_")], disguised)


@pytest.fixture
def quick_classifiers(monkeypatch):
    """Classifiers that know one class each, the first 0 and the second 1; returns their lessons.

    The faces are few, for they are drawn anew for each row.
    """
    lessons = []

    def says(label):
        def train(data, seed):
            lessons.append((data, seed))
            return lambda images: torch.full((len(images),), label)

        return train

    monkeypatch.setattr(sl.referee.images, "train_cnn_classifier", says(0))
    monkeypatch.setattr(sl.referee.images, "train_svm_classifier", says(1))
    monkeypatch.setattr(sl.referee.images, "_trained", {})
    faces = partial(sl.data.drawn_faces, 1500)
    monkeypatch.setitem(sl.settings.LOADERS, "drawn_faces", faces)
    return lessons


FACES = WithoutAttack("table", "faces", 5, 0, data="drawn_faces", label="glasses")


@pytest.fixture
def scored():
    """The private images that `FACES` scores, and the public ones."""
    whole = sl.data.drawn_faces(1500, size=16, channels=1, labels="glasses")
    private, public, _ = whole.split(5)
    order = torch.randperm(len(private), generator=torch.Generator().manual_seed(5))
    return private.select(order[:500]), public


def test_a_row_has_all_figures_of_each_picture(quick_classifiers, scored):
    row = FACES.row()
    images, public = scored
    assert (row["run"], row["seed"], row["config"]) == ("faces", 5, FACES.config)
    assert row["n"] == 500
    assert row["cpu_seconds"] > 0
    assert list(row["pictures"]) == FLOORS + DISGUISED
    without, having = ((images.y == label).double().mean().item() for label in (0, 1))
    for name, pictures in unattacked(images, public).items():
        figures = row["pictures"][name]
        further = ["matched_by_correlation", "recognized_by_second_classifier"]
        assert list(figures) == [*sl.metrics.METRICS, *further]
        assert figures["mse"] == sl.metrics.mse(pictures, images.x)
        assert figures["matched"] == sl.metrics.matched(pictures, images.x)
        assert figures["recognized"] == pytest.approx(without)
        assert figures["recognized_by_second_classifier"] == pytest.approx(having)
    assert row["further"] == {
        "real_images_recognized": pytest.approx(without),
        "real_images_recognized_by_second_classifier": pytest.approx(having),
    }


def test_its_classifiers_learn_from_the_referees_part(quick_classifiers, scored):
    FACES.row()
    images, public = scored
    assert len(quick_classifiers) == 2
    for lesson, seed in quick_classifiers:
        assert (lesson.part, seed) == ("referee", 5)
        assert lesson.classes == images.classes
        assert not lesson.row_hashes() & (images.row_hashes() | public.row_hashes())


def test_the_configuration_says_what_the_figures_are_a_function_of(quick_classifiers):
    row = FACES.row()
    settings = {"data": "drawn_faces", "size": 16, "channels": 1, "label": "glasses", "seed": 5}
    assert FACES.config == settings
    idle = replace(FACES, steps=9, profile="paper", table="other", run="other")
    assert idle.config == settings
    assert idle.row()["pictures"] == row["pictures"]
    fewer = ({"public": 100}, {"n_match": 300})
    for change in ({"seed": 6}, {"size": 32}, {"channels": 3}, {"label": "hat"}, *fewer):
        other = replace(FACES, **change)
        assert other.config == settings | change
        assert other.row()["pictures"] != row["pictures"], change


@pytest.mark.parametrize("data", ["drawn_faces", "digits"])
def test_without_a_label_the_data_sets_own_is_used(quick_classifiers, data):
    unlabelled = replace(FACES, data=data, label="")
    assert (unlabelled.config["data"], unlabelled.config["label"]) == (data, "")
    unlabelled.row()
    (lesson, _), _ = quick_classifiers
    assert lesson.classes == sl.settings.LOADERS[data](size=16, channels=1).classes


def test_inversions_row_has_what_a_claim_needs():
    run = experiments.PassiveInversions(
        "table", "cut 1", 5, 4, cut=1, width=2, images=6, longer=True
    )
    row = run.row()
    assert row["config"]["cut"] == 1 and row["config"]["width"] == 2
    assert row["numbers"] == 2 * 8 * 8 and row["pixels"] == 256 and row["n_match"] == 500
    budget = row["config"]["decoder_parameters"]
    assert row["decoder_parameters"] == pytest.approx(budget, rel=0.05)
    kinds = {name: figures["kind"] for name, figures in row["rows"].items()}
    assert kinds == {
        **dict.fromkeys([*FLOORS, "pca_public"], "floor"),
        **dict.fromkeys(("query_free", "black_box", "white_box"), "attack"),
        **dict.fromkeys(("white_box_longer", "linear"), "attack"),
        "true_pairs": "ceiling",
    }
    assert {"matched", "mse"} < row["rows"]["true_pairs"].keys()
    assert 0 <= row["accuracy"] <= 1 and row["steps"] == 4
    json.dumps(row)


def test_a_frozen_client_never_learns():
    run = experiments.PassiveInversions("table", "frozen", 5, 3, cut=1, frozen=True)
    assert run.config["client_rate"] == 0
    split = run.setting.split("digits", 5)
    client, server, _ = run.train(split)
    fresh = run.networks(5, 10)
    for name, value in fresh[0].named_parameters():
        assert torch.equal(client.net.get_parameter(name), value)
    assert not torch.equal(server.net[1].weight, fresh[1][1].weight)


def test_the_attackers_networks_start_from_weights_of_their_own(monkeypatch):
    run = experiments.PassiveInversions("table", "cut 1", 5, 1, cut=1)
    split = run.setting.split("digits", 5)
    client, server, _ = run.train(split)
    monkeypatch.setattr(sl, "grant", lambda attack, client: attack)  # before anything is granted
    attacks = run.granted(server, split.public, client)
    first = run.networks(5, 10)[0].state_dict()["0.0.weight"]
    for net in (attacks["white_box"].f, attacks["query_free"].surrogate):
        assert not torch.equal(net.state_dict()["0.0.weight"], first)
    for attack in attacks.values():
        assert torch.equal(attack.net[1].weight, server.net[1].weight)
        assert attack.net[1].weight is not server.net[1].weight


@pytest.fixture(scope="module")
def leaks():
    """Short runs on digits: without a defense, with one, and with an f that does not learn."""

    def row(**changes):
        one = experiments.find("labels_tiny", "is it a 0", 7)
        return replace(one, steps=102, **changes).row()

    changes = {"plain": {}, "frozen": {"learns": False}}
    changes["noise"] = {"defense": "noise", "strength": 4.0}
    return {name: row(**changed) for name, changed in changes.items()}


def test_a_label_leak_has_each_attack_and_its_floors(leaks):
    row = leaks["plain"]
    assert set(row["attacks"]) == {"norm", "cosine", "cosine, ten known", "clustering"}
    for report in row["attacks"].values():
        assert list(report["rows"])[:4] == ["chance", "majority", "early", "late"]
    assert row["attacks"]["cosine"]["rows"]["early"]["auc"] > 0.98
    floors = row["attacks"]["norm"]["rows"]
    assert floors["chance"]["auc"] == 0.5 and 0.8 < floors["majority"]["accuracy"] < 0.95
    assert row["noise"] == 0
    assert experiments.worst_auc(row) == 1
    json.dumps(row)


def test_the_worst_auc_is_over_attacks_and_windows():
    one = {"early": {"auc": 0.2}, "averaged": {"auc": 0.4}}
    other = {"early": {"auc": None, "accuracy": 0.9}, "averaged": {"accuracy": 0.9}}
    rows = [as_rows(floor={"chance": {"auc": 0.5}}, attack=windows) for windows in (one, other)]
    attacks = {"one": {"rows": rows[0]}, "other": {"rows": rows[1]}}
    assert experiments.worst_auc({"attacks": attacks}) == 0.4, "a floor is no attack"


def test_a_label_leak_is_a_function_of_its_configuration(leaks):
    noisy, plain = leaks["noise"], leaks["plain"]
    assert noisy["noise"] > 4
    late = {k: leaks[k]["attacks"]["cosine"]["rows"]["late"]["auc"] for k in ("noise", "plain")}
    assert noisy["config"] == plain["config"] | {"defense": "noise", "strength": 4.0}
    assert late["noise"] < late["plain"]
    assert leaks["frozen"]["attacks"] != plain["attacks"]
    hat = experiments.find("labels_tiny", "hat", 7)
    assert (hat.config["cut"], hat.config["data"], hat.config["label"]) == (4, "drawn_faces", "hat")


def test_an_f_that_does_not_learn_stays_as_it_was_drawn():
    one = experiments.find("labels_tiny", "ten digits", 7)
    private = sl.tiny.split("digits", 7).private
    for learns in (True, False):
        attacks = replace(one, learns=learns)._attacks(private, "cpu")
        assert set(attacks) == {"cosine", "clustering"}
        client = attacks["clustering"]
        sl.train([client], sl.HonestServer(sl.tiny.server_net(), labels=private.y), 2)
        fresh = dict(sl.tiny.client_net(seed=7).named_parameters())
        moved = [not torch.equal(v, fresh[k]) for k, v in client.net.named_parameters()]
        assert all(moved) if learns else not any(moved)
        assert set(attacks["cosine"].known.values()) == set(range(10))
