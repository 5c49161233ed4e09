"""A schedule in anyone's training loop: the plan's steps, its learning rates, and the same weights as the trainer's."""

import copy
import inspect
import itertools
from functools import partial
from types import MethodType, SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV2, ModelEmaV3
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from explorer import Budget, InvalidInput, Rates, Schedule, Stage, StagedTraining, compile_plan
from explorer.production.arguments import StagedTrainingSettings
from explorer.spec.lr_schedule import LearningRateSchedule
from explorer.spec.staging import Staging
from explorer.training.loop import train
from explorer.training.task import Task
from tests.production.conftest import WIDTHS
from tests.production.loops import HALVES, one_step, same, small, staged

HALF = Rates(heads=0.5, mlp=0.5, tokens=0.5)
IN_EPOCHS = Schedule(stages=(Stage(rates=HALF, epochs=8), Stage(rates=Rates(), epochs=9)))


def stages_of(staging=None, **settings) -> Schedule:
    """Two stages, the first one with settings of its own."""
    first = Stage.model_validate({"rates": HALF, "duration_ratio": 0.5, **settings})
    return Schedule(stages=(first, Stage(rates=Rates(), duration_ratio=0.5)), staging=staging or {})


MADE_FOR_RESIZING = stages_of({"token_policy": "resize"})


@pytest.mark.parametrize(
    "staging",
    [
        Staging(),
        Staging(subset="importance", growth="copy_normalized"),
        pytest.param(Staging(subset="random"), marks=pytest.mark.nightly),
    ],
)
def test_the_weights_are_those_of_the_trainer(tiny_spec, three_stages, staging):
    task = Task(tiny_spec.model_copy(update={"staging": staging}))
    recipe = task.spec.recipe
    compiled = compile_plan(three_stages, task, Budget(0.2), task.step_cost)
    ours = train(task, compiled, seed=3)

    torch.manual_seed(3)
    model = task.build_model().train()
    optimizer = task.build_optimizer(model)
    full_steps = recipe.epochs * task.train_images / recipe.batch_size
    training = StagedTraining(
        model,
        optimizer,
        three_stages,
        budget="20%",
        full_steps=full_steps,
        batch_size=recipe.batch_size,
        lr_schedule=recipe.lr_schedule,
        image_shape=(1, 8, 8),
        staging=staging,
        seed=3,
    )
    assert [s.steps for s in training.plan.segments] == [s.steps for s in compiled.segments]
    assert training.plan.flops == compiled.flops
    batches = task.train_batches(3, 0, compiled.steps, torch.device("cpu"))
    while training.step():
        images, labels = next(batches)
        loss = functional.cross_entropy(model(images), labels, label_smoothing=recipe.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_grad)
        optimizer.step()
    assert training.done
    assert training.spent == 1
    assert same(model, ours.model)


def test_a_forgotten_batch_size_is_a_type_error():
    model, optimizer = small()
    with pytest.raises(TypeError, match="batch_size"):
        StagedTraining(model, optimizer, HALVES, budget="50%", full_steps=20, image_shape=(3, 16, 16))


def test_steps_resize_and_set_the_learning_rate():
    model, optimizer = small()
    optimizer.param_groups[0]["lr_scale"] = 0.5  # as timm's layer decay writes it
    training = staged(model, optimizer)
    widths, rates, resized = [], [], []
    while training.step():
        widths.append(model.blocks[0].mlp.fc1.out_features)
        rates.append(optimizer.param_groups[0]["lr"])
        resized.append(training.resized)
        one_step(model, optimizer, training.begun)
    first, second = training.plan.stages()
    assert widths == [64] * first.steps + [128] * second.steps
    assert resized == [number in (0, first.steps) for number in range(first.steps + second.steps)]
    factors = [segment.learning_rate_factor(step) for segment in training.plan.segments for step in range(segment.steps)]
    assert rates == pytest.approx([0.005 * factor for factor in factors])
    assert rates[-1] < max(rates)
    assert training.rates == Rates()
    assert not training.step()  # and stays so
    # Half of 20 full steps: 5 at full size, and 20 at about a quarter of the cost.
    assert second.steps == 5
    assert first.steps > 15


def averages(model):
    multi_avg_fn = get_ema_multi_avg_fn(0.9)
    return [ModelEmaV2(model, decay=0.9), ModelEmaV3(model, decay=0.9), AveragedModel(model, multi_avg_fn=multi_avg_fn)]


