"""The frontier against a double loop over all pairs."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna._hypervolume import compute_hypervolume

from labkit.frontier import frontier, hypervolume, pareto_mask

few = st.tuples(st.integers(1, 4), st.integers(0, 4))  # few values, so that there are ties
many = st.tuples(st.floats(0, 1e6), st.floats(0, 1))
points = st.one_of(st.lists(few, max_size=25), st.lists(many, max_size=25))


def beaten(point, by):
    (size, accuracy), (other_size, other_accuracy) = point, by
    if other_size < size:
        return other_accuracy >= accuracy
    return other_size == size and other_accuracy > accuracy


@given(points)
def test_a_point_stays_where_no_other_beats_it(cloud):
    size, accuracy = (np.array([p[i] for p in cloud], float) for i in (0, 1))
    expected = [not any(beaten(p, q) for q in cloud) for p in cloud]
    assert pareto_mask(size, accuracy).tolist() == expected


@given(points)
def test_the_frontier_rises_and_holds_the_smallest_and_the_best(cloud):
    table = frontier(pd.DataFrame(cloud, columns=["size_bytes", "accuracy"]))
    sizes, accuracies = table["size_bytes"].tolist(), table["accuracy"].tolist()
    assert sizes == sorted(sizes)
    assert accuracies == sorted(accuracies)
    if cloud:
        assert sizes[0] == min(s for s, _ in cloud)
        assert accuracies[-1] == max(a for _, a in cloud)


@given(points)
def test_a_frontier_is_its_own_frontier(cloud):
    once = frontier(pd.DataFrame(cloud, columns=["size_bytes", "accuracy"]))
    assert frontier(once).equals(once)


def test_equal_points_keep_each_other():
    assert pareto_mask([3, 3, 3, 2], [0.9, 0.9, 0.8, 0.1]).tolist() == [True, True, False, True]


def test_other_columns_and_the_input_are_left_alone():
    records = pd.DataFrame(dict(bits=[8, 4, 2], size_bytes=[30, 20, 25], accuracy=[0.9, 0.8, 0.7]), index=[5, 6, 7])
    before = records.copy()
    expected = pd.DataFrame(dict(bits=[4, 8], size_bytes=[20, 30], accuracy=[0.8, 0.9]))
    pd.testing.assert_frame_equal(frontier(records), expected)
    pd.testing.assert_frame_equal(records, before)


def test_it_refuses(refuses):
    said = "size has shape (2,) and accuracy (3,); allowed: two equal 1-D lengths"
    refuses(ValueError, said, pareto_mask, [1, 2], [1, 2, 3])
    said = "size has shape (1, 2) and accuracy (1, 2); allowed: two equal 1-D lengths"
    refuses(ValueError, said, pareto_mask, [[1, 2]], [[1, 2]])
    said = "records lacks the columns ['accuracy']; allowed: a table with size_bytes, accuracy"
    refuses(ValueError, said, frontier, pd.DataFrame(columns=["size_bytes"]))
    said = "records lacks the columns ['size_bytes', 'accuracy']; allowed: a table with size_bytes, accuracy"
    refuses(ValueError, said, frontier, pd.DataFrame())


@pytest.mark.parametrize("swap", [False, True])
def test_of_two_equally_good_the_smaller_stays(swap):
    rows = pd.DataFrame(dict(size_bytes=[1, 2], accuracy=[0.5, 0.5]))
    assert frontier(rows[::-1] if swap else rows)["size_bytes"].tolist() == [1]


@given(st.lists(st.tuples(st.floats(10, 1e6), st.floats(0, 1)), max_size=12))
def test_the_hypervolume_is_that_of_optuna(cloud):
    table = pd.DataFrame(cloud, columns=["size_bytes", "accuracy"], dtype=float)
    inside = table[(table["size_bytes"] < 1e5) & (table["accuracy"] > 0.5)]
    losses = np.column_stack([np.log10(inside["size_bytes"]), -inside["accuracy"]])
    expected = compute_hypervolume(losses, np.array([5, -0.5])) if len(inside) else 0
    assert hypervolume(table, 1e5, 0.5) == pytest.approx(expected, abs=1e-9)


def test_the_hypervolume_of_one_point_is_a_rectangle():
    table = pd.DataFrame({"size_bytes": [1_000, 2_000], "accuracy": [0.9, 0.8]})
    assert hypervolume(table, 100_000, 0.5) == pytest.approx(2 * 0.4)
