"""How small a file gets at the error of the papers: files of our own, trained here, re-scored on test.

    python -m benchmarks.records --check         re-score the shipped files; exit code 1 if a goal is missed
    python -m benchmarks.records --network lenet-300-100 --track augmented --seeds 0 1 2        make them anew

Two tracks: "plain" sees the training images as they are, as the papers do; "augmented" turns, stretches and shifts
them. Settings were chosen on validation. A training run prints validation only; test is read by --check alone.
"""

import argparse
import functools
import sys
from typing import Any

import pandas as pd
import torch
from torch import nn

from labkit import augment, losses
from labkit.compress.deep_compression import deep_compress
from labkit.data import Data, data_dir, load_data, register
from labkit.data.files import replace
from labkit.measure import accuracy
from labkit.models import build
from labkit.store import CODERS, decode, encode
from labkit.train import fit
from labkit.zoo import load_model

ADAMW = functools.partial(torch.optim.AdamW, weight_decay=0.05, fused=True)
GOALS = {"lenet-300-100": (5_000, 1.64), "lenet-5": (2_000, 1.0)}  # bytes, per cent of test images
SETTINGS: dict[str, dict[str, Any]] = {
    "lenet-300-100": dict(sparsity=0.9824, bits=3, epochs=(85, 20), lr=3e-3, pull=0.4, percentile=98.0),
    "lenet-5": dict(sparsity=0.9945, bits=3, epochs=(18, 5), lr=3e-3, pull=0.4, percentile=98.0),
}
TEACHER_EPOCHS = {"lenet-300-100": 25, "lenet-5": 0}
STRENGTH = {"plain": 0.0, "augmented": 0.4}


def teacher(network: str, track: str, data: Data) -> nn.Module:
    """The dense network to start from and to learn from: the checkpoint, in the augmented track trained on."""
    model = load_model(network, "mnist")
    if not STRENGTH[track]:
        return model
    how: dict[str, Any] = dict(lr=2e-3, optimizer=ADAMW, augment=augment.affine, progress=False)
    return fit(model, data.train, epochs=TEACHER_EPOCHS[network], **how)[0]


def make(network: str, track: str, seed: int) -> None:
    """Compress one network and keep its file."""
    data = load_data("mnist")
    dense, strength = teacher(network, track, data), STRENGTH[track]
    small, history = deep_compress(
        dense, data.train, **SETTINGS[network], biases=False, seed=seed, optimizer=ADAMW, validation=data.validation,
        augment=functools.partial(augment.affine, strength=strength) if strength else None, progress=False,
        loss=losses.distillation(dense, temperature=3, alpha=0.5),
    )  # fmt: skip
    raw = encode(small, coders=CODERS)
    path = f"records/{network}--{track}--seed{seed}.lk"
    replace(data_dir() / path, raw)
    register(path)
    error = 100 - 100 * accuracy(decode(raw, into=dense), data.validation)["accuracy"]
    print(f"{path}: {len(raw):,} B, validation error {error:.2f} %, {history.seconds.sum():.0f} s", flush=True)


def check() -> pd.DataFrame:
    """Every shipped file: bytes, error on test after decoding, and whether it meets its network's goal."""
    data, rows = load_data("mnist"), []
    for path in sorted((data_dir() / "records").glob("*.lk")):
        network, track, seed = path.stem.split("--")
        raw = path.read_bytes()
        score = accuracy(decode(raw, into=build(network)), data.test)
        goal_bytes, goal_error = GOALS[network]
        error = 100 - 100 * score["accuracy"]
        met = len(raw) <= goal_bytes and round(error, 2) <= goal_error
        rows.append(dict(network=network, track=track, seed=seed, size_bytes=len(raw), error_pct=round(error, 2),
                         low=100 - 100 * score["accuracy_high"], high=100 - 100 * score["accuracy_low"],
                         goal=f"{goal_bytes:,} B at {goal_error} %", met=met))  # fmt: skip
    return pd.DataFrame(rows)


def main() -> None:
    """Make files, or check those that ship."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.records")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--network", choices=GOALS, default="lenet-300-100")
    parser.add_argument("--track", choices=STRENGTH, default="augmented")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    if arguments.check:
        table = check()
        print(table.to_string(index=False))
        sys.exit(not (len(table) and table["met"].all()))
    (data_dir() / "records").mkdir(exist_ok=True)
    for seed in arguments.seeds:
        make(arguments.network, arguments.track, seed)


if __name__ == "__main__":
    main()
