"""An array ready to be written: its part of the header, and its pieces of the body, each with its coder."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from labkit.store import coding
from labkit.store._wire import Bytes, Reader, varint

LAYOUTS = ("dense", "bitmap", "relative", "context")  # stored by index; see layout.py
CODERS = ("words", "huffman", "range", "raw")  # likewise; "raw" in b bits is 3 + b
INDEX, VALUES = "mask or indices", "values"


@dataclass(frozen=True)
class Piece:
    """A run of bytes in the file's body: what it is for and how it is coded."""

    component: str
    coder: str
    raw: Bytes


def named(component: str, pieces: Iterable[Piece]) -> list[Piece]:
    """The pieces, all counted as one component of the ledger."""
    return [replace(piece, component=component) for piece in pieces]


@dataclass
class Packed:
    """An array ready to be written: its layout, its header bytes, and its pieces, in order."""

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
            raw = _ENCODERS[coder](symbols, counts)
            self.head += varint(CODERS.index(coder)) + varint(len(raw))
            self.pieces.append(Piece(component, coder, raw))

    def put_words(self, words: np.ndarray) -> None:
        """Add values as they are in memory (little-endian), without a copy."""
        self.head += varint(CODERS.index("words"))
        self.pieces.append(Piece(VALUES, f"raw {8 * words.itemsize} bits", words.view(np.uint8).data))

    def size(self) -> int:
        """Bytes in header and body."""
        return len(self.head) + sum(len(piece.raw) for piece in self.pieces)

    def write(self, head: bytearray) -> list[Piece]:
        """Append the header bytes to `head`; return the pieces that are not empty."""
        head += self.head
        return [Piece(p.component, f"{self.layout}, {p.coder}", p.raw) for p in self.pieces if p.raw]


def read_symbols(code: int, head: Reader, body: Reader, n: int) -> np.ndarray:
    """The n symbols of `put_symbols`, decoded by the coder of number `code`."""
    bits = code - CODERS.index("raw")
    if 0 <= bits <= 32:
        return coding.unpack_bits(body.take(coding.bytes_for(n, bits)), n, bits)
    if not 0 < code < CODERS.index("raw"):
        raise ValueError(f"unknown coder {code}; this version of labkit knows {', '.join(CODERS)}")
    return _DECODERS[CODERS[code]](body.take(head.varint()), n)


def read_words(body: Reader, n: int, dtype: np.dtype) -> np.ndarray:
    """The n values of `put_words`, a view of the file."""
    return np.frombuffer(body.take(n * dtype.itemsize), dtype)


_ENCODERS = {"huffman": coding.huffman_encode, "range": coding.range_encode}
_DECODERS = {"huffman": coding.huffman_decode, "range": coding.range_decode}
