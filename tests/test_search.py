"""Search: Optuna's samplers on a space in plain data, resumed, cancelled, shared by workers and killed; k-fold."""

import contextlib
import math
import os
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from sklearn.model_selection import KFold

from labkit.data import Split, take
from labkit.search import (
    Cancelled,
    best_so_far,
    check_space,
    cross_validate,
    finished,
    fit_trial,
    grid,
    importance,
    k_folds,
    open_study,
    restored,
    search,
    trials,
)
from labkit.train import count_correct, fit
from tests.waiting import PATIENCE, until

SPACE = {"lr": (1e-3, 10.0, "log"), "width": (2, 9), "kind": ["a", "b"]}


def bowl(trial, lr, width, kind):
    """Best at lr 0.1, width 5, kind "a"; the second value wants a small width."""
    return {"accuracy": -((math.log10(lr) + 1) ** 2) - 0.1 * (width - 5) ** 2 + (kind == "a"), "size": width}


# the space


def test_a_range_is_kept_to_and_whole_where_its_ends_are():
    table = trials(search(bowl, SPACE, trials=200, sampler="random"))
    assert table["lr"].between(1e-3, 10).all()
    assert set(table["width"]) == set(range(2, 10))
    assert set(table["kind"]) == {"a", "b"}
    share = (table["lr"] < 0.1).mean()  # half of the decades
    assert 0.4 < share < 0.6


@pytest.mark.parametrize(
    ("values", "lists_only"),
    [((3, 1), False), ((1, 1), False), ((0, 1, "log"), False), ((1, 2, 3), False), ([], False), ("ab", False),
     ((1, 2), True)],
    ids=["upside down", "a point", "log of 0", "three numbers", "no value", "a word", "a range in a grid"],
)  # fmt: skip
def test_what_is_no_space_is_refused(values, lists_only):
    with pytest.raises(ValueError, match=r"space\['x'\] is .*; allowed"):
        check_space({"ok": [1], "x": values}, lists_only)


def test_other_bad_input_is_refused_in_a_sentence(refuses):
    refuses(ValueError, "space is empty; allowed: at least one name with a list or a range", search, bowl, {})
    said = "sampler is 'best'; allowed: 'grid', 'random', 'tpe', 'nsga2'"
    refuses(ValueError, said, search, bowl, SPACE, sampler="best")
    refuses(ValueError, "trials is 0; allowed: a whole number from 1 to 1000000", search, bowl, SPACE, trials=0)
    said = "goals is 'up'; allowed: 'maximize', 'minimize'"
    refuses(ValueError, said, search, bowl, SPACE, goals={"accuracy": "up"})


def test_a_grid_has_evenly_spaced_levels_on_the_scale_of_the_range():
    levels = grid(SPACE | {"dropout": (0.0, 0.5)}, 5)
    assert levels["lr"] == pytest.approx([1e-3, 1e-2, 1e-1, 1, 10])
    assert levels["width"] == [2, 4, 6, 7, 9]
    assert levels["kind"] == ["a", "b"]
    assert levels["dropout"] == pytest.approx([0, 0.125, 0.25, 0.375, 0.5])
    assert grid({"n": (1, 3)}, 9) == {"n": [1, 2, 3]}


# samplers


def test_a_grid_is_searched_point_by_point_and_ends():
    points = {"lr": [0.01, 0.1], "width": [2, 5], "kind": ["a", "b"]}
    table = trials(search(bowl, points, trials=100, sampler="grid"))
    assert len(table) == 8
    assert len(table[["lr", "width", "kind"]].drop_duplicates()) == 8
    assert table.loc[table["accuracy"].idxmax(), ["lr", "width", "kind"]].tolist() == [0.1, 5, "a"]


def test_tpe_comes_nearer_than_random_with_as_many_trials():
    best = {s: np.mean([search(bowl, SPACE, trials=40, sampler=s, seed=i).best_value for i in range(5)])
            for s in ("random", "tpe")}  # fmt: skip
    assert best["tpe"] > best["random"]


def test_two_goals_give_a_frontier():
    goals = {"accuracy": "maximize", "size": "minimize"}
    study = search(bowl, SPACE, trials=60, sampler="nsga2", goals=goals)
    table = trials(study)
    best = {trial.number for trial in study.best_trials}
    for number, accuracy, size in table[["number", "accuracy", "size"]].itertuples(index=False):
        beaten = (
            (table["accuracy"] >= accuracy)
            & (table["size"] <= size)
            & ((table["accuracy"] > accuracy) | (table["size"] < size))
        )
        assert (number in best) == (not beaten.any())


