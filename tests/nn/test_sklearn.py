"""Estimators keep scikit-learn's promises, as its own checks see them, and learn from images."""

import copy
import pickle

import numpy as np
import pytest
from processes import printed_by

from fastconv import Adam, Conv2D, Dense, Flatten, MaxPool, Sequential, models
from fastconv.augmentation import RandomShift

pytest.importorskip("sklearn")
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastconv.sklearn import CNNClassifier, CNNRegressor

# A weight of 2 and a sample that comes twice are the same up to rounding; that check allows 1e-7,
# which is a single rounding of float32. In float64 it passes, and below with float32's tolerance.
ROUNDED = {"check_sample_weight_equivalence_on_dense_data": "float32 rounds at 6e-8"}


@parametrize_with_checks(
    [
        CNNClassifier(dtype="float64"),
        CNNRegressor(dtype="float64"),
        CNNClassifier(),
        CNNRegressor(),
    ],
    expected_failed_checks=lambda estimator: ROUNDED if estimator.dtype == "float32" else {},
)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def stripes(n=90, seed=0):
    """Images (n, 8, 8) of lines that lie, stand, or neither, and which of these."""
    rng = np.random.default_rng(seed)
    kinds = np.array(["lying", "none", "standing"])
    y = rng.integers(3, size=n)
    lines = rng.random((n, 8, 1)) > 0.5
    X = rng.random((n, 8, 8))
    for image, kind, line in zip(X, y, lines, strict=True):
        image += (line if kind == 0 else line.T if kind == 2 else 0) * 1.0
    return X, kinds[y]


QUICK = {"epochs": 20, "learning_rate": 0.003, "random_state": 0}


