"""Interrupted and resumed runs end in the same bits; checkpoints that do not belong to a run are refused."""

import random
import shutil
import warnings

import pytest
import timm
import torch

from explorer import InvalidInput, Rates, Schedule, Stage
from explorer.spec.staging import Staging
from explorer.spec.task import TaskSpec
from explorer.training.checkpoint import VERSION, load_checkpoint, own_checkpoint, save_checkpoint
from explorer.training.loop import train
from explorer.training.task import Task
from tests.training.runs import Interrupted, assert_resumes_exactly, planned, same_weights


@pytest.mark.parametrize("optimizer", ["adamw", *(pytest.param(name, marks=pytest.mark.nightly) for name in ("sgd", "lamb"))])
def test_a_resumed_run_ends_in_the_same_bits(tiny_spec, three_stages, tmp_path, optimizer):
    """Interrupted in the first stage, in the second, at a stage change, and before the last segment."""
    recipe = tiny_spec.recipe.model_copy(update={"optimizer": optimizer})
    model = tiny_spec.model.model_copy(update={"options": {**tiny_spec.model.options, "drop_path_rate": 0.2}})
    task = Task(tiny_spec.model_copy(update={"recipe": recipe, "model": model}))
    plan = planned(task, three_stages.model_copy(update={"grid": 10}), "25%")
    assert [segment.stage for segment in plan.segments] == [0] * 3 + [1] * 3 + [2] * 4
    assert_resumes_exactly(task, plan, (1, 4, 6, 9), tmp_path)


def test_smaller_images_resume_exactly_and_evaluate_at_full_size(tiny_spec, tmp_path):
    """Images of 8 pixels in patches of 2: stages at 4 and 6 pixels, a quarter and nine sixteenths of the tokens."""
    task = Task(tiny_spec.model_copy(update={"staging": Staging(token_policy="resize")}))
    stages = tuple(Stage(rates=Rates(tokens=rate), duration_ratio=ratio) for rate, ratio in ((0.25, 0.4), (0.5, 0.4), (1, 0.2)))
    plan = planned(task, Schedule(stages=stages, grid=10), "25%")
    assert [stage.rates.tokens for stage in plan.stages()] == [4 / 16, 9 / 16, 1]
    assert plan.stages()[0].step_flops < 0.3 * task.step_cost(Rates()).flops
    straight = assert_resumes_exactly(task, plan, (2, 6), tmp_path)
    plain = timm.create_model(**task.model_arguments())
    plain.load_state_dict(straight.model.state_dict(), strict=True)
    batch = torch.randn(4, 1, 8, 8)
    assert torch.equal(plain.eval()(batch), straight.model(batch))


@pytest.mark.parametrize(
    "staging",
    [
        pytest.param({"subset": "random", "blocks": "even"}, marks=pytest.mark.nightly),
        {"subset": "importance", "growth": "zero"},
        pytest.param({"growth": "copy_normalized", "token_policy": "resize"}, marks=pytest.mark.nightly),
    ],
)
def test_every_kind_of_staging_resumes_exactly(tiny_spec, tmp_path, staging):
    """Four stages of 1, 3, 2 and 4 grid slots, depth among their axes: interrupted at stage changes and within a stage."""
    task = Task(tiny_spec.with_settings(3e-3, tiny_spec.recipe.batch_size, staging))
    levels = [(0.25, 0.5, 1), (0.5, 0.5, 3), (0.5, 1.0, 2), (1.0, 1.0, 4)]
    stages = [
        Stage(rates=Rates(heads=rate, mlp=rate, tokens=rate, depth=depth), duration_ratio=slots / 10)
        for rate, depth, slots in levels
    ]
    plan = planned(task, Schedule(stages=tuple(stages), grid=10), "25%")
    assert len(plan.segments) == 10
    assert_resumes_exactly(task, plan, (1, 3, 4, 6), tmp_path)


