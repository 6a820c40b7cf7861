"""How one array is laid out in the file: where its values are, what they are, and which coder stores each of the two.

    dense       every value
    bitmap      one bit for each place, 1 where the value is not zero; then the non-zero values
    relative    the distance from each non-zero value to the next (Han et al. 2015); then the non-zero values
    context     mask and values of a sparse matrix, each bit foretold by what lies around it; slow, so only on demand

A quantized array is zero where q equals its zero point, a float array where all bits are zero (so -0.0 is a value).
The cheapest layout and coders are chosen from counts; only the winner is written.
"""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np

from labkit.store import coding, context, packing
from labkit.store._wire import Bytes, Reader, signed, varint

LAYOUTS = ("dense", "bitmap", "relative", "context")
CODERS = ("words", "huffman", "range", "raw")  # as stored: "raw" in b bits is 3 + b
GAP_BITS = range(3, 9)
INDEX, VALUES = "mask or indices", "values"


@dataclass(frozen=True)
class Piece:
    """A run of bytes in the file's body: what it is for, how it was coded."""

    component: str
    coder: str
    raw: Bytes


@dataclass
class Packed:
    """An array ready to be written: its layout, what the header must say, and its pieces, in order."""

    layout: str
    coders: Collection[str] = coding.QUICK
    head: bytearray = field(default_factory=bytearray)
    pieces: list[Piece] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.head += varint(LAYOUTS.index(self.layout))

    def put_symbols(self, component: str, symbols: np.ndarray, counts: np.ndarray) -> None:
        """Add symbols, by the cheapest coder."""
        coder, bits = coding.cheapest(counts, self.coders)[1], coding.width(counts)
        if coder == "raw":  # its length follows from n and bits
            self.head += varint(CODERS.index("raw") + bits)
            self.pieces.append(Piece(component, f"raw {bits} bits", coding.pack_bits(symbols, bits)))
        else:
            raw = _ENCODERS[coder](symbols)
            self.head += varint(CODERS.index(coder)) + varint(len(raw))
            self.pieces.append(Piece(component, coder, raw))

    def put_words(self, words: np.ndarray) -> None:
        """Add values as they lie in memory (little-endian), and not a copy of them."""
        self.head += varint(CODERS.index("words"))
        self.pieces.append(Piece(VALUES, f"raw {8 * words.itemsize} bits", words.view(np.uint8).data))


_ENCODERS = {"huffman": coding.huffman_encode, "range": coding.range_encode}
_DECODERS = {"huffman": coding.huffman_decode, "range": coding.range_decode}


# --- floats: opaque words --------------------------------------------------------------------------------------------


def pack_words(words: np.ndarray, coders: Collection[str] = coding.QUICK) -> Packed:
    """Lay out floats, seen as unsigned whole numbers `words`, (n,) uint8 … uint64."""
    if not words.all():
        index = _cheapest_index(words != 0, coders)
        if index.size + np.count_nonzero(index.mask) * words.itemsize < words.nbytes:
            packed = _write_index(index, coders)
            packed.put_words(words[index.mask])
            return packed
    packed = Packed("dense")
    packed.put_words(words)
    return packed


def unpack_words(head: Reader, body: Reader, n: int, dtype: np.dtype) -> np.ndarray:
    """The n words of `pack_words`."""
    mask = _read_index(head, body, n)
    if head.varint() != CODERS.index("words"):
        raise ValueError("floats are stored with a coder that is only for whole numbers")
    words = np.zeros(n, dtype)
    words[mask] = _read_words(body, n if isinstance(mask, slice) else int(np.count_nonzero(mask)), dtype)
    return words


def _read_words(body: Reader, n: int, dtype: np.dtype) -> np.ndarray:
    return np.frombuffer(body.take(n * dtype.itemsize), dtype)


# --- whole numbers ---------------------------------------------------------------------------------------------------


def pack_integers(values: np.ndarray, coders: Collection[str] = coding.QUICK) -> Packed:
    """Lay out whole numbers (n,) of any type, dense: the smallest, then how far each is above it."""
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
        values = _read_words(body, n, dtype).copy()
        _must_lie(*_range(values), allowed)
        return values
    symbols = _read_symbols(code, head, body, n)
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
    """Refuse whole numbers of which one is not in [low, high], by a ValueError."""
    _must_lie(*_range(values), (low, high))


