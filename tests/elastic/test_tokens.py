"""Fewer tokens by dropping and by smaller images: what is processed, and that rate 1 restores the model."""

import copy
import pickle

import pytest
import timm
import torch

from explorer import InvalidInput, Rates
from explorer.cost import count_step_flops
from explorer.elastic import ElasticModel
from explorer.elastic.tokens import token_policies
from explorer.spec.staging import Staging
from tests.elastic import families_hierarchical, families_isotropic
from tests.elastic.families import create

VIT = families_isotropic.VIT  # 32 pixels in patches of 8 pixels: 4 x 4 patches
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
CROP = ["swin", "swinv2", "swinv2_cr", "pvt_v2", "pvt_v2, linear"]
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
"""Image sizes of families whose last feature map would otherwise have a single position."""


def build(label):
    name, options = FAMILIES[label]
    if label in SIDES and "img_size" in options:
        options = {**options, "img_size": SIDES[label]}
    torch.manual_seed(0)
    return create(name, options)


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
    """Attributes of every module except tensors and modules, and its number of hooks."""
    simple = (int, float, str, bool, tuple, list, type(None))
    return [
        {k: v for k, v in vars(module).items() if isinstance(v, simple)}
        | {"type": type(module), "hooks": len(module._forward_pre_hooks) + len(module._forward_hooks)}
        for module in model.modules()
    ]


CASES = [(label, policy) for label in BOTH for policy in ("drop", "resize")]
CASES += [(label, "drop") for label in DROP] + [(label, "resize") for label in RESIZE]
CASES += [
    (label, "center")
    for label in ("vit, registers and average", "hybrid", "eva02", "rope, mixed", "naflex, axial rope", *DROP, *CROP)
]


@pytest.mark.parametrize(("label", "policy"), CASES)
def test_training_uses_a_quarter_of_the_tokens_and_rate_one_restores_the_model(label, policy):
    model, side = build(label), image_size(label)
    untouched = copy.deepcopy(model)
    batch = images(side)
    elastic = ElasticModel(model, Staging(token_policy=policy), image_size=side)
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


def test_which_policies_each_family_allows():
    dropping = ("drop", "center")
    resizing = [label for label in RESIZE if label not in CROP]
    cases = (
        (BOTH, (*dropping, "resize")),
        (DROP, dropping),
        (CROP, ("center", "resize")),
        (resizing, ("resize",)),
        (NEITHER, ()),
    )
    for labels, policies in cases:
        for label in labels:
            assert token_policies(build(label), image_size(label)) == policies, label


@pytest.mark.parametrize(
    ("rate", "side", "tokens"),
    # 4 patches of 8 pixels per side: sqrt(.5) * 4 = 2.8, sqrt(.3) * 4 = 2.2, sqrt(.8) * 4 = 3.6
    [(1.0, 32, 16), (0.8, 32, 16), (0.5, 24, 9), (0.3, 16, 4), (0.25, 16, 4), (0.0625, 8, 1)],
)
def test_image_sizes_and_rates_worked_out_by_hand(rate, side, tokens):
    model = build("vit")
    elastic = ElasticModel(model, Staging(token_policy="resize"))
    assert elastic.set_rates(Rates(tokens=rate)).tokens == tokens / 16
    assert elastic.realise(Rates(tokens=tokens / 16)).tokens == tokens / 16
    seen = []
    model.patch_embed.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].shape[-1]))
    model.blocks[1].register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].shape[1]))
    model.train()(images(32))
    model.eval()(images(32))
    assert seen == [side, tokens + 1, 32, 17]  # with the class token


def test_both_sides_of_an_oblong_image_shrink_by_the_same_factor():
    model = timm.create_model("vit_tiny_patch16_224", **{**VIT, "img_size": (64, 32)})
    elastic = ElasticModel(model, Staging(token_policy="resize"))
    seen = []
    model.patch_embed.register_forward_pre_hook(lambda _, arguments: seen.append(tuple(arguments[0].shape[2:])))
    assert elastic.set_rates(Rates(tokens=0.5)).tokens == 6 * 3 / (8 * 4)  # 8 * .71 = 5.7, 4 * .71 = 2.8 patches
    model.train()(torch.zeros(1, 3, 64, 32))
    assert seen == [(48, 24)]