def test_the_seed_decides():
    first, again, other = (trials(search(bowl, SPACE, trials=12, seed=seed)) for seed in (1, 1, 2))
    assert first.equals(again)
    assert not first.equals(other)


# resumed, cancelled, failing


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2", "grid"])
def test_an_interrupted_search_ends_like_one_that_was_not(tmp_path, sampler):
    space = grid(SPACE, 4) if sampler == "grid" else SPACE
    whole = trials(search(bowl, space, trials=26, sampler=sampler))
    place = str(tmp_path / "study.journal")
    part = trials(search(bowl, space, trials=14, sampler=sampler, storage=place))
    rest = trials(search(bowl, space, trials=26, sampler=sampler, storage=place))
    assert len(part) == 14
    assert rest.equals(whole)
    assert trials(search(bowl, space, trials=20, sampler=sampler, storage=place)).equals(whole)


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2", "grid"])
def test_a_search_of_which_every_trial_is_lost_once_ends_like_one_without_loss(sampler):
    tried = []

    def fragile(trial, **settings):
        tried.append(settings)
        if len(tried) % 2:
            raise RuntimeError("lost")
        return bowl(trial, **settings)

    space, storage = grid(SPACE, 4) if sampler == "grid" else SPACE, optuna.storages.InMemoryStorage()
    goals = {"accuracy": "maximize", "size": "minimize"} if sampler == "nsga2" else {"accuracy": "maximize"}
    for _ in range(26):
        with pytest.raises(RuntimeError, match="lost"):
            search(fragile, space, trials=26, sampler=sampler, goals=goals, storage=storage)
    table = trials(search(fragile, space, trials=26, sampler=sampler, goals=goals, storage=storage))
    assert table["state"].tolist() == ["fail", "complete"] * 26
    assert table["reason"].tolist()[::2] == ["interrupted"] * 26
    whole = trials(search(bowl, space, trials=26, sampler=sampler, goals=goals))
    kept = table.loc[table["state"] == "complete", whole.columns]
    assert kept.drop(columns="number").values.tolist() == whole.drop(columns="number").values.tolist()


def test_a_study_with_other_goals_is_refused(tmp_path):
    place = str(tmp_path / "study.journal")
    search(bowl, SPACE, trials=1, storage=place)
    with pytest.raises(ValueError, match="goals is {'size': 'minimize'}; allowed: {'accuracy': 'maximize'}"):
        open_study(storage=place, goals={"size": "minimize"})


def test_cancel_is_asked_before_every_trial_and_after_trial_called_behind_it():
    seen = []
    study = search(
        bowl, SPACE, trials=50, cancel=lambda: len(seen) == 3, after_trial=lambda s: seen.append(len(s.trials))
    )
    assert seen == [1, 2, 3]
    assert len(study.trials) == 3


def test_a_trial_cancelled_on_its_way_is_lost_alone():
    def objective(trial, **settings):
        if trial.number == 2:
            raise Cancelled
        return bowl(trial, **settings)

    study = search(objective, SPACE, trials=5, cancel=lambda: False)
    assert trials(study)["state"].tolist() == ["complete", "complete", "fail", "complete", "complete"]
    assert len(finished(search(objective, SPACE, trials=5))) == 4


def test_an_error_is_the_callers_and_nan_does_not_go_on_for_ever():
    def broken(trial, **settings):
        raise RuntimeError("no luck")

    with pytest.raises(RuntimeError, match="no luck"):
        search(broken, SPACE, trials=5)
    study = search(lambda trial, **settings: {"accuracy": math.nan}, SPACE, trials=5)
    assert trials(study)["state"].tolist() == ["fail"] * 5


def test_nan_is_a_failed_row_with_its_reason_and_the_grid_ends(place):
    def objective(trial, k):
        return {"accuracy": math.nan if k == 2 else k / 10, "size": 7}

    for _ in range(2):  # the second call finds every point tried
        study = search(objective, {"k": [1, 2, 3]}, trials=9, sampler="grid", storage=place)
        table = trials(study).set_index("k").sort_index()
        assert table["state"].tolist() == ["complete", "fail", "complete"]
        assert table["size"].tolist() == [7, 7, 7]
        assert table["reason"].dropna().to_dict() == {2: "accuracy is NaN"}
        assert len(finished(study)) == 2


def test_a_result_that_is_no_number_or_missing_is_an_error(refuses):
    said = "accuracy is 'high'; allowed: a number in [-inf, inf]"
    refuses(TypeError, said, search, lambda trial, **settings: {"accuracy": "high"}, SPACE)
    said = "the record of the objective lacks ['accuracy']; allowed: each of ['accuracy']"
    refuses(ValueError, said, search, lambda trial, **settings: {"loss": 1.0}, SPACE)


