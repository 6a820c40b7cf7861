"""Schedules, step for step against torch.optim.lr_scheduler."""

from functools import partial

import pytest
import torch
from torch.optim import lr_scheduler

from labkit import optim
from labkit.train import fit, mean_loss

TOTAL = 60  # steps


def torch_rates(build, steps=TOTAL, values=None):
    """The rates that a torch scheduler sets from a peak of 1; `values` are told to it, one a step."""
    stepper = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0, momentum=0.9)
    scheduler, rates = build(stepper), []
    for i in range(steps):
        rates.append(stepper.param_groups[0]["lr"])
        stepper.step()
        scheduler.step(*([values[i]] if values else []))
    return rates


def ours(schedule, total=TOTAL):
    return [schedule(step / total) for step in range(TOTAL)]


def sequential(warmup, build):
    """torch's linear warm-up, then a scheduler; it cannot start at 0, so it stands at our second step."""

    def both(stepper):
        rise = lr_scheduler.LinearLR(stepper, start_factor=1 / warmup, total_iters=warmup - 1)
        return lr_scheduler.SequentialLR(stepper, [rise, build(stepper)], milestones=[warmup - 1])

    return both


PAIRS = {
    "step decay is StepLR": (
        partial(optim.step_decay, milestones=(1 / 3, 2 / 3), factor=0.3),
        lambda stepper: lr_scheduler.StepLR(stepper, step_size=20, gamma=0.3),
    ),
    "step decay is MultiStepLR": (
        optim.step_decay,
        lambda stepper: lr_scheduler.MultiStepLR(stepper, milestones=[30, 45], gamma=0.1),
    ),
    "exponential": (
        partial(optim.exponential, final=0.02),
        lambda stepper: lr_scheduler.ExponentialLR(stepper, gamma=0.02 ** (1 / TOTAL)),
    ),
    "cosine": (optim.cosine, lambda stepper: lr_scheduler.CosineAnnealingLR(stepper, T_max=TOTAL)),
    "cosine to a tenth": (
        partial(optim.cosine, final=0.1),
        lambda stepper: lr_scheduler.CosineAnnealingLR(stepper, T_max=TOTAL, eta_min=0.1),
    ),
}


@pytest.mark.parametrize(("schedule", "build"), PAIRS.values(), ids=PAIRS)
def test_a_schedule_is_torchs(schedule, build):
    assert ours(schedule) == pytest.approx(torch_rates(build), abs=1e-9)


