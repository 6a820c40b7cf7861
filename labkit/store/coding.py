"""Lossless coders for small whole numbers: fixed-width bit packing, Huffman codes, range coding.

    packing        n · bits                                every symbol costs the same
    Huffman        Σ counts · lengths                      a whole number of bits per symbol
    range coding   Σ counts · log2(1 / p)                  fractions of a bit; close to the entropy

`symbols` is one-dimensional, whole numbers from 0; `counts[s]` is how often s occurs. Every `…_encode` has an exact
inverse, which takes the number of symbols n and raises ValueError for a stream that cannot hold them. The `…_size`
functions compute a stream's bytes from counts alone, so that only the shortest stream has to be written.
"""

from collections.abc import Collection

import numpy as np

from labkit.store.huffman import huffman_decode, huffman_encode, huffman_lengths, huffman_size
from labkit.store.packing import MAX_ALPHABET, bytes_for, counts_of, pack_bits, packed_size, unpack_bits, width
from labkit.store.range_coder import range_decode, range_encode, range_size

__all__ = [
    "CODERS", "MAX_ALPHABET", "QUICK", "bytes_for", "cheapest", "counts_of", "entropy_bits", "huffman_decode",
    "huffman_encode", "huffman_lengths", "huffman_size", "pack_bits", "packed_size", "price", "range_decode",
    "range_encode", "range_size", "unpack_bits", "width",
]  # fmt: skip


_SIZES = {"range": range_size, "huffman": huffman_size}


def entropy_bits(counts: np.ndarray) -> float:
    """Σ counts · log2(n / counts): the fewest bits of any code of independent symbols (Shannon 1948)."""
    counts = counts[counts > 0]
    return float(counts @ np.log2(counts.sum() / counts)) if counts.size else 0.0


QUICK = ("raw", "huffman", "range")  # milliseconds for a layer of 200,000 weights
CODERS = (*QUICK, "context")  # a second for the same


def cheapest(counts: np.ndarray, coders: Collection[str] = QUICK) -> tuple[float, str]:
    """(bytes, name) of the coder among `coders` and "raw" that stores symbols with these counts in the fewest bytes."""
    if width(counts) == 0:  # only the symbol 0, or no symbol at all
        return 0, "raw"
    prices: dict[str, float] = {"raw": packed_size(counts)}
    prices |= {coder: size(counts) for coder, size in _SIZES.items() if coder in coders}
    coder = min(prices, key=prices.__getitem__)  # of equals the first, which is simpler
    return prices[coder], coder


def price(counts: np.ndarray, coders: Collection[str] = QUICK) -> float:
    """The bytes of `cheapest`, or one or two more: Huffman, whose tree is slow, is left out beside range coding."""
    return cheapest(counts, [c for c in coders if c != "huffman" or "range" not in coders])[0]
