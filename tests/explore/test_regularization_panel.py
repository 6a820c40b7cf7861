"""The panel of notebook 06: its run is labkit's own, its figures are measured, a move overtakes it."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import labkit as lk
from labkit import explore, losses
from labkit.augment import affine
from labkit.data import take
from labkit.live.baseline import from_user, shipped
from labkit.live.training import GHOSTS, Moment
from labkit.models import mlp
from labkit.topics.regularization import runs
from labkit.topics.regularization.panel import Regularization
from labkit.topics.regularization.runs import (
    EDGES,
    SPARSITIES,
    USUAL,
    Settings,
    budget,
    histogram_of,
    recipe,
    untrained,
)
from tests.waiting import until

OFF = dict(images=200, penalty="none", lam=1e-3, smoothing=0.0, augmentation=0.0)


@pytest.fixture(scope="module")
def mine(digits):
    """A network of the user's own, with dropout."""
    torch.manual_seed(7)
    return from_user(mlp(64, 32, 10, dropout=0.2), digits)


@pytest.fixture
def view(mine, monkeypatch):
    monkeypatch.setattr(runs, "STEPS", 80)
    return Regularization(mine)


def trained(view, overtaken=lambda: False, **changes):
    shown = []
    view.train(OFF | changes, shown.append, overtaken)
    return shown


def setting(view, **changes):
    (trial,) = view.results(**OFF | changes)
    return trial


DECAYED = partial(torch.optim.AdamW, weight_decay=0.3)
PLAIN = partial(torch.optim.AdamW, weight_decay=0.0)
SMOOTH = losses.label_smoothing(0.1)


@pytest.mark.parametrize(
    ("changes", "how"),
    [
        ({}, dict(optimizer=PLAIN)),
        (dict(penalty="L1"), dict(optimizer=PLAIN, loss=losses.with_l1(1e-3))),
        (dict(penalty="L2", smoothing=0.1), dict(optimizer=PLAIN, loss=losses.with_l2(1e-3, SMOOTH))),
        (dict(penalty="weight decay", lam=0.3), dict(optimizer=DECAYED)),
        (dict(penalty="proximal L1", lam=0.1), dict(optimizer=PLAIN, after_step=losses.ProximalL1(0.1))),
        (dict(augmentation=0.5), dict(optimizer=PLAIN, augment=partial(affine, strength=0.5))),
        (dict(images=500, dropout=0.5), dict(optimizer=PLAIN)),
    ],
    ids=["nothing", "L1", "L2, smoothing", "decay", "proximal", "augmentation", "dropout"],
)  # fmt: skip
def test_the_run_is_the_one_that_fit_does(view, mine, digits, changes, how):
    last = trained(view, **changes)[-1]
    images = changes.get("images", 200)
    train = take(digits.train, images)
    model, _ = lk.fit(
        untrained(mine, changes.get("dropout", 0.0)), train, epochs=80 // (images // 50), batch_size=50, lr=1e-3,
        progress=False, **how,
    )  # fmt: skip
    assert last.run.ended
    assert last.run.score.correct == lk.accuracy(model, digits.validation)["correct"]
    assert last.facts.train_accuracy == lk.accuracy(model, train)["accuracy"]
    for sparsity, score in zip(SPARSITIES, last.facts.pruned, strict=True):
        assert score.correct == lk.accuracy(lk.prune(model, sparsity), digits.validation)["correct"]
    assert last.facts.zeros == pytest.approx(lk.measure(model, digits.validation)["sparsity"])
    np.testing.assert_array_equal(last.facts.histogram, histogram_of(model))


def test_new_weights_are_the_same_whatever_is_done_and_the_users_network_is_left_alone(mine):
    before = [p.clone() for p in mine.model.parameters()]
    first, other = untrained(mine, 0.0), untrained(mine, 0.7)
    assert all(a.equal(b) for a, b in zip(first.parameters(), other.parameters(), strict=True))
    assert [layer.p for m in (first, other, mine.model) for layer in m if isinstance(layer, nn.Dropout)] == [
        0,
        0.7,
        0.2,
    ]
    assert all(a.equal(b) for a, b in zip(before, mine.model.parameters(), strict=True))
    assert not any(a.equal(b) for a, b in zip(before, first.parameters(), strict=True))


def test_the_histogram_counts_every_weight_once():
    model = mlp(4, 2, 2)
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[0.0, 1e-9, 0.011, -0.011], [0.3, -0.3, 100.0, 0.3]]))
        model[3].weight.zero_()
    shares = histogram_of(model)
    assert shares.sum() == pytest.approx(1)
    assert shares[0] == pytest.approx(6 / 12)
    assert shares[-1] == pytest.approx(1 / 12)
    for magnitude, share in ((0.011, 2 / 12), (0.3, 3 / 12)):
        bin_of = np.searchsorted(EDGES, math.log10(magnitude)) - 1
        assert shares[bin_of] == pytest.approx(share)


