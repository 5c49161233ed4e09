"""A real sweep whose budgets share a trunk."""

from itertools import pairwise

import pytest

from explorer import Budget, SearchSpace, Sweep
from explorer.frontier import best_schedule, trials_frame
from explorer.frontier.ranks import rank_correlations
from explorer.search.trial_plan import compile_trial, task_of
from explorer.training.loop import train
from explorer.training_key import trunk_length
from tests.conftest import RAY_SWEEP_MARKS, quiet

pytestmark = [*RAY_SWEEP_MARKS, pytest.mark.nightly]


def test_a_larger_budget_starts_where_the_cooldown_of_the_smaller_one_began(space_file, tmp_path, local_ray):
    content = SearchSpace.load(space_file).model_dump(mode="json")
    content["budgets"] = ["25%", "50%", "100%"]
    content["recipe"]["lr_schedule"] = {"kind": "wsd", "warmup": 0.02, "warmup_of": "full_training"}
    content["search"] |= {
        **{"durations_of": "full_training", "trials": [2, 1, 1], "baseline_trials": 1, "promote": 1, "tied": True},
        **{"learning_rate": [2e-3, 2e-3], "learning_rate_grid": 1, "batch_size": [32]},
    }
    space = SearchSpace.model_validate(content)
    sweep = Sweep(space, tmp_path, console=quiet()).run()
    records = {record.trial.id: record for record in sweep.ledger.records()}
    assert {record.status for record in records.values()} == {"completed"}
    plans = {name: compile_trial(record.trial, space)[1] for name, record in records.items()}
    best = max(("25pct-staged-000", "25pct-staged-001"), key=lambda name: records[name].outcome.validation)
    chains = [
        ("25pct-baseline-000", "50pct-baseline-000", "100pct-baseline-000"),
        (best, "50pct-staged-000", "100pct-staged-000"),
    ]
    for chain in chains:
        for smaller, larger in pairwise(chain):
            if records[larger].shared_with:
                continue
            trunk = trunk_length(plans[smaller].segments)
            assert trunk == (8 if smaller == chain[0] else 16)
            executed = sum(segment.flops for segment in plans[larger].segments[trunk:])
            assert records[larger].outcome.executed_flops == executed, larger
            assert executed < 0.7 * plans[larger].flops
    for name in ("100pct-baseline-000", "50pct-staged-000"):
        trial = records[name].trial
        alone = train(task_of(trial, space), plans[name], seed=trial.seed)
        outcome = records[name].outcome
        assert (alone.validation, alone.test) == (outcome.validation, outcome.test)
    correlations = rank_correlations(trials_frame(list(records.values())), "full_training")
    assert correlations.common.tolist() == [2, 2]  # the promoted schedule and the baseline are found again
    # As a file, the schedule of a budget has shares of any budget.
    schedule = best_schedule(trials_frame(list(records.values())), sweep.ledger.header(), Budget(0.5))
    assert schedule.grid == 20
