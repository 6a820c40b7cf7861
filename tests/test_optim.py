"""Schedules, against torch.optim.lr_scheduler."""

import pytest
import torch
from torch.optim import lr_scheduler

from labkit import optim


def torch_schedule(build, steps):
    """The learning rates that a torch scheduler sets in `steps` steps from a peak of 1."""
    stepper = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler, rates = build(stepper), []
    for _ in range(steps):
        rates.append(stepper.param_groups[0]["lr"])
        stepper.step()
        scheduler.step()
    return rates


def test_constant():
    assert [optim.constant(p) for p in (0, 0.3, 1)] == [1.0] * 3


@pytest.mark.parametrize(("total", "warmup"), [(200, 20), (1_000, 50), (60, 30)])
def test_warmup_cosine_is_torchs_linear_then_cosine(total, warmup):
    def build(stepper):
        rise = lr_scheduler.LinearLR(stepper, start_factor=1 / warmup, total_iters=warmup - 1)
        fall = lr_scheduler.CosineAnnealingLR(stepper, T_max=total - warmup)
        return lr_scheduler.SequentialLR(stepper, [rise, fall], milestones=[warmup - 1])

    # torch's LinearLR cannot start at 0, so its first step is our second
    ours = [optim.warmup_cosine(step / total, warmup / total) for step in range(1, total + 1)]
    assert ours[:-1] == pytest.approx(torch_schedule(build, total - 1), abs=1e-9)
    assert ours[-1] == pytest.approx(0, abs=1e-12)


def test_warmup_cosine_without_warmup_is_torchs_cosine():
    ours = [optim.warmup_cosine(step / 100, warmup=0) for step in range(100)]
    torchs = torch_schedule(lambda stepper: lr_scheduler.CosineAnnealingLR(stepper, T_max=100), 100)
    assert ours == pytest.approx(torchs, abs=1e-9)


def test_warmup_cosine_starts_at_zero_and_peaks_behind_a_tenth():
    rates = [optim.warmup_cosine(step / 1_000) for step in range(1_001)]
    assert rates[0] == 0
    assert max(range(1_001), key=rates.__getitem__) == 100
    assert max(rates) == 1
