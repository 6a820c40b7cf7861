"""The panel of notebook 11: its figures against labkit's own, recomputed another way; shipped and own networks."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_hex

import labkit as lk
from labkit import drawing, explore
from labkit._module import clone
from labkit.compress import _weights
from labkit.compress.quantize import quantize_inputs
from labkit.data import load_data, take
from labkit.frontier import frontier
from labkit.live.baseline import shipped
from labkit.measure import kinds
from labkit.models import reinitialized
from labkit.significance import difference
from labkit.sweep import shipped_sweep
from labkit.topics.other_architectures import experiment, panel, plots
from labkit.topics.other_architectures.experiment import (
    ALONE,
    ALONE_GRID,
    AT_RANDOM,
    CALIBRATION_IMAGES,
    CHANGES,
    CHANNELS_GRID,
    MASKS,
    NETWORKS,
    PARTS,
    SCANNED,
    across,
    changes,
    scan_losses,
    squeeze,
)
from labkit.topics.other_architectures.panel import Architectures, lost_beside
from labkit.zoo import load_model
from tests.unlabelled import unlabelled

LENET = ("lenet-300-100", "fashion-mnist")


def setting(sparsity=0.5, bits=3, activation_bits=32, granularity="tensor", by="layers"):
    return dict(sparsity=sparsity, bits=bits, activation_bits=activation_bits, granularity=granularity, by=by)


def points(dense, **settings):
    return list(Architectures(dense).results(dense.key, **setting(**settings)))


@pytest.fixture(scope="module")
def point(mine):
    return points(mine)[-1]


def test_squeeze_is_prune_then_quantize_then_the_inputs(conv, digits):
    images = digits.train.x[:50]
    by_hand = lk.quantize(lk.prune(conv, 0.5), 3, granularity="channel")
    assert lk.encode(squeeze(conv, 0.5, 3, granularity="channel")) == lk.encode(by_hand)
    assert lk.encode(squeeze(conv, 0.5, 3, 4, granularity="channel", calibration=unlabelled(images))) == lk.encode(
        quantize_inputs(by_hand, 4, calibration=unlabelled(images))
    )
    assert lk.encode(squeeze(conv)) == lk.encode(conv)


def test_a_point_is_what_labkit_measures(conv, digits, point):
    small = lk.quantize(lk.prune(conv, 0.5), 3)
    measured, pairs = lk.measure(small, digits.validation), lk.compare(conv, small, digits.validation)
    assert (point.score.correct, point.score.settled) == (measured["correct"], True)
    assert point.size_bytes == measured["size_bytes"]
    lost = lost_beside(point.dense, point.score)
    assert lost == difference(pairs["lost"], pairs["won"], 300)
    assert lost[0] == pytest.approx(point.dense.score.accuracy - measured["accuracy"])


def test_activation_bits_reach_the_network(conv, digits, mine):
    coarse = points(mine, activation_bits=2)[-1]
    by_hand = quantize_inputs(
        lk.quantize(lk.prune(conv, 0.5), 3), 2, calibration=take(digits.train, CALIBRATION_IMAGES)
    )
    assert coarse.score.correct == lk.accuracy(by_hand, digits.validation)["correct"]
    assert coarse.size_bytes == len(lk.encode(by_hand))


def test_a_layer_alone_is_that_layer_of_the_squeezed_network_among_dense_ones(conv, digits, point):
    small = lk.quantize(lk.prune(conv, 0.5), 3)
    for name, weight in _weights.weights(small).items():
        mixed = clone(conv)
        mixed.get_parameter(name).data = weight.clone()
        pairs = lk.compare(conv, mixed, digits.validation)
        assert point.facts[name] == difference(pairs["lost"], pairs["won"], 300)
    assert list(point.facts) == point.dense.layers


def test_a_kind_alone_is_all_its_layers_at_once(conv, digits, mine, point):
    whole = points(mine, by="kinds")[-1]
    small = lk.quantize(lk.prune(conv, 0.5), 3)
    kind = kinds(conv)
    assert list(whole.facts) == list(dict.fromkeys(kind.values()))
    assert (whole.score.correct, whole.size_bytes) == (point.score.correct, point.size_bytes)
    for name in whole.facts:
        mixed = clone(conv)
        for layer, weight in _weights.weights(small).items():
            if kind[layer] == name:
                mixed.get_parameter(layer).data = weight.clone()
        pairs = lk.compare(conv, mixed, digits.validation)
        assert whole.facts[name] == difference(pairs["lost"], pairs["won"], 300)
    words = Architectures(mine).summarize(whole)
    weakest = max(whole.facts, key=lambda name: whole.facts[name][0])
    d, low, high = (100 * v for v in whole.facts[weakest])
    assert words.cards[3][:2] == ("weakest kind loses", f"{d:.1f} points")
    among = f"{weakest} · {list(kind.values()).count(weakest)} of {len(kind)} layers · 95 %: {low:.1f} to {high:.1f}"
    assert words.cards[3][2] == among
    assert words.status.endswith("every kind tried alone")


def test_layers_come_one_by_one_behind_the_settled_score(mine):
    found = points(mine)
    assert [len(p.facts) for p in found if p.facts] == [1, 2, 3]
    assert all(p.score.settled for p in found if p.facts)
    assert not found[0].facts
    view = Architectures(mine)
    assert view.summarize(found[0]).cards[3][1] == "…"
    assert "layers alone, summed: …" in view.summarize(found[-2]).alt
    assert view.summarize(found[-2]).status == "scored on all 300 validation images; layer 2 of 3 tried alone"
    assert view.summarize(found[-1]).status == "scored on all 300 validation images; every layer tried alone"


def test_star_and_bars_show_the_point(mine, point):
    view = Architectures(mine)
    view.draw(point)
    assert view.star.get_data()[0] == [mine.size_bytes / point.size_bytes]
    d, low, high = lost_beside(mine, point.score)
    assert view.star.get_data()[1] == pytest.approx([np.arcsinh(100 * d)])
    assert view.interval.get_data()[1] == pytest.approx(np.arcsinh([100 * low, 100 * high]))
    assert [b.get_width() for b in view.bars] == pytest.approx(
        [np.arcsinh(100 * d) for d, _, _ in point.facts.values()]
    )
    ends, rows = (np.reshape(v, (3, 3)) for v in view.spans.get_data())
    assert ends[:, :2] == pytest.approx(np.arcsinh([[100 * low, 100 * high] for _, low, high in point.facts.values()]))
    assert np.isnan(ends[:, 2]).all()
    assert rows[:, :2].tolist() == [[0, 0], [1, 1], [2, 2]]
    colours = [plots.KIND_COLOURS[k] for k in kinds(mine.model).values()]
    assert [to_hex(bar.get_facecolor()).upper() for bar in view.bars] == colours


def test_a_bar_a_kind_is_drawn_when_kinds_are_asked_for(mine, point):
    view = Architectures(mine)
    view.draw(point)
    whole = points(mine, by="kinds")[-1]
    view.draw(whole)
    assert [t.get_text() for t in view.parts.get_yticklabels()] == list(whole.facts)
    assert [b.get_width() for b in view.bars] == pytest.approx(
        [np.arcsinh(100 * d) for d, _, _ in whole.facts.values()]
    )


def test_the_axis_reaches_as_far_as_the_star(mine):
    view, tiny = Architectures(mine), points(mine, sparsity=0.98, bits=1)[-1]
    view.draw(tiny)
    ratio = mine.size_bytes / tiny.size_bytes
    view.plane.set_xlim(0.9, ratio / 2)
    view.draw(tiny)
    assert view.plane.get_xlim()[1] > ratio


def test_the_alt_text_states_the_figures(mine, point):
    words = Architectures(mine).summarize(point)
    start = (
        "Sequential, 50 % of the weights pruned, weights rounded to 3 bits, activations rounded to 32 (float) bits, "
        "one scale per layer (tensor), each layer tried alone: accuracy "
    )
    assert words.alt.startswith(start)
    assert all(f"{label} {value} ({note})" in words.alt for label, value, note in words.cards)
    summed = 100 * sum(d for d, _, _ in point.facts.values())
    assert words.cards[2][1] == f"{100 * lost_beside(mine, point.score)[0]:.1f}"
    assert words.cards[2][2].endswith(f"layers alone, summed: {summed:.1f}")
    weakest = max(point.facts, key=lambda name: point.facts[name][0])
    assert words.cards[3][1] == f"{100 * point.facts[weakest][0]:.1f} points"
    assert words.cards[3][2].startswith(weakest.removesuffix(".weight") + " · 95 %: ")


def test_one_scale_or_many_changes_nothing_while_no_weight_is_rounded(mine):
    view = Architectures(mine)
    assert view.idle(setting(bits=32)) == {"granularity"}
    assert view.idle(setting(bits=8)) == set()
    tensor, channel = (points(mine, bits=32, activation_bits=4, granularity=g)[-1] for g in ("tensor", "channel"))
    assert (tensor.size_bytes, tensor.facts) == (channel.size_bytes, channel.facts)
    assert tensor.score.predicted.equal(channel.score.predicted)
    assert "scale" not in view.summarize(tensor).alt


@pytest.mark.parametrize("chosen", [setting(granularity="channel"), setting(0.3, 6, 4), setting(0.9, 32, by="kinds")])
@pytest.mark.parametrize("key", [None, LENET])
def test_the_code_gives_the_figures_of_the_panel(conv, digits, mine, chosen, key):
    view, names = (Architectures(), {}) if key else (Architectures(mine), dict(model=conv, data=digits))
    point = next(p for p in view.results(key, **chosen) if p.score.settled)
    *lines, figures = view.code({"checkpoint": key, **chosen}).split("\n")
    exec("\n".join([*lines, f"accuracy, size = {figures}"]), names)  # noqa: S102
    assert (point.score.accuracy, point.size_bytes) == (names["accuracy"], names["size"])


def test_the_panel_opens_on_a_network_of_the_users_own(conv, digits):
    opened = explore.architectures(conv, digits)
    assert "checkpoint" not in opened.controls
    assert opened.alt.startswith("Sequential, 0 % of the weights pruned")
    assert len(opened.frame["marks"]) > 5
    opened.controls["activation_bits"].value = 3
    assert "activations rounded to 3 bits" in opened.alt


def test_the_panel_opens_on_mobilenet_and_offers_every_kind_of_network():
    menu = Architectures().controls()["checkpoint"]
    assert menu.value == ("mobilenet", "cifar10")
    assert sorted(menu.values) == sorted(NETWORKS)


def test_the_panel_opens_without_trying_a_layer(monkeypatch):
    tried = []

    def squeezed(*given, layers=None, **settings):
        tried.append(layers)
        return squeeze(*given, layers=layers, **settings)

    monkeypatch.setattr(experiment, "squeeze", squeezed)
    opened = explore.architectures()
    assert tried == [None]  # only the whole network
    assert opened.status == "scored on all 2,000 validation images; every layer tried alone"
    assert list(opened._shown.facts) == opened._shown.dense.layers
    assert [bar.get_width() for bar in opened.view.bars] == pytest.approx(
        [np.arcsinh(100 * lost) for lost, _, _ in opened._shown.facts.values()]
    )


def test_bad_input_is_refused_in_a_sentence(refuses, conv, digits):
    refuses(ValueError, "model and data belong together: give both or neither", explore.architectures, conv)


def test_every_network_has_its_line_and_the_chosen_one_stands_out():
    view = Architectures()
    view.draw(next(view.results(LENET, **setting())))
    lines = {line.get_label(): line for line in view.plane.lines}
    assert set(view.tables) == {" on ".join(key) for key in NETWORKS} <= set(lines)
    chosen = lines.pop(" on ".join(LENET))
    assert all(lines[name].get_linewidth() < chosen.get_linewidth() for name in view.tables if name in lines)
    dense, best = shipped(LENET), frontier(across(*LENET))
    assert chosen.get_xdata() == pytest.approx(dense.size_bytes / best["size_bytes"])
    assert chosen.get_ydata() == pytest.approx(np.arcsinh(100 * (dense.score.accuracy - best["accuracy"])))
    ends = [np.max(line.get_xdata()) for line in view.plane.lines if len(line.get_xdata())]
    assert max(ends) < view.plane.get_xlim()[1]


def test_points_of_the_sweep_say_what_was_measured_and_lead_there():
    view = Architectures()
    view.draw(next(view.results(LENET, **setting())))
    rows = frontier(across(*LENET)).to_dict("records")
    clicked = [(words, settings) for *_, words, settings in view.live.hot() if settings]
    assert len(clicked) == len(rows)
    assert len(view.live.hot()) == sum(len(frontier(across(*key))) for key in NETWORKS) + 3  # and one for each layer
    controls = view.controls()
    for row, (words, settings) in zip(rows, clicked, strict=True):
        assert all(value in controls[name].values for name, value in settings.items())
        assert f"{row['accuracy']:.2%}, {drawing.kilobytes(row['size_bytes'])}" in words
    row, (_, there) = rows[len(rows) // 2], clicked[len(rows) // 2]
    point = next(p for p in view.results(LENET, **there) if p.score.settled)
    assert (point.size_bytes, point.score.accuracy) == (row["size_bytes"], row["accuracy"])


# the shipped sweeps


@pytest.mark.parametrize("key", NETWORKS, ids="--".join)
def test_the_shipped_sweeps_cover_their_grids(key):
    model = load_model(*key)
    grids = {"channels": CHANNELS_GRID} | {by: {"part": parts(model), "change": CHANGES} for by, parts in PARTS.items()}
    for kind, grid in grids.items():
        table = shipped_sweep(kind, *key)
        given = list(table[list(grid)].itertuples(index=False, name=None))
        assert given == list(itertools.product(*grid.values()))
        assert (table["images"] == (len(load_data(key[1]).validation) if kind == "channels" else SCANNED)).all()
        assert table["accuracy"].equals(table["correct"] / table["images"])


@pytest.mark.parametrize("other", [{}, dict(bits=4), dict(sparsity=0.1), dict(activation_bits=8), dict(by="kinds")])
def test_what_has_shipped_of_layers_alone_is_what_is_measured_today_and_only_for_its_settings(other):
    dense, part = shipped(("mobilenet", "cifar10")), "blocks.4.depthwise.weight"
    table = shipped_sweep("alone", *dense.key)
    given = list(table[["part", *ALONE_GRID]].itertuples(index=False, name=None))
    assert given == list(itertools.product(dense.layers, *ALONE_GRID.values()))
    settings = panel.Settings(**setting(0.0) | other)
    facts = Architectures().look(dense, dense.model, settings)
    assert list(facts) == ([] if other else dense.layers)
    few = take(dense.data.validation, ALONE)
    for row in table[table["part"] == part].to_dict("records") if not other else ():
        small = squeeze(dense.model, bits=row["bits"], granularity=row["granularity"], layers=[part])
        pairs = lk.compare(dense.model, small, few)
        assert abs(row["lost"] - pairs["lost"]) <= 2
        assert abs(row["won"] - pairs["won"]) <= 2


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
    small = changes(data.train)[change](model, layers=layers)
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
    scans = {key[0]: scan_losses(shipped_sweep("layers", *key)) for key in NETWORKS[:3]}
    picture = plots.scan_picture(scans, ["80 % pruned", AT_RANDOM])
    assert len(picture.axes) == 2 * len(scans)
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
    made = changes(load_data("digits").train)
    first, again, other = (
        made[f"{AT_RANDOM}, mask {seed}"](reinitialized(conv, 0), layers=["0"])[0].weight for seed in (0, 0, 1)
    )
    assert first.equal(again)
    assert not first.equal(other)
