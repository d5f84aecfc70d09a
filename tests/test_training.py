"""Whole trainings: to an accuracy, along a known curve, by hand, and beside PyTorch."""

import numpy as np
import pytest

from fastconv import SGD, Adam, Conv2D, Dense, Flatten, MaxPool, Sequential
from fastconv import functional as F
from fastconv.data import load_digits


def network(**options):
    return Sequential(
        [
            Conv2D(8, 3, padding="same", activation="relu"),
            MaxPool(2),
            Conv2D(16, 3, padding="same", activation="relu"),
            Flatten(),
            Dense(10),
        ],
        **options,
    )


def bars(count=320, seed=0):
    """Noisy images of horizontal, vertical and diagonal bars: ten classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count)
    x = rng.standard_normal((count, 1, 8, 8)).astype(np.float32)
    for image, label in zip(x[:, 0], labels, strict=True):
        if label < 4:
            image[2 * label] += 2
        elif label < 8:
            image[:, 2 * (label - 4)] += 2
        else:
            np.fill_diagonal(image if label == 8 else image[:, ::-1], 3)
    return x, labels


def test_a_small_network_learns_handwritten_digits():
    pytest.importorskip("sklearn")
    data = load_digits()
    model = network(seed=0)
    model.fit(
        data.x_train / 16, data.y_train, epochs=8, batch_size=32, optimizer=Adam(0.003),
        progress=False,
    )  # fmt: skip
    assert model.evaluate(data.x_test / 16, data.y_test)["accuracy"] >= 0.96


CURVE = [2.79387056, 0.84420037, 0.10439774, 0.03086877, 0.00524221, 0.00212112]  # in float64


def test_the_loss_curve_of_a_fixed_seed():
    x, labels = bars()
    history = network(seed=0).fit(
        x, labels, epochs=6, batch_size=32, optimizer=SGD(0.02, momentum=0.9), progress=False
    )
    np.testing.assert_allclose(history.loss, CURVE, rtol=1e-4)


def test_a_loop_by_hand_is_what_fit_does():
    x, labels = bars(96)
    fitted, by_hand = network(seed=0), network(seed=0)
    fitted.fit(x, labels, epochs=2, optimizer=Adam(), shuffle=False, progress=False)
    optimizer = Adam()
    for _ in range(2):
        for start in range(0, 96, 32):
            logits = by_hand.forward(x[start : start + 32], training=True)
            _, dlogits = F.softmax_cross_entropy(logits, labels[start : start + 32])
            by_hand.backward(dlogits)
            optimizer.update(by_hand.parameters())
    np.testing.assert_array_equal(fitted.predict(x), by_hand.predict(x))


def test_a_training_is_the_same_in_pytorch():
    torch = pytest.importorskip("torch")
    x, labels = bars(96)
    model = network(input_shape=(1, 8, 8), seed=0, dtype="float64")
    peer = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(8, 16, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(16 * 4 * 4, 10),
    ).double()
    with torch.no_grad():
        for ours, theirs in zip(model.parameters(), peer.parameters(), strict=True):
            theirs.copy_(torch.from_numpy(ours.value))
    optimizer = SGD(0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)
    peer_optimizer = torch.optim.SGD(
        peer.parameters(), 0.05, momentum=0.9, nesterov=True, weight_decay=1e-3
    )
    for start in list(range(0, 96, 16)) * 2:
        rows = slice(start, start + 16)
        loss = model.train_batch(x[rows], labels[rows], optimizer=optimizer)
        peer_loss = torch.nn.functional.cross_entropy(
            peer(torch.from_numpy(x[rows]).double()), torch.from_numpy(labels[rows])
        )
        peer_optimizer.zero_grad()
        peer_loss.backward()
        peer_optimizer.step()
        assert loss == pytest.approx(peer_loss.item(), rel=1e-9)
    for ours, theirs in zip(model.parameters(), peer.parameters(), strict=True):
        np.testing.assert_allclose(ours.value, theirs.detach().numpy(), rtol=1e-8, atol=1e-10)
