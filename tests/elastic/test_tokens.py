"""Fewer tokens by dropping and by smaller images: what is processed, and that nothing stays behind."""

import copy
import pickle

import pytest
import timm
import torch

from explorer import Rates
from explorer.elastic import ElasticModel
from explorer.elastic.tokens import token_policies
from tests.elastic import families_hierarchical, families_isotropic

VIT = families_isotropic.VIT  # 32 pixels in patches of 8: 4 x 4 of them
NAFLEX = families_isotropic.NAFLEX
HYBRID = {**VIT, "img_size": 64, "patch_size": 1}  # a stem of stride 16
SMALL = {
    "vit": ("vit_tiny_patch16_224", VIT),
    "vit, registers and average": (
        "vit_tiny_patch16_224",
        {**VIT, "reg_tokens": 3, "global_pool": "avg", "class_token": False},
    ),
    "vit, no absolute positions": ("vit_tiny_patch16_224", {**VIT, "pos_embed": "none"}),
    "deit": ("deit_tiny_patch16_224", VIT),
    "deit, distilled": ("deit_tiny_distilled_patch16_224", VIT),
    "deit3": ("deit3_small_patch16_224", VIT),
    "hybrid": ("vit_tiny_r_s16_p8_224", HYBRID),
}
FAMILIES = {**families_isotropic.FAMILIES, **families_hierarchical.FAMILIES, **SMALL}
BOTH = [
    *SMALL,
    "vitamin",
    "eva",
    "eva02",
    "dinov3",
    "rope, axial",
    "rope, mixed",
    "rope, mixed and absolute",
    "perception encoder",
    "naflex",
    "naflex, axial rope",
]
DROP = ["cait", "hiera", "hiera abswin"]
RESIZE = [
    "naflex, mixed rope",
    "sam",
    "gemma4",
    "qwen3",
    "deepseek",
    "xcit",
    "swin",
    "swinv2",
    "swinv2_cr",
    "davit",
    "sam2",
    "pvt_v2",
    "pvt_v2, linear",
    "twins pcpvt",
    "twins svt",
    "nextvit",
    "caformer",
    "edgenext",
    "fastvit, attention",
    "tiny_vit",
    "swiftformer",
    "csatv2",
    "mobilevit",
    "mobilevitv2",
    "efficientvit",
    "efficientvit, large",
    "efficientvit msra",
    "lowformer",
    "cpubone",
    "iformer",
    "shvit",
]
NEITHER = [
    "beit",
    "relpos, mlp",
    "convit",
    "crossvit",
    "mvitv2",
    "tnt",
    "volo",
    "gcvit",
    "nest",
    "levit",
    "pit",
    "coat lite",
    "maxvit, bias",
]


SIDES = {"twins pcpvt": 64, "twins svt": 64, "csatv2": 128, "efficientvit msra": 128, "shvit": 128}
"""Image sides where the last feature takes the whole of the family's usual small image: at least two are needed."""


def build(label):
    name, options = FAMILIES[label]
    if label in SIDES and "img_size" in options:
        options = {**options, "img_size": SIDES[label]}
    torch.manual_seed(0)
    return timm.create_model(name, **options)


def image_size(label):
    if label in families_hierarchical.FAMILIES:
        return SIDES.get(label, families_hierarchical.image_size(label))
    return FAMILIES[label][1].get("img_size", 32)


def images(side, count=2):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def output(model, batch):
    result = model(batch)
    return result if isinstance(result, torch.Tensor) else sum(result)


def attributes(model):
    """Everything about every module that is not a tensor or another module, hooks included."""
    simple = (int, float, str, bool, tuple, list, type(None))
    return [
        {k: v for k, v in vars(module).items() if isinstance(v, simple)}
        | {"type": type(module), "hooks": len(module._forward_pre_hooks) + len(module._forward_hooks)}
        for module in model.modules()
    ]


CASES = [(label, policy) for label in BOTH for policy in ("drop", "resize")]
CASES += [(label, "drop") for label in DROP] + [(label, "resize") for label in RESIZE]


@pytest.mark.parametrize(("label", "policy"), CASES)
def test_a_quarter_of_the_tokens_in_training_all_in_evaluation_and_nothing_left_behind(label, policy):
    model, side = build(label), image_size(label)
    untouched = copy.deepcopy(model)
    batch = images(side)
    elastic = ElasticModel(model, token_policy=policy, image_size=side)
    wanted = elastic.set_rates(Rates(tokens=0.25)).tokens
    assert wanted == 0.25
    model.train()
    copies = (copy.deepcopy(model), pickle.loads(pickle.dumps(model)))
    torch.manual_seed(2)
    reduced = output(model, batch)
    reduced.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    reached = {key for key, p in model.named_parameters() if p.grad is not None}
    for other in copies:
        torch.manual_seed(2)
        assert torch.equal(output(other, batch), reduced)
    model.load_state_dict(untouched.state_dict())  # running statistics of batch norms
    full = output(untouched.eval(), batch)
    assert torch.equal(output(model.eval(), batch), full)
    elastic.set_rates(Rates())
    assert attributes(model.eval()) == attributes(untouched)
    assert list(model.state_dict()) == list(untouched.state_dict())
    assert torch.equal(output(model, batch), full)
    for candidate in (model.train(), untouched.train()):
        torch.manual_seed(3)
        candidate.zero_grad(set_to_none=True)
        output(candidate, batch).square().sum().backward()
    for (key, mine), theirs in zip(model.named_parameters(), untouched.parameters(), strict=True):
        assert (mine.grad is None and theirs.grad is None) or torch.equal(mine.grad, theirs.grad), key
        assert mine.grad is None or key in reached, key


def test_which_models_can_do_what():
    for labels, policies in ((BOTH, ("drop", "resize")), (DROP, ("drop",)), (RESIZE, ("resize",)), (NEITHER, ())):
        for label in labels:
            assert token_policies(build(label), image_size(label)) == policies, label
