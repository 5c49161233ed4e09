import time
from itertools import groupby

import pytest

from explorer import Budget, SearchSpace
from explorer.ledger import KINDS, Record, Trial
from explorer.search.proposer import Status
from explorer.search.rung import EXHAUSTED_AFTER
from explorer.search.search import Search
from tests.ledger.test_ledger import make_record

BUDGETS = (Budget(0.25), Budget(0.5))


def space(space_file, **search) -> SearchSpace:
    return SearchSpace.load(space_file).with_search(**search)


def finish(trial: Trial, accuracy: float | None) -> Record:
    record = make_record(finished=time.time())
    if accuracy is None:
        return record.model_copy(update={"trial": trial, "status": "failed", "reason": "x", "outcome": None})
    outcome = record.outcome.model_copy(update={"validation": accuracy})
    return record.model_copy(update={"trial": trial, "outcome": outcome})


def run(search: Search, accuracy=lambda trial: 0.5, limit=1000) -> list[Record]:
    records = []
    while len(records) < limit and not isinstance(trial := search.next(), Status):
        records.append(finish(trial, accuracy(trial)))
        search.finished(records[-1])
    return records


def test_every_budget_gets_its_trials_from_the_cheapest_up(space_file):
    search = Search(space(space_file, trials=3, baseline_trials=2))
    records = run(search)
    assert search.next() == Status.FINISHED
    assert len(records) == search.planned == 10
    kinds = [(str(r.trial.budget), r.trial.kind) for r in records]
    # Two of each kind at 50 % first, then the third staged one.
    assert kinds[:5] == [("25%", "staged")] * 3 + [("25%", "baseline")] * 2
    assert kinds[5:] == [("50%", "staged")] * 2 + [("50%", "baseline")] * 2 + [("50%", "staged")]
    assert len({r.trial.id for r in records}) == 10
    assert {r.trial.seed for r in records} == {0}


def test_a_first_curve_comes_early_and_ends_with_the_best_of_the_cheapest_budget(space_file):
    """A third of 15 trials at the cheapest budget, the best two at each other one; a third there; then all others."""
    made = space(space_file).model_copy(update={"budgets": (Budget(0.1), *BUDGETS)}).with_search(trials=[15] * 3)
    records = run(Search(made), accuracy=lambda trial: 0.9 if trial.id in ("10pct-staged-002", "10pct-staged-004") else 0.5)
    staged = [record.trial for record in records if record.trial.kind == "staged"]
    counts = [(budget, len(list(group))) for budget, group in groupby(str(trial.budget) for trial in staged)]
    first = [("10%", 5), ("25%", 2), ("50%", 2), ("25%", 3), ("50%", 3)]
    assert counts == [*first, ("10%", 10), ("25%", 10), ("50%", 10)]
    schedules = {trial.id: trial.schedule for trial in staged}
    best = [schedules[f"10pct-staged-00{number}"] for number in (2, 4)]
    assert [schedules[f"25pct-staged-00{number}"] for number in (0, 1)] == best


def test_the_best_of_a_budget_is_tried_first_at_the_next(space_file):
    search = Search(space(space_file, trials=4))
    records = run(search, accuracy=lambda trial: 0.9 if trial.id == "25pct-staged-002" else 0.5)
    by_id = {r.trial.id: r.trial for r in records}
    assert by_id["50pct-staged-000"].parameters == by_id["25pct-staged-002"].parameters
    assert by_id["50pct-staged-000"].schedule == by_id["25pct-staged-002"].schedule


