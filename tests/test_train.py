"""The loop: it learns, repeats itself exactly, keeps its hands off the caller's model, and can be stopped."""

import copy
import math
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Generator, nn
from torch.optim.swa_utils import AveragedModel

from labkit import losses, models, optim
from labkit._module import evaluating
from labkit.compress.magnitude import KeepZeros
from labkit.data import Split, take
from labkit.train import correct_mask, count_correct, fit, lr_range_test, mean_loss, predict, steps_of

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


def test_after_step_runs_after_every_update_with_the_step(digits, mlp):
    seen, asked = [], []
    how = dict(batch_size=400, schedule=lambda progress: asked.append(progress) or 1 - progress / 2)
    _, history = quick(mlp, digits.train, after_step=lambda model, step: seen.append(step), **how)
    of_epoch, lr = (
        steps_of(len(digits.train), 400),
        float(history.lr.iloc[0]) / (1 - asked[history.step.iloc[0] - 1] / 2),
    )
    assert [(step.number, step.total) for step in seen] == [(i, 6) for i in range(1, 7)]
    assert [step.progress for step in seen] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])
    assert [step.epoch for step in seen] == [1 + i // of_epoch for i in range(6)]
    assert [step.ends_epoch for step in seen] == [(i + 1) % of_epoch == 0 for i in range(6)]
    assert [step.lr for step in seen] == pytest.approx([lr * (1 - progress / 2) for progress in asked])


def test_several_hooks_are_called_in_their_order(digits, mlp, refuses):
    seen = []
    hooks = [lambda model, step: seen.append("first"), lambda model, step: seen.append("second")]
    quick(mlp, digits.train, batch_size=400, after_step=hooks)
    assert seen == ["first", "second"] * 6
    hooks[1], said = 3, "after_step[1] is a int; allowed: a function"
    refuses(TypeError, said, quick, mlp, digits.train, after_step=hooks)
    said = "after_step is a type; allowed: a function, or a list of them"  # parentheses forgotten
    refuses(TypeError, said, quick, mlp, digits.train, after_step=KeepZeros)


def test_after_step_changes_the_weights_last(digits, mlp):
    def blank(model, step):
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


# labels and logits


SHAPED = "allowed: logits (128, classes) of two classes or more"


@pytest.mark.parametrize("ask", [quick, mean_loss, count_correct, lr_range_test])
def test_a_label_that_is_no_class_is_refused(ask, digits, refuses):
    model = models.mlp(64, 8, 9)
    refuses(
        ValueError, "y holds the label 9; allowed: 0 to 8, the classes of model Sequential", ask, model, digits.train
    )


def test_one_label_out_of_range_is_found_before_any_step(digits, mlp, refuses):
    y = digits.train.y.clone()
    y[1_000] = 10  # with seed 0 not among the first batch
    stepped, said = [], "y holds the label 10; allowed: 0 to 9, the classes of model Sequential"
    split, watch = Split(digits.train.x, y), lambda model, step: stepped.append(step)
    refuses(ValueError, said, quick, mlp, split, after_step=watch)
    assert stepped == []
    refuses(ValueError, said, count_correct, mlp, split)


def test_a_network_of_one_logit_has_no_accuracy(digits, refuses):
    model, split = models.mlp(64, 8, 1), take(digits.train, 128)
    said = f"model Sequential returns the shape (128, 1); {SHAPED}"
    for ask in (quick, mean_loss, partial(predict, batch_size=128)):
        refuses(ValueError, said, ask, model, split.x if isinstance(ask, partial) and ask.func is predict else split)


def test_a_network_of_pixels_has_no_accuracy(digits, refuses):
    said = "model Conv2d returns the shape (128, 3, 8, 8); allowed: logits (128, classes) of two classes or more"
    refuses(ValueError, said, quick, nn.Conv2d(1, 3, 3, padding=1), digits.train)


# models of any kind


class Outputs(nn.Module):
    """What another library's network returns: logits by name, beside other things."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return {"hidden": x, "logits": self.inner(x)}


def test_a_network_that_names_its_logits_trains_like_the_one_inside(digits, mlp):
    model, split = Outputs(mlp), take(digits.train, 300)
    for loss in (losses.cross_entropy, losses.label_smoothing(0.1), losses.distillation(Outputs(mlp))):
        ours, history = quick(model, split, loss=loss, validation=digits.validation)
        plain, expected = quick(mlp, split, loss=loss, validation=digits.validation)
        assert weights(ours).equal(weights(plain))
        assert history.drop(columns="seconds").equals(expected.drop(columns="seconds"))
    assert mean_loss(model, split) == mean_loss(mlp, split)


def test_a_tuple_is_refused_in_a_sentence(digits, mlp, refuses):
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = mlp

        def forward(self, x):
            return self.inner(x), x

    named = "allowed: a tensor of logits, or a dict or an object that names one logits"
    for ask in (quick, count_correct, mean_loss):
        refuses(TypeError, f"model Pair returns a tuple; {named}", ask, Pair(), digits.train)


@pytest.mark.parametrize("wrap", [nn.DataParallel, AveragedModel])
def test_the_network_inside_a_wrapper_is_trained(wrap, digits, mlp):
    ours, _ = quick(wrap(mlp), digits.train)
    assert type(ours) is nn.Sequential
    assert weights(ours).equal(weights(quick(mlp, digits.train)[0]))


def test_a_model_with_nothing_to_train_is_refused(digits, mlp, refuses):
    said = "has nothing to train; allowed: a parameter that requires_grad"
    refuses(ValueError, f"model Sequential {said}", quick, mlp.requires_grad_(False), digits.train)
    refuses(ValueError, f"model Flatten {said}", quick, nn.Flatten(), digits.train)


def test_x_of_another_dtype_or_device_than_the_weights(digits, mlp, refuses):
    double = Split(digits.train.x.double(), digits.train.y)
    said = "x has the dtype torch.float64; allowed: torch.float32, as the weights of model"
    for ask in (quick, count_correct, mean_loss, lr_range_test):
        refuses(ValueError, said, ask, mlp, double)
    said = "x has the device cpu; allowed: meta, as the weights of model"
    for ask in (quick, count_correct, mean_loss):
        refuses(ValueError, said, ask, copy.deepcopy(mlp).to("meta"), digits.train)


def test_a_module_that_keeps_what_it_computed_trains_again(digits, mlp):
    class Keeps(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = mlp

        def forward(self, x):
            self.last = self.inner(x)
            return self.last

    model = Keeps()
    model(digits.test.x)
    assert weights(quick(model, digits.train)[0]).equal(weights(quick(mlp, digits.train)[0]))


def test_a_table_that_a_network_makes_while_it_is_scored_can_be_trained_with(digits):
    class Lazy(nn.Module):
        """Like a network that makes the table of its positions when it first needs it."""

        def __init__(self):
            super().__init__()
            self.fc, self.table = nn.Linear(64, 10), None

        def forward(self, x):
            if self.table is None:
                self.table = torch.arange(64.0).cos()
            return self.fc(x.flatten(1) * self.table)

    model = Lazy()
    predict(model, digits.test.x)
    model(digits.test.x).sum().backward()
    assert model.fc.weight.grad.any()


def viewed(flatten):
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3)]
    return nn.Sequential(*convolutions, flatten, nn.Linear(128, 10))


class View(nn.Module):
    def forward(self, x):
        return x.view(-1, 128)


def test_a_network_that_uses_view_trains(digits):
    ours, _ = quick(viewed(View()), digits.train, validation=digits.validation)
    model = viewed(nn.Flatten())
    stepper = torch.optim.AdamW(model.parameters(), lr=1e-2)
    order_rng, step = Generator().manual_seed(0), 0
    for _ in range(2):
        for batch in torch.randperm(1_197, generator=order_rng).split(128):
            stepper.param_groups[0]["lr"] = 1e-2 * optim.warmup_cosine(step / 20)
            stepper.zero_grad()
            F.cross_entropy(model(digits.train.x[batch]), digits.train.y[batch]).backward()
            stepper.step()
            step += 1
    assert weights(ours).equal(weights(model))
    assert predict(ours, digits.test.x).equal(predict(model, digits.test.x))


def test_three_dimensional_convolutions_train(digits):
    torch.manual_seed(0)
    cubes = Split(digits.train.x.unflatten(1, (1, 1)), digits.train.y)
    model = nn.Sequential(nn.Conv3d(1, 8, (1, 3, 3)), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    ours, history = quick(model, cubes, validation=cubes)
    assert history.validation_accuracy.iloc[-1] > 0.9
    assert ours[0].weight.shape == (8, 1, 1, 3, 3)


@pytest.mark.parametrize("name", ["lenet-5", "resnet-20"])
def test_the_shipped_networks_train_on_channels_last(name):
    seen = []

    def watch(model, x, y):
        found = losses.output_of(model, "conv1", x)
        seen.append((found.is_contiguous(memory_format=torch.channels_last), found.is_contiguous()))
        return losses.cross_entropy(model, x, y)

    model = models.build(name)
    split = Split(torch.rand(8, model.conv1.in_channels, 28, 28), torch.arange(8))
    ours, _ = fit(model, split, epochs=2, batch_size=4, lr=1e-3, loss=watch, progress=False)
    assert seen == [(True, False)] * 4
    assert ours.conv1.weight.is_contiguous()


# a single image left over


@pytest.mark.parametrize(("images", "size", "sizes"), [
    (9, 4, [4, 5]), (10, 4, [4, 4, 2]), (8, 4, [4, 4]), (5, 4, [5]), (3, 2, [3]), (3, 1, [1, 1, 1]), (1, 1, [1]),
])  # fmt: skip
def test_a_single_image_left_over_joins_the_batch_before_it(images, size, sizes, digits, mlp):
    seen = []

    def loss(model, x, y):
        seen.append(x)
        return losses.cross_entropy(model, x, y)

    split = take(digits.train, images)
    _, history = fit(mlp, split, epochs=1, lr=1e-3, batch_size=size, loss=loss, progress=False)
    assert [len(x) for x in seen] == sizes
    assert history.step.tolist() == [len(sizes)] == [steps_of(images, size)]
    order = torch.randperm(images, generator=Generator().manual_seed(0))
    assert torch.cat(seen).equal(split.x[order])


def normed():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))


def test_batch_norm_trains_when_a_single_image_is_left_over(digits):
    split = take(digits.train, 129)
    model, history = fit(normed(), split, epochs=2, lr=1e-2, progress=False)
    assert history.step.tolist() == [1, 2]
    assert model[2].num_batches_tracked == 2
    assert len(lr_range_test(normed(), split, steps=5, highest=1e-2)) == 5
    logits = np.array(history.train_loss)
    assert np.isfinite(logits).all()


def test_right_says_which(trained, digits):
    assert correct_mask(trained, digits.test).equal(trained(digits.test.x).argmax(1) == digits.test.y)


@pytest.mark.parametrize(
    "loss",
    [lambda m, x, y: None, lambda m, x, y: 1.0, lambda m, x, y: torch.zeros((), requires_grad=True),
     lambda m, x, y: m(x).sum(1), lambda m, x, y: m(x).sum().detach()],
    ids=["nothing", "a float", "without the model", "a vector", "detached"],
)  # fmt: skip
def test_a_loss_that_is_none_is_refused(mlp, digits, refuses, loss):
    said = "loss gives no scalar tensor that depends on model(x); allowed: loss(model, x, y) -> scalar"
    refuses(ValueError, said, fit, mlp, digits.train, epochs=1, lr=0.1, loss=loss, progress=False)


def test_what_a_schedule_and_an_optimizer_give_is_checked(mlp, digits, refuses):
    settings = dict(epochs=1, lr=0.1, progress=False)
    said = "what schedule gives at 0 is None; allowed: a number in (-inf, inf)"
    refuses(TypeError, said, fit, mlp, digits.train, schedule=lambda progress: None, **settings)
    said = "what schedule gives at 0 is nan; allowed: a number in (-inf, inf)"
    refuses(ValueError, said, fit, mlp, digits.train, schedule=lambda progress: math.nan, **settings)
    said = "what optimizer gives is a NoneType; allowed: a torch.Optimizer"
    refuses(TypeError, said, fit, mlp, digits.train, optimizer=lambda parameters, lr: None, **settings)
