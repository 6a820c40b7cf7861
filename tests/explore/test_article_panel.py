"""The panel of notebook 09: its slopes, runs and pruned networks against the routines, and the texts for faults."""

import itertools
import json

import numpy as np
import pytest

import labkit as lk
from labkit import article, explore
from labkit.topics.the_article_mlp import panel as article_mlp_panel
from labkit.topics.the_article_mlp import plots, runs
from labkit.topics.the_article_mlp.panel import CODES, KEPT, ArticleMLP, check_card
from labkit.topics.the_article_mlp.runs import BATCH, CHECKED, EPOCHS, THRESHOLDS, race, retrain

SETTINGS = dict(code="no tanh′", lr=0.3, hidden=16, threshold=0.2)


def never():
    return False


def trained(view, **changed):
    """Everything that a run shows at these settings."""
    shown = []
    view.train(SETTINGS | changed, shown.append, never)
    return shown


@pytest.fixture(scope="module")
def flat(digits):
    return *article.arrays(digits.train), *article.arrays(digits.validation)


def expected(flat, code="no tanh′", lr=0.3, hidden=16):
    """(network, losses) of the whole run, by the routine."""
    variant = article.VARIANTS[code]
    net, y = article.new_net(64, hidden, 10, init=variant.init), article.targets(flat[1], 10, variant.targets)
    return article.trained(net, flat[0], y, lr=lr, epochs=EPOCHS, variant=variant)


def accuracy(net, flat):
    return (article.predict(net, flat[2]) == flat[3]).mean()


# the check


@pytest.mark.parametrize("code", [code for _, code in CODES])
def test_a_move_shows_the_check_of_the_fresh_network_at_once(digits, flat, code):
    view, variant = ArticleMLP(digits), article.VARIANTS[code]
    seen = next(view.results(**SETTINGS | dict(code=code)))
    verdict = check_card(seen)[1]
    assert seen.run.moments == ()
    if code == "A1 unknown":
        assert (verdict, seen.error) == ("does not run", "NameError: name 'A1' is not defined")
        return
    net, y = article.new_net(64, 16, 10, init=variant.init), article.targets(flat[1], 10, variant.targets)
    slopes = article.gradient_check(net, flat[0][:BATCH], y[:BATCH], variant, entries=CHECKED)
    for name, pair in seen.slopes.items():
        np.testing.assert_array_equal(pair, slopes[name])
    assert verdict == ("fails" if code in ("no tanh′", "sum, not mean", "all but A1") else "passes")


def test_a_wide_network_is_checked_on_fewer_images(digits, monkeypatch):
    monkeypatch.setattr(runs, "ONE_THREAD", 64 * 16 * 3 + 1)
    rows = ArticleMLP(digits).rows
    seen = runs.fresh(rows, ("mended", 0.3, 16))
    expected = article.gradient_check(seen.net, rows.x[:3], rows.targets("mended")[:3], entries=CHECKED)
    np.testing.assert_array_equal(seen.slopes["W2"], expected["W2"])
    assert runs.fresh(rows, ("mended", 0.3, 128)).slopes is not None


def test_saturated_weights_pass_the_check_and_have_no_slope(digits):
    card = check_card(next(ArticleMLP(digits).results(**SETTINGS | dict(code="weights in [0, 1)", hidden=64))))
    assert card == ("gradient check", "passes", "no slope in W1, b1, W2, b2")


def test_the_slopes_on_screen_are_those_of_the_check(digits):
    view = ArticleMLP(digits)
    seen = next(view.results(**SETTINGS))
    view.draw(seen)
    for name, line in view.lines.items():
        analytic, numeric = seen.slopes[name]
        unit = np.abs(numeric).max()
        inside = np.abs(analytic / unit) < 2.3
        np.testing.assert_allclose(line.get_xdata()[inside] * unit, numeric[inside], rtol=1e-12)
        np.testing.assert_allclose(line.get_ydata()[inside] * unit, analytic[inside], rtol=1e-12)
        assert len(line.get_xdata()) == len(numeric)
    assert set(view.lines.values()) < set(view.live.moving)
    assert view.clipping.get_visible()
    view.draw(next(view.results(**SETTINGS | dict(code="A1 unknown"))))
    assert [len(line.get_xdata()) for line in view.lines.values()] == [0] * 4
    assert "name 'A1' is not defined" in view.slopes.texts[-1].get_text()
    assert not view.clipping.get_visible()


