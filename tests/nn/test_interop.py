"""Weights to and from PyTorch and Keras: the same outputs there and here, or a reason why not."""

import copy
from collections import OrderedDict

import numpy as np
import pytest
from test_folding import lively

from fastconv import (
    BatchNorm,
    Concat,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    MaxPool,
    ReLU,
    Residual,
    SeparableConv2D,
    Sequential,
    models,
)
from fastconv.interop import (
    from_keras,
    from_torch,
    read_weights,
    to_keras,
    to_torch,
    write_weights,
)


def images(*shape):
    return np.random.default_rng(1).standard_normal(shape)


# ---- PyTorch ----------------------------------------------------------------------------------


def torch_resnet20(torch):
    """ResNet-20 as a PyTorch user writes it."""
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self, before, filters, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(before, filters, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(filters)
            self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(filters)
            self.shortcut = nn.Sequential()
            if stride > 1:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(before, filters, 1, stride, bias=False), nn.BatchNorm2d(filters)
                )

        def forward(self, x):
            y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
            return torch.relu(y + self.shortcut(x))

    blocks, before = [], 16
    for filters, stride in ((16, 1), (32, 2), (64, 2)):
        for step in (stride, 1, 1):
            blocks.append(Block(before, filters, step))
            before = filters
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 16, 3, 1, 1, bias=False),
            bn1=nn.BatchNorm2d(16),
            relu=nn.ReLU(),
            layers=nn.Sequential(*blocks),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(64, 10),
        )
    )


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-4), ("float64", 1e-10)])
def test_a_resnet20_trained_by_pytorch_gives_the_same_outputs(dtype, tolerance, tmp_path):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs = torch_resnet20(torch).to(getattr(torch, dtype))
    x, y = images(16, 3, 32, 32).astype(dtype), np.arange(16) % 10
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.05, momentum=0.9)
    for _ in range(5):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(theirs(torch.from_numpy(x)), torch.from_numpy(y))
        loss.backward()
        optimizer.step()
    theirs.eval()
    with torch.no_grad():
        expected = theirs(torch.from_numpy(x)).numpy()

    ours = models.resnet20(dtype=dtype)
    from_torch(theirs.state_dict(), ours)
    np.testing.assert_allclose(ours.predict(x), expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(ours.folded().predict(x), expected, rtol=tolerance, atol=tolerance)

    # By way of a file, and with parameters that take part in automatic differentiation.
    write_weights(tmp_path / "w.npz", {k: v.numpy() for k, v in theirs.state_dict().items()})
    again = models.resnet20(dtype=dtype)
    from_torch(read_weights(tmp_path / "w.npz"), again)
    np.testing.assert_array_equal(again.predict(x), ours.predict(x))
    from_torch(theirs.state_dict(keep_vars=True), again)

    # And back, into a module of other weights.
    names = dict(zip(layers_with_weights(ours), modules_of(theirs.state_dict()), strict=True))
    fresh = torch_resnet20(torch).to(getattr(torch, dtype)).eval()
    arrays = to_torch(ours, names=names)
    fresh.load_state_dict({name: torch.from_numpy(value) for name, value in arrays.items()})
    with torch.no_grad():
        np.testing.assert_array_equal(fresh(torch.from_numpy(x)).numpy(), expected)


def layers_with_weights(model):
    return [path for path, layer in model.walk() if layer.params]


def modules_of(state_dict):
    return dict.fromkeys(name.rpartition(".")[0] for name in state_dict)


def test_a_chain_has_the_names_of_a_torch_sequential():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    ours = lively(
        Sequential(
            [Conv2D(4, 3, groups=2), BatchNorm(), ReLU(), DepthwiseConv2D(3), Flatten(), Dense(3)],
            input_shape=(2, 7, 7),
            dtype="float64",
        )
    )
    theirs = nn.Sequential(
        nn.Conv2d(2, 4, 3, groups=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=4),
        nn.Flatten(), nn.Linear(36, 3),
    ).double()  # fmt: skip
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in to_torch(ours).items()})
    x = images(3, 2, 7, 7)
    with torch.no_grad():
        expected = theirs.eval()(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(ours.predict(x), expected, rtol=1e-12, atol=1e-12)


def test_names_settle_another_order():
    model = Sequential([Conv2D(4, 1), Conv2D(4, 1), Dense(2)][:2], input_shape=(4, 2, 2))
    first, second = np.ones((4, 4, 1, 1)), np.full((4, 4, 1, 1), 2.0)
    state = {"late.weight": second, "late.bias": np.ones(4),
             "early.weight": first, "early.bias": np.zeros(4)}  # fmt: skip
    from_torch(state, model)
    assert model.layers[0].params["kernel"][0, 0, 0, 0] == 2
    for names in ({"0": "early"}, {"1": "late"}, {"0": "early", "1": "late"}):
        from_torch(state, model, names=names)
        assert model.layers[0].params["kernel"][0, 0, 0, 0] == 1
        back = to_torch(model, names={"0": "early", "1": "late"})
        assert back.keys() == state.keys()
        for name, value in state.items():
            np.testing.assert_array_equal(back[name], value)


# ---- Keras: images (N, H, W, C), computed here in plain NumPy ---------------------------------


def keras_conv(x, kernel, bias, groups=1):
    """Valid convolution of (N, H, W, IC) with (KH, KW, IC // groups, OC)."""
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(1, 2))
    parts = [
        np.einsum("nhwcij,ijco->nhwo", part, taps)
        for part, taps in zip(
            np.split(windows, groups, axis=3), np.split(kernel, groups, axis=3), strict=True
        )
    ]
    return np.concatenate(parts, axis=3) + bias