# what a storage holds


@pytest.fixture(params=["study.journal", "sqlite:///{}/study.db"])
def place(request, tmp_path):
    return request.param.format(tmp_path) if "://" in request.param else str(tmp_path / request.param)


def test_numpys_numbers_and_tensors_are_results_and_settings(place):
    def objective(trial, lr, width):
        assert (type(lr), type(width)) == (float, int)
        return {"accuracy": np.float32(lr), "size": np.int64(width), "loss": torch.tensor(2.5), "all": np.arange(2)}

    space = {"lr": [np.float32(0.5), torch.tensor(0.25)], "width": [np.int64(4)]}
    table = trials(search(objective, space, trials=2, sampler="grid", storage=place)).sort_values("lr")
    assert table[["lr", "width", "accuracy", "size", "loss"]].to_numpy().tolist() == [
        [0.25, 4, 0.25, 4, 2.5], [0.5, 4, 0.5, 4, 2.5]
    ]  # fmt: skip
    assert table["all"].tolist() == [[0, 1], [0, 1]]


def test_numpys_numbers_bound_a_range():
    space = {"lr": (np.float32(0.25), np.float32(0.5)), "width": (np.int64(2), torch.tensor(9))}
    table = trials(search(lambda trial, lr, width: {"accuracy": lr}, space, trials=20, sampler="random"))
    assert table["lr"].between(0.25, 0.5).all()
    assert set(table["width"]) <= set(range(2, 10))
    assert grid(space, 2) == {"lr": [0.25, 0.5], "width": [2, 9]}


@pytest.mark.parametrize("sampler", ["grid", "random"])
def test_a_choice_may_be_a_tuple_also_when_the_study_goes_on(place, sampler):
    seen = []

    def objective(trial, shape):
        seen.append(shape)
        return {"accuracy": sum(shape)}

    space = {"shape": [(1, 2), (3, 4), (5, 6), (7, 8)]}
    for trials_in_all in (2, 4):
        table = trials(search(objective, space, trials=trials_in_all, sampler=sampler, storage=place))
    assert set(seen) <= set(space["shape"])
    assert table["shape"].tolist() == [repr(shape) for shape in seen]
    assert table["accuracy"].tolist() == [sum(shape) for shape in seen]
    again = restored(table.to_dict("records"), space, {"accuracy": "maximize"})
    assert [t.params["shape"] for t in again.trials] == table["shape"].tolist()


def test_a_choice_added_later_is_refused_in_a_sentence(place, refuses):
    def objective(trial, kind):
        return {"accuracy": 1.0}

    search(objective, {"kind": ["a", "b"]}, trials=2, storage=place)
    said = "space['kind'] is ['a', 'b', 'c']; allowed: CategoricalDistribution(choices=('a', 'b')), as in the study"
    refuses(ValueError, said, search, objective, {"kind": ["a", "b", "c"]}, trials=4, storage=place)
    assert len(trials(open_study(storage=place))) == 2


# trials that train


def objective_on(digits, **more):
    def objective(trial, lr):
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        with torch.no_grad():
            model[1].weight.zero_()
        model = fit_trial(trial, model, digits.train, digits.validation, epochs=3, lr=lr, batch_size=100, **more)
        return {"accuracy": count_correct(model, digits.validation) / len(digits.validation)}

    return objective


def test_every_epoch_is_reported_as_fit_has_it(digits):
    study = search(objective_on(digits), {"lr": [0.01]}, trials=1, sampler="grid")
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    with torch.no_grad():
        model[1].weight.zero_()
    kept = study.trials[0].intermediate_values
    assert list(kept) == [1, 2, 3]
    assert kept[3] == study.best_value
    assert kept[1] < kept[3]


def test_the_pruner_stops_a_poor_trial_and_the_table_says_so(digits):
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
    study = search(objective_on(digits), {"lr": [1e-2, 1e-5, 1e-6]}, trials=3, sampler="grid", pruner=pruner, seed=3)
    table = trials(study).set_index("lr").sort_index()
    assert table.loc[1e-2, ["state", "trained"]].tolist() == ["complete", 3]
    assert "pruned" in table["state"].tolist()
    stopped = table[table["state"] == "pruned"]
    assert (stopped["trained"] < 3).all()
    assert (stopped["accuracy"] < table.loc[1e-2, "accuracy"]).all()
    assert study.best_params == {"lr": 1e-2}


