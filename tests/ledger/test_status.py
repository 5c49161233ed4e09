"""How a sweep stands, from its storage alone; expected values by hand."""

import json
import os
import socket
import sys

import pytest

from explorer.cli import main
from explorer.cli.status import duration
from explorer.frontier import trials_frame
from explorer.ledger import Ledger, SweepHeader
from explorer.ledger.driver_note import DriverNote, RunningTrial
from explorer.ledger.status import sweep_status
from explorer.report.notices import notices
from tests.ledger.test_ledger import make_header, make_record

NOW = 10_000.0


@pytest.fixture
def ledger(tmp_path):
    """A sweep of ten trials: two are completed, three failed, one runs, and one waits for a worker."""
    ledger = Ledger(tmp_path / "s")
    ledger.create(make_header())
    # 10 s of training and 2 s of overhead each, 0.1 s of evaluation, and a quarter of a full training.
    for number, kind in enumerate(("staged", "baseline")):
        record = make_record(f"25pct-{kind}-00{number}", kind=kind, started=1000.0, finished=1012.0)
        changes = {"train_seconds": 10.0, "executed_seconds": 10.5}
        ledger.append(record.model_copy(update={"outcome": record.outcome.model_copy(update=changes)}))
    failed = {"outcome": None, "status": "failed", "started": 1000.0, "finished": 1004.0}
    for number, step in ((2, 7), (3, 12)):
        reason = f"diverged: the loss is not finite by step {step} (stage 1)"
        ledger.append(make_record(f"25pct-staged-00{number}", reason=reason, failure="diverged", **failed))
    ledger.append(make_record("25pct-staged-004", reason="out of memory: 3 GB", failure="memory", **failed))
    for number in (5, 6):
        ledger.start(make_record(f"25pct-staged-00{number}").trial)
    return ledger


def note_of(ledger, **changes):
    running = {"25pct-staged-005": RunningTrial(since=NOW - 20, worker="node-1:7", segments=3, planned_segments=10, cost=0.08)}
    running["25pct-staged-000"] = RunningTrial(since=900.0)  # it has ended since the note was written
    note = {
        "host": "node-1",
        "pid": 5,
        "started": NOW - 3600,
        "updated": NOW - 4,
        "planned": 10,
        "places": 2,
        "running": running,
    }
    return DriverNote(**{**note, "space": ledger.header().space, **changes})


@pytest.mark.parametrize(
    ("changes", "left", "unaffordable"),
    [
        ({"ending": "finished", "spend": "2 trainings"}, 0, 5),
        ({"ending": "finished"}, 5, 0),  # without a limit, a finished sweep has all its trials
        ({"ending": "interrupted", "spend": "2 trainings"}, 5, 0),
    ],
)
def test_nothing_is_left_of_a_sweep_that_finished_within_its_limit(ledger, capsys, monkeypatch, changes, left, unaffordable):
    """Ten trials were planned, and five have ended: for the repeats of the best, the limit had no room."""
    note_of(ledger, **changes).write(ledger.location)
    status = sweep_status(ledger, NOW)
    assert (status.planned, status.left_trials, status.unaffordable_trials) == (10, left, unaffordable)
    assert bool(status.left_device_seconds) == bool(left)
    monkeypatch.setattr(sys, "argv", ["explorer", "status", ledger.location])
    with pytest.raises(SystemExit):
        main()
    said = "nothing: 5 repeats of the best trials do not fit into the limit" in " ".join(capsys.readouterr().out.split())
    assert said == bool(unaffordable)


