"""What `fit` is fed with: streams, weights, splits, augmentation; and the same bits every time."""

import threading
import time

import numpy as np
import pytest

from fastconv import SGD, Conv2D, Dense, Dropout, Flatten, Sequential, set_num_threads
from fastconv import functional as F
from fastconv.augmentation import Compose, Normalize, RandomCrop, RandomFlip
from fastconv.losses import SoftmaxCrossEntropy
from fastconv.nn import batches
from fastconv.nn.batches import Batch, ahead

X = np.random.default_rng(0).standard_normal((30, 2, 6, 6)).astype(np.float32)
Y = np.arange(30) % 3


def model(**options):
    layers = [Conv2D(5, 3, activation="relu"), Dropout(0.1), Flatten(), Dense(3)]
    return Sequential(layers, seed=1, **options)


def pieces(size=10):
    return [(X[at : at + size], Y[at : at + size]) for at in range(0, 30, size)]


def same_weights(a, b):
    first, second = a.weights(), b.weights()
    return all(first[name].tobytes() == second[name].tobytes() for name in first)


# -- streams ---------------------------------------------------------------------------------------


class Endless:
    """An iterator that counts what is taken from it."""

    def __init__(self):
        self.taken = 0

    def __iter__(self):
        return self

    def __next__(self):
        self.taken += 1
        return pieces()[self.taken % 3]


def test_an_iterable_is_begun_anew_each_epoch():
    arrays, stream = model(), model()
    options = {"epochs": 3, "progress": False}
    expected = arrays.fit(
        X, Y, batch_size=10, shuffle=False, optimizer=SGD(0.1), **options
    )
    got = stream.fit(pieces(), optimizer=SGD(0.1), **options)
    assert got.loss == expected.loss and len(got.loss) == 3
    assert same_weights(arrays, stream)


def test_an_iterator_goes_on_and_gives_no_batch_too_many():
    stream = Endless()
    history = model().fit(stream, epochs=3, steps_per_epoch=4, progress=False)
    assert stream.taken == 12
    assert len(history.loss) == 3


def test_a_generator_serves_one_epoch_by_itself():
    history = model().fit((piece for piece in pieces()), progress=False)
    assert len(history.loss) == 1


def test_steps_per_epoch_cuts_epochs_short():
    for data in ((X, Y), (pieces(),)):
        optimizer = SGD(0.1)
        model().fit(
            *data, epochs=2, batch_size=10, steps_per_epoch=2, optimizer=optimizer, progress=False
        )
        assert optimizer.steps == 4


def test_streams_may_bring_weights():
    one, other = model(), model()
    weights = np.arange(30) % 4
    one.fit(X, Y, batch_size=10, shuffle=False, sample_weight=weights, progress=False)
    weighted = [(x, y, weights[at : at + 10]) for (x, y), at in zip(pieces(), (0, 10, 20),
                                                                   strict=True)]  # fmt: skip
    other.fit(weighted, progress=False)
    assert same_weights(one, other)


def test_weights_of_none_are_no_weights():
    one, other = model(), model()
    one.fit(pieces(), progress=False)
    other.fit([(x, y, None) for x, y in pieces()], progress=False)
    assert same_weights(one, other)


@pytest.mark.parametrize(
    "data, options, message",
    [
        (Endless(), {"epochs": 2}, "steps_per_epoch: expected a number with an iterator"),
        (iter(pieces()), {"steps_per_epoch": 4}, "x: expected 4 batches in this epoch, got 3"),
        ([], {}, "x: expected at least one batches in this epoch, got 0"),
        ([X], {}, r"x: expected batches \(x, y\) or \(x, y, weights\), got ndarray"),
        (X, {}, "y: expected targets for the samples x, or x to be an iterable"),
        (pieces(), {"validation_split": 0.5}, "y: expected arrays for validation_split"),
        (pieces(), {"sample_weight": np.ones(30)}, "y: expected arrays for validation_split and"),
    ],
)
def test_streams_that_cannot_be_used(data, options, message):
    with pytest.raises(ValueError, match=message):
        model().fit(data, progress=False, **options)


def test_what_a_stream_raises_is_raised():
    def broken():
        yield pieces()[0]
        raise OSError("disk on fire")

    with pytest.raises(OSError, match="disk on fire"):
        model().fit(broken(), progress=False)
    assert not [t for t in threading.enumerate() if t.name == "fastconv-batches"]


