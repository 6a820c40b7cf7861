"""Composition: the techniques called by hand in that order, and what an earlier step made survives the later ones."""

import copy
import itertools

import pytest
import torch

from labkit.compress import _weights
from labkit.compress.compose import STEPS, as_stored, compose
from labkit.compress.distill import distill
from labkit.compress.magnitude import KeepZeros, masks_of, prune, sparsity_of
from labkit.compress.qat import finish_qat, keep_grids, on_grids, prepare_qat
from labkit.compress.quantize import quantize
from labkit.data import Split
from labkit.store import check_equal, decode, encode
from labkit.train import Interrupted, count_correct, fit

ORDERS = [steps for length in range(4) for steps in itertools.permutations(STEPS, length)]
BY_HAND = {
    "prune": lambda model, sparsity, bits: prune(model, sparsity),
    "quantize": lambda model, sparsity, bits: quantize(model, bits),
    "distil": lambda model, sparsity, bits: model,
}
HOW = dict(lr=5e-3, progress=False)


def scales(model):
    """The grid of every quantized weight."""
    return {k: v for k, v in model.state_dict().items() if k.endswith(".scale")}


@pytest.mark.parametrize("steps", ORDERS, ids=", ".join)
@pytest.mark.parametrize(("sparsity", "bits"), [(0.6, 4), (0.9, 1)])
def test_untrained_it_is_the_techniques_by_hand(trained, digits, steps, sparsity, bits):
    expected = copy.deepcopy(trained)
    for step in steps:
        expected = BY_HAND[step](expected, sparsity, bits)
    small, history = compose(trained, digits.train, steps, sparsity=sparsity, bits=bits, epochs=0)
    check_equal(small, expected)
    assert small is not trained
    assert history.empty
    assert history.attrs["cancelled"] is False


def test_untrained_the_order_matters(trained, digits):
    how = dict(sparsity=0.8, bits=1, epochs=0)
    one, other = (compose(trained, digits.train, steps, **how)[0] for steps in itertools.permutations(STEPS[:2]))
    assert not one[1].weight.equal(other[1].weight)


def test_trained_it_is_the_techniques_by_hand_too(trained, digits):
    share = HOW | dict(epochs=2)
    pruned = prune(trained, 0.8)
    pruned, _ = fit(pruned, digits.train, after_step=KeepZeros(pruned), **share)
    pruned, _ = distill(
        pruned, digits.train, teacher=trained, alpha=1, temperature=2.0, after_step=KeepZeros(pruned), **share
    )
    expected = finish_qat(fit(prepare_qat(pruned, 3), digits.train, **share)[0])
    how = dict(sparsity=0.8, bits=3, epochs=6, temperature=2.0)
    check_equal(compose(trained, digits.train, ("prune", "distil", "quantize"), **how, **HOW)[0], expected)
    rounded = finish_qat(fit(prepare_qat(trained, 3), digits.train, **HOW, epochs=3)[0])
    expected = finish_qat(fit(keep_grids(prune(rounded, 0.8)), digits.train, **HOW, epochs=3)[0])
    check_equal(compose(trained, digits.train, ("quantize", "prune"), **how, **HOW)[0], expected)


def test_without_a_step_it_is_fine_tuning(trained, digits):
    tuned, history = compose(trained, digits.train, (), sparsity=0.8, bits=3, epochs=2, **HOW)
    check_equal(tuned, fit(trained, digits.train, epochs=2, **HOW)[0])
    assert history.phase.tolist() == ["fine-tune"] * 2