def test_slopes_beyond_the_axes_lie_at_their_ends_and_tiny_ones_in_the_middle():
    x, y = plots.place_slopes(np.array([100.0, -100.0, 1.0]), np.array([2.0, 1.0, -2.0]))
    assert x.tolist() == [1, 0.5, -1]
    assert y.tolist() == [2.3, -2.3, 0.5]
    assert plots.place_slopes(np.array([1e-12]), np.array([-1e-12]))[1] == pytest.approx(1e-5)


# the run


@pytest.mark.parametrize("code", ["no tanh′", "softmax", "random targets"])
def test_a_run_is_that_of_the_routine_with_the_mended_network_beside_it(digits, flat, code):
    view = ArticleMLP(digits)
    end = trained(view, code=code)[-1]
    net, losses = expected(flat, code)
    for name in net:
        np.testing.assert_array_equal(end.net[name], net[name])
    total = EPOCHS * 120
    assert (end.run.ended, end.run.moments[-1].step, len(losses)) == (True, total, total)
    assert end.run.moments[-1].accuracy == accuracy(net, flat)
    counts = np.diff([0, *[m.step for m in end.run.moments]])
    assert sum(m.loss * n for m, n in zip(end.run.moments, counts, strict=True)) == pytest.approx(sum(losses))
    assert end.ghosts[-1].label == "mended, η 0.3, 16"
    assert end.ghosts[-1].moments[-1].accuracy == accuracy(expected(flat, "mended")[0], flat)


def test_a_run_streams_and_words_agree_with_it(digits, monkeypatch):
    monkeypatch.setattr(runs, "PACE", 0)
    view = ArticleMLP(digits)
    shown = trained(view)
    running = [s for s in shown if not s.run.ended]
    assert [s.run.moments[-1].step for s in running] == list(range(1, EPOCHS * 120))
    assert all(len(s.ghosts) == 1 and s.ghosts[0].moments[-1].step == s.run.moments[-1].step for s in running)
    assert all(s.pruned is None for s in running)
    assert view.summarize(running[60]).status == "training: 17% done; scored on all 300 validation images"
    assert view.summarize(running[60]).title == "the check fails"
    assert view.summarize(running[60]).progress == pytest.approx(0.75 * 61 / 360)
    words = view.summarize(shown[-1])
    assert words.progress is None
    assert words.title == f"the check fails, the loss falls, accuracy {shown[-1].run.accuracy:.1%}"
    assert "trained: 360 steps; scored on all 300 validation images; retrained: 100% of 1 epoch" in words.status
    values = {label: value for label, value, _ in words.cards}
    assert values["loss"] == f"{shown[-1].run.moments[-1].loss:.3f}"
    assert values["accuracy"] == f"{shown[-1].run.moments[-1].accuracy:.2%}"
    assert all(value in words.alt for value in values.values())


def test_an_overtaken_run_stops_at_its_next_step_and_is_not_kept(digits):
    view, asked = ArticleMLP(digits), itertools.count(1)
    view.train(SETTINGS, lambda seen: None, lambda: next(asked) > 20)
    assert next(asked) < 26
    assert view._trained == {}
    assert next(view.results(**SETTINGS)).run.moments == ()


def test_a_network_at_hand_is_not_trained_again(digits, monkeypatch):
    view = ArticleMLP(digits)
    trained(view)
    monkeypatch.setattr(article_mlp_panel, "race", None)
    end = trained(view, threshold=0.3)[-1]
    assert end.settings.threshold == 0.3
    assert trained(view, code="mended")[-1].run.label.startswith("mended")
    monkeypatch.setattr(article_mlp_panel, "retrain", None)
    assert trained(view, threshold=0.3) == []  # nor is what pruning left
    assert next(view.results(**SETTINGS | dict(threshold=0.3))).retrained is end.retrained


