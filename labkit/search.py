"""Hyperparameter search on Optuna: a space in plain data, an objective that gives a record, a table of the trials.

    space = {"lr": (1e-4, 1.0, "log"), "width": (8, 128, "log"), "optimizer": ["sgd", "adamw"]}
    study = search(objective, space, trials=30)       # objective(trial, **settings) -> {"accuracy": …}
    trials(study)                                     # one row a trial; study.best_trial and the rest is Optuna's

A tuple (low, high) or (low, high, "log") is a range, of whole numbers if both ends are; a list is a choice. NumPy's
numbers and tensors of one number stand for numbers. Of a choice that is neither number nor text, such as a tuple, the
table and the storage hold the `repr`.
"""

import itertools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import torch
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState
from torch import nn

from labkit import _check
from labkit.data import Split
from labkit.train import count_correct, fit, steps_of

Space = Mapping[str, Sequence[Any]]
Objective = Callable[..., Mapping[str, float]]  # objective(trial, **settings) -> record
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
# by the number of goals and a seed; what Optuna 5 changed is written out, so that the shipped searches stay repeatable
SAMPLERS: dict[str, Callable[[int, int], optuna.samplers.BaseSampler]] = {
    "random": lambda goals, seed: optuna.samplers.RandomSampler(seed=seed),
    "tpe": lambda goals, seed: optuna.samplers.TPESampler(multivariate=goals == 1, constant_liar=True, seed=seed),
    "nsga2": lambda goals, seed: optuna.samplers.NSGAIISampler(population_size=12, seed=seed),
}
optuna.logging.set_verbosity(optuna.logging.ERROR)  # a trial is a row of the table, not a line on the screen


class Cancelled(Exception):  # noqa: N818 - a wish, not an error
    """Raised inside an objective to give up its trial, which then counts as failed; the search goes no further."""


