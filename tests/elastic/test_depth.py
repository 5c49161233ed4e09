"""Fewer blocks: which are active, what a shallower model computes, and what happens to inactive blocks."""

import copy
import pickle

import pytest
import timm
import torch
from timm.models import model_entrypoint
from timm.optim import create_optimizer_v2
from torch import nn

from explorer import Rates
from explorer.cost import count_step_flops
from explorer.elastic import ElasticModel
from explorer.elastic.depth import depth_of
from explorer.elastic.testing import logits
from explorer.errors import InvalidInput
from explorer.spec.staging import Staging
from tests.elastic.families import FAMILIES, family

VIT = "vit_tiny_patch16_224"
SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "num_heads": 4, "depth": 4, "num_classes": 5}
TNT = {"inner_dim": 8, "first_stride": 2, "num_heads_inner": 4, "num_heads_outer": 4}
MODELS = [
    VIT,
    "vit_relpos_small_patch16_224",
    "beit_base_patch16_224",
    "cait_xxs24_224",
    "xcit_nano_12_p16_224",
    "tnt_s_patch16_224",
    "eva02_tiny_patch14_224",
    "naflexvit_base_patch16_gap",
    "samvit_base_patch16",
]


class Skipped(nn.Module):
    """A block that adds nothing to the residual stream."""

    def forward(self, x, *others, **_):
        return (x, others[0]) if self.pair else x


def deep(name: str) -> nn.Module:
    """A timm model with four blocks."""
    torch.manual_seed(0)
    sizes = dict(SMALL)
    if name.startswith("naflex"):
        del sizes["img_size"]
    if name.startswith("tnt"):
        del sizes["num_heads"]
        sizes |= TNT
    return timm.create_model(name, **sizes).double().eval()


@pytest.mark.parametrize(("subset", "kept"), [("prefix", [0, 1]), ("even", [0, 2])])
@pytest.mark.parametrize("name", MODELS)
def test_a_shallower_model_equals_the_full_one_whose_inactive_blocks_add_nothing(name, subset, kept):
    model = deep(name)
    wanted = copy.deepcopy(model)
    for number in {0, 1, 2, 3} - set(kept):
        wanted.blocks[number] = Skipped()
        wanted.blocks[number].pair = name.startswith("tnt")
    untouched = copy.deepcopy(model)
    elastic = ElasticModel(model, Staging(blocks=subset, growth="initial"))
    assert elastic.set_rates(Rates(depth=0.5)) == Rates(depth=0.5)
    shape = (2, 3, 32, 32)
    assert torch.equal(logits(model, shape), logits(wanted, shape))
    assert torch.equal(logits(pickle.loads(pickle.dumps(model)), shape), logits(copy.deepcopy(model), shape))
    assert len(model.blocks) == 2
    elastic.set_rates(Rates())
    assert list(model.state_dict()) == list(untouched.state_dict())
    assert torch.equal(logits(model, shape), logits(untouched, shape))


@pytest.mark.parametrize(("subset", "rate", "numbers"), [
    ("prefix", 0.25, [0, 1, 2]),
    ("even", 0.25, [0, 4, 8]),
    ("even", 1 / 3, [0, 3, 6, 9]),
    ("even", 0.75, [0, 1, 2, 4, 5, 6, 8, 9, 10]),
    ("even", 1.0, list(range(12))),
    ("prefix", 0.05, [0]),
])  # fmt: skip
def test_which_blocks_are_active(subset, rate, numbers):
    with torch.device("meta"):
        depth = depth_of(timm.create_model("vit_tiny_patch16_224"), subset)
    assert depth.active(rate) == numbers