def test_what_is_promoted_is_then_tried_with_other_learning_rates_and_batch_sizes(space_file):
    """At 50 % the rate of 25 % is not the best one: the higher one is, and then the highest."""
    made = space(space_file, trials=[1, 6], promote=1, learning_rate=(1e-3, 8e-3), learning_rate_grid=4, batch_size=(16, 32))
    first = Search(made).next()
    rates = made.search.learning_rates()
    records = run(Search(made), accuracy=lambda trial: trial.learning_rate * 32 / trial.batch_size)
    tried = [record.trial for record in records if (str(record.trial.budget), record.trial.kind) == ("50%", "staged")]
    assert all(trial.schedule == first.schedule for trial in tried[:5])
    at = rates.index(first.learning_rate)
    settings = [(rates.index(trial.learning_rate) - at, trial.batch_size) for trial in tried[:5]]
    # Smaller batches are tried before other rates; then what is next to the best one so far.
    assert settings == [(0, 32), (0, 16), (1, 16), (2, 16), (2, 32)]


def test_the_best_are_repeated_with_fresh_seeds(space_file):
    search = Search(space(space_file, trials=3, repeat=1, repeat_seeds=2))
    records = run(search, accuracy=lambda trial: 0.9 if trial.id == "25pct-staged-001" else 0.5)
    assert len(records) == search.planned == 8 + 8
    repeats = [
        r.trial for r in records if r.trial.phase == "repeat" and str(r.trial.budget) == "25%" and r.trial.kind == "staged"
    ]
    assert [(t.id, t.repeat_of, t.seed) for t in repeats] == [
        ("25pct-staged-001-seed1", "25pct-staged-001", 1),
        ("25pct-staged-001-seed2", "25pct-staged-001", 2),
    ]
    parent = next(r.trial for r in records if r.trial.id == "25pct-staged-001")
    assert repeats[0].schedule == parent.schedule
    assert repeats[0].learning_rate == parent.learning_rate


def test_cheap_budgets_may_be_repeated_with_more_seeds(space_file):
    whole = space(space_file, trials=3, baseline_trials=2, repeat=1, repeat_seeds=(4, 2))
    search = Search(whole)
    assert search.planned == whole.planned_trials == 2 * (3 + 2) + 2 * (4 + 2)
    records = run(search)
    seeds = {("25%", kind): {1, 2, 3, 4} for kind in KINDS} | {("50%", kind): {1, 2} for kind in KINDS}
    repeats = [record.trial for record in records if record.trial.phase == "repeat"]
    assert {key: {t.seed for t in repeats if (str(t.budget), t.kind) == key} for key in seeds} == seeds


def test_repeats_wait_for_running_trials_but_never_when_nothing_runs(space_file):
    search = Search(space(space_file, trials=1, repeat=1, repeat_seeds=1, promote=0))
    running = [search.next() for _ in range(4)]
    assert [t.kind for t in running] == ["staged", "baseline"] * 2
    assert search.next() == Status.WAIT
    search.finished(finish(running[0], 0.5))
    assert search.next().id == "25pct-staged-000-seed1"
    assert search.next() == Status.WAIT
    for trial in running[1:]:
        search.finished(finish(trial, None))  # all failed: nothing to repeat
    assert search.next() == Status.FINISHED


def test_a_stopped_search_resumes_from_the_records(space_file):
    whole = space(space_file, trials=3, repeat=1, repeat_seeds=2)
    first = run(Search(whole), limit=7)
    search = Search(whole, first)
    rest = run(search)
    assert len(first) + len(rest) == search.planned == 16
    ids = [r.trial.id for r in first + rest]
    assert len(set(ids)) == len(ids)
    assert len(Search(whole, first + rest).rungs[0].study.trials) == 3
    assert Search(whole, first + rest).next() == Status.FINISHED


def test_a_stopped_search_still_tries_every_learning_rate_schedule_of_the_baseline(space_file):
    whole = space(space_file, trials=1, baseline_trials=4, lr_schedule=("linear", "rex", "cosine", "wsd"), repeat=0)
    first = run(Search(whole), limit=2)
    records = first + run(Search(whole, first))
    baseline = [r.trial.lr_schedule for r in records if (str(r.trial.budget), r.trial.kind) == ("25%", "baseline")]
    assert len(first) == 2
    assert baseline == ["linear", "rex", "cosine", "wsd"]


