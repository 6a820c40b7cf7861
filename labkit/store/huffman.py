"""Huffman codes (Huffman 1952) in canonical form: the lengths alone determine the codes."""

import heapq

import numpy as np

from labkit.store import packing
from labkit.store._wire import Bytes

_MAX_LENGTH = 32  # bits of a code, because the reader looks at 32 bits at a time
_CHUNK = 1 << 17  # bytes that the reader processes at a time, to bound memory


def huffman_lengths(counts: np.ndarray) -> np.ndarray:
    """Code length in bits of each symbol, 0 where it does not occur: join the two rarest until one is left.

    Huffman (1952). A single symbol needs no bits at all. Lengths are limited to 32 bits by flattening extreme counts.
    """
    lengths = np.zeros(counts.size, np.int64)
    heap = [(int(counts[s]), int(s), [int(s)]) for s in np.flatnonzero(counts)]  # (count, tie-break, symbols below)
    heapq.heapify(heap)
    while len(heap) > 1:
        rarest, next_rarest = heapq.heappop(heap), heapq.heappop(heap)
        below = rarest[2] + next_rarest[2]
        lengths[below] += 1
        heapq.heappush(heap, (rarest[0] + next_rarest[0], rarest[1], below))
    return lengths if lengths.max(initial=0) <= _MAX_LENGTH else huffman_lengths((counts + 1) // 2)


def huffman_size(counts: np.ndarray) -> int:
    """Bytes of `huffman_encode`, exactly: its table of lengths, then Σ counts · lengths bits."""
    if not counts.sum():
        return 0
    lengths = huffman_lengths(counts)
    return packing.table_size(lengths) + packing.bytes_for(int(counts @ lengths), 1)


def huffman_encode(symbols: np.ndarray, counts: np.ndarray | None = None) -> bytes:
    """The table of code lengths, then each symbol's canonical code; `counts` of the symbols, if the caller knows."""
    if not symbols.size:
        return b""
    lengths = huffman_lengths(packing.counts_of(symbols) if counts is None else counts)
    order, starts = _canonical(lengths)
    codes = np.zeros(lengths.size, np.int64)
    codes[order] = starts >> (32 - lengths[order])
    words = ((codes[chunk], lengths[chunk]) for chunk in packing.chunks(symbols))
    return b"".join([packing.write_table(lengths), *packing.join(words)])


def huffman_decode(raw: Bytes, n: int) -> np.ndarray:
    """The n symbols that `huffman_encode` wrote, in the smallest type."""
    if not n:
        return packing.nothing(raw)
    lengths, _, payload = packing.read_table(raw)
    if not lengths.any():  # one symbol, no bits
        packing.nothing(payload)
        return np.full(n, lengths.size - 1, np.min_scalar_type(lengths.size - 1))
    if lengths.max() > _MAX_LENGTH or (1 << (_MAX_LENGTH - lengths[lengths > 0])).sum() != 1 << 32:
        raise ValueError("the Huffman code lengths are not those of a full code (Kraft's sum is not 1)")
    order, starts = _canonical(lengths)
    symbols = order.astype(np.min_scalar_type(lengths.size - 1))
    pieces, position = [], 0  # position: the bit where the next code begins
    while n:
        first = position >> 3
        if first >= len(payload):
            raise ValueError("the Huffman stream ends before its last symbol")
        here = packing.five_bytes(payload[first : first + _CHUNK + 4])[:_CHUNK]
        positions = _walk(_lengths_everywhere(here, lengths[order], starts), position - 8 * first, n)
        pieces.append(symbols[np.searchsorted(starts, packing.windows(here, positions[:-1]), "right") - 1])
        position, n = 8 * first + int(positions[-1]), n - len(positions) + 1
    taken = packing.bytes_for(position, 1)
    if taken != len(payload):
        raise ValueError(f"the Huffman stream has {len(payload)} bytes; its symbols take {taken}")
    return np.concatenate(pieces)


def _canonical(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(symbols in code order, the start of each one's interval in [0, 2^32)).

    A code of l bits owns the 2^(32 - l) numbers that begin with it. With short codes first and then by symbol, the
    lengths alone determine every code: that is the canonical Huffman code.
    """
    order = np.lexsort((np.arange(lengths.size), lengths))
    order = order[lengths[order] > 0]
    shares = 1 << (_MAX_LENGTH - lengths[order])
    return order, np.cumsum(shares) - shares


def _lengths_everywhere(five_bytes: np.ndarray, lengths: np.ndarray, starts: np.ndarray) -> bytes:
    """The length of the code that would begin at each bit position, one byte each."""
    here = ((five_bytes[:, None] >> np.arange(8, 0, -1)) & 0xFFFFFFFF).ravel()
    distinct, first = np.unique(lengths, return_index=True)  # codes are in order of length: a few bounds suffice
    return distinct[np.searchsorted(starts[first], here, "right") - 1].astype(np.uint8).tobytes()


def _walk(lengths: bytes, position: int, n: int) -> np.ndarray:
    """Where up to n codes begin, and where the last of them ends."""
    positions, end = [position], len(lengths)
    while n and position < end:
        position += lengths[position]
        positions.append(position)
        n -= 1
    return np.array(positions)
