"""The panel of notebook 10: the file of each coder is the one that labkit writes; papers lie inside the axes."""

import numpy as np
import pandas as pd
import pytest

import labkit as lk
from labkit import explore
from labkit.compress.compose import one_shot
from labkit.frontier import published
from labkit.store import CODERS as EVERY
from labkit.store import QUICK
from labkit.topics.deep_compression.panel import CODERS, EPOCHS, DeepCompression

LENETS = (("lenet-300-100", "mnist"), ("lenet-5", "mnist"))


def drawn(view, **settings):
    *_, point = view.results(**settings)
    view.draw(point)
    return point


def test_every_coder_is_on_offer():
    assert list(CODERS.values()) == [(), ("huffman",), ("range",), EVERY]


@pytest.mark.parametrize("coder", CODERS)
def test_the_file_is_what_labkit_writes_with_that_coder(mine, coder):
    *_, first, last = [None, *DeepCompression(mine).results(sparsity=0.7, bits=3, coder=coder)]
    small = one_shot(mine.model, 0.7, 3)
    assert last.size_bytes == len(lk.encode(small, coders=CODERS[coder])) == last.ledger["bytes"].sum()
    assert last.read_back
    assert last.score.correct == lk.accuracy(small, mine.data.validation)["correct"]
    if coder.startswith("context"):  # what came before was a quick coder's, and not called read back
        assert first.size_bytes == len(lk.encode(small, coders=QUICK))
        assert not first.read_back


def test_words_and_picture_follow_the_setting(mine):
    view = DeepCompression(mine)
    pictures = []
    for sparsity in (0.5, 0.95):
        point = drawn(view, sparsity=sparsity, bits=4, coder="range coder")
        words = view.summarize(point)
        small = lk.quantize(lk.prune(mine.model, sparsity), 4)
        size, left = len(lk.encode(small, coders=["range"])), sum(int((small[i].weight != 0).sum()) for i in (0, 3, 6))
        cards = {label: (value, note) for label, value, note in words.cards}
        assert cards["file"][0] == f"{size:,} B"
        assert cards["weights left"][0] == f"{left:,}"
        assert cards["bits per kept weight"][0] == f"{8 * size / left:.1f}"
        assert "read back and equal" in words.status
        assert f"{sparsity * 100:.4g} % of the weights pruned, weights rounded to 4 bits, range coder" in words.alt
        star = view.star.star
        assert star.get_xdata()[0] == size
        assert star.get_ydata()[0] == lk.accuracy(small, mine.data.validation)["accuracy"]
        shown = [int(text.get_text().removesuffix(" B").replace(",", "")) for text in view.sizes]
        assert sum(shown[:-1]) == shown[-1] == size
        pictures.append(view.live.marks())
    assert pictures[0] != pictures[1]


def test_components_that_a_network_cannot_have_have_no_row(mine):
    view, lenet = DeepCompression(mine), DeepCompression()
    drawn(view)
    drawn(lenet)
    assert "BatchNorm" in view.parts
    assert "BatchNorm" not in lenet.parts
    assert len(lenet.bars) == len(lenet.parts) + 1 == 6


def test_retraining_beats_one_shot_and_ends_with_a_settled_point(mine, every_step):
    shown: list = []
    settings = dict(sparsity=0.9, bits=3, coder="range coder")
    view = DeepCompression(mine)
    view.train(settings, shown.append, lambda: False)
    *_, one_shot = view.results(**settings)
    end = shown[-1]
    assert end.read_back
    assert end.score.settled
    assert end.score.correct == lk.accuracy(end.model, mine.data.validation)["correct"]
    assert end.score.correct > one_shot.score.correct
    assert end.left == one_shot.left
    assert view.summarize(end).status.startswith("100% of 3 epochs trained; ")
    # each picture is of the file that would be: weights on a grid, and ever fewer of them
    levels = [len(point.model[3].weight.unique()) for point in shown]
    assert max(levels) <= 8
    left = [point.left[0] for point in shown if point.training * sum(EPOCHS) <= EPOCHS[0]]
    assert left[0] > 2 * left[-1]


