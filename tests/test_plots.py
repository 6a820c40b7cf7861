"""Pictures: what the artists hold is what the data says; no mathtext and no pyplot, which threads cannot share."""

import io
import itertools
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from labkit import drawing
from labkit.drawing._base import gathered, spread
from labkit.frontier import frontier
from labkit.topics.deep_compression.plots import published_plane
from labkit.topics.knowledge_distillation.plots import LESSONS, class_bars, learning_curves, signed_bars, width_curves
from labkit.topics.magnitude_pruning.plots import METHODS, place_sparsity, sparsity_curves
from labkit.topics.quantization.plots import scheme_curves


@pytest.fixture
def ax():
    figure = Figure(figsize=(6, 4), dpi=60)
    FigureCanvasAgg(figure)
    return figure.add_subplot()


def drawn(ax):
    """Every text that a reader sees, after a full draw."""
    ax.figure.canvas.draw()
    return [t.get_text() for t in ax.figure.findobj(Text) if t.get_visible() and t.get_text()]


def tick_labels(axis):
    """The labels of the ticks that lie in view."""
    low, high = sorted(axis.get_view_interval())
    return [t.label1.get_text() for t in axis.get_major_ticks() if low <= t.get_loc() <= high]


def records(columns, *rows):
    return pd.DataFrame(list(rows), columns=columns.split())


FRONTIER = "size_bytes accuracy bits"
CLOUD = records(
    FRONTIER, (900, 0.1, 1), (5_000, 0.93, 2), (6_000, 0.92, 4), (60_000, 0.981, 4), (2e5, 0.98, 8), (9e5, 0.98, 32)
)
CURVES = records(
    "method sparsity seed accuracy",
    *[(m, s, seed, 0.97 - s / 10 - seed / 100) for m in METHODS for s in (0.5, 0.9) for seed in (0, 1, 2)],
)
SCHEMES = records(
    "symmetric granularity bits accuracy size_bytes",
    *[(s, g, b, 0.5 + b / 20, 9_000 * b) for s in (True, False) for g in ("tensor", "channel") for b in (1, 4, 8)],
)
PICTURES = {
    "plane": lambda ax, empty: drawing.plane(ax, CLOUD[:0] if empty else CLOUD, 1_066_516, 0.981),
    "curves": lambda ax, empty: sparsity_curves(ax, CURVES[:0] if empty else CURVES, 0.981),
    "schemes": lambda ax, empty: scheme_curves(ax, SCHEMES[:0] if empty else SCHEMES, 1_066_516, 0.981),
    "waterfall": lambda ax, empty: drawing.waterfall(ax, [] if empty else ["values", "header"]),
    "bars": lambda ax, empty: drawing.layer_bars(ax, [] if empty else ["fc1", "fc2", "fc3"], "zeros"),
}


# scales


@pytest.mark.parametrize(
    ("size", "said"),
    [(0, "0 B"), (812, "812 B"), (999, "999 B"), (1_000, "1 KB"), (23_400, "23.4 KB"), (999_400, "999 KB"),
     (999_999, "1 MB"), (1_066_516, "1.07 MB"), (999_600_000, "1 GB"), (25e9, "25 GB")],
)  # fmt: skip
def test_kilobytes(size, said):
    assert drawing.kilobytes(size) == said


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_a_larger_file_never_reads_smaller(one, other):
    units = {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9}
    small, large = (float(n) * units[u] for n, u in (drawing.kilobytes(s).split() for s in sorted([one, other])))
    assert small <= large
    assert small == pytest.approx(min(one, other), rel=0.005)


shares = st.floats(0, 1)


@given(shares, shares)
def test_a_higher_accuracy_lies_higher_and_none_lies_nowhere(one, other):
    low, high = sorted([one, other])
    assert spread(low) <= spread(high)
    assert math.isfinite(spread(low))


@given(st.floats(0.021, 0.9994))
def test_the_scale_of_accuracies_is_the_logit(p):
    place = float(spread(p))
    assert 1 / (1 + math.exp(-place)) == pytest.approx(p)
    assert spread(1 - p) == pytest.approx(-place) or not 0.021 < 1 - p < 0.9994


@given(st.floats(-0.2, 1.2))
def test_a_place_on_the_scale_is_an_accuracy_again(p):
    assert gathered(spread(p)) == pytest.approx(p, abs=1e-9)


