"""One real sweep with all loggers at once: a trial fails, the sweep is interrupted, and the same call resumes it."""

import importlib
import os
import signal
import threading
from contextlib import suppress
from pathlib import Path

import pytest

import explorer.sweep.tuning as tuning
from explorer import SearchSpace, Sweep
from explorer.ledger import Ledger
from explorer.ledger.driver_note import DriverNote
from explorer.ledger.status import sweep_status
from explorer.search.trial_plan import compile_trial
from explorer.sweep.learning_curve import learning_curve
from explorer.sweep.trial import run_trial
from tests.conftest import RAY_SWEEP_MARKS, quiet, wait_until
from tests.loggers.event_files import read_events
from tests.loggers.offline_wandb import ended_runs

pytestmark = RAY_SWEEP_MARKS


@pytest.mark.nightly
def test_every_logger_has_one_run_per_trial_with_its_ending_after_an_interruption(local_ray, space_file, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/mlruns")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a database takes longer to create than the sweep takes
    monkeypatch.setenv("WANDB_MODE", "offline")
    go_on = tmp_path / "go-on"

    def with_faults(trial, space, ledger, **options):
        if trial.id == "25pct-staged-000":
            raise_ = {"data": {"name": "folder", "root": str(tmp_path / "unmounted")}}
            return run_trial(trial, SearchSpace.model_validate({**space.model_dump(), **raise_}), ledger, **options)
        if trial.id == "25pct-staged-001":
            wait_until(go_on.exists)  # it runs when the sweep is interrupted
        return run_trial(trial, space, ledger, **options)

    monkeypatch.setattr(tuning, "run_trial", with_faults)
    space = SearchSpace.load(space_file)
    content = {**space.model_dump(), "loggers": ("mlflow", "wandb"), "budgets": ["25%"]}
    sweep = Sweep(SearchSpace.model_validate(content), tmp_path / "sweeps", console=quiet())
    folder, seen = Path(sweep.location), []

    def interrupt():
        wait_until(lambda: sweep.ledger.exists and len(sweep.ledger.records()) >= 1)
        wait_until(lambda: any(trial.worker for trial in sweep_status(sweep.ledger).running))
        seen.append(sweep_status(sweep.ledger))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with suppress(KeyboardInterrupt):
        sweep.run()
    thread.join()
    (status,) = seen
    assert status.driver.state == "running"
    assert status.planned == 3
    assert "25pct-staged-001" in {trial.id for trial in status.running}
    assert all(trial.worker.endswith(tuple("0123456789")) for trial in status.running if trial.worker)
    assert DriverNote.read(sweep.location).ending != "failed"
    assert statuses(tmp_path)
    assert "RUNNING" not in statuses(tmp_path).values()
    assert statuses(tmp_path)["25pct-staged-001"] == "KILLED"

    go_on.touch()
    console = quiet()
    Sweep(SearchSpace.model_validate(content), tmp_path / "sweeps", console=console).run()
    records = {record.trial.id: record for record in Ledger(folder).records()}
    assert len(records) == 3
    expected = {name: "FINISHED" if record.outcome else "FAILED" for name, record in records.items()}
    assert expected["25pct-staged-000"] == "FAILED"
    assert statuses(tmp_path) == expected

    client = importlib.import_module("mlflow").MlflowClient()
    for run in mlflow_runs(tmp_path):
        record = records[run.info.run_name]
        if record.outcome is None:
            assert run.data.tags["explorer.reason"] == record.reason
            continue
        _, plan = compile_trial(record.trial, space)
        steps = [sum(segment.steps for segment in plan.segments[: number + 1]) for number in range(len(plan.segments))]
        assert [point.step for point in learning_curve(record)] == steps
        history = client.get_metric_history(run.info.run_id, "train_loss")
        assert [metric.step for metric in history] == steps
        assert [metric.value for metric in history] == list(record.outcome.losses)
        assert run.data.metrics["test_accuracy"] == record.outcome.test
        assert run.data.metrics["cost"] == pytest.approx(plan.cost)
        assert float(run.data.params["learning_rate"]) == record.trial.learning_rate

        (file,) = (folder / "tensorboard" / record.trial.id).iterdir()
        scalars = read_events(file.parent)
        assert [step for tag, step, _ in scalars if tag == "train_loss"] == steps
        assert len([tag for tag, _, _ in scalars if tag == "test_accuracy"]) == 1

    last = {run.id.rsplit("-", 1)[0]: run for run in ended_runs(folder / "wandb")}
    assert {name: run.exit_code for name, run in last.items()} == {name: int(r.outcome is None) for name, r in records.items()}
    assert len({run.id for run in ended_runs(folder / "wandb")}) == 3
    assert not list(folder.rglob("tune/**/events.out*"))

    status = sweep_status(Ledger(folder))
    assert (status.driver.state, status.completed, status.failed) == ("finished", 2, 1)
    assert (status.running, status.waiting, status.left_trials) == ((), (), 0)
    assert status.failures[0].trials == ("25pct-staged-000",)
    assert "staged validation" in console.file.getvalue()


def mlflow_runs(tmp_path):
    client = importlib.import_module("mlflow").MlflowClient(tracking_uri=f"file://{tmp_path}/mlruns")
    return client.search_runs([client.get_experiment_by_name("tiny").experiment_id])


def statuses(tmp_path):
    """Status of each trial's run in MLflow; a trial with two runs fails the test."""
    runs = mlflow_runs(tmp_path)
    assert len({run.info.run_name for run in runs}) == len(runs)
    return {run.info.run_name: run.info.status for run in runs}
