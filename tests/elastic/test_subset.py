"""Which heads and channels are active: by importance, by chance, and the same for all layers that share a bias."""

import pytest
import timm
import torch

from explorer import InvalidInput, Rates
from explorer.elastic import ElasticModel
from explorer.elastic.subset import subsets
from explorer.spec.staging import Staging

VIT = {"img_size": 16, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 5}


def vit(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return timm.create_model("vit_tiny_patch16_224", **VIT)


def active(elastic: ElasticModel) -> dict[str, list[int]]:
    return {
        f"{module.path} {letter}": numbers.tolist()
        for module in elastic.resizable_modules
        for letter, numbers in module.active.items()
    }


def test_importance_is_the_norm_of_all_weights_of_a_head_or_channel():
    model = vit()
    with torch.no_grad():
        for parameter in model.blocks.parameters():
            parameter.fill_(0.1)
        attention, mlp = model.blocks[0].attn, model.blocks[0].mlp
        attention.qkv.weight[2 * 32 + 3 * 8] = 1.0  # first value row of head 3: rows are (q, k, v) x 4 heads x 8
        attention.proj.weight[:, 8:16] = 0.5  # input columns of head 1
        attention.qkv.weight[0:8] = 0.0  # queries of head 0
        # Sums of squares above that of head 2: head 0 has less; head 1: 256 * (.25 - .01) = 61; head 3: 32 * (1 - .01) = 32
        mlp.fc1.weight[7] = 1.0
        mlp.fc2.weight[:, 100] = 2.0
        mlp.fc1.bias[55] = 3.0
    elastic = ElasticModel(model, Staging(subset="importance"))
    elastic.set_rates(Rates(heads=0.5, mlp=3 / 128))
    assert active(elastic)["blocks.0.attn h"] == [1, 3]
    # Sums of squares above those of other channels: 7: 32 * .99 = 32, 100: 32 * 3.99 = 128, 55: 8.99
    assert active(elastic)["blocks.0.mlp m"] == [7, 55, 100]
    elastic.set_rates(Rates(heads=0.75, mlp=2 / 128))
    assert active(elastic)["blocks.0.attn h"] == [1, 2, 3]
    assert active(elastic)["blocks.0.mlp m"] == [7, 100]


def test_random_subsets_depend_only_on_the_seed_and_the_count():
    def drawn(seed: int, *rates: float) -> dict[str, list[int]]:
        elastic = ElasticModel(vit(), Staging(subset="random"), seed=seed)
        for rate in rates:
            elastic.set_rates(Rates(mlp=rate))
        return active(elastic)

    assert drawn(1, 0.5) == drawn(1, 0.25, 1.0, 0.5)
    assert drawn(1, 0.5) != drawn(2, 0.5)
    quarter, half = drawn(1, 0.25)["blocks.0.mlp m"], drawn(1, 0.5)["blocks.0.mlp m"]
    assert (len(quarter), len(half)) == (32, 64)
    assert quarter == sorted(set(quarter))
    assert not set(quarter) <= set(half)  # drawn independently: nested with a probability of about 2^-32
    assert drawn(1, 0.5)["blocks.1.mlp m"] == half


def test_a_shared_position_bias_follows_the_heads_of_all_layers():
    torch.manual_seed(0)
    options = {**VIT, "img_size": 32}
    model = timm.create_model("vit_relpos_small_patch16_224", **options, shared_rel_pos=True)
    elastic = ElasticModel(model, Staging(subset="importance"))
    elastic.set_rates(Rates(heads=0.5))
    heads = {tuple(numbers) for path, numbers in active(elastic).items() if path.endswith(" h")}
    assert len(heads) == 1
    assert "shared_rel_pos h" in active(elastic)


def test_a_family_that_allows_only_the_leading_heads_refuses_others():
    with torch.device("meta"):
        model = timm.create_model("gcvit_xxtiny")
    assert subsets(model) == ("leading",)
    with pytest.raises(InvalidInput, match=r"staging.subset: 'random'.*must be leading for GlobalContextVit: its global quer"):
        ElasticModel(model, Staging(subset="random"))
