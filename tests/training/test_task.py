"""What a task accepts, and which models it trains."""

import pytest
import timm

from explorer import InvalidInput, Rates, Schedule, Stage
from explorer.elastic import ElasticModel
from explorer.spec.staging import Staging
from explorer.spec.task import TaskSpec
from explorer.training.loop import train
from explorer.training.task import Task
from tests.training.runs import planned

PYRAMID = {"name": "pvt_v2_b0", "options": {"embed_dims": (16, 16, 40, 32), "depths": (1, 1, 1, 1)}}
"""A pyramid with 1, 2, 5 and 8 heads; timm's class takes no `img_size`."""


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
        ({"model": {"name": "vit_tiny_patch16_224"}}, r"data\.image_size: 8: vit_tiny_patch16_224 .* cannot process"),
        (
            {"recipe": {"epochs": 1, "batch_size": 32, "learning_rate": 1e-3, "optimizer": "adafactor"}},
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
