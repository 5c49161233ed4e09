"""A sampler outside of the package: local search around the best trial so far.

Use it in a search space, with this folder on PYTHONPATH:

    search:
      sampler: sampler:local_search
"""

from __future__ import annotations

import random
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import intersection_search_space
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from explorer.search.samplers import StudySettings


class LocalSearchSampler(BaseSampler):
    """Proposes the parameters of the best completed trial, with one of them drawn again.

    Args:
        startup_trials: number of completed trials before which all parameters are drawn at random.
        seed: seed of the random numbers.
    """

    def __init__(self, startup_trials: int, seed: int) -> None:
        self._startup_trials = startup_trials
        self._random = random.Random(seed)
        self._uniform = RandomSampler(seed=seed)

    def infer_relative_search_space(
        self,
        study: Study,
        trial: FrozenTrial,  # noqa: ARG002 (required by Optuna)
    ) -> dict[str, BaseDistribution]:
        """The parameters that `sample_relative` sets: all that have a choice; none during startup."""
        completed = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        if len(completed) < self._startup_trials:
            return {}
        return {name: each for name, each in intersection_search_space(completed).items() if not each.single()}

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        """The parameters of the trial with the best validation accuracy, which is the first objective, and one new value."""
        if not search_space:
            return {}
        completed = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        best = max(completed, key=lambda each: each.values[0])
        parameters = {name: best.params[name] for name in search_space}
        changed = self._random.choice(sorted(search_space))
        parameters[changed] = self._uniform.sample_independent(study, trial, changed, search_space[changed])
        return parameters

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A random value, for parameters that `sample_relative` does not set."""
        return self._uniform.sample_independent(study, trial, param_name, param_distribution)


def local_search(settings: StudySettings) -> BaseSampler:
    """The sampler of one study; a search space refers to this function."""
    return LocalSearchSampler(settings.startup_trials, settings.seed)
