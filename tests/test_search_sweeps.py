"""The searches that ship: whole, and made of the settings that their spaces allow."""

import itertools

import pytest

from labkit import search
from labkit._samplers import sampler_for
from labkit.sweep import shipped_sweep
from labkit.topics.hyperparameter_search import experiment as experiments

SEARCH_GRID, HYPERBAND_GRID = (
    {**grid, "seed": experiments.SEEDS} for grid in (experiments.SEARCH_GRID, experiments.HYPERBAND_GRID)
)
ONE_GRID = {**experiments.ONE_GRID, "seed": experiments.GRID_SEEDS}
RECIPES_GRID = {**experiments.RECIPES_GRID, "seed": experiments.RECIPE_SEEDS}
SEARCHES = {
    "search": (("mlp", "fashion-mnist"), [SEARCH_GRID, HYPERBAND_GRID], "TRAINING"),
    "recipes": (("lenet-300-100", "mnist"), [ONE_GRID, RECIPES_GRID], "RECIPE"),
    "optimism": (("mlp", "fashion-mnist"), [experiments.OPTIMISM_GRID], None),
}


@pytest.mark.parametrize("kind", SEARCHES)
def test_a_shipped_search_holds_every_trial_once(kind):
    names, grids, _ = SEARCHES[kind]
    keys = sorted(grids[0])
    wanted = [row for grid in grids for row in itertools.product(*(grid[key] for key in keys))]
    table = shipped_sweep(kind, *names)
    assert sorted(table[keys].itertuples(index=False, name=None)) == sorted(wanted)


@pytest.mark.parametrize("kind", ["search", "recipes"])
def test_settings_come_from_the_space_and_from_the_grid(kind):
    names, _, space = SEARCHES[kind]
    table = shipped_sweep(kind, *names)
    for name, values in getattr(experiments, space).items():
        kept = table[name].isin(values) if isinstance(values, list) else table[name].between(*values[:2])
        assert kept.all(), name
    points = getattr(experiments, f"{space}_GRID")
    on_grid = table[table["sampler"] == "grid"]
    assert all(on_grid[name].isin(values).all() for name, values in points.items())
    assert len(on_grid.query("seed == 0")[list(points)].drop_duplicates()) == len(on_grid.query("seed == 0"))


def test_only_hyperband_stops_trials_and_only_behind_a_rung():
    table = shipped_sweep("search", "mlp", "fashion-mnist")
    stopped = table[table["state"] == "pruned"]
    assert set(stopped["sampler"]) == {"tpe, hyperband"}
    assert set(stopped["trained"]) == {1, 3}
    assert set(table.loc[table["state"] == "complete", "trained"]) == {experiments.EPOCHS}


ONE, TWO = {"accuracy": "maximize"}, experiments.RECIPE_GOALS
REPLAYED = [("search", experiments.TRAINING, ONE, s) for s in ("random", "tpe")]
REPLAYED += [("recipes", experiments.RECIPE, TWO, s) for s in ("random", "tpe", "nsga2")]


def proposed(rows, space, goals, sampler):
    """What a sampler proposes for each trial, given the settings and results of the shipped trials before it."""
    study = search.open_study(goals=goals)
    for number, row in enumerate(rows):
        study.sampler = sampler_for(sampler, space, len(goals), seed=0, index=number)
        trial = study.ask()
        yield search.suggest(trial, space)
        study.tell(trial, [row[goal] for goal in goals])


@pytest.mark.parametrize(("kind", "space", "goals", "sampler"), REPLAYED)
def test_the_shipped_trials_are_what_the_samplers_propose_today(kind, space, goals, sampler):
    rows = shipped_sweep(kind, *SEARCHES[kind][0]).query("seed == 0 and sampler == @sampler").to_dict("records")
    for row, settings in zip(rows, proposed(rows, space, goals, sampler), strict=True):
        drawn = {name: value for name, value in settings.items() if isinstance(value, float)}
        assert drawn == pytest.approx({name: row[name] for name in drawn}, rel=1e-9)
        assert settings == {name: row[name] for name in space} | drawn
