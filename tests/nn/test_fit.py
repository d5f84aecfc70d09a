"""The loops over batches."""

import sys

import numpy as np
import pytest

from fastconv import SGD, Conv2D, Dense, Flatten, MaxPool, Sequential, Softmax
from fastconv import functional as F
from fastconv.nn.batches import Batch, gather

LABELS = np.arange(50) % 3


def images(count=50):
    """Noise with a bright square whose place tells the label."""
    x = np.random.default_rng(0).standard_normal((count, 2, 8, 8), dtype=np.float32)
    for i in range(count):
        x[i, :, 2 * (i % 3) : 2 * (i % 3) + 3, :3] += 2
    return x


def classifier(**options):
    return Sequential(
        [Conv2D(6, 3, padding="same", activation="relu"), MaxPool(2), Flatten(), Dense(3)],
        seed=1,
        **options,
    )


def test_history_has_one_number_per_epoch():
    x = images()
    model = classifier()
    history = model.fit(
        x, LABELS, epochs=6, batch_size=16, validation_data=(x, LABELS), progress=False
    )
    assert {len(numbers) for numbers in vars(history).values()} == {6}
    assert all(isinstance(n, float) for numbers in vars(history).values() for n in numbers)
    assert history.loss[-1] < history.loss[0]
    assert model.evaluate(x, LABELS) == {
        "loss": history.val_loss[-1],
        "accuracy": history.val_accuracy[-1],
    }


def test_epoch_loss_is_the_mean_over_samples_not_batches():
    x = images(21)
    model = classifier(input_shape=(2, 8, 8))
    before = model.evaluate(x, LABELS[:21])
    frozen = SGD(1e-30)
    history = model.fit(x, LABELS[:21], batch_size=20, optimizer=frozen, progress=False)
    assert history.loss[0] == pytest.approx(before["loss"], rel=1e-6)
    assert history.accuracy[0] == before["accuracy"]
    assert history.val_loss == []
    assert frozen.steps == 2


def test_evaluation_and_prediction_do_not_depend_on_the_batch_size():
    x = images()
    model = classifier(input_shape=(2, 8, 8))
    outputs = model.predict(x)
    assert outputs.shape == (50, 3)
    np.testing.assert_array_equal(model.predict(x, batch_size=7), outputs)
    assert model.predict(x[:0]).shape == (0, 3)
    loss, _ = F.softmax_cross_entropy(outputs, LABELS)
    accuracy = np.mean(outputs.argmax(axis=1) == LABELS)
    for size in (7, 50, 1000):
        means = model.evaluate(x, LABELS, batch_size=size)
        assert means == {"loss": pytest.approx(loss, rel=1e-6), "accuracy": accuracy}


def test_without_shuffling_fit_is_train_batch_in_order():
    x = images()
    first, second = classifier(), classifier()
    first.fit(x, LABELS, batch_size=16, optimizer=SGD(0.1), shuffle=False, progress=False)
    optimizer = SGD(0.1)
    for start in range(0, 50, 16):
        rows = slice(start, start + 16)
        loss = second.train_batch(x[rows], LABELS[rows], optimizer=optimizer)
        assert isinstance(loss, float)
    np.testing.assert_array_equal(first.predict(x), second.predict(x))


@pytest.mark.parametrize(
    "turn",
    [
        lambda x: x,
        lambda x: x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2),
        lambda x: np.repeat(x, 2, axis=2)[:, :, ::2],
        lambda x: x.astype(">f4"),
        lambda x: x.astype(np.uint8),
        lambda x: x.reshape(len(x), -1).T.copy().T,
    ],
    ids=["contiguous", "channels-last", "strided", "big-endian", "bytes", "vectors"],
)
def test_batches_gather_any_array_in_any_order(turn):
    x = turn(images(23))
    order = np.random.default_rng(3).permutation(23)
    data = Batch(x, np.arange(23), np.arange(23) / 2)
    seen = [Batch(*(array.copy() for array in batch)) for batch in gather(data, order, 5)]
    assert [len(batch.x) for batch in seen] == [5, 5, 5, 5, 3]
    np.testing.assert_array_equal(np.concatenate([batch.y for batch in seen]), order)
    np.testing.assert_array_equal(np.concatenate([batch.weights for batch in seen]), order / 2)
    assert {batch.x.dtype for batch in seen} == {x.dtype}
    np.testing.assert_array_equal(np.concatenate([batch.x for batch in seen]), x[order])


