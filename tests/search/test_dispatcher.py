"""Which trials are trained, deduplicated, shared between kinds or held back. Plans are real; nothing is trained."""

import time

import pytest

from explorer import Schedule, SearchSpace
from explorer.ledger import Trial
from explorer.search.dispatcher import MAX_HELD_BACK, Dispatcher, PlannedTrial
from explorer.search.proposer import Status
from explorer.search.trial_plan import compile_trial
from explorer.spec.rates import Rates
from explorer.spec.schedule import Stage
from tests.search.test_search import finish

HALF = Rates(heads=0.5, mlp=0.5, tokens=0.5)


class Listed:
    """A search that proposes given trials."""

    def __init__(self, trials):
        self.trials, self.told, self.duplicates = list(trials), [], []

    def next(self):
        return self.trials.pop(0) if self.trials else Status.FINISHED

    def finished(self, record):
        self.told.append(record.trial.id)

    def deduplicated(self, trial, record):
        self.duplicates.append((trial.id, record.outcome.validation if record.outcome else None))


def following(dispatcher):
    """The next trial, or the status."""
    planned = dispatcher.next()
    return planned.trial if isinstance(planned, PlannedTrial) else planned


def trial(name: str, units: int, **update) -> Trial:
    """Half rates for this number of tenths of the budget, then the full model."""
    stages = (Stage(rates=HALF, duration_ratio=units / 10), Stage(rates=Rates(), duration_ratio=1 - units / 10))
    schedule = Schedule(stages=stages, grid=10) if units else Schedule.full_model(10)
    settings = {"phase": "search", "kind": "staged", "learning_rate": 1e-3, "batch_size": 32, "seed": 0, **update}
    return Trial(id=name, budget="50%", schedule=schedule, **settings)


@pytest.fixture
def shared(space_file):
    space = SearchSpace.load(space_file)

    def make(trials, records=(), hold_back=True, places=1):
        search = Listed(trials)
        return Dispatcher(
            search, lambda trial: compile_trial(trial, space)[1], records, hold_back=hold_back, places=places
        ), search

    make.digest = lambda trial: compile_trial(trial, space)[1].digest()
    return make


def ended(trial, digest, accuracy=0.5):
    return finish(trial, accuracy).model_copy(update={"plan": digest, "finished": time.time()})


def test_a_duplicate_is_served_from_the_ledger(shared):
    one, same, other = trial("a", 4), trial("b", 4), trial("c", 4, seed=1)
    work, search = shared([same, other], [ended(one, shared.digest(one), 0.7)])
    assert following(work) == other
    assert search.duplicates == [("b", 0.7)]
    assert work.duplicates == 1


def test_a_duplicate_of_a_running_trial_ends_as_that_trial_does_even_if_it_fails(shared):
    one, same, last = trial("a", 4), trial("b", 4), trial("c", 0, seed=3)
    work, search = shared([one, same, last])
    assert [following(work), following(work), following(work)] == [one, last, Status.WAIT]
    work.finished(ended(last, shared.digest(last)))
    work.finished(ended(one, shared.digest(one), None))
    assert search.duplicates == [("b", None)]
    assert following(work) == Status.FINISHED


def test_a_trial_whose_worker_died_serves_no_later_ones(shared):
    one, same = trial("a", 4), trial("b", 4)
    work, search = shared([one, same])
    assert following(work) == one
    work.finished(ended(one, "", None))
    assert following(work) == same
    assert search.duplicates == []


def test_a_bad_host_says_nothing_about_the_same_training_elsewhere(shared):
    staged, baseline = trial("s", 0), trial("b", 0, kind="baseline")
    work, search = shared([staged, baseline])
    assert [following(work), following(work)] == [staged, Status.WAIT]
    work.finished(ended(staged, shared.digest(staged), None).model_copy(update={"failure": "place"}))
    assert following(work) == baseline
    assert search.told == ["s"]


def test_a_trial_whose_prefix_is_being_trained_lets_others_go_first(shared):
    leader, behind, unrelated = trial("a", 6), trial("b", 3), trial("c", 0)
    work, _ = shared([leader, behind, unrelated])
    assert [following(work), following(work)] == [leader, unrelated]
    assert following(work) == Status.WAIT
    work.progressed("a", 2)
    assert following(work) == Status.WAIT
    work.progressed("a", 3)  # all that they share
    assert following(work) == behind
    assert following(work) == Status.FINISHED


def test_only_equal_settings_share(shared):
    trials = [trial("a", 6), trial("b", 3, learning_rate=2e-3), trial("c", 3, batch_size=16), trial("d", 3, seed=1)]
    work, _ = shared(trials)
    assert [following(work) for _ in trials] == trials


def test_when_the_leader_ends_or_dies_held_back_trials_start(shared):
    leader, behind, third = trial("a", 6), trial("b", 5), trial("c", 4)
    work, _ = shared([leader, behind, third])
    assert [following(work), following(work)] == [leader, Status.WAIT]
    work.finished(ended(leader, "", None))
    assert following(work) == behind
    assert following(work) == Status.WAIT  # now the third shares with the second
    work.finished(ended(behind, shared.digest(behind)))
    assert following(work) == third


def test_what_has_been_trained_once_is_not_waited_for(shared):
    first, leader, behind = trial("a", 6), trial("b", 5), trial("c", 4)
    work, _ = shared([first, leader, behind])
    assert following(work) == first
    work.finished(ended(first, shared.digest(first)))
    assert [following(work), following(work)] == [leader, behind]


