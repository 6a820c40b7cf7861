"""The panel of notebook 04: its figures against labkit's own, recomputed another way; shipped and own networks."""

import itertools
import re

import numpy as np
import pytest
import torch

import labkit as lk
from labkit import explore, plots
from labkit.data import take
from labkit.explore import _structured
from labkit.explore._start import shipped
from labkit.explore._structured import EPOCHS, Structured, narrowed_points, ranked
from labkit.sweep import CALIBRATION, STRUCTURED_GRIDS, fresh, shipped_sweep

LENET = ("lenet-300-100", "mnist")


def last(results):
    *_, result = results
    return result


def settings(sparsity=0.5, criterion="l1", scope="layer"):
    return dict(sparsity=sparsity, criterion=criterion, scope=scope)


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("criterion", ["l1", "l2", "taylor", "activation", "random"])
def test_a_point_is_what_labkit_measures(conv, digits, mine, criterion, scope):
    point = last(narrowed_points(mine, 0.5, criterion, scope))
    few = take(digits.train, CALIBRATION)
    small = lk.prune_channels(conv, few.x[:2], 0.5, criterion=criterion, scope=scope, calibration=few)
    measured = lk.measure(small, digits.validation)
    assert (point.score.correct, point.score.settled) == (measured["correct"], True)
    assert (point.size_bytes, point.macs) == (measured["size_bytes"], measured["macs"])
    assert point.widths == {"0": small[0].out_channels, "3": small[3].out_channels}
    assert point.units == (sum(point.widths.values()), 6 + 12)
    assert f"{measured['parameters']:,}" in Structured(mine).tell(point).alt
    assert point.ranked.macs == lk.measure(conv, digits.validation)["macs"]


def test_only_the_last_result_is_timed(mine):
    *before, end = narrowed_points(mine, 0.5, "l1", "layer")
    assert [p.latency for p in before] == [None] * len(before)
    assert before
    assert all(ms > 0 for ms in end.latency)
    view = Structured(mine)
    label, value, note = view.tell(end).cards[-1]
    assert (label, value) == ("100 images take", f"{end.latency[1]:.2f} ms")
    assert note.startswith(f"one thread · dense {end.latency[0]:.2f} ms")
    assert view.tell(before[0]).cards[-1] == ("100 images take", "…", "timed when the controls rest")


@pytest.mark.parametrize(("scope", "sparsity"), [("layer", 0.0), ("layer", 0.95), ("global", 0.5), ("global", 0.95)])
def test_bars_star_and_cut_show_the_point(mine, scope, sparsity):
    view, point = Structured(mine), last(narrowed_points(mine, sparsity, "l2", scope))
    view.draw(point)
    assert [t.get_text() for t in view.numbers] == [f"{point.widths['0']} / 6", f"{point.widths['3']} / 12"]
    assert [b.get_width() for b in view.bars] == [point.widths["0"] / 6, point.widths["3"] / 12]
    assert view.star.get_data()[0] == [point.macs]
    assert view.star.get_data()[1] == pytest.approx([float(plots.logit(point.score.accuracy))])
    assert (view.share.get_visible(), view.theta.get_visible()) == (scope == "layer", scope == "global")
    assert list(view.share.get_xdata()) == [sparsity] * 2
    below, above = view.curves.get_ylim()
    assert view.curves.get_xlim()[0] < point.macs < view.curves.get_xlim()[1]
    assert below < view.star.get_data()[1][0] < above


def test_the_cut_is_the_importance_above_which_units_stay(mine):
    view, point = Structured(mine), last(narrowed_points(mine, 0.5, "l1", "global"))
    view.draw(point)
    theta, gone = view.theta.get_ydata()[0], set(point.gone.tolist())
    for family in ranked(mine, "l1").families:
        values = ranked(mine, "l1").importance[family]
        relative = (values / values.mean()).tolist()
        best = int(values.argmax())
        for i, (unit, value) in enumerate(zip(family.tolist(), relative, strict=True)):
            assert (unit in gone) == (value <= theta + 1e-6) or i == best


def test_the_alt_text_states_the_figures(mine):
    point = last(narrowed_points(mine, 0.5, "l1", "layer"))
    words = Structured(mine).tell(point)
    assert words.alt.startswith("Sequential, units removed by l1, one-shot: accuracy ")
    assert all(f"{label} {value} ({note})" in words.alt for label, value, note in words.cards)
    assert words.status == "scored on all 300 validation images"
    ratio = re.search(r"([\d.]+)× fewer", words.alt)
    assert float(ratio[1]) == pytest.approx(point.ranked.macs / point.macs, abs=0.051)


def test_training_heals_at_the_same_widths_and_streams(digits, mine):
    view, shown = Structured(mine), []
    view.train(settings(0.5), shown.append, lambda: False)
    one_shot, end = last(narrowed_points(mine, 0.5, "l1", "layer")), shown[-1]
    assert (end.training, end.widths, end.macs) == (1.0, one_shot.widths, one_shot.macs)
    assert end.score.correct > one_shot.score.correct
    assert end.score.correct == lk.accuracy(end.model, digits.validation)["correct"]
    assert f"fine-tuned: 100% of {EPOCHS} epoch trained" in view.tell(end).status
    assert [p.training for p in shown] == sorted(p.training for p in shown)
    assert len(shown) >= 2
    view.draw(one_shot)
    before = view.live.png()
    view.draw(end)
    assert view.live.png() != before
    view.draw(one_shot)
    assert view.live.png() == before