def _must_lie(low: int, high: int, allowed: tuple[int, int]) -> None:
    if low < allowed[0] or high > allowed[1]:
        raise ValueError(f"its values run from {low} to {high}; allowed: {allowed[0]} to {allowed[1]}")


def _read_symbols(code: int, head: Reader, body: Reader, n: int) -> np.ndarray:
    bits = code - CODERS.index("raw")
    if 0 <= bits <= 32:
        return coding.unpack_bits(body.take(coding.bytes_for(n, bits)), n, bits)
    if not 0 < code < CODERS.index("raw"):
        raise ValueError(f"unknown coder {code}; this version of labkit knows {', '.join(CODERS)}")
    return _DECODERS[CODERS[code]](body.take(head.varint()), n)


# --- quantized weights -----------------------------------------------------------------------------------------------


def pack_quantized(q: np.ndarray, zero_point: np.ndarray, coders: Collection[str] = coding.QUICK) -> Packed:
    """Lay out integers q, int8 or uint8, of which those equal to `zero_point`, int32, broadcasting to it, are zero.

    Of `coders` the one that makes it shortest; context coding takes a second for a layer of 200,000 weights.
    """
    packed = _pack_quickly(q, zero_point, coders)
    if "context" not in coders or not q.size:
        return packed
    away = (q - np.broadcast_to(zero_point, q.shape)).reshape(len(q), -1)
    if np.abs(away).max() > context.TOP:
        return packed
    return min([packed, *_pack_contexts(away)], key=lambda p: len(p.head) + sum(len(piece.raw) for piece in p.pieces))


def _pack_contexts(away: np.ndarray) -> Iterator[Packed]:
    """The matrix and its transpose, with the neighbours of a row of pixels and of a square picture."""
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
    away = q[mask].astype(np.int32)
    if zero_point.any():
        away -= np.broadcast_to(zero_point, q.shape)[mask]
    low, high = _range(away)
    if low < 0:
        away -= away > 0  # no symbol would be 0: close the gap it leaves
    away -= low
    symbols = away.astype(np.min_scalar_type(high - low))
    counts, dense_counts = packing.histogram(symbols), packing.histogram(_above(q.ravel(), _range(q)[0]))
    index = _cheapest_index(mask.ravel(), coders)
    if _price(dense_counts, coders) <= index.size + _price(counts, coders):
        return pack_integers(q.ravel(), coders)
    packed = _write_index(index, coders)
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
    """The integers of `pack_quantized`, in a row; `zero_point`, int32 in `allowed` (low, high), broadcasts to them."""
    zeros = np.broadcast_to(zero_point, shape)
    if head.peek() == LAYOUTS.index("context"):
        q = zeros.ravel() + _read_context(head, body, max(1, shape[0]) if shape else 1, zeros.size)
        _must_lie(*_range(q), allowed)
        return q.astype(dtype)
    mask = _read_index(head, body, zeros.size)
    if isinstance(mask, slice):
        return _read_dense(head, body, zeros.size, dtype, allowed)
    mask = mask.reshape(shape)
    low, code = head.signed(), head.varint()
    symbols, span = _read_symbols(code, head, body, int(np.count_nonzero(mask))), allowed[1] - allowed[0]
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


# --- where the values are --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Index:
    """Which of n values are not zero, `mask` (n,), and the cheapest way to say so: its layout, its price in bytes."""

    mask: np.ndarray
    layout: str
    gap_bits: int
    size: float


def _cheapest_index(mask: np.ndarray, coders: Collection[str] = coding.QUICK) -> _Index:
    """The cheapest layout for the places where `mask` is true."""
    kept = np.count_nonzero(mask)
    layouts = [(np.array([mask.size - kept, kept]), "bitmap", 0)]
    if kept:
        histogram = packing.histogram(_gaps(mask))
        layouts += [(_gap_counts(histogram, b), "relative", b) for b in GAP_BITS]
    bounds = [coding.entropy_bits(counts) / 8 for counts, _, _ in layouts]  # no coder goes below
    best = (math.inf, "", 0)
    for i in np.argsort(bounds):
        counts, layout, gap_bits = layouts[i]
        if bounds[i] <= best[0]:  # else not worth the time of a price
            best = min(best, (_price(counts, coders), layout, gap_bits))
    size, layout, gap_bits = best
    return _Index(mask, layout, gap_bits, size)