def test_without_a_store_nothing_is_held_back(shared):
    trials = [trial("a", 6), trial("b", 3)]
    work, _ = shared(trials, hold_back=False)
    assert [following(work), following(work)] == trials


def test_not_more_than_a_few_are_held_back(shared):
    trials = [trial("a", 9)] + [trial(f"b{units}", units, seed=0) for units in range(1, 9)]
    other = trial("z", 0, seed=5)
    work, search = shared([*trials, other])
    assert following(work) == trials[0]
    assert following(work) == Status.WAIT
    assert len(search.trials) == 1 + len(trials) - 1 - MAX_HELD_BACK

    # A cluster with more places than this does not stand idle: one more may be held back, or started.
    work, _ = shared([*trials, other], places=MAX_HELD_BACK + 1)
    assert [following(work), following(work)] == [trials[0], other]


@pytest.mark.parametrize("running", [True, False])
def test_the_same_training_of_another_kind_gets_a_record_of_its_own_and_costs_nothing(shared, running):
    staged, baseline, other = trial("s", 0), trial("b", 0, kind="baseline"), trial("o", 0, seed=4)
    work, search = shared([staged, baseline, other])
    assert following(work) == staged
    if running:
        assert following(work) == other  # the baseline waits for the staged trial
    work.finished(ended(staged, shared.digest(staged), 0.7))
    assert following(work) == (Status.FINISHED if running else other)
    (record,) = work.take_shared_records()
    assert (record.trial, record.shared_with, record.plan) == (baseline, "s", shared.digest(staged))
    assert record.outcome.validation == 0.7
    assert record.outcome.planned_flops > 0
    assert (record.outcome.executed_flops, record.outcome.executed_seconds) == (0, 0.0)
    assert search.told == ["s", "b"]
    assert (search.duplicates, work.duplicates) == ([], 0)
    assert work.take_shared_records() == []


def test_a_shared_training_that_failed_is_a_failure_of_both_trials(shared):
    staged, baseline = trial("s", 0), trial("b", 0, kind="baseline")
    work, search = shared([staged, baseline])
    assert [following(work), following(work)] == [staged, Status.WAIT]
    work.finished(ended(staged, shared.digest(staged), None).model_copy(update={"failure": "memory"}))
    (record,) = work.take_shared_records()
    assert (record.status, record.reason, record.failure, record.shared_with) == ("failed", "x", "memory", "s")
    assert search.told == ["s", "b"]


def test_when_the_worker_of_a_shared_training_dies_the_other_trial_is_trained_itself(shared):
    staged, twin, baseline, copy = trial("s", 0), trial("t", 0), trial("b", 0, kind="baseline"), trial("c", 0, kind="baseline")
    work, search = shared([staged, twin, baseline, copy])
    assert [following(work), following(work)] == [staged, Status.WAIT]
    work.finished(ended(staged, "", None))
    assert search.duplicates == [("t", None)]
    assert [following(work), following(work)] == [baseline, Status.WAIT]
    work.finished(ended(baseline, shared.digest(baseline), 0.6))
    assert search.duplicates == [("t", None), ("c", 0.6)]
    assert following(work) == Status.FINISHED
    assert work.take_shared_records() == []


def test_a_resumed_search_finds_shared_records_and_names_the_trial_that_was_trained(shared):
    staged, baseline = trial("s", 0), trial("b", 0, kind="baseline")
    first, _ = shared([staged, baseline])
    following(first)
    done = ended(staged, shared.digest(staged), 0.7)
    first.finished(done)
    following(first)
    records = [*first.take_shared_records(), done]
    duplicate, repeat = trial("d", 0, kind="baseline"), trial("r", 0, kind="baseline", phase="repeat", repeat_of="b")
    work, search = shared([duplicate, repeat], records)
    assert following(work) == Status.FINISHED
    assert search.duplicates == [("d", 0.7)]
    assert [(r.trial.id, r.shared_with) for r in work.take_shared_records()] == [("r", "s")]


def test_repeats_with_fresh_seeds_of_both_kinds_are_trained_once_and_recorded_twice(shared):
    staged = trial("s-seed1", 0, seed=1, phase="repeat", repeat_of="s")
    baseline = trial("b-seed1", 0, seed=1, phase="repeat", repeat_of="b", kind="baseline")
    work, search = shared([staged, baseline])
    assert [following(work), following(work)] == [staged, Status.WAIT]
    work.finished(ended(staged, shared.digest(staged), 0.7))
    assert [(r.trial.id, r.shared_with) for r in work.take_shared_records()] == [("b-seed1", "s-seed1")]
    assert search.told == ["s-seed1", "b-seed1"]


def test_each_proposal_is_compiled_once(space_file):
    space, compiled = SearchSpace.load(space_file), []

    def compile_plan_of(trial):
        compiled.append(trial.id)
        return compile_trial(trial, space)[1]

    work = Dispatcher(Listed([trial("a", 6), trial("b", 3), trial("c", 6), trial("d", 0)]), compile_plan_of)
    first = work.next()
    work.finished(ended(first.trial, first.plan.digest()))
    while isinstance(planned := work.next(), PlannedTrial):
        work.finished(ended(planned.trial, planned.plan.digest()))
    assert sorted(compiled) == ["a", "b", "c", "d"]
