"""What the package promises about itself: names, signatures, documentation, examples that run."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import fastconv
from fastconv import functional, reference

# The public operations. Programs rely on these names, this order, these defaults.
SIGNATURES = {
    "add": "x, y, *, activation=None, out=None",
    "conv2d": "x, kernel, bias=None, *, stride=1, padding=0, dilation=1, groups=1, "
    "activation=None, out=None, algorithm='auto'",
    "conv2d_backward_input": "dy, kernel, input_shape, *, stride=1, padding=0, dilation=1, "
    "groups=1, out=None, algorithm='auto'",
    "conv2d_backward_kernel": "dy, x, kernel_shape, *, stride=1, padding=0, dilation=1, "
    "groups=1, out=None, algorithm='auto'",
    "conv2d_backward_bias": "dy",
    "conv_transpose2d": "x, kernel, bias=None, *, stride=1, padding=0, output_padding=0, "
    "dilation=1, groups=1, activation=None, out=None",
    "conv_transpose2d_backward_input": "dy, kernel, input_shape, *, stride=1, padding=0, "
    "output_padding=0, dilation=1, groups=1, out=None",
    "conv_transpose2d_backward_kernel": "dy, x, kernel_shape, *, stride=1, padding=0, "
    "output_padding=0, dilation=1, groups=1, out=None",
    "max_pool2d": "x, size, *, stride=None, padding=0, dilation=1, ceil_mode=False, "
    "return_indices=False",
    "max_pool2d_backward": "dy, indices, input_shape",
    "avg_pool2d": "x, size, *, stride=None, padding=0, ceil_mode=False, count_include_pad=True",
    "avg_pool2d_backward": "dy, input_shape, size, *, stride=None, padding=0, ceil_mode=False, "
    "count_include_pad=True",
    "adaptive_avg_pool2d": "x, output_size",
    "adaptive_avg_pool2d_backward": "dy, input_shape",
    "global_avg_pool2d": "x",
    "global_avg_pool2d_backward": "dy, input_shape, *, channels_last=False",
    "global_max_pool2d": "x, *, return_indices=False",
    "global_max_pool2d_backward": "dy, indices, input_shape, *, channels_last=False",
    "pad2d": "x, padding, mode='constant', value=0",
    "pad2d_backward": "dy, padding, mode='constant'",
    "upsample2d": "x, scale, mode='nearest', align_corners=False",
    "upsample2d_backward": "dy, scale, mode='nearest', align_corners=False",
    "dense": "x, kernel, bias=None, *, activation=None, out=None",
    "dense_backward": "dy, x, kernel, *, need_dx=True",
    "relu": "x, *, out=None",
    "relu_backward": "dy, y, *, out=None",
    "leaky_relu": "x, slope=0.01, *, out=None",
    "leaky_relu_backward": "dy, y, slope=0.01, *, out=None",
    "sigmoid": "x, *, out=None",
    "sigmoid_backward": "dy, y, *, out=None",
    "tanh": "x, *, out=None",
    "tanh_backward": "dy, y, *, out=None",
    "silu": "x, *, out=None",
    "silu_backward": "dy, x, *, out=None",
    "gelu": "x, *, approximate='none', out=None",
    "gelu_backward": "dy, x, *, approximate='none', out=None",
    "softmax": "x",
    "softmax_backward": "dy, y",
    "log_softmax_backward": "dy, y",
    "log_softmax": "x",
    "output_shape": "input_shape, kernel_shape, *, stride=1, padding=0, dilation=1, "
    "ceil_mode=False",
    "batch_norm": "x, gamma, beta, mean, variance, *, epsilon=1e-05, activation=None",
    "batch_norm_train": "x, gamma, beta, *, epsilon=1e-05, activation=None",
    "batch_norm_backward": "dy, x, gamma, beta, mean, variance, *, epsilon=1e-05, "
    "activation=None, need_dx=True",
    "group_norm": "x, groups, gamma, beta, *, epsilon=1e-05, activation=None, "
    "return_moments=False",
    "group_norm_backward": "dy, x, groups, gamma, beta, mean, variance, *, epsilon=1e-05, "
    "activation=None, need_dx=True",
    "layer_norm": "x, gamma, beta, *, epsilon=1e-05, activation=None, return_moments=False",
    "layer_norm_backward": "dy, x, gamma, beta, mean, variance, *, epsilon=1e-05, "
    "activation=None, need_dx=True",
    "softmax_cross_entropy": "logits, labels, *, label_smoothing=0.0, class_weights=None, "
    "ignore_label=None, sample_weights=None",
    "binary_cross_entropy": "logits, targets, *, pos_weight=None, sample_weights=None",
    "mean_squared_error": "outputs, targets, *, sample_weights=None",
    "huber": "outputs, targets, *, delta=1.0, sample_weights=None",
    "as_channels_last": "x",
    "as_contiguous": "x",
    "empty": "shape, dtype='float32', channels_last=False",
}
MODULES = [
    name
    for _, name, _ in pkgutil.walk_packages(fastconv.__path__, "fastconv.")
    if not name.endswith("__main__")
]


def bare_signature(function) -> str:
    """The signature without annotations and brackets."""
    signature = inspect.signature(function)
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=signature.empty))[1:-1]


def test_the_list_of_operations():
    assert set(functional.__all__) == set(reference.__all__) == set(SIGNATURES)


@pytest.mark.parametrize("name", SIGNATURES)
@pytest.mark.parametrize("module", [functional, reference], ids=["functional", "reference"])
def test_signature(module, name):
    function = getattr(module, name)
    assert bare_signature(function) == SIGNATURES[name]
    annotated = inspect.signature(function)
    assert annotated.return_annotation is not annotated.empty
    for parameter in annotated.parameters.values():
        assert parameter.annotation is not parameter.empty, f"{name}: {parameter} has no type"


@pytest.mark.parametrize("name", SIGNATURES)
def test_operations_are_at_the_top(name):
    assert getattr(fastconv, name) is getattr(functional, name)


@pytest.mark.parametrize("name", SIGNATURES)
def test_docstring(name):
    text = inspect.getdoc(getattr(functional, name)) or ""
    summary = text.split("\n\n")[0]
    assert summary.endswith("."), f"{name}: no summary"
    for section in ("Parameters", "Returns", "Examples"):
        assert f"\n{section}\n{'-' * len(section)}\n" in text, f"{name}: no section {section}"
    parameters = text.split("Parameters\n----------\n")[1].split("\nReturns\n")[0]
    for parameter in inspect.signature(getattr(functional, name)).parameters:
        named = [line.split(" : ")[0].split(", ") for line in parameters.splitlines()]
        assert any(parameter in names for names in named), f"{name}: {parameter} not described"
    assert ">>>" in inspect.getdoc(getattr(reference, name)), f"reference.{name}: no example"


def test_public_names_exist():
    for name in fastconv.__all__:
        assert hasattr(fastconv, name), name
    assert set(SIGNATURES) <= set(fastconv.__all__)


@pytest.mark.parametrize("name", MODULES)
def test_module_says_what_it_is(name):
    module = importlib.import_module(name)
    if not (module.__spec__.submodule_search_locations and name.endswith("_core")):
        assert module.__doc__ and module.__doc__.strip(), f"{name} has no docstring"


@pytest.mark.parametrize("name", ["fastconv", *MODULES])
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


def test_every_operation_has_an_example():
    finder = doctest.DocTestFinder(recurse=False)
    for name in SIGNATURES:
        assert any(test.examples for test in finder.find(getattr(functional, name), name)), name
