import itertools
import json
import math
import random
import shutil
import time
import warnings
from types import SimpleNamespace

import pytest
import timm
import torch

from explorer import Budget, InvalidInput, Rates, Schedule, Stage, compile_plan
from explorer.elastic import ElasticModel
from explorer.spec.staging import Staging
from explorer.spec.task import TaskSpec
from explorer.training import loop
from explorer.training.checkpoint import load_checkpoint, own_checkpoint, save_checkpoint
from explorer.training.distributed import Processes
from explorer.training.loop import DivergedError, train
from explorer.training.task import Task


def planned(task, schedule, budget="50%"):
    return compile_plan(schedule, task, Budget.parse(budget), task.step_cost)


def same_weights(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_a_run_executes_its_plan_and_learns(tiny_spec, three_stages):
    task = Task(tiny_spec.model_copy(update={"recipe": tiny_spec.recipe.model_copy(update={"epochs": 12})}))
    compiled = planned(task, three_stages)
    result = train(task, compiled, seed=0)
    assert (result.steps, result.flops) == (compiled.steps, compiled.flops)
    assert [s.steps for s in result.segments] == [s.steps for s in compiled.segments]
    assert result.segments[-1].mean_loss < result.segments[0].mean_loss
    assert result.test_accuracy > 0.4  # guessing gives 0.1
    assert result.seconds > 0
    assert result.evaluation_seconds > 0


def test_the_finished_model_is_plain_timm(tiny_task, three_stages):
    result = train(tiny_task, planned(tiny_task, three_stages), seed=0)
    plain = timm.create_model(**tiny_task.model_arguments())
    plain.load_state_dict(result.model.state_dict(), strict=True)
    images = torch.randn(4, 1, 8, 8)
    assert torch.equal(plain.eval()(images), result.model(images))


def test_same_seed_same_weights_and_another_seed_others(tiny_task, three_stages):
    compiled = planned(tiny_task, three_stages)
    one, again, other = (train(tiny_task, compiled, seed=seed) for seed in (3, 3, 4))
    assert same_weights(one.model, again.model)
    assert one.validation_accuracy == again.validation_accuracy
    assert not same_weights(one.model, other.model)


class Stop(Exception):
    pass


def stopped_and_resumed(task, compiled, stop_after, checkpoint):
    """Stop a run with seed 1 after some segments, and go on from its checkpoint."""

    def stop(progress):
        if len(progress.segments) == stop_after:
            raise Stop

    with pytest.raises(Stop):
        train(task, compiled, seed=1, checkpoint=checkpoint, on_segment=stop)
    torch.rand(5)
    seen = []
    resumed = train(
        task, compiled, seed=1, checkpoint=checkpoint, on_segment=lambda progress: seen.append(len(progress.segments))
    )
    assert seen[0] == stop_after + 1
    return resumed


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lamb"])
def test_stop_and_resume_end_in_bit_identical_weights(tiny_spec, three_stages, tmp_path, optimizer):
    """Stops: in the first stage, in the second, at a stage change, before the last segment."""
    recipe = tiny_spec.recipe.model_copy(update={"optimizer": optimizer})
    model = tiny_spec.model.model_copy(update={"options": {**tiny_spec.model.options, "drop_path_rate": 0.2}})
    task = Task(tiny_spec.model_copy(update={"recipe": recipe, "model": model}))
    compiled = planned(task, three_stages)
    assert len(compiled.segments) == 20
    straight = train(task, compiled, seed=1)
    for stop_after in (1, 7, 12, 19):
        resumed = stopped_and_resumed(task, compiled, stop_after, tmp_path / f"{stop_after}.pt")
        assert same_weights(straight.model, resumed.model)
        assert (resumed.steps, resumed.flops) == (straight.steps, straight.flops)
        assert resumed.test_accuracy == straight.test_accuracy


@pytest.mark.parametrize("stop_after", [2, 6])
def test_smaller_images_resume_exactly_and_evaluate_at_full_size(tiny_spec, tmp_path, stop_after):
    """Images of 8 pixels in patches of 2: stages at 4 and 6 pixels, a quarter and nine sixteenths of the tokens."""
    spec = tiny_spec.model_copy(update={"staging": Staging(token_policy="resize")})
    task = Task(spec)
    stages = tuple(Stage(rates=Rates(tokens=rate), duration_ratio=ratio) for rate, ratio in ((0.25, 0.4), (0.5, 0.4), (1, 0.2)))
    compiled = planned(task, Schedule(stages=stages, grid=10))
    assert [row.rates.tokens for row in compiled.stages()] == [4 / 16, 9 / 16, 1]
    assert compiled.stages()[0].step_flops < 0.3 * task.step_cost(Rates()).flops
    straight = train(task, compiled, seed=1)

    resumed = stopped_and_resumed(task, compiled, stop_after, tmp_path / "c.pt")
    assert same_weights(straight.model, resumed.model)
    plain = timm.create_model(**task.model_arguments())
    plain.load_state_dict(resumed.model.state_dict(), strict=True)
    batch = torch.randn(4, 1, 8, 8)
    assert torch.equal(plain.eval()(batch), resumed.model(batch))


def test_the_token_policy_is_the_tasks_and_checked_before_training(tiny_spec):
    half = Rates(tokens=0.5)
    dropping = Task(tiny_spec).step_cost(half)
    resizing = Task(tiny_spec.model_copy(update={"staging": Staging(token_policy="resize")})).step_cost(half)
    assert (dropping.rates.tokens, resizing.rates.tokens) == (0.5, 9 / 16)
    assert dropping.flops < resizing.flops
    model = {"name": "pvt_v2_b0", "options": {"embed_dims": (16, 16, 40, 32), "depths": (1, 1, 1, 1)}}
    change = {"model": model, "data": {"name": "digits", "image_size": 64}, "staging": {"token_policy": "drop"}}
    pyramid = Task(TaskSpec.model_validate({**tiny_spec.model_dump(), **change}))
    with pytest.raises(InvalidInput, match=r"staging\.token_policy: 'drop': Pyramid.* has no place to drop tokens; use resize"):
        pyramid.step_cost(half)


@pytest.mark.parametrize(
    "staging",
    [
        {"subset": "random", "blocks": "even"},
        {"subset": "importance", "growth": "zero"},
        {"growth": "zero", "token_policy": "resize"},
    ],
)
def test_every_way_of_staging_resumes_in_bit_identical_weights(tiny_spec, tmp_path, staging):
    """Four stages of 3, 5, 5 and 7 grid units, depth among them: stops at and within stages."""
    task = Task(tiny_spec.with_settings(3e-3, tiny_spec.recipe.batch_size, staging))
    levels = [(0.25, 0.5, 3), (0.5, 0.5, 5), (0.5, 1.0, 5), (1.0, 1.0, 7)]
    stages = [
        Stage(rates=Rates(heads=rate, mlp=rate, tokens=rate, depth=depth), duration_ratio=units / 20)
        for rate, depth, units in levels
    ]
    compiled = planned(task, Schedule(stages=tuple(stages)))
    assert len(compiled.segments) == 20
    straight = train(task, compiled, seed=1)
    for stop_after in (3, 8, 9, 13):
        resumed = stopped_and_resumed(task, compiled, stop_after, tmp_path / f"{stop_after}.pt")
        assert same_weights(straight.model, resumed.model)


def test_checkpoints_hold_the_full_model_at_any_stage(tiny_task, three_stages, tmp_path):
    def stop(progress):
        raise Stop

    with pytest.raises(Stop):
        train(tiny_task, planned(tiny_task, three_stages), seed=0, checkpoint=tmp_path / "c.pt", on_segment=stop)
    content = load_checkpoint(tmp_path / "c.pt")
    timm.create_model(**tiny_task.model_arguments()).load_state_dict(content["model"], strict=True)


def test_a_checkpoint_of_another_run_is_refused_by_what_differs_first(tiny_spec, three_stages, tmp_path):
    """Half of 71 steps' cost (2 epochs of 1,149 images in batches of 32) in three stages, against each change of it."""
    task = Task(tiny_spec)
    path, compiled = tmp_path / "c.pt", planned(task, three_stages)
    train(task, compiled, seed=0, checkpoint=path)

    def refusal(spec=tiny_spec, schedule=three_stages, budget="50%", seed=0, workers=1):
        other = Task(spec)
        with pytest.raises(InvalidInput) as refused:
            own_checkpoint(path, spec, planned(other, schedule, budget), seed, workers, mmap=True)
        first, another = str(refused.value).split(" the checkpoint belongs to a run with another one: ")
        assert "\n" not in another
        return first.removeprefix(f"{path}: ") + another.removesuffix("; remove it to start anew")

    def recipe(**changes):
        return tiny_spec.model_copy(update={"recipe": tiny_spec.recipe.model_copy(update=changes)})

    assert refusal(seed=1) == "'seed':0, now 1"
    assert refusal(workers=2) == "'workers':1, now 2"
    assert refusal(budget="40%") == "'budget':'50%', now '40%'"
    assert refusal(recipe(batch_size=16)) == "'recipe.batch_size':32, now 16"
    assert refusal(recipe(learning_rate=1e-3), budget="40%") == "'recipe.learning_rate':0.002, now 0.001"
    assert refusal(schedule=Schedule.full_model()) == "'schedule.stages':3, now 1"
    wider = (Stage(rates=Rates(heads=0.5, mlp=0.25, tokens=0.25), duration_ratio=0.3), *three_stages.stages[1:])
    assert refusal(schedule=Schedule(stages=wider)) == "'schedule.stage 1.heads':0.25, now 0.5"
    assert refusal(schedule=three_stages.model_copy(update={"grid": 10})) == "'segments':20, now 10"


def test_a_run_goes_on_with_other_workers_of_its_loader_and_where_its_images_were_moved_to(image_folder, tmp_path):
    data = {"name": "folder", "root": str(image_folder), "image_size": 16}
    spec = {
        "model": {"name": "vit_tiny_patch16_224", "options": {"patch_size": 4, "embed_dim": 32, "depth": 1, "num_heads": 4}},
        "data": data,
        "recipe": {"epochs": 2, "batch_size": 9, "learning_rate": 2e-3},
    }
    task = Task(TaskSpec.model_validate(spec))
    compiled = planned(task, Schedule.full_model())
    done = train(task, compiled, seed=0, checkpoint=tmp_path / "c.pt")
    shutil.copytree(image_folder, tmp_path / "moved")
    moved = Task(TaskSpec.model_validate({**spec, "data": {**data, "root": str(tmp_path / "moved"), "workers": 1}}))
    again = train(moved, compiled, seed=0, checkpoint=tmp_path / "c.pt")
    assert same_weights(done.model, again.model)


def test_a_checkpoint_of_an_earlier_release_is_refused(tiny_task, three_stages, tmp_path):
    torch.save({"version": 2, "plan": "0123", "seed": 0, "task": "{}", "workers": 1, "segments": []}, tmp_path / "c.pt")
    with pytest.raises(InvalidInput, match="is of version 2; this release reads version 3: remove it to start anew"):
        train(tiny_task, planned(tiny_task, three_stages), seed=0, checkpoint=tmp_path / "c.pt")


def test_a_damaged_checkpoint_is_refused_in_one_line(tmp_path):
    """Cut off anywhere, or with bytes changed anywhere: it is refused, or reads as it was written."""
    path, content = tmp_path / "c.pt", {"run": {"seed": 0}, "model": {"a": torch.ones(3, 3), "b": torch.ones(2)}}
    save_checkpoint(path, content)
    written, generator, refused = path.read_bytes(), random.Random(0), []
    for number in range(300):
        damaged = bytearray(written)
        if number % 3:
            for _ in range(number % 7 + 1):
                damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        else:
            del damaged[generator.randrange(len(damaged)) :]
        path.write_bytes(damaged)
        try:
            assert str(load_checkpoint(path)) == str({"version": 3, **content})
        except InvalidInput as error:
            refused.append(str(error))
    assert len(refused) > 200
    assert not any("\n" in line for line in refused)


def test_a_checkpoint_with_code_is_not_executed_and_nobody_told_to(tiny_task, three_stages, tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    for protocol in (2, 4):  # torch warns of the second
        torch.save({"version": 3, "trap": Trap()}, tmp_path / "c.pt", pickle_protocol=protocol)
        with (
            warnings.catch_warnings(action="error"),
            pytest.raises(InvalidInput, match="cannot be read: it is damaged, or holds more than data") as refused,
        ):
            train(tiny_task, planned(tiny_task, three_stages), seed=0, checkpoint=tmp_path / "c.pt")
        assert "weights_only" not in str(refused.value)
        assert not (tmp_path / "sprung").exists()


def test_slow_steps_are_looked_at_by_the_clock(tiny_task, monkeypatch):
    """Steps of 20 ms and a bit, looks every 100: after at most 5 steps, and not after each."""
    step = torch.optim.AdamW.step

    def slow(self, *arguments):
        time.sleep(0.02)
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", slow)
    monkeypatch.setattr(loop, "LOOK_SECONDS", 0.1)
    compiled = planned(tiny_task, Schedule(stages=Schedule.full_model().stages, grid=1), "100%")
    assert [segment.steps for segment in compiled.segments] == [71]
    looks = [0]
    train(tiny_task, compiled, seed=0, on_loss_check=lambda progress: looks.append(progress.steps))
    pauses = [after - before for before, after in itertools.pairwise(looks)]
    assert max(pauses) <= 5
    assert sorted(pauses)[len(pauses) // 2] > 1
    monkeypatch.undo()
    looks = []
    train(tiny_task, compiled, seed=0, on_loss_check=lambda progress: looks.append(progress.steps))
    assert looks == [50]


def looks_of_a_worker(rank, spec, compiled, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    looks = []
    if rank:
        loop.time = SimpleNamespace(perf_counter=lambda: 1000 * time.perf_counter())
    train(Task(spec), compiled, seed=0, workers=Processes(rank, 2), on_loss_check=lambda progress: looks.append(progress.steps))
    (folder / f"{rank}.json").write_text(json.dumps(looks))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_workers_look_together_though_the_clock_of_one_is_fast(tiny_spec, tmp_path):
    """By the second's clock, each step takes seconds: alone it would look at every one."""
    spec = tiny_spec.model_copy(update={"staging": Staging(token_policy="resize")})
    compiled = planned(Task(spec), Schedule(stages=Schedule.full_model().stages, grid=1), "100%")
    torch.multiprocessing.spawn(looks_of_a_worker, (spec, compiled, tmp_path), nprocs=2)
    assert [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)] == [[50], [50]]


def test_a_loss_that_is_not_finite_stops_the_run(tiny_spec, three_stages):
    recipe = tiny_spec.recipe.model_copy(update={"learning_rate": 1e9, "optimizer": "sgd", "clip_grad": None})
    task = Task(tiny_spec.model_copy(update={"recipe": recipe}))
    with pytest.raises(DivergedError, match="not finite by step"):
        train(task, planned(task, three_stages), seed=0)


def test_the_learning_rate_that_the_optimizer_sees_is_the_plans(tiny_task, three_stages, monkeypatch):
    seen = []
    step = torch.optim.AdamW.step

    def spy(self, *arguments):
        seen.append(self.param_groups[0]["lr"])
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    compiled = planned(tiny_task, three_stages)
    train(tiny_task, compiled, seed=0)
    wanted = [2e-3 * s.learning_rate_factor(i) for s in compiled.segments for i in range(s.steps)]
    assert seen == pytest.approx(wanted)
    assert seen[-1] < 2e-3 * 0.1


@pytest.mark.slow
def test_compiled_training_gives_the_same_accuracy_up_to_rounding(tiny_spec, three_stages):
    results = []
    for compiled in (False, True):
        recipe = tiny_spec.recipe.model_copy(update={"compile": compiled})
        task = Task(tiny_spec.model_copy(update={"recipe": recipe}))
        results.append(train(task, planned(task, three_stages), seed=0))
    plain, fast = results
    assert math.isclose(plain.segments[-1].mean_loss, fast.segments[-1].mean_loss, rel_tol=0.02)
    timm.create_model(**task.model_arguments()).load_state_dict(fast.model.state_dict(), strict=True)


def test_bf16_trains_on_the_cpu_too(tiny_spec, three_stages):
    task = Task(tiny_spec.model_copy(update={"recipe": tiny_spec.recipe.model_copy(update={"amp": "bf16"})}))
    result = train(task, planned(task, three_stages), seed=0)
    assert math.isfinite(result.segments[-1].mean_loss)
    assert next(result.model.parameters()).dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"name": "vit_tinny"}}, r"model\.name: 'vit_tinny': timm .* has no such model"),
        ({"model": {"name": "vit_tiny_patch16_224", "options": {"embed_dims": 3}}}, r"model\.options.*embed_dims"),
        ({"model": {"name": "vit_tiny_patch16_224", "options": {"embed_dim": 32}}}, r"model\.options.*divisible by num_heads"),
        ({"model": {"name": "vit_tiny_patch16_224"}}, r"data\.image_size: 8: vit_tiny_patch16_224 .* cannot process"),
        (
            {"recipe": {"epochs": 1, "batch_size": 32, "learning_rate": 1e-3, "optimizer": "adafactor"}},
            r"recipe\.optimizer.*use adamw",
        ),
        ({"recipe": {"epochs": 1, "batch_size": 2000, "learning_rate": 1e-3}}, r"recipe\.batch_size.*at most the 1149"),
    ],
)
def test_impossible_tasks_are_refused_before_training(tiny_spec, change, message):
    spec = type(tiny_spec).model_validate({**tiny_spec.model_dump(), **change})
    with pytest.raises(InvalidInput, match=message):
        Task(spec).check()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("swin_tiny_patch4_window7_224", {"window_size": 4, "embed_dim": 16, "depths": (1, 1), "num_heads": (2, 4)}),
        ("pvt_v2_b0", {"embed_dims": (16, 16, 40, 32), "depths": (1, 1, 1, 1)}),  # takes no img_size
    ],
)
def test_other_families_train_too(tiny_spec, name, options):
    change = {"model": {"name": name, "options": options}, "data": {"name": "digits", "image_size": 32}}
    task = Task(type(tiny_spec).model_validate({**tiny_spec.model_dump(), **change}))
    task.check()
    half = Stage(rates=Rates(heads=0.5, mlp=0.5), duration_ratio=0.5)
    schedule = Schedule(stages=(half, Stage(rates=Rates(), duration_ratio=0.5)), grid=4)
    compiled = planned(task, schedule, "20%")
    result = train(task, compiled, seed=0)
    assert result.flops == compiled.flops
    plain = timm.create_model(**task.model_arguments())
    plain.load_state_dict(result.model.state_dict(), strict=True)


