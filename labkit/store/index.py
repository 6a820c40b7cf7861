"""Which values of a sparse array are stored: a bitmap or the distances between them, whichever is cheaper.

The cheapest way is found from counts; only that one is written.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from labkit.store import coding, packing
from labkit.store._wire import Reader, varint
from labkit.store.packed import INDEX, LAYOUTS, Packed, read_symbols

GAP_BITS = range(3, 9)


@dataclass(frozen=True)
class Index:
    """Which of n values are not zero, `mask` (n,), and the cheapest way to store that: layout, size in bytes.

    `gaps` are those of the mask, `counts` says how often each symbol of the layout occurs.
    """

    mask: np.ndarray
    layout: str
    gap_bits: int
    size: float
    gaps: np.ndarray
    counts: np.ndarray


def cheapest_index(mask: np.ndarray, coders: Collection[str] = coding.QUICK) -> Index:
    """The cheapest layout for the places where `mask` is true."""
    gaps = _gaps(mask)
    layouts = [(np.array([mask.size - gaps.size, gaps.size]), "bitmap", 0)]
    if gaps.size:
        histogram = packing.histogram(gaps)
        layouts += [(_gap_counts(histogram, b), "relative", b) for b in GAP_BITS]
    bounds = [coding.entropy_bits(counts) / 8 for counts, _, _ in layouts]  # lower bounds for any coder
    best = (math.inf, "", 0, -1)
    for i in np.argsort(bounds):
        counts, layout, gap_bits = layouts[i]
        if bounds[i] <= best[0]:  # otherwise it cannot be the cheapest
            best = min(best, (coding.price(counts, coders), layout, gap_bits, int(i)))
    size, layout, gap_bits, i = best
    return Index(mask, layout, gap_bits, size, gaps, np.trim_zeros(layouts[i][0], "b"))


def _gaps(mask: np.ndarray) -> np.ndarray:
    """The number of zeros between each place and the one before, in the smallest type."""
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
    """Gaps as symbols of `gap_bits` bits: the largest means "so many zeros, no value yet", others end a gap.

    Han et al. (2015) store a value 0 for such a filler; a symbol of its own needs no value.
    """
    longest, pieces = (1 << gap_bits) - 1, [np.zeros(0, np.uint8)]
    for chunk in packing.chunks(gaps):
        fillers, rest = np.divmod(chunk, longest)
        pieces.append(np.full(chunk.size + int(fillers.sum()), longest, np.uint8))
        pieces[-1][np.cumsum(fillers, dtype=np.int64) + np.arange(chunk.size)] = rest
    return np.concatenate(pieces)


def write_index(index: Index, coders: Collection[str] = coding.QUICK) -> Packed:
    """The index alone, to which the caller adds the values."""
    packed = Packed(index.layout, coders)
    symbols = index.mask.view(np.uint8) if index.layout == "bitmap" else _split(index.gaps, index.gap_bits)
    if index.layout == "relative":
        packed.head += varint(index.gap_bits) + varint(symbols.size)
    packed.put_symbols(INDEX, symbols, index.counts)
    return packed


def read_index(head: Reader, body: Reader, n: int) -> np.ndarray | None:
    """True where one of n values is stored; None where the layout is dense: all of them are."""
    layout = head.choice("layout", LAYOUTS)
    if layout == "dense":
        return None
    if layout == "bitmap":
        mask = read_symbols(head.varint(), head, body, n)
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
    symbols, longest = read_symbols(head.varint(), head, body, n_symbols), (1 << gap_bits) - 1
    mask, end = np.zeros(n, bool), 0
    for chunk in packing.chunks(symbols):
        ends = end + np.cumsum(chunk + (chunk < longest), dtype=np.int64)
        end = int(ends[-1])
        if chunk.max() > longest or end > n:
            raise ValueError(f"the gaps lead beyond the {n} values")
        mask[ends[chunk < longest] - 1] = True
    return mask
