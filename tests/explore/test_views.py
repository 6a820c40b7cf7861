"""The panels of the notebooks: their figures against labkit's own, recomputed another way; shipped and own networks."""

import copy
import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import labkit as lk
from labkit import explore, store
from labkit.compress.quantize import choose_grid, fake_quantize
from labkit.data import Data, Split
from labkit.explore import _overview, _pruning, _quantization, _start, _words
from labkit.explore._overview import COMPONENTS, FLIPS, Overview, flip_name, points
from labkit.explore._pruning import BINS, EPOCHS, Pruning, pruned_points, target
from labkit.explore._quantization import Quantization, rounded_points, staircase
from labkit.explore._score import Score
from labkit.explore._start import own, shipped
from labkit.measure import mcnemar

LENET = ("lenet-300-100", "mnist")


def last(results):
    *_, result = results
    return result


def settings_of(panel):
    return {k: v for k, v in panel.settings().items() if k != "checkpoint"}


# where a panel starts


def test_a_network_of_the_users_own_is_scored_and_weighed(conv, digits, mine):
    expected = lk.accuracy(conv, digits.validation)
    assert (mine.name, mine.key, mine.layers) == ("Sequential", None, ["0.weight", "3.weight", "6.weight"])
    assert (mine.score.correct, mine.score.settled) == (expected["correct"], True)
    assert mine.size_bytes == len(lk.encode(conv))
    assert len(mine.sweep("frontier")) == len(mine.sweep("pruning")) == len(mine.sweep("quantization")) == 0


def test_a_shipped_network_comes_with_its_measured_sweeps():
    dense = shipped(LENET)
    assert dense is shipped(LENET)
    assert dense.name == "lenet-300-100 on mnist"
    assert dense.score.correct == lk.accuracy(lk.load_model(*LENET), lk.load_data("mnist").validation)["correct"]
    assert {"size_bytes", "accuracy", "bits"} <= set(dense.sweep("frontier").columns)
    assert len(dense.sweep("frontier")) > 50


def test_the_users_network_is_left_alone_and_may_be_trained_on(conv, digits):
    model = copy.deepcopy(conv).train()
    model[1].eval()
    dense = own(model, digits)
    modes = [m.training for m in model.modules()]
    assert modes == [True, True, False, True, True, True, True, True]
    before = dense.model[6].weight.clone()
    with torch.no_grad():
        model[6].weight.zero_()
    assert dense.model[6].weight.equal(before)


PANELS = {"overview": explore.overview, "pruning": explore.pruning, "quantization": explore.quantization}


@pytest.mark.parametrize("kind", PANELS)
def test_bad_input_is_refused_in_a_sentence(refuses, conv, digits, kind):
    together = "model and data belong together: give both or neither"
    refuses(ValueError, together, PANELS[kind], conv)
    refuses(ValueError, together, PANELS[kind], data=digits)
    refuses(TypeError, "model is a Data; allowed: a torch.nn.Module", PANELS[kind], digits, conv)
    said = "data is a Split; allowed: a labkit.Data"
    refuses(TypeError, said, PANELS[kind], conv, Split(digits.test.x, digits.test.y))


# the overview


@pytest.mark.parametrize(("sparsity", "bits"), [(0.0, 32), (0.8, 5), (0.99, 1)])
def test_a_point_of_the_overview_is_what_labkit_measures(conv, digits, mine, sparsity, bits):
    small = lk.prune(conv, sparsity)
    small = small if bits == 32 else lk.quantize(small, bits)
    point, expected = last(points(mine, sparsity, bits)), lk.accuracy(small, digits.validation)
    assert point.size_bytes == len(lk.encode(small))
    assert (point.score.correct, point.score.images) == (expected["correct"], 300)
    assert point.left == (sum(int((small[i].weight != 0).sum()) for i in (0, 3, 6)), 54 + 648 + 480)
    assert point.file.equals(lk.ledger(small))
    assert point.read_back


