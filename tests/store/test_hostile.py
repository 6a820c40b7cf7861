"""Hostile .lk files: whatever the bytes, a clear sentence or a model, never another exception, never much memory."""

import contextlib
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from labkit.compress.parts import parts
from labkit.store import _wire, decode, encode
from labkit.store import file as lk
from tests.store.nets import small, tiny

SMALL, INTO = encode(small()), tiny()


def refuses(raw: bytes, into: nn.Module = INTO) -> str:
    """The sentence with which a file is refused."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the callers look at the sentence
        decode(raw, into)
    assert str(caught.value)
    return str(caught.value)


def with_checksum(raw: bytes) -> bytes:
    return raw + zlib.crc32(raw).to_bytes(4, "little")


def taken_apart(raw: bytes) -> tuple[bytes, bytes]:
    """(inflated header, body)."""
    head, body = lk._open(raw)
    return bytes(head.raw), bytes(body.raw)


def put_together(head: bytes, body: bytes) -> bytes:
    deflated = lk._deflate(head)
    return with_checksum(lk.MAGIC + bytes([lk.VERSION]) + _wire.varint(len(deflated)) + deflated + body)


def test_taking_a_file_apart_and_putting_it_together_changes_nothing() -> None:
    assert put_together(*taken_apart(SMALL)) == SMALL


def test_a_model_that_does_not_fit_is_named() -> None:
    raw = encode(nn.Sequential(nn.Linear(3, 2)))
    with pytest.raises(ValueError, match=r"0.weight in the file: it has shape \(2, 3\), which does not fit"):
        decode(raw, nn.Sequential(nn.Linear(4, 2)))
    with pytest.raises(ValueError, match="0.bias in the file: Sequential has no such tensor"):
        decode(raw, nn.Sequential(nn.Linear(3, 2, bias=False)))
    with pytest.raises(ValueError, match="the file has no 1.weight"):
        decode(raw, nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)))


def test_a_file_cut_short_anywhere_is_refused() -> None:
    for length in range(len(SMALL)):
        refuses(SMALL[:length])


def test_every_changed_byte_is_noticed() -> None:
    for place in range(len(SMALL)):
        for flip in (1, 0x80, 0xFF):
            raw = bytearray(SMALL)
            raw[place] ^= flip
            refuses(bytes(raw))


def test_each_fault_has_its_own_sentence() -> None:
    head, body = taken_apart(SMALL)
    assert refuses(b"GIF89a") == "this is not a .lk file: it does not begin with LABK"
    assert refuses(b"LABK\2" + SMALL[5:]) == "the file is of version 2; this labkit reads version 1"
    assert refuses(SMALL + b"x") == "the file is damaged or cut short: its checksum does not match"
    assert refuses(with_checksum(b"LABK\1")) == "the file has only 0 of the 1 bytes that should follow"
    assert refuses(with_checksum(b"LABK\1\xff\x7f")) == "the file has only 0 of the 16383 bytes that should follow"
    assert refuses(with_checksum(b"LABK\1\3\xff\xff\xff")) == "the header cannot be inflated"
    assert refuses(put_together(head + b"\0", body)) == "the header goes on for 1 bytes behind its end"
    assert refuses(put_together(head, body + b"\0")) == "the body goes on for 1 bytes behind its end"
    assert "the body has only" in refuses(put_together(head, body[:-1]))
    assert "the header has only" in refuses(put_together(head[:-1], body))


def record(name: str = "3.bias", kind: int = 0, dtype: str = "float32", shape: tuple[int, ...] = (3,)) -> bytes:
    """One tensor's first words in a header."""
    numbers = [kind, lk.DTYPES.index(dtype) if dtype in lk.DTYPES else 99, len(shape), *shape]
    return _wire.text(name) + b"".join(map(_wire.varint, numbers))


