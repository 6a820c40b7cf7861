"""Panel of notebook 03: how temperature changes a teacher's predictions, and how well students match them."""

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from labkit import drawing
from labkit.compress.distill import teacher_outputs
from labkit.data import Data
from labkit.live import words
from labkit.live.baseline import OF_IMAGES, Baseline, at_least, given
from labkit.live.network import BESIDE, NetworkView, panel_of
from labkit.live.panel import Panel
from labkit.live.view import Summary
from labkit.topics.knowledge_distillation import plots
from labkit.topics.knowledge_distillation.lesson import (
    FEW,
    IMAGES,
    STUDENTS,
    SWEPT,
    WIDTHS,
    Lesson,
    Settings,
    Student,
    offered,
    pull,
    share,
)
from labkit.topics.knowledge_distillation.students import images, schedule, student_bytes, train_student, training_set

GHOSTS = 3  # earlier pairs of students that stay visible
# of the shipped sweep, by training images: the student alone, the distilled one
MEASURED = {
    "few": ("few labels", "few labels, teacher"),
    "mixed": ("few labels", "teacher, no labels"),
    "all": ("all labels", "all labels, teacher"),
}
PLACES = {  # axes of the bars and the pull: with students, and without
    True: ((0.235, 0.135, 0.205, 0.77), (0.45, 0.135, 0.12, 0.77)),
    False: ((0.26, 0.135, 0.43, 0.77), (0.71, 0.135, 0.27, 0.77)),
}


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
        # one cache per view, freed with it
        self._logits = functools.cache(lambda dense: teacher_outputs(dense.model, dense.data.validation.x))
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
        shown = mine.get(settings.effective, latest)
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
        self.caption.set_text("\n".join(lesson.captions))
        y = lesson.dense.data.validation.y[lesson.image]
        soft, sharp = lesson.softened.tolist(), lesson.logits.softmax(0).tolist()
        pulls = pull(lesson.logits[None], y[None], settings.temperature, settings.effective.alpha)[0].tolist()
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
        present = self.alone, self.distilled
        for line in (*present, *self.ghosts):
            line.set_data([], [])
        drawn = [*zip(present, lesson.students, strict=False), *zip(self.ghosts, lesson.ghosts, strict=False)]
        for line, student in drawn:
            if student.done > 0.2 and drawing.make_room(self.students, 50, student.score.accuracy):
                self.live.refresh()
            drawing.set_points(line, [(100 * done, accuracy) for done, accuracy in student.curve])
            line.set_color(drawing.BLUE if student.distilled else drawing.ORANGE)

    def _update_sweep(self, lesson: Lesson) -> None:
        means, width = [float(seeds.mean()) for seeds in lesson.measured], lesson.settings.width
        for mark, mean in zip(self.marks, means or [math.nan] * 2, strict=True):
            mark.set_data([width], [mean])
        self.gap.set_data([width] * len(means), means)
        self.points.set_text(f"width {width}: {100 * (means[1] - means[0]):+z.1f} points" if means else "not measured")

    def summarize(self, lesson: Lesson) -> Summary:
        """The summary of the lesson."""
        setting = f"{words.setting(lesson.dense, lesson.settings, self)}, {', '.join(lesson.captions)}"
        status = words.status(lesson.dense.score)
        if self.shows(lesson) == "sweep":
            alpha = 1 if lesson.settings.labels == "mixed" else 0.9
            status = f"teacher {status}; students measured beforehand: {SWEPT}, α = {alpha}, as many steps as 6 epochs"
        doing = f"{lesson.doing}; " if lesson.doing else ""
        done = sum(student.done for student in lesson.students) / 2
        progress = done if lesson.doing and done < 1 else None
        cards = lesson.cards
        return Summary(cards, words.sentence(setting, cards), doing + status, lesson.finding, progress)

    def train(self, settings: dict[str, Any], show: Callable[[Lesson], None], overtaken: Callable[[], bool]) -> None:
        """Train the student alone, then distilled, in equally many steps, unless both are trained already."""
        lesson: Lesson = next(self.results(**settings))
        key = lesson.dense, lesson.settings.effective
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
        for distilled, name in enumerate(STUDENTS):
            logits = self._evaluate(lesson, show, overtaken) if distilled else None
            if distilled and logits is None:
                return None

            def look(student: Student, lesson: Lesson = lesson, name: str = name) -> None:
                show(replace(lesson, students=(*lesson.students, student), doing=f"{name}: {student.done:.0%} trained"))

            how = lesson.settings.effective, logits, look, overtaken
            student = train_student(lesson.dense.data, len(lesson.logits), *how)
            if student is None:
                return None
            lesson = replace(lesson, students=(*lesson.students, student))
        return lesson.students

    def _evaluate(self, lesson: Lesson, show: Callable[[Lesson], None], overtaken: Callable[[], bool]) -> Tensor | None:
        """Teacher logits for the student's training images, cached. None if overtaken."""
        x, logits = training_set(lesson.dense.data.train, lesson.settings, True)[0].x, []
        pieces = x.split(FEW)
        for i, piece in enumerate(pieces):
            if overtaken():
                return None
            key = lesson.dense, i, len(piece)
            if key not in self._cached:
                show(replace(lesson, doing=f"evaluating the teacher on {len(x):,} images: {i / len(pieces):.0%}"))
                self._cached[key] = teacher_outputs(lesson.dense.model, piece)
            logits.append(self._cached[key])
        return torch.cat(logits)

    def code(self, settings: Mapping[str, Any]) -> str:
        """Train the same student alone and distilled."""
        dense = self.dense(settings.get("checkpoint"))
        chosen = Settings(**{name: value for name, value in settings.items() if name != "checkpoint"}).effective
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


def distillation(model: nn.Module | None = None, data: Data | None = None, preset: str = "") -> Panel:
    """The live panel of notebook 03: a shipped checkpoint as the teacher, or your own trained `model` with `data`."""
    own = given(model, data)
    if own and own.data.of_text:
        raise ValueError("data is text; allowed: images, which the student reads as numbers")
    if own:
        at_least("validation", own.data, IMAGES)
    return panel_of(Distillation(own), preset)
