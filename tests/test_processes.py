"""Forks, Python threads, other thread pools, interpreters: nothing hangs, ends or differs."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from processes import printed_by

import fastconv

needs_openmp = pytest.mark.skipif(not fastconv.info()["openmp"], reason="built without OpenMP")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
needs_tasks = pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs /proc")

PROBLEM = """
import os, signal, sys, threading, time
import numpy as np
import fastconv

rng = np.random.default_rng(3)
x = rng.standard_normal((8, 32, 32, 32)).astype(np.float32)
kernel = rng.standard_normal((32, 32, 3, 3)).astype(np.float32)

def passes():
    y = fastconv.conv2d(x, kernel)
    return b"".join(a.tobytes() for a in (
        y, fastconv.conv2d_backward_input(y, kernel, x.shape),
        fastconv.conv2d_backward_kernel(y, x, kernel.shape), fastconv.max_pool2d(x, 2),
        fastconv.conv2d(x, kernel, algorithm="winograd")))

def work(_):
    return passes()
"""


def assert_runs(script: str, timeout: float = 100, **environment: str | None) -> str:
    return printed_by(script, timeout, **{"PYTHONWARNINGS": "ignore", **environment})


def run(script: str, timeout: float = 60, **environment: str | None) -> str:
    return assert_runs(PROBLEM + script, timeout, **environment)


# -- processes -------------------------------------------------------------------------------------

CHILD = """
def child(generations):
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)        # a hang
        ok = passes() == expected and fastconv.get_num_threads() == 1
        ok = ok and (generations == 1 or child(generations - 1))
        os._exit(0 if ok else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""


@needs_fork
def test_children_and_grandchildren(count):
    run(
        CHILD
        + f"""
fastconv.set_num_threads(4)
expected = passes()
assert all(child(2) for _ in range({count(5, 100)}))
assert passes() == expected
""",
        timeout=250,
    )


@needs_fork
def test_a_fork_amid_a_call_of_another_thread(count):
    """The pool of memory and the caches are whole at every fork."""
    run(
        CHILD
        + f"""
fastconv.set_num_threads(2)
expected = passes()
busy = True

def compute():
    while busy:
        assert passes() == expected

workers = [threading.Thread(target=compute) for _ in range(2)]
for worker in workers:
    worker.start()
ok = all(child(1) for _ in range({count(10, 100)}))
busy = False
for worker in workers:
    worker.join()
assert ok
""",
        timeout=250,
    )


@needs_fork
def test_a_fork_from_another_thread_than_the_first():
    run(
        CHILD
        + """
fastconv.set_num_threads(2)
expected = passes()
found = []
worker = threading.Thread(target=lambda: found.append(child(2)))
worker.start()
worker.join()
assert found == [True]
"""
    )


@needs_fork
def test_a_pool_of_forked_processes(count):
    run(
        f"""
from multiprocessing import get_context
expected = passes()
for _ in range({count(3, 100)}):
    with get_context("fork").Pool(2) as pool:
        assert pool.map_async(work, range(4)).get(10) == 4 * [expected]
""",
        timeout=280,
    )


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_pool_of_other_processes(method, tmp_path):
    if method == "forkserver" and not hasattr(os, "fork"):
        pytest.skip("the system has no fork")
    (tmp_path / "started.py").write_text(
        PROBLEM
        + f"""
if __name__ == "__main__":
    from multiprocessing import get_context
    expected = passes()
    with get_context("{method}").Pool(2) as pool:
        assert pool.map_async(work, range(3)).get(50) == 3 * [expected]
        assert pool.apply(fastconv.get_num_threads) >= 1
"""
    )
    completed = subprocess.run(
        [sys.executable, str(tmp_path / "started.py")], capture_output=True, text=True, timeout=60
    )
    assert completed.returncode == 0, completed.stderr


# -- Python threads --------------------------------------------------------------------------------


def mixed_calls() -> list:
    """Calls of many kinds and shapes, as functions of nothing."""
    rng = np.random.default_rng(5)
    calls = []
    for i, (n, c, size) in enumerate([(1, 3, 9), (2, 16, 14), (4, 8, 32), (3, 33, 7), (8, 32, 24)]):
        dtype = np.float64 if i % 2 else np.float32
        x = rng.standard_normal((n, c, size, size)).astype(dtype)
        kernel = rng.standard_normal((c + 1, c, 3, 3)).astype(dtype)
        dy, gamma = fastconv.conv2d(x, kernel, padding=1), np.ones(c, dtype)
        calls += [
            lambda x=x, k=kernel: fastconv.conv2d(x, k, padding=1),
            lambda x=x, k=kernel: fastconv.conv2d(x, k, padding=1, algorithm="winograd"),
            lambda x=x, k=kernel, dy=dy: fastconv.conv2d_backward_input(dy, k, x.shape, padding=1),
            lambda x=x, k=kernel, dy=dy: fastconv.conv2d_backward_kernel(dy, x, k.shape, padding=1),
            lambda x=x: fastconv.max_pool2d(x, 2),
            lambda x=x: fastconv.avg_pool2d(x, 3, stride=2),
            lambda x=x: fastconv.gelu(x),
            lambda x=x: fastconv.as_channels_last(x),
            lambda x=x, g=gamma: fastconv.group_norm(x, 1, g, g),
            lambda x=x: fastconv.softmax(x.reshape(len(x), -1)),
            lambda x=x, k=kernel: fastconv.conv_transpose2d(
                x, np.ascontiguousarray(k.transpose(1, 0, 2, 3)), stride=2
            ),
            lambda x=x: fastconv.upsample2d(x, 2),
        ]
    return calls


def first(result):
    return np.asarray(result[0] if isinstance(result, tuple) else result)


def test_eight_threads(count):
    """Each makes the calls in an order of its own, while memory is released and asked for."""
    calls = mixed_calls()
    fastconv.set_num_threads(2)
    expected = [first(call()) for call in calls]

    def work(seed: int) -> int:
        rng = np.random.default_rng(seed)
        for i, chosen in enumerate(rng.integers(0, len(calls), count(150, 1000))):
            assert np.array_equal(first(calls[chosen]()), expected[chosen])
            if i % 50 == 0:
                fastconv.release_memory()
        return seed

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == list(range(8))


def test_one_model_predicts_in_several_threads(rng):
    model = fastconv.Sequential(
        [
            fastconv.Conv2D(8, 3, padding=1, activation="relu"),
            fastconv.BatchNorm(),
            fastconv.MaxPool(2),
            fastconv.Flatten(),
            fastconv.Dense(5),
        ]
    )
    x = rng.standard_normal((40, 3, 16, 16)).astype(np.float32)
    expected = model.predict(x)
    start = threading.Barrier(6)

    def work(i: int) -> bool:
        start.wait()
        return all(
            np.array_equal(model.predict(x[i : i + 20]), expected[i : i + 20]) for _ in range(20)
        )

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(6)))