def test_a_pyramid_trains_at_the_size_that_was_costed(tiny_spec, tmp_path, monkeypatch):
    """Heads 1, 2, 5, 8 at .25: 1, 1, 1, 2 of them, .3125 on average, and .3125 of 5 heads would be 2."""
    model = {"name": "pvt_v2_b0", "options": {"embed_dims": (16, 16, 40, 32), "depths": (1, 1, 1, 1)}}
    change = {"model": model, "data": {"name": "digits", "image_size": 32}}
    task = Task(type(tiny_spec).model_validate({**tiny_spec.model_dump(), **change}))
    quarter = Stage(rates=Rates(heads=0.25), duration_ratio=0.5)
    compiled = planned(task, Schedule(stages=(quarter, Stage(rates=Rates(), duration_ratio=0.5)), grid=4), "20%")
    assert compiled.segments[0].rates.heads == 5 / 16
    sizes = []
    set_rates = ElasticModel.set_rates

    def spy(self, *arguments, **how):
        realised = set_rates(self, *arguments, **how)
        sizes.append([stage.blocks[0].attn.num_heads for stage in self.model.stages])
        return realised

    task.step_cost(Rates())
    monkeypatch.setattr(ElasticModel, "set_rates", spy)
    train(task, compiled, seed=0, checkpoint=tmp_path / "c.pt")
    # Also when the model comes back from a checkpoint's full size.
    assert [size for size in sizes if size != [1, 2, 5, 8]]
    assert all(size == [1, 1, 1, 2] for size in sizes if size != [1, 2, 5, 8])


