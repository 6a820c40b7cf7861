"""Sweeps: every combination once, no matter how often and where a run is interrupted."""

import contextlib
import doctest
import functools
import itertools
import os
import re
import signal
import threading
from collections import Counter

import joblib
import numpy as np
import pandas as pd
import pytest
import torch

import labkit
from labkit import data, sweep
from labkit.compress.compose import one_shot
from labkit.compress.magnitude import sparsity_of
from labkit.data import load_data, take
from labkit.measure import accuracy, size_bytes
from labkit.models import mlp
from labkit.store import encode
from labkit.sweep import shipped_sweep, sweep_path
from labkit.topics.knowledge_distillation.experiment import (
    DISTILLATION_GRID,
    SEEDS,
    TEMPERATURE_GRID,
    UNSEEN_GRID,
    student_of,
)
from labkit.topics.magnitude_pruning.experiment import PRUNING_GRID
from labkit.topics.quantization.experiment import QUANTIZATION_GRID
from labkit.topics.start_here.experiment import FRONTIER_GRID
from labkit.train import fit
from labkit.zoo import load_model
from tests.waiting import until

GRID = {"a": (1, 2, 3), "b": ("x", "y")}


def result_of(a, b):
    return {"third": a / 3, "name": f"{b}{a}"}


class Counting:
    """`result_of` that notes its calls, and raises at one of them."""

    def __init__(self, fails_at=None):
        self.calls, self.fails_at = [], fails_at

    def __call__(self, a, b):
        self.calls.append((a, b))
        if (a, b) == self.fails_at:
            raise RuntimeError("no")
        return result_of(a, b)


ALL = list(itertools.product(*GRID.values()))
TABLE = pd.DataFrame([dict(a=a, b=b, **result_of(a, b)) for a, b in ALL])
same = functools.partial(pd.testing.assert_frame_equal, check_exact=True)


@pytest.mark.parametrize("kept", [False, True], ids=["in memory", "in a file"])
def test_each_combination_is_run_once(tmp_path, kept):
    run = Counting()
    same(sweep.run(run, GRID, path=tmp_path / "new folder" / "t.csv" if kept else None), TABLE)
    assert run.calls == ALL


def test_rows_in_the_file_are_not_run_again(tmp_path):
    path = tmp_path / "t.csv"
    sweep.run(Counting(), {"a": (1, 3), "b": ("y",)}, path=path)
    run = Counting()
    same(sweep.run(run, GRID, path=path), TABLE)
    assert run.calls == [s for s in ALL if s not in [(1, "y"), (3, "y")]]
    again = Counting()
    same(sweep.run(again, GRID, path=path), TABLE)
    assert again.calls == []
    assert [file for file in tmp_path.iterdir() if file.suffix != ".lock"] == [path]  # no half-written file beside it


def test_a_file_in_any_order_ends_in_the_order_of_the_grid(tmp_path):
    path = tmp_path / "t.csv"
    TABLE.iloc[[5, 2]].to_csv(path, index=False)
    sweep.run(result_of, GRID, path=path)
    same(pd.read_csv(path), TABLE)


def test_a_narrower_grid_leaves_the_other_rows_in_the_file(tmp_path):
    path = tmp_path / "t.csv"
    sweep.run(result_of, GRID, path=path)
    narrow = sweep.run(Counting(), {"a": (4, 2), "b": ("x",)}, path=path)
    assert narrow[["a", "b"]].values.tolist() == [[4, "x"], [2, "x"]]
    assert len(pd.read_csv(path)) == 7


@pytest.mark.parametrize("fails_at", [ALL[0], ALL[3], ALL[-1]], ids=["first", "middle", "last"])
def test_a_run_that_raises_costs_no_row_before_it(tmp_path, fails_at):
    path, run = tmp_path / "t.csv", Counting(fails_at)
    with pytest.raises(RuntimeError, match="^no$"):
        sweep.run(run, GRID, path=path)
    before = ALL.index(fails_at)
    rows = pd.read_csv(path) if before else TABLE[:0]
    same(rows, TABLE[:before])
    repaired = Counting()
    same(sweep.run(repaired, GRID, path=path), TABLE)
    assert repaired.calls == ALL[before:]


def test_an_interrupt_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "t.csv"
    sweep.run(result_of, {"a": (1,), "b": ("x",)}, path=path)
    before = path.read_bytes()

    def torn(_handle):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", torn)
    with pytest.raises(KeyboardInterrupt):
        sweep.run(result_of, GRID, path=path)
    assert path.read_bytes() == before


