"""Pictures of notebook 10b: every composition is drawn under what came first; intervals reach from low to high."""

import pandas as pd
import pytest
from matplotlib.figure import Figure

from labkit import plots

SWEEP = pd.DataFrame(
    dict(
        bits=3,
        steps=["prune, quantize", "prune, quantize", "quantize, distil, prune", "distil", "fine-tune"],
        accuracy=[0.9, 0.8, 0.7, 0.95, 0.96],
        size_bytes=[9_000, 11_000, 8_000, 900_000, 900_000],
    )
)


def test_a_composition_stands_under_what_came_first():
    ax = Figure().add_subplot()
    way = plots.order_plane(ax, SWEEP, 1_000_000, 0.98)
    assert (way.get_label(), len(way.get_xdata())) == ("these steps, mild to hard", 0)
    lines = {line.get_label(): line for line in ax.lines}
    assert lines["prune before quantize"].get_xdata().tolist() == [10_000]
    assert lines["prune before quantize"].get_ydata().tolist() == pytest.approx([float(plots.logit(0.85))])
    assert lines["quantize before prune"].get_xdata().tolist() == [8_000]
    assert len(lines["not both"].get_xdata()) == 2
    left, right = ax.get_xlim()
    assert left < 8_000 < 1_000_000 < right


def test_a_composition_is_followed_from_mild_to_hard():
    table = pd.concat([SWEEP, SWEEP.assign(bits=5, accuracy=0.99)])
    means = plots.composed_means(table)
    rows = means[means["steps"] == "prune, quantize"]
    assert rows["bits"].tolist() == [5, 3]
    assert rows["accuracy"].tolist() == pytest.approx([0.99, 0.85])
    assert plots.composed_means(table[:0]).empty


def test_without_a_sweep_there_is_still_a_plane():
    ax = Figure().add_subplot()
    plots.order_plane(ax, pd.DataFrame(columns=SWEEP.columns), 1_000_000, 0.98)
    assert len(ax.lines[0].get_xdata()) == 0


def test_an_interval_reaches_from_low_to_high_and_says_on_which_side_it_is():
    table = pd.DataFrame(dict(mean=[1.0, 0.2], low=[0.5, -0.5], high=[2.0, 0.9]), [(3, "a, b"), "c"])
    ax = Figure().add_subplot()
    plots.effects(ax, table, "logits")
    reached = [segment[:, 0].tolist() for bars in ax.containers for segment in bars[2][0].get_segments()]
    assert reached == [pytest.approx([0.5, 2.0]), pytest.approx([-0.5, 0.9])]
    assert [bars.get_label() for bars in ax.containers] == ["the interval is on one side of 0", "it contains 0"]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["3 · a, b", "c"]


def test_a_composition_in_a_line():
    assert plots.composed_caption("quantize, prune", 0.95, 3, 0.9104, 13_381) == (
        "quant → prune, 95%, 3 bit: 91.0%, 13.4 KB"
    )
    assert plots.composed_caption("distil", 0.95, 3, 0.98, 1_066_516) == "distil: 98.0%, 1.07 MB"