def test_an_axis_of_accuracies_is_read_and_drawn_in_plain_accuracies(ax):
    drawing.accuracy_axis(ax, 0.1, 0.99)
    assert ax.get_yscale() == "accuracy"
    drawn(ax)
    assert tick_labels(ax.yaxis)[-3:] == ["95 %", "98 %", "99 %"]
    assert drawing.moved(0.9, 0.0) == pytest.approx(0.9)
    pixels = [ax.transData.transform((0, share))[1] for share in (0.5, 0.9, 0.99)]
    halves = [math.log(share / (1 - share)) for share in (0.5, 0.9, 0.99)]
    assert (pixels[2] - pixels[1]) / (pixels[1] - pixels[0]) == pytest.approx((halves[2] - halves[1]) / halves[1])


@given(st.floats(0, 1))
def test_a_sparsity_has_a_place_inside_the_curves_axis(sparsity):
    figure = Figure()
    ax = figure.add_subplot()
    sparsity_curves(ax, CURVES[:0], 0.98)
    assert ax.get_xlim()[0] < place_sparsity(sparsity) < ax.get_xlim()[1]


def test_the_place_of_a_sparsity_is_its_tick(ax):
    sparsity_curves(ax, CURVES, 0.98)
    labels = {t.get_text(): x for t, x in zip(ax.get_xticklabels(), ax.get_xticks(), strict=True)}
    assert {float(k.rstrip("%")) / 100 for k in labels} == {0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99}
    for label, x in labels.items():
        assert place_sparsity(float(label.rstrip("%")) / 100) == pytest.approx(x)


@pytest.mark.parametrize(("smallest", "largest"), [(1_500, 2e6), (3, 40), (5e4, 5e8)])
def test_ticks_of_a_size_axis_say_where_they_are(ax, smallest, largest):
    drawing.size_axis(ax, smallest, largest)
    drawn(ax)
    shown = [t.get_loc() for t in ax.xaxis.get_major_ticks() if smallest <= t.get_loc() <= largest]
    assert tick_labels(ax.xaxis) == [drawing.kilobytes(v) for v in shown]
    assert 2 <= len(shown) <= 9
    assert shown == sorted(set(shown))
    assert ax.get_xlim() == (smallest, largest)


def test_ticks_of_an_accuracy_axis_say_where_they_are(ax):
    drawing.accuracy_axis(ax, 0.2, 0.985)
    drawn(ax)
    assert tick_labels(ax.yaxis) == ["30 %", "50 %", "70 %", "80 %", "90 %", "95 %", "98 %"]
    shown = [y for y in ax.get_yticks() if ax.get_ylim()[0] <= y <= ax.get_ylim()[1]]
    assert shown == pytest.approx([p for p in (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)])


@given(st.floats(10, 1e8), shares)
def test_room_is_made_for_a_point_once(size, accuracy):
    ax = Figure().add_subplot()
    drawing.plane(ax, CLOUD[:0], 1_066_516, 0.98)
    before = ax.get_xlim(), ax.get_ylim()
    made = drawing.make_room(ax, size, accuracy)
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    assert left < size < right
    assert bottom < accuracy < top
    assert left <= before[0][0] < before[0][1] <= right
    assert bottom <= before[1][0] < before[1][1] <= top
    assert made == ((ax.get_xlim(), ax.get_ylim()) != before)
    assert not drawing.make_room(ax, size, accuracy)


# pictures


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.parametrize("empty", [False, True])
def test_no_picture_uses_mathtext_and_none_needs_data(ax, kind, empty):
    PICTURES[kind](ax, empty)
    assert not [t for t in drawn(ax) if "$" in t]


@pytest.mark.parametrize("dense", [0.1, 0.98, 0.9995, 1.0])
@pytest.mark.parametrize("kind", ["plane", "schemes"])
def test_the_dense_network_and_every_record_lie_inside(ax, kind, dense):
    if kind == "plane":
        drawing.plane(ax, CLOUD, 1_066_516, dense)
    else:
        scheme_curves(ax, SCHEMES, 1_066_516, dense)
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    (diamond,) = [line for line in ax.lines if line.get_marker() == "D" and line.get_color() == drawing.RED]
    assert diamond.get_xdata()[0] == 1_066_516
    assert bottom < diamond.get_ydata()[0] < top
    for line in ax.lines:
        assert ((left < line.get_xdata()) & (line.get_xdata() < right)).all()
        assert (bottom < np.asarray(line.get_ydata())).all()


