"""Fine-tuning from a file of weights: importance, growth that keeps what they know, frozen parts and layer decay."""

import copy

import pytest
import timm
import torch
from safetensors.torch import save_file

from explorer import Rates
from explorer.elastic import ElasticModel
from explorer.errors import validated
from explorer.spec.staging import Staging
from explorer.spec.task import TaskSpec
from explorer.training.distributed import SINGLE_PROCESS
from explorer.training.loop import train
from explorer.training.task import Task
from explorer.training.training_state import TrainingState
from tests.conftest import TINY_MODEL
from tests.training.runs import planned

IMPORTANT = {"heads": (1, 3), "mlp": tuple(range(1, 128, 2))}
"""Heads and channels that the weights below use; the others contribute a hundredth of what they were initialized to."""


def pretrained():
    """A model of which the odd heads and channels matter, as those of pruned models do."""
    torch.manual_seed(3)
    options = {"img_size": 8, "in_chans": 1, "num_classes": 7, **TINY_MODEL["options"]}
    model = timm.create_model(TINY_MODEL["name"], **options)
    with torch.no_grad():
        for block in model.blocks:
            block.attn.proj.weight.normal_(0, 0.2)
            block.mlp.fc2.weight.normal_(0, 0.2)
            for head in (0, 2):
                block.attn.proj.weight[:, 8 * head : 8 * head + 8] *= 0.01
            block.mlp.fc2.weight[:, ::2] *= 0.01
    return model


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "pretrained.safetensors"
    save_file(pretrained().state_dict(), path)
    return path


def fine_tuning(spec: TaskSpec, path, growth="auto", **recipe) -> Task:
    content = spec.model_dump()
    content |= {"model": {**TINY_MODEL, "checkpoint": str(path)}, "staging": {"subset": "importance", "growth": growth}}
    content["recipe"] |= recipe
    return Task(validated(TaskSpec, content, "task"))


def test_important_heads_and_channels_keep_more_of_what_the_model_computes():
    images = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    full = pretrained().eval()
    with torch.no_grad():
        scores = full(images)
    errors = {}
    for subset in ("leading", "importance"):
        model = copy.deepcopy(full)
        elastic = ElasticModel(model, Staging(subset=subset, growth="initial"))
        elastic.set_rates(Rates(heads=0.5, mlp=0.5))
        with torch.no_grad():
            errors[subset] = float((model(images) - scores).square().mean())
        elastic.set_rates(Rates())
        with torch.no_grad():
            assert torch.equal(model(images), scores)  # nothing was moved
    assert errors["importance"] < 0.01 * errors["leading"]


@pytest.mark.parametrize("growth", ["auto", "copy", "zero"])
def test_growth_brings_back_what_the_weights_know(growth, tiny_spec, weights):
    task = fine_tuning(tiny_spec, weights, growth)
    assert task.growth == "initial"
    reason = {"copy": "overwritten by copies", "zero": "set to zero"}.get(growth)
    said = f"staging.growth: {growth} acts as initial: pretrained weights are not {reason}"
    assert (said in task.warnings) == (reason is not None)
    state = TrainingState(task, seed=0, device=torch.device("cpu"), processes=SINGLE_PROCESS)
    state._staged.set_rates(Rates(heads=0.5, mlp=0.5, depth=0.5))
    orders = state._staged.subset_orders
    assert sorted(orders["blocks.0.attn h"][:2]) == [*IMPORTANT["heads"]]
    assert sorted(orders["blocks.0.mlp m"][:64]) == [*IMPORTANT["mlp"]]
    for _ in range(2):
        state.model(torch.randn(4, 1, 8, 8)).square().mean().backward()
        state.optimizer.step()
        state.optimizer.zero_grad()
    state._staged.set_rates(Rates())
    known, now = pretrained().state_dict(), state.model.state_dict()
    for name in ("blocks.0.mlp.fc1.weight", "blocks.0.mlp.fc1.bias"):
        assert torch.equal(now[name][::2], known[name][::2]), name  # the inactive channels
        assert not torch.equal(now[name][1::2], known[name][1::2]), name
    columns = "blocks.0.mlp.fc2.weight"
    assert torch.equal(now[columns][:, ::2], known[columns][:, ::2])
    for name, tensor in known.items():
        if name.startswith("blocks.1."):  # the inactive block
            assert torch.equal(now[name], tensor), name


def test_weights_that_were_never_trained_are_not_overwritten_either(tiny_spec, tmp_path):
    model = timm.create_model(TINY_MODEL["name"], img_size=8, in_chans=1, num_classes=10, **TINY_MODEL["options"])
    torch.save(model.state_dict(), tmp_path / "w.pt")  # norms of ones, by which a new model is told
    state = TrainingState(
        fine_tuning(tiny_spec, tmp_path / "w.pt"), seed=0, device=torch.device("cpu"), processes=SINGLE_PROCESS
    )
    assert state._staged.pretrained


def test_frozen_parts_keep_the_weights_of_the_file_and_early_layers_learn_more_slowly(tiny_spec, weights, three_stages):
    frozen = {"parts": ["patch_embed", "blocks.0"], "until": 1.0}
    task = fine_tuning(tiny_spec, weights, frozen=frozen, layer_decay=0.5, weight_decay=0.0)
    task.check()
    plan = planned(task, three_stages, "10%")
    result = train(task, plan, seed=0)
    known, now = pretrained().state_dict(), result.model.state_dict()
    for name, tensor in known.items():
        if name.startswith(("patch_embed.", "blocks.0.")):
            assert torch.equal(now[name], tensor), name
    assert not torch.equal(now["blocks.1.mlp.fc1.weight"], known["blocks.1.mlp.fc1.weight"])
    scales = {group["lr_scale"] for group in task.build_optimizer(task.build_model()).param_groups}
    assert scales == {1.0, 0.5, 0.25, 0.125}  # head, two blocks, embedding