@pytest.mark.parametrize(
    ("label", "block", "seen_by_it"),
    # naflex has four register tokens, which stay
    [("cait", "blocks.1", [8, 16]), ("naflex", "blocks.1", [12, 20]), ("hiera", "blocks.0", [128, 256])],
)
def test_dropped_tokens_do_not_reach_the_blocks(label, block, seen_by_it):
    model = build(label)
    elastic = ElasticModel(model, Staging(token_policy="drop"), image_size=image_size(label))
    assert elastic.set_rates(Rates(tokens=0.5)).tokens == 0.5
    seen = []
    model.get_submodule(block).register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].shape[1]))
    model.train()(images(image_size(label)))
    model.eval()(images(image_size(label)))
    assert seen == seen_by_it


@pytest.mark.parametrize(
    ("label", "block"),
    [
        ("vit, registers and average", "blocks.0"),
        ("eva02", "blocks.0"),
        ("rope, mixed", "blocks.0"),
        ("naflex, axial rope", "blocks.0"),
        ("cait", "blocks.0"),
    ],
)
def test_the_central_crop_reaches_the_blocks(label, block):
    """2 x 2 of 4 x 4 patches, in every step, after the class and register tokens; evaluation keeps all."""
    model, side = build(label), image_size(label)
    elastic = ElasticModel(model, Staging(token_policy="center"), image_size=side)
    assert elastic.set_rates(Rates(tokens=0.25)).tokens == 0.25
    seen = []
    model.get_submodule(block).register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].detach()))
    batch = images(side)
    model.train()(batch)
    model(batch)
    model.eval()(batch)
    once, again, full = seen
    prefix = full.shape[1] - 16
    center = [prefix + 4 * row + column for row in (1, 2) for column in (1, 2)]
    assert torch.equal(once, again)
    assert torch.allclose(once, full[:, [*range(prefix), *center]], atol=1e-6)


@pytest.mark.parametrize(
    ("side", "rate", "kept"),
    # of the paper: 10 x 10 and 12 x 12 of 14 x 14; 5 x 5 of 14 x 14 drops 4 rows above and 5 below
    [
        (224, 100 / 196, range(2, 12)),
        (224, 0.5, range(2, 12)),
        (224, 144 / 196, range(1, 13)),
        (224, 0.75, range(1, 13)),
        (224, 25 / 196, range(4, 9)),
        (224, 1 / 196, range(6, 7)),
    ],
)
def test_central_crops_worked_out_by_hand(side, rate, kept):
    with torch.device("meta"):
        model = timm.create_model("deit_tiny_patch16_224", depth=1)
    elastic = ElasticModel(model, Staging(token_policy="center"))
    assert elastic.set_rates(Rates(tokens=rate)).tokens == len(kept) ** 2 / 196
    assert elastic.realise(elastic.rates) == elastic.rates
    assert elastic.smallest_rates.tokens == 1 / 196
    tokens_BND = torch.arange(197.0).view(1, 197, 1)
    assert model.train().patch_drop(tokens_BND).flatten().tolist() == [
        0,
        *(1 + 14 * row + column for row in kept for column in kept),
    ]


def test_the_central_crop_of_an_oblong_grid_keeps_its_shape():
    model = timm.create_model("vit_tiny_patch16_224", **{**VIT, "img_size": (64, 32)})  # 8 x 4 patches
    elastic = ElasticModel(model, Staging(token_policy="center"))
    assert elastic.set_rates(Rates(tokens=0.5)).tokens == 6 * 3 / (8 * 4)  # 8 * .71 = 5.7, 4 * .71 = 2.8 patches
    assert elastic.smallest_rates.tokens == 1 * 1 / 32
    with pytest.raises(InvalidInput, match=r"rates\.tokens: 0\.01: leaves none of the 8 rows or 4 columns .* at least 0\.0156"):
        elastic.realise(Rates(tokens=0.01))


