/* ukernels.h - the contract between the loop nests and the leaves that use vector registers.
 *
 * A leaf is a pure function of the pointers and extents it is given: it allocates nothing, starts
 * no thread, cannot fail, and knows no convolution.  All strides and offsets are counted in
 * elements of the leaf's own type (float or double), never in bytes.  README.md has the pictures.
 */
#ifndef FC_UKERNELS_H
#define FC_UKERNELS_H

#include <stddef.h>
#include <stdint.h>

enum {
    FC_MAX_MR = 14,  /* rows of the largest register tile, any tier            */
    FC_MAX_NR = 4,   /* vectors in a row of the widest register tile, any tier */
    FC_LANEWISE_NR = 2, /* vectors in a row of the widest lane-wise tile       */
    FC_SLIDE = 3,       /* rows that hand vectors on, taps read at once (lane-wise) */
    FC_LONG_SLIDE = 5,  /* or so many taps                                        */
    FC_ASKS = 2,        /* stretches of memory that a tile asks for              */
    FC_ASK_LINES = 8,   /* lines asked for at a time                              */
    FC_LINE_BYTES = 64, /* of a cache line                                       */
    FC_ROOF_FMAS = 12,  /* chains of the loop that measures the peak              */
    FC_MAX_TIERS = 4 /* tiers that one processor may run                      */
};

/* Outer-product tile.  For p < MR rows and NR vectors of VF lanes:
 *
 *   acc[p][l] = sum over it < nt, iu < nu, ik < nk of
 *               a[a_off[p] + it*a_t + iu*a_u + ik*a_k]  *  b[it*b_t + iu*b_u + ik*b_k + l]
 *
 * The sum runs in that order (it outermost).  Whole vectors of b are read.  Then
 *
 *   c[c_off[p] + l] = relu?( (accumulate ? c[c_off[p] + l] : 0) + acc[p][l]
 *                            + lane_bias[l] + row_bias[p] )          for l < lanes
 *
 * where either bias may be NULL and (NR-1)*VF < lanes <= NR*VF: nothing past `lanes` is touched.
 *
 * A call computes n such tiles, one after the other, and moves a, b and c by a_n, b_n and c_n after
 * each.
 *
 * Before each run of ik it asks for ask_lines lines of memory of either stretch, ask_step bytes apart,
 * to come into the L2 cache: a hint, which may reach past an array.  Where nu is 1, an outer product
 * asks for FC_ASK_LINES at a time.
 */
typedef struct {
    const void *a, *b;
    void *c;
    const ptrdiff_t *a_off, *c_off;
    ptrdiff_t a_t, a_u, a_k;
    ptrdiff_t b_t, b_u, b_k;
    ptrdiff_t nt, nu, nk;
    ptrdiff_t n, a_n, b_n, c_n;
    const char *ask[FC_ASKS]; /* see below */
    ptrdiff_t ask_step[FC_ASKS], ask_lines;
    ptrdiff_t a_ahead, b_ahead; /* so far behind what it reads a lane-wise tile asks for more */
    const void *lane_bias; /* NR*VF values */
    const void *row_bias;  /* MR values    */
    ptrdiff_t lanes;
    int accumulate;
    int relu;
    int stream; /* c goes past the caches: every c + c_off[p] is aligned to a vector, and a leaf
                   `fence` follows before anyone reads it */
} fc_tile;

typedef void (*fc_tile_fn)(fc_tile *t);

/* Lane-wise tile: the same but for the product, in which lane l of `a` meets lane l of `b`:
 *
 *   a[a_off[p] + it*a_t + iu*a_u + ik*a_k + l]  *  b[it*b_t + iu*b_u + ik*b_k + l]
 *
 * Whole vectors of a are read too. */

/* Products of rows with rows:
 *
 *   c[r*c_row + o] = relu?( (accumulate ? c[r*c_row + o] : 0)
 *                           + (sum over k < n of a[r*a_row + k] * b[o*b_row + k]) + bias[o] )
 *
 * for r < rows, o < cols; `bias` may be NULL. */
typedef struct {
    const void *a, *b, *bias;
    void *c;
    ptrdiff_t a_row, b_row, c_row;
    ptrdiff_t rows, cols, n;
    int accumulate, relu;
} fc_dots;

