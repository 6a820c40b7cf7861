"""Penalties, the proximal step, label smoothing, dropout and early stopping: against their formulas and torch's own."""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from labkit import losses, optim
from labkit.data import Split, take
from labkit.models import mlp as fully_connected
from labkit.train import count_correct, fit, fit_early, stopping_epochs

sgd, adamw = torch.optim.SGD, torch.optim.AdamW
quick = partial(fit, epochs=2, lr=1e-2, progress=False)


def weights_of(model):
    return [w for name, w in model.named_parameters() if name.endswith("weight")]


def gradients(model, loss, x, y):
    return torch.autograd.grad(loss(model, x, y), list(model.parameters()))


def on_weights_only(parameters, lr, rule, weight_decay):
    """The optimizer with weight decay on matrices, none on biases."""
    parameters = list(parameters)
    groups = [dict(params=[p for p in parameters if p.ndim == d], weight_decay=weight_decay * (d == 2)) for d in (1, 2)]
    return rule(groups, lr=lr)


def distance(one, other):
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


# penalties


@pytest.mark.parametrize(
    ("penalty", "value", "slope"),
    [
        (losses.with_l1, lambda w: w.abs().sum(), torch.sign),
        (losses.with_l2, lambda w: w.square().sum() / 2, lambda w: w),
    ],
    ids=["L1", "L2"],
)
def test_a_penalty_adds_its_value_and_its_gradient_on_weights_alone(mlp, digits, penalty, value, slope):
    with torch.no_grad():
        mlp[1].weight[0, :3] = 0.0
    x, y = digits.train.x[:50], digits.train.y[:50]
    plain, penalized = losses.cross_entropy, penalty(0.03)
    added = penalized(mlp, x, y) - plain(mlp, x, y)
    assert added.item() == pytest.approx(0.03 * sum(value(w).item() for w in weights_of(mlp)), rel=1e-4)
    before, after = gradients(mlp, plain, x, y), gradients(mlp, penalized, x, y)
    for p, g, h in zip(mlp.parameters(), before, after, strict=True):
        expected = 0.03 * slope(p) if p.ndim == 2 else torch.zeros_like(p)
        assert torch.allclose(h - g, expected, atol=1e-6)


@pytest.mark.parametrize("penalty", [losses.with_l1, losses.with_l2])
def test_a_penalty_goes_on_top_of_any_loss_and_of_another_penalty(mlp, digits, penalty):
    x, y = digits.train.x[:50], digits.train.y[:50]
    smooth = losses.label_smoothing(0.2)
    alone = (penalty(0.1)(mlp, x, y) - losses.cross_entropy(mlp, x, y)).item()
    both = penalty(0.1, losses.with_l2(0.5, smooth))(mlp, x, y) - losses.with_l2(0.5, smooth)(mlp, x, y)
    assert both.item() == pytest.approx(alone, rel=1e-3)


@pytest.mark.parametrize("penalty", [losses.with_l1, losses.with_l2])
def test_lambda_0_changes_nothing_and_a_frozen_weight_costs_nothing(mlp, digits, penalty):
    x, y = digits.train.x[:50], digits.train.y[:50]
    assert penalty(0.0)(mlp, x, y).equal(losses.cross_entropy(mlp, x, y))
    for p in mlp[:2].parameters():
        p.requires_grad_(False)
    once = penalty(1.0)(mlp, x, y).item()
    with torch.no_grad():
        mlp[3].weight.zero_()
        assert penalty(1.0)(mlp, x, y).item() == pytest.approx(losses.cross_entropy(mlp, x, y).item(), abs=1e-6)
    assert once > 1


def test_l2_under_sgd_is_torchs_weight_decay_step_for_step(mlp, digits):
    """Also with momentum: torch's SGD adds λ w to the gradient, before the momentum."""
    lam, kept = 0.05, {}
    rule = partial(sgd, momentum=0.9)
    for name, loss, decay in (("L2", losses.with_l2(lam), 0.0), ("decay", losses.cross_entropy, lam)):
        steps = kept[name] = []
        hook = partial(lambda kept, model, step: kept.append(copy.deepcopy(model)), steps)
        optimizer = partial(on_weights_only, rule=rule, weight_decay=decay)
        quick(mlp, take(digits.train, 600), loss=loss, optimizer=optimizer, after_step=hook)
    assert len(kept["L2"]) == 10
    for ours, theirs in zip(kept["L2"], kept["decay"], strict=True):
        assert distance(ours, theirs) < 1e-6
    plain, _ = quick(mlp, take(digits.train, 600), optimizer=rule)
    assert distance(plain, kept["L2"][-1]) > 1e-3


def test_l2_under_adam_is_torchs_coupled_decay_and_not_adamws(mlp, digits):
    lam, few = 0.05, take(digits.train, 600)

    def trained(loss, rule, decay):
        optimizer = partial(on_weights_only, rule=rule, weight_decay=decay)
        return quick(mlp, few, loss=loss, optimizer=optimizer)[0]

    ours = trained(losses.with_l2(lam), torch.optim.Adam, 0.0)
    assert distance(ours, trained(losses.cross_entropy, torch.optim.Adam, lam)) < 1e-4
    assert distance(ours, trained(losses.cross_entropy, adamw, lam)) > 1e-2