@pytest.mark.parametrize("kind", range(3))
def test_an_average_is_given_as_it_is_or_by_its_module(kind):
    ended = []
    for inner in (False, True):
        model, optimizer = small()
        average = averages(model)[kind]
        training = staged(model, optimizer, ema=average.module if inner else average)
        while training.step():
            one_step(model, optimizer, training.begun)
            average.update_parameters(model) if isinstance(average, AveragedModel) else average.update(model)
            assert average.module.blocks[0].mlp.fc1.out_features == model.blocks[0].mlp.fc1.out_features
        ended.append(average.module)
    assert same(*ended)
    assert not same(ended[0], model)


def test_an_average_of_another_model_is_refused():
    model, optimizer = small()
    others = {
        "patch_embed.proj.bias differs": ModelEmaV3(small(pre_norm=True)[0]),
        "blocks.0.mlp.fc1.weight differs": small(mlp_ratio=2)[0],
        "cls_token differs": nn.Sequential(copy.deepcopy(model)),
        "this is the model itself": model,
    }
    for said, other in others.items():
        with pytest.raises(InvalidInput, match=f"ema: .*: must be an average of this timm model, made before training: {said}"):
            staged(model, optimizer, ema=other)
    with pytest.raises(InvalidInput, match="ema: 'float': must be an average of this timm model"):
        staged(model, optimizer, ema=0.999)


@pytest.mark.parametrize(
    ("subset", "stop"),
    [
        pytest.param(subset, stop, marks=[] if stop == usual else pytest.mark.nightly)
        for subset, usual in (("leading", 3), ("random", 17), ("importance", 22))
        for stop in (3, 17, 22)
    ],
)
def test_resume_in_the_middle_of_a_stage_with_an_average_of_the_weights(subset, stop):
    def start(seed):
        model, optimizer = small(seed)
        ema = ModelEmaV3(model, decay=0.9)
        return model, optimizer, ema, staged(model, optimizer, ema=ema.module, staging=Staging(subset=subset))

    def run(model, optimizer, ema, training, until=10**9):
        while training.begun < until and training.step():
            one_step(model, optimizer, training.begun)
            ema.update(model)

    straight = start(0)
    run(*straight)
    model, optimizer, ema, training = start(0)
    run(model, optimizer, ema, training, until=stop)
    with training.at_full_size():
        kept = copy.deepcopy([each.state_dict() for each in (model, optimizer, ema.module, training)])
    assert [tensor.shape for tensor in kept[0].values()] == [tensor.shape for tensor in straight[0].state_dict().values()]

    model, optimizer, ema, training = start(1)  # other weights, which loading replaces
    for each, state in zip((model, optimizer, ema.module, training), kept, strict=True):
        each.load_state_dict(state)
    run(model, optimizer, ema, training)
    assert same(model, straight[0])
    assert same(ema.module, straight[2].module)
    assert not same(model, ema.module)


def test_gradients_are_accumulated_within_a_step():
    model, optimizer = small()
    training = staged(model, optimizer, batch_size=16)
    steps = 0
    while training.step():
        optimizer.zero_grad()
        for half in range(2):
            images = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(2 * steps + half))
            functional.cross_entropy(model(images), torch.arange(8) % 5).backward()
        assert all(p.grad is not None and p.grad.shape == p.shape for p in model.parameters())
        optimizer.step()
        steps += 1
    assert steps == training.plan.steps
    single_image = staged(*small(), batch_size=1)
    assert training.plan.flops == 16 * single_image.plan.flops


def test_without_a_learning_rate_schedule_the_learning_rates_are_left_unchanged():
    model, optimizer = small()
    training = staged(model, optimizer, lr_schedule=None)
    factors = []
    while training.step():
        assert optimizer.param_groups[0]["lr"] == 1e-2
        factors.append(training.factor)
    assert factors[0] == 1
    assert 0 < factors[-1] < 1


@pytest.mark.parametrize("given", [True, False])
def test_a_compiled_model_follows_the_stages(given):
    """It is wrapped once, and compiled for each size."""
    ends = []
    for compiled in (True, False):
        model, optimizer = small()
        wrapped = torch.compile(model, backend="eager", dynamic=False) if compiled else model
        training = staged(wrapped if given else model, optimizer, WIDTHS)
        while training.step():
            one_step(wrapped, optimizer, training.begun)
            if training.begun == 2:
                with training.at_full_size():
                    assert model.state_dict()["blocks.0.mlp.fc1.weight"].shape == (128, 32)
        ends.append(model)
    assert same(*ends)


