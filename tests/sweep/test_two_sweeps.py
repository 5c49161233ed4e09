"""A sweep that starts from another one on the same storage, and reuses its trainings. Real sweeps on real Ray."""

import shutil

from explorer import SearchSpace, Sweep
from explorer.ledger import Ledger, OtherTrial
from explorer.ledger.status import sweep_status
from explorer.report.loaded_sweep import LoadedSweep
from explorer.report.notices import notices
from tests.conftest import RAY_SWEEP_MARKS, quiet, with_search

pytestmark = RAY_SWEEP_MARKS


def accuracies(ledger: Ledger) -> dict[str, tuple[float, float]]:
    return {r.trial.id: (r.outcome.validation, r.outcome.test) for r in ledger.records()}


def test_a_second_sweep_starts_from_the_first_and_trains_nothing_twice(local_ray, space_file, tmp_path):
    space = with_search(SearchSpace.load(space_file), repeat=1, repeat_seeds=1)
    first = Sweep(space, tmp_path, name="A", parallel_trials=1, console=quiet()).run()
    console = quiet()
    warm = with_search(space, **{"from": ["A"]})
    second = Sweep(warm, tmp_path, name="B", parallel_trials=1, console=console).run()
    printed = console.file.getvalue()
    records = second.ledger.records()
    starts = [record for record in records if record.trial.from_sweep and record.trial.phase == "search"]
    assert [(str(record.trial.budget), record.trial.from_sweep.sweep) for record in starts] == [("25%", "A"), ("50%", "A")]
    for record in starts:  # the same task, seed, learning rate and batch size: A's own result
        assert record.reused_from == record.trial.from_sweep
    reused = [record for record in records if record.reused_from]
    assert f"{len(reused)} trials reused from sweep A: the same trainings were finished there" in printed
    assert printed.count("search.from: A: ") == 2
    assert printed.count("(reused: ") == len(reused)
    of_first = {record.trial.id: record for record in first.ledger.records()}
    for record in reused:
        original = of_first[record.reused_from.trial]
        assert record.outcome.test == original.outcome.test
        assert (record.plan, record.trial.seed) == (original.plan, original.trial.seed)
        assert record.outcome.executed_cost == 0 < record.outcome.planned_cost == original.outcome.planned_cost
    status = sweep_status(second.ledger)
    assert status.reused == {"A": len(reused)}
    assert status.warm_starts == {"A": 2}
    trained = [record for record in records if record.was_trained]
    assert abs(status.spent_full_trainings - sum(record.outcome.executed_cost for record in trained)) < 1e-9
    loaded = LoadedSweep.read(second.ledger)
    assert f"with {len(reused)} trials reused from other sweeps" in loaded.data.summary
    said = notices(loaded.header, loaded.all_trials)
    assert f"{len(reused)} of {len(records)} trials have results of other sweeps, " in said[0]

    # Without reuse, the same trials end in the same bits: what was copied is what training gives.
    fresh = Sweep(warm, tmp_path, name="C", reuse=False, parallel_trials=1, console=quiet()).run()
    assert not any(record.reused_from for record in fresh.ledger.records())
    assert accuracies(fresh.ledger) == accuracies(second.ledger)

    # The first sweep may go: what was taken from it is kept, and the second one is extended.
    shutil.rmtree(tmp_path / "A")
    shutil.rmtree(tmp_path / "C")
    more = Sweep(warm, tmp_path, name="B", trials=3, parallel_trials=1, console=quiet()).run()
    assert set(accuracies(second.ledger)) > {record.trial.id for record in records}
    assert [record for record in more.ledger.records() if record in records] == records
    later = [record.trial for record in more.ledger.records() if record not in records]
    assert not [trial for trial in later if trial.from_sweep and trial.phase == "search"]
    assert starts[0].reused_from == OtherTrial(sweep="A", trial=starts[0].trial.from_sweep.trial)
