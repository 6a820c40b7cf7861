/* All memory that changes: no more than LK_RAM bytes, or this does not compile. */

#if LK_HAS_SYMBOLS
typedef struct {
    lk_piece piece;
    uint64_t window; /* its last `left` bits have not been used yet */
    int left;
    uint32_t only; /* added to a symbol of fixed width: the symbol that a stream of 0 bits repeats */
#if LK_HAS_TABLES
    int32_t n;
    uint32_t table[LK_ALPHABET + 1]; /* where the interval of each symbol begins, in units of 2^-32 or 2^-24 */
    uint8_t symbol[LK_ALPHABET], length[LK_ALPHABET];
#endif
#if LK_HAS_RANGE
    lk_range range;
#endif
} lk_stream;
#endif

#if LK_HAS_CONTEXT
enum { LK_NEAR = 7, LK_CLASSES = 8 * LK_NEAR }; /* contexts of a column: by neighbours, by row */
#endif

static struct {
#if LK_HAS_SYMBOLS
    lk_stream index, values;
#endif
    int32_t sums[LK_SUMS];
#if LK_HAS_CONTEXT
    uint32_t counts[LK_CONTEXTS][2]; /* how often a no and a yes came in each context */
    uint32_t tally[LK_CLASSES][2], no[LK_CLASSES]; /* the same in the present column; probabilities of a no */
    uint16_t in_row[LK_ROWS], in_column[LK_SLOTS]; /* kept weights of each row and of the last columns */
    int8_t ring[LK_RING]; /* the last columns */
#endif
    uint8_t even[LK_EVEN], odd[LK_ODD]; /* what layers 0, 2, ... and 1, 3, ... give */
    int8_t weights[LK_WEIGHTS];
#ifdef LK_UNPACK
    uint8_t ready;
#endif
} lk_memory;

typedef char lk_memory_is_within_ram[sizeof(lk_memory) <= LK_RAM ? 1 : -1];
