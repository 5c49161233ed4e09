"""What a sweep will cost. Real plans and step times, no training."""

import os
from dataclasses import replace

import pytest
import torch

from explorer import SearchSpace
from explorer.errors import InvalidInput
from explorer.search.forecast import forecast
from explorer.search.machines import Machines, StepTimes, measure_step_times, this_machine
from explorer.spec.rates import Rates
from explorer.spec.search_settings import RateLevels
from explorer.training.step_time import step_seconds
from explorer.training.task import Task
from tests.conftest import with_search

MACHINES = Machines(
    where="the cluster at head:6379", nodes=2, cpus=8, gpus=1, places=2, times=StepTimes(overhead=0, per_flop=0, device="cpu")
)


def test_trials_and_their_cost_by_hand(space_file):
    space = with_search(SearchSpace.load(space_file), trials=8, baseline_trials=1, repeat=1, repeat_seeds=2)
    expected = forecast(space, MACHINES)
    # 8 trials at 25 %, 4 at 50 %; the best of each kind again with two seeds.
    assert [(b.budget, b.staged, b.baseline, b.repeats) for b in expected.budgets] == [("25%", 8, 1, 4), ("50%", 4, 1, 4)]
    assert expected.trials == 22
    assert expected.planned == pytest.approx(13 * 0.25 + 9 * 0.5, rel=0.05)  # less than a step short of each budget
    assert expected.executed <= expected.planned
    # Half a second around each trial, and steps of no length: 11 s with one trial at a time.
    assert expected.seconds == 22 * 0.5
    assert "22 trials" in expected.summary(space)
    assert "about 0.1 min on the cluster at head:6379 (2 nodes, 8 CPUs, 1 GPU) with 2 side by side (" in expected.summary(space)
    assert "about 0.2 min on" in expected.summary(space, parallel_trials=1)
    assert "with 2 side by side" in expected.summary(space, parallel_trials=5)


def test_machines_without_room_or_gpu_are_said(space_file):
    space = SearchSpace.load(space_file)
    space = SearchSpace.model_validate({**space.model_dump(), "resources": {"gpus": 1}})
    machines = replace(MACHINES, where="this machine", nodes=1, gpus=0, places=0)
    summary = forecast(space, machines).summary(space)
    assert "this machine (8 CPUs, 0 GPUs) has no room for a trial (1 CPU and 1 GPU), so the sweep cannot run there" in summary


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_steps_for_a_gpu_are_not_timed_on_the_cpu(space_file):
    space = SearchSpace.model_validate({**SearchSpace.load(space_file).model_dump(), "resources": {"gpus": 1}})
    machines = this_machine(space)
    assert machines.times is None
    expected = forecast(space, machines)
    assert expected.trials > 0
    lines = expected.summary(space).splitlines()
    assert lines[-1].startswith("no estimate of the time: trials train on a GPU, and this machine has none that can be used: ")
    assert "one full training takes" not in "".join(lines)
    with pytest.raises(InvalidInput, match=r"resources\.gpus"):
        measure_step_times(space)


def test_threads_that_this_machine_lacks_are_not_timed(space_file):
    space = SearchSpace.load(space_file)
    space = space.model_copy(update={"resources": space.resources.model_copy(update={"cpus": 4096})})
    machines = this_machine(space)
    assert (machines.places, machines.times) == (0, None)
    assert machines.no_times == f"a trial needs 4096 CPU: more than the {os.cpu_count()} CPUs of this machine"
    assert machines.no_times in forecast(space, machines).summary(space)


def test_this_machine_is_counted_and_measured(space_file):
    machines = this_machine(SearchSpace.load(space_file))
    assert (machines.nodes, machines.cpus, machines.places) == (1, os.cpu_count(), os.cpu_count())
    assert machines.times.overhead + machines.times.per_flop > 0


def test_one_process_measures_its_part_of_the_batch_of_several_and_says_so(space_file):
    space = SearchSpace.load(space_file)
    space = SearchSpace.model_validate({**space.model_dump(), "resources": {"processes": os.cpu_count()}})
    machines = this_machine(space)
    assert (machines.places, machines.times.processes) == (1, 1)
    summary = forecast(space, machines).summary(space)
    assert f"with 1 side by side ({os.cpu_count()} processes of 1 CPU each)" in summary
    assert summary.endswith("on the CPU, of a process's part of the batch, without the exchange of gradients")


def test_equal_settings_share(space_file):
    rates = RateLevels(heads=(0.5, 1.0), mlp=(0.5, 1.0), tokens=(0.5, 1.0))
    settings = {"stages": 2, "rates": rates, "tied": True, "learning_rate": (2e-3, 2e-3), "learning_rate_grid": 1}
    space = with_search(SearchSpace.load(space_file), trials=6, batch_size=(32,), **settings)
    shared = forecast(space, MACHINES)
    unshared = forecast(SearchSpace.model_validate({**space.model_dump(), "store_gb": 0}), MACHINES)
    # Without a stage store only the full model is shared, once at each budget: a staged trial and the baseline train it.
    assert unshared.planned - unshared.executed == pytest.approx(0.25 + 0.5, rel=0.05)
    assert shared.executed < 0.9 * shared.planned


def test_a_smaller_step_is_measured_to_take_less_time(tiny_spec):
    options = {**tiny_spec.model.options, "embed_dim": 192, "depth": 4}
    task = Task(tiny_spec.model_copy(update={"model": tiny_spec.model.model_copy(update={"options": options})}))
    assert step_seconds(task, Rates(heads=0.25, mlp=0.25, tokens=0.25)) < 0.7 * step_seconds(task, Rates())


def test_a_forecast_of_thousands_of_trials_is_cut_off_and_says_so(space_file, monkeypatch):
    monkeypatch.setattr("explorer.search.forecast.MAX_TRIALS", 5)
    space = SearchSpace.load(space_file)
    expected = forecast(space, MACHINES)
    assert expected.trials == 5
    assert "the first 5 trials, to which this forecast is limited" in expected.summary(space)
