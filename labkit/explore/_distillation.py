"""Panel of notebook 03: what a temperature does to a teacher's word, and what a student makes of it."""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from labkit import plots
from labkit.compress.distill import answers
from labkit.data import Data
from labkit.explore import _controls, _words
from labkit.explore._figure import LiveFigure
from labkit.explore._panel import Card, Panel, Words
from labkit.explore._start import Dense, Key, at_least, shipped, start
from labkit.explore._students import FEW, Student, train_student, training_set, untrained
from labkit.losses import mixed_loss
from labkit.measure import size_bytes

IMAGES = 20  # on offer, from the most ambiguous one to the surest
TEMPERATURES = (1, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20)
WIDTHS = (4, 8, 16, 32, 64, 128)
GHOSTS = 3  # earlier pairs of students that stay in the picture


@dataclass(frozen=True)
class Lesson:
    """What the teacher says of one image at a temperature, and the students that were trained so far."""

    dense: Dense  # the teacher
    image: int  # its place in validation
    said: Tensor  # the teacher's logits, (classes,)
    temperature: float
    alpha: float
    size_bytes: int  # of the student's file
    students: tuple[Student, ...]  # at most one alone and one taught
    ghosts: tuple[Student, ...]
    doing: str = ""


def said_of_validation(dense: Dense) -> Tensor:
    """The teacher's logits on every validation image."""
    return answers(dense.model, dense.data.validation.x)


def entropy_bits(p: Tensor) -> float:
    """-Σ p log₂ p."""
    return float(torch.special.entr(p).sum()) / math.log(2)


def offered(said: Tensor) -> list[int]:
    """Places of IMAGES images, from the one whose softmax has most entropy to the one with least, ever wider apart."""
    order = torch.special.entr(said.softmax(1)).sum(1).argsort(descending=True, stable=True)
    ranks = np.maximum(range(IMAGES), np.geomspace(1, len(said), IMAGES).round().astype(int) - 1)
    return order[ranks.tolist()].tolist()


def pull(said: Tensor, y: Tensor, temperature: float, alpha: float) -> Tensor:
    """Where the loss pushes the logits of a student that knows nothing: minus its gradient at z = 0, (n, classes)."""
    z = torch.zeros_like(said, requires_grad=True)
    (gradient,) = torch.autograd.grad(len(said) * mixed_loss(z, said, y, temperature, alpha), z)
    return -gradient


