"""Ways to change a .lk file that leave it worth reading: most keep the checksum right and the header well formed."""

import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from labkit.compress.parts import parts
from labkit.store import _wire, container
from labkit.store.file import describe

ODD_NUMBERS = (0, 1, 2, 3, 4, 7, 8, 9, 31, 35, 36, 127, 128, 255, 256, 257, 2**16, 2**31, 2**32, 2**62, 2**63, 2**69)
ODD_FLOATS = (0.0, -0.0, -1.0, 1e-45, 3e38, float("inf"), float("-inf"), float("nan"))
ODD_NAMES = ("", "weight", "bias", "0.weight", "\n\x1b[2J", "x" * 5000, "é\u202e", "parametrizations.weight.original")
ROUNDING = ("scale", "zero_point", "bits", "evil", "evil.scale", "input_quantizer.scale")


@dataclass
class Record:
    """A part of a file: its name, the numbers that follow it in the header, its bytes in the body."""

    name: str
    numbers: list[int]
    body: bytes


def taken_apart(model: nn.Module, coders: tuple[str, ...]) -> list[Record]:
    """The parts of the file of a model, in order."""
    records = []
    for name, part in parts(model).items():
        head, entries = describe(name, part, coders)
        reader, numbers = _wire.Reader(head, "header"), []
        reader.text()
        while reader.peek() is not None:
            numbers.append(reader.varint())
        records.append(Record(name, numbers, b"".join(entry.raw for entry in entries)))
    return records


def put_together(records: list[Record], count: int | None = None) -> bytes:
    """The file of these parts, with a right checksum."""
    head = _wire.varint(len(records) if count is None else count)
    for record in records:
        head += _wire.text(record.name) + b"".join(map(_wire.varint, record.numbers))
    return closed(head, b"".join(record.body for record in records))


def closed(head: bytes, body: bytes) -> bytes:
    """The file of an inflated header and a body."""
    deflated = container.deflate(head)
    return with_checksum(container.MAGIC + bytes([container.VERSION]) + _wire.varint(len(deflated)) + deflated + body)


def with_checksum(raw: bytes) -> bytes:
    """What the file says of itself is true again."""
    return raw + zlib.crc32(raw).to_bytes(4, "little")


def change(rng: random.Random, records: list[Record], others: list[Record]) -> bytes:
    """A file of `records` after one to three changes; parts may come from `others`. One in fifty is unchanged."""
    records = [Record(r.name, list(r.numbers), r.body) for r in records]
    kind = rng.random()
    if kind < 0.02:
        return put_together(records)
    if kind < 0.8:
        for _ in range(rng.choice((1, 1, 2, 3))):
            if records:
                rng.choice(CHANGES)(rng, records, others)
        return put_together(records, rng.choice(ODD_NUMBERS) if rng.random() < 0.02 else None)
    head, body = map(bytes, (part.raw for part in container.opened(put_together(records), 1 << 20)))
    if kind < 0.9:
        return closed(edited(rng, head), body)
    raw = put_together(records)
    return edited(rng, raw) if kind < 0.92 else with_checksum(edited(rng, raw[:-4]))


def edited(rng: random.Random, raw: bytes) -> bytes:
    """One to three bytes changed, left out or put in."""
    out = bytearray(raw)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(out) + 1)
        out[place : place + rng.randint(0, 1)] = rng.choice((b"", bytes([rng.randrange(256)])))
    return bytes(out)


def _number(rng: random.Random, records: list[Record], others: list[Record]) -> None:
    numbers = rng.choice(records).numbers
    if numbers:
        place = rng.randrange(len(numbers))
        near = numbers[place] + rng.choice((-1, 1)), numbers[place] ^ 1 << rng.randrange(8), rng.choice(numbers)
        numbers[place] = max(0, rng.choice((*near, rng.choice(ODD_NUMBERS), rng.randrange(40))))


def _length(rng: random.Random, records: list[Record], others: list[Record]) -> None:
    numbers = rng.choice(records).numbers
    place = rng.randrange(len(numbers) + 1)
    numbers[place : place + rng.randint(0, 1)] = rng.choice(([], [rng.choice(ODD_NUMBERS)]))


def _body(rng: random.Random, records: list[Record], others: list[Record]) -> None:
    record = rng.choice(records)
    record.body = edited(rng, record.body)


def _end(rng: random.Random, records: list[Record], others: list[Record]) -> None:
    record = rng.choice(records)
    cut = record.body[: rng.randint(0, len(record.body))]
    record.body = rng.choice((cut, record.body + rng.randbytes(rng.randint(1, 9)), bytes(len(record.body))))


def _float(rng: random.Random, records: list[Record], others: list[Record]) -> None:
    record, code = rng.choice(records), rng.choice(("<f", "<d"))
    size = struct.calcsize(code)
    place = rng.randrange(len(record.body) // size + 1) * size
    record.body = record.body[:place] + struct.pack(code, rng.choice(ODD_FLOATS)) + record.body[place + size :]


def _name(rng: random.Random, records: list[Record], others: list[Record]) -> None:
    name = rng.choice((rng.choice(records + others).name, rng.choice(ODD_NAMES)))
    layer = rng.choice(records).name.rpartition(".")[0]
    rounding = f"{layer}.input_quantizer.{rng.choice(ROUNDING)}".lstrip(".")
    rng.choice(records).name = rng.choice((name, rounding))


def _parts(rng: random.Random, records: list[Record], others: list[Record]) -> None:
    """Drop, double, swap, or put in a part of another file, under the name that was there or its own."""
    here, there = rng.choice(records), rng.choice(others)
    verb = rng.randrange(5)
    if verb == 0:
        records.remove(here)
    elif verb == 1:
        records.insert(rng.randrange(len(records)), Record(here.name, list(here.numbers), here.body))
    elif verb == 2:
        rng.shuffle(records)
    elif verb == 3:
        here.numbers, here.body = list(there.numbers), there.body
    else:
        records.append(Record(there.name, list(there.numbers), there.body))


CHANGES: tuple[Callable[[random.Random, list[Record], list[Record]], None], ...] = (
    _number, _number, _number, _length, _body, _end, _float, _name, _parts,
)  # fmt: skip
