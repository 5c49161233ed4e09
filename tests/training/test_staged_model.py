"""Model, optimizer and average are resized, saved and restored together."""

import copy

import pytest
import timm
import torch
from timm.utils import ModelEmaV3

from explorer import InvalidInput, Rates, Staging
from explorer.training.staged_model import StagedModel

HALF = Rates(heads=0.5, mlp=0.5)


def staged_model(seed=0, **staging) -> StagedModel:
    torch.manual_seed(seed)
    model = timm.create_model(
        "vit_tiny_patch16_224", img_size=16, patch_size=4, embed_dim=32, depth=1, num_heads=4, num_classes=5
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    average = ModelEmaV3(model, decay=0.9).module
    return StagedModel(model, optimizer, average, staging=Staging(**staging), image_size=16, seed=seed)


def train_step(staged: StagedModel) -> None:
    staged.optimizer.zero_grad()
    staged.model(torch.ones(2, 3, 16, 16)).square().sum().backward()
    staged.optimizer.step()


def widths(staged: StagedModel) -> list[int]:
    """MLP widths of model, first moments and average."""
    weight = staged.model.blocks[0].mlp.fc1.weight
    return [len(weight), len(staged.optimizer.state[weight]["exp_avg"]), len(staged.average.blocks[0].mlp.fc1.weight)]


def test_model_optimizer_and_average_are_resized_together():
    staged = staged_model()
    train_step(staged)
    assert widths(staged) == [128, 128, 128]
    assert staged.set_rates(HALF)
    assert not staged.set_rates(HALF)
    assert widths(staged) == [64, 64, 64]
    assert (staged.requested, staged.rates) == (HALF, HALF)
    with staged.at_full_size():
        assert widths(staged) == [128, 128, 128]
    assert widths(staged) == [64, 64, 64]
    train_step(staged)


def test_a_state_at_full_size_is_restored_into_another_model():
    staged = staged_model()
    staged.set_rates(HALF)
    train_step(staged)
    with staged.at_full_size():
        state = copy.deepcopy(staged.state_dict())
    restored = staged_model(seed=1)
    restored.load_state_dict(state)
    restored.set_rates(HALF, grow=False)
    for each in (staged, restored):
        train_step(each)
        each.set_rates(Rates())
        train_step(each)
    for part in ("model", "average"):
        one, other = (getattr(each, part).state_dict() for each in (staged, restored))
        assert all(torch.equal(tensor, other[name]) for name, tensor in one.items()), part


def test_the_order_of_an_importance_subset_is_carried_over():
    staged, other = staged_model(subset="importance"), staged_model(seed=1, subset="importance")
    assert staged.subset_orders != other.subset_orders
    other.subset_orders = staged.subset_orders
    assert staged.subset_orders == other.subset_orders
    with staged.at_full_size():
        other.load_state_dict(copy.deepcopy(staged.state_dict()))
    for each in (staged, other):
        each.set_rates(HALF)
    for part in ("model", "average"):
        one, two = (getattr(each, part).blocks[0].mlp.fc1.weight for each in (staged, other))
        assert torch.equal(one, two)


def test_impossible_rates_are_refused():
    with pytest.raises(InvalidInput, match=r"rates\.heads"):
        staged_model().set_rates(Rates(heads=0.1))
