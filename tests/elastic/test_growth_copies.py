"""Growth by copies of active heads, channels and blocks: which are copied, their optimizer states, and what is never overwritten."""

import copy

import pytest
import timm
import torch
from timm.models.vision_transformer import ResPostBlock
from timm.optim import create_optimizer_v2

from explorer import InvalidInput, Rates
from explorer.elastic import ElasticModel
from explorer.elastic.depth import active_blocks
from explorer.elastic.testing import Family, check_growth_of_depth_preserves_the_function, randomized
from explorer.errors import validated
from explorer.spec.staging import Staging
from explorer.training.staged_model import StagedModel

VIT = {"img_size": 16, "patch_size": 8, "embed_dim": 48, "depth": 4, "num_heads": 6, "num_classes": 5}
HEAD = 8  # values of a head: 48 / 6
STAGES = (
    Rates(heads=2 / 6, mlp=0.25),
    Rates(heads=4 / 6, mlp=0.5),
    Rates(),
)  # of the paper: 2, 4 and 6 heads, MLP ratio 1, 2, 4


def build(name="vit_tiny_patch16_224", **options):
    torch.manual_seed(0)
    return timm.create_model(name, **{**VIT, **options}).double()


def images(count=8):
    return torch.randn(count, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def loss(model):
    return torch.nn.functional.cross_entropy(model(images()), torch.arange(8) % 5)


def train(model, optimizer, steps=1):
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()


def grown(growth="copy", optimizer="adamw", rates=STAGES, steps=3, model=None, **staging):
    """A model that was trained at all rates but the last and then grown to these, its optimizer, and its tensors before that."""
    model = model or build()
    made = create_optimizer_v2(model, optimizer, lr=1e-2, weight_decay=0.0)
    elastic = ElasticModel(model, Staging(growth=growth, **staging))
    for stage in rates[:-1]:
        elastic.set_rates(stage, made)
        train(model, made, steps)
    before = copy.deepcopy(model.state_dict())
    elastic.set_rates(rates[-1], made)
    return model, made, before


def heads(tensor, groups=3):
    """The values of each head of a projection, (heads, groups, ...)."""
    return tensor.unflatten(0, (groups, -1, HEAD)).transpose(0, 1)


def test_new_heads_and_channels_are_copies_of_active_ones_in_turn():
    """Part 1 into part 2, then both into parts 3 and 4; of six heads, 2 and 3 are copies of 0 and 1, and so are 4 and 5 later."""
    second, _, first_stage = grown(rates=STAGES[:2])
    third, _, second_stage = grown()
    for model, before, old_heads, old_channels in ((second, first_stage, 2, 48), (third, second_stage, 4, 96)):
        for key in ("qkv.weight", "qkv.bias"):
            old = heads(before[f"blocks.1.attn.{key}"])
            new = heads(model.state_dict()[f"blocks.1.attn.{key}"])
            sources = [*range(old_heads), 0, 1]
            assert torch.equal(new, old[sources]), key
        proj = model.blocks[1].attn.proj.weight.unflatten(1, (-1, HEAD))
        assert torch.equal(proj, before["blocks.1.attn.proj.weight"].unflatten(1, (-1, HEAD))[:, sources])
        assert torch.equal(model.blocks[1].attn.proj.bias, before["blocks.1.attn.proj.bias"])
        fc1, fc2 = model.blocks[1].mlp.fc1, model.blocks[1].mlp.fc2
        assert torch.equal(fc1.weight, before["blocks.1.mlp.fc1.weight"].repeat(2, 1))
        assert torch.equal(fc1.bias, before["blocks.1.mlp.fc1.bias"].repeat(2))
        assert torch.equal(fc2.weight, before["blocks.1.mlp.fc2.weight"].repeat(1, 2))
        assert fc1.out_features == 2 * old_channels


def test_normalized_copies_share_the_output_column_of_their_source():
    model, _, before = grown("copy_normalized")  # from four heads to six: 0 and 1 have a copy each, 2 and 3 have none
    old = before["blocks.1.attn.proj.weight"].unflatten(1, (-1, HEAD))
    new = model.blocks[1].attn.proj.weight.unflatten(1, (-1, HEAD))
    for head, (source, copies) in enumerate([(0, 2), (1, 2), (2, 1), (3, 1), (0, 2), (1, 2)]):
        assert torch.equal(new[:, head], old[:, source] / copies), head
    assert torch.equal(model.blocks[1].mlp.fc2.weight, before["blocks.1.mlp.fc2.weight"].repeat(1, 2) / 2)
    assert torch.equal(model.blocks[1].mlp.fc1.weight, before["blocks.1.mlp.fc1.weight"].repeat(2, 1))


def test_importance_orders_copies_from_the_most_important_one():
    """The channels with the largest weights are active first; new ones are copies of these in the order of importance."""
    model = build()
    with torch.no_grad():
        for channel, scale in ((7, 9.0), (3, 8.0), (11, 7.0), (0, 6.0)):
            model.blocks[0].mlp.fc1.weight[channel] *= scale
    elastic = ElasticModel(model, Staging(growth="copy", subset="importance"))
    elastic.set_rates(Rates(mlp=2 / 192))
    active = model.blocks[0].mlp.fc1.weight.detach().clone()  # 3 and 7, in ascending order
    elastic.set_rates(Rates(mlp=4 / 192))
    assert torch.equal(model.blocks[0].mlp.fc1.weight, active[[0, 0, 1, 1]])  # 0 is a copy of 3, and 11 of 7


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lion", "adan", "madgrad", "rmsproptf"])
def test_copies_have_a_fresh_optimizer_state_and_part_from_their_sources(optimizer):
    model = build()
    made = create_optimizer_v2(model, optimizer, lr=1e-2, weight_decay=0.0)
    elastic = ElasticModel(model, Staging(growth="copy"))
    elastic.set_rates(Rates(mlp=0.5), made)
    train(model, made, steps=3)
    weight = model.blocks[0].mlp.fc1.weight  # 96 of 192 channels
    trained = {name: value.clone() for name, value in made.state[weight].items() if getattr(value, "ndim", 0) == 2}
    elastic.set_rates(Rates(), made)
    assert trained
    for name, value in trained.items():
        state = made.state[weight][name]
        assert torch.equal(state[:96], value), name
        starts_from = {"x0": weight[96:], "square_avg": torch.ones(())}.get(name, torch.zeros(()))
        assert (state[96:] == starts_from).all(), name
    assert torch.equal(weight[:96], weight[96:])
    train(model, made)
    assert not torch.isclose(weight[:96], weight[96:], rtol=1e-6, atol=0).all()


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("rates", [STAGES[0], Rates(depth=0.5), Rates(heads=2 / 6, mlp=0.25, depth=0.5)])
def test_the_loss_of_model_and_average_does_not_jump_with_normalized_copies(rates, gradients):
    """Whether or not the parameters of the average have gradients, which nobody needs."""
    model = build()
    average = copy.deepcopy(model).requires_grad_(gradients)
    made = create_optimizer_v2(model, "adamw", lr=1e-2)
    staged = StagedModel(model, made, average, staging=Staging(growth="copy_normalized"))
    staged.set_rates(rates)
    for _ in range(3):
        train(model, made)
        with torch.no_grad():
            for ours, theirs in zip(average.parameters(), model.parameters(), strict=True):
                ours.lerp_(theirs, 0.3)
    small = [loss(each).item() for each in (model, average)]
    staged.set_rates(Rates())
    assert [loss(each).item() for each in (model, average)] == pytest.approx(small, abs=1e-12)
    assert model.blocks[0].mlp.fc1.weight.shape == average.blocks[0].mlp.fc1.weight.shape == (192, 48)


def test_new_blocks_are_copies_of_active_ones_in_order():
    for growth in ("copy", "copy_normalized"):
        model, _, before = grown(growth, rates=(Rates(depth=0.5), Rates()))
        assert len(model.blocks) == 4
        for new, source in ((2, 0), (3, 1)):
            for key, value in model.blocks[new].state_dict().items():
                expected = before[f"blocks.{source}.{key}"]
                output = key.startswith(("attn.proj", "mlp.fc2"))
                assert torch.equal(value, torch.zeros_like(value) if output and growth == "copy_normalized" else expected), key
                assert torch.equal(model.blocks[source].state_dict()[key], expected), key


def test_a_block_is_copied_from_one_whose_tensors_have_its_shapes():
    """SAM: block 0 and 2 attend within windows, 1 and 3 globally, with larger tables of positions."""
    options = {"global_attn_indexes": (1, 3), "window_size": 2, "img_size": 32, "use_rel_pos": True, "use_abs_pos": True}
    model = build("samvit_base_patch16_224", **{**options, "depth": 4})
    elastic = ElasticModel(model, Staging(growth="copy"))
    elastic.set_rates(Rates(depth=0.75))
    elastic.set_rates(Rates())
    for key, value in model.blocks[3].state_dict().items():
        assert torch.equal(value, model.blocks[1].state_dict()[key]), key


def test_pretrained_weights_are_never_overwritten():
    pretrained = build()
    with torch.no_grad():
        pretrained.norm.weight += torch.linspace(0, 0.1, 48)  # as any training leaves it
    for growth in ("copy", "copy_normalized", "zero"):
        ours, _, _ = grown(growth, model=copy.deepcopy(pretrained), rates=(Rates(heads=2 / 6, mlp=0.25, depth=0.5), Rates()))
        theirs, _, _ = grown(
            "initial", model=copy.deepcopy(pretrained), rates=(Rates(heads=2 / 6, mlp=0.25, depth=0.5), Rates())
        )
        assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


@pytest.mark.parametrize("growth", ["copy", "copy_normalized", "zero"])
@pytest.mark.parametrize(
    "parts", [("blocks.0", "blocks.3"), ("blocks.0.attn", "blocks.3.mlp"), ("blocks.0.mlp.fc1", "blocks.3.norm1")]
)
def test_frozen_weights_are_never_overwritten_in_model_and_average(growth, parts):
    """A block that is active, with fewer heads and channels, and one that becomes active."""
    model = build()
    frozen = [name for name, _ in model.named_parameters() if name.startswith(parts)]
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)
    average = copy.deepcopy(model).requires_grad_(True)
    made = create_optimizer_v2(model, "adamw", lr=1e-2)
    staged = StagedModel(model, made, average, staging=Staging(growth=growth))
    staged.set_rates(Rates(heads=2 / 6, mlp=0.25, depth=0.5))
    train(model, made)
    staged.set_rates(Rates())
    initial = build().state_dict()
    for each in (model, average):
        assert all(torch.equal(each.get_parameter(name), initial[name]) for name in frozen)
    for name in ("blocks.2.mlp.fc2.weight", "blocks.1.attn.proj.weight"):  # others grow as usual
        assert not torch.equal(model.get_parameter(name), initial[name])