def test_a_folder_of_images_trains_and_resumes_exactly(image_folder, three_stages, tmp_path):
    spec = {
        "model": {"name": "vit_tiny_patch16_224", "options": {"patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 4}},
        "data": {"name": "folder", "root": str(image_folder), "image_size": 16},
        "recipe": {"epochs": 8, "batch_size": 9, "learning_rate": 2e-3, "augmentation": {"transform": {"re_prob": 0.25}}},
    }
    task = Task(TaskSpec.model_validate(spec))
    straight = assert_resumes_exactly(task, planned(task, three_stages), (5,), tmp_path)
    assert straight.test > 0.9  # bright against dark images


def test_checkpoints_contain_the_full_model_in_every_stage(tiny_task, three_stages, tmp_path):
    def interrupt(progress):
        raise Interrupted

    with pytest.raises(Interrupted):
        train(tiny_task, planned(tiny_task, three_stages), seed=0, checkpoint=tmp_path / "c.pt", on_segment=interrupt)
    content = load_checkpoint(tmp_path / "c.pt")
    timm.create_model(**tiny_task.model_arguments()).load_state_dict(content["model"], strict=True)


def test_a_checkpoint_of_another_run_is_refused_with_the_first_difference(tiny_spec, three_stages, tmp_path):
    """Half of 71 steps' cost (2 epochs of 1,149 images in batches of 32) in three stages, against each change of it."""
    task = Task(tiny_spec)
    path, plan = tmp_path / "c.pt", planned(task, three_stages)

    def interrupt(progress):
        raise Interrupted

    with pytest.raises(Interrupted):
        train(task, plan, seed=0, checkpoint=path, on_segment=interrupt)

    def refusal(spec=tiny_spec, schedule=three_stages, budget="50%", seed=0, processes=1):
        other = Task(spec)
        with pytest.raises(InvalidInput) as refused:
            own_checkpoint(path, spec, other.data.inventory, planned(other, schedule, budget), seed, processes, mmap=True)
        assert "\n" not in str(refused.value)
        field, values = str(refused.value).split(": differs from the run that wrote this checkpoint: it was ")
        return field.removeprefix(f"{path}: "), values.removesuffix("; remove the checkpoint to start from the beginning")

    def recipe(**changes):
        return tiny_spec.model_copy(update={"recipe": tiny_spec.recipe.model_copy(update=changes)})

    assert refusal(seed=1) == ("'seed'", "0 and is now 1")
    # Another number of processes divides the same batches.
    own_checkpoint(path, tiny_spec, task.data.inventory, plan, 0, 2, mmap=True)
    assert refusal(budget="40%") == ("'budget'", "'50%' and is now '40%'")
    assert refusal(recipe(batch_size=16)) == ("'recipe.batch_size'", "32 and is now 16")
    assert refusal(recipe(learning_rate=1e-3), budget="40%") == ("'recipe.learning_rate'", "0.002 and is now 0.001")
    assert refusal(schedule=Schedule.full_model()) == ("'schedule.stages'", "3 and is now 1")
    wider = (Stage(rates=Rates(heads=0.5, mlp=0.25, tokens=0.25), duration_ratio=0.3), *three_stages.stages[1:])
    assert refusal(schedule=Schedule(stages=wider)) == ("'schedule.stage 1.heads'", "0.25 and is now 0.5")
    assert refusal(schedule=three_stages.model_copy(update={"grid": 10})) == ("'segments'", "20 and is now 10")


def test_a_run_resumes_with_another_number_of_loader_workers_and_from_moved_images(image_folder, tmp_path):
    data = {"name": "folder", "root": str(image_folder), "image_size": 16}
    spec = {
        "model": {"name": "vit_tiny_patch16_224", "options": {"patch_size": 4, "embed_dim": 32, "depth": 1, "num_heads": 4}},
        "data": data,
        "recipe": {"epochs": 2, "batch_size": 9, "learning_rate": 2e-3},
    }
    task = Task(TaskSpec.model_validate(spec))
    plan = planned(task, Schedule.full_model())
    finished = train(task, plan, seed=0, checkpoint=tmp_path / "c.pt")
    shutil.copytree(image_folder, tmp_path / "moved")
    moved = TaskSpec.model_validate({**spec, "data": {**data, "root": str(tmp_path / "moved"), "num_workers": 1}})
    again = train(Task(moved), plan, seed=0, checkpoint=tmp_path / "c.pt")
    assert same_weights(finished.model, again.model)


def rename_a_class(folder):
    for split in ("train", "validation"):
        (folder / split / "bright").rename(folder / split / "light")


def swap_two_images(folder):
    """As many of each class, with the labels of two images exchanged."""
    bright, dark = (folder / "train" / name / "000.png" for name in ("bright", "dark"))
    bright.rename(dark.with_name("x.png"))
    dark.rename(bright.with_name("x.png"))


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (
            rename_a_class,
            "'2 classes': the run that wrote this checkpoint was started with 2 classes (new are light and missing are bright)",
        ),
        (swap_two_images, "54: the run that wrote this checkpoint was started with as many, but their names, sizes or labels"),
    ],
)
def test_a_run_does_not_resume_on_other_data(image_folder, tmp_path, change, refusal):
    """A renamed class changes the order of the labels: the accuracy of the finished model would be that of wrong labels."""
    folder = tmp_path / "images"
    shutil.copytree(image_folder, folder)
    change(folder)
    spec = {
        "model": {"name": "vit_tiny_patch16_224", "options": {"patch_size": 4, "embed_dim": 32, "depth": 1, "num_heads": 4}},
        "recipe": {"epochs": 2, "batch_size": 9, "learning_rate": 2e-3},
    }
    before, after = (
        Task(TaskSpec.model_validate({**spec, "data": {"name": "folder", "root": str(root), "image_size": 16}}))
        for root in (image_folder, folder)
    )
    plan = planned(before, Schedule.full_model())
    train(before, plan, seed=0, checkpoint=tmp_path / "c.pt")
    with pytest.raises(InvalidInput) as refused:
        train(after, plan, seed=0, checkpoint=tmp_path / "c.pt")
    assert refusal in str(refused.value)
    assert "restore the data to resume, or remove the checkpoint" in str(refused.value)


