"""What a sweep checks and prepares before Ray starts."""

from pathlib import Path

import pytest

from explorer import InvalidInput, SearchSpace, Sweep
from explorer.ledger.driver_note import DriverNote, RunningTrial
from explorer.search.forecast import forecast, synthetic_record
from explorer.search.machines import this_machine
from explorer.search.proposer import Status
from explorer.search.search import Search
from explorer.search.trial_plan import compile_trial, full_training_plan
from explorer.sweep.lease import DriverLock
from explorer.sweep.loggers import TENSORBOARD, SweepLoggers
from explorer.sweep.searcher import SweepSearcher
from explorer.sweep.versions import check_versions, installed_versions
from explorer.training.task import Task
from tests.conftest import quiet
from tests.ledger.test_ledger import make_header, make_record
from tests.loggers.event_files import read_events

OPTIONS = {"patch_size": 2, "embed_dim": 32, "depth": 2, "num_heads": 4}


def test_a_name_that_is_no_folder_name_is_refused(space_file, tmp_path):
    with pytest.raises(InvalidInput, match=r"name: '\.\./evil'"):
        Sweep(SearchSpace.load(space_file), tmp_path, name="../evil")


@pytest.mark.parametrize("trials", [0, -1, (1, 2, 3), (1, -1), (0, 0)])
def test_a_number_of_trials_is_checked_like_that_of_a_file(space_file, tmp_path, trials):
    with pytest.raises(InvalidInput, match=r"trials"):
        Sweep(SearchSpace.load(space_file), tmp_path, trials=trials)


def test_a_number_of_trials_is_that_of_the_cheapest_budget(space_file, tmp_path):
    space = SearchSpace.load(space_file)
    assert Sweep(space, tmp_path, trials=8).space.trials_at(space.budgets[1], "staged") == 4
    assert Sweep(space, tmp_path, trials=(8, 7)).space.trials_at(space.budgets[1], "staged") == 7


@pytest.mark.parametrize(
    ("field", "before", "after"),
    [
        ("model.options.embed_dim", {"model": {"options": OPTIONS}}, {"model": {"options": {**OPTIONS, "embed_dim": 64}}}),
        ("model.options.qkv_bias", {"model": {"options": {**OPTIONS, "qkv_bias": False}}}, {"model": {"options": OPTIONS}}),
        ("model.options.qkv_bias", {"model": {"options": OPTIONS}}, {"model": {"options": {**OPTIONS, "qkv_bias": False}}}),
        ("search.grid", {}, {"search": {"grid": 20}}),
        ("budgets", {}, {"budgets": ["25%"]}),
    ],
)
def test_a_sweep_of_another_task_is_refused_whichever_side_has_the_setting(space_file, tmp_path, field, before, after):
    def changed(**sections):
        content = SearchSpace.load(space_file).model_dump()
        for name, new in sections.items():
            content[name] = {**content[name], **new} if isinstance(new, dict) else new
        return SearchSpace.model_validate(content)

    Sweep(changed(**before), tmp_path)._open()
    with pytest.raises(InvalidInput, match=rf"{field}: .*: the sweep at .* has .*; give this one another --name"):
        Sweep(changed(**after), tmp_path)._open()


def test_a_lost_augmentation_is_not_resumed(image_folder, space_file, tmp_path):
    def space(**transform):
        content = SearchSpace.load(space_file).model_dump()
        content["data"] = {"name": "folder", "root": str(image_folder), "image_size": 8}
        content["recipe"] |= {"batch_size": 16, "augmentation": {"transform": transform}}
        content["search"]["batch_size"] = [16]
        return SearchSpace.model_validate(content)

    Sweep(space(hflip=0.5, re_prob=0.25), tmp_path)._open()
    Sweep(space(re_prob=0.25, hflip=0.5), tmp_path)._open()
    for lost in ({"hflip": 0.5}, {}):
        with pytest.raises(InvalidInput, match=r"recipe\.augmentation\.transform"):
            Sweep(space(**lost), tmp_path)._open()


def test_trials_sampler_and_resources_may_change(space_file, tmp_path):
    space = SearchSpace.load(space_file)
    Sweep(space, tmp_path)._open()
    changed = space.with_search(trials=5, baseline_trials=2, sampler="random", promote=1, repeat=1)
    changed = SearchSpace.model_validate({**changed.model_dump(), "resources": {"cpus": 2}, "store_gb": 1})
    Sweep(changed, tmp_path)._open()


def test_other_versions_are_mixed_only_when_asked_for(space_file, tmp_path):
    space = SearchSpace.load(space_file)
    header = make_header().model_copy(update={"space": space, "versions": {"torch": "1.0", "timm": "0.1"}})
    with pytest.raises(InvalidInput, match=r"version of torch: '.*': the sweep was started with 1\.0, .*--mix-versions"):
        check_versions(header, mix=False)
    check_versions(header, mix=True)
    check_versions(header.model_copy(update={"versions": installed_versions()}), mix=False)