@pytest.mark.parametrize("steps", [s for s in ORDERS if len(s) > 1], ids=", ".join)
def test_zeros_and_grids_survive_every_later_step(trained, digits, steps):
    stood, how = [], dict(sparsity=0.7, bits=3, epochs=2 * len(steps))

    def after_step(model, step):
        if step.number % (step.total // len(steps)) == 0:
            stood.append(as_stored(model))

    small, _ = compose(trained, digits.train, steps, after_step=after_step, **how, **HOW)
    assert len(stood) == len(steps)
    check_equal(small, stood[-1])
    for step, then in zip(steps, stood, strict=True):
        if step == "prune":
            assert sparsity_of(then) >= 0.7 - 1e-3
            masks, now = masks_of(then), masks_of(small)
            assert not any((now[name] & ~masks[name]).any() for name in masks)
        if step == "quantize":
            assert all(value.equal(scales(small)[name]) for name, value in scales(then).items())
            assert len(scales(then)) == 2
    if "quantize" in steps:
        assert all(len(w.unique()) <= 8 for w in _weights.weights(small).values())
    check_equal(small, decode(encode(small), trained))
    assert encode(small) != encode(stood[0])  # the later ones trained, too


def test_the_budget_is_shared_and_its_progress_heard(trained, digits):
    heard = []
    _, history = compose(
        trained, digits.train, STEPS, sparsity=0.5, bits=4, epochs=6, validation=digits.validation,
        after_step=lambda model, step: heard.append((step.progress, step.epoch)), **HOW,
    )  # fmt: skip
    assert history.phase.tolist() == ["prune", "prune", "quantize", "quantize", "distil", "distil"]
    assert heard == sorted(set(heard))
    assert heard[-1] == (1, 6)
    assert len(heard) == 6 * -(-len(digits.train) // 128)
    assert history.validation_accuracy.iloc[-1] > 0.8


def test_distillation_asks_the_network_as_it_came_in_and_no_labels(trained, digits):
    nonsense = Split(digits.train.x, (digits.train.y + 1) % 10)
    how = dict(sparsity=0.8, bits=3, epochs=3, seed=2)
    small, _ = compose(trained, nonsense, ("distil",), **how, **HOW)
    check_equal(small, distill(trained, digits.train, teacher=trained, alpha=1, epochs=3, seed=2, **HOW)[0])
    fooled, _ = compose(trained, nonsense, (), **how, **HOW)
    assert count_correct(small, digits.validation) > 270 > count_correct(fooled, digits.validation)


def test_the_input_is_left_alone_and_the_seed_decides(trained, digits):
    before = copy.deepcopy(trained.state_dict())
    how = dict(sparsity=0.5, bits=3, epochs=3)
    one, same, other = (compose(trained, digits.train, STEPS, seed=s, **how, **HOW)[0] for s in (3, 3, 4))
    check_equal(one, same)
    assert not one[1].weight.equal(other[1].weight)
    assert all(v.equal(before[k]) for k, v in trained.state_dict().items())


def test_an_overtaken_composition_stops_at_once(trained, digits):
    asked = []

    def cancel():
        asked.append(0)
        return len(asked) > 3

    _, history = compose(trained, digits.train, STEPS, sparsity=0.5, bits=3, epochs=300, cancel=cancel, **HOW)
    assert len(asked) == 3 + 3  # three steps of the first training, then once a training
    assert history.empty
    assert history.attrs["cancelled"]


@pytest.mark.parametrize("batch_size", [128, 300])
def test_the_history_counts_epochs_and_steps_over_all_steps(trained, digits, batch_size):
    how = dict(sparsity=0.5, bits=4, epochs=6, batch_size=batch_size)
    _, history = compose(trained, digits.train, STEPS, **how, **HOW)
    per_epoch = -(-len(digits.train) // batch_size)
    assert history.epoch.tolist() == [1, 2, 3, 4, 5, 6]
    assert history.step.tolist() == [per_epoch * epoch for epoch in history.epoch]
    assert history.attrs["cancelled"] is False


def test_a_composition_cancelled_in_a_later_step_says_so(trained, digits):
    steps, asked = -(-len(digits.train) // 128), []

    def cancel():
        asked.append(0)
        return len(asked) > 3 * steps + 2  # in the second epoch of the second step

    _, history = compose(trained, digits.train, STEPS, sparsity=0.5, bits=3, epochs=6, cancel=cancel, **HOW)
    assert history.epoch.tolist() == [1, 2, 3]
    assert history.phase.tolist() == ["prune", "prune", "quantize"]
    assert history.attrs["cancelled"] is True
    assert all(history[name].dtype.kind in "if" for name in ("epoch", "step", "train_loss"))


def test_an_interrupted_composition_hands_back_the_history_of_all_steps(trained, digits):
    def interrupt(model, step):
        if step.epoch == 4:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught:
        compose(trained, digits.train, STEPS, sparsity=0.5, bits=3, epochs=6, after_step=interrupt, **HOW)
    history = caught.value.history
    assert history.epoch.tolist() == [1, 2, 3]
    assert history.phase.tolist() == ["prune", "prune", "quantize"]
    assert history.attrs["cancelled"] is True


def test_a_network_that_trains_for_no_grid_is_stored_as_it_is(mlp):
    assert as_stored(mlp) is mlp
    assert on_grids(mlp) == []
    assert on_grids(prepare_qat(mlp, 2, layers=["3"])) == ["3.weight"]


@pytest.mark.parametrize(
    ("steps", "settings", "said"),
    [
        (("prune", "hash"), {}, "steps is 'hash'; allowed: 'prune', 'quantize', 'distil'"),
        (("prune",), {"sparsity": 1.0}, "sparsity is 1.0; allowed: a number in [0, 1)"),
        (("quantize",), {"bits": 0}, "bits is 0; allowed: a whole number from 1 to 8"),
        (("distil",), {"temperature": 0}, "temperature is 0; allowed: a number in (0, inf)"),
        (STEPS, {"epochs": 5}, "epochs is 5; allowed: a multiple of the 3 steps, which share them equally"),
        ((), {"epochs": -1}, "epochs is -1; allowed: a whole number from 0 to 10000"),
    ],
)
def test_compose_refuses(mlp, digits, refuses, steps, settings, said):
    how = dict(sparsity=0.5, bits=4, epochs=3) | settings
    refuses(ValueError, said, compose, mlp, digits.train, steps, **how, **HOW)


def test_compose_refuses_what_is_no_network(digits, refuses):
    said = "model is a Tensor; allowed: a torch.nn.Module"
    refuses(TypeError, said, compose, torch.zeros(2), digits.train, (), sparsity=0.5, bits=4, epochs=0)
