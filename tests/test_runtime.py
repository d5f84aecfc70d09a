"""Threads, instruction sets, memory: what `fastconv.runtime` sets and tells."""

import itertools
import os
import threading
import time

import numpy as np
import pytest
from processes import printed_by

import fastconv

OPENMP = fastconv.info()["openmp"]
needs_openmp = pytest.mark.skipif(not OPENMP, reason="built without OpenMP")


def run(script: str, **environment: str | None) -> str:
    return printed_by("if True:\n" + script, 60, **environment)


# -- threads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 7, np.int64(2)])
def test_set_num_threads(n):
    fastconv.set_num_threads(n)
    assert fastconv.get_num_threads() == (n if OPENMP else 1)
    assert fastconv.info()["threads"] == fastconv.get_num_threads()


@pytest.mark.parametrize(
    "n",
    [0, -1, -(2**63), 1025, 10**6, 2**31, 2**63, 2**70, 1.0, 1.5, True, np.True_, "2", None, (2,)],
)
def test_bad_numbers_of_threads(n):
    """Some of these would end the process inside the OpenMP runtime."""
    before = fastconv.get_num_threads()
    with pytest.raises((ValueError, TypeError), match=r"^n\b"):
        fastconv.set_num_threads(n)
    assert fastconv.get_num_threads() == before


THREADS = """
        import fastconv
        print(fastconv.get_num_threads())
"""


@needs_openmp
def test_omp_num_threads_is_respected():
    allowed = int(run(THREADS, OMP_NUM_THREADS=None))
    for threads in ("1", "2"):
        if int(threads) <= allowed:
            assert run(THREADS, OMP_NUM_THREADS=threads) == threads


@needs_openmp
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity")
def test_default_is_what_the_process_may_use():
    allowed = sorted(os.sched_getaffinity(0))
    for count in {1, len(allowed)}:
        bind = f"""
        import os
        os.sched_setaffinity(0, {allowed[:count]})
        """
        assert 1 <= int(run(bind + THREADS, OMP_NUM_THREADS=None)) <= count


@needs_openmp
def test_a_bound_thread_does_not_hide_the_other_processors():
    """With OMP_PROC_BIND the runtime binds the importing thread to one of them."""
    free = run(THREADS, OMP_NUM_THREADS=None, OMP_PROC_BIND=None)
    assert run(THREADS, OMP_NUM_THREADS=None, OMP_PROC_BIND="true") == free


def test_the_interpreter_goes_on_while_computing():
    """The longest silence of a second Python thread is a small part of each call."""
    x = np.ones((1, 128, 96, 96), np.float32)
    kernel = np.ones((128, 128, 3, 3), np.float32)
    calls = {
        "conv2d": lambda: fastconv.conv2d(x, kernel, padding=1),
        "conv2d_backward_input": lambda: fastconv.conv2d_backward_input(
            x, kernel, x.shape, padding=1
        ),
        "conv2d_backward_kernel": lambda: fastconv.conv2d_backward_kernel(
            x, x, kernel.shape, padding=1
        ),
    }
    fastconv.set_num_threads(1)
    with fastconv.use_isa("baseline"):
        for name, call in calls.items():
            times = []

            def work(call=call, times=times):
                times.append(time.perf_counter())
                call()
                times.append(time.perf_counter())

            worker = threading.Thread(target=work)
            ticks = [time.perf_counter()]
            worker.start()
            while worker.is_alive():
                ticks.append(time.perf_counter())
                time.sleep(0.0005)
            worker.join()
            begin, end = times
            inside = [begin, *(t for t in ticks if begin <= t <= end), end]
            silence = max(b - a for a, b in itertools.pairwise(inside))
            assert silence < 0.5 * (end - begin), f"{name} holds the interpreter"


# -- instruction sets ------------------------------------------------------------------------------


def test_isas():
    available = fastconv.available_isas()
    assert isinstance(available, tuple)
    assert "baseline" in available
    assert set(available) <= {"baseline", "avx2", "avx512", "neon"}
    assert fastconv.isa() in available


def test_use_isa():
    before = fastconv.isa()
    for name in fastconv.available_isas():
        with fastconv.use_isa(name):
            assert fastconv.isa() == name
            with fastconv.use_isa("baseline"):
                assert fastconv.isa() == "baseline"
            assert fastconv.isa() == name
        with pytest.raises(KeyError), fastconv.use_isa(name):
            raise KeyError
        assert fastconv.isa() == before


@pytest.mark.parametrize("name", ["sse17", "AVX2 ", "", None, 2, b"baseline"])
def test_unknown_isa(name):
    before = fastconv.isa()
    with (
        pytest.raises((ValueError, TypeError), match=r"^name\b.*baseline"),
        fastconv.use_isa(name),
    ):
        pass
    assert fastconv.isa() == before


def test_isa_from_the_environment():
    script = """
        import fastconv
        print(fastconv.isa())
    """
    for name in fastconv.available_isas():
        assert run(script, FASTCONV_ISA=name) == name
    assert run(script, FASTCONV_ISA="") == run(script, FASTCONV_ISA=None)
    failing = """
        try:
            import fastconv
        except ImportError as error:
            print(error)
    """
    message = run(failing, FASTCONV_ISA="sse17")
    assert "FASTCONV_ISA" in message and "sse17" in message and "baseline" in message


# -- facts -----------------------------------------------------------------------------------------


def test_info():
    info = fastconv.info()
    assert {"version", "isa", "available_isas", "threads", "openmp", "caches"} <= set(info)
    assert isinstance(info["version"], str)
    assert info["isa"] == fastconv.isa()
    assert info["available_isas"] == fastconv.available_isas()
    assert info["threads"] == fastconv.get_num_threads()
    assert info["caches"] == fastconv.cache_sizes()
    assert isinstance(info["openmp"], bool)


def test_cache_sizes():
    sizes = fastconv.cache_sizes()
    assert all(isinstance(name, str) for name in sizes)
    assert all(isinstance(size, int) and size >= 1024 for size in sizes.values())


# -- memory ----------------------------------------------------------------------------------------


def test_release_memory():
    x, kernel = np.ones((4, 8, 64, 64), np.float32), np.ones((8, 8, 3, 3), np.float32)
    alive = fastconv.conv2d(x, kernel)
    expected = alive.copy()
    for _ in range(3):
        fastconv.conv2d(x, kernel)
        fastconv.release_memory()
        fastconv.release_memory()
    assert np.array_equal(alive, expected)
    assert np.array_equal(fastconv.conv2d(x, kernel), expected)


RELEASE = """
        import os
        import numpy as np
        import fastconv

        def resident():
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

        x, kernel = np.ones((1, 16, 512, 512), np.float32), np.ones((16, 16, 1, 1), np.float32)
        fastconv.conv2d(x, kernel)
        fastconv.release_memory()
        before = resident()
        results = [fastconv.conv2d(x, kernel) for _ in range(12)]
        held = resident() - before
        del results
        kept = resident() - before
        fastconv.release_memory()
        print(held, kept, resident() - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc")
def test_released_memory_goes_back_to_the_system():
    held, kept, left = map(int, run(RELEASE).split())
    assert held > 100e6, "twelve results of 16 MiB"
    assert kept > 0.5 * held, "the memory of dead results is kept for the next ones"
    assert left < 0.1 * held, "until it is released"
