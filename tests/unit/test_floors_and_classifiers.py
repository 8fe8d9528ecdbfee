"""Floors that need no attack, and the referee's two classifiers."""

import os

import pytest
import torch

from splitlab.data import ImageData, digits, mnist
from splitlab.referee import classifiers, floors, metrics


@pytest.fixture(scope="module")
def parts():
    return digits().split(0)


@pytest.fixture(scope="module")
def cnn(parts):
    return classifiers.train_cnn_classifier(parts.referee, seed=0)


@pytest.fixture(scope="module")
def svm(parts):
    return classifiers.train_svm_classifier(parts.referee, seed=0)


def owns_storage(x, *others):
    return all(
        x.untyped_storage().data_ptr() != other.untyped_storage().data_ptr() for other in others
    )


# --- floors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_mean_public_repeats_the_mean_image(channels):
    public = digits(channels=channels).split(0).public
    mean = floors.mean_public(public, 5)
    assert mean.shape == (5, channels, 16, 16)
    assert mean.dtype == torch.float32
    assert torch.allclose(mean, public.x.mean(0).expand(5, -1, -1, -1), atol=1e-6)
    assert owns_storage(mean, public.x)


def test_mean_public_of_no_images_is_refused(parts):
    with pytest.raises(ValueError, match="n is 0: choose a whole number of at least 1"):
        floors.mean_public(parts.public, 0)


def test_nearest_public_agrees_with_a_loop(parts):
    private, public = parts.private.x[:40], parts.public.x
    nearest = floors.nearest_public(private, public)
    for image, found in zip(private, nearest, strict=True):
        row = (public - image).square().sum((1, 2, 3)).argmin()
        assert torch.equal(found, public[row])
    assert owns_storage(nearest, private, public)


def test_nearest_public_is_the_same_in_chunks_and_with_grey_channels(parts, monkeypatch):
    private, public = parts.private.x[:30], parts.public.x[:101]
    whole = floors.nearest_public(private, public)
    monkeypatch.setattr(floors, "PRIVATE_CHUNK", 7)
    monkeypatch.setattr(floors, "PUBLIC_CHUNK", 10)
    assert torch.equal(floors.nearest_public(private, public), whole)
    grey = floors.nearest_public(private.expand(-1, 3, -1, -1), public.expand(-1, 3, -1, -1))
    assert grey.shape == (30, 3, 16, 16)
    assert torch.equal(grey[:, 2:], whole)
    colour = floors.nearest_public(private.repeat(1, 3, 1, 1), public.repeat(1, 3, 1, 1))
    assert torch.equal(colour, grey)


def test_nearest_public_looks_at_all_channels_of_colour_images():
    private = torch.zeros(1, 3, 2, 2)
    public = torch.zeros(2, 3, 2, 2)
    public[0, 2], public[1, 0] = 0.9, 0.1
    assert torch.equal(floors.nearest_public(private, public), public[1:])


def test_nearest_public_of_public_images_is_themselves(parts):
    x = parts.public.x
    assert torch.equal(floors.nearest_public(x[:50], x), x[:50])


@pytest.mark.parametrize(
    "private, public", [((3, 1, 4, 4), (3, 1, 4, 5)), ((3, 1, 4, 4), (0, 1, 4, 4))]
)
def test_nearest_public_refuses_what_does_not_fit(private, public):
    with pytest.raises(ValueError, match="must be of one shape"):
        floors.nearest_public(torch.zeros(private), torch.zeros(public))


def test_pca_public_agrees_with_a_singular_value_decomposition(parts):
    private, public = parts.private.x[:30], parts.public.x
    mean = public.mean(0).flatten()
    directions = torch.linalg.svd(public.flatten(1) - mean, full_matrices=False)[2][:16]
    expected = (private.flatten(1) - mean) @ directions.T @ directions + mean
    shown = floors.pca_public(private, public, 16)
    assert shown.dtype == torch.float32
    torch.testing.assert_close(shown, expected.view_as(private), atol=1e-4, rtol=0)
    grey = floors.pca_public(*(x.expand(-1, 3, -1, -1) for x in (private, public)), 16)
    torch.testing.assert_close(grey, shown.expand(-1, 3, -1, -1))
    assert owns_storage(shown, private, public)