typedef void (*fc_dots_fn)(const fc_dots *d);

/* dst[at(c)*dst_row + r] = src[r*src_row + c]  for r < rows, c < cols,
 * where at(c) = order[c], or c when order is NULL. */
typedef void (*fc_transpose_fn)(void *dst, ptrdiff_t dst_row, const ptrdiff_t *order,
                                const void *src, ptrdiff_t src_row, ptrdiff_t rows, ptrdiff_t cols);

/* dst[p*dst_step + i] = src[p*src_step + index[i]]  for p < pixels, i < n.
 *
 * `index` is NULL, for i itself, or ascends, is of the type's size (int32_t for float, int64_t for
 * double) and is read in whole vectors.  Of the pixels src[0] to src[room - 1] may be read, and what
 * lies between them; of dst, in which the pixels ascend, all up to the last one's end may be
 * overwritten meanwhile. */
typedef void (*fc_gather_fn)(void *dst, ptrdiff_t dst_step, const void *src, ptrdiff_t src_step,
                             ptrdiff_t pixels, const void *index, ptrdiff_t n, ptrdiff_t room);

/* dst[i] += src[i]  for i < n. */
typedef void (*fc_add_fn)(void *dst, const void *src, ptrdiff_t n);

/* Functions of single elements, NaN kept.  Sums are of a and b.  A gradient is a = dy times the
 * slope, which it finds in b: the result of relu, leaky_relu, sigmoid and tanh, the argument of the
 * others. */
enum {
    FC_ADD,
    FC_ADD_RELU,
    FC_RELU,
    FC_RELU_BACKWARD,
    FC_LEAKY_RELU,
    FC_LEAKY_RELU_BACKWARD,
    FC_SIGMOID,
    FC_SIGMOID_BACKWARD,
    FC_TANH,
    FC_TANH_BACKWARD,
    FC_SILU,
    FC_SILU_BACKWARD,
    FC_GELU,
    FC_GELU_BACKWARD,
    FC_GELU_TANH,
    FC_GELU_TANH_BACKWARD,
    FC_MAPS
};

/* dst[i] = f(a[i], b[i])  for i < n.  Those of one argument take b NULL; `number` is the slope of
 * leaky_relu.  dst may be a or b. */
typedef void (*fc_map_fn)(void *dst, const void *a, const void *b, ptrdiff_t n, double number);

/* n neighbouring windows of a max pooling over `channels` channels, nt x nu taps:
 *
 *   y[j*channels + c] = max over it, iu of  x[j*x_n + it*x_t + iu*x_u + c]         (NaN wins)
 *   with the number     index + j*index_n + it*index_t + iu*index_u                 of the tap
 *
 * that won, the first of equals, in `taps` or `indices` at y's position where one is not NULL.
 * Reads stay below x_room, writes below y_room, elements counted from x and y on; up to there the
 * values after a pixel's own may be overwritten. */
typedef struct {
    const void *x;
    void *y;
    int32_t *indices;
    uint8_t *taps;
    ptrdiff_t n, channels;
    ptrdiff_t nt, nu, x_n, x_t, x_u;
    int32_t index, index_n, index_t, index_u;
    ptrdiff_t x_room, y_room;
} fc_pool;

typedef void (*fc_max_pool_fn)(const fc_pool *p);

/* dx[indices[i]*channels + c] += dy[i]  for the pixels x channels of dy, channels innermost.
 * Stops at the first index outside [0, plane) and returns its position, else -1. */
typedef ptrdiff_t (*fc_unpool_fn)(void *dx, const void *dy, const int32_t *indices,
                                  ptrdiff_t pixels, ptrdiff_t channels, ptrdiff_t plane);

/* Asks for `bytes` from p on to come into the L2 cache; a hint, which may reach past an array. */
typedef void (*fc_prefetch_fn)(const void *p, ptrdiff_t bytes);

/* Makes what tiles have streamed visible to all threads. */
typedef void (*fc_fence_fn)(void);

/* The gradient of max pooling on rows of pixels that windows see alike.  For r < rows, p < pixels,
 * c < channels:
 *
 *   dx[r*dx_row + p*dx_step + c] = sum over q < windows, of dy[i] where taps[i] == tap[q]
 *                                  (and y[i] > 0), with i = window[q] + r*row + p*channels + c,
 *
 * in that order, from 0 on.  `y` may be NULL.  Reads of dy, y and taps stay below `room`. */