def search(
    objective: Objective,
    space: Space,
    *,
    trials: int = 30,
    sampler: str = "tpe",
    goals: Mapping[str, str] = {"accuracy": "maximize"},  # noqa: B006 - read, never written
    pruner: optuna.pruners.BasePruner | None = None,
    storage: str | Path | optuna.storages.BaseStorage | None = None,
    name: str = "search",
    seed: int = 0,
    cancel: Callable[[], bool] = lambda: False,
    after_trial: Callable[[optuna.Study], None] = lambda study: None,
) -> optuna.Study:
    """Try settings from `space` until `trials` of them have finished; return the Optuna study that holds them.

    `objective(trial, **settings)` returns a record, of which `goals` names what to "maximize" or "minimize"; the rest
    is kept beside it. `sampler` is "grid" (every value of `space` a list, in an order drawn by `seed`; it ends with the
    last point), "random", "tpe" (Bergstra et al. 2011) or "nsga2" (Deb et al. 2002, 12 per generation). TPE draws its
    first 10 trials at random. With one goal it then models all settings jointly (multivariate), with two each setting
    by itself; trials that other workers are still running count as poor ones (constant liar). `pruner`, None for none,
    stops trials that report (see `fit_trial`).

    With a `storage` (see `open_study`) the same call goes on where it stopped, and any number of workers may share it;
    each takes a `seed` of its own, but for "grid" all take the same. The settings of a trial follow from `seed`, its
    number and the trials before it, so a search that was interrupted ends like one that was not. `cancel()` is asked
    before every trial, `after_trial(study)` called behind it. A trial with NaN for a goal has failed, and its row says
    so under "reason". ValueError for a space, sampler or goal that is none, or that the study does not have.
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
    study = open_study(name, storage, goals, pruner)
    _check_known(study, space)

    def run(trial: optuna.Trial) -> list[float]:
        record = {key: _plain(value) for key, value in objective(trial, **suggest(trial, space)).items()}
        trial.set_user_attr("record", record)
        _check.known("goals", goals, record)
        for goal in goals:
            if record[goal] != record[goal]:
                trial.set_user_attr("reason", f"{goal} is NaN")
            else:
                _check.number(goal, record[goal], -math.inf, math.inf)
        return [record[goal] for goal in goals]

    for _ in range(trials - len(finished(study))):  # a bound: trials that fail are not counted as finished
        if cancel() or len(finished(study)) >= trials:
            break
        study.sampler = _sampler(sampler, space, len(goals), seed, len(study.get_trials(deepcopy=False)))
        if isinstance(study.sampler, optuna.samplers.GridSampler) and study.sampler.is_exhausted(study):
            break  # the points that are not finished have failed
        study.optimize(run, n_trials=1, catch=(Cancelled,))
        after_trial(study)
    return study


def _sampler(name: str, space: Space, goals: int, seed: int, number: int) -> optuna.samplers.BaseSampler:
    """A sampler for the trial of that number; Optuna keeps no state of a random generator in a storage."""
    if name == "grid":
        return optuna.samplers.GridSampler({k: [_label(v) for v in values] for k, values in space.items()}, seed=seed)
    return SAMPLERS[name](goals, int(np.random.SeedSequence((seed, number)).generate_state(1)[0]))


def open_study(
    name: str = "search",
    storage: str | Path | optuna.storages.BaseStorage | None = None,
    goals: Mapping[str, str] = {"accuracy": "maximize"},  # noqa: B006
    pruner: optuna.pruners.BasePruner | None = None,
) -> optuna.Study:
    """The study of that name in `storage`, or a new one in memory if that is None.

    A path such as "study.journal" is a file that workers on one machine, or on a shared disk, append to. A database URL
    such as "sqlite:///study.db" or "postgresql://…" is slower and knows more: every worker tells it every 10 s that it
    lives, and a trial that was not heard of for 30 s counts as failed; in a file it stays "running". ValueError if the
    study there has other `goals`.
    """
    _check.kind(str, name=name)
    _check.kind(str | Path | optuna.storages.BaseStorage | None, storage=storage)
    _check.kind(optuna.pruners.BasePruner | None, pruner=pruner)
    _check.kind(Mapping, goals=goals)
    if not goals:
        raise ValueError("goals is empty; allowed: at least one name with 'maximize' or 'minimize'")
    for direction in goals.values():
        _check.one_of("goals", direction, ("maximize", "minimize"))
    study = optuna.create_study(
        study_name=name,
        storage=_storage(str(storage)) if isinstance(storage, str | Path) else storage,
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


def _label(value: Any) -> str | float | None:
    """What stands for a choice in a storage: itself, if that can hold it."""
    return value if value is None or isinstance(value, str | int | float) else repr(value)


def _check_known(study: optuna.Study, space: Space) -> None:
    """Refuse a space in which a name means something else than in the trials of the study."""
    known = {name: kind for trial in study.get_trials(deepcopy=False) for name, kind in trial.distributions.items()}
    for name in known.keys() & space.keys():
        try:
            optuna.distributions.check_distribution_compatibility(known[name], _distribution(space[name]))
        except ValueError as error:
            raise ValueError(f"space[{name!r}] is {space[name]!r}; allowed: {known[name]}, as in the study") from error


def _storage(place: str) -> optuna.storages.BaseStorage:
    if "://" not in place:
        file = JournalFileBackend(place, lock_obj=JournalFileOpenLock(place))
        return optuna.storages.JournalStorage(file)
    patience: dict[str, Any] = {"connect_args": {"timeout": 60}} if place.startswith("sqlite") else {}
    with warnings.catch_warnings():  # Optuna calls its heartbeat experimental
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.storages.RDBStorage(place, patience, heartbeat_interval=10, grace_period=30)


def finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """The trials that ran to their end or were stopped by the pruner, in their order."""
    _check.kind(optuna.Study, study=study)
    return study.get_trials(deepcopy=False, states=FINISHED)


def trials(study: optuna.Study) -> pd.DataFrame:
    """One `row` a trial."""
    _check.kind(optuna.Study, study=study)
    goal = next(iter(study.user_attrs["goals"]))
    return pd.DataFrame([row(trial, goal) for trial in study.get_trials(deepcopy=False)])


def row(trial: optuna.trial.FrozenTrial, goal: str = "accuracy") -> dict[str, Any]:
    """A trial as a flat record: number, state, epochs trained (as reported), its settings, what its objective returned.

    Of a trial that the pruner stopped, `goal` is the last value it reported.
    """
    _check.kind(optuna.trial.FrozenTrial, trial=trial)
    _check.kind(str, goal=goal)
    told = trial.intermediate_values
    record = trial.user_attrs.get("record") or ({goal: told[max(told)]} if told else {})
    reason = {key: value for key, value in trial.user_attrs.items() if key == "reason"}
    about = dict(number=trial.number, state=trial.state.name.lower(), trained=len(told))
    return about | trial.params | record | reason


def best_so_far(records: pd.DataFrame, column: str = "accuracy") -> pd.Series:
    """`column` of the most accurate complete trial so far, indexed by the epochs trained till then.

    `records` are the trials of one study in their order, with the columns state, trained, accuracy and `column`.
    """
    _check.kind(str, column=column)
    _check.table("records", records, "state", "trained", "accuracy")
    _check.one_of("column", column, list(records))
    accuracy = records["accuracy"].where(records["state"] == "complete", -1.0)
    better = accuracy > accuracy.cummax().shift(fill_value=-1.0)
    return pd.Series(records[column].where(better).ffill().to_numpy(), index=records["trained"].cumsum().to_numpy())


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


def importance(study: optuna.Study) -> dict[str, float]:
    """Share of every setting in reaching the best quarter of the complete trials: PED-ANOVA (Watanabe et al. 2023).

    With two goals the best are those nearest to the frontier. Sums to 1; few trials make a rough estimate of it.
    """
    _check.kind(optuna.Study, study=study)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25)
    return optuna.importance.get_param_importances(study, evaluator=evaluator)


def check_space(space: Space, lists_only: bool = False) -> None:
    """Refuse a space of anything but lists and, unless `lists_only`, ranges; see the docstring of the module."""
    _check.flags(lists_only=lists_only)
    _check.kind(Mapping, space=space)
    _check.kind(str, **{f"space: the name {name!r}": name for name in space})
    if not space:
        raise ValueError("space is empty; allowed: at least one name with a list or a range")
    for name, values in space.items():
        if isinstance(values, list) and values:
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
        labels = [_label(value) for value in values]
        return values[labels.index(trial.suggest_categorical(name, labels))]
    low, high, *log = values
    draw = trial.suggest_int if isinstance(low, int) and isinstance(high, int) else trial.suggest_float
    return draw(name, low, high, log=bool(log))


def _distribution(values: Sequence[Any]) -> optuna.distributions.BaseDistribution:
    """What Optuna notes of a name of the space."""
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
    """`fit` inside an objective of one goal: `trial` hears the validation accuracy behind every epoch.

    Raises optuna.TrialPruned when the study's pruner sees no use in going on, Cancelled as soon as `cancel()` says so.
    """
    _check.kind(optuna.Trial, trial=trial)
    _check.kind(Split, train=train, validation=validation)
    batch_size = _check.whole("batch_size", batch_size, 1, len(train))
    steps = itertools.count(1)
    steps_per_epoch = steps_of(len(train), batch_size)

    def after_step(model: nn.Module, progress: float) -> None:
        epoch, rest = divmod(next(steps), steps_per_epoch)
        if rest == 0:
            trial.report(count_correct(model, validation) / len(validation), epoch)
            if epoch < epochs and trial.should_prune():  # behind the last one there is nothing left to save
                raise optuna.TrialPruned

    settings |= dict(epochs=epochs, batch_size=batch_size, progress=False, cancel=cancel)
    model, history = fit(model, train, after_step=after_step, **settings)
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
    """`train(part)` a network on k - 1 of k folds and score it on the one left out, for each fold in turn.

    Columns: fold, correct, images, accuracy. Together the folds score every image once.
    """
    _check.kind(Callable, train=train)
    rows = []
    for fold, (kept, held) in enumerate(k_folds(split, k, seed)):
        correct = count_correct(train(kept), held)
        rows.append(dict(fold=fold, correct=correct, images=len(held), accuracy=correct / len(held)))
    return pd.DataFrame(rows)
