from fastconv._core.isa cimport fc_leaves, fc_norm_fn

cdef enum:
    CENTER = 0
    SCALE = 1
    SHIFT = 2
    TILT = 3
    LEVEL = 4
    TABLES = 5

cdef struct Walk:
    Py_ssize_t segments, length, period
    Py_ssize_t row                # elements that the leaf takes as a row: whole periods
    Py_ssize_t piece, pieces      # elements of a unit, units of a segment
    Py_ssize_t each               # units of a task

cdef struct Norm:
    const fc_leaves* leaves
    int itemsize
    bint channels_last, relu, stream
    bint find                     # mean and variance first
    Py_ssize_t N, C, HW, G, NT
    Walk all                      # over channels
    Walk groups                   # over what has a mean of its own
    const Walk* walk              # the one of the pass under way
    fc_norm_fn leaf
    char* dst
    const char* x
    const char* dy
    const char* gamma
    const char* beta
    char* mean                    # NT x G
    char* variance
    double epsilon
    double* first                 # of each unit and channel of the walk
    double* second
    double* scratch               # of each thread
    Py_ssize_t scratch_size
    char* tables                  # TABLES x NT x table
    Py_ssize_t table

cdef inline double get(const char* values, Py_ssize_t i, int itemsize) noexcept nogil:
    return (<const float*>values)[i] if itemsize == 4 else (<const double*>values)[i]

cdef inline void put(char* values, Py_ssize_t i, int itemsize, double value) noexcept nogil:
    if itemsize == 4:
        (<float*>values)[i] = <float>value
    else:
        (<double*>values)[i] = value

cdef double inverse_deviation(const Norm* run, Py_ssize_t g) noexcept nogil
cdef void plan_norm(Norm* run) noexcept nogil
cdef Py_ssize_t units(const Walk* walk) noexcept nogil
cdef int write_normalized(Norm* run, bint find, int team) except -1 nogil
cdef int write_gradients(Norm* run, char* dgamma, char* dbeta, int team) except -1 nogil
