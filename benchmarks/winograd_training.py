"""Does it matter to training that Winograd's algorithm rounds more?

The same networks, seeds and order of the data, once computed directly and once as models compute by
themselves: the loss of every epoch and the accuracy at the end, over several seeds.

    python benchmarks/winograd_training.py --fashion FOLDER --cifar FILE.npz --out RESULT.json

FOLDER holds Fashion-MNIST's four IDX files, FILE.npz arrays x_train (N, H, W, C), y_train, x_test
and y_test.  Either may be left out.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

import fastconv
from fastconv import Conv2D, Dense, Flatten, MaxPool, Sequential
from fastconv.data import load_idx_folder

WAYS = ("direct", "auto")
ARRAYS = ("x_train", "y_train", "x_test", "y_test")
# Filters of 3x3 convolutions; 0 is a pooling.
CIFAR = (32, 32, 0, 64, 64, 0, 128, 128, 0)
FASHION = (32, 0, 64, 64, 0)


def classifier(filters: tuple[int, ...], input_shape: tuple[int, ...], seed: int) -> Sequential:
    return Sequential(
        [
            *(Conv2D(n, 3, padding=1, activation="relu") if n else MaxPool(2) for n in filters),
            Flatten(),
            Dense(128, activation="relu"),
            Dense(10),
        ],
        input_shape=input_shape,
        seed=seed,
    )


def train(
    filters: tuple[int, ...], data: dict[str, np.ndarray], seed: int, epochs: int, way: str
) -> dict:
    model = classifier(filters, data["x_train"].shape[1:], seed)
    with fastconv.use_algorithm(way):
        start = time.perf_counter()
        history = model.fit(
            data["x_train"],
            data["y_train"],
            epochs=epochs,
            batch_size=64,
            optimizer=fastconv.Adam(0.001),
            progress=False,
        )
        seconds = (time.perf_counter() - start) / epochs
        test = model.evaluate(data["x_test"], data["y_test"])
    return {
        "seed": seed,
        "loss": history.loss,
        "accuracy": test["accuracy"],
        "test_loss": test["loss"],
        "seconds_per_epoch": seconds,
    }


def images(folder_or_file: Path) -> dict[str, np.ndarray]:
    """Images as float32 (N, C, H, W) from 0 to 1, labels as integers."""
    if folder_or_file.is_dir():
        loaded = load_idx_folder(folder_or_file)
        arrays = {name: getattr(loaded, name) for name in ARRAYS}
    else:
        with np.load(folder_or_file) as file:
            arrays = {name: file[name] for name in ARRAYS}
    for name in ("x_train", "x_test"):
        x = arrays[name]
        x = x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2) if x.shape[-1] == 3 else x
        arrays[name] = (x / 255).astype(np.float32) if x.dtype == np.uint8 else x
    return {name: x.astype(np.int64) if name[0] == "y" else x for name, x in arrays.items()}


def table(results: dict[str, dict[str, list[dict]]]) -> str:
    """Means and standard deviations over the seeds, as Markdown."""
    lines = [
        "| data | computed | loss of the last epoch | test accuracy | seconds per epoch |",
        "|---|---|---|---|---|",
    ]
    for name, ways in results.items():
        for way, runs in ways.items():
            loss = [run["loss"][-1] for run in runs]
            accuracy = [100 * run["accuracy"] for run in runs]
            seconds = min(run["seconds_per_epoch"] for run in runs)
            lines.append(
                f"| {name} | {way} | {np.mean(loss):.4f} ± {np.std(loss):.4f} "
                f"| {np.mean(accuracy):.2f} ± {np.std(accuracy):.2f} % | {seconds:.1f} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fashion", type=Path)
    parser.add_argument("--cifar", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--samples", type=int, help="of the training images, the first so many")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    results: dict[str, dict[str, list[dict]]] = {}
    for name, path, filters in (
        ("Fashion-MNIST", options.fashion, FASHION),
        ("CIFAR-10 part", options.cifar, CIFAR),
    ):
        if path is None:
            continue
        data = images(path)
        for key in ("x_train", "y_train"):
            data[key] = data[key][: options.samples]
        results[name] = {way: [] for way in WAYS}
        for seed in range(options.seeds):
            for way in WAYS:
                run = train(filters, data, seed, options.epochs, way)
                results[name][way].append(run)
                print(name, way, seed, f"{run['accuracy']:.4f}", flush=True)
        options.out.write_text(json.dumps(results, indent=1))
    print(table(results))


if __name__ == "__main__":
    main()
