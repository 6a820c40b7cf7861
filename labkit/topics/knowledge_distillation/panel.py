"""Panel of notebook 03: how temperature changes a teacher's predictions, and how well students match them."""

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from labkit import drawing
from labkit.compress.distill import teacher_outputs
from labkit.data import Data
from labkit.live import words
from labkit.live.baseline import OF_IMAGES, Baseline, at_least, given
from labkit.live.controls import choice, real, steps
from labkit.live.network import BESIDE, NetworkView, panel_of
from labkit.live.panel import Panel
from labkit.live.score import Score
from labkit.live.view import Card, Summary
from labkit.losses import mixed_loss
from labkit.topics.knowledge_distillation import plots
from labkit.topics.knowledge_distillation.students import (
    FEW,
    Student,
    images,
    schedule,
    student_bytes,
    train_student,
    training_set,
)

IMAGES = 20  # to choose from, from the least to the most certain
TEMPERATURES = (1, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20)
WIDTHS = (4, 8, 16, 32, 64, 128)
GHOSTS = 3  # earlier pairs of students that stay visible
# of the shipped sweep, by training images: the student alone, the distilled one
MEASURED = {
    "few": ("few labels", "few labels, teacher"),
    "mixed": ("few labels", "teacher, no labels"),
    "all": ("all labels", "all labels, teacher"),
}
SWEPT = "3 seeds, T = 4"  # how the sweep was measured
ENDS = {0: "1 ambiguous", IMAGES - 1: f"{IMAGES} sure"}
PLACES = {  # axes of the bars and the pull: with students, and without
    True: ((0.235, 0.135, 0.205, 0.77), (0.45, 0.135, 0.12, 0.77)),
    False: ((0.26, 0.135, 0.43, 0.77), (0.71, 0.135, 0.27, 0.77)),
}


@dataclass(frozen=True)
class Settings:
    """What the controls set."""

    image: int = steps(
        "image", [(ENDS.get(i, str(i + 1)), i) for i in range(IMAGES)], 12,
        note="a validation image: the teacher is least sure of the first, most sure of the last",
    )  # fmt: skip
    temperature: float = steps(
        "temperature T", [(f"{t:g}", t) for t in TEMPERATURES], 4, note="divides the logits before the softmax",
        word="T = {}",
    )  # fmt: skip
    alpha: float = real(
        "teacher's α", 0.9, 1, 0.05, note="weight of the teacher's term in the loss; without labels it is 1",
        word="α = {}",
    )  # fmt: skip
    width: int = steps("student width", [(str(w), w) for w in WIDTHS], 32, note="hidden units of the student")
    labels: str = choice(
        "train on", [("few labels", "few"), ("few labels / all images", "mixed"), ("all labels", "all")], "mixed",
        note=f"{FEW:,} labels, or all; or {FEW:,} for the student alone, and all images unlabelled for the other",
    )  # fmt: skip


@dataclass(frozen=True)
class Lesson:
    """The teacher's prediction for one image at a temperature, and the students: measured beforehand, or trained."""

    dense: Baseline  # the teacher
    settings: Settings
    image: int  # its index in validation
    logits: Tensor  # of the teacher, (classes,)
    size_bytes: int  # of the student's file
    measured: list[np.ndarray]  # accuracies in the shipped sweep, one per seed: alone, distilled; or empty
    students: tuple[Student, ...] = ()  # at most one alone and one distilled
    ghosts: tuple[Student, ...] = ()
    doing: str = ""

    @property
    def score(self) -> Score | None:
        """Of the distilled student."""
        return self.students[1].score if len(self.students) == 2 else None

    @property
    def softened(self) -> Tensor:
        """The teacher's distribution at T."""
        return (self.logits / self.settings.temperature).softmax(0)


def teacher_logits(dense: Baseline) -> Tensor:
    """The teacher's logits for every validation image."""
    return teacher_outputs(dense.model, dense.data.validation.x)


def entropy_bits(p: Tensor) -> float:
    """-Σ p log₂ p."""
    return float(torch.special.entr(p).sum()) / math.log(2)


