"""The panel of notebook 04: its figures against labkit's own, recomputed another way; shipped and own networks."""

import itertools
import re

import pytest
import torch
from matplotlib.colors import to_hex

import labkit as lk
from labkit import drawing, explore
from labkit.compress.structured import FROM_IMAGES
from labkit.data import take
from labkit.live.baseline import shipped
from labkit.models import reinitialized
from labkit.sweep import shipped_sweep
from labkit.topics.structured_pruning import panel as structured_panel
from labkit.topics.structured_pruning import plots
from labkit.topics.structured_pruning.experiment import CALIBRATION, SEEDS, STRUCTURED_GRIDS
from labkit.topics.structured_pruning.panel import Structured, ranked
from tests.waiting import until

LENET = ("lenet-300-100", "mnist")


def last(results):
    *_, result = results
    return result


def settings(sparsity=0.5, importance="l1", scope="layer"):
    return dict(sparsity=sparsity, importance=importance, scope=scope)


def points(dense, *chosen):
    return list(Structured(dense).results(dense.key, **settings(*chosen)))


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("importance", ["l1", "l2", "taylor", "activation", "random"])
def test_a_point_is_what_labkit_measures(conv, digits, mine, importance, scope):
    point = last(points(mine, 0.5, importance, scope))
    facts = point.facts
    few = take(digits.train, CALIBRATION)
    seen = few if importance in FROM_IMAGES else None
    small = lk.prune_channels(conv, 0.5, example=few.x[:2], importance=importance, scope=scope, calibration=seen)
    measured = lk.measure(small, digits.validation)
    assert (point.score.correct, point.score.settled) == (measured["correct"], True)
    assert (point.size_bytes, facts.macs) == (measured["size_bytes"], measured["macs"])
    assert facts.widths == {"0": small[0].out_channels, "3": small[3].out_channels}
    assert facts.units == (sum(facts.widths.values()), 6 + 12)
    assert f"{measured['parameters']:,}" in Structured(mine).summarize(point).alt
    assert facts.ranked.macs == lk.measure(conv, digits.validation)["macs"]


def test_only_the_last_result_is_timed(mine):
    *before, end = points(mine)
    assert [p.facts.latency for p in before] == [None] * len(before)
    assert before
    assert before[-1].score.settled
    dense, small = end.facts.latency
    assert min(dense, small) > 0
    view = Structured(mine)
    label, value, note = view.summarize(end).cards[-1]
    assert (label, value) == ("100 images take", f"{small:.2f} ms")
    assert note.startswith(f"one thread · dense {dense:.2f} ms")
    assert view.summarize(before[-1]).cards[-1] == ("100 images take", "…", "timed when the controls rest")
    assert ("faster" in view.summarize(end).title, "slower" in view.summarize(end).title) == (
        dense >= small,
        dense < small,
    )
    assert "ster" not in view.summarize(before[-1]).title


@pytest.mark.parametrize(("times", "said"), [([3.0, 2.0], "1.5× faster"), ([2.0, 3.0], "1.5× slower")])
def test_what_is_slower_is_called_so(times, said):
    assert structured_panel.faster(times) == said


def test_the_latency_is_the_best_of_rounds_in_turns(monkeypatch):
    asked = []

    def stopwatch(model, images, repeats):
        asked.append(model)
        return {"dense": 5.0, "small": 3.0}[model] + (len(asked) - 7) ** 2

    monkeypatch.setattr(structured_panel, "latency_ms", stopwatch)
    assert structured_panel.race(["dense", "small"], None) == [5.0, 4.0]
    assert asked == ["dense", "small"] * structured_panel.ROUNDS


