"""Range coding (Martin 1979) under a fixed histogram: fractions of a bit per symbol, by constriction."""

import functools

import constriction
import numpy as np

from labkit.store import packing
from labkit.store._wire import Bytes

_STEPS = np.array([1, 2, 4, 8, 16, 32])  # values per octave of a stored histogram


def range_size(counts: np.ndarray) -> float:
    """Bytes of `range_encode`, an estimate (off by a byte or two): its table, then Σ counts · log2(1 / p)."""
    if not counts.sum():
        return 0
    _, stored, cost_bits = _histogram(counts)
    return packing.table_size(stored) + -(-cost_bits // 8)


def range_encode(symbols: np.ndarray, counts: np.ndarray | None = None) -> bytes:
    """The histogram, then one number inside the interval that the symbols narrow down (Martin 1979).

    `counts` says how often each symbol occurs, if the caller knows.
    """
    if not symbols.size:
        return b""
    resolution, stored, _ = _histogram(packing.counts_of(symbols) if counts is None else counts)
    head = packing.write_table(stored, resolution)
    if np.count_nonzero(stored) == 1:  # one symbol: the histogram is enough
        return head
    return head + _narrow(symbols, _shares(stored, resolution))


def range_decode(raw: Bytes, n: int) -> np.ndarray:
    """The n symbols that `range_encode` wrote, in the smallest type."""
    if not n:
        return packing.nothing(raw)
    stored, resolution, payload = packing.read_table(raw)
    if not stored.any() or resolution >= len(_STEPS) or stored.max() > 40 * _STEPS[resolution]:
        raise ValueError("the histogram of a range-coded stream is empty or out of bounds")
    symbols_type = np.min_scalar_type(stored.size - 1)
    if np.count_nonzero(stored) == 1:
        packing.nothing(payload)
        return np.full(n, np.flatnonzero(stored)[0], symbols_type)
    shares = _shares(stored, resolution)
    words = np.frombuffer(b"".join([payload, bytes(-len(payload) % 4)]), ">u4").astype(np.uint32)
    symbols, model = np.empty(n, symbols_type), _model(shares)
    try:
        decoder = constriction.stream.queue.RangeDecoder(words)
        for chunk in packing.chunks(symbols):
            chunk[:] = decoder.decode(model, chunk.size)
    except AssertionError as error:  # constriction raises it if no symbols give this number
        raise ValueError("the range-coded stream does not fit its histogram") from error
    if _narrow(symbols, shares) != payload:  # cheap, and no byte of the stream goes unchecked
        raise ValueError("the range-coded stream is not the one its symbols make")
    return symbols


def _histogram(counts: np.ndarray) -> tuple[int, np.ndarray, float]:
    """(resolution, counts as small floats, bits of the stream) that minimize the size of table and stream together.

    A count 2^k · (1 + m / steps) is stored as 1 + k · steps + m, like a float of few bits: a rare symbol's share is
    then as precise as a frequent one's. 0 stands for a symbol that does not occur.
    """
    return _small_floats(counts.astype(np.int64).tobytes())


@functools.lru_cache(maxsize=8)  # the same counts are priced once or twice before they are written
def _small_floats(raw: bytes) -> tuple[int, np.ndarray, float]:
    counts = np.frombuffer(raw, np.int64)
    present = counts[counts > 0]
    fraction, exponent = np.frexp(present)  # count = fraction · 2^exponent, fraction in [1/2, 1)
    steps = _STEPS[:, None]  # (resolutions, 1)
    stored = (exponent - 1) * steps + np.rint((2 * fraction - 1) * steps).astype(np.int64) + 1
    stored -= (stored.min(1, keepdims=True) - 1) // steps * steps  # only proportions matter: divide by a power of 2
    shares = (steps + (stored - 1) % steps) * 2.0 ** ((stored - 1) // steps)
    cost = np.log2(shares.sum(1)) * present.sum() - np.log2(shares) @ present
    widths = np.frexp(stored.max(1))[1]  # bits of the largest entry
    best = int(np.argmin(cost + widths * counts.size))
    table = np.zeros(counts.size, np.int64)
    table[counts > 0] = stored[best]
    table.flags.writeable = False
    return best, table, float(cost[best])


def _shares(stored: np.ndarray, resolution: int) -> np.ndarray:
    """The counts that a stored histogram stands for, up to a factor: whole numbers, the same on every machine."""
    steps = int(_STEPS[resolution])
    return np.where(stored > 0, (steps + (stored - 1) % steps) << np.maximum(stored - 1, 0) // steps, 0)


def _model(shares: np.ndarray) -> constriction.stream.model.Categorical:
    return constriction.stream.model.Categorical(shares.astype(np.float64), perfect=False)


def _narrow(symbols: np.ndarray, shares: np.ndarray) -> bytes:
    """The symbols as one number; the reader takes missing bytes as zeros."""
    coder = constriction.stream.queue.RangeEncoder()
    model = _model(shares)
    for chunk in packing.chunks(symbols):
        coder.encode(chunk.astype(np.int32), model)
    return tail(coder)


def tail(coder: constriction.stream.queue.RangeEncoder) -> bytes:
    """The shortest stream that decodes to what `coder` has encoded."""
    words = coder.get_compressed().astype(">u4")
    if not words.size:  # nothing was encoded
        return b""
    n_words, (low, size) = coder.pos()  # the interval: these words, then a 64-bit number in [low, low + size)
    if words[n_words] < low >> 32:  # once in 2^32: constriction chose one beyond 2^64 and carried into those words
        return words.tobytes()
    units = (1 << (64 - 8 * n_bytes) for n_bytes in range(9))
    number = next(up for up in (-(-low // unit) * unit for unit in units) if up < min(low + size, 1 << 64))
    return (words[:n_words].tobytes() + number.to_bytes(8, "big")).rstrip(b"\0")