def test_every_small_family_with_a_stack_trains_at_half_depth():
    """One label for each class of model."""
    seen = set()
    for label, (name, _) in FAMILIES.items():
        kind = model_entrypoint(name).__module__ if isinstance(name, str) else name
        if kind in seen:
            continue
        seen.add(kind)
        small = family(label)
        model = small.build()
        elastic = ElasticModel(model)
        if "depth" not in elastic.axes:
            continue
        seen.add(type(model).__name__)
        full = sum(1 for _ in model.parameters())
        elastic.set_rates(Rates(depth=0.5))
        logits(model.train(), small.image_shape).sum().backward()
        assert sum(1 for _ in model.parameters()) < full, label
    assert seen >= {"VisionTransformer", "VisionTransformerRelPos", "Beit", "Eva", "Cait", "Xcit", "TNT"}


def test_inactive_blocks_keep_weights_and_moments_and_return_in_the_models_mode():
    model = deep(VIT).train()
    optimizer = create_optimizer_v2(model, "adamw", lr=1e-2, weight_decay=0.1)
    elastic = ElasticModel(model)

    def step():
        optimizer.zero_grad()
        logits(model, (2, 3, 32, 32)).square().sum().backward()
        optimizer.step()

    step()
    last, moments = model.blocks[3].mlp.fc1.weight, optimizer.state[model.blocks[3].mlp.fc1.weight]
    logits(model, (2, 3, 32, 32)).sum().backward()  # a gradient that was not cleared
    value, moment = last.detach().clone(), moments["exp_avg_sq"].clone()
    elastic.set_rates(Rates(depth=0.5), optimizer)
    step()
    model.eval()
    assert torch.equal(last, value)
    assert torch.equal(moments["exp_avg_sq"], moment)
    elastic.set_rates(Rates(), optimizer)
    assert model.blocks[3].mlp.fc1.weight is last
    assert not any(module.training for module in model.modules())
    step()
    assert not torch.equal(last, value)


def test_width_and_depth_together_and_gradient_checkpointing():
    model = deep(VIT).train()
    elastic = ElasticModel(model, Staging(blocks="even"))
    elastic.set_rates(Rates(heads=0.5, mlp=0.5, depth=0.5))
    gradients = []
    for enabled in (False, True):
        model.set_grad_checkpointing(enabled)
        model.zero_grad()
        logits(model, (2, 3, 32, 32)).sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    assert all(torch.allclose(a, b) for a, b in zip(*gradients, strict=True))
    elastic.set_rates(Rates(heads=0.5, mlp=0.5))
    assert [block.attn.num_heads for block in model.blocks] == [2, 2, 2, 2]


def test_half_the_blocks_cost_half_of_what_blocks_cost():
    with torch.device("meta"):
        flops = [
            count_step_flops(timm.create_model("vit_tiny_patch16_224", depth=depth), (2, 3, 224, 224)) for depth in (0, 6, 12)
        ]
        model = timm.create_model("vit_tiny_patch16_224")
    ElasticModel(model).set_rates(Rates(depth=0.5))
    assert count_step_flops(model, (2, 3, 224, 224)) == flops[1]
    # The images need no gradient, so the backward pass of the embedding is the same with and without blocks.
    assert flops[1] - flops[0] == (flops[2] - flops[0]) / 2


def test_a_depth_that_is_not_possible_is_refused_in_one_line():
    with (
        torch.device("meta"),
        pytest.raises(InvalidInput, match=r"rates.depth.*0.5.*SwinTransformer cannot be reduced on this"),
    ):
        ElasticModel(timm.create_model("swin_tiny_patch4_window7_224")).set_rates(Rates(depth=0.5))
    with pytest.raises(InvalidInput, match=r"rates.depth.*0.1.*leaves none of the 4 blocks; must be at least 0.125"):
        ElasticModel(deep(VIT)).set_rates(Rates(depth=0.1))
    with torch.device("meta"), pytest.raises(InvalidInput, match=r"staging.blocks.*even.*must be prefix: Eva has rotary"):
        ElasticModel(timm.create_model("vit_small_patch16_rope_mixed_224"), Staging(blocks="even"))
