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
from labkit.data import Data, Split
from labkit.live import network
from labkit.live import words as _words
from labkit.live.baseline import from_user, shipped
from labkit.live.plane import COMPONENTS
from labkit.live.score import Score
from labkit.significance import mcnemar
from labkit.topics.magnitude_pruning.panel import BINS, Pruning, target
from labkit.topics.quantization.panel import Quantization
from labkit.topics.start_here.panel import FLIPS, Overview, flip_name
from tests.waiting import until

LENET = ("lenet-300-100", "mnist")


def last(results):
    *_, result = results
    return result


def points(dense, sparsity, bits):
    return Overview(dense).results(sparsity=sparsity, bits=bits)


def pruned_points(dense, by, sparsity, threshold, scope, layer=""):
    return Pruning(dense).results(by=by, sparsity=sparsity, threshold=threshold, scope=scope, layer=layer)


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
    dense = from_user(model, digits)
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
    assert point.ledger.equals(lk.ledger(small))
    assert point.read_back


def test_a_point_of_a_shipped_network():
    small = lk.quantize(lk.prune(lk.load_model(*LENET), 0.9), 4)
    point = last(points(None, 0.9, 4))
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
    assert (np.asarray(view.strip.get_array())[..., 3] == 0).all()


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
    assert point.facts.sparsity == pytest.approx({k: (w == 0).double().mean().item() for k, (_, w) in weights.items()})
    went = {k: before[(after == 0)].abs() for k, (before, after) in weights.items() if k in shown}
    assert point.facts.thresholds == [v.max().item() for v in went.values() if len(v)]
    stays = torch.cat([weights[k][1].flatten() for k in shown])
    assert point.facts.kept.sort().values.equal(stays[stays != 0].sort().values)
    assert target(point) == pytest.approx(point.facts.sparsity[layer] if layer else 1 - point.left[0] / 1_182)
    if by == "threshold":
        assert max(point.facts.thresholds) <= 0.1 < point.facts.kept.abs().min()


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
        assert f"weights left {left:,}" in view.summarize(point).alt


@pytest.mark.parametrize("method", ["fine-tuned", "gradual"])
def test_training_heals_at_the_same_sparsity_and_streams(digits, mine, method):
    view, shown = Pruning(mine), []
    settings = dict(by="sparsity", sparsity=0.85, threshold=0, scope="global", layer="", method=method)
    view.train(settings, shown.append, lambda: False)
    one_shot, end = last(pruned_points(mine, "sparsity", 0.85, 0, "global")), shown[-1]
    assert (end.training, end.settings.method, end.score.settled) == (1.0, method, True)
    assert end.left == one_shot.left
    assert end.score.correct > one_shot.score.correct + (15 if method == "fine-tuned" else 0)
    assert end.score.correct == lk.accuracy(end.model, digits.validation)["correct"]
    assert end.size_bytes == len(lk.encode(end.model))
    assert [p.training for p in shown] == sorted(p.training for p in shown)
    assert len(shown) >= 2
    assert "100% of 2 epochs trained" in view.summarize(end).status
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


# panels


@pytest.mark.parametrize("kind", PANELS)
def test_a_panel_opens_on_a_network_of_the_users_own(conv, digits, kind):
    panel = PANELS[kind](conv, digits)
    assert "checkpoint" not in panel.controls
    assert not panel.status.startswith("⚠")
    assert panel.alt.startswith("Sequential, ")
    assert panel._repr_mimebundle_()[0]["image/png"][:4] == b"\x89PNG"


@pytest.mark.parametrize("kind", PANELS)
def test_a_panel_opens_on_the_shipped_networks_and_changes_them(kind):
    panel = PANELS[kind]()
    assert panel.alt.startswith("lenet-300-100 on mnist, ")
    panel.controls["checkpoint"].value = ("lenet-300-100", "fashion-mnist")
    assert panel.alt.startswith("lenet-300-100 on fashion-mnist, ")
    panel.controls["checkpoint"].value = ("lenet-5", "mnist")
    assert panel.alt.startswith("lenet-5 on mnist, ")
    if "layer" in panel.controls:
        layers = [v for v in panel.controls["layer"].values if v]
        assert layers == ["conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight"]
    assert not panel.status.startswith("⚠")


@pytest.mark.parametrize("kind", PANELS)
def test_a_damaged_checkpoint_is_told_in_the_panel(monkeypatch, kind):
    panel = PANELS[kind]()
    shown = panel.alt

    def damaged(key):
        raise ValueError("data/checkpoints/lenet-5--mnist.safetensors is damaged")

    monkeypatch.setattr(network, "shipped", damaged)
    place = panel.controls["checkpoint"].values.index(("lenet-5", "mnist"))
    panel.set_state({"asked": {"moves": {"checkpoint": [1, place]}}})
    assert panel.status == "⚠ ValueError: data/checkpoints/lenet-5--mnist.safetensors is damaged"
    assert panel.alt == shown


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
    lines = [view.star.star]
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
        dense = from_user(model, data)
        assert dense.score.accuracy == share
        for kind, view in ((k, v(dense)) for k, v in VIEWS.items()):
            layer = {"layer": "1.weight"} if kind == "quantization" else {}
            settings = EXTREMES[kind][-1] | layer
            settings |= {"threshold": 0.0} if kind == "pruning" else {"bits": 8}
            settings |= {"sparsity": 0.0} if kind == "overview" else {}
            settings |= {"layer": ""} if kind == "pruning" else {}
            view.draw(last(view.results(**settings)))
            assert not [(kind, share, a) for a, ax in moved(view) if outside(a, ax)]


