"""The .lk file: bit for bit what was saved, all or nothing on disk, and one clear sentence for every bad file."""

import base64
import copy
import math
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from labkit.compress import codebook
from labkit.compress.grid import Grid
from labkit.compress.magnitude import prune
from labkit.compress.parts import Quantized, parts
from labkit.compress.quantize import install, quantize
from labkit.models import build
from labkit.store import check_equal, container, decode, encode, load, save
from tests.store.nets import small, tiny
from tests.unlabelled import unlabelled

INPUTS = {"lenet-300-100": (4, 1, 28, 28), "lenet-5": (4, 1, 28, 28), "resnet-20": (2, 3, 32, 32)}


def returns(model: nn.Module, into: nn.Module, x: Tensor | None = None) -> bytes:
    """Write, read back, and hold both to be the same; the file."""
    raw = encode(model)
    again = decode(raw, into)
    check_equal(model, again)
    assert encode(again) == raw
    if x is not None:
        with torch.no_grad():
            assert torch.equal(model.eval()(x), again.eval()(x))
    return raw


# --- round trips ---


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("sparsity", [0.0, 0.9])
@pytest.mark.parametrize("bits", [None, 4])
def test_every_architecture_comes_back_and_computes_the_same(name: str, sparsity: float, bits: int | None) -> None:
    torch.manual_seed(0)
    dense = build(name).eval()
    model = prune(dense, sparsity) if sparsity else dense
    model = quantize(model, bits) if bits else model
    returns(model, dense, torch.randn(INPUTS[name]))


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "affine"])
@pytest.mark.parametrize(
    "shared",
    [dict(granularity="tensor"), dict(granularity="channel"), dict(granularity="group", group_size=3)],
    ids=lambda how: how["granularity"],
)
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.95])
def test_every_grid_comes_back(bits: int, symmetric: bool, shared: dict, sparsity: float) -> None:
    torch.manual_seed(bits)
    dense = nn.Sequential(nn.Conv2d(1, 6, 3), nn.Flatten(), nn.Linear(96, 20))
    model = quantize(prune(dense, sparsity), bits, symmetric=symmetric, **shared)
    returns(model, dense, torch.randn(3, 1, 6, 6))


@pytest.mark.parametrize("activation_bits", [2, 8])
def test_input_quantizers_come_back(activation_bits: int) -> None:
    dense, x = build("lenet-300-100"), torch.rand(16, 1, 28, 28)
    model = quantize(dense, 4, activation_bits=activation_bits, calibration=unlabelled(x))
    raw = returns(model, dense, x)
    returns(decode(raw, model), model, x)  # `into` may already round its inputs
    check_equal(dense, decode(encode(dense), model))  # and loses that if the file does not say so


def test_attention_and_embeddings_come_back() -> None:
    torch.manual_seed(0)
    net = nn.ModuleDict(
        dict(words=nn.Embedding(50, 16), attention=nn.MultiheadAttention(16, 4),
             block=nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0))
    ).eval()  # fmt: skip
    x = torch.randn(5, 2, 16)
    for model in (net, prune(net, 0.5), quantize(prune(net, 0.5), 4, granularity="channel")):
        again = decode(returns(model, net), net)
        with torch.no_grad():
            assert torch.equal(model["block"](x), again["block"](x))
            assert torch.equal(model["attention"](x, x, x)[0], again["attention"](x, x, x)[0])


def test_tied_weights_are_stored_once_and_stay_tied() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(40, 8)
            self.out = nn.Linear(8, 40, bias=False)
            self.out.weight = self.words.weight

    net = Tied()
    assert len(encode(net)) < 4 * 320 + 60
    again = decode(encode(net), net)
    check_equal(net, again)
    assert torch.equal(again.out.weight, net.out.weight)