class Distillation:
    """The view: image, the teacher's distribution, its pull on a student, the students' learning curves."""

    def __init__(self, own: Dense | None = None) -> None:
        self.live, self._own = LiveFigure(10.4, 4.6), own
        self._said = functools.cache(said_of_validation)  # the view's own: it goes when the view goes
        self._shown: Dense | None = None
        self._trained: list[tuple[Dense, tuple[Student, ...]]] = []
        self._answers: dict[tuple[Dense, int, int], Tensor] = {}
        figure = self.live.figure
        self.image = figure.add_axes((0.005, 0.47, 0.15, 0.34))
        self.bars = figure.add_axes((0.245, 0.13, 0.215, 0.775))
        self.pulls = figure.add_axes((0.475, 0.13, 0.135, 0.775))
        self.curves = figure.add_axes((0.69, 0.13, 0.3, 0.775))
        places = (0.43, 0.375, 0.29, 0.235)
        self.captions = [figure.text(0.08, y, "", fontsize=10, ha="center", va="top") for y in places]
        self.strongest = figure.text(0.5425, 0.11, "", fontsize=9, ha="center", va="top")

    def results(
        self, image: int, temperature: float, alpha: float, width: int, labels: str, checkpoint: Key | None = None
    ) -> Iterator[Lesson]:
        """One setting of the controls, measured on the teacher; `labels` is what the button trains on."""
        dense: Dense = shipped(checkpoint) if checkpoint else self._own  # type: ignore[assignment]
        said = self._said(dense)
        place = offered(said)[image]
        size = size_bytes(untrained(dense.data.train.x[0].numel(), width, said.shape[1]))
        pairs = [students for teacher, students in self._trained if teacher is dense]
        ghosts = tuple(student for pair in pairs[-1 - GHOSTS : -1] for student in pair)
        latest = pairs[-1] if pairs else ()
        yield Lesson(dense, place, said[place], temperature, alpha, size, latest, ghosts)

    def draw(self, lesson: Lesson) -> None:
        """Move image, bars and curves."""
        if lesson.dense is not self._shown:
            self._draw_still(lesson.dense)
        self.picture.set_data(_words.pictures(lesson.dense.data, [lesson.image])[0])
        for text, caption in zip(self.captions, captions(lesson), strict=True):
            text.set_text(caption)
        y = lesson.dense.data.validation.y[lesson.image]
        soft, sharp = ((lesson.said / t).softmax(0).tolist() for t in (lesson.temperature, 1))
        pulls = pull(lesson.said[None], y[None], lesson.temperature, lesson.alpha)[0].tolist()
        longest = max(map(abs, pulls)) or 1.0
        self.strongest.set_text(f"longest: {longest:.2f}")
        for i in range(len(soft)):
            self.soft[i].set_width(soft[i])
            self.sharp[i].set_width(sharp[i])
            self.shares[i].set_text(share(soft[i]))
            self.pushed[i].set_width(pulls[i] / longest)
        self._draw_students(lesson)

    def _draw_students(self, lesson: Lesson) -> None:
        for student in (*lesson.students, *lesson.ghosts):
            if student.done > 0.2 and plots.make_room(self.curves, 50, student.curve[-1][1]):
                self.live.refresh()
        lines = {True: self.taught, False: self.alone}
        for line in (*lines.values(), *self.ghosts):
            line.set_data([], [])
        shown = [(lines[student.taught], student) for student in lesson.students]
        for line, student in [*shown, *zip(self.ghosts, lesson.ghosts, strict=False)]:
            done, accuracy = np.array(student.curve).T
            line.set_data(100 * done, plots.logit(accuracy))
            line.set_color(plots.BLUE if student.taught else plots.ORANGE)

    def _draw_still(self, dense: Dense) -> None:
        for ax in (self.image, self.bars, self.pulls, self.curves):
            ax.clear()
        self.live.moving.clear()
        names = dense.data.classes
        (blank,) = _words.pictures(dense.data, [0])
        self.image.set_axis_off()
        self.picture = self.image.imshow(blank, vmin=0, vmax=1, interpolation="nearest")
        self.picture.set_visible(_words.has_pictures(dense.data))
        self.soft, self.sharp, self.shares = plots.class_bars(self.bars, names)
        self.pushed = plots.signed_bars(self.pulls, len(names), 1.1)
        self.pulls.set_title("pull on a blank student", fontsize=11, loc="left")
        self.alone, self.taught, self.ghosts = plots.learning_curves(self.curves, 2 * GHOSTS, dense.score.accuracy)
        self.live.move([self.picture, *self.captions, *self.sharp, *self.soft, *self.shares])
        self.live.move([*self.pushed, self.strongest, *self.ghosts, self.alone, self.taught])
        self.live.refresh()
        self._shown = dense

    def tell(self, lesson: Lesson) -> Words:
        """The lesson in words."""
        soft, sharp = (entropy_bits((lesson.said / t).softmax(0)) for t in (lesson.temperature, 1))
        low, high = lesson.dense.score.interval
        size = f"{lesson.dense.size_bytes / lesson.size_bytes:.1f}× smaller · teacher {lesson.dense.size_bytes:,} B"
        cards = [
            ("accuracy of the teacher", f"{lesson.dense.score.accuracy:.2%}", f"95 %: {low:.1%}–{high:.1%}"),
            (f"entropy at T = {lesson.temperature:g}", f"{soft:.2f} bits", f"at T = 1: {sharp:.2f} bits"),
            *student_cards(lesson),
            ("file of the student", f"{lesson.size_bytes:,} B", size),
        ]
        truth, takes, *_ = captions(lesson)
        setting = f"{lesson.dense.name}, {truth}, {takes}, T = {lesson.temperature:g}, α = {lesson.alpha:g}"
        scored = _words.status(lesson.dense.score)
        return Words(cards, _words.sentence(setting, cards), f"{lesson.doing}; {scored}" if lesson.doing else scored)

    def train(self, settings: dict[str, Any], show: Callable[[Lesson], None], overtaken: Callable[[], bool]) -> None:
        """Train the student alone, then the same student with the teacher, in equally many steps; show both curves."""
        lesson = replace(next(self.results(**settings)), students=())
        latest = [pair for teacher, pair in self._trained if teacher is lesson.dense][-GHOSTS:]
        lesson = replace(lesson, ghosts=tuple(student for pair in latest for student in pair))
        for taught in (False, True):
            student = self._student(lesson, settings, taught, show, overtaken)
            if student is None:
                return
            lesson = replace(lesson, students=(*lesson.students, student))
        self._trained.append((lesson.dense, lesson.students))
        show(replace(lesson, doing="both trained"))

    def _student(
        self,
        lesson: Lesson,
        settings: dict[str, Any],
        taught: bool,
        show: Callable[[Lesson], None],
        overtaken: Callable[[], bool],
    ) -> Student | None:
        """Train one student; None if it was overtaken."""
        data, said = lesson.dense.data, None
        if taught:
            train, *_ = training_set(data.train, settings["labels"], True, lesson.temperature, lesson.alpha)
            said = self._ask(lesson, train.x, show, overtaken)
            if said is None:
                return None

        def look(student: Student) -> None:
            doing = f"{'taught' if taught else 'alone'}: {student.done:.0%} trained"
            show(replace(lesson, students=(*lesson.students, student), doing=doing))

        student = untrained(data.train.x[0].numel(), settings["width"], len(lesson.said))
        return train_student(student, data, settings, said, look, overtaken)

    def _ask(
        self, lesson: Lesson, x: Tensor, show: Callable[[Lesson], None], overtaken: Callable[[], bool]
    ) -> Tensor | None:
        """The teacher's answers to the first training images; what it once said is kept. None if overtaken."""
        pieces = x.split(FEW)
        keys = [(lesson.dense, i, len(piece)) for i, piece in enumerate(pieces)]
        for key, piece in zip(keys, pieces, strict=True):
            if overtaken():
                return None
            if key not in self._answers:
                show(replace(lesson, doing=f"asking the teacher about {len(x):,} images: {key[1] / len(pieces):.0%}"))
                self._answers[key] = answers(lesson.dense.model, piece)
        return torch.cat([self._answers[key] for key in keys])


