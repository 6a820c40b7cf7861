"""How fast a network runs outside the lab: torch, onnxruntime in floats and in integers, half the MACs, our C.

    python -m benchmarks.shipping                          LeNet-5, one thread and two
    python -m benchmarks.shipping --model resnet-20 --data cifar10

Every contender runs in a process of its own, so that its peak memory is its own. In each round all contenders run one
after the other: what else the machine does meets all of them. Figures are lowest, median and highest milliseconds of a
pass. At the end: at which sparsity a sparse matrix (CSR) multiplies as fast as a dense one.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import pandas as pd
import torch

from benchmarks.machine import machine
from labkit.compress.fold import folded
from labkit.data import load_data
from labkit.topics.ship_it.experiment import FORMATS, Shipped, milliseconds, torch_run
from labkit.zoo import load_model

CONTENDERS = ("torch, float32", "ONNX, float32", "ONNX, int8", "ONNX, half the MACs", "C, 4 bits")
BATCHES = (1, 64)
ROUNDS = 5
SPARSITIES = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99)


def contender(name: str, model_name: str, data_name: str, threads: int) -> None:
    """Time one contender for each batch; print its figures as JSON."""
    torch.set_num_threads(threads)
    model, data = load_model(model_name, data_name), load_data(data_name)
    run, clock = torch_run(folded(model)), None
    if name in FORMATS:
        shipped: Shipped = FORMATS[name](model, data)
        run, clock = shipped.run, shipped.clock
    found: dict[str, Any] = {}
    for batch in BATCHES:
        x = data.validation.x[:batch]
        found[str(batch)] = clock(x) if clock else milliseconds(run, x)
    found["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(json.dumps(found))


def table(model_name: str, data_name: str, threads: int) -> pd.DataFrame:
    """Rounds in which every contender runs once; the medians of the rounds, and their spread."""
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
    for _ in range(ROUNDS):
        for name in CONTENDERS:
            command = [sys.executable, "-m", "benchmarks.shipping", "--contender", name, "--threads", str(threads),
                       "--model", model_name, "--data", data_name]  # fmt: skip
            ran = subprocess.run(command, capture_output=True, text=True, check=False)
            if ran.returncode == 0:
                rounds[name].append(json.loads(ran.stdout.splitlines()[-1]))
    rows = []
    for name, found in rounds.items():
        row: dict[str, Any] = {"contender": name}
        for batch in map(str, BATCHES):
            medians = sorted(one[batch][1] for one in found if one[batch])
            if medians:
                row[f"batch {batch}"] = f"{statistics.median(medians):.3g} ({medians[0]:.3g}–{medians[-1]:.3g})"
        if found:
            row["peak MB"] = round(statistics.median(one["peak MB"] for one in found))
        rows.append(row)
    return pd.DataFrame(rows)


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
        print(f"\n{asked.model} on {asked.data}, {threads} thread(s), ms: median of {ROUNDS} rounds (lowest–highest)")
        print(table(asked.model, asked.data, threads).to_string(index=False))
    print("\nsparse against dense, 1 thread, median of 200 pairs")
    print(sparse_break_even().to_string(index=False))


if __name__ == "__main__":
    main()
