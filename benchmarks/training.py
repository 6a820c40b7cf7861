"""How long LeNet-300-100 trains on MNIST, with `fit` on whole tensors and with torch's DataLoader.

    python -m benchmarks.training                            the recipe of the checkpoint, fused, three times each
    python -m benchmarks.training --repeats 1 --epochs 1     does it run at all?

Both train the same network by the same recipe and score validation behind every epoch. They take turns, so that what
else the machine does meets both; the table gives the median.
"""

import argparse
import functools
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.machine import machine
from labkit import optim, zoo
from labkit.data import Data, load_data
from labkit.models import build
from labkit.train import count_correct, fit

TARGET = 0.98  # of validation: choosing by test would spend it
Curve = list[tuple[float, float]]  # (seconds so far, validation accuracy), one an epoch


def with_fit(model: nn.Module, data: Data, settings: dict[str, Any]) -> Curve:
    """Whole-tensor batches: `x[order]` for 128 indices at a time."""
    _, history = fit(model, data.train, validation=data.validation, progress=False, **settings)
    return list(zip(history.seconds.cumsum(), history.validation_accuracy, strict=True))


def with_loader(model: nn.Module, data: Data, settings: dict[str, Any]) -> Curve:
    """The usual loop: a DataLoader picks images one by one and collates them."""
    rng = torch.Generator().manual_seed(settings["seed"])
    pairs = TensorDataset(data.train.x, data.train.y)
    loader = DataLoader(pairs, batch_size=settings["batch_size"], shuffle=True, generator=rng)
    stepper = settings["optimizer"](model.parameters(), lr=settings["lr"])
    started, curve, step = time.perf_counter(), [], 0
    for _ in range(settings["epochs"]):
        model.train()
        for x, y in loader:
            stepper.param_groups[0]["lr"] = settings["lr"] * optim.warmup_cosine(
                step / settings["epochs"] / len(loader)
            )
            stepper.zero_grad()
            F.cross_entropy(model(x), y).backward()
            stepper.step()
            step += 1
        accuracy = count_correct(model, data.validation) / len(data.validation)
        curve.append((time.perf_counter() - started, accuracy))
    return curve


WAYS: dict[str, Callable[[nn.Module, Data, dict[str, Any]], Curve]] = {"fit": with_fit, "DataLoader": with_loader}


def compare(repeats: int, epochs: int | None) -> dict[str, list[Curve]]:
    """The curves of each way, taking turns; repeat i starts from seed i."""
    data = load_data("mnist")
    curves: dict[str, list[Curve]] = {way: [] for way in WAYS}
    for seed in range(repeats):
        settings = zoo.RECIPES["lenet-300-100", "mnist"].settings | {"seed": seed}
        settings |= {"epochs": epochs} if epochs else {}
        # one pass over the weights instead of a dozen: a fifth of a step's time
        settings["optimizer"] = functools.partial(settings["optimizer"], fused=True)
        for way, train in WAYS.items():
            torch.manual_seed(seed)
            curves[way].append(train(build("lenet-300-100"), data, settings))
    return curves


def to_target(curve: Curve) -> tuple[float, int] | None:
    """(seconds, epochs) until validation reaches TARGET, None if it does not."""
    return next(((seconds, i + 1) for i, (seconds, accuracy) in enumerate(curve) if accuracy >= TARGET), None)


def row(way: str, curves: list[Curve]) -> str:
    """One line of the table."""
    reached = [r for r in map(to_target, curves) if r]
    seconds, epochs = (median(values) for values in zip(*reached, strict=True)) if reached else (None, None)
    target = f"{seconds:.1f} s, {epochs:g} epochs, {len(reached)} of {len(curves)} runs" if reached else "not reached"
    total, final = median(c[-1][0] for c in curves), median(c[-1][1] for c in curves)
    return f"| {way} | {target} | {total:.1f} s, {len(curves[0])} epochs | {final:.2%} |"


def table(curves: dict[str, list[Curve]]) -> str:
    """Markdown: what was measured, and on what."""
    total = {way: median(c[-1][0] for c in runs) for way, runs in curves.items()}
    lines = [
        f"LeNet-300-100 on MNIST, median of {len(curves['fit'])}, taking turns; {machine()}",
        "",
        f"| loop | to {TARGET:.1%} validation | whole recipe | validation at the end |",
        "|---|---|---|---|",
        *(row(way, runs) for way, runs in curves.items()),
        "",
        f"DataLoader ÷ fit: {total['DataLoader'] / total['fit']:.1f}× the time",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Training time of LeNet-300-100: fit beside a DataLoader.")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    options = parser.parse_args()
    print(table(compare(options.repeats, options.epochs)))


if __name__ == "__main__":
    main()