def test_hiera_keeps_the_central_mask_units():
    model = timm.create_model("hiera_tiny_224", img_size=128, embed_dim=24, stages=(1, 1, 1, 1), num_classes=5)
    elastic = ElasticModel(model, Staging(token_policy="center"))  # 32 x 32 tokens in units of 8 x 8
    assert elastic.set_rates(Rates(tokens=0.25)).tokens == 0.25
    kept = model.train().unroll(torch.arange(1024.0).view(1, 1024, 1)).flatten().sort().values
    assert kept.tolist() == [32 * row + column for row in range(8, 24) for column in range(8, 24)]


def test_hiera_keeps_whole_mask_units():
    model = build("hiera")  # 16 x 16 tokens in units of 8 x 8
    elastic = ElasticModel(model)
    assert elastic.smallest_rates.tokens == 1 / 4
    elastic.set_rates(Rates(tokens=0.25))
    patches_BND = torch.arange(256.0).view(1, 256, 1)
    kept = model.train().unroll(patches_BND).flatten().sort().values
    corner = int(kept[0])
    assert corner in (0, 8, 128, 136)
    assert kept.tolist() == [corner + 16 * row + column for row in range(8) for column in range(8)]


@pytest.mark.parametrize(
    ("name", "options", "image", "rate", "realised", "least", "most"),
    [
        ("deit_small_patch16_224", {}, 224, 0.5, 100 / 196, 0.48, 0.51),
        ("eva02_tiny_patch14_224", {}, 224, 0.5, 121 / 256, 0.42, 0.47),
        ("pvt_v2_b0", {}, 224, 0.5, 25 / 49, 0.47, 0.51),
        # Windows of 5 divide grids of 40, 20, 10 and 5.
        ("swin_tiny_patch4_window7_224", {}, 224, 0.5, 25 / 49, 0.48, 0.51),
    ],
)
def test_cost_falls_with_the_pixels(name, options, image, rate, realised, least, most):
    with torch.device("meta"):
        model = timm.create_model(name, **options)
    full = count_step_flops(model, (2, 3, image, image))
    assert ElasticModel(model, Staging(token_policy="resize")).set_rates(Rates(tokens=rate)).tokens == pytest.approx(realised)
    assert least <= count_step_flops(model, (2, 3, image, image)) / full <= most


@pytest.mark.nightly
def test_compiled_stages_use_the_size_of_their_rate():
    model = build("vit")
    elastic = ElasticModel(model, Staging(token_policy="resize"))
    batch = images(32)
    for rate in (0.25, 0.5, 1.0):
        elastic.set_rates(Rates(tokens=rate))
        fast = torch.compile(model.train(), dynamic=False, backend="aot_eager", fullgraph=True)
        assert torch.allclose(fast(batch), model(batch), atol=1e-6)


@pytest.mark.parametrize(
    ("label", "policy", "message"),
    [
        (
            "beit",
            "auto",
            r"^rates\.tokens: 0\.5: must stay at 1: Beit has no place to drop tokens, and Beit takes .* one size only$",
        ),
        (
            "pvt_v2",
            "drop",
            r"^staging\.token_policy: 'drop': PyramidVisionTransformerV2 has no place to drop tokens; use resize$",
        ),
        (
            "davit",
            "center",
            r"^staging\.token_policy: 'center': DaVit has no place to drop tokens; use resize$",
        ),
        ("cait", "resize", r"^staging\.token_policy: 'resize': Cait takes images of one size only; use drop$"),
        ("nest", "resize", r"^staging\.token_policy: 'resize': Nest takes images of one size only; keep rates\.tokens at 1$"),
    ],
)
def test_a_policy_that_a_model_does_not_allow_is_refused_in_one_line(label, policy, message):
    elastic = ElasticModel(build(label), Staging(token_policy=policy))
    elastic.set_rates(Rates(heads=0.5))
    assert "tokens" not in elastic.axes
    with pytest.raises(InvalidInput, match=message):
        elastic.realise(Rates(tokens=0.5))


