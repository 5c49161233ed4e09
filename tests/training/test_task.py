"""What a task accepts, and which models it trains."""

import pytest
import timm

from explorer import InvalidInput, Rates, Schedule, SearchSpace, Stage
from explorer.elastic import ElasticModel
from explorer.spec.staging import Staging
from explorer.spec.task import TaskSpec
from explorer.sweep.probe import FOLDER, Expected, obstacle_here
from explorer.training.loop import train
from explorer.training.task import Task
from tests.conftest import TINY_MODEL
from tests.training.runs import planned

PYRAMID = {"name": "pvt_v2_b0", "options": {"embed_dims": (16, 16, 40, 32), "depths": (1, 1, 1, 1)}}
"""A pyramid with 1, 2, 5 and 8 heads; timm's class takes no `img_size`."""


@pytest.mark.parametrize("option", ["drop_rate", "drop_path_rate", "proj_drop_rate", "attn_drop_rate", "pos_drop_rate"])
def test_options_of_regularization_are_accepted(tiny_spec, option):
    model = {**TINY_MODEL, "options": {**TINY_MODEL["options"], option: 0.1}}
    task = Task(changed(tiny_spec, model=model))
    task.check()
    assert task.model_arguments()[option] == 0.1


def test_small_images_with_values_for_large_ones_are_warned_about(tiny_spec, image_folder):
    data = {"name": "folder", "root": str(image_folder), "image_size": 32}
    recipe = {"epochs": 1, "batch_size": 2, "learning_rate": 1e-3}

    def warnings(data, **transform):
        return Task(changed(tiny_spec, data=data, recipe={**recipe, "augmentation": {"transform": transform}})).warnings

    (warning,) = warnings(data)
    for part in ("32 pixels", "random crops of 8 to 100 %", "color jitter of 0.4", "evaluation crops to 90 % of the side"):
        assert part in warning
    uncropped = {**data, "preprocessing": {"crop_pct": 1}}
    (warning,) = warnings(uncropped, auto_augment="rand-m5-inc1")
    assert "random crops" in warning
    assert "color jitter of" not in warning
    assert "evaluation" not in warning
    assert warnings(uncropped, scale=[0.6, 1], color_jitter=None) == ()
    assert warnings({**data, "image_size": 96}) == ()
    assert Task(tiny_spec).warnings == ()


def test_settings_of_files_are_said_to_have_no_effect_on_digits(tiny_spec):
    data = {"name": "digits", "root": "/data", "skip_files": ["train/1.png"], "num_workers": 0}
    (warning,) = Task(changed(tiny_spec, data=data)).warnings
    assert warning == "data.root, data.skip_files: no effect on digits, which has no files"


def test_growth_by_copies_of_a_pretrained_model_is_said_to_have_no_effect(tiny_spec):
    pretrained = changed(
        tiny_spec, model={**tiny_spec.model.model_dump(), "pretrained": True}, staging={"growth": "copy_normalized"}
    )
    (warning,) = Task(pretrained).warnings
    assert warning == "staging.growth: copy_normalized acts as initial: pretrained weights are not overwritten by copies"
    assert Task(changed(tiny_spec, staging={"growth": "copy_normalized"})).warnings == ()


def test_the_task_says_what_is_done_to_its_images(tiny_spec, image_folder):
    data = {"name": "folder", "root": str(image_folder), "image_size": 32}
    recipe = {"epochs": 1, "batch_size": 2, "learning_rate": 1e-3, "augmentation": {"mixup": 0.2}}
    streamed, resident = (Task(changed(tiny_spec, data=each, recipe=recipe)) for each in (data, {"name": "digits"}))
    assert streamed.augmentation_as_applied.startswith("random crops of 8 to 100 % of the image; horizontal flips")
    assert streamed.augmentation_as_applied.endswith("; mixup (0.2)")
    assert resident.augmentation_as_applied == "mixup (0.2)"
    assert streamed.preprocessing is not None
    assert streamed.preprocessing.crop_pct == 0.9
    assert resident.preprocessing is None


def changed(spec: TaskSpec, **sections) -> TaskSpec:
    return TaskSpec.model_validate({**spec.model_dump(), **sections})


