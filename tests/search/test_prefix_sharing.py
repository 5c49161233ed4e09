"""Who trains what trials share. Plans are real; no training."""

import time

import pytest

from explorer import Schedule, SearchSpace
from explorer.ledger import Trial
from explorer.search.prefix_sharing import HELD, SharedWork
from explorer.spec.rates import Rates
from explorer.spec.schedule import Stage
from explorer.sweep.trial import compiled
from tests.search.test_search import finish

HALF = Rates(heads=0.5, mlp=0.5, tokens=0.5)


class Listed:
    """A search that proposes given trials."""

    def __init__(self, trials):
        self.trials, self.told, self.repeats = list(trials), [], []

    def next(self):
        return self.trials.pop(0) if self.trials else "done"

    def finished(self, record):
        self.told.append(record.trial.id)

    def repeated(self, record):
        self.repeats.append((record.trial.id, record.outcome.validation_accuracy if record.outcome else None))


def trial(name: str, units: int, **update) -> Trial:
    """Half rates for so many tenths of the budget, then the full model."""
    stages = (Stage(rates=HALF, duration_ratio=units / 10), Stage(rates=Rates(), duration_ratio=1 - units / 10))
    schedule = Schedule(stages=stages, grid=10) if units else Schedule.full_model(10)
    settings = {"learning_rate": 1e-3, "batch_size": 32, "seed": 0, **update}
    return Trial(id=name, phase="search", kind="staged", budget="50%", schedule=schedule, **settings)


@pytest.fixture
def shared(space_file):
    space = SearchSpace.load(space_file)

    def make(trials, records=(), hold=True):
        search = Listed(trials)
        return SharedWork(search, lambda trial: compiled(trial, space)[1], records, hold=hold), search

    make.digest = lambda trial: compiled(trial, space)[1].digest()
    return make


def ended(trial, digest, accuracy=0.5):
    return finish(trial, accuracy).model_copy(update={"plan": digest, "finished": time.time()})


def test_a_repeat_is_answered_from_the_ledger(shared):
    one, same, other = trial("a", 4), trial("b", 4), trial("c", 4, seed=1)
    work, search = shared([same, other], [ended(one, shared.digest(one), 0.7)])
    assert work.next() == other
    assert search.repeats == [("b", 0.7)]
    assert work.answered == 1


def test_a_twin_of_a_running_trial_follows_it_even_into_failure(shared):
    one, same, last = trial("a", 4), trial("b", 4), trial("c", 0, seed=3)
    work, search = shared([one, same, last])
    assert [work.next(), work.next(), work.next()] == [one, last, "wait"]
    work.finished(ended(last, shared.digest(last)))
    work.finished(ended(one, shared.digest(one), None))
    assert search.repeats == [("b", None)]
    assert work.next() == "done"


def test_a_trial_whose_worker_died_is_no_answer_for_later_ones(shared):
    one, same = trial("a", 4), trial("b", 4)
    work, search = shared([one, same])
    assert work.next() == one
    work.finished(ended(one, "", None))
    assert work.next() == same
    assert search.repeats == []


def test_a_trial_whose_beginning_is_in_training_lets_others_go_first(shared):
    leader, behind, unrelated = trial("a", 6), trial("b", 3), trial("c", 0)
    work, _ = shared([leader, behind, unrelated])
    assert [work.next(), work.next()] == [leader, unrelated]
    assert work.next() == "wait"
    work.progressed("a", 2)
    assert work.next() == "wait"
    work.progressed("a", 3)  # all that they share
    assert work.next() == behind
    assert work.next() == "done"


def test_only_equal_settings_share(shared):
    trials = [trial("a", 6), trial("b", 3, learning_rate=2e-3), trial("c", 3, batch_size=16), trial("d", 3, seed=1)]
    work, _ = shared(trials)
    assert [work.next() for _ in trials] == trials


def test_when_the_leader_ends_or_dies_the_held_go_on(shared):
    leader, behind, third = trial("a", 6), trial("b", 5), trial("c", 4)
    work, _ = shared([leader, behind, third])
    assert [work.next(), work.next()] == [leader, "wait"]
    work.finished(ended(leader, "", None))
    assert work.next() == behind
    assert work.next() == "wait"  # now the third shares with the second
    work.finished(ended(behind, shared.digest(behind)))
    assert work.next() == third


def test_what_has_been_trained_once_is_not_waited_for(shared):
    first, leader, behind = trial("a", 6), trial("b", 5), trial("c", 4)
    work, _ = shared([first, leader, behind])
    assert work.next() == first
    work.finished(ended(first, shared.digest(first)))
    assert [work.next(), work.next()] == [leader, behind]


def test_without_a_store_nothing_is_held_back(shared):
    trials = [trial("a", 6), trial("b", 3)]
    work, _ = shared(trials, hold=False)
    assert [work.next(), work.next()] == trials


def test_not_more_than_a_few_are_held_back(shared):
    trials = [trial("a", 9)] + [trial(f"b{units}", units, seed=0) for units in range(1, 9)]
    work, search = shared([*trials, trial("z", 0, seed=5)])
    assert work.next() == trials[0]
    assert work.next() == "wait"
    assert len(search.trials) == 1 + len(trials) - 1 - HELD