def test_the_mended_network_is_the_newest_ghost_and_earlier_runs_come_before(digits, monkeypatch):
    monkeypatch.setattr(runs, "EPOCHS", 1)
    view = ArticleMLP(digits)
    for code in ("no tanh′", "sum, not mean", "A1 unknown"):
        trained(view, code=code)
    seen = next(view.results(**SETTINGS | dict(code="softmax")))
    assert [g.label.split(",")[0] for g in seen.ghosts] == ["no tanh′", "sum", "mended"]
    for lr in np.linspace(0.01, 0.02, KEPT):
        trained(view, lr=float(lr))
    assert len(view._trained) == KEPT


def test_two_networks_race_on_the_same_batches(digits, monkeypatch):
    monkeypatch.setattr(runs, "EPOCHS", 1)
    rows = ArticleMLP(digits).rows
    keys = ("mended", 0.3, 8), ("softmax", 0.3, 8)
    *_, end = race({key: runs.fresh(rows, key) for key in keys}, never)
    for key in keys:
        *_, alone = race({key: runs.fresh(rows, key)}, never)
        for name, value in alone[key].net.items():
            np.testing.assert_array_equal(value, end[key].net[name])


# faults in words


def test_the_code_as_printed_stops_and_says_why_while_the_mended_one_runs(digits):
    view = ArticleMLP(digits)
    first = view.summarize(next(view.results(**SETTINGS | dict(code="A1 unknown"))))
    assert first.status == "this code stops at its first step: NameError: name 'A1' is not defined"
    end = trained(view, code="A1 unknown")[-1]
    view.draw(end)
    words = view.summarize(end)
    assert words.status == first.status + "; beside it the mended network, scored on all 300 validation images"
    assert words.cards[0] == ("gradient check", "does not run", "NameError: name 'A1' is not defined")
    assert [value for _, value, _ in words.cards[1:]] == ["–"] * 4
    assert end.ghosts[-1].ended


def test_a_loss_that_rises_is_called_divergence(digits):
    view = ArticleMLP(digits)
    for code, lr, diverged in (("sum, not mean", 1.0, True), ("mended", 0.3, False)):
        end = trained(view, code=code, lr=lr)[-1]
        assert ("diverged: the loss rose from" in view.summarize(end).status) == diverged
        assert (", the loss rises, " in view.summarize(end).title) == diverged
        assert (end.run.moments[-1].loss > end.run.moments[0].loss) == diverged


# pruning


def test_a_threshold_is_what_labkit_prunes_at_and_shows_at_once(digits, flat):
    view = ArticleMLP(digits)
    end = trained(view)[-1]
    seen = next(view.results(**SETTINGS | dict(threshold=0.35)))
    model = lk.prune(article.to_torch(end.net), threshold=0.35)
    assert seen.pruned.accuracy == pytest.approx(lk.accuracy(model, digits.validation)["accuracy"], abs=0.004)
    assert seen.pruned.size_bytes == len(lk.encode(model))
    weights = [model[1].weight, model[3].weight]
    assert seen.pruned.left == sum(int((w != 0).sum()) for w in weights)
    assert seen.pruned.weights == sum(w.numel() for w in weights) == 64 * 16 + 160
    assert seen.retrained is None
    dense = len(lk.encode(article.to_torch(end.net)))
    said = (
        "file",
        f"{seen.pruned.size_bytes:,} B",
        f"{dense / seen.pruned.size_bytes:.1f}× smaller · dense {dense:,} B",
    )
    assert view.summarize(seen).cards[4] == said
    view.draw(seen)
    assert view.star.get_xdata() == [0.35]
    assert view.star.get_ydata() == seen.pruned.accuracy
    assert len(view.retrained_point.get_xdata()) == 0
    for threshold, share in zip(THRESHOLDS, seen.curve, strict=True):
        assert share == accuracy(article.prune(end.net, threshold)[0], flat)


