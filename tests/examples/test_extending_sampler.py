"""The example of a sampler outside of the package: the contract of all samplers, and what its own docstrings state."""

import optuna
import pytest

from explorer.search.samplers import StudySettings, make_sampler
from tests.docs.blocks import ROOT
from tests.search import test_samplers

NAME = "sampler:local_search"
CONTRACT = test_samplers.TestContract()


@pytest.fixture(autouse=True)
def examples_on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "extending"))


@pytest.mark.parametrize("test", [name for name in dir(CONTRACT) if name.startswith("test_")])
def test_the_contract_of_all_samplers_holds(test, space_file):
    getattr(CONTRACT, test)(space_file, NAME)


def proposals(seed, trials=30):
    """Trials of a study whose objective is best at x = 0.5, with the third category."""
    sampler = make_sampler(NAME, StudySettings(seed=seed, trials=trials, objectives=1))
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(
        lambda trial: -abs(trial.suggest_float("x", 0, 1) - 0.5) - abs(2 - trial.suggest_categorical("k", [0, 1, 2, 3])),
        n_trials=trials,
    )
    return study.trials


def test_each_proposal_after_startup_changes_at_most_one_parameter_of_the_best_trial():
    trials = proposals(seed=0)
    for number in range(10, len(trials)):
        best = max(trials[:number], key=lambda trial: trial.value)
        assert sum(trials[number].params[name] != value for name, value in best.params.items()) <= 1


def test_equal_seeds_give_equal_proposals():
    assert [t.params for t in proposals(seed=1)] == [t.params for t in proposals(seed=1)]
    assert [t.params for t in proposals(seed=1)] != [t.params for t in proposals(seed=2)]


def test_the_search_gets_closer_to_the_optimum_than_its_random_start():
    trials = proposals(seed=3)
    assert max(trial.value for trial in trials[10:]) > max(trial.value for trial in trials[:10])