def test_more_components_explain_more_and_no_more_than_there_are_count(parts):
    private, public = parts.private.x, parts.public.x
    pictures = [floors.pca_public(private, public, k) for k in (1, 4, 16)]
    explained = [metrics.explained_variance(p, private) for p in pictures]
    assert 0 < explained[0] < explained[1] < 0.8 < explained[2] < 0.95
    every, capped = (floors.pca_public(private, public, k) for k in (256, 10_000))
    assert torch.equal(every, capped)
    torch.testing.assert_close(floors.pca_public(public[:2], public[:2], 9), public[:2])


def test_pca_public_refuses_what_it_cannot_keep(parts):
    with pytest.raises(ValueError, match="k is 0: choose a whole number of at least 1"):
        floors.pca_public(parts.private.x, parts.public.x, 0)
    with pytest.raises(ValueError, match=r"must be of one shape \(C, H, W\)"):
        floors.pca_public(parts.private.x, parts.public.x[:, :, :8], 4)


@pytest.mark.parametrize("channels", [1, 3])
def test_class_mean_public_is_the_mean_of_the_labels_class(channels):
    public = digits(channels=channels).split(0).public
    labels = torch.tensor([3, 0, 3])
    guess = floors.class_mean_public(public, labels)
    assert guess.shape == (3, channels, 16, 16)
    for image, label in zip(guess, labels, strict=True):
        assert torch.allclose(image, public.x[public.y == label].mean(0), atol=1e-6)
    assert owns_storage(guess, public.x)


def test_a_class_the_attacker_never_saw_gets_the_mean_image(parts):
    public = parts.public.without(7)
    guess = floors.class_mean_public(public, torch.tensor([7, 1]))
    assert torch.equal(guess[:1], floors.mean_public(public, 1))
    assert not torch.equal(guess[1:], floors.mean_public(public, 1))


@pytest.mark.parametrize("labels", [[10], [-1], []])
def test_class_mean_public_refuses_unknown_labels(parts, labels):
    with pytest.raises(ValueError, match="from 0 to 9, the classes of digits"):
        floors.class_mean_public(parts.public, torch.tensor(labels, dtype=torch.int64))


def test_the_floors_stand_in_the_order_of_what_they_know(parts):
    """The class mean is recognized but matches no one: recognition alone is not leakage."""
    private, public, _ = parts
    mean = floors.mean_public(public, len(private))
    class_mean = floors.class_mean_public(public, private.y)
    nearest = floors.nearest_public(private.x, public.x)
    explained = [metrics.explained_variance(x, private.x) for x in (mean, class_mean, nearest)]
    assert explained[0] < 0.02 < explained[1] < explained[2] < 1
    assert metrics.matched(class_mean, private.x) < 0.05
    assert metrics.matched(nearest, private.x) > 0.15


# --- classifiers ----------------------------------------------------------------------------


def test_both_classifiers_recognise_new_writers(parts, cnn, svm):
    private = parts.private
    for classifier in (cnn, svm):
        assert metrics.recognized(classifier, private.x, private.y) > 0.86


def test_both_classifiers_fail_on_what_shows_nothing(parts, cnn, svm):
    private, public, _ = parts
    mean = floors.mean_public(public, len(private))
    for classifier in (cnn, svm):
        assert metrics.recognized(classifier, mean, private.y) < 0.2
        assert metrics.recognized(classifier, private.x.roll(1, 0), private.y) < 0.2


def test_both_classifiers_recognise_the_class_mean(parts, cnn, svm):
    guess = floors.class_mean_public(parts.public, parts.private.y)
    for classifier in (cnn, svm):
        assert metrics.recognized(classifier, guess, parts.private.y) > 0.9


def test_classifiers_are_unlike(parts, cnn, svm):
    assert 0.01 < (cnn(parts.private.x) != svm(parts.private.x)).double().mean() < 0.2


@pytest.mark.parametrize(
    "train",
    [
        lambda data, seed: classifiers.train_cnn_classifier(data, seed, steps=5),
        lambda data, seed: classifiers.train_svm_classifier(data, seed, rows=300),
    ],
    ids=["cnn", "svm"],
)
def test_training_depends_on_the_seed_and_leaves_the_global_stream_alone(parts, train):
    data, noise = parts.referee, torch.rand(300, 1, 16, 16) * 2 - 1
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = train(data, 0)
    assert torch.equal(torch.get_rng_state(), state)
    first(noise)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again, other = train(data, 0), train(data, 1)
    assert torch.equal(first(noise), again(noise))
    assert _parameters(first) == _parameters(again)
    assert _parameters(first) != _parameters(other)


def _parameters(classifier):
    if isinstance(classifier, classifiers.SVMClassifier):
        return classifier.machine.support_vectors_.tolist()
    return [p.tolist() for p in classifier.network.parameters()]


