"""One network in the formats that it can leave the lab in: its file, its accuracy in that format, milliseconds."""

import functools
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from labkit import store
from labkit._module import evaluating
from labkit.compress.fold import folded
from labkit.compress.grid import to_integers
from labkit.compress.integer import IntegerNetwork, integer_only
from labkit.compress.quantize import quantize
from labkit.compress.structured import prune_channels
from labkit.data import Data, Split, take
from labkit.export import c, onnx
from labkit.export.to_onnx import session_of
from labkit.measure import macs

NETWORKS = (("lenet-5", "mnist"), ("lenet-300-100", "mnist"), ("resnet-20", "cifar10"), ("mobilenet", "cifar10"))
CALIBRATION = 256  # training images that set the ranges of activations
WARM = 3  # passes before the clock starts
Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Shipped:
    """A network that has left the lab: the bytes of its file, what runs it, and the network that it came from."""

    file: str
    raw: bytes
    run: Run  # inputs to logits
    model: nn.Module
    clock: Callable[[Tensor], tuple[float, float, float] | None] | None = None  # instead of `milliseconds` of `run`
    payload: int = 0  # bytes of C's tables of weights: a header is a text, several times as long

    @property
    def size_bytes(self) -> int:
        """Bytes of the file, or of the tables in C."""
        return self.payload or len(self.raw)


def labkit_file(model: nn.Module, data: Data) -> Shipped:
    """The `.lk` file; torch runs what is read from it."""
    raw = store.encode(model)
    return Shipped("network.lk", raw, torch_run(store.decode(raw, into=model)), model)


def onnx_file(model: nn.Module, data: Data) -> Shipped:
    """The ONNX file; onnxruntime runs it as it does by default, with torch's number of threads."""
    with tempfile.TemporaryDirectory() as folder:
        raw = onnx(model, data.validation.x[:2], Path(folder) / "network.onnx").read_bytes()
    return Shipped("network.onnx", raw, onnx_run(raw), model)


def c_header(model: nn.Module, data: Data) -> Shipped:
    """The C header; here the integer network runs that the C code equals."""
    with tempfile.TemporaryDirectory() as folder:
        raw = c(model, data.validation.x[:1], Path(folder) / "network.h", name="network").read_bytes()
    whole = integer_only(model)
    payload = int(re.findall(rb"_PAYLOAD (\d+)", raw)[0])
    clock = functools.partial(c_milliseconds, raw, whole)
    return Shipped("network.h", raw, torch_run(whole), model, clock, payload)


def torch_run(model: nn.Module) -> Run:
    """The network in torch, in evaluation mode."""

    @torch.inference_mode()
    def run(x: Tensor) -> Tensor:
        with evaluating(model):
            logits: Tensor = model(x)
        return logits

    return run


def onnx_run(raw: bytes) -> Run:
    """The ONNX file `raw` in onnxruntime."""
    session = session_of(raw, optimize=True, threads=torch.get_num_threads())
    name = session.get_inputs()[0].name
    return lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])


def rounded(model: nn.Module, data: Data, bits: int, activation_bits: int | None = None) -> nn.Module:
    """Weights as integers, one scale per channel; with activation_bits the inputs of the layers, too."""
    few = take(data.train, min(CALIBRATION, len(data.train))) if activation_bits else None
    return quantize(
        folded(model), bits, granularity="channel", activation_bits=activation_bits, calibration=few
    )  # fmt: skip


def half_the_macs(model: nn.Module, data: Data, multiples: Sequence[int] = (8, 1)) -> nn.Module:
    """The network without the units whose removal leaves just under half of the MACs; not trained again.

    Each layer keeps a multiple of eight units, where that can be: with 11 channels instead of 16 a runtime may need
    more time. ValueError if so many MACs stay whatever is removed.
    """
    image = data.validation.x[0]
    most = macs(model, image) / 2
    for round_to in multiples:
        how: dict[str, Any] = dict(example=image[None], importance="l2", scope="layer", round_to=round_to)
        low, high = 0.0, 0.9
        for _ in range(6):
            middle = (low + high) / 2
            small = prune_channels(model, middle, **how)
            low, high = (low, middle) if macs(small, image) <= most else (middle, high)
        small = prune_channels(model, high, **how)
        if (left := macs(small, image)) <= most:
            return small
    raise ValueError(f"model {type(model).__name__} keeps {left:,} of {2 * most:,.0f} MACs; allowed: half at most")


