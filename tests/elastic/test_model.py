"""The resized model compared with the untouched timm model and with the full model whose inactive columns are zero."""

import copy

import pytest
import timm
import torch
from timm.layers import Mlp
from timm.optim import create_optimizer_v2

from explorer import InvalidInput, Rates
from explorer.elastic import ElasticModel
from explorer.spec.staging import Staging

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 4, "num_classes": 5}
MODELS = {
    "vit": ("vit_tiny_patch16_224", {}),
    "vit, average pooling": ("vit_tiny_patch16_224", {"global_pool": "avg", "class_token": False}),
    "vit, qk norm and scaled norms": (
        "vit_tiny_patch16_224",
        {"qk_norm": True, "scale_attn_norm": True, "scale_mlp_norm": True},
    ),
    "vit, registers": ("vit_tiny_patch16_224", {"reg_tokens": 3}),
    "deit": ("deit_tiny_patch16_224", {}),
    "deit, distilled": ("deit_tiny_distilled_patch16_224", {}),
    "deit3": ("deit3_small_patch16_224", {}),
}
# The output of a norm over the hidden or attention width changes with the width.
COMPARABLE = [name for name in MODELS if "scaled norms" not in name]


def build(name: str, seed: int = 0) -> torch.nn.Module:
    model, options = MODELS[name]
    torch.manual_seed(seed)
    return timm.create_model(model, **{**SMALL, **options}).double()


def images(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def logits(model: torch.nn.Module) -> torch.Tensor:
    output = model(images())
    return output if isinstance(output, torch.Tensor) else torch.stack(list(output)).mean(0)


def train_a_step(model, optimizer):
    torch.nn.functional.cross_entropy(logits(model), torch.tensor([0, 1, 2])).backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_at_rate_one_is_bit_identical_to_untouched_timm(name):
    model, untouched = build(name), build(name)
    elastic = ElasticModel(model, Staging(growth="initial"))
    elastic.set_rates(Rates(heads=0.5, mlp=0.25, tokens=0.5))
    elastic.set_rates(Rates())
    assert torch.equal(logits(model.eval()), logits(untouched.eval()))
    model.train(), untouched.train()
    ours, theirs = logits(model), logits(untouched)
    assert torch.equal(ours, theirs)
    ours.sum().backward()
    theirs.sum().backward()
    for (key, mine), other in zip(model.named_parameters(), untouched.parameters(), strict=True):
        assert (mine.grad is None and other.grad is None) or torch.equal(mine.grad, other.grad), key


@pytest.mark.parametrize("name", COMPARABLE)
@pytest.mark.parametrize("rate", [0.25, 0.5, 0.75])
def test_a_shrunk_model_equals_the_full_one_with_inactive_columns_zeroed(name, rate):
    model, zeroed = build(name), build(name)
    ElasticModel(model).set_rates(Rates(heads=rate, mlp=rate))
    heads = round(4 * rate)
    for block in zeroed.blocks:
        with torch.no_grad():
            block.attn.proj.weight[:, heads * 12 :] = 0  # 48 / 4 = 12 values per head
            block.mlp.fc2.weight[:, round(192 * rate) :] = 0
    assert model.blocks[0].attn.qkv.weight.shape == (3 * heads * 12, 48)
    assert torch.allclose(logits(model.eval()), logits(zeroed.eval()), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("fused", [False, True])
def test_growth_keeps_inactive_values_and_their_moments(name, fused):
    model = build(name)
    elastic = ElasticModel(model)
    optimizer = create_optimizer_v2(model, "adamw", lr=1e-2, weight_decay=0.1, fused=fused)
    train_a_step(model, optimizer)
    before = copy.deepcopy(model.state_dict())
    moments = {p: s["exp_avg_sq"].clone() for p, s in optimizer.state.items()}
    identities = [id(p) for p in model.parameters()]

    elastic.set_rates(Rates(heads=0.5, mlp=0.25), optimizer)
    train_a_step(model, optimizer)
    elastic.set_rates(Rates(), optimizer)

    assert [id(p) for p in model.parameters()] == identities
    attention, mlp = model.blocks[1].attn, model.blocks[1].mlp
    # Active: the first 2 of 4 heads, each 12 wide, in each of q, k and v; the first 48 of 192 channels.
    inactive = torch.ones(3, 4, 12, dtype=torch.bool)
    inactive[:, :2] = False
    for key, parameter, rest, dim in (
        ("blocks.1.attn.qkv.weight", attention.qkv.weight, inactive.flatten(), 0),
        ("blocks.1.attn.proj.weight", attention.proj.weight, torch.arange(48) >= 24, 1),
        ("blocks.1.mlp.fc1.weight", mlp.fc1.weight, torch.arange(192) >= 48, 0),
        ("blocks.1.mlp.fc2.weight", mlp.fc2.weight, torch.arange(192) >= 48, 1),
    ):
        for new, old in ((parameter.data, before[key]), (optimizer.state[parameter]["exp_avg_sq"], moments[parameter])):
            new, old = new.movedim(dim, 0), old.movedim(dim, 0)
            assert new.shape == old.shape
            assert torch.equal(new[rest], old[rest]), key
            assert not torch.equal(new[~rest], old[~rest]), key


def test_state_created_in_a_small_stage_has_zero_moments_for_new_entries():
    model = build("vit")
    elastic = ElasticModel(model)
    optimizer = create_optimizer_v2(model, "adamw", lr=1e-2)
    elastic.set_rates(Rates(mlp=0.5), optimizer)
    train_a_step(model, optimizer)
    elastic.set_rates(Rates(), optimizer)
    moments = optimizer.state[model.blocks[0].mlp.fc1.weight]["exp_avg"]
    assert moments.shape == (192, 48)
    assert torch.count_nonzero(moments[96:]) == 0
    assert torch.count_nonzero(moments[:96]) > 0
    train_a_step(model, optimizer)


def test_a_direct_change_between_two_sizes_equals_one_through_full_size():
    model, stepwise = build("vit"), build("vit")
    for candidate, path in ((model, [0.25, 0.75, 1]), (stepwise, [0.25, 1, 0.75, 1])):
        elastic = ElasticModel(candidate, Staging(growth="initial"))
        optimizer = create_optimizer_v2(candidate, "adamw", lr=1e-2)
        for rate in path:
            elastic.set_rates(Rates(heads=rate, mlp=rate), optimizer)
            if rate < 1:
                train_a_step(candidate, optimizer)
    # The second path passes through full size without training there, so the weights must be the same.
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), stepwise.parameters(), strict=True))


