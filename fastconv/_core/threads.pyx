# cython: language_level=3, boundscheck=False, wraparound=False
"""The one door to OpenMP.

A loop nest cuts its work into numbered tasks *by the problem's shape* and the machine's caches,
and hands them to ``parallel_for``, which deals them out in short runs.  Which thread runs a task is
left to chance; since no task depends on the number of threads and no two tasks write one place, the
result has the same bits on any team.  Without OpenMP in the compiler the same tasks run one after
the other.

**Signals.**  Ctrl-C only leaves a note, which the interpreter reads when it gets the word.  So the
calling thread asks for notes between two of its tasks (``interrupted``), once ``PATIENCE`` has
passed and again whenever it has: short work is never cut, and long work pays one look at a coarse
clock for each task.  If a handler raises, a flag is set, every thread lets the tasks pass that it
has not begun, and ``parallel_for`` returns with the exception set, as a function that failed.  All
memory of the call belongs to Python objects, and goes where it goes after any error.  A task that
may take longer than some hundredths of a second asks too, between its blocks, and may leave off.

**Rounding.**  A team's threads round and treat denormals as the calling thread does at that time,
whatever mode they were born with, so that this too is the same for any number of threads.
"""

import os

from cython.parallel cimport parallel, prange, threadid
from libc.stdint cimport uint64_t

from fastconv._core.isa cimport float_mode, flushes, set_float_mode

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

    /* Milliseconds since some time, cheaply rather than exactly. */
    #if defined(_WIN32)
    #include <windows.h>
    static long long fc_now(void) { return (long long)GetTickCount64(); }
    #else
    #include <time.h>
    #ifndef CLOCK_MONOTONIC_COARSE
    #define CLOCK_MONOTONIC_COARSE CLOCK_MONOTONIC
    #endif
    static long long fc_now(void)
    {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
        return (long long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
    }
    #endif

    /* What this thread is at: when to ask for signals, and the flag of the call. */
    typedef struct { long long due; int *stop; } fc_work;
    static fc_work *fc_here(void)
    {
        static _Thread_local fc_work here;
        return &here;
    }

    static int fc_is_set(const int *flag) { return __atomic_load_n(flag, __ATOMIC_RELAXED); }
    static void fc_set(int *flag) { __atomic_store_n(flag, 1, __ATOMIC_RELAXED); }
    """
    const bint FC_OPENMP
    int omp_get_max_threads() nogil
    int omp_get_thread_limit() nogil
    int omp_in_parallel() nogil
    int omp_get_num_procs() nogil
    long long fc_now() nogil
    ctypedef struct Work "fc_work":
        long long due
        int* stop
    Work* here "fc_here"() nogil
    bint fc_is_set(const int* flag) nogil
    void fc_set(int* flag) nogil

cdef extern from "Python.h":
    int PyErr_CheckSignals()    # leaves the handler's exception for parallel_for's caller

# A team costs some microseconds to wake; a thread must have at least this much to do.
cdef double MULTIPLY_ADDS_PER_THREAD = 1.0e6

cdef int chosen = 0     # set_num_threads; 0: not set, follow the machine and the environment
cdef int offered = 0    # what OpenMP offered when it was set
cdef int machine = 1    # processors this process may use
cdef bint forked = False


cdef int _max_team() noexcept nogil:
    """The largest team a call may use now."""
    cdef int offer = omp_get_max_threads()
    if forked:
        return 1
    if chosen == 0:
        return min(offer, machine)
    # Whoever lowered OpenMP's number since then (threadpoolctl) wants no more than that.
    return min(chosen, omp_get_thread_limit() if offer >= offered else offer)


cdef enum:
    RUNS_PER_THREAD = 16
    LONGEST_RUN = 64
    PATIENCE = 100              # milliseconds
    ASK_LATER = 0               # when the patience begins: with the first question
    ASK_NEVER = -1              # of threads that are not the calling one


cdef int team_size(double multiply_adds) noexcept nogil:
    """The team for a call of so many multiply-adds, or what takes as long."""
    cdef int most = _max_team()
    cdef double useful = multiply_adds / MULTIPLY_ADDS_PER_THREAD
    if most == 1 or useful < 2 or omp_in_parallel():
        return 1
    return most if useful > most else <int>useful


cdef int parallel_for(
    Py_ssize_t n_tasks, int team, task_fn run, void* context
) except -1 nogil:
    """Call ``run(context, task, thread)`` for every task; ``0 <= thread < team``.

    Raises what a signal's handler raised meanwhile; some tasks have not run then.
    """
    cdef Py_ssize_t task, run_length
    cdef int stop = 0
    cdef uint64_t mode, own = 0
    cdef bint flush = flushes       # another thread may change it
    cdef Work outer = here()[0]     # a handler may call functions of ours
    if team > n_tasks:
        team = <int>n_tasks
    if team <= 1:
        begin(ASK_LATER, &stop)
        if flush:
            own = set_float_mode(float_mode())
        for task in range(n_tasks):
            if task == 0 or not interrupted():
                run(context, task, 0)
        if flush:
            set_float_mode(own)
    else:
        # Neighbouring tasks share rows: they are handed out in runs, short enough to balance.
        run_length = min(max(n_tasks // (RUNS_PER_THREAD * team), 1), LONGEST_RUN)
        mode = float_mode()
        with parallel(num_threads=team):
            begin(fc_now() + PATIENCE if threadid() == 0 else ASK_NEVER, &stop)
            own = set_float_mode(mode)
            for task in prange(n_tasks, schedule="dynamic", chunksize=run_length):
                if not interrupted():
                    run(context, task, threadid())
            set_float_mode(own)
    here()[0] = outer
    return -1 if stop else 0


cdef inline void begin(long long due, int* stop) noexcept nogil:
    here().due, here().stop = due, stop


cdef bint interrupted() noexcept nogil:
    """Whether the call that this task belongs to is to end; then its results are nobody's."""
    cdef Work* work = here()
    cdef long long now
    if work.due != ASK_NEVER:
        now = fc_now()
        if work.due == ASK_LATER:
            work.due = now + PATIENCE
        elif now >= work.due and not fc_is_set(work.stop):
            ask(work.stop)
            work.due = fc_now() + PATIENCE
    return fc_is_set(work.stop)


cdef void ask(int* stop) noexcept nogil:
    """Let the interpreter handle signals, if this is the thread that handles them."""
    with gil:
        if PyErr_CheckSignals():
            fc_set(stop)


def _processors():
    """Processors this process may use: affinity, then the cgroups' quotas."""
    # The runtime asked before it bound the calling thread to one of them (OMP_PROC_BIND).
    return min(omp_get_num_procs(), *_quotas("/sys/fs/cgroup", "/proc/self/cgroup"))


def _quotas(root, membership):
    """Processors that each group which the process is in may use, from the root on."""
    groups, found = [""], [1 << 30]
    try:
        with open(membership) as file:
            for line in file:
                if line.startswith("0::"):
                    for name in line[3:].split("/"):
                        groups.append(os.path.join(groups[len(groups) - 1], name.strip()))
    except OSError:
        pass
    for group in groups:
        try:
            with open(os.path.join(root, group, "cpu.max")) as file:
                quota, period = file.read().split()[:2]
            if quota != "max":
                found.append(max(1, int(quota) // int(period)))
        except (OSError, ValueError):
            pass
    return found


def set_num_threads(int n):
    global chosen, offered
    chosen, offered = n, omp_get_max_threads()


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