@pytest.mark.parametrize("penalty", [losses.with_l1, losses.with_l2])
@pytest.mark.parametrize(
    ("lam", "error"), [(-1, ValueError), (float("nan"), ValueError), (float("inf"), ValueError), ("big", TypeError)]
)
def test_a_penalty_refuses(refuses, penalty, lam, error):
    refuses(error, f"lam is {lam!r}; allowed: a number in [0, inf)", penalty, lam)


# the proximal step


@given(st.floats(-5, 5, width=32), st.floats(0, 4, width=32))
def test_the_soft_threshold_minimises_distance_and_size(w, threshold):
    v = losses.soft_threshold(torch.tensor([w]), threshold).item()
    assert v == pytest.approx(max(abs(w) - threshold, 0) * (1 if w > 0 else -1), abs=1e-5)

    def cost(v):
        return 0.5 * (v - w) ** 2 + threshold * abs(v)

    assert all(cost(v) <= cost(v + by) + 1e-5 for by in (-1, -0.1, -0.01, 0.01, 0.1, 1))


def test_the_soft_threshold_makes_no_negative_zero():
    zeros = losses.soft_threshold(torch.tensor([-0.2, 0.2, -0.1, 0.0]), 0.2)
    assert zeros.tolist() == [0, 0, 0, 0]
    assert not torch.signbit(zeros).any()


@pytest.mark.parametrize("schedule", [optim.constant, optim.warmup_cosine])
def test_proximal_l1_under_sgd_is_ista_written_out(mlp, digits, schedule):
    few, lr, lam = take(digits.train, 600), 0.1, 0.02
    how = dict(epochs=2, lr=lr, schedule=schedule, optimizer=sgd, progress=False, batch_size=600)
    ours, _ = fit(mlp, few, after_step=losses.ProximalL1(lam), **how)
    model = copy.deepcopy(mlp)
    for step in range(2):
        eta = lr * schedule(step / 2)
        for p, g in zip(model.parameters(), gradients(model, losses.cross_entropy, few.x, few.y), strict=True):
            with torch.no_grad():
                p -= eta * g
                if p.ndim == 2:
                    p.copy_(p.sign() * (p.abs() - eta * lam).clamp(min=0))
    assert distance(ours, model) < 1e-6


def test_proximal_l1_makes_exact_zeros_and_the_gradient_of_l1_does_not(mlp, digits):
    how = dict(epochs=20, lr=0.1, schedule=optim.constant, optimizer=sgd, progress=False)
    proximal, _ = fit(mlp, digits.train, after_step=losses.ProximalL1(0.01), **how)
    penalty, _ = fit(mlp, digits.train, loss=losses.with_l1(0.01), **how)
    shares = [float(torch.cat([(w == 0).flatten() for w in weights_of(m)]).float().mean()) for m in (proximal, penalty)]
    assert shares[0] > 0.5
    assert shares[1] < 0.02
    accuracies = [count_correct(m, digits.validation) / 300 for m in (proximal, penalty)]
    assert abs(accuracies[0] - accuracies[1]) < 0.05  # both follow the same objective


def test_proximal_l1_leaves_biases_and_frozen_weights_alone(mlp):
    mlp[1].weight.requires_grad_(False)
    before = copy.deepcopy(mlp.state_dict())
    losses.ProximalL1(100.0)(mlp, optim.Step(1, 2, 1, False, 1.0))
    changed = [name for name, value in mlp.state_dict().items() if not value.equal(before[name])]
    assert changed == ["3.weight"]
    assert not mlp[3].weight.any()


def test_proximal_l1_refuses(refuses):
    refuses(ValueError, "lam is -1; allowed: a number in [0, inf)", losses.ProximalL1, -1)


# label smoothing


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5, 0.9])
def test_label_smoothing_is_torchs_and_cross_entropy_with_softened_labels(mlp, digits, smoothing):
    x, y = digits.train.x[:50], digits.train.y[:50]
    ours = losses.label_smoothing(smoothing)
    assert ours(mlp, x, y).item() == pytest.approx(F.cross_entropy(mlp(x), y, label_smoothing=smoothing).item(), 1e-5)
    soft = (1 - smoothing) * F.one_hot(y, 10) + smoothing / 10
    assert ours(mlp, x, y).item() == pytest.approx(-(soft * mlp(x).log_softmax(1)).sum(1).mean().item(), 1e-5)
    theirs = gradients(mlp, lambda m, x, y: F.cross_entropy(m(x), y, label_smoothing=smoothing), x, y)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(gradients(mlp, ours, x, y), theirs, strict=True))


def test_label_smoothing_refuses(refuses):
    refuses(ValueError, "smoothing is 1; allowed: a number in [0, 1)", losses.label_smoothing, 1)
    refuses(TypeError, "smoothing is None; allowed: a number in [0, 1)", losses.label_smoothing, None)


