"""Windows of Swin transformers that shrink with the image: nothing is padded, and what is trained fits the full model."""

import copy
import re

import pytest
import timm
import torch
from timm.optim import create_optimizer_v2

from explorer import InvalidInput, Rates
from explorer.cost import count_passes
from explorer.elastic import ElasticModel
from explorer.spec.staging import Staging
from tests.elastic.families_hierarchical import FAMILIES, SWIN

SWINS = ["swin", "swinv2", "swinv2_cr"]  # 16 x 16 and 8 x 8 patches in windows of 4 x 4
OBLONG = "swin s3"  # windows of 4 x 2


def build(label, **options):
    name, defaults = FAMILIES[label]
    torch.manual_seed(0)
    return timm.create_model(name, **{**defaults, "num_classes": 5, **options})


def without_randomness(model):
    for module in model.modules():
        for name in ("drop_prob", "p"):
            if hasattr(module, name):
                setattr(module, name, 0.0)


def images():
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def train(model, optimizer):
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model.train()(images()), torch.arange(4)).backward()
    optimizer.step()


@pytest.mark.parametrize("policy", ["resize", "center"])
@pytest.mark.parametrize("label", [*SWINS, OBLONG])
def test_a_training_step_at_fewer_tokens_pads_nothing(label, policy):
    model = build(label)
    windows = {name: block.window_size for name, block in model.named_modules() if hasattr(block, "shift_size")}
    elastic = ElasticModel(model, Staging(token_policy=policy), image_size=32)
    optimizer = create_optimizer_v2(model, "adamw", lr=1e-2, weight_decay=0.1)
    elastic.set_rates(Rates(heads=0.5, tokens=0.25), optimizer)
    padded = []

    def look(block, arguments):
        x = arguments[0]
        padded.extend(side % window for side, window in zip(x.shape[1:3], block.window_size, strict=True))

    for name, full in windows.items():
        block = model.get_submodule(name)
        block.register_forward_pre_hook(look)
        assert block.window_size == (full[0] // 2, full[1] // 2)
    before = copy.deepcopy(model.state_dict())
    train(model, optimizer)
    assert not any(padded)
    assert len(padded) == 2 * len(windows)
    changed = [key for key, value in model.state_dict().items() if not torch.equal(value, before[key])]
    assert any("attn" in key for key in changed)


def test_a_smaller_window_trains_the_table_entries_of_its_offsets_and_they_stay():
    """A window of 2 of 4: offsets -1, 0, 1 of -3 to 3, in rows and columns."""
    model = build("swin")
    elastic = ElasticModel(model, Staging(token_policy="resize"), image_size=32)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    attention = model.layers[0].blocks[0].attn
    table = attention.relative_position_bias_table
    start, index = table.detach().clone(), attention.relative_position_index.clone()
    elastic.set_rates(Rates(tokens=0.25), optimizer)
    train(model, optimizer)
    changed = (table.detach() != start).any(1).unflatten(0, (7, 7))
    expected = torch.zeros(7, 7, dtype=torch.bool)
    expected[2:5, 2:5] = True
    assert torch.equal(changed, expected)
    trained = table.detach().clone()
    elastic.set_rates(Rates(), optimizer)
    assert attention.relative_position_bias_table is table
    assert torch.equal(table, trained)
    assert torch.equal(attention.relative_position_index, index)


@pytest.mark.parametrize("label", SWINS)
def test_two_tokens_of_a_smaller_window_have_the_bias_that_they_have_in_the_full_one(label):
    """Windows 2 x 2 within 4 x 4: the tokens 0, 1, 4, 5 of the full window."""
    model = build(label).eval()  # the network for the biases of swinv2_cr has dropout
    block = model.get_submodule("stages.0.blocks.0" if label == "swinv2_cr" else "layers.0.blocks.0")

    def bias():
        attention = block.attn
        if label == "swinv2":
            table = attention.cpb_mlp(attention.relative_coords_table).view(-1, attention.num_heads)
            area = attention.window_size[0] * attention.window_size[1]
            return table[attention.relative_position_index.view(-1)].view(1, area, area, -1).permute(0, 3, 1, 2)
        return attention._relative_positional_encodings() if label == "swinv2_cr" else attention._get_rel_pos_bias()

    full = bias()
    ElasticModel(model, Staging(token_policy="resize"), image_size=32).set_rates(Rates(tokens=0.25))
    corner = torch.tensor([0, 1, 4, 5])
    torch.testing.assert_close(bias(), full[:, :, corner][:, :, :, corner])


@pytest.mark.parametrize("label", SWINS)
def test_a_smaller_window_computes_what_a_model_of_that_size_computes(label):
    """Half of each side is a model for images of 16 pixels with windows of half the size and a part of each position table."""
    model = build(label)
    ours = copy.deepcopy(model).eval()
    elastic = ElasticModel(ours, Staging(token_policy="resize"), image_size=32)
    elastic.set_rates(Rates(tokens=0.25))
    small = build(label, img_size=16, window_size=2).eval()
    small.load_state_dict(
        {
            key: _of_smaller_window(value, theirs) if value.shape != theirs.shape else value
            for (key, value), theirs in zip(model.state_dict().items(), small.state_dict().values(), strict=True)
        }
    )
    if label == "swinv2":  # whose offsets are divided by the size of the window that the network was trained for
        for mine, theirs in zip(ours.modules(), small.modules(), strict=True):
            if hasattr(theirs, "relative_coords_table"):
                theirs.relative_coords_table = mine.relative_coords_table
    batch = images()
    smaller = torch.nn.functional.interpolate(batch, (16, 16), mode="bilinear", antialias=True)
    without_randomness(ours)
    without_randomness(small)
    torch.testing.assert_close(ours.train()(batch), small.train()(smaller))


def _of_smaller_window(table, smaller):
    """The central offsets of a table of square windows."""
    side, less = (round(len(each) ** 0.5) for each in (table, smaller))
    edge = (side - less) // 2
    return table.unflatten(0, (side, side))[edge : side - edge, edge : side - edge].flatten(0, 1)


def test_evaluation_uses_full_windows_within_a_stage():
    model, batch = build("swin"), images()
    expected = model.eval()(batch)
    elastic = ElasticModel(model, Staging(token_policy="center"), image_size=32)
    elastic.set_rates(Rates(tokens=0.25))
    for _ in range(2):
        reduced = model.train()(batch)
        assert torch.equal(model.eval()(batch), expected)
    assert not torch.equal(reduced, expected)


@pytest.mark.parametrize("policy", ["resize", "center"])
@pytest.mark.parametrize("label", SWINS)
def test_features_of_a_model_that_is_evaluated_within_a_stage_are_those_of_full_windows(label, policy):
    """`forward_features` and `forward_intermediates` do not run the hooks of the model itself."""
    model, batch = build(label).eval(), images()
    without_randomness(model)
    features, levels = model.forward_features(batch), model.forward_intermediates(batch, intermediates_only=True)
    elastic = ElasticModel(model, Staging(token_policy=policy), image_size=32)
    elastic.set_rates(Rates(tokens=0.25))
    model.train()(batch)
    model.eval()
    assert torch.equal(model.forward_features(batch), features)
    model.train()(batch)
    model.eval()
    for mine, theirs in zip(model.forward_intermediates(batch, intermediates_only=True), levels, strict=True):
        assert torch.equal(mine, theirs)
    if policy == "center":  # in training, too, it crops the patches of `forward_features`
        assert model.train().forward_features(batch).numel() == features.numel() // 4


def test_cost_falls_with_the_tokens_without_padding():
    """Width 32, then 64; 2 blocks each: only attention within windows (w^2 a token) and the patches differ from a quarter."""
    costs = []
    for tokens in (1.0, 0.25):
        with torch.device("meta"):
            model = build("swin")
        ElasticModel(model, Staging(token_policy="resize"), image_size=32).set_rates(Rates(tokens=tokens))
        costs.append(count_passes(model, (2, 3, 32, 32)).forward_macs / 2)
    norms = 5 * (256 * 32 + 4 * 256 * 32 + 64 * 128 + 4 * 64 * 64 + 64 * 64)
    head = 64 * 5
    linear = 256 * 12 * 32 + 2 * 256 * 12 * 32**2 + 64 * 128 * 64 + 2 * 64 * 12 * 64**2
    attention = 2 * (256 * 2 * 16 * 32 + 64 * 2 * 16 * 64)
    assert costs[0] == norms + linear + attention + head
    assert costs[1] == (norms + linear + attention / 4) / 4 + head


@pytest.mark.parametrize("policy", ["resize", "center"])
def test_windows_that_cannot_shrink_are_refused_in_one_line(policy):
    # 13 x 13 of 26 x 26 pixels in patches of 2: windows of 4 do not divide a grid of 13, and none of 2 or 1 one of 6.
    model = timm.create_model("swin_tiny_patch4_window7_224", **{**SWIN, "img_size": 52, "window_size": 5})
    elastic = ElasticModel(model, Staging(token_policy=policy), image_size=52)
    message = (
        "SwinTransformer takes no images smaller than 52 pixels: its windows of 5 tokens cannot shrink with its grid of 26"
    )
    with pytest.raises(InvalidInput, match=re.escape(message)):
        elastic.realise(Rates(tokens=0.5))
    assert "tokens" not in elastic.axes


def test_a_size_whose_windows_would_not_be_whole_is_rounded_to_the_next_one():
    # Windows of 4 of a grid of 16: 3 of 12, but none of 14; the rate that is realised is what the plan shows.
    elastic = ElasticModel(build("swin"), Staging(token_policy="resize"), image_size=32)
    assert elastic.realise(Rates(tokens=(14 / 16) ** 2)).tokens in ((12 / 16) ** 2, 1.0)
    with pytest.raises(InvalidInput, match=r"rates\.tokens: 196: the model has 256 tokens, and the nearest .* is (144|256)"):
        elastic.realise(Rates(tokens=196))


def test_the_central_patches_are_the_ones_that_are_kept():
    model = build("swin")
    elastic = ElasticModel(model, Staging(token_policy="center"), image_size=32)
    elastic.set_rates(Rates(tokens=144))  # 12 x 12 of 16 x 16
    seen = []
    model.layers.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    model.train()(images())
    model.eval()(images())
    torch.testing.assert_close(seen[0], seen[1][:, 2:14, 2:14])


def test_a_compiled_stage_with_smaller_windows():
    model, batch = build("swin"), images()
    elastic = ElasticModel(model, Staging(token_policy="resize"), image_size=32)
    elastic.set_rates(Rates(tokens=0.25))
    torch.compiler.reset()
    without_randomness(model)
    fast = torch.compile(model.train(), dynamic=False, backend="eager", fullgraph=True)
    assert torch.allclose(fast(batch), model(batch), atol=1e-5)
