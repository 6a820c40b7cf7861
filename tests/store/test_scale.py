"""Large models: memory that stays near the tensors' own, and chunks that leave no trace in a file."""

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from labkit.compress.codebook import initial_centroids, k_means, share_weights
from labkit.compress.magnitude import prune
from labkit.compress.quantize import quantize
from labkit.store import check_equal, decode, encode, packing, save
from labkit.store.coding import CODERS

KINDS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "dense": lambda model: model,
    "pruned": lambda model: prune(model, 0.9),
    "4 bits": lambda model: quantize(model, 4),
    "pruned, 4 bits": lambda model: quantize(prune(model, 0.9), 4),
    "pruned, affine, by channel": lambda model: quantize(prune(model, 0.6), 5, symmetric=False, granularity="channel"),
    "shared": lambda model: share_weights(model, 4),
    "pruned, shared": lambda model: share_weights(prune(model, 0.8), 3),
}


def net(width: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(width, width), nn.Linear(width, width)).requires_grad_(False)


class Peak:
    bytes = 0


@contextmanager
def traced() -> Iterator[Peak]:
    """The most bytes that NumPy and Python claimed inside; torch's tensors are not seen."""
    peak = Peak()
    tracemalloc.start()
    try:
        yield peak
        peak.bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# most bytes over those of the float weights: (save, decode)
LIMITS = {
    "dense": (0.1, 1.1),
    "pruned": (0.4, 1.3),
    "4 bits": (1.3, 0.7),
    "pruned, 4 bits": (0.5, 0.6),
    "shared": (1.1, 0.9),
}


@pytest.mark.parametrize("kind", LIMITS)
def test_two_million_weights_are_written_and_read_in_little_memory(kind: str, tmp_path: Path) -> None:
    into = net(1000)
    model, size = KINDS[kind](into), 4 * 2_000_000
    raw = encode(model)
    with traced() as writing:
        save(model, tmp_path / "model.lk")
    with traced() as reading:
        decode(raw, into)
    assert writing.bytes < LIMITS[kind][0] * size
    assert reading.bytes < LIMITS[kind][1] * size


class Copies(TorchDispatchMode):
    """Counts the numbers that torch copies."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func.overloadpacket in (torch.ops.aten.clone, torch.ops.aten.copy_, torch.ops.aten._to_copy):
            self.numbers += made.numel()
        return made


@pytest.mark.parametrize("kind", KINDS)
def test_reading_copies_neither_the_old_weights_nor_the_new(kind: str) -> None:
    into = net(40)
    raw = encode(KINDS[kind](into))
    with Copies() as copies:
        decode(raw, into)
    assert copies.numbers < 1000 < sum(p.numel() for p in into.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_file_is_the_encoded_one_byte_for_byte(kind: str, tmp_path: Path) -> None:
    model = KINDS[kind](net(40))
    for coders in ((), ("huffman",), ("range",), CODERS):
        assert save(model, tmp_path / "model.lk", coders).read_bytes() == encode(model, coders)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("coders", [(), ("huffman",), ("range",)], ids=["raw", "huffman", "range"])
def test_chunks_leave_no_trace_in_a_file(kind: str, coders: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    model = KINDS[kind](net(40))
    whole = encode(model, coders)  # one chunk holds all of it
    monkeypatch.setattr(packing, "CHUNK", 56)
    assert encode(model, coders) == whole
    again = decode(whole, net(40))
    check_equal(model, again)


def test_a_file_is_no_view_of_the_model() -> None:
    model = net(10)
    raw = encode(model)
    before = bytes(raw)
    model[0].weight.zero_()
    assert isinstance(raw, bytes)
    assert raw == before
    again = decode(raw, model)
    model[1].weight.zero_()
    assert again[0].weight.all()
    assert again[1].weight.all()


# --- k-means ---


@settings(deadline=None)
@given(
    values=st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=60),
    k=st.integers(1, 8),
    init=st.sampled_from(["linear", "density", "random"]),
)
def test_k_means_of_narrow_floats_is_that_of_the_same_wide_ones(values: list[float], k: int, init: str) -> None:
    x = torch.tensor(values)
    assert k_means(x, k, init).equal(k_means(x.double(), k, init).float())
    half = x.half()
    assert k_means(half, k, init).equal(k_means(half.double(), k, init).half())


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60), st.integers(1, 256))
def test_density_starts_at_numpy_s_quantiles(values: list[float], k: int) -> None:
    x = np.sort(np.array(values, np.float32))
    quantiles = np.quantile(x.astype(np.float64), (np.arange(k) + 0.5) / k)
    assert np.array_equal(initial_centroids(x, k, "density"), np.unique(quantiles))


@pytest.mark.parametrize("init", ["linear", "density", "random"])
def test_k_means_claims_three_times_its_values(init: str) -> None:
    x = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0))
    with traced() as peak:
        k_means(x, 16, init)
    assert peak.bytes < 3.2 * 4_000_000
