"""The loop executes a plan: steps, learning rates, loss checks, the finished model."""

import itertools
import json
import math
import time

import pytest
import timm
import torch

from explorer import Rates, Schedule, Stage
from explorer.spec.staging import Staging
from explorer.training import loop, stopwatch
from explorer.training.distributed import Processes
from explorer.training.errors import DivergedError
from explorer.training.loop import train
from explorer.training.task import Task
from tests.training.runs import planned, same_weights

ONE_SEGMENT = Schedule.full_model(grid=1)


def test_a_run_executes_its_plan_and_learns(tiny_spec, three_stages):
    task = Task(
        tiny_spec.model_copy(update={"recipe": tiny_spec.recipe.model_copy(update={"epochs": 5, "learning_rate": 5e-3})})
    )
    plan = planned(task, three_stages)
    result = train(task, plan, seed=0)
    assert (result.steps, result.flops) == (plan.steps, plan.flops)
    assert [s.steps for s in result.segments] == [s.steps for s in plan.segments]
    assert result.segments[-1].mean_loss < result.segments[0].mean_loss
    assert result.test > 0.4  # guessing gives 0.1
    assert result.seconds > 0
    assert result.evaluation_seconds > 0


def test_the_finished_model_is_plain_timm(tiny_task, three_stages):
    result = train(tiny_task, planned(tiny_task, three_stages, "20%"), seed=0)
    plain = timm.create_model(**tiny_task.model_arguments())
    plain.load_state_dict(result.model.state_dict(), strict=True)
    images = torch.randn(4, 1, 8, 8)
    assert torch.equal(plain.eval()(images), result.model(images))


def test_equal_seeds_give_equal_weights_and_other_seeds_others(tiny_task, three_stages):
    plan = planned(tiny_task, three_stages, "20%")
    one, again, other = (train(tiny_task, plan, seed=seed) for seed in (3, 3, 4))
    assert same_weights(one.model, again.model)
    assert one.validation == again.validation
    assert not same_weights(one.model, other.model)


def test_the_time_of_callbacks_does_not_count_as_training(tiny_task, three_stages, monkeypatch):
    """By a clock on which each report takes 1000 s, and everything else a microsecond, training takes less than a second."""
    clock, reports = itertools.count(), []
    monkeypatch.setattr(stopwatch, "now", lambda: 1e-6 * next(clock) + 1000 * len(reports))
    plan = planned(tiny_task, three_stages, "20%")
    result = train(tiny_task, plan, seed=0, on_segment=reports.append)
    assert len(reports) == len(plan.segments)
    assert 0 < result.seconds < 1
    assert 0 < result.executed_seconds < 1


def test_slow_steps_have_their_loss_checked_by_the_clock(tiny_task, monkeypatch):
    """By a clock on which each step takes 20 ms, the loss is checked after at most 5 steps, and not after each."""
    now = 0.0
    step = torch.optim.AdamW.step

    def slow(self, *arguments):
        nonlocal now
        now += 0.02
        return step(self, *arguments)

    monkeypatch.setattr(stopwatch, "now", lambda: now)
    monkeypatch.setattr(loop, "LOSS_CHECK_SECONDS", 0.1)
    plan = planned(tiny_task, ONE_SEGMENT, "100%")
    assert [segment.steps for segment in plan.segments] == [71]
    checks = [0]
    with monkeypatch.context() as slowed:
        slowed.setattr(torch.optim.AdamW, "step", slow)
        train(tiny_task, plan, seed=0, on_loss_check=lambda progress: checks.append(progress.steps))
    intervals = {after - before for before, after in itertools.pairwise(checks)}
    assert intervals <= {4, 5}  # 0.1 / 0.02, rounded down