@pytest.mark.parametrize(("scope", "sparsity"), [("layer", 0.0), ("layer", 0.95), ("global", 0.5), ("global", 0.95)])
def test_bars_star_and_cut_show_the_point(mine, scope, sparsity):
    view, point = Structured(mine), last(points(mine, sparsity, "l2", scope))
    view.draw(point)
    widths, macs = point.facts.widths, point.facts.macs
    assert [t.get_text() for t in view.numbers] == [f"{widths['0']} / 6", f"{widths['3']} / 12"]
    assert [b.get_width() for b in view.bars] == [widths["0"] / 6, widths["3"] / 12]
    assert view.star.star.get_data() == ([macs], [point.score.accuracy])
    assert view.star.interval.get_data() == ([macs, macs], point.score.interval)
    assert (view.share.get_visible(), view.theta.get_visible()) == (scope == "layer", scope == "global")
    assert list(view.share.get_xdata()) == [sparsity] * 2
    below, above = view.curves.get_ylim()
    assert view.curves.get_xlim()[0] < macs < view.curves.get_xlim()[1]
    assert below < point.score.accuracy < above


def test_a_layer_s_bar_has_the_colour_of_its_line(mine):
    view = Structured(mine)
    view.draw(last(points(mine)))
    lines = [line for line in view.ranking.lines if len(line.get_xdata()) > 2]
    assert [len(line.get_xdata()) for line in lines] == [6, 12]
    assert [to_hex(bar.get_facecolor()) for bar in view.bars] == [to_hex(line.get_color()) for line in lines]
    assert len({line.get_color() for line in lines}) == 2


def test_the_cut_is_the_importance_above_which_units_stay(mine):
    view, point = Structured(mine), last(points(mine, 0.5, "l1", "global"))
    view.draw(point)
    theta, gone = view.theta.get_ydata()[0], set(point.facts.gone.tolist())
    for family in ranked(mine, "l1").families:
        values = ranked(mine, "l1").importance[family]
        relative = (values / values.mean()).tolist()
        best = int(values.argmax())
        for i, (unit, value) in enumerate(zip(family.tolist(), relative, strict=True)):
            assert (unit in gone) == (value <= theta + 1e-6) or i == best


def test_the_alt_text_states_the_figures(mine):
    point = last(points(mine))
    words = Structured(mine).summarize(point)
    start = "Sequential, 50 % of the units removed, by L1: sum of |weights|, layer: same fraction each: accuracy "
    assert words.alt.startswith(start)
    assert all(f"{label} {value} ({note})" in words.alt for label, value, note in words.cards)
    assert words.status == "scored on all 300 validation images"
    ratio = re.search(r"([\d.]+)× fewer", words.alt)
    assert float(ratio[1]) == pytest.approx(point.facts.ranked.macs / point.facts.macs, abs=0.051)


def test_the_scope_of_no_unit_changes_nothing(mine):
    view = Structured(mine)
    assert view.idle(settings(0.0)) == {"scope"}
    assert view.idle(settings(0.01)) == set()
    layer, everywhere = (points(mine, 0.0, "l1", scope)[-1] for scope in ("layer", "global"))
    assert layer.score.predicted.equal(everywhere.score.predicted)
    assert layer.facts.widths == everywhere.facts.widths
    panel = explore.structured(preset="the whole network")
    assert [name for name, place in panel.frame["places"].items() if place["disabled"]] == ["scope"]


@pytest.mark.parametrize("chosen", [settings(), settings(0.75, "taylor", "global"), settings(0.6, "random")])
@pytest.mark.parametrize("own", [True, False])
def test_the_code_gives_the_figures_of_the_panel(conv, digits, chosen, own):
    panel = explore.structured(conv, digits) if own else explore.structured()
    panel.set(**chosen)
    until(lambda: panel.cards[0][0] == "accuracy")
    names, code = dict(model=conv, data=digits) if own else {}, panel.frame["code"]
    assert code.count("\n") == 3 + (chosen["importance"] == "taylor")
    *lines, figures = code.split("\n")
    exec("\n".join([*lines, f"accuracy, size = {figures}"]), names)  # noqa: S102
    assert [panel.cards[0][1], panel.cards[3][1]] == [f"{names['accuracy']:.2%}", f"{names['size']:,} B"]