def test_an_overtaken_training_stops_at_once(mine):
    asked = []

    def overtaken():
        asked.append(0)
        return len(asked) > 3

    Structured(mine).train(settings(), lambda result: None, overtaken)
    assert len(asked) == 4


def test_the_panel_opens_on_the_shipped_networks_and_changes_them():
    panel = explore.structured()
    assert panel.live.alt.startswith("lenet-300-100 on mnist, units removed by l1, one-shot: ")
    panel.controls["criterion"].value = "random"
    assert panel.live.alt.startswith("lenet-300-100 on mnist, units removed by random, ")
    panel.controls["checkpoint"].value = ("lenet-5", "mnist")
    assert panel.live.alt.startswith("lenet-5 on mnist, ")
    assert list(panel.view._shown[0].model.state_dict())[0] == "conv1.weight"
    assert not panel.live.status.startswith("⚠")


def test_the_panel_opens_on_a_network_of_the_users_own(conv, digits):
    panel = explore.structured(conv, digits)
    assert "checkpoint" not in panel.controls
    assert panel.live.alt.startswith("Sequential, ")
    assert panel.live.png[:4] == b"\x89PNG"


def test_bad_input_is_refused_in_a_sentence(refuses, conv, digits):
    refuses(ValueError, "model and data belong together: give both or neither", explore.structured, conv)
    refuses(TypeError, "model is a Data; allowed: a torch.nn.Module", explore.structured, digits, conv)


def test_what_cannot_be_followed_is_told_in_the_panel(monkeypatch):
    def refuse(dense, criterion):
        if criterion == "l2":
            raise ValueError("channels cannot be followed through permute")
        return ranked(dense, criterion)

    ranked = _structured.ranked
    monkeypatch.setattr(_structured, "ranked", refuse)
    panel = explore.structured()
    panel.controls["criterion"].value = "l2"
    assert panel.live.status == "⚠ ValueError: channels cannot be followed through permute"


@pytest.mark.parametrize(
    ("criterion", "missing"), [("l1", []), ("l2", ["fine-tuned"]), ("random", ["one-shot", "fine-tuned"])]
)
def test_the_lines_of_a_criterion_stand_beside_random_and_from_scratch(criterion, missing):
    view = Structured()
    view.draw(next(view.results(**settings(criterion=criterion), checkpoint=LENET)))
    labels = [text.get_text() for text in view.curves.get_legend().get_texts()]
    assert sorted(labels) == sorted(set(plots.UNIT_METHODS) - set(missing) | {"dense"})
    lines = {line.get_label(): line for line in view.curves.lines}
    sweep = shipped(LENET).sweep("structured")
    rows = sweep[sweep["method"] == "from scratch, 13 epochs"].groupby("sparsity")[["macs", "accuracy"]].mean()
    assert lines["from scratch, 13 epochs"].get_xdata().tolist() == rows["macs"].tolist()
    assert lines["from scratch, 13 epochs"].get_ydata() == pytest.approx(plots.logit(rows["accuracy"].to_numpy()))


def test_a_row_of_the_shipped_sweep_is_what_is_measured_today():
    sweep, point = shipped(LENET).sweep("structured"), last(narrowed_points(shipped(LENET), 0.5, "taylor", "layer"))
    row = sweep[(sweep["method"] == "taylor") & (sweep["sparsity"] == 0.5)].iloc[0]
    assert (row["macs"], row["size_bytes"]) == (point.macs, point.size_bytes)
    assert abs(row["correct"] - point.score.correct) <= 25  # two units of nearly the same importance may change places


@pytest.mark.parametrize("name", STRUCTURED_GRIDS)
def test_the_shipped_sweep_covers_its_grid(name):
    table, grid = shipped_sweep("structured", name, "mnist"), STRUCTURED_GRIDS[name]
    given = list(table[list(grid)].itertuples(index=False, name=None))
    assert sorted(given, key=str) == sorted(itertools.product(*grid.values()), key=str)
    assert table["accuracy"].equals(table["correct"] / table["images"])
    assert table.groupby("sparsity")["macs"].nunique().eq(1).all()  # scope "layer": every method has the same shape


def test_new_weights_for_a_network_from_scratch(conv):
    first, again, other = fresh(conv, 0), fresh(conv, 0), fresh(conv, 1)
    assert first[3].weight.equal(again[3].weight)
    assert not first[3].weight.equal(other[3].weight)
    assert not first[3].weight.equal(conv[3].weight)
    assert first[1].running_mean.eq(0).all()


def test_the_widths_of_resnet_20_follow_the_shortcuts():
    dense = shipped(("resnet-20", "cifar10"))
    point = next(narrowed_points(dense, 0.25, "l1", "global"))
    assert len(point.widths) == 19
    assert point.widths["conv1"] == point.widths["blocks.0.conv2"] == point.widths["blocks.2.conv2"]
    assert point.widths["blocks.3.conv2"] == point.widths["blocks.5.conv2"]
    assert torch.isin(point.gone, torch.cat(point.ranked.families)).all()
    view = Structured()
    view.draw(point)
    assert np.isfinite(view.star.get_data()[1]).all()


@pytest.mark.parametrize(
    ("number", "text"),
    [(812, "812"), (999.4, "999"), (999.6, "1 k"), (23_400, "23.4 k"), (266_200, "266 k"), (2_293_000, "2.29 M")],
)
def test_counts_are_written_short(number, text):
    assert plots.count(number) == text