def keras_depthwise(x, kernel):
    """Valid, (N, H, W, C) with (KH, KW, C, multiplier)."""
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(1, 2))
    y = np.einsum("nhwcij,ijcm->nhwcm", windows, kernel)
    return y.reshape(*y.shape[:3], -1)


def keras_norm(x, w, layer):
    scale = w[f"{layer}/gamma"] / np.sqrt(w[f"{layer}/moving_variance"] + 1e-3)
    return (x - w[f"{layer}/moving_mean"]) * scale + w[f"{layer}/beta"]


def keras_model(w, x):
    """What a Keras model of the weights `w` computes; x is (N, H, W, C)."""
    x = np.maximum(keras_conv(x, w["conv2d/kernel"], w["conv2d/bias"], groups=2), 0)
    x = keras_norm(x, w, "batch_normalization")
    x = keras_depthwise(x, w["depthwise_conv2d/kernel"]) + w["depthwise_conv2d/bias"]
    x = keras_depthwise(x, w["separable_conv2d/depthwise_kernel"])
    x = keras_conv(x, w["separable_conv2d/pointwise_kernel"], w["separable_conv2d/bias"])
    x = x.reshape(len(x), -1)
    x = keras_norm(x, w, "batch_normalization_1")
    x = np.maximum(x @ w["dense/kernel"] + w["dense/bias"], 0)
    return x @ w["dense_1/kernel"] + w["dense_1/bias"]


def keras_weights():
    shapes = {
        "conv2d/kernel": (3, 2, 2, 6), "conv2d/bias": (6,),
        "batch_normalization/gamma": (6,), "batch_normalization/beta": (6,),
        "batch_normalization/moving_mean": (6,), "batch_normalization/moving_variance": (6,),
        "depthwise_conv2d/kernel": (2, 3, 6, 2), "depthwise_conv2d/bias": (12,),
        "separable_conv2d/depthwise_kernel": (2, 2, 12, 1),
        "separable_conv2d/pointwise_kernel": (1, 1, 12, 5), "separable_conv2d/bias": (5,),
        "batch_normalization_1/gamma": (45,), "batch_normalization_1/beta": (45,),
        "batch_normalization_1/moving_mean": (45,), "batch_normalization_1/moving_variance": (45,),
        "dense/kernel": (45, 45), "dense/bias": (45,),
        "dense_1/kernel": (45, 3), "dense_1/bias": (3,),
    }  # fmt: skip
    rng = np.random.default_rng(2)
    return {
        name: rng.uniform(0.5, 2, shape) if name.endswith("variance") else rng.normal(size=shape)
        for name, shape in shapes.items()
    }