def test_two_jobs_give_the_same_table(tmp_path):
    path = tmp_path / "t.csv"
    same(sweep.run(result_of, GRID, path=path, n_jobs=2), TABLE)
    same(pd.read_csv(path), TABLE)


def test_seeds_are_passed_on_and_vary_fastest(tmp_path):
    path = tmp_path / "t.csv"
    table = sweep.run(lambda a, seed: {"sum": a + seed}, {"a": (10, 20)}, np.arange(2), path)
    assert table.to_dict("list") == {"a": [10, 10, 20, 20], "seed": [0, 1, 0, 1], "sum": [10, 11, 20, 21]}
    same(pd.read_csv(path), table)
    more = sweep.run(lambda a, seed: {"sum": -1}, {"a": (20,)}, (2, 1), path)
    assert more.to_dict("list") == {"a": [20, 20], "seed": [2, 1], "sum": [-1, 21]}
    assert sweep.run(lambda seed: {"half": seed / 2}, {}, (3,)).to_dict("list") == {"seed": [3], "half": [1.5]}


def test_a_seed_has_one_place(refuses):
    said = "grid has the setting 'seed'; allowed: other names, as the seeds go into the argument seeds"
    refuses(ValueError, said, sweep.run, result_of, {"a": (1,), "seed": (0, 1)})


def test_the_example_of_the_docstring_runs():
    (test,) = doctest.DocTestFinder(recurse=False).find(sweep.run, "run", module=False, globs={"lk": labkit})
    assert doctest.DocTestRunner(verbose=False).run(test) == (0, 2)


def test_the_bar_counts_the_rows_that_are_there(tmp_path, capsys):
    path = tmp_path / "t.csv"
    sweep.run(result_of, {"a": (1, 3), "b": ("y",)}, path=path, progress=False)
    assert capsys.readouterr().err == ""
    sweep.run(result_of, GRID, path=path)
    shown = re.findall(r"(\d+)/6 \[\d\d:\d\d<(.*?),", capsys.readouterr().err)
    assert shown[0] == ("2", "?")
    assert shown[-1] == ("6", "00:00")  # and the time left


# workers


def where(n):
    return {"pid": os.getpid(), "threads": torch.get_num_threads()}


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_row_has_one_torch_thread_and_the_caller_keeps_its_own(three_threads, n_jobs):
    with joblib.parallel_config("loky", n_jobs=n_jobs, inner_max_num_threads=3):  # what a worker begins with
        rows = sweep.run(where, {"n": range(4)})
    assert set(rows["threads"]) == {1}
    assert (os.getpid() in set(rows["pid"])) == (n_jobs == 1)
    assert torch.get_num_threads() == 3


def test_the_number_of_threads_comes_back_after_an_error(three_threads):
    with pytest.raises(ZeroDivisionError):
        sweep.run(lambda n: {"x": 1 / n}, {"n": (0,)})
    assert torch.get_num_threads() == 3


def trained(n, seed):
    torch.manual_seed(seed)
    big = torch.rand(n).sum().item()  # its last bits depend on the number of threads
    model, history = fit(mlp(64, 16, 10), load_data("digits").train, epochs=1, lr=0.01, seed=seed, progress=False)
    return {"big": big, "loss": history["train_loss"].item(), "weights": model[1].weight.sum().item()}


@pytest.mark.slow
def test_one_worker_and_two_write_the_same_bytes(three_threads, tmp_path):
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    sweep.run(trained, {"n": (500_000, 700_000)}, (0, 1, 2, 3), one)
    sweep.run(trained, {"n": (500_000, 700_000)}, (0, 1, 2, 3), two, n_jobs=2)
    assert one.read_bytes() == two.read_bytes()
    assert pd.read_csv(one)["weights"].nunique() == 8


def waits_for_a_kill(n, folder):
    """Note that row `n` has begun in this process; end when a worker was killed."""
    (folder / f"{n} {os.getpid()}").touch()
    until((folder / "killed").exists)
    watched = any(thread.name == "labkit-worker" for thread in threading.enumerate())
    return {"n_squared": n * n, "threads": torch.get_num_threads(), "watched": watched}


def begun(folder):
    """(row, process) of every beginning."""
    return [tuple(map(int, file.name.split())) for file in folder.glob("* *")]


def kill_one_of_two(folder):
    until(lambda: len({pid for _, pid in begun(folder)}) == 2)
    _, victim = min(begun(folder))
    os.kill(victim, signal.SIGKILL)

    def is_gone():
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, 0)
            return False
        return True

    until(is_gone)  # so that its row cannot end
    (folder / "killed").touch()


