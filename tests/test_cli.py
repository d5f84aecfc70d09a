"""The command line, run in this process."""

import sys

import numpy as np
import pytest
from test_data import write_folder

from fastconv import Dense, Flatten, Sequential, runtime
from fastconv.cli import main


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    threads = runtime.get_num_threads()
    yield
    runtime.set_num_threads(threads)


def test_train_predict_and_evaluate_digits(capsys, tmp_path):
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    assert main(["train", "--epochs", "1", "--threads", "1", "--seed", "3"]) == 0
    text = capsys.readouterr().out
    for words in (
        "digits: 1,437 training and 360 test images of 1 x 8 x 8",
        f"instruction set {runtime.isa()}, threads 1",
        "Conv2D(32, 3, padding='same', activation='relu')",
        "epoch 1/1  loss ",
        "val_accuracy ",
        "ms/step",
        "test accuracy ",
        "model saved as fastconv-model.npz",
        "drawn in fastconv-kernels.png",
    ):
        assert words in text
    assert (tmp_path / "fastconv-kernels.png").read_bytes().startswith(b"\x89PNG")
    accuracy = text.partition("test accuracy ")[2].split()[0]

    assert main(["evaluate", "fastconv-model.npz"]) == 0
    text = capsys.readouterr().out
    assert f"test accuracy {accuracy}" in text
    assert text.count("  class ") == 10

    assert main(["predict", "fastconv-model.npz", "--index", "5", "359"]) == 0
    text = capsys.readouterr().out
    assert "image 5: class " in text
    assert "image 359: class " in text
    probabilities = [float(p.rstrip("%")) for p in text.splitlines()[3].split()[1::2]]
    assert sum(probabilities) == pytest.approx(100, abs=1)


def test_train_on_a_folder_with_every_option(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "data").mkdir()
    write_folder(tmp_path / "data")
    options = (
        "train --data data --epochs 2 --batch-size 8 --learning-rate 0.05 --optimizer sgd "
        "--kernel-size 5 --threads 1 --seed 1 --save model --picture picture --no-progress"
    )
    assert main(options.split()) == 0
    text = capsys.readouterr().out
    assert "data: 40 training and 10 test images of 1 x 9 x 8" in text
    assert "Conv2D(32, 5" in text
    assert "epoch" not in text
    assert {path.name for path in tmp_path.iterdir()} == {"data", "model", "picture"}
    metadata = Sequential.load("model").metadata
    assert metadata.keys() == {"mean", "std"}

    first = Sequential.load("model").parameters()
    assert main(options.split()) == 0
    for ours, theirs in zip(Sequential.load("model").parameters(), first, strict=True):
        np.testing.assert_array_equal(ours.value, theirs.value)


def test_a_model_made_by_hand_is_evaluated_on_plain_images(capsys, tmp_path):
    write_folder(tmp_path)
    Sequential([Flatten(), Dense(4)], input_shape=(1, 9, 8)).save("model")
    assert main(["evaluate", "model", "--data", "."]) == 0
    assert "test accuracy " in capsys.readouterr().out


def test_info_says_what_the_engine_uses(capsys):
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    assert runtime.isa() in text
    assert all(name in text for name in runtime.info())


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("evaluate none.npz", "No such file or directory: 'none.npz'"),
        ("evaluate text", "text: not a saved model"),
        ("train --data nowhere", "No such file or directory: 'nowhere'"),
        ("train --data .", "expected one file like train-images"),
        ("train --learning-rate -1", "learning_rate: expected a number above 0, got -1.0"),
        ("train --epochs 0", "epochs: expected a positive integer, got 0"),
        ("train --batch-size 0", "batch_size: expected a positive integer, got 0"),
        ("train --save nowhere/model", "nowhere/model: there is no such folder"),
    ],
)
def test_mistakes_are_one_line(capsys, tmp_path, arguments, message):
    (tmp_path / "text").write_text("not a model")
    assert main(arguments.split()) == 1
    error = capsys.readouterr().err
    assert error.startswith("fastconv: ")
    assert message in error
    assert error.count("\n") == 1


def test_a_missing_extra_says_how_to_install_it(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert main(["train"]) == 1
    assert 'try: pip install "fastconv[demo]"' in capsys.readouterr().err


def test_an_index_outside_the_test_images_is_named(capsys, tmp_path):
    write_folder(tmp_path)
    Sequential([Flatten(), Dense(4)], input_shape=(1, 9, 8)).save("model")
    assert main(["predict", "model", "--data", ".", "--index", "10"]) == 1
    assert "--index: expected numbers from 0 to 9, got 10" in capsys.readouterr().err


def test_ctrl_c_ends_quietly(capsys, monkeypatch, tmp_path):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    write_folder(tmp_path)
    monkeypatch.setattr(Sequential, "fit", interrupted)
    assert main(["train", "--data", "."]) == 130
    assert capsys.readouterr().err == "interrupted\n"