def test_a_folder_of_images_trains_and_resumes_exactly(image_folder, three_stages, tmp_path):
    spec = {
        "model": {"name": "vit_tiny_patch16_224", "options": {"patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 4}},
        "data": {"name": "folder", "root": str(image_folder), "image_size": 16},
        "recipe": {"epochs": 8, "batch_size": 9, "learning_rate": 2e-3, "augmentation": {"transform": {"re_prob": 0.25}}},
    }
    task = Task(TaskSpec.model_validate(spec))
    compiled = planned(task, three_stages)
    straight = train(task, compiled, seed=0)
    assert straight.test_accuracy > 0.9  # bright against dark

    def stop(progress):
        if len(progress.segments) == 5:
            raise Stop

    with pytest.raises(Stop):
        train(task, compiled, seed=0, checkpoint=tmp_path / "c.pt", on_segment=stop)
    resumed = train(task, compiled, seed=0, checkpoint=tmp_path / "c.pt")
    assert same_weights(straight.model, resumed.model)


def test_rates_one_train_exactly_like_a_plain_loop(tiny_task):
    """The baseline is what anyone's loop over plain timm would give."""
    compiled = planned(tiny_task, Schedule.full_model(), "20%")
    ours = train(tiny_task, compiled, seed=0)
    torch.manual_seed(0)
    model = timm.create_model(**tiny_task.model_arguments())
    optimizer = timm.optim.create_optimizer_v2(model, "adamw", lr=2e-3, weight_decay=0.05, fused=True)
    data = tiny_task.train_batches(0, 0, compiled.steps, torch.device("cpu"))
    factors = [s.learning_rate_factor(i) for s in compiled.segments for i in range(s.steps)]
    for (images, labels), factor in zip(data, factors, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * factor
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels, label_smoothing=0.1).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert same_weights(ours.model, model)
    assert tiny_task.step_cost(Rates()).flops * compiled.steps == ours.flops
