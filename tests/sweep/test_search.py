import time

from explorer import SearchSpace
from explorer.ledger import Record, Trial
from explorer.sweep.search import Search
from tests.test_ledger import make_record


def space(space_file, **search) -> SearchSpace:
    loaded = SearchSpace.load(space_file)
    return loaded.model_copy(update={"search": loaded.search.model_copy(update=search)})


def finish(trial: Trial, accuracy: float | None) -> Record:
    record = make_record(finished=time.time())
    if accuracy is None:
        return record.model_copy(update={"trial": trial, "status": "failed", "reason": "x", "outcome": None})
    outcome = record.outcome.model_copy(update={"validation_accuracy": accuracy})
    return record.model_copy(update={"trial": trial, "outcome": outcome})


def run(search: Search, accuracy=lambda trial: 0.5, limit=1000) -> list[Record]:
    records = []
    while len(records) < limit and (trial := search.next()) not in ("done", "wait"):
        records.append(finish(trial, accuracy(trial)))
        search.finished(records[-1])
    return records


def test_every_budget_gets_its_trials_from_the_cheapest_up(space_file):
    search = Search(space(space_file, trials=3, baseline_trials=2))
    records = run(search)
    assert search.next() == "done"
    assert len(records) == search.planned == 10
    kinds = [(r.trial.budget, r.trial.kind) for r in records]
    assert kinds == ([("25%", "staged")] * 3 + [("25%", "baseline")] * 2 + [("50%", "staged")] * 3 + [("50%", "baseline")] * 2)
    assert len({r.trial.id for r in records}) == 10
    assert {r.trial.seed for r in records} == {0}


def test_the_best_of_a_budget_is_tried_first_at_the_next(space_file):
    search = Search(space(space_file, trials=4))
    records = run(search, accuracy=lambda trial: 0.9 if trial.id == "25pct-staged-002" else 0.5)
    by_id = {r.trial.id: r.trial for r in records}
    assert by_id["50pct-staged-000"].parameters == by_id["25pct-staged-002"].parameters
    assert by_id["50pct-staged-000"].schedule == by_id["25pct-staged-002"].schedule


def test_the_best_are_confirmed_with_fresh_seeds(space_file):
    search = Search(space(space_file, trials=3, confirm=1, confirm_seeds=2))
    records = run(search, accuracy=lambda trial: 0.9 if trial.id == "25pct-staged-001" else 0.5)
    assert len(records) == search.planned == 8 + 8
    confirmed = [
        r.trial for r in records if r.trial.phase == "confirm" and r.trial.budget == "25%" and r.trial.kind == "staged"
    ]
    assert [(t.id, t.confirms, t.seed) for t in confirmed] == [
        ("25pct-staged-001-seed1", "25pct-staged-001", 1),
        ("25pct-staged-001-seed2", "25pct-staged-001", 2),
    ]
    parent = next(r.trial for r in records if r.trial.id == "25pct-staged-001")
    assert confirmed[0].schedule == parent.schedule
    assert confirmed[0].learning_rate == parent.learning_rate


def test_confirmation_waits_for_running_trials_but_never_when_nothing_runs(space_file):
    search = Search(space(space_file, trials=1, confirm=1, confirm_seeds=1))
    running = [search.next() for _ in range(4)]
    assert [t.kind for t in running] == ["staged", "baseline"] * 2
    assert search.next() == "wait"
    search.finished(finish(running[0], 0.5))
    assert search.next().id == "25pct-staged-000-seed1"
    assert search.next() == "wait"
    for trial in running[1:]:
        search.finished(finish(trial, None))  # all failed: nothing to confirm
    assert search.next() == "done"


def test_a_stopped_search_goes_on_from_the_records(space_file):
    whole = space(space_file, trials=3, confirm=1, confirm_seeds=2)
    first = run(Search(whole), limit=7)
    search = Search(whole, first)
    rest = run(search)
    assert len(first) + len(rest) == search.planned == 16
    ids = [r.trial.id for r in first + rest]
    assert len(set(ids)) == len(ids)
    assert len(Search(whole, first + rest).rungs[0].study.trials) == 3
    assert Search(whole, first + rest).next() == "done"


def test_more_trials_extend_and_old_results_count(space_file):
    first = run(Search(space(space_file, trials=2)))
    search = Search(space(space_file, trials=5), first)
    extension = run(search)
    assert len(extension) == 6
    assert {r.trial.kind for r in extension} == {"staged"}
    assert [len(rung.study.trials) for rung in search.rungs] == [5, 1, 5, 1]


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
