"""Ctrl-C, and any exception of a signal's handler, ends a call within half a second.

Each case runs in a process of its own: an alarm whose handler is that of Ctrl-C rings while the
call computes, in the middle of it, as the traceback shows, and the next call is right.
"""

import os
import signal

import pytest
from processes import printed_by

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs an alarm")

HARNESS = """
import signal, sys, time, traceback
import numpy as np
import fastconv

signal.signal(signal.SIGALRM, signal.default_int_handler)
ones = lambda *shape: np.ones(shape, np.float32)
small = ones(2, 16, 20, 20), ones(16, 16, 3, 3)
expected = [
    fastconv.conv2d(*small),
    fastconv.conv2d_backward_input(ones(2, 16, 18, 18), small[1], small[0].shape),
    fastconv.conv2d_backward_kernel(ones(2, 16, 18, 18), small[0], small[1].shape),
]

def check():
    got = [
        fastconv.conv2d(*small),
        fastconv.conv2d_backward_input(ones(2, 16, 18, 18), small[1], small[0].shape),
        fastconv.conv2d_backward_kernel(ones(2, 16, 18, 18), small[0], small[1].shape),
    ]
    assert all(np.array_equal(a, b) for a, b in zip(got, expected))

def interrupt(call, delay, most=0.5):
    begin = time.perf_counter()
    signal.setitimer(signal.ITIMER_REAL, delay)
    try:
        call()
        sys.exit(f"finished after {time.perf_counter() - begin:.2f} s")
    except KeyboardInterrupt:
        late = time.perf_counter() - begin - delay
        assert ".pyx" in traceback.format_exc(), "not in the middle of the call"
    assert late < most, late
    check()
    return late
"""

# Ten seconds and more on one thread.
BIG = """
x, kernel = ones(8, 1024, 56, 56), ones(1024, 1024, 3, 3)
passes = {
    "forward": lambda **a: fastconv.conv2d(x, kernel, padding=1, **a),
    "input": lambda **a: fastconv.conv2d_backward_input(x, kernel, x.shape, padding=1, **a),
    "kernel": lambda **a: fastconv.conv2d_backward_kernel(x, x, kernel.shape, padding=1, **a),
}
"""


def run(script: str, timeout: float = 280, **environment: str) -> str:
    return printed_by(HARNESS + script, timeout, **environment)


@pytest.mark.parametrize("algorithm", ["direct", "winograd"])
@pytest.mark.parametrize("order", ["contiguous", "channels_last"])
def test_a_long_convolution(algorithm, order, count):
    turn = "x = fastconv.as_channels_last(x)" if order == "channels_last" else ""
    for threads in (1, 2):
        run(
            BIG
            + turn
            + f"""
fastconv.set_num_threads({threads})
for call in passes.values():
    for i in range({count(1, 10)}):
        interrupt(lambda: call(algorithm="{algorithm}"), 0.2 + 0.07 * i)
"""
        )


UNUSUAL = {
    "one very wide row": """
x, kernel = ones(1, 64, 1, 400_000), ones(64, 64, 1, 9)
calls = [lambda: fastconv.conv2d(x, kernel, padding=(0, 4)),
         lambda: fastconv.conv2d_backward_input(x, kernel, x.shape, padding=(0, 4)),
         lambda: fastconv.conv2d_backward_kernel(x, x, kernel.shape, padding=(0, 4))]
""",
    "few pixels of many channels": """
x, kernel = ones(32, 4096, 7, 7), ones(4096, 4096, 3, 3)
calls = [lambda: fastconv.conv2d(x, kernel, padding=1),
         lambda: fastconv.conv2d_backward_input(x, kernel, x.shape, padding=1),
         lambda: fastconv.conv2d_backward_kernel(x, x, kernel.shape, padding=1)]
""",
    "a large kernel": """
x, kernel = ones(2, 64, 128, 128), ones(64, 64, 63, 63)
dy = ones(2, 64, 66, 66)
calls = [lambda: fastconv.conv2d(x, kernel),
         lambda: fastconv.conv2d_backward_input(dy, kernel, x.shape),
         lambda: fastconv.conv2d_backward_kernel(dy, x, kernel.shape)]
""",
    "depthwise": """
x, kernel = ones(4, 128, 256, 256), ones(128, 1, 31, 31)
calls = [lambda: fastconv.conv2d(x, kernel, padding=15, groups=128),
         lambda: fastconv.conv2d_backward_input(x, kernel, x.shape, padding=15, groups=128),
         lambda: fastconv.conv2d_backward_kernel(x, x, kernel.shape, padding=15, groups=128)]
""",
    "depthwise, one long row": """
x, kernel = ones(1, 512, 1, 60_000), ones(512, 1, 1, 127)
calls = [lambda: fastconv.conv2d(x, kernel, padding=(0, 63), groups=512)]
""",
    "few channels": """
x, kernel, dy = ones(16, 3, 512, 512), ones(64, 3, 21, 21), ones(16, 64, 492, 492)
calls = [lambda: fastconv.conv2d(x, kernel),
         lambda: fastconv.conv2d_backward_input(dy, kernel, x.shape),
         lambda: fastconv.conv2d_backward_kernel(dy, x, kernel.shape)]
""",
    "dense": """
x, kernel = ones(512, 8192), ones(8192, 8192)
calls = [lambda: fastconv.dense(x, kernel), lambda: fastconv.dense_backward(x, x, kernel)]
""",
    "max pooling": """
x = ones(2, 64, 512, 512)
calls = [lambda: fastconv.max_pool2d(x, 63, stride=1, padding=31)]
""",
    "elementwise": """
x = np.ones(3 << 24)
calls = [lambda: fastconv.gelu(x)]
""",
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_work_of_other_shapes(name):
    """On the slowest leaves and one thread: none of a task is so long that it delays the answer."""
    run(
        UNUSUAL[name]
        + """
fastconv.set_num_threads(1)
for call in calls:
    interrupt(call, 0.12, most=1)  # a row is packed in one go, however wide
""",
        FASTCONV_ISA="baseline",
    )


def test_another_exception_of_a_handler():
    run(
        BIG
        + """
class Late(Exception):
    pass

def ring(number, frame):
    assert np.array_equal(fastconv.conv2d(*small), expected[0]), "a call within the call"
    raise Late

signal.signal(signal.SIGALRM, ring)
fastconv.set_num_threads(2)
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    passes["forward"]()
    sys.exit("finished")
except Late:
    check()
"""
    )


def test_a_handler_that_returns_changes_nothing():
    run("""
x, kernel = ones(4, 256, 56, 56), ones(256, 256, 3, 3)
expected_long = fastconv.conv2d(x, kernel)
rings = []
signal.signal(signal.SIGALRM, lambda *_: rings.append(check()))
signal.setitimer(signal.ITIMER_REAL, 0.02, 0.05)
begin = time.perf_counter()
while time.perf_counter() < begin + 0.6:
    assert np.array_equal(fastconv.conv2d(x, kernel), expected_long)
signal.setitimer(signal.ITIMER_REAL, 0)
assert len(rings) > 2
""")


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc")
def test_an_interrupted_call_leaves_no_memory_behind():
    run(
        BIG
        + """
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) << 12

def once():
    for call in passes.values():
        interrupt(call, 0.15)
    fastconv.release_memory()
    return resident()

once()
before = once()
assert once() < before + 16e6
"""
    )
