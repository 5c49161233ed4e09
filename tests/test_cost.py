"""Counted cost of a training step, compared with values worked out by hand."""

import pytest
import timm
import torch
from torch import nn

from explorer import Rates, Staging
from explorer.cost import count_step_flops
from explorer.elastic.step_cost import StepCounter, UnsuitableImagesError


def on_meta(build):
    with torch.device("meta"):
        return build()


def test_linear_layers_by_hand():
    # Forward 2*3*5*7; the weight gradient the same; the second layer's input gradient too. Batch 4.
    model = on_meta(lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 5, bias=False), nn.Linear(5, 7, bias=False)))
    first, second = 2 * 4 * 12 * 5, 2 * 4 * 5 * 7
    assert count_step_flops(model, (4, 3, 2, 2)) == 2 * first + 3 * second


def test_grouped_convolutions_are_not_counted_as_dense():
    def stack(groups: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=groups, bias=False))

    # 16 x 16 outputs, batch 2. First: 1x1 from 3 to 8 channels, no input gradient. Second: 9 taps, 8 in / groups.
    first = 2 * 2 * 256 * 3 * 8
    for groups in (1, 2, 8):
        second = 2 * 2 * 256 * 9 * 8 * (8 // groups)
        assert count_step_flops(on_meta(lambda groups=groups: stack(groups)), (2, 3, 16, 16)) == 2 * first + 3 * second


def test_a_vit_by_hand():
    """One block, width 48, 16 tokens and a class token, 4 heads, 192 hidden channels, 5 classes; batch 2."""
    options = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 1, "num_heads": 4, "num_classes": 5}
    model = on_meta(lambda: timm.create_model("vit_tiny_patch16_224", **options))
    tokens = 2 * 17
    patches = 2 * (2 * 16) * (3 * 8 * 8) * 48  # forward; the images need no gradient
    linear = 2 * tokens * 48 * (3 * 48 + 48 + 2 * 192)
    attention = 2 * 2 * (2 * 4 * 17 * 17 * 12)  # q k^T and the sum over values
    head = 2 * 2 * 48 * 5
    assert count_step_flops(model, (2, 3, 32, 32)) == 2 * patches + 3 * (linear + attention + head)


def test_reducing_any_axis_reduces_the_cost(tiny_task):
    full = tiny_task.step_cost(Rates()).flops
    for rates in (Rates(heads=0.5), Rates(mlp=0.5), Rates(tokens=0.5)):
        assert tiny_task.step_cost(rates).flops < full
    both = tiny_task.step_cost(Rates(heads=0.5, mlp=0.5)).flops
    everything = tiny_task.step_cost(Rates(heads=0.5, mlp=0.5, tokens=0.5)).flops
    assert 0.45 < both / full < 0.6
    assert 0.2 < everything / full < 0.35


def small_vit() -> nn.Module:
    return timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=48, depth=1, num_heads=4)


def test_counting_leaves_the_model_as_it_was():
    model = on_meta(small_vit)
    before = count_step_flops(model, (2, 3, 32, 32))
    counter = StepCounter(model, Staging(), (3, 32, 32))
    assert counter.step_cost(Rates(heads=0.5, tokens=0.5), 2).flops < before
    assert counter.step_cost(Rates(), 2).flops == before
    assert count_step_flops(model, (2, 3, 32, 32)) == before


def test_a_copy_of_a_model_with_weights_costs_the_same():
    """In evaluation mode and on the CPU: the copy is counted in training mode, and the model is left as it is."""
    model = small_vit().eval()
    counter = StepCounter.of_copy(model, Staging(), (3, 32, 32))
    half = Rates(heads=0.5, mlp=0.5, tokens=0.5)
    assert counter.step_cost(half, 4) == StepCounter(on_meta(small_vit), Staging(), (3, 32, 32)).step_cost(half, 4)
    assert not model.training
    assert model.blocks[0].mlp.fc1.weight.shape == (192, 48)
    assert not model.blocks[0].mlp.fc1.weight.is_meta


def test_images_that_the_model_cannot_process_are_an_error():
    with pytest.raises(UnsuitableImagesError, match=r"Input width \(30\)"):
        StepCounter(on_meta(small_vit), Staging(), (3, 32, 30)).step_cost(Rates(), 1)


@pytest.mark.parametrize("name", ["swinv2_tiny_window8_256", "swinv2_cr_tiny_224", "swin_tiny_patch4_window7_224"])
def test_work_that_is_done_once_in_a_step_is_counted_once(name):
    """The biases of Swin V2 come from a network over the offsets in a window, which no image changes; Swin has a table."""
    options = {"img_size": 64, "window_size": 4, "embed_dim": 32, "depths": (1, 1), "num_heads": (2, 4), "num_classes": 5}
    counter = StepCounter(on_meta(lambda: timm.create_model(name, **options)).train(), Staging(), (3, 64, 64))
    for rates in (Rates(), Rates(heads=0.5, mlp=0.5)):
        counter.elastic.set_rates(rates)
        counted = [count_step_flops(counter.elastic.model, (images, 3, 64, 64)) for images in (2, 3, 16)]
        assert [counter.step_cost(rates, images).flops for images in (2, 3, 16)] == counted
        assert (counted[2] < 8 * counted[0]) == ("swinv2" in name)