def test_the_plane_holds_every_record_under_its_bits_and_the_frontier(ax):
    drawing.plane(ax, CLOUD, 1_066_516, 0.981)
    lines = {line.get_label(): line for line in ax.lines}
    assert set(lines) == {"1 bit", "2", "4", "8", "float", "frontier", "dense fp32"}
    for bits, rows in CLOUD.groupby("bits"):
        line = lines["float" if bits == 32 else "1 bit" if bits == 1 else str(bits)]
        assert line.get_xdata().tolist() == rows["size_bytes"].tolist()
        assert line.get_ydata() == pytest.approx(rows["accuracy"].to_numpy())
    assert lines["frontier"].get_xdata().tolist() == frontier(CLOUD)["size_bytes"].tolist() == [900, 5_000, 60_000]


def test_curves_are_means_in_a_band_from_the_worst_to_the_best_seed(ax):
    sparsity_curves(ax, CURVES, 0.981)
    line = next(line for line in ax.lines if line.get_label() == "fine-tuned")
    assert line.get_ydata() == pytest.approx(np.array([0.91, 0.87]))
    heights = [path.vertices[:, 1] for band in ax.collections for path in band.get_paths()]
    assert len(heights) == len(METHODS)
    for band in heights:
        assert (band.min(), band.max()) == pytest.approx((0.86, 0.92))


def test_every_scheme_has_a_line_with_a_marker_of_its_own(ax):
    scheme_curves(ax, SCHEMES, 1_066_516, 0.981)
    lines = {line.get_label(): line for line in ax.lines if line.get_label() != "dense fp32"}
    names = [f"{s}, per {g}" for s, g in itertools.product(("symmetric", "affine"), ("tensor", "channel"))]
    assert list(lines) == names
    assert len({line.get_marker() for line in lines.values()}) == 4
    assert len({line.get_color() for line in lines.values()}) == 4


def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_methods_and_bits_can_be_told_apart_without_colour():
    assert len({marker for _, marker, _ in METHODS.values()}) == len(METHODS)
    shades = [luminance(c) for c in drawing.BITS_COLOURS.values()]
    assert shades == sorted(shades) or shades[:-1] == sorted(shades[:-1])


@given(st.lists(st.integers(0, 10**6), min_size=3, max_size=3))
def test_a_waterfall_starts_each_bar_where_the_one_above_ends(sizes):
    components, ax = ["values", "scales", "header"], Figure().add_subplot()
    bars, texts = drawing.waterfall(ax, components)
    drawing.fill_waterfall(bars, texts, dict(zip(components, sizes, strict=True)), components)
    total = max(1, sum(sizes))
    assert [t.get_text() for t in texts] == [f"{s:,} B" for s in (*sizes, total)]
    assert [b.get_width() * total for b in bars] == pytest.approx([*sizes, total])
    ends = [b.get_x() + b.get_width() for b in bars]
    assert [b.get_x() for b in bars] == pytest.approx([0, *ends[:2], 0])
    assert ends[2] == pytest.approx(1 if sum(sizes) else 0)
    assert max(t.get_position()[0] for t in texts) < ax.get_xlim()[1]


def test_a_component_that_a_file_lacks_has_an_empty_bar(ax):
    bars, texts = drawing.waterfall(ax, ["values", "scales"])
    drawing.fill_waterfall(bars, texts, {"values": 7}, ["values", "scales"])
    assert [(b.get_width(), t.get_text()) for b, t in zip(bars, texts, strict=True)] == [
        (1, "7 B"),
        (0, "0 B"),
        (1, "7 B"),
    ]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["values", "scales", "file"]


def test_a_filmstrip_places_pictures_side_by_side():
    images = np.linspace(0, 0.9, 2 * 4 * 3 * 3).reshape(2, 4, 3, 3).astype(np.float32)
    strip = drawing.filmstrip(images, 3)
    assert strip.shape == (4, 3 * 5, 4)
    assert (strip[:, 0:3, :3] == images[0]).all()
    assert (strip[:, 5:8, :3] == images[1]).all()
    shown = [*range(3), *range(5, 8)]
    assert (strip[:, shown, 3] == 1).all()
    assert (strip[:, [i for i in range(15) if i not in shown], 3] == 0).all()
    assert (drawing.filmstrip(images[:0], 2)[..., 3] == 0).all()
    assert (drawing.filmstrip(np.concatenate([images] * 3), 2) == drawing.filmstrip(images, 2)).all()


