"""Wrapped models are found or refused, whatever torch calls their classes."""

import gc

import pytest
import timm
import torch
from torch import distributed, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from explorer import InvalidInput
from explorer.production.wrappers import renew_wrappers, unwrapped
from tests.production.loops import small as tiny
from tests.production.loops import staged


@pytest.fixture
def process_group(tmp_path):
    """A group of this process alone."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def small():
    return timm.create_model("vit_tiny_patch16_224", depth=1, embed_dim=32, num_heads=2, img_size=32)


def test_the_model_within_wrappers_is_found(process_group):
    """Fails when a release of torch gives compiled models another class: `wrappers.COMPILED` must then name it."""
    model = small()
    assert unwrapped(model) is model
    assert unwrapped(torch.compile(model, backend="eager")) is model
    assert unwrapped(DistributedDataParallel(model)) is model
    assert unwrapped(torch.compile(DistributedDataParallel(model), backend="eager")) is model


@pytest.mark.filterwarnings("ignore")  # of FSDP on the CPU
def test_what_cannot_be_resized_is_refused_by_name(process_group):
    with pytest.raises(InvalidInput, match="model: 'DataParallel': cannot be resized; wrap the model in Distributed"):
        unwrapped(nn.DataParallel(small()))
    sharded = small()
    fully_shard(sharded, mesh=distributed.init_device_mesh("cpu", (1,)))
    with pytest.raises(InvalidInput, match=r"model: 'FSDPVisionTransformer': its parameters are shards \(FSDP\)"):
        unwrapped(sharded)
    with pytest.raises(InvalidInput, match="static_graph: True: must be False: the graph changes with every stage"):
        unwrapped(DistributedDataParallel(small(), static_graph=True))
    parts = small()
    fully_shard(parts.blocks[0], mesh=distributed.init_device_mesh("cpu", (1,)))
    with pytest.raises(InvalidInput, match=r"model: 'blocks.0.norm1.weight': is a shard of a parameter \(DTensor"):
        unwrapped(parts)


def test_renewal_keeps_the_settings_and_hooks_of_a_wrapper_and_concerns_no_other(process_group):
    model, other = small(), DistributedDataParallel(small())
    around = nn.Sequential(model)  # as a LightningModule has it
    wrapper = DistributedDataParallel(around, bucket_cap_mb=7, gradient_as_bucket_view=True, find_unused_parameters=True)
    wrapper.register_comm_hook(None, allreduce_hook)
    reducers = wrapper.reducer, other.reducer
    assert renew_wrappers(model) == 1
    assert wrapper.reducer is not reducers[0]
    assert other.reducer is reducers[1]
    assert wrapper.bucket_bytes_cap == 7 * 2**20
    assert wrapper.gradient_as_bucket_view
    assert wrapper.find_unused_parameters
    assert [hook for hook, _ in wrapper._comm_hooks] == [allreduce_hook]
    wrapper(torch.zeros(2, 3, 32, 32)).sum().backward()
    assert model.head.weight.grad is not None
    del wrapper, around
    gc.collect()
    assert renew_wrappers(model) == 0


def test_a_static_graph_of_a_wrapper_that_came_later_is_refused_at_the_first_step(process_group):
    model, optimizer = tiny()
    training = staged(model, optimizer)
    wrapper = DistributedDataParallel(model, static_graph=True)
    with pytest.raises(InvalidInput, match="static_graph: True: must be False"):
        training.step()
    assert training.begun == 0
    del wrapper