def test_a_checkpoint_in_mid_stage_leaves_the_graphs_of_a_step_intact():
    """As what DistributedDataParallel holds: the nodes that accumulate gradients."""
    model, optimizer = small()
    training = staged(model, optimizer, WIDTHS)
    training.step()
    weight = model.blocks[0].mlp.fc1.weight
    loss = model(torch.zeros(2, 3, 16, 16)).sum()
    with training.at_full_size():
        assert weight.shape == (128, 32)
    loss.backward()
    assert weight.grad.shape == weight.shape == (64, 32)


def test_an_early_end_leaves_the_full_model_and_says_so():
    model, optimizer = small()
    training = staged(model, optimizer, WIDTHS)
    for _ in range(3):
        training.step()
        one_step(model, optimizer, training.begun)
    assert not training.in_last_stage
    with pytest.warns(UserWarning, match=r"state_dict\(\) of a model at heads 0.5 mlp 0.5 tokens 1 lacks the weights"):
        partial = model.state_dict()
    assert partial["blocks.0.mlp.fc1.weight"].shape == (64, 32)
    before = model.eval()(torch.ones(1, 3, 16, 16))
    steps = training.plan.steps
    ended = f"training ended at step 3 of the {steps} of its schedule: the learning rate has not decayed to its end"
    with pytest.warns(UserWarning, match=ended):
        training.finish()
    assert model.state_dict()["blocks.0.mlp.fc1.weight"].shape == (128, 32)
    # What was learned stays: the default growth does not change the outputs.
    assert torch.allclose(model(torch.ones(1, 3, 16, 16)), before, atol=1e-5)
    assert not training.step()
    with pytest.raises(
        InvalidInput, match="state: 'ended': was ended at step 3, and the model grew to full size: resume from an"
    ):
        staged(*small(), WIDTHS).load_state_dict(training.state_dict())


def test_a_finished_training_ends_in_silence():
    model, optimizer = small()
    training = staged(model, optimizer, WIDTHS)
    while training.step():
        one_step(model, optimizer, training.begun)
    weights = copy.deepcopy(model.state_dict())
    training.finish()
    assert training.in_last_stage
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"full_steps": 0}, r"full_steps: 0: must be a number above 0"),
        ({"full_steps": float("inf")}, r"full_steps: inf: must be a number above 0"),
        ({"full_steps": float("nan")}, r"full_steps: nan: must be a number above 0"),
        ({"full_steps": None}, r"full_steps: None: must be a number above 0"),
        ({"full_steps": "20"}, r"full_steps: '20': must be a number above 0"),
        ({"batch_size": 0}, r"batch_size: 0: must be a whole number, at least 1"),
        ({"batch_size": 2.5}, r"batch_size: 2\.5: must be a whole number, at least 1"),
        ({"batch_size": "8"}, r"batch_size: '8': must be a whole number, at least 1"),
        ({"lr_schedule": "cosine"}, r"lr_schedule: 'cosine': must be a LearningRateSchedule or None"),
        ({"budget": "1%"}, r"budget: '1%': must hold at least one step of the full model"),
        ({"budget": "-5%"}, r"budget: .*above 0"),
        ({"image_shape": (3, 16, 15)}, r"image_shape: .*cannot process such images"),
        ({"image_shape": (16, 16)}, r"image_shape: \(16, 16\): must be three whole numbers: channels, height and width"),
        ({"image_shape": (3, 16.0, 16.0)}, r"image_shape: .*must be three whole numbers"),
        ({"image_shape": 16}, r"image_shape: 16: must be three whole numbers"),
        ({"staging": "random"}, r"staging: 'random': must be a Staging or None"),
        ({"staging": {"subset": "random"}}, r"staging: .*: must be a Staging"),
        ({"staging": Staging(), "schedule": MADE_FOR_RESIZING}, r"staging\.token_policy: 'auto': must be 'resize', for which"),
        ({"schedule": IN_EPOCHS}, r"epoch_steps: None: is required for a schedule in epochs"),
        ({"schedule": IN_EPOCHS, "epoch_steps": 0}, r"epoch_steps: 0: must be a number above 0"),
        ({"schedule": IN_EPOCHS, "epoch_steps": 1}, r"schedule: epochs: '8, 9': cost 1\d\d\.\d% of the budget 50%"),
        ({"schedule": stages_of(batch_factor=2)}, r"schedule: stages\.0\.batch_factor: 2\.0: must be 1 here: the loop reads"),
        ({"schedule": stages_of(augmentation={"mixup": 0.5})}, r"schedule: stages\.0\.augmentation\.mixup: 0\.5: must be 1"),
        ({"schedule": stages_of(augmentation={"magnitude": 0})}, r"stages\.0\.augmentation\.magnitude: 0\.0: must be 1"),
        ({"schedule": "best.json"}, r"schedule: 'best\.json': must be a Schedule, as Schedule\.load\(path\) returns"),
    ],
)
def test_bad_arguments_are_refused(changes, said):
    with pytest.raises(InvalidInput, match=said) as refused:
        staged(*small(), **changes)
    assert "\n" not in str(refused.value)


