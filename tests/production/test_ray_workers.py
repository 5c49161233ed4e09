"""Ray Train runs the processes of a training, and restarts them when one dies."""

import os
import signal
import threading
from dataclasses import replace

import pytest
import ray
import torch

from explorer import Budget, InvalidInput, Rates, Schedule, compile_plan
from explorer.production import ray_workers
from explorer.production.ray_workers import Workers, calibrate_on_ray, device_on_ray, train_on_ray
from explorer.production.run import train_to_folder
from explorer.production.run_folder import CHECKPOINT
from explorer.spec.task import TaskSpec
from explorer.sweep.loopback import on_loopback
from explorer.training.calibration import setting_of
from explorer.training.errors import DivergedError, TrainingError
from explorer.training.evaluation import NotMeasuredError
from explorer.training.task import Task
from tests.conftest import processes, quiet
from tests.production.test_processes import assert_same_up_to_rounding, run_of_one, wait_for_segments

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.filterwarnings("default")]


@pytest.mark.nightly
def test_two_processes_of_ray_end_where_one_ends_though_one_is_killed(local_ray, tmp_path):
    train_to_folder(run_of_one(tmp_path / "single"), quiet())
    killed = []

    def kill() -> None:
        wait_for_segments(tmp_path / "together", 3)
        killed.append(processes("RayTrainWorker")[0])
        os.kill(killed[0], signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    console = quiet()
    result = train_on_ray(run_of_one(tmp_path / "together"), 2, None, console)
    assert killed
    assert result.processes == 2
    first, *then = console.file.getvalue().splitlines()  # more lines where it takes minutes
    assert first == "training with 2 processes, each on the CPU, 1 thread"
    assert "of the budget, stage 1" in then[0]
    assert all(" left, cost " in line for line in then)
    assert_same_up_to_rounding(tmp_path / "single", tmp_path / "together")
    with pytest.raises(InvalidInput, match=r"'budget': differs from the run .*: it was '50%' and is now '40%'"):
        train_on_ray(run_of_one(tmp_path / "together", budget="40%"), 2, None, quiet())


@pytest.mark.nightly
def test_a_budget_in_time_is_planned_with_step_times_of_as_many_processes(local_ray, tmp_path):
    run = run_of_one(tmp_path / "run")
    task = Task(run.task)
    schedule = Schedule.full_model(grid=4)
    measured = calibrate_on_ray(run.task, [], Workers(2, 1, "cpu", None), tmp_path / "calibration.json")
    assert not (tmp_path / "calibration.json.ray-train").exists()
    cost = measured.step_cost(task, "cpu", 2)
    (step,) = measured.steps
    assert cost(Rates()).seconds == 2 * step.seconds
    with pytest.raises(InvalidInput, match="calibration: 'processes': was measured with 2, and this is 1"):
        measured.step_cost(task, "cpu")
    plan = compile_plan(schedule, task, Budget(101 * step.seconds, "device-seconds"), cost)
    assert plan.steps == 50  # each device has half of the budget, and a step left over would be a half
    run = replace(run, plan=plan, calibrated=measured.setting)
    result = train_on_ray(run, 2, None, quiet())
    (stage,) = result.stage_times
    assert stage.planned_seconds == pytest.approx(50 * step.seconds)
    assert result.time.training == pytest.approx(stage.seconds)


@pytest.mark.nightly
def test_processes_on_another_device_than_the_calibrations_are_refused_and_not_restarted(local_ray, tmp_path):
    run = run_of_one(tmp_path / "run")
    elsewhere = setting_of(Task(run.task), "cpu", 2).model_copy(update={"device": "NVIDIA H200"})
    with pytest.raises(InvalidInput, match="calibration: 'device': was measured with 'NVIDIA H200', and this is 'cpu'"):
        train_on_ray(replace(run, calibrated=elsewhere), 2, None, quiet())


def test_more_processes_than_the_cluster_has_cpus_for_are_refused(local_ray, tmp_path):
    with pytest.raises(InvalidInput, match="processes: 64: 64 CPUs are needed, but the cluster has"):
        train_on_ray(run_of_one(tmp_path / "run"), 64, None, quiet())


@pytest.mark.nightly
def test_a_run_that_diverges_is_not_restarted(local_ray, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_workers, "MAX_FAILURES", -1)  # Ray would restart it forever
    run = run_of_one(tmp_path / "run")
    recipe = run.task.recipe.model_copy(update={"learning_rate": 1e12, "clip_grad": None})
    with pytest.raises(DivergedError, match="the loss is not finite by step"):
        train_on_ray(replace(run, task=run.task.model_copy(update={"recipe": recipe})), 2, None, quiet())


@pytest.mark.nightly
def test_a_metric_that_fails_does_not_restart_the_processes(local_ray, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_workers, "MAX_FAILURES", -1)
    run = run_of_one(tmp_path / "run")
    task = TaskSpec.model_validate(
        {**run.task.model_dump(), "objective": {"metric": "tests.objective.sources:failing_on_a_split"}}
    )
    reason = "^failing on a split fails on the validation images: ZeroDivisionError: division by zero$"
    with pytest.raises(NotMeasuredError, match=reason):
        train_on_ray(replace(run, task=task), 2, None, quiet())
    assert (tmp_path / "run" / CHECKPOINT).exists()


@pytest.mark.nightly
def test_the_device_is_that_of_the_cluster_and_not_of_the_driver(local_ray, tmp_path, monkeypatch):
    """A cluster that claims to have two GPUs, on a machine without any: its processes fail, and the error is one line."""
    assert device_on_ray(1, None) == ("cuda" if torch.cuda.is_available() else "cpu")
    ray.shutdown()
    with on_loopback():
        ray.init("local", _node_ip_address="127.0.0.1", include_dashboard=False, log_to_driver=False, num_cpus=2, num_gpus=2)
    assert device_on_ray(0, None) == "cpu"
    assert device_on_ray(1, None) == "cuda"
    if torch.cuda.device_count() < 2:
        monkeypatch.setattr(ray_workers, "MAX_FAILURES", 0)
        run = replace(run_of_one(tmp_path / "run"), device="cuda")
        with pytest.raises(TrainingError, match=r"^the processes failed: \w+: ") as failed:
            train_on_ray(run, 2, None, quiet())
        assert "\n" not in str(failed.value)