# -- numbers of threads ----------------------------------------------------------------------------


@needs_openmp
def test_the_largest_number_of_threads_is_one_that_works(count):
    run(f"""
big = np.ones((64, 64, 64, 64), np.float32)
ones = np.ones((64, 64, 3, 3), np.float32)
expected = fastconv.conv2d(big, ones)
fastconv.set_num_threads({count(128, 1024)})
assert np.array_equal(fastconv.conv2d(big, ones), expected)
""")


@pytest.mark.parametrize("value", ["", "0", "-3", "many", "1.5", "2,1", "9" * 20, "1e9"])
def test_nonsense_in_omp_num_threads(value):
    """The runtime says so on stderr, and there are as many threads as without it."""
    assert (
        1
        <= int(run("print(fastconv.get_num_threads()); passes()", OMP_NUM_THREADS=value))
        <= (os.cpu_count() or 1)
    )


@needs_openmp
def test_omp_thread_limit():
    script = "fastconv.set_num_threads(8); print(fastconv.get_num_threads()); passes()"
    assert run(script, OMP_THREAD_LIMIT="3") == "3"


@needs_openmp
def test_quotas_of_cgroups(tmp_path):
    """Of the group a process is in and of all above it."""
    from fastconv._core.threads import _quotas

    (tmp_path / "a" / "b").mkdir(parents=True)
    membership = tmp_path / "membership"
    membership.write_text("12:cpu:/other\n0::/a/b\n")

    def smallest() -> int:
        return min(_quotas(str(tmp_path), str(membership)))

    assert smallest() > 10**6
    for folder, text, expected in (
        (tmp_path / "a", "700000 100000\n", 7),
        (tmp_path / "a" / "b", "max 100000\n", 7),
        (tmp_path / "a" / "b", "350000 100000\n", 3),
        (tmp_path, "50000 100000\n", 1),
        (tmp_path, "nonsense\n", 3),
    ):
        (folder / "cpu.max").write_text(text)
        assert smallest() == expected
    membership.write_text("0::/\n")
    assert smallest() > 10**6
    membership.unlink()
    assert smallest() > 10**6