def test_a_finished_model_loads_into_plain_timm():
    model = build("vit")
    elastic = ElasticModel(model)
    optimizer = create_optimizer_v2(model, "adamw", lr=1e-2)
    for rate in (0.25, 0.5, 1):
        elastic.set_rates(Rates(heads=rate, mlp=rate, tokens=rate), optimizer)
        train_a_step(model, optimizer)
    plain = build("vit", seed=9)
    plain.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(logits(plain.eval()), logits(model.eval()))


def test_realised_rates_are_of_whole_heads_and_channels():
    elastic = ElasticModel(build("vit"))
    assert elastic.realise(Rates(heads=0.6, mlp=0.333)) == Rates(heads=0.5, mlp=64 / 192)
    assert elastic.realise(elastic.realise(Rates(heads=0.7, mlp=0.7, tokens=0.7))) == elastic.realise(
        Rates(heads=0.7, mlp=0.7, tokens=0.7)
    )


def test_the_error_for_a_rate_that_leaves_nothing_names_the_module():
    with pytest.raises(
        InvalidInput, match=r"rates\.heads: 0\.1: leaves none of the 4 of blocks\.0\.attn; must be at least 0\.125"
    ):
        ElasticModel(build("vit")).set_rates(Rates(heads=0.1))
    with pytest.raises(InvalidInput, match=r"rates\.tokens.*leaves none of the 16 tokens"):
        ElasticModel(build("vit")).set_rates(Rates(tokens=0.01))


