"""torchvision's and transformers' models pass the checks of timm's families, and train as a task."""

import math

import pytest
import torch

from explorer import Budget, InvalidInput, Rates, compile_plan
from explorer.elastic import ElasticModel
from explorer.elastic.testing import CHECKS, check_model
from explorer.errors import validated
from explorer.spec.task import TaskSpec
from explorer.training.loop import train
from explorer.training.task import Task
from tests.elastic.families_other_libraries import FAMILIES, HF, build

pytest.importorskip("transformers", minversion="5.0")
HF_VIT = "transformers:ViTForImageClassification"
ISOTROPIC = [label for label in FAMILIES if "swin" not in label or "swiglu" in label]


@pytest.mark.parametrize("label", FAMILIES)
def test_a_family_passes_all_checks(label):
    passed = check_model(lambda: build(label), (2, 3, 32, 32))
    left_out = ["checkpointing", *([] if label in ISOTROPIC else ["depth"])]  # the first is timm's own
    assert passed == [check.__name__ for check in CHECKS if not any(word in check.__name__ for word in left_out)]
    elastic = ElasticModel(build(label), image_size=32)
    assert elastic.unknown == ()
    assert elastic.axes == (("heads", "mlp", "tokens", "depth") if label in ISOTROPIC else ("heads", "mlp"))


@pytest.mark.parametrize("label", ISOTROPIC)
def test_tokens_are_dropped_and_blocks_left_out(label):
    model = build(label).train()
    elastic = ElasticModel(model, image_size=32)
    seen = []
    name = next(name for name, _ in model.named_modules() if name.endswith((".attention", ".self_attention")))
    model.get_submodule(name).register_forward_hook(lambda _, __, output: seen.append(output[0].shape[1]))
    elastic.set_rates(Rates(tokens=0.25, depth=0.5))
    model(torch.zeros(2, 3, 32, 32))
    assert seen == [4 + (2 if "deit" in label else 1)]  # of 16 patches, with class and distillation tokens
    elastic.set_rates(Rates())
    model(torch.zeros(2, 3, 32, 32))
    assert seen[1] == 16 + (2 if "deit" in label else 1)


def task_of(spec: TaskSpec, **model) -> Task:
    return Task(validated(TaskSpec, {**spec.model_dump(), "model": model}, "task"))


def test_a_model_of_transformers_trains_in_stages_and_starts_from_weights(tiny_spec, three_stages, tmp_path):
    options = {**HF, "patch_size": 2, "hidden_size": 32}
    source = task_of(tiny_spec, name=HF_VIT, options=options).build_model()
    state = source.state_dict()
    state["classifier.weight"], state["classifier.bias"] = torch.zeros(7, 32), torch.zeros(7)
    torch.save(state, tmp_path / "w.bin")
    spec = validated(
        TaskSpec, {**tiny_spec.model_dump(), "recipe": {**tiny_spec.recipe.model_dump(), "ema_decay": 0.9}}, "task"
    )
    task = task_of(spec, name=HF_VIT, options=options, checkpoint=str(tmp_path / "w.bin"))
    task.check()
    assert "classifier.weight is new: that of the file is for 7 classes" in task.warnings[0]
    assert torch.equal(task.build_model().vit.layers[1].mlp.fc1.weight, source.vit.layers[1].mlp.fc1.weight)
    plan = compile_plan(three_stages, task, Budget(0.1), task.step_cost)
    result = train(task, plan, seed=0)
    assert result.steps == plan.steps
    assert all(math.isfinite(segment.mean_loss) for segment in result.segments)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"name": "transformers:NoSuchModel"}, "model.name: 'transformers:NoSuchModel': the module transformers has no"),
        ({"name": HF_VIT, "pretrained": True}, "model.pretrained: True: downloads timm's weights, and .* use model.checkpoint"),
        ({"name": "torchvision.models:vit_b_16"}, "take images of 3 channels, and those of this data have 1"),
        ({"name": "math:pi"}, "model.name: 'math:pi': must be a class or function that builds a model"),
        ({"name": "builtins:dict"}, "must build a torch.nn.Module, and returns dict"),
        (
            {"name": HF_VIT, "options": {"num_hidden_layer": 5}},
            "model.options.num_hidden_layer: 5: ViTConfig has no such value; did you mean 'num_hidden_layers'",
        ),
        (
            {"name": HF_VIT, "options": {"hidden_act": "none"}},
            "model.options: .*ViTForImageClassification cannot be built: KeyError",
        ),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(model, message, tiny_spec):
    with pytest.raises(InvalidInput, match=message) as caught:
        task_of(tiny_spec, **model).check()
    assert "\n" not in str(caught.value)