# -- weights and splits ----------------------------------------------------------------------------


def test_weights_are_repetitions():
    """Samples of weight 2 are samples that stand there twice, of weight 0 are left out."""
    one, other = model(input_shape=(2, 6, 6)), model(input_shape=(2, 6, 6))
    for net in (one, other):
        net.layers[1].rate = 0.0
    weights = np.arange(30) % 3
    options = {"batch_size": 100, "shuffle": False, "optimizer": SGD(0.5), "progress": False}
    a = one.fit(X, Y, sample_weight=weights, **options)
    b = other.fit(X.repeat(weights, axis=0), Y.repeat(weights), **options)
    assert a.loss == pytest.approx(b.loss)
    for name, value in one.weights().items():
        np.testing.assert_allclose(value, other.weights()[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("given", [{0: 2.0, 2: 0.5}, [2.0, 1.0, 0.5]])
def test_class_weights_are_weights_of_samples(given):
    one, other = model(), model()
    a = one.fit(X, Y, class_weight=given, sample_weight=np.full(30, 0.5), progress=False)
    b = other.fit(X, Y, sample_weight=np.array([2.0, 1.0, 0.5])[Y], progress=False)
    assert a.loss == pytest.approx(b.loss)
    for name, value in one.weights().items():
        np.testing.assert_allclose(value, other.weights()[name], rtol=1e-5, atol=1e-7)


def test_evaluation_counts_weights():
    net = model(input_shape=(2, 6, 6))
    weights = np.arange(30) % 4
    expected, _ = F.softmax_cross_entropy(net.predict(X), Y, sample_weights=weights)
    for size in (7, 100):
        got = net.evaluate(X, Y, sample_weight=weights, batch_size=size)
        assert got["loss"] == pytest.approx(expected)
    history = net.fit(X, Y, validation_data=(X, Y, weights), progress=False)
    assert history.val_loss == [net.evaluate(X, Y, sample_weight=weights)["loss"]]


def test_an_ignored_label_does_not_count_in_the_accuracy():
    net = model(input_shape=(2, 6, 6))
    labels = np.where(Y == 2, -1, Y)
    expected = np.mean(net.predict(X).argmax(axis=1)[Y != 2] == Y[Y != 2])
    loss = SoftmaxCrossEntropy(ignore_label=-1)
    assert net.evaluate(X, labels, loss=loss)["accuracy"] == pytest.approx(expected)
    history = net.fit(X, labels, loss=loss, metrics=["accuracy"], progress=False)
    assert 0 <= history.accuracy[0] <= 1


def test_a_split_holds_back_samples_at_random():
    seen = []

    def loss(outputs, targets):
        seen.append(targets)
        return F.mean_squared_error(outputs, np.stack([targets] * 3, axis=1))

    numbers = np.arange(30.0)
    history = model().fit(
        X, numbers, epochs=2, batch_size=30, loss=loss, validation_split=0.2, shuffle=False,
        progress=False,
    )  # fmt: skip
    training, held, again, still = seen
    assert len(held) == 6 and len(history.val_loss) == 2
    np.testing.assert_array_equal(np.sort(np.concatenate([training, held])), numbers)
    np.testing.assert_array_equal(training, again)
    np.testing.assert_array_equal(held, still)
    assert held.min() < 24
    assert (np.diff(training) > 0).all() and (np.diff(held) > 0).all()


def test_metrics_are_of_all_outputs_at_once():
    def spread(outputs, targets):
        assert outputs.shape == (30, 3) and targets.shape == (30,)
        return np.ptp(outputs)

    net = model()
    history = net.fit(
        X, Y, batch_size=7, epochs=2, metrics=[spread, "top_k_accuracy", "macro_f1"],
        validation_data=(X, Y), progress=False,
    )  # fmt: skip
    assert history.top_k_accuracy == [1.0, 1.0]
    assert len(history.spread) == len(history.val_macro_f1) == 2
    got = net.evaluate(X, Y, metrics=[spread])
    assert list(got) == ["loss", "accuracy", "spread"]
    assert got["spread"] == history.val_spread[-1] == np.ptp(net.predict(X))


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"sample_weight": np.ones(3)}, ValueError, r"sample_weight: expected shape \(30,\), got"),
        ({"sample_weight": -np.ones(30)}, ValueError, "sample_weights: expected finite numbers"),
        ({"class_weight": [1.0, 2.0]}, ValueError, "class_weight: expected weights for labels"),
        ({"class_weight": 3.0}, ValueError, r"class_weight: expected shape \(classes,\)"),
        ({"class_weight": {0: 2}, "y": np.eye(3)[Y]}, ValueError, "class_weight: expected integer"),
        ({"validation_split": 1.0}, ValueError, r"validation_split: expected a number in \[0, 1\)"),
        ({"validation_split": 0.01}, ValueError, "validation_split: expected at least one sample"),
        ({"validation_split": 0.5, "validation_data": (X, Y)}, ValueError, "no validation_data"),
        ({"validation_data": X}, ValueError, r"validation_data: expected \(x, y\) or"),
        ({"steps_per_epoch": 0}, ValueError, "steps_per_epoch: expected a positive integer"),
        ({"augmentation": 3}, TypeError, "augmentation: expected a function"),
        ({"augmentation": lambda x, rng: x[:1]}, ValueError, "augmentation: expected 30 images"),
        ({"metrics": ["hinge"]}, ValueError, "metrics: expected one of"),
    ],
)
def test_mistakes_are_named(options, error, message):
    arguments = {"x": X, "y": Y, "progress": False} | options
    with pytest.raises(error, match=message):
        model().fit(**arguments)


