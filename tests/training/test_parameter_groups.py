"""Weight decay, layer decay, frozen parts and clipping: what applies to which parameters, through stages and resumes."""

import pytest
import torch
from timm.optim import create_optimizer_v2

from explorer import InvalidInput, Rates, Schedule, Stage
from explorer.spec.recipe import FrozenParts, Recipe
from explorer.training.distributed import SINGLE_PROCESS
from explorer.training.steps import training_steps
from explorer.training.task import Task
from explorer.training.training_state import TrainingState
from tests.training.runs import assert_resumes_exactly, planned

CPU = torch.device("cpu")
RECIPE = {"epochs": 1, "batch_size": 32, "learning_rate": 1e-3}


def task_with(spec, **recipe) -> Task:
    content = {**spec.recipe.model_dump(), **recipe}
    return Task(spec.model_copy(update={"recipe": Recipe.model_validate(content)}))


def of_each_parameter(model, optimizer, key):
    """A value of each parameter's group, by name."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(parameter)]: group[key] for group in optimizer.param_groups for parameter in group["params"]}


@pytest.mark.parametrize("layer_decay", [None, 0.75])
def test_groups_are_those_of_timm(tiny_spec, layer_decay):
    task = task_with(tiny_spec, layer_decay=layer_decay)
    model = task.build_model()
    theirs = create_optimizer_v2(model, "adamw", lr=2e-3, weight_decay=0.05, layer_decay=layer_decay)
    ours = task.build_optimizer(model)
    for key in ("weight_decay", *(["lr_scale"] if layer_decay else [])):
        assert of_each_parameter(model, ours, key) == of_each_parameter(model, theirs, key)


def test_biases_norms_and_positions_decay_only_if_asked(tiny_spec):
    model = Task(tiny_spec).build_model()
    decays = {}
    for exempt in (True, False):
        for layer_decay in (None, 0.5):
            task = task_with(tiny_spec, no_weight_decay=exempt, layer_decay=layer_decay)
            decays[exempt, layer_decay] = of_each_parameter(model, task.build_optimizer(model), "weight_decay")
    for layer_decay in (None, 0.5):
        exempted = {name for name, decay in decays[True, layer_decay].items() if decay == 0}
        assert {"pos_embed", "cls_token", "norm.weight", "blocks.1.attn.qkv.bias"} <= exempted
        assert "blocks.1.attn.qkv.weight" not in exempted
        assert set(decays[False, layer_decay].values()) == {0.05}


def test_each_layer_keeps_its_learning_rate_through_stages(tiny_spec, three_stages):
    """Embedding, two blocks, head: factors of .5 cubed, squared, .5 and 1 on the peak of 2e-3, at each stage's first step."""
    task = task_with(tiny_spec, layer_decay=0.5)
    plan = planned(task, three_stages, "25%")
    state = TrainingState(task, 0, CPU, SINGLE_PROCESS)
    for segment in (plan.segments[0], plan.segments[-1]):
        state.begin(segment)
        next(training_steps(task, state, segment, task.train_batches(0, 0, 1, CPU)))
        rates = of_each_parameter(state.model, state.optimizer, "lr")
        factor = 2e-3 * segment.learning_rate_factor(0)
        for name, scale in {
            "patch_embed.proj.weight": 0.125,
            "blocks.0.mlp.fc1.weight": 0.25,
            "blocks.1.mlp.fc1.weight": 0.5,
            "head.weight": 1.0,
        }.items():
            assert rates[name] == pytest.approx(scale * factor), name