@pytest.mark.slow
def test_a_dask_cluster_that_loses_a_worker_gives_every_row_once(tmp_path):
    from dask import distributed

    folder = tmp_path / "rows"
    folder.mkdir()
    path = tmp_path / "t.csv"
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, local_directory=tmp_path, protocol="tcp://"
    )
    with cluster, distributed.Client(cluster), joblib.parallel_config("dask"):
        killer = threading.Thread(target=kill_one_of_two, args=[folder], daemon=True)
        killer.start()
        table = sweep.run(functools.partial(waits_for_a_kill, folder=folder), {"n": range(6)}, path=path)
        killer.join()
    assert table["n_squared"].tolist() == [0, 1, 4, 9, 16, 25]
    same(pd.read_csv(path), table)
    assert set(table["threads"]) == {1}
    assert not table["watched"].any()  # Dask ends its workers itself
    times = Counter(n for n, _ in begun(folder))
    assert sorted(times) == list(range(6))
    assert max(times.values()) > 1  # the row of the killed worker, again


def waits_for_later_rows(n, path, over):
    """The first run ends after the others, the last one when the rows between are in the file; then it raises."""
    if n == 0:
        until(over.exists)
    if n == 3:
        try:
            until(lambda: path.exists() and {1, 2} <= set(pd.read_csv(path)["n"]))
        finally:
            over.touch()
        raise RuntimeError("no")
    return {"n_squared": n * n}


def test_a_row_does_not_wait_for_a_slower_one_before_it(tmp_path):
    path = tmp_path / "t.csv"
    run = functools.partial(waits_for_later_rows, path=path, over=tmp_path / "over")
    with pytest.raises(RuntimeError, match="^no$"):
        sweep.run(run, {"n": (0, 1, 2, 3)}, path=path, n_jobs=2)
    assert {1, 2} <= set(pd.read_csv(path)["n"])


AWKWARD = {
    "floats that no short decimal names": (0.1 + 0.2, 1 / 3, 1e-300, 0.30000000000000004 * 3),
    "whole and broken": (0, 0.5, 1),
    "text that looks like numbers": ("007", "1e-3", "08"),
    "empty": ("", "None", "nan"),
    "missing": (None, "None", 0.5),
    "not a number": (1.0, float("nan")),
    "truth": (True, False),
    "commas and quotes": ('a,"b"', "c\nd"),
    "pairs": ((1, 2), (1, 3)),
}


@pytest.mark.parametrize("kind", AWKWARD)
def test_a_setting_survives_the_file(tmp_path, kind):
    path, calls = tmp_path / "t.csv", []

    def run(value):
        calls.append(value)
        return {"length": len(str(value)), "share": len(str(value)) / 7}

    values = AWKWARD[kind]
    sweep.run(run, {"value": values[:-1]}, path=path)
    whole = sweep.run(run, {"value": values}, path=path)
    again = sweep.run(run, {"value": values}, path=path)
    assert list(map(str, calls)) == list(map(str, values))
    same(again, whole)
    same(again, sweep.run(run, {"value": values}))


RESULTS = {
    "texts that other tables take for missing": ("NA", "None", "nan", "null", "N/A", "-"),
    "missing": (None, float("nan"), 0.5),
    "missing texts": ("complete", None),
    "truth": (True, False),
    "truth or nothing": (True, None),
    "numbers": (1, 2.5, float("inf"), -(2**60), 1e-310),
    "NumPy's": (np.float32(0.1), np.int64(3)),
    "NumPy's truth": (np.bool_(True), np.False_),
    "commas, quotes and new lines": ('a,"b"', "c\nd", " e "),
}


@pytest.mark.parametrize("kind", RESULTS)
def test_a_result_survives_the_file(tmp_path, kind):
    path, values = tmp_path / "t.csv", RESULTS[kind]

    def run(n):
        return {"value": values[n]}

    whole = sweep.run(run, {"n": range(len(values))})
    sweep.run(run, {"n": range(len(values) - 1)}, path=path)
    for _ in range(2):
        again = sweep.run(run, {"n": range(len(values))}, path=path)
        pd.testing.assert_frame_equal(again, whole, check_exact=True, check_dtype=False)


@pytest.mark.parametrize(
    ("values", "again"),
    [((1, ""), "nan"), (("007",), "7"), (("True",), "True"), (((1, 2),), "'(1, 2)'"), ((0.5, "0.5"), "0.5")],
    ids=["empty", "digits", "truth", "pair", "a number as text"],
)
def test_a_result_that_the_file_would_change_is_refused(tmp_path, refuses, values, again):
    path = tmp_path / "t.csv"
    allowed = "in a column numbers, truth values, or texts that look like neither; None for a missing value"
    said = f"the result value={values[-1]!r} comes back from the file as {again}; allowed: {allowed}"
    refuses(ValueError, said, sweep.run, lambda n: {"value": values[n]}, {"n": range(len(values))}, path=path)
    assert path.exists() == (len(values) > 1)  # the rows before it are there


