"""Compilation of blocks: what is compiled is counted, and nothing is left uncompiled unseen. Graphs are traced, not optimized."""

import pytest
import timm
import torch
from torch import nn

from explorer import Rates, Schedule, Stage
from explorer.training import compilation
from explorer.training.compilation import CompiledCode, compile_blocks, without_compiling
from explorer.training.loop import train
from explorer.training.task import Task
from tests.training.runs import planned

pytestmark = pytest.mark.usefixtures("traced_only")


def compiling(spec, **model):
    recipe = spec.recipe.model_copy(update={"compile": True})
    options = {**spec.model.options, "depth": 3, **model}
    return Task(spec.model_copy(update={"recipe": recipe, "model": spec.model.model_copy(update={"options": options})}))


def two_stages(rate):
    half = Stage(rates=Rates(heads=0.5, mlp=rate, tokens=0.5, depth=0.67), duration_ratio=0.5)
    return Schedule(stages=(half, Stage(rates=Rates(), duration_ratio=0.5)), grid=2)


def test_equal_blocks_share_a_graph_and_later_trials_need_none(tiny_spec):
    task = compiling(tiny_spec)
    first, second = (train(task, planned(task, two_stages(0.5), "20%"), seed=seed) for seed in (0, 1))
    assert first.compiled == CompiledCode(graphs=2, graph_breaks=0)  # two of three blocks at half the size, then three in full
    assert second.compiled == CompiledCode(graphs=0, graph_breaks=0)
    timm.create_model(**task.model_arguments()).load_state_dict(first.model.state_dict(), strict=True)


@pytest.mark.nightly
def test_twelve_sizes_in_one_process_are_all_compiled(tiny_spec):
    """torch's own limit is eight; the ninth and all later sizes would run uncompiled."""
    task = compiling(tiny_spec)
    rates = [number / 16 for number in range(2, 13)]
    graphs = [train(task, planned(task, two_stages(rate), "20%"), seed=0).compiled.graphs for rate in rates]
    assert graphs == [2, *[1] * 10]  # the full size is compiled once
    again = train(task, planned(task, two_stages(rates[0]), "20%"), seed=0)
    assert again.compiled.graphs == 0


def test_beyond_the_limit_training_fails_instead_of_going_on_uncompiled(tiny_spec, monkeypatch):
    monkeypatch.setattr(compilation, "MAX_SIZES", 1)
    task = compiling(tiny_spec)
    with pytest.raises(Exception, match="recompile_limit"):
        train(task, planned(task, two_stages(0.5), "20%"), seed=0)


def test_a_model_without_a_stack_of_blocks_is_compiled_as_a_whole(tiny_spec):
    model = timm.create_model("swin_tiny_patch4_window7_224", img_size=32, window_size=4, embed_dim=16, num_classes=3)
    assert not compile_blocks(model)
    assert all(module._compiled_call_impl is None for module in model.modules())


def test_graph_breaks_are_counted():
    class Block(nn.Module):
        def forward(self, x):
            torch._dynamo.graph_break()
            return x + 1

    model = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=16, embed_dim=16, num_heads=2, depth=2)
    model.blocks[0] = Block()
    before = CompiledCode.so_far()
    assert compile_blocks(model)
    model(torch.zeros(1, 3, 32, 32))
    assert CompiledCode.so_far().since(before).graph_breaks == 1


def test_evaluation_compiles_nothing():
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=16, embed_dim=16, num_heads=2, depth=2)
    assert compile_blocks(model)
    before = CompiledCode.so_far()
    with without_compiling():
        model.eval()(torch.zeros(1, 3, 32, 32))
    assert CompiledCode.so_far().since(before) == CompiledCode()


def test_a_recipe_that_does_not_compile_has_no_count(tiny_task):
    assert train(tiny_task, planned(tiny_task, two_stages(1.0), "10%"), seed=0).compiled is None


def test_without_a_compiler_training_says_so_and_goes_on(tiny_spec, monkeypatch):
    monkeypatch.setattr(compilation, "BACKEND", "no_such_backend")
    compilation.can_compile.cache_clear()
    task = compiling(tiny_spec)
    with pytest.warns(UserWarning, match=r"recipe\.compile: nothing can be compiled on this machine"):
        result = train(task, planned(task, two_stages(0.5), "10%"), seed=0)
    compilation.can_compile.cache_clear()
    assert result.compiled is None