def test_training_works_where_gradients_are_switched_off(parts):
    with torch.no_grad():
        off = classifiers.train_cnn_classifier(parts.referee, steps=3)
    on = classifiers.train_cnn_classifier(parts.referee, steps=3)
    assert _parameters(off) == _parameters(on)


def test_training_leaves_the_data_alone(parts):
    kept = parts.referee.x.clone()
    classifiers.train_cnn_classifier(parts.referee, steps=3)
    classifiers.train_svm_classifier(parts.referee, rows=600)
    assert torch.equal(kept, parts.referee.x)


def test_a_grey_classifier_judges_the_mean_of_three_channels():
    grey = digits(channels=3).split(0).referee
    classifier = classifiers.train_cnn_classifier(grey, steps=60)
    assert classifier.network[0].in_channels == 1
    tinted = grey.x[:50] + torch.tensor([0.3, -0.1, -0.2]).view(1, 3, 1, 1)
    assert torch.equal(classifier(tinted), classifier(grey.x[:50]))


def test_a_colour_classifier_uses_all_channels():
    x = torch.zeros(40, 3, 8, 8)
    y = torch.arange(40) % 2
    x[y == 0, 0], x[y == 1, 2] = 0.8, 0.8  # the mean over channels tells nothing
    data = ImageData(x, y, ("red", "blue"), "colours")
    for train in (classifiers.train_cnn_classifier, classifiers.train_svm_classifier):
        assert metrics.recognized(train(data), x, y) == 1


def test_classifiers_refuse_images_of_another_size(cnn, svm):
    for classifier in (cnn, svm):
        with pytest.raises(ValueError, match=r"trained on images \(1, 16, 16\)") as error:
            classifier(torch.zeros(2, 3, 16, 16))
        assert str(error.value).endswith(".")


def test_an_svm_needs_two_classes(parts):
    ones = parts.referee.select(parts.referee.y == 1)
    with pytest.raises(ValueError, match="of one class"):
        classifiers.train_svm_classifier(ones)


def test_a_large_set_is_cut_down_for_the_svm(parts):
    small = classifiers.train_svm_classifier(parts.referee, rows=200)
    assert small.machine.shape_fit_ == (200, 256)
    topped_up = classifiers.train_svm_classifier(parts.referee, rows=1000)
    assert topped_up.machine.shape_fit_ == (1000, 256)


def test_copies_for_the_svm_are_deformed_a_little(parts):
    own = parts.referee.x.flatten(1)
    vectors = classifiers.train_svm_classifier(parts.referee, rows=1500).machine.support_vectors_
    distance = torch.cdist(torch.from_numpy(vectors).float(), own).min(1).values
    assert (distance < 1e-3).any()
    assert (distance > 0.1).any()
    assert distance.max() < 0.8 * torch.cdist(own, own).median()


def test_noise_and_deformation_take_part_in_training(parts):
    def trained(**settings):
        classifier = classifiers.train_cnn_classifier(parts.referee, steps=2, **settings)
        return _parameters(classifier)

    assert trained() == trained(noise=0.15, deform=0.16)
    assert trained() != trained(noise=0.0)
    assert trained() != trained(deform=0.0)


def test_a_repr_names_kind_and_shape(cnn, svm):
    assert repr(cnn) == "CNNClassifier(1x16x16)"
    assert repr(svm) == "SVMClassifier(1x16x16)"


@pytest.mark.skipif(
    not os.environ.get("SPLITLAB_DATA"),
    reason="SPLITLAB_DATA is not set: the original MNIST files are not here",
)
def test_classifiers_work_at_32_pixels_on_grey_images_with_three_channels():
    private, _, referee = mnist(channels=3).split(0)
    private = private.subset(500)
    cnn = classifiers.train_cnn_classifier(referee, steps=150)
    svm = classifiers.train_svm_classifier(referee, rows=1500)
    for classifier in (cnn, svm):
        assert metrics.recognized(classifier, private.x, private.y) > 0.85


def test_a_step_so_large_that_nothing_is_learned_is_halved(parts, monkeypatch):
    """At .4 the network calls every digit by one name; at an eighth of that it does not."""

    def names():
        classifier = classifiers.train_cnn_classifier(parts.referee, steps=100, learning_rate=0.4)
        return len(classifier(parts.private.x).unique())

    assert names() > 1
    monkeypatch.setattr(classifiers, "HALVINGS", 0)
    assert names() == 1
