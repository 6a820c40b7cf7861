"""Hyperparameter search on Optuna: a space in plain data, an objective that gives a record, a table of the trials.

    space = {"lr": (1e-4, 1.0, "log"), "width": (8, 128, "log"), "optimizer": ["sgd", "adamw"]}
    study = search(objective, space, trials=30)       # objective(trial, **settings) -> {"accuracy": …}
    trials(study)                                     # one row per trial; study.best_trial etc. are Optuna's

A tuple (low, high) or (low, high, "log") is a range, of whole numbers if both ends are; a list is a choice. NumPy's
numbers and tensors of one number count as numbers. A choice that is neither number nor text, such as a tuple, is in
the table and the storage as its `repr`.
"""

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
import pandas as pd
import torch
from optuna.trial import TrialState
from torch import nn

from labkit import _check, _process
from labkit._samplers import SAMPLERS, Space, label, sampler_for
from labkit._storage import (
    FINISHED,
    Storage,
    alone,
    at_work,
    connect,
    counts,
    file_of,
    free_index,
    give_up_lost,
    index_of,
    quiet,
)
from labkit.data import Split
from labkit.optim import Step
from labkit.train import count_correct, fit

Objective = Callable[..., Mapping[str, float]]  # objective(trial, **settings) -> record


class Cancelled(Exception):  # noqa: N818 - a request, not an error
    """Raised inside an objective to give up its trial, which then counts as failed; the search stops."""


@quiet()  # a trial is a row of the table, not a line on the screen
def search(
    objective: Objective,
    space: Space,
    *,
    trials: int = 30,
    sampler: str = "tpe",
    goals: Mapping[str, str] = {"accuracy": "maximize"},  # noqa: B006 - read, never written
    pruner: optuna.pruners.BasePruner | None = None,
    storage: Storage = None,
    name: str = "search",
    seed: int = 0,
    cancel: Callable[[], bool] = lambda: False,
    after_trial: Callable[[optuna.Study], None] = lambda study: None,
) -> optuna.Study:
    """Try `trials` settings from `space`; return the Optuna study. Trials that end or fail by NaN count.

    `objective(trial, **settings)` returns a record, of which `goals` names what to "maximize" or "minimize"; the rest
    is stored, too. `sampler` is "grid" (every value of `space` a list, in an order drawn by `seed`; it ends with the
    last point), "random", "tpe" (Bergstra et al. 2011) or "nsga2" (Deb et al. 2002, 12 per generation). TPE draws its
    first 10 trials at random. With one goal it then models all settings jointly (multivariate), with two each setting
    by itself; trials that other workers are still running count as poor ones (constant liar). `pruner`, None for none,
    stops trials that report (see `fit_trial`).

    With a `storage` (see `open_study`) the same call resumes where it stopped. A trial that did not end (its process
    was killed, it was cancelled, its objective raised an error) is repeated with the same settings under a new number.
    So an interrupted search ends with exactly the same settings as one that was not interrupted, if its objective
    gives the same results again and there is no pruner: a pruner also compares with the reports of lost trials.
    Any number of workers may share a storage, all with one `seed`. If it is a file, they run `trials` trials in total,
    and notice at once when one of them is killed. The settings of "tpe" and "nsga2" then depend on the workers' timing.

    `cancel()` is called before every trial, `after_trial(study)` after it. A trial with NaN for a goal has failed, and
    its row has the "reason". ValueError if space, sampler or goals is invalid, or does not fit the study; OSError if
    the storage cannot be written.
    """
    _check.whole("trials", trials, 1, 1_000_000)
    _check.one_of("sampler", sampler, ("grid", *SAMPLERS))
    _check.kind(Callable, objective=objective, cancel=cancel, after_trial=after_trial)
    seed = _check.seed(seed)
    _check.kind(Mapping, space=space)
    space = _plain_space(space)
    check_space(space, lists_only=sampler == "grid")
    if sampler == "grid":
        trials = min(trials, math.prod(len(values) for values in space.values()))
    file = file_of(storage)
    study = open_study(name, storage, goals, pruner)
    _check_known(study, space)

    def run(trial: optuna.Trial) -> list[float]:
        record = objective(trial, **suggest(trial, space))
        _check.kind(Mapping, **{"the record of the objective": record})
        record = {key: _plain(value) for key, value in record.items()}
        if missing := goals.keys() - record.keys():
            raise ValueError(f"the record of the objective lacks {sorted(missing)}; allowed: each of {list(goals)}")
        trial.set_user_attr("record", record)
        for goal in goals:
            if record[goal] != record[goal]:
                trial.set_user_attr("reason", f"{goal} is NaN")
            else:
                _check.number(goal, record[goal], -math.inf, math.inf)
        return [record[goal] for goal in goals]

    with at_work(file) as worker:
        for _ in range(trials - len(finished(study))):  # a limit, in case the objective gives up every trial
            if cancel():
                break
            with contextlib.ExitStack() as begin:
                begin.enter_context(alone(file))
                give_up_lost(study, file)
                index = free_index(study)
                if index >= trials:
                    break
                study.sampler = sampler_for(sampler, space, len(goals), seed, index)
                _run_next(study, worker, index, run, begin.close)
            after_trial(study)
    return study