def test_frozen_parts_keep_their_weights_until_their_share_of_the_budget_is_spent(tiny_spec, three_stages, tmp_path):
    parts = ("patch_embed", "blocks.0")
    task = task_with(tiny_spec, frozen={"parts": parts, "until": 0.45}, optimizer="adan", layer_decay=0.75)
    plan = planned(task, three_stages, "25%")  # 20 slots: the first that begins at .45 or later is number 9
    assert [segment.frozen for segment in plan.segments] == [segment.start_time < 0.45 for segment in plan.segments]
    frozen = sum(segment.frozen for segment in plan.segments)
    assert 0 < frozen < len(plan.segments)
    assert_resumes_exactly(task, plan, (1, frozen, frozen + 1), tmp_path)
    state = TrainingState(task, 0, CPU, SINGLE_PROCESS)
    initial = {name: value.clone() for name, value in state.model.state_dict().items()}
    for number, segment in enumerate(plan.segments[: frozen + 1]):
        state.begin(segment)
        list(training_steps(task, state, segment, task.train_batches(0, 0, segment.steps, CPU)))
        with state.content() as content:
            of_parts = {name: value for name, value in content["model"].items() if name.startswith(parts)}
            unchanged = [torch.equal(value, initial[name]) for name, value in of_parts.items()]
            assert all(unchanged) if number < frozen else not any(unchanged), number
            assert not torch.equal(content["model"]["blocks.1.mlp.fc2.weight"], initial["blocks.1.mlp.fc2.weight"])


def test_parts_that_are_frozen_throughout_do_not_change_while_they_grow(tiny_spec, three_stages):
    task = task_with(tiny_spec, frozen={"parts": ["blocks.0", "pos_embed"]})
    plan = planned(task, three_stages, "10%")
    assert all(segment.frozen for segment in plan.segments)
    state = TrainingState(task, 0, CPU, SINGLE_PROCESS)
    initial = {name: value.clone() for name, value in state.model.state_dict().items()}
    for segment in plan.segments:
        state.begin(segment)
        list(training_steps(task, state, segment, task.train_batches(0, 0, segment.steps, CPU)))
    for name, value in state.model.state_dict().items():
        assert torch.equal(value, initial[name]) == name.startswith(("blocks.0.", "pos_embed")), name


@pytest.mark.parametrize("until", [1.0, 0.4])
def test_a_run_that_is_interrupted_before_a_growth_grows_frozen_parts_the_same(tiny_spec, tmp_path, until):
    """Frozen to the end or until they grow, and in the average too: from the checkpoint they must not start from copies."""
    task = task_with(tiny_spec, frozen={"parts": ["blocks"], "until": until}, ema_decay=0.9)
    stages = (
        Stage(rates=Rates(heads=0.5, mlp=0.5, depth=0.5), duration_ratio=0.4),
        Stage(rates=Rates(), duration_ratio=0.6),
    )
    plan = planned(task, Schedule(stages=stages, grid=5), "25%")
    assert [segment.stage for segment in plan.segments] == [0, 0, 1, 1, 1]
    result = assert_resumes_exactly(task, plan, (1, 2, 3), tmp_path)
    torch.manual_seed(1)
    initial = task.build_model().state_dict()
    for name, value in result.model.state_dict().items():
        assert torch.equal(value, initial[name]) == (until == 1 and name.startswith("blocks.")), name


def test_plans_and_keys_know_which_segments_are_frozen(tiny_spec, three_stages):
    plans = {
        until: planned(
            task_with(tiny_spec, **({"frozen": {"parts": ["patch_embed"], "until": until}} if until else {})), three_stages
        )
        for until in (None, 0.3, 0.5)
    }
    assert len({plan.digest() for plan in plans.values()}) == 3
    first, last = plans[0.3].segments[0], plans[0.3].segments[-1]
    assert first.what_is_trained == f"{plans[None].segments[0].what_is_trained} frozen"
    assert last.what_is_trained == plans[None].segments[-1].what_is_trained