def test_batches_take_turns_in_two_buffers():
    x = images(30)
    first, second, third = (
        batch.x for batch in gather(Batch(x, np.arange(30)), np.arange(30), 10)
    )
    assert np.shares_memory(first, third)
    assert not np.shares_memory(first, second)
    assert not np.shares_memory(first, x)


def test_regression_with_mean_squared_error():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 5))
    y = x @ rng.standard_normal((5, 2)) + 1
    model = Sequential([Dense(2)], seed=0)
    history = model.fit(
        x, y, epochs=40, batch_size=8, optimizer=SGD(0.05, momentum=0.5), loss="mse",
        validation_data=(x, y), progress=False,
    )  # fmt: skip
    assert history.loss[-1] < 1e-6 < history.loss[0]
    assert history.accuracy == history.val_accuracy == []
    assert model.evaluate(x, y, loss="mse") == {"loss": history.val_loss[-1]}


def test_a_loss_is_any_callable():
    def doubled(outputs, targets):
        loss, gradient = F.softmax_cross_entropy(outputs, targets)
        return 2 * loss, 2 * gradient

    x = images()
    ours, named = classifier(), classifier()
    a = ours.train_batch(x, LABELS, optimizer=SGD(0.05), loss=doubled)
    b = named.train_batch(x, LABELS, optimizer=SGD(0.1))
    assert a == pytest.approx(2 * b)
    np.testing.assert_allclose(ours.predict(x), named.predict(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("with_tqdm", [True, False])
def test_progress_prints_a_line_per_epoch(capsys, monkeypatch, with_tqdm):
    if not with_tqdm:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    x = images()
    classifier().fit(x, LABELS, epochs=2, batch_size=16, validation_data=(x, LABELS))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    for word in ("loss", "accuracy", "val_loss", "val_accuracy", "ms/step"):
        assert word in lines[0]
    classifier().fit(x, LABELS, progress=False)
    assert capsys.readouterr() == ("", "")


def test_a_softmax_layer_under_its_own_loss_is_refused():
    model = Sequential([Dense(3), Softmax()])
    x, y = np.zeros((4, 2)), np.zeros(4, int)
    for call in (
        lambda: model.fit(x, y, progress=False),
        lambda: model.train_batch(x, y, optimizer=SGD()),
        lambda: model.evaluate(x, y),
    ):
        with pytest.raises(ValueError, match=r"ends in Softmax\(\); leave that layer off"):
            call()
    model.fit(x, np.zeros((4, 3)), loss="mse", progress=False)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"epochs": 0}, ValueError, "epochs: expected a positive integer, got 0"),
        ({"batch_size": 2.0}, ValueError, "batch_size: expected a positive integer, got 2.0"),
        ({"optimizer": "adagrad"}, ValueError, r"expected one of \['adam', 'adamw', 'rms"),
        ({"loss": "hinge"}, ValueError, "loss: expected one of"),
        ({"y": LABELS[:-1]}, ValueError, "y: expected one entry for each of the 50 samples"),
        ({"x": images()[:0], "y": LABELS[:0]}, ValueError, "x: expected at least one sample"),
        ({"x": images()[:, 0]}, ValueError, "Conv2D: expected an input of shape"),
    ],
)
def test_mistakes_are_named(options, error, message):
    arguments = {"x": images(), "y": LABELS, "progress": False} | options
    with pytest.raises(error, match=message):
        classifier().fit(**arguments)


def test_one_step_needs_an_optimizer_that_lives_on():
    with pytest.raises(TypeError, match="optimizer: expected an Optimizer"):
        classifier().train_batch(images(), LABELS, optimizer="adam")