def test_the_words_state_the_figures(view, digits):
    last = trained(view, penalty="proximal L1", lam=1.0)[-1]
    words = view.summarize(last)
    by = {label: (value, note) for label, value, note in words.cards}
    assert by["accuracy"][0] == f"{last.run.score.accuracy:.2%}"
    gap = 100 * (last.facts.train_accuracy - last.run.score.accuracy)
    assert by["training accuracy"] == (f"{last.facts.train_accuracy:.2%}", f"gap: {gap:.1f} points")
    assert by["at 90 % zeros"][0] == f"{last.facts.pruned[SPARSITIES.index(0.9)].accuracy:.2%}"
    assert by["weights that are 0"][0] == f"{last.facts.zeros:.1%}"
    assert last.facts.zeros > 0.2
    assert all(f"{label} {value} ({note})" in words.alt for label, (value, note) in by.items())
    assert (
        "Sequential, 200 training images, penalty proximal L1, λ 1, dropout 0 %, label smoothing 0 %, augmentation 0: "
        in words.alt
    )
    assert words.status == f"trained: {last.run.moments[-1].step} steps; scored on all 300 validation images"


def test_before_the_run_the_cards_say_so(view):
    words = view.summarize(setting(view))
    assert [value for _, value, _ in words.cards] == ["–"] * 5
    assert words.status == "starting …"


def test_the_picture_follows_the_run(view, every_step):
    shown = trained(view)
    during = [t for t in shown if not t.run.ended]
    assert len(during) > 20
    assert all(t.facts.histogram is not None and not t.facts.pruned for t in during)
    assert len(shown[-1].facts.looks) == 20  # one in four steps
    assert shown[-1].facts.best[1] == max(accuracy for _, accuracy in shown[-1].facts.looks)
    view.draw(shown[-1])
    assert view.now.get_data().values.tolist() == shown[-1].facts.histogram.tolist()
    x, y = view.line.get_data()
    assert list(x) == list(range(len(SPARSITIES)))
    assert y.tolist() == np.array([s.accuracy for s in shown[-1].facts.pruned]).tolist()
    assert view.best.get_xdata()[0] == 100 * shown[-1].facts.best[0]


def test_earlier_runs_stay_and_a_repeated_one_is_no_ghost_of_its_own(view):
    for smoothing in (0.1, 0.2, 0.3, 0.4, 0.5):
        trained(view, smoothing=smoothing)
    ghosts = setting(view, smoothing=0.5).ghosts
    assert [ghost.settings.smoothing for ghost in ghosts] == [0.1, 0.2, 0.3, 0.4][-GHOSTS:]
    trial = setting(view)
    assert [ghost.settings.smoothing for ghost in trial.ghosts] == [0.2, 0.3, 0.4, 0.5][-GHOSTS:]
    view.draw(trial)
    assert view.before.get_data().values.tolist() == trial.ghosts[-1].facts.histogram.tolist()
    newest = [s.accuracy for s in trial.ghosts[-1].facts.pruned]
    assert view.ghost_lines[0].get_ydata().tolist() == np.array(newest).tolist()


def test_an_overtaken_run_leaves_nothing(view):
    asked = []

    def overtaken():
        asked.append(1)
        return len(asked) > 10

    trained(view, overtaken)
    assert len(asked) < 15
    assert setting(view, smoothing=0.1).ghosts == ()


def test_a_diverged_run_is_said_to_and_is_not_pruned(view):
    last = trained(view, penalty="weight decay", lam=3e40)[-1]
    assert last.run.diverged
    assert last.facts.pruned == ()
    view.draw(last)
    assert view.summarize(last).status.startswith("diverged: the loss is ")