def _run_next(
    study: optuna.Study,
    worker: str,
    index: int,
    run: Callable[[optuna.Trial], list[float]],
    begun: Callable[[], None],
) -> None:
    """Run a new trial, or the next that waits in the study. It is added with its worker's name."""

    def objective(trial: optuna.Trial) -> list[float]:
        known = {"index": index, "worker": worker}.items() <= trial.user_attrs.items()
        if not known:  # it was waiting
            trial.set_user_attr("index", index)
            trial.set_user_attr("worker", worker)
        begun()
        others = study.get_trials(deepcopy=False)
        others = others[: trial.number] if known else others[: trial.number] + others[trial.number + 1 :]
        if index in {index_of(other) for other in others if counts(other)}:  # only where `alone` cannot lock
            raise Cancelled
        return run(trial)

    if not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        about = {"index": index, "worker": worker}
        study.add_trial(optuna.create_trial(state=TrialState.WAITING, user_attrs=about))
    try:
        study.optimize(objective, n_trials=1, catch=(Cancelled,))
    except AssertionError as error:  # Optuna's message if it could not write the result of the trial
        if str(error) == "Should not reach." and isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


@quiet()
def open_study(
    name: str = "search",
    storage: Storage = None,
    goals: Mapping[str, str] = {"accuracy": "maximize"},  # noqa: B006
    pruner: optuna.pruners.BasePruner | None = None,
) -> optuna.Study:
    """The study of that name in `storage`, or a new one in memory if it is None.

    A path such as "study.journal" is a file of lines that workers append to; an incomplete line, left by a killed
    process or a full disk, is removed. A database URL such as "sqlite:///study.db" or "postgresql://…" is slower.
    Both files belong on a local disk: on NFS, locks may fail. Workers on several machines need a database server.
    Workers that share a file, journal or SQLite, detect each other by lock files, which the system frees when a process
    is killed. Those that share a server send a heartbeat every 10 s; a trial without one for 30 s counts as failed.
    ValueError for a file that is no journal, and if the study there has other `goals`; OSError if it cannot be written.
    """
    _check.kind(str, name=name)
    _check.kind(optuna.pruners.BasePruner | None, pruner=pruner)
    _check.kind(Mapping, goals=goals)
    if not goals:
        raise ValueError("goals is empty; allowed: at least one name with 'maximize' or 'minimize'")
    for direction in goals.values():
        _check.one_of("goals", direction, ("maximize", "minimize"))
    with alone(file_of(storage)):  # only one worker creates the tables of a database
        study = optuna.create_study(
            study_name=name,
            storage=connect(storage),
            directions=[optuna.study.StudyDirection[direction.upper()] for direction in goals.values()],
            pruner=pruner or optuna.pruners.NopPruner(),
            load_if_exists=True,
        )
    known = study.user_attrs.get("goals", dict(goals))
    if known != dict(goals):
        raise ValueError(f"goals is {dict(goals)}; allowed: {known}, as the study {name!r} in the storage has it")
    study.set_user_attr("goals", dict(goals))
    return study


def _plain(value: Any) -> Any:
    """NumPy's numbers and tensors as Python's numbers and lists, which a storage can hold."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray | torch.Tensor) else value


def _plain_space(space: Space) -> Space:
    """A space with Python's numbers in its lists and ranges."""
    kinds = {list: list, tuple: tuple}
    return {name: kinds[type(v)](map(_plain, v)) if type(v) in kinds else v for name, v in space.items()}


