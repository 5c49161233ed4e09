"""Growth initialization: weights and optimizer states of newly active entries."""

import pytest
import timm
import torch
from timm.optim import create_optimizer_v2

from explorer import InvalidInput, Rates
from explorer.elastic import ElasticModel
from explorer.errors import validated
from explorer.spec.staging import Staging

VIT = {"img_size": 16, "patch_size": 8, "embed_dim": 32, "depth": 4, "num_heads": 4, "num_classes": 5}
HALF = Rates(heads=0.5, mlp=0.5)


def trained(optimizer: str = "adamw", steps: int = 100, **settings):
    """A small ViT, its optimizer and its `ElasticModel` after training with half of the heads and channels."""
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", **VIT)
    made = create_optimizer_v2(model, optimizer, lr=1e-3, weight_decay=0.0)
    elastic = ElasticModel(model, Staging(**settings))
    elastic.set_rates(HALF, made)
    for _ in range(steps):
        step(model, made)
    return model, made, elastic


def step(model, optimizer):
    images, labels = torch.randn(8, 3, 16, 16), torch.randint(5, (8,))
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(images), labels).backward()
    optimizer.step()


def first_updates(grow: bool, optimizer: str = "adamw") -> torch.Tensor:
    """Absolute first updates of new entries, in learning rates."""
    model, made, elastic = trained(optimizer, growth="initial")
    elastic.set_rates(Rates(), made, grow=grow)
    new = [(block.mlp.fc1.weight, slice(64, None)) for block in model.blocks]
    new += [(block.attn.qkv.weight, slice(16, 32)) for block in model.blocks]  # queries of heads 2 and 3
    before = [weight[rows].detach().clone() for weight, rows in new]
    step(model, made)
    return torch.cat([((w[rows] - b).abs() / 1e-3).flatten() for (w, rows), b in zip(new, before, strict=True)]).detach()


def test_adams_first_update_of_new_entries_is_not_several_learning_rates():
    from_zero, initialized = first_updates(grow=False), first_updates(grow=True)
    # (1 - .9) / sqrt(1 - .999) = 3.16 for any gradient, times the bias correction after 100 steps
    assert from_zero.median() == pytest.approx(3.16 * (1 - 0.999**101) ** 0.5, rel=0.02)
    assert initialized.median() < 0.5
    assert initialized.quantile(0.99) < 1


@pytest.mark.parametrize("optimizer", ["sgd", "lion", "rmsprop", "nadamw"])
def test_growth_works_with_other_optimizers(optimizer):
    model, made, elastic = trained(optimizer, steps=5)
    elastic.set_rates(Rates(), made)
    step(model, made)
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_new_second_moments_are_the_mean_of_the_previous_ones():
    model, made, elastic = trained(steps=3, growth="initial")
    weight = model.blocks[0].mlp.fc2.weight  # 32 x 64 of 128
    state = made.state[weight]
    old = state["exp_avg_sq"].clone()
    elastic.set_rates(Rates(), made)
    assert torch.equal(state["exp_avg_sq"][:, :64], old)
    assert torch.equal(state["exp_avg_sq"][:, 64:], old.mean(dim=1, keepdim=True).expand(-1, 64))
    assert not state["exp_avg"][:, 64:].any()
    # Entries that were trained before they became inactive keep their moments.
    state["exp_avg_sq"][:, 64:] = 7.0
    elastic.set_rates(HALF, made)
    elastic.set_rates(Rates(), made)
    assert (state["exp_avg_sq"][:, 64:] == 7.0).all()


@pytest.mark.parametrize("rates", [HALF, Rates(depth=0.5), Rates(heads=0.5, mlp=0.25, depth=0.5)])
def test_with_zero_growth_the_output_does_not_jump_and_new_entries_learn(rates):
    images = torch.randn(8, 3, 16, 16)
    jumps = {}
    for growth in ("initial", "zero"):
        model, made, elastic = trained(steps=30, growth=growth, **({} if rates is HALF else {"blocks": "prefix"}))
        elastic.set_rates(rates, made)
        with torch.no_grad():
            small = model.eval()(images)
        elastic.set_rates(Rates(), made)
        with torch.no_grad():
            jumps[growth] = (model(images) - small).abs().max().item()
        new = [model.blocks[3].mlp.fc2.weight[:, 96:], model.blocks[0].mlp.fc2.weight[:, 96:]]
        started = [value.detach().clone() for value in new]
        for _ in range(2):
            step(model.train(), made)
        assert not torch.equal(new[0], started[0])
    assert jumps["zero"] < 1e-5 < jumps["initial"]


def test_a_temporary_change_without_growth_changes_nothing():
    model, made, elastic = trained(steps=3, growth="zero")
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    moments = [made.state[p]["exp_avg_sq"].clone() for p in model.parameters()]
    elastic.set_rates(Rates(), made, grow=False)
    assert model.blocks[0].mlp.fc2.weight[:, 64:].abs().min() > 0  # the initial weights, not zero
    elastic.set_rates(HALF, made, grow=False)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(made.state[p]["exp_avg_sq"], m) for p, m in zip(model.parameters(), moments, strict=True))


def test_zero_growth_needs_subsets_that_only_grow():
    with pytest.raises(InvalidInput, match="growth: zero needs a subset that only grows"):
        validated(Staging, {"subset": "random", "growth": "zero"}, "staging")
    with pytest.raises(InvalidInput, match="growth: zero needs blocks that stay active: prefix"):
        validated(Staging, {"blocks": "even", "growth": "zero"}, "staging")


def test_zero_growth_is_refused_where_blocks_have_other_branches():
    with torch.device("meta"):
        model = timm.create_model("xcit_nano_12_p16_224")
    elastic = ElasticModel(model, Staging(growth="zero"))
    elastic.set_rates(HALF)
    with pytest.raises(InvalidInput, match=r"rates.depth.*must be 1 with growth: zero: blocks of Xcit"):
        elastic.set_rates(Rates(depth=0.5))
