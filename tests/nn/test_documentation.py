"""The examples in docstrings and in docs/layers.md run and are true."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

MODULES = [
    f"fastconv.{name}"
    for name in [
        "losses", "optim", "nn.layer", "nn.initializers", "nn.conv", "nn.pooling", "nn.dense",
        "nn.activation", "nn.dropout", "nn.sequential", "nn.fit", "nn.files",
    ]
]
PAGE = Path(__file__).parents[2] / "docs" / "layers.md"


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    failed, _ = doctest.testmod(import_module(name))
    assert not failed


def test_the_page_on_layers():
    failed, attempted = doctest.testfile(str(PAGE), module_relative=False)
    assert attempted > 10
    assert not failed
