/* Bytes of the payload. A stream is followed by as many zeros as its reader asks for. */

static uint8_t lk_byte(lk_piece *piece) {
    return piece->start < piece->end ? lk_payload[piece->start++] : 0;
}
