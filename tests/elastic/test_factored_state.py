"""Second moments that Adafactor keeps as means over rows and columns follow a parameter through stages."""

import pytest
import timm
import torch
from timm.optim import create_optimizer_v2

from explorer import Rates
from explorer.elastic import ElasticModel
from explorer.spec.staging import Staging

NAMES = {"adafactor": ("exp_avg_sq_row", "exp_avg_sq_col"), "adafactorbv": ("exp_avg_sq_r", "exp_avg_sq_c")}


def trained(name, rates, growth, mlp_ratio=4.0):
    """A model of width 48 that made three steps at some rates, with its optimizer."""
    torch.manual_seed(0)
    model = timm.create_model(
        "vit_tiny_patch16_224",
        img_size=16,
        patch_size=8,
        embed_dim=48,
        depth=1,
        num_heads=6,
        num_classes=5,
        mlp_ratio=mlp_ratio,
    )
    optimizer = create_optimizer_v2(model, name, lr=1e-2, weight_decay=0.0)
    elastic = ElasticModel(model, Staging(growth=growth))
    elastic.set_rates(rates, optimizer)
    step(model, optimizer, 3)
    return elastic, optimizer


def step(model, optimizer, steps=1):
    for _ in range(steps):
        optimizer.zero_grad()
        images = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(1))
        torch.nn.functional.cross_entropy(model(images), torch.arange(8) % 5).backward()
        optimizer.step()


def flat(optimizer, weight, name):
    return optimizer.state[weight][name].flatten().clone()


@pytest.mark.parametrize("growth", ["copy", "initial"])
def test_means_of_what_stays_active_keep_their_bits_and_new_ones_start_from_the_mean(growth):
    """fc1 is (channels, 48): 48 of its 192 rows are active, then 96. A new row's mean is that of the active rows."""
    elastic, optimizer = trained("adafactor", Rates(mlp=0.25), growth)
    weight = elastic.model.blocks[0].mlp.fc1.weight
    rows, columns = (flat(optimizer, weight, name) for name in NAMES["adafactor"])
    elastic.set_rates(Rates(mlp=0.5), optimizer)
    grown_rows, grown_columns = (flat(optimizer, weight, name) for name in NAMES["adafactor"])
    assert torch.equal(grown_rows[:48], rows)
    assert torch.allclose(grown_rows[48:], rows.mean().expand(48))
    assert torch.equal(grown_columns, columns)
    step(elastic.model, optimizer)
    if growth == "copy":
        assert not torch.isclose(weight[:48], weight[48:], rtol=1e-6, atol=0).all()


def test_rows_and_columns_change_places_with_the_longer_side():
    """Big-vision's Adafactor takes the mean of a row over the longer side: proj is (48, 24) with half of the heads, then square."""
    elastic, optimizer = trained("adafactorbv", Rates(heads=0.5), "initial")
    weight = elastic.model.blocks[0].attn.proj.weight
    outputs, inputs = (optimizer.state[weight][name].clone() for name in reversed(NAMES["adafactorbv"]))
    assert (outputs.shape, inputs.shape) == ((48, 1), (1, 24))
    elastic.set_rates(Rates(), optimizer)
    state = optimizer.state[weight]
    assert torch.equal(state["exp_avg_sq_r"], outputs)
    assert torch.equal(state["exp_avg_sq_c"][:, :24], inputs)
    assert torch.allclose(state["exp_avg_sq_c"][:, 24:], inputs.mean().expand(1, 24))
    step(elastic.model, optimizer)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_small_parameter_is_factored_when_it_has_grown(name):
    """12 of 96 channels are too few to be factored; with 48, row and column means are those of the moments, by hand."""
    elastic, optimizer = trained(name, Rates(mlp=0.125), "initial", mlp_ratio=2.0)
    weight = elastic.model.blocks[0].mlp.fc1.weight
    before = optimizer.state[weight]["exp_avg_sq"].clone()
    elastic.set_rates(Rates(mlp=0.5), optimizer)
    whole = torch.cat([before, before.mean(0).expand(36, 48)])  # new rows have the mean of each column
    assert "exp_avg_sq" not in optimizer.state[weight]
    for key, expected in zip(NAMES[name], (whole.mean(1), whole.mean(0)), strict=True):
        assert torch.allclose(flat(optimizer, weight, key), expected), key
    step(elastic.model, optimizer)
    rows, columns = (flat(optimizer, weight, key) for key in NAMES[name])
    elastic.set_rates(Rates(mlp=0.125), optimizer)  # and back: the product of the factors
    product = rows[:12, None] / rows[:12].mean() * columns
    assert torch.allclose(optimizer.state[weight]["exp_avg_sq"], product)
    step(elastic.model, optimizer)


@pytest.mark.parametrize("name", sorted(NAMES))
@pytest.mark.parametrize("rates", [Rates(heads=0.5, mlp=0.25), Rates(mlp=1 / 16)])
def test_full_size_for_a_checkpoint_changes_no_bit(name, rates):
    elastic, optimizer = trained(name, rates, "initial")
    before = {
        (number, key): value.clone()
        for number, parameter in enumerate(elastic.model.parameters())
        for key, value in optimizer.state[parameter].items()
        if isinstance(value, torch.Tensor)
    }
    assert before
    with elastic.at_full_size(optimizer):
        pass
    parameters = list(elastic.model.parameters())
    for (number, key), value in before.items():
        assert torch.equal(optimizer.state[parameters[number]][key], value), key
