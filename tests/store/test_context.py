"""Context coding: exact for any sparse matrix, smaller where there is structure, refused where not its own."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import labkit as lk
from labkit.compress._weights import weights
from labkit.data import data_dir
from labkit.models import ARCHITECTURES, build
from labkit.store import _wire, context
from labkit.store.coding import CODERS, entropy_bits
from labkit.store.context import TOP, context_decode, context_encode
from labkit.store.file import check_equal
from labkit.store.tensors import DTYPES
from tests.store.test_hostile import put_together, refuses


def sparse(rows, columns, share, top, seed):
    rng = np.random.default_rng(seed)
    return (rng.random((rows, columns)) < share) * rng.integers(-top, top + 1, (rows, columns))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 12), st.integers(1, 25), st.floats(0, 1), st.integers(1, TOP), st.integers(1, 25),
    st.integers(0, 10**6),
)  # fmt: skip
def test_every_matrix_comes_back(rows, columns, share, top, stride, seed):
    q = sparse(rows, columns, share, top, seed)
    mask, values = context_encode(q, stride)
    assert (context_decode(mask, values, q.shape, stride) == q).all()


def test_random_places_cost_their_entropy_and_no_more():
    q = sparse(300, 400, 0.02, 3, 0)
    mask, values = context_encode(q, 20)
    kept = int((q != 0).sum())
    assert (
        entropy_bits(np.array([q.size - kept, kept])) / 8
        < len(mask)
        < 1.08 * entropy_bits(np.array([q.size - kept, kept])) / 8
    )
    floor = entropy_bits(np.unique(q[q != 0], return_counts=True)[1]) / 8
    assert floor * 0.97 < len(values) < 1.1 * floor


def test_structure_is_seen():
    """Whole rows that are empty, and signs that a pixel shares with the pixel above, cost much less than entropy."""
    rng = np.random.default_rng(0)
    picture = np.repeat(rng.integers(-1, 2, (40, 14)), 28, axis=1).reshape(40, -1)[:, : 14 * 28]
    picture[rng.random(40) < 0.5] = 0
    kept = int((picture != 0).sum())
    plain = (entropy_bits(np.array([picture.size - kept, kept])) + kept) / 8
    assert sum(map(len, context_encode(picture, 28))) < 0.35 * plain


def test_streams_that_were_not_written_are_refused_or_are_another_matrix():
    q = sparse(30, 40, 0.1, 3, 1)
    written = context_encode(q, 5)
    with pytest.raises(ValueError, match="context-coded"):
        context_decode(written[0], written[1] + b"\1", q.shape, 5)
    refused = 0
    for which in (0, 1):
        for place in range(0, len(written[which]), 5):
            changed = bytearray(written[which])
            changed[place] ^= 1 << place % 8
            streams = [*written[:which], bytes(changed), *written[which + 1 :]]
            try:
                assert (context_decode(*streams, q.shape, 5) != q).any()
            except ValueError:
                refused += 1
    assert refused


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 20, 5), nn.Linear(100, 60)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(
    "shared",
    [dict(granularity="tensor"), dict(granularity="channel"), dict(granularity="group", group_size=25)],
    ids=lambda how: how["granularity"],
)
def test_a_thorough_file_is_never_longer_and_reads_back_equal(symmetric, shared):
    torch.manual_seed(0)
    dense = Small()
    small = lk.quantize(lk.prune(dense, 0.9), 3, symmetric=symmetric, **shared)
    quick, thorough = lk.encode(small), lk.encode(small, coders=CODERS)
    assert len(thorough) <= len(quick)
    check_equal(small, lk.decode(thorough, into=dense))
    assert lk.ledger(small, coders=CODERS)["bytes"].sum() == len(thorough)


def test_a_file_with_context_coding_that_is_cut_or_changed_is_refused(tmp_path):
    torch.manual_seed(1)
    dense = Small()
    with torch.no_grad():
        dense.fc.weight[10:] *= 1e-3  # busy rows: context coding wins
    small = lk.quantize(lk.prune(dense, 0.97), 2)
    raw = lk.save(small, tmp_path / "a.lk", coders=CODERS).read_bytes()
    assert lk.ledger(small, coders=CODERS).coder.str.contains("context").any()
    for end in range(0, len(raw), 7):
        with pytest.raises(ValueError, match="."):
            lk.decode(raw[:end], into=dense)


@pytest.mark.parametrize("allowed", [(), ("huffman",), ("range",), ("huffman", "range"), CODERS])
def test_only_the_coders_that_are_allowed_are_used(allowed):
    torch.manual_seed(0)
    dense = Small()
    small = lk.quantize(lk.prune(dense, 0.8), 3)
    table = lk.ledger(small, coders=allowed)
    known = {"raw", "deflate", "checksum", *allowed} | ({"adaptive range"} if "context" in allowed else set())
    used = {part.split(", ")[-1].split()[0] for cell in table.coder for part in cell.split("; ")}
    assert used <= {name.split()[0] for name in known}
    assert set(allowed) - {"context"} == set() or used & {"huffman", "range", "adaptive"}
    check_equal(small, lk.decode(lk.encode(small, coders=allowed), into=dense))


def test_an_unknown_coder_is_refused():
    with pytest.raises(ValueError, match="coders is 'zip'; allowed: 'raw', 'huffman', 'range', 'context'"):
        lk.encode(Small(), coders=["zip"])


def steps(call, *args):
    """How many columns are walked in a call, its result after them."""
    walked, old = [], context._walk
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context, "_walk", lambda *given: walked.append(given[2].shape[1]) or old(*given))
        found = call(*args)
    return sum(walked), found


@pytest.mark.parametrize("turned", [False, True])
def test_of_a_long_layer_only_the_short_side_is_walked(turned):
    torch.manual_seed(0)
    into = nn.Linear(20_000, 1) if turned else nn.Linear(1, 20_000)
    small = lk.quantize(lk.prune(into, 0.9), 2)
    walked, raw = steps(lambda: lk.encode(small, coders=CODERS))
    assert 0 < walked <= 2
    walked, again = steps(lambda: lk.decode(raw, into=into))
    assert walked <= 2
    check_equal(small, again)


@pytest.mark.parametrize("shape", [(1, 200_000), (200_000, 1), (8, 1025), (2**13, 2**10)])
def test_no_file_makes_the_reader_walk_further(shape):
    """45 bytes that claim a context-coded layer: read if its short side is walked, refused at once if not."""
    rows, columns = shape
    for turned in (0, 1):
        walks = context.can_walk((columns, rows) if turned else shape)
        numbers = b"".join(map(_wire.varint, (1, DTYPES.index("int8"), 2, rows, columns, 2, 1)))
        scale = bytes([0, 0, 0, 0]) + bytes([DTYPES.index("int32"), 0, 0, 0, 3])
        head = b"\1" + _wire.text("weight") + numbers + scale + _wire.varint(3) + _wire.varint(2 + turned) + b"\0\0"
        raw = put_together(head, np.float32(1).tobytes())
        into = nn.Linear(columns, rows)
        said = "the file has no bias" if walks else "too long or too large for the layout context"
        walked, sentence = steps(refuses, raw, into)
        assert said in sentence
        assert walked <= 2 * min(shape) * walks


def test_every_shape_that_ships_is_walked_both_ways():
    for name in ARCHITECTURES:
        for weight in weights(build(name)).values():
            shape = (len(weight), weight.numel() // len(weight))
            assert context.can_walk(shape)
            assert context.can_walk(shape[::-1]) or min(shape) == 1


@pytest.mark.slow
def test_the_records_that_ship_are_written_again_byte_for_byte():
    for path in sorted((data_dir() / "records").glob("*plain--seed0.lk")):
        raw = path.read_bytes()
        model = lk.decode(raw, into=build(path.name.split("--")[0]))
        assert lk.encode(model, coders=CODERS) == raw