def test_retraining_holds_the_zeros_and_is_that_of_the_routine(digits, flat):
    view = ArticleMLP(digits)
    end = trained(view, threshold=0.3)[-1]
    net, masks = article.prune(end.net, 0.3)
    variant, y = article.VARIANTS["no tanh′"], article.one_hot(flat[1], 10)
    again, _ = article.trained(net, flat[0], y, lr=0.3, epochs=1, seed=1, masks=masks, variant=variant)
    for name in net:
        np.testing.assert_array_equal(end.retrained.net[name], again[name])
    for name, mask in masks.items():
        assert not end.retrained.net[name][~mask].any()
    assert end.retrained.accuracy == accuracy(again, flat)
    assert end.retrained.left == end.pruned.left
    assert (end.retraining, end.settings.threshold, end.size_bytes) == (1, 0.3, end.pruned.size_bytes)
    assert f"retrained {end.retrained.accuracy:.2%}" in view.summarize(end).cards[3][2]


def test_an_overtaken_retraining_stops(digits):
    view = ArticleMLP(digits)
    seen = trained(view)[-1]
    asked = itertools.count(1)
    assert list(retrain(seen, seen.pruned, lambda: next(asked) > 5)) == []
    assert next(asked) == 7


# the panel


def test_the_panel_opens_on_images_of_ones_own_and_is_settled(digits):
    panel = explore.article_mlp(digits)
    assert "retrained: 100% of 1 epoch" in panel.status
    said = "fault: no tanh′ at the output, learning rate 0.3, 32 hidden units, pruned at θ = 0.10: gradient check fails"
    assert panel.alt.startswith(f"the article's network, {said}")
    assert list(panel.controls) == ["code", "lr", "hidden", "threshold"]
    panel.controls["threshold"].value = 0.4
    assert "pruned at θ = 0.40" in panel.alt
    assert not panel.status.startswith("⚠")
    assert len(json.dumps(panel.frame)) < 20_000


def test_the_threshold_is_idle_where_nothing_can_be_pruned(digits):
    view = ArticleMLP(digits)
    idle = {code: view.idle(SETTINGS | dict(code=code)) for _, code in CODES}
    assert {code: names for code, names in idle.items() if names} == {"A1 unknown": {"threshold"}}
    words = [view.summarize(next(view.results(**SETTINGS | dict(code="A1 unknown", threshold=t)))) for t in (0.1, 0.4)]
    assert words[0] == words[1]


@pytest.mark.parametrize("changed", [dict(), dict(code="weights in [0, 1)", lr=0.1, threshold=0.4)])
def test_the_code_gives_the_panels_networks(digits, changed):
    view = ArticleMLP(digits)
    end = trained(view, **changed)[-1]
    names = dict(data=digits)
    exec(view.code(SETTINGS | changed), names)  # noqa: S102
    for model, score in (("model", end.run.accuracy), ("small", end.pruned.accuracy)):
        assert lk.accuracy(names[model], digits.validation)["accuracy"] == pytest.approx(score, abs=0.004)
    assert len(lk.encode(names["small"])) == end.size_bytes


def test_the_code_as_printed_says_why_it_stops(digits, capsys):
    exec(ArticleMLP(digits).code(SETTINGS | dict(code="A1 unknown")), dict(data=digits))  # noqa: S102
    assert capsys.readouterr().out == "name 'A1' is not defined\n"


def test_two_results_are_compared_image_by_image(digits):
    view = ArticleMLP(digits)
    ends = [trained(view, threshold=threshold, code=c)[-1] for threshold, c in ((0.1, "mended"), (0.4, "no tanh′"))]
    gain = 100 * (ends[1].run.accuracy - ends[0].run.accuracy)
    ratio = ends[0].size_bytes / ends[1].size_bytes
    said = view.compared(*ends)
    assert said.startswith(f"accuracy {gain:+.2f} points")
    assert said.endswith(f"file {ratio:.2f}× smaller")


def test_bad_input_is_refused_in_a_sentence(refuses, digits):
    said = "data is a Split; allowed: a labkit.Data or None"
    refuses(TypeError, said, explore.article_mlp, digits.train)
