"""Changed .lk files, as many as time allows: each is refused by a ValueError or loads, quickly and in little memory.

    python -m tests.fuzz --minutes 5 [--seed 0] [--files 1000000]          or: make fuzz MINUTES=5

Every file is that of a small network, changed at random (see tests/changes.py). One process a core. The first file that
does something else is kept in the folder, the way to repeat it is printed, and the program ends with 1.
"""

import argparse
import multiprocessing
import os
import random
import resource
import signal
import sys
import time
import traceback
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from labkit.compress.codebook import share_weights
from labkit.compress.magnitude import prune
from labkit.compress.quantize import quantize
from labkit.store import CODERS, QUICK, check_equal, decode, encode
from tests import changes
from tests.unlabelled import unlabelled

SECONDS = 5.0  # of the processor, for one file
CLOSELY = 25  # of so many files one is looked at closely: it takes five times as long
MEGABYTE = 1 << 20

Load = Callable[[bytes, nn.Module], nn.Module]


@dataclass
class Seed:
    """A network, its file in parts, and what the file is loaded into."""

    model: nn.Module
    into: nn.Module
    records: list[changes.Record]
    raw: bytes


@dataclass
class Counts:
    """What a process has done: files; of the processor, the most seconds for one; bytes, the most for one."""

    files: int = 0
    refused: int = 0
    accepted: int = 0
    slowest: float = 0.0
    largest: int = 0
    fault: str = ""

    def __add__(self, other: "Counts") -> "Counts":
        sums = (self.files + other.files, self.refused + other.refused, self.accepted + other.accepted)
        return Counts(*sums, *(max(getattr(self, k), getattr(other, k)) for k in ("slowest", "largest", "fault")))


def seeds() -> list[Seed]:
    """Networks of one layer mostly, so that many are loaded in a second; together they have every kind of part."""
    torch.manual_seed(0)
    line, tall, wide, picture = nn.Linear(9, 6), nn.Linear(1, 300), nn.Linear(60, 40), torch.randn(8, 1, 5, 5)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(18, 3)).eval()
    found = [(line, line), (net, net), (prune(tall, 0.5), tall), (prune(wide, 0.8), wide)]
    found += [(getattr(quantize(line, 3), change)(), line) for change in ("half", "double", "bfloat16")]
    for bits in range(1, 9):
        found.append((share_weights(prune(line, 0.3), bits), line))
        for symmetric in (True, False):
            for granularity, size in (("tensor", None), ("channel", None), ("group", 3)):
                how = dict(symmetric=symmetric, granularity=granularity, group_size=size)
                found.append((quantize(prune(line, 0.1 * bits), bits, **how), line))
    found.append((quantize(line, 4, activation_bits=8, calibration=unlabelled(torch.randn(8, 9))), line))
    found.append((quantize(prune(net, 0.6), 3, activation_bits=4, calibration=unlabelled(picture)), net))
    every = [(model, into, QUICK) for model, into in found]
    every += [(quantize(wide, 4), wide, coders) for coders in ((), ("huffman",), ("range",))]
    every += [(quantize(prune(rows(wide), 0.9), 2), wide, CODERS), (quantize(prune(line, 0.8), 3), line, CODERS)]
    return [Seed(m, into, changes.taken_apart(m, coders), encode(m, coders)) for m, into, coders in every]


def rows(layer: nn.Linear) -> nn.Linear:
    """The layer with rows of which some are nearly zero: context coding is best there."""
    with torch.no_grad():
        layer.weight[10:] *= 1e-3
    return layer


def changed(every: list[Seed], number: int) -> tuple[Seed, bytes]:
    """File `number`, always the same, and the network that it belongs to."""
    rng = random.Random(number)
    chosen, other = rng.choice(every), rng.choice(every)
    return chosen, changes.change(rng, chosen.records, other.records)


def check(chosen: Seed, raw: bytes, load: Load, *, closely: bool = True) -> bool:
    """Was the file accepted? AssertionError where it is neither refused as it should be nor a model as it should be.

    A model must be one that can be saved; closely looked at, one that comes back from its file.
    """
    again, said = None, ""
    try:
        again = load(raw, chosen.into)
    except ValueError as error:
        said = str(error)
    if again is None:
        assert 0 < len(said) < 1000, f"the message has {len(said)} letters"
        assert said.isprintable(), "the message holds signs that a terminal obeys"
        assert raw != chosen.raw, "an unchanged file is refused"
        return False
    saved = encode(again, coders=())
    if closely:
        check_equal(again, decode(saved, chosen.into))
    if raw == chosen.raw:
        check_equal(again, chosen.model)
    return True