def shown(view):
    return view.live.still(), view.live.marks()


def without_names(shown):
    """The drawing without its identifiers, which differ between figures."""
    still, marks = shown
    return re.sub(r'(id="|#)[a-z][0-9a-f]{10}', r"\1", still), marks


@pytest.mark.parametrize("kind", VIEWS)
def test_a_picture_does_not_depend_on_what_was_shown_before(kind):
    """For the shipped networks, whose axes no setting widens: each picture is complete and has no remains of others."""
    settings = [s for s in EXTREMES[kind] if s.get("layer", "") in ("", "3.weight") and s.get("threshold", 0) < 1]
    settings = [s | {"layer": ""} if "layer" in s else s for s in settings[:: max(1, len(settings) // 4)]]
    view = VIEWS[kind]()
    for other in (("lenet-300-100", "fashion-mnist"), LENET):
        for s in settings:
            result = last(view.results(**s, checkpoint=other))
            view.draw(result)
            before = shown(view)
    fresh = VIEWS[kind]()
    fresh.draw(result)
    assert without_names(shown(fresh)) == without_names(before)


@pytest.mark.parametrize("kind", VIEWS)
def test_axes_that_were_widened_are_drawn_anew(mine, kind):
    view = VIEWS[kind](mine)
    ax = view.plane if kind == "overview" else view.curves
    result = last(view.results(**EXTREMES[kind][-1]))
    view.draw(result)
    ax.set_ylim(0.999, 0.9994)
    view.live.refresh()
    narrow = shown(view)
    view.draw(result)
    wide = shown(view)
    view.live.refresh()
    assert shown(view) == wide != narrow


@pytest.mark.parametrize("kind", VIEWS)
def test_a_preview_does_not_widen_the_axes(mine, kind):
    view = VIEWS[kind](mine)
    ax = view.plane if kind == "overview" else view.curves
    result = last(view.results(**EXTREMES[kind][-1]))
    view.draw(result)
    before = ax.axis()
    low = result.score.predicted
    view.draw(replace(result, score=Score(low[:50], 0, 50, 300)))
    assert ax.axis() == before
    view.draw(replace(result, score=Score(low, 0, 300, 300)))
    assert ax.axis() != before


def test_what_was_trained_leaves_the_picture_with_the_next_move(mine):
    view, one_shot = Pruning(mine), last(pruned_points(mine, "sparsity", 0.8, 0, "global"))
    view.draw(one_shot)
    before, star = shown(view), view.star.star.get_data()
    trained = replace(one_shot, training=1.0, score=mine.score)
    view.draw(trained)
    assert len(view.star.trained.get_xdata()) == 1
    assert view.star.star.get_data() == star
    assert shown(view) != before
    view.draw(one_shot)
    assert shown(view) == before


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("overview", dict(sparsity=0.7, bits=3)), ("overview", dict(sparsity=0.0, bits=32)),
     ("pruning", dict(by="threshold", threshold=0.08)),
     ("pruning", dict(sparsity=0.9, scope="layer", layer="fc2.weight"))],
)  # fmt: skip
def test_the_code_of_a_panel_gives_its_figures(kind, settings):
    panel = PANELS[kind]()
    panel.set(**settings)
    until(lambda: panel._past[-1] == panel.settings())
    names = {}
    exec(panel.frame["code"], names)  # noqa: S102
    accuracy = lk.accuracy(names["small"], names["data"].validation)["accuracy"]
    assert panel.cards[0][1] == f"{accuracy:.2%}"
    assert any(f"{len(lk.encode(names['small'])):,} B" == value for _, value, _ in panel.cards)


def test_the_amount_that_is_not_asked_for_is_idle():
    view = Pruning()
    now = {name: control.value for name, control in view.controls().items()}
    assert view.idle(now) == {"threshold"}
    assert view.idle(now | dict(by="threshold")) == {"sparsity", "scope"}
    assert view.idle(now | dict(layer="fc1.weight")) == {"threshold", "scope"}


@pytest.mark.parametrize("kind", PANELS)
def test_points_of_the_sweep_lead_where_they_were_measured(kind):
    """Going to a measured point gives its accuracy again."""
    panel = PANELS[kind]()
    points = [point for point in panel.picture["points"] if point[3]]
    assert len(points) > 3
    _, _, said, settings = points[len(points) // 2]
    panel._handle_custom_msg({"do": "go", "settings": settings}, [])
    until(lambda: panel._past[-1] == panel.settings() and panel.settings() | settings == panel.settings())
    assert panel.cards[0][1] in said


@pytest.mark.parametrize("kind", PANELS)
def test_a_panel_opens_in_a_scene(refuses, kind):
    view = VIEWS[kind]()
    for scene, settings in view.scenes.items():
        panel = PANELS[kind](preset=scene)
        assert panel.settings() | dict(settings) == panel.settings()
        assert not panel.status.startswith("⚠")
    names = ", ".join(map(repr, ("", *view.scenes)))
    refuses(ValueError, f"preset is 'none'; allowed: {names}", PANELS[kind], preset="none")


# words


@pytest.mark.parametrize("kind", VIEWS)
def test_the_alt_text_states_the_figures(mine, kind):
    view = VIEWS[kind](mine)
    result = last(view.results(**EXTREMES[kind][1]))
    words = view.summarize(result)
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


def test_every_checkpoint_that_sees_images_is_on_offer():
    assert Overview().controls()["checkpoint"].values == [k for k in lk.zoo.RECIPES if k[1] != "shakespeare"]
