"""The panels of notebook 02c: runs and twins are labkit's own, zeros are counted, a move overtakes."""

import math

import numpy as np
import pytest
import torch

import labkit as lk
from labkit import explore, plots
from labkit.compress.gradients import integer_gradients, round_to_integers
from labkit.explore._few_bits import FLOAT, GRADIENT_BITS, USUAL, WEIGHT_BITS, FewBits
from labkit.explore._few_bits_runs import EDGES, Flow, Setting
from labkit.explore._training import GHOSTS
from labkit.losses import cross_entropy
from labkit.models import mlp
from labkit.optim import TORCHS
from labkit.sweep import fresh
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
    model = fresh(conv, 0) if start == "new" else conv
    model = lk.prepare_qat(model, bits) if straight and bits < FLOAT else model
    optimizer = TORCHS[other.get("optimizer", "AdamW")]
    if gradient_bits < FLOAT:
        optimizer = integer_gradients(gradient_bits, stochastic=stochastic, optimizer=optimizer)
    model, _ = lk.fit(model, digits.train, epochs=1, lr=2e-3, progress=False, optimizer=optimizer)
    if bits == FLOAT:
        return model
    return lk.finish_qat(model) if straight else lk.quantize(model, bits)


@pytest.mark.parametrize(
    ("changes", "twin"),
    [
        (dict(bits=2), dict(straight=False)),
        (dict(bits=1, straight=False), dict(straight=True)),
        (dict(gradient_bits=2, start="new"), dict(stochastic=False)),
        (dict(bits=3, gradient_bits=4, stochastic=False, optimizer="SGD"), dict(stochastic=True)),
        ({}, None),
    ],
    ids=["QAT", "afterwards", "gradients", "both", "float"],
)
def test_the_run_and_its_twin_are_those_that_fit_does(view, conv, digits, changes, twin):
    last = trained(view, **changes)[-1]
    model = expected(conv, digits, **changes)
    assert last.run.ended
    assert last.run.score.correct == lk.accuracy(model, digits.validation)["correct"]
    assert last.size_bytes == len(lk.encode(model))
    if twin is None:
        assert last.twin is None
    else:
        other = expected(conv, digits, **changes | twin)
        assert last.twin.run.score.correct == lk.accuracy(other, digits.validation)["correct"]
        assert last.twin.size_bytes == len(lk.encode(other))


@pytest.mark.parametrize(("bits", "stochastic"), [(2, True), (3, False), (FLOAT, True)])
def test_zeros_of_the_gradients_are_counted(bits, stochastic):
    torch.manual_seed(1)
    net, x, y = mlp(8, 6, 3), torch.randn(5, 20, 8), torch.randint(3, (5, 20))
    flow = Flow(Setting("new", FLOAT, True, bits, stochastic, "SGD", 0.1, 1))
    stepper, generator = flow.optimizer(net.parameters(), lr=0.1), torch.Generator().manual_seed(0)
    always = torch.ones(sum(p.numel() for p in net.parameters()), dtype=torch.bool)
    for images, labels in zip(x, y, strict=True):
        before = [p.detach().clone() for p in net.parameters()]
        stepper.zero_grad()
        cross_entropy(net, images, labels).backward()
        floats = [p.grad.clone() for p in net.parameters()]
        rounded = floats
        if bits < FLOAT:
            pairs = [round_to_integers(g, bits, generator if stochastic else None) for g in floats]
            rounded = [q * scale for q, scale in pairs]
        stepper.step()
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
    assert last.gradients.still > last.twin.gradients.still + 0.1
    assert last.run.score.accuracy < last.twin.run.score.accuracy


def test_the_words_state_the_figures(view, mine):
    last = trained(view, bits=2)[-1]
    words = view.tell(last)
    by = {label: (value, note) for label, value, note in words.cards}
    assert by["accuracy"][0] == f"{last.run.score.accuracy:.2%}"
    assert f"dense {mine.score.accuracy:.2%}" in by["accuracy"][1]
    assert by["twin: only afterwards"][0] == f"{last.twin.run.score.accuracy:.2%}"
    right, others = (t.run.score.predicted == mine.data.validation.y for t in (last, last.twin))
    lost, won = int((others & ~right).sum()), int((right & ~others).sum())
    assert by["twin: only afterwards"][1].startswith(f"this run lost / won {lost} / {won}, McNemar p ")
    assert by["file"][0] == f"{last.size_bytes:,} B"
    assert by["file"][1].endswith(f" · twin {last.twin.size_bytes:,} B")
    assert by["gradients that are 0"][0] == f"{last.gradients.zeros:.1%}"
    assert by["0 in every step"] == (
        f"{last.gradients.still:.1%}",
        f"of {last.run.moments[-1].step} steps · twin {last.twin.gradients.still:.1%}",
    )
    assert all(f"{label} {value} ({note})" in words.alt for label, (value, note) in by.items())
    setting = "trained weights, weights of 2 bits rounded straight through, float gradients, AdamW, lr 0.002, 1 epoch"
    assert setting in words.alt
    steps = last.run.moments[-1].step
    assert words.status == f"trained: {steps} steps; twin trained: {steps} steps; scored on all 300 validation images"


