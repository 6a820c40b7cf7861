"""The container: a header and a body in one checked file. It knows nothing of tensors.

b"LABK" | version | length of the header, a varint | header, deflated | body | CRC-32 of all before
"""

import functools
import zlib
from collections.abc import Iterable

from labkit.store._wire import Bytes, Reader, varint

MAGIC, VERSION = b"LABK", 1


def closed(head: bytes, body: Iterable[Bytes]) -> tuple[bytes, bytes]:
    """What a file has before its body, and what it has after it."""
    deflated = deflate(head)
    start = MAGIC + bytes([VERSION]) + varint(len(deflated)) + deflated
    checksum = functools.reduce(lambda crc, raw: zlib.crc32(raw, crc), body, zlib.crc32(start))
    return start, checksum.to_bytes(4, "little")


def opened(raw: Bytes, longest: int) -> tuple[Reader, Reader]:
    """Readers of the header, of at most `longest` bytes, and of the body of an undamaged file."""
    if bytes(raw[: len(MAGIC)]) != MAGIC:
        raise ValueError("this is not a .lk file: it does not begin with LABK")
    whole = memoryview(raw)[:-4]
    file = Reader(whole, "file")
    file.take(len(MAGIC))
    version = file.take(1)[0]
    if version != VERSION:
        raise ValueError(f"the file is of version {version}; this labkit reads version {VERSION}")
    if zlib.crc32(whole) != int.from_bytes(raw[-4:], "little"):
        raise ValueError("the file is damaged or cut short: its checksum does not match")
    header = _inflate(file.take(file.varint()), longest)
    return Reader(header, "header"), Reader(whole[file.position :], "body")


def deflate(raw: bytes) -> bytes:
    """The header as it is stored."""
    coder = zlib.compressobj(9, wbits=-15)  # negative: without zlib's own 6 bytes of header and checksum
    return coder.compress(raw) + coder.flush()


def _inflate(raw: Bytes, longest: int) -> bytes:
    """The inverse of `deflate`; `longest` because 16 kB could inflate to 16 MB."""
    coder = zlib.decompressobj(wbits=-15)
    try:
        inflated = coder.decompress(raw, longest)
    except zlib.error as error:
        raise ValueError("the header cannot be inflated") from error
    if not coder.eof or coder.unused_data:
        raise ValueError(f"the header is cut short, goes on after its end or has more than {longest} bytes")
    return inflated
