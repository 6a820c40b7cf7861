"""Codebooks in a .lk file: exactly equal, every byte accounted for, one sentence for whatever is wrong."""

import contextlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_hostile import put_together, record, refuses, taken_apart, with_checksum
from torch import nn

from labkit.compress.codebook import install, share_weights
from labkit.compress.magnitude import prune
from labkit.compress.quantize import quantize
from labkit.models import build
from labkit.store import _wire, check_equal, decode, encode, ledger, size_table


def tiny(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(32, 3)).eval()


SHARED = encode(share_weights(prune(tiny(), 0.6), 2))


def test_theory_counts_the_indices_and_the_codebook():
    net = nn.Linear(4, 2, bias=False)
    install(net, "weight", torch.tensor([[0, 0, 0, 0], [1, 1, 2, 2]], dtype=torch.int16), torch.tensor([-1.0, 0.5]))
    sizes = size_table(net).set_index("what")["bytes"]
    assert sizes["theory: entropy of mask and values"] == (8 + 4 + 2 * 32 + 4) // 8  # 8 bits of mask, 4 of indices


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("init", ["linear", "random"])
def test_every_codebook_comes_back(bits, sparsity, init):
    torch.manual_seed(bits)
    dense = nn.Sequential(nn.Conv2d(1, 6, 3), nn.Flatten(), nn.Linear(96, 40))
    model = share_weights(prune(dense, sparsity), bits, init=init)
    raw = encode(model)
    for into in (dense, model, quantize(dense, 3)):
        again = decode(raw, into)
        check_equal(model, again)
        assert encode(again) == raw
    x = torch.randn(3, 1, 6, 6)
    assert again(x).equal(model(x))
    check_equal(dense, decode(encode(dense), model))


def test_odd_codebooks_come_back():
    empty, tied = nn.Linear(3, 2), nn.ModuleDict(dict(a=nn.Linear(4, 4), b=nn.Linear(4, 4)))
    empty.weight.data.zero_()
    tied["b"].weight = tied["a"].weight
    signed = nn.Linear(2, 2)
    install(signed, "weight", torch.tensor([[0, 1], [2, 1]], dtype=torch.int16), torch.tensor([-0.0, float("inf")]))
    for model, into in ((share_weights(empty, 3), empty), (share_weights(tied, 1), tied), (signed, nn.Linear(2, 2))):
        check_equal(model, decode(encode(model), into))
    wide = share_weights(nn.Linear(20, 20).double(), 8)
    check_equal(wide, decode(encode(wide), nn.Linear(20, 20)))


def test_check_equal_sees_indices_and_centroids():
    one, other = share_weights(tiny(), 2), share_weights(tiny(), 2)
    check_equal(one, other)
    other[3].parametrizations.weight[0].codebook.data[0] += 1e-6
    with pytest.raises(ValueError, match="3.weight is not the same in the two models"):
        check_equal(one, other)
    other = share_weights(tiny(), 2)
    other[0].parametrizations.weight.original.data[0, 0, 0, 0] = 0
    with pytest.raises(ValueError, match="0.weight is not the same"):
        check_equal(one, other)


def test_the_ledger_names_the_codebook_and_sums_to_the_file():
    torch.manual_seed(0)
    model = share_weights(prune(build("lenet-300-100"), 0.9), 4)
    table, raw = ledger(model), encode(model)
    by = table.groupby("component")["bytes"].sum()
    assert by.sum() == len(raw)
    centroids = sum(len(m.codebook) for m in model.modules() if hasattr(m, "codebook"))
    assert by["codebook"] == 4 * centroids
    assert by["biases"] == 4 * 410
    theory = size_table(model).set_index("what")["bytes"]["theory: entropy of mask and values"]
    assert theory - 50 < len(raw) < 1.02 * theory + 250


def test_a_file_cut_short_or_changed_anywhere_is_refused():
    for length in range(len(SHARED)):
        refuses(SHARED[:length])
    for place in range(len(SHARED)):
        raw = bytearray(SHARED)
        raw[place] ^= 0x80
        refuses(bytes(raw))


CODEBOOK = record("", 0, "float32", (2,))[2:] + b"\0\0"  # dense words
WEIGHT = record("3.weight", 2, "int16", (3, 32))
HOSTILE = {
    "a shape of its own": (record("3.weight", 2, "int16", (3, 2**40)), "which does not fit `into`"),
    "too many centroids": (WEIGHT + record("", 0, "float32", (2**40,))[2:], "it has shape (1099511627776,)"),
    "a table of centroids": (WEIGHT + record("", 0, "float32", (1, 2))[2:], "it has shape (1, 2)"),
    "indices of 8 bits": (
        record("3.weight", 2, "int8", (3, 32)) + CODEBOOK,
        "indices are int8 and the codebook torch.float32; allowed: int16 and a float",
    ),
    "whole centroids": (
        WEIGHT + record("", 0, "int32", (2,))[2:] + b"\0\0\3",
        "indices are int16 and the codebook torch.int32; allowed: int16 and a float",
    ),
    "an index beyond": (
        WEIGHT + CODEBOOK + b"\0" + _wire.signed(3) + b"\3",
        "its values run from 3 to 3; allowed: 0 to 2",
    ),
    "an index below": (
        WEIGHT + CODEBOOK + b"\0" + _wire.signed(-1) + b"\3",
        "its values run from -1 to -1; allowed: 0 to 2",
    ),
    "a buffer": (
        record("1.running_mean", 2, "int16", (2,)) + CODEBOOK + b"\0" + _wire.signed(1) + b"\3",
        "it is of kind codebook; allowed for a buffer of `into`: tensor",
    ),
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_a_hostile_header_with_a_right_checksum_is_refused(fault):
    head, sentence = HOSTILE[fault]
    assert sentence in refuses(put_together(b"\1" + head, bytes(8)))


@settings(max_examples=300)
@given(st.data())
def test_any_change_of_header_or_body_is_a_sentence_or_a_model(data):
    parts = [bytearray(part) for part in taken_apart(SHARED)]
    part = data.draw(st.sampled_from(parts))
    for _ in range(data.draw(st.integers(1, 3))):
        part[data.draw(st.integers(0, len(part) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError):
        again = decode(put_together(*map(bytes, parts)), tiny())
        encode(again)
    with contextlib.suppress(ValueError):
        decode(with_checksum(SHARED[:9] + data.draw(st.binary(max_size=40))), tiny())