def test_papers_and_files_of_this_lab_name_their_source():
    for key in LENETS:
        view, table = DeepCompression(), published(*key)
        drawn(view, checkpoint=key)
        points, hot = view.live.points, view.live.hot()
        assert len(points) == len(hot) == len(table)
        for (ax, x, y, words, to), (_, row) in zip(points, table.iterrows(), strict=True):
            assert (ax, to, x) == (view.plane, {}, row["size_bytes"])
            assert y == pytest.approx(1 - row["error_pct"] / 100)
            assert f"{row['size_bytes']:,} B" in words
            assert f"{100 - row['error_pct']:.2f}% on test" in words
            paper = not row["method"].startswith("labkit")
            assert words.splitlines()[-1] == (f"{row['paper']}, {row['source']}" if paper else "file of this lab")


def test_papers_are_numbered_and_named_beside_the_plane():
    view, table = DeepCompression(), published("lenet-5", "mnist")
    drawn(view, checkpoint=("lenet-5", "mnist"))
    papers = table[~table["method"].str.startswith("labkit")]
    (names,) = view.names.texts
    rows = names.get_text().splitlines()
    assert [int(row.split()[0]) for row in rows] == papers.index.tolist()
    assert [row.split(", ")[-1] for row in rows] == papers["year"].astype(str).tolist()
    numbers = {text.get_text(): text.xy for text in view.plane.texts}
    assert set(numbers) == set(papers.index.astype(str))
    assert all(numbers[str(i)][0] == row["size_bytes"] for i, row in papers.iterrows())
    drawn(view, checkpoint=("resnet-20", "cifar10"))
    assert view.names.texts[0].get_text() == ""
    assert {line.get_label() for line in view.plane.lines if line.get_label()[0] != "_"} == {
        "one-shot frontier", "dense (validation)",
    }  # fmt: skip


def test_the_one_shot_frontier_is_that_of_the_sweep():
    view = DeepCompression()
    point = drawn(view)
    best = lk.frontier(point.dense.sweep("frontier"))
    line = next(line for line in view.plane.lines if line.get_label() == "one-shot frontier")
    assert np.array_equal(line.get_xdata(), best["size_bytes"])
    assert np.array_equal(line.get_ydata(), best["accuracy"])


@pytest.mark.parametrize("settings", [(0.7, 3, "context (seconds)"), (0.95, 4, "fixed width")])
def test_the_code_gives_what_the_panel_shows(conv, digits, mine, settings):
    view, how = DeepCompression(mine), dict(zip(("sparsity", "bits", "coder"), settings, strict=True))
    *_, point = view.results(**how)
    *lines, scored = view.code(how).splitlines()
    known = dict(model=conv, data=digits)
    exec("\n".join(lines), known)  # noqa: S102 - our own
    assert eval(scored, known) == (point.score.accuracy, point.size_bytes)  # noqa: S307


def test_every_control_changes_the_figures(conv, digits, mine):
    """Therefore none of them is ever idle."""
    view, base = DeepCompression(mine), dict(sparsity=0.7, bits=4, coder="range coder")
    changes = [{}, dict(sparsity=0.8), dict(bits=3), dict(coder="fixed width")]
    assert len({drawn(view, **base | change).size_bytes for change in changes}) == 4
    panel = explore.deep_compression(conv, digits, "beyond: retrain it")
    assert panel.settings() == dict(sparsity=0.98, bits=4, coder="range coder")
    assert not [name for name, at in panel.frame["places"].items() if at["disabled"]]
    for scene in DeepCompression.scenes:
        panel.set(scene)
        assert not panel.status.startswith("⚠")


def test_published_figures_are_bytes_of_one_network():
    table = published("lenet-300-100", "mnist")
    assert table.index.tolist() == list(range(1, len(table) + 1))
    paper = table[table["method"].str.startswith("Deep Compression")].iloc[0]
    assert (paper.size_bytes, paper.error_pct) == (27_000, 1.58)
    assert (table["size_bytes"] > 0).all()
    assert published("resnet-20", "cifar10").empty
    assert isinstance(published("lenet-5", "mnist"), pd.DataFrame)
    assert len(published("lenet-5", "mnist")) > 4
