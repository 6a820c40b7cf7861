"""How fast a network runs outside the lab: torch, onnxruntime in floats and in integers, half the MACs, our C.

    python -m benchmarks.shipping                          LeNet-5, one thread and two
    python -m benchmarks.shipping --model resnet-20 --data cifar10

In each round all contenders run one after the other in this process, so that what else the machine does meets all of
them: a ratio compares two of the same round. Peak memory is that of a process of its own, which loads the network,
exports it and runs it. At the end: at which sparsity a sparse matrix (CSR) multiplies as fast as a dense one.
"""

import argparse
import functools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks.machine import machine
from labkit.compress.fold import folded
from labkit.data import Data, load_data
from labkit.topics.ship_it.experiment import FORMATS, half_the_macs, milliseconds, onnx_file, torch_run
from labkit.zoo import load_model

UNEVEN = "ONNX, half the MACs, any number of channels"
CONTENDERS = (
    "ONNX, float32",  # to which the ratios are
    "torch, float32",
    "ONNX, int8",
    "ONNX, half the MACs",
    UNEVEN,
    "C, 4 bits",
)
BATCHES = (1, 64)
ROUNDS = 15
SPARSITIES = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99)
Clock = Callable[[Tensor], float | None]  # of a pass over x, the median in milliseconds


def clock_of(name: str, model: nn.Module, data: Data) -> Clock | None:
    """What times a contender; None if the network has no such format."""
    if name == "torch, float32":
        run = torch_run(folded(model))
        return lambda x: milliseconds(run, x)[1]
    try:
        shipped = FORMATS[name](model, data) if name in FORMATS else onnx_file(half_the_macs(model, data, (1,)), data)
    except ValueError:  # no C for this architecture
        return None
    timed = shipped.clock or functools.partial(milliseconds, shipped.run)
    return lambda x: (timed(x) or (None, None, None))[1]


def table(model_name: str, data_name: str, threads: int) -> pd.DataFrame:
    """Milliseconds of every contender, and its ratio to the first: median of the rounds, lowest and highest."""
    torch.set_num_threads(threads)
    model, data = load_model(model_name, data_name), load_data(data_name)
    clocks = {name: clock for name in CONTENDERS if (clock := clock_of(name, model, data))}
    rows: list[dict[str, Any]] = []
    for batch in BATCHES:
        x = data.validation.x[:batch]
        rounds = pd.DataFrame([{name: clock(x) for name, clock in clocks.items()} for _ in range(ROUNDS)])
        ratios = rounds.div(rounds[CONTENDERS[0]], axis=0)
        rows += [{"images": batch, "contender": name, "ms": f"{rounds[name].median():.3g}",
                  "ratio": spread(ratios[name])} for name in clocks]  # fmt: skip
    peaks = {name: peak(name, model_name, data_name, threads) for name in clocks if name != "C, 4 bits"}
    return pd.DataFrame([row | {"peak MB": peaks.get(row["contender"])} for row in rows])


def spread(values: pd.Series) -> str:
    """The median, and the range."""
    return f"{values.median():.2f} ({values.min():.2f}–{values.max():.2f})"


def peak(name: str, model_name: str, data_name: str, threads: int) -> int:
    """The most memory, in MB, that a process held in which this contender runs."""
    command = [sys.executable, "-m", "benchmarks.shipping", "--contender", name, "--threads", str(threads),
               "--model", model_name, "--data", data_name]  # fmt: skip
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def contender(name: str, model_name: str, data_name: str, threads: int) -> None:
    """Run one contender; print the peak memory of this process in MB. Linux only."""
    torch.set_num_threads(threads)
    model, data = load_model(model_name, data_name), load_data(data_name)
    if clock := clock_of(name, model, data):
        clock(data.validation.x[: max(BATCHES)])
    status = Path("/proc/self/status").read_text()  # not getrusage, which begins with the memory of the parent
    print(int(status.partition("VmHWM:")[2].split()[0]) // 1_000)


def sparse_break_even() -> pd.DataFrame:
    """A matrix of 300 × 784 times one input and 64: dense, and as CSR at several sparsities, in turn."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    weight, rows = torch.randn(300, 784), []
    for columns in (1, 64):
        x = torch.randn(784, columns)
        for sparsity in SPARSITIES:
            thin = weight * (torch.rand_like(weight) >= sparsity)
            compressed = thin.to_sparse_csr()
            ratios = []
            for _ in range(200):
                began = time.perf_counter()
                thin @ x
                middle = time.perf_counter()
                compressed @ x
                ratios.append((time.perf_counter() - middle) / (middle - began))
            rows.append({"inputs": columns, "sparsity": sparsity, "CSR ÷ dense": round(statistics.median(ratios), 2)})
    return pd.DataFrame(rows)


def main() -> None:
    """Print the tables, or what one contender takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="lenet-5")
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--contender", default="")
    asked = parser.parse_args()
    if asked.contender:
        contender(asked.contender, asked.model, asked.data, asked.threads)
        return
    print(machine())
    for threads in [asked.threads] if asked.threads else [1, 2]:
        print(f"\n{asked.model} on {asked.data}, {threads} thread(s): median of {ROUNDS} rounds (lowest–highest)")
        print(table(asked.model, asked.data, threads).to_string(index=False))
    print("\nsparse against dense, 1 thread, median of 200 pairs")
    print(sparse_break_even().to_string(index=False))


if __name__ == "__main__":
    main()
