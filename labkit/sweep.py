"""Run a function over a grid of settings; keep every result as a row; go on where an interrupted run stopped.

    python -m labkit.sweep        make the measured backdrops of the panels anew, in data/sweeps/ (about half an hour)

The jobs are joblib's, so that a Dask or Ray cluster is one `joblib.parallel_config(backend=…)` around the call.
"""

import copy
import functools
import io
import itertools
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import torch

from labkit.compress.codebook import share
from labkit.compress.distill import answers, best_offset, distill, raise_logit
from labkit.compress.gradients import integer_gradients
from labkit.compress.magnitude import keep_zeros, prune, prune_gradually, random_importance
from labkit.compress.qat import finish_qat, prepare_qat
from labkit.compress.quantize import quantize
from labkit.compress.structured import prune_channels
from labkit.data import Split, data_dir, load_data, register, take, verified
from labkit.data.files import replace
from labkit.measure import accuracy, counts, macs, size_bytes
from labkit.models import build, mlp
from labkit.train import fit
from labkit.zoo import RECIPES, load_model


def sweep(
    function: Callable[..., Mapping], grid: Mapping[str, Sequence], path: str | Path | None = None, n_jobs: int = 1
) -> pd.DataFrame:
    """`function(**settings)` for every combination of `grid`, as a table: a row holds the settings and the result.

    With `path`, a CSV file, each row is written as soon as it is there, and rows found in the file are not run again.
    If a run raises, so does the sweep, and the rows before it are in the file.
    """
    path = Path(path) if path else None
    settings = {_key(values): dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())}
    rows = _finished(path, list(grid)) if path and path.exists() else {}
    rows = {key: row | settings.get(key, {}) for key, row in rows.items()}  # None, not NaN, where the grid has None
    todo = {key: setting for key, setting in settings.items() if key not in rows}
    jobs = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered")  # as they end: none waits for a slower one
    for key, result in jobs(joblib.delayed(_run)(function, key, setting) for key, setting in todo.items()):
        rows[key] = settings[key] | result
        if path:
            _write(pd.DataFrame([rows[k] for k in dict.fromkeys([*settings, *rows]) if k in rows]), path)
    return pd.DataFrame([rows[key] for key in settings])


def _run(function: Callable[..., Mapping], key: tuple, setting: Mapping[str, Any]) -> tuple[tuple, dict[str, Any]]:
    return key, dict(function(**setting))


def _finished(path: Path, names: list[str]) -> dict[tuple, dict[str, Any]]:
    """The rows of a sweep's file, by their settings."""
    texts = pd.read_csv(path, dtype=str, keep_default_na=False)
    missing = [name for name in names if name not in texts]
    if missing:
        raise ValueError(f"{path} lacks the columns {missing}; allowed: the file of a sweep over {names}")
    settings, rows = texts[names].to_dict("records"), pd.read_csv(path).to_dict("records")
    return {_key(s.values()): {str(k): v for k, v in (row | s).items()} for s, row in zip(settings, rows, strict=True)}


def _key(values: Iterable) -> tuple:
    """Settings as they compare behind a CSV file, in which 0, 0.0 and "0" are one, and None and NaN are empty."""
    return tuple(_number_or_text("" if value is None or value != value else str(value)) for value in values)


def _number_or_text(text: str) -> float | str:
    try:
        number = float(text)
    except ValueError:
        return text
    return text if math.isnan(number) else number  # NaN is not equal to itself


def _write(table: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, table.to_csv(index=False).encode())


FRONTIER_GRID = {
    "sparsity": (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98),
    "bits": (1, 2, 3, 4, 5, 6, 8, 32),  # 32: not quantized
}


def frontier_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """One-shot pruning and rounding of a checkpoint at every grid point, scored on validation: no training."""
    model, split = load_model(model_name, data_name), load_data(data_name).validation

    def run(sparsity: float, bits: int) -> dict:
        small = compress(model, sparsity, bits)
        return accuracy(small, split) | dict(size_bytes=size_bytes(small))

    return _kept(run, FRONTIER_GRID, "frontier", model_name, data_name)


def compress(model: torch.nn.Module, sparsity: float, bits: int) -> torch.nn.Module:
    """Prune globally, then round the weights to `bits` bits per layer; 32 bits leaves them as they are."""
    pruned = prune(model, sparsity)
    return pruned if bits == 32 else quantize(pruned, bits)


QUANTIZATION_GRID = {
    "symmetric": (True, False),
    "granularity": ("tensor", "channel"),
    "bits": (1, 2, 3, 4, 5, 6, 7, 8),
}


def quantization_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """Rounding of a checkpoint's weights under four schemes at every width, scored on validation: no training."""
    model, split = load_model(model_name, data_name), load_data(data_name).validation

    def run(symmetric: bool, granularity: str, bits: int) -> dict:
        small = quantize(model, bits, symmetric=symmetric, granularity=granularity)
        return accuracy(small, split) | dict(size_bytes=size_bytes(small))

    return _kept(run, QUANTIZATION_GRID, "quantization", model_name, data_name)