def test_a_running_sweep(ledger):
    note_of(ledger).write(ledger.location)
    status = sweep_status(ledger, NOW)
    assert (status.driver.state, status.driver.host, status.driver.last_sign) == ("running", "node-1", NOW - 4)
    assert (status.planned, status.completed, status.failed, status.left_trials) == (10, 2, 3, 5)
    (running,) = status.running
    assert (running.id, running.worker, running.since) == ("25pct-staged-005", "node-1:7", NOW - 20)
    assert (running.segments, running.planned_segments, running.cost) == (3, 10, 0.08)
    assert status.waiting == ("25pct-staged-006",)
    assert [(group.failure, group.trials) for group in status.failures] == [
        ("diverged", ("25pct-staged-002", "25pct-staged-003")),
        ("memory", ("25pct-staged-004",)),
    ]
    assert status.failures[0].reason == "diverged: the loss is not finite by step 7 (stage 1)"
    assert status.spent_full_trainings == pytest.approx(0.5)
    assert status.spent_device_seconds == pytest.approx(2 * (10.5 + 0.1))
    assert (status.failed_device_seconds, status.running_device_seconds) == (12.0, 20.0)
    # The space has 3 staged and 1 baseline trials, and all of them have a record: no training is left, but the overhead of
    # five trials is, 2 s each; half of it by each of two workers. The running trial has had its time.
    assert status.left_device_seconds == 0.0
    assert sweep_status(ledger, NOW - 18).left_device_seconds == pytest.approx(10 - 2)
    assert sweep_status(ledger, NOW - 18).left_seconds == pytest.approx(4)


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"updated": NOW - 61}, "silent"),
        ({"host": socket.gethostname(), "pid": 2**22 + 1}, "silent"),  # no such process on this machine
        ({"host": socket.gethostname(), "pid": os.getpid()}, "running"),
        ({"ending": "finished", "updated": NOW - 9000}, "finished"),
        ({"ending": "interrupted"}, "interrupted"),
        ({"ending": "failed", "reason": "InvalidInput: storage: full"}, "failed"),
    ],
)
def test_the_state_of_the_driver(ledger, changes, state):
    note_of(ledger, **changes).write(ledger.location)
    status = sweep_status(ledger, NOW)
    assert status.driver.state == state
    if state != "running":
        assert (status.running, status.places, status.left_seconds) == ((), None, None)
        assert status.waiting == ("25pct-staged-005", "25pct-staged-006")


def test_trials_above_the_budgets_of_the_last_run_are_not_counted_with_the_others(ledger):
    ledger.append(make_record("50pct-staged-000", budget="50%", started=1000.0, finished=1012.0))
    lost = {"outcome": None, "status": "failed", "failure": "lost", "reason": "the worker was lost"}
    ledger.append(make_record("50pct-staged-001", budget="50%", started=1000.0, finished=1003.0, **lost))
    ledger.start(make_record("50pct-staged-002", budget="50%").trial)
    note_of(ledger).write(ledger.location)  # as after `--for 25%`
    status = sweep_status(ledger, NOW)
    assert (status.completed, status.failed, status.left_trials, status.above_goal) == (2, 3, 5, 3)
    assert status.waiting == ("25pct-staged-006",)
    assert len(status.failures) == 2
    assert status.spent_full_trainings == pytest.approx(0.5 + 0.5)
    assert status.failed_device_seconds == 12.0 + 3.0
    assert status.left_device_seconds == 0.0


def test_each_process_of_a_trial_has_a_device(ledger, tmp_path):
    header = ledger.header()
    content = header.space.model_dump(mode="json") | {"resources": {"processes": 4}}
    wide = Ledger(tmp_path / "wide")
    wide.create(header.model_copy(update={"space": type(header.space).model_validate(content)}))
    for record in ledger.records():
        changes = {"processes": 4} if record.outcome else {}
        wide.append(record.model_copy(update={"outcome": record.outcome and record.outcome.model_copy(update=changes)}))
    for trial in ledger.unfinished(ledger.records()):
        wide.start(trial)
    times = []
    for each in (ledger, wide):
        note_of(each).write(each.location)
        times.append(sweep_status(each, NOW - 18))
    of_one, of_four = (
        (s.spent_device_seconds, s.failed_device_seconds, s.running_device_seconds, s.left_device_seconds) for s in times
    )
    assert of_four == pytest.approx([4 * seconds for seconds in of_one])
    assert times[1].left_seconds == times[0].left_seconds