ODD = {
    "float16": torch.tensor([1.5, -0.0, 0.0, float("nan"), float("inf")], dtype=torch.float16),
    "bfloat16": torch.tensor([1.5, -0.0, 0.0, float("-inf")], dtype=torch.bfloat16),
    "float64": torch.tensor([[1e-300, -0.0], [0.0, float("nan")]], dtype=torch.float64),
    "float32": torch.tensor([0x7FC00001, 0x7F800001, -0x80000000, 0, 1], dtype=torch.int32).view(torch.float32),
    "int8": torch.tensor([-128, 127, 0], dtype=torch.int8),
    "int16": torch.tensor([-(2**15), 2**15 - 1], dtype=torch.int16),
    "int32": torch.tensor([-(2**31), 2**31 - 1], dtype=torch.int32),
    "int64": torch.tensor([-(2**63), 2**63 - 1, 0]),
    "uint8": torch.tensor([0, 255], dtype=torch.uint8),
    "bool": torch.tensor([True, False, True]),
    "scalar": torch.tensor(-12345678901),
    "empty": torch.zeros(3, 0),
    "one value": torch.full((1000,), 7),
    "positions": torch.arange(1000).view(10, 100),
    "sparse": torch.eye(40, dtype=torch.float16),
    "not contiguous": torch.arange(12.0).view(3, 4).t(),
}


@pytest.mark.parametrize("kind", ODD)
def test_every_type_comes_back_bit_for_bit(kind: str) -> None:
    net = nn.Module()
    net.register_buffer("x", ODD[kind].clone())
    again = decode(encode(net), net)
    check_equal(net, again)
    assert again.x.dtype == ODD[kind].dtype
    assert again.x.shape == ODD[kind].shape
    flat, back = (t.contiguous().view(-1) for t in (ODD[kind], again.x))
    assert flat.view(torch.uint8).tolist() == back.view(torch.uint8).tolist()


