"""A sweep that is resumed for a smaller budget than it was started for, on real Ray."""

from pathlib import Path

import pytest

from explorer import SearchSpace, Sweep
from explorer.ledger import Record
from tests.conftest import RAY_SWEEP_MARKS, quiet

pytestmark = [*RAY_SWEEP_MARKS, pytest.mark.nightly]


def test_trials_above_the_goal_wait_and_do_not_count(local_ray, space_file, tmp_path):
    space, storage = SearchSpace.load(space_file), tmp_path / "sweeps"
    first = Sweep(space, storage, console=quiet()).run()
    records = {record.trial.id: record for record in first.ledger.records()}
    cheap = [name for name in records if name.startswith("25pct")]
    ledger = Path(first.location, "ledger")
    interrupted, lost, missing = "50pct-staged-000", "50pct-staged-001", "25pct-baseline-000"
    for name in (interrupted, lost, missing):
        (ledger / f"{name}.json").unlink()
    trained = records[lost].model_dump(mode="json")
    unread = {"status": "failed", "failure": "lost", "reason": "the worker was lost", "outcome": None}
    first.ledger.append(Record.model_validate(trained | unread))

    # As many records as trials are wanted at 25 %, and yet one of those is missing.
    console = quiet()
    Sweep(space, storage, goal="25%", retry="none", console=console).run()
    assert f"resuming: {len(cheap) - 1} of {len(cheap)} trials are in the ledger" in console.file.getvalue()
    again = {record.trial.id: record for record in first.ledger.records()}
    assert again[missing].outcome.validation == records[missing].outcome.validation
    assert interrupted not in again

    # With a limit, what was spent above the goal counts: the lost trial at most its budget.
    console = quiet()
    limited = Sweep(space, storage, goal="25%", spend="40 trainings", retry="none", console=console)
    spending = limited._spending(limited._records(), None)
    executed = sum(record.outcome.executed_cost for record in again.values() if record.outcome)
    assert executed + 0.25 < spending.spent <= executed + 0.5

    # Without the goal, it is trained.
    Sweep(space, storage, retry="none", console=quiet()).run()
    assert interrupted in {record.trial.id for record in first.ledger.records()}