@pytest.mark.parametrize("warmup", [3, 12, 30])
@pytest.mark.parametrize("name", ["step", "exponential", "cosine"])
def test_warmup_before_any_is_torchs_linear_then_that(name, warmup):
    left = TOTAL - warmup
    schedule, build = {
        "step": (optim.step_decay, lambda s: lr_scheduler.MultiStepLR(s, [-(-left // 2), -(-3 * left // 4)], 0.1)),
        "exponential": (optim.exponential, lambda s: lr_scheduler.ExponentialLR(s, 0.01 ** (1 / left))),
        "cosine": (optim.cosine, lambda s: lr_scheduler.CosineAnnealingLR(s, left)),
    }[name]
    warmed = ours(optim.with_warmup(schedule, warmup / TOTAL))
    assert warmed[0] == 0
    assert warmed[1:] == pytest.approx(torch_rates(sequential(warmup, build), TOTAL - 1), abs=1e-9)


def test_no_warmup_is_the_schedule_itself():
    assert ours(optim.with_warmup(optim.exponential, 0)) == ours(optim.exponential)


@pytest.mark.parametrize("warmup", [0.1, 0.25])
def test_warmup_cosine_is_the_two_composed(warmup):
    composed = ours(optim.with_warmup(optim.cosine, warmup))
    assert ours(partial(optim.warmup_cosine, warmup=warmup)) == pytest.approx(composed, abs=1e-12)


@pytest.mark.parametrize("rise", [0.3, 0.5])
def test_one_cycle_is_torchs(rise):
    """torch's peak is at step rise · total - 1 and its end at step total - 1, where ours are at rise and 1."""
    torchs = torch_rates(lambda s: lr_scheduler.OneCycleLR(s, 1.0, total_steps=TOTAL, pct_start=rise), TOTAL - 1)
    schedule = partial(optim.one_cycle, rise=(rise * TOTAL - 1) / (TOTAL - 1))
    assert ours(schedule, TOTAL - 1)[:-1] == pytest.approx(torchs, abs=1e-9)
    assert schedule(1) == pytest.approx(4e-6)


def test_one_cycle_in_straight_lines_is_torchs():
    def build(stepper):
        return lr_scheduler.OneCycleLR(stepper, 1.0, total_steps=TOTAL, anneal_strategy="linear")

    schedule = partial(optim.one_cycle, rise=(0.3 * TOTAL - 1) / (TOTAL - 1), shape=optim.linear)
    assert ours(schedule, TOTAL - 1)[:-1] == pytest.approx(torch_rates(build, TOTAL - 1), abs=1e-9)


@pytest.mark.parametrize(
    "schedule",
    [optim.constant, optim.step_decay, optim.exponential, optim.cosine, optim.one_cycle, optim.warmup_cosine],
    ids=lambda f: f.__name__,
)
def test_no_schedule_is_above_its_peak_or_below_zero_and_all_reach_it(schedule):
    rates = ours(schedule)
    assert max(rates) == 1
    assert min(rates) >= 0


# plateau

FALLING = [1.0, 0.8, 0.81, 0.80001, 0.9, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.6, float("nan"), 0.6, 0.6, 0.6, 0.5]


@pytest.mark.parametrize(("patience", "factor", "threshold"), [(0, 0.5, 1e-4), (1, 0.1, 1e-4), (2, 0.3, 0.15)])
def test_plateau_is_torchs(patience, factor, threshold):
    def build(stepper):
        return lr_scheduler.ReduceLROnPlateau(
            stepper, factor=factor, patience=patience, threshold=threshold, eps=0, min_lr=0
        )

    plateau, rates = optim.Plateau(len, len(FALLING), factor, patience, threshold), []
    for value in FALLING:
        rates.append(plateau(0.5))
        plateau.see(value)
    assert rates == pytest.approx(torch_rates(build, len(FALLING), FALLING))
    assert len(set(rates)) > 2  # it did fall


def test_plateau_in_fit_looks_as_often_as_it_was_told_and_moves_the_rate(digits, mlp):
    values = []

    def watched(model):
        values.append(mean_loss(model, digits.validation))
        return values[-1]

    plateau = optim.Plateau(watched, looks=6, factor=0.5, patience=0, threshold=0.5)
    _, history = fit(
        mlp, digits.train, epochs=3, lr=1e-2, batch_size=100, schedule=plateau, after_step=plateau.look, progress=False
    )
    assert len(values) == 6
    spectator = optim.Plateau(len, 6, 0.5, 0, 0.5)
    rates = []
    for value in values:
        rates.append(1e-2 * spectator(0))
        spectator.see(value)
    assert history.lr.tolist() == rates[1::2]
    assert rates[-1] < 1e-2


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"looks": 0}, "looks is 0; allowed: a whole number from 1 to 1000000"),
        ({"factor": 1.0}, "factor is 1.0; allowed: a number in (0, 1)"),
        ({"patience": -1}, "patience is -1; allowed: a whole number from 0 to 1000000"),
    ],
)
def test_plateau_refuses(refuses, settings, said):
    refuses(ValueError, said, optim.Plateau, len, **({"looks": 3} | settings))


def test_a_warmup_as_long_as_the_run_is_refused(refuses):
    refuses(ValueError, "warmup is 1; allowed: a number in [0, 1)", optim.with_warmup, optim.cosine, 1)