PRUNING_GRID = {
    "method": ("one-shot", "fine-tuned", "gradual", "random, fine-tuned"),
    "sparsity": (0.5, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99),
    "seed": (0, 1, 2),
}
FINE_TUNE: dict[str, Any] = dict(epochs=6, lr=1e-3, progress=False)


def pruning_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """Four ways to a sparsity, the trained ones at the same budget of 6 epochs, 3 seeds, scored on validation."""
    model, data = load_model(model_name, data_name), load_data(data_name)

    def run(method: str, sparsity: float, seed: int) -> dict:
        if method == "gradual":
            pruned, _ = fit(model, data.train, after_step=prune_gradually(sparsity), seed=seed, **FINE_TUNE)
        else:
            importance = random_importance(seed) if method.startswith("random") else torch.abs
            pruned = prune(model, sparsity, importance=importance)
        if method.endswith("fine-tuned"):
            pruned, _ = fit(pruned, data.train, after_step=keep_zeros(pruned), seed=seed, **FINE_TUNE)
        return accuracy(pruned, data.validation)

    return _kept(run, PRUNING_GRID, "pruning", model_name, data_name)


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

    def run(method: str, width: int, seed: int) -> dict:
        train = take(data.train, FEW) if method.startswith("few") else data.train
        alpha = 1.0 if method == "teacher, no labels" else 0.9
        taught = said if "teacher" in method else None
        student = student_of(taught, width, train, len(data.train), 4.0, alpha, seed)
        return accuracy(student, data.validation) | dict(size_bytes=size_bytes(student))

    return _kept(run, DISTILLATION_GRID, "distillation", model_name, data_name)


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

    def run(labels: str, temperature: float, alpha: float, seed: int) -> dict:
        train = take(data.train, FEW) if labels == "few" else data.train
        student = student_of(said, 32, train, len(data.train), temperature, alpha, seed)
        return accuracy(student, data.validation)

    return _kept(run, TEMPERATURE_GRID, "temperature", model_name, data_name)


def student_of(
    said: torch.Tensor | None, width: int, train: Split, images: int, temperature: float, alpha: float, seed: int
) -> torch.nn.Module:
    """A student 784-width-10, trained as many steps as BUDGET epochs over `images` have; alone if `said` is None."""
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

    def run(temperature: float | None, seed: int) -> dict:
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

    return _kept(run, UNSEEN_GRID, "unseen", model_name, data_name)


def _unseen(logits: torch.Tensor, y: torch.Tensor) -> dict[str, float]:
    right = (logits.argmax(1) == y).double()
    return dict(accuracy=float(right.mean()), accuracy_unseen=float(right[y == UNSEEN].mean()))


SHARING_GRID = {
    "method": ("grid", "codebook", "fine-tuned, then codebook", "codebook, then fine-tuned"),
    "bits": (1, 2, 3, 4),
    "seed": (0, 1, 2),
}


def sharing_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """K-means codebooks (linear start) beside a symmetric grid; the trained ones at 6 epochs, 3 seeds, validation."""
    model, data = load_model(model_name, data_name), load_data(data_name)
    fine_tuned = _fine_tuned(model, data.train)

    def run(method: str, bits: int, seed: int) -> dict:
        if method == "codebook, then fine-tuned":
            small, _ = fit(share(model, bits), data.train, seed=seed, **FINE_TUNE)
        elif method == "fine-tuned, then codebook":
            small = share(fine_tuned(seed), bits)
        else:
            small = quantize(model, bits) if method == "grid" else share(model, bits)
        return accuracy(small, data.validation) | dict(size_bytes=size_bytes(small))

    return _kept(run, SHARING_GRID, "sharing", model_name, data_name)


def _fine_tuned(model: torch.nn.Module, train: Split) -> Callable[[int], torch.nn.Module]:
    """The network fine-tuned in float, by seed; each is trained once."""
    return functools.cache(lambda seed: fit(model, train, seed=seed, **FINE_TUNE)[0])


QAT_GRID = {
    "method": ("fine-tuned, then rounded", "fine-tuned, then clipped and rounded", "QAT"),
    "bits": (1, 2, 3, 4),
    "seed": (0, 1, 2),
}


def qat_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """Rounding after training, clipped at 99 % too, and training for the grid; 6 epochs each, 3 seeds, validation."""
    model, data = load_model(model_name, data_name), load_data(data_name)
    fine_tuned = _fine_tuned(model, data.train)

    def run(method: str, bits: int, seed: int) -> dict:
        if method == "QAT":
            small = finish_qat(fit(prepare_qat(model, bits), data.train, seed=seed, **FINE_TUNE)[0])
        else:
            small = quantize(fine_tuned(seed), bits, percentile=99 if "clipped" in method else 100)
        return accuracy(small, data.validation) | dict(size_bytes=size_bytes(small))

    return _kept(run, QAT_GRID, "qat", model_name, data_name)


GRADIENTS_GRID = {"rounding": ("stochastic", "nearest"), "bits": (2, 3, 4, 6, 8, 32), "seed": (0, 1, 2)}


