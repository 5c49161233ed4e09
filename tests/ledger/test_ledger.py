import json
from pathlib import Path

import pytest

from explorer import InvalidInput, Rates, Schedule
from explorer.ledger import Ledger, Outcome, Record, StageOutcome, SweepHeader, Trial, find_sweep
from explorer.spec.inventory import Inventory, SplitInventory


def make_record(
    id="25pct-staged-000",
    *,
    kind="staged",
    budget="25%",
    validation=0.9,
    test=0.88,
    seed=0,
    repeat_of=None,
    finished=1.0,
    **changes,
) -> Record:
    fraction = float(budget.rstrip("%")) / 100
    stage = StageOutcome(rates=Rates(), steps=10, step_flops=100, flops=1000, seconds=1.0, mean_loss=0.5)
    outcome = Outcome(
        validation_accuracy=validation,
        test_accuracy=test,
        planned_flops=int(fraction * 100_000),
        executed_flops=int(fraction * 100_000),
        full_flops=100_000,
        steps=10,
        train_seconds=1.0,
        evaluation_seconds=0.1,
        stages=(stage,),
    )
    trial = Trial(
        id=id,
        phase="repeat" if repeat_of else "search",
        kind=kind,
        budget=budget,
        schedule=Schedule.full_model(),
        learning_rate=1e-3,
        batch_size=16,
        seed=seed,
        repeat_of=repeat_of,
    )
    return Record(
        **{
            "trial": trial,
            "status": "completed",
            "outcome": outcome,
            "started": 0.0,
            "finished": finished,
            "worker": "w",
            "device": "cpu",
            **changes,
        }
    )


