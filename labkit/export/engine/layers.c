/* Layers in integers: sums += weight * (input - zero point), then the grid of the next layer (Jacob et al. 2018). */

/* Add the products of one weight to the sums of its row: one sum, or one for each pixel of a convolution's output. */
static void lk_add(const lk_layer *l, const uint8_t *input, int32_t row, int32_t column, int32_t weight,
                   int32_t *sums) {
#if LK_HAS_CONVOLUTION
    if (l->kernel_h) {
        int32_t area = l->kernel_h * l->kernel_w, per_group = l->columns / area, x, y;
        int32_t channel = row / (l->rows / l->groups) * per_group + column / area;
        int32_t down = column % area / l->kernel_w * l->dilation_h - l->pad_h;
        int32_t right = column % l->kernel_w * l->dilation_w - l->pad_w, from = 0, to = l->out_w;
        while (from < to && from * l->stride_w + right < 0) from++; /* padding is the zero point: it adds 0 */
        while (from < to && (to - 1) * l->stride_w + right >= l->in_w) to--;
        for (y = 0; y < l->out_h; y++) {
            int32_t in_y = y * l->stride_h + down;
            const uint8_t *line;
            if (in_y < 0 || in_y >= l->in_h) continue;
            line = input + (channel * l->in_h + in_y) * l->in_w;
            for (x = from; x < to; x++)
                sums[y * l->out_w + x] += weight * (line[x * l->stride_w + right] - l->zero_in);
        }
        return;
    }
#endif
    (void)row;
    sums[0] += weight * (input[column] - l->zero_in);
}

/* What is done with each weight that a decoder finds. */
static void lk_weight(const lk_layer *l, const uint8_t *input, int32_t row, int32_t column, int32_t weight) {
    if (LK_STREAMED(l)) lk_add(l, input, row, column, weight, lk_memory.sums + row * l->out_h * l->out_w);
    else lk_memory.weights[l->first + (uint32_t)(row * l->columns + column)] = (int8_t)weight;
}
