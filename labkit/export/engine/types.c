typedef struct { /* a run of bytes of the payload, and how the symbols in it are coded */
    uint8_t coder, bits;
    uint32_t start, end;
} lk_piece;

enum { LK_RAW, LK_HUFFMAN, LK_RANGE }; /* coders; bits is the width of a raw symbol */
enum { LK_DENSE, LK_BITMAP, LK_RELATIVE, LK_CONTEXT }; /* layouts */

typedef struct {
    int32_t rows, columns;                  /* the weights of an output (channel) are a row */
    int32_t kernel_h, kernel_w, groups;     /* a convolution; kernel_h is 0 for a linear layer */
    int32_t stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
    int32_t in_h, in_w, out_h, out_w;       /* of one channel, before max-pooling */
    int32_t pool_h, pool_w, pool_stride_h, pool_stride_w, pool_pad_h, pool_pad_w, pooled_h, pooled_w;
    int32_t zero_in, zero_out, low, high;   /* the zero points of input and output, the limits of the output */
    const int32_t *bias;                    /* one per row; 0 if every bias is 0 */
    const uint32_t *multiplier;             /* to the grid of the next layer; 0 in the last layer, which gives sums */
    const uint8_t *shift;
    uint8_t per_row;                        /* 1: a multiplier for each row; 0: one for all */
    uint8_t streamed;                       /* 1: weights are used while they are decoded, and never stored */
    uint32_t first;                         /* where in memory the other weights are */
    uint8_t layout, turned;
    int32_t stride;                         /* of the layout context */
    int32_t kept, lowest, longest;          /* of the other layouts: number of values, the smallest, the longest gap */
    lk_piece index, values;
} lk_layer;
