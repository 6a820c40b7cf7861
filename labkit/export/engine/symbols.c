/* Symbols in fixed width, in canonical Huffman codes (Huffman 1952) or range-coded under a stored histogram; and the
   layouts that are made of them. */

/* The next 32 bits. */
static uint32_t lk_look(lk_stream *s) {
    while (s->left < 32) {
        s->window = s->window << 8 | lk_byte(&s->piece);
        s->left += 8;
    }
    return (uint32_t)(s->window >> (s->left - 32));
}

static uint32_t lk_bits(lk_stream *s, int bits) {
    uint32_t value = bits ? lk_look(s) >> (32 - bits) : 0;
    s->left -= bits;
    return value;
}

#if LK_HAS_TABLES
/* The last i with table[i] <= value. */
static int32_t lk_find(const lk_stream *s, uint32_t value) {
    int32_t low = 0, high = s->n;
    while (high - low > 1) {
        int32_t middle = (low + high) / 2;
        if (s->table[middle] <= value) low = middle;
        else high = middle;
    }
    return low;
}
#endif

#if LK_HAS_HUFFMAN
/* Code lengths to codes: short codes first, then by symbol; one of l bits owns 2^(32 - l) numbers. */
static void lk_huffman_table(lk_stream *s, const uint16_t *lengths) {
    uint32_t begin = 0;
    int32_t symbol, n = 0;
    int length;
    for (length = 1; length <= 32; length++)
        for (symbol = 0; symbol < s->n; symbol++)
            if (lengths[symbol] == length) {
                s->symbol[n] = (uint8_t)symbol;
                s->length[n] = (uint8_t)length;
                s->table[n++] = begin;
                begin += (uint32_t)1 << (32 - length);
            }
    s->only = (uint32_t)s->n - 1;
    s->n = n;
}
#endif

#if LK_HAS_RANGE
/* A histogram of small floats, 1 + k * steps + m for (1 + m / steps) * 2^k, to probabilities in units of 2^-24. */
static void lk_range_table(lk_stream *s, const uint16_t *stored, uint32_t steps) {
    uint32_t total = 0, sum = 0;
    int32_t symbol, n = s->n;
    lk_real scale;
    for (symbol = 0; symbol < n; symbol++) {
        uint32_t entry = stored[symbol];
        s->table[symbol] = entry ? (steps + (entry - 1) % steps) << (entry - 1) / steps : 0;
        total += s->table[symbol];
        if (entry) s->only = (uint32_t)symbol;
    }
    if (s->table[s->only] == total) {
        s->n = 0;
        return;
    }
    scale = lk_over(lk_rounded(((uint32_t)1 << 24) - (uint32_t)n, 0), total);
    for (symbol = 0; symbol < n; symbol++) {
        uint32_t share = s->table[symbol];
        s->table[symbol] = (sum ? lk_product(scale, sum) : 0) + (uint32_t)symbol;
        sum += share;
    }
    s->table[n] = (uint32_t)1 << 24;
}
#endif

static void lk_open(lk_stream *s, lk_piece piece) {
#if LK_HAS_TABLES
    uint16_t entries[LK_ALPHABET];
    uint32_t start;
    int32_t i;
    int how;
#endif
    s->piece = piece;
    s->left = 0;
    s->window = 0;
    s->only = 0;
#if LK_HAS_TABLES
    if (piece.coder == LK_RAW) return;
    s->n = lk_byte(&s->piece); /* the last symbol, in one byte or two, with 7 bits in each */
    if (s->n > 127) s->n += (lk_byte(&s->piece) - 1) * 128;
    s->n++;
    how = lk_byte(&s->piece);
    start = s->piece.start + ((uint32_t)s->n * (how & 31) + 7) / 8;
    for (i = 0; i < s->n; i++) entries[i] = (uint16_t)lk_bits(s, how & 31);
    s->piece.start = start;
    s->left = 0;
#if LK_HAS_HUFFMAN
    if (piece.coder == LK_HUFFMAN) lk_huffman_table(s, entries);
#endif
#if LK_HAS_RANGE
    if (piece.coder == LK_RANGE) {
        lk_range_table(s, entries, (uint32_t)1 << (how >> 5));
        lk_start(&s->range, s->piece);
    }
#endif
    if (s->n == 0) { /* a single symbol takes no bits */
        s->piece.coder = LK_RAW;
        s->piece.bits = 0;
    }
#endif
}

static int32_t lk_symbol(lk_stream *s) {
#if LK_HAS_HUFFMAN
    if (s->piece.coder == LK_HUFFMAN) {
        int32_t i = lk_find(s, lk_look(s));
        s->left -= s->length[i];
        return s->symbol[i];
    }
#endif
#if LK_HAS_RANGE
    if (s->piece.coder == LK_RANGE) {
        int32_t i = lk_find(s, (uint32_t)(s->range.point / (s->range.range >> 24)));
        lk_narrow(&s->range, s->table[i], s->table[i + 1]);
        return i;
    }
#endif
    return (int32_t)(s->only + lk_bits(s, s->piece.bits));
}

/* Weights row by row: all of them, or gaps of zeros and the values after them. */
static void lk_read_symbols(const lk_layer *l, const uint8_t *input) {
    lk_stream *index = &lk_memory.index, *values = &lk_memory.values;
    int32_t row = 0, column = 0, left = l->kept;
    if (l->layout != LK_DENSE) lk_open(index, l->index);
    lk_open(values, l->values);
    while (left > 0) {
        int32_t gap = 0, value;
        if (l->layout == LK_BITMAP)
            while (!lk_symbol(index)) gap++;
        if (l->layout == LK_RELATIVE) gap = lk_symbol(index);
        column += gap;
        if (l->layout == LK_RELATIVE && gap == l->longest) continue; /* the gap goes on */
        while (column >= l->columns) {
            column -= l->columns;
            row++;
        }
        value = lk_symbol(values) + l->lowest;
        if (l->layout != LK_DENSE && l->lowest < 0 && value >= 0) value++; /* no stored value is 0 */
        lk_weight(l, input, row, column++, value);
        left--;
    }
}