def test_a_sweep_that_is_complete_up_to_its_goal(tmp_path):
    """Without a limit, a goal leaves out the budgets above it: 2 x (3 + 1) trials of the 3 x (3 + 1) of the whole space."""
    content = make_header().model_dump(mode="json")
    content["space"] |= {"budgets": ["5%", "25%", "100%"]}
    content["space"]["search"] |= {"goal": "25%", "trials": [3, 3, 3], "baseline_trials": [1, 1, 1]}
    ledger = Ledger(tmp_path / "s")
    ledger.create(SweepHeader.model_validate(content))
    for budget in ("5%", "25%"):
        for number, kind in enumerate(("staged", "staged", "staged", "baseline")):
            ledger.append(make_record(f"{budget}-{number}", kind=kind, budget=budget))
    ledger.append(make_record("100%-0", budget="100%"))  # of a run without the goal
    status = sweep_status(ledger, NOW)  # the driver's note is lost
    assert (status.planned, status.completed, status.left_trials, status.above_goal) == (8, 8, 0, 1)
    header = ledger.header()
    trials = trials_frame(ledger.records(), header)
    assert notices(header, trials) == []
    (incomplete,) = notices(header, trials[trials.id != "5%-0"])  # the one above does not stand for it
    assert incomplete.startswith("Not complete: 7 of 8 planned trials have ended")


def test_a_report_says_that_a_sweep_within_a_limit_is_not_complete(ledger):
    """How many trials the limit allows is in the driver's note alone. Without it, nothing is said."""
    content = make_header().model_dump(mode="json")
    content["space"]["search"] |= {"spend": "1 trainings"}
    header = SweepHeader.model_validate(content)
    trials = trials_frame(ledger.records(), header)
    failures = notices(header, trials)
    assert not any("Not complete" in line for line in failures)
    incomplete, *others = notices(header, trials, note=note_of(ledger))
    assert incomplete.startswith("Not complete: 5 of 10 planned trials have ended")
    assert others == failures
    assert notices(header, trials, note=note_of(ledger, planned=5)) == failures


@pytest.mark.parametrize("content", [None, "{", "[]", '{"host": 1}'])
def test_a_sweep_without_a_readable_note(ledger, tmp_path, content):
    if content is not None:
        (tmp_path / "s" / "status.json").write_text(content)
    status = sweep_status(ledger, NOW)
    assert (status.driver.state, status.planned, status.completed) == ("unknown", 4, 2)


def test_the_command_prints_it_as_text_and_as_json(ledger, capsys, monkeypatch):
    def printed_by(*arguments):
        monkeypatch.setattr(sys, "argv", ["explorer", "status", ledger.location, *arguments])
        with pytest.raises(SystemExit, match="0"):
            main()
        return capsys.readouterr().out

    note_of(ledger, ending="interrupted").write(ledger.location)
    ledger.start(make_record("50pct-staged-000", budget="50%").trial)
    printed = printed_by()
    assert "1 more at budgets above those of the last run, which wait for a run of those" in printed
    assert "s: interrupted " in printed
    assert "finished  5 of 10 trials: 2 completed, 3 failed" in printed
    assert "2 x diverged: the loss is not finite by step 7 (stage 1) (25pct-staged-002, 25pct-staged-003)" in printed
    assert "waiting   2 trials to be resumed (25pct-staged-005, 25pct-staged-006)" in printed
    assert (
        "spent     0.50 full trainings in completed trials, 0.01 device-hours (0.00 device-hours in failed trials)" in printed
    )
    assert "left      5 trials, about 0.00 device-hours; no driver works on them" in printed
    content = json.loads(printed_by("--json"))
    assert (content["completed"], content["driver"]["state"], content["left_seconds"]) == (2, "interrupted", None)
    assert content["failures"][1]["trials"] == ["25pct-staged-004"]


def test_time_spans():
    assert [duration(seconds) for seconds in (4.4, 184, 7380, 2 * 86_400 + 3 * 3600)] == [
        "4 s",
        "3 min 4 s",
        "2 h 3 min",
        "2 d 3 h",
    ]
