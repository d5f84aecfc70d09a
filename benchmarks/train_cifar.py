"""A ResNet-20 trained by fastconv and by PyTorch: accuracy, and time per epoch.

Both start from the same weights, see the same augmented batches in the same order, and take steps
of the same optimizer along the same schedule. They differ in the last bits of their sums, and so,
after some epochs, as much as two seeds do. Epochs are trained in turns, so that a machine that gets
slower gets slower for both; both have their batches prepared by a thread of fastconv's. PyTorch has
its images channels-last, its faster order, as fastconv has.

    python benchmarks/train_cifar.py --data FILE.npz --out RESULT.json

FILE.npz holds arrays x_train (N, 32, 32, 3) of bytes, y_train, x_test and y_test.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from compare import settle_memory
from peers import missing, set_num_threads, to_torch, torch

import fastconv
from fastconv.augmentation import Compose, Normalize, RandomCrop, RandomFlip, Transform
from fastconv.interop import to_torch as weights_for_torch
from fastconv.models import resnet20
from fastconv.nn.batches import ArraySource, Batch, ahead, gather, transformed
from fastconv.schedules import Cosine, Schedule, Warmup

BATCH = 128
PEAK, MOMENTUM, DECAY = 0.1, 0.9, 1e-4


class Augmented:
    """Batches of an epoch, the same whenever the same epoch is asked for."""

    def __init__(self, data: Batch, augment: Transform, seed: int) -> None:
        self.source = ArraySource(data, BATCH, shuffle=True, steps=None)
        self.augment, self.seed = augment, seed

    def epoch(self, number: int) -> Iterator[Batch]:
        rng = np.random.default_rng([self.seed, number])
        return transformed(self.source.epoch(rng), self.augment, int(rng.integers(2**63)))


class Ours:
    def __init__(self, model: fastconv.Sequential, schedule: Schedule) -> None:
        self.model = model
        self.optimizer = fastconv.SGD(
            schedule, momentum=MOMENTUM, nesterov=True, weight_decay=DECAY
        )

    def train(self, batches: Iterator[Batch]) -> float:
        """Train on the batches; return their mean loss."""
        history = self.model.fit(batches, optimizer=self.optimizer, progress=False)
        return history.loss[0]

    def scores(self, x: np.ndarray) -> np.ndarray:
        return self.model.forward(x)


class Theirs:
    def __init__(self, ours: fastconv.Sequential, schedule: Schedule) -> None:
        self.model = torch_resnet20()
        names = zip(
            (path for path, layer in ours.walk() if layer.params),
            dict.fromkeys(name.rpartition(".")[0] for name in self.model.state_dict()),
            strict=True,
        )
        weights = weights_for_torch(ours, names=dict(names))
        self.model.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
        self.model.to(memory_format=torch.channels_last)
        self.schedule, self.steps = schedule, 0
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), PEAK, MOMENTUM, nesterov=True, weight_decay=DECAY
        )

    def train(self, batches: Iterator[Batch]) -> float:
        self.model.train()
        total = samples = 0
        with torch.enable_grad(), closing(ahead(batches)) as prepared:  # type: ignore[type-var]
            for x, y, _ in prepared:
                self.optimizer.param_groups[0]["lr"] = self.schedule(self.steps)
                self.optimizer.zero_grad()
                scores = self.model(to_torch(x, "channels_last"))
                loss = torch.nn.functional.cross_entropy(scores, torch.from_numpy(y))
                loss.backward()
                self.optimizer.step()
                self.steps += 1
                total += loss.item() * len(y)
                samples += len(y)
        return total / samples

    def scores(self, x: np.ndarray) -> np.ndarray:
        return self.model.eval()(to_torch(x, "channels_last")).numpy()


def torch_resnet20() -> Any:
    """`fastconv.models.resnet20`, with modules in the same order."""
    nn = torch.nn

    def conv(before: int, filters: int, size: int, stride: int) -> list[Any]:
        layer = nn.Conv2d(before, filters, size, stride, size // 2, bias=False)
        return [layer, nn.BatchNorm2d(filters)]

    class Block(nn.Module):
        def __init__(self, before: int, filters: int, stride: int) -> None:
            super().__init__()
            self.body = nn.Sequential(
                *conv(before, filters, 3, stride), nn.ReLU(inplace=True),
                *conv(filters, filters, 3, 1),
            )  # fmt: skip
            self.shortcut = nn.Sequential(*(conv(before, filters, 1, stride) * (stride > 1)))

        def forward(self, x: Any) -> Any:
            return nn.functional.relu(self.body(x) + self.shortcut(x), inplace=True)

    blocks, before = [], 16
    for filters, stride in ((16, 1), (32, 2), (64, 2)):
        for step in (stride, 1, 1):
            blocks.append(Block(before, filters, step))
            before = filters
    first = [*conv(3, 16, 3, 1), nn.ReLU(inplace=True)]
    return nn.Sequential(
        *first, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)
    )


def accuracy(side: Ours | Theirs, data: Batch) -> float:
    hits = 0
    for x, y, _ in gather(data, np.arange(len(data.x)), 250):
        hits += int(np.count_nonzero(side.scores(x).argmax(axis=1) == y))
    return hits / len(data.x)


def table(rows: list[dict[str, Any]]) -> str:
    """The last epoch's loss and accuracy, and the time of an epoch, as Markdown."""
    lines = [
        f"| | loss of epoch {rows[-1]['epoch']} | test accuracy after it, % "
        "| epoch, seconds: fastest | median |",
        "|---|--:|--:|--:|--:|",
    ]
    for side in dict.fromkeys(row["side"] for row in rows):
        mine = [row for row in rows if row["side"] == side]
        seconds = [row["seconds"] for row in mine]
        lines.append(
            f"| {side} | {mine[-1]['loss']:.3f} | {100 * mine[-1]['accuracy']:.1f} "
            f"| {min(seconds):.1f} | {np.median(seconds):.1f} |"
        )
    return "\n".join(lines)