def test_numbers_may_be_those_of_numpy():
    ours = staged(*small(), full_steps=1_500_000, batch_size=4096)
    theirs = staged(*small(), full_steps=np.int64(1_500_000), batch_size=np.int32(4096))
    assert theirs.plan == ours.plan


def test_what_does_not_fit_the_model_is_refused():
    model, optimizer = small()
    with pytest.raises(InvalidInput, match="optimizer: 'AdamW': was not built for this model: it does not have cls_token"):
        staged(model, small()[1])
    with pytest.raises(
        InvalidInput, match="model: 'DataParallel': cannot be resized; wrap the model in DistributedDataParallel"
    ):
        staged(torch.nn.DataParallel(model), optimizer)
    shallow = Schedule(stages=(Stage(rates=Rates(tokens=0.5), duration_ratio=0.5), Stage(rates=Rates(), duration_ratio=0.5)))
    torch.manual_seed(0)
    tnt = timm.create_model("tnt_s_legacy_patch16_224", depth=2, img_size=32, embed_dim=64, num_heads_outer=2)
    with pytest.raises(InvalidInput, match=r"rates\.tokens: 0\.5: must stay at 1: TNT has no place"):
        staged(tnt, torch.optim.SGD(tnt.parameters()), shallow, image_shape=(3, 32, 32))


def test_the_timm_model_within_a_users_own_model_is_resized():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, _ = small()
            self.head = nn.Linear(5, 3)

    net = Net()
    training = staged(net, torch.optim.AdamW(net.parameters()), WIDTHS)
    assert training.model is net.backbone
    training.step()
    assert net.backbone.blocks[0].mlp.fc1.out_features == 64
    net.teacher, _ = small()
    with pytest.raises(InvalidInput, match="model: 'Net': contains 2 timm models; pass the one that is trained in stages"):
        staged(net, torch.optim.AdamW(net.parameters()), WIDTHS)


@pytest.mark.parametrize("adapted", ["attn.qkv", "mlp.fc1"])
def test_layers_with_adapters_are_refused_by_name(adapted):
    class LoRA(nn.Module):
        """As PEFT wraps a layer."""

        def __init__(self, layer):
            super().__init__()
            self.base_layer = layer
            self.down, self.up = nn.Linear(layer.in_features, 2), nn.Linear(2, layer.out_features)

        def forward(self, inputs):
            return self.base_layer(inputs) + self.up(self.down(inputs))

    model, _ = small()
    owner, name = model.blocks[0].get_submodule(adapted.split(".")[0]), adapted.split(".")[1]
    setattr(owner, name, LoRA(getattr(owner, name)))
    said = rf"model: 'VisionTransformer': \w+\.{name} is a LoRA, which holds other modules: it cannot be resized"
    with pytest.raises(InvalidInput, match=said):
        staged(model, torch.optim.AdamW(model.parameters()), WIDTHS)


def test_a_module_that_differs_from_its_row_is_not_blamed_on_the_images():
    def of_one_width(mlp, inputs):
        return mlp.fc2(functional.gelu(mlp.fc1(inputs)) + torch.zeros(128, device=inputs.device))

    model, _ = small()
    model.blocks[0].mlp.forward = MethodType(of_one_width, model.blocks[0].mlp)
    with pytest.raises(InvalidInput, match=r"model: 'VisionTransformer': runs at full size, but not at heads 0.5 mlp 0.5"):
        staged(model, torch.optim.AdamW(model.parameters()), WIDTHS)


def test_resuming_with_another_schedule_or_batch_size_is_refused():
    training = staged(*small())
    for _ in itertools.repeat(None, 3):
        training.step()
    state = training.state_dict()
    other = HALVES.model_copy(update={"grid": 8})
    for changed in (staged(*small(), batch_size=2), staged(*small(), other), staged(*small(), full_steps=30)):
        with pytest.raises(
            InvalidInput, match="state: 'plan': belongs to another schedule, budget, model, batch size or full_steps"
        ):
            changed.load_state_dict(state)