def test_labels_fit_the_key_and_runs_have_about_as_many_steps(view, mine):
    assert view.label(mine, Settings()) == "no regularizer on 1,000"
    much = Settings(20_000, "proximal L1", 0.03, 0.5, 0.05, 1.25)
    assert recipe(much) == "proximal L1 0.03, dropout 0.5, smooth 0.05, augment 1.25"
    assert view.label(mine, much) == "proximal L1 0.03, … on 20,000"
    assert budget(1_000) == dict(epochs=80 // 20, batch_size=50, seed=0)
    assert budget(20) == dict(epochs=80, batch_size=20, seed=0)


def test_accuracies_outside_the_axes_widen_them(view):
    last = trained(view, penalty="L1", lam=10.0)[-1]
    assert last.run.accuracy < 0.4
    view.draw(last)
    for ax, line in ((view.accuracies, view.curves._accuracies[0]), (view.sparsities, view.line)):
        low, high = ax.get_ylim()
        assert all(low < y < high for y in line.get_ydata())
    good = replace(last.run, moments=(Moment(1.0, 80, 0.1, 0.9, 0.8),))
    view.draw(replace(last, run=good))
    assert view.accuracies.get_ylim()[0] == 0.4


def test_a_penalty_of_no_strength_is_one_run(view):
    """λ without a penalty changes nothing: it is idle, its run is known, and it is not trained again."""
    none = dict(penalty="none", lam=1e-3)
    assert view.idle(none) == {"lam"}
    assert view.idle(none | dict(penalty="L1")) == set()
    trained(view, lam=1e-3)
    assert setting(view, lam=10.0).run.ended
    assert trained(view, lam=10.0) == []
    assert setting(view, lam=10.0).ghosts == ()
    assert not setting(view, penalty="L1", lam=10.0).run.ended


@pytest.mark.parametrize(
    "changes",
    [dict(penalty="L1", lam=3e-3, smoothing=0.2, augmentation=0.5), dict(penalty="weight decay", lam=1.0, dropout=0.5)],
)
def test_the_code_gives_the_panels_figures(view, mine, digits, changes):
    settings = OFF | dict(dropout=0.0) | changes
    facts = trained(view, **settings)[-1].facts
    lines = view.code(settings).split("\n")
    names = dict(model=mine.model, data=digits)
    exec("\n".join([*lines[:-1], f"figures = {lines[-1]}"]), names)  # noqa: S102
    assert names["figures"] == [facts.by[0.0], facts.by[0.9]]


def test_the_code_of_a_shipped_network_gives_the_panels_figures(monkeypatch):
    monkeypatch.setattr(runs, "STEPS", 20)
    view, shown = Regularization(), []
    settings = {name: control.value for name, control in view.controls().items()} | dict(images=200, dropout=0.5)
    view.train(settings, shown.append, lambda: False)
    lines, names = view.code(settings).split("\n"), {}
    exec("\n".join([*lines[:-1], f"figures = {lines[-1]}"]), names)  # noqa: S102
    assert names["figures"] == [shown[-1].facts.by[0.0], shown[-1].facts.by[0.9]]


def test_measured_points_say_what_the_sweep_says_and_lead_where_the_controls_can_go():
    view = Regularization()
    dense, controls = shipped(("lenet-300-100", "mnist")), view.controls()
    (trial,) = view.results()
    view.draw(trial)
    table = dense.sweep("regularization")
    points = {words.split("\n")[0]: (x, y, settings) for _, x, y, words, settings in view.live.points}
    assert len(points) == len(view.live.points) > 100
    l1 = table[(table["method"] == "L1") & (table["strength"] == 1e-3)]["accuracy_at_0.9"].mean()
    x, y, settings = points[f"L1 0.001, 90% zeros: {l1:.2%}"]
    assert (x, y) == (SPARSITIES.index(0.9), pytest.approx(float(l1)))
    assert settings == OFF | dict(images=1_000, penalty="L1", lam=1e-3, dropout=0.0)
    assert {settings == {} for words, (_, _, settings) in points.items() if "weight decay 30" in words} == {True}
    for method, name in (
        ("dropout 0.5", "dropout"),
        ("label smoothing 0.2", "smoothing"),
        ("augmentation 1.5", "augmentation"),
    ):
        (settings,) = {str(of[2]): of[2] for words, of in points.items() if words.startswith(method + ",")}.values()
        plain = OFF | dict(images=1_000, dropout=0.0) | {name: float(method.split()[-1])}
        assert settings == {name: value for name, value in plain.items() if name != "lam"}
    for _, _, settings in points.values():
        for name, value in settings.items():
            assert value in controls[name].values
    assert len(view.live.hot()) == len(points)


def test_the_title_states_gap_and_cost(view):
    last = trained(view, penalty="L1", lam=1e-3)[-1]
    accuracy, kept = last.run.accuracy, last.facts.pruned[3].accuracy
    gap, cost = 100 * (last.facts.train_accuracy - accuracy), 100 * (accuracy - kept)
    said = f"the gap is {gap:.1f} points; 90 % zeros cost {cost:.1f} points"
    assert view.summarize(last).title == said


# the panel


def test_the_panel_trains_at_once_and_the_next_move_overtakes(mine, digits, monkeypatch):
    monkeypatch.setattr(runs, "STEPS", 80)
    panel = explore.regularization(mine.model, digits)
    assert set(panel.controls) == {*OFF, "dropout"}
    assert panel.status.startswith("trained: ")
    assert panel.controls["images"].values == [200, 500, 1_000, 1_197]
    panel.controls["smoothing"].value = 0.1
    panel.controls["smoothing"].value = 0.2
    until(
        lambda: (
            "label smoothing 20 %" in panel.alt and "; scored on all" in panel.status and "–" not in panel.cards[2][1]
        )
    )
    assert [t.settings.smoothing for t in panel.view.ended] == [0.0, 0.2]


def test_a_penalty_brings_its_usual_lambda(mine, digits, monkeypatch):
    monkeypatch.setattr(runs, "STEPS", 20)
    panel = explore.regularization(mine.model, digits)
    for penalty, lam in USUAL.items():
        panel.controls["penalty"].value = penalty
        assert panel.controls["lam"].value == lam
    until(lambda: "penalty weight decay, λ 1," in panel.alt and panel.status.startswith("trained: "))


def test_without_dropout_layers_there_is_no_control_for_them(conv, digits, monkeypatch):
    monkeypatch.setattr(runs, "STEPS", 20)
    panel = explore.regularization(conv, digits)
    assert "dropout" not in panel.controls
    assert panel.status.startswith("trained: ")


def test_bad_input_is_refused_in_a_sentence(refuses, conv, digits):
    together = "model and data belong together: give both or neither"
    refuses(ValueError, together, explore.regularization, conv)