@pytest.mark.parametrize(
    ("values", "changed", "again"),
    [((1, "a"), 1, "'1'"), ((True, "yes"), True, "'True'"), ((2**53 + 1, None), 2**53 + 1, "9007199254740992.0")],
    ids=["number, then text", "truth, then text", "long number, then nothing"],
)
def test_a_row_that_a_later_one_would_change_is_refused_too(tmp_path, values, changed, again):
    path = tmp_path / "t.csv"
    with pytest.raises(
        ValueError, match=re.escape(f"the result value={changed!r} comes back from the file as {again}")
    ):
        sweep.run(lambda n: {"value": values[n]}, {"n": (0, 1)}, path=path)
    assert len(pd.read_csv(path)) == 1


def test_a_file_with_more_settings_is_kept_as_it_is(tmp_path, refuses):
    path = tmp_path / "t.csv"
    sweep.run(result_of, GRID, path=path)
    before = path.read_bytes()
    said = f"{path} has two rows for {{'a': '1'}}; allowed: the file of a sweep over ['a'] alone"
    refuses(ValueError, said, sweep.run, lambda a: {"third": a}, {"a": (7,)}, path=path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("values", [("1_000", "1000"), (None, ""), (True, "True"), (1, 1.0), (2, 2)])
def test_settings_that_a_table_cannot_tell_apart_are_refused(values):
    with pytest.raises(ValueError, match="twice, as a file stores it; allowed: settings that differ in a file"):
        sweep.run(lambda n: {"x": 0}, {"n": values})
    assert len(sweep.run(lambda n: {"x": 0}, {"n": (2**53, 2**53 + 1, "--5", "-5", -5.5)})) == 5


@pytest.mark.parametrize("raw", [b"", b"\n", b"\xef\xbb\xbfn,x\r\n1,5\r\n", b"n,x\n1,5,\n"])
def test_a_table_as_spreadsheets_leave_it_is_read(tmp_path, raw):
    path = tmp_path / "t.csv"
    path.write_bytes(raw)
    table = sweep.run(lambda n: {"x": 7}, {"n": (1, 2)}, path=path)
    assert table["x"].tolist() == [5 if b"5" in raw else 7, 7]


@pytest.mark.parametrize("raw", [b"n,x\n1,2\n1,2,3,4,5\n", b'n,x\n1,"2\n', "n,x\n1,é\n".encode("latin-1")])
def test_a_damaged_table_is_refused_in_words_and_kept(tmp_path, raw):
    path = tmp_path / "t.csv"
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=rf"^{path} is damaged \(.*\); allowed: the file of a sweep$"):
        sweep.run(lambda n: {"x": 7}, {"n": (1, 2)}, path=path)
    assert path.read_bytes() == raw


def test_a_table_is_written_where_it_was_when_the_function_goes_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inner").mkdir()

    def run(n):
        os.chdir(tmp_path / "inner")
        return {"x": n}

    sweep.run(run, {"n": (1, 2)}, path="t.csv")
    assert len(pd.read_csv(tmp_path / "t.csv")) == 2


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (None, "the result is a NoneType; allowed: a mapping, such as a dict"),
        ({1: 2}, "the result has the name 1; allowed: a text that is not empty"),
        ({"": 2}, "the result has the name ''; allowed: a text that is not empty"),
    ],
)
def test_what_a_function_gives_is_checked(refuses, result, said):
    refuses(TypeError if result is None else ValueError, said, sweep.run, lambda n: result, {"n": (1,)})


def test_a_result_must_not_contradict_a_setting_of_its_name(tmp_path, refuses):
    said = "the result a=4 has the name of a setting, which is 3; allowed: other names"
    refuses(ValueError, said, sweep.run, lambda a: {"a": a + 1}, {"a": (3,)}, path=tmp_path / "t.csv")
    assert sweep.run(lambda a: {"a": a, "b": 1}, {"a": (3,)}).to_dict("records") == [{"a": 3, "b": 1}]


def test_a_file_of_another_sweep_is_refused(tmp_path, refuses):
    path = tmp_path / "t.csv"
    sweep.run(result_of, GRID, path=path)
    before = path.read_bytes()
    said = f"{path} lacks the columns ['seed']; allowed: the file of a sweep over ['a', 'seed']"
    refuses(ValueError, said, sweep.run, result_of, {"a": (1,)}, (0,), path)
    assert path.read_bytes() == before


# what ships