def test_invalid_states_are_refused():
    training = staged(*small(), staging=Staging(subset="importance"))
    state = training.state_dict()
    steps = training.plan.steps
    for wrong, said in [
        (None, "state: None: must be a mapping with the keys begun, plan, orders, pretrained, ended, staging, seed"),
        ({}, "state: begun: 'missing': this key is required"),
        ({**state, "begun": "3"}, "state: begun: '3': Input should be a valid integer"),
        ({**state, "begun": -1}, "state: begun: -1: Input should be greater than or equal to 0"),
        ({**state, "begun": steps + 1}, f"state: begun: {steps + 1}: must be at most {steps}, the steps of the plan"),
        ({name: state[name] for name in ("begun", "plan")}, "state: orders: 'missing': this key is required"),
        ({**state, "orders": {}}, "state: 'orders': belongs to another staging.subset"),
        (
            staged(*small()).state_dict(),
            "state: 'staging': belongs to another staging: subset was 'leading' and is now 'importance'",
        ),
    ]:
        with pytest.raises(InvalidInput) as refused:
            training.load_state_dict(wrong)
        assert str(refused.value) == said
    training.load_state_dict({**state, "begun": steps})
    assert training.done


def test_a_state_of_another_growth_or_of_other_random_subsets_is_refused():
    random = Staging(subset="random")
    state = staged(*small(), staging=random, seed=1).state_dict()
    with pytest.raises(InvalidInput, match="state: seed: 1: belongs to other random subsets: the seed is now 2"):
        staged(*small(), staging=random, seed=2).load_state_dict(state)
    staged(*small(), staging=random, seed=1).load_state_dict(state)
    earlier = {name: value for name, value in state.items() if name not in ("staging", "seed")}
    staged(*small(), staging=random, seed=2).load_state_dict(earlier)  # of an earlier release
    copies = staged(*small(), staging=Staging(growth="copy"), seed=1).state_dict()
    with pytest.raises(InvalidInput, match="another staging: growth was 'copy' and is now 'zero'"):
        staged(*small(), staging=Staging(growth="zero"), seed=1).load_state_dict(copies)
    staged(*small(), staging=Staging(growth="copy"), seed=2).load_state_dict(copies)  # which no seed changes


@pytest.mark.filterwarnings("error:state_dict")
def test_contexts_at_full_size_may_be_nested_and_the_warning_comes_back_once():
    model, optimizer = small()
    training = staged(model, optimizer)
    training.step()
    read = []
    with training.full_size.when_read(lambda: read.append(training.rates.mlp)):
        with training.at_full_size(), training.at_full_size():
            assert model.state_dict()["blocks.0.mlp.fc1.weight"].shape == (128, 32)
        assert (read, training.rates.mlp) == ([], 0.5)  # the user has read it, and whoever saves is still to come
        assert model.state_dict()["blocks.0.mlp.fc1.weight"].shape == (128, 32)
        with training.at_full_size():
            pass
        assert model.state_dict()["blocks.0.mlp.fc1.weight"].shape == (128, 32)
        assert read == [1.0]
    assert training.rates.mlp == 0.5
    with pytest.warns(UserWarning, match="lacks the weights") as warned:
        model.state_dict()
    assert len(warned) == 1
    while training.step():
        one_step(model, optimizer, training.begun)
    model.state_dict()


def call_each(name, optimizers):
    for optimizer in optimizers:
        getattr(optimizer, name)()


def test_groups_of_parameters_that_are_added_during_training_follow_the_schedule():
    """A head is trained first, and the blocks later with a rate of their own; the second stage resizes them."""
    model, _ = small()
    model.blocks.requires_grad_(False)
    head = torch.optim.AdamW(model.head.parameters(), lr=1e-2)
    others = [weight for name, weight in model.named_parameters() if not name.startswith(("head", "blocks"))]
    other = torch.optim.AdamW(others, lr=2e-2)
    training = staged(model, [head, other], lr_schedule=LearningRateSchedule(kind="linear", warmup=0.1))
    both = SimpleNamespace(**{name: partial(call_each, name, (head, other)) for name in ("zero_grad", "step")})
    training.step()
    one_step(model, both, 0)
    model.blocks.requires_grad_(True)
    head.add_param_group({"params": list(model.blocks.parameters()), "lr": 1e-3, "weight_decay": 0.0})
    while training.step():
        assert [group["lr"] for group in head.param_groups] == pytest.approx([1e-2 * training.factor, 1e-3 * training.factor])
        assert other.param_groups[0]["lr"] == pytest.approx(2e-2 * training.factor)
        one_step(model, both, training.begun)
    assert training.peak_learning_rates == [1e-2, 1e-3, 2e-2]
    moments = head.state[model.blocks[0].mlp.fc1.weight]["exp_avg"]
    assert moments.shape == model.blocks[0].mlp.fc1.weight.shape == (128, 32)
    assert moments.any()