def test_a_trial_is_cancelled_within_its_training(digits):
    asked = iter(range(10_000))
    study = search(objective_on(digits, cancel=lambda: next(asked) >= 5), {"lr": [0.01]}, trials=1, sampler="grid")
    assert trials(study)["state"].tolist() == ["fail"]
    assert next(asked) == 6  # asked once more than it took steps


# many workers on one storage

# a worker prints the number of each trial that it begins, and is answered with a line before it ends the trial
WORKER = """
import sys
from labkit.search import search
place, seed = sys.argv[1], int(sys.argv[2])
def objective(trial, x, y):
    print(trial.number, flush=True)
    sys.stdin.readline()
    return {"accuracy": -(x - 1) ** 2 - (y - 1) ** 2, "worker": seed}
search(objective, {"x": (0.0, 3.0), "y": (0.0, 3.0)}, trials=16, storage=place, seed=seed, sampler="random")
"""
XY = {"x": (0.0, 3.0), "y": (0.0, 3.0)}


def worker(place, seed):
    command = [sys.executable, "-c", WORKER, str(place), str(seed)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


def let_go(worker):
    """Its trials need no answer any more."""
    worker.stdin.close()


@pytest.mark.parametrize("place", ["study.journal", "sqlite:///{}/study.db"])
def test_two_workers_share_one_storage(tmp_path, place):
    place = place.format(tmp_path) if "://" in place else str(tmp_path / place)
    open_study(storage=place)
    workers = [worker(place, seed) for seed in (1, 2)]
    assert {w.stdout.readline() for w in workers} == {"0\n", "1\n"}  # both are in their first trial
    for one in workers:
        let_go(one)
    assert [w.wait(PATIENCE) for w in workers] == [0, 0]
    table = trials(open_study(storage=place))
    assert table["number"].tolist() == list(range(16))
    assert set(table["state"]) == {"complete"}
    assert set(table["worker"]) == {1, 2}
    assert not table[["x", "y"]].duplicated().any()


def killed_in_the_middle(place, known=lambda: True):
    """The trials told of after a worker was killed in its fourth, once that one is `known`."""
    victim = worker(place, 1)
    for number in range(3):
        assert victim.stdout.readline() == f"{number}\n"
        print("go on", file=victim.stdin, flush=True)
    assert victim.stdout.readline() == "3\n"
    until(known)
    victim.send_signal(signal.SIGKILL)
    assert victim.wait(PATIENCE) == -signal.SIGKILL
    table = trials(open_study(storage=place))
    assert table["state"].tolist() == ["complete"] * 3 + ["running"]
    return table


def test_a_killed_worker_loses_only_its_trial(tmp_path):
    place = str(tmp_path / "study.journal")
    before = killed_in_the_middle(place)
    survivor = worker(place, 2)
    let_go(survivor)
    assert survivor.wait(PATIENCE) == 0
    table = trials(open_study(storage=place))
    assert table["state"].tolist() == ["complete"] * 3 + ["fail"] + ["complete"] * 13
    assert table.loc[3, "reason"] == "interrupted"
    assert table.iloc[:3][before.columns].equals(before.iloc[:3])


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_database_finds_out_that_a_worker_was_killed(tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"

    def all_four_have_a_heartbeat():
        with contextlib.closing(sqlite3.connect(tmp_path / "study.db", timeout=PATIENCE)) as database:
            return database.execute("SELECT COUNT(*) FROM trial_heartbeats").fetchone() == (4,)

    before = killed_in_the_middle(url, all_four_have_a_heartbeat)
    time.sleep(2.5)  # longer than the grace period of the survivor, for SQLite counts in whole seconds
    storage = optuna.storages.RDBStorage(url, heartbeat_interval=1, grace_period=1)
    study = search(lambda trial, x, y: {"accuracy": x}, XY, trials=6, storage=storage, sampler="random", seed=2)
    assert trials(study)["state"].tolist() == ["complete"] * 3 + ["fail"] + ["complete"] * 3
    assert trials(study).iloc[:3][["x", "y", "accuracy"]].equals(before.iloc[:3][["x", "y", "accuracy"]])


# k-fold


@pytest.mark.parametrize(("n", "k"), [(10, 2), (23, 5), (7, 7)])
def test_every_image_is_held_out_once_in_folds_of_scikit_learns_sizes(digits, n, k):
    split = Split(torch.arange(n).float().view(n, 1, 1, 1), torch.arange(n))
    folds = k_folds(split, k, seed=1)
    assert sorted(torch.cat([held.y for _, held in folds]).tolist()) == list(range(n))
    assert [len(held) for _, held in folds] == [len(held) for _, held in KFold(k).split(np.zeros(n))]
    for kept, held in folds:
        assert sorted([*kept.y.tolist(), *held.y.tolist()]) == list(range(n))
        assert torch.equal(kept.x.flatten().long(), kept.y)
        assert torch.equal(held.x.flatten().long(), held.y)
    assert torch.cat([h.y for _, h in folds]).tolist() != list(range(n))  # shuffled
    assert all(a[1].y.equal(b[1].y) for a, b in zip(folds, k_folds(split, k, seed=1), strict=True))


@pytest.mark.parametrize("k", [1, 11])
def test_too_few_or_too_many_folds_are_refused(digits, k):
    with pytest.raises(ValueError, match=f"k is {k}; allowed: a whole number from 2 to 10"):
        k_folds(take(digits.train, 10), k)


def test_cross_validation_trains_on_the_rest_and_scores_what_was_left_out(digits, mlp):
    split = take(digits.train, 300)
    seen = []

    def train(part):
        seen.append(len(part))
        return fit(mlp, part, epochs=3, lr=1e-2, progress=False)[0]

    table = cross_validate(train, split, k=4, seed=2)
    assert seen == [225] * 4
    assert table["images"].tolist() == [75] * 4
    kept, held = k_folds(split, 4, seed=2)[1]
    expected = count_correct(fit(mlp, kept, epochs=3, lr=1e-2, progress=False)[0], held)
    assert table.loc[1, ["fold", "correct", "accuracy"]].tolist() == [1, expected, expected / 75]


def test_cross_validation_trains_batch_norm_on_folds_that_leave_one_over(digits):
    def train(part):
        assert len(part) == 129
        torch.manual_seed(0)
        layers = torch.nn.Flatten(), torch.nn.Linear(64, 16), torch.nn.BatchNorm1d(16), torch.nn.Linear(16, 10)
        return fit(torch.nn.Sequential(*layers), part, epochs=1, lr=1e-2, progress=False)[0]

    assert cross_validate(train, take(digits.train, 172), k=4)["images"].tolist() == [43] * 4


def test_every_epoch_is_reported_when_a_single_image_is_left_over(digits):
    def objective(trial, lr):
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        fit_trial(trial, model, take(digits.train, 201), digits.validation, epochs=3, lr=lr, batch_size=100)
        return {"accuracy": 1.0}

    assert list(search(objective, {"lr": [0.01]}, trials=1).trials[0].intermediate_values) == [1, 2, 3]


# tables of trials


def test_the_best_so_far_is_of_complete_trials_only():
    rows = [("complete", 9, 0.5, 0.4), ("pruned", 3, 0.9, None), ("complete", 9, 0.5, 0.7), ("complete", 9, 0.6, 0.3)]
    table = pd.DataFrame(rows, columns=["state", "trained", "accuracy", "fresh"])
    assert best_so_far(table).to_dict() == {9: 0.5, 12: 0.5, 21: 0.5, 30: 0.6}
    assert best_so_far(table, "fresh").to_dict() == {9: 0.4, 12: 0.4, 21: 0.4, 30: 0.3}
    assert len(best_so_far(table[:0])) == 0


def test_a_study_is_restored_from_its_table():
    study = search(bowl, SPACE, trials=20)
    again = restored(trials(study).to_dict("records"), SPACE, {"accuracy": "maximize"})
    assert again.best_params == study.best_params
    assert [t.distributions for t in again.trials] == [t.distributions for t in study.trials]
    assert importance(again) == importance(study)


def test_importance_finds_the_setting_that_matters():
    def steep(trial, lr, width, kind):
        return {"accuracy": -((math.log10(lr) + 1) ** 2)}

    found = importance(search(steep, SPACE, trials=60, sampler="random"))
    assert list(found)[0] == "lr"
    assert found["lr"] > 0.5
    assert sum(found.values()) == pytest.approx(1)


def test_choices_that_are_equal_are_refused(refuses):
    for values in ([True, 1], [1, 1.0], [0, False], ["a", "a"]):
        said = f"space['a'] is {values!r}; allowed: a list of values of which no two are equal"
        refuses(ValueError, said, search, lambda trial, a: {"accuracy": 1}, {"a": values}, trials=2)


def test_a_record_that_is_none_is_refused(refuses):
    said = "the record of the objective is a NoneType; allowed: a mapping, such as a dict"
    refuses(TypeError, said, search, lambda trial, a: None, {"a": [1, 2]}, trials=1)
