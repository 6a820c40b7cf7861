"""Good arguments for every public picture. The Axes themselves are matplotlib's own, and not tried."""

import inspect

import matplotlib.figure
import numpy as np
import pandas as pd
from arguments import Case, Fresh

from labkit import drawing
from labkit.topics.deep_compression.plots import published_plane
from labkit.topics.hyperparameter_search.plots import optimism_curves, sampler_curves
from labkit.topics.knowledge_distillation.plots import width_curves
from labkit.topics.learning_rate.plots import fill_lr_range, lr_background, lr_curves, lr_range_axis, lr_smaller_curves
from labkit.topics.magnitude_pruning.plots import sparsity_curves
from labkit.topics.optimizers.plots import optimizer_dots, rate_curves
from labkit.topics.order_matters.plots import composed_means, order_plane
from labkit.topics.other_architectures.plots import layer_dots, lost_plane, scan_picture
from labkit.topics.quantization.plots import scheme_curves
from labkit.topics.regularization.plots import penalty_curves, prunable_plane
from labkit.topics.shared_weights.plots import sharing_curves
from labkit.topics.structured_pruning.plots import macs_curves
from labkit.topics.the_article_mlp.plots import clipping_curves, fault_curves, step_curves
from labkit.topics.training_with_few_bits.plots import bits_curves


def axes():
    return matplotlib.figure.Figure().add_subplot()


AX = Fresh(axes)
DENSE = dict(dense_bytes=1000, dense_accuracy=0.97)
RECORDS = pd.DataFrame(dict(
    size_bytes=[300, 500], accuracy=[0.8, 0.9], bits=[2, 4], method="one-shot", sparsity=[0.5, 0.9], width=[4, 8],
    symmetric=True, granularity="tensor", macs=[300, 500], seed=0, steps="prune", lr=[0.1, 0.2], optimizer="SGD",
    schedule="step", threshold=[0.1, 0.2], code="mended", precision="float32", h=[0.1, 0.2], error=[0.1, 0.2],
    sampler="tpe", state="complete", trained=1, images=100, trials=[5, 10], fresh=[0.7, 0.8], strength=[0.1, 0.2],
    error_pct=[2.0, 3.0], year=2020, mean=0.1, low=0.0, high=0.2, part="1.weight", kind="linear", lost=1.0, change="x",
    **{name: [0.5, 0.6] for name in ("accuracy_at_0.8", "accuracy_at_0.9", "accuracy_4_bits", "accuracy_3_bits")},
))  # fmt: skip
BITS, L1 = RECORDS.assign(method="QAT"), RECORDS.assign(method=["L1", "none"])
SHARING, TRAINED = RECORDS.assign(method="grid"), RECORDS.assign(sampler="tpe")
DENSE_ROW = RECORDS.assign(sparsity=[0.0, 0.5], bits=[32, 4])
DENSE_ROW = RECORDS.assign(sparsity=[0.0, 0.5], bits=[32, 4])
LR_TEST = pd.DataFrame(dict(lr=[0.1, 0.2], loss=[1.0, 2.0], smoothed_loss=[1.0, 2.0]))
READINGS = {"steepest": 0.1, "tenth of minimum": 0.15}


def drawn(function, **good):
    """A case in which only the table is tried."""
    given = inspect.signature(function).parameters
    good = ({"ax": AX} if "ax" in given else {}) | good
    return Case(function, good, free=tuple(k for k in given if not isinstance(good.get(k), pd.DataFrame)))


def of_one(function, name, table, **good):
    """A case of a mapping of tables, as if it took one."""

    def call(**tables):
        return function(**{"ax": axes()} if "ax" in inspect.signature(function).parameters else {}, **tables, **good)

    ax = {"ax": AX} if "ax" in inspect.signature(function).parameters else {}
    free = ("ax", *good, "most")
    return Case(function, ax | {name: table} | good, free=free, call=lambda **t: call(**{name: {"a": t[name]}}))


CASES = [
    drawn(layer_dots, losses=RECORDS),
    drawn(clipping_curves, records=RECORDS),
    drawn(fault_curves, records=RECORDS),
    drawn(step_curves, records=RECORDS),
    drawn(composed_means, records=RECORDS),
    drawn(drawing.effects, table=RECORDS, label="a"),
    *(drawn(f, records=RECORDS, **DENSE) for f in (order_plane, drawing.plane)),
    *(drawn(f, records=r, **DENSE) for f, r in ((scheme_curves, RECORDS), (sharing_curves, SHARING))),
    drawn(published_plane, published=RECORDS, **DENSE),
    drawn(sparsity_curves, records=RECORDS, dense_accuracy=0.97),
    drawn(width_curves, records=RECORDS, teacher_accuracy=0.97),
    drawn(macs_curves, records=RECORDS, dense_macs=1000, dense_accuracy=0.97),
    drawn(bits_curves, records=BITS, column="method", bits=[2, 4], lowest=0.1),
    *(drawn(f, records=RECORDS) for f in (lr_background, lr_curves, lr_smaller_curves)),
    drawn(penalty_curves, records=L1, column="accuracy_at_0.9", methods=["L1"]),
    drawn(prunable_plane, records=L1, column="accuracy_at_0.9"),
    drawn(optimism_curves, records=RECORDS),
    drawn(sampler_curves, records=TRAINED, epochs=np.arange(1, 3)),
    drawn(optimizer_dots, table=RECORDS, columns={"accuracy": "a"}),
    drawn(rate_curves, records=RECORDS),
    drawn(fill_lr_range, lines=lr_range_axis(axes()), test=LR_TEST, readings=READINGS),
    of_one(lost_plane, "tables", DENSE_ROW, shown="a"),
    of_one(scan_picture, "scans", RECORDS, changes=["x"]),
]  # fmt: skip