def keras_twin():
    """Our model of the same layers; as many units as features, so that nothing is told by shape."""
    return Sequential(
        [
            Conv2D(6, (3, 2), groups=2, activation="relu"),
            BatchNorm(epsilon=1e-3),
            DepthwiseConv2D((2, 3), depth_multiplier=2),
            SeparableConv2D(5, 2),
            Dropout(0.5),
            Sequential([Flatten(), BatchNorm(epsilon=1e-3)]),
            Dense(45, activation="relu"),
            Dense(3),
        ],
        input_shape=(4, 7, 7),
        dtype="float64",
    )


def test_keras_weights_give_kerass_outputs(tmp_path):
    weights, model = keras_weights(), keras_twin()
    x = images(3, 7, 7, 4)
    write_weights(tmp_path / "keras.npz", weights)
    from_keras(read_weights(tmp_path / "keras.npz"), model)
    np.testing.assert_allclose(
        model.predict(x.transpose(0, 3, 1, 2)), keras_model(weights, x), rtol=1e-10, atol=1e-10
    )
    names = dict(
        zip(layers_with_weights(model),
            dict.fromkeys(name.partition("/")[0] for name in weights), strict=True)
    )  # fmt: skip
    back = to_keras(model, names=names)
    assert list(back) == list(weights)
    for name, value in weights.items():
        np.testing.assert_array_equal(back[name], value)
        assert back[name].flags.c_contiguous


def test_flattened_images_that_branches_hand_on_are_refused():
    for layers in (
        [Concat(Flatten(), Flatten()), Dense(3)],
        [Flatten(), Residual(ReLU()), Dense(3)],
        [Flatten(), Concat(Dense(2), ReLU()), Dense(3)],
    ):
        model = Sequential(layers, input_shape=(2, 3, 3))
        with pytest.raises(ValueError, match="a mixture of orders cannot be translated"):
            to_keras(model)
    branches = [Sequential([MaxPool(3), Flatten(), Dense(2)]), Sequential([Flatten(), Dense(2)])]
    model = lively(Sequential([Concat(*branches), Dense(3)], input_shape=(2, 3, 3)))
    arrays = to_keras(model)
    kernel = model.layers[0].branches[1].layers[1].params["kernel"]
    expected = kernel.reshape(2, 2, 3, 3).transpose(2, 3, 1, 0).reshape(18, 2)
    np.testing.assert_array_equal(arrays["0.1.1/kernel"], expected)
    other = copy.deepcopy(model)
    other.layers[0].branches[1].layers[1].params["kernel"][:] = 0
    from_keras(arrays, other)
    np.testing.assert_array_equal(other.weights()["0.1.1.kernel"], kernel)


# ---- files and mistakes -----------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_files_bring_back_what_was_written(suffix, tmp_path):
    model = lively(Sequential([Conv2D(3, 2), BatchNorm()], input_shape=(2, 4, 4)))
    weights = model.weights() | {"turned": np.arange(6.0).reshape(2, 3).T, "0d": np.array(3)}
    path = tmp_path / f"weights.{suffix}"
    write_weights(path, weights)
    read = read_weights(path)
    assert read.keys() == weights.keys()
    for name, value in weights.items():
        np.testing.assert_array_equal(read[name], value)
        assert read[name].dtype == value.dtype


def test_pickles_are_not_read(tmp_path):
    np.savez(tmp_path / "weights.npz", a=np.array([None]))
    with pytest.raises(ValueError, match="a: not a plain array"):
        read_weights(tmp_path / "weights.npz")
    with pytest.raises(ValueError, match=r"path: expected one that ends in .safetensors or .npz"):
        read_weights(tmp_path / "weights.pt")


def without(weights, name):
    return {key: value for key, value in weights.items() if key != name}