typedef struct {
    void *dx;
    const void *dy, *y;
    const uint8_t *taps;
    const ptrdiff_t *window, *tap;
    ptrdiff_t pixels, channels, dx_step, windows, room;
    ptrdiff_t rows, dx_row, row;
} fc_unpool;

typedef void (*fc_unpool_pixels_fn)(const fc_unpool *p);

/* The largest of n taps, or 0. */
typedef int (*fc_most_fn)(const uint8_t *taps, ptrdiff_t n);

/* One step of an optimizer on n elements, with g = grad * scale cut to [-limit, limit]:
 *
 *   sgd      g += decay * value;  first = momentum * first + g;
 *            value -= rate * (first, or with nesterov g + momentum * first, or g if first is NULL)
 *   adam     first += new1 * (g - first);  second += new2 * (g * g - second);
 *            value = value * (1 - decay) - rate * first / (sqrt(second) + epsilon)
 *   rmsprop  g += decay * value;  second += new2 * (g * g - second);
 *            g /= sqrt(second) + epsilon;  first = momentum * first + g;
 *            value -= rate * (first, or g if it is NULL) */
typedef struct {
    void *value, *first, *second;
    const void *grad;
    ptrdiff_t n;
    double rate, momentum, new1, new2, epsilon, decay;
    double scale, limit;
    int nesterov;
} fc_step;

typedef void (*fc_step_fn)(const fc_step *s);

/* Sum of x[i]^2  for i < n, in double. */
typedef double (*fc_square_sum_fn)(const void *x, ptrdiff_t n);

/* dst[i] = by[0] * x[i]  for i < n. */
typedef void (*fc_scale_fn)(void *dst, const void *x, const void *by, ptrdiff_t n);

/* Cross entropy of `rows` rows of scores, with its gradient.  Row r wants the distribution
 * spread[c] + (own[r] at labels[r]), whose sum is own[r] + spread_sum.  With z = x - max x:
 *
 *   sums[r] = sum of exp(z);  scores[r] = own[r] * z[labels[r]] + sum of spread * z;
 *   dst = scale * weights[r] * (exp(z) / sums[r] * (own[r] + spread_sum) - what r wants)
 *
 * `spread` may be NULL.  A row of weight 0 is not read: its dst is 0, its sum 1, its score 0. */
typedef struct {
    void *dst;
    const void *x, *spread;
    const int64_t *labels;
    const double *weights, *own;
    double *sums, *scores;
    ptrdiff_t rows, classes;
    double scale, spread_sum;
} fc_softmax_loss;

typedef void (*fc_softmax_loss_fn)(const fc_softmax_loss *s);

/* `rows` rows of softmax, or of its logarithm with `log`.  For every row:
 *
 *   softmax            dst = exp(a - max a) / sum of exp(a - max a)           (log: its logarithm)
 *   softmax_backward   dst = b * (a - sum of a * b)            (log: a - exp(b) * sum of a)
 *
 * where for the gradient a = dy and b is the result. */
typedef struct {
    void *dst;
    const void *a, *b;
    ptrdiff_t rows, classes;
    int log;
} fc_softmax;

typedef void (*fc_softmax_fn)(const fc_softmax *s);

/* n outputs, each a weighted sum of a few inputs of `channels` values.  For j < n, c < channels:
 *
 *   y[j*channels + c] = (sum over start[j] <= t < start[j + 1] of
 *                        weight[t] * input(index[t]*pitch + c)) / (divisor[j] * divide)
 *   input(i)          = x[i], or, with `row`:
 *                       sum over r < rows of row_weight[r] * x[i + row[r]*row_pitch]
 *
 * summed in this order; without inputs it is `fill`.  `divisor` NULL: nothing is divided.  With
 * `stream` y, which is aligned then, goes past the caches where a vector is whole. */
typedef struct {
    const void *x;
    void *y;
    const ptrdiff_t *start, *index;
    const void *weight, *divisor;
    double divide, fill;
    ptrdiff_t n, channels, pitch;
    const ptrdiff_t *row;
    const void *row_weight;
    ptrdiff_t rows, row_pitch;
    int stream;
} fc_mix;

