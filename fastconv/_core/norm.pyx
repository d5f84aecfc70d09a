# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""The passes of batch, layer and group normalisation, and of their gradients.

    y = (x - mean) / sqrt(variance + epsilon) * gamma[c] + beta[c]

All are one thing.  The channels fall into ``G`` groups, and a mean and a variance belong to each
group of each of ``NT`` tables: group normalisation has a table for each image, batch normalisation
one table for all of them, and as many groups as channels.

**Passes.**  Forward reads x for its moments, and reads it again to write y; backward reads x and dy
for two sums per channel, and again to write dx.  A ReLU costs nothing: forward stores it, backward
finds its mask in x, from the same bits.

**Walks.**  A pass walks over memory, not over shapes: over `segments` of `length` elements in which
`period` channels take turns.  Channels-last that is one segment of all pixels (or one for each
image), planar it is a plane each, of period 1.  Short rows of channels are taken together until
they fill some vectors, so that 24 channels leave no lane empty: the tables repeat, and sums are
folded in the end.

**Tasks.**  A unit is a piece of a segment, some dozens of KiB; short segments go several to a task.
Each unit leaves sums of its own, which are added in their order.  Units are cut by shape and memory
order: bits do not depend on the threads.  The last units that a pass has read are the first of
the next one.  A plane that is a unit is a row of the leaf, which takes many of them in a call.
Results are stored past the caches where a call's arrays hardly fit the last of them: not sooner,
since whoever reads them comes next.

**Samples.**  With tables of their own, images that the second cache holds are tasks: all passes of
one, the same units in the same order, before the next one is read.
"""

from libc.math cimport sqrt
from libc.stddef cimport size_t
from libc.string cimport memcpy, memset

from fastconv._core.caches cimport L2_BYTES
from fastconv._core.isa cimport FC_BY_POSITION, FC_UNIFORM, fc_norm, fc_norm_fn
from fastconv._core.threads cimport parallel_for, task_fn

# Elements of a unit; rows of one that has long rows; elements of a row that is made of short ones.
cdef Py_ssize_t UNIT = 32768, UNIT_ROWS = 64, LONGEST_ROW = 512


# ---- walks ------------------------------------------------------------------------------------

cdef Walk make_walk(
    Py_ssize_t segments, Py_ssize_t length, Py_ssize_t period, int vf
) noexcept nogil:
    cdef Walk walk
    cdef Py_ssize_t unit, times, rows
    walk.segments, walk.length, walk.period = segments, length, period
    walk.row = period
    unit = 4 * vf                 # the vectors of a leaf's strip
    while period > 1 and unit >= vf:
        times = unit // common_divisor(period, unit)
        if times * period <= LONGEST_ROW:
            walk.row = times * period
            break
        unit = unit // 4
    rows = max(UNIT // walk.row, UNIT_ROWS)
    walk.piece = rows * walk.row
    walk.pieces = (length + walk.piece - 1) // walk.piece
    walk.each = max(UNIT // max(min(walk.piece, length), 1), 1)
    return walk


cdef Py_ssize_t common_divisor(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    while b:
        a, b = b, a % b
    return a


cdef Py_ssize_t units(const Walk* walk) noexcept nogil:
    return walk.segments * walk.pieces


cdef Py_ssize_t elements(const Walk* walk, Py_ssize_t piece) noexcept nogil:
    return min(walk.piece, walk.length - piece * walk.piece)


cdef void plan_norm(Norm* run) noexcept nogil:
    """Cut the walks, and say how much memory they need."""
    cdef int vf = run.leaves.vf
    cdef Py_ssize_t channels = run.C // max(run.G, 1)
    cdef bint whole = not run.channels_last or run.NT == run.N and (run.G == 1 or run.HW == 1)
    if run.channels_last:
        run.all = make_walk(run.NT, run.N // max(run.NT, 1) * run.HW * run.C, run.C, vf)
        run.table = (run.all.row + vf - 1) // vf * vf
    else:
        run.all = make_walk(run.N * run.C, run.HW, 1, vf)
        run.table = run.C
    # A group of one image is one run of memory, or its channels have moments of their own first.
    run.groups = make_walk(run.N * run.G, channels * run.HW, 1, vf) if whole else run.all
    run.scratch_size = 2 * (max(run.all.row, run.groups.row) + run.C)


cdef int run_walk(
    Norm* run, const Walk* walk, task_fn task, fc_norm_fn leaf, int team
) except -1 nogil:
    run.walk, run.leaf = walk, leaf
    parallel_for((units(walk) + walk.each - 1) // walk.each, team, task, run)
    return 0


cdef Py_ssize_t planes_from(
    const Norm* run, const Walk* walk, Py_ssize_t unit, Py_ssize_t end
) noexcept nogil:
    """How many units from this one on, before `end`, are rows with one value of a table after the
    other."""
    return 1 if walk.pieces > 1 else min(end - unit, run.NT * run.C - unit % (run.NT * run.C))


cdef fc_norm leaf_of(
    const Norm* run, const Walk* walk, Py_ssize_t segment, Py_ssize_t at
) noexcept nogil:
    """The leaf's arguments at an element of memory, in a segment of the walk over channels."""
    cdef fc_norm leaf
    cdef Py_ssize_t t, offset
    cdef const void** tables[TABLES]
    memset(&leaf, 0, sizeof(fc_norm))
    at *= run.itemsize
    leaf.x = run.x + at
    leaf.dy = run.dy + at if run.dy != NULL else NULL
    leaf.dst = run.dst + at if run.dst != NULL else NULL
    leaf.kind = FC_UNIFORM if walk.period == 1 else FC_BY_POSITION
    leaf.relu, leaf.stream = run.relu, run.stream
    if run.tables == NULL:
        return leaf
    offset = segment * run.table if run.channels_last else segment % (run.NT * run.C)
    tables[CENTER], tables[SCALE], tables[SHIFT] = &leaf.center, &leaf.scale, &leaf.shift
    tables[TILT], tables[LEVEL] = &leaf.tilt, &leaf.level
    for t in range(TABLES):
        tables[t][0] = run.tables + (t * run.NT * run.table + offset) * run.itemsize
    return leaf


