"""Memory that cannot be had is a MemoryError, and memory that was had is given back."""

import os

import pytest
from processes import printed_by

pytestmark = pytest.mark.skipif(
    not os.path.exists("/proc/self/statm"), reason="reads the process' size in /proc"
)

CALLS = """
import contextlib, os, resource, sys
import numpy as np
import fastconv

PAGE = resource.getpagesize()

def pages(column):
    with open("/proc/self/statm") as file:
        return int(file.read().split()[column]) * PAGE

def calls_on(n, c, size):
    ones = lambda *shape: np.ones(shape, np.float32)
    x, kernel, flat = ones(n, c, size, size), ones(c, c, 3, 3), ones(n, c * size * size)
    y = fastconv.conv2d(x, kernel)
    gamma = ones(c)
    labels = np.zeros(n, np.int64)
    return [
        lambda: fastconv.conv2d(x, kernel),
        lambda: fastconv.conv2d(x, kernel, padding=1, algorithm="winograd"),
        lambda: fastconv.conv2d_backward_input(y, kernel, x.shape),
        lambda: fastconv.conv2d_backward_kernel(y, x, kernel.shape),
        lambda: fastconv.conv2d_backward_kernel(y, x, kernel.shape, algorithm="winograd"),
        lambda: fastconv.conv2d_backward_bias(y),
        lambda: fastconv.conv2d(x, kernel[:, :1], groups=c),
        lambda: fastconv.conv_transpose2d(x, kernel, stride=2),
        lambda: fastconv.max_pool2d(x, 3, return_indices=True),
        lambda: fastconv.avg_pool2d(x, 3),
        lambda: fastconv.group_norm(x, 1, gamma, gamma),
        lambda: fastconv.upsample2d(x, 2),
        lambda: fastconv.pad2d(x, 1),
        lambda: fastconv.silu(x),
        lambda: fastconv.as_channels_last(x),
        lambda: fastconv.dense(flat, flat),
        lambda: fastconv.softmax_cross_entropy(flat, labels),
    ]

def first(result):
    return np.asarray(result[0] if isinstance(result, tuple) else result).tobytes()
"""


def run(script: str, timeout: float = 120, **environment: str) -> str:
    return printed_by(CALLS + script, timeout, **environment)


def test_fifty_limits_of_memory():
    """A call under a limit of the process' size succeeds or raises; without it, it is right.

    The team exists before the limit: a thread that cannot be started ends the process inside the
    OpenMP runtime.
    """
    raised, right = map(
        int,
        run("""
fastconv.set_num_threads(2)
calls = calls_on(1, 48, 64)
expected = [first(call()) for call in calls]
raised = right = 0
for step in range(50):
    fastconv.release_memory()
    resource.setrlimit(resource.RLIMIT_AS, (pages(0) + step * 120_000, resource.RLIM_INFINITY))
    done = []
    for call in calls:
        try:
            done.append(call())
            right += 1
        except MemoryError:
            done.append(None)
            raised += 1
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    for result, wanted in zip(done, expected):
        assert result is None or first(result) == wanted
    del done, result
    for call, wanted in zip(calls[:4], expected):
        assert first(call()) == wanted
print(raised, right)
""").split(),
    )
    assert raised > 50 and right > 50, "the limits are neither all too low nor all high enough"


@pytest.mark.long
def test_fifty_processes_that_begin_under_a_limit():
    """One thread, so that none has to be started."""
    outcomes = set()
    for step in range(50):
        outcomes.add(
            run(
                f"""
calls = calls_on(2, 32, 64)
resource.setrlimit(resource.RLIMIT_AS, (pages(0) + {step} * 500_000, resource.RLIM_INFINITY))
try:
    for call in calls:
        call()
    print("right")
except MemoryError:
    print("raised")
""",
                OMP_NUM_THREADS="1",
            )
        )
    assert outcomes == {"right", "raised"}


def test_nothing_leaks():
    """Of 10,000 calls, some of which raise."""
    grown = int(
        run("""
calls = calls_on(2, 3, 12)
x, kernel = np.ones((2, 3, 8, 8), np.float32), np.ones((4, 3, 3, 3), np.float32)
wrong = [
    lambda: fastconv.conv2d(x, kernel, stride=0),
    lambda: fastconv.conv2d(x, kernel[:, :2]),
    lambda: fastconv.conv2d(x.astype(complex), kernel),
    lambda: fastconv.max_pool2d(x, 99),
    lambda: fastconv.conv2d(x, kernel, out=np.ones((1, 2, 3, 4), np.float32)),
    lambda: fastconv.conv2d_backward_kernel(x, x, (4, 3, 3, 3)),
    lambda: fastconv.dense(x, kernel),
    lambda: fastconv.as_contiguous("text"),
]

def work(rounds):
    for _ in range(rounds):
        for call in calls:
            call()
        for call in wrong:
            try:
                call()
                sys.exit("nothing raised")
            except (ValueError, TypeError):
                pass

work(100)
before = pages(1)
work(10_000 // 25)
print(pages(1) - before)
""")
    )
    assert grown < 2e6


def test_nothing_leaks_where_memory_ran_out():
    grown = int(
        run("""
x, kernel = np.ones((1, 16, 1024, 1024), np.float32), np.ones((16, 16, 1, 1), np.float32)
fastconv.conv2d(x, kernel)
failing = [
    lambda: fastconv.conv2d(x, kernel),
    lambda: fastconv.max_pool2d(x, 2, stride=1),
    lambda: fastconv.relu(x),
    lambda: fastconv.upsample2d(x, 4),
]

def work(rounds):
    fastconv.release_memory()
    resource.setrlimit(resource.RLIMIT_AS, (pages(0) + 8_000_000, resource.RLIM_INFINITY))
    for _ in range(rounds):
        for call in failing:
            try:
                call()
                sys.exit("nothing raised")
            except MemoryError:
                pass
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

work(20)
before = pages(1)
work(500)
print(pages(1) - before)
""")
    )
    assert grown < 2e6