def read(path: Path, samples: int | None) -> tuple[Batch, Batch]:
    """Training and test data; images (N, C, H, W), channels-last in memory."""
    with np.load(path) as file:
        x_train, y_train, x_test, y_test = (
            file[name] for name in ("x_train", "y_train", "x_test", "y_test")
        )
    training, test = (
        Batch(x.transpose(0, 3, 1, 2)[:samples], y[:samples].astype(np.int64))
        for x, y in ((x_train, y_train), (x_test, y_test))
    )
    return training, test


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--samples", type=int, help="of the images, the first so many")
    parser.add_argument("--threads", type=int, default=fastconv.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    settle_memory()
    set_num_threads(options.threads)
    training, test = read(options.data, options.samples)
    normalize = Normalize.of(training.x)
    test = test._replace(x=normalize(test.x))
    augment = Compose(RandomCrop(padding=4), RandomFlip(), normalize)
    batches = Augmented(training, augment, options.seed)

    steps = options.epochs * batches.source.steps
    rise = max(1, steps // 10)
    schedule = Warmup(rise, Cosine(PEAK, max(1, steps - rise)))
    model = resnet20(seed=options.seed)
    sides: dict[str, Ours | Theirs] = {"fastconv": Ours(model, schedule)}
    if torch:
        sides["torch"] = Theirs(model, schedule)
    else:
        print(*missing(), sep="\n")
    first = {name: side.scores(test.x[:8]) for name, side in sides.items()}
    for scores in first.values():
        np.testing.assert_allclose(scores, first["fastconv"], rtol=1e-3, atol=1e-3)

    rows = []
    for epoch in range(options.epochs):
        for name in list(sides)[:: 1 if epoch % 2 else -1]:
            start = time.perf_counter()
            loss = sides[name].train(batches.epoch(epoch))
            seconds = time.perf_counter() - start
            row = {"epoch": epoch + 1, "side": name, "loss": loss, "seconds": seconds}
            rows.append(row | {"accuracy": accuracy(sides[name], test)})
            print("  ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                            for key, value in rows[-1].items()), flush=True)  # fmt: skip
            settings = {"threads": options.threads, "seed": options.seed, "batch": BATCH}
            options.out.write_text(json.dumps({"settings": settings, "epochs": rows}, indent=1))
    print(table(rows))


if __name__ == "__main__":
    main()
