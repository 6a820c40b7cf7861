"""The panel of notebook 03: softened teacher and gradient recomputed; two students trained, and compressed."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import labkit as lk
from labkit import explore, losses
from labkit.compress.distill import distill, teacher_outputs
from labkit.data import take
from labkit.topics.knowledge_distillation import panel as distillation_panel
from labkit.topics.knowledge_distillation.lesson import (
    IMAGES,
    WIDTHS,
    Settings,
    entropy_bits,
    offered,
    pull,
    share,
)
from labkit.topics.knowledge_distillation.panel import GHOSTS, Distillation
from labkit.topics.knowledge_distillation.students import BUDGET, training_set, untrained
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


# the teacher's predictions


@pytest.mark.parametrize("temperature", [1, 4, 20])
def test_the_bars_are_the_softened_softmax(view, conv, digits, temperature):
    lesson = lesson_of(view, temperature=temperature)
    view.draw(lesson)
    z = conv(digits.validation.x[lesson.image][None])[0].detach().double().numpy()
    p = softmax(z / temperature)
    assert [bar.get_width() for bar in view.soft] == pytest.approx(p, abs=1e-5)
    assert list(view.sharp.get_xdata()) == pytest.approx(softmax(z), abs=1e-5)
    assert [text.get_text() for text in view.shares] == [share(v) for v in p]
    entropy = -(p * np.log2(p)).sum()
    label, value, note = view.summarize(lesson).cards[0]
    assert (label, value) == (f"entropy at T = {temperature}", f"{entropy:.2f} bits")
    sharp = -(softmax(z) * np.log2(softmax(z))).sum()
    assert note == f"like {2**entropy:.1f} equal classes; at T = 1: {sharp:.2f} bits"
    assert view.summarize(lesson).title == f"as uncertain as {2**entropy:.1f} equal classes"


@pytest.mark.parametrize(("temperature", "alpha"), [(1, 0.0), (4, 0.9), (20, 1.0)])
def test_the_pull_is_minus_the_gradient_of_the_loss_at_equal_logits(view, conv, digits, temperature, alpha):
    lesson = lesson_of(view, temperature=temperature, alpha=alpha)
    view.draw(lesson)
    z, label = lesson.logits.double().numpy(), int(digits.validation.y[lesson.image])
    hard = np.eye(10)[label] - 0.1
    expected = alpha * temperature * (softmax(z / temperature) - 0.1) + (1 - alpha) * hard
    longest = np.abs(expected).max()
    assert [bar.get_width() for bar in view.pushed] == pytest.approx(expected / longest, abs=1e-5)
    assert view.strongest.get_text() == f"longest: {longest:.2f}"


def test_without_labels_the_pull_is_the_teachers_alone_and_alpha_is_idle(view, digits):
    pulled = []
    for alpha in (0.2, 1.0):
        lesson = lesson_of(view, labels="mixed", alpha=alpha)
        view.draw(lesson)
        pulled.append([bar.get_width() for bar in view.pushed])
    z = lesson.logits.double().numpy()
    expected = softmax(z / 4) - 0.1
    assert pulled[0] == pulled[1] == pytest.approx(expected / np.abs(expected).max(), abs=1e-5)
    assert [view.idle(SETTINGS | {"labels": labels}) for labels in ("few", "mixed", "all")] == [set(), {"alpha"}, set()]
    for labels in ("few", "all"):  # where it is not idle, it does something
        view.draw(lesson_of(view, labels=labels, alpha=0.2))
        assert [bar.get_width() for bar in view.pushed] != pytest.approx(pulled[0], abs=1e-3)


def test_the_pull_of_many_images_is_that_of_each(mine, digits):
    said, y = teacher_outputs(mine.model, digits.validation.x)[:5], digits.validation.y[:5]
    each = [pull(said[i : i + 1], y[i : i + 1], 3.0, 0.5) for i in range(5)]
    assert torch.allclose(pull(said, y, 3.0, 0.5), torch.cat(each), atol=1e-6)


def test_the_images_go_from_ambiguous_to_sure(mine):
    said = teacher_outputs(mine.model, mine.data.validation.x)
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
    words = view.summarize(lesson)
    size = len(lk.encode(lk.models.mlp(64, 16, 10)))
    label, value, note = words.cards[-1]
    assert (label, value) == ("file of the student", f"{size:,} B")
    assert float(re.match(r"([\d.]+)×", note)[1]) == pytest.approx(len(lk.encode(conv)) / size, abs=0.051)
    accuracy = lk.accuracy(conv, digits.validation)["accuracy"]
    assert note.endswith(f"teacher {lk.drawing.kilobytes(len(lk.encode(conv)))}, {accuracy:.2%}")
    assert words.status == "scored on all 300 validation images"
    assert all(f"{label} {value} ({note})" in words.alt for label, value, note in words.cards)
    truth = digits.classes[int(digits.validation.y[lesson.image])]
    taken = digits.classes[int(conv(digits.validation.x[lesson.image][None]).argmax())]
    assert f"label: {truth}, teacher: {taken}" in words.alt
    view.draw(lesson)
    assert view.caption.get_text() == f"label: {truth}\nteacher: {taken}"
    assert [card[1] for card in words.cards[1:3]] == ["–", "–"]
    assert not view.students.get_visible()


# the measured sweep


@pytest.fixture
def swept(mine):
    """The view of a teacher for which a sweep ships, and the sweep."""
    rows = [
        (method, width, seed, 0.5 + 0.05 * i + width / 1000 + seed / 100)
        for i, method in enumerate(
            ("few labels", "few labels, teacher", "teacher, no labels", "all labels", "all labels, teacher")
        )
        for width in (8, 16, 32, 64, 128)
        for seed in (0, 1, 2)
    ]
    records = pd.DataFrame(rows, columns=["method", "width", "seed", "accuracy"])
    view = Distillation(mine)
    view._sweep = lambda dense: records
    return view, records


@pytest.mark.parametrize(
    ("labels", "methods"),
    [
        ("few", ("few labels", "few labels, teacher")),
        ("mixed", ("few labels", "teacher, no labels")),
        ("all", ("all labels", "all labels, teacher")),
    ],
)
def test_before_a_training_the_measured_pair_is_shown_and_named(swept, labels, methods):
    view, records = swept
    lesson = lesson_of(view, width=16, labels=labels)
    view.draw(lesson)
    words = view.summarize(lesson)
    at = [records[(records["width"] == 16) & (records["method"] == m)]["accuracy"] for m in methods]
    for seeds, mark, (_, value, note) in zip(at, view.marks, words.cards[1:3], strict=True):
        assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (16, pytest.approx(seeds.mean()))
        assert value == f"{seeds.mean():.2%}"
        assert note == f"measured, 3 seeds, T = 4: {seeds.min():.1%}–{seeds.max():.1%}"
    gain = f"{100 * (at[1].mean() - at[0].mean()):+.1f} points"
    assert view.points.get_text() == f"width 16: {gain}"
    assert words.title == f"teacher: {gain} (measured, T = 4)"
    alpha = 1 if labels == "mixed" else 0.9
    assert f"students measured beforehand: 3 seeds, T = 4, α = {alpha}, as many steps as 6 epochs" in words.status
    assert len(view.live.hot()) == 10
    for _, _, said, settings in view.live.hot():
        method, width = re.match(r"(.+), width (\d+): ", said).groups()
        mean = records[(records["method"] == method) & (records["width"] == int(width))]["accuracy"].mean()
        assert method in methods
        assert f": {mean:.1%}\nmeasured" in said
        assert settings == dict(width=int(width), temperature=4, alpha=0.9)


def test_a_width_that_was_not_measured_has_no_marks(swept):
    view, _ = swept
    lesson = lesson_of(view, width=4)
    view.draw(lesson)
    assert [card[1] for card in view.summarize(lesson).cards[1:3]] == ["–", "–"]
    assert all(np.isnan(mark.get_ydata()).all() for mark in view.marks)
    assert view.points.get_text() == "not measured"


def test_a_trained_pair_takes_the_place_of_the_sweep_at_its_settings_only(swept):
    view, _ = swept
    pair = trained(view)[-1].students
    here, there = lesson_of(view, image=3), lesson_of(view, temperature=2)
    assert (here.students, there.students) == (pair, ())
    assert there.ghosts == pair
    for lesson, shows in ((here, "curves"), (there, "sweep"), (here, "curves")):
        assert view.shows(lesson) == shows
        view.draw(lesson)
        assert view.students.get_visible()
    assert "measured" not in view.summarize(here).status + view.summarize(here).title
    assert view.summarize(there).cards[1][2].startswith("measured")


def test_the_shipped_teachers_open_with_measured_students():
    view = Distillation()
    lesson = next(view.results())
    rows = lk.sweep.shipped_sweep("distillation", "lenet-5", "fashion-mnist").query("width == 32")
    means = rows.groupby("method")["accuracy"].mean()
    values = [card[1] for card in view.summarize(lesson).cards[1:3]]
    assert values == [f"{means['few labels']:.2%}", f"{means['teacher, no labels']:.2%}"]
    assert view.networks[0] == ("lenet-5", "fashion-mnist")
    view.draw(lesson)
    controls = view.controls()
    for _, _, _, settings in view.live.hot():
        assert all(value in controls[name].values for name, value in settings.items())


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
    settings = Settings(labels=labels, alpha=0.7).effective
    first, second = (training_set(digits.train, settings, distilled) for distilled in (False, True))
    assert (len(first[0]), len(second[0]), settings.alpha) == (alone, taught, alpha)
    assert first[0].y.equal(digits.train.y[:alone])
    assert f"{taught:,} {'unlabelled' if labels == 'mixed' else 'labels'}" in second[1]


@pytest.mark.parametrize("labels", ["few", "mixed"])
def test_both_students_are_those_that_labkit_trains(view, conv, digits, labels):
    last = trained(view, labels=labels, temperature=2)[-1]
    few = take(digits.train, 598)
    how = dict(lr=3e-3, progress=False)
    alone, _ = lk.fit(untrained(64, 8, 10), few, epochs=2 * BUDGET, **how)
    if labels == "few":
        taught, _ = distill(untrained(64, 8, 10), few, teacher=conv, temperature=2, alpha=0.9, epochs=2 * BUDGET, **how)
    else:
        loss = losses.distillation(conv, 2, alpha=1.0)
        taught, _ = lk.fit(untrained(64, 8, 10), digits.train, loss=loss, epochs=BUDGET, **how)
    expected = [lk.accuracy(m, digits.validation)["correct"] for m in (alone, taught)]
    assert [s.distilled for s in last.students] == [False, True]
    assert [s.score.correct for s in last.students] == pytest.approx(expected, abs=2)  # sums in another order
    assert [last.size_bytes] * 2 == [len(lk.encode(m)) for m in (alone, taught)]
    paired = lk.compare(alone, taught, digits.validation)
    words = view.summarize(last)
    label, value, note = words.cards[2]
    assert (label, value) == ("student distilled", f"{last.students[1].score.accuracy:.2%}")
    lost, won = re.search(r"lost / won (\d+) / (\d+)$", note).groups()
    assert [int(lost), int(won)] == pytest.approx([paired["lost"], paired["won"]], abs=2)
    gain = 100 * (last.students[1].score.accuracy - last.students[0].score.accuracy)
    assert words.title.startswith(f"teacher: {gain:+.1f} points, McNemar p ")


def test_the_curves_are_streamed_and_end_at_the_score(view, every_step):
    shown = trained(view)
    done = [student.done for lesson in shown for student in lesson.students if student.distilled]
    assert len(done) > 10
    assert done == sorted(done)
    assert done[-1] == 1
    for lesson in shown[-1:]:
        for student in lesson.students:
            assert student.curve[-1] == (1.0, student.score.accuracy)
    view.draw(shown[-1])
    x, y = view.distilled.get_data()
    assert x[-1] == 100
    assert y[-1] == pytest.approx(float(shown[-1].students[1].score.accuracy))
    unfinished = next(lesson for lesson in shown if len(lesson.students) == 2 and lesson.students[1].done < 1)
    words = view.summarize(unfinished)
    assert "lost" not in words.cards[2][2]  # that would compare one that is trained with one that is not
    assert words.title == "two students in training"
    progress = [view.summarize(lesson).progress for lesson in shown[:-1]]
    assert progress == sorted(progress)
    assert view.summarize(shown[-1]).progress is None
    assert shown[0].doing == "student alone: starting"
    assert shown[1].doing.startswith("student alone: ")
    assert any(lesson.doing.startswith("evaluating the teacher on 598 images") for lesson in shown)
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


def test_the_teacher_is_asked_once_and_a_pair_is_trained_once(view, monkeypatch):
    pair = trained(view)[-1].students
    monkeypatch.setattr(distillation_panel, "teacher_outputs", None)
    assert trained(view, temperature=2)[-1].doing == "both trained"
    monkeypatch.setattr(distillation_panel, "train_student", None)
    again = trained(view, image=5)
    assert [lesson.students for lesson in again] == [pair]


def test_students_stay_when_a_control_moves_and_earlier_ones_fade(view):
    pairs = [trained(view, width=width)[-1].students for width in (4, 8, 16)]
    lesson = lesson_of(view, temperature=8)
    assert lesson.students == pairs[-1]
    assert lesson.ghosts == pairs[0] + pairs[1]
    view.draw(lesson)
    drawn = [len(ghost.get_data()[0]) > 0 for ghost in view.ghosts]
    assert drawn == [True] * 4 + [False] * (2 * GHOSTS - 4)
    assert view.summarize(lesson).cards[1][1] == f"{pairs[-1][0].score.accuracy:.2%}"
    for temperature in (1, 2, 3)[:GHOSTS]:
        trained(view, width=4, temperature=temperature)
    assert len(lesson_of(view).ghosts) == 2 * GHOSTS


def test_students_of_another_teacher_are_not_shown(view, mine):
    trained(view)
    other = replace(mine, name="another")
    view.own = other
    assert lesson_of(view).students == ()
    view.own = mine
    assert len(lesson_of(view).students) == 2


@pytest.mark.parametrize("labels", ["few", "mixed", "all"])
def test_the_code_gives_both_students(view, conv, digits, labels):
    settings = SETTINGS | dict(labels=labels, temperature=2, alpha=0.2)
    last = trained(view, **settings)[-1]
    names = dict(model=conv, data=digits)
    exec(view.code(settings), names)  # noqa: S102
    assert f"temperature=2, alpha={1.0 if labels == 'mixed' else 0.2}, " in view.code(settings)
    x = digits.validation.x
    for name, student in zip(("alone", "small"), last.students, strict=True):
        other = names[name](x).argmax(1) != student.score.predicted
        assert other.sum() <= 3  # sums in another order
    assert len(lk.encode(names["small"])) == lesson_of(view).size_bytes


# the panel


def test_the_panel_trains_behind_its_button_and_is_overtaken_by_a_move(conv, digits):
    panel = explore.distillation(conv, digits)
    assert list(panel.controls) == ["image", "temperature", "alpha", "width", "labels"]
    assert panel.controls["width"].values == list(WIDTHS)
    assert panel.frame["places"]["alpha"]["disabled"]
    panel.controls["labels"].value = "few"
    assert not panel.frame["places"]["alpha"]["disabled"]

    panel.press()
    until(lambda: panel.status.startswith("both trained"))
    assert "student distilled" in panel.alt
    assert "the button" not in panel.alt
    panel.controls["temperature"].value = 8
    until(lambda: panel.status == "scored on all 300 validation images")
    assert "entropy at T = 8" in panel.alt
    panel.press()
    panel.controls["temperature"].value = 2
    until(lambda: not panel.works)  # the overtaken job has ended
    until(lambda: panel.status == "scored on all 300 validation images")
    assert len(panel.view.pairs) == 1
    assert "(T = 4, " in panel.alt  # the students of the first run: those of T = 8 were given up
    assert "T = 8" not in panel.alt


def test_a_frame_is_small(conv, digits):
    panel = explore.distillation(conv, digits)
    assert len(json.dumps(panel.frame)) < 10_000


def test_bad_input_is_refused_in_a_sentence(refuses, conv, digits):
    together = "model and data belong together: give both or neither"
    refuses(ValueError, together, explore.distillation, conv)
    refuses(TypeError, "model is a Data; allowed: a torch.nn.Module", explore.distillation, digits, conv)