def test_a_checkpoint_of_an_earlier_release_is_refused(tiny_task, three_stages, tmp_path):
    torch.save({"version": 2, "plan": "0123", "seed": 0, "task": "{}", "workers": 1, "segments": []}, tmp_path / "c.pt")
    with pytest.raises(InvalidInput, match=f"has version 2; this release reads version {VERSION}; remove it to start"):
        train(tiny_task, planned(tiny_task, three_stages), seed=0, checkpoint=tmp_path / "c.pt")


def test_a_damaged_checkpoint_is_refused_in_one_line(tmp_path):
    """Truncated anywhere, or with bytes changed anywhere: it is refused, or reads as it was written."""
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
            assert str(load_checkpoint(path)) == str({"version": VERSION, **content})
        except InvalidInput as error:
            refused.append(str(error))
    assert len(refused) > 200
    assert not any("\n" in line for line in refused)


def test_code_in_a_checkpoint_is_not_executed_and_nobody_is_advised_to(tiny_task, three_stages, tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    for protocol in (2, 4):  # torch warns about the second
        torch.save({"version": VERSION, "trap": Trap()}, tmp_path / "c.pt", pickle_protocol=protocol)
        with (
            warnings.catch_warnings(action="error"),
            pytest.raises(InvalidInput, match="cannot be read: it is damaged, or holds more than data") as refused,
        ):
            train(tiny_task, planned(tiny_task, three_stages), seed=0, checkpoint=tmp_path / "c.pt")
        assert "weights_only" not in str(refused.value)
        assert not (tmp_path / "sprung").exists()
