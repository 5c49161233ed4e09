"""Pyramids: stages with a single head, grouped convolutions, and caches that follow the heads."""

import pytest
import torch

from explorer import InvalidInput, Rates
from explorer.elastic import ElasticModel
from tests.elastic.families import create
from tests.elastic.families_hierarchical import FAMILIES, image_size


def build(label, **options):
    name, own = FAMILIES[label]
    torch.manual_seed(0)
    return create(name, {"num_classes": 5, **own, **options})


def test_a_single_head_stays_active_if_other_stages_have_several():
    model = build("pvt_v2")
    realised = ElasticModel(model).set_rates(Rates(heads=0.25))
    assert [stage.blocks[0].attn.num_heads for stage in model.stages] == [1, 1, 1, 2]  # of 1, 2, 4, 8
    assert realised.heads == 5 / 15


def test_a_rate_that_leaves_none_of_several_heads_is_refused():
    with pytest.raises(InvalidInput, match=r"rates\.heads: 0\.2: leaves none of the 2 of stages\.1\.blocks\.0\.attn"):
        ElasticModel(build("pvt_v2")).set_rates(Rates(heads=0.2))


def test_a_model_in_which_every_stage_has_one_head_keeps_them():
    with pytest.raises(InvalidInput, match=r"rates\.heads: 0\.25: leaves none of the 1 of"):
        ElasticModel(build("pvt_v2", num_heads=(1, 1, 1, 1))).set_rates(Rates(heads=0.25))


def test_a_grouped_convolution_keeps_its_groups():
    model = build("visformer")
    ElasticModel(model).set_rates(Rates(mlp=0.5))
    mlp = model.stage1[0].mlp
    assert (mlp.conv2.groups, mlp.conv2.in_channels, mlp.conv2.weight.shape[:2]) == (8, 32, (32, 4))
    assert mlp.hidden_features == mlp.conv1.out_channels == 32


def test_biases_cached_in_evaluation_follow_the_heads():
    model = build("levit").eval()
    images = torch.zeros(1, 3, image_size("levit"), image_size("levit"))
    elastic = ElasticModel(model)
    with torch.no_grad():
        full = model(images)
        elastic.set_rates(Rates(heads=0.5))
        model(images)
        elastic.set_rates(Rates())
        assert torch.equal(model(images), full)


def test_the_narrow_class_is_used_only_while_the_module_is_reduced():
    model = build("swinv2")
    plain = type(model.layers[0].blocks[0].attn)
    elastic = ElasticModel(model)
    elastic.set_rates(Rates(heads=0.5))
    narrow = type(model.layers[0].blocks[0].attn)
    assert narrow is not plain
    assert issubclass(narrow, plain)
    elastic.set_rates(Rates())
    assert type(model.layers[0].blocks[0].attn) is plain


def test_an_output_projection_by_transposed_convolution_is_reduced_at_its_inputs():
    # Lowformer's fused blocks project and upsample with one transposed convolution, whose inputs are dimension 0.
    model, zeroed = (build("lowformer", fused_conv=True).double().eval() for _ in range(2))
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ElasticModel(model).set_rates(Rates(heads=0.5))
    block = model.stages[3][-1].attn.main[1]
    assert block.num_heads == 2
    assert block.upsampling.in_channels == block.upsampling.weight.shape[0] == 2 * block.head_dim
    with torch.no_grad():
        for module in zeroed.modules():
            if hasattr(module, "o_proj_inpdim") and module.num_heads > 1:
                module.upsampling.weight[module.o_proj_inpdim // 2 :] = 0
        assert torch.allclose(model(images), zeroed(images), rtol=0, atol=1e-12)


def test_groups_that_are_heads_follow_their_number():
    model = build("efficientvit")
    elastic = ElasticModel(model)
    attention = model.stages[-1].blocks[-1].context_module.main
    mixing = attention.aggreg[0][1]
    assert mixing.groups == 3 * 8
    elastic.set_rates(Rates(heads=0.25))
    assert (mixing.groups, mixing.in_channels, mixing.out_channels) == (3 * 2, 48, 48)
    elastic.set_rates(Rates())
    assert (mixing.groups, mixing.in_channels, mixing.out_channels) == (3 * 8, 192, 192)
