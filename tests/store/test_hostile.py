"""Hostile .lk files: whatever the bytes, a clear sentence or a model, never another exception, never much memory."""

import contextlib
import math
import struct
import tracemalloc
import zlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from labkit.compress.parts import parts
from labkit.compress.quantize import quantize
from labkit.store import _wire, check_equal, container, decode, encode, tensors
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
    head, body = container.opened(raw, 1 << 20)
    return bytes(head.raw), bytes(body.raw)


def put_together(head: bytes, body: bytes) -> bytes:
    deflated = container.deflate(head)
    return with_checksum(container.MAGIC + bytes([container.VERSION]) + _wire.varint(len(deflated)) + deflated + body)


def test_taking_a_file_apart_and_putting_it_together_changes_nothing() -> None:
    assert put_together(*taken_apart(SMALL)) == SMALL


def test_a_model_that_does_not_fit_is_named() -> None:
    raw = encode(nn.Sequential(nn.Linear(3, 2)))
    with pytest.raises(ValueError, match=r"0.weight in the file: it has shape \(2, 3\), which does not fit"):
        decode(raw, nn.Sequential(nn.Linear(4, 2)))
    with pytest.raises(ValueError, match="the file holds '0.bias', which Sequential lacks; give the model"):
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
    assert refuses(put_together(head + b"\0", body)) == "the header goes on for 1 bytes after its end"
    assert refuses(put_together(head, body + b"\0")) == "the body goes on for 1 bytes after its end"
    assert "the body has only" in refuses(put_together(head, body[:-1]))
    assert "the header has only" in refuses(put_together(head[:-1], body))


def record(name: str = "3.bias", kind: int = 0, dtype: str = "float32", shape: tuple[int, ...] = (3,)) -> bytes:
    """One tensor's first words in a header."""
    numbers = [kind, tensors.DTYPES.index(dtype) if dtype in tensors.DTYPES else 99, len(shape), *shape]
    return _wire.text(name) + b"".join(map(_wire.varint, numbers))


def grid(zero_point: int = 0, shape: tuple[int, ...] = ()) -> bytes:
    """Scale, its one float in the body, and zero point."""
    zero = record("", 0, "int32", shape)[2:] + b"\0" + _wire.signed(zero_point) + b"\3"
    return record("", 0, "float32", shape)[2:] + b"\0\0" + zero


ONE = struct.pack("<f", 1)
HOSTILE = {
    "unknown tensor": (_wire.text("nobody"), "the file holds 'nobody', which Sequential lacks; give the model"),
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
        record("1.running_mean", 1, "int8", (2,)) + b"\3\1" + grid() + b"\0\0\3",
        "it is of kind quantized; allowed for a buffer of `into`: tensor",
    ),
    "nine bits": (record("3.weight", 1, "int8", (3, 32)) + b"\x09\1", "9 bits in int8 are not a quantized weight"),
    "scale too long": (
        record("3.weight", 1, "int8", (3, 32)) + b"\3\1" + record("", 0, "float32", (5,))[2:], "it has shape (5,)",
    ),
    "huge gaps": (record() + b"\2\3" + _wire.varint(2**60), "gaps of 3 bits cannot index 3 values"),
    "rounding of nothing": (_wire.text("9.input_quantizer.scale"), "which Sequential lacks"),
    "huge rounding": (record("3.input_quantizer.scale", shape=(2**50,)), "which does not fit"),
    "rounding of another shape": (record("3.input_quantizer.scale", shape=(0, 2**62)), "it has shape (0, 461168"),
    "rounding by a whole number": (
        record("3.input_quantizer.scale", 0, "uint8", ()) + b"\0\0\3", "it is no part of an input quantizer",
    ),
    "rounding by another name": (
        record("3.input_quantizer.evil", 0, "uint8", ()) + b"\0\0\3",
        "the file holds '3.input_quantizer.evil', which Sequential lacks",
    ),
    "rounding of a layer without weights": (_wire.text("2.input_quantizer.scale"), "which Sequential lacks"),
    "a name of many lines": (_wire.text("\n\x1b[2J" * 50), r"the file holds '\n\x1b[2J"),
    "a layout of whole numbers for floats": (record() + b"\3\6\0", "layout is context; allowed here: dense, bitmap"),
    "more gaps than values": (record() + b"\2\3\4", "4 gaps of 3 bits cannot index 3 values"),
    "value outside its type": (record("1.num_batches_tracked", 0, "int64", ()) + b"\0" + _wire.signed(2**63) + b"\3",
                               "its values run from 9223372036854775808 to 9223372036854775808; allowed: -92"),
}  # fmt: skip


