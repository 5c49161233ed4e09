"""Stages with a batch size and an augmentation of their own."""

from dataclasses import replace

import pytest
import torch

from explorer import Budget, InvalidInput, Rates, Schedule, Stage, compile_plan
from explorer.data import TrainStream
from explorer.data.stream import stream_indices
from explorer.spec.augmentation_strength import AugmentationStrength
from explorer.spec.recipe import Augmentation
from explorer.spec.task import TaskSpec
from explorer.training.batches import check_batches, plan_batches
from explorer.training.distributed import Processes
from explorer.training.loop import train
from explorer.training.stage_store import StageStore
from explorer.training.task import Task
from explorer.training.training_state import TrainingState
from explorer.training_key import prefix_keys
from tests.training.runs import assert_resumes_exactly, planned, same_weights

CPU = torch.device("cpu")
HALF = Rates(heads=0.5, mlp=0.5, tokens=0.5)
WEAK = AugmentationStrength(mixup=0.0, drop_path=0.25)
GROWING = Schedule(
    stages=(
        Stage(rates=HALF, duration_ratio=0.4, augmentation=WEAK, batch_factor=2),
        Stage(rates=HALF, duration_ratio=0.2, augmentation=AugmentationStrength(mixup=0.5), batch_factor=0.5),
        Stage(rates=Rates(), duration_ratio=0.4),
    ),
    grid=5,
)


@pytest.fixture
def regularized(tiny_spec) -> TaskSpec:
    """With mixup and stochastic depth."""
    content = tiny_spec.model_dump()
    content["model"]["options"] = {**content["model"]["options"], "drop_path_rate": 0.4}
    content["recipe"]["augmentation"] = {"mixup": 0.2, "shift": 1}
    return TaskSpec.model_validate(content)


@pytest.fixture
def task(regularized) -> Task:
    return Task(regularized)


def test_each_step_trains_on_the_images_after_those_of_the_step_before(tiny_spec):
    """Batches of 64, 16 and 32 images, one after another in the stream."""
    task = Task(tiny_spec)
    plan = planned(task, GROWING, "20%")
    batches = list(plan_batches(task, plan, 3, 0, CPU))
    sizes = [len(labels) for _, labels in batches]
    first, second, third = (row.steps for row in plan.stages())
    assert sizes == [64] * first + [16] * second + [32] * third
    labels = torch.cat([labels for _, labels in batches])
    order = stream_indices(3, 0, sum(sizes), task.train_images)
    assert torch.equal(labels, task.data.labels["train"][order])
    assert plan.images(plan.steps) == sum(sizes)
    assert plan.epochs(first) == first * 64 / task.train_images


def test_batches_from_any_step_are_those_of_the_whole_run(task):
    plan = planned(task, GROWING, "20%")
    whole = list(plan_batches(task, plan, 3, 0, CPU))
    first = plan.stages()[0].steps
    for step in (1, first - 1, first, first + 1, plan.steps - 1):
        rest = list(plan_batches(task, plan, 3, step, CPU))
        assert len(rest) == plan.steps - step
        assert all(
            torch.equal(a, b) for one, other in zip(whole[step:], rest, strict=True) for a, b in zip(one, other, strict=True)
        )


def test_mixup_is_a_share_of_the_recipes(task):
    """At a share of 0, labels are whole numbers; at one half, mixup has half of the recipe's alpha, 0.1."""
    plan = planned(task, GROWING, "20%")
    targets = [target for _, target in plan_batches(task, plan, 3, 0, CPU)]
    first = plan.stages()[0].steps
    assert all(target.dtype == torch.int64 for target in targets[:first])
    assert all(target.dtype == torch.float32 for target in targets[first:])
    half = Augmentation(mixup=0.1, shift=1)
    stream = TrainStream(seed=3, first_step=first, start=64 * first, steps=1, batch_size=16, augmentation=half)
    expected, _ = next(task.batches_of(stream))
    assert torch.equal(next(plan_batches(task, plan, 3, first, CPU))[0], expected)


def test_stochastic_depth_is_a_share_of_the_models(task):
    """timm's rates rise from 0 to .4 over the two blocks."""
    plan = planned(task, GROWING, "20%")
    state = TrainingState(task, 0, CPU, Processes())
    last_block = state.model.blocks[-1]
    rates = []
    for segment in plan.segments:
        state.begin(segment)
        rates.append(last_block.drop_path1.drop_prob)
    stages = [segment.stage for segment in plan.segments]
    assert rates == [pytest.approx({0: 0.1, 1: 0.4, 2: 0.4}[stage]) for stage in stages]