STATE = {"conv.weight": np.ones((3, 2, 2, 2)), "conv.bias": np.ones(3), "bn.weight": np.ones(3),
         "bn.bias": np.ones(3), "bn.running_mean": np.ones(3), "bn.running_var": np.ones(3),
         "bn.num_batches_tracked": np.array(7)}  # fmt: skip


def test_a_lost_order_is_noticed():
    model = Sequential([Conv2D(2, 1), BatchNorm(), Conv2D(2, 1)], input_shape=(2, 4, 4))
    names = {"0": "late", "1": "bn", "2": "early"}
    for give, take in ((to_torch, from_torch), (to_keras, from_keras)):
        arrays = give(lively(model), names=names)
        twin = Sequential([Conv2D(2, 1), BatchNorm(), Conv2D(2, 1)], input_shape=(2, 4, 4))
        in_order = dict(sorted(arrays.items()))
        for some in ({}, {"0": "late"}):
            with pytest.raises(ValueError, match=r"names: expected one for each of \[.*'1', '2'\]"):
                take(in_order, twin, names=some)
        take(in_order, twin, names={"0": "late", "1": "bn"})
        for name, value in model.weights().items():
            np.testing.assert_array_equal(twin.weights()[name], value)


def test_a_normalisation_may_have_no_scale_and_no_shift():
    model = lively(Sequential([BatchNorm()], input_shape=(2, 4, 4)))
    from_keras({"bn/beta": [5, 6], "bn/moving_mean": [1, 2], "bn/moving_variance": [3, 4]}, model)
    assert [v.tolist() for v in model.weights().values()] == [[1, 1], [5, 6], [1, 2], [3, 4]]
    from_torch({"bn.running_mean": [7, 8], "bn.running_var": [9, 1]}, model)
    assert [v.tolist() for v in model.weights().values()] == [[1, 1], [0, 0], [7, 8], [9, 1]]


@pytest.mark.parametrize(
    "state, names, message",
    [
        (without(STATE, "conv.bias"), {}, r"0.bias: PyTorch's 'conv' has no 'bias', only"),
        (STATE | {"conv.scale": np.ones(1)}, {}, r"0, Conv2D\(3, 2\): has no place for \['sca"),
        (STATE | {"conv.weight": np.ones((2, 2, 2, 3))}, {}, r"expected shape \(3, 2, 2, 2\), got"),
        (STATE | {"fc.bias": np.ones(1)}, {}, r"expected as many layers .* 2, each .* got 3"),
        ({}, {}, r"expected as many layers .*, 2, each once: .*; got 0"),
        (STATE, {"0": "bn"}, r"0.kernel: PyTorch's 'bn': 'weight': expected shape"),
        (STATE, {"0": "bn", "1": "bn"}, r"expected as many layers"),
        (STATE, {"2": "bn"}, r"names: '2' is no layer with weights; these are: \['0', '1'\]"),
        (STATE, {"0": "fc"}, r"names: PyTorch has no layer 'fc'; it has: \['conv', 'bn'\]"),
    ],
)
def test_mistakes_are_named_and_change_nothing(state, names, message):
    model = Sequential([Conv2D(3, 2), BatchNorm()], input_shape=(2, 4, 4))
    before = model.weights()
    with pytest.raises(ValueError, match=message):
        from_torch(state, model, names=names)
    for name, value in model.weights().items():
        np.testing.assert_array_equal(value, before[name])
    from_torch(STATE, model)


def test_names_on_the_way_out_are_checked():
    model = Sequential([Conv2D(3, 2), Conv2D(3, 2)], input_shape=(2, 4, 4))
    with pytest.raises(ValueError, match=r"names: no layers with weights: \['7'\]"):
        to_torch(model, names={"7": "conv"})
    with pytest.raises(ValueError, match="names: two layers would be called"):
        to_torch(model, names={"0": "conv", "1": "conv"})
    with pytest.raises(ValueError, match="model: it has no weights yet"):
        to_torch(Sequential([Dense(2)]))
