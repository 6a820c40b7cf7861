"""The weights of a hint that were tried, and gains over the student alone."""

import itertools

import pandas as pd
import pytest
import torch

from labkit.compress.distill import Hint, distill, teacher_outputs
from labkit.data import load_data, take
from labkit.measure import accuracy
from labkit.models import mlp
from labkit.sweep import shipped_sweep
from labkit.topics.knowledge_distillation.experiment import (
    FAMILY_GRID,
    HINT_SEEDS,
    HINT_WEIGHT_GRID,
    HINT_WEIGHTS,
    LESSON_GRID,
    SEEDS,
    gains,
)
from labkit.zoo import load_model


def test_the_weights_of_a_hint_cover_their_grid():
    table, grid = shipped_sweep("hint-weight", "lenet-5", "fashion-mnist"), {**HINT_WEIGHT_GRID, "seed": HINT_SEEDS}
    cells = table[list(grid)].itertuples(index=False, name=None)
    assert sorted(cells) == sorted(itertools.product(*grid.values()))
    assert table["accuracy"].between(0.5, 1).all()


@pytest.mark.parametrize(("method", "rest"), [("hint", {"alpha": 0.0}), ("hint, soft", {"temperature": 2})])
def test_a_student_with_a_hint_is_what_comes_out_today(method, rest):
    data, teacher = load_data("fashion-mnist"), load_model("lenet-5", "fashion-mnist")
    few = take(data.train, 2_000)
    torch.manual_seed(10)
    hint = Hint(teacher_outputs(teacher, few.x, layer="fc1"), "1", 1e-3)
    how = dict(epochs=55, lr=3e-3, seed=10, progress=False)
    student, _ = distill(mlp(784, 32, 10), few, teacher=teacher, hint=hint, **rest, **how)
    rows = shipped_sweep("hint-weight", "lenet-5", "fashion-mnist").query("seed == 10 and weight == 1e-3")
    shipped = rows.set_index("method").loc[method, "accuracy"]
    assert accuracy(student, data.validation)["accuracy"] == pytest.approx(shipped, abs=0.01)


def test_the_best_weight_of_a_hint_beside_soft_answers_is_inside_the_grid():
    table = shipped_sweep("hint-weight", "lenet-5", "fashion-mnist").query("method == 'hint, soft'")
    best = table.groupby("weight")["accuracy"].mean().idxmax()
    assert min(HINT_WEIGHT_GRID["weight"]) < best < max(HINT_WEIGHT_GRID["weight"])


def test_gains_are_paired_with_the_student_alone_of_the_same_seed():
    rows = [(labels, method, seed, 0.8 + 0.01 * seed + gain) for labels in ("few", "all") for seed in range(3)
            for method, gain in (("alone", 0), ("hint", 0.002), ("soft", 0.001 * seed))]  # fmt: skip
    table = pd.DataFrame(rows, columns=["labels", "method", "seed", "accuracy"]).sample(frac=1, random_state=0)
    table = gains(table, "labels", "method", "alone")
    assert set(table.index) == set(itertools.product(("few", "all"), ("hint", "soft")))
    reach = 4.303 * 0.1 / 3**0.5  # the deviation of 0, 0.1 and 0.2 points is 0.1
    for labels in ("few", "all"):
        assert table.loc[(labels, "hint")].tolist() == pytest.approx([0.2, 0.2, 0.2])
        assert table.loc[(labels, "soft")].tolist() == pytest.approx([0.1, 0.1 - reach, 0.1 + reach], abs=1e-3)


def test_the_weights_of_the_lessons_are_the_best_that_were_tried():
    table = shipped_sweep("hint-weight", "lenet-5", "fashion-mnist").query("weight > 0")
    means = table.groupby(["method", "weight"])["accuracy"].mean().unstack("weight")
    assert means.idxmax(axis=1).to_dict() == HINT_WEIGHTS


@pytest.mark.parametrize(
    ("names", "grid"), [(("lesson", "lenet-5"), LESSON_GRID), (("family", "students"), FAMILY_GRID)]
)
def test_lessons_and_families_cover_their_grids(names, grid):
    table, grid = shipped_sweep(*names, "fashion-mnist"), {**grid, "seed": SEEDS}
    cells = table[list(grid)].itertuples(index=False, name=None)
    assert sorted(cells) == sorted(itertools.product(*grid.values()))


def test_a_student_of_a_lesson_is_what_comes_out_today():
    data, teacher = load_data("fashion-mnist"), load_model("lenet-5", "fashion-mnist")
    few = take(data.train, 2_000)
    torch.manual_seed(1)
    how = dict(epochs=16, lr=3e-3, seed=1, progress=False)
    student, _ = distill(mlp(784, 32, 10), few, teacher=teacher, temperature=2, alpha=0.9, **how)
    row = shipped_sweep("lesson", "lenet-5", "fashion-mnist").query(
        "labels == 'few' and method == 'soft' and seed == 1"
    )
    assert accuracy(student, data.validation)["accuracy"] == pytest.approx(row["accuracy"].item(), abs=0.01)