def test_training_heals_at_the_same_widths_and_streams(digits, mine):
    view, shown = Structured(mine), []
    view.train(settings(0.5), shown.append, lambda: False)
    one_shot, end = last(points(mine)), shown[-1]
    assert (end.training, end.facts.widths, end.facts.macs) == (1.0, one_shot.facts.widths, one_shot.facts.macs)
    assert end.score.correct > one_shot.score.correct
    assert end.score.correct == lk.accuracy(end.model, digits.validation)["correct"]
    assert "100% of 1 epoch trained" in view.summarize(end).status
    assert [p.training for p in shown] == sorted(p.training for p in shown)
    assert len(shown) >= 2
    view.draw(one_shot)
    before = view.live.marks()
    view.draw(end)
    assert view.star.trained.get_data() == ([end.facts.macs], [end.score.accuracy])
    assert view.live.marks() != before
    view.draw(one_shot)
    assert view.live.marks() == before


def test_an_overtaken_training_stops_at_once(mine):
    asked = []

    def overtaken():
        asked.append(0)
        return len(asked) > 3

    Structured(mine).train(settings(), lambda result: None, overtaken)
    assert len(asked) == 4


def test_the_panel_opens_on_the_shipped_networks_and_changes_them():
    panel = explore.structured()
    assert panel.alt.startswith("lenet-300-100 on mnist, 50 % of the units removed, by L1: ")
    panel.controls["importance"].value = "random"
    assert panel.alt.startswith("lenet-300-100 on mnist, 50 % of the units removed, by random: ")
    panel.controls["checkpoint"].value = ("lenet-5", "mnist")
    assert panel.alt.startswith("lenet-5 on mnist, ")
    assert list(panel.view._shown[0].model.state_dict())[0] == "conv1.weight"
    assert not panel.status.startswith("⚠")


def test_every_network_of_the_menu_loses_units():
    view = Structured()
    menu = view.controls()["checkpoint"].values
    assert len(menu) > 5
    for key in menu:
        point = next(view.results(key))
        left, every = point.facts.units
        assert 0.4 < left / every < 0.6
        assert point.facts.macs < 0.7 * point.facts.ranked.macs
        view.draw(point)


def test_the_panel_opens_on_a_network_of_the_users_own(conv, digits):
    panel = explore.structured(conv, digits)
    assert "checkpoint" not in panel.controls
    assert panel.alt.startswith("Sequential, ")
    assert len(panel.frame["marks"]) > 5


def test_bad_input_is_refused_in_a_sentence(refuses, conv, digits):
    refuses(ValueError, "model and data belong together: give both or neither", explore.structured, conv)
    refuses(TypeError, "model is a Data; allowed: a torch.nn.Module", explore.structured, digits, conv)


def test_what_cannot_be_followed_is_told_in_the_panel(monkeypatch):
    def refuse(dense, importance):
        if importance == "l2":
            raise ValueError("channels cannot be followed through permute")
        return ranked(dense, importance)

    ranked = structured_panel.ranked
    monkeypatch.setattr(structured_panel, "ranked", refuse)
    panel = explore.structured()
    panel.controls["importance"].value = "l2"
    assert panel.status == "⚠ ValueError: channels cannot be followed through permute"


@pytest.mark.parametrize(
    ("importance", "missing"), [("l1", []), ("l2", ["fine-tuned"]), ("random", ["one-shot", "fine-tuned"])]
)
def test_the_lines_of_a_criterion_stand_beside_random_and_from_scratch(importance, missing):
    view = Structured()
    view.draw(next(view.results(LENET, importance=importance)))
    labels = [text.get_text() for text in view.curves.get_legend().get_texts()]
    assert sorted(labels) == sorted(set(plots.UNIT_METHODS) - set(missing) | {"dense"})
    lines = {line.get_label(): line for line in view.curves.lines}
    sweep = shipped(LENET).sweep("structured")
    rows = sweep[sweep["method"] == "from scratch, 13 epochs"].groupby("sparsity")[["macs", "accuracy"]].mean()
    assert lines["from scratch, 13 epochs"].get_xdata().tolist() == rows["macs"].tolist()
    assert lines["from scratch, 13 epochs"].get_ydata() == pytest.approx(rows["accuracy"].to_numpy())


