"""The panel of notebook 11: its figures against labkit's own, recomputed another way; shipped and own networks."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_hex

import labkit as lk
from labkit import explore, plots
from labkit._module import clone
from labkit.compress import _weights
from labkit.compress.quantize import quantize_inputs
from labkit.data import load_data, take
from labkit.explore._architectures import Architectures, squeezed_points
from labkit.explore._start import shipped
from labkit.frontier import frontier
from labkit.measure import difference, kinds
from labkit.sweep import (
    AT_RANDOM,
    CALIBRATED,
    CALIBRATION_GRID,
    CHANGES,
    CHANNELS_GRID,
    NETWORKS,
    PARTS,
    SCANNED,
    across,
    fresh,
    scan_losses,
    shipped_sweep,
    squeeze,
)
from labkit.sweep.architectures import LOT, MASKS, changes
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
        mixed = clone(conv)
        mixed.get_parameter(name).data = weight.clone()
        pairs = lk.compare(conv, mixed, digits.validation)
        assert point.alone[name] == difference(pairs["lost"], pairs["won"], 300)
    assert list(point.alone) == point.dense.layers


def test_a_kind_alone_is_all_its_layers_at_once(conv, digits, mine, point):
    whole = last(squeezed_points(mine, "kinds", **setting()))
    small = lk.quantize(lk.prune(conv, 0.5), 3)
    kind = kinds(conv)
    assert list(whole.alone) == list(dict.fromkeys(kind.values()))
    assert (whole.score.correct, whole.size_bytes) == (point.score.correct, point.size_bytes)
    for name in whole.alone:
        mixed = clone(conv)
        for layer, weight in _weights.weights(small).items():
            if kind[layer] == name:
                mixed.get_parameter(layer).data = weight.clone()
        pairs = lk.compare(conv, mixed, digits.validation)
        assert whole.alone[name] == difference(pairs["lost"], pairs["won"], 300)
    words = Architectures(mine).tell(whole)
    weakest = max(whole.alone, key=lambda name: whole.alone[name][0])
    assert words.cards[3][:2] == ("weakest kind", weakest)
    assert words.cards[3][2].startswith(f"{list(kind.values()).count(weakest)} of {len(kind)} layers · ")
    assert words.status.endswith("every kind tried alone")


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
    segments = view.spans.get_segments()
    assert [s[:, 0].tolist() for s in segments] == [
        pytest.approx(np.arcsinh([100 * low, 100 * high]).tolist()) for _, low, high in point.alone.values()
    ]
    assert [s[0, 1] for s in segments] == [0, 1, 2]
    colours = [plots.KIND_COLOURS[k] for k in kinds(mine.model).values()]
    assert [to_hex(bar.get_facecolor()).upper() for bar in view.bars] == colours


def test_a_bar_a_kind_is_drawn_when_kinds_are_asked_for(mine, point):
    view = Architectures(mine)
    view.draw(point)
    whole = last(squeezed_points(mine, "kinds", **setting()))
    view.draw(whole)
    assert [t.get_text() for t in view.parts.get_yticklabels()] == list(whole.alone)
    assert [b.get_width() for b in view.bars] == pytest.approx(
        [np.arcsinh(100 * d) for d, _, _ in whole.alone.values()]
    )


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
    model = load_model(*key)
    grids = {"channels": CHANNELS_GRID} | {by: {"part": parts(model), "change": CHANGES} for by, parts in PARTS.items()}
    grids |= {"calibration": CALIBRATION_GRID} if key in CALIBRATED else {}
    for kind, grid in grids.items():
        table = shipped_sweep(kind, *key)
        given = list(table[list(grid)].itertuples(index=False, name=None))
        assert given == list(itertools.product(*grid.values()))
        assert (table["images"] == (len(load_data(key[1]).validation) if kind == "channels" else SCANNED)).all()
        assert table["accuracy"].equals(table["correct"] / table["images"])


@pytest.mark.parametrize("key", NETWORKS, ids="--".join)
def test_a_scan_by_layer_tries_every_weight_alone_and_names_its_kind(key):
    kind, every = kinds(load_model(*key)), _weights.weights(load_model(*key))
    about = shipped_sweep("layers", *key).drop_duplicates("part")
    assert dict(zip(about["part"], about["kind"], strict=True)) == kind
    assert dict(zip(about["part"], about["weights"], strict=True)) == {n: w.numel() for n, w in every.items()}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    ("by", "part", "layers"), [("kinds", "linear", ["fc1", "fc2"]), ("layers", "fc2.weight", ["fc2"])]
)
def test_a_row_of_a_shipped_scan_is_what_is_measured_today(by, part, layers, change):
    model, data = load_model(*LENET), load_data(LENET[1])
    split = take(data.validation, SCANNED)
    row = shipped_sweep(by, *LENET).query("part == @part and change == @change").iloc[0]
    small = changes(data.train.x)[change](model, layers=layers)
    pairs = lk.compare(model, small, split)
    assert abs(row["lost"] - pairs["lost"]) <= 2
    assert abs(row["won"] - pairs["won"]) <= 2
    assert row["weights"] == sum(getattr(model, layer).weight.numel() for layer in layers)


def test_losses_of_a_scan_are_differences_and_random_masks_are_one_change_with_its_range():
    table = shipped_sweep("layers", *LENET)
    losses = scan_losses(table).set_index(["part", "change"])
    for row in table.to_dict("records"):
        if not row["change"].startswith(AT_RANDOM):
            told = [100 * v for v in difference(row["lost"], row["won"], row["images"])]
            assert losses.loc[(row["part"], row["change"]), ["lost", "low", "high"]].tolist() == pytest.approx(told)
    for part in table["part"].unique():
        drawn = table[(table["part"] == part) & table["change"].str.startswith(AT_RANDOM)]
        lost = 100 * (drawn["lost"] - drawn["won"]) / SCANNED
        assert len(drawn) == len(MASKS) == 3
        told = [lost.mean(), lost.min(), lost.max()]
        assert losses.loc[(part, AT_RANDOM), ["lost", "low", "high"]].tolist() == pytest.approx(told)


def test_the_picture_of_a_scan_has_a_dot_a_layer_in_the_colour_of_its_kind():
    scans = {key[0]: scan_losses(shipped_sweep("layers", *key)) for key in CALIBRATED}
    picture = plots.scan_picture(scans, ["80 % pruned", AT_RANDOM])
    assert len(picture.axes) == 2 * len(CALIBRATED)
    for i, (ax, change) in enumerate(zip(picture.axes, ["80 % pruned"] * 3 + [AT_RANDOM] * 3, strict=True)):
        scan = list(scans.values())[i % 3]
        rows = scan[scan["change"] == change]
        lines, dots = ax.collections
        assert dots.get_offsets()[:, 1].tolist() == pytest.approx(np.arcsinh(rows["lost"]).tolist())
        assert [to_hex(c).upper() for c in dots.get_facecolor()] == [plots.KIND_COLOURS[k] for k in rows["kind"]]
        ends = [s[:, 1].tolist() for s in lines.get_segments()]
        assert ends == [
            pytest.approx(np.arcsinh([low, high]).tolist()) for low, high in zip(rows["low"], rows["high"], strict=True)
        ]


def test_a_random_mask_does_not_depend_on_what_was_pruned_before_but_on_its_seed(conv):
    made = changes(load_data("digits").train.x)
    first, again, other = (
        made[f"{AT_RANDOM}, mask {seed}"](fresh(conv, 0), layers=["0"])[0].weight for seed in (0, 0, 1)
    )
    assert first.equal(again)
    assert not first.equal(other)
