static void lk_decode(const lk_layer *l, const uint8_t *input) {
#if LK_HAS_CONTEXT
    if (l->layout == LK_CONTEXT) {
        lk_read_context(l, input);
        return;
    }
#endif
#if LK_HAS_SYMBOLS
    lk_read_symbols(l, input);
#endif
}

/* round(sum * multiplier / 2^shift) + zero point, halves upwards, within the limits. C leaves open how a negative
   number is shifted to the right, so its complement is. */
static uint8_t lk_requantized(const lk_layer *l, int32_t row, int32_t sum) {
    int32_t i = l->per_row ? row : 0;
    int64_t y = sum * (int64_t)l->multiplier[i] + ((int64_t)1 << (l->shift[i] - 1));
    y = (y < 0 ? ~(~y >> l->shift[i]) : y >> l->shift[i]) + l->zero_out;
    return (uint8_t)(y < l->low ? l->low : y > l->high ? l->high : y);
}

/* Max-pooling of a row's sums, its bias, and the next grid. The largest sum has the largest output. */
static void lk_finish(const lk_layer *l, int32_t row, const int32_t *sums, uint8_t *output, int32_t *logits) {
    int32_t at = row * l->pooled_h * l->pooled_w, x, y, i, j;
    for (y = 0; y < l->pooled_h; y++)
        for (x = 0; x < l->pooled_w; x++, at++) {
            int32_t largest = INT32_MIN;
            for (i = 0; i < l->pool_h; i++)
                for (j = 0; j < l->pool_w; j++) {
                    int32_t sum_y = y * l->pool_stride_h + i - l->pool_pad_h;
                    int32_t sum_x = x * l->pool_stride_w + j - l->pool_pad_w;
                    if (sum_y < 0 || sum_y >= l->out_h || sum_x < 0 || sum_x >= l->out_w) continue;
                    if (sums[sum_y * l->out_w + sum_x] > largest) largest = sums[sum_y * l->out_w + sum_x];
                }
            if (l->bias) largest += l->bias[row];
            if (l->multiplier) output[at] = lk_requantized(l, row, largest);
            else logits[at] = largest < l->low ? l->low : largest;
        }
}

static void lk_apply(const lk_layer *l, const uint8_t *input, uint8_t *output, int32_t *logits) {
    int32_t map = l->out_h * l->out_w, row, i;
    if (LK_STREAMED(l)) {
        for (i = 0; i < l->rows * map; i++) lk_memory.sums[i] = 0;
        lk_decode(l, input);
        for (row = 0; row < l->rows; row++) lk_finish(l, row, lk_memory.sums + row * map, output, logits);
        return;
    }
#ifndef LK_UNPACK
    for (i = 0; i < l->rows * l->columns; i++) lk_memory.weights[i] = 0;
    lk_decode(l, input);
#endif
    for (row = 0; row < l->rows; row++) {
        const int8_t *weights = lk_memory.weights + l->first + (uint32_t)(row * l->columns);
        for (i = 0; i < map; i++) lk_memory.sums[i] = 0;
        for (i = 0; i < l->columns; i++)
            if (weights[i]) lk_add(l, input, row, i, weights[i], lk_memory.sums);
        lk_finish(l, row, lk_memory.sums, output, logits);
    }
}

void lk_infer(const uint8_t *input, int32_t *logits) {
    int i;
#ifdef LK_UNPACK
    for (i = 0; i < LK_LAYERS && !lk_memory.ready; i++) lk_decode(&lk_layers[i], 0);
    lk_memory.ready = 1;
#endif
    for (i = 0; i < LK_LAYERS; i++) {
        uint8_t *output = i % 2 ? lk_memory.odd : lk_memory.even;
        lk_apply(&lk_layers[i], input, output, logits);
        input = output;
    }
}

/* The first class with the largest logit. */
int lk_classify(const uint8_t *input) {
    int32_t logits[LK_LOGITS];
    int i, best = 0;
    lk_infer(input, logits);
    for (i = 1; i < LK_LOGITS; i++)
        if (LK_SCORE(i) > LK_SCORE(best)) best = i;
    return best;
}
#if LK_HAS_PIXELS

void lk_quantize(const uint8_t *pixels, uint8_t *input) {
    int32_t i;
    for (i = 0; i < LK_INPUTS; i++) input[i] = LK_PIXEL(i, pixels[i]);
}
#endif
