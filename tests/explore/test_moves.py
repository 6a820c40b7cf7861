"""Hundreds of moves in a row: the last one wins, its figures are right, and memory stays where it was."""

import os
import random
from pathlib import Path

import pytest

import labkit as lk
from labkit.compress.compose import one_shot
from tests.live.test_panel import ask
from tests.waiting import until

pytestmark = pytest.mark.slow
STATM = Path("/proc/self/statm")


def megabytes():
    """The memory of this process that is in use."""
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.skipif(not STATM.exists(), reason="only Linux tells the memory in use")
def test_many_random_moves_leave_the_last_figure_and_no_memory():
    panel, rng = lk.explore.overview(), random.Random(0)
    used = []
    for number in range(400):
        ask(panel, sparsity=rng.randrange(100), bits=rng.randrange(9))
        if number in (99, 399):
            until(lambda: "scored on all" in panel.frame["status"])
            used.append(megabytes())
    ask(panel, sparsity=77, bits=3)
    until(lambda: "read back and equal" in panel.frame["status"])
    model, data = lk.load_model("lenet-300-100", "mnist"), lk.load_data("mnist")
    small = one_shot(model, 0.77, 4)
    accuracy = lk.accuracy(small, data.validation)["accuracy"]
    cards = {label: value for label, value, _ in panel.cards}
    assert f"{accuracy:.2%}" in cards.values()
    assert any(value.replace(",", "").startswith(str(len(lk.encode(small)))) for value in cards.values())
    assert used[1] < used[0] + 100  # a network kept at each move would be 300 MB
    panel.close_all()
