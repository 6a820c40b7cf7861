"""Fixed-width bit packing, helpers shared with the other coders, and the table at the start of an entropy-coded stream.

Symbols may have any type that holds them, ideally the smallest; wider arrays are made for one chunk at a time.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from labkit.store._wire import Bytes, Reader, varint

MAX_ALPHABET = 1 << 16  # symbols of the two entropy coders: a table longer than that costs more than it saves

CHUNK = 1 << 15  # symbols that are processed at a time, to bound memory; a multiple of 8


def chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Views of a long array, one after another."""
    return (array[i : i + CHUNK] for i in range(0, len(array), CHUNK))


def counts_of(symbols: np.ndarray) -> np.ndarray:
    """How often each symbol 0 … max occurs."""
    if symbols.size and int(symbols.max()) >= MAX_ALPHABET:
        raise ValueError(f"symbols go up to {symbols.max()}; allowed: below {MAX_ALPHABET}")
    return histogram(symbols)


def histogram(values: np.ndarray) -> np.ndarray:
    """How often each value 0 … max occurs, for values of any size."""
    counts = np.zeros(int(values.max()) + 1 if values.size else 0, np.int64)
    for chunk in chunks(values):
        here = np.bincount(chunk)
        counts[: here.size] += here
    return counts


def width(counts: np.ndarray) -> int:
    """Bits that the largest symbol needs; 0 where the only symbol is 0."""
    return max(0, counts.size - 1).bit_length()


def packed_size(counts: np.ndarray) -> int:
    """Bytes of `pack_bits` at the narrowest width."""
    return bytes_for(int(counts.sum()), width(counts))


def bytes_for(n: int, bits: int) -> int:
    """⌈n · bits / 8⌉."""
    return -(-n * bits // 8)


def pack_bits(symbols: np.ndarray, bits: int) -> bytes:
    """Write each symbol in `bits` bits, 0 to 32, one after another; 0 bits hold only zeros."""
    if symbols.size and not 0 <= int(symbols.min()) <= int(symbols.max()) < 1 << bits:
        raise ValueError(
            f"symbols run from {symbols.min()} to {symbols.max()}; {bits} bits hold 0 to {(1 << bits) - 1}"
        )
    if bits == 1:
        return np.packbits(symbols).tobytes()
    if bits == 8:
        return symbols.astype(np.uint8).tobytes()
    return b"".join(join((chunk, np.full(chunk.size, bits)) for chunk in chunks(symbols)))


def unpack_bits(raw: Bytes, n: int, bits: int) -> np.ndarray:
    """The n symbols that `pack_bits` wrote, in the smallest type."""
    if len(raw) != bytes_for(n, bits):
        raise ValueError(
            f"a stream of {n} symbols of {bits} bits has {len(raw)} bytes; it must have {bytes_for(n, bits)}"
        )
    if bits == 0:
        return np.zeros(n, np.uint8)
    if bits == 1:
        return np.unpackbits(np.frombuffer(raw, np.uint8), count=n)
    if bits == 8:
        return np.frombuffer(raw, np.uint8)
    symbols = np.zeros(n, np.min_scalar_type((1 << bits) - 1))
    for first, chunk in zip(range(0, n, CHUNK), chunks(symbols), strict=True):
        here = five_bytes(raw[first * bits // 8 : (first + CHUNK) * bits // 8])
        chunk[:] = windows(here, np.arange(chunk.size) * bits) >> (32 - bits)
    return symbols


def join(words: Iterable[tuple[np.ndarray, np.ndarray]]) -> Iterator[bytes]:
    """Write code words, (codes, lengths <= 32) in chunks, one after another, most significant bit first."""
    left, n_left = 0, 0  # the bits of an incomplete byte go before the next chunk
    for codes, lengths in words:
        raw = _join(np.append(left, codes), np.append(n_left, lengths))
        n_left = (n_left + int(lengths.sum())) % 8
        left = raw[-1] >> (8 - n_left) if n_left else 0
        yield raw[:-1] if n_left else raw
    if n_left:
        yield bytes([left << (8 - n_left)])


def _join(codes: np.ndarray, lengths: np.ndarray) -> bytes:
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if ends.size else 0
    starts = ends - lengths
    # A code word touches at most two 32-bit words: place it in the 64 bits that begin with the first of them.
    placed = codes.astype(np.uint64) << (64 - lengths - (starts & 31)).astype(np.uint64)
    first, n_words = starts >> 5, total // 32 + 2
    # No two codes share a bit, so adding is joining; bincount adds in float64, exact below 2^53.
    words = np.bincount(first, placed >> np.uint64(32), n_words)
    words += np.bincount(first + 1, placed & np.uint64(0xFFFFFFFF), n_words)
    return words.astype(">u4").tobytes()[: bytes_for(total, 1)]


def five_bytes(raw: Bytes) -> np.ndarray:
    """At each byte of `raw`, it and the next four as one 40-bit number; zeros follow the end."""
    padded = np.frombuffer(b"".join([raw, bytes(5)]), np.uint8).astype(np.int64)
    n = len(raw) + 1
    return sum((padded[i : n + i] << (32 - 8 * i) for i in range(5)), start=np.zeros(n, np.int64))


def windows(five_bytes: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The 32 bits that begin at each bit position in `starts`."""
    return (five_bytes[starts >> 3] >> (8 - (starts & 7))) & 0xFFFFFFFF


def write_table(values: np.ndarray, note: int = 0) -> bytes:
    """A table by symbol: its last symbol, bits per entry with a 3-bit note, the entries packed."""
    bits = int(values.max()).bit_length()
    return varint(values.size - 1) + bytes([bits | note << 5]) + pack_bits(values, bits)


def table_size(values: np.ndarray) -> int:
    """Bytes of `write_table`."""
    return len(varint(values.size - 1)) + 1 + bytes_for(values.size, int(values.max()).bit_length())


def read_table(raw: Bytes) -> tuple[np.ndarray, int, Bytes]:
    """(the table, its note, the bytes after it)."""
    reader = Reader(raw, "table of an entropy-coded stream")
    n, bits = reader.varint() + 1, reader.take(1)[0]
    if n > MAX_ALPHABET:
        raise ValueError(f"an entropy-coded stream claims {n} symbols; allowed: {MAX_ALPHABET}")
    values = unpack_bits(reader.take(bytes_for(n, bits & 31)), n, bits & 31)
    return values.astype(np.int64), bits >> 5, raw[reader.position :]


def nothing(raw: Bytes) -> np.ndarray:
    """The symbols of an empty stream; ValueError if it is not empty."""
    if raw:
        raise ValueError(f"a stream goes on for {len(raw)} bytes after its last symbol")
    return np.zeros(0, np.int64)