def test_rates_that_leave_nothing_and_images_that_cannot_shrink_are_refused():
    with pytest.raises(InvalidInput, match=r"rates\.tokens: 0\.01: .*multiples of 8; must be at least 0\.0156"):
        ElasticModel(build("vit"), Staging(token_policy="resize")).realise(Rates(tokens=0.01))
    with pytest.raises(InvalidInput, match=r"PyramidVisionTransformerV2 takes no images smaller than 32 pixels"):
        ElasticModel(build("pvt_v2"), image_size=32).realise(Rates(tokens=0.5))


def test_images_are_made_smaller_and_never_larger():
    model = build("pvt_v2")
    elastic = ElasticModel(model, Staging(token_policy="resize"), image_size=64)
    elastic.set_rates(Rates(tokens=0.25))
    seen = []
    model.patch_embed.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].shape[2]))
    model.train()
    for side in (64, 32, 96):  # full images, those that a loader has made smaller, and larger ones
        model(images(side))
    model(x=images(64))
    assert seen == [32] * 4
    with pytest.raises(InvalidInput, match="images: '24 x 24 pixels': are smaller than the 32 x 32 pixels of this stage, and"):
        model(images(24))
    with pytest.raises(InvalidInput, match=r"staging\.token_policy: 'resize': needs a batch of images, a tensor of four dim"):
        model({"patches": torch.zeros(1, 4, 3)})
    model.eval()
    for side in (32, 64, 96):  # an evaluation is never refused
        assert model(images(side)).isfinite().all()


def test_the_center_of_images_of_another_size_is_refused():
    model = create("vit_tiny_patch16_224", {**VIT, "dynamic_img_size": True})
    elastic = ElasticModel(model, Staging(token_policy="center"))
    elastic.set_rates(Rates(tokens=0.25))
    with pytest.raises(
        InvalidInput, match="images: '64 patches': are not the 4 x 4 of full images, whose center is kept: give"
    ):
        model.train()(images(64))
    assert model.eval()(images(64)).isfinite().all()


def test_the_grid_is_cropped_although_the_patch_embedding_is_frozen_in_evaluation_mode():
    model = build("pvt_v2")
    ElasticModel(model, Staging(token_policy="center"), image_size=64).set_rates(Rates(tokens=0.25))
    model.train().patch_embed.eval()
    assert model.forward_features(images(64)).shape[2:] == (1, 1)
    assert model.eval().forward_features(images(64)).shape[2:] == (2, 2)


def test_dropping_tokens_of_a_model_with_rotary_positions():
    torch.manual_seed(0)
    model = timm.create_model(
        "eva02_tiny_patch14_224", img_size=56, patch_size=14, embed_dim=48, depth=2, num_heads=4, num_classes=5
    )
    untouched = copy.deepcopy(model)
    elastic = ElasticModel(model, Staging(growth="initial"))
    assert elastic.set_rates(Rates(heads=0.5, tokens=0.5)).tokens == 0.5
    seen = []
    model.blocks[1].register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].shape[1]))
    batch = torch.randn(2, 3, 56, 56)
    model.train()(batch).sum().backward()
    model.eval()(batch)
    assert seen == [9, 17]  # 4 x 4 patches, and the class token
    elastic.set_rates(Rates())
    assert model.patch_drop is None
    assert torch.equal(model.eval()(batch), untouched.eval()(batch))


@pytest.mark.parametrize(("rate", "kept"), [(0.25, 4), (0.5, 8), (0.3, 5), (0.97, 16), (1.0, 16)])
def test_tokens_are_dropped_in_training_and_all_kept_in_evaluation(rate, kept):
    model = build("vit")
    elastic = ElasticModel(model)
    realised = elastic.set_rates(Rates(tokens=rate))
    assert realised.tokens == kept / 16
    seen = []
    model.blocks[0].register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].shape[1]))
    model.train()(images(32))
    model.eval()(images(32))
    assert seen == [kept + 1, 17]  # with the class token