def offered(logits: Tensor) -> list[int]:
    """Indices of IMAGES images, from the largest to the smallest entropy of the softmax, at growing distances."""
    order = torch.special.entr(logits.softmax(1)).sum(1).argsort(descending=True, stable=True)
    ranks = np.maximum(range(IMAGES), np.geomspace(1, len(logits), IMAGES).round().astype(int) - 1)
    return order[ranks.tolist()].tolist()


def pull(logits: Tensor, y: Tensor, temperature: float, alpha: float) -> Tensor:
    """Minus the gradient of the loss for student logits z = 0, (n, classes): where it pushes an untrained student."""
    z = torch.zeros_like(logits, requires_grad=True)
    (gradient,) = torch.autograd.grad(len(logits) * mixed_loss(z, logits, y, temperature, alpha), z)
    return -gradient


def effective(settings: Settings) -> Settings:
    """The settings with those that do not change the students fixed: the image, and α without labels."""
    return replace(settings, image=0, alpha=1.0 if settings.labels == "mixed" else settings.alpha)


class Distillation(NetworkView):
    """The view: image, the teacher's distribution, its pull on a student, the students measured or trained."""

    name, settings_type, size, button = "distillation", Settings, BESIDE, "train both students"
    networks = sorted(OF_IMAGES, key=lambda key: key != ("lenet-5", "fashion-mnist"))
    scenes = {
        "T = 1: one class": dict(image=12, temperature=1),
        "T = 8: similar classes": dict(image=12, temperature=8),
        "few labels: it helps": dict(temperature=4, width=32, labels="mixed"),
        "all labels: it harms": dict(temperature=4, alpha=0.9, width=8, labels="all"),
    }

    def __init__(self, own: Baseline | None = None) -> None:
        super().__init__(own)
        self._logits = functools.cache(teacher_logits)  # one cache per view, freed with it
        self._sweep = functools.cache(lambda dense: dense.sweep("distillation"))
        self.pairs: dict[tuple[Baseline, Settings], tuple[Student, ...]] = {}  # the newest last
        self._cached: dict[tuple[Baseline, int, int], Tensor] = {}
        add = self.live.figure.add_axes
        self.image, self.bars, self.pulls = add((0.0, 0.655, 0.13, 0.25)), add(PLACES[True][0]), add(PLACES[True][1])
        self.students = add((0.66, 0.135, 0.33, 0.77))

    def idle(self, settings: Mapping[str, Any]) -> set[str]:
        """α, without labels: the loss then has one term only."""
        return {"alpha"} if settings["labels"] == "mixed" else set()

    def measure(self, dense: Baseline, settings: Settings) -> Iterator[Lesson]:
        """The teacher's predictions at these settings, and the known students."""
        logits = self._logits(dense)
        place = offered(logits)[settings.image]
        size = student_bytes(dense.data.train.prototype.shape[1:].numel(), settings.width, logits.shape[1])
        sweep = self._sweep(dense)
        at = sweep[sweep["width"] == settings.width] if len(sweep) else sweep
        seeds = [at[at["method"] == m]["accuracy"].to_numpy() for m in MEASURED[settings.labels]] if len(at) else []
        mine = {key: pair for (teacher, key), pair in self.pairs.items() if teacher is dense}
        latest = () if len(sweep) or not mine else list(mine.values())[-1]
        shown = mine.get(effective(settings), latest)
        earlier = [pair for pair in mine.values() if pair is not shown][-GHOSTS:]
        ghosts = tuple(student for pair in earlier for student in pair)
        yield Lesson(dense, settings, place, logits[place], size, seeds, shown, ghosts)

    def shows(self, lesson: Lesson) -> str:
        """What the axes of the students show: training curves, the measured sweep, or nothing yet."""
        return "curves" if lesson.students else "sweep" if len(self._sweep(lesson.dense)) else ""

    def still_for(self, lesson: Lesson) -> Any:
        """The still part depends on the teacher and on the known students."""
        shows = self.shows(lesson)
        return lesson.dense, shows, lesson.settings.labels if shows == "sweep" else ""

    def background(self, lesson: Lesson) -> None:
        """Empty bars, and the axes of the students if there are any."""
        dense, shows = lesson.dense, self.shows(lesson)
        for ax, place in zip((self.bars, self.pulls), PLACES[bool(shows)], strict=True):
            ax.set_position(place)
        self.students.set_visible(bool(shows))
        self.image.set_axis_off()
        (blank,) = words.pictures(dense.data, [0])
        self.picture = self.image.imshow(blank, vmin=0, vmax=1, interpolation="nearest")
        self.picture.set_visible(words.has_pictures(dense.data))
        middle: dict[str, Any] = dict(fontsize=10, ha="center", va="top")
        self.caption = self.image.text(0.5, -0.08, "", transform=self.image.transAxes, **middle)
        self.soft, self.sharp, self.shares = plots.class_bars(self.bars, dense.data.classes)
        self.pushed = plots.signed_bars(self.pulls, len(dense.data.classes), 1.1)
        self.pulls.set_title("pull on a student", fontsize=10, loc="left")
        self.strongest = self.pulls.text(0, -0.085, "", transform=self.pulls.get_xaxis_transform(), **middle)
        bars = [*self.soft, self.sharp, *self.shares, *self.pushed, self.strongest]
        self.live.move([self.picture, self.caption, *bars])
        if shows == "curves":
            self.alone, self.distilled, self.ghosts = plots.learning_curves(
                self.students, 2 * GHOSTS, dense.score.accuracy
            )
            self.live.move([*self.ghosts, self.alone, self.distilled])
        elif shows:
            self._draw_sweep(lesson)

    def _draw_sweep(self, lesson: Lesson) -> None:
        """The measured students by width, and the marks that move along them."""
        sweep, ax = self._sweep(lesson.dense), self.students
        means = plots.student_curves(ax, sweep, MEASURED[lesson.settings.labels], WIDTHS, lesson.dense.score.accuracy)
        rows = means.reset_index().to_dict("records")
        self.live.offer(
            ax,
            [(row["width"], row["mean"]) for row in rows],
            [f"{r['method']}, width {r['width']}: {r['mean']:.1%}\nmeasured beforehand, {SWEPT}" for r in rows],
            [dict(width=row["width"], temperature=4, alpha=0.9) for row in rows],
        )
        look: dict[str, Any] = dict(ms=13, mec="black", mew=1.2, zorder=6)
        (self.gap,) = ax.plot([], [], "-", color=drawing.BLACK, lw=2)
        self.marks = [ax.plot([], [], m, color=c, **look)[0] for m, c in (("o", drawing.ORANGE), ("s", drawing.BLUE))]
        self.points = ax.text(0.99, 0.04, "", fontsize=12, ha="right", transform=ax.transAxes)  # below every curve
        self.live.move([self.gap, *self.marks, self.points])

    def update(self, lesson: Lesson) -> None:
        """Update image, bars and the axes of the students."""
        settings = lesson.settings
        self.picture.set_data(words.pictures(lesson.dense.data, [lesson.image])[0])
        self.caption.set_text("\n".join(captions(lesson)))
        y = lesson.dense.data.validation.y[lesson.image]
        soft, sharp = lesson.softened.tolist(), lesson.logits.softmax(0).tolist()
        pulls = pull(lesson.logits[None], y[None], settings.temperature, effective(settings).alpha)[0].tolist()
        longest = max(map(abs, pulls)) or 1.0
        self.strongest.set_text(f"longest: {longest:.2f}")
        self.sharp.set_xdata(sharp)
        for i in range(len(soft)):
            self.soft[i].set_width(soft[i])
            self.shares[i].set_text(share(soft[i]))
            self.pushed[i].set_width(pulls[i] / longest)
        if lesson.students:
            self._update_curves(lesson)
        elif self.shows(lesson):
            self._update_sweep(lesson)

    def _update_curves(self, lesson: Lesson) -> None:
        for student in (*lesson.students, *lesson.ghosts):
            if student.done > 0.2 and drawing.make_room(self.students, 50, student.curve[-1][1]):
                self.live.refresh()
        for line in (self.alone, self.distilled, *self.ghosts):
            line.set_data([], [])
        lines = zip((self.alone, self.distilled), lesson.students, strict=False)
        for line, student in [*lines, *zip(self.ghosts, lesson.ghosts, strict=False)]:
            done, accuracy = np.array(student.curve).T
            line.set_data(100 * done, accuracy)
            line.set_color(drawing.BLUE if student.distilled else drawing.ORANGE)

    def _update_sweep(self, lesson: Lesson) -> None:
        means, width = [float(seeds.mean()) for seeds in lesson.measured], lesson.settings.width
        for mark, mean in zip(self.marks, means or [math.nan] * 2, strict=True):
            mark.set_data([width], [mean])
        self.gap.set_data([width] * len(means), means)
        self.points.set_text(f"width {width}: {100 * (means[1] - means[0]):+.1f} points" if means else "not measured")

    def summarize(self, lesson: Lesson) -> Summary:
        """The summary of the lesson."""
        dense, unsure = lesson.dense, entropy_bits(lesson.softened)
        teacher = f"teacher {drawing.kilobytes(dense.size_bytes)}, {dense.score.accuracy:.2%}"
        smaller = f"{dense.size_bytes / lesson.size_bytes:.1f}× smaller; {teacher}"
        cards = [
            (
                f"entropy at T = {lesson.settings.temperature:g}", f"{unsure:.2f} bits",
                f"like {2**unsure:.1f} equal classes; at T = 1: {entropy_bits(lesson.logits.softmax(0)):.2f} bits",
            ),
            *student_cards(lesson),
            ("file of the student", f"{lesson.size_bytes:,} B", smaller),
        ]  # fmt: skip
        setting = f"{words.setting(dense, lesson.settings, self)}, {', '.join(captions(lesson))}"
        status = words.status(dense.score)
        if self.shows(lesson) == "sweep":
            alpha = 1 if lesson.settings.labels == "mixed" else 0.9
            status = f"teacher {status}; students measured beforehand: {SWEPT}, α = {alpha}, as many steps as 6 epochs"
        doing = f"{lesson.doing}; " if lesson.doing else ""
        done = sum(student.done for student in lesson.students) / 2
        progress = done if lesson.doing and done < 1 else None
        return Summary(cards, words.sentence(setting, cards), doing + status, finding(lesson), progress)

    def train(self, settings: dict[str, Any], show: Callable[[Lesson], None], overtaken: Callable[[], bool]) -> None:
        """Train the student alone, then distilled, in equally many steps, unless both are trained already."""
        lesson: Lesson = next(self.results(**settings))
        key = lesson.dense, effective(lesson.settings)
        if key not in self.pairs:
            pair = self._pair(replace(lesson, students=()), show, overtaken)
            if pair is None:
                return
            self.pairs[key] = pair
        show(replace(next(self.results(**settings)), doing="both trained"))

    def _pair(
        self, lesson: Lesson, show: Callable[[Lesson], None], overtaken: Callable[[], bool]
    ) -> tuple[Student, ...] | None:
        """Train both students; None if overtaken."""
        show(replace(lesson, doing="student alone: starting"))
        for distilled in (False, True):
            logits = self._evaluate(lesson, show, overtaken) if distilled else None
            if distilled and logits is None:
                return None
            name = "student distilled" if distilled else "student alone"

            def look(student: Student, lesson: Lesson = lesson, name: str = name) -> None:
                show(replace(lesson, students=(*lesson.students, student), doing=f"{name}: {student.done:.0%} trained"))

            student = train_student(
                lesson.dense.data, len(lesson.logits), effective(lesson.settings), logits, look, overtaken
            )  # fmt: skip
            if student is None:
                return None
            lesson = replace(lesson, students=(*lesson.students, student))
        return lesson.students

    def _evaluate(self, lesson: Lesson, show: Callable[[Lesson], None], overtaken: Callable[[], bool]) -> Tensor | None:
        """Teacher logits for the student's training images, cached. None if overtaken."""
        x = training_set(lesson.dense.data.train, lesson.settings, True)[0].x
        pieces = x.split(FEW)
        keys = [(lesson.dense, i, len(piece)) for i, piece in enumerate(pieces)]
        for key, piece in zip(keys, pieces, strict=True):
            if overtaken():
                return None
            if key not in self._cached:
                show(replace(lesson, doing=f"evaluating the teacher on {len(x):,} images: {key[1] / len(pieces):.0%}"))
                self._cached[key] = teacher_outputs(lesson.dense.model, piece)
        return torch.cat([self._cached[key] for key in keys])

    def code(self, settings: Mapping[str, Any]) -> str:
        """Train the same student alone and distilled."""
        dense = self.dense(settings.get("checkpoint"))
        chosen = effective(Settings(**{name: value for name, value in settings.items() if name != "checkpoint"}))
        train = dense.data.train
        used = [images(train, chosen.labels, distilled) for distilled in (False, True)]
        alone, small = ("data.train" if n == len(train) else "few" for n in used)
        how = [", ".join(f"{name}={value}" for name, value in schedule(train, n).items()) for n in used]
        lines = [*self.loaded(settings), "import torch", "torch.manual_seed(0)"]
        sizes = train.prototype.shape[1:].numel(), chosen.width, self._logits(dense).shape[1]
        lines.append(f"student = lk.models.mlp({', '.join(map(str, sizes))})")
        if alone == "few":
            lines.append(f"few = lk.data.take(data.train, {used[0]})")
        lines.append(f"alone, _ = lk.fit(student, {alone}, {how[0]})")
        taught = f"temperature={chosen.temperature}, alpha={chosen.alpha}"
        lines.append(f"small, _ = lk.distill(student, {small}, teacher=model, {taught}, {how[1]})")
        return "\n".join([*lines, 'lk.accuracy(small, data.validation)["accuracy"], len(lk.encode(small))'])


