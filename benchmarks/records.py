"""How small a file gets at the error of the papers: files of our own, trained here, re-scored on test.

    python -m benchmarks.records --check         re-score the shipped files; exit code 1 if a goal is missed
    python -m benchmarks.records --network lenet-300-100 --track augmented --seeds 0 1 2        make them anew

Two tracks: "plain" sees the training images as they are, as the papers do; "augmented" turns, stretches and shifts
them. In both, whole units leave first, and LeNet-5's answers are learnt beside the labels. Settings were chosen on
validation. A training run prints validation only; test is read by --check alone.
"""

import argparse
import functools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from labkit import augment, losses
from labkit._files import replace
from labkit.compress._weights import weights
from labkit.compress.deep_compression import deep_compress, embed, keep_units
from labkit.compress.distill import teacher_outputs, with_logits
from labkit.data import Split, data_dir, load_data, partial, publish
from labkit.losses import Loss
from labkit.measure import accuracy
from labkit.models import build
from labkit.store import CODERS, decode, encode
from labkit.train import fit
from labkit.zoo import load_model

ADAMW = functools.partial(torch.optim.AdamW, weight_decay=0.05, fused=True)
GOALS = {"lenet-300-100": (5_000, 1.64), "lenet-5": (2_000, 1.0)}  # bytes, per cent of test images
COPIES = {"plain": 1, "augmented": 8}  # of each training image, in the augmented track each changed at random
PASSES = {"plain": (48, 16), "augmented": (96, 32)}  # over the training images, while pruned and while rounded
STRENGTH = 0.4  # of the changes, see augment.affine
TEACHER: dict[str, Any] = dict(
    epochs=8, lr=1e-3, optimizer=ADAMW, augment=augment.affine, loss=losses.cross_entropy_bf16, progress=False
)
RECIPE: dict[str, Any] = dict(
    bits=3, lr=3e-3, clustering=0.4, percentile=98.0, biases=False, optimizer=ADAMW, progress=False
)


@dataclass(frozen=True)
class Target:
    """What a network is cut down to: the units a layer keeps, and the weights in all."""

    units: dict[str, int]
    weights: int


TARGETS = {
    "lenet-300-100": Target({"fc1": 120, "fc2": 60}, 5_150),
    "lenet-5": Target({"conv1": 8, "conv2": 16, "fc1": 64}, 1_920),
}


def lesson(track: str, seed: int) -> tuple[Split, Loss]:
    """The training images of a track with what LeNet-5 says of each, and the loss that listens to both."""
    train = load_data("mnist").train
    if track == "augmented":
        train = changed(train, COPIES[track], seed)
    with torch.autocast("cpu", torch.bfloat16):
        said = teacher_outputs(teacher(track), train.x).float()
    return with_logits(train, said, temperature=3, alpha=0.5)


@functools.cache
def teacher(track: str) -> nn.Module:
    """The LeNet-5 that ships; in the augmented track trained on."""
    model = load_model("lenet-5", "mnist")
    return fit(model, load_data("mnist").train, **TEACHER)[0] if track == "augmented" else model


def changed(split: Split, copies: int, seed: int) -> Split:
    """So many copies of each image, each turned, stretched and shifted anew."""
    generator = torch.Generator().manual_seed(seed)
    batches = [augment.affine(x, generator, STRENGTH) for _ in range(copies) for x in split.x.split(5_000)]
    return Split(torch.cat(batches), split.y.repeat(copies))


def make(network: str, track: str, seed: int) -> None:
    """Compress one network and keep its file."""
    data, target = load_data("mnist"), TARGETS[network]
    train, loss = lesson(track, seed)
    model = load_model(network, "mnist")
    for layer, kept in target.units.items():
        model = keep_units(model, data.train.x[:2], layer, kept)
    sparsity = 1 - target.weights / sum(weight.numel() for weight in weights(model).values())
    pruning, rounding = (passes // COPIES[track] for passes in PASSES[track])
    small, history = deep_compress(
        model,
        train,
        sparsity=sparsity,
        epochs=(pruning, rounding),
        loss=loss,
        validation=data.validation,
        seed=seed,
        **RECIPE,
    )
    whole = build(network)
    raw = encode(embed(small, whole), coders=CODERS)
    path = f"records/{network}--{track}--seed{seed}.lk"
    replace(partial(path), [raw])
    publish(path)
    error = 100 - 100 * accuracy(decode(raw, into=whole), data.validation)["accuracy"]
    print(f"{path}: {len(raw):,} B, validation error {error:.2f} %, {history.seconds.sum():.0f} s", flush=True)


def files() -> list[Path]:
    """The record files that ship, of the networks that have a goal."""
    return sorted(path for network in GOALS for path in (data_dir() / "records").glob(f"{network}--*.lk"))


def check() -> pd.DataFrame:
    """Every shipped file: bytes, error on test after decoding, and whether it meets its network's goal."""
    data, rows = load_data("mnist"), []
    for path in files():
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
    parser.add_argument("--track", choices=COPIES, default="augmented")
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
