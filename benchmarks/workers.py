"""How much faster a sweep is on two workers than on one.

    python -m benchmarks.workers                 12 rows, five times each
    python -m benchmarks.workers --repeats 1     does it run at all?

A row multiplies matrices on one torch thread. One and two workers alternate, after a first sweep that starts them. On a
busy machine the elapsed time depends on the other work; the processor time of the busiest process depends on it less.
"""

import argparse
import os
import time
from statistics import median
from typing import Any

import torch

from benchmarks.machine import machine
from labkit import sweep

SIZE = 400
STEPS = 400  # of multiplication in a row


def multiply(seed: int) -> dict[str, Any]:
    """Multiply a matrix with itself; the processor time and the process that took it."""
    before = time.process_time()
    x = torch.rand(SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    for _ in range(STEPS):
        x = torch.tanh(x @ x / SIZE)
    return {"sum": x.sum().item(), "processor_seconds": time.process_time() - before, "process": os.getpid()}


def seconds(n_jobs: int) -> tuple[float, float]:
    """Of a sweep: the time it takes, and the processor time of its busiest process and of the one that collects."""
    started, collecting = time.perf_counter(), time.process_time()
    rows = sweep.run(multiply, {}, range(12), n_jobs=n_jobs, progress=False)
    elapsed, collecting = time.perf_counter() - started, time.process_time() - collecting
    work = rows.groupby("process")["processor_seconds"].sum()
    return elapsed, work.max() + (0 if os.getpid() in work.index else collecting)


def main() -> None:
    """Time both and print the ratios of the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    seconds(2)  # starts the workers
    pairs = [(seconds(1), seconds(2)) for _ in range(repeats)]
    print(f"{machine()}; load {os.getloadavg()[0]:.1f}")
    for i, what in enumerate(("elapsed", "processor, busiest process")):
        one, two = (median(pair[workers][i] for pair in pairs) for workers in (0, 1))
        print(f"{what}: one worker {one:.2f} s, two workers {two:.2f} s, ratio {one / two:.2f}")


if __name__ == "__main__":
    main()
