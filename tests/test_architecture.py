"""The floors of the house: who may import whom, and what may live where.

A module imports only what lies below it, so that each floor can be read without those above it.
The list below is the whole order; a new module finds its place in it or this test fails.
"""

import ast
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest
from processes import printed_by

import fastconv

PACKAGE = Path(fastconv.__file__).parent
PROJECT = Path(__file__).parents[1]

# From the ground up. Modules of one line do not import each other, except within a package.
FLOORS = (
    (
        "fastconv.reference",
        "fastconv.arguments",
        "fastconv.atomic",
        "fastconv.axis_tables",
        "fastconv.text",
    ),
    (
        "fastconv._core.isa",
        "fastconv._core.memory",
        "fastconv._core.caches",
        "fastconv._core.algorithm",
    ),
    ("fastconv._core.threads", "fastconv._core.ahead"),
    ("fastconv._core.geometry", "fastconv._core.pack"),
    ("fastconv._core.plan", "fastconv._core.axis_map"),
    (
        "fastconv._core.task",
        "fastconv._core.tiling",
        "fastconv._core.partials",
        "fastconv._core.norm",
    ),
    (
        "fastconv._core.arguments",
        "fastconv._core.correlate",
        "fastconv._core.depthwise",
        "fastconv._core.planes",
        "fastconv._core.kernel_plan",
        "fastconv._core.winograd",
        "fastconv._core.row_norm",
        "fastconv._core.matrix",
    ),
    ("fastconv._core.nests", "fastconv._core.kernel_gradient", "fastconv._core.winograd_gradient"),
    (
        "fastconv._core.run",
        "fastconv._core.describe",
        "fastconv._core.elementwise",
        "fastconv._core.resample",
    ),
    (
        "fastconv._core.conv",
        "fastconv._core.transposed",
        "fastconv._core.resize",
        "fastconv._core.shapes",
        "fastconv._core.normalization",
        "fastconv._core.pooling",
        "fastconv._core.rows",
        "fastconv._core.softmax",
        "fastconv._core.update",
        "fastconv._core.probe",
    ),
    (
        "fastconv._core.unpooling",
        "fastconv._core.average",
        "fastconv._core.dense",
        "fastconv._core.loss",
    ),
    ("fastconv.functional", "fastconv.runtime", "fastconv.explanation"),
    ("fastconv.training", "fastconv.inference", "fastconv.archive"),
    (
        "fastconv.losses",
        "fastconv.optim",
        "fastconv.metrics",
        "fastconv.augmentation",
        "fastconv.data",
        "fastconv.filters",
        "fastconv.safetensors",
    ),
    ("fastconv.callbacks",),
    ("fastconv.schedules",),
    ("fastconv.nn",),
    ("fastconv.receptive", "fastconv.models", "fastconv.interop", "fastconv.sklearn"),
    ("fastconv.plot",),
    ("fastconv.cli",),
    ("fastconv", "fastconv.__main__"),
)


def is_generated(path: Path) -> bool:
    return path.suffix == ".c" and path.with_suffix(".pyx").exists()


def sources(*suffixes: str) -> list[Path]:
    return sorted(
        path for path in PACKAGE.rglob("*") if path.suffix in suffixes and not is_generated(path)
    )


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path) for path in sources(".py", ".pyx")}

# Who may import the compiled core.
DOORS = (
    "fastconv.functional",
    "fastconv.training",
    "fastconv.inference",
    "fastconv.runtime",
    "fastconv.explanation",
)

# Packages whose modules share a floor, and may import each other.
PACKAGES = (
    "fastconv.reference",
    "fastconv.functional",
    "fastconv.data",
    "fastconv.nn",
    "fastconv.models",
)


def whole(module: str) -> str:
    """The package that stands on a floor as one, for any of its modules."""
    return next((name for name in PACKAGES if module.startswith(f"{name}.")), module)


def floor_of(module: str) -> int:
    for floor, names in enumerate(FLOORS):
        if whole(module) in names:
            return floor
    raise AssertionError(f"{module} has no floor: add it to FLOORS")


def imports_of(path: Path) -> set[str]:
    """Modules of this package, and the tops of others, that a source file imports."""
    text = path.read_text()
    if path.suffix != ".py":
        found = set(re.findall(r"^\s*c?import +([\w.]+)", text, re.MULTILINE))
        pattern = r"^\s*from +([\w.]+) +c?import +(?:\(([^)]*)\)|([^(\n]*))"
        for base, many, one in re.findall(pattern, text, re.MULTILINE):
            names = [f"{base}.{name}" for name in re.findall(r"\w+", many or one)]
            found |= {name if name in MODULES else base for name in names}
        return found
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    imported = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = [*(base if node.level else ()), *([node.module] if node.module else ())]
            names = [".".join([*base, alias.name]) for alias in node.names]
            imported |= {name if name in MODULES else ".".join(base) for name in names}
    return imported