@pytest.mark.parametrize("fault", HOSTILE)
def test_a_hostile_header_with_a_right_checksum_is_refused(fault: str) -> None:
    head, sentence = HOSTILE[fault]
    assert sentence in refuses(put_together(b"\1" + head, 3 * ONE))


def test_a_tensor_listed_twice_is_refused() -> None:
    assert "it is listed twice" in refuses(put_together(b"\2" + (record() + b"\0\0") * 2, 6 * ONE))


GRIDS = {
    "nan": (math.nan, grid(), "scale is nan; allowed: finite numbers above 0"),
    "infinite": (math.inf, grid(), "scale is inf; allowed: finite numbers above 0"),
    "nothing": (0.0, grid(), "scale is 0.0; allowed: finite numbers above 0"),
    "negative": (-1.0, grid(), "scale is -1.0; allowed: finite numbers above 0"),
    "not centred": (1.0, grid(1), "zero_point is 1; allowed: 0, the grid is symmetric"),
    "long": (1.0, grid(shape=(32,)), "it has shape (32,), which does not fit"),
    "groups that divide no row": (1.0, grid(shape=(3, 5)), "it has shape (3, 5), which does not fit"),
    "groups of more rows": (1.0, grid(shape=(4, 8)), "it has shape (4, 8), which does not fit"),
    "groups of columns": (1.0, grid(shape=(8, 3)), "it has shape (8, 3), which does not fit"),
    "more groups than weights": (1.0, grid(shape=(3, 64)), "it has shape (3, 64), which does not fit"),
    "groups of two sizes": (
        1.0,
        grid()[:-5] + record("", 0, "int32", (3, 4))[2:],
        "it has shape (3, 4), which does not fit",
    ),
    "of two shapes": (1.0, grid()[:-5] + record("", 0, "int32", (3, 1))[2:], "it has shape (3, 1), which does not fit"),
}


@pytest.mark.parametrize("fault", GRIDS)
def test_a_grid_that_no_quantizer_makes_is_refused(fault: str) -> None:
    scale, stored, sentence = GRIDS[fault]
    raw = put_together(b"\1" + record("3.weight", 1, "int8", (3, 32)) + b"\3\1" + stored, struct.pack("<f", scale))
    assert sentence in refuses(raw)


@pytest.mark.parametrize(("bits", "how", "zero_point"), [(3, 1, 0), (3, 0, 7), (1, 1, 0), (1, 0, 1)])
def test_integers_outside_their_bits_are_refused(bits: int, how: int, zero_point: int) -> None:
    low, high = (-(2 ** (bits - 1)), max(1, 2 ** (bits - 1) - 1)) if how else (0, 2**bits - 1)
    dtype = "int8" if how else "uint8"
    start = record("3.weight", 1, dtype, (3, 32)) + bytes([bits, how]) + grid(zero_point)
    for q in (low - 1, low, high, high + 1):
        dense = b"\0" + _wire.signed(q) + b"\3"
        away = q - zero_point
        sparse = b"\1\4" + _wire.signed(away) + b"\3"  # all places, by a bitmap of ones
        said = "the file has no" if low <= q <= high else "its values run from"
        assert said in refuses(put_together(b"\1" + start + dense, ONE))
        if away:
            assert said in refuses(put_together(b"\1" + start + sparse, ONE + b"\xff" * 12))


