"""Everything public × bad values: a sentence that names the argument, or a right result; never torch's words.

`arguments.py` has the bad values of each kind of argument, `argument_cases.py` and `argument_plots.py` the calls.
"""

import importlib
import importlib.util
import pkgutil

import argument_cases
import argument_plots
import numpy as np
import pandas as pd
import pytest
import torch
from arguments import DATA, MODEL, NAN_MODEL, SPLIT, calls, facts, kind_of, verdict

import labkit as lk
from labkit import explore, losses, topics
from labkit.data import Split
from labkit.search import search
from labkit.train import correct_mask

CASES = [*argument_cases.CASES, *argument_plots.CASES]
PANELS = [case for case in CASES if getattr(explore, case.function.__name__, None) is case.function]
REST = [case for case in CASES if case not in PANELS]
NAMED = dict(argvalues=REST, ids=lambda case: case.name)

# What is not tried, and why.
ROOMS = (
    "article", "augment", "budget", "compress", "data", "drawing", "explore", "export", "frontier", "losses", "measure",
    "models", "optim", "search", "seeds", "significance", "store", "surfaces", "sweep", "topics", "train", "zoo",
)  # fmt: skip
BETWEEN = """
    small_cnn
    changes layer_parts kind_parts shuffled settings_of untrained_lenet regularizers regularized described trained_by
    afterwards shipped_right accuracy logits train_mlp training_objective recipe recipe_objective
    hyperband parts
    grid_of table_from spent images_for measured_table ranges gains against_one_shot
    Shipped labkit_file onnx_file c_header torch_run onnx_run rounded half_the_macs c_milliseconds correct_of
    milliseconds first_lines
"""


def of_topics():
    """(name for EXEMPT, object) of the functions of the experiments and pictures of every topic."""
    names = [f"labkit.topics.{topic}.{inner}" for topic in topics.TOPICS for inner in ("experiment", "plots")]
    modules = [importlib.import_module(name) for name in names if importlib.util.find_spec(name)]
    return [
        (f"{m.__name__.rpartition('.')[2]}.{k}", v)
        for m in modules
        for k, v in vars(m).items()
        if callable(v) and not k.startswith("_") and getattr(v, "__module__", "") == m.__name__
    ]


TOPICS = of_topics()
PIECES = (
    "choices_for", "cost_of", "cost_of_whole", "allocations", "spend", "improve",
)  # fmt: skip
EXEMPT = {
    # pictures without a table: their figures come from the panels, and matplotlib refuses what is no figure
    **{f"drawing.{name}": "no table" for name in lk.drawing.__all__},
    **{name: "no table" for name, _ in TOPICS if name.startswith("plots.")},
    # the lab's own runs, of minutes to hours, over grids and checkpoints of their own
    **{name: "a run of ours" for name, _ in TOPICS if name.endswith(("_sweep", "_test", ".make"))},
    "experiment.across": "a run of ours",
    "sweep.run_and_ship": "a run of ours",
    # between the sweep and the panel of one topic
    **{f"experiment.{name}": "between parts" for name in BETWEEN.split()},
    "zoo.retrain": "a run of ours",
    "data.fetch.fetch_cifar10": "takes a folder of the user's, or the web",
    # no arguments, or paths that the lab itself works with
    **dict.fromkeys(["data.damaged", "data.data_dir", "data.manifest", "zoo.figures"], "no arguments"),
    **dict.fromkeys(["data.publish", "data.working_on"], "writes into data/"),
    **dict.fromkeys(["zoo.Recipe", "optim.Step"], "a record of ours"),
    "train.hooks_of": "between parts: fit tries it",
    **dict.fromkeys([f"budget.{name}" for name in PIECES], "between parts: fit_budget tries them"),
    "search.Cancelled": "an exception",
    "train.Interrupted": "an exception",
    "article.printed_gradient": "it is there to fail",
    # between the parts of compress: they take what another of our functions made, some in every forward pass
    **dict.fromkeys(
        ["codebook.Lookup", "codebook.install", "codebook.initial_centroids", "codebook.to_floats", "distill.Guided",
         "distill.guided", "distill.with_logits", "fold.scale_and_shift", "integer.Stage", "integer.IntegerLayer",
         "integer.IntegerNetwork", "integer.fixed_point", "integer.times", "qat.FakeQuantize", "qat.straight_through",
         "grid.Grid", "quantize.Dequantize", "quantize.QuantizeInput", "quantize.install",
         "quantize.has_input_quantizer", "quantize.integers_of",
         "quantize.install_input_quantizer", "quantize.remove_input_quantizers",
         "structured.unit_importance", "structured.least_important", "parts.Plain", "parts.Quantized", "parts.Shared",
         "parts.parts", "parts.input_quantizers", "parts.rounding_parts", "grid.grid_shapes",
         "grid.check_grid", "grid.check_groups", "grid.check_settings", "grid.in_groups", "grid.spread",
         "quantize.can_round_input", "parts.assemble"],
        "between parts"),
}  # fmt: skip