def make_inventory(test_images=100) -> Inventory:
    """Two classes, 1,000 training and 50 validation images."""
    counts = {"train": 1000, "validation": 50, "test": test_images}
    splits = {name: SplitInventory(name=name, images=n, per_class=(n // 2, n - n // 2)) for name, n in counts.items()}
    return Inventory(source="digits", class_names=("cat", "dog"), **splits)


def make_header(name="s") -> SweepHeader:
    space = {
        "name": name,
        "model": {"name": "vit"},
        "data": {"name": "digits"},
        "recipe": {"epochs": 1, "batch_size": 16, "learning_rate": 1e-3},
        "budgets": ["25%"],
        "search": {
            "trials": 3,
            "baseline_trials": 1,
            "rates": {"heads": [0.5, 1]},
            "learning_rate": [1e-4, 1e-2],
            "batch_size": [16],
        },
    }
    return SweepHeader(name=name, space=space, created=0.0, versions={"torch": "2.15.0"}, hardware="2 CPU cores")


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    ledger = Ledger(tmp_path / "s")
    ledger.create(make_header())
    return ledger


def test_what_is_appended_is_read_back_in_order_of_finishing(ledger):
    late, early = make_record("b", finished=2.0), make_record("a", finished=1.0)
    ledger.append(late)
    ledger.append(early)
    assert Ledger(ledger.location).records() == [early, late]
    assert ledger.header() == make_header()


def test_records_are_immutable(ledger):
    ledger.append(make_record(test=0.8))
    ledger.append(make_record(test=0.1))
    assert [r.outcome.test_accuracy for r in ledger.records()] == [0.8]


def test_a_half_written_file_is_not_a_record(ledger):
    ledger.append(make_record())
    Path(ledger.location, "ledger", "other.json.123.tmp").write_text('{"version": 1')
    assert len(ledger.records()) == 1


def test_object_stores_hold_ledgers_too():
    ledger = Ledger("memory://bucket/sweep")
    ledger.create(make_header())
    ledger.append(make_record())
    assert Ledger("memory://bucket/sweep").records() == [make_record()]


OLDER = r"the ledger was written by an older release, and this release reads version 2; start a new sweep"


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (1, f"version: 1: {OLDER}"),
        (None, f"version: None: {OLDER}"),
        (7, r"version: 7: the ledger was written by a newer release, and this release reads version 2; install"),
    ],
)
@pytest.mark.parametrize("name", ["sweep.json", "ledger/25pct-staged-000.json", "started/25pct-staged-000.json"])
def test_a_ledger_of_another_release_is_refused_in_one_line(ledger, name, version, message):
    ledger.start(make_record().trial)
    if name != "started/25pct-staged-000.json":
        ledger.append(make_record())
    path = Path(ledger.location, name)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": version, "unknown": {"deep": [1]}}))
    with pytest.raises(InvalidInput, match=message) as caught:
        ledger.header(), ledger.unfinished(ledger.records())
    assert "\n" not in str(caught.value)


def test_the_header_of_the_first_release_is_refused_in_one_line(ledger):
    """As it was written: a space without `task`, budgets as text, settings that have other names now."""
    header = {"version": 1, "name": "s", "space": {"name": "s", "search": {"climb": 5}}, "created": 0.0, "versions": {}}
    Path(ledger.location, "sweep.json").write_text(json.dumps(header))
    with pytest.raises(InvalidInput, match=OLDER):
        ledger.header()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"colour": "red"}, r"sweep\.json: colour: 'colour': unknown key; .*written by another release"),
        ({"hardware": 3}, r"sweep\.json: hardware: 3: .*written by another release"),
    ],
)
def test_a_header_with_what_this_release_does_not_know_is_refused_in_one_line(ledger, content, message):
    path = Path(ledger.location, "sweep.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | content))
    with pytest.raises(InvalidInput, match=message) as caught:
        ledger.header()
    assert "\n" not in str(caught.value)


def test_a_header_that_is_no_mapping_is_refused(ledger):
    Path(ledger.location, "sweep.json").write_text("[1, 2]")
    with pytest.raises(InvalidInput, match="version: None"):
        ledger.header()


def test_a_damaged_record_is_named(ledger):
    ledger.append(make_record())
    Path(ledger.location, "ledger", "25pct-staged-000.json").write_text("{")
    with pytest.raises(InvalidInput, match=r"25pct-staged-000\.json"):
        ledger.records()


def test_sweeps_are_found_by_folder_and_by_name(ledger, tmp_path):
    assert find_sweep(ledger.location).location == ledger.location
    assert find_sweep("s", str(tmp_path)).header() == make_header()
    with pytest.raises(InvalidInput, match="no sweep there"):
        find_sweep("other", str(tmp_path))


def test_an_unknown_protocol_is_refused():
    with pytest.raises(InvalidInput, match="storage"):
        Ledger("nosuch://bucket/sweep")


def test_storage_that_cannot_be_written_is_refused_in_one_line():
    with pytest.raises(InvalidInput, match="cannot be written"):
        Ledger("/proc/explorer-sweep").create(make_header())


def test_a_uri_whose_package_is_missing_says_what_to_install():
    with pytest.raises(InvalidInput, match=r"storage: 's3://bucket/sweeps/x': .*s3fs"):
        Ledger("s3://bucket/sweeps/x")


def test_started_trials_are_unfinished_until_they_have_a_record(tmp_path):
    ledger = Ledger(tmp_path / "s")
    records = [make_record("a"), make_record("b")]
    for record in records:
        ledger.start(record.trial)
    ledger.append(records[0])
    assert ledger.unfinished(ledger.records()) == [records[1].trial]


def test_a_failed_record_that_is_set_aside_is_kept_and_its_trial_is_unfinished_again(ledger):
    failed = make_record(status="failed", outcome=None, failure="memory", reason="out of memory")
    ledger.append(failed)
    ledger.set_aside(failed)
    assert (ledger.records(), ledger.superseded()) == ([], [failed])
    assert ledger.unfinished([]) == [failed.trial]
    again = failed.model_copy(update={"finished": 2.0})
    ledger.append(again)
    ledger.set_aside(again)
    ledger.append(again)  # as after a crash between copying and removing
    ledger.set_aside(again)
    assert (ledger.records(), ledger.superseded()) == ([], [failed, again])
    assert sorted(path.name for path in Path(ledger.location, "superseded").iterdir()) == [
        "25pct-staged-000.1.json",
        "25pct-staged-000.2.json",
    ]