def test_a_driver_that_lost_its_lock_starts_no_more_trials(space_file):
    lock = DriverLock("s3://bucket/sweep")

    class Never:
        def next(self):
            raise AssertionError("asked for a trial")

    searcher = SweepSearcher(Never(), None, print, stop_reason=lambda: lock.lost, attempts=None, error_of=str, limit=int)
    lock.lose("another driver has taken over")
    assert searcher.suggest("1") == SweepSearcher.FINISHED


def test_a_sweep_in_the_ledger_needs_no_ray(space_file, tmp_path):
    from tests.ledger.test_ledger import make_header, make_record

    space = SearchSpace.load(space_file).with_search(trials=1)
    console = quiet()
    sweep = Sweep(space, tmp_path, console=console)
    sweep.ledger.create(make_header("tiny").model_copy(update={"space": space}))
    search = Search(space)
    while not isinstance(trial := search.next(), Status):
        record = make_record(trial.id).model_copy(update={"trial": trial})
        search.finished(record)
        sweep.ledger.append(record)
    sweep.run()
    assert "all 4 trials are in the ledger" in console.file.getvalue()


@pytest.mark.parametrize(("given", "amount"), [({"trials": 4}, 9), ({"spend": "4 trainings"}, None)])
def test_the_forecast_of_a_sweep_that_has_begun_is_of_what_is_left(space_file, tmp_path, given, amount):
    """A dry run of a sweep with more trials, or a larger limit, forecast the whole sweep, as if nothing were there."""
    sweep = Sweep(
        SearchSpace.load(space_file).with_search(plan="limited" if "spend" in given else "exhaustive", **given), tmp_path
    )
    inventory = Task(sweep.space.task).data.inventory
    assert sweep.begun(inventory, None) is None
    assert not (tmp_path / "tiny").exists()
    from_start = forecast(sweep.space, this_machine(sweep.space))
    assert amount in (None, from_start.trials)
    sweep._open()
    search, full = sweep._search([], None), full_training_plan(sweep.space, None)
    for _ in range(5):
        trial = search.next()
        record = synthetic_record(trial, compile_trial(trial, sweep.space, None)[1], 0.5, full=full)
        search.finished(record)
        sweep.ledger.append(record)
    failed = make_record("lost").model_copy(
        update={"trial": search.next(), "status": "failed", "outcome": None, "failure": "lost"}
    )
    sweep.ledger.append(failed.model_copy(update={"reason": "the node was lost"}))
    begun = sweep.begun(inventory, None)
    assert len(begun.records) == 5  # the failed trial is tried again
    left = forecast(sweep.space, this_machine(sweep.space), begun=begun)
    if amount:
        assert left.trials == amount - 5
        assert "4 trials besides 5 in the ledger" in left.summary(sweep.space)
    else:
        assert left.planned < from_start.planned
        assert from_start.spending.spent == pytest.approx(left.spending.spent, rel=0.2)
        assert left.spending_summary().startswith("in the end: ")
    content = sweep.space.model_dump()
    content["recipe"]["epochs"] += 1
    other = Sweep(SearchSpace.model_validate(content), tmp_path)
    with pytest.raises(InvalidInput, match=r"recipe\.epochs: .* give this one another --name"):
        other.begun(inventory, None)


@pytest.mark.parametrize(("has_note", "counted"), [(True, 1), (False, 2)])
def test_a_trial_that_had_a_worker_is_charged_once_however_often_the_sweep_resumes(
    space_file, tmp_path, monkeypatch, has_note, counted
):
    """Two trials were proposed, of which one had a worker when the driver was killed; Ray does not start afterwards."""

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("explorer.sweep.driver.start_ray", interrupted)
    space = SearchSpace.load(space_file).with_search(spend="6 trainings")

    def resume() -> Sweep:
        sweep = Sweep(space, tmp_path, console=quiet())
        with pytest.raises(KeyboardInterrupt):
            sweep.run()
        return sweep

    sweep = resume()
    search = sweep._search([], None)
    trials = [search.next(), search.next()]
    for trial in trials:
        sweep.ledger.start(trial)
    note = DriverNote(host="h", pid=1, started=1.0, updated=2.0, space=space, planned=9, places=1)
    if has_note:
        note.model_copy(update={"running": {trials[0].id: RunningTrial(since=1.0)}}).write(sweep.location)
    for _ in range(2):
        resume()
        if has_note:
            assert [record.trial.id for record in sweep.ledger.superseded()] == [trials[0].id]
    assert len(sweep.ledger.superseded()) == counted * (1 if has_note else 2)


def test_a_try_that_completes_is_logged_after_one_that_failed(space_file, tmp_path):
    """It completed while the driver was killed, so that the next one finds it in the ledger."""
    header = make_header()
    failed = make_record(status="failed", outcome=None, failure="error", reason="disk quota")

    def deliver(*records, ended=()):
        with SweepLoggers(header, header.space, str(tmp_path), records, print) as loggers:
            for record in ended:
                loggers.finished(record)
        events = Path(tmp_path, TENSORBOARD, failed.trial.id)
        return [name for name, *_ in read_events(events)].count("test_accuracy") if events.exists() else 0

    assert deliver(ended=[failed]) == 0
    assert deliver(failed) == 0
    assert deliver(make_record()) == 1
    assert deliver(make_record()) == 1  # once
