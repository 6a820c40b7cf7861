"""How one array is laid out in the file: the positions and the values that are stored, and the coder of each.

    dense       every value
    bitmap      one bit for each place, 1 where the value is not zero; then the non-zero values
    relative    the distance from each non-zero value to the next (Han et al. 2015); then the non-zero values
    context     mask and values of a sparse matrix, each bit predicted from its neighbours; slow, so only on request

A quantized array is zero where q equals its zero point, a float array where all bits are zero (so -0.0 is a value).
The cheapest layout and coders are chosen from counts; only those are written.
"""

import math
from collections.abc import Collection, Iterator

import numpy as np

from labkit.store import coding, context, packing
from labkit.store._wire import Reader, signed, varint
from labkit.store.index import cheapest_index, read_index, write_index
from labkit.store.packed import CODERS, INDEX, LAYOUTS, VALUES, Packed, Piece, read_symbols, read_words

# --- floats: opaque words --------------------------------------------------------------------------------------------


def pack_words(words: np.ndarray, coders: Collection[str] = coding.QUICK) -> Packed:
    """Lay out floats, given as unsigned whole numbers `words`, (n,) uint8 … uint64."""
    if not words.all():
        index = cheapest_index(words != 0, coders)
        if index.size + np.count_nonzero(index.mask) * words.itemsize < words.nbytes:
            packed = write_index(index, coders)
            packed.put_words(words[index.mask])
            return packed
    packed = Packed("dense")
    packed.put_words(words)
    return packed


def unpack_words(head: Reader, body: Reader, n: int, dtype: np.dtype) -> np.ndarray:
    """The n words of `pack_words`."""
    mask = read_index(head, body, n)
    if head.varint() != CODERS.index("words"):
        raise ValueError("floats are stored with a coder that is only for whole numbers")
    if mask is None:
        return read_words(body, n, dtype).copy()
    words = np.zeros(n, dtype)
    words[mask] = read_words(body, int(np.count_nonzero(mask)), dtype)
    return words


# --- whole numbers ---------------------------------------------------------------------------------------------------


def pack_integers(values: np.ndarray, coders: Collection[str] = coding.QUICK) -> Packed:
    """Lay out whole numbers (n,) of any type, dense: the smallest, then the difference of each from it."""
    low, high = _range(values)
    packed = Packed("dense", coders)
    packed.head += signed(low)
    if high - low >= coding.MAX_ALPHABET:
        packed.put_words(values)
    else:
        symbols = _above(values, low)
        packed.put_symbols(VALUES, symbols, packing.histogram(symbols))
    return packed


def unpack_integers(head: Reader, body: Reader, n: int, dtype: np.dtype) -> np.ndarray:
    """The n numbers of `pack_integers`."""
    if head.choice("layout", LAYOUTS) != "dense":
        raise ValueError("whole numbers are stored with a layout that is only for weights")
    limits = np.iinfo(dtype)
    return _read_dense(head, body, n, dtype, (int(limits.min), int(limits.max)))


def _read_dense(head: Reader, body: Reader, n: int, dtype: np.dtype, allowed: tuple[int, int]) -> np.ndarray:
    low, code = head.signed(), head.varint()
    if code == CODERS.index("words"):
        values = read_words(body, n, dtype).copy()
        _must_lie(*_range(values), allowed)
        return values
    symbols = read_symbols(code, head, body, n)
    _must_lie(low, low + int(symbols.max(initial=0)), allowed)
    values = symbols.astype(dtype)
    values += dtype.type(low)
    return values


def _range(values: np.ndarray) -> tuple[int, int]:
    return (int(values.min()), int(values.max())) if values.size else (0, 0)


def _above(values: np.ndarray, low: int) -> np.ndarray:
    """values - low; the difference wraps around in a signed type, and its unsigned view is right again."""
    return (values - values.dtype.type(low)).view(f"u{values.itemsize}")


def must_fit(values: np.ndarray, low: int, high: int) -> None:
    """ValueError if one of these whole numbers is not in [low, high]."""
    _must_lie(*_range(values), (low, high))


def _must_lie(low: int, high: int, allowed: tuple[int, int]) -> None:
    if low < allowed[0] or high > allowed[1]:
        raise ValueError(f"its values run from {low} to {high}; allowed: {allowed[0]} to {allowed[1]}")


# --- quantized weights -----------------------------------------------------------------------------------------------


