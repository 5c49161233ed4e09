"""The paper's sampler: durations exp(alpha s) in epochs, which become shares of the cost. Nothing is trained."""

import math
import random

import optuna
import pytest

from explorer.search.paper_sampler import PaperSampler
from explorer.search.proposal import distributions, schedule_for
from explorer.spec.search_settings import RateLevels, SearchSettings

COSTS = {1 / 3: 690, 2 / 3: 1910, 1.0: 4610}
"""The paper's G per image of DeiT-S (Table 6), in thousandths."""


def proposals(count, grid=1000, **options):
    search = SearchSettings(
        trials=1,
        baseline_trials=1,
        rates=RateLevels(heads=(1 / 3, 2 / 3, 1), mlp=(1 / 4, 1 / 2, 1), tokens=(100 / 196, 144 / 196, 1)),
        learning_rate=(1e-3, 1e-3),
        batch_size=(1024,),
        grid=grid,
    )
    sampler = PaperSampler(search, lambda rates: COSTS[rates.heads], seed=3, **options)
    study = optuna.create_study(sampler=sampler)
    return [schedule_for(search, "staged", study.ask(distributions(search, "staged")).params) for _ in range(count)]


def test_durations_are_those_of_the_formula():
    """The third draw of three uniform numbers, with its epochs worked out here."""
    draws = random.Random(3)
    for schedule in proposals(3):
        epochs = [math.exp(2 * draws.random()) for _ in range(3)]
        costs = [length * cost for length, cost in zip(epochs, COSTS.values(), strict=True)]
        shares = [stage.duration_ratio for stage in schedule.stages]
        assert shares == pytest.approx([cost / sum(costs) for cost in costs], abs=1e-3)


def test_rates_are_the_papers():
    for schedule in proposals(5):
        rates = [(stage.rates.heads, stage.rates.mlp, round(196 * stage.rates.tokens)) for stage in schedule.stages]
        assert rates == [(1 / 3, 1 / 4, 100), (2 / 3, 1 / 2, 144), (1, 1, 196)]


def test_epochs_are_at_most_e_to_the_alpha_apart():
    """t_k is between 1 and exp(2) = 7.4; alpha 0 gives equal epochs."""
    for schedule in proposals(50):
        epochs = [stage.duration_ratio / cost for stage, cost in zip(schedule.stages, COSTS.values(), strict=True)]
        assert max(epochs) / min(epochs) < 1.05 * math.exp(2)
    for schedule in proposals(2, alpha=0.0):
        assert [stage.duration_ratio for stage in schedule.stages] == pytest.approx([0.096, 0.265, 0.639], abs=1e-3)
