"""Fixtures shared by all tests."""

import numpy as np
import pytest

import fastconv


def pytest_report_header() -> str:
    info = fastconv.info()
    return f"fastconv {info['version']}: {info['isa']}, {info['threads']} threads"


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


@pytest.fixture(params=fastconv.available_isas())
def isa(request):
    """Runs the test on every instruction set this machine has."""
    with fastconv.use_isa(request.param):
        yield request.param


@pytest.fixture(autouse=True)
def _threads_restored():
    """A test may set the number of threads; the next one finds the old number."""
    threads = fastconv.get_num_threads()
    yield
    fastconv.set_num_threads(threads)