def gradients_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """A network trained from scratch by AdamW for 2 epochs on integer gradients (32: floats), 3 seeds, validation."""
    data = load_data(data_name)

    def run(rounding: str, bits: int, seed: int) -> dict:
        torch.manual_seed(seed)
        rounded = integer_gradients(min(bits, 16), stochastic=rounding == "stochastic", seed=seed)
        settings: dict[str, Any] = {} if bits == 32 else dict(optimizer=rounded)
        net, _ = fit(build(model_name), data.train, epochs=2, lr=2e-3, seed=seed, progress=False, **settings)
        return accuracy(net, data.validation)

    return _kept(run, GRADIENTS_GRID, "gradients", model_name, data_name)


STRUCTURED_GRID = {
    "method": (
        "l1", "l2", "taylor", "activation", "random",
        "l1, fine-tuned", "taylor, fine-tuned", "random, fine-tuned",
        "from scratch, 1 epoch",
    ),
    "sparsity": (0.5, 0.75, 0.9),
    "seed": (0, 1, 2),
}  # fmt: skip
# with the baseline that costs most, for the network that trains in seconds
STRUCTURED_GRIDS = {
    "lenet-300-100": STRUCTURED_GRID | {"method": (*STRUCTURED_GRID["method"], "from scratch, 13 epochs")},
    "lenet-5": STRUCTURED_GRID,
}
CALIBRATION = 500  # training images that "taylor" and "activation" look at


def structured_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """Networks with a share of their units gone, scored on validation, 3 seeds.

    One-shot by five criteria; three of them fine-tuned for 1 epoch; and the baseline, a network of the same shape from
    new weights, with the 1 epoch of the fine-tuning, and with the 12 + 1 epochs that the fine-tuned one had in all (of
    LeNet-300-100 only).
    """
    model, data = load_model(model_name, data_name), load_data(data_name)
    few, settings = take(data.train, CALIBRATION), RECIPES[model_name, data_name].settings

    def run(method: str, sparsity: float, seed: int) -> dict:
        criterion, _, then = method.partition(", ")
        scratch = criterion == "from scratch"
        how: dict[str, Any] = dict(criterion="l1" if scratch else criterion, calibration=few, seed=seed)
        small = prune_channels(model, few.x[:2], sparsity, **how)
        if then == "fine-tuned":
            small, _ = fit(small, data.train, epochs=1, lr=1e-3, progress=False, seed=seed)
        if scratch:
            epochs = int(then.split()[0])
            small, _ = fit(fresh(small, seed), data.train, **settings | dict(epochs=epochs, progress=False, seed=seed))
        cost = dict(size_bytes=size_bytes(small), macs=macs(small, few.x[0]), parameters=counts(small)["parameters"])
        return accuracy(small, data.validation) | cost

    return _kept(run, STRUCTURED_GRIDS[model_name], "structured", model_name, data_name)


def fresh(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """A new model of the same shapes with new weights, as its layers draw them."""
    model = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in model.modules():
            if callable(reset := getattr(layer, "reset_parameters", None)):
                reset()
    return model


def sweep_path(kind: str, model_name: str, data_name: str) -> str:
    """Where a shipped sweep lies below data/; `kind` says of what: "frontier", "distillation", …"""
    return f"sweeps/{kind}--{model_name}--{data_name}.csv"


def shipped_sweep(kind: str, model_name: str, data_name: str) -> pd.DataFrame:
    """A sweep that ships with the lab, as a table; ValueError if its file is damaged."""
    return pd.read_csv(io.BytesIO(verified(sweep_path(kind, model_name, data_name))))


def _kept(run: Callable[..., Mapping], grid: Mapping[str, Sequence], kind: str, *names: str) -> pd.DataFrame:
    path = sweep_path(kind, *names)
    table = sweep(run, grid, data_dir() / path)
    register(path)
    return table


def main() -> int:
    """Make every shipped sweep, or what is missing of it."""
    for model_name, data_name in RECIPES:
        sys.stderr.write(f"frontier and quantization of {model_name} on {data_name}\n")
        frontier_sweep(model_name, data_name)
        quantization_sweep(model_name, data_name)
    for data_name in ("mnist", "fashion-mnist"):
        sys.stderr.write(f"pruning of lenet-300-100 on {data_name}\n")
        pruning_sweep("lenet-300-100", data_name)
        sys.stderr.write(f"distillation of lenet-5 on {data_name}\n")
        distillation_sweep("lenet-5", data_name)
    temperature_sweep("lenet-5", "fashion-mnist")
    unseen_sweep("lenet-5", "mnist")
    for model_name in STRUCTURED_GRIDS:
        sys.stderr.write(f"structured pruning of {model_name} on mnist\n")
        structured_sweep(model_name, "mnist")
    sys.stderr.write("codebooks, quantization-aware training and integer gradients of lenet-300-100 on mnist\n")
    for few_bits in (sharing_sweep, qat_sweep, gradients_sweep):
        few_bits("lenet-300-100", "mnist")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
