"""Examples in docstrings and on the pages of docs/ run and are true; the reference is complete."""

import doctest
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import fastconv

MODULES = [
    f"fastconv.{name}"
    for name in [
        "losses", "optim", "metrics", "augmentation", "callbacks", "schedules",
        "nn.layer", "nn.initializers", "nn.conv", "nn.pooling", "nn.averaging",
        "nn.separable", "nn.transposed", "nn.resizing", "nn.dense",
        "nn.activation", "nn.normalization", "nn.dropout", "nn.containers", "nn.sequential",
        "nn.fit", "nn.batches", "nn.checkpoint", "nn.files", "sklearn",
    ]
]
ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where examples write their files."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    failed, _ = doctest.testmod(import_module(name))
    assert not failed


PAGES = [page for page in sorted(DOCS.rglob("*.md")) if "```python" in page.read_text()]
NEEDS = {
    "scikit-learn": ["sklearn"],
    "from-pytorch": ["torch"],
    "from-keras": ["torch", "keras"],
    "start": ["sklearn", "matplotlib"],
    "plots": ["matplotlib"],
    "train-on-images": ["PIL", "matplotlib"],
}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras'
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages(page):
    """Every block of Python on a page is an example that runs."""
    for library in NEEDS.get(page.stem, ()):
        pytest.importorskip(library)
    blocks = page.read_text().split("```python\n")[1:]
    assert all(block.startswith(">>>") for block in blocks)
    failed, attempted = doctest.testfile(str(page), module_relative=False)
    assert attempted
    assert not failed


LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")  # without a scheme: to a file


@pytest.mark.parametrize("page", ["README.md", "SECURITY.md", "CHANGELOG.md", "docs/index.md"])
def test_links_of_pages_that_a_code_host_shows(page):
    """Sphinx follows those between the pages of the site."""
    links = LINK.findall((ROOT / page).read_text())
    assert links or page != "README.md"
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []


ENTRY = re.compile(
    r"^\.\. (automodule|currentmodule|autofunction|autoclass):: (\S+)", re.MULTILINE
)
# Public in their modules for other modules, not for users.
INTERNAL = {"get_loss", "get_metric", "get_optimizer", "Compiled", "Monitor", "History"}


def described():
    """The full name of everything that has an entry in the reference."""
    names = set()
    for page in (DOCS / "reference").glob("*.rst"):
        for kind, name in ENTRY.findall(page.read_text()):
            if kind.endswith("module"):
                module = name
            else:
                names.add(name if name.startswith("fastconv.") else f"{module}.{name}")
    return names


@pytest.mark.parametrize(
    "name",
    [
        "fastconv",
        *(
            f"fastconv.{name}"
            for name in [
                "nn", "data", "filters", "interop", "models", "plot", "training", "inference",
                "optim", "losses", "metrics", "schedules", "callbacks", "augmentation",
                "sklearn",
            ]
        ),
    ],
)
def test_reference_is_complete(name):
    module = import_module(name)
    public = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__ and name[0] != "_"
        and callable(value) and name not in INTERNAL
    ]
    missing = {
        f"{module.__name__}.{name}"
        for name in public
        if not isinstance(getattr(module, name), ModuleType)
        and (module is fastconv or name not in fastconv.__all__)
    }
    assert not missing - described()
