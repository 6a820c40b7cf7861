"""The panel of notebook 02: its figures against labkit's own, the staircase, idle controls, its code."""

import json

import numpy as np
import pytest
import torch

import labkit as lk
from labkit import explore
from labkit.compress._weights import relative_error
from labkit.compress.grid import choose_grid, fake_quantize
from labkit.data import take
from labkit.live.baseline import shipped
from labkit.topics.quantization.panel import BINS, Quantization, staircase
from tests.waiting import until

LENET = ("lenet-300-100", "mnist")


def last(results):
    *_, result = results
    return result


def point_of(dense, **settings):
    return last(Quantization(dense).results(**settings))


@pytest.mark.parametrize(
    ("bits", "symmetric", "granularity", "percentile", "activation_bits"),
    [(8, True, "tensor", 100.0, 32), (2, False, "channel", 95.0, 32), (4, True, "channel", 99.9, 2)],
)
def test_a_rounded_point_is_what_labkit_measures(
    conv, digits, mine, bits, symmetric, granularity, percentile, activation_bits
):
    how = dict(symmetric=symmetric, granularity=granularity, percentile=percentile)
    point = point_of(mine, layer="3.weight", bits=bits, activation_bits=activation_bits, **how)
    entering = {} if activation_bits == 32 else dict(activation_bits=2, calibration=take(digits.train, 256))
    small = lk.quantize(conv, bits, **how, **entering)
    assert point.score.predicted.equal(small(digits.validation.x).argmax(1))
    assert point.score.correct == lk.accuracy(small, digits.validation)["correct"]
    assert point.size_bytes == len(lk.encode(small))
    assert point.left[0] == sum(int((small[i].weight != 0).sum()) for i in (0, 3, 6))
    assert point.facts.values.equal(small[3].weight)
    for i in (0, 3, 6):
        before, after = (m[i].weight.detach().double().numpy() for m in (conv, small))
        expected = np.sqrt(((after - before) ** 2).mean()) / before.std()
        assert point.facts.error[f"{i}.weight"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
def test_the_staircase_is_the_rounding_of_the_weights(mine, bits, symmetric):
    point, weight = point_of(mine, layer="6.weight", bits=bits, symmetric=symmetric), mine.model[6].weight
    x, y = point.facts.staircase
    assert y.equal(fake_quantize(x, choose_grid(weight.detach(), bits, symmetric=symmetric)))
    assert x[0] < weight.min() < weight.max() < x[-1]
    assert (y.diff() >= 0).all()
    assert set(point.facts.values.unique().tolist()) <= set(y.unique().tolist()) | {0.0}


def test_the_staircase_of_a_channel_is_that_of_its_first_channel(mine):
    weight = mine.model[3].weight.detach()
    x, y = staircase(weight, 3, granularity="channel", symmetric=True, percentile=100.0)
    assert y.equal(fake_quantize(x, choose_grid(weight[:1], 3)))


def test_a_layer_of_equal_weights_has_no_error():
    alike = torch.full((3, 4), 0.5)
    assert relative_error(alike, alike) == 0


def test_the_picture_shows_the_point(mine):
    view, point = Quantization(mine), point_of(mine, layer="3.weight", bits=2)
    view.draw(point)
    still, after = view.counts.patches[0].get_data().values - 0.5, view.after.get_data().values - 0.5
    assert still.sum() == after.sum() == point.facts.values.numel()
    assert len(after) == BINS
    assert np.count_nonzero(after) == len(point.facts.values.unique())  # each level stands in a bin of its own
    assert after.max() + 0.5 < view.counts.get_ylim()[1] ** 0.5  # below the middle, out of the way of the legend
    x, y = view.line.get_data()
    assert (x.tolist(), y.tolist()) == tuple(side.tolist() for side in point.facts.staircase)
    assert [bar.get_width() for bar in view.bars] == pytest.approx(list(point.facts.error.values()))
    assert view.star.star.get_data() == ([point.size_bytes], [point.score.accuracy])


def test_the_words_state_the_figures(mine):
    point = point_of(mine, layer="3.weight", bits=3, granularity="channel", percentile=99.0)
    words = Quantization(mine).summarize(point)
    cards = {label: (value, note) for label, value, note in words.cards}
    worst = max(point.facts.error, key=point.facts.error.get)
    assert cards["accuracy"][0] == f"{point.score.accuracy:.2%}"
    assert cards["file"][0] == f"{point.size_bytes:,} B"
    name = worst.removesuffix(".weight")
    assert cards["worst layer"] == (f"{point.facts.error[worst]:.1%}", f"rms error over std, {name}")
    said = "Sequential, 3-bit weights, symmetric grid, one scale per output channel, clip range at 99 %"
    assert words.alt.startswith(said)


@pytest.mark.parametrize(
    "settings",
    [dict(bits=2), dict(bits=3, symmetric=False, granularity="channel", percentile=99.0, activation_bits=3)],
)
def test_the_code_gives_the_figures(settings):
    panel = explore.quantization()
    panel.set(**settings)
    until(lambda: panel._past[-1] == panel.settings())
    names = {}
    exec(panel.frame["code"], names)  # noqa: S102
    accuracy = lk.accuracy(names["small"], names["data"].validation)["accuracy"]
    cards = {label: value for label, value, _ in panel.cards}
    assert cards["accuracy"] == f"{accuracy:.2%}"
    assert cards["file"] == f"{len(lk.encode(names['small'])):,} B"
    assert len(json.dumps(panel.frame)) < 10_000


def test_the_range_is_idle_where_no_grid_has_one(mine):
    view = Quantization(mine)
    now = {name: control.value for name, control in view.controls().items()}
    one = now | dict(bits=1)
    for settings in (now, one | dict(symmetric=False), one | dict(activation_bits=4)):
        assert view.idle(settings) == set()
    assert view.idle(one) == {"percentile"}
    for granularity in ("tensor", "channel"):  # and it does change nothing
        wide, narrow = (last(view.results(**one | dict(granularity=granularity, percentile=p))) for p in (100.0, 90.0))
        assert lk.encode(wide.model) == lk.encode(narrow.model)
        assert wide.facts.staircase[1].equal(narrow.facts.staircase[1])
    panel = explore.quantization()
    assert not panel.frame["places"]["percentile"]["disabled"]
    panel.set(bits=1)
    assert panel.frame["places"]["percentile"]["disabled"]
    assert "clip range" not in panel.alt


def test_every_point_of_the_sweep_can_be_pointed_at():
    for key in Quantization.networks:
        view, dense = Quantization(), shipped(key)
        view.draw(next(view.results(checkpoint=key)))
        records = dense.sweep("quantization").to_dict("records")
        assert len(view.live.hot()) == len(records) == 32
        for (_, _, words, settings), row in zip(view.live.hot(), records, strict=True):
            assert f"{row['bits']} bits: {row['accuracy']:.2%}, " in words
            assert settings["percentile"] == 100
            assert {name: settings[name] for name in ("bits", "symmetric", "granularity")}.items() <= row.items()