def test_runs_resume_in_the_same_bits_and_share_prefixes(task, tmp_path):
    plan = planned(task, GROWING, "8%")
    straight = assert_resumes_exactly(task, plan, (1, 3), tmp_path)
    store = StageStore(str(tmp_path / "store"), 10**9)
    train(task, plan, seed=1, store=store)
    again = train(task, plan, seed=1, store=store)
    assert again.executed_flops < straight.flops
    assert same_weights(again.model, straight.model)


def test_a_run_that_ceases_to_mix_resumes_in_the_same_bits(task, tmp_path):
    """The second stage, which does not mix, goes on with the random numbers that the first one left."""
    augmentations = AugmentationStrength(), AugmentationStrength(mixup=0.0), AugmentationStrength()
    stages = zip(GROWING.stages, augmentations, strict=True)
    changed = tuple(
        stage.model_copy(update={"augmentation": augmentation, "batch_factor": 1.0}) for stage, augmentation in stages
    )
    assert_resumes_exactly(task, planned(task, Schedule(stages=changed, grid=5), "8%"), (1, 2, 3), tmp_path)


def test_settings_of_a_stage_change_what_is_trained(task):
    """Schedules that differ in augmentation alone are other trainings, with other prefixes."""
    plain = Schedule(
        stages=tuple(stage.model_copy(update={"augmentation": AugmentationStrength()}) for stage in GROWING.stages), grid=5
    )
    one, other = planned(task, GROWING), planned(task, plain)
    assert one.digest() != other.digest()
    assert [row.steps for row in one.stages()] == [row.steps for row in other.stages()]
    assert not set(prefix_keys("", one.segments)) & set(prefix_keys("", other.segments))


@pytest.mark.parametrize(
    ("factor", "budget", "message"),
    [
        (1.01, "50%", r"stages\.0\.batch_factor: 1\.01: makes 32\.32 images of a batch of 32; it must make a whole number"),
        (2, "1 CPU-seconds", r"stages\.0\.batch_factor: 2\.0: must be 1 for the budget 1 CPU-seconds"),
    ],
)
def test_batch_factors_that_cannot_be_planned_are_refused(task, factor, budget, message):
    def cost(rates):
        return replace(task.step_cost(rates), seconds=0.01)

    stages = (Stage(rates=HALF, duration_ratio=0.5, batch_factor=factor), Stage(rates=Rates(), duration_ratio=0.5))
    schedule = Schedule(stages=stages)
    with pytest.raises(InvalidInput, match=message):
        compile_plan(schedule, task, Budget.parse(budget), cost)


@pytest.mark.parametrize(
    ("factor", "processes", "message"),
    [
        (64, 1, r"stages\.0\.batch_factor: 64\.0: makes batches of 2048 of the \d+ training images"),
        (0.5, 32, r"stages\.0\.batch_factor: 0\.5: makes batches of 16 images, which must be a multiple of the 32 processes"),
        (0.09375, 1, r"stages\.0\.batch_factor: 0\.09375: a process's 3 images must be even to be mixed"),
    ],
)
def test_batches_that_cannot_be_trained_are_refused(task, factor, processes, message):
    schedule = Schedule(
        stages=(
            Stage(rates=HALF, duration_ratio=0.5, batch_factor=factor),
            Stage(rates=Rates(), duration_ratio=0.5),
        )
    )
    plan = planned(task, schedule, "100%")
    with pytest.raises(InvalidInput, match=message):
        check_batches(task, plan, Processes(0, processes))


def test_shares_of_an_augmentation_that_the_task_does_not_have_are_named(tiny_spec, task):
    shares = AugmentationStrength(magnitude=0.5, mixup=0.5, drop_path=0.5)
    schedule = Schedule(
        stages=(Stage(rates=HALF, duration_ratio=0.5, augmentation=shares), Stage(rates=Rates(), duration_ratio=0.5))
    )
    named = [line.split(",")[0].rsplit(".", 1)[1] for line in Task(tiny_spec).without_effect(schedule)]
    assert named == ["magnitude", "mixup", "drop_path"]
    assert len(task.without_effect(schedule)) == 1  # RandAugment needs images from disk
    assert Task(tiny_spec).without_effect(Schedule.full_model()) == ()
