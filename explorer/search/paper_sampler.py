"""The sampler of "Budgeted Training for Vision Transformer" (ICLR 2023, section on the schedule of durations; Table 4).

The paper does not search durations; it draws them. For K = 3 stages, s_k is uniform in [0, 1] and stage k lasts for
t_k = exp(alpha s_k) epochs, all scaled by a common factor to spend the budget. Its rates are fixed: heads and tokens rise in
even steps, and the MLP ratio is 1, 2 and 4 of 4.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial

from explorer.search.proposal import distributions, duration_variables, even_positions, rate_variables
from explorer.spec.rates import Rates
from explorer.spec.search_settings import SearchSettings

ALPHA = 2.0
"""The paper's best alpha (Table 4)."""


class PaperSampler(BaseSampler):
    """Draws durations as the paper does, for rates that rise in even steps through the levels of the search space.

    Levels of 1/3, 2/3, 1 for heads, .25, .5, 1 for MLPs and .51, .735, 1 for tokens are the paper's rates of a plain ViT. The
    number of stages is `search.stages`, 3 by default as in the paper. Learning rate, batch size and other settings are drawn
    uniformly from their choices; the paper takes them from the recipe. Durations are rounded to `search.grid`, as those of
    other samplers.

    Args:
        search: what is searched.
        step_cost: cost of a training step at requested rates, in the sweep's currency: a stage's share of the cost is its share
            of epochs times this.
        seed: seed of the random numbers.
        alpha: spread of the durations; 0 gives all stages equal epochs.
    """

    def __init__(self, search: SearchSettings, step_cost: Callable[[Rates], int], *, seed: int, alpha: float = ALPHA) -> None:
        self._search, self._step_cost, self._alpha = search, step_cost, alpha
        self._others = RandomSampler(seed=seed)
        self._random = random.Random(seed)

    def infer_relative_search_space(
        self,
        study: Study,  # noqa: ARG002
        trial: FrozenTrial,  # noqa: ARG002
    ) -> dict[str, BaseDistribution]:
        """The durations and rates, which are chosen together."""
        chosen = self._rates()
        variables = distributions(self._search, "staged")
        return {name: each for name, each in variables.items() if name.startswith("duration_") or name in chosen}

    def sample_relative(
        self,
        study: Study,  # noqa: ARG002
        trial: FrozenTrial,  # noqa: ARG002
        search_space: dict[str, BaseDistribution],  # noqa: ARG002
    ) -> dict[str, Any]:
        """Durations of one schedule, and the rates."""
        epochs = [math.exp(self._alpha * self._random.random()) for _ in range(self._search.stages)]
        rates = [self._search.rates_at(even_positions(self._search, stage)) for stage in range(self._search.stages)]
        costs = [length * self._step_cost(each) for length, each in zip(epochs, rates, strict=True)]
        return duration_variables([cost / sum(costs) for cost in costs]) | self._rates()

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A uniform draw."""
        return self._others.sample_independent(study, trial, param_name, param_distribution)

    def _rates(self) -> dict[str, float]:
        search = self._search
        return rate_variables(search, [even_positions(search, stage) for stage in range(search.stages)])
