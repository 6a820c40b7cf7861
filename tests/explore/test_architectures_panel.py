"""The panel of notebook 11: its figures against labkit's own, recomputed another way; shipped and own networks."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_hex

import labkit as lk
from labkit import explore, plots
from labkit.compress import _weights
from labkit.compress.quantize import quantize_inputs
from labkit.data import load_data, take
from labkit.explore._architectures import Architectures, squeezed_points
from labkit.explore._start import shipped
from labkit.frontier import frontier
from labkit.measure import difference, kinds
from labkit.sweep import (
    CALIBRATED,
    CALIBRATION_GRID,
    CHANGES,
    CHANNELS_GRID,
    NETWORKS,
    SCANNED,
    across,
    fresh,
    shipped_sweep,
    squeeze,
)
from labkit.sweep.architectures import LOT, changes, kind_parts
from labkit.zoo import load_model

LENET = ("lenet-300-100", "fashion-mnist")


def setting(sparsity=0.5, bits=3, activation_bits=32, granularity="tensor"):
    return dict(sparsity=sparsity, bits=bits, activation_bits=activation_bits, granularity=granularity)


def last(results):
    *_, result = results
    return result


@pytest.fixture(scope="module")
def point(mine):
    return last(squeezed_points(mine, **setting()))


def test_squeeze_is_prune_then_quantize_then_the_inputs(conv, digits):
    images = digits.train.x[:50]
    by_hand = lk.quantize(lk.prune(conv, 0.5), 3, granularity="channel")
    assert lk.encode(squeeze(conv, 0.5, 3, granularity="channel")) == lk.encode(by_hand)
    assert lk.encode(squeeze(conv, 0.5, 3, 4, granularity="channel", calibration=images)) == lk.encode(
        quantize_inputs(by_hand, 4, images)
    )
    assert lk.encode(squeeze(conv)) == lk.encode(conv)


def test_a_point_is_what_labkit_measures(conv, digits, point):
    small = lk.quantize(lk.prune(conv, 0.5), 3)
    measured, pairs = lk.measure(small, digits.validation), lk.compare(conv, small, digits.validation)
    assert (point.score.correct, point.score.settled) == (measured["correct"], True)
    assert point.size_bytes == measured["size_bytes"]
    assert point.ratio == pytest.approx(len(lk.encode(conv)) / measured["size_bytes"])
    assert point.lost == difference(pairs["lost"], pairs["won"], 300)
    assert point.lost[0] == pytest.approx(point.dense.score.accuracy - measured["accuracy"])


def test_activation_bits_reach_the_network(conv, digits, mine):
    coarse = last(squeezed_points(mine, **setting(activation_bits=2)))
    by_hand = quantize_inputs(lk.quantize(lk.prune(conv, 0.5), 3), 2, digits.train.x[:LOT])
    assert coarse.score.correct == lk.accuracy(by_hand, digits.validation)["correct"]
    assert coarse.size_bytes == len(lk.encode(by_hand))


def test_a_layer_alone_is_that_layer_of_the_squeezed_network_among_dense_ones(conv, digits, point):
    small = lk.quantize(lk.prune(conv, 0.5), 3)
    for name, weight in _weights.weights(small).items():
        mixed = _weights.clone(conv)
        mixed.get_parameter(name).data = weight.clone()
        pairs = lk.compare(conv, mixed, digits.validation)
        assert point.alone[name] == difference(pairs["lost"], pairs["won"], 300)
    assert list(point.alone) == point.dense.layers


def test_layers_come_one_by_one_behind_the_settled_score(mine):
    points = list(squeezed_points(mine, **setting()))
    assert [len(p.alone) for p in points if p.alone] == [1, 2, 3]
    assert all(p.score.settled for p in points if p.alone)
    assert not points[0].alone
    view = Architectures(mine)
    assert view.tell(points[0]).cards[3][1] == "…"
    assert "layers alone, summed: …" in view.tell(points[-2]).alt
    assert view.tell(points[-1]).status == "scored on all 300 validation images; every layer tried alone"


def test_star_and_bars_show_the_point(mine, point):
    view = Architectures(mine)
    view.draw(point)
    assert view.star.get_data()[0] == [mine.size_bytes / point.size_bytes]
    assert view.star.get_data()[1] == pytest.approx([np.arcsinh(100 * point.lost[0])])
    assert view.interval.get_data()[1] == pytest.approx(np.arcsinh([100 * v for v in point.lost[1:]]))
    assert [b.get_width() for b in view.bars] == pytest.approx(
        [np.arcsinh(100 * d) for d, _, _ in point.alone.values()]
    )
    colours = [plots.KIND_COLOURS[k] for k in kinds(mine.model).values()]
    assert [to_hex(bar.get_facecolor()).upper() for bar in view.bars] == colours


def test_the_axis_reaches_as_far_as_the_star(mine):
    view, tiny = Architectures(mine), last(squeezed_points(mine, **setting(sparsity=0.98, bits=1)))
    view.draw(tiny)
    view.plane.set_xlim(0.9, tiny.ratio / 2)
    view.draw(tiny)
    assert view.plane.get_xlim()[1] > tiny.ratio


def test_the_alt_text_states_the_figures(mine, point):
    words = Architectures(mine).tell(point)
    start = "Sequential, 50% of the weights pruned, weights rounded to 3 bits per tensor, activations not rounded: "
    assert words.alt.startswith(start)
    assert all(f"{label} {value} ({note})" in words.alt for label, value, note in words.cards)
    summed = 100 * sum(d for d, _, _ in point.alone.values())
    assert words.cards[2][1] == f"{100 * point.lost[0]:.1f}"
    assert words.cards[2][2].endswith(f"layers alone, summed: {summed:.1f}")
    weakest = max(point.alone, key=lambda name: point.alone[name][0])
    assert words.cards[3][1] == weakest.removesuffix(".weight")


def test_the_panel_opens_on_a_network_of_the_users_own(conv, digits):
    panel = explore.architectures(conv, digits)
    assert "checkpoint" not in panel.controls
    assert panel.live.alt.startswith("Sequential, 0% of the weights pruned")
    assert panel.live.png[:4] == b"\x89PNG"
    panel.controls["activation_bits"].value = 3
    assert "activations to 3 bits" in panel.live.alt


def test_bad_input_is_refused_in_a_sentence(refuses, conv, digits):
    refuses(ValueError, "model and data belong together: give both or neither", explore.architectures, conv)


def test_every_network_has_its_line_and_the_chosen_one_stands_out():
    view = Architectures()
    view.draw(next(view.results(checkpoint=LENET, **setting())))
    lines = {line.get_label(): line for line in view.plane.lines}
    assert set(view.tables) == {" on ".join(key) for key in NETWORKS} <= set(lines)
    chosen = lines.pop(" on ".join(LENET))
    assert all(lines[name].get_linewidth() < chosen.get_linewidth() for name in view.tables if name in lines)
    dense, best = shipped(LENET), frontier(across(*LENET))
    assert chosen.get_xdata() == pytest.approx(dense.size_bytes / best["size_bytes"])
    assert chosen.get_ydata() == pytest.approx(np.arcsinh(100 * (dense.score.accuracy - best["accuracy"])))


# the shipped sweeps


@pytest.mark.parametrize("key", NETWORKS, ids="--".join)
def test_the_shipped_sweeps_cover_their_grids(key):
    kinds_of = list(kind_parts(load_model(*key)))
    grids = {
        "channels": CHANNELS_GRID,
        "kinds": {"kind": kinds_of, "change": CHANGES},
    } | ({"calibration": CALIBRATION_GRID} if key in CALIBRATED else {})
    for kind, grid in grids.items():
        table = shipped_sweep(kind, *key)
        given = list(table[list(grid)].itertuples(index=False, name=None))
        assert given == list(itertools.product(*grid.values()))
        assert (table["images"] == (len(load_data(key[1]).validation) if kind == "channels" else SCANNED)).all()
        assert table["accuracy"].equals(table["correct"] / table["images"])


@pytest.mark.parametrize("change", CHANGES)
def test_a_row_of_a_shipped_scan_is_what_is_measured_today(change):
    model, data = load_model(*LENET), load_data(LENET[1])
    split = take(data.validation, SCANNED)
    row = shipped_sweep("kinds", *LENET).query("kind == 'linear' and change == @change").iloc[0]
    small = changes(data.train.x)[change](model, layers=["fc1", "fc2"])
    pairs = lk.compare(model, small, split)
    assert abs(row["lost"] - pairs["lost"]) <= 2
    assert abs(row["won"] - pairs["won"]) <= 2
    assert row["weights"] == 784 * 300 + 300 * 100


def test_a_random_mask_does_not_depend_on_what_was_pruned_before(conv):
    change = changes(load_data("digits").train.x)["80 % pruned at random"]
    first, again = (change(fresh(conv, 0), layers=["0"])[0].weight for _ in range(2))
    assert first.equal(again)