def test_a_point_of_a_shipped_network():
    small = lk.quantize(lk.prune(lk.load_model(*LENET), 0.9), 4)
    point = last(points(shipped(LENET), 0.9, 4))
    assert point.size_bytes == len(lk.encode(small))
    assert point.score.correct == lk.accuracy(small, lk.load_data("mnist").validation)["correct"]
    sweep = shipped(LENET).sweep("frontier").query("sparsity == 0.9 and bits == 4")
    assert sweep["size_bytes"].item() == point.size_bytes


def test_only_the_last_point_claims_that_the_file_was_read_back(mine, monkeypatch):
    *before, end = points(mine, 0.5, 4)
    assert [p.read_back for p in before] == [False] * len(before)
    assert end.read_back
    decode = store.decode
    monkeypatch.setattr(store, "decode", lambda raw, into: lk.prune(decode(raw, into), 0.9))
    with pytest.raises(ValueError, match="not the same in the two models"):
        last(points(mine, 0.5, 4))


def test_lost_images_are_right_before_and_wrong_now(conv, digits, mine):
    point, view = last(points(mine, 0.9, 2)), Overview(mine)
    view.draw(point)
    small, x, y = lk.quantize(lk.prune(conv, 0.9), 2).eval(), digits.validation.x, digits.validation.y
    before, after = conv(x).argmax(1), small(x).argmax(1)
    lost = [i for i in range(300) if before[i] == y[i] != after[i]]
    won = [i for i in range(300) if before[i] != y[i] == after[i]]
    assert _words.flips_of(mine.score, point.score, y) == (lost, won)
    assert len(lost) > FLIPS
    assert [t.get_text() for t in view.names] == [f"{y[i]} → {after[i]}" for i in lost[:FLIPS]]
    strip = np.asarray(view.strip.get_array())
    for place, i in enumerate(lost[:FLIPS]):
        picture = (x[i, 0] * digits.std.item()).numpy()
        assert strip[:, place * 10 : place * 10 + 8, 1] == pytest.approx(picture, abs=1e-6)
    card = _words.flips_card(mine.score, point.score, y)
    assert card[1] == f"{len(lost):,} / {len(won):,}"
    p = mcnemar(len(lost), len(won))
    assert card[2] == ("McNemar p < 0.001" if p < 0.001 else f"McNemar p = {p:.3f}")
    view.draw(last(points(mine, 0.0, 32)))
    assert [t.get_text() for t in view.names] == [""] * FLIPS
    assert (view.strip.get_array() == 1).all()


def test_the_ledger_on_screen_sums_to_the_file(mine):
    view, point = Overview(mine), last(points(mine, 0.7, 4))
    view.draw(point)
    shown = [int(t.get_text().removesuffix(" B").replace(",", "")) for t in view.sizes]
    assert sum(shown[:-1]) == shown[-1] == point.size_bytes == len(lk.encode(lk.quantize(lk.prune(mine.model, 0.7), 4)))
    ledger = lk.ledger(lk.quantize(lk.prune(mine.model, 0.7), 4)).groupby("component")["bytes"].sum()
    assert shown[:-1] == [ledger.get(c, 0) for c in COMPONENTS]