def _price(counts: np.ndarray, coders: Collection[str]) -> float:
    """What symbols will cost, but for a byte or two that Huffman saves beside range coding: its tree takes long."""
    return coding.cheapest(counts, [c for c in coders if c != "huffman" or "range" not in coders])[0]


def _gaps(mask: np.ndarray) -> np.ndarray:
    """How many zeros precede each place since the one before, in the smallest type."""
    gaps, last = [np.zeros(0, np.uint8)], -1
    for i, chunk in enumerate(packing.chunks(mask)):
        places = np.flatnonzero(chunk) + i * packing.CHUNK
        if places.size:
            here = np.diff(places, prepend=last) - 1
            gaps.append(here.astype(np.min_scalar_type(here.max())))
            last = places[-1]
    return np.concatenate(gaps)


def _gap_counts(histogram: np.ndarray, gap_bits: int) -> np.ndarray:
    """The counts of the symbols that `_split` will make of gaps with this histogram, without making them."""
    longest = (1 << gap_bits) - 1
    gaps = np.flatnonzero(histogram)  # few: all gaps together are no longer than the array
    counts = np.zeros(longest + 1, np.int64)
    np.add.at(counts, gaps % longest, histogram[gaps])
    counts[longest] = gaps // longest @ histogram[gaps]
    return counts


def _split(gaps: np.ndarray, gap_bits: int) -> np.ndarray:
    """Gaps as symbols of `gap_bits` bits: the largest says "so many zeros, and no value yet", others end a gap.

    Han et al. (2015) give such a filler the value 0 in the stream of values; a symbol of its own costs no value.
    """
    longest, pieces = (1 << gap_bits) - 1, [np.zeros(0, np.uint8)]
    for chunk in packing.chunks(gaps):
        fillers, rest = np.divmod(chunk, longest)
        pieces.append(np.full(chunk.size + int(fillers.sum()), longest, np.uint8))
        pieces[-1][np.cumsum(fillers, dtype=np.int64) + np.arange(chunk.size)] = rest
    return np.concatenate(pieces)


def _write_index(index: _Index, coders: Collection[str] = coding.QUICK) -> Packed:
    packed = Packed(index.layout, coders)
    symbols = index.mask.view(np.uint8) if index.layout == "bitmap" else _split(_gaps(index.mask), index.gap_bits)
    if index.layout == "relative":
        packed.head += varint(index.gap_bits) + varint(symbols.size)
    packed.put_symbols(INDEX, symbols, packing.histogram(symbols))
    return packed


def _read_index(head: Reader, body: Reader, n: int) -> np.ndarray | slice:
    """True where one of n values is stored; a slice of everything where the layout is dense."""
    layout = head.choice("layout", LAYOUTS)
    if layout == "dense":
        return slice(None)
    if layout == "bitmap":
        mask = _read_symbols(head.varint(), head, body, n)
        if mask.max(initial=0) > 1:
            raise ValueError("the bitmap holds something other than 0 and 1")
        return mask.astype(bool)
    if layout != "relative":
        raise ValueError(f"layout is {layout}; allowed here: dense, bitmap, relative")
    return _read_gaps(head, body, n)


def _read_gaps(head: Reader, body: Reader, n: int) -> np.ndarray:
    gap_bits, n_symbols = head.varint(), head.varint()
    if gap_bits not in GAP_BITS or n_symbols > n:
        raise ValueError(f"{n_symbols} gaps of {gap_bits} bits cannot index {n} values")
    symbols, longest = _read_symbols(head.varint(), head, body, n_symbols), (1 << gap_bits) - 1
    mask, end = np.zeros(n, bool), 0
    for chunk in packing.chunks(symbols):
        ends = end + np.cumsum(chunk + (chunk < longest), dtype=np.int64)
        end = int(ends[-1])
        if chunk.max() > longest or end > n:
            raise ValueError(f"the gaps lead beyond the {n} values")
        mask[ends[chunk < longest] - 1] = True
    return mask