@pytest.mark.parametrize("optimizer", ["adam", Adam(0.1)])
def test_it_learns_and_says_what_it_learned(optimizer):
    X, y = stripes()
    classifier = CNNClassifier(optimizer=optimizer, **QUICK)
    assert classifier.fit(X, y) is classifier
    assert classifier.score(*stripes(seed=1)) > 0.9
    assert classifier.classes_.tolist() == ["lying", "none", "standing"]
    assert classifier.n_features_in_ == 64
    assert classifier.image_shape_ == (8, 8, 1)
    assert classifier.n_iter_ == len(classifier.loss_curve_) == 20
    assert classifier.loss_curve_ == classifier.model_.history.loss
    assert classifier.optimizer_ is not optimizer
    chances = classifier.predict_proba(X)
    np.testing.assert_allclose(chances.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(
        classifier.classes_[chances.argmax(axis=1)], classifier.predict(X)
    )


def test_channels_are_last_and_flat_pixels_are_the_same_images():
    X, y = stripes()
    X = np.stack([X, X[:, ::-1], 1 - X], axis=3)  # (n, h, w, 3)
    images = CNNClassifier(**QUICK).fit(X, y)
    assert images.model_.input_shape == (3, 8, 8)
    np.testing.assert_allclose(
        images.model_.predict(X.transpose(0, 3, 1, 2)).argmax(axis=1),
        images.classes_.searchsorted(images.predict(X)),
    )
    flat = CNNClassifier(image_shape=(8, 8, 3), **QUICK).fit(X.reshape(-1, 192), y)
    np.testing.assert_array_equal(images.predict_proba(X), flat.predict_proba(X))
    np.testing.assert_array_equal(images.predict_proba(X), flat.predict_proba(X.reshape(-1, 192)))


@pytest.mark.parametrize(
    "image_shape, features, expected",
    [(None, 49, (7, 7, 1)), (None, 48, (1, 48, 1)), ((6, 8), 48, (6, 8, 1)), (None, 1, (1, 1, 1)),
     ((4, 4, 3), 48, (4, 4, 3)), (None, 16384, (128, 128, 1))],
)  # fmt: skip
def test_shapes_of_flat_samples_and_the_network_they_get(image_shape, features, expected):
    X = np.zeros((2, features))
    regressor = CNNRegressor(image_shape=image_shape, epochs=1).fit(X, [0, 1])
    assert regressor.image_shape_ == expected
    convolutions = [layer for layer in regressor.model_.layers if isinstance(layer, Conv2D)]
    assert len(convolutions) >= 2
    H, W, _ = expected
    assert convolutions[0].kernel_size == (min(H, 3), min(W, 3))
    assert max(regressor.model_.layers[-4].output_shape[1:]) <= 7
    assert sum(value.size for _, value, _ in regressor.model_.parameters()) < 300_000


def test_networks_of_ones_own():
    X, y = stripes()
    body = [Conv2D(4, 3, activation="relu"), MaxPool(2), Flatten()]
    classifier = CNNClassifier(body, **QUICK).fit(X, y)
    assert classifier.model_.layers[-1].units == 3
    assert not body[0].params  # a copy was trained
    assert classifier.model_.layers[0] is not body[0]
    function = CNNClassifier(models.mnist_cnn, **QUICK | {"epochs": 1}).fit(X, y)
    assert [type(layer) for layer in function.model_.layers] == [
        type(layer) for layer in models.mnist_cnn().layers
    ]

    def wrong(classes, **built):
        return Sequential([Flatten(), Dense(classes + 1)], **built)

    with pytest.raises(ValueError, match=r"network: expected .* Sequential of 3 outputs, got Seq"):
        CNNClassifier(wrong).fit(X, y)


def test_a_pipeline_and_a_grid_search():
    X, y = stripes()
    pipeline = make_pipeline(StandardScaler(), CNNClassifier(**QUICK))
    assert cross_val_score(pipeline, X.reshape(-1, 64), y, cv=3).mean() > 0.8
    search = GridSearchCV(
        CNNClassifier(**QUICK), {"learning_rate": [1e-9, 0.003], "batch_size": [16]}, cv=3
    )
    search.fit(X, y)
    assert search.best_params_ == {"batch_size": 16, "learning_rate": 0.003}
    assert search.best_estimator_.optimizer_.learning_rate == 0.003


@pytest.mark.parametrize(
    "seed", [lambda: 3, lambda: np.random.RandomState(3), lambda: np.random.default_rng(3)]
)
def test_the_same_seed_gives_the_same_bits(seed):
    X, y = stripes()
    settings = QUICK | {"epochs": 2, "augmentation": RandomShift(1)}
    first, second, other = (
        CNNClassifier(**settings | {"random_state": state}).fit(X, y).predict_proba(X)
        for state in (seed(), seed(), 4)
    )
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


def test_copies_predict_the_same_and_clones_know_nothing():
    X, y = stripes()
    fitted = CNNClassifier([Flatten()], optimizer=Adam(0.01), **QUICK).fit(X, y)
    for twin in (copy.deepcopy(fitted), pickle.loads(pickle.dumps(fitted))):
        np.testing.assert_array_equal(twin.predict_proba(X), fitted.predict_proba(X))
        twin.partial_fit(X, y)
    new = clone(fitted)
    with pytest.raises(NotFittedError):
        new.predict(X)
    np.testing.assert_array_equal(new.fit(X, y).predict_proba(X), fitted.predict_proba(X))


def test_weights_stand_for_repeated_samples_also_in_float32():
    X, y = stripes(20)
    weights = np.random.default_rng(5).integers(4, size=20)
    # Adam divides by the size of a gradient, so where that is all rounding it makes it large.
    settings = QUICK | {"batch_size": 100, "optimizer": "sgd", "learning_rate": 0.1}
    weighted = CNNClassifier(**settings).fit(X, y, sample_weight=weights)
    repeated = CNNClassifier(**settings).fit(X.repeat(weights, axis=0), y.repeat(weights))
    plain = CNNClassifier(**settings).fit(X, y).predict_proba(X)
    chances = repeated.predict_proba(X)
    np.testing.assert_allclose(weighted.predict_proba(X), chances, rtol=1e-5, atol=1e-5)
    assert abs(plain - chances).max() > 0.01


def test_class_weights_are_sample_weights():
    X, y = stripes(30)
    by_class = CNNClassifier(class_weight={"none": 4.0}, **QUICK).fit(X, y)
    by_sample = CNNClassifier(**QUICK).fit(X, y, sample_weight=np.where(y == "none", 4.0, 1.0))
    np.testing.assert_array_equal(by_class.predict_proba(X), by_sample.predict_proba(X))
    counts = dict(zip(*np.unique(y, return_counts=True), strict=True))
    balanced = CNNClassifier(class_weight="balanced", **QUICK).fit(X, y)
    named = {label: len(y) / (3 * n) for label, n in counts.items()}
    by_name = CNNClassifier(class_weight=named, **QUICK).fit(X, y)
    np.testing.assert_array_equal(balanced.predict_proba(X), by_name.predict_proba(X))


def test_early_stopping_goes_back_to_the_best_epoch():
    X, y = stripes()
    y = np.random.default_rng(1).permutation(y)  # nothing to learn: the held-back loss soon rises
    classifier = CNNClassifier(
        epochs=200, learning_rate=0.01, random_state=0, early_stopping=True, patience=3,
        validation_split=0.3,
    ).fit(X, y)  # fmt: skip
    history = classifier.model_.history.val_loss
    assert 3 < len(history) < 200
    assert np.argmin(history) == len(history) - 4
    assert classifier.n_iter_ == len(history)


def test_training_goes_on():
    X, y = stripes()
    whole = CNNClassifier(warm_start=True, **QUICK | {"epochs": 2})
    whole.fit(X, y)
    first = whole.model_
    whole.fit(X, y)
    assert whole.model_ is first
    assert whole.n_iter_ == 4
    assert whole.optimizer_.steps == 4 * 3
    again = clone(whole).set_params(warm_start=False).fit(X, y)
    assert again.fit(X, y).n_iter_ == 2

    bit_by_bit = CNNClassifier(**QUICK)
    kinds = ["standing", "lying", "none"]
    bit_by_bit.partial_fit(X[:0:-1][y[:0:-1] == "none"], ["none"] * sum(y[:0:-1] == "none"), kinds)
    assert bit_by_bit.classes_.tolist() == sorted(kinds)
    for _ in range(20):
        bit_by_bit.partial_fit(X, y)
    assert bit_by_bit.score(X, y) > 0.9
    assert bit_by_bit.n_iter_ == 21
    with pytest.raises(ValueError, match=r"y: expected labels among .*, got \['round'\]"):
        bit_by_bit.partial_fit(X[:1], ["round"])
    with pytest.raises(ValueError, match="classes: expected those of the first call"):
        bit_by_bit.partial_fit(X, y, classes=kinds[:2])


def test_one_number_or_several():
    X, _ = stripes()
    y = np.stack([X[:, :4].mean(axis=(1, 2)), X[:, :, :4].mean(axis=(1, 2))], axis=1)
    y = (y - y.mean(axis=0)) / y.std(axis=0)
    for loss in ("mse", "huber"):
        both = CNNRegressor(loss=loss, **QUICK | {"epochs": 30}).fit(X, y)
        assert both.predict(X).shape == (90, 2)
        assert both.score(X, y) > 0.8
    one = CNNRegressor(**QUICK | {"epochs": 30}).fit(X, y[:, 0])
    assert one.predict(X).shape == (90,)
    assert one.score(X, y[:, 0]) > 0.8
    n_iter = one.n_iter_
    assert one.partial_fit(X, y[:, 0]).n_iter_ == n_iter + 1
    with pytest.raises(ValueError, match=r"y: expected shape \(90,\), got \(90, 2\)"):
        one.partial_fit(X, y)


def test_names_of_features():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(np.eye(4), columns=list("abcd"))
    classifier = CNNClassifier(epochs=1).fit(frame, [0, 1, 0, 1])
    assert classifier.feature_names_in_.tolist() == list("abcd")
    assert classifier.image_shape_ == (2, 2, 1)


@pytest.mark.parametrize(
    "settings, X, message",
    [
        ({"image_shape": (3, 3)}, np.zeros((2, 8)), r"image_shape: .* product of 8, .* got \(3, 3"),
        ({"image_shape": (8,)}, np.zeros((2, 8)), r"image_shape: expected \(h, w\) or .*, got \(8"),
        ({"image_shape": (2, 4)}, np.zeros((2, 4, 2)), r"X: expected images of shape \(2, 4, 1\)"),
        ({}, np.zeros((2, 1, 1, 1, 4)), r"image_shape: expected \(h, w\) or .*, got \(1, 1, 1, 4"),
        ({"epochs": 0}, np.zeros((2, 4)), "epochs: expected a positive integer, got 0"),
        ({"learning_rate": -1.0}, np.zeros((2, 4)), "learning_rate: expected .*, got -1.0"),
        ({"optimizer": "newton"}, np.zeros((2, 4)), "optimizer: expected one of"),
        ({"early_stopping": True}, np.zeros((2, 4)), "validation_split: expected at least one"),
        ({"network": [Conv2D(2, 1)]}, np.zeros((2, 4)), "Dense: expected an input"),
    ],
)
def test_mistakes_are_named(settings, X, message):
    with pytest.raises(ValueError, match=message):
        CNNClassifier(**settings).fit(X, [0, 1])


def test_images_of_another_shape_are_refused():
    classifier = CNNClassifier(epochs=1).fit(np.zeros((2, 4, 6)), [0, 1])
    with pytest.raises(ValueError, match=r"X: expected images of shape \(4, 6, 1\), got \(6, 4\)"):
        classifier.predict(np.zeros((2, 6, 4)))


def test_scikit_learn_is_needed_by_this_module_alone():
    script = """if True:
        import sys
        import fastconv
        assert "sklearn" not in sys.modules
        sys.modules["sklearn"] = None
        try:
            import fastconv.sklearn
        except ImportError as error:
            print(error)
    """
    assert "pip install scikit-learn, or pip install 'fastconv[sklearn]'" in printed_by(script)
