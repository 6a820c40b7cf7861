/* Real numbers m * 2^-e, with m of 53 bits. The probabilities in a file come from the formulas of IEEE doubles; these
   routines repeat them, rounding included, with integers. So no floating point is needed, and every processor and
   every compiler flag gives the same probabilities. */

typedef struct {
    uint64_t m;
    int e;
} lk_real;

/* To 53 bits, halves to even. If m has more than 54 bits, its last bit may stand for all that follow. */
static lk_real lk_rounded(uint64_t m, int e) {
    lk_real real;
    uint64_t rest;
    while (m >> 63 == 0) {
        m <<= 1;
        e++;
    }
    rest = m & 2047;
    m >>= 11;
    if (rest > 1024 || (rest == 1024 && (m & 1))) m++;
    real.m = m >> 53 ? m >> 1 : m;
    real.e = m >> 53 ? e - 12 : e - 11;
    return real;
}

/* a / n, n at least 2: two steps of a long division. */
static lk_real lk_over(lk_real a, uint32_t n) {
    uint64_t m = a.m << 11, rest = m % n;
    int bits = 0;
    while (n >> (bits + 1)) bits++;
    m = (m / n) << bits | (rest << bits) / n;
    return lk_rounded(m | ((rest << bits) % n != 0), a.e + 11 + bits);
}

/* The whole part of a * n, rounded to a double before it is cut off; a * n is below 2^24, a.e at least 29. */
static uint32_t lk_product(lk_real a, uint32_t n) {
    uint64_t low = (a.m & 0x1fffffff) * n, high = (a.m >> 29) * n + (low >> 29), fraction;
    uint32_t whole = (uint32_t)(high >> (a.e - 29));
    int bits = 0, half;
    while (whole >> bits) bits++;
    half = bits + a.e - 54; /* half of the last place of the double is 2^half in units of 2^-e */
    fraction = (high & (((uint64_t)1 << (a.e - 29)) - 1)) << 29 | (low & 0x1fffffff);
    return whole + (half >= 0 && (fraction + ((uint64_t)1 << half)) >> a.e ? 1 : 0);
}