# ---- sums -------------------------------------------------------------------------------------

cdef void moments_task(void* context, Py_ssize_t number, int thread) noexcept nogil:
    cdef Norm* run = <Norm*>context
    cdef const Walk* walk = run.walk
    moments_of(run, walk, number * walk.each, min((number + 1) * walk.each, units(walk)), thread)


cdef void moments_of(
    Norm* run, const Walk* walk, Py_ssize_t unit, Py_ssize_t end, int thread
) noexcept nogil:
    """The moments of units, for each channel."""
    cdef double* scratch = run.scratch + thread * run.scratch_size
    cdef double* middle = scratch + 2 * walk.row
    cdef double* mean
    cdef double* square
    cdef Py_ssize_t at, n, rest, whole, period = walk.period, planes = 1
    cdef fc_norm leaf
    while unit < end:
        at = unit // walk.pieces * walk.length + unit % walk.pieces * walk.piece
        n = elements(walk, unit % walk.pieces)
        mean, square = run.first + unit * period, run.second + unit * period
        leaf = leaf_of(run, walk, 0, at)
        if leaf.kind == FC_UNIFORM:
            planes = planes_from(run, walk, unit, end)
            leaf.first, leaf.second = mean, square
            leaf.rows, leaf.width, leaf.step = planes, n, n
            run.leaves.moments(&leaf)
            unit += planes
            continue
        unit += 1
        whole, rest = n // walk.row, n % walk.row
        leaf.rows, leaf.width, leaf.step = whole, walk.row, walk.row
        if walk.row == period:               # nothing to fold
            leaf.first, leaf.second = mean, square
            run.leaves.moments(&leaf)
            continue
        leaf.first, leaf.second = scratch, scratch + walk.row
        if whole:
            run.leaves.moments(&leaf)
            fold_moments(scratch, scratch + walk.row, walk.row // period, period, whole,
                         mean, square)
        if rest:
            leaf.x = <const char*>leaf.x + whole * walk.row * run.itemsize
            leaf.rows, leaf.width = 1, rest
            run.leaves.moments(&leaf)
            if whole:
                fold_moments(scratch, scratch + walk.row, rest // period, period, 1,
                             middle, middle + period)
                add_moments(mean, square, whole * (walk.row // period), middle, middle + period,
                            rest // period, period)
            else:
                fold_moments(scratch, scratch + walk.row, rest // period, period, 1, mean, square)


cdef void fold_moments(
    const double* means, const double* squares, Py_ssize_t sets, Py_ssize_t period, double each,
    double* mean, double* square
) noexcept nogil:
    """Moments of `sets` sets of `each` values become those of all of them, for each channel."""
    cdef Py_ssize_t c, i
    cdef double away, share = 1.0 / <double>sets
    for c in range(period):
        mean[c] = square[c] = 0
    for i in range(sets):
        for c in range(period):
            mean[c] += means[i * period + c]
    for c in range(period):
        mean[c] *= share
    for i in range(sets):
        for c in range(period):
            away = means[i * period + c] - mean[c]
            square[c] += squares[i * period + c] + each * away * away


cdef void add_moments(
    double* mean, double* square, double n, const double* other, const double* other_square,
    double m, Py_ssize_t period
) noexcept nogil:
    """Moments of n values become those of these and m others, for each channel."""
    cdef Py_ssize_t c
    cdef double away, share = m / (n + m)
    for c in range(period):
        away = other[c] - mean[c]
        mean[c] += away * share
        square[c] += other_square[c] + away * away * n * share


cdef void statistics_task(void* context, Py_ssize_t number, int thread) noexcept nogil:
    """Mean and variance of one group, from the moments of its units."""
    cdef Norm* run = <Norm*>context
    cdef const Walk* walk = &run.groups
    cdef Py_ssize_t segment, step, end, piece, c, c0 = 0, channels = 1, i
    cdef double n, count = 0, mean = 0, square = 0, away
    if walk.period == 1:                     # segments are groups of images
        segment, step, end = number, run.NT * run.G, walk.segments
    else:                                    # groups of channels of a table
        segment, step, end = number // run.G, 1, number // run.G + 1
        channels = run.C // run.G
        c0 = number % run.G * channels
    cdef Py_ssize_t s = segment
    while s < end:
        for piece in range(walk.pieces):
            n = elements(walk, piece) // walk.period
            i = (s * walk.pieces + piece) * walk.period
            for c in range(c0, c0 + channels):
                mean += n * run.first[i + c]
            count += n * channels
        s += step
    if count == 0:
        return
    mean /= count
    s = segment
    while s < end:
        for piece in range(walk.pieces):
            n = elements(walk, piece) // walk.period
            i = (s * walk.pieces + piece) * walk.period
            for c in range(c0, c0 + channels):
                away = run.first[i + c] - mean
                square += run.second[i + c] + n * away * away
        s += step
    square /= count
    put(run.mean, number, run.itemsize, mean)
    put(run.variance, number, run.itemsize, 0 if square < 0 else square)


cdef void sums_task(void* context, Py_ssize_t number, int thread) noexcept nogil:
    cdef Norm* run = <Norm*>context
    cdef const Walk* walk = run.walk
    sums_of(run, walk, number * walk.each, min((number + 1) * walk.each, units(walk)), thread)


cdef void sums_of(
    Norm* run, const Walk* walk, Py_ssize_t unit, Py_ssize_t end, int thread
) noexcept nogil:
    """The sums of dz and of dz * (x - center) of units, for each channel."""
    cdef double* scratch = run.scratch + thread * run.scratch_size
    cdef double* first
    cdef double* second
    cdef Py_ssize_t at, n, i, c, turn, period = walk.period, planes = 1
    cdef fc_norm leaf
    while unit < end:
        at = unit // walk.pieces * walk.length + unit % walk.pieces * walk.piece
        n = elements(walk, unit % walk.pieces)
        leaf = leaf_of(run, walk, unit // walk.pieces, at)
        leaf.first, leaf.second, leaf.step = scratch, scratch + walk.row, walk.row
        first, second = run.first + unit * period, run.second + unit * period
        if leaf.kind == FC_UNIFORM:
            planes = planes_from(run, walk, unit, end)
            leaf.first, leaf.second = first, second
            leaf.rows, leaf.width, leaf.step = planes, n, n
            run.leaves.norm_sums(&leaf)
            unit += planes
            continue
        unit += 1
        for c in range(period):
            first[c] = second[c] = 0
        for turn in range(2):                # whole rows, then what is left
            leaf.rows = n // walk.row if turn == 0 else 1
            leaf.width = walk.row if turn == 0 else n % walk.row
            if leaf.rows == 0 or leaf.width == 0:
                continue
            run.leaves.norm_sums(&leaf)
            for i in range(leaf.width // period):
                for c in range(period):
                    first[c] += scratch[i * period + c]
                    second[c] += scratch[walk.row + i * period + c]
            leaf.x = <const char*>leaf.x + leaf.rows * walk.row * run.itemsize
            leaf.dy = <const char*>leaf.dy + leaf.rows * walk.row * run.itemsize


# ---- results ----------------------------------------------------------------------------------

cdef void results_task(void* context, Py_ssize_t number, int thread) noexcept nogil:
    """Results of a pass, from the last unit to the first: the last ones are still in the caches."""
    cdef Norm* run = <Norm*>context
    cdef const Walk* walk = run.walk
    cdef Py_ssize_t end = units(walk) - number * walk.each
    results_of(run, walk, run.leaf, max(end - walk.each, 0), end)


cdef void results_of(
    const Norm* run, const Walk* walk, fc_norm_fn results, Py_ssize_t unit, Py_ssize_t end
) noexcept nogil:
    """The results of units, from the last one on."""
    cdef Py_ssize_t at, n, planes = 1, all_planes = run.NT * run.C
    cdef fc_norm leaf
    while end > unit:
        if walk.pieces == 1 and walk.period == 1:
            planes = min(end - unit, (end - 1) % all_planes + 1)
        end -= planes
        at = end // walk.pieces * walk.length + end % walk.pieces * walk.piece
        n = elements(walk, end % walk.pieces)
        leaf = leaf_of(run, walk, end // walk.pieces, at)
        if leaf.kind == FC_UNIFORM:
            leaf.rows, leaf.width, leaf.step = planes, n, n
            results(&leaf)
            continue
        leaf.rows, leaf.width, leaf.step = n // walk.row, walk.row, walk.row
        if leaf.rows:
            results(&leaf)
        if n % walk.row:
            at += n // walk.row * walk.row
            leaf = leaf_of(run, walk, end // walk.pieces, at)
            leaf.rows, leaf.width, leaf.step = 1, n % walk.row, n % walk.row
            results(&leaf)
    if run.stream:
        run.leaves.fence()


cdef char* table_of(const Norm* run, int which, Py_ssize_t t) noexcept nogil:
    return run.tables + (which * run.NT + t) * run.table * run.itemsize


cdef void tables_task(void* context, Py_ssize_t t, int thread) noexcept nogil:
    """What the forward pass asks of a table: center, scale and shift."""
    cdef Norm* run = <Norm*>context
    cdef Py_ssize_t g, at, each = run.C // run.G
    cdef int size = run.itemsize
    for g in range(run.G):
        at = g * each * size
        fill_group(table_of(run, CENTER, t) + at, table_of(run, SCALE, t) + at, run.gamma + at,
                   get(run.mean, t * run.G + g, size), inverse_deviation(run, t * run.G + g),
                   each, size)
    memcpy(table_of(run, SHIFT, t), run.beta, <size_t>(run.C * size))
    for g in range(SHIFT + 1):
        repeat(run, g, t)


cdef void fill_group(
    char* center, char* scale, const char* gamma, double mean, double factor, Py_ssize_t n, int size
) noexcept nogil:
    cdef Py_ssize_t c
    if size == 4:
        for c in range(n):
            (<float*>center)[c] = <float>mean
            (<float*>scale)[c] = <float>((<const float*>gamma)[c] * factor)
    else:
        for c in range(n):
            (<double*>center)[c] = mean
            (<double*>scale)[c] = (<const double*>gamma)[c] * factor


cdef double inverse_deviation(const Norm* run, Py_ssize_t g) noexcept nogil:
    return 1 / sqrt(get(run.variance, g, run.itemsize) + run.epsilon)


cdef void repeat(const Norm* run, int which, Py_ssize_t t) noexcept nogil:
    """Fill the rest of a table's row with the values of its channels."""
    cdef char* table = table_of(run, which, t)
    cdef Py_ssize_t i
    if run.channels_last:
        for i in range(run.C, run.all.row):
            put(table, i, run.itemsize, get(table, i - run.C, run.itemsize))


cdef void gradient_tables_task(void* context, Py_ssize_t t, int thread) noexcept nogil:
    """Tilt and level of a table, from its sums, which are gathered in the first units on the way.

        dx = scale * dz + tilt * (x - center) + level
    """
    cdef Norm* run = <Norm*>context
    cdef Py_ssize_t c, g, each = run.C // run.G
    cdef int size = run.itemsize
    cdef double n = <double>run.N / run.NT * each * run.HW, factor, gamma, first, second
    gather_sums(run, t)
    for g in range(run.G):
        factor = inverse_deviation(run, t * run.G + g)
        first = second = 0
        for c in range(g * each, (g + 1) * each):
            gamma = get(run.gamma, c, size)
            first += gamma * run.first[sums_at(run, t, c)]
            second += gamma * run.second[sums_at(run, t, c)]
        for c in range(g * each, (g + 1) * each):
            put(table_of(run, TILT, t), c, size, -factor * factor * factor * second / n)
            put(table_of(run, LEVEL, t), c, size, -factor * first / n)
    for c in range(TILT, LEVEL + 1):
        repeat(run, c, t)


cdef inline Py_ssize_t sums_at(const Norm* run, Py_ssize_t t, Py_ssize_t c) noexcept nogil:
    """Where the first unit of a table and channel has its sums."""
    if run.channels_last:
        return t * run.all.pieces * run.C + c
    return (t * run.C + c) * run.all.pieces


cdef void gather_sums(Norm* run, Py_ssize_t t) noexcept nogil:
    """Add up all units of each channel of a table, in the place of the first one."""
    cdef Py_ssize_t pieces = run.all.pieces, unit = pieces * run.C, c, i, n, at
    cdef Py_ssize_t images = 1 if run.channels_last or run.NT > 1 else run.N
    cdef double* first = run.first + t * unit
    cdef double* second = run.second + t * unit
    if run.channels_last:
        for i in range(1, pieces):
            for c in range(run.C):
                first[c] += first[i * run.C + c]
                second[c] += second[i * run.C + c]
        return
    for n in range(images):
        for c in range(run.C):
            at = n * unit + c * pieces
            for i in range(1 if n == 0 else 0, pieces):
                first[c * pieces] += first[at + i]
                second[c * pieces] += second[at + i]


cdef void add_tables(const Norm* run, char* dgamma, char* dbeta) noexcept nogil:
    """The gradients of gamma and beta: sums of all tables, in their order."""
    cdef Py_ssize_t t, c, at
    cdef double first, second
    for c in range(run.C):
        first = second = 0
        for t in range(run.NT):
            at = sums_at(run, t, c)
            first += run.first[at]
            second += run.second[at] * inverse_deviation(run, t * run.G + c // (run.C // run.G))
        put(dgamma, c, run.itemsize, second)
        put(dbeta, c, run.itemsize, first)


# ---- passes -----------------------------------------------------------------------------------

cdef int write_normalized(Norm* run, bint find, int team) except -1 nogil:
    """y, with what `find` says first: mean and variance of every group of every table."""
    if by_samples(run, team):
        run.find = find
        return parallel_for(run.NT, team, normalize_sample, run)
    if find:
        run_walk(run, &run.groups, moments_task, NULL, team)
        parallel_for(run.NT * run.G, team, statistics_task, run)
    parallel_for(run.NT, team, tables_task, run)
    return run_walk(run, &run.all, results_task, run.leaves.normalize, team)


cdef int write_gradients(Norm* run, char* dgamma, char* dbeta, int team) except -1 nogil:
    """The gradients of gamma and beta, and of x where there is a place for it."""
    if by_samples(run, team):
        parallel_for(run.NT, team, gradient_of_sample, run)
        add_tables(run, dgamma, dbeta)
        return 0
    parallel_for(run.NT, team, tables_task, run)
    run_walk(run, &run.all, sums_task, NULL, team)
    parallel_for(run.NT, team, gradient_tables_task, run)
    add_tables(run, dgamma, dbeta)
    if run.dst != NULL:
        run_walk(run, &run.all, results_task, run.leaves.norm_gradient, team)
    return 0


cdef bint by_samples(const Norm* run, int team) noexcept nogil:
    """Whether a thread has samples of its own, each of which stays in the second cache."""
    return run.NT >= 2 * team and run.C * run.HW * run.itemsize <= L2_BYTES


cdef void normalize_sample(void* context, Py_ssize_t t, int thread) noexcept nogil:
    cdef Norm* run = <Norm*>context
    cdef Py_ssize_t each = units(&run.groups) // run.NT, g
    if run.find:
        moments_of(run, &run.groups, t * each, (t + 1) * each, thread)
        for g in range(t * run.G, (t + 1) * run.G):
            statistics_task(run, g, thread)
    tables_task(run, t, thread)
    each = units(&run.all) // run.NT
    results_of(run, &run.all, run.leaves.normalize, t * each, (t + 1) * each)


cdef void gradient_of_sample(void* context, Py_ssize_t t, int thread) noexcept nogil:
    cdef Norm* run = <Norm*>context
    cdef Py_ssize_t each = units(&run.all) // run.NT
    tables_task(run, t, thread)
    sums_of(run, &run.all, t * each, (t + 1) * each, thread)
    gradient_tables_task(run, t, thread)
    if run.dst != NULL:
        results_of(run, &run.all, run.leaves.norm_gradient, t * each, (t + 1) * each)
