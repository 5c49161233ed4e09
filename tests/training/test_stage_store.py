import math
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from explorer import Rates, Schedule, Stage
from explorer.spec.lr_schedule import LearningRateSchedule
from explorer.training import loop, stage_store
from explorer.training.errors import PreemptedError
from explorer.training.loop import train
from explorer.training.stage_store import StageStore, interrupted_key, prefix_keys
from explorer.training.task import Task
from tests.training.runs import planned, same_weights

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def at_every_boundary(monkeypatch):
    monkeypatch.setattr(stage_store, "MAX_WRITE_OVERHEAD", math.inf)


def schedule(*slots: int) -> Schedule:
    """Grid slots at .5, .75 and 1 of heads and channels; tokens from .5."""
    rates = (Rates(heads=0.5, mlp=0.5, tokens=0.5), Rates(heads=0.75, mlp=0.75), Rates())
    stages = [Stage(rates=r, duration_ratio=n / 20) for r, n in zip(rates, slots, strict=True) if n]
    return Schedule(stages=tuple(stages))


@pytest.fixture
def task(tiny_spec):
    model = tiny_spec.model.model_copy(update={"options": {**tiny_spec.model.options, "drop_path_rate": 0.2}})
    return Task(tiny_spec.model_copy(update={"model": model}))


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.pt"))


def test_runs_with_a_store_end_in_the_same_bits_and_train_only_what_is_new(task, tmp_path):
    """A tree of five schedules: they differ from within a stage, a stage change, the last stage and the very start on."""
    tree = [(8, 6, 6), (8, 8, 4), (8, 0, 12), (12, 4, 4), (0, 10, 10)]
    shared = [0, 14, 8, 8, 0]  # grid slots in common with any earlier one
    store = StageStore(str(tmp_path), 10**9)
    for slots, known in zip(tree, shared, strict=True):
        plan = planned(task, schedule(*slots))
        assert len(plan.segments) == 20
        without, with_store = train(task, plan, seed=1), train(task, plan, seed=1, store=store)
        assert same_weights(without.model, with_store.model), slots
        assert with_store.test == without.test
        assert (with_store.flops, without.executed_flops) == (without.flops, without.flops)
        assert with_store.executed_flops == sum(segment.flops for segment in plan.segments[known:])
        assert [s.stage for s in with_store.segments] == [s.stage for s in plan.segments]
    # The same plan again trains the last segment only: the end itself is not kept.
    again = train(task, planned(task, schedule(8, 6, 6)), seed=1, store=store)
    assert again.executed_flops == planned(task, schedule(8, 6, 6)).segments[-1].flops


@pytest.mark.parametrize(
    "staging", [pytest.param({"subset": "random"}, marks=pytest.mark.nightly), {"subset": "importance", "growth": "zero"}]
)
def test_other_kinds_of_staging_use_the_store_too(task, tmp_path, staging):
    task = Task(task.spec.with_settings(2e-3, 32, staging))
    store = StageStore(str(tmp_path), 10**9)
    train(task, planned(task, schedule(8, 6, 6)), seed=1, store=store)
    plan = planned(task, schedule(8, 8, 4))
    with_store = train(task, plan, seed=1, store=store)
    assert with_store.executed_flops < with_store.flops
    assert same_weights(train(task, plan, seed=1).model, with_store.model)


def test_a_key_depends_on_what_training_depends_on_and_on_nothing_else(task):
    plan = planned(task, schedule(8, 6, 6))
    keys = prefix_keys(task, plan.segments, 1, CPU, False)
    assert len(set(keys)) == len(plan.segments) - 1
    assert keys == prefix_keys(Task(task.spec), plan.segments, 1, CPU, False)
    assert not set(keys) & set(prefix_keys(task, plan.segments, 2, CPU, False))
    assert not set(keys) & set(prefix_keys(task, plan.segments, 1, CPU, True))
    for change in ({"learning_rate": 1e-4}, {"weight_decay": 0.5}, {"optimizer": "sgd"}):
        other = Task(task.spec.model_copy(update={"recipe": task.spec.recipe.model_copy(update=change)}))
        assert not set(keys) & set(prefix_keys(other, plan.segments, 1, CPU, False)), change