def public(room):
    """(name for EXEMPT, object) of the functions and classes of a room: what it lists, else what it defines."""
    if room == "topics":
        return TOPICS
    module = importlib.import_module(f"labkit.{room}")
    if room == "compress":
        inner = [importlib.import_module(f"labkit.compress.{m.name}") for m in pkgutil.iter_modules(module.__path__)]
        found = [
            (m, k) for m in inner if "._" not in m.__name__ for k in vars(m) if vars(m)[k] and not k.startswith("_")
        ]
        found = [(f"{m.__name__.rpartition('.')[2]}.{k}", vars(m)[k], m) for m, k in found if callable(vars(m)[k])]
        return [(name, value) for name, value, m in found if getattr(value, "__module__", "") == m.__name__]
    listed = getattr(module, "__all__", None) or [
        k for k, v in vars(module).items() if not k.startswith("_") and getattr(v, "__module__", "") == module.__name__
    ]
    return [(f"{room}.{k}", getattr(module, k)) for k in listed if callable(getattr(module, k))]


def test_everything_public_is_tried_or_exempt():
    tried = {case.function for case in CASES}
    missing = [name for room in ROOMS for name, value in public(room) if value not in tried and name not in EXEMPT]
    assert missing == []
    assert [name for name in lk.__all__ if getattr(lk, name) not in tried] == []


def test_every_argument_has_a_good_value():
    assert {case.name: case.untold() for case in CASES if case.untold()} == {}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", **NAMED)
def test_bad_values(case):
    case.run()
    found = [(name, value, verdict(case, name, value, maybe)) for name, value, maybe in calls(case)]
    assert [f"{name} = {value!r}: {said}" for name, value, said in found if said not in ("house", "right")] == []


@pytest.mark.parametrize("case", PANELS, ids=lambda case: case.name)
def test_bad_values_of_panels(case):
    found = [(name, value, verdict(case, name, value, maybe)) for name, value, maybe in calls(case) if not maybe]
    assert [f"{name} = {value!r}: {said}" for name, value, said in found if said != "house"] == []