# -- augmentation, and the same bits ---------------------------------------------------------------

AUGMENT = Compose(RandomCrop(padding=1), RandomFlip())


def test_augmentation_changes_what_is_trained_on_and_nothing_else():
    x = X.copy()
    seen = []

    def augment(batch, rng):
        seen.append(batch.copy())
        return AUGMENT(batch, rng)

    net, plain = model(), model()
    history = net.fit(
        x, Y, epochs=2, batch_size=30, augmentation=augment, validation_data=(x, Y), progress=False
    )
    plain.fit(x, Y, epochs=2, batch_size=30, progress=False)
    np.testing.assert_array_equal(x, X)
    assert len(seen) == 2  # training batches only
    assert not same_weights(net, plain)
    assert history.val_loss[-1] == net.evaluate(x, Y)["loss"]


def test_bytes_may_be_normalised_on_the_way():
    pixels = np.random.default_rng(0).integers(0, 256, (30, 2, 6, 6), np.uint8)
    normalize = Normalize.of(pixels)
    one, other = (Sequential([Flatten(), Dense(3)], seed=1) for _ in range(2))
    one.fit(pixels, Y, augmentation=normalize, shuffle=False, progress=False)
    other.fit(normalize(pixels), Y, shuffle=False, progress=False)
    assert same_weights(one, other)


@pytest.mark.parametrize("stream", [False, True])
def test_the_same_seed_gives_the_same_bits(stream, monkeypatch):
    """With a thread ahead and without, fast or slow, on any number of threads."""

    def train():
        net = model()
        data = (pieces(5),) if stream else (X, Y)
        net.fit(
            *data, epochs=3, batch_size=7, augmentation=AUGMENT, class_weight={1: 2.0},
            validation_split=0.0 if stream else 0.2, progress=False,
        )  # fmt: skip
        return net

    expected = train()
    set_num_threads(1)
    assert same_weights(train(), expected)

    def slow(items):
        for item in ahead(items):
            time.sleep(0.002)
            yield item

    monkeypatch.setattr("fastconv.nn.fit.ahead", slow)
    assert same_weights(train(), expected)
    monkeypatch.setattr("fastconv.nn.fit.ahead", lambda items: items)
    assert same_weights(train(), expected)


def test_the_next_item_is_made_while_one_is_in_use():
    made = []

    def numbers():
        for number in range(4):
            made.append(number)
            yield number

    got = []
    for number in ahead(numbers()):
        deadline = time.monotonic() + 10
        while len(made) < min(number + 2, 4) and time.monotonic() < deadline:
            time.sleep(0.001)
        got.append((number, len(made)))
    assert got == [(0, 2), (1, 3), (2, 4), (3, 4)]


def test_stopping_early_ends_the_thread():
    items = ahead(iter(range(100)))
    assert next(items) == 0
    items.close()
    assert not [t for t in threading.enumerate() if t.name == "fastconv-batches"]


def test_weights_of_classes_and_samples_multiply():
    batch = Batch(X[:3], Y[:3], np.array([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(batches.weigh(batch, {1: 5.0}).weights, [1, 10, 3])
    np.testing.assert_array_equal(batches.weigh(batch, np.array([2, 1, 0])).weights, [2, 2, 0])
