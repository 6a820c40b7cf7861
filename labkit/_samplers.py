"""How a search draws settings: Optuna's samplers, each seeded by the index of the trial in the search."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna

Space = Mapping[str, Sequence[Any]]


class Point(optuna.samplers.RandomSampler):
    """Proposes the settings of one point of a grid."""

    def __init__(self, point: Mapping[str, Any]) -> None:
        super().__init__()
        self.point = point

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
        """The value of the parameter `param_name`."""
        return self.point[param_name]


class NSGAIISampler(optuna.samplers.NSGAIISampler):  # the name is part of the keys under which generations are stored
    """Optuna's sampler, but the first child of a generation has the same parents when it is tried again."""

    def get_parent_population(self, study: optuna.Study, generation: int) -> list[optuna.trial.FrozenTrial]:
        """The parents: for the first child in the order of selection, for the others in that of their numbers."""
        parents = super().get_parent_population(study, generation)
        first = generation and not self.get_population(study, generation)
        return self.select_parent(study, generation) if first else parents


# from the number of goals and a seed; defaults that Optuna 5 changed are set, so the shipped searches stay repeatable
SAMPLERS: dict[str, Callable[[int, int], optuna.samplers.BaseSampler]] = {
    "random": lambda goals, seed: optuna.samplers.RandomSampler(seed=seed),
    "tpe": lambda goals, seed: optuna.samplers.TPESampler(multivariate=goals == 1, constant_liar=True, seed=seed),
    "nsga2": lambda goals, seed: NSGAIISampler(population_size=12, seed=seed),
}


def sampler_for(name: str, space: Space, goals: int, seed: int, index: int) -> optuna.samplers.BaseSampler:
    """The sampler of the trial with this index; Optuna stores no state of a random generator."""
    if name == "grid":
        points = list(itertools.product(*([label(value) for value in space[key]] for key in sorted(space))))
        np.random.RandomState(seed).shuffle(points)  # type: ignore[arg-type]  # the order of Optuna's GridSampler
        return Point(dict(zip(sorted(space), points[index], strict=True)))
    return SAMPLERS[name](goals, int(np.random.SeedSequence((seed, index)).generate_state(1)[0]))


def label(value: Any) -> str | float | None:
    """The stored form of a choice: the value itself, if the storage can hold it."""
    return value if value is None or isinstance(value, str | int | float) else repr(value)