# pruning


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("layer", ["", "3.weight"])
@pytest.mark.parametrize("by", ["sparsity", "threshold"])
def test_a_pruned_point_is_what_labkit_measures(conv, digits, mine, by, layer, scope):
    point = last(pruned_points(mine, by, 0.7, 0.1, scope, layer))
    amount = {by: {"sparsity": 0.7, "threshold": 0.1}[by]}
    small = lk.prune(conv, **amount, scope=scope, layers=[layer] if layer else None)
    weights = {f"{i}.weight": (conv[i].weight.detach(), small[i].weight.detach()) for i in (0, 3, 6)}
    shown = [layer] if layer else list(weights)
    assert point.score.correct == lk.accuracy(small, digits.validation)["correct"]
    assert point.size_bytes == len(lk.encode(small))
    assert point.left == (sum(int((w != 0).sum()) for _, w in weights.values()), 1_182)
    assert point.sparsity == pytest.approx({k: (w == 0).double().mean().item() for k, (_, w) in weights.items()})
    went = {k: before[(after == 0)].abs() for k, (before, after) in weights.items() if k in shown}
    assert point.thresholds == [v.max().item() for v in went.values() if len(v)]
    stays = torch.cat([weights[k][1].flatten() for k in shown])
    assert point.kept.sort().values.equal(stays[stays != 0].sort().values)
    assert target(point) == pytest.approx(point.sparsity[layer] if layer else 1 - point.left[0] / 1_182)
    if by == "threshold":
        assert max(point.thresholds) <= 0.1 < point.kept.abs().min()


def test_the_histogram_holds_every_weight(mine):
    view, point = Pruning(mine), last(pruned_points(mine, "sparsity", 0.9, 0, "global"))
    view.draw(point)
    still = view.histogram.patches[0].get_data().values - 0.5
    kept = view.stays.get_data().values - 0.5
    assert still.sum() == 1_182
    assert kept.sum() == point.left[0]
    assert (kept <= still).all()
    assert len(kept) == BINS


def test_everything_may_be_pruned_and_nothing(mine):
    view = Pruning(mine)
    for threshold, left in ((1e9, 0), (0.0, 1_182)):
        point = last(pruned_points(mine, "threshold", 0, threshold, "global"))
        view.draw(point)
        assert point.left[0] == left
        assert "left" in view.tell(point).alt


@pytest.mark.parametrize("method", ["fine-tuned", "gradual"])
def test_training_heals_at_the_same_sparsity_and_streams(digits, mine, method):
    view, shown = Pruning(mine), []
    settings = dict(by="sparsity", sparsity=0.85, threshold=0, scope="global", layer="", method=method)
    view.train(settings, shown.append, lambda: False)
    one_shot, end = last(pruned_points(mine, "sparsity", 0.85, 0, "global")), shown[-1]
    assert (end.training, end.method, end.score.settled) == (1.0, method, True)
    assert end.left == one_shot.left
    assert end.score.correct > one_shot.score.correct + (15 if method == "fine-tuned" else 0)
    assert end.score.correct == lk.accuracy(end.model, digits.validation)["correct"]
    assert end.size_bytes == len(lk.encode(end.model))
    assert [p.training for p in shown] == sorted(p.training for p in shown)
    assert len(shown) >= 2
    assert f"{method}: 100% of {EPOCHS} epochs trained" in view.tell(end).status
    if method == "fine-tuned":
        small = lk.prune(mine.model, 0.85)
        assert all(((end.model[i].weight == 0) >= (small[i].weight == 0)).all() for i in (0, 3, 6))


def test_an_overtaken_training_stops_at_once(mine):
    asked = []

    def overtaken():
        asked.append(0)
        return len(asked) > 3

    settings = dict(by="sparsity", sparsity=0.5, threshold=0, scope="global", layer="", method="fine-tuned")
    Pruning(mine).train(settings, lambda result: None, overtaken)
    assert len(asked) == 4


# quantization