BIAS = bytes(12)
HOSTILE = {
    "unknown tensor": (_wire.text("nobody"), "nobody in the file: Sequential has no such tensor"),
    "not text": (b"\2\xff\xfe", "the header holds a name that is not UTF-8"),
    "unknown kind": (record(kind=7), "unknown kind 7; this version of labkit knows tensor, quantized"),
    "unknown type": (record(dtype="?"), "unknown type 99; this version of labkit knows float32"),
    "unknown layout": (record() + b"\x09", "unknown layout 9; this version of labkit knows dense, bitmap, relative"),
    "unknown coder": (record("1.num_batches_tracked", 0, "int64", ()) + b"\0\0\x7f", "unknown coder 127"),
    "floats by a coder of integers": (record() + b"\0\1", "floats are stored with a coder that is only for whole"),
    "another shape": (record(shape=(2**40, 2**40)), "3.bias in the file: it has shape (1099511627776"),
    "too many axes": (record(shape=(1,) * 70), "which does not fit"),
    "integers for floats": (record(dtype="int32") + b"\0\0\3", "it is of type torch.int32; allowed here: floats"),
    "another integer": (record("1.num_batches_tracked", 0, "int8", ()) + b"\0\0\3", "allowed here: torch.int64"),
    "quantized buffer": (
        record("1.running_mean", 1, "int8", (2,)) + b"\3\1" + record("", 0, "float32", ())[2:] + b"\0\0"
        + record("", 0, "int32", ())[2:] + b"\0\0\3" + b"\0\0\3",
        "it is quantized, but a buffer of `into` cannot be",
    ),
    "nine bits": (record("3.weight", 1, "int8", (3, 32)) + b"\x09\1", "9 bits in int8 are not a quantized weight"),
    "scale too long": (
        record("3.weight", 1, "int8", (3, 32)) + b"\3\1" + record("", 0, "float32", (5,))[2:], "it has shape (5,)",
    ),
    "huge gaps": (record() + b"\2\3" + _wire.varint(2**60), "gaps of 3 bits cannot index 3 values"),
    "rounding of nothing": (_wire.text("9.input_quantizer.scale"), "has no such tensor"),
    "huge rounding": (record("3.input_quantizer.scale", shape=(2**50,)), "which does not fit"),
    "rounding to 200 bits": (
        record("3.input_quantizer.bits", 0, "uint8", ()) + b"\0" + _wire.signed(200) + b"\3",
        "it is not one number of bits from 1 to 8",
    ),
    "rounding by another name": (
        record("3.input_quantizer.evil", 0, "uint8", ()) + b"\0\0\3", "it is no part of an input quantizer",
    ),
    "value outside its type": (record("1.num_batches_tracked", 0, "int64", ()) + b"\0" + _wire.signed(2**63) + b"\3",
                               "values from 9223372036854775808 to 9223372036854775808 do not fit int64"),
}  # fmt: skip


@pytest.mark.parametrize("fault", HOSTILE)
def test_a_hostile_header_with_a_right_checksum_is_refused(fault: str) -> None:
    head, sentence = HOSTILE[fault]
    assert sentence in refuses(put_together(b"\1" + head, BIAS))


def test_a_tensor_listed_twice_is_refused() -> None:
    assert "it is listed twice" in refuses(put_together(b"\2" + (record() + b"\0\0") * 2, BIAS * 2))


def test_an_input_quantizer_without_all_its_parts_is_refused() -> None:
    whole = parts(tiny())
    head, body = taken_apart(encode(tiny()))
    extra = record("3.input_quantizer.scale", shape=()) + b"\0\0"
    assert "input quantizer" in refuses(put_together(_wire.varint(len(whole) + 1) + head[1:] + extra, body + bytes(4)))


def test_no_header_makes_the_reader_claim_memory() -> None:
    bomb = with_checksum(b"LABK\1" + _wire.varint(len(z := lk._deflate(bytes(2 * lk.MAX_HEADER)))) + z)
    many = put_together(b"\xff\xff\xff\xff\x0f" + record(shape=(2**33,)), b"")
    repeated = put_together(_wire.varint(2**40) + (record() + b"\1\4") * 1000, b"")
    tracemalloc.start()
    for raw in (bomb, many, repeated):
        refuses(raw)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * lk.MAX_HEADER


def either_way(raw: bytes) -> None:
    """A file is refused, or read into a model that can be written again."""
    with contextlib.suppress(ValueError):
        encode(decode(raw, INTO))


edits = st.lists(
    st.tuples(st.sampled_from(["change", "insert", "delete"]), st.integers(0, 10**6), st.integers(0, 255)),
    min_size=1, max_size=4,
)  # fmt: skip


def edited(raw: bytes, changes: list[tuple[str, int, int]]) -> bytes:
    out = bytearray(raw)
    for verb, where, byte in changes:
        place = where % max(1, len(out))
        out[place : place + (verb != "insert")] = b"" if verb == "delete" else bytes([byte])
    return bytes(out)


@given(changes=edits)
@settings(max_examples=300, deadline=None)
def test_edited_files_with_a_right_checksum_do_no_harm(changes: list[tuple[str, int, int]]) -> None:
    either_way(with_checksum(edited(SMALL[:-4], changes)))


@given(
    changes=edits,
    in_body=st.lists(st.tuples(st.just("change"), st.integers(0, 10**6), st.integers(0, 255)), max_size=2),
)
@settings(max_examples=800, deadline=None)
def test_edited_headers_and_bodies_do_no_harm(changes: list, in_body: list) -> None:
    head, body = taken_apart(SMALL)
    either_way(put_together(edited(head, changes), edited(body, in_body)))


def test_every_byte_of_the_header_can_be_anything_odd() -> None:
    head, body = taken_apart(SMALL)
    for place in range(len(head)):
        for byte in (0, 1, 3, 0x7F, 0x80, 0xFF):
            either_way(put_together(head[:place] + bytes([byte]) + head[place + 1 :], body))


def test_every_byte_of_the_body_can_be_anything_odd() -> None:
    head, body = taken_apart(SMALL)
    for place in range(len(body)):
        for byte in (0, 0x80, 0xFF):
            either_way(put_together(head, body[:place] + bytes([byte]) + body[place + 1 :]))
