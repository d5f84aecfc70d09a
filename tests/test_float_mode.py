"""Rounding and denormals: the caller's stay as they were, and hold on every thread of a call."""

import platform
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from processes import printed_by

import fastconv

needs_x86_linux = pytest.mark.skipif(
    not (sys.platform == "linux" and platform.machine() == "x86_64"),
    reason="reads the control register as glibc stores it on x86-64",
)

# The environment of glibc on x86-64: 32 bytes, MXCSR last; its low six bits collect exceptions.
HARNESS = """
import ctypes, struct, sys
import numpy as np

libm = ctypes.CDLL("libm.so.6")
FLUSH, UPWARD = 0x8040, 0x4000

def mode():
    environment = ctypes.create_string_buffer(64)
    assert libm.fegetenv(environment) == 0
    return struct.unpack_from("<I", environment, 28)[0] & ~0x3F

def set_mode(value):
    environment = ctypes.create_string_buffer(64)
    libm.fegetenv(environment)
    struct.pack_into("<I", environment, 28, value)
    assert libm.fesetenv(environment) == 0

def tiny():
    return float((np.array([1e-40], np.float32) * np.float32(1))[0]) != 0

at_first = mode()
import fastconv
assert mode() == at_first and tiny()
rng = np.random.default_rng(0)
x = rng.standard_normal((8, 32, 24, 24)).astype(np.float32)
kernel = rng.standard_normal((32, 32, 3, 3)).astype(np.float32)

def passes(x, **rest):
    y = fastconv.conv2d(x, kernel, **rest)
    return (y, fastconv.conv2d_backward_input(y, kernel, x.shape, **rest),
            fastconv.conv2d_backward_kernel(y, x, kernel.shape, **rest),
            fastconv.avg_pool2d(x, 2), fastconv.max_pool2d(x, 2), fastconv.sigmoid(x))

def on(threads, value, x):
    before = mode()
    fastconv.set_num_threads(threads)
    set_mode(value)
    results = passes(x)
    after = mode()
    set_mode(before)
    assert after == value, hex(after)
    return [r.tobytes() for r in results]
"""


def run(script: str) -> str:
    return printed_by(HARNESS + script)


@needs_x86_linux
def test_the_callers_mode_stays():
    """After every kind of call, also one that fails and one that flushes."""
    run("""
for threads in (1, 2, 4):
    fastconv.set_num_threads(threads)
    for algorithm in ("direct", "winograd"):
        passes(x, algorithm=algorithm)
    with fastconv.use_flush_denormals():
        passes(x)
        try:
            fastconv.conv2d(x, kernel[:, :3])
        except ValueError:
            pass
        assert mode() == at_first and tiny()
    assert mode() == at_first and tiny()
""")


@needs_x86_linux
def test_a_team_rounds_as_the_caller_does():
    """Threads keep the mode they were born with: here the first call of all rounds upward."""
    run("""
up = [on(n, at_first | UPWARD, x) for n in (4, 1, 2, 3)]
nearest = [on(n, at_first, x) for n in (4, 1, 2, 3)]
assert all(r == up[0] for r in up)
assert all(r == nearest[0] for r in nearest)
assert all(a != b for a, b in zip(up[0][:3], nearest[0][:3]))
""")


@needs_x86_linux
def test_a_team_flushes_as_the_caller_does():
    run("""
small = x * np.float32(1e-41)
flushed = [on(n, at_first | FLUSH, small) for n in (4, 1, 2, 3)]
kept = [on(n, at_first, small) for n in (4, 1, 2, 3)]
assert all(r == flushed[0] for r in flushed)
assert all(r == kept[0] for r in kept)
assert not any(flushed[0][0]) and any(kept[0][0])
""")


@needs_x86_linux
def test_a_mode_ends_with_an_interrupted_call():
    run("""
import signal
signal.signal(signal.SIGALRM, signal.default_int_handler)
big = np.ones((8, 512, 56, 56), np.float32), np.ones((512, 512, 5, 5), np.float32)
for threads in (1, 2):
    fastconv.set_num_threads(threads)
    with fastconv.use_flush_denormals():
        signal.setitimer(signal.ITIMER_REAL, 0.12)
        try:
            fastconv.conv2d(*big)
            sys.exit("finished")
        except KeyboardInterrupt:
            assert mode() == at_first and tiny()
""")


def denormal_problem(dtype):
    """Products and sums below the smallest normal number, on several threads."""
    scale = np.finfo(dtype).tiny / 2**8
    rng = np.random.default_rng(1)
    x = (rng.integers(1, 8, (8, 32, 24, 24)) * scale).astype(dtype)
    kernel = rng.integers(1, 3, (32, 32, 3, 3)).astype(dtype) / 1024
    return x, kernel


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("threads", [1, 2])
def test_denormals_are_kept_unless_told_otherwise(dtype, threads, isa):
    fastconv.set_num_threads(threads)
    x, kernel = denormal_problem(dtype)
    kept = fastconv.conv2d(x, kernel)
    assert (kept > 0).all() and (kept < np.finfo(dtype).tiny).any()
    with fastconv.use_flush_denormals():
        assert fastconv.get_flush_denormals()
        assert not fastconv.conv2d(x, kernel).any()
        assert not fastconv.conv2d_backward_input(kept, kernel, x.shape).any()
        assert not fastconv.conv2d_backward_kernel(kept, x, kernel.shape).any()
        ones = np.ones_like(kernel)
        normal = fastconv.conv2d(np.ones_like(x), ones)
        assert np.array_equal(normal, np.full_like(kept, 32 * 9))
        with fastconv.use_flush_denormals(False):
            assert np.array_equal(fastconv.conv2d(x, kernel), kept)
        assert (np.array([np.finfo(dtype).smallest_subnormal]) * 1).any(), "the caller's stay"
    assert not fastconv.get_flush_denormals()
    assert np.array_equal(fastconv.conv2d(x, kernel), kept)


@pytest.mark.parametrize("flush", [1, 0, None, "yes"])
def test_bad_flush(flush):
    with pytest.raises(TypeError, match=r"^flush: expected a bool, got"):
        fastconv.set_flush_denormals(flush)
    assert not fastconv.get_flush_denormals()


def test_importing_keeps_denormals_and_nan():
    assert np.float32(1e-40) * np.float32(1) == np.float32(1e-40) != 0
    assert np.isnan(np.array([np.nan, 1.0])).tolist() == [True, False]
    assert np.isnan(np.max(np.array([1.0, np.nan])))


PROJECT = Path(fastconv.__file__).parents[1]


@pytest.mark.skipif(not (PROJECT / "setup.py").exists(), reason="installed without its sources")
def test_no_flag_changes_arithmetic():
    """-ffast-math, in whatever words; -fno-math-errno is none of it."""
    files = [PROJECT / "setup.py", PROJECT / "pyproject.toml"]
    files += sorted((PROJECT / "fastconv" / "_core").rglob("*.py[xd]"))
    files += sorted((PROJECT / "fastconv" / "_core" / "ukernels").glob("*.[ch]"))
    pattern = (
        r"fast-math|-Ofast|unsafe-math|finite-math|associative-math|reciprocal-math"
        r"|no-signed-zeros|no-trapping-math|/fp:fast|optimize\(|float_control|FP_CONTRACT"
    )
    for path in files:
        assert not re.search(pattern, path.read_text()), path