NUMBERS = {
    "whole": [np.int64, np.int32, torch.tensor],
    "seed": [np.int64, torch.tensor],
    "number": [np.float64, lambda x: torch.tensor(x, dtype=torch.float64)],
    "flag": [np.bool_],
    "jobs": [np.int64],
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", **NAMED)
def test_numpys_numbers_and_tensors_of_one_number_are_numbers(case):
    if case.name == "measure.latency_ms":
        pytest.skip("milliseconds differ")

    def run(**changed):
        torch.manual_seed(0)
        return facts(case.run(**changed))

    expected = None
    for name, good in case.arguments().items():
        if name in case.free or type(good) not in (int, float, bool):
            continue
        expected = run() if expected is None else expected
        for wrapped in NUMBERS[kind_of(case, name, good)]:
            if wrapped is torch.tensor and case.name.startswith(("models.", "article.new_net")):
                continue  # sizes of layers are refused as tensors
            assert run(**{name: wrapped(good)}) == expected, (name, wrapped)


def test_one_label_for_many_logits_is_refused(refuses):
    said = "y has the shape (1,); allowed: (128,), one label for each row of logits"
    refuses(ValueError, said, losses.cross_entropy, MODEL, SPLIT.x, SPLIT.y[:1])
    said = "y has the shape (128, 1); allowed: (n,), one class number per example, n ≥ 1"
    refuses(ValueError, said, losses.cross_entropy, MODEL, SPLIT.x, SPLIT.y[:, None])
    refuses(
        ValueError, "y holds the label 10; allowed: 0 to 9, the classes of the logits",
        losses.cross_entropy, MODEL, SPLIT.x, SPLIT.y + 1,
    )  # fmt: skip


def test_a_network_of_nan_has_no_accuracy(refuses):
    said = "model Sequential returns 1280 logits that are NaN; allowed: numbers"
    for call, given in ((lk.accuracy, (NAN_MODEL, SPLIT)), (lk.compare, (MODEL, NAN_MODEL, SPLIT)),
                        (lk.measure, (NAN_MODEL, SPLIT)), (lk.sensitivity, (NAN_MODEL, SPLIT, {}))):  # fmt: skip
        refuses(ValueError, said, call, *given)
    assert correct_mask(NAN_MODEL, SPLIT).sum() == 13  # but a training that diverges goes on


def test_a_data_set_fits_itself(refuses):
    facts_of = {name: getattr(DATA, name) for name in ("name", "train", "validation", "test", "classes", "mean", "std")}
    small = Split(torch.rand(4, 1, 7, 7), torch.arange(4))
    said = "test has examples of the shape (1, 7, 7); allowed: (1, 8, 8), as in train"
    refuses(ValueError, said, lk.Data, **facts_of | dict(test=small))
    said = "classes has 3 names; allowed: 10 or more, for train has the label 9"
    refuses(ValueError, said, lk.Data, **facts_of | dict(classes=("a", "b", "c")))


def test_an_empty_choice_is_no_choice(refuses):
    said = "layers is []; allowed: a list of at least one name, or None for all"
    for call in (lk.prune, lk.quantize, lk.share_weights, lk.prepare_qat):
        refuses(ValueError, said, call, MODEL, *([0.5] if call is lk.prune else [4]), layers=[])
    for call in (lk.encode, lk.ledger):
        said = "coders is 'zip'; allowed: 'raw', 'huffman', 'range', 'context'"
        refuses(ValueError, said, call, MODEL, coders=["zip"])


def test_a_storage_may_be_a_path(tmp_path):
    study = search(lambda trial, a: {"accuracy": a}, {"a": [1, 2]}, trials=2, storage=tmp_path / "study.journal")
    assert (tmp_path / "study.journal").exists()
    assert len(study.trials) == 2


def test_the_verdict_tells_ours_from_torchs():
    case = next(case for case in CASES if case.name == "train.predict")
    assert verdict(case, "batch_size", 0, False) == "house"
    case.call = lambda model, x, **rest: torch.cat([model(batch) for batch in x.split(rest["batch_size"])])
    assert "split" in verdict(case, "batch_size", -1, False)
    assert verdict(case, "batch_size", 3, False) == "let in"
    case.call = None


def test_tables_are_told_from_other_things(refuses):
    refuses(TypeError, "records is a dict; allowed: a pandas.DataFrame", lk.frontier, {})
    said = "records lacks the columns ['accuracy']; allowed: a table with size_bytes, accuracy"
    refuses(ValueError, said, lk.frontier, pd.DataFrame({"size_bytes": [1]}))
