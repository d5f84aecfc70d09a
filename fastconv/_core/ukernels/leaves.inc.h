/* leaves.inc.h - the leaves of one tier for one type, and the table that names them. */

#include "vec.inc.h"
#include "transpose.inc.h"
#include "gather.inc.h"
#include "tile.inc.h"
#include "dots.inc.h"
#include "elementwise.inc.h"
#include "pool.inc.h"
#include "roof.inc.h"
#include "update.inc.h"
#include "exp.inc.h"
#include "softmax.inc.h"
#include "map.inc.h"
#include "mix.inc.h"
#include "winograd.inc.h"
#include "norm.inc.h"
#include "loss.inc.h"
#include "dropout.inc.h"

FC_ROWS_1(FC_TILE, 1)
FC_ROWS_2(FC_TILE, 2)
FC_ROWS_3(FC_TILE, 3)
FC_ROWS_4(FC_TILE, 4)
FC_ROWS_1(FC_LANEWISE_TILE, 1)
FC_ROWS_2(FC_LANEWISE_TILE, 2)
#undef FC_TILE
#undef FC_SLIDES
#undef FC_LANEWISE_TILE

#define FC_ENTRY(mr, nr) FC_N(tile_##mr##x##nr),
#define FC_LANEWISE(mr, nr) FC_N(lanewise_##mr##x##nr),
#define FC_COUNT(mr, nr) +1
const fc_leaves FC_N(leaves);
#ifdef FC_NARROW
extern const fc_leaves FC_N2(leaves, FC_TYPE, FC_NARROW);
#endif
const fc_leaves FC_N(leaves) = {
    .vf = VF,
    .registers = FC_REGISTERS,
    .max_mr = {0 FC_ROWS_1(FC_COUNT, 1), 0 FC_ROWS_2(FC_COUNT, 2), 0 FC_ROWS_3(FC_COUNT, 3),
               0 FC_ROWS_4(FC_COUNT, 4)},
    .tile = {{FC_ROWS_1(FC_ENTRY, 1)}, {FC_ROWS_2(FC_ENTRY, 2)}, {FC_ROWS_3(FC_ENTRY, 3)},
             {FC_ROWS_4(FC_ENTRY, 4)}},
    .lanewise = {{FC_ROWS_1(FC_LANEWISE, 1)}, {FC_ROWS_2(FC_LANEWISE, 2)}},
    .transpose = FC_N(transpose),
    .transpose_stream = FC_N(transpose_stream),
    .gather = FC_N(gather),
    .add = FC_N(add),
    .map = {
        [FC_ADD] = FC_N(map_add),
        [FC_ADD_RELU] = FC_N(map_add_relu),
        [FC_RELU] = FC_N(map_relu),
        [FC_RELU_BACKWARD] = FC_N(map_relu_backward),
        [FC_LEAKY_RELU] = FC_N(map_leaky_relu),
        [FC_LEAKY_RELU_BACKWARD] = FC_N(map_leaky_relu_backward),
        [FC_SIGMOID] = FC_N(map_sigmoid),
        [FC_SIGMOID_BACKWARD] = FC_N(map_sigmoid_backward),
        [FC_TANH] = FC_N(map_tanh),
        [FC_TANH_BACKWARD] = FC_N(map_tanh_backward),
        [FC_SILU] = FC_N(map_silu),
        [FC_SILU_BACKWARD] = FC_N(map_silu_backward),
        [FC_GELU] = FC_N(map_gelu),
        [FC_GELU_BACKWARD] = FC_N(map_gelu_backward),
        [FC_GELU_TANH] = FC_N(map_gelu_tanh),
        [FC_GELU_TANH_BACKWARD] = FC_N(map_gelu_tanh_backward),
    },
    .max_pool = FC_N(max_pool),
    .unpool = FC_N(unpool),
    .roof = FC_N(roof),
    .fence = FC_N(fence),
    .prefetch = FC_N(prefetch),
#ifdef FC_NARROW
    .narrow = &FC_N2(leaves, FC_TYPE, FC_NARROW),
#endif
    .unpool_pixels = FC_N(unpool_pixels),
    .most = FC_N(most),
    .dots = FC_N(dots),
    .sgd = FC_N(sgd),
    .adam = FC_N(adam),
    .rmsprop = FC_N(rmsprop),
    .square_sum = FC_N(square_sum),
    .softmax_loss = FC_N(softmax_loss),
    .softmax = FC_N(softmax),
    .softmax_backward = FC_N(softmax_backward),
    .loss = {FC_N(squared_loss), FC_N(huber_loss), FC_N(logistic_loss)},
    .scale = FC_N(scale),
    .mix = FC_N(mix),
    .mix_rows = FC_N(mix_rows),
    .winograd_data = FC_N(winograd_data),
    .winograd_spread = FC_N(winograd_spread),
    .winograd_fold = FC_N(winograd_fold),
    .moments = FC_N(moments),
    .normalize = FC_N(normalize),
    .norm_sums = FC_N(norm_sums),
    .norm_gradient = FC_N(norm_gradient),
    .dropout = FC_N(dropout),
};
#undef FC_COUNT
#undef FC_ENTRY
#undef FC_LANEWISE
#undef V