def _check_known(study: optuna.Study, space: Space) -> None:
    """Refuse a space in which a name has another meaning than in the trials of the study."""
    known = {name: kind for trial in study.get_trials(deepcopy=False) for name, kind in trial.distributions.items()}
    for name in known.keys() & space.keys():
        try:
            optuna.distributions.check_distribution_compatibility(known[name], _distribution(space[name]))
        except ValueError as error:
            raise ValueError(f"space[{name!r}] is {space[name]!r}; allowed: {known[name]}, as in the study") from error


def finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """The trials that ended or were stopped by the pruner, in their order."""
    _check.kind(optuna.Study, study=study)
    return study.get_trials(deepcopy=False, states=FINISHED)


def trials(study: optuna.Study) -> pd.DataFrame:
    """One row per trial, as `row` gives it."""
    _check.kind(optuna.Study, study=study)
    goal = next(iter(study.user_attrs["goals"]))
    return pd.DataFrame([row(trial, goal) for trial in study.get_trials(deepcopy=False)])


def row(trial: optuna.trial.FrozenTrial, goal: str = "accuracy") -> dict[str, Any]:
    """A trial as a flat record: number, state, epochs trained (as reported), settings, record of its objective.

    For a trial that the pruner stopped, `goal` is the last value it reported.
    """
    _check.kind(optuna.trial.FrozenTrial, trial=trial)
    _check.kind(str, goal=goal)
    told = trial.intermediate_values
    record = trial.user_attrs.get("record") or ({goal: told[max(told)]} if told else {})
    reason = {"reason": trial.user_attrs.get("reason", "interrupted")} if trial.state == TrialState.FAIL else {}
    about = dict(number=trial.number, state=trial.state.name.lower(), trained=len(told))
    return about | trial.params | record | reason


def best_so_far(records: pd.DataFrame, column: str = "accuracy") -> pd.Series:
    """`column` of the most accurate complete trial so far, indexed by the epochs trained until then.

    `records` are the trials of one study in their order, with the columns state, trained, accuracy and `column`.
    """
    _check.kind(str, column=column)
    _check.table("records", records, "state", "trained", "accuracy")
    _check.one_of("column", column, list(records))
    accuracy = records["accuracy"].where(records["state"] == "complete", -1.0)
    better = accuracy > accuracy.cummax().shift(fill_value=-1.0)
    return pd.Series(records[column].where(better).ffill().to_numpy(), index=records["trained"].cumsum().to_numpy())


@quiet()
def restored(rows: Sequence[Mapping[str, Any]], space: Space, goals: Mapping[str, str]) -> optuna.Study:
    """A study in memory with the finished trials of `rows` (see `row`), for Optuna's own tools."""
    _check.kind(Sequence, rows=rows)
    _check.kind(Mapping, **{f"rows[{i}]": record for i, record in enumerate(rows)})
    check_space(space)
    study = open_study(goals=goals)
    kinds = {name: _distribution(values) for name, values in _plain_space(space).items()}
    for record in rows:
        state = TrialState[record["state"].upper()]
        values = [record[goal] for goal in goals] if state == TrialState.COMPLETE else None
        params = {name: record[name] for name in space}
        study.add_trial(optuna.create_trial(state=state, values=values, params=params, distributions=kinds))
    return study


@quiet()
def importance(study: optuna.Study) -> dict[str, float]:
    """How much each setting matters for reaching the best quarter of complete trials: PED-ANOVA (Watanabe et al. 2023).

    With two goals the best are those nearest to the frontier. The values sum to 1; with few trials they are rough.
    """
    _check.kind(optuna.Study, study=study)
    _process.load("optuna.importance")  # it imports scikit-learn where that is installed
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25)
    return optuna.importance.get_param_importances(study, evaluator=evaluator)


def check_space(space: Space, lists_only: bool = False) -> None:
    """Refuse a space of anything but lists and, unless `lists_only`, ranges; see the module docstring."""
    _check.flags(lists_only=lists_only)
    _check.kind(Mapping, space=space)
    _check.kind(str, **{f"space: the name {name!r}": name for name in space})
    if not space:
        raise ValueError("space is empty; allowed: at least one name with a list or a range")
    for name, values in space.items():
        if isinstance(values, list) and values:
            labels = [label(value) for value in values]
            if len(set(labels)) < len(labels):
                raise ValueError(f"space[{name!r}] is {values!r}; allowed: a list of values of which no two are equal")
            continue
        if lists_only:
            raise ValueError(f"space[{name!r}] is {values!r}; allowed for a grid: a list of values; see `grid`")
        if not _is_range(values):
            allowed = 'a list of values, or (low, high) or (low, high, "log") with low < high, and 0 < low for "log"'
            raise ValueError(f"space[{name!r}] is {values!r}; allowed: {allowed}")


