"""kill -9 at any moment costs no row, no file and no checkpoint; processes that share a table lose nothing."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from labkit import data, sweep, zoo
from labkit._files import replace
from labkit.data import damaged, load_data, partial, publish, working_on
from labkit.store import encode, load, save
from tests.conftest import perceptron
from tests.killing import child, killed_at
from tests.waiting import until

pytestmark = pytest.mark.slow
KILLS = 20
GRID = {"a": tuple(range(10)), "b": ("x", "y")}


def slow_result(a, b, seconds=0.002, log=None):
    time.sleep(seconds)
    if log:
        with open(log, "a") as file:
            file.write(f"{a}{b}\n")
    return {"third": a / 3, "name": f"{b}{a}"}


TABLE = sweep.run(slow_result, GRID)


def run_sweep(path, log, grid=GRID, n_jobs=1):
    sweep.run(Logged(log), grid, path=path, n_jobs=n_jobs)


class Logged:
    """`slow_result` that notes every setting it ran."""

    def __init__(self, log):
        self.log = log

    def __call__(self, a, b):
        return slow_result(a, b, log=self.log)


def rows_in(path):
    return len(path.read_bytes().splitlines()) - 1 if path.exists() else 0


@pytest.mark.parametrize("kill", range(KILLS))
def test_a_killed_sweep_goes_on(tmp_path, kill):
    draw, path, log = random.Random(kill), tmp_path / "t.csv", tmp_path / "log"
    with child(run_sweep, path, log) as process:
        wanted = draw.randrange(len(TABLE))
        until(lambda: rows_in(path) >= wanted)
        time.sleep(draw.uniform(0, 0.004))
        process.kill()
    before = rows_in(path)
    if before:
        pd.testing.assert_frame_equal(pd.read_csv(path), TABLE[:before], check_exact=True)
    pd.testing.assert_frame_equal(sweep.run(Logged(log), GRID, path=path), TABLE, check_exact=True)
    pd.testing.assert_frame_equal(pd.read_csv(path), TABLE, check_exact=True)
    assert len(log.read_text().splitlines()) in (len(TABLE), len(TABLE) + 1)  # the run that was killed, again


@pytest.mark.parametrize("kill", range(2))
def test_a_killed_sweep_of_two_workers_goes_on(tmp_path, kill):
    path, log = tmp_path / "t.csv", tmp_path / "log"
    with child(run_sweep, path, log, GRID, 2) as process:
        until(lambda: rows_in(path) >= 2 + 6 * kill)
        process.kill()
    before = pd.read_csv(path)
    pd.testing.assert_frame_equal(before, TABLE.merge(before[["a", "b"]]), check_exact=True)
    run_sweep(path, log, GRID, 2)
    pd.testing.assert_frame_equal(pd.read_csv(path), TABLE, check_exact=True)


@pytest.mark.parametrize("pair", range(8))
def test_two_sweeps_fill_one_table(tmp_path, pair):
    path = tmp_path / "t.csv"
    halves = {"a": GRID["a"][:6], "b": GRID["b"]}, {"a": GRID["a"][4:] if pair % 2 else GRID["a"][6:], "b": GRID["b"]}
    with child(run_sweep, path, None, halves[0]) as one, child(run_sweep, path, None, halves[1]) as other:
        one.join()
        other.join()
        assert (one.exitcode, other.exitcode) == (0, 0)
    found = pd.read_csv(path).sort_values(["a", "b"], ignore_index=True)
    pd.testing.assert_frame_equal(found, TABLE, check_exact=True)


def sweep_for_ever(folder):
    sweep.run(Endless(folder), {"n": (0, 1)}, path=folder / "t.csv", n_jobs=2)


class Endless:
    """A run that notes its process and does not end."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, n):
        (self.folder / f"{os.getpid()}").touch()
        time.sleep(600)


def is_alive(pid):
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks processes up in /proc")
def test_workers_end_with_a_killed_sweep(tmp_path):
    code = f"from tests.test_kills import *; sweep_for_ever(Path({str(tmp_path)!r}))"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        until(lambda: len([name for name in os.listdir(tmp_path) if name.isdigit()]) == 2)
        process.kill()
    until(lambda: not any(is_alive(name) for name in os.listdir(tmp_path) if name.isdigit()))


def test_an_interrupted_sweep_says_where_its_rows_are(tmp_path):
    path = tmp_path / "t.csv"

    def run(a, b):
        if (a, b) == (3, "y"):
            signal.raise_signal(signal.SIGINT)
        return slow_result(a, b)

    said = f"^7 of 20 rows are done and in {path}: the same call resumes there$"
    with pytest.raises(KeyboardInterrupt, match=said):
        sweep.run(run, GRID, path=path)
    with pytest.raises(KeyboardInterrupt, match="^7 of 20 rows are done, and lost, as the sweep has no path$"):
        sweep.run(run, GRID)


