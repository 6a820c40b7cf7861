"""The recipe: as sparse and as coarse as requested, better than one-shot, and stored without loss."""

import pytest
import torch
from torch import nn

import labkit as lk
from labkit.compress.codebook import share_weights
from labkit.compress.deep_compression import deep_compress, embed, keep_units, without_biases
from labkit.compress.magnitude import sparsity_of
from labkit.compress.parts import parts
from labkit.optim import Step
from labkit.store import CODERS
from labkit.store.file import check_equal


def test_the_result_is_sparse_rounded_and_better_than_one_shot(trained, digits):
    small, history = deep_compress(
        trained, digits.train, sparsity=0.9, bits=3, epochs=(12, 6), lr=5e-3, validation=digits.validation,
        progress=False,
    )  # fmt: skip
    assert sparsity_of(small) >= 0.9 - 1e-3
    assert all(len(w.unique()) <= 8 for w in (small[1].weight, small[3].weight))
    one_shot = lk.quantize(lk.prune(trained, 0.9), 3)
    better, worse = (lk.accuracy(m, digits.validation)["accuracy"] for m in (small, one_shot))
    assert better > worse + 0.1
    assert history.phase.tolist() == ["prune"] * 12 + ["round"] * 6
    assert history.validation_accuracy.iloc[-1] == pytest.approx(better)
    raw = lk.encode(small, coders=CODERS)
    check_equal(small, lk.decode(raw, into=trained))


def test_the_input_is_left_alone_and_the_seed_decides(trained, digits):
    before = {k: v.clone() for k, v in trained.state_dict().items()}
    how = dict(sparsity=0.8, bits=3, epochs=(1, 1), lr=1e-3, progress=False)
    one, other = (deep_compress(trained, digits.train, seed=3, **how)[0] for _ in range(2))
    check_equal(one, other)
    assert all(v.equal(before[k]) for k, v in trained.state_dict().items())


def test_without_biases_only_the_last_layer_has_one(trained, digits):
    bare = without_biases(trained)
    assert not bare[1].bias.any()
    assert bare[3].bias.equal(trained[3].bias)
    small, _ = deep_compress(
        trained, digits.train, sparsity=0.5, bits=4, epochs=(1, 1), lr=1e-2, biases=False, progress=False
    )
    assert not small[1].bias.any()
    assert not small[3].bias.equal(trained[3].bias)


