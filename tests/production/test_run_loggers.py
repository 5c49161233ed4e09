"""The run of a production training in MLflow: one run, however often it is interrupted, with the way it ended."""

import importlib

import pytest

from explorer.production.run import Run, train_to_folder
from explorer.training import saved_state
from explorer.training.errors import DivergedError
from tests.conftest import quiet
from tests.training.runs import planned

pytestmark = pytest.mark.filterwarnings("default")  # MLflow's own warnings are not ours to fix


@pytest.fixture
def mlflow_runs(tmp_path, monkeypatch):
    """Status, reason and steps of every run that MLflow has."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/mlruns")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")

    def read():
        client = importlib.import_module("mlflow").MlflowClient(tracking_uri=f"file://{tmp_path}/mlruns")
        experiment = client.get_experiment_by_name("vit-budget-explorer").experiment_id
        return [
            (
                run.info.status,
                run.data.tags.get("explorer.reason"),
                [metric.step for metric in client.get_metric_history(run.info.run_id, "loss")],
                run.data.metrics.get("test_accuracy"),
            )
            for run in client.search_runs([experiment])
        ]

    return read


def test_an_interrupted_run_is_killed_and_then_continued_and_a_diverged_one_is_failed(
    tiny_task, three_stages, tmp_path, monkeypatch, mlflow_runs
):
    compiled = planned(tiny_task, three_stages)
    run = Run(task=tiny_task.spec, plan=compiled, seed=0, threads=1, device="cpu", out=tmp_path / "run", loggers=("mlflow",))
    save, error = saved_state.save_checkpoint, KeyboardInterrupt()

    def stop(path, content):
        save(path, content)
        if len(content["segments"]) in (7, 9):
            raise error

    monkeypatch.setattr(saved_state, "save_checkpoint", stop)
    ends = [sum(segment.steps for segment in compiled.segments[: number + 1]) for number in range(20)]
    with pytest.raises(KeyboardInterrupt):
        train_to_folder(run, quiet())
    ((status, reason, steps, _),) = mlflow_runs()
    assert (status, reason, steps) == ("KILLED", "the run was interrupted; the same command resumes it", ends[:6])

    error = DivergedError("the loss is not finite by step 12 (stage 1)")
    with pytest.raises(DivergedError):
        train_to_folder(run, quiet())
    ((status, reason, steps, _),) = mlflow_runs()
    assert (status, reason) == ("FAILED", "DivergedError: the loss is not finite by step 12 (stage 1)")

    monkeypatch.setattr(saved_state, "save_checkpoint", save)
    result = train_to_folder(run, quiet())
    assert mlflow_runs() == [("FINISHED", None, ends, result.test)]