def test_before_the_run_the_cards_say_so(view):
    words = view.tell(setting(view, bits=1, gradient_bits=3))
    assert [value for _, value, _ in words.cards] == ["–"] * 5
    assert words.cards[1][0] == "twin: to the nearest"
    assert "weights of 1 bit rounded straight through, gradients of 3 bits rounded stochastically" in words.alt
    assert words.status == "starting …"
    assert view.tell(setting(view)).cards[1] == ("twin", "–", "nothing is rounded")


def test_the_picture_follows_the_run(view, every_step):
    shown = trained(view, gradient_bits=4)
    during = [t for t in shown if not t.run.ended]
    assert len(during) >= 3
    assert all(t.gradients is not None and t.size_bytes for t in during)
    beside = [t for t in shown if t.run.ended and t.twin and not t.twin.run.ended]
    assert len(beside) >= 3
    assert "; twin training: " in view.tell(beside[1]).status
    last = shown[-1]
    view.draw(last)
    place, height = GRADIENT_BITS.index(4), float(plots.logit(last.run.score.accuracy))
    ax = view.gradients
    assert np.array(view.stars[1].get_data()).ravel() == pytest.approx([place, np.clip(height, *ax.get_ylim())])
    assert len(view.stars[0].get_xdata()) == len(view.twins[0].get_xdata()) == 0  # its weights are float
    assert view.every.get_data().values.tolist() == last.gradients.histogram.tolist()
    assert view.zero.get_data().values.tolist() == last.gradients.zero_histogram.tolist()
    assert view.half.get_xdata()[0] == pytest.approx(math.log10(0.5 / 7))
    assert view.live.png().startswith(b"\x89PNG")


def test_a_run_stands_among_the_bits_of_what_it_rounds(view):
    for changes, where in (
        (dict(bits=3), (2, None)),
        (dict(gradient_bits=8), (None, 4)),
        (dict(bits=1, gradient_bits=2), (0, 0)),
        ({}, (len(WEIGHT_BITS) - 1, len(GRADIENT_BITS) - 1)),
    ):
        view.draw(trained(view, **changes)[-1])
        assert tuple(next(iter(star.get_xdata()), None) for star in view.stars) == where


def test_a_way_of_rounding_what_is_float_makes_no_other_run(view):
    assert setting(view, straight=False).setting == setting(view, stochastic=False).setting == setting(view).setting


def test_a_twin_that_ran_is_not_run_again_and_others_stay_as_ghosts(view):
    first = trained(view, bits=2)
    again = trained(view, bits=2, straight=False)
    assert again[0].twin.setting == first[-1].setting
    assert all(t.twin.run == first[-1].run for t in again)
    for bits in (3, 4, 5):
        trained(view, bits=bits)
    ghosts = setting(view, bits=6).ghosts
    assert [(g.setting.bits, g.setting.straight) for g in ghosts] == [(4, False), (5, True), (5, False)][1 - GHOSTS :]


def test_an_overtaken_run_leaves_nothing_and_starts_no_twin(view):
    asked = []

    def overtaken():
        asked.append(1)
        return len(asked) > 5

    trained(view, overtaken, bits=2)
    assert len(asked) < 10
    assert setting(view, bits=2, straight=False).twin is None


@pytest.mark.parametrize("changes", [dict(bits=2), dict(bits=1, straight=False), dict(gradient_bits=2), {}])
def test_a_diverged_run_is_said_to(view, changes):
    last = trained(view, optimizer="SGD", lr=1e30, **changes)[-1]
    assert last.run.diverged
    view.draw(last)
    words = view.tell(last)
    assert words.status.startswith("diverged: the loss is ")
    assert words.cards[2][:2] == ("file", "–")


# the panel


@pytest.mark.parametrize(("rounded", "bits", "gradient_bits"), [("weights", 2, 32), ("gradients", 32, 2)])
def test_the_panel_trains_at_once_and_the_next_move_overtakes(conv, digits, rounded, bits, gradient_bits):
    panel = explore.few_bits(conv, digits, rounded)
    assert set(panel.controls) == set(OFF)
    assert (panel.settings()["bits"], panel.settings()["gradient_bits"]) == (bits, gradient_bits)
    assert panel.live.status.startswith("trained: ")
    assert "; twin trained: " in panel.live.status
    panel.controls["bits"].value = 4
    panel.controls["bits"].value = 5
    until(lambda: "weights of 5 bits" in panel.live.alt and "; twin trained: " in panel.live.status)
    assert {t.setting.bits for t in panel.view._ended} == {bits, 5}


def test_an_optimizer_brings_its_usual_learning_rate(conv, digits):
    panel = explore.few_bits(conv, digits)
    for name, lr in USUAL.items():
        panel.controls["optimizer"].value = name
        assert panel.controls["lr"].value == lr


def test_an_error_is_shown_in_words(conv, digits, monkeypatch):
    panel = explore.few_bits(conv, digits)
    monkeypatch.setattr("labkit.explore._few_bits_runs.prepare_qat", lambda *a: 1 / 0)
    panel.controls["bits"].value = 4
    until(lambda: panel.live.status == "⚠ ZeroDivisionError: division by zero")


def test_bad_input_is_refused_in_a_sentence(refuses, conv):
    together = "model and data belong together: give both or neither"
    refuses(ValueError, together, explore.few_bits, conv)
    refuses(ValueError, "rounded is 'biases'; allowed: 'weights', 'gradients'", explore.few_bits, None, None, "biases")
