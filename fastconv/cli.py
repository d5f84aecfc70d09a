"""The command line: train, predict, evaluate, info.

``python -m fastconv train`` trains a small CNN on handwritten digits, or on a folder of IDX files
with ``--data``, and shows on the way what the library does. The model file carries in its metadata
how images are prepared, so that ``predict`` and ``evaluate`` prepare theirs the same way.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv import functional as F
from fastconv import runtime
from fastconv.data import LabelledImages, load_digits, load_idx_folder
from fastconv.nn import Conv2D, Dense, Dropout, Flatten, Layer, MaxPool, Sequential
from fastconv.optim import SGD, Adam

RATES = {"adam": 0.002, "sgd": 0.05}  # where learning begins


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the process's exit status."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        print(f'fastconv: {error}; try: pip install "fastconv[demo]"', file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f"fastconv: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--data", default="digits", metavar="DIR",
                        help="folder of IDX files, as MNIST comes (default: scikit-learn's digits)")
    shared.add_argument("--threads", type=int, metavar="N", help="threads to compute with")

    parser = argparse.ArgumentParser(prog="fastconv", description="Train and use small CNNs.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser("train", parents=[shared], help="train a CNN and save it")
    train.add_argument("--epochs", type=int, metavar="N",
                       help="passes over the images (default: 15, with DIR 3)")
    train.add_argument("--batch-size", type=int, metavar="N",
                       help="images per step (default: 32, with DIR 64)")
    train.add_argument("--optimizer", choices=sorted(RATES), default="adam",
                       help="Adam, or SGD with momentum 0.9 (default: adam)")
    train.add_argument("--learning-rate", type=float, metavar="RATE",
                       help="at the start; it falls to zero (default: adam 0.002, sgd 0.05)")
    train.add_argument("--kernel-size", type=int, default=3, metavar="K",
                       help="height and width of the convolutions (default: 3)")
    train.add_argument("--seed", type=int, default=0, metavar="N",
                       help="the same seed gives the same model (default: 0)")
    train.add_argument("--save", default="fastconv-model.npz", metavar="FILE",
                       help="where to write the model (default: fastconv-model.npz)")
    train.add_argument("--picture", default="fastconv-kernels.png", metavar="PNG",
                       help="where to draw kernels and features (default: fastconv-kernels.png)")
    train.add_argument("--no-progress", action="store_true", help="print only the result")
    train.set_defaults(run=_train)

    predict = commands.add_parser("predict", parents=[shared], help="classify test images")
    predict.add_argument("model", metavar="MODEL", help="file that train saved")
    predict.add_argument("--index", type=int, nargs="+", default=[0], metavar="I",
                         help="which test images (default: 0)")
    predict.set_defaults(run=_predict)

    evaluate = commands.add_parser("evaluate", parents=[shared], help="measure on the test images")
    evaluate.add_argument("model", metavar="MODEL", help="file that train saved")
    evaluate.set_defaults(run=_evaluate)

    info = commands.add_parser("info", help="version, instruction sets, threads, caches")
    info.set_defaults(run=_info)
    return parser


def network(image_shape: tuple[int, ...], classes: int, kernel_size: int, seed: int) -> Sequential:
    """Two convolutions and two dense layers; images of 16 pixels and more are pooled twice."""
    large = min(image_shape[1:]) >= 16
    layers: list[Layer] = [
        Conv2D(32, kernel_size, padding="same", activation="relu"),
        *([MaxPool(2)] if large else []),
        Conv2D(64, kernel_size, padding="same", activation="relu"),
        MaxPool(2),
        Dropout(0.25),
        Flatten(),
        Dense(128, activation="relu"),
        Dropout(0.25),
        Dense(classes),
    ]
    return Sequential(layers, input_shape=image_shape, seed=seed)


def _train(options: argparse.Namespace) -> None:
    for path in (options.save, options.picture):
        if not os.path.isdir(os.path.dirname(path) or "."):
            raise ValueError(f"{path}: there is no such folder to write to")
    data = _setup(options)
    small = options.data == "digits"
    x_train = data.x_train.astype(np.float32)
    preparation = {"mean": float(x_train.mean()), "std": float(x_train.std())}
    x_train, x_test = (_prepared(x, preparation) for x in (x_train, data.x_test))
    classes = 1 + int(max(data.y_train.max(), data.y_test.max()))

    model = network(x_train.shape[1:], classes, options.kernel_size, options.seed)
    model.metadata = preparation
    print(model.summary())
    epochs = _given(options.epochs, 15 if small else 3)
    batch_size = _given(options.batch_size, 32 if small else 64)
    rate = _given(options.learning_rate, RATES[options.optimizer])
    optimizer = Adam(rate) if options.optimizer == "adam" else SGD(rate, momentum=0.9)
    steps = max(1, epochs * -(-len(x_train) // max(1, batch_size)))

    def falling(step: int) -> float:
        """A rate that falls to zero: large steps first, and a settled model at the end."""
        return rate * (1 - step / steps)

    optimizer.learning_rate = falling
    model.fit(
        x_train,
        data.y_train,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=optimizer,
        validation_data=(x_test, data.y_test),
        progress=not options.no_progress,
    )
    means = model.evaluate(x_test, data.y_test)
    print(f"test loss {means['loss']:.4f}, test accuracy {means['accuracy']:.2%}")
    model.save(options.save)
    print(f"model saved as {options.save}")

    from matplotlib.figure import Figure

    from fastconv.plot import plot_feature_maps, plot_kernels

    figure = Figure(figsize=(16, 6), layout="constrained")
    parts = figure.subfigures(1, 2, squeeze=False, width_ratios=(1, 2))[0]
    plot_kernels(model, figure=parts[0])
    plot_feature_maps(model, x_test[0], columns=3, figure=parts[1])
    figure.savefig(options.picture, format="png", dpi=100)
    print(f"kernels and feature maps drawn in {options.picture}")


def _predict(options: argparse.Namespace) -> None:
    model, x, y = _model_and_test_images(options)
    for index in options.index:
        if not 0 <= index < len(x):
            raise ValueError(f"--index: expected numbers from 0 to {len(x) - 1}, got {index}")
    for index, row in zip(options.index, F.softmax(model.predict(x[options.index])), strict=True):
        best = int(row.argmax())
        print(f"image {index}: class {best} ({row[best]:.1%}), labelled {y[index]}")
        print("  " + "  ".join(f"{label}: {p:.1%}" for label, p in enumerate(row)))


def _evaluate(options: argparse.Namespace) -> None:
    model, x, y = _model_and_test_images(options)
    outputs = model.predict(x)
    loss, _ = F.softmax_cross_entropy(outputs, y)
    right = outputs.argmax(axis=1) == y
    print(f"test loss {loss:.4f}, test accuracy {right.mean():.2%}")
    for label in np.unique(y):
        chosen = right[y == label]
        print(f"  class {label}: {chosen.mean():7.2%} of {len(chosen)}")


def _info(options: argparse.Namespace) -> None:
    for name, value in runtime.info().items():
        if isinstance(value, dict):
            value = ", ".join(f"{level} {size // 1024:,} KiB" for level, size in value.items())
        elif isinstance(value, tuple):
            value = ", ".join(value)
        print(f"{name:16}{value}")


def _setup(options: argparse.Namespace) -> LabelledImages:
    """Set the threads, read the images, and say what there is to work with."""
    if options.threads is not None:
        runtime.set_num_threads(options.threads)
    data = load_digits() if options.data == "digits" else load_idx_folder(options.data)
    shape = " x ".join(map(str, data.x_train.shape[1:]))
    print(f"{options.data}: {len(data.x_train):,} training and {len(data.x_test):,} test images "
          f"of {shape}")
    print(f"instruction set {runtime.isa()}, threads {runtime.get_num_threads()}")
    return data


def _model_and_test_images(options: argparse.Namespace) -> tuple[Sequential, NDArray, NDArray]:
    model = Sequential.load(options.model)
    data = _setup(options)
    return model, _prepared(data.x_test, model.metadata), data.y_test


def _prepared(images: NDArray, preparation: dict[str, Any]) -> NDArray:
    """Images as a network wants them: the training images' mean at 0, their deviation at 1."""
    x = images.astype(np.float32)
    x -= preparation.get("mean", 0.0)
    x /= preparation.get("std", 1.0)
    return x


def _given(value: Any, default: Any) -> Any:
    return default if value is None else value