def test_a_picture_shows_itself_with_its_words():
    figure, ax = drawing.new_figure("two points", 3, 2)
    ax.plot([0, 1])
    data, metadata = figure._repr_mimebundle_()
    assert (data["text/plain"], metadata["image/png"]["alt"]) == ("two points", "two points")
    assert Image.open(io.BytesIO(data["image/png"])).size == (300, 200)


def test_pyplot_is_never_imported():
    code = (
        "import sys; from labkit import drawing; drawing.new_figure('x')[0]._repr_mimebundle_();"
        "from labkit import explore; print('matplotlib.pyplot' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


def students(seeds=3):
    rng = np.random.default_rng(0)
    rows = itertools.product(LESSONS, (8, 32, 128), range(seeds))
    return pd.DataFrame([dict(method=m, width=w, seed=i, accuracy=rng.uniform(0.7, 0.9)) for m, w, i in rows])


def test_students_curves_are_means_in_a_band_from_the_worst_to_the_best_seed(ax):
    records = students()
    width_curves(ax, records, 0.95)
    lines = {line.get_label(): line for line in ax.lines}
    assert set(lines) == {*LESSONS, "teacher"}
    for (method, rows), band in zip(records.groupby("method", sort=False), ax.collections, strict=True):
        means = rows.groupby("width")["accuracy"].mean()
        assert lines[method].get_xdata().tolist() == [8, 32, 128]
        assert lines[method].get_ydata() == pytest.approx(means.to_numpy())
        low, high = rows["accuracy"].min(), rows["accuracy"].max()
        assert band.get_datalim(ax.transData).y0 == pytest.approx(float(low))
        assert band.get_datalim(ax.transData).y1 == pytest.approx(float(high))
    bottom, top = ax.get_ylim()
    assert bottom < float(records["accuracy"].min())
    assert top > 0.95


def test_lessons_can_be_told_apart_without_colour():
    assert len({marker for _, marker, _ in LESSONS.values()}) == len(LESSONS)


def test_class_bars_start_empty_and_have_a_text_a_row(ax):
    soft, sharp, texts = class_bars(ax, ["cat", "dog"])
    assert [bar.get_width() for bar in soft] == list(sharp.get_xdata()) == [0, 0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cat", "dog"]
    assert [text.get_position()[1] for text in texts] == [0, 1]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first class is at the top


def test_signed_bars_leave_room_on_both_sides(ax):
    bars = signed_bars(ax, 3, 6.0)
    assert len(bars) == 3
    assert ax.get_xlim() == (-6, 6)


def test_learning_curves_are_empty_and_the_teacher_is_a_line(ax):
    alone, taught, ghosts = learning_curves(ax, 4, 0.9)
    assert [len(line.get_xdata()) for line in (alone, taught, *ghosts)] == [0] * 6
    assert alone.get_marker() != taught.get_marker()
    (teacher,) = [line for line in ax.lines if line.get_label() == "teacher"]
    assert teacher.get_ydata()[0] == pytest.approx(0.9)


def test_the_published_plane_numbers_papers_and_draws_our_files():
    figure = Figure()
    ax = figure.add_subplot()
    methods, errors = ["Paper A (x)", "Paper B", "labkit, seed 0"], [1.5, 2.0, 1.0]
    table = pd.DataFrame(
        dict(method=methods, year=2020, error_pct=errors, size_bytes=[9_000, 20_000, 4_000]), [1, 2, 3]
    )
    key = published_plane(ax, table, 1_000_000, 0.98)
    papers, ours = (next(line for line in ax.lines if line.get_label().startswith(k)) for k in ("papers", "this lab"))
    assert papers.get_xdata().tolist() == [9_000, 20_000]
    assert ours.get_ydata().tolist() == pytest.approx([0.99])
    assert [text.get_text() for text in ax.texts] == ["1", "2"]
    assert key == ["1  Paper A, 2020", "2  Paper B, 2020"]
    # the dense network and the star are not scored where the papers are
    assert {"papers (test)", "this lab (test)", "dense (validation)"} == {line.get_label() for line in ax.lines}