typedef void (*fc_mix_fn)(const fc_mix *m);

/* `rows` rows of n values, each a weighted sum of a few values of a row x[r] of `source` values.
 * Vectors of VF values lie side by side, but that the last one ends with the row.  Vector v is made
 * in the slots first[v] <= s < first[v + 1].  In each of them a lane l of place[s*VF + l] >= 0
 *
 *   becomes, with FC_BEGINS in kind[s],  weight[s*VF + l] * x[r][base[s] + place[s*VF + l]]
 *   or has this added.
 *
 * With FC_IN_ORDER there, place is l in each lane l.  base[s] + VF <= source, where there are so
 * many.  From vector v on, run[v] are copies of neighbours (weight 1), each going on where the one
 * before it ends; with 0 the vector is none.  Lanes without inputs are `fill`.  At last all are
 * divided by their divisor[] * divide[r], unless `divisor` is NULL.  `stream` as above, but for such
 * runs.  Rows are made four at a time, or `alone`, as memory likes it where they are long copies. */
enum { FC_BEGINS = 1, FC_IN_ORDER = 2 };

typedef struct {
    const void *const *x;
    void *y;
    const ptrdiff_t *first, *base, *run;
    const uint8_t *kind;
    const void *place, *weight, *divisor, *divide;
    double fill;
    ptrdiff_t rows, n, source;
    int stream, alone;
} fc_mix_rows;

typedef void (*fc_mix_rows_fn)(const fc_mix_rows *m);

/* A transform of Winograd's convolution (winograd.inc.h), for each of `lanes` channels:
 *
 *   data     n x n pixels                           to n x n values
 *   spread   size x size taps, size + 1 <= n        to n x n values
 *   fold     n x n products of these                to size x size results, bias added, ReLU applied
 *
 * n is 4 with size 2 or 3, or 6 with size 3 or 4.  Element (i, j) lies at i*src_h + j*src_w; pixels
 * and taps outside of [h0, h1) x [w0, w1) are not read and count as 0, results outside of
 * [0, h1) x [0, w1) are not written.  Values and products, and the bias, are read and written in
 * whole vectors. */
typedef struct {
    const void *src, *bias;
    void *dst;
    ptrdiff_t src_h, src_w, dst_h, dst_w;
    ptrdiff_t h0, h1, w0, w1;
    ptrdiff_t lanes;
    int n, size;
    int relu, stream; /* as in fc_tile */
} fc_winograd;

typedef void (*fc_winograd_fn)(const fc_winograd *w);

/* The passes of a normalisation over `rows` rows of `width` positions, `step` elements apart.
 * With z = (x - center) * scale + shift and dz = dy (where z > 0, with relu; else 0):
 *
 *   moments        first = mean of the rows' x;  second = sum of (x - first)^2
 *   normalize      dst = relu?(z)
 *   norm_sums      first = sum of the rows' dz;  second = sum of dz * (x - center)
 *   norm_gradient  dst = dz * scale + (x - center) * tilt + level
 *
 * By `kind`, tables, and `first` and `second`, have
 *
 *   FC_BY_POSITION  a value for each position (tables may be read in whole vectors)
 *   FC_UNIFORM      a value for each row, which is one channel's
 *   FC_BY_ROW       scale and shift a value for each position, all others one: there is one row,
 *                   with moments of its own.  `by` is a factor of scale.  The sums are of
 *                   dz * scale * by; dz_sums and dz_products, a value for each position, get dz and
 *                   dz * (x - center) * by added.
 *
 * With `stream` dst goes past the caches where it is aligned, and a leaf `fence` follows before
 * anyone reads it. */
enum { FC_BY_POSITION, FC_UNIFORM, FC_BY_ROW };

typedef struct {
    void *dst;
    const void *x, *dy;
    const void *center, *scale, *shift, *tilt, *level, *by;
    double *first, *second;
    void *dz_sums, *dz_products;
    ptrdiff_t rows, width, step;
    int kind, relu, stream;
} fc_norm;

typedef void (*fc_norm_fn)(const fc_norm *s);

