import json
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

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
        validation=validation,
        test=test,
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
    assert [r.outcome.test for r in ledger.records()] == [0.8]


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


@pytest.mark.parametrize("content", ["[1, 2]", "{}", "", '{"version": 2, "name'])
def test_a_header_that_is_none_is_refused_in_one_line(ledger, content):
    Path(ledger.location, "sweep.json").write_text(content)
    with pytest.raises(InvalidInput, match=r"sweep\.json: 'unreadable': .*; start a new sweep with another --name"):
        ledger.header()


def test_copies_foreign_files_and_half_written_records_are_passed_over_and_counted(ledger):
    """What file managers, backups, macOS, NFS and killed processes leave, among two records."""
    for id in ("25pct-staged-000", "25pct-staged-001", "25pct-staged-002", "25pct-staged-003", "25pct-staged-004"):
        ledger.start(make_record(id).trial)
    records = [make_record("25pct-staged-000"), make_record("25pct-staged-001", finished=2.0)]
    for record in records:
        ledger.append(record)
    folder = Path(ledger.location, "ledger")
    whole = (folder / "25pct-staged-000.json").read_text()
    for copy in ("25pct-staged-000 (1).json", "25pct-staged-000 copy.json", "25pct-baseline-000.json"):
        (folder / copy).write_text(whole)
    for foreign in ("25pct-staged-000.json.bak", "._25pct-staged-000.json", ".nfs0000001", "notes.txt"):
        (folder / foreign).write_text(whole)
    (folder / "settings.json").write_text('{"theme": "dark"}')
    (folder / "25pct-staged-002.json").write_text("")
    (folder / "25pct-staged-003.json").write_text(whole[: len(whole) // 2])
    (folder / "25pct-staged-004.json").write_text(whole.replace("staged-000", "staged-004").replace("0.9", "90.0"))
    (folder / "25pct-staged-005.json.0f.tmp").write_text("{")  # what a killed process was writing: nobody asked for it
    (folder / "subfolder.json").mkdir()
    Path(ledger.location, "started", "25pct-staged-002 (1).json").write_text(
        Path(ledger.location, "started", "25pct-staged-002.json").read_text()
    )

    assert ledger.records() == records
    unfinished = ledger.unfinished(records)
    assert [trial.id[-3:] for trial in unfinished] == ["002", "003", "004"]  # each once, and each is run again
    assert ledger.passed_over == {
        "copies under another name": 3 + 1,
        "not written by a sweep": 4 + 1,
        "damaged or half-written": 2,
        "invalid at outcome.validation": 1,
    }
    assert ledger.warning == (
        f"12 files of {ledger.location} were passed over (4 copies under another name, 2 damaged or half-written, "
        "1 invalid at outcome.validation, 5 not written by a sweep), the first is ledger/._25pct-staged-000.json"
    )
    for trial in unfinished:  # run again
        ledger.append(make_record(trial.id, finished=3.0))
    assert len(ledger.records()) == 5
    assert sum(ledger.passed_over.values()) == 9
    for path in folder.iterdir():
        if path.is_file() and path.name.removesuffix(".json") not in {record.trial.id for record in ledger.records()}:
            path.unlink()
    Path(ledger.location, "started", "25pct-staged-002 (1).json").unlink()
    assert len(ledger.records()) == 5
    assert ledger.unfinished(ledger.records()) == []
    assert (ledger.passed_over, ledger.warning) == ({}, None)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("validation", 1.5),
        ("validation", -0.1),
        ("test", float("nan")),
        ("planned_flops", 0),
        ("executed_flops", -1),
        ("full_flops", 0),
        ("steps", -1),
        ("train_seconds", -0.5),
        ("evaluation_seconds", float("inf")),
    ],
)
def test_results_outside_their_bounds_are_no_results(field, value):
    outcome = make_record().outcome.model_dump() | {field: value}
    with pytest.raises(ValidationError, match=field):
        Outcome.model_validate(outcome)


def test_a_trial_does_not_finish_before_it_starts():
    with pytest.raises(ValidationError, match="must not be before started"):
        make_record(started=2.0, finished=1.0)


KILLED_WHILE_WRITING = """
import sys
from explorer.ledger import Ledger
from tests.ledger.test_ledger import make_record
ledger = Ledger(sys.argv[1])
number = 0
while True:
    ledger.append(make_record(f"trial-{number}"))
    print(number, flush=True)
    number += 1
"""


def test_a_writer_killed_at_any_moment_leaves_whole_records_and_loses_none(ledger):
    """Killed again and again, each time after another number of microseconds."""
    for attempt in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", KILLED_WHILE_WRITING, ledger.location], stdout=subprocess.PIPE, text=True
        )
        reported = 0
        while reported < 20 * (attempt + 1):
            reported = int(writer.stdout.readline()) + 1
        writer.kill()
        reported += len(writer.communicate()[0].splitlines())
        ids = {record.trial.id for record in ledger.records()}
        assert {f"trial-{number}" for number in range(reported)} <= ids
        assert ledger.passed_over == {}


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
    with pytest.raises(InvalidInput, match=r"storage: 'gs://bucket/sweeps/x': .*gcsfs"):
        Ledger("gs://bucket/sweeps/x")


def test_started_trials_are_unfinished_until_they_have_a_record(tmp_path):
    ledger = Ledger(tmp_path / "s")
    records = [make_record("a"), make_record("b")]
    for record in records:
        ledger.start(record.trial)
    ledger.append(records[0])
    assert ledger.unfinished(ledger.records()) == [records[1].trial]


def test_a_completed_record_replaces_a_failed_one_of_a_worker_that_was_taken_for_dead(ledger):
    failed = make_record(status="failed", outcome=None, failure="memory", reason="out of memory")
    completed = make_record(finished=2.0)
    ledger.append(failed)
    ledger.append(failed.model_copy(update={"reason": "again"}))
    assert ledger.records() == [failed]
    ledger.append(completed)
    ledger.append(failed)
    assert ledger.records() == [completed]


def test_an_attempt_does_not_replace_another_one_because_a_file_is_damaged(ledger):
    attempts = [make_record(status="failed", outcome=None, failure="lost", reason="r", finished=float(n)) for n in (1, 2, 3)]
    for attempt in attempts[:2]:
        ledger.set_aside(attempt)
    Path(ledger.location, "superseded", "25pct-staged-000.1.json").write_text("{")
    ledger.set_aside(attempts[2])
    assert ledger.superseded() == attempts[1:]


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