def test_after_step_gets_the_steps_of_both_trainings(trained, digits):
    heard: list[Step] = []
    deep_compress(
        trained, digits.train, sparsity=0.5, bits=4, epochs=(2, 1), lr=1e-3, progress=False,
        after_step=lambda model, step: heard.append(step),
    )  # fmt: skip
    steps = -(-len(digits.train) // 128)
    assert [step.number for step in heard] == list(range(1, 3 * steps + 1))
    assert {step.total for step in heard} == {3 * steps}
    assert [step.epoch for step in heard if step.ends_epoch] == [1, 2, 3]


@pytest.mark.parametrize("epochs", [(2, 3), (0, 2), (2, 0), (0, 0)])
def test_the_history_counts_epochs_and_steps_over_both_trainings(trained, digits, epochs):
    _, history = deep_compress(
        trained, digits.train, sparsity=0.5, bits=4, epochs=epochs, lr=1e-3, batch_size=300, progress=False
    )
    assert history.epoch.tolist() == list(range(1, sum(epochs) + 1))
    assert history.step.tolist() == [4 * epoch for epoch in history.epoch]
    assert history.phase.tolist() == ["prune"] * epochs[0] + ["round"] * epochs[1]
    assert history.attrs["cancelled"] is False


@pytest.mark.parametrize("done", [0, 5, 11, 14])
def test_the_history_says_that_a_training_was_cancelled(trained, digits, done):
    asked = iter([False] * done + [True] * 2)
    how = dict(sparsity=0.5, bits=4, epochs=(2, 2), lr=1e-3, batch_size=300, progress=False)
    _, history = deep_compress(trained, digits.train, cancel=lambda: next(asked), **how)
    assert history.epoch.tolist() == list(range(1, done // 4 + 1))
    assert history.attrs["cancelled"] is True


def test_settings_out_of_range_are_refused(digits):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    for wrong in (dict(sparsity=1.0, bits=4), dict(sparsity=0.5, bits=9)):
        with pytest.raises(ValueError, match="allowed"):
            deep_compress(model, digits.train, **wrong, epochs=(0, 0), lr=1e-3, progress=False)
    assert torch.isfinite(model[1].weight).all()


def test_a_network_without_some_units_is_compressed_and_fits_the_whole_one(trained, digits):
    narrow = keep_units(trained, digits.train.x[:2], "1", 16)
    small, _ = deep_compress(narrow, digits.train, sparsity=0.8, bits=3, epochs=(12, 6), lr=5e-3, progress=False)
    again = embed(small, trained)
    assert again[1].weight[:16].equal(small[1].weight)
    assert again[3].weight[:, :16].equal(small[3].weight)
    assert not again[1].weight[16:].any()
    assert not again[1].bias[16:].any()
    assert not again[3].weight[:, 16:].any()
    assert lk.accuracy(again, digits.validation) == lk.accuracy(small, digits.validation)
    raw = lk.encode(again, coders=CODERS)
    check_equal(again, lk.decode(raw, into=trained))


@pytest.mark.parametrize(("layer", "kept"), [("0", 3), ("3", 5)])
def test_an_embedded_network_computes_what_the_small_one_does(digits, layer, kept):
    torch.manual_seed(0)
    conv = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 12, 3, stride=2), nn.ReLU(), nn.Flatten(),
        nn.Linear(48, 10),
    )  # fmt: skip
    conv(digits.train.x[:100])  # so that BatchNorm has seen something
    small = keep_units(conv, digits.train.x[:2], layer, kept)
    assert len(small.get_submodule(layer).weight) == kept
    again = embed(small, conv)
    assert [p.shape for p in again.parameters()] == [p.shape for p in conv.parameters()]
    x = digits.validation.x[:50]
    torch.testing.assert_close(again.eval()(x), small.eval()(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("how", ["one affine scale", "one per channel", "shared"])
def test_an_embedded_layer_keeps_its_integers(how):
    torch.manual_seed(0)
    small, whole = nn.Linear(4, 3), nn.Linear(7, 3)
    if how == "shared":
        small = share_weights(small, 2)
    else:
        small = lk.quantize(small, 3, symmetric=False, granularity="channel" if "channel" in how else "tensor")
    again = embed(small, whole)
    assert again.weight[:, :4].equal(small.weight)
    assert not again.weight[:, 4:].any()
    assert type(parts(again)["weight"]) is type(parts(small)["weight"])


def test_a_scale_per_channel_that_leaves_channels_without_one_is_refused(refuses):
    small = lk.quantize(nn.Linear(4, 3), 3, granularity="channel")
    said = "a weight with one scale per channel of (3, 1) cannot become (5, 4); allowed: as many channels, or one scale"
    refuses(ValueError, said, embed, small, nn.Linear(4, 5))


def test_a_layer_with_one_scale_per_group_keeps_its_shape(refuses):
    small = lk.quantize(nn.Linear(4, 3), 3, symmetric=False, granularity="group", group_size=2)
    assert embed(small, nn.Linear(4, 3)).weight.equal(small.weight)
    said = "a weight of (3, 4) with one scale per group cannot become (3, 8); allowed: the same shape, or one scale"
    refuses(ValueError, said, embed, small, nn.Linear(8, 3))


def test_the_units_with_the_largest_weights_stay(digits):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 10))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[3.0], [1.0], [4.0], [2.0]]).expand(4, 64))
    small = keep_units(model, digits.train.x[:2], "1", 2)
    assert small[1].weight[:, 0].tolist() == [3, 4]


@pytest.mark.parametrize(("layer", "kept"), [("1", 0), ("1", 33), ("7", 2), ("3", 5)])
def test_units_that_cannot_leave_are_refused(trained, digits, layer, kept):
    with pytest.raises(ValueError, match="allowed|logits"):
        keep_units(trained, digits.train.x[:2], layer, kept)
