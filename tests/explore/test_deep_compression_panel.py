"""The panel of notebook 10: the file under each coder is the one that labkit writes, and papers stand on the axes."""

import pandas as pd
import pytest

import labkit as lk
from labkit.explore._deep_compression import CODERS, DeepCompression
from labkit.frontier import published
from labkit.store import QUICK
from labkit.sweep import compress


@pytest.mark.parametrize("coder", CODERS)
def test_the_file_is_what_labkit_writes_with_that_coder(mine, coder):
    *_, first, last = [None, *DeepCompression(mine).results(0.7, 3, coder)]
    small = compress(mine.model, 0.7, 3)
    assert last.size_bytes == len(lk.encode(small, coders=CODERS[coder]))
    assert last.read_back
    assert last.score.correct == lk.accuracy(small, mine.data.validation)["correct"]
    if coder.startswith("context"):  # what came before was a quick coder's, and not called read back
        assert first.size_bytes == len(lk.encode(small, coders=QUICK))
        assert not first.read_back


def test_words_and_picture_follow_the_setting(mine):
    view = DeepCompression(mine)
    pictures = []
    for sparsity in (0.5, 0.95):
        *_, point = view.results(sparsity, 4, "range coder")
        view.draw(point)
        words = view.tell(point)
        cards = {label: (value, note) for label, value, note in words.cards}
        assert cards["file"][0] == f"{point.size_bytes:,} B"
        assert cards["bits a kept weight"][0] == f"{8 * point.size_bytes / point.left[0]:.1f}"
        assert "read back and equal" in words.status
        assert view.star.get_xdata()[0] == point.size_bytes
        pictures.append(view.live.png())
    assert pictures[0] != pictures[1]


def test_retraining_beats_one_shot_and_ends_with_a_settled_point(mine):
    shown: list = []
    settings = dict(sparsity=0.9, bits=3, coder="range coder")
    DeepCompression(mine).train(settings, shown.append, lambda: False)
    *_, one_shot = DeepCompression(mine).results(**settings)
    assert shown[-1].read_back
    assert shown[-1].score.settled
    assert shown[-1].score.correct > one_shot.score.correct


def test_published_figures_are_bytes_of_one_network():
    table = published("lenet-300-100", "mnist")
    assert table.index.tolist() == list(range(1, len(table) + 1))
    paper = table[table["method"].str.startswith("Deep Compression")].iloc[0]
    assert (paper.size_bytes, paper.error_pct) == (27_000, 1.58)
    assert (table["size_bytes"] > 0).all()
    assert published("resnet-20", "cifar10").empty
    assert isinstance(published("lenet-5", "mnist"), pd.DataFrame)
    assert len(published("lenet-5", "mnist")) > 4
