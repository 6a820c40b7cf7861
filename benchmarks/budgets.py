"""ResNet-20 in 64 and 48 KB: layers chosen by `fit_budget`, then trained on all of CIFAR-10 for their grids.

    python -m benchmarks.budgets --check                        re-score the shipped files on all test images
    python -m benchmarks.budgets --budget 65536 --epochs 8      make one anew: half an hour

Both need `python -m labkit.data fetch cifar10`. The network learns the labels and the answers of the one it came from
(Hinton, Vinyals & Dean 2015). A training prints validation only; test is read by --check alone.
"""

import argparse
import functools
from typing import Any

import pandas as pd
import torch

from labkit import augment, losses
from labkit._files import replace
from labkit.budget import fit_budget
from labkit.budget.choices import weight_choices
from labkit.compress.fold import fold_batchnorm
from labkit.data import data_dir, load_data, partial, publish
from labkit.measure import accuracy
from labkit.models import build
from labkit.optim import Step
from labkit.store import decode, encode
from labkit.sweep import shipped_sweep
from labkit.topics.under_a_budget.experiment import images_for, table_from
from labkit.zoo import load_model

NETWORK, FULL = ("resnet-20", "cifar10"), "cifar10-full"
GOALS = {65_536: 91.0, 49_152: 90.5}  # per cent of the test images; our dense network has 91.27
SGD = functools.partial(torch.optim.SGD, momentum=0.9, nesterov=True, weight_decay=1e-4)
RECIPE: dict[str, Any] = dict(lr=0.03, tries=30, optimizer=SGD, augment=augment.crop_flip, progress=False)


def path_of(budget: int) -> str:
    """Where the file of a budget is in `data/`."""
    return f"records/{NETWORK[0]}--budget-{budget}--seed0.lk"


def make(budget: int, epochs: int) -> None:
    """Fit one budget and keep its file."""
    model, data = load_model(*NETWORK), load_data(FULL)
    choices = weight_choices(model)

    def score(network: torch.nn.Module, step: Step) -> None:
        if step.ends_epoch:
            print(f"epoch {step.epoch}: {accuracy(network, data.validation)['accuracy']:.2%}", flush=True)
            network.train()

    small, parts = fit_budget(
        model, data, budget, table=table_from(choices, shipped_sweep("parts", *NETWORK)), images=images_for(choices),
        loss=losses.distillation(model, temperature=4.0, alpha=0.9), epochs=epochs, after_step=score, **RECIPE,
    )  # fmt: skip
    print(parts.to_string())
    replace(partial(path_of(budget)), [raw := encode(small)])
    publish(path_of(budget))
    print(f"{len(raw):,} B, {accuracy(small, data.validation)['accuracy']:.2%} on validation")


def check() -> pd.DataFrame:
    """Every shipped file: bytes, accuracy on all test images after decoding, and whether it meets its goal."""
    data, rows = load_data(FULL), []
    for budget, goal in GOALS.items():
        raw = (data_dir() / path_of(budget)).read_bytes()
        score = accuracy(decode(raw, into=fold_batchnorm(build(NETWORK[0]))), data.test)
        percent = {name: round(100 * score[name], 2) for name in ("accuracy", "accuracy_low", "accuracy_high")}
        met = len(raw) <= budget and percent["accuracy"] >= goal
        rows.append(dict(budget=budget, size_bytes=len(raw), goal=goal, met=met) | percent)
    return pd.DataFrame(rows)


def main() -> None:
    """Make a file, or check those that ship."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.budgets")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--budget", type=int, choices=GOALS, default=65_536)
    parser.add_argument("--epochs", type=int, default=8)
    arguments = parser.parse_args()
    if arguments.check:
        print(check().to_string(index=False))
    else:
        make(arguments.budget, arguments.epochs)


if __name__ == "__main__":
    main()