def test_a_constant_rate_is_shared_between_budgets_and_a_falling_one_is_not(task):
    def keys(kind: str, budget: str) -> list[str]:
        lr_schedule = LearningRateSchedule(kind=kind, warmup=0, **({"cooldown": 0.2} if kind == "wsd" else {}))
        recipe = task.spec.recipe.model_copy(update={"lr_schedule": lr_schedule})
        changed = Task(task.spec.model_copy(update={"recipe": recipe}))
        full = Schedule.full_model(grid=10)
        return prefix_keys(changed, planned(changed, full, budget).segments, 1, CPU, False)

    # Slots of a tenth of the budget: 5 % of full training each at 50 %, 10 % at 100 %.
    small, large = keys("wsd", "50%"), keys("wsd", "100%")
    assert {small[1], small[3]} <= set(large)
    assert not set(keys("linear", "50%")) & set(keys("linear", "100%"))


def test_a_training_that_is_asked_to_stop_resumes_in_mid_segment_from_the_store(task, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOSS_CHECK_STEPS", 1)
    monkeypatch.setattr(stage_store, "MAX_WRITE_OVERHEAD", -1.0)  # nothing else is written
    store, plan = StageStore(str(tmp_path), 10**9), planned(task, schedule(8, 6, 6))
    trained = []

    def stop_after(steps):
        return lambda: len(trained) >= steps

    def run(stop_requested):
        return train(
            task,
            plan,
            seed=1,
            store=store,
            on_loss_check=lambda progress: trained.append(progress.steps),
            on_segment=lambda progress: trained.append(progress.steps),
            stop_requested=stop_requested,
        )

    ends = [sum(segment.steps for segment in plan.segments[: number + 1]) for number in range(len(plan.segments))]
    for steps in (ends[4] + 1, ends[9]):  # in the middle of a segment, and at the end of one
        with pytest.raises(PreemptedError, match=f"after step {steps} of {plan.steps}; its state is kept"):
            run(stop_after(steps))
        (kept,) = entries(tmp_path)
        assert kept.stem == interrupted_key(task, plan, 1, CPU, False)
    resumed = run(lambda: False)
    assert trained == list(range(1, plan.steps + 1))  # every step once
    assert entries(tmp_path) == []
    assert same_weights(train(task, plan, seed=1).model, resumed.model)
    assert (resumed.executed_flops, resumed.reused_segments) == (plan.flops, 0)
    assert interrupted_key(task, planned(task, schedule(8, 8, 4)), 1, CPU, False) != kept.stem


def test_a_training_whose_state_cannot_be_kept_says_so(task, tmp_path):
    (tmp_path / "file").write_text("in the way")
    store = StageStore(str(tmp_path / "file"), 10**9)
    with (
        pytest.warns(UserWarning, match="cannot be written"),
        pytest.raises(PreemptedError, match="its state could not be kept"),
    ):
        train(task, planned(task, schedule(8, 6, 6)), seed=1, store=store, stop_requested=lambda: True)


def test_damaged_states_are_trained_again_never_trusted(task, tmp_path):
    """Each is damaged in one of four ways."""
    store = StageStore(str(tmp_path), 10**9)
    plan = planned(task, schedule(8, 6, 6))
    first = train(task, plan, seed=1, store=store)
    assert len(entries(tmp_path)) == len(plan.segments) - 1 == 19
    for number, path in enumerate(entries(tmp_path)):
        data = path.read_bytes()
        half = len(data) // 2
        flipped = data[:half] + bytes([data[half] ^ 1]) + data[half + 1 :]
        path.write_bytes((flipped, data[:half], b"", b"cos\nsystem\n")[number % 4])
    again = train(task, plan, seed=1, store=store)
    assert again.executed_flops == again.flops
    assert same_weights(first.model, again.model)
    keys = prefix_keys(task, plan.segments, 1, CPU, False)
    assert store.longest(keys)[0] == len(keys)  # damaged states have been replaced


def test_a_store_stays_below_its_size_and_evicts_the_least_recently_used(tmp_path):
    content = {"model": torch.zeros(25_000)}  # 100 kB
    store = StageStore(str(tmp_path), 350_000)
    for seconds, key in enumerate("abc"):
        store.offer(key, content)
        os.utime(tmp_path / f"{key}.pt", (seconds, seconds))
    assert store.longest(["a"]) is not None  # used again
    store.offer("d", content)
    assert [path.stem for path in entries(tmp_path)] == ["a", "c", "d"]
    assert store.longest(["a", "b", "c", "x"])[0] == 3
    store.clear()
    assert not tmp_path.exists()


def test_a_storage_that_refuses_states_does_not_stop_training(task, tmp_path):
    (tmp_path / "file").write_text("in the way")
    store = StageStore(str(tmp_path / "file"), 10**9)
    plan = planned(task, schedule(8, 6, 6))
    with pytest.warns(UserWarning, match="stage store .*cannot be written; training continues without it") as caught:
        result = train(task, plan, seed=1, store=store)
    assert len([w for w in caught if "stage store" in str(w.message)]) == 1
    assert same_weights(train(task, plan, seed=1).model, result.model)


def test_writing_takes_at_most_a_twentieth_of_the_time(monkeypatch, tmp_path):
    """By a clock on which writing a state takes a second."""
    now = iter(range(10**6))
    monkeypatch.setattr(stage_store, "MAX_WRITE_OVERHEAD", 0.05)
    monkeypatch.setattr(stage_store, "time", SimpleNamespace(perf_counter=lambda: next(now)))
    store = StageStore(str(tmp_path), 10**9)
    assert store.wants()
    store.offer("a", {"model": torch.zeros(1)})
    assert [store.wants() for _ in range(21)] == [False] * 19 + [True] * 2


def test_a_state_of_a_smaller_budget_is_used_at_a_larger_one_with_the_same_bits(task, tmp_path):
    constant = LearningRateSchedule(kind="wsd", warmup=0, cooldown=0.2)
    changed = Task(task.spec.model_copy(update={"recipe": task.spec.recipe.model_copy(update={"lr_schedule": constant})}))
    full = Schedule.full_model(grid=10)
    store = StageStore(str(tmp_path), 10**9)
    train(changed, planned(changed, full, "50%"), seed=1, store=store)
    plan = planned(changed, full, "100%")
    with_store = train(changed, plan, seed=1, store=store)
    assert same_weights(train(changed, plan, seed=1).model, with_store.model)
    # Of ten slots of 10 % the store has the first four (40 % of full training, 80 % of the small budget).
    assert with_store.executed_flops == sum(segment.flops for segment in plan.segments[4:])
    assert [s.steps for s in with_store.segments] == [s.steps for s in plan.segments]


def test_budgets_share_the_trunk_and_end_in_the_same_bits(task, tmp_path, monkeypatch):
    """Three budgets with the boundaries of the smallest: each starts where the cooldown of the one before it began."""
    monkeypatch.setattr(stage_store, "MAX_WRITE_OVERHEAD", -1.0)  # nothing but the ends of trunks is written
    warmup = LearningRateSchedule(kind="wsd", warmup=0.04, warmup_of="full_training")
    changed = Task(task.spec.model_copy(update={"recipe": task.spec.recipe.model_copy(update={"lr_schedule": warmup})}))
    store = StageStore(str(tmp_path), 10**9)
    half = Rates(heads=0.5, mlp=0.5, tokens=0.5)
    shared = (0, 8, 16)  # slots of 2.5 % of full training: 80 % of 25 % and of 50 %
    for number, (budget, slots) in enumerate((("25%", 10), ("50%", 20), ("100%", 40))):
        stages = (Stage(rates=half, duration_ratio=3 / slots), Stage(rates=Rates(), duration_ratio=1 - 3 / slots))
        plan = planned(changed, Schedule(stages=stages, grid=slots), budget)
        assert len(plan.segments) == slots
        without, with_store = train(changed, plan, seed=1), train(changed, plan, seed=1, store=store)
        assert same_weights(without.model, with_store.model), budget
        assert with_store.test == without.test
        assert with_store.reused_segments == shared[number]
        assert with_store.executed_flops == sum(segment.flops for segment in plan.segments[shared[number] :])
        assert len(entries(tmp_path)) == number + 1
