/* softmax.inc.h - softmax, its gradients and its cross entropy, a row at a time; once per type and
 * tier.
 *
 * A row is read once: what comes after finds it in the first cache.
 */

/* One row: dst = exp(x - most), and the sum of that; lanes past n are not touched. */
static double FC_N(softmax_row)(T *dst, const T *x, ptrdiff_t n, double *most_)
{
    const T lowest = -(T)__builtin_inf();
    T part[VF];
    ptrdiff_t i = 0;
    V tail = (V){0} + lowest, most = tail, sum = {0};
    const ptrdiff_t whole = n / VF * VF;
    if (whole < n) {
        for (int l = 0; l < VF; l++) part[l] = whole + l < n ? x[whole + l] : lowest;
        tail = most = FC_N(load)(part);
    }
    for (i = 0; i < whole; i += VF) {
        const V v = FC_N(load)(x + i);
        const FC_N(ivec) take = v > most;
        most = (V)(((FC_N(ivec))v & take) | ((FC_N(ivec))most & ~take));
    }
    T m = lowest;
    for (int l = 0; l < VF; l++) m = most[l] > m ? most[l] : m;
    for (i = 0; i < whole; i += VF) {
        const V e = FC_N(exp)(FC_N(load)(x + i) - m);
        FC_N(store)(dst + i, e);
        sum += e;
    }
    double total = 0;
    for (int l = 0; l < VF; l++) total += sum[l];
    if (whole < n) {
        FC_N(store)(part, FC_N(exp)(tail - m));
        for (i = whole; i < n; i++) {
            dst[i] = part[i - whole];
            total += part[i - whole];
        }
    }
    *most_ = m;
    return total;
}

/* Sum of spread * (x - most); what is not wanted at all may be infinitely unlikely. */
static double FC_N(spread_row)(const T *spread, const T *x, ptrdiff_t n, T most)
{
    V sum = {0};
    double total = 0;
    ptrdiff_t i = 0;
    for (; i + VF <= n; i += VF) {
        const V share = FC_N(load)(spread + i), score = share * (FC_N(load)(x + i) - most);
        sum += (V)((FC_N(ivec))score & (share > 0));
    }
    for (; i < n; i++) total += spread[i] > 0 ? spread[i] * (x[i] - most) : 0;
    for (int l = 0; l < VF; l++) total += sum[l];
    return total;
}

static void FC_N(softmax_loss)(const fc_softmax_loss *s)
{
    const ptrdiff_t n = s->classes;
    const T *spread = (const T *)s->spread;
    for (ptrdiff_t r = 0; r < s->rows; r++) {
        T *dst = (T *)s->dst + r * n;
        const T *x = (const T *)s->x + r * n;
        const ptrdiff_t label = s->labels[r];
        const double weight = s->scale * s->weights[r], own = s->own[r];
        const double wanted = own + s->spread_sum;
        double most;
        s->sums[r] = 1;
        s->scores[r] = 0;
        if (weight == 0) {
            for (ptrdiff_t i = 0; i < n; i++) dst[i] = 0;
            continue;
        }
        const double sum = FC_N(softmax_row)(dst, x, n, &most);
        const double score = x[label], e = dst[label];
        const T scale = (T)(weight * wanted / sum);
        double spread_score = 0;
        if (spread) {
            spread_score = FC_N(spread_row)(spread, x, n, (T)most);
            for (ptrdiff_t i = 0; i < n; i++) dst[i] = dst[i] * scale - spread[i] * (T)weight;
            dst[label] = (T)((e / sum * wanted - spread[label] - own) * weight);
        } else {
            for (ptrdiff_t i = 0; i < n; i++) dst[i] *= scale;
            dst[label] = (T)((e / sum * wanted - own) * weight);
        }
        s->sums[r] = sum;
        s->scores[r] = (own > 0 ? own * (score - most) : 0) + spread_score;
    }
}

static void FC_N(softmax)(const fc_softmax *s)
{
    const ptrdiff_t n = s->classes;
    for (ptrdiff_t r = 0; r < s->rows; r++) {
        T *dst = (T *)s->dst + r * n;
        const T *x = (const T *)s->a + r * n;
        double most;
        const double sum = FC_N(softmax_row)(dst, x, n, &most);
        if (s->log) {
            const T top = (T)most, rest = (T)__builtin_log(sum);
            for (ptrdiff_t i = 0; i < n; i++) dst[i] = (x[i] - top) - rest;
        } else {
            const T scale = (T)(1 / sum);
            for (ptrdiff_t i = 0; i < n; i++) dst[i] *= scale;
        }
    }
}

static void FC_N(softmax_backward)(const fc_softmax *s)
{
    const ptrdiff_t n = s->classes, whole = n / VF * VF, rest = n - whole;
    const V one = (V){0} + 1;
    const FC_N(ivec) product = (FC_N(ivec)){0} - !s->log;
    for (ptrdiff_t r = 0; r < s->rows; r++) {
        T *dst = (T *)s->dst + r * n;
        const T *dy = (const T *)s->a + r * n, *y = (const T *)s->b + r * n;
        /* Four, since an addition waits for the one before. */
        V sums[4] = {{0}, {0}, {0}, {0}}, d = {0}, v = {0};
        T part[VF];
        double sum = 0;
        ptrdiff_t i = 0;
        for (; i + 4 * VF <= n; i += 4 * VF) {
            FC_UNROLL
            for (int a = 0; a < 4; a++) {
                __builtin_prefetch(dst + i + a * VF, 1); /* the lines that are stored to next */
                sums[a] += FC_N(load)(dy + i + a * VF)
                           * FC_N(choose)(product, FC_N(load)(y + i + a * VF), one);
            }
        }
        for (; i < whole; i += VF)
            sums[0] += FC_N(load)(dy + i) * FC_N(choose)(product, FC_N(load)(y + i), one);
        if (rest) {
            d = FC_N(load_part)(dy + whole, rest);
            v = FC_N(load_part)(y + whole, rest);
            sums[1] += d * FC_N(choose)(product, v, one);
        }
        FC_N(store)(part, (sums[0] + sums[1]) + (sums[2] + sums[3]));
        for (int l = 0; l < VF; l++) sum += part[l];
        const T all = (T)sum;
        for (i = 0; i < n; i += VF) {
            if (i < whole) {
                d = FC_N(load)(dy + i);
                v = FC_N(load)(y + i);
                __builtin_prefetch(dy + n + i); /* the next row's, a hint: there may be none */
                __builtin_prefetch(y + n + i);
            } else {
                d = FC_N(load_part)(dy + i, rest);
                v = FC_N(load_part)(y + i, rest);
            }
            const V dx = s->log ? d - FC_N(exp)(v) * all : v * (d - all);
            if (i < whole)
                FC_N(store)(dst + i, dx);
            else
                FC_N(store_part)(dst + i, dx, rest);
        }
    }
}
