"""What notebook 03's panel shows: a teacher's prediction for one image, and two students beside it; and in words."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from labkit.drawing import kilobytes
from labkit.live import words
from labkit.live.baseline import Baseline
from labkit.live.controls import choice, real, steps
from labkit.live.score import Score
from labkit.live.view import Card
from labkit.losses import mixed_loss

FEW = 2_000  # labelled images at most in "few labels"
IMAGES = 20  # to choose from, from the least to the most certain
TEMPERATURES = (1, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20)
WIDTHS = (4, 8, 16, 32, 64, 128)
ENDS = {0: "1 ambiguous", IMAGES - 1: f"{IMAGES} sure"}
STUDENTS = ("student alone", "student distilled")
SWEPT = "3 seeds, T = 4"  # how the shipped sweep was measured


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

    @property
    def effective(self) -> "Settings":
        """These settings, with those that do not change the students fixed: the image, and α without labels."""
        return replace(self, image=0, alpha=1.0 if self.labels == "mixed" else self.alpha)


@dataclass(frozen=True)
class Student:
    """A student during or after training: its curve, score, and in `trained_on` its training images in words."""

    distilled: bool
    settings: Settings
    trained_on: str
    curve: tuple[tuple[float, float], ...]  # (progress in [0, 1], validation accuracy)
    score: Score

    @property
    def done(self) -> float:
        """The share of the training that is done."""
        return self.curve[-1][0]


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

    @property
    def captions(self) -> list[str]:
        """The texts below the image: its class, and the teacher's prediction."""
        names, truth = self.dense.data.classes, int(self.dense.data.validation.y[self.image])
        return [f"label: {names[truth]}", f"teacher: {names[int(self.logits.argmax())]}"]

    @property
    def cards(self) -> list[Card]:
        """The teacher's uncertainty, the two students, the size of their file."""
        dense, unsure = self.dense, entropy_bits(self.softened)
        sharp = f"at T = 1: {entropy_bits(self.logits.softmax(0)):.2f} bits"
        smaller = f"{dense.size_bytes / self.size_bytes:.1f}× smaller"
        teacher = f"teacher {kilobytes(dense.size_bytes)}, {dense.score.accuracy:.2%}"
        return [
            (
                f"entropy at T = {self.settings.temperature:g}", f"{unsure:.2f} bits",
                f"like {2**unsure:.1f} equal classes; {sharp}",
            ),
            *((name, *self._student(i)) for i, name in enumerate(STUDENTS)),
            ("file of the student", f"{self.size_bytes:,} B", f"{smaller}; {teacher}"),
        ]  # fmt: skip

    def _student(self, distilled: int) -> tuple[str, str]:
        """The accuracy of a student, and where it comes from: trained here, or measured beforehand."""
        if len(self.students) > distilled:
            student = self.students[distilled]
            note = student.trained_on
            if not distilled:
                note += f", width {student.settings.width}"
            elif student.done == 1:
                note += f" · lost / won {self._flips[1]}"
            return f"{student.score.accuracy:.2%}", note
        if self.students:
            return "–", "comes next"
        if self.measured:
            seeds = self.measured[distilled]
            return f"{seeds.mean():.2%}", f"measured, {SWEPT}: {seeds.min():.1%}–{seeds.max():.1%}"
        return "–", "train both students: the button"

    @property
    def _flips(self) -> Card:
        """The two students compared image by image."""
        alone, distilled = (student.score for student in self.students)
        return words.flips_card(alone, distilled, self.dense.data.validation.y)

    @property
    def finding(self) -> str:
        """The accuracy gained by distillation; without results of students, the uncertainty of the teacher."""
        if self.score and self.students[1].done == 1:
            gain = self.score.accuracy - self.students[0].score.accuracy
            return f"teacher: {100 * gain:+z.1f} points, {self._flips[2]}"
        if self.measured and not self.students:
            alone, distilled = (100 * seeds.mean() for seeds in self.measured)
            return f"teacher: {distilled - alone:+z.1f} points (measured, T = 4)"
        if self.doing:
            return "two students in training"
        return f"as uncertain as {2 ** entropy_bits(self.softened):.1f} equal classes"


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


def share(p: float) -> str:
    """A probability at the end of a bar: 12.3%, or 3e-07 if it is too small for per cent."""
    return f"{p:.1%}" if p >= 0.001 else f"{p:.0e}"
