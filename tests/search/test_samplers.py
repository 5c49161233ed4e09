"""Every sampler through one contract: those of the package, one that is registered, and one that lives elsewhere."""

import pytest
from optuna.samplers import BaseSampler, QMCSampler, RandomSampler

from explorer import InvalidInput, SearchSpace
from explorer.search.checks import check_space
from explorer.search.optuna_logs import quiet_optuna
from explorer.search.proposer import Status
from explorer.search.samplers import StudySettings, make_sampler, register_sampler, sampler_names
from explorer.search.search import Search
from tests.search.test_search import finish

OUTSIDE = "tests.search.test_samplers:quasi_random"


def quasi_random(settings: StudySettings) -> BaseSampler:
    """A sampler outside the package."""
    return QMCSampler(seed=settings.seed, scramble=True, warn_asynchronous_seeding=False, warn_independent_sampling=False)


def fails(settings):
    raise RuntimeError(f"no licence for {settings.trials} trials")


register_sampler("quasi", quasi_random)
SAMPLERS = ["tpe", "random", "gp", "paper", "quasi", OUTSIDE]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("sampler", SAMPLERS)
class TestContract:
    """What the search relies on."""

    def proposals(self, space_file, sampler, **search):
        space = SearchSpace.load(space_file).with_search(sampler=sampler, trials=6, baseline_trials=2, **search)
        trials = []
        with quiet_optuna():
            proposer = Search(space)
            while not isinstance(trial := proposer.next(), Status):
                trials.append(trial)
                proposer.finished(finish(trial, 0.1 * len(trials) % 0.7))
        return space, proposer, trials

    def test_it_proposes_all_trials_within_the_space(self, space_file, sampler):
        space, proposer, trials = self.proposals(space_file, sampler)
        assert len(trials) == proposer.planned == 6 + 2 + 3 + 2
        low, high = space.search.learning_rate
        assert all(low <= trial.learning_rate <= high and trial.batch_size in (16, 32) for trial in trials)

    def test_it_proposes_the_same_again(self, space_file, sampler):
        assert self.proposals(space_file, sampler)[2] == self.proposals(space_file, sampler)[2]

    def test_it_serves_two_objectives(self, space_file, sampler):
        assert len(self.proposals(space_file, sampler, minimize="train_seconds")[2]) == 13

    def test_it_proposes_while_trials_run_and_after_one_failed(self, space_file, sampler):
        space = SearchSpace.load(space_file).with_search(sampler=sampler, trials=8)
        with quiet_optuna():
            proposer = Search(space)
            running = [proposer.next() for _ in range(3)]
            proposer.finished(finish(running[0], None))
            running += [proposer.next() for _ in range(3)]
        assert len({trial.id for trial in running}) == 6


def test_samplers_are_listed():
    assert set(sampler_names()) >= {"tpe", "random", "gp", "quasi"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "tpee",
            r"search\.sampler: 'tpee': unknown sampler; did you mean 'tpe'\? Allowed are tpe, random, gp.*package\.module:name",
        ),
        ("no_such_package:sampler", r"search\.sampler: .*no_such_package cannot be imported"),
        ("tests.search.test_samplers:nothing", r"search\.sampler: .*has no 'nothing'"),
        ("tests.search.test_samplers:SAMPLERS", r"search\.sampler: .*must be a function"),
        ("tests.search.test_samplers:fails", r"search\.sampler: .*RuntimeError: no licence for 2 trials"),
        ("builtins:repr", r"search\.sampler: .*must return an optuna\.samplers\.BaseSampler, not str"),
    ],
)
def test_a_sampler_that_cannot_be_made_is_refused_before_the_sweep_starts(space_file, name, message):
    with pytest.raises(InvalidInput, match=message) as caught:
        check_space(SearchSpace.load(space_file).with_search(sampler=name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["tpe", "", "module:name"])
def test_names_that_mean_something_else_cannot_be_registered(name):
    with pytest.raises(InvalidInput, match="name"):
        register_sampler(name, quasi_random)


def test_a_registered_name_can_be_registered_again():
    register_sampler("again", quasi_random)
    register_sampler("again", lambda settings: RandomSampler(seed=settings.seed))
    assert isinstance(make_sampler("again", StudySettings(seed=0, trials=3, objectives=1)), RandomSampler)
