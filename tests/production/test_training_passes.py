"""A loop that does not train what its plan counts: images of another size, or a model whose hooks it does not run."""

import warnings

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional

from explorer import InvalidInput, Rates, Schedule, Stage, StagedTraining
from explorer.spec.staging import Staging
from tests.production.conftest import WIDTHS
from tests.production.loops import small, staged

TOKENS = Schedule(
    stages=(Stage(rates=Rates(tokens=0.25), duration_ratio=0.5), Stage(rates=Rates(), duration_ratio=0.5)), grid=4
)
PYRAMID = {"depths": (1, 1, 1, 1), "embed_dims": (8, 8, 8, 8), "num_heads": (1, 1, 1, 1), "mlp_ratios": (2, 2, 2, 2)}


def pyramid():
    """A model that takes images of any size, published for 224 pixels."""
    torch.manual_seed(0)
    model = timm.create_model("pvt_v2_b0", num_classes=5, **PYRAMID)
    return model, torch.optim.AdamW(model.parameters(), lr=1e-2)


def staged_pyramid(model, optimizer, schedule=TOKENS, image_shape=(3, 64, 64), policy="resize", full_steps=4):
    settings = {"budget": "100%", "full_steps": full_steps, "batch_size": 2, "staging": Staging(token_policy=policy)}
    return StagedTraining(model, optimizer, schedule, image_shape=image_shape, **settings)


class ByParts(nn.Module):
    """A user's model that does not call timm's model itself."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, images):
        return self.backbone.forward_head(self.backbone.forward_features(images))


def step(model, optimizer, side=64):
    optimizer.zero_grad()
    functional.cross_entropy(model(torch.randn(2, 3, side, side)), torch.arange(2)).backward()
    optimizer.step()


def test_a_stage_of_smaller_images_refuses_a_size_that_it_would_enlarge():
    model, optimizer = pyramid()
    training = staged_pyramid(model, optimizer, image_shape=None)
    assert training.step()
    with pytest.raises(InvalidInput, match="images: '64 x 64 pixels': are smaller than the 128 x 128 pixels of this stage"):
        step(model, optimizer)


@pytest.mark.parametrize(("schedule", "policy"), [(TOKENS, "center"), (WIDTHS, "auto")])
def test_a_size_that_was_not_given_is_refused_if_it_is_wrong(schedule, policy):
    widths = schedule is WIDTHS
    model, optimizer = small(dynamic_img_size=True) if widths else pyramid()
    training = staged_pyramid(model, optimizer, schedule, image_shape=None, policy=policy)
    training.step()
    step(model, optimizer)
    said = r"image_shape: \(3, 224, 224\): is the size that the model is published for, but .* pass image_shape=\(3, 64, 64\)"
    with pytest.raises(InvalidInput, match=said) as refused:
        training.step()
    assert "\n" not in str(refused.value)
    assert training.begun == 1


def test_a_size_that_was_given_may_vary_and_is_warned_of_once():
    """Training at several sizes costs what the plan says only on average."""
    model, optimizer = pyramid()
    training = staged_pyramid(model, optimizer, policy="center", full_steps=8)
    training.step()
    step(model, optimizer, side=96)
    with pytest.warns(UserWarning, match=r"counts images of the shape \(3, 64, 64\), .* but training began with \(3, 96, 96\)"):
        training.step()
    model, optimizer = pyramid()
    sizes = staged_pyramid(model, optimizer, policy="center", full_steps=8)
    for several in (training, sizes):
        while several.step():  # without a warning: they are errors in tests
            step(several.model, several.optimizers[0], side=[64, 96, 128][several.begun % 3 - 1])


def test_images_that_a_loader_has_made_smaller_are_accepted():
    model, optimizer = pyramid()
    training = staged_pyramid(model, optimizer)
    while training.step():
        step(model, optimizer, side=64 if training.rates.full else 32)
    assert training.done


@pytest.mark.parametrize("policy", ["resize", "center"])
def test_a_loop_that_runs_the_model_by_parts_is_refused_where_images_are_made_smaller(policy):
    model, optimizer = pyramid()
    training = staged_pyramid(ByParts(model), optimizer, policy=policy)
    training.step()
    step(ByParts(model), optimizer)
    if policy == "center":
        assert training.step()
        return
    said = (
        "model: 'PyramidVisionTransformerV2': was trained without a forward pass in training mode, so its images were not made "
        r"smaller as the stage says: call the model itself in training mode, as model\(images\), not forward_features or another"
    )
    with pytest.raises(InvalidInput, match=said):
        training.step()
    assert training.begun == 1


def test_a_model_that_is_trained_in_evaluation_mode_is_refused_where_images_are_made_smaller():
    model, optimizer = pyramid()
    training = staged_pyramid(model.eval(), optimizer)
    training.step()
    step(model, optimizer)
    with pytest.raises(InvalidInput, match="was trained without a forward pass in training mode"):
        training.step()


def test_the_order_of_calls_in_a_step_and_steps_without_an_update_are_free():
    model, optimizer = pyramid()
    training = staged_pyramid(model, optimizer)
    for _ in range(3):  # as a scheduler: after the forward pass
        step(model, optimizer)
        assert training.step()
    assert training.step()  # nothing was trained
    with torch.no_grad():
        model(torch.zeros(2, 3, 64, 64))
    model.eval()(torch.zeros(2, 3, 96, 96))
    assert training.step()


@pytest.mark.parametrize("ends", ["spent", "early"])
def test_a_finished_model_has_no_hooks_left(ends):
    model, optimizer = small()
    training = staged(model, optimizer, WIDTHS)
    assert training.step()
    assert model._forward_pre_hooks
    if ends == "early":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            training.finish()
    while training.step():
        pass
    assert not model._forward_pre_hooks


def test_resumed_training_is_checked_as_well():
    training = staged_pyramid(*pyramid())
    for _ in range(2):
        training.step()
    model, optimizer = pyramid()
    resumed = staged_pyramid(ByParts(model), optimizer)
    resumed.load_state_dict(training.state_dict())
    assert resumed.step()  # nothing is known of the steps before
    step(ByParts(model), optimizer)
    with pytest.raises(InvalidInput, match="was trained without a forward pass in training mode"):
        resumed.step()


def test_the_notes_neither_break_the_graph_of_a_compiled_model_nor_compile_it_again():
    model, optimizer = small(dynamic_img_size=True)
    training = staged(model, optimizer, TOKENS, full_steps=8, staging=Staging(token_policy="resize"))
    graphs, after_steps = [], []

    def count(graph, _):
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    fast = torch.compile(model, backend=count, dynamic=False, fullgraph=True)
    while training.step():
        step(fast, optimizer, side=16)
        after_steps.append(len(graphs))
    first, second = (stage.steps for stage in training.plan.stages())
    assert after_steps == [after_steps[0]] * first + [after_steps[-1]] * second


def test_a_model_in_evaluation_mode_drops_no_tokens_and_is_refused():
    model, optimizer = small()
    training = staged(model, optimizer, TOKENS)
    assert training.step()
    model.eval()
    step(model, optimizer, side=16)
    with pytest.raises(InvalidInput, match="was updated in evaluation mode, in which no tokens are dropped"):
        training.step()


def test_parts_of_a_model_may_stay_in_evaluation_mode():
    model, optimizer = small()
    training = staged(model, optimizer, TOKENS)
    while training.step():
        model.train()
        model.blocks[0].eval()
        step(model, optimizer, side=16)
        model.eval()
        with torch.no_grad():
            model(torch.randn(2, 3, 16, 16))
    assert training.done