def test_an_axis_that_a_model_lacks_must_stay_at_one():
    mixer = timm.create_model("mixer_s32_224", img_size=32, num_classes=5)
    elastic = ElasticModel(mixer)
    assert elastic.axes == ("mlp",)
    with pytest.raises(InvalidInput, match=r"rates\.heads: 0\.5: must be 1: MlpMixer cannot be reduced"):
        elastic.set_rates(Rates(heads=0.5))


@pytest.mark.parametrize(("name", "kind"), [("resnet10t", "ResNet"), ("gernet_s", "ByobNet")])
def test_a_model_without_transformer_blocks_is_refused(name, kind):
    with pytest.raises(InvalidInput, match=rf"{kind}.*nothing in it can be resized"):
        ElasticModel(timm.create_model(name))


def test_an_optimizer_whose_state_is_not_shaped_like_its_parameter_is_refused():
    model = build("vit").float()
    optimizer = torch.optim.Adafactor(model.parameters(), lr=1e-2)  # its factors are not those of timm's
    torch.manual_seed(0)
    model(images().float()).sum().backward()
    optimizer.step()
    with pytest.raises(InvalidInput, match=r"optimizer: 'Adafactor': its state .* cannot be resized"):
        ElasticModel(model).set_rates(Rates(mlp=0.5), optimizer)


def test_a_row_that_does_not_match_its_module_raises():
    model = build("vit")
    model.blocks[0].mlp.fc2 = torch.nn.Linear(100, 48)
    with pytest.raises(ValueError, match="a dimension of 100 is not"):
        ElasticModel(model)


def test_a_subclass_needs_its_own_layout():
    class Other(Mlp):
        pass

    model = build("vit")
    model.blocks[0].mlp = Other(48, 192).double()
    ElasticModel(model).set_rates(Rates(mlp=0.5))
    assert model.blocks[0].mlp.fc1.out_features == 192
    assert model.blocks[1].mlp.fc1.out_features == 96


class HomeMadeAttention(torch.nn.Module):
    """Attention without a layout."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_heads, self.everything = 4, torch.nn.Linear(width, width)

    def forward(self, x, **_):
        return self.everything(x)


def test_an_unknown_class_inside_a_transformer_is_named():
    model = timm.create_model("vit_tiny_patch16_224", depth=2)
    assert ElasticModel(copy.deepcopy(model)).unknown == ()
    model.blocks[1].attn = HomeMadeAttention(192)
    assert ElasticModel(model).unknown == ("blocks.1.attn (HomeMadeAttention)",)
    model.blocks[0].attn, model.blocks[0].mlp, model.blocks[1].mlp = (HomeMadeAttention(192), *(torch.nn.Identity(),) * 2)
    with pytest.raises(
        InvalidInput, match=r"nothing in it can be resized: blocks.0.attn \(HomeMadeAttention\) has no row.*register_layout"
    ):
        ElasticModel(model)


def test_a_cnn_is_refused_in_one_line():
    with pytest.raises(
        InvalidInput, match="model: 'ResNet': nothing in it can be resized: it has no attention or MLP"
    ) as caught:
        ElasticModel(timm.create_model("resnet18"))
    assert "\n" not in str(caught.value)


def test_a_row_that_does_not_match_its_module_raises_with_the_class_name():
    model = timm.create_model("vit_tiny_patch16_224", depth=1)
    model.blocks[0].attn.qkv = torch.nn.Linear(192, 3 * 192 + 1)
    with pytest.raises(ValueError, match=r"blocks\.0\.attn \(Attention\), weight: a dimension of 577"):
        ElasticModel(model)


def test_a_model_can_be_resized_while_a_loss_is_held():
    """Training loops keep `loss` and its graph until the next step computes another."""
    model = timm.create_model(
        "vit_tiny_patch16_224", img_size=16, patch_size=4, embed_dim=32, depth=2, num_heads=4, num_classes=3
    )
    elastic = ElasticModel(model)
    images, held = torch.randn(2, 3, 16, 16), []
    for rates in (Rates(), Rates(heads=0.5, mlp=0.5), Rates()):
        elastic.set_rates(rates)
        loss = model(images).sum()
        loss.backward()
        held.append(loss)
        assert all(p.grad is not None and p.grad.shape == p.shape for p in model.parameters())
