/* Context-modelled weights: a sparse matrix, column by column. A few yes-or-no questions are asked of each weight (is
   it kept; is it positive; is its magnitude above 1, above 2, ...), and their probabilities come from counts in the
   same neighbourhood so far. Only the last stride + 2 columns are held, in a ring, so that a matrix can be used while
   it is decoded. See labkit/store/context.py. */

enum { LK_KEPT = 0, LK_POSITIVE = 513, LK_ABOVE = 584 }; /* where the contexts of each question begin */

static const lk_real lk_kept_first = {0x147ae147ae147b, 58};     /* 0.02, before anything is counted */
static const lk_real lk_positive_first = {0x10000000000000, 53}; /* 0.5 */
static const lk_real lk_above_first = {0x13333333333333, 54};    /* 0.3 */

typedef struct { /* a column and its neighbours: the one before it, and those a stride before */
    int8_t *here;
    const int8_t *beside[4];
    int32_t rows, n_near, crowd; /* crowd: the class of the number of kept weights in the neighbours */
} lk_column;

/* One context of each of three sizes: all that is asked, a coarse class of `n`, a fine class. */
static void lk_contexts(int32_t *contexts, int32_t first, int32_t n, int32_t coarse, int32_t fine) {
    contexts[0] = first;
    contexts[1] = first + 1 + coarse;
    contexts[2] = first + 1 + n + fine;
}

static void lk_learn(const int32_t *contexts, int answer, uint32_t times) {
    int i;
    for (i = 0; i < 3; i++) lk_memory.counts[contexts[i]][answer] += times;
}

/* The probability of a yes: (yes + trust * that of the coarser context) / (all + trust). */
static lk_real lk_yes(const int32_t *contexts, lk_real share, uint32_t trust) {
    int i, bits, drop;
    for (i = 0; i < 3; i++) {
        const uint32_t *seen = lk_memory.counts[contexts[i]];
        share = lk_rounded(share.m * trust, share.e);
        if (seen[1]) { /* the sum in fixed point; its last bit stands for those that do not fit */
            uint64_t part = 0, rest = 1;
            for (bits = 60; seen[1] >> (60 - bits);) bits--;
            drop = share.e - bits;
            if (drop <= 0) part = share.m << -drop;
            else if (drop < 64) part = share.m >> drop;
            if (drop < 64) rest = drop <= 0 ? 0 : share.m & (((uint64_t)1 << drop) - 1);
            share = lk_rounded((((uint64_t)seen[1] << bits) + part) | (rest != 0), bits);
        }
        share = lk_over(share, seen[0] + seen[1] + trust);
    }
    return share;
}

/* The probability of a no in units of 2^-24, of a yes clipped to 2^-16 and 1 - 2^-16. */
static uint32_t lk_no(lk_real yes) {
    int drop = yes.e - 53;
    uint64_t rest;
    if (drop > 15 || drop < 0 || (drop == 0 && yes.m >> 37 == 0xffff)) {
        yes.m = (uint64_t)(drop > 15 ? 1 : 0xffff) << 37;
        drop = 0;
    }
    rest = (yes.m << 1) & (((uint64_t)2 << drop) - 1);
    yes.m = ((uint64_t)1 << 53) - (yes.m >> drop);
    yes.m -= rest > (uint64_t)1 << drop || (rest == (uint64_t)1 << drop && (yes.m & 1)); /* halves to even */
    yes.e = 53;
    return lk_product(yes, ((uint32_t)1 << 24) - 2) + 1;
}

static int lk_answer(lk_range *coder, uint32_t no) {
    int yes = coder->point >= (coder->range >> 24) * no;
    lk_narrow(coder, yes ? no : 0, yes ? (uint32_t)1 << 24 : no);
    return yes;
}

/* How many of seven limits a value reaches. */
static int32_t lk_class(int32_t value, const int32_t *limits) {
    int32_t i = 0;
    while (i < 7 && value >= limits[i]) i++;
    return i;
}

/* Which weights of a column are kept. What is counted changes at the end of the column only, so the probability in
   each context is computed once. Returns the number of kept weights; `total` is that of the columns before. */