@pytest.mark.parametrize("path", sources(".py", ".pyx", ".pxd"), ids=lambda p: p.name)
def test_imports_go_down(path):
    module = name_of(path)
    if module == "fastconv._core":
        assert not imports_of(path)
        return
    for imported in imports_of(path) - {module}:
        if not imported.startswith("fastconv"):
            continue
        siblings = whole(module) == whole(imported) in PACKAGES
        down = floor_of(imported) < floor_of(module)
        assert down or siblings, f"{module} imports {imported}, which is not below it"
        if imported.startswith("fastconv._core") and not module.startswith("fastconv._core"):
            assert whole(module) in DOORS, f"{module} imports {imported}: only {DOORS} know it"


def test_the_reference_needs_numpy_only():
    for path in (PACKAGE / "reference").glob("*.py"):
        others = {name for name in imports_of(path) if whole(name) != "fastconv.reference"}
        tops = {name.partition(".")[0] for name in others} - {"numpy"}
        assert tops <= sys.stdlib_module_names, path.name


def test_import_needs_numpy_only():
    script = """if True:
        import sys, numpy
        before = set(sys.modules)
        import fastconv
        print(*{name.partition(".")[0] for name in set(sys.modules) - before})
    """
    others = set(printed_by(script).split()) - {"fastconv", "numpy"} - sys.stdlib_module_names
    assert {name for name in others if not name.startswith(("_cython", "cython_runtime"))} == set()


def lines_with(pattern: str, paths: list[Path]) -> list[str]:
    return [
        f"{path.relative_to(PACKAGE)}:{number}: {line.strip()}"
        for path in paths
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(pattern, line)
    ]


def test_one_door_to_openmp():
    paths = [p for p in sources(".py", ".pyx", ".pxd", ".c", ".h") if p.stem != "threads"]
    pattern = r"\bomp_|omp\.h|_OPENMP|pragma omp|\bprange\b|cython\.parallel|cimport openmp"
    assert lines_with(pattern, paths) == []


def test_instruction_sets_are_known_to_the_leaves_only():
    """The tiers' names appear above them only where a user may choose one."""
    paths = [
        path
        for path in sources(".py", ".pyx", ".pxd", ".c", ".h")
        if path.parent.name != "ukernels" and path.name != "runtime.py"
    ]
    pattern = (
        r"(?i)\b(avx\w*|sse\d\w*|neon|_?_?mm\d*_\w+|__m\d+\w*|immintrin\w*|x86\w*|aarch64"
        r"|mxcsr|fpcr)\b"
    )
    assert lines_with(pattern, paths) == []


def test_no_connections_no_programs_no_code_from_files():
    pattern = (
        r"^\s*(import|from) (socket|ssl|http|urllib|subprocess)\b"
        r"|^\s*(import|from) (pickle|marshal|shelve|ctypes|runpy)\b"
        r"|(?<![\w.])(eval|exec|compile|__import__|import_module)\("
        r"|\bos\.(system|popen|fork|spawn|exec|posix_spawn)\w*\("
    )
    assert lines_with(pattern, sources(".py", ".pyx", ".pxd")) == []


def test_leaves_are_leaves():
    """C lives in one folder, and there nothing allocates, fails, prints, or starts a thread."""
    c = sources(".c", ".h")
    assert {path.parent for path in c} == {PACKAGE / "_core" / "ukernels"}
    pattern = (
        r"\b(malloc|calloc|realloc|free|printf|fprintf|abort|exit|assert|pthread\w*|Py\w+)\b *\("
    )
    assert lines_with(pattern, c) == []


@pytest.mark.parametrize("path", sources(".py", ".pyx", ".pxd", ".c", ".h"), ids=lambda p: p.name)
def test_no_file_is_too_long_to_read(path):
    assert len(path.read_text().splitlines()) <= 600


def test_one_home_of_the_version():
    """It stands in pyproject.toml; the package asks its installed metadata."""
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    literal = rf"(?<![\d.]){re.escape(version)}(?![\d.])"
    assert lines_with(literal, sources(".py", ".pyx", ".pxd", ".c", ".h")) == []
    assert not re.search(literal, (PROJECT / "setup.py").read_text())
    try:
        installed = importlib.metadata.version("fastconv")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("built in place, not installed")
    assert fastconv.info()["version"] == installed == version