TASKS = """
def tasks():
    return len(os.listdir("/proc/self/task"))
"""


@needs_openmp
@needs_tasks
def test_threadpoolctl_sees_and_limits_the_threads():
    pytest.importorskip("threadpoolctl")
    run(
        TASKS
        + """
from threadpoolctl import threadpool_info, threadpool_limits
pools = [p for p in threadpool_info() if p["user_api"] == "openmp"]
assert pools, threadpool_info()
expected = passes()
for chosen in (None, 4):
    if chosen:
        fastconv.set_num_threads(chosen)
    free = fastconv.get_num_threads()
    with threadpool_limits(1):
        assert fastconv.get_num_threads() == 1
        assert passes() == expected
    with threadpool_limits(1, user_api="blas"):
        assert fastconv.get_num_threads() == free
    assert fastconv.get_num_threads() == free
with threadpool_limits(3):
    fastconv.set_num_threads(2)
    assert fastconv.get_num_threads() == 2
""",
        OMP_NUM_THREADS="3",
    )
    run(
        TASKS
        + """
from threadpoolctl import threadpool_limits
with threadpool_limits(1):
    before = tasks()
    passes()
    assert tasks() == before, "a limit of one, and no thread was started"
""",
        OMP_NUM_THREADS="3",
    )


@needs_openmp
@needs_tasks
@pytest.mark.parametrize("neighbour", ["numpy", "sklearn", "torch"])
@pytest.mark.parametrize("first", [True, False])
def test_beside_another_pool_of_threads(neighbour, first):
    """Whoever was imported first: same results, no more threads than were asked for."""
    if neighbour != "numpy":
        pytest.importorskip(neighbour)
    use = {
        "numpy": "np.ones((300, 300)) @ np.ones((300, 300))",
        "sklearn": "from sklearn.ensemble import HistGradientBoostingClassifier as C;"
        " C(max_iter=2).fit(np.ones((500, 4)), np.arange(500) % 2)",
        "torch": "import torch; t = torch.ones(4, 8, 32, 32);"
        " torch.nn.functional.conv2d(t, torch.ones(8, 8, 3, 3))",
    }[neighbour]
    script = f"""import numpy as np
{use if not first else ""}
{PROBLEM}
{TASKS}
alone = passes()
threads = fastconv.get_num_threads()
{use}
for _ in range(3):
    before = tasks()
    assert passes() == alone
    assert tasks() <= before + threads - 1, (before, tasks())
    {use}
assert fastconv.get_num_threads() == threads
"""
    assert_runs(script)


# -- interpreters ----------------------------------------------------------------------------------


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="the module has another name")
@pytest.mark.skipif(sys.implementation.name != "cpython", reason="needs CPython")
@pytest.mark.parametrize("imported", [True, False])
def test_a_subinterpreter_cannot_import_and_says_so(imported):
    """NumPy may refuse already; a subinterpreter that imports has right results."""
    here = "assert fastconv.conv2d(np.ones((1, 1, 3, 3)), np.ones((1, 1, 3, 3))).item() == 9"
    assert_runs(f"""
{"import numpy as np, fastconv" if imported else ""}
import _xxsubinterpreters as interpreters
one = interpreters.create()
interpreters.run_string(one, '''if True:
    try:
        import numpy as np, fastconv
        {here}
    except ImportError as error:
        assert str(error)
''')
interpreters.destroy(one)
{here if imported else ""}
""")


def test_reloading():
    run("""
from importlib import reload
expected = passes()
reload(fastconv)
assert passes() == expected
for name in [n for n in sys.modules if n.startswith("fastconv")]:
    del sys.modules[name]
import fastconv as again
assert np.array_equal(again.conv2d(x, kernel), fastconv.conv2d(x, kernel))
reload(again)
assert np.array_equal(again.conv2d(x, kernel), fastconv.conv2d(x, kernel))
""")


def test_the_interpreter_ends_while_threads_compute(count):
    """Daemon threads are in the middle of calls; a weak reference's callback computes once more."""
    for _ in range(count(5, 50)):
        run("""
import atexit
def compute():
    while True:
        passes()
for _ in range(3):
    threading.Thread(target=compute, daemon=True).start()
atexit.register(passes)
time.sleep(0.05)
""")
