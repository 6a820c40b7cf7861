"""The only training loop. Experiments differ in their loss, augmentation and after_step hook."""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import isfinite, nan
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from tqdm import tqdm

from labkit import _check, _process, optim
from labkit._module import as_logits, clone, evaluating, fastest_layout, lay_out_at_first_call, logits_of, unwrapped
from labkit.data import Split
from labkit.losses import cross_entropy
from labkit.optim import Hook, Hooks, Step

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in `fit`: `model` and `history` are those so far; after_step may not have run for the last update."""

    model: nn.Module
    history: pd.DataFrame


def fit(
    model: nn.Module,
    train: Split,
    *,
    epochs: int,
    lr: float,
    batch_size: int = 128,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW,
    schedule: Callable[[float], float] = optim.warmup_cosine,
    loss: Loss = cross_entropy,
    augment: Callable[[Tensor, Generator], Tensor] | None = None,
    after_step: Hooks = (),
    validation: Split | None = None,
    seed: int = 0,
    progress: bool = True,
    cancel: Callable[[], bool] = lambda: False,
) -> tuple[nn.Module, pd.DataFrame]:
    """Train a copy of `model` on whole-data-set tensors; return it and its history, one row per epoch.

    Args:
        model: returns logits (n, classes), also as "logits" in a dict or an object. Inside DataParallel, an averaged or
            a compiled model, the wrapped network is trained.
        train: the images and labels. Labels outside the classes are refused.
        epochs: passes over `train`, 0 or more.
        lr: the peak of `schedule`.
        batch_size: images per step. A single image left over at the end of an epoch joins the batch before it, since
            BatchNorm needs two.
        optimizer: optimizer(parameters, lr=lr) builds it: bind further arguments with functools.partial.
        schedule: maps progress in [0, 1] to a multiple of `lr`.
        loss: loss(model, x, y) gives a scalar.
        augment: augment(x, generator) changes the images of each batch.
        after_step: a hook, or several: each is called as hook(model, step) after every optimizer step, in this order
            (to keep zeros, to raise the sparsity); `step` is an `optim.Step`.
        validation: scored after each epoch.
        seed: draws the order of the images, dropout and augmentation.
        progress: show a bar.
        cancel: called before every step; if true, `fit` returns what it has, with the finished epochs in the history
            and `history.attrs["cancelled"]` true.

    Returns:
        The trained copy, in evaluation mode, and its history with the columns epoch, step, lr, train_loss and
        train_accuracy (means over the epoch, while the weights change), validation_accuracy (NaN without `validation`),
        seconds.

    Raises:
        ValueError: a setting is out of range, or the model has nothing to train.
        Interrupted: Ctrl-C; it holds the network and the history so far.

    Example:
        >>> data, model = lk.load_data("digits"), lk.models.mlp(64, 32, 10)
        >>> trained, history = lk.fit(model, data.train, epochs=2, lr=0.01, progress=False)
        >>> history.step.tolist()  # 1,197 images by 128: 10 steps per epoch
        [10, 20]
        >>> trained[1].weight.equal(model[1].weight)  # a copy is trained
        False
    """
    _check.kind(nn.Module, model=model)
    _check.kind(Split, train=train)
    _check.kind(Split | None, validation=validation)
    _check.kind(Callable, optimizer=optimizer, schedule=schedule, loss=loss, cancel=cancel)
    _check.kind(Callable | None, augment=augment)
    hooks = hooks_of(after_step)
    epochs = _check.whole("epochs", epochs, 0, 10_000)
    batch_size = _check.whole("batch_size", batch_size, 1, len(train))
    lr, seed = _check.number("lr", lr, 0, float("inf"), open_high=True), _check.seed(seed)
    _check.flags(progress=progress)
    model = clone(unwrapped(model)).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise ValueError(f"model {type(model).__name__} has nothing to train; allowed: a parameter that requires_grad")
    steps_per_epoch, label = steps_of(len(train), batch_size), int(train.y.max())
    total = max(1, epochs * steps_per_epoch)
    order_rng = Generator().manual_seed(seed)
    rows: list[dict[str, Any]] = []
    bar = tqdm(total=total, desc="training", unit="step", disable=not progress, mininterval=0.5)
    # dropout uses the global generator; the loss decides which images the model gets
    with bar, torch.random.fork_rng(devices=[]), lay_out_at_first_call(model), _handed_back(model, rows):
        torch.manual_seed(seed)
        _process.load("torch._dynamo")  # every optimizer of torch loads it
        made_optimizer = optimizer(trained, lr=lr)
        _check.kind(torch.optim.Optimizer, **{"what optimizer gives": made_optimizer})
        for epoch in range(epochs):
            started, sums = time.perf_counter(), torch.zeros(2, device=train.y.device)
            order = torch.randperm(len(train), generator=order_rng)
            for i, batch in enumerate(_batches(order, batch_size)):
                if cancel():
                    return _finish(model, rows, cancelled=True)
                step = epoch * steps_per_epoch + i
                _set_lr(made_optimizer, lr * _multiple(schedule, step / total))
                x, y = train.x[batch], train.y[batch]
                x = augment(x, order_rng) if augment else x
                sums += len(batch) * _step(model, made_optimizer, loss, x, y, label)
                done = Step(
                    step + 1, total, epoch + 1, i + 1 == steps_per_epoch, made_optimizer.param_groups[0]["lr"]
                )  # fmt: skip
                for hook in hooks:
                    hook(model, done)
                bar.update()
            mean_loss, mean_accuracy = (sums / len(train)).tolist()
            held_out = count_correct(model, validation) / len(validation) if validation else nan
            rows.append(
                dict(epoch=epoch + 1, step=step + 1, lr=made_optimizer.param_groups[0]["lr"], train_loss=mean_loss,
                     train_accuracy=mean_accuracy, validation_accuracy=held_out,
                     seconds=time.perf_counter() - started)
            )  # fmt: skip
    return _finish(model, rows, cancelled=False)


def hooks_of(after_step: Hooks) -> tuple[Hook, ...]:
    """The hooks of an `after_step`, one or several, as a tuple."""
    if isinstance(after_step, type) or not (callable(after_step) or isinstance(after_step, Sequence)):
        raise TypeError(f"after_step is {_check.shown(after_step)}; allowed: a function, or a list of them")
    hooks = (after_step,) if callable(after_step) else tuple(after_step)
    _check.kind(Callable, **{f"after_step[{i}]": hook for i, hook in enumerate(hooks)})
    return hooks


def steps_of(images: int, batch_size: int) -> int:
    """The number of batches in an epoch of `fit`."""
    images, batch_size = _check.whole("images", images, 0, 2**62), _check.whole("batch_size", batch_size, 1, 2**62)
    return -(-(images - (batch_size > 1)) // batch_size)


def _batches(order: Tensor, batch_size: int) -> tuple[Tensor, ...]:
    """`order` in `steps_of` batches; a single image left over joins the last one."""
    *full, last = order.split(batch_size)
    return (*full[:-1], torch.cat([full[-1], last])) if full and batch_size > len(last) == 1 else (*full, last)


def _step(
    model: nn.Module, made_optimizer: torch.optim.Optimizer, loss: Loss, x: Tensor, y: Tensor, label: int
) -> Tensor:
    """One update; returns (loss, accuracy) on the batch before it. `label` is the highest label of the data set."""
    seen: list[Tensor] = []
    hook = model.register_forward_hook(
        lambda module, inputs, output: seen.append(as_logits(module, output, len(y), label).detach())
    )
    with hook:  # removed after an interrupt, too
        value = loss(model, x, y)
    if not isinstance(value, Tensor) or value.ndim or not value.requires_grad or not seen:
        raise ValueError("loss gives no scalar tensor that depends on model(x); allowed: loss(model, x, y) -> scalar")
    made_optimizer.zero_grad(set_to_none=True)
    value.backward()
    made_optimizer.step()
    return torch.stack([value.detach().float(), (seen[0].argmax(1) == y).float().mean()])


def _multiple(schedule: Callable[[float], float], progress: float) -> float:
    multiple = schedule(progress)
    _check.numbers(**{f"what schedule gives at {progress:g}": multiple})
    return multiple


def _set_lr(made_optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in made_optimizer.param_groups:
        group["lr"] = lr


@torch.no_grad()  # not inference_mode: training could not use a tensor that the model caches here
def predict(model: nn.Module, x: Tensor, batch_size: int = 250, label: int = 0, refuse_nan: bool = False) -> Tensor:
    """The class that `model` predicts for each image, in evaluation mode: (n,) int64.

    ValueError or TypeError unless it returns logits (n, classes), as in `fit`, that include class `label`; with
    `refuse_nan` also if a logit is NaN.
    """
    _check.kind(nn.Module, model=model)
    _check.filled(x=x)
    batch_size, label = _check.whole("batch_size", batch_size, 1, 2**31), _check.whole("label", label, 0, 2**31)
    _check.flags(refuse_nan=refuse_nan)
    layout = fastest_layout(model, x)
    with evaluating(model):
        batches = (batch.clone(memory_format=layout) for batch in x.split(batch_size))
        return torch.cat([_classes(model, logits_of(model, batch, label), refuse_nan) for batch in batches])


def _classes(model: nn.Module, logits: Tensor, refuse_nan: bool) -> Tensor:
    if refuse_nan and (bad := int(logits.isnan().sum())):
        raise ValueError(f"model {type(model).__name__} returns {bad} logits that are NaN; allowed: numbers")
    return logits.argmax(1)


def correct_mask(model: nn.Module, split: Split, refuse_nan: bool = False) -> Tensor:
    """Which images of a split `model` classifies correctly, in evaluation mode: (n,) booleans.

    NaN logits count as class 0, so that a diverging training can go on; with `refuse_nan` they are a ValueError.
    """
    _check.flags(refuse_nan=refuse_nan)
    _check.kind(Split, split=split)
    return predict(model, split.x, label=int(split.y.max()), refuse_nan=refuse_nan) == split.y


def count_correct(model: nn.Module, split: Split) -> int:
    """How many images of a split `model` classifies correctly, in evaluation mode."""
    return int(correct_mask(model, split).sum())


@torch.no_grad()
def mean_loss(model: nn.Module, split: Split, batch_size: int = 1_000) -> float:
    """The mean cross-entropy of a split, in evaluation mode."""
    _check.kind(Split, split=split)
    _check.kind(nn.Module, model=model)
    batch_size = _check.whole("batch_size", batch_size, 1, 2**31)
    label = int(split.y.max())
    with evaluating(model):
        batches = zip(split.x.split(batch_size), split.y.split(batch_size), strict=True)
        losses = [len(y) * F.cross_entropy(logits_of(model, x, label), y) for x, y in batches]
        return float(sum(losses)) / len(split)


def lr_range_test(
    model: nn.Module,
    train: Split,
    *,
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 100,
    batch_size: int = 128,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW,
    loss: Loss = cross_entropy,
    smoothing: float = 0.9,
    limit: float = 4.0,
    seed: int = 0,
    cancel: Callable[[], bool] = lambda: False,
) -> pd.DataFrame:
    """Train a copy of `model` while the learning rate grows by the same factor at every step.

    The range test is Smith's (2015, section 3.3), who raises the rate linearly; the constant factor, and the stop at
    `limit` times the lowest loss, are fast.ai's (Gugger 2018).

    One row per step: lr, from `lowest` to `highest`; loss, of the batch before its update; smoothed_loss, its
    exponential mean with weight `smoothing` on the past, corrected for the start. The test ends early, with
    `attrs["diverged"]` true, when the smoothed loss is above `limit` times its lowest value, or a loss is not finite.
    `model` is not changed. ValueError for settings out of range.
    """
    _check.kind(Split, train=train)
    _check.kind(Callable, optimizer=optimizer, loss=loss, cancel=cancel)
    lowest = _check.number("lowest", lowest, 0, float("inf"), open_low=True, open_high=True)
    highest = _check.number("highest", highest, lowest, float("inf"), open_low=True, open_high=True)
    steps = _check.whole("steps", steps, 2, 10_000)
    smoothing = _check.number("smoothing", smoothing, 0, 1, open_high=True)
    limit = _check.number("limit", limit, 1, float("inf"), open_low=True, open_high=True)
    rates = [lowest * (highest / lowest) ** (i / (steps - 1)) for i in range(steps)]
    rows: list[tuple[float, float, float]] = []
    mean = 0.0

    def recorded(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        nonlocal mean
        value = loss(model, x, y)
        mean = smoothing * mean + (1 - smoothing) * value.item()
        rows.append((rates[len(rows)], value.item(), mean / (1 - smoothing ** (len(rows) + 1))))
        return value

    def diverged() -> bool:
        smoothed = [row[2] for row in rows]
        return bool(rows) and not (isfinite(smoothed[-1]) and smoothed[-1] <= limit * min(smoothed))

    fit(
        model, train, epochs=steps, lr=1.0, batch_size=batch_size, optimizer=optimizer, seed=seed, progress=False,
        schedule=lambda progress: rates[len(rows)], loss=recorded,
        cancel=lambda: cancel() or len(rows) == steps or diverged(),
    )  # fmt: skip
    table = pd.DataFrame(rows, columns=["lr", "loss", "smoothed_loss"])
    table.attrs["diverged"] = diverged()
    return table


def suggested_lrs(test: pd.DataFrame) -> dict[str, float]:
    """Two readings of the smoothed loss of a range test: rules of thumb, not a proof.

    "steepest" is the lr where it falls fastest, the most negative slope over log lr before the minimum; "tenth of
    minimum" is a tenth of the lr at the minimum. ValueError for fewer than 3 steps.
    """
    _check.table("test", test, "lr", "smoothed_loss", rows=3)
    smoothed, rates = test["smoothed_loss"].to_numpy(), test["lr"].to_numpy()
    lowest = int(np.nanargmin(smoothed))
    falling = slice(0, max(2, lowest + 1))  # up to the minimum
    slope = np.gradient(smoothed[falling], np.log(rates[falling]))
    return {"steepest": float(rates[slope.argmin()]), "tenth of minimum": float(rates[lowest] / 10)}


def _finish(model: nn.Module, rows: list[dict[str, Any]], cancelled: bool) -> tuple[nn.Module, pd.DataFrame]:
    columns = ["epoch", "step", "lr", "train_loss", "train_accuracy", "validation_accuracy", "seconds"]
    history = pd.DataFrame(rows, columns=columns)
    history.attrs["cancelled"] = cancelled
    return model.to(memory_format=torch.contiguous_format).eval(), history  # type: ignore[call-overload]


@contextmanager
def _handed_back(model: nn.Module, rows: list[dict[str, Any]]) -> Iterator[None]:
    """Turn a KeyboardInterrupt inside the block into an `Interrupted` that holds network and history."""
    try:
        yield
    except KeyboardInterrupt:
        stop = Interrupted(
            f"training was stopped after {len(rows)} whole epochs; this exception holds the network and the history so "
            "far as .model and .history: in a notebook, import sys, and they are sys.last_value.model and .history"
        )
        stop.model, stop.history = _finish(model, rows, cancelled=True)
        raise stop from None


def stopping_epochs(accuracies: Sequence[float], patience: int) -> tuple[int, int]:
    """(best, last), counted from 1: the first best epoch, and the last epoch trained.

    Training stops once `patience` epochs in a row were no better than the best before (Prechelt 1998). ValueError for
    an empty history or a patience below 1.
    """
    _check.whole("patience", patience, 1, 10_000)
    _check.kind(Sequence, accuracies=accuracies)
    _check.numbers(**{f"accuracies[{i}]": value for i, value in enumerate(accuracies)})
    _check.whole("the number of accuracies", len(accuracies), 1, 10_000)
    best = 0
    for epoch, accuracy in enumerate(accuracies):
        if accuracy > accuracies[best]:
            best = epoch
        if epoch - best == patience:
            return best + 1, epoch + 1
    return best + 1, len(accuracies)


def fit_early(
    model: nn.Module, train: Split, held_out: Split, *, epochs: int, patience: int, **settings: Any
) -> tuple[nn.Module, pd.DataFrame]:
    """`fit`, stopped once `patience` epochs in a row were no better on `held_out`; returns the best epoch's network.

    The images of `held_out` have two costs: they cannot be trained on, and since they choose the epoch, their accuracy
    is optimistic. A schedule that falls to zero is cut off early; `optim.constant` is not affected. `settings` are
    those of `fit`. In the history validation_accuracy is that of `held_out`, attrs["best_epoch"] counts from 1, and
    attrs["cancelled"] is true for a run that stopped before `epochs`.
    """
    _check.whole("patience", patience, 1, 10_000)
    _check.kind(Split, train=train, held_out=held_out)
    hooks, cancel = hooks_of(settings.pop("after_step", ())), settings.pop("cancel", lambda: False)
    accuracies: list[float] = []
    best: dict[str, Tensor] = {}

    def score(model: nn.Module, step: Step) -> None:
        if step.ends_epoch:
            accuracies.append(count_correct(model, held_out) / len(held_out))
            if stopping_epochs(accuracies, patience)[0] == len(accuracies):
                best.update(copy.deepcopy(model.state_dict()))

    def stop() -> bool:
        waited = len(accuracies) - stopping_epochs(accuracies, patience)[0] if accuracies else 0
        return cancel() or waited >= patience

    model, history = fit(model, train, epochs=epochs, after_step=[*hooks, score], cancel=stop, **settings)
    model.load_state_dict(best or model.state_dict())
    history["validation_accuracy"] = accuracies
    history.attrs["best_epoch"] = stopping_epochs(accuracies, patience)[0] if accuracies else 0
    return model, history