def test_settings_at_their_defaults_are_not_written():
    assert not {"no_weight_decay", "layer_decay", "frozen", "clip_mode"} & set(Recipe.model_validate(RECIPE).model_dump())
    written = Recipe.model_validate({**RECIPE, "layer_decay": 0.75, "frozen": {"parts": ["blocks.0"]}}).model_dump(mode="json")
    assert Recipe.model_validate(written).frozen == FrozenParts(parts=("blocks.0",))
    assert written["layer_decay"] == 0.75


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (
            {"frozen": {"parts": ["block.0"]}},
            r"recipe\.frozen\.parts: 'block\.0': the model has no such part with parameters; did you mean blocks\.0\?",
        ),
        (
            {"frozen": {"parts": ["stem"]}},
            r"recipe\.frozen\.parts: 'stem': .* it consists of cls_token, pos_embed, patch_embed",
        ),
        (
            {"frozen": {"parts": ["cls_token", "pos_embed", "patch_embed", "blocks", "norm", "head"]}},
            r"recipe\.frozen\.parts: .*: freezes the whole model; something must be trained",
        ),
    ],
)
def test_parts_that_cannot_be_frozen_are_refused(tiny_spec, recipe, message):
    with pytest.raises(InvalidInput, match=message):
        task_with(tiny_spec, **recipe).check()


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"layer_decay": 0}, r"layer_decay\n.*greater than 0"),
        ({"layer_decay": 1.1}, r"layer_decay\n.*less than or equal to 1"),
        ({"frozen": {"parts": [], "until": 0.5}}, r"frozen\.parts"),
        ({"frozen": {"parts": ["head"], "until": 1.5}}, r"frozen\.until"),
        ({"clip_mode": "agc"}, "clip_mode: agc needs clip_grad, which is not set"),
    ],
)
def test_settings_out_of_range_are_refused(recipe, message):
    with pytest.raises(ValueError, match=message):
        Recipe.model_validate({**RECIPE, **recipe})


def changes_in_a_step(spec, three_stages, **recipe):
    """The change of each parameter in one step of SGD at a learning rate of 1, and its values before, by name."""
    task = task_with(spec, optimizer="momentum", learning_rate=1.0, weight_decay=0.0, **recipe)
    segment = planned(task, three_stages, "10%").segments[0]
    state = TrainingState(task, 0, CPU, SINGLE_PROCESS)
    state.begin(segment)
    before = {name: value.detach().clone() for name, value in state.model.named_parameters()}
    next(training_steps(task, state, segment, task.train_batches(0, 0, 1, CPU)))
    return {name: (value.detach() - before[name], before[name]) for name, value in state.model.named_parameters()}


def test_clipping_by_value_limits_each_gradient(tiny_spec, three_stages):
    changes = changes_in_a_step(tiny_spec, three_stages, clip_grad=1e-3, clip_mode="value")
    largest = max(change.abs().max().item() for change, _ in changes.values())
    assert largest == pytest.approx(1e-3, rel=1e-3)


def test_clipping_by_norm_limits_all_gradients_together(tiny_spec, three_stages):
    changes = changes_in_a_step(tiny_spec, three_stages, clip_grad=1e-3)
    total = torch.cat([change.flatten() for change, _ in changes.values()]).norm().item()
    assert total == pytest.approx(1e-3, rel=1e-3)


def test_adaptive_clipping_limits_each_unit_by_its_weights_but_not_the_head(tiny_spec, three_stages):
    changes = changes_in_a_step(tiny_spec, three_stages, clip_grad=1e-3, clip_mode="agc")
    change, weight = changes["blocks.1.mlp.fc2.weight"]
    assert torch.all(change.norm(dim=1) <= 1.001e-3 * weight.norm(dim=1))
    change, weight = changes["head.weight"]
    assert torch.any(change.norm(dim=1) > 2e-3 * weight.norm(dim=1))


def test_layer_decay_of_a_model_that_timm_does_not_divide_is_refused(tiny_spec, monkeypatch):
    task = task_with(tiny_spec, layer_decay=0.75)
    monkeypatch.setattr("timm.models.VisionTransformer.group_matcher", lambda self, coarse=False: {"stem": r".*"})
    with pytest.raises(
        InvalidInput, match=r"recipe\.layer_decay: 0\.75: changes nothing: timm assigns all parameters of vit_tiny"
    ):
        task.check()
