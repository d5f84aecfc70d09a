# cython: language_level=3, boundscheck=False, wraparound=False
"""The one door to OpenMP.

A loop nest cuts its work into numbered tasks *by the problem's shape* and the machine's caches,
and hands them to ``parallel_for``, which deals them out in short runs.  Which thread runs a task is
left to chance; since no task depends on the number of threads and no two tasks write one place, the
result has the same bits on any team.  Without OpenMP in the compiler the same tasks run one after
the other.
"""

import os

from cython.parallel cimport prange, threadid

cdef extern from *:
    """
    #ifdef _OPENMP
    #include <omp.h>
    #define FC_OPENMP 1
    #else
    #define FC_OPENMP 0
    static int omp_get_max_threads(void) { return 1; }
    static int omp_get_thread_limit(void) { return 1; }
    static int omp_in_parallel(void) { return 0; }
    static int omp_get_num_procs(void) { return 1; }
    #endif
    """
    const bint FC_OPENMP
    int omp_get_max_threads() nogil
    int omp_get_thread_limit() nogil
    int omp_in_parallel() nogil
    int omp_get_num_procs() nogil

# A team costs some microseconds to wake; a thread must have at least this much to do.
cdef double MULTIPLY_ADDS_PER_THREAD = 1.0e6

cdef int chosen = 0     # set_num_threads; 0: not set, follow the machine and the environment
cdef int machine = 1    # processors this process may use
cdef bint forked = False


cdef int _max_team() noexcept nogil:
    """The largest team a call may use now."""
    if forked:
        return 1
    if chosen:
        return min(chosen, omp_get_thread_limit())
    return min(omp_get_max_threads(), machine)


cdef enum:
    RUNS_PER_THREAD = 16


cdef int team_size(double multiply_adds) noexcept nogil:
    """The team for a call of so many multiply-adds, or what takes as long."""
    cdef int most = _max_team()
    cdef double useful = multiply_adds / MULTIPLY_ADDS_PER_THREAD
    if most == 1 or useful < 2 or omp_in_parallel():
        return 1
    return most if useful > most else <int>useful


cdef void parallel_for(
    Py_ssize_t n_tasks, int team, task_fn run, void* context
) noexcept nogil:
    """Call ``run(context, task, thread)`` for every task; ``0 <= thread < team``."""
    cdef Py_ssize_t task, run_length
    if team > n_tasks:
        team = <int>n_tasks
    if team <= 1:
        for task in range(n_tasks):
            run(context, task, 0)
    else:
        # Neighbouring tasks share rows: they are handed out in runs, short enough to balance.
        run_length = max(n_tasks // (RUNS_PER_THREAD * team), 1)
        for task in prange(n_tasks, schedule="dynamic", chunksize=run_length, num_threads=team):
            run(context, task, threadid())


def _processors():
    """Processors this process may use: affinity, then the cgroup's quota."""
    # The runtime asked before it bound the calling thread to one of them (OMP_PROC_BIND).
    count = omp_get_num_procs()
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()[:2]
        if quota != "max":
            count = min(count, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return count


def set_num_threads(int n):
    global chosen
    chosen = n


def get_num_threads():
    return _max_team()


def has_openmp():
    return FC_OPENMP == 1


def _after_fork_in_child():
    # libgomp's threads do not survive a fork, and its next region would wait for them for ever.
    global forked
    forked = True


machine = _processors()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
