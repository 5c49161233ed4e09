"""Numbers of heads, channels, tokens and blocks, and lists with one rate for each level, on models that have them or not."""

import pytest
import timm
import torch

from explorer import InvalidInput, Rates
from explorer.elastic import ElasticModel
from explorer.spec.staging import Staging
from tests.elastic.families_hierarchical import FAMILIES, VISFORMER

VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 4, "num_heads": 4, "num_classes": 5}


def elastic_of(name, options, policy="auto", image_size=None):
    with torch.device("meta"):
        model = timm.create_model(name, **options)
    return ElasticModel(model, Staging(token_policy=policy), image_size=image_size)


def pvt():
    """Levels of 1, 2, 4, 8 heads; widths 16, 32, 64, 64, MLP ratios 8, 8, 4, 4: 128, 256, 256, 256 channels."""
    return elastic_of(*FAMILIES["pvt_v2"], policy="resize", image_size=64)


def vit(policy="auto"):
    return elastic_of("vit_tiny_patch16_224", VIT, policy)


def test_each_level_of_a_pyramid_has_its_own_number_of_heads_and_channels():
    elastic = elastic_of("pvt_v2_b2_li", {})
    assert (elastic.levels.sizes("h"), elastic.levels.sizes("m")) == ((1, 2, 5, 8), (512, 1024, 1280, 2048))
    realised = elastic.set_rates(Rates(heads=(1, 1, 2, 2), mlp=(128, 256, 320, 512)))
    stages = elastic.model.stages
    assert [stage.blocks[0].attn.num_heads for stage in stages] == [1, 1, 2, 2]
    assert [stage.blocks[-1].mlp.fc1.out_features for stage in stages] == [128, 256, 320, 512]
    assert realised.heads == pytest.approx((3 + 4 + 2 * 6 + 2 * 3) / (3 + 2 * 4 + 5 * 6 + 8 * 3))  # 3, 4, 6, 3 blocks
    assert realised.mlp == 0.25
    elastic.set_rates(Rates(heads=(1.0, 0.5, 0.6, 0.25), mlp=(0.25, 0.25, 0.5, 1)))
    assert [stage.blocks[0].attn.num_heads for stage in stages] == [1, 1, 3, 2]
    assert [stage.blocks[0].mlp.fc1.out_features for stage in stages] == [128, 256, 640, 2048]


def test_numbers_of_a_plain_vision_transformer():
    elastic = vit()
    assert elastic.set_rates(Rates(heads=3, mlp=100, tokens=9, depth=2)) == Rates(
        heads=3 / 4, mlp=100 / 192, tokens=9 / 16, depth=2 / 4
    )
    assert [len(elastic.model.blocks), elastic.model.blocks[0].attn.num_heads] == [2, 3]
    assert elastic.set_rates(Rates(heads=4, mlp=(192,), tokens=16, depth=4)).full
    assert elastic.realise(Rates(heads=(1,))).heads == 1 / 4


def test_tokens_of_a_pyramid_are_those_of_its_first_level():
    elastic = pvt()  # 64 pixels, 16 x 16 patches of 4
    assert elastic.set_rates(Rates(tokens=64)).tokens == 64 / 256
    with pytest.raises(InvalidInput, match=r"^rates\.tokens: 100: the model has 256 tokens, and the nearest .* is 64$"):
        elastic.realise(Rates(tokens=100))


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        (Rates(heads=(1, 1, 2)), r"rates\.heads: \[1, 1, 2\]: must have one entry .* 4 levels, which have 1, 2, 5, 8 heads$"),
        (Rates(mlp=(0.5, 1)), r"rates\.mlp: \[0\.5, 1\.0\]: must have .* 4 levels, which have 512, 1024, 1280, 2048 channels$"),
        (Rates(heads=(2, 2, 2, 2)), r"rates\.heads: \[2, 2, 2, 2\]: 2 is more than level 1 has; .* 1, 2, 5, 8 heads$"),
        (Rates(mlp=600), r"rates\.mlp: 600: 600 is more than level 1 has; the model has 512, 1024, 1280, 2048 channels$"),
        (Rates(depth=2), r"rates\.depth: 2: must be 1: PyramidVisionTransformerV2 cannot be reduced on this axis"),
    ],
)
def test_what_a_pyramid_does_not_have_is_refused_in_one_line(rates, message):
    with pytest.raises(InvalidInput, match="^" + message):
        elastic_of("pvt_v2_b2_li", {}).realise(rates)


@pytest.mark.parametrize(
    ("policy", "rates", "message"),
    [
        ("auto", Rates(heads=(2, 2)), r"rates\.heads: \[2, 2\]: .* model's one level, which has 4 heads$"),
        ("auto", Rates(heads=5), r"rates\.heads: 5: 5 is more than level 1 has; the model has 4 heads$"),
        ("auto", Rates(depth=5), r"rates\.depth: 5: must be at most the 4 blocks of the model$"),
        ("auto", Rates(tokens=17), r"rates\.tokens: 17: the model has 16 tokens, and the nearest .* is 16$"),
        ("center", Rates(tokens=8), r"rates\.tokens: 8: the model has 16 tokens, and the nearest .* is 9$"),
        ("resize", Rates(tokens=8), r"rates\.tokens: 8: the model has 16 tokens, and the nearest .* is 9$"),
    ],
)
def test_what_a_plain_model_does_not_have_is_refused_in_one_line(policy, rates, message):
    with pytest.raises(InvalidInput, match="^" + message):
        vit(policy).realise(rates)


def test_tokens_of_a_model_that_has_one_number_of_them():
    with pytest.raises(InvalidInput, match=r"^rates\.tokens: 9: must stay at 1: Beit has no place to drop tokens"):
        elastic_of("beit_base_patch16_224", VIT).realise(Rates(tokens=9))


def test_channels_of_a_grouped_convolution_change_together():
    """Visformer's first level has a convolution of 8 groups, which keep equally many channels each."""
    elastic = elastic_of("visformer_tiny", VISFORMER)
    first = elastic.levels.sizes("m")[0]
    elastic.set_rates(Rates(mlp=(first // 2, *elastic.levels.sizes("m")[1:])))
    assert elastic.model.stage1[0].mlp.conv2.out_channels == first // 2
    with pytest.raises(InvalidInput, match=r"^rates\.mlp: 3: 3 must be a multiple of 8: so many channels of stage1"):
        elastic.realise(Rates(mlp=3))