POST_NORM = {
    "vit": ("vit_tiny_patch16_224", {"block_fn": ResPostBlock}),
    "relpos": ("vit_relpos_small_patch16_rpn_224", {"init_values": None}),
    "eva": ("eva02_tiny_patch14_224", {"use_post_norm": True}),
    "gemma4": ("gemma4_vit_167m", {"head_dim": HEAD, "intermediate_size": 96, "position_embedding_size": 16}),
}
"""Models whose blocks normalize the outputs of attention and MLP."""


@pytest.mark.parametrize("label", POST_NORM)
def test_new_blocks_with_norms_after_attention_and_mlp_add_nothing_whatever_the_norms_add(label):
    name, options = POST_NORM[label]
    template = randomized(build(name, **options))
    check_growth_of_depth_preserves_the_function(Family(build=lambda: copy.deepcopy(template), image_shape=(2, 3, 16, 16)))


@pytest.mark.parametrize("growth", ["zero", "copy_normalized"])
@pytest.mark.parametrize("label", POST_NORM)
def test_the_first_gradients_of_such_blocks_are_those_of_others_and_they_learn(label, growth):
    """A norm of zeros would multiply them by 1 / sqrt(eps), a thousand."""
    name, options = POST_NORM[label]
    model, optimizer, _ = grown(growth, model=build(name, **options), rates=(Rates(depth=0.5), Rates()))
    loss(model).backward()
    old, _, _, new = active_blocks(model)
    norms = [torch.stack([p.grad.norm() for p in block.parameters()]).norm() for block in (old, new)]
    assert 0 < norms[1] < 10 * norms[0]
    before = copy.deepcopy(new.mlp)
    train(model, optimizer, steps=2)
    assert not any(torch.equal(ours, theirs) for ours, theirs in zip(new.mlp.parameters(), before.parameters(), strict=True))


