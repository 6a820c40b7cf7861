"""The loop: it learns, repeats itself exactly, keeps its hands off the caller's model, and can be stopped."""

import copy
from functools import partial

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Generator, nn

from labkit import optim
from labkit._module import evaluating
from labkit.data import Split, take
from labkit.train import count_correct, fit, predict

COLUMNS = ["epoch", "step", "lr", "train_loss", "train_accuracy", "validation_accuracy", "seconds"]
quick = partial(fit, epochs=2, lr=1e-2, progress=False)


def weights(model):
    return nn.utils.parameters_to_vector(model.parameters()).detach()


def test_it_learns(digits, trained):
    assert count_correct(trained, digits.test) / len(digits.test) > 0.9


def test_same_seed_same_weights(digits, mlp):
    first, again, other = (weights(quick(mlp, digits.train, seed=s)[0]) for s in (3, 3, 4))
    assert first.equal(again)
    assert not first.equal(other)


def test_dropout_repeats_itself_and_leaves_the_global_generator_alone(digits, mlp):
    model = nn.Sequential(*mlp[:3], nn.Dropout(0.5), mlp[3])
    before = torch.get_rng_state()
    first = weights(quick(model, digits.train)[0])
    assert torch.get_rng_state().equal(before)
    torch.rand(5)
    assert weights(quick(model, digits.train)[0]).equal(first)


def test_the_model_passed_in_is_not_changed(digits, mlp):
    before = weights(mlp).clone()
    mlp.eval()
    result, _ = quick(mlp, digits.train)
    assert weights(mlp).equal(before)
    assert not mlp.training
    assert result is not mlp
    assert not result._forward_hooks
    assert not result.training
    assert all(p.grad is None for p in mlp.parameters())


def test_the_loop_written_out_by_hand_gives_the_same_weights(digits, mlp):
    ours, _ = quick(mlp, digits.train, batch_size=100, seed=5)
    model, order_rng = copy.deepcopy(mlp), Generator().manual_seed(5)
    stepper = torch.optim.AdamW(model.parameters(), lr=1e-2)
    step = 0
    for _ in range(2):
        order = torch.randperm(1_197, generator=order_rng)
        for start in range(0, 1_197, 100):
            stepper.param_groups[0]["lr"] = 1e-2 * optim.warmup_cosine(step / 24)
            batch = order[start : start + 100]
            stepper.zero_grad()
            F.cross_entropy(model(digits.train.x[batch]), digits.train.y[batch]).backward()
            stepper.step()
            step += 1
    assert weights(ours).equal(weights(model))


def test_history_has_one_row_an_epoch(digits, mlp):
    _, history = quick(mlp, digits.train, validation=digits.validation, batch_size=100)
    assert list(history.columns) == COLUMNS
    assert history.epoch.tolist() == [1, 2]
    assert history.step.tolist() == [12, 24]
    assert history.lr.tolist() == pytest.approx([1e-2 * optim.warmup_cosine(s / 24) for s in (11, 23)])
    assert history.train_loss.is_monotonic_decreasing
    assert (history.seconds > 0).all()
    assert history.attrs == {"cancelled": False}


def test_the_last_validation_accuracy_is_that_of_the_model_returned(digits, mlp):
    model, history = quick(mlp, digits.train, validation=digits.validation)
    right = (model(digits.validation.x).argmax(1) == digits.validation.y).float().mean().item()
    assert history.validation_accuracy.iloc[-1] == pytest.approx(right)


def test_without_validation_its_column_is_empty(digits, mlp):
    _, history = quick(mlp, digits.train)
    assert history.validation_accuracy.isna().all()


def test_running_means_weigh_a_short_last_batch_by_its_size(digits, mlp):
    """With a learning rate of 0 the weights stand still, so the running mean is the mean over the set."""
    _, history = fit(mlp, digits.train, epochs=1, lr=0, batch_size=1_000, progress=False)
    logits = mlp(digits.train.x)
    assert history.train_loss[0] == pytest.approx(F.cross_entropy(logits, digits.train.y).item(), rel=1e-5)
    right = (logits.argmax(1) == digits.train.y).float().mean().item()
    assert history.train_accuracy[0] == pytest.approx(right, abs=1e-6)


def test_no_epochs_give_the_model_back_untrained(digits, mlp):
    model, history = quick(mlp, digits.train, epochs=0)
    assert weights(model).equal(weights(mlp))
    assert len(history) == 0
    assert list(history.columns) == COLUMNS


def test_after_step_runs_behind_every_update_with_the_progress(digits, mlp):
    seen = []
    quick(mlp, digits.train, batch_size=400, after_step=lambda model, progress: seen.append(progress))
    assert seen == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])


