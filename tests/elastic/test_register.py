"""Layouts and models registered from outside the package; `tests/examples/test_extending_model.py` trains such a family."""

import pytest
import timm
import torch
from timm.layers import Attention, GlobalContext, Mlp
from timm.models import VisionTransformer

from explorer import InvalidInput, Rates
from explorer.elastic import ElasticModel, Layout, register_layout, register_model, register_whole
from explorer.elastic.depth import OTHER_BRANCHES, STACKS
from explorer.elastic.image_resizing import RESIZING_SUPPORT
from explorer.elastic.layouts import LAYOUTS, WHOLE
from explorer.elastic.token_dropping import DROP_LOCATIONS, DropLocation
from explorer.spec.staging import Staging

MLP = Layout({"fc1": "m c", "fc2": "c m"})


@pytest.fixture(autouse=True)
def _tables():
    """What a test registers is gone after it."""
    tables = (LAYOUTS, STACKS, RESIZING_SUPPORT, DROP_LOCATIONS)
    rows, whole, branched = [dict(table) for table in tables], list(WHOLE), list(OTHER_BRANCHES)
    yield
    for table, kept in zip(tables, rows, strict=True):
        table.clear()
        table.update(kept)
    WHOLE[:], OTHER_BRANCHES[:] = whole, branched


class OwnMlp(Mlp):
    """A subclass, which needs its own layout."""


def model_with_own_mlp():
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=48, depth=1, num_heads=4)
    model.blocks[0].mlp = OwnMlp(48, 192)
    return model


def test_a_registered_class_is_resized():
    assert ElasticModel(model_with_own_mlp()).axes == ("heads", "tokens")
    register_layout(OwnMlp, MLP)
    register_layout(OwnMlp, Layout({"fc1": "m c", "fc2": "c m"}))  # an equal one
    model = model_with_own_mlp()
    ElasticModel(model).set_rates(Rates(mlp=0.5))
    assert model.blocks[0].mlp.fc1.weight.shape == (96, 48)


def test_a_layout_can_depend_on_how_a_module_was_built():
    register_layout(OwnMlp, lambda module: MLP if module.fc1.out_features > 100 else None)
    assert "mlp" in ElasticModel(model_with_own_mlp()).axes
    model = model_with_own_mlp()
    model.blocks[0].mlp = OwnMlp(48, 96)
    assert "mlp" not in ElasticModel(model).axes


def test_a_class_that_keeps_its_size_is_not_unknown():
    model = model_with_own_mlp()
    assert ElasticModel(model).unknown == ("blocks.0.mlp (OwnMlp)",)
    register_whole(OwnMlp)
    assert ElasticModel(model).unknown == ()


def test_a_registered_model_class_reduces_depth_and_tokens():
    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = torch.nn.Conv2d(3, 48, 8, 8)
            self.drop = torch.nn.Identity()
            self.layers = torch.nn.ModuleList(timm.models.vision_transformer.Block(48, num_heads=4) for _ in range(4))

        def forward(self, images):
            x = self.drop(self.patches(images).flatten(2).transpose(1, 2))
            self.seen = []
            for layer in self.layers:
                x = layer(x)
                self.seen.append(x.shape[1])
            return x.mean(1)

    assert ElasticModel(Plain(), image_size=32).axes == ("heads", "mlp")
    location = DropLocation("drop", lambda _, drop, keep: keep(), lambda _, size: (size[0] // 8, size[1] // 8))
    register_model(Plain, blocks="layers", token_dropping=location)
    model = Plain()
    elastic = ElasticModel(model, image_size=32)
    assert elastic.axes == ("heads", "mlp", "tokens", "depth")
    elastic.set_rates(Rates(tokens=0.25, depth=0.5))
    model.train()(torch.zeros(2, 3, 32, 32))
    assert model.seen == [4, 4]  # a quarter of 4 x 4 patches, in two blocks


def test_a_registered_model_class_may_have_blocks_with_other_branches():
    class Branched(VisionTransformer):
        pass

    options = {"img_size": 16, "patch_size": 8, "embed_dim": 32, "num_heads": 4, "depth": 2}
    assert ElasticModel(Branched(**options)).growth == "copy_normalized"
    for _ in range(2):
        register_model(Branched, other_branches=True)
    assert ElasticModel(Branched(**options)).growth == "initial"
    with pytest.raises(InvalidInput, match=r"rates\.depth.*growth: copy_normalized: blocks of Branched have more than"):
        ElasticModel(Branched(**options), Staging(growth="copy_normalized")).set_rates(Rates(depth=0.5))


@pytest.mark.parametrize(
    ("register", "message"),
    [
        (
            lambda: register_layout(Attention, MLP),
            r"^register_layout: 'timm\.layers\.attention\.Attention': already has another layout; a class can have only one$",
        ),
        (lambda: register_layout(GlobalContext, MLP), r"GlobalContext': keeps its full size \(register_whole\)"),
        (lambda: register_whole(Attention), r"Attention': has a layout \(register_layout\), so it is resized$"),
        (
            lambda: register_model(VisionTransformer, blocks="layers"),
            r"VisionTransformer': already has another stack of blocks",
        ),
        (lambda: register_layout("Attention", MLP), r"^register_layout: 'Attention': must be a subclass of torch\.nn\.Module$"),
        (lambda: register_layout(OwnMlp, "m c"), r"must be a Layout or a function that makes one"),
        (lambda: register_layout(OwnMlp, Layout({"fc1": "(m c"})), r"OwnMlp\.fc1: '\(m c': not a tensor pattern"),
        (
            lambda: register_layout(OwnMlp, Layout({"fc1": "m c"}, narrow=Attention)),
            r"^register_layout: narrow: 'timm.*Attention': must be a subclass of .*OwnMlp$",
        ),
    ],
)
def test_registrations_that_contradict_themselves_or_others_are_refused_in_one_line(register, message):
    with pytest.raises(InvalidInput, match=message) as caught:
        register()
    assert "\n" not in str(caught.value)