def test_fast_steps_have_their_loss_checked_by_their_number(tiny_task, monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(stopwatch, "now", lambda: 1e-6 * next(clock))
    checks = []
    plan = planned(tiny_task, ONE_SEGMENT, "100%")
    train(tiny_task, plan, seed=0, on_loss_check=lambda progress: checks.append(progress.steps))
    assert checks == [50]


def loss_checks_of_a_process(rank, spec, plan, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    checks = []
    factor = 1000 if rank else 1e-6
    stopwatch.now = lambda: factor * time.perf_counter()
    processes = Processes(rank, 2)
    train(Task(spec), plan, seed=0, processes=processes, on_loss_check=lambda progress: checks.append(progress.steps))
    (folder / f"{rank}.json").write_text(json.dumps(checks))
    torch.distributed.destroy_process_group()


@pytest.mark.nightly
@pytest.mark.timeout(1200)
def test_processes_check_the_loss_together_though_the_clock_of_one_is_fast(tiny_spec, tmp_path):
    """By the second process's clock each step takes seconds: alone it would check the loss after every step."""
    spec = tiny_spec.model_copy(update={"staging": Staging(token_policy="resize")})
    plan = planned(Task(spec), ONE_SEGMENT, "100%")
    torch.multiprocessing.spawn(loss_checks_of_a_process, (spec, plan, tmp_path), nprocs=2)
    assert [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)] == [[50], [50]]


def test_a_loss_that_is_not_finite_ends_the_run(tiny_spec, three_stages):
    recipe = tiny_spec.recipe.model_copy(update={"learning_rate": 1e9, "optimizer": "sgd", "clip_grad": None})
    task = Task(tiny_spec.model_copy(update={"recipe": recipe}))
    with pytest.raises(DivergedError, match="not finite by step"):
        train(task, planned(task, three_stages), seed=0)


def test_the_learning_rate_of_each_step_is_the_plans(tiny_task, three_stages, monkeypatch):
    seen = []
    step = torch.optim.AdamW.step

    def spy(self, *arguments):
        seen.append(self.param_groups[0]["lr"])
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    plan = planned(tiny_task, three_stages, "20%")
    train(tiny_task, plan, seed=0)
    wanted = [2e-3 * segment.learning_rate_factor(number) for segment in plan.segments for number in range(segment.steps)]
    assert seen == pytest.approx(wanted)
    assert seen[-1] < 2e-3 * 0.1


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_compiled_training_gives_the_same_losses_up_to_rounding(tiny_spec):
    """A model of one block in two stages: it is compiled twice."""
    half = Stage(rates=Rates(heads=0.5, mlp=0.5, tokens=0.5), duration_ratio=0.5)
    schedule = Schedule(stages=(half, Stage(rates=Rates(), duration_ratio=0.5)), grid=2)
    model = tiny_spec.model.model_copy(update={"options": {**tiny_spec.model.options, "depth": 1}})
    results = []
    for compiled in (False, True):
        recipe = tiny_spec.recipe.model_copy(update={"compile": compiled})
        task = Task(tiny_spec.model_copy(update={"recipe": recipe, "model": model}))
        results.append(train(task, planned(task, schedule, "20%"), seed=0))
    plain, fast = results
    assert math.isclose(plain.segments[-1].mean_loss, fast.segments[-1].mean_loss, rel_tol=0.02)
    timm.create_model(**task.model_arguments()).load_state_dict(fast.model.state_dict(), strict=True)


def test_bf16_trains_on_the_cpu_too(tiny_spec, three_stages):
    task = Task(tiny_spec.model_copy(update={"recipe": tiny_spec.recipe.model_copy(update={"amp": "bf16"})}))
    result = train(task, planned(task, three_stages, "20%"), seed=0)
    assert math.isfinite(result.segments[-1].mean_loss)
    assert next(result.model.parameters()).dtype == torch.float32


def test_rates_of_one_train_exactly_like_a_plain_loop(tiny_task):
    """The baseline is what anyone's loop over plain timm would give."""
    plan = planned(tiny_task, Schedule.full_model(), "20%")
    ours = train(tiny_task, plan, seed=0)
    torch.manual_seed(0)
    model = timm.create_model(**tiny_task.model_arguments())
    optimizer = timm.optim.create_optimizer_v2(model, "adamw", lr=2e-3, weight_decay=0.05, fused=True)
    batches = tiny_task.train_batches(0, 0, plan.steps, torch.device("cpu"))
    factors = [segment.learning_rate_factor(number) for segment in plan.segments for number in range(segment.steps)]
    for (images, labels), factor in zip(batches, factors, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * factor
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels, label_smoothing=0.1).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert same_weights(ours.model, model)
    assert tiny_task.step_cost(Rates()).flops * plan.steps == ours.flops
