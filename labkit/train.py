"""The only training loop. What differs between experiments arrives as a loss, an augmentation or an after_step hook."""

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import nan

import pandas as pd
import torch
from torch import Generator, Tensor, nn
from tqdm import tqdm

from labkit import _check, optim
from labkit.data import Split
from labkit.losses import cross_entropy

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


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
    after_step: Callable[[nn.Module, float], None] | None = None,
    validation: Split | None = None,
    seed: int = 0,
    progress: bool = True,
    cancel: Callable[[], bool] = lambda: False,
) -> tuple[nn.Module, pd.DataFrame]:
    """Train a copy of `model` on whole-data-set tensors; return it and one history row an epoch.

    `lr` is the peak of `schedule`, which maps progress in [0, 1] to a multiple of it. `optimizer(parameters, lr=lr)`
    builds the optimizer: bind further arguments with functools.partial. `after_step(model, progress)` runs behind every
    update (keep zeros zero, raise the sparsity). `cancel()` is asked before every step; a cancelled run returns what
    it has, with the finished epochs in the history and `history.attrs["cancelled"]` true.

    History columns: epoch, step, lr, train_loss and train_accuracy (running means over the epoch, while the weights
    moved), validation_accuracy (NaN without `validation`), seconds. ValueError for settings out of range.
    """
    _check.module("model", model)
    _check.whole("epochs", epochs, 0, 10_000)
    _check.whole("batch_size", batch_size, 1, len(train))
    _check.number("lr", lr, 0, float("inf"), open_high=True)
    steps_per_epoch = -(-len(train) // batch_size)
    total = max(1, epochs * steps_per_epoch)
    order_rng = Generator().manual_seed(seed)
    rows: list[dict] = []
    bar = tqdm(total=total, desc="training", unit="step", disable=not progress, mininterval=0.5)
    with bar, torch.random.fork_rng(devices=[]):  # dropout draws from the global generator
        torch.manual_seed(seed)
        # convolutions on a CPU run about three times faster on channels-last memory
        model = copy.deepcopy(model).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        stepper = optimizer([p for p in model.parameters() if p.requires_grad], lr=lr)
        for epoch in range(epochs):
            started, sums = time.perf_counter(), torch.zeros(2)
            order = torch.randperm(len(train), generator=order_rng)
            for i, batch in enumerate(order.split(batch_size)):
                if cancel():
                    return _finish(model, rows, cancelled=True)
                step = epoch * steps_per_epoch + i
                _set_lr(stepper, lr * schedule(step / total))
                x, y = train.x[batch], train.y[batch]
                x = augment(x, order_rng) if augment else x
                sums += len(batch) * _step(model, stepper, loss, x, y)
                if after_step:
                    after_step(model, (step + 1) / total)
                bar.update()
            mean_loss, mean_accuracy = (sums / len(train)).tolist()
            held_out = count_correct(model, validation) / len(validation) if validation else nan
            rows.append(
                dict(epoch=epoch + 1, step=step + 1, lr=stepper.param_groups[0]["lr"], train_loss=mean_loss,
                     train_accuracy=mean_accuracy, validation_accuracy=held_out,
                     seconds=time.perf_counter() - started)
            )  # fmt: skip
    return _finish(model, rows, cancelled=False)


def _step(model: nn.Module, stepper: torch.optim.Optimizer, loss: Loss, x: Tensor, y: Tensor) -> Tensor:
    """One update; returns (loss, accuracy) on the batch before it."""
    seen: list[Tensor] = []
    hook = model.register_forward_hook(lambda module, inputs, logits: seen.append(logits.detach()))
    value = loss(model, x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x, y)
    hook.remove()
    stepper.zero_grad(set_to_none=True)
    value.backward()
    stepper.step()
    return torch.stack([value.detach().float(), (seen[0].argmax(1) == y).float().mean()])


def _set_lr(stepper: torch.optim.Optimizer, lr: float) -> None:
    for group in stepper.param_groups:
        group["lr"] = lr


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Evaluation mode inside the block; each submodule's own mode comes back behind it."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for part, training in modes:
            part.training = training


@torch.inference_mode()
def predict(model: nn.Module, x: Tensor, batch_size: int = 1_000) -> Tensor:
    """The class that `model`, in evaluation mode, gives each image: (n,) int64."""
    with evaluating(model):
        return torch.cat([model(batch).argmax(1) for batch in x.split(batch_size)])


def count_correct(model: nn.Module, split: Split) -> int:
    """How many images of a split `model` classifies right, in evaluation mode."""
    return int((predict(model, split.x) == split.y).sum())


def _finish(model: nn.Module, rows: list[dict], cancelled: bool) -> tuple[nn.Module, pd.DataFrame]:
    columns = ["epoch", "step", "lr", "train_loss", "train_accuracy", "validation_accuracy", "seconds"]
    history = pd.DataFrame(rows, columns=columns)
    history.attrs["cancelled"] = cancelled
    return model.to(memory_format=torch.contiguous_format).eval(), history  # type: ignore[call-overload]