def test_a_row_of_the_shipped_sweep_is_what_is_measured_today():
    sweep, point = shipped(LENET).sweep("structured"), last(points(shipped(LENET), 0.5, "taylor"))
    row = sweep[(sweep["method"] == "taylor") & (sweep["sparsity"] == 0.5)].iloc[0]
    assert (row["macs"], row["size_bytes"]) == (point.facts.macs, point.size_bytes)
    assert abs(row["correct"] - point.score.correct) <= 25  # two units of nearly the same importance may change places


@pytest.mark.parametrize("name", STRUCTURED_GRIDS)
def test_the_shipped_sweep_covers_its_grid(name):
    table, grid = shipped_sweep("structured", name, "mnist"), {**STRUCTURED_GRIDS[name], "seed": SEEDS}
    given = list(table[list(grid)].itertuples(index=False, name=None))
    assert sorted(given, key=str) == sorted(itertools.product(*grid.values()), key=str)
    assert table["accuracy"].equals(table["correct"] / table["images"])
    assert table.groupby("sparsity")["macs"].nunique().eq(1).all()  # scope "layer": every method has the same shape


def test_new_weights_for_a_network_from_scratch(conv):
    first, again, other = reinitialized(conv, 0), reinitialized(conv, 0), reinitialized(conv, 1)
    assert first[3].weight.equal(again[3].weight)
    assert not first[3].weight.equal(other[3].weight)
    assert not first[3].weight.equal(conv[3].weight)
    assert first[1].running_mean.eq(0).all()


def test_the_widths_of_resnet_20_follow_the_shortcuts():
    view = Structured()
    point = next(view.results(("resnet-20", "cifar10"), **settings(0.25, "l1", "global")))
    widths, ranks = point.facts.widths, point.facts.ranked
    assert len(widths) == 19
    assert widths["conv1"] == widths["blocks.0.conv2"] == widths["blocks.2.conv2"]
    assert widths["blocks.3.conv2"] == widths["blocks.5.conv2"]
    assert torch.isin(point.facts.gone, torch.cat(ranks.families)).all()
    assert ranks.family("conv1") == ranks.family("blocks.2.conv2") != ranks.family("blocks.0.conv1")


def test_points_of_the_sweep_say_what_was_measured_and_lead_there():
    panel = explore.structured(preset="the whole network")
    sweep = shipped(LENET).sweep("structured")
    clicked = {words: settings for _, _, words, settings in panel.picture["points"] if settings}
    assert len(panel.picture["points"]) == 6 * 3  # six lines of three points
    assert len(clicked) == 3
    words, there = next((words, to) for words, to in clicked.items() if words.startswith("l1, sparsity 75%"))
    row = sweep.query("method == 'l1' and sparsity == 0.75").iloc[0]
    assert f"{row['accuracy']:.2%}, {drawing.count(row['macs'])} multiply-adds" in words
    panel._change(there)
    until(lambda: panel.cards[0][0] == "accuracy")
    assert panel.cards[0][1] == f"{row['accuracy']:.2%}"
    assert panel.cards[2][1] == f"{row['macs']:,}"


@pytest.mark.parametrize(
    ("number", "text"),
    [(812, "812"), (999.4, "999"), (999.6, "1 k"), (23_400, "23.4 k"), (266_200, "266 k"), (2_293_000, "2.29 M")],
)
def test_counts_are_written_short(number, text):
    assert drawing.count(number) == text
