"""The examples in docstrings and on the pages of docs/ run and are true."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

MODULES = [
    f"fastconv.{name}"
    for name in [
        "losses", "optim", "metrics", "augmentation", "callbacks", "schedules",
        "nn.layer", "nn.initializers", "nn.conv", "nn.pooling", "nn.averaging",
        "nn.separable", "nn.transposed", "nn.resizing", "nn.dense",
        "nn.activation", "nn.normalization", "nn.dropout", "nn.containers", "nn.sequential",
        "nn.fit", "nn.batches", "nn.checkpoint", "nn.files",
    ]
]
DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where examples write their files."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    failed, _ = doctest.testmod(import_module(name))
    assert not failed


PAGES = ["layers.md", "training.md", "own-layer.md", "interop.md", "filters.md", "plots.md"]


@pytest.mark.parametrize("page", PAGES)
def test_pages(page):
    if page == "plots.md":
        pytest.importorskip("matplotlib")
    failed, attempted = doctest.testfile(str(DOCS / page), module_relative=False)
    assert attempted >= 8
    assert not failed