@given(data=st.data(), dtype=st.sampled_from(["float32", "int8", "int32", "int64", "uint8"]))
@settings(max_examples=100, deadline=None)
def test_any_buffer_comes_back(data: st.DataObject, dtype: str) -> None:
    raw = data.draw(st.one_of(st.binary(max_size=400), st.lists(st.sampled_from([0, 0, 0, 0, 1]), max_size=999)))
    values = np.frombuffer(bytes(raw)[: len(raw) // 8 * 8], dtype)
    net = nn.Module()
    net.register_buffer("x", torch.from_numpy(values.copy()))
    returns(net, net)


@given(data=st.data(), symmetric=st.booleans(), granularity=st.sampled_from(["tensor", "channel", "group"]))
@settings(max_examples=150, deadline=None)
def test_any_integers_on_any_grid_come_back(data: st.DataObject, symmetric: bool, granularity: str) -> None:
    low, high = (-128, 127) if symmetric else (0, 255)
    shape = data.draw(st.tuples(st.integers(1, 6), st.integers(1, 60)))
    levels = st.sampled_from(data.draw(st.lists(st.integers(low, high), min_size=1, max_size=5)))
    n = shape[0] * shape[1]
    q = torch.tensor(
        data.draw(st.lists(levels, min_size=n, max_size=n)), dtype=torch.int8 if symmetric else torch.uint8
    )
    anywhere = st.just(0) if symmetric else st.one_of(levels, st.sampled_from([0, 255]))
    divisors = [d for d in range(1, shape[1] + 1) if shape[1] % d == 0]
    grids = {"tensor": (), "channel": (shape[0], 1), "group": (shape[0], data.draw(st.sampled_from(divisors)))}
    n_scales = math.prod(grids[granularity])
    zeros = data.draw(st.lists(anywhere, min_size=n_scales, max_size=n_scales))
    zero_point = torch.tensor(zeros, dtype=torch.int32).view(grids[granularity])
    net = nn.Linear(shape[1], shape[0])
    model = nn.Linear(shape[1], shape[0])
    install(model, "weight", q.view(shape), Grid(torch.ones_like(zero_point).float(), zero_point, 8, symmetric))
    returns(model, net)


def test_pruning_and_fewer_bits_make_the_file_smaller_and_near_its_entropy() -> None:
    torch.manual_seed(0)
    dense = build("lenet-300-100")
    models = [dense, quantize(dense, 8), quantize(dense, 4), quantize(prune(dense, 0.9), 4)]
    sizes = [len(encode(m)) for m in models]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] < 4 * 266_610 + 100  # the header costs little
    entropy = sum(_entropy(part.q) for part in parts(models[3]).values() if isinstance(part, Quantized)) / 8
    assert sizes[3] < 4 * 410 + 1.01 * entropy + 250


def _entropy(q: Tensor) -> float:
    _, counts = np.unique(q.numpy(), return_counts=True)
    return float(-(counts * np.log2(counts / counts.sum())).sum())


def test_clustered_zeros_are_cheaper_than_scattered_ones() -> None:
    torch.manual_seed(0)
    scattered, clustered = (nn.Linear(400, 200, bias=False) for _ in range(2))
    scattered.weight.data *= torch.rand(200, 400) < 0.25
    clustered.weight.data *= torch.arange(400) < 100
    assert len(encode(quantize(clustered, 4))) < 0.7 * len(encode(quantize(scattered, 4)))


def test_a_one_bit_mask_of_signs_takes_a_bit_a_kept_weight() -> None:
    torch.manual_seed(0)
    dense = nn.Linear(1000, 100, bias=False)
    dense.weight.data *= torch.arange(1000) % 100 < 50  # clustered, so that the index is all but free
    assert len(encode(quantize(dense, 1))) < 50_000 / 8 + 1000  # -1 and 1 are neighbours once 0 is in the index


def test_the_file_is_the_same_every_time() -> None:
    assert encode(small()) == encode(small())


# The file of `plain_net` as version 1 wrote it. If its test fails, old files have become unreadable: raise VERSION.
VERSION_1 = base64.b85decode(
    "OhH0R0d8YwGtf)QOe|(#U}RxrVc;;(D^JZ#&nRJJVPdgiVPpUTHXvqZVh&^CXJ?Y*FoY@qX#mO@B6Kq|@EPhAmFDGT=B3ByrY7b="
    "MR^gTWr;-)eWHeXd8N7WNr@%N8L7qbB}IwJ*{LZE>>#TE&;S4cKL7xLz5oCKK;GS*J_iHj00ka|LJI~Qn#wnT3Ij42BoY7s7MVw5"
    "Pcjp2PIdEW#AGh8Lt>^R$F2YXfIk2LfIk2LfIk2LfIk2LfIk2LfIk2LfIk2LfIlMDrH}"
)


def plain_net() -> nn.Module:
    """A net without a random number in it."""
    net = nn.Sequential(nn.Linear(60, 4), nn.BatchNorm1d(4))
    net[0].weight.data = (torch.arange(240.0).view(4, 60) - 70) / 64 * (torch.arange(60) % 30 < 9)
    net[0].bias.data = torch.tensor([0.5, -0.25, 0.0, 2.0])
    return quantize(net, 4)


def test_a_file_of_version_1_is_still_read() -> None:
    check_equal(decode(VERSION_1, plain_net()), plain_net())


def every_kind() -> dict[str, nn.Module]:
    """Nets without a random number that together have every kind of part."""
    few, shared = (torch.arange(240.0).view(4, 60) - 70) / 64 * (torch.arange(60) % 30 < 9), nn.Linear(60, 4)
    for layer in (dense := nn.Linear(60, 4), shared):
        layer.weight.data, layer.bias.data = few.clone(), torch.tensor([0.5, -0.25, 0.0, 2.0])
    indices = (few * 64).to(torch.int16) % 4
    codebook.install(shared, "weight", indices, torch.tensor([-0.5, 0.25, 1.0]))
    how = dict(
        symmetric=False,
        granularity="channel",
        activation_bits=8,
        calibration=unlabelled(torch.arange(120.0).view(2, 60)),
    )
    return {
        "plain": dense,
        "symmetric": quantize(dense, 4),
        "affine by channel, inputs": quantize(dense, 3, **how),
        "affine by group": quantize(dense, 3, symmetric=False, granularity="group", group_size=15),
        "float16": quantize(dense, 4).half(),
        "float16, scale in float32": quantize(copy.deepcopy(dense).half(), 4),
        "shared": shared,
    }


# CRC-32 of inflated header and body, written without entropy coders; what is written otherwise needs a new VERSION
WRITTEN = {
    "plain": 0x37D6FD8D,
    "symmetric": 0x23D6B3D4,
    "affine by channel, inputs": 0x66365CA9,
    "affine by group": 0x7F737007,
    "float16": 0xFE760A4B,
    "float16, scale in float32": 0xBBE5FB39,
    "shared": 0xB0BD0801,
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_every_kind_of_part_is_written_as_it_always_was(kind: str) -> None:
    model = every_kind()[kind]
    head, body = container.opened(encode(model, coders=()), 1 << 20)
    assert zlib.crc32(bytes(head.raw) + bytes(body.raw)) == WRITTEN[kind]
    check_equal(decode(encode(model, coders=()), nn.Linear(60, 4)), model)


def test_models_of_other_bits_types_or_shapes_are_not_equal() -> None:
    q, scale, zero = torch.zeros(2, 3, dtype=torch.int8), torch.tensor(1.0), torch.tensor(0, dtype=torch.int32)
    grids = [Grid(scale, zero, 4, True), Grid(scale, zero, 5, True), Grid(scale, zero, 4, True, torch.float16)]
    models = [nn.Linear(3, 2, bias=False) for _ in grids]
    for model, grid in zip(models, grids, strict=True):
        install(model, "weight", q, grid)
    models += [nn.Linear(3, 2, bias=False), nn.Linear(2, 3, bias=False), nn.Linear(3, 2, bias=False).half()]
    for model in models[3:]:
        nn.init.zeros_(model.weight)
    for i, model in enumerate(models):
        check_equal(model, copy.deepcopy(model))
        for other in models[:i]:
            with pytest.raises(ValueError, match="weight is not the same in the two models"):
                check_equal(model, other)


def test_writing_leaves_the_model_alone_and_reading_leaves_into_alone() -> None:
    model, into = small(), tiny(seed=1)
    before, raw = encode(model), encode(into)
    again = decode(before, into)
    assert encode(model) == before
    assert encode(into) == raw
    for p in again.parameters():
        p.data.zero_()
    assert encode(model) == before


# --- on disk ---


def test_save_and_load(tmp_path: Path) -> None:
    path = save(small(), str(tmp_path / "net.lk"))
    assert path == tmp_path / "net.lk"
    assert path.read_bytes() == encode(small())
    check_equal(load(path, into=tiny()), small())
    assert os.listdir(tmp_path) == ["net.lk"]
    grouped = quantize(tiny(), 3, layers=["3"], granularity="group", group_size=8)
    again = load(save(grouped, path), into=tiny())
    check_equal(again, grouped)
    assert again[3].weight.equal(grouped[3].weight)
    assert again[3].parametrizations.weight[0].scale.shape == (3, 4)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failing_write_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = save(small(0), tmp_path / "net.lk")
    monkeypatch.setattr(os, step, _full_disk)
    with pytest.raises(OSError, match="no space"):
        save(small(1), path)
    assert path.read_bytes() == encode(small(0))
    assert os.listdir(tmp_path) == ["net.lk"]


def _full_disk(*_: object) -> None:
    raise OSError("no space left")


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.lk").write_bytes(b"PK\3\4")
    with pytest.raises(ValueError, match=r"bad.lk: this is not a .lk file: it does not begin with LABK"):
        load(tmp_path / "bad.lk", into=tiny())


# --- what cannot be saved or does not fit ---


def test_a_type_that_a_file_cannot_hold_is_named() -> None:
    net = nn.Module()
    net.register_buffer("spectrum", torch.zeros(2, dtype=torch.complex64))
    said = "spectrum cannot be saved: it is of type complex64; allowed in a .lk file: float32, float64"
    with pytest.raises(ValueError, match=said):
        encode(net)


def test_anything_but_a_module_is_refused() -> None:
    with pytest.raises(TypeError, match="model is a dict; allowed: a torch.nn.Module"):
        encode({})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="into is a NoneType; allowed: a torch.nn.Module"):
        decode(encode(tiny()), None)  # type: ignore[arg-type]


def test_check_equal_sees_the_sign_of_zero_the_bits_and_the_names() -> None:
    one, other = nn.Linear(2, 1), nn.Linear(2, 1, bias=False)
    with pytest.raises(ValueError, match="the models differ in bias"):
        check_equal(one, other)
    one.bias.data.zero_()
    minus = decode(encode(one), one)
    minus.bias.data.neg_()
    with pytest.raises(ValueError, match="bias is not the same in the two models"):
        check_equal(one, minus)
    with pytest.raises(ValueError, match="weight is not the same"):
        check_equal(quantize(one, 4), quantize(one, 5))


def test_what_has_no_end_or_is_too_long_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "long.lk").open("wb") as file:
        file.write(encode(tiny()))
        file.truncate(20 << 30)  # a hole: it takes no room on the disk
    kinds = {
        "pipe": "a device, a pipe or a socket",
        ".": "a folder",
        "long.lk": r"it has 21474836480 bytes; allowed: \d+",
    }
    for name, said in kinds.items():
        with pytest.raises(ValueError, match=said):
            load(tmp_path / name, into=tiny())
    with pytest.raises(ValueError, match="a device, a pipe or a socket; allowed: a regular file"):
        load("/dev/zero", into=tiny())
