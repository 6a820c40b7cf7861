"""Students with and without a teacher: the curves and tables of notebook 03."""

from typing import Any

import pandas as pd
import torch

from labkit import _check
from labkit.compress.distill import answers, best_offset, distill, raise_logit
from labkit.data import Split, load_data, take
from labkit.losses import check_distillation
from labkit.measure import accuracy, size_bytes
from labkit.models import mlp
from labkit.sweep._run import kept
from labkit.train import fit
from labkit.zoo import load_model

DISTILLATION_GRID = {
    "method": ("few labels", "few labels, teacher", "teacher, no labels", "all labels", "all labels, teacher"),
    "width": (8, 16, 32, 64, 128),
    "seed": (0, 1, 2),
}
FEW = 2_000  # labelled images, where labels are few
BUDGET = 6  # epochs over the whole training set; as many steps for a smaller one
STUDENT: dict[str, Any] = dict(lr=3e-3, progress=False)


def distillation_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """Students 784-width-10 of a checkpoint, with and without it, in equally many steps; T = 4, 3 seeds, validation."""
    data = load_data(data_name)
    said = answers(load_model(model_name, data_name), data.train.x)

    def run(method: str, width: int, seed: int) -> dict[str, Any]:
        train = take(data.train, FEW) if method.startswith("few") else data.train
        alpha = 1.0 if method == "teacher, no labels" else 0.9
        taught = said if "teacher" in method else None
        student = student_of(taught, width, train, len(data.train), 4.0, alpha, seed)
        return accuracy(student, data.validation) | dict(size_bytes=size_bytes(student))

    return kept(run, DISTILLATION_GRID, "distillation", model_name, data_name)


TEMPERATURE_GRID = {
    "labels": ("few", "all"),
    "temperature": (1, 2, 4, 8, 16),
    "alpha": (0.5, 0.9, 1.0),
    "seed": (0, 1, 2),
}


def temperature_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """Students 784-32-10 of a checkpoint at every temperature and share of it; steps as above, 3 seeds, validation."""
    data = load_data(data_name)
    said = answers(load_model(model_name, data_name), data.train.x)

    def run(labels: str, temperature: float, alpha: float, seed: int) -> dict[str, Any]:
        train = take(data.train, FEW) if labels == "few" else data.train
        student = student_of(said, 32, train, len(data.train), temperature, alpha, seed)
        return accuracy(student, data.validation)

    return kept(run, TEMPERATURE_GRID, "temperature", model_name, data_name)


def student_of(
    said: torch.Tensor | None, width: int, train: Split, images: int, temperature: float, alpha: float, seed: int
) -> torch.nn.Module:
    """A student 784-width-10, trained as many steps as BUDGET epochs over `images` have; alone if `said` is None."""
    seed = _check.seed(seed)
    if said is not None:
        _check.shaped(torch.Tensor, 2, said=said)
    _check.kind(Split, train=train)
    images = _check.whole("images", images, 1, 2**31)
    check_distillation(temperature, alpha)
    torch.manual_seed(seed)
    student, settings = mlp(784, width, 10), STUDENT | dict(epochs=round(BUDGET * images / len(train)), seed=seed)
    if said is None:
        return fit(student, train, **settings)[0]
    return distill(said[: len(train)], student, train, temperature=temperature, alpha=alpha, **settings)[0]


UNSEEN_GRID = {"temperature": (None, 1, 2, 4, 8, 20), "seed": (0, 1, 2)}  # None: without a teacher
UNSEEN = 3


def unseen_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """Students 784-300-10 that never see a 3, alone or on a checkpoint's answers only (Hinton et al. 2015, section 3).

    What is added to the logit of 3 is chosen on the first half of validation; all figures are of the second half.
    """
    data = load_data(data_name)
    seen = data.train.y != UNSEEN
    train, half = Split(data.train.x[seen], data.train.y[seen]), len(data.validation) // 2
    said, truth = answers(load_model(model_name, data_name), train.x), data.validation.y
    settings = STUDENT | dict(epochs=BUDGET, lr=2e-3)

    def run(temperature: float | None, seed: int) -> dict[str, Any]:
        torch.manual_seed(seed)
        student: torch.nn.Module = mlp(784, 300, 10)
        if temperature is None:
            student, _ = fit(student, train, seed=seed, **settings)
        else:
            student, _ = distill(said, student, train, temperature=temperature, alpha=1.0, seed=seed, **settings)
        logits = answers(student, data.validation.x)
        offset = best_offset(logits[:half], truth[:half], UNSEEN, torch.arange(0, 30, 0.25))
        before, after = (_unseen(raise_logit(logits, UNSEEN, by)[half:], truth[half:]) for by in (0.0, offset))
        return before | {f"{name}_raised": share for name, share in after.items()} | dict(offset=offset)

    return kept(run, UNSEEN_GRID, "unseen", model_name, data_name)


def _unseen(logits: torch.Tensor, y: torch.Tensor) -> dict[str, float]:
    right = (logits.argmax(1) == y).double()
    return dict(accuracy=float(right.mean()), accuracy_unseen=float(right[y == UNSEEN].mean()))
