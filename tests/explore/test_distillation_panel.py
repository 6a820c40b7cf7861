"""The panel of notebook 03: the softened teacher and its pull recomputed, two students trained, what stays of them."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

import labkit as lk
from labkit import explore, losses
from labkit.compress.distill import distill
from labkit.data import take
from labkit.explore import _distillation
from labkit.explore._distillation import (
    GHOSTS,
    IMAGES,
    Distillation,
    entropy_bits,
    offered,
    pull,
    said_of_validation,
    share,
)
from labkit.explore._students import BUDGET, training_set, untrained
from tests.waiting import until

SETTINGS = dict(image=12, temperature=4, alpha=0.9, width=8, labels="few")


@pytest.fixture
def view(mine):
    return Distillation(mine)


def lesson_of(view, **changes):
    (lesson,) = view.results(**(SETTINGS | changes))
    return lesson


def trained(view, overtaken=lambda: False, **changes):
    shown = []
    view.train(SETTINGS | changes, shown.append, overtaken)
    return shown


def softmax(z):
    powers = np.exp(z - z.max())
    return powers / powers.sum()


# the teacher's word


@pytest.mark.parametrize("temperature", [1, 4, 20])
def test_the_bars_are_the_softened_softmax(view, conv, digits, temperature):
    lesson = lesson_of(view, temperature=temperature)
    view.draw(lesson)
    z = conv(digits.validation.x[lesson.image][None])[0].detach().double().numpy()
    p = softmax(z / temperature)
    assert [bar.get_width() for bar in view.soft] == pytest.approx(p, abs=1e-5)
    assert [bar.get_width() for bar in view.sharp] == pytest.approx(softmax(z), abs=1e-5)
    assert [text.get_text() for text in view.shares] == [share(v) for v in p]
    entropy = -(p * np.log2(p)).sum()
    label, value, note = view.tell(lesson).cards[1]
    assert (label, value) == (f"entropy at T = {temperature}", f"{entropy:.2f} bits")
    assert view.captions[3].get_text() == f"{2**entropy:.1f} equal classes"


@pytest.mark.parametrize(("temperature", "alpha"), [(1, 0.0), (4, 0.9), (20, 1.0)])
def test_the_pull_is_minus_the_gradient_of_the_loss_at_equal_logits(view, conv, digits, temperature, alpha):
    lesson = lesson_of(view, temperature=temperature, alpha=alpha)
    view.draw(lesson)
    z, label = lesson.said.double().numpy(), int(digits.validation.y[lesson.image])
    hard = np.eye(10)[label] - 0.1
    expected = alpha * temperature * (softmax(z / temperature) - 0.1) + (1 - alpha) * hard
    longest = np.abs(expected).max()
    assert [bar.get_width() for bar in view.pushed] == pytest.approx(expected / longest, abs=1e-5)
    assert view.strongest.get_text() == f"longest: {longest:.2f}"


def test_the_pull_of_many_images_is_that_of_each(mine, digits):
    said, y = said_of_validation(mine)[:5], digits.validation.y[:5]
    each = [pull(said[i : i + 1], y[i : i + 1], 3.0, 0.5) for i in range(5)]
    assert torch.allclose(pull(said, y, 3.0, 0.5), torch.cat(each), atol=1e-6)


def test_the_images_go_from_ambiguous_to_sure(mine):
    said = said_of_validation(mine)
    entropies = [entropy_bits(said[i].softmax(0)) for i in offered(said)]
    assert len(set(offered(said))) == len(entropies) == IMAGES
    assert entropies == sorted(entropies, reverse=True)
    every = [entropy_bits(z.softmax(0)) for z in said]
    assert (entropies[0], entropies[-1]) == (max(every), min(every))


@pytest.mark.parametrize(("p", "text"), [(1.0, "100.0%"), (0.123, "12.3%"), (0.001, "0.1%"), (3e-7, "3e-07")])
def test_a_share_at_the_end_of_a_bar(p, text):
    assert share(p) == text


def test_the_words_state_the_figures(view, mine, conv, digits):
    lesson = lesson_of(view, width=16)
    words = view.tell(lesson)
    size = len(lk.encode(lk.models.mlp(64, 16, 10)))
    assert words.cards[-1][:2] == ("file of the student", f"{size:,} B")
    ratio = re.match(r"([\d.]+)×", words.cards[-1][2])
    assert float(ratio[1]) == pytest.approx(len(lk.encode(conv)) / size, abs=0.051)
    assert words.cards[0][1] == f"{lk.accuracy(conv, digits.validation)['accuracy']:.2%}"
    assert words.status == "scored on all 300 validation images"
    assert all(f"{label} {value} ({note})" in words.alt for label, value, note in words.cards)
    truth = digits.classes[int(digits.validation.y[lesson.image])]
    assert f"image of: {truth}" in words.alt
    assert [card[1] for card in words.cards[2:4]] == ["–", "–"]


# the students


def test_the_untrained_student_is_the_same_one_and_draws_no_number_of_others():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    untrained.cache_clear()
    first = untrained(64, 8, 10)
    assert torch.get_rng_state().equal(before)
    untrained.cache_clear()
    assert first[1].weight.equal(untrained(64, 8, 10)[1].weight)


@pytest.mark.parametrize(
    ("labels", "alone", "taught", "alpha"),
    [("few", 598, 598, 0.7), ("mixed", 598, 1197, 1.0), ("all", 1197, 1197, 0.7)],
)
def test_what_the_students_are_trained_on(digits, labels, alone, taught, alpha):
    first, second = (training_set(digits.train, labels, t, temperature=4, alpha=0.7) for t in (False, True))
    assert (len(first[0]), len(second[0]), second[1]) == (alone, taught, alpha)
    assert first[0].y.equal(digits.train.y[:alone])
    assert f"{taught:,} {'images, no label' if labels == 'mixed' else 'labels'}" in second[2]


@pytest.mark.parametrize("labels", ["few", "mixed"])
def test_both_students_are_those_that_labkit_trains(view, conv, digits, labels):
    last = trained(view, labels=labels, temperature=2)[-1]
    few = take(digits.train, 598)
    how = dict(lr=3e-3, progress=False)
    alone, _ = lk.fit(untrained(64, 8, 10), few, epochs=2 * BUDGET, **how)
    if labels == "few":
        taught, _ = distill(conv, untrained(64, 8, 10), few, temperature=2, alpha=0.9, epochs=2 * BUDGET, **how)
    else:
        loss = losses.distillation(conv, 2, alpha=1.0)
        taught, _ = lk.fit(untrained(64, 8, 10), digits.train, loss=loss, epochs=BUDGET, **how)
    expected = [lk.accuracy(m, digits.validation)["correct"] for m in (alone, taught)]
    assert [s.taught for s in last.students] == [False, True]
    assert [s.score.correct for s in last.students] == pytest.approx(expected, abs=2)  # sums in another order
    assert [s.size_bytes for s in last.students] == [len(lk.encode(m)) for m in (alone, taught)]
    paired = lk.compare(alone, taught, digits.validation)
    label, _, note = view.tell(last).cards[3]
    assert label == "student taught"
    lost, won = re.search(r"lost / won (\d+) / (\d+), McNemar p", note).groups()
    assert [int(lost), int(won)] == pytest.approx([paired["lost"], paired["won"]], abs=2)


def test_the_curves_are_streamed_and_end_at_the_score(view, every_step):
    shown = trained(view)
    done = [student.done for lesson in shown for student in lesson.students if student.taught]
    assert len(done) > 10
    assert done == sorted(done)
    assert done[-1] == 1
    for lesson in shown[-1:]:
        for student in lesson.students:
            assert student.curve[-1] == (1.0, student.score.accuracy)
    view.draw(shown[-1])
    x, y = view.taught.get_data()
    assert x[-1] == 100
    assert y[-1] == pytest.approx(float(lk.plots.logit(shown[-1].students[1].score.accuracy)))
    unfinished = next(lesson for lesson in shown if len(lesson.students) == 2 and lesson.students[1].done < 1)
    assert (
        "lost" not in view.tell(unfinished).cards[3][2]
    )  # that would compare one that is trained with one that is not
    assert shown[0].doing.startswith("alone: ")
    assert any(lesson.doing.startswith("asking the teacher about 598 images") for lesson in shown)
    assert shown[-1].doing == "both trained"


@pytest.mark.parametrize("calls", [0, 3, 35])
def test_an_overtaken_run_stops_and_leaves_nothing(view, calls):
    asked = []

    def overtaken():
        asked.append(1)
        return len(asked) > calls

    shown = trained(view, overtaken)
    assert len(asked) == calls + 1
    assert not [lesson for lesson in shown if lesson.doing == "both trained"]
    assert lesson_of(view).students == ()


def test_the_teacher_is_asked_once(view, monkeypatch):
    trained(view)
    monkeypatch.setattr(_distillation, "answers", None)
    assert trained(view)[-1].doing == "both trained"


def test_students_stay_when_a_control_moves_and_earlier_ones_fade(view):
    pairs = [trained(view, width=width)[-1].students for width in (4, 8, 16)]
    lesson = lesson_of(view, temperature=8)
    assert lesson.students == pairs[-1]
    assert lesson.ghosts == pairs[0] + pairs[1]
    view.draw(lesson)
    drawn = [len(ghost.get_data()[0]) > 0 for ghost in view.ghosts]
    assert drawn == [True] * 4 + [False] * (2 * GHOSTS - 4)
    assert view.tell(lesson).cards[2][1] == f"{pairs[-1][0].score.accuracy:.2%}"
    for _ in range(GHOSTS):
        trained(view, width=4)
    assert len(lesson_of(view).ghosts) == 2 * GHOSTS


def test_students_of_another_teacher_are_not_shown(view, mine):
    trained(view)
    other = replace(mine, name="another")
    view._own = other
    assert lesson_of(view).students == ()
    view._own = mine
    assert len(lesson_of(view).students) == 2


# the panel


def test_the_panel_trains_behind_its_button_and_is_overtaken_by_a_move(conv, digits):
    panel = explore.distillation(conv, digits)
    assert set(panel.controls) == {"image", "temperature", "alpha", "width", "labels"}
    panel.controls["labels"].value = "few"
    button = panel.children[0].children[-1]

    button.click()
    until(lambda: panel.live.status.startswith("both trained"))
    assert "student taught" in panel.live.alt
    assert "press the button" not in panel.live.alt
    panel.controls["temperature"].value = 8
    until(lambda: panel.live.status == "scored on all 300 validation images")
    assert "entropy at T = 8" in panel.live.alt
    button.click()
    panel.controls["temperature"].value = 2
    until(lambda: button.description == "train both students")  # the overtaken job has ended
    until(lambda: panel.live.status == "scored on all 300 validation images")
    assert len(panel.view._trained) == 1
    assert "(T = 4, " in panel.live.alt  # the students of the first run: those of T = 8 were given up
    assert "T = 8" not in panel.live.alt


def test_bad_input_is_refused_in_a_sentence(refuses, conv, digits):
    together = "model and data belong together: give both or neither"
    refuses(ValueError, together, explore.distillation, conv)
    refuses(TypeError, "model is a Data; allowed: a torch.nn.Module", explore.distillation, digits, conv)
