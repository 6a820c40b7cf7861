/* Range decoder (Martin 1979): 64 bits of state, 32-bit words, probabilities in units of 2^-24. It reads
   what the RangeEncoder of the library constriction writes, which labkit uses for its files. */

typedef struct {
    lk_piece bytes;
    uint64_t point, range; /* the number that was stored, above the lower end of the interval; the interval */
} lk_range;

static void lk_next_word(lk_range *coder) {
    int i;
    for (i = 0; i < 4; i++) coder->point = coder->point << 8 | lk_byte(&coder->bytes);
}

static void lk_start(lk_range *coder, lk_piece bytes) {
    coder->bytes = bytes;
    coder->point = 0;
    coder->range = UINT64_MAX;
    lk_next_word(coder);
    lk_next_word(coder);
}

/* The symbol that was stored has the probabilities from `from` to `to`. */
static void lk_narrow(lk_range *coder, uint32_t from, uint32_t to) {
    uint64_t scale = coder->range >> 24;
    coder->point -= scale * from;
    coder->range = scale * (to - from);
    if (coder->range >> 32 == 0) {
        coder->range <<= 32;
        lk_next_word(coder);
    }
}