static int32_t lk_places(const lk_column *c, lk_range *coder, int32_t total) {
    static const uint8_t busy[7] = {1, 2, 4, 6, 10, 16, 32}; /* kept weights of a row over the mean, in eighths */
    int32_t limits[7], contexts[3], i, r, yes, kept = 0;
    for (i = 0; i < 7; i++)
        limits[i] = (busy[i] * (total + c->rows / 4 + 1) + 6 * c->rows - 1) / (8 * c->rows);
    for (i = 0; i < LK_CLASSES; i++) lk_memory.no[i] = lk_memory.tally[i][0] = lk_memory.tally[i][1] = 0;
    for (r = 0; r < c->rows; r++) {
        int32_t beside = 2 * (c->beside[0][r] != 0) + 2 * (c->beside[1][r] != 0);
        int32_t at = lk_class(lk_memory.in_row[r], limits);
        if (c->n_near == 4) beside += (c->beside[2][r] != 0) + (c->beside[3][r] != 0);
        i = at * LK_NEAR + beside;
        if (!lk_memory.no[i]) {
            lk_contexts(contexts, LK_KEPT, 64, c->crowd * 8 + at, (c->crowd * 8 + at) * LK_NEAR + beside);
            lk_memory.no[i] = lk_no(lk_yes(contexts, lk_kept_first, 6));
        }
        yes = lk_answer(coder, lk_memory.no[i]);
        c->here[r] = (int8_t)yes;
        lk_memory.tally[i][yes]++;
        lk_memory.in_row[r] = (uint16_t)(lk_memory.in_row[r] + yes);
        kept += yes;
    }
    for (i = 0; i < LK_CLASSES; i++) {
        int32_t coarse = c->crowd * 8 + i / LK_NEAR;
        if (!lk_memory.no[i]) continue; /* not asked in this column */
        lk_contexts(contexts, LK_KEPT, 64, coarse, coarse * LK_NEAR + i % LK_NEAR);
        lk_learn(contexts, 0, lk_memory.tally[i][0]);
        lk_learn(contexts, 1, lk_memory.tally[i][1]);
    }
    return kept;
}

/* The contexts of one weight for its sign (step 0) or for "is the magnitude above `step`". */
static void lk_value_contexts(int32_t *contexts, const lk_column *c, int32_t r, int32_t step) {
    int32_t i, sum = 0, largest = 0, pair = 4;
    for (i = 0; i < c->n_near; i++) {
        int32_t value = c->beside[i][r], size = value < 0 ? -value : value, sign = (value > 0) - (value < 0);
        sum += sign;
        if (i < 2) pair += i ? sign : 3 * sign;
        if (size > largest) largest = size < 3 ? size : 3;
    }
    sum = sum < -3 ? 0 : sum > 3 ? 6 : sum + 3;
    if (step) lk_contexts(contexts, LK_ABOVE + 21 * (step - 1), 4, largest, largest * 4 + c->crowd / 2);
    else lk_contexts(contexts, LK_POSITIVE, 7, sum, sum * 9 + pair);
}

/* Signs and magnitudes of the kept weights, one question for all of them at a time. */
static void lk_values(const lk_column *c, lk_range *coder) {
    int32_t step, r, contexts[3], open = 1;
    int learning;
    for (step = 0; step <= LK_STEPS && open; step++)
        for (open = 0, learning = 0; learning < 2; learning++)
            for (r = 0; r < c->rows; r++) {
                int32_t value = c->here[r], size = value < 0 ? -value : value;
                if (!size || size < step) continue;
                lk_value_contexts(contexts, c, r, step);
                if (learning) lk_learn(contexts, step ? size > step : value > 0, 1);
                else if (lk_answer(coder, lk_no(lk_yes(contexts, step ? lk_above_first : lk_positive_first, 3))))
                    c->here[r] = (int8_t)(step ? value + (value > 0 ? 1 : -1) : 1);
                else if (!step) c->here[r] = -1;
                open |= !step || size > step;
            }
}

static void lk_read_context(const lk_layer *l, const uint8_t *input) {
    static const int32_t crowded[7] = {1, 3, 6, 10, 16, 26, 42}; /* kept weights in the neighbours, in halves */
    int32_t rows = l->turned ? l->columns : l->rows, columns = l->turned ? l->rows : l->columns;
    int32_t slots = l->stride + 2, total = 0, i, j, r;
    lk_range places, values;
    lk_column c;
    c.rows = rows;
    c.n_near = l->stride > 2 ? 4 : 2;
    for (i = 0; i < LK_CONTEXTS; i++) lk_memory.counts[i][0] = lk_memory.counts[i][1] = 0;
    for (i = 0; i < slots; i++) lk_memory.in_column[i] = 0;
    for (i = 0; i < rows; i++) lk_memory.in_row[i] = 0;
    for (i = 0; i < slots * rows; i++) lk_memory.ring[i] = 0;
    lk_start(&places, l->index);
    lk_start(&values, l->values);
    for (j = 0; j < columns; j++) {
        int32_t back[4], kept, crowd = 0;
        back[0] = 1;
        back[1] = l->stride;
        back[2] = l->stride + 1;
        back[3] = l->stride - 1;
        for (i = 0; i < c.n_near; i++) {
            int32_t slot = (j + slots - back[i]) % slots;
            c.beside[i] = lk_memory.ring + slot * rows;
            crowd += lk_memory.in_column[slot];
        }
        c.here = lk_memory.ring + j % slots * rows;
        c.crowd = lk_class(2 * crowd / c.n_near, crowded);
        kept = lk_places(&c, &places, total);
        lk_memory.in_column[j % slots] = (uint16_t)kept;
        total += kept;
        if (!kept) continue;
        lk_values(&c, &values);
        for (r = 0; r < rows; r++)
            if (c.here[r]) lk_weight(l, input, l->turned ? j : r, l->turned ? r : j, c.here[r]);
    }
}