/* Dropout of `rows` rows of `width` elements, `step` elements apart.  Element l of row r has the
 * number first + r*row_number + l*lane_number, which is hashed with the key, all modulo 2^32:
 *
 *   dst = hash >= threshold ? scale * x : 0 */
typedef struct {
    void *dst;
    const void *x;
    ptrdiff_t rows, width, step;
    uint32_t first, row_number, lane_number;
    uint32_t key[2], threshold;
    double scale;
} fc_dropout;

typedef void (*fc_dropout_fn)(const fc_dropout *s);

/* Losses of one value x and its target t, with d = x - t:
 *
 *   FC_SQUARED   d^2
 *   FC_HUBER     d^2 / 2 where |d| <= delta, else delta * (|d| - delta / 2)
 *   FC_LOGISTIC  by * t * softplus(-x) + (1 - t) * softplus(x), softplus(x) = log(1 + exp(x))
 *
 * A leaf returns the sum over n values and leaves dst = scale * derivative.  `by` may be NULL: 1.
 * `outside` becomes 1 when FC_LOGISTIC meets a target outside [0, 1]. */
enum { FC_SQUARED, FC_HUBER, FC_LOGISTIC, FC_LOSSES };

typedef struct {
    void *dst;
    const void *x, *t, *by;
    ptrdiff_t n;
    double scale, delta;
    int outside;
} fc_loss;

typedef double (*fc_loss_fn)(fc_loss *s);

/* n rounds of FC_ROOF_FMAS independent vector FMAs in registers: the peak to measure tiles by. */
typedef double (*fc_roof_fn)(ptrdiff_t n);

/* What one tier offers for one type. */
typedef struct fc_leaves {
    int vf;                /* lanes in a vector                                 */
    int registers;         /* vectors that a core has names for                 */
    int max_mr[FC_MAX_NR]; /* most rows of a tile of NR = index + 1 vectors     */
    fc_tile_fn tile[FC_MAX_NR][FC_MAX_MR]; /* [NR - 1][MR - 1]; NULL past max_mr */
    fc_tile_fn lanewise[FC_LANEWISE_NR][FC_MAX_MR];
    fc_transpose_fn transpose;
    fc_transpose_fn transpose_stream; /* past the caches: order NULL, dst aligned, see fence */
    fc_gather_fn gather;
    fc_add_fn add;
    fc_map_fn map[FC_MAPS];
    fc_max_pool_fn max_pool;
    fc_unpool_fn unpool;
    fc_roof_fn roof;
    fc_fence_fn fence;
    fc_prefetch_fn prefetch;
    const struct fc_leaves *narrow; /* the same in vectors of half the size, or NULL */
    fc_unpool_pixels_fn unpool_pixels;
    fc_most_fn most;
    fc_dots_fn dots;
    fc_step_fn sgd, adam, rmsprop;
    fc_square_sum_fn square_sum;
    fc_softmax_loss_fn softmax_loss;
    fc_softmax_fn softmax;
    fc_softmax_fn softmax_backward;
    fc_loss_fn loss[FC_LOSSES];
    fc_scale_fn scale;
    fc_mix_fn mix;
    fc_mix_rows_fn mix_rows;
    fc_winograd_fn winograd_data, winograd_spread, winograd_fold;
    fc_norm_fn moments;
    fc_norm_fn normalize;
    fc_norm_fn norm_sums;
    fc_norm_fn norm_gradient;
    fc_dropout_fn dropout;
} fc_leaves;

typedef struct {
    const char *name;
    const fc_leaves *f32, *f64;
} fc_isa;

/* Fills `found` with the tiers that this processor runs, best first, and returns their number. */
int fc_detect(const fc_isa *found[FC_MAX_TIERS]);

/* Whether a vector of the widest tier costs as much as two narrow ones, so that nothing is lost
 * with those where loads are not aligned. */
int fc_wide_is_two_narrow(void);

/* The calling thread's rounding and treatment of denormals, as a number without a meaning to others;
 * the same with denormals taken for zero (no other where the processor cannot); and a new one for
 * this thread, which returns the one before. */
uint64_t fc_float_mode(void);
uint64_t fc_flushed(uint64_t mode);
uint64_t fc_set_float_mode(uint64_t mode);

#endif