def test_the_token_policy_is_part_of_the_task_and_is_checked_before_training(tiny_spec):
    half = Rates(tokens=0.5)
    dropping = Task(tiny_spec).step_cost(half)
    resizing = Task(tiny_spec.model_copy(update={"staging": Staging(token_policy="resize")})).step_cost(half)
    assert (dropping.rates.tokens, resizing.rates.tokens) == (0.5, 9 / 16)
    assert dropping.flops < resizing.flops
    data = {"name": "digits", "image_size": 64}
    pyramid = Task(changed(tiny_spec, model=PYRAMID, data=data, staging={"token_policy": "drop"}))
    with pytest.raises(InvalidInput, match=r"staging\.token_policy: 'drop': Pyramid.* has no place to drop tokens; use resize"):
        pyramid.step_cost(half)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"name": "vit_tinny"}}, r"model\.name: 'vit_tinny': timm .* has no such model"),
        ({"model": {"name": "vit_tiny_patch16_224", "options": {"embed_dims": 3}}}, r"model\.options.*embed_dims"),
        ({"model": {"name": "vit_tiny_patch16_224", "options": {"embed_dim": 32}}}, r"model\.options.*divisible by num_heads"),
        *(
            (
                {"model": {"name": "vit_tiny_patch16_224", "options": {name: value}}},
                rf"model\.options\.{name}: {value!r}: does not belong here: ",
            )
            for name, value in {"num_classes": 0, "in_chans": 3, "img_size": 8, "features_only": True, "pretrained": 1}.items()
        ),
        (
            {"model": {**TINY_MODEL, "options": {**TINY_MODEL["options"], "class_token": False, "global_pool": ""}}},
            r"model\.options: .*returns \(2, 16, 10\) for 2 images, not scores of shape \(2, 10\)",
        ),
        ({"model": {"name": "vit_tiny_patch16_224"}}, r"data\.image_size: 8: vit_tiny_patch16_224 .* cannot process"),
        (
            {"recipe": {"epochs": 1, "batch_size": 32, "learning_rate": 1e-3, "optimizer": "bnbadam"}},
            r"recipe\.optimizer.*use adamw",
        ),
        ({"recipe": {"epochs": 1, "batch_size": 2000, "learning_rate": 1e-3}}, r"recipe\.batch_size.*at most the 1149"),
    ],
)
def test_impossible_tasks_are_refused_before_training(tiny_spec, change, message):
    with pytest.raises(InvalidInput, match=message):
        Task(changed(tiny_spec, **change)).check()


@pytest.mark.parametrize(
    "model",
    [
        {
            "name": "swin_tiny_patch4_window7_224",
            "options": {"window_size": 4, "embed_dim": 16, "depths": (1, 1), "num_heads": (2, 4)},
        },
        PYRAMID,
    ],
    ids=["swin", "pyramid"],
)
def test_other_families_train_too(tiny_spec, model):
    task = Task(changed(tiny_spec, model=model, data={"name": "digits", "image_size": 32}))
    task.check()
    half = Stage(rates=Rates(heads=0.5, mlp=0.5), duration_ratio=0.5)
    plan = planned(task, Schedule(stages=(half, Stage(rates=Rates(), duration_ratio=0.5)), grid=4), "20%")
    result = train(task, plan, seed=0)
    assert result.flops == plan.flops
    plain = timm.create_model(**task.model_arguments())
    plain.load_state_dict(result.model.state_dict(), strict=True)


def test_a_pyramid_trains_at_the_size_that_was_counted(tiny_spec, tmp_path, monkeypatch):
    """1, 2, 5 and 8 heads at .25: 1, 1, 1, 2 of them, .3125 on average; .3125 of 5 heads would be 2."""
    task = Task(changed(tiny_spec, model=PYRAMID, data={"name": "digits", "image_size": 32}))
    quarter = Stage(rates=Rates(heads=0.25), duration_ratio=0.5)
    plan = planned(task, Schedule(stages=(quarter, Stage(rates=Rates(), duration_ratio=0.5)), grid=4), "20%")
    assert plan.segments[0].rates.heads == 5 / 16
    sizes = []
    set_rates = ElasticModel.set_rates

    def spy(self, *arguments, **options):
        realised = set_rates(self, *arguments, **options)
        sizes.append([stage.blocks[0].attn.num_heads for stage in self.model.stages])
        return realised

    task.step_cost(Rates())
    monkeypatch.setattr(ElasticModel, "set_rates", spy)
    train(task, plan, seed=0, checkpoint=tmp_path / "c.pt")
    # Also when the model returns from a checkpoint's full size.
    reduced = [size for size in sizes if size != [1, 2, 5, 8]]
    assert reduced
    assert all(size == [1, 1, 1, 2] for size in reduced)


def of_pretrained(spec: TaskSpec) -> TaskSpec:
    return changed(spec, model={**spec.model.model_dump(), "pretrained": True})


def of_downloaded_teacher(spec: TaskSpec) -> TaskSpec:
    return changed(spec, objective={"teacher": {"model": "test_vit", "options": {"num_classes": 10, "patch_size": 2}}})


@pytest.mark.parametrize(
    ("asked", "field"), [(of_pretrained, "model.pretrained"), (of_downloaded_teacher, "objective.teacher.model")]
)
def test_a_node_that_cannot_download_weights_gets_no_trials(tiny_spec, space_file, tmp_path, monkeypatch, asked, field):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    Task(tiny_spec).check_downloads()  # has none
    assert Task(asked(tiny_spec)).downloads
    with pytest.raises(InvalidInput, match=rf"^{field}: .*(the weights of|cannot be built)"):
        Task(asked(tiny_spec)).check_downloads()
    space = SearchSpace.load(space_file)
    for spec in (space.task, asked(space.task)):
        expected = Expected(
            space=space.model_copy(update={"task": spec}), location=str(tmp_path), token="token", splits={}, versions={}
        )
        (tmp_path / FOLDER).mkdir(exist_ok=True)
        (tmp_path / FOLDER / "token").write_bytes(b"token")
        obstacle = obstacle_here(expected)
        assert obstacle is None if spec is space.task else obstacle.startswith(f"{field}: ")
