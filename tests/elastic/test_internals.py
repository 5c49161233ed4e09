"""What `explorer.elastic.internals` relies on in torch and timm: each test names the detail that a release has changed."""

import pytest
import timm
import torch
from timm.layers import DiffAttention, RotaryEmbeddingCat
from timm.models.beit import Attention as BeitAttention
from timm.models.swin_transformer_v2_cr import WindowMultiHeadAttention
from timm.optim import Adafactor, AdafactorBigVision
from torch import nn
from torch.autograd.graph import get_gradient_edge
from torch.nn.parallel import DistributedDataParallel

from explorer import Rates
from explorer.elastic import ElasticModel
from explorer.elastic.internals import (
    beit_position_bias,
    differential_lambda,
    factored_dims,
    renew_gradient_node,
    rotary_cache_switch,
    swin_v2_cr_position_bias,
)


def resized_while_a_graph_is_held(renew, dtype=torch.float32):
    """Gradient of a parameter that was halved while a loss at the old size was still held."""
    weight = nn.Parameter(torch.ones(4, dtype=dtype))
    held = weight.sum()
    held.backward()
    smaller = weight.data[:2].clone()
    weight.grad = None
    renew(weight)
    weight.data = smaller
    weight.sum().backward()
    return weight.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_renewing_the_gradient_node_lets_a_parameter_change_its_shape(dtype):
    gradient = resized_while_a_graph_is_held(renew_gradient_node, dtype)
    assert (gradient.shape, gradient.dtype) == ((2,), dtype)


def test_without_renewal_torch_refuses_the_new_shape():
    """If this fails, torch has dropped the restriction and `renew_gradient_node` can be removed."""
    with pytest.raises(RuntimeError, match="shape"):
        resized_while_a_graph_is_held(lambda weight: None)


def test_a_change_of_type_renews_the_node_and_a_change_of_data_does_not():
    weight = nn.Parameter(torch.ones(4))
    node = get_gradient_edge(weight).node
    weight.data = torch.ones(4)
    assert get_gradient_edge(weight).node is node
    renew_gradient_node(weight)
    weight.data = torch.ones(2)
    assert get_gradient_edge(weight).node is not node


@pytest.fixture
def one_process(tmp_path):
    """A process group with this process only."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="this build of torch has no gloo")
def test_distributed_data_parallel_can_be_created_again_after_a_resize(one_process):
    """A held loss keeps the nodes to which the hooks of the old wrapper were attached; the new wrapper needs new nodes."""
    options = {"img_size": 16, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 3}
    torch.manual_seed(0)
    model, plain = (timm.create_model("vit_tiny_patch16_224", **options) for _ in range(2))
    plain.load_state_dict(model.state_dict())
    elastic, plain_elastic = ElasticModel(model), ElasticModel(plain)
    images, held = torch.randn(2, 3, 16, 16), []
    for rates in (Rates(), Rates(heads=0.5, mlp=0.5), Rates()):
        elastic.set_rates(rates)
        plain_elastic.set_rates(rates)
        model.zero_grad()
        plain.zero_grad()
        held.append(DistributedDataParallel(model)(images).square().sum())
        held[-1].backward()
        plain(images).square().sum().backward()
        for (name, parameter), expected in zip(model.named_parameters(), plain.parameters(), strict=True):
            assert torch.equal(parameter.grad, expected.grad), name


def test_rotary_embeddings_have_a_switch_for_their_cache():
    rope = RotaryEmbeddingCat(16, feat_shape=[4, 4])
    module, name, value = rotary_cache_switch(rope)
    assert getattr(module, name) is True
    assert rope.get_embed([2, 2]).shape[0] == 16  # from the cache, whatever is asked for
    setattr(module, name, value)
    assert rope.get_embed([2, 2]).shape[0] == 4


def test_differential_attention_computes_its_lambda():
    attention = DiffAttention(32, num_heads=2)
    assert differential_lambda(attention).shape == ()
    assert torch.isfinite(differential_lambda(attention))


def test_beit_attention_computes_its_position_bias():
    attention = BeitAttention(32, num_heads=2, qkv_bias=True, window_size=(2, 2))
    with torch.no_grad():
        attention.relative_position_bias_table[:] = torch.arange(2.0)
    bias = beit_position_bias(attention)
    assert bias.shape == (1, 2, 5, 5)  # 2 x 2 patches and the class token
    assert (bias[:, 0] == 0).all()
    assert (bias[:, 1] == 1).all()


def test_swin_v2_cr_attention_computes_its_position_bias():
    attention = WindowMultiHeadAttention(32, num_heads=2, window_size=(2, 2))
    assert swin_v2_cr_position_bias(attention).shape == (1, 2, 4, 4)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (Adafactor, {1: "exp_avg_sq_row", 0: "exp_avg_sq_col"}),
        (AdafactorBigVision, {1: "exp_avg_sq_r", 0: "exp_avg_sq_c"}),
    ],
)
@pytest.mark.parametrize("shape", [(8, 48), (48, 64), (64, 48), (64, 48, 3, 3)])
def test_adafactor_factors_the_dimensions_that_are_told(kind, names, shape):
    """Its two states lack the dimension that they are a mean over, or keep it with size 1."""
    weight = nn.Parameter(torch.ones(shape))
    optimizer = kind([weight], lr=1e-3)
    weight.sum().backward()
    optimizer.step()
    state = optimizer.state[weight]
    dims = factored_dims(optimizer, optimizer.param_groups[0], weight.shape)
    assert (dims is None) == ("exp_avg_sq" in state) == (8 in shape)
    for place, name in names.items() if dims else ():
        averaged = dims[place]
        left = (1,) if kind is AdafactorBigVision else ()
        assert state[name].shape == (*shape[:averaged], *left, *shape[averaged + 1 :]), name
