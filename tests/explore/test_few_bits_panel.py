"""The panels of notebook 02c: runs and control runs are labkit's own, zeros are counted, a move overtakes."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import labkit as lk
from labkit import explore
from labkit.compress.gradients import integer_gradients, round_to_integers
from labkit.live.training import GHOSTS
from labkit.losses import cross_entropy
from labkit.models import mlp, reinitialized
from labkit.optim import TORCHS
from labkit.topics.training_with_few_bits.panel import WEIGHT_BITS, FewBits
from labkit.topics.training_with_few_bits.runs import EDGES, FLOAT, GRADIENT_BITS, USUAL, Flow, Settings
from tests.waiting import until

OFF = dict(
    start="trained", bits=FLOAT, straight=True, gradient_bits=FLOAT, stochastic=True, optimizer="AdamW", lr=2e-3,
    epochs=1,
)  # fmt: skip


@pytest.fixture
def view(mine):
    return FewBits(mine)


def trained(view, overtaken=lambda: False, **changes):
    shown = []
    view.train(OFF | changes, shown.append, overtaken)
    return shown


def setting(view, **changes):
    (trial,) = view.results(**OFF | changes)
    return trial


def expected(conv, digits, bits=FLOAT, straight=True, gradient_bits=FLOAT, stochastic=True, start="trained", **other):
    """The same run by `fit`, and the rounded network at its end."""
    model = reinitialized(conv, 0) if start == "new" else conv
    model = lk.prepare_qat(model, bits) if straight and bits < FLOAT else model
    optimizer = TORCHS[other.get("optimizer", "AdamW")]
    if gradient_bits < FLOAT:
        optimizer = integer_gradients(gradient_bits, stochastic=stochastic, optimizer=optimizer)
    model, _ = lk.fit(model, digits.train, epochs=1, lr=2e-3, progress=False, optimizer=optimizer)
    if bits == FLOAT:
        return model
    return lk.finish_qat(model) if straight else lk.quantize(model, bits)


@pytest.mark.parametrize(
    ("changes", "other"),
    [
        (dict(bits=2), dict(straight=False)),
        (dict(bits=1, straight=False), dict(straight=True)),
        (dict(gradient_bits=2, start="new"), dict(stochastic=False)),
        (dict(bits=3, gradient_bits=4, stochastic=False, optimizer="SGD"), dict(stochastic=True)),
        ({}, None),
    ],
    ids=["QAT", "afterwards", "gradients", "both", "float"],
)
def test_the_run_and_its_control_run_are_those_that_fit_does(view, conv, digits, changes, other):
    last = trained(view, **changes)[-1]
    model = expected(conv, digits, **changes)
    assert last.run.ended
    assert last.run.score.correct == lk.accuracy(model, digits.validation)["correct"]
    assert last.size_bytes == len(lk.encode(model))
    assert view.summarize(last).progress is None
    if other is None:
        assert last.control is None
    else:
        control = expected(conv, digits, **changes | other)
        assert last.control.run.score.correct == lk.accuracy(control, digits.validation)["correct"]
        assert last.control.size_bytes == len(lk.encode(control))


@pytest.mark.parametrize(("bits", "stochastic"), [(2, True), (3, False), (FLOAT, True)])
def test_zeros_of_the_gradients_are_counted(bits, stochastic):
    torch.manual_seed(1)
    net, x, y = mlp(8, 6, 3), torch.randn(5, 20, 8), torch.randint(3, (5, 20))
    flow = Flow(Settings("new", FLOAT, True, bits, stochastic, "SGD", 0.1, 1))
    optimizer, generator = flow.optimizer(net.parameters(), lr=0.1), torch.Generator().manual_seed(0)
    always = torch.ones(sum(p.numel() for p in net.parameters()), dtype=torch.bool)
    for images, labels in zip(x, y, strict=True):
        before = [p.detach().clone() for p in net.parameters()]
        optimizer.zero_grad()
        cross_entropy(net, images, labels).backward()
        floats = [p.grad.clone() for p in net.parameters()]
        rounded = floats
        if bits < FLOAT:
            pairs = [round_to_integers(g, bits, generator if stochastic else None) for g in floats]
            rounded = [q * scale for q, scale in pairs]
        optimizer.step()
        for p, old, g in zip(net.parameters(), before, rounded, strict=True):
            torch.testing.assert_close(p.detach(), old - 0.1 * g)
        zero = torch.cat([g.flatten() == 0 for g in rounded])
        always &= zero
    seen = flow.seen()
    assert seen.count == len(zero)
    assert seen.zeros == pytest.approx(float(zero.float().mean()))
    assert seen.still == pytest.approx(float(always.float().mean()))
    assert seen.histogram.sum() == pytest.approx(1)
    assert seen.zero_histogram.sum() == pytest.approx(seen.zeros)
    largest = sum(int((g.abs() >= 10 ** EDGES[-2] * g.abs().max()).sum()) for g in floats)
    assert seen.histogram[-1] == pytest.approx(largest / seen.count)
    if not stochastic:  # to the nearest, all and only what is left of half a step becomes 0
        half = math.log10(0.5 / (2 ** (bits - 1) - 1))
        left = EDGES[1:] <= half
        np.testing.assert_allclose(seen.zero_histogram[left], seen.histogram[left])
        assert seen.zero_histogram[EDGES[:-1] >= half].sum() == 0


def test_nearest_rounding_leaves_more_gradients_at_zero_for_good(view):
    last = trained(view, gradient_bits=2, start="new", stochastic=False)[-1]
    assert last.gradients.still > last.control.gradients.still + 0.1
    assert last.run.score.accuracy < last.control.run.score.accuracy


def test_the_words_state_the_figures(view, mine):
    last = trained(view, bits=2)[-1]
    words = view.summarize(last)
    by = {label: (value, note) for label, value, note in words.cards}
    assert by["accuracy"][0] == f"{last.run.score.accuracy:.2%}"
    assert f"dense {mine.score.accuracy:.2%}" in by["accuracy"][1]
    assert by["control run: only afterwards"][0] == f"{last.control.run.score.accuracy:.2%}"
    right, others = (t.run.score.predicted == mine.data.validation.y for t in (last, last.control))
    lost, won = int((others & ~right).sum()), int((right & ~others).sum())
    assert by["control run: only afterwards"][1].startswith(f"this run lost / won {lost} / {won}, McNemar p ")
    assert by["file"][0] == f"{last.size_bytes:,} B"
    assert by["file"][1].endswith(f" · control run {last.control.size_bytes:,} B")
    assert "gradients 0 in every step" not in by  # they are float
    assert all(f"{label} {value} ({note})" in words.alt for label, (value, note) in by.items())
    how = (
        "trained weights, weight bits 2, rounded straight through (QAT), gradient bits 32 (float), AdamW, peak lr 0.002"
    )
    assert f"{how}, epochs 1: accuracy" in words.alt
    two = [f"{t.run.score.accuracy:.1%}" for t in (last, last.control)]
    assert words.title == f"2-bit weights: {two[0]} straight through, {two[1]} only afterwards"
    steps = last.run.moments[-1].step
    assert (
        words.status
        == f"trained: {steps} steps; control run trained: {steps} steps; scored on all 300 validation images"
    )


def test_the_words_state_the_gradients(view):
    last = trained(view, gradient_bits=3)[-1]
    words = view.summarize(last)
    by = {label: (value, note) for label, value, note in words.cards}
    assert by["gradients 0 in every step"] == (
        f"{last.gradients.still:.1%}",
        f"in the last step {last.gradients.zeros:.1%} of {last.gradients.count:,}"
        f" · control run {last.control.gradients.still:.1%}",
    )
    assert "file" not in by  # that of float weights is as long as it was
    two = [f"{t.run.score.accuracy:.1%}" for t in (last, last.control)]
    assert words.title == f"3-bit gradients: {two[0]} stochastically, {two[1]} to the nearest"


def test_before_the_run_the_cards_say_so(view):
    words = view.summarize(setting(view, bits=1, gradient_bits=3))
    assert [value for _, value, _ in words.cards] == ["–"] * 4
    assert words.cards[1][0] == "control run: to the nearest"
    assert "weight bits 1, rounded straight through (QAT), gradient bits 3, rounded stochastically" in words.alt
    assert words.status == "starting …"
    assert words.title == "the training starts when the controls rest"
    assert view.summarize(setting(view)).cards[1:] == [("control run", "–", "nothing is rounded")]


def test_the_picture_follows_the_run(view, every_step):
    shown = trained(view, gradient_bits=4)
    during = [t for t in shown if not t.run.ended]
    assert len(during) >= 3
    assert all(t.gradients is not None and t.size_bytes for t in during)
    beside = [t for t in shown if t.run.ended and t.control and not t.control.run.ended]
    assert len(beside) >= 3
    assert "; control run training: " in view.summarize(beside[1]).status
    *shares, end = [view.summarize(t).progress for t in shown]
    assert end is None
    assert shares == sorted(shares)
    assert max(view.summarize(t).progress for t in during) <= 0.5 <= view.summarize(beside[0]).progress
    view.draw(setting(view, gradient_bits=6))
    assert len(view.star.star.get_xdata()) == len(view.control.star.get_xdata()) == 0
    last = setting(view, gradient_bits=4)
    view.draw(last)
    assert view.summarize(last).progress is None
    place = GRADIENT_BITS.index(4)
    assert np.array(view.star.star.get_data()).ravel() == pytest.approx([place, last.run.score.accuracy])
    assert np.array(view.control.star.get_data()).ravel() == pytest.approx([place, last.control.run.score.accuracy])
    every, zero, half = view.histogram
    assert every.get_data().values.tolist() == last.gradients.histogram.tolist()
    assert zero.get_data().values.tolist() == last.gradients.zero_histogram.tolist()
    assert half.get_xdata()[0] == pytest.approx(math.log10(0.5 / 7))
    assert view.live.pixels().size[0] > 1_000


@pytest.mark.parametrize(
    ("rounded", "changes", "axis", "place"),
    [
        ("weights", dict(bits=3), "bits per weight", 2),
        ("weights", dict(gradient_bits=8), "bits per gradient value", 4),
        ("gradients", dict(bits=1, gradient_bits=2), "bits per gradient value", 0),
        ("weights", {}, "bits per weight", len(WEIGHT_BITS) - 1),
        ("gradients", {}, "bits per gradient value", len(GRADIENT_BITS) - 1),
    ],
    ids=["weights", "gradients", "both", "nothing", "nothing, of gradients"],
)
def test_a_run_stands_among_the_bits_of_what_it_rounds(mine, rounded, changes, axis, place):
    view = FewBits(mine, rounded)
    view.draw(trained(view, **changes)[-1])
    assert view.plane.get_xlabel() == axis
    assert view.star.star.get_xdata() == [place]
    assert view.flow.get_visible() != view.losses.get_visible() == (axis == "bits per weight")
    assert all(artist.axes.get_visible() for artist in view.live.moving)


def test_every_row_of_the_key_names_its_run(view):
    trained(view, bits=3)
    last = trained(view, bits=2)[-1]
    view.draw(last)
    rows = [artist.get_text() for artist in view.live.moving if hasattr(artist, "get_text")]
    assert rows[0] == f"2-bit QAT, AdamW 0.002: {last.run.score.accuracy:.1%}"
    assert rows[1] == f"control: 2-bit after, AdamW 0.002: {last.control.run.score.accuracy:.1%}"
    assert rows[2].startswith("3-bit after, AdamW 0.002: ")
    view.draw(setting(view, bits=4))
    assert [a.get_text() for a in view.live.moving if hasattr(a, "get_text")][1] == "control: 4-bit after, AdamW 0.002"


def test_points_of_the_sweeps_lead_to_their_settings():
    view = FewBits()
    for changes, count in ((dict(bits=2), 12), (dict(gradient_bits=2), 12)):
        view.draw(next(view.results(**OFF | changes)))
        points = view.live.hot()
        assert len(points) == count
        controls = view.controls()
        for *_, words, settings in points:
            assert "mean of 3 seeds, " in words
            for name, value in settings.items():
                controls[name].value = value  # refuses what it cannot be


def test_what_is_float_has_no_way_of_rounding(view):
    assert view.idle(OFF) == {"straight", "stochastic"}
    assert view.idle(OFF | dict(bits=2)) == {"stochastic"}
    assert view.idle(OFF | dict(gradient_bits=2)) == {"straight"}
    assert view.idle(OFF | dict(bits=1, gradient_bits=16)) == set()


@pytest.mark.parametrize(
    "changes",
    [
        dict(bits=2),
        dict(bits=2, straight=False, lr=1e-3, optimizer="momentum"),
        dict(gradient_bits=3, stochastic=False, start="new", optimizer="SGD", lr=0.1, epochs=2),
        dict(bits=4, gradient_bits=4),
    ],
)
def test_the_code_gives_the_accuracy_and_the_bytes(view, conv, digits, changes):
    last = trained(view, **changes)[-1]
    *lines, figures = view.code(OFF | changes).splitlines()
    scope = dict(model=conv, data=digits)
    exec("\n".join(lines), scope)  # noqa: S102 - our own
    assert eval(figures, scope) == (last.run.score.accuracy, last.size_bytes)  # noqa: S307
    assert lk.accuracy(scope["model"], digits.validation)["accuracy"] == last.run.score.accuracy


def test_a_way_of_rounding_what_is_float_makes_no_other_run(view):
    assert setting(view, straight=False).settings == setting(view, stochastic=False).settings == setting(view).settings


def test_known_runs_are_shown_again_and_others_stay_as_ghosts(view, monkeypatch):
    first = trained(view, bits=2)[-1]
    with monkeypatch.context() as patch:
        patch.setattr("labkit.topics.training_with_few_bits.panel.run_trial", lambda *a: 1 / 0)
        assert trained(view, bits=2) == trained(view, bits=2, straight=False) == []
    again = setting(view, bits=2, straight=False)
    assert (again.run, again.control.run) == (first.control.run, first.run)
    half = replace(again, run=replace(again.run, ended=False, moments=again.run.moments[:1]))
    assert view.summarize(half).progress == again.run.moments[0].progress  # the control run needs no time
    assert (again.size_bytes, again.control.size_bytes) == (first.control.size_bytes, first.size_bytes)
    for bits in (3, 4, 5):
        trained(view, bits=bits)
    ghosts = setting(view, bits=6).ghosts
    assert [(g.settings.bits, g.settings.straight) for g in ghosts] == [(4, False), (5, True), (5, False)][1 - GHOSTS :]


def test_an_overtaken_run_leaves_nothing_and_starts_no_control_run(view):
    asked = []

    def overtaken():
        asked.append(1)
        return len(asked) > 5

    trained(view, overtaken, bits=2)
    assert len(asked) < 10
    assert setting(view, bits=2, straight=False).control is None


@pytest.mark.parametrize("changes", [dict(bits=2), dict(bits=1, straight=False), dict(gradient_bits=2), {}])
def test_a_diverged_run_is_said_to(view, changes):
    last = trained(view, optimizer="SGD", lr=1e30, **changes)[-1]
    assert last.run.diverged
    view.draw(last)
    words = view.summarize(last)
    assert words.status.startswith("diverged: the loss is ")
    assert "diverged" in words.title
    assert last.size_bytes == 0


# the panel


@pytest.mark.parametrize(("rounded", "bits", "gradient_bits"), [("weights", 2, 32), ("gradients", 32, 2)])
def test_the_panel_trains_at_once_and_the_next_move_overtakes(conv, digits, rounded, bits, gradient_bits):
    panel = explore.few_bits(conv, digits, rounded)
    assert set(panel.controls) == set(OFF)
    assert (panel.settings()["bits"], panel.settings()["gradient_bits"]) == (bits, gradient_bits)
    assert panel.status.startswith("trained: ")
    assert "; control run trained: " in panel.status
    panel.controls["bits"].value = 4
    panel.controls["bits"].value = 5
    until(lambda: "weight bits 5, " in panel.alt and "; control run trained: " in panel.status)
    assert {t.settings.bits for t in panel.view.ended} == {bits, 5}


def test_an_optimizer_brings_its_usual_learning_rate(conv, digits):
    panel = explore.few_bits(conv, digits)
    for name, lr in USUAL.items():
        panel.controls["optimizer"].value = name
        assert panel.controls["lr"].value == lr


def test_an_error_is_shown_in_words(conv, digits, monkeypatch):
    panel = explore.few_bits(conv, digits)
    monkeypatch.setattr("labkit.topics.training_with_few_bits.runs.prepare_qat", lambda *a: 1 / 0)
    panel.controls["bits"].value = 4
    until(lambda: panel.status == "⚠ ZeroDivisionError: division by zero")


def test_bad_input_is_refused_in_a_sentence(refuses, conv):
    together = "model and data belong together: give both or neither"
    refuses(ValueError, together, explore.few_bits, conv)
    refuses(ValueError, "rounded is 'biases'; allowed: 'weights', 'gradients'", explore.few_bits, None, None, "biases")