def pack_quantized(q: np.ndarray, zero_point: np.ndarray, coders: Collection[str] = coding.QUICK) -> Packed:
    """Lay out integers q (int8 or uint8), of which those equal to `zero_point` (int32, broadcasts to q) are zero.

    Uses the coder of `coders` that makes it shortest; context coding takes a second for a layer of 200,000 weights.
    """
    packed = _pack_quickly(q, zero_point, coders)
    if "context" not in coders or not q.size:
        return packed
    away = (q - np.broadcast_to(zero_point, q.shape)).reshape(len(q), -1)
    if np.abs(away).max() > context.TOP:
        return packed
    return min([packed, *_pack_contexts(away)], key=Packed.size)


def _pack_contexts(away: np.ndarray) -> Iterator[Packed]:
    """The matrix and its transpose, each with the neighbours for a row of pixels and for a square image."""
    for turned, matrix in enumerate((away, away.T)):
        for stride in sorted({1, math.isqrt(matrix.shape[1])}) if context.can_walk(matrix.shape) else ():
            mask, values = context.context_encode(matrix, stride)
            packed = Packed("context")
            packed.head += varint(2 * stride + turned) + varint(len(mask)) + varint(len(values))
            packed.pieces += [Piece(INDEX, "adaptive range", mask), Piece(VALUES, "adaptive range", values)]
            yield packed


def _pack_quickly(q: np.ndarray, zero_point: np.ndarray, coders: Collection[str]) -> Packed:
    mask = q != zero_point
    if mask.all():
        return pack_integers(q.ravel(), coders)
    away = q.ravel().take(np.flatnonzero(mask)).astype(np.int32)  # five times as fast as q[mask]
    if zero_point.any():
        away -= np.broadcast_to(zero_point, q.shape)[mask]
    low, high = _range(away)
    if low < 0:
        away -= away > 0  # no value is 0: close the gap
    away -= low
    symbols = away.astype(np.min_scalar_type(high - low))
    counts, dense_counts = packing.histogram(symbols), packing.histogram(_above(q.ravel(), _range(q)[0]))
    index = cheapest_index(mask.ravel(), coders)
    if coding.price(dense_counts, coders) <= index.size + coding.price(counts, coders):
        return pack_integers(q.ravel(), coders)
    packed = write_index(index, coders)
    packed.head += signed(low)
    packed.put_symbols(VALUES, symbols, counts)
    return packed


def unpack_quantized(
    head: Reader,
    body: Reader,
    zero_point: np.ndarray,
    shape: tuple[int, ...],
    dtype: np.dtype,
    allowed: tuple[int, int],
) -> np.ndarray:
    """The integers of `pack_quantized`, flattened; `zero_point`, int32 in `allowed` (low, high), broadcasts to them."""
    zeros = np.broadcast_to(zero_point, shape)
    if head.peek() == LAYOUTS.index("context"):
        q = zeros.ravel() + _read_context(head, body, max(1, shape[0]) if shape else 1, zeros.size)
        _must_lie(*_range(q), allowed)
        return q.astype(dtype)
    mask = read_index(head, body, zeros.size)
    if mask is None:
        return _read_dense(head, body, zeros.size, dtype, allowed)
    mask = mask.reshape(shape)
    low, code = head.signed(), head.varint()
    symbols, span = read_symbols(code, head, body, int(np.count_nonzero(mask))), allowed[1] - allowed[0]
    _must_lie(low, low + int(symbols.max(initial=0)), (-span, span))  # the farthest from a zero point
    away = symbols.astype(np.int32)
    away += np.int32(low)
    if low < 0:
        away += away >= 0
    if zero_point.any():
        away += zeros[mask]
    _must_lie(*_range(away), allowed)
    q = zeros.astype(dtype)
    q[mask] = away
    return q.ravel()


def _read_context(head: Reader, body: Reader, rows: int, n: int) -> np.ndarray:
    head.varint()
    stride, turned = divmod(head.varint(), 2)
    mask, values = (body.take(head.varint()) for _ in range(2))
    shape = (n // rows, rows) if turned else (rows, n // rows)
    if not context.can_walk(shape):
        raise ValueError(f"a matrix of shape {shape} is too long or too large for the layout context")
    if not 1 <= stride <= shape[1]:
        raise ValueError(f"a matrix of {shape[1]} columns has no neighbours {stride} columns away")
    q = context.context_decode(mask, values, shape, stride)
    return (q.T if turned else q).ravel()
