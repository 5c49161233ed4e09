"""Several processes that train a trial together, on real Ray and gloo."""

import os
import signal

import pytest
import ray
import torch
import yaml
from ray.exceptions import RayError
from torch import distributed

from explorer import InvalidInput, Rates, Schedule, SearchSpace, compile_plan
from explorer.search.step_times import measure_table
from explorer.search.trial_plan import compile_in_currency
from explorer.spec.budget import Budget
from explorer.spec.task_file import Resources
from explorer.sweep.failures import FailureReason, reason_around
from explorer.sweep.training_process import Ended
from explorer.sweep.worker_group import ProcessFailedError, cause_of, worker_group
from explorer.training import stage_store
from explorer.training.calibration import check_setting, setting_of
from explorer.training.loop import train
from explorer.training.stage_store import StageStore, prefix_keys
from explorer.training.task import Task
from tests.conftest import RAY_SWEEP_MARKS, TINY_SPACE
from tests.production.test_processes import SPACE, STAGES

pytestmark = RAY_SWEEP_MARKS
CPU = torch.device("cpu")
TWO = Resources(processes=2)


@pytest.fixture(scope="module")
def group(local_ray):
    with worker_group(TWO) as group:
        yield group


def trained(spec, plan, folder, processes, on_segment=None):
    """Train with a store, at every segment boundary, and return what a test compares."""
    stage_store.MAX_WRITE_OVERHEAD = float("inf")
    torch.set_num_threads(1)
    store = StageStore(str(folder), 10**9) if folder else None
    result = train(Task(spec), plan, seed=0, store=store, processes=processes, on_segment=on_segment)
    interface = os.environ.get("GLOO_SOCKET_IFNAME")
    return result.model.state_dict(), result.executed_flops, result.test, os.getpid(), interface


def test_two_processes_train_what_one_trains_and_share_it_through_the_store(group, tmp_path):
    task = Task(SearchSpace.model_validate(SPACE).task)
    plan = compile_plan(Schedule(stages=STAGES, grid=10), task, Budget(0.5), task.step_cost)
    longer = (
        STAGES[0].model_copy(update={"duration_ratio": 0.5}),
        STAGES[1].model_copy(update={"duration_ratio": 0.2}),
        STAGES[2],
    )
    other = compile_plan(Schedule(stages=longer, grid=10), task, Budget(0.5), task.step_cost)
    single = train(task, plan, seed=0)
    reported = []
    weights, executed, accuracy, process, interface = group.run(
        trained, task.spec, plan, tmp_path, on_segment=lambda progress: reported.append(len(progress.segments))
    )
    assert interface in ("lo", "lo0")
    assert reported == sorted(reported)
    assert executed == plan.flops
    assert accuracy == single.test
    for name, tensor in single.model.state_dict().items():
        assert torch.allclose(tensor, weights[name], rtol=1e-3, atol=2e-5), name
    shared, executed, *_, same_process, _ = group.run(trained, task.spec, other, tmp_path)
    assert same_process == process
    assert executed == sum(segment.flops for segment in other.segments[4:])  # the first four of ten slots are the same
    unshared, executed, *_ = group.run(trained, task.spec, other, None)
    assert executed == other.flops
    assert all(torch.equal(tensor, unshared[name]) for name, tensor in shared.items())
    two, one = (set(prefix_keys(task, plan.segments, 0, CPU, False, count)) for count in (2, 1))
    stored = {path.stem for path in tmp_path.glob("*.pt")}
    assert two <= stored
    assert not one & stored


def test_step_times_of_as_many_processes_give_plans_in_seconds_of_all_devices(group):
    content = yaml.safe_load(TINY_SPACE) | {"currency": "device_seconds", "budgets": ["50%"], "resources": {"processes": 2}}
    content["search"] |= {"tied": True, "batch_size": [32], "rates": {"heads": [0.5, 1], "mlp": [0.5, 1]}}
    space = SearchSpace.model_validate(content)
    table = group.run(measure_table, space, 0.1)
    assert table.setting.processes == 2
    task, seconds = Task(space.task), table.measured(Rates(), 32, {})
    plan = compile_in_currency(Schedule.full_model(grid=4), task, Budget(0.5), space, table)
    assert {segment.step_seconds for segment in plan.segments} == {2 * seconds}
    assert plan.full_seconds == pytest.approx(2 * 1149 / 32 * 2 * seconds)  # 2 epochs of 1,149 images on 2 devices
    with pytest.raises(InvalidInput, match="calibration: 'processes': was measured with 2, and this is 1"):
        check_setting(table.setting, setting_of(task, "cpu"))


def failing(fault, processes):
    """The second process fails while the first waits for it."""
    if processes.is_main:
        distributed.all_reduce(torch.zeros(1))
    elif fault == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    else:
        torch.empty(10**15)


@pytest.mark.nightly
def test_the_failure_that_caused_the_others_is_told_and_the_processes_are_replaced(group):
    with pytest.raises(ProcessFailedError, match=r"^out of memory: .*can't allocate memory") as raised:
        group.run(failing, "memory")
    assert raised.value.failed.failure == "memory"
    assert raised.value.node == group.failed_node == ray.get_runtime_context().get_node_id()
    with pytest.raises(RayError) as raised:
        group.run(failing, "killed")
    lost = reason_around(str(raised.value))
    assert lost.failure == "lost"
    assert "ended without a Python error, as after SIGKILL" in lost.reason


def test_a_connection_that_breaks_is_never_the_cause():
    broken = Ended(failed=FailureReason("place", "ConnectionError: by peer"), is_consequence=True)
    lost, error, memory = (
        Ended(died=RayError("died")),
        *(Ended(failed=FailureReason(kind, kind)) for kind in ("error", "memory")),
    )
    assert cause_of([broken, error]) is error
    assert cause_of([broken, error, lost]) is lost
    assert cause_of([lost, memory, broken]) is memory
    assert cause_of([broken]) is broken