# --- models ---


def save_alternately(path):
    models = [perceptron(0), perceptron(1)]
    while True:
        for model in models:
            save(model, path)


@pytest.mark.parametrize("kill", range(KILLS))
def test_a_killed_save_leaves_a_whole_file(tmp_path, kill):
    path, allowed = tmp_path / "net.lk", [encode(perceptron(0)), encode(perceptron(1))]
    with child(save_alternately, path) as process:
        until(path.exists)
        time.sleep(random.Random(kill).uniform(0, 0.01))
        process.kill()
    assert path.read_bytes() in allowed
    save(load(path, into=perceptron(2)), path)
    assert path.read_bytes() in allowed


# --- files that ship ---


def small_recipe(monkeypatch, seed=0):
    recipe = zoo.Recipe(dict(epochs=1, lr=1e-2, batch_size=300, seed=seed))
    monkeypatch.setattr(zoo, "RECIPES", {("mlp", "digits"): recipe})
    monkeypatch.setattr(zoo, "build", lambda name: perceptron())


def retrain_alternately(seeds):
    with pytest.MonkeyPatch.context() as patch:
        while True:
            for seed in seeds:
                small_recipe(patch, seed)
                zoo.retrain("mlp", "digits", progress=False)


def retrain_once(seed):
    with pytest.MonkeyPatch.context() as patch:
        small_recipe(patch, seed)
        zoo.retrain("mlp", "digits", progress=False)


@pytest.fixture
def checkpoints(small_data, monkeypatch):
    """{seed: weights} of what retraining gives, and the folder in which children retrain."""
    small_recipe(monkeypatch)
    weights = {}
    for seed in (0, 1):
        small_recipe(monkeypatch, seed)
        zoo.retrain("mlp", "digits", progress=False)
        weights[seed] = zoo.load_model("mlp", "digits").state_dict()
    return weights


def whole(weights):
    """The seed of the checkpoint that is there: weights and record are of one training, and listed."""
    assert damaged() == []
    (record,) = zoo.figures()
    seed = record["recipe"]["seed"]
    state = zoo.load_model("mlp", "digits").state_dict()
    assert all(state[name].equal(value) for name, value in weights[seed].items())
    return seed


def test_killed_at_any_step_retraining_leaves_one_whole_checkpoint(checkpoints):
    seeds, call = [], 0
    while killed_at(call := call + 1, retrain_once, 0):
        seeds.append(whole(checkpoints))
        retrain_once(1)
    assert call > 8
    assert set(seeds) == {0, 1}
    assert whole(checkpoints) == 0


@pytest.mark.parametrize("kill", range(KILLS))
def test_a_killed_retraining_leaves_a_whole_checkpoint(checkpoints, kill):
    with child(retrain_alternately, (0, 1)) as process:
        until(lambda: list((data.data_dir() / "checkpoints").glob("*.partial")))
        time.sleep(random.Random(kill).uniform(0, 0.05))
        process.kill()
    whole(checkpoints)


def publish_some(names):
    for name in names:
        replace(partial(name), [name.encode()])
        publish(name)


def test_two_processes_that_publish_lose_no_entry(small_data):
    names = [[f"digits/{who}{i}.npy" for i in range(30)] for who in "ab"]
    with child(publish_some, names[0]) as one, child(publish_some, names[1]) as other:
        while one.is_alive() or other.is_alive():
            assert damaged() == []
    assert {*names[0], *names[1]} < set(data.manifest())
    assert damaged() == []


def test_a_reader_never_sees_a_half_published_file(small_data):
    with child(publish_some, ["digits/a.npy", "digits/a.npy"] * 50) as process:
        while process.is_alive():
            assert damaged() == []


def test_work_that_began_before_a_file_changed_is_not_published_over_it(small_data):
    file, work = data.data_dir() / "digits/train-0.webp", partial("digits/train-0.webp")
    replace(work, [b"rows of an interrupted run"])
    os.utime(work, (file.stat().st_mtime - 10,) * 2)
    said = f"data/digits/train-0.webp is newer than {work}, which an interrupted run left; move that file away"
    with pytest.raises(ValueError, match=said), working_on("digits/train-0.webp"):
        pass
    assert damaged() == []
    with working_on("digits/nothing.csv"):  # a run that had nothing to do
        pass
    assert damaged() == []


def test_unpublished_work_is_not_called_damaged(small_data):
    replace(partial("digits/train-0.webp"), [b"rows of an interrupted run"])
    assert damaged() == []
    load_data("digits")