def test_a_schedule_free_optimizer_is_refused():
    """Told by its interface: it is switched between training and evaluation, as those of the package `schedulefree`."""

    class AdamWScheduleFree(torch.optim.AdamW):
        def train(self): ...

        def eval(self): ...

    model, _ = small()
    with pytest.raises(InvalidInput, match="'AdamWScheduleFree': cannot be used with stages: schedule-free optimizers replace"):
        staged(model, AdamWScheduleFree(model.parameters()))


def test_an_optimizer_that_wraps_another_is_refused():
    model, _ = small()
    lookahead = create_optimizer_v2(model, "lookahead_adamw", lr=1e-3)
    with pytest.raises(
        InvalidInput, match="optimizer: 'Lookahead': cannot be used with stages: its state is kept by the AdamW"
    ):
        staged(model, lookahead)
    assert staged(model, lookahead, Schedule.full_model()).step()  # nothing is resized


@pytest.mark.filterwarnings("ignore:It is highly recommended")  # kron: opt_einsum, for speed
def test_an_optimizer_whose_state_cannot_be_resized_is_refused_after_its_first_step():
    model, _ = small()
    optimizer = create_optimizer_v2(model, "kron", lr=1e-3)
    training = staged(model, optimizer)
    assert training.step()
    with torch.compiler.set_stance("force_eager"):
        one_step(model, optimizer, 1)
    with pytest.raises(InvalidInput, match=r"cannot be used with stages: its state '\w+' is not shaped like its parameter"):
        training.step()
    assert training.begun == 1


def test_the_settings_of_callbacks_are_the_arguments_of_staged_training():
    arguments = set(inspect.signature(StagedTraining).parameters) - {"model", "optimizer", "schedule"}
    assert set(StagedTrainingSettings.__annotations__) == arguments


def test_stochastic_depth_follows_the_stages_and_a_resumed_run():
    """timm's rates rise from 0 to .4 over the two blocks."""
    schedule = stages_of(augmentation={"drop_path": 0.25})
    model, optimizer = small(drop_path_rate=0.4)
    training = staged(model, optimizer, schedule)
    rates = {}
    while training.step():
        one_step(model, optimizer, training.begun)
        rates.setdefault(training.rates.full, set()).add(round(model.blocks[1].drop_path1.drop_prob, 6))
        if training.begun == 3:
            with training.at_full_size():
                states = copy.deepcopy([each.state_dict() for each in (model, optimizer, training)])
    assert rates == {False: {0.1}, True: {0.4}}
    again, its_optimizer = small(drop_path_rate=0.4)
    resumed = staged(again, its_optimizer, schedule)
    for each, state in zip((again, its_optimizer, resumed), states, strict=True):
        each.load_state_dict(state)
    assert again.blocks[1].drop_path1.drop_prob == pytest.approx(0.1)


def test_epochs_need_the_length_of_an_epoch_alone():
    """Full training is 20 epochs of 10 steps; 3 epochs of smaller steps and 9 of full ones fit half of it."""
    schedule = Schedule(stages=(Stage(rates=HALF, epochs=3), Stage(rates=Rates(), epochs=9)))
    training = staged(*small(), schedule, full_steps=200, epoch_steps=10)
    assert training.plan.full_flops == staged(*small(), full_steps=200).plan.full_flops
    first, second = training.plan.stages()
    assert first.epochs / second.epochs == pytest.approx(3 / 9, rel=0.05)
    assert 0 <= training.plan.budget_cost - training.plan.flops < second.step_flops


def test_a_schedule_says_how_reduced_models_are_derived():
    model, optimizer = small()
    training = staged(model, optimizer, MADE_FOR_RESIZING)
    training.step()
    plain = staged(*small(), stages_of(), staging=Staging(token_policy="resize"))
    assert training.plan == plain.plan