@pytest.mark.parametrize(
    ("bits", "symmetric", "granularity", "percentile", "activation_bits"),
    [(8, True, "tensor", 100.0, 32), (2, False, "channel", 95.0, 32), (4, True, "channel", 99.9, 2)],
)
def test_a_rounded_point_is_what_labkit_measures(
    conv, digits, mine, bits, symmetric, granularity, percentile, activation_bits
):
    how = dict(symmetric=symmetric, granularity=granularity, percentile=percentile)
    point = last(rounded_points(mine, "3.weight", bits=bits, activation_bits=activation_bits, **how))
    entering = {} if activation_bits == 32 else dict(activation_bits=2, calibration=digits.train.x[:256])
    small = lk.quantize(conv, bits, **how, **entering)
    assert point.score.predicted.equal(small(digits.validation.x).argmax(1))
    assert point.score.correct == lk.accuracy(small, digits.validation)["correct"]
    assert point.size_bytes == len(lk.encode(small))
    assert point.values.equal(small[3].weight)
    for i in (0, 3, 6):
        before, after = (m[i].weight.detach().double().numpy() for m in (conv, small))
        expected = np.sqrt(((after - before) ** 2).mean()) / before.std()
        assert point.error[f"{i}.weight"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
def test_the_staircase_is_the_rounding_of_the_weights(mine, bits, symmetric):
    how = dict(bits=bits, symmetric=symmetric, granularity="tensor", percentile=100.0, activation_bits=32)
    point, weight = last(rounded_points(mine, "6.weight", **how)), mine.model[6].weight
    x, y = point.staircase
    assert y.equal(fake_quantize(x, choose_grid(weight.detach(), bits, symmetric=symmetric)))
    assert x[0] < weight.min() < weight.max() < x[-1]
    assert (y.diff() >= 0).all()
    assert set(point.values.unique().tolist()) <= set(y.unique().tolist()) | {0.0}


def test_the_staircase_of_a_channel_is_that_of_its_first_channel(mine):
    weight = mine.model[3].weight.detach()
    x, y = staircase(weight, 3, granularity="channel", symmetric=True, percentile=100.0)
    assert y.equal(fake_quantize(x, choose_grid(weight[:1], 3)))


def test_a_layer_of_equal_weights_has_no_error():
    alike = torch.full((3, 4), 0.5)
    assert _quantization.relative_error(alike, alike) == 0


# panels


@pytest.mark.parametrize("kind", PANELS)
def test_a_panel_opens_on_a_network_of_the_users_own(conv, digits, kind):
    panel = PANELS[kind](conv, digits)
    assert "checkpoint" not in panel.controls
    assert not panel.live.status.startswith("⚠")
    assert panel.live.alt.startswith("Sequential, ")
    assert panel.live.png[:4] == b"\x89PNG"


@pytest.mark.parametrize("kind", PANELS)
def test_a_panel_opens_on_the_shipped_networks_and_changes_them(kind):
    panel = PANELS[kind]()
    assert panel.live.alt.startswith("lenet-300-100 on mnist, ")
    panel.controls["checkpoint"].value = ("lenet-300-100", "fashion-mnist")
    assert panel.live.alt.startswith("lenet-300-100 on fashion-mnist, ")
    panel.controls["checkpoint"].value = ("lenet-5", "mnist")
    assert panel.live.alt.startswith("lenet-5 on mnist, ")
    if "layer" in panel.controls:
        layers = [v for _, v in panel.controls["layer"].options if v]
        assert layers == ["conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight"]
    assert not panel.live.status.startswith("⚠")


@pytest.mark.parametrize("kind", PANELS)
def test_a_damaged_checkpoint_is_told_in_the_panel(monkeypatch, kind):
    panel = PANELS[kind]()
    shown = panel.live.alt

    def damaged(key):
        raise ValueError("data/checkpoints/lenet-5--mnist.safetensors is damaged")

    for module in (_overview, _pruning, _quantization, _start):
        monkeypatch.setattr(module, "shipped", damaged)
    menu = panel.controls["checkpoint"]
    menu.set_state({"index": list(dict(menu.options).values()).index(("lenet-5", "mnist"))})
    assert panel.live.status == "⚠ ValueError: data/checkpoints/lenet-5--mnist.safetensors is damaged"
    assert panel.live.alt == shown


EXTREMES = {
    "overview": [dict(sparsity=s, bits=b) for s in (0, 0.5, 0.99) for b in (1, 2, 3, 32)],
    "pruning": [
        dict(by=by, sparsity=s, threshold=t, scope=scope, layer=layer, method="fine-tuned")
        for by, s, t in (("sparsity", 0, 0), ("sparsity", 0.99, 0), ("threshold", 0, 0.3), ("threshold", 0, 1e9))
        for scope, layer in (("global", ""), ("layer", ""), ("global", "6.weight"))
    ],
    "quantization": [
        dict(bits=b, symmetric=s, granularity=g, percentile=p, activation_bits=a, layer="3.weight")
        for b in (1, 2, 3, 8)
        for s, g, p, a in itertools.product((True, False), ("tensor", "channel"), (90.0, 100.0), (2, 32))
    ],
}
VIEWS = {"overview": Overview, "pruning": Pruning, "quantization": Quantization}


def outside(artist, ax):
    """Whether a point of a line, or the end of a bar, lies outside the limits of its axes."""
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    if hasattr(artist, "get_width"):
        return not left <= artist.get_x() <= artist.get_x() + artist.get_width() <= right
    x, y = (np.asarray(v, float) for v in artist.get_data())
    slack = 1e-6 * (right - left)  # float32 against float64
    if artist.get_transform() != ax.transData:  # a vertical line: its y is a share of the axes
        y = np.full_like(x, bottom)
    return bool(((x < left - slack) | (x > right + slack) | (y < bottom) | (y > top)).any())


def moved(view):
    """What must lie inside: the star, the bars, and whatever else is a line in the data's own coordinates."""
    lines = [view.star]
    if isinstance(view, Pruning):
        lines += [line for line in view.lines if line.get_xdata()[0]]
    if isinstance(view, Quantization):
        lines.append(view.line)
    return [(line, line.axes) for line in lines] + [(bar, bar.axes) for bar in view.bars]


@pytest.mark.parametrize("kind", VIEWS)
def test_moved_artists_stay_inside_their_axes_at_the_ends_of_the_controls(mine, kind):
    view = VIEWS[kind](mine)
    for settings in EXTREMES[kind]:
        view.draw(last(view.results(**settings)))
        assert not [(settings, a.get_data(), ax.axis()) for a, ax in moved(view) if outside(a, ax)]


def test_a_perfect_and_a_hopeless_network_lie_inside():
    torch.manual_seed(0)
    x = torch.eye(10).repeat(30, 1).view(300, 1, 1, 10)
    for shift, share in ((0, 1.0), (1, 0.0)):
        split = Split(x, (torch.arange(300) + shift) % 10)
        data = Data("made up", split, split, split, tuple("abcdefghij"), torch.zeros(1, 1, 1), torch.ones(1, 1, 1))
        model = nn.Sequential(nn.Flatten(), nn.Linear(10, 10, bias=False))
        model[1].weight = nn.Parameter(torch.eye(10) * 3 + torch.rand(10, 10) * 0.1)
        dense = own(model, data)
        assert dense.score.accuracy == share
        for kind, view in ((k, v(dense)) for k, v in VIEWS.items()):
            layer = {"layer": "1.weight"} if kind == "quantization" else {}
            settings = EXTREMES[kind][-1] | layer
            settings |= {"threshold": 0.0} if kind == "pruning" else {"bits": 8}
            settings |= {"sparsity": 0.0} if kind == "overview" else {}
            settings |= {"layer": ""} if kind == "pruning" else {}
            view.draw(last(view.results(**settings)))
            assert not [(kind, share, a) for a, ax in moved(view) if outside(a, ax)]


@pytest.mark.parametrize("kind", VIEWS)
def test_a_picture_does_not_depend_on_what_was_shown_before(kind):
    """Of the shipped networks, whose axes no setting widens: blitting forgets nothing and leaves nothing behind."""
    settings = [s for s in EXTREMES[kind] if s.get("layer", "") in ("", "3.weight") and s.get("threshold", 0) < 1]
    settings = [s | {"layer": ""} if "layer" in s else s for s in settings[:: max(1, len(settings) // 4)]]
    view = VIEWS[kind]()
    for other in (("lenet-300-100", "fashion-mnist"), LENET):
        for s in settings:
            result = last(view.results(**s, checkpoint=other))
            view.draw(result)
            before = view.live.png()
    fresh = VIEWS[kind]()
    fresh.draw(result)
    assert fresh.live.png() == before


@pytest.mark.parametrize("kind", VIEWS)
def test_axes_that_were_widened_are_drawn_anew(mine, kind):
    view = VIEWS[kind](mine)
    ax = view.plane if kind == "overview" else view.curves
    result = last(view.results(**EXTREMES[kind][-1]))
    view.draw(result)
    ax.set_ylim(8, 9)
    view.live.refresh()
    narrow = view.live.png()
    view.draw(result)
    wide = view.live.png()
    view.live.refresh()
    assert view.live.png() == wide != narrow


def test_what_was_trained_leaves_the_picture_with_the_next_move(mine):
    view, one_shot = Pruning(mine), last(pruned_points(mine, "sparsity", 0.8, 0, "global"))
    view.draw(one_shot)
    before, star = view.live.png(), view.star.get_data()
    trained = replace(one_shot, training=1.0, score=mine.score, method="fine-tuned")
    view.draw(trained)
    assert view.healed.get_data() != ([], [])
    assert view.star.get_data() == star
    assert view.live.png() != before
    view.draw(one_shot)
    assert view.live.png() == before


# words


@pytest.mark.parametrize("kind", VIEWS)
def test_the_alt_text_states_the_figures(mine, kind):
    view = VIEWS[kind](mine)
    result = last(view.results(**EXTREMES[kind][1]))
    words = view.tell(result)
    numbers = [f"{result.score.accuracy:.2%}", f"{mine.score.accuracy:.2%}", f"{result.size_bytes:,} B"]
    assert [n for n in numbers if n not in words.alt] == []
    assert all(f"{label} {value} ({note})" in words.alt for label, value, note in words.cards)
    assert words.status.startswith("scored on all 300 validation images")
    ratio = re.search(r"([\d.]+)× smaller", words.alt)
    assert float(ratio[1]) == pytest.approx(len(lk.encode(mine.model)) / result.size_bytes, abs=0.051)


def test_a_preview_is_marked_as_one(mine):
    y = mine.data.validation.y
    preview = Score(y[:50], 50, 50, 300)
    assert _words.accuracy_card(preview, mine.score)[0] == "accuracy, preview of 50 images"
    assert _words.status(preview) == "preview on 50 of 300 validation images; settling …"
    lost, won = _words.flips_of(mine.score, preview, y)
    assert not lost
    assert won == [i for i in range(50) if mine.score.predicted[i] != y[i]]


def test_a_flip_is_named_by_both_classes(digits, mine):
    point = last(points(mine, 0.95, 2))
    i = _words.flips_of(mine.score, point.score, digits.validation.y)[0][0]
    assert flip_name(point, i) == f"{int(digits.validation.y[i])} → {int(point.score.predicted[i])}"


def test_pictures_are_in_colour_between_0_and_1():
    grey, colour = (_words.pictures(lk.load_data(name), [3, 1]) for name in ("digits", "cifar10"))
    assert (grey.shape, colour.shape) == ((2, 8, 8, 3), (2, 32, 32, 3))
    for pictures in (grey, colour):
        assert pictures.min() >= 0
        assert pictures.max() <= 1
    assert (grey[..., 0] == grey[..., 2]).all()
    assert (colour[..., 0] != colour[..., 2]).any()
    levels = colour * 255
    assert levels == pytest.approx(levels.round(), abs=1e-3)


def test_start_offers_every_checkpoint_that_sees_images():
    none, menus = _start.start(None, None)
    assert none is None
    assert [v for _, v in menus["checkpoint"].options] == [k for k in lk.zoo.RECIPES if k[1] != "shakespeare"]