def test_a_stopped_search_still_tries_the_longer_early_stages_on_a_proxy(space_file):
    content = {**space(space_file, trials=4, repeat=0).model_dump(mode="json"), "proxy": [{"images": 0.5}]}
    whole = SearchSpace.model_validate(content)
    first = run(Search(whole), limit=1)
    stopped, uninterrupted = (
        [r.trial.parameters for r in records if r.trial.proxy and str(r.trial.budget) == "25%"]
        for records in (first + run(Search(whole, first)), run(Search(whole)))
    )
    assert len(stopped) == 4
    assert stopped == uninterrupted


def test_more_trials_extend_and_old_results_count(space_file):
    first = run(Search(space(space_file, trials=2)))
    search = Search(space(space_file, trials=5), first)
    extension = run(search)
    assert len(extension) == 4
    assert {r.trial.kind for r in extension} == {"staged"}
    assert [len(rung.study.trials) for rung in search.rungs] == [5, 1, 3, 1]


def test_no_two_trials_of_a_sweep_are_the_same_training(space_file):
    records = run(Search(space(space_file, trials=8, baseline_trials=5)))
    trainings = [r.trial.model_dump_json(exclude={"id", "parameters"}) for r in records]
    assert len(set(trainings)) == len(trainings)


def test_failures_are_told_and_not_repeated(space_file):
    search = Search(space(space_file, trials=3))
    records = run(search, accuracy=lambda trial: None if trial.id.endswith("001") else 0.5)
    states = [t.state.name for t in search.rungs[0].study.trials]
    assert states == ["COMPLETE", "FAIL", "COMPLETE"]
    assert len(records) == search.planned


def test_one_number_of_trials_means_equal_cost_on_every_rung_of_the_ladder(space_file):
    # 25 % and 50 %: half as many at twice the cost; never fewer than three, nor than the cheapest has.
    asked = {trials: [space(space_file, trials=trials).trials_at(b, "staged") for b in BUDGETS] for trials in (20, 5, 2)}
    assert asked == {20: [20, 10], 5: [5, 3], 2: [2, 2]}
    assert [space(space_file, trials=(4, 7)).trials_at(b, "staged") for b in BUDGETS] == [4, 7]


def test_budgets_are_visited_twice_so_that_a_first_curve_comes_early(space_file):
    records = run(Search(space(space_file, trials=(9, 6), baseline_trials=1)))
    staged = [str(r.trial.budget) for r in records if r.trial.kind == "staged"]
    assert staged == ["25%"] * 3 + ["50%"] * 3 + ["25%"] * 6 + ["50%"] * 3


def test_the_last_places_of_a_budget_are_kept_for_the_winners_below(space_file):
    search = Search(space(space_file, trials=(3, 3), baseline_trials=1, promote=2))
    below = [search.next() for _ in range(3)]
    baseline = search.next()
    assert str(search.next().budget) == "50%"
    assert search.next() == Status.WAIT  # two places left: for the two best of 25 %
    for trial, accuracy in zip(below, (0.1, 0.8, 0.7), strict=True):
        search.finished(finish(trial, accuracy))
    promoted = [search.next() for _ in range(2)]
    assert [t.parameters for t in promoted] == [below[1].parameters, below[2].parameters]
    assert search.next() == Status.WAIT
    search.finished(finish(baseline, 0.5))
    assert search.next().kind == "baseline"


