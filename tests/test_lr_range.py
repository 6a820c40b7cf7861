"""The range test: it climbs, stops where training breaks, leaves the model alone; its two readings are as defined."""

import math
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from labkit.losses import cross_entropy
from labkit.train import lr_range_test, mean_loss, suggested_lrs

sgd = partial(torch.optim.SGD, momentum=0.9)


def test_it_stops_where_training_diverges_and_says_so(digits, mlp):
    test = lr_range_test(mlp, digits.train, optimizer=sgd, highest=1_000)
    assert test.attrs["diverged"]
    assert 30 < len(test) < 100
    best = test["smoothed_loss"].cummin()
    beyond = (test["smoothed_loss"] > 4 * best) | ~np.isfinite(test["loss"])
    assert beyond.tolist() == [False] * (len(test) - 1) + [True]
    assert test["lr"].iloc[-1] > 3 * test["lr"][test["smoothed_loss"].idxmin()] > 0.01


def test_a_loss_that_is_not_a_number_ends_it(digits, mlp):
    seen = []

    def breaking(model, x, y):
        seen.append(1)
        return cross_entropy(model, x, y) * (math.nan if len(seen) == 7 else 1)

    test = lr_range_test(mlp, digits.train, loss=breaking, highest=1e-4)
    assert len(test) == len(seen) == 7
    assert test.attrs["diverged"]
    assert test["smoothed_loss"].isna().tolist() == [False] * 6 + [True]


def test_a_loss_that_is_infinite_from_the_start_ends_it_at_once(digits, mlp):
    test = lr_range_test(mlp, digits.train, loss=lambda model, x, y: cross_entropy(model, x, y) * math.inf)
    assert len(test) == 1
    assert test.attrs["diverged"]


def test_the_rate_grows_by_one_factor_from_end_to_end_over_several_epochs(digits, mlp):
    test = lr_range_test(mlp, digits.train, lowest=1e-5, highest=1e-3, steps=30, batch_size=400)  # 3 batches an epoch
    assert not test.attrs["diverged"]
    assert list(test.columns) == ["lr", "loss", "smoothed_loss"]
    assert test["lr"].tolist() == pytest.approx(np.geomspace(1e-5, 1e-3, 30).tolist())


def test_the_smoothed_loss_is_pandas_exponential_mean(digits, mlp):
    test = lr_range_test(mlp, digits.train, steps=40, highest=0.1, smoothing=0.8)
    expected = test["loss"].ewm(alpha=0.2, adjust=True).mean()
    assert test["smoothed_loss"].tolist() == pytest.approx(expected.tolist())


def test_losses_are_those_of_the_loop_by_hand(digits, mlp):
    test = lr_range_test(mlp, digits.train, lowest=0.01, highest=1, steps=5, batch_size=200, optimizer=sgd, seed=3)
    order = torch.randperm(len(digits.train), generator=torch.Generator().manual_seed(3))
    stepper = sgd(mlp.parameters(), lr=1.0)
    for batch, (lr, loss) in zip(order.split(200), test[["lr", "loss"]].itertuples(index=False), strict=False):
        stepper.param_groups[0]["lr"] = lr
        stepper.zero_grad()
        value = F.cross_entropy(mlp(digits.train.x[batch]), digits.train.y[batch])
        value.backward()
        stepper.step()
        assert loss == pytest.approx(value.item(), rel=1e-6)


def test_the_model_is_not_changed_and_a_seed_repeats_itself(digits, mlp):
    before = nn.utils.parameters_to_vector(mlp.parameters()).detach().clone()
    first, again, other = (lr_range_test(mlp, digits.train, steps=20, seed=s) for s in (1, 1, 2))
    assert nn.utils.parameters_to_vector(mlp.parameters()).equal(before)
    pd.testing.assert_frame_equal(first, again)
    assert not first.equals(other)


def test_it_can_be_cancelled(digits, mlp):
    asked = []
    test = lr_range_test(mlp, digits.train, cancel=lambda: len(asked) > 4 or asked.append(1))
    assert len(test) == 5


def test_the_two_readings():
    lr = np.geomspace(1e-4, 1, 9)
    smoothed = [2.3, 2.2, 2.0, 1.0, 0.7, 0.6, 0.65, 3.0, 0.1]  # the last is the lowest, and it falls fastest there
    table = pd.DataFrame(dict(lr=lr, loss=smoothed, smoothed_loss=smoothed))
    assert suggested_lrs(table[:8]) == pytest.approx({"steepest": lr[3], "tenth of minimum": lr[5] / 10})
    table.loc[8, "smoothed_loss"] = math.nan  # where a test has broken
    assert suggested_lrs(table) == pytest.approx({"steepest": lr[3], "tenth of minimum": lr[5] / 10})


def test_mean_loss_is_that_of_all_images_in_evaluation_mode(digits, mlp):
    model = nn.Sequential(*mlp[:3], nn.Dropout(0.9), mlp[3]).train()
    expected = F.cross_entropy(mlp(digits.test.x), digits.test.y).item()
    assert mean_loss(model, digits.test) == pytest.approx(expected, rel=1e-5)
    assert mean_loss(model, digits.test, batch_size=70) == pytest.approx(expected, rel=1e-5)
    assert model.training


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lowest": 0}, "lowest is 0; allowed: a number in (0, inf)"),
        ({"lowest": 1.0, "highest": 0.1}, "highest is 0.1; allowed: a number in (1, inf)"),
        ({"steps": 1}, "steps is 1; allowed: a whole number from 2 to 10000"),
        ({"smoothing": 1}, "smoothing is 1; allowed: a number in [0, 1)"),
        ({"limit": 1}, "limit is 1; allowed: a number in (1, inf)"),
        ({"batch_size": 5_000}, "batch_size is 5000; allowed: a whole number from 1 to 1197"),
    ],
)
def test_settings_out_of_range(digits, mlp, refuses, settings, said):
    refuses(ValueError, said, lr_range_test, mlp, digits.train, **settings)


def test_two_steps_have_no_slope(refuses):
    table = pd.DataFrame(dict(lr=[1.0, 2.0], loss=[1.0, 2.0], smoothed_loss=[1.0, 2.0]))
    refuses(ValueError, "test has 2 rows; allowed: 3 or more", suggested_lrs, table)
