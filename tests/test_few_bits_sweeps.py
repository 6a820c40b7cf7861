"""The shipped sweeps of notebooks 02b and 02c: whole, reproducible where nothing is trained, and as they say."""

import itertools

import pytest

from labkit.compress.codebook import share_weights
from labkit.data import load_data
from labkit.measure import accuracy, size_bytes
from labkit.sweep import shipped_sweep
from labkit.topics.shared_weights.experiment import SHARING_GRID
from labkit.topics.training_with_few_bits.experiment import GRADIENTS_GRID, QAT_GRID, SEEDS
from labkit.zoo import load_model

LENET = ("lenet-300-100", "mnist")
GRIDS = {"sharing": SHARING_GRID, "qat": QAT_GRID, "gradients": GRADIENTS_GRID}


def mean(kind, **where):
    table = shipped_sweep(kind, *LENET)
    for column, value in where.items():
        table = table[table[column] == value]
    assert len(table) == 3
    return 100 * table["accuracy"].mean()


@pytest.mark.parametrize("kind", GRIDS)
def test_a_sweep_covers_its_grid(kind):
    table, grid = shipped_sweep(kind, *LENET), {**GRIDS[kind], "seed": SEEDS}
    assert list(table[list(grid)].itertuples(index=False, name=None)) == list(itertools.product(*grid.values()))
    assert table["accuracy"].between(table["accuracy_low"], table["accuracy_high"]).all()


def test_an_untrained_row_is_what_is_measured_today():
    small = share_weights(load_model(*LENET), 2)
    row = shipped_sweep("sharing", *LENET).query("method == 'codebook' and bits == 2 and seed == 0").iloc[0]
    assert abs(row["correct"] - accuracy(small, load_data("mnist").validation)["correct"]) <= 2
    assert row["size_bytes"] == size_bytes(small)


def test_what_the_notebook_says():
    after, before = (
        mean("sharing", method=m, bits=1) for m in ("codebook, then fine-tuned", "fine-tuned, then codebook")
    )
    assert after > 95 > before + 10
    assert mean("qat", method="QAT", bits=1) > mean("qat", method="fine-tuned, then rounded", bits=1) + 10
    nearest, stochastic = (mean("gradients", rounding=r, bits=2) for r in ("nearest", "stochastic"))
    assert stochastic > nearest + 5
    assert abs(mean("gradients", rounding="nearest", bits=8) - mean("gradients", rounding="nearest", bits=32)) < 0.3