def test_compress_prunes_then_rounds(trained):
    small = one_shot(trained, 0.6, 3)
    assert sparsity_of(small) >= 0.6
    assert all(len(small[i].weight.unique()) <= 8 for i in (1, 3))
    assert encode(one_shot(trained, 0.0, 32)) == encode(trained)


GRIDS = {"frontier": FRONTIER_GRID, "quantization": QUANTIZATION_GRID, "pruning": {**PRUNING_GRID, "seed": (0, 1, 2)}}
SHIPPED = [
    (kind, *names)
    for kind in GRIDS
    for names in itertools.product(("lenet-300-100", "lenet-5"), ("mnist", "fashion-mnist"))
    if sweep_path(kind, *names) in data.manifest()
]


def test_the_small_networks_ship_with_their_sweeps():
    pruned = [s for s in SHIPPED if s[0] == "pruning"]
    assert len(SHIPPED) - len(pruned) == 8
    assert [s[1:] for s in pruned] == [("lenet-300-100", "mnist"), ("lenet-300-100", "fashion-mnist")]


@pytest.mark.parametrize("which", SHIPPED, ids="--".join)
def test_a_shipped_sweep_covers_its_grid(which):
    table, grid = shipped_sweep(*which), GRIDS[which[0]]
    settings = list(table[list(grid)].itertuples(index=False, name=None))
    assert sorted(settings, key=str) == sorted(itertools.product(*grid.values()), key=str)
    assert table["accuracy"].equals(table["correct"] / table["images"])
    assert (table["images"] == len(load_data(which[2]).validation)).all()


@pytest.mark.parametrize("row", [(0.0, 1), (0.9, 4), (0.98, 32)])
def test_a_row_of_a_shipped_sweep_is_what_is_measured_today(row):
    names = ("lenet-300-100", "mnist")
    table = shipped_sweep("frontier", *names)
    shipped = table[(table["sparsity"] == row[0]) & (table["bits"] == row[1])].iloc[0]
    small = one_shot(load_model(*names), *row)
    today = accuracy(small, load_data("mnist").validation)
    assert shipped["size_bytes"] == size_bytes(small)
    assert abs(shipped["correct"] - today["correct"]) <= 2  # another machine may sum in another order


def test_random_pruning_is_the_baseline_that_magnitude_beats():
    table = shipped_sweep("pruning", "lenet-300-100", "mnist")
    mean = table.groupby(["method", "sparsity"])["accuracy"].mean()
    assert all(mean["fine-tuned", s] > mean["random, fine-tuned", s] for s in (0.9, 0.95, 0.97, 0.98, 0.99))
    assert torch.tensor(mean["fine-tuned"].values - mean["one-shot"].values).min() >= -0.002


DISTILLED = [
    ("distillation", "fashion-mnist", DISTILLATION_GRID),
    ("distillation", "mnist", DISTILLATION_GRID),
    ("temperature", "fashion-mnist", TEMPERATURE_GRID),
    ("unseen", "mnist", UNSEEN_GRID),
]


@pytest.mark.parametrize(("kind", "data_name", "grid"), DISTILLED)
def test_a_sweep_of_students_covers_its_grid(kind, data_name, grid):
    table, grid = shipped_sweep(kind, "lenet-5", data_name).fillna({"temperature": 0}), {**grid, "seed": SEEDS}
    wanted = [tuple(0 if v is None else v for v in values) for values in itertools.product(*grid.values())]
    assert sorted(table[list(grid)].itertuples(index=False, name=None)) == sorted(wanted)
    shares = table.filter(like="accuracy")
    assert shares.stack().between(0, 1).all()


def test_a_student_of_a_shipped_sweep_is_what_comes_out_today():
    data = load_data("mnist")
    table = shipped_sweep("distillation", "lenet-5", "mnist").query("width == 8 and seed == 0").set_index("method")
    few = take(data.train, 2_000)
    student = student_of(None, 8, few, len(data.train), 4.0, 0.9, seed=0)
    today = accuracy(student, data.validation)["accuracy"]
    assert today == pytest.approx(table.loc["few labels", "accuracy"], abs=0.01)  # other sums lead training elsewhere
    assert table.loc["few labels", "size_bytes"] == size_bytes(student)


def test_a_class_that_was_never_seen_is_read_off_the_teachers_answers():
    table = shipped_sweep("unseen", "lenet-5", "mnist")
    alone, taught = table[table["temperature"].isna()], table[table["temperature"] >= 4]
    assert taught["accuracy_unseen_raised"].min() > alone["accuracy_unseen_raised"].max() + 0.5
    assert (alone["accuracy_unseen"] == 0).all()