def share(p: float) -> str:
    """A probability at the end of a bar: 12.3%, or 3e-07 if it is too small for per cent."""
    return f"{p:.1%}" if p >= 0.001 else f"{p:.0e}"


def captions(lesson: Lesson) -> list[str]:
    """The texts below the image: its class, and the teacher's prediction."""
    names, truth = lesson.dense.data.classes, int(lesson.dense.data.validation.y[lesson.image])
    return [f"label: {names[truth]}", f"teacher: {names[int(lesson.logits.argmax())]}"]


def student_cards(lesson: Lesson) -> list[Card]:
    """The students side by side: trained here, or measured beforehand."""
    cards, truth = [], lesson.dense.data.validation.y
    for distilled, label in enumerate(("student alone", "student distilled")):
        value, note = "–", "train both students: the button"
        if len(lesson.students) > distilled:
            student = lesson.students[distilled]
            value, note = f"{student.score.accuracy:.2%}", student.trained_on
            if not distilled:
                note += f", width {student.settings.width}"
            elif student.done == 1:
                note += f" · lost / won {words.flips_card(lesson.students[0].score, student.score, truth)[1]}"
        elif lesson.students:
            note = "comes next"
        elif lesson.measured:
            seeds = lesson.measured[distilled]
            value, note = f"{seeds.mean():.2%}", f"measured, {SWEPT}: {seeds.min():.1%}–{seeds.max():.1%}"
        cards.append((label, value, note))
    return cards


def finding(lesson: Lesson) -> str:
    """The accuracy gained by distillation; without results of students, the uncertainty of the teacher."""
    if lesson.score and lesson.students[1].done == 1:
        alone, distilled = (student.score for student in lesson.students)
        *_, p = words.flips_card(alone, distilled, lesson.dense.data.validation.y)
        return f"teacher: {100 * (distilled.accuracy - alone.accuracy):+.1f} points, {p}"
    if lesson.measured and not lesson.students:
        alone, distilled = (100 * seeds.mean() for seeds in lesson.measured)
        return f"teacher: {distilled - alone:+.1f} points (measured, T = 4)"
    if lesson.doing:
        return "two students in training"
    return f"as uncertain as {2 ** entropy_bits(lesson.softened):.1f} equal classes"


def distillation(model: nn.Module | None = None, data: Data | None = None, preset: str = "") -> Panel:
    """The live panel of notebook 03: a shipped checkpoint as the teacher, or your own trained `model` with `data`."""
    own = given(model, data)
    if own and own.data.of_text:
        raise ValueError("data is text; allowed: images, which the student reads as numbers")
    if own:
        at_least("validation", own.data, IMAGES)
    return panel_of(Distillation(own), preset)