def test_what_was_trained_before_it_became_inactive_is_never_overwritten():
    model = build()
    made = create_optimizer_v2(model, "adamw", lr=1e-2)
    elastic = ElasticModel(model, Staging(growth="copy"))
    elastic.set_rates(Rates(mlp=0.75), made)
    train(model, made)
    before = model.blocks[0].mlp.fc1.weight.detach().clone()  # 144 of 192 channels
    elastic.set_rates(Rates(mlp=0.25), made)
    elastic.set_rates(Rates(), made)
    weight = model.blocks[0].mlp.fc1.weight
    assert torch.equal(weight[:144], before)
    assert torch.equal(weight[144:], before[:48])  # never trained: copies of the 48 that were active


def test_a_temporary_change_without_growth_copies_nothing():
    elastic = ElasticModel(build(), Staging(growth="copy"))
    elastic.set_rates(STAGES[0])
    values = {name: value.clone() for name, value in elastic.model.state_dict().items()}
    elastic.set_rates(Rates(), grow=False)
    assert all(
        torch.equal(value, full)
        for value, full in zip(elastic.model.state_dict().values(), build().state_dict().values(), strict=True)
    )
    elastic.set_rates(STAGES[0], grow=False)
    assert all(torch.equal(value, values[name]) for name, value in elastic.model.state_dict().items())