def test_after_step_has_the_last_word(digits, mlp):
    def blank(model, progress):
        model[1].weight.data.zero_()

    model, _ = quick(mlp, digits.train, after_step=blank)
    assert not model[1].weight.any()


def test_cancel_keeps_the_finished_epochs(digits, mlp):
    asked = []

    def cancel():
        asked.append(1)
        return len(asked) > 17  # in the second epoch of 12 steps

    model, history = quick(mlp, digits.train, batch_size=100, epochs=5, cancel=cancel)
    assert history.epoch.tolist() == [1]
    assert history.attrs == {"cancelled": True}
    assert not model.training
    assert not weights(model).equal(weights(mlp))


def test_loss_optimizer_schedule_and_augment_are_used(digits, mlp):
    calls = set()

    def schedule(progress):
        calls.add("schedule")
        return 1.0

    def augment(x, generator):
        calls.add("augment")
        assert isinstance(generator, Generator)
        return torch.zeros_like(x)

    def loss(model, x, y):
        assert not x.any()
        calls.add("loss")
        return F.cross_entropy(model(x), y)

    def optimizer(parameters, lr):
        calls.add("optimizer")
        return torch.optim.SGD(parameters, lr=lr)

    model, history = quick(
        mlp, digits.train, schedule=schedule, augment=augment, loss=loss, optimizer=optimizer, epochs=1
    )
    assert calls == {"schedule", "augment", "loss", "optimizer"}
    assert history.lr.tolist() == [1e-2]
    assert model[1].weight.equal(mlp[1].weight)  # nothing came through the blank images


def test_frozen_weights_stay(digits, mlp):
    mlp[1].weight.requires_grad_(False)
    model, _ = quick(mlp, digits.train)
    assert model[1].weight.equal(mlp[1].weight)
    assert not model[3].weight.equal(mlp[3].weight)


def test_convolutions_train_and_come_back_in_the_usual_layout(digits):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    model, history = quick(model, digits.train, validation=digits.validation)
    assert model[0].weight.is_contiguous()
    assert history.validation_accuracy.iloc[-1] > 0.9


def test_count_correct_counts_in_evaluation_mode_and_leaves_no_trace(digits, mlp):
    model = nn.Sequential(mlp[0], nn.BatchNorm1d(64), mlp[1], nn.Dropout(0.9), *mlp[2:]).train()
    model[3].eval()
    before = copy.deepcopy(model.state_dict())
    counted = count_correct(model, digits.test)
    in_sevens = int((predict(model, digits.test.x, batch_size=7) == digits.test.y).sum())
    assert [m.training for m in model] == [True, True, True, False, True, True]
    assert all(v.equal(before[k]) for k, v in model.state_dict().items())
    logits = copy.deepcopy(model).eval()(digits.test.x)
    assert counted == in_sevens == int((logits.argmax(1) == digits.test.y).sum())


def test_evaluating_restores_the_modes_after_an_error(mlp):
    mlp.train()
    with pytest.raises(RuntimeError), evaluating(mlp):
        raise RuntimeError
    assert mlp.training


def test_progress_false_is_silent(digits, mlp, capfd):
    quick(mlp, take(digits.train, 200), batch_size=100)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"epochs": -1}, ValueError, "epochs is -1; allowed: a whole number from 0 to 10000"),
        ({"epochs": 1.5}, TypeError, "epochs is 1.5; allowed: a whole number from 0 to 10000"),
        ({"batch_size": 0}, ValueError, "batch_size is 0; allowed: a whole number from 1 to 1197"),
        ({"batch_size": 1_198}, ValueError, "batch_size is 1198; allowed: a whole number from 1 to 1197"),
        ({"lr": -1.0}, ValueError, "lr is -1.0; allowed: a number in [0, inf)"),
        ({"lr": float("inf")}, ValueError, "lr is inf; allowed: a number in [0, inf)"),
        ({"lr": "fast"}, TypeError, "lr is 'fast'; allowed: a number in [0, inf)"),
        ({"lr": float("nan")}, ValueError, "lr is nan; allowed: a number in [0, inf)"),
    ],
)
def test_settings_out_of_range(digits, mlp, refuses, settings, error, said):
    refuses(error, said, quick, mlp, digits.train, **settings)


def test_only_a_module_is_trained(digits, refuses):
    refuses(TypeError, "model is a Split; allowed: a torch.nn.Module", quick, digits.train, digits.train)


def test_a_longer_run_is_a_dataframe_that_pandas_can_store(digits, mlp, tmp_path):
    _, history = quick(mlp, Split(digits.train.x, digits.train.y), validation=digits.validation)
    history.to_csv(tmp_path / "history.csv", index=False)
    assert pd.read_csv(tmp_path / "history.csv").epoch.tolist() == [1, 2]