def measured(chosen: Seed, raw: bytes, load: Load, counts: Counts, *, closely: bool) -> None:
    """`check`, its time and its memory; AssertionError for more than the network and the file justify.

    What NumPy and Python claim is known only where it is looked at closely, what the process holds always.
    """
    before, began = peak_memory(), time.process_time()
    signal.setitimer(signal.ITIMER_VIRTUAL, 2 * SECONDS)  # ends a file that would never end
    if closely:
        tracemalloc.start()
    try:
        accepted = check(chosen, raw, load, closely=closely)
        claimed = tracemalloc.get_traced_memory()[1] if closely else 0
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        tracemalloc.stop()
    seconds, rise = time.process_time() - began, peak_memory() - before
    values = sum(t.numel() for t in [*chosen.into.parameters(), *chosen.into.buffers()])
    allowed = MEGABYTE + 64 * values + 16 * len(raw)
    assert seconds < SECONDS, f"the file took {seconds:.1f} s; allowed: {SECONDS:g}"
    assert claimed < allowed, f"the file claimed {claimed} bytes; allowed: {allowed}"
    # the peak of a process also rises by what Python and torch keep for later
    assert rise < 16 * MEGABYTE + allowed, f"the process grew by {rise} bytes; allowed: {16 * MEGABYTE + allowed}"
    counts.files += 1
    counts.accepted += accepted
    counts.refused += not accepted
    counts.slowest, counts.largest = max(counts.slowest, seconds), max(counts.largest, claimed)


def endless(_signal: int, _frame: object) -> None:
    """What the timer of `measured` does."""
    raise AssertionError(f"the file has taken {2 * SECONDS:g} s and has not ended; allowed: {SECONDS:g}")


def peak_memory() -> int:
    """The most bytes that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def run(first: int, step: int, files: int, minutes: float, folder: Path, load: Load = decode) -> Counts:
    """Files first, first + step, …: so many, or until the time is up, or a fault."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGVTALRM, endless)
    every, counts, ends = seeds(), Counts(), time.monotonic() + 60 * minutes
    for seed in every:
        check(seed, seed.raw, decode)  # what the first call of anything costs is no file's fault
    for number in range(first, first + step * files, step):
        if time.monotonic() > ends:
            break
        chosen, raw = changed(every, number)
        try:
            measured(chosen, raw, load, counts, closely=number % CLOSELY == 0)
        except Exception:  # any but the ValueError that refuses a file is what we look for
            path = folder / f"fuzz-{number}.lk"
            path.write_bytes(raw)
            counts.fault = f"{traceback.format_exc()}\n{path}; repeat: python -m tests.fuzz --seed {number} --files 1"
            break
    return counts


def main(arguments: list[str] | None = None) -> int:
    """Run on every core, print the counts; 1 if there was a fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--minutes", type=float, default=60.0, help="the most minutes that it may take")
    parser.add_argument("--files", type=int, default=10**9, help="the most files")
    parser.add_argument("--seed", type=int, default=0, help="number of the first file")
    parser.add_argument("--keep", type=Path, default=Path(), help="folder for a file that is at fault")
    options = parser.parse_args(arguments)
    cores, began = min(os.cpu_count() or 1, options.files), time.monotonic()
    jobs = [(options.seed + i, cores, -(-options.files // cores), options.minutes, options.keep) for i in range(cores)]
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        counts = sum(pool.starmap(run, jobs), Counts())
    rate = counts.files / (time.monotonic() - began)
    print(f"{counts.files:,} files: {counts.refused:,} refused, {counts.accepted:,} accepted; {rate:,.0f} a second")
    print(f"slowest {counts.slowest:.2f} s, largest {counts.largest / MEGABYTE:.2f} MB")
    if counts.fault:
        print(counts.fault, file=sys.stderr)
    return int(bool(counts.fault))


if __name__ == "__main__":
    sys.exit(main())
