"""Students with and without a teacher: the curves and tables of notebooks 03 and 03b."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
from torch import nn

from labkit import _check
from labkit.compress.distill import Hint, best_offset, distill, raise_logit, teacher_outputs
from labkit.data import Split, load_data, take
from labkit.losses import check_distillation
from labkit.measure import accuracy, size_bytes
from labkit.models import mlp
from labkit.seeds import over_seeds
from labkit.sweep import run_and_ship
from labkit.train import fit
from labkit.zoo import load_model

DISTILLATION_GRID = {
    "method": ("few labels", "few labels, teacher", "teacher, no labels", "all labels", "all labels, teacher"),
    "width": (8, 16, 32, 64, 128),
}
SEEDS = (0, 1, 2)
FEW = 2_000  # labelled images in "few labels"
BUDGET = 6  # epochs over all training images; the same number of steps for fewer images
STUDENT: dict[str, Any] = dict(lr=3e-3, progress=False)


def distillation_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """Students 784-width-10, with and without a checkpoint as teacher, in equal steps; T = 4, 3 seeds, validation."""
    data = load_data(data_name)
    logits = teacher_outputs(load_model(model_name, data_name), data.train.x)

    def run(method: str, width: int, seed: int) -> dict[str, Any]:
        train = take(data.train, FEW) if method.startswith("few") else data.train
        alpha = 1.0 if method == "teacher, no labels" else 0.9
        taught = logits if "teacher" in method else None
        student = student_of(taught, width, train, len(data.train), 4.0, alpha, seed)
        return accuracy(student, data.validation) | dict(size_bytes=size_bytes(student))

    return run_and_ship(run, DISTILLATION_GRID, SEEDS, "distillation", model_name, data_name)


TEMPERATURE_GRID = {
    "labels": ("few", "all"),
    "temperature": (1, 2, 4, 8, 16),
    "alpha": (0.5, 0.9, 1.0),
}


def temperature_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """Students 784-32-10 of a checkpoint at every temperature and α; steps as above, 3 seeds, validation."""
    data = load_data(data_name)
    logits = teacher_outputs(load_model(model_name, data_name), data.train.x)

    def run(labels: str, temperature: float, alpha: float, seed: int) -> dict[str, Any]:
        train = take(data.train, FEW) if labels == "few" else data.train
        student = student_of(logits, 32, train, len(data.train), temperature, alpha, seed)
        return accuracy(student, data.validation)

    return run_and_ship(run, TEMPERATURE_GRID, SEEDS, "temperature", model_name, data_name)


def student_of(
    logits: torch.Tensor | None, width: int, train: Split, images: int, temperature: float, alpha: float, seed: int
) -> torch.nn.Module:
    """A student 784-width-10, in as many steps as BUDGET epochs over `images`; no teacher if `logits` is None."""
    seed = _check.seed(seed)
    if logits is not None:
        _check.shaped(torch.Tensor, 2, logits=logits)
    _check.kind(Split, train=train)
    images = _check.whole("images", images, 1, 2**31)
    check_distillation(temperature, alpha)
    taught = {} if logits is None else dict(teacher=logits[: len(train)], temperature=temperature, alpha=alpha)
    return _trained(width, train, seed, epochs=round(BUDGET * images / len(train)), **taught)


def _trained(student: int | Callable[[], nn.Module], train: Split, seed: int, **how: Any) -> nn.Module:
    """A student, 784-width-10 or built by a function, trained from `seed`; distilled if `how` names a teacher."""
    torch.manual_seed(seed)
    model = student() if callable(student) else mlp(784, student, 10)
    training: Callable[..., tuple[nn.Module, pd.DataFrame]] = distill if "teacher" in how else fit
    return training(model, train, **STUDENT | dict(seed=seed) | how)[0]


UNSEEN_GRID = {"temperature": (None, 1, 2, 4, 8, 20)}  # None: without a teacher
UNSEEN = 3


def unseen_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """Students 784-300-10 trained without a 3: alone, or on teacher logits only (Hinton et al. 2015, section 3).

    The offset of the logit of 3 is chosen on the first half of validation; all results are of the second half.
    """
    data = load_data(data_name)
    seen = data.train.y != UNSEEN
    train, half = Split(data.train.x[seen], data.train.y[seen]), len(data.validation) // 2
    teacher_logits, truth = teacher_outputs(load_model(model_name, data_name), train.x), data.validation.y

    def run(temperature: float | None, seed: int) -> dict[str, Any]:
        taught = {} if temperature is None else dict(teacher=teacher_logits, temperature=temperature, alpha=1.0)
        student = _trained(300, train, seed, epochs=BUDGET, lr=2e-3, **taught)
        logits = teacher_outputs(student, data.validation.x)
        offset = best_offset(logits[:half], truth[:half], UNSEEN, torch.arange(0, 30, 0.25))
        before, after = (_unseen(raise_logit(logits, UNSEEN, by)[half:], truth[half:]) for by in (0.0, offset))
        return before | {f"{name}_raised": share for name, share in after.items()} | dict(offset=offset)

    return run_and_ship(run, UNSEEN_GRID, SEEDS, "unseen", model_name, data_name)


def _unseen(logits: torch.Tensor, y: torch.Tensor) -> dict[str, float]:
    correct = (logits.argmax(1) == y).double()
    return dict(accuracy=float(correct.mean()), accuracy_unseen=float(correct[y == UNSEEN].mean()))


HINT_SEEDS = (10, 11, 12)  # other seeds than in the notebook
HINT_WEIGHT_GRID = {
    "labels": ("few",),
    "method": ("hint", "hint, soft"),
    "weight": (0, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1),  # 0: no hint
}
HINT_EPOCHS = 55  # over few labels


def hint_weight_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """Students 784-32-10 with fc1 of a checkpoint as a hint, at several weights of it; 3 seeds, validation.

    The hint is added to few labels ("hint"), or to few labels and soft targets ("hint, soft").
    """
    data, teacher = load_data(data_name), load_model(model_name, data_name)
    few = take(data.train, FEW)
    teacher_logits, target = teacher_outputs(teacher, few.x), teacher_outputs(teacher, few.x, layer="fc1")

    def run(labels: str, method: str, seed: int, weight: float) -> dict[str, Any]:
        how = dict(temperature=2, alpha=0.9 if method == "hint, soft" else 0.0, hint=Hint(target, "1", weight))
        student = _trained(32, few, seed, epochs=HINT_EPOCHS, teacher=teacher_logits, **how)
        return accuracy(student, data.validation)

    return run_and_ship(run, HINT_WEIGHT_GRID, HINT_SEEDS, "hint-weight", model_name, data_name)


LESSON_GRID = {"labels": ("few", "all"), "method": ("alone", "soft", "hint", "hint, soft")}
HINT_WEIGHTS = {"hint": 1e-5, "hint, soft": 1e-3}  # the best above 0 of `hint_weight_sweep`


def lesson_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """Students 784-32-10: alone, with soft targets of a checkpoint, with its fc1 as a hint, with both; validation.

    256 steps on few labels, 430 on all; the best T of notebook 03 for each; 3 seeds.
    """
    data, teacher = load_data(data_name), load_model(model_name, data_name)
    logits, target = teacher_outputs(teacher, data.train.x), teacher_outputs(teacher, data.train.x, layer="fc1")

    def run(labels: str, method: str, seed: int) -> dict[str, Any]:
        n, epochs, temperature = (FEW, 16, 2) if labels == "few" else (len(data.train), 1, 1)
        hint = Hint(target[:n], "1", HINT_WEIGHTS[method]) if method in HINT_WEIGHTS else None
        how = dict(temperature=temperature, alpha=0.9 if "soft" in method else 0.0, hint=hint)
        student = _trained(32, take(data.train, n), seed, epochs=epochs, teacher=logits[:n], **how)
        return accuracy(student, data.validation)

    return run_and_ship(run, LESSON_GRID, SEEDS, "lesson", model_name, data_name)


FAMILY_GRID = {"student": ("mlp", "cnn"), "teacher": ("none", "lenet-300-100", "lenet-5")}


def small_cnn() -> torch.nn.Module:
    """Two convolutions and two linear layers for 28×28 images: 25,862 parameters, as many as 784-32-10 has."""
    convolutions = nn.Conv2d(1, 8, 5, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 5, stride=2), nn.ReLU()
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(256, 84), nn.ReLU(), nn.Linear(84, 10))


def family_sweep(data_name: str) -> pd.DataFrame:
    """Two students of equal size and two teachers, 256 steps on few labels, T = 2, α = 0.9; 3 seeds, validation."""
    data = load_data(data_name)
    few = take(data.train, FEW)
    names = ("lenet-300-100", "lenet-5")
    taught = {name: teacher_outputs(load_model(name, data_name), few.x) for name in names}

    def run(student: str, teacher: str, seed: int) -> dict[str, Any]:
        how = {} if teacher == "none" else dict(teacher=taught[teacher], temperature=2)
        model = _trained(32 if student == "mlp" else small_cnn, few, seed, epochs=16, **how)
        return accuracy(model, data.validation)

    return run_and_ship(run, FAMILY_GRID, SEEDS, "family", "students", data_name)


def gains(table: pd.DataFrame, group: str, method: str, base: str) -> pd.DataFrame:
    """Points of accuracy gained over `base`, in the same group and seed: mean, and 95 % interval by Student's t.

    `group` and `method` name columns of `table`, besides seed and accuracy; one row per (group, method) except `base`.
    """
    _check.table("table", table, "seed", "accuracy")
    _check.one_of("group", group, list(table))
    _check.one_of("method", method, list(table))
    _check.table("table", table, group, method, "seed", "accuracy", rows=1)
    _check.one_of("base", base, table[method].unique().tolist())
    points = 100 * table.pivot(index=[group, method], columns="seed", values="accuracy")
    others = points.drop(base, level=method)
    return over_seeds(others - points.xs(base, level=method).loc[others.index.get_level_values(group)].to_numpy())


def make() -> None:
    """The shipped sweeps."""
    for data_name in ("mnist", "fashion-mnist"):
        distillation_sweep("lenet-5", data_name)
    temperature_sweep("lenet-5", "fashion-mnist")
    unseen_sweep("lenet-5", "mnist")
    hint_weight_sweep("lenet-5", "fashion-mnist")
    lesson_sweep("lenet-5", "fashion-mnist")
    family_sweep("fashion-mnist")