# dropout


def test_dropout_stands_behind_every_hidden_layer_and_changes_no_weight():
    torch.manual_seed(0)
    plain = fully_connected(64, 30, 20, 10)
    torch.manual_seed(0)
    model = fully_connected(64, 30, 20, 10, dropout=0.4)
    kinds = [type(layer).__name__ for layer in model]
    assert kinds == ["Flatten", "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]
    assert {layer.p for layer in model if isinstance(layer, nn.Dropout)} == {0.4}
    pairs = list(zip(plain.parameters(), model.parameters(), strict=True))
    assert all(a.equal(b) for a, b in pairs)
    x = torch.rand(5, 1, 8, 8)
    assert model.eval()(x).equal(plain(x))


def test_dropout_leaves_out_its_share_and_keeps_the_mean():
    model = fully_connected(4, 50_000, 1, dropout=0.3)
    seen = []
    model[3].register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
    torch.manual_seed(0)
    model.train()(torch.ones(1, 4))
    before, after = seen[0]
    alive = before > 0
    assert float((after[alive] == 0).float().mean()) == pytest.approx(0.3, abs=0.02)
    kept = alive & (after > 0)
    assert torch.allclose(after[kept], before[kept] / 0.7)


def test_without_dropout_there_is_no_layer_for_it(refuses):
    assert not [layer for layer in fully_connected(64, 30, 10) if isinstance(layer, nn.Dropout)]
    refuses(ValueError, "dropout is 1; allowed: a number in [0, 1)", fully_connected, 64, 10, dropout=1)


# early stopping


@pytest.mark.parametrize(
    ("accuracies", "patience", "expected"),
    [
        ([0.5], 1, (1, 1)),
        ([0.5, 0.6, 0.7], 1, (3, 3)),
        ([0.5, 0.4, 0.9], 1, (1, 2)),
        ([0.5, 0.4, 0.9], 2, (3, 3)),
        ([0.5, 0.7, 0.6, 0.7, 0.9], 2, (2, 4)),  # as good is not better
        ([0.5, 0.7, 0.6, 0.7, 0.9], 3, (5, 5)),
    ],
)
def test_stopping_epochs(accuracies, patience, expected):
    assert stopping_epochs(accuracies, patience) == expected


def test_stopping_epochs_refuses(refuses):
    refuses(ValueError, "patience is 0; allowed: a whole number from 1 to 10000", stopping_epochs, [0.5], 0)
    told = "the number of accuracies is 0; allowed: a whole number from 1 to 10000"
    refuses(ValueError, told, stopping_epochs, [], 1)


@pytest.fixture
def few(digits):
    """60 training images, with labels that are wrong on half of them: training longer only memorizes those."""
    x, y = digits.train.x[:60], digits.train.y[:60].clone()
    y[::2] = torch.randint(10, (30,), generator=torch.Generator().manual_seed(0))
    return Split(x, y)


HOW = dict(lr=0.01, batch_size=25, schedule=optim.constant, progress=False)


def test_early_stopping_returns_the_network_of_the_best_epoch(mlp, digits, few):
    model, history = fit_early(mlp, few, digits.validation, epochs=60, patience=4, **HOW)
    accuracies, best = history["validation_accuracy"].tolist(), history.attrs["best_epoch"]
    assert len(history) == best + 4 < 60
    assert history.attrs["cancelled"]
    assert stopping_epochs(accuracies, 4) == (best, len(history))
    plain, full = fit(mlp, few, epochs=best, validation=digits.validation, **HOW)
    assert distance(model, plain) == 0
    assert accuracies[:best] == full["validation_accuracy"].tolist()
    assert count_correct(model, digits.validation) / 300 == max(accuracies)
    assert not model.training


def test_early_stopping_runs_to_the_end_where_it_still_gets_better(mlp, digits):
    model, history = fit_early(mlp, digits.train, digits.validation, epochs=3, patience=3, **HOW)
    plain, _ = fit(mlp, digits.train, epochs=3, **HOW)
    assert len(history) == 3
    assert not history.attrs["cancelled"]
    if history.attrs["best_epoch"] == 3:
        assert distance(model, plain) == 0


def test_early_stopping_passes_hooks_on_and_can_be_cancelled(mlp, digits, few):
    seen = []
    fit_early(mlp, few, digits.validation, epochs=2, patience=5, after_step=lambda m, step: seen.append(step), **HOW)
    assert len(seen) == 6
    calls = iter([False] * 4 + [True])
    model, history = fit_early(mlp, few, digits.validation, epochs=9, patience=5, cancel=lambda: next(calls), **HOW)
    assert len(history) == 1
    assert history.attrs["best_epoch"] == 1
    at_once, history = fit_early(mlp, few, digits.validation, epochs=9, patience=5, cancel=lambda: True, **HOW)
    assert len(history) == history.attrs["best_epoch"] == 0
    assert distance(at_once, mlp) == 0