def test_trials_that_a_dead_driver_had_started_come_first_and_are_known_to_optuna_once(space_file):
    whole = space(space_file, trials=(4, 2), baseline_trials=1)
    before = Search(whole)
    started = [before.next() for _ in range(2)]
    done = finish(started[0], 0.5)
    search = Search(whole, [done], started[1:])
    assert search.next() == started[1]
    third = search.next()
    assert third.id == "25pct-staged-002"
    assert [t.state.name for t in search.rungs[0].study.trials] == ["COMPLETE", "RUNNING", "RUNNING"]
    assert search.rungs[0].study.trials[1].params == started[1].parameters
    for trial in (started[1], third):
        search.finished(finish(trial, 0.5))
    assert 3 + len(run(search)) == search.planned
    assert {t.state.name for rung in search.rungs for t in rung.study.trials} == {"COMPLETE"}


def test_duplicates_do_not_count_and_an_exhausted_space_ends(space_file):
    search = Search(space(space_file, trials=(3, 1), baseline_trials=1))
    first = search.next()
    record = finish(first, 0.5)
    search.finished(record)
    again = search.next()
    search.deduplicated(again, record)
    assert search.rungs[0].asked == 1
    assert [t.state.name for t in search.rungs[0].study.trials] == ["COMPLETE", "COMPLETE"]
    asked = 0
    while str((trial := search.next()).budget) == "25%" and trial.kind == "staged":
        search.deduplicated(trial, record)
        asked += 1
    assert asked == EXHAUSTED_AFTER - 1
    assert search.planned == 1 + 1 + 1 + 1


def test_learning_rates_on_a_grid_are_the_same_for_many_trials(space_file):
    search = Search(space(space_file, trials=12, learning_rate=(1e-3, 4e-3), learning_rate_grid=3))
    rates = {r.trial.learning_rate for r in run(search)}
    assert sorted(rates) == pytest.approx([1e-3, 2e-3, 4e-3])


def test_a_second_objective_is_searched_and_trials_that_none_dominates_are_best(space_file):
    search = Search(space(space_file, trials=(3, 1), minimize="train_seconds"))
    accuracies, seconds = (0.5, 0.9, 0.8), (4.0, 9.0, 12.0)
    for accuracy, time_taken in zip(accuracies, seconds, strict=True):
        record = finish(search.next(), accuracy)
        outcome = record.outcome.model_copy(update={"train_seconds": time_taken})
        search.finished(record.model_copy(update={"outcome": outcome}))
    study = search.rungs[0].study
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert sorted(t.number for t in study.best_trials) == [0, 1]
    assert [r.outcome.validation for r in search.rungs[0].best(3)] == [0.9, 0.5, 0.8]


def test_failed_trials_are_not_repeated_and_the_planned_number_falls_to_what_can_be_reached(space_file):
    whole = space(space_file, trials=3, baseline_trials=2, repeat=2, repeat_seeds=2)
    search = Search(whole)
    assert search.planned == 2 * (3 + 2 + 2 * 2 * 2)
    records = run(search, accuracy=lambda trial: 0.5 if trial.id.endswith("-000") or trial.phase == "repeat" else None)
    assert search.next() == Status.FINISHED
    # Of each kind and budget one trial succeeded, so that one is repeated instead of two.
    assert len(records) == search.planned == 2 * (3 + 2 + 2 * 2)
    assert Search(whole, records).planned == len(records)


def test_a_failed_trial_that_is_tried_again_keeps_its_id_and_may_change_what_is_repeated(space_file):
    whole = space(space_file, trials=2, baseline_trials=1, repeat=1, repeat_seeds=1)
    records = run(Search(whole), accuracy=lambda trial: None if trial.id == "25pct-staged-001" else 0.5)
    failed = next(record for record in records if record.outcome is None)
    rest = [record for record in records if record is not failed]
    search = Search(whole, rest, [failed.trial])
    assert search.next() == failed.trial
    assert len(rest) + 1 == search.planned
    search.finished(finish(failed.trial, 0.9))
    assert search.planned == len(rest) + 2
    repeat = search.next()
    assert repeat.id == "25pct-staged-001-seed1"
    search.finished(finish(repeat, 0.9))
    assert search.next() == Status.FINISHED