def share(p: float) -> str:
    """A probability for a bar's end: 12.3 %, 0.04 %, or 3e-7 where a per cent is too coarse."""
    return f"{p:.1%}" if p >= 0.001 else f"{p:.0e}"


def captions(lesson: Lesson) -> list[str]:
    """What is below the image: its class, the teacher's, and how unsure the softened teacher is."""
    names, p = lesson.dense.data.classes, (lesson.said / lesson.temperature).softmax(0)
    truth, taken = names[int(lesson.dense.data.validation.y[lesson.image])], names[int(lesson.said.argmax())]
    unsure = f"{2 ** entropy_bits(p):.1f} equal classes"
    return [
        f"{lesson.dense.score.what.removesuffix('s')} of: {truth}",
        f"teacher says: {taken}",
        "as unsure as among",
        unsure,
    ]


def student_cards(lesson: Lesson) -> list[Card]:
    """The students side by side, and image by image once both are trained."""
    by = {student.taught: student for student in lesson.students}
    cards = []
    for taught, label in ((False, "student alone"), (True, "student taught")):
        accuracy, note = "–", "press the button"
        if taught in by:
            accuracy, note = f"{by[taught].score.accuracy:.2%}", by[taught].setting
        cards.append((label, accuracy, note))
    if len(by) == 2 and by[True].done == 1:
        _, counts, p = _words.flips_card(by[False].score, by[True].score, lesson.dense.data.validation.y)
        cards[1] = (*cards[1][:2], f"{by[True].setting} · lost / won {counts}, {p}")
    return cards


def distillation(model: nn.Module | None = None, data: Data | None = None) -> Panel:
    """The live panel of notebook 03: a shipped checkpoint as the teacher, or your own trained `model` with `data`."""
    own, controls = start(model, data)
    if own and own.data.of_text:
        raise ValueError("data is text; allowed: images, which the student reads as numbers")
    if own:
        at_least("validation", own.data, IMAGES)
    if "checkpoint" in controls:
        controls["checkpoint"].value = ("lenet-5", "fashion-mnist")
    ends = {0: "1 ambiguous", IMAGES - 1: f"{IMAGES} sure"}
    controls |= {
        "image": _controls.steps("image", [(ends.get(i, str(i + 1)), i) for i in range(IMAGES)], 12),
        "temperature": _controls.steps("temperature T", [(f"{t:g}", t) for t in TEMPERATURES], 4),
        "alpha": _controls.share("teacher's α", 0.9, high=1, step=0.05),
        "width": _controls.steps("student width", [(str(w), w) for w in WIDTHS], 32),
        "labels": _controls.choice(
            "train on",
            [("few labels", "few"), ("few labels; taught: all images", "mixed"), ("all labels", "all")],
            "mixed",
        ),
    }
    view = Distillation(own)
    return Panel("distillation", view, controls, job=("train both students", view.train))