FORMATS: dict[str, Callable[[nn.Module, Data], Shipped]] = {
    "labkit, float32": labkit_file,
    "labkit, 4 bits": lambda model, data: labkit_file(quantize(model, 4), data),
    "ONNX, float32": onnx_file,
    "ONNX, weights 8 bits": lambda model, data: onnx_file(rounded(model, data, 8), data),
    "ONNX, weights 4 bits": lambda model, data: onnx_file(rounded(model, data, 4), data),
    # 7 bits: with 8, an x86 processor without VNNI clamps sums, and the accuracy would depend on the processor
    "ONNX, int8": lambda model, data: onnx_file(rounded(model, data, 7, 8), data),
    "ONNX, half the MACs": lambda model, data: onnx_file(half_the_macs(model, data), data),
    "C, 4 bits": lambda model, data: c_header(rounded(model, data, 4, 8), data),
}


PROGRAM = """#include <stdio.h>
#include <time.h>
#define NETWORK_IMPLEMENTATION
#include "network.h"
int main(void) {
    static uint8_t input[NETWORK_INPUTS];
    static int32_t logits[NETWORK_LOGITS];
    while (fread(input, 1, sizeof input, stdin) == sizeof input) {
        clock_t started = clock();
        network_infer(input, logits);
        printf("%f\\n", 1e3 * (double)(clock() - started) / CLOCKS_PER_SEC);
    }
    return 0;
}
"""


def c_milliseconds(raw: bytes, whole: nn.Module, x: Tensor) -> tuple[float, float, float] | None:
    """`milliseconds` of the processor for the C header `raw` on x; None where there is no C compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "network.h").write_bytes(raw)
        (Path(folder) / "main.c").write_text(PROGRAM)
        command = [compiler, "-std=c99", "-O2", "-DNETWORK_UNPACK", "main.c", "-o", "program"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)  # noqa: S603 - our own command
        images = to_integers(x, cast(IntegerNetwork, whole).grid).numpy()
        several = images.tobytes() * 8  # the first pass unpacks the weights
        told = subprocess.run([f"{folder}/program"], input=several, check=True, capture_output=True).stdout  # noqa: S603
    times = [float(line) for line in told.split()][len(x) :]
    passes = [sum(times[i : i + len(x)]) for i in range(0, len(times), len(x))]
    return min(passes), statistics.median(passes), max(passes)


def correct_of(run: Run, split: Split) -> int:
    """How many examples a run classifies correctly."""
    return sum(int((run(x).argmax(1) == y).sum()) for x, y in zip(split.x.split(500), split.y.split(500), strict=True))


def milliseconds(run: Run, x: Tensor, repeats: int = 30, longest: float = 0.5) -> tuple[float, float, float]:
    """(lowest, median, highest) wall-clock milliseconds of one pass over x, at most `longest` seconds in all."""
    times: list[float] = []
    for number in range(repeats + WARM):
        started = time.perf_counter()
        run(x)
        taken = time.perf_counter() - started
        times += [1e3 * taken] * (number >= WARM)
        if len(times) > 2 and sum(times) > 1e3 * longest:
            break
    return min(times), statistics.median(times), max(times)


@functools.lru_cache(maxsize=16)
def first_lines(raw: bytes, file: str, lines: int = 9) -> list[str]:
    """The beginning of a file as a person may read it: text of C, operators of ONNX, bytes of others."""
    if file.endswith(".h"):
        return raw.decode().splitlines()[:lines]
    if file.endswith(".onnx"):
        import onnx as onnx_package

        graph = onnx_package.load_from_string(raw).graph
        nodes: list[Any] = list(graph.node)[:lines]
        return [f"{node.op_type}({', '.join(map(str, node.input))})" for node in nodes]
    return [raw[i : i + 16].hex(" ") for i in range(0, 16 * lines, 16)]