@pytest.mark.parametrize(
    ("staging", "message"),
    [
        ({"growth": "copy", "subset": "random"}, "growth: copy needs a subset that only grows: leading or importance"),
        ({"growth": "copy_normalized", "subset": "random"}, "growth: copy_normalized needs a subset that only grows"),
        ({"growth": "copy_normalized", "blocks": "even"}, "growth: copy_normalized needs blocks that stay active: prefix"),
    ],
)
def test_subsets_that_change_are_refused(staging, message):
    with pytest.raises(InvalidInput, match=message):
        validated(Staging, staging, "staging")


@pytest.mark.parametrize(
    ("name", "growth", "rates", "message"),
    [
        ("xcit_nano_12_p16_224", "copy_normalized", Rates(depth=0.5), r"rates.depth.*copy_normalized: blocks of Xcit"),
        ("gcvit_xxtiny", "copy", Rates(heads=0.5), r"rates.heads.*copy for GlobalContextVit: its global queries are computed"),
    ],
)
def test_models_that_cannot_be_grown_by_copies_are_refused(name, growth, rates, message):
    with torch.device("meta"):
        model = timm.create_model(name)
    with pytest.raises(InvalidInput, match=message):
        ElasticModel(model, Staging(growth=growth)).set_rates(rates)


@pytest.mark.parametrize(
    ("name", "staging", "expected"),
    [
        ("vit_tiny_patch16_224", {}, "copy_normalized"),
        ("vit_tiny_patch16_224", {"subset": "importance"}, "copy_normalized"),
        ("vit_tiny_patch16_224", {"subset": "random"}, "initial"),
        ("vit_tiny_patch16_224", {"blocks": "even"}, "initial"),
        ("vit_tiny_patch16_224", {"growth": "zero"}, "zero"),
        ("xcit_nano_12_p16_224", {}, "initial"),
        ("gcvit_xxtiny", {}, "initial"),
    ],
)
def test_growth_is_by_normalized_copies_where_it_can_be_done(name, staging, expected):
    with torch.device("meta"):
        assert ElasticModel(timm.create_model(name), Staging(**staging)).growth == expected


def trained_by_sgd(growth, momentum=0.0):
    """A model that was grown with SGD, and its average."""
    model = build()
    average = copy.deepcopy(model)
    staged = StagedModel(
        model, torch.optim.SGD(model.parameters(), lr=1e-2, momentum=momentum), average, staging=Staging(growth=growth)
    )
    staged.set_rates(STAGES[0])
    train(model, staged.optimizer)
    average.load_state_dict(model.state_dict())
    staged.set_rates(Rates())
    return model, average


def test_without_an_optimizer_state_nothing_is_copied_because_copies_would_stay_equal():
    for automatic, initial in zip(trained_by_sgd("auto"), trained_by_sgd("initial"), strict=True):
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(automatic.parameters(), initial.parameters(), strict=True))
    with pytest.warns(UserWarning, match="copy: SGD has no state, so copies stay equal to their sources; use initial"):
        trained_by_sgd("copy")
    for automatic, copied in zip(trained_by_sgd("auto", 0.9), trained_by_sgd("copy_normalized", 0.9), strict=True):
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(automatic.parameters(), copied.parameters(), strict=True))


@pytest.mark.parametrize("growth", ["copy", "copy_normalized"])
def test_when_more_than_doubled_no_two_heads_or_channels_stay_equal(growth):
    """From one head to six: head 1 is a copy of head 0, the others start from the initialization, and all part."""
    untouched = build()
    model, optimizer, before = grown(growth, rates=(Rates(heads=1 / 6, mlp=0.25), Rates()))
    new = heads(model.blocks[0].attn.qkv.weight)
    assert torch.equal(new[1], new[0])
    assert torch.equal(new[2:], heads(untouched.blocks[0].attn.qkv.weight)[2:])
    proj = model.blocks[0].attn.proj.weight.unflatten(1, (-1, HEAD))
    normalized = growth == "copy_normalized"
    assert torch.equal(proj[:, 0], before["blocks.0.attn.proj.weight"] / (2 if normalized else 1))
    assert (proj[:, 2:] == 0).all() == normalized
    train(model, optimizer, 3)
    projections = heads(model.blocks[0].attn.qkv.weight).flatten(1)
    channels = model.blocks[0].mlp.fc1.weight
    for each in (projections, channels):
        assert len(each.unique(dim=0)) == len(each)