def _is_range(values: object) -> bool:
    match values:
        case (int() | float() as low, int() | float() as high) if isinstance(values, tuple):
            return math.isfinite(high - low) and low < high
        case (int() | float() as low, int() | float() as high, "log") if isinstance(values, tuple):
            return 0 < low < high < math.inf
    return False


def suggest(trial: optuna.Trial, space: Space) -> dict[str, Any]:
    """The settings of a trial: one value for each name of `space`."""
    _check.kind(optuna.trial.BaseTrial, trial=trial)
    check_space(space)
    return {name: _suggest(trial, name, values) for name, values in space.items()}


def _suggest(trial: optuna.Trial, name: str, values: Sequence[Any]) -> Any:
    if isinstance(values, list):
        labels = [label(value) for value in values]
        return values[labels.index(trial.suggest_categorical(name, labels))]
    low, high, *log = values
    draw = trial.suggest_int if isinstance(low, int) and isinstance(high, int) else trial.suggest_float
    return draw(name, low, high, log=bool(log))


def _distribution(values: Sequence[Any]) -> optuna.distributions.BaseDistribution:
    """Optuna's distribution for one entry of the space."""
    trial = optuna.create_study().ask()
    _suggest(trial, "x", values)
    return trial.distributions["x"]


def grid(space: Space, levels: int) -> dict[str, list[Any]]:
    """`space` with `levels` evenly spaced values, on the scale of the range, in place of each range."""
    _check.whole("levels", levels, 2, 1_000)
    _check.kind(Mapping, space=space)
    space = _plain_space(space)
    check_space(space)
    return {name: values if isinstance(values, list) else _levels(values, levels) for name, values in space.items()}


def _levels(values: Sequence[Any], levels: int) -> list[Any]:
    low, high, *log = values
    points = (np.geomspace if log else np.linspace)(low, high, levels).tolist()
    if isinstance(low, int) and isinstance(high, int):
        return sorted({round(point) for point in points})
    return points


def fit_trial(
    trial: optuna.Trial,
    model: nn.Module,
    train: Split,
    validation: Split,
    *,
    epochs: int,
    batch_size: int = 128,
    cancel: Callable[[], bool] = lambda: False,
    **settings: Any,
) -> nn.Module:
    """`fit` inside an objective of one goal: it reports validation accuracy to `trial` after each epoch.

    Raises optuna.TrialPruned when the study's pruner stops the trial, Cancelled as soon as `cancel()` is true.
    """
    _check.kind(optuna.trial.BaseTrial, trial=trial)
    _check.kind(Split, train=train, validation=validation)
    batch_size = _check.whole("batch_size", batch_size, 1, len(train))

    def report(model: nn.Module, step: Step) -> None:
        if step.ends_epoch:
            trial.report(count_correct(model, validation) / len(validation), step.epoch)
            if step.epoch < epochs and trial.should_prune():  # after the last epoch there is nothing left to save
                raise optuna.TrialPruned

    settings |= dict(epochs=epochs, batch_size=batch_size, progress=False, cancel=cancel)
    model, history = fit(model, train, after_step=report, **settings)
    if history.attrs["cancelled"]:
        raise Cancelled
    return model


def k_folds(split: Split, k: int, seed: int = 0) -> list[tuple[Split, Split]]:
    """k pairs (train, held out) of a shuffled split: every image is held out once; sizes differ by one at most."""
    _check.kind(Split, split=split)
    k, seed = _check.whole("k", k, 2, len(split)), _check.seed(seed)
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    parts = order.tensor_split(k)
    pairs = [(torch.cat([*parts[:i], *parts[i + 1 :]]), parts[i]) for i in range(k)]
    return [(Split(split.x[kept], split.y[kept]), Split(split.x[held], split.y[held])) for kept, held in pairs]


def cross_validate(train: Callable[[Split], nn.Module], split: Split, k: int = 5, seed: int = 0) -> pd.DataFrame:
    """Train a network by `train(part)` on k - 1 of k folds and score it on the other fold, for each fold.

    Columns: fold, correct, images, accuracy. Together the folds score every image once.
    """
    _check.kind(Callable, train=train)
    rows = []
    for fold, (kept, held) in enumerate(k_folds(split, k, seed)):
        correct = count_correct(train(kept), held)
        rows.append(dict(fold=fold, correct=correct, images=len(held), accuracy=correct / len(held)))
    return pd.DataFrame(rows)