def test_floats_of_several_types_are_refused_unless_into_has_them() -> None:
    mixed = tiny().double()
    mixed[3].half()
    check_equal(mixed, decode(encode(mixed), mixed))
    check_equal(tiny().double(), decode(encode(tiny().double()), INTO))
    assert "0.weight in the file: it is torch.float64, others are not; allowed: one type or torch.float32" in refuses(
        encode(mixed)
    )


def test_what_cannot_be_read_cannot_be_saved() -> None:
    for path in ("3.parametrizations.weight.0", "3.input_quantizer"):
        for attribute, value in (("scale", 0.0), ("zero_point", 300)):
            model = small()
            getattr(model.get_submodule(path), attribute).fill_(value)
            with pytest.raises(ValueError, match=rf"3.* cannot be saved: {attribute} is {value}; allowed: "):
                encode(model)
    model = small()
    rule = model[3].parametrizations.weight[0]
    rule.scale, rule.zero_point = torch.ones(3, 5), torch.zeros(3, 5, dtype=torch.int32)
    with pytest.raises(ValueError, match=r"^3.weight cannot be saved: scale has the shape \(3, 5\) and zero_point"):
        encode(model)
    model = small()
    model[3].parametrizations.weight.original.data[0, 0] = 100
    with pytest.raises(ValueError, match=r"3.weight cannot be saved: its values run from -\d to 100; allowed: -4 to 3"):
        encode(model)


@pytest.mark.parametrize("change", ["half", "double", "bfloat16"])
def test_input_quantizers_of_another_type_come_back(change: str) -> None:
    model = getattr(small(), change)()
    check_equal(model, decode(encode(model), INTO))


def test_an_input_quantizer_without_all_its_parts_is_refused() -> None:
    whole = parts(tiny())
    head, body = taken_apart(encode(tiny()))
    extra = record("3.input_quantizer.scale", shape=()) + b"\0\0"
    said = refuses(put_together(_wire.varint(len(whole) + 1) + head[1:] + extra, body + bytes(4)))
    assert said.startswith("the file has no 3.input_quantizer.zero_point; allowed: all of 3.input_quantizer.scale, ")


def test_rounding_to_more_bits_than_there_are_is_refused() -> None:
    model = small()
    raw = taken_apart(encode(model))
    place = raw[0].index(b"3.input_quantizer.bits") + len("3.input_quantizer.bits") + 4
    assert raw[0][place : place + 2] == _wire.signed(8) + b"\3"
    head = raw[0][:place] + _wire.signed(9) + raw[0][place + 1 :]
    said = refuses(put_together(head, raw[1]))
    assert said == "3.input_quantizer in the file: bits is 9; allowed: a whole number from 1 to 8"


def test_no_header_makes_the_reader_claim_memory() -> None:
    bomb = with_checksum(b"LABK\1" + _wire.varint(len(z := container.deflate(bytes(1 << 25)))) + z)
    many = put_together(b"\xff\xff\xff\xff\x0f" + record(shape=(2**33,)), b"")
    repeated = put_together(_wire.varint(2**40) + (record() + b"\1\4") * 1000, b"")
    rounding = [record(f"3.input_quantizer.{i:09}.scale", shape=(64, 64)) + b"\1\3" for i in range(10_000)]
    junk = put_together(_wire.varint(10_000) + b"".join(rounding), b"")
    tracemalloc.start()
    for raw in (bomb, many, repeated, junk):
        refuses(raw)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_header_is_never_longer_than_its_model_allows() -> None:
    deep = nn.Sequential(*(nn.Linear(1, 1) for _ in range(100)))
    odd = nn.Module()
    odd.register_buffer("x", torch.zeros([1] * 60, dtype=torch.int64).fill_(-(2**63)))
    for model in (tiny(), small(), deep, quantize(deep, 8, symmetric=False, granularity="channel"), odd, nn.ReLU()):
        check_equal(model, decode(encode(model), model))


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
