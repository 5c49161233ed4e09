import time
from pathlib import Path

import pytest
import torch

from explorer import Budget, Rates, Schedule, Stage, compile_plan
from explorer.spec.lr_schedule import LearningRateSchedule
from explorer.training import stage_store
from explorer.training.loop import train
from explorer.training.stage_store import StageStore, prefix_keys
from explorer.training.task import Task

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def at_every_boundary(monkeypatch):
    monkeypatch.setattr(stage_store, "PATIENCE", 0)


def schedule(*units: int) -> Schedule:
    """Grid units at .5, .75 and 1 of heads and channels; tokens from .5."""
    rates = (Rates(heads=0.5, mlp=0.5, tokens=0.5), Rates(heads=0.75, mlp=0.75), Rates())
    stages = [Stage(rates=r, duration_ratio=u / 20) for r, u in zip(rates, units, strict=True) if u]
    return Schedule(stages=tuple(stages))


def compiled(task, schedule, budget="50%"):
    return compile_plan(schedule, task, Budget.parse(budget), task.step_cost)


def same_weights(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.fixture
def task(tiny_spec):
    recipe = tiny_spec.recipe.model_copy(update={"epochs": 4})
    model = tiny_spec.model.model_copy(update={"options": {**tiny_spec.model.options, "drop_path_rate": 0.2}})
    return Task(tiny_spec.model_copy(update={"recipe": recipe, "model": model}))


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.pt"))


def test_runs_that_share_end_in_the_same_bits_and_train_only_what_is_new(task, tmp_path):
    """A tree of six schedules: they part within a stage, at a stage change, in the last stage and at the very start."""
    tree = [(8, 6, 6), (8, 8, 4), (8, 0, 12), (12, 4, 4), (0, 10, 10), (8, 6, 6)]
    shared = [0, 14, 8, 8, 0, 19]  # grid units in common with any earlier one; the end itself is not kept
    store = StageStore(str(tmp_path), 10**9)
    for units, known in zip(tree, shared, strict=True):
        todo = compiled(task, schedule(*units))
        assert len(todo.segments) == 20
        alone, together = train(task, todo, seed=1), train(task, todo, seed=1, store=store)
        assert same_weights(alone.model, together.model), units
        assert together.test_accuracy == alone.test_accuracy
        assert (together.flops, alone.executed_flops) == (alone.flops, alone.flops)
        assert together.executed_flops == sum(segment.flops for segment in todo.segments[known:])
        assert [s.stage for s in together.segments] == [s.stage for s in todo.segments]


@pytest.mark.parametrize("staging", [{"subset": "random"}, {"subset": "importance", "growth": "zero"}])
def test_other_ways_of_staging_share_too(task, tmp_path, staging):
    task = Task(task.spec.with_settings(2e-3, 32, staging))
    store = StageStore(str(tmp_path), 10**9)
    train(task, compiled(task, schedule(8, 6, 6)), seed=1, store=store)
    todo = compiled(task, schedule(8, 8, 4))
    together = train(task, todo, seed=1, store=store)
    assert together.executed_flops < together.flops
    assert same_weights(train(task, todo, seed=1).model, together.model)


def test_what_training_depends_on_is_in_the_key_and_nothing_else(task):
    todo = compiled(task, schedule(8, 6, 6))
    keys = prefix_keys(task, todo.segments, 1, CPU, False)
    assert len(set(keys)) == len(todo.segments) - 1
    assert keys == prefix_keys(Task(task.spec), todo.segments, 1, CPU, False)
    assert not set(keys) & set(prefix_keys(task, todo.segments, 2, CPU, False))
    assert not set(keys) & set(prefix_keys(task, todo.segments, 1, CPU, True))
    for change in ({"learning_rate": 1e-4}, {"weight_decay": 0.5}, {"optimizer": "sgd"}):
        other = Task(task.spec.model_copy(update={"recipe": task.spec.recipe.model_copy(update=change)}))
        assert not set(keys) & set(prefix_keys(other, todo.segments, 1, CPU, False)), change


def test_a_constant_rate_is_shared_between_budgets_and_a_falling_one_is_not(task):
    def keys(kind: str, budget: str) -> list[str]:
        curve = LearningRateSchedule(kind=kind, warmup=0, **({"cooldown": 0.2} if kind == "wsd" else {}))
        recipe = task.spec.recipe.model_copy(update={"lr_schedule": curve})
        changed = Task(task.spec.model_copy(update={"recipe": recipe}))
        full = Schedule.full_model(grid=10)
        return prefix_keys(changed, compiled(changed, full, budget).segments, 1, CPU, False)

    # 40 % of the budget, in tenths: 5 % of training a unit at 50 %, 10 % at 100 %.
    small, large = keys("wsd", "50%"), keys("wsd", "100%")
    assert {small[1], small[3]} <= set(large)
    assert not set(keys("linear", "50%")) & set(keys("linear", "100%"))


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty", "code"])
def test_a_damaged_state_is_trained_again_never_trusted(task, tmp_path, damage):
    store = StageStore(str(tmp_path), 10**9)
    todo = compiled(task, schedule(8, 6, 6))
    first = train(task, todo, seed=1, store=store)
    for path in entries(tmp_path):
        data = bytearray(path.read_bytes())
        if damage == "flipped":
            data[len(data) // 2] ^= 1
        path.write_bytes(
            {"truncated": bytes(data[: len(data) // 2]), "empty": b"", "code": b"cos\nsystem\n"}.get(damage, bytes(data))
        )
    again = train(task, todo, seed=1, store=store)
    assert again.executed_flops == again.flops
    assert same_weights(first.model, again.model)
    assert train(task, todo, seed=1, store=store).executed_flops < again.flops  # what was damaged has been replaced


def test_the_store_keeps_to_its_size_and_drops_what_was_not_used_for_longest(tmp_path):
    content = {"model": torch.zeros(25_000)}  # 100 kB
    store = StageStore(str(tmp_path), 350_000)
    for key in "abc":
        store.offer(key, content)
        time.sleep(0.02)
    assert store.longest(["a"]) is not None  # used again
    time.sleep(0.02)
    store.offer("d", content)
    assert [path.stem for path in entries(tmp_path)] == ["a", "c", "d"]
    assert store.longest(["a", "b", "c", "x"])[0] == 3
    store.clear()
    assert not tmp_path.exists()


def test_storage_that_refuses_does_not_stop_training(task, tmp_path):
    (tmp_path / "file").write_text("in the way")
    store = StageStore(str(tmp_path / "file"), 10**9)
    todo = compiled(task, schedule(8, 6, 6))
    with pytest.warns(UserWarning, match="stage store .*cannot be written, going on without it") as caught:
        result = train(task, todo, seed=1, store=store)
    assert len([w for w in caught if "stage store" in str(w.message)]) == 1
    assert same_weights(train(task, todo, seed=1).model, result.model)


def test_little_time_is_spent_on_writing(monkeypatch, tmp_path):
    monkeypatch.setattr(stage_store, "PATIENCE", 20)
    store = StageStore(str(tmp_path), 10**9)
    assert store.wants()
    started = time.perf_counter()
    store.offer("a", {"model": torch.zeros(2_500_000)})
    took = time.perf_counter() - started
    assert not store.wants()
    time.sleep(20 * took + 0.05)
    assert store.wants()


def test_a_state_of_a_smaller_budget_goes_on_in_a_larger_one_with_the_same_bits(task, tmp_path):
    curve = LearningRateSchedule(kind="wsd", warmup=0, cooldown=0.2)
    changed = Task(task.spec.model_copy(update={"recipe": task.spec.recipe.model_copy(update={"lr_schedule": curve})}))
    full = Schedule.full_model(grid=10)
    store = StageStore(str(tmp_path), 10**9)
    train(changed, compiled(changed, full, "50%"), seed=1, store=store)
    todo = compiled(changed, full, "100%")
    together = train(changed, todo, seed=1, store=store)
    assert same_weights(train(changed, todo, seed=1).model, together.model)
    # Of ten units of 10 % the store has the first four (40 % of training, 80 % of the small budget).
    assert together.executed_flops == sum(segment.flops for segment in todo.segments[4:])
    assert [s.steps for s in together.segments] == [s.steps for s in todo.segments]
