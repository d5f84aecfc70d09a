"""Training that is killed goes on from its last checkpoint to the same bits; Ctrl-C leaves a model.

Real signals, at random moments, to processes of their own.
"""

import os
import signal
import subprocess
import sys
import time

import pytest

from fastconv import Sequential

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")

TRAINS = """
import hashlib, os, sys
import numpy as np
import fastconv as fc
from fastconv.augmentation import Compose, RandomFlip, RandomShift
from fastconv.callbacks import Checkpoint, CSVLog, EarlyStopping
from fastconv.schedules import ReduceOnPlateau

path, epochs = sys.argv[1], int(sys.argv[2])
rng = np.random.default_rng(0)
x = rng.standard_normal((256, 2, 12, 12)).astype(np.float32)
y = rng.integers(0, 3, 256)
model = fc.Sequential(
    [
        fc.Conv2D(8, 3, padding="same", bias=False), fc.BatchNorm(activation="relu"),
        fc.SpatialDropout(0.2), fc.MaxPool(2), fc.Flatten(), fc.Dropout(0.3), fc.Dense(3),
    ],
    seed=1,
)
optimizer = fc.AdamW(0.01, clip_norm=1.0)
resume = path + ".npz" if os.path.exists(path + ".npz") else None
print("begins", flush=True)
history = model.fit(
    x, y, epochs=epochs, batch_size=32, optimizer=optimizer, progress=False, resume=resume,
    validation_split=0.2, augmentation=Compose(RandomShift(1), RandomFlip()),
    callbacks=[
        Checkpoint(path + ".npz"), EarlyStopping("val_loss", patience=50),
        ReduceOnPlateau("val_loss", patience=1, factor=0.5), CSVLog(path + ".csv"),
    ],
)
digest = hashlib.sha256()
for name, value in sorted((model.weights() | optimizer.state()).items()):
    digest.update(name.encode() + value.tobytes())
kept = {name: values for name, values in vars(history).items() if name != "seconds"}
digest.update(repr((kept, optimizer.learning_rate, model.rng.bit_generator.state)).encode())
print(digest.hexdigest(), flush=True)
"""
EPOCHS = 12


def start(code, *arguments):
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "begins\n"
    return process


def test_killed_training_goes_on_to_the_same_bits(tmp_path, count, rng):
    began = time.perf_counter()
    whole = start(TRAINS, tmp_path / "whole", EPOCHS).communicate()[0]
    duration = time.perf_counter() - began
    total = 0
    for number in range(count(3, 30)):
        path = tmp_path / f"part {number}"
        kills = 0
        while True:
            process = start(TRAINS, path, EPOCHS)
            try:
                # The last of several attempts is left in peace.
                patience = rng.uniform(0, 0.6) * duration if kills < 4 else 100
                ended = process.communicate(timeout=patience)[0]
                break
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                kills += 1
        assert ended == whole, f"after {kills} kills"
        lines = path.with_suffix(".csv").read_text().splitlines()
        assert [line.split(",")[0] for line in lines] == ["epoch", *map(str, range(1, EPOCHS + 1))]
        total += kills
        if kills == 0:  # the machine has become faster
            duration /= 2
    assert total
    assert not [path for path in tmp_path.iterdir() if path.suffix not in (".npz", ".csv")]


INTERRUPTED = """
import sys
import numpy as np
import fastconv as fc
x = np.random.default_rng(0).standard_normal((400, 3, 16, 16))
y = np.arange(400) % 4
model = fc.Sequential(
    [fc.Conv2D(16, 3, padding=1), fc.BatchNorm(activation="relu"), fc.Dropout(0.1), fc.MaxPool(2),
     fc.Conv2D(16, 3, activation="relu"), fc.Flatten(), fc.Dense(4)], seed=0,
)
model.build((3, 16, 16))
print("begins", flush=True)
try:
    model.fit(x, y, epochs=10_000, progress=False, optimizer=fc.SGD(0.01, momentum=0.9),
              augmentation=fc.augmentation.RandomFlip())
except KeyboardInterrupt:
    outputs = model.predict(x[:50])
    assert np.isfinite(outputs).all()
    assert all(np.isfinite(value).all() for value in model.weights().values())
    model.save(sys.argv[1])
    model.fit(x, y, progress=False)
    assert len(model.history.loss) == 1
    print("goes on", flush=True)
"""


def test_ctrl_c_leaves_a_model_that_predicts_trains_and_is_saved(tmp_path, count, rng):
    for _ in range(count(3, 50)):
        process = start(INTERRUPTED, tmp_path / "model.npz")
        time.sleep(rng.uniform(0.02, 0.4))
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60)[0] == "goes on\n"
        assert process.returncode == 0
        Sequential.load(tmp_path / "model.npz")
